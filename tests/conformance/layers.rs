//! What lies below MQTT: TLS, WebSocket and the PROXY protocol, alone and together, and how connections end in them.

use crate::harness::certificates::{self, Owner, listener};
use crate::harness::parse::{CONNACK, PINGRESP};
use crate::harness::stream::{Stream, TCP, TLS, WS, WSS, Way};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, Will, unique, wire};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

const SECURE: [(&str, Way); 3] = [("tls", TLS), ("ws", WS), ("wss", WSS)];

/// A listener of this kind; those without TLS need no certificate.
fn listener_of(kind: &str, settings: &str) -> String {
    match kind {
        "ws" | "tcp" => format!("[[listeners]]\nkind = \"{kind}\"\naddress = \"127.0.0.1:0\"\n{settings}\n"),
        _ => listener(kind, settings),
    }
}

impl Broker {
    /// Connects on the way that its first listener speaks.
    fn connect_by(&self, way: Way, connect: &Connect) -> Client {
        let mut client = Client::dial(self.address, way, connect.version);
        assert_eq!(client.try_connect(connect), Some(0));
        client
    }

    /// A client at the plain listener, which is always the last.
    fn watcher(&self, filter: &str) -> Client {
        let mut watcher = Client::open(self.last_address(), 5);
        assert_eq!(watcher.try_connect(&Connect::v5(&unique("watcher"))), Some(0));
        watcher.subscribe(filter, 1);
        watcher
    }
}

#[test]
fn messages_of_all_sizes_come_through_to_clients_at_home_on_any_shard() {
    for (kind, way) in SECURE {
        let broker = Broker::start(&listener_of(kind, ""));
        for round in 0..8 {
            let mut client = broker.connect_by(way, &Connect::v5(&unique("c")));
            let topic = format!("{kind}/{round}");
            client.subscribe(&topic, 1);
            for size in [0, 1, 125, 126, 16 * 1024, 70_000, 300_000] {
                let payload = "x".repeat(size);
                client.publish(Publish::new(&topic, &payload).qos(1));
                assert_eq!(client.message().text().len(), size, "{kind}");
            }
            client.disconnect();
        }
    }
}

#[test]
fn packets_behind_connect_need_not_wait_for_anything() {
    for (kind, way) in SECURE {
        let broker = Broker::start(&listener_of(kind, ""));
        for _ in 0..16 {
            let connect = Connect::v5(&unique("c"));
            let mut client = Client::dial(broker.address, way, 5);
            let mut bytes = connect.encode();
            bytes.extend(wire::pingreq());
            bytes.extend(wire::pingreq());
            client.send(&bytes);
            client.expect(CONNACK);
            client.expect(PINGRESP);
            client.expect(PINGRESP);
        }
    }
}

#[test]
fn a_client_that_sends_all_it_has_and_ends_is_heard() {
    for (kind, way) in [("tcp", TCP), ("tls", TLS), ("ws", WS), ("wss", WSS)] {
        let broker = Broker::start(&listener_of(kind, ""));
        let mut watcher = broker.watcher("last/words");
        for round in 0..8 {
            let mut client = Client::dial(broker.address, way, 5);
            let text = format!("{kind} {round}");
            let mut bytes = Connect::v5(&unique("c")).encode();
            bytes.extend(Publish::new("last/words", &text).encode(5));
            bytes.extend(wire::disconnect());
            client.send(&bytes);
            client.finish_sending();
            assert_eq!(watcher.message().text(), text);
        }
    }
}

#[test]
fn will_is_published_however_the_layers_end() {
    let ends: [(&str, Way, fn(&mut Client)); 6] = [
        ("tls", TLS, |client| client.stream.close_notify()),
        ("tls", TLS, |client| client.stream.shutdown(Shutdown::Write).unwrap()),
        ("tls", TLS, |client| client.stream.tcp().write_all(b"this is no record of TLS").unwrap()),
        ("ws", WS, |client| client.stream.frame(8, &1000_u16.to_be_bytes())),
        ("ws", WS, |client| client.stream.frame(1, b"text")), // [MQTT-6.0.0-1]
        ("wss", WSS, |client| client.stream.frame(8, &[])),
    ];
    for (number, (kind, way, end)) in ends.into_iter().enumerate() {
        let broker = Broker::start(&listener_of(kind, ""));
        let mut watcher = broker.watcher("will");
        let will = format!("{kind} {number}");
        let mut client = broker.connect_by(way, &Connect::v5(&unique("c")).will(Will::new("will", &will)));
        end(&mut client);
        assert_eq!(watcher.message().text(), will);
        client.until_closed();
    }
}

#[test]
fn mqtt_3_14_4_3_disconnect_discards_the_will_though_the_layers_end_in_the_same_breath() {
    let broker = Broker::start(&listener_of("ws", ""));
    let mut watcher = broker.watcher("will");
    for _ in 0..8 {
        let connect = Connect::v5(&unique("c")).will(Will::new("will", "gone"));
        let mut client = broker.connect_by(WS, &connect);
        client.send(&wire::disconnect());
        client.stream.frame(8, &1000_u16.to_be_bytes());
        client.until_closed();
    }
    watcher.expect_quiet();
}

#[test]
fn disconnect_in_tls_is_not_overtaken_by_the_connection_that_takes_over() {
    let broker = Broker::start(&listener_of("tls", ""));
    let mut watcher = broker.watcher("will");
    for _ in 0..16 {
        let id = unique("c");
        let mut older = broker.connect_by(TLS, &Connect::v5(&id).will(Will::new("will", "overtaken")));
        older.send(&wire::disconnect());
        broker.connect_by(TLS, &Connect::v5(&id)).ping();
    }
    watcher.expect_quiet();
}

#[test]
fn pings_of_websocket_are_answered_and_a_flood_of_them_does_no_harm() {
    for (kind, way) in [("ws", WS), ("wss", WSS)] {
        let broker = Broker::start(&listener_of(kind, ""));
        let mut client = broker.connect_by(way, &Connect::v5(&unique("c")));
        client.stream.frame(9, b"are you there");
        client.ping();
        assert_eq!(client.stream.pongs(), [b"are you there".to_vec()]);
        for number in 0..20_000_u32 {
            client.stream.frame(9, &number.to_be_bytes());
        }
        client.ping();
        assert_eq!(client.stream.pongs().last(), Some(&19_999_u32.to_be_bytes().to_vec()));
    }
}

#[test]
fn a_websocket_is_closed_with_a_code_that_says_why() {
    let mut broker = Broker::start(&listener_of("ws", "[limits]\nclient_id_bytes_max = 23\n"));
    let mut ended = broker.connect_by(WS, &Connect::v5(&unique("c")));
    ended.send(&wire::disconnect());
    ended.until_closed();
    assert_eq!(ended.stream.close_code(), Some(1000));

    let mut stranger = Client::dial(broker.address, WS, 5);
    stranger.send(b"\x30\x00");
    stranger.until_closed();
    assert_eq!(stranger.stream.close_code(), Some(1008));

    let mut text = broker.connect_by(WS, &Connect::v5(&unique("c")));
    text.stream.frame(1, b"text");
    text.until_closed();
    assert_eq!(text.stream.close_code(), Some(1003));

    let mut last = broker.connect_by(WS, &Connect::v5(&unique("c")));
    assert_eq!(broker.total("websocket_faults"), 1);
    last.until_closed();
    assert_eq!(last.stream.close_code(), Some(1001));
}

#[test]
fn handshakes_that_do_not_get_on_end_in_time_on_every_transport() {
    let times = "[limits]\nhandshake_timeout = \"500ms\"\nconnect_timeout = \"1h\"\n";
    let beginnings: [(&str, &str, &[u8]); 4] = [
        ("tls", "", b""),
        ("tls", "", b"\x16\x03\x01\x02\x00\x01"),
        ("ws", "", b"GET /mqtt HTTP/1.1\r\nHost: lo"),
        ("tcp", "proxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n", b"PROXY TCP4 192.0.2.1"),
    ];
    for (kind, settings, beginning) in beginnings {
        let mut broker = Broker::start(&format!("{times}{}", listener_of(kind, settings)));
        let mut slow = TcpStream::connect(broker.address).unwrap();
        slow.write_all(beginning).unwrap();
        await_end(&mut slow);
        assert_eq!(broker.total("handshake_timeouts"), 1, "{kind}");
    }
}

#[test]
fn connect_has_its_own_time_behind_the_handshake() {
    for (kind, way) in SECURE {
        let times = "[limits]\nhandshake_timeout = \"1h\"\nconnect_timeout = \"500ms\"\n";
        let mut broker = Broker::start(&format!("{times}{}", listener_of(kind, "")));
        Client::dial(broker.address, way, 5).expect_closed();
        assert_eq!(broker.total("connect_timeouts"), 1, "{kind}");
        assert_eq!(broker.total("handshake_timeouts"), 0, "{kind}");
    }
}

/// Reads until the server has ended the connection.
fn await_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    bytes
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let mut broker = Broker::start(&listener_of("tls", ""));
    let mut inside = broker.connect_by(TLS, &Connect::v5(&unique("c")));
    for length in 1..40 {
        let mut garbage = TcpStream::connect(broker.address).unwrap();
        garbage.write_all(&vec![length; usize::from(length) * 100]).unwrap();
        await_end(&mut garbage);
        inside.ping();
    }
    assert_eq!(broker.total("tls_faults"), 39);
}

#[test]
fn a_request_that_is_no_upgrade_has_an_answer_of_http() {
    let mut broker = Broker::start(&listener_of("ws", ""));
    let mut browser = TcpStream::connect(broker.address).unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let answer = String::from_utf8(await_end(&mut browser)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(broker.total("http_faults"), 1);
}

/// A connection that says it comes from `source`, through a proxy.
fn proxied(address: SocketAddr, source: &str, way: Way) -> Option<Stream> {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.write_all(format!("PROXY TCP4 {source} 192.0.2.1 5000 1883\r\n").as_bytes()).unwrap();
    Stream::over(tcp, way).ok()
}

#[test]
fn behind_a_proxy_the_address_in_its_header_counts() {
    let proxy = "proxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n";
    for (kind, way) in [("tcp", TCP), ("tls", TLS)] {
        let limits = "[limits]\nconnections_per_source_max = 1\n";
        let mut broker = Broker::start(&format!("{limits}{}", listener_of(kind, proxy)));
        let connect = |source| {
            let mut client = Client::on(proxied(broker.address, source, way)?, 5);
            client.try_connect(&Connect::v5(&unique("c"))).map(|reason| (reason, client))
        };
        let (reason, mut first) = connect("192.0.2.7").expect("nobody is there from that address");
        assert_eq!(reason, 0);
        assert!(connect("192.0.2.7").is_none(), "{kind}");
        let (_, mut other) = connect("192.0.2.8").expect("another address");
        first.ping();
        other.ping();
        assert_eq!(broker.total("turned_away_source_connections"), 1);
    }
}

#[test]
fn whoever_is_no_proxy_may_not_speak_for_others() {
    let proxy = "proxy_protocol = true\nproxy_senders = [\"192.0.2.0/24\"]\n";
    let mut broker = Broker::start(&listener_of("tcp", proxy));
    let mut client = Client::on(proxied(broker.address, "192.0.2.7", TCP).unwrap(), 5);
    assert_eq!(client.try_connect(&Connect::v5("c")), None);
    assert_eq!(broker.total("proxy_faults"), 1);
}

#[test]
fn a_connection_without_its_header_is_turned_away() {
    let proxy = "proxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n";
    let mut broker = Broker::start(&listener_of("tcp", proxy));
    assert_eq!(broker.open(5).try_connect(&Connect::v5("c")), None);
    assert_eq!(broker.total("proxy_faults"), 1);
}

#[test]
fn without_the_right_certificate_there_is_no_connection() {
    let authorities = certificates::folder().join("ca.pem");
    let settings = format!("client_certificates = \"required\"\nclient_authorities = {authorities:?}\n");
    let mut broker = Broker::start(&listener("tls", &settings));
    let camera = Way { owner: Some(Owner::Camera), ..TLS };
    let mut inside = broker.connect_by(camera, &Connect::v5(&unique("c")));
    for owner in [None, Some(Owner::Stranger)] {
        // In TLS 1.3 the client has shaken hands before it hears what the server thinks of that.
        let tcp = TcpStream::connect(broker.address).unwrap();
        let Ok(mut stream) = Stream::over(tcp, Way { owner, ..TLS }) else { continue };
        let _ = stream.write_all(&Connect::v5("c").encode());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_err() && rest.is_empty(), "{owner:?}");
    }
    inside.ping();
    assert_eq!(broker.total("tls_faults"), 2);
}

#[test]
fn what_comes_before_the_end_of_a_flood_is_delivered_in_order_through_layers() {
    const MESSAGES: usize = 2_000;
    for (kind, way) in SECURE {
        let broker = Broker::start(&listener_of(kind, ""));
        let mut receiver = broker.connect_by(way, &Connect::v5(&unique("c")));
        receiver.subscribe("flood", 1);
        let mut sender = broker.connect_by(way, &Connect::v5(&unique("c")));
        let mut bytes = Vec::new();
        for number in 0..MESSAGES {
            bytes.extend(Publish::new("flood", &number.to_string()).encode(5));
        }
        bytes.extend(wire::disconnect());
        sender.send(&bytes);
        let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(receiver.payloads(MESSAGES), expected, "{kind}");
    }
}

#[test]
fn a_slow_reader_over_tls_gets_all_of_it_in_the_end() {
    let broker = Broker::start(&listener_of("tls", ""));
    let mut receiver = broker.connect_by(TLS, &Connect::v5(&unique("c")));
    receiver.subscribe("slow", 1);
    let mut sender = broker.connect_by(TLS, &Connect::v5(&unique("c")));
    let payload = "y".repeat(100_000);
    for _ in 0..100 {
        sender.publish(Publish::new("slow", &payload).qos(1));
    }
    assert!(receiver.payloads(100).iter().all(|text| text.len() == payload.len()));
}
