//! Wills held back during planned work.

use crate::wire::message::{Will, hours, secs};
use crate::wire::network::Simulation;
use crate::wire::story::story;
use willowmq::shard::{Hold, WillFate};

fn hold(sim: &mut Simulation) {
    for shard in 0..sim.shards().len() {
        sim.control(shard, |shard, _| shard.hold_wills(Hold::All));
    }
}

fn release(sim: &mut Simulation, fate: WillFate) {
    for shard in 0..sim.shards().len() {
        sim.control(shard, |shard, _| shard.release_wills(&Hold::All, fate));
    }
    sim.settle();
}

#[test]
fn held_wills_are_published_or_discarded_when_they_are_released() {
    for (fate, published) in [(WillFate::Publish, 1), (WillFate::Discard, 0)] {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(1)).accepted();
            hold(sim);
            sim.cut(lamp);
            sim.advance(hours(1));
            assert_eq!(sim.received(watcher), []);
            release(sim, fate);
            assert_eq!(sim.received(watcher).len(), published);
        });
    }
}

/// What a release discards are the wills that were held, not one that its client has armed since.
#[test]
fn a_release_leaves_the_will_of_a_newer_connection_armed() {
    for delay in [secs(0), secs(30)] {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            let connect = |sim: &mut Simulation, text: &str, delay| {
                let will = Will::new("status/lamp", text).qos(1).delay(delay);
                sim.connect("lamp").session_expiry(hours(1)).will(will).accepted()
            };
            let first = connect(sim, "first", secs(0));
            hold(sim);
            sim.cut(first);
            let second = connect(sim, "second", delay);
            if delay > secs(0) {
                sim.cut(second);
            }
            release(sim, WillFate::Discard);
            sim.cut(second);
            sim.advance(secs(31));
            assert_eq!(sim.texts(watcher).last().map(String::as_str), Some("second"));
        });
    }
}
