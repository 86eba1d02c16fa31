//! Token buckets: so many events a second, and as many at once.

use std::time::Duration;

use crate::timer::Moment;

/// Levels are counted in millionths of a token, so that every whole rate and every microsecond counts exactly.
const TOKEN: i64 = 1_000_000;

/// A bucket into which `rate` tokens a second flow, up to as many as that. The rate is the caller's, who has it once for all buckets
/// of a kind; it is at most a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Millionths of a token. Below zero it is owed.
    level: i64,
    /// When the level was that.
    at: Moment,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: u32, now: Moment) -> Self {
        Self { level: i64::from(rate) * TOKEN, at: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, rate: u32, now: Moment) -> bool {
        self.fill(rate, now);
        let has_token = self.level >= TOKEN;
        if has_token {
            self.level -= TOKEN;
        }
        has_token
    }

    /// Whether there is a token.
    pub(crate) fn has_token(mut self, rate: u32, now: Moment) -> bool {
        self.take(rate, now)
    }

    /// Takes a token for something that has happened already, even if it has to be owed, and says when the next one is there.
    pub(crate) fn take_late(&mut self, rate: u32, now: Moment) -> Moment {
        self.fill(rate, now);
        self.level -= TOKEN;
        let missing = TOKEN - self.level;
        if missing <= 0 {
            return now;
        }
        // Millionths of a token over tokens a second are microseconds.
        now + Duration::from_micros(missing.unsigned_abs().div_ceil(u64::from(rate)))
    }

    /// Whether it is as good as a new one.
    pub(crate) fn is_full(mut self, rate: u32, now: Moment) -> bool {
        self.fill(rate, now);
        self == Self::full(rate, now)
    }

    fn fill(&mut self, rate: u32, now: Moment) {
        let micros = now.duration_since(self.at).as_micros();
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        let flowed = micros.saturating_mul(i64::from(rate));
        self.level = self.level.saturating_add(flowed).min(i64::from(rate) * TOKEN);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_micros(1_700_000_000_000_000);

    #[test]
    fn as_many_at_once_as_in_a_second() {
        let mut bucket = Bucket::full(3, START);
        let mut takes = |micros: u64| bucket.take(3, START + Duration::from_micros(micros));
        assert_eq!([takes(0), takes(0), takes(0), takes(0)], [true, true, true, false]);
        assert_eq!([takes(333_333), takes(333_334), takes(333_335)], [false, true, false]);
    }

    #[test]
    fn what_is_owed_is_waited_for() {
        let mut bucket = Bucket::full(2, START);
        let waits = [(); 4].map(|()| bucket.take_late(2, START).duration_since(START).as_millis());
        assert_eq!(waits, [0, 500, 1000, 1500]);
    }

    proptest! {
        /// In no stretch of time are there more tokens than flowed in, beside those that were in the full bucket; and a token is
        /// refused only where one more would break that.
        #[test]
        fn tokens_are_those_of_the_definition(rate in 1_u32..1000, gaps in vec(0_u64..500_000, 1..200)) {
            let mut bucket = Bucket::full(rate, START);
            let (mut now, mut taken) = (START, Vec::<Moment>::new());
            for gap in gaps {
                now += Duration::from_micros(gap);
                // The definition: for each earlier token, those from it up to this one fit into a full bucket and what flowed in since.
                let fits = (0..taken.len()).all(|first| {
                    let tokens = (taken.len() - first + 1) as u128 * 1_000_000;
                    let flowed = now.duration_since(taken[first]).as_micros() * u128::from(rate);
                    tokens <= u128::from(rate) * 1_000_000 + flowed
                });
                prop_assert_eq!(bucket.has_token(rate, now), fits);
                prop_assert_eq!(bucket.take(rate, now), fits);
                if fits {
                    taken.push(now);
                }
            }
        }

        /// A token that is announced for a moment is there then, and not before.
        #[test]
        fn the_next_token_is_there_when_it_was_said(rate in 1_u32..1_000_000, taken in 1_usize..50) {
            let mut bucket = Bucket::full(rate, START);
            let next = (0..taken).map(|_| bucket.take_late(rate, START)).last().unwrap();
            prop_assert!(bucket.has_token(rate, next));
            prop_assert!(next == START || !bucket.has_token(rate, next.back(Duration::from_micros(1))));
        }
    }
}
