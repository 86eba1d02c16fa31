//! Text for terminals: nothing that clients choose reaches one as it is.
//!
//! Client Identifiers, topics and payloads come from strangers. A terminal obeys what it is sent: colours, titles, and worse. So
//! whatever could be a command, or could show characters in another order than they have, is written as an escape.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

/// Whether a terminal could take the character for something else than text, or show it where it does not stand.
fn is_dangerous(character: char) -> bool {
    let has_no_place = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    // What nobody sees makes one name look like another one.
    let is_unseen = matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
    ) || matches!(character, '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    character.is_control()
        || has_no_place
        || is_unseen
        || matches!(character, '\u{61c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The text, with escapes such as `\n` and `\u{1b}` for what a terminal must not see.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            _ if is_dangerous(character) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(character));
            }
            _ => safe.push(character),
        }
    }
    safe
}

/// JSON on one line. What a terminal must not see can only stand within a text, where JSON has escapes for it.
pub(super) fn json(value: &Value) -> String {
    let mut safe = String::new();
    for character in value.to_string().chars() {
        if !is_dangerous(character) {
            safe.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(safe, "\\u{unit:04x}");
        }
    }
    safe
}

/// A value of the API as text of one line: `-` for nothing, texts without their quotes.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) => {
            let values: Vec<_> = values.iter().map(shown).collect();
            if values.is_empty() { "-".to_owned() } else { values.join(", ") }
        }
        Value::Object(_) => json(value),
    }
}

/// An object for people: a line for each key, with what belongs to it indented below.
pub(super) fn described(value: &Value) -> String {
    let mut out = String::new();
    describe(&mut out, value, 0);
    out
}

fn describe(out: &mut String, value: &Value, depth: usize) {
    let Value::Object(members) = value else {
        let _ = writeln!(out, "{:depth$}{}", "", shown(value));
        return;
    };
    let is_one_line = |value: &Value| match value {
        Value::Object(_) => false,
        Value::Array(values) => !values.iter().any(Value::is_object),
        _ => true,
    };
    let short = members.iter().filter(|(_, value)| is_one_line(value));
    let width = short.clone().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    for (key, value) in short {
        let _ = writeln!(out, "{:depth$}{:width$}  {}", "", label(key), shown(value));
    }
    for (key, value) in members.iter().filter(|(_, value)| !is_one_line(value)) {
        let _ = writeln!(out, "{:depth$}{}:", "", label(key));
        match value {
            Value::Array(items) => items.iter().for_each(|item| {
                let _ = writeln!(out, "{:depth$}  {}", "", in_one_line(item));
            }),
            other => describe(out, other, depth + 2),
        }
    }
}

/// An item of a list within an object.
fn in_one_line(item: &Value) -> String {
    match item {
        Value::Object(members) => {
            let members = members.iter().filter(|(_, value)| !value.is_null());
            members.map(|(key, value)| format!("{}={}", escaped(key), shown(value))).collect::<Vec<_>>().join("  ")
        }
        other => shown(other),
    }
}

fn label(key: &str) -> String {
    escaped(&key.replace('_', " "))
}

/// A number in at most five characters: `999`, `12.3k`, `4.0M`.
pub(super) fn short(number: f64) -> String {
    const STEPS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would be rounded to the next step belongs there.
    match STEPS.iter().find(|(step, _)| number >= step * 0.9995) {
        Some((step, unit)) if number / step >= 99.95 => format!("{:.0}{unit}", number / step),
        Some((step, unit)) => format!("{:.1}{unit}", number / step),
        None if number == number.trunc() || number >= 99.95 => format!("{number:.0}"),
        None => format!("{number:.1}"),
    }
}

/// Bytes, as `12.3 KiB`.
pub(super) fn bytes(number: f64) -> String {
    const STEPS: [(i32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match STEPS.iter().find(|(power, _)| number >= 2f64.powi(*power)) {
        Some((power, unit)) => format!("{:.1} {unit}", number / 2f64.powi(*power)),
        None => format!("{number:.0} B"),
    }
}

/// A time span in its two largest units, as `3d 4h`; below a minute with what is worth knowing of a second.
pub(super) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 60.0 {
        return match seconds {
            0.0 => "0s".to_owned(),
            s if s < 0.001 => format!("{:.0}µs", s * 1e6),
            s if s < 0.1 => format!("{:.1}ms", s * 1e3).replace(".0ms", "ms"),
            s if s < 1.0 => format!("{:.0}ms", s * 1e3),
            s => format!("{s:.1}s").replace(".0s", "s"),
        };
    }
    let whole = Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |span| span.as_secs());
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {}s", whole % 60),
        (0, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EVIL: &str = "a\u{1b}]0;owned\u{7}\r\n\u{9b}31m\u{202e}b\u{7f}";

    fn is_harmless(text: &str) -> bool {
        !text.chars().any(is_dangerous)
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(escaped(EVIL), "a\\u{1b}]0;owned\\u{7}\\r\\n\\u{9b}31m\\u{202e}b\\u{7f}");
        assert_eq!(escaped("ä/+/東京 \\"), "ä/+/東京 \\");
        assert_eq!(escaped("la\u{ad}mp\u{e0041}\u{3164}"), "la\\u{ad}mp\\u{e0041}\\u{3164}");
    }

    #[test]
    fn json_keeps_its_meaning_and_harms_no_terminal() {
        let value = json!({ EVIL: [EVIL, {"é": "\u{feff}"}] });
        let text = json(&value);
        assert!(is_harmless(&text), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn descriptions_harm_no_terminal_either() {
        let value = json!({ EVIL: {"b": [{EVIL: EVIL}], "c": [EVIL], EVIL: EVIL}, "d": EVIL });
        let text = described(&value).replace('\n', "");
        assert!(is_harmless(&text), "{text}");
    }

    #[test]
    fn objects_are_described_with_what_is_short_first() {
        let value = json!({"will": {"topic": "a/b", "qos": 1}, "client_id": "lamp", "expiry": null,
                           "subscriptions": [{"filter": "x/#", "id": null, "qos": 2}], "clean_start": true, "none": []});
        let expected = "clean start  yes\nclient id    lamp\nexpiry       -\nnone         -\n\
                        subscriptions:\n  filter=x/#  qos=2\nwill:\n  qos    1\n  topic  a/b\n";
        assert_eq!(described(&value), expected);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 7.0, 0.25, 99.96, 999.0, 999.6, 12_345.0, 123_456.0, 999_999.0, 4e6, 7.7e9];
        let shorts = ["0", "7", "0.2", "100", "999", "1.0k", "12.3k", "123k", "1.0M", "4.0M", "7.7G"];
        assert_eq!(numbers.map(short), shorts);
        assert_eq!([0.0, 1023.0, 1536.0, 3e9].map(bytes), ["0 B", "1023 B", "1.5 KiB", "2.8 GiB"]);
    }

    #[test]
    fn spans_have_two_units() {
        let spans = [0.0, 0.000_25, 0.001_5, 0.25, 5.0, 59.94, 61.0, 7260.0, 200_000.0, -1.0, f64::NAN];
        let texts = ["0s", "250µs", "1.5ms", "250ms", "5s", "59.9s", "1m 1s", "2h 1m", "2d 7h", "-", "-"];
        assert_eq!(spans.map(span), texts);
    }
}
