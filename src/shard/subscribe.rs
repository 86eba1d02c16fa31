//! SUBSCRIBE and UNSUBSCRIBE.

use super::peer::Gate;
use super::{Fault, Shard, Subscriber, SubscriberOptions};
use crate::codec::{
    Packet, ProtocolVersion, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscriptionOptions, Unsuback,
    Unsubscribe,
};
use crate::journal::record::Record;
use crate::session::message::SharedKey;
use crate::session::{ConnectionId, Subscription};
use crate::topic::{Subscribed, TopicFilter};
use std::sync::Arc;

/// A connection with so many replies waiting for other shards is read on once they have had a turn.
const GATES_MAX: usize = 64;

impl Shard {
    /// Applies a SUBSCRIBE. SUBACK leaves once every shard knows of the new subscriptions, so that no publish which starts
    /// after it is missed. (§3.8.4)
    pub(super) fn on_subscribe(&mut self, id: ConnectionId, packet: &Subscribe<'_>) -> Result<(), Fault> {
        let subscription_id = packet.subscription_identifier;
        let session = self.session_of(id);
        let bounds = Arc::clone(&self.sessions.get(session).expect("a connection has a Session").bounds);
        if subscription_id.is_some() && !bounds.subscription_identifiers {
            let reason = ReasonCode::SubscriptionIdentifiersNotSupported;
            return Err(Fault::new(reason, "Subscription Identifiers are off")); // [MQTT-3.2.2-22] and §3.2.2.3.12
        }
        let maximum_qos = QoS::new(bounds.maximum_qos).unwrap_or(QoS::ExactlyOnce);
        let gate = self.peers.name_gate();
        let mut conditions = 0;
        let mut look_ups = Vec::new();
        let mut reasons = Vec::new();
        for (at, (filter, options)) in packet.filters.iter().enumerate() {
            let too_many = at >= self.config.limits.filters_per_subscribe_max as usize;
            let granted =
                if too_many { Err(ReasonCode::QuotaExceeded) } else { self.check_filter(session, filter, options)? };
            match granted {
                Err(refused) => {
                    self.stats.filters_refused += u64::from(too_many);
                    self.stats.subscriptions_denied += u64::from(refused == ReasonCode::NotAuthorized);
                    reasons.push(refused);
                }
                Ok(subscribed) => {
                    let qos = options.qos.min(maximum_qos);
                    let options = SubscriptionOptions { qos, ..options };
                    let subscription = Subscription { subscribed, options, id: subscription_id };
                    let is_new = self.add_subscription(session, filter, &subscription, gate, &mut conditions);
                    look_ups.extend(self.wanted_look_up(session, &subscription, is_new));
                    reasons.push(granted_code(qos));
                }
            }
        }
        if let Some(fence) = self.peers.interest_outstanding() {
            self.peers.wait(fence, super::peer::Wait::Gate(gate));
            conditions += 1;
        }
        if conditions > 0 {
            let look_ups = std::mem::take(&mut look_ups);
            self.peers.add_gate(gate, Gate { conditions, connections: vec![id], look_ups, completes: None });
            let mut gates = 0;
            self.connections.with_output(id, |connection| {
                connection.output.withhold(gate);
                gates = connection.output.gates();
            });
            if gates >= GATES_MAX {
                self.pause(id);
            }
        }
        if self.journal.must_promise() {
            self.promise(id);
        }
        self.send_suback(id, packet, &reasons)?;
        for look_up in look_ups {
            self.start_look_up(look_up);
        }
        Ok(())
    }

    fn send_suback(&mut self, id: ConnectionId, packet: &Subscribe<'_>, reasons: &[ReasonCode]) -> Result<(), Fault> {
        let version = self.connections.get(id).map_or(ProtocolVersion::V5, |connection| connection.version);
        if version == ProtocolVersion::V3_1 && reasons.iter().any(|reason| reason.is_error()) {
            // 3.1 has no code for a failure, and a granted QoS would be a lie.
            return Err(Fault::new(ReasonCode::NotAuthorized, "subscription refused"));
        }
        self.send(id, &Packet::Suback(Suback::new(packet.packet_id, reasons)));
        Ok(())
    }

    /// The outer error ends the connection, the inner one refuses this filter alone.
    fn check_filter(
        &mut self,
        session: u32,
        text: &str,
        options: SubscriptionOptions,
    ) -> Result<Result<Subscribed, ReasonCode>, Fault> {
        let Ok(subscribed) = Subscribed::parse(text) else { return Ok(Err(ReasonCode::TopicFilterInvalid)) };
        let (filter, is_shared) = match &subscribed {
            Subscribed::Plain(filter) => (filter, false),
            Subscribed::Shared { filter, .. } => (filter, true),
        };
        if is_shared && options.no_local {
            return Err(Fault::new(ReasonCode::ProtocolError, "No Local on a Shared Subscription")); // [MQTT-3.8.3-4]
        }
        let subscriber = self.sessions.get(session).expect("a connection has a Session");
        let bounds = &subscriber.bounds;
        let is_new = !subscriber.subscriptions.contains_key(text);
        let refused = if is_shared && !bounds.shared_subscriptions {
            Some(ReasonCode::SharedSubscriptionsNotSupported)
        } else if filter.is_wildcard() && !bounds.wildcard_subscriptions {
            Some(ReasonCode::WildcardSubscriptionsNotSupported)
        } else if text.len() > usize::from(bounds.topic_bytes_max)
            || filter.level_count() > usize::from(bounds.topic_levels_max)
        {
            self.stats.filters_refused += 1;
            Some(ReasonCode::TopicFilterInvalid)
        } else if self.journal.is_failing() && subscriber.is_kept {
            Some(ReasonCode::QuotaExceeded)
        } else if is_new && subscriber.subscriptions.len() >= bounds.subscriptions_per_session_max as usize {
            self.stats.subscriptions_refused += 1;
            Some(ReasonCode::QuotaExceeded)
        } else if !self.rights.may_subscribe(subscriber.who(), filter) {
            Some(ReasonCode::NotAuthorized)
        } else {
            None
        };
        Ok(refused.map_or(Ok(subscribed), Err))
    }

    /// Adds or replaces a Subscription [MQTT-3.8.4-3]; whether it is new.
    fn add_subscription(
        &mut self,
        session: u32,
        text: &str,
        subscription: &Subscription,
        gate: u64,
        conditions: &mut usize,
    ) -> bool {
        let subscriber = self.sessions.get_mut(session).expect("a connection has a Session");
        let is_new = subscriber.subscriptions.insert(text.into(), subscription.clone()).is_none();
        match &subscription.subscribed {
            Subscribed::Plain(filter) => {
                let options = self.subscriber_options(session, subscription);
                self.add_subscriber(filter, Subscriber::Session(session), options);
            }
            Subscribed::Shared { group, filter } => {
                let key = Arc::new(SharedKey { group: group.as_ref().into(), filter: filter.clone() });
                *conditions += self.join(key, session, subscription, gate);
            }
        }
        if let Some(number) = self.kept_number(session) {
            let (options, id) = (subscription.options, subscription.id);
            self.journal.append(&Record::Subscribed { session: number, filter: text, options, id });
        }
        is_new
    }

    /// Puts a subscriber into the trie, and tells the peers where it is the first, or the first that keeps what it is sent.
    pub(super) fn add_subscriber(&mut self, filter: &TopicFilter, subscriber: Subscriber, options: SubscriberOptions) {
        let inserted = self.subscriptions.insert(filter, subscriber, options);
        let is_known_to_keep = inserted.neighbour.is_some_and(|neighbour| neighbour.keeps);
        if inserted.is_first || (options.keeps && !is_known_to_keep) {
            self.peers.tell_interest(filter, true, options.keeps);
        }
    }

    /// The look-up of retained messages that a Subscription asks for. (§3.8.3.1)
    fn wanted_look_up(&mut self, session: u32, subscription: &Subscription, is_new: bool) -> Option<u64> {
        let wanted = match subscription.options.retain_handling {
            RetainHandling::Send => true,        // [MQTT-3.3.1-9]
            RetainHandling::SendIfNew => is_new, // [MQTT-3.3.1-10]
            RetainHandling::DoNotSend => false,  // [MQTT-3.3.1-11]
        };
        let bounds = &self.sessions.get(session).expect("a connection has a Session").bounds;
        match &subscription.subscribed {
            Subscribed::Plain(filter) if wanted && bounds.retain => {
                let options = self.subscriber_options(session, subscription);
                Some(self.add_look_up(session, filter.clone(), options))
            }
            Subscribed::Plain(_) | Subscribed::Shared { .. } => None,
        }
    }

    /// Applies an UNSUBSCRIBE. (§3.10.4)
    pub(super) fn on_unsubscribe(&mut self, id: ConnectionId, packet: &Unsubscribe<'_>) -> Result<(), Fault> {
        let session = self.session_of(id);
        if packet.filters.iter().count() > self.config.limits.filters_per_subscribe_max as usize {
            // UNSUBACK has no code for it, and in 3.x none at all.
            self.stats.filters_refused += 1;
            return Err(Fault::new(ReasonCode::QuotaExceeded, "more Topic Filters in one UNSUBSCRIBE than allowed"));
        }
        let mut reasons = Vec::new();
        for text in packet.filters.iter() {
            let subscriber = self.sessions.get_mut(session).expect("a connection has a Session");
            let removed = subscriber.subscriptions.remove(text);
            reasons.push(match &removed {
                Some(_) => ReasonCode::Success,
                None if Subscribed::parse(text).is_err() => ReasonCode::TopicFilterInvalid,
                None => ReasonCode::NoSubscriptionExisted,
            });
            if let Some(subscription) = removed {
                self.drop_subscription(session, &subscription.subscribed);
                if let Some(number) = self.kept_number(session) {
                    self.journal.append(&Record::Unsubscribed { session: number, filter: text });
                }
            }
        }
        if self.journal.must_promise() {
            self.promise(id);
        }
        self.send(id, &Packet::Unsuback(Unsuback::new(packet.packet_id, &reasons)));
        Ok(())
    }

    /// Takes a Subscription out of the trie, or out of its group.
    pub(super) fn drop_subscription(&mut self, session: u32, subscribed: &Subscribed) {
        match subscribed {
            Subscribed::Plain(filter) => self.forget_subscriber(filter, Subscriber::Session(session)),
            Subscribed::Shared { group, filter } => {
                let key = Arc::new(SharedKey { group: group.as_ref().into(), filter: filter.clone() });
                self.leave(key, session);
            }
        }
    }

    pub(super) fn forget_subscriber(&mut self, filter: &TopicFilter, subscriber: Subscriber) {
        let removed = self.subscriptions.remove(filter, subscriber);
        if removed.was_last {
            self.peers.tell_interest(filter, false, false);
        }
    }
}

fn granted_code(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::GRANTED_QOS_0,
        QoS::AtLeastOnce => ReasonCode::GrantedQos1,
        QoS::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}
