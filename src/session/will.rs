//! The will of one Session.
//!
//! ```text
//! CONNECT ─▶ Armed ─close─▶ Pending ─due time─▶ Due ─▶ published
//!              │               │                 │
//!              └─ DISCONNECT ──┴── reconnect ────┴ (due: published before the reconnect) ─▶ discarded
//! ```

use super::message::Message;
use crate::timer::{Moment, TimerId};
use std::sync::Arc;

/// A Will Message and what the CONNECT said of it.
#[derive(Debug)]
pub struct Will {
    /// The message, made at CONNECT so that publishing it allocates nothing.
    pub message: Arc<Message>,
    /// Will Delay Interval in seconds. (§3.1.3.2.2)
    pub delay_interval: u32,
    /// Message Expiry Interval in seconds; it counts from publication. (§3.1.3.2.4)
    pub message_expiry_interval: Option<u32>,
}

/// Why a Network Connection ended, as a will's cause of closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// DISCONNECT with Reason Code 0x00: the one cause that discards the will.
    Disconnect,
    /// DISCONNECT with another Reason Code.
    DisconnectWithWill,
    /// The peer closed without DISCONNECT.
    Closed,
    /// The transport failed: reset, read or write error.
    TransportError,
    /// No packet within 1.5 × Keep Alive.
    KeepAlive,
    /// A malformed packet or a protocol error.
    ProtocolError,
    /// The server's limits: quota, packet size, slow consumer.
    Limit,
    /// Disconnected by an administrator.
    Administrative,
    /// Another CONNECT with the same Client Identifier.
    TakenOver,
    /// The server shuts down.
    Shutdown,
    /// The server died, or its machine did.
    ServerDied,
    /// The client's credentials have ended, or it could not prove them again.
    Unauthenticated,
}

impl Cause {
    /// Number of causes.
    pub const COUNT: usize = 12;

    /// The name in logs, metrics and stamps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DisconnectWithWill => "disconnect-with-will",
            Self::Closed => "closed",
            Self::TransportError => "transport-error",
            Self::KeepAlive => "keep-alive",
            Self::ProtocolError => "protocol-error",
            Self::Limit => "limit",
            Self::Administrative => "administrative",
            Self::TakenOver => "taken-over",
            Self::Shutdown => "shutdown",
            Self::ServerDied => "server-died",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

/// How a Network Connection ended, kept with a will that is still to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Moment,
    /// When the last packet had arrived.
    pub last_packet: Moment,
    /// The server went down before the will was published, and found it in its journal.
    pub is_recovered: bool,
}

/// Where a Session's will stands.
#[derive(Debug, Default)]
pub enum WillState {
    /// There is none.
    #[default]
    None,
    /// Its Network Connection is open.
    Armed(Box<Will>),
    /// Its Network Connection has closed; `timer` fires at `due`.
    Pending {
        /// The will.
        will: Box<Will>,
        /// When it is due.
        due: Moment,
        /// The timer that makes it due.
        timer: TimerId,
        /// How its connection ended.
        closing: Closing,
    },
    /// It stands in the shard's queue of due wills.
    Due {
        /// The will.
        will: Box<Will>,
        /// When it fell due.
        due: Moment,
        /// How its connection ended.
        closing: Closing,
    },
}

impl WillState {
    /// Takes the state out, leaving none.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
