//! The timer wheel answers what a sorted list answers, for any sequence of operations.

use std::collections::BTreeMap;

use proptest::prelude::*;
use willowmq::timer::{Moment, Tick, TimerId, Wheel};

/// The slow, obvious model: items sorted by tick, then by the order of arming.
#[derive(Default)]
struct SortedList {
    now: Tick,
    items: BTreeMap<(Tick, usize), Moment>,
    tick_of: Vec<Tick>,
}

impl SortedList {
    fn arm(&mut self, deadline: Moment) -> usize {
        let name = self.tick_of.len();
        // A deadline in the past is due now, after what has been due before.
        let tick = Tick::at_or_after(deadline).max(self.now);
        self.tick_of.push(tick);
        self.items.insert((tick, name), deadline);
        name
    }

    fn cancel(&mut self, name: usize) -> Option<usize> {
        self.items.remove(&(self.tick_of[name], name)).map(|_| name)
    }

    fn deadline(&self, name: usize) -> Option<Moment> {
        self.items.get(&(self.tick_of[name], name)).copied()
    }

    fn first_tick(&self) -> Option<Tick> {
        self.items.first_key_value().map(|(&(tick, _), _)| tick)
    }

    fn pop_due(&mut self, now: Moment) -> Option<usize> {
        let target = Tick::elapsed(now).max(self.now);
        match self.first_tick().filter(|&tick| tick <= target) {
            Some(tick) => {
                self.now = tick;
                self.items.pop_first().map(|((_, name), _)| name)
            }
            None => {
                self.now = target;
                None
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Operation {
    /// A deadline so many microseconds from now.
    Arm(i64),
    /// One of the timers ever armed, modulo their number.
    Cancel(usize),
    /// Time goes on by so many microseconds and what is due comes out, but no more than so many items.
    Advance(u64, usize),
    /// Time goes on to where the wheel wants to be called.
    AdvanceToNext,
    /// An item comes out and is armed again, as a Keep Alive is.
    Rearm(i64),
}

/// Spans whose magnitude is uniform, from a microsecond to 136 years and more.
fn span() -> impl Strategy<Value = u64> {
    (0..53u32).prop_flat_map(|bits| 0..=1_u64 << bits)
}

fn deadline() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => span().prop_map(u64::cast_signed),
        // Around the borders of slots and levels, where a wheel goes wrong.
        3 => (0..9u32, -2..=2i64).prop_map(|(level, off)| (1_i64 << (6 * level.min(6))) * 10_000 + off * 5_000),
        1 => span().prop_map(|span| -(span.cast_signed())),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => deadline().prop_map(Operation::Arm),
        3 => any::<usize>().prop_map(Operation::Cancel),
        3 => (span(), prop_oneof![Just(usize::MAX), 0..4usize]).prop_map(|(by, most)| Operation::Advance(by, most)),
        3 => Just(Operation::AdvanceToNext),
        2 => deadline().prop_map(Operation::Rearm),
    ]
}

struct Both {
    now: Moment,
    wheel: Wheel<usize>,
    list: SortedList,
    ids: Vec<TimerId>,
}

impl Both {
    fn new(now: Moment) -> Self {
        let list = SortedList { now: Tick::elapsed(now), ..SortedList::default() };
        Self { now, wheel: Wheel::new(now), list, ids: Vec::new() }
    }

    fn arm(&mut self, from_now: i64) {
        let deadline = Moment::from_micros(self.now.as_micros().saturating_add_signed(from_now));
        let name = self.list.arm(deadline);
        self.ids.push(self.wheel.arm(deadline, name));
    }

    fn pop(&mut self) -> Result<Option<usize>, TestCaseError> {
        let popped = self.wheel.pop_due(self.now);
        let deadline = popped.and_then(|name| self.list.deadline(name));
        prop_assert_eq!(popped, self.list.pop_due(self.now));
        prop_assert!(deadline.is_none_or(|deadline| deadline <= self.now), "early: {:?} at {:?}", deadline, self.now);
        Ok(popped)
    }

    fn apply(&mut self, operation: Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Arm(from_now) => self.arm(from_now),
            Operation::Cancel(which) if !self.ids.is_empty() => {
                let name = which % self.ids.len();
                prop_assert_eq!(self.wheel.deadline(self.ids[name]), self.list.deadline(name));
                prop_assert_eq!(self.wheel.cancel(self.ids[name]), self.list.cancel(name));
            }
            Operation::Cancel(_) => {}
            Operation::Advance(by, most) => {
                self.now = Moment::from_micros(self.now.as_micros().saturating_add(by));
                for _ in 0..most {
                    if self.pop()?.is_none() {
                        break;
                    }
                }
            }
            Operation::AdvanceToNext => {
                self.now = self.wheel.next_deadline().unwrap_or(self.now).max(self.now);
                while self.pop()?.is_some() {}
            }
            Operation::Rearm(from_now) => {
                if self.pop()?.is_some() {
                    self.arm(from_now);
                }
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.wheel.len(), self.list.items.len());
        prop_assert_eq!(self.wheel.is_empty(), self.list.items.is_empty());
        let first = self.list.first_tick().map(Tick::start);
        prop_assert_eq!(self.wheel.next_deadline().is_some(), first.is_some());
        prop_assert!(self.wheel.next_deadline() <= first, "{:?} is late", self.wheel.next_deadline());
        Ok(())
    }

    /// Follows the wheel's own calls until all has come out: each is short of a level at most once per deadline.
    fn run_out(&mut self) -> Result<(), TestCaseError> {
        let bound = 10 * (self.wheel.len() + 1);
        for _ in 0..bound {
            match self.wheel.next_deadline() {
                Some(next) if Tick::elapsed(next).start() < next => break, // The end of time never comes.
                Some(_) => self.apply(Operation::AdvanceToNext)?,
                None => break,
            }
        }
        let remaining = self.list.first_tick().map(Tick::start);
        prop_assert!(remaining.is_none_or(|start| start == Moment::MAX), "{:?} has not come", remaining);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn wheel_agrees_with_a_sorted_list(start in span(), operations in prop::collection::vec(operation(), 0..120)) {
        let mut both = Both::new(Moment::from_micros(start));
        for operation in operations {
            both.apply(operation)?;
        }
        both.run_out()?;
    }
}
