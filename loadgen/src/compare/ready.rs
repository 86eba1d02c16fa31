//! Whether a broker answers: a CONNECT that is accepted, not just an open port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use willowmq::codec::{Connect, Disconnect, Packet, PacketKind, ProtocolVersion, ReasonCode, encode};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// A CONNACK's fixed header, its flags and its Reason Code, which are the same in all versions.
const CONNACK_BYTES: usize = 4;
/// The first byte of a CONNACK.
const CONNACK: u8 = PacketKind::Connack.first_byte();

/// Connects as an MQTT client and leaves again, in whichever version the broker speaks.
///
/// # Errors
///
/// When the broker does not accept the connection: not yet, perhaps.
pub(super) fn ask(broker: SocketAddr) -> Result<()> {
    ask_in(ProtocolVersion::V3_1_1, broker).or_else(|_| ask_in(ProtocolVersion::V5, broker))
}

fn ask_in(version: ProtocolVersion, broker: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&broker, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let client_id = format!("loadgen-ready-{}", std::process::id());
    let mut connect = Connect::new(version, &client_id);
    connect.keep_alive = 30; // Some brokers refuse a client without.
    send(&mut stream, version, &Packet::Connect(Box::new(connect)))?;
    let mut bytes = [0; CONNACK_BYTES];
    stream.read_exact(&mut bytes).context("no answer to CONNECT")?;
    let [CONNACK, _, _, code] = bytes else { bail!("CONNECT was not answered by a CONNACK") };
    ensure!(code == ReasonCode::Success.as_u8(), "CONNECT was refused with code {code}");
    send(&mut stream, version, &Packet::Disconnect(Disconnect::default()))
}

fn send(stream: &mut TcpStream, version: ProtocolVersion, packet: &Packet<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes);
    Ok(stream.write_all(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What [`ask_in`] says of a server that answers with `bytes`.
    fn asked(bytes: &'static [u8]) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1]);
            stream.write_all(bytes).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let answer = ask_in(ProtocolVersion::V5, address);
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
