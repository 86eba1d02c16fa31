//! Settings that change while clients are there.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{QoS, ReasonCode};
use willowmq::config::{ClientLimits, Config, Listener};
use willowmq::shard::DropReason;

const SEED: u64 = 0x5E77;

fn with(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

fn disconnected_with(sim: &Simulation, client: ClientHandle) -> Option<ReasonCode> {
    sim.clients[client.0].disconnected_with
}

#[test]
fn armed_will_is_stamped_as_the_settings_of_the_moment_say() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("watcher", "#");
    let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off")).accepted();
    sim.set_config(with(|config| config.wills.stamp = vec!["status/#".into()]));
    sim.cut(lamp);
    let received = sim.received(watcher);
    let names: Vec<_> = received[0].user_properties.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"willow-cause"), "{names:?}");
    sim.set_config(with(|config| config.wills.allow.topics = vec!["other/#".into()]));
    assert_eq!(sim.connect("lamp").will(Will::new("status/lamp", "off")).refused(), ReasonCode::NotAuthorized);
}

#[test]
fn will_that_is_pending_keeps_its_delay_when_a_shorter_one_is_the_longest() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("watcher", "#");
    let will = || Will::new("status", "off").delay(60);
    let pending = sim.connect("pending").session_expiry(100).will(will()).accepted();
    sim.cut(pending);
    sim.set_config(with(|config| config.wills.max_delay = Some(Duration::from_secs(5))));
    sim.advance(Duration::from_secs(59));
    assert_eq!(sim.payloads(watcher), [""; 0], "never early");
    sim.advance(Duration::from_secs(2));
    assert_eq!(sim.payloads(watcher), ["off"]);
    let later = sim.connect("later").session_expiry(100).will(will()).accepted();
    sim.cut(later);
    sim.advance(Duration::from_secs(6));
    assert_eq!(sim.payloads(watcher), ["off"]);
}

#[test]
fn what_waits_in_a_queue_stays_when_it_may_hold_less() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let client = sim.connect("c").session_expiry(100).accepted();
    sim.subscribe(client, "t", QoS::AtLeastOnce);
    sim.cut(client);
    let publish = |sim: &mut Simulation, count: u32| {
        (0..count).for_each(|_| sim.publish(publisher, "t", "x", QoS::AtLeastOnce, false));
    };
    publish(&mut sim, 5);
    sim.set_config(with(|config| config.sessions.queue_messages_max = 3));
    publish(&mut sim, 2);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::QueueFull]), 2);
    sim.set_config(with(|config| config.sessions.queue_messages_max = 6));
    publish(&mut sim, 2);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::QueueFull]), 3);
    let client = sim.connect("c").clean_start(false).session_expiry(100).accepted();
    assert_eq!(sim.received(client).len(), 6);
}

#[test]
fn mqtt_3_2_2_14_what_connack_allowed_stays_allowed_on_that_connection() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("watcher", "#");
    let before = sim.connect("before").accepted();
    sim.set_config(with(|config| {
        config.features.retain = false;
        config.limits.maximum_qos = 0;
        config.limits.packet_bytes_max = 200;
    }));
    sim.publish(before, "t", &"x".repeat(1000), QoS::ExactlyOnce, true);
    assert_eq!(sim.received(watcher).len(), 1);
    assert!(sim.is_connected(before));
    for (name, payload, qos, retain, reason) in [
        ("a", 1, QoS::AtMostOnce, true, ReasonCode::RetainNotSupported),
        ("b", 1, QoS::AtLeastOnce, false, ReasonCode::QosNotSupported),
        ("c", 1000, QoS::AtMostOnce, false, ReasonCode::PacketTooLarge),
    ] {
        let after = sim.connect(name).accepted();
        sim.publish_only(after, "t", &"x".repeat(payload), qos, retain, None);
        sim.settle();
        assert_eq!(disconnected_with(&sim, after), Some(reason));
    }
    // On its next connection it is told the same as everybody.
    sim.cut(before);
    let before = sim.connect("before").accepted();
    sim.publish_only(before, "t", "x", QoS::AtMostOnce, true, None);
    sim.settle();
    assert_eq!(disconnected_with(&sim, before), Some(ReasonCode::RetainNotSupported));
}

#[test]
fn a_rate_holds_for_connections_that_are_open_and_its_end_frees_who_waits_for_it() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("w", "t");
    let a = sim.connect("a").accepted();
    let publish = |sim: &mut Simulation| {
        for index in 0..20 {
            sim.publish_only(a, "t", &index.to_string(), QoS::AtLeastOnce, false, None);
        }
        sim.settle();
    };
    publish(&mut sim);
    assert_eq!(sim.received(watcher).len(), 20);
    sim.set_config(with(|config| config.limits.publish_rate_max = Some(5)));
    publish(&mut sim);
    assert_eq!(sim.received(watcher).len(), 5);
    sim.set_config(Config::default());
    sim.advance(Duration::from_secs(1));
    assert_eq!(sim.received(watcher).len(), 15);
    assert_eq!(sim.clients[a.0].acknowledged.len(), 40);
}

#[test]
fn clients_of_a_new_listener_have_its_bounds() {
    let mut sim = Simulation::new(SEED, 1);
    let limits = ClientLimits { receive_maximum: Some(7), ..ClientLimits::default() };
    sim.set_config(with(|config| config.listeners.push(Listener { limits, ..Listener::default() })));
    let [of_new, of_old] = [1, 0].map(|listener| sim.connect(&format!("{listener}")).listener(listener).accepted());
    let told = |sim: &Simulation, client: ClientHandle| sim.clients[client.0].told.receive_maximum;
    assert_eq!((told(&sim, of_new), told(&sim, of_old)), (Some(7), Some(1024)));
}

/// Whatever changes in between, nobody loses a message that was accepted, or gets it twice or out of order.
#[test]
fn settings_that_change_all_the_time_lose_no_message() {
    let mut sim = Simulation::new(SEED, 3);
    let watchers: Vec<_> = (0..6)
        .map(|index| {
            let watcher = sim.connect(&format!("w{index}")).session_expiry(1000).accepted();
            sim.subscribe(watcher, "load/#", QoS::ExactlyOnce);
            watcher
        })
        .collect();
    let publishers: Vec<_> = (0..4).map(|index| sim.connect(&format!("p{index}")).accepted()).collect();
    for round in 0..40 {
        for (index, &publisher) in publishers.iter().enumerate() {
            sim.publish_only(publisher, &format!("load/{index}"), &round.to_string(), QoS::ExactlyOnce, false, None);
        }
        let draw = |sim: &mut Simulation, choices: &[u64]| choices[sim.random.below(choices.len())];
        let config = with(|config| {
            config.limits.output_bytes_max = draw(&mut sim, &[4096, 1 << 20]) as usize;
            config.limits.inflight_max = draw(&mut sim, &[1, 1024]) as u16;
            config.sessions.queue_memory_bytes_max = draw(&mut sim, &[0, 1 << 18]) as usize;
            config.limits.publish_rate_max = Some(draw(&mut sim, &[10, 1000]) as u32);
            config.limits.receive_maximum = draw(&mut sim, &[1, 1024]) as u16;
        });
        sim.set_config_only(config);
        let shard = sim.random.below(3);
        sim.turn(shard);
    }
    sim.settle();
    sim.advance(Duration::from_secs(60));
    for watcher in watchers {
        let received = sim.received(watcher);
        for index in 0..publishers.len() {
            let of_topic = received.iter().filter(|message| message.topic == format!("load/{index}"));
            let payloads: Vec<_> = of_topic.map(|message| message.payload.parse::<u32>().unwrap()).collect();
            assert_eq!(payloads, (0..40).collect::<Vec<_>>());
        }
    }
}
