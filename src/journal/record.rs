//! What a shard writes down: one record for each thing that must outlive the process.
//!
//! A record states what is so from now on, not what somebody asked for. Replaying the records of a journal in their order gives the state
//! that the shard had when the last of them was written. Session numbers and positions are given once and never again, so a
//! record about something that is gone is ignored.

pub use super::facts::Facts;
use crate::codec::{PacketId, QoS, SubscriptionOptions};
use crate::security::Identity;
use crate::session::message::{Author, Kind, Publication};
pub use crate::session::queue::Place;
use crate::session::will::Closing;
use crate::timer::Moment;
use std::fmt;

/// Numbers the Sessions of one journal; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionNumber(pub u64);

/// Something that takes effect on several shards or on none: it is complete once all its parts are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transaction {
    /// Index of the shard that began it.
    pub shard: u8,
    /// Its number there; ascending, never used again.
    pub number: u64,
}

/// The state of a Session apart from what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRecord<'a> {
    /// Which.
    pub session: SessionNumber,
    /// The Client Identifier.
    pub client_id: &'a str,
    /// User Name, where it has one.
    pub username: Option<&'a str>,
    /// Index of the listener of its newest Network Connection.
    pub listener: u16,
    /// Number of its newest Network Connection, as in [`Author`].
    pub connection: u64,
    /// Keep Alive in force on it, in seconds; zero: none.
    pub keep_alive: u16,
    /// Session Expiry Interval in seconds, as on the wire; zero: only its will is kept.
    pub expiry: u32,
    /// `None` while a Network Connection is open; otherwise when it ended.
    pub closed: Option<Moment>,
    /// What else is known of who the client is.
    pub facts: Facts<'a>,
}

impl SessionRecord<'_> {
    /// Who the client is.
    pub fn identity(&self) -> Identity {
        self.facts.identity(self.username)
    }
}

/// An Application Message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRecord<'a> {
    /// Which publication it is; what refers to the message does so by this.
    pub publication: Publication,
    /// Who published it.
    pub author: Author,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// Ordinary, or a will.
    pub kind: Kind,
    /// When it expires.
    pub expires: Option<Moment>,
    /// The Topic Name.
    pub topic: &'a str,
    /// The properties that travel with it, encoded.
    pub forwarded: &'a [u8],
    /// The Application Message.
    pub payload: &'a [u8],
}

/// A message on its way to one Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedRecord<'a> {
    /// To whom.
    pub session: SessionNumber,
    /// Its place in the line.
    pub place: Place,
    /// What: the message of a [`Record::Message`] before this.
    pub publication: Publication,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// Its Subscription Identifiers.
    pub subscription_ids: Ids<'a>,
    /// ShareName and Topic Filter of the Shared Subscription it came through.
    pub shared: Option<(&'a str, &'a str)>,
    /// Its Packet Identifier, where it was sent at once.
    pub packet_id: Option<PacketId>,
    /// Its PUBREC has arrived, so only PUBREL is sent again. A checkpoint writes this; the message is then not needed.
    pub is_released: bool,
    /// When it was queued: what a limit of age counts from.
    pub queued: Moment,
}

/// Subscription Identifiers: a slice, or as they lie in a journal, from where they are read without allocating.
#[derive(Clone, Copy)]
pub struct Ids<'a>(IdsSource<'a>);

#[derive(Clone, Copy)]
enum IdsSource<'a> {
    Slice(&'a [u32]),
    Encoded(&'a [[u8; 4]]),
}

impl<'a> Ids<'a> {
    pub(super) const fn from_encoded(ids: &'a [[u8; 4]]) -> Self {
        Self(IdsSource::Encoded(ids))
    }

    /// The identifiers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (slice, encoded) = match self.0 {
            IdsSource::Slice(ids) => (ids, &[][..]),
            IdsSource::Encoded(ids) => (&[][..], ids),
        };
        slice.iter().copied().chain(encoded.iter().map(|id| u32::from_le_bytes(*id)))
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        match self.0 {
            IdsSource::Slice(ids) => ids.len(),
            IdsSource::Encoded(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Ids<'_> {
    fn default() -> Self {
        Self(IdsSource::Slice(&[]))
    }
}

impl<'a> From<&'a [u32]> for Ids<'a> {
    fn from(ids: &'a [u32]) -> Self {
        Self(IdsSource::Slice(ids))
    }
}

impl PartialEq for Ids<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Ids<'_> {}

impl fmt::Debug for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A will that a CONNECT armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WillRecord<'a> {
    /// Whose.
    pub session: SessionNumber,
    /// The message; its publication is not given yet.
    pub message: MessageRecord<'a>,
    /// Will Delay Interval in seconds.
    pub delay_interval: u32,
    /// Message Expiry Interval in seconds, from its publication on.
    pub message_expiry_interval: Option<u32>,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Record<'a> {
    /// A Session is as described, whether or not it was there before. What it holds is not touched.
    Session(SessionRecord<'a>),
    /// A Session begins anew: whatever was recorded of it before is void. Written by a checkpoint in front of all that the Session holds.
    SessionReset(SessionNumber),
    /// A Session is gone with all it held.
    SessionEnded(SessionNumber),
    /// A Session has this Subscription; `filter` is as the client wrote it, with `$share` where it had that.
    Subscribed {
        /// Whose.
        session: SessionNumber,
        /// The filter.
        filter: &'a str,
        /// Its options, as granted.
        options: SubscriptionOptions,
        /// Its Subscription Identifier.
        id: Option<u32>,
    },
    /// A Session has this Subscription no more.
    Unsubscribed {
        /// Whose.
        session: SessionNumber,
        /// The filter.
        filter: &'a str,
    },
    /// A message exists; what follows may refer to it. It is kept while anything does. Written again by a checkpoint.
    Message(MessageRecord<'a>),
    /// A message is on its way to a Session. Written again by a checkpoint.
    Queued(QueuedRecord<'a>),
    /// A delivery was sent, so it is in flight with this Packet Identifier.
    Sent {
        /// To whom.
        session: SessionNumber,
        /// Which.
        place: Place,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// The PUBREC of a delivery has arrived: the message is not needed any more, the identifier is.
    Released {
        /// To whom.
        session: SessionNumber,
        /// Which.
        place: Place,
    },
    /// A delivery is over: acknowledged, expired, or dropped.
    Done {
        /// To whom.
        session: SessionNumber,
        /// Which.
        place: Place,
    },
    /// A QoS 2 PUBLISH was received; its repetition is none. [MQTT-4.3.3-10]
    Received {
        /// From whom.
        session: SessionNumber,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// Its PUBREL was received, so the identifier is free. [MQTT-4.3.3-11]
    Completed {
        /// From whom.
        session: SessionNumber,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// The message is the retained one of its topic.
    Retained(Publication),
    /// A topic has no retained message.
    RetainedRemoved(&'a str),
    /// A will is armed; it replaces another one of its Session.
    WillArmed(WillRecord<'a>),
    /// The Network Connection of a will's Session has closed; the will is pending.
    WillPending {
        /// Whose.
        session: SessionNumber,
        /// When it is due.
        due: Moment,
        /// How the connection ended.
        closing: Closing,
    },
    /// A will is published, or discarded: either way it may never be published again.
    WillGone(SessionNumber),
    /// The records that follow, up to [`Record::Unconditional`] or the end of the frame, count only if the transaction is complete.
    Under(Transaction),
    /// The records that follow count.
    Unconditional,
    /// This shard began a transaction, and these shards have a part in it: one bit for each, by number.
    Begun {
        /// Its number; the shard is the one that writes this.
        number: u64,
        /// Who has a part.
        parts: u128,
    },
    /// This shard has written all that it got from another one of a transaction.
    Part {
        /// The transaction.
        transaction: Transaction,
        /// From whom.
        from: u8,
        /// Who has got a part of it through this shard so far: one bit for each, by number.
        parts: u128,
    },
    /// All transactions of a shard up to this one are complete.
    Complete(Transaction),
    /// A transaction turned out incomplete when the journals were read: what it did never counts.
    Void(Transaction),
    /// A checkpoint begins: together with the records up to its end, what follows tells all that there is.
    CheckpointBegin,
    /// It is complete: no record before its beginning is needed.
    CheckpointEnd,
    /// The broker has stopped in order.
    Stopped(Moment),
    /// It is this late: the clock never falls behind this, even if that of the machine does.
    Clock(Moment),
}
