//! PUBLISH and retained messages (§3.3).

use crate::harness::parse::{PUBACK, PUBLISH};
use crate::harness::property::{self, number};
use crate::harness::wire::{self, RETAIN_AS_PUBLISHED, RETAIN_IF_NEW, RETAIN_NEVER};
use crate::harness::{Broker, Connect, Publish, unique};

#[test]
fn mqtt_3_3_1_2_qos_0_with_dup_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").dup());
    client.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn v311_mqtt_3_3_1_2_qos_0_with_dup_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.publish_only(&Publish::new("a", "x").dup());
    client.expect_closed();
}

#[test]
fn mqtt_3_3_1_3_dup_of_the_publisher_is_not_passed_on() {
    let broker = Broker::shared();
    let topic = unique("dup");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(1).dup());
    assert!(!watcher.message().dup());
}

#[test]
fn v311_mqtt_3_3_1_3_dup_of_the_publisher_is_not_passed_on() {
    let broker = Broker::shared();
    let topic = unique("dup");
    let mut watcher = broker.client(4);
    watcher.subscribe(&topic, 2);
    broker.client(4).publish(Publish::new(&topic, "x").qos(2).dup());
    assert!(!watcher.message().dup());
}

#[test]
fn mqtt_3_3_1_4_qos_3_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").qos(3).id(1));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn v311_mqtt_3_3_1_4_qos_3_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.publish_only(&Publish::new("a", "x").qos(3).id(1));
    client.expect_closed();
}

#[test]
fn mqtt_3_3_1_5_retained_message_reaches_a_later_subscriber() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "first").qos(1).retain());
    publisher.publish(Publish::new(&topic, "second").qos(1).retain()); // It replaces the first.
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    let message = later.message();
    assert_eq!((message.text().as_str(), message.retain(), message.qos()), ("second", true, 1));
    assert!(later.until_own_marker().is_empty());
}

#[test]
fn v311_mqtt_3_3_1_5_retained_message_reaches_a_later_subscriber() {
    let broker = Broker::shared();
    let topic = unique("retained");
    broker.client(4).publish(Publish::new(&topic, "kept").qos(2).retain());
    let mut later = broker.client(4);
    later.subscribe(&topic, 2);
    let message = later.message();
    assert_eq!((message.text().as_str(), message.retain(), message.qos()), ("kept", true, 2));
}

#[test]
fn mqtt_3_3_1_5_retained_message_of_qos_0_is_stored_too() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "kept").retain());
    publisher.ping();
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    let message = later.message();
    assert_eq!((message.text().as_str(), message.qos()), ("kept", 0));
}

#[test]
fn mqtt_3_3_1_5_retained_message_outlives_its_publishers_session() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "kept").qos(1).retain());
    publisher.disconnect();
    let mut later = broker.client(5);
    later.subscribe(&topic, 0);
    assert_eq!(later.message().text(), "kept");
}

#[test]
fn mqtt_3_3_1_6_empty_retained_payload_removes_the_message_and_is_delivered() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "kept").qos(1).retain());
    publisher.publish(Publish::new(&topic, "").qos(1).retain());
    assert_eq!(watcher.payloads(2), ["kept", ""]);
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    assert!(later.until_own_marker().is_empty()); // [MQTT-3.3.1-7]
}

#[test]
fn v311_mqtt_3_3_1_10_empty_retained_payload_removes_the_message() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut publisher = broker.client(4);
    publisher.publish(Publish::new(&topic, "kept").qos(1).retain());
    publisher.publish(Publish::new(&topic, "").qos(1).retain());
    let mut later = broker.client(4);
    later.subscribe(&topic, 1);
    assert!(later.until_own_marker().is_empty()); // [v3.1.1 MQTT-3.3.1-11]
}

#[test]
fn mqtt_3_3_1_8_message_without_retain_does_not_touch_the_stored_one() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "kept").qos(1).retain());
    publisher.publish(Publish::new(&topic, "passing").qos(1));
    publisher.publish(Publish::new(&topic, "").qos(1));
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    assert_eq!(later.message().text(), "kept");
}

#[test]
fn v311_mqtt_3_3_1_8_stored_message_is_sent_with_retain_set() {
    let broker = Broker::shared();
    let topic = unique("retained");
    broker.client(4).publish(Publish::new(&topic, "kept").qos(1).retain());
    let mut later = broker.client(4);
    later.subscribe(&topic, 0);
    assert!(later.message().retain());
}

#[test]
fn v311_mqtt_3_3_1_9_established_subscription_sees_retain_cleared() {
    let broker = Broker::shared();
    let topic = unique("retained");
    let mut watcher = broker.client(4);
    watcher.subscribe(&topic, 1);
    broker.client(4).publish(Publish::new(&topic, "kept").qos(1).retain());
    assert!(!watcher.message().retain());
}

#[test]
fn mqtt_3_3_1_9_retain_handling_0_sends_at_every_subscribe() {
    let broker = Broker::shared();
    let topic = unique("handling");
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1).retain());
    let mut client = broker.client(5);
    client.subscribe(&topic, 1);
    client.subscribe(&topic, 1); // [MQTT-3.8.4-4]
    assert_eq!(client.payloads(2), ["kept", "kept"]);
}

#[test]
fn v311_mqtt_3_8_4_3_repeated_subscribe_sends_retained_messages_again() {
    let broker = Broker::shared();
    let topic = unique("handling");
    broker.client(4).publish(Publish::new(&topic, "kept").qos(1).retain());
    let mut client = broker.client(4);
    client.subscribe(&topic, 1);
    client.subscribe(&topic, 0);
    assert_eq!(client.payloads(2), ["kept", "kept"]);
}

#[test]
fn mqtt_3_3_1_10_retain_handling_1_sends_only_for_a_new_subscription() {
    let broker = Broker::shared();
    let topic = unique("handling");
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1).retain());
    let mut client = broker.client(5);
    client.subscribe(&topic, 1 | RETAIN_IF_NEW);
    assert_eq!(client.message().text(), "kept");
    client.subscribe(&topic, 1 | RETAIN_IF_NEW);
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_3_1_11_retain_handling_2_sends_nothing() {
    let broker = Broker::shared();
    let topic = unique("handling");
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1).retain());
    let mut client = broker.client(5);
    client.subscribe(&topic, 1 | RETAIN_NEVER);
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_3_1_12_without_retain_as_published_retain_is_cleared() {
    let broker = Broker::shared();
    let topic = unique("published");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1).retain());
    assert!(!watcher.message().retain());
}

#[test]
fn mqtt_3_3_1_13_with_retain_as_published_retain_is_passed_on() {
    let broker = Broker::shared();
    let topic = unique("published");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1 | RETAIN_AS_PUBLISHED);
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "kept").qos(1).retain());
    publisher.publish(Publish::new(&topic, "passing").qos(1));
    assert!(watcher.message().retain());
    assert!(!watcher.message().retain());
}

#[test]
fn mqtt_3_3_1_retained_messages_match_wildcards() {
    let broker = Broker::shared();
    let root = unique("tree");
    let mut publisher = broker.client(5);
    for leaf in ["a/x", "a/y", "b/x", "a"] {
        publisher.publish(Publish::new(&format!("{root}/{leaf}"), leaf).qos(1).retain());
    }
    let mut client = broker.client(5);
    client.subscribe(&format!("{root}/+/x"), 1);
    let mut seen = client.payloads(2);
    seen.sort();
    assert_eq!(seen, ["a/x", "b/x"]);
    client.subscribe(&format!("{root}/a/#"), 1);
    let mut seen = client.payloads(3);
    seen.sort();
    assert_eq!(seen, ["a", "a/x", "a/y"]);
}

#[test]
fn mqtt_3_3_2_1_topic_name_must_be_utf_8() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::raw(&[b'a', 0xC0, 0x80], b"x"));
    client.expect_disconnect(&[0x81, 0x90]);
}

#[test]
fn mqtt_3_3_2_2_topic_name_must_not_hold_a_plus() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a/+/b", "x"));
    client.expect_disconnect(&[0x90, 0x81]);
}

#[test]
fn mqtt_3_3_2_2_topic_name_must_not_hold_a_number_sign() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a/#", "x"));
    client.expect_disconnect(&[0x90, 0x81]);
}

#[test]
fn v311_mqtt_3_3_2_2_topic_name_must_not_hold_wildcards() {
    for topic in ["a/+", "#"] {
        let mut client = Broker::shared().client(4);
        client.publish_only(&Publish::new(topic, "x"));
        client.expect_closed();
    }
}

#[test]
fn mqtt_3_3_2_4_payload_may_be_empty_and_any_bytes() {
    let broker = Broker::shared();
    let topic = unique("bytes");
    let mut client = broker.client(5);
    client.subscribe(&topic, 0);
    let every_byte: Vec<u8> = (0..=255).collect();
    client.publish(Publish::raw(topic.as_bytes(), &every_byte));
    client.publish(Publish::new(&topic, ""));
    assert_eq!(client.message().payload, every_byte);
    assert!(client.message().payload.is_empty());
}

#[test]
fn mqtt_3_3_2_large_payload_arrives_whole() {
    let broker = Broker::shared();
    let topic = unique("large");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    let payload: Vec<u8> = (0..700_000_u32).map(|index| (index % 251) as u8).collect();
    broker.client(5).publish(Publish::raw(topic.as_bytes(), &payload).qos(1));
    assert!(watcher.message().payload == payload);
}

#[test]
fn mqtt_3_3_2_5_expired_message_is_not_delivered() {
    let broker = Broker::shared();
    let (id, topic) = (unique("sleeper"), unique("expiry"));
    let mut sleeper = broker.connect(Connect::v5(&id).persistent());
    sleeper.subscribe(&topic, 1);
    sleeper.disconnect();
    let mut publisher = broker.client(5);
    let short = number(property::MESSAGE_EXPIRY_INTERVAL, 1);
    publisher.publish(Publish::new(&topic, "perishable").qos(1).property(short));
    publisher.publish(Publish::new(&topic, "durable").qos(1));
    std::thread::sleep(crate::harness::millis(1200));
    let mut sleeper = broker.connect(Connect::v5(&id).resume().persistent());
    assert_eq!(sleeper.message().text(), "durable");
}

#[test]
fn mqtt_3_3_2_5_expired_retained_message_is_not_delivered() {
    let broker = Broker::shared();
    let topic = unique("expiry");
    let short = number(property::MESSAGE_EXPIRY_INTERVAL, 1);
    broker.client(5).publish(Publish::new(&topic, "perishable").qos(1).retain().property(short));
    std::thread::sleep(crate::harness::millis(1200));
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    assert!(later.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_3_2_6_time_spent_waiting_is_taken_off_the_expiry_interval() {
    let broker = Broker::shared();
    let topic = unique("expiry");
    let minute = number(property::MESSAGE_EXPIRY_INTERVAL, 60);
    broker.client(5).publish(Publish::new(&topic, "perishable").qos(1).retain().property(minute));
    std::thread::sleep(crate::harness::millis(1100));
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    let left = later.message().number(property::MESSAGE_EXPIRY_INTERVAL).unwrap();
    assert!((50..60).contains(&left), "{left}");
}

#[test]
fn mqtt_3_3_4_1_qos_1_is_answered_by_puback_and_qos_0_by_nothing() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("answer", "x"));
    client.publish_only(&Publish::new("answer", "x").qos(1).id(77));
    assert_eq!(client.expect(PUBACK).packet_id, 77);
}

#[test]
fn mqtt_3_3_4_1_puback_may_tell_that_nobody_subscribed() {
    let reason = Broker::shared().client(5).publish(Publish::new(&unique("nobody"), "x").qos(1));
    assert!([0x00, 0x10].contains(&reason), "{reason:#04x}");
}

#[test]
fn mqtt_3_3_4_6_subscription_identifier_from_a_client_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").property(number(property::SUBSCRIPTION_IDENTIFIER, 1)));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn mqtt_3_3_4_3_one_subscription_gives_its_identifier() {
    let broker = Broker::shared();
    let topic = unique("identified");
    let mut client = broker.client(5);
    client.subscribe_with(&[(&topic, 0)], &[number(property::SUBSCRIPTION_IDENTIFIER, 268_435_455)]);
    client.publish(Publish::new(&topic, "x"));
    assert_eq!(client.message().subscription_identifiers(), [268_435_455]);
}

#[test]
fn mqtt_3_3_4_2_and_4_overlapping_subscriptions_give_every_identifier_and_the_highest_qos() {
    let broker = Broker::shared();
    let topic = unique("overlap");
    let mut client = broker.client(5);
    client.subscribe_with(&[(&topic, 0)], &[number(property::SUBSCRIPTION_IDENTIFIER, 1)]);
    client.subscribe_with(&[(&format!("{topic}/#"), 1)], &[number(property::SUBSCRIPTION_IDENTIFIER, 200)]);
    client.publish(Publish::new(&topic, "x").qos(2));
    let messages = client.until_own_marker();
    let mut identifiers: Vec<u32> = messages.iter().flat_map(|message| message.subscription_identifiers()).collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [1, 200]); // In one copy or in two: the standard allows both.
    assert_eq!(messages.iter().map(|message| message.qos()).max(), Some(1));
}

#[test]
fn mqtt_3_3_4_5_copy_for_a_subscription_without_identifier_has_none() {
    let broker = Broker::shared();
    let topic = unique("unidentified");
    let mut client = broker.client(5);
    client.subscribe(&topic, 0);
    client.publish(Publish::new(&topic, "x"));
    assert!(client.message().subscription_identifiers().is_empty());
}

#[test]
fn v311_mqtt_3_3_5_1_overlapping_subscriptions_give_the_highest_qos() {
    let broker = Broker::shared();
    let topic = unique("overlap");
    let mut client = broker.client(4);
    client.subscribe_with(&[(&topic, 0), (&format!("{topic}/#"), 2)], &[]);
    client.publish(Publish::new(&topic, "x").qos(2));
    let messages = client.until_own_marker();
    assert_eq!(messages.iter().map(|message| message.qos()).max(), Some(2));
}

#[test]
fn mqtt_3_3_5_message_reaches_clients_of_every_version() {
    let broker = Broker::shared();
    let topic = unique("versions");
    let mut watchers = [3, 4, 5].map(|version| broker.client(version));
    watchers.iter_mut().for_each(|watcher| assert_eq!(watcher.subscribe(&topic, 1), 1));
    for version in [3, 4, 5] {
        broker.client(version).publish(Publish::new(&topic, &format!("from {version}")).qos(1));
    }
    for watcher in &mut watchers {
        assert_eq!(watcher.payloads(3), ["from 3", "from 4", "from 5"]);
    }
}

#[test]
fn mqtt_2_2_1_2_qos_0_has_no_packet_identifier() {
    let broker = Broker::shared();
    let topic = unique("plain");
    let mut client = broker.client(4);
    client.subscribe(&topic, 0);
    client.publish(Publish::new(&topic, "x").qos(1)); // Delivered at QoS 0: a stray identifier would show in the payload.
    assert_eq!(client.message().text(), "x");
}

#[test]
fn mqtt_2_2_1_3_packet_identifier_0_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").qos(1).id(0));
    client.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn v311_mqtt_2_3_1_1_packet_identifier_0_ends_the_connection() {
    let broker = Broker::shared();
    let mut client = broker.client(4);
    client.publish_only(&Publish::new("a", "x").qos(1).id(0));
    client.expect_closed();
    let mut client = broker.client(4);
    client.send(&wire::subscribe(4, 0, &[("a", 0)], &[]));
    client.expect_closed();
}

#[test]
fn mqtt_2_2_1_4_server_gives_messages_in_flight_different_packet_identifiers() {
    let broker = Broker::shared();
    let topic = unique("flight");
    let mut client = broker.client(5);
    client.subscribe(&topic, 1);
    let mut publisher = broker.client(5);
    for _ in 0..10 {
        publisher.publish(Publish::new(&topic, "x").qos(1));
    }
    let mut identifiers: Vec<u16> = (0..10).map(|_| client.expect(PUBLISH).packet_id).collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 10);
}

#[test]
fn mqtt_2_2_1_packet_identifiers_of_client_and_server_are_independent() {
    let broker = Broker::shared();
    let topic = unique("independent");
    let mut client = broker.client(5);
    client.subscribe(&topic, 1);
    client.publish_only(&Publish::new(&topic, "x").qos(1).id(1));
    let publish = client.await_kind(PUBLISH);
    client.publish_only(&Publish::new(&topic, "y").qos(1).id(publish.packet_id)); // The server's own, still in flight.
    let ids = [client.await_kind(PUBACK).packet_id, client.await_kind(PUBACK).packet_id];
    assert_eq!(ids, [1, publish.packet_id]);
}
