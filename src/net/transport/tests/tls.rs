//! TLS: handshakes, certificates by name, and what is refused.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, ProtocolVersion};

use super::material::{Authority, names};
use super::*;
use crate::config::{ClientCertificates, TlsVersion};

#[test]
fn both_versions_are_spoken() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Tls));
    for (version, number) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = Arc::new(folder.client_of(&[version], None));
        let (mut client, mut line) = TlsClient::connect(&client, &entrance).unwrap();
        assert_eq!(client.tls.protocol_version(), Some(number));
        line.layers.wrap(b"\x20\x02\0\0", &mut line.received);
        client.talk(&mut line).unwrap();
        assert_eq!(client.received, b"\x20\x02\0\0");
    }
}

#[test]
fn a_listener_of_1_3_refuses_1_2() {
    let folder = Folder::new();
    let mut listener = folder.listener(ListenerKind::Tls);
    listener.tls_version_min = TlsVersion::V1_3;
    let entrance = entrance(&listener);
    let old = Arc::new(folder.client_of(&[&TLS12], None));
    let refused = TlsClient::connect(&old, &entrance).err().unwrap();
    assert!(
        matches!(refused, Ended::There(Error::AlertReceived(AlertDescription::ProtocolVersion))),
        "the alert comes before the end: {refused:?}"
    );
    assert!(TlsClient::connect(&folder.client(), &entrance).is_ok());
}

#[test]
fn alpn_is_mqtt_inside_tls_and_http_where_a_websocket_follows() {
    let folder = Folder::new();
    let with = |protocols: &[&[u8]]| {
        let mut client = folder.client_of(rustls::ALL_VERSIONS, None);
        client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(client)
    };
    let tls = entrance(&folder.listener(ListenerKind::Tls));
    let (client, _) = TlsClient::connect(&with(&[b"mqtt"]), &tls).unwrap();
    assert_eq!(client.tls.alpn_protocol(), Some(&b"mqtt"[..]));
    let (client, _) = TlsClient::connect(&with(&[]), &tls).unwrap();
    assert_eq!(client.tls.alpn_protocol(), None);
    let refused = TlsClient::connect(&with(&[b"h2"]), &tls).err().unwrap();
    assert!(matches!(refused, Ended::There(Error::AlertReceived(AlertDescription::NoApplicationProtocol))));
    let wss = entrance(&folder.listener(ListenerKind::Wss));
    let mut browser = TlsClient::new(&with(&[b"h2", b"http/1.1"]), "broker.example.org");
    browser.talk(&mut Line::to(&wss)).unwrap();
    assert_eq!(browser.tls.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for() {
    let folder = Folder::new();
    let mut listener = folder.listener(ListenerKind::Tls);
    for (file, dns) in [("exact", "cameras.example.org"), ("any", "*.example.net")] {
        let (certificate, key) = folder.write_pair(file, &folder.authority.issue(&names(file, &[dns])));
        listener.certificates.push(certificate);
        listener.keys.push(key);
    }
    let entrance = entrance(&listener);
    let client = folder.client();
    let shown_for = |name: &str| {
        let mut client = TlsClient::new(&client, name);
        client.talk(&mut Line::to(&entrance)).map(|()| {
            let leaf = &client.tls.peer_certificates().unwrap()[0];
            ["server", "exact", "any"].into_iter().find(|file| {
                let pem = std::fs::read(folder.file(&format!("{file}.pem"))).unwrap();
                CertificateDer::from_pem_slice(&pem).unwrap() == *leaf
            })
        })
    };
    assert_eq!(shown_for("broker.example.org").unwrap(), Some("server"));
    assert_eq!(shown_for("Cameras.Example.org").unwrap(), Some("exact"));
    assert_eq!(shown_for("a.example.net").unwrap(), Some("any"));
    // The first is shown, and the client does not take it: for one level more, for another name, for an address.
    for name in ["a.b.example.net", "example.net", "192.0.2.1"] {
        assert!(matches!(shown_for(name), Err(Ended::There(Error::InvalidCertificate(_)))), "{name}");
    }
}

/// A listener of `folder` that asks for client certificates.
fn asking(folder: &Folder, asked: ClientCertificates) -> Listener {
    let mut listener = folder.listener(ListenerKind::Tls);
    listener.client_certificates = asked;
    listener.client_authorities = Some(folder.write("authorities.pem", &folder.authority.pem).into());
    listener
}

#[test]
fn client_certificates_are_checked_where_they_are_asked_for() {
    let folder = Folder::new();
    let known = folder.authority.issue(&names("camera", &[]));
    let strange = Authority::new("somebody else").issue(&names("camera", &[]));
    for version in [&TLS12, &TLS13] {
        let [known, strange, none] =
            [Some(&known), Some(&strange), None].map(|certificate| Arc::new(folder.client_of(&[version], certificate)));
        let required = entrance(&asking(&folder, ClientCertificates::Required));
        let optional = entrance(&asking(&folder, ClientCertificates::Optional));
        for entrance in [&required, &optional] {
            let (_, line) = TlsClient::connect(&known, entrance).unwrap();
            assert_eq!(line.layers.certificate().unwrap().field("cert.cn"), Some("camera"));
            assert!(TlsClient::connect(&strange, entrance).is_err(), "its authority is unknown");
        }
        let (_, line) = TlsClient::connect(&none, &optional).unwrap();
        assert_eq!(line.layers.certificate(), None);
        assert!(TlsClient::connect(&none, &required).is_err());
        let (_, line) = TlsClient::connect(&known, &entrance(&folder.listener(ListenerKind::Tls))).unwrap();
        assert_eq!(line.layers.certificate(), None, "nobody has asked");
    }
}

/// A client without the certificate it needs says nothing that is heard, though it may have said it before it was refused.
#[test]
fn nothing_is_heard_of_a_client_without_a_certificate() {
    let folder = Folder::new();
    let entrance = entrance(&asking(&folder, ClientCertificates::Required));
    for version in [&TLS12, &TLS13] {
        let mut line = Line::to(&entrance);
        let mut client = TlsClient::new(&Arc::new(folder.client_of(&[version], None)), "broker.example.org");
        client.say(MQTT);
        let ended = client.talk(&mut line).unwrap_err();
        assert!(
            matches!(
                ended,
                Ended::There(Error::AlertReceived(
                    AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure
                ))
            ),
            "{ended:?}"
        );
        assert!(line.mqtt.is_empty());
        assert!(!line.layers.is_complete());
    }
}

#[test]
fn a_revoked_client_certificate_is_refused() {
    let folder = Folder::new();
    let [kept, revoked] = [7_u64, 8].map(|serial| {
        let mut params = names("camera", &[]);
        params.serial_number = Some(serial.into());
        Arc::new(folder.client_of(rustls::ALL_VERSIONS, Some(&folder.authority.issue(&params))))
    });
    let mut listener = asking(&folder, ClientCertificates::Required);
    listener.client_revocations = vec![folder.write("revoked.pem", &folder.authority.revoke(&[8]))];
    let entrance = entrance(&listener);
    assert!(TlsClient::connect(&kept, &entrance).is_ok());
    let refused = TlsClient::connect(&revoked, &entrance).err().unwrap();
    assert!(matches!(refused, Ended::There(Error::AlertReceived(AlertDescription::CertificateRevoked))), "{refused:?}");
}

#[test]
fn who_speaks_no_tls_is_told_so() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Tls));
    for (bytes, error) in [
        (MQTT, "TLS: the client speaks MQTT without TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "TLS: the client speaks HTTP without TLS"),
        (b"\xff\xff\xff\xff\xff\xff", "TLS: this is no TLS"),
    ] {
        let mut line = Line::to(&entrance);
        assert_eq!(line.send(bytes).unwrap_err().to_string(), error);
        assert!(line.mqtt.is_empty());
    }
}

#[test]
fn the_end_of_a_session_is_told_after_what_came_before_it() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Tls));
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(folder.client_of(&[version], None));
        let (mut client, mut line) = TlsClient::connect(&client, &entrance).unwrap();
        line.mqtt.clear();
        client.say(b"\xe0\0"); // DISCONNECT
        client.tls.send_close_notify();
        assert!(matches!(client.talk(&mut line), Err(Ended::Here(Broken::Closed))));
        assert_eq!(line.mqtt, b"\xe0\0");
        assert!(client.sees_the_end(), "it is ended on our side, too");
    }
}

#[test]
fn we_end_a_session_after_what_we_have_to_say() {
    let folder = Folder::new();
    let (mut client, mut line) =
        TlsClient::connect(&folder.client(), &entrance(&folder.listener(ListenerKind::Tls))).unwrap();
    line.layers.wrap(b"\xe0\0", &mut line.received);
    line.layers.close(CloseCode::Normal);
    line.layers.wrap(b"\xd0\0", &mut line.received); // Too late.
    client.talk(&mut line).unwrap();
    assert_eq!(client.received, b"\xe0\0");
    assert!(client.sees_the_end());
}

/// A large message is more than rustls takes by default, and comes whole.
#[test]
fn large_messages_are_not_cut_off() {
    let folder = Folder::new();
    let (mut client, mut line) =
        TlsClient::connect(&folder.client(), &entrance(&folder.listener(ListenerKind::Tls))).unwrap();
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    line.layers.wrap(&large, &mut line.received);
    client.talk(&mut line).unwrap();
    assert!(client.received == large);
    line.mqtt.clear();
    for part in large.chunks(30_000) {
        client.say(part);
        client.talk(&mut line).unwrap();
    }
    assert!(line.mqtt == large);
}

/// Each asks us for new keys and an answer; after so many in a row it is enough. (RFC 8446 §4.6.3)
#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let folder = Folder::new();
    let (mut client, mut line) =
        TlsClient::connect(&folder.client(), &entrance(&folder.listener(ListenerKind::Tls))).unwrap();
    let flood = (0..1000).try_for_each(|_| {
        client.tls.refresh_traffic_keys().unwrap();
        let mut bytes = Vec::new();
        client.tls.write_tls(&mut bytes).unwrap();
        line.layers.receive(&bytes, &mut line.mqtt)
    });
    assert!(matches!(flood, Err(Broken::Tls(_))));
    let mut answers = Vec::new();
    line.layers.take_outgoing(&mut answers);
    assert!(answers.len() < 4096, "{} bytes", answers.len());
}
