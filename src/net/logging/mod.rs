//! Where log lines go, and what becomes of a panic.
//!
//! A line passes two layers: the level in force, and the share of the place in the code that writes it. What is left is written by
//! a thread of its own, to standard error, a file or systemd's journal.

mod control;
mod file;
mod journald;
mod limit;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::suggest::nearest;
use crate::config::{Log, LogFormat, LogTarget};
use crate::timer::Moment;
pub use control::Control;
use file::{LogFile, Reopening};
use journald::{Entries, Journald};
use limit::Limiter;

/// Severities, as `log.level` names them.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// How long a panic waits for its line to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The log, until this is dropped: then what is left of it is written.
pub struct Logging {
    control: Control,
    limiter: Limiter,
    _writer: WorkerGuard,
}

impl Logging {
    /// What can be changed of it while it is written.
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.limiter.tell(); // The writer ends after this, and writes it.
    }
}

/// Sends log lines to where `log` says, in its format and from its level on.
///
/// The lines are written by a thread of their own. Where their target takes none, lines are lost above a bound: whoever stops
/// reading the log must not stop the broker. A file that cannot be written, or a journal that is not there, is replaced by standard error.
///
/// # Errors
/// A sentence about `log.level` when it cannot be understood, or about the threads where there are none.
pub fn begin(log: &Log) -> Result<Logging, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot begin the log: {error}");
    let (filter, handle) = reload::Layer::new(level(log)?);
    let (limiter, left_out) = Limiter::new(log.lines_per_second_max);
    let (target, writer, reopening) = target(log);
    let layers = tracing_subscriber::registry().with(filter).with(limiter.clone()).with(target);
    layers.try_init().map_err(|error| cannot(&error))?;
    limiter.tell_now_and_then(left_out).map_err(|error| cannot(&error))?;
    let control = Control::new(&log.level, handle, limiter.clone(), reopening);
    Ok(Logging { control, limiter, _writer: writer })
}

type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Limited = tracing_subscriber::layer::Layered<Limiter, Filtered>;
type Target = Box<dyn Layer<Limited> + Send + Sync>;

/// What writes lines, and the thread behind it.
fn target(log: &Log) -> (Target, WorkerGuard, Option<Reopening>) {
    match log.target {
        LogTarget::Stderr => stderr(log),
        LogTarget::File => {
            let reopening = Reopening::default();
            let (writer, guard) = beside(LogFile::open(log, reopening.clone(), io::stderr()));
            (lines(log, writer, false), guard, Some(reopening))
        }
        LogTarget::Journald => match Entries::connect(journald::SOCKET) {
            Ok(entries) => {
                let (writer, guard) = beside(entries);
                (Box::new(Journald::new(writer)), guard, None)
            }
            Err(error) => {
                eprintln!("willowmq: cannot reach journald at {}: {error}; its lines go here", journald::SOCKET);
                stderr(log)
            }
        },
    }
}

fn stderr(log: &Log) -> (Target, WorkerGuard, Option<Reopening>) {
    let (writer, guard) = beside(io::stderr());
    (lines(log, writer, io::stderr().is_terminal()), guard, None)
}

/// A thread that writes, and loses lines where it cannot keep up.
fn beside(target: impl io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).thread_name("log writer").finish(target)
}

fn lines<S: Subscriber + for<'a> LookupSpan<'a>>(
    log: &Log,
    writer: NonBlocking,
    has_colours: bool,
) -> Box<dyn Layer<S> + Send + Sync> {
    let layer = fmt::layer().with_writer(writer).with_ansi(has_colours);
    match log.format {
        LogFormat::Text => Box::new(layer),
        LogFormat::Json => Box::new(layer.json()),
    }
}

/// Checks `log.level`: a severity, or directives such as `info,willowmq=debug`.
///
/// # Errors
/// A sentence about it when it cannot be understood.
pub fn level(log: &Log) -> Result<EnvFilter, String> {
    parse_level(&log.level).map_err(|reason| format!("log.level = {:?}: {reason}", log.level))
}

fn parse_level(level: &str) -> Result<EnvFilter, String> {
    level.split(',').try_for_each(|directive| check(directive.trim()))?;
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    // rustls warns of what any stranger can send as often as it likes. We say how handshakes end ourselves, and seldom.
    Ok(match level.contains("rustls") {
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

/// The same for lines of several kinds, so that a flood of one leaves room for the others.
#[derive(Default)]
pub(crate) struct SeldomByKind(Vec<(&'static str, Seldom)>);

impl SeldomByKind {
    /// Whether a line of this kind may be written now. Kinds are words of ours, so there are few of them.
    pub(crate) fn is_time(&mut self, now: Moment, kind: &'static str) -> bool {
        let known = self.0.iter().position(|(known, _)| *known == kind);
        let at = known.unwrap_or_else(|| {
            self.0.push((kind, Seldom::default()));
            self.0.len() - 1
        });
        self.0[at].1.is_time(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_leaves_room_for_another() {
        let (mut complaints, begin) = (SeldomByKind::default(), Moment::ZERO);
        assert!(complaints.is_time(begin, "guesses"));
        assert!(!complaints.is_time(begin, "guesses"));
        assert!(complaints.is_time(begin, "tls"));
        assert!(!complaints.is_time(begin + Seldom::EVERY / 2, "tls"));
        assert!(complaints.is_time(begin + Seldom::EVERY, "guesses"));
    }

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

    #[test]
    fn the_level_can_be_changed_and_one_that_is_wrong_changes_nothing() {
        let (filter, handle) = reload::Layer::new(parse_level("info").unwrap());
        let (limiter, _left_out) = Limiter::new(0);
        let control = Control::new("info", handle, limiter, None);
        let subscriber = tracing_subscriber::registry().with(filter);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            control.set_level("debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            let error = control.set_level("inof").unwrap_err();
            assert!(error.contains("did you mean info?"), "{error}");
            assert_eq!(control.level(), "debug");
            assert!(tracing::enabled!(tracing::Level::DEBUG));
        });
    }
}
