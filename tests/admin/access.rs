//! Who is let in: tokens and their scopes, and pages in browsers that are not.

use std::fs;

use serde_json::json;

use crate::harness::broker::folder;
use crate::harness::{Broker, PATIENCE};
use crate::http::{Request, get};

const TOKENS: &str = "# who may\nprometheus read read-0123456789abcdef\nops write write-0123456789abcdef\n";

fn with_tokens(tokens: &str) -> (Broker, std::path::PathBuf) {
    let folder = folder();
    let file = folder.join("tokens");
    fs::write(&file, tokens).unwrap();
    let settings = "[security]\nreload_interval = \"50ms\"";
    (Broker::with_admin_in(folder, &format!("token_file = {file:?}"), settings), file)
}

#[test]
fn a_token_is_good_for_its_scope() {
    let (broker, _) = with_tokens(TOKENS);
    let with = |method, target: &str, token: &str| Request::new(method, target).token(token).send(&broker);
    let (read, write) = ("read-0123456789abcdef", "write-0123456789abcdef");
    for target in ["/api/v1/clients", "/api/v1/version", "/openapi.json", "/metrics"] {
        let answer = get(&broker, target);
        assert!(answer.problem(401).contains("a token is needed"), "{target}");
        assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
        let answer = with("GET", target, "nobody-0123456789abcdef");
        assert!(answer.problem(401).contains("nobody has the token"), "{target}");
        assert_eq!(answer.field("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        assert_eq!(with("GET", target, read).status, 200, "{target}");
        assert_eq!(with("GET", target, write).status, 200, "{target}");
    }
    let hold = |token| Request::new("POST", "/api/v1/holds").token(token).json(&json!({"scope": "all"})).send(&broker);
    assert!(hold(read).problem(403).contains("prometheus may only read"));
    assert_eq!(hold(write).status, 204);
    // What is not there is not told to those who may not ask.
    assert_eq!(get(&broker, "/api/v1/nothing").status, 401);
    assert_eq!(with("GET", "/api/v1/nothing", read).status, 404);
    let basic = Request::new("GET", "/api/v1/version").field("authorization", "Basic b3BzOm9wcw==").send(&broker);
    basic.problem(401);
}

#[test]
fn health_needs_no_token() {
    let (broker, _) = with_tokens(TOKENS);
    for target in ["/health/live", "/health/ready"] {
        assert_eq!(get(&broker, target).good()["status"], "ok");
        let page = Request::new("GET", target).field("host", "probe.example.org").send(&broker);
        assert_eq!(page.status, 200);
    }
}

#[test]
fn tokens_are_read_again_when_they_change_and_what_is_wrong_changes_nothing() {
    let (broker, file) = with_tokens(TOKENS);
    let is_let_in = |token: &str| Request::new("GET", "/api/v1/version").token(token).send(&broker).status == 200;
    let replace = |text: &str| {
        let next = file.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, &file).unwrap();
    };
    replace("ops write short\n");
    broker.await_log("shorter than 16 characters", PATIENCE);
    assert!(is_let_in("write-0123456789abcdef"));
    replace("ops write other-0123456789abcdef\n");
    broker.await_log(": reloaded what=\"tokens of the HTTP server\"", PATIENCE);
    assert!(is_let_in("other-0123456789abcdef"));
    assert!(!is_let_in("write-0123456789abcdef"));
}

#[test]
fn who_changes_something_is_in_the_log_and_no_token_is() {
    let (broker, _) = with_tokens(TOKENS);
    let delete = Request::new("DELETE", "/api/v1/wills/nobody%2Fat%2Fhome").token("write-0123456789abcdef");
    delete.send(&broker).problem(404);
    broker.await_log("DELETE /api/v1/wills/nobody%2Fat%2Fhome", PATIENCE);
    let log = broker.log();
    let line = log.lines().find(|line| line.contains("DELETE /api/v1/wills/")).unwrap();
    assert!(line.contains("by=\"ops\"") && line.contains("status=404"), "{line}");
    assert!(!log.contains("0123456789abcdef"));
}

#[test]
fn a_page_from_somewhere_else_reaches_nothing() {
    let broker = Broker::with_admin("", "");
    let port = broker.admin().port();
    let ask = |fields: &[(&str, &str)]| {
        let request = Request::new("GET", "/api/v1/version");
        fields.iter().fold(request, |request, (name, value)| request.field(name, value)).send(&broker)
    };
    // A name that leads here by DNS.
    assert!(ask(&[("host", "rebound.example.org")]).problem(403).contains("Host"));
    assert!(ask(&[("origin", "https://example.org")]).problem(403).contains("Origin"));
    assert!(ask(&[("origin", "null")]).problem(403).contains("Origin"));
    ask(&[("origin", &format!("http://localhost:{}", port ^ 1))]).problem(403);
    ask(&[("sec-fetch-site", "cross-site")]).problem(403);
    // A form, which browsers send anywhere without asking.
    let form = Request::new("POST", "/api/v1/holds").field("content-type", "text/plain").body(b"{\"scope\": \"all\"}");
    assert!(form.send(&broker).problem(415).contains("application/json"));
    for fields in [
        vec![],
        vec![("host", "localhost")],
        vec![("host", "[::1]:8080")],
        vec![("host", "localhost:1"), ("origin", "http://localhost:1"), ("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(ask(&fields).status, 200, "{fields:?}");
    }
}

#[test]
fn a_reload_takes_tokens_and_settings_together_or_none_of_them() {
    let folder = folder();
    let file = folder.join("tokens");
    fs::write(&file, TOKENS).unwrap();
    let settings = "[security]\nreload_interval = \"0s\""; // Nothing else reads it again.
    let broker = Broker::with_admin_in(folder, &format!("token_file = {file:?}"), settings);
    let reload = |token| Request::new("POST", "/api/v1/reload").token(token).send(&broker);
    let (old, new) = ("write-0123456789abcdef", "write-fedcba9876543210");
    let settings = |queue: u32| {
        format!(
            "[security]\nreload_interval = \"0s\"\n[sessions]\nqueue_messages_max = {queue}\n[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = {file:?}\n"
        )
    };
    broker.write_settings(2, &settings(77));
    fs::write(&file, "ops write short\n").unwrap();
    let problem = reload(old).problem(422);
    assert!(problem.contains("tokens:1"), "{problem}");
    let config = Request::new("GET", "/api/v1/config").token(old).send(&broker).good();
    assert!(!config.to_string().contains("\"77\""), "the settings are as they were");
    fs::write(&file, format!("ops write {new}\n")).unwrap();
    let done = reload(old).good();
    assert_eq!(done["reloaded"], json!(["tokens of the HTTP server"]));
    assert_eq!(done["changed"][0]["key"], "sessions.queue_messages_max");
    reload(old).problem(401);
    assert_eq!(reload(new).good()["changed"], json!([]));
    broker.write_settings(2, &settings(78));
    fs::write(&file, "ops write short\n").unwrap();
    reload(new).problem(422);
    assert_eq!(reload(new).status, 422, "the token of before is still good");
}
