//! What shards say to each other, and how a shard knows that its peers have heard it.
//!
//! Channels between two shards are FIFO. A *fence* is a number sent to every peer at the end of a turn: when all have
//! answered it, all have dealt with everything sent before it. A *gate* withholds a reply until what it promises
//! is so on every shard.

use crate::session::message::{Delivery, Message, SharedKey};
use crate::session::{ConnectionId, Subscription};
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
    },
    /// The sender gained its first, or lost its last, subscriber of a filter.
    Interest {
        /// The filter.
        filter: TopicFilter,
        /// Gained.
        gained: bool,
    },
    /// Answer with `FenceAck` when everything before this has been dealt with.
    Fence(u64),
    /// All up to this fence has been dealt with.
    FenceAck(u64),
    /// Adds, or changes, a member of a Shared Subscription whose group lives there.
    Join {
        /// The group.
        key: Arc<SharedKey>,
        /// Who joins.
        member: Member,
        /// Its options.
        subscription: Box<Subscription>,
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
    },
    /// The chosen Session is gone: choose another. [MQTT-4.8.2-4]
    Return {
        /// The delivery.
        delivery: Delivery,
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

/// What waits for a fence.
#[derive(Debug)]
pub(super) enum Wait {
    /// One of the conditions of a gate.
    Gate(u64),
    /// A `Joined` for another shard.
    Joined { peer: ShardId, gate: u64 },
    /// The answer to a look-up, which must not miss what other shards stored before.
    LookUp(super::retained::Job),
}

/// A reply that waits, and what follows it.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) conditions: usize,
    pub(super) connection: ConnectionId,
    /// Retained look-ups to start when it opens.
    pub(super) look_ups: Vec<u64>,
}

/// A channel this full pauses the connections that fill it; at half of it they go on.
#[derive(Debug)]
pub(super) struct Peers {
    me: ShardId,
    outboxes: Vec<VecDeque<PeerMessage>>,
    backlog_max: usize,
    next_fence: u64,
    fence_requested: bool,
    interest_fence: u64,
    acknowledged: Vec<u64>,
    owed: Vec<Option<u64>>,
    waits: VecDeque<(u64, Wait)>,
    gates: BTreeMap<u64, Gate>,
    next_gate: u64,
}

impl Peers {
    pub(super) fn new(me: ShardId, shards: usize, backlog_max: usize) -> Self {
        let mut acknowledged = vec![0; shards];
        acknowledged[me.index()] = u64::MAX;
        Self {
            me,
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            backlog_max,
            next_fence: 1,
            fence_requested: false,
            interest_fence: 0,
            acknowledged,
            owed: vec![None; shards],
            waits: VecDeque::new(),
            gates: BTreeMap::new(),
            next_gate: 1,
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
        self.outboxes[to.index()].push_back(message);
    }

    pub(super) fn outbox(&mut self, peer: ShardId) -> &mut VecDeque<PeerMessage> {
        &mut self.outboxes[peer.index()]
    }

    pub(super) fn has_messages(&self, peer: ShardId) -> bool {
        !self.outboxes[peer.index()].is_empty()
    }

    /// Whether a connection that publishes to others must pause.
    pub(super) fn is_congested(&self) -> bool {
        self.outboxes.iter().any(|outbox| outbox.len() >= self.backlog_max)
    }

    /// Whether paused connections may go on.
    pub(super) fn is_relieved(&self) -> bool {
        self.outboxes.iter().all(|outbox| outbox.len() <= self.backlog_max / 2)
    }

    /// Tells every peer of interest in `filter`.
    pub(super) fn tell_interest(&mut self, filter: &TopicFilter, gained: bool) {
        for peer in self.others() {
            self.send(peer, PeerMessage::Interest { filter: filter.clone(), gained });
        }
        if gained {
            self.interest_fence = self.request_fence();
        }
    }

    /// The fence that the end of this turn sends; already answered where there are no peers.
    pub(super) fn request_fence(&mut self) -> u64 {
        self.fence_requested = true;
        self.next_fence
    }

    /// The fence behind the newest interest told, where it is not answered yet.
    pub(super) fn interest_outstanding(&self) -> Option<u64> {
        (self.interest_fence > self.answered()).then_some(self.interest_fence)
    }

    fn answered(&self) -> u64 {
        self.acknowledged.iter().copied().min().unwrap_or(u64::MAX)
    }

    pub(super) fn has_peers(&self) -> bool {
        self.outboxes.len() > 1
    }

    pub(super) fn wait(&mut self, fence: u64, wait: Wait) {
        self.waits.push_back((fence, wait));
    }

    /// What was waiting for a fence that is now answered.
    pub(super) fn next_ready(&mut self) -> Option<Wait> {
        let answered = self.answered();
        self.waits.pop_front_if(|(fence, _)| *fence <= answered).map(|(_, wait)| wait)
    }

    pub(super) fn on_fence(&mut self, peer: ShardId, fence: u64) {
        self.owed[peer.index()] = Some(fence);
    }

    pub(super) fn on_fence_ack(&mut self, peer: ShardId, fence: u64) {
        let acknowledged = &mut self.acknowledged[peer.index()];
        *acknowledged = fence.max(*acknowledged);
    }

    /// Sends the fence that was asked for in this turn, and answers the peers' fences.
    pub(super) fn end_turn(&mut self) {
        for peer in self.others() {
            if let Some(fence) = self.owed[peer.index()].take() {
                self.send(peer, PeerMessage::FenceAck(fence));
            }
        }
        if std::mem::take(&mut self.fence_requested) {
            for peer in self.others() {
                self.send(peer, PeerMessage::Fence(self.next_fence));
            }
            self.next_fence += 1;
        }
    }

    pub(super) fn name_gate(&mut self) -> u64 {
        self.next_gate += 1;
        self.next_gate
    }

    pub(super) fn add_gate(&mut self, name: u64, gate: Gate) {
        self.gates.insert(name, gate);
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
