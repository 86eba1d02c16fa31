//! Whether a broker answers: a CONNECT that is accepted, not just an open port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use willowmq::codec::{Disconnect, Packet, PacketKind, ProtocolVersion, ReasonCode, encode};

use crate::engine::{Layers, Route};
use crate::options::{Common, Identity};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// A CONNACK's fixed header, its flags and its Reason Code, which are the same in all versions.
const CONNACK_BYTES: usize = 4;
/// The first byte of a CONNACK.
const CONNACK: u8 = PacketKind::Connack.first_byte();

/// How a broker is reached, and as whom.
pub(super) struct Door {
    route: Route,
    identity: Identity,
}

impl Door {
    /// The door of the broker that `common` is about.
    ///
    /// # Errors
    ///
    /// When a certificate, a key or a password cannot be read.
    pub(super) fn new(common: &Common) -> Result<Self> {
        Ok(Self { route: common.route()?, identity: common.identity()? })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.route.target
    }

    /// Connects as an MQTT client and leaves again, in whichever version the broker speaks.
    ///
    /// # Errors
    ///
    /// When the broker does not accept the connection: not yet, perhaps.
    pub(super) fn ask(&self) -> Result<()> {
        self.ask_in(ProtocolVersion::V3_1_1).or_else(|_| self.ask_in(ProtocolVersion::V5))
    }

    fn ask_in(&self, version: ProtocolVersion) -> Result<()> {
        let socket = TcpStream::connect_timeout(&self.route.target, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let layers = self.route.transport.layers()?;
        let mut visit = Visit { socket, layers, version, received: Vec::new() };
        let client_id = format!("loadgen-ready-{}", std::process::id());
        let mut connect = self.identity.connect(&client_id);
        connect.version = version;
        connect.keep_alive = 30; // Some brokers refuse a client without.
        visit.send(&Packet::Connect(Box::new(connect)))?;
        while visit.received.len() < CONNACK_BYTES {
            visit.receive().context("no answer to CONNECT")?;
        }
        let [CONNACK, _, _, code, ..] = visit.received[..] else { bail!("CONNECT was not answered by a CONNACK") };
        ensure!(code == ReasonCode::Success.as_u8(), "CONNECT was refused with code {code}");
        visit.send(&Packet::Disconnect(Disconnect::default()))
    }
}

/// One connection, that waits for what it wants.
struct Visit {
    socket: TcpStream,
    layers: Option<Box<Layers>>,
    version: ProtocolVersion,
    /// MQTT that has come.
    received: Vec<u8>,
}

impl Visit {
    fn send(&mut self, packet: &Packet<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes);
        if self.layers.is_none() {
            return Ok(self.socket.write_all(&bytes)?);
        }
        while let Some(layers) = &mut self.layers {
            layers.wrap(&mut bytes);
            let count = layers.unsent().len();
            self.socket.write_all(layers.unsent())?;
            layers.advance(count);
            if bytes.is_empty() {
                break;
            }
            self.receive().context("no end of the handshake")?; // It goes on, and the packet waits for it.
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        let count = self.socket.read(&mut bytes)?;
        ensure!(count > 0, "the broker closed the connection");
        match &mut self.layers {
            None => self.received.extend_from_slice(&bytes[..count]),
            Some(layers) => {
                layers.receive(&bytes[..count], &mut self.received).map_err(|broken| anyhow::anyhow!(broken.cause))?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::of_broker;
    use super::*;
    use std::net::TcpListener;

    /// What [`Door::ask_in`] says of a server that answers with `bytes`.
    fn asked(bytes: &'static [u8]) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1]);
            stream.write_all(bytes).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let door = Door::new(&of_broker(&[], address)?)?;
        let answer = door.ask_in(ProtocolVersion::V5);
        server.join().unwrap();
        answer
    }

    #[test]
    fn only_an_accepted_connection_is_ready() {
        assert!(asked(&[0x20, 2, 0, 0]).is_ok());
        assert!(asked(&[0x20, 2, 0, 3]).unwrap_err().to_string().contains("refused"));
        assert!(asked(b"HTTP").unwrap_err().to_string().contains("not answered by a CONNACK"));
    }
}
