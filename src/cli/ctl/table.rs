//! Tables for people: aligned columns that fit the terminal.

use std::io::{self, IsTerminal, Write};

use ratatui::text::Span;

/// Between two columns.
const GAP: usize = 2;
/// No column is cut to less than this.
const NARROWEST: usize = 8;
/// Stands for what was cut off.
const CUT: char = '…';

/// How wide a text is on a terminal, where some characters take two places and some none.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// The width to keep to: that of the terminal, and where standard output is none, any.
pub(super) fn terminal_width() -> usize {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return usize::MAX;
    }
    match rustix::termios::tcgetwinsize(&stdout) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => usize::MAX,
    }
}

/// On which side of its column a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table that is written part by part, so that a long list is on the screen while the rest of it is fetched. Columns become wider where
/// a later part needs it, never narrower.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    widths: Vec<usize>,
    room: usize,
    has_begun: bool,
}

impl Table {
    /// A table with these columns, that fits into `room`.
    pub(super) fn new(columns: &[(&'static str, Side)], room: usize) -> Self {
        let widths = columns.iter().map(|(name, _)| width(name)).collect();
        Self { columns: columns.to_vec(), widths, room, has_begun: false }
    }

    /// Writes rows, the first time below the names of the columns. What is in them must be safe for a terminal.
    pub(super) fn write(&mut self, out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
        for row in rows {
            for (widest, cell) in self.widths.iter_mut().zip(row) {
                *widest = width(cell).max(*widest);
            }
        }
        let widths = self.fitting();
        if !self.has_begun {
            self.has_begun = true;
            let names: Vec<_> = self.columns.iter().map(|(name, _)| name.to_uppercase()).collect();
            self.write_row(out, &widths, &names)?;
        }
        rows.iter().try_for_each(|row| self.write_row(out, &widths, row))
    }

    /// The widths, with the widest columns cut until the table fits: names at the left matter most where two are as wide.
    fn fitting(&self) -> Vec<usize> {
        let mut widths = self.widths.clone();
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(self.room);
        while excess > 0 {
            let widest = widths.iter().copied().enumerate().max_by_key(|&(index, width)| (width, index));
            let Some((index, _)) = widest.filter(|(_, width)| *width > NARROWEST) else { break };
            widths[index] -= 1;
            excess -= 1;
        }
        widths
    }

    fn write_row(&self, out: &mut dyn Write, widths: &[usize], row: &[String]) -> io::Result<()> {
        let mut line = String::new();
        for (((_, side), room), cell) in self.columns.iter().zip(widths).zip(row) {
            let cell = cut(cell, *room);
            let filling = " ".repeat(room.saturating_sub(width(&cell)));
            match side {
                Side::Left => line.extend([cell.as_str(), &filling]),
                Side::Right => line.extend([filling.as_str(), &cell]),
            }
            line.extend([' '; GAP]);
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// The text, or as much of its beginning as fits, and a mark.
pub(super) fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = width(CUT.encode_utf8(&mut [0; 4]));
    for character in text.chars() {
        used += width(character.encode_utf8(&mut [0; 4]));
        if used > room {
            break;
        }
        cut.push(character);
    }
    cut.push(CUT);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &mut Table, rows: &[&[&str]]) -> String {
        let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| cell.to_string()).collect()).collect();
        let mut out = Vec::new();
        table.write(&mut out, &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_names_stand_above_them_once() {
        let mut table = Table::new(&[("client", Side::Left), ("queue", Side::Right), ("will", Side::Left)], 80);
        let first = written(&mut table, &[&["lamp", "7", "armed"], &["東京", "12345678", "-"]]);
        assert_eq!(first, "CLIENT     QUEUE  WILL\nlamp           7  armed\n東京    12345678  -\n");
        let second = written(&mut table, &[&["lantern-1", "1", "-"]]);
        assert_eq!(second, "lantern-1         1  -\n");
    }

    #[test]
    fn an_empty_table_has_the_names() {
        assert_eq!(written(&mut Table::new(&[("a", Side::Left), ("b", Side::Right)], 80), &[]), "A  B\n");
    }

    #[test]
    fn the_widest_column_is_cut_where_the_terminal_is_narrow() {
        let mut table = Table::new(&[("client", Side::Left), ("topic", Side::Left)], 24);
        let text = written(&mut table, &[&["lamp", "a/very/long/topic/indeed"]]);
        assert_eq!(text, "CLIENT  TOPIC\nlamp    a/very/long/top…\n");
        let mut table = Table::new(&[("client", Side::Left), ("topic", Side::Left)], 3);
        let text = written(&mut table, &[&["123456789", "123456789"]]);
        assert_eq!(text.lines().nth(1), Some("1234567…  1234567…"), "no column is cut to nothing");
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(
            [cut("東京都", 6), cut("東京都", 5), cut("東京都", 4), cut("ab", 2)],
            ["東京都", "東京…", "東…", "ab"]
        );
    }
}
