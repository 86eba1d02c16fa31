//! Clients are handed away before a planned stop (§4.11, Server redirection; §3.14.2), and nobody's will tells of it.

use crate::harness::client::Client;
use crate::harness::{Broker, Connect, PATIENCE, Publish, Will, millis, property};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Identifier of the property Server Reference. (§3.14.2.2.5)
const SERVER_REFERENCE: u8 = 0x1C;
/// Identifier of the property Maximum Packet Size. (§3.1.2.11.4)
const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const ELSEWHERE: &str = "[drain]\nserver_reference = \"other.example.org:1883\"\n";

/// The status and the body with which the API answers.
fn ask(broker: &Broker, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(broker.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let fields = format!("Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    write!(stream, "{method} {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer of HTTP");
    (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn drain(broker: &Broker, seconds: u32) -> String {
    let (status, body) = ask(broker, "POST", "/api/v1/drain", &format!("{{\"over_seconds\":{seconds}}}"));
    assert_eq!(status, 202, "{body}");
    body
}

fn cancel(broker: &Broker) {
    assert_eq!(ask(broker, "DELETE", "/api/v1/drain", "").0, 204);
}

/// A client that loses its connection by a drain, which is to be over soon; what it is told.
fn told(client: &mut Client) -> (u8, Option<String>) {
    let disconnect = client.until_closed().pop().expect("a last packet");
    (disconnect.reason, disconnect.string(SERVER_REFERENCE).map(str::to_owned))
}

#[test]
fn mqtt_3_14_2_1_clients_are_sent_to_another_server() {
    for (permanent, reason) in [(false, 0x9C), (true, 0x9D)] {
        let mut broker = Broker::with_admin("", &format!("{ELSEWHERE}permanent = {permanent}\n"));
        let mut clients: Vec<_> = (0..6).map(|_| broker.client(5)).collect();
        let mut old = broker.client(4);
        drain(&broker, 0);
        for client in &mut clients {
            assert_eq!(told(client), (reason, Some("other.example.org:1883".to_owned())));
        }
        old.expect_closed();
        assert_eq!(broker.wait(PATIENCE).code(), Some(0), "it ends as after SIGTERM");
    }
}

#[test]
fn mqtt_3_2_2_7_newcomers_are_sent_to_another_server() {
    let broker = Broker::with_admin("", ELSEWHERE);
    let _stays: Vec<_> = (0..4).map(|_| broker.client(5)).collect();
    drain(&broker, 3600);
    let connack = broker.refuse(Connect::v5("new"));
    assert_eq!(connack.reason, 0x9C);
    assert_eq!(connack.string(SERVER_REFERENCE), Some("other.example.org:1883"));
    assert_eq!(broker.refuse(Connect::v311("old")).reason, 3, "3.x: Server unavailable");
    let small = Connect::v5("small").property(property::number(MAXIMUM_PACKET_SIZE, 16));
    let connack = broker.refuse(small);
    assert_eq!((connack.reason, connack.string(SERVER_REFERENCE)), (0x9C, None), "[MQTT-3.1.2-24]");
}

#[test]
fn without_a_reference_clients_hear_that_the_server_shuts_down_and_newcomers_that_it_is_unavailable() {
    let mut broker = Broker::with_admin("", "");
    let (mut one, _other) = (broker.client(5), broker.client(5));
    drain(&broker, 3600);
    assert_eq!(broker.refuse(Connect::v5("new")).reason, 0x88);
    drain(&broker, 0); // A second order changes the time.
    assert_eq!(told(&mut one), (0x8B, None));
    assert_eq!(broker.wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_broker_that_drains_is_not_ready_and_a_cancel_makes_it_so_again() {
    let mut broker = Broker::with_admin("", "");
    let mut stays: Vec<_> = (0..4).map(|_| broker.client(5)).collect();
    assert_eq!(ask(&broker, "GET", "/health/ready", "").0, 200);
    let body = drain(&broker, 3600);
    assert!(body.contains("\"clients\":4") && body.contains("\"clients_left\":4"), "{body}");
    let (status, body) = ask(&broker, "GET", "/health/ready", "");
    assert_eq!(status, 503);
    assert!(body.contains("draining"), "{body}");
    assert_eq!(ask(&broker, "GET", "/health/live", "").0, 200);
    cancel(&broker);
    assert_eq!(ask(&broker, "GET", "/health/ready", "").0, 200);
    assert_eq!(ask(&broker, "DELETE", "/api/v1/drain", "").0, 404, "there is no drain any more");
    broker.client(5);
    stays.iter_mut().for_each(Client::ping);
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait(PATIENCE).code(), Some(0));
}

#[test]
fn sigterm_during_a_drain_stops_at_once() {
    let mut broker = Broker::with_admin("", "");
    let mut clients: Vec<_> = (0..4).map(|_| broker.client(5)).collect();
    drain(&broker, 3600);
    broker.signal(Signal::TERM);
    clients.iter_mut().for_each(|client| client.expect_disconnect(&[0x8B]));
    assert_eq!(broker.wait(PATIENCE).code(), Some(0));
}

#[test]
fn with_durability_memory_the_operator_is_told_that_wills_end_unpublished() {
    let broker = Broker::with_admin("", "durability = \"memory\"\n");
    let _stays = broker.client(5);
    let body = drain(&broker, 3600);
    assert!(body.contains("wills unpublished"), "{body}");
    broker.await_log("wills unpublished", PATIENCE);
}

fn mortal(client_id: &str) -> Connect {
    Connect::v5(client_id).expiry(3600).will(Will::new(&format!("w/{client_id}"), "gone").qos(1))
}

#[test]
fn nobodys_will_is_published_by_a_drain_and_a_restart_but_of_those_who_stay_away() {
    let mut broker = Broker::with_admin("", "");
    let mut watcher = broker.connect(Connect::v5("watcher").expiry(3600));
    watcher.subscribe("w/+", 1);
    let mut mortals: Vec<_> = ["back", "away"].map(|name| broker.connect(mortal(name))).into();
    drain(&broker, 0);
    mortals.iter_mut().chain([&mut watcher]).for_each(|client| assert_eq!(told(client).0, 0x8B));
    assert_eq!(broker.wait(PATIENCE).code(), Some(0));
    let broker = Broker::start_in(broker.kill(), 2, "[wills]\nrestart_grace = \"2s\"\n");
    let back = broker.connect(mortal("back").resume());
    assert!(back.session_present());
    let mut watcher = broker.connect(Connect::v5("watcher").expiry(3600).resume());
    assert_eq!(watcher.message().topic, "w/away");
    watcher.expect_silence(millis(300));
}

#[test]
fn what_was_acknowledged_is_there_after_a_drain_and_a_restart() {
    let mut broker = Broker::with_admin("", "");
    let mut reader = broker.connect(Connect::v5("reader").expiry(3600));
    reader.subscribe("t", 2);
    reader.disconnect();
    let mut publisher = broker.client(5);
    for index in 0..50 {
        publisher.publish(Publish::new("t", &index.to_string()).qos(1 + index % 2));
    }
    drain(&broker, 0);
    assert_eq!(broker.wait(PATIENCE).code(), Some(0));
    let broker = Broker::start_in(broker.kill(), 2, "");
    let mut reader = broker.connect(Connect::v5("reader").expiry(3600).resume());
    let expected: Vec<String> = (0..50).map(|index| index.to_string()).collect();
    assert_eq!(reader.payloads(50), expected);
}
