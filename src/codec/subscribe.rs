//! SUBSCRIBE (§3.8) and UNSUBSCRIBE (§3.10).

use std::fmt;

use super::{
    DecodeError, MalformedPacket, PacketId, PacketKind, PropertyId, ProtocolError, ProtocolVersion, QoS,
    UserProperties,
    properties::{Accepted, Property, decode_properties},
    reader::Reader,
    writer,
};

const SUBSCRIBE_PROPERTIES: Accepted = Accepted::once(&[PropertyId::SubscriptionIdentifier]);
const UNSUBSCRIBE_PROPERTIES: Accepted = Accepted::once(&[]);

/// Whether the retained messages that match are sent when a subscription is made (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// They are sent.
    #[default]
    Send = 0,
    /// They are sent if the subscription did not exist.
    SendIfNew = 1,
    /// They are not sent.
    DoNotSend = 2,
}

/// How a subscription wants its messages (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest level at which messages are sent.
    pub qos: QoS,
    /// Whether the client's own messages are left out. 3.x: no.
    pub no_local: bool,
    /// Whether RETAIN is forwarded as published. 3.x: no.
    pub retain_as_published: bool,
    /// What happens to retained messages. 3.x: they are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// Options with a QoS, and otherwise those that 3.x implies.
    #[must_use]
    pub fn new(qos: QoS) -> Self {
        Self { qos, ..Self::default() }
    }

    fn decode(byte: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        if version.has_subscription_options() {
            return Self::decode_v5(byte);
        }
        if byte & !0b11 != 0 && version.checks_reserved_bits() {
            return Err(MalformedPacket::SubscriptionOptions.into()); // [v3.1.1 MQTT-3-8.3-4]
        }
        Ok(Self::new(QoS::new(byte & 0b11).ok_or(MalformedPacket::Qos)?))
    }

    fn decode_v5(byte: u8) -> Result<Self, DecodeError> {
        if byte & 0b1100_0000 != 0 {
            return Err(MalformedPacket::SubscriptionOptions.into()); // [MQTT-3.8.3-5]
        }
        Ok(Self {
            qos: QoS::new(byte & 0b11).ok_or(ProtocolError::SubscriptionQos)?,
            no_local: byte & 0b100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(ProtocolError::RetainHandling.into()),
            },
        })
    }

    const fn as_u8(self, version: ProtocolVersion) -> u8 {
        if version.has_subscription_options() {
            self.qos.as_u8()
                | (self.no_local as u8) << 2
                | (self.retain_as_published as u8) << 3
                | (self.retain_handling as u8) << 4
        } else {
            self.qos.as_u8()
        }
    }
}

/// The Topic Filters of a SUBSCRIBE with their options, at least one. [MQTT-3.8.3-2]
#[derive(Clone, Copy)]
pub struct SubscriptionFilters<'a>(Subscriptions<'a>);

#[derive(Clone, Copy)]
enum Subscriptions<'a> {
    Encoded(&'a [u8], ProtocolVersion),
    Slice(&'a [(&'a str, SubscriptionOptions)]),
}

impl<'a> SubscriptionFilters<'a> {
    /// The filters in `filters`.
    #[must_use]
    pub const fn from_slice(filters: &'a [(&'a str, SubscriptionOptions)]) -> Self {
        Self(Subscriptions::Slice(filters))
    }

    fn decode(reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Err(ProtocolError::EmptyList.into());
        }
        let mut rest = reader;
        while !rest.is_empty() {
            decode_subscription(&mut rest, version)?;
        }
        Ok(Self(Subscriptions::Encoded(reader.rest(), version)))
    }

    /// The filters in order, only known to be UTF-8. They are read from the packet on the way.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        let (bytes, version, filters) = match self.0 {
            Subscriptions::Encoded(bytes, version) => (bytes, version, &[][..]),
            Subscriptions::Slice(filters) => (&[][..], ProtocolVersion::V5, filters),
        };
        let mut reader = Reader::new(bytes);
        let encoded = std::iter::from_fn(move || decode_subscription(&mut reader, version).ok());
        encoded.chain(filters.iter().copied())
    }
}

fn decode_subscription<'a>(
    reader: &mut Reader<'a>,
    version: ProtocolVersion,
) -> Result<(&'a str, SubscriptionOptions), DecodeError> {
    let filter = reader.string()?; // [MQTT-3.8.3-1]
    Ok((filter, SubscriptionOptions::decode(reader.u8()?, version)?))
}

impl PartialEq for SubscriptionFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionFilters<'_> {}

impl fmt::Debug for SubscriptionFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A wish for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Repeated in the SUBACK.
    pub packet_id: PacketId,
    /// What PUBLISHes for these subscriptions carry; from 1 to [`SubscriptionIdentifiers::VALUE_MAX`].
    ///
    /// [`SubscriptionIdentifiers::VALUE_MAX`]: super::SubscriptionIdentifiers::VALUE_MAX
    pub subscription_identifier: Option<u32>,
    /// What to subscribe to.
    pub filters: SubscriptionFilters<'a>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(mut reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut subscription_identifier = None;
        let mut block = &[][..];
        if version.has_properties() {
            block = decode_properties(&mut reader, SUBSCRIBE_PROPERTIES, |property| {
                if let Property::SubscriptionIdentifier(value) = property {
                    subscription_identifier = Some(value);
                }
            })?;
        }
        let filters = SubscriptionFilters::decode(reader, version)?;
        Ok(Self { packet_id, subscription_identifier, filters, user_properties: UserProperties::from_block(block) })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.push(PacketKind::Subscribe.first_byte());
        writer::with_length(out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.has_properties() {
                writer::with_length(out, |out| {
                    if let Some(identifier) = self.subscription_identifier {
                        Property::SubscriptionIdentifier(identifier).encode(out);
                    }
                    self.user_properties.encode(out);
                });
            }
            for (filter, options) in self.filters.iter() {
                writer::string(out, filter);
                out.push(options.as_u8(version));
            }
        });
    }
}

/// The Topic Filters of an UNSUBSCRIBE, at least one. [MQTT-3.10.3-2]
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a>(Filters<'a>);

#[derive(Clone, Copy)]
enum Filters<'a> {
    Encoded(&'a [u8]),
    Slice(&'a [&'a str]),
}

impl<'a> UnsubscribeFilters<'a> {
    /// The filters in `filters`.
    #[must_use]
    pub const fn from_slice(filters: &'a [&'a str]) -> Self {
        Self(Filters::Slice(filters))
    }

    fn decode(reader: Reader<'a>) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Err(ProtocolError::EmptyList.into());
        }
        let mut rest = reader;
        while !rest.is_empty() {
            rest.string()?; // [MQTT-3.10.3-1]
        }
        Ok(Self(Filters::Encoded(reader.rest())))
    }

    /// The filters in order, only known to be UTF-8. They are read from the packet on the way.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (bytes, filters) = match self.0 {
            Filters::Encoded(bytes) => (bytes, &[][..]),
            Filters::Slice(filters) => (&[][..], filters),
        };
        let mut reader = Reader::new(bytes);
        std::iter::from_fn(move || reader.string().ok()).chain(filters.iter().copied())
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The end of subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Repeated in the UNSUBACK.
    pub packet_id: PacketId,
    /// What to unsubscribe from.
    pub filters: UnsubscribeFilters<'a>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(mut reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut block = &[][..];
        if version.has_properties() {
            block = decode_properties(&mut reader, UNSUBSCRIBE_PROPERTIES, |_| {})?;
        }
        let filters = UnsubscribeFilters::decode(reader)?;
        Ok(Self { packet_id, filters, user_properties: UserProperties::from_block(block) })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.push(PacketKind::Unsubscribe.first_byte());
        writer::with_length(out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.has_properties() {
                writer::with_length(out, |out| self.user_properties.encode(out));
            }
            self.filters.iter().for_each(|filter| writer::string(out, filter));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, decode};

    const V3: ProtocolVersion = ProtocolVersion::V3_1_1;
    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn subscribe_v5(options: u8) -> Result<SubscriptionOptions, DecodeError> {
        match decode(&[0x82, 7, 0, 1, 0, 0, 1, b'a', options], V5)? {
            Packet::Subscribe(subscribe) => Ok(subscribe.filters.iter().next().unwrap().1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mqtt_3_8_3_2_subscribe_names_at_least_one_filter() {
        assert_eq!(decode(&[0x82, 3, 0, 1, 0], V5), Err(ProtocolError::EmptyList.into()));
        assert_eq!(decode(&[0x82, 2, 0, 1], V3), Err(ProtocolError::EmptyList.into()));
    }

    #[test]
    fn mqtt_3_10_3_2_unsubscribe_names_at_least_one_filter() {
        assert_eq!(decode(&[0xA2, 3, 0, 1, 0], V5), Err(ProtocolError::EmptyList.into()));
    }

    #[test]
    fn mqtt_3_8_3_5_reserved_bits_are_0() {
        for options in [0b0100_0000, 0b1000_0000] {
            assert_eq!(subscribe_v5(options), Err(MalformedPacket::SubscriptionOptions.into()));
        }
        let v3 = [0x82, 6, 0, 1, 0, 1, b'a', 0b100];
        assert_eq!(decode(&v3, V3), Err(MalformedPacket::SubscriptionOptions.into()));
        assert!(decode(&v3, ProtocolVersion::V3_1).is_ok());
    }

    #[test]
    fn qos_3_and_retain_handling_3_are_protocol_errors() {
        assert_eq!(subscribe_v5(0b11), Err(ProtocolError::SubscriptionQos.into()));
        assert_eq!(subscribe_v5(0b11_0000), Err(ProtocolError::RetainHandling.into()));
        assert_eq!(decode(&[0x82, 6, 0, 1, 0, 1, b'a', 3], V3), Err(MalformedPacket::Qos.into()));
    }

    #[test]
    fn options_are_read_bit_by_bit() {
        let expected = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: false,
            retain_handling: RetainHandling::DoNotSend,
        };
        assert_eq!(subscribe_v5(0b10_0110), Ok(expected));
    }

    #[test]
    fn a_subscribe_has_one_subscription_identifier() {
        let packet = [0x82, 11, 0, 1, 4, 0x0B, 1, 0x0B, 2, 0, 1, b'a', 0];
        let expected = ProtocolError::DuplicateProperty(PropertyId::SubscriptionIdentifier);
        assert_eq!(decode(&packet, V5), Err(expected.into()));
    }

    #[test]
    fn mqtt_2_2_1_3_packet_id_is_not_0() {
        assert_eq!(decode(&[0x82, 6, 0, 0, 0, 1, b'a', 0], V3), Err(ProtocolError::PacketIdZero.into()));
        assert_eq!(decode(&[0xA2, 5, 0, 0, 0, 1, b'a'], V3), Err(ProtocolError::PacketIdZero.into()));
    }
}
