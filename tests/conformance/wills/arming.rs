//! CONNECT with a will: accepted, or refused with nothing armed.

use super::{expect_no_will, expect_will, mortal, watch};
use crate::harness::property::{self, text};
use crate::harness::{Broker, Connect, Will, unique};

#[test]
fn mqtt_3_1_2_7_accepted_will_is_published_when_the_connection_fails() {
    let broker = Broker::shared();
    for version in [3, 4, 5] {
        let (topic, mut watcher) = watch(&broker);
        broker.connect(mortal(version, &topic)).cut();
        expect_will(&mut watcher); // [MQTT-3.1.2-8], [v3.1.1 MQTT-3.1.2-8]
    }
}

#[test]
fn will_of_a_refused_connect_is_never_published() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    broker.refuse(mortal(4, &topic).client_id_bytes(b"").resume());
    broker.refuse(mortal(5, &topic).property(text(property::AUTHENTICATION_METHOD, "none")));
    expect_no_will(&mut watcher, &mut broker.client(5));
}

#[test]
fn will_of_a_connect_that_never_became_complete_is_never_published() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let bytes = mortal(5, &topic).encode();
    let mut client = broker.open(5);
    client.send(&bytes[..bytes.len() - 1]);
    client.cut();
    expect_no_will(&mut watcher, &mut broker.client(5));
}

#[test]
fn will_topic_that_is_no_topic_name_is_refused() {
    let broker = Broker::shared();
    for topic in [&b""[..], b"a/+", b"#", b"a#b", &[0xC3, 0x28], b"a\0b"] {
        let connack = broker.refuse(Connect::v5(&unique("w")).will(Will::raw(topic, b"gone")));
        assert!([0x81, 0x90].contains(&connack.reason), "{topic:02x?}: {connack:?}");
    }
}

#[test]
fn v311_will_topic_that_is_no_topic_name_is_not_served() {
    let broker = Broker::shared();
    for topic in [&b""[..], b"a/+", b"#", &[0xC3, 0x28], b"a\0b"] {
        let mut client = broker.open(4);
        client.send(&Connect::v311(&unique("w")).will(Will::raw(topic, b"gone")).encode());
        assert!(client.until_closed().iter().all(|packet| packet.reason != 0), "{topic:02x?}");
    }
}

#[test]
fn will_qos_3_is_refused_and_nothing_is_armed() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").qos(3);
    assert_eq!(broker.refuse(Connect::v5(&unique("w")).will(will)).reason, 0x81);
    expect_no_will(&mut watcher, &mut broker.client(5));
}

#[test]
fn will_qos_or_retain_without_will_flag_is_refused() {
    let broker = Broker::shared();
    for flags in [0x0A, 0x12, 0x1A, 0x22, 0x2A] {
        assert_eq!(broker.refuse(Connect::v5(&unique("w")).flags(flags)).reason, 0x81);
    }
}

#[test]
fn mqtt_3_1_2_9_will_flag_without_will_fields_is_malformed() {
    let broker = Broker::shared();
    assert_eq!(broker.refuse(Connect::v5(&unique("w")).flags(0x06)).reason, 0x81);
}

#[test]
fn will_above_the_maximum_qos_is_refused() {
    let broker = Broker::start("[limits]\nmaximum_qos = 0\n");
    assert_eq!(broker.refuse(mortal(5, "t")).reason, 0x9B);
    broker.shut_out(mortal(4, "t"));
}

#[test]
fn will_retain_is_refused_while_retain_is_off() {
    let broker = Broker::start("[features]\nretain = false\n");
    let will = Will::new("t", "gone").retain();
    assert_eq!(broker.refuse(Connect::v5("w").will(will.clone())).reason, 0x9A);
    broker.shut_out(Connect::v311("w").will(will));
    broker.connect(mortal(5, "t"));
}

#[test]
fn will_topic_that_is_not_allowed_is_refused_at_connect() {
    let broker = Broker::start("[wills.allow]\ntopics = [\"status/#\"]\n");
    assert_eq!(broker.refuse(mortal(5, "other/lamp")).reason, 0x87);
    assert_eq!(broker.refuse(mortal(4, "other/lamp")).reason, 0x05);
    broker.connect(mortal(5, "status/lamp"));
}

#[test]
fn will_payload_above_the_limit_is_refused() {
    let broker = Broker::start("[wills.allow]\npayload_bytes_max = \"16B\"\n");
    assert_eq!(broker.refuse(Connect::v5("w").will(Will::new("t", &"x".repeat(17)))).reason, 0x95);
    broker.shut_out(Connect::v311("w").will(Will::new("t", &"x".repeat(17))));
    broker.connect(Connect::v5("w").will(Will::new("t", &"x".repeat(16))));
}

#[test]
fn will_above_the_allowed_qos_or_with_retain_where_it_is_not_allowed_is_refused() {
    let broker = Broker::start("[wills.allow]\nqos_max = 1\nretain = false\n");
    let connack = broker.refuse(Connect::v5("w").will(Will::new("t", "gone").qos(2)));
    assert!([0x9B, 0x87].contains(&connack.reason), "{connack:?}");
    let connack = broker.refuse(Connect::v5("w").will(Will::new("t", "gone").retain()));
    assert!([0x9A, 0x87].contains(&connack.reason), "{connack:?}");
    broker.connect(mortal(5, "t"));
}

#[test]
fn will_topic_that_begins_with_a_dollar_sign_is_not_authorised() {
    let broker = Broker::shared();
    assert_eq!(broker.refuse(mortal(5, "$SYS/lamp")).reason, 0x87);
    assert_eq!(broker.refuse(mortal(4, "$internal")).reason, 0x05);
}
