//! `siege`: strangers flood a broker that bears it, or does not.

use std::sync::Arc;

use crate::entrance::{Certificate, Entrance};
use crate::faults::{Faults, once};
use crate::net::Toy;
use crate::run::{Outcome, all_found, fault, permitted, run_against};

/// A short siege of few clients; other arguments follow. Strangers with passwords come only where they are asked for.
macro_rules! siege {
    ($rest:literal) => {
        concat!(
            "siege --clients 40 --fraction 25% --before 200ms --duration 300ms --background 200 --background-pairs 2 \
             --strangers 127.0.1.1-127.0.1.9 --flood-rate 300 --flood-hold 200ms ",
            $rest
        )
    };
}

/// Strangers that say nothing a broker could take for MQTT, so that only good clients give it chances to go wrong.
const DUMB: &str = "--mix half-open=1,tls=1,http=1";

const CORRECT: fn() -> Faults = Faults::default;

fn figure(outcome: &Outcome, name: &str) -> f64 {
    let figures = outcome.report().figures;
    figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("{name}: {}", outcome.shown())).value
}

#[test]
fn a_correct_broker_passes_over_every_transport() {
    let certificate = Certificate::new("siege");
    let tls = Entrance { certificate: Some(Arc::clone(&certificate)), ..Entrance::default() };
    let ca = certificate.file.display();
    for (options, entrance) in [
        (String::new(), Entrance::default()),
        ("--mqtt 3.1.1".into(), Entrance::default()),
        (format!("--transport tls --ca {ca}"), tls.clone()),
        ("--transport ws".into(), Entrance { has_web_socket: true, ..Entrance::default() }),
        (format!("--transport wss --ca {ca}"), Entrance { has_web_socket: true, ..tls }),
    ] {
        let toy = Toy::start_behind(entrance, Faults { has_passwords: true, ..CORRECT() });
        let outcome = run_against(toy.address, &format!("{} {options}", siege!("--username good")));
        assert_eq!((outcome.code, outcome.violated()), (Some(0), vec![]), "{options}: {}", outcome.shown());
        assert_eq!(figure(&outcome, "wills_heard"), 10.0);
        let [attacks, refused, closed, reset, left] =
            ["", "_refused", "_closed", "_reset", "_left"].map(|part| figure(&outcome, &format!("attacks{part}")));
        assert!(attacks > 0.0 && left > 0.0, "{options}: {}", outcome.stdout);
        assert_eq!(attacks, refused + closed + reset + left, "{options}: {}", outcome.stdout);
        let latencies: Vec<_> =
            outcome.report().latencies.into_iter().map(|latency| (latency.name, latency.count)).collect();
        let names = ["background_before", "background_during", "background_cut", "will"];
        assert!(
            names.iter().all(|name| latencies.iter().any(|(other, count)| other == name && *count > 0)),
            "{latencies:?}"
        );
    }
}

#[test]
fn a_broker_that_lets_strangers_in_is_told() {
    // Where nobody needs a password there is nothing to let strangers into.
    all_found(&[permitted(CORRECT(), siege!("--mix password --patience 5s"), &["strangers_let_in"])]);
    all_found(&[fault(CORRECT(), siege!("--mix password --username good --patience 5s"), &["strangers_let_in"])]);
}

#[test]
fn strangers_with_passwords_come_through_all_layers() {
    let certificate = Certificate::new("passwords");
    let entrance =
        Entrance { certificate: Some(Arc::clone(&certificate)), has_web_socket: true, ..Entrance::default() };
    let toy = Toy::start_behind(entrance, CORRECT());
    let options = format!("--transport wss --ca {}", certificate.file.display());
    let flood = "--mix password --flood-rate 20 --flood-hold 1m --duration 2s";
    let arguments = format!("siege --clients 4 --fraction 50% --before 100ms --background 20 --username good {flood}");
    let outcome = run_against(toy.address, &format!("{arguments} {options}"));
    assert_eq!((outcome.code, outcome.violated()), (Some(1), vec!["strangers_let_in".into()]), "{}", outcome.shown());
}

#[test]
fn what_happens_to_good_clients_and_their_wills_is_judged() {
    let with = |faults, violated| (faults, violated);
    let stories = [
        with(Faults { drop_will: once(5), ..CORRECT() }, &["wills_lost"][..]),
        with(Faults { repeat_will: once(5), ..CORRECT() }, &["wills_repeated"]),
        with(Faults { will_after_disconnect: once(5), ..CORRECT() }, &["wills_of_connected"]),
        with(Faults { will_of_connected: once(5), ..CORRECT() }, &["wills_of_connected"]),
        // Ordinary traffic and the watcher say eight packets, then come 40 CONNECTs; what is after is ordinary traffic.
        with(Faults { close_connection: once(20), ..CORRECT() }, &["disconnected"]),
        with(Faults { drop_message: once(30), ..CORRECT() }, &["background_lost"]),
    ];
    let arguments = format!("{} {DUMB}", siege!("--background-qos 0 --strict --patience 5s"));
    let stories: Vec<_> = stories.iter().map(|(faults, violated)| fault(*faults, &arguments, violated)).collect();
    all_found(&stories);
}

#[test]
fn slow_ordinary_traffic_fails_where_it_is_asked_for() {
    let arguments = format!("{} {DUMB}", siege!("--p99-max 1ns --patience 5s"));
    all_found(&[fault(CORRECT(), &arguments, &["background_slow"])]);
}

#[test]
fn a_broker_that_refuses_good_clients_is_told_at_once() {
    let toy = Toy::start(Faults { has_passwords: true, ..CORRECT() });
    let outcome = run_against(toy.address, siege!(""));
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("CONNACK, not authorized"), "{outcome:?}");
}
