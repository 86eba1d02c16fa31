//! What is shown while a run goes on: on a terminal only, and on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::Time;

/// Redrawing more often than this would cost the measurement more than it tells.
const REFRESH_HZ: u8 = 5;
/// How often the bar learns of the state.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// The progress of one phase.
pub struct Progress {
    bar: ProgressBar,
    next: Time,
}

impl Progress {
    /// Progress that is shown if standard error is a terminal and `is_quiet` is not asked for.
    pub fn new(is_quiet: bool) -> Self {
        let is_shown = !is_quiet && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let target =
            if is_shown { ProgressDrawTarget::stderr_with_hz(REFRESH_HZ) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{prefix:>12} {wide_bar:.cyan/dim} {pos}/{len} {msg}");
        bar.set_style(style.expect("the template is a constant").progress_chars("━━─"));
        Self { bar, next: Time::default() }
    }

    /// Begins a phase of `length` steps.
    pub fn phase(&mut self, name: &str, length: u64) {
        self.bar.reset();
        self.bar.set_length(length);
        self.bar.set_position(0);
        self.bar.set_message("");
        self.bar.set_prefix(name.to_owned());
        self.next = Time::default();
    }

    /// Shows how far the phase is, once in a while.
    pub fn at(&mut self, now: Time, position: u64, message: impl FnOnce() -> String) {
        if now < self.next || self.bar.is_hidden() {
            return;
        }
        self.next = now + UPDATE_INTERVAL;
        self.bar.set_position(position);
        self.bar.set_message(message());
    }

    /// Whether nobody sees it.
    pub fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
