//! PUBLISH from a client, and the acknowledgements of both directions.

use super::deliver::{Publishing, Routed};
use super::journal::Entity;
use super::{Fault, PublishOutcome, Shard};
use crate::codec::{self, Ack, Outgoing, Packet, PacketId, Publish, QoS, ReasonCode};
use crate::journal::record::{Record, Transaction};
use crate::session::ConnectionId;
use crate::session::message::{self, Kind, Publication};
use crate::session::outgoing::Acknowledged;
use crate::session::queue::Place;
use crate::timer::Moment;
use crate::topic::TopicName;
use std::sync::Arc;

impl Shard {
    /// Applies a PUBLISH. (§3.3.4)
    pub(super) fn on_publish(&mut self, now: Moment, id: ConnectionId, packet: &Publish<'_>) -> Result<(), Fault> {
        let result = self.take_publish(now, id, packet);
        let outcome = result.as_ref().copied().unwrap_or(PublishOutcome::Invalid);
        self.stats.received.note(packet.qos, outcome, packet.payload.len());
        result.map(|_| ())
    }

    fn take_publish(&mut self, now: Moment, id: ConnectionId, packet: &Publish<'_>) -> Result<PublishOutcome, Fault> {
        let by_alias = self.resolve_alias(id, packet)?;
        let topic_text = by_alias.as_deref().unwrap_or(packet.topic);
        let topic =
            TopicName::parse(topic_text).map_err(|_| Fault::new(ReasonCode::TopicNameInvalid, "invalid Topic Name"))?;
        self.check_publish(id, topic, packet)?;

        let session = self.connections.get(id).expect("the packet came on it").session;
        if let Some(packet_id) = packet.packet_id
            && packet.qos == QoS::ExactlyOnce
            && self.is_repeated(id, session, packet_id)?
        {
            self.promise(id); // The first one may still be on its way to the disk.
            self.acknowledge(id, Packet::Pubrec, packet_id, ReasonCode::Success); // [MQTT-4.3.3-10]
            return Ok(PublishOutcome::Repeated);
        }
        let (reason, under) = match self.refusal(id, session, topic, packet) {
            Some(refused) => (refused, None),
            None => {
                let routed = self.route_packet(now, session, topic, packet);
                let waits_for_disk = self.journal.is_congested() && self.journal.must_promise();
                if (routed.to_peers && self.peers.is_congested()) || waits_for_disk {
                    self.pause(id);
                }
                let matched = if routed.matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers };
                (matched, routed.under)
            }
        };
        if reason == ReasonCode::QuotaExceeded && self.journal.is_failing() {
            self.stats.refused_by_journal += 1;
            let version = self.connections.get(id).map(|connection| connection.version);
            if version.is_some_and(|version| !version.has_reason_codes()) && packet.packet_id.is_some() {
                return Err(Fault::new(reason, "the journal cannot be written")); // 3.x has no way to refuse a message.
            }
        }
        let outcome = match reason {
            ReasonCode::Success => PublishOutcome::Matched,
            ReasonCode::NoMatchingSubscribers => PublishOutcome::Unmatched,
            ReasonCode::NotAuthorized => PublishOutcome::Denied,
            _ => PublishOutcome::Refused,
        };
        let Some(packet_id) = packet.packet_id else { return Ok(outcome) };
        match packet.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.acknowledge_stored(id, Packet::Puback, packet_id, reason), // [MQTT-4.3.2-4]
            QoS::ExactlyOnce => {
                if !reason.is_error() {
                    self.note_received(session, packet_id, under);
                }
                self.acknowledge_stored(id, Packet::Pubrec, packet_id, reason); // [MQTT-4.3.3-8]
            }
        }
        Ok(outcome)
    }

    fn note_received(&mut self, session: u32, packet_id: PacketId, under: Option<Transaction>) {
        let receiver = self.sessions.get_mut(session).expect("a connection has a Session");
        receiver.received.insert(packet_id);
        if let Some(number) = self.kept_number(session) {
            let key = self.sessions.key(session);
            self.journal.note_unsettled(under, || Entity::Session(key));
            self.journal.append_under(under, &Record::Received { session: number, packet_id });
        }
    }

    /// The Topic Name behind the packet's Topic Alias, where it has one and no name. (§3.3.2.3.4)
    fn resolve_alias(&mut self, id: ConnectionId, packet: &Publish<'_>) -> Result<Option<Arc<str>>, Fault> {
        let Some(alias) = packet.topic_alias else {
            return if packet.topic.is_empty() {
                Err(Fault::new(ReasonCode::ProtocolError, "neither Topic Name nor Topic Alias"))
            } else {
                Ok(None)
            };
        };
        if alias.get() > self.connections.get(id).expect("the packet came on it").bounds.topic_alias_maximum {
            return Err(Fault::new(ReasonCode::TopicAliasInvalid, "Topic Alias above the maximum")); // [MQTT-3.3.2-9]
        }
        let aliases = &mut self.connections.get_mut(id).expect("the packet came on it").aliases_in;
        let at = usize::from(alias.get()) - 1;
        if packet.topic.is_empty() {
            let known = aliases.as_ref().and_then(|aliases| aliases.get(at).cloned().flatten());
            return known.map(Some).ok_or(Fault::new(ReasonCode::ProtocolError, "Topic Alias was never set"));
        }
        if TopicName::parse(packet.topic).is_ok() {
            let aliases = aliases.get_or_insert_default();
            if aliases.len() <= at {
                aliases.resize(at + 1, None);
            }
            aliases[at] = Some(packet.topic.into());
        }
        Ok(None)
    }

    /// What ends the connection of whoever sends such a packet.
    fn check_publish(&self, id: ConnectionId, topic: TopicName<'_>, packet: &Publish<'_>) -> Result<(), Fault> {
        let bounds = &self.connections.get(id).expect("the packet came on it").bounds;
        if packet.qos as u8 > bounds.maximum_qos {
            return Err(Fault::new(ReasonCode::QosNotSupported, "QoS above the Maximum QoS")); // [MQTT-3.2.2-11]
        }
        if packet.retain && !bounds.retain {
            return Err(Fault::new(ReasonCode::RetainNotSupported, "retained messages are off")); // [MQTT-3.2.2-14]
        }
        if !packet.subscription_identifiers.is_empty() {
            return Err(Fault::new(ReasonCode::ProtocolError, "Subscription Identifier from a client")); // [MQTT-3.3.4-6]
        }
        if !bounds.admit_topic(topic) {
            return Err(Fault::new(ReasonCode::TopicNameInvalid, "Topic Name longer or deeper than allowed"));
        }
        if packet.forwarded.response_topic().is_some_and(|response| TopicName::parse(response).is_err()) {
            return Err(Fault::new(ReasonCode::ProtocolError, "Response Topic has a wildcard")); // [MQTT-3.3.2-14]
        }
        Ok(())
    }

    /// Whether a QoS 2 PUBLISH was received before. Above our Receive Maximum the client is at fault [MQTT-3.3.4-7]; a client of 3.x was
    /// told of none, and is bounded by its Packet Identifiers.
    fn is_repeated(&self, id: ConnectionId, session: u32, packet_id: PacketId) -> Result<bool, Fault> {
        let received = &self.sessions.get(session).expect("a connection has a Session").received;
        if received.contains(&packet_id) {
            return Ok(true);
        }
        let connection = self.connections.get(id).expect("the packet came on it");
        let was_told = connection.version.has_properties();
        if was_told && received.len() >= usize::from(connection.bounds.receive_maximum) {
            return Err(Fault::new(ReasonCode::ReceiveMaximumExceeded, "more QoS 2 messages than Receive Maximum"));
        }
        Ok(false)
    }

    /// Why a well-formed publication is not carried out; its connection stays.
    fn refusal(
        &mut self,
        id: ConnectionId,
        session: u32,
        topic: TopicName<'_>,
        packet: &Publish<'_>,
    ) -> Option<ReasonCode> {
        if !self.may_publish(id, session, topic) {
            return Some(ReasonCode::NotAuthorized);
        }
        if self.journal.is_failing() {
            let is_kept = self.kept_number(session).is_some();
            if self.needs_journal(is_kept, topic, packet.qos, packet.retain) {
                return Some(ReasonCode::QuotaExceeded);
            }
        }
        let claims_text = self.config.features.validate_payload_format && packet.forwarded.payload_format_is_utf8();
        if claims_text && std::str::from_utf8(packet.payload).is_err() {
            return Some(ReasonCode::PayloadFormatInvalid);
        }
        if packet.retain && !self.admits_retained(session, topic, packet.payload.is_empty()) {
            self.stats.publishes_refused_retained += 1;
            return Some(ReasonCode::QuotaExceeded); // 3.x cannot be told; it is acknowledged like what there are no rights to.
        }
        None
    }

    /// Whether a Session may store a Retained Message on one topic more, which is then counted. Those count on which it has stored one since
    /// the Session, or the broker, began, and that it has not removed itself: what others do, or expiry, does not change its account.
    pub(super) fn admits_retained(&mut self, session: u32, topic: TopicName<'_>, is_removal: bool) -> bool {
        let author = self.sessions.get_mut(session).expect("whoever publishes has a Session");
        let Some(max) = author.bounds.retained_messages_max else { return true };
        let topic = self.hasher.hash_one(topic.as_str());
        let topics = author.retained.get_or_insert_default();
        if is_removal {
            topics.remove(&topic);
            return true;
        }
        let has_room = topics.len() < max as usize;
        topics.contains(&topic) || (has_room && topics.insert(topic))
    }

    fn route_packet(&mut self, now: Moment, session: u32, topic: TopicName<'_>, packet: &Publish<'_>) -> Routed {
        let mut filtered = Vec::new();
        let forwarded = packet.forwarded.as_bytes().unwrap_or_else(|| {
            packet.forwarded.write_to(&mut filtered);
            &filtered
        });
        let mut publishing = Publishing {
            topic,
            outgoing: Outgoing {
                topic: topic.as_str(),
                forwarded,
                payload: packet.payload,
                message_expiry_interval: packet.message_expiry_interval,
            },
            qos: packet.qos,
            retain: packet.retain,
            kind: Kind::Ordinary,
            expires: message::expiry(now, packet.message_expiry_interval),
            author: self.sessions.get(session).expect("a connection has a Session").author,
            publication: Publication::default(),
            shared: None,
            is_atomic: packet.qos == QoS::ExactlyOnce && self.kept_number(session).is_some(),
            under: None,
        };
        self.route(now, &mut publishing, Some(session))
    }

    /// Whether a publication cannot be carried out without writing to the journal. Asked only while that is not possible. `is_kept`: the
    /// Session of whoever publishes is.
    pub(super) fn needs_journal(&self, is_kept: bool, topic: TopicName<'_>, qos: QoS, is_recorded: bool) -> bool {
        if is_recorded {
            return true;
        }
        if qos == QoS::AtMostOnce {
            return false;
        }
        let mut is_kept = qos == QoS::ExactlyOnce && is_kept;
        self.subscriptions.for_each_match(topic, |subscribers, elsewhere| {
            is_kept |= !elsewhere.keepers.is_empty();
            is_kept |= subscribers.iter().any(|(_, options)| options.keeps && options.qos != QoS::AtMostOnce);
        });
        is_kept
    }

    /// Appends an acknowledgement, which is withheld until all that the packet has caused to be stored is durable.
    fn acknowledge_stored<'a>(
        &mut self,
        id: ConnectionId,
        kind: impl FnOnce(Ack<'a>) -> Packet<'a>,
        packet_id: PacketId,
        reason: ReasonCode,
    ) {
        if self.journal.must_promise() {
            self.promise(id);
        }
        self.acknowledge(id, kind, packet_id, reason);
    }

    /// Appends an acknowledgement.
    fn acknowledge<'a>(
        &mut self,
        id: ConnectionId,
        kind: impl FnOnce(Ack<'a>) -> Packet<'a>,
        packet_id: PacketId,
        reason: ReasonCode,
    ) {
        let mut ack = Ack::new(packet_id, reason);
        ack.reason_string = self.explanation(id, reason);
        self.send(id, &kind(ack));
    }

    /// The Reason String of an acknowledgement, for a client that wants one and takes packets that long. [MQTT-3.1.2-29],
    /// [MQTT-3.4.2-2]
    fn explanation(&self, id: ConnectionId, reason: ReasonCode) -> Option<&'static str> {
        let connection = self.connections.get(id)?;
        if !connection.problem_information || connection.packet_bytes_max < 128 {
            return None;
        }
        match reason {
            ReasonCode::NotAuthorized => Some("this client may not publish to this topic"),
            ReasonCode::QuotaExceeded => Some("the server keeps no more for this client now"),
            ReasonCode::PayloadFormatInvalid => Some("the payload is not UTF-8, as its indicator claims"),
            _ => None,
        }
    }

    pub(super) fn send_pubrel(&mut self, id: ConnectionId, packet_id: PacketId, reason: ReasonCode) {
        self.acknowledge(id, Packet::Pubrel, packet_id, reason);
    }

    /// Appends a packet to a connection's output.
    pub(super) fn send(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        let stats = &mut self.stats;
        self.connections.with_output(id, |connection| {
            stats.packets_sent[packet.kind()] += 1;
            connection.traffic.note_sent(false);
            codec::encode(packet, connection.version, connection.output.bytes());
        });
    }

    /// Applies PUBACK. [MQTT-4.3.2-3]
    pub(super) fn on_puback(&mut self, now: Moment, id: ConnectionId, ack: &Ack<'_>) -> Result<(), Fault> {
        let session = self.session_of(id);
        let over = self.in_flight(session, ack.packet_id);
        let outgoing = &mut self.sessions.get_mut(session).expect("a connection has a Session").outgoing;
        let acknowledged = outgoing.on_puback(ack.packet_id);
        self.after_acknowledgement(now, session, acknowledged, over)
    }

    /// The delivery that an acknowledgement is about: its place, and its message where that is still kept.
    fn in_flight(&self, session: u32, id: PacketId) -> Option<(Place, Option<Publication>)> {
        let in_flight = self.sessions.get(session)?.outgoing.find(id)?;
        Some((in_flight.place, in_flight.sending.delivery().map(|delivery| delivery.message.publication)))
    }

    /// Applies PUBREC. [MQTT-4.3.3-4]
    pub(super) fn on_pubrec(&mut self, now: Moment, id: ConnectionId, ack: &Ack<'_>) -> Result<(), Fault> {
        let session = self.session_of(id);
        let over = self.in_flight(session, ack.packet_id);
        let outgoing = &mut self.sessions.get_mut(session).expect("a connection has a Session").outgoing;
        match outgoing.on_pubrec(ack.packet_id, ack.reason) {
            Acknowledged::Release => {
                self.record_release(session, over);
                self.promise_release(session, id);
                self.send_pubrel(id, ack.packet_id, ReasonCode::Success);
            }
            Acknowledged::Unknown if !ack.reason.is_error() => {
                self.send_pubrel(id, ack.packet_id, ReasonCode::PacketIdentifierNotFound);
            }
            acknowledged => return self.after_acknowledgement(now, session, acknowledged, over),
        }
        Ok(())
    }

    fn record_release(&mut self, session: u32, released: Option<(Place, Option<Publication>)>) {
        if let Some((place, Some(publication))) = released
            && let Some(number) = self.kept_number(session)
        {
            self.journal.append(&Record::Released { session: number, place });
            self.journal.release(publication);
        }
    }

    /// Applies PUBCOMP. [MQTT-4.3.3-5]
    pub(super) fn on_pubcomp(&mut self, now: Moment, id: ConnectionId, ack: &Ack<'_>) -> Result<(), Fault> {
        let session = self.session_of(id);
        let over = self.in_flight(session, ack.packet_id);
        let outgoing = &mut self.sessions.get_mut(session).expect("a connection has a Session").outgoing;
        let acknowledged = outgoing.on_pubcomp(ack.packet_id);
        self.after_acknowledgement(now, session, acknowledged, over)
    }

    fn after_acknowledgement(
        &mut self,
        now: Moment,
        session: u32,
        acknowledged: Acknowledged,
        over: Option<(Place, Option<Publication>)>,
    ) -> Result<(), Fault> {
        match acknowledged {
            Acknowledged::Done => {
                if let Some((place, publication)) = over {
                    self.record_done(session, place, publication);
                }
                self.send_queued(now, session);
                self.go_on_looking_up(session);
                Ok(())
            }
            // A client may acknowledge again what a reconnect made it see twice.
            Acknowledged::Unknown | Acknowledged::Release => Ok(()),
            Acknowledged::Unexpected => Err(Fault::new(ReasonCode::ProtocolError, "acknowledgement of another QoS")),
        }
    }

    /// Applies PUBREL. [MQTT-4.3.3-11]
    pub(super) fn on_pubrel(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        let session = self.session_of(id);
        let received = &mut self.sessions.get_mut(session).expect("a connection has a Session").received;
        let was_received = received.remove(&ack.packet_id);
        let reason = if was_received { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        if let Some(number) = self.kept_number(session).filter(|_| was_received) {
            // PUBCOMP frees the identifier for another message, which must not be taken for this one after a restart.
            self.journal.append(&Record::Completed { session: number, packet_id: ack.packet_id });
        }
        self.acknowledge_stored(id, Packet::Pubcomp, ack.packet_id, reason);
    }
}
