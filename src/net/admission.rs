//! How many Network Connections there are, against how many there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections above the limit that may be told so at a time. Beyond them they are closed without a word.
const SURPLUS_MAX: usize = 64;

/// What becomes of a connection that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Welcome,
    /// There is none, but it is read until its CONNECT can be answered.
    Surplus,
    /// It is closed at once, and not counted.
    None,
}

/// The count of all shards.
pub(crate) struct Gate {
    all: Count,
    listeners: Vec<Count>,
}

struct Count {
    now: AtomicUsize,
    max: usize,
}

impl Gate {
    /// A gate for `connections_max` connections in total, and for so many of each listener.
    pub(crate) fn new(connections_max: usize, listeners: impl Iterator<Item = Option<u32>>) -> Self {
        let of_listener = |max: Option<u32>| Count::new(max.map_or(usize::MAX, |max| max as usize));
        Self { all: Count::new(connections_max), listeners: listeners.map(of_listener).collect() }
    }

    /// Counts a connection of `listener` in, unless the answer is [`Admission::None`].
    pub(crate) fn enter(&self, listener: u16) -> Admission {
        let counts = [&self.all, &self.listeners[usize::from(listener)]];
        let excess = counts.map(|count| (count.now.fetch_add(1, Ordering::Relaxed) + 1).saturating_sub(count.max));
        match excess.into_iter().max() {
            Some(0) | None => Admission::Welcome,
            Some(1..=SURPLUS_MAX) => Admission::Surplus,
            Some(_) => {
                self.leave(listener);
                Admission::None
            }
        }
    }

    /// Counts a connection of `listener` out.
    pub(crate) fn leave(&self, listener: u16) {
        for count in [&self.all, &self.listeners[usize::from(listener)]] {
            let before = count.now.fetch_sub(1, Ordering::Relaxed);
            debug_assert!(before > 0, "counted out more often than in");
        }
    }
}

impl Count {
    fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_limit_some_are_told_and_the_others_are_not() {
        let gate = Gate::new(2, [None].into_iter());
        let admissions: Vec<_> = (0..2 + SURPLUS_MAX + 3).map(|_| gate.enter(0)).collect();
        assert!(admissions[..2].iter().all(|admission| *admission == Admission::Welcome));
        assert!(admissions[2..2 + SURPLUS_MAX].iter().all(|admission| *admission == Admission::Surplus));
        assert!(admissions[2 + SURPLUS_MAX..].iter().all(|admission| *admission == Admission::None));
        for _ in 0..2 + SURPLUS_MAX {
            gate.leave(0);
        }
        assert_eq!(gate.enter(0), Admission::Welcome);
    }

    #[test]
    fn a_listener_has_a_limit_of_its_own() {
        let gate = Gate::new(100, [Some(1), None].into_iter());
        assert_eq!(gate.enter(0), Admission::Welcome);
        assert_eq!(gate.enter(0), Admission::Surplus);
        assert_eq!(gate.enter(1), Admission::Welcome);
    }
}
