//! CONNECT (§3.1).

use super::{
    DecodeError, MalformedPacket, PacketKind, PropertyId, ProtocolError, ProtocolVersion, QoS, UserProperties, Will,
    hidden::Hidden,
    properties::{Accepted, Property, decode_properties},
    reader::Reader,
    writer,
};
use std::fmt;

const PROPERTIES: Accepted = Accepted::once(&[
    PropertyId::SessionExpiryInterval,
    PropertyId::ReceiveMaximum,
    PropertyId::MaximumPacketSize,
    PropertyId::TopicAliasMaximum,
    PropertyId::RequestResponseInformation,
    PropertyId::RequestProblemInformation,
    PropertyId::AuthenticationMethod,
    PropertyId::AuthenticationData,
]);

/// Connect Flags (§3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 1;
    pub(super) const CLEAN_START: u8 = 1 << 1;
    pub(super) const WILL: u8 = 1 << 2;
    pub(super) const WILL_QOS_SHIFT: u8 = 3;
    pub(super) const WILL_RETAIN: u8 = 1 << 5;
    pub(super) const PASSWORD: u8 = 1 << 6;
    pub(super) const USER_NAME: u8 = 1 << 7;
}

/// A client's wish to open or resume its Session.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the connection speaks from here on.
    pub version: ProtocolVersion,
    /// The Client Identifier; may be empty.
    pub client_id: &'a str,
    /// Whether an existing Session is dropped; 3.x calls it Clean Session.
    pub clean_start: bool,
    /// Seconds; 0 turns the mechanism off.
    pub keep_alive: u16,
    /// Seconds that the Session outlives the connection: 0 when absent, 0xFFFFFFFF for ever. 3.x has none.
    pub session_expiry_interval: u32,
    /// How many QoS 1 and 2 messages the client takes at once; 65 535 when absent.
    pub receive_maximum: u16,
    /// The largest packet in bytes that the client takes.
    pub maximum_packet_size: Option<u32>,
    /// The highest Topic Alias that the client takes; 0 when absent.
    pub topic_alias_maximum: u16,
    /// Whether the client asks for Response Information; no when absent.
    pub request_response_information: bool,
    /// Whether Reason Strings and User Properties may be sent on any packet; yes when absent. [MQTT-3.1.2-29]
    pub request_problem_information: bool,
    /// Anything else.
    pub user_properties: UserProperties<'a>,
    /// The name of the extended authentication.
    pub authentication_method: Option<&'a str>,
    /// Its data; never without a method.
    pub authentication_data: Option<&'a [u8]>,
    /// The Will Message.
    pub will: Option<Will<'a>>,
    /// The User Name.
    pub username: Option<&'a str>,
    /// The Password.
    pub password: Option<&'a [u8]>,
}

/// All of it but what proves who the client is.
impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            client_id,
            clean_start,
            keep_alive,
            session_expiry_interval,
            receive_maximum,
            maximum_packet_size,
            topic_alias_maximum,
            request_response_information,
            request_problem_information,
            user_properties,
            authentication_method,
            authentication_data,
            will,
            username,
            password,
        } = self;
        f.debug_struct("Connect")
            .field("version", version)
            .field("client_id", client_id)
            .field("clean_start", clean_start)
            .field("keep_alive", keep_alive)
            .field("session_expiry_interval", session_expiry_interval)
            .field("receive_maximum", receive_maximum)
            .field("maximum_packet_size", maximum_packet_size)
            .field("topic_alias_maximum", topic_alias_maximum)
            .field("request_response_information", request_response_information)
            .field("request_problem_information", request_problem_information)
            .field("user_properties", user_properties)
            .field("authentication_method", authentication_method)
            .field("authentication_data", &Hidden(*authentication_data))
            .field("will", will)
            .field("username", username)
            .field("password", &Hidden(*password))
            .finish()
    }
}

impl<'a> Connect<'a> {
    /// A CONNECT with Clean Start, without Keep Alive, and otherwise with what absent fields mean.
    #[must_use]
    pub fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            version,
            client_id,
            clean_start: true,
            keep_alive: 0,
            session_expiry_interval: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::default(),
            authentication_method: None,
            authentication_data: None,
            will: None,
            username: None,
            password: None,
        }
    }

    /// The version that a CONNECT names, also when the rest of it is broken or has not arrived: the refusal has to be
    /// written in it. `None` where `bytes` do not begin like a CONNECT that we speak.
    #[must_use]
    pub fn version_of(bytes: &[u8]) -> Option<ProtocolVersion> {
        let mut reader = Reader::new(bytes);
        if reader.u8().ok()? != PacketKind::Connect.first_byte() {
            return None;
        }
        reader.variable_byte_integer().ok()?;
        decode_version(&mut reader).ok()
    }

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let version = decode_version(&mut reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let mut connect = Self::new(version, "");
        connect.clean_start = flags & flag::CLEAN_START != 0;
        connect.keep_alive = reader.u16()?;
        if version.has_properties() {
            connect.decode_properties(&mut reader)?;
        }
        connect.client_id = reader.string()?;
        if flags & flag::WILL != 0 {
            let qos = QoS::new(will_qos(flags)).ok_or(MalformedPacket::Qos)?; // [MQTT-3.1.2-12]
            connect.will = Some(Will::decode(&mut reader, version, qos, flags & flag::WILL_RETAIN != 0)?);
        }
        // MQTT 3.1 lets a client set these two flags and leave the fields out at the end of the packet.
        let may_end_here = version == ProtocolVersion::V3_1;
        if flags & flag::USER_NAME != 0 && !(may_end_here && reader.is_empty()) {
            connect.username = Some(reader.string()?);
        }
        if flags & flag::PASSWORD != 0 && !(may_end_here && reader.is_empty()) {
            connect.password = Some(reader.binary()?);
        }
        reader.finish()?;
        Ok(connect)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let block = decode_properties(reader, PROPERTIES, |property| match property {
            Property::SessionExpiryInterval(seconds) => self.session_expiry_interval = seconds,
            Property::ReceiveMaximum(value) => self.receive_maximum = value,
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::TopicAliasMaximum(value) => self.topic_alias_maximum = value,
            Property::RequestResponseInformation(value) => self.request_response_information = value,
            Property::RequestProblemInformation(value) => self.request_problem_information = value,
            Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
            Property::AuthenticationData(value) => self.authentication_data = Some(value),
            _ => {}
        })?;
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(ProtocolError::NoAuthenticationMethod.into()); // §3.1.2.11.10
        }
        self.user_properties = UserProperties::from_block(block);
        Ok(())
    }

    /// Appends the packet, in the version it names.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PacketKind::Connect.first_byte());
        writer::with_length(out, |out| {
            writer::string(out, self.version.protocol_name());
            out.push(self.version.level());
            out.push(self.flags());
            out.extend_from_slice(&self.keep_alive.to_be_bytes());
            if self.version.has_properties() {
                writer::with_length(out, |out| self.encode_properties(out));
            }
            writer::string(out, self.client_id);
            if let Some(will) = &self.will {
                will.encode(self.version, out);
            }
            if let Some(username) = self.username {
                writer::string(out, username);
            }
            if let Some(password) = self.password {
                writer::binary(out, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        let mut set = |condition: bool, flag: u8| flags |= if condition { flag } else { 0 };
        set(self.clean_start, flag::CLEAN_START);
        if let Some(will) = &self.will {
            set(true, flag::WILL | will.qos.as_u8() << flag::WILL_QOS_SHIFT);
            set(will.retain, flag::WILL_RETAIN);
        }
        set(self.password.is_some(), flag::PASSWORD);
        set(self.username.is_some(), flag::USER_NAME);
        flags
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let absent = Self::new(self.version, "");
        let properties = [
            (self.session_expiry_interval != absent.session_expiry_interval)
                .then_some(Property::SessionExpiryInterval(self.session_expiry_interval)),
            (self.receive_maximum != absent.receive_maximum).then_some(Property::ReceiveMaximum(self.receive_maximum)),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            (self.topic_alias_maximum != absent.topic_alias_maximum)
                .then_some(Property::TopicAliasMaximum(self.topic_alias_maximum)),
            self.request_response_information.then_some(Property::RequestResponseInformation(true)),
            (!self.request_problem_information).then_some(Property::RequestProblemInformation(false)),
            self.authentication_method.map(Property::AuthenticationMethod),
            self.authentication_data.map(Property::AuthenticationData),
        ];
        properties.iter().flatten().for_each(|property| property.encode(out));
        self.user_properties.encode(out);
    }
}

fn decode_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (name, level) {
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        (b"MQTT", 4) => Ok(ProtocolVersion::V3_1_1),
        (b"MQIsdp", 3) => Ok(ProtocolVersion::V3_1),
        (b"MQTT" | b"MQIsdp", level) => Err(DecodeError::UnsupportedProtocolVersion { level }),
        _ => Err(DecodeError::UnknownProtocolName),
    }
}

const fn will_qos(flags: u8) -> u8 {
    flags >> flag::WILL_QOS_SHIFT & 0b11
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), MalformedPacket> {
    if flags & flag::RESERVED != 0 && version.checks_reserved_bits() {
        return Err(MalformedPacket::ConnectFlags); // [MQTT-3.1.2-3]
    }
    let has_will_bits = will_qos(flags) != 0 || flags & flag::WILL_RETAIN != 0;
    if flags & flag::WILL == 0 && has_will_bits && version.checks_reserved_bits() {
        return Err(MalformedPacket::WillFlagsWithoutWill); // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    }
    let is_password_alone = flags & (flag::USER_NAME | flag::PASSWORD) == flag::PASSWORD;
    if is_password_alone && !version.allows_password_without_username() {
        return Err(MalformedPacket::PasswordWithoutUserName); // [v3.1.1 MQTT-3.1.2-22]
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Packet, ReasonCode, decode};

    /// A CONNECT whose variable header starts as given; behind it follow `rest`.
    fn connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x10];
        writer::with_length(&mut packet, |out| {
            writer::string(out, name);
            out.extend_from_slice(&[level, flags, 0, 10]);
            out.extend_from_slice(rest);
        });
        packet
    }

    fn error(packet: &[u8]) -> DecodeError {
        decode(packet, ProtocolVersion::V5).unwrap_err()
    }

    #[test]
    fn mqtt_3_1_2_1_another_protocol_is_told_apart() {
        assert_eq!(error(&connect("MQIT", 5, 2, &[0, 0, 0])), DecodeError::UnknownProtocolName);
    }

    #[test]
    fn mqtt_3_1_2_2_levels_that_do_not_exist_are_unsupported() {
        for (name, level) in [("MQTT", 6), ("MQTT", 3), ("MQTT", 0x84), ("MQIsdp", 4), ("MQIsdp", 0x83)] {
            let error = error(&connect(name, level, 2, &[0, 0]));
            assert_eq!(error, DecodeError::UnsupportedProtocolVersion { level });
            assert_eq!(error.reason_code(), ReasonCode::UnsupportedProtocolVersion);
        }
    }

    #[test]
    fn the_version_of_a_broken_connect_is_known() {
        let packet = connect("MQTT", 5, 3, &[]);
        assert!(decode(&packet, ProtocolVersion::V5).is_err());
        assert_eq!(Connect::version_of(&packet), Some(ProtocolVersion::V5));
        assert_eq!(Connect::version_of(&packet[..8]), None);
        assert_eq!(Connect::version_of(&connect("MQTT", 6, 2, &[])), None);
        assert_eq!(Connect::version_of(&[0xC0, 0]), None);
    }

    #[test]
    fn mqtt_3_1_2_3_the_reserved_flag_is_0() {
        assert_eq!(error(&connect("MQTT", 4, 3, &[0, 0])), MalformedPacket::ConnectFlags.into());
    }

    #[test]
    fn mqtt_3_1_2_11_will_qos_needs_a_will() {
        assert_eq!(error(&connect("MQTT", 5, 0b0000_1010, &[0, 0, 0])), MalformedPacket::WillFlagsWithoutWill.into());
    }

    #[test]
    fn mqtt_3_1_2_13_will_retain_needs_a_will() {
        assert_eq!(error(&connect("MQTT", 4, 0b0010_0010, &[0, 0])), MalformedPacket::WillFlagsWithoutWill.into());
    }

    #[test]
    fn mqtt_3_1_2_12_will_qos_is_not_3() {
        let packet = connect("MQTT", 4, 0b0001_1110, &[0, 0, 0, 1, b'w', 0, 0]);
        assert_eq!(error(&packet), MalformedPacket::Qos.into());
    }

    #[test]
    fn v3_1_1_mqtt_3_1_2_22_a_password_needs_a_user_name() {
        let (v3, v5) = (&[0, 0, 0, 1, b'p'][..], &[0, 0, 0, 0, 1, b'p'][..]);
        assert_eq!(error(&connect("MQTT", 4, 0b0100_0010, v3)), MalformedPacket::PasswordWithoutUserName.into());
        assert!(decode(&connect("MQTT", 5, 0b0100_0010, v5), ProtocolVersion::V3_1).is_ok());
    }

    #[test]
    fn a_3_1_client_may_announce_a_user_name_and_leave_it_out() {
        let rest = &[0, 1, b'c'];
        let packet = connect("MQIsdp", 3, 0b1100_0010, rest);
        let Ok(Packet::Connect(decoded)) = decode(&packet, ProtocolVersion::V5) else { panic!() };
        assert_eq!((decoded.client_id, decoded.username, decoded.password), ("c", None, None));
        assert_eq!(error(&connect("MQTT", 4, 0b1100_0010, rest)), MalformedPacket::Truncated.into());
    }

    #[test]
    fn authentication_data_needs_a_method() {
        let packet = connect("MQTT", 5, 2, &[4, 0x16, 0, 1, 9, 0, 0]);
        assert_eq!(error(&packet), ProtocolError::NoAuthenticationMethod.into());
    }

    #[test]
    fn receive_maximum_is_not_0() {
        let packet = connect("MQTT", 5, 2, &[3, 0x21, 0, 0, 0, 0]);
        assert_eq!(error(&packet), ProtocolError::PropertyValue(PropertyId::ReceiveMaximum).into());
    }

    #[test]
    fn will_delay_interval_belongs_to_the_will() {
        let packet = connect("MQTT", 5, 2, &[5, 0x18, 0, 0, 0, 1, 0, 0]);
        assert_eq!(error(&packet), MalformedPacket::MisplacedProperty(PropertyId::WillDelayInterval).into());
    }

    #[test]
    fn absent_properties_have_their_defaults() {
        let packet = connect("MQTT", 5, 2, &[0, 0, 1, b'c']);
        let mut expected = Connect::new(ProtocolVersion::V5, "c");
        expected.keep_alive = 10;
        assert_eq!(decode(&packet, ProtocolVersion::V5), Ok(Packet::Connect(Box::new(expected))));
    }

    #[test]
    fn bytes_behind_the_payload_are_malformed() {
        assert_eq!(error(&connect("MQTT", 4, 2, &[0, 0, 0])), MalformedPacket::TrailingBytes.into());
    }
}
