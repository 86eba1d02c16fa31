//! Retained messages that are updated all the time, and looked at once in a while.

use std::time::Duration;

use willowmq::codec::{QoS, SubscriptionOptions};

use crate::engine::{Driver, End, Event, Fleet, Index, Message, Time};
use crate::ledger::Tally;
use crate::options::Identity;
use crate::report::Report;
use crate::scenario::retained::shelf::Shelf;
use crate::stamp::{Stamp, Stamper};

/// How long it is watched whether anything comes that should not.
const LINGER: Duration = Duration::from_millis(300);
/// The level of updates and looks.
const QOS: QoS = QoS::AtLeastOnce;
/// Marks the tag of a removal.
const REMOVAL: u64 = 1 << 63;

/// What is kept, and how often it changes.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Topics at which a message is kept.
    pub(super) topics: usize,
    /// Updates per second in all.
    pub(super) rate: f64,
    /// Size of a payload.
    pub(super) payload_bytes: usize,
    /// From one look to the next.
    pub(super) look_interval: Duration,
    /// How long an answer may take.
    pub(super) patience: Duration,
    /// First levels of the topics.
    pub(super) topic_prefix: String,
    /// Beginning of the Client Identifiers.
    pub(super) client_prefix: String,
}

/// What the keeper is doing.
///
/// ```text
/// Updating ─▶ Pausing ─all acknowledged─▶ Looking ─all found─▶ Lingering ─▶ Updating
///                ▲                                                 │
///                └──────────────────── Removing ◀───── stopped ────┴───── removed ─▶ Done
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Updating,
    Pausing { deadline: Time },
    Looking { deadline: Time },
    Lingering { until: Time },
    Removing { next: usize },
    Done,
}

/// A publisher that updates retained messages, and a reader that comes to look at all of them.
pub(super) struct Keeper {
    plan: Plan,
    first: Index,
    identity: Identity,
    stamper: Stamper,
    shelf: Shelf,
    state: State,
    next_update: Time,
    next_look: Time,
    is_subscribed: bool,
    is_stopped: bool,
    payload: Vec<u8>,
    /// How many updates were published.
    pub(super) updates: u64,
    /// How many looks came to their end.
    pub(super) looks: u64,
    /// Connections of the publisher and the reader that ended or were refused.
    pub(super) disconnected: Tally,
    unanswered: Tally,
}

impl Keeper {
    /// How many clients a keeper takes.
    pub(super) const CLIENTS: usize = 2;

    /// A keeper that has not begun, by two clients from `first` on.
    pub(super) fn new(plan: Plan, first: Index, identity: Identity, stamper: Stamper) -> Self {
        let topics = (0..plan.topics).map(|number| format!("{}/{number}", plan.topic_prefix)).collect();
        Self {
            first,
            identity,
            stamper,
            shelf: Shelf::new(topics, QOS),
            state: State::Idle,
            next_update: Time::default(),
            next_look: Time::default(),
            is_subscribed: false,
            is_stopped: false,
            payload: Vec::new(),
            updates: 0,
            looks: 0,
            disconnected: Tally::default(),
            unanswered: Tally::default(),
            plan,
        }
    }

    /// The publisher: it has to be opened before the start.
    pub(super) fn publisher(&self) -> Index {
        self.first
    }

    fn reader(&self) -> Index {
        self.first + 1
    }

    /// Opens the connection of one of the two.
    pub(super) fn open(&self, fleet: &mut Fleet, client: Index) {
        let id = format!("{}{}", self.plan.client_prefix, client - self.first);
        fleet.open(client, &self.identity.connect(&id));
    }

    /// Begins to update.
    pub(super) fn start(&mut self, now: Time) {
        self.state = State::Updating;
        self.next_update = now;
        self.next_look = now + self.plan.look_interval;
    }

    /// Ends the updates with a last look, removes everything, and sees that nothing is left.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether nothing is left to do.
    pub(super) fn is_settled(&self) -> bool {
        self.state == State::Done
    }

    /// How often something was wrong so far.
    pub(super) fn failures(&self) -> u64 {
        self.shelf.failures() + self.disconnected.count + self.unanswered.count
    }

    /// Adds every check to `report`.
    pub(super) fn tell(self, report: &mut Report) {
        self.shelf.tell(report);
        report.check(self.unanswered.into_check("retained_unanswered", "updates without an acknowledgement", false));
    }

    /// Publishes the updates that are due. Those that a pause, or the broker, held up are left out.
    fn update(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        let interval = Duration::from_secs_f64(1.0 / self.plan.rate);
        while self.next_update <= now {
            let (topic, sequence) = split(self.updates, self.plan.topics);
            if !self.publish(fleet, topic, Some(sequence), now, self.updates) {
                self.next_update = now + interval;
                break;
            }
            self.updates += 1;
            self.next_update = self.next_update + interval;
        }
        self.next_update
    }

    fn publish(&mut self, fleet: &mut Fleet, topic: usize, sequence: Option<u64>, at: Time, tag: u64) -> bool {
        self.payload.clear();
        if let Some(sequence) = sequence {
            let stamp = Stamp { publisher: topic as u32, sequence, at };
            self.stamper.write(stamp, self.plan.payload_bytes, &mut self.payload);
        }
        let message = Message { topic: &self.shelf.topics()[topic], payload: &self.payload, qos: QOS, retain: true };
        fleet.publish(self.first, &message, tag)
    }

    fn pause(&mut self, now: Time) {
        self.state = State::Pausing { deadline: now + self.plan.patience };
    }

    /// Looks once everything is acknowledged: until then there is more than one right answer.
    fn look(&mut self, fleet: &mut Fleet, now: Time, deadline: Time) {
        if fleet.unacknowledged(self.publisher()) > 0 {
            if now >= deadline {
                self.unanswered.add(|| format!("for {:?}, at {:.0} s", self.plan.patience, now.as_secs_f64()));
                self.pause(now);
            }
            return;
        }
        self.shelf.begin_look();
        self.shelf.ask_for_all(0);
        self.is_subscribed = false;
        self.open(fleet, self.reader());
        self.state = State::Looking { deadline: now + self.plan.patience };
    }

    /// Ends a look, and says what comes next.
    fn end_look(&mut self, fleet: &mut Fleet, now: Time) {
        fleet.close(self.reader(), End::Disconnect);
        self.shelf.end_look();
        if !self.is_subscribed {
            self.unanswered.add(|| format!("no SUBACK for the reader, at {:.0} s", now.as_secs_f64()));
        }
        self.looks += 1;
        if !self.is_stopped {
            self.start(now);
        } else if self.shelf.kept() > 0 {
            self.state = State::Removing { next: 0 };
        } else {
            self.state = State::Done;
        }
    }

    fn remove(&mut self, fleet: &mut Fleet, now: Time, mut next: usize) {
        while next < self.plan.topics && self.publish(fleet, next, None, now, REMOVAL | next as u64) {
            next += 1;
        }
        self.state = State::Removing { next };
        if next == self.plan.topics {
            self.pause(now);
        }
    }

    fn on_acknowledged(&mut self, tag: u64) {
        if tag & REMOVAL != 0 {
            return self.shelf.keep((tag & !REMOVAL) as usize, None);
        }
        let (topic, sequence) = split(tag, self.plan.topics);
        self.shelf.keep(topic, Some(sequence));
    }
}

/// Topic and number of an update: the topics take turns.
fn split(update: u64, topics: usize) -> (usize, u64) {
    ((update % topics as u64) as usize, update / topics as u64)
}

impl Driver for Keeper {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, _at: Time, event: Event<'_>) {
        let is_reader = client == self.reader();
        match event {
            Event::Connected { .. } if is_reader => {
                let filter = format!("{}/#", self.plan.topic_prefix);
                fleet.subscribe(client, &[(&filter, SubscriptionOptions::new(QOS))]);
            }
            Event::Connected { .. } => {}
            Event::Subscribed(None) => self.is_subscribed = true,
            Event::Message(publish) => {
                let stamp = self.stamper.read(publish.payload);
                self.shelf.on_message(usize::from(!is_reader), publish, stamp);
            }
            Event::Acknowledged(tag) => self.on_acknowledged(tag),
            Event::Rejected(_, reason) => self.unanswered.add(|| format!("PUBACK, {reason}")),
            Event::Subscribed(Some(reason)) => self.unanswered.add(|| format!("SUBACK, {reason}")),
            Event::Refused(reason) => self.disconnected.add(|| format!("CONNACK, {reason}")),
            Event::Closed { cause, .. } => {
                self.disconnected.add(|| cause.into());
                if client == self.publisher() {
                    self.state = State::Done; // Nobody is left to update or remove anything.
                }
            }
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        match self.state {
            State::Updating if self.is_stopped || now >= self.next_look => self.pause(now),
            State::Updating => return self.update(fleet, now).min(self.next_look),
            State::Pausing { deadline } => self.look(fleet, now, deadline),
            State::Looking { deadline } => {
                if now < deadline && (!self.is_subscribed || self.shelf.found() < self.shelf.kept()) {
                    return deadline;
                }
                self.state = State::Lingering { until: now + LINGER };
            }
            State::Lingering { until } if now < until => return until,
            State::Lingering { .. } => self.end_look(fleet, now),
            State::Removing { next } => self.remove(fleet, now, next),
            State::Idle | State::Done => return Time::NEVER,
        }
        match self.state {
            State::Pausing { deadline } if fleet.unacknowledged(self.publisher()) > 0 => deadline,
            State::Removing { .. } => now + LINGER, // Acknowledgements make room earlier.
            State::Looking { deadline } => deadline,
            State::Done => Time::NEVER,
            _ => now, // The next state begins in the next turn.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_take_turns() {
        let updates: Vec<_> = (0..5).map(|update| split(update, 2)).collect();
        assert_eq!(updates, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]);
    }
}
