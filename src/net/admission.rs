//! How many Network Connections there are, against how many there may be.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections above the limit that may be told so at a time. Beyond them they are closed without a word.
pub(crate) const SURPLUS_MAX: usize = 64;

/// What becomes of a connection that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Welcome,
    /// There is none, but it is read until its CONNECT can be answered.
    Surplus,
    /// It is closed at once, and not counted.
    None,
}

/// What a counted connection gives back when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    listener: u16,
    pub(crate) is_surplus: bool,
}

impl Ticket {
    /// The ticket of a connection of `listener` that there was room for.
    pub(crate) fn regular(listener: u16) -> Self {
        Self { listener, is_surplus: false }
    }
}

impl Admission {
    /// The ticket that goes with it.
    pub(crate) fn ticket(self, listener: u16) -> Option<Ticket> {
        match self {
            Self::Welcome => Some(Ticket::regular(listener)),
            Self::Surplus => Some(Ticket { listener, is_surplus: true }),
            Self::None => None,
        }
    }
}

/// The count of all shards.
pub(crate) struct Gate {
    all: Count,
    surplus: Count,
    listeners: Vec<Count>,
}

/// A number that does not exceed its maximum.
struct Count {
    now: AtomicUsize,
    max: usize,
}

impl Gate {
    /// A gate for `connections_max` connections in total, and for so many of each listener.
    pub(crate) fn new(connections_max: usize, listeners: impl Iterator<Item = Option<u32>>) -> Self {
        let of_listener = |max: Option<u32>| Count::new(max.map_or(usize::MAX, |max| max as usize));
        Self {
            all: Count::new(connections_max),
            surplus: Count::new(SURPLUS_MAX),
            listeners: listeners.map(of_listener).collect(),
        }
    }

    /// Counts a connection of `listener` in, unless the answer is [`Admission::None`].
    pub(crate) fn enter(&self, listener: u16) -> Admission {
        let of_listener = &self.listeners[usize::from(listener)];
        if self.all.enter() {
            if of_listener.enter() {
                return Admission::Welcome;
            }
            self.all.leave();
        }
        if self.surplus.enter() { Admission::Surplus } else { Admission::None }
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self, ticket: Ticket) {
        if ticket.is_surplus {
            self.surplus.leave();
        } else {
            self.all.leave();
            self.listeners[usize::from(ticket.listener)].leave();
        }
    }
}

impl Count {
    fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max }
    }

    fn enter(&self) -> bool {
        let has_room = self.now.fetch_add(1, Ordering::Relaxed) < self.max;
        if !has_room {
            self.leave();
        }
        has_room
    }

    fn leave(&self) {
        let before = self.now.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "counted out more often than in");
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
        // Those that are being told do not take the place of one that leaves.
        gate.leave(Ticket::regular(0));
        assert_eq!(gate.enter(0), Admission::Welcome);
        assert_eq!(gate.enter(0), Admission::None);
    }

    #[test]
    fn a_listener_has_a_limit_of_its_own() {
        let gate = Gate::new(100, [Some(1), None].into_iter());
        assert_eq!(gate.enter(0), Admission::Welcome);
        assert_eq!(gate.enter(0), Admission::Surplus);
        assert_eq!(gate.enter(1), Admission::Welcome);
    }
}
