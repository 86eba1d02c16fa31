//! A connection of a client that never waits, or none.

use crate::history::{Did, Event, Who};
use crate::load::Turn;
use crate::mqtt::parse::{self, Packet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

pub(crate) struct Line {
    pub(crate) who: Who,
    /// Protocol Version: 4 or 5.
    pub(crate) version: u8,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    packet_id: u16,
}

impl Line {
    pub(crate) fn new(who: Who, version: u8) -> Self {
        Self { who, version, stream: None, input: Vec::new(), output: Vec::new(), packet_id: 0 }
    }

    pub(crate) fn note(&self, turn: &mut Turn<'_>, did: Did) {
        turn.log.note(Event::Client(self.who, did));
    }

    /// Whether the connection was accepted.
    pub(crate) fn open(&mut self, address: SocketAddr) -> bool {
        let Ok(stream) = TcpStream::connect(address) else { return false };
        stream.set_nodelay(true).expect("an open socket");
        stream.set_nonblocking(true).expect("an open socket");
        self.stream = Some(stream);
        self.input.clear();
        self.output.clear();
        true
    }

    pub(crate) fn stream(&self) -> Option<&TcpStream> {
        self.stream.as_ref()
    }

    /// Takes bytes that go out when the socket has room for them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes what the socket takes; errors show when it is read.
    pub(crate) fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(_) => return,
            }
        }
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        self.output.is_empty()
    }

    /// What has come, and whether the broker has closed.
    pub(crate) fn receive(&mut self) -> (Vec<Packet>, bool) {
        let mut chunk = [0; 16 * 1024];
        let mut packets = Vec::new();
        let Some(stream) = &mut self.stream else { return (packets, false) };
        let closed = match stream.read(&mut chunk) {
            Ok(0) => true,
            Ok(count) => {
                self.input.extend_from_slice(&chunk[..count]);
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        while let Some(packet) = parse::cut(&mut self.input, self.version) {
            packets.push(packet);
        }
        (packets, closed)
    }

    pub(crate) fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both); // It may be gone already.
        }
    }

    /// The next Packet Identifier that is not in use.
    pub(crate) fn next_id(&mut self, in_use: impl Fn(u16) -> bool) -> u16 {
        loop {
            self.packet_id = self.packet_id.wrapping_add(1).max(1);
            if !in_use(self.packet_id) {
                return self.packet_id;
            }
        }
    }
}
