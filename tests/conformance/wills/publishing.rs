//! What a published will is, and whom it reaches.

use super::{expect_will, mortal, watch};
use crate::harness::parse::PUBLISH;
use crate::harness::property::{self, binary, number, text, user};
use crate::harness::wire::NO_LOCAL;
use crate::harness::{Broker, Client, Connect, Publish, Will, unique};

#[test]
fn will_keeps_its_properties_and_mqtt_3_1_3_10_their_order() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone")
        .qos(2)
        .property(user("z", "1"))
        .property(number(property::PAYLOAD_FORMAT_INDICATOR, 1))
        .property(user("a", "2"))
        .property(text(property::CONTENT_TYPE, "text/plain"))
        .property(text(property::RESPONSE_TOPIC, "answers"))
        .property(binary(property::CORRELATION_DATA, &[1, 0, 255]))
        .property(number(property::MESSAGE_EXPIRY_INTERVAL, 100))
        .property(user("z", "3"))
        .delay(0);
    broker.connect(Connect::v5(&unique("rich")).will(will)).cut();
    let message = watcher.message();
    assert_eq!((message.text().as_str(), message.qos(), message.retain()), ("gone", 2, false));
    assert_eq!(message.user_properties(), [("z", "1"), ("a", "2"), ("z", "3")]);
    assert_eq!(message.number(property::PAYLOAD_FORMAT_INDICATOR), Some(1));
    assert_eq!(message.string(property::CONTENT_TYPE), Some("text/plain"));
    assert_eq!(message.string(property::RESPONSE_TOPIC), Some("answers"));
    assert!(message.properties.contains(&binary(property::CORRELATION_DATA, &[1, 0, 255])));
}

#[test]
fn will_delay_interval_is_not_passed_on() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").delay(3600);
    broker.connect(Connect::v5(&unique("d")).will(will)).cut(); // Due at once: the session ends.
    assert_eq!(watcher.message().properties, []); // The parser refuses a Will Delay Interval as well.
}

#[test]
fn message_expiry_of_a_will_counts_from_its_publication() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").delay(2).property(number(property::MESSAGE_EXPIRY_INTERVAL, 1));
    broker.connect(Connect::v5(&unique("d")).expiry(60).will(will)).cut();
    assert_eq!(watcher.message().number(property::MESSAGE_EXPIRY_INTERVAL), Some(1));
}

#[test]
fn mqtt_3_1_2_14_will_without_retain_is_not_stored() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    broker.connect(mortal(5, &topic)).cut();
    assert!(!watcher.message().retain());
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    assert_eq!(later.until_own_marker(), []);
}

#[test]
fn mqtt_3_1_2_15_will_with_retain_is_stored() {
    let broker = Broker::shared();
    for version in [3, 4, 5] {
        let (topic, mut watcher) = watch(&broker);
        let will = Will::new(&topic, "gone").qos(1).retain();
        broker.connect(Connect::new(version, &unique("r")).will(will)).cut();
        assert!(watcher.message().retain()); // Retain As Published.
        let mut later = broker.client(4);
        later.subscribe(&topic, 1);
        let message = later.message();
        assert_eq!((message.text().as_str(), message.retain(), message.qos()), ("gone", true, 1));
    }
}

#[test]
fn retained_will_with_an_empty_payload_removes_and_is_delivered() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    broker.client(5).publish(Publish::new(&topic, "present").qos(1).retain());
    broker.connect(Connect::v5(&unique("empty")).will(Will::new(&topic, "").qos(1).retain())).cut();
    assert_eq!(watcher.payloads(2), ["present", ""]);
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    assert_eq!(later.until_own_marker(), []);
}

#[test]
fn will_with_an_empty_payload_is_a_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    broker.connect(Connect::v311(&unique("empty")).will(Will::new(&topic, ""))).cut();
    assert!(watcher.message().payload.is_empty());
}

#[test]
fn will_payload_is_any_bytes() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let every_byte: Vec<u8> = (0..=255).collect();
    broker.connect(Connect::v5(&unique("bytes")).will(Will::raw(topic.as_bytes(), &every_byte))).cut();
    assert_eq!(watcher.message().payload, every_byte);
}

#[test]
fn will_of_each_qos_is_delivered_at_its_qos() {
    let broker = Broker::shared();
    for qos in 0..=2 {
        let (topic, mut watcher) = watch(&broker);
        broker.connect(Connect::v5(&unique("q")).will(Will::new(&topic, "gone").qos(qos))).cut();
        assert_eq!(watcher.message().qos(), qos);
    }
}

#[test]
fn will_reaches_subscribers_of_every_version_and_every_kind() {
    let broker = Broker::shared();
    let root = unique("will");
    let mut watchers = [3, 4, 5].map(|version| broker.client(version));
    for (watcher, filter) in watchers.iter_mut().zip([format!("{root}/lamp"), format!("{root}/+"), format!("{root}/#")])
    {
        watcher.subscribe(&filter, 1);
    }
    broker.connect(mortal(5, &format!("{root}/lamp"))).cut();
    watchers.iter_mut().for_each(expect_will);
}

#[test]
fn will_reaches_the_sessions_own_subscription() {
    let broker = Broker::shared();
    let topic = unique("own");
    let connect = mortal(5, &topic).expiry(3600);
    let mut client = broker.connect(connect.clone());
    client.subscribe(&topic, 1);
    client.cut();
    expect_will(&mut broker.connect(connect.resume()));
}

#[test]
fn no_local_keeps_a_will_from_its_own_session() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = mortal(5, &topic).expiry(3600);
    let mut client = broker.connect(connect.clone());
    client.subscribe(&topic, 1 | NO_LOCAL);
    client.cut();
    expect_will(&mut watcher);
    assert_eq!(broker.connect(connect.resume()).until_own_marker(), []);
}

#[test]
fn will_goes_to_one_member_of_a_shared_subscription() {
    let broker = Broker::shared();
    let topic = unique("will");
    let mut members: Vec<_> = (0..3).map(|_| broker.client(5)).collect();
    for member in &mut members {
        member.subscribe(&format!("$share/g/{topic}"), 1);
    }
    let mut fence = broker.client(5);
    fence.subscribe(&topic, 1);
    broker.connect(mortal(5, &topic)).cut();
    expect_will(&mut fence);
    let copies: usize = members.iter_mut().map(|member| member.until_marker_of(&mut fence).len()).sum();
    assert_eq!(copies, 1);
}

#[test]
fn will_waits_for_a_persistent_session_that_is_offline() {
    let broker = Broker::shared();
    let (id, topic) = (unique("absent"), unique("will"));
    let mut absent = broker.connect(Connect::v5(&id).persistent());
    absent.subscribe(&topic, 1);
    absent.disconnect();
    let mut fence = broker.client(5);
    fence.subscribe(&topic, 1);
    broker.connect(mortal(5, &topic)).cut();
    expect_will(&mut fence);
    expect_will(&mut broker.connect(Connect::v5(&id).persistent().resume()));
}

#[test]
fn will_carries_the_subscription_identifier() {
    let broker = Broker::shared();
    let topic = unique("will");
    let mut watcher = broker.client(5);
    watcher.subscribe_with(&[(&topic, 1)], &[number(property::SUBSCRIPTION_IDENTIFIER, 7)]);
    broker.connect(mortal(5, &topic)).cut();
    assert_eq!(watcher.message().subscription_identifiers(), [7]);
}

#[test]
fn will_is_resent_until_it_is_acknowledged() {
    let broker = Broker::shared();
    let (id, topic) = (unique("watcher"), unique("will"));
    let mut watcher = broker.connect(Connect::v5(&id).persistent());
    watcher.subscribe(&topic, 1);
    broker.connect(mortal(5, &topic)).cut();
    assert_eq!(watcher.expect(PUBLISH).text(), "gone");
    watcher.cut();
    let again = broker.connect(Connect::v5(&id).persistent().resume()).message();
    assert_eq!((again.text().as_str(), again.dup()), ("gone", true));
}

#[test]
fn wills_of_a_storm_arrive_once_each() {
    let broker = Broker::shared();
    let root = unique("storm");
    let mut watcher = broker.client(5);
    watcher.subscribe(&format!("{root}/+"), 1);
    let clients: Vec<_> =
        (0..300).map(|index| broker.connect(mortal([4, 5][index % 2], &format!("{root}/{index}")))).collect();
    clients.into_iter().for_each(Client::reset);
    let mut topics: Vec<String> = (0..300).map(|_| watcher.message().topic).collect();
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), 300);
    watcher.expect_quiet();
}

#[test]
fn storm_is_kept_for_a_session_beyond_its_message_limit() {
    let broker = Broker::start("[sessions]\nqueue_messages_max = 10\n");
    let mut watcher = broker.connect(Connect::v5("watcher").persistent());
    watcher.subscribe("storm/+", 1);
    watcher.cut();
    let mut fence = broker.client(5);
    fence.subscribe("storm/+", 0);
    let clients: Vec<_> = (0..100).map(|index| broker.connect(mortal(5, &format!("storm/{index}")))).collect();
    clients.into_iter().for_each(Client::cut);
    fence.payloads(100);
    let mut watcher = broker.connect(Connect::v5("watcher").persistent().resume());
    let mut topics: Vec<String> = (0..100).map(|_| watcher.message().topic).collect();
    topics.sort();
    topics.dedup();
    assert_eq!(topics.len(), 100);
}

#[test]
fn stamped_will_tells_whose_it_was() {
    let broker = Broker::start("[wills]\nstamp = [\"stamped/#\"]\n");
    let (mut watcher, mut plain) = (broker.client(5), broker.client(4));
    watcher.subscribe("#", 1);
    plain.subscribe("#", 1);
    for topic in ["stamped/lamp", "other/lamp"] {
        let will = Will::new(topic, "gone").property(user("mine", "first"));
        broker.connect(Connect::v5("the-lamp").will(will)).cut();
        assert_eq!(plain.message().text(), "gone");
    }
    let (stamped, other) = (watcher.message(), watcher.message());
    assert_eq!(stamped.user_properties()[0], ("mine", "first")); // Its own come first, unchanged.
    assert!(stamped.user_properties().iter().any(|(_, value)| *value == "the-lamp"), "{stamped:?}");
    assert_eq!(other.user_properties(), [("mine", "first")]);
}
