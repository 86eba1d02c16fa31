//! Whether a broker answers: a CONNECT that is accepted, not just an open port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use willowmq::codec::{
    Connack, Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, decode, encode, packet_length,
};

/// The version that every broker speaks.
const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// No CONNACK of 3.1.1 is longer.
const CONNACK_BYTES: usize = 4;

/// Connects as an MQTT client and leaves again.
///
/// # Errors
///
/// When the broker does not accept the connection: not yet, perhaps.
pub(super) fn ask(broker: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&broker, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let client_id = format!("loadgen-ready-{}", std::process::id());
    send(&mut stream, &Packet::Connect(Box::new(Connect::new(VERSION, &client_id))))?;
    let mut bytes = [0; CONNACK_BYTES];
    stream.read_exact(&mut bytes).context("no answer to CONNECT")?;
    let reason = reason(&bytes)?;
    ensure!(reason == ReasonCode::Success, "CONNECT was refused: {reason:?}");
    send(&mut stream, &Packet::Disconnect(Disconnect::default()))
}

fn send(stream: &mut TcpStream, packet: &Packet<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    encode(packet, VERSION, &mut bytes);
    Ok(stream.write_all(&bytes)?)
}

fn reason(bytes: &[u8]) -> Result<ReasonCode> {
    let is_whole = packet_length(bytes, CONNACK_BYTES).is_ok_and(|length| length == Some(bytes.len()));
    match is_whole.then(|| decode(bytes, VERSION)) {
        Some(Ok(Packet::Connack(connack))) => {
            let Connack { reason, .. } = *connack;
            Ok(reason)
        }
        _ => bail!("CONNECT was not answered by a CONNACK"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// What [`ask`] says of a server that answers with `bytes`.
    fn asked(bytes: &'static [u8]) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1]);
            stream.write_all(bytes).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let answer = ask(address);
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
