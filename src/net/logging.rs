//! Where log lines go, and what becomes of a panic.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Sends log lines to standard error, in the format and from the level that `log` asks for.
///
/// # Errors
/// A sentence about `log.level` when it cannot be understood.
pub fn begin(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| format!("log.level = {:?}: {error}", log.level))?;
    let has_colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(has_colours);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| format!("cannot begin the log: {error}"))
}

/// Makes every panic end the process, after it is logged.
///
/// A panic is a broken invariant of ours. The other shards would wait for the one that is gone, and clients with them; a process that
/// has ended is started again.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!("thread {:?}: {panic}\n{backtrace}", thread.name().unwrap_or("unnamed"));
        std::process::abort();
    }));
}
