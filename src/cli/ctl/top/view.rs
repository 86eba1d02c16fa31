//! How `ctl top` looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, RenderDirection, Row, Sparkline, Table};

use super::figures::{Order, Seen, ShardRates};
use crate::cli::ctl::overview::Shard;
use crate::cli::ctl::text::{bytes, escaped, short, span};

/// Lines that the figures take.
const FIGURES: u16 = 7;
/// Lines of the curves with their frames.
const CURVES: u16 = 6;
/// A terminal that is lower than this shows no curves: the shards are worth more.
const CURVES_FROM: u16 = 20;
/// A column of figures, and its labels.
const COLUMN: usize = 26;
const LABEL: usize = 13;

/// What there is to show beside the figures.
pub(super) struct Frills<'a> {
    /// Where the broker is.
    pub(super) url: &'a str,
    /// Seconds between two looks.
    pub(super) interval: f64,
    pub(super) is_paused: bool,
    pub(super) order: Order,
    /// Why there is nothing new.
    pub(super) trouble: Option<&'a str>,
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, seen: &Seen, frills: &Frills<'_>) {
    let curves = if frame.area().height >= CURVES_FROM { CURVES } else { 0 };
    let parts = [
        Constraint::Length(1),
        Constraint::Length(FIGURES + 1),
        Constraint::Length(curves),
        Constraint::Min(2),
        Constraint::Length(1),
    ];
    let [head, figures, curves, shards, foot] = Layout::vertical(parts).areas(frame.area());
    draw_head(frame, head, seen, frills);
    draw_figures(frame, figures, seen);
    if curves.height > 0 {
        draw_curves(frame, curves, seen);
    }
    draw_shards(frame, shards, seen, frills.order);
    draw_foot(frame, foot, frills);
}

/// The height at which nothing is left out.
pub(super) fn height(shards: usize) -> u16 {
    u16::try_from(shards).unwrap_or(u16::MAX).saturating_add(1 + FIGURES + 1 + CURVES + 1 + 1)
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, seen: &Seen, frills: &Frills<'_>) {
    let state = escaped(&seen.now.state);
    let is_well = matches!(state.as_str(), "ok" | "ready" | "running");
    let state = Span::styled(state, if is_well { Color::Green } else { Color::Yellow });
    let name = format!("WillowMQ {}", escaped(&seen.now.version)).bold();
    let up = format!("  up {}  ", span(seen.now.uptime));
    let line = Line::from(vec![name, up.into(), state, format!("  {}", escaped(frills.url)).dim()]);
    frame.render_widget(line, area);
}

/// The figures, in as many columns as there is room for.
fn draw_figures(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let (totals, wills, rates) = (&seen.now.totals, &seen.now.totals.wills, &seen.rates);
    let a_second = |number: f64| format!("{}/s", short(number));
    let count = |number: u64| short(number as f64);
    let traffic = [
        ("messages in", a_second(rates.messages_in)),
        ("messages out", a_second(rates.messages_out)),
        ("dropped", a_second(rates.dropped)),
        ("bytes in", format!("{}/s", bytes(rates.bytes_in))),
        ("bytes out", format!("{}/s", bytes(rates.bytes_out))),
        ("connects", a_second(rates.connects)),
    ];
    let held = [
        ("connections", count(totals.connections)),
        ("sessions", count(totals.sessions)),
        ("subscriptions", count(totals.subscriptions)),
        ("retained", count(totals.retained)),
        ("queued", count(totals.queued_messages)),
        ("queued bytes", bytes(totals.queued_bytes as f64)),
    ];
    let of_wills = [
        ("wills armed", count(wills.armed)),
        ("pending", count(wills.pending)),
        ("due", count(wills.due)),
        ("held", count(wills.held)),
        ("published", a_second(rates.wills)),
        ("lateness p99", span(wills.lateness_p99)),
        ("storms", count(wills.storms)),
    ];
    let columns = match usize::from(area.width) / COLUMN {
        0 | 1 => vec![&traffic[..]],
        2 => vec![&traffic[..], &of_wills],
        _ => vec![&traffic[..], &held, &of_wills],
    };
    let areas = Layout::horizontal(vec![Constraint::Length(COLUMN as u16); columns.len()]).split(area);
    for (&area, figures) in areas.iter().zip(columns) {
        let lines: Vec<_> = figures.iter().map(|(label, value)| figure(label, value)).collect();
        frame.render_widget(
            Paragraph::new(lines),
            Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area },
        );
    }
}

fn figure(label: &'static str, value: &str) -> Line<'static> {
    let room = COLUMN - LABEL - 2; // Apart from the next column.
    Line::from(vec![format!("{label:LABEL$}").dim(), format!("{value:>room$}").into()])
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let [messages, wills] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    let mut draw = |area: Rect, title: &str, samples: &std::collections::VecDeque<u64>, color| {
        // What is not in sight does not count for the scale.
        let visible: Vec<_> = samples.iter().copied().take(area.width.saturating_sub(2).into()).collect();
        let most = visible.iter().max().copied().unwrap_or(0);
        let title = format!(" {title}, at most {} ", short(most as f64));
        let curve = Sparkline::default().block(Block::bordered().title(title)).direction(RenderDirection::RightToLeft);
        frame.render_widget(curve.data(visible).max(most.max(1)).style(color), area);
    };
    draw(messages, "messages/s in and out", &seen.messages, Color::Cyan);
    draw(wills, "wills/s published", &seen.wills, Color::Magenta);
}

fn draw_shards(frame: &mut Frame<'_>, area: Rect, seen: &Seen, order: Order) {
    // Columns for which there is no room are left out: figures that are cut would be taken for others.
    let mut room = area.width;
    let widths = [6, 6, 7, 7, 6, 9, 7, 6, 11].map(|width| {
        let has_room = room >= width;
        room = if has_room { room.saturating_sub(width + 1) } else { 0 };
        if has_room { width } else { 0 }
    });
    let row = |(shard, rates): (&Shard, &ShardRates)| {
        let cells = [
            shard.shard.to_string(),
            short(shard.connections as f64),
            short(rates.messages_in),
            short(rates.messages_out),
            format!("{:.0} %", rates.busy * 100.0),
            span(shard.turn_p99),
            short(shard.stalls as f64),
            short(shard.mesh_waiting as f64),
            bytes(shard.journal_backlog_bytes as f64),
        ];
        let row = Row::new(cells.map(|cell| Cell::from(Line::from(cell).right_aligned())));
        if shard.stalls > 0 { row.yellow() } else { row }
    };
    let titles = ["SHARD", "CONN", "IN/S", "OUT/S", "BUSY", "TURN P99", "STALLS", "MESH", "JOURNAL"];
    let titles = titles.into_iter().zip(Order::ALL).map(|(title, column)| {
        let title = if column == order { format!("▾{title}") } else { title.to_owned() };
        let style = if column == order { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        Cell::from(Line::from(title).right_aligned()).style(style)
    });
    let table = Table::new(seen.shards(order).into_iter().map(row), widths.map(Constraint::Length));
    frame.render_widget(table.header(Row::new(titles).reversed()).column_spacing(1), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, frills: &Frills<'_>) {
    if let Some(trouble) = frills.trouble {
        frame.render_widget(Line::from(escaped(trouble)).style(Color::Red), area);
        return;
    }
    let state = if frills.is_paused { "paused".to_owned() } else { format!("every {}", span(frills.interval)) };
    frame.render_widget(Line::from(format!("q quit  p pause  s sort  +/- interval  ({state})")).dim(), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::as_text;
    use super::super::figures::tests::seen;
    use super::*;

    fn drawn(width: u16, height: u16, frills: &Frills<'_>) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let seen = seen();
        terminal.draw(|frame| draw(frame, &seen, frills)).unwrap();
        as_text(terminal.backend().buffer())
    }

    fn frills() -> Frills<'static> {
        let order = Order::default();
        Frills { url: "http://127.0.0.1:8080", interval: 2.0, is_paused: false, order, trouble: None }
    }

    #[test]
    fn a_frame_shows_what_an_operator_looks_for() {
        let text = drawn(80, 24, &frills());
        let has = |part: &str| assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        has("WillowMQ 0.1.0  up 1m 44s  ready  http://127.0.0.1:8080");
        has("messages in       3.0k/s  connections           30  wills armed           25");
        has("lateness p99         2ms");
        has("at most 15.0k");
        has("▾SHARD");
        has("q quit  p pause  s sort  +/- interval  (every 2s)");
        let row = text.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap_or_default();
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells, ["1", "10", "2.2k", "6.0k", "75", "%", "250µs", "1", "3", "2.0", "KiB"], "{text}");
    }

    #[test]
    fn the_busiest_shard_is_on_top_where_that_is_asked_for() {
        let text = drawn(80, 24, &Frills { order: Order::Busy, ..frills() });
        let shards: Vec<_> =
            text.lines().filter_map(|line| line.trim_start().split_once(' ')?.0.parse::<u32>().ok()).collect();
        assert_eq!(shards, [1, 0], "{text}");
        assert!(text.contains("▾BUSY"), "{text}");
    }

    #[test]
    fn trouble_and_a_pause_are_told() {
        let text = drawn(80, 24, &Frills { trouble: Some("cannot reach\u{1b}[31m it"), ..frills() });
        assert!(text.contains("cannot reach\\u{1b}[31m it"), "{text}");
        assert!(drawn(80, 24, &Frills { is_paused: true, ..frills() }).contains("(paused)"));
    }

    #[test]
    fn figures_that_have_no_room_are_left_out_and_not_cut() {
        let text = drawn(20, 14, &frills());
        let row = text.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap_or_default();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["1", "10"], "{text}");
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(1, 1), (20, 3), (80, 12), (300, 2), (2, 60)] {
            drawn(width, height, &frills());
        }
    }
}
