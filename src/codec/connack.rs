//! CONNACK (§3.2).

use super::{
    DecodeError, MalformedPacket, PacketKind, PropertyId, ProtocolError, ProtocolVersion, QoS, ReasonCode,
    UserProperties,
    ack::{decode_reason, encode_reason_properties},
    properties::{Accepted, Property, decode_properties},
    reader::Reader,
    writer,
};

const PROPERTIES: Accepted = Accepted::once(&[
    PropertyId::SessionExpiryInterval,
    PropertyId::ReceiveMaximum,
    PropertyId::MaximumQos,
    PropertyId::RetainAvailable,
    PropertyId::MaximumPacketSize,
    PropertyId::AssignedClientIdentifier,
    PropertyId::TopicAliasMaximum,
    PropertyId::ReasonString,
    PropertyId::WildcardSubscriptionAvailable,
    PropertyId::SubscriptionIdentifierAvailable,
    PropertyId::SharedSubscriptionAvailable,
    PropertyId::ServerKeepAlive,
    PropertyId::ResponseInformation,
    PropertyId::ServerReference,
    PropertyId::AuthenticationMethod,
    PropertyId::AuthenticationData,
]);

/// The server's answer to a CONNECT. Properties that are `None` are absent, and mean what §3.2.2.3 says of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the properties are the standard's")]
pub struct Connack<'a> {
    /// Whether the Session existed already; never with an error. [MQTT-3.2.2-6] Without effect on 3.1.
    pub session_present: bool,
    /// Success, or why not. On 3.x the return code that comes nearest.
    pub reason: ReasonCode,
    /// Seconds, where the server decides otherwise than the client asked.
    pub session_expiry_interval: Option<u32>,
    /// At least 1.
    pub receive_maximum: Option<u16>,
    /// QoS 0 or 1; QoS 2 is said by leaving it out.
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    /// Bytes, at least 1.
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_identifier: Option<&'a str>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    /// Seconds; replaces the client's Keep Alive. [MQTT-3.1.2-21]
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> Connack<'a> {
    /// A CONNACK without properties.
    #[must_use]
    pub fn new(session_present: bool, reason: ReasonCode) -> Self {
        Self { session_present, reason, ..Self::default() }
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        if flags > 1 && version.checks_reserved_bits() {
            return Err(MalformedPacket::ConnackFlags.into()); // [MQTT-3.2.2-1]
        }
        let reason = if version.has_reason_codes() {
            decode_reason(PacketKind::Connack, &mut reader)?
        } else {
            let code = reader.u8()?;
            ReasonCode::from_connack_return_code_3x(code).ok_or(MalformedPacket::UnknownReasonCode(code))?
        };
        let mut connack = Self::new(version.has_session_present() && flags == 1, reason);
        if connack.session_present && reason != ReasonCode::Success {
            return Err(ProtocolError::SessionPresent.into());
        }
        if version.has_properties() {
            connack.decode_properties(&mut reader)?;
        }
        reader.finish()?;
        Ok(connack)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let block = decode_properties(reader, PROPERTIES, |property| match property {
            Property::SessionExpiryInterval(value) => self.session_expiry_interval = Some(value),
            Property::ReceiveMaximum(value) => self.receive_maximum = Some(value),
            Property::MaximumQos(value) => self.maximum_qos = Some(value),
            Property::RetainAvailable(value) => self.retain_available = Some(value),
            Property::MaximumPacketSize(value) => self.maximum_packet_size = Some(value),
            Property::AssignedClientIdentifier(value) => self.assigned_client_identifier = Some(value),
            Property::TopicAliasMaximum(value) => self.topic_alias_maximum = Some(value),
            Property::ReasonString(value) => self.reason_string = Some(value),
            Property::WildcardSubscriptionAvailable(value) => self.wildcard_subscription_available = Some(value),
            Property::SubscriptionIdentifierAvailable(value) => self.subscription_identifiers_available = Some(value),
            Property::SharedSubscriptionAvailable(value) => self.shared_subscription_available = Some(value),
            Property::ServerKeepAlive(value) => self.server_keep_alive = Some(value),
            Property::ResponseInformation(value) => self.response_information = Some(value),
            Property::ServerReference(value) => self.server_reference = Some(value),
            Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
            Property::AuthenticationData(value) => self.authentication_data = Some(value),
            _ => {}
        })?;
        self.user_properties = UserProperties::from_block(block);
        Ok(())
    }

    /// Appends the packet.
    ///
    /// 3.x has few return codes: ask [`ReasonCode::connack_return_code_3x`] first and close without a CONNACK where it
    /// has none. Sent nevertheless, such a reason becomes 3, server unavailable.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(!(self.session_present && self.reason.is_error()), "[MQTT-3.2.2-6]");
        out.push(PacketKind::Connack.first_byte());
        writer::with_length(out, |out| {
            out.push(u8::from(self.session_present && version.has_session_present()));
            if version.has_reason_codes() {
                out.push(self.reason.as_u8());
            } else {
                out.push(self.reason.connack_return_code_3x().unwrap_or(3));
            }
            if version.has_properties() {
                writer::with_length(out, |out| self.encode_properties(out));
            }
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let maximum_qos = self.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
        let properties = [
            self.session_expiry_interval.map(Property::SessionExpiryInterval),
            self.receive_maximum.map(Property::ReceiveMaximum),
            maximum_qos.map(Property::MaximumQos),
            self.retain_available.map(Property::RetainAvailable),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.assigned_client_identifier.map(Property::AssignedClientIdentifier),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.wildcard_subscription_available.map(Property::WildcardSubscriptionAvailable),
            self.subscription_identifiers_available.map(Property::SubscriptionIdentifierAvailable),
            self.shared_subscription_available.map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive.map(Property::ServerKeepAlive),
            self.response_information.map(Property::ResponseInformation),
            self.server_reference.map(Property::ServerReference),
            self.authentication_method.map(Property::AuthenticationMethod),
            self.authentication_data.map(Property::AuthenticationData),
        ];
        properties.iter().flatten().for_each(|property| property.encode(out));
        encode_reason_properties(self.reason_string, &self.user_properties, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, decode};

    fn encoded(reason: ReasonCode, session_present: bool, version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::new();
        Connack::new(session_present, reason).encode(version, &mut out);
        out
    }

    #[test]
    fn a_3x_client_gets_the_nearest_return_code() {
        assert_eq!(encoded(ReasonCode::NotAuthorized, false, ProtocolVersion::V3_1_1), [0x20, 2, 0, 5]);
        assert_eq!(encoded(ReasonCode::PacketTooLarge, false, ProtocolVersion::V3_1_1), [0x20, 2, 0, 3]);
    }

    #[test]
    fn session_present_is_unknown_to_3_1() {
        assert_eq!(encoded(ReasonCode::Success, true, ProtocolVersion::V3_1_1), [0x20, 2, 1, 0]);
        assert_eq!(encoded(ReasonCode::Success, true, ProtocolVersion::V3_1), [0x20, 2, 0, 0]);
    }

    #[test]
    fn mqtt_3_2_2_1_reserved_flags_are_0() {
        let expected = Err(MalformedPacket::ConnackFlags.into());
        assert_eq!(decode(&[0x20, 3, 2, 0, 0], ProtocolVersion::V5), expected);
    }

    #[test]
    fn mqtt_3_2_2_6_a_refusal_has_no_session() {
        let expected = Err(ProtocolError::SessionPresent.into());
        assert_eq!(decode(&[0x20, 3, 1, 0x87, 0], ProtocolVersion::V5), expected);
    }

    #[test]
    fn maximum_qos_2_is_said_by_silence() {
        let connack = Connack { maximum_qos: Some(QoS::ExactlyOnce), ..Connack::default() };
        let mut out = Vec::new();
        connack.encode(ProtocolVersion::V5, &mut out);
        assert_eq!(decode(&out, ProtocolVersion::V5), Ok(Packet::Connack(Box::default())));
    }
}
