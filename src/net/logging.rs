//! Where log lines go, and what becomes of a panic.

use std::io::IsTerminal;
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::suggest::nearest;
use crate::config::{Log, LogFormat};
use crate::timer::Moment;

/// Severities, as `log.level` names them.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// How long a panic waits for its line to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Sends log lines to standard error, in the format and from the level that `log` asks for.
///
/// The lines are written by a thread of their own. Where standard error takes none, lines are lost above a bound: whoever stops
/// reading the log must not stop the broker. What is left is written when the guard is dropped.
///
/// # Errors
/// A sentence about `log.level` when it cannot be understood.
pub fn begin(log: &Log) -> Result<WorkerGuard, String> {
    let filter = level(log)?;
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(std::io::stderr());
    let has_colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(has_colours);
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| format!("cannot begin the log: {error}"))?;
    Ok(guard)
}

/// Checks `log.level`: a severity, or directives such as `info,willowmq=debug`.
///
/// # Errors
/// A sentence about it when it cannot be understood.
pub fn level(log: &Log) -> Result<EnvFilter, String> {
    let wrong = |reason: String| format!("log.level = {:?}: {reason}", log.level);
    log.level.split(',').try_for_each(|directive| check(directive.trim())).map_err(wrong)?;
    let filter = EnvFilter::try_new(&log.level).map_err(|error| wrong(error.to_string()))?;
    // rustls warns of what any stranger can send as often as it likes. We say how handshakes end ourselves, and seldom.
    Ok(match log.level.contains("rustls") {
        true => filter,
        false => filter.add_directive("rustls=error".parse().expect("a target and a level")),
    })
}

/// A filter takes a word that is no severity for the name of a module, of which it logs everything, and of all others nothing: a typing
/// error would silence the broker.
fn check(directive: &str) -> Result<(), String> {
    if directive.contains('=') || !directive.is_empty() && directive.parse::<LevelFilter>().is_ok() {
        return Ok(());
    }
    let hint = match nearest(directive, LEVELS) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("there are {}", LEVELS.join(", ")),
    };
    Err(format!("{directive:?} is no severity; {hint}"))
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
        std::thread::sleep(LAST_WORDS); // The log's thread writes meanwhile; a log that is stuck does not keep us.
        std::process::abort();
    }));
}

/// Keeps a line that many connections could cause from filling the log.
#[derive(Default)]
pub(crate) struct Seldom(Option<Moment>);

impl Seldom {
    /// Between two such lines. What is left out is in the counters.
    const EVERY: Duration = Duration::from_secs(10);

    /// Whether the line may be written now.
    pub(crate) fn is_time(&mut self, now: Moment) -> bool {
        let is_time = self.0.is_none_or(|then| now.duration_since(then) >= Self::EVERY);
        if is_time {
            self.0 = Some(now);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(level_of_log: &str) -> Result<(), String> {
        level(&Log { level: level_of_log.into(), ..Log::default() }).map(drop)
    }

    #[test]
    fn a_word_that_is_no_severity_is_refused_with_what_was_meant() {
        for (word, meant) in [
            ("inof", "did you mean info?"),
            ("warning", "did you mean warn?"),
            ("willowmq=debug,inof", "did you mean info?"),
            ("willowmq", "there are error, warn, info, debug, trace, off"),
            ("", "is no severity"),
            ("info,", "is no severity"),
        ] {
            let error = of(word).unwrap_err();
            assert!(error.starts_with(&format!("log.level = {word:?}: ")) && error.contains(meant), "{error}");
        }
        assert!(of("willowmq=inof").is_err());
    }

    #[test]
    fn severities_and_directives_are_taken() {
        for right in ["info", "WARN", "off", "3", "info,willowmq=debug", "warn,willowmq::net=trace"] {
            assert_eq!(of(right), Ok(()), "{right}");
        }
    }
}
