//! What a shard counts.
//!
//! Every number is a plain one in the shard's own memory: counting costs an addition, and no clock is read for it.

use crate::codec::{PacketKind, QoS};
use crate::figures::{Histogram, Kinds, Tally, Traffic, kinds};
use crate::session::will::Cause;
use crate::timer::Moment;
use std::time::Duration;

kinds! {
    /// Why a delivery, or what was to be retained, was dropped.
    pub enum DropReason {
        /// QoS 0: the connection's output was full.
        OutputFull = "output-full",
        /// QoS 0, of a will: the connection's output was full.
        WillOutputFull = "will-output-full",
        /// QoS 0: memory is short.
        Memory = "memory",
        /// The Session's queue was full.
        QueueFull = "queue-full",
        /// Its Message Expiry Interval had passed.
        Expired = "expired",
        /// It had waited for `sessions.queue_age_max`.
        TooOld = "too-old",
        /// Its message could not be read back from the journal.
        Unreadable = "unreadable",
        /// It exceeds the client's Maximum Packet Size.
        TooLarge = "too-large",
        /// Of a Shared Subscription: no member could or might take it.
        NoMember = "no-member",
        /// What was to be retained is not: a limit was reached.
        Retained = "retained",
    }
}

kinds! {
    /// Why a shard refused a CONNECT.
    pub enum ConnectRefusal {
        /// The Client Identifier is too long, or missing where it must not be.
        ClientId = "client-id",
        /// The Client Identifier names a Session of another user.
        OtherUser = "other-user",
        /// The Authentication Method is not known.
        AuthenticationMethod = "authentication-method",
        /// The will is not one that the server takes.
        Will = "will",
        /// The client may not leave that will.
        WillDenied = "will-denied",
        /// There are `sessions.sessions_max`.
        SessionsMax = "sessions-max",
        /// Memory is short.
        Memory = "memory",
        /// The journal cannot be written.
        Journal = "journal",
        /// The server is about to stop.
        Stopping = "stopping",
        /// Clients are handed away before a stop.
        Draining = "draining",
    }
}

kinds! {
    /// What became of a PUBLISH that a client sent.
    pub enum PublishOutcome {
        /// There was somebody to receive it.
        Matched = "matched",
        /// There was nobody, on no shard.
        Unmatched = "unmatched",
        /// A QoS 2 message that had been received before.
        Repeated = "repeated",
        /// Its client has no right to publish it.
        Denied = "denied",
        /// A limit was reached, the journal cannot be written, or the payload is not what it claims to be.
        Refused = "refused",
        /// It broke the protocol, and its connection was closed.
        Invalid = "invalid",
    }
}

impl Kinds for Cause {
    const ALL: &'static [Self] = &[
        Self::Disconnect,
        Self::DisconnectWithWill,
        Self::Closed,
        Self::TransportError,
        Self::KeepAlive,
        Self::ProtocolError,
        Self::Limit,
        Self::Administrative,
        Self::TakenOver,
        Self::Shutdown,
        Self::ServerDied,
        Self::Unauthenticated,
    ];

    fn name(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Kinds for PacketKind {
    const ALL: &'static [Self] = &[
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
        Self::Auth,
    ];

    fn name(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize - 1 // The standard begins to count at one.
    }
}

/// What came of the PUBLISH packets of clients, by QoS and outcome.
#[derive(Debug, Clone, Default)]
pub struct Received {
    traffic: [[Traffic; PublishOutcome::ALL.len()]; 3],
}

impl Received {
    /// Counts a PUBLISH with so many bytes of payload.
    pub(super) fn note(&mut self, qos: QoS, outcome: PublishOutcome, payload_bytes: usize) {
        self.traffic[qos as usize][outcome.index()].note(payload_bytes);
    }

    /// All of a QoS and an outcome.
    pub fn of(&self, qos: QoS, outcome: PublishOutcome) -> Traffic {
        self.traffic[qos as usize][outcome.index()]
    }

    /// All of an outcome.
    pub fn with(&self, outcome: PublishOutcome) -> u64 {
        self.traffic.iter().map(|of_qos| of_qos[outcome.index()].count).sum()
    }

    /// All.
    pub fn total(&self) -> Traffic {
        self.traffic.iter().flatten().copied().sum()
    }
}

/// The PUBLISH packets sent to clients, by QoS.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    traffic: [Traffic; 3],
    /// Of these, those that were sent again.
    pub again: u64,
}

impl Sent {
    /// Counts a PUBLISH with so many bytes of payload.
    pub(super) fn note(&mut self, qos: QoS, payload_bytes: usize) {
        self.traffic[qos as usize].note(payload_bytes);
    }

    /// All of a QoS.
    pub fn of(&self, qos: QoS) -> Traffic {
        self.traffic[qos as usize]
    }

    /// All.
    pub fn total(&self) -> Traffic {
        self.traffic.iter().copied().sum()
    }
}

/// Counters of one shard, since it started; gauges where said so.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// CONNECTs accepted.
    pub connects_accepted: u64,
    /// CONNECTs refused by the shard.
    pub connects_refused: Tally<ConnectRefusal>,
    /// Clients handed away before a stop.
    pub handed_away: u64,
    /// Sessions taken over by another CONNECT.
    pub takeovers: u64,
    /// Connections that ended, by cause.
    pub closed: Tally<Cause>,
    /// Packets received from clients: what the shell reads of those that it does not let in is not among them.
    pub packets_received: Tally<PacketKind>,
    /// Packets sent but PUBLISH, which [`Self::sent`] has.
    pub packets_sent: Tally<PacketKind>,
    /// PUBLISH packets received, and their payloads.
    pub received: Received,
    /// PUBLISH packets sent, and their payloads.
    pub sent: Sent,
    /// What was dropped.
    pub dropped: Tally<DropReason>,
    /// Topic Filters refused for want of rights.
    pub subscriptions_denied: u64,
    /// Deliveries dropped since their client may not receive messages of that topic.
    pub deliveries_denied: u64,
    /// Malformed packets and protocol errors.
    pub protocol_errors: u64,
    /// CONNECTs and PUBLISHes refused since the journal could not be written.
    pub refused_by_journal: u64,
    /// Messages read back from the journal for their delivery.
    pub read_back: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Times a connection was paused since another shard, or the disk, could not keep up.
    pub pauses: u64,
    /// Messages of other shards that were put aside, since what follows from them would go to shards that cannot keep up.
    pub letters_put_aside: u64,
    /// Times a connection went on in the next turn, since what it sent was work enough for one.
    pub yields: u64,
    /// PUBLISHes of connections that ended, let go of since they were too much work to be caught up with at once.
    pub publishes_abandoned: u64,
    /// Times a connection was paused since it published faster than it may.
    pub pauses_rate: u64,
    /// Times a connection was paused since it published while memory was short.
    pub pauses_memory: u64,
    /// Times a connection was paused since it did not read the answers to what it sent.
    pub pauses_choked: u64,
    /// Connections closed since they did not read what they were sent. (`slow_reader = "disconnect"`)
    pub slow_readers_disconnected: u64,
    /// PUBLISHes refused since the Session has stored as many Retained Messages as it may.
    pub publishes_refused_retained: u64,
    /// Topic Filters refused since a Session has as many Subscriptions as it may.
    pub subscriptions_refused: u64,
    /// Topic Filters refused since there were too many in one packet, or since they are too long or too deep.
    pub filters_refused: u64,
    /// Re-authentications that succeeded.
    pub re_authentications: u64,
    /// Re-authentications that failed.
    pub re_authentications_refused: u64,
    /// Connections closed since their credentials had ended.
    pub credentials_ended: u64,
    /// Sessions that ended since their Session Expiry Interval had passed without a Network Connection.
    pub sessions_expired: u64,
    /// Messages about clients that came or went. (`presence.enabled`)
    pub presence_told: u64,
    /// Clients not told of, since the topic would be too long.
    pub presence_untold: u64,
    /// Wills.
    pub wills: WillStats,
}

/// Counters of wills.
#[derive(Debug, Clone, Default)]
pub struct WillStats {
    /// Wills that came with an accepted CONNECT.
    pub armed: u64,
    /// Wills refused with their CONNECT, for want of rights or by `wills.allow.topics`.
    pub refused: u64,
    /// Wills published, by cause of closing.
    pub published: Tally<Cause>,
    /// Wills discarded, by cause: a clean DISCONNECT, an administrator, or a takeover within the delay.
    pub discarded: Tally<Cause>,
    /// Wills discarded since their client came back in time.
    pub discarded_by_return: u64,
    /// Wills refused when they were to be published: rights had changed.
    pub denied: u64,
    /// Wills that did not overwrite a newer retained message. (`wills.stale_guard`)
    pub stale: u64,
    /// Storms: bursts above `wills.storm_threshold_per_second`.
    pub storms: u64,
    /// Wills that were published in storms.
    pub storm_wills: u64,
    /// The newest storm that has passed.
    pub last_storm: Option<Storm>,
    /// Gauge: wills whose connection is open.
    pub armed_now: u64,
    /// Gauge: wills that wait for their due time.
    pub pending_now: u64,
    /// Lateness, published − due, in microseconds; the first bucket ends at a millisecond.
    pub lateness: Histogram<1000, 18>,
}

/// A burst of wills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// When the first of them was due.
    pub since: Moment,
    /// How many were published.
    pub wills: u64,
    /// From the first due to the last published.
    pub lasted: Duration,
    /// The largest lateness.
    pub lateness_max: Duration,
    /// How many there were by cause of closing, in the order of [`Cause`].
    pub causes: [u64; Cause::COUNT],
}

impl WillStats {
    /// All wills published.
    pub fn published_total(&self) -> u64 {
        self.published.total()
    }

    /// All wills discarded.
    pub fn discarded_total(&self) -> u64 {
        self.discarded.total() + self.discarded_by_return
    }
}
