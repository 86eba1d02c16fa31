//! PUBLISH (§3.3): its decoder, and the encoders of the way out to subscribers.

use std::num::NonZeroU16;

use super::{
    DecodeError, Forwarded, MalformedPacket, PacketId, PacketKind, ProtocolError, ProtocolVersion, QoS,
    SubscriptionIdentifiers,
    forwarded::is_forwarded,
    properties::{Accepted, Property, PropertyId, PropertySet, decode_properties},
    reader::Reader,
    writer::{self, variable_byte_integer_length},
};

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

const PROPERTIES: Accepted = Accepted {
    once: PropertySet::of(&[
        PropertyId::PayloadFormatIndicator,
        PropertyId::MessageExpiryInterval,
        PropertyId::ContentType,
        PropertyId::ResponseTopic,
        PropertyId::CorrelationData,
        PropertyId::TopicAlias,
    ]),
    repeated: PropertySet::of(&[PropertyId::SubscriptionIdentifier, PropertyId::UserProperty]),
};

/// An Application Message on its way, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be the repetition of an earlier attempt; never set at QoS 0. [MQTT-3.3.1-2]
    pub dup: bool,
    /// The level of this delivery.
    pub qos: QoS,
    /// Towards the server: keep the message. Towards a client: it was kept, or Retain As Published asks for the flag.
    pub retain: bool,
    /// The Topic Name, only known to be UTF-8; empty where a Topic Alias stands for it.
    pub topic: &'a str,
    /// Present exactly if `qos` is above 0. [MQTT-2.2.1-2]
    pub packet_id: Option<PacketId>,
    /// The Topic Alias; ignored by an encoder of 3.x.
    pub topic_alias: Option<NonZeroU16>,
    /// Seconds that the message has left to live; `None`: it does not expire.
    pub message_expiry_interval: Option<u32>,
    /// Which of the receiving client's subscriptions matched.
    pub subscription_identifiers: SubscriptionIdentifiers<'a>,
    /// What is handed on unaltered.
    pub forwarded: Forwarded<'a>,
    /// The Application Message itself; may be empty.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(
        first_byte: u8,
        mut reader: Reader<'a>,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let qos = QoS::new(first_byte >> 1 & 0b11).ok_or(MalformedPacket::Qos)?;
        let dup = first_byte & DUP != 0;
        if dup && qos == QoS::AtMostOnce && version.checks_reserved_bits() {
            return Err(MalformedPacket::DupAtQos0.into());
        }
        let topic = reader.string()?;
        let packet_id = if qos.has_packet_id() { Some(reader.packet_id()?) } else { None };
        let mut publish = Self {
            dup,
            qos,
            retain: first_byte & RETAIN != 0,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: SubscriptionIdentifiers::default(),
            forwarded: Forwarded::default(),
            payload: &[],
        };
        if version.has_properties() {
            publish.decode_properties(&mut reader)?;
        }
        if topic.is_empty() && publish.topic_alias.is_none() {
            return Err(ProtocolError::NoTopic.into()); // §3.3.2.1, [MQTT-4.7.3-1]
        }
        publish.payload = reader.rest();
        Ok(publish)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        let mut is_pure = true;
        let mut is_identified = false;
        let block = decode_properties(reader, PROPERTIES, |property| {
            is_pure &= is_forwarded(&property);
            match property {
                Property::TopicAlias(alias) => self.topic_alias = Some(alias),
                Property::MessageExpiryInterval(seconds) => self.message_expiry_interval = Some(seconds),
                Property::SubscriptionIdentifier(_) => is_identified = true,
                _ => {}
            }
        })?;
        self.forwarded = Forwarded::from_block(block, is_pure);
        if is_identified {
            self.subscription_identifiers = SubscriptionIdentifiers::from_block(block);
        }
        Ok(())
    }

    /// Appends the packet.
    ///
    /// # Panics
    ///
    /// When the packet would be longer than the protocol allows, or `packet_id` does not go with `qos`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let remaining_length = self.remaining_length(version);
        out.reserve(1 + variable_byte_integer_length(remaining_length) + remaining_length);
        out.push(first_byte(self.dup, self.qos, self.retain));
        writer::variable_byte_integer(out, remaining_length);
        writer::string(out, self.topic);
        assert_eq!(self.packet_id.is_some(), self.qos.has_packet_id(), "a Packet Identifier goes with QoS 1 and 2");
        if let Some(packet_id) = self.packet_id {
            out.extend_from_slice(&packet_id.get().to_be_bytes()); // [MQTT-2.2.1-2]
        }
        if version.has_properties() {
            self.encode_properties(out);
        }
        out.extend_from_slice(self.payload);
    }

    /// The size of the whole packet, for a comparison with the receiver's Maximum Packet Size. [MQTT-3.1.2-24]
    ///
    /// Above [`PACKET_BYTES_MAX`](super::PACKET_BYTES_MAX) the packet cannot be encoded.
    #[must_use]
    pub fn encoded_length(&self, version: ProtocolVersion) -> usize {
        let remaining_length = self.remaining_length(version);
        1 + variable_byte_integer_length(remaining_length) + remaining_length
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        writer::variable_byte_integer(out, self.properties_length());
        if let Some(seconds) = self.message_expiry_interval {
            Property::MessageExpiryInterval(seconds).encode(out);
        }
        if let Some(alias) = self.topic_alias {
            Property::TopicAlias(alias).encode(out);
        }
        for identifier in self.subscription_identifiers.iter() {
            Property::SubscriptionIdentifier(identifier).encode(out); // [MQTT-3.3.4-3]
        }
        self.forwarded.write_to(out);
    }

    fn remaining_length(&self, version: ProtocolVersion) -> usize {
        let packet_id = if self.packet_id.is_some() { 2 } else { 0 };
        let properties = if version.has_properties() {
            let length = self.properties_length();
            variable_byte_integer_length(length) + length
        } else {
            0
        };
        2 + self.topic.len() + packet_id + properties + self.payload.len()
    }

    /// Length of the property block without the length in front of it.
    fn properties_length(&self) -> usize {
        let expiry = if self.message_expiry_interval.is_some() { 5 } else { 0 };
        let alias = if self.topic_alias.is_some() { 3 } else { 0 };
        let identifiers = if self.subscription_identifiers.is_empty() {
            0
        } else {
            self.subscription_identifiers.iter().map(|id| 1 + variable_byte_integer_length(id as usize)).sum()
        };
        expiry + alias + identifiers + self.forwarded.encoded_length()
    }
}

const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    PacketKind::Publish.first_byte() | (dup as u8) << 3 | qos.as_u8() << 1 | retain as u8
}

/// What a PUBLISH to a subscriber is made of, apart from what differs per subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// Properties as [`Forwarded::write_to`] gave them; 3.x leaves them out.
    pub forwarded: &'a [u8],
    /// The Application Message.
    pub payload: &'a [u8],
    /// Seconds that the message has left to live, counted down while it waited here. [MQTT-3.3.2-6]
    pub message_expiry_interval: Option<u32>,
}

/// What differs between the PUBLISHes that carry one message to its subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Whether this is a repetition. [MQTT-3.3.1-1]
    pub dup: bool,
    /// The level of this delivery.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// Present exactly if `qos` is above 0. [MQTT-2.2.1-2]
    pub packet_id: Option<PacketId>,
    /// The alias, and whether the Topic Name is sent beside it to (re)define it. Without effect on 3.x.
    pub topic_alias: Option<(NonZeroU16, bool)>,
    /// The identifiers of the client's subscriptions that matched.
    pub subscription_identifiers: &'a [u32],
}

impl<'a> Outgoing<'a> {
    fn publish(&self, version: ProtocolVersion, delivery: &Delivery<'a>) -> Publish<'a> {
        let topic_alias = if version.has_properties() { delivery.topic_alias } else { None };
        let sends_topic = topic_alias.is_none_or(|(_, sends_topic)| sends_topic);
        Publish {
            dup: delivery.dup,
            qos: delivery.qos,
            retain: delivery.retain,
            topic: if sends_topic { self.topic } else { "" },
            packet_id: delivery.packet_id,
            topic_alias: topic_alias.map(|(alias, _)| alias),
            message_expiry_interval: self.message_expiry_interval,
            subscription_identifiers: SubscriptionIdentifiers::from_slice(delivery.subscription_identifiers),
            forwarded: Forwarded::from_encoded(self.forwarded),
            payload: self.payload,
        }
    }
}

/// Appends the PUBLISH that carries `message` to one subscriber.
///
/// # Panics
///
/// As [`Publish::encode`]; [`publish_length`] tells beforehand.
pub fn encode_publish(version: ProtocolVersion, message: &Outgoing<'_>, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
    message.publish(version, delivery).encode(version, out);
}

/// The size of the packet that [`encode_publish`] appends; see [`Publish::encoded_length`].
#[must_use]
pub fn publish_length(version: ProtocolVersion, message: &Outgoing<'_>, delivery: &Delivery<'_>) -> usize {
    message.publish(version, delivery).encoded_length(version)
}

/// A PUBLISH encoded once for many subscribers: for each, only the first byte and the Packet Identifier are patched.
///
/// It has neither Topic Alias nor Subscription Identifiers; subscribers that need those take [`encode_publish`].
#[derive(Clone, Debug)]
pub struct PublishTemplate {
    packet: Vec<u8>,
    /// Where the Packet Identifier stands; `None` at QoS 0.
    packet_id_at: Option<usize>,
}

impl PublishTemplate {
    /// Encodes `message` into `buffer`, whose old content is dropped and whose capacity is used again.
    ///
    /// # Panics
    ///
    /// As [`Publish::encode`].
    #[must_use]
    pub fn encode(version: ProtocolVersion, has_packet_id: bool, message: &Outgoing<'_>, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let placeholder = has_packet_id.then_some(PacketId::from(NonZeroU16::MAX));
        let delivery = Delivery {
            dup: false,
            qos: if has_packet_id { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            retain: false,
            packet_id: placeholder,
            topic_alias: None,
            subscription_identifiers: &[],
        };
        let publish = message.publish(version, &delivery);
        publish.encode(version, &mut buffer);
        let header_length = 1 + variable_byte_integer_length(publish.remaining_length(version));
        let packet_id_at = placeholder.map(|_| header_length + 2 + message.topic.len());
        Self { packet: buffer, packet_id_at }
    }

    /// Appends the packet for one subscriber.
    ///
    /// # Panics
    ///
    /// When `packet_id` or `qos` does not go with the `has_packet_id` that the template was encoded for.
    #[inline]
    pub fn append(&self, dup: bool, qos: QoS, retain: bool, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
        assert_eq!(qos.has_packet_id(), self.packet_id_at.is_some(), "the template is of the other QoS class");
        let start = out.len();
        out.extend_from_slice(&self.packet);
        out[start] = first_byte(dup, qos, retain);
        match (self.packet_id_at, packet_id) {
            (None, None) => {}
            (Some(at), Some(packet_id)) => {
                out[start + at..start + at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
            }
            _ => panic!("a Packet Identifier goes with QoS 1 and 2"),
        }
    }

    /// The size of the packet, for a comparison with the receiver's Maximum Packet Size. [MQTT-3.1.2-24]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub const fn len(&self) -> usize {
        self.packet.len()
    }

    /// Gives the buffer back, to encode the next template into.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.packet
    }
}

#[cfg(test)]
mod tests {
    use super::{super::decode, *};
    use crate::codec::Packet;

    const V3: ProtocolVersion = ProtocolVersion::V3_1_1;
    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn message() -> Outgoing<'static> {
        // A Content Type.
        let forwarded = &[0x03, 0, 1, b't'];
        Outgoing { topic: "a/b", forwarded, payload: b"hello", message_expiry_interval: Some(60) }
    }

    fn delivery(qos: QoS, packet_id: Option<u16>) -> Delivery<'static> {
        Delivery {
            dup: false,
            qos,
            retain: true,
            packet_id: packet_id.and_then(PacketId::new),
            topic_alias: None,
            subscription_identifiers: &[],
        }
    }

    fn decoded(bytes: &[u8], version: ProtocolVersion) -> Publish<'_> {
        match decode(bytes, version) {
            Ok(Packet::Publish(publish)) => publish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mqtt_3_3_1_4_qos_3_is_malformed() {
        assert_eq!(decode(&[0x36, 5, 0, 1, b'a', 0, 1], V3), Err(MalformedPacket::Qos.into()));
    }

    #[test]
    fn mqtt_3_3_1_2_dup_is_not_set_at_qos_0() {
        assert_eq!(decode(&[0x38, 3, 0, 1, b'a'], V3), Err(MalformedPacket::DupAtQos0.into()));
    }

    #[test]
    fn mqtt_2_2_1_3_packet_id_is_not_0() {
        assert_eq!(decode(&[0x32, 5, 0, 1, b'a', 0, 0], V3), Err(ProtocolError::PacketIdZero.into()));
    }

    #[test]
    fn mqtt_2_2_1_2_qos_0_has_no_packet_id() {
        let publish = decoded(&[0x30, 5, 0, 1, b'a', 0, 7], V3);
        assert_eq!((publish.packet_id, publish.payload), (None, &[0, 7][..]));
    }

    #[test]
    fn an_empty_topic_needs_an_alias() {
        assert_eq!(decode(&[0x30, 3, 0, 0, 0], V5), Err(ProtocolError::NoTopic.into()));
        assert_eq!(decode(&[0x30, 2, 0, 0], V3), Err(ProtocolError::NoTopic.into()));
        let publish = decoded(&[0x30, 6, 0, 0, 3, 0x23, 0, 9], V5);
        assert_eq!((publish.topic, publish.topic_alias), ("", NonZeroU16::new(9)));
    }

    #[test]
    fn properties_of_other_packets_are_malformed() {
        let expected = MalformedPacket::MisplacedProperty(PropertyId::ReasonString);
        assert_eq!(decode(&[0x30, 7, 0, 1, b'a', 3, 0x1F, 0, 0], V5), Err(expected.into()));
    }

    #[test]
    fn subscription_identifiers_may_repeat_and_are_kept_out_of_what_is_forwarded() {
        let packet = [0x30, 12, 0, 1, b'a', 8, 0x0B, 5, 0x01, 1, 0x0B, 0x80, 0x01, 0x0B];
        assert_eq!(decode(&packet, V5), Err(MalformedPacket::Truncated.into()));
        let packet = [0x30, 11, 0, 1, b'a', 7, 0x0B, 5, 0x01, 1, 0x0B, 0x80, 0x01];
        let publish = decoded(&packet, V5);
        assert_eq!(publish.subscription_identifiers, SubscriptionIdentifiers::from_slice(&[5, 128]));
        assert_eq!(publish.forwarded, Forwarded::from_encoded(&[0x01, 1]));
        assert_eq!(publish.forwarded.as_bytes(), None);
    }

    #[test]
    fn a_block_that_is_forwarded_whole_is_not_copied() {
        let packet = [0x30, 8, 0, 1, b'a', 4, 0x03, 0, 1, b't'];
        let bytes = decoded(&packet, V5).forwarded.as_bytes().unwrap();
        assert_eq!(bytes.as_ptr(), packet[6..].as_ptr());
    }

    #[test]
    fn template_and_encoder_agree() {
        for version in [ProtocolVersion::V3_1, V3, V5] {
            for (qos, packet_id) in
                [(QoS::AtMostOnce, None), (QoS::AtLeastOnce, Some(1)), (QoS::ExactlyOnce, Some(500))]
            {
                let delivery = delivery(qos, packet_id);
                let mut expected = vec![0xEE];
                encode_publish(version, &message(), &delivery, &mut expected);
                let template = PublishTemplate::encode(version, packet_id.is_some(), &message(), vec![1, 2, 3]);
                let mut out = vec![0xEE];
                template.append(delivery.dup, qos, delivery.retain, delivery.packet_id, &mut out);
                assert_eq!(out, expected);
                assert_eq!(template.len(), publish_length(version, &message(), &delivery));
                assert_eq!(template.len() + 1, out.len());
            }
        }
    }

    #[test]
    fn an_alias_replaces_the_topic_or_stands_beside_it() {
        let alias = NonZeroU16::new(3).unwrap();
        for (sends_topic, topic) in [(true, "a/b"), (false, "")] {
            let delivery = Delivery { topic_alias: Some((alias, sends_topic)), ..delivery(QoS::AtMostOnce, None) };
            let mut out = Vec::new();
            encode_publish(V5, &message(), &delivery, &mut out);
            assert_eq!(out.len(), publish_length(V5, &message(), &delivery));
            assert_eq!((decoded(&out, V5).topic, decoded(&out, V5).topic_alias), (topic, Some(alias)));
            out.clear();
            encode_publish(V3, &message(), &delivery, &mut out);
            assert_eq!(decoded(&out, V3).topic, "a/b");
        }
    }
}
