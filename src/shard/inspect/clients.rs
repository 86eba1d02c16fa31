//! Clients: page by page, and one in detail.

use super::{ConnectionTraffic, Page, WillDetail, WillPhase};
use crate::codec::{ProtocolVersion, SubscriptionOptions};
use crate::security::wildcard;
use crate::session::bounds::Bounds;
use crate::session::{Session, SessionExpiry, Subscription};
use crate::shard::connection::{Connection, Pause};
use crate::shard::{Origin, Shard};
use crate::timer::Moment;
use std::sync::Arc;
use std::time::Duration;

/// Subscriptions that a detail names; of the others it gives the number.
const SUBSCRIPTIONS_MAX: usize = 1000;
/// Once their filters have so many bytes, these are enough: they are copied in one turn, and a client may have chosen long ones.
const FILTER_BYTES: usize = 256 * 1024;

/// Which clients are asked for; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFilter {
    /// A pattern of Client Identifiers, in which `*` stands for anything.
    pub client_id: Option<Box<str>>,
    /// A pattern of User Names. It fits nobody who has none.
    pub username: Option<Box<str>>,
    /// What the address begins with, as it is written without its port. It fits nobody who is not connected.
    pub address: Option<Box<str>>,
    /// The listener of the newest Network Connection.
    pub listener: Option<u16>,
    /// Whether there is a Network Connection.
    pub is_connected: Option<bool>,
    /// Whether there is a will.
    pub has_will: Option<bool>,
}

/// A client in a list: its Session, and its Network Connection where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSummary {
    /// The Client Identifier.
    pub client_id: Arc<str>,
    /// The User Name that it has proven.
    pub username: Option<Arc<str>>,
    /// Where its newest Network Connection came from; the address only while it is open.
    pub origin: Origin,
    /// The protocol version of its Network Connection.
    pub version: Option<ProtocolVersion>,
    /// When its Session began; where that was found in the journal, when its Network Connection had closed.
    pub created: Moment,
    /// Since when it has its Network Connection, or has none.
    pub since: Moment,
    /// How long its Session outlives its Network Connection.
    pub expiry: SessionExpiry,
    /// When its Session ends, where it has no Network Connection and does end.
    pub ends: Option<Moment>,
    /// Number of its Subscriptions.
    pub subscriptions: usize,
    /// Messages that wait for it.
    pub queued: usize,
    /// Deliveries that it has not acknowledged.
    pub in_flight: usize,
    /// Deliveries to it that were dropped since its Session began in this process.
    pub dropped: u32,
    /// Where its will stands.
    pub will: Option<WillPhase>,
}

impl ClientSummary {
    /// Whether it has a Network Connection.
    pub fn is_connected(&self) -> bool {
        self.version.is_some()
    }
}

/// A client in detail.
#[derive(Debug, Clone)]
pub struct ClientDetail {
    /// What a list tells of it.
    pub summary: ClientSummary,
    /// Its Network Connection.
    pub connection: Option<ConnectionFacts>,
    /// What its journal keeps of it outlives this process.
    pub is_kept: bool,
    /// The first of its Subscriptions, in the order of their filters; the summary has their number.
    pub subscriptions: Vec<SubscriptionFacts>,
    /// What waits for it.
    pub queue: QueueFacts,
    /// QoS 2 messages that it has published and not yet released.
    pub unreleased: usize,
    /// Retained messages are on their way to it for so many of its Subscriptions.
    pub look_ups: usize,
    /// Its will.
    pub will: Option<WillDetail>,
    /// What it may make the broker hold.
    pub bounds: Arc<Bounds>,
    /// What is known of it beside its User Name, such as the names in its certificate.
    pub fields: Arc<[(Box<str>, Box<str>)]>,
}

/// A Network Connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// It asked for a new Session.
    pub clean_start: bool,
    /// Keep Alive in force, in seconds; zero: none.
    pub keep_alive: u16,
    /// When the last packet arrived.
    pub last_packet: Moment,
    /// The Receive Maximum that the client gave.
    pub receive_maximum: u16,
    /// How many deliveries may be in flight: that, or what the limits say.
    pub window: u16,
    /// The largest packet that the client takes; `None`: any.
    pub packet_bytes_max: Option<usize>,
    /// The Authentication Method, where it went through an enhanced authentication.
    pub authentication_method: Option<Box<str>>,
    /// Bytes that wait to be sent.
    pub output_bytes: usize,
    /// Bytes that have arrived and wait to be read, or for the rest of their packet.
    pub unread_bytes: usize,
    /// Why it is not read, where it is not.
    pub pauses: Vec<Pause>,
    /// What has passed on it.
    pub traffic: ConnectionTraffic,
}

/// A Subscription of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionFacts {
    /// The Topic Filter as the client wrote it, with `$share/` and group where it is shared.
    pub filter: Box<str>,
    /// Its options.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier.
    pub id: Option<u32>,
}

/// What waits for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFacts {
    /// Messages, wills among them.
    pub messages: usize,
    /// Bytes of the messages that count towards its bounds, which wills do not.
    pub bytes: usize,
    /// Bytes of the messages that are in memory; the journal has the others.
    pub memory_bytes: usize,
    /// How long the first of them has waited.
    pub oldest: Option<Duration>,
}

impl Shard {
    /// The clients that `filter` asks for, as far as they are found in `examine` slots from `from` on. The first page begins at 0.
    ///
    /// A Session that has ended, and of which only the will is left, is no client any more.
    pub fn clients(&self, from: u32, examine: usize, filter: &ClientFilter) -> Page<ClientSummary> {
        self.page_of_sessions(from, examine, |index, session| {
            (!session.has_ended && self.is_asked_for(session, filter)).then(|| self.client_summary(index, session))
        })
    }

    /// A client that is at home here, in detail.
    pub fn client(&self, now: Moment, client_id: &str) -> Option<ClientDetail> {
        let index = self.sessions.find(client_id)?;
        let session = self.sessions.get(index).filter(|session| !session.has_ended)?;
        let queue = session.outgoing.queue();
        Some(ClientDetail {
            summary: self.client_summary(index, session),
            connection: self.connection_facts(session),
            is_kept: session.is_kept,
            subscriptions: first_subscriptions(session),
            queue: QueueFacts {
                messages: queue.len(),
                bytes: queue.load().bytes,
                memory_bytes: queue.memory_bytes(),
                oldest: queue.oldest().map(|queued| now.duration_since(queued)),
            },
            unreleased: session.received.len(),
            look_ups: session.look_ups.len(),
            will: self.will_detail(index, session),
            bounds: Arc::clone(&session.bounds),
            fields: Arc::clone(&session.identity.fields),
        })
    }

    fn is_asked_for(&self, session: &Session, filter: &ClientFilter) -> bool {
        let is = |wanted: Option<bool>, it: bool| wanted.is_none_or(|wanted| wanted == it);
        let fits = |pattern: &Option<Box<str>>, text: Option<&str>| {
            pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| wildcard::fits(pattern, text)))
        };
        is(filter.is_connected, session.connection.is_some())
            && is(filter.has_will, !matches!(session.will, crate::session::will::WillState::None))
            && filter.listener.is_none_or(|listener| session.listener == listener)
            && fits(&filter.client_id, Some(&session.client_id))
            && fits(&filter.username, session.identity.username.as_deref())
            && filter.address.as_ref().is_none_or(|prefix| {
                let peer = self.connection_of_session(session).and_then(|connection| connection.origin.peer);
                peer.is_some_and(|peer| peer.ip().to_string().starts_with(&**prefix))
            })
    }

    fn connection_of_session(&self, session: &Session) -> Option<&Connection> {
        session.connection.and_then(|id| self.connections.get(id))
    }

    fn client_summary(&self, index: u32, session: &Session) -> ClientSummary {
        let connection = self.connection_of_session(session);
        let gone = Origin { listener: session.listener, peer: None };
        ClientSummary {
            client_id: Arc::clone(&session.client_id),
            username: session.identity.username.clone(),
            origin: connection.map_or(gone, |connection| connection.origin),
            version: connection.map(|connection| connection.version),
            created: session.created,
            since: session.since,
            expiry: session.expiry,
            ends: session.ends,
            subscriptions: session.subscriptions.len(),
            queued: session.outgoing.queue().len(),
            in_flight: session.outgoing.in_flight_len(),
            dropped: session.dropped,
            will: self.will_phase(index, session),
        }
    }

    fn connection_facts(&self, session: &Session) -> Option<ConnectionFacts> {
        let connection = self.connection_of_session(session)?;
        Some(ConnectionFacts {
            clean_start: connection.clean_start,
            keep_alive: session.keep_alive,
            last_packet: connection.last_packet,
            receive_maximum: connection.receive_maximum,
            window: connection.window,
            packet_bytes_max: Some(connection.packet_bytes_max).filter(|max| *max != usize::MAX),
            authentication_method: connection.authentication.as_ref().map(|it| it.method().into()),
            output_bytes: connection.output.pending(),
            unread_bytes: connection.unread.len(),
            pauses: connection.pauses.iter().collect(),
            traffic: ConnectionTraffic::of(connection.traffic, connection.output.taken()),
        })
    }
}

fn first_subscriptions(session: &Session) -> Vec<SubscriptionFacts> {
    let mut bytes = 0;
    let first = session.subscriptions.iter().take(SUBSCRIPTIONS_MAX).map(subscription_facts);
    let has_room = |told: &SubscriptionFacts| {
        let before = bytes;
        bytes += told.filter.len();
        before < FILTER_BYTES
    };
    first.take_while(has_room).collect()
}

fn subscription_facts((filter, subscription): (impl AsRef<str>, &Subscription)) -> SubscriptionFacts {
    SubscriptionFacts { filter: filter.as_ref().into(), options: subscription.options, id: subscription.id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Connect;
    use crate::shard::{Arrival, ShardId};

    #[test]
    fn a_detail_copies_only_so_much_of_what_a_client_subscribes_to() {
        let now = Moment::ZERO;
        let mut shard = Shard::new(ShardId::new(0), 1, 1, Arc::default(), now);
        let id = crate::session::ConnectionId { index: 0, generation: 0 };
        shard.open(now, id, &Connect::new(ProtocolVersion::V3_1_1, "lamp"), Arrival::default());
        for packet_id in 1..=20u8 {
            // A SUBSCRIBE for one filter of 60,000 bytes: its remaining length is 60,005.
            let mut packet = vec![0x82, 0xE5, 0xD4, 0x03, 0, packet_id, 0xEA, 0x60, packet_id];
            packet.resize(9 + 59_999, b'x');
            packet.push(0);
            shard.receive(now, id, &packet);
        }
        let detail = shard.client(now, "lamp").unwrap();
        assert_eq!((detail.summary.subscriptions, detail.subscriptions.len()), (20, 5));
    }
}
