//! Retained messages: a new subscriber gets the last acknowledged version or a later one.

use super::subscriptions::matches;
use super::{Counts, Fault};
use crate::history::{Payload, Publishing, Receiving, Who, Will};
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
struct Shelf {
    /// Versions that were sent, from the last acknowledged one on; `true` removes.
    sent: BTreeMap<u64, bool>,
    acknowledged: Option<u64>,
    /// The last will that was seen: it is stored, but not necessarily before it is seen.
    published: Option<u64>,
}

/// What one new subscriber must get, and what it got.
struct Look {
    filter: String,
    /// What was acknowledged, respectively published, when it subscribed.
    at_least: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// Topics of which something came, stored or live.
    got: HashMap<String, u64>,
}

/// Each topic has one author, who awaits an acknowledgement before the next version of it: versions are in order.
#[derive(Default)]
pub(crate) struct Retained {
    shelves: BTreeMap<String, Shelf>,
    /// Topics of publications that are not acknowledged.
    underway: HashMap<(Who, u64), String>,
    looks: HashMap<Who, Look>,
}

impl Retained {
    pub(crate) fn publish(&mut self, who: Who, publishing: &Publishing) {
        let shelf = self.shelves.entry(publishing.topic.clone()).or_default();
        shelf.sent.insert(publishing.number, publishing.empty);
        self.underway.insert((who, publishing.number), publishing.topic.clone());
    }

    pub(crate) fn acknowledged(&mut self, who: Who, number: u64) {
        let Some(topic) = self.underway.remove(&(who, number)) else { return };
        if let Some(shelf) = self.shelves.get_mut(&topic) {
            shelf.acknowledged = shelf.acknowledged.max(Some(number));
        }
    }

    /// A will may be stored from now on.
    pub(crate) fn offered(&mut self, will: &Will) {
        if will.retain {
            self.shelves.entry(will.topic.clone()).or_default().sent.insert(will.number, false);
        }
    }

    /// A will was seen.
    pub(crate) fn published(&mut self, will: &Will) {
        if let Some(shelf) = self.shelves.get_mut(&will.topic).filter(|_| will.retain) {
            shelf.published = shelf.published.max(Some(will.number));
        }
    }

    pub(crate) fn subscribe(&mut self, who: Who, filter: &str) {
        let matching = self.shelves.iter().filter(|(topic, _)| matches(filter, topic));
        let at_least = matching.map(|(topic, shelf)| (topic.clone(), (shelf.acknowledged, shelf.published))).collect();
        self.looks.insert(who, Look { filter: filter.to_owned(), at_least, got: HashMap::new() });
    }

    pub(crate) fn look_over(&mut self, who: Who) {
        self.looks.remove(&who);
    }

    pub(crate) fn receive(&mut self, who: Who, receiving: &Receiving, faults: &mut Vec<Fault>) {
        let Some(look) = self.looks.get_mut(&who).filter(|look| matches(&look.filter, &receiving.topic)) else {
            return;
        };
        let topic = &receiving.topic;
        let number = match receiving.payload {
            Payload::Stamp(stamp) => stamp.number,
            _ => return, // A removal. That it may be so is seen when the look is over.
        };
        look.got.insert(topic.clone(), number);
        if !receiving.retain {
            return;
        }
        if self.shelves.get(topic).and_then(|shelf| shelf.sent.get(&number)) != Some(&false) {
            faults.push(Fault::Unknown { client: who, topic: topic.clone() });
        }
        if let Some(&(Some(acknowledged), _)) = look.at_least.get(topic)
            && number < acknowledged
        {
            faults.push(Fault::RetainedWentBack { topic: topic.clone(), number, acknowledged });
        }
    }

    /// The look is over; `settled` if nothing was published meanwhile, so that what was seen of wills must be there as well.
    pub(crate) fn looked(&mut self, who: Who, settled: bool, counts: &mut Counts) -> Vec<Fault> {
        let Some(look) = self.looks.remove(&who) else { return Vec::new() };
        counts.retained_checked += look.at_least.len() as u64;
        look.at_least.iter().filter_map(|(topic, at_least)| self.missing(topic, *at_least, &look, settled)).collect()
    }

    fn missing(
        &self,
        topic: &str,
        (acknowledged, published): (Option<u64>, Option<u64>),
        look: &Look,
        settled: bool,
    ) -> Option<Fault> {
        let acknowledged = if settled { acknowledged.max(published)? } else { acknowledged? };
        match look.got.get(topic) {
            Some(&number) if number >= acknowledged => None,
            Some(&number) => Some(Fault::RetainedWentBack { topic: topic.to_owned(), number, acknowledged })
                .filter(|_| published == Some(acknowledged)), // Otherwise complained about when it came.
            None if self.shelves[topic].sent.range(acknowledged..).any(|(_, removes)| *removes) => None,
            None => Some(Fault::RetainedLost { topic: topic.to_owned(), acknowledged }),
        }
    }
}
