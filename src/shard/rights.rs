//! What the clients of this shard may do, asked where it costs least.
//!
//! Publishing is decided once for each topic of a connection. Whether a Subscription needs to be looked at message by message is decided
//! when it is made, and whenever rights or identity change: nearly all do not, and these pay one look at a flag. What waits in a queue
//! while rights change is looked at again when it is sent.

use super::shared::Reader;
use super::{Shard, Subscriber, SubscriberOptions};
use crate::security::rights::Decisions;
use crate::security::{Action, Identity, Rights, Who};
use crate::session::queue::Place;
use crate::session::{ConnectionId, Subscription};
use crate::topic::{Subscribed, TopicName};
use std::sync::Arc;

impl Shard {
    /// Replaces the rights in force, at once and for everybody who is connected. What is subscribed to stays, and delivers what is now
    /// allowed; wills are looked at when they are published.
    pub fn set_rights(&mut self, rights: Arc<Rights>) {
        self.rights = rights;
        for id in self.connections.ids() {
            self.forget_publishing(id);
        }
        for session in self.sessions.indices().collect::<Vec<_>>() {
            self.look_again_at(session);
        }
        self.look_again_at_groups();
    }

    /// Notes who the client of a Session is now.
    pub(super) fn set_identity(&mut self, session: u32, identity: Identity) {
        let owner = self.sessions.get_mut(session).expect("the client has a Session");
        if owner.identity == identity {
            return;
        }
        owner.identity = identity;
        if let Some(id) = owner.connection {
            self.forget_publishing(id);
        }
        self.look_again_at(session);
        let subscriptions = &self.sessions.get(session).expect("as above").subscriptions;
        let is_shared = |it: &&Subscription| matches!(it.subscribed, Subscribed::Shared { .. });
        for subscription in subscriptions.values().filter(is_shared).cloned().collect::<Vec<_>>() {
            self.rejoin(session, &subscription); // The group decides by who its members are.
        }
    }

    fn forget_publishing(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.may_publish = None;
        }
    }

    /// Decides anew what of a Session must be looked at message by message.
    fn look_again_at(&mut self, session: u32) {
        let Some(owner) = self.sessions.get_mut(session) else { return };
        owner.may_receive = None;
        owner.unchecked_up_to = owner.outgoing.last_place();
        self.look_ups.look_at_each(&owner.look_ups);
        let subscriber = Subscriber::Session(session);
        for subscription in owner.subscriptions.values() {
            let Subscribed::Plain(filter) = &subscription.subscribed else { continue };
            let is_filtered = !self.rights.may_receive_all(owner.who(), filter);
            let known = self.subscriptions.get(filter, subscriber);
            if let Some(known) = known.filter(|known| known.is_filtered != is_filtered) {
                self.subscriptions.insert(filter, subscriber, SubscriberOptions { is_filtered, ..known });
            }
        }
    }

    /// The options of a Session's Subscription for the trie.
    pub(super) fn subscriber_options(&self, session: u32, subscription: &Subscription) -> SubscriberOptions {
        let owner = self.sessions.get(session).expect("the Session subscribes");
        let is_filtered = !self.rights.may_receive_all(owner.who(), subscription.subscribed.filter());
        SubscriberOptions { is_filtered, ..SubscriberOptions::of(subscription, owner.is_kept) }
    }

    /// Whether the client of a connection may publish to a topic.
    pub(super) fn may_publish(&mut self, id: ConnectionId, session: u32, topic: TopicName<'_>) -> bool {
        let author = self.sessions.get(session).expect("a connection has a Session");
        if self.rights.is_open_for(&author.identity) {
            return !topic.is_reserved(); // [MQTT-4.7.2-1]
        }
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let decisions = connection.may_publish.get_or_insert_default();
        let hash = self.hasher.hash_one(topic.as_str());
        decisions.get(hash, topic, || self.rights.may(author.who(), Action::Publish, topic))
    }

    /// Whether a Session may be sent a message of a topic; counts where it may not.
    pub(super) fn may_receive(&mut self, session: u32, topic: TopicName<'_>) -> bool {
        let Some(receiver) = self.sessions.get_mut(session) else { return false };
        let who = Who { identity: &receiver.identity, client_id: &receiver.client_id };
        let decisions = &mut receiver.may_receive;
        let is_allowed = may_receive(&self.rights, who, decisions, || self.hasher.hash_one(topic.as_str()), topic);
        self.stats.deliveries_denied += u64::from(!is_allowed);
        is_allowed
    }

    /// Whether a delivery that has waited may still be sent: rights may have changed since it was queued.
    pub(super) fn may_still_receive(&mut self, session: u32, place: Place, topic: &str) -> bool {
        let is_checked = self.sessions.get(session).is_none_or(|receiver| place > receiver.unchecked_up_to);
        is_checked || TopicName::parse(topic).is_ok_and(|topic| self.may_receive(session, topic))
    }

    /// Who a member of a group is.
    pub(super) fn reader(&self, session: u32) -> Arc<Reader> {
        let owner = self.sessions.get(session).expect("the Session subscribes");
        Arc::new(Reader { identity: owner.identity.clone(), client_id: Arc::clone(&owner.client_id) })
    }
}

/// Whether somebody may be sent a message of a topic, from what was decided before where it was.
pub(super) fn may_receive(
    rights: &Rights,
    who: Who<'_>,
    decisions: &mut Option<Box<Decisions>>,
    hash: impl FnOnce() -> u64,
    topic: TopicName<'_>,
) -> bool {
    if rights.is_open_for(who.identity) {
        return true;
    }
    decisions.get_or_insert_default().get(hash(), topic, || rights.may(who, Action::Receive, topic))
}
