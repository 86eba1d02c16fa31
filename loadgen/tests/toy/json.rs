//! What `--json` writes is what the types say, and `schema` describes all of it.

use std::sync::OnceLock;

use serde_json::Value;
use willowmq_loadgen::report::{Report, SCHEMA};

use crate::faults::{Faults, once};
use crate::net::Toy;
use crate::run::{Outcome, run, run_with};
use crate::storm::storm;

/// A run whose report has all its parts.
fn outcome() -> &'static Outcome {
    static OUTCOME: OnceLock<Outcome> = OnceLock::new();
    let faults = Faults { repeat_will: once(7), ..Faults::default() };
    OUTCOME.get_or_init(|| run_with(faults, storm!("--background 500")))
}

#[test]
fn the_report_is_read_again_as_it_was_written() {
    let outcome = outcome();
    let report: Report = outcome.report();
    assert_eq!(report.schema, SCHEMA);
    assert_eq!(report.scenario, "storm");
    assert_eq!(report.arguments[0], "storm");
    assert!(!report.passed && report.checks.iter().any(|check| check.name == "wills_repeated"));
    let written: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(serde_json::to_value(&report).unwrap(), written);
}

#[test]
fn the_page_and_the_summary_show_the_same_run() {
    let toy = Toy::start(Faults { repeat_message: once(7), ..Faults::default() });
    let page = std::env::temp_dir().join(format!("loadgen-test-{}.html", std::process::id()));
    let arguments = "publish --warmup 50ms --duration 100ms --publishers 2 --label toy";
    let outcome = run(&format!("{arguments} --broker {} --report {}", toy.address, page.display()));
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_file(&page).unwrap();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("publish · toy") && outcome.stdout.contains("FAILED"), "{outcome:?}");
    assert!(html.contains("publish · toy") && html.contains("messages repeated"));
}

#[test]
fn the_schema_describes_every_field_of_a_report() {
    let outcome = outcome();
    let printed = run("schema");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let schema: Value = serde_json::from_str(&printed.stdout).unwrap();
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let mut described = 0;
    assert_described(&schema, &schema, &report, "report", &mut described);
    assert!(described > 40, "the report has all its parts: {described}");
}

/// Every field below `value` has a type and a description in `schema`; counts them.
fn assert_described(root: &Value, schema: &Value, value: &Value, place: &str, described: &mut usize) {
    let schema = resolve(root, schema);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let property = &schema["properties"][name];
                assert!(property["description"].is_string(), "{place}.{name} is not described");
                *described += 1;
                assert_described(root, property, value, &format!("{place}.{name}"), described);
            }
        }
        Value::Array(items) if !schema["items"].is_null() => {
            items.iter().for_each(|item| assert_described(root, &schema["items"], item, place, described));
        }
        _ => {}
    }
}

/// Follows a reference to a definition.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).expect("a definition"),
        None => schema,
    }
}
