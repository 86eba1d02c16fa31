//! The course of it: what is published, who has lost a connection and come back, and what has arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use willowmq::codec::{Publish, QoS};

use super::fleet::{Fleet, Plan, Role};
use super::status::{self, Statuses};
use crate::engine::{Driver, End, Event, Fleet as Engine, Index, Message, Stage, Time, Unfinished};
use crate::ledger::{Sighting, Tally, Track, Violations};
use crate::ramp::Ramp;
use crate::report::histogram;
use crate::run::Run;
use crate::stamp::{Stamp, Stamper};

/// The tag of a status; others are the numbers of messages.
const STATUS: u64 = u64::MAX;

/// What a device has published.
#[derive(Default)]
struct Device {
    /// Number of its next message.
    next: u64,
    /// Those that are not acknowledged, and when they were due.
    pending: BTreeMap<u64, Time>,
    /// When it said the status that is on its way.
    status_at: Time,
    /// What its subscriber has seen.
    track: Track,
}

/// What is noted in the course of it.
pub(super) struct Record {
    pub(super) acknowledged: u64,
    pub(super) delivered: u64,
    pub(super) lost_connections: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// From the beginning of a connection to its CONNACK, in nanoseconds, for those that came back.
    pub(super) reconnect: Histogram<u64>,
    pub(super) sessions_lost: Tally,
    pub(super) absent: Tally,
    pub(super) stayed: Tally,
    pub(super) refused_packets: Tally,
}

impl Record {
    fn new() -> Self {
        Self {
            acknowledged: 0,
            delivered: 0,
            lost_connections: 0,
            refused: 0,
            failed: 0,
            reconnect: histogram(),
            sessions_lost: Tally::default(),
            absent: Tally::default(),
            stayed: Tally::default(),
            refused_packets: Tally::default(),
        }
    }
}

/// All the clients, and what they have seen.
pub(super) struct Session {
    pub(super) fleet: Fleet,
    pub(super) statuses: Statuses,
    /// At QoS 1 and 2.
    pub(super) violations: [Violations; 2],
    pub(super) record: Record,
    /// When the last one was back.
    pub(super) last_return: Time,
    devices: Vec<Device>,
    ramp: Ramp,
    stamper: Stamper,
    subscribed: usize,
    /// Whose CONNECT was accepted, and who has not lost the connection since.
    is_online: Vec<bool>,
    /// Whose connection has to end before the restart is over.
    awaited: Vec<bool>,
    /// Clients that are to be online and are not, and those whose connection has still to end.
    away: usize,
    to_lose: usize,
    /// When the next message is due; `NEVER` while nothing is published.
    next_publish: Time,
    interval: Duration,
    /// Whose turn it is to publish.
    turn: usize,
    /// Clients come back, instead of being given up.
    is_started: bool,
    payload: Vec<u8>,
}

impl Session {
    pub(super) fn new(plan: Plan, run: &Run) -> Self {
        let mut ramp = run.ramp(plan.clients());
        ramp.extend(plan.steady());
        Self {
            fleet: Fleet::new(plan, run),
            statuses: Statuses::new(plan.devices),
            violations: Default::default(),
            record: Record::new(),
            last_return: run.now(),
            devices: (0..plan.devices).map(|_| Device::default()).collect(),
            ramp,
            stamper: run.stamper.clone(),
            subscribed: 0,
            is_online: vec![false; plan.clients()],
            awaited: vec![false; plan.clients()],
            away: 0,
            to_lose: 0,
            next_publish: Time::NEVER,
            interval: Duration::from_secs_f64(1.0 / plan.rate),
            turn: 0,
            is_started: false,
            payload: Vec::new(),
        }
    }

    /// Connects all, and begins to publish.
    pub(super) fn start(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        let subscriptions = self.fleet.plan.subscribers + 1;
        let is_subscribed = |it: &Self| it.subscribed == subscriptions;
        run.connect_patiently(self, |it| &it.ramp, is_subscribed, |it| &it.record.refused_packets)?;
        run.end_phase("connect", from);
        self.is_started = true;
        self.next_publish = run.now();
        Ok(())
    }

    /// From now on everybody has to lose the connection, and to come back.
    pub(super) fn expect_losses(&mut self, now: Time) {
        self.last_return = now;
        let steady = self.fleet.plan.steady();
        self.to_lose = steady.len();
        self.awaited[steady].fill(true);
    }

    pub(super) fn are_all_back(&self) -> bool {
        self.to_lose == 0 && self.away == 0
    }

    /// Has some devices vanish, and waits for their wills.
    pub(super) fn let_die(&mut self, run: &mut Run, deaths: usize) -> Result<()> {
        let from = run.now();
        for device in 0..deaths {
            if run.fleet.stage(device) == Stage::Online {
                self.statuses.die(device);
                run.fleet.close(device, End::Reset);
            }
        }
        run.progress.phase("wills of those who vanish", run.options.patience.as_secs());
        run.drive_patiently(self, |it| it.statuses.wills_heard, |it| it.statuses.are_deaths_heard())?;
        run.end_phase("deaths", from);
        Ok(())
    }

    /// Publishes no more, and waits for what is on its way.
    pub(super) fn settle(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.next_publish = Time::NEVER;
        run.progress.phase("settle", run.options.patience.as_secs());
        run.drive_patiently(self, |it| it.record.delivered + it.record.acknowledged, Self::is_settled)?;
        self.judge(run);
        run.end_phase("settle", from);
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.away == 0 && (0..self.devices.len()).all(|device| self.owes(device) == 0)
    }

    /// Messages of a device that have not arrived, or not been acknowledged. What it had not got rid of when it vanished does not count.
    fn owes(&self, device: usize) -> u64 {
        let Device { next, pending, track, .. } = &self.devices[device];
        if self.statuses.is_dead(device) {
            return track.unseen(*next).filter(|number| !pending.contains_key(number)).count() as u64;
        }
        track.lost(*next) + pending.len() as u64
    }

    fn judge(&mut self, run: &Run) {
        for (number, device) in self.devices.iter().enumerate() {
            let Device { next, pending, track, .. } = device;
            let violations = &mut self.violations[usize::from(Plan::qos(number).as_u8()) - 1];
            let lost: Vec<u64> = track.unseen(*next).filter(|number| !pending.contains_key(number)).collect();
            if let Some(first) = lost.first() {
                violations.lost.add_many(lost.len() as u64, || format!("of device {number}, from {first} on"));
            }
            if !pending.is_empty() && !self.statuses.is_dead(number) {
                violations.unacknowledged.add_many(pending.len() as u64, || format!("of device {number}"));
            }
        }
        for client in self.fleet.plan.steady() {
            let is_dead = client < self.devices.len() && self.statuses.is_dead(client);
            if run.fleet.stage(client) != Stage::Online && !is_dead {
                self.record.absent.add(|| format!("client {client}"));
            }
            if self.awaited[client] {
                self.record.stayed.add(|| format!("client {client}"));
            }
        }
    }

    /// Has somebody new ask for all statuses that are retained.
    pub(super) fn look_at_statuses(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        let now = run.now();
        self.fleet.open(&mut run.fleet, self.fleet.plan.inspector(), now);
        run.progress.phase("retained statuses", run.options.patience.as_secs());
        run.drive_patiently(self, |it| it.statuses.seen(), |it| it.statuses.are_all_seen())?;
        run.end_phase("look", from);
        Ok(())
    }

    fn publish_due(&mut self, engine: &mut Engine, now: Time) {
        while self.next_publish <= now {
            self.next_publish = self.next_publish + self.interval;
            let device = self.turn;
            self.turn = (self.turn + 1) % self.devices.len();
            let (topic, qos) = (self.fleet.data_topic(device), Plan::qos(device));
            let tag = self.devices[device].next;
            self.write(device, tag, now);
            let message = Message { topic: &topic, payload: &self.payload, qos, retain: false };
            // Whoever is away says nothing; that is not what is measured here.
            if engine.publish(device, &message, tag) {
                self.devices[device].pending.insert(tag, now);
                self.devices[device].next += 1;
            }
        }
    }

    fn write(&mut self, device: usize, sequence: u64, at: Time) {
        let stamp = Stamp { publisher: device as u32, sequence, at };
        self.stamper.write(stamp, self.fleet.plan.payload_bytes, &mut self.payload);
    }

    fn on_connected(&mut self, engine: &mut Engine, client: Index, at: Time, took: Duration, session_present: bool) {
        let earlier = self.fleet.on_connected(client);
        self.is_online[client] = true;
        if self.is_started && self.fleet.plan.role(client) != Role::Inspector {
            self.away -= 1;
            self.last_return = at;
            self.record.reconnect.saturating_record(took.as_nanos() as u64);
        }
        if earlier > 0 && !session_present {
            self.record.sessions_lost.add(|| format!("client {client}"));
        }
        if earlier == 0 || !session_present {
            self.fleet.subscribe(engine, client);
        }
        if let Role::Device(device) = self.fleet.plan.role(client) {
            match session_present {
                true => self.send_again(engine, device),
                // They were lost with the Session, and are known by it.
                false => self.devices[device].pending.clear(),
            }
            self.say_on(engine, device, at);
        }
    }

    /// Sends again what the last connection left unacknowledged. [MQTT-4.4.0-1]
    fn send_again(&mut self, engine: &mut Engine, device: usize) {
        for (id, what) in engine.unfinished(device) {
            match what {
                Unfinished::Pubrel => engine.release_again(device, id),
                Unfinished::Publish(STATUS) => {
                    // It says again what it said then: the connection before this one.
                    let connection = self.fleet.connections[device].saturating_sub(2);
                    let topic = self.fleet.status_topic(device);
                    self.write(device, status::on(connection), self.devices[device].status_at);
                    let message =
                        Message { topic: &topic, payload: &self.payload, qos: QoS::AtLeastOnce, retain: true };
                    engine.publish_again(device, id, &message);
                }
                Unfinished::Publish(tag) => {
                    let at = self.devices[device].pending.get(&tag).copied().unwrap_or_default();
                    let topic = self.fleet.data_topic(device);
                    self.write(device, tag, at);
                    let message =
                        Message { topic: &topic, payload: &self.payload, qos: Plan::qos(device), retain: false };
                    engine.publish_again(device, id, &message);
                }
            }
        }
    }

    fn say_on(&mut self, engine: &mut Engine, device: usize, now: Time) {
        let topic = self.fleet.status_topic(device);
        self.write(device, status::on(self.fleet.connections[device] - 1), now);
        self.devices[device].status_at = now;
        let message = Message { topic: &topic, payload: &self.payload, qos: QoS::AtLeastOnce, retain: true };
        if !engine.publish(device, &message, STATUS) {
            self.record.refused_packets.add(|| format!("device {device} could not say that it is on"));
        }
    }

    fn on_lost(&mut self, client: Index, at: Time, was_online: bool) {
        if !self.is_started || self.fleet.plan.role(client) == Role::Inspector {
            return; // The ramp tells, or the retained statuses that nobody saw.
        }
        if was_online {
            self.record.lost_connections += 1;
            self.away += 1;
            if std::mem::take(&mut self.awaited[client]) {
                self.to_lose -= 1;
            }
        }
        self.fleet.come_back(client, at);
    }

    fn on_message(&mut self, client: Index, publish: &Publish<'_>) {
        match self.fleet.plan.role(client) {
            Role::Watcher => self.statuses.hear(publish, &self.stamper),
            Role::Inspector => self.statuses.see_retained(publish, &self.stamper),
            Role::Subscriber(number) => self.on_delivery(number, publish),
            Role::Device(device) => {
                let topic = publish.topic;
                self.violations[0].misdirected.add(|| format!("device {device}: {topic}"));
            }
        }
    }

    fn on_delivery(&mut self, subscriber: usize, publish: &Publish<'_>) {
        let stamp = match self.stamper.read(publish.payload) {
            Ok(stamp) => stamp,
            Err(defect) => return self.violations[0].defect(defect, publish.topic),
        };
        let device = stamp.publisher as usize;
        let is_meant = device < self.devices.len()
            && self.fleet.plan.subscriber_of(device) == subscriber
            && publish.qos == Plan::qos(device)
            && publish.topic == self.fleet.data_topic(device);
        if !is_meant {
            let topic = publish.topic;
            self.violations[0].misdirected.add(|| format!("subscriber {subscriber}: {topic}"));
            return;
        }
        let qos = publish.qos;
        let violations = &mut self.violations[usize::from(qos.as_u8()) - 1];
        let who = || format!("message {} of device {device}", stamp.sequence);
        match self.devices[device].track.see(stamp.sequence) {
            // A publisher that sends again after a reconnect makes a second message of it, which need not be marked DUP.
            Sighting::Again if qos == QoS::AtLeastOnce => violations.repeated_dup.add(who),
            sighting => self.record.delivered += u64::from(violations.judge(sighting, qos, publish.dup, who)),
        }
    }

    fn on_acknowledged(&mut self, client: Index, tag: u64) {
        if tag != STATUS {
            self.devices[client].pending.remove(&tag);
            self.record.acknowledged += 1;
        }
    }
}

impl Driver for Session {
    fn on_event(&mut self, engine: &mut Engine, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        match event {
            Event::Connected { took, session_present } => self.on_connected(engine, client, at, took, session_present),
            Event::Subscribed(None) => self.subscribed += 1,
            Event::Subscribed(Some(reason)) => {
                self.record.refused_packets.add(|| format!("SUBACK of client {client}: {reason}"));
            }
            Event::Message(publish) => self.on_message(client, publish),
            Event::Acknowledged(tag) => self.on_acknowledged(client, tag),
            Event::Rejected(tag, reason) => {
                self.record.refused_packets.add(|| format!("message {tag} of client {client}: {reason}"));
                self.on_acknowledged(client, tag);
            }
            Event::Refused(_) => {
                self.record.refused += 1;
                self.on_lost(client, at, false);
            }
            Event::Closed { cause, is_violation } => {
                if is_violation {
                    self.record.refused_packets.add(|| format!("client {client}: {cause}"));
                }
                let was_online = std::mem::take(&mut self.is_online[client]);
                self.record.failed += u64::from(!was_online);
                self.on_lost(client, at, was_online);
            }
        }
    }

    fn on_time(&mut self, engine: &mut Engine, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.fleet.open(engine, client, now);
        }
        self.publish_due(engine, now);
        let next_return = self.fleet.open_due(engine, now);
        self.ramp.next_time().min(next_return).min(self.next_publish)
    }
}
