//! What is counted: metrics, `$SYS` and the log tell nothing else.

use crate::client::Will;
use crate::simulation::Simulation;
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{
    Forwarded, Packet, PacketId, PacketKind, ProtocolVersion, Publish, QoS, ReasonCode, SubscriptionIdentifiers,
};
use willowmq::config::Config;
use willowmq::figures::Traffic;
use willowmq::security::Rights;
use willowmq::shard::{ConnectRefusal, DropReason, Hold, PublishOutcome, WillFate};

const SEED: u64 = 0x0C_0C_0C;

fn exactly_once(topic: &'static str, packet_id: PacketId) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic,
        packet_id: Some(packet_id),
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: SubscriptionIdentifiers::default(),
        forwarded: Forwarded::default(),
        payload: b"0123456789",
    })
}

#[test]
fn each_publish_is_counted_once_with_what_became_of_it() {
    let mut config = Config::default();
    config.limits.topic_levels_max = 3;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let rules = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['#']\n\
                 [[rules]]\neffect = 'deny'\nactions = ['write']\ntopics = ['secret']\n";
    sim.shards[0].set_rights(Arc::new(Rights::parse(rules, "rights.toml").unwrap()));
    let _subscriber = sim.subscriber("s", "t");
    let publisher = sim.connect("p").accepted();
    for (topic, payload, qos) in
        [("t", "1", QoS::AtMostOnce), ("t", "22", QoS::AtLeastOnce), ("u", "333", QoS::AtLeastOnce)]
    {
        sim.publish(publisher, topic, payload, qos, false);
    }
    sim.publish(publisher, "secret", "4444", QoS::AtLeastOnce, false);
    let packet_id = PacketId::new(77).unwrap();
    sim.send(publisher, &exactly_once("t", packet_id));
    sim.send(publisher, &exactly_once("t", packet_id)); // [MQTT-4.3.3-10]
    sim.settle();
    sim.publish(publisher, "a/b/c/d", "55555", QoS::AtMostOnce, false);
    assert!(!sim.is_connected(publisher), "its topic is too deep");

    let stats = sim.shards[0].stats();
    let traffic = |count, bytes| Traffic { count, bytes };
    for (qos, outcome, expected) in [
        (QoS::AtMostOnce, PublishOutcome::Matched, traffic(1, 1)),
        (QoS::AtLeastOnce, PublishOutcome::Matched, traffic(1, 2)),
        (QoS::AtLeastOnce, PublishOutcome::Unmatched, traffic(1, 3)),
        (QoS::AtLeastOnce, PublishOutcome::Denied, traffic(1, 4)),
        (QoS::ExactlyOnce, PublishOutcome::Matched, traffic(1, 10)),
        (QoS::ExactlyOnce, PublishOutcome::Repeated, traffic(1, 10)),
        (QoS::AtMostOnce, PublishOutcome::Invalid, traffic(1, 5)),
    ] {
        assert_eq!(stats.received.of(qos, outcome), expected, "{qos:?} {outcome:?}");
    }
    assert_eq!(stats.received.total(), traffic(7, 35));
    assert_eq!(stats.packets_received[PacketKind::Publish], 7);
    assert_eq!(stats.packets_sent[PacketKind::Puback], 3);
    assert_eq!(stats.packets_sent[PacketKind::Pubrec], 2);
    assert_eq!(stats.packets_sent[PacketKind::Disconnect], 1);
    assert_eq!((stats.sent.total().count, stats.sent.total().bytes), (3, 13));
}

#[test]
fn what_is_sent_again_is_counted_as_such() {
    let mut sim = Simulation::new(SEED, 1);
    let subscriber = sim.connect("s").session_expiry(100).accepted();
    sim.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = sim.connect("p").accepted();
    sim.publish_only(publisher, "t", "123", QoS::AtLeastOnce, false, None);
    sim.cut(subscriber); // It is on its way, and lost.
    sim.connect("s").clean_start(false).session_expiry(100).accepted();
    let sent = &sim.shards[0].stats().sent;
    assert_eq!((sent.of(QoS::AtLeastOnce), sent.again), (Traffic { count: 2, bytes: 6 }, 1));
}

#[test]
fn refused_connects_are_counted_by_reason() {
    let mut config = Config::default();
    config.sessions.sessions_max = 1;
    let mut sim = Simulation::with_config(SEED, 1, config);
    sim.connect("a").accepted();
    assert_eq!(sim.connect("b").refused(), ReasonCode::QuotaExceeded);
    assert_eq!(sim.connect("c").will(Will::new("t/#", "x")).refused(), ReasonCode::TopicNameInvalid);
    sim.connect("").version(ProtocolVersion::V3_1).refused();
    let refused = &sim.shards[0].stats().connects_refused;
    assert_eq!(refused[ConnectRefusal::SessionsMax], 1);
    assert_eq!(refused[ConnectRefusal::Will], 1);
    assert_eq!(refused[ConnectRefusal::ClientId], 1);
    assert_eq!(refused.total(), 3);
    assert_eq!(sim.shards[0].stats().packets_received[PacketKind::Connect], 4);
    assert_eq!(sim.shards[0].stats().packets_sent[PacketKind::Connack], 4);
}

#[test]
fn a_storm_tells_its_size_its_time_and_its_lateness() {
    let mut config = Config::default();
    config.wills.storm_threshold_per_second = 10;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let clients: Vec<_> =
        (0..50).map(|index| sim.connect(&format!("c{index}")).will(Will::new("will", "x")).accepted()).collect();
    sim.shards[0].hold_wills(Hold::All);
    let due = sim.now;
    clients.into_iter().for_each(|client| sim.cut(client));
    assert_eq!(sim.shards[0].population().held_wills, 50);
    assert_eq!(sim.shards[0].population().storm, None);

    sim.advance(Duration::from_secs(4));
    sim.shards[0].release_wills(&Hold::All, WillFate::Publish);
    sim.settle();
    let population = sim.shards[0].population();
    assert_eq!((population.due_wills, population.held_wills), (0, 0));
    let storm = population.storm.expect("it goes on");
    assert_eq!((storm.wills, storm.lasted, storm.since), (50, Duration::from_secs(4), due));
    assert_eq!(sim.shards[0].stats().wills.storms, 0, "only those that have passed are counted");

    sim.advance(Duration::from_secs(2));
    assert_eq!(sim.shards[0].population().storm, None);
    let wills = &sim.shards[0].stats().wills;
    assert_eq!((wills.storms, wills.storm_wills, wills.last_storm), (1, 50, Some(storm)));
    assert_eq!(wills.lateness.count(), 50);
    assert_eq!(wills.lateness.sum(), 50 * 4_000_000);
    assert_eq!(wills.lateness.max(), 4_000_000);
    assert_eq!(storm.lateness_max, Duration::from_secs(4));
}

#[test]
fn what_waits_and_what_is_retained_is_known_and_goes_away_again() {
    let mut config = Config::default();
    config.sessions.queue_messages_max = 3;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let away = sim.connect("away").session_expiry(100).accepted();
    sim.subscribe(away, "t", QoS::AtLeastOnce);
    sim.cut(away);
    let publisher = sim.connect("p").accepted();
    for _ in 0..5 {
        sim.publish(publisher, "t", "1234", QoS::AtLeastOnce, false);
    }
    sim.publish(publisher, "r", "kept", QoS::AtMostOnce, true);
    let population = sim.shards[0].population();
    assert_eq!(population.queued.messages, 3);
    assert!(population.queued.bytes >= 3 * 4 && population.retained_bytes >= 4);
    assert_eq!((population.retained, population.subscriptions, population.sessions), (1, 1, 2));
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::QueueFull]), 2);

    sim.publish(publisher, "r", "", QoS::AtMostOnce, true);
    sim.connect("away").clean_start(false).session_expiry(100).accepted();
    let population = sim.shards[0].population();
    assert_eq!((population.queued.messages, population.queued.bytes), (0, 0));
    assert_eq!((population.retained, population.retained_bytes), (0, 0));
    assert_eq!(sim.count(|stats| stats.dropped.total()), 2);
}
