//! Retained messages: browsed by filter, one with all that it holds, and removed.

use super::{Outcome, Page};
use crate::codec::{Forwarded, QoS};
use crate::session::message::{Kind, Message, Parts};
use crate::shard::Shard;
use crate::timer::Moment;
use crate::topic::{Cursor, TopicFilter, TopicName};
use std::sync::Arc;

/// Topics looked at between two looks at how much was found.
const STEP: usize = 64;
/// A page with so many bytes of topics is long enough.
const TOPIC_BYTES: usize = 256 * 1024;

/// A retained message in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedSummary {
    /// Its topic.
    pub topic: Box<str>,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Bytes of its payload.
    pub payload_bytes: usize,
    /// When it expires; `None`: never.
    pub expires: Option<Moment>,
    /// What published it.
    pub kind: Kind,
}

impl RetainedSummary {
    fn of(message: &Message) -> Self {
        Self {
            topic: message.topic().into(),
            qos: message.qos,
            payload_bytes: message.payload().len(),
            expires: message.expires,
            kind: message.kind,
        }
    }
}

impl Shard {
    /// The retained messages of this shard that `filter` matches, as far as they are found among `examine` topics from `cursor` on.
    pub fn retained_page(
        &self,
        now: Moment,
        filter: &TopicFilter,
        cursor: Option<&Cursor>,
        examine: usize,
    ) -> Page<RetainedSummary, Cursor> {
        let mut items: Vec<RetainedSummary> = Vec::new();
        let mut next = cursor.cloned();
        let (mut left, mut bytes) = (examine.max(1), 0);
        while left > 0 && bytes < TOPIC_BYTES {
            let budget = left.min(STEP);
            left -= budget;
            next = self.retained.scan(now, filter, next.as_ref(), budget, |message| {
                bytes += message.topic().len();
                items.push(RetainedSummary::of(message));
            });
            if next.is_none() {
                break;
            }
        }
        Page { items, next }
    }

    /// The retained message of a topic that is at home here.
    pub fn retained_message(&self, now: Moment, topic: &str) -> Option<Arc<Message>> {
        self.retained.get(topic).filter(|message| !message.is_expired(now))
    }

    /// Removes the retained message of a topic that is at home here. Nobody is sent anything about it: who subscribes from now on does not
    /// get it. To tell those who have subscribed, publish an empty one.
    pub fn remove_retained(&mut self, now: Moment, topic: &str) -> Outcome {
        if TopicName::parse(topic).is_err() || self.retained_message(now, topic).is_none() {
            return Outcome::NotFound;
        }
        if self.journal.is_failing() {
            return Outcome::NotNow;
        }
        let parts = Parts { topic, forwarded: Forwarded::default(), payload: &[] };
        let mut removal = Message::new(parts, QoS::AtMostOnce, true, Kind::Ordinary);
        removal.publication = self.next_publication();
        self.store_retained(now, Arc::new(removal), None);
        Outcome::Done(self.receipt())
    }
}
