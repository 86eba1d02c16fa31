//! Planned work: a hold raises no false alarm about whoever is back within it, and no other way of coming back is affected.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::ProtocolVersion;
use willowmq::shard::{Closed, Hold, WillFate};

const SEED: u64 = 0x401D;
const SHARDS: usize = 2;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sim() -> Simulation {
    Simulation::new(SEED, SHARDS)
}

fn hold(sim: &mut Simulation, hold: &Hold) {
    sim.shards.iter_mut().for_each(|shard| assert!(shard.hold_wills(hold.clone())));
}

/// Ends a hold. What it has kept back is not looked at before something happens.
fn release_only(sim: &mut Simulation, hold: &Hold, fate: WillFate) {
    sim.shards.iter_mut().for_each(|shard| assert!(shard.release_wills(hold, fate)));
}

fn held(sim: &Simulation) -> usize {
    sim.shards.iter().map(|shard| shard.population().held_wills).sum()
}

/// How a client comes, and comes back.
#[derive(Debug, Clone, Copy)]
struct Habit {
    version: ProtocolVersion,
    clean_start: bool,
    expiry: u32,
    delay: u32,
}

const HABITS: [Habit; 6] = [
    Habit { version: ProtocolVersion::V5, clean_start: false, expiry: 3600, delay: 0 },
    Habit { version: ProtocolVersion::V5, clean_start: false, expiry: 3600, delay: 5 },
    Habit { version: ProtocolVersion::V5, clean_start: false, expiry: 0, delay: 0 },
    Habit { version: ProtocolVersion::V5, clean_start: true, expiry: 3600, delay: 3000 },
    Habit { version: ProtocolVersion::V3_1_1, clean_start: false, expiry: 0, delay: 0 },
    Habit { version: ProtocolVersion::V3_1_1, clean_start: true, expiry: 0, delay: 0 },
];

fn connect(sim: &mut Simulation, habit: Habit, will: &str) -> ClientHandle {
    let connecting = sim.connect("lamp").version(habit.version).clean_start(habit.clean_start);
    connecting.session_expiry(habit.expiry).will(Will::new("status/lamp", will).delay(habit.delay)).accepted()
}

#[test]
fn who_is_back_while_its_will_is_held_has_raised_no_alarm() {
    for habit in HABITS {
        for is_takeover in [false, true] {
            for fate in [WillFate::Publish, WillFate::Discard] {
                let mut sim = sim();
                let watcher = sim.subscriber("watcher", "status/+");
                let lamp = connect(&mut sim, habit, "first");
                hold(&mut sim, &Hold::All);
                if !is_takeover {
                    sim.cut(lamp);
                    sim.advance(secs(10));
                }
                let lamp = connect(&mut sim, habit, "second");
                assert_eq!(held(&sim), 0, "{habit:?}");
                release_only(&mut sim, &Hold::All, fate);
                sim.advance(secs(100));
                assert_eq!(sim.payloads(watcher), [""; 0], "{habit:?}, takeover: {is_takeover}");
                let discarded = sim.count(|stats| stats.wills.discarded_by_return + stats.wills.discarded_total());
                assert!((1..=2).contains(&discarded), "it is counted");
                // Its next will is like any other.
                sim.cut(lamp);
                sim.advance(secs(3600));
                assert_eq!(sim.payloads(watcher), ["second"], "{habit:?}");
            }
        }
    }
}

#[test]
fn a_hold_of_others_leaves_death_before_birth() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    hold(&mut sim, &Hold::ClientIdPrefix("door".into()));
    let habit = Habit { version: ProtocolVersion::V5, clean_start: true, expiry: 3600, delay: 3000 };
    let lamp = connect(&mut sim, habit, "first");
    sim.cut(lamp);
    connect(&mut sim, habit, "second");
    assert_eq!(sim.payloads(watcher), ["first"]);
}

/// They are looked at in slices, so a client may be back before its turn.
#[test]
fn who_is_back_before_its_will_is_discarded_has_it_discarded() {
    for (fate, expected) in [(WillFate::Publish, &["first"][..]), (WillFate::Discard, &[])] {
        for habit in HABITS {
            let mut sim = sim();
            let watcher = sim.subscriber("watcher", "status/+");
            let lamp = connect(&mut sim, Habit { delay: 0, ..habit }, "first");
            hold(&mut sim, &Hold::All);
            sim.cut(lamp);
            assert_eq!(held(&sim), 1);
            release_only(&mut sim, &Hold::All, fate);
            connect(&mut sim, habit, "second");
            sim.advance(secs(100));
            assert_eq!(sim.payloads(watcher), expected, "{habit:?}");
        }
    }
}

#[test]
fn a_client_that_comes_and_goes_is_held_once() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    hold(&mut sim, &Hold::All);
    for _ in 0..50 {
        let lamp = connect(&mut sim, HABITS[0], "off");
        sim.cut(lamp);
        assert_eq!(held(&sim), 1);
    }
    for _ in 0..50 {
        connect(&mut sim, HABITS[0], "off"); // A takeover makes the older will due at once.
        assert_eq!(held(&sim), 0);
    }
    release_only(&mut sim, &Hold::All, WillFate::Publish);
    sim.settle();
    assert_eq!(sim.payloads(watcher), [""; 0]);
}

#[test]
fn what_an_operator_takes_out_of_a_hold_is_not_counted_as_held() {
    let mut sim = sim();
    let habit = HABITS[0];
    hold(&mut sim, &Hold::All);
    for is_published in [true, false] {
        let lamp = connect(&mut sim, habit, "off");
        sim.cut_only(lamp, Closed::Fin);
        sim.settle();
        assert_eq!(held(&sim), 1);
        let (now, home) = (sim.now, sim.clients[lamp.0].home.index());
        match is_published {
            true => sim.shards[home].publish_will_now(now, "lamp"),
            false => sim.shards[home].discard_will(now, "lamp"),
        };
        assert_eq!(held(&sim), 0);
    }
}

#[test]
fn wills_that_are_let_go_of_keep_their_order_whoever_has_left_it() {
    let mut sim = Simulation::new(SEED, 1);
    let watcher = sim.subscriber("watcher", "status/+");
    hold(&mut sim, &Hold::All);
    for name in ["a", "b", "c", "d"] {
        let client = sim.connect(name).session_expiry(3600).will(Will::new("status/x", name)).accepted();
        sim.cut(client);
    }
    let back = sim.connect("a").clean_start(false).session_expiry(3600).will(Will::new("status/x", "a")).accepted();
    sim.connect("c").clean_start(false).session_expiry(3600).accepted();
    sim.cut(back);
    release_only(&mut sim, &Hold::All, WillFate::Publish);
    sim.settle();
    assert_eq!(sim.payloads(watcher), ["b", "d", "a"]);
}
