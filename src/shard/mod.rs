//! One core's share of the broker: its Sessions, subscriptions, retained messages, timers and wills.
//!
//! [`Shard`] is a state machine. Its owner tells it what has arrived and what time it is, and then carries out what follows:
//! messages for other shards first, then closes, then outputs. The owner is the shell in production and the simulator in tests.
//!
//! **Invariant**: nothing here names a socket, a clock, a thread or a lock. The same calls give the same effects.

mod announce;
mod aside;
mod authenticate;
mod checkpoint;
mod close;
mod connect;
mod connection;
mod deliver;
mod drain;
mod event;
pub mod handshake;
mod holds;
pub mod inspect;
mod journal;
mod limits;
mod peer;
mod population;
mod presence;
mod pressure;
mod publish;
mod read_back;
mod reading;
mod restore;
mod retained;
mod rights;
mod sessions;
mod settings;
mod shared;
mod stats;
mod storms;
mod subscribe;
mod turn;
mod waiting;
mod wills;

pub use crate::session::ConnectionId;
pub use announce::Announcement;
pub use authenticate::{AuthenticationOutcome, AuthenticationRequest};
pub use close::Closed;
pub use connection::{Arrival, Enhanced, Origin, Pause, Reading};
pub use drain::DrainProgress;
pub use event::Event;
pub use holds::Hold;
pub use limits::{first_packet_bytes_max, identities_of};
pub use peer::PeerMessage;
pub use population::Population;
pub use pressure::Pressure;
pub use read_back::Read;
pub use stats::{ConnectRefusal, DropReason, PublishOutcome, Received, Sent, Stats, Storm, WillStats};
pub use wills::WillFate;

use crate::codec::{DecodeError, Packet, QoS, ReasonCode};
use crate::config::{Config, QueueDrop};
use crate::security::Rights;
use crate::session::message::Message;
use crate::session::queue::{Load, QueueLimits, Queues};
use crate::session::{Session, Subscription};
use crate::timer::{Moment, Wheel};
use crate::topic::SubscriptionTrie;
use connection::Connections;
use deliver::Templates;
use peer::{Peers, SessionKey, Wait};
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

/// Numbers the shards of a broker, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(u8);

impl ShardId {
    /// The most shards a broker can have.
    pub const COUNT_MAX: usize = 128;

    /// The shard with this number.
    ///
    /// # Panics
    /// Where it is not below [`Self::COUNT_MAX`].
    pub fn new(index: usize) -> Self {
        assert!(index < Self::COUNT_MAX, "a broker has at most {} shards", Self::COUNT_MAX);
        Self(index as u8)
    }

    /// Its number.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The hash that decides homes; the same on all shards that were given the same seed.
pub fn home_hasher(seed: u64) -> ahash::RandomState {
    ahash::RandomState::with_seeds(seed, seed.rotate_left(17), !seed, seed.rotate_left(43))
}

/// The home of a Session.
pub fn home_of(client_id: &str, hasher: &ahash::RandomState, shards: usize) -> ShardId {
    ShardId::new((hasher.hash_one(client_id) % shards as u64) as usize)
}

/// A subscriber in the trie: a Session of this shard, or a Shared Subscription that lives here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Subscriber {
    Session(u32),
    Group(u32),
}

impl Subscriber {
    fn is(self, session: Option<u32>) -> bool {
        matches!((self, session), (Self::Session(left), Some(right)) if left == right)
    }
}

/// What the trie keeps of a Subscription's options.
#[derive(Debug, Clone, Copy)]
struct SubscriberOptions {
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    keeps: bool,
    /// Its client may not receive all that the filter matches, so each message is looked at.
    is_filtered: bool,
    id: Option<u32>,
}

impl SubscriberOptions {
    /// Those of a Subscription, as if each message had to be looked at; `keeps`: its Session is kept, so what it is sent is stored.
    fn of(subscription: &Subscription, keeps: bool) -> Self {
        let options = &subscription.options;
        Self {
            keeps,
            is_filtered: true,
            qos: options.qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            id: subscription.id,
        }
    }
}

/// What a deadline of the wheel is about.
#[derive(Debug)]
enum Timer {
    KeepAlive(ConnectionId),
    CredentialsEnd(ConnectionId),
    MayPublish(ConnectionId),
    LetThrough(ConnectionId),
    WillDelay(SessionKey),
    SessionExpiry(SessionKey),
    RetainedExpiry(Weak<Message>),
    ReadAgain(SessionKey),
    SweepQueues { from: u32 },
    CheckpointReadAgain,
    Drain,
}

/// What a client did wrong, or ran into: its connection ends with this Reason Code.
#[derive(Debug)]
struct Fault {
    reason: ReasonCode,
    detail: Cow<'static, str>,
}

impl Fault {
    fn new(reason: ReasonCode, detail: &'static str) -> Self {
        Self { reason, detail: Cow::Borrowed(detail) }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self { reason: error.reason_code(), detail: Cow::Owned(error.to_string()) }
    }
}

/// A small, fast, seeded generator (SplitMix64): assigned Client Identifiers need no secrecy. What it gives tells its state, so that is
/// never the seed itself, by which strangers could choose Client Identifiers and topics of one hash.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The bounds of all queues together; those of the whole broker are divided among the shards.
fn queue_limits(config: &Config, shards: usize) -> QueueLimits {
    let sessions = &config.sessions;
    QueueLimits {
        all: Load {
            messages: (sessions.queues_messages_max as usize).div_ceil(shards),
            bytes: sessions.queues_bytes_max.div_ceil(shards),
        },
        age_max: sessions.queue_age_max,
        drops_oldest: sessions.queue_drop == QueueDrop::Oldest,
        memory_bytes_max: sessions.queue_memory_bytes_max,
    }
}

/// One core's broker.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    config: Arc<Config>,
    rights: Arc<Rights>,
    hasher: ahash::RandomState,
    random: Random,
    sessions: sessions::Sessions,
    connections: Connections,
    subscriptions: SubscriptionTrie<Subscriber, SubscriberOptions>,
    groups: shared::Groups,
    retained: retained::RetainedStore,
    look_ups: retained::LookUps,
    wheel: Wheel<Timer>,
    wills: wills::Wills,
    peers: Peers,
    /// By peer: letters that wait for room in the channels from here.
    aside: Vec<aside::Aside>,
    paused: Vec<ConnectionId>,
    /// Connections that have read what they were sent, and are to be read again.
    relieved: Vec<ConnectionId>,
    /// Connections that have had their share of a turn, in the order in which they go on.
    unfinished: VecDeque<ConnectionId>,
    turn: turn::TurnWork,
    /// Connections that publish, and are not read since memory is short.
    waiting_publishers: BTreeSet<ConnectionId>,
    /// Connections whose peers have ended, and which are to be read to their end when memory suffices.
    hung_up: BTreeSet<ConnectionId>,
    /// Connections that are to be disconnected, since they do not read what they are sent.
    slow_readers: Vec<ConnectionId>,
    stop: close::Stop,
    drain: drain::Drain,
    /// Publications so far, and connections so far: they number the next one.
    publications: u64,
    connects: u64,
    events: VecDeque<Event>,
    /// Steps of re-authentications that the owner is to judge.
    authentications: VecDeque<(ConnectionId, AuthenticationRequest)>,
    pressure: Pressure,
    /// Queues are looked through for what need not wait any more, as long as memory is used up.
    is_sweeping: bool,
    bounds: limits::BoundsBook,
    /// Other settings have come, and not all Sessions have their bounds by them yet.
    renewal: Option<settings::Renewal>,
    stats: Stats,
    journal: journal::Journal,
    queues: Queues,
    reads: read_back::Reads,
    checkpoint: checkpoint::Checkpoints,
    restart: restore::Restart,
    taps: inspect::Taps,
    traces: inspect::Traces,
    /// Kept between publishes so that the hot path allocates nothing.
    matched: Vec<(Subscriber, SubscriberOptions)>,
    templates: Templates,
}

impl Shard {
    /// The shard `id` of `shards`. `seed` must be the same for all of them: it decides who is at home where.
    ///
    /// # Panics
    /// Where `id` is not below `shards`.
    pub fn new(id: ShardId, shards: usize, seed: u64, config: Arc<Config>, now: Moment) -> Self {
        assert!(id.index() < shards, "shard {} of {shards}", id.index());
        let hasher = home_hasher(seed);
        let journal_hasher = hasher.clone();
        let backlog_max = config.limits.mesh_messages_max as usize;
        Self {
            id,
            rights: Arc::default(),
            random: Random(hasher.hash_one(("assigned Client Identifiers", id.index()))),
            sessions: sessions::Sessions::new(hasher.clone()),
            connections: Connections::default(),
            subscriptions: SubscriptionTrie::new(hasher.clone()),
            hasher: hasher.clone(),
            groups: shared::Groups::default(),
            retained: retained::RetainedStore::new(shards),
            look_ups: retained::LookUps::default(),
            wheel: Wheel::new(now),
            wills: wills::Wills::new(&config.wills),
            peers: Peers::new(id, shards, backlog_max),
            aside: (0..shards).map(|_| aside::Aside::default()).collect(),
            paused: Vec::new(),
            relieved: Vec::new(),
            unfinished: VecDeque::new(),
            turn: turn::TurnWork::default(),
            waiting_publishers: BTreeSet::new(),
            hung_up: BTreeSet::new(),
            slow_readers: Vec::new(),
            stop: close::Stop::default(),
            drain: drain::Drain::default(),
            publications: 0,
            connects: 0,
            events: VecDeque::new(),
            authentications: VecDeque::new(),
            pressure: Pressure::None,
            is_sweeping: false,
            bounds: limits::BoundsBook::new(Arc::clone(&config), hasher.clone()),
            renewal: None,
            stats: Stats::default(),
            journal: journal::Journal::off(journal_hasher),
            queues: Queues::new(queue_limits(&config, shards)),
            reads: read_back::Reads::default(),
            checkpoint: checkpoint::Checkpoints::default(),
            restart: restore::Restart::default(),
            taps: inspect::Taps::default(),
            traces: inspect::Traces::default(),
            matched: Vec::new(),
            templates: Templates::default(),
            config,
        }
    }

    fn on_packet(&mut self, now: Moment, id: ConnectionId, packet: &Packet<'_>) -> Result<(), Fault> {
        match packet {
            Packet::Publish(publish) => self.on_publish(now, id, publish),
            Packet::Puback(ack) => self.on_puback(now, id, ack),
            Packet::Pubrec(ack) => self.on_pubrec(now, id, ack),
            Packet::Pubrel(ack) => {
                self.on_pubrel(id, ack);
                Ok(())
            }
            Packet::Pubcomp(ack) => self.on_pubcomp(now, id, ack),
            Packet::Subscribe(subscribe) => self.on_subscribe(id, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, unsubscribe),
            Packet::Pingreq => {
                self.send(id, &Packet::Pingresp); // [MQTT-3.12.4-1]
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(now, id, disconnect),
            Packet::Auth(auth) => self.on_auth(id, auth),
            Packet::Connect(_) => Err(Fault::new(ReasonCode::ProtocolError, "a second CONNECT")), // [MQTT-3.1.0-2]
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(Fault::new(ReasonCode::ProtocolError, "a packet that only a server sends"))
            }
        }
    }

    fn on_fault(&mut self, now: Moment, id: ConnectionId, fault: &Fault) {
        self.stats.protocol_errors += 1;
        self.tell_of(id, fault);
        self.trace_fault(now, id, fault);
        self.disconnect_for(now, id, fault);
    }

    /// Has it in the log that a client is about to be disconnected.
    fn tell_of(&mut self, id: ConnectionId, fault: &Fault) {
        let Some(connection) = self.connections.get(id) else { return };
        if let Some(session) = self.sessions.get(connection.session) {
            self.events.push_back(Event::Disconnected {
                client_id: Arc::clone(&session.client_id),
                peer: connection.origin.peer,
                reason: fault.reason,
                detail: fault.detail.to_string(),
            });
        }
    }

    fn session_of(&self, id: ConnectionId) -> u32 {
        self.connections.get(id).expect("the packet came on it").session
    }

    /// Applies a message from another shard.
    fn apply_step(&mut self, now: Moment, peer: ShardId, message: PeerMessage) {
        self.journal.is_passing_on = true;
        self.apply_letter(now, peer, message);
        self.journal.is_passing_on = false;
        self.journal.end_step();
    }

    fn apply_letter(&mut self, now: Moment, peer: ShardId, message: PeerMessage) {
        match message {
            PeerMessage::Publish { message, deliver, store, under } => {
                let under = self.join_transaction(under);
                if deliver {
                    let mut publishing = deliver::Publishing::of(&message, now).under(under);
                    self.deliver_here(now, &mut publishing, None, None);
                }
                if store {
                    self.store_retained(now, message, under);
                }
            }
            PeerMessage::Interest { filter, gained: true, keeps } => {
                self.subscriptions.add_peer(&filter, peer.index(), keeps);
            }
            PeerMessage::Interest { filter, .. } => self.subscriptions.remove_peer(&filter, peer.index()),
            PeerMessage::Fence { kind, number, parts } => self.on_fence(peer, kind, number, &parts),
            PeerMessage::FenceAck { kind, number } => self.peers.on_fence_ack(peer, kind, number),
            PeerMessage::Settled(number) => self.on_settled(peer, number),
            PeerMessage::Join { key, joined, gate } => self.on_join(peer, &key, joined, gate),
            PeerMessage::Joined { gate } => self.meet(gate),
            PeerMessage::Leave { key, member } => self.remove_member(&key, member),
            PeerMessage::Presence { key, member, is_connected } => self.set_presence(&key, member, is_connected),
            PeerMessage::Deliver { session, delivery, under } => {
                let under = self.join_transaction(under);
                self.deliver_chosen(now, session, delivery, under);
            }
            PeerMessage::Return { delivery, gone, under } => {
                let under = self.join_transaction(under);
                self.on_return(now, delivery, gone, under);
                self.journal.note_returned();
                self.peers.request_returned();
            }
            PeerMessage::LookUp { look_up, filter, cursor } => self.on_look_up(peer, look_up, filter, cursor),
            PeerMessage::Found(found) => self.on_found(now, peer, found),
            PeerMessage::Crowded(is_crowded) => self.peers.note_crowded(peer, is_crowded),
            PeerMessage::ReadyToStop => self.on_ready_to_stop(now),
        }
    }

    /// One condition of a gate is met.
    fn meet(&mut self, name: u64) {
        let Some(gate) = self.peers.meet(name) else { return };
        for connection in gate.connections {
            self.connections.open_gate(connection, name);
        }
        for look_up in gate.look_ups {
            self.start_look_up(look_up);
        }
        if let Some(number) = gate.completes {
            self.complete_transaction(number);
        }
    }

    /// Fires the deadlines that have come, and publishes the wills that are due unless they are so many that they must be sliced.
    ///
    /// Keep Alive ends nobody of whom `has_unread` says that something has come and was not handed over yet: a client is silent if it has
    /// sent nothing [MQTT-3.1.2-22], not if we have not looked.
    pub fn advance(&mut self, now: Moment, mut has_unread: impl FnMut(ConnectionId) -> bool) {
        while let Some(timer) = self.wheel.pop_due(now) {
            self.on_timer(now, timer, &mut has_unread);
            self.journal.end_step();
        }
        // A few wills are published in the turn that saw their clients go. A longer line is for the wills' own task queue, or a
        // storm would take a slice of every turn on top of its share.
        if self.wills.due_len() <= self.config.wills.slice as usize {
            self.publish_due_wills(now, usize::MAX);
        }
        self.apply_aside(now);
        self.close_all_when_ready(now);
        if self.may_resume() {
            for id in std::mem::take(&mut self.paused) {
                self.resume(now, id, Pause::Congestion);
            }
        }
        for id in std::mem::take(&mut self.relieved) {
            self.resume(now, id, Pause::Choked);
        }
        self.read_unfinished(now);
        self.renew_some(now);
    }

    fn on_timer(&mut self, now: Moment, timer: Timer, has_unread: &mut impl FnMut(ConnectionId) -> bool) {
        match timer {
            Timer::KeepAlive(connection) => self.on_keep_alive(now, connection, has_unread),
            Timer::MayPublish(connection) => self.resume(now, connection, Pause::Rate),
            Timer::LetThrough(connection) => self.let_through(now, connection),
            Timer::CredentialsEnd(connection) => self.on_credentials_end(now, connection),
            Timer::WillDelay(key) => {
                if let Some(session) = self.sessions.resolve(key) {
                    self.make_will_due(session, now);
                }
            }
            Timer::SessionExpiry(key) => {
                if let Some(session) = self.sessions.resolve(key) {
                    self.on_session_expiry(now, session);
                }
            }
            Timer::RetainedExpiry(message) => {
                if let Some(message) = message.upgrade() {
                    self.on_retained_expiry(&message);
                }
            }
            Timer::SweepQueues { from } => self.sweep_queues(now, from),
            Timer::CheckpointReadAgain => self.ask_again_for_checkpoint(),
            Timer::Drain => self.on_drain_timer(now),
            Timer::ReadAgain(key) => {
                if let Some(session) = self.sessions.resolve(key) {
                    self.send_queued(now, session);
                }
            }
        }
    }

    /// Ends a turn: answers what the other shards are waiting for, and asks them what this turn needs to know.
    pub fn end_turn(&mut self, now: Moment) {
        if self.traces.is_any_open() {
            self.traces.note_time(now);
        }
        self.disconnect_slow_readers(now);
        while let Some(ready) = self.peers.next_ready() {
            self.on_ready(ready);
        }
        self.answer_look_ups(now);
        self.go_on_with_checkpoint(now);
        self.end_journal_turn();
        self.turn.end();
    }

    fn on_ready(&mut self, ready: Wait) {
        match ready {
            Wait::Gate(gate) => self.meet(gate),
            Wait::Promise(gate) => {
                if self.put_off_for_returned(Wait::Promise(gate)).is_some() {
                    self.meet(gate);
                }
            }
            Wait::Joined { peer, gate } => self.peers.send(peer, PeerMessage::Joined { gate }),
            Wait::LookUp(job) => self.admit_look_up(job),
            Wait::Acknowledge { peer, kind, number } => self.acknowledge_fence(peer, kind, number),
        }
    }

    /// When the next turn is needed even if nothing arrives. The wills that are due are not counted: they have a task of their own.
    pub fn next_deadline(&self) -> Option<Moment> {
        let may_resume = self.may_resume() || !self.relieved.is_empty() || !self.unfinished.is_empty();
        let may_apply = self.can_apply_any_aside();
        let has_work = self.retained.has_jobs() || self.can_go_on_with_checkpoint() || self.is_renewing();
        if has_work || may_resume || may_apply {
            return Some(Moment::ZERO);
        }
        let deadlines = [self.wheel.next_deadline(), self.storm_ends()];
        deadlines.into_iter().flatten().min()
    }

    /// Takes up to `at_most` messages for a peer, in order.
    pub fn messages(&mut self, peer: ShardId, at_most: usize) -> impl Iterator<Item = PeerMessage> + '_ {
        let outbox = self.peers.outbox(peer);
        let count = at_most.min(outbox.len());
        outbox.drain(..count)
    }

    /// Whether there are messages for a peer.
    pub fn has_messages(&self, peer: ShardId) -> bool {
        self.peers.has_messages(peer)
    }

    /// A connection to close once what [`Self::take_output`] still gives is sent.
    pub fn next_close(&mut self) -> Option<ConnectionId> {
        self.connections.next_close()
    }

    /// A connection whose reading shall pause or go on.
    pub fn next_reading(&mut self) -> Option<(ConnectionId, Reading)> {
        self.connections.next_reading()
    }

    /// A connection that has something to send and nothing in flight.
    pub fn next_output(&mut self) -> Option<ConnectionId> {
        self.connections.next_output()
    }

    /// Takes what a connection has to send; nothing while the previous output is in flight.
    pub fn take_output(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let traced = if self.traces.is_any_open() { self.connections.traced(id) } else { None };
        let output = self.connections.take_output(id);
        if let (Some(version), Some(output)) = (traced, &output) {
            self.trace_sent(id, version, output);
        }
        output
    }

    /// What [`Self::take_output`] gave has been written; the buffer comes back.
    pub fn on_sent(&mut self, now: Moment, id: ConnectionId, buffer: Vec<u8>) {
        if !self.connections.on_sent(id, buffer) {
            return;
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let session = connection.session;
        if connection.pauses.has(Pause::Choked) && connection.output.pending() <= connection.bounds.output_bytes_max / 2
        {
            self.relieved.push(id);
        }
        // This runs for every send, and hardly ever has anything to do.
        let Some(receiver) = self.sessions.get(session) else { return };
        let (has_waiting, looks_up) = (receiver.outgoing.has_waiting(), !receiver.look_ups.is_empty());
        if has_waiting {
            self.send_queued(now, session);
        }
        if looks_up {
            self.go_on_looking_up(session);
        }
        self.journal.end_step();
    }

    /// The next event for the log.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether the journal cannot be written, so that what needs to be kept is refused.
    pub fn is_journal_failing(&self) -> bool {
        self.journal.is_failing()
    }

    /// The open connection of a client that is at home here. Its owner hands over what has arrived on it before it opens another one
    /// for the same client.
    pub fn connection_of(&self, client_id: &str) -> Option<ConnectionId> {
        self.session(client_id)?.connection
    }

    /// The Session of a client that is at home here, for tests and tools.
    pub fn session(&self, client_id: &str) -> Option<&Session> {
        self.sessions.find(client_id).and_then(|index| self.sessions.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_that_assigned_client_identifiers_tell_is_not_the_seed() {
        const SEED: u64 = 0x5EED;
        let shard = |id| Shard::new(ShardId::new(id), 2, SEED, Arc::default(), Moment::ZERO);
        assert_ne!(shard(0).random.0, SEED);
        assert_ne!(shard(0).random.0, shard(1).random.0, "and each shard has a generator of its own");
    }
}
