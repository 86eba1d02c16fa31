//! Will Messages: every row of the table of what happens to a will that can be seen at a socket.

mod arming;
mod closing;
mod coming_back;
mod due;
mod publishing;

use crate::harness::wire::RETAIN_AS_PUBLISHED;
use crate::harness::{Broker, Client, Connect, Will, secs, unique};
use std::time::{Duration, Instant};

/// A fresh Will Topic, and a client that watches it.
fn watch(broker: &Broker) -> (String, Client) {
    let topic = unique("will");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 2 | RETAIN_AS_PUBLISHED);
    (topic, watcher)
}

/// A client whose will says "gone" at QoS 1.
fn mortal(version: u8, topic: &str) -> Connect {
    Connect::new(version, &unique("mortal")).will(Will::new(topic, "gone").qos(1))
}

/// The same with a Will Delay Interval and a session that lives for an hour.
fn delayed(topic: &str, seconds: u32) -> Connect {
    let will = Will::new(topic, "gone").qos(1).delay(seconds);
    Connect::v5(&unique("delayed")).expiry(3600).will(will)
}

fn expect_will(watcher: &mut Client) {
    assert_eq!(watcher.message().text(), "gone");
}

/// The will comes once `wait` has passed since `since`, and not before.
fn expect_will_after(watcher: &mut Client, since: Instant, wait: Duration) {
    expect_will(watcher);
    let elapsed = since.elapsed();
    // The broker sees the close a little after us, so it cannot be early by our clock.
    assert!(elapsed >= wait, "early: {elapsed:?}");
    assert!(elapsed < wait + secs(1), "late: {elapsed:?}");
}

/// No will comes; `other` is a connection on which the broker has handled whatever could cause one.
fn expect_no_will(watcher: &mut Client, other: &mut Client) {
    other.ping();
    watcher.expect_quiet();
    assert_eq!(watcher.until_marker_of(other), []);
}
