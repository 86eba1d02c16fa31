//! Numbers as people read them: `1500 µs` is `1.50 ms`, `1048576 B` is `1 MiB`, `1234567` is `1,234,567`.

/// What stands for a value that is not a number.
pub(super) const NOTHING: &str = "–";

/// Steps of time: the least number of microseconds at which a unit is used, its length in microseconds, its name.
const TIMES: [(f64, f64, &str); 6] =
    [(7.2e9, 3.6e9, "h"), (6e8, 6e7, "min"), (1e6, 1e6, "s"), (1e3, 1e3, "ms"), (1.0, 1.0, "µs"), (0.0, 1e-3, "ns")];

/// Steps of storage: bytes, name.
const SIZES: [(f64, &str); 5] =
    [(1_099_511_627_776.0, "TiB"), (1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")];

/// `value` with the unit that makes it easiest to read; three digits of it matter, except in whole numbers.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return NOTHING.into();
    }
    match unit {
        "ns" | "µs" | "ms" | "s" => time(value * microseconds(unit)),
        "B" => size(value),
        "B/s" => size(value) + "/s",
        "" => number(value),
        _ => format!("{} {unit}", number(value)),
    }
}

/// Whether `unit` is one of time.
pub(super) fn is_time(unit: &str) -> bool {
    matches!(unit, "ns" | "µs" | "ms" | "s")
}

/// How many microseconds one `unit` of time is.
fn microseconds(unit: &str) -> f64 {
    match unit {
        "ns" => 1e-3,
        "ms" => 1e3,
        "s" => 1e6,
        _ => 1.0,
    }
}

/// A time of so many microseconds.
pub(super) fn time(value_us: f64) -> String {
    if !value_us.is_finite() {
        return NOTHING.into();
    }
    if value_us == 0.0 {
        return "0 s".into();
    }
    let (_, length, name) = TIMES.into_iter().find(|(least, ..)| value_us.abs() >= *least).unwrap_or(TIMES[4]);
    format!("{} {name}", number(value_us / length))
}

fn size(bytes: f64) -> String {
    let (length, name) = SIZES.into_iter().find(|(length, _)| bytes.abs() >= *length).unwrap_or(SIZES[4]);
    format!("{} {name}", number(bytes / length))
}

/// A bare number: whole ones in full, others with three significant digits or more, thousands separated by commas.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.into();
    }
    let decimals = match value.abs() {
        magnitude if magnitude.fract() == 0.0 || magnitude >= 100.0 => 0,
        magnitude if magnitude >= 10.0 => 1,
        magnitude if magnitude >= 1.0 => 2,
        magnitude => (2.0 - magnitude.log10().floor()).clamp(3.0, 9.0) as usize,
    };
    separated(&format!("{value:.decimals$}"))
}

/// A number for the tick of an axis: `1.5 M` rather than `1,500,000`.
pub(super) fn compact(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1e9 => format!("{} G", trimmed(value / 1e9)),
        magnitude if magnitude >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        magnitude if magnitude >= 1e4 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

/// `value` with as many decimals as it has, at most four.
fn trimmed(value: f64) -> String {
    let digits = format!("{value:.4}");
    separated(digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Puts commas between the thousands of a decimal number.
fn separated(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut text = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

/// A moment in seconds since 1970-01-01 as `YYYY-MM-DD hh:mm UTC`.
pub(super) fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second / 60 % 60)
}

/// The day of the Gregorian calendar, so many days after 1970-01-01.
///
/// Years are counted from the first of March, which puts the leap day last, and in eras of 400 years, which all have
/// the same number of days.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let (era, day_of_era) = ((days + DAYS_TO_1970) / ERA, (days + DAYS_TO_1970) % ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_the_unit_that_fits() {
        let told = [0.0, 0.25, 87.0, 1500.0, 12_345.0, 999_000.0, 3.5e6, 9e8, 9e9].map(|us| quantity(us, "µs"));
        let expected = ["0 s", "250 ns", "87 µs", "1.50 ms", "12.3 ms", "999 ms", "3.50 s", "15 min", "2.50 h"];
        assert_eq!(told, expected);
        assert_eq!(quantity(0.002, "s"), "2 ms");
        assert_eq!(quantity(-1500.0, "µs"), "-1.50 ms");
    }

    #[test]
    fn sizes_take_the_unit_that_fits() {
        let told = [0.0, 512.0, 1536.0, 1_048_576.0, 3.2e9].map(|bytes| quantity(bytes, "B"));
        assert_eq!(told, ["0 B", "512 B", "1.50 KiB", "1 MiB", "2.98 GiB"]);
        assert_eq!(quantity(2048.0, "B/s"), "2 KiB/s");
    }

    #[test]
    fn numbers_are_separated_and_rounded() {
        let told = [0.0, 12.0, 999.0, 1000.0, -1_234_567.0, 1234.5, 99.44, 1.234, 0.1234, 0.00125].map(number);
        assert_eq!(told, ["0", "12", "999", "1,000", "-1,234,567", "1,234", "99.4", "1.23", "0.123", "0.00125"]);
        assert_eq!(quantity(250_000.0, "/s"), "250,000 /s");
        assert_eq!(quantity(99.5, "%"), "99.5 %");
    }

    #[test]
    fn what_is_not_a_number_is_a_dash() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!([quantity(value, "µs"), quantity(value, ""), time(value), number(value)], [NOTHING; 4]);
        }
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([0.0, 0.25, 5000.0, 250_000.0, 1.5e6].map(compact), ["0", "0.25", "5,000", "250 k", "1.5 M"]);
    }

    #[test]
    fn dates_follow_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59 UTC");
    }
}
