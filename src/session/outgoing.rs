//! The sending half of a Session: what is in flight to the client, and what waits behind it.

use super::message::{Delivery, Kind, Message, Publication, SharedKey, SubscriptionIds};
use crate::codec::{PacketId, QoS, ReasonCode};
use crate::timer::Moment;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One delivery with a Packet Identifier (§4.3.2, §4.3.3).
///
/// ```text
/// PUBLISH, QoS 1 ─▶ AwaitPuback ─PUBACK─▶ done
/// PUBLISH, QoS 2 ─▶ AwaitPubrec ─PUBREC─▶ AwaitPubcomp ─PUBCOMP─▶ done
///                        └──── PUBREC, Reason Code ≥ 0x80 ────▶ done
/// ```
#[derive(Debug)]
pub enum Sending {
    /// A reconnect re-sends the message. [MQTT-4.4.0-1]
    AwaitPuback(Delivery),
    /// A reconnect re-sends the message. [MQTT-4.4.0-1]
    AwaitPubrec(Delivery),
    /// The receiver owns the message, so only PUBREL is re-sent. [MQTT-4.3.3-6]
    AwaitPubcomp,
}

impl Sending {
    /// The delivery that still holds a message.
    pub fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::AwaitPuback(delivery) | Self::AwaitPubrec(delivery) => Some(delivery),
            Self::AwaitPubcomp => None,
        }
    }
}

/// What an acknowledgement from the client turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The delivery is over and its Packet Identifier free.
    Done,
    /// The delivery goes on: answer with PUBREL.
    Release,
    /// No delivery with this Packet Identifier is in flight.
    Unknown,
    /// There is one, but it awaits another packet: the client broke the protocol.
    Unexpected,
}

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

/// Bounds of queues.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Of one Session.
    pub each: Load,
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
    fn new(place: Place, arrival: Arrival) -> Self {
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
        self.body.kind() == Kind::Ordinary
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
    /// A delivery to be put in flight with [`OutgoingDeliveries::begin`].
    Delivery(Place, Delivery),
    /// A message that must be read back from the journal first.
    Away,
    /// Nothing may be sent now.
    Nothing,
}

/// A delivery in flight.
#[derive(Debug)]
pub struct InFlight {
    /// The low 16 bits are the Packet Identifier.
    serial: u64,
    /// Its place in the line.
    pub place: Place,
    /// How far it has come.
    pub sending: Sending,
}

impl InFlight {
    /// Its Packet Identifier.
    pub fn packet_id(&self) -> PacketId {
        packet_id(self.serial)
    }
}

/// Deliveries of QoS 1 and 2 to one client.
///
/// Packet Identifiers are given in ascending order, so the one acknowledged next is nearly always the oldest.
#[derive(Debug, Default)]
pub struct OutgoingDeliveries {
    /// In the order of sending.
    in_flight: VecDeque<InFlight>,
    /// How many of those in flight, the newest, were not yet sent again on the connection that resumed the Session.
    unsent: usize,
    /// In the order of places.
    queue: VecDeque<Waiting>,
    load: Load,
    /// Bytes of queued messages that are in memory, wills included.
    memory_bytes: usize,
    last_serial: u64,
    last_place: u64,
}

fn packet_id(serial: u64) -> PacketId {
    PacketId::new(serial as u16).expect("serials whose low 16 bits are zero are never given")
}

impl OutgoingDeliveries {
    /// Deliveries that were sent and are not acknowledged, in the order of sending.
    pub fn in_flight(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter()
    }

    /// Deliveries that wait, from `place` on.
    pub fn waiting_from(&self, place: Place) -> impl Iterator<Item = &Waiting> {
        let start = self.queue.partition_point(|waiting| waiting.place < place);
        self.queue.range(start..)
    }

    /// The place that the newest delivery got.
    pub fn last_place(&self) -> Place {
        Place(self.last_place)
    }

    /// Number of deliveries in flight.
    pub fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }

    /// Number of deliveries that wait to be sent.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of waiting messages that are in memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether deliveries wait to be sent, or to be sent again.
    pub fn has_waiting(&self) -> bool {
        self.unsent > 0 || !self.queue.is_empty()
    }

    /// Whether a delivery could be sent at once, overtaking nobody. [MQTT-4.6.0-5]
    pub fn is_open(&self, window: u16) -> bool {
        self.queue.is_empty() && self.unsent == 0 && self.in_flight.len() < usize::from(window)
    }

    /// A new Network Connection has resumed the Session: all that is in flight must be sent again. [MQTT-4.4.0-1]
    pub fn resume(&mut self) {
        self.unsent = self.in_flight.len();
    }

    /// The next delivery to send again, in the original order, while the client's window has room for it. [MQTT-3.3.4-9]
    pub fn next_unsent(&mut self, window: u16) -> Option<&InFlight> {
        let at = self.in_flight.len() - self.unsent;
        if self.unsent == 0 || at >= usize::from(window) {
            return None;
        }
        self.unsent -= 1;
        self.in_flight.get(at)
    }

    /// Gives up a delivery in flight that the client can never take.
    pub fn abandon(&mut self, id: PacketId) {
        if let Some(at) = self.position(id) {
            self.finish(at);
        }
    }

    /// The place for a new delivery, behind all others.
    pub fn give_place(&mut self) -> Place {
        self.last_place += 1;
        Place(self.last_place)
    }

    /// Puts a delivery in flight and names it.
    ///
    /// # Panics
    /// Where the window was not respected and all 65,535 Packet Identifiers are in use.
    pub fn begin(&mut self, place: Place, delivery: Delivery) -> PacketId {
        let serial = self.free_serial();
        let sending = match delivery.qos {
            QoS::ExactlyOnce => Sending::AwaitPubrec(delivery),
            QoS::AtMostOnce | QoS::AtLeastOnce => Sending::AwaitPuback(delivery),
        };
        self.in_flight.push_back(InFlight { serial, place, sending });
        packet_id(serial)
    }

    /// Puts back in flight what a journal says was in flight, in the order of sending. [MQTT-4.4.0-1]
    pub fn restore_in_flight(&mut self, place: Place, id: PacketId, sending: Sending) {
        let round = self.last_serial & !0xFFFF;
        let serial = round | u64::from(id.get());
        self.last_serial = if serial > self.last_serial { serial } else { serial + 0x1_0000 };
        self.last_place = self.last_place.max(place.0);
        self.in_flight.push_back(InFlight { serial: self.last_serial, place, sending });
    }

    /// Puts back in the line what a journal says was waiting, in its order.
    pub fn restore_waiting(&mut self, waiting: Waiting, queues: &mut Queues) {
        self.last_place = self.last_place.max(waiting.place.0);
        self.push(waiting, true, queues);
    }

    /// No place up to this one is given again.
    pub fn skip_places(&mut self, up_to: Place) {
        self.last_place = self.last_place.max(up_to.0);
    }

    /// Queues a delivery behind those that wait already; its place.
    pub fn enqueue(&mut self, now: Moment, arrival: Arrival, queues: &mut Queues) -> Result<Place, QueueFull> {
        if arrival.delivery.message.kind == Kind::Ordinary && !arrival.is_admitted {
            self.make_room(now, arrival.delivery.message.size(), queues)?;
        }
        let place = self.give_place();
        let is_stored = arrival.is_stored;
        self.push(Waiting::new(place, arrival), is_stored, queues);
        Ok(place)
    }

    fn push(&mut self, mut waiting: Waiting, is_stored: bool, queues: &mut Queues) {
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
        self.queue.push_back(waiting);
    }

    fn make_room(&mut self, now: Moment, size: usize, queues: &mut Queues) -> Result<(), QueueFull> {
        if self.full(size, queues).is_some() {
            self.drop_lost(now, queues);
        }
        while let Some(full) = self.full(size, queues) {
            let oldest = self.queue.iter().position(Waiting::is_counted).filter(|_| queues.limits.drops_oldest);
            let Some(waiting) = oldest.and_then(|at| self.queue.remove(at)) else { return Err(full) };
            self.lose(&waiting, Lost::Displaced, queues);
        }
        Ok(())
    }

    fn full(&self, size: usize, queues: &Queues) -> Option<QueueFull> {
        let bounds = [(self.load, queues.limits.each), (queues.load, queues.limits.all)];
        if bounds.iter().any(|(load, max)| load.messages >= max.messages) {
            Some(QueueFull::Messages)
        } else if bounds.iter().any(|(load, max)| load.bytes + size > max.bytes) {
            Some(QueueFull::Bytes)
        } else {
            None
        }
    }

    /// The next delivery that may be sent, expired ones passed over. [MQTT-3.3.2-5]
    pub fn next(&mut self, now: Moment, window: u16, queues: &mut Queues) -> Next {
        while self.unsent == 0 && self.in_flight.len() < usize::from(window) {
            let Some(first) = self.queue.front() else { break };
            let lost = first.lost(now, &queues.limits);
            if lost.is_none() && matches!(first.body, Body::Away(_)) {
                return Next::Away;
            }
            let Some(first) = self.queue.pop_front() else { break };
            if self.queue.is_empty() {
                self.queue.shrink_to(32); // A long absence must not leave its queue's memory behind.
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
        for waiting in self.queue.iter_mut().take(at_most) {
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
        if matches!(self.queue[at].body, Body::Away(_)) {
            self.memory_bytes += message.size();
            self.queue[at].body = Body::Here(message);
        }
    }

    /// A message could not be read back now, and may be asked for again.
    pub fn stay_away(&mut self, place: Place) {
        if let Some(at) = self.index_of(place)
            && let Body::Away(away) = &mut self.queue[at].body
        {
            away.is_asked_for = false;
        }
    }

    /// Takes a waiting delivery out of the line that can never be sent.
    pub fn remove_waiting(&mut self, place: Place, queues: &mut Queues) -> Option<Waiting> {
        let waiting = self.index_of(place).and_then(|at| self.queue.remove(at))?;
        self.forget(&waiting, queues);
        Some(waiting)
    }

    fn index_of(&self, place: Place) -> Option<usize> {
        self.queue.binary_search_by_key(&place, |waiting| waiting.place).ok()
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

    fn drop_lost(&mut self, now: Moment, queues: &mut Queues) {
        let limits = queues.limits;
        let queue = std::mem::take(&mut self.queue);
        for waiting in queue {
            match waiting.lost(now, &limits) {
                Some(why) => self.lose(&waiting, why, queues),
                None => self.queue.push_back(waiting),
            }
        }
    }

    /// The delivery in flight with this Packet Identifier.
    pub fn find(&self, id: PacketId) -> Option<&InFlight> {
        self.position(id).map(|at| &self.in_flight[at])
    }

    /// Applies a PUBACK. [MQTT-4.3.2-3]
    pub fn on_puback(&mut self, id: PacketId) -> Acknowledged {
        let Some(at) = self.position(id) else { return Acknowledged::Unknown };
        match self.in_flight[at].sending {
            Sending::AwaitPuback(_) => self.finish(at),
            Sending::AwaitPubrec(_) | Sending::AwaitPubcomp => Acknowledged::Unexpected,
        }
    }

    /// Applies a PUBREC. [MQTT-4.3.3-4]
    pub fn on_pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Acknowledged {
        let Some(at) = self.position(id) else { return Acknowledged::Unknown };
        match &mut self.in_flight[at].sending {
            Sending::AwaitPubrec(_) if reason.is_error() => self.finish(at), // [MQTT-4.4.0-2]
            sending @ (Sending::AwaitPubrec(_) | Sending::AwaitPubcomp) => {
                *sending = Sending::AwaitPubcomp;
                Acknowledged::Release
            }
            Sending::AwaitPuback(_) => Acknowledged::Unexpected,
        }
    }

    /// Applies a PUBCOMP. [MQTT-4.3.3-5]
    pub fn on_pubcomp(&mut self, id: PacketId) -> Acknowledged {
        let Some(at) = self.position(id) else { return Acknowledged::Unknown };
        match self.in_flight[at].sending {
            Sending::AwaitPubcomp => self.finish(at),
            Sending::AwaitPuback(_) | Sending::AwaitPubrec(_) => Acknowledged::Unexpected,
        }
    }

    /// Takes everything out, for a Session that ends: what was in flight, then what was queued.
    pub fn take_all(&mut self, queues: &mut Queues) -> (Vec<InFlight>, Vec<Waiting>) {
        let queue: Vec<Waiting> = std::mem::take(&mut self.queue).into();
        for waiting in &queue {
            self.forget(waiting, queues);
        }
        self.unsent = 0;
        (std::mem::take(&mut self.in_flight).into(), queue)
    }

    fn finish(&mut self, at: usize) -> Acknowledged {
        if at >= self.in_flight.len() - self.unsent {
            self.unsent -= 1; // Acknowledged on the strength of what an earlier connection had sent.
        }
        self.in_flight.remove(at);
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(16);
        }
        Acknowledged::Done
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        let oldest = self.in_flight.front()?.serial;
        let serial = oldest + u64::from(id.get().wrapping_sub(oldest as u16));
        match self.in_flight.binary_search_by_key(&serial, |in_flight| in_flight.serial) {
            Ok(at) => Some(at),
            // Only where the client left one unacknowledged for a whole round of identifiers.
            Err(_) if self.has_wrapped() => self.in_flight.iter().position(|it| it.serial as u16 == id.get()),
            Err(_) => None,
        }
    }

    /// Whether the identifiers in flight span more than one round, so that a new one could collide.
    fn has_wrapped(&self) -> bool {
        self.in_flight.front().is_some_and(|oldest| self.last_serial - oldest.serial >= u64::from(u16::MAX))
    }

    /// The next serial whose Packet Identifier is not in use. [MQTT-2.2.1-4]
    fn free_serial(&mut self) -> u64 {
        loop {
            self.last_serial += 1;
            let in_use = |id| self.has_wrapped() && self.position(id).is_some();
            if PacketId::new(self.last_serial as u16).is_some_and(|id| !in_use(id)) {
                return self.last_serial;
            }
        }
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

    const UNBOUNDED: Load = Load { messages: usize::MAX, bytes: usize::MAX };

    fn limits() -> QueueLimits {
        QueueLimits {
            each: UNBOUNDED,
            all: UNBOUNDED,
            age_max: None,
            drops_oldest: false,
            memory_bytes_max: usize::MAX,
        }
    }

    fn delivery(qos: QoS, kind: Kind) -> Delivery {
        let parts = Parts { topic: "t", forwarded: Forwarded::default(), payload: b"p" };
        let message = Arc::new(Message::new(parts, qos, false, kind));
        Delivery { message, qos, retain: false, subscription_ids: SubscriptionIds::None, shared: None }
    }

    fn arrival(kind: Kind) -> Arrival {
        let delivery = delivery(QoS::AtLeastOnce, kind);
        Arrival { delivery, queued: Moment::ZERO, is_stored: true, is_admitted: false }
    }

    fn begin(outgoing: &mut OutgoingDeliveries, qos: QoS) -> PacketId {
        let place = outgoing.give_place();
        outgoing.begin(place, delivery(qos, Kind::Ordinary))
    }

    fn places(outgoing: &OutgoingDeliveries) -> Vec<u64> {
        outgoing.waiting_from(Place(0)).map(|waiting| waiting.place.0).collect()
    }

    #[test]
    fn mqtt_2_2_1_4_an_identifier_in_use_is_not_given_again() {
        let mut outgoing = OutgoingDeliveries::default();
        let held = begin(&mut outgoing, QoS::AtLeastOnce);
        for _ in 0..200_000 {
            let id = begin(&mut outgoing, QoS::AtLeastOnce);
            assert_ne!(id, held);
            assert_eq!(outgoing.on_puback(id), Acknowledged::Done);
        }
        assert_eq!(outgoing.on_puback(held), Acknowledged::Done);
        assert_eq!(outgoing.on_puback(held), Acknowledged::Unknown);
    }

    #[test]
    fn acknowledgements_in_any_order_end_their_own_delivery() {
        let mut outgoing = OutgoingDeliveries::default();
        let mut ids: Vec<_> = (0..100).map(|_| begin(&mut outgoing, QoS::AtLeastOnce)).collect();
        ids.reverse();
        ids.swap(3, 50);
        for id in ids {
            assert_eq!(outgoing.on_puback(id), Acknowledged::Done);
        }
        assert_eq!(outgoing.in_flight_len(), 0);
    }

    #[test]
    fn mqtt_4_3_3_qos_2_takes_the_three_steps_in_order() {
        let mut outgoing = OutgoingDeliveries::default();
        let id = begin(&mut outgoing, QoS::ExactlyOnce);
        assert_eq!(outgoing.on_puback(id), Acknowledged::Unexpected);
        assert_eq!(outgoing.on_pubcomp(id), Acknowledged::Unexpected);
        assert_eq!(outgoing.on_pubrec(id, ReasonCode::Success), Acknowledged::Release);
        assert_eq!(outgoing.on_pubrec(id, ReasonCode::Success), Acknowledged::Release);
        assert_eq!(outgoing.on_pubcomp(id), Acknowledged::Done);
    }

    #[test]
    fn mqtt_4_4_0_1_what_was_in_flight_keeps_its_identifiers_over_a_restart() {
        let mut outgoing = OutgoingDeliveries::default();
        for (place, id) in [(7, 65_535), (8, 1), (9, 3)] {
            let sending = Sending::AwaitPuback(delivery(QoS::AtLeastOnce, Kind::Ordinary));
            outgoing.restore_in_flight(Place(place), PacketId::new(id).unwrap(), sending);
        }
        let ids: Vec<_> = outgoing.in_flight().map(|in_flight| in_flight.packet_id().get()).collect();
        assert_eq!(ids, [65_535, 1, 3]);
        assert_eq!(begin(&mut outgoing, QoS::AtLeastOnce).get(), 4);
        assert_eq!(outgoing.last_place(), Place(10));
        for id in [1, 65_535, 4, 3] {
            assert_eq!(outgoing.on_puback(PacketId::new(id).unwrap()), Acknowledged::Done);
        }
    }

    #[test]
    fn the_queue_is_bounded_for_messages_and_open_for_wills() {
        let mut queues = Queues::new(QueueLimits { each: Load { messages: 2, bytes: usize::MAX }, ..limits() });
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
        let each = Load { messages: 2, bytes: usize::MAX };
        let mut queues = Queues::new(QueueLimits { each, drops_oldest: true, ..limits() });
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
        assert_eq!(outgoing.memory_bytes(), 2 * size);
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(1), _)));
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(2), _)));
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Away));
        let mut asked = Vec::new();
        outgoing.ask_for_away(3, usize::MAX, |place, _| asked.push(place));
        outgoing.ask_for_away(3, usize::MAX, |place, _| panic!("{place:?} was asked for already"));
        assert_eq!(asked, [Place(3), Place(4), Place(5)]);
        // They come in another order; the line keeps its own.
        for place in [Place(4), Place(3)] {
            outgoing.come_back(place, delivery(QoS::AtLeastOnce, Kind::Ordinary).message);
        }
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(3), _)));
        assert!(matches!(outgoing.next(Moment::ZERO, 9, &mut queues), Next::Delivery(Place(4), _)));
        outgoing.stay_away(Place(5));
        outgoing.ask_for_away(1, usize::MAX, |place, _| asked.push(place));
        assert_eq!(asked.last(), Some(&Place(5)));
        outgoing.take_all(&mut queues);
        assert_eq!((outgoing.memory_bytes(), queues.load), (0, Load::default()));
    }
}
