//! The time, as the shards count it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::timer::Moment;

/// Microseconds since the UNIX epoch: the machine's time at the start, and from there on a clock that never jumps. Every shard has
/// a copy with the same start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    at_start: Moment,
}

impl Clock {
    /// A clock that shows the machine's time now, or `not_before` where that is later: what the journal tells of has happened,
    /// even if the machine's clock was set back since.
    pub(crate) fn start_at(not_before: Moment) -> Self {
        // A machine whose clock stands before 1970 begins there.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let machine = Moment::from_micros(since_epoch.as_micros() as u64); // 64 bits of microseconds last 584 000 years.
        Self { start: Instant::now(), at_start: machine.max(not_before) }
    }

    /// The time now.
    pub(crate) fn now(self) -> Moment {
        self.at_start + self.start.elapsed()
    }

    /// How long ago it was started.
    pub(crate) fn since_start(self) -> std::time::Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_shows_the_machines_time_and_goes_on() {
        let clock = Clock::start_at(Moment::ZERO);
        let first = clock.now();
        let years = first.as_micros() / 1_000_000 / 86_400 / 365;
        assert!((50..500).contains(&years), "{years} years since 1970");
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(clock.now() > first);
    }

    #[test]
    fn the_clock_does_not_fall_behind_what_the_journal_saw() {
        let seen = Clock::start_at(Moment::ZERO).now() + std::time::Duration::from_secs(3600);
        assert!(Clock::start_at(seen).now() >= seen);
    }
}
