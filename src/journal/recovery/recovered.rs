//! What a journal tells: the state of a shard as plain data.

use crate::codec::{PacketId, QoS, SubscriptionOptions};
use crate::journal::frame::{Extent, Position};
use crate::journal::log::Existing;
use crate::journal::record::{Facts, Place, SessionNumber, SessionRecord, Transaction};
use crate::security::Identity;
use crate::session::message::{Kind, Message, Publication, SharedKey, SubscriptionIds};
use crate::session::will::{Closing, Will};
use crate::timer::Moment;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of one shard as its journal tells it. The default is that of a shard with an empty journal.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Index of the shard.
    pub shard: u8,
    /// Where the log goes on.
    pub position: Position,
    /// All before this is known to have been synced: where [`crate::journal::Log::new`] goes on.
    pub certain: Position,
    /// The frames from there on, which the log is to write again.
    pub tail: Vec<u8>,
    /// The segments that there are, for [`crate::journal::Log::new`].
    pub existing: Vec<Existing>,
    /// The Sessions by their numbers.
    pub sessions: Vec<RecoveredSession>,
    /// The retained messages, by topic; all in memory.
    pub retained: Vec<StoredMessage>,
    /// Above every Session number in the journal.
    pub next_session: u64,
    /// The highest number of a publication of this shard, in any journal; see [`super::agree`].
    pub publications: u64,
    /// The highest number of a publication by the shard that numbered it, as far as this journal tells.
    pub published: BTreeMap<u8, u64>,
    /// The highest number of a transaction of this shard, in any journal.
    pub transactions: u64,
    /// Transactions that never count, of all shards. A shard records them again before it records anything of `completes`,
    /// in one step.
    pub voids: Vec<Transaction>,
    /// For each shard the highest transaction that any journal knows: all up to it are complete, but for the `voids`.
    pub completes: Vec<Transaction>,
    /// When the broker stopped, if it stopped in order.
    pub stopped: Option<Moment>,
    /// The latest moment that has certainly passed.
    pub clock: Moment,
    /// Records that were read.
    pub records: u64,
    /// Records that refer to a message that is not there. There are none, unless the journal was repaired.
    pub orphans: u64,
    /// Bytes at the end that were cut off, because a power cut had left them incomplete.
    pub torn_bytes: u64,
}

/// A Session and all that it holds.
#[derive(Debug)]
pub struct RecoveredSession {
    /// Its own state.
    pub header: OwnedSession,
    /// Its Subscriptions, by filter as the client wrote it, with options and Subscription Identifier.
    pub subscriptions: Vec<(Box<str>, SubscriptionOptions, Option<u32>)>,
    /// What is on its way to the client, by place.
    pub deliveries: Vec<RecoveredDelivery>,
    /// Packet Identifiers of the QoS 2 PUBLISH packets whose PUBREL has not come.
    pub received: Vec<PacketId>,
    /// Its will.
    pub will: Option<RecoveredWill>,
}

/// A [`SessionRecord`] that owns its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedSession {
    /// Which.
    pub session: SessionNumber,
    /// The Client Identifier.
    pub client_id: Box<str>,
    /// Who the client is.
    pub identity: Identity,
    /// Index of the listener of its newest Network Connection.
    pub listener: u16,
    /// Number of its newest Network Connection.
    pub connection: u64,
    /// Keep Alive in force on it, in seconds; zero: none.
    pub keep_alive: u16,
    /// Session Expiry Interval in seconds, as on the wire.
    pub expiry: u32,
    /// `None` while a Network Connection was open; otherwise when it ended.
    pub closed: Option<Moment>,
}

impl From<&SessionRecord<'_>> for OwnedSession {
    fn from(record: &SessionRecord<'_>) -> Self {
        Self {
            session: record.session,
            client_id: record.client_id.into(),
            identity: record.identity(),
            listener: record.listener,
            connection: record.connection,
            keep_alive: record.keep_alive,
            expiry: record.expiry,
            closed: record.closed,
        }
    }
}

impl OwnedSession {
    /// The record that says this.
    pub fn as_record(&self) -> SessionRecord<'_> {
        SessionRecord {
            session: self.session,
            client_id: &self.client_id,
            username: self.identity.username.as_deref(),
            listener: self.listener,
            connection: self.connection,
            keep_alive: self.keep_alive,
            expiry: self.expiry,
            closed: self.closed,
            facts: Facts::of(&self.identity),
        }
    }
}

/// A message on its way to a Session.
#[derive(Debug, Clone)]
pub struct RecoveredDelivery {
    /// Its place in the line.
    pub place: Place,
    /// What is delivered; `None` where only PUBREL is to be sent again.
    pub message: Option<StoredMessage>,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// Its Subscription Identifiers.
    pub subscription_ids: SubscriptionIds,
    /// The Shared Subscription it came through.
    pub shared: Option<Arc<SharedKey>>,
    /// Its Packet Identifier, where it was sent.
    pub packet_id: Option<PacketId>,
    /// Its PUBREC has arrived.
    pub is_released: bool,
    /// When it was queued.
    pub queued: Moment,
}

/// A message and where in a journal it lies.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Which publication it is.
    pub publication: Publication,
    /// Index of the shard whose journal it lies in. Not that of the shard it is at, once the number of shards has changed.
    pub journal: u8,
    /// Where its record lies there.
    pub extent: Extent,
    /// [`Message::size`].
    pub size: u32,
    /// Ordinary, or a will.
    pub kind: Kind,
    /// When it expires.
    pub expires: Option<Moment>,
    /// The message, one for all that refer to it; `None` where the memory did not suffice, so it must be read back.
    pub message: Option<Arc<Message>>,
}

/// A will that was neither published nor discarded.
#[derive(Debug)]
pub struct RecoveredWill {
    /// The will; its message has no publication yet.
    pub will: Will,
    /// When it is due, and how its Network Connection ended; `None` while it was armed.
    pub pending: Option<(Moment, Closing)>,
}
