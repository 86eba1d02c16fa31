//! The subscribers come back: what the broker kept for them has to arrive, and in order.

use willowmq::codec::Publish;

use super::plan::{Plan, Purpose};
use super::state::State;
use crate::engine::{Driver, Event, Fleet, Index, Time};
use crate::ledger::{Tally, Track, Violations};
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::run::Run;
use crate::stamp::{Stamp, Stamper};

/// The subscribers that come back.
pub(super) struct Returning {
    state: State,
    identity: Identity,
    pub(super) ramp: Ramp,
    stamper: Stamper,
    /// By stream.
    topics: Vec<String>,
    subscribers: Vec<Subscriber>,
    /// How many acknowledged messages have not arrived, of those that can.
    owed: u64,
    pub(super) delivered: u64,
    /// How many of them had no acknowledgement.
    pub(super) delivered_in_doubt: u64,
    /// When the last of them came.
    pub(super) last: Time,
    pub(super) absent: Tally,
    pub(super) disconnected: Tally,
    pub(super) violations: Violations,
}

/// One subscriber.
struct Subscriber {
    /// What has come, by stream: see [`Returning::track`].
    tracks: Vec<Track>,
    /// How many acknowledged messages have not arrived.
    owed: u64,
    /// Whether its Session or its connection is lost: another check tells, and its messages cannot come.
    is_excused: bool,
}

impl Returning {
    pub(super) fn new(state: State, run: &Run) -> Self {
        let plan = &state.plan;
        let subscriber = |number| Subscriber {
            tracks: plan.streams_of(number).map(|_| Track::default()).collect(),
            owed: plan.streams_of(number).map(|stream| state.streams[stream].acknowledged).sum(),
            is_excused: false,
        };
        let subscribers: Vec<_> = (0..plan.subscribers).map(subscriber).collect();
        let mut ramp = run.ramp(plan.subscribers);
        ramp.extend(0..plan.subscribers);
        Self {
            owed: subscribers.iter().map(|it| it.owed).sum(),
            topics: (0..plan.streams()).map(|stream| plan.topic(stream)).collect(),
            state,
            identity: run.identity.clone(),
            ramp,
            stamper: run.stamper.clone(),
            subscribers,
            delivered: 0,
            delivered_in_doubt: 0,
            last: run.now(),
            absent: Tally::default(),
            disconnected: Tally::default(),
            violations: Violations::default(),
        }
    }

    /// How many acknowledged messages have not arrived, of those that can.
    pub(super) fn owed(&self) -> u64 {
        self.owed
    }

    /// Counts what did not come.
    pub(super) fn finish(&mut self) {
        for (number, subscriber) in self.subscribers.iter().enumerate().filter(|(_, it)| !it.is_excused) {
            for (track, stream) in subscriber.tracks.iter().zip(self.state.plan.streams_of(number)) {
                let sent = &self.state.streams[stream];
                let lost: Vec<u64> = track.unseen(sent.published).filter(|it| sent.is_owed(*it)).collect();
                let Some(first) = lost.first() else { continue };
                let (count, publisher) = (lost.len() as u64, sent.publisher);
                let example =
                    || format!("subscriber {number} misses {count} of publisher {publisher}, from {first} on");
                self.violations.lost.add_many(count, example);
            }
        }
    }

    fn plan(&self) -> &Plan {
        &self.state.plan
    }

    /// Where `subscriber` keeps what it has seen of `stream`, one of its own.
    fn track(&mut self, subscriber: usize, stream: usize) -> &mut Track {
        let position = match self.plan().subscriber(stream) {
            Some(_) => stream / self.plan().subscribers,
            None => stream,
        };
        &mut self.subscribers[subscriber].tracks[position]
    }

    /// Waits no longer for what `subscriber` is owed.
    fn excuse(&mut self, number: usize) {
        let subscriber = &mut self.subscribers[number];
        subscriber.is_excused = true;
        self.owed -= std::mem::take(&mut subscriber.owed);
    }

    fn on_message(&mut self, number: usize, at: Time, publish: &Publish<'_>) {
        let stamp = match self.stamper.read(publish.payload) {
            Ok(stamp) => stamp,
            Err(defect) => return self.violations.defect(defect, publish.topic),
        };
        let stream = stamp.publisher as usize;
        if !self.is_meant_for(number, stream, publish) {
            let (topic, qos) = (publish.topic, publish.qos.as_u8());
            self.violations.misdirected.add(|| format!("subscriber {number}: {topic} at QoS {qos}"));
            return;
        }
        if publish.retain {
            self.violations.retain_flag.add(|| format!("subscriber {number}, {}", publish.topic));
        }
        let sighting = self.track(number, stream).see(stamp.sequence);
        let publisher = self.plan().publisher(stream);
        let who = || format!("subscriber {number}, message {} of publisher {publisher}", stamp.sequence);
        if self.violations.judge(sighting, publish.qos, publish.dup, who) {
            self.on_delivered(number, stream, stamp, at);
        }
    }

    fn is_meant_for(&self, number: usize, stream: usize, publish: &Publish<'_>) -> bool {
        let plan = self.plan();
        self.topics.get(stream).is_some_and(|topic| topic == publish.topic)
            && plan.subscriber(stream).is_none_or(|subscriber| subscriber == number)
            && publish.qos == plan.qos()
    }

    fn on_delivered(&mut self, number: usize, stream: usize, stamp: Stamp, at: Time) {
        self.delivered += 1;
        self.last = at;
        if !self.state.streams[stream].is_owed(stamp.sequence) {
            self.delivered_in_doubt += 1;
        } else if !self.subscribers[number].is_excused {
            self.subscribers[number].owed -= 1;
            self.owed -= 1;
        }
    }

    fn on_connected(&mut self, number: usize, session_present: bool) {
        if !session_present {
            let owed = self.subscribers[number].owed;
            self.absent.add(|| format!("subscriber {number}, which is owed {owed} messages"));
            self.excuse(number);
        }
    }
}

impl Driver for Returning {
    fn on_event(&mut self, _: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        match event {
            Event::Connected { session_present, .. } => self.on_connected(client, session_present),
            Event::Message(publish) => self.on_message(client, at, publish),
            Event::Closed { cause, .. } => {
                self.disconnected.add(|| format!("subscriber {client}: {cause}"));
                self.excuse(client);
            }
            Event::Acknowledged(_) | Event::Rejected(..) | Event::Subscribed(_) | Event::Refused(_) => {}
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.state.plan.open(fleet, client, &self.identity, Purpose::Stay);
        }
        self.ramp.next_time()
    }
}
