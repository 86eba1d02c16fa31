//! Disks that fail and come back, and what a restart makes of wills, told one by one.

use crate::crash::broker::Manner;
use crate::crash::disk::{Crash, Faults};
use crate::wire::message::{Will, hours, message, millis, secs};
use crate::wire::network::{Link, Simulation};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{ProtocolVersion, ReasonCode};
use willowmq::config::{Config, OnShutdown, RestartGrace, WillAcl};
use willowmq::security::{Granted, Identity, Rights};
use willowmq::shard::Arrival;
use willowmq::topic::TopicFilter;

/// Tells a story on one, two and four shards, in several orders of events.
fn story(tell: impl Fn(&mut Simulation)) {
    story_with(&Config::default(), tell);
}

fn story_with(config: &Config, tell: impl Fn(&mut Simulation)) {
    for shards in [1, 2, 4] {
        for seed in 0..3 {
            let mut sim = Simulation::journalled(seed, shards, config.clone(), Manner::default());
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

const FULL: Faults =
    Faults { is_full: true, is_read_only: false, fails_writes: true, fails_syncs: false, fails_reads: false };

/// A client whose Session is kept, with one subscription of QoS 2.
fn keeper(sim: &mut Simulation, filter: &str) -> Link {
    let link = sim.connect("keeper").session_never_expires().accepted();
    sim.subscribe(link, filter, 2);
    link
}

fn keeper_returns(sim: &mut Simulation) -> Link {
    sim.connect("keeper").session_never_expires().resumed()
}

/// A lamp with a will, and a watcher of it that survives the broker.
fn lamp_and_keeper(sim: &mut Simulation, keep_alive: u64, will: Will) -> Link {
    let keeper = keeper(sim, "status/#");
    sim.disconnect(keeper, ReasonCode::Success);
    sim.connect("lamp").session_expiry(hours(1)).keep_alive(secs(keep_alive)).will(will).accepted()
}

fn off() -> Will {
    Will::new("status/lamp", "off").qos(2)
}

/// Makes every shard write, so that it learns of its disk.
fn let_all_notice(sim: &mut Simulation) {
    for number in 0..16 {
        sim.connect(&format!("noticer-{number}")).session_never_expires().posted();
    }
    sim.settle();
}

#[test]
fn a_full_disk_refuses_what_needs_it_and_recovers_by_itself() {
    story(|sim| {
        let keeper = keeper(sim, "kept/#");
        sim.disconnect(keeper, ReasonCode::Success);
        let listener = sim.subscriber("listener", "live/#");
        let newer = sim.connect("newer").accepted();
        let older = sim.connect("older").version(ProtocolVersion::V3_1_1).clean_start(true).accepted();
        assert_eq!(sim.publish(newer, &message("kept/a", "before").qos(1)), Some(ReasonCode::Success));
        sim.disk().faults = FULL;
        // The first one finds out; it is answered when it is stored.
        assert_eq!(sim.publish(newer, &message("kept/a", "during").qos(1)), None);
        let_all_notice(sim);
        let other = sim.connect("other").accepted();
        assert_eq!(sim.publish(other, &message("kept/a", "refused").qos(1)), Some(ReasonCode::QuotaExceeded));
        assert_eq!(sim.publish(other, &message("kept/a", "refused").qos(2)), Some(ReasonCode::QuotaExceeded));
        assert_eq!(sim.publish(older, &message("kept/a", "refused").qos(1)), None);
        assert!(sim.is_gone(older), "3.x knows no other refusal");
        sim.publish(other, &message("live/a", "goes on").qos(0));
        assert_eq!(sim.publish(other, &message("live/a", "so does this").qos(1)), Some(ReasonCode::Success));
        assert_eq!(sim.texts(listener), ["goes on", "so does this"]);
        sim.disk().faults = Faults::default();
        sim.advance(millis(1100));
        assert_eq!(sim.publish(other, &message("kept/a", "after").qos(1)), Some(ReasonCode::Success));
        sim.crash_and_start(Crash::PowerCut, secs(1));
        let keeper = keeper_returns(sim);
        assert_eq!(sim.texts(keeper), ["before", "during", "after"]);
    });
}

#[test]
fn a_failed_sync_is_answered_only_when_all_is_written_again() {
    story(|sim| {
        let keeper = keeper(sim, "kept/#");
        sim.disconnect(keeper, ReasonCode::Success);
        let publisher = sim.connect("publisher").session_never_expires().accepted();
        sim.disk().faults = Faults { fails_syncs: true, ..Faults::default() };
        assert_eq!(sim.publish(publisher, &message("kept/a", "kept").qos(2)), None);
        sim.disk().faults = Faults::default();
        sim.advance(millis(500));
        assert_eq!(sim.publish(publisher, &message("live/a", "waits behind it").qos(1)), None);
        sim.advance(millis(1100));
        assert!(sim.client(publisher).memory.unacknowledged.is_empty(), "all is acknowledged in the end");
        sim.crash_and_start(Crash::PowerCut, secs(1));
        let keeper = keeper_returns(sim);
        assert_eq!(sim.texts(keeper), ["kept"]);
    });
}

#[test]
fn a_queue_that_cannot_be_read_waits_and_keeps_its_order() {
    let mut config = Config::default();
    config.sessions.queue_memory_bytes_max = 0;
    story_with(&config, |sim| {
        let keeper = keeper(sim, "kept/#");
        sim.disconnect(keeper, ReasonCode::Success);
        let publisher = sim.connect("publisher").accepted();
        let texts: Vec<String> = (0..20).map(|number| format!("message {number}")).collect();
        for text in &texts {
            assert_eq!(sim.publish(publisher, &message("kept/a", text).qos(1)), Some(ReasonCode::Success));
        }
        sim.disk().faults = Faults { fails_reads: true, ..Faults::default() };
        let keeper = keeper_returns(sim);
        sim.advance(millis(2500));
        assert!(sim.texts(keeper).is_empty(), "nothing can be read");
        sim.disk().faults = Faults::default();
        sim.advance(millis(1100));
        assert_eq!(sim.texts(keeper), texts);
    });
}

#[test]
fn wills_that_fall_due_while_the_disk_is_full_wait_and_are_published_once() {
    story(|sim| {
        let lamp = lamp_and_keeper(sim, 0, off().retain());
        let watching = sim.subscriber("watching", "status/+");
        sim.disk().faults = FULL;
        sim.reset(lamp);
        sim.advance(secs(5));
        assert!(sim.texts(watching).is_empty(), "it cannot be kept that it is published");
        sim.disk().faults = Faults::default();
        sim.advance(millis(2500));
        assert_eq!(sim.texts(watching), ["off"]);
        sim.crash_and_start(Crash::PowerCut, secs(1));
        let keeper = keeper_returns(sim);
        sim.advance(secs(200));
        assert_eq!(sim.used_texts(keeper), ["off"]);
        assert_eq!(sim.retained("status/#"), [("status/lamp".to_owned(), "off".to_owned())]);
    });
}

#[test]
fn an_armed_will_is_discarded_when_its_client_returns_within_the_grace() {
    story(|sim| {
        lamp_and_keeper(sim, 10, off());
        sim.crash_and_start(Crash::PowerCut, secs(30));
        let keeper = keeper_returns(sim);
        sim.advance(secs(14));
        sim.connect("lamp").session_expiry(hours(1)).resumed();
        sim.advance(secs(200));
        assert!(sim.texts(keeper).is_empty());
        sim.crash_and_start(Crash::Kill, secs(1));
        sim.advance(secs(200));
        let keeper = keeper_returns(sim);
        assert!(sim.texts(keeper).is_empty(), "discarded is for ever");
    });
}

/// A client whose token grants this goes down with the broker; what the keeper hears of its will.
fn after_the_end_of_a_granted_client(granted: Granted) {
    let is_allowed = granted != Granted::default();
    let mut config = Config::default();
    config.wills.acl = WillAcl::Publish;
    story_with(&config, |sim| {
        let keeper = keeper(sim, "status/#");
        sim.disconnect(keeper, ReasonCode::Success);
        let granted = Some(Arc::new(granted.clone()));
        sim.arrival.identity = Identity { granted, ..Identity::of_user("lamp") };
        sim.connect("lamp").session_expiry(hours(1)).keep_alive(secs(10)).will(off()).accepted();
        sim.arrival = Arrival::default();
        // A second start reads what the first one has written down anew.
        sim.crash_and_start(Crash::PowerCut, secs(1));
        sim.crash_and_start(Crash::Kill, secs(1));
        let keeper = keeper_returns(sim);
        sim.advance(secs(60));
        let denied: u64 = sim.shards.iter().map(|shard| shard.stats().wills.denied).sum();
        assert_eq!(denied, u64::from(!is_allowed));
        assert_eq!(sim.used_texts(keeper), if is_allowed { &["off"][..] } else { &[] });
    });
}

#[test]
fn an_armed_will_is_checked_after_a_restart_against_all_that_was_known_of_its_client() {
    let filter = || vec![TopicFilter::parse("status/+").expect("a Topic Filter")];
    after_the_end_of_a_granted_client(Granted::default());
    after_the_end_of_a_granted_client(Granted { publish: filter(), will: filter(), ..Granted::default() });
}

#[test]
fn a_session_belongs_to_its_user_after_a_restart_too() {
    story(|sim| {
        sim.arrival.identity = Identity::of_user("alice");
        keeper(sim, "t");
        sim.crash_and_start(Crash::PowerCut, secs(1));
        sim.arrival.identity = Identity::of_user("mallory");
        assert_eq!(sim.connect("keeper").refused(), ReasonCode::ClientIdentifierNotValid);
        sim.arrival.identity = Identity::of_user("alice");
        keeper_returns(sim);
    });
}

/// Its Session has expired meanwhile, and would be anybody's but for the will.
#[test]
fn a_will_that_waits_for_the_grace_cannot_be_made_void_by_another_user() {
    story(|sim| {
        let keeper = keeper(sim, "status/#");
        sim.disconnect(keeper, ReasonCode::Success);
        sim.arrival.identity = Identity::of_user("alice");
        sim.connect("lamp").session_expiry(secs(10)).keep_alive(secs(100)).will(off()).accepted();
        sim.arrival = Arrival::default();
        sim.crash_and_start(Crash::PowerCut, secs(1));
        let keeper = keeper_returns(sim);
        sim.advance(secs(20));
        sim.arrival.identity = Identity::of_user("mallory");
        assert_eq!(sim.connect("lamp").refused(), ReasonCode::ClientIdentifierNotValid);
        sim.arrival = Arrival::default();
        sim.advance(secs(200));
        assert_eq!(sim.used_texts(keeper), ["off"]);
        sim.arrival.identity = Identity::of_user("mallory");
        sim.connect("lamp").started_anew();
        sim.arrival = Arrival::default();
    });
}

/// The rights file was changed while the broker was down: what waits in memory and in the journal alone was let in under other rights.
#[test]
fn what_waits_over_a_restart_is_looked_at_with_the_rights_of_then() {
    let rules = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['open/#']\n";
    let rights = Arc::new(Rights::parse(rules, "rights.toml").expect("these rules are right"));
    for memory in [0, 1_000_000] {
        let mut config = Config::default();
        config.sessions.queue_memory_bytes_max = memory;
        story_with(&config, |sim| {
            let keeper = keeper(sim, "#");
            sim.disconnect(keeper, ReasonCode::Success);
            let publisher = sim.connect("publisher").accepted();
            for (topic, text) in [("open/a", "1"), ("secret/a", "2"), ("secret/b", "3"), ("open/b", "4")] {
                assert_eq!(sim.publish(publisher, &message(topic, text).qos(2)), Some(ReasonCode::Success));
            }
            sim.crash_and_start(Crash::PowerCut, secs(1));
            for shard in 0..sim.shards().len() {
                sim.control(shard, |shard, _| shard.set_rights(Arc::clone(&rights)));
            }
            let keeper = keeper_returns(sim);
            sim.settle();
            assert_eq!(sim.used_texts(keeper), ["1", "4"]);
            // What was dropped is over for good.
            sim.disconnect(keeper, ReasonCode::Success);
            sim.crash_and_start(Crash::PowerCut, secs(1));
            let keeper = keeper_returns(sim);
            sim.settle();
            assert!(sim.used_texts(keeper).is_empty());
        });
    }
}

#[test]
fn an_armed_will_of_a_session_that_ended_with_the_server_is_discarded_as_well() {
    story(|sim| {
        keeper(sim, "status/#");
        sim.connect("lamp").keep_alive(secs(10)).will(off()).accepted();
        sim.crash_and_start(Crash::Kill, secs(1));
        let keeper = keeper_returns(sim);
        sim.connect("lamp").started_anew();
        sim.advance(secs(200));
        assert!(sim.texts(keeper).is_empty());
    });
}

#[test]
fn an_armed_will_is_published_at_once_when_its_client_starts_anew() {
    story(|sim| {
        lamp_and_keeper(sim, 10, off().delay(secs(100)));
        sim.crash_and_start(Crash::PowerCut, secs(1));
        let keeper = keeper_returns(sim);
        let lamp = sim.connect("lamp").clean_start(true).started_anew();
        sim.publish(lamp, &message("status/lamp", "on").qos(1));
        assert_eq!(sim.texts(keeper), ["off", "on"], "death before birth");
        sim.advance(secs(200));
        assert_eq!(sim.used_texts(keeper), ["off", "on"]);
    });
}

/// An armed will of a client that does not return comes once, so long after the listeners opened.
fn comes_after(config: &Config, keep_alive: u64, grace: Duration, away: Duration) {
    story_with(config, |sim| {
        lamp_and_keeper(sim, keep_alive, off());
        sim.crash_and_start(Crash::PowerCut, away);
        let keeper = keeper_returns(sim);
        sim.advance(grace - millis(10));
        assert!(sim.texts(keeper).is_empty(), "early");
        sim.advance(millis(30));
        assert_eq!(sim.texts(keeper), ["off"]);
        sim.crash_and_start(Crash::Kill, secs(1));
        sim.advance(secs(200));
        let keeper = keeper_returns(sim);
        assert!(sim.used_texts(keeper).is_empty(), "once is once");
    });
}

#[test]
fn an_armed_will_comes_after_one_and_a_half_times_keep_alive() {
    comes_after(&Config::default(), 10, secs(15), secs(3));
}

#[test]
fn an_armed_will_comes_after_a_minute_where_there_is_no_keep_alive() {
    comes_after(&Config::default(), 0, secs(60), secs(300));
}

#[test]
fn an_armed_will_comes_after_the_grace_that_is_configured() {
    let mut config = Config::default();
    config.wills.restart_grace = RestartGrace::After(secs(7));
    comes_after(&config, 10, secs(7), secs(3));
}

#[test]
fn a_pending_will_keeps_its_due_time_unless_that_is_within_the_grace() {
    for (away, comes) in [(20, 80), (95, 15)] {
        story(|sim| {
            let lamp = lamp_and_keeper(sim, 10, off().delay(secs(100)));
            sim.reset(lamp);
            sim.crash_and_start(Crash::PowerCut, secs(away));
            let keeper = keeper_returns(sim);
            sim.advance(secs(comes) - millis(10));
            assert!(sim.texts(keeper).is_empty(), "early");
            sim.advance(millis(30));
            assert_eq!(sim.texts(keeper), ["off"]);
        });
    }
}

#[test]
fn an_armed_will_with_a_delay_counts_from_the_stop() {
    story(|sim| {
        lamp_and_keeper(sim, 10, off().delay(secs(100)));
        sim.stop(secs(40));
        let shards = sim.shards().len();
        sim.start(shards);
        let keeper = keeper_returns(sim);
        sim.advance(secs(60) - millis(10));
        assert!(sim.texts(keeper).is_empty(), "early");
        sim.advance(millis(30));
        assert_eq!(sim.texts(keeper), ["off"]);
    });
}

#[test]
fn a_stop_that_publishes_wills_leaves_none_for_the_next_start() {
    let mut config = Config::default();
    config.wills.on_shutdown = OnShutdown::Publish;
    story_with(&config, |sim| {
        lamp_and_keeper(sim, 10, off());
        sim.stop(secs(1));
        let shards = sim.shards().len();
        sim.start(shards);
        sim.advance(secs(100));
        let keeper = keeper_returns(sim);
        assert_eq!(sim.wills_published(), 0, "the stop has published it");
        assert_eq!(sim.texts(keeper), ["off"]);
    });
}

#[test]
fn expiries_go_on_counting_while_the_broker_is_away() {
    story(|sim| {
        let lamp = sim.connect("lamp").session_expiry(secs(5)).accepted();
        sim.subscribe(lamp, "kept/#", 1);
        let long = sim.connect("long").session_expiry(secs(50)).accepted();
        sim.subscribe(long, "kept/#", 1);
        sim.disconnect(lamp, ReasonCode::Success);
        sim.disconnect(long, ReasonCode::Success);
        let publisher = sim.connect("publisher").accepted();
        sim.publish(publisher, &message("kept/a", "short").qos(1).retain().expires_in(secs(10)));
        sim.publish(publisher, &message("kept/b", "long").qos(1).retain().expires_in(secs(30)));
        sim.crash_and_start(Crash::PowerCut, secs(11));
        assert_eq!(sim.retained("kept/#"), [("kept/b".to_owned(), "long".to_owned())]);
        sim.connect("lamp").session_expiry(secs(5)).started_anew();
        let long = sim.connect("long").session_expiry(secs(50)).resumed();
        let received = sim.only_received(long);
        assert_eq!((received.text(), received.expiry), ("long".to_owned(), Some(19)));
    });
}

/// What a transaction has queued is shown to nobody before it is complete, even if there is room for it earlier.
#[test]
fn a_queued_message_waits_for_its_transaction() {
    for is_kept in [false, true] {
        story(|sim| {
            let expiry = if is_kept { hours(1) } else { secs(0) };
            let watching = sim.connect("watching").session_expiry(expiry).receive_maximum(1);
            let watching = watching.withholding_acknowledgements().accepted();
            sim.subscribe(watching, "kept/#", 2);
            let publisher = sim.connect("publisher").session_never_expires().accepted();
            assert_eq!(sim.publish(publisher, &message("kept/a", "first").qos(2)), Some(ReasonCode::Success));
            sim.disk().faults = FULL;
            assert_eq!(sim.publish(publisher, &message("kept/a", "second").qos(2)), None);
            sim.acknowledge_all(watching);
            assert_eq!(sim.texts(watching), ["first"]);
            sim.disk().faults = Faults::default();
            sim.advance(millis(2500));
            assert_eq!(sim.texts(watching), ["first", "second"]);
        });
    }
}
