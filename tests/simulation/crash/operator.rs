//! What an operator has done survives the broker once the receipt says so.

use crate::crash::broker::Manner;
use crate::crash::disk::Crash;
use crate::wire::message::{Will, hours, secs};
use crate::wire::network::{Link, Simulation};
use willowmq::codec::{Forwarded, QoS, ReasonCode};
use willowmq::config::Config;
use willowmq::shard::inspect::{OperatorMessage, Outcome, Receipt};
use willowmq::shard::{Hold, Shard, WillFate};
use willowmq::timer::Moment;

/// Tells a story on one, two and four shards, with every way in which the broker may die.
fn story(tell: impl Fn(&mut Simulation, Crash)) {
    for shards in [1, 2, 4] {
        for how in [Crash::Kill, Crash::PowerCut] {
            for seed in 0..3 {
                let mut sim = Simulation::journalled(seed, shards, Config::default(), Manner::default());
                tell(&mut sim, how);
            }
        }
    }
}

/// Has the shard of a client do something, and waits until that is certain.
fn act(sim: &mut Simulation, client_id: &str, act: impl FnOnce(&mut Shard, Moment) -> Outcome) {
    let home = sim.home(client_id);
    match sim.control(home, act) {
        Outcome::Done(receipt) => await_certainty(sim, home, receipt),
        refused => panic!("{refused:?}"),
    }
}

fn await_certainty(sim: &mut Simulation, shard: usize, receipt: Receipt) {
    assert!(!sim.shards()[shard].is_certain(receipt), "it is not written yet");
    sim.step_until(|sim| sim.shards()[shard].is_certain(receipt));
}

/// A watcher whose Session is kept, and a lamp with a will; the lamp's connection is open or not.
fn watcher_and_lamp(sim: &mut Simulation, is_open: bool) -> Link {
    let watcher = sim.connect("watcher").session_never_expires().accepted();
    sim.subscribe(watcher, "status/#", 1);
    sim.disconnect(watcher, ReasonCode::Success);
    let will = Will::new("status/lamp", "off").qos(1).delay(secs(500)).retain();
    let lamp = sim.connect("lamp").session_expiry(hours(1)).keep_alive(secs(10)).will(will).accepted();
    if !is_open {
        sim.reset(lamp);
    }
    lamp
}

/// What the watcher has heard in the end, over another crash.
fn heard_in_the_end(sim: &mut Simulation, how: Crash) -> Vec<String> {
    sim.crash_and_start(how, secs(1));
    sim.advance(secs(1000));
    sim.crash_and_start(how, secs(1));
    sim.advance(secs(1000));
    let watcher = sim.connect("watcher").session_never_expires().resumed();
    sim.settle();
    sim.texts(watcher)
}

#[test]
fn a_discarded_will_is_not_published_after_a_crash() {
    for is_open in [true, false] {
        story(|sim, how| {
            watcher_and_lamp(sim, is_open);
            act(sim, "lamp", |shard, now| shard.discard_will(now, "lamp"));
            assert!(heard_in_the_end(sim, how).is_empty());
            assert!(sim.retained("status/#").is_empty());
        });
    }
}

#[test]
fn a_will_that_was_published_now_is_not_published_again_after_a_crash() {
    for is_open in [true, false] {
        story(|sim, how| {
            watcher_and_lamp(sim, is_open);
            act(sim, "lamp", |shard, now| shard.publish_will_now(now, "lamp"));
            assert_eq!(heard_in_the_end(sim, how), ["off"]);
            assert_eq!(sim.retained("status/#"), [("status/lamp".to_owned(), "off".to_owned())]);
        });
    }
}

/// Without waiting for the receipt it may have happened or not, but a will that was to be published is published in any case, and once.
#[test]
fn a_will_that_is_published_while_the_broker_dies_is_published_once() {
    story(|sim, how| {
        watcher_and_lamp(sim, true);
        let home = sim.home("lamp");
        let outcome = sim.control(home, |shard, now| shard.publish_will_now(now, "lamp"));
        assert!(matches!(outcome, Outcome::Done(_)));
        for _ in 0..how as usize + sim.shards().len() {
            sim.step();
        }
        assert_eq!(heard_in_the_end(sim, how), ["off"]);
    });
}

#[test]
fn a_session_that_was_ended_is_not_there_after_a_crash() {
    for (fate, expected) in [(WillFate::Publish, &["off"][..]), (WillFate::Discard, &[])] {
        story(|sim, how| {
            let lamp = watcher_and_lamp(sim, true);
            sim.subscribe(lamp, "t", 1);
            act(sim, "lamp", |shard, now| shard.end_session_of(now, "lamp", fate));
            assert_eq!(sim.farewell(lamp), Some(ReasonCode::AdministrativeAction));
            assert_eq!(heard_in_the_end(sim, how), expected);
            sim.connect("lamp").session_expiry(hours(1)).started_anew();
        });
    }
}

#[test]
fn what_an_operator_has_retained_or_removed_is_so_after_a_crash() {
    story(|sim, how| {
        for (topic, payload) in [("a", "kept"), ("b", "removed")] {
            let message = OperatorMessage {
                topic,
                payload: payload.as_bytes(),
                forwarded: Forwarded::default(),
                qos: QoS::AtLeastOnce,
                retain: true,
                message_expiry_interval: None,
            };
            let published = sim.control(0, |shard, now| shard.publish_for_operator(now, &message));
            let receipt = published.expect("it may be published").receipt;
            await_certainty(sim, 0, receipt);
        }
        let home = sim.home("b"); // Topics are at home where a client of that name would be.
        let removed = sim.control(home, |shard, now| shard.remove_retained(now, "b"));
        let Outcome::Done(receipt) = removed else { panic!("{removed:?}") };
        await_certainty(sim, home, receipt);
        sim.crash_and_start(how, secs(1));
        assert_eq!(sim.retained("#"), [("a".to_owned(), "kept".to_owned())]);
    });
}

/// It is void, and its client has heard that it is back.
#[test]
fn a_will_that_was_held_until_its_client_came_back_is_not_published_after_a_crash() {
    for clean_start in [false, true] {
        story(|sim, how| {
            let lamp = watcher_and_lamp(sim, true);
            for shard in 0..sim.shards().len() {
                sim.control(shard, |shard, _| assert!(shard.hold_wills(Hold::All)));
            }
            sim.reset(lamp);
            sim.advance(secs(501));
            assert_eq!(sim.shards().iter().map(|shard| shard.population().held_wills).sum::<usize>(), 1);
            sim.connect("lamp").clean_start(clean_start).session_expiry(hours(1)).accepted();
            assert!(heard_in_the_end(sim, how).is_empty());
        });
    }
}

/// A hold ends with the process, so the will of a client that did not come back is published after all, once.
#[test]
fn a_will_that_is_held_while_the_broker_dies_is_published_after_the_grace() {
    story(|sim, how| {
        let lamp = watcher_and_lamp(sim, true);
        for shard in 0..sim.shards().len() {
            sim.control(shard, |shard, _| assert!(shard.hold_wills(Hold::All)));
        }
        sim.reset(lamp);
        sim.advance(secs(501));
        assert_eq!(heard_in_the_end(sim, how), ["off"]);
    });
}

/// A client takes its own connection over, and is thrown out again before CONNACK leaves, without its new will. Whether it was ever let in
/// may still be open then; that its first will is told of is not.
#[test]
fn a_client_that_is_disconnected_before_connack_takes_no_older_will_with_it() {
    for (says_goodbye, expiry) in [(false, 3600), (true, 3600), (false, 0), (true, 0)] {
        for steps in 0..40 {
            for (shards, seed) in [(2, 0), (2, 1), (4, 0), (4, 1)] {
                let mut sim = Simulation::journalled(seed, shards, Config::default(), Manner::default());
                for name in ["watcher", "watcher-2", "watcher-3"] {
                    let watcher = sim.connect(name).session_never_expires().accepted();
                    sim.subscribe(watcher, "status/#", 2);
                    sim.disconnect(watcher, ReasonCode::Success);
                }
                let will = |text| Will::new("status/lamp", text).qos(2);
                sim.connect("lamp").session_expiry(hours(1)).keep_alive(secs(10)).will(will("first")).accepted();
                let again = sim.connect("lamp").session_expiry(secs(expiry)).will(will("second")).posted();
                if says_goodbye {
                    sim.post_disconnect(again, ReasonCode::Success, None);
                } else {
                    sim.step_until(|sim| sim.history(again).opened.is_some());
                    let home = sim.home("lamp");
                    sim.control(home, |shard, now| shard.disconnect(now, "lamp", WillFate::Discard));
                }
                for _ in 0..steps {
                    sim.step();
                }
                let heard = heard_in_the_end(&mut sim, Crash::Kill);
                let firsts = heard.iter().filter(|text| *text == "first").count();
                assert_eq!(firsts, 1, "after {steps} steps on {shards} shards, seed {seed}, {expiry}: {heard:?}");
            }
        }
    }
}
