//! Decisions about topics that were asked for before, so that rules are looked through once for each.

use crate::topic::TopicName;

/// Topics longer than this are decided each time: what a client can make us keep is bounded in bytes, too.
const TOPIC_BYTES_MAX: usize = 256;

/// Slots to begin with: most clients ask for a topic or two.
const SLOTS: usize = 4;
/// Slots at most.
const SLOTS_MAX: usize = 128;

/// The newest decisions about one client and one action. A topic has one slot that it can be in, and may push another out of it; where that
/// happens often the slots become more.
///
/// They hold as long as the rights and the identity that they were made with.
#[derive(Debug)]
pub struct Decisions {
    slots: Box<[Slot]>,
    /// How often a topic was pushed out since there are so many slots.
    pushed_out: usize,
}

/// A topic, compared whole: a hash alone may be the same for another one. An empty topic is none.
#[derive(Debug, Clone, Default)]
struct Slot {
    topic: String,
    is_allowed: bool,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { slots: vec![Slot::default(); SLOTS].into(), pushed_out: 0 }
    }
}

impl Decisions {
    /// The decision about a topic with this hash, made by `decide` where it is not known.
    pub fn get(&mut self, hash: u64, topic: TopicName<'_>, decide: impl FnOnce() -> bool) -> bool {
        let at = hash as usize & (self.slots.len() - 1);
        if self.slots[at].topic == topic.as_str() {
            return self.slots[at].is_allowed;
        }
        let is_allowed = decide();
        if topic.as_str().len() <= TOPIC_BYTES_MAX {
            self.keep(hash, topic, is_allowed);
        }
        is_allowed
    }

    fn keep(&mut self, hash: u64, topic: TopicName<'_>, is_allowed: bool) {
        if self.pushed_out > self.slots.len() && self.slots.len() < SLOTS_MAX {
            *self = Self { slots: vec![Slot::default(); self.slots.len() * 2].into(), pushed_out: 0 };
        }
        let at = hash as usize & (self.slots.len() - 1);
        let slot = &mut self.slots[at];
        self.pushed_out += usize::from(!slot.topic.is_empty());
        slot.topic.clear();
        slot.topic.push_str(topic.as_str());
        slot.is_allowed = is_allowed;
    }
}

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS_MAX.is_power_of_two(), "a hash is cut to a slot by a mask");

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn a_decision_is_made_once_and_never_taken_for_that_of_another_topic() {
        let mut decisions = Decisions::default();
        assert!(decisions.get(4, topic("a"), || true));
        assert!(decisions.get(4, topic("a"), || panic!("it is known")));
        assert!(!decisions.get(4, topic("b"), || false), "the same hash, another topic");
        assert!(!decisions.get(4, topic("a"), || false), "it was pushed out");
    }

    #[test]
    fn long_topics_are_not_kept() {
        let mut decisions = Decisions::default();
        let long = "x".repeat(TOPIC_BYTES_MAX + 1);
        assert!(decisions.get(0, topic(&long), || true));
        assert!(!decisions.get(0, topic(&long), || false));
    }

    #[test]
    fn slots_become_more_where_topics_push_each_other_out_and_then_no_more() {
        let mut decisions = Decisions::default();
        for round in 0..100 {
            for at in 0..1_000u64 {
                let name = format!("t/{at}");
                assert_eq!(decisions.get(at, topic(&name), || at % 3 == 0), at % 3 == 0, "round {round}");
            }
        }
        assert_eq!(decisions.slots.len(), SLOTS_MAX);
    }
}
