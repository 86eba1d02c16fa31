//! From the first byte to a complete CONNECT, on whichever shard accepted the connection.
//!
//! Nothing here belongs to a Session yet: the bytes are collected, bounded by the largest packet
//! and by a deadline, until the Client Identifier tells which shard is home.

use std::os::fd::OwnedFd;

use super::admission::Ticket;
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
    /// As the socket.
    pub(crate) ticket: Option<Ticket>,
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

/// Judges the first `bytes` of a connection that came in by `listener`.
pub(crate) fn judge(bytes: &[u8], listener: u16, is_surplus: bool, homes: &Homes, config: &Config) -> Verdict {
    match first_packet(bytes, config, listener) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::home_hasher;

    const SHARDS: usize = 4;

    fn homes(here: usize) -> Homes {
        Homes { here: ShardId::new(here), shards: SHARDS, hasher: home_hasher(1) }
    }

    /// A CONNECT of MQTT 3.1.1 with Clean Session and no Keep Alive.
    fn connect(client_id: &str) -> Vec<u8> {
        let mut packet = vec![0x10, 12 + client_id.len() as u8, 0, 4];
        packet.extend(b"MQTT\x04\x02\x00\x00\x00");
        packet.push(client_id.len() as u8);
        packet.extend(client_id.as_bytes());
        packet
    }

    fn verdict(bytes: &[u8], is_surplus: bool, here: usize) -> Verdict {
        judge(bytes, 0, is_surplus, &homes(here), &Config::default())
    }

    #[test]
    fn a_client_is_welcome_on_exactly_one_shard_and_the_others_name_it() {
        let bytes = connect("lamp");
        let home = home_of("lamp", &home_hasher(1), SHARDS);
        for here in 0..SHARDS {
            let expected = if here == home.index() { Verdict::Welcome } else { Verdict::MoveTo(home) };
            assert_eq!(verdict(&bytes, false, here), expected);
        }
    }

    #[test]
    fn a_client_without_an_identifier_stays_where_it_arrived() {
        for here in 0..SHARDS {
            assert_eq!(verdict(&connect(""), false, here), Verdict::Welcome);
        }
    }

    #[test]
    fn nothing_is_decided_before_connect_is_complete() {
        let bytes = connect("lamp");
        for length in 0..bytes.len() {
            assert_eq!(verdict(&bytes[..length], false, 0), Verdict::More);
        }
    }

    #[test]
    fn a_surplus_client_is_told_that_the_server_is_busy() {
        let unavailable = vec![0x20, 2, 0, 3]; // [v3.1.1 MQTT-3.2.2-4]
        assert_eq!(verdict(&connect("lamp"), true, 0), Verdict::Refuse(unavailable, Cause::TooManyConnections));
    }

    #[test]
    fn what_is_no_connect_is_refused_without_an_answer() {
        assert_eq!(verdict(b"GET / HTTP/1.1", false, 0), Verdict::Refuse(Vec::new(), Cause::FirstPacket));
    }
}
