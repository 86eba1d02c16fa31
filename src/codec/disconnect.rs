//! DISCONNECT (§3.14).

use super::{
    DecodeError, PacketKind, PropertyId, ProtocolVersion, ReasonCode, UserProperties,
    ack::{decode_reason, encode_reason_properties},
    properties::{Accepted, Property, decode_properties},
    reader::Reader,
    writer,
};

const PROPERTIES: Accepted =
    Accepted::once(&[PropertyId::SessionExpiryInterval, PropertyId::ReasonString, PropertyId::ServerReference]);

/// The last packet of a Network Connection. 3.x has only that of the client, and it carries nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why.
    pub reason: ReasonCode,
    /// Seconds, in place of what CONNECT said. A server must not send it. [MQTT-3.14.2-2]
    pub session_expiry_interval: Option<u32>,
    /// An explanation for a log.
    pub reason_string: Option<&'a str>,
    /// Where to go instead; only a server may send it.
    pub server_reference: Option<&'a str>,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT with a reason and nothing else.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, ..Self::default() }
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut disconnect = Self::default();
        if !reader.is_empty() && version.has_reason_codes() {
            disconnect.reason = decode_reason(PacketKind::Disconnect, &mut reader)?;
            if !reader.is_empty() {
                disconnect.decode_properties(&mut reader)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let block = decode_properties(reader, PROPERTIES, |property| match property {
            Property::SessionExpiryInterval(seconds) => self.session_expiry_interval = Some(seconds),
            Property::ReasonString(value) => self.reason_string = Some(value),
            Property::ServerReference(value) => self.server_reference = Some(value),
            _ => {}
        })?;
        self.user_properties = UserProperties::from_block(block);
        Ok(())
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        out.push(PacketKind::Disconnect.first_byte());
        writer::with_length(out, |out| {
            let says_nothing = *self == Self::default();
            if version.has_reason_codes() && !says_nothing {
                out.push(self.reason.as_u8());
                if *self != Self::new(self.reason) {
                    writer::with_length(out, |out| self.encode_properties(out));
                }
            }
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        if let Some(seconds) = self.session_expiry_interval {
            Property::SessionExpiryInterval(seconds).encode(out);
        }
        if let Some(value) = self.server_reference {
            Property::ServerReference(value).encode(out);
        }
        encode_reason_properties(self.reason_string, &self.user_properties, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MalformedPacket, Packet, ProtocolError, decode};

    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn encoded(disconnect: &Disconnect<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        disconnect.encode(V5, &mut out);
        out
    }

    #[test]
    fn the_shortest_form_is_written() {
        assert_eq!(encoded(&Disconnect::default()), [0xE0, 0]);
        assert_eq!(encoded(&Disconnect::new(ReasonCode::ServerShuttingDown)), [0xE0, 1, 0x8B]);
        let expiry = Disconnect { session_expiry_interval: Some(1), ..Disconnect::default() };
        assert_eq!(encoded(&expiry), [0xE0, 7, 0, 5, 0x11, 0, 0, 0, 1]);
    }

    #[test]
    fn every_form_is_read() {
        let expected = Ok(Packet::Disconnect(Disconnect::new(ReasonCode::DisconnectWithWillMessage)));
        assert_eq!(decode(&[0xE0, 1, 0x04], V5), expected);
        assert_eq!(decode(&[0xE0, 2, 0x04, 0], V5), expected);
    }

    #[test]
    fn mqtt_3_14_2_1_disconnect_has_the_reason_codes_of_its_own() {
        let expected = ProtocolError::MisplacedReasonCode(ReasonCode::GrantedQos1);
        assert_eq!(decode(&[0xE0, 1, 0x01], V5), Err(expected.into()));
    }

    #[test]
    fn a_disconnect_of_3_1_1_is_empty() {
        let decoded = decode(&[0xE0, 1, 0], ProtocolVersion::V3_1_1);
        assert_eq!(decoded, Err(MalformedPacket::TrailingBytes.into()));
    }
}
