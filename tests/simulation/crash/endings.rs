//! Sessions that end while the disk of a shard stands still: what they leave behind goes to whom it belongs, or they have not ended.

use crate::crash::broker::Manner;
use crate::crash::disk::Crash;
use crate::wire::message::{Will, hours, message, secs};
use crate::wire::network::{Link, Simulation};
use std::panic::{AssertUnwindSafe, catch_unwind};
use willowmq::codec::ReasonCode;
use willowmq::config::Config;

/// A client that is at home on that shard.
fn named(sim: &Simulation, prefix: &str, home: usize) -> String {
    (0..).map(|number| format!("{prefix}-{number}")).find(|name| sim.home(name) == home).expect("there is one")
}

fn simulation(seed: u64, shards: usize, config: &Config) -> Simulation {
    Simulation::journalled(seed, shards, config.clone(), Manner::default())
}

#[test]
fn a_will_outlives_the_connection_that_was_to_replace_its_session_and_never_did() {
    for seed in 0..3 {
        let sim = &mut simulation(seed, 2, &Config::default());
        let (lamp, keeper) = (named(sim, "lamp", 0), named(sim, "keeper", 1));
        let watching = sim.connect(&keeper).session_never_expires().accepted();
        sim.subscribe(watching, "status/#", 2);
        sim.disconnect(watching, ReasonCode::Success);
        let will = Will::new("status/lamp", "off").qos(2);
        sim.connect(&lamp).session_expiry(hours(1)).keep_alive(secs(10)).will(will).accepted();
        sim.settle();
        sim.journals_mut().stalled = Some(1);
        let again = sim.connect(&lamp).session_expiry(hours(1)).clean_start(true).posted();
        sim.settle();
        sim.reset(again);
        sim.settle();
        sim.crash_and_start(Crash::PowerCut, secs(1));
        sim.advance(secs(200));
        let watching = sim.connect(&keeper).session_never_expires().resumed();
        assert_eq!(sim.texts(watching), ["off"]);
    }
}

/// Two members of a group are away, and one of them, whose turn it was, ends while the disk of the other's home stands still.
fn what_a_member_held_is_not_lost(will: Option<&Will>, end: impl Fn(&mut Simulation, &str)) {
    for seed in 0..6 {
        let sim = &mut simulation(seed, 2, &Config::default());
        let (leaving, staying) = (named(sim, "a", 0), named(sim, "b", 1));
        let link = sim.connect(&leaving).session_expiry(secs(100));
        let link = will.cloned().into_iter().fold(link, |link, will| link.will(will)).accepted();
        sim.subscribe(link, "$share/g/job", 1);
        sim.reset(link);
        let publisher = sim.connect("publisher").accepted();
        assert_eq!(sim.publish(publisher, &message("job", "work").qos(1)), Some(ReasonCode::Success));
        let link = sim.connect(&staying).session_never_expires().accepted();
        sim.subscribe(link, "$share/g/job", 1);
        sim.disconnect(link, ReasonCode::Success);
        sim.settle();
        sim.journals_mut().stalled = Some(1);
        end(sim, &leaving);
        sim.crash_and_start(Crash::PowerCut, secs(1));
        sim.advance(secs(300));
        let link = sim.connect(&staying).session_never_expires().resumed();
        assert_eq!(sim.texts(link), ["work"], "seed {seed}");
    }
}

#[test]
fn what_a_member_held_returns_when_it_starts_anew() {
    what_a_member_held_is_not_lost(None, |sim, leaving| {
        sim.connect(leaving).session_expiry(secs(100)).clean_start(true).posted();
        sim.settle();
    });
}

#[test]
fn what_a_member_held_returns_when_it_expires() {
    what_a_member_held_is_not_lost(None, |sim, _| sim.advance(secs(101)));
}

#[test]
fn what_a_member_held_returns_when_it_expires_with_a_will() {
    let will = Will::new("nobody", "gone").delay(secs(100));
    what_a_member_held_is_not_lost(Some(&will), |sim, _| sim.advance(secs(101)));
}

/// A member that is away has a message; the broker dies, and is away so long itself.
fn what_a_member_held_returns_after_a_restart(away: u64, expiry_on_return: Option<u64>) {
    for shards in [1, 2, 4] {
        for seed in 0..10 {
            let mut config = Config::default();
            config.sessions.queue_memory_bytes_max = 0; // What may go to another member stays in memory all the same.
            let sim = &mut simulation(seed, shards, &config);
            let (leaving, staying) = (named(sim, "a", 0), named(sim, "b", shards - 1));
            let link = sim.connect(&leaving).session_expiry(secs(100)).accepted();
            sim.subscribe(link, "$share/g/job", 1);
            sim.reset(link);
            let publisher = sim.connect("publisher").accepted();
            assert_eq!(sim.publish(publisher, &message("job", "work").qos(1)), Some(ReasonCode::Success));
            let link = sim.connect(&staying).session_never_expires().accepted();
            sim.subscribe(link, "$share/g/job", 1);
            sim.disconnect(link, ReasonCode::Success);
            if let Some(expiry) = expiry_on_return {
                sim.connect(&leaving).session_expiry(secs(expiry)).withholding_acknowledgements().resumed();
                sim.settle();
            }
            sim.crash_and_start(Crash::PowerCut, secs(away));
            sim.advance(secs(300));
            let link = sim.connect(&staying).session_never_expires().resumed();
            assert_eq!(sim.texts(link), ["work"], "{shards} shards, seed {seed}");
        }
    }
}

#[test]
fn what_a_member_held_returns_where_it_expired_while_the_broker_was_down() {
    what_a_member_held_returns_after_a_restart(200, None);
}

#[test]
fn what_a_member_held_returns_where_it_expires_after_the_restart() {
    what_a_member_held_returns_after_a_restart(1, None);
}

#[test]
fn what_a_member_held_returns_where_its_session_was_to_end_with_the_connection() {
    what_a_member_held_returns_after_a_restart(1, Some(0));
}

/// A group with a kept member that is away and one that is online, a publisher's connection, and the client that is away.
fn group_of_two(sim: &mut Simulation, number: u64, level: u8, publisher: &str) -> (Link, Link, String) {
    let (leaving, staying) = (named(sim, "c", 2), named(sim, "d", 3));
    let filter = format!("$share/g{}/job", number % 16);
    let link = sim.connect(&staying).session_never_expires().accepted();
    sim.subscribe(link, &filter, level);
    sim.disconnect(link, ReasonCode::Success);
    let leaving = sim.connect(&leaving).accepted();
    sim.subscribe(leaving, &filter, level);
    let publisher = sim.connect(publisher);
    let publisher = if level == 2 { publisher.session_never_expires() } else { publisher }.accepted();
    sim.settle();
    (leaving, publisher, staying)
}

/// A member leaves in the same instant in which its group chooses it: what comes back and goes on to another member is waited for.
#[test]
fn mqtt_4_8_2_4_what_came_back_is_stored_before_it_is_acknowledged() {
    for seed in 0..100 {
        let sim = &mut simulation(seed, 4, &Config::default());
        let publisher = named(sim, "p", 0);
        let (link, publisher, staying) = group_of_two(sim, seed, 1, &publisher);
        sim.journals_mut().stalled = Some(3);
        let before = sim.shards()[2].stats().sent.total().count;
        sim.post_disconnect(link, ReasonCode::Success, None);
        let answer = sim.publish(publisher, &message("job", "work").qos(1));
        let was_sent = sim.shards()[2].stats().sent.total().count > before;
        sim.crash_and_start(Crash::PowerCut, secs(1));
        let link = sim.connect(&staying).session_never_expires().resumed();
        if answer == Some(ReasonCode::Success) && !was_sent {
            assert_eq!(sim.texts(link), ["work"], "seed {seed}");
        }
    }
}

#[test]
fn a_stop_is_not_held_up_by_what_came_back_late() {
    for seed in 0..60 {
        let sim = &mut simulation(seed, 4, &Config::default());
        let publisher = named(sim, "p", 0);
        let (link, publisher, _) = group_of_two(sim, seed, 2, &publisher);
        sim.post_disconnect(link, ReasonCode::Success, None);
        sim.publish(publisher, &message("job", "work").qos(2));
        let stopped = catch_unwind(AssertUnwindSafe(|| sim.stop(secs(1))));
        assert!(stopped.is_ok(), "seed {seed}: connections stay open");
    }
}

/// The only subscriber of a filter had ended before the broker died; whoever gets its place in memory is none.
#[test]
fn a_session_that_ended_leaves_no_subscription_to_the_next_one() {
    for shards in [1, 2] {
        let sim = &mut simulation(7, shards, &Config::default());
        let gone = sim.connect("gone").session_expiry(hours(1)).accepted();
        sim.subscribe(gone, "private/#", 1);
        sim.subscribe(gone, "$share/g/job", 1);
        sim.disconnect(gone, ReasonCode::Success);
        let will = Will::new("status/gone", "off");
        sim.connect("gone").session_expiry(secs(0)).keep_alive(secs(10)).will(will).resumed();
        sim.crash_and_start(Crash::Kill, secs(1));
        sim.advance(secs(100));
        let strangers: Vec<_> = (0..6).map(|number| sim.connect(&format!("stranger-{number}")).accepted()).collect();
        let publisher = sim.connect("publisher").accepted();
        sim.publish(publisher, &message("private/a", "secret").qos(1));
        assert!(strangers.iter().all(|stranger| sim.texts(*stranger).is_empty()));
        sim.publish(publisher, &message("job", "nobody is there").qos(1));
    }
}

/// Whoever dies twice in a row has waited since the first time.
#[test]
fn a_second_restart_counts_from_the_first() {
    for shards in [1, 2] {
        let sim = &mut simulation(3, shards, &Config::default());
        let short = sim.connect("short").session_expiry(secs(100)).accepted();
        sim.subscribe(short, "kept/#", 1);
        sim.crash_and_start(Crash::Kill, secs(1));
        sim.advance(secs(60));
        sim.crash_and_start(Crash::Kill, secs(1));
        sim.advance(secs(60));
        sim.connect("short").session_expiry(secs(100)).started_anew();
    }
}
