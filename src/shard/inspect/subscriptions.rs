//! Subscriptions by their filter, or by a topic that they match.

use super::Page;
use crate::codec::QoS;
use crate::shard::{Shard, Subscriber, SubscriberOptions};
use crate::topic::{Subscribed, TopicError, TopicName};
use std::sync::Arc;

/// Which Subscriptions are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionFilter {
    /// Those of this filter. A Topic Filter names those of Shared Subscriptions of it, too; with `$share/` and a group, that group's alone.
    Equal(Subscribed),
    /// Those that a message of this topic would go to.
    Matching(Box<str>),
}

impl SubscriptionFilter {
    /// Those of a filter, as a client would write it.
    ///
    /// # Errors
    /// It is none.
    pub fn equal(filter: &str) -> Result<Self, TopicError> {
        Subscribed::parse(filter).map(Self::Equal)
    }

    /// Those that a message of this topic would go to.
    ///
    /// # Errors
    /// It is no Topic Name.
    pub fn matching(topic: &str) -> Result<Self, TopicError> {
        TopicName::parse(topic).map(|topic| Self::Matching(topic.as_str().into()))
    }

    fn admits(&self, group: &str) -> bool {
        match self {
            Self::Equal(Subscribed::Shared { group: wanted, .. }) => **wanted == *group,
            Self::Equal(Subscribed::Plain(_)) | Self::Matching(_) => true,
        }
    }
}

/// A Subscription in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionSummary {
    /// Whose it is.
    pub client_id: Arc<str>,
    /// Its Topic Filter.
    pub filter: Arc<str>,
    /// The group, where it is shared.
    pub group: Option<Box<str>>,
    /// Its maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Its Subscription Identifier.
    pub id: Option<u32>,
    /// Whether its client is connected.
    pub is_connected: bool,
}

/// A list of subscribers that is gone through from a place on: the number of a subscriber, and where that is a group, of a member.
struct Walk {
    subscriber: u32,
    member: u32,
    left: usize,
}

impl Walk {
    fn new(from: u64, at_most: usize) -> Self {
        Self { subscriber: (from >> 32) as u32, member: from as u32, left: at_most }
    }

    fn place(subscriber: usize, member: usize) -> u64 {
        (subscriber as u64) << 32 | member as u64
    }
}

impl Shard {
    /// The Subscriptions that `filter` asks for, no more than `at_most` of them from `from` on. The first page begins at 0.
    ///
    /// Each shard knows those of its own Sessions, and the members, wherever they are at home, of the groups that live on it. Of what changes
    /// between two pages some may be told twice or not at all.
    pub fn subscriptions(
        &self,
        from: u64,
        at_most: usize,
        filter: &SubscriptionFilter,
    ) -> Page<SubscriptionSummary, u64> {
        let lists = match filter {
            SubscriptionFilter::Equal(subscribed) => {
                let filter = subscribed.filter();
                vec![(filter.as_str().to_owned(), self.subscriptions.subscribers(filter))]
            }
            SubscriptionFilter::Matching(topic) => {
                TopicName::parse(topic).map(|topic| self.subscriptions.matching(topic)).unwrap_or_default()
            }
        };
        let mut walk = Walk::new(from, at_most);
        let mut page = Page { items: Vec::new(), next: None };
        let mut before = 0;
        for (text, subscribers) in lists {
            let text: Arc<str> = text.into();
            let first = (walk.subscriber as usize).saturating_sub(before).min(subscribers.len());
            for (number, (subscriber, options)) in subscribers.iter().enumerate().skip(first) {
                page.next = self.tell_subscriber(
                    &mut walk,
                    before + number,
                    *subscriber,
                    options,
                    filter,
                    &text,
                    &mut page.items,
                );
                if page.next.is_some() {
                    return page;
                }
            }
            before += subscribers.len();
        }
        page
    }

    /// Tells of one subscriber; where to go on if that is as far as it goes.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, and none outlives the call")]
    fn tell_subscriber(
        &self,
        walk: &mut Walk,
        number: usize,
        subscriber: Subscriber,
        options: &SubscriberOptions,
        filter: &SubscriptionFilter,
        text: &Arc<str>,
        items: &mut Vec<SubscriptionSummary>,
    ) -> Option<u64> {
        if walk.left == 0 {
            return Some(Walk::place(number, 0));
        }
        match subscriber {
            Subscriber::Session(index) => {
                walk.left -= 1;
                let is_plain = !matches!(filter, SubscriptionFilter::Equal(Subscribed::Shared { .. }));
                let session = self.sessions.get(index).filter(|_| is_plain)?;
                let is_connected = session.connection.is_some();
                items.push(summary(&session.client_id, text, None, options, is_connected));
            }
            Subscriber::Group(index) => {
                let Some((key, members)) = self.groups.get(index).filter(|(key, _)| filter.admits(&key.group)) else {
                    walk.left -= 1;
                    return None;
                };
                let first = std::mem::take(&mut walk.member) as usize;
                for (at, member) in members.iter().enumerate().skip(first) {
                    if walk.left == 0 {
                        return Some(Walk::place(number, at));
                    }
                    walk.left -= 1;
                    let (client_id, is_connected) = (member.client_id(), member.is_connected());
                    items.push(summary(client_id, text, Some(&key.group), member.options(), is_connected));
                }
            }
        }
        None
    }
}

fn summary(
    client_id: &Arc<str>,
    filter: &Arc<str>,
    group: Option<&str>,
    options: &SubscriberOptions,
    is_connected: bool,
) -> SubscriptionSummary {
    SubscriptionSummary {
        client_id: Arc::clone(client_id),
        filter: Arc::clone(filter),
        group: group.map(Into::into),
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        id: options.id,
        is_connected,
    }
}
