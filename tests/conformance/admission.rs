//! Who is let in: limits on connections and on how fast they come, by address and by listener.

use crate::harness::broker::run;
use crate::harness::{Broker, Client, Connect, PATIENCE, unique};
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// "Server busy" of MQTT 5.0, and what it is for 3.x: "Server unavailable".
const SERVER_BUSY: u8 = 0x89;

impl Broker {
    /// Connects from `source`; `None` where the broker closes without an answer.
    fn connect_from(&self, source: Ipv4Addr) -> Option<Client> {
        let mut client = Client::open_from(source, self.address, 5);
        let reason = client.try_connect(&Connect::new(5, &unique("c")))?;
        assert_eq!(reason, 0);
        Some(client)
    }

    /// Connects from `source` as soon as the broker lets it.
    fn connect_at_last_from(&self, source: Ipv4Addr) -> Client {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(client) = self.connect_from(source) {
                return client;
            }
            assert!(Instant::now() < end, "{source} is not let in");
            thread::sleep(Duration::from_millis(20)); // Not a flood of its own.
        }
    }
}

#[test]
fn an_address_with_its_connections_is_turned_away_and_no_other() {
    let mut broker = Broker::start("[limits]\nconnections_per_source_max = 2\n");
    let mut inside = [(); 2].map(|()| broker.connect_from(ELSEWHERE).expect("there is room"));
    assert!(broker.connect_from(ELSEWHERE).is_none());
    let mut other = broker.connect_from(HERE).expect("it has no connection yet");
    inside.iter_mut().for_each(Client::ping);
    other.ping();
    let [first, _second] = inside;
    first.disconnect();
    broker.connect_at_last_from(ELSEWHERE).ping();
    assert!(broker.total("turned_away_source_connections") >= 1);
}

#[test]
fn an_address_that_comes_too_fast_is_turned_away_for_a_moment_and_no_other() {
    let mut broker = Broker::start("[limits]\nconnection_rate_per_source_max = 3\n");
    let flood = (0..10_000).position(|_| broker.connect_from(ELSEWHERE).is_none());
    assert!(flood.expect("some are turned away") >= 3, "as many as the rate may come at once");
    broker.connect_from(HERE).expect("it has not come yet").ping();
    broker.connect_at_last_from(ELSEWHERE).ping();
    assert!(broker.total("turned_away_source_rate") >= 1);
}

#[test]
fn a_listener_takes_in_so_many_a_second_and_the_others_wait_without_being_refused() {
    const RATE: u32 = 20;
    const CLIENTS: u32 = 50;
    let listener = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\nconnection_rate_max = {RATE}\n");
    let mut broker = Broker::with_shards(1, &listener);
    let start = Instant::now();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| broker.open(5)).collect();
    for client in &mut clients {
        assert_eq!(client.try_connect(&Connect::new(5, &unique("c"))), Some(0));
    }
    // A full bucket and one that was under way come at once, the others as tokens flow in: not sooner, however fast the machine is.
    let least = Duration::from_secs(1) * (CLIENTS - RATE - 1) / RATE;
    assert!(start.elapsed() >= least, "{CLIENTS} connections in {:?}", start.elapsed());
    clients.iter_mut().for_each(Client::ping);
    assert!(broker.total("listener_pauses") >= 1);
    assert_eq!(broker.total("turned_away"), 0);
}

#[test]
fn a_listener_with_a_rate_does_not_hold_up_another_one() {
    let slow = "[[listeners]]\naddress = \"127.0.0.1:0\"\nconnection_rate_max = 1\n";
    let broker = Broker::with_shards(1, slow);
    let waiting: Vec<_> = (0..20).map(|_| broker.open(5)).collect();
    let fast = broker.last_address();
    for _ in 0..20 {
        assert_eq!(Client::open(fast, 5).try_connect(&Connect::new(5, &unique("c"))), Some(0));
    }
    drop(waiting);
}

#[test]
fn a_full_listener_says_that_the_server_is_busy_and_the_other_one_goes_on() {
    let mut broker = Broker::start("[[listeners]]\naddress = \"127.0.0.1:0\"\nconnections_max = 1\n");
    let _inside = broker.client(5);
    assert_eq!(broker.refuse(Connect::new(5, "second")).reason, SERVER_BUSY);
    assert_eq!(broker.refuse(Connect::new(4, "third")).reason, 3); // [v3.1.1 MQTT-3.2.2-4]
    let other = broker.last_address();
    assert_eq!(Client::open(other, 5).try_connect(&Connect::new(5, "fourth")), Some(0));
    assert!(broker.total("turned_away") >= 2);
}

#[test]
fn a_memory_limit_that_so_many_shards_cannot_begin_with_is_an_error() {
    let output = run("shards = 100\nmemory_limit = \"64MiB\"\ndurability = \"memory\"\n", &[], &[]);
    assert_eq!(output.status.code(), Some(13));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("memory_limit") && stderr.contains("67108864"), "{stderr}");
}
