//! SUBACK (§3.9) and UNSUBACK (§3.11).

use std::fmt;

use super::{
    DecodeError, PacketId, PacketKind, PropertyId, ProtocolError, ProtocolVersion, ReasonCode, UserProperties,
    ack::{decode_reason, encode_reason_properties},
    properties::{Accepted, Property, decode_properties},
    reader::Reader,
    writer,
};

const PROPERTIES: Accepted = Accepted::once(&[PropertyId::ReasonString]);

/// 0x80, the only error in a SUBACK of 3.x. [v3.1.1 MQTT-3.9.3-2]
const FAILURE_3X: ReasonCode = ReasonCode::UnspecifiedError;

/// Reason Codes, one for each Topic Filter asked for and in the same order. [MQTT-3.8.4-6] [MQTT-3.10.4-5]
#[derive(Clone, Copy)]
pub struct Reasons<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Encoded(&'a [u8]),
    Slice(&'a [ReasonCode]),
}

impl<'a> Reasons<'a> {
    /// The codes in `reasons`.
    #[must_use]
    pub const fn from_slice(reasons: &'a [ReasonCode]) -> Self {
        Self(Source::Slice(reasons))
    }

    fn decode(kind: PacketKind, reader: Reader<'a>) -> Result<Self, DecodeError> {
        if reader.is_empty() {
            return Err(ProtocolError::EmptyList.into());
        }
        let mut rest = reader;
        while !rest.is_empty() {
            decode_reason(kind, &mut rest)?;
        }
        Ok(Self(Source::Encoded(reader.rest())))
    }

    /// The codes in order.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (bytes, reasons) = match self.0 {
            Source::Encoded(bytes) => (bytes, &[][..]),
            Source::Slice(reasons) => (&[][..], reasons),
        };
        bytes.iter().filter_map(|code| ReasonCode::from_u8(*code)).chain(reasons.iter().copied())
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Encoded(bytes) => bytes.len(),
            Source::Slice(reasons) => reasons.len(),
        }
    }

    /// Whether there are none: so in an UNSUBACK of 3.x.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Reasons<'_> {
    fn default() -> Self {
        Self::from_slice(&[])
    }
}

impl PartialEq for Reasons<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Reasons<'_> {}

impl fmt::Debug for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The answer to a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    /// That of the SUBSCRIBE. [MQTT-3.8.4-2]
    pub packet_id: PacketId,
    /// The QoS granted, or an error, for each Topic Filter. 3.x has one error, 0x80.
    pub reasons: Reasons<'a>,
    /// An explanation for a log.
    pub reason_string: Option<&'a str>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Suback<'a> {
    /// A SUBACK without properties.
    #[must_use]
    pub fn new(packet_id: PacketId, reasons: &'a [ReasonCode]) -> Self {
        Self {
            packet_id,
            reasons: Reasons::from_slice(reasons),
            reason_string: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut suback = Self::new(reader.packet_id()?, &[]);
        if version.has_properties() {
            (suback.reason_string, suback.user_properties) = decode_reason_properties(&mut reader)?;
        }
        suback.reasons = Reasons::decode(PacketKind::Suback, reader)?;
        if !version.has_reason_codes() {
            suback.check_reasons_of_3x()?;
        }
        Ok(suback)
    }

    /// Checks that there is no error but 0x80. [v3.1.1 MQTT-3.9.3-2]
    fn check_reasons_of_3x(&self) -> Result<(), ProtocolError> {
        let misplaced = self.reasons.iter().find(|code| code.is_error() && *code != FAILURE_3X);
        misplaced.map_or(Ok(()), |code| Err(ProtocolError::MisplacedReasonCode(code)))
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.push(PacketKind::Suback.first_byte());
        writer::with_length(out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.has_properties() {
                writer::with_length(out, |out| {
                    encode_reason_properties(self.reason_string, &self.user_properties, out)
                });
            }
            let has_all = version.has_reason_codes();
            out.extend(
                self.reasons.iter().map(|code| if code.is_error() && !has_all { FAILURE_3X } else { code }.as_u8()),
            );
        });
    }
}

/// The answer to an UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// That of the UNSUBSCRIBE. [MQTT-3.10.4-4]
    pub packet_id: PacketId,
    /// How it went for each Topic Filter; 3.x does not say.
    pub reasons: Reasons<'a>,
    /// An explanation for a log.
    pub reason_string: Option<&'a str>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Unsuback<'a> {
    /// An UNSUBACK without properties.
    #[must_use]
    pub fn new(packet_id: PacketId, reasons: &'a [ReasonCode]) -> Self {
        Self {
            packet_id,
            reasons: Reasons::from_slice(reasons),
            reason_string: None,
            user_properties: UserProperties::default(),
        }
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut unsuback = Self::new(reader.packet_id()?, &[]);
        if version.has_reason_codes() {
            (unsuback.reason_string, unsuback.user_properties) = decode_reason_properties(&mut reader)?;
            unsuback.reasons = Reasons::decode(PacketKind::Unsuback, reader)?;
        } else {
            reader.finish()?;
        }
        Ok(unsuback)
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.push(PacketKind::Unsuback.first_byte());
        writer::with_length(out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            if version.has_reason_codes() {
                writer::with_length(out, |out| {
                    encode_reason_properties(self.reason_string, &self.user_properties, out)
                });
                out.extend(self.reasons.iter().map(ReasonCode::as_u8));
            }
        });
    }
}

fn decode_reason_properties<'a>(reader: &mut Reader<'a>) -> Result<(Option<&'a str>, UserProperties<'a>), DecodeError> {
    let mut reason_string = None;
    let block = decode_properties(reader, PROPERTIES, |property| {
        if let Property::ReasonString(value) = property {
            reason_string = Some(value);
        }
    })?;
    Ok((reason_string, UserProperties::from_block(block)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, decode};

    #[test]
    fn v3_1_1_mqtt_3_9_3_2_every_error_becomes_0x80() {
        let reasons = [ReasonCode::GrantedQos1, ReasonCode::TopicFilterInvalid];
        let suback = Suback::new(PacketId::new(7).unwrap(), &reasons);
        let mut out = Vec::new();
        suback.encode(ProtocolVersion::V3_1_1, &mut out);
        assert_eq!(out, [0x90, 4, 0, 7, 0x01, 0x80]);
    }

    #[test]
    fn v3_1_1_mqtt_3_9_3_2_no_error_but_0x80_is_read() {
        let expected = ProtocolError::MisplacedReasonCode(ReasonCode::TopicFilterInvalid);
        assert_eq!(decode(&[0x90, 3, 0, 7, 0x8F], ProtocolVersion::V3_1_1), Err(expected.into()));
        assert!(decode(&[0x90, 3, 0, 7, 0x80], ProtocolVersion::V3_1_1).is_ok());
    }

    #[test]
    fn an_unsuback_of_3x_is_a_packet_id_alone() {
        let unsuback = Unsuback::new(PacketId::new(7).unwrap(), &[ReasonCode::Success]);
        let mut out = Vec::new();
        unsuback.encode(ProtocolVersion::V3_1_1, &mut out);
        assert_eq!(out, [0xB0, 2, 0, 7]);
    }

    #[test]
    fn mqtt_3_9_3_2_suback_has_the_reason_codes_of_its_own() {
        let expected = ProtocolError::MisplacedReasonCode(ReasonCode::NoSubscriptionExisted);
        assert_eq!(decode(&[0x90, 4, 0, 7, 0, 0x11], ProtocolVersion::V5), Err(expected.into()));
        assert!(matches!(decode(&[0xB0, 4, 0, 7, 0, 0x11], ProtocolVersion::V5), Ok(Packet::Unsuback(_))));
    }
}
