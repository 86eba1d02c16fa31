//! What the broker publishes itself: for an operator, or about itself and its clients. No Session stands behind it.
//!
//! A *volatile* message tells of what is so in this process. It is delivered like any other, and where it is retained it is stored like
//! any other, but in memory alone: neither journal nor checkpoint has it, and after a restart it is not there. What a Session that is kept
//! is sent of it with QoS 1 or 2 is in the journal all the same, as that of any publication is: it was promised to that client.

use super::Shard;
use super::deliver::Publishing;
use super::peer::PeerMessage;
use crate::codec::{Forwarded, Outgoing, QoS, ReasonCode};
use crate::session::message::{self, Author, Kind, Message, Parts, Publication};
use crate::timer::Moment;
use crate::topic::TopicName;
use std::sync::Arc;

/// A message that the broker publishes itself.
#[derive(Debug, Clone, Copy)]
pub struct Announcement<'a> {
    /// Its topic, which may be one that only the server publishes to. [MQTT-4.7.2-1]
    pub topic: TopicName<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The properties that travel with it.
    pub forwarded: Forwarded<'a>,
    /// How it is published; each subscriber gets it with its own QoS at most.
    pub qos: QoS,
    /// Whether it is retained. An empty payload removes what is.
    pub retain: bool,
    /// In seconds. (§3.3.2.3.3)
    pub message_expiry_interval: Option<u32>,
    /// It ends with this process.
    pub is_volatile: bool,
}

impl<'a> Announcement<'a> {
    /// A volatile message of QoS 0 that is retained.
    pub fn volatile(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Self {
            topic,
            payload,
            forwarded: Forwarded::default(),
            qos: QoS::AtMostOnce,
            retain: true,
            message_expiry_interval: None,
            is_volatile: true,
        }
    }
}

impl Shard {
    /// Publishes a message that comes from no client, on whichever shard this is; whether anybody subscribes to it.
    ///
    /// Where retained messages are switched off, it is not retained. Whether it is larger than clients may send is not looked at.
    ///
    /// # Errors
    /// [`ReasonCode::QuotaExceeded`] where it must be written down and the journal cannot be.
    pub fn publish_as_broker(&mut self, now: Moment, announcement: &Announcement<'_>) -> Result<bool, ReasonCode> {
        let matched = self.announce(now, announcement);
        self.journal.end_step();
        matched
    }

    /// The same within a step that goes on.
    pub(super) fn announce(&mut self, now: Moment, announcement: &Announcement<'_>) -> Result<bool, ReasonCode> {
        let Announcement { topic, qos, .. } = *announcement;
        let retain = announcement.retain && self.config.features.retain;
        let is_recorded = retain && !announcement.is_volatile;
        if self.journal.is_failing() && self.needs_journal(false, topic, qos, is_recorded) {
            self.stats.refused_by_journal += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        let mut filtered = Vec::new();
        let mut publishing = Publishing { retain, ..publishing(now, announcement, &mut filtered) };
        Ok(self.route(now, &mut publishing, None).matched)
    }

    /// Removes a retained message of the broker's own. Nobody is told: who is there knows by what was published before.
    pub(super) fn withdraw(&mut self, now: Moment, topic: TopicName<'_>) {
        let parts = Parts { topic: topic.as_str(), forwarded: Forwarded::default(), payload: &[] };
        let mut message = Message::new(parts, QoS::AtMostOnce, true, Kind::Volatile);
        message.publication = self.next_publication();
        let (message, store) = (Arc::new(message), self.retained_home(topic.as_str()));
        if store == self.id {
            self.store_retained(now, message, None);
        } else {
            self.peers.send(store, PeerMessage::Publish { message, deliver: false, store: true, under: None });
        }
    }
}

/// An announcement on its way. `filtered` has room for its properties, where these are not in one piece.
pub(super) fn publishing<'a>(
    now: Moment,
    announcement: &Announcement<'a>,
    filtered: &'a mut Vec<u8>,
) -> Publishing<'a> {
    let Announcement { topic, payload, forwarded, qos, retain, message_expiry_interval, is_volatile } = *announcement;
    let forwarded = match forwarded.as_bytes() {
        Some(bytes) => bytes,
        None => {
            forwarded.write_to(filtered);
            filtered
        }
    };
    Publishing {
        topic,
        outgoing: Outgoing { topic: topic.as_str(), forwarded, payload, message_expiry_interval },
        qos,
        retain,
        kind: if is_volatile { Kind::Volatile } else { Kind::Ordinary },
        expires: message::expiry(now, message_expiry_interval),
        author: Author::default(),
        publication: Publication::default(),
        shared: None,
        is_atomic: false,
        under: None,
    }
}
