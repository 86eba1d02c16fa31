//! What a comparison found out, as it is written down: `--json` is this.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Better, Figure, Machine, Report};

/// The version of the JSON; a change that could break a reader counts up the number.
pub const SCHEMA: &str = "willowmq-loadgen-compare/1";
/// How many figures are tabulated if a plan does not say which.
const HEADLINES: usize = 2;

/// The result of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Names this schema and its version: `willowmq-loadgen-compare/1`.
    pub schema: String,
    /// Version of the load generator.
    pub generator_version: String,
    /// When it began, in seconds since 1970-01-01 UTC.
    pub started_unix_s: u64,
    /// How long it took, in seconds.
    pub duration_s: f64,
    /// Where it ran: brokers and generator on the same machine.
    pub machine: Machine,
    /// How often everything was to be run.
    pub rounds: u32,
    /// Whether it was ended early.
    pub is_interrupted: bool,
    /// The broker that others are measured by.
    pub baseline: String,
    /// The brokers, in the order of the plan.
    pub brokers: Vec<ComparedBroker>,
    /// What each of them was put through.
    pub scenarios: Vec<ComparedScenario>,
}

/// One of the brokers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComparedBroker {
    /// What the plan calls it.
    pub name: String,
    /// How it is started, placeholders and all.
    pub command: Vec<String>,
    /// What the load generator was told beside, in every scenario.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What it says its version is, if the plan has a command that tells.
    pub version: Option<String>,
}

/// What the brokers did in one scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComparedScenario {
    /// What the plan calls it.
    pub name: String,
    /// The command line of the generator, without what all runs have in common.
    pub arguments: Vec<String>,
    /// Names of the figures that the table shows.
    pub headlines: Vec<String>,
    /// Every figure that any run has.
    pub figures: Vec<ComparedFigure>,
    /// Every run, in the order in which they took place.
    pub runs: Vec<Run>,
}

/// One run of a scenario against a broker that was started for it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The name of the broker.
    pub broker: String,
    /// The round, from 1.
    pub round: u32,
    /// What was found. Curves (values over time, and whole distributions) are kept only of the run of each broker that
    /// is in the middle by the first headline.
    pub report: Option<Report>,
    /// Why nothing was found.
    pub error: Option<String>,
    /// Whether it was not even tried, because the broker had not started before.
    #[serde(default)]
    pub is_skipped: bool,
}

/// One figure, for all brokers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComparedFigure {
    /// Its stable name.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// Its unit.
    pub unit: String,
    /// Which direction is an improvement, where one is.
    pub better: Option<Better>,
    /// The values, in the order of the brokers.
    pub spreads: Vec<Spread>,
}

/// The values of one figure for one broker, over the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The name of the broker.
    pub broker: String,
    /// How many values there are.
    pub count: u32,
    /// The one in the middle, or the mean of the two there.
    pub median: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// The median as a multiple of the baseline's; nothing where a check of either failed in this scenario.
    pub ratio: Option<f64>,
}

impl Comparison {
    /// Whether every check of every run passed.
    pub fn passed(&self) -> bool {
        self.runs().all(|(_, run)| run.report.as_ref().is_none_or(|report| report.passed))
    }

    /// The runs that could not take place.
    pub fn missing(&self) -> impl Iterator<Item = (&ComparedScenario, &Run)> {
        self.runs().filter(|(_, run)| run.report.is_none())
    }

    /// Every run with its scenario.
    pub fn runs(&self) -> impl Iterator<Item = (&ComparedScenario, &Run)> {
        self.scenarios.iter().flat_map(|scenario| scenario.runs.iter().map(move |run| (scenario, run)))
    }

    /// Works out the figures of all scenarios from their runs.
    pub(super) fn summarize(&mut self) {
        let brokers: Vec<_> = self.brokers.iter().map(|broker| broker.name.as_str()).collect();
        self.scenarios.iter_mut().for_each(|scenario| scenario.summarize(&brokers, &self.baseline));
    }

    /// Forgets curves, which are most of a report, except for those of the runs in the middle.
    pub(super) fn shorten(&mut self) {
        for scenario in &mut self.scenarios {
            let kept: Vec<_> = self.brokers.iter().filter_map(|broker| scenario.middle(&broker.name)).collect();
            for (index, run) in scenario.runs.iter_mut().enumerate() {
                if let Some(report) = run.report.as_mut().filter(|_| !kept.contains(&index)) {
                    report.series.clear();
                    report.latencies.iter_mut().for_each(|latency| latency.curve.clear());
                }
            }
        }
    }
}

impl ComparedScenario {
    /// The report of the run of `broker` that is in the middle by the first headline.
    pub fn middle_report(&self, broker: &str) -> Option<&Report> {
        self.middle(broker).and_then(|index| self.runs[index].report.as_ref())
    }

    /// The index of that run. Of an even number it is the one with the lower value.
    fn middle(&self, broker: &str) -> Option<usize> {
        let headline = self.headlines.first().map_or("", String::as_str);
        let own = self.runs.iter().enumerate().filter(|(_, run)| run.broker == broker);
        let reports = own.filter_map(|(index, run)| Some((index, run.report.as_ref()?)));
        // A report without the figure takes part, last, so that there is always a run to be shown.
        let value = |report| value(report, headline).unwrap_or(f64::INFINITY);
        let mut runs: Vec<_> = reports.map(|(index, report)| (value(report), index)).collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let finite = runs.iter().filter(|(value, _)| value.is_finite()).count();
        runs.get(finite.saturating_sub(1) / 2).map(|(_, index)| *index)
    }

    fn reports(&self) -> impl Iterator<Item = &Report> {
        self.runs.iter().filter_map(|run| run.report.as_ref())
    }

    fn summarize(&mut self, brokers: &[&str], baseline: &str) {
        if self.headlines.is_empty() {
            let first = self.reports().next().map_or(&[][..], |report| &report.figures);
            self.headlines = first.iter().take(HEADLINES).map(|figure| figure.name.clone()).collect();
        }
        let mut known = Vec::<&Figure>::new();
        for figure in self.reports().flat_map(|report| &report.figures) {
            if !known.iter().any(|known| known.name == figure.name) {
                known.push(figure);
            }
        }
        self.figures = known.into_iter().map(|figure| self.compared(figure, brokers, baseline)).collect();
    }

    fn compared(&self, figure: &Figure, brokers: &[&str], baseline: &str) -> ComparedFigure {
        let Figure { name, title, unit, better, .. } = figure.clone();
        let mut spreads: Vec<_> = brokers.iter().map(|broker| self.spread(&name, broker)).collect();
        let whole = spreads.iter().find(|spread| spread.broker == baseline).and_then(|spread| spread.median);
        let is_sound = !self.has_failed(baseline);
        for spread in spreads.iter_mut().filter(|spread| is_sound && !self.has_failed(&spread.broker)) {
            let ratio = spread.median.zip(whole).map(|(part, whole)| part / whole);
            spread.ratio = ratio.filter(|ratio| ratio.is_finite());
        }
        ComparedFigure { name, title, unit, better, spreads }
    }

    /// Whether a check of `broker` failed in any round.
    fn has_failed(&self, broker: &str) -> bool {
        let mut own = self.runs.iter().filter(|run| run.broker == broker);
        own.any(|run| run.report.as_ref().is_some_and(|report| !report.passed))
    }

    fn spread(&self, figure: &str, broker: &str) -> Spread {
        let own = self.runs.iter().filter(|run| run.broker == broker).filter_map(|run| run.report.as_ref());
        Spread::new(broker, own.filter_map(|report| value(report, figure)).collect())
    }
}

fn value(report: &Report, figure: &str) -> Option<f64> {
    let found = report.figures.iter().find(|own| own.name == figure);
    found.map(|figure| figure.value).filter(|value| value.is_finite())
}

impl Spread {
    fn new(broker: &str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            broker: broker.into(),
            count: values.len() as u32,
            median: median(&values),
            min: values.first().copied(),
            max: values.last().copied(),
            ratio: None,
        }
    }
}

/// The median of `sorted`.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(match sorted.len() % 2 {
        0 => f64::midpoint(sorted[sorted.len() / 2 - 1], upper),
        _ => upper,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{comparison, report};
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(4.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn figures_are_compared_over_the_rounds() {
        let comparison = comparison(&[
            ("a", Some(report(3.0))),
            ("b", Some(report(8.0))),
            ("a", Some(report(5.0))),
            ("b", None),
            ("a", Some(report(4.0))),
            ("b", Some(report(f64::NAN))),
        ]);
        let figure = &comparison.scenarios[0].figures[0];
        let [a, b] = &figure.spreads[..] else { panic!("{figure:?}") };
        assert_eq!((a.count, a.median, a.min, a.max, a.ratio), (3, Some(4.0), Some(3.0), Some(5.0), Some(1.0)));
        assert_eq!((b.count, b.median, b.min, b.max, b.ratio), (1, Some(8.0), Some(8.0), Some(8.0), Some(2.0)));
        assert_eq!(comparison.missing().count(), 1);
        assert!(comparison.passed());
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio() {
        let comparison = comparison(&[("a", None), ("b", Some(report(8.0)))]);
        let spreads = &comparison.scenarios[0].figures[0].spreads;
        assert_eq!((spreads[0].median, spreads[1].ratio), (None, None));
    }

    #[test]
    fn who_failed_a_check_has_no_ratio_and_is_no_measure() {
        let failed = |value| {
            let mut report = report(value);
            report.passed = false;
            Some(report)
        };
        for runs in [[("a", failed(4.0)), ("b", Some(report(8.0)))], [("a", Some(report(4.0))), ("b", failed(8.0))]] {
            let comparison = comparison(&runs);
            let b = &comparison.scenarios[0].figures[0].spreads[1];
            assert_eq!((b.median, b.ratio), (Some(8.0), None));
            assert!(super::super::table::text(&comparison).contains("8 µs ×—"));
        }
    }

    #[test]
    fn only_the_run_in_the_middle_keeps_its_curves() {
        let runs = [5.0, 1.0, 3.0, f64::NAN].map(|value| ("a", Some(report(value))));
        let mut comparison = comparison(&runs);
        comparison.shorten();
        let scenario = &comparison.scenarios[0];
        let kept: Vec<_> = scenario.reports().map(|report| report.series.len()).collect();
        assert_eq!(kept, [0, 0, 1, 0]);
        assert_eq!(scenario.middle_report("a").unwrap().figures[0].value, 3.0);
        assert!(scenario.middle_report("b").is_none());
    }
}
