//! Every scenario over TLS, WebSocket and both, against servers that others wrote.

use std::sync::Arc;

use crate::entrance::{Certificate, Entrance, Wrong};
use crate::faults::{Faults, once};
use crate::net::Toy;
use crate::run::{Outcome, at_once, run_against, with_patience};

const CORRECT: fn() -> Faults = Faults::default;

/// How clients get in: arguments, and the entrance they are for.
fn ways(certificate: &Arc<Certificate>) -> [(String, Entrance); 3] {
    let ca = certificate.file.display();
    let tls = Entrance { certificate: Some(Arc::clone(certificate)), ..Entrance::default() };
    [
        (format!("--transport tls --ca {ca}"), tls.clone()),
        ("--transport ws".into(), Entrance { has_web_socket: true, ..Entrance::default() }),
        (format!("--transport wss --ca {ca}"), Entrance { has_web_socket: true, ..tls }),
    ]
}

fn run_behind(entrance: Entrance, faults: Faults, arguments: &str) -> Outcome {
    let toy = Toy::start_behind(entrance, faults);
    run_against(toy.address, arguments)
}

#[test]
fn every_scenario_passes_over_every_transport() {
    let certificate = Certificate::new("scenarios");
    let scenarios = [
        "connect --clients 50 --idle 10ms --will",
        "publish --publishers 5 --qos 2 --duration 200ms --warmup 0",
        "publish --publishers 2 --payload 100000 --window 3 --duration 200ms --warmup 0",
        "publish --publishers 5 --rate 500 --qos 1 --duration 300ms --warmup 0 --mqtt 3.1.1",
        "storm --clients 50 --before 100ms --background 200 --background-qos 1",
        "storm --clients 20 --how silent --keep-alive 1s",
        "churn --clients 20 --rate 200 --duration 250ms --before 50ms --will",
        "retained --topics 50",
        "offline --messages 200 --subscribers 5 --publishers 5",
    ];
    let ways = ways(&certificate);
    let pieces = [None, Some(7)];
    let stories: Vec<_> = ways
        .iter()
        .flat_map(|way| scenarios.iter().flat_map(move |scenario| pieces.map(|piece| (way, *scenario, piece))))
        .filter(|(_, scenario, piece)| piece.is_none() || !scenario.contains("100000"))
        .collect();
    at_once(&stories, |((options, entrance), scenario, piece)| {
        let entrance = Entrance { piece: *piece, ..entrance.clone() };
        let arguments = with_patience(&format!("{scenario} {options}"), "10s");
        let outcome = run_behind(entrance, CORRECT(), &arguments);
        let is_right = outcome.code == Some(0) && outcome.violated().is_empty();
        (!is_right).then(|| format!("{arguments}, pieces {piece:?}\n    {}", outcome.shown()))
    });
}

#[test]
fn faults_are_found_behind_every_entrance() {
    let certificate = Certificate::new("faults");
    let publish = "publish --publishers 2 --rate 100 --qos 1 --duration 300ms --warmup 0";
    let faults = [
        (Faults { drop_message: once(5), ..CORRECT() }, publish, &["lost"][..]),
        (Faults { flip_last_byte: once(5), ..CORRECT() }, publish, &["lost", "altered"]),
        (Faults { drop_will: once(5), ..CORRECT() }, "storm --clients 20", &["wills_lost"]),
        (Faults { reset_connection: once(5), ..CORRECT() }, "connect --clients 20 --idle 100ms", &["disconnected"]),
    ];
    let ways = ways(&certificate);
    let stories: Vec<_> = ways.iter().flat_map(|way| faults.iter().map(move |fault| (way, fault))).collect();
    at_once(&stories, |((options, entrance), (faults, arguments, violated))| {
        let outcome = run_behind(entrance.clone(), *faults, &format!("{arguments} {options} --patience 10s"));
        let is_right = outcome.code == Some(1) && outcome.violated() == *violated;
        (!is_right).then(|| format!("{arguments} {options}, expected {violated:?}: {}", outcome.shown()))
    });
}

#[test]
fn an_entrance_that_lets_nobody_in_is_told() {
    let certificate = Certificate::new("refused");
    let [(tls, tls_entrance), (ws, ws_entrance), (wss, wss_entrance)] = ways(&certificate);
    let with = |entrance: &Entrance, fault| Entrance { fault: Some(fault), ..entrance.clone() };
    let plain = Entrance::default();
    let other = Certificate::new("other");
    let stories = [
        (with(&ws_entrance, Wrong::Forbids), ws.clone(), "HTTP 403 Forbidden to the upgrade of /mqtt"),
        (with(&wss_entrance, Wrong::Forbids), wss.clone(), "HTTP 403 Forbidden to the upgrade of /mqtt"),
        (ws_entrance.clone(), format!("{ws} --ws-path /other"), "to the upgrade of /other"),
        (with(&ws_entrance, Wrong::NoSubprotocol), ws.clone(), "the subprotocol None instead of mqtt"),
        (with(&wss_entrance, Wrong::Text), wss.clone(), "a frame that is not binary"),
        (with(&ws_entrance, Wrong::Text), ws.clone(), "a frame that is not binary"),
        (tls_entrance.clone(), format!("--transport tls --ca {}", other.file.display()), "certificate does not hold"),
        (tls_entrance.clone(), format!("{tls} --tls-name example.org"), "certificate does not hold"),
        (plain.clone(), tls.clone(), "during the TLS handshake"),
        (plain, ws.clone(), "before it answered the WebSocket's upgrade"),
    ];
    at_once(&stories, |(entrance, options, expected)| {
        let arguments = format!("publish --publishers 1 --duration 100ms {options} --patience 10s");
        let outcome = run_behind(entrance.clone(), CORRECT(), &arguments);
        let is_right = outcome.code == Some(2) && outcome.stderr.contains(expected);
        (!is_right).then(|| format!("{arguments}, expected {expected}: {}", outcome.shown()))
    });
    let insecure = run_behind(tls_entrance, CORRECT(), "connect --clients 3 --idle 0 --transport tls --insecure");
    assert_eq!(insecure.code, Some(0), "{insecure:?}");
}

#[test]
fn an_orderly_close_by_the_broker_is_a_lost_connection() {
    let certificate = Certificate::new("closes");
    for (options, entrance) in ways(&certificate) {
        let entrance = Entrance { fault: Some(Wrong::Closes), ..entrance };
        let outcome = run_behind(entrance, CORRECT(), &format!("connect --clients 3 --idle 300ms {options}"));
        assert_eq!((outcome.code, outcome.violated()), (Some(1), vec!["disconnected".into()]), "{outcome:?}");
    }
}

#[test]
fn handshakes_are_counted_and_resumed_where_it_is_asked_for() {
    let certificate = Certificate::new("handshakes");
    let [(tls, entrance), ..] = ways(&certificate);
    let count = |outcome: &Outcome, name: &str| {
        let figures = outcome.report().figures;
        figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    };
    let connect = "connect --clients 20 --idle 0 --persistent --connect-concurrency 1";
    let outcome = run_behind(entrance.clone(), CORRECT(), &format!("{connect} {tls}"));
    assert_eq!(count(&outcome, "tls_handshakes"), Some(40.0));
    assert_eq!(count(&outcome, "tls_handshakes_resumed"), Some(0.0));
    let outcome = run_behind(entrance, CORRECT(), &format!("{connect} {tls} --resume"));
    assert_eq!(count(&outcome, "tls_handshakes"), Some(40.0));
    assert_eq!(count(&outcome, "tls_handshakes_resumed"), Some(39.0));
}
