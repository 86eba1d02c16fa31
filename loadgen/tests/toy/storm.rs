//! `storm` with a broker that does nothing wrong, and with the three faults that matter most.

use willowmq_loadgen::report::{Check, Report};

use crate::faults::{Faults, each, from, once};
use crate::run::{all_pass, run_with};

/// A small storm without long pauses; other arguments follow.
macro_rules! storm {
    ($rest:literal) => {
        concat!("storm --clients 300 --before 20ms --afterwards 20ms ", $rest)
    };
}
pub(crate) use storm;

#[test]
fn a_correct_broker_passes() {
    all_pass(&[
        storm!("--how close"),
        storm!("--how reset"),
        storm!("--how takeover"),
        storm!("--how stagger=300ms"),
        storm!("--how silent --keep-alive 2s"),
        storm!("--how close --mqtt 3.1.1"),
        storm!("--how reset --mqtt 3.1.1"),
        storm!("--how takeover --mqtt 3.1.1"),
        storm!("--how stagger=300ms --mqtt 3.1.1"),
        storm!("--how silent --keep-alive 2s --mqtt 3.1.1"),
        storm!("--will-delay 1s"),
        storm!("--will-delay 1s --how silent --keep-alive 2s"),
        storm!("--will-delay 1s --session-expiry 0"),
        storm!("--will-delay 60s --session-expiry 1s"),
        storm!("--will-delay 1s --reconnect 50% --after 300ms"),
        storm!("--will-delay 1s --reconnect 100% --after 300ms --how stagger=300ms"),
        storm!("--will-delay 1s --reconnect 50% --after 1600ms"),
        storm!("--reconnect 50% --after 600ms"),
        storm!("--reconnect 50% --after 600ms --mqtt 3.1.1"),
        storm!("--will-qos 0 --watchers 3"),
        storm!("--will-qos 2 --watcher-qos 2 --watchers 2"),
        storm!("--will-qos 2 --watcher-qos 1"),
        storm!("--will-qos 1 --watcher-qos 0 --mqtt 3.1.1"),
        storm!("--fraction 40%"),
        storm!("--topic-prefix a/{i}/{client}/{prefix}"),
        storm!("--fraction 40% --how takeover"),
        storm!("--will-topic {prefix}/{client} --filter {prefix}/#"),
        storm!("--will-payload 24"),
        storm!("--connect-rate 2000 --connect-concurrency 7"),
        storm!("--will-retain"),
        storm!("--will-retain --mqtt 3.1.1"),
        storm!("--will-retain --fraction 40% --will-qos 0"),
        storm!("--will-retain --fraction 40% --how takeover"),
        storm!("--will-retain --will-delay 1s --reconnect 50% --after 300ms"),
        storm!("--background 500"),
        storm!("--background 500 --background-qos 1 --mqtt 3.1.1"),
        storm!("--background 500 --background-qos 2 --background-pairs 3 --how takeover"),
    ]);
}

#[test]
fn each_hundredth_will_that_is_dropped_is_missed() {
    let report = failed(Faults { drop_will: each(100), ..Faults::default() }, storm!(""));
    assert_eq!(counts(&report), [("wills_lost", 3)]);
}

#[test]
fn one_will_that_is_repeated_is_noticed() {
    let report = failed(Faults { repeat_will: once(123), ..Faults::default() }, storm!(""));
    assert_eq!(counts(&report), [("wills_repeated", 1)]);
}

#[test]
fn one_will_that_is_early_is_noticed() {
    let report = failed(Faults { early_will: once(123), ..Faults::default() }, storm!("--will-delay 1s"));
    assert_eq!(counts(&report), [("wills_early", 1)]);
}

#[test]
fn a_storm_ends_with_its_last_will_however_long_others_are_waited_for() {
    let lossy = Faults { drop_will: each(100), ..Faults::default() };
    let report = failed(lossy, storm!("--background 500 --patience 1500ms"));
    let phase = |name: &str| report.phases.iter().find(|phase| phase.name == name).unwrap();
    let (storm, waiting) = (phase("storm"), phase("waiting"));
    assert!(storm.to_s - storm.from_s < 1.0 && waiting.to_s - waiting.from_s >= 1.0, "{:?}", report.phases);
    let count = |name: &str| report.latencies.iter().find(|latency| latency.name == name).unwrap().count;
    assert!(count("background_after") > 500, "what came while others were waited for is not of the storm");
}

#[test]
fn lost_wills_are_explained() {
    let warnings = |faults, arguments| failed(faults, arguments).warnings.join("\n");
    let none = warnings(Faults { drop_will: from(1), ..Faults::default() }, storm!("--topic-prefix p"));
    assert!(none.contains("may these clients publish to p/0/status and subscribe to p/+/status?"), "{none}");
    let some = warnings(Faults { drop_will: from(101), ..Faults::default() }, storm!(""));
    assert!(some.contains("the first 100 wills came and the rest did not"), "{some}");
    let chance = warnings(Faults { drop_will: each(10), ..Faults::default() }, storm!(""));
    assert!(!chance.contains("wills came") && !chance.contains("no will"), "{chance}");
}

#[test]
fn nobody_waits_for_a_broker_that_is_dead() {
    let begun = std::time::Instant::now();
    // Connecting and subscribing takes 302 packets: it dies with the first PUBACKs of the storm.
    let dies = Faults { die: once(310), ..Faults::default() };
    let outcome = run_with(dies, storm!("--how stagger=300ms --will-retain --patience 20s"));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.violated().contains(&"wills_lost".into()), "{:?}", outcome.violated());
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_process_that_ends_is_reported_with_everything_else() {
    let mut process = std::process::Command::new("sleep").arg("1").spawn().unwrap();
    let arguments = format!("{} --pid {}", storm!("--before 1500ms"), process.id());
    let outcome = run_with(Faults::default(), &arguments.replace("--before 20ms ", ""));
    process.wait().unwrap();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_eq!(outcome.violated(), ["broker_died"]);
    let report = outcome.report();
    assert!(report.series.iter().any(|series| series.name == "broker_memory"), "up to its end");
    assert!(report.figures.iter().all(|figure| figure.name != "broker_cpu_us_per_will"));
}

/// Runs it; the run is to fail.
fn failed(faults: Faults, arguments: &str) -> Report {
    let patience = if arguments.contains("--patience") { "" } else { " --patience 400ms" };
    let outcome = run_with(faults, &format!("{arguments}{patience}"));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let report = outcome.report();
    assert!(!report.passed);
    report
}

/// The checks that were violated.
fn counts(report: &Report) -> Vec<(&str, u64)> {
    let violated = report.checks.iter().filter(|check| check.count > 0);
    violated.map(|Check { name, count, .. }| (name.as_str(), *count)).collect()
}
