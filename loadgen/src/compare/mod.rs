//! `compare`: the same scenarios against several brokers, in turns, and what came out side by side.
//!
//! Each run has a broker of its own, started for it, and a load generator of its own, which is this program in another
//! process. Everything is run several times in interleaved rounds, and medians are compared. A plan in TOML says what
//! is run:
//!
//! ```toml
#![doc = include_str!("example.toml")]
//! ```
//!
//! Without scenarios in the plan, these are run:
//!
//! ```toml
#![doc = include_str!("standard.toml")]
//! ```

mod arguments;
mod broker;
mod interrupt;
mod plan;
mod process_group;
mod ready;
mod results;
mod rounds;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use arguments::hide_those_of_single_runs;
pub use plan::{BrokerPlan, Plan, ScenarioPlan};
pub use results::{ComparedBroker, ComparedFigure, ComparedScenario, Comparison, Run, SCHEMA, Spread};

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Args, Command};

use crate::engine::raise_descriptors;
use crate::options::{self, Common};
use crate::report::{Group, Machine, write_page};
use interrupt::Interrupt;
use rounds::Rounds;

/// How often everything is run if nobody says otherwise: the least number that has a middle.
const ROUNDS: u32 = 3;
/// The end of the long help.
const PLAN_HELP: &str = concat!("A plan, with everything that can be in one:\n\n", include_str!("example.toml"));

/// The same scenarios against several brokers, each started afresh for each run, in interleaved rounds
///
/// Prints the median and the spread of the most important figures, and their ratio to those of one of the brokers, as a table that is Markdown as well.
///
/// Exit code 0: every run took place and every check passed; 1: a check failed; 2: a run could not take place.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = PLAN_HELP)]
pub struct Compare {
    /// A broker and how it is started; {host}, {port}, {address} and {dir} are replaced; can be repeated, and comes after those of the plan
    #[arg(long, value_name = "NAME=COMMAND")]
    pub broker_command: Vec<BrokerPlan>,
    /// Brokers and scenarios from a file in TOML
    #[arg(long, value_name = "FILE.toml")]
    pub plan: Option<PathBuf>,
    /// How often everything is run [default: what the plan says, or else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
    /// Run only this scenario, or those whose names contain this; can be repeated
    #[arg(long, value_name = "SCENARIO")]
    pub only: Vec<String>,
    /// Give this --duration to every scenario that takes one
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    pub duration: Option<Duration>,
    /// The broker that others are measured by [default: mosquitto if there is one, or else the first]
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
}

impl Compare {
    /// Runs it; says whether every check of every run passed. `program` is the command line of this program, and
    /// `matches` what was found on it.
    ///
    /// # Errors
    ///
    /// When the plan makes no sense, or some of the runs could not take place.
    pub fn run(&self, common: &Common, program: &Command, matches: &ArgMatches) -> Result<bool> {
        arguments::refuse_those_of_single_runs(matches)?;
        let plan = self.plan(program)?;
        let baseline = plan.baseline(self.baseline.as_deref())?;
        common.check()?;
        let interrupt = Interrupt::watch()?;
        // Brokers inherit the limit, and a storm takes many connections.
        raise_descriptors()?;
        let rounds = Rounds {
            plan: &plan,
            count: self.rounds.or(plan.rounds).unwrap_or(ROUNDS),
            generator: std::env::current_exe().context("the path of this program")?,
            interrupt,
            is_quiet: common.quiet,
            cpus: &common.cpu,
        };
        let mut comparison = compare(&rounds, baseline)?;
        finish(&mut comparison, common)
    }

    fn plan(&self, program: &Command) -> Result<Plan> {
        let mut plan = self.plan.as_deref().map(Plan::read).transpose()?.unwrap_or_default();
        plan.brokers.extend(self.broker_command.iter().cloned());
        if plan.scenarios.is_empty() {
            plan.scenarios = Plan::standard_scenarios();
        }
        plan.check()?;
        plan.select(&self.only)?;
        for scenario in &mut plan.scenarios {
            arguments::prepare(program, &mut scenario.args, self.duration)
                .with_context(|| format!("scenario {}", scenario.name))?;
        }
        plan.brokers.iter().try_for_each(|broker| check_args(program, broker, &plan.scenarios))?;
        Ok(plan)
    }
}

/// Checks what goes with `broker`, by itself and with each of the `scenarios`.
fn check_args(program: &Command, broker: &BrokerPlan, scenarios: &[ScenarioPlan]) -> Result<()> {
    let context = || format!("args of broker {}", broker.name);
    arguments::of_broker(&broker.args, SocketAddr::from(([127, 0, 0, 1], 0))).with_context(context)?;
    scenarios.iter().try_for_each(|scenario| {
        let mut both = [&scenario.args[..], &broker.args].concat();
        arguments::prepare(program, &mut both, None).with_context(|| format!("{} in {}", context(), scenario.name))
    })
}

fn compare(rounds: &Rounds<'_>, baseline: &str) -> Result<Comparison> {
    let begin = Instant::now();
    let mut comparison = empty(rounds, baseline)?;
    rounds.run(|scenario, run| comparison.scenarios[scenario].runs.push(run));
    comparison.is_interrupted = rounds.interrupt.is_set();
    comparison.duration_s = begin.elapsed().as_secs_f64();
    comparison.summarize();
    Ok(comparison)
}

/// A comparison without runs.
fn empty(rounds: &Rounds<'_>, baseline: &str) -> Result<Comparison> {
    let compared_broker = |broker: &BrokerPlan| {
        let version = broker.version_command.as_deref().map(broker::version).transpose();
        let version = version.with_context(|| format!("version_command of {}", broker.name))?;
        let [command, arguments] = [&broker.command, &broker.args].map(Vec::clone);
        Ok(ComparedBroker { name: broker.name.clone(), command, arguments, version })
    };
    let compared_scenario = |scenario: &ScenarioPlan| ComparedScenario {
        name: scenario.name.clone(),
        arguments: scenario.args.clone(),
        headlines: scenario.figures.clone().unwrap_or_default(),
        figures: Vec::new(),
        runs: Vec::new(),
    };
    Ok(Comparison {
        schema: SCHEMA.into(),
        generator_version: env!("CARGO_PKG_VERSION").into(),
        started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()),
        duration_s: 0.0,
        machine: Machine::read(),
        rounds: rounds.count,
        is_interrupted: false,
        baseline: baseline.into(),
        brokers: rounds.plan.brokers.iter().map(compared_broker).collect::<Result<_>>()?,
        scenarios: rounds.plan.scenarios.iter().map(compared_scenario).collect(),
    })
}

/// Writes the results to where the command line wants them; says whether every check passed.
fn finish(comparison: &mut Comparison, common: &Common) -> Result<bool> {
    let is_json_on_stdout = common.json.as_deref() == Some(Path::new("-"));
    // First of all, what cannot fail for want of a directory: the rest may have taken hours.
    if !common.quiet {
        let text = table::text(comparison);
        match is_json_on_stdout {
            true => std::io::stderr().lock().write_all(text.as_bytes()),
            false => std::io::stdout().lock().write_all(text.as_bytes()),
        }?;
    }
    let page = common.report.as_deref().map(|path| page(path, comparison));
    if let Some(path) = &common.json {
        comparison.shorten();
        write_json(path, comparison)?;
    }
    page.transpose()?;
    if comparison.is_interrupted {
        bail!("interrupted");
    }
    let missing = comparison.missing().count();
    if let Some((scenario, run)) = comparison.missing().next() {
        let error = run.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let (runs, scenario, broker) = (comparison.runs().count(), &scenario.name, &run.broker);
        bail!("{missing} of {runs} runs could not take place; the first: {scenario}, {broker}{error}");
    }
    Ok(comparison.passed())
}

fn write_json(path: &Path, comparison: &Comparison) -> Result<()> {
    let mut text = serde_json::to_string_pretty(comparison)?;
    text.push('\n');
    if path == Path::new("-") {
        std::io::stdout().lock().write_all(text.as_bytes()).context("standard output")
    } else {
        std::fs::write(path, text).with_context(|| format!("--json {}", path.display()))
    }
}

/// A page with a group for each scenario, and in it the run in the middle of each broker; the baseline comes first, as
/// the page's ratios are to the first.
fn page(path: &Path, comparison: &Comparison) -> Result<()> {
    let mut names: Vec<_> = comparison.brokers.iter().map(|broker| broker.name.as_str()).collect();
    names.sort_by_key(|name| *name != comparison.baseline);
    let groups: Vec<_> = comparison
        .scenarios
        .iter()
        .map(|scenario| Group {
            title: scenario.name.clone(),
            reports: names.iter().filter_map(|name| scenario.middle_report(name)).collect(),
        })
        .collect();
    write_page(path, &names.join(" · "), &groups).with_context(|| format!("--report {}", path.display()))
}
