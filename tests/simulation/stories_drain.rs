//! Clients are handed away before a planned stop: evenly, with where to go instead, and without a false alarm.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{ProtocolVersion, QoS, ReasonCode};
use willowmq::config::{Config, OnShutdown, RestartGrace};
use willowmq::shard::ConnectRefusal;

const SEED: u64 = 0x5EED;
const SHARDS: usize = 2;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sim_with(change: impl FnOnce(&mut Config)) -> Simulation {
    let mut config = Config::default();
    change(&mut config);
    Simulation::with_config(SEED, SHARDS, config)
}

fn sim() -> Simulation {
    sim_with(|_| {})
}

fn begin(sim: &mut Simulation, over: Duration) {
    let now = sim.now;
    sim.shards.iter_mut().for_each(|shard| shard.begin_drain(now, over));
    sim.settle();
}

fn cancel(sim: &mut Simulation) {
    let now = sim.now;
    sim.shards.iter_mut().for_each(|shard| shard.cancel_drain(now));
    sim.settle();
}

fn stop(sim: &mut Simulation) {
    let now = sim.now;
    sim.shards.iter_mut().for_each(|shard| shard.begin_shutdown(now));
    sim.settle();
}

fn is_over(sim: &Simulation) -> bool {
    sim.shards.iter().all(|shard| shard.drain_progress().is_some_and(|progress| progress.is_over))
}

fn connected(sim: &Simulation, clients: &[ClientHandle]) -> usize {
    clients.iter().filter(|client| sim.is_connected(**client)).count()
}

/// What a client was told: the Reason Code of DISCONNECT, and where to go.
fn told(sim: &Simulation, client: ClientHandle) -> (Option<ReasonCode>, Option<&str>) {
    let client = &sim.clients[client.0];
    (client.disconnected_with, client.server_reference.as_deref())
}

fn reference_of(sim: &Simulation, name: &str) -> Option<String> {
    sim.clients.iter().find(|client| client.name == name).and_then(|client| client.server_reference.clone())
}

fn fleet(sim: &mut Simulation, size: usize) -> Vec<ClientHandle> {
    let will = |number: usize| Will::new(&format!("status/{number}"), "off");
    (0..size)
        .map(|number| sim.connect(&format!("lamp {number}")).session_expiry(3600).will(will(number)).accepted())
        .collect()
}

/// A watcher of all wills, whose Session is kept; it is connected only to look.
fn watcher(sim: &mut Simulation) -> ClientHandle {
    let watcher = sim.connect("watcher").session_expiry(u32::MAX).accepted();
    sim.subscribe(watcher, "status/#", QoS::AtLeastOnce);
    sim.disconnect(watcher, ReasonCode::Success);
    watcher
}

/// What waits for the watcher.
fn seen(sim: &mut Simulation) -> Vec<String> {
    let watcher = sim.connect("watcher").clean_start(false).session_expiry(u32::MAX).accepted();
    sim.settle();
    let seen = sim.payloads(watcher);
    sim.disconnect(watcher, ReasonCode::Success);
    seen
}

// Handing away.

#[test]
fn clients_are_handed_away_evenly_and_the_drain_is_over_with_the_last() {
    let mut sim = sim();
    let clients = fleet(&mut sim, 400);
    begin(&mut sim, secs(100));
    for passed in 1..10 {
        sim.advance(secs(10));
        let left = connected(&sim, &clients);
        let expected = 400 - 40 * passed;
        assert!(left.abs_diff(expected) <= SHARDS, "{left} instead of {expected}");
        assert!(!is_over(&sim));
        let told = sim.shards.iter().filter_map(|shard| shard.drain_progress());
        let (total, told) = told.fold((0, 0), |sum, next| (sum.0 + next.total, sum.1 + next.left));
        assert_eq!((total, told), (400, left));
    }
    sim.advance(secs(10));
    assert_eq!(connected(&sim, &clients), 0);
    assert!(is_over(&sim));
    assert_eq!(sim.count(|stats| stats.handed_away), 400);
}

#[test]
fn the_order_follows_from_the_seed_and_not_from_who_came_first() {
    let order = |seed: u64| {
        let mut sim = Simulation::new(seed, 1);
        let clients = fleet(&mut sim, 50);
        begin(&mut sim, secs(50));
        let mut order = Vec::new();
        while !is_over(&sim) {
            sim.advance(secs(1));
            let gone = (0..50).filter(|at| !sim.is_connected(clients[*at]));
            let new: Vec<_> = gone.filter(|at| !order.contains(at)).collect();
            order.extend(new);
        }
        order
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    assert_ne!(order(1), (0..50).collect::<Vec<_>>());
}

#[test]
fn a_drain_over_no_time_still_bounds_what_a_tick_does() {
    let mut sim = sim();
    let clients = fleet(&mut sim, 1200);
    begin(&mut sim, Duration::ZERO);
    let left = connected(&sim, &clients);
    assert!((1..1200).contains(&left), "{left}");
    sim.advance(secs(1));
    assert_eq!(connected(&sim, &clients), 0);
    assert!(is_over(&sim));
}

#[test]
fn a_broker_without_clients_is_drained_at_once() {
    let mut sim = sim();
    begin(&mut sim, secs(3600));
    assert!(is_over(&sim));
}

#[test]
fn another_order_changes_the_time_alone() {
    let mut sim = sim();
    let clients = fleet(&mut sim, 100);
    begin(&mut sim, secs(1000));
    sim.advance(secs(500));
    assert!(connected(&sim, &clients).abs_diff(50) <= SHARDS);
    begin(&mut sim, secs(10));
    sim.advance(secs(5));
    assert!(connected(&sim, &clients).abs_diff(25) <= SHARDS);
    sim.advance(secs(5));
    assert!(is_over(&sim));
    let total: usize =
        sim.shards.iter().filter_map(|shard| shard.drain_progress()).map(|progress| progress.total).sum();
    assert_eq!(total, 100);
}

// What clients are told. (§4.11, Server redirection)

#[test]
fn without_a_server_reference_clients_hear_that_the_server_shuts_down() {
    let mut sim = sim();
    let (new, old) = (sim.connect("new").accepted(), sim.connect("old").version(ProtocolVersion::V3_1_1).accepted());
    begin(&mut sim, Duration::ZERO);
    assert_eq!(told(&sim, new), (Some(ReasonCode::ServerShuttingDown), None));
    assert_eq!(told(&sim, old), (None, None));
    assert_eq!(sim.connect("new").refused(), ReasonCode::ServerUnavailable);
    assert_eq!(sim.connect("old").version(ProtocolVersion::V3_1_1).refused(), ReasonCode::ServerUnavailable);
    assert_eq!(sim.count(|stats| stats.connects_refused[ConnectRefusal::Draining]), 2);
    assert!(sim.events.is_empty(), "a fleet that returns must not fill the log: {:?}", sim.events);
}

#[test]
fn mqtt_3_14_2_1_clients_of_5_0_are_sent_to_the_other_server() {
    for (permanent, reason) in [(false, ReasonCode::UseAnotherServer), (true, ReasonCode::ServerMoved)] {
        let mut sim = sim_with(|config| {
            config.drain.server_reference = Some("other.example.org:1883".to_owned());
            config.drain.permanent = permanent;
        });
        let new = sim.connect("new").accepted();
        begin(&mut sim, Duration::ZERO);
        assert_eq!(told(&sim, new), (Some(reason), Some("other.example.org:1883")));
        assert_eq!(sim.connect("new").refused(), reason);
        assert_eq!(reference_of(&sim, "new").as_deref(), Some("other.example.org:1883"));
        assert_eq!(sim.connect("old").version(ProtocolVersion::V3_1_1).refused(), ReasonCode::ServerUnavailable);
    }
}

#[test]
fn mqtt_3_1_2_24_a_server_reference_that_a_client_cannot_take_is_left_out() {
    let mut sim = sim_with(|config| config.drain.server_reference = Some("other.example.org:1883".to_owned()));
    let small = sim.connect("small").packet_bytes_max(20).accepted();
    begin(&mut sim, Duration::ZERO);
    assert_eq!(told(&sim, small), (Some(ReasonCode::UseAnotherServer), None));
    assert_eq!(sim.connect("small").packet_bytes_max(20).refused(), ReasonCode::UseAnotherServer);
    assert_eq!(reference_of(&sim, "small"), None);
}

#[test]
fn mqtt_4_8_2_what_is_unacknowledged_or_queued_stays_in_the_session() {
    let mut sim = sim();
    let reader = sim.connect("reader").session_expiry(3600).receive_maximum(1).accepted();
    sim.subscribe(reader, "t", QoS::ExactlyOnce);
    sim.clients[reader.0].withholds_acks = true;
    let publisher = sim.connect("publisher").accepted();
    for text in ["in flight", "queued"] {
        sim.publish(publisher, "t", text, QoS::ExactlyOnce, false);
    }
    begin(&mut sim, Duration::ZERO);
    cancel(&mut sim);
    sim.payloads(reader);
    sim.clients[reader.0].withholds_acks = false;
    sim.clients[reader.0].unreleased.clear();
    let reader = sim.connect("reader").clean_start(false).session_expiry(3600).accepted();
    sim.settle();
    assert_eq!(sim.payloads(reader), ["in flight", "queued"]);
}

// Wills.

#[test]
fn no_will_is_published_while_clients_are_handed_away_and_refused() {
    for on_shutdown in [OnShutdown::Hold, OnShutdown::Publish] {
        let mut sim = sim_with(|config| config.wills.on_shutdown = on_shutdown);
        watcher(&mut sim);
        fleet(&mut sim, 20);
        begin(&mut sim, secs(100));
        sim.advance(secs(50));
        for number in 0..20 {
            sim.connect(&format!("lamp {number}")).clean_start(false).refused();
        }
        sim.advance(secs(1000));
        assert_eq!(sim.count(|stats| stats.wills.published.total()), 0, "{on_shutdown:?}");
        assert_eq!(sim.count(|stats| stats.wills.armed_now), 20);
    }
}

#[test]
fn after_a_cancel_whoever_returns_within_the_grace_raises_no_false_alarm() {
    let mut sim = sim_with(|config| config.wills.restart_grace = RestartGrace::After(secs(30)));
    watcher(&mut sim);
    let clients = fleet(&mut sim, 20);
    begin(&mut sim, secs(100));
    sim.advance(secs(50));
    cancel(&mut sim);
    let gone: Vec<_> = (0..20).filter(|at| !sim.is_connected(clients[*at])).collect();
    assert!((8..=12).contains(&gone.len()), "those that are gone are gone, the others stay: {gone:?}");
    let (back, away) = gone.split_at(gone.len() / 2);
    sim.advance(secs(29));
    for number in back {
        sim.connect(&format!("lamp {number}")).clean_start(false).session_expiry(3600).accepted();
    }
    assert_eq!(seen(&mut sim), [""; 0]);
    sim.advance(secs(2));
    assert_eq!(seen(&mut sim).len(), away.len(), "whoever stayed away is told of once the grace has passed");
    sim.advance(secs(1000));
    assert_eq!(seen(&mut sim), [""; 0]);
    assert_eq!(sim.count(|stats| stats.wills.pending_now), 0);
    assert_eq!(sim.count(|stats| stats.wills.armed_now), (20 - gone.len()) as u64);
    assert_eq!(sim.count(|stats| stats.wills.discarded_by_return), back.len() as u64);
}

/// More wills than are settled in one tick.
#[test]
fn whoever_returns_at_the_very_moment_of_the_cancel_raises_no_false_alarm() {
    let mut sim = sim();
    watcher(&mut sim);
    fleet(&mut sim, 1200);
    begin(&mut sim, Duration::ZERO);
    sim.advance(secs(1));
    let now = sim.now;
    sim.shards.iter_mut().for_each(|shard| shard.cancel_drain(now));
    for number in 0..1200 {
        sim.connect(&format!("lamp {number}")).clean_start(false).session_expiry(3600).accepted();
    }
    sim.advance(secs(1000));
    assert_eq!(seen(&mut sim), [""; 0]);
    assert_eq!(sim.count(|stats| stats.wills.armed_now + stats.wills.pending_now), 0, "they came back without a will");
}

#[test]
fn after_a_cancel_a_will_with_a_delay_counts_from_the_cancel() {
    let mut sim = sim_with(|config| config.wills.restart_grace = RestartGrace::After(secs(5)));
    watcher(&mut sim);
    sim.connect("lamp").session_expiry(3600).will(Will::new("status/lamp", "off").delay(60)).accepted();
    begin(&mut sim, Duration::ZERO);
    sim.advance(secs(500));
    cancel(&mut sim);
    sim.advance(secs(59));
    assert_eq!(seen(&mut sim), [""; 0]);
    sim.advance(secs(2));
    assert_eq!(seen(&mut sim), ["off"]);
}

/// It has expired while its client was refused, or would within the grace.
#[test]
fn after_a_cancel_the_end_of_a_session_waits_for_the_grace() {
    for expiry in [0, 10, 40] {
        for comes_back in [false, true] {
            let mut sim = sim_with(|config| config.wills.restart_grace = RestartGrace::After(secs(30)));
            watcher(&mut sim);
            sim.connect("lamp").session_expiry(expiry).will(Will::new("status/lamp", "off")).accepted();
            begin(&mut sim, Duration::ZERO);
            sim.advance(secs(20));
            assert_eq!(sim.count(|stats| stats.wills.armed_now), 1);
            cancel(&mut sim);
            sim.advance(secs(29));
            assert_eq!(seen(&mut sim), [""; 0], "{expiry}");
            if comes_back {
                sim.connect("lamp").clean_start(false).accepted();
            }
            sim.advance(secs(2));
            assert_eq!(seen(&mut sim).len(), usize::from(!comes_back), "{expiry}");
        }
    }
}

#[test]
fn a_client_that_is_refused_is_alive_and_its_pending_will_waits() {
    let mut sim = sim_with(|config| config.wills.restart_grace = RestartGrace::After(secs(30)));
    watcher(&mut sim);
    let will = |name: &str| Will::new(&format!("status/{name}"), name).delay(60);
    let lost = ["refused", "silent"].map(|name| sim.connect(name).session_expiry(3600).will(will(name)).accepted());
    lost.into_iter().for_each(|client| sim.cut(client));
    begin(&mut sim, secs(500));
    sim.connect("refused").clean_start(false).session_expiry(3600).refused();
    sim.advance(secs(100));
    cancel(&mut sim);
    assert_eq!(seen(&mut sim), ["silent"], "nothing is known of the other one but that it is alive");
    sim.connect("refused").clean_start(false).session_expiry(3600).accepted();
    sim.advance(secs(1000));
    assert_eq!(seen(&mut sim), [""; 0]);
}

/// The broker has not seen its connection break: it would wait for Keep Alive.
#[test]
fn a_client_that_is_refused_while_its_older_connection_is_open_raises_no_false_alarm() {
    for clean_start in [false, true] {
        let mut sim = sim();
        watcher(&mut sim);
        let will = Will::new("status/lamp", "off");
        let lamp = sim.connect("lamp").session_expiry(3600).keep_alive(10).will(will.clone()).accepted();
        let other = sim.connect("other").session_expiry(3600).accepted();
        begin(&mut sim, secs(1000));
        assert!(sim.is_connected(lamp) && sim.is_connected(other), "the seed has it so");
        sim.connect("lamp").clean_start(clean_start).session_expiry(3600).refused();
        assert_eq!(sim.count(|stats| stats.handed_away), 1);
        sim.advance(secs(100));
        assert_eq!(sim.count(|stats| stats.wills.published.total()), 0);
        assert_eq!(sim.count(|stats| stats.wills.armed_now), 1);
        sim.advance(secs(1000));
        assert!(is_over(&sim));
        cancel(&mut sim);
        sim.connect("lamp").clean_start(false).session_expiry(3600).accepted();
        sim.advance(secs(1000));
        assert_eq!(seen(&mut sim), [""; 0]);
    }
}

#[test]
fn a_stop_during_a_drain_is_like_any_other() {
    for on_shutdown in [OnShutdown::Hold, OnShutdown::Publish] {
        let mut sim = sim_with(|config| config.wills.on_shutdown = on_shutdown);
        watcher(&mut sim);
        let clients = fleet(&mut sim, 20);
        begin(&mut sim, secs(100));
        sim.advance(secs(50));
        stop(&mut sim);
        assert_eq!(connected(&sim, &clients), 0);
        let published = if on_shutdown == OnShutdown::Publish { 20 } else { 0 };
        assert_eq!(sim.count(|stats| stats.wills.published.total()), published);
    }
}
