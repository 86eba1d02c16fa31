//! Where answers go: tables and sentences for people, or JSON for programs.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde_json::Value;

use super::server::{Query, Server};
use super::table::{Side, Table, terminal_width};
use super::text::{described, json, shown};
use crate::cli::{FAILURE, Failure, Outcome, SUCCESS};

/// Items of a page that is asked for.
const PAGE: u64 = 1000;

/// A column of a list: its name, its side, and where in an item it comes from.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) side: Side,
    pub(super) of: fn(&Value) -> String,
}

/// A column at whose left side texts begin.
pub(super) const fn left(name: &'static str, of: fn(&Value) -> String) -> Column {
    Column { name, side: Side::Left, of }
}

/// A column of numbers.
pub(super) const fn right(name: &'static str, of: fn(&Value) -> String) -> Column {
    Column { name, side: Side::Right, of }
}

/// Standard output.
pub(super) struct Output {
    /// Whether programs read it.
    pub(super) is_json: bool,
    out: io::Stdout,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, out: io::stdout() }
    }

    /// A line for people, or an object for programs, where there is one: that something is done, the exit code tells them.
    pub(super) fn say(&mut self, value: &Value, text: impl FnOnce() -> String) -> Outcome {
        if self.is_json && value.is_null() {
            return Ok(SUCCESS);
        }
        let line = if self.is_json { json(value) } else { text() };
        self.line(&line)?;
        Ok(SUCCESS)
    }

    /// Everything about one thing.
    pub(super) fn describe(&mut self, value: &Value) -> Outcome {
        self.say(value, || described(value).trim_end().to_owned())
    }

    /// Writes a line; whether somebody still reads.
    pub(super) fn line(&mut self, line: &str) -> Result<bool, Failure> {
        let written = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        still_read(written)
    }

    /// Whether a person reads along.
    pub(super) fn is_terminal(&self) -> bool {
        self.out.is_terminal()
    }

    /// Writes bytes as they are, which no terminal must see.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Outcome {
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        still_read(written)?;
        Ok(SUCCESS)
    }

    /// A list that is there as a whole.
    pub(super) fn list(&mut self, items: &[Value], columns: &[Column]) -> Outcome {
        Listing::new(columns).write(self, items)?;
        Ok(SUCCESS)
    }

    /// A list that the server has in pages, at most `limit` items of it.
    pub(super) fn pages(
        &mut self,
        server: &Server,
        path: &str,
        query: Query<'_>,
        limit: Option<u64>,
        columns: &[Column],
    ) -> Outcome {
        let mut left = limit.unwrap_or(u64::MAX);
        let mut query = query.to_vec();
        query.push(("limit", Some(left.clamp(1, PAGE).to_string())));
        let mut listing = Listing::new(columns);
        server.pages(path, &query, |mut items| {
            items.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= items.len() as u64;
            Ok(listing.write(self, &items)? && left > 0)
        })?;
        Ok(SUCCESS)
    }
}

/// A list that is written part by part.
struct Listing<'a> {
    columns: &'a [Column],
    table: Table,
}

impl<'a> Listing<'a> {
    fn new(columns: &'a [Column]) -> Self {
        let names: Vec<_> = columns.iter().map(|column| (column.name, column.side)).collect();
        Self { columns, table: Table::new(&names, terminal_width()) }
    }

    /// Whether somebody still reads.
    fn write(&mut self, out: &mut Output, items: &[Value]) -> Result<bool, Failure> {
        let mut lines = io::BufWriter::new(out.out.lock());
        let written = if out.is_json {
            items.iter().try_for_each(|item| writeln!(lines, "{}", json(item)))
        } else {
            let row = |item| self.columns.iter().map(|column| (column.of)(item)).collect();
            self.table.write(&mut lines, &items.iter().map(row).collect::<Vec<_>>())
        };
        still_read(written.and_then(|()| lines.flush()))
    }
}

/// Whoever reads may stop early, as `head` does.
fn still_read(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot write to standard output: {error}"), FAILURE)),
    }
}

/// The value of a key as text, `-` where there is none.
pub(super) fn cell(item: &Value, key: &str) -> String {
    shown(&item[key])
}
