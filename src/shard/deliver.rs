//! From one publication to its subscribers.

use super::peer::{Member, PeerMessage, SessionKey};
use super::{Shard, Subscriber, SubscriberOptions};
use crate::codec::{self, Delivery as PacketFields, Outgoing, PacketId, PublishTemplate, QoS};
use crate::session::ConnectionId;
use crate::session::message::{Author, Delivery, Kind, Message, Parts, Publication, SharedKey, SubscriptionIds};
use crate::session::outgoing::QueueLimits;
use crate::timer::Moment;
use crate::topic::{PeerSet, TopicName};
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
        }
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
    pub(super) to_peers: bool,
}

impl Shard {
    /// Routes a publication: to the subscribers here, to the other shards that have any, and to its retained store.
    pub(super) fn route(&mut self, now: Moment, publishing: &mut Publishing<'_>, publisher: Option<u32>) -> Routed {
        if publishing.shared.is_none() {
            publishing.publication = self.next_publication();
        }
        let (matched, peers) = self.deliver_here(now, publishing, publisher);
        let store = publishing.retain.then(|| self.retained_home(publishing.outgoing.topic));
        let mut to_peers = false;
        for peer in self.peers.others() {
            let deliver = peers.contains(peer.index());
            let store = store == Some(peer);
            if deliver || store {
                self.peers.send(peer, PeerMessage::Publish { message: publishing.share(), deliver, store });
                to_peers = true;
            }
        }
        if store == Some(self.id) {
            let message = publishing.share();
            self.store_retained(now, message);
        }
        Routed { matched: matched || !peers.is_empty(), to_peers }
    }

    /// Numbers a publication of this shard.
    pub(super) fn next_publication(&mut self) -> Publication {
        self.publications += 1;
        Publication { shard: self.id.index() as u8, sequence: self.publications }
    }

    /// Delivers to the subscribers of this shard; whether there are any, and which other shards have some.
    pub(super) fn deliver_here(
        &mut self,
        now: Moment,
        publishing: &mut Publishing<'_>,
        publisher: Option<u32>,
    ) -> (bool, PeerSet) {
        let mut matched = std::mem::take(&mut self.matched);
        let mut peers = PeerSet::default();
        let mut filters = 0;
        self.subscriptions.for_each_match(publishing.topic, |subscribers, others| {
            matched.extend_from_slice(subscribers);
            filters += usize::from(!subscribers.is_empty());
            peers = peers.union(others);
        });
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
        (any, peers)
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
            if let Some(id) = self.sessions.get(session).and_then(|receiver| receiver.connection) {
                self.send_publish(id, publishing, grant, None, templates);
            }
            return;
        }
        let limits = self.queue_limits(grant.is_paced);
        let output_bytes_max = self.config.limits.output_bytes_max;
        let Some(receiver) = self.sessions.get_mut(session) else { return };
        let connection = receiver.connection.and_then(|id| self.connections.get(id));
        let connected = connection.map(|connection| {
            let has_room = connection.output.pending() < output_bytes_max;
            (connection.id, if has_room { connection.window } else { 0 })
        });
        let is_open = |window| receiver.outgoing.is_open(window);
        let delivery = Delivery {
            message: publishing.share(),
            qos: grant.qos,
            retain: grant.retain,
            subscription_ids: SubscriptionIds::from(grant.subscription_ids),
            shared: grant.shared.cloned(),
        };
        match connected {
            Some((id, window)) if is_open(window) => {
                if self.fits(id, &publishing.outgoing, grant) {
                    let packet_id = receiver_mut(&mut self.sessions, session).outgoing.begin(delivery);
                    self.send_publish(id, publishing, grant, Some(packet_id), templates);
                } else {
                    self.stats.dropped_too_large += 1; // [MQTT-3.1.2-25]
                }
            }
            Some(_) | None => {
                if receiver.outgoing.enqueue(now, delivery, limits).is_err() {
                    self.stats.dropped_queue_full += 1;
                }
            }
        }
    }

    fn queue_limits(&self, is_paced: bool) -> QueueLimits {
        if is_paced {
            return QueueLimits { messages_max: usize::MAX, bytes_max: usize::MAX };
        }
        let sessions = &self.config.sessions;
        QueueLimits { messages_max: sessions.queue_messages_max as usize, bytes_max: sessions.queue_bytes_max }
    }

    fn fits(&self, id: ConnectionId, outgoing: &Outgoing<'_>, grant: Grant<'_>) -> bool {
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
        let is_bounded = packet_id.is_none() && !grant.is_paced;
        let output_bytes_max = self.config.limits.output_bytes_max;
        let stats = &mut self.stats;
        self.connections.with_output(id, |connection| {
            if packet_id.is_none() && !takes(connection, &publishing.outgoing, grant) {
                stats.dropped_too_large += 1;
                return;
            }
            if is_bounded && connection.output.pending() >= output_bytes_max {
                match publishing.kind {
                    Kind::Ordinary => stats.dropped_output_full += 1,
                    Kind::Will => stats.dropped_wills_output_full += 1,
                }
                return;
            }
            stats.publishes_sent += 1;
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
    }

    /// Sends what waits in a Session's queue, as far as its window allows.
    pub(super) fn send_queued(&mut self, now: Moment, session: u32) {
        let Some(id) = self.sessions.get(session).and_then(|session| session.connection) else { return };
        let Some(window) = self.connections.get(id).map(|connection| connection.window) else { return };
        self.resend(now, session, id, window);
        let mut expired = 0;
        while self.has_output_room(id) {
            let outgoing = &mut receiver_mut(&mut self.sessions, session).outgoing;
            let Some(delivery) = outgoing.next(now, window, &mut expired) else { break };
            if self.fits(id, &delivery.message.outgoing(now), grant_of(&delivery)) {
                let outgoing = &mut receiver_mut(&mut self.sessions, session).outgoing;
                let packet_id = outgoing.begin(delivery.clone());
                self.send_delivery(now, id, &delivery, packet_id, false);
            } else {
                self.stats.dropped_too_large += 1;
            }
        }
        self.stats.dropped_expired += expired;
    }

    fn send_delivery(&mut self, now: Moment, id: ConnectionId, delivery: &Delivery, packet_id: PacketId, dup: bool) {
        self.stats.publishes_sent += 1;
        self.connections.with_output(id, |connection| {
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
            let Some((packet_id, sending)) = outgoing.next_unsent(window) else { return };
            match sending.delivery().cloned() {
                None => self.send_pubrel(id, packet_id, codec::ReasonCode::Success),
                Some(delivery) if self.fits(id, &delivery.message.outgoing(now), grant_of(&delivery)) => {
                    self.send_delivery(now, id, &delivery, packet_id, true); // [MQTT-3.3.1-1]
                }
                Some(_) => {
                    receiver_mut(&mut self.sessions, session).outgoing.abandon(packet_id);
                    self.stats.dropped_too_large += 1; // [MQTT-3.1.2-25]
                }
            }
        }
    }

    /// Whether a connection's output is below its limit, so that more may be put into it.
    fn has_output_room(&self, id: ConnectionId) -> bool {
        let output_bytes_max = self.config.limits.output_bytes_max;
        self.connections.get(id).is_some_and(|connection| connection.output.pending() < output_bytes_max)
    }

    /// Hands a delivery that a group chose to a Session here; gives it back where that Session is gone.
    pub(super) fn deliver_chosen(&mut self, now: Moment, key: SessionKey, delivery: Delivery) {
        let Some(session) = self.sessions.resolve(key).filter(|index| !self.has_ended(*index)) else {
            return self.return_delivery(now, delivery);
        };
        let message = Arc::clone(&delivery.message);
        let mut publishing = Publishing::of(&message, now);
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
    pub(super) fn send_to_member(&mut self, now: Moment, member: Member, delivery: Delivery) {
        if member.shard == self.id {
            self.deliver_chosen(now, member.session, delivery);
        } else {
            self.peers.send(member.shard, PeerMessage::Deliver { session: member.session, delivery });
        }
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
fn alias_for(
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

fn receiver_mut(sessions: &mut super::sessions::Sessions, session: u32) -> &mut crate::session::Session {
    sessions.get_mut(session).expect("the Session was looked up in this call")
}

fn grant_of(delivery: &Delivery) -> Grant<'_> {
    Grant {
        qos: delivery.qos,
        retain: delivery.retain,
        subscription_ids: delivery.subscription_ids.as_slice(),
        shared: delivery.shared.as_ref(),
        is_paced: false,
    }
}

fn fields<'a>(
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
