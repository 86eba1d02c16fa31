//! Receive Maximum (§4.9) and Topic Aliases (§3.3.2.3.4).

use crate::harness::parse::{PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet};
use crate::harness::property::{self, number};
use crate::harness::wire::acknowledgement;
use crate::harness::{Broker, Client, Connect, Publish, unique};

/// A watcher with this Receive Maximum, to which ten messages of `qos` are on their way.
fn flooded(broker: &Broker, receive_maximum: u32, qos: u8) -> Client {
    let topic = unique("flood");
    let maximum = number(property::RECEIVE_MAXIMUM, receive_maximum);
    let mut watcher = broker.connect(Connect::v5(&unique("narrow")).property(maximum));
    watcher.subscribe(&topic, qos);
    let mut publisher = broker.client(5);
    for index in 0..10 {
        publisher.publish(Publish::new(&topic, &index.to_string()).qos(qos));
    }
    watcher
}

fn receive(client: &mut Client, count: usize) -> Vec<Packet> {
    (0..count).map(|_| client.expect(PUBLISH)).collect()
}

#[test]
fn mqtt_3_3_4_9_server_keeps_to_the_clients_receive_maximum() {
    let mut watcher = flooded(&Broker::shared(), 3, 1);
    receive(&mut watcher, 3);
    watcher.expect_quiet();
}

#[test]
fn mqtt_4_9_0_2_puback_lets_the_next_message_go() {
    let mut watcher = flooded(&Broker::shared(), 1, 1);
    for expected in 0..10 {
        let publish = watcher.expect(PUBLISH);
        assert_eq!(publish.text(), expected.to_string());
        watcher.send(&acknowledgement(PUBACK, publish.packet_id));
    }
}

#[test]
fn mqtt_4_9_0_2_pubcomp_and_not_pubrec_lets_the_next_message_go() {
    let mut watcher = flooded(&Broker::shared(), 1, 2);
    let first = watcher.expect(PUBLISH);
    watcher.send(&acknowledgement(PUBREC, first.packet_id));
    watcher.expect(PUBREL);
    watcher.expect_quiet();
    watcher.send(&acknowledgement(PUBCOMP, first.packet_id));
    assert_eq!(watcher.expect(PUBLISH).text(), "1");
}

#[test]
fn mqtt_4_9_0_2_negative_pubrec_lets_the_next_message_go() {
    let mut watcher = flooded(&Broker::shared(), 1, 2);
    let first = watcher.expect(PUBLISH);
    watcher.send(&crate::harness::wire::acknowledgement_with_reason(PUBREC, first.packet_id, 0x83));
    assert_eq!(watcher.expect(PUBLISH).text(), "1");
}

#[test]
fn mqtt_4_9_0_3_other_packets_pass_while_the_window_is_full() {
    let broker = Broker::shared();
    let mut watcher = flooded(&broker, 1, 1);
    watcher.expect(PUBLISH);
    watcher.ping();
    watcher.unsubscribe(&["nothing"]);
    let topic = unique("qos0");
    watcher.subscribe(&topic, 0);
    watcher.publish(Publish::new(&topic, "past the window").qos(1));
    assert_eq!(watcher.expect(PUBLISH).text(), "past the window");
}

#[test]
fn mqtt_4_9_0_1_window_starts_full_on_every_connection() {
    let broker = Broker::shared();
    let (id, topic) = (unique("narrow"), unique("flood"));
    let connect = Connect::v5(&id).persistent().property(number(property::RECEIVE_MAXIMUM, 2));
    let mut watcher = broker.connect(connect.clone());
    watcher.subscribe(&topic, 1);
    let mut publisher = broker.client(5);
    for index in 0..4 {
        publisher.publish(Publish::new(&topic, &index.to_string()).qos(1));
    }
    receive(&mut watcher, 2);
    watcher.cut();
    let mut watcher = broker.connect(connect.resume());
    assert!(receive(&mut watcher, 2).iter().all(Packet::dup));
    watcher.expect_quiet();
}

#[test]
fn mqtt_3_3_4_7_exceeding_the_servers_receive_maximum_ends_the_connection() {
    let broker = Broker::start("[limits]\nreceive_maximum = 2\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::RECEIVE_MAXIMUM), Some(2));
    let bytes: Vec<u8> = (1..=3).flat_map(|id| Publish::new("t", "x").qos(2).id(id).encode(5)).collect();
    client.send(&bytes); // No PUBREL follows, so all three stay open.
    client.expect_disconnect(&[0x93]);
}

#[test]
fn mqtt_3_3_4_7_repeating_a_message_in_flight_does_not_use_the_window_up() {
    let broker = Broker::start("[limits]\nreceive_maximum = 2\n");
    let mut client = broker.client(5);
    for _ in 0..5 {
        client.publish_only(&Publish::new("t", "x").qos(2).id(1).dup());
        client.expect(PUBREC);
    }
    client.ping();
}

#[test]
fn v311_receive_maximum_does_not_bind_3_x_clients() {
    let broker = Broker::start("[limits]\nreceive_maximum = 2\n");
    let mut client = broker.client(4);
    let ids: Vec<u16> = (1..=20).collect();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| Publish::new("t", "x").qos(2).id(*id).encode(4)).collect();
    client.send(&bytes);
    let answered: Vec<u16> = ids.iter().map(|_| client.expect(PUBREC).packet_id).collect();
    assert_eq!(answered, ids);
}

#[test]
fn mqtt_3_3_2_8_topic_alias_0_is_refused() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").property(number(property::TOPIC_ALIAS, 0)));
    client.expect_disconnect(&[0x94, 0x82]);
}

#[test]
fn mqtt_3_3_2_9_topic_alias_above_the_servers_maximum_is_refused() {
    let broker = Broker::start("[limits]\ntopic_alias_maximum = 5\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::TOPIC_ALIAS_MAXIMUM), Some(5)); // [MQTT-3.2.2-17]
    client.publish_only(&Publish::new("a", "x").property(number(property::TOPIC_ALIAS, 6)));
    client.expect_disconnect(&[0x94]);
}

#[test]
fn mqtt_3_2_2_18_without_topic_alias_maximum_no_alias_is_accepted() {
    let broker = Broker::start("[limits]\ntopic_alias_maximum = 0\n");
    let mut client = broker.client(5);
    assert!([None, Some(0)].contains(&client.connack.number(property::TOPIC_ALIAS_MAXIMUM)));
    client.publish_only(&Publish::new("a", "x").property(number(property::TOPIC_ALIAS, 1)));
    client.expect_disconnect(&[0x94]);
}

#[test]
fn mqtt_3_3_2_10_topic_alias_up_to_the_servers_maximum_works() {
    let broker = Broker::start("[limits]\ntopic_alias_maximum = 5\n");
    let mut client = broker.client(5);
    client.subscribe("#", 0);
    client.publish(Publish::new("first", "1").property(number(property::TOPIC_ALIAS, 5)));
    client.publish(Publish::new("", "2").property(number(property::TOPIC_ALIAS, 5)));
    client.publish(Publish::new("second", "3").property(number(property::TOPIC_ALIAS, 5))); // A new mapping.
    client.publish(Publish::new("", "4").property(number(property::TOPIC_ALIAS, 5)));
    let topics: Vec<String> = (0..4).map(|_| client.message().topic).collect();
    assert_eq!(topics, ["first", "first", "second", "second"]);
}

#[test]
fn mqtt_3_3_2_12_unknown_topic_alias_is_a_protocol_error() {
    let broker = Broker::start("[limits]\ntopic_alias_maximum = 5\n");
    let mut client = broker.client(5);
    client.publish_only(&Publish::new("", "x").property(number(property::TOPIC_ALIAS, 1)));
    client.expect_disconnect(&[0x82]);
}

#[test]
fn mqtt_3_3_2_7_topic_aliases_end_with_their_connection() {
    let broker = Broker::start("[limits]\ntopic_alias_maximum = 5\n");
    let mut client = broker.connect(Connect::v5("aliased").persistent());
    client.publish(Publish::new("a", "x").property(number(property::TOPIC_ALIAS, 1)));
    client.disconnect();
    let mut client = broker.connect(Connect::v5("aliased").persistent().resume());
    client.publish_only(&Publish::new("", "x").property(number(property::TOPIC_ALIAS, 1)));
    client.expect_disconnect(&[0x82]);
}

#[test]
fn mqtt_3_3_2_7_publishers_topic_alias_is_not_passed_on() {
    let broker = Broker::start("[limits]\ntopic_alias_maximum = 5\n");
    let mut watcher = broker.client(5);
    watcher.subscribe("a", 0);
    broker.client(5).publish(Publish::new("a", "x").property(number(property::TOPIC_ALIAS, 1)));
    let message = watcher.message();
    assert_eq!((message.topic.as_str(), message.number(property::TOPIC_ALIAS)), ("a", None));
}

#[test]
fn mqtt_3_1_2_27_no_topic_alias_to_a_client_that_did_not_ask() {
    let broker = Broker::start("[limits]\ntopic_alias_outgoing_max = 10\n");
    let mut client = broker.client(5);
    client.subscribe("a", 0);
    for _ in 0..3 {
        client.publish(Publish::new("a", "x"));
        let message = client.message();
        assert_eq!((message.topic.as_str(), message.number(property::TOPIC_ALIAS)), ("a", None));
    }
}

#[test]
fn mqtt_3_1_2_26_topic_aliases_to_a_client_keep_to_its_maximum_and_make_sense() {
    let broker = Broker::start("[limits]\ntopic_alias_outgoing_max = 10\n");
    let mut client = broker.connect(Connect::v5("aliases").property(number(property::TOPIC_ALIAS_MAXIMUM, 2)));
    client.subscribe("#", 0);
    let mut known = std::collections::HashMap::new();
    for round in 0..12 {
        let topic = format!("topic/{}", round % 4);
        client.publish(Publish::new(&topic, "x"));
        let message = client.message();
        let resolved = match message.number(property::TOPIC_ALIAS) {
            None => message.topic,
            Some(alias) => {
                assert!((1..=2).contains(&alias)); // [MQTT-3.3.2-11]
                if !message.topic.is_empty() {
                    known.insert(alias, message.topic);
                }
                known[&alias].clone()
            }
        };
        assert_eq!(resolved, topic);
    }
}
