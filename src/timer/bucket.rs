//! Token buckets: so many events a second, and as many at once.

use super::Moment;
use std::time::Duration;

/// Levels are counted in millionths of a token, so that every whole rate and every microsecond counts exactly.
const TOKEN: i64 = 1_000_000;

/// A bucket into which `rate` tokens a second flow, up to as many as that. The rate is the caller's, who has it once for all buckets of a
/// kind; it is above zero wherever tokens are waited for. No bucket holds more than nine trillion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Millionths of a token. Below zero it is owed.
    level: i64,
    /// When the level was that.
    at: Moment,
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: impl Into<u64>, now: Moment) -> Self {
        Self { level: millionths(rate.into()), at: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, rate: impl Into<u64>, now: Moment) -> bool {
        self.fill(rate.into(), now);
        let has_token = self.level >= TOKEN;
        if has_token {
            self.level -= TOKEN;
        }
        has_token
    }

    /// Whether there is a token.
    pub fn has_token(mut self, rate: impl Into<u64>, now: Moment) -> bool {
        self.take(rate, now)
    }

    /// Takes tokens for something that has happened already, even if they have to be owed, and says when the next one is there.
    pub fn take_late(&mut self, rate: impl Into<u64>, tokens: u64, now: Moment) -> Moment {
        let rate = rate.into();
        self.fill(rate, now);
        self.level = self.level.saturating_sub(millionths(tokens));
        let missing = TOKEN.saturating_sub(self.level);
        if missing <= 0 {
            return now;
        }
        // Millionths of a token over tokens a second are microseconds.
        now + Duration::from_micros(missing.unsigned_abs().div_ceil(rate))
    }

    /// Whether it is as good as a new one.
    pub fn is_full(mut self, rate: impl Into<u64>, now: Moment) -> bool {
        let rate = rate.into();
        self.fill(rate, now);
        self == Self::full(rate, now)
    }

    fn fill(&mut self, rate: u64, now: Moment) {
        let micros = now.duration_since(self.at).as_micros();
        let flowed = i64::try_from(micros * u128::from(rate)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(flowed).min(millionths(rate));
        self.at = self.at.max(now);
    }
}

fn millionths(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(TOKEN)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_micros(1_700_000_000_000_000);

    #[test]
    fn as_many_at_once_as_in_a_second() {
        let mut bucket = Bucket::full(3_u32, START);
        let mut takes = |micros: u64| bucket.take(3_u32, START + Duration::from_micros(micros));
        assert_eq!([takes(0), takes(0), takes(0), takes(0)], [true, true, true, false]);
        assert_eq!([takes(333_333), takes(333_334), takes(333_335)], [false, true, false]);
    }

    #[test]
    fn what_is_owed_is_waited_for() {
        let mut bucket = Bucket::full(2_u32, START);
        let waits = [(); 4].map(|()| bucket.take_late(2_u32, 1, START).duration_since(START).as_millis());
        assert_eq!(waits, [0, 500, 1000, 1500]);
    }

    #[test]
    fn several_at_once_take_their_time_and_no_number_is_too_large() {
        let after = |until: Moment| until.duration_since(START).as_millis();
        let mut bucket = Bucket::full(10_u32, START);
        assert_eq!(after(bucket.take_late(10_u32, 9, START)), 0);
        assert_eq!(after(bucket.take_late(10_u32, 21, START)), 2100);
        // However long it rests, it holds no more than a second's worth.
        let later = START + Duration::from_secs(60);
        assert_eq!(bucket.take_late(10_u32, 10, later), later + Duration::from_millis(100));
        for rate in [1, u64::MAX] {
            let mut bucket = Bucket::full(rate, Moment::ZERO);
            bucket.take_late(rate, u64::MAX, Moment::MAX);
            assert!(bucket.take_late(rate, u64::MAX, Moment::MAX) >= START);
        }
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
            let next = (0..taken).map(|_| bucket.take_late(rate, 1, START)).last().unwrap();
            prop_assert!(bucket.has_token(rate, next));
            prop_assert!(next == START || !bucket.has_token(rate, next.back(Duration::from_micros(1))));
        }
    }
}
