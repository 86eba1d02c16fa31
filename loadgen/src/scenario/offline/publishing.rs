//! The publishers: a closed loop on acknowledgements, since nobody is there to receive anything.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use willowmq::codec::QoS;

use super::plan::{Plan, Purpose};
use super::state::Stream;
use crate::engine::{Driver, Event, Fleet, Index, Message, Time};
use crate::ledger::{Tally, Violations};
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::report::histogram;
use crate::run::Run;
use crate::stamp::{Stamp, Stamper};

/// The publishers.
pub(super) struct Publishing {
    plan: Plan,
    identity: Identity,
    pub(super) ramp: Ramp,
    stamper: Stamper,
    /// Messages of one publisher that are on their way at once.
    window: usize,
    streams: Vec<Outbox>,
    publishers: Vec<Publisher>,
    /// Publishers that wait for the broker to take more.
    blocked: Vec<usize>,
    is_stopped: bool,
    /// Messages that are to be published yet, and those that are published and not acknowledged, of connections that last.
    left: u64,
    under_way: u64,
    payload: Vec<u8>,
    /// Messages that are to be published in all.
    pub(super) wanted: u64,
    pub(super) published: u64,
    pub(super) acknowledged: u64,
    /// When the last acknowledgement came.
    pub(super) last: Time,
    /// From PUBLISH to PUBACK or PUBCOMP, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) refused: Tally,
    pub(super) disconnected: Tally,
    /// Messages that came to publishers are misdirected.
    pub(super) violations: Violations,
}

/// One stream.
struct Outbox {
    topic: String,
    /// How many messages are to be published yet.
    left: u64,
    published: u64,
    /// Numbers of messages that the broker refused, or that nobody waits for any more.
    unacknowledged: Vec<u64>,
}

/// One publisher.
#[derive(Default)]
struct Publisher {
    /// Its streams that have messages left; the first is next.
    streams: VecDeque<usize>,
    /// Stream, number and time of what is not acknowledged.
    under_way: VecDeque<(usize, u64, Time)>,
    is_blocked: bool,
    is_gone: bool,
}

impl Publishing {
    pub(super) fn new(plan: &Plan, messages: u64, window: usize, run: &Run) -> Self {
        let outbox = |stream| Outbox {
            topic: plan.topic(stream),
            left: plan.quota(stream, messages),
            published: 0,
            unacknowledged: Vec::new(),
        };
        let streams: Vec<_> = (0..plan.streams()).map(outbox).collect();
        let mut publishers: Vec<_> = (0..plan.publishers).map(|_| Publisher::default()).collect();
        for (stream, _) in streams.iter().enumerate().filter(|(_, outbox)| outbox.left > 0) {
            publishers[plan.publisher(stream)].streams.push_back(stream);
        }
        let mut ramp = run.ramp(plan.clients());
        ramp.extend(plan.subscribers..plan.clients());
        Self {
            plan: plan.clone(),
            identity: run.identity.clone(),
            ramp,
            stamper: run.stamper.clone(),
            window,
            streams,
            publishers,
            blocked: Vec::new(),
            is_stopped: true,
            left: messages,
            under_way: 0,
            payload: Vec::new(),
            wanted: messages,
            published: 0,
            acknowledged: 0,
            last: run.now(),
            latency: histogram(),
            refused: Tally::default(),
            disconnected: Tally::default(),
            violations: Violations::default(),
        }
    }

    /// Whether acknowledgements are PUBCOMPs.
    pub(super) fn is_qos_2(&self) -> bool {
        self.plan.qos() == QoS::ExactlyOnce
    }

    /// Begins to publish.
    pub(super) fn start(&mut self, fleet: &mut Fleet) {
        self.is_stopped = false;
        (0..self.publishers.len()).for_each(|publisher| self.publish(fleet, publisher));
    }

    /// Publishes nothing more.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
        self.left = 0;
    }

    /// Whether everything is published and acknowledged, as far as anyone is left to do so.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0 && self.under_way == 0
    }

    /// What each stream has become, at the end; what was not acknowledged on a connection that lasts is a violation.
    pub(super) fn finish(&mut self) -> Vec<Stream> {
        for (number, publisher) in self.publishers.iter_mut().enumerate() {
            let count = if publisher.is_gone { 0 } else { publisher.under_way.len() as u64 };
            self.violations.unacknowledged.add_many(count, || format!("publisher {number}: {count}"));
            for (stream, sequence, _) in publisher.under_way.drain(..) {
                self.streams[stream].unacknowledged.push(sequence);
            }
        }
        let finished = |(stream, outbox): (usize, &mut Outbox)| {
            Stream::new(&self.plan, stream, outbox.published, std::mem::take(&mut outbox.unacknowledged))
        };
        self.streams.iter_mut().enumerate().map(finished).collect()
    }

    fn publish(&mut self, fleet: &mut Fleet, number: usize) {
        let client = self.plan.subscribers + number;
        let publisher = &mut self.publishers[number];
        let at = fleet.clock().now();
        while !self.is_stopped && !publisher.is_gone && publisher.under_way.len() < self.window {
            let Some(stream) = publisher.streams.front().copied() else { return };
            let outbox = &mut self.streams[stream];
            let stamp = Stamp { publisher: stream as u32, sequence: outbox.published, at };
            self.stamper.write(stamp, self.plan.payload_bytes, &mut self.payload);
            let qos = self.plan.qos();
            let message = Message { topic: &outbox.topic, payload: &self.payload, qos, retain: false };
            if !fleet.publish(client, &message, tag(stream, outbox.published)) {
                if !std::mem::replace(&mut publisher.is_blocked, true) {
                    self.blocked.push(number); // It waits for the broker, and tries again in the next turn.
                }
                return;
            }
            publisher.under_way.push_back((stream, outbox.published, at));
            outbox.published += 1;
            outbox.left -= 1;
            publisher.streams.rotate_left(1);
            if outbox.left == 0 {
                publisher.streams.pop_back();
            }
            (self.published, self.left, self.under_way) = (self.published + 1, self.left - 1, self.under_way + 1);
        }
    }

    /// Takes the message of `tag` from those under way; says when it was published.
    fn take(&mut self, number: usize, tag: u64) -> Option<(usize, u64, Time)> {
        let (stream, sequence) = stream_and_sequence(tag);
        let under_way = &mut self.publishers[number].under_way;
        // Acknowledgements come in order where nothing is wrong, so it is the first.
        let position = under_way.iter().position(|(s, n, _)| (*s, *n) == (stream, sequence))?;
        self.under_way -= 1;
        under_way.remove(position)
    }

    fn on_acknowledged(&mut self, fleet: &mut Fleet, number: usize, tag: u64, at: Time) {
        let Some((_, _, published)) = self.take(number, tag) else { return };
        self.acknowledged += 1;
        self.last = at;
        self.latency.saturating_record(at.nanos_since(published));
        self.publish(fleet, number);
    }

    fn on_rejected(&mut self, fleet: &mut Fleet, number: usize, tag: u64, reason: &str) {
        let Some((stream, sequence, _)) = self.take(number, tag) else { return };
        self.streams[stream].unacknowledged.push(sequence);
        self.refused.add(|| format!("publisher {number}, message {sequence}: {reason}"));
        self.publish(fleet, number);
    }

    /// Gives up what a publisher had to do: what it had under way may have come to the broker or not.
    fn on_closed(&mut self, number: usize, cause: &str) {
        self.disconnected.add(|| format!("publisher {number}: {cause}"));
        let publisher = &mut self.publishers[number];
        publisher.is_gone = true;
        self.under_way -= publisher.under_way.len() as u64;
        let left: u64 = publisher.streams.drain(..).map(|stream| self.streams[stream].left).sum();
        self.left = self.left.saturating_sub(left); // It is zero once publishing was stopped.
    }
}

/// A message as what [`Fleet::publish`] gives back: streams and numbers have 32 bits each, as the command line has it.
fn tag(stream: usize, sequence: u64) -> u64 {
    (stream as u64) << 32 | sequence
}

fn stream_and_sequence(tag: u64) -> (usize, u64) {
    ((tag >> 32) as usize, tag & u64::from(u32::MAX))
}

impl Driver for Publishing {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        let number = client - self.plan.subscribers;
        match event {
            Event::Acknowledged(tag) => self.on_acknowledged(fleet, number, tag, at),
            Event::Rejected(tag, reason) => self.on_rejected(fleet, number, tag, &reason.to_string()),
            Event::Message(publish) => {
                self.violations.misdirected.add(|| format!("publisher {number}: {}", publish.topic));
            }
            Event::Closed { cause, .. } => self.on_closed(number, cause),
            Event::Connected { .. } | Event::Refused(_) | Event::Subscribed(_) => {}
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.plan.open(fleet, client, &self.identity, Purpose::Leave);
        }
        for number in std::mem::take(&mut self.blocked) {
            self.publishers[number].is_blocked = false;
            self.publish(fleet, number);
        }
        self.ramp.next_time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_which_message_it_was() {
        for message in [(0, 0), (3, 7), (u32::MAX as usize, u32::MAX.into())] {
            assert_eq!(stream_and_sequence(tag(message.0, message.1)), message);
        }
    }
}
