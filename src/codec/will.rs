//! The Will Message inside a CONNECT (§3.1.2.5, §3.1.3.2 to §3.1.3.4).

use super::{
    DecodeError, Forwarded, ProtocolVersion, QoS,
    forwarded::is_forwarded,
    properties::{Accepted, Property, PropertyId, decode_properties},
    reader::Reader,
    writer,
};

const PROPERTIES: Accepted = Accepted::once(&[
    PropertyId::WillDelayInterval,
    PropertyId::PayloadFormatIndicator,
    PropertyId::MessageExpiryInterval,
    PropertyId::ContentType,
    PropertyId::ResponseTopic,
    PropertyId::CorrelationData,
]);

/// The message that the server publishes when the client is gone without taking leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The Topic Name, only known to be UTF-8.
    pub topic: &'a str,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The level at which it is published.
    pub qos: QoS,
    /// Whether it is kept.
    pub retain: bool,
    /// Seconds between the end of the connection and the publication; 0 when absent.
    pub will_delay_interval: u32,
    /// Seconds that the message lives from its publication on; `None`: it does not expire.
    pub message_expiry_interval: Option<u32>,
    /// What is handed on unaltered.
    pub forwarded: Forwarded<'a>,
}

impl<'a> Will<'a> {
    /// Reads the fields of the payload of a CONNECT; `qos` and `retain` come from the Connect Flags.
    pub(super) fn decode(
        reader: &mut Reader<'a>,
        version: ProtocolVersion,
        qos: QoS,
        retain: bool,
    ) -> Result<Self, DecodeError> {
        let mut will_delay_interval = 0;
        let mut message_expiry_interval = None;
        let mut forwarded = Forwarded::default();
        if version.has_properties() {
            let mut is_pure = true;
            let block = decode_properties(reader, PROPERTIES, |property| {
                is_pure &= is_forwarded(&property);
                match property {
                    Property::WillDelayInterval(seconds) => will_delay_interval = seconds,
                    Property::MessageExpiryInterval(seconds) => message_expiry_interval = Some(seconds),
                    _ => {}
                }
            })?;
            forwarded = Forwarded::from_block(block, is_pure);
        }
        let topic = reader.string()?;
        let payload = reader.binary()?;
        Ok(Self { topic, payload, qos, retain, will_delay_interval, message_expiry_interval, forwarded })
    }

    pub(super) fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if version.has_properties() {
            writer::with_length(out, |out| {
                if self.will_delay_interval != 0 {
                    Property::WillDelayInterval(self.will_delay_interval).encode(out);
                }
                if let Some(seconds) = self.message_expiry_interval {
                    Property::MessageExpiryInterval(seconds).encode(out);
                }
                self.forwarded.write_to(out);
            });
        }
        writer::string(out, self.topic);
        writer::binary(out, self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{MalformedPacket, ProtocolError};

    fn decode_v5(bytes: &[u8]) -> Result<Will<'_>, DecodeError> {
        Will::decode(&mut Reader::new(bytes), ProtocolVersion::V5, QoS::AtMostOnce, false)
    }

    #[test]
    fn the_delay_is_not_forwarded() {
        let bytes = [9, 0x18, 0, 0, 0, 5, 0x03, 0, 1, b't', 0, 1, b'w', 0, 1, b'!'];
        let will = decode_v5(&bytes).unwrap();
        assert_eq!((will.topic, will.payload, will.will_delay_interval), ("w", &b"!"[..], 5));
        assert_eq!(will.forwarded, Forwarded::from_encoded(&[0x03, 0, 1, b't']));
    }

    #[test]
    fn a_will_has_no_topic_alias() {
        let expected = MalformedPacket::MisplacedProperty(PropertyId::TopicAlias);
        assert_eq!(decode_v5(&[3, 0x23, 0, 1, 0, 1, b'w', 0, 0]), Err(expected.into()));
    }

    #[test]
    fn the_delay_occurs_once() {
        let expected = ProtocolError::DuplicateProperty(PropertyId::WillDelayInterval);
        let bytes = [10, 0x18, 0, 0, 0, 5, 0x18, 0, 0, 0, 5, 0, 1, b'w', 0, 0];
        assert_eq!(decode_v5(&bytes), Err(expected.into()));
    }
}
