//! Keeps one place in the code from filling the log: what it writes beyond its share is left out, and counted.
//!
//! Each place has a bucket of tokens, one for a line, that is full at first: whatever has not been said for a while is said. That goes for
//! errors, too. Every few seconds a thread of its own tells how many lines were left out, with the first of them as a sample.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::admin::AUDIT;

/// How many seconds' lines a place may write at once.
const BURST: f64 = 10.0;
/// How often it is told what was left out.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Of a line that was left out so much is told, in bytes.
const SAMPLE_BYTES_MAX: usize = 256;

/// A layer that leaves lines out. Copies of it share what they count.
#[derive(Clone)]
pub(super) struct Limiter {
    shared: Arc<Mutex<State>>,
    /// Wakes whoever tells.
    left_out: Sender<()>,
}

struct State {
    /// Tokens that each place gets in a second; zero: everything is written.
    lines_per_second_max: u32,
    places: HashMap<Identifier, Place>,
    /// Something was left out that has not been told yet.
    must_tell: bool,
}

/// One place in the code that writes lines.
struct Place {
    level: Level,
    tokens: f64,
    filled: Instant,
    left_out: u64,
    /// The first line that was left out since it was told the last time.
    sample: Option<String>,
}

impl Limiter {
    /// Lets each place write so many lines a second, and ten times as many at once. What the receiver gets means that there is something to
    /// [tell](Self::tell).
    pub(super) fn new(lines_per_second_max: u32) -> (Self, Receiver<()>) {
        let state = State { lines_per_second_max, places: HashMap::new(), must_tell: false };
        let (left_out, receiver) = channel();
        (Self { shared: Arc::new(Mutex::new(state)), left_out }, receiver)
    }

    pub(super) fn set_lines_per_second_max(&self, lines: u32) {
        self.state().lines_per_second_max = lines;
    }

    /// Tells every few seconds what was left out, where anything was. The thread lives as long as the process.
    ///
    /// # Errors
    /// Where the thread cannot be had.
    pub(super) fn tell_now_and_then(&self, left_out: Receiver<()>) -> std::io::Result<()> {
        let limiter = self.clone();
        let tell = move || {
            while left_out.recv().is_ok() {
                thread::sleep(TELL_EVERY);
                limiter.tell();
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn(tell).map(drop)
    }

    /// Writes how many lines were left out since the last time, for each place.
    pub(super) fn tell(&self) {
        // Written after the lock is released: writing comes back here.
        for (level, left_out, sample) in self.state().take_left_out() {
            match level {
                Level::ERROR => tracing::error!("{left_out} lines like this were left out: {sample}"),
                Level::WARN => tracing::warn!("{left_out} lines like this were left out: {sample}"),
                Level::INFO => tracing::info!("{left_out} lines like this were left out: {sample}"),
                Level::DEBUG => tracing::debug!("{left_out} lines like this were left out: {sample}"),
                Level::TRACE => tracing::trace!("{left_out} lines like this were left out: {sample}"),
            }
        }
    }

    /// Whether a line may be written, by the bucket of its place.
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let place = event.metadata().callsite();
        let wants_sample = match self.state().take_token(place.clone(), *event.metadata().level(), now) {
            Verdict::Written => return true,
            Verdict::LeftOut { wants_sample } => wants_sample,
        };
        if wants_sample {
            // What values look like is their own code, which must not run under the lock.
            let sample = sample_of(event);
            if self.state().note_sample(&place, sample) {
                let _ = self.left_out.send(()); // Nobody listens where the end of the process tells.
            }
        }
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Limiter {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        // What tells of lines that were left out is not left out itself, and neither is who has changed what.
        [module_path!(), AUDIT].contains(&event.metadata().target()) || self.admits(event, Instant::now())
    }
}

enum Verdict {
    Written,
    LeftOut { wants_sample: bool },
}

impl State {
    fn take_token(&mut self, place: Identifier, level: Level, now: Instant) -> Verdict {
        if self.lines_per_second_max == 0 {
            return Verdict::Written;
        }
        let rate = f64::from(self.lines_per_second_max);
        let full = || Place { level, tokens: rate * BURST, filled: now, left_out: 0, sample: None };
        let place = self.places.entry(place).or_insert_with(full);
        let elapsed = now.saturating_duration_since(place.filled).as_secs_f64();
        place.tokens = (place.tokens + elapsed * rate).min(rate * BURST);
        place.filled = now;
        if place.tokens >= 1.0 {
            place.tokens -= 1.0;
            return Verdict::Written;
        }
        place.left_out += 1;
        Verdict::LeftOut { wants_sample: place.sample.is_none() }
    }

    /// Keeps the sample of a place; whether this is the first since all was told.
    fn note_sample(&mut self, place: &Identifier, sample: String) -> bool {
        if let Some(place) = self.places.get_mut(place) {
            place.sample.get_or_insert(sample);
        }
        !std::mem::replace(&mut self.must_tell, true)
    }

    fn take_left_out(&mut self) -> Vec<(Level, u64, String)> {
        self.must_tell = false;
        let places = self.places.values_mut().filter(|place| place.left_out > 0);
        let told = places
            .map(|place| (place.level, std::mem::take(&mut place.left_out), place.sample.take().unwrap_or_default()));
        told.collect()
    }
}

/// The beginning of what a line says.
fn sample_of(event: &Event<'_>) -> String {
    let mut message = MessageOf(String::new());
    event.record(&mut message);
    let MessageOf(mut text) = message;
    if text.len() > SAMPLE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(SAMPLE_BYTES_MAX));
        text.push('…');
    }
    text
}

/// Takes the message of an event, without its other fields.
struct MessageOf(String);

impl Visit for MessageOf {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}"); // Into memory it does not fail.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Lines {
        fn count(&self, what: &str) -> usize {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines().filter(|line| line.contains(what)).count()
        }
    }

    /// Runs `job` with a log that leaves out lines above a rate so low that no token comes back meanwhile.
    fn limited(lines_per_second_max: u32, job: impl FnOnce(&Limiter, &Lines)) {
        let (limiter, _receiver) = Limiter::new(lines_per_second_max);
        let lines = Lines::default();
        let written = tracing_subscriber::fmt::layer().with_writer(lines.clone());
        let subscriber = tracing_subscriber::registry().with(limiter.clone()).with(written);
        tracing::subscriber::with_default(subscriber, || job(&limiter, &lines));
    }

    #[test]
    fn what_is_left_out_is_counted_and_told_with_a_sample() {
        limited(1, |limiter, lines| {
            for number in 0..10_000 {
                tracing::error!(number, "the disk burns: {number}");
            }
            let written = lines.count("the disk burns");
            assert!((10..5_000).contains(&written), "ten at once, and hardly more: {written}");
            limiter.tell();
            let told = format!("{} lines like this were left out: the disk burns: {written}", 10_000 - written);
            assert_eq!(lines.count(&told), 1, "{told}");
            limiter.tell();
            assert_eq!(lines.count("were left out"), 1, "told once");
        });
    }

    #[test]
    fn each_place_has_a_bucket_of_its_own_and_its_first_line_passes() {
        limited(1, |_, lines| {
            for _ in 0..1_000 {
                tracing::info!("noise");
            }
            tracing::error!("something else");
            assert_eq!(lines.count("something else"), 1);
        });
    }

    #[test]
    fn with_zero_everything_is_written() {
        limited(0, |_, lines| {
            for _ in 0..1_000 {
                tracing::info!("noise");
            }
            assert_eq!(lines.count("noise"), 1_000);
        });
    }

    #[test]
    fn a_bucket_fills_with_time_and_not_beyond_its_size() {
        limited(2, |limiter, _| {
            let begin = Instant::now();
            let place = tracing::info_span!("a place").metadata().unwrap().callsite();
            let written_of = |seconds: u64| {
                let mut state = limiter.state();
                let now = begin + Duration::from_secs(seconds);
                let mut take = || matches!(state.take_token(place.clone(), Level::INFO, now), Verdict::Written);
                (0..100).filter(|_| take()).count()
            };
            assert_eq!([written_of(0), written_of(3), written_of(3_000)], [20, 6, 20]);
        });
    }
}
