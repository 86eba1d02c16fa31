//! Which topics have a retained message, in an order that lets a look-up skip what cannot match.
//!
//! Topic Names stand in one ordered map. All topics below a level are neighbours in it, so a filter is looked up by seeking: where a
//! level does not match, the look-up goes on behind everything that shares this level. An exact topic is a single search.

use super::{TopicFilter, TopicName};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a look-up goes on: everything before this topic is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Box<str>);

impl Cursor {
    /// The cursor that this text names, which [`Self::as_str`] gave.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text. Any text is a cursor: a wrong one only begins somewhere else.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value for each of a set of topics.
#[derive(Debug)]
pub struct RetainedTopics<V> {
    topics: BTreeMap<Box<str>, V>,
}

impl<V> Default for RetainedTopics<V> {
    fn default() -> Self {
        Self { topics: BTreeMap::new() }
    }
}

/// What a topic that does not match says about its neighbours.
enum Verdict {
    Matches,
    /// Only this topic is out of question.
    Next,
    /// Nothing before this one matches.
    Seek(String),
}

impl<V> RetainedTopics<V> {
    /// Stores a value; the one that was there before.
    pub fn insert(&mut self, topic: TopicName<'_>, value: V) -> Option<V> {
        self.topics.insert(topic.as_str().into(), value)
    }

    /// Removes a value.
    pub fn remove(&mut self, topic: TopicName<'_>) -> Option<V> {
        self.topics.remove(topic.as_str())
    }

    /// The value of a topic.
    pub fn get(&self, topic: TopicName<'_>) -> Option<&V> {
        self.topics.get(topic.as_str())
    }

    /// The values of the topics behind `topic` in order, or of all.
    pub fn after<'a>(&'a self, topic: Option<&'a str>) -> impl Iterator<Item = &'a V> {
        let start = topic.map_or(Bound::Unbounded, Bound::Excluded);
        self.topics.range::<str, _>((start, Bound::Unbounded)).map(|(_, value)| value)
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Visits the topics that `filter` matches, from `cursor` on, and looks at no more than `budget` topics. The cursor to go on
    /// from, or `None` at the end.
    ///
    /// What is stored or removed between two calls is seen or not; everything else is visited exactly once.
    pub fn scan(
        &self,
        filter: &TopicFilter,
        cursor: Option<&Cursor>,
        budget: usize,
        mut visit: impl FnMut(&str, &V),
    ) -> Option<Cursor> {
        let mut start: Box<str> = cursor.map_or_else(|| literal_prefix(filter).into(), |cursor| cursor.0.clone());
        let mut looks = 0;
        // One search, then its neighbours, until one of them says where to search next.
        'search: loop {
            for (topic, value) in self.topics.range::<str, _>((Bound::Included(&*start), Bound::Unbounded)) {
                if looks >= budget {
                    return Some(Cursor(topic.clone()));
                }
                looks += 1;
                match judge(filter, topic) {
                    Verdict::Matches => visit(topic, value),
                    Verdict::Next => {}
                    Verdict::Seek(target) if *target > **topic => {
                        start = target.into();
                        continue 'search;
                    }
                    Verdict::Seek(_) => return None,
                }
            }
            return None;
        }
    }
}

/// What all matches begin with.
fn literal_prefix(filter: &TopicFilter) -> &str {
    let text = filter.as_str();
    text.find(['+', '#']).map_or(text, |wildcard| text[..wildcard].trim_end_matches('/'))
}

/// Compares level by level. `Seek` names the least topic that may match after this one, or one before it if there is none.
fn judge(filter: &TopicFilter, topic: &str) -> Verdict {
    let mut levels = filter.levels();
    let mut at = 0;
    let is_reserved = topic.starts_with('$');
    loop {
        let Some(level) = levels.next() else {
            // The filter has ended and the topic has not: nothing that shares these levels matches.
            return Verdict::Seek(behind_level(&topic[..at - 1]));
        };
        if level == "#" {
            return if at == 0 && is_reserved { Verdict::Seek(behind_reserved()) } else { Verdict::Matches };
        }
        let end = topic[at..].find('/').map_or(topic.len(), |length| at + length);
        if level == "+" {
            if at == 0 && is_reserved {
                return Verdict::Seek(behind_reserved());
            }
        } else if topic[at..end] != *level {
            return seek_literal(&topic[..at], level, topic);
        }
        if end == topic.len() {
            return match (levels.next(), levels.next()) {
                (None, _) | (Some("#"), _) => Verdict::Matches,
                _ => Verdict::Next,
            };
        }
        at = end + 1;
    }
}

/// The least topic that has `literal` behind `prefix` and comes after `topic`; behind the prefix where there is none.
fn seek_literal(prefix: &str, literal: &str, topic: &str) -> Verdict {
    let alone = format!("{prefix}{literal}");
    if *alone > *topic {
        return Verdict::Seek(alone);
    }
    let with_children = format!("{alone}/");
    if *with_children > *topic {
        return Verdict::Seek(with_children);
    }
    match prefix.strip_suffix('/') {
        Some(parent) => Verdict::Seek(behind_level(parent)),
        None => Verdict::Seek(String::new()), // The first level is literal, and we are past it: this is the end.
    }
}

/// The first string that is not below a level: `/` is followed by `0`.
fn behind_level(level: &str) -> String {
    format!("{level}0")
}

fn behind_reserved() -> String {
    "%".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(topics: &[&str], filter: &str) -> Vec<String> {
        let mut retained = RetainedTopics::default();
        for topic in topics {
            retained.insert(TopicName::parse(topic).unwrap(), ());
        }
        let filter = TopicFilter::parse(filter).unwrap();
        let mut found = Vec::new();
        assert!(retained.scan(&filter, None, usize::MAX, |topic, ()| found.push(topic.to_owned())).is_none());
        found
    }

    #[test]
    fn levels_that_sort_around_the_separator_are_told_apart() {
        let topics = ["d1", "d1!x", "d1-a/b", "d1/a", "d1/b", "d10/b", "d1/b!/c", "d1/b/c"];
        assert_eq!(found(&topics, "d1/+"), ["d1/a", "d1/b"]);
        assert_eq!(found(&topics, "d1/#"), ["d1", "d1/a", "d1/b", "d1/b!/c", "d1/b/c"]);
        assert_eq!(found(&topics, "+/b"), ["d1-a/b", "d1/b", "d10/b"]);
        assert_eq!(found(&topics, "d1/b/+"), ["d1/b/c"]);
    }

    #[test]
    fn mqtt_4_7_2_1_leading_wildcards_pass_reserved_topics_over() {
        let topics = ["!", "$SYS/a", "$x", "a", "b/a"];
        assert_eq!(found(&topics, "#"), ["!", "a", "b/a"]);
        assert_eq!(found(&topics, "+"), ["!", "a"]);
        assert_eq!(found(&topics, "+/a"), ["b/a"]);
        assert_eq!(found(&topics, "$SYS/#"), ["$SYS/a"]);
    }
}
