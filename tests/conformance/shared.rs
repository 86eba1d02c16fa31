//! Shared Subscriptions (§4.8.2).

use crate::harness::parse::{PUBLISH, SUBACK};
use crate::harness::wire::{self, acknowledgement_with_reason};
use crate::harness::{Broker, Client, Connect, Publish, property, unique};

/// What each member got, once the publisher's messages have been handed out.
fn received(members: &mut [Client], publisher: &mut Client) -> Vec<Vec<String>> {
    let collect = |member: &mut Client| {
        member.until_marker_of(publisher).iter().map(|message| message.text()).collect::<Vec<_>>()
    };
    members.iter_mut().map(collect).collect()
}

#[test]
fn mqtt_4_8_2_1_share_name_must_not_be_empty() {
    let mut client = Broker::shared().client(5);
    client.send(&wire::subscribe(5, 1, &[("$share//a", 0)], &[]));
    let packets = client.until_closed_or(SUBACK);
    assert!(packets.iter().all(|packet| packet.reason >= 0x80 || packet.reasons[0] >= 0x80), "{packets:?}");
}

#[test]
fn mqtt_4_8_2_2_share_name_must_not_hold_wildcards_and_a_filter_must_follow() {
    for filter in ["$share/a+/t", "$share/#/t", "$share/group", "$share/group/"] {
        let mut client = Broker::shared().client(5);
        client.send(&wire::subscribe(5, 1, &[(filter, 0)], &[]));
        let packets = client.until_closed_or(SUBACK);
        assert!(packets.iter().all(|packet| packet.reason >= 0x80 || packet.reasons[0] >= 0x80), "{packets:?}");
    }
}

#[test]
fn mqtt_4_8_2_each_message_goes_to_one_member_of_the_group() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let mut members: Vec<_> = (0..3).map(|_| broker.client(5)).collect();
    members.iter_mut().for_each(|member| assert_eq!(member.subscribe(&format!("$share/g/{topic}"), 1), 1));
    let mut publisher = broker.client(5);
    let mut expected: Vec<String> = (0..60).map(|index| format!("{index:02}")).collect();
    for payload in expected.iter() {
        publisher.publish(Publish::new(&topic, payload).qos(1));
    }
    let shares = received(&mut members, &mut publisher);
    assert!(shares.iter().filter(|share| !share.is_empty()).count() > 1, "one member got everything");
    let mut all = shares.concat();
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn mqtt_4_8_2_groups_and_plain_subscriptions_each_get_their_copy() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let mut clients: Vec<_> = (0..3).map(|_| broker.client(5)).collect();
    for (client, filter) in
        clients.iter_mut().zip([format!("$share/one/{topic}"), format!("$share/two/{topic}"), topic.clone()])
    {
        client.subscribe(&filter, 0);
    }
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "x"));
    assert_eq!(received(&mut clients, &mut publisher), [["x"], ["x"], ["x"]]);
}

#[test]
fn mqtt_4_8_2_same_client_may_hold_a_shared_and_a_plain_subscription() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let mut client = broker.client(5);
    client.subscribe_with(&[(&format!("$share/g/{topic}"), 0), (&topic, 0)], &[]);
    client.publish(Publish::new(&topic, "x"));
    assert_eq!(client.until_own_marker().len(), 2);
}

#[test]
fn mqtt_4_8_2_retained_messages_are_not_sent_to_a_new_shared_subscription() {
    let broker = Broker::shared();
    let topic = unique("shared");
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1).retain());
    let mut client = broker.client(5);
    client.subscribe(&format!("$share/g/{topic}"), 1);
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_4_8_2_member_that_unsubscribes_gets_nothing_more() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let filter = format!("$share/g/{topic}");
    let mut members: Vec<_> = (0..2).map(|_| broker.client(5)).collect();
    for member in members.iter_mut() {
        member.subscribe(&filter, 0);
    }
    assert_eq!(members[0].unsubscribe(&[&filter]).reasons, [0]);
    let mut publisher = broker.client(5);
    for _ in 0..10 {
        publisher.publish(Publish::new(&topic, "x"));
    }
    let shares = received(&mut members, &mut publisher);
    assert_eq!((shares[0].len(), shares[1].len()), (0, 10));
}

#[test]
fn mqtt_4_8_2_wildcards_work_behind_the_share_name() {
    let broker = Broker::shared();
    let root = unique("shared");
    let mut client = broker.client(5);
    client.subscribe(&format!("$share/g/{root}/+/x"), 0);
    client.publish(Publish::new(&format!("{root}/a/x"), "yes"));
    client.publish(Publish::new(&format!("{root}/a/y"), "no"));
    assert_eq!(client.until_own_marker().iter().map(|message| message.text()).collect::<Vec<_>>(), ["yes"]);
}

#[test]
fn mqtt_4_8_2_3_member_gets_messages_at_its_own_granted_qos() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let mut members: Vec<_> = (0..2).map(|_| broker.client(5)).collect();
    for (qos, member) in (0..).zip(&mut members) {
        member.subscribe(&format!("$share/g/{topic}"), qos);
    }
    let mut publisher = broker.client(5);
    for _ in 0..20 {
        publisher.publish(Publish::new(&topic, "x").qos(2));
    }
    for (qos, member) in (0..).zip(&mut members) {
        assert!(member.until_marker_of(&mut publisher).iter().all(|message| message.qos() == qos));
    }
}

#[test]
fn mqtt_4_8_2_4_unacknowledged_qos_2_message_stays_with_its_member() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let filter = format!("$share/g/{topic}");
    let id = unique("member");
    let mut holder = broker.connect(Connect::v5(&id).persistent());
    holder.subscribe(&filter, 2);
    broker.client(5).publish(Publish::new(&topic, "mine").qos(2));
    holder.expect(PUBLISH);
    let mut other = broker.client(5);
    other.subscribe(&filter, 2);
    holder.cut();
    let mut holder = broker.connect(Connect::v5(&id).persistent().resume());
    assert_eq!(holder.message().text(), "mine");
    assert!(other.until_own_marker().is_empty()); // [MQTT-4.8.2-5]
}

#[test]
fn mqtt_4_8_2_6_refused_message_is_not_tried_on_another_member() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let filter = format!("$share/g/{topic}");
    let mut refuser = broker.client(5);
    refuser.subscribe(&filter, 1);
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new(&topic, "unwanted").qos(1));
    let publish = refuser.expect(PUBLISH);
    let mut other = broker.client(5);
    other.subscribe(&filter, 1);
    refuser.send(&acknowledgement_with_reason(crate::harness::parse::PUBACK, publish.packet_id, 0x97));
    refuser.ping();
    assert!(other.until_marker_of(&mut refuser).is_empty());
}

#[test]
fn mqtt_4_8_2_connected_member_is_preferred_to_an_absent_one() {
    let broker = Broker::shared();
    let topic = unique("shared");
    let filter = format!("$share/g/{topic}");
    let mut absent = broker.connect(Connect::v5(&unique("absent")).persistent());
    absent.subscribe(&filter, 1);
    let mut present = broker.client(5);
    present.subscribe(&filter, 1);
    absent.disconnect();
    let mut publisher = broker.client(5);
    for _ in 0..10 {
        publisher.publish(Publish::new(&topic, "x").qos(1));
    }
    assert_eq!(present.until_marker_of(&mut publisher).len(), 10);
}

#[test]
fn mqtt_4_8_2_shared_subscription_of_an_absent_session_keeps_messages() {
    let broker = Broker::shared();
    let (id, topic) = (unique("absent"), unique("shared"));
    let mut client = broker.connect(Connect::v5(&id).persistent());
    client.subscribe(&format!("$share/g/{topic}"), 1);
    client.disconnect();
    broker.client(5).publish(Publish::new(&topic, "kept").qos(1));
    assert_eq!(broker.connect(Connect::v5(&id).persistent().resume()).message().text(), "kept");
}

#[test]
fn mqtt_3_2_2_3_13_shared_subscriptions_are_refused_where_they_are_off() {
    let broker = Broker::start("[features]\nshared_subscriptions = false\n");
    let mut client = broker.client(5);
    assert_eq!(client.connack.number(property::SHARED_SUBSCRIPTION_AVAILABLE), Some(0));
    client.send(&wire::subscribe(5, 1, &[("$share/g/a", 0)], &[]));
    let answer = client.receive();
    assert!(answer.reason == 0x9E || answer.reasons == [0x9E], "{answer:?}");
}
