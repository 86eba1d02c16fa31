//! Who is to receive what, and what came: loss, repetition, order and content of every delivery.

use std::collections::BTreeMap;

use willowmq::codec::QoS;

use crate::report::{Check, Report};
use crate::stamp::Defect;

/// How many cases of each violation are told one by one.
const EXAMPLES_MAX: usize = 5;

/// The sequence numbers that one receiver has seen of one publisher.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Everything below was seen, or is in `missing`.
    next: u64,
    /// Gaps: from the first number to the one after the last.
    missing: BTreeMap<u64, u64>,
}

/// What a sequence number is to a [`Track`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The next one, or a later one: there is a gap.
    New,
    /// One from a gap: a later one was there before it.
    Late,
    /// One that was seen.
    Again,
}

impl Track {
    /// A track whose first expected number is `next`.
    pub fn starting_at(next: u64) -> Self {
        Self { next, missing: BTreeMap::new() }
    }

    /// Notes that `sequence` was received.
    pub fn see(&mut self, sequence: u64) -> Sighting {
        if sequence == self.next {
            self.next += 1;
            return Sighting::New;
        }
        if sequence > self.next {
            self.missing.insert(self.next, sequence);
            self.next = sequence + 1;
            return Sighting::New;
        }
        let Some((&from, &to)) = self.missing.range(..=sequence).next_back() else { return Sighting::Again };
        if sequence >= to {
            return Sighting::Again;
        }
        self.missing.remove(&from);
        if from < sequence {
            self.missing.insert(from, sequence);
        }
        if sequence + 1 < to {
            self.missing.insert(sequence + 1, to);
        }
        Sighting::Late
    }

    /// How many of the first `sent` numbers have not been seen.
    pub fn lost(&self, sent: u64) -> u64 {
        let gaps: u64 = self.missing.iter().map(|(from, to)| to - from).sum();
        gaps + sent.saturating_sub(self.next)
    }

    /// Those of the first `sent` numbers that have not been seen, in order.
    pub fn unseen(&self, sent: u64) -> impl Iterator<Item = u64> {
        self.missing.iter().flat_map(|(from, to)| *from..*to).chain(self.next..sent)
    }

    /// The first number that has not been seen, up to `sent`.
    pub fn first_lost(&self, sent: u64) -> Option<u64> {
        self.missing.keys().next().copied().or((self.next < sent).then_some(self.next))
    }
}

/// A count with its first cases.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// The first cases.
    pub examples: Vec<String>,
}

impl Tally {
    /// Counts one more case.
    pub fn add(&mut self, example: impl FnOnce() -> String) {
        self.add_many(1, example);
    }

    /// Counts `count` more cases, told as one.
    pub fn add_many(&mut self, count: u64, example: impl FnOnce() -> String) {
        self.count += count;
        if count > 0 {
            self.note(example);
        }
    }

    /// Adds the cases of `other`.
    pub fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }

    /// Keeps `example` for a case that is counted elsewhere.
    pub fn note(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }

    /// The tally as a check called `name`.
    pub fn into_check(self, name: &str, title: &str, permitted: bool) -> Check {
        Check { name: name.into(), title: title.into(), count: self.count, permitted, examples: self.examples }
    }
}

/// What was wrong with the deliveries of one kind of traffic.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    /// Acknowledged or sent, and never received.
    pub lost: Tally,
    /// Received again though it must not be. [MQTT-4.3.3-10], [MQTT-3.3.1-1]
    pub repeated: Tally,
    /// Received again, marked DUP, at QoS 1: "at least once".
    pub repeated_dup: Tally,
    /// Received after a later one of the same publisher and topic. [MQTT-4.6.0-6]
    pub disordered: Tally,
    /// Not what was published.
    pub altered: Tally,
    /// Not of this run.
    pub foreign: Tally,
    /// A level or topic that was not asked for.
    pub misdirected: Tally,
    /// Live, and with RETAIN set. [MQTT-3.3.1-9]
    pub retain_flag: Tally,
    /// Sent, and never acknowledged, on a connection that lasted.
    pub unacknowledged: Tally,
}

impl Violations {
    /// Adds what was wrong with `other` traffic.
    pub fn absorb(&mut self, other: Self) {
        self.lost.absorb(other.lost);
        self.repeated.absorb(other.repeated);
        self.repeated_dup.absorb(other.repeated_dup);
        self.disordered.absorb(other.disordered);
        self.altered.absorb(other.altered);
        self.foreign.absorb(other.foreign);
        self.misdirected.absorb(other.misdirected);
        self.retain_flag.absorb(other.retain_flag);
        self.unacknowledged.absorb(other.unacknowledged);
    }

    /// Notes a payload that could not be read.
    pub fn defect(&mut self, defect: Defect, topic: &str) {
        match defect {
            Defect::Altered => self.altered.add(|| format!("on {topic}")),
            Defect::Foreign => self.foreign.add(|| format!("on {topic}")),
        }
    }

    /// Judges one sighting; says whether it counts as a delivery.
    pub fn judge(&mut self, sighting: Sighting, qos: QoS, dup: bool, who: impl Fn() -> String) -> bool {
        match sighting {
            Sighting::New => true,
            Sighting::Late => {
                self.disordered.add(who);
                true
            }
            Sighting::Again if qos == QoS::AtLeastOnce && dup => {
                self.repeated_dup.add(who);
                false
            }
            Sighting::Again => {
                self.repeated.add(who);
                false
            }
        }
    }

    /// How often something was wrong that no level permits.
    pub fn failures(&self) -> u64 {
        let Self { lost, repeated, disordered, altered, misdirected, retain_flag, unacknowledged, .. } = self;
        let failures = [lost, repeated, disordered, altered, misdirected, retain_flag, unacknowledged];
        failures.iter().map(|tally| tally.count).sum()
    }

    /// Adds what was found to `report`, for traffic at `qos`.
    ///
    /// The standard lets QoS 0 be lost: that is told, and fails only a run that is `strict`.
    pub fn tell(self, qos: QoS, is_strict: bool, report: &mut Report) {
        self.tell_by(|name| name.into(), |title| title.into(), qos, is_strict, report);
    }

    /// Adds what was found to `report` like [`Violations::tell`], for one `kind` of traffic among several.
    pub fn tell_as(self, kind: &str, qos: QoS, is_strict: bool, report: &mut Report) {
        self.tell_by(|name| format!("{kind}_{name}"), |title| format!("{kind}: {title}"), qos, is_strict, report);
    }

    fn tell_by(
        self,
        name: impl Fn(&str) -> String,
        title: impl Fn(&str) -> String,
        qos: QoS,
        is_strict: bool,
        report: &mut Report,
    ) {
        let may_lose = qos == QoS::AtMostOnce && !is_strict;
        let mut check = |tally: Tally, n: &str, t: &str, permitted: bool| {
            report.check(tally.into_check(&name(n), &title(t), permitted));
        };
        check(self.lost, "lost", "messages lost", may_lose);
        check(self.repeated, "repeated", "messages repeated", false);
        check(self.repeated_dup, "repeated_dup", "messages repeated with DUP at QoS 1", true);
        check(self.disordered, "disordered", "messages out of order", false);
        check(self.altered, "altered", "payloads altered", false);
        check(self.misdirected, "misdirected", "messages at another topic or level", false);
        check(self.retain_flag, "retain_flag", "live messages with RETAIN set", false);
        check(self.unacknowledged, "unacknowledged", "messages without an acknowledgement", false);
        check(self.foreign, "foreign", "messages of somebody else", true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_agrees_with_a_set_of_numbers() {
        let mut seed = 1_u64;
        for _ in 0..200 {
            let mut track = Track::default();
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..60 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let sequence = (seed >> 33) % 40;
                let expected = match (seen.contains(&sequence), seen.last().is_some_and(|last| sequence < *last)) {
                    (true, _) => Sighting::Again,
                    (false, true) => Sighting::Late,
                    (false, false) => Sighting::New,
                };
                assert_eq!(track.see(sequence), expected, "{sequence} after {seen:?}");
                seen.insert(sequence);
                let lost: Vec<u64> = (0..40).filter(|number| !seen.contains(number)).collect();
                assert_eq!(track.lost(40), lost.len() as u64);
                assert_eq!(track.first_lost(40), lost.first().copied());
                assert_eq!(track.unseen(40).collect::<Vec<_>>(), lost);
            }
        }
    }

    #[test]
    fn only_what_the_standard_permits_is_forgiven() {
        let judge = |sighting, qos, dup| {
            let mut violations = Violations::default();
            let counts = violations.judge(sighting, qos, dup, String::new);
            let mut report = Report::new("test", String::new());
            violations.tell(qos, false, &mut report);
            (counts, report.passed)
        };
        assert_eq!(judge(Sighting::New, QoS::AtMostOnce, false), (true, true));
        assert_eq!(judge(Sighting::Late, QoS::AtMostOnce, false), (true, false));
        assert_eq!(judge(Sighting::Again, QoS::AtMostOnce, false), (false, false));
        assert_eq!(judge(Sighting::Again, QoS::AtLeastOnce, true), (false, true));
        assert_eq!(judge(Sighting::Again, QoS::AtLeastOnce, false), (false, false));
        assert_eq!(judge(Sighting::Again, QoS::ExactlyOnce, true), (false, false));
    }

    #[test]
    fn loss_is_forgiven_at_qos_0_alone() {
        for (qos, is_strict, passes) in
            [(QoS::AtMostOnce, false, true), (QoS::AtMostOnce, true, false), (QoS::AtLeastOnce, false, false)]
        {
            let mut violations = Violations::default();
            violations.lost.add_many(3, || "three".into());
            let mut report = Report::new("test", String::new());
            violations.tell(qos, is_strict, &mut report);
            assert_eq!(report.passed, passes);
        }
    }
}
