//! `willowmq config` and `--print-config`: the settings as text.

use willowmq::config::{Config, reference};
use willowmq::net::logging;

use super::settings::Overrides;
use super::{Failure, Outcome, print};

/// What to print.
#[derive(clap::Args)]
pub(super) struct Options {
    /// All settings in Markdown: default, allowed values, environment variable and meaning
    #[arg(long, conflicts_with = "sample")]
    reference: bool,
    /// A file to begin with: every setting with its meaning, and with marks before all that is as it is by default
    #[arg(long)]
    sample: bool,
    #[command(flatten)]
    overrides: Overrides,
}

impl Options {
    /// Prints it; `load` gives the settings in force.
    pub(super) fn run(self, load: impl FnOnce(Overrides) -> Result<Config, Failure>) -> Outcome {
        if self.reference {
            return print(&reference());
        }
        if self.sample {
            return print(&load(self.overrides)?.to_sample());
        }
        print_effective(&load(self.overrides)?)
    }
}

/// Prints the settings in force.
pub(super) fn print_effective(config: &Config) -> Outcome {
    logging::level(&config.log).map_err(Failure::usage)?;
    print(&config.to_toml())
}
