//! Clients that connect, subscribe, receive one message, leave, and come back, on a schedule that waits for nobody.

use std::collections::VecDeque;
use std::time::Duration;

use hdrhistogram::Histogram;
use willowmq::codec::{Publish, QoS, SubscriptionOptions, Will};

use super::wills::{Parting, Wills};
use crate::bins::Bins;
use crate::engine::{Driver, End, Event, Fleet, Index, Message, Time};
use crate::gauge::Gauge;
use crate::ledger::{Sighting, Tally, Violations};
use crate::options::Identity;
use crate::report::{Report, histogram};
use crate::stamp::{Defect, Stamp, Stamper};

/// Which clients come and go, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many take turns.
    pub clients: usize,
    /// Cycles begun per second.
    pub rate: f64,
    /// Whether they have wills, and a watcher hears them.
    pub has_wills: bool,
    /// Share of the cycles that end with DISCONNECT.
    pub clean_end: f64,
    /// How long a client stays after its message.
    pub stay: Duration,
    /// Size of a payload, wills included.
    pub payload_bytes: usize,
    /// How long a cycle may take.
    pub patience: Duration,
    /// First levels of the topics.
    pub topic_prefix: String,
    /// Beginning of the Client Identifiers.
    pub client_prefix: String,
}

/// Where a client is in its cycle.
///
/// ```text
/// Away ─open─▶ Connecting ─CONNACK─▶ Subscribing ─SUBACK, PUBLISH─▶ Awaiting ─message and PUBACK─▶ Staying
///   ▲                                                                                                 │
///   └──────────────────────────────── DISCONNECT, or without a word ──────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Away,
    Connecting,
    Subscribing,
    Awaiting { is_received: bool, is_acknowledged: bool },
    Staying,
}

/// One client that comes and goes.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// Number of the present or next cycle.
    cycle: u64,
    /// When the present cycle was due to begin.
    due: Time,
    step: Step,
    /// Whether an earlier cycle failed, so that its message may still be on its way.
    has_failed: bool,
}

/// Clients that come and go: those of a fleet from `first` on, then the watcher of their wills, if they have any.
pub struct Cycles {
    plan: Plan,
    first: Index,
    identity: Identity,
    stamper: Stamper,
    topics: Vec<String>,
    clients: Vec<Client>,
    away: VecDeque<usize>,
    /// Those that stay, in the order in which they leave.
    staying: VecDeque<(Time, usize, u64)>,
    /// When the patience with each cycle ends, in order.
    deadlines: VecDeque<(Time, usize, u64)>,
    started: Option<Time>,
    is_stopped: bool,
    is_watched: bool,
    payload: Vec<u8>,
    /// How many left after a complete cycle.
    left: u64,
    /// How many cycles were begun.
    pub begun: u64,
    /// How many came to their end.
    pub completed: u64,
    /// From the beginning of the TCP connection to CONNACK.
    pub connack: Bins,
    /// From when a cycle was due to its message and PUBACK, in nanoseconds.
    pub latency: Histogram<u64>,
    /// How many clients are connected.
    pub online: Gauge,
    /// What is known of the wills.
    pub wills: Wills,
    incomplete: Tally,
    disconnected: Tally,
    violations: Violations,
}

impl Cycles {
    /// How many clients `plan` takes.
    pub fn clients(plan: &Plan) -> usize {
        plan.clients + usize::from(plan.has_wills)
    }

    /// Clients that have not begun, from `first` on.
    pub fn new(plan: Plan, first: Index, identity: Identity, stamper: Stamper, now: Time) -> Self {
        let topics =
            |kind: &str| (0..plan.clients).map(|number| format!("{}/{kind}/{number}", plan.topic_prefix)).collect();
        let client = Client { cycle: 0, due: now, step: Step::Away, has_failed: false };
        Self {
            first,
            identity,
            stamper,
            topics: topics("own"),
            wills: Wills::new(topics("will")),
            clients: vec![client; plan.clients],
            away: (0..plan.clients).collect(),
            staying: VecDeque::new(),
            deadlines: VecDeque::new(),
            started: None,
            is_stopped: false,
            is_watched: !plan.has_wills,
            payload: Vec::new(),
            left: 0,
            begun: 0,
            completed: 0,
            connack: Bins::new(now),
            latency: histogram(),
            online: Gauge::new(now, 0.0),
            incomplete: Tally::default(),
            disconnected: Tally::default(),
            violations: Violations::default(),
            plan,
        }
    }

    /// The clients, the watcher included.
    pub fn range(&self) -> std::ops::Range<Index> {
        self.first..self.first + Self::clients(&self.plan)
    }

    /// The watcher, if there is one: it has to be opened before the others start.
    pub fn watcher(&self) -> Option<Index> {
        self.plan.has_wills.then_some(self.first + self.plan.clients)
    }

    /// Opens the connection of the watcher.
    pub fn open_watcher(&self, fleet: &mut Fleet, client: Index) {
        let id = format!("{}watcher", self.plan.client_prefix);
        fleet.open(client, &self.identity.connect(&id));
    }

    /// Whether the watcher hears everything; so it is where there are no wills.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Begins with the cycles.
    pub fn start(&mut self, now: Time) {
        self.started = Some(now);
    }

    /// Begins no more cycles, and lets those who stay leave.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether everybody is gone and all wills that are owed were heard, if there is anyone to hear them.
    pub fn is_settled(&self) -> bool {
        self.away.len() == self.clients.len() && (self.wills.owed() == 0 || !self.is_watched)
    }

    /// How many cycles were due and have not begun.
    pub fn backlog(&self, now: Time) -> u64 {
        let Some(started) = self.started else { return 0 };
        (((now - started).as_secs_f64() * self.plan.rate) as u64).saturating_sub(self.begun)
    }

    /// How often something was wrong so far, wills that may still come excluded.
    pub fn failures(&self) -> u64 {
        self.incomplete.count + self.disconnected.count + self.violations.failures() + self.wills.failures()
    }

    /// Connections that were lost or refused while nothing was to be done.
    pub fn disconnected(&self) -> &Tally {
        &self.disconnected
    }

    fn due(&self, started: Time, cycle: u64) -> Time {
        started + Duration::from_secs_f64(cycle as f64 / self.plan.rate)
    }

    /// Begins the cycles that are due, as far as somebody is away; gives the time of the next one.
    fn begin_due(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        let Some(started) = self.started.filter(|_| !self.is_stopped) else { return Time::NEVER };
        loop {
            let due = self.due(started, self.begun);
            if due > now {
                return due;
            }
            let Some(client) = self.away.pop_front() else { return Time::NEVER };
            self.begun += 1;
            self.begin(fleet, client, due, now);
        }
    }

    fn begin(&mut self, fleet: &mut Fleet, client: usize, due: Time, now: Time) {
        self.clients[client].due = due;
        self.clients[client].step = Step::Connecting;
        let cycle = self.clients[client].cycle;
        self.deadlines.push_back((now + self.plan.patience, client, cycle));
        let id = format!("{}{client}", self.plan.client_prefix);
        let mut connect = self.identity.connect(&id);
        if self.plan.has_wills {
            let stamp = Stamp { publisher: client as u32, sequence: cycle, at: now };
            self.stamper.write(stamp, self.plan.payload_bytes, &mut self.payload);
            connect.will = Some(Will {
                topic: &self.wills.topics()[client],
                payload: &self.payload,
                qos: QoS::AtLeastOnce,
                retain: false,
                will_delay_interval: 0,
                message_expiry_interval: None,
                forwarded: Default::default(),
            });
        }
        fleet.open(self.first + client, &connect);
    }

    /// Publishes the message of the present cycle, to the client itself.
    fn publish(&mut self, fleet: &mut Fleet, client: usize, at: Time) {
        let stamp = Stamp { publisher: client as u32, sequence: self.clients[client].cycle, at };
        self.stamper.write(stamp, self.plan.payload_bytes, &mut self.payload);
        let topic = self.topics[client].as_str();
        let message = Message { topic, payload: &self.payload, qos: QoS::AtLeastOnce, retain: false };
        if !fleet.publish(self.first + client, &message, self.clients[client].cycle) {
            return self.fail(fleet, client, at, "the broker takes no message");
        }
        self.clients[client].step = Step::Awaiting { is_received: false, is_acknowledged: false };
    }

    fn on_message(&mut self, fleet: &mut Fleet, client: usize, at: Time, publish: &Publish<'_>) {
        let stamp = match self.read(client, publish) {
            Ok(stamp) => stamp,
            Err(defect) => return self.violations.defect(defect, publish.topic),
        };
        let Some(stamp) = stamp else { return };
        if publish.retain {
            self.violations.retain_flag.add(|| format!("client {client}"));
        }
        let Client { cycle, step, has_failed, .. } = self.clients[client];
        match step {
            Step::Awaiting { is_received: false, is_acknowledged } if stamp.sequence == cycle => {
                self.advance(fleet, client, at, Step::Awaiting { is_received: true, is_acknowledged });
            }
            _ if stamp.sequence < cycle && has_failed => {} // It was given up, and came after all.
            _ => {
                let who = || format!("client {client}, message of cycle {} in cycle {cycle}", stamp.sequence);
                self.violations.judge(Sighting::Again, publish.qos, publish.dup, who);
            }
        }
    }

    /// The stamp of a message for `client`; `None` if it is for somebody else.
    fn read(&mut self, client: usize, publish: &Publish<'_>) -> Result<Option<Stamp>, Defect> {
        let stamp = self.stamper.read(publish.payload)?;
        let is_mine = stamp.publisher as usize == client
            && self.topics[client] == publish.topic
            && publish.qos == QoS::AtLeastOnce;
        if !is_mine {
            let (topic, qos) = (publish.topic, publish.qos.as_u8());
            self.violations.misdirected.add(|| format!("client {client}: {topic} at QoS {qos}"));
        }
        Ok(is_mine.then_some(stamp))
    }

    fn on_acknowledged(&mut self, fleet: &mut Fleet, client: usize, at: Time) {
        if let Step::Awaiting { is_received, .. } = self.clients[client].step {
            self.advance(fleet, client, at, Step::Awaiting { is_received, is_acknowledged: true });
        }
    }

    /// Takes the next step; with both the message and its PUBACK the cycle is complete.
    fn advance(&mut self, fleet: &mut Fleet, client: usize, at: Time, step: Step) {
        self.clients[client].step = step;
        if step != (Step::Awaiting { is_received: true, is_acknowledged: true }) {
            return;
        }
        self.completed += 1;
        self.latency.saturating_record(at.nanos_since(self.clients[client].due));
        self.clients[client].step = Step::Staying;
        if self.plan.stay.is_zero() {
            self.leave(fleet, client, at);
        } else {
            self.staying.push_back((at + self.plan.stay, client, self.clients[client].cycle));
        }
    }

    /// Ends a complete cycle, with DISCONNECT or without.
    fn leave(&mut self, fleet: &mut Fleet, client: usize, at: Time) {
        let (parting, end) = if says_goodbye(self.left, self.plan.clean_end) {
            (Parting::Goodbye, End::Disconnect)
        } else {
            (Parting::Vanished, End::Close)
        };
        self.left += 1;
        self.online.add(at, -1.0);
        self.part(client, at, parting);
        fleet.close(self.first + client, end);
    }

    fn part(&mut self, client: usize, at: Time, parting: Parting) {
        // Without wills nobody would hear of them.
        let parting = if self.plan.has_wills { parting } else { Parting::Unclear };
        self.wills.part(client, at, parting);
        self.clients[client].cycle += 1;
        self.clients[client].step = Step::Away;
        self.away.push_back(client);
    }

    /// Ends a cycle that did not come to its end, or a stay that was cut short.
    fn fail(&mut self, fleet: &mut Fleet, client: usize, at: Time, cause: &str) {
        let Client { cycle, step, .. } = self.clients[client];
        match step {
            Step::Away => return,
            Step::Staying => self.disconnected.add(|| format!("client {client}, cycle {cycle}: {cause}")),
            _ => self.incomplete.add(|| format!("client {client}, cycle {cycle}, {step:?}: {cause}")),
        }
        if !matches!(step, Step::Connecting) {
            self.online.add(at, -1.0);
        }
        self.clients[client].has_failed = true;
        self.part(client, at, Parting::Unclear);
        fleet.close(self.first + client, End::Disconnect);
    }

    fn on_deadline(&mut self, fleet: &mut Fleet, now: Time, client: usize, cycle: u64) {
        let Client { cycle: present, step, .. } = self.clients[client];
        if present != cycle || matches!(step, Step::Away | Step::Staying) {
            return;
        }
        if let Step::Awaiting { is_received: false, is_acknowledged: true } = step {
            self.violations.lost.add(|| format!("client {client}, cycle {cycle}"));
        }
        self.fail(fleet, client, now, "patience is over");
    }

    fn on_watcher_event(&mut self, fleet: &mut Fleet, watcher: Index, at: Time, event: &Event<'_>) {
        match event {
            Event::Connected { .. } => {
                let filter = format!("{}/will/+", self.plan.topic_prefix);
                fleet.subscribe(watcher, &[(&filter, SubscriptionOptions::new(QoS::AtLeastOnce))]);
            }
            Event::Subscribed(None) => self.is_watched = true,
            Event::Message(publish) => self.wills.on_will(at, publish, self.stamper.read(publish.payload)),
            Event::Subscribed(Some(reason)) => self.disconnected.add(|| format!("watcher: SUBACK, {reason}")),
            Event::Refused(reason) => self.disconnected.add(|| format!("watcher: CONNACK, {reason}")),
            Event::Closed { cause, .. } => {
                self.is_watched = false;
                self.disconnected.add(|| format!("watcher: {cause}"));
            }
            Event::Acknowledged(_) | Event::Rejected(..) => {}
        }
    }

    /// Adds every check to `report`.
    pub fn tell(self, report: &mut Report) {
        let violations = self.violations;
        let mut check = |tally: Tally, name: &str, title: &str, permitted: bool| {
            report.check(tally.into_check(name, title, permitted));
        };
        check(self.incomplete, "cycles_incomplete", "cycles that did not come to their end", false);
        check(violations.lost, "cycle_messages_lost", "messages of cycles lost", false);
        check(violations.repeated, "cycle_messages_repeated", "messages of cycles repeated", false);
        check(violations.repeated_dup, "cycle_messages_repeated_dup", "messages of cycles repeated with DUP", true);
        check(violations.altered, "cycle_messages_altered", "messages of cycles altered", false);
        check(
            violations.misdirected,
            "cycle_messages_misdirected",
            "messages of cycles at another topic or level",
            false,
        );
        check(violations.retain_flag, "cycle_messages_retain_flag", "live messages of cycles with RETAIN set", false);
        check(violations.foreign, "cycle_messages_foreign", "messages of somebody else", true);
        check(self.disconnected, "cycles_disconnected", "connections lost while nothing was to be done", false);
        if self.plan.has_wills {
            self.wills.tell(report);
        }
    }
}

impl Driver for Cycles {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        if Some(client) == self.watcher() {
            return self.on_watcher_event(fleet, client, at, &event);
        }
        let number = client - self.first;
        match event {
            Event::Connected { took, .. } => {
                self.online.add(at, 1.0);
                self.connack.record(at, took.as_nanos() as u64);
                self.clients[number].step = Step::Subscribing;
                let filter = self.topics[number].as_str();
                fleet.subscribe(client, &[(filter, SubscriptionOptions::new(QoS::AtLeastOnce))]);
            }
            Event::Subscribed(None) => self.publish(fleet, number, at),
            Event::Message(publish) => self.on_message(fleet, number, at, publish),
            Event::Acknowledged(_) => self.on_acknowledged(fleet, number, at),
            Event::Subscribed(Some(reason)) => self.fail(fleet, number, at, &format!("SUBACK, {reason}")),
            Event::Rejected(_, reason) => self.fail(fleet, number, at, &format!("PUBACK, {reason}")),
            Event::Refused(reason) => self.fail(fleet, number, at, &format!("CONNACK, {reason}")),
            Event::Closed { cause, .. } => self.fail(fleet, number, at, cause),
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some((until, client, cycle)) = self.staying.front().copied()
            && (until <= now || self.is_stopped)
        {
            self.staying.pop_front();
            if self.clients[client].step == Step::Staying && self.clients[client].cycle == cycle {
                self.leave(fleet, client, now);
            }
        }
        while let Some((deadline, client, cycle)) = self.deadlines.front().copied()
            && deadline <= now
        {
            self.deadlines.pop_front();
            self.on_deadline(fleet, now, client, cycle);
        }
        let next = self.begin_due(fleet, now);
        let first = |queue: &VecDeque<(Time, usize, u64)>| queue.front().map_or(Time::NEVER, |(at, ..)| *at);
        next.min(first(&self.staying)).min(first(&self.deadlines))
    }
}

/// Whether the client that leaves as number `number` says DISCONNECT: a `share` of them, spread evenly and without a
/// pattern that would meet the clients' turns.
fn says_goodbye(number: u64, share: f64) -> bool {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_895;
    (number as f64 * GOLDEN_RATIO).fract() < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodbyes_are_shared_out_as_asked() {
        for share in [0.0, 0.25, 0.5, 1.0] {
            let count = (0..10_000).filter(|number| says_goodbye(*number, share)).count() as f64;
            assert!((count - 10_000.0 * share).abs() < 20.0, "{count} of {share}");
        }
        let of_one_client = (0..10_000).step_by(100).filter(|number| says_goodbye(*number, 0.5)).count();
        assert!((20..80).contains(&of_one_client), "{of_one_client}");
    }
}
