//! `willowmq run`, and `willowmq` alone: the broker itself.

use willowmq::config::Config;
use willowmq::net::{self, logging};

use super::settings::Overrides;
use super::{Failure, Outcome, SUCCESS};

/// How to run.
#[derive(clap::Args, Default)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

/// Runs the broker until a signal ends it. A reload loads the settings once more.
pub(super) fn run(load: impl Fn() -> Result<Config, Failure> + Send + 'static) -> Outcome {
    let config = load()?;
    let log = logging::begin(&config.log).map_err(Failure::usage)?;
    logging::abort_on_panic();
    let source = Box::new(move || load().map_err(|failure| failure.said));
    net::run(config, source, log.control()).map_err(|error| Failure::new(error.to_string(), error.exit_code()))?;
    Ok(SUCCESS)
}
