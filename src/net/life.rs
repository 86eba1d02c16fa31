//! How the service of one shard begins, and how it ends.

use std::collections::VecDeque;

use super::connection::Deadline;
use super::journal::Journal;
use super::worker::Worker;
use crate::timer::Moment;

/// How far a clean stop has come.
///
/// ```text
/// Starting ──all shards know all──▶ Running ──asked──▶ Stopping ──nothing left here──▶ Waiting ──nothing left anywhere──┐
///     └───────────────asked────────────────────────────────▲                                                          ▼
///                                                          └──shutdown_timeout──▶ Finished ◀──all is on disk── Settling
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// The listeners are closed: what the journal told is made known to all shards.
    Starting,
    Running,
    Stopping,
    /// So many rounds are over here; what peers had sent before they were done with a round is there in the next.
    Waiting(usize),
    /// The journal has its last word, which is to reach the disk.
    Settling,
    Finished,
}

/// Rounds of a clean stop: a message may make its receiver send another one.
const STOP_ROUNDS: usize = 3;

impl Worker {
    /// Opens the listeners once that is allowed; says first when it could be.
    pub(super) fn advance_start(&mut self, now: Moment) {
        if self.shard.is_restored()
            && self.has_moved()
            && let Some(ready) = self.ready.take()
        {
            let _ = ready.send(Ok(())); // Nobody listens when the start has been given up.
        }
        self.is_running(now);
    }

    /// Whether clients are served. A peer may have seen before this shard that the listeners may open.
    pub(super) fn is_running(&mut self, now: Moment) -> bool {
        if self.life == Life::Starting && self.port.mesh().is_open() {
            self.life = Life::Running;
            (0..self.listeners.len() as u32).for_each(|slot| self.accept(slot));
            self.shard.open_for_business(now);
        }
        self.life == Life::Running
    }

    /// Whether all that was taken over from other journals is in this shard's own, and on the disk.
    fn has_moved(&self) -> bool {
        let is_written = !self.shard.is_writing_checkpoint() && self.journal.as_ref().is_none_or(Journal::is_idle);
        !self.is_moving || is_written
    }

    /// Begins a clean stop: no new connections, and those that are no clients yet end.
    pub(super) fn stop(&mut self, now: Moment) {
        self.life = Life::Stopping;
        for slot in 0..self.listeners.len() as u32 {
            self.io.ring.cancel_accept(slot);
        }
        self.listeners.clear();
        self.waiting.clear(); // Dropped, and so closed.
        self.io.deadlines.arm(now + self.config.shutdown_timeout, Deadline::Stop);
        for id in self.connections.ids() {
            self.end_unless_open(id);
        }
        self.departures.iter_mut().for_each(VecDeque::clear); // Likewise.
        self.shard.begin_shutdown(now);
    }

    pub(super) fn advance_stop(&mut self, now: Moment) {
        match self.life {
            Life::Stopping if self.has_nothing_left() => self.finish_round(1),
            Life::Waiting(STOP_ROUNDS) if self.port.mesh().all_finished(STOP_ROUNDS) => {
                self.shard.record_stop(now);
                self.carry_out(now);
                self.life = Life::Settling;
            }
            Life::Waiting(round) if self.port.mesh().all_finished(round) && !self.peers_with_messages() => {
                self.finish_round(round + 1);
            }
            _ => {}
        }
        if self.life == Life::Settling && self.journal.as_ref().is_none_or(Journal::is_idle) {
            self.life = Life::Finished;
        }
    }

    fn finish_round(&mut self, round: usize) {
        self.life = Life::Waiting(round);
        self.port.mesh().finish();
    }

    fn has_nothing_left(&self) -> bool {
        let population = self.shard.population();
        self.connections.len() == 0
            && population.connections == 0
            && population.due_wills == 0
            && !self.peers_with_messages()
    }
}
