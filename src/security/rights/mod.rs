//! What a client may do: rules from a file, and what its token grants.
//!
//! # How to reason about rules
//!
//! 1. **Order does not matter.** A rule says nothing about another one, and may stand anywhere in the file.
//! 2. **A deny wins.** What one rule denies no rule allows.
//! 3. **What no rule allows is denied.** A rights file that holds no rule at all, perhaps since it was cut short, so allows nothing.
//! 4. **Without a rights file everything is allowed** but publishing, and leaving a will, below `$`: that is the server's own
//!    [MQTT-4.7.2-1]. With one, too, wildcards do not see it: it takes a pattern that itself begins with `$`.
//! 5. **A token only takes away.** Where a client's token grants rights, what it does must be allowed by the rules *and* granted.
//!
//! # Who
//!
//! A rule is about a client that fits all of `users`, `clients` and `fields`, each of which may be left out. In a name `*` stands for any
//! number of characters. The empty User Name `""` stands for anonymous clients, which no other pattern fits, not even `*`. Without
//! `users` a rule is about everybody, anonymous clients included.
//!
//! # What
//!
//! - `publish` and `will`: the Topic Name matches a pattern. A will takes both, for in the end it is published.
//! - `subscribe`: a pattern *covers* the Topic Filter: it matches all that the filter matches. A deny likewise speaks of a filter that it
//!   covers; `sensors/#` may so be subscribed to although `sensors/secret` is denied. That is safe, since
//! - `receive` is asked for each message that is about to be delivered, live, retained, queued or shared, with its Topic Name. So a
//!   subscription delivers what its client may receive and nothing else. `subscribe` alone delivers nothing.
//!
//! `$share/group/filter` is judged by the filter. A Subscription that exists when rights change stays, and delivers what `receive` now
//! allows.
//!
//! # Placeholders
//!
//! In a topic pattern `%c` is the Client Identifier, `%u` the User Name, `%{field}` a field of the identity and `%%` a percent sign. A value
//! that is missing or empty, a field that has several, and a value that holds `/`, `+`, `#` or U+0000 cannot stand in a level. The safe side
//! differs: an allow then is about nothing, and a deny about everything from that level on. An allow is about nothing, too, where a value
//! would make it begin with `$`.

mod decisions;
mod error;
mod explain;
mod mosquitto;
mod pattern;
mod rule;
mod willow;

pub use decisions::Decisions;
pub use error::RightsError;
pub use explain::{Explanation, Reason};
pub use pattern::Pattern;
pub use rule::{Action, Actions, Effect, Rule};

use super::Identity;
use crate::topic::{TopicFilter, TopicName, covers, overlaps};
use std::collections::BTreeMap;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// What authentication established.
    pub identity: &'a Identity,
    /// The Client Identifier.
    pub client_id: &'a str,
}

impl<'a> Who<'a> {
    /// All values of a field.
    fn values(self, name: &str) -> impl Iterator<Item = &'a str> {
        let fields = &self.identity.fields;
        let start = fields.partition_point(|(field, _)| **field < *name);
        fields[start..].iter().take_while(move |(field, _)| **field == *name).map(|(_, value)| &**value)
    }

    /// The value of a field that has one and no more.
    fn only_value(self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }
}

/// What stands where no rule says anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Otherwise {
    /// There is no rights file: everything is allowed but writing below `$`.
    #[default]
    Open,
    /// Everything is denied.
    Closed,
    /// Everything is denied but subscribing, as Mosquitto has it.
    SubscribeOnly,
}

/// The rights in force. Without a file everything is allowed but publishing below `$`.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    file: Box<str>,
    rules: Vec<Rule>,
    otherwise: Otherwise,
    /// Rules that are about users with these names and about nobody else, by their indices.
    by_user: BTreeMap<Box<str>, Vec<u32>>,
    /// All other rules.
    for_others: Vec<u32>,
}

/// The rule, and its pattern, that decides.
#[derive(Debug, Clone, Copy)]
struct Decisive<'a> {
    rule: &'a Rule,
    pattern: &'a Pattern,
}

impl Rights {
    /// Reads a rights file of ours; `file` names it in errors and explanations.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse(text: &str, file: &str) -> Result<Self, RightsError> {
        let rules = willow::parse(text).map_err(|wrong| wrong.of_file(file))?;
        Ok(Self::new(rules, file, Otherwise::Closed))
    }

    /// Reads an `acl_file` of Mosquitto.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse_mosquitto(text: &str, file: &str) -> Result<Self, RightsError> {
        let rules = mosquitto::parse(text).map_err(|wrong| wrong.of_file(file))?;
        Ok(Self::new(rules, file, Otherwise::SubscribeOnly))
    }

    fn new(rules: Vec<Rule>, file: &str, otherwise: Otherwise) -> Self {
        let mut by_user: BTreeMap<Box<str>, Vec<u32>> = BTreeMap::new();
        let mut for_others = Vec::new();
        for (rule, at) in rules.iter().zip(0..) {
            match rule.only_users() {
                Some(users) => {
                    for user in users {
                        by_user.entry(user.into()).or_default().push(at);
                    }
                }
                None => for_others.push(at),
            }
        }
        Self { file: file.into(), rules, otherwise, by_user, for_others }
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether nothing needs to be looked up for this client: all it may not do is to publish below `$`.
    pub fn is_open_for(&self, identity: &Identity) -> bool {
        self.otherwise == Otherwise::Open && identity.granted.is_none()
    }

    /// Whether a client may publish to a topic, receive a message of it, or what a will takes beside that.
    pub fn may(&self, who: Who<'_>, action: Action, topic: TopicName<'_>) -> bool {
        let is_allowed = match self.decisive(who, action, || topic.levels()) {
            Some(decisive) => decisive.rule.effect == Effect::Allow,
            None => self.is_allowed_otherwise(action, topic.is_reserved()),
        };
        is_allowed && is_granted(who.identity, action, |filter| filter.matches(topic))
    }

    /// Whether a client may leave a will for a topic, or have it published: that takes the right to publish there, too.
    pub fn may_leave_will(&self, who: Who<'_>, topic: TopicName<'_>) -> bool {
        self.may(who, Action::Will, topic) && self.may(who, Action::Publish, topic)
    }

    /// Whether a client may subscribe to a filter.
    pub fn may_subscribe(&self, who: Who<'_>, filter: &TopicFilter) -> bool {
        let is_allowed = match self.decisive(who, Action::Subscribe, || filter.levels()) {
            Some(decisive) => decisive.rule.effect == Effect::Allow,
            None => self.is_allowed_otherwise(Action::Subscribe, false),
        };
        is_allowed && is_granted(who.identity, Action::Subscribe, |granted| granted.covers(filter))
    }

    /// Whether a client may receive all that a filter matches, so that its messages need not be looked at one by one.
    pub fn may_receive_all(&self, who: Who<'_>, filter: &TopicFilter) -> bool {
        self.rules_allow_all(who, filter) && is_granted(who.identity, Action::Receive, |granted| granted.covers(filter))
    }

    /// Whether some rule allows all of it, and none that comes before it denies any of it.
    fn rules_allow_all(&self, who: Who<'_>, filter: &TopicFilter) -> bool {
        if self.otherwise == Otherwise::Open {
            return true;
        }
        let (mut denied_from, mut allowed_from) = (u8::MAX, u8::MAX);
        for rule in self.rules_about(who, Action::Receive) {
            let is_meant = |pattern: &Pattern| match rule.effect {
                Effect::Deny => overlaps(pattern.levels(who), filter.levels()),
                Effect::Allow => pattern.is_complete(who) && covers(pattern.levels(who), filter.levels()),
            };
            let from = match rule.effect {
                Effect::Deny => &mut denied_from,
                Effect::Allow => &mut allowed_from,
            };
            if rule.rank < *from && rule.topics.iter().any(is_meant) {
                *from = rule.rank;
            }
        }
        allowed_from < denied_from
    }

    fn is_allowed_otherwise(&self, action: Action, is_reserved: bool) -> bool {
        match self.otherwise {
            Otherwise::Open => !(is_reserved && Actions::WRITE.contains(action)),
            Otherwise::Closed => false,
            Otherwise::SubscribeOnly => action == Action::Subscribe,
        }
    }

    /// The rules about a client and an action.
    fn rules_about<'a>(&'a self, who: Who<'a>, action: Action) -> impl Iterator<Item = &'a Rule> {
        let of_user = who.identity.username.as_deref().and_then(|user| self.by_user.get(user));
        let indices = of_user.into_iter().flatten().chain(&self.for_others);
        indices.map(|at| &self.rules[*at as usize]).filter(move |rule| rule.is_about(who, action))
    }

    /// The rule that decides about what has these levels: that of the lowest rank, a deny before an allow, and else the first.
    fn decisive<'a, 'l, L: Iterator<Item = &'l str>>(
        &'a self,
        who: Who<'a>,
        action: Action,
        levels: impl Fn() -> L,
    ) -> Option<Decisive<'a>> {
        let order = |rule: &Rule| (rule.rank, rule.effect, rule.line);
        let mut decisive: Option<Decisive<'a>> = None;
        for rule in self.rules_about(who, action) {
            if decisive.is_some_and(|so_far| order(so_far.rule) <= order(rule)) {
                continue;
            }
            let is_meant = |pattern: &&Pattern| {
                (rule.effect == Effect::Deny || pattern.is_complete(who)) && covers(pattern.levels(who), levels())
            };
            if let Some(pattern) = rule.topics.iter().find(is_meant) {
                decisive = Some(Decisive { rule, pattern });
            }
        }
        decisive
    }
}

/// Whether a client's token, where it grants rights, grants this.
fn is_granted(identity: &Identity, action: Action, fits: impl Fn(&TopicFilter) -> bool) -> bool {
    let Some(granted) = &identity.granted else { return true };
    let filters = match action {
        Action::Publish => &granted.publish,
        Action::Subscribe => &granted.subscribe,
        Action::Receive => &granted.receive,
        Action::Will => &granted.will,
    };
    filters.iter().any(fits)
}

#[cfg(test)]
mod tests;
