//! How the shell leads connections through what lies below MQTT: what waits, what must not be overtaken, and what has its own time.

use crate::harness::parse::{CONNACK, PINGRESP, PUBLISH};
use crate::harness::transport::{KINDS, Kind, Stream, tls_clients};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, Will, unique, wire};
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use tungstenite::Message;

/// The kinds that have something below MQTT.
const LAYERED: [Kind; 3] = [Kind::Tls, Kind::Ws, Kind::Wss];

/// A broker with a listener of this kind, and that of the harness.
fn start(kind: Kind, settings: &str) -> Broker {
    Broker::start(&format!("{settings}\n{}", kind.listener("")))
}

fn connect(kind: Kind, broker: &Broker, connect: &Connect) -> Client {
    let mut client = Client::open_over(kind, broker.address, connect.version);
    assert_eq!(client.try_connect(connect), Some(0));
    client
}

/// A subscriber at the listener of the harness.
fn watcher(broker: &Broker, filter: &str) -> Client {
    let mut watcher = Client::open(broker.last_address(), 5);
    assert_eq!(watcher.try_connect(&Connect::v5(&unique("watcher"))), Some(0));
    watcher.subscribe(filter, 1);
    watcher
}

#[test]
fn a_client_that_sends_all_it_has_and_ends_is_heard() {
    for kind in KINDS {
        let broker = start(kind, "");
        let mut watcher = watcher(&broker, "last/words");
        for round in 0..8 {
            let mut client = Client::open_over(kind, broker.address, 5);
            let text = format!("{kind:?} {round}");
            let mut bytes = Connect::v5(&unique("c")).encode();
            bytes.extend(Publish::new("last/words", &text).encode(5));
            bytes.extend(wire::disconnect());
            client.send(&bytes);
            client.stream.end_layer();
            client.finish_sending();
            assert_eq!(watcher.message().text(), text);
        }
    }
}

#[test]
fn mqtt_3_14_4_3_disconnect_is_not_overtaken_by_the_connection_that_takes_over() {
    for kind in LAYERED {
        let broker = start(kind, "");
        let mut watcher = watcher(&broker, "will");
        for _ in 0..16 {
            let id = unique("c");
            let mut older = connect(kind, &broker, &Connect::v5(&id).will(Will::new("will", "overtaken")));
            older.send(&wire::disconnect());
            connect(kind, &broker, &Connect::v5(&id)).ping();
        }
        watcher.expect_quiet();
    }
}

#[test]
fn a_flood_of_pings_of_websocket_does_no_harm() {
    for kind in [Kind::Ws, Kind::Wss] {
        let broker = start(kind, "");
        let mut client = connect(kind, &broker, &Connect::v5(&unique("c")));
        for number in 0..20_000_u32 {
            client.stream.send_message(Message::Ping(number.to_be_bytes().to_vec().into()));
        }
        client.ping();
    }
}

#[test]
fn a_websocket_is_closed_with_a_code_that_says_why() {
    let mut broker = start(Kind::Ws, "");
    let mut ended = connect(Kind::Ws, &broker, &Connect::v5(&unique("c")));
    ended.send(&wire::disconnect());
    ended.until_closed();
    assert_eq!(ended.stream.close_code(), Some(1000));

    let mut stranger = Client::open_over(Kind::Ws, broker.address, 5);
    stranger.send(b"\x30\x00"); // PUBLISH before CONNECT. [MQTT-3.1.0-1]
    stranger.until_closed();
    assert_eq!(stranger.stream.close_code(), Some(1008));

    let mut last = connect(Kind::Ws, &broker, &Connect::v5(&unique("c")));
    assert_eq!(broker.total("bad_first_packets"), 1);
    last.until_closed();
    assert_eq!(last.stream.close_code(), Some(1001));
}

#[test]
fn connect_has_its_own_time_behind_the_handshakes() {
    for kind in LAYERED {
        let mut broker = start(kind, "[limits]\nhandshake_timeout = \"1h\"\nconnect_timeout = \"500ms\"\n");
        let mut client = Client::open_over(kind, broker.address, 5);
        client.send_anyway(&Connect::v5("c").encode()[..5]);
        await_end(client);
        assert_eq!(broker.total("connect_timeouts"), 1, "{kind:?}");
        assert_eq!(broker.total("handshake_timeouts"), 0, "{kind:?}");
    }
}

#[test]
fn handshakes_that_take_too_long_are_counted() {
    for kind in LAYERED {
        let mut broker = start(kind, "[limits]\nhandshake_timeout = \"500ms\"\nconnect_timeout = \"1h\"\n");
        await_end(Client::open(broker.address, 5));
        assert_eq!(broker.total("handshake_timeouts"), 1, "{kind:?}");
    }
    let proxied = Kind::Tcp.listener("anonymous = true\nproxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n");
    let mut broker = Broker::start(&format!("[limits]\nhandshake_timeout = \"500ms\"\n{proxied}"));
    let mut slow = Client::open(broker.address, 5);
    slow.send(b"PROXY TCP4 192.0.2.7");
    await_end(slow);
    assert_eq!(broker.total("handshake_timeouts"), 1);
}

/// Reads until the connection has ended, in whatever way.
fn await_end(client: Client) {
    let mut socket = client.stream.socket();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match std::io::copy(&mut socket, &mut std::io::sink()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn faults_are_counted_by_layer() {
    let mut broker = start(Kind::Tls, "");
    for length in 1..20_u8 {
        let mut garbage = Client::open(broker.address, 5);
        garbage.send(&vec![length; usize::from(length) * 100]);
        await_end(garbage);
    }
    assert_eq!(broker.total("tls_faults"), 19);

    let mut broker = start(Kind::Ws, "");
    let mut browser = Client::open(broker.address, 5);
    browser.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await_end(browser);
    let mut text = connect(Kind::Ws, &broker, &Connect::v5(&unique("c")));
    text.stream.send_message(Message::text("text")); // [MQTT-6.0.0-1]
    text.until_closed();
    assert_eq!(broker.total("http_faults"), 1);
    assert_eq!(broker.total("websocket_faults"), 1);

    let unknown = Kind::Tcp.listener("anonymous = true\nproxy_protocol = true\nproxy_senders = [\"192.0.2.0/24\"]\n");
    let known = Kind::Tcp.listener("anonymous = true\nproxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n");
    let mut broker = Broker::start(&format!("{unknown}{known}"));
    for address in broker.addresses[..2].iter().copied() {
        assert_eq!(Client::open(address, 5).try_connect(&Connect::v5("c")), None);
    }
    assert_eq!(broker.total("proxy_faults"), 2);
}

/// A connection that says it comes from `source`, through a proxy; `None` where it ends during its handshakes, or is not let in.
fn proxied(kind: Kind, address: SocketAddr, source: &str) -> Option<Client> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(format!("PROXY TCP4 {source} 192.0.2.1 5000 1883\r\n").as_bytes()).unwrap();
    let mut client = Client::of(Stream::over(kind, socket, &tls_clients(false)).ok()?, 5);
    let reason = client.try_connect(&Connect::v5(&unique("c")))?;
    assert_eq!(reason, 0);
    Some(client)
}

#[test]
fn behind_a_proxy_the_address_in_its_header_counts() {
    for kind in [Kind::Tcp, Kind::Tls] {
        let listener = kind.listener("anonymous = true\nproxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n");
        let mut broker = Broker::start(&format!("[limits]\nconnections_per_source_max = 1\n{listener}"));
        let mut first = proxied(kind, broker.address, "192.0.2.7").expect("nobody is there from that address");
        assert!(proxied(kind, broker.address, "192.0.2.7").is_none(), "{kind:?}");
        let mut other = proxied(kind, broker.address, "192.0.2.8").expect("another address");
        first.ping();
        other.ping();
        assert_eq!(broker.total("turned_away_source_connections"), 1);
    }
}

#[test]
fn a_flood_of_messages_comes_through_layers_in_order_and_to_its_end() {
    const MESSAGES: usize = 2_000;
    for kind in LAYERED {
        let broker = start(kind, "");
        let mut receiver = connect(kind, &broker, &Connect::v5(&unique("c")));
        receiver.subscribe("flood", 1);
        let mut sender = connect(kind, &broker, &Connect::v5(&unique("c")));
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(Publish::new("flood", &number.to_string()).encode(5));
        }
        bytes.extend(wire::disconnect());
        sender.send(&bytes);
        let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(receiver.payloads(MESSAGES), expected, "{kind:?}");
    }
}

#[test]
fn a_slow_reader_over_layers_gets_all_of_it_in_the_end() {
    for kind in LAYERED {
        let broker = start(kind, "");
        let mut receiver = connect(kind, &broker, &Connect::v5(&unique("c")));
        receiver.subscribe("slow", 1);
        let mut sender = connect(kind, &broker, &Connect::v5(&unique("c")));
        let payload = "y".repeat(100_000);
        for _ in 0..100 {
            sender.publish(Publish::new("slow", &payload).qos(1));
        }
        assert!(receiver.payloads(100).iter().all(|text| text.len() == payload.len()));
    }
}

#[test]
fn much_behind_connect_comes_home_with_it() {
    for kind in LAYERED {
        let broker = start(kind, "");
        for _ in 0..16 {
            let mut bytes = Connect::v5(&unique("c")).encode();
            (0..200).for_each(|_| bytes.extend(Publish::new("much", &"x".repeat(10_000)).encode(5)));
            bytes.extend(wire::pingreq());
            let mut client = Client::open_over(kind, broker.address, 5);
            client.send(&bytes);
            client.expect(CONNACK);
            client.expect(PINGRESP);
        }
    }
}

/// A connection of a client that reads little at a time.
fn small_reader(kind: Kind, address: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    Client::of(Stream::over(kind, socket.into(), &tls_clients(false)).unwrap(), 5)
}

#[test]
fn mqtt_3_1_2_10_goodbye_of_a_client_that_reads_nothing_is_heard_before_its_layers_end() {
    for kind in LAYERED {
        let broker = Broker::with_shards(1, &kind.listener(""));
        let mut watcher = watcher(&broker, "choked/#");
        let id = unique("choked");
        let mut client = small_reader(kind, broker.address);
        assert_eq!(client.try_connect(&Connect::v5(&id).will(Will::new("choked/will", "alarm"))), Some(0));
        client.subscribe(&id, 1);
        // Its output stands still, and its next packet has it read from no more.
        let mut publisher = Client::open(broker.last_address(), 5);
        assert_eq!(publisher.try_connect(&Connect::v5(&unique("publisher"))), Some(0));
        (0..1000).for_each(|_| publisher.publish_only(&Publish::new(&id, &"x".repeat(20_000))));
        publisher.ping();
        client.send(&wire::pingreq());
        publisher.ping();
        publisher.ping();
        let mut bytes = Publish::new("choked/last", "word").encode(5);
        bytes.extend(wire::disconnect());
        client.send(&bytes);
        client.stream.end_layer();
        publisher.ping(); // By now the broker would have read it, did it read.
        drop(client);
        assert_eq!(watcher.expect(PUBLISH).text(), "word", "{kind:?}");
        watcher.expect_quiet();
        publisher.ping();
    }
}
