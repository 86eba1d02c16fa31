//! Clients that go while they are not read, since they have published too fast: what becomes of their wills does not wait for the pause.

use crate::harness::parse::{PUBACK, Packet};
use crate::harness::transport::{KINDS, Kind};
use crate::harness::{Broker, Client, Connect, Publish, Will, unique, wire};

/// A PUBLISH of so many bytes takes minutes at [`RATE`], far more than a test waits.
const LARGE: usize = 700_000;
const RATE: &str = "[limits]\npublish_bytes_rate_max = \"4KiB\"\n";

/// A subscriber to everything below a topic, and that topic.
fn watch(broker: &Broker) -> (Client, String) {
    let topic = unique("hangup");
    let mut watcher = broker.client(5);
    watcher.subscribe(&format!("{topic}/#"), 1);
    (watcher, topic)
}

/// A client that is not read any more: it has published, and the broker has dealt with that.
fn paused(broker: &Broker, kind: Kind, watcher: &mut Client, topic: &str) -> Client {
    let will = Will::new(&format!("{topic}/will"), "gone");
    let mut client = broker.connect_over(kind, &Connect::v5(&unique("fast")).will(will));
    client.publish(Publish::new(&format!("{topic}/large"), &"x".repeat(LARGE)).qos(1));
    assert_eq!(watcher.message().payload.len(), LARGE);
    client
}

/// `count` PUBLISHes of QoS 1, whose payloads are their numbers.
fn publishes(topic: &str, count: u16) -> Vec<u8> {
    let publish = |id: u16| Publish::new(&format!("{topic}/small"), &id.to_string()).qos(1).id(1000 + id).encode(5);
    (0..count).flat_map(publish).collect()
}

fn texts(messages: &[Packet]) -> Vec<String> {
    messages.iter().map(Packet::text).collect()
}

fn numbers(count: u16) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn will_of_a_client_that_is_not_read_is_published_as_soon_as_it_goes() {
    let broker = Broker::of_all_kinds(RATE);
    let (mut watcher, topic) = watch(&broker);
    for kind in KINDS {
        let ends: [fn(Client); 2] = [Client::cut, Client::reset];
        for end in ends {
            end(paused(&broker, kind, &mut watcher, &topic));
            assert_eq!(watcher.message().text(), "gone", "{kind:?}");
        }
    }
}

#[test]
fn will_of_a_client_that_is_not_read_comes_behind_all_that_it_sent() {
    let broker = Broker::of_all_kinds(RATE);
    let (mut watcher, topic) = watch(&broker);
    for kind in KINDS {
        let mut client = paused(&broker, kind, &mut watcher, &topic);
        client.send(&publishes(&topic, 100));
        client.cut();
        assert_eq!(watcher.payloads(100), numbers(100), "{kind:?}");
        assert_eq!(watcher.message().text(), "gone", "{kind:?}");
    }
}

#[test]
fn mqtt_3_14_4_3_will_of_a_client_that_says_goodbye_while_it_is_not_read_is_discarded() {
    let broker = Broker::of_all_kinds(RATE);
    let (mut watcher, topic) = watch(&broker);
    for kind in KINDS {
        let mut client = paused(&broker, kind, &mut watcher, &topic);
        client.send(&publishes(&topic, 100));
        client.send(&wire::disconnect());
        client.cut();
        assert_eq!(watcher.payloads(100), numbers(100), "{kind:?}");
        assert_eq!(texts(&watcher.until_own_marker()), numbers(0), "{kind:?}");
    }
}

/// A client may end its half and go on reading.
#[test]
fn mqtt_4_3_2_4_pubacks_reach_a_client_that_ends_its_half_while_it_is_not_read() {
    let broker = Broker::of_all_kinds(&format!("durability = \"memory\"\n{RATE}"));
    let (mut watcher, topic) = watch(&broker);
    let mut client = paused(&broker, Kind::Tcp, &mut watcher, &topic);
    client.send(&publishes(&topic, 100));
    client.finish_sending();
    for id in 1000..1100 {
        assert_eq!(client.expect(PUBACK).packet_id, id);
    }
    client.expect_closed();
    assert_eq!(watcher.payloads(100), numbers(100));
    assert_eq!(watcher.message().text(), "gone");
}
