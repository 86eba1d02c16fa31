//! The tables of a group of reports, and its most important figures as tiles.

use std::fmt::Write;

use super::charts::Colours;
use super::html::{Group, escape};
use super::plot::PALETTE;
use super::units::{self, quantity};
use super::{Better, Check, Figure, Latency, Report};

/// Why writing cannot fail.
const TEXT: &str = "a string takes every text";

/// How many figures become tiles.
const TILES: usize = 6;

/// The first figures, large; several runs side by side as bars.
pub(super) fn tiles(group: &Group<'_>, colours: &Colours) -> String {
    let mut html = String::from("<div class=\"tiles\">");
    for figure in group.reports[0].figures.iter().take(TILES) {
        let body = match group.reports.len() {
            1 => format!("<b>{}</b>", escape(&quantity(figure.value, &figure.unit))),
            _ => bars(group, colours, figure),
        };
        write!(html, "<div class=\"tile\"><span>{}</span>{body}</div>", escape(&figure.title)).expect(TEXT);
    }
    html + "</div>\n"
}

fn bars(group: &Group<'_>, colours: &Colours, figure: &Figure) -> String {
    let values: Vec<_> = group.reports.iter().map(|report| value_of(report, &figure.name)).collect();
    let greatest = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let best = best(&values, figure.better);
    let mut html = String::from("<ul class=\"bars\">");
    for (index, value) in values.into_iter().enumerate() {
        let share = value.filter(|value| greatest > 0.0 && value.is_finite()).map_or(0.0, |value| value / greatest);
        let colour = colours.of(&group.reports[index].label) % PALETTE.len();
        let class = if best == Some(index) { " class=\"best\"" } else { "" };
        write!(
            html,
            "<li{class}><span>{}</span><b>{}</b><i class=\"c{colour}\" style=\"width:{:.1}%\"></i></li>",
            escape(&group.name(index)),
            escape(&shown(value, &figure.unit)),
            share.max(0.0) * 100.0,
        )
        .expect(TEXT);
    }
    html + "</ul>"
}

/// Which of `values` is the best, if one of them is.
fn best(values: &[Option<f64>], better: Option<Better>) -> Option<usize> {
    let known = || values.iter().enumerate().filter_map(|(index, value)| Some((index, (*value)?)));
    let finite = || known().filter(|(_, value)| value.is_finite());
    let found = match better? {
        Better::Lower => finite().min_by(|a, b| a.1.total_cmp(&b.1)),
        Better::Higher => finite().max_by(|a, b| a.1.total_cmp(&b.1)),
    }?;
    (finite().filter(|(_, value)| *value == found.1).count() == 1).then_some(found.0)
}

fn value_of(report: &Report, name: &str) -> Option<f64> {
    report.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
}

fn shown(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| units::NOTHING.into(), |value| quantity(value, unit))
}

/// What was checked, a column for each run.
pub(super) fn checks(group: &Group<'_>) -> String {
    let mut rows = String::new();
    for check in first_of_each(group, |report| &report.checks, |check| &check.name) {
        let cells: String = group.reports.iter().map(|report| check_cell(report, &check.name)).collect();
        write!(rows, "<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(&check.title)).expect(TEXT);
    }
    table("Checks", &head(group, "Violations of", "Count"), &rows)
}

fn check_cell(report: &Report, name: &str) -> String {
    let Some(check) = report.checks.iter().find(|check| check.name == name) else {
        return format!("<td>{}</td>", units::NOTHING);
    };
    let (class, mark) = verdict(check);
    let examples: String = check.examples.iter().map(|example| format!("<li>{}</li>", escape(example))).collect();
    let examples = match check.examples.is_empty() {
        true => String::new(),
        false => format!("<details><summary>examples</summary><ul>{examples}</ul></details>"),
    };
    format!("<td><span class=\"{class}\">{} {mark}</span>{examples}</td>", units::number(check.count as f64))
}

/// The class and the mark of a check.
fn verdict(check: &Check) -> (&'static str, &'static str) {
    match (check.count, check.permitted) {
        (0, _) => ("good", "✓"),
        (_, true) => ("fair", "permitted"),
        (_, false) => ("bad", "✗"),
    }
}

/// Every figure; with several runs, a column for each, and its ratio to the first.
pub(super) fn figures(group: &Group<'_>) -> String {
    let mut rows = String::new();
    for figure in first_of_each(group, |report| &report.figures, |figure| &figure.name) {
        let values: Vec<_> = group.reports.iter().map(|report| value_of(report, &figure.name)).collect();
        let best = best(&values, figure.better).filter(|_| values.len() > 1);
        write!(rows, "<tr><th scope=\"row\">{}{}</th>", escape(&figure.title), direction(figure.better)).expect(TEXT);
        for (index, value) in values.iter().enumerate() {
            let class = if best == Some(index) { " class=\"best\"" } else { "" };
            let ratio = if index == 0 { String::new() } else { ratio(*value, values[0]) };
            write!(rows, "<td{class}>{}{ratio}</td>", escape(&shown(*value, &figure.unit))).expect(TEXT);
        }
        rows.push_str("</tr>");
    }
    table("Figures", &head(group, "", "Value"), &rows)
}

fn direction(better: Option<Better>) -> &'static str {
    match better {
        Some(Better::Lower) => " <small title=\"lower is better\">↓</small>",
        Some(Better::Higher) => " <small title=\"higher is better\">↑</small>",
        None => "",
    }
}

/// How many times `first` the value is, if that says anything.
fn ratio(value: Option<f64>, first: Option<f64>) -> String {
    let ratio = value.zip(first).map(|(value, first)| value / first).filter(|ratio| ratio.is_finite());
    ratio.map_or_else(String::new, |ratio| format!(" <small>×{}</small>", units::number(ratio)))
}

/// Every latency of every run.
pub(super) fn latencies(group: &Group<'_>) -> String {
    let mut rows = String::new();
    for latency in first_of_each(group, |report| &report.latencies, |latency| &latency.name) {
        for (index, report) in group.reports.iter().enumerate() {
            let Some(own) = report.latencies.iter().find(|own| own.name == latency.name) else { continue };
            let run = if group.reports.len() > 1 {
                format!("<td>{}</td>", escape(&group.name(index)))
            } else {
                String::new()
            };
            write!(rows, "<tr><th scope=\"row\">{}</th>{run}{}</tr>", escape(&own.title), times(own)).expect(TEXT);
        }
    }
    let run = if group.reports.len() > 1 { "<th>Run</th>" } else { "" };
    let head = format!(
        "<th></th>{run}<th>Count</th><th>Min</th><th>Mean</th><th>50 %</th><th>90 %</th><th>99 %</th><th>99.9 %</th>\
         <th>Max</th>"
    );
    table("Latencies", &head, &rows)
}

fn times(latency: &Latency) -> String {
    let count = format!("<td>{}</td>", units::number(latency.count as f64));
    let times = [
        latency.min_us,
        latency.mean_us,
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
    ];
    times.into_iter().fold(count, |cells, value| {
        let text = if latency.count == 0 { units::NOTHING.into() } else { units::time(value) };
        cells + &format!("<td>{text}</td>")
    })
}

/// The heads of a table with one column for each run.
fn head(group: &Group<'_>, first: &str, single: &str) -> String {
    let columns: String = match group.reports.len() {
        1 => format!("<th>{single}</th>"),
        count => (0..count).map(|index| format!("<th>{}</th>", escape(&group.name(index)))).collect(),
    };
    format!("<th>{first}</th>{columns}")
}

/// A table, or nothing if it has no rows.
fn table(title: &str, head: &str, rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<section class=\"table\"><h3>{title}</h3><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\
         </section>\n"
    )
}

/// What any of the reports has of something, without repetition of a name.
fn first_of_each<'a, T>(
    group: &Group<'a>,
    of: impl Fn(&'a Report) -> &'a Vec<T>,
    name: impl Fn(&T) -> &String,
) -> Vec<&'a T> {
    let mut found: Vec<&T> = Vec::new();
    for item in group.reports.iter().flat_map(|report| of(report)) {
        if !found.iter().any(|known| name(known) == name(item)) {
            found.push(item);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_only_one_in_its_direction() {
        let values = [Some(3.0), None, Some(f64::NAN), Some(1.0)];
        assert_eq!(best(&values, Some(Better::Lower)), Some(3));
        assert_eq!(best(&values, Some(Better::Higher)), Some(0));
        assert_eq!(best(&values, None), None);
        assert_eq!(best(&[Some(2.0), Some(2.0)], Some(Better::Lower)), None);
    }

    #[test]
    fn ratios_without_meaning_are_left_out() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), " <small>×1.50</small>");
        for (value, first) in [(Some(1.0), Some(0.0)), (None, Some(1.0)), (Some(f64::NAN), Some(1.0))] {
            assert_eq!(ratio(value, first), "");
        }
    }
}
