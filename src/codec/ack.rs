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
