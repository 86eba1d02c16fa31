//! Ctrl-C and SIGTERM: a run ends early, tidily, and says what was interrupted.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::faults::Faults;
use crate::net::Toy;
use crate::run::{Outcome, at_once, run_until};
use crate::storm::storm;

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Runs it with a correct broker, and sends it `signal` once so many connections were accepted, and so many have ended.
fn interrupted(arguments: &str, (accepted, ended): (u64, u64), signal: Signal) -> Outcome {
    let toy = Toy::start(Faults::default());
    let begun = Instant::now();
    let outcome = run_until(&format!("{arguments} --broker {} --quiet", toy.address), |child| {
        toy.await_connections(accepted, ended);
        send(child, signal);
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{arguments}: {outcome:?}");
    outcome
}

#[test]
fn a_run_that_is_interrupted_says_so() {
    let stories = [
        ("storm --clients 300 --before 20s", (301, 0), "interrupted before the storm"),
        (storm!("--how stagger=20s"), (301, 1), "interrupted in the storm: "),
        (storm!("--how stagger=20s --will-retain"), (301, 1), "300 of 300 topics of retained wills were emptied"),
        (storm!("--how silent --keep-alive 9s"), (301, 0), "interrupted"),
        ("publish --duration 20s --publishers 2 --rate 100", (4, 0), "interrupted"),
        ("churn --clients 4 --duration 20s --will", (4, 1), "interrupted"),
        (
            "offline --subscribers 4 --publishers 4 --messages 4000000 --window 1",
            (8, 4),
            "interrupted; the Sessions of this run are ended",
        ),
    ];
    let signals = [Signal::INT, Signal::TERM];
    let all: Vec<_> = stories.iter().flat_map(|story| signals.map(|signal| (story, signal))).collect();
    at_once(&all, |((arguments, connections, expected), signal)| {
        let outcome = interrupted(arguments, *connections, *signal);
        let is_right = outcome.code == Some(2) && outcome.stderr.contains(expected);
        (!is_right).then(|| format!("{arguments}, {signal:?}: expected {expected:?}: {outcome:?}"))
    });
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let toy = Toy::start(Faults { stall: crate::faults::once(320), ..Faults::default() });
    let arguments = storm!("--how stagger=20s --will-retain --broker");
    let begun = Instant::now();
    let outcome = run_until(&format!("{arguments} {} --quiet", toy.address), |child| {
        toy.await_stall(); // So that nothing is removed.
        send(child, Signal::TERM);
        std::thread::sleep(Duration::from_millis(1000));
        send(child, Signal::TERM);
    });
    assert!(outcome.code.is_none() && begun.elapsed() < Duration::from_secs(5), "{outcome:?}");
}

#[test]
fn an_interrupt_sets_off_no_wills() {
    let toy = Toy::start(Faults::default());
    let arguments = format!("--topic-prefix p --will-retain --broker {}", toy.address);
    let outcome = run_until(&format!("storm --clients 300 --before 20s --quiet {arguments}"), |child| {
        toy.await_connections(301, 0);
        send(child, Signal::INT);
    });
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let watched = run_until(&format!("{} {arguments} --quiet --json -", storm!("")), |_| {});
    assert_eq!(watched.violated(), [""; 0], "a will that was set off would be retained, and heard at once");
}
