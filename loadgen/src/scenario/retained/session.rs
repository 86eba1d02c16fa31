//! The publishers that fill the shelf, and the readers that look at it.

use std::time::Duration;

use hdrhistogram::Histogram;
use willowmq::codec::SubscriptionOptions;

use super::Retained;
use super::shelf::Shelf;
use crate::engine::{Driver, End, Event, Fleet, Index, Message, Stage, Time};
use crate::ledger::Tally;
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::report::histogram;
use crate::run::Run;
use crate::stamp::{Stamp, Stamper};

/// The clients: publishers first, then readers.
pub(super) struct Session {
    options: Retained,
    host: Host,
    ramp: Ramp,
    stamper: Stamper,
    filter: String,
    pub(super) shelf: Shelf,
    work: Work,
    /// Topics that the present work has not come to.
    next: usize,
    /// Units of the present work that are done.
    done: u64,
    /// When each topic was last published to.
    published: Vec<Time>,
    payload: Vec<u8>,
    readers: Vec<Reader>,
    /// SUBSCRIBEs of the present look, and those that were answered.
    pub(super) asked: u64,
    subscribed: usize,
    /// From SUBSCRIBE or PUBLISH to the answer, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// When the first and the last message of the present look came.
    pub(super) arrivals: Option<(Time, Time)>,
    pub(super) refused: Tally,
    pub(super) disconnected: Tally,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing.
    Rest,
    /// Publish message `n` to every topic.
    Store(u64),
    /// Publish an empty message to every topic.
    Remove,
    /// Look at every topic by itself.
    LookUp,
    /// Look at all topics with one subscription of the first reader.
    LookAtAll,
}

/// What a reader waits for in [`Work::LookUp`].
#[derive(Clone, Copy, Debug, Default)]
struct Reader {
    topic: Option<usize>,
    asked: Time,
    awaits_suback: bool,
    awaits_message: bool,
}

impl Reader {
    fn is_free(self) -> bool {
        !self.awaits_suback && !self.awaits_message
    }
}

/// Who the clients are.
struct Host {
    identity: Identity,
    client_prefix: String,
}

impl Host {
    fn open(&self, fleet: &mut Fleet, client: Index) {
        let id = format!("{}{client}", self.client_prefix);
        fleet.open(client, &self.identity.connect(&id));
    }
}

impl Session {
    pub(super) fn new(options: Retained, run: &Run) -> Self {
        let prefix = &run.topic_prefix;
        let topics = (0..options.topics).map(|number| format!("{prefix}/{number}/state")).collect();
        Self {
            host: Host { identity: run.identity.clone(), client_prefix: run.client_prefix.clone() },
            ramp: run.ramp(options.clients()),
            stamper: run.stamper.clone(),
            filter: options.filter.replace("{prefix}", prefix),
            shelf: Shelf::new(topics, options.qos),
            work: Work::Rest,
            next: 0,
            done: 0,
            published: vec![Time::default(); options.topics],
            payload: Vec::new(),
            readers: vec![Reader::default(); options.readers],
            asked: 0,
            subscribed: 0,
            latency: histogram(),
            arrivals: None,
            refused: Tally::default(),
            disconnected: Tally::default(),
            options,
        }
    }

    /// Opens the connections of the publishers.
    pub(super) fn connect(&mut self, run: &mut Run) -> anyhow::Result<()> {
        self.open(run, 0..self.options.publishers)
    }

    /// Replaces the readers by `count` that have no subscription.
    pub(super) fn renew_readers(&mut self, run: &mut Run, count: usize) -> anyhow::Result<()> {
        self.work = Work::Rest;
        let first = self.options.publishers;
        for client in first..self.options.clients() {
            run.fleet.close(client, End::Disconnect);
        }
        self.readers.fill(Reader::default());
        self.open(run, first..first + count)
    }

    fn open(&mut self, run: &mut Run, clients: std::ops::Range<Index>) -> anyhow::Result<()> {
        self.ramp = run.ramp(self.options.clients());
        self.ramp.extend(clients);
        run.connect_patiently(self, |it| &it.ramp, |_| true, |it| &it.ramp.failed)
    }

    /// Does `work` until `units` of it are done; gives how many are.
    pub(super) fn work(&mut self, run: &mut Run, work: Work, units: u64) -> anyhow::Result<u64> {
        self.work = work;
        (self.next, self.done, self.asked, self.subscribed, self.arrivals) = (0, 0, 0, 0, None);
        self.latency.reset();
        let is_done = |it: &Self| it.done >= units || it.disconnected.count > 0;
        run.drive_patiently(self, |it| it.done, is_done)?;
        // Whoever is still waiting has lost what it waits for.
        self.readers.fill(Reader::default());
        self.work = Work::Rest;
        Ok(self.done)
    }

    /// Removes every message, whatever was going on, within `duration`; says whether all removals are acknowledged.
    pub(super) fn clear(&mut self, run: &mut Run, duration: Duration) -> anyhow::Result<bool> {
        const STEP: Duration = Duration::from_millis(20);
        let deadline = run.now() + duration;
        // Connections of their own: those of the run may be gone, or full of what it was about.
        (0..self.options.clients()).for_each(|client| run.fleet.close(client, End::Disconnect));
        self.ramp = run.ramp(self.options.clients());
        self.ramp.extend(0..self.options.publishers);
        (self.work, self.next) = (Work::Remove, 0);
        while run.now() < deadline && self.disconnected.count == 0 && self.ramp.failed.count == 0 {
            let step = deadline.min(run.now() + STEP);
            run.drive(self, step, |_| false)?;
            let is_sent = self.next == self.options.topics;
            if is_sent && (0..self.options.publishers).all(|client| run.fleet.unacknowledged(client) == 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets what should not come come.
    pub(super) fn linger(&mut self, run: &mut Run, duration: Duration) -> anyhow::Result<()> {
        let deadline = run.now() + duration;
        run.drive(self, deadline, |it| it.disconnected.count > 0)?;
        Ok(())
    }

    /// Whether the last work came to every topic.
    pub(super) fn came_to_all(&self) -> bool {
        (self.next..self.options.topics).all(|topic| !self.shelf.is_kept(topic))
    }

    /// Ends a look. Where a connection was lost in the middle of it, messages are not.
    pub(super) fn end_look(&mut self) {
        if self.disconnected.count == 0 {
            self.shelf.end_look();
        }
    }

    /// Counts the SUBSCRIBEs of the present look that were not answered.
    pub(super) fn miss_subacks(&mut self, asked: u64) {
        let missing = asked.saturating_sub(self.subscribed as u64);
        if self.disconnected.count == 0 {
            self.refused.add_many(missing, || format!("no SUBACK for {missing} SUBSCRIBEs"));
        }
    }

    /// How many SUBSCRIBEs of the present look were granted.
    pub(super) fn subscribed(&self) -> usize {
        self.subscribed
    }

    /// Subscribes the first reader to everything.
    pub(super) fn ask_for_all(&mut self, run: &mut Run) -> Time {
        self.shelf.begin_look();
        self.shelf.ask_for_all(0);
        let at = run.now();
        let options = SubscriptionOptions::new(self.options.qos);
        run.fleet.subscribe(self.options.publishers, &[(self.filter.as_str(), options)]);
        at
    }

    fn publish(&mut self, fleet: &mut Fleet, client: Index) {
        let sequence = match self.work {
            Work::Store(sequence) => Some(sequence),
            Work::Remove => None,
            _ => return,
        };
        let qos = self.options.publish_qos();
        while self.next < self.options.topics && fleet.unacknowledged(client) < self.options.window {
            let at = fleet.clock().now();
            self.payload.clear();
            if let Some(sequence) = sequence {
                let stamp = Stamp { publisher: self.next as u32, sequence, at };
                self.stamper.write(stamp, self.options.payload, &mut self.payload);
            }
            let topic = self.shelf.topics()[self.next].as_str();
            let message = Message { topic, payload: &self.payload, qos, retain: true };
            if !fleet.publish(client, &message, self.next as u64) {
                return; // It waits for the broker, and tries again in the next turn.
            }
            self.shelf.doubt(self.next);
            self.published[self.next] = at;
            self.next += 1;
        }
    }

    fn on_acknowledged(&mut self, client: Index, fleet: &mut Fleet, topic: usize, at: Time) {
        match self.work {
            Work::Store(sequence) => self.shelf.keep(topic, Some(sequence)),
            Work::Remove => self.shelf.keep(topic, None),
            _ => {}
        }
        self.done += 1;
        self.latency.saturating_record(at.nanos_since(self.published[topic]));
        self.publish(fleet, client);
    }

    /// Lets a reader that is free look at the next topic at which something is kept.
    fn look_up(&mut self, fleet: &mut Fleet, reader: usize) {
        let client = self.options.publishers + reader;
        if self.work != Work::LookUp || !self.readers[reader].is_free() || fleet.stage(client) != Stage::Online {
            return;
        }
        let Some(topic) = (self.next..self.options.topics).find(|topic| self.shelf.is_kept(*topic)) else { return };
        self.next = topic + 1;
        self.asked += 1;
        self.shelf.ask(topic, reader);
        let asked = fleet.clock().now();
        self.readers[reader] = Reader { topic: Some(topic), asked, awaits_suback: true, awaits_message: true };
        let options = SubscriptionOptions::new(self.options.qos);
        fleet.subscribe(client, &[(self.shelf.topics()[topic].as_str(), options)]);
    }

    fn on_subscribed(&mut self, fleet: &mut Fleet, client: Index) {
        self.subscribed += 1;
        let reader = client - self.options.publishers;
        self.readers[reader].awaits_suback = false;
        self.look_up(fleet, reader);
    }

    fn on_found(&mut self, fleet: &mut Fleet, client: Index, topic: usize, at: Time) {
        let first = self.arrivals.map_or(at, |(first, _)| first);
        self.arrivals = Some((first, at));
        self.done += 1;
        let reader = client - self.options.publishers;
        if self.readers[reader].topic == Some(topic) {
            self.readers[reader].awaits_message = false;
            self.latency.saturating_record(at.nanos_since(self.readers[reader].asked));
            self.look_up(fleet, reader);
        }
    }
}

impl Driver for Session {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        match event {
            Event::Acknowledged(topic) => self.on_acknowledged(client, fleet, topic as usize, at),
            Event::Rejected(topic, reason) => {
                self.shelf.trust(topic as usize);
                self.refused.add(|| format!("{}: {reason}", self.shelf.topics()[topic as usize]));
                self.done += 1;
            }
            Event::Subscribed(None) => self.on_subscribed(fleet, client),
            Event::Subscribed(Some(reason)) => {
                self.subscribed += 1;
                self.refused.add(|| format!("SUBACK, {reason}"));
            }
            Event::Message(publish) => {
                let stamp = self.stamper.read(publish.payload);
                let reader = client.wrapping_sub(self.options.publishers);
                if let Some(topic) = self.shelf.on_message(reader, publish, stamp) {
                    self.on_found(fleet, client, topic, at);
                }
            }
            Event::Closed { cause, .. } => self.disconnected.add(|| format!("client {client}: {cause}")),
            Event::Connected { .. } | Event::Refused(_) => {}
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.host.open(fleet, client);
        }
        match self.work {
            Work::Store(_) | Work::Remove => {
                (0..self.options.publishers).for_each(|client| self.publish(fleet, client));
            }
            Work::LookUp => (0..self.options.readers).for_each(|reader| self.look_up(fleet, reader)),
            Work::Rest | Work::LookAtAll => {}
        }
        self.ramp.next_time()
    }
}
