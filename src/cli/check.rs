//! `willowmq check` and `--check-config`: what the start would find wrong with the settings and the files that they name.

use willowmq::config::Config;
use willowmq::net::{self, logging};

use super::settings::Overrides;
use super::{Failure, Outcome, SUCCESS, print, say};

/// What to check.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

/// Says all that is wrong on standard error; the exit code is that of the first.
pub(super) fn run(config: &Config) -> Outcome {
    logging::level(&config.log).map_err(Failure::usage)?;
    let errors = net::check(config);
    for error in &errors {
        say(&error.to_string());
    }
    Ok(errors.first().map_or(SUCCESS, net::StartError::exit_code))
}

/// The same, and says so where nothing is wrong.
pub(super) fn run_and_say(config: &Config) -> Outcome {
    let code = run(config)?;
    if code == SUCCESS { print("nothing is wrong\n") } else { Ok(code) }
}
