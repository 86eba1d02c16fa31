//! Enhanced authentication of clients that are connected (§4.12), and credentials that end.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{Auth, Packet, ProtocolVersion, QoS, ReasonCode};
use willowmq::security::Identity;
use willowmq::shard::{AuthenticationOutcome, AuthenticationRequest, ConnectionId};
use willowmq::timer::Moment;

const SEED: u64 = 0xA07;
const METHOD: &str = "SCRAM-SHA-256";

/// A client that has proven itself by [`METHOD`].
fn proven(sim: &mut Simulation) -> ClientHandle {
    sim.connect("a").user("alice").enhanced(METHOD, b"well done").will(Will::new("will", "gone")).accepted()
}

fn send_auth(sim: &mut Simulation, client: ClientHandle, reason: ReasonCode, method: &str, data: &[u8]) {
    let auth = Auth { reason, authentication_method: Some(method), authentication_data: Some(data), ..Auth::default() };
    sim.send(client, &Packet::Auth(auth));
    sim.settle();
}

fn re_authenticate(sim: &mut Simulation, client: ClientHandle) -> Option<(ConnectionId, AuthenticationRequest)> {
    send_auth(sim, client, ReasonCode::ReAuthenticate, METHOD, b"it is me");
    asked(sim, client)
}

/// What the shard of a client asks its owner.
fn asked(sim: &mut Simulation, client: ClientHandle) -> Option<(ConnectionId, AuthenticationRequest)> {
    let home = sim.clients[client.0].home.index();
    sim.shards[home].next_authentication()
}

fn answer(sim: &mut Simulation, client: ClientHandle, id: ConnectionId, outcome: AuthenticationOutcome) {
    let home = sim.clients[client.0].home.index();
    sim.shards[home].on_authenticated(sim.now, id, outcome);
    sim.settle();
}

fn done(user: &str, valid_until: Option<Moment>) -> AuthenticationOutcome {
    AuthenticationOutcome::Done { identity: Identity::of_user(user), valid_until, data: b"welcome".to_vec() }
}

fn auths(sim: &mut Simulation, client: ClientHandle) -> Vec<(ReasonCode, String, Vec<u8>)> {
    std::mem::take(&mut sim.clients[client.0].auths)
}

#[test]
fn mqtt_4_12_0_5_connack_names_the_method_and_brings_its_data() {
    let mut sim = Simulation::new(SEED, 2);
    let a = proven(&mut sim);
    assert_eq!(sim.clients[a.0].told.authentication, Some((METHOD.into(), b"well done".to_vec())));
    let b = sim.connect("b").user("bob").accepted();
    assert_eq!(sim.clients[b.0].told.authentication, None); // [MQTT-4.12.0-6]
}

#[test]
fn mqtt_4_12_0_2_and_3_a_re_authentication_may_take_several_steps() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("w", "t");
    let a = proven(&mut sim);
    let (id, request) = re_authenticate(&mut sim, a).expect("a step to judge");
    assert_eq!((&*request.method, &*request.data, request.is_first), (METHOD, &b"it is me"[..], true));
    assert_eq!(asked(&mut sim, a), None, "it is asked once");
    sim.publish(a, "t", "meanwhile", QoS::AtLeastOnce, false);
    assert_eq!(sim.payloads(watcher), ["meanwhile"], "a client may go on while it is being authenticated (§4.12.1)");
    answer(&mut sim, a, id, AuthenticationOutcome::Continue { data: b"prove it".to_vec() });
    assert_eq!(auths(&mut sim, a), [(ReasonCode::ContinueAuthentication, METHOD.into(), b"prove it".to_vec())]);
    sim.publish(a, "t", "still", QoS::AtLeastOnce, false);
    send_auth(&mut sim, a, ReasonCode::ContinueAuthentication, METHOD, b"here");
    let (again, request) = asked(&mut sim, a).expect("another step");
    assert_eq!((again, &*request.data, request.is_first), (id, &b"here"[..], false));
    answer(&mut sim, a, id, done("alice", None));
    assert_eq!(auths(&mut sim, a), [(ReasonCode::Success, METHOD.into(), b"welcome".to_vec())]);
    assert_eq!(sim.payloads(watcher), ["still"]);
    assert_eq!(sim.count(|stats| stats.re_authentications), 1);
    // And once more.
    let (id, request) = re_authenticate(&mut sim, a).expect("a step to judge");
    assert!(request.is_first);
    answer(&mut sim, a, id, done("alice", None));
    assert!(sim.is_connected(a));
}

#[test]
fn mqtt_4_12_1_2_a_failed_re_authentication_ends_the_connection() {
    for (reason, told) in [
        (ReasonCode::NotAuthorized, ReasonCode::NotAuthorized),
        (ReasonCode::ServerBusy, ReasonCode::ServerBusy),
        (ReasonCode::BadUserNameOrPassword, ReasonCode::NotAuthorized), // DISCONNECT may not say it. [MQTT-3.14.2-1]
    ] {
        let mut sim = Simulation::new(SEED, 2);
        let watcher = sim.subscriber("w", "will");
        let a = proven(&mut sim);
        let (id, _) = re_authenticate(&mut sim, a).expect("a step to judge");
        answer(&mut sim, a, id, AuthenticationOutcome::Refused { reason });
        assert_eq!(sim.clients[a.0].disconnected_with, Some(told));
        assert_eq!(sim.payloads(watcher), ["gone"]);
        assert_eq!(sim.count(|stats| stats.re_authentications_refused), 1);
    }
}

#[test]
fn nobody_becomes_another_user_on_a_connection() {
    let mut sim = Simulation::new(SEED, 2);
    let a = proven(&mut sim);
    let (id, _) = re_authenticate(&mut sim, a).expect("a step to judge");
    answer(&mut sim, a, id, done("mallory", None));
    assert_eq!(sim.clients[a.0].disconnected_with, Some(ReasonCode::NotAuthorized));
}

#[test]
fn mqtt_4_12_0_7_and_4_12_1_1_auth_out_of_its_place_is_a_protocol_error() {
    let (continued, anew) = (ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate);
    // Reason Code and method, after what else was sent.
    for (before, reason, method) in [
        (None, anew, "GS2-KRB5"),
        (None, continued, METHOD),
        (None, ReasonCode::Success, METHOD),
        (Some(anew), anew, METHOD),
        (Some(anew), continued, METHOD),
    ] {
        let mut sim = Simulation::new(SEED, 2);
        let a = proven(&mut sim);
        before.into_iter().for_each(|before| send_auth(&mut sim, a, before, METHOD, b""));
        send_auth(&mut sim, a, reason, method, b"");
        assert_eq!(
            sim.clients[a.0].disconnected_with,
            Some(ReasonCode::ProtocolError),
            "{before:?} {reason:?} {method}"
        );
    }
    let mut sim = Simulation::new(SEED, 2);
    let b = sim.connect("b").user("bob").accepted();
    send_auth(&mut sim, b, anew, METHOD, b"");
    assert_eq!(sim.clients[b.0].disconnected_with, Some(ReasonCode::ProtocolError));
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let mut sim = Simulation::new(SEED, 2);
    let a = proven(&mut sim);
    send_auth(&mut sim, a, ReasonCode::ReAuthenticate, METHOD, b"");
    sim.cut(a);
    assert_eq!(asked(&mut sim, a), None, "nobody is asked about a client that is gone");
    let a = proven(&mut sim);
    let (id, _) = re_authenticate(&mut sim, a).expect("a step to judge");
    sim.cut(a);
    let a = proven(&mut sim);
    answer(&mut sim, a, id, AuthenticationOutcome::Refused { reason: ReasonCode::NotAuthorized });
    assert!(sim.is_connected(a), "another connection of the same client");
    // Nor does one that nobody has asked for.
    let id = sim.clients[a.0].connection.expect("it is connected");
    answer(&mut sim, a, id, AuthenticationOutcome::Refused { reason: ReasonCode::NotAuthorized });
    assert!(sim.is_connected(a));
}

#[test]
fn mqtt_3_1_2_24_auth_is_no_larger_than_the_client_takes() {
    let mut sim = Simulation::new(SEED, 1);
    let a = sim.connect("a").user("alice").enhanced(METHOD, b"").packet_bytes_max(200).accepted();
    let (id, _) = re_authenticate(&mut sim, a).expect("a step to judge");
    answer(&mut sim, a, id, AuthenticationOutcome::Continue { data: vec![0; 300] });
    assert!(auths(&mut sim, a).is_empty());
    assert_eq!(sim.clients[a.0].disconnected_with, Some(ReasonCode::PacketTooLarge));
}

#[test]
fn will_is_published_when_the_credentials_of_its_client_end() {
    for (version, told) in
        [(ProtocolVersion::V5, Some(ReasonCode::MaximumConnectTime)), (ProtocolVersion::V3_1_1, None)]
    {
        let mut sim = Simulation::new(SEED, 2);
        let watcher = sim.subscriber("w", "will");
        let ends = sim.now + Duration::from_secs(100);
        let will = Will::new("will", "gone");
        let a = sim.connect("a").version(version).user("alice").valid_until(ends).will(will).accepted();
        sim.advance(Duration::from_millis(99_900));
        assert!(sim.is_connected(a));
        sim.advance(Duration::from_millis(200));
        assert!(!sim.is_connected(a));
        assert_eq!(sim.clients[a.0].disconnected_with, told);
        assert_eq!(sim.payloads(watcher), ["gone"]);
        assert_eq!(sim.count(|stats| stats.credentials_ended), 1);
    }
}

#[test]
fn credentials_that_have_ended_already_are_good_for_nothing() {
    let mut sim = Simulation::new(SEED, 1);
    sim.advance(Duration::from_secs(10));
    let a = sim.connect("a").valid_until(Moment::ZERO).accepted();
    sim.advance(Duration::from_millis(200));
    assert_eq!(sim.clients[a.0].disconnected_with, Some(ReasonCode::MaximumConnectTime));
}

#[test]
fn a_re_authentication_renews_what_ends() {
    let mut sim = Simulation::new(SEED, 2);
    let ends = |sim: &Simulation, seconds| sim.now + Duration::from_secs(seconds);
    let at = ends(&sim, 100);
    let a = sim.connect("a").user("alice").enhanced(METHOD, b"").valid_until(at).accepted();
    sim.advance(Duration::from_secs(90));
    let (id, _) = re_authenticate(&mut sim, a).expect("a step to judge");
    let at = ends(&sim, 100);
    answer(&mut sim, a, id, done("alice", Some(at)));
    sim.advance(Duration::from_secs(99));
    assert!(sim.is_connected(a));
    let (id, _) = re_authenticate(&mut sim, a).expect("a step to judge");
    answer(&mut sim, a, id, done("alice", None));
    sim.advance(Duration::from_secs(1000));
    assert!(sim.is_connected(a), "for good");
}
