//! The wills of clients that come and go, connection by connection: which are owed, and which must not be heard.

use std::collections::{HashMap, HashSet};

use hdrhistogram::Histogram;
use willowmq::codec::{Publish, QoS};

use crate::engine::Time;
use crate::ledger::{Sighting, Tally, Violations};
use crate::report::{Report, histogram};
use crate::stamp::{Defect, Stamp};

/// How many connections of a client are remembered one by one.
const REMEMBERED: u64 = 64;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// With DISCONNECT: its will must not be heard. [MQTT-3.1.2-10]
    Goodbye,
    /// Without: its will must be heard once. [MQTT-3.1.2-8]
    Vanished,
    /// In some way that leaves open what the broker knew.
    Unclear,
}

/// What is known of one client.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// Number of the present or next connection.
    connection: u64,
    /// The connections before it, the last one in the lowest bit: those whose will was owed or was heard.
    vanished: u64,
    /// Likewise: those whose will may be heard.
    unclear: u64,
}

/// The wills of clients that come and go, heard by one watcher at QoS 1.
pub struct Wills {
    topics: Vec<String>,
    pasts: Vec<Past>,
    /// By client and connection: when it vanished.
    owed: HashMap<(usize, u64), Time>,
    /// By client and present connection: heard before we know how, or that, it ended. Two connections are read in no
    /// order, so the watcher may hear of an end before the client does.
    ahead: HashSet<(usize, u64)>,
    /// How many were heard that were owed.
    pub heard: u64,
    /// From the end of the connection to the will, in nanoseconds.
    pub latency: Histogram<u64>,
    from_parted: Tally,
    violations: Violations,
}

impl Wills {
    /// Wills of as many clients as there are `topics`.
    pub fn new(topics: Vec<String>) -> Self {
        Self {
            pasts: vec![Past::default(); topics.len()],
            topics,
            owed: HashMap::new(),
            ahead: HashSet::new(),
            heard: 0,
            latency: histogram(),
            from_parted: Tally::default(),
            violations: Violations::default(),
        }
    }

    /// The topic of each client's will.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Notes how the present connection of `client` ended; the next one has the next number.
    pub fn part(&mut self, client: usize, at: Time, parting: Parting) {
        let connection = self.pasts[client].connection;
        let was_heard = self.ahead.remove(&(client, connection));
        if parting == Parting::Vanished {
            self.owed.insert((client, connection), at);
        }
        if was_heard && parting != Parting::Unclear {
            self.from_parted.add(|| format!("client {client}, connection {connection}"));
        }
        let past = &mut self.pasts[client];
        past.connection += 1;
        past.vanished = past.vanished << 1 | u64::from(parting == Parting::Vanished || was_heard);
        past.unclear = past.unclear << 1 | u64::from(parting == Parting::Unclear && !was_heard);
    }

    /// How many wills have not been heard yet.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// How many of them were owed before `at`.
    pub fn owed_before(&self, at: Time) -> u64 {
        self.owed.values().filter(|since| **since < at).count() as u64
    }

    /// Judges what the watcher received; the stamp names the client and which of its connections the will is of.
    pub fn on_will(&mut self, at: Time, publish: &Publish<'_>, stamp: Result<Stamp, Defect>) {
        let stamp = match stamp {
            Ok(stamp) => stamp,
            Err(defect) => return self.violations.defect(defect, publish.topic),
        };
        let client = stamp.publisher as usize;
        if self.topics.get(client).is_none_or(|topic| topic != publish.topic) || publish.qos != QoS::AtLeastOnce {
            let (topic, qos) = (publish.topic, publish.qos.as_u8());
            return self.violations.misdirected.add(|| format!("{topic} at QoS {qos}"));
        }
        if publish.retain {
            self.violations.retain_flag.add(|| format!("client {client}"));
        }
        match self.owed.remove(&(client, stamp.sequence)) {
            Some(since) => {
                self.heard += 1;
                self.latency.saturating_record(at.nanos_since(since).max(1));
            }
            None => self.on_not_owed(client, stamp.sequence, publish.dup),
        }
    }

    fn on_not_owed(&mut self, client: usize, connection: u64, dup: bool) {
        let who = || format!("client {client}, connection {connection}");
        let past = &mut self.pasts[client];
        let Some(ago) = past.connection.checked_sub(connection + 1) else {
            if connection > past.connection || !self.ahead.insert((client, connection)) {
                self.from_parted.add(who);
            }
            return;
        };
        let bit = if ago < REMEMBERED { 1 << ago } else { 0 };
        if past.unclear & bit != 0 {
            past.unclear &= !bit;
            past.vanished |= bit; // Once is right, twice is not.
        } else if bit == 0 || past.vanished & bit != 0 {
            self.violations.judge(Sighting::Again, QoS::AtLeastOnce, dup, who);
        } else {
            self.from_parted.add(who);
        }
    }

    /// How often something was wrong so far, wills that may still come excluded.
    pub fn failures(&self) -> u64 {
        self.from_parted.count + self.violations.failures()
    }

    /// Counts the wills that never came, and adds every check to `report`.
    pub fn tell(mut self, report: &mut Report) {
        for (client, connection) in self.ahead {
            self.from_parted.add(|| format!("client {client}, connection {connection}"));
        }
        for (client, connection) in self.owed.keys() {
            self.violations.lost.add(|| format!("client {client}, connection {connection}"));
        }
        let mut check = |tally: Tally, name: &str, title: &str, permitted: bool| {
            report.check(tally.into_check(name, title, permitted));
        };
        let violations = self.violations;
        check(violations.lost, "wills_lost", "wills lost", false);
        check(violations.repeated, "wills_repeated", "wills heard twice", false);
        check(violations.repeated_dup, "wills_repeated_dup", "wills repeated with DUP at QoS 1", true);
        check(self.from_parted, "wills_of_connected", "wills of clients that were connected or said goodbye", false);
        check(violations.altered, "wills_altered", "wills with another payload", false);
        check(violations.misdirected, "wills_misdirected", "wills at another topic or level", false);
        check(violations.retain_flag, "wills_retain_flag", "live wills with RETAIN set", false);
        check(violations.foreign, "wills_foreign", "messages of somebody else", true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::{STAMP_BYTES, Stamper};

    struct Story {
        wills: Wills,
        stamper: Stamper,
    }

    impl Story {
        fn new(partings: &[Parting]) -> Self {
            let mut wills = Wills::new(vec!["t/0".into()]);
            partings.iter().for_each(|parting| wills.part(0, Time(100), *parting));
            Self { wills, stamper: Stamper::random() }
        }

        fn hear(&mut self, connection: u64) {
            let mut payload = Vec::new();
            self.stamper.write(Stamp { publisher: 0, sequence: connection, at: Time(0) }, STAMP_BYTES, &mut payload);
            let publish = Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: "t/0",
                packet_id: willowmq::codec::PacketId::new(1),
                topic_alias: None,
                message_expiry_interval: None,
                subscription_identifiers: Default::default(),
                forwarded: Default::default(),
                payload: &payload,
            };
            let stamp = self.stamper.read(&payload);
            self.wills.on_will(Time(150), &publish, stamp);
        }

        fn violated(self) -> Vec<String> {
            let mut report = Report::new("churn", String::new());
            self.wills.tell(&mut report);
            report.checks.into_iter().filter(|check| check.count > 0).map(|check| check.name).collect()
        }
    }

    use Parting::{Goodbye, Unclear, Vanished};

    #[test]
    fn the_wills_of_those_that_vanish_are_heard_once() {
        let mut story = Story::new(&[Vanished, Goodbye, Vanished]);
        assert_eq!((story.wills.owed(), story.wills.owed_before(Time(101))), (2, 2));
        story.hear(2);
        story.hear(0);
        assert_eq!((story.wills.owed(), story.wills.heard, story.wills.latency.max()), (0, 2, 50));
        assert!(story.violated().is_empty());
    }

    #[test]
    fn each_violation_is_told_apart() {
        assert_eq!(Story::new(&[Vanished]).violated(), ["wills_lost"]);
        for (partings, heard, violated) in [
            (&[Vanished, Goodbye][..], &[0, 0][..], "wills_repeated"),
            (&[Goodbye, Goodbye], &[0], "wills_of_connected"),
            (&[Goodbye], &[1], "wills_of_connected"),
            (&[Unclear, Goodbye], &[0, 0], "wills_repeated"),
        ] {
            let mut story = Story::new(partings);
            heard.iter().for_each(|connection| story.hear(*connection));
            assert_eq!(story.violated(), [violated]);
        }
    }

    #[test]
    fn where_it_is_unclear_what_the_broker_knew_either_is_right() {
        assert!(Story::new(&[Unclear]).violated().is_empty());
        let mut story = Story::new(&[Unclear]);
        story.hear(0);
        assert!(story.violated().is_empty());
    }

    #[test]
    fn the_watcher_may_hear_first_that_a_connection_ended() {
        for (parting, repetitions, violated) in [
            (Some(Unclear), 0, &[][..]),
            (Some(Unclear), 1, &["wills_repeated"]),
            (Some(Goodbye), 0, &["wills_of_connected"]),
            (Some(Vanished), 0, &["wills_lost", "wills_of_connected"]),
            (None, 0, &["wills_of_connected"]),
        ] {
            let mut story = Story::new(&[]);
            story.hear(0);
            parting.into_iter().for_each(|parting| story.wills.part(0, Time(100), parting));
            (0..repetitions).for_each(|_| story.hear(0));
            assert_eq!(story.violated(), violated);
        }
    }

    #[test]
    fn what_is_long_gone_is_a_repetition() {
        let mut story = Story::new(&[Vanished; 100]);
        (0..100).for_each(|connection| story.hear(connection));
        story.hear(3);
        assert_eq!(story.violated(), ["wills_repeated"]);
    }
}
