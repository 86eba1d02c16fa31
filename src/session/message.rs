//! Application Messages as the broker keeps them.

use crate::codec::{Forwarded, Outgoing, QoS};
use crate::timer::Moment;
use std::sync::Arc;
use std::time::Duration;

/// Which publication a message is, across all shards: the publications of one shard are numbered in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Publication {
    /// Index of the shard it was published on.
    pub shard: u8,
    /// Its number there.
    pub sequence: u64,
}

/// What tells a will from another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Published by a PUBLISH packet.
    Ordinary,
    /// A Will Message.
    Will,
    /// Published by the broker about itself. As a retained message it is in memory alone, and not counted with those of clients.
    Volatile,
}

/// An Application Message, shared by all that wait to receive it.
///
/// Topic Name, forwarded properties and payload lie in one allocation, in the order in which a 5.0 PUBLISH carries them.
#[derive(Debug, Clone)]
pub struct Message {
    body: Box<[u8]>,
    topic_bytes: u16,
    forwarded_bytes: u32,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// Ordinary, or a will.
    pub kind: Kind,
    /// When it expires; `None`: never. (§3.3.2.3.3)
    pub expires: Option<Moment>,
    /// Which publication it is.
    pub publication: Publication,
    /// The Network Connection whose client published it; orders a will against later messages of the same client.
    pub author: Author,
}

/// Who published a message: a hash of the Client Identifier and the number of the Network Connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Author {
    /// Keyed hash of the Client Identifier.
    pub client: u64,
    /// Counts the Network Connections of this client's home shard.
    pub connection: u64,
}

/// The parts of a message that are about to become one allocation.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// The properties that travel with it.
    pub forwarded: Forwarded<'a>,
    /// The Application Message itself.
    pub payload: &'a [u8],
}

impl Message {
    /// A message that never expires, by nobody in particular.
    pub fn new(parts: Parts<'_>, qos: QoS, retain: bool, kind: Kind) -> Self {
        let mut body = Vec::with_capacity(parts.topic.len() + parts.payload.len() + 32);
        body.extend_from_slice(parts.topic.as_bytes());
        parts.forwarded.write_to(&mut body);
        let forwarded_bytes = (body.len() - parts.topic.len()) as u32;
        body.extend_from_slice(parts.payload);
        Self {
            body: body.into_boxed_slice(),
            topic_bytes: parts.topic.len() as u16,
            forwarded_bytes,
            qos,
            retain,
            kind,
            expires: None,
            publication: Publication::default(),
            author: Author::default(),
        }
    }

    /// The Topic Name.
    pub fn topic(&self) -> &str {
        std::str::from_utf8(&self.body[..usize::from(self.topic_bytes)]).expect("the body begins with a str")
    }

    /// The properties that travel with the message, encoded.
    pub fn forwarded(&self) -> &[u8] {
        let start = usize::from(self.topic_bytes);
        &self.body[start..start + self.forwarded_bytes as usize]
    }

    /// The Application Message.
    pub fn payload(&self) -> &[u8] {
        &self.body[usize::from(self.topic_bytes) + self.forwarded_bytes as usize..]
    }

    /// Bytes it holds in memory.
    pub fn size(&self) -> usize {
        self.body.len() + size_of::<Self>()
    }

    /// Whether it may no longer be delivered. (§3.3.2.3.3)
    pub fn is_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// What goes to a subscriber now; the expiry interval is what remains of it. [MQTT-3.3.2-6]
    pub fn outgoing(&self, now: Moment) -> Outgoing<'_> {
        Outgoing {
            topic: self.topic(),
            forwarded: self.forwarded(),
            payload: self.payload(),
            message_expiry_interval: self.expires.map(|expires| remaining_seconds(now, expires)),
        }
    }
}

/// Whole seconds from `now` to `expires`, rounded up: a message that has not expired never claims zero.
pub fn remaining_seconds(now: Moment, expires: Moment) -> u32 {
    let left = expires.duration_since(now);
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    seconds.min(u64::from(u32::MAX)) as u32
}

/// The moment at which a message published at `now` expires.
pub fn expiry(now: Moment, interval: Option<u32>) -> Option<Moment> {
    interval.map(|seconds| now + Duration::from_secs(u64::from(seconds)))
}

/// The Subscription Identifiers of one delivery: seldom more than one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SubscriptionIds {
    /// None of the matching subscriptions has one.
    #[default]
    None,
    /// One.
    One([u32; 1]),
    /// Several. [MQTT-3.3.4-4]
    Many(Box<[u32]>),
}

impl SubscriptionIds {
    /// The identifiers as a slice.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

impl From<&[u32]> for SubscriptionIds {
    fn from(ids: &[u32]) -> Self {
        match ids {
            [] => Self::None,
            [one] => Self::One([*one]),
            many => Self::Many(many.into()),
        }
    }
}

/// A message on its way to one Session.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What is delivered.
    pub message: Arc<Message>,
    /// The QoS of this delivery, 1 or 2 where it waits in a queue.
    pub qos: QoS,
    /// The RETAIN flag of this delivery. [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    pub retain: bool,
    /// The Subscription Identifiers that go with it.
    pub subscription_ids: SubscriptionIds,
    /// The Shared Subscription it came through: it must return there when the Session ends first.
    pub shared: Option<Arc<SharedKey>>,
}

/// Names one Shared Subscription group.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedKey {
    /// The ShareName.
    pub group: Box<str>,
    /// The Topic Filter.
    pub filter: crate::topic::TopicFilter,
}
