//! What the broker publishes itself: for an operator, and volatile messages about itself.

use crate::crash::broker::Manner;
use crate::crash::disk::Crash;
use crate::simulation::Simulation;
use crate::wire;
use crate::wire::message::secs;
use std::time::Duration;
use willowmq::codec::{QoS, ReasonCode};
use willowmq::config::Config;
use willowmq::shard::{Announcement, DropReason, Shard};
use willowmq::timer::Moment;
use willowmq::topic::TopicName;

fn volatile<'a>(topic: &'a str, payload: &'a str) -> Announcement<'a> {
    Announcement::volatile(TopicName::parse(topic).unwrap(), payload.as_bytes())
}

fn lasting<'a>(topic: &'a str, payload: &'a str) -> Announcement<'a> {
    Announcement { qos: QoS::ExactlyOnce, is_volatile: false, ..volatile(topic, payload) }
}

fn announce(sim: &mut Simulation, shard: usize, announcement: &Announcement<'_>) -> Result<bool, ReasonCode> {
    let result = sim.shards[shard].publish_as_broker(sim.now, announcement);
    sim.settle();
    result
}

fn retained(sim: &Simulation) -> usize {
    sim.shards.iter().map(|shard| shard.population().retained).sum()
}

#[test]
fn what_the_broker_publishes_on_any_shard_is_delivered_and_retained_like_any_other() {
    for shard in 0..3 {
        let mut sim = Simulation::new(7, 3);
        let watchers: Vec<_> = (0..6).map(|n| sim.subscriber(&format!("w{n}"), "a/+")).collect();
        for (topic, payload) in [("a/1", "one"), ("a/2", "two"), ("a/1", "newer")] {
            assert_eq!(announce(&mut sim, shard, &volatile(topic, payload)), Ok(true));
        }
        for watcher in watchers {
            let received = sim.received(watcher);
            assert!(received.iter().all(|it| !it.retain && it.qos == QoS::AtMostOnce), "[MQTT-3.3.1-12]");
            assert_eq!(received.iter().map(|it| &*it.payload).collect::<Vec<_>>(), ["one", "two", "newer"]);
        }
        let late = sim.subscriber("late", "a/+");
        let mut payloads = sim.payloads(late);
        payloads.sort();
        assert_eq!(payloads, ["newer", "two"]);
        assert_eq!(announce(&mut sim, shard, &volatile("a/1", "")), Ok(true));
        assert_eq!(sim.payloads(late), [""]);
        assert_eq!((announce(&mut sim, shard, &volatile("b", "")), retained(&sim)), (Ok(false), 1));
    }
}

#[test]
fn mqtt_4_7_2_1_a_leading_wildcard_does_not_match_what_is_the_servers_own() {
    let mut sim = Simulation::new(7, 2);
    let all = sim.subscriber("all", "#");
    let any = sim.subscriber("any", "+/broker/uptime");
    let sys = sim.subscriber("sys", "$SYS/#");
    announce(&mut sim, 0, &volatile("$SYS/broker/uptime", "1 seconds")).unwrap();
    assert_eq!((sim.payloads(all).len(), sim.payloads(any).len()), (0, 0));
    assert_eq!(sim.payloads(sys), ["1 seconds"]);
    let late = sim.subscriber("late", "#");
    assert_eq!(sim.payloads(late), [""; 0]);
}

#[test]
fn volatile_messages_take_no_room_from_clients_and_have_a_bound_of_their_own() {
    let mut config = Config::default();
    config.limits.retained_messages_max = 1;
    config.limits.retained_bytes_max = 10_000;
    let mut sim = Simulation::with_config(7, 1, config);
    let client = sim.connect("c").accepted();
    for n in 0..10 {
        announce(&mut sim, 0, &volatile(&format!("v/{n}"), "x")).unwrap();
    }
    sim.publish(client, "c/1", "x", QoS::AtLeastOnce, true);
    sim.publish(client, "c/2", "x", QoS::AtLeastOnce, true);
    assert_eq!((retained(&sim), sim.count(|stats| stats.dropped[DropReason::Retained])), (11, 1));
    announce(&mut sim, 0, &volatile("v/large", &"x".repeat(10_000))).unwrap();
    assert_eq!((retained(&sim), sim.count(|stats| stats.dropped[DropReason::Retained])), (11, 2));
    // A message of the other kind takes the place of one on the same topic, and its room with it.
    sim.publish(client, "c/1", "", QoS::AtLeastOnce, true);
    sim.publish(client, "v/0", "x", QoS::AtLeastOnce, true);
    announce(&mut sim, 0, &volatile("v/0", "y")).unwrap();
    sim.publish(client, "c/1", "x", QoS::AtLeastOnce, true);
    assert_eq!((retained(&sim), sim.count(|stats| stats.dropped[DropReason::Retained])), (11, 2));
}

#[test]
fn many_volatile_messages_meet_their_bound() {
    let mut config = Config::default();
    config.sessions.sessions_max = 10;
    let mut sim = Simulation::with_config(7, 1, config);
    for n in 0..2000 {
        sim.shards[0].publish_as_broker(sim.now, &volatile(&format!("v/{n}"), "x")).unwrap();
    }
    assert_eq!(retained(&sim), 1024 + 2 * 10);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::Retained]), 2000 - 1044);
}

#[test]
fn a_volatile_message_expires_like_any_other() {
    let mut sim = Simulation::new(7, 2);
    let announcement = Announcement { message_expiry_interval: Some(10), ..volatile("v", "x") };
    announce(&mut sim, 0, &announcement).unwrap();
    assert_eq!(retained(&sim), 1);
    sim.advance(Duration::from_millis(10_020));
    assert_eq!(retained(&sim), 0);
}

#[test]
fn where_retained_messages_are_off_the_broker_retains_nothing_either() {
    let mut config = Config::default();
    config.features.retain = false;
    let mut sim = Simulation::with_config(7, 2, config);
    let watcher = sim.subscriber("w", "v");
    assert_eq!(announce(&mut sim, 1, &volatile("v", "x")), Ok(true));
    assert_eq!((sim.payloads(watcher), retained(&sim)), (vec!["x".to_owned()], 0));
}

/// Tells a story of brokers with journals.
fn with_journals(tell: impl Fn(&mut wire::network::Simulation)) {
    for shards in [1, 2, 4] {
        for seed in 0..3 {
            tell(&mut wire::network::Simulation::journalled(seed, shards, Config::default(), Manner::default()));
        }
    }
}

fn announce_on_last(sim: &mut wire::network::Simulation, announcement: &Announcement<'_>) {
    let last = sim.shards().len() - 1;
    sim.control(last, |shard: &mut Shard, now: Moment| shard.publish_as_broker(now, announcement)).unwrap();
    sim.settle();
}

fn pairs(found: &[(&str, &str)]) -> Vec<(String, String)> {
    found.iter().map(|(topic, text)| ((*topic).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn after_a_restart_volatile_messages_are_not_there_and_others_are() {
    with_journals(|sim| {
        announce_on_last(sim, &volatile("a", "volatile"));
        announce_on_last(sim, &lasting("b", "lasting"));
        // What comes last on a topic decides for it.
        announce_on_last(sim, &volatile("c", "volatile"));
        announce_on_last(sim, &lasting("c", "lasting"));
        announce_on_last(sim, &lasting("d", "lasting"));
        announce_on_last(sim, &volatile("d", "volatile"));
        let before = [("a", "volatile"), ("b", "lasting"), ("c", "lasting"), ("d", "volatile")];
        assert_eq!(sim.retained("#"), pairs(&before));
        sim.crash_and_start(Crash::PowerCut, secs(1));
        assert_eq!(sim.retained("#"), pairs(&[("b", "lasting"), ("c", "lasting")]));
    });
}

#[test]
fn a_checkpoint_has_no_volatile_messages() {
    with_journals(|sim| {
        for n in 0..200 {
            announce_on_last(sim, &volatile(&format!("v/{n:03}"), "volatile"));
        }
        announce_on_last(sim, &lasting("v/100", "lasting"));
        for shard in 0..sim.shards().len() {
            sim.control(shard, |shard, _| shard.begin_checkpoint());
        }
        sim.settle();
        announce_on_last(sim, &volatile("v/200", "volatile"));
        sim.crash_and_start(Crash::PowerCut, secs(1));
        assert_eq!(sim.retained("#"), pairs(&[("v/100", "lasting")]));
    });
}

/// A volatile message is no more than its retained copy: who keeps a Session was promised each message of QoS 1.
#[test]
fn what_a_kept_session_is_sent_of_it_survives_as_any_delivery_does() {
    with_journals(|sim| {
        let keeper = sim.connect("keeper").session_never_expires().accepted();
        sim.subscribe(keeper, "v", 1);
        sim.disconnect(keeper, ReasonCode::Success);
        let announcement = Announcement { qos: QoS::AtLeastOnce, ..volatile("v", "x") };
        announce_on_last(sim, &announcement);
        announce_on_last(sim, &Announcement { payload: b"y", ..announcement });
        sim.crash_and_start(Crash::PowerCut, secs(1));
        assert_eq!(sim.retained("#"), []);
        let keeper = sim.connect("keeper").session_never_expires().resumed();
        assert_eq!(sim.texts(keeper), ["x", "y"]);
    });
}
