//! MQTT over TLS, WebSocket and both: what it is there, how such connections end, and what strangers get.

use crate::harness::parse::CONNACK;
use crate::harness::transport::{KINDS, Kind, Stream, certificates, tls_clients};
use crate::harness::wire::{self, RETAIN_AS_PUBLISHED};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, Will, millis, secs, unique};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use tungstenite::Message;

/// A broker with a listener of each kind, with these settings besides, and the listener of the harness.
fn start(settings: &str) -> Broker {
    let listeners = KINDS.map(|kind| kind.listener("")).concat();
    Broker::start(&format!("{settings}\n{listeners}"))
}

impl Broker {
    fn open_over(&self, kind: Kind) -> Client {
        Client::open_over(kind, self.addresses[kind as usize], 5)
    }

    /// Connects, and fails unless the server accepts.
    fn connect_over(&self, kind: Kind, connect: &Connect) -> Client {
        let mut client = self.open_over(kind);
        assert_eq!(client.try_connect(connect), Some(0));
        client
    }

    fn client_over(&self, kind: Kind) -> Client {
        self.connect_over(kind, &Connect::v5(&unique("c")))
    }

    /// A connection without any handshake.
    fn socket_to(&self, kind: Kind) -> TcpStream {
        let socket = TcpStream::connect(self.addresses[kind as usize]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

/// What comes on a socket until the server closes.
fn rest(socket: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes); // It may end with a reset.
    bytes
}

/// A client whose will says "gone".
fn mortal(topic: &str) -> Connect {
    Connect::v5(&unique("mortal")).will(Will::new(topic, "gone").qos(1))
}

#[test]
fn mqtt_is_the_same_over_every_transport() {
    let broker = start("[limits]\npacket_bytes_max = \"4MiB\"\noutput_bytes_max = \"16MiB\"\n");
    let large = "0123456789".repeat(200_000);
    for of_publisher in KINDS {
        for of_subscriber in KINDS {
            let topic = unique("transport");
            let mut subscriber = broker.client_over(of_subscriber);
            assert_eq!(subscriber.subscribe(&topic, 2), 2);
            let mut publisher = broker.client_over(of_publisher);
            for qos in 0..=2 {
                assert_eq!(publisher.publish(Publish::new(&topic, &format!("{qos}")).qos(qos)), 0);
            }
            assert_eq!(subscriber.payloads(3), ["0", "1", "2"]);
            publisher.publish(Publish::new(&topic, &large).qos(1));
            assert!(subscriber.message().text() == large);
            publisher.disconnect();
            subscriber.disconnect();
        }
    }
}

/// On each shard there are connections that arrived on another one.
#[test]
fn connections_come_home_with_their_layers() {
    let broker = start("");
    let topic = unique("home");
    let mut watcher = broker.client_over(Kind::Tcp);
    watcher.subscribe(&topic, 1);
    for kind in KINDS {
        for _ in 0..16 {
            let mut client = broker.client_over(kind);
            client.ping();
            client.publish(Publish::new(&topic, "here").qos(1));
            assert_eq!(watcher.message().text(), "here");
            client.disconnect();
        }
    }
}

/// MQTT packets need not be aligned on messages.
#[test]
fn mqtt_6_0_0_2_packets_come_in_pieces_and_several_in_one_message() {
    let broker = start("");
    for kind in KINDS.into_iter().filter(|kind| kind.has_websocket()) {
        let mut client = broker.open_over(kind);
        for byte in Connect::v5(&unique("pieces")).encode() {
            client.send(&[byte]);
        }
        assert_eq!(client.expect(CONNACK).reason, 0);
        let topic = unique("pieces");
        client.subscribe(&topic, 0);
        let publish = |payload| Publish::new(&topic, payload).encode(5);
        client.send(&[publish("one"), publish("two"), publish("three")].concat());
        assert_eq!(client.payloads(3), ["one", "two", "three"]);
        client.stream.send_message(Message::Ping("are you there".into()));
        client.ping();
    }
}

#[test]
fn everything_in_one_go_is_understood() {
    let broker = start("");
    for kind in KINDS {
        let topic = unique("at-once");
        let mut watcher = broker.client_over(Kind::Tcp);
        watcher.subscribe(&topic, 0);
        let mut client = broker.open_over(kind);
        let connect = Connect::v5(&unique("at-once")).encode();
        client.send(&[connect, Publish::new(&topic, "said").encode(5), wire::disconnect()].concat());
        assert_eq!(watcher.message().text(), "said");
        assert_eq!(client.expect(CONNACK).reason, 0);
        client.expect_closed();
    }
}

#[test]
fn will_is_published_when_a_connection_is_cut_over_every_transport() {
    let broker = start("");
    for kind in KINDS {
        let topic = unique("will");
        let mut watcher = broker.client_over(Kind::Wss);
        watcher.subscribe(&topic, 1);
        broker.connect_over(kind, &mortal(&topic)).cut();
        assert_eq!(watcher.message().text(), "gone");
        broker.connect_over(kind, &mortal(&topic)).reset();
        assert_eq!(watcher.message().text(), "gone");
    }
}

/// The end of a TLS session, or a close frame, is no DISCONNECT.
#[test]
fn will_is_published_when_a_layer_ends_without_a_disconnect() {
    let broker = start("");
    for kind in [Kind::Tls, Kind::Ws, Kind::Wss] {
        let topic = unique("will");
        let mut watcher = broker.client_over(Kind::Tcp);
        watcher.subscribe(&topic, 1);
        let mut client = broker.connect_over(kind, &mortal(&topic));
        client.stream.end_layer();
        assert_eq!(watcher.message().text(), "gone");
        client.until_closed();
    }
}

/// Client libraries send DISCONNECT and the end of the layers in one go.
#[test]
fn will_is_discarded_by_a_disconnect_before_a_layer_ends() {
    let broker = start("");
    for kind in [Kind::Tls, Kind::Ws, Kind::Wss] {
        let topic = unique("will");
        let mut watcher = broker.client_over(Kind::Tcp);
        watcher.subscribe(&topic, 1);
        let mut client = broker.connect_over(kind, &mortal(&topic));
        client.send(&wire::disconnect());
        client.stream.end_layer();
        client.until_closed();
        assert_eq!(watcher.until_own_marker(), []);
    }
}

#[test]
fn mqtt_6_0_0_1_text_ends_the_connection_and_its_will_is_published() {
    let broker = start("");
    for kind in [Kind::Ws, Kind::Wss] {
        let topic = unique("will");
        let mut watcher = broker.client_over(Kind::Tcp);
        watcher.subscribe(&topic, 1);
        let mut client = broker.connect_over(kind, &mortal(&topic));
        client.stream.send_message(Message::text("hello"));
        assert_eq!(watcher.message().text(), "gone");
        client.until_closed();
        assert_eq!(client.stream.close_code(), Some(1003));
    }
}

/// A connection that we end has its close frame and the end of its TLS session: clients tell that from an attack.
#[test]
fn connections_end_in_order() {
    let broker = start("");
    for kind in [Kind::Tls, Kind::Ws, Kind::Wss] {
        let name = unique("taken-over");
        let mut first = broker.connect_over(kind, &Connect::v5(&name));
        let _second = broker.connect_over(kind, &Connect::v5(&name));
        first.expect_disconnect(&[0x8E]); // Session taken over. [MQTT-3.1.4-3]
        assert_eq!(first.stream.close_code().is_some(), kind.has_websocket(), "{kind:?}");
    }
}

/// The answer to a request, until the server closes.
fn answer(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    String::from_utf8(rest(&mut stream)).unwrap()
}

#[test]
fn whatever_is_no_websocket_gets_a_clear_answer() {
    let broker = start("");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: broker\r\n\r\n", "404 Not Found"),
        ("GET /mqtt HTTP/1.1\r\nHost: broker\r\n\r\n", "426 Upgrade Required"),
        ("POST /mqtt HTTP/1.1\r\nHost: broker\r\n\r\n", "405 Method Not Allowed"),
        ("HELLO\r\n\r\n", "400 Bad Request"),
    ] {
        let in_clear = answer(broker.socket_to(Kind::Ws), request);
        let Ok(Stream::Tls(tls)) = Stream::over(Kind::Tls, broker.socket_to(Kind::Wss), &tls_clients(false)) else {
            panic!("TLS without WebSocket in it")
        };
        for answer in [in_clear, answer(*tls, request)] {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
    }
    let mut socket = broker.socket_to(Kind::Ws);
    socket.write_all(&Connect::v5("plain").encode()).unwrap();
    assert!(rest(&mut socket).starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn who_speaks_no_tls_is_turned_away() {
    let broker = start("");
    for kind in [Kind::Tls, Kind::Wss] {
        for bytes in [Connect::v5("plain").encode(), b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()] {
            let mut socket = broker.socket_to(kind);
            socket.write_all(&bytes).unwrap();
            let alert = rest(&mut socket);
            assert_eq!(alert.first(), Some(&21), "an alert, not {alert:?}");
        }
    }
    broker.client_over(Kind::Tls).ping();
}

#[test]
fn flipped_bytes_of_a_handshake_disturb_nobody_else() {
    let broker = start("");
    let mut others = KINDS.map(|kind| broker.client_over(kind));
    let topic = unique("undisturbed");
    others[1].subscribe(&topic, 1);
    // A handshake of a real client, of which each gets a piece with a flipped byte.
    let mut hello = Vec::new();
    let name = "127.0.0.1".try_into().unwrap();
    rustls::ClientConnection::new(tls_clients(false), name).unwrap().write_tls(&mut hello).unwrap();
    let request =
        b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n\x82\x80\0\0\0\0";
    for (kind, good) in [(Kind::Tls, &hello[..]), (Kind::Wss, &hello[..]), (Kind::Ws, &request[..])] {
        let mut sockets = Vec::new();
        for at in (0..good.len()).step_by(5) {
            let mut bytes = good.to_vec();
            bytes[at] ^= 1 << (at % 8);
            let mut socket = broker.socket_to(kind);
            let _ = socket.write_all(&bytes);
            sockets.push(socket);
        }
        let [_, subscriber, _, publisher] = &mut others;
        publisher.publish(Publish::new(&topic, "still here").qos(1));
        assert_eq!(subscriber.message().text(), "still here");
        others.iter_mut().for_each(Client::ping);
    }
    broker.client_over(Kind::Tls).ping();
}

#[test]
fn a_listener_that_requires_client_certificates_lets_nobody_in_without_one() {
    let authorities = certificates().join("ca.pem");
    let settings = format!("client_certificates = \"required\"\nclient_authorities = {authorities:?}\n");
    let broker = Broker::start(&[Kind::Tls, Kind::Wss].map(|kind| kind.listener(&settings)).concat());
    for (kind, address) in [Kind::Tls, Kind::Wss].into_iter().zip(&broker.addresses) {
        let connect = |has_certificate| {
            let socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = Stream::over(kind, socket, &tls_clients(has_certificate)).ok()?;
            stream.write_all(&Connect::v5(&unique("shown")).encode()).ok()?;
            let mut first = [0];
            stream.read_exact(&mut first).ok()?;
            Some(first[0])
        };
        assert_eq!(connect(true), Some(CONNACK << 4));
        assert_eq!(connect(false), None);
    }
}

#[test]
fn a_proxy_says_where_a_client_comes_from_if_it_is_known() {
    let known = "anonymous = true\nproxy_protocol = true\nproxy_senders = [\"127.0.0.0/8\"]\n";
    let unknown = "anonymous = true\nproxy_protocol = true\nproxy_senders = [\"192.0.2.1\"]\n";
    let listeners = [Kind::Tcp.listener(known), Kind::Tls.listener(known), Kind::Tcp.listener(unknown)];
    let broker = Broker::start(&listeners.concat());
    let connect = |listener: usize, kind, header: &[u8]| {
        let mut socket = TcpStream::connect(broker.addresses[listener]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(header).unwrap();
        let mut client = Client::of(Stream::over(kind, socket, &tls_clients(false)).ok()?, 5);
        client.try_connect(&Connect::v5(&unique("proxied")))
    };
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x9c\x40\x07\x5b";
    for header in [&v1[..], v2] {
        assert_eq!(connect(0, Kind::Tcp, header), Some(0));
        assert_eq!(connect(1, Kind::Tls, header), Some(0));
    }
    for header in [&b""[..], b"PROXY TCP4 192.0.2.7\r\n"] {
        assert_eq!(connect(0, Kind::Tcp, header), None, "without a good header nobody comes in");
    }
    let mut socket = TcpStream::connect(broker.addresses[2]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = socket.write_all(&[&v1[..], &Connect::v5("stranger").encode()].concat());
    assert_eq!(rest(&mut socket), b"", "its sender is not known");
}

/// A camera with a retained will and a Will Delay, and a hub that watches it, both in browsers.
#[test]
fn will_of_a_camera_tells_a_hub_over_wss() {
    let broker = start("");
    let topic = unique("home/camera/status");
    let mut hub = broker.client_over(Kind::Wss);
    hub.subscribe(&topic, 1 | RETAIN_AS_PUBLISHED);
    let name = unique("camera");
    let connect = || {
        let will = Will::new(&topic, "offline").qos(1).retain().delay(1);
        broker.connect_over(Kind::Wss, &Connect::v5(&name).resume().expiry(3600).will(will))
    };
    let mut camera = connect();
    camera.publish(Publish::new(&topic, "online").qos(1).retain());
    assert_eq!(hub.message().text(), "online");
    // It comes back in time, so nobody hears of it.
    camera.cut();
    let camera = connect();
    assert!(camera.session_present());
    hub.expect_silence(millis(1500)); // [MQTT-3.1.3-9]
    let start = Instant::now();
    camera.cut();
    assert_eq!(hub.message().text(), "offline");
    assert!(start.elapsed() >= secs(1), "early: {:?}", start.elapsed());
    let mut late = broker.client_over(Kind::Ws);
    late.subscribe(&topic, 1);
    let kept = late.message();
    assert_eq!(kept.text(), "offline");
    assert!(kept.retain());
}
