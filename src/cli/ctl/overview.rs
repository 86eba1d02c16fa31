//! The overview of the API: the broker at a moment, which `ctl status` and `ctl top` show.

use serde::Deserialize;
use serde_json::Value;

/// The broker at a moment, as `/api/v1/overview` tells it. What it does not tell is zero.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Overview {
    pub(super) version: String,
    pub(super) state: String,
    /// In seconds.
    pub(super) uptime: f64,
    pub(super) totals: Figures,
    pub(super) shards: Vec<Shard>,
}

impl Overview {
    pub(super) fn parse(answer: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(answer)
    }
}

/// What is there, and what has been counted since the start.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) connections: u64,
    pub(super) sessions: u64,
    pub(super) subscriptions: u64,
    pub(super) retained: u64,
    pub(super) queued_messages: u64,
    pub(super) queued_bytes: u64,
    pub(super) connects_accepted: u64,
    pub(super) messages_received: u64,
    pub(super) messages_sent: u64,
    pub(super) messages_dropped: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) wills: Wills,
}

/// What is there of wills, and what has become of them since the start.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Wills {
    pub(super) armed: u64,
    pub(super) pending: u64,
    pub(super) due: u64,
    pub(super) held: u64,
    pub(super) published: u64,
    pub(super) discarded: u64,
    pub(super) storms: u64,
    /// In seconds: 99 of 100 wills were published no later than so long after they were due.
    pub(super) lateness_p99: f64,
}

/// One shard.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Shard {
    pub(super) shard: u64,
    pub(super) connections: u64,
    pub(super) messages_received: u64,
    pub(super) messages_sent: u64,
    /// In seconds: 99 of 100 turns took no longer.
    pub(super) turn_p99: f64,
    /// Seconds that it has spent in turns.
    pub(super) busy: f64,
    pub(super) stalls: u64,
    /// Letters of other shards that wait.
    pub(super) mesh_waiting: u64,
    pub(super) journal_backlog_bytes: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_overview_does_not_tell_is_zero() {
        assert_eq!(Overview::parse(&json!({})).unwrap(), Overview::default());
        assert!(Overview::parse(&json!({"totals": 7})).is_err());
    }
}
