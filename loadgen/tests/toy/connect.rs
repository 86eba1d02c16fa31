//! `connect` with brokers that accept everybody, or not.

use crate::faults::{Faults, once};
use crate::run::{all_found, all_pass, fault};

/// A hundred clients that stay for a moment; other arguments follow.
macro_rules! connect {
    ($rest:literal) => {
        concat!("connect --clients 100 --idle 50ms ", $rest)
    };
}

const CORRECT: fn() -> Faults = Faults::default;

#[test]
fn a_correct_broker_passes() {
    all_pass(&[
        connect!(""),
        connect!("--mqtt 3.1.1 --will"),
        connect!("--will --persistent"),
        connect!("--persistent --mqtt 3.1.1"),
        connect!("--connect-rate 1000 --connect-concurrency 3"),
    ]);
}

#[test]
fn connections_that_are_not_accepted_or_not_kept_are_told() {
    all_found(&[
        fault(Faults { refuse_connect: once(5), ..CORRECT() }, connect!(""), &["refused"]),
        fault(Faults { no_connack: once(5), ..CORRECT() }, connect!(""), &["unanswered"]),
        fault(Faults { connack_twice: once(5), ..CORRECT() }, connect!(""), &["disconnected"]),
        fault(Faults { close_connection: once(5), ..CORRECT() }, connect!(""), &["disconnected"]),
        fault(Faults { reset_connection: once(5), ..CORRECT() }, connect!("--mqtt 3.1.1"), &["disconnected"]),
        fault(Faults { refuse_connect: once(150), ..CORRECT() }, connect!("--persistent"), &["not_removed"]),
    ]);
}
