//! What a check has found, and how that is shown.

use std::fmt::Write;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// The broker runs, and would run better, or safer.
    Better,
    /// The broker does not start, or will fail its clients.
    Wrong,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Better => "could_be_better",
            Self::Wrong => "wrong",
        }
    }

    fn mark(self) -> char {
        match self {
            Self::Fine => '✓',
            Self::Better => '!',
            Self::Wrong => '✗',
        }
    }
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) subject: String,
    pub(super) verdict: Verdict,
    /// How it is, and what that means.
    pub(super) said: String,
    /// What to type, or what to change where; nothing where all is fine.
    pub(super) advice: Vec<String>,
}

impl Finding {
    pub(super) fn fine(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self { subject: subject.into(), verdict: Verdict::Fine, said: said.into(), advice: Vec::new() }
    }

    pub(super) fn better(subject: impl Into<String>, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Better, said, advice)
    }

    pub(super) fn wrong(subject: impl Into<String>, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Wrong, said, advice)
    }

    /// The advice is lines; an empty one is none.
    fn new(subject: impl Into<String>, verdict: Verdict, said: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = advice.into().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Self { subject: subject.into(), verdict, said: said.into(), advice }
    }
}

/// The worst of all verdicts.
pub(super) fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Fine)
}

/// How people are to be shown something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) colours: bool,
    /// Columns of the terminal; lines that are longer are broken between words.
    pub(super) columns: usize,
}

/// All findings for people: one after the other, with what to do below.
pub(super) fn text(findings: &[Finding], look: Look) -> String {
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for Finding { subject, verdict, said, advice } in findings {
        let colour = match verdict {
            Verdict::Fine => "32",
            Verdict::Better => "33",
            Verdict::Wrong => "31",
        };
        let mark = match look.colours {
            true => format!("\x1b[{colour}m{}\x1b[0m", verdict.mark()),
            false => verdict.mark().to_string(),
        };
        let indent = width + 4;
        let lines = broken(said, look.columns.saturating_sub(indent));
        let _ = writeln!(out, "{mark} {subject:width$}  {}", lines.join(&format!("\n{:indent$}", "")));
        // What is to be typed is left whole, so that it can be copied.
        for line in advice {
            let _ = writeln!(out, "{:indent$}→ {line}", "");
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let counts = (count(Verdict::Fine), count(Verdict::Better), count(Verdict::Wrong));
    let _ = writeln!(out, "\n{} fine, {} could be better, {} wrong", counts.0, counts.1, counts.2);
    out
}

/// The lines of a text, none longer than `columns` unless one of its words is.
fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("it begins with a line");
        match last.chars().count() + 1 + word.chars().count() {
            _ if last.is_empty() => last.push_str(word),
            length if length <= columns => *last = format!("{last} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// All findings for programs: a JSON object.
pub(super) fn json(findings: &[Finding]) -> String {
    let items = findings.iter().map(|finding| {
        serde_json::json!({
            "subject": finding.subject,
            "verdict": finding.verdict.name(),
            "said": finding.said,
            "advice": finding.advice,
        })
    });
    let report = serde_json::json!({ "verdict": worst(findings).name(), "findings": items.collect::<Vec<_>>() });
    format!("{report:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::fine("kernel", "it is new"),
            Finding::better("disk", "it is slow", "buy one\nor wait"),
            Finding::wrong("listener 0", "the port is taken", ""),
        ]
    }

    #[test]
    fn people_read_a_line_for_each_and_what_to_do() {
        let expected = "✓ kernel      it is new\n! disk        it is slow\n              → buy one\n              → or wait\n\
                        ✗ listener 0  the port is taken\n\n1 fine, 1 could be better, 1 wrong\n";
        let look = Look { colours: false, columns: usize::MAX };
        assert_eq!(text(&findings(), look), expected);
        assert!(text(&findings(), Look { colours: true, ..look }).starts_with("\x1b[32m✓\x1b[0m kernel"));
    }

    #[test]
    fn long_lines_are_broken_and_what_is_to_be_typed_is_not() {
        let finding = Finding::better("disk", "it is slow today", "buy one that is faster");
        let look = Look { colours: false, columns: 20 };
        let expected = "! disk  it is slow\n        today\n        → buy one that is faster\n\n0 fine, 1 could be better, 0 wrong\n";
        assert_eq!(text(&[finding], look), expected);
        assert_eq!(broken("", 0), [""]);
        assert_eq!(broken("a bb c", 1), ["a", "bb", "c"]);
    }

    #[test]
    fn programs_read_an_object() {
        let value: serde_json::Value = serde_json::from_str(&json(&findings())).unwrap();
        assert_eq!(value["verdict"], "wrong");
        assert_eq!(value["findings"][1]["verdict"], "could_be_better");
        assert_eq!(value["findings"][1]["advice"][1], "or wait");
        assert_eq!(worst(&[]), Verdict::Fine);
    }
}
