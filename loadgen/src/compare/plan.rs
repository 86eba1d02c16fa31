//! What is to be compared, and with what: the plan, from a file and from the command line.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::words::words;

/// The broker that others are measured by, if nobody says otherwise and one has this name.
const USUAL_BASELINE: &str = "mosquitto";

/// What is to be compared, and with what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How often everything is run.
    pub rounds: Option<u32>,
    /// The brokers.
    #[serde(default, rename = "broker")]
    pub brokers: Vec<BrokerPlan>,
    /// What each of them is put through.
    #[serde(default, rename = "scenario")]
    pub scenarios: Vec<ScenarioPlan>,
}

/// How a broker is started.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerPlan {
    /// What it is called in tables and plots.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables beside those that are inherited.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Contents of files in the directory of the run, by their name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What this program has to say to it, whatever the scenario: a transport, or a User Name.
    #[serde(default)]
    pub args: Vec<String>,
    /// What prints the version.
    pub version_command: Option<Vec<String>>,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioPlan {
    /// What it is called in tables and plots.
    pub name: String,
    /// The command line of this program, without what all runs have in common.
    pub args: Vec<String>,
    /// Names of the figures that the table shows; the first two if nothing is said.
    pub figures: Option<Vec<String>>,
}

/// A broker on the command line: `NAME=COMMAND`.
impl FromStr for BrokerPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
        let command = words(command).ok_or("a quote is not closed")?;
        let [env, files] = [BTreeMap::new(), BTreeMap::new()];
        let args = Vec::new();
        Ok(Self { name: name.trim().to_owned(), command, env, files, args, version_command: None })
    }
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }
}

impl Plan {
    /// Reads the file `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no plan.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("--plan {}", path.display()))?;
        text.parse().with_context(|| format!("--plan {}", path.display()))
    }

    /// The scenarios that are run when a plan names none.
    ///
    /// # Panics
    ///
    /// Never: it is a constant.
    pub fn standard_scenarios() -> Vec<ScenarioPlan> {
        let standard: Self = include_str!("standard.toml").parse().expect("the standard suite is a constant");
        standard.scenarios
    }

    /// Leaves only those scenarios that one of `names` names: in full, or else by a part of it.
    ///
    /// # Errors
    ///
    /// When one of the names matches nothing.
    pub fn select(&mut self, names: &[String]) -> Result<()> {
        let mut is_chosen = vec![names.is_empty(); self.scenarios.len()];
        for name in names {
            let is_exact = self.scenarios.iter().any(|scenario| scenario.name == *name);
            let is_named = |scenario: &ScenarioPlan| match is_exact {
                true => scenario.name == *name,
                false => scenario.name.contains(name.as_str()),
            };
            if !self.scenarios.iter().any(is_named) {
                let known: Vec<_> = self.scenarios.iter().map(|scenario| format!("  {}", scenario.name)).collect();
                bail!("--only {name}: no scenario is called that. There are:\n{}", known.join("\n"));
            }
            for (is_chosen, scenario) in is_chosen.iter_mut().zip(&self.scenarios) {
                *is_chosen |= is_named(scenario);
            }
        }
        let mut is_chosen = is_chosen.into_iter();
        self.scenarios.retain(|_| is_chosen.next() == Some(true));
        Ok(())
    }

    /// Which broker the others are measured by: `wanted`, or else the usual one, or else the first.
    ///
    /// # Errors
    ///
    /// When there is no broker `wanted`.
    pub fn baseline(&self, wanted: Option<&str>) -> Result<&str> {
        let find = |name: &str| self.brokers.iter().find(|broker| broker.name == name);
        let found = match wanted {
            Some(name) => Some(find(name).with_context(|| format!("--baseline {name}: no broker is called that"))?),
            None => find(USUAL_BASELINE).or(self.brokers.first()),
        };
        found.map(|broker| broker.name.as_str()).context("there is no broker")
    }

    /// Looks for what would stop the comparison half-way.
    ///
    /// # Errors
    ///
    /// The first mistake found.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.brokers.is_empty(), "there is no broker: name some with --broker-command or in a --plan");
        ensure!(self.rounds != Some(0), "rounds: at least one");
        check_names("broker", self.brokers.iter().map(|broker| broker.name.as_str()))?;
        check_names("scenario", self.scenarios.iter().map(|scenario| scenario.name.as_str()))?;
        self.brokers.iter().try_for_each(|broker| broker.check().with_context(|| format!("broker {}", broker.name)))
    }
}

impl BrokerPlan {
    fn check(&self) -> Result<()> {
        check_command("command", &self.command)?;
        if let Some(command) = &self.version_command {
            check_command("version_command", command)?;
        }
        match self.files.keys().find(|name| !is_file_name(name)) {
            Some(name) => bail!("files: {name:?} is not the plain name of a file"),
            None => Ok(()),
        }
    }
}

fn is_file_name(text: &str) -> bool {
    Path::new(text).file_name().is_some_and(|name| name == text)
}

fn check_names<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut known = Vec::new();
    for name in names {
        ensure!(!name.trim().is_empty(), "a {kind} has no name");
        ensure!(!known.contains(&name), "two {kind}s are called {name}");
        known.push(name);
    }
    Ok(())
}

fn check_command(key: &str, command: &[String]) -> Result<()> {
    let program = command.first().filter(|program| !program.is_empty());
    let program = program.with_context(|| format!("{key} is empty"))?;
    // What a placeholder stands for does not exist yet.
    ensure!(program.contains('{') || is_program(program), "{key}: {program} is not a program that can be started");
    Ok(())
}

/// Whether `program` can be found the way it will be when it is started.
fn is_program(program: &str) -> bool {
    let is_executable = |path: PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    match program.contains('/') {
        true => is_executable(program.into()),
        false => std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|directory| is_executable(directory.join(program)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        text.parse().unwrap()
    }

    fn mistake(text: &str) -> String {
        format!("{:#}", text.parse::<Plan>().and_then(|plan| plan.check()).unwrap_err())
    }

    #[test]
    fn the_example_says_all_that_can_be_said() {
        let plan = plan(include_str!("example.toml"));
        assert_eq!((plan.rounds, plan.brokers.len(), plan.scenarios.len()), (Some(3), 2, 2));
        let mosquitto = &plan.brokers[1];
        assert!(mosquitto.files["mosquitto.conf"].contains("listener {port} {host}"));
        assert_eq!(mosquitto.args, ["--username", "load"]);
        assert!(mosquitto.version_command.is_some() && mosquitto.env["TZ"] == "UTC");
        assert_eq!(plan.scenarios[0].figures.as_ref().unwrap().len(), 2);
    }

    #[test]
    fn the_standard_suite_is_a_plan_without_brokers() {
        let scenarios = Plan::standard_scenarios();
        assert!(scenarios.len() >= 10);
        assert!(check_names("scenario", scenarios.iter().map(|scenario| scenario.name.as_str())).is_ok());
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let broker = "[[broker]]\nname = 'a'\ncommand = ['sh']\n";
        for (text, expected) in [
            ("", "no broker"),
            ("round = 3", "unknown field `round`"),
            ("[[broker]]\nname = 'a'\ncommand = ['sh']\nport = 1", "unknown field `port`"),
            ("[[broker]]\nname = 'a'", "missing field `command`"),
            ("[[broker]]\nname = 'a'\ncommand = []", "broker a: command is empty"),
            ("[[broker]]\nname = ' '\ncommand = ['sh']", "a broker has no name"),
            ("[[broker]]\nname = 'a'\ncommand = ['no-such-broker']", "no-such-broker is not a program"),
            ("[[broker]]\nname = 'a'\ncommand = ['/']", "/ is not a program"),
            (&format!("{broker}files = {{ '../x' = '' }}"), "plain name of a file"),
            (&format!("{broker}version_command = ['no-such-broker']"), "version_command: no-such-broker"),
            (&format!("{broker}{broker}"), "two brokers are called a"),
            (&format!("rounds = 0\n{broker}"), "at least one"),
        ] {
            assert!(mistake(text).contains(expected), "{text}: {}", mistake(text));
        }
        assert!(plan(broker).check().is_ok());
    }

    #[test]
    fn a_broker_on_the_command_line_is_a_name_and_a_command() {
        let broker: BrokerPlan = "a=sh -c 'x=1; exec b'".parse().unwrap();
        assert_eq!((broker.name.as_str(), broker.command.len()), ("a", 3));
        assert!("sh".parse::<BrokerPlan>().is_err() && "a='".parse::<BrokerPlan>().is_err());
    }

    #[test]
    fn scenarios_are_chosen_by_name_or_by_a_part_of_it() {
        let text = ["pairs", "pairs, QoS 1", "storm"].map(|name| format!("[[scenario]]\nname = '{name}'\nargs = []\n"));
        let chosen = |names: &[&str]| {
            let mut plan = plan(&text.concat());
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            plan.select(&names).map(|()| plan.scenarios.into_iter().map(|scenario| scenario.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap().len(), 3);
        assert_eq!(chosen(&["pairs"]).unwrap(), ["pairs"]);
        assert_eq!(chosen(&["QoS", "storm"]).unwrap(), ["pairs, QoS 1", "storm"]);
        assert!(chosen(&["churn"]).unwrap_err().to_string().contains("  storm"));
    }

    #[test]
    fn the_baseline_is_the_one_wanted_or_the_usual_one_or_the_first() {
        let text = ["a", "b"].map(|name| format!("[[broker]]\nname = '{name}'\ncommand = ['sh']\n")).concat();
        assert_eq!(plan(&text).baseline(None).unwrap(), "a");
        assert_eq!(plan(&text).baseline(Some("b")).unwrap(), "b");
        assert!(plan(&text).baseline(Some("c")).is_err());
        let with_usual = format!("{text}[[broker]]\nname = 'mosquitto'\ncommand = ['sh']\n");
        assert_eq!(plan(&with_usual).baseline(None).unwrap(), "mosquitto");
    }
}
