//! `churn` and `soak`, where clients come and go.

use crate::faults::{Faults, from, once};
use crate::run::{all_found, all_pass, fault, permitted};

/// A short run with few clients; other arguments follow.
macro_rules! churn {
    ($rest:literal) => {
        concat!("churn --clients 20 --rate 200 --duration 250ms --before 50ms ", $rest)
    };
}

/// Everything at once, in a hurry.
macro_rules! soak {
    ($rest:literal) => {
        concat!(
            "soak --duration 1s --rate 300 --publishers 2 --churn-clients 10 --churn-rate 50 --stay 20ms --topics 10 \
             --update-rate 100 --look-interval 200ms --warmup 0 ",
            $rest
        )
    };
}

const CORRECT: fn() -> Faults = Faults::default;

#[test]
fn a_correct_broker_passes() {
    all_pass(&[
        churn!(""),
        churn!("--mqtt 3.1.1 --stay 50ms"),
        churn!("--will"),
        churn!("--will --clean-end 0 --stay 20ms --mqtt 3.1.1"),
        churn!("--will --clean-end 100%"),
        churn!("--will --background 300 --background-qos 2 --background-pairs 3"),
        soak!(""),
        soak!("--mqtt 3.1.1 --clean-end 0"),
    ]);
}

#[test]
fn wills_of_those_who_come_and_go_are_judged() {
    all_found(&[
        fault(Faults { drop_will: once(5), ..CORRECT() }, churn!("--will"), &["wills_lost"]),
        fault(Faults { repeat_will: once(5), ..CORRECT() }, churn!("--will"), &["wills_repeated"]),
        fault(Faults { will_after_disconnect: once(5), ..CORRECT() }, churn!("--will"), &["wills_of_connected"]),
        fault(Faults { will_of_connected: once(5), ..CORRECT() }, churn!("--will"), &["wills_of_connected"]),
        fault(
            Faults { will_of_connected: once(5), ..CORRECT() },
            churn!("--will --clean-end 0 --stay 20ms"),
            &["wills_of_connected"],
        ),
        fault(Faults { drop_will: once(5), ..CORRECT() }, soak!(""), &["wills_lost"]),
        fault(Faults { repeat_will: once(5), ..CORRECT() }, soak!(""), &["wills_repeated"]),
    ]);
}

#[test]
fn cycles_that_go_wrong_are_told() {
    all_found(&[
        fault(Faults { drop_message: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete", "cycle_messages_lost"]),
        fault(Faults { repeat_message: once(5), ..CORRECT() }, churn!("--stay 50ms"), &["cycle_messages_repeated"]),
        permitted(
            Faults { repeat_with_dup: once(5), ..CORRECT() },
            churn!("--stay 50ms"),
            &["cycle_messages_repeated_dup"],
        ),
        fault(
            Faults { flip_first_byte: once(5), ..CORRECT() },
            churn!(""),
            &["cycles_incomplete", "cycle_messages_lost", "cycle_messages_altered"],
        ),
        fault(
            Faults { wrong_qos: once(5), ..CORRECT() },
            churn!(""),
            &["cycles_incomplete", "cycle_messages_lost", "cycle_messages_misdirected"],
        ),
        fault(Faults { retain_flag_on_live: once(5), ..CORRECT() }, churn!(""), &["cycle_messages_retain_flag"]),
        fault(Faults { refuse_connect: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete"]),
        fault(Faults { no_connack: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete"]),
        fault(Faults { refuse_subscribe: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete"]),
        fault(Faults { no_suback: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete"]),
        fault(Faults { no_ack: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete"]),
        fault(Faults { ack_twice: once(5), ..CORRECT() }, churn!(""), &["cycles_incomplete"]),
        // A client that stays has nothing to do: connect, subscribe, publish and acknowledge come before. It is alone, since
        // the broker counts the packets of all.
        fault(
            Faults { close_connection: once(4), ..CORRECT() },
            "churn --clients 1 --rate 200 --duration 250ms --before 50ms --stay 200ms",
            &["cycles_disconnected"],
        ),
    ]);
}

#[test]
fn kept_messages_of_a_soak_are_judged() {
    all_found(&[
        fault(Faults { forget_retained: from(15), ..CORRECT() }, soak!(""), &["retained_stale"]),
        fault(Faults { no_retain_flag: once(5), ..CORRECT() }, soak!(""), &["retained_flag"]),
        fault(Faults { repeat_retained: once(5), ..CORRECT() }, soak!(""), &["retained_repeated"]),
        fault(Faults { forget_removal: once(5), ..CORRECT() }, soak!(""), &["retained_not_removed"]),
    ]);
}
