//! What becomes of each device, when its will is due, and what the watchers hear of it.

use hdrhistogram::Histogram;
use willowmq::codec::{Publish, QoS};

use crate::engine::Time;
use crate::ledger::{Sighting, Tally, Violations};
use crate::report::{Report, histogram};
use crate::stamp::Stamp;

/// What is known of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is connected: its will must not be heard.
    Alive,
    /// It was cut, and its will is due at that moment.
    Cut {
        /// When it was cut, or taken over.
        at: Time,
        /// The earliest moment at which its will may be published.
        due: Time,
    },
    /// It was back before its will was due: the will must not be heard. [MQTT-3.1.3-9]
    Back,
    /// It was back, and its will was due at about that time: either is right.
    BackLate,
    /// It was back, and its will, which has no delay, must be heard all the same.
    BackAfter {
        /// When it was cut, and its will was due.
        at: Time,
    },
}

impl Fate {
    /// When it was cut and when its will was due, if the will must be heard.
    fn owed(self) -> Option<(Time, Time)> {
        match self {
            Self::Cut { at, due } => Some((at, due)),
            Self::BackAfter { at } => Some((at, at)),
            Self::Alive | Self::Back | Self::BackLate => None,
        }
    }

    /// Whether its will must be heard.
    pub(super) fn is_owed(self) -> bool {
        self.owed().is_some()
    }

    /// Whether it was never cut.
    pub(super) fn is_alive(self) -> bool {
        self == Self::Alive
    }

    /// Whether it was cut and is not back.
    pub(super) fn is_away(self) -> bool {
        matches!(self, Self::Cut { .. })
    }
}

/// What the watchers heard, and whether they should have.
pub(super) struct Wills {
    fates: Vec<Fate>,
    /// How many wills must be heard.
    owed: usize,
    topics: Vec<String>,
    qos: QoS,
    /// How often each watcher heard each device: watcher by watcher.
    heard: Vec<u8>,
    last_due: Time,
    /// First deliveries of wills that were due, of all watchers.
    pub(super) delivered: u64,
    /// When each of them came.
    pub(super) arrivals: Vec<Time>,
    /// How long after it was due each of them came, in nanoseconds.
    pub(super) lateness: Histogram<u64>,
    /// How long after its device was cut each of them came.
    pub(super) since_cut: Histogram<u64>,
    early: Tally,
    from_back: Tally,
    from_alive: Tally,
    retain_flag: Tally,
    violations: Violations,
}

impl Wills {
    /// Wills of as many devices as there are `topics`, at `qos`, for `watchers`.
    pub(super) fn new(topics: Vec<String>, qos: QoS, watchers: usize) -> Self {
        Self {
            fates: vec![Fate::Alive; topics.len()],
            owed: 0,
            heard: vec![0; topics.len() * watchers],
            topics,
            qos,
            last_due: Time::default(),
            delivered: 0,
            arrivals: Vec::new(),
            lateness: histogram(),
            since_cut: histogram(),
            early: Tally::default(),
            from_back: Tally::default(),
            from_alive: Tally::default(),
            retain_flag: Tally::default(),
            violations: Violations::default(),
        }
    }

    /// The topic of each device's will.
    pub(super) fn topics(&self) -> &[String] {
        &self.topics
    }

    /// What is known of `device`.
    pub(super) fn fate(&self, device: usize) -> Fate {
        self.fates[device]
    }

    /// Notes that `device` is cut.
    pub(super) fn cut(&mut self, device: usize, at: Time, due: Time) {
        self.set_fate(device, Fate::Cut { at, due });
        self.last_due = self.last_due.max(due);
    }

    /// Notes that the broker accepted `device` again.
    pub(super) fn came_back(&mut self, device: usize, back: Time) {
        if let Fate::Cut { at, due } = self.fates[device] {
            let fate = match () {
                () if at == due => Fate::BackAfter { at }, // Whatever the broker learned first. [MQTT-3.1.4-3]
                () if back < due => Fate::Back,
                () => Fate::BackLate,
            };
            self.set_fate(device, fate);
        }
    }

    fn set_fate(&mut self, device: usize, fate: Fate) {
        self.owed -= usize::from(self.fates[device].is_owed());
        self.owed += usize::from(fate.is_owed());
        self.fates[device] = fate;
    }

    /// How many deliveries are due in all.
    pub(super) fn expected(&self) -> u64 {
        (self.owed * self.watchers()) as u64
    }

    /// The last moment at which a will is due, or would be if its device were not back.
    pub(super) fn last_due(&self) -> Time {
        self.last_due
    }

    /// When each will is due, in order.
    pub(super) fn due_times(&self) -> Vec<Time> {
        let mut due: Vec<Time> = self.fates.iter().filter_map(|fate| Some(fate.owed()?.1)).collect();
        due.sort_unstable();
        due
    }

    /// How many devices were back in time, and how many at about the moment when their will was due.
    pub(super) fn returned(&self) -> (usize, usize) {
        let count = |fate| self.fates.iter().filter(|other| **other == fate).count();
        (count(Fate::Back), count(Fate::BackLate))
    }

    /// Where a watcher heard the wills of those that were cut first, and not the rest: how many it heard. Clients are cut in
    /// the order of their numbers.
    pub(super) fn heard_only_first(&self) -> Option<usize> {
        const LOST_MIN: usize = 10; // A few of the last may be lost by chance.
        (0..self.watchers()).find_map(|watcher| {
            let heard = &self.heard[watcher * self.topics.len()..][..self.topics.len()];
            let owed = heard.iter().zip(&self.fates).filter(|(_, fate)| fate.is_owed());
            let owed: Vec<bool> = owed.map(|(heard, _)| *heard > 0).collect();
            let count = owed.iter().filter(|is_heard| **is_heard).count();
            let lost = owed.len() - count;
            // The broker may have learned of them in a slightly different order.
            let gaps = owed[..count].iter().filter(|is_heard| !**is_heard).count();
            (count > 0 && lost >= LOST_MIN && gaps * 10 <= lost).then_some(count)
        })
    }

    /// Notes what `device` received, though it has no subscription.
    pub(super) fn on_stray(&mut self, device: usize, publish: &Publish<'_>) {
        self.violations.misdirected.add(|| format!("device {device}: {}", publish.topic));
    }

    /// Judges what `watcher` received; the stamp names the device and which of its connections the will is of.
    pub(super) fn on_will(
        &mut self,
        watcher: usize,
        at: Time,
        publish: &Publish<'_>,
        stamp: Result<Stamp, crate::stamp::Defect>,
    ) {
        let stamp = match stamp {
            Ok(stamp) => stamp,
            Err(defect) => return self.violations.defect(defect, publish.topic),
        };
        let device = stamp.publisher as usize;
        if self.topics.get(device).is_none_or(|topic| topic != publish.topic) || publish.qos != self.qos {
            let (topic, qos) = (publish.topic, publish.qos.as_u8());
            return self.violations.misdirected.add(|| format!("{topic} at QoS {qos}"));
        }
        if publish.retain {
            self.retain_flag.add(|| format!("device {device}")); // A live message has RETAIN 0. [MQTT-3.3.1-12]
        }
        self.judge(watcher, device, at, publish.dup, stamp.sequence);
    }

    fn judge(&mut self, watcher: usize, device: usize, at: Time, dup: bool, connection: u64) {
        let who = || format!("device {device}, heard by watcher {watcher}");
        let (cut, due) = match (self.fates[device], self.fates[device].owed()) {
            (Fate::Alive, _) => return self.from_alive.add(who),
            _ if connection > 0 => return self.from_alive.add(who),
            (Fate::Back, _) => return self.from_back.add(who),
            (_, Some(owed)) => owed,
            _ => {
                self.is_first(watcher, device, dup); // Once or not at all: both are right.
                return;
            }
        };
        if at < due {
            self.early.add(|| format!("device {device}, {:?} before it was due", due - at));
        }
        if !self.is_first(watcher, device, dup) {
            return;
        }
        self.delivered += 1;
        self.arrivals.push(at);
        self.lateness.saturating_record(at.nanos_since(due).max(1));
        self.since_cut.saturating_record(at.nanos_since(cut).max(1));
    }

    /// Notes that `watcher` heard `device`; says whether for the first time.
    fn is_first(&mut self, watcher: usize, device: usize, dup: bool) -> bool {
        let heard = &mut self.heard[watcher * self.topics.len() + device];
        let sighting = if *heard == 0 { Sighting::New } else { Sighting::Again };
        *heard = heard.saturating_add(1);
        let who = || format!("device {device}, heard by watcher {watcher}");
        self.violations.judge(sighting, self.qos, dup, who)
    }

    fn watchers(&self) -> usize {
        self.heard.len() / self.topics.len().max(1)
    }

    /// Counts the wills that never came, and adds every check to `report`.
    pub(super) fn tell(mut self, is_strict: bool, report: &mut Report) {
        let devices = self.topics.len();
        for (position, heard) in self.heard.iter().enumerate() {
            let (watcher, device) = (position / devices, position % devices);
            if *heard == 0 && self.fates[device].is_owed() {
                self.violations.lost.add(|| format!("device {device}, not heard by watcher {watcher}"));
            }
        }
        let may_lose = self.qos == QoS::AtMostOnce && !is_strict;
        let violations = self.violations;
        let mut check = |tally: Tally, name: &str, title: &str, permitted: bool| {
            report.check(tally.into_check(name, title, permitted));
        };
        check(violations.lost, "wills_lost", "wills lost", may_lose);
        check(violations.repeated, "wills_repeated", "wills heard twice", false);
        check(violations.repeated_dup, "wills_repeated_dup", "wills repeated with DUP at QoS 1", true);
        check(self.early, "wills_early", "wills heard before they were due", false);
        check(self.from_back, "wills_of_returned", "wills of clients that came back in time", false);
        check(self.from_alive, "wills_of_connected", "wills of clients that were connected or said goodbye", false);
        check(violations.altered, "wills_altered", "wills with another payload", false);
        check(violations.misdirected, "wills_misdirected", "wills at another topic or level", false);
        check(self.retain_flag, "wills_retain_flag", "live wills with RETAIN set", false);
        check(violations.foreign, "wills_foreign", "messages of somebody else", true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{Defect, STAMP_BYTES, Stamper};

    struct Story {
        wills: Wills,
        stamper: Stamper,
    }

    impl Story {
        fn new() -> Self {
            let topics = (0..3).map(|device| format!("t/{device}")).collect();
            Self { wills: Wills::new(topics, QoS::AtLeastOnce, 1), stamper: Stamper::random() }
        }

        fn hear(&mut self, device: u32, connection: u64, at: u64) {
            let mut payload = Vec::new();
            let stamp = Stamp { publisher: device, sequence: connection, at: Time(0) };
            self.stamper.write(stamp, STAMP_BYTES, &mut payload);
            let topic = format!("t/{device}");
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: &topic,
                packet_id: willowmq::codec::PacketId::new(1),
                topic_alias: None,
                message_expiry_interval: None,
                subscription_identifiers: Default::default(),
                forwarded: Default::default(),
                payload: &payload,
            };
            let stamp = self.stamper.read(&payload);
            self.wills.on_will(0, Time(at), &publish, stamp);
        }

        fn violated(self) -> Vec<String> {
            let mut report = Report::new("storm", String::new());
            self.wills.tell(false, &mut report);
            report.checks.into_iter().filter(|check| check.count > 0).map(|check| check.name).collect()
        }
    }

    #[test]
    fn a_will_that_is_due_is_heard_once() {
        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        assert_eq!(story.wills.expected(), 1);
        story.hear(0, 0, 250);
        assert_eq!((story.wills.delivered, story.wills.lateness.max()), (1, 50));
        assert!(story.violated().is_empty());
    }

    #[test]
    fn wills_are_expected_while_they_must_be_heard() {
        let mut wills = Story::new().wills;
        wills.cut(0, Time(100), Time(200));
        wills.cut(1, Time(100), Time(100));
        wills.cut(1, Time(110), Time(110));
        assert_eq!(wills.expected(), 2);
        wills.came_back(0, Time(150));
        wills.came_back(1, Time(150));
        wills.came_back(2, Time(150));
        assert_eq!(wills.expected(), 1);
    }

    #[test]
    fn the_first_wills_and_no_more_look_like_a_limit() {
        let of = |is_heard: fn(usize) -> bool| {
            let topics = (0..100).map(|device| format!("t/{device}")).collect();
            let mut wills = Wills::new(topics, QoS::AtLeastOnce, 1);
            (0..100).for_each(|device| {
                wills.cut(device, Time(1), Time(1));
                wills.heard[device] = u8::from(is_heard(device));
            });
            wills.heard_only_first()
        };
        assert_eq!(of(|device| device < 40), Some(40));
        assert_eq!(of(|device| device != 39 && device < 41), Some(40), "almost in order");
        assert_eq!(of(|_| true), None);
        assert_eq!(of(|_| false), None);
        assert_eq!(of(|device| device % 2 == 0), None);
        assert_eq!(of(|device| device != 99), None);
    }

    #[test]
    fn each_violation_is_told_apart() {
        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        assert_eq!(story.violated(), ["wills_lost"]);

        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        story.hear(0, 0, 199);
        assert_eq!(story.violated(), ["wills_early"]);

        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        story.hear(0, 0, 201);
        story.hear(0, 0, 202);
        assert_eq!(story.violated(), ["wills_repeated"]);

        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        story.wills.came_back(0, Time(150));
        story.hear(0, 0, 201);
        assert_eq!(story.violated(), ["wills_of_returned"]);

        let mut story = Story::new();
        story.hear(1, 0, 5);
        assert_eq!(story.violated(), ["wills_of_connected"]);

        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        story.wills.came_back(0, Time(300));
        story.hear(0, 0, 201);
        assert!(story.violated().is_empty(), "either is right");
    }

    #[test]
    fn a_will_without_delay_is_due_whenever_its_client_is_back() {
        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(100));
        story.wills.came_back(0, Time(300));
        assert_eq!(story.wills.expected(), 1);
        assert_eq!(story.violated(), ["wills_lost"]);

        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        story.hear(0, 0, 201);
        story.wills.came_back(0, Time(300));
        story.hear(0, 0, 301);
        assert_eq!(story.violated(), ["wills_repeated"], "either is right, both are not");
    }

    #[test]
    fn the_will_of_the_second_connection_is_not_taken_for_that_of_the_first() {
        let mut story = Story::new();
        story.wills.cut(0, Time(100), Time(200));
        story.hear(0, 1, 201);
        assert_eq!(story.violated(), ["wills_lost", "wills_of_connected"]);
        assert_eq!(Story::new().stamper.read(b"?"), Err(Defect::Foreign));
    }
}
