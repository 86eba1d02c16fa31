//! Properties of MQTT 5.0 that travel with a message, and those that must not stand where they do (§2.2.2, §3.3.2.3).

use crate::harness::parse::PUBLISH;
use crate::harness::property::{self, Property, binary, number, text, user};
use crate::harness::{Broker, Connect, Publish, Will, unique, wire};

fn relayed(publish: impl FnOnce(Publish) -> Publish) -> crate::harness::Packet {
    let broker = Broker::shared();
    let topic = unique("relayed");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    broker.client(5).publish(publish(Publish::new(&topic, "x").qos(1)));
    watcher.message()
}

fn expect_publish_refused(property: Property, reasons: &[u8]) {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a", "x").property(property));
    client.expect_disconnect(reasons);
}

#[test]
fn mqtt_3_3_2_4_payload_format_indicator_is_passed_on() {
    let message = relayed(|publish| publish.property(number(property::PAYLOAD_FORMAT_INDICATOR, 1)));
    assert_eq!(message.number(property::PAYLOAD_FORMAT_INDICATOR), Some(1));
}

#[test]
fn mqtt_3_3_2_15_response_topic_is_passed_on() {
    let message = relayed(|publish| publish.property(text(property::RESPONSE_TOPIC, "answers/here")));
    assert_eq!(message.string(property::RESPONSE_TOPIC), Some("answers/here"));
}

#[test]
fn mqtt_3_3_2_16_correlation_data_is_passed_on() {
    let data = binary(property::CORRELATION_DATA, &[0, 1, 0xFF, 0]);
    let message = relayed(|publish| publish.property(data.clone()));
    assert_eq!(message.properties, [data]);
}

#[test]
fn mqtt_3_3_2_17_user_properties_are_passed_on_and_18_keep_their_order() {
    let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("", ""), ("é", "ü")];
    let message =
        relayed(|publish| pairs.iter().fold(publish, |publish, (name, value)| publish.property(user(name, value))));
    assert_eq!(message.user_properties(), pairs);
}

#[test]
fn mqtt_3_3_2_20_content_type_is_passed_on() {
    let message = relayed(|publish| publish.property(text(property::CONTENT_TYPE, "application/json")));
    assert_eq!(message.string(property::CONTENT_TYPE), Some("application/json"));
}

#[test]
fn mqtt_3_3_2_6_message_expiry_interval_is_passed_on() {
    let message = relayed(|publish| publish.property(number(property::MESSAGE_EXPIRY_INTERVAL, 4_000_000_000)));
    assert!(message.number(property::MESSAGE_EXPIRY_INTERVAL).is_some_and(|left| left > 3_999_999_990));
}

#[test]
fn mqtt_3_3_2_18_properties_between_user_properties_do_not_disturb_them() {
    let message = relayed(|publish| {
        publish
            .property(user("first", "1"))
            .property(number(property::MESSAGE_EXPIRY_INTERVAL, 100))
            .property(user("second", "2"))
            .property(text(property::CONTENT_TYPE, "t"))
            .property(user("third", "3"))
    });
    assert_eq!(message.user_properties(), [("first", "1"), ("second", "2"), ("third", "3")]);
    assert_eq!(message.string(property::CONTENT_TYPE), Some("t"));
}

#[test]
fn mqtt_3_3_2_properties_are_kept_with_a_retained_message() {
    let broker = Broker::shared();
    let topic = unique("kept");
    let publish = Publish::new(&topic, "x").qos(1).retain();
    broker.client(5).publish(publish.property(user("k", "v")).property(text(property::CONTENT_TYPE, "t")));
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    let message = later.message();
    assert_eq!((message.user_properties(), message.string(property::CONTENT_TYPE)), (vec![("k", "v")], Some("t")));
}

#[test]
fn mqtt_3_3_2_properties_are_left_out_for_3_x_subscribers() {
    let broker = Broker::shared();
    let topic = unique("plain");
    let mut watcher = broker.client(4);
    watcher.subscribe(&topic, 0);
    broker.client(5).publish(Publish::new(&topic, "body").property(user("k", "v")));
    assert_eq!(watcher.message().text(), "body");
}

#[test]
fn mqtt_3_3_2_message_of_a_3_x_client_has_no_properties() {
    let broker = Broker::shared();
    let topic = unique("plain");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 0);
    broker.client(4).publish(Publish::new(&topic, "body"));
    let message = watcher.message();
    assert_eq!((message.text().as_str(), message.properties.len()), ("body", 0));
}

#[test]
fn mqtt_3_3_2_13_response_topic_must_be_utf_8() {
    let mut body = wire::string(b"a");
    body.extend([5, property::RESPONSE_TOPIC, 0, 2, 0xC3, 0x28]);
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &body));
    client.expect_disconnect(&[0x81, 0x90]);
}

#[test]
fn mqtt_3_3_2_14_response_topic_must_not_hold_wildcards() {
    expect_publish_refused(text(property::RESPONSE_TOPIC, "answers/+"), &[0x82, 0x81, 0x90]);
    expect_publish_refused(text(property::RESPONSE_TOPIC, "#"), &[0x82, 0x81, 0x90]);
}

#[test]
fn mqtt_3_3_2_19_content_type_must_be_utf_8() {
    let mut body = wire::string(b"a");
    body.extend([5, property::CONTENT_TYPE, 0, 2, 0xC3, 0x28]);
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &body));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_3_3_2_3_2_payload_format_indicator_is_0_or_1() {
    expect_publish_refused(number(property::PAYLOAD_FORMAT_INDICATOR, 2), &[0x82, 0x81]);
}

#[test]
fn mqtt_3_3_2_3_2_wrong_payload_format_is_refused_where_it_is_checked() {
    let broker = Broker::start("[features]\nvalidate_payload_format = true\n");
    let mut client = broker.client(5);
    let indicator = number(property::PAYLOAD_FORMAT_INDICATOR, 1);
    client.publish(Publish::new("a", "é").qos(1).property(indicator.clone()));
    client.publish_only(&Publish::raw(b"a", &[0xFF]).qos(1).id(9).property(indicator));
    assert_eq!(client.receive().reason, 0x99);
}

#[test]
fn mqtt_1_5_7_1_user_property_must_be_utf_8() {
    let mut body = wire::string(b"a");
    body.extend([7, property::USER_PROPERTY, 0, 1, b'k', 0, 1, 0xFF]);
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &body));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_2_2_2_1_publish_without_property_length_is_malformed() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &wire::string(b"a")));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_2_2_2_2_unknown_property_is_malformed() {
    let mut body = wire::string(b"a");
    body.extend([2, 0x7E, 0]);
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &body));
    client.expect_disconnect(&[0x81, 0x82]);
}

#[test]
fn mqtt_2_2_2_2_property_of_another_packet_type_is_refused() {
    expect_publish_refused(number(property::RECEIVE_MAXIMUM, 10), &[0x81, 0x82]);
    expect_publish_refused(number(property::WILL_DELAY_INTERVAL, 10), &[0x81, 0x82]);
    expect_publish_refused(text(property::SERVER_REFERENCE, "elsewhere"), &[0x81, 0x82]);
}

#[test]
fn mqtt_2_2_2_property_length_beyond_the_packet_is_malformed() {
    let mut body = wire::string(b"a");
    body.extend([100, property::PAYLOAD_FORMAT_INDICATOR, 0]);
    let mut client = Broker::shared().client(5);
    client.send(&wire::packet(0x30, &body));
    client.expect_disconnect(&[0x81]);
}

#[test]
fn mqtt_3_3_2_3_property_given_twice_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    let publish = Publish::new("a", "x").property(text(property::CONTENT_TYPE, "one"));
    client.publish_only(&publish.property(text(property::CONTENT_TYPE, "two")));
    client.expect_disconnect(&[0x82, 0x81]);
}

#[test]
fn mqtt_3_1_2_11_connect_properties_given_twice_are_protocol_errors() {
    let broker = Broker::shared();
    for property in [
        number(property::SESSION_EXPIRY_INTERVAL, 1),
        number(property::RECEIVE_MAXIMUM, 1),
        number(property::MAXIMUM_PACKET_SIZE, 100),
        number(property::TOPIC_ALIAS_MAXIMUM, 1),
        number(property::REQUEST_RESPONSE_INFORMATION, 0),
        number(property::REQUEST_PROBLEM_INFORMATION, 1),
    ] {
        let connect = Connect::v5(&unique("twice")).property(property.clone()).property(property);
        let connack = broker.refuse(connect);
        assert!([0x81, 0x82].contains(&connack.reason), "{connack:?}");
    }
}

#[test]
fn mqtt_3_1_2_11_connect_properties_out_of_range_are_protocol_errors() {
    let broker = Broker::shared();
    for property in [
        number(property::RECEIVE_MAXIMUM, 0),
        number(property::MAXIMUM_PACKET_SIZE, 0),
        number(property::REQUEST_RESPONSE_INFORMATION, 2),
        number(property::REQUEST_PROBLEM_INFORMATION, 2),
        binary(property::AUTHENTICATION_DATA, b"data without a method"),
    ] {
        let connack = broker.refuse(Connect::v5(&unique("range")).property(property));
        assert!([0x81, 0x82].contains(&connack.reason), "{connack:?}");
    }
}

#[test]
fn mqtt_3_1_3_2_will_properties_out_of_range_are_refused() {
    let broker = Broker::shared();
    for property in [
        number(property::PAYLOAD_FORMAT_INDICATOR, 2),
        number(property::TOPIC_ALIAS, 1),
        number(property::SESSION_EXPIRY_INTERVAL, 1),
    ] {
        let will = Will::new("t", "gone").property(property);
        let connack = broker.refuse(Connect::v5(&unique("w")).will(will));
        assert!([0x81, 0x82].contains(&connack.reason), "{connack:?}");
    }
}

#[test]
fn mqtt_3_1_2_24_packets_above_the_clients_maximum_are_not_sent_and_25_count_as_delivered() {
    let broker = Broker::shared();
    let topic = unique("small");
    let small = number(property::MAXIMUM_PACKET_SIZE, 128);
    let mut watcher = broker.connect(Connect::v5(&unique("small")).property(small));
    watcher.subscribe(&topic, 1);
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, &"x".repeat(200)).qos(1));
    publisher.publish(Publish::new(&topic, "fits").qos(1));
    let message = watcher.expect(PUBLISH);
    assert!(message.text() == "fits" && message.length <= 128);
}

#[test]
fn mqtt_3_1_2_24_maximum_packet_size_counts_every_byte() {
    let broker = Broker::shared();
    let topic = unique("exact");
    // 2 bytes of header, 2 + n of topic, 1 of properties.
    let (fits, maximum) = ("x".repeat(50), u32::try_from(2 + 2 + topic.len() + 1 + 50).unwrap());
    let limit = number(property::MAXIMUM_PACKET_SIZE, maximum);
    let mut watcher = broker.connect(Connect::v5(&unique("exact")).property(limit));
    watcher.subscribe(&topic, 0);
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, &"y".repeat(51)));
    publisher.publish(Publish::new(&topic, &fits));
    assert_eq!(watcher.message().text(), fits);
}
