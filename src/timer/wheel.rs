//! The wheel: items that come out when their deadline is due.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::{Moment, Tick};

/// Names one armed deadline; it stays invalid for good once that has fired or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

/// Deadlines with an item each.
#[derive(Debug)]
pub struct Wheel<T> {
    due: BTreeMap<(Tick, u64), u32>,
    slots: Vec<(NonZeroU32, Option<(u64, Moment, T)>)>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Wheel<T> {
    /// An empty wheel at `now`.
    pub fn new(_now: Moment) -> Self {
        Self { due: BTreeMap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    /// Lets `item` come out of [`Wheel::pop_due`] at the first tick that does not begin before `deadline`.
    pub fn arm(&mut self, deadline: Moment, item: T) -> TimerId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((NonZeroU32::MIN, None));
            (self.slots.len() - 1) as u32
        });
        self.sequence += 1;
        self.due.insert((Tick::at_or_after(deadline), self.sequence), index);
        let slot = &mut self.slots[index as usize];
        slot.1 = Some((self.sequence, deadline, item));
        TimerId { index, generation: slot.0 }
    }

    /// Takes an item back; `None` when it has fired or was cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.0 == id.generation)?;
        let (sequence, deadline, item) = slot.1.take()?;
        slot.0 = slot.0.checked_add(1).unwrap_or(NonZeroU32::MIN);
        self.due.remove(&(Tick::at_or_after(deadline), sequence));
        self.free.push(id.index);
        Some(item)
    }

    /// The deadline that `id` was armed with; `None` when it has fired or was cancelled.
    pub fn deadline(&self, id: TimerId) -> Option<Moment> {
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.0 == id.generation)?;
        slot.1.as_ref().map(|&(_, deadline, _)| deadline)
    }

    /// One item that is due at `now`, in the order of ticks; to be called until it answers `None`.
    pub fn pop_due(&mut self, now: Moment) -> Option<T> {
        let (&(tick, _), &index) = self.due.first_key_value()?;
        if tick > Tick::elapsed(now) {
            return None;
        }
        let generation = self.slots[index as usize].0;
        self.cancel(TimerId { index, generation })
    }

    /// When to call [`Wheel::pop_due`] again: never later than the first deadline's tick.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.due.first_key_value().map(|(&(tick, _), _)| tick.start())
    }

    /// Deadlines that are armed.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether no deadline is armed.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}
