//! The sending half of a Session: what is in flight to the client, and what waits behind it.

use super::message::{Delivery, Kind};
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

/// Why a delivery was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFull {
    /// `sessions.queue_messages_max` is reached.
    Messages,
    /// `sessions.queue_bytes_max` is reached.
    Bytes,
}

/// Bounds of one Session's queue. Wills are not subject to them: their memory is the armed will's own, shared.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Messages.
    pub messages_max: usize,
    /// Bytes of the messages.
    pub bytes_max: usize,
}

/// Deliveries of QoS 1 and 2 to one client.
///
/// Packet Identifiers are given in ascending order, so the one acknowledged next is nearly always the oldest.
#[derive(Debug, Default)]
pub struct OutgoingDeliveries {
    /// In the order of sending. The low 16 bits of a serial are the Packet Identifier.
    in_flight: VecDeque<(u64, Sending)>,
    /// How many of those in flight, the newest, were not yet sent again on the connection that resumed the Session.
    unsent: usize,
    queue: VecDeque<Delivery>,
    queued_messages: usize,
    queued_bytes: usize,
    last_serial: u64,
}

fn packet_id(serial: u64) -> PacketId {
    PacketId::new(serial as u16).expect("serials whose low 16 bits are zero are never given")
}

impl OutgoingDeliveries {
    /// Deliveries that were sent and are not acknowledged.
    pub fn in_flight(&self) -> impl Iterator<Item = (PacketId, &Sending)> {
        self.in_flight.iter().map(|(serial, sending)| (packet_id(*serial), sending))
    }

    /// Number of deliveries in flight.
    pub fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }

    /// Number of deliveries that wait to be sent.
    pub fn queue_len(&self) -> usize {
        self.queue.len()
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
    pub fn next_unsent(&mut self, window: u16) -> Option<(PacketId, &Sending)> {
        let at = self.in_flight.len() - self.unsent;
        if self.unsent == 0 || at >= usize::from(window) {
            return None;
        }
        self.unsent -= 1;
        self.in_flight.get(at).map(|(serial, sending)| (packet_id(*serial), sending))
    }

    /// Gives a delivery up that the client can never take.
    pub fn abandon(&mut self, id: PacketId) {
        if let Some(at) = self.position(id) {
            self.finish(at);
        }
    }

    /// Puts a delivery in flight and names it.
    ///
    /// # Panics
    /// Where the window was not respected and all 65,535 Packet Identifiers are in use.
    pub fn begin(&mut self, delivery: Delivery) -> PacketId {
        let serial = self.free_serial();
        let sending = match delivery.qos {
            QoS::ExactlyOnce => Sending::AwaitPubrec(delivery),
            QoS::AtMostOnce | QoS::AtLeastOnce => Sending::AwaitPuback(delivery),
        };
        self.in_flight.push_back((serial, sending));
        packet_id(serial)
    }

    /// Queues a delivery behind those that wait already.
    pub fn enqueue(&mut self, now: Moment, delivery: Delivery, limits: QueueLimits) -> Result<(), QueueFull> {
        if delivery.message.kind == Kind::Ordinary {
            let size = delivery.message.size();
            if self.full(size, limits).is_some() {
                self.drop_expired(now);
            }
            if let Some(full) = self.full(size, limits) {
                return Err(full);
            }
            self.queued_messages += 1;
            self.queued_bytes += size;
        }
        self.queue.push_back(delivery);
        Ok(())
    }

    fn full(&self, size: usize, limits: QueueLimits) -> Option<QueueFull> {
        if self.queued_messages >= limits.messages_max {
            Some(QueueFull::Messages)
        } else if self.queued_bytes + size > limits.bytes_max {
            Some(QueueFull::Bytes)
        } else {
            None
        }
    }

    /// The next delivery that may be sent, expired ones counted into `expired` and passed over. [MQTT-3.3.2-5]
    pub fn next(&mut self, now: Moment, window: u16, expired: &mut u64) -> Option<Delivery> {
        while self.unsent == 0 && self.in_flight.len() < usize::from(window) {
            let delivery = self.queue.pop_front()?;
            self.forget(&delivery);
            if self.queue.is_empty() {
                self.queue.shrink_to(32); // A long absence must not leave its queue's memory behind.
            }
            if !delivery.message.is_expired(now) {
                return Some(delivery);
            }
            *expired += 1;
        }
        None
    }

    fn forget(&mut self, delivery: &Delivery) {
        if delivery.message.kind == Kind::Ordinary {
            self.queued_messages -= 1;
            self.queued_bytes -= delivery.message.size();
        }
    }

    fn drop_expired(&mut self, now: Moment) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.retain(|delivery| {
            let keep = !delivery.message.is_expired(now);
            if !keep {
                self.forget(delivery);
            }
            keep
        });
        self.queue = queue;
    }

    /// Applies a PUBACK. [MQTT-4.3.2-3]
    pub fn on_puback(&mut self, id: PacketId) -> Acknowledged {
        let Some(at) = self.position(id) else { return Acknowledged::Unknown };
        match self.in_flight[at].1 {
            Sending::AwaitPuback(_) => self.finish(at),
            Sending::AwaitPubrec(_) | Sending::AwaitPubcomp => Acknowledged::Unexpected,
        }
    }

    /// Applies a PUBREC. [MQTT-4.3.3-4]
    pub fn on_pubrec(&mut self, id: PacketId, reason: ReasonCode) -> Acknowledged {
        let Some(at) = self.position(id) else { return Acknowledged::Unknown };
        match &mut self.in_flight[at].1 {
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
        match self.in_flight[at].1 {
            Sending::AwaitPubcomp => self.finish(at),
            Sending::AwaitPuback(_) | Sending::AwaitPubrec(_) => Acknowledged::Unexpected,
        }
    }

    /// Takes everything out, for a Session that ends: what was in flight, then what was queued.
    pub fn take_all(&mut self) -> (Vec<Sending>, Vec<Delivery>) {
        (self.queued_messages, self.queued_bytes, self.unsent) = (0, 0, 0);
        let in_flight = std::mem::take(&mut self.in_flight).into_iter().map(|(_, sending)| sending).collect();
        (in_flight, std::mem::take(&mut self.queue).into())
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
        let (oldest, _) = self.in_flight.front()?;
        let serial = oldest + u64::from(id.get().wrapping_sub(*oldest as u16));
        match self.in_flight.binary_search_by_key(&serial, |(serial, _)| *serial) {
            Ok(at) => Some(at),
            // Only where the client left one unacknowledged for a whole round of identifiers.
            Err(_) if self.has_wrapped() => self.in_flight.iter().position(|(serial, _)| *serial as u16 == id.get()),
            Err(_) => None,
        }
    }

    /// Whether the identifiers in flight span more than one round, so that a new one could collide.
    fn has_wrapped(&self) -> bool {
        self.in_flight.front().is_some_and(|(oldest, _)| self.last_serial - oldest >= u64::from(u16::MAX))
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

    #[test]
    fn mqtt_2_2_1_4_an_identifier_in_use_is_not_given_again() {
        let mut outgoing = OutgoingDeliveries::default();
        let held = outgoing.begin(delivery(QoS::AtLeastOnce, Kind::Ordinary));
        for _ in 0..200_000 {
            let id = outgoing.begin(delivery(QoS::AtLeastOnce, Kind::Ordinary));
            assert_ne!(id, held);
            assert_eq!(outgoing.on_puback(id), Acknowledged::Done);
        }
        assert_eq!(outgoing.on_puback(held), Acknowledged::Done);
        assert_eq!(outgoing.on_puback(held), Acknowledged::Unknown);
    }

    #[test]
    fn acknowledgements_in_any_order_end_their_own_delivery() {
        let mut outgoing = OutgoingDeliveries::default();
        let mut ids: Vec<_> = (0..100).map(|_| outgoing.begin(delivery(QoS::AtLeastOnce, Kind::Ordinary))).collect();
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
        let id = outgoing.begin(delivery(QoS::ExactlyOnce, Kind::Ordinary));
        assert_eq!(outgoing.on_puback(id), Acknowledged::Unexpected);
        assert_eq!(outgoing.on_pubcomp(id), Acknowledged::Unexpected);
        assert_eq!(outgoing.on_pubrec(id, ReasonCode::Success), Acknowledged::Release);
        assert_eq!(outgoing.on_pubrec(id, ReasonCode::Success), Acknowledged::Release);
        assert_eq!(outgoing.on_pubcomp(id), Acknowledged::Done);
    }

    #[test]
    fn the_queue_is_bounded_for_messages_and_open_for_wills() {
        let limits = QueueLimits { messages_max: 2, bytes_max: usize::MAX };
        let mut outgoing = OutgoingDeliveries::default();
        for _ in 0..2 {
            assert_eq!(outgoing.enqueue(Moment::ZERO, delivery(QoS::AtLeastOnce, Kind::Ordinary), limits), Ok(()));
        }
        let full = outgoing.enqueue(Moment::ZERO, delivery(QoS::AtLeastOnce, Kind::Ordinary), limits);
        assert_eq!(full, Err(QueueFull::Messages));
        for _ in 0..1000 {
            assert_eq!(outgoing.enqueue(Moment::ZERO, delivery(QoS::AtLeastOnce, Kind::Will), limits), Ok(()));
        }
        let mut expired = 0;
        for _ in 0..1002 {
            assert!(outgoing.next(Moment::ZERO, 1, &mut expired).is_some());
        }
        assert_eq!(outgoing.enqueue(Moment::ZERO, delivery(QoS::AtLeastOnce, Kind::Ordinary), limits), Ok(()));
    }
}
