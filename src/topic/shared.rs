//! What a client subscribes to: a Topic Filter, or a Shared Subscription. (§4.8.2)

use super::{TopicError, TopicFilter};
use std::sync::Arc;

/// A filter as a SUBSCRIBE names it, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subscribed {
    /// A subscription of the client alone.
    Plain(TopicFilter),
    /// `$share/{group}/{filter}`: the group's members take turns.
    Shared {
        /// The ShareName.
        group: Arc<str>,
        /// The Topic Filter behind it.
        filter: TopicFilter,
    },
}

impl Subscribed {
    /// Checks a string.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text != "$share" && !text.starts_with("$share/") {
            return TopicFilter::parse(text).map(Self::Plain);
        }
        let shared = text.strip_prefix("$share/").ok_or(TopicError::ShareName)?;
        let (group, filter) = shared.split_once('/').ok_or(TopicError::ShareName)?; // [MQTT-4.8.2-2]
        if group.is_empty() || group.contains(['+', '#']) {
            return Err(TopicError::ShareName); // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
        }
        Ok(Self::Shared { group: group.into(), filter: TopicFilter::parse(filter)? })
    }

    /// The Topic Filter that decides what matches.
    pub fn filter(&self) -> &TopicFilter {
        match self {
            Self::Plain(filter) | Self::Shared { filter, .. } => filter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_4_8_2_1_and_2_a_share_name_is_there_and_has_no_wildcard() {
        for invalid in ["$share", "$share/", "$share/group", "$share//a", "$share/gr+up/a", "$share/gr#up/a"] {
            assert_eq!(Subscribed::parse(invalid), Err(TopicError::ShareName), "{invalid}");
        }
        assert_eq!(Subscribed::parse("$share/group/"), Err(TopicError::Empty));
        let shared = Subscribed::parse("$share/group/a/+").unwrap();
        assert!(matches!(&shared, Subscribed::Shared { group, .. } if &**group == "group"));
        assert_eq!(shared.filter().as_str(), "a/+");
        assert!(matches!(Subscribed::parse("$shared/a"), Ok(Subscribed::Plain(_))));
    }
}
