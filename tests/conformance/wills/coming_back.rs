//! The client returns, or its session is taken over.

use super::{delayed, expect_no_will, expect_will, mortal, watch};
use crate::harness::parse::Packet;
use crate::harness::{Broker, Connect, Publish, Will, millis, unique};
use std::thread::sleep;

#[test]
fn mqtt_3_1_3_9_will_is_withheld_when_the_client_returns_in_time() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = delayed(&topic, 1);
    broker.connect(connect.clone()).cut();
    sleep(millis(300));
    let mut client = broker.connect(connect.resume());
    watcher.expect_silence(millis(1200));
    expect_no_will(&mut watcher, &mut client);
}

#[test]
fn pending_will_is_published_when_the_client_returns_with_clean_start() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let id = unique("clean");
    let will = Will::new(&topic, "gone").qos(1).delay(3600);
    broker.connect(Connect::v5(&id).expiry(3600).will(will)).cut();
    let mut client = broker.connect(Connect::v5(&id));
    let before = watcher.until_marker_of(&mut client);
    assert_eq!(before.iter().map(Packet::text).collect::<Vec<_>>(), ["gone"]);
}

#[test]
fn v311_pending_will_is_discarded_when_the_client_returns_without_clean_session() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let id = unique("versions");
    let will = Will::new(&topic, "gone").qos(1).delay(1);
    broker.connect(Connect::v5(&id).expiry(3600).will(will)).cut();
    sleep(millis(200));
    let mut client = broker.connect(Connect::v311(&id).resume());
    assert!(client.session_present());
    watcher.expect_silence(millis(1100));
    expect_no_will(&mut watcher, &mut client);
}

#[test]
fn takeover_without_delay_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let id = unique("taken");
    let will = Will::new(&topic, "gone").qos(1);
    let mut first = broker.connect(Connect::v5(&id).expiry(3600).will(will));
    let mut second = broker.connect(Connect::v5(&id).expiry(3600).resume());
    first.expect_disconnect(&[0x8E]);
    assert_eq!(watcher.until_marker_of(&mut second).len(), 1);
}

#[test]
fn takeover_with_delay_discards_the_will_of_a_session_that_goes_on() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = delayed(&topic, 1);
    let mut first = broker.connect(connect.clone());
    let mut second = broker.connect(connect.resume());
    first.expect_disconnect(&[0x8E]);
    watcher.expect_silence(millis(1200));
    expect_no_will(&mut watcher, &mut second);
}

#[test]
fn takeover_with_delay_publishes_the_will_of_a_session_that_ends() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let id = unique("taken");
    let will = Will::new(&topic, "gone").qos(1).delay(3600);
    let mut first = broker.connect(Connect::v5(&id).will(will)); // Session Expiry Interval 0.
    let mut second = broker.connect(Connect::v5(&id).resume());
    first.expect_disconnect(&[0x8E]);
    assert_eq!(watcher.until_marker_of(&mut second).len(), 1);
}

#[test]
fn takeover_with_clean_start_publishes_the_will_whatever_its_delay() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = delayed(&topic, 3600);
    let mut first = broker.connect(connect.clone());
    let mut second = broker.connect(connect); // Clean Start 1.
    first.expect_disconnect(&[0x8E]);
    assert_eq!(watcher.until_marker_of(&mut second).len(), 1);
}

#[test]
fn v311_takeover_publishes_the_will() {
    let broker = Broker::shared();
    for version in [3, 4] {
        for connect in [mortal(version, &unique("unused")), mortal(version, &unique("unused")).resume()] {
            let (topic, mut watcher) = watch(&broker);
            let connect = connect.will(Will::new(&topic, "gone").qos(1));
            let mut first = broker.connect(connect.clone());
            let mut second = broker.connect(connect);
            first.expect_closed();
            assert_eq!(watcher.until_marker_of(&mut second).len(), 1);
            second.disconnect();
        }
    }
}

#[test]
fn death_comes_before_birth_at_a_takeover() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = Connect::v5(&unique("lamp")).will(Will::new(&topic, "offline").qos(1).retain());
    let mut lamps = Vec::new();
    for _ in 0..30 {
        let mut lamp = broker.connect(connect.clone());
        lamp.publish(Publish::new(&topic, "online").qos(1).retain());
        lamps.push(lamp);
    }
    let mut expected = vec!["online"];
    expected.extend(["offline", "online"].repeat(29));
    assert_eq!(watcher.payloads(expected.len()), expected);
    let mut later = broker.client(5);
    later.subscribe(&topic, 1);
    assert_eq!(later.message().text(), "online");
}

#[test]
fn v311_death_comes_before_birth_at_a_takeover() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = Connect::v311(&unique("lamp")).will(Will::new(&topic, "offline").qos(1).retain());
    let mut lamps = Vec::new();
    for _ in 0..20 {
        let mut lamp = broker.connect(connect.clone());
        lamp.publish(Publish::new(&topic, "online").qos(1).retain());
        lamps.push(lamp);
    }
    let mut expected = vec!["online"];
    expected.extend(["offline", "online"].repeat(19));
    assert_eq!(watcher.payloads(expected.len()), expected);
}

#[test]
fn death_comes_before_birth_when_the_old_connection_was_just_cut() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = Connect::v5(&unique("lamp")).will(Will::new(&topic, "offline").qos(1).retain());
    for _ in 0..30 {
        let mut lamp = broker.connect(connect.clone());
        lamp.publish(Publish::new(&topic, "online").qos(1).retain());
        lamp.cut(); // The broker may see this close after the next CONNECT.
    }
    assert_eq!(watcher.payloads(60), ["online", "offline"].repeat(30));
}

#[test]
fn death_comes_before_birth_for_a_pending_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "offline").qos(1).retain().delay(3600);
    let connect = Connect::v5(&unique("lamp")).expiry(3600).will(will);
    for _ in 0..20 {
        let mut lamp = broker.connect(connect.clone());
        lamp.publish(Publish::new(&topic, "online").qos(1).retain());
        lamp.reset();
    }
    let mut expected = ["online", "offline"].repeat(19);
    expected.push("online");
    assert_eq!(watcher.payloads(expected.len()), expected);
}

#[test]
fn returning_client_brings_a_new_will_in_place_of_the_old() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let id = unique("changed");
    let old = Will::new(&topic, "old").delay(1);
    broker.connect(Connect::v5(&id).expiry(60).will(old)).cut();
    sleep(millis(100));
    broker.connect(Connect::v5(&id).expiry(60).resume().will(Will::new(&topic, "new"))).cut();
    assert_eq!(watcher.message().text(), "new");
    watcher.expect_silence(millis(1200));
}

#[test]
fn returning_client_without_a_will_has_none() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let id = unique("without");
    let will = Will::new(&topic, "gone").delay(1);
    broker.connect(Connect::v5(&id).expiry(60).will(will)).cut();
    sleep(millis(100));
    broker.connect(Connect::v5(&id).expiry(60).resume()).cut();
    watcher.expect_silence(millis(1200));
}

#[test]
fn will_that_was_published_is_not_published_again_by_a_return() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = mortal(5, &topic).expiry(3600);
    broker.connect(connect.clone()).cut();
    expect_will(&mut watcher);
    let mut client = broker.connect(connect.resume());
    expect_no_will(&mut watcher, &mut client); // [MQTT-3.1.2-10]
}

/// The CONNECT must not overtake the DISCONNECT that its client sent before it, on another socket.
#[test]
fn mqtt_3_14_4_3_clean_disconnect_counts_even_if_the_client_is_back_at_once() {
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards, "");
        let (topic, mut watcher) = watch(&broker);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let connect = mortal(4, &topic);
                    for _ in 0..150 {
                        let mut client = broker.connect(connect.clone());
                        client.send(&[0xE0, 0]); // DISCONNECT; dropping it closes the socket without waiting.
                    }
                });
            }
        });
        let mut other = broker.client(5);
        assert_eq!(watcher.until_marker_of(&mut other), [], "with {shards} shards");
    }
}
