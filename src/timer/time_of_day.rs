//! Moments as people and other programs write them.

use std::fmt;

use super::Moment;

/// Writes a moment as RFC 3339 has it, in UTC and with milliseconds, cut off.
///
/// This holds where the epoch is that of the wall clock, 1970: so it is in the broker, and a simulation begins there. The form ends with the year
/// 9999, and what comes later is shown as its last second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(pub Moment);

/// The last second of the year 9999.
const LAST: Moment = Moment::from_micros(253_402_300_799_000_000);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.min(LAST).as_micros() / 1000;
        let seconds = millis / 1000;
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
    }
}

/// Year, month and day of a day that is counted from 1970 on, in the Gregorian calendar.
///
/// Years are taken to begin in March, so that the day that some have more is their last, and to come in eras of 400, after which all
/// repeats.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_FROM_YEAR_ZERO: u64 = 719_468;
    const ERA: u64 = 146_097;
    let day = day + DAYS_FROM_YEAR_ZERO;
    let (era, of_era) = (day / ERA, day % ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_a_time_of_day() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
        ] {
            assert_eq!(TimeOfDay(Moment::from_micros(millis * 1000 + 999)).to_string(), text);
        }
        assert_eq!(TimeOfDay(Moment::MAX).to_string(), "9999-12-31T23:59:59.000Z", "the end of time has one, too");
    }

    #[test]
    fn days_follow_each_other() {
        let mut before = (1969, 12, 31);
        for day in 0..200_000 {
            let (year, month, day) = date(day);
            let is_next = match before {
                (last, 12, 31) => (year, month, day) == (last + 1, 1, 1),
                (same, of, last) if day == 1 => {
                    let is_leap = same % 4 == 0 && (same % 100 != 0 || same % 400 == 0);
                    let length = [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][of as usize - 1];
                    last == length && (year, month) == (same, of + 1)
                }
                (same, of, last) => (year, month, day) == (same, of, last + 1),
            };
            assert!(is_next, "{before:?}, {:?}", (year, month, day));
            before = (year, month, day);
        }
    }
}
