//! Deliveries of one Session that wait to be sent.
//!
//! A queue is bounded, alone and together with those of all other Sessions. Where the journal has the messages, too, only the first of a
//! long queue stay in memory; of the others a queue holds what is needed to read them back.

use super::message::{Delivery, Kind, Message, Publication, SharedKey, SubscriptionIds};
use crate::codec::QoS;
use crate::timer::Moment;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A delivery's place in the line of its Session; ascending, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Place(pub u64);

/// Why a delivery was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFull {
    /// `sessions.queue_messages_max` or `sessions.queues_messages_max` is reached.
    Messages,
    /// `sessions.queue_bytes_max` or `sessions.queues_bytes_max` is reached.
    Bytes,
}

/// Why a delivery left the queue without being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Its Message Expiry Interval has passed. [MQTT-3.3.2-5]
    Expired,
    /// It has waited for `sessions.queue_age_max`.
    TooOld,
    /// A newer one needed its room. (`sessions.queue_drop = "oldest"`)
    Displaced,
}

/// A delivery that left the queue without being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Its place.
    pub place: Place,
    /// What it would have delivered.
    pub publication: Publication,
    /// Why.
    pub why: Lost,
}

/// How much waits in queues. Wills are not counted: their memory is the armed will's own, shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages.
    pub messages: usize,
    /// Bytes of the messages.
    pub bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn subtract(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

/// Bounds of queues, beside what each [`Arrival`] brings along as that of its own.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Of all Sessions of a shard.
    pub all: Load,
    /// How long a delivery may wait.
    pub age_max: Option<Duration>,
    /// Whether the oldest makes room for a new one, instead of the new one being dropped.
    pub drops_oldest: bool,
    /// Bytes of one queue that stay in memory where the journal has them, too.
    pub memory_bytes_max: usize,
}

/// What the queues of a shard share: their bounds, their load, and who was dropped.
#[derive(Debug)]
pub struct Queues {
    /// The bounds.
    pub limits: QueueLimits,
    /// What waits in all of them.
    pub load: Load,
    /// Deliveries that were dropped and not yet accounted for.
    pub dropped: Vec<Dropped>,
}

impl Queues {
    /// Empty ones.
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, load: Load::default(), dropped: Vec::new() }
    }
}

/// A delivery that is about to wait.
#[derive(Debug)]
pub struct Arrival {
    /// What.
    pub delivery: Delivery,
    /// Since when it waits.
    pub queued: Moment,
    /// The journal has the message, so it need not stay in memory.
    pub is_stored: bool,
    /// What may wait in this queue.
    pub queue_max: Load,
    /// The bounds do not apply: its flow is controlled elsewhere, or it was accepted before.
    pub is_admitted: bool,
}

/// Where a message is that waits in a queue.
#[derive(Debug, Clone)]
pub enum Body {
    /// In memory.
    Here(Arc<Message>),
    /// In the journal alone.
    Away(Away),
}

/// What is known of a message that lies in the journal.
#[derive(Debug, Clone, Copy)]
pub struct Away {
    /// Which publication it is.
    pub publication: Publication,
    /// When it expires.
    pub expires: Option<Moment>,
    /// Its size in memory. (4 GiB are out of reach for a packet.)
    pub size: u32,
    /// Ordinary, or a will.
    pub kind: Kind,
    /// It was asked for.
    pub is_asked_for: bool,
}

impl Body {
    /// Which publication it is.
    pub fn publication(&self) -> Publication {
        match self {
            Self::Here(message) => message.publication,
            Self::Away(away) => away.publication,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Here(message) => message.kind,
            Self::Away(away) => away.kind,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Here(message) => message.size(),
            Self::Away(away) => away.size as usize,
        }
    }

    fn expires(&self) -> Option<Moment> {
        match self {
            Self::Here(message) => message.expires,
            Self::Away(away) => away.expires,
        }
    }
}

/// A delivery that waits to be sent.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its place in the line.
    pub place: Place,
    /// Since when it waits.
    pub queued: Moment,
    /// The message.
    pub body: Body,
    /// As in [`Delivery`].
    pub qos: QoS,
    /// As in [`Delivery`].
    pub retain: bool,
    /// As in [`Delivery`].
    pub subscription_ids: SubscriptionIds,
    /// As in [`Delivery`].
    pub shared: Option<Arc<SharedKey>>,
}

impl Waiting {
    /// A delivery that has arrived, at its place.
    pub fn new(place: Place, arrival: Arrival) -> Self {
        let Delivery { message, qos, retain, subscription_ids, shared } = arrival.delivery;
        let body = Body::Here(message);
        Self { place, queued: arrival.queued, body, qos, retain, subscription_ids, shared }
    }

    /// The delivery, where its message is in memory.
    pub fn into_delivery(self) -> Option<Delivery> {
        let Self { body, qos, retain, subscription_ids, shared, .. } = self;
        match body {
            Body::Here(message) => Some(Delivery { message, qos, retain, subscription_ids, shared }),
            Body::Away(_) => None,
        }
    }

    fn is_counted(&self) -> bool {
        self.body.kind() != Kind::Will
    }

    fn lost(&self, now: Moment, limits: &QueueLimits) -> Option<Lost> {
        if self.body.expires().is_some_and(|expires| expires <= now) {
            return Some(Lost::Expired);
        }
        // A will is never dropped for its age: it is what the watcher came for.
        let is_too_old = self.is_counted() && limits.age_max.is_some_and(|max| self.queued + max <= now);
        is_too_old.then_some(Lost::TooOld)
    }
}

/// What stands first in the line.
#[derive(Debug)]
pub enum Next {
    /// A delivery to be put in flight with [`OutgoingDeliveries::begin`](super::outgoing::OutgoingDeliveries::begin).
    Delivery(Place, Delivery),
    /// A message that must be read back from the journal first.
    Away,
    /// Nothing may be sent now.
    Nothing,
}

/// The line of one Session.
#[derive(Debug, Default)]
pub struct Queue {
    /// In the order of places.
    line: VecDeque<Waiting>,
    load: Load,
    /// Bytes of the messages that are in memory, wills included.
    memory_bytes: usize,
}

impl Queue {
    /// Number of deliveries.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// What counts towards its bounds, which wills do not.
    pub fn load(&self) -> Load {
        self.load
    }

    /// Since when the first of them has waited.
    pub fn oldest(&self) -> Option<Moment> {
        self.line.front().map(|waiting| waiting.queued)
    }

    /// Bytes of its messages that are in memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Deliveries from `place` on.
    pub fn from(&self, place: Place) -> impl Iterator<Item = &Waiting> {
        let start = self.line.partition_point(|waiting| waiting.place < place);
        self.line.range(start..)
    }

    /// Puts a delivery at the end of the line. `is_stored`: the journal has the message.
    pub fn push(&mut self, mut waiting: Waiting, is_stored: bool, queues: &mut Queues) {
        let size = waiting.body.size();
        if waiting.is_counted() {
            self.load.add(size);
            queues.load.add(size);
        }
        if let Body::Here(message) = &waiting.body {
            if is_stored && self.memory_bytes + size > queues.limits.memory_bytes_max {
                waiting.body = Body::Away(away(message));
            } else {
                self.memory_bytes += size;
            }
        }
        self.line.push_back(waiting);
    }

    /// Drops what has to go before a message of `size` bytes may come in, or says why it may not. `max` is what may wait here.
    pub fn make_room(&mut self, now: Moment, size: usize, max: Load, queues: &mut Queues) -> Result<(), QueueFull> {
        if self.full(size, max, queues).is_some() {
            self.drop_lost(now, queues);
        }
        while let Some(full) = self.full(size, max, queues) {
            let oldest = self.line.iter().position(Waiting::is_counted).filter(|_| queues.limits.drops_oldest);
            let Some(waiting) = oldest.and_then(|at| self.line.remove(at)) else { return Err(full) };
            self.lose(&waiting, Lost::Displaced, queues);
        }
        Ok(())
    }

    fn full(&self, size: usize, max: Load, queues: &Queues) -> Option<QueueFull> {
        let bounds = [(self.load, max), (queues.load, queues.limits.all)];
        if bounds.iter().any(|(load, max)| load.messages >= max.messages) {
            Some(QueueFull::Messages)
        } else if bounds.iter().any(|(load, max)| load.bytes + size > max.bytes) {
            Some(QueueFull::Bytes)
        } else {
            None
        }
    }

    /// Takes the first delivery out, expired ones passed over [MQTT-3.3.2-5]; what lies in the journal stays until it is read back.
    pub fn next(&mut self, now: Moment, queues: &mut Queues) -> Next {
        while let Some(first) = self.line.front() {
            let lost = first.lost(now, &queues.limits);
            if lost.is_none() && matches!(first.body, Body::Away(_)) {
                return Next::Away;
            }
            let Some(first) = self.line.pop_front() else { break };
            if self.line.is_empty() {
                self.line.shrink_to(32); // A long absence must not leave its queue's memory behind.
            }
            if let Some(why) = lost {
                self.lose(&first, why, queues);
                continue;
            }
            self.forget(&first, queues);
            let place = first.place;
            if let Some(delivery) = first.into_delivery() {
                return Next::Delivery(place, delivery);
            }
        }
        Next::Nothing
    }

    /// Messages at the front of the line that must be read back and were not asked for: at most `at_most` of them, and `bytes_max` bytes
    /// but at least one, counting those that are on their way.
    pub fn ask_for_away(&mut self, at_most: usize, bytes_max: usize, mut ask: impl FnMut(Place, Publication)) {
        let mut bytes = 0;
        for waiting in self.line.iter_mut().take(at_most) {
            let size = waiting.body.size();
            if bytes > 0 && bytes + size > bytes_max {
                return;
            }
            bytes += size;
            if let Body::Away(away) = &mut waiting.body
                && !std::mem::replace(&mut away.is_asked_for, true)
            {
                ask(waiting.place, away.publication);
            }
        }
    }

    /// A message was read back; nothing where its delivery does not wait any more.
    pub fn come_back(&mut self, place: Place, message: Arc<Message>) {
        let Some(at) = self.index_of(place) else { return };
        if matches!(self.line[at].body, Body::Away(_)) {
            self.memory_bytes += message.size();
            self.line[at].body = Body::Here(message);
        }
    }

    /// A message could not be read back now, and may be asked for again.
    pub fn stay_away(&mut self, place: Place) {
        if let Some(at) = self.index_of(place)
            && let Body::Away(away) = &mut self.line[at].body
        {
            away.is_asked_for = false;
        }
    }

    /// Takes a waiting delivery out of the line that can never be sent.
    pub fn remove(&mut self, place: Place, queues: &mut Queues) -> Option<Waiting> {
        let waiting = self.index_of(place).and_then(|at| self.line.remove(at))?;
        self.forget(&waiting, queues);
        Some(waiting)
    }

    fn index_of(&self, place: Place) -> Option<usize> {
        self.line.binary_search_by_key(&place, |waiting| waiting.place).ok()
    }

    fn forget(&mut self, waiting: &Waiting, queues: &mut Queues) {
        let size = waiting.body.size();
        if waiting.is_counted() {
            self.load.subtract(size);
            queues.load.subtract(size);
        }
        if matches!(waiting.body, Body::Here(_)) {
            self.memory_bytes -= size;
        }
    }

    fn lose(&mut self, waiting: &Waiting, why: Lost, queues: &mut Queues) {
        self.forget(waiting, queues);
        queues.dropped.push(Dropped { place: waiting.place, publication: waiting.body.publication(), why });
    }

    /// Drops what has expired or has waited too long.
    pub fn drop_lost(&mut self, now: Moment, queues: &mut Queues) {
        let limits = queues.limits;
        if !self.line.iter().any(|waiting| waiting.lost(now, &limits).is_some()) {
            return;
        }
        for waiting in std::mem::take(&mut self.line) {
            match waiting.lost(now, &limits) {
                Some(why) => self.lose(&waiting, why, queues),
                None => self.line.push_back(waiting),
            }
        }
    }

    /// Takes everything out.
    pub fn take_all(&mut self, queues: &mut Queues) -> Vec<Waiting> {
        let line: Vec<Waiting> = std::mem::take(&mut self.line).into();
        for waiting in &line {
            self.forget(waiting, queues);
        }
        line
    }
}

fn away(message: &Message) -> Away {
    Away {
        publication: message.publication,
        expires: message.expires,
        size: u32::try_from(message.size()).unwrap_or(u32::MAX),
        kind: message.kind,
        is_asked_for: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Forwarded;
    use crate::session::message::Parts;
    use crate::session::outgoing::OutgoingDeliveries;

    const UNBOUNDED: Load = Load { messages: usize::MAX, bytes: usize::MAX };
    const TWO_MESSAGES: Load = Load { messages: 2, bytes: usize::MAX };

    fn limits() -> QueueLimits {
        QueueLimits { all: UNBOUNDED, age_max: None, drops_oldest: false, memory_bytes_max: usize::MAX }
    }

    fn delivery(qos: QoS, kind: Kind) -> Delivery {
        let parts = Parts { topic: "t", forwarded: Forwarded::default(), payload: b"p" };
        let message = Arc::new(Message::new(parts, qos, false, kind));
        Delivery { message, qos, retain: false, subscription_ids: SubscriptionIds::None, shared: None }
    }

    fn arrival(kind: Kind) -> Arrival {
        let delivery = delivery(QoS::AtLeastOnce, kind);
        Arrival { delivery, queued: Moment::ZERO, is_stored: true, queue_max: UNBOUNDED, is_admitted: false }
    }

    fn places(outgoing: &OutgoingDeliveries) -> Vec<u64> {
        outgoing.queue().from(Place(0)).map(|waiting| waiting.place.0).collect()
    }

    #[test]
    fn the_queue_is_bounded_for_messages_and_open_for_wills() {
        let mut queues = Queues::new(limits());
        let arrival = |kind| Arrival { queue_max: TWO_MESSAGES, ..arrival(kind) };
        let mut outgoing = OutgoingDeliveries::default();
        for _ in 0..2 {
            assert!(outgoing.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues).is_ok());
        }
        let full = outgoing.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues);
        assert_eq!(full, Err(QueueFull::Messages));
        for _ in 0..1000 {
            assert!(outgoing.enqueue(Moment::ZERO, arrival(Kind::Will), &mut queues).is_ok());
        }
        for _ in 0..1002 {
            assert!(matches!(outgoing.next(Moment::ZERO, 1, &mut queues), Next::Delivery(..)));
        }
        assert_eq!(queues.load, Load::default());
        assert!(outgoing.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues).is_ok());
    }

    #[test]
    fn the_oldest_messages_make_room_where_that_is_asked_for_and_wills_stay() {
        let mut queues = Queues::new(QueueLimits { drops_oldest: true, ..limits() });
        let arrival = |kind| Arrival { queue_max: TWO_MESSAGES, ..arrival(kind) };
        let mut outgoing = OutgoingDeliveries::default();
        for kind in [Kind::Will, Kind::Ordinary, Kind::Ordinary, Kind::Ordinary] {
            assert!(outgoing.enqueue(Moment::ZERO, arrival(kind), &mut queues).is_ok());
        }
        assert_eq!(places(&outgoing), [1, 3, 4]);
        let dropped: Vec<_> = queues.dropped.iter().map(|dropped| (dropped.place.0, dropped.why)).collect();
        assert_eq!(dropped, [(2, Lost::Displaced)]);
    }

    #[test]
    fn all_queues_together_are_bounded() {
        let all = Load { messages: 3, bytes: usize::MAX };
        let mut queues = Queues::new(QueueLimits { all, ..limits() });
        let (mut one, mut other) = (OutgoingDeliveries::default(), OutgoingDeliveries::default());
        for _ in 0..2 {
            assert!(one.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues).is_ok());
        }
        assert!(other.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues).is_ok());
        let full = other.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues);
        assert_eq!(full, Err(QueueFull::Messages));
        one.take_all(&mut queues);
        assert_eq!(queues.load.messages, 1);
        assert!(other.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues).is_ok());
    }

    #[test]
    fn messages_that_have_waited_too_long_are_passed_over() {
        let mut queues = Queues::new(QueueLimits { age_max: Some(Duration::from_secs(10)), ..limits() });
        let mut outgoing = OutgoingDeliveries::default();
        let late = Moment::ZERO + Duration::from_secs(10);
        let young = Arrival { queued: late, ..arrival(Kind::Ordinary) };
        for arrival in [arrival(Kind::Ordinary), arrival(Kind::Will), young] {
            assert!(outgoing.enqueue(Moment::ZERO, arrival, &mut queues).is_ok());
        }
        let mut next = || match outgoing.next(late, 9, &mut queues) {
            Next::Delivery(place, _) => place.0,
            other => panic!("{other:?}"),
        };
        assert_eq!((next(), next()), (2, 3));
        assert_eq!(queues.dropped[0].why, Lost::TooOld);
    }

    #[test]
    fn a_long_queue_lies_in_the_journal_and_comes_back_in_order() {
        let size = delivery(QoS::AtLeastOnce, Kind::Ordinary).message.size();
        let mut queues = Queues::new(QueueLimits { memory_bytes_max: 2 * size, ..limits() });
        let mut outgoing = OutgoingDeliveries::default();
        for _ in 0..6 {
            assert!(outgoing.enqueue(Moment::ZERO, arrival(Kind::Ordinary), &mut queues).is_ok());
        }
        assert_eq!(outgoing.queue().memory_bytes(), 2 * size);
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(1), _)));
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(2), _)));
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Away));
        let mut asked = Vec::new();
        outgoing.queue_mut().ask_for_away(3, usize::MAX, |place, _| asked.push(place));
        outgoing.queue_mut().ask_for_away(3, usize::MAX, |place, _| panic!("{place:?} was asked for already"));
        assert_eq!(asked, [Place(3), Place(4), Place(5)]);
        // They come in another order; the line keeps its own.
        for place in [Place(4), Place(3)] {
            outgoing.queue_mut().come_back(place, delivery(QoS::AtLeastOnce, Kind::Ordinary).message);
        }
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(3), _)));
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(4), _)));
        outgoing.queue_mut().stay_away(Place(5));
        outgoing.queue_mut().ask_for_away(1, usize::MAX, |place, _| asked.push(place));
        assert_eq!(asked.last(), Some(&Place(5)));
        outgoing.take_all(&mut queues);
        assert_eq!((outgoing.queue().memory_bytes(), queues.load), (0, Load::default()));
    }
}
