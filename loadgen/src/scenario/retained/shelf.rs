//! What the broker is to keep at each topic, and whether those who look find just that.

use willowmq::codec::{Publish, QoS};

use crate::ledger::{Sighting, Tally, Violations};
use crate::report::Report;
use crate::stamp::{Defect, Stamp};

/// What the broker is to keep at each topic, and whether those who look find just that.
///
/// Nothing is published during a look, so that there is one right answer: what was acknowledged last.
pub struct Shelf {
    topics: Vec<String>,
    /// The level at which kept messages arrive.
    qos: QoS,
    /// The number of the message that is kept at each topic.
    kept: Vec<Option<u64>>,
    /// Whether something was published to each topic that is not acknowledged, so that more than one answer is right.
    is_unclear: Vec<bool>,
    /// Who looks at each topic in the present look.
    asked: Vec<Option<usize>>,
    seen: Vec<bool>,
    found: u64,
    stale: Tally,
    not_removed: Tally,
    retain_flag: Tally,
    violations: Violations,
}

impl Shelf {
    /// An empty shelf of `topics`, from which messages arrive at `qos`.
    pub fn new(topics: Vec<String>, qos: QoS) -> Self {
        let count = topics.len();
        Self {
            topics,
            qos,
            kept: vec![None; count],
            is_unclear: vec![false; count],
            asked: vec![None; count],
            seen: vec![false; count],
            found: 0,
            stale: Tally::default(),
            not_removed: Tally::default(),
            retain_flag: Tally::default(),
            violations: Violations::default(),
        }
    }

    /// The topics.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Notes that message `sequence` is kept at `topic`, or nothing.
    pub fn keep(&mut self, topic: usize, sequence: Option<u64>) {
        self.kept[topic] = sequence;
        self.is_unclear[topic] = false;
    }

    /// Notes that something else was published to `topic`.
    pub fn doubt(&mut self, topic: usize) {
        self.is_unclear[topic] = true;
    }

    /// Notes that the broker refused it.
    pub fn trust(&mut self, topic: usize) {
        self.is_unclear[topic] = false;
    }

    /// Whether anything is kept at `topic`, without a doubt.
    pub fn is_kept(&self, topic: usize) -> bool {
        self.kept[topic].is_some() && !self.is_unclear[topic]
    }

    /// At how many topics something is kept.
    pub fn kept(&self) -> u64 {
        (0..self.topics.len()).filter(|topic| self.is_kept(*topic)).count() as u64
    }

    /// How many of the kept messages the present look has found.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// Begins a look: nobody has asked for anything.
    pub fn begin_look(&mut self) {
        self.asked.fill(None);
        self.seen.fill(false);
        self.found = 0;
    }

    /// Notes that `reader` asks for `topic`.
    pub fn ask(&mut self, topic: usize, reader: usize) {
        self.asked[topic] = Some(reader);
    }

    /// Notes that `reader` asks for everything.
    pub fn ask_for_all(&mut self, reader: usize) {
        self.asked.fill(Some(reader));
    }

    /// Judges what `reader` received; gives the topic if it is what the reader looked for.
    pub fn on_message(&mut self, reader: usize, publish: &Publish<'_>, stamp: Result<Stamp, Defect>) -> Option<usize> {
        let stamp = match stamp {
            Ok(stamp) => stamp,
            Err(defect) => {
                self.violations.defect(defect, publish.topic);
                return None;
            }
        };
        let topic = stamp.publisher as usize;
        if self.topics.get(topic).is_none_or(|name| name != publish.topic)
            || self.asked[topic] != Some(reader)
            || publish.qos != self.qos
        {
            let (name, qos) = (publish.topic, publish.qos.as_u8());
            self.violations.misdirected.add(|| format!("reader {reader}: {name} at QoS {qos}"));
            return None;
        }
        if !publish.retain {
            self.retain_flag.add(|| publish.topic.into()); // [MQTT-3.3.1-8]
        }
        self.judge(topic, publish, stamp.sequence)
    }

    fn judge(&mut self, topic: usize, publish: &Publish<'_>, sequence: u64) -> Option<usize> {
        let who = || publish.topic.to_owned();
        match self.kept[topic] {
            _ if self.is_unclear[topic] => return None,
            None => {
                self.not_removed.add(who);
                return None;
            }
            Some(kept) if kept != sequence => {
                self.stale.add(|| format!("{}: message {sequence} instead of {kept}", publish.topic));
            }
            Some(_) => {}
        }
        let sighting = if self.seen[topic] { Sighting::Again } else { Sighting::New };
        self.seen[topic] = true;
        self.violations.judge(sighting, publish.qos, publish.dup, who).then(|| {
            self.found += 1;
            topic
        })
    }

    /// Ends a look: counts what was looked for and not found.
    pub fn end_look(&mut self) {
        for topic in 0..self.topics.len() {
            if let (Some(reader), true, false) = (self.asked[topic], self.is_kept(topic), self.seen[topic]) {
                self.violations.lost.add(|| format!("{}, looked for by reader {reader}", self.topics[topic]));
            }
        }
        self.asked.fill(None);
    }

    /// How often something was wrong so far.
    pub fn failures(&self) -> u64 {
        let Self { stale, not_removed, retain_flag, violations, .. } = self;
        stale.count + not_removed.count + retain_flag.count + violations.failures()
    }

    /// Adds every check to `report`.
    pub fn tell(self, report: &mut Report) {
        let mut check = |tally: Tally, name: &str, title: &str, permitted: bool| {
            report.check(tally.into_check(name, title, permitted));
        };
        let violations = self.violations;
        check(violations.lost, "retained_lost", "retained messages lost", false);
        check(violations.repeated, "retained_repeated", "retained messages repeated", false);
        check(violations.repeated_dup, "retained_repeated_dup", "retained messages repeated with DUP at QoS 1", true);
        check(self.stale, "retained_stale", "retained messages that are not the newest", false);
        check(self.not_removed, "retained_not_removed", "retained messages that were removed", false);
        check(self.retain_flag, "retained_flag", "retained messages without RETAIN", false);
        check(violations.altered, "retained_altered", "retained messages altered", false);
        check(violations.misdirected, "retained_misdirected", "messages nobody asked for, or at another level", false);
        check(violations.foreign, "retained_foreign", "messages of somebody else", true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Time;
    use crate::stamp::{STAMP_BYTES, Stamper};

    struct Story {
        shelf: Shelf,
        stamper: Stamper,
    }

    impl Story {
        /// Message 5 is kept at topic 0, nothing at topic 1, and reader 0 looks at both.
        fn new() -> Self {
            let mut shelf = Shelf::new(vec!["t/0".into(), "t/1".into()], QoS::AtLeastOnce);
            shelf.keep(0, Some(5));
            shelf.begin_look();
            shelf.ask_for_all(0);
            Self { shelf, stamper: Stamper::random() }
        }

        fn hear(&mut self, reader: usize, topic: u32, sequence: u64, retain: bool) -> Option<usize> {
            let mut payload = Vec::new();
            self.stamper.write(Stamp { publisher: topic, sequence, at: Time(0) }, STAMP_BYTES, &mut payload);
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain,
                topic: &format!("t/{topic}"),
                packet_id: willowmq::codec::PacketId::new(1),
                topic_alias: None,
                message_expiry_interval: None,
                subscription_identifiers: Default::default(),
                forwarded: Default::default(),
                payload: &payload,
            };
            let stamp = self.stamper.read(&payload);
            self.shelf.on_message(reader, &publish, stamp)
        }

        fn violated(mut self) -> Vec<String> {
            self.shelf.end_look();
            let failures = self.shelf.failures();
            let mut report = Report::new("retained", String::new());
            self.shelf.tell(&mut report);
            let violated: Vec<_> = report.checks.into_iter().filter(|check| check.count > 0).collect();
            assert_eq!(violated.iter().map(|check| check.count).sum::<u64>(), failures);
            violated.into_iter().map(|check| check.name).collect()
        }
    }

    #[test]
    fn what_is_kept_is_found_once() {
        let mut story = Story::new();
        assert_eq!(story.hear(0, 0, 5, true), Some(0));
        assert_eq!((story.shelf.found(), story.shelf.kept()), (1, 1));
        assert!(story.violated().is_empty());
    }

    #[test]
    fn what_is_not_acknowledged_may_be_kept_or_not() {
        let mut story = Story::new();
        [0, 1].into_iter().for_each(|topic| story.shelf.doubt(topic));
        assert_eq!((story.shelf.kept(), story.hear(0, 1, 7, true)), (0, None));
        assert!(story.violated().is_empty());
    }

    #[test]
    fn each_violation_is_told_apart() {
        assert_eq!(Story::new().violated(), ["retained_lost"]);

        let mut story = Story::new();
        story.hear(0, 0, 5, true);
        assert_eq!(story.hear(0, 0, 5, true), None);
        assert_eq!(story.violated(), ["retained_repeated"]);

        let mut story = Story::new();
        story.hear(0, 0, 4, true);
        assert_eq!(story.violated(), ["retained_stale"]);

        let mut story = Story::new();
        story.hear(0, 0, 5, false);
        assert_eq!(story.violated(), ["retained_flag"]);

        let mut story = Story::new();
        story.hear(0, 0, 5, true);
        story.hear(0, 1, 5, true);
        assert_eq!(story.violated(), ["retained_not_removed"]);

        let mut story = Story::new();
        story.hear(0, 0, 5, true);
        story.hear(1, 0, 5, true);
        assert_eq!(story.violated(), ["retained_misdirected"]);
    }
}
