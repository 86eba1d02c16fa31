//! How much work one turn may be, so that nobody waits long for the next one whatever others send.
//!
//! What a PUBLISH costs has little to do with its size: eight bytes may be looked up on a million nodes of the trie, or be delivered ten
//! thousand times. So work is counted in what it consists of, nodes looked at, deliveries and messages to other shards, each some 10 to 60 ns.
//! There is no clock in this, so the same calls give the same effects.
//!
//! A connection that has caused its share is paused, and stands in a line; each turn goes on with those in front. A client alone on a shard
//! loses nothing by that, and one among others waits for them as they wait for it.

use super::Shard;
use super::connection::Pause;
use crate::session::ConnectionId;
use crate::timer::Moment;

/// What the packets of one connection may cause in one turn: about a millisecond. What arrives at once is 4 KiB: with some forty messages of
/// a hundred bytes, each may be delivered eight hundred times.
const SHARE: u64 = 32 * 1024;
/// What all connections together may cause before those that publish stand in the line at once: more than all that the ring holds for one turn
/// causes, where a message has a few receivers.
const ARRIVALS: u64 = 1024 * 1024;
/// What a connection may cause that ends and cannot wait for another turn.
const LAST_SHARE: u64 = 32 * SHARE;
/// What those in the line may cause in one turn; one of them goes on in any case.
const LINE: u64 = 2 * SHARE;

/// The work of a shard.
#[derive(Debug, Default)]
pub(super) struct TurnWork {
    /// Since the shard began, without the messages to peers.
    done: u64,
    /// What was read of connections in this turn has caused so much.
    read: u64,
}

impl TurnWork {
    /// Counts nodes and deliveries.
    pub(super) fn add(&mut self, steps: usize) {
        self.done += steps as u64;
    }

    /// What one more connection may cause in this turn. One that ends has no other turn.
    pub(super) fn share(&self, is_finishing: bool) -> u64 {
        if is_finishing { LAST_SHARE } else { ARRIVALS.saturating_sub(self.read).min(SHARE) }
    }

    pub(super) fn note_read(&mut self, work: u64) {
        self.read += work;
    }

    pub(super) fn end(&mut self) {
        self.read = 0;
    }
}

impl Shard {
    /// All that was done so far: nodes looked at, deliveries, messages to other shards. Owners that hand messages of peers over stop for this
    /// turn when it has grown by much.
    pub fn work(&self) -> u64 {
        self.turn.done + self.peers.sent()
    }

    /// Has a connection that has caused its share go on in a later turn; whether it waits.
    pub(super) fn wait_for_turn(&mut self, id: ConnectionId) -> bool {
        let waits = self.connections.pause(id, Pause::Turn);
        if waits {
            self.stats.yields += 1;
            self.unfinished.push_back(id);
        }
        waits
    }

    /// Whether a connection waits for its turn with what it has sent. Its end, where nobody waits for that, is better told afterwards.
    pub fn waits_for_turn(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.pauses.has(Pause::Turn))
    }

    /// Goes on with those who wait for their turn, in their order. Whoever has to wait again stands behind the others.
    pub(super) fn read_unfinished(&mut self, now: Moment) {
        let begin = self.work();
        for _ in 0..self.unfinished.len() {
            let Some(id) = self.unfinished.pop_front() else { return };
            self.resume_with(now, id, Pause::Turn, SHARE);
            if self.work() - begin >= LINE {
                return;
            }
        }
    }
}
