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

/// Runs it with a correct broker, and sends it `signal` after a second.
fn interrupted(arguments: &str, signal: Signal) -> Outcome {
    let toy = Toy::start(Faults::default());
    let begun = Instant::now();
    let outcome = run_until(&format!("{arguments} --broker {} --quiet", toy.address), |child| {
        std::thread::sleep(Duration::from_secs(1));
        send(child, signal);
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "{arguments}: {outcome:?}");
    outcome
}

#[test]
fn a_run_that_is_interrupted_says_so() {
    let stories = [
        ("storm --clients 300 --before 20s", "interrupted before the storm"),
        (storm!("--how stagger=20s"), "interrupted in the storm: "),
        (storm!("--how silent --keep-alive 9s"), "interrupted in the storm: 300 clients were cut, 0 of 300"),
        (storm!("--how stagger=20s --will-retain"), "300 of 300 topics of retained wills were emptied"),
        ("publish --duration 20s --publishers 2 --rate 100", "interrupted"),
        ("churn --clients 4 --duration 20s --will", "interrupted"),
    ];
    let signals = [Signal::INT, Signal::TERM];
    let all: Vec<_> = stories.iter().flat_map(|story| signals.map(|signal| (story, signal))).collect();
    at_once(&all, |((arguments, expected), signal)| {
        let outcome = interrupted(arguments, *signal);
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
        std::thread::sleep(Duration::from_millis(2500)); // By now the broker is deaf, so that nothing is removed.
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
        std::thread::sleep(Duration::from_secs(1));
        send(child, Signal::INT);
    });
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let watched = run_until(&format!("{} {arguments} --quiet --json -", storm!("")), |_| {});
    assert_eq!(watched.violated(), [""; 0], "a will that was set off would be retained, and heard at once");
}
