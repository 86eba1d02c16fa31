//! How the broker goes away, and what clients are told (§3.14.2, reason 0x8B).

use crate::harness::broker::program;
use crate::harness::client::Client;
use crate::harness::parse::{CONNACK, DISCONNECT, PUBLISH};
use crate::harness::{Broker, Connect, Publish, Will, secs};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Instant;

#[test]
fn sigterm_ends_the_broker_with_exit_code_0() {
    let mut broker = Broker::start("");
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn sigint_ends_the_broker_with_exit_code_0() {
    let mut broker = Broker::with_shards(1, "");
    broker.signal(Signal::INT);
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn clients_of_5_0_are_told_that_the_server_shuts_down() {
    let mut broker = Broker::start("");
    let mut clients: Vec<_> = (0..6).map(|_| broker.client(5)).collect();
    broker.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_disconnect(&[0x8B]);
    }
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn clients_of_3_x_are_closed_without_a_word() {
    let mut broker = Broker::start("");
    let mut clients = [broker.client(3), broker.client(4)];
    broker.signal(Signal::TERM);
    for client in &mut clients {
        client.expect_closed();
    }
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn what_was_acknowledged_before_the_signal_is_still_delivered() {
    let mut broker = Broker::start("");
    let mut watcher = broker.client(5);
    watcher.subscribe("t", 0);
    let mut publisher = broker.client(5);
    for index in 0..100 {
        publisher.publish(Publish::new("t", &index.to_string()).qos(1));
    }
    broker.signal(Signal::TERM);
    let received = watcher.until_closed();
    let payloads: Vec<String> =
        received.iter().filter(|packet| packet.kind == PUBLISH).map(|packet| packet.text()).collect();
    let expected: Vec<String> = (0..100).map(|index| index.to_string()).collect();
    assert_eq!(payloads, expected);
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn graceful_shutdown_publishes_no_will() {
    let mut broker = Broker::start("");
    let mut watcher = broker.client(5);
    watcher.subscribe("#", 1);
    let _mortals: Vec<_> =
        (0..4).map(|index| broker.connect(Connect::v5(&index.to_string()).will(Will::new("w", "gone")))).collect();
    broker.signal(Signal::TERM);
    let received = watcher.until_closed();
    assert!(received.iter().all(|packet| packet.kind == DISCONNECT), "{received:?}");
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn graceful_shutdown_publishes_every_will_where_the_operator_says_so() {
    let mut broker = Broker::start("[wills]\non_shutdown = \"publish\"\n");
    let mut watcher = broker.client(5);
    watcher.subscribe("w/+", 0);
    let _mortals: Vec<_> = (0..8)
        .map(|index| {
            let will = Will::new(&format!("w/{index}"), "gone");
            broker.connect(Connect::new(4 + index % 2, &index.to_string()).will(will))
        })
        .collect();
    broker.signal(Signal::TERM);
    let received = watcher.until_closed();
    let mut topics: Vec<&str> =
        received.iter().filter(|packet| packet.kind == PUBLISH).map(|packet| packet.topic.as_str()).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["w/0", "w/1", "w/2", "w/3", "w/4", "w/5", "w/6", "w/7"]);
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

#[test]
fn client_that_does_not_read_cannot_hold_the_shutdown_up() {
    let mut broker = Broker::start("shutdown_timeout = \"1s\"\n");
    let mut stalled = broker.client(5);
    stalled.subscribe("flood", 1);
    let mut publisher = broker.client(5);
    let payload = "x".repeat(100_000);
    for _ in 0..200 {
        publisher.publish(Publish::new("flood", &payload).qos(1));
    }
    let since = Instant::now();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait(secs(6)).code(), Some(0));
    assert!(since.elapsed() < secs(4), "{:?}", since.elapsed());
}

#[test]
fn connection_without_connect_does_not_hold_the_shutdown_up() {
    let mut broker = Broker::start("");
    let _silent = broker.open(5);
    broker.client(5).disconnect();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait(secs(5)).code(), Some(0));
}

/// A broker that is gone when the test is, however that ends.
struct EndedWithTest(std::process::Child);

impl Drop for EndedWithTest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A log collector that stalls must stop neither the broker nor its end.
#[test]
fn a_stderr_that_nobody_reads_stops_nothing() {
    let listening = ["--listen", "127.0.0.1:0", "--shards", "1"];
    let child = program().args(listening).args(["--durability", "memory"]).spawn();
    let mut child = EndedWithTest(child.expect("the broker can be started"));
    let mut lines = BufReader::new(child.0.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let address: SocketAddr = lines
        .find_map(|line| line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok())
        .expect("the broker says where it listens");
    let name = "x".repeat(500);
    for _ in 0..400 {
        let mut client = Client::open(address, 5); // Each leaves a line of more than 500 bytes; a pipe holds 64 KiB.
        client.send(&Connect::v5(&name).encode());
        client.expect(CONNACK);
        client.send(&[0, 0]); // There is no packet of type 0.
        client.until_closed();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child.0), Signal::TERM).expect("it runs");
    let end = Instant::now() + secs(15);
    let status = loop {
        match child.0.try_wait().expect("it is our child") {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::yield_now(),
            None => panic!("the broker does not end"),
        }
    };
    assert_eq!(status.code(), Some(0));
}
