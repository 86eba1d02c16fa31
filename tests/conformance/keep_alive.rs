//! Keep Alive (§3.1.2.10).

use crate::harness::property::{self, number};
use crate::harness::{Broker, Connect, Publish, Will, millis, secs, unique, wire};
use std::time::Instant;

/// Closed 1.5 s after the last packet, which was sent after `since`, with what a busy machine may add; never earlier.
fn assert_one_and_a_half_seconds(since: Instant) {
    let elapsed = since.elapsed();
    assert!((millis(1500)..millis(2500)).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn mqtt_3_1_2_22_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let since = Instant::now();
    let mut client = Broker::shared().connect(Connect::v5(&unique("silent")).keep_alive(1));
    client.expect_disconnect(&[0x8D]);
    assert_one_and_a_half_seconds(since);
}

#[test]
fn v311_mqtt_3_1_2_24_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let since = Instant::now();
    let mut client = Broker::shared().connect(Connect::v311(&unique("silent")).keep_alive(1));
    client.expect_closed();
    assert_one_and_a_half_seconds(since);
}

#[test]
fn v31_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let since = Instant::now();
    let mut client = Broker::shared().connect(Connect::v31(&unique("silent")).keep_alive(1));
    client.expect_closed();
    assert_one_and_a_half_seconds(since);
}

#[test]
fn mqtt_3_1_2_20_pings_keep_the_connection() {
    let mut client = Broker::shared().connect(Connect::v5(&unique("alive")).keep_alive(1));
    for _ in 0..4 {
        client.expect_silence(millis(600));
        client.ping();
    }
}

#[test]
fn mqtt_3_1_2_20_any_packet_keeps_the_connection() {
    let mut client = Broker::shared().connect(Connect::v5(&unique("alive")).keep_alive(1));
    for _ in 0..4 {
        client.expect_silence(millis(600));
        client.publish(Publish::new("alive", "x"));
    }
}

#[test]
fn mqtt_3_1_2_22_packets_from_the_server_do_not_keep_the_connection() {
    let broker = Broker::shared();
    let topic = unique("one-way");
    let mut client = broker.connect(Connect::v5(&unique("listener")).keep_alive(1));
    let since = Instant::now();
    client.subscribe(&topic, 0);
    let mut publisher = broker.client(5);
    for _ in 0..3 {
        publisher.publish(Publish::new(&topic, "x"));
        client.message();
        publisher.expect_silence(millis(350));
    }
    client.expect_disconnect(&[0x8D]);
    assert_one_and_a_half_seconds(since);
}

#[test]
fn mqtt_3_1_2_22_half_a_packet_does_not_keep_the_connection() {
    let since = Instant::now();
    let mut client = Broker::shared().connect(Connect::v5(&unique("drip")).keep_alive(1));
    let bytes = Publish::new("drip", "a payload that never ends").encode(5);
    for byte in &bytes[..4] {
        client.send(&[*byte]);
        client.expect_silence(millis(300));
    }
    client.expect_disconnect(&[0x8D]);
    assert_one_and_a_half_seconds(since);
}

#[test]
fn mqtt_3_1_2_10_keep_alive_0_turns_the_mechanism_off() {
    let mut client = Broker::shared().connect(Connect::v5(&unique("patient")).keep_alive(0));
    client.expect_silence(secs(2));
    client.ping();
}

#[test]
fn mqtt_3_1_2_21_server_keep_alive_replaces_that_of_the_client() {
    let broker = Broker::start("[limits]\nkeep_alive_max = 1\n");
    let since = Instant::now();
    let mut client = broker.connect(Connect::v5("capped").keep_alive(600));
    assert_eq!(client.connack.number(property::SERVER_KEEP_ALIVE), Some(1));
    client.expect_disconnect(&[0x8D]);
    assert_one_and_a_half_seconds(since);
}

#[test]
fn will_is_published_when_the_keep_alive_runs_out_and_not_before() {
    let broker = Broker::shared();
    let topic = unique("gone");
    let mut watcher = broker.client(5);
    watcher.subscribe(&topic, 1);
    let will = Will::new(&topic, "gone").qos(1);
    let since = Instant::now();
    let client = broker.connect(Connect::v5(&unique("silent")).keep_alive(1).will(will));
    assert_eq!(watcher.message().text(), "gone");
    assert_one_and_a_half_seconds(since);
    drop(client);
}

#[test]
fn mqtt_3_1_4_connect_that_never_comes_is_given_up() {
    let broker = Broker::start("[limits]\nconnect_timeout = \"1s\"\n");
    let mut silent = broker.open(5);
    let mut half = broker.open(5);
    half.send(&Connect::v5("half").encode()[..5]);
    silent.expect_closed();
    half.expect_closed();
}

#[test]
fn mqtt_3_1_2_22_connection_that_pings_after_the_handshake_limit_stays() {
    let broker = Broker::start("[limits]\nconnect_timeout = \"1s\"\n");
    let mut client = broker.connect(Connect::v5("stays").property(number(property::RECEIVE_MAXIMUM, 1)));
    client.expect_silence(millis(1300));
    client.send(&wire::pingreq());
    client.expect(crate::harness::parse::PINGRESP);
}

/// The process stands still for longer than the clients' allowance, as when its machine is paused. They go on sending, and are not to blame.
#[test]
fn mqtt_3_1_2_22_whose_packets_were_not_read_yet_is_not_silent() {
    let broker = Broker::start("");
    let topic = unique("false-alarm");
    let mut watcher = broker.connect(Connect::v5(&unique("watcher")));
    watcher.subscribe(&topic, 1);
    let connect = |number| {
        let will = Will::new(&topic, "gone").qos(1);
        broker.connect(Connect::v311(&format!("{topic}-{number}")).keep_alive(1).will(will))
    };
    // Many more than the kernel hands over at a time.
    let mut clients: Vec<_> = (0..400).map(connect).collect();
    broker.signal(rustix::process::Signal::STOP);
    for _ in 0..5 {
        clients.iter_mut().for_each(|client| client.send_anyway(&wire::pingreq()));
        std::thread::sleep(millis(500));
    }
    let (polite, others) = clients.split_at_mut(100);
    polite.iter_mut().for_each(|client| client.send_anyway(&wire::disconnect()));
    others.iter_mut().for_each(|client| client.send_anyway(&wire::pingreq()));
    broker.signal(rustix::process::Signal::CONT);
    watcher.expect_silence(millis(1000));
}
