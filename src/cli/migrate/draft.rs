//! The configuration that is being written: our settings, each with the lines that it comes from, and what could not be carried over.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::source::{Place, Setting};

/// One of our settings.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: &'static str,
    /// As TOML has it.
    pub(super) value: String,
    /// Comments above it: where it comes from, and what there is to know.
    pub(super) comments: Vec<String>,
}

impl Entry {
    /// A setting that comes from one of Mosquitto's.
    pub(super) fn from(key: &'static str, value: impl fmt::Display, setting: &Setting) -> Self {
        Self::new(key, value).because(format!("{}: {} {}", setting.at, setting.name, setting.value))
    }

    /// A setting that comes from what Mosquitto does when nothing is said.
    pub(super) fn new(key: &'static str, value: impl fmt::Display) -> Self {
        Self { key, value: value.to_string(), comments: Vec::new() }
    }

    pub(super) fn because(mut self, comment: impl Into<String>) -> Self {
        self.comments.push(comment.into());
        self
    }
}

/// A text as TOML has it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A list of one text.
pub(super) fn list_of(text: &str) -> String {
    format!("[{}]", quoted(text))
}

/// A table, or an item of a list.
#[derive(Debug)]
pub(super) struct Table {
    /// With its brackets; empty for what stands before all tables.
    pub(super) header: &'static str,
    pub(super) comments: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// It was not carried over, and somebody will miss it.
    Lost,
    /// It behaves in another way here.
    Differs,
    /// It has no counterpart, and needs none.
    Needless,
}

/// Something that is to be known of the new configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) weight: Weight,
    /// Where the reason stands, if it stands anywhere.
    pub(super) at: Option<Place>,
    pub(super) text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The tables in the order of the file; those of one header are one, unless it is that of a list.
    tables: Vec<Table>,
    pub(super) notes: Vec<Note>,
}

impl Draft {
    /// Adds a setting to the table with this header.
    pub(super) fn set(&mut self, header: &'static str, entry: Entry) {
        match self.tables.iter_mut().find(|table| table.header == header) {
            Some(table) => table.entries.push(entry),
            None => self.tables.push(Table { header, comments: Vec::new(), entries: vec![entry] }),
        }
    }

    /// Adds an item to a list.
    pub(super) fn push(&mut self, table: Table) {
        self.tables.push(table);
    }

    pub(super) fn note(&mut self, weight: Weight, at: Option<&Place>, text: impl Into<String>) {
        let note = Note { weight, at: at.cloned(), text: text.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Notes what became of a setting, by its name and value.
    pub(super) fn note_of(&mut self, weight: Weight, setting: &Setting, text: &str) {
        self.note(weight, Some(&setting.at), format!("{} {}: {text}", setting.name, setting.value));
    }

    /// The notes of this weight, in the order of the lines.
    pub(super) fn notes_of(&self, weight: Weight) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(move |note| note.weight == weight)
    }

    /// The file.
    pub(super) fn to_toml(&self, of: &str) -> String {
        let mut out = String::new();
        let mut comment = |text: &str| text.lines().for_each(|line| write_comment(&mut out, line));
        comment(&format!("Settings of WillowMQ, made from {of} by `willowmq migrate`.\n"));
        comment("What is not said here has its default: `willowmq --print-config` explains every setting.");
        for (weight, title) in [
            (Weight::Lost, "Not carried over:"),
            (Weight::Differs, "Different from Mosquitto:"),
            (Weight::Needless, "Left out, because it needs nothing here:"),
        ] {
            if self.notes_of(weight).next().is_some() {
                comment(&format!("\n{title}"));
            }
            self.notes_of(weight).for_each(|note| comment(&format!("- {note}")));
        }
        // What stands before all tables has to stand there.
        let (before, tables): (Vec<_>, Vec<_>) = self.tables.iter().partition(|table| table.header.is_empty());
        before.into_iter().chain(tables).for_each(|table| write_table(&mut out, table));
        out
    }
}

/// A line of comment. TOML allows no control characters there, and what is quoted may hold some.
fn write_comment(out: &mut String, line: &str) {
    let shown: String = line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let _ = writeln!(out, "{}", format!("# {shown}").trim_end());
}

fn write_table(out: &mut String, table: &Table) {
    out.push('\n');
    table.comments.iter().for_each(|comment| write_comment(out, comment));
    if !table.header.is_empty() {
        let _ = writeln!(out, "{}", table.header);
    }
    let mut keys = BTreeSet::new();
    for entry in &table.entries {
        debug_assert!(keys.insert(entry.key), "{} twice in {}", entry.key, table.header);
        entry.comments.iter().for_each(|comment| write_comment(out, comment));
        let _ = writeln!(out, "{} = {}", entry.key, entry.value);
    }
}
