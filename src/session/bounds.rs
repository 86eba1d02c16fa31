//! What one client may make the broker hold or do.

use super::queue::Load;
use crate::config::{ClientLimits, Config, SlowReader};
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
    /// What becomes of a client whose output is at that.
    pub slow_reader: SlowReader,
    /// What may wait in the Session's queue.
    pub queue: Load,
    /// Longest Session Expiry Interval.
    pub session_expiry_max: Option<Duration>,
    /// Topics on which the Session may have a Retained Message stored.
    pub retained_messages_max: Option<u32>,
}

impl Bounds {
    /// Those that hold for everybody.
    pub fn new(config: &Config) -> Self {
        let (limits, sessions) = (&config.limits, &config.sessions);
        Self {
            packet_bytes_max: limits.packet_bytes_max,
            publish_rate_max: limits.publish_rate_max,
            publish_bytes_rate_max: limits.publish_bytes_rate_max,
            topic_levels_max: limits.topic_levels_max,
            topic_bytes_max: limits.topic_bytes_max,
            subscriptions_per_session_max: limits.subscriptions_per_session_max,
            receive_maximum: limits.receive_maximum,
            inflight_max: limits.inflight_max,
            keep_alive_max: limits.keep_alive_max,
            output_bytes_max: limits.output_bytes_max,
            slow_reader: limits.slow_reader,
            queue: Load { messages: sessions.queue_messages_max as usize, bytes: sessions.queue_bytes_max },
            session_expiry_max: sessions.expiry_max,
            retained_messages_max: None,
        }
    }

    /// Whether a Topic Name is no longer and no deeper than allowed.
    pub fn admit_topic(&self, topic: TopicName<'_>) -> bool {
        topic.as_str().len() <= usize::from(self.topic_bytes_max)
            && topic.levels().count() <= usize::from(self.topic_levels_max)
    }

    /// The same, but for what `over` sets.
    #[must_use]
    pub fn with(&self, over: &ClientLimits) -> Self {
        let queue_messages_max = over.queue_messages_max.map(|max| max as usize);
        Self {
            packet_bytes_max: over.packet_bytes_max.unwrap_or(self.packet_bytes_max),
            publish_rate_max: over.publish_rate_max.or(self.publish_rate_max),
            publish_bytes_rate_max: over.publish_bytes_rate_max.or(self.publish_bytes_rate_max),
            topic_levels_max: over.topic_levels_max.unwrap_or(self.topic_levels_max),
            topic_bytes_max: over.topic_bytes_max.unwrap_or(self.topic_bytes_max),
            subscriptions_per_session_max: over
                .subscriptions_per_session_max
                .unwrap_or(self.subscriptions_per_session_max),
            receive_maximum: over.receive_maximum.unwrap_or(self.receive_maximum),
            inflight_max: over.inflight_max.unwrap_or(self.inflight_max),
            keep_alive_max: over.keep_alive_max.unwrap_or(self.keep_alive_max),
            output_bytes_max: over.output_bytes_max.unwrap_or(self.output_bytes_max),
            slow_reader: over.slow_reader.unwrap_or(self.slow_reader),
            queue: Load {
                messages: queue_messages_max.unwrap_or(self.queue.messages),
                bytes: over.queue_bytes_max.unwrap_or(self.queue.bytes),
            },
            session_expiry_max: over.session_expiry_max.or(self.session_expiry_max),
            retained_messages_max: over.retained_messages_max.or(self.retained_messages_max),
        }
    }
}
