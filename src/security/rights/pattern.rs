//! Topic patterns of rules: Topic Filters in which a level may name the client.

use super::Who;
use crate::topic::TopicFilter;
use std::borrow::Cow;

/// A topic pattern, and the line on which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    line: usize,
    levels: Box<[Level]>,
    /// It allows nothing to clients with a wildcard in a name, placeholders or not.
    shuns_wildcards: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// A literal level or a wildcard.
    Plain(Box<str>),
    /// A level with placeholders.
    Filled(Box<[Part]>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    ClientId,
    Username,
    Field(Box<str>),
}

impl Part {
    /// What stands for it; nothing where the client has no such value or several.
    fn value<'a>(&'a self, who: Who<'a>) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::ClientId => Some(who.client_id),
            Self::Username => who.identity.username.as_deref(),
            Self::Field(name) => who.only_value(name),
        }
    }
}

impl Pattern {
    /// A pattern of a rights file of ours: `%c`, `%u`, `%{field}` and `%%`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str, line: usize) -> Result<Self, String> {
        check(text)?;
        if text == "$share" || text.starts_with("$share/") {
            return Err(format!("{text:?} is a Shared Subscription, which is judged by the Topic Filter behind it"));
        }
        let levels = text.split('/').map(parse_level).collect::<Result<_, _>>();
        let levels = levels.map_err(|reason| format!("the topic pattern {text:?} is wrong: {reason}"))?;
        Ok(Self { text: text.into(), line, levels, shuns_wildcards: false })
    }

    /// A Topic Filter in which nothing is replaced: a `topic` of Mosquitto.
    pub(super) fn literal(text: &str, line: usize) -> Result<Self, String> {
        check(text)?;
        let levels = text.split('/').map(|level| Level::Plain(level.into())).collect();
        Ok(Self { text: text.into(), line, levels, shuns_wildcards: false })
    }

    /// A `pattern` of Mosquitto: `%c` and `%u` alone mean something.
    pub(super) fn mosquitto(text: &str, line: usize) -> Result<Self, String> {
        check(text)?;
        let levels = text.split('/').map(mosquitto_level).collect();
        Ok(Self { text: text.into(), line, levels, shuns_wildcards: true })
    }

    /// The pattern as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it stands in its file, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether it can allow this client something: each placeholder has a value that can stand in a level.
    pub(super) fn is_complete(&self, who: Who<'_>) -> bool {
        let mut names = [Some(who.client_id), who.identity.username.as_deref()].into_iter().flatten();
        let is_shunned = self.shuns_wildcards && names.any(|name| name.contains(['+', '#']));
        !is_shunned && self.levels.iter().all(|level| fill(level, who).is_some()) && !self.is_named_into_reserved(who)
    }

    /// Whether a value makes it begin with `$`: whoever chooses a name does not choose the server's own topics. [MQTT-4.7.2-1]
    fn is_named_into_reserved(&self, who: Who<'_>) -> bool {
        match self.levels.first() {
            Some(level @ Level::Filled(parts)) if !matches!(parts.first(), Some(Part::Text(_))) => {
                fill(level, who).is_some_and(|filled| filled.starts_with('$'))
            }
            _ => false,
        }
    }

    /// Its levels for this client, those of a valid Topic Filter. From a level on that cannot be filled it is everything.
    pub(super) fn levels<'a>(&'a self, who: Who<'a>) -> impl Iterator<Item = Cow<'a, str>> {
        let mut ends = false;
        self.levels.iter().map_while(move |level| {
            if ends {
                return None;
            }
            let filled = fill(level, who);
            ends = filled.is_none();
            Some(filled.unwrap_or(Cow::Borrowed("#")))
        })
    }

    /// The Topic Filter that it is for this client, as text.
    pub(super) fn filled(&self, who: Who<'_>) -> String {
        self.levels(who).collect::<Vec<_>>().join("/")
    }
}

/// A level, its placeholders replaced; nothing where a value is missing or cannot stand there.
///
/// A value must not reach into another level or be a wildcard.
fn fill<'a>(level: &'a Level, who: Who<'a>) -> Option<Cow<'a, str>> {
    let parts = match level {
        Level::Plain(text) => return Some(Cow::Borrowed(text)),
        Level::Filled(parts) => parts,
    };
    let fits = |part: &Part, value: &str| {
        matches!(part, Part::Text(_)) || !(value.is_empty() || value.contains(['/', '+', '#', '\0']))
    };
    let value = |part: &'a Part| part.value(who).filter(|value| fits(part, value));
    match &**parts {
        [one] => value(one).map(Cow::Borrowed),
        parts => parts.iter().map(value).collect::<Option<String>>().map(Cow::Owned),
    }
}

fn check(text: &str) -> Result<(), String> {
    TopicFilter::parse(text).map(drop).map_err(|error| format!("the topic pattern {text:?} is wrong: {error}"))
}

fn parse_level(level: &str) -> Result<Level, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = level;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let (part, behind) = placeholder(after)?;
        rest = behind;
        match part {
            None => text.push('%'),
            Some(part) => {
                push_text(&mut parts, &mut text);
                parts.push(part);
            }
        }
    }
    text.push_str(rest);
    if parts.is_empty() {
        return Ok(Level::Plain(text.into()));
    }
    push_text(&mut parts, &mut text);
    Ok(Level::Filled(parts.into()))
}

/// What a `%` begins, which is nothing where another follows it, and what comes behind.
fn placeholder(after: &str) -> Result<(Option<Part>, &str), String> {
    if let Some(named) = after.strip_prefix('{') {
        let (name, behind) = named.split_once('}').ok_or("a `%{` is not closed within its level")?;
        super::rule::check_field(name)?;
        return Ok((Some(Part::Field(name.into())), behind));
    }
    let mut rest = after.chars();
    let part = match rest.next() {
        Some('c') => Some(Part::ClientId),
        Some('u') => Some(Part::Username),
        Some('%') => None,
        _ => return Err("behind % stands c, u, {field} or another %".to_owned()),
    };
    Ok((part, rest.as_str()))
}

fn mosquitto_level(level: &str) -> Level {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = level;
    while let Some(next) = rest.chars().next() {
        let part = match rest.get(..2) {
            Some("%c") => Some(Part::ClientId),
            Some("%u") => Some(Part::Username),
            _ => None,
        };
        match part {
            Some(part) => {
                push_text(&mut parts, &mut text);
                parts.push(part);
                rest = &rest[2..];
            }
            None => {
                text.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    if parts.is_empty() {
        return Level::Plain(text.into());
    }
    push_text(&mut parts, &mut text);
    Level::Filled(parts.into())
}

fn push_text(parts: &mut Vec<Part>, text: &mut String) {
    if !text.is_empty() {
        parts.push(Part::Text(std::mem::take(text).into()));
    }
}
