//! A broker that dies, or stops, while it hands its clients away, and starts again.

use crate::crash::broker::Manner;
use crate::crash::disk::{Crash, Faults};
use crate::simulation::Random;
use crate::wire::message::{Will, hours, message, millis, secs};
use crate::wire::network::{Link, Simulation};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use willowmq::codec::ReasonCode;
use willowmq::config::Config;
use willowmq::shard::Closed;

/// Tells a story on one, two and four shards, in several orders of events.
fn story(tell: impl Fn(&mut Simulation)) {
    for shards in [1, 2, 4] {
        for seed in 0..3 {
            let mut sim = Simulation::journalled(seed, shards, Config::default(), Manner::default());
            let told = catch_unwind(AssertUnwindSafe(|| {
                tell(&mut sim);
                sim.settle();
            }));
            if let Err(failure) = told {
                eprintln!("{}", sim.epitaph());
                resume_unwind(failure);
            }
        }
    }
}

/// A lamp with a will, which is retained, and a watcher of it that survives the broker.
fn lamp_and_keeper(sim: &mut Simulation, will: Will) -> Link {
    let keeper = sim.connect("keeper").session_never_expires().accepted();
    sim.subscribe(keeper, "status/#", 2);
    sim.disconnect(keeper, ReasonCode::Success);
    sim.connect("lamp").session_expiry(hours(1)).keep_alive(secs(10)).will(will).accepted()
}

fn off() -> Will {
    Will::new("status/lamp", "off").qos(2)
}

fn keeper_returns(sim: &mut Simulation) -> Link {
    sim.connect("keeper").session_never_expires().resumed()
}

fn drain(sim: &mut Simulation, over: Duration) {
    for shard in 0..sim.shards().len() {
        sim.control(shard, |shard, now| shard.begin_drain(now, over));
    }
    sim.settle();
}

fn cancel(sim: &mut Simulation) {
    for shard in 0..sim.shards().len() {
        sim.control(shard, |shard, now| shard.cancel_drain(now));
    }
    sim.settle();
}

/// How a drained broker ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Crash(Crash),
}

const ENDS: [End; 3] = [End::Stop, End::Crash(Crash::Kill), End::Crash(Crash::PowerCut)];

fn end_and_start(sim: &mut Simulation, end: End, away: Duration) {
    let shards = sim.shards().len();
    match end {
        End::Stop => sim.stop(away),
        End::Crash(how) => sim.crash(how, away),
    }
    sim.start(shards);
}

#[test]
fn whoever_was_handed_away_and_returns_after_the_start_raises_no_false_alarm() {
    for end in ENDS {
        story(|sim| {
            let lamp = lamp_and_keeper(sim, off());
            drain(sim, secs(0));
            assert!(sim.is_gone(lamp));
            assert_eq!(sim.connect("lamp").session_expiry(hours(1)).refused(), ReasonCode::ServerUnavailable);
            sim.advance(secs(100));
            end_and_start(sim, end, secs(5));
            sim.advance(secs(14));
            sim.connect("lamp").session_expiry(hours(1)).resumed();
            sim.advance(secs(200));
            let keeper = keeper_returns(sim);
            assert!(sim.texts(keeper).is_empty(), "{end:?}");
        });
    }
}

#[test]
fn whoever_was_handed_away_and_stays_away_is_told_of_once_after_the_grace() {
    for end in ENDS {
        story(|sim| {
            lamp_and_keeper(sim, off());
            drain(sim, secs(0));
            sim.advance(secs(100));
            end_and_start(sim, end, secs(5));
            let keeper = keeper_returns(sim);
            sim.advance(secs(15) - millis(10));
            assert!(sim.texts(keeper).is_empty(), "{end:?}: early");
            sim.advance(millis(30));
            assert_eq!(sim.texts(keeper), ["off"], "{end:?}");
            sim.crash_and_start(Crash::Kill, secs(1));
            sim.advance(secs(200));
            let keeper = keeper_returns(sim);
            assert!(sim.used_texts(keeper).is_empty(), "once is once");
        });
    }
}

#[test]
fn a_will_that_waits_since_a_cancel_keeps_its_due_time_over_a_crash() {
    for end in ENDS {
        story(|sim| {
            lamp_and_keeper(sim, off().delay(secs(100)));
            drain(sim, secs(0));
            sim.advance(secs(50));
            cancel(sim);
            sim.advance(secs(20));
            end_and_start(sim, end, secs(30));
            let keeper = keeper_returns(sim);
            sim.advance(secs(50) - millis(10));
            assert!(sim.texts(keeper).is_empty(), "{end:?}: early");
            sim.advance(millis(30));
            assert_eq!(sim.texts(keeper), ["off"], "{end:?}");
        });
    }
}

/// Its connection broke before the drain, so its will was pending; it came back, and was refused.
#[test]
fn the_will_of_a_client_that_was_refused_waits_over_a_crash() {
    for end in ENDS {
        story(|sim| {
            let lamp = lamp_and_keeper(sim, off().delay(secs(60)));
            sim.reset(lamp);
            drain(sim, secs(0));
            sim.advance(secs(50));
            sim.connect("lamp").session_expiry(hours(1)).refused();
            sim.advance(secs(50));
            end_and_start(sim, end, secs(1));
            sim.advance(secs(9));
            let keeper = keeper_returns(sim);
            assert!(sim.texts(keeper).is_empty(), "{end:?}: a false alarm");
            sim.advance(secs(200));
            assert_eq!(sim.used_texts(keeper), ["off"], "{end:?}");
        });
    }
}

#[test]
fn what_a_client_is_owed_is_there_after_a_drain() {
    for end in ENDS {
        story(|sim| {
            let reader = sim.connect("reader").session_never_expires().withholding_acknowledgements().accepted();
            sim.subscribe(reader, "t", 2);
            let publisher = sim.connect("publisher").session_never_expires().accepted();
            for (qos, text) in [(1, "one"), (2, "two")] {
                assert_eq!(sim.publish(publisher, &message("t", text).qos(qos)), Some(ReasonCode::Success));
            }
            drain(sim, secs(0));
            end_and_start(sim, end, secs(1));
            let reader = sim.connect("reader").session_never_expires().resumed();
            sim.settle();
            assert_eq!(sim.texts(reader), ["one", "two"], "{end:?}: both are sent again");
        });
    }
}

/// Replies that wait for the disk leave before their client is handed away.
#[test]
fn a_client_that_is_owed_an_acknowledgement_gets_it_before_it_is_handed_away() {
    story(|sim| {
        let reader = sim.connect("reader").session_never_expires().accepted();
        sim.subscribe(reader, "t", 1);
        sim.disconnect(reader, ReasonCode::Success);
        let publisher = sim.connect("publisher").session_never_expires().accepted();
        sim.disk().faults = Faults { fails_syncs: true, ..Faults::default() };
        assert_eq!(sim.publish(publisher, &message("t", "kept").qos(1)), None);
        drain(sim, secs(0));
        sim.advance(millis(300));
        assert!(!sim.is_gone(publisher), "it is owed something");
        sim.disk().faults = Faults::default();
        sim.advance(millis(1200));
        assert!(sim.is_gone(publisher));
        assert!(sim.client(publisher).memory.unacknowledged.is_empty(), "it was acknowledged");
        assert_eq!(sim.farewell(publisher), Some(ReasonCode::ServerShuttingDown));
    });
}

#[test]
fn a_disk_that_stays_full_does_not_keep_a_drain_from_its_end() {
    story(|sim| {
        let publisher = sim.connect("publisher").session_never_expires().accepted();
        sim.subscribe(publisher, "t", 1);
        sim.disk().faults = Faults { fails_syncs: true, ..Faults::default() };
        assert_eq!(sim.publish(publisher, &message("t", "kept").qos(1)), None);
        drain(sim, secs(0));
        sim.advance(secs(3));
        assert!(sim.is_gone(publisher));
        assert!(sim.shards().iter().all(|shard| shard.drain_progress().is_some_and(|progress| progress.is_over)));
    });
}

/// Drains, cancels, stops and crashes in any order, while the client does all that it can to be there.
#[test]
fn a_client_that_keeps_coming_back_raises_no_false_alarm_whatever_is_planned() {
    for stays_away in [false, true] {
        for seed in 0..120 {
            let mut random = Random::new(seed);
            let shards = 1 + random.below(3);
            let mut sim = Simulation::journalled(seed, shards, Config::default(), Manner::default());
            // With a delay its connection may break as well.
            let may_break = random.one_in(2);
            let will = if may_break { off().delay(secs(300)) } else { off() };
            let mut lamp = lamp_and_keeper(&mut sim, will.clone());
            for _ in 0..30 {
                match random.below(8) {
                    kind @ 0..=3 => {
                        let over = secs(random.below(3) as u64);
                        for shard in 0..sim.shards().len() {
                            sim.control(shard, |shard, now| match kind {
                                0 | 1 => shard.begin_drain(now, over),
                                _ => shard.cancel_drain(now),
                            });
                        }
                    }
                    4 if random.one_in(3) => end_and_start(&mut sim, ENDS[random.below(3)], millis(100)),
                    5 if may_break => sim.end_link(lamp, [Closed::Fin, Closed::Reset][random.below(2)]),
                    6 => sim.advance(millis(300)),
                    _ => (0..random.below(20)).for_each(|_| sim.step()),
                }
                if sim.is_gone(lamp) || !sim.is_usable(lamp) {
                    let connecting = sim.connect("lamp").clean_start(false).session_expiry(hours(1));
                    lamp = connecting.keep_alive(secs(10)).will(will.clone()).posted();
                }
            }
            let keeper = come_to_rest(&mut sim);
            assert!(sim.used_texts(keeper).is_empty(), "seed {seed}: a false alarm");
            sim.disconnect(keeper, ReasonCode::Success);
            let before = sim.wills_published();
            let connecting = sim.connect("lamp").clean_start(false).session_expiry(hours(1)).keep_alive(secs(10));
            lamp = connecting.will(off().delay(secs(300))).accepted();
            let published = usize::try_from(sim.wills_published() - before).expect("a few");
            if stays_away {
                drain(&mut sim, secs(0));
                assert!(sim.is_gone(lamp));
                end_and_start(&mut sim, ENDS[random.below(3)], secs(1));
                sim.advance(secs(1000));
                let keeper = keeper_returns(&mut sim);
                assert_eq!(sim.used_texts(keeper).len(), 1 + published, "seed {seed}");
            }
        }
    }
}

/// Nothing is planned any more, and who was away has had some time to come back.
fn come_to_rest(sim: &mut Simulation) -> Link {
    cancel(sim);
    let keeper = keeper_returns(sim);
    sim.advance(secs(5));
    keeper
}
