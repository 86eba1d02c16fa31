//! The log while the broker runs: its level can be changed, and its file opened anew.

use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

use super::file::Reopening;
use super::limit::Limiter;

/// What can be changed of the log while it is written. Copies of it control the same log.
#[derive(Clone)]
pub struct Control {
    level: Arc<Mutex<String>>,
    filter: Handle<EnvFilter, Registry>,
    limiter: Limiter,
    /// `None`: the log does not go to a file.
    reopening: Option<Reopening>,
}

impl Control {
    pub(super) fn new(
        level: &str,
        filter: Handle<EnvFilter, Registry>,
        limiter: Limiter,
        reopening: Option<Reopening>,
    ) -> Self {
        Self { level: Arc::new(Mutex::new(level.to_owned())), filter, limiter, reopening }
    }

    /// The level in force, as in `log.level`.
    pub fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs from another level on: a severity, or directives such as `info,willowmq=debug`.
    ///
    /// # Errors
    /// A sentence when it cannot be understood; then the level stays as it is.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        let filter = super::parse_level(level)?;
        let mut in_force = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(filter).map_err(|error| format!("cannot change the level of the log: {error}"))?;
        level.clone_into(&mut in_force);
        Ok(())
    }

    /// Lets one place in the code write so many lines a second from now on. See `log.lines_per_second_max`.
    pub fn set_lines_per_second_max(&self, lines: u32) {
        self.limiter.set_lines_per_second_max(lines);
    }

    /// Opens the file of the log anew before the next line, so that other programs can move it away. Without meaning for other targets.
    pub fn reopen(&self) {
        if let Some(reopening) = &self.reopening {
            reopening.ask();
        }
    }
}
