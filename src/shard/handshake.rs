//! What happens before a shard knows a connection: finding the CONNECT packet in its first bytes.

use super::limits::first_packet_bytes_max;
use crate::codec::{self, Connack, Connect, DecodeError, Packet, ProtocolVersion};
use crate::config::Config;

/// A connection that must be closed before it began.
#[derive(Debug)]
pub struct Refusal {
    /// What to send before closing: a CONNACK where the client's version is known, nothing otherwise.
    pub reply: Vec<u8>,
    /// Why, for the log.
    pub error: RefusalCause,
}

/// Why a connection was refused before a shard knew it.
#[derive(Debug)]
pub enum RefusalCause {
    /// The first packet is not a CONNECT. [MQTT-3.1.0-1]
    ConnectExpected,
    /// The first packet is not well formed.
    Decode(DecodeError),
}

impl std::fmt::Display for RefusalCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnectExpected => f.write_str("the first packet is not a CONNECT"),
            Self::Decode(error) => error.fmt(f),
        }
    }
}

/// The CONNECT at the start of `bytes` and its length; `None`: more bytes are needed. `listener` is the index of the one that they came
/// in by.
///
/// Whatever follows the CONNECT is left for the shard: a client need not wait for CONNACK.
pub fn first_packet<'a>(
    bytes: &'a [u8],
    config: &Config,
    listener: u16,
) -> Result<Option<(Connect<'a>, usize)>, Refusal> {
    let Some(first) = bytes.first() else { return Ok(None) };
    if first >> 4 != 1 {
        return Err(silent(RefusalCause::ConnectExpected));
    }
    let max = first_packet_bytes_max(config, listener);
    let length = match codec::packet_length(bytes, max) {
        Ok(Some(length)) if length <= bytes.len() => length,
        Ok(_) => return Ok(None),
        Err(error) => return Err(refusal(bytes, error)),
    };
    match codec::decode(&bytes[..length], ProtocolVersion::V5) {
        Ok(Packet::Connect(connect)) => Ok(Some((*connect, length))),
        Ok(_) => Err(silent(RefusalCause::ConnectExpected)),
        Err(error) => Err(refusal(bytes, error)),
    }
}

fn silent(error: RefusalCause) -> Refusal {
    Refusal { reply: Vec::new(), error }
}

/// Answers in the version that the client speaks, as far as that can be told from a packet that is not well formed.
fn refusal(bytes: &[u8], error: DecodeError) -> Refusal {
    let version = match spoken_version(bytes) {
        Some(Ok(version)) => version,
        // A level we do not know: 3.x clients know 0x01, later ones are told in the newest version we have. [MQTT-3.1.2-2]
        Some(Err(level)) if level < 5 => ProtocolVersion::V3_1_1,
        Some(Err(_)) => ProtocolVersion::V5,
        None => return silent(RefusalCause::Decode(error)),
    };
    // A 3.x server closes without CONNACK on a malformed CONNECT. [v3.1.1 MQTT-3.1.4-1]
    let may_reply = version.has_reason_codes() || matches!(error, DecodeError::UnsupportedProtocolVersion { .. });
    let mut reply = Vec::new();
    if may_reply {
        let connack = Box::new(Connack::new(false, error.reason_code()));
        codec::encode(&Packet::Connack(connack), version, &mut reply);
    }
    Refusal { reply, error: RefusalCause::Decode(error) }
}

/// The protocol level that stands behind a known protocol name.
fn spoken_version(bytes: &[u8]) -> Option<Result<ProtocolVersion, u8>> {
    let header = 1 + bytes.iter().skip(1).take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let rest = &bytes[header.min(bytes.len())..];
    let level = match rest {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] => *level,
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => *level,
        _ => return None,
    };
    Some(match level {
        3 => Ok(ProtocolVersion::V3_1),
        4 => Ok(ProtocolVersion::V3_1_1),
        5 => Ok(ProtocolVersion::V5),
        other => Err(other),
    })
}
