//! Turns the state that a replay leaves into what the shard takes, and reads the messages that are still needed.

use super::reader::SegmentReader;
use super::state::{Held, Key, SessionState, State, WillLine, key};
use super::{
    Files, JournalError, Limits, Problem, Recovered, RecoveredDelivery, RecoveredSession, RecoveredWill, Scan,
    StoredMessage,
};
use crate::codec::Forwarded;
use crate::journal::encoding::{Malformed, decode};
use crate::journal::frame::Extent;
use crate::journal::record::{MessageRecord, Record, SessionNumber};
use crate::session::message::{Message, Parts, Publication};
use crate::session::will::Will;
use ahash::{AHashMap, AHashSet};
use std::sync::Arc;

/// The message that a record holds, as a shard keeps it.
pub fn message_of(record: &MessageRecord<'_>) -> Message {
    let parts =
        Parts { topic: record.topic, forwarded: Forwarded::from_encoded(record.forwarded), payload: record.payload };
    let mut message = Message::new(parts, record.qos, record.retain, record.kind);
    message.expires = record.expires;
    message.publication = record.publication;
    message.author = record.author;
    message
}

/// What is read again.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Message(Key),
    Will(SessionNumber),
}

/// What a replay has left, with its messages as far as `limits` allow.
pub(super) fn load(files: &dyn Files, scan: &Scan, state: State, limits: Limits) -> Result<Recovered, JournalError> {
    let mut loader = Loader { files, scan, reader: None, messages: AHashMap::new(), wills: AHashMap::new() };
    for (extent, wanted) in wanted(&state, limits) {
        loader.read(extent, wanted)?;
    }
    Ok(loader.finish(state))
}

/// What to read, by where it lies: retained messages and wills, what was in flight or may have to go to another member of a Shared
/// Subscription, and of the other queued messages the oldest that fit.
fn wanted(state: &State, limits: Limits) -> Vec<(Extent, Wanted)> {
    let lines = state.sessions.values().flat_map(|session| session.deliveries.values());
    let at_hand = lines.filter(|line| line.packet_id.is_some() || line.shared.is_some());
    let at_hand = at_hand.filter_map(|line| line.publication).map(key);
    let at_once: AHashSet<Key> = state.retained.values().copied().chain(at_hand).collect();
    let (needed, mut queued): (Vec<_>, Vec<_>) = state
        .messages
        .iter()
        .filter(|(_, held)| held.references > 0)
        .map(|(key, held)| (held.extent, *key, u64::from(held.size)))
        .partition(|(_, key, _)| at_once.contains(key));
    queued.sort_unstable_by_key(|(extent, ..)| extent.offset);
    let mut budget = limits.memory_budget;
    let fitting = queued.into_iter().take_while(|(.., size)| {
        let left = budget.checked_sub(*size);
        budget = left.unwrap_or(budget);
        left.is_some()
    });
    let messages = needed.into_iter().chain(fitting).map(|(extent, key, _)| (extent, Wanted::Message(key)));
    let wills = state.sessions.iter().filter_map(|(number, session)| {
        let will = session.will.as_ref()?;
        Some((will.extent, Wanted::Will(*number)))
    });
    let mut all: Vec<_> = messages.chain(wills).collect();
    all.sort_unstable_by_key(|(extent, _)| extent.offset);
    all
}

struct Loader<'a> {
    files: &'a dyn Files,
    scan: &'a Scan,
    reader: Option<(usize, SegmentReader<'a>)>,
    messages: AHashMap<Key, Arc<Message>>,
    wills: AHashMap<SessionNumber, Will>,
}

impl<'a> Loader<'a> {
    fn read(&mut self, extent: Extent, wanted: Wanted) -> Result<(), JournalError> {
        let parts = &self.scan.parts;
        let index = parts.partition_point(|part| part.end.offset <= extent.offset);
        let name = parts[index].name;
        let reader = match &mut self.reader {
            Some((open, reader)) if *open == index => reader,
            closed => &mut closed.insert((index, SegmentReader::open(self.files, name)?)).1,
        };
        let at = name.file_offset(extent.offset);
        let bytes = reader.bytes(at, extent.length as usize)?;
        let record = bytes.map_or(Err(Malformed::Truncated), |bytes| decode(bytes).map(|(record, _)| record));
        match (record, wanted) {
            (Ok(Record::Message(message)), Wanted::Message(key)) => {
                self.messages.insert(key, Arc::new(message_of(&message)));
                Ok(())
            }
            (Ok(Record::WillArmed(will)), Wanted::Will(session)) => {
                let message = Arc::new(message_of(&will.message));
                let (delay_interval, message_expiry_interval) = (will.delay_interval, will.message_expiry_interval);
                self.wills.insert(session, Will { message, delay_interval, message_expiry_interval });
                Ok(())
            }
            (record, _) => {
                let malformed = record.err().unwrap_or(Malformed::Value);
                let problem = Problem::Record { offset: extent.offset, malformed };
                Err(JournalError { file: self.files.path(&name), at, problem })
            }
        }
    }

    fn finish(mut self, state: State) -> Recovered {
        let State { sessions, messages, retained, seen, orphans, .. } = state;
        let mut sessions: Vec<_> = sessions.into_values().map(|session| self.session(session, &messages)).collect();
        sessions.sort_unstable_by_key(|session| session.header.session);
        let mut retained: Vec<_> = retained.into_iter().collect();
        retained.sort_unstable();
        let retained = retained.into_iter().map(|(_, key)| self.stored(key, &messages[&key])).collect();
        Recovered {
            shard: self.scan.shard,
            position: self.scan.position,
            certain: self.scan.certain,
            tail: self.scan.tail.clone(),
            existing: self.scan.existing.clone(),
            sessions,
            retained,
            next_session: seen.next_session,
            publications: seen.published.get(&self.scan.shard).copied().unwrap_or(0),
            published: seen.published,
            stopped: seen.stopped,
            clock: seen.clock,
            orphans,
            torn_bytes: self.scan.torn_bytes,
            ..Recovered::default()
        }
    }

    fn session(&mut self, state: SessionState, messages: &AHashMap<Key, Held>) -> RecoveredSession {
        let will = state.will.map(|line| self.will(state.header.session, line));
        let deliveries = state.deliveries.into_iter().map(|(place, line)| RecoveredDelivery {
            place,
            message: line.publication.map(|publication| {
                let key = key(publication);
                self.stored(key, &messages[&key])
            }),
            is_released: line.publication.is_none(),
            qos: line.qos,
            retain: line.retain,
            subscription_ids: line.subscription_ids,
            shared: line.shared,
            packet_id: line.packet_id,
            queued: line.queued,
        });
        let deliveries = deliveries.collect();
        let subscriptions = state.subscriptions.into_iter();
        RecoveredSession {
            header: state.header,
            subscriptions: subscriptions.map(|(filter, (options, id))| (filter, options, id)).collect(),
            deliveries,
            received: state.received.into_iter().collect(),
            will,
        }
    }

    fn will(&mut self, session: SessionNumber, line: WillLine) -> RecoveredWill {
        let will = self.wills.remove(&session).expect("the wills were read");
        RecoveredWill { will, pending: line.pending }
    }

    fn stored(&self, (shard, sequence): Key, held: &Held) -> StoredMessage {
        StoredMessage {
            publication: Publication { shard, sequence },
            journal: self.scan.shard,
            extent: held.extent,
            size: held.size,
            kind: held.kind,
            expires: held.expires,
            message: self.messages.get(&(shard, sequence)).cloned(),
        }
    }
}
