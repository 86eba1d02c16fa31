//! Why a decision is as it is, for people.

use super::{Action, Effect, Otherwise, Pattern, Rights, Rule, Who, is_granted};
use crate::topic::{TopicFilter, TopicName};
use std::fmt;

/// A decision and what it rests on.
#[derive(Debug, Clone)]
pub struct Explanation<'a> {
    /// Whether it is allowed.
    pub is_allowed: bool,
    /// Why.
    pub reason: Reason<'a>,
    file: &'a str,
}

/// What a decision rests on.
#[derive(Debug, Clone)]
pub enum Reason<'a> {
    /// There is no rights file, and without one this is allowed.
    NoFile,
    /// There is no rights file, and without one nobody writes below `$`. [MQTT-4.7.2-1]
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
        self.explained(who, decisive, self.otherwise(action, topic.is_reserved()), granted)
    }

    /// Explains what [`Self::may_leave_will`] decides: the half of it that denies, where one does.
    pub fn explain_will<'a>(&'a self, who: Who<'a>, topic: TopicName<'_>) -> (Action, Explanation<'a>) {
        let will = self.explain(who, Action::Will, topic);
        let publish = self.explain(who, Action::Publish, topic);
        if will.is_allowed && !publish.is_allowed { (Action::Publish, publish) } else { (Action::Will, will) }
    }

    /// Explains what [`Self::may_subscribe`] decides.
    pub fn explain_subscribe<'a>(&'a self, who: Who<'a>, filter: &TopicFilter) -> Explanation<'a> {
        let decisive = self.decisive(who, Action::Subscribe, || filter.levels());
        let granted = is_granted(who.identity, Action::Subscribe, |granted| granted.covers(filter));
        self.explained(who, decisive, self.otherwise(Action::Subscribe, false), granted)
    }

    fn otherwise(&self, action: Action, is_reserved: bool) -> (bool, Reason<'static>) {
        let is_allowed = self.is_allowed_otherwise(action, is_reserved);
        let reason = match self.otherwise {
            Otherwise::Open if is_allowed => Reason::NoFile,
            Otherwise::Open => Reason::Reserved,
            Otherwise::SubscribeOnly if is_allowed => Reason::EverySubscription,
            Otherwise::SubscribeOnly | Otherwise::Closed => Reason::NoRule,
        };
        (is_allowed, reason)
    }

    fn explained<'a>(
        &'a self,
        who: Who<'a>,
        decisive: Option<super::Decisive<'a>>,
        otherwise: (bool, Reason<'a>),
        granted: bool,
    ) -> Explanation<'a> {
        let (is_allowed, reason) = match decisive {
            Some(super::Decisive { rule, pattern }) => {
                let filled = pattern.filled(who);
                (rule.effect == Effect::Allow, Reason::Rule { rule, pattern, filled })
            }
            None => otherwise,
        };
        let reason = if is_allowed && !granted { Reason::NotGranted } else { reason };
        Explanation { is_allowed: is_allowed && granted, reason, file: &self.file }
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file;
        match &self.reason {
            Reason::NoFile => f.write_str("there is no rights file, so everything is allowed but publishing below $"),
            Reason::Reserved => f.write_str("there is no rights file, and without one nobody publishes below $"),
            Reason::Rule { rule, pattern, filled } => {
                let verb = if self.is_allowed { "allowed" } else { "denied" };
                write!(f, "{verb} by {file}:{}, ", pattern.line())?;
                match filled == pattern.text() {
                    true => writeln!(f, "topic pattern {filled:?}, of the rule")?,
                    false => writeln!(f, "topic pattern {:?}, here {filled:?}, of the rule", pattern.text())?,
                }
                for (line, number) in rule.text().lines().zip(rule.line()..) {
                    write!(f, "\n  {number:>4}  {line}")?;
                }
                Ok(())
            }
            Reason::NoRule => write!(f, "denied by default: no rule of {file} allows it"),
            Reason::EverySubscription => {
                write!(
                    f,
                    "{file} is an acl_file of Mosquitto, which grants every subscription and asks at each delivery"
                )
            }
            Reason::NotGranted => write!(f, "the rules of {file} allow it, but the client's token does not grant it"),
        }
    }
}
