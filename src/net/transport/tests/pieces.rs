//! However bytes are cut on their way, they say the same; and whatever comes, it harms nobody.

use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};

use super::material::names;
use super::websocket::{BINARY, CONTINUE, FIN, PING, frame, request};
use super::*;
use crate::config::ClientCertificates;

/// The MQTT of a session, in whatever kind of frames there are.
fn inside(kind: ListenerKind) -> Vec<u8> {
    match kind {
        ListenerKind::Ws | ListenerKind::Wss => {
            let (first, second) = MQTT.split_at(7);
            let mut bytes = request("/mqtt", "");
            bytes.extend(frame(BINARY, first));
            bytes.extend(frame(FIN | PING, b"are you there"));
            bytes.extend(frame(FIN | CONTINUE, second));
            bytes
        }
        _ => MQTT.to_vec(),
    }
}

/// All MQTT of a client that begins with a PROXY header, speaks TLS where the listener does, and then says `inside`.
fn session(entrance: &Arc<Entrance>, tls: Option<&Arc<ClientConfig>>, inside: &[u8], cut: Cut) -> (Vec<u8>, usize) {
    let mut line = Line::to(entrance);
    line.cut = cut;
    line.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 8883\r\n").unwrap();
    match tls {
        None => line.send(inside).unwrap(),
        Some(config) => {
            let mut client = TlsClient::new(config, "broker.example.org");
            client.say(inside);
            client.talk(&mut line).unwrap();
        }
    }
    assert!(line.layers.is_complete());
    assert_eq!(line.layers.source(), Some("192.0.2.7:40000".parse().unwrap()));
    (line.mqtt, line.sent)
}

/// [MQTT-6.0.0-2] Packets need not begin or end where messages or frames do.
#[test]
fn mqtt_6_0_0_2_a_session_may_be_cut_anywhere() {
    let folder = Folder::new();
    let issued = folder.authority.issue(&names("camera", &[]));
    for kind in [ListenerKind::Tcp, ListenerKind::Ws, ListenerKind::Tls, ListenerKind::Wss] {
        let mut listener = Listener { kind, ..Listener::default() };
        let has_tls = matches!(kind, ListenerKind::Tls | ListenerKind::Wss);
        let mut versions = vec![None];
        if has_tls {
            listener = folder.listener(kind);
            listener.client_certificates = ClientCertificates::Required;
            listener.client_authorities = Some(folder.write("authorities.pem", &folder.authority.pem).into());
            versions =
                [&TLS12, &TLS13].map(|version| Some(Arc::new(folder.client_of(&[version], Some(&issued))))).to_vec();
        }
        listener.proxy_protocol = true;
        let entrance = entrance(&listener);
        for client in &versions {
            // Sessions that are resumed are shorter.
            let client = client.as_ref().map(|config| {
                let mut config = ClientConfig::clone(config);
                config.resumption = rustls::client::Resumption::disabled();
                Arc::new(config)
            });
            let session = |cut| session(&entrance, client.as_ref(), &inside(kind), cut);
            let (mqtt, length) = session(Cut::Nowhere);
            assert_eq!(mqtt, MQTT);
            assert_eq!(session(Cut::Everywhere).0, MQTT);
            // Handshakes are cut at every seventh byte, which meets all kinds of places, and takes a second instead of many.
            for at in (0..length).step_by(if has_tls { 7 } else { 1 }) {
                assert_eq!(session(Cut::At(at)).0, MQTT, "{kind:?} cut before byte {at}");
            }
        }
    }
}

/// TLS notices every byte that is not what the client has sent, but for a few that nobody is to look at (RFC 8446 §5.1).
#[test]
fn a_flipped_byte_of_a_handshake_lets_nobody_in() {
    let folder = Folder::new();
    let issued = folder.authority.issue(&names("camera", &[]));
    let mut listener = folder.listener(ListenerKind::Tls);
    listener.client_certificates = ClientCertificates::Required;
    listener.client_authorities = Some(folder.write("authorities.pem", &folder.authority.pem).into());
    let entrance = entrance(&listener);
    for version in [&TLS12, &TLS13] {
        let mut config = folder.client_of(&[version], Some(&issued));
        config.resumption = rustls::client::Resumption::disabled();
        let config = Arc::new(config);
        let (_, whole) = TlsClient::connect(&config, &entrance).unwrap();
        let mut harmless = Vec::new();
        for at in 0..whole.sent {
            let mut line = Line::to(&entrance);
            line.flip = Some((at, 1 << (at % 8)));
            let mut client = TlsClient::new(&config, "broker.example.org");
            client.say(MQTT);
            match client.talk(&mut line) {
                // A length that has grown waits for more, until limits.handshake_timeout.
                Ok(()) if line.mqtt.is_empty() => {}
                Ok(()) => {
                    assert_eq!(line.mqtt, MQTT);
                    harmless.push(at);
                }
                Err(_) => assert!(MQTT.starts_with(&line.mqtt)),
            }
        }
        println!("{version:?}: of {} bytes it does not matter in {harmless:?}", whole.sent);
        assert!(harmless.len() <= 12, "{version:?}: {harmless:?}");
    }
}

/// Listeners of all kinds that have layers.
fn entrances(folder: &Folder) -> Vec<Arc<Entrance>> {
    let kinds = [ListenerKind::Tls, ListenerKind::Ws, ListenerKind::Wss, ListenerKind::Tcp];
    let listeners = kinds.map(|kind| {
        let mut listener = folder.listener(kind);
        listener.proxy_protocol = kind == ListenerKind::Tcp;
        entrance(&listener)
    });
    listeners.to_vec()
}

#[test]
fn random_bytes_harm_nobody() {
    let folder = Folder::new();
    let entrances = entrances(&folder);
    let beginnings =
        [&b""[..], b"\x16\x03\x01\x02\0\x01", b"GET /mqtt HTTP/1.1\r\nHost: ", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n"];
    let bytes = prop::collection::vec(any::<u8>(), 0..512);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(512));
    let result = runner.run(&(0..entrances.len(), 0..beginnings.len(), bytes), |(which, beginning, bytes)| {
        let mut line = Line::to(&entrances[which]);
        let _ = line.send(beginnings[beginning]).and_then(|()| line.send(&bytes)).and_then(|()| line.send(&bytes));
        prop_assert!(line.mqtt.len() <= 2 * bytes.len() + beginnings[beginning].len());
        prop_assert!(line.received.len() <= 4096);
        Ok(())
    });
    result.unwrap();
}

/// Inside TLS, and after the request, there may be anything, too.
#[test]
fn random_frames_harm_nobody() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Ws));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1024));
    let frames = prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..140), any::<bool>()), 1..6);
    let result = runner.run(&frames, |frames| {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(first, payload, is_real)| match is_real {
                true => frame(first & 0x8A, payload),
                false => [&[*first], &payload[..]].concat(),
            })
            .collect();
        let outcome = |cut| {
            let mut line = Line::to(&entrance);
            line.send(&request("/mqtt", "")).unwrap();
            line.cut = cut;
            line.received.clear();
            let result = line.send(&bytes).map_err(|broken| broken.to_string());
            (result, line.mqtt, line.received.len())
        };
        let (whole, pieces) = (outcome(Cut::Nowhere), outcome(Cut::Everywhere));
        prop_assert_eq!(&whole.0, &pieces.0);
        prop_assert_eq!(&whole.1, &pieces.1);
        prop_assert!(whole.2 <= 127 + 4, "one pong and a close frame");
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_connection_that_is_idle_needs_little() {
    let of_layers = size_of::<Layers>();
    let of_tls = size_of::<rustls::ServerConnection>();
    println!("Layers: {of_layers} bytes; with TLS {of_tls} more, and 4 KiB that rustls reads into");
    assert!(of_layers <= 256, "{of_layers}");
    assert!(of_tls <= 2048, "{of_tls}");
}
