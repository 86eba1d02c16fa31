//! The plots of one group of reports, each with its title and legend.

use super::html::{Group, escape};
use super::plot::{self, Band, DASHES, Line, Pen};
use super::{Phase, Report};

/// One line to be drawn and what the legend calls it.
struct Entry {
    /// Which run of the group it belongs to.
    report: usize,
    title: String,
    line: Line,
}

/// Gives every label of the page its colour.
pub(super) struct Colours(Vec<String>);

impl Colours {
    /// Colours for the labels of `groups`, in the order of their appearance.
    pub(super) fn new(groups: &[Group<'_>]) -> Self {
        let mut labels: Vec<String> = Vec::new();
        for report in groups.iter().flat_map(|group| &group.reports) {
            if !labels.contains(&report.label) {
                labels.push(report.label.clone());
            }
        }
        Self(labels)
    }

    /// The colour of `label`, counted through the palette.
    pub(super) fn of(&self, label: &str) -> usize {
        self.0.iter().position(|known| known == label).unwrap_or(0)
    }
}

/// All plots of `group` as HTML.
pub(super) fn charts(group: &Group<'_>, colours: &Colours) -> String {
    let mut html = String::new();
    for chart in distinct(group.reports.iter().flat_map(|report| &report.series).map(|series| &series.chart)) {
        html.push_str(&over_time(group, colours, chart));
    }
    for chart in distinct(group.reports.iter().flat_map(|report| &report.latencies).map(|latency| &latency.chart)) {
        html.push_str(&latencies(group, colours, chart));
    }
    html
}

/// The values of the series that belong to `chart`.
fn over_time(group: &Group<'_>, colours: &Colours, chart: &str) -> String {
    let here = || group.reports.iter().flat_map(|report| &report.series).filter(|series| series.chart == chart);
    let names = distinct(here().map(|series| &series.name));
    let mut entries = Vec::new();
    for (index, report) in group.reports.iter().enumerate() {
        let origin = origin_s(group, report);
        for series in report.series.iter().filter(|series| series.chart == chart) {
            let kind = names.iter().position(|name| *name == series.name).unwrap_or(0);
            let points = series.points.iter().map(|(second, value)| (second - origin, *value)).collect();
            let line = Line { pen: pen(group, colours, index, kind), points };
            entries.push(Entry { report: index, title: title(group, index, &series.title), line });
        }
    }
    if entries.iter().all(|entry| entry.line.points.is_empty()) {
        return String::new();
    }
    let unit = here().next().map_or("", |series| series.unit.as_str());
    let lines = entries.iter().map(|entry| entry.line.clone()).collect();
    let (seconds, note) = match is_aligned(group) {
        true => (format!("seconds since the {} began", group.reports[0].scenario), "phases are those of the first run"),
        false => ("seconds".into(), ""),
    };
    let svg = plot::over_time(lines, &bands(group), unit, &seconds);
    figure(chart, note, &legend(&entries), &labelled(&svg, chart))
}

/// Both views of the latencies that belong to `chart`: all of them, and the tail.
fn latencies(group: &Group<'_>, colours: &Colours, chart: &str) -> String {
    let here = || group.reports.iter().flat_map(|report| &report.latencies).filter(|latency| latency.chart == chart);
    let names = distinct(here().map(|latency| &latency.name));
    let mut entries = Vec::new();
    for (index, report) in group.reports.iter().enumerate() {
        for latency in report.latencies.iter().filter(|latency| latency.chart == chart && latency.count > 0) {
            let kind = names.iter().position(|name| *name == latency.name).unwrap_or(0);
            let line = Line { pen: pen(group, colours, index, kind), points: latency.curve.clone() };
            entries.push(Entry { report: index, title: title(group, index, &latency.title), line });
        }
    }
    if entries.is_empty() {
        return String::new();
    }
    let count = here().map(|latency| latency.count).max().unwrap_or(0);
    let lines: Vec<_> = entries.iter().map(|entry| entry.line.clone()).collect();
    let cumulative = labelled(&plot::cumulative(&lines), &format!("{chart}: cumulative distribution"));
    let tail = labelled(&plot::tail(&lines, count), &format!("{chart}: tail"));
    let svg = format!("<div class=\"pair\">{cumulative}{tail}</div>");
    let note = "first how many were at most so late, then the same magnified towards 100 %";
    figure(chart, note, &legend(&entries), &svg)
}

/// A single run has a colour for each kind of line; several have one for each label and a dash for each kind.
fn pen(group: &Group<'_>, colours: &Colours, report: usize, kind: usize) -> Pen {
    match group.reports.len() {
        1 => Pen { colour: kind, dash: kind / plot::PALETTE.len() },
        _ => Pen { colour: colours.of(&group.reports[report].label), dash: kind },
    }
}

/// What the legend calls a line; with several runs, whose it is comes first.
fn title(group: &Group<'_>, report: usize, title: &str) -> String {
    match group.reports.len() {
        1 => title.into(),
        _ => format!("{}: {title}", group.name(report)),
    }
}

/// Whether time is counted from the phase that the scenario is about.
///
/// Brokers take different times to accept the clients, which is no part of what the plots compare.
fn is_aligned(group: &Group<'_>) -> bool {
    group.reports.len() > 1 && group.reports.iter().all(|report| main_phase(report).is_some())
}

/// The moment of `report` from which the plots of `group` count.
fn origin_s(group: &Group<'_>, report: &Report) -> f64 {
    main_phase(report).filter(|_| is_aligned(group)).map_or(0.0, |phase| phase.from_s)
}

/// The phase that the scenario is about: it has its name.
fn main_phase(report: &Report) -> Option<&Phase> {
    report.phases.iter().find(|phase| phase.name == report.scenario)
}

/// The phases of the first run; those of the others would only cover them.
fn bands(group: &Group<'_>) -> Vec<Band> {
    let first = group.reports[0];
    let origin = origin_s(group, first);
    let band = |phase: &Phase| Band {
        name: phase.name.clone(),
        from_s: phase.from_s - origin,
        to_s: phase.to_s - origin,
        main: phase.name == first.scenario,
    };
    let phases = first.phases.iter().filter(|phase| phase.from_s.is_finite() && phase.to_s.is_finite());
    phases.map(band).collect()
}

fn figure(title: &str, note: &str, legend: &str, body: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!("<small>{}</small>", escape(note)) };
    let title = escape(title);
    format!("<figure><figcaption><h3>{title}</h3>{note}{legend}</figcaption>{body}</figure>\n")
}

/// What each line is; lines of different runs go on lines of their own where there are many.
fn legend(entries: &[Entry]) -> String {
    const TOGETHER_MAX: usize = 6;
    let same_row = |one: &Entry, next: &Entry| entries.len() <= TOGETHER_MAX || one.report == next.report;
    let item = |entry: &Entry| format!("<li>{}{}</li>", sample(entry.line.pen), escape(&entry.title));
    let row = |row: &[Entry]| format!("<ul class=\"legend\">{}</ul>", row.iter().map(item).collect::<String>());
    entries.chunk_by(same_row).map(row).collect()
}

/// A short piece of the line that `pen` draws.
fn sample(pen: Pen) -> String {
    let plotters::style::RGBColor(red, green, blue) = plot::PALETTE[pen.colour % plot::PALETTE.len()];
    let (dash, gap) = DASHES[pen.dash % DASHES.len()];
    format!(
        "<svg class=\"sample\" width=\"26\" height=\"8\" viewBox=\"0 0 26 8\" aria-hidden=\"true\"><path d=\"M0 4H26\" \
         stroke=\"#{red:02X}{green:02X}{blue:02X}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash} {gap}\"/></svg>"
    )
}

/// `svg` with a description for those who do not see it.
fn labelled(svg: &str, title: &str) -> String {
    svg.replacen("<svg ", &format!("<svg class=\"plot\" role=\"img\" aria-label=\"{}\" ", escape(title)), 1)
}

/// The different ones of `names`, in their order.
fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut known: Vec<&str> = Vec::new();
    for name in names {
        if !known.contains(&name.as_str()) {
            known.push(name);
        }
    }
    known
}
