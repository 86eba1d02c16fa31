//! `publish` with a broker that does nothing wrong, and with one that does one thing wrong.

use std::time::{Duration, Instant};

use crate::faults::{Faults, from, once};
use crate::run::{all_found, all_pass, fault, permitted, run_with};

/// A short run on a schedule; other arguments follow.
macro_rules! publish {
    ($rest:literal) => {
        concat!("publish --warmup 50ms --duration 250ms --rate 1000 ", $rest)
    };
}

const CORRECT: fn() -> Faults = Faults::default;

#[test]
fn every_shape_level_and_version_passes_as_a_closed_loop() {
    let mut runs = Vec::new();
    for shape in ["pairs", "fan-in --publishers 20", "fan-out --subscribers 20", "shared --publishers 8"] {
        for qos in 0..=2 {
            for version in ["3.1.1", "5"] {
                runs.push(format!(
                    "publish --warmup 50ms --duration 250ms --shape {shape} --qos {qos} --mqtt {version} --window 5"
                ));
            }
        }
    }
    all_pass(&runs.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_shape_passes_on_a_schedule() {
    all_pass(&[
        publish!("--publishers 4 --shape pairs"),
        publish!("--publishers 4 --shape fan-in --qos 1 --subscribers 2"),
        publish!("--publishers 4 --shape fan-out --qos 2 --subscribers 9"),
        publish!("--publishers 4 --shape shared --qos 1 --mqtt 3.1.1"),
        publish!("--publishers 4 --payload 100000 --qos 1"),
        publish!("--publishers 4 --payload 24 --qos 2"),
    ]);
}

#[test]
fn there_are_as_many_clients_as_asked_for() {
    all_pass(&[
        publish!("--publishers 600"),
        publish!("--shape fan-in --publishers 600"),
        publish!("--shape shared --publishers 600"),
        publish!("--shape fan-out --subscribers 600"),
    ]);
}

#[test]
fn messages_that_are_lost_repeated_disordered_or_not_what_was_published_are_told() {
    all_found(&[
        fault(Faults { drop_message: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 1"), &["lost"]),
        fault(
            Faults { drop_message: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 2 --shape fan-in"),
            &["lost"],
        ),
        fault(
            Faults { drop_message: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 1 --shape shared"),
            &["lost"],
        ),
        permitted(Faults { drop_message: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 0"), &["lost"]),
        fault(Faults { drop_message: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 0 --strict"), &["lost"]),
        fault(Faults { repeat_message: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 0"), &["repeated"]),
        fault(
            Faults { repeat_message: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 1 --shape shared"),
            &["repeated"],
        ),
        fault(
            Faults { repeat_message: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 2 --shape fan-in"),
            &["repeated"],
        ),
        permitted(
            Faults { repeat_with_dup: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 1"),
            &["repeated_dup"],
        ),
        fault(Faults { repeat_with_dup: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 2"), &["repeated"]),
        fault(
            Faults { swap_messages: once(50), ..CORRECT() },
            publish!("--publishers 1 --shape fan-in --qos 1"),
            &["disordered"],
        ),
        fault(
            Faults { swap_messages: once(50), ..CORRECT() },
            publish!("--publishers 1 --shape shared --qos 2"),
            &["disordered"],
        ),
        fault(Faults { swap_messages: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 0"), &["disordered"]),
        fault(
            Faults { flip_last_byte: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 1"),
            &["lost", "altered"],
        ),
        fault(
            Faults { flip_first_byte: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 0"),
            &["lost", "altered"],
        ),
        permitted(
            Faults { flip_first_byte: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 0 --topic-prefix shared/with/others"),
            &["lost", "foreign"],
        ),
        fault(
            Faults { wrong_topic: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 1"),
            &["lost", "misdirected"],
        ),
        fault(
            Faults { wrong_qos: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 0"),
            &["lost", "misdirected"],
        ),
        fault(
            Faults { wrong_qos: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 2"),
            &["lost", "misdirected"],
        ),
        fault(
            Faults { retain_flag_on_live: once(50), ..CORRECT() },
            publish!("--publishers 4 --qos 1"),
            &["retain_flag"],
        ),
        fault(
            Faults { deliver_to_stranger: once(50), ..CORRECT() },
            publish!("--publishers 4 --shape pairs"),
            &["misdirected"],
        ),
        fault(
            Faults { deliver_to_stranger: once(50), ..CORRECT() },
            publish!("--publishers 4 --shape fan-in"),
            &["misdirected"],
        ),
        fault(
            Faults { deliver_to_stranger: once(50), ..CORRECT() },
            publish!("--publishers 4 --shape shared"),
            &["misdirected"],
        ),
    ]);
}

#[test]
fn acknowledgements_are_checked() {
    all_found(&[
        fault(Faults { no_ack: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 1"), &["unacknowledged"]),
        fault(Faults { no_ack: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 2"), &["unacknowledged"]),
        fault(Faults { refuse_publish: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 1"), &["lost"]),
        fault(Faults { refuse_publish: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 2"), &["lost"]),
        fault(Faults { ack_twice: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 1"), &["disconnected"]),
        fault(Faults { ack_twice: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 2"), &["disconnected"]),
    ]);
}

#[test]
fn a_message_that_the_broker_refuses_is_counted_once() {
    let outcome =
        run_with(Faults { refuse_publish: once(50), ..CORRECT() }, publish!("--publishers 4 --qos 1 --patience 300ms"));
    let report = outcome.report();
    let lost = report.checks.iter().find(|check| check.name == "lost").unwrap();
    assert_eq!(lost.count, 1, "{lost:?}");
    assert!(lost.examples.iter().any(|example| example.contains("quota")), "{lost:?}");
}

#[test]
fn a_broker_that_reads_no_more_loses_what_is_on_its_way() {
    let outcome = run_with(
        Faults { stall: from(400), ..CORRECT() },
        "publish --warmup 50ms --duration 2500ms --patience 300ms --window 10 --publishers 4 --qos 1",
    );
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.violated(), ["lost", "unacknowledged"]);
    let warnings = outcome.report().warnings.join("\n");
    assert!(warnings.contains("nothing arrived for 2s"), "{warnings}");
}

#[test]
fn an_open_loop_ends_with_what_it_has_not_sent() {
    let begun = Instant::now();
    // Far more than a broker of one thread and no haste takes.
    let outcome = run_with(CORRECT(), "publish --warmup 0 --duration 500ms --rate 5000000 --publishers 4 --qos 1");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(outcome.violated(), [""; 0]);
    let report = outcome.report();
    assert!(report.figures.iter().any(|figure| figure.name == "not_sent" && figure.value > 0.0), "{report:?}");
    assert!(report.warnings.join("\n").contains("were due and not sent"), "{:?}", report.warnings);
}

#[test]
fn nobody_waits_for_a_broker_that_is_gone() {
    let begun = Instant::now();
    for scenario in ["publish --warmup 0 --publishers 4 --qos 1", "soak --publishers 2"] {
        let arguments = format!("{scenario} --duration 5s --patience 60s");
        let outcome = run_with(Faults { die: from(500), ..CORRECT() }, &arguments);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn nothing_is_written_off_where_nothing_is_on_its_way() {
    let outcome = run_with(CORRECT(), "publish --warmup 0 --duration 4500ms --rate 0.2 --publishers 2");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.report().warnings, [""; 0]);
}
