//! PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7), which have one shape.

use super::{
    DecodeError, MalformedPacket, PacketId, PacketKind, ProtocolError, ProtocolVersion, ReasonCode, UserProperties,
    properties::{Accepted, Property, PropertyId, decode_properties},
    reader::Reader,
    writer,
};

const PROPERTIES: Accepted = Accepted::once(&[PropertyId::ReasonString]);

/// One step of a QoS 1 or QoS 2 exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The PUBLISH it belongs to.
    pub packet_id: PacketId,
    /// How it went; 3.x knows [`ReasonCode::Success`] only, and an encoder of 3.x leaves it out.
    pub reason: ReasonCode,
    /// An explanation for a log.
    pub reason_string: Option<&'a str>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement with a reason and nothing else.
    #[must_use]
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    #[inline]
    pub(super) fn decode(
        kind: PacketKind,
        mut reader: Reader<'a>,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        if !reader.is_empty() && version.has_reason_codes() {
            ack.reason = decode_reason(kind, &mut reader)?;
            if !reader.is_empty() {
                ack.decode_properties(&mut reader)?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let block = decode_properties(reader, PROPERTIES, |property| {
            if let Property::ReasonString(value) = property {
                self.reason_string = Some(value);
            }
        })?;
        self.user_properties = UserProperties::from_block(block);
        Ok(())
    }

    /// Appends the packet in its shortest form; `kind` is one of the four.
    #[inline]
    pub fn encode(&self, kind: PacketKind, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(
            matches!(kind, PacketKind::Puback | PacketKind::Pubrec | PacketKind::Pubrel | PacketKind::Pubcomp),
            "{kind} has another shape"
        );
        let [high, low] = self.packet_id.get().to_be_bytes();
        let has_properties = self.reason_string.is_some() || !self.user_properties.is_empty();
        if !version.has_reason_codes() || (self.reason == ReasonCode::Success && !has_properties) {
            out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
        } else if !has_properties {
            out.extend_from_slice(&[kind.first_byte(), 3, high, low, self.reason.as_u8()]);
        } else {
            out.push(kind.first_byte());
            writer::with_length(out, |out| {
                out.extend_from_slice(&[high, low, self.reason.as_u8()]);
                writer::with_length(out, |out| {
                    encode_reason_properties(self.reason_string, &self.user_properties, out)
                });
            });
        }
    }
}

/// Reads a Reason Code that a packet of `kind` may carry.
#[inline]
pub(super) fn decode_reason(kind: PacketKind, reader: &mut Reader<'_>) -> Result<ReasonCode, DecodeError> {
    let code = reader.u8()?;
    let reason = ReasonCode::from_u8(code).ok_or(MalformedPacket::UnknownReasonCode(code))?;
    if reason.is_valid_in(kind) { Ok(reason) } else { Err(ProtocolError::MisplacedReasonCode(reason).into()) }
}

/// Appends the two properties that explain a Reason Code.
pub(super) fn encode_reason_properties(
    reason_string: Option<&str>,
    user_properties: &UserProperties<'_>,
    out: &mut Vec<u8>,
) {
    if let Some(value) = reason_string {
        Property::ReasonString(value).encode(out);
    }
    user_properties.encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, decode, encode};

    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::new();
        encode(packet, version, &mut out);
        out
    }

    fn ack(reason: ReasonCode) -> Ack<'static> {
        Ack::new(PacketId::new(0x0102).unwrap(), reason)
    }

    #[test]
    fn the_shortest_form_is_written() {
        assert_eq!(encoded(&Packet::Puback(ack(ReasonCode::Success)), V5), [0x40, 2, 1, 2]);
        assert_eq!(encoded(&Packet::Pubrec(ack(ReasonCode::QuotaExceeded)), V5), [0x50, 3, 1, 2, 0x97]);
        let v3 = ProtocolVersion::V3_1_1;
        assert_eq!(encoded(&Packet::Pubrec(ack(ReasonCode::QuotaExceeded)), v3), [0x50, 2, 1, 2]);
        assert_eq!(encoded(&Packet::Pubrel(ack(ReasonCode::Success)), v3), [0x62, 2, 1, 2]);
    }

    #[test]
    fn every_form_is_read() {
        let expected = Ok(Packet::Pubcomp(ack(ReasonCode::PacketIdentifierNotFound)));
        assert_eq!(decode(&[0x70, 3, 1, 2, 0x92], V5), expected);
        assert_eq!(decode(&[0x70, 4, 1, 2, 0x92, 0], V5), expected);
        assert_eq!(decode(&[0x70, 4, 1, 2, 0, 0], V5), Ok(Packet::Pubcomp(ack(ReasonCode::Success))));
    }

    #[test]
    fn an_acknowledgement_of_3_1_1_ends_behind_its_packet_id() {
        let decoded = decode(&[0x40, 3, 1, 2, 0], ProtocolVersion::V3_1_1);
        assert_eq!(decoded, Err(MalformedPacket::TrailingBytes.into()));
    }

    #[test]
    fn mqtt_2_2_1_3_packet_id_is_not_0() {
        assert_eq!(decode(&[0x40, 2, 0, 0], V5), Err(ProtocolError::PacketIdZero.into()));
    }

    #[test]
    fn mqtt_3_6_2_1_pubrel_has_the_reason_codes_of_its_own() {
        let expected = ProtocolError::MisplacedReasonCode(ReasonCode::QuotaExceeded);
        assert_eq!(decode(&[0x62, 3, 1, 2, 0x97], V5), Err(expected.into()));
    }

    #[test]
    fn mqtt_3_4_2_1_puback_has_no_reason_code_that_does_not_exist() {
        assert_eq!(decode(&[0x40, 3, 1, 2, 0x42], V5), Err(MalformedPacket::UnknownReasonCode(0x42).into()));
    }

    #[test]
    fn a_reason_string_occurs_once() {
        let expected = ProtocolError::DuplicateProperty(PropertyId::ReasonString);
        assert_eq!(decode(&[0x40, 10, 1, 2, 0, 6, 0x1F, 0, 0, 0x1F, 0, 0], V5), Err(expected.into()));
    }
}
