//! The sending half of a Session: what is in flight to the client, and what waits behind it.

use super::message::{Delivery, Kind};
use super::queue::{Arrival, Next, Place, Queue, QueueFull, Queues, Waiting};
use crate::codec::{PacketId, QoS, ReasonCode};
use crate::timer::Moment;
use std::collections::VecDeque;

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
    queue: Queue,
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

    /// What waits to be sent.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What waits to be sent, to be read back or given up.
    pub fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// The place that the newest delivery got.
    pub fn last_place(&self) -> Place {
        Place(self.last_place)
    }

    /// Number of deliveries in flight.
    pub fn in_flight_len(&self) -> usize {
        self.in_flight.len()
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

    /// Puts back in the line what a journal says was waiting, in its order. `is_stored`: the journal that is written to has the message.
    pub fn restore_waiting(&mut self, waiting: Waiting, is_stored: bool, queues: &mut Queues) {
        self.last_place = self.last_place.max(waiting.place.0);
        self.queue.push(waiting, is_stored, queues);
    }

    /// No place up to this one is given again.
    pub fn skip_places(&mut self, up_to: Place) {
        self.last_place = self.last_place.max(up_to.0);
    }

    /// Queues a delivery behind those that wait already; its place.
    pub fn enqueue(&mut self, now: Moment, arrival: Arrival, queues: &mut Queues) -> Result<Place, QueueFull> {
        if arrival.delivery.message.kind != Kind::Will && !arrival.is_admitted {
            self.queue.make_room(now, arrival.delivery.message.size(), arrival.queue_max, queues)?;
        }
        let place = self.give_place();
        let is_stored = arrival.is_stored;
        self.queue.push(Waiting::new(place, arrival), is_stored, queues);
        Ok(place)
    }

    /// The next delivery that may be sent.
    pub fn next(&mut self, now: Moment, window: u16, queues: &mut Queues) -> Next {
        if self.unsent > 0 || self.in_flight.len() >= usize::from(window) {
            return Next::Nothing;
        }
        self.queue.next(now, queues)
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
        self.unsent = 0;
        (std::mem::take(&mut self.in_flight).into(), self.queue.take_all(queues))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Forwarded;
    use crate::session::message::{Message, Parts, SubscriptionIds};
    use std::sync::Arc;

    fn delivery(qos: QoS, kind: Kind) -> Delivery {
        let parts = Parts { topic: "t", forwarded: Forwarded::default(), payload: b"p" };
        let message = Arc::new(Message::new(parts, qos, false, kind));
        Delivery { message, qos, retain: false, subscription_ids: SubscriptionIds::None, shared: None }
    }

    fn begin(outgoing: &mut OutgoingDeliveries, qos: QoS) -> PacketId {
        let place = outgoing.give_place();
        outgoing.begin(place, delivery(qos, Kind::Ordinary))
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
}
