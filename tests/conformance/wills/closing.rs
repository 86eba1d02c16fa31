//! How the Network Connection ends, and what that does to the will.

use super::{delayed, expect_no_will, expect_will, mortal, watch};
use crate::harness::property::{self, number};
use crate::harness::{Broker, Client, Publish, millis, unique, wire};
use std::time::Instant;

#[test]
fn mqtt_3_14_4_3_disconnect_with_reason_0_discards_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    broker.connect(mortal(5, &topic)).disconnect(); // Remaining Length 0.
    broker.connect(mortal(5, &topic)).disconnect_with(0x00, &[]);
    broker.connect(delayed(&topic, 1)).disconnect();
    watcher.expect_silence(millis(1200)); // Not after its delay either. [MQTT-3.1.2-10]
    expect_no_will(&mut watcher, &mut broker.client(5));
}

#[test]
fn v311_mqtt_3_14_4_3_disconnect_discards_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    for version in [3, 4] {
        broker.connect(mortal(version, &topic)).disconnect();
        broker.connect(mortal(version, &topic).resume()).disconnect();
    }
    expect_no_will(&mut watcher, &mut broker.client(5)); // [v3.1.1 MQTT-3.1.2-10]
}

#[test]
fn disconnect_with_will_message_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    broker.connect(mortal(5, &topic)).disconnect_with(0x04, &[]);
    expect_will(&mut watcher);
}

#[test]
fn disconnect_with_any_other_reason_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    for reason in [0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        broker.connect(mortal(5, &topic)).disconnect_with(reason, &[]);
        expect_will(&mut watcher);
    }
}

#[test]
fn malformed_disconnect_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    for bytes in [wire::packet(0xE1, &[]), wire::packet(0xE0, &[0, 1]), wire::packet(0xE0, &[0, 0, 0])] {
        let mut client = broker.connect(mortal(5, &topic));
        client.send(&bytes);
        client.expect_disconnect(&[0x81]);
        expect_will(&mut watcher);
    }
}

#[test]
fn v311_malformed_disconnect_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(4, &topic));
    client.send(&wire::packet(0xE0, &[0]));
    client.expect_closed();
    expect_will(&mut watcher);
}

#[test]
fn disconnect_with_a_forbidden_session_expiry_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.send(&wire::disconnect_with(0x00, &[number(property::SESSION_EXPIRY_INTERVAL, 10)]));
    client.expect_disconnect(&[0x82]);
    expect_will(&mut watcher);
}

#[test]
fn fin_publishes_the_will() {
    let broker = Broker::shared();
    for version in [3, 4, 5] {
        let (topic, mut watcher) = watch(&broker);
        broker.connect(mortal(version, &topic)).cut();
        expect_will(&mut watcher);
    }
}

#[test]
fn half_closed_connection_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.finish_sending();
    expect_will(&mut watcher);
    client.until_closed();
}

#[test]
fn rst_publishes_the_will() {
    let broker = Broker::shared();
    for version in [3, 4, 5] {
        let (topic, mut watcher) = watch(&broker);
        broker.connect(mortal(version, &topic)).reset();
        expect_will(&mut watcher);
    }
}

#[test]
fn close_in_the_middle_of_a_packet_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.send(&Publish::new("a", "never complete").encode(5)[..6]);
    client.cut();
    expect_will(&mut watcher);
}

#[test]
fn v311_keep_alive_that_runs_out_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let since = Instant::now();
    let mut client = broker.connect(mortal(4, &topic).keep_alive(1));
    expect_will(&mut watcher);
    let elapsed = since.elapsed();
    assert!((millis(1500)..millis(2500)).contains(&elapsed), "{elapsed:?}");
    client.expect_closed();
}

#[test]
fn server_keep_alive_that_runs_out_publishes_the_will() {
    let broker = Broker::start("[limits]\nkeep_alive_max = 1\n");
    let (topic, mut watcher) = watch_without_keep_alive(&broker);
    let since = Instant::now();
    let client = broker.connect(mortal(5, &topic).keep_alive(600));
    expect_will(&mut watcher);
    assert!(since.elapsed() >= millis(1500), "{:?}", since.elapsed());
    drop(client);
}

/// A watcher of 3.1.1, which keeps its own Keep Alive (none) whatever the server's limit.
fn watch_without_keep_alive(broker: &Broker) -> (String, Client) {
    let topic = unique("will");
    let mut watcher = broker.client(4);
    watcher.subscribe(&topic, 1);
    (topic, watcher)
}

#[test]
fn malformed_packet_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.send(&wire::packet(0x82, &[0]));
    client.expect_disconnect(&[0x81]);
    expect_will(&mut watcher);
}

#[test]
fn v311_malformed_packet_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(4, &topic));
    client.send(&wire::packet(0x82, &[0]));
    client.expect_closed();
    expect_will(&mut watcher);
}

#[test]
fn protocol_error_publishes_the_will() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let connect = mortal(5, &topic);
    let mut client = broker.connect(connect.clone());
    client.send(&connect.encode()); // A second CONNECT.
    client.expect_disconnect(&[0x82]);
    expect_will(&mut watcher);
}

#[test]
fn packet_that_is_too_large_publishes_the_will() {
    let broker = Broker::start("[limits]\npacket_bytes_max = \"4KiB\"\n");
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.send_anyway(&Publish::new("a", &"x".repeat(5000)).encode(5));
    client.expect_disconnect(&[0x95]);
    expect_will(&mut watcher);
}

#[test]
fn exceeded_receive_maximum_publishes_the_will() {
    let broker = Broker::start("[limits]\nreceive_maximum = 1\n");
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.publish_only(&Publish::new("a", "x").qos(2).id(1));
    client.publish_only(&Publish::new("a", "x").qos(2).id(2));
    client.expect_disconnect(&[0x93]);
    expect_will(&mut watcher);
}

#[test]
fn slow_consumer_that_is_closed_publishes_its_will() {
    let broker = Broker::start("[limits]\nwrite_timeout = \"1s\"\n");
    let (topic, mut watcher) = watch(&broker);
    let mut client = broker.connect(mortal(5, &topic));
    client.subscribe("flood", 1);
    let mut publisher = broker.client(5);
    let payload = "x".repeat(100_000);
    for _ in 0..200 {
        publisher.publish(Publish::new("flood", &payload).qos(1)); // The client reads none of it.
    }
    expect_will(&mut watcher);
    drop(client);
}
