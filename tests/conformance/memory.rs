//! What happens when memory runs short: nothing that was promised is lost, and the broker does not die of it.

use crate::harness::parse::{self, CONNACK, PUBACK};
use crate::harness::wire::packet;
use crate::harness::{Broker, Connect, PATIENCE, Publish, secs, unique};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const LIMIT: u64 = 96 << 20;
/// What may be used above the limit: the buffers of the rings, and what arrives until publishers are stopped, on a busy machine.
const MARGIN: u64 = 64 << 20;
const SETTINGS: &str = "durability = \"memory\"\nmemory_limit = \"96MiB\"\n\
    [sessions]\nqueue_messages_max = 1000000\nqueue_bytes_max = \"1GiB\"\n";
const SERVER_BUSY: u8 = 0x89;
/// How long it may take to fill the memory, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A client that publishes with QoS 1 as fast as it can, until its connection is cut.
struct Flood {
    stream: TcpStream,
    writing: JoinHandle<()>,
    /// Counts the messages that were acknowledged.
    reading: JoinHandle<u64>,
}

impl Flood {
    fn start(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&Connect::new(5, &unique("flood")).encode()).unwrap();
        let (mut writer, reader) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        let writing = thread::spawn(move || {
            let payload = "x".repeat(8000);
            for number in 0_u32.. {
                let publish = Publish::new("flood/t", &payload).qos(1).id((number % 60_000 + 1) as u16);
                if writer.write_all(&publish.encode(5)).is_err() {
                    return;
                }
            }
        });
        Self { stream, writing, reading: thread::spawn(move || count_acknowledged(reader)) }
    }

    /// Cuts the connection; how many messages were acknowledged.
    fn end(self) -> u64 {
        self.stream.shutdown(Shutdown::Both).unwrap();
        self.writing.join().unwrap();
        self.reading.join().unwrap()
    }
}

fn count_acknowledged(mut stream: TcpStream) -> u64 {
    let (mut buffer, mut chunk, mut acknowledged) = (Vec::new(), [0; 4096], 0);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        buffer.extend(&chunk[..count]);
        while let Some(packet) = parse::cut(&mut buffer, 5) {
            match packet.kind {
                PUBACK => acknowledged += u64::from(packet.reason < 0x80),
                kind => assert_eq!(kind, CONNACK, "{packet:?}"),
            }
        }
    }
    acknowledged
}

/// A client with a Session that outlives its connection.
fn member(client_id: &str) -> Connect {
    Connect::new(5, client_id).resume().expiry(3600)
}

/// Whether a new client is let in; if not, that it is told why, unless too many are being told.
fn lets_in(broker: &Broker) -> bool {
    match broker.open(5).try_connect(&Connect::new(5, &unique("new"))) {
        Some(0) => true,
        Some(reason) => {
            assert_eq!(reason, SERVER_BUSY);
            false
        }
        None => false,
    }
}

#[test]
fn publishers_that_fill_the_memory_are_stopped_and_nothing_acknowledged_is_lost() {
    const MEMBERS: [&str; 4] = ["m1", "m2", "m3", "m4"];
    let mut broker = Broker::start(SETTINGS);
    for client_id in MEMBERS {
        let mut client = broker.connect(member(client_id));
        assert_eq!(client.subscribe("flood/#", 1), 1);
        client.disconnect();
    }
    let floods = [(); 3].map(|()| Flood::start(broker.address));
    broker.await_log("memory is used up", LONG);
    // The flood goes on, and changes nothing any more.
    let end = Instant::now() + secs(2);
    let mut peak = 0;
    while Instant::now() < end {
        peak = peak.max(broker.memory());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(peak < LIMIT + MARGIN, "{} MiB in use", peak >> 20);
    assert_eq!(broker.refuse(Connect::new(5, "new")).reason, SERVER_BUSY);
    assert_eq!(broker.refuse(Connect::new(4, "new")).reason, 3); // [v3.1.1 MQTT-3.2.2-4]

    let acknowledged: u64 = floods.into_iter().map(Flood::end).sum();
    assert!(acknowledged > 1000, "{acknowledged}");
    // Those whose messages fill the memory are let in all the same: nobody else can empty it.
    for client_id in MEMBERS {
        let mut client = broker.connect(member(client_id));
        assert!(client.session_present());
        for _ in 0..acknowledged {
            client.message();
        }
        client.disconnect();
    }
    broker.await_log("there is enough memory again", PATIENCE);
    let end = Instant::now() + PATIENCE;
    while !lets_in(&broker) {
        assert!(Instant::now() < end, "nobody is let in any more");
        thread::sleep(Duration::from_millis(50));
    }
    let (mut subscriber, mut publisher) = (broker.client(5), broker.client(5));
    assert_eq!(subscriber.subscribe("after", 0), 0);
    publisher.publish(Publish::new("after", "all is well"));
    assert_eq!(subscriber.message().text(), "all is well");
    assert!(broker.total("memory_peak_bytes") < LIMIT + MARGIN);
    assert!(broker.total("connects_refused") >= 2);
}

/// The beginning of a packet of a million bytes, most of it.
fn most_of_a_packet(first: u8) -> Vec<u8> {
    let mut bytes = packet(first, &[0; 1_000_000]);
    bytes.truncate(900_000);
    bytes
}

/// Sends `bytes` from many connections at once, and holds on to them; the most memory that the broker used meanwhile.
fn peak_while_many_send(broker: &Broker, beginning: &(dyn Fn() -> Vec<u8> + Sync), bytes: &[u8]) -> u64 {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut held = Vec::new();
                for _ in 0..100 {
                    let Ok(mut stream) = TcpStream::connect(broker.address) else { continue };
                    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap(); // It may not be read any more.
                    let _ = stream.write_all(&beginning()).and_then(|()| stream.write_all(bytes));
                    held.push(stream);
                }
            });
        }
        let end = Instant::now() + secs(3);
        let mut peak = 0;
        while Instant::now() < end {
            peak = peak.max(broker.memory());
            thread::sleep(Duration::from_millis(5));
        }
        peak
    })
}

#[test]
fn newcomers_cannot_fill_the_memory_with_beginnings_of_connect() {
    let mut broker = Broker::start(SETTINGS);
    let mut inside = broker.client(5);
    let peak = peak_while_many_send(&broker, &Vec::new, &most_of_a_packet(0x10));
    assert!(peak < LIMIT + MARGIN, "{} MiB in use", peak >> 20);
    inside.ping();
    assert!(broker.total("handshakes_shed") >= 1);
}

#[test]
fn clients_cannot_fill_the_memory_with_beginnings_of_packets() {
    for first in [0x30, 0x82] {
        let mut broker = Broker::start(SETTINGS);
        let mut inside = broker.client(5);
        let connect = || Connect::new(5, &unique("half")).encode();
        let peak = peak_while_many_send(&broker, &connect, &most_of_a_packet(first));
        assert!(peak < LIMIT + MARGIN, "{} MiB in use", peak >> 20);
        inside.ping();
        assert!(broker.total("pauses_memory") >= 1);
    }
}
