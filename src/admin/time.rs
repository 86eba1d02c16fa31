//! Times of day, as people and programs read them.

use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_millis;

use crate::timer::Moment;

/// The last moment that RFC 3339 has a form for: the end of the year 9999.
const END_OF_TIMES: u64 = 253_402_300_799_000_000;

/// A moment in RFC 3339: UTC, with milliseconds.
pub(super) fn text(moment: Moment) -> String {
    let micros = moment.as_micros().min(END_OF_TIMES);
    format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(micros)).to_string()
}

/// A duration in seconds, with milliseconds.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_has_a_text() {
        assert_eq!(text(Moment::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(Moment::from_micros(1_700_000_000_123_456)), "2023-11-14T22:13:20.123Z");
        assert_eq!(text(Moment::from_micros(u64::MAX)), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn seconds_have_milliseconds() {
        assert_eq!(seconds(Duration::from_micros(1_234_567)), 1.235);
    }
}
