//! Leaves a service alone for a while when it has failed too often.

use std::time::Duration;

use crate::timer::Moment;

/// Whether a service is asked.
///
/// ```text
/// Closed ──too many failures in a row──▶ Open ──the pause is over, one asks──▶ Probing
///    ▲                                     ▲                                     │ │
///    │                                     └──────────── it failed ──────────────┘ │
///    └───────────────────────────────── it answered ───────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Everybody asks.
    Closed { failures: u32 },
    /// Nobody asks.
    Open { until: Moment },
    /// One asks, and the others hear that the service is unavailable until there is an answer.
    Probing,
}

impl Breaker {
    /// A breaker that leaves its service alone for `pause` after `failures_max` failures.
    pub(super) fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, state: State::Closed { failures: 0 } }
    }

    /// Whether somebody who asks now would be allowed to.
    pub(super) fn would_admit(&self, now: Moment) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } => now >= until,
            State::Probing => false,
        }
    }

    /// Whether the service may be asked now. Whoever is told so reports with [`Breaker::on_answer`] or [`Breaker::on_failure`].
    pub(super) fn admit(&mut self, now: Moment) -> bool {
        let is_admitted = self.would_admit(now);
        if is_admitted && !matches!(self.state, State::Closed { .. }) {
            self.state = State::Probing;
        }
        is_admitted
    }

    /// The service has answered; whether that is news.
    pub(super) fn on_answer(&mut self) -> bool {
        let was_closed = matches!(self.state, State::Closed { .. });
        self.state = State::Closed { failures: 0 };
        !was_closed
    }

    /// The service has failed; whether it is left alone from now on, and was not before.
    pub(super) fn on_failure(&mut self, now: Moment) -> bool {
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                let is_too_often = *failures >= self.failures_max;
                if is_too_often {
                    self.state = State::Open { until: now + self.pause };
                }
                is_too_often
            }
            State::Probing => {
                self.state = State::Open { until: now + self.pause };
                false
            }
            // One that was under way when the others had failed already.
            State::Open { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn it_opens_after_failures_in_a_row() {
        let mut breaker = Breaker::new(3, PAUSE);
        assert_eq!([0; 2].map(|_| breaker.on_failure(at(0))), [false; 2]);
        assert!(!breaker.on_answer(), "an answer between them, and counting begins anew");
        assert_eq!([0; 3].map(|_| breaker.on_failure(at(0))), [false, false, true]);
        assert!(!breaker.admit(at(9)));
        assert!(!breaker.on_failure(at(9)), "a late one changes nothing");
        assert!(breaker.would_admit(at(10)));
    }

    #[test]
    fn one_may_try_after_the_pause_and_its_result_decides() {
        let mut breaker = Breaker::new(1, PAUSE);
        breaker.on_failure(at(0));
        assert!(breaker.admit(at(10)));
        assert!(!breaker.admit(at(10)), "one alone");
        assert!(!breaker.on_failure(at(11)));
        assert!(!breaker.admit(at(20)));
        assert!(breaker.admit(at(21)));
        assert!(breaker.on_answer());
        assert!(breaker.admit(at(21)) && breaker.admit(at(21)));
    }
}
