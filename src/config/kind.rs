//! How the values of keys are written, what range they have, and how they are printed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::section::Named;
use super::{MemoryLimit, RestartGrace};
use crate::topic::TopicFilter;

/// A value as a source gives it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    /// From a TOML document, which knows types.
    Toml(&'a DeValue<'a>),
    /// From the environment or the command line: text without quotes.
    Bare(&'a str),
}

/// How the values of a key of type `T` are written, and which are allowed.
pub(super) trait Kind<T> {
    /// Parses and checks; an error says what is wrong.
    fn parse(&self, given: Given<'_>) -> Result<T, String>;
    /// The value as TOML; `None` when it is unset.
    fn show(&self, value: &T) -> Option<String>;
    /// The allowed values in words.
    fn allowed(&self) -> String;
}

impl<'a> Given<'a> {
    fn text(self) -> Result<&'a str, String> {
        match self {
            Self::Bare(text) => Ok(text),
            Self::Toml(value) => value.as_str().ok_or_else(|| self.not_a("string")),
        }
    }

    fn integer(self) -> Result<i64, String> {
        let parsed = match self {
            Self::Bare(text) => text.trim().parse(),
            Self::Toml(DeValue::Integer(integer)) => i64::from_str_radix(integer.as_str(), integer.radix()),
            Self::Toml(_) => return Err(self.not_a("whole number")),
        };
        parsed.map_err(|_| self.not_a("whole number"))
    }

    fn flag(self) -> Result<bool, String> {
        match self {
            Self::Bare("true") | Self::Toml(DeValue::Boolean(true)) => Ok(true),
            Self::Bare("false") | Self::Toml(DeValue::Boolean(false)) => Ok(false),
            _ => Err(self.not_a("flag")),
        }
    }

    /// A list; bare text is a TOML array, or one item without brackets, or nothing at all.
    fn texts(self) -> Result<Vec<String>, String> {
        match self {
            Self::Bare("") => Ok(Vec::new()),
            Self::Bare(text) if text.trim_start().starts_with('[') => {
                let value = DeValue::parse(text.trim()).map_err(|error| error.message().to_owned())?;
                Given::Toml(value.get_ref()).texts()
            }
            Self::Bare(text) => Ok(vec![text.to_owned()]),
            Self::Toml(value) => {
                let items = value.as_array().ok_or_else(|| self.not_a("list of strings"))?;
                items.iter().map(|item| Given::Toml(item.get_ref()).text().map(str::to_owned)).collect()
            }
        }
    }

    fn not_a(self, expected: &str) -> String {
        match self {
            Self::Bare(_) => format!("this is not a {expected}"),
            Self::Toml(value) => format!("this is of type {}, not a {expected}", value.type_str()),
        }
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A whole number.
pub(super) struct Count(pub(super) RangeInclusive<u64>);

impl<T: Copy + TryFrom<u64> + Into<u64>> Kind<T> for Count {
    fn parse(&self, given: Given<'_>) -> Result<T, String> {
        let integer = given.integer()?;
        let count = u64::try_from(integer).ok().filter(|count| self.0.contains(count));
        count.and_then(|count| T::try_from(count).ok()).ok_or_else(|| out_of(integer, &self.0))
    }

    fn show(&self, value: &T) -> Option<String> {
        Some((*value).into().to_string())
    }

    fn allowed(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

fn out_of(integer: i64, range: &RangeInclusive<u64>) -> String {
    let small = u64::try_from(integer).is_ok_and(|count| count >= *range.start());
    if small { "this is too large".to_owned() } else { "this is too small".to_owned() }
}

/// What a quantity is counted in.
struct Units {
    /// Names and factors, ascending.
    all: &'static [(&'static str, u64)],
    /// The unit in which zero is shown.
    of_zero: &'static str,
}

const BYTES: &Units =
    &Units { all: &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)], of_zero: "B" };
const MICROSECONDS: &Units = &Units {
    all: &[
        ("us", 1),
        ("ms", 1_000),
        ("s", 1_000_000),
        ("m", 60 * 1_000_000),
        ("h", 3_600 * 1_000_000),
        ("d", 86_400 * 1_000_000),
    ],
    of_zero: "s",
};

/// Parses a whole number with a unit behind it.
fn parse_quantity(given: Given<'_>, units: &Units, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let text = given.text()?.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let names = || units.all.iter().map(|&(name, _)| name).collect::<Vec<_>>().join(", ");
    if number.is_empty() {
        return Err("this does not begin with a whole number".to_owned());
    }
    let Some(&(_, factor)) = units.all.iter().find(|&&(name, _)| name == unit.trim_start()) else {
        return Err(match unit {
            "" => format!("this has no unit; the units are {}", names()),
            unit => format!("{:?} is not a unit; the units are {}", unit.trim_start(), names()),
        });
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(quantity) if quantity < *range.start() => Err("this is too small".to_owned()),
        Some(quantity) if quantity <= *range.end() => Ok(quantity),
        _ => Err("this is too large".to_owned()),
    }
}

/// Parses a time span with a unit, such as "250ms" or "5m": on the command line it is written as in the configuration.
///
/// # Errors
/// What is wrong with it.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    parse_quantity(Given::Bare(text), MICROSECONDS, &(0..=u64::MAX)).map(Duration::from_micros)
}

/// Writes a quantity in the largest unit of which it is a whole multiple.
fn show_quantity(quantity: u64, units: &Units) -> String {
    let whole = units.all.iter().rev().find(|&&(_, factor)| quantity != 0 && quantity.is_multiple_of(factor));
    match whole {
        Some(&(unit, factor)) => format!("{}{unit}", quantity / factor),
        None => format!("0{}", units.of_zero),
    }
}

fn allowed_quantities(range: &RangeInclusive<u64>, units: &Units) -> String {
    format!("{} to {}", show_quantity(*range.start(), units), show_quantity(*range.end(), units))
}

/// A number of bytes with a unit, such as "64KiB".
pub(super) struct Size(pub(super) RangeInclusive<u64>);

impl Kind<usize> for Size {
    fn parse(&self, given: Given<'_>) -> Result<usize, String> {
        let bytes = parse_quantity(given, BYTES, &self.0)?;
        usize::try_from(bytes).map_err(|_| "this is too large for the machine".to_owned())
    }

    fn show(&self, value: &usize) -> Option<String> {
        Some(quoted(&show_quantity(*value as u64, BYTES)))
    }

    fn allowed(&self) -> String {
        allowed_quantities(&self.0, BYTES)
    }
}

/// A time span with a unit, such as "250ms", in whole microseconds.
pub(super) struct Span(pub(super) RangeInclusive<Duration>);

impl Span {
    fn micros(&self) -> RangeInclusive<u64> {
        micros(*self.0.start())..=micros(*self.0.end())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Kind<Duration> for Span {
    fn parse(&self, given: Given<'_>) -> Result<Duration, String> {
        parse_quantity(given, MICROSECONDS, &self.micros()).map(Duration::from_micros)
    }

    fn show(&self, value: &Duration) -> Option<String> {
        Some(quoted(&show_quantity(micros(*value), MICROSECONDS)))
    }

    fn allowed(&self) -> String {
        allowed_quantities(&self.micros(), MICROSECONDS)
    }
}

/// A time span, or "never".
pub(super) struct OrNever(pub(super) Span);

impl Kind<Option<Duration>> for OrNever {
    fn parse(&self, given: Given<'_>) -> Result<Option<Duration>, String> {
        match given.text()? {
            "never" => Ok(None),
            _ => self.0.parse(given).map(Some),
        }
    }

    fn show(&self, value: &Option<Duration>) -> Option<String> {
        match value {
            None => Some(quoted("never")),
            Some(duration) => self.0.show(duration),
        }
    }

    fn allowed(&self) -> String {
        format!("{}, or never", self.0.allowed())
    }
}

/// A time span, or "keep-alive".
pub(super) struct OrKeepAlive(pub(super) Span);

impl OrKeepAlive {
    const NAME: &str = "keep-alive";
}

impl Kind<RestartGrace> for OrKeepAlive {
    fn parse(&self, given: Given<'_>) -> Result<RestartGrace, String> {
        match given.text()? {
            Self::NAME => Ok(RestartGrace::KeepAlive),
            _ => self.0.parse(given).map(RestartGrace::After),
        }
    }

    fn show(&self, value: &RestartGrace) -> Option<String> {
        match value {
            RestartGrace::KeepAlive => Some(quoted(Self::NAME)),
            RestartGrace::After(duration) => self.0.show(duration),
        }
    }

    fn allowed(&self) -> String {
        format!("{} or {}", quoted(Self::NAME), self.0.allowed())
    }
}

/// A key that can be left out, and is by default.
pub(super) struct Optional<K>(pub(super) K);

impl<T, K: Kind<T>> Kind<Option<T>> for Optional<K> {
    fn parse(&self, given: Given<'_>) -> Result<Option<T>, String> {
        self.0.parse(given).map(Some)
    }

    fn show(&self, value: &Option<T>) -> Option<String> {
        value.as_ref().and_then(|value| self.0.show(value))
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }
}

/// One of some names.
pub(super) struct Choice;

impl<T: Named> Kind<T> for Choice {
    fn parse(&self, given: Given<'_>) -> Result<T, String> {
        let text = given.text()?;
        if let Some(&(choice, _)) = T::NAMES.iter().find(|&&(_, name)| name == text) {
            return Ok(choice);
        }
        match T::REFUSED.iter().find(|&&(name, _)| name == text) {
            Some((_, reason)) => Err((*reason).to_owned()),
            None => Err("this is not one of the choices".to_owned()),
        }
    }

    fn show(&self, value: &T) -> Option<String> {
        T::NAMES.iter().find(|(choice, _)| choice == value).map(|&(_, name)| quoted(name))
    }

    fn allowed(&self) -> String {
        T::NAMES.iter().map(|&(_, name)| quoted(name)).collect::<Vec<_>>().join(" or ")
    }
}

/// Yes or no.
pub(super) struct Flag;

impl Kind<bool> for Flag {
    fn parse(&self, given: Given<'_>) -> Result<bool, String> {
        given.flag()
    }

    fn show(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
}

/// Permissions of a file, as octal digits in a string.
pub(super) struct Mode;

impl Kind<u32> for Mode {
    fn parse(&self, given: Given<'_>) -> Result<u32, String> {
        let text = given.text()?;
        let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(text, 8) {
            Ok(mode @ 0..=0o777) if is_octal => Ok(mode),
            _ => Err("these are no octal permissions".to_owned()),
        }
    }

    fn show(&self, value: &u32) -> Option<String> {
        Some(quoted(&format!("{value:04o}")))
    }

    fn allowed(&self) -> String {
        "0000 to 0777".to_owned()
    }
}

/// Text that is not empty.
pub(super) struct Text;

impl Kind<String> for Text {
    fn parse(&self, given: Given<'_>) -> Result<String, String> {
        match given.text()? {
            "" => Err("this is empty".to_owned()),
            text => Ok(text.to_owned()),
        }
    }

    fn show(&self, value: &String) -> Option<String> {
        Some(quoted(value))
    }

    fn allowed(&self) -> String {
        "any text but the empty one".to_owned()
    }
}

/// A name: letters, digits, `-` and `_`.
pub(super) struct Word;

impl Kind<String> for Word {
    fn parse(&self, given: Given<'_>) -> Result<String, String> {
        let text = Text.parse(given)?;
        match text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            true => Ok(text),
            false => Err("this holds something else than letters, digits, - and _".to_owned()),
        }
    }

    fn show(&self, value: &String) -> Option<String> {
        (!value.is_empty()).then(|| quoted(value))
    }

    fn allowed(&self) -> String {
        "a word of letters, digits, - and _".to_owned()
    }
}

/// A list of texts, none of them empty.
pub(super) struct Texts;

impl Kind<Vec<String>> for Texts {
    fn parse(&self, given: Given<'_>) -> Result<Vec<String>, String> {
        let texts = given.texts()?;
        match texts.iter().any(String::is_empty) {
            true => Err("one of them is empty".to_owned()),
            false => Ok(texts),
        }
    }

    fn show(&self, value: &Vec<String>) -> Option<String> {
        let texts: Vec<_> = value.iter().map(|text| quoted(text)).collect();
        Some(format!("[{}]", texts.join(", ")))
    }

    fn allowed(&self) -> String {
        "a list of texts".to_owned()
    }
}

/// A size, or a percentage.
pub(super) struct SizeOrPercent(pub(super) RangeInclusive<u64>);

impl Kind<MemoryLimit> for SizeOrPercent {
    fn parse(&self, given: Given<'_>) -> Result<MemoryLimit, String> {
        let Some(percent) = given.text()?.trim().strip_suffix('%') else {
            return parse_quantity(given, BYTES, &self.0).map(MemoryLimit::Bytes);
        };
        match percent.trim_end().parse() {
            Ok(percent @ 1..=100) => Ok(MemoryLimit::Percent(percent)),
            _ => Err("this is no percentage from 1% to 100%".to_owned()),
        }
    }

    fn show(&self, value: &MemoryLimit) -> Option<String> {
        Some(quoted(&match value {
            MemoryLimit::Bytes(bytes) => show_quantity(*bytes, BYTES),
            MemoryLimit::Percent(percent) => format!("{percent}%"),
        }))
    }

    fn allowed(&self) -> String {
        let [min, max] = [self.0.start(), self.0.end()].map(|end| show_quantity(*end, BYTES));
        format!("{min} to {max} or 1% to 100%")
    }
}

/// The path of a file or directory.
pub(super) struct Path;

impl Kind<PathBuf> for Path {
    fn parse(&self, given: Given<'_>) -> Result<PathBuf, String> {
        Text.parse(given).map(PathBuf::from)
    }

    fn show(&self, value: &PathBuf) -> Option<String> {
        Some(quoted(&value.to_string_lossy()))
    }

    fn allowed(&self) -> String {
        "a path".to_owned()
    }
}

/// An IP address with a port.
pub(super) struct SocketAddress;

impl Kind<SocketAddr> for SocketAddress {
    fn parse(&self, given: Given<'_>) -> Result<SocketAddr, String> {
        given.text()?.parse().map_err(|error: std::net::AddrParseError| error.to_string())
    }

    fn show(&self, value: &SocketAddr) -> Option<String> {
        Some(quoted(&value.to_string()))
    }

    fn allowed(&self) -> String {
        "an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883".to_owned()
    }
}

/// Topic Filters, none of them shared.
pub(super) struct TopicFilters;

impl Kind<Vec<String>> for TopicFilters {
    fn parse(&self, given: Given<'_>) -> Result<Vec<String>, String> {
        let filters = given.texts()?;
        // So that the start fails, and not the first will.
        match filters.iter().find(|filter| TopicFilter::parse(filter).is_err()) {
            Some(filter) => Err(format!("{filter:?} is not a Topic Filter")),
            None => Ok(filters),
        }
    }

    fn show(&self, value: &Vec<String>) -> Option<String> {
        let filters: Vec<_> = value.iter().map(|filter| quoted(filter)).collect();
        Some(format!("[{}]", filters.join(", ")))
    }

    fn allowed(&self) -> String {
        "a list of Topic Filters".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: RangeInclusive<u64> = 0..=u64::MAX;

    #[test]
    fn quantities_need_a_whole_number_and_a_unit() {
        let size = |text| parse_quantity(Given::Bare(text), BYTES, &ANY);
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("64 KiB"), Ok(65_536));
        for text in ["", "KiB", "64", "1.5MiB", "-1B", "64kb", "20000000TiB", "99999999999999999999B"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn quantities_are_shown_in_the_largest_whole_unit() {
        let shown = [0, 1_000, 1_500_000, 90_000_000, 86_400_000_000].map(|value| show_quantity(value, MICROSECONDS));
        assert_eq!(shown, ["0s", "1ms", "1500ms", "90s", "1d"]);
    }

    proptest! {
        #[test]
        fn a_shown_quantity_parses_to_itself(quantity: u64) {
            for units in [BYTES, MICROSECONDS] {
                let shown = show_quantity(quantity, units);
                prop_assert_eq!(parse_quantity(Given::Bare(&shown), units, &ANY), Ok(quantity));
            }
        }
    }
}
