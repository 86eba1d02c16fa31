//! The `willowmq-loadgen` binary: command line → scenario → results.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use willowmq_loadgen::{compare, options, report, scenario};

/// Exit code when a check failed.
const CHECK_FAILED: u8 = 1;
/// Exit code when the run could not take place.
const CANNOT_RUN: u8 = 2;

/// Loads an MQTT broker, measures how it copes, and checks every delivery.
///
/// Exit code 0: every check passed; 1: something was lost, repeated, early, out of order or altered that must not be; 2: the run could not take place.
#[derive(Parser)]
#[command(version, about, long_about)]
struct Arguments {
    #[command(flatten)]
    common: options::Common,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    Storm(Box<scenario::storm::Storm>),
    Churn(scenario::churn::Churn),
    Connect(scenario::connect::Connect),
    Publish(scenario::publish::Publish),
    Compare(compare::Compare),
    Retained(scenario::retained::Retained),
    Offline(scenario::offline::Offline),
    Soak(scenario::soak::Soak),
    Siege(Box<scenario::siege::Siege>),
    Restart(scenario::restart::Restart),
    /// Print the JSON Schema of what `--json` writes
    Schema,
}

fn main() -> ExitCode {
    let program = options::let_values_be_negative(Arguments::command())
        .mut_subcommand("compare", compare::hide_those_of_single_runs)
        .mut_subcommand("schema", options::hide_common);
    let matches = program.clone().get_matches();
    let Arguments { common, scenario } = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let passed = match scenario {
        Scenario::Storm(storm) => storm.run(&common),
        Scenario::Churn(churn) => churn.run(&common),
        Scenario::Connect(connect) => connect.run(&common),
        Scenario::Publish(publish) => publish.run(&common),
        Scenario::Compare(compare) => compare.run(&common, &program, &matches),
        Scenario::Retained(retained) => retained.run(&common),
        Scenario::Offline(offline) => offline.run(&common),
        Scenario::Soak(soak) => soak.run(&common),
        Scenario::Siege(siege) => siege.run(&common),
        Scenario::Restart(restart) => restart.run(&common),
        Scenario::Schema => print_schema(),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CHECK_FAILED),
        Err(error) => {
            eprintln!("willowmq-loadgen: {error:#}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn print_schema() -> anyhow::Result<bool> {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(report::Report))?;
    text.push('\n');
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        written => Ok(written.map(|()| true)?),
    }
}
