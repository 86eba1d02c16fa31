//! What is retained after a storm, and its removal.

use willowmq::codec::{Publish, QoS};

use super::fate::{Fate, Wills};
use crate::engine::{Fleet, Index, Message};
use crate::ledger::Tally;
use crate::report::Report;
use crate::stamp::Stamper;

/// What a client learns that subscribes after the storm.
pub(super) struct Aftermath {
    copies: Vec<u8>,
    seen: u64,
    not_marked: Tally,
    altered: Tally,
    misdirected: Tally,
    /// The next topic to be emptied; `None` until the removal begins.
    next_removal: Option<usize>,
    removed: usize,
}

impl Aftermath {
    pub(super) fn new(devices: usize) -> Self {
        Self {
            copies: vec![0; devices],
            seen: 0,
            not_marked: Tally::default(),
            altered: Tally::default(),
            misdirected: Tally::default(),
            next_removal: None,
            removed: 0,
        }
    }

    /// How many retained wills have come.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Notes what came.
    pub(super) fn on_message(&mut self, publish: &Publish<'_>, stamper: &Stamper, topics: &[String]) {
        if self.is_removing() {
            return; // The removal is heard as well.
        }
        let Ok(stamp) = stamper.read(publish.payload) else {
            return self.altered.add(|| format!("on {}", publish.topic));
        };
        let device = stamp.publisher as usize;
        if topics.get(device).is_none_or(|topic| topic != publish.topic) {
            return self.misdirected.add(|| format!("device {device}, on {}", publish.topic));
        }
        let copies = &mut self.copies[device];
        *copies = copies.saturating_add(1);
        self.seen += 1;
        if !publish.retain {
            self.not_marked.add(|| format!("on {}", publish.topic)); // [MQTT-3.3.1-8]
        }
    }

    /// From now on, retained wills are removed.
    pub(super) fn begin_removal(&mut self) {
        self.next_removal = Some(0);
        self.removed = 0;
    }

    /// Whether the removal has begun.
    pub(super) fn is_removing(&self) -> bool {
        self.next_removal.is_some()
    }

    /// Removes as many as the broker takes now, as `client`.
    pub(super) fn remove(&mut self, fleet: &mut Fleet, client: Index, topics: &[String]) {
        let Some(next) = &mut self.next_removal else { return };
        while let Some(topic) = topics.get(*next) {
            // A retained message is removed by one with an empty payload. [MQTT-3.3.1-6]
            let message = Message { topic, payload: &[], qos: QoS::AtLeastOnce, retain: true };
            if !fleet.publish(client, &message, 0) {
                return;
            }
            *next += 1;
        }
    }

    /// Notes that the broker acknowledged one removal.
    pub(super) fn on_removed(&mut self) {
        self.removed += 1;
    }

    /// How many are removed.
    pub(super) fn removed(&self) -> u64 {
        self.removed as u64
    }

    /// Whether all are removed.
    pub(super) fn is_removed(&self) -> bool {
        self.removed == self.copies.len()
    }

    /// Compares what came with what became of each device.
    pub(super) fn tell(self, wills: &Wills, report: &mut Report) {
        let (mut missing, mut repeated, mut unexpected) = (Tally::default(), Tally::default(), Tally::default());
        for (device, copies) in self.copies.iter().enumerate() {
            let who = || format!("device {device}");
            match (wills.fate(device), copies) {
                (fate, 0) if fate.is_owed() => missing.add(who),
                (Fate::Alive | Fate::Back, 1..) => unexpected.add(who),
                (_, 2..) => repeated.add(who),
                _ => {}
            }
        }
        report.check(missing.into_check("retained_missing", "retained wills missing", false));
        report.check(repeated.into_check("retained_repeated", "retained wills sent twice", false));
        report.check(unexpected.into_check("retained_unexpected", "retained wills of clients that are alive", false));
        report.check(self.not_marked.into_check("retained_flag", "retained wills without RETAIN", false));
        report.check(self.misdirected.into_check("retained_misdirected", "retained wills at another topic", false));
        report.check(self.altered.into_check("retained_altered", "retained wills with another payload", false));
    }
}
