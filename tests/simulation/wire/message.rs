//! Application Messages and wills as the stories write them down, and as clients see them arrive.

use std::time::Duration;
use willowmq::codec::{Forwarded, ForwardedBuilder, PacketId, QoS};

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

pub(crate) fn qos(level: u8) -> QoS {
    QoS::new(level).expect("a story names a QoS that exists")
}

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<u32>,
    /// Encoded properties that the server passes on.
    pub(crate) forwarded: Vec<u8>,
}

/// A message of QoS 0 that is not retained.
pub(crate) fn message(topic: &str, payload: &str) -> Message {
    Message {
        topic: topic.into(),
        payload: payload.into(),
        qos: QoS::AtMostOnce,
        retain: false,
        expiry: None,
        forwarded: Vec::new(),
    }
}

impl Message {
    pub(crate) fn qos(mut self, level: u8) -> Self {
        self.qos = qos(level);
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn expires_in(mut self, after: Duration) -> Self {
        self.expiry = Some(after.as_secs() as u32);
        self
    }

    pub(crate) fn properties(mut self, build: impl FnOnce(ForwardedBuilder) -> ForwardedBuilder) -> Self {
        self.forwarded = build(ForwardedBuilder::new()).into_bytes();
        self
    }

    pub(crate) fn forwarded(&self) -> Forwarded<'_> {
        Forwarded::from_encoded(&self.forwarded)
    }
}

/// A Will Message to connect with.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Message,
    pub(crate) delay: u32,
}

impl Will {
    /// A will of QoS 0, not retained, without delay.
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self { message: message(topic, payload), delay: 0 }
    }

    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay.as_secs() as u32;
        self
    }

    pub(crate) fn qos(mut self, level: u8) -> Self {
        self.message = self.message.qos(level);
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.message = self.message.retain();
        self
    }

    pub(crate) fn expires_in(mut self, after: Duration) -> Self {
        self.message = self.message.expires_in(after);
        self
    }

    pub(crate) fn properties(mut self, build: impl FnOnce(ForwardedBuilder) -> ForwardedBuilder) -> Self {
        self.message = self.message.properties(build);
        self
    }
}

/// A PUBLISH that reached a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) expiry: Option<u32>,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) forwarded: Vec<u8>,
    /// A QoS 2 message whose Packet Identifier the client holds already: it must not use it again. [MQTT-4.3.3-10]
    pub(crate) is_repeated: bool,
}

impl Received {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub(crate) fn properties(&self) -> Forwarded<'_> {
        Forwarded::from_encoded(&self.forwarded)
    }
}
