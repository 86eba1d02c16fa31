//! Retained messages, partitioned over the shards.

use crate::simulation::{Simulation, options};
use std::time::Duration;
use willowmq::codec::{QoS, RetainHandling};
use willowmq::config::Config;
use willowmq::shard::DropReason;

#[test]
fn mqtt_3_3_1_5_the_last_retained_message_of_each_topic_is_found_by_exact_and_wildcard_filters() {
    for shards in [1, 2, 5] {
        let mut sim = Simulation::new(7, shards);
        let publisher = sim.connect("p").accepted();
        for index in 0..500 {
            sim.publish(publisher, &format!("t/{}", index % 250), &index.to_string(), QoS::AtLeastOnce, true);
        }
        let all = sim.subscriber("all", "t/+");
        let mut payloads: Vec<u32> = sim.payloads(all).iter().map(|payload| payload.parse().unwrap()).collect();
        payloads.sort_unstable();
        assert_eq!(payloads, (250..500).collect::<Vec<_>>(), "{shards} shards");
        let one = sim.subscriber("one", "t/7");
        assert_eq!(sim.payloads(one), ["257"]);
    }
}

#[test]
fn retained_answer_is_paced_by_a_slow_connection_and_loses_nothing() {
    let mut config = Config::default();
    config.limits.output_bytes_max = 4096;
    let mut sim = Simulation::with_config(7, 2, config);
    let publisher = sim.connect("p").accepted();
    for index in 0..2000 {
        sim.publish_only(publisher, &format!("t/{index}"), &"x".repeat(50), QoS::AtMostOnce, true, None);
    }
    sim.settle();
    let slow = sim.connect("slow").accepted();
    sim.subscribe(slow, "t/+", QoS::AtMostOnce);
    assert_eq!(sim.received(slow).len(), 2000);
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_removes_the_retained_message() {
    let mut sim = Simulation::new(7, 2);
    let publisher = sim.connect("p").accepted();
    sim.publish(publisher, "t", "x", QoS::AtLeastOnce, true);
    sim.publish(publisher, "t", "", QoS::AtLeastOnce, true);
    let late = sim.subscriber("late", "#");
    assert_eq!(sim.payloads(late), [""; 0]);
}

#[test]
fn mqtt_3_3_1_9_to_11_retain_handling_decides() {
    let mut sim = Simulation::new(7, 2);
    let publisher = sim.connect("p").accepted();
    sim.publish(publisher, "t", "x", QoS::AtLeastOnce, true);
    let a = sim.connect("a").accepted();
    for (handling, expected) in [
        (RetainHandling::DoNotSend, vec![]),
        (RetainHandling::SendIfNew, vec![]),
        (RetainHandling::Send, vec!["x"]),
        (RetainHandling::Send, vec!["x"]),
    ] {
        sim.subscribe_with(a, "t", options(QoS::AtLeastOnce, handling), None);
        assert_eq!(sim.payloads(a), expected, "{handling:?}");
    }
    let b = sim.connect("b").accepted();
    sim.subscribe_with(b, "t", options(QoS::AtLeastOnce, RetainHandling::SendIfNew), None);
    assert_eq!(sim.payloads(b), ["x"]);
}

#[test]
fn retained_message_expires() {
    let mut sim = Simulation::new(7, 2);
    let publisher = sim.connect("p").accepted();
    sim.publish_only(publisher, "t", "x", QoS::AtLeastOnce, true, Some(10));
    sim.settle();
    sim.advance(Duration::from_secs(4));
    let early = sim.subscriber("early", "t");
    assert_eq!(sim.received(early)[0].expiry, Some(6));
    sim.advance(Duration::from_millis(6_020));
    assert_eq!(sim.shards.iter().map(|shard| shard.population().retained).sum::<usize>(), 0);
    let late = sim.subscriber("late", "t");
    assert_eq!(sim.payloads(late), [""; 0]);
}

/// A subscriber that arrives while a topic is published to must end with its last value, and never see an older one after it.
#[test]
fn subscribing_while_the_topic_changes_ends_with_its_last_value() {
    for seed in 0..500 {
        let mut sim = Simulation::new(seed, 5);
        let publishers: Vec<_> = (0..3).map(|index| sim.connect(&format!("p{index}")).accepted()).collect();
        let subscriber = sim.connect("s").accepted();
        let filter = if seed % 2 == 0 { "t/1" } else { "t/+" };
        let at = sim.random.below(6);
        for step in 0..6 {
            if step == at {
                let options = willowmq::codec::SubscriptionOptions::new(QoS::AtLeastOnce);
                let packet_id = sim.clients[subscriber.0].next_id();
                let filters = [(filter, options)];
                let packet = willowmq::codec::Packet::Subscribe(willowmq::codec::Subscribe {
                    packet_id,
                    subscription_identifier: None,
                    filters: willowmq::codec::SubscriptionFilters::from_slice(&filters),
                    user_properties: willowmq::codec::UserProperties::default(),
                });
                sim.send(subscriber, &packet);
            }
            // One publisher, so that the order of its messages is the order of the topic.
            sim.publish_only(publishers[0], "t/1", &step.to_string(), QoS::AtLeastOnce, true, None);
            for _ in 0..sim.random.below(4) {
                let shard = sim.random.below(5);
                sim.turn(shard);
            }
        }
        sim.settle();
        let seen = sim.payloads(subscriber);
        assert_eq!(seen.last().map(String::as_str), Some("5"), "seed {seed}: {seen:?}");
        assert!(seen.is_sorted(), "seed {seed}: {seen:?}");
        let mut distinct = seen.clone();
        distinct.dedup();
        assert_eq!(distinct, seen, "seed {seed}: twice");
    }
}

#[test]
fn retained_messages_above_the_limits_are_dropped_and_counted() {
    for (messages_max, bytes_max) in [(3, usize::MAX), (u32::MAX, 3500)] {
        let mut config = Config::default();
        (config.limits.retained_messages_max, config.limits.retained_bytes_max) = (messages_max, bytes_max);
        let mut sim = Simulation::with_config(7, 1, config);
        let publisher = sim.connect("p").accepted();
        for index in 0..10 {
            sim.publish(publisher, &format!("t/{index}"), &"x".repeat(1000), QoS::AtLeastOnce, true);
        }
        assert_eq!((sim.shards[0].population().retained, sim.shards[0].stats().dropped[DropReason::Retained]), (3, 7));
        sim.publish(publisher, "t/0", "new", QoS::AtLeastOnce, true);
        let late = sim.subscriber("late", "t/0");
        assert_eq!(sim.payloads(late), ["new"], "a topic that has one can change it");
    }
}
