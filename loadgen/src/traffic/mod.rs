//! Ordinary traffic: publishers and subscribers in one of four shapes, on a schedule or as fast as the broker delivers,
//! with every delivery checked.

mod plan;
mod publisher;

pub use plan::{Pace, Plan, Shape};

use std::time::Duration;

use willowmq::codec::{Publish, SubscriptionOptions};

use crate::bins::Bins;
use crate::engine::{Event, Fleet, Index, Message, Stage, Time};
use crate::ledger::{Sighting, Track, Violations};
use crate::options::Identity;
use crate::stamp::{Stamp, Stamper};
use publisher::Publisher;

/// Ordinary traffic, by the clients of a fleet from `first` on: subscribers, then publishers.
pub struct Traffic {
    plan: Plan,
    first: Index,
    topics: Vec<String>,
    filters: Vec<String>,
    publishers: Vec<Publisher>,
    /// By receiver and publisher: see [`Traffic::track`].
    tracks: Vec<Track>,
    /// The last number that each member of a shared subscription has seen of each publisher, plus one.
    member_next: Vec<u64>,
    subscribed: usize,
    /// By client: whether it is connected.
    is_online: Vec<bool>,
    started: Option<Time>,
    scheduled: u64,
    is_stopped: bool,
    /// Publishers that may have something to publish.
    ready: Vec<usize>,
    is_ready: Vec<bool>,
    payload: Vec<u8>,
    /// How many deliveries there were, repetitions excluded.
    pub delivered: u64,
    /// How many messages were published.
    pub published: u64,
    /// How many messages of an open loop were due before the end and not sent.
    pub not_sent: u64,
    /// How many connections ended or were refused.
    pub disconnected: crate::ledger::Tally,
    /// What was wrong.
    pub violations: Violations,
    /// How long deliveries took.
    pub latency: Bins,
}

impl Traffic {
    /// How many clients `plan` takes.
    pub fn clients(plan: &Plan) -> usize {
        plan.publishers + plan.subscribers
    }

    /// Traffic that has not begun, by the clients from `first` on.
    pub fn new(plan: Plan, first: Index, now: Time) -> Self {
        let prefix = &plan.topic_prefix;
        let filters = match plan.shape {
            Shape::Pairs => (0..plan.publishers).map(|number| format!("{prefix}/{number}")).collect(),
            Shape::FanOut => (0..plan.publishers).map(|number| format!("{prefix}/{number}")).collect(),
            Shape::FanIn => vec![format!("{prefix}/+")],
            Shape::Shared => vec![format!("$share/loadgen/{prefix}/+")],
        };
        let tracks = match plan.shape {
            Shape::Pairs | Shape::Shared => plan.publishers,
            Shape::FanIn | Shape::FanOut => plan.publishers * plan.subscribers,
        };
        let members = if plan.shape == Shape::Shared { plan.publishers * plan.subscribers } else { 0 };
        Self {
            first,
            topics: (0..plan.publishers).map(|number| format!("{prefix}/{number}")).collect(),
            filters,
            publishers: vec![Publisher::default(); plan.publishers],
            tracks: vec![Track::default(); tracks],
            member_next: vec![0; members],
            subscribed: 0,
            is_online: vec![false; Self::clients(&plan)],
            started: None,
            scheduled: 0,
            is_stopped: false,
            ready: Vec::new(),
            is_ready: vec![false; plan.publishers],
            payload: Vec::new(),
            delivered: 0,
            published: 0,
            not_sent: 0,
            disconnected: Default::default(),
            violations: Violations::default(),
            latency: Bins::new(now),
            plan,
        }
    }

    /// The clients of this traffic.
    pub fn range(&self) -> std::ops::Range<Index> {
        self.first..self.first + Self::clients(&self.plan)
    }

    /// Opens the connection of `client`, one of [`Traffic::range`].
    pub fn open(&self, fleet: &mut Fleet, client: Index, identity: &Identity) {
        let id = format!("{}{}", self.plan.client_prefix, client - self.first);
        fleet.open(client, &identity.connect(&id));
    }

    /// Whether all subscriptions are granted.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed == self.plan.subscribers
    }

    /// Begins to publish.
    pub fn start(&mut self, now: Time) {
        self.started = Some(now);
        (0..self.plan.publishers).for_each(|publisher| self.mark_ready(publisher));
    }

    /// Publishes nothing more, not even what was due.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.not_sent += self.backlog();
        self.publishers.iter_mut().for_each(|publisher| publisher.allowed = publisher.next);
    }

    /// Whether everything that was published has arrived and is acknowledged, as far as anyone is left to be told.
    pub fn is_settled(&self) -> bool {
        self.is_cut_off() || self.publishers.iter().all(|publisher| publisher.base == publisher.next)
    }

    /// Whether no connection is left that could bring a message or an acknowledgement.
    fn is_cut_off(&self) -> bool {
        let (subscribers, publishers) = self.is_online.split_at(self.plan.subscribers);
        let is_acknowledged = self.plan.qos.has_packet_id();
        !(subscribers.contains(&true) || is_acknowledged && publishers.contains(&true))
    }

    /// Whether nobody is connected any more.
    pub fn is_gone(&self) -> bool {
        self.disconnected.count >= Self::clients(&self.plan) as u64
    }

    /// Gives up what is on its way, so that a closed loop goes on without it; says how much that was.
    pub fn write_off(&mut self) -> u64 {
        let mut count = 0;
        for number in 0..self.publishers.len() {
            let publisher = &mut self.publishers[number];
            count += publisher.next - publisher.base;
            publisher.base = publisher.next;
            self.mark_ready(number);
        }
        count
    }

    /// How far an open loop is behind its schedule, in messages.
    pub fn backlog(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.allowed.saturating_sub(publisher.next)).sum()
    }

    /// How many messages of an open loop were due before `at` and have not arrived everywhere, or were not even sent.
    pub fn overdue(&self, at: Time) -> u64 {
        let (Some(started), Pace::Rate(rate)) = (self.started, self.plan.pace) else { return 0 };
        let due = ((at - started).as_secs_f64() * rate) as u64;
        let publishers = self.plan.publishers as u64;
        let of_publisher = |number: u64| (due + publishers - 1 - number) / publishers;
        (0..).zip(&self.publishers).map(|(number, it)| of_publisher(number).saturating_sub(it.base)).sum()
    }

    /// Counts what never arrived, and what was never acknowledged; the end of the run, before connections are closed.
    pub fn settle(&mut self, fleet: &Fleet) {
        for (position, track) in self.tracks.iter().enumerate() {
            let publisher = position % self.plan.publishers;
            let sent = self.publishers[publisher].next;
            let receiver = match self.plan.shape {
                Shape::Pairs => format!("subscriber {publisher} misses"),
                Shape::FanIn | Shape::FanOut => format!("subscriber {} misses", position / self.plan.publishers),
                Shape::Shared => "the subscribers miss".into(),
            };
            self.violations.lost.add_many(track.lost(sent), || {
                let first = track.first_lost(sent).unwrap_or(sent);
                format!("{receiver} {} of publisher {publisher}, from {first} on", track.lost(sent))
            });
        }
        for publisher in 0..self.plan.publishers {
            let client = self.first + self.plan.subscribers + publisher;
            let count = if fleet.stage(client) == Stage::Online { fleet.unacknowledged(client) as u64 } else { 0 };
            self.violations.unacknowledged.add_many(count, || format!("publisher {publisher}: {count}"));
        }
    }

    /// Publishes what is due; says when more will be.
    pub fn on_time(&mut self, fleet: &mut Fleet, now: Time, stamper: &Stamper) -> Time {
        let Some(started) = self.started else { return Time::NEVER };
        let next = match self.plan.pace {
            Pace::Rate(rate) if !self.is_stopped => self.schedule(started, rate, now),
            _ => Time::NEVER,
        };
        let ready = std::mem::take(&mut self.ready);
        for publisher in ready {
            self.is_ready[publisher] = false;
            self.publish_allowed(fleet, publisher, stamper, started);
        }
        next
    }

    /// Lets the publishers do what the schedule asks for up to now; gives the time of the next message.
    fn schedule(&mut self, started: Time, rate: f64, now: Time) -> Time {
        loop {
            let due = due(started, rate, self.scheduled);
            if due > now {
                return due;
            }
            let publisher = (self.scheduled % self.plan.publishers as u64) as usize;
            self.publishers[publisher].allowed += 1;
            self.scheduled += 1;
            self.mark_ready(publisher);
        }
    }

    fn publish_allowed(&mut self, fleet: &mut Fleet, publisher: usize, stamper: &Stamper, started: Time) {
        let client = self.first + self.plan.subscribers + publisher;
        let deliveries = match self.plan.shape {
            Shape::Pairs | Shape::Shared => 1,
            Shape::FanIn | Shape::FanOut => self.plan.subscribers as u32,
        };
        let awaited = deliveries + u32::from(self.plan.qos.has_packet_id());
        let closed_loop_at = fleet.clock().now();
        while self.publishers[publisher].allowance(self.plan.pace) > 0 {
            if self.is_stopped && matches!(self.plan.pace, Pace::Window(_)) {
                return;
            }
            let sequence = self.publishers[publisher].next;
            let at = match self.plan.pace {
                Pace::Window(_) => closed_loop_at,
                Pace::Rate(rate) => due(started, rate, sequence * self.plan.publishers as u64 + publisher as u64),
            };
            let stamp = Stamp { publisher: publisher as u32, sequence, at };
            stamper.write(stamp, self.plan.payload_bytes, &mut self.payload);
            let topic = self.topics[publisher].as_str();
            let message = Message { topic, payload: &self.payload, qos: self.plan.qos, retain: false };
            if !fleet.publish(client, &message, sequence) {
                self.mark_ready(publisher); // It waits for the broker, and tries again in the next turn.
                return;
            }
            self.publishers[publisher].sent(awaited);
            self.published += 1;
        }
    }

    fn mark_ready(&mut self, publisher: usize) {
        if !self.is_ready[publisher] {
            self.is_ready[publisher] = true;
            self.ready.push(publisher);
        }
    }

    /// Follows what happens to the clients of this traffic.
    pub fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: &Event<'_>, stamper: &Stamper) {
        let member = client - self.first;
        let publisher = member.wrapping_sub(self.plan.subscribers);
        match event {
            Event::Connected { .. } => self.is_online[member] = true,
            Event::Closed { .. } => self.is_online[member] = false,
            _ => {}
        }
        match event {
            Event::Connected { .. } if member < self.plan.subscribers => self.subscribe(fleet, client, member),
            Event::Connected { .. } => {}
            Event::Subscribed(None) => self.subscribed += 1,
            Event::Subscribed(Some(reason)) => self.disconnected.add(|| format!("SUBACK, {reason}")),
            Event::Message(publish) => self.on_message(member, at, publish, stamper),
            Event::Acknowledged(sequence) => self.on_arrived(publisher, *sequence),
            Event::Rejected(sequence, reason) => {
                // It will be missed where it should have arrived, and is counted there.
                self.violations.lost.note(|| format!("publisher {publisher}, message {sequence}: {reason}"));
                self.on_arrived(publisher, *sequence);
            }
            Event::Refused(reason) => self.disconnected.add(|| format!("CONNACK, {reason}")),
            Event::Closed { cause, .. } => self.disconnected.add(|| (*cause).into()),
        }
    }

    fn subscribe(&self, fleet: &mut Fleet, client: Index, member: usize) {
        let options = SubscriptionOptions::new(self.plan.qos);
        let filters: Vec<_> = match self.plan.shape {
            Shape::Pairs => vec![(self.filters[member].as_str(), options)],
            _ => self.filters.iter().map(|filter| (filter.as_str(), options)).collect(),
        };
        fleet.subscribe(client, &filters);
    }

    fn on_message(&mut self, member: usize, at: Time, publish: &Publish<'_>, stamper: &Stamper) {
        let stamp = match stamper.read(publish.payload) {
            Ok(stamp) => stamp,
            Err(defect) => return self.violations.defect(defect, publish.topic),
        };
        let publisher = stamp.publisher as usize;
        let is_mine = member < self.plan.subscribers
            && self.topics.get(publisher).is_some_and(|topic| topic == publish.topic)
            && (self.plan.shape != Shape::Pairs || publisher == member)
            && publish.qos == self.plan.qos;
        if !is_mine {
            let (topic, qos) = (publish.topic, publish.qos.as_u8());
            self.violations.misdirected.add(|| format!("{}: {topic} at QoS {qos}", self.plan.who(member)));
            return;
        }
        if publish.retain {
            self.violations.retain_flag.add(|| format!("subscriber {member}, {}", publish.topic));
        }
        let track = self.track(member, publisher);
        let mut sighting = self.tracks[track].see(stamp.sequence);
        if self.plan.shape == Shape::Shared {
            sighting = self.order_within_member(member, stamp, sighting);
        }
        let who = || format!("subscriber {member}, message {} of publisher {publisher}", stamp.sequence);
        if self.violations.judge(sighting, publish.qos, publish.dup, who) {
            self.delivered += 1;
            self.latency.record(at, at.nanos_since(stamp.at));
            self.on_arrived(publisher, stamp.sequence);
        }
    }

    fn track(&self, member: usize, publisher: usize) -> usize {
        match self.plan.shape {
            Shape::Pairs | Shape::Shared => publisher,
            Shape::FanIn | Shape::FanOut => member * self.plan.publishers + publisher,
        }
    }

    /// In a shared subscription one member may be ahead of another, and is in order by itself.
    fn order_within_member(&mut self, member: usize, stamp: Stamp, sighting: Sighting) -> Sighting {
        if sighting == Sighting::Again {
            return sighting;
        }
        let next = &mut self.member_next[member * self.plan.publishers + stamp.publisher as usize];
        if stamp.sequence < *next {
            return Sighting::Late;
        }
        *next = stamp.sequence + 1;
        Sighting::New
    }

    fn on_arrived(&mut self, publisher: usize, sequence: u64) {
        if self.publishers[publisher].arrived(sequence) && matches!(self.plan.pace, Pace::Window(_)) {
            self.mark_ready(publisher);
        }
    }
}

/// When message `number` of a schedule is due.
fn due(started: Time, rate: f64, number: u64) -> Time {
    started + Duration::from_secs_f64(number as f64 / rate)
}

#[cfg(test)]
mod tests {
    use willowmq::codec::QoS;

    use super::*;

    #[test]
    fn a_schedule_does_not_drift() {
        let due_at = |number| due(Time(5), 3.0, number).0;
        assert_eq!(due_at(0), 5);
        assert_eq!(due_at(3_000_000), 5 + 1_000_000 * 1_000_000_000);
    }

    #[test]
    fn what_was_due_and_has_not_arrived_is_overdue() {
        let plan = Plan {
            shape: Shape::Pairs,
            publishers: 2,
            subscribers: 2,
            qos: QoS::AtLeastOnce,
            payload_bytes: 24,
            pace: Pace::Rate(10.0),
            topic_prefix: "t".into(),
            client_prefix: "c".into(),
        };
        let second = 1_000_000_000;
        let mut traffic = Traffic::new(plan, 0, Time(0));
        assert_eq!(traffic.overdue(Time(5 * second)), 0, "it has not begun");
        traffic.start(Time(second));
        assert_eq!(traffic.overdue(Time(2 * second)), 10);
        traffic.publishers[0].sent(1);
        assert!(traffic.publishers[0].arrived(0));
        assert_eq!(traffic.overdue(Time(2 * second)), 9);
        assert_eq!(traffic.overdue(Time(second / 2)), 0);
    }
}
