//! Presence: a message for each client that comes or goes, so that others know who is there without every device leaving a will.
//!
//! The topic is `presence.root` with the Client Identifier below it, the payload JSON. The messages are volatile
//! ([`announce`](super::announce)). Where `presence.retain` is on, the newest one about a client is retained as long as its Session lives,
//! and withdrawn, without a message, when that ends: who subscribes gets one for each Session.
//!
//! A takeover is one more "connected", with the facts of the new Network Connection, and no "disconnected" before it: the client is there
//! throughout. So is one more with the same facts, and no will, once an operator has published or discarded the will of a client that is there.
//! When the broker stops, in order or not, nothing is said: it is the broker that goes, not its clients. After a start nobody
//! is told of before it connects.
//!
//! **Order**: whoever has seen a client's "disconnected" sees no older "connected" of it afterwards. Both come from one shard, the client's
//! home, in the order in which things happened there. To each other shard, be it home to a subscriber or to the retained message, they
//! go through one channel, and channels are FIFO. A subscriber's output and queue keep the order in which its shard appends to them. A
//! retained message that is looked up meanwhile is dropped where a newer one came live, as with all that is retained. What a shard puts
//! aside goes on in its order, too. (Among the members of a Shared Subscription there is no such order.)
//!
//! **Cost**: without `presence.enabled` one look at a flag for each connection that begins or ends. With it, a message of some hundred bytes,
//! a walk of the trie, and at most one letter for each peer. They are never dropped for a full channel, and need not be: a
//! connection causes two of them, and what may connect is bounded.

use super::announce::{Announcement, publishing};
use super::{Pressure, Shard};
use crate::codec::{ForwardedBuilder, QoS, ReasonCode};
use crate::config::ListenerKind;
use crate::session::will::{Cause, WillState};
use crate::session::{ConnectionId, SessionExpiry};
use crate::timer::{Moment, TimeOfDay};
use crate::topic::TopicName;
use serde::Serialize;
use std::net::SocketAddr;

/// What is told of a client that comes or goes.
#[derive(Debug, Serialize)]
struct Told<'a> {
    client_id: &'a str,
    status: &'static str,
    at: String,
    /// Why it is gone. (WILLS.md)
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// The Reason Code of the DISCONNECT that was sent or received.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<u8>,
    address: Option<SocketAddr>,
    listener: u16,
    transport: Option<&'static str>,
    protocol: &'static str,
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clean_start: Option<bool>,
    /// `None`: it never expires.
    session_expiry_seconds: Option<u32>,
    keep_alive_seconds: u16,
    will: Option<&'static str>,
}

/// What is new about a client.
#[derive(Debug, Clone, Copy)]
enum News {
    Connected { clean_start: bool },
    Disconnected { cause: Cause, reason: Option<ReasonCode>, had_will: bool },
}

impl Shard {
    /// Tells that a client has connected.
    pub(super) fn tell_of_arrival(&mut self, now: Moment, id: ConnectionId, clean_start: bool) {
        if self.config.presence.enabled {
            self.tell_news(now, id, News::Connected { clean_start });
        }
    }

    /// Tells that a client is gone, once it is known what becomes of its will. Its connection is still there.
    pub(super) fn tell_of_departure(
        &mut self,
        now: Moment,
        id: ConnectionId,
        cause: Cause,
        reason: Option<ReasonCode>,
        had_will: bool,
    ) {
        if self.config.presence.enabled && !self.stop.is_asked {
            self.tell_news(now, id, News::Disconnected { cause, reason, had_will });
        }
    }

    /// Tells once more that a client is there, since an operator has taken its will: it has none from now on.
    pub(super) fn tell_of_will_taken(&mut self, now: Moment, client_id: &str) {
        let connection = self.connection_of(client_id).filter(|_| self.config.presence.enabled);
        let clean_start = connection.and_then(|id| self.connections.get(id)).map(|connection| connection.clean_start);
        if let (Some(id), Some(clean_start)) = (connection, clean_start) {
            self.tell_news(now, id, News::Connected { clean_start });
        }
    }

    /// A Session ends: what is retained about it goes. In a stop all of it goes.
    pub(super) fn withdraw_presence(&mut self, now: Moment, session: u32) {
        let presence = &self.config.presence;
        if !presence.enabled || !presence.retain || self.stop.is_asked {
            return;
        }
        let Some(owner) = self.sessions.get(session) else { return };
        let topic = topic_of(&presence.root, &owner.client_id);
        if let Ok(topic) = TopicName::parse(&topic) {
            self.withdraw(now, topic);
        }
    }

    fn tell_news(&mut self, now: Moment, id: ConnectionId, news: News) {
        let Some(connection) = self.connections.get(id) else { return };
        let session = connection.session;
        let Some(owner) = self.sessions.get(session) else { return };
        let listener = self.config.listeners.get(usize::from(connection.origin.listener));
        let mut told = Told {
            client_id: &owner.client_id,
            status: "connected",
            at: TimeOfDay(owner.since).to_string(),
            cause: None,
            reason_code: None,
            address: connection.origin.peer,
            listener: connection.origin.listener,
            transport: listener.map(|listener| transport(listener.kind)),
            protocol: connection.version.number(),
            username: owner.identity.username.as_deref(),
            clean_start: None,
            session_expiry_seconds: (owner.expiry != SessionExpiry::NEVER).then(|| owner.expiry.as_seconds()),
            keep_alive_seconds: owner.keep_alive,
            will: will(&owner.will),
        };
        match news {
            News::Connected { clean_start } => told.clean_start = Some(clean_start),
            News::Disconnected { cause, reason, had_will } => {
                told.status = "disconnected";
                told.cause = Some(cause.as_str());
                told.reason_code = reason.map(|reason| reason as u8);
                told.will = told.will.or(had_will.then_some("discarded"));
            }
        }
        let payload = serde_json::to_vec(&told).expect("it has no map with other keys than strings");
        let topic = topic_of(&self.config.presence.root, &owner.client_id);
        // Where it ends with the connection, it is withdrawn next: that need not be stored first.
        let ends_now = matches!(news, News::Disconnected { .. }) && owner.expiry == SessionExpiry::WITH_CONNECTION;
        let Ok(topic) = TopicName::parse(&topic) else {
            self.stats.presence_untold += 1; // The Client Identifier makes it too long.
            return;
        };
        let properties = ForwardedBuilder::new().payload_format_is_utf8(true).content_type("application/json");
        let announcement = Announcement {
            forwarded: properties.forwarded(),
            qos: self.presence_qos(),
            retain: self.config.presence.retain && self.config.features.retain,
            ..Announcement::volatile(topic, &payload)
        };
        let store = (announcement.retain && !ends_now).then(|| self.retained_home(topic.as_str()));
        let mut filtered = Vec::new();
        let mut publishing = publishing(now, &announcement, &mut filtered);
        self.route_to_store(now, &mut publishing, None, store);
        self.stats.presence_told += 1;
        if self.config.presence.retain && !self.config.features.retain {
            self.withdraw(now, topic); // It was retained until the settings changed, and is past now.
        }
    }

    /// With QoS 0 nothing needs to be kept for anybody, neither on a disk that refuses it nor in memory that is used up. The client cannot be
    /// made to come or go another time.
    fn presence_qos(&self) -> QoS {
        let must_be_light = self.journal.is_failing() || self.pressure >= Pressure::PausePublishers;
        let asked = QoS::new(self.config.presence.qos.min(self.config.limits.maximum_qos));
        asked.filter(|_| !must_be_light).unwrap_or(QoS::AtMostOnce)
    }
}

/// The topic about a client: what would end a level, or be a wildcard in it, is percent-encoded.
fn topic_of(root: &str, client_id: &str) -> String {
    let mut topic = String::with_capacity(root.len() + 1 + client_id.len());
    topic.push_str(root);
    topic.push('/');
    for character in client_id.chars() {
        match character {
            '%' => topic.push_str("%25"),
            '/' => topic.push_str("%2F"),
            '+' => topic.push_str("%2B"),
            '#' => topic.push_str("%23"),
            other => topic.push(other),
        }
    }
    topic
}

fn transport(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tcp => "tcp",
        ListenerKind::Tls => "tls",
        ListenerKind::Ws => "ws",
        ListenerKind::Wss => "wss",
        ListenerKind::Unix => "unix",
    }
}

fn will(state: &WillState) -> Option<&'static str> {
    match state {
        WillState::None => None,
        WillState::Armed(_) => Some("armed"),
        WillState::Pending { .. } => Some("pending"),
        WillState::Due { .. } => Some("due"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_a_meaning_in_topics_is_encoded() {
        assert_eq!(topic_of("$SYS/broker/presence", "lamp-1"), "$SYS/broker/presence/lamp-1");
        assert_eq!(topic_of("r", "a/b+c#d%e$ü"), "r/a%2Fb%2Bc%23d%25e$ü");
    }

    proptest! {
        /// Each Client Identifier has a topic of its own, one level below the root.
        #[test]
        fn every_client_has_a_topic(one in "[^\0]{1,40}", other in "[^\0]{1,40}") {
            let topic = topic_of("a/b", &one);
            prop_assert_eq!(TopicName::parse(&topic).unwrap().levels().count(), 3);
            prop_assert_eq!(one == other, topic == topic_of("a/b", &other));
        }
    }
}
