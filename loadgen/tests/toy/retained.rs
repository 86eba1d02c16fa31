//! `retained` with brokers that keep what they should, or do not.

use std::io::Read;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::faults::{Faults, once};
use crate::net::Toy;
use crate::run::{all_found, all_pass, fault};

/// A short run with few topics; other arguments follow.
macro_rules! retained {
    ($rest:literal) => {
        concat!("retained --topics 100 --rounds 1 --readers 4 --patience 400ms ", $rest)
    };
}

const CORRECT: fn() -> Faults = Faults::default;

#[test]
fn a_correct_broker_passes() {
    all_pass(&[
        retained!(""),
        retained!("--mqtt 3.1.1"),
        retained!("--qos 0"),
        retained!("--qos 2"),
        retained!("--qos 2 --mqtt 3.1.1 --publishers 1 --window 1"),
        retained!("--filter {prefix}/+/state --payload 5000"),
        retained!("--filter shared/with/# --topic-prefix shared/with/others"),
    ]);
}

#[test]
fn what_is_kept_or_sent_wrongly_is_found() {
    all_found(&[
        fault(Faults { forget_retained: once(5), ..CORRECT() }, retained!(""), &["retained_lost"]),
        fault(Faults { forget_retained: once(5), ..CORRECT() }, retained!("--qos 0"), &["retained_lost"]),
        fault(Faults { forget_retained: once(105), ..CORRECT() }, retained!(""), &["retained_stale"]),
        fault(Faults { forget_removal: once(5), ..CORRECT() }, retained!(""), &["retained_not_removed"]),
        // The first hundred are looked up one by one, the next with one subscription.
        fault(Faults { repeat_retained: once(50), ..CORRECT() }, retained!(""), &["retained_repeated"]),
        fault(Faults { repeat_retained: once(150), ..CORRECT() }, retained!("--qos 2"), &["retained_repeated"]),
        fault(Faults { no_retain_flag: once(50), ..CORRECT() }, retained!(""), &["retained_flag"]),
        fault(Faults { flip_retained: once(150), ..CORRECT() }, retained!(""), &["retained_lost", "retained_altered"]),
        fault(
            Faults { retained_at_wrong_topic: once(150), ..CORRECT() },
            retained!(""),
            &["retained_lost", "retained_misdirected"],
        ),
    ]);
}

#[test]
fn what_is_not_answered_is_told() {
    all_found(&[
        fault(Faults { refuse_publish: once(5), ..CORRECT() }, retained!(""), &["refused"]),
        fault(Faults { no_ack: once(5), ..CORRECT() }, retained!(""), &["refused"]),
        fault(Faults { refuse_subscribe: once(102), ..CORRECT() }, retained!(""), &["retained_lost", "refused"]),
        fault(Faults { no_suback: once(50), ..CORRECT() }, retained!(""), &["refused"]),
        fault(Faults { ack_twice: once(5), ..CORRECT() }, retained!(""), &["disconnected"]),
    ]);
}

#[test]
fn a_lost_connection_does_not_make_messages_seem_lost() {
    // While messages are stored, looked up, and replaced.
    all_found(&[50, 200, 400].map(|packets| {
        fault(Faults { reset_connection: once(packets), ..CORRECT() }, retained!(""), &["disconnected"])
    }));
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let toy = Toy::start(CORRECT());
    let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq-loadgen"))
        .args(["retained", "--quiet", "--topics", "2000", "--rounds", "1000", "--broker", &toy.address.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    toy.await_connections(4, 0);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(stderr.contains("interrupted; the retained messages of this run are removed"), "{stderr}");
}
