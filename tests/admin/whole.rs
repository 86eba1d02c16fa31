//! The broker as a whole: what it is, how it is, its settings, its log, reload and drain; and the document of all that.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Broker, PATIENCE};
use crate::http::{Request, delete, get, post};

#[test]
fn the_document_has_every_route_and_every_failure() {
    let broker = Broker::with_admin("", "");
    let document = get(&broker, "/openapi.json").good();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/health/live",
        "/health/ready",
        "/metrics",
        "/openapi.json",
        "/api/v1/version",
        "/api/v1/config",
        "/api/v1/overview",
        "/api/v1/clients",
        "/api/v1/clients/{client_id}",
        "/api/v1/clients/{client_id}/disconnect",
        "/api/v1/clients/{client_id}/trace",
        "/api/v1/sessions/{client_id}",
        "/api/v1/subscriptions",
        "/api/v1/retained",
        "/api/v1/retained/message",
        "/api/v1/publish",
        "/api/v1/messages",
        "/api/v1/wills",
        "/api/v1/wills/{client_id}",
        "/api/v1/wills/{client_id}/publish",
        "/api/v1/holds",
        "/api/v1/holds/release",
        "/api/v1/storms",
        "/api/v1/log",
        "/api/v1/reload",
        "/api/v1/drain",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string() || operation["description"].is_string(), "{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in
                responses.iter().filter(|(status, _)| status.as_str() >= "400" && *status != "414")
            {
                if !path.starts_with("/health/") {
                    let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(schema, "#/components/schemas/Problem", "{method} {path} {status}");
                }
            }
        }
    }
}

#[test]
fn every_setting_is_told_and_no_secret() {
    let url = "http://127.0.0.1:9/auth?key=hidden";
    let broker = Broker::with_admin("", &format!("[[authenticators]]\nname = \"a\"\nkind = \"http\"\nurl = {url:?}\n"));
    let answer = get(&broker, "/api/v1/config");
    let items = answer.good()["items"].as_array().unwrap().clone();
    let find = |key: &str| items.iter().find(|item| item["key"] == key).unwrap_or_else(|| panic!("no {key}")).clone();
    assert_eq!((&find("shards")["value"], &find("shards")["is_default"]), (&json!(2), &json!(false)));
    assert_eq!(find("shards")["needs_restart"], true);
    assert_eq!(find("limits.maximum_qos")["value"], 2);
    assert_eq!(find("limits.maximum_qos")["is_default"], true);
    assert_eq!(find("listeners.0.address")["value"], "127.0.0.1:0");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(!text.contains("hidden"), "{}", find("authenticators.0.url"));
}

#[test]
fn the_overview_counts_what_is_there() {
    let broker = Broker::with_admin("", "");
    let mut client = broker.client(5);
    client.subscribe("a", 0);
    let overview = get(&broker, "/api/v1/overview").good();
    assert_eq!((&overview["state"], &overview["totals"]["connections"]), (&json!("ok"), &json!(1)));
    assert_eq!(overview["totals"]["subscriptions"], 1);
    assert_eq!(overview["shards"].as_array().unwrap().len(), 2);
    let version = get(&broker, "/api/v1/version").good();
    assert_eq!((&version["name"], &version["shards"]), (&json!("WillowMQ"), &json!(2)));
}

#[test]
fn metrics_are_served_as_prometheus_reads_them() {
    let broker = Broker::with_admin("", "");
    let answer = get(&broker, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.field("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(String::from_utf8(answer.body).unwrap().contains("# TYPE willowmq_"));
}

#[test]
fn the_log_obeys() {
    let broker = Broker::with_admin("", "");
    let put = |level: &str| Request::new("PUT", "/api/v1/log").json(&json!({"level": level})).send(&broker);
    assert_eq!(get(&broker, "/api/v1/log").good(), json!({"level": "info"}));
    assert_eq!(put("info,willowmq=debug").good(), json!({"level": "info,willowmq=debug"}));
    assert_eq!(get(&broker, "/api/v1/log").good(), json!({"level": "info,willowmq=debug"}));
    assert!(put("inof").problem(422).contains("did you mean info?"));
    put("").problem(422);
    put(&"a=info,".repeat(1000)).problem(422);
}

#[test]
fn a_reload_tells_what_it_has_done_or_what_is_wrong() {
    let broker = Broker::with_admin("", "");
    let reload = || Request::new("POST", "/api/v1/reload").send(&broker);
    let done = reload().good();
    assert!(done["changed"].is_array() && done["needs_restart"].is_array() && done["reloaded"].is_array());
    let configuration = broker.data().with_file_name("willowmq.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("shards = many\n{text}")).unwrap();
    reload().problem(422);
    assert_eq!(get(&broker, "/health/ready").status, 200);
}

#[test]
fn a_drain_is_followed_cancelled_and_carried_out() {
    let mut broker = Broker::with_admin("", "");
    let mut client = broker.client(5);
    assert_eq!(get(&broker, "/api/v1/drain").good()["state"], "none");
    delete(&broker, "/api/v1/drain").problem(404);
    let begun = post(&broker, "/api/v1/drain", &json!({"over_seconds": 3600}));
    assert_eq!((begun.status, &begun.json()["state"]), (202, &json!("draining")));
    let ready = get(&broker, "/health/ready");
    assert_eq!((ready.status, &ready.json()["status"]), (503, &json!("draining")));
    assert_eq!(get(&broker, "/health/live").status, 200);
    let progress: Value = get(&broker, "/api/v1/drain").good();
    assert_eq!((&progress["clients"], &progress["clients_left"]), (&json!(1), &json!(1)));
    assert_eq!(delete(&broker, "/api/v1/drain").status, 204);
    assert_eq!(get(&broker, "/health/ready").status, 200);
    client.ping();
    post(&broker, "/api/v1/drain", &json!({"over_seconds": 86_401})).problem(422);
    assert_eq!(post(&broker, "/api/v1/drain", &json!({"over_seconds": 0})).status, 202);
    client.expect_disconnect(&[0x8b, 0x9c]);
    assert_eq!(broker.wait(PATIENCE).code(), Some(0));
}
