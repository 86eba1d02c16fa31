//! What the tests of several files need.

use super::{ComparedBroker, ComparedScenario, Comparison, Run, SCHEMA};
use crate::report::{Machine, Report, Series};

/// A report with one figure and one curve.
pub(super) fn report(value: f64) -> Report {
    let mut report = Report::new("publish", "label".into());
    report.lower("cpu", "CPU", value, "µs");
    let [name, title, chart, unit] = ["curve", "curve", "curve", "s"].map(String::from);
    report.series.push(Series { name, title, chart, unit, points: vec![(0.0, 1.0)] });
    report
}

/// A comparison of the brokers a and b, a being the baseline, in one scenario with `runs`: two to a round.
pub(super) fn comparison(runs: &[(&str, Option<Report>)]) -> Comparison {
    let broker =
        |name: &str| ComparedBroker { name: name.into(), command: vec!["sh".into()], arguments: vec![], version: None };
    let run = |(index, (broker, report)): (usize, &(&str, Option<Report>))| Run {
        broker: (*broker).into(),
        round: index as u32 / 2 + 1,
        report: report.clone(),
        error: report.is_none().then(|| "no luck\nat all".into()),
        is_skipped: false,
    };
    let mut comparison = Comparison {
        schema: SCHEMA.into(),
        generator_version: String::new(),
        started_unix_s: 0,
        duration_s: 1.0,
        machine: Machine::default(),
        rounds: runs.len().div_ceil(2) as u32,
        is_interrupted: false,
        baseline: "a".into(),
        brokers: vec![broker("a"), broker("b")],
        scenarios: vec![ComparedScenario {
            name: "s".into(),
            arguments: vec!["publish".into()],
            headlines: Vec::new(),
            figures: Vec::new(),
            runs: runs.iter().enumerate().map(run).collect(),
        }],
    };
    comparison.summarize();
    comparison
}
