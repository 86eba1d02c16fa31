//! The time, as the shards count it.

use std::time::Instant;

use crate::timer::Moment;

/// Microseconds since the broker started; every shard has a copy with the same start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that stands at zero now.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time now.
    pub(crate) fn now(self) -> Moment {
        // 64 bits of microseconds last 584 000 years.
        Moment::from_micros(self.start.elapsed().as_micros() as u64)
    }
}
