//! Brokers that cannot be measured, and machines that do not play along: exit code 2, and a message that helps.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::faults::{Faults, Limits, from, once};
use crate::run::{Outcome, at_once, run, run_against, run_with};
use crate::storm::storm;

const PUBLISH: &str = "publish --warmup 0 --duration 100ms --publishers 4";
const CHURN: &str = "churn --clients 4 --duration 100ms --will";
const SOAK: &str = "soak --duration 100ms --publishers 2";
const RETAINED: &str = "retained --topics 10";
const OFFLINE: &str = "offline --subscribers 4 --publishers 4 --messages 100";
const CORRECT: fn() -> Faults = Faults::default;

/// The run could not take place, for a reason that contains `expected`.
fn assert_cannot_run(outcome: &Outcome, expected: &str) {
    assert!(cannot_run(outcome, expected), "expected {expected:?}: {outcome:?}");
}

fn cannot_run(outcome: &Outcome, expected: &str) -> bool {
    outcome.code == Some(2) && outcome.stderr.contains(expected) && !outcome.stderr.contains("panicked")
}

/// With these faults and arguments, a run cannot take place, and says why.
fn none_can_run(stories: &[(Faults, &str)], expected: &str) {
    at_once(stories, |(faults, arguments)| {
        let outcome = run_with(*faults, &format!("{arguments} --patience 1s"));
        (!cannot_run(&outcome, expected)).then(|| format!("{arguments}: expected {expected:?}: {outcome:?}"))
    });
}

#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // Nobody, from here on.
    let begun = Instant::now();
    for scenario in ["storm", "publish", "churn --will", "soak", "retained", "offline"] {
        let outcome = run_against(free, &format!("{scenario} --patience 60s"));
        assert_cannot_run(&outcome, &format!("cannot connect to {free}: Connection refused"));
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "the patience is for brokers that may still answer");
}

#[test]
fn a_broker_that_refuses() {
    let refuses_all = Faults { refuse_connect: from(1), ..CORRECT() };
    let refuses_more = Faults { refuse_connect: from(100), ..CORRECT() };
    let stories = [(refuses_all, PUBLISH), (refuses_all, storm!("")), (refuses_more, storm!(""))];
    none_can_run(&stories, "CONNACK, not authorized");
    none_can_run(
        &[(refuses_all, CHURN), (refuses_all, SOAK), (refuses_all, RETAINED), (refuses_all, OFFLINE)],
        "CONNACK, not authorized",
    );
    let refuses_subscriptions = Faults { refuse_subscribe: from(1), ..CORRECT() };
    let scenarios = [PUBLISH, storm!(""), CHURN, SOAK, OFFLINE].map(|arguments| (refuses_subscriptions, arguments));
    none_can_run(&scenarios, "SUBACK, not authorized");
}

#[test]
fn a_broker_that_does_not_answer() {
    let silent = Faults { no_connack: from(1), ..CORRECT() };
    let silent_later = Faults { no_connack: from(100), ..CORRECT() };
    let silent_at_subscribe = Faults { no_suback: from(1), ..CORRECT() };
    let deaf = Faults { stall: from(1), ..CORRECT() };
    let stories = [
        (silent, PUBLISH),
        (silent, storm!("")),
        (silent, CHURN),
        (silent, SOAK),
        (silent, RETAINED),
        (silent, OFFLINE),
        (silent_later, storm!("")),
        (silent_at_subscribe, PUBLISH),
        (silent_at_subscribe, storm!("")),
        (silent_at_subscribe, CHURN),
        (silent_at_subscribe, SOAK),
        (silent_at_subscribe, OFFLINE),
        (deaf, PUBLISH),
    ];
    none_can_run(&stories, "did not answer every CONNECT and SUBSCRIBE for 1s (--patience)");
}

#[test]
fn a_broker_that_does_not_take_what_is_to_be_sent() {
    let limited = |limits| Faults { low_limits: Some(limits), ..CORRECT() };
    let large = "publish --warmup 0 --duration 100ms --publishers 4 --payload 1000";
    none_can_run(&[(limited(Limits::PacketBytes(1000)), large)], "at most 1000 bytes (Maximum Packet Size); a payload");
    let qos_1 = "publish --warmup 0 --duration 100ms --publishers 4 --qos 1";
    none_can_run(&[(limited(Limits::QoS0), qos_1), (limited(Limits::QoS0), OFFLINE)], "up to QoS 0 (Maximum QoS)");
    none_can_run(&[(limited(Limits::NoRetain), RETAINED)], "no retained messages");
}

#[test]
fn a_broker_that_breaks_the_protocol_at_once() {
    let outcome = run_with(Faults { connack_twice: once(3), ..CORRECT() }, PUBLISH);
    assert_cannot_run(&outcome, "a second CONNACK");
}

#[test]
fn connections_that_end_in_the_middle_are_told_with_their_reason() {
    for (faults, expected) in [
        (Faults { close_connection: once(300), ..CORRECT() }, "closed by the broker"),
        (Faults { reset_connection: once(300), ..CORRECT() }, "reset by the broker"),
    ] {
        let outcome =
            run_with(faults, "publish --warmup 0 --duration 500ms --publishers 4 --patience 300ms --rate 2000");
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let report = outcome.report();
        let check = report.checks.iter().find(|check| check.name == "disconnected").unwrap();
        assert_eq!((check.count, &check.examples[..]), (1, &[expected.to_owned()][..]));
    }
}

#[test]
fn something_that_is_no_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    for arguments in [PUBLISH, storm!("")] {
        let outcome = run_against(address, arguments);
        assert_cannot_run(&outcome, "client ");
        assert!(outcome.stderr.contains("flags"), "{outcome:?}");
    }
}

#[test]
fn files_that_cannot_be_written_are_told_before_the_run() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for option in ["--json", "--report"] {
        // Nobody listens, so a run that had begun would fail for another reason.
        let outcome = run(&format!("{PUBLISH} --broker {free} {option} /no/such/folder/file"));
        assert_cannot_run(&outcome, &format!("{option} /no/such/folder/file: No such file"));
        let outcome = run(&format!("compare --broker-command a=sh {option} /no/such/folder/file"));
        assert_cannot_run(&outcome, &format!("{option} /no/such/folder/file: No such file"));
    }
}

#[test]
fn a_run_that_could_not_take_place_leaves_no_empty_file() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = std::env::temp_dir().join(format!("loadgen-test-{}.json", std::process::id()));
    let outcome = run(&format!("{PUBLISH} --broker {free} --json {}", path.display()));
    assert_cannot_run(&outcome, "Connection refused");
    assert!(!path.exists());
}

#[test]
fn a_broker_process_that_does_not_exist() {
    const BEYOND_PID_MAX: &str = "4194305";
    let outcome = run(&format!("{PUBLISH} --pid {BEYOND_PID_MAX}"));
    assert_cannot_run(&outcome, "--pid: process 4194305");
}
