//! The comparison as a table that is plain text and Markdown at once, with notes below it.

use super::results::{ComparedFigure, ComparedScenario, Comparison, Run, Spread};
use crate::report::{Better, number, quantity};

/// What stands for a value that there is not.
const NOTHING: &str = "—";

/// The table and its notes.
pub(super) fn text(comparison: &Comparison) -> String {
    let mut text = heading(comparison);
    text.push_str(&aligned(&rows(comparison)));
    let notes = notes(comparison);
    if !notes.is_empty() {
        text.push('\n');
        notes.iter().for_each(|note| text.push_str(&format!("- {}\n", note.replace('\n', "\n  "))));
    }
    text
}

fn heading(comparison: &Comparison) -> String {
    let machine = &comparison.machine;
    let versions = comparison.brokers.iter().map(|broker| match &broker.version {
        Some(version) => format!("{}: {version}", broker.name),
        None => broker.name.clone(),
    });
    format!(
        "{}. Median (min–max) of {} round{}; × is the ratio to {}. {}, {} cores, Linux {}.\n\n",
        versions.collect::<Vec<_>>().join("; "),
        comparison.rounds,
        if comparison.rounds == 1 { "" } else { "s" },
        comparison.baseline,
        machine.processor,
        machine.cores,
        machine.kernel
    )
}

fn rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let brokers = comparison.brokers.iter().map(|broker| broker.name.clone());
    let mut rows = vec![["Scenario", "Figure"].into_iter().map(String::from).chain(brokers).collect::<Vec<_>>()];
    for scenario in &comparison.scenarios {
        let from = rows.len();
        rows.extend(scenario.headlines.iter().map(|name| figure_row(comparison, scenario, name)));
        rows.extend(checks_row(comparison, scenario));
        if rows.len() == from {
            let cells = comparison.brokers.iter().map(|_| NOTHING.into());
            rows.push([String::new(), NOTHING.into()].into_iter().chain(cells).collect());
        }
        rows[from][0].clone_from(&scenario.name);
    }
    rows
}

fn figure_row(comparison: &Comparison, scenario: &ComparedScenario, name: &str) -> Vec<String> {
    let figure = scenario.figures.iter().find(|figure| figure.name == name);
    let title = figure.map_or_else(|| name.to_owned(), |figure| format!("{}{}", figure.title, direction(figure)));
    let cells = comparison.brokers.iter().enumerate().map(|(index, broker)| match figure {
        Some(figure) => cell(comparison, figure, &figure.spreads[index], broker.name == comparison.baseline),
        None => NOTHING.into(),
    });
    [String::new(), title].into_iter().chain(cells).collect()
}

fn direction(figure: &ComparedFigure) -> &'static str {
    match figure.better {
        Some(Better::Lower) => " ↓",
        Some(Better::Higher) => " ↑",
        None => "",
    }
}

fn cell(comparison: &Comparison, figure: &ComparedFigure, spread: &Spread, is_baseline: bool) -> String {
    let (Some(median), Some(min), Some(max)) = (spread.median, spread.min, spread.max) else { return NOTHING.into() };
    let mut text = quantity(median, &figure.unit);
    if spread.count > 1 {
        text += &format!(" ({})", range(&text, [min, max].map(|value| quantity(value, &figure.unit))));
    }
    if spread.count < comparison.rounds {
        text += &format!(", {} of {}", spread.count, comparison.rounds);
    }
    match spread.ratio {
        _ if is_baseline => text,
        Some(ratio) if (0.1..100.0).contains(&ratio) => format!("{text} ×{ratio:.2}"),
        Some(ratio) => format!("{text} ×{}", number(ratio)),
        None => format!("{text} ×{NOTHING}"),
    }
}

/// From the least to the greatest value; the unit is left out if it is that of `median`.
fn range(median: &str, [min, max]: [String; 2]) -> String {
    let unit = median.rfind(' ').map_or("", |from| &median[from..]);
    match min.strip_suffix(unit).zip(max.strip_suffix(unit)) {
        Some((min, max)) => format!("{min}–{max}"),
        None => format!("{min}–{max}"),
    }
}

/// Which checks failed, if any did.
fn checks_row(comparison: &Comparison, scenario: &ComparedScenario) -> Option<Vec<String>> {
    let cells: Vec<_> = comparison.brokers.iter().map(|broker| failed_checks(scenario, &broker.name)).collect();
    let is_empty = cells.iter().all(String::is_empty);
    let cells = cells.into_iter().map(|cell| if cell.is_empty() { NOTHING.into() } else { cell });
    (!is_empty).then(|| [String::new(), "FAILED checks".into()].into_iter().chain(cells).collect())
}

/// The checks that `broker` failed in any round, without repetition.
fn failed_checks(scenario: &ComparedScenario, broker: &str) -> String {
    let runs = scenario.runs.iter().filter(|run| run.broker == broker);
    let mut titles: Vec<_> = runs.flat_map(failures).map(|(title, _)| title).collect();
    let mut known = Vec::new();
    titles.retain(|title| {
        let is_new = !known.contains(title);
        known.push(*title);
        is_new
    });
    titles.join(", ")
}

/// Title and count of every check that `run` failed.
fn failures(run: &Run) -> impl Iterator<Item = (&str, u64)> {
    let checks = run.report.iter().flat_map(|report| &report.checks);
    checks.filter(|check| check.count > 0 && !check.permitted).map(|check| (check.title.as_str(), check.count))
}

/// What went wrong, run by run, and what makes the figures doubtful.
fn notes(comparison: &Comparison) -> Vec<String> {
    let mut notes = Vec::new();
    if comparison.is_interrupted {
        notes.push("The comparison was interrupted: not everything was run.".into());
    }
    for (scenario, run) in comparison.runs() {
        let who = format!("{}, {}, round {}", scenario.name, run.broker, run.round);
        let error = run.error.iter().filter(|_| !run.is_skipped); // It was told with the run that failed.
        notes.extend(error.map(|error| format!("{who}: could not run: {error}")));
        notes.extend(failures(run).map(|(title, count)| format!("{who}: FAILED: {title}: {count}")));
    }
    for scenario in &comparison.scenarios {
        notes.extend(unknown_figures(scenario));
        for broker in &comparison.brokers {
            let warnings = scenario.middle_report(&broker.name).map_or(&[][..], |report| &report.warnings);
            notes.extend(warnings.iter().map(|warning| format!("{}, {}: {warning}", scenario.name, broker.name)));
        }
    }
    notes
}

/// Headlines that no report has, though there are reports.
fn unknown_figures(scenario: &ComparedScenario) -> impl Iterator<Item = String> {
    let has = |name: &str| scenario.figures.is_empty() || scenario.figures.iter().any(|figure| figure.name == name);
    let unknown = scenario.headlines.iter().filter(move |name| !has(name));
    unknown.map(|name| format!("{}: no run has a figure {name}", scenario.name))
}

/// `rows` as a table whose columns are as wide as they must be; the first row is its head.
fn aligned(rows: &[Vec<String>]) -> String {
    // A bar would end a cell.
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|cell| cell.replace('|', "/")).collect()).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule: String = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect();
    let mut lines = rows.iter().map(line);
    let head = lines.next().unwrap_or_default();
    format!("{head}|{rule}\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{comparison, report};
    use super::*;
    use crate::report::Check;

    /// The table of `comparison` without what is above it.
    fn table(comparison: &Comparison) -> Vec<String> {
        text(comparison).lines().skip(2).map(String::from).collect()
    }

    #[test]
    fn medians_spreads_and_ratios_are_shown() {
        let values = [("a", 3.0), ("b", 8.0), ("a", 5.0), ("b", 8.5), ("a", 4.0), ("b", 7.0)];
        let comparison = comparison(&values.map(|(broker, value)| (broker, Some(report(value)))));
        let expected = [
            "| Scenario | Figure | a          | b                   |",
            "|----------|--------|------------|---------------------|",
            "| s        | CPU ↓  | 4 µs (3–5) | 8 µs (7–8.50) ×2.00 |",
        ];
        assert_eq!(table(&comparison), expected);
    }

    #[test]
    fn a_range_over_several_units_names_them() {
        assert_eq!(range("1 ms", ["900 µs".into(), "2 ms".into()]), "900 µs–2 ms");
        assert_eq!(range("7", ["5".into(), "9".into()]), "5–9");
    }

    #[test]
    fn what_is_missing_or_failed_is_named() {
        let mut bad = report(2.0);
        bad.check(Check {
            name: "lost".into(),
            title: "messages lost".into(),
            count: 7,
            permitted: false,
            examples: vec![],
        });
        let comparison =
            comparison(&[("a", Some(report(1.0))), ("b", Some(bad)), ("a", None), ("b", Some(report(2.0)))]);
        let lines = table(&comparison).join("\n");
        assert!(lines.contains("1 µs, 1 of 2"), "{lines}");
        assert!(lines.contains("FAILED checks | —"), "{lines}");
        assert!(lines.contains("| messages lost"), "{lines}");
        assert!(lines.contains("- s, b, round 1: FAILED: messages lost: 7"), "{lines}");
        assert!(lines.contains("- s, a, round 2: could not run: no luck\n  at all"), "{lines}");
    }

    #[test]
    fn a_scenario_that_never_ran_has_a_row() {
        let lines = table(&comparison(&[("a", None), ("b", None)]));
        assert!(lines[2].starts_with("| s        | —"), "{lines:#?}");
    }

    #[test]
    fn a_figure_that_nobody_has_is_told() {
        let mut comparison = comparison(&[("a", Some(report(1.0)))]);
        comparison.scenarios[0].headlines = vec!["speed".into()];
        assert!(text(&comparison).contains("- s: no run has a figure speed"));
    }
}
