//! Files that change while a listener is open, files that are wrong, and sessions that are resumed.

use rcgen::date_time_ymd;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};

use super::material::{Authority, names};
use super::*;
use crate::config::ClientCertificates;

#[test]
fn sessions_are_resumed() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Tls));
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(folder.client_of(&[version], None));
        let (first, _) = TlsClient::connect(&client, &entrance).unwrap();
        let (second, _) = TlsClient::connect(&client, &entrance).unwrap();
        assert_eq!([first.kind(), second.kind()], [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
    }
}

#[test]
fn new_connections_get_the_new_certificate_and_old_ones_go_on() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Tls));
    assert_eq!(entrance.reload(), Ok(false));
    let client = folder.client();
    let (mut old, mut line) = TlsClient::connect(&client, &entrance).unwrap();
    folder.write_pair("server", &folder.authority.issue(&names("renewed", &["broker.example.org"])));
    assert_eq!(entrance.reload(), Ok(true));
    assert_eq!(entrance.reload(), Ok(false));
    old.say(MQTT);
    old.talk(&mut line).unwrap();
    assert_eq!(line.mqtt, [MQTT, MQTT].concat());
    let (new, _) = TlsClient::connect(&folder.client(), &entrance).unwrap();
    assert_ne!(new.tls.peer_certificates().unwrap(), old.tls.peer_certificates().unwrap());
    let (back, _) = TlsClient::connect(&client, &entrance).unwrap();
    assert_eq!(back.kind(), Some(HandshakeKind::Resumed), "who a client is has not changed");
}

#[test]
fn no_session_is_resumed_once_other_client_certificates_are_accepted() {
    for version in [&TLS12, &TLS13] {
        let folder = Folder::new();
        let mut params = names("camera", &[]);
        params.serial_number = Some(7_u64.into());
        let client = Arc::new(folder.client_of(&[version], Some(&folder.authority.issue(&params))));
        let mut listener = folder.listener(ListenerKind::Tls);
        listener.client_certificates = ClientCertificates::Required;
        listener.client_authorities = Some(folder.write("authorities.pem", &folder.authority.pem).into());
        listener.client_revocations = vec![folder.write("revoked.pem", &folder.authority.revoke(&[]))];
        let entrance = entrance(&listener);
        let connect = || TlsClient::connect(&client, &entrance);
        assert_eq!(connect().unwrap().0.kind(), Some(HandshakeKind::Full));
        let (resumed, line) = connect().unwrap();
        assert_eq!(resumed.kind(), Some(HandshakeKind::Resumed));
        assert_eq!(line.layers.certificate().unwrap().field("cert.cn"), Some("camera"), "it need not be shown again");
        folder.write("revoked.pem", &folder.authority.revoke(&[8]));
        assert_eq!(entrance.reload(), Ok(true));
        assert_eq!(connect().unwrap().0.kind(), Some(HandshakeKind::Full), "it is checked again");
        folder.write("revoked.pem", &folder.authority.revoke(&[7]));
        assert_eq!(entrance.reload(), Ok(true));
        assert!(connect().is_err(), "a revoked client cannot resume what it began before");
    }
}

#[test]
fn no_session_is_resumed_with_a_certificate_that_has_expired_meanwhile() {
    let folder = Folder::new();
    // So long ago that it is over already; the session began with a verifier that did not mind. What is tested is what we do with
    // the certificate of a resumed session, so it is enough to look at that.
    let mut params = names("camera", &[]);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let issued = folder.authority.issue(&params);
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let names = certificate::ServerNames::read(&der).unwrap();
    let at = |year: u64| {
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs((year - 1970) * 31_557_600 + 86_400 * 30)
    };
    assert_eq!(names.out_of_date(at(2019)), Some("the certificate is not valid yet"));
    assert_eq!(names.out_of_date(at(2020)), None);
    assert_eq!(names.out_of_date(at(2021)), Some("the certificate has expired"));
}

/// The error of an entrance with this listener.
fn error(listener: &Listener) -> String {
    Entrance::new(listener, 1024).err().expect("an error").to_string()
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let folder = Folder::new();
    let good = folder.listener(ListenerKind::Tls);
    let (certificate, key) = (&good.certificates[0], &good.keys[0]);
    let with = |certificate: &str, key: &str| {
        error(&Listener { certificates: vec![certificate.into()], keys: vec![key.into()], ..good.clone() })
    };
    let empty = folder.write("empty.pem", "nothing here\n");
    assert_eq!(with(&empty, key), format!("{empty}: there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")"));
    assert_eq!(with(certificate, &empty), format!("{empty}: there is no private key in it"));
    assert!(with(key, key).ends_with("there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")"));
    let missing = folder.file("missing.pem");
    assert!(with(&missing, key).starts_with(&format!("{missing}: cannot be read: No such file")));
    let torn = folder.write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert!(with(&torn, key).starts_with(&format!("{torn}: is no PEM: ")));
    let wrong = folder.write("wrong.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(with(&wrong, key).starts_with(&format!("{wrong}: ")));
    let (_, other) = folder.write_pair("other", &folder.authority.issue(&names("other", &[])));
    assert_eq!(with(certificate, &other), format!("{other}: the key does not fit the certificate in {certificate}"));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = folder.write("encrypted.pem", encrypted);
    assert!(with(certificate, &encrypted).starts_with(&format!("{encrypted}: the key is encrypted")));
    let broken = folder.write("broken.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    assert!(with(certificate, &broken).starts_with(&format!("{broken}: the key cannot be used: ")));
}

#[test]
fn what_is_wrong_with_a_setting_is_said() {
    let folder = Folder::new();
    let good = folder.listener(ListenerKind::Tls);
    let listener = Listener { certificates: vec![], ..good.clone() };
    assert_eq!(error(&listener), "certificates: a listener with TLS needs a certificate");
    let listener = Listener { keys: vec![], ..good.clone() };
    assert_eq!(error(&listener), "keys: 0 keys for 1 certificates; each needs one, in the same order");
    let mut listener = Listener { client_certificates: ClientCertificates::Optional, ..good.clone() };
    assert_eq!(error(&listener), "client_authorities: it must be given where client certificates are asked for");
    listener.client_authorities = Some(folder.write("authorities.pem", &folder.authority.pem).into());
    let list = folder.write("list.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    listener.client_revocations = vec![folder.write("good.pem", &folder.authority.revoke(&[])), list.clone()];
    assert!(error(&listener).starts_with(&format!("{list}: it cannot be used to check client certificates: ")));
    listener.client_revocations = vec![folder.file("authorities.pem")];
    assert!(
        error(&listener).ends_with("there is no list of revoked certificates in it (\"-----BEGIN X509 CRL-----\")")
    );
}

#[test]
fn an_expired_certificate_is_no_error() {
    let folder = Folder::new();
    let mut params = names("broker", &["broker.example.org"]);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    folder.write_pair("server", &folder.authority.issue(&params));
    assert!(Entrance::new(&folder.listener(ListenerKind::Tls), 1024).is_ok());
}

#[test]
fn a_broken_file_keeps_what_was_there() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Tls));
    folder.write_pair("server", &Authority::new("another").issue(&names("other", &[])));
    let path = folder.write("server.key", "");
    assert_eq!(entrance.reload(), Err(format!("{path}: there is no private key in it")));
    assert!(TlsClient::connect(&folder.client(), &entrance).is_ok());
}

#[test]
fn all_files_are_watched() {
    let folder = Folder::new();
    let mut listener = folder.listener(ListenerKind::Wss);
    listener.client_certificates = ClientCertificates::Optional;
    listener.client_authorities = Some(folder.write("authorities.pem", &folder.authority.pem).into());
    listener.client_revocations = vec![folder.write("revoked.pem", &folder.authority.revoke(&[]))];
    let files =
        ["server.pem", "server.key", "authorities.pem", "revoked.pem"].map(|name| PathBuf::from(folder.file(name)));
    assert_eq!(entrance(&listener).files(), files);
    assert!(entrance(&Listener::default()).files().is_empty());
}
