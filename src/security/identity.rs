//! What authentication established about a client.

use crate::topic::TopicFilter;
use std::sync::Arc;

/// Who a client is. It belongs to the Session, too: a will is checked against it when it is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The User Name that was proven; `None` for an anonymous client, whatever it said.
    pub username: Option<Arc<str>>,
    /// Facts that rights may refer to, by name and in the order of their names: `cert.cn`, `cert.dns`, `claim.site`, `peer.uid`.
    pub fields: Arc<[(Box<str>, Box<str>)]>,
    /// What its token grants. It may do nothing else, and this only as far as the rights file allows it.
    pub granted: Option<Arc<Granted>>,
}

/// The rights that a token carries, as Topic Filters for each action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// Topic Names it may publish to.
    pub publish: Vec<TopicFilter>,
    /// Topic Filters within which it may subscribe.
    pub subscribe: Vec<TopicFilter>,
    /// Topic Names it may be sent.
    pub receive: Vec<TopicFilter>,
    /// Topic Names it may leave a will for.
    pub will: Vec<TopicFilter>,
}

/// Whether somebody can be called so: a User Name is not empty, and holds neither U+0000 [MQTT-1.5.4-2] nor other control characters, by
/// which it could look like another one. It is asked about names that somebody else than the client chose.
pub fn is_username(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_control)
}

impl Identity {
    /// A client that proved this User Name, and nothing else.
    pub fn of_user(username: &str) -> Self {
        Self { username: Some(username.into()), ..Self::default() }
    }

    /// The fact with this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let at = self.fields.binary_search_by(|(of_field, _)| (**of_field).cmp(name)).ok()?;
        Some(&self.fields[at].1)
    }
}
