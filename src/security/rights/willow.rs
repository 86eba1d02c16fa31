//! Our rights file: TOML, an array of `[[rules]]`.

use super::error::Wrong;
use super::pattern::Pattern;
use super::rule::{Action, Actions, Effect, Field, Name, Rule, check_field};
use crate::config::suggest::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const KEYS: [&str; 6] = ["effect", "users", "clients", "fields", "actions", "topics"];
const ACTIONS: [(&str, Actions); 7] = [
    ("publish", Actions::of(&[Action::Publish])),
    ("subscribe", Actions::of(&[Action::Subscribe])),
    ("receive", Actions::of(&[Action::Receive])),
    ("will", Actions::of(&[Action::Will])),
    ("write", Actions::WRITE),
    ("read", Actions::READ),
    ("all", Actions::ALL),
];

pub(super) fn parse(text: &str) -> Result<Vec<Rule>, Wrong> {
    let file = Text(text);
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Wrong::new(file.line(at), error.message())
    })?;
    let mut rules = Vec::new();
    for (key, value) in in_order(table.get_ref()) {
        if key.get_ref() != "rules" {
            return Err(file.unknown(key, &["rules"], "key"));
        }
        let items = value.get_ref().as_array().ok_or_else(|| file.wrong(value, "rules are written as [[rules]]"))?;
        for item in items {
            rules.push(file.rule(item)?);
        }
    }
    Ok(rules)
}

/// The file, to say where things stand in it.
#[derive(Clone, Copy)]
struct Text<'t>(&'t str);

type Value<'t> = Spanned<DeValue<'t>>;

impl Text<'_> {
    fn line(self, offset: usize) -> usize {
        1 + self.0[..offset.min(self.0.len())].bytes().filter(|byte| *byte == b'\n').count()
    }

    fn wrong<T>(self, at: &Spanned<T>, message: impl Into<String>) -> Wrong {
        Wrong::new(self.line(at.span().start), message)
    }

    /// An error about a word that is none of those known.
    fn unknown<T: AsRef<str>>(self, word: &Spanned<T>, known: &[&str], kind: &str) -> Wrong {
        let name = word.get_ref().as_ref();
        let hint = match nearest(name, known.iter().copied()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("known: {}", known.join(", ")),
        };
        self.wrong(word, format!("there is no {kind} {name}; {hint}"))
    }

    fn rule(self, item: &Value<'_>) -> Result<Rule, Wrong> {
        let table = item.get_ref().as_table().ok_or_else(|| self.wrong(item, "a rule is a table"))?;
        let (mut effect, mut actions, mut topics) = (None, None, None);
        let mut rule = Rule {
            effect: Effect::Deny,
            rank: 0,
            users: [].into(),
            clients: [].into(),
            fields: [].into(),
            actions: Actions::default(),
            topics: [].into(),
            line: self.line(item.span().start),
            text: self.source(item, table).into(),
        };
        for (key, value) in in_order(table) {
            match key.get_ref().as_ref() {
                "effect" => effect = Some(self.effect(value)?),
                "users" => rule.users = self.names(value)?,
                "clients" => rule.clients = self.names(value)?,
                "fields" => rule.fields = self.fields(value)?,
                "actions" => actions = Some(self.actions(value)?),
                "topics" => topics = Some(self.topics(value)?),
                _ => return Err(self.unknown(key, &KEYS, "key")),
            }
        }
        let missing = |key: &str, values: &str| self.wrong(item, format!("the rule has no {key}, which is {values}"));
        rule.effect = effect.ok_or_else(|| missing("effect", "\"allow\" or \"deny\""))?;
        rule.actions = actions.ok_or_else(|| missing("actions", "a list such as [\"publish\", \"receive\"]"))?;
        rule.topics = topics.ok_or_else(|| missing("topics", "a list of topic patterns"))?;
        Ok(rule)
    }

    /// The rule as it is written: from its beginning to the end of its last value.
    fn source(self, item: &Value<'_>, table: &DeTable<'_>) -> String {
        let ends = table.iter().map(|(_, value)| value.span().end);
        let end = ends.chain([item.span().end]).max().unwrap_or_default();
        self.0.get(item.span().start..end).unwrap_or_default().trim_end().to_owned()
    }

    fn effect(self, value: &Value<'_>) -> Result<Effect, Wrong> {
        match value.get_ref().as_str() {
            Some("allow") => Ok(Effect::Allow),
            Some("deny") => Ok(Effect::Deny),
            _ => Err(self.wrong(value, "an effect is \"allow\" or \"deny\"")),
        }
    }

    fn names(self, value: &Value<'_>) -> Result<Box<[Name]>, Wrong> {
        let names = self.texts(value, "a name")?;
        Ok(names.iter().map(|(name, _)| Name::parse(name)).collect())
    }

    fn fields(self, value: &Value<'_>) -> Result<Box<[Field]>, Wrong> {
        let form = "fields are written as { \"cert.cn\" = \"value\" }";
        let table = value.get_ref().as_table().ok_or_else(|| self.wrong(value, form))?;
        let mut fields = Vec::new();
        for (key, value) in in_order(table) {
            check_field(key.get_ref()).map_err(|reason| self.wrong(key, reason))?;
            let wanted = value.get_ref().as_str().filter(|wanted| !wanted.is_empty());
            let wanted = wanted.ok_or_else(|| self.wrong(value, "the value of a field is a string, and not empty"))?;
            fields.push(Field { name: key.get_ref().as_ref().into(), wanted: Name::parse(wanted) });
        }
        if fields.is_empty() { Err(self.wrong(value, form)) } else { Ok(fields.into()) }
    }

    fn actions(self, value: &Value<'_>) -> Result<Actions, Wrong> {
        let mut actions = Actions::default();
        for (word, item) in self.texts(value, "an action")? {
            let known = ACTIONS.iter().find(|(name, _)| *name == word);
            let Some((_, meant)) = known else {
                let word = Spanned::new(item.span(), word);
                return Err(self.unknown(&word, &ACTIONS.map(|(name, _)| name), "action"));
            };
            actions = actions.union(*meant);
        }
        Ok(actions)
    }

    fn topics(self, value: &Value<'_>) -> Result<Box<[Pattern]>, Wrong> {
        let parse = |(text, item): &(&str, &Value<'_>)| {
            Pattern::parse(text, self.line(item.span().start)).map_err(|reason| self.wrong(item, reason))
        };
        self.texts(value, "a topic pattern")?.iter().map(parse).collect()
    }

    /// A list of strings, and not an empty one: it would be about nobody or nothing.
    fn texts<'v>(self, value: &'v Value<'_>, each: &str) -> Result<Vec<(&'v str, &'v Value<'v>)>, Wrong> {
        let items = value.get_ref().as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| self.wrong(value, format!("this is a list of strings, each {each}")))?;
        let text = |item: &'v Value<'_>| {
            let text = item.get_ref().as_str().ok_or_else(|| self.wrong(item, format!("{each} is a string")))?;
            Ok((text, item))
        };
        items.iter().map(text).collect()
    }
}

/// Tables are sorted by name; errors shall come in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}
