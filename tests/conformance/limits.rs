//! Bounds on what a client may do, at the socket, where the system has buffers of its own.

use crate::harness::parse::PUBACK;
use crate::harness::{Broker, Connect, Publish, Will, unique};

#[test]
fn who_publishes_too_fast_is_read_again_and_nothing_is_lost() {
    let broker = Broker::start("[limits]\npublish_rate_max = 50\n");
    let topic = unique("fast");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    let mut client = broker.client(5);
    let payload = "x".repeat(2000); // All of them are more than is read at once.
    let publish = |id| Publish::new(&topic, &payload).qos(1).id(id).encode(5);
    client.send(&(1..=100).flat_map(publish).collect::<Vec<_>>());
    for id in 1..=100 {
        assert_eq!(client.expect(PUBACK).packet_id, id);
        watcher.message();
    }
    client.ping();
}

#[test]
fn will_of_a_client_that_does_not_read_is_published_where_that_ends_it() {
    let broker = Broker::start("[limits]\noutput_bytes_max = \"64KiB\"\nslow_reader = \"disconnect\"\n");
    let (topic, will) = (unique("flood"), unique("will"));
    let mut watcher = broker.client(5);
    watcher.subscribe(&will, 1);
    let mut slow = broker.connect(Connect::v5(&unique("slow")).will(Will::new(&will, "too slow")));
    slow.subscribe(&topic, 0);
    let mut publisher = broker.client(5);
    let payload = "x".repeat(64 * 1024);
    // The system takes some megabytes for a peer that does not read.
    for _ in 0..400 {
        publisher.publish(Publish::new(&topic, &payload).qos(1));
    }
    assert_eq!(watcher.message().text(), "too slow");
    slow.until_closed();
}
