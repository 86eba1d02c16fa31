//! From one publication to its subscribers.

use super::journal::Entity;
use super::peer::{Member, PeerMessage, SessionKey};
use super::{DropReason, Pressure, Shard, ShardId, Subscriber, SubscriberOptions};
use crate::codec::{self, Delivery as PacketFields, Outgoing, PacketId, PublishTemplate, QoS};
use crate::journal::record::{QueuedRecord, Record, SessionNumber, Transaction};
use crate::session::ConnectionId;
use crate::session::message::{Author, Delivery, Kind, Message, Parts, Publication, SharedKey, SubscriptionIds};
use crate::session::queue::{Arrival, Lost, Place};
use crate::timer::Moment;
use crate::topic::{Elsewhere, TopicName};
use std::sync::Arc;

/// A publication while it is being routed: borrowed bytes that become a shared [`Message`] only where somebody must keep it.
pub(super) struct Publishing<'a> {
    pub(super) topic: TopicName<'a>,
    pub(super) outgoing: Outgoing<'a>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) kind: Kind,
    pub(super) expires: Option<Moment>,
    pub(super) author: Author,
    pub(super) publication: Publication,
    pub(super) shared: Option<Arc<Message>>,
    /// It happens on all shards or on none, and is shown to nobody before: a will, or a QoS 2 message of a Session that is kept.
    pub(super) is_atomic: bool,
    /// The transaction it is part of, once it goes to other shards.
    pub(super) under: Option<Transaction>,
}

impl<'a> Publishing<'a> {
    /// A message that exists already.
    pub(super) fn of(message: &'a Arc<Message>, now: Moment) -> Self {
        Self {
            topic: TopicName::parse(message.topic()).expect("a Message has a valid Topic Name"),
            outgoing: message.outgoing(now),
            qos: message.qos,
            retain: message.retain,
            kind: message.kind,
            expires: message.expires,
            author: message.author,
            publication: message.publication,
            shared: Some(Arc::clone(message)),
            is_atomic: false,
            under: None,
        }
    }

    /// The same as part of a transaction, where there is one.
    pub(super) fn under(mut self, under: Option<Transaction>) -> Self {
        self.is_atomic = under.is_some();
        self.under = under;
        self
    }

    /// The message, made on first demand.
    pub(super) fn share(&mut self) -> Arc<Message> {
        let make = || {
            let forwarded = codec::Forwarded::from_encoded(self.outgoing.forwarded);
            let parts = Parts { topic: self.outgoing.topic, forwarded, payload: self.outgoing.payload };
            let mut message = Message::new(parts, self.qos, self.retain, self.kind);
            message.expires = self.expires;
            message.author = self.author;
            message.publication = self.publication;
            Arc::new(message)
        };
        Arc::clone(self.shared.get_or_insert_with(make))
    }
}

/// The encodings of one publication, each made once and used for every subscriber that it fits.
#[derive(Debug, Default)]
pub(super) struct Templates {
    made: [Option<PublishTemplate>; 4],
    buffers: Vec<Vec<u8>>,
}

impl Templates {
    fn get(&mut self, version: codec::ProtocolVersion, with_id: bool, outgoing: &Outgoing<'_>) -> &PublishTemplate {
        let class = usize::from(version.has_properties()) * 2 + usize::from(with_id);
        let buffers = &mut self.buffers;
        self.made[class].get_or_insert_with(|| {
            PublishTemplate::encode(version, with_id, outgoing, buffers.pop().unwrap_or_default())
        })
    }

    /// Forgets the encodings and keeps their buffers.
    fn clear(&mut self) {
        for template in self.made.iter_mut().filter_map(Option::take) {
            let mut buffer = template.into_buffer();
            if buffer.capacity() <= 64 * 1024 {
                buffer.clear();
                self.buffers.push(buffer);
            }
        }
    }
}

/// What one subscriber gets of a publication.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant<'a> {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_ids: &'a [u32],
    pub(super) shared: Option<&'a Arc<SharedKey>>,
    /// Retained answers are paced by their own flow control, so the limits of output and queue do not drop them.
    pub(super) is_paced: bool,
}

/// Whether a publication found anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Routed {
    pub(super) matched: bool,
    /// Other shards were sent something: the message, or deliveries that groups here chose their Sessions for.
    pub(super) to_peers: bool,
    /// The transaction it became part of.
    pub(super) under: Option<Transaction>,
}

impl Shard {
    /// Routes a publication: to the subscribers here, to the other shards that have any, and to its retained store.
    pub(super) fn route(&mut self, now: Moment, publishing: &mut Publishing<'_>, publisher: Option<u32>) -> Routed {
        let store = publishing.retain.then(|| self.retained_home(publishing.outgoing.topic));
        self.route_to_store(now, publishing, publisher, store)
    }

    /// The same, with the shard that is to keep it as the retained message of its topic, if any is.
    pub(super) fn route_to_store(
        &mut self,
        now: Moment,
        publishing: &mut Publishing<'_>,
        publisher: Option<u32>,
        store: Option<ShardId>,
    ) -> Routed {
        if publishing.shared.is_none() {
            publishing.publication = self.next_publication();
        }
        if self.taps.is_any_open() {
            self.note_tapped(now, publishing, publisher);
        }
        let sent = self.peers.sent();
        let (matched, elsewhere) = self.deliver_here(now, publishing, publisher, store);
        for peer in self.peers.others() {
            let deliver = elsewhere.peers.contains(peer.index());
            let store = store == Some(peer);
            if deliver || store {
                let under = publishing.under;
                let is_recorded = store && publishing.kind != Kind::Volatile;
                if is_recorded || under.is_some() || elsewhere.keepers.contains(peer.index()) {
                    self.note_part(under, peer);
                }
                self.peers.send(peer, PeerMessage::Publish { message: publishing.share(), deliver, store, under });
            }
        }
        if store == Some(self.id) {
            let message = publishing.share();
            self.store_retained(now, message, publishing.under);
        }
        let matched = matched || !elsewhere.peers.is_empty();
        Routed { matched, to_peers: self.peers.sent() > sent, under: publishing.under }
    }

    /// Numbers a publication of this shard.
    pub(super) fn next_publication(&mut self) -> Publication {
        self.publications += 1;
        Publication { shard: self.id.index() as u8, sequence: self.publications }
    }

    /// Delivers to the subscribers of this shard; whether there are any, and which other shards have some. `store` keeps the retained
    /// message, where it is one.
    pub(super) fn deliver_here(
        &mut self,
        now: Moment,
        publishing: &mut Publishing<'_>,
        publisher: Option<u32>,
        store: Option<ShardId>,
    ) -> (bool, Elsewhere) {
        let mut matched = std::mem::take(&mut self.matched);
        let mut elsewhere = Elsewhere::default();
        let mut filters = 0;
        let visited = self.subscriptions.for_each_match(publishing.topic, |subscribers, others| {
            matched.extend_from_slice(subscribers);
            filters += usize::from(!subscribers.is_empty());
            elsewhere = elsewhere.union(others);
        });
        self.turn.add(visited + matched.len());
        let may_leave = |(subscriber, _): &(Subscriber, SubscriberOptions)| matches!(subscriber, Subscriber::Group(_));
        let goes_elsewhere = !elsewhere.peers.is_empty()
            || store.is_some_and(|store| store != self.id)
            || (self.peers.has_peers() && matched.iter().any(may_leave));
        if publishing.is_atomic && publishing.under.is_none() && goes_elsewhere && self.journal.is_on() {
            publishing.under = Some(self.transaction());
        }
        let mut templates = std::mem::take(&mut self.templates);
        if filters > 1 {
            self.deliver_overlapping(now, publishing, publisher, &mut matched, &mut templates);
        } else {
            for (subscriber, options) in &matched {
                let ids: &[u32] = options.id.as_ref().map_or(&[], |id| std::slice::from_ref(id));
                self.deliver_matched(now, publishing, publisher, *subscriber, *options, ids, &mut templates);
            }
        }
        templates.clear();
        self.templates = templates;
        let any = !matched.is_empty();
        matched.clear();
        self.matched = matched;
        (any, elsewhere)
    }

    /// One copy for each Session, with the highest QoS and all identifiers of its subscriptions that match.
    /// [MQTT-3.3.4-2], [MQTT-3.3.4-4]
    fn deliver_overlapping(
        &mut self,
        now: Moment,
        publishing: &mut Publishing<'_>,
        publisher: Option<u32>,
        matched: &mut [(Subscriber, SubscriberOptions)],
        templates: &mut Templates,
    ) {
        matched.sort_unstable_by_key(|(subscriber, options)| (*subscriber, options.id));
        for same in matched.chunk_by(|(left, _), (right, _)| left == right) {
            let subscriber = same[0].0;
            let counts = |options: &SubscriberOptions| !(options.no_local && subscriber.is(publisher));
            let mut ids = Vec::new();
            let mut merged: Option<SubscriberOptions> = None;
            for (_, options) in same.iter().filter(|(_, options)| counts(options)) {
                ids.extend(options.id);
                let so_far = merged.get_or_insert(*options);
                so_far.qos = so_far.qos.max(options.qos);
                so_far.retain_as_published |= options.retain_as_published;
                so_far.is_filtered &= options.is_filtered;
            }
            if let Some(options) = merged {
                self.deliver_matched(now, publishing, publisher, subscriber, options, &ids, templates);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and the hot path builds no struct")]
    fn deliver_matched(
        &mut self,
        now: Moment,
        publishing: &mut Publishing<'_>,
        publisher: Option<u32>,
        subscriber: Subscriber,
        options: SubscriberOptions,
        subscription_ids: &[u32],
        templates: &mut Templates,
    ) {
        match subscriber {
            Subscriber::Session(_) if options.no_local && subscriber.is(publisher) => {} // [MQTT-3.8.3-3]
            Subscriber::Session(session) if options.is_filtered && !self.may_receive(session, publishing.topic) => {}
            Subscriber::Session(session) => {
                let grant = Grant {
                    qos: publishing.qos.min(options.qos), // [MQTT-3.8.4-8]
                    retain: publishing.retain && options.retain_as_published,
                    subscription_ids,
                    shared: None,
                    is_paced: false,
                };
                if publishing.retain {
                    self.note_live_retained(session, publishing);
                }
                self.deliver(now, session, publishing, grant, templates);
            }
            Subscriber::Group(group) => self.deliver_to_group(now, group, publishing, templates),
        }
    }

    /// Delivers to one Session: at once where it is connected and its turn has come, to its queue otherwise.
    pub(super) fn deliver(
        &mut self,
        now: Moment,
        session: u32,
        publishing: &mut Publishing<'_>,
        grant: Grant<'_>,
        templates: &mut Templates,
    ) {
        if grant.qos == QoS::AtMostOnce {
            if self.pressure >= Pressure::ShedQos0 && publishing.kind != Kind::Will {
                self.stats.dropped[DropReason::Memory] += 1;
                self.note_dropped(session);
            } else if let Some(id) = self.sessions.get(session).and_then(|receiver| receiver.connection) {
                self.send_publish(id, publishing, grant, None, templates);
            }
            return;
        }
        let Some(receiver) = self.sessions.get(session) else { return };
        let connection = receiver.connection.and_then(|id| self.connections.get(id));
        let open = connection.map(|connection| {
            let has_room = connection.output.pending() < connection.bounds.output_bytes_max;
            (connection.id, if has_room { Some(connection.window) } else { None })
        });
        if let Some((id, None)) = open {
            self.note_full_output(id);
        }
        let Some(receiver) = self.sessions.get(session) else { return };
        let open = open.filter(|(_, window)| window.is_some_and(|window| receiver.outgoing.is_open(window)));
        let open = open.map(|(id, _)| id);
        let delivery = Delivery {
            message: publishing.share(),
            qos: grant.qos,
            retain: grant.retain,
            subscription_ids: SubscriptionIds::from(grant.subscription_ids),
            shared: grant.shared.cloned(),
        };
        match open {
            Some(id) if self.fits(id, &publishing.outgoing, grant) => {
                let outgoing = &mut receiver_mut(&mut self.sessions, session).outgoing;
                let place = outgoing.give_place();
                let packet_id = outgoing.begin(place, delivery);
                if self.record_queued(now, session, place, publishing, grant, Some(packet_id))
                    && grant.qos == QoS::ExactlyOnce
                {
                    // Its Packet Identifier must be known after a restart, or the client would take a repetition for another message.
                    self.hold(id, self.hold_for(publishing.under));
                }
                self.send_publish(id, publishing, grant, Some(packet_id), templates);
            }
            Some(_) => self.drop_too_large(session), // [MQTT-3.1.2-25]
            None => self.enqueue(now, session, delivery, publishing, grant),
        }
    }

    /// Puts a delivery in a Session's queue, or drops one of them where the queue is full.
    fn enqueue(
        &mut self,
        now: Moment,
        session: u32,
        delivery: Delivery,
        publishing: &mut Publishing<'_>,
        grant: Grant<'_>,
    ) {
        if publishing.is_atomic {
            self.withhold_queued(session, publishing.under);
        }
        let receiver = receiver_mut(&mut self.sessions, session);
        // What came through a Shared Subscription may have to go to another member at once.
        let is_stored = receiver.is_kept && delivery.shared.is_none();
        let queue_max = receiver.bounds.queue;
        let arrival = Arrival { delivery, queued: now, is_stored, queue_max, is_admitted: grant.is_paced };
        let queued = receiver.outgoing.enqueue(now, arrival, &mut self.queues);
        self.account_for_dropped(session);
        match queued {
            Ok(place) => {
                self.record_queued(now, session, place, publishing, grant, None);
            }
            Err(_) => {
                self.stats.dropped[DropReason::QueueFull] += 1;
                self.note_dropped(session);
            }
        }
    }

    /// Counts a delivery to a Session that was dropped.
    pub(super) fn note_dropped(&mut self, session: u32) {
        if let Some(receiver) = self.sessions.get_mut(session) {
            receiver.dropped = receiver.dropped.saturating_add(1);
        }
    }

    /// Counts a delivery that its client would not take.
    pub(super) fn drop_too_large(&mut self, session: u32) {
        self.stats.dropped[DropReason::TooLarge] += 1;
        self.note_dropped(session);
    }

    /// Notes that what is queued may not be shown before its publication is certain. More is recorded of that in this step.
    fn withhold_queued(&mut self, session: u32, under: Option<Transaction>) {
        let key = self.sessions.key(session);
        self.journal.note_unsettled(under, || Entity::Session(key));
        receiver_mut(&mut self.sessions, session).proven_from = self.journal.offset() + 1;
    }

    /// Writes down that a delivery is on its way to a Session that is kept; whether it is one.
    fn record_queued(
        &mut self,
        now: Moment,
        session: u32,
        place: Place,
        publishing: &mut Publishing<'_>,
        grant: Grant<'_>,
        packet_id: Option<PacketId>,
    ) -> bool {
        let Some(number) = self.kept_number(session) else { return false };
        let (key, under) = (self.sessions.key(session), publishing.under);
        self.journal.note_unsettled(under, || Entity::Session(key));
        self.journal.refer_to(&publishing.share());
        let record = QueuedRecord {
            session: number,
            place,
            publication: publishing.publication,
            qos: grant.qos,
            retain: grant.retain,
            subscription_ids: grant.subscription_ids.into(),
            shared: grant.shared.map(|key| (&*key.group, key.filter.as_str())),
            packet_id,
            is_released: false,
            queued: now,
        };
        self.journal.append_under(under, &Record::Queued(record));
        true
    }

    /// The number of a Session all of whose state is in the journal.
    pub(super) fn kept_number(&self, session: u32) -> Option<SessionNumber> {
        let session = self.sessions.get(session)?;
        session.number.filter(|_| session.is_kept).map(SessionNumber)
    }

    /// Counts, and writes down, what a Session's queue has dropped.
    pub(super) fn account_for_dropped(&mut self, session: u32) {
        if self.queues.dropped.is_empty() {
            return;
        }
        for dropped in std::mem::take(&mut self.queues.dropped) {
            match dropped.why {
                Lost::Expired => self.stats.dropped[DropReason::Expired] += 1,
                Lost::TooOld => self.stats.dropped[DropReason::TooOld] += 1,
                Lost::Displaced => self.stats.dropped[DropReason::QueueFull] += 1,
            }
            self.note_dropped(session);
            self.record_done(session, dropped.place, Some(dropped.publication));
        }
    }

    /// Writes down that a delivery is over.
    pub(super) fn record_done(&mut self, session: u32, place: Place, publication: Option<Publication>) {
        let Some(number) = self.kept_number(session) else { return };
        self.journal.append(&Record::Done { session: number, place });
        if let Some(publication) = publication {
            self.journal.release(publication);
        }
    }

    pub(super) fn fits(&self, id: ConnectionId, outgoing: &Outgoing<'_>, grant: Grant<'_>) -> bool {
        self.connections.get(id).is_some_and(|connection| takes(connection, outgoing, grant))
    }

    /// Appends a PUBLISH to a connection's output.
    fn send_publish(
        &mut self,
        id: ConnectionId,
        publishing: &Publishing<'_>,
        grant: Grant<'_>,
        packet_id: Option<PacketId>,
        templates: &mut Templates,
    ) {
        if publishing.is_atomic && self.journal.is_on() {
            self.hold(id, self.hold_for(publishing.under));
        }
        let is_bounded = packet_id.is_none() && !grant.is_paced;
        let stats = &mut self.stats;
        let (mut is_full, mut dropped_by) = (false, None);
        self.connections.with_output(id, |connection| {
            if packet_id.is_none() && !takes(connection, &publishing.outgoing, grant) {
                stats.dropped[DropReason::TooLarge] += 1;
                dropped_by = Some(connection.session);
                return;
            }
            if is_bounded && connection.output.pending() >= connection.bounds.output_bytes_max {
                match publishing.kind {
                    Kind::Ordinary | Kind::Volatile => stats.dropped[DropReason::OutputFull] += 1,
                    Kind::Will => stats.dropped[DropReason::WillOutputFull] += 1,
                }
                is_full = true;
                dropped_by = Some(connection.session);
                return;
            }
            stats.sent.note(grant.qos, publishing.outgoing.payload.len());
            connection.traffic.note_sent(true);
            let version = connection.version;
            if connection.aliases_out.is_none() && grant.subscription_ids.is_empty() {
                let template = templates.get(version, packet_id.is_some(), &publishing.outgoing);
                template.append(false, grant.qos, grant.retain, packet_id, connection.output.bytes());
                return;
            }
            let alias = alias_for(connection, &publishing.outgoing, grant);
            let fields = fields(grant, packet_id, false, alias);
            codec::encode_publish(version, &publishing.outgoing, &fields, connection.output.bytes());
        });
        if let Some(session) = dropped_by {
            self.note_dropped(session);
        }
        if is_full {
            self.note_full_output(id);
        }
    }

    /// Hands a delivery that a group chose to a Session here; gives it back where that Session is gone.
    pub(super) fn deliver_chosen(
        &mut self,
        now: Moment,
        key: SessionKey,
        delivery: Delivery,
        under: Option<Transaction>,
    ) {
        self.turn.add(1);
        let Some(session) = self.sessions.resolve(key).filter(|index| !self.has_ended(*index)) else {
            let gone = Member { shard: self.id, session: key };
            return self.return_delivery(now, delivery, Some(gone), under);
        };
        let message = Arc::clone(&delivery.message);
        let mut publishing = Publishing::of(&message, now).under(under);
        // The group has decided by the rights of its own shard, which may have changed here before or will change there.
        if !self.may_receive(session, publishing.topic) {
            return;
        }
        let mut templates = std::mem::take(&mut self.templates);
        self.deliver(now, session, &mut publishing, grant_of(&delivery), &mut templates);
        templates.clear();
        self.templates = templates;
    }

    fn has_ended(&self, session: u32) -> bool {
        self.sessions.get(session).is_none_or(|session| session.has_ended)
    }

    /// Delivers one retained message that a look-up found.
    pub(super) fn deliver_retained(
        &mut self,
        now: Moment,
        session: u32,
        message: &Arc<Message>,
        options: SubscriberOptions,
    ) {
        let mut publishing = Publishing::of(message, now);
        if options.is_filtered && !self.may_receive(session, publishing.topic) {
            return;
        }
        let ids: &[u32] = options.id.as_ref().map_or(&[], |id| std::slice::from_ref(id));
        let grant = Grant {
            qos: message.qos.min(options.qos),
            retain: true, // [MQTT-3.3.1-8]
            subscription_ids: ids,
            shared: None,
            is_paced: true,
        };
        let mut templates = std::mem::take(&mut self.templates);
        self.deliver(now, session, &mut publishing, grant, &mut templates);
        templates.clear();
        self.templates = templates;
    }

    /// Sends a delivery to the member that a group chose.
    pub(super) fn send_to_member(
        &mut self,
        now: Moment,
        member: Member,
        delivery: Delivery,
        under: Option<Transaction>,
    ) {
        if member.shard == self.id {
            return self.deliver_chosen(now, member.session, delivery, under);
        }
        self.note_part(under, member.shard);
        self.peers.send(member.shard, PeerMessage::Deliver { session: member.session, delivery, under });
    }
}

/// Whether the packet is no larger than the client takes. [MQTT-3.1.2-24]
fn takes(connection: &super::connection::Connection, outgoing: &Outgoing<'_>, grant: Grant<'_>) -> bool {
    connection.packet_bytes_max == usize::MAX || {
        let fields = fields(grant, PacketId::new(1), false, None);
        codec::publish_length(connection.version, outgoing, &fields) <= connection.packet_bytes_max
    }
}

/// The Topic Alias to use, unless its property would make the packet larger than the client takes. [MQTT-3.1.2-24]
pub(super) fn alias_for(
    connection: &mut super::connection::Connection,
    outgoing: &Outgoing<'_>,
    grant: Grant<'_>,
) -> Option<(std::num::NonZeroU16, bool)> {
    const ALIAS_BYTES: usize = 3;
    let aliases = connection.aliases_out.as_mut()?;
    let plain = fields(grant, PacketId::new(1), false, None);
    // The length may take a byte more than before, too.
    let length = codec::publish_length(connection.version, outgoing, &plain) + ALIAS_BYTES + 2;
    if length > connection.packet_bytes_max {
        return None;
    }
    aliases.alias(outgoing.topic)
}

pub(super) fn receiver_mut(sessions: &mut super::sessions::Sessions, session: u32) -> &mut crate::session::Session {
    sessions.get_mut(session).expect("the Session was looked up in this call")
}

pub(super) fn grant_of(delivery: &Delivery) -> Grant<'_> {
    Grant {
        qos: delivery.qos,
        retain: delivery.retain,
        subscription_ids: delivery.subscription_ids.as_slice(),
        shared: delivery.shared.as_ref(),
        is_paced: false,
    }
}

pub(super) fn fields<'a>(
    grant: Grant<'a>,
    packet_id: Option<PacketId>,
    dup: bool,
    topic_alias: Option<(std::num::NonZeroU16, bool)>,
) -> PacketFields<'a> {
    PacketFields {
        dup,
        qos: grant.qos,
        retain: grant.retain,
        packet_id: packet_id.filter(|_| grant.qos != QoS::AtMostOnce),
        topic_alias,
        subscription_identifiers: grant.subscription_ids,
    }
}
