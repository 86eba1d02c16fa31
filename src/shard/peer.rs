//! What shards say to each other, and how a shard knows that its peers have heard it.
//!
//! Channels between two shards are FIFO. A *fence* is a number sent to every peer at the end of a turn: when all have
//! answered it, all have dealt with everything sent before it. A *gate* withholds a reply until what it promises
//! is so on every shard.

use super::shared::Joined;
use crate::journal::record::Transaction;
use crate::session::ConnectionId;
use crate::session::message::{Delivery, Message, SharedKey};
use crate::shard::ShardId;
use crate::topic::{Cursor, TopicFilter};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names a Session to another shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// A member of a Shared Subscription: a Session of some shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub(super) shard: ShardId,
    pub(super) session: SessionKey,
}

/// A message from one shard to another.
#[derive(Debug)]
pub enum PeerMessage {
    /// Deliver to the subscribers there, or store as retained there, or both.
    Publish {
        /// The message.
        message: Arc<Message>,
        /// The receiving shard had told of interest in it.
        deliver: bool,
        /// The receiving shard keeps the retained message of its topic.
        store: bool,
        /// The sender's transaction that this is part of.
        under: Option<Transaction>,
    },
    /// The sender gained its first, or lost its last, subscriber of a filter.
    Interest {
        /// The filter.
        filter: TopicFilter,
        /// Gained.
        gained: bool,
        /// What these subscribers are sent may have to be stored.
        keeps: bool,
    },
    /// Answer with `FenceAck` when all before this has been dealt with, as the kind says.
    Fence {
        /// What is asked.
        kind: FenceKind,
        /// Ascending for each kind.
        number: u64,
        /// Transactions of which the receiver has got all that comes from the sender.
        parts: Vec<Transaction>,
    },
    /// All up to this fence has been dealt with.
    FenceAck {
        /// From `Fence`.
        kind: FenceKind,
        /// From `Fence`.
        number: u64,
    },
    /// All transactions of the sender up to this number are complete.
    Settled(u64),
    /// Adds, or changes, a member of a Shared Subscription whose group lives there.
    Join {
        /// The group.
        key: Arc<SharedKey>,
        /// Who joins, and with which options.
        joined: Joined,
        /// The gate that `Joined` names.
        gate: u64,
    },
    /// The group knows its member, and all shards know of the group.
    Joined {
        /// From `Join`.
        gate: u64,
    },
    /// Removes a member.
    Leave {
        /// The group.
        key: Arc<SharedKey>,
        /// Who leaves.
        member: Member,
    },
    /// Tells whether a member has a Network Connection.
    Presence {
        /// The group.
        key: Arc<SharedKey>,
        /// The member.
        member: Member,
        /// Whether it has one.
        is_connected: bool,
    },
    /// The group chose this Session.
    Deliver {
        /// The Session.
        session: SessionKey,
        /// The delivery.
        delivery: Delivery,
        /// The transaction that this is part of, of whichever shard.
        under: Option<Transaction>,
    },
    /// The chosen Session is gone: choose another. [MQTT-4.8.2-4]
    Return {
        /// The delivery.
        delivery: Delivery,
        /// The member that was chosen, where it is no more.
        gone: Option<Member>,
        /// The transaction that this is part of, of whichever shard.
        under: Option<Transaction>,
    },
    /// Asks for retained messages.
    LookUp {
        /// Names the look-up to its sender.
        look_up: u64,
        /// What to look up.
        filter: TopicFilter,
        /// Where to go on; `None`: from the start.
        cursor: Option<Cursor>,
    },
    /// Answers `LookUp`.
    Found(Found),
    /// So many letters of the receiver wait at the sender that the receiver's publishers are to pause, or need not any more.
    Crowded(bool),
    /// In a clean stop: everything the sender had to publish is before this.
    ReadyToStop,
}

/// Part of the answer to a look-up of retained messages.
#[derive(Debug)]
pub struct Found {
    pub(super) look_up: u64,
    pub(super) messages: Vec<Arc<Message>>,
    /// By shard: the newest publication that this store had seen when it answered.
    pub(super) seen: Vec<u64>,
    /// Where to go on; `None`: this is the end.
    pub(super) cursor: Option<Cursor>,
}

/// What a fence asks of the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceKind {
    /// That everything before it has been dealt with.
    Heard,
    /// And that what had to be stored is durable, here and where it was passed on to.
    Stored,
    /// The same for what was passed on for others: durable there. It waits for nobody else, so nothing waits in a circle.
    PassedOn,
}

/// What waits for a fence, or for the journal.
#[derive(Debug)]
pub(super) enum Wait {
    /// One of the conditions of a gate.
    Gate(u64),
    /// The same for a promise that peers have stored something for: also what came back of that must be stored.
    Promise(u64),
    /// A `Joined` for another shard.
    Joined { peer: ShardId, gate: u64 },
    /// The answer to a look-up, which must not miss what other shards stored before.
    LookUp(super::retained::Job),
    /// The answer to a peer's fence.
    Acknowledge { peer: ShardId, kind: FenceKind, number: u64 },
}

/// Replies that wait, and what follows them.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) conditions: usize,
    /// The connections on which something is withheld.
    pub(super) connections: Vec<ConnectionId>,
    /// Retained look-ups to start when it opens.
    pub(super) look_ups: Vec<u64>,
    /// The transaction that is then complete.
    pub(super) completes: Option<u64>,
}

/// Fences of one kind: asked for in a turn, sent at its end, answered by all peers.
#[derive(Debug)]
struct Fences {
    kind: FenceKind,
    next: u64,
    is_requested: bool,
    acknowledged: Vec<u64>,
    waits: VecDeque<(u64, Wait)>,
}

impl Fences {
    fn new(kind: FenceKind, me: ShardId, shards: usize) -> Self {
        let mut acknowledged = vec![0; shards];
        acknowledged[me.index()] = u64::MAX;
        Self { kind, next: 1, is_requested: false, acknowledged, waits: VecDeque::new() }
    }

    fn request(&mut self) -> u64 {
        self.is_requested = true;
        self.next
    }

    fn answered(&self) -> u64 {
        self.acknowledged.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// The newest fence asked for, where it is not answered yet.
    fn outstanding(&self) -> Option<u64> {
        let newest = if self.is_requested { self.next } else { self.next - 1 };
        (newest > self.answered()).then_some(newest)
    }

    fn next_ready(&mut self) -> Option<Wait> {
        let answered = self.answered();
        self.waits.pop_front_if(|(fence, _)| *fence <= answered).map(|(_, wait)| wait)
    }
}

/// A channel this full pauses the connections that fill it; at half of it they go on.
#[derive(Debug)]
pub(super) struct Peers {
    me: ShardId,
    outboxes: Vec<VecDeque<PeerMessage>>,
    /// Messages so far, to all peers.
    sent: u64,
    /// By peer: too many of our letters wait there.
    crowded: Vec<bool>,
    backlog_max: usize,
    heard: Fences,
    stored: Fences,
    passed_on: Fences,
    interest_fence: u64,
    /// The newest fence behind something that was passed on since it had come back.
    returned_fence: u64,
    owed: Vec<Option<u64>>,
    gates: BTreeMap<u64, Gate>,
    next_gate: u64,
}

impl Peers {
    pub(super) fn new(me: ShardId, shards: usize, backlog_max: usize) -> Self {
        Self {
            me,
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            sent: 0,
            crowded: vec![false; shards],
            backlog_max,
            heard: Fences::new(FenceKind::Heard, me, shards),
            stored: Fences::new(FenceKind::Stored, me, shards),
            passed_on: Fences::new(FenceKind::PassedOn, me, shards),
            interest_fence: 0,
            returned_fence: 0,
            owed: vec![None; shards],
            gates: BTreeMap::new(),
            next_gate: 1,
        }
    }

    /// Numbers the fences that number transactions, too, from here on.
    pub(super) fn number_transactions_from(&mut self, next: u64) {
        self.stored.next = next;
        let me = self.me.index();
        for (peer, acknowledged) in self.stored.acknowledged.iter_mut().enumerate() {
            *acknowledged = if peer == me { u64::MAX } else { next - 1 };
        }
    }

    pub(super) fn shards(&self) -> usize {
        self.outboxes.len()
    }

    pub(super) fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let me = self.me;
        (0..self.outboxes.len()).map(ShardId::new).filter(move |shard| *shard != me)
    }

    pub(super) fn send(&mut self, to: ShardId, message: PeerMessage) {
        debug_assert_ne!(to, self.me, "a shard deals with its own messages itself");
        self.sent += 1;
        self.outboxes[to.index()].push_back(message);
    }

    /// How many messages were sent so far, to all peers.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn outbox(&mut self, peer: ShardId) -> &mut VecDeque<PeerMessage> {
        &mut self.outboxes[peer.index()]
    }

    pub(super) fn has_messages(&self, peer: ShardId) -> bool {
        !self.outboxes[peer.index()].is_empty()
    }

    pub(super) fn backlog_max(&self) -> usize {
        self.backlog_max
    }

    /// Whether a channel holds as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.outboxes.iter().any(|outbox| outbox.len() >= self.backlog_max)
    }

    /// Whether a connection that publishes to others must pause.
    pub(super) fn is_congested(&self) -> bool {
        self.is_full() || self.crowded.contains(&true)
    }

    /// A peer has put many of our letters aside, or has gone on with them.
    pub(super) fn note_crowded(&mut self, peer: ShardId, is_crowded: bool) {
        self.crowded[peer.index()] = is_crowded;
    }

    /// Messages that wait for their channels to have room.
    pub(super) fn waiting(&self) -> usize {
        self.outboxes.iter().map(VecDeque::len).sum()
    }

    /// Whether paused connections may go on.
    pub(super) fn is_relieved(&self) -> bool {
        !self.crowded.contains(&true) && self.outboxes.iter().all(|outbox| outbox.len() <= self.backlog_max / 2)
    }

    /// Tells every peer of interest in `filter`.
    pub(super) fn tell_interest(&mut self, filter: &TopicFilter, gained: bool, keeps: bool) {
        for peer in self.others() {
            self.send(peer, PeerMessage::Interest { filter: filter.clone(), gained, keeps });
        }
        if gained {
            self.interest_fence = self.request_fence();
        }
    }

    /// The fence that the end of this turn sends; already answered where there are no peers.
    pub(super) fn request_fence(&mut self) -> u64 {
        self.heard.request()
    }

    /// The same for what peers must store. Its number names the transaction of this turn.
    pub(super) fn request_stored(&mut self) -> u64 {
        self.stored.request()
    }

    /// The same for what is passed on for others.
    pub(super) fn request_passed_on(&mut self) {
        self.passed_on.request();
    }

    /// The number that a transaction of this turn has or would have.
    pub(super) fn newest_stored(&self) -> u64 {
        self.stored.next
    }

    /// The same for what has come back and goes on to another member.
    pub(super) fn request_returned(&mut self) {
        self.returned_fence = self.passed_on.request();
    }

    /// The fence behind the newest of these, where it is not answered yet.
    pub(super) fn returned_outstanding(&self) -> Option<u64> {
        (self.returned_fence > self.passed_on.answered()).then_some(self.returned_fence)
    }

    /// The newest fence for stored things, where it is not answered yet.
    pub(super) fn stored_outstanding(&self) -> Option<u64> {
        self.stored.outstanding()
    }

    /// The same for things passed on.
    pub(super) fn passed_on_outstanding(&self) -> Option<u64> {
        self.passed_on.outstanding()
    }

    /// The fence behind the newest interest told, where it is not answered yet.
    pub(super) fn interest_outstanding(&self) -> Option<u64> {
        (self.interest_fence > self.heard.answered()).then_some(self.interest_fence)
    }

    /// Whether all peers have heard what was sent before a fence.
    pub(super) fn has_heard(&self, fence: u64) -> bool {
        self.heard.answered() >= fence
    }

    pub(super) fn has_peers(&self) -> bool {
        self.outboxes.len() > 1
    }

    pub(super) fn wait(&mut self, fence: u64, wait: Wait) {
        self.heard.waits.push_back((fence, wait));
    }

    pub(super) fn wait_stored(&mut self, fence: u64, wait: Wait) {
        self.stored.waits.push_back((fence, wait));
    }

    pub(super) fn wait_passed_on(&mut self, fence: u64, wait: Wait) {
        self.passed_on.waits.push_back((fence, wait));
    }

    /// What was waiting for a fence that is now answered.
    pub(super) fn next_ready(&mut self) -> Option<Wait> {
        let Self { heard, stored, passed_on, .. } = self;
        [heard, stored, passed_on].into_iter().find_map(Fences::next_ready)
    }

    /// A peer asks that all before this has been dealt with, which is so at the end of the turn.
    pub(super) fn on_fence(&mut self, peer: ShardId, number: u64) {
        self.owed[peer.index()] = Some(number);
    }

    pub(super) fn on_fence_ack(&mut self, peer: ShardId, kind: FenceKind, number: u64) {
        let fences = match kind {
            FenceKind::Heard => &mut self.heard,
            FenceKind::Stored => &mut self.stored,
            FenceKind::PassedOn => &mut self.passed_on,
        };
        let acknowledged = &mut fences.acknowledged[peer.index()];
        *acknowledged = number.max(*acknowledged);
    }

    /// Answers the peers' fences, and sends those that were asked for in this turn. `own`: this shard has begun a transaction;
    /// `foreign`: it has passed parts of these on.
    pub(super) fn end_turn(&mut self, own: bool, foreign: &[Transaction]) {
        for peer in self.others() {
            if let Some(number) = self.owed[peer.index()].take() {
                self.send(peer, PeerMessage::FenceAck { kind: FenceKind::Heard, number });
            }
        }
        let mine = own.then_some(Transaction { shard: self.me.index() as u8, number: self.stored.next });
        self.send_fence(FenceKind::Heard, &[]);
        self.send_fence(FenceKind::Stored, mine.as_slice());
        self.send_fence(FenceKind::PassedOn, foreign);
    }

    fn send_fence(&mut self, kind: FenceKind, parts: &[Transaction]) {
        let fences = match kind {
            FenceKind::Heard => &mut self.heard,
            FenceKind::Stored => &mut self.stored,
            FenceKind::PassedOn => &mut self.passed_on,
        };
        debug_assert_eq!(fences.kind, kind);
        if !std::mem::take(&mut fences.is_requested) {
            return;
        }
        let number = fences.next;
        fences.next += 1;
        for peer in self.others() {
            self.send(peer, PeerMessage::Fence { kind, number, parts: parts.to_vec() });
        }
    }

    pub(super) fn name_gate(&mut self) -> u64 {
        self.next_gate += 1;
        self.next_gate
    }

    pub(super) fn add_gate(&mut self, name: u64, gate: Gate) {
        self.gates.insert(name, gate);
    }

    pub(super) fn has_gate(&self, name: u64) -> bool {
        self.gates.contains_key(&name)
    }

    pub(super) fn gate_mut(&mut self, name: u64) -> Option<&mut Gate> {
        self.gates.get_mut(&name)
    }

    /// One condition of a gate is met; the gate, when that was the last.
    pub(super) fn meet(&mut self, name: u64) -> Option<Gate> {
        let gate = self.gates.get_mut(&name)?;
        gate.conditions -= 1;
        if gate.conditions > 0 {
            return None;
        }
        self.gates.remove(&name)
    }
}
