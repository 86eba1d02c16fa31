//! One rule: an effect, whom it is about, and what.

use super::Who;
use super::pattern::Pattern;
use crate::config::suggest::nearest;
use crate::security::wildcard;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Publishing to a Topic Name.
    Publish,
    /// Subscribing to a Topic Filter.
    Subscribe,
    /// Being sent a message of a Topic Name.
    Receive,
    /// Leaving a Will Message for a Topic Name, beside what publishing there takes.
    Will,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Subscribe, Self::Receive, Self::Will];

    /// Its name in rights files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Receive => "receive",
            Self::Will => "will",
        }
    }
}

/// A set of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u8);

impl Actions {
    /// Publishing, wills included.
    pub const WRITE: Self = Self::of(&[Action::Publish, Action::Will]);
    /// Subscribing and receiving.
    pub const READ: Self = Self::of(&[Action::Subscribe, Action::Receive]);
    /// Everything.
    pub const ALL: Self = Self::WRITE.union(Self::READ);

    /// The set of these.
    pub const fn of(actions: &[Action]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < actions.len() {
            bits |= 1 << actions[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether an action is in it.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }
}

/// What a rule does. A deny comes before an allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It forbids, whatever other rules allow.
    Deny,
    /// It permits what no rule forbids.
    Allow,
}

/// A pattern for User Names, Client Identifiers and the values of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// No User Name at all: an anonymous client.
    Nobody,
    /// This one.
    Exact(Box<str>),
    /// `*` stands for any number of characters.
    Wild(Box<str>),
}

impl Name {
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "" => Self::Nobody,
            text if text.contains('*') => Self::Wild(text.into()),
            text => Self::Exact(text.into()),
        }
    }

    /// Whether it means this name. An empty name is none.
    fn matches(&self, name: Option<&str>) -> bool {
        match (self, name.filter(|name| !name.is_empty())) {
            (Self::Nobody, name) => name.is_none(),
            (Self::Exact(text), Some(name)) => **text == *name,
            (Self::Wild(text), Some(name)) => wildcard::fits(text, name),
            (Self::Exact(_) | Self::Wild(_), None) => false,
        }
    }
}

/// Fields that certificates and the kernel vouch for. Those of a token are `claim.` and the name of the claim, whichever that is.
const FIELDS: [&str; 9] = [
    "cert.cn",
    "cert.dns",
    "cert.uri",
    "cert.email",
    "cert.serial",
    "cert.fingerprint",
    "peer.uid",
    "peer.gid",
    "peer.pid",
];

/// Checks the name of an identity's field. One that nothing can ever give would make a deny useless without a word.
pub(super) fn check_field(name: &str) -> Result<(), String> {
    let is_claim = name.strip_prefix("claim.").is_some_and(|claim| !claim.is_empty());
    if is_claim || FIELDS.contains(&name) {
        return Ok(());
    }
    let hint = match nearest(name, FIELDS) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("there are {}, and claim.<name>", FIELDS.join(", ")),
    };
    Err(format!("there is no field {name:?}; {hint}"))
}

/// A field of the identity, and which values of it are meant.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) wanted: Name,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) effect: Effect,
    /// Rules of a lower rank decide first, and those of a higher one only where they say nothing.
    pub(super) rank: u8,
    /// Users it is about; all, and those without a name, where empty.
    pub(super) users: Box<[Name]>,
    /// Clients it is about; all where empty.
    pub(super) clients: Box<[Name]>,
    /// What must be known about the client.
    pub(super) fields: Box<[Field]>,
    pub(super) actions: Actions,
    pub(super) topics: Box<[Pattern]>,
    pub(super) line: usize,
    pub(super) text: Box<str>,
}

impl Rule {
    /// What it does.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Where it stands in its file, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The rule as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is about this client and this action.
    pub(super) fn is_about(&self, who: Who<'_>, action: Action) -> bool {
        let is_any = |names: &[Name], name| names.is_empty() || names.iter().any(|wanted| wanted.matches(name));
        self.actions.contains(action)
            && is_any(&self.users, who.identity.username.as_deref())
            && is_any(&self.clients, Some(who.client_id))
            && self.fields.iter().all(|field| who.values(&field.name).any(|value| field.wanted.matches(Some(value))))
    }

    /// The User Names for which alone it can be about somebody; nothing where it may be about others.
    pub(super) fn only_users(&self) -> Option<Vec<&str>> {
        if self.users.is_empty() {
            return None;
        }
        self.users
            .iter()
            .map(|name| match name {
                Name::Exact(text) => Some(&**text),
                Name::Nobody | Name::Wild(_) => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_empty_name_is_about_those_without_one() {
        assert!(Name::parse("").matches(None) && Name::parse("").matches(Some("")));
        assert!(!Name::parse("*").matches(None) && !Name::parse("*").matches(Some("")));
        assert!(!Name::parse("").matches(Some("alice")));
    }
}
