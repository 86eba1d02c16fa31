//! Sessions, QoS and flow control: what a client finds when it comes back, and what it never sees twice.

use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{Packet, PacketId, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions};
use willowmq::config::Config;
use willowmq::shard::DropReason;

const SEED: u64 = 0x5E55;

#[test]
fn mqtt_3_1_4_3_takeover_disconnects_the_older_connection_with_0x8e() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("w", "t");
    let first = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(first, "t", QoS::AtLeastOnce);
    let (second, session_present) = sim.connect("a").clean_start(false).session_expiry(100).accepted_with_session();
    assert!(session_present);
    sim.publish(watcher, "t", "1", QoS::AtLeastOnce, false);
    assert_eq!(sim.payloads(second), ["1"]);
    assert_eq!(sim.shards.iter().map(|shard| shard.stats().takeovers).sum::<u64>(), 1);
}

#[test]
fn mqtt_4_4_0_1_unacknowledged_messages_are_sent_again_with_dup_and_in_order() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.clients[a.0].withholds_acks = true;
    for index in 0..5 {
        sim.publish(publisher, "t", &index.to_string(), QoS::AtLeastOnce, false);
    }
    assert_eq!(sim.payloads(a), ["0", "1", "2", "3", "4"]);
    sim.cut(a);
    sim.publish(publisher, "t", "5", QoS::AtLeastOnce, false);
    sim.clients[a.0].withholds_acks = false;
    sim.connect("a").clean_start(false).session_expiry(100).accepted();
    let again = sim.received(a);
    let dups: Vec<_> = again.iter().map(|message| (&*message.payload, message.dup)).collect();
    assert_eq!(dups, [("0", true), ("1", true), ("2", true), ("3", true), ("4", true), ("5", false)]);
}

#[test]
fn mqtt_4_3_3_qos_2_arrives_once_over_a_reconnect() {
    let mut sim = Simulation::new(SEED, 5);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::ExactlyOnce);
    sim.clients[a.0].withholds_acks = true;
    sim.publish(publisher, "t", "1", QoS::ExactlyOnce, false);
    sim.cut(a);
    sim.clients[a.0].withholds_acks = false;
    sim.connect("a").clean_start(false).session_expiry(100).accepted();
    assert_eq!(sim.payloads(a), ["1"]);
}

#[test]
fn mqtt_4_3_3_10_a_repeated_qos_2_publish_is_routed_once() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.subscriber("a", "t");
    let publisher = sim.connect("p").session_expiry(100).accepted();
    // PUBLISH QoS 2, packet identifier 7, twice, without PUBREL in between.
    for dup in [0x34, 0x3C] {
        sim.send_bytes(publisher, &[dup, 7, 0, 1, b't', 0, 7, 0, b'x']);
    }
    sim.settle();
    assert_eq!(sim.payloads(a), ["x"]);
}

#[test]
fn mqtt_3_3_4_9_receive_maximum_of_the_client_is_respected() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").receive_maximum(2).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.clients[a.0].withholds_acks = true;
    for index in 0..10 {
        sim.publish(publisher, "t", &index.to_string(), QoS::AtLeastOnce, false);
    }
    assert_eq!(sim.payloads(a), ["0", "1"]);
}

#[test]
fn mqtt_3_3_4_9_and_3_1_2_24_resending_respects_what_the_new_connection_takes() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.clients[a.0].withholds_acks = true;
    for index in 0..10 {
        let payload = if index == 3 { "x".repeat(100) } else { index.to_string() };
        sim.publish(publisher, "t", &payload, QoS::AtLeastOnce, false);
    }
    sim.cut(a);
    sim.received(a);
    sim.connect("a").clean_start(false).session_expiry(100).receive_maximum(2).packet_bytes_max(60).accepted();
    assert_eq!(sim.payloads(a), ["0", "1"]);
    sim.clients[a.0].withholds_acks = false;
    for id in 1..=2 {
        let ack = willowmq::codec::Ack::new(PacketId::new(id).unwrap(), ReasonCode::Success);
        sim.send(a, &Packet::Puback(ack));
    }
    sim.settle();
    assert_eq!(sim.payloads(a), ["2", "4", "5", "6", "7", "8", "9"], "all but the one that is too large");
}

#[test]
fn mqtt_3_1_2_24_a_topic_alias_does_not_make_a_packet_too_large() {
    let mut sim = Simulation::new(SEED, 1);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").packet_bytes_max(40).alias_maximum(5).accepted();
    sim.subscribe(a, "a/b", QoS::AtMostOnce);
    sim.publish(publisher, "a/b", &"x".repeat(32), QoS::AtMostOnce, false);
    let received = sim.received(a);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].topic, "a/b", "it fits without the alias, so it is sent without");
}

#[test]
fn what_a_paused_connection_had_sent_counts_when_it_ends() {
    let mut config = Config::default();
    config.limits.mesh_messages_max = 1;
    let mut sim = Simulation::with_config(SEED, 5, config);
    let watchers: Vec<_> = (0..5).map(|index| sim.subscriber(&format!("w{index}"), "t")).collect();
    let publisher = sim.connect("p").will(crate::client::Will::new("t", "false alarm")).accepted();
    for index in 0..50 {
        sim.publish_only(publisher, "t", &format!("{index:02}"), QoS::AtMostOnce, false, None);
    }
    sim.send(publisher, &Packet::Disconnect(willowmq::codec::Disconnect::new(ReasonCode::Success)));
    sim.cut_only(publisher, willowmq::shard::Closed::Fin);
    sim.settle();
    assert!(sim.shards.iter().map(|shard| shard.stats().pauses).sum::<u64>() > 0, "it was paused");
    let expected: Vec<_> = (0..50).map(|index| format!("{index:02}")).collect();
    for watcher in watchers {
        sim.subscribe(watcher, "other", QoS::AtMostOnce);
        assert_eq!(sim.payloads(watcher), expected);
    }
}

#[test]
fn output_of_a_client_that_does_not_read_stays_bounded() {
    let mut config = Config::default();
    config.limits.output_bytes_max = 8192;
    let mut sim = Simulation::with_config(SEED, 2, config);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.publish(publisher, "kept", &"x".repeat(1000), QoS::AtLeastOnce, true);
    sim.clients[a.0].is_stuck = true;
    for index in 0..200 {
        sim.publish(publisher, "t", &format!("{index:03}{}", "x".repeat(500)), QoS::AtLeastOnce, false);
    }
    for _ in 0..5000 {
        sim.send(a, &Packet::Pingreq);
    }
    sim.settle();
    let home = sim.clients[a.0].home.index();
    let id = sim.clients[a.0].connection.expect("it is connected");
    let output = sim.shards[home].take_output(id).expect("it has output");
    assert!(output.len() < 10_000, "{} bytes", output.len());
    sim.clients[a.0].inbox.extend_from_slice(&output);
    sim.shards[home].on_sent(sim.now, id, output);
    sim.unstick(a);
    assert_eq!(sim.received(a).len(), 200, "and nothing is lost");
}

#[test]
fn mqtt_3_3_4_7_more_than_our_receive_maximum_ends_the_connection() {
    let mut config = Config::default();
    config.limits.receive_maximum = 2;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let publisher = sim.connect("p").accepted();
    for id in 1..=3 {
        sim.send_bytes(publisher, &[0x34, 7, 0, 1, b't', 0, id, 0, b'x']);
    }
    sim.settle();
    assert_eq!(sim.clients[publisher.0].disconnected_with, Some(ReasonCode::ReceiveMaximumExceeded));
}

#[test]
fn mqtt_3_1_2_25_a_message_too_large_for_a_client_is_dropped_for_it() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").packet_bytes_max(64).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.publish(publisher, "t", &"x".repeat(100), QoS::AtLeastOnce, false);
    sim.publish(publisher, "t", &"x".repeat(100), QoS::AtMostOnce, false);
    sim.publish(publisher, "t", "small", QoS::AtLeastOnce, false);
    assert_eq!(sim.payloads(a), ["small"]);
    assert!(sim.is_connected(a));
}

#[test]
fn session_expires_after_its_interval() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.connect("a").session_expiry(10).accepted();
    sim.cut(a);
    sim.advance(Duration::from_secs(9));
    let (a, session_present) = sim.connect("a").clean_start(false).session_expiry(10).accepted_with_session();
    assert!(session_present);
    sim.cut(a);
    sim.advance(Duration::from_millis(10_020));
    assert!(!sim.connect("a").clean_start(false).accepted_with_session().1);
}

#[test]
fn v311_clean_session_0_keeps_the_session_and_1_drops_it() {
    let mut sim = Simulation::new(SEED, 2);
    let v311 = ProtocolVersion::V3_1_1;
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").version(v311).clean_start(false).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.cut(a);
    sim.publish(publisher, "t", "1", QoS::AtLeastOnce, false);
    assert!(sim.connect("a").version(v311).clean_start(false).accepted_with_session().1);
    assert_eq!(sim.payloads(a), ["1"]);
    assert!(!sim.connect("a").version(v311).clean_start(true).accepted_with_session().1);
    sim.publish(publisher, "t", "2", QoS::AtLeastOnce, false);
    assert_eq!(sim.payloads(a), [""; 0]);
}

#[test]
fn mqtt_3_3_2_5_and_6_expired_messages_are_not_sent_and_others_say_what_remains() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.cut(a);
    sim.publish_only(publisher, "t", "short", QoS::AtLeastOnce, false, Some(5));
    sim.publish_only(publisher, "t", "long", QoS::AtLeastOnce, false, Some(50));
    sim.settle();
    sim.advance(Duration::from_secs(20));
    sim.connect("a").clean_start(false).accepted();
    let received = sim.received(a);
    assert_eq!(received.len(), 1);
    assert_eq!((&*received[0].payload, received[0].expiry), ("long", Some(30)));
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.connect("a").accepted();
    let options = SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
    sim.subscribe_with(a, "t", options, None);
    let b = sim.connect("b").accepted();
    sim.publish(a, "t", "own", QoS::AtLeastOnce, false);
    sim.publish(b, "t", "other", QoS::AtLeastOnce, false);
    assert_eq!(sim.payloads(a), ["other"]);
}

#[test]
fn mqtt_3_3_4_4_overlapping_subscriptions_give_one_copy_with_all_identifiers_and_the_highest_qos() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.connect("a").accepted();
    sim.subscribe_with(a, "t/+", SubscriptionOptions::new(QoS::AtMostOnce), Some(1));
    sim.subscribe_with(a, "t/#", SubscriptionOptions::new(QoS::ExactlyOnce), Some(2));
    let b = sim.connect("b").accepted();
    sim.publish(b, "t/x", "1", QoS::AtLeastOnce, false);
    let received = sim.received(a);
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].qos, &received[0].subscription_ids), (QoS::AtLeastOnce, &vec![1, 2]));
}

#[test]
fn mqtt_4_8_2_4_what_a_member_had_queued_goes_to_another_when_its_session_ends() {
    for seed in 0..50 {
        let mut sim = Simulation::new(seed, 5);
        let publisher = sim.connect("p").accepted();
        let a = sim.connect("a").receive_maximum(1).accepted();
        sim.subscribe(a, "$share/g/t", QoS::AtLeastOnce);
        sim.clients[a.0].withholds_acks = true;
        for index in 0..10 {
            sim.publish(publisher, "t", &index.to_string(), QoS::AtLeastOnce, false);
        }
        assert_eq!(sim.payloads(a), ["0"], "seed {seed}");
        let b = sim.connect("b").accepted();
        sim.subscribe(b, "$share/g/t", QoS::AtLeastOnce);
        sim.cut(a);
        let mut moved = sim.payloads(b);
        moved.sort_unstable();
        assert_eq!(moved, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "seed {seed}");
    }
}

#[test]
fn shared_subscription_gives_each_message_to_one_connected_member() {
    for seed in 0..20 {
        let mut sim = Simulation::new(seed, 5);
        let publisher = sim.connect("p").accepted();
        let members: Vec<_> = (0..4)
            .map(|index| {
                let member = sim.connect(&format!("m{index}")).session_expiry(100).accepted();
                sim.subscribe(member, "$share/g/t/#", QoS::AtLeastOnce);
                member
            })
            .collect();
        sim.cut(members[0]);
        for index in 0..30 {
            sim.publish(publisher, "t/x", &format!("{index:02}"), QoS::AtLeastOnce, false);
        }
        let mut all: Vec<_> = members[1..].iter().flat_map(|member| sim.payloads(*member)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..30).map(|index| format!("{index:02}")).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn unsubscribe_ends_delivery_on_every_shard() {
    let mut sim = Simulation::new(SEED, 5);
    let publisher = sim.connect("p").accepted();
    let a = sim.subscriber("a", "t/+");
    sim.unsubscribe(a, "t/+");
    sim.publish(publisher, "t/1", "x", QoS::AtLeastOnce, false);
    assert_eq!(sim.payloads(a), [""; 0]);
}

#[test]
fn topic_alias_of_the_server_is_used_after_it_was_given() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").alias_maximum(1).accepted();
    sim.subscribe(a, "#", QoS::AtLeastOnce);
    for topic in ["first", "first", "second", "first"] {
        sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
    }
    let topics: Vec<_> = sim.received(a).into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, ["first", "", "second", ""]);
}

#[test]
fn acknowledgement_of_another_qos_is_a_protocol_error_and_an_unknown_one_is_not() {
    let mut sim = Simulation::new(SEED, 1);
    let a = sim.subscriber("a", "t");
    let ack = willowmq::codec::Ack::new(PacketId::new(9).unwrap(), ReasonCode::Success);
    sim.send(a, &Packet::Puback(ack));
    sim.settle();
    assert!(sim.is_connected(a));
    sim.clients[a.0].withholds_acks = true;
    sim.publish(a, "t", "x", QoS::AtLeastOnce, false);
    let ack = willowmq::codec::Ack::new(PacketId::new(1).unwrap(), ReasonCode::Success);
    sim.send(a, &Packet::Pubcomp(ack));
    sim.settle();
    assert_eq!(sim.clients[a.0].disconnected_with, Some(ReasonCode::ProtocolError));
}

/// Thousands of SUBSCRIBE on one connection wait for the other shards; each costs the same.
#[test]
fn a_burst_of_subscribes_is_answered_completely_and_in_order() {
    let mut sim = Simulation::new(SEED, 5);
    let a = sim.connect("a").accepted();
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    for index in 0..2000 {
        let filter = format!("t/{index}");
        let filters = [(&*filter, options)];
        let packet_id = sim.clients[a.0].next_id();
        sim.send(
            a,
            &Packet::Subscribe(willowmq::codec::Subscribe {
                packet_id,
                subscription_identifier: None,
                filters: willowmq::codec::SubscriptionFilters::from_slice(&filters),
                user_properties: willowmq::codec::UserProperties::default(),
            }),
        );
    }
    sim.settle();
    assert_eq!(sim.clients[a.0].suback.len(), 2000);
    assert!(sim.shards.iter().map(|shard| shard.stats().pauses).sum::<u64>() > 0, "it was not read all at once");
}

#[test]
fn sessions_above_the_limit_are_refused_and_those_that_exist_come_back() {
    let mut config = Config::default();
    config.sessions.sessions_max = 2;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.connect("b").accepted();
    assert_eq!(sim.connect("c").refused(), ReasonCode::QuotaExceeded);
    sim.cut(a);
    assert_eq!(sim.connect("c").refused(), ReasonCode::QuotaExceeded);
    assert!(sim.connect("a").clean_start(false).accepted_with_session().1);
}

#[test]
fn queue_is_bounded_in_bytes_and_what_is_dropped_is_counted() {
    let mut config = Config::default();
    config.sessions.queue_bytes_max = 4096;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.cut(a);
    for _ in 0..10 {
        sim.publish(publisher, "t", &"x".repeat(1000), QoS::AtLeastOnce, false);
    }
    sim.connect("a").clean_start(false).accepted();
    let dropped = sim.shards[0].stats().dropped[DropReason::QueueFull];
    assert!(dropped > 0);
    assert_eq!(sim.received(a).len() as u64 + dropped, 10);
}
