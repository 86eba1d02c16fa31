//! The report as one HTML page that needs nothing but itself.

use std::io;
use std::path::Path;

use super::charts::{Colours, charts};
use super::{Report, tables, units};

/// Runs to be shown together, their curves in the same plots.
pub struct Group<'a> {
    /// The heading: what the runs have in common.
    pub title: String,
    /// The runs; a single one gets a page of its own colours. A group without runs is left out.
    pub reports: Vec<&'a Report>,
}

impl Group<'_> {
    /// What the run is called: its label, numbered if others have the same.
    pub(super) fn name(&self, report: usize) -> String {
        let label = &self.reports[report].label;
        match self.reports[..report].iter().filter(|earlier| earlier.label == *label).count() {
            0 => label.clone(),
            earlier => format!("{label} ({})", earlier + 1),
        }
    }
}

/// Writes the page `title` with `groups` to the file `path`.
///
/// # Errors
///
/// Those of writing the file.
pub fn write_page(path: &Path, title: &str, groups: &[Group<'_>]) -> io::Result<()> {
    std::fs::write(path, page(title, groups))
}

/// The page `title` with `groups`.
pub(super) fn page(title: &str, groups: &[Group<'_>]) -> String {
    const STYLE: &str = include_str!("page.css");
    let colours = Colours::new(groups);
    let filled = || groups.iter().enumerate().filter(|(_, group)| !group.reports.is_empty());
    let contents: String = match filled().count() {
        0 | 1 => String::new(),
        _ => filled().map(|(index, group)| format!("<a href=\"#g{index}\">{}</a>", escape(&group.title))).collect(),
    };
    let contents = if contents.is_empty() { contents } else { format!("<nav>{contents}</nav>") };
    let sections: String = filled().map(|(index, group)| section(index, group, &colours)).collect();
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style></head>\n\
         <body><main>\n<header><h1>{title}</h1>{contents}</header>\n{sections}</main></body></html>\n"
    )
}

fn section(index: usize, group: &Group<'_>, colours: &Colours) -> String {
    let heading = format!("<h2>{}</h2>{}", escape(&group.title), badges(group));
    // Narrow tables go side by side.
    let layout = if group.reports.len() == 1 { "pair" } else { "stack" };
    let body = [
        warnings(group),
        tables::tiles(group, colours),
        charts(group, colours),
        format!("<div class=\"{layout}\">{}{}</div>\n", tables::checks(group), tables::figures(group)),
        tables::latencies(group),
        origins(group),
    ];
    format!(
        "<section class=\"group\" id=\"g{index}\"><div class=\"heading\">{heading}</div>\n{}</section>\n",
        body.concat()
    )
}

/// Whether each run passed.
fn badges(group: &Group<'_>) -> String {
    let badge = |(index, report): (usize, &&Report)| {
        let (class, word) = if report.passed { ("passed", "PASSED") } else { ("failed", "FAILED") };
        let name = if group.reports.len() > 1 { escape(&group.name(index)) + " " } else { String::new() };
        format!("<span class=\"badge {class}\">{name}<b>{word}</b>{}</span>", escape(&failures(report)))
    };
    format!("<div class=\"badges\">{}</div>", group.reports.iter().enumerate().map(badge).collect::<String>())
}

/// The checks that failed, and how often.
fn failures(report: &Report) -> String {
    let failed = report.checks.iter().filter(|check| check.count > 0 && !check.permitted);
    let told: Vec<_> = failed.map(|check| format!("{} {}", units::number(check.count as f64), check.title)).collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}

/// What makes the figures doubtful stands above them.
fn warnings(group: &Group<'_>) -> String {
    let mut items = String::new();
    for (index, report) in group.reports.iter().enumerate() {
        let run =
            if group.reports.len() > 1 { format!("<b>{}</b>: ", escape(&group.name(index))) } else { String::new() };
        items.extend(report.warnings.iter().map(|warning| format!("<li>{run}{}</li>", escape(warning))));
    }
    if items.is_empty() { items } else { format!("<ul class=\"warnings\">{items}</ul>\n") }
}

/// Where and how each run was made.
fn origins(group: &Group<'_>) -> String {
    let origin = |(index, report): (usize, &&Report)| {
        let machine = &report.machine;
        format!(
            "<p><b>{}</b>: {} in {}, {}; {}, {} cores, {}, Linux {}; load generator {}<br><code>{}</code></p>",
            escape(&group.name(index)),
            escape(&report.scenario),
            units::time(report.duration_s * 1e6),
            units::date(report.started_unix_s),
            escape(&machine.processor),
            machine.cores,
            units::quantity(machine.memory_bytes as f64, "B"),
            escape(&machine.kernel),
            escape(&report.generator_version),
            escape(&report.arguments.join(" ")),
        )
    };
    format!("<footer>{}</footer>\n", group.reports.iter().enumerate().map(origin).collect::<String>())
}

/// `text` with nothing in it that HTML would take for its own, in text as in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("<a href='x'>\"&amp;\"</a>"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;amp;&quot;&lt;/a&gt;");
    }
}
