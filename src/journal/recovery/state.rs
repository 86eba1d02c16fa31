//! The state that records add up to.
//!
//! Messages are kept by where they lie, without their payloads: most of those in a log have been delivered long since.

use super::OwnedSession;
use crate::codec::{PacketId, QoS, SubscriptionOptions};
use crate::journal::encoding::Malformed;
use crate::journal::frame::Extent;
use crate::journal::record::{MessageRecord, Place, QueuedRecord, Record, SessionNumber, SessionRecord};
use crate::session::message::{Kind, Message, Publication, SharedKey, SubscriptionIds};
use crate::session::will::Closing;
use crate::timer::Moment;
use crate::topic::TopicFilter;
use ahash::AHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A publication as a key: its shard and its number there.
pub(super) type Key = (u8, u64);

pub(super) fn key(publication: Publication) -> Key {
    (publication.shard, publication.sequence)
}

/// Everything that the records so far have said.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sessions: AHashMap<SessionNumber, SessionState>,
    pub(super) messages: AHashMap<Key, Held>,
    pub(super) retained: AHashMap<Box<str>, Key>,
    pub(super) seen: Seen,
    /// Records that refer to a message that is not there.
    pub(super) orphans: u64,
    /// Messages to which nothing refers since some record of the open frame.
    released: Vec<Key>,
    shared: AHashMap<Box<str>, Vec<Arc<SharedKey>>>,
}

/// What outlives the things that it was seen with.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) next_session: u64,
    pub(super) published: BTreeMap<u8, u64>,
    pub(super) clock: Moment,
    pub(super) stopped: Option<Moment>,
}

/// A message that exists.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) extent: Extent,
    pub(super) size: u32,
    pub(super) kind: Kind,
    pub(super) expires: Option<Moment>,
    pub(super) topic: Box<str>,
    /// How many deliveries and topics refer to it.
    pub(super) references: u32,
}

/// One Session.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) header: OwnedSession,
    pub(super) subscriptions: BTreeMap<Box<str>, (SubscriptionOptions, Option<u32>)>,
    pub(super) deliveries: BTreeMap<Place, Line>,
    pub(super) received: BTreeSet<PacketId>,
    pub(super) will: Option<WillLine>,
}

/// One delivery.
#[derive(Debug)]
pub(super) struct Line {
    /// `None`: its message is not needed any more.
    pub(super) publication: Option<Publication>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_ids: SubscriptionIds,
    pub(super) shared: Option<Arc<SharedKey>>,
    pub(super) packet_id: Option<PacketId>,
    pub(super) queued: Moment,
}

/// A will: its record is read again when it is known which of them remain.
#[derive(Debug)]
pub(super) struct WillLine {
    pub(super) extent: Extent,
    pub(super) pending: Option<(Moment, Closing)>,
}

impl State {
    /// A checkpoint begins that tells everything: what was so before is told again.
    pub(super) fn forget(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        *self = Self { seen, ..Self::default() };
    }

    /// Applies a record that lies at `extent` and counts.
    ///
    /// Inlined where it is called for every record of a journal.
    #[inline]
    pub(super) fn apply(&mut self, record: &Record<'_>, extent: Extent) -> Result<(), Malformed> {
        self.see(record);
        match record {
            Record::Session(header) => self.describe(header.into()),
            Record::SessionReset(session) | Record::SessionEnded(session) => self.end(*session),
            Record::Subscribed { session, filter, options, id } => self.with(*session, |state| {
                state.subscriptions.insert((*filter).into(), (*options, *id));
            }),
            Record::Unsubscribed { session, filter } => self.with(*session, |state| {
                state.subscriptions.remove(*filter);
            }),
            Record::Message(message) => return self.hold(message, extent),
            Record::Queued(queued) => return self.queue(queued),
            Record::Sent { session, place, packet_id } => self.with(*session, |state| {
                if let Some(line) = state.deliveries.get_mut(place) {
                    line.packet_id = Some(*packet_id);
                }
            }),
            Record::Released { session, place } => self.release(*session, *place),
            Record::Done { session, place } => self.done(*session, *place),
            Record::Received { session, packet_id } => self.with(*session, |state| {
                state.received.insert(*packet_id);
            }),
            Record::Completed { session, packet_id } => self.with(*session, |state| {
                state.received.remove(packet_id);
            }),
            Record::Retained(publication) => self.retain(*publication),
            Record::RetainedRemoved(topic) => {
                let removed = self.retained.remove(*topic);
                removed.into_iter().for_each(|key| self.let_go(key));
            }
            Record::WillArmed(will) => {
                check_topic(will.message.topic)?;
                self.with(will.session, |state| state.will = Some(WillLine { extent, pending: None }));
            }
            Record::WillPending { session, due, closing } => self.with(*session, |state| {
                if let Some(will) = &mut state.will {
                    will.pending = Some((*due, *closing));
                }
            }),
            Record::WillGone(session) => self.with(*session, |state| state.will = None),
            Record::Under(_)
            | Record::Unconditional
            | Record::Begun { .. }
            | Record::Part { .. }
            | Record::Complete(_)
            | Record::Void(_)
            | Record::CheckpointBegin
            | Record::CheckpointEnd
            | Record::Stopped(_)
            | Record::Clock(_) => {}
        }
        Ok(())
    }

    /// Takes note of what counts even if the record itself does not: numbers must not be given twice.
    #[inline]
    pub(super) fn see(&mut self, record: &Record<'_>) {
        let seen = &mut self.seen;
        seen.stopped = None; // Until it turns out to be the last word.
        match record {
            Record::Session(header) => {
                seen.next_session = seen.next_session.max(header.session.0.saturating_add(1));
                seen.has_passed(header.closed.unwrap_or_default());
            }
            Record::SessionReset(session) | Record::SessionEnded(session) => {
                seen.next_session = seen.next_session.max(session.0.saturating_add(1));
            }
            Record::Message(message) => seen.publication(message.publication),
            Record::Queued(queued) => {
                seen.publication(queued.publication);
                seen.has_passed(queued.queued);
            }
            Record::Retained(publication) => seen.publication(*publication),
            Record::WillPending { closing, .. } => seen.has_passed(closing.at),
            Record::Stopped(at) => {
                seen.has_passed(*at);
                seen.stopped = Some(*at);
            }
            Record::Clock(at) => seen.has_passed(*at),
            _ => {}
        }
    }

    /// A frame is over, so what nothing refers to now is not needed.
    pub(super) fn end_frame(&mut self) {
        for key in self.released.drain(..) {
            if self.messages.get(&key).is_some_and(|held| held.references == 0) {
                self.messages.remove(&key);
            }
        }
    }

    /// A record about a Session that is gone is about nothing.
    fn with(&mut self, session: SessionNumber, change: impl FnOnce(&mut SessionState)) {
        if let Some(state) = self.sessions.get_mut(&session) {
            change(state);
        }
    }

    /// Applies that the connection of a Session has closed. It makes no Session: the one that it belonged to may never have been.
    pub(super) fn close(&mut self, header: &SessionRecord<'_>) {
        self.see(&Record::Session(*header));
        self.with(header.session, |state| state.header = header.into());
    }

    fn describe(&mut self, header: OwnedSession) {
        match self.sessions.get_mut(&header.session) {
            Some(state) => state.header = header,
            None => {
                self.sessions.insert(header.session, SessionState::new(header));
            }
        }
    }

    fn end(&mut self, session: SessionNumber) {
        let state = self.sessions.remove(&session);
        let deliveries = state.into_iter().flat_map(|state| state.deliveries.into_values());
        deliveries.filter_map(|line| line.publication).for_each(|publication| self.let_go(key(publication)));
    }

    fn hold(&mut self, message: &MessageRecord<'_>, extent: Extent) -> Result<(), Malformed> {
        check_topic(message.topic)?;
        let bytes = message.topic.len() + message.forwarded.len() + message.payload.len() + size_of::<Message>();
        let held = Held {
            extent,
            size: u32::try_from(bytes).map_err(|_| Malformed::Number)?,
            kind: message.kind,
            expires: message.expires,
            topic: message.topic.into(),
            references: 0,
        };
        // A checkpoint writes it again; what refers to it stays.
        let references = self.messages.get(&key(message.publication)).map_or(0, |before| before.references);
        self.messages.insert(key(message.publication), Held { references, ..held });
        Ok(())
    }

    fn queue(&mut self, queued: &QueuedRecord<'_>) -> Result<(), Malformed> {
        if !self.sessions.contains_key(&queued.session) {
            return Ok(());
        }
        let publication = (!queued.is_released).then_some(queued.publication);
        if let Some(publication) = publication
            && !self.refer(key(publication))
        {
            return Ok(());
        }
        let ids: Vec<u32> = queued.subscription_ids.iter().collect();
        let line = Line {
            publication,
            qos: queued.qos,
            retain: queued.retain,
            subscription_ids: ids.as_slice().into(),
            shared: queued.shared.map(|(group, filter)| self.shared(group, filter)).transpose()?,
            packet_id: queued.packet_id,
            queued: queued.queued,
        };
        let state = self.sessions.get_mut(&queued.session).expect("the Session was there");
        let before = state.deliveries.insert(queued.place, line);
        before.and_then(|line| line.publication).into_iter().for_each(|publication| self.let_go(key(publication)));
        Ok(())
    }

    fn release(&mut self, session: SessionNumber, place: Place) {
        let line = self.sessions.get_mut(&session).and_then(|state| state.deliveries.get_mut(&place));
        let publication = line.and_then(|line| line.publication.take());
        publication.into_iter().for_each(|publication| self.let_go(key(publication)));
    }

    fn done(&mut self, session: SessionNumber, place: Place) {
        let line = self.sessions.get_mut(&session).and_then(|state| state.deliveries.remove(&place));
        let publication = line.and_then(|line| line.publication);
        publication.into_iter().for_each(|publication| self.let_go(key(publication)));
    }

    fn retain(&mut self, publication: Publication) {
        let key = key(publication);
        if !self.refer(key) {
            return;
        }
        let topic = self.messages[&key].topic.clone();
        let before = self.retained.insert(topic, key);
        before.into_iter().for_each(|key| self.let_go(key));
    }

    /// Something refers to a message. Answers whether there is such a message.
    fn refer(&mut self, key: Key) -> bool {
        match self.messages.get_mut(&key) {
            Some(held) => held.references += 1,
            None => self.orphans += 1,
        }
        self.messages.contains_key(&key)
    }

    /// Something refers to a message no more. Perhaps the next record does, so it stays until the frame is over.
    fn let_go(&mut self, key: Key) {
        let Some(held) = self.messages.get_mut(&key) else { return };
        held.references -= 1;
        if held.references == 0 {
            self.released.push(key);
        }
    }

    /// The name of a Shared Subscription, one for all that came through it.
    fn shared(&mut self, group: &str, filter: &str) -> Result<Arc<SharedKey>, Malformed> {
        if let Some(known) = self.shared.get(filter)
            && let Some(known) = known.iter().find(|known| *known.group == *group)
        {
            return Ok(Arc::clone(known));
        }
        let parsed = TopicFilter::parse(filter).map_err(|_| Malformed::Value)?;
        let made = Arc::new(SharedKey { group: group.into(), filter: parsed });
        self.shared.entry(filter.into()).or_default().push(Arc::clone(&made));
        Ok(made)
    }
}

impl SessionState {
    fn new(header: OwnedSession) -> Self {
        Self {
            header,
            subscriptions: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            received: BTreeSet::new(),
            will: None,
        }
    }
}

impl Seen {
    fn publication(&mut self, publication: Publication) {
        let highest = self.published.entry(publication.shard).or_default();
        *highest = publication.sequence.max(*highest);
    }

    fn has_passed(&mut self, moment: Moment) {
        self.clock = self.clock.max(moment);
    }
}

/// A message holds the length of its topic in two bytes, as MQTT does.
fn check_topic(topic: &str) -> Result<(), Malformed> {
    if topic.len() <= usize::from(u16::MAX) { Ok(()) } else { Err(Malformed::Value) }
}
