//! PINGREQ, DISCONNECT and AUTH (§3.12 to §3.15, §4.12).

use crate::harness::parse::{AUTH, PINGRESP};
use crate::harness::property::{self, number, text, user};
use crate::harness::{Broker, Connect, Publish, unique, wire};

#[test]
fn mqtt_3_12_4_1_pingreq_is_answered_by_pingresp() {
    for version in [3, 4, 5] {
        let mut client = Broker::shared().client(version);
        client.send(&wire::pingreq());
        assert_eq!(client.expect(PINGRESP).length, 2);
    }
}

#[test]
fn mqtt_3_12_4_1_every_pingreq_is_answered() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::pingreq().repeat(50));
    for _ in 0..50 {
        client.expect(PINGRESP);
    }
    client.expect_quiet();
}

#[test]
fn mqtt_3_12_1_pingreq_with_a_body_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xC0, &[0]));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_3_12_1_pingreq_with_wrong_flags_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xC1, &[]));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_3_14_1_1_disconnect_with_wrong_flags_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xE1, &[]));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn v311_mqtt_3_14_1_1_disconnect_with_wrong_flags_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.send(&wire::packet(0xE1, &[]));
    client.expect_closed();
}

#[test]
fn mqtt_3_14_4_1_server_closes_after_disconnect_without_an_answer() {
    for version in [3, 4, 5] {
        let mut client = Broker::shared().client(version);
        client.send(&wire::disconnect());
        client.expect_closed(); // [MQTT-3.14.4-2]
    }
}

#[test]
fn mqtt_3_14_4_2_nothing_after_disconnect_is_processed() {
    let broker = Broker::shared();
    let topic = unique("late");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 0);
    let mut client = broker.client(5);
    let mut bytes = wire::disconnect();
    bytes.extend(Publish::new(&topic, "late").encode(5));
    client.send_anyway(&bytes);
    client.until_closed();
    assert!(watcher.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_14_2_messages_sent_right_before_disconnect_are_delivered() {
    let broker = Broker::shared();
    let topic = unique("last");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 0);
    let mut client = broker.client(5);
    let mut bytes = Publish::new(&topic, "last words").encode(5);
    bytes.extend(wire::disconnect());
    client.send(&bytes);
    client.expect_closed();
    assert_eq!(watcher.message().text(), "last words");
}

#[test]
fn mqtt_3_14_2_disconnect_may_carry_reason_string_and_user_properties() {
    let client = Broker::shared().client(5);
    client.disconnect_with(0x00, &[text(property::REASON_STRING, "bye"), user("k", "v")]);
}

#[test]
fn mqtt_3_14_2_2_session_expiry_interval_of_disconnect_replaces_the_first() {
    let broker = Broker::shared();
    let id = unique("longer");
    let client = broker.connect(Connect::v5(&id).expiry(3600));
    client.disconnect_with(0x00, &[number(property::SESSION_EXPIRY_INTERVAL, 0)]);
    assert!(!broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn mqtt_3_14_2_2_session_expiry_interval_above_0_after_0_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::disconnect_with(0x00, &[number(property::SESSION_EXPIRY_INTERVAL, 60)]));
    client.expect_disconnect(&[0x82]);
}

#[test]
fn mqtt_3_14_2_1_disconnect_with_a_servers_reason_code_is_a_protocol_error_or_ends_quietly() {
    // 0x8B, Server shutting down, is for servers (§3.14.2.1).
    let mut client = Broker::shared().client(5);
    client.send(&wire::disconnect_with(0x8B, &[]));
    for packet in client.until_closed() {
        assert!([0x81, 0x82].contains(&packet.reason), "{packet:?}");
    }
}

#[test]
fn mqtt_3_15_1_1_auth_with_wrong_flags_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xF1, &[]));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_4_12_0_7_auth_without_authentication_method_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xF0, &[]));
    client.expect_disconnect(&[0x82, 0x8C, 0x81]); // [MQTT-4.12.1-1]
}

#[test]
fn mqtt_3_15_2_1_reauthentication_without_authentication_is_a_protocol_error() {
    let mut body = vec![0x19];
    property::put_all(&[text(property::AUTHENTICATION_METHOD, "SCRAM-SHA-1")], &mut body);
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0xF0, &body));
    client.expect_disconnect(&[0x82, 0x8C]);
}

#[test]
fn v311_packet_type_15_is_reserved() {
    let mut client = Broker::shared().client(4);
    client.send(&wire::packet(0xF0, &[]));
    client.expect_closed();
}

#[test]
fn mqtt_4_12_0_6_no_auth_is_sent_to_a_client_that_named_no_method() {
    let mut client = Broker::shared().client(5);
    client.ping();
    let packets = client.until_own_marker();
    assert!(packets.iter().all(|packet| packet.kind != AUTH));
}
