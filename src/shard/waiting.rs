//! Sends what waits for a client: first again what was in flight when it went, then what has queued up since.

use super::Shard;
use super::deliver::{alias_for, fields, grant_of, receiver_mut};
use super::journal::{Entity, Hold};
use crate::codec::{self, PacketId, QoS};
use crate::journal::record::Record;
use crate::session::ConnectionId;
use crate::session::message::Delivery;
use crate::session::queue::{Next, Place};
use crate::timer::Moment;

impl Shard {
    /// Sends what waits in a Session's queue, as far as its window allows.
    pub(super) fn send_queued(&mut self, now: Moment, session: u32) {
        let Some(id) = self.sessions.get(session).and_then(|session| session.connection) else { return };
        let Some(window) = self.connections.get(id).map(|connection| connection.window) else { return };
        self.hold_unsettled(session, id);
        self.resend(now, session, id, window);
        while self.has_output_room(id) {
            let outgoing = &mut receiver_mut(&mut self.sessions, session).outgoing;
            let next = outgoing.next(now, window, &mut self.queues);
            self.account_for_dropped(session);
            match next {
                Next::Nothing => break,
                Next::Away => return self.read_back(session),
                Next::Delivery(place, delivery) => self.send_waiting(now, session, id, place, delivery),
            }
        }
    }

    /// What waits may be shown to nobody yet: it came of something that is not durable, or of transactions that are not complete.
    fn hold_unsettled(&mut self, session: u32, id: ConnectionId) {
        if !self.journal.is_on() {
            return;
        }
        let proven_from = self.sessions.get(session).map_or(0, |receiver| receiver.proven_from);
        if !self.journal.is_durable(proven_from) {
            self.hold(id, Hold::Turn);
        }
        let touched = Entity::Session(self.sessions.key(session));
        for transaction in self.journal.transactions_of(&touched) {
            self.hold(id, self.hold_for(Some(transaction)));
        }
    }

    fn send_waiting(&mut self, now: Moment, session: u32, id: ConnectionId, place: Place, delivery: Delivery) {
        if !self.may_still_receive(session, place, delivery.message.topic()) {
            return self.record_done(session, place, Some(delivery.message.publication));
        }
        if !self.fits(id, &delivery.message.outgoing(now), grant_of(&delivery)) {
            self.drop_too_large(session);
            return self.record_done(session, place, Some(delivery.message.publication));
        }
        let packet_id = receiver_mut(&mut self.sessions, session).outgoing.begin(place, delivery.clone());
        if let Some(number) = self.kept_number(session) {
            self.journal.append(&Record::Sent { session: number, place, packet_id });
            if delivery.qos == QoS::ExactlyOnce {
                self.hold(id, Hold::Turn);
            }
        }
        self.send_delivery(now, id, &delivery, packet_id, false);
    }

    fn send_delivery(&mut self, now: Moment, id: ConnectionId, delivery: &Delivery, packet_id: PacketId, dup: bool) {
        self.stats.sent.note(delivery.qos, delivery.message.payload().len());
        self.stats.sent.again += u64::from(dup);
        self.connections.with_output(id, |connection| {
            connection.traffic.note_sent(true);
            let alias = alias_for(connection, &delivery.message.outgoing(now), grant_of(delivery));
            let fields = fields(grant_of(delivery), Some(packet_id), dup, alias);
            codec::encode_publish(
                connection.version,
                &delivery.message.outgoing(now),
                &fields,
                connection.output.bytes(),
            );
        });
    }

    /// Sends again, in their order, what a resumed Session had in flight, as far as its new window allows. [MQTT-4.4.0-1],
    /// [MQTT-4.6.0-1]
    fn resend(&mut self, now: Moment, session: u32, id: ConnectionId, window: u16) {
        while self.has_output_room(id) {
            let outgoing = &mut receiver_mut(&mut self.sessions, session).outgoing;
            let Some(again) = outgoing.next_unsent(window) else { return };
            let (place, packet_id) = (again.place, again.packet_id());
            match again.sending.delivery().cloned() {
                None => {
                    self.promise_release(session, id);
                    self.send_pubrel(id, packet_id, codec::ReasonCode::Success);
                }
                Some(delivery) if !self.may_still_receive(session, place, delivery.message.topic()) => {
                    receiver_mut(&mut self.sessions, session).outgoing.abandon(packet_id);
                    self.record_done(session, place, Some(delivery.message.publication));
                }
                Some(delivery) if self.fits(id, &delivery.message.outgoing(now), grant_of(&delivery)) => {
                    self.send_delivery(now, id, &delivery, packet_id, true); // [MQTT-3.3.1-1]
                }
                Some(delivery) => {
                    receiver_mut(&mut self.sessions, session).outgoing.abandon(packet_id);
                    self.record_done(session, place, Some(delivery.message.publication));
                    self.drop_too_large(session); // [MQTT-3.1.2-25]
                }
            }
        }
    }

    /// PUBREL tells the client to forget the Packet Identifier, so it must be known for good that PUBREC has arrived.
    pub(super) fn promise_release(&mut self, session: u32, id: ConnectionId) {
        if self.kept_number(session).is_some() {
            self.promise(id);
        }
    }

    /// Whether a connection's output is below its limit, so that more may be put into it.
    fn has_output_room(&self, id: ConnectionId) -> bool {
        self.connections
            .get(id)
            .is_some_and(|connection| connection.output.pending() < connection.bounds.output_bytes_max)
    }
}
