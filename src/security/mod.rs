//! Who a client is, and what it may do.
//!
//! Authentication is the shell's; what it finds out reaches the shard as an [`Identity`]. The shard asks [`Rights`] before
//! it routes or stores anything on a client's behalf.
//!
//! **Invariant**: a decision is a pure function of the rules, the identity and the topic, so it can be repeated when a
//! will is published long after its CONNECT.

#[cfg(feature = "server")]
mod granted;
mod identity;
#[cfg(feature = "server")]
pub mod password;
#[cfg(feature = "server")]
pub mod scram;
#[cfg(feature = "server")]
pub mod token;
pub mod wildcard;

pub use identity::{Granted, Identity};

use crate::topic::{TopicFilter, TopicName};
use std::sync::Arc;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Publishing to a Topic Name.
    Publish,
    /// Leaving a Will Message for a Topic Name.
    Will,
    /// Subscribing to a Topic Filter.
    Subscribe,
    /// Being sent a message of a Topic Name.
    Receive,
}

/// One rule: whether `action` is allowed on the topics that `filter` matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Allow, or deny.
    pub allow: bool,
    /// What the rule is about.
    pub action: Action,
    /// The client it is about; everyone where `None`.
    pub client_id: Option<Arc<str>>,
    /// The topics it is about.
    pub filter: TopicFilter,
}

/// The rights in force. An explicit deny wins over an allow.
///
/// Without a rule that matches, everything is allowed but publishing below `$`, which is the server's own [MQTT-4.7.2-1].
#[derive(Debug, Clone, Default)]
pub struct Rights {
    rules: Vec<Rule>,
}

impl Rights {
    /// Rights made of `rules`.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Whether `client_id` may publish, or leave a will, to `topic`.
    pub fn may_publish(&self, action: Action, _identity: &Identity, client_id: &str, topic: TopicName<'_>) -> bool {
        self.decide(action, client_id, |filter| filter.matches(topic)).unwrap_or(!topic.is_reserved())
    }

    /// Whether `client_id` may subscribe to `filter`. A rule speaks of it when it names the same filter.
    pub fn may_subscribe(&self, _identity: &Identity, client_id: &str, filter: &TopicFilter) -> bool {
        self.decide(Action::Subscribe, client_id, |of_rule| of_rule == filter).unwrap_or(true)
    }

    fn decide(&self, action: Action, client_id: &str, matches: impl Fn(&TopicFilter) -> bool) -> Option<bool> {
        self.rules
            .iter()
            .filter(|rule| {
                rule.action == action && rule.client_id.as_deref().is_none_or(|of_rule| of_rule == client_id)
            })
            .filter(|rule| matches(&rule.filter))
            .map(|rule| rule.allow)
            .reduce(|left, right| left && right)
    }
}
