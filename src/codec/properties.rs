//! Properties (§2.2.2): their identifiers, their values, and which packet may carry which.

use std::{fmt, num::NonZeroU16};

use super::{DecodeError, MalformedPacket, ProtocolError, QoS, reader::Reader, writer};

/// The kind of a property, numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PropertyId {
    PayloadFormatIndicator = 0x01,
    MessageExpiryInterval = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiryInterval = 0x11,
    AssignedClientIdentifier = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelayInterval = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQos = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardSubscriptionAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedSubscriptionAvailable = 0x2A,
}

impl PropertyId {
    const fn new(value: u8) -> Option<Self> {
        Some(match value {
            0x01 => Self::PayloadFormatIndicator,
            0x02 => Self::MessageExpiryInterval,
            0x03 => Self::ContentType,
            0x08 => Self::ResponseTopic,
            0x09 => Self::CorrelationData,
            0x0B => Self::SubscriptionIdentifier,
            0x11 => Self::SessionExpiryInterval,
            0x12 => Self::AssignedClientIdentifier,
            0x13 => Self::ServerKeepAlive,
            0x15 => Self::AuthenticationMethod,
            0x16 => Self::AuthenticationData,
            0x17 => Self::RequestProblemInformation,
            0x18 => Self::WillDelayInterval,
            0x19 => Self::RequestResponseInformation,
            0x1A => Self::ResponseInformation,
            0x1C => Self::ServerReference,
            0x1F => Self::ReasonString,
            0x21 => Self::ReceiveMaximum,
            0x22 => Self::TopicAliasMaximum,
            0x23 => Self::TopicAlias,
            0x24 => Self::MaximumQos,
            0x25 => Self::RetainAvailable,
            0x26 => Self::UserProperty,
            0x27 => Self::MaximumPacketSize,
            0x28 => Self::WildcardSubscriptionAvailable,
            0x29 => Self::SubscriptionIdentifierAvailable,
            0x2A => Self::SharedSubscriptionAvailable,
            _ => return None,
        })
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PayloadFormatIndicator => "Payload Format Indicator",
            Self::MessageExpiryInterval => "Message Expiry Interval",
            Self::ContentType => "Content Type",
            Self::ResponseTopic => "Response Topic",
            Self::CorrelationData => "Correlation Data",
            Self::SubscriptionIdentifier => "Subscription Identifier",
            Self::SessionExpiryInterval => "Session Expiry Interval",
            Self::AssignedClientIdentifier => "Assigned Client Identifier",
            Self::ServerKeepAlive => "Server Keep Alive",
            Self::AuthenticationMethod => "Authentication Method",
            Self::AuthenticationData => "Authentication Data",
            Self::RequestProblemInformation => "Request Problem Information",
            Self::WillDelayInterval => "Will Delay Interval",
            Self::RequestResponseInformation => "Request Response Information",
            Self::ResponseInformation => "Response Information",
            Self::ServerReference => "Server Reference",
            Self::ReasonString => "Reason String",
            Self::ReceiveMaximum => "Receive Maximum",
            Self::TopicAliasMaximum => "Topic Alias Maximum",
            Self::TopicAlias => "Topic Alias",
            Self::MaximumQos => "Maximum QoS",
            Self::RetainAvailable => "Retain Available",
            Self::UserProperty => "User Property",
            Self::MaximumPacketSize => "Maximum Packet Size",
            Self::WildcardSubscriptionAvailable => "Wildcard Subscription Available",
            Self::SubscriptionIdentifierAvailable => "Subscription Identifier Available",
            Self::SharedSubscriptionAvailable => "Shared Subscription Available",
        })
    }
}

/// A set of kinds of properties: one bit for each identifier, all of which are below 64.
#[derive(Clone, Copy, Debug)]
pub(super) struct PropertySet(u64);

impl PropertySet {
    pub(super) const EMPTY: Self = Self::of(&[]);

    pub(super) const fn of(ids: &[PropertyId]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= 1 << ids[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    const fn contains(self, id: PropertyId) -> bool {
        self.0 >> id as u8 & 1 == 1
    }

    const fn insert(&mut self, id: PropertyId) {
        self.0 |= 1 << id as u8;
    }
}

/// One property with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "User Property is the standard's name")]
pub(super) enum Property<'a> {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    MaximumQos(QoS),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    pub(super) const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(..) => PropertyId::PayloadFormatIndicator,
            Self::MessageExpiryInterval(..) => PropertyId::MessageExpiryInterval,
            Self::ContentType(..) => PropertyId::ContentType,
            Self::ResponseTopic(..) => PropertyId::ResponseTopic,
            Self::CorrelationData(..) => PropertyId::CorrelationData,
            Self::SubscriptionIdentifier(..) => PropertyId::SubscriptionIdentifier,
            Self::SessionExpiryInterval(..) => PropertyId::SessionExpiryInterval,
            Self::AssignedClientIdentifier(..) => PropertyId::AssignedClientIdentifier,
            Self::ServerKeepAlive(..) => PropertyId::ServerKeepAlive,
            Self::AuthenticationMethod(..) => PropertyId::AuthenticationMethod,
            Self::AuthenticationData(..) => PropertyId::AuthenticationData,
            Self::RequestProblemInformation(..) => PropertyId::RequestProblemInformation,
            Self::WillDelayInterval(..) => PropertyId::WillDelayInterval,
            Self::RequestResponseInformation(..) => PropertyId::RequestResponseInformation,
            Self::ResponseInformation(..) => PropertyId::ResponseInformation,
            Self::ServerReference(..) => PropertyId::ServerReference,
            Self::ReasonString(..) => PropertyId::ReasonString,
            Self::ReceiveMaximum(..) => PropertyId::ReceiveMaximum,
            Self::TopicAliasMaximum(..) => PropertyId::TopicAliasMaximum,
            Self::TopicAlias(..) => PropertyId::TopicAlias,
            Self::MaximumQos(..) => PropertyId::MaximumQos,
            Self::RetainAvailable(..) => PropertyId::RetainAvailable,
            Self::UserProperty(..) => PropertyId::UserProperty,
            Self::MaximumPacketSize(..) => PropertyId::MaximumPacketSize,
            Self::WildcardSubscriptionAvailable(..) => PropertyId::WildcardSubscriptionAvailable,
            Self::SubscriptionIdentifierAvailable(..) => PropertyId::SubscriptionIdentifierAvailable,
            Self::SharedSubscriptionAvailable(..) => PropertyId::SharedSubscriptionAvailable,
        }
    }

    /// Reads one property and checks the range of its value.
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        // The identifier is a variable byte integer; those that exist take one byte.
        let id = reader.u8()?;
        let id = PropertyId::new(id).ok_or(MalformedPacket::UnknownProperty(id))?;
        let out_of_range = ProtocolError::PropertyValue(id);
        Ok(match id {
            PropertyId::PayloadFormatIndicator => Self::PayloadFormatIndicator(boolean(reader, id)?),
            PropertyId::MessageExpiryInterval => Self::MessageExpiryInterval(reader.u32()?),
            PropertyId::ContentType => Self::ContentType(reader.string()?),
            PropertyId::ResponseTopic => Self::ResponseTopic(response_topic(reader)?),
            PropertyId::CorrelationData => Self::CorrelationData(reader.binary()?),
            PropertyId::SubscriptionIdentifier => {
                Self::SubscriptionIdentifier(non_zero(reader.variable_byte_integer()?).ok_or(out_of_range)?)
            }
            PropertyId::SessionExpiryInterval => Self::SessionExpiryInterval(reader.u32()?),
            PropertyId::AssignedClientIdentifier => Self::AssignedClientIdentifier(reader.string()?),
            PropertyId::ServerKeepAlive => Self::ServerKeepAlive(reader.u16()?),
            PropertyId::AuthenticationMethod => Self::AuthenticationMethod(reader.string()?),
            PropertyId::AuthenticationData => Self::AuthenticationData(reader.binary()?),
            PropertyId::RequestProblemInformation => Self::RequestProblemInformation(boolean(reader, id)?),
            PropertyId::WillDelayInterval => Self::WillDelayInterval(reader.u32()?),
            PropertyId::RequestResponseInformation => Self::RequestResponseInformation(boolean(reader, id)?),
            PropertyId::ResponseInformation => Self::ResponseInformation(reader.string()?),
            PropertyId::ServerReference => Self::ServerReference(reader.string()?),
            PropertyId::ReasonString => Self::ReasonString(reader.string()?),
            PropertyId::ReceiveMaximum => Self::ReceiveMaximum(non_zero(reader.u16()?).ok_or(out_of_range)?),
            PropertyId::TopicAliasMaximum => Self::TopicAliasMaximum(reader.u16()?),
            PropertyId::TopicAlias => {
                Self::TopicAlias(NonZeroU16::new(reader.u16()?).ok_or(ProtocolError::TopicAliasZero)?)
            }
            PropertyId::MaximumQos => match reader.u8()? {
                0 => Self::MaximumQos(QoS::AtMostOnce),
                1 => Self::MaximumQos(QoS::AtLeastOnce),
                _ => return Err(out_of_range.into()), // QoS 2 is said by leaving the property out (§3.2.2.3.4).
            },
            PropertyId::RetainAvailable => Self::RetainAvailable(boolean(reader, id)?),
            PropertyId::UserProperty => Self::UserProperty(reader.string()?, reader.string()?),
            PropertyId::MaximumPacketSize => Self::MaximumPacketSize(non_zero(reader.u32()?).ok_or(out_of_range)?),
            PropertyId::WildcardSubscriptionAvailable => Self::WildcardSubscriptionAvailable(boolean(reader, id)?),
            PropertyId::SubscriptionIdentifierAvailable => Self::SubscriptionIdentifierAvailable(boolean(reader, id)?),
            PropertyId::SharedSubscriptionAvailable => Self::SharedSubscriptionAvailable(boolean(reader, id)?),
        })
    }

    /// Appends the property.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id() as u8);
        match *self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => out.extend_from_slice(&value.to_be_bytes()),
            Self::ContentType(value)
            | Self::ResponseTopic(value)
            | Self::AssignedClientIdentifier(value)
            | Self::AuthenticationMethod(value)
            | Self::ResponseInformation(value)
            | Self::ServerReference(value)
            | Self::ReasonString(value) => writer::string(out, value),
            Self::CorrelationData(value) | Self::AuthenticationData(value) => writer::binary(out, value),
            Self::SubscriptionIdentifier(value) => writer::variable_byte_integer(out, value as usize),
            Self::ServerKeepAlive(value) | Self::ReceiveMaximum(value) | Self::TopicAliasMaximum(value) => {
                out.extend_from_slice(&value.to_be_bytes())
            }
            Self::TopicAlias(value) => out.extend_from_slice(&value.get().to_be_bytes()),
            Self::MaximumQos(value) => out.push(value.as_u8()),
            Self::UserProperty(name, value) => {
                writer::string(out, name);
                writer::string(out, value);
            }
        }
    }
}

fn boolean(reader: &mut Reader<'_>, id: PropertyId) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ProtocolError::PropertyValue(id).into()),
    }
}

fn non_zero<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = reader.string()?;
    if topic.contains(['+', '#']) { Err(ProtocolError::ResponseTopicWildcard.into()) } else { Ok(topic) }
}

/// Which properties a place in a packet accepts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    /// May occur once.
    pub(super) once: PropertySet,
    /// May occur any number of times.
    pub(super) repeated: PropertySet,
}

impl Accepted {
    /// Those in `once`, and any number of User Properties, which every packet with properties accepts.
    pub(super) const fn once(once: &[PropertyId]) -> Self {
        Self { once: PropertySet::of(once), repeated: PropertySet::of(&[PropertyId::UserProperty]) }
    }
}

/// Reads a property block, hands each property to `visit`, and gives back the block without its length.
///
/// A length of zero, the usual case, costs a look at one byte.
#[inline]
pub(super) fn decode_properties<'a>(
    reader: &mut Reader<'a>,
    accepted: Accepted,
    mut visit: impl FnMut(Property<'a>),
) -> Result<&'a [u8], DecodeError> {
    let block = reader.block()?;
    let mut properties = Reader::new(block);
    let mut seen = PropertySet::EMPTY;
    while !properties.is_empty() {
        let property = Property::decode(&mut properties)?;
        let id = property.id();
        if !accepted.repeated.contains(id) {
            if !accepted.once.contains(id) {
                return Err(MalformedPacket::MisplacedProperty(id).into());
            }
            if seen.contains(id) {
                return Err(ProtocolError::DuplicateProperty(id).into());
            }
            seen.insert(id);
        }
        visit(property);
    }
    Ok(block)
}

/// The properties of a block that has been validated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties<'a> {
    reader: Reader<'a>,
}

impl<'a> Properties<'a> {
    pub(super) const fn new(block: &'a [u8]) -> Self {
        Self { reader: Reader::new(block) }
    }

    /// The next property and its bytes.
    pub(super) fn next_encoded(&mut self) -> Option<(Property<'a>, &'a [u8])> {
        let before = self.reader.rest();
        let property = Property::decode(&mut self.reader).ok()?;
        Some((property, &before[..before.len() - self.reader.rest().len()]))
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_encoded().map(|(property, _)| property)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_ONCE: Accepted = Accepted { once: PropertySet(u64::MAX), repeated: PropertySet::EMPTY };

    fn decode_one(property: &[u8]) -> Result<Property<'_>, DecodeError> {
        let mut reader = Reader::new(property);
        let decoded = Property::decode(&mut reader)?;
        reader.finish()?;
        Ok(decoded)
    }

    fn out_of_range(id: PropertyId) -> Result<Property<'static>, DecodeError> {
        Err(ProtocolError::PropertyValue(id).into())
    }

    #[test]
    fn boolean_properties_are_0_or_1() {
        let ids = (0..=u8::MAX).filter_map(PropertyId::new);
        let booleans: Vec<PropertyId> = ids.filter(|id| decode_one(&[*id as u8, 2]) == out_of_range(*id)).collect();
        let expected = [
            PropertyId::PayloadFormatIndicator,
            PropertyId::RequestProblemInformation,
            PropertyId::RequestResponseInformation,
            PropertyId::MaximumQos, // Not a boolean, and yet 0 or 1.
            PropertyId::RetainAvailable,
            PropertyId::WildcardSubscriptionAvailable,
            PropertyId::SubscriptionIdentifierAvailable,
            PropertyId::SharedSubscriptionAvailable,
        ];
        assert_eq!(booleans, expected);
        assert!(expected.iter().all(|id| decode_one(&[*id as u8, 1]).is_ok()));
    }

    #[test]
    fn receive_maximum_is_not_0() {
        assert_eq!(decode_one(&[0x21, 0, 0]), out_of_range(PropertyId::ReceiveMaximum));
        assert_eq!(decode_one(&[0x21, 0, 1]), Ok(Property::ReceiveMaximum(1)));
    }

    #[test]
    fn maximum_packet_size_is_not_0() {
        assert_eq!(decode_one(&[0x27, 0, 0, 0, 0]), out_of_range(PropertyId::MaximumPacketSize));
    }

    #[test]
    fn subscription_identifier_is_not_0() {
        assert_eq!(decode_one(&[0x0B, 0]), out_of_range(PropertyId::SubscriptionIdentifier));
    }

    #[test]
    fn mqtt_3_3_2_8_topic_alias_is_not_0() {
        let error = decode_one(&[0x23, 0, 0]).unwrap_err();
        assert_eq!(error, ProtocolError::TopicAliasZero.into());
        assert_eq!(error.reason_code(), super::super::ReasonCode::TopicAliasInvalid);
    }

    #[test]
    fn mqtt_3_3_2_14_response_topic_has_no_wildcards() {
        for topic in [b'+', b'#'] {
            assert_eq!(decode_one(&[0x08, 0, 1, topic]), Err(ProtocolError::ResponseTopicWildcard.into()));
        }
    }

    #[test]
    fn identifiers_that_do_not_exist_are_malformed() {
        for id in [0x00, 0x04, 0x2B, 0x80, 0xFF] {
            assert_eq!(decode_one(&[id, 0]), Err(MalformedPacket::UnknownProperty(id).into()));
        }
    }

    #[test]
    fn there_are_27_properties() {
        assert_eq!((0..=u8::MAX).filter_map(PropertyId::new).count(), 27);
    }

    #[test]
    fn a_property_occurs_once_unless_it_may_repeat() {
        let twice = [10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1];
        let error = decode_properties(&mut Reader::new(&twice), ANY_ONCE, |_| {}).unwrap_err();
        assert_eq!(error, ProtocolError::DuplicateProperty(PropertyId::SessionExpiryInterval).into());
        let twice = [10, 0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0];
        assert!(decode_properties(&mut Reader::new(&twice), Accepted::once(&[]), |_| {}).is_ok());
    }

    #[test]
    fn a_property_that_reaches_beyond_its_block_is_malformed() {
        let short = [2, 0x11, 0, 0, 0, 1];
        let error = decode_properties(&mut Reader::new(&short), ANY_ONCE, |_| {}).unwrap_err();
        assert_eq!(error, MalformedPacket::Truncated.into());
    }
}
