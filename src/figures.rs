//! How things are counted: by kind, and by size.
//!
//! Counting is a plain addition in memory that one thread has for itself. Whoever reads the figures copies them first.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};
use std::time::Duration;

/// Kinds that are counted apart. Each has a name, which is the same in logs, metrics and the documentation.
pub trait Kinds: Copy + 'static {
    /// All of them, each at its index.
    const ALL: &'static [Self];

    /// Its name.
    fn name(self) -> &'static str;

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

/// Defines an enum whose kinds are counted apart, with a name for each.
macro_rules! kinds {
    ($(#[$meta:meta])* $vis:vis enum $kinds:ident { $($(#[$doc:meta])* $kind:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $kinds {
            $($(#[$doc])* $kind,)+
        }

        impl $crate::figures::Kinds for $kinds {
            const ALL: &'static [Self] = &[$(Self::$kind),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use kinds;

/// A number for each kind.
#[derive(Clone)]
pub struct Tally<K> {
    counts: [u64; TALLY_MAX],
    kinds: PhantomData<K>,
}

/// The most kinds that a [`Tally`] has room for.
const TALLY_MAX: usize = 16;

impl<K: Kinds> Tally<K> {
    /// Every kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        K::ALL.iter().map(|kind| (*kind, self[*kind]))
    }

    /// All kinds together.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds the numbers of another one.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }
}

impl<K: Kinds> Default for Tally<K> {
    fn default() -> Self {
        const { assert!(K::ALL.len() <= TALLY_MAX, "there is room for all kinds") };
        Self { counts: [0; TALLY_MAX], kinds: PhantomData }
    }
}

impl<K: Kinds> Index<K> for Tally<K> {
    type Output = u64;

    fn index(&self, kind: K) -> &u64 {
        &self.counts[kind.index()]
    }
}

impl<K: Kinds> IndexMut<K> for Tally<K> {
    fn index_mut(&mut self, kind: K) -> &mut u64 {
        &mut self.counts[kind.index()]
    }
}

impl<K: Kinds> fmt::Debug for Tally<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(kind, count)| (kind.name(), count))).finish()
    }
}

/// Messages, or packets, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub count: u64,
    /// How long all together.
    pub bytes: u64,
}

impl Traffic {
    /// Counts one of so many bytes.
    pub fn note(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(traffic: I) -> Self {
        traffic.fold(Self::default(), std::ops::Add::add)
    }
}

/// Numbers of values by size: the first bucket is for those up to `UNIT`, each further one for those up to twice as much, and the last one for
/// all that are larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<const UNIT: u64, const BUCKETS: usize> {
    counts: [u64; BUCKETS],
    sum: u64,
    max: u64,
}

impl<const UNIT: u64, const BUCKETS: usize> Default for Histogram<UNIT, BUCKETS> {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum: 0, max: 0 }
    }
}

impl<const UNIT: u64, const BUCKETS: usize> Histogram<UNIT, BUCKETS> {
    /// Counts a value.
    pub fn note(&mut self, value: u64) {
        let units = value.div_ceil(UNIT).max(1);
        let bucket = (64 - (units - 1).leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    /// Counts a duration, in microseconds.
    pub fn note_duration(&mut self, duration: Duration) {
        self.note(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest of them.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many of them were up to a bound, for each bound. Those beyond the last one are in [`Self::count`] alone.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bounded = &self.counts[..BUCKETS - 1];
        bounded.iter().enumerate().scan(0, |sum, (bucket, count)| {
            *sum += count;
            Some((UNIT << bucket, *sum))
        })
    }

    /// Adds the values of another one.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    kinds! {
        /// For this test.
        enum Fruit {
            Apple = "apple",
            Pear = "pear",
        }
    }

    #[test]
    fn a_tally_counts_each_kind_by_itself() {
        let mut basket = Tally::<Fruit>::default();
        basket[Fruit::Pear] += 2;
        let mut other = Tally::default();
        other[Fruit::Apple] += 1;
        basket.add(&other);
        assert_eq!(
            basket.iter().map(|(fruit, count)| (fruit.name(), count)).collect::<Vec<_>>(),
            [("apple", 1), ("pear", 2)]
        );
        assert_eq!(basket.total(), 3);
    }

    #[test]
    fn a_bucket_holds_what_is_up_to_its_bound_and_above_the_one_before() {
        let mut sizes = Histogram::<10, 4>::default();
        for value in [0, 10, 11, 20, 40, 41, u64::MAX] {
            sizes.note(value);
        }
        assert_eq!(sizes.cumulative().collect::<Vec<_>>(), [(10, 2), (20, 4), (40, 5)]);
        assert_eq!((sizes.count(), sizes.max(), sizes.sum()), (7, u64::MAX, u64::MAX));
    }

    #[test]
    fn two_histograms_add_up() {
        let (mut one, mut two) = (Histogram::<1, 8>::default(), Histogram::<1, 8>::default());
        one.note(3);
        two.note_duration(Duration::from_micros(5));
        one.add(&two);
        assert_eq!((one.count(), one.sum(), one.max()), (2, 8, 5));
    }
}
