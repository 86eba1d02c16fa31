//! The `acl_file` of Mosquitto 2, read as it is.
//!
//! `topic` lines are about the user of the `user` line above them, and about anonymous clients before the first; they decide first. Where
//! they say nothing, `pattern` lines decide, which are about everybody. In each of the two a deny wins. Mosquitto grants every
//! subscription, and asks at each delivery.
//!
//! As there, a client whose name holds `+` or `#` gets nothing by patterns. Two things are on the safe side of it: a placeholder does not take
//! a value with a `/`, by which a client could reach into the topics of another one, so that an allow is then about nothing and a deny about
//! everything from that level on; and an empty file allows nothing.

use super::error::Wrong;
use super::pattern::Pattern;
use super::rule::{Actions, Effect, Name, Rule};
use crate::config::suggest::nearest;

/// Rank of `topic` lines.
const TOPICS: u8 = 0;
/// Rank of `pattern` lines.
const PATTERNS: u8 = 1;

pub(super) fn parse(text: &str) -> Result<Vec<Rule>, Wrong> {
    let mut rules = Vec::new();
    let mut user = Name::Nobody;
    for (full, number) in text.lines().zip(1..) {
        let wrong = |message: String| Wrong::new(number, message);
        let line = full.trim_end().trim_start_matches(' ');
        if full.starts_with('#') || line.is_empty() {
            continue;
        }
        let (keyword, rest) = line.split_once(' ').map_or((line, ""), |(keyword, rest)| (keyword, rest.trim_start()));
        match keyword {
            "user" if rest.is_empty() => return Err(wrong("the user has no name".to_owned())),
            "user" => user = Name::Exact(rest.into()),
            "topic" | "pattern" => {
                let (access, topic) = access(rest).map_err(wrong)?;
                let is_topic = keyword == "topic";
                let pattern =
                    if is_topic { Pattern::literal(topic, number) } else { Pattern::mosquitto(topic, number) };
                let users = if is_topic { [user.clone()].into() } else { [].into() };
                rules.push(Rule {
                    effect: access.0,
                    rank: if is_topic { TOPICS } else { PATTERNS },
                    users,
                    clients: [].into(),
                    fields: [].into(),
                    actions: access.1,
                    topics: [pattern.map_err(wrong)?].into(),
                    line: number,
                    text: line.into(),
                });
            }
            unknown => {
                let hint = nearest(unknown, ["user", "topic", "pattern"]);
                let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
                return Err(wrong(format!("a line begins with user, topic or pattern, not with {unknown:?}{hint}")));
            }
        }
    }
    Ok(rules)
}

/// What a line says beside whom it is about: what may be done or not, and the topic. A topic with a space needs the word before it.
fn access(rest: &str) -> Result<((Effect, Actions), &str), String> {
    const RECEIVE: Actions = Actions::of(&[super::Action::Receive]);
    const BOTH: Actions = Actions::WRITE.union(RECEIVE);
    let Some((word, topic)) = rest.split_once(' ') else {
        return if rest.is_empty() {
            Err("the topic is missing".to_owned())
        } else {
            Ok(((Effect::Allow, BOTH), rest))
        };
    };
    let access = match word {
        "read" => (Effect::Allow, RECEIVE),
        "write" => (Effect::Allow, Actions::WRITE),
        "readwrite" => (Effect::Allow, BOTH),
        "deny" => (Effect::Deny, BOTH),
        _ => return Err(format!("before the topic stands read, write, readwrite or deny, not {word:?}")),
    };
    Ok((access, topic.trim_start_matches(' ')))
}
