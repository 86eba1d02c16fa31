//! CONNECT and CONNACK (§3.1, §3.2).

use crate::harness::parse::{CONNACK, PINGRESP, PUBLISH};
use crate::harness::property::{self, number, text};
use crate::harness::{Broker, Connect, Publish, Will, unique, wire};

#[test]
fn mqtt_3_1_0_1_first_packet_must_be_connect() {
    let mut client = Broker::shared().open(5);
    client.send_anyway(&wire::pingreq());
    client.expect_closed(); // No DISCONNECT either: none may come before a CONNACK. [MQTT-3.14.0-1]
}

#[test]
fn v311_mqtt_3_1_0_1_first_packet_must_be_connect() {
    let mut client = Broker::shared().open(4);
    client.send_anyway(&wire::subscribe(4, 1, &[("a", 0)], &[]));
    client.expect_closed();
}

#[test]
fn mqtt_3_1_0_2_second_connect_is_a_protocol_error() {
    let connect = Connect::v5(&unique("twice"));
    let mut client = Broker::shared().connect(connect.clone());
    client.send(&connect.encode());
    client.expect_disconnect(&[0x82]);
}

#[test]
fn v311_mqtt_3_1_0_2_second_connect_ends_the_connection() {
    let connect = Connect::v311(&unique("twice"));
    let mut client = Broker::shared().connect(connect.clone());
    client.send(&connect.encode());
    client.expect_disconnect(&[]);
}

#[test]
fn mqtt_3_1_2_1_unknown_protocol_name_is_not_served() {
    let mut client = Broker::shared().open(5);
    client.send(&Connect::v5(&unique("name")).protocol("MQTTX", 5).encode());
    for packet in client.until_closed() {
        assert_eq!((packet.kind, packet.reason), (CONNACK, 0x84));
    }
}

#[test]
fn v311_mqtt_3_1_2_1_unknown_protocol_name_is_not_served() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("name")).protocol("mqtt", 4).encode());
    assert!(client.until_closed().iter().all(|packet| packet.reason != 0));
}

#[test]
fn mqtt_3_1_2_2_unknown_protocol_version_is_refused() {
    let connack = Broker::shared().refuse(Connect::v5(&unique("version")).protocol("MQTT", 6));
    assert_eq!(connack.reason, 0x84);
}

#[test]
fn v311_mqtt_3_1_2_2_unacceptable_protocol_level_is_told_before_closing() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("level")).protocol("MQTT", 2).encode());
    let connack = client.expect(CONNACK);
    assert!([0x01, 0x84].contains(&connack.reason), "{connack:?}");
    client.expect_closed();
}

#[test]
fn v31_client_is_served_under_its_own_protocol_name() {
    let broker = Broker::shared();
    let topic = unique("v31");
    let mut client = broker.connect(Connect::v31(&unique("old")));
    assert_eq!(client.subscribe(&topic, 1), 1);
    client.publish(Publish::new(&topic, "hello").qos(1));
    assert_eq!(client.message().text(), "hello");
}

#[test]
fn v31_level_4_with_the_old_name_is_refused() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("level")).protocol("MQIsdp", 4).encode());
    assert!(client.until_closed().iter().all(|packet| packet.reason != 0));
}

#[test]
fn mqtt_3_1_2_3_reserved_connect_flag_is_malformed() {
    let connack = Broker::shared().refuse(Connect::v5(&unique("reserved")).flags(0x03));
    assert_eq!(connack.reason, 0x81);
}

#[test]
fn v311_mqtt_3_1_2_3_reserved_connect_flag_ends_the_connection() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("reserved")).flags(0x03).encode());
    client.expect_closed();
}

#[test]
fn mqtt_3_1_2_11_will_qos_without_will_flag_is_malformed() {
    assert_eq!(Broker::shared().refuse(Connect::v5(&unique("w")).flags(0x0A)).reason, 0x81);
}

#[test]
fn mqtt_3_1_2_13_will_retain_without_will_flag_is_malformed() {
    assert_eq!(Broker::shared().refuse(Connect::v5(&unique("w")).flags(0x22)).reason, 0x81);
}

#[test]
fn v311_mqtt_3_1_2_13_will_qos_without_will_flag_ends_the_connection() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("w")).flags(0x12).encode());
    client.expect_closed();
}

#[test]
fn v311_mqtt_3_1_2_15_will_retain_without_will_flag_ends_the_connection() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("w")).flags(0x22).encode());
    client.expect_closed();
}

#[test]
fn mqtt_3_1_2_12_will_qos_3_is_malformed() {
    let will = Will::new("t", "gone").qos(3);
    assert_eq!(Broker::shared().refuse(Connect::v5(&unique("w")).will(will)).reason, 0x81);
}

#[test]
fn v311_mqtt_3_1_2_14_will_qos_3_ends_the_connection() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("w")).will(Will::new("t", "gone").qos(3)).encode());
    client.expect_closed();
}

#[test]
fn mqtt_3_1_2_16_without_user_name_flag_there_is_no_user_name() {
    // The bytes are there, the flag is not: the packet is longer than its flags say.
    let connect = Connect::v5(&unique("u")).username(b"me").flags(0x02);
    assert_eq!(Broker::shared().refuse(connect).reason, 0x81);
}

#[test]
fn mqtt_3_1_2_17_user_name_flag_needs_a_user_name() {
    assert_eq!(Broker::shared().refuse(Connect::v5(&unique("u")).flags(0x82)).reason, 0x81);
}

#[test]
fn mqtt_3_1_2_19_password_flag_needs_a_password() {
    let connect = Connect::v5(&unique("u")).username(b"me").flags(0xC2);
    assert_eq!(Broker::shared().refuse(connect).reason, 0x81);
}

#[test]
fn mqtt_5_0_password_without_user_name_is_allowed() {
    Broker::shared().connect(Connect::v5(&unique("token")).password(b"secret"));
}

#[test]
fn v311_mqtt_3_1_2_22_password_without_user_name_ends_the_connection() {
    let mut client = Broker::shared().open(4);
    client.send(&Connect::v311(&unique("p")).password(b"secret").encode());
    client.expect_closed();
}

#[test]
fn mqtt_3_1_3_1_payload_fields_come_in_their_order() {
    let connect = Connect::v5(&unique("all")).will(Will::new("t/all", "gone")).username(b"me").password(b"secret");
    Broker::shared().connect(connect);
}

#[test]
fn mqtt_3_1_3_3_client_identifier_must_be_there() {
    let mut body = wire::string(b"MQTT");
    body.extend([5, 0x02, 0, 0, 0]); // The payload is missing.
    let mut client = Broker::shared().open(5);
    client.send(&wire::packet(0x10, &body));
    assert_eq!(client.expect(CONNACK).reason, 0x81);
    client.expect_closed();
}

#[test]
fn mqtt_3_1_3_4_client_identifier_must_be_utf_8() {
    let connack = Broker::shared().refuse(Connect::v5("").client_id_bytes(&[0xC3, 0x28]));
    assert!([0x81, 0x85].contains(&connack.reason), "{connack:?}");
}

#[test]
fn mqtt_3_1_3_5_client_identifier_of_23_letters_and_digits_is_allowed() {
    let broker = Broker::shared();
    broker.connect(Connect::v5("0123456789abcdefghijklm"));
    broker.connect(Connect::v311("nopqrstuvwxyzABCDEFGHIJ"));
    broker.connect(Connect::v31("KLMNOPQRSTUVWXYZ0123456"));
}

#[test]
fn mqtt_3_1_3_6_empty_client_identifier_is_accepted_and_7_told_to_the_client() {
    let client = Broker::shared().connect(Connect::v5(""));
    let assigned = client.connack.string(property::ASSIGNED_CLIENT_IDENTIFIER).expect("an assigned identifier");
    assert!(!assigned.is_empty());
}

#[test]
fn mqtt_3_2_2_16_assigned_client_identifiers_are_unique() {
    let broker = Broker::shared();
    let clients: Vec<_> = (0..8).map(|_| broker.connect(Connect::v5(""))).collect();
    let mut identifiers: Vec<_> =
        clients.iter().map(|client| client.connack.string(property::ASSIGNED_CLIENT_IDENTIFIER).unwrap()).collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), clients.len());
}

#[test]
fn mqtt_3_1_3_7_assigned_client_identifier_names_the_session() {
    let broker = Broker::shared();
    let first = broker.connect(Connect::v5("").expiry(60));
    let assigned = first.connack.string(property::ASSIGNED_CLIENT_IDENTIFIER).unwrap().to_owned();
    first.disconnect();
    assert!(broker.connect(Connect::v5(&assigned).resume()).session_present());
}

#[test]
fn mqtt_3_2_2_3_7_client_identifier_of_the_client_is_not_told_back() {
    let client = Broker::shared().client(5);
    assert_eq!(client.connack.string(property::ASSIGNED_CLIENT_IDENTIFIER), None);
}

#[test]
fn v311_mqtt_3_1_3_6_empty_client_identifier_with_clean_session_is_accepted() {
    Broker::shared().connect(Connect::v311(""));
}

#[test]
fn v311_mqtt_3_1_3_8_empty_client_identifier_without_clean_session_is_refused() {
    assert_eq!(Broker::shared().refuse(Connect::v311("").resume()).reason, 0x02);
}

#[test]
fn v31_empty_client_identifier_is_refused() {
    assert_eq!(Broker::shared().refuse(Connect::v31("")).reason, 0x02);
}

#[test]
fn mqtt_3_1_3_8_client_identifier_that_is_too_long_is_refused() {
    let broker = Broker::start("[limits]\nclient_id_bytes_max = 32\n");
    assert_eq!(broker.refuse(Connect::v5(&"x".repeat(33))).reason, 0x85);
    assert_eq!(broker.refuse(Connect::v311(&"x".repeat(33))).reason, 0x02);
    broker.connect(Connect::v5(&"x".repeat(32)));
}

#[test]
fn mqtt_3_1_3_8_empty_client_identifier_is_refused_where_none_is_assigned() {
    let broker = Broker::start("[features]\nassigned_client_ids = false\n");
    assert_eq!(broker.refuse(Connect::v5("")).reason, 0x85);
    assert_eq!(broker.refuse(Connect::v311("")).reason, 0x02);
}

#[test]
fn mqtt_3_1_3_11_will_topic_must_be_utf_8() {
    let will = Will::raw(&[b'a', 0xFF], b"gone");
    let connack = Broker::shared().refuse(Connect::v5(&unique("w")).will(will));
    assert!([0x81, 0x90].contains(&connack.reason), "{connack:?}");
}

#[test]
fn mqtt_3_1_3_12_user_name_must_be_utf_8() {
    assert_eq!(Broker::shared().refuse(Connect::v5(&unique("u")).username(&[0xED, 0xA0, 0x80])).reason, 0x81);
}

#[test]
fn mqtt_3_1_4_2_connect_with_trailing_bytes_is_malformed() {
    let mut body = Connect::v5(&unique("trailing")).encode();
    body.drain(..2);
    body.push(0);
    let mut client = Broker::shared().open(5);
    client.send(&wire::packet(0x10, &body));
    assert_eq!(client.expect(CONNACK).reason, 0x81);
    client.expect_closed();
}

#[test]
fn mqtt_3_1_4_3_second_connection_takes_the_session_over() {
    let broker = Broker::shared();
    let id = unique("same");
    let mut first = broker.connect(Connect::v5(&id));
    let mut second = broker.connect(Connect::v5(&id));
    first.expect_disconnect(&[0x8E]);
    second.ping();
}

#[test]
fn v311_mqtt_3_1_4_2_second_connection_ends_the_first() {
    let broker = Broker::shared();
    let id = unique("same");
    let mut first = broker.connect(Connect::v311(&id));
    let mut second = broker.connect(Connect::v311(&id));
    first.expect_closed();
    second.ping();
}

#[test]
fn mqtt_3_1_4_3_takeover_works_across_versions() {
    let broker = Broker::shared();
    let id = unique("same");
    let mut first = broker.connect(Connect::v311(&id));
    let mut second = broker.connect(Connect::v5(&id));
    first.expect_closed();
    let mut third = broker.connect(Connect::v31(&id));
    second.expect_disconnect(&[0x8E]);
    third.ping();
}

#[test]
fn mqtt_3_1_4_5_packets_may_follow_connect_at_once() {
    let broker = Broker::shared();
    let topic = unique("eager");
    let mut bytes = Connect::v5(&unique("eager")).encode();
    bytes.extend(wire::subscribe(5, 7, &[(&topic, 0)], &[]));
    bytes.extend(Publish::new(&topic, "early").encode(5));
    bytes.extend(wire::pingreq());
    let mut client = broker.open(5);
    client.send(&bytes);
    let kinds: Vec<u8> = (0..4).map(|_| client.receive().kind).collect();
    assert_eq!(kinds[0], CONNACK); // [MQTT-3.2.0-1]
    assert!(kinds.contains(&PUBLISH) && kinds.contains(&PINGRESP), "{kinds:?}");
}

#[test]
fn mqtt_3_1_4_6_nothing_after_a_refused_connect_is_processed() {
    let broker = Broker::shared();
    let topic = unique("refused");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 0);
    let mut bytes = Connect::v5("").client_id_bytes(&[0xFF]).encode();
    bytes.extend(Publish::new(&topic, "smuggled").encode(5));
    let mut refused = broker.open(5);
    refused.send_anyway(&bytes);
    refused.until_closed();
    assert!(watcher.until_own_marker().is_empty());
}

#[test]
fn v311_mqtt_3_1_4_5_nothing_after_a_refused_connect_is_processed() {
    let broker = Broker::shared();
    let topic = unique("refused");
    let mut watcher = broker.client(4);
    watcher.subscribe(&topic, 0);
    let mut bytes = Connect::v311("").resume().encode();
    bytes.extend(Publish::new(&topic, "smuggled").encode(4));
    let mut refused = broker.open(4);
    refused.send_anyway(&bytes);
    refused.until_closed();
    assert!(watcher.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_2_0_1_connack_is_the_first_packet_even_when_messages_wait() {
    let broker = Broker::shared();
    let (id, topic) = (unique("waiting"), unique("waiting"));
    let mut client = broker.connect(Connect::v5(&id).expiry(60));
    client.subscribe(&topic, 1);
    client.disconnect();
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1));
    let mut client = broker.connect(Connect::v5(&id).resume().expiry(60));
    assert_eq!(client.message().text(), "kept");
}

#[test]
fn mqtt_3_2_2_6_refusal_does_not_claim_a_session() {
    let broker = Broker::shared();
    let id = unique("refused");
    broker.connect(Connect::v5(&id).expiry(60)).disconnect();
    let connack = broker.refuse(Connect::v5(&id).resume().will(Will::new("a/#", "bad topic")));
    assert!(!connack.session_present);
}

#[test]
fn mqtt_3_2_2_9_subscribe_above_the_maximum_qos_is_granted_the_maximum() {
    let broker = Broker::start("[limits]\nmaximum_qos = 1\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::MAXIMUM_QOS), Some(1));
    assert_eq!(client.subscribe("a", 2), 1);
}

#[test]
fn mqtt_3_2_2_11_publish_above_the_maximum_qos_ends_the_connection() {
    let broker = Broker::start("[limits]\nmaximum_qos = 0\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::MAXIMUM_QOS), Some(0));
    client.publish_only(&Publish::new("a", "too much").qos(1).id(1));
    client.expect_disconnect(&[0x9B]);
}

#[test]
fn mqtt_3_2_2_12_will_above_the_maximum_qos_is_refused() {
    let broker = Broker::start("[limits]\nmaximum_qos = 1\n");
    let connect = Connect::v5("w").will(Will::new("a", "gone").qos(2));
    assert_eq!(broker.refuse(connect).reason, 0x9B);
}

#[test]
fn mqtt_3_2_2_13_will_retain_is_refused_while_retain_is_off() {
    let broker = Broker::start("[features]\nretain = false\n");
    assert_eq!(broker.refuse(Connect::v5("w").will(Will::new("a", "gone").retain())).reason, 0x9A);
}

#[test]
fn mqtt_3_2_2_14_publish_with_retain_is_refused_while_retain_is_off() {
    let broker = Broker::start("[features]\nretain = false\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::RETAIN_AVAILABLE), Some(0));
    client.publish_only(&Publish::new("a", "keep me").retain());
    client.expect_disconnect(&[0x9A]);
}

#[test]
fn mqtt_3_2_2_15_packet_above_the_servers_maximum_ends_the_connection() {
    let broker = Broker::start("[limits]\npacket_bytes_max = \"4KiB\"\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::MAXIMUM_PACKET_SIZE), Some(4096));
    client.send_anyway(&Publish::new("a", &"x".repeat(5000)).encode(5));
    client.expect_disconnect(&[0x95]);
}

#[test]
fn mqtt_3_2_2_21_server_keep_alive_is_told_where_the_server_caps_it() {
    let broker = Broker::start("[limits]\nkeep_alive_max = 30\n");
    let client = broker.connect(Connect::v5("long").keep_alive(600));
    assert_eq!(client.connack.number(property::SERVER_KEEP_ALIVE), Some(30));
    let client = broker.connect(Connect::v5("short").keep_alive(20));
    assert_eq!(client.connack.number(property::SERVER_KEEP_ALIVE), None);
}

#[test]
fn mqtt_3_2_2_3_2_session_expiry_interval_is_told_where_the_server_caps_it() {
    let broker = Broker::start("[sessions]\nexpiry_max = \"60s\"\n");
    let client = broker.connect(Connect::v5("long").expiry(3600));
    assert_eq!(client.connack.number(property::SESSION_EXPIRY_INTERVAL), Some(60));
    let client = broker.connect(Connect::v5("short").expiry(30));
    assert!([None, Some(30)].contains(&client.connack.number(property::SESSION_EXPIRY_INTERVAL)));
}

#[test]
fn mqtt_3_1_2_28_no_response_information_unless_asked_for() {
    let broker = Broker::shared();
    let asked = Connect::v5(&unique("r")).property(number(property::REQUEST_RESPONSE_INFORMATION, 0));
    assert_eq!(broker.connect(asked).connack.string(property::RESPONSE_INFORMATION), None);
    assert_eq!(broker.client(5).connack.string(property::RESPONSE_INFORMATION), None);
}

#[test]
fn mqtt_3_1_2_29_without_problem_information_acknowledgements_say_only_the_reason() {
    let broker = Broker::shared();
    let quiet = Connect::v5(&unique("quiet")).property(number(property::REQUEST_PROBLEM_INFORMATION, 0));
    let mut client = broker.connect(quiet);
    let unsuback = client.unsubscribe(&["never/subscribed"]);
    assert!(unsuback.properties.is_empty(), "{unsuback:?}");
}

#[test]
fn mqtt_4_12_0_1_unknown_authentication_method_is_refused() {
    let connect = Connect::v5(&unique("auth")).property(text(property::AUTHENTICATION_METHOD, "SCRAM-SHA-1"));
    assert_eq!(Broker::shared().refuse(connect).reason, 0x8C);
}

#[test]
fn mqtt_4_12_1_no_authentication_method_where_the_client_named_none() {
    assert_eq!(Broker::shared().client(5).connack.string(property::AUTHENTICATION_METHOD), None); // [MQTT-4.12.0-6]
}

#[test]
fn v311_mqtt_3_2_2_1_clean_session_is_answered_without_session_present() {
    let broker = Broker::shared();
    let id = unique("clean");
    broker.connect(Connect::v311(&id).resume()).disconnect();
    assert!(!broker.connect(Connect::v311(&id)).session_present());
}

#[test]
fn v311_mqtt_3_2_2_2_stored_session_is_told() {
    let broker = Broker::shared();
    let id = unique("stored");
    assert!(!broker.connect(Connect::v311(&id).resume()).session_present()); // [v3.1.1 MQTT-3.2.2-3]
    assert!(broker.connect(Connect::v311(&id).resume()).session_present());
}

#[test]
fn v31_connack_has_no_session_present_bit() {
    let broker = Broker::shared();
    let id = unique("s31");
    broker.connect(Connect::v31(&id).resume()).disconnect();
    assert!(!broker.connect(Connect::v31(&id).resume()).session_present());
}
