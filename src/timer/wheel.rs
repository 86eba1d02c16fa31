//! The wheel: items that come out when their deadline is due.

use std::num::NonZeroU32;

use super::{Moment, Tick};

/// Names one armed deadline. It names nothing for good once that has fired or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

const _: () = assert!(size_of::<Option<TimerId>>() == 8);

/// A tick number in groups of six bits, one per level: 64 slots fill the bitmap of a level.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Enough for the tick of every [`Moment`], so nothing lies beyond the wheel and deadlines of centuries are no special
/// case.
const LEVELS: usize = 9;
const _: () = assert!(SLOTS == u64::BITS as usize);
const _: () = assert!(Tick::at_or_after(Moment::MAX).number() >> (BITS as usize * LEVELS) == 0);

/// Ends a list, of a slot or of free entries.
const NIL: u32 = u32::MAX;

/// A hierarchical timer wheel: any number of deadlines, each with an item.
///
/// Arming and cancelling take constant time, and so does a step over idle time of any length. A deadline that lies
/// `n` ticks ahead is moved at most log₆₄(`n`) times before it fires. Memory is one entry per deadline; entries are
/// reused and never given back.
///
/// ```text
/// level 0   64 slots of 1 tick        10 ms each
/// level 1   64 slots of 64 ticks     640 ms
/// level 2   64 slots of 64² ticks     41 s
/// …                                             level 8 reaches past the end of `Moment`
/// ```
///
/// An entry sits on the level of the highest group of bits in which its tick differs from `position`, in the slot
/// which that group of its tick names. So every entry of a level falls due before every entry of a higher one, and
/// no slot at or behind `position` is occupied, but that of `position` itself on level 0: the first occupied slot of
/// the lowest occupied level is next, and two bitmaps find it. When `position` enters a slot of a higher level, the
/// slot's entries move to levels below, in order.
#[derive(Debug)]
pub struct Wheel<T> {
    /// The tick that the wheel has come to; its slot on level 0 is due.
    position: u64,
    /// One bit per level that has an occupied slot.
    levels: u16,
    /// One bit per slot that holds an entry.
    occupied: [u64; LEVELS],
    slots: Box<[List; SLOTS * LEVELS]>,
    entries: Vec<Entry<T>>,
    /// First of the free entries, which are linked by `next`.
    free: u32,
    len: usize,
}

/// The entries of a slot, in the order in which they were armed.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NIL, last: NIL };
}

#[derive(Debug)]
struct Entry<T> {
    /// Which of the deadlines that the entry has held is the present one.
    generation: NonZeroU32,
    /// Which of `Wheel::slots` the entry is linked into.
    slot: u32,
    previous: u32,
    next: u32,
    deadline: Moment,
    /// `None`: the entry is free.
    item: Option<T>,
}

impl<T> Wheel<T> {
    /// An empty wheel that stands at `now`.
    pub fn new(now: Moment) -> Self {
        Self {
            position: Tick::elapsed(now).number(),
            levels: 0,
            occupied: [0; LEVELS],
            slots: Box::new([List::EMPTY; SLOTS * LEVELS]),
            entries: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Lets `item` come out of [`Wheel::pop_due`] at the first tick that does not begin before `deadline`.
    ///
    /// It never comes early, and less than [`Tick::LENGTH`] late if `pop_due` is called then. A deadline that has
    /// passed comes out of the next call.
    ///
    /// # Panics
    ///
    /// With 2³² − 1 deadlines armed.
    pub fn arm(&mut self, deadline: Moment, item: T) -> TimerId {
        let index = self.take_free();
        let entry = &mut self.entries[index as usize];
        entry.deadline = deadline;
        entry.item = Some(item);
        let generation = entry.generation;
        self.link(index, deadline);
        self.len += 1;
        TimerId { index, generation }
    }

    /// Takes an item back; `None` when it has fired or was cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.entry(id)?;
        self.unlink(id.index);
        self.release(id.index)
    }

    /// The deadline that `id` was armed with; `None` when it has fired or was cancelled.
    pub fn deadline(&self, id: TimerId) -> Option<Moment> {
        self.entry(id).map(|entry| entry.deadline)
    }

    /// One item that is due at `now`; to be called until it answers `None`.
    ///
    /// Items come in the order of their ticks, those of one tick in the order in which they were armed. What is armed
    /// between two calls with a deadline that has passed comes out too. A `now` before an earlier one counts as that.
    pub fn pop_due(&mut self, now: Moment) -> Option<T> {
        let target = Tick::elapsed(now).number();
        while let Some((level, slot, start)) = self.next_slot() {
            if start > target.max(self.position) {
                break;
            }
            self.position = start;
            let list = slot_index(level, slot);
            if level == 0 {
                let index = self.slots[list].first;
                self.unlink(index);
                return self.release(index);
            }
            self.cascade(list);
        }
        // Nothing is occupied up to `target`, so every entry keeps its level and slot.
        self.position = self.position.max(target);
        None
    }

    /// When to call [`Wheel::pop_due`] again; `None` when nothing is armed.
    ///
    /// Never later than the tick of the first deadline. It is earlier only where entries have to move to a lower
    /// level first, which happens at most once per level on the way to a deadline.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.next_slot().map(|(_, _, start)| Tick::from_number(start).start())
    }

    /// Deadlines that are armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no deadline is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first occupied slot: its level, its number there, and the first tick that it stands for.
    fn next_slot(&self) -> Option<(usize, u32, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.occupied[level].trailing_zeros();
        let shift = BITS * level as u32;
        // Groups above the level are those of `position`, groups below are zero.
        let above = self.position >> (shift + BITS) << (shift + BITS);
        Some((level, slot, above | u64::from(slot) << shift))
    }

    /// Moves the entries of a slot that `position` has entered to the levels below, in order.
    fn cascade(&mut self, list: usize) {
        let mut index = self.slots[list].first;
        self.slots[list] = List::EMPTY;
        self.mark_empty(list);
        while index != NIL {
            let Entry { next, deadline, .. } = self.entries[index as usize];
            self.link(index, deadline);
            debug_assert!((self.entries[index as usize].slot as usize) < list / SLOTS * SLOTS);
            index = next;
        }
    }

    /// Appends an entry to the slot where its deadline belongs.
    fn link(&mut self, index: u32, deadline: Moment) {
        let tick = Tick::at_or_after(deadline).number().max(self.position);
        let level = ((tick ^ self.position).checked_ilog2().unwrap_or(0) / BITS) as usize;
        let slot = (tick >> (BITS * level as u32)) as u32 % SLOTS as u32;
        let list = slot_index(level, slot);
        self.levels |= 1 << level;
        self.occupied[level] |= 1 << slot;

        let previous = std::mem::replace(&mut self.slots[list].last, index);
        match previous {
            NIL => self.slots[list].first = index,
            _ => self.entries[previous as usize].next = index,
        }
        let entry = &mut self.entries[index as usize];
        entry.slot = list as u32;
        entry.previous = previous;
        entry.next = NIL;
    }

    /// Takes an entry out of its slot.
    fn unlink(&mut self, index: u32) {
        let Entry { slot, previous, next, .. } = self.entries[index as usize];
        let list = slot as usize;
        match previous {
            NIL => self.slots[list].first = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NIL => self.slots[list].last = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        if self.slots[list].first == NIL {
            self.mark_empty(list);
        }
    }

    fn mark_empty(&mut self, list: usize) {
        let level = list / SLOTS;
        self.occupied[level] &= !(1 << (list % SLOTS));
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    fn entry(&self, id: TimerId) -> Option<&Entry<T>> {
        self.entries.get(id.index as usize).filter(|entry| entry.generation == id.generation && entry.item.is_some())
    }

    fn take_free(&mut self) -> u32 {
        if self.free != NIL {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            return index;
        }
        let index = u32::try_from(self.entries.len()).ok().filter(|&index| index != NIL);
        let index = index.expect("fewer than 2^32 - 1 deadlines are armed");
        self.entries.push(Entry {
            generation: NonZeroU32::MIN,
            slot: 0,
            previous: NIL,
            next: NIL,
            deadline: Moment::ZERO,
            item: None,
        });
        index
    }

    /// Frees an entry that is in no slot and answers its item.
    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        // An entry that has used up its generations is retired, so that no old id can come to name a new deadline.
        if let Some(generation) = entry.generation.checked_add(1) {
            entry.generation = generation;
            entry.next = self.free;
            self.free = index;
        }
        self.len -= 1;
        entry.item.take()
    }
}

const fn slot_index(level: usize, slot: u32) -> usize {
    level * SLOTS + slot as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn millis(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn drain<T>(wheel: &mut Wheel<T>, now: Moment) -> Vec<T> {
        std::iter::from_fn(|| wheel.pop_due(now)).collect()
    }

    #[test]
    fn an_item_comes_at_its_tick_and_not_before() {
        let mut wheel = Wheel::new(millis(3));
        wheel.arm(millis(25), "lamp");
        assert_eq!(wheel.pop_due(Moment::from_micros(29_999)), None);
        assert_eq!(wheel.next_deadline(), Some(millis(30)));
        assert_eq!(wheel.pop_due(millis(30)), Some("lamp"));
        assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }

    #[test]
    fn a_deadline_in_the_past_comes_with_the_next_call_even_while_popping() {
        let mut wheel = Wheel::new(millis(500));
        wheel.arm(millis(20), 1);
        assert_eq!(wheel.next_deadline(), Some(millis(500)));
        assert_eq!(wheel.pop_due(millis(500)), Some(1));
        wheel.arm(Moment::ZERO, 2);
        assert_eq!(wheel.pop_due(millis(500)), Some(2));
        assert_eq!(wheel.pop_due(millis(500)), None);
    }

    #[test]
    fn items_of_one_tick_come_in_the_order_of_arming_across_levels() {
        let mut wheel = Wheel::new(Moment::ZERO);
        let deadline = millis(10_000_000);
        wheel.arm(deadline, 1); // Far away: level 3.
        assert!(drain(&mut wheel, millis(9_990_000)).is_empty());
        wheel.arm(deadline, 2);
        assert!(drain(&mut wheel, millis(9_999_990)).is_empty());
        wheel.arm(deadline, 3);
        assert_eq!(drain(&mut wheel, deadline), [1, 2, 3]);
    }

    #[test]
    fn an_old_id_names_nothing_when_its_entry_is_used_again() {
        let mut wheel = Wheel::new(Moment::ZERO);
        let old = wheel.arm(millis(10), 'a');
        assert_eq!(wheel.cancel(old), Some('a'));
        let new = wheel.arm(millis(70), 'b');
        assert_eq!((wheel.cancel(old), wheel.deadline(old)), (None, None));
        assert_eq!((wheel.deadline(new), wheel.len()), (Some(millis(70)), 1));
    }

    #[test]
    fn an_entry_without_generations_left_is_retired() {
        let mut wheel = Wheel::new(Moment::ZERO);
        let first = wheel.arm(millis(10), ());
        wheel.entries[0].generation = NonZeroU32::MAX;
        let last = TimerId { generation: NonZeroU32::MAX, ..first };
        assert_eq!(wheel.cancel(last), Some(()));
        assert_eq!(wheel.cancel(last), None);
        assert_eq!(wheel.arm(millis(10), ()).index, 1);
    }

    #[test]
    fn a_deadline_136_years_ahead_takes_few_calls_to_reach() {
        let mut wheel = Wheel::new(millis(1_234_567));
        let deadline = millis(1_234_567) + 136 * YEAR;
        wheel.arm(deadline, "expiry");
        let mut calls = 0;
        let fired = loop {
            let next = wheel.next_deadline().unwrap();
            calls += 1;
            if wheel.pop_due(next).is_some() {
                break next;
            }
        };
        assert_eq!(fired, Tick::at_or_after(deadline).start());
        assert!(calls <= LEVELS, "{calls}");
    }

    #[test]
    fn a_wheel_that_begins_decades_after_the_epoch_is_as_exact() {
        let start = Moment::ZERO + 56 * YEAR + Duration::from_micros(1_234_567);
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.next_deadline(), None);
        for (item, delay) in [10, 640, 41_000, 86_400_000].into_iter().enumerate() {
            wheel.arm(start + Duration::from_millis(delay), item);
            assert_eq!(wheel.pop_due(start), None);
        }
        for (item, delay) in [10, 640, 41_000, 86_400_000].into_iter().enumerate() {
            let deadline = start + Duration::from_millis(delay);
            assert_eq!(drain(&mut wheel, Tick::at_or_after(deadline).start()), [item]);
        }
    }

    #[test]
    fn the_end_of_time_is_on_the_wheel() {
        let mut wheel = Wheel::new(Moment::ZERO);
        wheel.arm(Moment::MAX, "never");
        assert_eq!(wheel.pop_due(Moment::from_micros(u64::MAX / 2)), None);
        // Its tick begins after the last moment there is.
        assert_eq!(wheel.pop_due(Moment::MAX), None);
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let mut wheel = Wheel::new(millis(1000));
        assert_eq!(wheel.pop_due(millis(2000)), None);
        wheel.arm(millis(2010), 'a');
        wheel.arm(millis(1500), 'b');
        assert_eq!(drain(&mut wheel, millis(100)), ['b']);
        assert_eq!(drain(&mut wheel, millis(2010)), ['a']);
    }
}
