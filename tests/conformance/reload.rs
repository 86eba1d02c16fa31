//! Files that change while the broker runs, and SIGHUP.

use crate::harness::broker::{folder, run};
use crate::harness::transport::{Kind, Stream, tls_clients_of};
use crate::harness::{Broker, Client, Connect, PATIENCE, Publish, unique};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Everybody may publish to this topic, and do nothing else.
fn rights(topic: &str) -> String {
    format!("[[rules]]\neffect = \"allow\"\nactions = [\"publish\"]\ntopics = [{topic:?}]\n")
}

/// Puts a file in its place as a whole.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

/// A broker with a rights file, at which it looks so often.
fn with_rights(interval: &str) -> (Broker, PathBuf) {
    let folder = folder();
    let path = folder.join("rights.toml");
    replace(&path, &rights("old"));
    let security = format!("[security]\nrights_file = {path:?}\nreload_interval = \"{interval}\"\n");
    (Broker::start_in(folder, 2, &security), path)
}

/// Whether a new client may publish there.
fn may_publish(broker: &Broker, topic: &str) -> bool {
    broker.client(5).publish(Publish::new(topic, "x").qos(1)) < 0x80
}

#[test]
fn rights_file_is_read_again_when_it_changes() {
    let (broker, path) = with_rights("10ms");
    assert!(may_publish(&broker, "old") && !may_publish(&broker, "new"));
    replace(&path, &rights("new"));
    broker.await_log("reloaded what=\"rights\"", PATIENCE);
    assert!(may_publish(&broker, "new") && !may_publish(&broker, "old"));
}

#[test]
fn broken_rights_file_leaves_the_old_rights_in_force_and_is_told_with_its_line() {
    let (broker, path) = with_rights("10ms");
    replace(&path, "[[rules]]\neffekt = \"deny\"\n");
    broker.await_log("rights.toml:2", PATIENCE);
    assert!(may_publish(&broker, "old"));
    replace(&path, &rights("new"));
    broker.await_log("reloaded what=\"rights\"", PATIENCE);
    assert!(may_publish(&broker, "new"));
}

#[test]
fn hangup_reads_files_again_and_says_so() {
    let (broker, path) = with_rights("0s");
    let mut client = broker.client(5);
    replace(&path, &rights("new"));
    assert!(!may_publish(&broker, "new"), "nobody looks");
    broker.signal(Signal::HUP);
    broker.await_log("changed=0 needs_restart=0 reloaded=\"rights\"", PATIENCE);
    assert!(may_publish(&broker, "new"));
    client.ping();
    replace(&path, "broken");
    broker.signal(Signal::HUP);
    broker.await_log("nothing was reloaded, all is as it was: ", PATIENCE);
    assert!(may_publish(&broker, "new"));
    client.ping();
}

#[test]
fn hangup_does_not_end_a_broker_without_files() {
    let broker = Broker::start("");
    broker.signal(Signal::HUP);
    broker.await_log("changed=0 needs_restart=0 reloaded=\"\"", PATIENCE);
    broker.client(5).ping();
}

#[test]
fn broken_rights_file_stops_the_start_and_the_check() {
    let folder = folder();
    let path = folder.join("rights.toml");
    let settings = format!("shards = 1\n[security]\nrights_file = {path:?}\n");
    for (text, words) in [(Some("[[rules]]\neffekt = \"deny\"\n"), "rights.toml:2"), (None, "cannot read")] {
        match text {
            Some(text) => replace(&path, text),
            None => fs::remove_file(&path).unwrap(),
        }
        for arguments in [&[][..], &["--check-config"]] {
            let output = run(&settings, arguments, &[]);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(2) && told.contains(words), "{output:?}");
        }
    }
    replace(&path, &rights("a"));
    assert!(run(&settings, &["--check-config"], &[]).status.success());
    fs::remove_dir_all(folder).unwrap();
}

/// Puts a new certificate and its key in their places; the certificate, which is its own authority.
fn renew(folder: &Path) -> CertificateDer<'static> {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    replace(&folder.join("cert.pem"), &issued.cert.pem());
    replace(&folder.join("key.pem"), &issued.signing_key.serialize_pem());
    CertificateDer::from_pem_slice(issued.cert.pem().as_bytes()).unwrap()
}

/// A broker with a listener for TLS, and the folder of its certificate.
fn with_tls() -> (Broker, PathBuf, CertificateDer<'static>) {
    let folder = folder();
    let certificate = renew(&folder);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let settings = format!(
        "[security]\nreload_interval = \"10ms\"\n[[listeners]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         certificates = [{cert:?}]\nkeys = [{key:?}]\n"
    );
    (Broker::start_in(folder.clone(), 2, &settings), folder, certificate)
}

/// A client over TLS, where the server shows this certificate.
fn connect_tls(broker: &Broker, certificate: &CertificateDer<'static>) -> Option<Client> {
    let socket = TcpStream::connect(broker.address).unwrap();
    let mut client = Client::of(Stream::over(Kind::Tls, socket, &tls_clients_of(certificate.clone())).ok()?, 5);
    assert_eq!(client.try_connect(&Connect::v5(&unique("c"))), Some(0));
    Some(client)
}

#[test]
fn certificate_is_renewed_without_dropping_connections() {
    let (broker, folder, old) = with_tls();
    let mut client = connect_tls(&broker, &old).unwrap();
    let new = renew(&folder);
    broker.await_log("reloaded what=\"certificates of listeners.0\"", PATIENCE);
    assert!(connect_tls(&broker, &old).is_none());
    connect_tls(&broker, &new).unwrap().ping();
    client.ping();
}

#[test]
fn broken_certificate_is_not_taken_and_is_told_with_its_file() {
    let (broker, folder, old) = with_tls();
    replace(&folder.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nbroken\n");
    broker.await_log("not reloaded", PATIENCE);
    assert!(broker.log().lines().any(|line| line.contains("not reloaded") && line.contains("cert.pem")));
    connect_tls(&broker, &old).unwrap().ping();
    let new = renew(&folder);
    broker.await_log("reloaded what=\"certificates of listeners.0\"", PATIENCE);
    connect_tls(&broker, &new).unwrap().ping();
}

#[test]
fn check_names_every_file_that_cannot_be_used() {
    let settings = "[security]\nrights_file = \"/none/rights\"\n[[authenticators]]\nname = \"a\"\nfile = \"/none/passwords\"\n\
                    [[listeners]]\nkind = \"tls\"\ncertificates = [\"/none/cert\"]\nkeys = [\"/none/key\"]\n";
    let output = run(settings, &["--check-config"], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for file in ["/none/rights", "/none/passwords", "/none/cert"] {
        assert!(told.contains(file), "{file}: {told}");
    }
    assert_eq!(run(settings, &[], &[]).status.code(), Some(2));
}
