//! Why a decision is as it is, for people.

use super::{Action, Decisive, Effect, Otherwise, Pattern, Rights, Rule, Who, is_granted};
use crate::topic::{TopicFilter, TopicName};
use std::fmt;

/// A decision and what it rests on.
#[derive(Debug, Clone)]
pub struct Explanation<'a> {
    /// Whether it is allowed.
    pub is_allowed: bool,
    /// What was decided about: of a will that is denied, the half of its rights that is missing.
    pub action: Action,
    /// Why.
    pub reason: Reason<'a>,
    file: &'a str,
}

/// What a decision rests on.
#[derive(Debug, Clone)]
pub enum Reason<'a> {
    /// There is no rights file, and without one this is allowed.
    NoFile,
    /// There is no rights file, and without one nobody publishes below `$`. [MQTT-4.7.2-1]
    Reserved,
    /// A rule says so.
    Rule {
        /// The rule.
        rule: &'a Rule,
        /// The pattern of it that fits.
        pattern: &'a Pattern,
        /// The Topic Filter that the pattern is for this client.
        filled: String,
    },
    /// No rule allows it.
    NoRule,
    /// The rights file is one of Mosquitto, which grants every subscription.
    EverySubscription,
    /// The rules allow it, and the client's token does not grant it.
    NotGranted,
}

impl Rights {
    /// Explains what [`Self::may`] decides.
    pub fn explain<'a>(&'a self, who: Who<'a>, action: Action, topic: TopicName<'_>) -> Explanation<'a> {
        let decisive = self.decisive(who, action, || topic.levels());
        let granted = is_granted(who.identity, action, |filter| filter.matches(topic));
        self.explained(who, action, decisive, topic.is_reserved(), granted)
    }

    /// Explains what [`Self::may_leave_will`] decides.
    pub fn explain_will<'a>(&'a self, who: Who<'a>, topic: TopicName<'_>) -> Explanation<'a> {
        let will = self.explain(who, Action::Will, topic);
        let publish = self.explain(who, Action::Publish, topic);
        if will.is_allowed && !publish.is_allowed { publish } else { will }
    }

    /// Explains what [`Self::may_subscribe`] decides.
    pub fn explain_subscribe<'a>(&'a self, who: Who<'a>, filter: &TopicFilter) -> Explanation<'a> {
        let decisive = self.decisive(who, Action::Subscribe, || filter.levels());
        let granted = is_granted(who.identity, Action::Subscribe, |granted| granted.covers(filter));
        self.explained(who, Action::Subscribe, decisive, false, granted)
    }

    fn explained<'a>(
        &'a self,
        who: Who<'a>,
        action: Action,
        decisive: Option<Decisive<'a>>,
        is_reserved: bool,
        is_granted: bool,
    ) -> Explanation<'a> {
        let (is_allowed, reason) = match decisive {
            Some(Decisive { rule, pattern }) => {
                let filled = pattern.filled(who);
                (rule.effect == Effect::Allow, Reason::Rule { rule, pattern, filled })
            }
            None => {
                let is_allowed = self.is_allowed_otherwise(action, is_reserved);
                (is_allowed, self.reason_otherwise(is_allowed))
            }
        };
        let reason = if is_allowed && !is_granted { Reason::NotGranted } else { reason };
        Explanation { is_allowed: is_allowed && is_granted, action, reason, file: &self.file }
    }

    fn reason_otherwise(&self, is_allowed: bool) -> Reason<'static> {
        match self.otherwise {
            Otherwise::Open if is_allowed => Reason::NoFile,
            Otherwise::Open => Reason::Reserved,
            Otherwise::SubscribeOnly if is_allowed => Reason::EverySubscription,
            Otherwise::SubscribeOnly | Otherwise::Closed => Reason::NoRule,
        }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file;
        match &self.reason {
            Reason::NoFile => f.write_str("allowed: without a rights file everything is, but publishing below $"),
            Reason::Reserved => f.write_str("denied: below $ it takes a rights file with a pattern that begins with $"),
            Reason::Rule { rule, pattern, filled } => {
                let verb = if self.is_allowed { "allowed" } else { "denied" };
                write!(f, "{verb} by {file}:{}, topic pattern {:?}", pattern.line(), pattern.text())?;
                if filled != pattern.text() {
                    write!(f, ", which is {filled:?} here")?;
                }
                f.write_str("\n")?;
                for (line, number) in rule.text().lines().zip(rule.line()..) {
                    write!(f, "\n{number:>6}  {line}")?;
                }
                Ok(())
            }
            Reason::NoRule => write!(f, "denied by default: no rule in {file} allows it"),
            Reason::EverySubscription => {
                write!(f, "allowed: an acl_file of Mosquitto, as {file} is, grants every subscription")
            }
            Reason::NotGranted => f.write_str("denied: the rules allow it, but the client's token does not grant it"),
        }
    }
}
