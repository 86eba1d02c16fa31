//! The reference of all metrics in `docs/MONITORING.md`, made from their definitions.

use std::fmt::Write;

use super::table::{Metric, Of, SUBJECTS};

const BEGIN: &str = "<!-- The reference begins here; it is generated. -->";
const END: &str = "<!-- The reference ends here. -->";

/// A table for each subject, in Markdown.
fn reference() -> String {
    let mut text = String::new();
    for subject in SUBJECTS {
        let _ = write!(
            text,
            "\n### {}\n\n| metric | type | labels | what it tells |\n| --- | --- | --- | --- |\n",
            subject.title
        );
        subject.metrics.iter().for_each(|metric| text.push_str(&row(metric)));
    }
    text.push('\n');
    text
}

fn row(metric: &Metric) -> String {
    let of_shard = matches!(metric.of, Of::Shard(_)).then_some("shard");
    let labels: Vec<_> = of_shard.iter().chain(metric.labels).map(|label| format!("`{label}`")).collect();
    let kind = format!("{:?}", metric.kind).to_lowercase();
    format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(", "), metric.help)
}

/// `WRITE_REFERENCE=1 cargo test --lib reference` writes it anew.
#[test]
fn the_reference_in_the_guide_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MONITORING.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (before, rest) = guide.split_once(BEGIN).expect("it has a place for the reference");
    let (written, after) = rest.split_once(END).expect("the reference has an end");
    let expected = format!("\n{}", reference());
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(written == expected, "docs/MONITORING.md is out of date: WRITE_REFERENCE=1 cargo test --lib reference");
}
