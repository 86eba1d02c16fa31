//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (§3.8 to §3.11).

use crate::harness::parse::{PUBLISH, PUBREL, SUBACK, UNSUBACK};
use crate::harness::property::{self, number, user};
use crate::harness::wire::{self, NO_LOCAL, acknowledgement};
use crate::harness::{Broker, Connect, Publish, unique};

#[test]
fn mqtt_3_8_1_1_subscribe_with_wrong_flags_is_malformed() {
    let mut client = Broker::shared().client(5);
    let mut bytes = wire::subscribe(5, 1, &[("a", 0)], &[]);
    bytes[0] = 0x80;
    client.send(&bytes);
    client.expect_disconnect(&[0x81]);
}

#[test]
fn v311_mqtt_3_8_1_1_subscribe_with_wrong_flags_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    let mut bytes = wire::subscribe(4, 1, &[("a", 0)], &[]);
    bytes[0] = 0x80;
    client.send(&bytes);
    client.expect_closed();
}

#[test]
fn mqtt_3_8_3_1_topic_filter_must_be_utf_8() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x82, &[0, 1, 0, 0, 2, 0xC3, 0x28, 0]));
    client.expect_disconnect(&[0x81, 0x8F]);
}

#[test]
fn mqtt_3_8_3_2_subscribe_without_topic_filter_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 1, &[], &[]));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn v311_mqtt_3_8_3_3_subscribe_without_topic_filter_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.send(&wire::subscribe(4, 1, &[], &[]));
    client.expect_closed();
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_clients_own_messages_away() {
    let broker = Broker::shared();
    let topic = unique("local");
    let mut client = broker.client(5);
    client.subscribe(&topic, 1 | NO_LOCAL);
    client.publish(Publish::new(&topic, "mine").qos(1));
    broker.client(5).publish(Publish::new(&topic, "theirs").qos(1));
    assert_eq!(client.message().text(), "theirs");
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 1, &[("$share/group/a", NO_LOCAL)], &[]));
    client.expect_disconnect(&[0x82]);
}

#[test]
fn mqtt_3_8_3_5_reserved_subscription_options_are_malformed() {
    for options in [0x40, 0x80] {
        let mut client = Broker::shared().client(5);
        client.send(&wire::subscribe(5, 1, &[("a", options)], &[]));
        client.expect_disconnect(&[0x81]);
    }
}

#[test]
fn mqtt_3_8_3_1_subscription_with_qos_3_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 1, &[("a", 3)], &[]));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn mqtt_3_8_3_1_retain_handling_3_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 1, &[("a", 0x30)], &[]));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn v311_mqtt_3_8_3_4_reserved_bits_or_qos_3_end_the_connection() {
    for requested in [3, 0x04, 0x80] {
        let mut client = Broker::shared().client(4);
        client.send(&wire::subscribe(4, 1, &[("a", requested)], &[]));
        client.expect_closed();
    }
}

#[test]
fn mqtt_3_8_4_1_subscribe_is_answered_by_suback_and_2_with_its_identifier() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 60_000, &[("a", 0)], &[]));
    assert_eq!(client.expect(SUBACK).packet_id, 60_000);
}

#[test]
fn v311_mqtt_3_8_4_1_subscribe_is_answered_by_suback_and_2_with_its_identifier() {
    let mut client = Broker::shared().client(4);
    client.send(&wire::subscribe(4, 60_000, &[("a", 0)], &[]));
    assert_eq!(client.expect(SUBACK).packet_id, 60_000);
}

#[test]
fn mqtt_3_8_4_3_same_topic_filter_replaces_the_subscription() {
    let broker = Broker::shared();
    let topic = unique("replaced");
    let mut client = broker.client(5);
    client.subscribe_with(&[(&topic, 2)], &[number(property::SUBSCRIPTION_IDENTIFIER, 1)]);
    client.subscribe_with(&[(&topic, 1)], &[number(property::SUBSCRIPTION_IDENTIFIER, 2)]);
    client.publish(Publish::new(&topic, "x").qos(2));
    let messages = client.until_own_marker();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].qos(), messages[0].subscription_identifiers()), (1, vec![2]));
}

#[test]
fn v311_mqtt_3_8_4_3_same_topic_filter_replaces_the_subscription() {
    let broker = Broker::shared();
    let topic = unique("replaced");
    let mut client = broker.client(4);
    client.subscribe(&topic, 2);
    client.subscribe(&topic, 0);
    client.publish(Publish::new(&topic, "x").qos(2));
    let messages = client.until_own_marker();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].qos(), 0);
}

#[test]
fn mqtt_3_8_4_5_and_6_several_filters_are_answered_one_by_one_in_order() {
    let mut client = Broker::shared().client(5);
    let suback = client.subscribe_with(&[("m/0", 0), ("m/1", 1), ("m/2/+", 2), ("m/#", 1)], &[]);
    assert_eq!(suback.reasons, [0, 1, 2, 1]); // [MQTT-3.9.3-1]
}

#[test]
fn v311_mqtt_3_8_4_4_and_5_several_filters_are_answered_one_by_one_in_order() {
    let mut client = Broker::shared().client(4);
    let suback = client.subscribe_with(&[("m/0", 2), ("m/1", 0), ("m/2/+", 1)], &[]);
    assert_eq!(suback.reasons, [2, 0, 1]); // [v3.1.1 MQTT-3.9.3-1]
}

#[test]
fn mqtt_3_8_4_8_granted_qos_limits_what_is_delivered() {
    let broker = Broker::shared();
    let topic = unique("granted");
    let mut client = broker.client(5);
    assert_eq!(client.subscribe(&topic, 1), 1); // [MQTT-3.8.4-7]
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    assert_eq!(client.message().qos(), 1);
}

#[test]
fn v311_mqtt_3_8_4_6_delivery_takes_the_lower_qos() {
    let broker = Broker::shared();
    let topic = unique("granted");
    let mut client = broker.client(4);
    client.subscribe(&topic, 2);
    broker.client(4).publish(Publish::new(&topic, "x").qos(1));
    assert_eq!(client.message().qos(), 1);
}

#[test]
fn mqtt_3_8_2_1_2_subscription_identifier_0_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 1, &[("a", 0)], &[number(property::SUBSCRIPTION_IDENTIFIER, 0)]));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn mqtt_3_8_2_1_2_second_subscription_identifier_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    let identifier = number(property::SUBSCRIPTION_IDENTIFIER, 1);
    client.send(&wire::subscribe(5, 1, &[("a", 0)], &[identifier.clone(), identifier]));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn mqtt_3_8_2_1_3_user_properties_on_subscribe_are_accepted() {
    let mut client = Broker::shared().client(5);
    let suback = client.subscribe_with(&[("a", 1)], &[user("k", "1"), user("k", "2")]);
    assert_eq!(suback.reasons, [1]);
}

#[test]
fn mqtt_3_2_2_3_12_subscription_identifiers_are_refused_where_they_are_off() {
    let broker = Broker::start("[features]\nsubscription_identifiers = false\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::SUBSCRIPTION_IDENTIFIER_AVAILABLE), Some(0));
    client.send(&wire::subscribe(5, 1, &[("a", 0)], &[number(property::SUBSCRIPTION_IDENTIFIER, 1)]));
    client.expect_disconnect(&[0xA1]);
}

#[test]
fn mqtt_3_2_2_3_11_wildcards_are_refused_where_they_are_off() {
    let broker = Broker::start("[features]\nwildcard_subscriptions = false\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::WILDCARD_SUBSCRIPTION_AVAILABLE), Some(0));
    client.send(&wire::subscribe(5, 1, &[("a/#", 0)], &[]));
    let answer = client.receive();
    assert!(answer.reason == 0xA2 || answer.reasons == [0xA2], "{answer:?}");
}

#[test]
fn mqtt_3_9_3_2_subscription_above_the_sessions_limit_is_refused() {
    let broker = Broker::start("[limits]\nsubscriptions_per_session_max = 2\n");
    let mut client = broker.client(5);
    let suback = client.subscribe_with(&[("a", 0), ("b", 1), ("c", 2)], &[]);
    assert_eq!(suback.reasons, [0, 1, 0x97]);
    let mut client = broker.client(4);
    assert_eq!(client.subscribe_with(&[("a", 0), ("b", 1), ("c", 2)], &[]).reasons, [0, 1, 0x80]);
}

#[test]
fn mqtt_3_10_1_1_unsubscribe_with_wrong_flags_is_malformed() {
    let mut client = Broker::shared().client(5);
    let mut bytes = wire::unsubscribe(5, 1, &["a"]);
    bytes[0] = 0xA0;
    client.send(&bytes);
    client.expect_disconnect(&[0x81]);
}

#[test]
fn v311_mqtt_3_10_1_1_unsubscribe_with_wrong_flags_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    let mut bytes = wire::unsubscribe(4, 1, &["a"]);
    bytes[0] = 0xA0;
    client.send(&bytes);
    client.expect_closed();
}

#[test]
fn mqtt_3_10_3_1_topic_filter_of_unsubscribe_must_be_utf_8() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xA2, &[0, 1, 0, 0, 2, 0xC3, 0x28]));
    client.expect_disconnect(&[0x81, 0x8F]);
}

#[test]
fn mqtt_3_10_3_2_unsubscribe_without_topic_filter_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::unsubscribe(5, 1, &[]));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn v311_mqtt_3_10_3_2_unsubscribe_without_topic_filter_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.send(&wire::unsubscribe(4, 1, &[]));
    client.expect_closed();
}

#[test]
fn mqtt_3_10_4_1_unsubscribe_compares_character_by_character() {
    let broker = Broker::shared();
    let topic = unique("exact");
    let mut client = broker.client(5);
    client.subscribe(&format!("{topic}/#"), 0);
    // A filter that matches less, or covers the other, is a different one.
    assert_eq!(client.unsubscribe(&[&format!("{topic}/+"), &topic, "#"]).reasons, [0x11, 0x11, 0x11]);
    client.publish(Publish::new(&format!("{topic}/x"), "still here"));
    assert_eq!(client.message().text(), "still here");
}

#[test]
fn mqtt_3_10_4_2_unsubscribed_client_gets_no_new_messages() {
    let broker = Broker::shared();
    let topic = unique("ended");
    let mut client = broker.client(5);
    client.subscribe(&topic, 1);
    assert_eq!(client.unsubscribe(&[&topic]).reasons, [0]);
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "x").qos(1));
    assert!(client.until_marker_of(&mut publisher).is_empty());
}

#[test]
fn v311_mqtt_3_10_4_2_unsubscribed_client_gets_no_new_messages() {
    let broker = Broker::shared();
    let topic = unique("ended");
    let mut client = broker.client(4);
    client.subscribe(&topic, 1);
    client.unsubscribe(&[&topic]);
    let mut publisher = broker.client(4);
    publisher.publish(Publish::new(&topic, "x").qos(1));
    assert!(client.until_marker_of(&mut publisher).is_empty());
}

#[test]
fn mqtt_3_10_4_3_delivery_in_flight_is_completed_after_unsubscribe() {
    let broker = Broker::shared();
    let topic = unique("flight");
    let mut client = broker.client(5);
    client.subscribe(&topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    let publish = client.await_kind(PUBLISH);
    client.unsubscribe(&[&topic]);
    client.send(&acknowledgement(crate::harness::parse::PUBREC, publish.packet_id));
    assert_eq!(client.expect(PUBREL).reason, 0);
}

#[test]
fn mqtt_3_10_4_4_unsuback_comes_even_when_nothing_matches() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::unsubscribe(5, 61_000, &["never/subscribed"]));
    let unsuback = client.expect(UNSUBACK);
    assert_eq!((unsuback.packet_id, unsuback.reasons), (61_000, vec![0x11])); // [MQTT-3.11.3-2]
}

#[test]
fn v311_mqtt_3_10_4_5_unsuback_comes_even_when_nothing_matches() {
    let mut client = Broker::shared().client(4);
    client.send(&wire::unsubscribe(4, 61_000, &["never/subscribed"]));
    let unsuback = client.expect(UNSUBACK);
    assert_eq!((unsuback.packet_id, unsuback.length), (61_000, 4)); // 3.x has no payload here.
}

#[test]
fn mqtt_3_10_4_6_several_filters_are_answered_one_by_one_in_order() {
    let mut client = Broker::shared().client(5);
    client.subscribe_with(&[("u/1", 0), ("u/3", 0)], &[]);
    assert_eq!(client.unsubscribe(&["u/1", "u/2", "u/3"]).reasons, [0, 0x11, 0]); // [MQTT-3.11.3-1]
}

#[test]
fn v311_mqtt_3_10_4_6_several_filters_end_as_if_one_by_one() {
    let broker = Broker::shared();
    let topics = [unique("several"), unique("several")];
    let mut client = broker.client(4);
    client.subscribe_with(&[(&topics[0], 0), (&topics[1], 0)], &[]);
    client.unsubscribe(&[&topics[0], &topics[1]]);
    for topic in topics.iter() {
        client.publish(Publish::new(topic, "x"));
    }
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_8_4_subscription_is_in_force_on_every_shard_when_suback_arrives() {
    let broker = Broker::shared();
    let mut publishers: Vec<_> = (0..4).map(|_| broker.client(5)).collect();
    let mut watcher = broker.connect(Connect::v5(&unique("watcher")));
    for round in 0..20 {
        let topic = unique("fresh");
        watcher.subscribe(&topic, 0);
        publishers[round % 4].publish(Publish::new(&topic, "x"));
        assert_eq!(watcher.message().topic, topic);
    }
}
