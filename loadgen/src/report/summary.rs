//! The summary at the terminal.

use std::io::{self, Write};

use super::units::{self, quantity};
use super::{Check, Latency, Report};

/// Writes what a person wants to know first, as plain text.
///
/// # Errors
///
/// Those of `out`.
pub fn print_summary(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let verdict = if report.passed { "PASSED" } else { "FAILED" };
    let heading = format!("{} · {} · {}", report.scenario, report.label, units::time(report.duration_s * 1e6));
    writeln!(out, "\n{heading} · {verdict}\n{}", "═".repeat(heading.chars().count() + 3 + verdict.len()))?;
    print_checks(out, &report.checks)?;
    print_figures(out, report)?;
    print_latencies(out, &report.latencies)?;
    print_warnings(out, &report.warnings)
}

fn print_checks(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    if checks.is_empty() {
        return Ok(());
    }
    let rows = checks.iter().map(|check| vec![check.title.clone(), units::number(check.count as f64)]).collect();
    writeln!(out, "\nChecks")?;
    for (check, line) in checks.iter().zip(aligned(rows)) {
        let verdict = match (check.count, check.permitted) {
            (0, _) => "ok",
            (_, true) => "permitted",
            (_, false) => "FAILED",
        };
        writeln!(out, "  {line}  {verdict}")?;
        for example in &check.examples {
            writeln!(out, "      {example}")?;
        }
    }
    Ok(())
}

fn print_figures(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if report.figures.is_empty() {
        return Ok(());
    }
    let row = |figure: &super::Figure| vec![figure.title.clone(), quantity(figure.value, &figure.unit)];
    writeln!(out, "\nFigures")?;
    print_rows(out, report.figures.iter().map(row).collect())
}

fn print_latencies(out: &mut impl Write, latencies: &[Latency]) -> io::Result<()> {
    if latencies.is_empty() {
        return Ok(());
    }
    let head = ["Latencies", "count", "min", "50 %", "90 %", "99 %", "99.9 %", "max"];
    let rows = std::iter::once(head.map(String::from).to_vec()).chain(latencies.iter().map(latency_row));
    writeln!(out)?;
    aligned(rows.collect()).iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn latency_row(latency: &Latency) -> Vec<String> {
    let times = [latency.min_us, latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
    let time = |value| if latency.count == 0 { units::NOTHING.into() } else { units::time(value) };
    let first = [format!("  {}", latency.title), units::number(latency.count as f64)];
    first.into_iter().chain(times.map(time)).collect()
}

fn print_warnings(out: &mut impl Write, warnings: &[String]) -> io::Result<()> {
    if !warnings.is_empty() {
        writeln!(out, "\nWarnings")?;
    }
    warnings.iter().try_for_each(|warning| writeln!(out, "  ! {warning}"))
}

fn print_rows(out: &mut impl Write, rows: Vec<Vec<String>>) -> io::Result<()> {
    aligned(rows).iter().try_for_each(|line| writeln!(out, "  {line}"))
}

/// `rows` as lines: the first column to the left, the others to the right.
fn aligned(rows: Vec<Vec<String>>) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>()
    };
    rows.iter().map(line).collect()
}
