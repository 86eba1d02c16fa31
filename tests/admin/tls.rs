//! HTTPS, and callers who are known by their certificates.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::json;

use crate::harness::transport::tls_clients;
use crate::harness::{Broker, PATIENCE, certificates};
use crate::http::{Answer, Request, connect};

fn settings(more: &str) -> String {
    let file = |name: &str| certificates::folder().join(name);
    format!("certificate = {:?}\nkey = {:?}\n{more}", file("server.pem"), file("server.key"))
}

fn send(broker: &Broker, tls: &Arc<ClientConfig>, request: &Request) -> Answer {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(tls), name).unwrap();
    request.send_over(StreamOwned::new(connection, connect(broker.admin())), broker.admin())
}

#[test]
fn https_is_spoken_where_there_is_a_certificate() {
    let broker = Broker::with_admin(&settings(""), "");
    let version = Request::new("GET", "/api/v1/version");
    assert_eq!(send(&broker, &tls_clients(false), &version).good()["name"], "WillowMQ");
    // Somebody who speaks HTTP gets none, and is no trouble.
    let mut plain = connect(broker.admin());
    std::io::Write::write_all(&mut plain, &version.encode(broker.admin())).unwrap();
    let mut said = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut said);
    assert!(!said.starts_with(b"HTTP"));
    assert_eq!(send(&broker, &tls_clients(false), &version).status, 200);
}

#[test]
fn whoever_has_a_certificate_of_the_authority_may_do_everything() {
    let authorities = certificates::folder().join("ca.pem");
    let broker = Broker::with_admin(&settings(&format!("client_authorities = {authorities:?}")), "");
    let (known, unknown) = (tls_clients(true), tls_clients(false));
    let hold = Request::new("POST", "/api/v1/holds").json(&json!({"scope": "all"}));
    assert_eq!(send(&broker, &known, &hold).status, 204);
    broker.await_log("by=\"certificate \\\"camera\\\"\"", PATIENCE);
    send(&broker, &unknown, &hold).problem(401);
    send(&broker, &unknown, &Request::new("GET", "/metrics")).problem(401);
    assert_eq!(send(&broker, &unknown, &Request::new("GET", "/health/live")).status, 200);
    // A name of its own is no trouble where nobody gets in by the address alone.
    let named = Request::new("GET", "/api/v1/version").field("host", "broker.example.org");
    assert_eq!(send(&broker, &known, &named).status, 200);
    // A browser would show the certificate for any page.
    let page = Request::new("GET", "/api/v1/version").field("origin", "https://example.org");
    send(&broker, &known, &page).problem(403);
}
