//! A blocking client that does only what the test tells it to.

use super::parse::{
    self, CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet, SUBACK, UNSUBACK,
};
use super::property::Property;
use super::transport::{Kind, Stream, tls_clients};
use super::wire::{self, Connect, Publish};
use super::{A_MOMENT, PATIENCE, unique};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) struct Client {
    pub(crate) stream: Stream,
    version: u8,
    /// Bytes of a packet that is not complete yet.
    buffer: Vec<u8>,
    /// Packets that were read while the test waited for another one.
    earlier: VecDeque<Packet>,
    packet_id: u16,
    pub(crate) connack: Packet,
}

/// What a bounded wait ended with.
enum Arrival {
    Packet(Packet),
    Closed,
    Nothing,
}

impl Client {
    pub(crate) fn open(address: SocketAddr, version: u8) -> Self {
        Self::over(TcpStream::connect(address).expect("the broker accepts connections"), version)
    }

    /// As [`Client::open`], but from another address of this machine: on Linux all of 127.0.0.0/8 is.
    pub(crate) fn open_from(source: Ipv4Addr, address: SocketAddr, version: u8) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).expect("the broker accepts connections");
        Self::over(socket.into(), version)
    }

    /// As [`Client::open`], but over a Unix socket. A stream is a stream, whatever std calls it.
    pub(crate) fn open_at(path: &Path, version: u8) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).expect("the broker accepts connections");
        Self::over(socket.into(), version)
    }

    /// Connects over a Unix socket, and fails unless the server accepts.
    pub(crate) fn connect_at(path: &Path, connect: &Connect) -> Self {
        let mut client = Self::open_at(path, connect.version);
        client.send(&connect.encode());
        client.connack = client.expect(CONNACK);
        assert_eq!(client.connack.reason, 0, "CONNECT refused: {:?}", client.connack);
        client
    }

    /// As [`Client::open`], over whatever the listener at `address` speaks.
    pub(crate) fn open_over(kind: Kind, address: SocketAddr, version: u8) -> Self {
        Self::of(Stream::connect(kind, address), version)
    }

    /// As [`Client::open_over`], with a header of a proxy before everything else; `None` where the handshakes behind it fail.
    pub(crate) fn open_behind(header: &[u8], kind: Kind, address: SocketAddr) -> Option<Self> {
        let mut socket = TcpStream::connect(address).expect("the broker accepts connections");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.write_all(header); // It may be turned away already.
        Some(Self::of(Stream::over(kind, socket, &tls_clients(false)).ok()?, 5))
    }

    fn over(socket: TcpStream, version: u8) -> Self {
        Self::of(Stream::Tcp(socket), version)
    }

    /// A client whose handshakes below MQTT are done.
    pub(crate) fn of(stream: Stream, version: u8) -> Self {
        let _ = stream.socket().set_nodelay(true); // A Unix socket has no such thing.
        let (buffer, earlier, connack) = (Vec::new(), VecDeque::new(), Packet::default());
        Self { stream, version, buffer, earlier, packet_id: 0, connack }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection takes bytes");
    }

    /// Sends what makes the server close, which it may do before it has read all of it.
    pub(crate) fn send_anyway(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn arrival(&mut self, end: Instant) -> Arrival {
        if let Some(packet) = self.earlier.pop_front() {
            return Arrival::Packet(packet);
        }
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(packet) = parse::cut(&mut self.buffer, self.version) {
                return Arrival::Packet(packet);
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.socket().set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut chunk) {
                Ok(0) => return Arrival::Closed,
                Ok(count) => self.buffer.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() >= end => {
                    return Arrival::Nothing;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Arrival::Closed,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    /// The next packet, whatever it is.
    pub(crate) fn receive(&mut self) -> Packet {
        match self.arrival(Instant::now() + PATIENCE) {
            Arrival::Packet(packet) => packet,
            Arrival::Closed => panic!("the server closed instead of sending a packet"),
            Arrival::Nothing => panic!("no packet came within {PATIENCE:?}"),
        }
    }

    /// Sends a CONNECT; the Reason Code of its answer, or `None` where the server just closes.
    pub(crate) fn try_connect(&mut self, connect: &Connect) -> Option<u8> {
        self.send_anyway(&connect.encode());
        self.try_connack()
    }

    /// The Reason Code of the answer to a CONNECT that was sent, or `None` where the server just closes.
    pub(crate) fn try_connack(&mut self) -> Option<u8> {
        match self.arrival(Instant::now() + PATIENCE) {
            Arrival::Packet(packet) if packet.kind == CONNACK => {
                self.connack = packet;
                Some(self.connack.reason)
            }
            Arrival::Packet(packet) => panic!("unexpected {packet:?}"),
            Arrival::Closed => None,
            Arrival::Nothing => panic!("the server neither answered nor closed within {PATIENCE:?}"),
        }
    }

    /// The next packet, which must be of this type.
    pub(crate) fn expect(&mut self, kind: u8) -> Packet {
        let packet = self.receive();
        assert_eq!(packet.kind, kind, "unexpected {packet:?}");
        packet
    }

    /// The next packet of this type; others stay for later.
    pub(crate) fn await_kind(&mut self, kind: u8) -> Packet {
        let mut others = VecDeque::new();
        let packet = loop {
            let packet = self.receive();
            if packet.kind == kind {
                break packet;
            }
            others.push_back(packet);
        };
        others.append(&mut self.earlier);
        self.earlier = others;
        packet
    }

    /// The next message; it is acknowledged as its QoS asks.
    pub(crate) fn message(&mut self) -> Packet {
        let packet = self.expect(PUBLISH);
        self.acknowledge(&packet);
        packet
    }

    fn acknowledge(&mut self, packet: &Packet) {
        match packet.qos() {
            0 => {}
            1 => self.send(&wire::acknowledgement(PUBACK, packet.packet_id)),
            _ => {
                self.send(&wire::acknowledgement(PUBREC, packet.packet_id));
                assert_eq!(self.await_kind(PUBREL).packet_id, packet.packet_id);
                self.send(&wire::acknowledgement(PUBCOMP, packet.packet_id));
            }
        }
    }

    /// The payloads of the next `count` messages.
    pub(crate) fn payloads(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.message().text()).collect()
    }

    /// Nothing comes within `duration`, and the server does not close.
    pub(crate) fn expect_silence(&mut self, duration: Duration) {
        match self.arrival(Instant::now() + duration) {
            Arrival::Packet(packet) => panic!("unexpected {packet:?}"),
            Arrival::Closed => panic!("the server closed"),
            Arrival::Nothing => {}
        }
    }

    /// The server closes without another packet.
    pub(crate) fn expect_closed(&mut self) {
        match self.arrival(Instant::now() + PATIENCE) {
            Arrival::Packet(packet) => panic!("instead of the end came {packet:?}"),
            Arrival::Closed => {}
            Arrival::Nothing => panic!("the server did not close within {PATIENCE:?}"),
        }
    }

    /// The server ends the connection for one of `reasons`, and says so where the version lets it.
    pub(crate) fn expect_disconnect(&mut self, reasons: &[u8]) {
        if self.version != 5 {
            return self.expect_closed();
        }
        let packets = self.until_closed(); // Answers to earlier packets may come before it, nothing after it.
        match packets.last() {
            Some(last) if last.kind == DISCONNECT && reasons.contains(&last.reason) => {}
            _ => panic!("no DISCONNECT with one of {reasons:02x?} at the end of {packets:?}"),
        }
    }

    /// The connection ends; packets before the end are returned.
    pub(crate) fn until_closed(&mut self) -> Vec<Packet> {
        let end = Instant::now() + PATIENCE;
        let mut packets = Vec::new();
        loop {
            match self.arrival(end) {
                Arrival::Packet(packet) => packets.push(packet),
                Arrival::Closed => return packets,
                Arrival::Nothing => panic!("the server did not close within {PATIENCE:?}"),
            }
        }
    }

    /// Packets up to the first of this type, or to the end of the connection.
    pub(crate) fn until_closed_or(&mut self, kind: u8) -> Vec<Packet> {
        let mut packets: Vec<Packet> = Vec::new();
        loop {
            match self.arrival(Instant::now() + PATIENCE) {
                Arrival::Packet(packet) => packets.push(packet),
                Arrival::Closed => return packets,
                Arrival::Nothing => panic!("the server neither answered nor closed within {PATIENCE:?}"),
            }
            if packets.last().is_some_and(|packet| packet.kind == kind) {
                return packets;
            }
        }
    }

    pub(crate) fn next_id(&mut self) -> u16 {
        self.packet_id += 1;
        self.packet_id
    }

    /// Subscribes to one Topic Filter; the Reason Code.
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[(filter, options)], &[]).reasons[0]
    }

    /// The SUBACK; messages that came before it are kept.
    pub(crate) fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &[Property]) -> Packet {
        let packet_id = self.next_id();
        self.send(&wire::subscribe(self.version, packet_id, filters, properties));
        let suback = self.await_kind(SUBACK);
        assert_eq!(suback.packet_id, packet_id); // [MQTT-3.8.4-2]
        assert_eq!(suback.reasons.len(), filters.len()); // [MQTT-3.8.4-6]
        suback
    }

    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Packet {
        let packet_id = self.next_id();
        self.send(&wire::unsubscribe(self.version, packet_id, filters));
        let unsuback = self.await_kind(UNSUBACK);
        assert_eq!(unsuback.packet_id, packet_id); // [MQTT-3.10.4-5]
        unsuback
    }

    /// Publishes with the whole exchange of its QoS; the Reason Code of the first acknowledgement.
    pub(crate) fn publish(&mut self, publish: Publish) -> u8 {
        let packet_id = if publish.qos == 0 { 0 } else { self.next_id() };
        let qos = publish.qos;
        self.send(&publish.id(packet_id).encode(self.version));
        if qos == 0 {
            return 0;
        }
        let answer = self.await_kind(if qos == 1 { PUBACK } else { PUBREC });
        assert_eq!(answer.packet_id, packet_id); // [MQTT-2.2.1-5]
        if qos == 2 && answer.reason < 0x80 {
            self.send(&wire::acknowledgement(PUBREL, packet_id));
            assert_eq!(self.await_kind(PUBCOMP).packet_id, packet_id);
        }
        answer.reason
    }

    /// Publishes without waiting for an answer.
    pub(crate) fn publish_only(&mut self, publish: &Publish) {
        self.send(&publish.encode(self.version));
    }

    /// The server has handled everything sent so far, and its answers are here.
    pub(crate) fn ping(&mut self) {
        self.send(&wire::pingreq());
        self.await_kind(PINGRESP);
    }

    /// All messages that reach this client before one that `publisher` sends now.
    pub(crate) fn until_marker_of(&mut self, publisher: &mut Self) -> Vec<Packet> {
        let marker = unique("marker");
        self.subscribe(&marker, 0);
        publisher.publish(Publish::new(&marker, ""));
        self.until_topic(&marker)
    }

    /// All messages that reach this client before one that it sends to itself now.
    pub(crate) fn until_own_marker(&mut self) -> Vec<Packet> {
        let marker = unique("marker");
        self.subscribe(&marker, 0);
        self.publish(Publish::new(&marker, ""));
        self.until_topic(&marker)
    }

    fn until_topic(&mut self, topic: &str) -> Vec<Packet> {
        let mut messages = Vec::new();
        loop {
            let message = self.message();
            if message.topic == topic {
                return messages;
            }
            messages.push(message);
        }
    }

    /// DISCONNECT with Reason Code 0x00; returns when the server has closed.
    pub(crate) fn disconnect(mut self) {
        self.send(&wire::disconnect());
        self.until_closed();
    }

    /// DISCONNECT with a Reason Code; returns when the server has closed.
    pub(crate) fn disconnect_with(mut self, reason: u8, properties: &[Property]) {
        self.send(&wire::disconnect_with(reason, properties));
        self.until_closed();
    }

    /// The Network Connection ends without a DISCONNECT, by FIN.
    pub(crate) fn cut(self) {
        self.stream.socket().shutdown(Shutdown::Both).unwrap();
    }

    /// Only our half of the Network Connection ends.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.socket().shutdown(Shutdown::Write).unwrap();
    }

    /// The Network Connection ends without a DISCONNECT, by RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(self.stream.socket()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads whether a session was there from the CONNACK.
    pub(crate) fn session_present(&self) -> bool {
        self.connack.kind == CONNACK && self.connack.session_present
    }

    /// No packet is waiting, as far as a moment tells.
    pub(crate) fn expect_quiet(&mut self) {
        self.expect_silence(A_MOMENT);
    }
}
