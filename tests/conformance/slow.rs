//! Clients that hold connections and do nothing with them: silent ones, and ones that send a byte now and then ("slowloris"), at every
//! point of the way in and on every transport. They are ended in time, and do not keep others out.

use crate::harness::transport::{KINDS, Kind, Stream, tls_clients};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, millis, unique};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

/// Where slow clients come from; good ones come from 127.0.0.1.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// At the end each address may have eight connections.
const PER_SOURCE_MAX: usize = 8;

/// A broker with a listener of each kind that waits a second for whatever is to come.
fn start() -> Broker {
    Broker::of_all_kinds(&format!(
        "[limits]\nhandshake_timeout = \"1s\"\nconnect_timeout = \"1s\"\n\
         connections_per_source_max = {PER_SOURCE_MAX}\n"
    ))
}

fn socket_to(broker: &Broker, kind: Kind) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ELSEWHERE, 0)).into()).unwrap();
    socket.connect(&broker.addresses[kind as usize].into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A good client over this transport comes in, and gets on.
fn assert_open_for_others(broker: &Broker, kind: Kind) {
    let mut client = broker.client_over(kind);
    client.ping();
    client.disconnect();
}

/// Waits for the end of a connection on which nothing may come but what ends a layer.
fn assert_ended(stream: &mut impl Read, what: &str) {
    let end = Instant::now() + PATIENCE;
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => assert!(Instant::now() < end, "{what}"),
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{what}: {error}");
                return;
            }
        }
    }
}

/// Sends a byte every 20 ms until the broker has closed. It must do so long before the bytes are at their end.
fn assert_ended_while_sending(mut stream: impl Read + Write, socket: &TcpStream, bytes: &[u8], what: &str) {
    socket.set_read_timeout(Some(millis(1))).unwrap();
    for byte in bytes {
        let sent = stream.write_all(&[*byte]).and_then(|()| stream.flush());
        let mut answer = [0; 256];
        match stream.read(&mut answer) {
            _ if sent.is_err() => return,
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        thread::sleep(millis(20)); // The pace of this client is the test.
    }
    panic!("{what}: the broker took all of it");
}

/// The first bytes of a client over this transport, which nobody could object to.
fn beginning(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Tcp => Connect::v5(&"x".repeat(1000)).encode(),
        Kind::Tls | Kind::Wss => {
            let mut hello = Vec::new();
            let name = "127.0.0.1".try_into().unwrap();
            rustls::ClientConnection::new(tls_clients(false), name).unwrap().write_tls(&mut hello).unwrap();
            hello
        }
        Kind::Ws => {
            let more = "x".repeat(1000);
            format!("GET /mqtt HTTP/1.1\r\nHost: a\r\nX-More: {more}\r\nUpgrade: websocket\r\n").into_bytes()
        }
    }
}

#[test]
fn who_is_silent_before_its_handshake_is_ended_and_keeps_nobody_out() {
    let mut broker = start();
    for kind in KINDS {
        let mut silent: Vec<_> = (0..2 * PER_SOURCE_MAX).map(|_| socket_to(&broker, kind)).collect();
        assert_open_for_others(&broker, kind);
        silent.iter_mut().for_each(|socket| assert_ended(socket, "silent from the start"));
    }
    let timeouts = broker.total("handshake_timeouts") + broker.total("connect_timeouts");
    let turned_away = broker.total("turned_away_source_connections");
    assert_eq!(timeouts + turned_away, (2 * PER_SOURCE_MAX * KINDS.len()) as u64);
    assert!(broker.total("handshake_timeouts") >= 3 && broker.total("connect_timeouts") >= 1);
}

#[test]
fn who_begins_its_handshake_byte_by_byte_is_ended_and_keeps_nobody_out() {
    let mut broker = start();
    for kind in KINDS {
        let slow: Vec<_> = (0..4).map(|_| socket_to(&broker, kind)).collect();
        let bytes = beginning(kind);
        let threads: Vec<_> = slow
            .into_iter()
            .map(|socket| {
                let (bytes, stream) = (bytes.clone(), socket.try_clone().unwrap());
                thread::spawn(move || assert_ended_while_sending(stream, &socket, &bytes, &format!("{kind:?}")))
            })
            .collect();
        assert_open_for_others(&broker, kind);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    assert_eq!(broker.total("handshake_timeouts"), 12);
    assert_eq!(broker.total("connect_timeouts"), 4);
}

#[test]
fn who_is_silent_after_its_handshake_is_ended_and_keeps_nobody_out() {
    let mut broker = start();
    for kind in [Kind::Tls, Kind::Ws, Kind::Wss] {
        let mut silent: Vec<_> = (0..4)
            .map(|_| Stream::over(kind, socket_to(&broker, kind), &tls_clients(false)).expect("the handshakes succeed"))
            .collect();
        assert_open_for_others(&broker, kind);
        silent.iter_mut().for_each(|stream| assert_ended(stream, "silent after the handshake"));
    }
    assert_eq!(broker.total("connect_timeouts"), 12);
    assert_eq!(broker.total("handshake_timeouts"), 0);
}

#[test]
fn who_sends_its_connect_byte_by_byte_is_ended_and_keeps_nobody_out() {
    let mut broker = start();
    let connect = Connect::v5(&"x".repeat(1000)).encode();
    for kind in [Kind::Tls, Kind::Ws, Kind::Wss] {
        let stream = Stream::over(kind, socket_to(&broker, kind), &tls_clients(false)).expect("the handshakes succeed");
        let (socket, connect) = (stream.socket().try_clone().unwrap(), connect.clone());
        let slow = thread::spawn(move || assert_ended_while_sending(stream, &socket, &connect, &format!("{kind:?}")));
        assert_open_for_others(&broker, kind);
        slow.join().unwrap();
    }
    assert_eq!(broker.total("connect_timeouts"), 3);
}

#[test]
fn who_begins_a_proxy_header_and_does_not_end_it_is_ended() {
    let proxied = Kind::Tcp.listener("anonymous = true\nproxy_protocol = true\nproxy_senders = [\"127.0.0.1\"]\n");
    let mut broker = Broker::start(&format!("[limits]\nhandshake_timeout = \"500ms\"\n{proxied}"));
    let mut slow = Client::open(broker.address, 5);
    slow.send(b"PROXY TCP4 192.0.2.7");
    slow.expect_closed();
    assert_eq!(broker.total("handshake_timeouts"), 1);
}

/// Once it is in, it is the Keep Alive that ends who falls silent, within a packet as between packets. [MQTT-3.1.2-22]
#[test]
fn who_sends_a_packet_byte_by_byte_is_ended_by_its_keep_alive() {
    let broker = start();
    let publish = Publish::new("t", &"x".repeat(1000)).encode(5);
    for kind in KINDS {
        let mut stream = Stream::over(kind, socket_to(&broker, kind), &tls_clients(false)).unwrap();
        stream.write_all(&Connect::v5(&unique("slow")).keep_alive(1).encode()).unwrap();
        stream.flush().unwrap();
        let (socket, publish) = (stream.socket().try_clone().unwrap(), publish.clone());
        let slow = thread::spawn(move || assert_ended_while_sending(stream, &socket, &publish, &format!("{kind:?}")));
        assert_open_for_others(&broker, kind);
        slow.join().unwrap();
    }
}
