//! What has to be right before MQTT begins: the header of a proxy, TLS, the request for a WebSocket. Strangers are told what is wrong, are
//! counted, and disturb nobody.

use crate::harness::parse::CONNACK;
use crate::harness::transport::{KINDS, Kind, Stream, tls_clients};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, certificates, unique};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What comes on a socket until the server closes.
fn rest(socket: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes); // It may end with a reset.
    bytes
}

/// The answer to a request, until the server closes.
fn answer(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    String::from_utf8(rest(&mut stream)).unwrap()
}

#[test]
fn whatever_is_no_websocket_gets_a_clear_answer() {
    let mut broker = Broker::of_all_kinds("");
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
    assert_eq!(broker.total("http_faults"), 9);
}

#[test]
fn who_speaks_no_tls_is_turned_away() {
    let mut broker = Broker::of_all_kinds("");
    for kind in [Kind::Tls, Kind::Wss] {
        for bytes in [Connect::v5("plain").encode(), b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()] {
            let mut socket = broker.socket_to(kind);
            socket.write_all(&bytes).unwrap();
            let alert = rest(&mut socket);
            assert_eq!(alert.first(), Some(&21), "an alert, not {alert:?}");
        }
    }
    broker.client_over(Kind::Tls).ping();
    assert_eq!(broker.total("tls_faults"), 4);
}

#[test]
fn flipped_bytes_of_a_handshake_disturb_nobody_else() {
    let broker = Broker::of_all_kinds("");
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
    let authorities = certificates::folder().join("ca.pem");
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
    let mut broker = Broker::start(&listeners.concat());
    let connect = |listener: usize, kind, header: &[u8]| {
        let mut client = Client::open_behind(header, kind, broker.addresses[listener])?;
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
    assert_eq!(connect(2, Kind::Tcp, v1), None, "its sender is not known");
    assert_eq!(broker.total("proxy_faults"), 3);
}
