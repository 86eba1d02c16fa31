//! Decisions about topics that were asked for before, so that rules are looked through once for each.

use crate::topic::TopicName;

/// Topics longer than this are decided each time: what a client can make us keep is bounded in bytes, too.
const TOPIC_BYTES_MAX: usize = 256;

/// The newest decisions about one client and one action. A topic has one slot that it can be in, and may push another out of it.
///
/// They hold as long as the rights and the identity that they were made with.
#[derive(Debug)]
pub struct Decisions {
    slots: Box<[Slot]>,
}

/// A topic, compared whole: a hash alone may be the same for another one. An empty topic is none.
#[derive(Debug, Clone, Default)]
struct Slot {
    topic: String,
    is_allowed: bool,
}

impl Decisions {
    /// None yet, and room for this many.
    ///
    /// # Panics
    /// Where that is no power of two.
    pub fn with_slots(slots: usize) -> Self {
        assert!(slots.is_power_of_two(), "{slots} slots");
        Self { slots: vec![Slot::default(); slots].into() }
    }

    /// The decision about a topic with this hash, made by `decide` where it is not known.
    pub fn get(&mut self, hash: u64, topic: TopicName<'_>, decide: impl FnOnce() -> bool) -> bool {
        let at = hash as usize & (self.slots.len() - 1);
        let slot = &mut self.slots[at];
        if slot.topic == topic.as_str() {
            return slot.is_allowed;
        }
        let is_allowed = decide();
        if topic.as_str().len() <= TOPIC_BYTES_MAX {
            slot.topic.clear();
            slot.topic.push_str(topic.as_str());
            slot.is_allowed = is_allowed;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn a_decision_is_made_once_and_never_taken_for_that_of_another_topic() {
        let mut decisions = Decisions::with_slots(2);
        assert!(decisions.get(4, topic("a"), || true));
        assert!(decisions.get(4, topic("a"), || panic!("it is known")));
        assert!(!decisions.get(4, topic("b"), || false), "the same hash, another topic");
        assert!(!decisions.get(4, topic("a"), || false), "it was pushed out");
    }

    #[test]
    fn long_topics_are_not_kept() {
        let mut decisions = Decisions::with_slots(1);
        let long = "x".repeat(TOPIC_BYTES_MAX + 1);
        assert!(decisions.get(0, topic(&long), || true));
        assert!(!decisions.get(0, topic(&long), || false));
    }
}
