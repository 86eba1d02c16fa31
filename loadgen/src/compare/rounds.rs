//! The runs of a comparison, one after the other: every broker takes its turn in each scenario, so that whatever
//! changes on the machine meanwhile meets all of them.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::broker::{self, Broker};
use super::interrupt::Interrupt;
use super::plan::{Plan, ScenarioPlan};
use super::process_group::{GRACE, ProcessGroup};
use super::results::Run;
use crate::report::{Report, quantity};

/// What carries out the runs.
pub(super) struct Rounds<'a> {
    pub(super) plan: &'a Plan,
    pub(super) count: u32,
    /// The load generator: this program, which is started anew for each run.
    pub(super) generator: PathBuf,
    pub(super) interrupt: Interrupt,
    pub(super) is_quiet: bool,
    /// Where the generator runs.
    pub(super) cpus: &'a [u16],
}

/// One run that is to take place; indices into the plan, and the round from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    round: u32,
    scenario: usize,
    broker: usize,
}

impl Rounds<'_> {
    /// Runs everything, and hands each run and the index of its scenario to `on_run`; ends early on an interrupt.
    pub(super) fn run(&self, mut on_run: impl FnMut(usize, Run)) {
        let turns = turns(self.count, self.plan.scenarios.len(), self.plan.brokers.len());
        // Why each broker did not start, once it did not: to wait for it again would be in vain.
        let mut failed_starts = vec![None::<String>; self.plan.brokers.len()];
        for (index, turn) in turns.iter().enumerate() {
            let scenario = &self.plan.scenarios[turn.scenario];
            let broker = &self.plan.brokers[turn.broker];
            if let Some(error) = failed_starts[turn.broker].clone() {
                let (broker, round) = (broker.name.clone(), turn.round);
                on_run(turn.scenario, Run { broker, round, report: None, error: Some(error), is_skipped: true });
                continue;
            }
            self.say(&format!("[{}/{}] {} · {} … ", index + 1, turns.len(), scenario.name, broker.name));
            let begin = Instant::now();
            let started = Broker::start(broker, broker::START, &self.interrupt);
            let has_more = turns[index + 1..].iter().any(|later| later.broker == turn.broker);
            let suffix = if has_more { "\n(Its other runs were left out.)" } else { "" };
            failed_starts[turn.broker] = started.as_ref().err().map(|error| format!("{error:#}{suffix}"));
            let found = started.and_then(|started| self.measure(started, &broker.name, scenario));
            if self.interrupt.is_set() {
                return self.say("interrupted\n");
            }
            self.say(&format!("{} · {:.1} s\n", verdict(&found, scenario), begin.elapsed().as_secs_f64()));
            let (report, error) = match found {
                Ok(report) => (Some(report), None),
                Err(error) => (None, Some(failed_starts[turn.broker].clone().unwrap_or_else(|| format!("{error:#}")))),
            };
            let (broker, round) = (broker.name.clone(), turn.round);
            on_run(turn.scenario, Run { broker, round, report, error, is_skipped: false });
        }
    }

    /// Runs `scenario` against a broker started for it, which has ended when this returns.
    fn measure(&self, mut broker: Broker, name: &str, scenario: &ScenarioPlan) -> Result<Report> {
        let found = self.generate(&broker, name, scenario);
        match broker.obituary() {
            // Results of a broker that did not survive them are none.
            Some(obituary) => match found {
                Ok(_) => bail!(obituary),
                Err(error) => bail!("{error:#}; {obituary}"),
            },
            None => found,
        }
    }

    fn generate(&self, broker: &Broker, label: &str, scenario: &ScenarioPlan) -> Result<Report> {
        let [json, output] = ["report.json", "generator"].map(|name| broker.path(name));
        let mut command = Command::new(&self.generator);
        command
            .args([format!("--broker={}", broker.address()), format!("--pid={}", broker.pid())])
            .args(["--quiet".into(), format!("--label={label}"), format!("--json={}", json.display())])
            .args(self.cpus.iter().map(|cpu| format!("--cpu={cpu}")))
            .args(&scenario.args)
            .args(broker.args())
            .stdout(Stdio::null())
            .stderr(File::create(&output)?);
        let mut group =
            ProcessGroup::start(&mut command).with_context(|| format!("cannot start {}", self.generator.display()))?;
        group.wait_until(|| self.interrupt.is_set());
        let status = group.stop(GRACE)?;
        // 1 says that checks failed, which is a result.
        ensure!(matches!(status.code(), Some(0 | 1)), "the generator ended ({status}): {}", complaint(&output));
        let text = fs::read(&json).context("the generator wrote no results")?;
        serde_json::from_slice(&text).context("the generator's results cannot be read")
    }

    /// Shows progress, if there is someone to see it.
    fn say(&self, text: &str) {
        if !self.is_quiet && std::io::stderr().is_terminal() {
            eprint!("{text}");
        }
    }
}

/// What the generator wrote before it gave up.
fn complaint(output: &std::path::Path) -> String {
    let text = broker::tail(output);
    text.trim_start_matches("willowmq-loadgen: ").to_owned()
}

/// A run in a few words.
fn verdict(found: &Result<Report>, scenario: &ScenarioPlan) -> String {
    match found {
        Err(error) => format!("could not run: {}", format!("{error:#}").lines().next().unwrap_or_default()),
        Ok(report) => {
            let wanted = scenario.figures.iter().flatten().next();
            let figure = report.figures.iter().find(|figure| wanted.is_none_or(|wanted| figure.name == *wanted));
            let figure = figure.map(|figure| format!("{} {}", figure.title, quantity(figure.value, &figure.unit)));
            let verdict = if report.passed { "" } else { "checks FAILED · " };
            format!("{verdict}{}", figure.unwrap_or_default())
        }
    }
}

/// All runs in their order. In each scenario, who comes first changes from round to round, and within a round from
/// scenario to scenario.
fn turns(rounds: u32, scenarios: usize, brokers: usize) -> Vec<Turn> {
    let mut turns = Vec::new();
    for round in 1..=rounds {
        for scenario in 0..scenarios {
            let first = round as usize - 1 + scenario;
            turns.extend((0..brokers).map(|place| Turn { round, scenario, broker: (first + place) % brokers }));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_take_turns_in_being_first() {
        let order: Vec<_> = turns(2, 2, 3).into_iter().map(|turn| (turn.round, turn.scenario, turn.broker)).collect();
        let round_1 = [(1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 1), (1, 1, 2), (1, 1, 0)];
        let round_2 = [(2, 0, 1), (2, 0, 2), (2, 0, 0), (2, 1, 2), (2, 1, 0), (2, 1, 1)];
        assert_eq!(order, [round_1, round_2].concat());
    }

    #[test]
    fn a_broker_that_cannot_run_does_not_stop_the_others() {
        let text = "[[broker]]\nname = 'a'\ncommand = ['sh', '-c', 'exit 3']\n\
                    [[broker]]\nname = 'b'\ncommand = ['sh', '-c', 'exit 4']\n\
                    [[scenario]]\nname = 's'\nargs = ['publish']";
        let plan: Plan = text.parse().unwrap();
        let (generator, interrupt) = ("false".into(), Interrupt::default());
        let rounds = Rounds { plan: &plan, count: 1, generator, interrupt, is_quiet: true, cpus: &[] };
        let mut errors = Vec::new();
        rounds.run(|_, run| errors.push((run.broker, run.error.unwrap())));
        assert_eq!(errors.iter().map(|(broker, _)| broker.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(errors[1].1.contains("exit status: 4"), "{errors:?}");
    }
}
