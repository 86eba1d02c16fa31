//! Storms: bursts of wills, told of when they are over.

use super::event::Event;
use super::{Shard, Storm};
use crate::session::will::Cause;
use crate::timer::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// A burst is over when no will has been published for this long.
const GAP: Duration = Duration::from_secs(1);
/// Storms that are remembered.
const REMEMBERED: usize = 32;

/// The burst that goes on, and storms that have passed.
#[derive(Debug, Default)]
pub(super) struct Storms {
    burst: Option<Storm>,
    passed: VecDeque<Storm>,
}

impl Storms {
    /// Counts a will that was published now.
    pub(super) fn note(&mut self, now: Moment, due: Moment, cause: Cause, lateness: Duration) {
        let fresh = Storm {
            since: due,
            wills: 0,
            lasted: Duration::ZERO,
            lateness_max: Duration::ZERO,
            causes: [0; Cause::COUNT],
        };
        let burst = self.burst.get_or_insert(fresh);
        burst.lasted = now.duration_since(burst.since);
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

    /// The storm that is going on, where there is one.
    pub(super) fn storm_now(&self) -> Option<Storm> {
        self.wills.storms.burst.filter(|burst| self.is_storm(burst))
    }

    /// Whether a burst of wills is a storm: more than `wills.storm_threshold_per_second`.
    fn is_storm(&self, burst: &Storm) -> bool {
        burst.wills / burst.lasted.as_secs().max(1) > u64::from(self.config.wills.storm_threshold_per_second)
    }

    /// When the burst that goes on will count as over; `None` while wills are due, be it that the disk does not let them go.
    pub(super) fn storm_ends(&self) -> Option<Moment> {
        self.wills.storms.burst.filter(|_| self.wills.due_len() == 0).map(|burst| burst.since + burst.lasted + GAP)
    }

    /// Reports a burst of wills that has ended, where it was a storm.
    pub(super) fn end_storm(&mut self, now: Moment) {
        if self.storm_ends().is_none_or(|ends| ends > now) {
            return;
        }
        let Some(burst) = self.wills.storms.burst.take().filter(|burst| self.is_storm(burst)) else { return };
        self.stats.wills.storms += 1;
        self.stats.wills.storm_wills += burst.wills;
        self.stats.wills.last_storm = Some(burst);
        let passed = &mut self.wills.storms.passed;
        if passed.len() == REMEMBERED {
            passed.pop_front();
        }
        passed.push_back(burst);
        let Storm { wills, lasted, lateness_max, .. } = burst;
        self.events.push_back(Event::Storm { wills, lasted, lateness_max });
    }
}
