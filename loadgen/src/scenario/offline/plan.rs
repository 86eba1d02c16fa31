//! Who publishes what to whom.
//!
//! A *stream* is what one publisher sends to one topic: its messages are numbered from 0, and arrive in that order. With
//! as many publishers as subscribers each pair has one; otherwise the smaller side takes turns.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use willowmq::codec::QoS;

use crate::engine::{Fleet, Index};
use crate::options::{Identity, Version};

/// How long a Session may outlive its connection, in seconds: time to restart a broker, and to look into it.
const SESSION_EXPIRY_S: u32 = 3600;

/// To whom messages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Each to one subscriber.
    Pairs,
    /// Each to all subscribers.
    FanOut,
}

/// Who publishes what to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    /// The level of publishes and subscriptions: 1 or 2.
    pub(super) qos: u8,
    pub(super) payload_bytes: usize,
    pub(super) mqtt: Version,
    /// Beginning of the Client Identifiers.
    pub(super) client_prefix: String,
    /// First levels of the topics.
    pub(super) topic_prefix: String,
}

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its Session outlives the connection.
    Stay,
    /// Its Session ends with the connection, and so does an older one.
    Leave,
}

impl Plan {
    /// The level of publishes and subscriptions.
    pub(super) fn qos(&self) -> QoS {
        if self.qos == 2 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }
    }

    /// How many clients there are: subscribers, then publishers.
    pub(super) fn clients(&self) -> usize {
        self.subscribers + self.publishers
    }

    /// Begins to connect `client`.
    pub(super) fn open(&self, fleet: &mut Fleet, client: Index, identity: &Identity, purpose: Purpose) {
        let id = format!("{}{client}", self.client_prefix);
        let mut connect = identity.connect(&id);
        if purpose == Purpose::Stay {
            connect.clean_start = false;
            connect.session_expiry_interval = SESSION_EXPIRY_S;
        }
        fleet.open(client, &connect);
    }

    /// How many streams there are.
    pub(super) fn streams(&self) -> usize {
        match self.shape {
            Shape::Pairs => self.publishers.max(self.subscribers),
            Shape::FanOut => self.publishers,
        }
    }

    /// Who publishes a stream.
    pub(super) fn publisher(&self, stream: usize) -> usize {
        stream % self.publishers
    }

    /// Who receives a stream; `None` for everybody.
    pub(super) fn subscriber(&self, stream: usize) -> Option<usize> {
        (self.shape == Shape::Pairs).then(|| stream % self.subscribers)
    }

    /// The streams that `subscriber` receives.
    pub(super) fn streams_of(&self, subscriber: usize) -> impl Iterator<Item = usize> {
        let (first, step) = match self.shape {
            Shape::Pairs => (subscriber, self.subscribers),
            Shape::FanOut => (0, 1),
        };
        (first..self.streams()).step_by(step)
    }

    /// The topic that `subscriber` subscribes to.
    pub(super) fn topic_of(&self, subscriber: usize) -> String {
        match self.shape {
            Shape::Pairs => format!("{}/{subscriber}", self.topic_prefix),
            Shape::FanOut => format!("{}/all", self.topic_prefix),
        }
    }

    /// The topic of a stream.
    pub(super) fn topic(&self, stream: usize) -> String {
        self.topic_of(self.subscriber(stream).unwrap_or(0))
    }

    /// How many of `messages` belong to a stream: as many for each subscriber, give or take one.
    pub(super) fn quota(&self, stream: usize, messages: u64) -> u64 {
        match self.subscriber(stream) {
            None => share(messages, self.publishers, stream),
            Some(subscriber) => {
                let of_subscriber = share(messages, self.subscribers, subscriber);
                share(of_subscriber, self.streams_of(subscriber).count(), stream / self.subscribers)
            }
        }
    }

    /// What `client` is, for people.
    pub(super) fn who(&self, client: Index) -> String {
        match client.checked_sub(self.subscribers) {
            None => format!("subscriber {client}"),
            Some(publisher) => format!("publisher {publisher}"),
        }
    }
}

/// What number `part` of so many `parts` gets of `total`.
fn share(total: u64, parts: usize, part: usize) -> u64 {
    (total + (parts - 1 - part) as u64) / parts as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan with so many publishers and subscribers.
    pub(in super::super) fn plan(shape: Shape, publishers: usize, subscribers: usize) -> Plan {
        let [client_prefix, topic_prefix] = ["c-", "t"].map(String::from);
        let mqtt = Version::V5;
        Plan { shape, publishers, subscribers, qos: 1, payload_bytes: 100, mqtt, client_prefix, topic_prefix }
    }

    #[test]
    fn every_subscriber_gets_its_share_of_the_messages_from_streams_of_its_own() {
        for (publishers, subscribers) in [(1, 1), (3, 2), (2, 3), (7, 7), (10, 4), (4, 10), (1, 9), (9, 1)] {
            let plan = plan(Shape::Pairs, publishers, subscribers);
            let mut streams = vec![0; plan.streams()];
            for subscriber in 0..subscribers {
                plan.streams_of(subscriber).for_each(|stream| streams[stream] += 1);
                assert!(plan.streams_of(subscriber).all(|stream| plan.subscriber(stream) == Some(subscriber)));
                for messages in [1, 1000 * subscribers as u64, 1000 * subscribers as u64 - 1] {
                    let quotas = plan.streams_of(subscriber).map(|stream| plan.quota(stream, messages));
                    assert!(quotas.sum::<u64>() <= 1000, "{publishers} to {subscribers}");
                    let all = (0..plan.streams()).map(|stream| plan.quota(stream, messages));
                    assert_eq!(all.sum::<u64>(), messages);
                }
            }
            assert!(streams.iter().all(|receivers| *receivers == 1));
            let is_busy = |publisher| (0..plan.streams()).any(|stream| plan.publisher(stream) == publisher);
            assert!((0..publishers).all(is_busy));
        }
    }

    #[test]
    fn everybody_gets_all_streams_of_a_fan_out() {
        let plan = plan(Shape::FanOut, 3, 5);
        assert!((0..5).all(|subscriber| plan.streams_of(subscriber).eq(0..3)));
        assert_eq!((0..3).map(|stream| plan.quota(stream, 1000)).collect::<Vec<_>>(), [334, 333, 333]);
        assert_eq!(plan.topic(2), plan.topic_of(4));
    }
}
