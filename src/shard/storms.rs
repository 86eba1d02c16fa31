//! Storms: bursts of wills, told of when they are over.

use super::Shard;
use super::event::Event;
use crate::session::will::Cause;
use crate::timer::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// A burst is over when no will has been published for this long.
const GAP: Duration = Duration::from_secs(1);
/// Storms that are remembered.
const REMEMBERED: usize = 32;

/// A burst of wills, as one shard saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// When the first of them fell due.
    pub begin: Moment,
    /// When the last of them was published.
    pub end: Moment,
    /// How many there were.
    pub wills: u64,
    /// The largest lateness of one (published − due).
    pub lateness_max: Duration,
    /// How many there were by cause of closing, in the order of [`Cause`].
    pub causes: [u64; Cause::COUNT],
}

impl Storm {
    /// How long it lasted.
    pub fn duration(&self) -> Duration {
        self.end.duration_since(self.begin)
    }
}

/// The burst that goes on, and storms that have passed.
#[derive(Debug, Default)]
pub(super) struct Storms {
    burst: Option<Storm>,
    passed: VecDeque<Storm>,
}

impl Storms {
    /// Counts a will that was published now.
    pub(super) fn note(&mut self, now: Moment, due: Moment, cause: Cause, lateness: Duration) {
        let fresh = Storm { begin: due, end: now, wills: 0, lateness_max: Duration::ZERO, causes: [0; Cause::COUNT] };
        let burst = self.burst.get_or_insert(fresh);
        burst.end = now;
        burst.wills += 1;
        burst.causes[cause as usize] += 1;
        burst.lateness_max = burst.lateness_max.max(lateness);
    }
}

impl Shard {
    /// The latest storms, the oldest of them first. One that goes on is not among them.
    pub fn storms(&self) -> impl Iterator<Item = &Storm> {
        self.wills.storms.passed.iter()
    }

    /// When the burst that goes on will count as over; `None` while wills are due, be it that the disk does not let them go.
    pub(super) fn storm_ends(&self) -> Option<Moment> {
        self.wills.storms.burst.filter(|_| self.wills.due_len() == 0).map(|burst| burst.end + GAP)
    }

    /// Reports a burst of wills that has ended, where it was a storm: more than `wills.storm_threshold_per_second`.
    pub(super) fn end_storm(&mut self, now: Moment) {
        if self.storm_ends().is_none_or(|ends| ends > now) {
            return;
        }
        let Some(burst) = self.wills.storms.burst.take() else { return };
        let seconds = burst.duration().as_secs().max(1);
        if burst.wills / seconds > u64::from(self.config.wills.storm_threshold_per_second) {
            self.stats.wills.storms += 1;
            let passed = &mut self.wills.storms.passed;
            if passed.len() == REMEMBERED {
                passed.pop_front();
            }
            passed.push_back(burst);
            let Storm { wills, lateness_max, .. } = burst;
            self.events.push_back(Event::Storm { wills, lasted: burst.duration(), lateness_max });
        }
    }
}
