//! `willowmq run`, and `willowmq` alone: the broker itself.

use willowmq::net::{self, logging};

use super::settings::{self, File, Overrides};
use super::{Failure, Outcome, SUCCESS};

/// How to run.
#[derive(clap::Args, Default)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) overrides: Overrides,
}

/// Runs the broker until a signal ends it. A reload loads the settings once more.
pub(super) fn run(file: File, overrides: Overrides) -> Outcome {
    let text = settings::text_of(&file)?;
    let config = settings::from_text(&file, &text, overrides.clone())?;
    let was_empty = is_empty(&text);
    let log = logging::begin(&config.log).map_err(Failure::usage)?;
    logging::abort_on_panic();
    let load_again = move || {
        let text = settings::text_of(&file)?;
        // A program that writes a file in place empties it first. By the defaults, all listeners of before would close for that moment.
        if is_empty(&text) && !was_empty {
            return Err(Failure::usage("the configuration file is empty: is it being written?".to_owned()));
        }
        settings::from_text(&file, &text, overrides.clone())
    };
    let source = Box::new(move || load_again().map_err(|failure| failure.said));
    net::run(config, source, log.control()).map_err(|error| Failure::new(error.to_string(), error.exit_code()))?;
    Ok(SUCCESS)
}

fn is_empty(text: &str) -> bool {
    text.trim().is_empty()
}
