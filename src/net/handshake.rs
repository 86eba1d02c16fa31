//! From the first byte to a complete CONNECT, and to who the client is, on whichever shard accepted the connection.
//!
//! Nothing here belongs to a Session yet: the bytes are collected, bounded by the largest packet and by a deadline for each part,
//! until the Client Identifier tells which shard is home. What is decided here is decided by pure functions; `entry` carries it out.

use std::os::fd::OwnedFd;

use super::admission::Ticket;
use super::authentication::Exchange;
use super::link::Link;
use crate::codec::{self, Auth, Connack, Packet, ProtocolVersion, ReasonCode, encode};
use crate::config::Config;
use crate::shard::handshake::{Refusal, first_packet};
use crate::shard::{Arrival, Origin, ShardId, home_of};
use crate::timer::TimerId;

/// A connection whose client is not let in yet.
pub(crate) struct Handshake {
    pub(crate) progress: Progress,
    /// MQTT that has arrived so far.
    pub(crate) bytes: Vec<u8>,
    /// MQTT that is to be sent as soon as nothing else is being sent.
    pub(crate) unsent: Vec<u8>,
    pub(crate) origin: Origin,
    /// When this part of it must be over.
    pub(crate) deadline: Option<TimerId>,
}

impl Handshake {
    /// Whether the answer of an authenticator is awaited.
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self.progress, Progress::Asked)
    }

    /// The Maximum Packet Size of its CONNECT.
    pub(crate) fn takes_at_most(&self, config: &Config) -> usize {
        match first_packet(&self.bytes, config, self.origin.listener) {
            Ok(Some((connect, _))) => connect.maximum_packet_size.map_or(usize::MAX, |bytes| bytes as usize),
            _ => usize::MAX,
        }
    }
}

/// How far a connection has come on its way in.
///
/// ```text
/// Layers ──all shaken hands──▶ Connect ──complete──▶ Asked ──more is needed──▶ Challenged
///  (TLS, WebSocket, PROXY)        │                  │ │ ▲                        │
///                                 │ nobody to ask    │ │ └──────────AUTH──────────┘
///                                 ▼                  ▼ └─refused─▶ Refused ──security.failure_delay──▶ told so
///                         Open, or Departing for its home
/// ```
pub(crate) enum Progress {
    /// Its layers shake hands, within `limits.handshake_timeout`.
    Layers,
    /// CONNECT is awaited, for `limits.connect_timeout`.
    Connect,
    /// The authenticators are asked who the client is; for all of that there is `limits.connect_timeout` again.
    Asked,
    /// The client was sent AUTH, and is to answer it. [MQTT-4.12.0-2]
    Challenged(Box<Exchange>),
    /// The client is refused, and hears this a little later.
    Refused(Vec<u8>),
}

/// A connection on its way to its home: the socket and everything read from it, CONNECT included.
pub(crate) struct Handover {
    /// None while something is in flight for it on the accepting shard.
    pub(crate) socket: Option<OwnedFd>,
    /// As the socket.
    pub(crate) ticket: Option<Ticket>,
    /// As the socket, where it has one.
    pub(crate) link: Option<Box<Link>>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) arrival: Arrival,
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
    /// A client, at home on this shard.
    Client(ShardId),
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
            Verdict::Refuse(connack(connect.version, ReasonCode::ServerBusy), Cause::TooManyConnections)
        }
        // Without an identifier of its own a client gets one that is at home here.
        Ok(Some((connect, _))) if connect.client_id.is_empty() => Verdict::Client(homes.here),
        Ok(Some((connect, _))) => Verdict::Client(home_of(connect.client_id, &homes.hasher, homes.shards)),
        Err(Refusal { reply, .. }) => Verdict::Refuse(reply, Cause::FirstPacket),
    }
}

/// A CONNACK that refuses; nothing where the version has no code for the reason. [v3.1.1 MQTT-3.2.2-6]
pub(crate) fn connack(version: ProtocolVersion, reason: ReasonCode) -> Vec<u8> {
    let mut reply = Vec::new();
    if version.has_reason_codes() || reason.connack_return_code_3x().is_some() {
        encode(&Packet::Connack(Box::new(Connack::new(false, reason))), version, &mut reply);
    }
    reply
}

/// The AUTH that asks a client to go on with its authentication. [MQTT-4.12.0-2]
pub(crate) fn challenge(method: &str, data: &[u8], out: &mut Vec<u8>) {
    let auth = Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication_method: Some(method), // [MQTT-4.12.0-5]
        authentication_data: (!data.is_empty()).then_some(data),
        ..Auth::default()
    };
    encode(&Packet::Auth(auth), ProtocolVersion::V5, out);
}

/// What a client does when it was asked to go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its packet is not complete.
    More,
    /// It goes on with this data, in a packet of so many bytes.
    Auth(Vec<u8>, usize),
    /// It has given up.
    Disconnect,
    /// Anything else may not come before CONNACK. [MQTT-3.1.2-30]
    Wrong(ReasonCode),
}

/// Reads what a client answers to [`challenge`]. Its method must be that of its CONNECT, and its Reason Code that of ours.
/// [MQTT-4.12.0-3], [MQTT-4.12.0-5]
pub(crate) fn answer(bytes: &[u8], packet_bytes_max: usize, method: &str) -> Answer {
    let length = match codec::packet_length(bytes, packet_bytes_max) {
        Ok(Some(length)) if length <= bytes.len() => length,
        Ok(_) => return Answer::More,
        Err(error) => return Answer::Wrong(error.reason_code()),
    };
    match codec::decode(&bytes[..length], ProtocolVersion::V5) {
        Ok(Packet::Auth(auth))
            if auth.reason == ReasonCode::ContinueAuthentication && auth.authentication_method == Some(method) =>
        {
            Answer::Auth(auth.authentication_data.unwrap_or_default().to_vec(), length)
        }
        Ok(Packet::Disconnect(_)) => Answer::Disconnect,
        Ok(_) => Answer::Wrong(ReasonCode::ProtocolError),
        Err(error) => Answer::Wrong(error.reason_code()),
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
    fn all_shards_name_the_same_home() {
        let bytes = connect("lamp");
        let home = home_of("lamp", &home_hasher(1), SHARDS);
        for here in 0..SHARDS {
            assert_eq!(verdict(&bytes, false, here), Verdict::Client(home));
        }
    }

    #[test]
    fn a_client_without_an_identifier_stays_where_it_arrived() {
        for here in 0..SHARDS {
            assert_eq!(verdict(&connect(""), false, here), Verdict::Client(ShardId::new(here)));
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

    const METHOD: &str = "SCRAM-SHA-256";

    fn auth(reason: ReasonCode, method: &str) -> Vec<u8> {
        let mut packet = Vec::new();
        let auth =
            Auth { reason, authentication_method: Some(method), authentication_data: Some(b"x"), ..Auth::default() };
        encode(&Packet::Auth(auth), ProtocolVersion::V5, &mut packet);
        packet
    }

    fn answer_to(bytes: &[u8]) -> Answer {
        answer(bytes, 1024, METHOD)
    }

    #[test]
    fn mqtt_4_12_0_3_an_answer_has_the_reason_code_of_the_question() {
        let good = auth(ReasonCode::ContinueAuthentication, METHOD);
        assert_eq!(answer_to(&good), Answer::Auth(b"x".to_vec(), good.len()));
        for length in 0..good.len() {
            assert_eq!(answer_to(&good[..length]), Answer::More);
        }
        for reason in [ReasonCode::Success, ReasonCode::ReAuthenticate] {
            assert_eq!(answer_to(&auth(reason, METHOD)), Answer::Wrong(ReasonCode::ProtocolError));
        }
    }

    #[test]
    fn mqtt_4_12_0_5_an_answer_has_the_method_of_connect() {
        let other = auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-1");
        assert_eq!(answer_to(&other), Answer::Wrong(ReasonCode::ProtocolError));
    }

    #[test]
    fn mqtt_3_1_2_30_nothing_but_auth_and_disconnect_may_come_before_connack() {
        assert_eq!(answer_to(b"\xe0\x00"), Answer::Disconnect);
        assert_eq!(answer_to(b"\xc0\x00"), Answer::Wrong(ReasonCode::ProtocolError));
        assert_eq!(answer_to(&connect("lamp")), Answer::Wrong(ReasonCode::ProtocolError));
        assert_eq!(answer_to(b"\xf1\x00"), Answer::Wrong(ReasonCode::MalformedPacket));
        assert_eq!(answer(&[0xF0, 0xFF, 0x7F], 1024, METHOD), Answer::Wrong(ReasonCode::PacketTooLarge));
    }

    #[test]
    fn v3_1_1_mqtt_3_2_2_6_what_3_x_has_no_code_for_is_not_said() {
        assert_eq!(connack(ProtocolVersion::V3_1_1, ReasonCode::BadUserNameOrPassword), [0x20, 2, 0, 4]);
        assert_eq!(connack(ProtocolVersion::V3_1_1, ReasonCode::NotAuthorized), [0x20, 2, 0, 5]);
        assert!(connack(ProtocolVersion::V3_1_1, ReasonCode::ProtocolError).is_empty());
        assert_eq!(connack(ProtocolVersion::V5, ReasonCode::NotAuthorized), [0x20, 3, 0, 0x87, 0]);
    }

    #[test]
    fn mqtt_4_12_0_2_a_question_names_the_method() {
        let mut question = Vec::new();
        challenge(METHOD, b"x", &mut question);
        assert_eq!(question, auth(ReasonCode::ContinueAuthentication, METHOD));
    }
}
