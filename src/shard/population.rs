//! What a shard holds, in numbers: the gauges beside the counters of [`stats`](super::stats).

use super::{Pressure, Shard, Storm};
use crate::session::queue::Load;

/// How much of everything a shard holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// Network Connections.
    pub connections: usize,
    /// Sessions, with or without a connection.
    pub sessions: usize,
    /// Subscriptions; all members of a Shared Subscription together are one, where it lives.
    pub subscriptions: usize,
    /// Of these, Shared Subscriptions.
    pub shared_groups: usize,
    /// Their members: each is a Subscription of a client.
    pub shared_members: usize,
    /// Retained messages stored here.
    pub retained: usize,
    /// Their bytes.
    pub retained_bytes: usize,
    /// What waits in the queues of all Sessions.
    pub queued: Load,
    /// Wills that are due and not yet published.
    pub due_wills: usize,
    /// Wills that are due and held back by an operator.
    pub held_wills: usize,
    /// The storm that is going on.
    pub storm: Option<Storm>,
    /// Messages of this shard that wait for others, and of others that were put aside here.
    pub letters: usize,
    /// Deadlines in the wheel.
    pub timers: usize,
    /// How short memory is, as far as this shard has heard.
    pub pressure: Pressure,
    /// Bytes that a checkpoint would write, about: what is alive in the journal.
    pub live_bytes: u64,
    /// Whether a checkpoint is under way.
    pub is_writing_checkpoint: bool,
    /// Whether clients are handed away before a stop.
    pub is_draining: bool,
}

impl Shard {
    /// Gauges: how much there is of everything. It takes no longer however much that is.
    pub fn population(&self) -> Population {
        Population {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            subscriptions: self.subscriptions.len(),
            shared_groups: self.groups.len(),
            shared_members: self.groups.members(),
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            queued: self.queues.load,
            due_wills: self.wills.due_len(),
            held_wills: self.wills.held_len(),
            storm: self.storm_now(),
            letters: self.peers.waiting() + self.letters_aside(),
            timers: self.wheel.len(),
            pressure: self.pressure,
            live_bytes: if self.journal.is_on() { self.live_bytes() } else { 0 },
            is_writing_checkpoint: self.is_writing_checkpoint(),
            is_draining: self.drain.is_on(),
        }
    }
}
