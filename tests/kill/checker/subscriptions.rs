//! Who is subscribed to what, and since when that is sure.

use crate::history::Who;
use std::collections::HashMap;

/// Whom a message is for: a client, or all members of a Shared Subscription together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Audience {
    Client(Who),
    Group(String),
}

/// Number of an audience with its Topic Filter.
pub(crate) type AudienceId = usize;

struct Subscription {
    audience: Audience,
    filter: String,
    qos: u8,
    stage: Stage,
}

/// ```text
/// Asked ─SUBACK─▶ Sure ─UNSUBSCRIBE─▶ Leaving ─UNSUBACK─▶ Gone
/// ```
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Asked,
    Sure,
    Leaving,
    /// Since so many messages had been sent.
    Gone(u64),
}

/// No client has two Topic Filters that match one Topic Name, so that it is always clear which subscription a message is for.
#[derive(Default)]
pub(crate) struct Subscriptions {
    all: Vec<Subscription>,
    /// By client and Topic Filter as it was subscribed.
    by_filter: HashMap<(Who, String), AudienceId>,
    of_client: HashMap<Who, Vec<AudienceId>>,
}

impl Subscriptions {
    pub(crate) fn subscribe(&mut self, who: Who, filter: &str, qos: u8) {
        let (audience, topics) = match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
            Some((_, topics)) => (Audience::Group(filter.to_owned()), topics),
            None => (Audience::Client(who), filter),
        };
        let shared = self.all.iter().position(|other| other.audience == audience && other.filter == topics);
        let id = shared.unwrap_or_else(|| {
            self.all.push(Subscription { audience, filter: topics.to_owned(), qos, stage: Stage::Asked });
            self.all.len() - 1
        });
        if self.by_filter.insert((who, filter.to_owned()), id).is_none() {
            self.of_client.entry(who).or_default().push(id);
        }
        if let Stage::Gone(_) | Stage::Leaving = self.all[id].stage {
            self.all[id].stage = Stage::Asked;
        }
    }

    pub(crate) fn suback(&mut self, who: Who, filter: &str) {
        if let Some(&id) = self.by_filter.get(&(who, filter.to_owned())) {
            self.all[id].stage = Stage::Sure;
        }
    }

    pub(crate) fn unsubscribe(&mut self, who: Who, filter: &str) -> Option<AudienceId> {
        let id = *self.by_filter.get(&(who, filter.to_owned()))?;
        self.all[id].stage = Stage::Leaving;
        Some(id)
    }

    pub(crate) fn unsuback(&mut self, who: Who, filter: &str, messages_sent: u64) {
        if let Some(&id) = self.by_filter.get(&(who, filter.to_owned())) {
            self.all[id].stage = Stage::Gone(messages_sent);
        }
    }

    /// Members of a Shared Subscription are taken to come back: the group stays.
    pub(crate) fn end_of_session(&mut self, who: Who, messages_sent: u64) -> Vec<AudienceId> {
        let mut ids = self.of_client.get(&who).cloned().unwrap_or_default();
        ids.retain(|&id| self.all[id].audience == Audience::Client(who));
        ids.iter().for_each(|&id| self.all[id].stage = Stage::Gone(messages_sent));
        ids
    }

    /// Audiences that a message to this topic must reach if it is sent now; at QoS 0 nobody must be reached.
    pub(crate) fn matching(&self, topic: &str) -> Vec<AudienceId> {
        let is_sure = |id: &AudienceId| {
            let subscription = &self.all[*id];
            subscription.stage == Stage::Sure && subscription.qos > 0 && matches(&subscription.filter, topic)
        };
        (0..self.all.len()).filter(is_sure).collect()
    }

    /// The subscription for which this client gets messages of this topic.
    pub(crate) fn audience(&self, who: Who, topic: &str) -> Option<AudienceId> {
        let ids = self.of_client.get(&who)?;
        ids.iter().copied().find(|&id| matches(&self.all[id].filter, topic))
    }

    pub(crate) fn name(&self, id: AudienceId) -> &Audience {
        &self.all[id].audience
    }

    pub(crate) fn qos(&self, id: AudienceId) -> u8 {
        self.all[id].qos
    }

    pub(crate) fn is_sure(&self, id: AudienceId) -> bool {
        self.all[id].stage == Stage::Sure
    }

    /// Whether a message, before which `sent` were sent, comes although the subscription had ended by then.
    pub(crate) fn is_uninvited(&self, id: AudienceId, sent: u64) -> bool {
        matches!(self.all[id].stage, Stage::Gone(since) if sent >= since)
    }
}

/// The definition of matching (§4.7).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (_, Some(name)) if name == level => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}
