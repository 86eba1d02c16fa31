//! Wills: seen, published now, discarded, held back.

use serde_json::json;

use crate::harness::{Broker, Connect, Will};
use crate::http::{Request, delete, get, items, post};

/// A client with a will that has gone without a goodbye, and whose will is due in an hour.
fn leave_pending(broker: &Broker, client_id: &str) {
    let will = Will::new(&format!("gone/{client_id}"), "off").qos(1).delay(3600);
    broker.connect(Connect::v5(client_id).expiry(7200).will(will)).cut();
    while get(broker, &format!("/api/v1/wills/{client_id}")).good()["state"] != "pending" {
        std::thread::yield_now();
    }
}

#[test]
fn a_will_is_seen_wherever_it_stands() {
    let broker = Broker::with_admin("", "");
    let will = Will::new("status/lamp", "off").qos(1).retain();
    let _lamp = broker.connect(Connect::v5("room/lamp").will(will));
    leave_pending(&broker, "gone");
    let armed = get(&broker, "/api/v1/wills/room%2Flamp").good();
    assert_eq!((armed["state"].as_str(), armed["topic"].as_str()), (Some("armed"), Some("status/lamp")));
    assert_eq!(armed["message"]["payload"], "off");
    assert_eq!((&armed["retain"], &armed["due"]), (&json!(true), &json!(null)));
    let pending = get(&broker, "/api/v1/wills/gone").good();
    assert_eq!(pending["delay_interval"], 3600);
    assert_eq!(pending["closing"]["cause"], "closed");
    assert!(pending["due"].as_str().unwrap().ends_with('Z'));
    let of = |query: &str| items(&broker, &format!("/api/v1/wills{query}"), 1).0.len();
    assert_eq!([of(""), of("?state=armed"), of("?state=pending"), of("?state=due")], [2, 1, 1, 0]);
    assert_eq!([of("?client_id=room/*"), of("?client_id=nobody*")], [1, 0]);
    get(&broker, "/api/v1/wills/nobody").problem(404);
    get(&broker, "/api/v1/wills?state=none").problem(400);
}

#[test]
fn a_will_is_published_before_its_time_and_once() {
    let broker = Broker::with_admin("", "");
    let mut watcher = broker.client(5);
    watcher.subscribe("gone/#", 1);
    leave_pending(&broker, "lamp");
    assert_eq!(post(&broker, "/api/v1/wills/lamp/publish", &json!({})).status, 204);
    assert_eq!(watcher.payloads(1), ["off"]);
    post(&broker, "/api/v1/wills/lamp/publish", &json!({})).problem(404);
    // The session has not ended with it.
    assert_eq!(get(&broker, "/api/v1/clients/lamp").good()["will"], json!(null));
}

#[test]
fn the_end_of_a_session_publishes_the_will_that_was_to_wait_or_discards_it() {
    let broker = Broker::with_admin("", "");
    let mut watcher = broker.client(5);
    watcher.subscribe("gone/#", 0);
    leave_pending(&broker, "a");
    leave_pending(&broker, "b");
    assert_eq!(delete(&broker, "/api/v1/sessions/a?will=publish").status, 204);
    assert_eq!(watcher.payloads(1), ["off"]);
    assert_eq!(delete(&broker, "/api/v1/sessions/b?will=discard").status, 204);
    assert_eq!(watcher.until_own_marker().len(), 0);
    let wills = get(&broker, "/api/v1/overview").good()["totals"]["wills"].clone();
    assert_eq!([&wills["pending"], &wills["published"], &wills["discarded"]], [0, 1, 1]);
}

#[test]
fn a_will_is_discarded_whether_its_client_is_there_or_not() {
    let broker = Broker::with_admin("", "");
    let lamp = broker.connect(Connect::v5("lamp").will(Will::new("gone/lamp", "off")));
    leave_pending(&broker, "other");
    let mut watcher = broker.client(5);
    watcher.subscribe("gone/#", 0);
    assert_eq!(delete(&broker, "/api/v1/wills/lamp").status, 204);
    assert_eq!(delete(&broker, "/api/v1/wills/other").status, 204);
    delete(&broker, "/api/v1/wills/other").problem(404);
    lamp.cut();
    assert_eq!(items(&broker, "/api/v1/wills", 10).0.len(), 0);
    assert_eq!(watcher.until_own_marker().len(), 0);
}

#[test]
fn wills_that_are_held_back_wait_until_they_are_released() {
    let broker = Broker::with_admin("", "");
    let mut watcher = broker.client(5);
    watcher.subscribe("gone/#", 0);
    let hold = json!({"scope": "client_id_prefix", "client_id_prefix": "a"});
    assert_eq!(post(&broker, "/api/v1/holds", &hold).status, 204);
    assert_eq!(post(&broker, "/api/v1/holds", &hold).status, 204);
    assert_eq!(get(&broker, "/api/v1/holds").good(), json!({"items": [hold]}));
    for client_id in ["a1", "b1"] {
        let will = Will::new(&format!("gone/{client_id}"), client_id);
        broker.connect(Connect::v5(client_id).expiry(60).will(will)).cut();
    }
    assert_eq!(watcher.payloads(1), ["b1"]);
    assert_eq!(get(&broker, "/api/v1/wills/a1").good()["state"], "held");
    let release = |wills: &str| {
        let body = json!({"scope": "client_id_prefix", "client_id_prefix": "a", "wills": wills});
        post(&broker, "/api/v1/holds/release", &body)
    };
    assert_eq!(release("publish").status, 204);
    assert_eq!(watcher.payloads(1), ["a1"]);
    release("publish").problem(404);
    assert_eq!(get(&broker, "/api/v1/holds").good()["items"], json!([]));
}

#[test]
fn what_is_no_hold_is_refused() {
    let broker = Broker::with_admin("", "");
    for body in [
        json!({}),
        json!({"scope": "some"}),
        json!({"scope": "all", "listener": 0}),
        json!({"scope": "listener"}),
        json!({"scope": "listener", "listener": 9}),
        json!({"scope": "listener", "listener": "0"}),
        json!({"scope": "client_id_prefix", "client_id_prefix": ""}),
        json!([]),
    ] {
        post(&broker, "/api/v1/holds", &body).problem(422);
    }
    post(&broker, "/api/v1/holds/release", &json!({"scope": "all"})).problem(422);
    // There may be so many, and no more.
    for prefix in 0..64 {
        let body = json!({"scope": "client_id_prefix", "client_id_prefix": format!("{prefix}-")});
        assert_eq!(post(&broker, "/api/v1/holds", &body).status, 204);
    }
    post(&broker, "/api/v1/holds", &json!({"scope": "all"})).problem(409);
    assert_eq!(Request::new("GET", "/api/v1/storms").send(&broker).good()["items"], json!([]));
}
