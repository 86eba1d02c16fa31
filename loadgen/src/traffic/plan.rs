//! What traffic there is to be.

use clap::ValueEnum;
use willowmq::codec::QoS;

/// Who receives what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Publisher i publishes to subscriber i.
    Pairs,
    /// Every subscriber receives everything, by a wildcard: many publishers, few subscribers.
    FanIn,
    /// Every subscriber receives everything, by exact filters: few publishers, many subscribers.
    FanOut,
    /// Every message goes to one member of a shared subscription.
    Shared,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as fewer than so many of a publisher's messages are on their way: closed loop.
    Window(usize),
    /// So many per second in all, by a schedule that waits for nobody: open loop. Latency counts from the moment when a
    /// message was due, so a stalled broker cannot hide behind messages that were never sent (coordinated omission).
    Rate(f64),
}

/// What traffic there is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who receives what.
    pub shape: Shape,
    /// How many publish.
    pub publishers: usize,
    /// How many subscribe.
    pub subscribers: usize,
    /// The level of publishes and subscriptions.
    pub qos: QoS,
    /// Size of a payload.
    pub payload_bytes: usize,
    /// When messages are sent.
    pub pace: Pace,
    /// First levels of the topics.
    pub topic_prefix: String,
    /// Beginning of the Client Identifiers.
    pub client_prefix: String,
}

impl Plan {
    /// What client number `member` of the traffic is, for people.
    pub(super) fn who(&self, member: usize) -> String {
        match member.checked_sub(self.subscribers) {
            None => format!("subscriber {member}"),
            Some(publisher) => format!("publisher {publisher}"),
        }
    }
}
