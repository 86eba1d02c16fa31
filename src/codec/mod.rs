//! MQTT Control Packets ⇄ bytes, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! [`packet_length`] finds where the first packet in a stream of bytes ends, [`decode`] turns the bytes of one packet
//! into a [`Packet`], [`encode`] does the reverse. A packet borrows from the bytes it was read from, down to its lists:
//! they are checked once, while decoding, and read where they lie whenever someone iterates over them. So decoding a
//! PUBLISH or an acknowledgement allocates nothing.
//!
//! Everything that a packet can do wrong by itself is found here: a Session's state is needed for the rest, such as
//! whether a Topic Alias was ever defined. Whether a string is a valid Topic Name or Topic Filter is not asked here.
//!
//! The way out to subscribers has encoders of its own, [`encode_publish`] and [`PublishTemplate`], because one message
//! goes out many times.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod forwarded;
mod hidden;
mod packet_id;
mod packet_kind;
mod properties;
mod property_lists;
mod publish;
mod qos;
mod reader;
mod reason_code;
mod suback;
mod subscribe;
mod version;
mod will;
mod writer;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::Connack;
pub use connect::Connect;
pub use disconnect::Disconnect;
pub use error::{DecodeError, MalformedPacket, ProtocolError};
pub use forwarded::{Forwarded, ForwardedBuilder};
pub use packet_id::PacketId;
pub use packet_kind::PacketKind;
pub use properties::PropertyId;
pub use property_lists::{SubscriptionIdentifiers, UserProperties};
pub use publish::{Delivery, Outgoing, Publish, PublishTemplate, encode_publish, publish_length};
pub use qos::QoS;
pub use reason_code::ReasonCode;
pub use suback::{Reasons, Suback, Unsuback};
pub use subscribe::{
    RetainHandling, Subscribe, SubscriptionFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters,
};
pub use version::ProtocolVersion;
pub use will::Will;

use reader::{Reader, VARIABLE_BYTE_INTEGER_MAX, variable_byte_integer};

/// The largest packet that the protocol can express: a first byte, four bytes of length, and 268 435 455 bytes.
pub const PACKET_BYTES_MAX: usize = 1 + 4 + VARIABLE_BYTE_INTEGER_MAX as usize;

/// An MQTT Control Packet.
///
/// CONNECT and CONNACK are rare and many times larger than the others, so they are boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    Connack(Box<Connack<'a>>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// What kind of packet this is.
    #[must_use]
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) => PacketKind::Connect,
            Self::Connack(_) => PacketKind::Connack,
            Self::Publish(_) => PacketKind::Publish,
            Self::Puback(_) => PacketKind::Puback,
            Self::Pubrec(_) => PacketKind::Pubrec,
            Self::Pubrel(_) => PacketKind::Pubrel,
            Self::Pubcomp(_) => PacketKind::Pubcomp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::Suback(_) => PacketKind::Suback,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::Unsuback(_) => PacketKind::Unsuback,
            Self::Pingreq => PacketKind::Pingreq,
            Self::Pingresp => PacketKind::Pingresp,
            Self::Disconnect(_) => PacketKind::Disconnect,
            Self::Auth(_) => PacketKind::Auth,
        }
    }
}

/// The size of the first packet in `bytes`, once its fixed header is complete; `None` while more bytes are needed.
///
/// `packet_bytes_max` bounds the whole packet. What can never become a packet is refused at its first byte.
///
/// # Errors
///
/// A [`MalformedPacket`] where type, flags or length are not possible in any version, or
/// [`DecodeError::PacketTooLarge`].
#[inline]
pub fn packet_length(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<usize>, DecodeError> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    PacketKind::from_first_byte(*first)?.check_flags_of_any_version(*first)?;
    let Some((remaining_length, length)) = variable_byte_integer(rest)? else { return Ok(None) };
    let bytes = 1 + length + remaining_length as usize;
    if bytes > packet_bytes_max {
        return Err(DecodeError::PacketTooLarge { bytes, bytes_max: packet_bytes_max });
    }
    Ok(Some(bytes))
}

/// Decodes `bytes`, which are exactly one packet as [`packet_length`] measured it.
///
/// A CONNECT carries its version and does not look at `version`.
///
/// # Errors
///
/// Whatever makes the packet unacceptable by itself; [`DecodeError::reason_code`] answers it.
pub fn decode(bytes: &[u8], version: ProtocolVersion) -> Result<Packet<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let first = reader.u8()?;
    let kind = PacketKind::from_first_byte(first)?;
    if kind != PacketKind::Connect {
        kind.check_flags(first, version)?;
    } else {
        kind.check_flags_of_any_version(first)?;
    }
    let remaining_length = reader.variable_byte_integer()?;
    if remaining_length as usize != reader.rest().len() {
        return Err(MalformedPacket::RemainingLength.into());
    }
    Ok(match kind {
        PacketKind::Connect => Packet::Connect(Box::new(Connect::decode(reader)?)),
        PacketKind::Connack => Packet::Connack(Box::new(Connack::decode(reader, version)?)),
        PacketKind::Publish => Packet::Publish(Publish::decode(first, reader, version)?),
        PacketKind::Puback => Packet::Puback(Ack::decode(kind, reader, version)?),
        PacketKind::Pubrec => Packet::Pubrec(Ack::decode(kind, reader, version)?),
        PacketKind::Pubrel => Packet::Pubrel(Ack::decode(kind, reader, version)?),
        PacketKind::Pubcomp => Packet::Pubcomp(Ack::decode(kind, reader, version)?),
        PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(reader, version)?),
        PacketKind::Suback => Packet::Suback(Suback::decode(reader, version)?),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(reader, version)?),
        PacketKind::Unsuback => Packet::Unsuback(Unsuback::decode(reader, version)?),
        PacketKind::Pingreq => reader.finish().map(|()| Packet::Pingreq)?,
        PacketKind::Pingresp => reader.finish().map(|()| Packet::Pingresp)?,
        PacketKind::Disconnect => Packet::Disconnect(Disconnect::decode(reader, version)?),
        PacketKind::Auth if version.has_reason_codes() => Packet::Auth(Auth::decode(reader)?),
        PacketKind::Auth => return Err(MalformedPacket::PacketType.into()),
    })
}

/// Appends `packet` to `out`. What `version` cannot express is left out. A CONNECT goes by its own version.
///
/// # Panics
///
/// When a string or binary field is longer than 65 535 bytes, or the packet longer than [`PACKET_BYTES_MAX`]. What was
/// decoded never is.
pub fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => connect.encode(out),
        Packet::Connack(connack) => connack.encode(version, out),
        Packet::Publish(publish) => publish.encode(version, out),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            ack.encode(packet.kind(), version, out);
        }
        Packet::Subscribe(subscribe) => subscribe.encode(version, out),
        Packet::Suback(suback) => suback.encode(version, out),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
        Packet::Unsuback(unsuback) => unsuback.encode(version, out),
        Packet::Pingreq | Packet::Pingresp => out.extend_from_slice(&[packet.kind().first_byte(), 0]),
        Packet::Disconnect(disconnect) => disconnect.encode(version, out),
        Packet::Auth(auth) => auth.encode(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_v5(bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
        decode(bytes, ProtocolVersion::V5)
    }

    #[test]
    fn mqtt_2_1_3_1_reserved_flags_have_their_values() {
        for kind in (1..=15).filter_map(PacketKind::new).filter(|kind| *kind != PacketKind::Publish) {
            for flags in (0..16).filter(|flags| kind.first_byte() & 0x0F != *flags) {
                let packet = [(kind as u8) << 4 | flags, 0];
                let expected = Err(MalformedPacket::FixedHeaderFlags(kind).into());
                assert_eq!(decode_v5(&packet), expected, "{kind} {flags:04b}");
            }
        }
    }

    #[test]
    fn dup_on_a_repeated_subscribe_is_for_3_1_alone() {
        let packet = [0x8A, 6, 0, 1, 0, 1, b'a', 0];
        assert_eq!(packet_length(&packet, 100), Ok(Some(8)));
        assert!(decode(&packet, ProtocolVersion::V3_1).is_ok());
        assert!(decode(&packet, ProtocolVersion::V3_1_1).is_err());
    }

    #[test]
    fn packet_type_0_is_reserved() {
        assert_eq!(packet_length(&[0x00], 100), Err(MalformedPacket::PacketType.into()));
        assert_eq!(decode_v5(&[0x00, 0]), Err(MalformedPacket::PacketType.into()));
    }

    #[test]
    fn auth_belongs_to_5_0() {
        assert_eq!(decode(&[0xF0, 0], ProtocolVersion::V3_1_1), Err(MalformedPacket::PacketType.into()));
        assert_eq!(decode_v5(&[0xF0, 0]), Ok(Packet::Auth(Auth::default())));
    }

    #[test]
    fn packet_length_waits_for_the_fixed_header_and_then_knows() {
        assert_eq!(packet_length(&[], 100), Ok(None));
        assert_eq!(packet_length(&[0x30], 100), Ok(None));
        assert_eq!(packet_length(&[0x30, 0x80], 1000), Ok(None));
        assert_eq!(packet_length(&[0x30, 0x80, 0x01], 1000), Ok(Some(131)));
        assert_eq!(packet_length(&[0x30, 97], 100), Ok(Some(99)));
    }

    #[test]
    fn packet_length_refuses_what_is_too_large_or_has_wrong_flags() {
        let too_large = DecodeError::PacketTooLarge { bytes: 101, bytes_max: 100 };
        assert_eq!(packet_length(&[0x30, 99], 100), Err(too_large));
        assert_eq!(too_large.reason_code(), ReasonCode::PacketTooLarge);
        let flags = MalformedPacket::FixedHeaderFlags(PacketKind::Pingreq);
        assert_eq!(packet_length(&[0xC1], 100), Err(flags.into()));
    }

    #[test]
    fn mqtt_1_5_5_1_remaining_length_takes_the_shortest_form() {
        let expected = MalformedPacket::VariableByteInteger;
        assert_eq!(packet_length(&[0xC0, 0x80, 0x00], 100), Err(expected.into()));
        assert_eq!(decode_v5(&[0xC0, 0x80, 0x00]), Err(expected.into()));
    }

    #[test]
    fn decode_takes_exactly_one_packet() {
        assert_eq!(decode_v5(&[0xC0, 0]), Ok(Packet::Pingreq));
        for bytes in [&[0xC0, 0, 0][..], &[0xC0, 1], &[0x40, 3, 0, 1]] {
            assert_eq!(decode_v5(bytes), Err(MalformedPacket::RemainingLength.into()));
        }
        assert_eq!(decode_v5(&[0xC0, 1, 0]), Err(MalformedPacket::TrailingBytes.into()));
    }

    #[test]
    fn packets_on_the_hot_path_stay_small() {
        assert!(size_of::<Packet<'_>>() <= 128, "{}", size_of::<Packet<'_>>());
        assert!(size_of::<DecodeError>() <= 24, "{}", size_of::<DecodeError>());
    }
}
