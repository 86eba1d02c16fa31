//! Shared Subscriptions: each group lives on one shard, which chooses a member for every message. (§4.8.2)

use super::deliver::{Grant, Publishing, Templates};
use super::peer::{Member, PeerMessage, Wait};
use super::{DropReason, Shard, ShardId, Subscriber, SubscriberOptions};
use crate::codec::QoS;
use crate::journal::record::Transaction;
use crate::security::rights::Decisions;
use crate::security::{Identity, Rights, Who};
use crate::session::Subscription;
use crate::session::message::{Delivery, SharedKey, SubscriptionIds};
use crate::timer::Moment;
use crate::topic::TopicName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who a member is, for a group that lives on another shard than it.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) identity: Identity,
    pub(super) client_id: Arc<str>,
}

impl Reader {
    fn who(&self) -> Who<'_> {
        Who { identity: &self.identity, client_id: &self.client_id }
    }
}

/// A member of a group, and what it wants.
#[derive(Debug)]
pub struct Joined {
    member: Member,
    options: SubscriberOptions,
    is_connected: bool,
    reader: Arc<Reader>,
    /// Which topics it may be sent messages of, as far as it was asked.
    may_receive: Option<Box<Decisions>>,
}

impl Joined {
    /// Who it is.
    pub(super) fn client_id(&self) -> &Arc<str> {
        &self.reader.client_id
    }

    /// What it wants.
    pub(super) fn options(&self) -> &SubscriberOptions {
        &self.options
    }

    /// Whether it has a Network Connection.
    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether it may be sent a message of a topic.
    fn may_receive(&mut self, rights: &Rights, hasher: &ahash::RandomState, topic: TopicName<'_>) -> bool {
        let Self { options, reader, may_receive, .. } = self;
        !options.is_filtered
            || super::rights::may_receive(rights, reader.who(), may_receive, || hasher.hash_one(topic.as_str()), topic)
    }
}

/// The member that gets a message.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    member: Member,
    options: SubscriberOptions,
}

#[derive(Debug)]
struct Group {
    key: Arc<SharedKey>,
    members: Vec<Joined>,
    next: usize,
}

impl Group {
    /// The next member in turn that is connected, or else one whose Session keeps the message for it, of those that may receive it.
    fn choose(&mut self, qos: QoS, mut may_receive: impl FnMut(&mut Joined) -> bool) -> Option<Chosen> {
        let (count, next) = (self.members.len(), self.next);
        let members = &mut self.members;
        let mut find = |is_wanted: &dyn Fn(&Joined) -> bool| {
            let mut in_turn = (0..count).map(|step| (next + step) % count);
            in_turn.find(|at| is_wanted(&members[*at]) && may_receive(&mut members[*at]))
        };
        let keeps = |joined: &Joined| qos.min(joined.options.qos) != QoS::AtMostOnce;
        let at = find(&|joined| joined.is_connected).or_else(|| find(&keeps))?;
        self.next = at + 1;
        let Joined { member, options, .. } = self.members[at];
        Some(Chosen { member, options })
    }
}

/// The groups that live on one shard.
#[derive(Debug, Default)]
pub(super) struct Groups {
    slots: Vec<Option<Group>>,
    free: Vec<u32>,
    by_key: BTreeMap<Arc<SharedKey>, u32>,
    members: usize,
}

impl Groups {
    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many members all of them have.
    pub(super) fn members(&self) -> usize {
        self.members
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The name and the members of a group.
    pub(super) fn get(&self, index: u32) -> Option<(&SharedKey, &[Joined])> {
        let group = self.slots.get(index as usize)?.as_ref()?;
        Some((&group.key, &group.members))
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Group> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    fn find_or_add(&mut self, key: &Arc<SharedKey>) -> (u32, &mut Group) {
        let index = *self.by_key.entry(Arc::clone(key)).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 groups fit in memory")
            })
        });
        let group = || Group { key: Arc::clone(key), members: Vec::new(), next: 0 };
        (index, self.slots[index as usize].get_or_insert_with(group))
    }

    fn remove(&mut self, index: u32) {
        if let Some(group) = self.slots[index as usize].take() {
            self.by_key.remove(&group.key);
            self.free.push(index);
        }
    }
}

impl Shard {
    fn group_home(&self, key: &SharedKey) -> ShardId {
        ShardId::new((self.hasher.hash_one(key) % self.peers.shards() as u64) as usize)
    }

    fn member(&self, session: u32) -> Member {
        Member { shard: self.id, session: self.sessions.key(session) }
    }

    /// Makes a Session a member; how many conditions its SUBACK waits for.
    pub(super) fn join(&mut self, key: Arc<SharedKey>, session: u32, subscription: &Subscription, gate: u64) -> usize {
        let member = self.member(session);
        let home = self.group_home(&key);
        let subscriber = self.sessions.get(session);
        let is_connected = subscriber.is_some_and(|subscriber| subscriber.connection.is_some());
        let options = SubscriberOptions::of(subscription, subscriber.is_some_and(|subscriber| subscriber.is_kept));
        let joined = Joined { member, options, is_connected, reader: self.reader(session), may_receive: None };
        if home == self.id {
            self.add_member(&key, joined);
            return 0; // The fence behind the interest is waited for by the caller.
        }
        self.peers.send(home, PeerMessage::Join { key, joined, gate });
        1
    }

    /// Ends a membership.
    pub(super) fn leave(&mut self, key: Arc<SharedKey>, session: u32) {
        let member = self.member(session);
        let home = self.group_home(&key);
        if home == self.id {
            self.remove_member(&key, member);
        } else {
            self.peers.send(home, PeerMessage::Leave { key, member });
        }
    }

    /// Tells the groups of a Session whether it has a Network Connection.
    pub(super) fn tell_presence(&mut self, session: u32, is_connected: bool) {
        let Some(subscriber) = self.sessions.get(session) else { return };
        let shared = subscriber.subscriptions.values().filter_map(|subscription| match &subscription.subscribed {
            crate::topic::Subscribed::Shared { group, filter } => {
                Some(Arc::new(SharedKey { group: group.as_ref().into(), filter: filter.clone() }))
            }
            crate::topic::Subscribed::Plain(_) => None,
        });
        let member = self.member(session);
        for key in shared.collect::<Vec<_>>() {
            let home = self.group_home(&key);
            if home == self.id {
                self.set_presence(&key, member, is_connected);
            } else {
                self.peers.send(home, PeerMessage::Presence { key, member, is_connected });
            }
        }
    }

    pub(super) fn on_join(&mut self, peer: ShardId, key: &Arc<SharedKey>, joined: Joined, gate: u64) {
        self.add_member(key, joined);
        match self.peers.interest_outstanding() {
            Some(fence) => self.peers.wait(fence, Wait::Joined { peer, gate }),
            None => self.peers.send(peer, PeerMessage::Joined { gate }),
        }
    }

    fn add_member(&mut self, key: &Arc<SharedKey>, mut joined: Joined) {
        joined.options.is_filtered = !self.rights.may_receive_all(joined.reader.who(), &key.filter);
        let options = joined.options;
        let (index, group) = self.groups.find_or_add(key);
        let before = group.members.len();
        match group.members.iter_mut().find(|known| known.member == joined.member) {
            Some(known) => *known = joined,
            None => group.members.push(joined),
        }
        // The group may store what it is sent if any of its members may.
        let keeps = group.members.iter().any(|member| member.options.keeps);
        let joined = group.members.len() - before;
        self.groups.members += joined;
        let options = SubscriberOptions { keeps, ..options };
        self.add_subscriber(&key.filter, Subscriber::Group(index), options);
    }

    pub(super) fn remove_member(&mut self, key: &Arc<SharedKey>, member: Member) {
        let Some(index) = self.groups.by_key.get(key).copied() else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        let before = group.members.len();
        group.members.retain(|joined| joined.member != member);
        let (left, is_empty) = (before - group.members.len(), group.members.is_empty());
        self.groups.members -= left;
        if is_empty {
            self.groups.remove(index);
            self.forget_subscriber(&key.filter, Subscriber::Group(index));
        }
    }

    pub(super) fn set_presence(&mut self, key: &Arc<SharedKey>, member: Member, is_connected: bool) {
        let Some(index) = self.groups.by_key.get(key).copied() else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        if let Some(joined) = group.members.iter_mut().find(|joined| joined.member == member) {
            joined.is_connected = is_connected;
        }
    }

    /// Decides anew which members must be looked at message by message, since rights have changed.
    pub(super) fn look_again_at_groups(&mut self) {
        for group in self.groups.slots.iter_mut().flatten() {
            for joined in &mut group.members {
                joined.options.is_filtered = !self.rights.may_receive_all(joined.reader.who(), &group.key.filter);
                joined.may_receive = None;
            }
        }
    }

    /// Delivers a publication to one member of a group.
    pub(super) fn deliver_to_group(
        &mut self,
        now: Moment,
        group: u32,
        publishing: &mut Publishing<'_>,
        templates: &mut Templates,
    ) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let may_receive = |joined: &mut Joined| joined.may_receive(&self.rights, &self.hasher, publishing.topic);
        let Some(chosen) = group.choose(publishing.qos, may_receive) else {
            self.stats.dropped[DropReason::NoMember] += 1;
            return;
        };
        let key = Arc::clone(&group.key);
        let grant = Grant {
            qos: publishing.qos.min(chosen.options.qos), // [MQTT-4.8.2-3]
            retain: publishing.retain && chosen.options.retain_as_published,
            subscription_ids: chosen.options.id.as_ref().map_or(&[], |id| std::slice::from_ref(id)),
            shared: Some(&key),
            is_paced: false,
        };
        let here = (chosen.member.shard == self.id).then(|| self.sessions.resolve(chosen.member.session)).flatten();
        if let Some(session) = here {
            return self.deliver(now, session, publishing, grant, templates);
        }
        let delivery = Delivery {
            message: publishing.share(),
            qos: grant.qos,
            retain: grant.retain,
            subscription_ids: SubscriptionIds::from(grant.subscription_ids),
            shared: Some(key),
        };
        self.send_to_member(now, chosen.member, delivery, publishing.under);
    }

    /// Gives a delivery back to its group, since the Session it was meant for has ended. [MQTT-4.8.2-4]
    /// `gone` is the member that was chosen, where it is no more: it must not be chosen again.
    pub(super) fn return_delivery(
        &mut self,
        now: Moment,
        delivery: Delivery,
        gone: Option<Member>,
        under: Option<Transaction>,
    ) {
        let Some(key) = delivery.shared.clone() else { return };
        let home = self.group_home(&key);
        if home == self.id {
            self.on_return(now, delivery, gone, under);
        } else {
            self.note_part(under, home);
            self.peers.send(home, PeerMessage::Return { delivery, gone, under });
        }
    }

    /// Chooses another member for a delivery that came back.
    pub(super) fn on_return(
        &mut self,
        now: Moment,
        mut delivery: Delivery,
        gone: Option<Member>,
        under: Option<Transaction>,
    ) {
        if let (Some(key), Some(gone)) = (delivery.shared.clone(), gone) {
            self.remove_member(&key, gone);
        }
        let topic = TopicName::parse(delivery.message.topic()).expect("a Message has a valid Topic Name");
        let may_receive = |joined: &mut Joined| joined.may_receive(&self.rights, &self.hasher, topic);
        let chosen = delivery
            .shared
            .as_ref()
            .and_then(|key| self.groups.by_key.get(key).copied())
            .and_then(|index| self.groups.get_mut(index))
            .and_then(|group| group.choose(delivery.message.qos, may_receive));
        match chosen {
            Some(chosen) => {
                delivery.qos = delivery.message.qos.min(chosen.options.qos);
                let id = chosen.options.id.as_ref().map_or(&[][..], |id| std::slice::from_ref(id));
                delivery.subscription_ids = SubscriptionIds::from(id);
                self.send_to_member(now, chosen.member, delivery, under);
            }
            None => self.stats.dropped[DropReason::NoMember] += 1,
        }
    }
}
