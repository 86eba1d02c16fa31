//! Points in time, fine and in steps of the wheel.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Microseconds since the broker's epoch, on a clock that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The broker's epoch.
    pub const ZERO: Self = Self(0);
    /// The end of time, half a million years on; what lies beyond saturates here.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `micros` µs after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The moment that is so much earlier; the epoch at the earliest.
    pub const fn back(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_micros() as u64))
    }

    /// Time from `earlier` to here; zero where `earlier` is in fact later.
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Rounds up to a whole microsecond, so that a deadline is never early, and saturates at [`Moment::MAX`].
impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = duration.as_nanos().div_ceil(1000);
        Self(self.0.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

/// The same as [`Moment::duration_since`].
impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

/// One step of the wheel, numbered from the broker's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    /// Length of a tick: 10 ms.
    pub const LENGTH: Duration = Duration::from_millis(10);
    const MICROS: u64 = Self::LENGTH.as_micros() as u64;

    /// The first tick that does not begin before `deadline`.
    pub const fn at_or_after(deadline: Moment) -> Self {
        Self(deadline.0.div_ceil(Self::MICROS))
    }

    /// The last tick that has begun at `now`.
    pub const fn elapsed(now: Moment) -> Self {
        Self(now.0 / Self::MICROS)
    }

    /// When the tick begins.
    pub const fn start(self) -> Moment {
        Moment(self.0.saturating_mul(Self::MICROS))
    }

    /// Ticks since the epoch.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The tick with this number.
    pub(super) const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_and_the_present_rounds_down() {
        for (micros, up, down) in [(0, 0, 0), (1, 1, 0), (9_999, 1, 0), (10_000, 1, 1), (10_001, 2, 1)] {
            let moment = Moment::from_micros(micros);
            assert_eq!(Tick::at_or_after(moment).number(), up, "{micros}");
            assert_eq!(Tick::elapsed(moment).number(), down, "{micros}");
        }
    }

    #[test]
    fn a_sum_is_never_early_and_saturates() {
        assert_eq!(Moment::ZERO + Duration::from_nanos(1), Moment::from_micros(1));
        assert_eq!(Moment::from_micros(7) + Duration::MAX, Moment::MAX);
        assert_eq!(Tick::at_or_after(Moment::MAX).start(), Moment::MAX);
    }

    #[test]
    fn the_time_since_a_later_moment_is_zero() {
        let (early, late) = (Moment::from_micros(5), Moment::from_micros(9));
        assert_eq!(late.duration_since(early), Duration::from_micros(4));
        assert_eq!(early - late, Duration::ZERO);
    }
}
