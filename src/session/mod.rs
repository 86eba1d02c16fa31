//! One Session: what the server keeps for a client, with or without a Network Connection.
//!
//! **Invariant**: a Session knows no socket, no other Session and no clock; whatever it is told comes as an argument.

pub mod bounds;
pub mod message;
pub mod outgoing;
pub mod queue;
pub mod will;

use crate::codec::{PacketId, SubscriptionOptions};
use crate::security::rights::Decisions;
use crate::security::{Identity, Who};
use crate::timer::{Moment, TimerId};
use crate::topic::Subscribed;
use bounds::Bounds;
use message::Author;
use outgoing::{InFlight, OutgoingDeliveries};
use queue::{Place, Queues, Waiting};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use will::WillState;

/// Names a Network Connection to the shard and its owner.
///
/// `index` is dense, a slot of the owner's; `generation` tells two connections apart that had the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The slot.
    pub index: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// How long a Session outlives its Network Connection. (§3.1.2.11.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionExpiry(u32);

impl SessionExpiry {
    /// It ends with the connection.
    pub const WITH_CONNECTION: Self = Self(0);
    /// It never expires.
    pub const NEVER: Self = Self(u32::MAX);

    /// From the interval on the wire, in seconds; 0xFFFFFFFF never expires.
    pub fn from_seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// The interval on the wire.
    pub fn as_seconds(self) -> u32 {
        self.0
    }

    /// The interval as a duration; `None`: never.
    pub fn duration(self) -> Option<Duration> {
        (self != Self::NEVER).then(|| Duration::from_secs(u64::from(self.0)))
    }

    /// The shorter of two.
    pub fn at_most(self, max: Option<Duration>) -> Self {
        max.map_or(self, |max| self.min(Self(u32::try_from(max.as_secs()).unwrap_or(u32::MAX - 1))))
    }
}

/// One Subscription of a Session.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The filter, parsed.
    pub subscribed: Subscribed,
    /// Its options.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier.
    pub id: Option<u32>,
}

/// A Session. Its connection, timers and subscriptions are wired up by the shard that owns it.
#[derive(Debug)]
pub struct Session {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// Its Network Connection, if it has one.
    pub connection: Option<ConnectionId>,
    /// When it began; where it was found in the journal, when its Network Connection closed.
    pub created: Moment,
    /// Since when it has its Network Connection, or has none.
    pub since: Moment,
    /// Deliveries to it that were dropped since it began, for whatever reason.
    pub dropped: u32,
    /// Its number in the journal, where anything of it is there: the Session itself, or only its will.
    pub number: Option<u64>,
    /// It outlives its connection, and so all that it holds is in the journal.
    pub is_kept: bool,
    /// What the journal says up to here must be durable before anything more is shown to the client: it may have to do with it.
    pub proven_from: u64,
    /// Index of the listener of its newest Network Connection.
    pub listener: u16,
    /// Keep Alive in force on its newest Network Connection, in seconds; zero: none.
    pub keep_alive: u16,
    /// Who the client is.
    pub identity: Identity,
    /// Which topics the client may be sent messages of, as far as it was asked.
    pub may_receive: Option<Box<Decisions>>,
    /// Deliveries up to this place were let in under other rights, and are looked at again when they are sent.
    pub unchecked_up_to: Place,
    /// Identifies the client and its newest Network Connection in what it publishes.
    pub author: Author,
    /// How long it outlives its connection.
    pub expiry: SessionExpiry,
    /// The timer that ends it, while it has no connection.
    pub expiry_timer: Option<TimerId>,
    /// When it ends, while it has no connection; `None`: never.
    pub ends: Option<Moment>,
    /// It has ended, and only its will is still to be published.
    pub has_ended: bool,
    /// Where its will stands.
    pub will: WillState,
    /// By filter, as the client wrote it.
    pub subscriptions: BTreeMap<Box<str>, Subscription>,
    /// The sending half.
    pub outgoing: OutgoingDeliveries,
    /// QoS 2 publishes that were received and not yet released. [MQTT-4.3.3-10]
    pub received: BTreeSet<PacketId>,
    /// Retained look-ups whose answer is on its way.
    pub look_ups: Vec<u64>,
    /// What the client may make the broker hold.
    pub bounds: Arc<Bounds>,
    /// Hashes of the topics on which it has stored a Retained Message, where their number is bounded.
    pub retained: Option<Box<BTreeSet<u64>>>,
}

impl Session {
    /// A Session that begins now, without connection, will or subscriptions.
    pub fn new(now: Moment, client_id: Arc<str>, client_hash: u64, bounds: Arc<Bounds>) -> Self {
        Self {
            client_id,
            connection: None,
            created: now,
            since: now,
            dropped: 0,
            number: None,
            is_kept: false,
            proven_from: 0,
            listener: 0,
            keep_alive: 0,
            identity: Identity::default(),
            may_receive: None,
            unchecked_up_to: Place::default(),
            author: Author { client: client_hash, connection: 0 },
            expiry: SessionExpiry::WITH_CONNECTION,
            expiry_timer: None,
            ends: None,
            has_ended: false,
            will: WillState::None,
            subscriptions: BTreeMap::new(),
            outgoing: OutgoingDeliveries::default(),
            received: BTreeSet::new(),
            look_ups: Vec::new(),
            bounds,
            retained: None,
        }
    }

    /// Who asks where it asks for something.
    pub fn who(&self) -> Who<'_> {
        Who { identity: &self.identity, client_id: &self.client_id }
    }

    /// Takes all deliveries out of a Session that ends.
    pub fn take_deliveries(&mut self, queues: &mut Queues) -> (Vec<InFlight>, Vec<Waiting>) {
        self.outgoing.take_all(queues)
    }
}
