//! Session State: what stays, for how long, and what ends it (§3.1.2.4, §3.1.2.11.2, §4.1).

use crate::harness::property::{self, number};
use crate::harness::{Broker, Connect, Publish, millis, unique};
use std::thread::sleep;

#[test]
fn mqtt_3_1_2_4_clean_start_discards_the_session() {
    let broker = Broker::shared();
    let (id, topic) = (unique("clean"), unique("clean"));
    let mut client = broker.connect(Connect::v5(&id).persistent());
    client.subscribe(&topic, 1);
    client.disconnect();
    broker.client(5).publish(Publish::new(&topic, "forgotten").qos(1));
    let mut client = broker.connect(Connect::v5(&id).persistent());
    assert!(!client.session_present()); // [MQTT-3.2.2-2]
    client.publish(Publish::new(&topic, "x").qos(1));
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn v311_mqtt_3_1_2_6_clean_session_discards_the_session() {
    let broker = Broker::shared();
    let (id, topic) = (unique("clean"), unique("clean"));
    let mut client = broker.connect(Connect::v311(&id).resume());
    client.subscribe(&topic, 1);
    client.disconnect();
    broker.connect(Connect::v311(&id)).disconnect();
    let mut client = broker.connect(Connect::v311(&id).resume());
    assert!(!client.session_present());
    client.publish(Publish::new(&topic, "x").qos(1));
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_3_1_2_5_session_goes_on_without_clean_start() {
    let broker = Broker::shared();
    let (id, topic) = (unique("goes-on"), unique("goes-on"));
    let mut client = broker.connect(Connect::v5(&id).persistent());
    client.subscribe(&topic, 2);
    client.disconnect();
    let mut publisher = broker.client(5);
    for qos in [1, 2] {
        publisher.publish(Publish::new(&topic, &format!("qos {qos}")).qos(qos));
    }
    let mut client = broker.connect(Connect::v5(&id).persistent().resume());
    assert!(client.session_present()); // [MQTT-3.2.2-3]
    assert_eq!(client.payloads(2), ["qos 1", "qos 2"]);
}

#[test]
fn v311_mqtt_3_1_2_4_session_goes_on_and_5_keeps_messages_of_qos_1_and_2() {
    let broker = Broker::shared();
    let (id, topic) = (unique("goes-on"), unique("goes-on"));
    let mut client = broker.connect(Connect::v311(&id).resume());
    client.subscribe(&topic, 2);
    client.cut();
    let mut publisher = broker.client(4);
    for qos in [1, 2] {
        publisher.publish(Publish::new(&topic, &format!("qos {qos}")).qos(qos));
    }
    assert_eq!(broker.connect(Connect::v311(&id).resume()).payloads(2), ["qos 1", "qos 2"]);
}

#[test]
fn v31_session_goes_on_without_clean_session() {
    let broker = Broker::shared();
    let (id, topic) = (unique("s31"), unique("goes-on"));
    let mut client = broker.connect(Connect::v31(&id).resume());
    client.subscribe(&topic, 1);
    client.cut();
    broker.client(3).publish(Publish::new(&topic, "kept").qos(1));
    assert_eq!(broker.connect(Connect::v31(&id).resume()).payloads(1), ["kept"]);
}

#[test]
fn mqtt_3_1_2_6_session_is_new_where_there_was_none() {
    let client = Broker::shared().connect(Connect::v5(&unique("new")).resume());
    assert!(!client.session_present());
}

#[test]
fn mqtt_3_1_2_23_session_ends_with_the_connection_where_no_expiry_is_given() {
    let broker = Broker::shared();
    let id = unique("brief");
    broker.connect(Connect::v5(&id)).disconnect();
    assert!(!broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn mqtt_3_1_2_11_2_session_survives_a_cut_connection() {
    let broker = Broker::shared();
    let id = unique("survivor");
    broker.connect(Connect::v5(&id).persistent()).reset();
    assert!(broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn mqtt_3_1_2_11_2_session_expires() {
    let broker = Broker::shared();
    let (early, late) = (unique("early"), unique("late"));
    broker.connect(Connect::v5(&early).expiry(1)).disconnect();
    broker.connect(Connect::v5(&late).expiry(2)).disconnect();
    sleep(millis(1300));
    assert!(!broker.connect(Connect::v5(&early).resume()).session_present());
    assert!(broker.connect(Connect::v5(&late).resume()).session_present());
}

#[test]
fn mqtt_3_1_2_11_2_session_does_not_expire_while_it_is_connected() {
    let broker = Broker::shared();
    let id = unique("connected");
    let client = broker.connect(Connect::v5(&id).expiry(1));
    sleep(millis(1300));
    client.disconnect();
    assert!(broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn mqtt_3_1_2_11_2_returning_client_stops_the_expiry() {
    let broker = Broker::shared();
    let id = unique("back");
    broker.connect(Connect::v5(&id).expiry(1)).disconnect();
    let client = broker.connect(Connect::v5(&id).resume().expiry(60));
    sleep(millis(1300));
    client.disconnect();
    assert!(broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn mqtt_3_1_2_11_2_largest_expiry_interval_never_expires() {
    let broker = Broker::shared();
    let id = unique("forever");
    broker.connect(Connect::v5(&id).expiry(u32::MAX)).disconnect();
    sleep(millis(100));
    assert!(broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn mqtt_3_1_2_11_2_new_expiry_interval_replaces_the_old_one() {
    let broker = Broker::shared();
    let id = unique("replaced");
    broker.connect(Connect::v5(&id).expiry(60)).disconnect();
    broker.connect(Connect::v5(&id).resume()).disconnect(); // Now it is 0.
    assert!(!broker.connect(Connect::v5(&id).resume()).session_present());
}

#[test]
fn sessions_of_3_x_clients_expire_where_the_operator_says_so() {
    let broker = Broker::start("[sessions]\nexpiry_3x = \"1s\"\n");
    broker.connect(Connect::v311("old").resume()).disconnect();
    assert!(broker.connect(Connect::v311("old").resume()).session_present());
    sleep(millis(100));
    broker.connect(Connect::v311("old").resume()).disconnect();
    sleep(millis(1300));
    assert!(!broker.connect(Connect::v311("old").resume()).session_present());
}

#[test]
fn session_outlives_a_takeover() {
    let broker = Broker::shared();
    let (id, topic) = (unique("taken"), unique("taken"));
    let mut first = broker.connect(Connect::v5(&id).persistent());
    first.subscribe(&topic, 1);
    let mut second = broker.connect(Connect::v5(&id).persistent().resume());
    assert!(second.session_present());
    first.expect_disconnect(&[0x8E]);
    broker.client(5).publish(Publish::new(&topic, "to the second").qos(1));
    assert_eq!(second.payloads(1), ["to the second"]);
}

#[test]
fn session_may_be_resumed_by_another_version() {
    let broker = Broker::shared();
    let (id, topic) = (unique("versions"), unique("versions"));
    let mut old = broker.connect(Connect::v311(&id).resume());
    old.subscribe(&topic, 1);
    old.disconnect();
    broker.client(4).publish(Publish::new(&topic, "kept").qos(1));
    let mut new = broker.connect(Connect::v5(&id).persistent().resume());
    assert!(new.session_present());
    assert_eq!(new.payloads(1), ["kept"]);
}

#[test]
fn mqtt_4_5_0_1_messages_wait_in_order_for_an_absent_client() {
    let broker = Broker::shared();
    let (id, topic) = (unique("absent"), unique("absent"));
    let mut client = broker.connect(Connect::v5(&id).persistent());
    client.subscribe(&topic, 1);
    client.cut();
    let mut publisher = broker.client(5);
    let expected: Vec<String> = (0..300).map(|index| index.to_string()).collect();
    for payload in &expected {
        publisher.publish(Publish::new(&topic, payload).qos(1));
    }
    assert_eq!(broker.connect(Connect::v5(&id).persistent().resume()).payloads(300), expected);
}

#[test]
fn mqtt_4_1_subscription_options_belong_to_the_session() {
    let broker = Broker::shared();
    let (id, topic) = (unique("options"), unique("options"));
    let mut client = broker.connect(Connect::v5(&id).persistent());
    let options = 1 | crate::harness::wire::RETAIN_AS_PUBLISHED;
    client.subscribe_with(&[(&topic, options)], &[number(property::SUBSCRIPTION_IDENTIFIER, 42)]);
    client.disconnect();
    broker.client(5).publish(Publish::new(&topic, "x").qos(2).retain());
    let message = broker.connect(Connect::v5(&id).persistent().resume()).message();
    assert_eq!((message.qos(), message.retain(), message.subscription_identifiers()), (1, true, vec![42]));
}

#[test]
fn queue_of_an_absent_session_is_bounded_and_says_so_by_what_it_keeps() {
    let broker = Broker::start("[sessions]\nqueue_messages_max = 10\n");
    let mut client = broker.connect(Connect::v5("absent").persistent());
    client.subscribe("t", 1);
    client.cut();
    let mut publisher = broker.client(5);
    for index in 0..50 {
        publisher.publish(Publish::new("t", &index.to_string()).qos(1));
    }
    let mut client = broker.connect(Connect::v5("absent").persistent().resume());
    assert_eq!(client.until_own_marker().len(), 10);
}
