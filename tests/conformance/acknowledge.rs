//! The exchanges of QoS 1 and QoS 2 (§3.4 to §3.7, §4.3, §4.4, §4.6).

use crate::harness::parse::{PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL};
use crate::harness::wire::{self, acknowledgement, acknowledgement_with_reason};
use crate::harness::{Broker, Client, Connect, Publish, unique};

/// A watcher of `topic` with a session that survives, and its Client Identifier.
fn watcher(broker: &Broker, version: u8, topic: &str, qos: u8) -> (Client, String) {
    let id = unique("watcher");
    let mut client = broker.connect(Connect::new(version, &id).persistent());
    client.subscribe(topic, qos);
    (client, id)
}

fn back(broker: &Broker, version: u8, id: &str) -> Client {
    let client = broker.connect(Connect::new(version, id).persistent().resume());
    assert!(client.session_present());
    client
}

#[test]
fn mqtt_4_3_1_1_qos_0_is_delivered_once_with_qos_0() {
    let broker = Broker::shared();
    let topic = unique("qos0");
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x"));
    let message = client.message();
    assert_eq!((message.qos(), message.dup(), message.packet_id), (0, false, 0));
}

#[test]
fn mqtt_4_3_2_2_qos_1_is_delivered_with_an_identifier_and_without_dup() {
    let broker = Broker::shared();
    let topic = unique("qos1");
    let (mut client, _) = watcher(&broker, 5, &topic, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(1));
    let message = client.message();
    assert_eq!((message.qos(), message.dup()), (1, false));
}

#[test]
fn mqtt_4_3_2_3_unacknowledged_qos_1_message_is_resent_with_dup() {
    let broker = Broker::shared();
    let topic = unique("qos1");
    let (mut client, id) = watcher(&broker, 5, &topic, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(1));
    let first = client.expect(PUBLISH);
    client.cut();
    let second = back(&broker, 5, &id).message();
    assert_eq!((second.text().as_str(), second.dup()), ("x", true)); // [MQTT-3.3.1-1]
    assert_eq!(second.packet_id, first.packet_id); // [MQTT-4.4.0-1]
}

#[test]
fn v311_mqtt_4_4_0_1_unacknowledged_messages_are_resent_with_their_identifiers() {
    let broker = Broker::shared();
    let topic = unique("resend");
    let (mut client, id) = watcher(&broker, 4, &topic, 2);
    let mut publisher = broker.client(4);
    publisher.publish(Publish::new(&topic, "one").qos(1));
    publisher.publish(Publish::new(&topic, "two").qos(2));
    let first: Vec<_> = (0..2).map(|_| client.expect(PUBLISH)).collect();
    client.cut();
    let mut client = back(&broker, 4, &id);
    for before in first {
        let after = client.expect(PUBLISH);
        assert_eq!((after.packet_id, after.text(), after.qos()), (before.packet_id, before.text(), before.qos()));
        assert!(after.dup());
    }
}

#[test]
fn mqtt_4_3_2_4_puback_ends_the_delivery() {
    let broker = Broker::shared();
    let topic = unique("qos1");
    let (mut client, id) = watcher(&broker, 5, &topic, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(1));
    client.message();
    client.ping(); // The server has seen the PUBACK.
    client.cut();
    assert!(back(&broker, 5, &id).until_own_marker().is_empty());
}

#[test]
fn mqtt_4_3_2_5_qos_1_identifier_can_be_used_again_after_puback() {
    let broker = Broker::shared();
    let topic = unique("again");
    let (mut client, _) = watcher(&broker, 5, &topic, 1);
    let mut publisher = broker.client(5);
    for payload in ["one", "two"] {
        publisher.publish_only(&Publish::new(&topic, payload).qos(1).id(9));
        assert_eq!(publisher.expect(PUBACK).packet_id, 9);
    }
    assert_eq!(client.payloads(2), ["one", "two"]);
}

#[test]
fn v311_mqtt_4_3_2_2_qos_1_publish_is_a_new_message_after_puback_whatever_its_dup() {
    let broker = Broker::shared();
    let topic = unique("again");
    let (mut client, _) = watcher(&broker, 4, &topic, 1);
    let mut publisher = broker.client(4);
    publisher.publish_only(&Publish::new(&topic, "one").qos(1).id(9));
    publisher.expect(PUBACK);
    publisher.publish_only(&Publish::new(&topic, "two").qos(1).id(9).dup());
    publisher.expect(PUBACK);
    assert_eq!(client.payloads(2), ["one", "two"]);
}

#[test]
fn mqtt_4_3_3_8_to_11_qos_2_publish_is_answered_by_pubrec_and_pubcomp() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new(&unique("qos2"), "x").qos(2).id(5));
    assert_eq!(client.expect(PUBREC).packet_id, 5);
    client.send(&acknowledgement(PUBREL, 5));
    let pubcomp = client.expect(PUBCOMP);
    assert_eq!((pubcomp.packet_id, pubcomp.reason), (5, 0));
}

#[test]
fn mqtt_4_3_3_10_qos_2_message_sent_twice_is_delivered_once() {
    let broker = Broker::shared();
    let topic = unique("once");
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    let mut publisher = broker.client(5);
    publisher.publish_only(&Publish::new(&topic, "x").qos(2).id(5));
    publisher.expect(PUBREC);
    publisher.publish_only(&Publish::new(&topic, "x").qos(2).id(5).dup());
    assert_eq!(publisher.expect(PUBREC).packet_id, 5);
    publisher.send(&acknowledgement(PUBREL, 5));
    publisher.expect(PUBCOMP);
    assert_eq!(client.until_marker_of(&mut publisher).len(), 1);
}

#[test]
fn v311_mqtt_4_3_3_2_qos_2_message_sent_twice_is_delivered_once() {
    let broker = Broker::shared();
    let topic = unique("once");
    let (mut client, _) = watcher(&broker, 4, &topic, 2);
    let mut publisher = broker.client(4);
    publisher.publish_only(&Publish::new(&topic, "x").qos(2).id(5));
    publisher.expect(PUBREC);
    publisher.publish_only(&Publish::new(&topic, "x").qos(2).id(5).dup());
    publisher.expect(PUBREC);
    publisher.send(&acknowledgement(PUBREL, 5));
    publisher.expect(PUBCOMP);
    assert_eq!(client.until_marker_of(&mut publisher).len(), 1);
}

#[test]
fn mqtt_4_3_3_10_qos_2_message_is_not_doubled_by_a_reconnect() {
    let broker = Broker::shared();
    let (topic, id) = (unique("once"), unique("publisher"));
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    let mut publisher = broker.connect(Connect::v5(&id).persistent());
    publisher.publish_only(&Publish::new(&topic, "x").qos(2).id(5));
    publisher.expect(PUBREC);
    publisher.cut();
    let mut publisher = back(&broker, 5, &id);
    publisher.publish_only(&Publish::new(&topic, "x").qos(2).id(5).dup());
    publisher.expect(PUBREC);
    publisher.send(&acknowledgement(PUBREL, 5));
    publisher.expect(PUBCOMP);
    assert_eq!(client.until_marker_of(&mut publisher).len(), 1);
}

#[test]
fn mqtt_4_3_3_12_qos_2_identifier_names_a_new_message_after_pubcomp() {
    let broker = Broker::shared();
    let topic = unique("again");
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    let mut publisher = broker.client(5);
    for payload in ["one", "two"] {
        publisher.publish_only(&Publish::new(&topic, payload).qos(2).id(5));
        publisher.expect(PUBREC);
        publisher.send(&acknowledgement(PUBREL, 5));
        publisher.expect(PUBCOMP);
    }
    assert_eq!(client.payloads(2), ["one", "two"]);
}

#[test]
fn mqtt_4_3_3_4_pubrec_is_answered_by_pubrel_with_its_identifier() {
    let broker = Broker::shared();
    let topic = unique("qos2");
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    let publish = client.expect(PUBLISH);
    assert_eq!((publish.qos(), publish.dup()), (2, false)); // [MQTT-4.3.3-2]
    client.send(&acknowledgement(PUBREC, publish.packet_id));
    let pubrel = client.expect(PUBREL);
    assert_eq!((pubrel.packet_id, pubrel.reason), (publish.packet_id, 0));
}

#[test]
fn mqtt_4_3_3_3_unacknowledged_qos_2_message_is_resent_with_dup() {
    let broker = Broker::shared();
    let topic = unique("qos2");
    let (mut client, id) = watcher(&broker, 5, &topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    let first = client.expect(PUBLISH);
    client.cut();
    let second = back(&broker, 5, &id).message();
    assert_eq!((second.packet_id, second.dup(), second.qos()), (first.packet_id, true, 2));
}

#[test]
fn mqtt_4_3_3_6_after_pubrec_only_the_pubrel_is_resent() {
    let broker = Broker::shared();
    let topic = unique("qos2");
    let (mut client, id) = watcher(&broker, 5, &topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    let publish = client.expect(PUBLISH);
    client.send(&acknowledgement(PUBREC, publish.packet_id));
    client.expect(PUBREL);
    client.cut();
    let mut client = back(&broker, 5, &id);
    assert_eq!(client.expect(PUBREL).packet_id, publish.packet_id); // [MQTT-4.3.3-5]
    client.send(&acknowledgement(PUBCOMP, publish.packet_id));
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn v311_mqtt_4_3_3_1_pubrel_is_resent_after_a_reconnect() {
    let broker = Broker::shared();
    let topic = unique("qos2");
    let (mut client, id) = watcher(&broker, 4, &topic, 2);
    broker.client(4).publish(Publish::new(&topic, "x").qos(2));
    let publish = client.expect(PUBLISH);
    client.send(&acknowledgement(PUBREC, publish.packet_id));
    client.expect(PUBREL);
    client.cut();
    assert_eq!(back(&broker, 4, &id).expect(PUBREL).packet_id, publish.packet_id);
}

#[test]
fn mqtt_4_3_3_pubcomp_ends_the_delivery() {
    let broker = Broker::shared();
    let topic = unique("qos2");
    let (mut client, id) = watcher(&broker, 5, &topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    client.message();
    client.ping();
    client.cut();
    assert!(back(&broker, 5, &id).until_own_marker().is_empty());
}

#[test]
fn mqtt_4_4_0_2_negative_pubrec_ends_the_delivery() {
    let broker = Broker::shared();
    let topic = unique("qos2");
    let (mut client, id) = watcher(&broker, 5, &topic, 2);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2));
    let publish = client.expect(PUBLISH);
    client.send(&acknowledgement_with_reason(PUBREC, publish.packet_id, 0x97));
    client.ping(); // No PUBREL comes.
    client.cut();
    assert!(back(&broker, 5, &id).until_own_marker().is_empty());
}

#[test]
fn mqtt_4_4_0_2_negative_puback_ends_the_delivery() {
    let broker = Broker::shared();
    let topic = unique("qos1");
    let (mut client, id) = watcher(&broker, 5, &topic, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(1));
    let publish = client.expect(PUBLISH);
    client.send(&acknowledgement_with_reason(PUBACK, publish.packet_id, 0x80));
    client.ping();
    client.cut();
    assert!(back(&broker, 5, &id).until_own_marker().is_empty());
}

#[test]
fn mqtt_4_4_0_1_nothing_is_resent_while_the_connection_lasts() {
    let broker = Broker::shared();
    let topic = unique("patient");
    let (mut client, _) = watcher(&broker, 5, &topic, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(1));
    client.expect(PUBLISH);
    client.expect_quiet();
}

#[test]
fn mqtt_4_5_0_2_client_may_acknowledge_what_it_receives_in_any_order() {
    let broker = Broker::shared();
    let topic = unique("any");
    let (mut client, _) = watcher(&broker, 5, &topic, 1);
    let mut publisher = broker.client(5);
    for _ in 0..3 {
        publisher.publish(Publish::new(&topic, "x").qos(1));
    }
    let identifiers: Vec<u16> = (0..3).map(|_| client.expect(PUBLISH).packet_id).collect();
    identifiers.iter().rev().for_each(|id| client.send(&acknowledgement(PUBACK, *id)));
    client.ping();
}

#[test]
fn mqtt_4_6_0_2_pubacks_come_in_the_order_of_the_messages() {
    let mut client = Broker::shared().client(5);
    let ids = [7, 3, 9, 1];
    let bytes: Vec<u8> = ids.iter().flat_map(|id| Publish::new("order", "x").qos(1).id(*id).encode(5)).collect();
    client.send(&bytes);
    assert_eq!(ids.map(|_| client.expect(PUBACK).packet_id), ids);
}

#[test]
fn mqtt_4_6_0_3_pubrecs_come_in_the_order_of_the_messages() {
    let mut client = Broker::shared().client(5);
    let ids = [7, 3, 9, 1];
    let bytes: Vec<u8> = ids.iter().flat_map(|id| Publish::new("order", "x").qos(2).id(*id).encode(5)).collect();
    client.send(&bytes);
    assert_eq!(ids.map(|_| client.expect(PUBREC).packet_id), ids);
    let bytes: Vec<u8> = ids.iter().flat_map(|id| acknowledgement(PUBREL, *id)).collect();
    client.send(&bytes);
    assert_eq!(ids.map(|_| client.expect(PUBCOMP).packet_id), ids); // [MQTT-4.6.0-4]
}

#[test]
fn mqtt_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs() {
    let broker = Broker::shared();
    let topic = unique("order");
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    let mut publisher = broker.client(5);
    for _ in 0..3 {
        publisher.publish(Publish::new(&topic, "x").qos(2));
    }
    let mut ids: Vec<u16> = (0..3).map(|_| client.expect(PUBLISH).packet_id).collect();
    ids.reverse();
    ids.iter().for_each(|id| client.send(&acknowledgement(PUBREC, *id)));
    let pubrels: Vec<u16> = ids.iter().map(|_| client.expect(PUBREL).packet_id).collect();
    assert_eq!(pubrels, ids);
}

#[test]
fn mqtt_4_6_0_6_messages_of_one_publisher_and_qos_keep_their_order() {
    let broker = Broker::shared();
    for qos in 0..=2 {
        let topic = unique("ordered");
        let (mut client, _) = watcher(&broker, 5, &topic, qos);
        let mut publisher = broker.client(5);
        let expected: Vec<String> = (0..200).map(|index| index.to_string()).collect();
        for payload in expected.iter() {
            publisher.publish(Publish::new(&topic, payload).qos(qos));
        }
        assert_eq!(client.payloads(200), expected);
    }
}

#[test]
fn mqtt_4_6_0_1_messages_are_resent_in_their_order() {
    let broker = Broker::shared();
    let topic = unique("ordered");
    let (mut client, id) = watcher(&broker, 5, &topic, 1);
    let mut publisher = broker.client(5);
    let expected: Vec<String> = (0..50).map(|index| index.to_string()).collect();
    for payload in expected.iter() {
        publisher.publish(Publish::new(&topic, payload).qos(1));
    }
    for _ in 0..50 {
        client.expect(PUBLISH);
    }
    client.cut();
    assert_eq!(back(&broker, 5, &id).payloads(50), expected);
}

#[test]
fn mqtt_3_6_1_1_pubrel_with_wrong_flags_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").qos(2).id(1));
    client.expect(PUBREC);
    client.send(&wire::packet(0x60, &[0, 1]));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn v311_mqtt_3_6_1_1_pubrel_with_wrong_flags_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.publish_only(&Publish::new("a", "x").qos(2).id(1));
    client.expect(PUBREC);
    client.send(&wire::packet(0x60, &[0, 1]));
    client.expect_closed();
}

#[test]
fn mqtt_3_7_2_1_pubrel_for_an_unknown_identifier_is_told() {
    let mut client = Broker::shared().client(5);
    client.send(&acknowledgement(PUBREL, 4711));
    let pubcomp = client.expect(PUBCOMP);
    assert_eq!((pubcomp.packet_id, pubcomp.reason), (4711, 0x92));
}

#[test]
fn v311_pubrel_for_an_unknown_identifier_is_answered_by_pubcomp() {
    let mut client = Broker::shared().client(4);
    client.send(&acknowledgement(PUBREL, 4711));
    assert_eq!(client.expect(PUBCOMP).packet_id, 4711);
}

#[test]
fn mqtt_3_5_2_1_pubrec_for_an_unknown_identifier_is_told() {
    let mut client = Broker::shared().client(5);
    client.send(&acknowledgement(PUBREC, 4711));
    let pubrel = client.expect(PUBREL);
    assert_eq!((pubrel.packet_id, pubrel.reason), (4711, 0x92));
}

#[test]
fn mqtt_4_3_3_7_qos_2_delivery_goes_on_after_the_message_would_have_expired() {
    let broker = Broker::shared();
    let topic = unique("expiry");
    let (mut client, _) = watcher(&broker, 5, &topic, 2);
    let short = crate::harness::property::number(crate::harness::property::MESSAGE_EXPIRY_INTERVAL, 1);
    broker.client(5).publish(Publish::new(&topic, "x").qos(2).property(short));
    let publish = client.expect(PUBLISH);
    std::thread::sleep(crate::harness::millis(1200));
    client.send(&acknowledgement(PUBREC, publish.packet_id));
    assert_eq!(client.expect(PUBREL).reason, 0); // [MQTT-4.3.3-13]
}

#[test]
fn mqtt_4_3_2_1_every_qos_pair_is_delivered_at_the_lower_qos() {
    let broker = Broker::shared();
    for (published, granted) in (0..=2).flat_map(|published| (0..=2).map(move |granted| (published, granted))) {
        let topic = unique("pair");
        let (mut client, _) = watcher(&broker, 5, &topic, granted);
        broker.client(5).publish(Publish::new(&topic, "x").qos(published));
        assert_eq!(client.message().qos(), published.min(granted)); // [MQTT-3.8.4-8]
    }
}
