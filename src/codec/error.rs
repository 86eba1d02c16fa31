//! Why bytes were refused. Every error here is the peer's; it ends one connection.

use std::{error::Error, fmt};

use super::{PacketKind, PropertyId, ReasonCode};

/// Why a packet could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes cannot be parsed (§4.13).
    MalformedPacket(MalformedPacket),
    /// The bytes can be parsed, and say what the standard forbids (§4.13).
    ProtocolError(ProtocolError),
    /// The packet is larger than we accept.
    PacketTooLarge {
        /// Size of the whole packet.
        bytes: usize,
        /// The largest we accept.
        bytes_max: usize,
    },
    /// A CONNECT asks for a protocol level that we do not speak. [MQTT-3.1.2-2]
    UnsupportedProtocolVersion {
        /// The level asked for.
        level: u8,
    },
    /// A CONNECT names another protocol than MQTT. [MQTT-3.1.2-1]
    UnknownProtocolName,
}

impl DecodeError {
    /// The code for the CONNACK or DISCONNECT that answers the packet.
    #[must_use]
    pub const fn reason_code(&self) -> ReasonCode {
        match self {
            Self::MalformedPacket(_) => ReasonCode::MalformedPacket,
            Self::ProtocolError(ProtocolError::TopicAliasZero) => ReasonCode::TopicAliasInvalid, // [MQTT-3.3.2-8]
            Self::ProtocolError(_) => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UnsupportedProtocolVersion { .. } | Self::UnknownProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
        }
    }
}

impl Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MalformedPacket(which) => write!(f, "Malformed Packet: {which}"),
            Self::ProtocolError(which) => write!(f, "Protocol Error: {which}"),
            Self::PacketTooLarge { bytes, bytes_max } => {
                write!(f, "a packet of {bytes} bytes exceeds the limit of {bytes_max} bytes")
            }
            Self::UnsupportedProtocolVersion { level } => write!(f, "protocol level {level} is not supported"),
            Self::UnknownProtocolName => f.write_str("the protocol name is neither MQTT nor MQIsdp"),
        }
    }
}

impl From<MalformedPacket> for DecodeError {
    fn from(which: MalformedPacket) -> Self {
        Self::MalformedPacket(which)
    }
}

impl From<ProtocolError> for DecodeError {
    fn from(which: ProtocolError) -> Self {
        Self::ProtocolError(which)
    }
}

/// What makes a packet unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedPacket {
    /// Packet type 0 is reserved; 15 exists from MQTT 5.0 on.
    PacketType,
    /// A reserved flag of the fixed header has the wrong value. [MQTT-2.1.3-1]
    FixedHeaderFlags(PacketKind),
    /// A variable byte integer takes more than four bytes, or more than it needs. [MQTT-1.5.5-1]
    VariableByteInteger,
    /// The bytes handed in are not exactly one packet.
    RemainingLength,
    /// A field reaches beyond the end of the packet.
    Truncated,
    /// Bytes follow the last field.
    TrailingBytes,
    /// A string is not UTF-8. [MQTT-1.5.4-1]
    InvalidUtf8,
    /// A string contains U+0000. [MQTT-1.5.4-2]
    NullCharacter,
    /// Both QoS bits of a PUBLISH, a Will or a 3.x subscription are set. [MQTT-3.3.1-4] [MQTT-3.1.2-12]
    Qos,
    /// DUP is set in a PUBLISH of QoS 0. [MQTT-3.3.1-2]
    DupAtQos0,
    /// The reserved Connect Flag is set. [MQTT-3.1.2-3]
    ConnectFlags,
    /// Will QoS or Will Retain is set without the Will Flag. [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    WillFlagsWithoutWill,
    /// A Password comes without a User Name. [v3.1.1 MQTT-3.1.2-22]
    PasswordWithoutUserName,
    /// A reserved Connect Acknowledge Flag is set. [MQTT-3.2.2-1]
    ConnackFlags,
    /// A reserved bit of the Subscription Options is set. [MQTT-3.8.3-5]
    SubscriptionOptions,
    /// The standard has no property with this identifier.
    UnknownProperty(u8),
    /// The property does not belong into this packet (§2.2.2.2).
    MisplacedProperty(PropertyId),
    /// The standard has no Reason Code of this value.
    UnknownReasonCode(u8),
}

impl fmt::Display for MalformedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PacketType => "the packet type is reserved",
            Self::FixedHeaderFlags(kind) => return write!(f, "the flags in the fixed header of a {kind} are wrong"),
            Self::VariableByteInteger => "a variable byte integer is too long",
            Self::RemainingLength => "the Remaining Length does not fit the packet",
            Self::Truncated => "a field reaches beyond the end of the packet",
            Self::TrailingBytes => "bytes follow the last field",
            Self::InvalidUtf8 => "a string is not UTF-8",
            Self::NullCharacter => "a string contains U+0000",
            Self::Qos => "QoS 3 does not exist",
            Self::DupAtQos0 => "DUP is set at QoS 0",
            Self::ConnectFlags => "the reserved Connect Flag is set",
            Self::WillFlagsWithoutWill => "Will QoS or Will Retain is set without the Will Flag",
            Self::PasswordWithoutUserName => "a Password comes without a User Name",
            Self::ConnackFlags => "a reserved Connect Acknowledge Flag is set",
            Self::SubscriptionOptions => "a reserved bit of the Subscription Options is set",
            Self::UnknownProperty(id) => return write!(f, "there is no property 0x{id:02X}"),
            Self::MisplacedProperty(id) => return write!(f, "{id} does not belong into this packet"),
            Self::UnknownReasonCode(code) => return write!(f, "there is no Reason Code 0x{code:02X}"),
        })
    }
}

/// What a readable packet says against the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// A Packet Identifier is zero. [MQTT-2.2.1-3]
    PacketIdZero,
    /// A property that may occur once occurs again.
    DuplicateProperty(PropertyId),
    /// A property has a value outside its range.
    PropertyValue(PropertyId),
    /// A Topic Alias is zero. [MQTT-3.3.2-8]
    TopicAliasZero,
    /// A PUBLISH has neither a Topic Name nor a Topic Alias.
    NoTopic,
    /// A Response Topic contains wildcard characters. [MQTT-3.3.2-14]
    ResponseTopicWildcard,
    /// Authentication Data, or an AUTH with properties, comes without an Authentication Method.
    NoAuthenticationMethod,
    /// Session Present is set although the Reason Code is not Success. [MQTT-3.2.2-6]
    SessionPresent,
    /// A SUBSCRIBE, UNSUBSCRIBE or its acknowledgement names no filter. [MQTT-3.8.3-2] [MQTT-3.10.3-2]
    EmptyList,
    /// A subscription asks for QoS 3 (§3.8.3.1).
    SubscriptionQos,
    /// A subscription asks for Retain Handling 3 (§3.8.3.1).
    RetainHandling,
    /// The Reason Code does not belong into this packet.
    MisplacedReasonCode(ReasonCode),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PacketIdZero => "the Packet Identifier is zero",
            Self::DuplicateProperty(id) => return write!(f, "{id} occurs more than once"),
            Self::PropertyValue(id) => return write!(f, "the value of {id} is out of range"),
            Self::TopicAliasZero => "the Topic Alias is zero",
            Self::NoTopic => "there is neither a Topic Name nor a Topic Alias",
            Self::ResponseTopicWildcard => "the Response Topic contains wildcard characters",
            Self::NoAuthenticationMethod => "there is no Authentication Method",
            Self::SessionPresent => "Session Present is set although the connection is refused",
            Self::EmptyList => "the payload is empty",
            Self::SubscriptionQos => "a subscription asks for QoS 3",
            Self::RetainHandling => "a subscription asks for Retain Handling 3",
            Self::MisplacedReasonCode(code) => {
                return write!(f, "Reason Code 0x{:02X} ({code}) does not belong into this packet", code.as_u8());
            }
        })
    }
}
