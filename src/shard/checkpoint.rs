//! Checkpoints: all that is so, written again, so that what was written before can go.
//!
//! A checkpoint is written in slices between other work, into the same journal. Each Session and each retained message is written as it is
//! at that moment, and what happens to it later is in the records that follow. Whatever a transaction has touched that is not complete
//! waits: its state may turn out never to have been.

use super::close::session_record;
use super::journal::Entity;
use super::peer::SessionKey;
use super::read_back::READ_AGAIN;
use super::wills::will_record;
use super::{Shard, Timer};
use crate::journal::record::{QueuedRecord, Record, SessionNumber, Transaction};
use crate::session::message::{Kind, Publication};
use crate::session::outgoing::{InFlight, Sending};
use crate::session::queue::{Body, Place, Waiting};
use crate::session::will::WillState;
use crate::timer::Moment;
use std::collections::VecDeque;
use std::sync::Arc;

/// Deliveries of one Session written in one go.
const CHUNK: usize = 512;
/// Retained messages written in one go.
const TOPICS: usize = 64;
/// What a Session, a Subscription and a delivery take in a checkpoint, about.
const SESSION_BYTES: u64 = 128;
const DELIVERY_BYTES: u64 = 48;

/// Where a checkpoint stands.
#[derive(Debug)]
enum Stage {
    /// At the Sessions, by slot.
    Sessions { next: u32 },
    /// Within the queue of one Session, up to the place that was the last when it began; `next` is the slot to go on with, unless it had
    /// been put off.
    Queue { next: Option<u32>, key: SessionKey, place: Place, last: Place },
    /// At the retained messages.
    Topics { after: Option<Box<str>> },
    /// At what was put off.
    PutOff,
    /// All is written. Transactions that were open then must come to an end: one that had removed something could yet be void.
    Settling { own: u64, foreign: Vec<Transaction> },
}

#[derive(Debug)]
struct Checkpoint {
    began: u64,
    stage: Stage,
    put_off: VecDeque<Entity>,
    /// Messages on their way from the disk.
    reading: usize,
}

/// The checkpoint that is under way, and when the next one is worth it.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    under_way: Option<Checkpoint>,
    /// Written, but not durable yet: where it began and where it ends.
    written: Option<(u64, u64)>,
    /// Durable: the owner may drop what lies before.
    log_start: Option<u64>,
    /// Log offset of the first byte that is needed.
    start: u64,
    /// It failed where this much had been written, and is not tried again before twice as much has been.
    failed_at: Option<u64>,
    /// The journal's end when the newest slice was written.
    sliced_at: u64,
}

impl Shard {
    /// Tells where the journal begins that this shard goes on with.
    pub(super) fn note_log_start(&mut self, start: u64) {
        self.checkpoint.start = start;
    }

    /// Where the journal may begin now: a checkpoint from there on is complete and durable.
    pub fn take_log_start(&mut self) -> Option<u64> {
        self.checkpoint.log_start.take()
    }

    /// Whether a checkpoint is under way.
    pub fn is_writing_checkpoint(&self) -> bool {
        self.checkpoint.under_way.is_some() || self.checkpoint.written.is_some()
    }

    /// Begins a checkpoint now, for a journal that is to hold what this shard has taken over from others.
    pub fn begin_checkpoint(&mut self) {
        if self.journal.is_on() && !self.is_writing_checkpoint() {
            self.journal.end_step();
            self.journal.checkpoint += 1;
            self.restart.has_many_segments = false;
            let began = self.journal.offset();
            self.journal.append(&Record::CheckpointBegin);
            self.journal.write_transactions();
            self.journal.end_step();
            let stage = Stage::Sessions { next: 0 };
            self.checkpoint.under_way = Some(Checkpoint { began, stage, put_off: VecDeque::new(), reading: 0 });
        }
    }

    /// Bytes that a checkpoint would take, about.
    pub(super) fn live_bytes(&self) -> u64 {
        let (message_bytes, messages) = self.journal.message_load();
        message_bytes
            + messages as u64 * DELIVERY_BYTES
            + (self.sessions.len() + self.subscriptions.len()) as u64 * SESSION_BYTES
    }

    fn is_checkpoint_worth_it(&self) -> bool {
        let config = &self.config.journal;
        let live_max = self.live_bytes().saturating_mul(u64::from(config.size_ratio_max));
        let log_bytes = self.journal.offset() - self.checkpoint.start;
        let has_failed = self.checkpoint.failed_at.is_some_and(|failed_at| log_bytes < 2 * failed_at);
        let is_large = log_bytes > live_max.max(config.checkpoint_floor_bytes as u64);
        (is_large || self.restart.has_many_segments) && !has_failed
    }

    /// Whether the next slice can be written now: the previous one is on the disk, so nothing piles up.
    pub(super) fn can_go_on_with_checkpoint(&self) -> bool {
        let Some(checkpoint) = &self.checkpoint.under_way else { return false };
        let is_waiting = match &checkpoint.stage {
            Stage::Settling { own, foreign } => !self.journal.are_over(*own, foreign),
            Stage::PutOff => checkpoint.put_off.front().is_some_and(|entity| self.journal.is_unsettled(entity)),
            Stage::Sessions { .. } | Stage::Queue { .. } | Stage::Topics { .. } => false,
        };
        checkpoint.reading == 0
            && !is_waiting
            && !self.journal.is_failing()
            && self.journal.is_durable(self.checkpoint.sliced_at)
    }

    /// Writes the next slice of a checkpoint, or begins one.
    pub(super) fn go_on_with_checkpoint(&mut self, now: Moment) {
        if !self.is_writing_checkpoint()
            && self.journal.is_on()
            && !self.journal.is_failing()
            && self.is_checkpoint_worth_it()
        {
            self.begin_checkpoint();
        }
        if !self.can_go_on_with_checkpoint() {
            return;
        }
        let Some(mut checkpoint) = self.checkpoint.under_way.take() else { return };
        let slice_end = self.journal.offset() + self.config.journal.checkpoint_slice_bytes as u64;
        let mut is_complete = false;
        while !is_complete && checkpoint.reading == 0 && self.journal.offset() < slice_end {
            let before = self.journal.offset();
            is_complete = self.write_some(now, &mut checkpoint);
            self.journal.end_step();
            if self.is_stuck(&checkpoint) && self.journal.offset() == before {
                break;
            }
        }
        self.checkpoint.sliced_at = self.journal.offset();
        if is_complete {
            self.journal.append(&Record::CheckpointEnd);
            self.journal.end_step();
            self.checkpoint.written = Some((checkpoint.began, self.journal.offset()));
        } else {
            self.checkpoint.under_way = Some(checkpoint);
        }
    }

    fn is_stuck(&self, checkpoint: &Checkpoint) -> bool {
        matches!(checkpoint.stage, Stage::PutOff | Stage::Settling { .. })
    }

    /// The checkpoint counts once its end is durable.
    pub(super) fn on_checkpoint_durable(&mut self) {
        if let Some((began, end)) = self.checkpoint.written
            && self.journal.is_durable(end)
        {
            self.checkpoint.written = None;
            self.checkpoint.log_start = Some(began);
            self.checkpoint.start = began;
            self.checkpoint.failed_at = None;
            self.stats.checkpoints += 1;
        }
    }

    /// Writes the next piece; whether the checkpoint is complete.
    fn write_some(&mut self, now: Moment, checkpoint: &mut Checkpoint) -> bool {
        let next = match std::mem::replace(&mut checkpoint.stage, Stage::PutOff) {
            Stage::Sessions { next } => self.write_next_session(now, checkpoint, next),
            Stage::Queue { next, key, place, last } => self.write_queue(checkpoint, next, key, place, last),
            Stage::Topics { after } => self.write_topics(checkpoint, after),
            Stage::PutOff => self.write_put_off(now, checkpoint),
            Stage::Settling { own, foreign } if self.journal.are_over(own, &foreign) => return true,
            settling @ Stage::Settling { .. } => settling,
        };
        checkpoint.stage = next;
        false
    }

    fn write_next_session(&mut self, now: Moment, checkpoint: &mut Checkpoint, next: u32) -> Stage {
        let Some(session) = self.sessions.next_from(next) else { return Stage::Topics { after: None } };
        let key = self.sessions.key(session);
        if self.journal.is_unsettled(&Entity::Session(key)) {
            checkpoint.put_off.push_back(Entity::Session(key));
            return Stage::Sessions { next: session + 1 };
        }
        self.write_session(now, session);
        let last = self.sessions.get(session).map_or(Place::default(), |session| session.outgoing.last_place());
        Stage::Queue { next: Some(session + 1), key, place: Place::default(), last }
    }

    /// Writes all of a Session but its deliveries.
    fn write_session(&mut self, now: Moment, session: u32) {
        let Some(owner) = self.sessions.get(session) else { return };
        let Some(number) = owner.number.map(SessionNumber) else { return };
        // Where a connection is closed is known by when the Session ends, or by its will.
        let closed = owner.connection.is_none().then(|| closed_at(owner, now));
        let Some(record) = session_record(owner, closed) else { return };
        let journal = &mut self.journal;
        journal.append(&Record::SessionReset(number));
        journal.append(&Record::Session(record));
        if owner.is_kept {
            for (filter, subscription) in &owner.subscriptions {
                let (options, id) = (subscription.options, subscription.id);
                journal.append(&Record::Subscribed { session: number, filter, options, id });
            }
            for packet_id in &owner.received {
                journal.append(&Record::Received { session: number, packet_id: *packet_id });
            }
        }
        match &owner.will {
            WillState::None => {}
            WillState::Armed(will) => journal.append(&Record::WillArmed(will_record(number.0, will))),
            WillState::Pending { will, due, closing, .. } | WillState::Due { will, due, closing } => {
                journal.append(&Record::WillArmed(will_record(number.0, will)));
                journal.append(&Record::WillPending { session: number, due: *due, closing: *closing });
            }
        }
    }

    /// Writes some of a Session's deliveries. Those that came after it was begun have records of their own.
    fn write_queue(
        &mut self,
        checkpoint: &mut Checkpoint,
        next: Option<u32>,
        key: SessionKey,
        place: Place,
        last: Place,
    ) -> Stage {
        let done = next.map_or(Stage::PutOff, |next| Stage::Sessions { next });
        let Some(owner) = self.sessions.resolve(key).and_then(|session| self.sessions.get(session)) else {
            return done;
        };
        let Some(number) = owner.number.filter(|_| owner.is_kept).map(SessionNumber) else { return done };
        let journal = &mut self.journal;
        let enough = journal.offset() + self.config.journal.checkpoint_slice_bytes as u64;
        // What is in flight stands before what waits, and a delivery goes from one to the other without changing its place.
        for in_flight in owner.outgoing.in_flight().filter(|in_flight| (place..=last).contains(&in_flight.place)) {
            if journal.offset() >= enough {
                return Stage::Queue { next, key, place: in_flight.place, last };
            }
            write_in_flight(journal, number, in_flight);
        }
        for (written, waiting) in
            owner.outgoing.queue().from(place).take_while(|waiting| waiting.place <= last).enumerate()
        {
            if written >= CHUNK || journal.offset() >= enough {
                return Stage::Queue { next, key, place: waiting.place, last };
            }
            match &waiting.body {
                Body::Here(message) => journal.write_message(message),
                Body::Away(away) if journal.has_in_checkpoint(away.publication) => {}
                Body::Away(away) => {
                    if let Some(extent) = journal.extent(away.publication) {
                        self.reads.ask_for_checkpoint(extent);
                        checkpoint.reading += 1;
                    }
                    return Stage::Queue { next, key, place: waiting.place, last };
                }
            }
            journal.append(&Record::Queued(waiting_record(number, waiting)));
        }
        done
    }

    /// What a checkpoint waits for has been read, or may be asked for again.
    pub(super) fn ask_again_for_checkpoint(&mut self) {
        if let Some(checkpoint) = &mut self.checkpoint.under_way {
            checkpoint.reading = checkpoint.reading.saturating_sub(1);
        }
    }

    /// A message that lies in the journal alone was read, and is written again.
    pub(super) fn on_checkpoint_read(&mut self, now: Moment, bytes: Option<&[u8]>) {
        if bytes.is_none() {
            // Nothing is gained by asking a disk that fails all the time.
            self.wheel.arm(now + READ_AGAIN, Timer::CheckpointReadAgain);
            return;
        }
        self.ask_again_for_checkpoint();
        match bytes.map(super::read_back::message_from) {
            Some(Some(message)) => self.journal.write_again(&message),
            Some(None) => self.abandon_checkpoint(),
            None => {} // It is asked for again.
        }
    }

    /// Gives a checkpoint up that cannot be completed: what is there stays, and is enough.
    fn abandon_checkpoint(&mut self) {
        self.checkpoint.under_way = None;
        self.checkpoint.failed_at = Some(self.journal.offset() - self.checkpoint.start);
        self.events.push_back(super::event::Event::CheckpointAbandoned);
    }

    fn write_topics(&mut self, checkpoint: &mut Checkpoint, after: Option<Box<str>>) -> Stage {
        let messages = self.retained.after(after.as_deref(), TOPICS);
        let Some(last) = messages.last() else { return Stage::PutOff };
        let after = Some(last.topic().into());
        for message in messages.iter().filter(|message| message.kind != Kind::Volatile) {
            let topic = Entity::Topic(message.topic().into());
            if self.journal.is_unsettled(&topic) {
                checkpoint.put_off.push_back(topic);
            } else {
                self.journal.write_message(message);
                self.journal.append(&Record::Retained(message.publication));
            }
        }
        Stage::Topics { after }
    }

    fn write_put_off(&mut self, now: Moment, checkpoint: &mut Checkpoint) -> Stage {
        let Some(entity) = checkpoint.put_off.pop_front() else {
            let (own, foreign) = self.journal.open_transactions(self.peers.newest_stored());
            return Stage::Settling { own, foreign };
        };
        if self.journal.is_unsettled(&entity) {
            checkpoint.put_off.push_front(entity);
            return Stage::PutOff;
        }
        match entity {
            Entity::Session(key) => {
                let Some(session) = self.sessions.resolve(key) else { return Stage::PutOff };
                self.write_session(now, session);
                let last = self.sessions.get(session).map_or(Place::default(), |owner| owner.outgoing.last_place());
                Stage::Queue { next: None, key, place: Place::default(), last }
            }
            Entity::Topic(topic) => {
                if let Some(message) = self.retained.get(&topic).filter(|message| message.kind != Kind::Volatile) {
                    self.journal.write_message(&message);
                    self.journal.append(&Record::Retained(message.publication));
                }
                Stage::PutOff
            }
        }
    }
}

/// When the connection of a Session closed that has none.
fn closed_at(session: &crate::session::Session, now: Moment) -> Moment {
    let by_expiry = session.ends.zip(session.expiry.duration()).map(|(ends, expiry)| ends.back(expiry));
    let by_will = match &session.will {
        WillState::Pending { closing, .. } | WillState::Due { closing, .. } => Some(closing.at),
        WillState::None | WillState::Armed(_) => None,
    };
    by_expiry.or(by_will).unwrap_or(now)
}

fn write_in_flight(journal: &mut super::journal::Journal, session: SessionNumber, in_flight: &InFlight) {
    let packet_id = Some(in_flight.packet_id());
    let record = match &in_flight.sending {
        Sending::AwaitPuback(delivery) | Sending::AwaitPubrec(delivery) => {
            journal.write_message(&delivery.message);
            QueuedRecord {
                session,
                place: in_flight.place,
                publication: delivery.message.publication,
                qos: delivery.qos,
                retain: delivery.retain,
                subscription_ids: delivery.subscription_ids.as_slice().into(),
                shared: delivery.shared.as_ref().map(|key| (&*key.group, key.filter.as_str())),
                packet_id,
                is_released: false,
                queued: Moment::ZERO,
            }
        }
        Sending::AwaitPubcomp => QueuedRecord {
            session,
            place: in_flight.place,
            publication: Publication::default(),
            qos: crate::codec::QoS::ExactlyOnce,
            retain: false,
            subscription_ids: (&[][..]).into(),
            shared: None,
            packet_id,
            is_released: true,
            queued: Moment::ZERO,
        },
    };
    journal.append(&Record::Queued(record));
}

fn waiting_record(session: SessionNumber, waiting: &Waiting) -> QueuedRecord<'_> {
    QueuedRecord {
        session,
        place: waiting.place,
        publication: waiting.body.publication(),
        qos: waiting.qos,
        retain: waiting.retain,
        subscription_ids: waiting.subscription_ids.as_slice().into(),
        shared: waiting.shared.as_ref().map(|key: &Arc<_>| (&*key.group, key.filter.as_str())),
        packet_id: None,
        is_released: false,
        queued: waiting.queued,
    }
}
