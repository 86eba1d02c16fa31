//! Publishing on an operator's word.

use super::Receipt;
use crate::codec::{self, Delivery, Forwarded, Outgoing, PacketId, ProtocolVersion, QoS, ReasonCode};
use crate::shard::Shard;
use crate::shard::announce::Announcement;
use crate::timer::Moment;
use crate::topic::TopicName;
use std::fmt;

/// A message that an operator has published.
#[derive(Debug, Clone, Copy)]
pub struct OperatorMessage<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The properties that travel with it.
    pub forwarded: Forwarded<'a>,
    /// How it is published.
    pub qos: QoS,
    /// Whether it is retained. An empty payload removes what is.
    pub retain: bool,
    /// In seconds. (§3.3.2.3.3)
    pub message_expiry_interval: Option<u32>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Somebody subscribes to it.
    pub matched: bool,
    /// Whether what had to be stored is: see [`Shard::is_certain`].
    pub receipt: Receipt,
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRefusal {
    /// What a client would have been told.
    pub reason: ReasonCode,
    /// In a sentence.
    pub detail: &'static str,
}

impl fmt::Display for PublishRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail)
    }
}

impl std::error::Error for PublishRefusal {}

impl PublishRefusal {
    const fn new(reason: ReasonCode, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

impl Shard {
    /// Publishes a message that comes from no client, on whichever shard this is. What limits everybody's messages limits it, too: those
    /// of a listener or of a user do not.
    ///
    /// # Errors
    /// It is not one that a client might publish, or the journal cannot be written and would have to be.
    pub fn publish_for_operator(
        &mut self,
        now: Moment,
        message: &OperatorMessage<'_>,
    ) -> Result<Published, PublishRefusal> {
        let topic = self.check_operator_message(message)?;
        let announcement = Announcement {
            topic,
            payload: message.payload,
            forwarded: message.forwarded,
            qos: message.qos,
            retain: message.retain,
            message_expiry_interval: message.message_expiry_interval,
            is_volatile: false,
        };
        let matched = self.announce(now, &announcement);
        let receipt = self.receipt();
        match matched {
            Ok(matched) => Ok(Published { matched, receipt }),
            Err(reason) => Err(PublishRefusal::new(reason, "the journal cannot be written")),
        }
    }

    fn check_operator_message<'a>(&mut self, message: &OperatorMessage<'a>) -> Result<TopicName<'a>, PublishRefusal> {
        let refuse = |reason, detail| Err(PublishRefusal::new(reason, detail));
        let Ok(topic) = TopicName::parse(message.topic) else {
            return refuse(ReasonCode::TopicNameInvalid, "this is no Topic Name: it is empty, or has a wildcard");
        };
        if topic.is_reserved() {
            return refuse(ReasonCode::NotAuthorized, "topics that begin with $ are the server's own"); // [MQTT-4.7.2-1]
        }
        let bounds = self.bounds.for_everybody();
        if !bounds.admit_topic(topic) {
            return refuse(ReasonCode::TopicNameInvalid, "the Topic Name is longer or deeper than allowed");
        }
        if message.qos as u8 > self.config.limits.maximum_qos {
            return refuse(ReasonCode::QosNotSupported, "the QoS is above limits.maximum_qos");
        }
        if message.retain && !self.config.features.retain {
            return refuse(ReasonCode::RetainNotSupported, "retained messages are off");
        }
        if packet_length(message) > bounds.packet_bytes_max {
            return refuse(ReasonCode::PacketTooLarge, "the message is larger than limits.packet_bytes_max");
        }
        if message.forwarded.response_topic().is_some_and(|response| TopicName::parse(response).is_err()) {
            return refuse(ReasonCode::ProtocolError, "the Response Topic is no Topic Name"); // [MQTT-3.3.2-14]
        }
        if message.forwarded.payload_format_is_utf8() && std::str::from_utf8(message.payload).is_err() {
            return refuse(ReasonCode::PayloadFormatInvalid, "the payload is not UTF-8, as it claims");
        }
        Ok(topic)
    }
}

/// The length of the PUBLISH by which a client would send it.
fn packet_length(message: &OperatorMessage<'_>) -> usize {
    let mut forwarded = Vec::new();
    message.forwarded.write_to(&mut forwarded);
    let outgoing = Outgoing {
        topic: message.topic,
        forwarded: &forwarded,
        payload: message.payload,
        message_expiry_interval: message.message_expiry_interval,
    };
    let delivery = Delivery {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        packet_id: PacketId::new(1).filter(|_| message.qos != QoS::AtMostOnce),
        topic_alias: None,
        subscription_identifiers: &[],
    };
    codec::publish_length(ProtocolVersion::V5, &outgoing, &delivery)
}
