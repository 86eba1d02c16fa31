//! Topic Names and Topic Filters, and what matching means.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Why a string is no Topic Name or no Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// It is empty. [MQTT-4.7.3-1]
    Empty,
    /// It is longer than 65,535 bytes. [MQTT-4.7.3-3]
    TooLong,
    /// It holds U+0000. [MQTT-4.7.3-2]
    Null,
    /// A Topic Name holds `+` or `#`. [MQTT-4.7.0-1]
    WildcardInName,
    /// `#` is not the last level, or does not stand alone in it. [MQTT-4.7.1-1]
    MultiLevelWildcard,
    /// `+` does not stand alone in its level. [MQTT-4.7.1-2]
    SingleLevelWildcard,
    /// The ShareName is empty, missing or has a wildcard. [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    ShareName,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than 65,535 bytes",
            Self::Null => "it contains U+0000",
            Self::WildcardInName => "a Topic Name contains no wildcard",
            Self::MultiLevelWildcard => "# must be the last level, and alone in it",
            Self::SingleLevelWildcard => "+ must be alone in its level",
            Self::ShareName => "the ShareName of a Shared Subscription must not be empty or contain a wildcard",
        })
    }
}

impl std::error::Error for TopicError {}

fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        Err(TopicError::Empty)
    } else if text.len() > usize::from(u16::MAX) {
        Err(TopicError::TooLong)
    } else if text.contains('\0') {
        Err(TopicError::Null)
    } else {
        Ok(())
    }
}

/// A valid Topic Name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks a string. (§4.7.3)
    pub fn parse(text: &'a str) -> Result<Self, TopicError> {
        // One look at each byte: this runs for every PUBLISH.
        if text.bytes().any(|byte| matches!(byte, 0 | b'+' | b'#')) {
            return Err(if text.contains('\0') { TopicError::Null } else { TopicError::WildcardInName });
        }
        check(text)?;
        Ok(Self(text))
    }

    /// The string.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels, of which there is at least one.
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }

    /// Whether it begins with `$`: the server's own, shielded from leading wildcards. [MQTT-4.7.2-1]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }
}

/// A valid Topic Filter, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks a string. (§4.7.1)
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicError::MultiLevelWildcard);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::SingleLevelWildcard);
            }
        }
        Ok(Self(text.into()))
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// How many levels it has.
    pub fn level_count(&self) -> usize {
        self.levels().count()
    }

    /// Whether it has a wildcard.
    pub fn is_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// The definition of matching. (§4.7)
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false; // [MQTT-4.7.2-1]
        }
        let mut topic_levels = topic.levels();
        for level in self.levels() {
            match (level, topic_levels.next()) {
                ("#", _) => return true, // The parent level too. (§4.7.1.2)
                ("+", Some(_)) => {}
                (literal, Some(level)) if literal == level => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }
}

impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::parse(filter).unwrap().matches(TopicName::parse(topic).unwrap())
    }

    #[test]
    fn mqtt_4_7_0_1_wildcards_do_not_stand_in_a_topic_name() {
        assert_eq!(TopicName::parse("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(TopicName::parse("a#"), Err(TopicError::WildcardInName));
        assert!(TopicName::parse("/").is_ok());
    }

    #[test]
    fn mqtt_4_7_1_1_multi_level_wildcard_is_last_and_alone() {
        for invalid in ["sport/tennis#", "sport/tennis/#/ranking", "##", "#/a"] {
            assert_eq!(TopicFilter::parse(invalid), Err(TopicError::MultiLevelWildcard), "{invalid}");
        }
        for topic in ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"] {
            assert!(matches("sport/tennis/player1/#", topic));
        }
        assert!(matches("sport/#", "sport"));
        assert!(matches("#", "/a"));
    }

    #[test]
    fn mqtt_4_7_1_2_single_level_wildcard_is_alone_in_its_level() {
        assert_eq!(TopicFilter::parse("sport+"), Err(TopicError::SingleLevelWildcard));
        assert!(matches("sport/+", "sport/"));
        assert!(!matches("sport/+", "sport"));
        assert!(matches("+/+", "/finance"));
        assert!(matches("/+", "/finance"));
        assert!(!matches("+", "/finance"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    }

    #[test]
    fn mqtt_4_7_2_1_leading_wildcards_do_not_match_reserved_topics() {
        assert!(!matches("#", "$SYS/uptime"));
        assert!(!matches("+/uptime", "$SYS/uptime"));
        assert!(matches("$SYS/#", "$SYS/uptime"));
        assert!(matches("$SYS/+", "$SYS/uptime"));
    }

    #[test]
    fn mqtt_4_7_3_1_to_4_names_and_filters_are_strings_of_1_to_65535_bytes_compared_exactly() {
        assert_eq!(TopicName::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicName::parse("a\0"), Err(TopicError::Null));
        assert_eq!(TopicFilter::parse("a\0"), Err(TopicError::Null));
        assert!(TopicName::parse(&"x".repeat(65_535)).is_ok());
        assert_eq!(TopicName::parse(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert!(!matches("ACCOUNTS", "Accounts"));
        assert!(!matches("/finance", "finance"));
    }
}
