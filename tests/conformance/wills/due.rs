//! When a pending will falls due.

use super::{delayed, expect_no_will, expect_will_after, mortal, watch};
use crate::harness::property::{self, number};
use crate::harness::{Broker, Connect, Will, secs, unique};
use std::time::{Duration, Instant};

#[test]
fn will_without_delay_is_published_at_once() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let since = Instant::now();
    broker.connect(mortal(5, &topic).expiry(3600)).cut();
    expect_will_after(&mut watcher, since, Duration::ZERO);
}

#[test]
fn v311_will_of_a_session_that_stays_is_published_at_once() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let since = Instant::now();
    broker.connect(mortal(4, &topic).resume()).cut();
    expect_will_after(&mut watcher, since, Duration::ZERO);
}

#[test]
fn mqtt_3_1_3_2_2_will_waits_for_its_delay() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let client = broker.connect(delayed(&topic, 1));
    let since = Instant::now();
    client.cut();
    expect_will_after(&mut watcher, since, secs(1));
}

#[test]
fn mqtt_3_1_2_8_will_does_not_wait_longer_than_the_session_lives() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").delay(3600);
    let client = broker.connect(Connect::v5(&unique("brief")).expiry(1).will(will));
    let since = Instant::now();
    client.cut();
    expect_will_after(&mut watcher, since, secs(1));
}

#[test]
fn will_is_published_at_once_where_the_session_ends_with_the_connection() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").delay(3600);
    let client = broker.connect(Connect::v5(&unique("brief")).will(will));
    let since = Instant::now();
    client.cut();
    expect_will_after(&mut watcher, since, Duration::ZERO);
}

#[test]
fn session_expiry_of_disconnect_counts() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let client = broker.connect(delayed(&topic, 3600));
    let since = Instant::now();
    client.disconnect_with(0x04, &[number(property::SESSION_EXPIRY_INTERVAL, 1)]);
    expect_will_after(&mut watcher, since, secs(1));
}

#[test]
fn session_expiry_0_of_disconnect_makes_the_will_due_at_once() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let since = Instant::now();
    broker.connect(delayed(&topic, 3600)).disconnect_with(0x04, &[number(property::SESSION_EXPIRY_INTERVAL, 0)]);
    expect_will_after(&mut watcher, since, Duration::ZERO);
}

#[test]
fn session_that_never_expires_leaves_the_delay_alone() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").delay(1);
    let client = broker.connect(Connect::v5(&unique("forever")).expiry(u32::MAX).will(will));
    let since = Instant::now();
    client.cut();
    expect_will_after(&mut watcher, since, secs(1));
}

#[test]
fn largest_delay_does_not_wrap_around() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let will = Will::new(&topic, "gone").delay(u32::MAX);
    broker.connect(Connect::v5(&unique("forever")).expiry(u32::MAX).will(will)).cut();
    expect_no_will(&mut watcher, &mut broker.client(5));
}

#[test]
fn disconnect_with_will_message_keeps_the_delay() {
    let broker = Broker::shared();
    let (topic, mut watcher) = watch(&broker);
    let client = broker.connect(delayed(&topic, 1));
    let since = Instant::now();
    client.disconnect_with(0x04, &[]);
    expect_will_after(&mut watcher, since, secs(1));
}

#[test]
fn wills_are_published_in_the_order_in_which_they_fall_due() {
    let broker = Broker::with_shards(1, "");
    let mut watcher = broker.client(5);
    watcher.subscribe("order/#", 1);
    for (name, delay) in [("last", 2), ("first", 1), ("second", 1), ("third", 1)] {
        let will = Will::new(&format!("order/{name}"), name).delay(delay);
        broker.connect(Connect::v5(name).expiry(60).will(will)).disconnect_with(0x04, &[]);
    }
    assert_eq!(watcher.payloads(4), ["first", "second", "third", "last"]);
}

#[test]
fn wills_without_delay_come_in_the_order_of_the_closes() {
    let broker = Broker::with_shards(1, "");
    let mut watcher = broker.client(5);
    watcher.subscribe("order/#", 1);
    let expected: Vec<String> = (0..20).map(|index| index.to_string()).collect();
    for name in &expected {
        broker.connect(Connect::v5(name).will(Will::new("order/t", name))).disconnect_with(0x04, &[]);
    }
    assert_eq!(watcher.payloads(20), expected);
}

#[test]
fn delay_above_the_operators_maximum_is_capped() {
    let broker = Broker::start("[wills]\nmax_delay = \"1s\"\n");
    let (topic, mut watcher) = watch(&broker);
    let client = broker.connect(delayed(&topic, 3600));
    let since = Instant::now();
    client.cut();
    expect_will_after(&mut watcher, since, secs(1));
}
