//! What a shard has counted and what it holds, copied in one of its turns.
//!
//! Metrics, `$SYS`, the HTTP API and the last lines of the log all read this. It is a plain copy that takes the same time however many
//! Sessions there are.

use super::counters::Counters;
use super::journal::JournalFigures;
use super::worker::Worker;
use crate::figures::Histogram;
use crate::shard::{Population, Stats};
use crate::timer::Moment;

/// A turn that takes longer is felt by clients.
const SLOW_MICROS: u64 = 10_000;
/// One that takes longer than this is a stall.
const STALL_MICROS: u64 = 100_000;

/// A shard at a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardReport {
    /// Its number.
    pub(crate) shard: usize,
    /// What its state machine has counted.
    pub(crate) stats: Stats,
    /// What it holds.
    pub(crate) population: Population,
    /// What the shell around it has counted.
    pub(crate) counters: Counters,
    /// Sockets of its own, those of clients that are not let in yet included.
    pub(crate) sockets: usize,
    /// Deadlines of the shell: handshakes, writes, pauses.
    pub(crate) deadlines: usize,
    /// How long its turns took.
    pub(crate) turns: Turns,
    /// Its journal; `None` with `durability = "memory"`.
    pub(crate) journal: Option<JournalFigures>,
    /// Letters of other shards that it has not taken yet.
    pub(crate) letters_waiting: usize,
    /// Errands that it has not carried out yet.
    pub(crate) errands_waiting: usize,
}

/// How long turns took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    /// In microseconds; slices of due wills are turns of their own.
    pub(crate) durations: Histogram<16, 18>,
    /// Longer than 10 ms.
    pub(crate) slow: u64,
    /// Longer than 100 ms.
    pub(crate) stalls: u64,
}

impl Turns {
    /// Counts a turn.
    pub(super) fn note(&mut self, began: Moment, ended: Moment) {
        let micros = ended.as_micros().saturating_sub(began.as_micros());
        self.durations.note(micros);
        self.slow += u64::from(micros > SLOW_MICROS);
        self.stalls += u64::from(micros > STALL_MICROS);
    }
}

impl ShardReport {
    /// A copy of what `worker` has now.
    pub(crate) fn of(worker: &Worker) -> Self {
        Self {
            shard: worker.homes.here.index(),
            stats: worker.shard.stats().clone(),
            population: worker.shard.population(),
            counters: worker.counters.clone(),
            sockets: worker.connections.len(),
            deadlines: worker.io.deadlines.len(),
            turns: worker.turns.clone(),
            journal: worker.journal.as_ref().map(|journal| journal.figures()),
            letters_waiting: worker.port.letters_waiting(),
            errands_waiting: worker.port.errands_waiting(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_turns_are_counted_as_slow_and_the_longest_as_stalls() {
        let mut turns = Turns::default();
        for micros in [16, 10_000, 10_001, 100_001] {
            turns.note(Moment::from_micros(500), Moment::from_micros(500 + micros));
        }
        assert_eq!((turns.durations.count(), turns.slow, turns.stalls), (4, 2, 1));
    }
}
