//! Times of day, as people and programs read them.

use std::time::Duration;

use crate::timer::{Moment, TimeOfDay};

/// A moment in RFC 3339: UTC, with milliseconds.
pub(super) fn text(moment: Moment) -> String {
    TimeOfDay(moment).to_string()
}

/// A duration in seconds, with milliseconds.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_milliseconds() {
        assert_eq!(seconds(Duration::from_micros(1_234_567)), 1.235);
    }
}
