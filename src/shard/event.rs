//! What an operator may want to read in the log. Counters tell the rest.

use crate::codec::ReasonCode;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Something worth a line in the log.
#[derive(Debug, Clone)]
pub enum Event {
    /// A CONNECT was refused.
    ConnectRefused {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// Where it came from.
        peer: Option<SocketAddr>,
        /// Why.
        reason: ReasonCode,
    },
    /// A client was disconnected, since it broke the protocol or ran into a limit.
    Disconnected {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// Where it came from.
        peer: Option<SocketAddr>,
        /// The Reason Code.
        reason: ReasonCode,
        /// In a sentence.
        detail: String,
    },
    /// The Will Delay Interval was cut to `wills.max_delay`.
    WillDelayCapped {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// What it asked for, in seconds.
        asked: u32,
        /// What it got, in seconds.
        given: u32,
    },
    /// A will was not published, since its client may not publish to its topic any more.
    WillDenied {
        /// The Client Identifier.
        client_id: Arc<str>,
        /// The Will Topic.
        topic: Box<str>,
    },
    /// A message that waited in the journal is damaged, and its delivery was dropped.
    MessageUnreadable {
        /// The Client Identifier of its receiver.
        client_id: Arc<str>,
    },
    /// A checkpoint could not be completed, since a message that it had to copy is damaged.
    CheckpointAbandoned,
    /// A storm of wills has passed.
    Storm {
        /// How many wills were published.
        wills: u64,
        /// From the first due to the last published.
        lasted: Duration,
        /// The largest lateness.
        lateness_max: Duration,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectRefused { client_id, reason, .. } => write!(f, "CONNECT of {client_id:?} refused: {reason}"),
            Self::Disconnected { client_id, reason, detail, .. } => {
                write!(f, "client {client_id:?} disconnected with {reason:?}: {detail}")
            }
            Self::WillDelayCapped { client_id, asked, given } => {
                write!(f, "Will Delay Interval of {client_id:?} cut from {asked} s to {given} s")
            }
            Self::WillDenied { client_id, topic } => {
                write!(f, "will of {client_id:?} dropped: it may not publish to {topic:?} any more")
            }
            Self::MessageUnreadable { client_id } => {
                write!(
                    f,
                    "a message for {client_id:?} is damaged in the journal and was dropped; see `willowmq journal check`"
                )
            }
            Self::CheckpointAbandoned => {
                f.write_str("checkpoint given up: a message is damaged in the journal; see `willowmq journal check`")
            }
            Self::Storm { wills, lasted, lateness_max } => {
                write!(f, "storm of {wills} wills published in {lasted:?}, at most {lateness_max:?} late")
            }
        }
    }
}
