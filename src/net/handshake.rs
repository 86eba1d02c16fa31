//! From the first byte to a complete CONNECT, on whichever shard accepted the connection.
//!
//! Nothing here belongs to a Session yet: the bytes are collected, bounded by the largest packet
//! and by a deadline, until the Client Identifier tells which shard is home.

use std::os::fd::OwnedFd;

use crate::codec::{Connack, Packet, ReasonCode, encode};
use crate::config::Config;
use crate::shard::handshake::{Refusal, first_packet};
use crate::shard::{Origin, ShardId, home_of};
use crate::timer::TimerId;

/// A connection that has not sent its CONNECT yet.
pub(crate) struct Handshake {
    /// What has arrived so far.
    pub(crate) bytes: Vec<u8>,
    pub(crate) origin: Origin,
    pub(crate) deadline: Option<TimerId>,
    /// The broker is full: CONNECT is answered with "server busy".
    pub(crate) is_surplus: bool,
}

/// A connection on its way to its home: the socket and everything read from it, CONNECT included.
pub(crate) struct Handover {
    /// None while the accepting shard's receive has not ended.
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) origin: Origin,
    pub(crate) home: ShardId,
}

/// What a shard needs to judge first packets.
pub(crate) struct Homes {
    pub(crate) here: ShardId,
    pub(crate) shards: usize,
    pub(crate) hasher: ahash::RandomState,
}

/// What is to be done after more bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// CONNECT is not complete.
    More,
    /// A client of this shard.
    Welcome,
    /// A client of another one.
    MoveTo(ShardId),
    /// Not a client: send this, then close.
    Refuse(Vec<u8>, Cause),
}

/// Why a connection was turned away before CONNECT was the shard's matter.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Cause {
    /// The first packet was not a CONNECT that we understand.
    FirstPacket,
    /// `limits.connections_max` is reached.
    TooManyConnections,
}

/// Judges the first `bytes` of a connection.
pub(crate) fn judge(bytes: &[u8], is_surplus: bool, homes: &Homes, config: &Config) -> Verdict {
    match first_packet(bytes, config) {
        Ok(None) => Verdict::More,
        Ok(Some((connect, _))) if is_surplus => {
            let mut reply = Vec::new();
            let busy = Connack::new(false, ReasonCode::ServerBusy);
            encode(&Packet::Connack(Box::new(busy)), connect.version, &mut reply);
            Verdict::Refuse(reply, Cause::TooManyConnections)
        }
        // Without an identifier of its own a client gets one that is at home here.
        Ok(Some((connect, _))) if connect.client_id.is_empty() => Verdict::Welcome,
        Ok(Some((connect, _))) => {
            let home = home_of(connect.client_id, &homes.hasher, homes.shards);
            if home == homes.here { Verdict::Welcome } else { Verdict::MoveTo(home) }
        }
        Err(Refusal { reply, .. }) => Verdict::Refuse(reply, Cause::FirstPacket),
    }
}
