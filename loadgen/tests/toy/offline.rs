//! `offline` with brokers that keep what they promised to those who are away, or do not; in one run and in two.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::faults::{Faults, from, once};
use crate::net::Toy;
use crate::run::{Outcome, all_found, all_pass, fault, permitted, run, run_against, run_with, with_patience};

/// A short run; other arguments follow.
macro_rules! offline {
    ($rest:literal) => {
        concat!("offline --subscribers 10 --publishers 10 --messages 500 ", $rest)
    };
}

const CORRECT: fn() -> Faults = Faults::default;

/// Two runs with a file between them, which does not outlive the test.
struct Halves {
    state: PathBuf,
}

impl Halves {
    fn new(name: &str) -> Self {
        Self { state: std::env::temp_dir().join(format!("loadgen-offline-{}-{name}.json", std::process::id())) }
    }

    fn publish(&self, toy: &Toy, rest: &str) -> Outcome {
        let arguments = format!("{} {} {rest}", offline!("--phase publish --state"), self.state.display());
        run_against(toy.address, &with_patience(&arguments, "700ms"))
    }

    fn collect(&self, toy: &Toy, rest: &str) -> Outcome {
        let arguments = format!("offline --patience 700ms --phase collect --state {} {rest}", self.state.display());
        run_against(toy.address, &arguments)
    }

    fn written(&self) -> Value {
        serde_json::from_slice(&std::fs::read(&self.state).unwrap()).unwrap()
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.state);
    }
}

fn figure(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.report().figures.into_iter().find(|figure| figure.name == name).map(|figure| figure.value)
}

#[test]
fn a_correct_broker_passes() {
    all_pass(&[
        offline!(""),
        offline!("--qos 2"),
        offline!("--mqtt 3.1.1"),
        offline!("--qos 2 --mqtt 3.1.1 --window 1"),
        offline!("--shape fan-out"),
        offline!("--shape fan-out --qos 2 --window 100"),
        offline!("--payload 24 --topic-prefix shared/with/others"),
        "offline --subscribers 3 --publishers 7 --messages 500",
        "offline --subscribers 7 --publishers 3 --messages 500 --payload 5000",
        "offline --subscribers 200 --publishers 1 --messages 100",
        "offline --subscribers 1 --publishers 200 --messages 100 --connect-concurrency 3",
    ]);
}

#[test]
fn what_is_lost_doubled_disordered_or_forgotten_is_found() {
    all_found(&[
        fault(Faults { lose_queued: once(77), ..CORRECT() }, offline!(""), &["lost"]),
        fault(Faults { lose_queued: from(300), ..CORRECT() }, offline!("--qos 2"), &["lost"]),
        fault(Faults { lose_queued: once(77), ..CORRECT() }, offline!("--shape fan-out"), &["lost"]),
        fault(Faults { repeat_queued: once(77), ..CORRECT() }, offline!(""), &["repeated"]),
        fault(Faults { repeat_queued: once(500), ..CORRECT() }, offline!(""), &["repeated"]),
        permitted(Faults { repeat_queued_with_dup: once(77), ..CORRECT() }, offline!(""), &["repeated_dup"]),
        fault(Faults { repeat_queued_with_dup: once(77), ..CORRECT() }, offline!("--qos 2"), &["repeated"]),
        fault(Faults { swap_queued: once(77), ..CORRECT() }, offline!(""), &["disordered"]),
        fault(Faults { swap_queued: once(77), ..CORRECT() }, offline!("--qos 2"), &["disordered"]),
        fault(Faults { forget_session: once(3), ..CORRECT() }, offline!(""), &["sessions_absent"]),
        fault(Faults { forget_session: from(1), ..CORRECT() }, offline!("--mqtt 3.1.1"), &["sessions_absent"]),
    ]);
}

#[test]
fn what_is_not_acknowledged_is_told_and_need_not_arrive() {
    all_found(&[
        fault(Faults { no_ack: once(77), ..CORRECT() }, offline!(""), &["unacknowledged"]),
        fault(Faults { no_ack: once(77), ..CORRECT() }, offline!("--qos 2"), &["unacknowledged"]),
        fault(Faults { refuse_publish: once(77), ..CORRECT() }, offline!(""), &["refused"]),
        fault(Faults { refuse_publish: once(77), ..CORRECT() }, offline!("--shape fan-out --qos 2"), &["refused"]),
        fault(Faults { ack_twice: once(77), ..CORRECT() }, offline!(""), &["disconnected"]),
        fault(Faults { ack_twice: once(77), ..CORRECT() }, offline!("--shape fan-out"), &["disconnected"]),
    ]);
}

#[test]
fn a_message_that_is_lost_is_named() {
    let outcome = run_with(Faults { lose_queued: once(7), ..CORRECT() }, offline!("--shape fan-out --patience 300ms"));
    let report = outcome.report();
    let lost = report.checks.iter().find(|check| check.name == "lost").unwrap();
    assert_eq!(lost.count, 1, "{lost:?}");
    assert!(lost.examples[0].contains("misses 1 of publisher"), "{lost:?}");
}

#[test]
fn a_lost_connection_does_not_make_messages_seem_lost() {
    // While they publish, and while they come back.
    all_found(&[60, 200, 560].map(|packets| {
        fault(Faults { reset_connection: once(packets), ..CORRECT() }, offline!(""), &["disconnected"])
    }));
}

#[test]
fn two_runs_find_what_one_finds() {
    let stories: [(&str, Faults, &[&str]); 5] = [
        ("nothing", CORRECT(), &[]),
        ("lost", Faults { lose_queued: once(77), ..CORRECT() }, &["lost"]),
        ("doubled", Faults { repeat_queued: once(77), ..CORRECT() }, &["repeated"]),
        ("disordered", Faults { swap_queued: once(77), ..CORRECT() }, &["disordered"]),
        ("forgotten", Faults { forget_session: from(10), ..CORRECT() }, &["sessions_absent"]),
    ];
    for (name, faults, violated) in stories {
        for (version, options) in [("5", "--qos 2 --mqtt 5"), ("3.1.1", "--shape fan-out --mqtt 3.1.1")] {
            let halves = Halves::new(&format!("{name}-{version}"));
            let toy = Toy::start(faults);
            let published = halves.publish(&toy, options);
            assert_eq!(published.code, Some(0), "{name}: {published:?}");
            assert_eq!(figure(&published, "acknowledged"), Some(500.0));
            let collected = halves.collect(&toy, &format!("--mqtt {version}"));
            assert_eq!(collected.violated(), violated, "{name}: {collected:?}");
            assert_eq!(collected.code, Some(i32::from(!violated.is_empty())), "{name}: {collected:?}");
        }
    }
}

#[test]
fn the_state_says_what_was_not_acknowledged_and_that_may_come_or_not() {
    for (name, faults, in_doubt) in [
        ("unacknowledged", Faults { no_ack: once(77), ..CORRECT() }, 1.0),
        ("refused", Faults { refuse_publish: once(77), ..CORRECT() }, 0.0),
    ] {
        let halves = Halves::new(name);
        let toy = Toy::start(faults);
        let published = halves.publish(&toy, "");
        assert_eq!((published.code, published.violated()), (Some(1), vec![name.to_owned()]), "{published:?}");
        let streams = halves.written()["streams"].as_array().unwrap().clone();
        let sum = |field: &str| streams.iter().map(|stream| stream[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("published"), sum("acknowledged") + 1);
        let doubted = streams.iter().map(|stream| stream["unacknowledged"].as_array().unwrap().len());
        assert_eq!(doubted.sum::<usize>(), 1);
        let collected = halves.collect(&toy, "");
        assert_eq!(collected.code, Some(0), "{collected:?}");
        assert_eq!(figure(&collected, "delivered_in_doubt"), Some(in_doubt));
    }
}

#[test]
fn a_broker_that_ends_while_it_acknowledges_leaves_a_state() {
    let halves = Halves::new("ended");
    let begun = Instant::now();
    let published = halves.publish(&Toy::start(Faults { die: once(300), ..CORRECT() }), "--patience 60s");
    assert!(begun.elapsed() < Duration::from_secs(20), "nobody is left to wait for");
    assert_eq!(published.violated(), ["disconnected"], "{published:?}");
    assert!(halves.written()["streams"].as_array().unwrap().iter().any(|stream| stream["last"].is_u64()));
    // Another broker, which knows none of them: one that kept nothing.
    let collected = halves.collect(&Toy::start(CORRECT()), "");
    assert_eq!((collected.code, collected.violated()), (Some(1), vec!["sessions_absent".to_owned()]), "{collected:?}");
}

#[test]
fn a_session_that_is_there_already_is_told() {
    let halves = Halves::new("there");
    let toy = Toy::start(CORRECT());
    assert_eq!(halves.publish(&toy, "--client-prefix same-").code, Some(0));
    let outcome = run_against(toy.address, offline!("--client-prefix same-"));
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("has a Session already: choose another --client-prefix"), "{outcome:?}");
}

#[test]
fn sessions_are_ended_afterwards() {
    let toy = Toy::start(CORRECT());
    for _ in 0..2 {
        let outcome = run_against(toy.address, offline!("--client-prefix same- --topic-prefix same"));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}

#[test]
fn the_disk_is_measured_beside_it() {
    let directory = std::env::temp_dir();
    let outcome = run_with(CORRECT(), &format!("{} {}", offline!("--disk"), directory.display()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let [acknowledged, disk, times] = ["acknowledged_per_second", "disk_appends_per_second", "acknowledged_times_disk"]
        .map(|name| figure(&outcome, name).unwrap());
    assert!(disk > 0.0 && (times - acknowledged / disk).abs() < 1e-9, "{acknowledged} / {disk} = {times}");
    let nowhere = run(offline!("--disk /no/such/folder"));
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.stderr.contains("--disk: cannot create /no/such/folder"), "{nowhere:?}");
}

#[test]
fn it_ends_in_time_and_says_what_it_left_out() {
    let outcome = run_with(CORRECT(), "offline --publishers 2 --subscribers 2 --messages 4000000 --duration 300ms");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let published = figure(&outcome, "published").unwrap();
    assert!(published > 0.0 && published < 4e6 && figure(&outcome, "delivered") == Some(published), "{outcome:?}");
    let warnings = outcome.report().warnings.join("\n");
    assert!(warnings.contains("of 4000000 messages were published in the time there was"), "{warnings}");
}

#[test]
fn queues_are_not_asked_for_more_than_is_usual() {
    let outcome = run_with(CORRECT(), "offline --publishers 3 --subscribers 2");
    assert_eq!((outcome.code, figure(&outcome, "acknowledged")), (Some(0), Some(2000.0)), "{outcome:?}");
    let outcome = run_with(CORRECT(), "offline --publishers 3 --subscribers 2 --shape fan-out");
    assert_eq!((outcome.code, figure(&outcome, "acknowledged")), (Some(0), Some(1000.0)), "{outcome:?}");
}

#[test]
fn a_broker_that_keeps_nothing_loses_everything() {
    let outcome = run_with(Faults { lose_queued: from(1), ..CORRECT() }, offline!("--patience 300ms"));
    let report = outcome.report();
    let lost = report.checks.iter().find(|check| check.name == "lost").unwrap();
    assert_eq!((outcome.code, lost.count), (Some(1), 500));
    assert_eq!(figure(&outcome, "deliveries_per_second"), Some(0.0));
}
