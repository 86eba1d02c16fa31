//! What one client may make the broker hold or do.

use super::queue::Load;
use crate::topic::TopicName;
use std::time::Duration;

/// The bounds in force for the clients of one listener, or for some users among them. Made once and shared by all whom they concern.
///
/// The fields are as the keys of the same names in `[limits]` and `[sessions]` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Largest packet that the client may send.
    pub packet_bytes_max: usize,
    /// PUBLISH packets a second.
    pub publish_rate_max: Option<u32>,
    /// Bytes of PUBLISH packets a second.
    pub publish_bytes_rate_max: Option<usize>,
    /// Most levels of a Topic Name or Topic Filter.
    pub topic_levels_max: u16,
    /// Longest Topic Name or Topic Filter.
    pub topic_bytes_max: u16,
    /// Most Subscriptions of the Session.
    pub subscriptions_per_session_max: u32,
    /// The Receive Maximum that the client is told.
    pub receive_maximum: u16,
    /// Messages in flight towards the client.
    pub inflight_max: u16,
    /// Longest Keep Alive, in seconds.
    pub keep_alive_max: u16,
    /// Output that may wait for the connection.
    pub output_bytes_max: usize,
    /// Whether a client whose output is at that is disconnected.
    pub disconnects_slow_reader: bool,
    /// What may wait in the Session's queue.
    pub queue: Load,
    /// Longest Session Expiry Interval.
    pub session_expiry_max: Option<Duration>,
    /// Topics on which the Session may have a Retained Message stored.
    pub retained_messages_max: Option<u32>,
    /// Topic Aliases that the client may use.
    pub topic_alias_maximum: u16,
    /// Highest QoS of its publications and Subscriptions.
    pub maximum_qos: u8,
    /// Whether it may publish retained messages, and is sent them.
    pub retain: bool,
    /// Whether it may subscribe with wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether it may have Shared Subscriptions.
    pub shared_subscriptions: bool,
    /// Whether it may use Subscription Identifiers.
    pub subscription_identifiers: bool,
}

impl Bounds {
    /// These bounds, for a client that was let in under `old` ones: what CONNACK told it (§3.2.2.3) holds as long as its connection does.
    pub fn renewed(&self, old: &Self) -> Self {
        Self {
            packet_bytes_max: old.packet_bytes_max,
            receive_maximum: old.receive_maximum,
            keep_alive_max: old.keep_alive_max,
            session_expiry_max: old.session_expiry_max,
            topic_alias_maximum: old.topic_alias_maximum,
            maximum_qos: old.maximum_qos,
            retain: old.retain,
            wildcard_subscriptions: old.wildcard_subscriptions,
            shared_subscriptions: old.shared_subscriptions,
            subscription_identifiers: old.subscription_identifiers,
            ..self.clone()
        }
    }

    /// Whether one may publish as fast as under `other`.
    pub fn has_rate_of(&self, other: &Self) -> bool {
        let rate = |bounds: &Self| (bounds.publish_rate_max, bounds.publish_bytes_rate_max);
        rate(self) == rate(other)
    }

    /// Whether a Topic Name is no longer and no deeper than allowed.
    pub fn admit_topic(&self, topic: TopicName<'_>) -> bool {
        topic.as_str().len() <= usize::from(self.topic_bytes_max)
            && topic.levels().count() <= usize::from(self.topic_levels_max)
    }
}
