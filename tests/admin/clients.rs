//! Clients: listed, looked at, disconnected, traced; their subscriptions.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::property::{RECEIVE_MAXIMUM, SUBSCRIPTION_IDENTIFIER, number};
use crate::harness::{Broker, Connect, Publish, Will};
use crate::http::{Stream, delete, get, items, post};

#[test]
fn a_thousand_clients_are_listed_page_by_page_each_once() {
    let broker = Broker::with_admin("", "");
    for number in 0..1000 {
        broker.connect(Connect::v5(&format!("c{number}")).expiry(3600)).disconnect();
    }
    let _connected: Vec<_> = (0..10).map(|number| broker.connect(Connect::v5(&format!("here-{number}")))).collect();
    let ids = |target: &str, limit| {
        let (all, pages) = items(&broker, target, limit);
        let ids: BTreeSet<_> = all.iter().map(|item| item["client_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), all.len(), "each is there once");
        (ids.len(), pages)
    };
    assert_eq!(ids("/api/v1/clients", 1000).0, 1010);
    assert_eq!(ids("/api/v1/clients", 7).0, 1010);
    assert_eq!(ids("/api/v1/clients?connected=true", 3).0, 10);
    assert_eq!(ids("/api/v1/clients?connected=false", 333).0, 1000);
    assert_eq!(ids("/api/v1/clients?client_id=c9*9", 1).0, 1 + 10);
    assert_eq!(ids("/api/v1/clients?address=127.", 100).0, 10);
    assert_eq!(ids("/api/v1/clients?has_will=true", 100), (0, 1));
    // However few there are to be found, a page is found for it.
    assert_eq!(ids("/api/v1/clients?client_id=here-7", 1).0, 1);
    let page = get(&broker, "/api/v1/clients").good();
    assert_eq!(page["items"].as_array().unwrap().len(), 100);
}

#[test]
fn a_list_is_asked_for_in_words_that_it_knows() {
    let broker = Broker::with_admin("", "");
    for query in
        ["limit=0", "limit=1001", "limit=x", "after=x", "after=", "connected=maybe", "listener=-1", "color=red"]
    {
        get(&broker, &format!("/api/v1/clients?{query}")).problem(400);
    }
}

#[test]
fn a_client_is_told_of_in_detail() {
    let broker = Broker::with_admin("", "");
    let will = Will::new("status/lamp", "off");
    let id = "a/b c%é\u{1F980}";
    let connect = Connect::v5(id).expiry(3600).keep_alive(60).will(will).property(number(RECEIVE_MAXIMUM, 7));
    let mut client = broker.connect(connect);
    client.subscribe_with(&[("a/+", 2)], &[number(SUBSCRIPTION_IDENTIFIER, 5)]);
    client.subscribe("$share/group/b/#", 1);
    client.ping();
    let path = "/api/v1/clients/a%2Fb%20c%25%C3%A9%F0%9F%A6%80";
    let detail = get(&broker, path).good();
    assert_eq!(detail["client_id"], id);
    assert_eq!((&detail["connected"], &detail["protocol"]), (&json!(true), &json!("5.0")));
    assert!(detail["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(detail["subscriptions"], 2);
    assert_eq!(detail["subscription_list"][1]["filter"], "a/+");
    assert_eq!((&detail["subscription_list"][1]["qos"], &detail["subscription_list"][1]["id"]), (&json!(2), &json!(5)));
    assert_eq!(detail["session_expiry_seconds"], 3600);
    assert_eq!(detail["will_in_full"]["message"]["payload"], "off");
    let connection = &detail["connection"];
    assert_eq!((&connection["keep_alive_seconds"], &connection["receive_maximum"]), (&json!(60), &json!(7)));
    assert!(connection["traffic"]["packets_in"].as_u64().unwrap() >= 3);
    client.disconnect();
    broker.client(5).publish(Publish::new("a/x", "1").qos(1));
    let detail = get(&broker, path).good();
    assert_eq!(
        (&detail["connected"], &detail["connection"], &detail["queued"]),
        (&json!(false), &json!(null), &json!(1))
    );
    assert_eq!(detail["queue"]["messages"], 1);
    assert!(detail["ends"].is_string());
    assert!(get(&broker, "/api/v1/clients/nobody").problem(404).contains("nobody"));
    get(&broker, "/api/v1/clients/%ff").problem(400);
}

#[test]
fn a_client_is_disconnected_and_its_will_goes_as_it_was_said() {
    let broker = Broker::with_admin("", "");
    let mut watcher = broker.client(5);
    watcher.subscribe("gone/#", 0);
    for (client_id, will, expected) in [("a", "discard", 0), ("b", "publish", 1)] {
        let last = Will::new(&format!("gone/{client_id}"), client_id);
        let mut client = broker.connect(Connect::v5(client_id).expiry(60).will(last));
        let path = format!("/api/v1/clients/{client_id}/disconnect");
        assert_eq!(post(&broker, &path, &json!({"will": will})).status, 204);
        client.expect_disconnect(&[0x98]);
        assert_eq!(watcher.until_own_marker().len(), expected);
        post(&broker, &path, &json!({"will": will})).problem(404);
        assert_eq!(get(&broker, &format!("/api/v1/clients/{client_id}")).good()["connected"], false);
    }
    post(&broker, "/api/v1/clients/a/disconnect", &json!({})).problem(422);
    post(&broker, "/api/v1/clients/a/disconnect", &json!({"will": "keep"})).problem(422);
}

#[test]
fn a_session_is_ended_with_all_that_it_has() {
    let broker = Broker::with_admin("", "");
    let mut client = broker.connect(Connect::v5("lamp").expiry(3600).will(Will::new("gone/lamp", "off")));
    client.subscribe("a", 1);
    let mut watcher = broker.client(5);
    watcher.subscribe("gone/#", 0);
    delete(&broker, "/api/v1/sessions/lamp").problem(400);
    assert_eq!(delete(&broker, "/api/v1/sessions/lamp?will=publish").status, 204);
    client.expect_disconnect(&[0x98]);
    assert_eq!(watcher.payloads(1), ["off"]);
    get(&broker, "/api/v1/clients/lamp").problem(404);
    delete(&broker, "/api/v1/sessions/lamp?will=publish").problem(404);
    assert!(!broker.connect(Connect::v5("lamp").resume()).session_present());
}

#[test]
fn subscriptions_are_found_by_filter_and_by_topic() {
    let broker = Broker::with_admin("", "");
    let mut clients: Vec<_> = (0..20).map(|_| broker.client(5)).collect();
    for client in &mut clients {
        client.subscribe("a/+", 1);
    }
    clients[0].subscribe("a/b", 2);
    clients[1].subscribe("$share/group/a/#", 0);
    let of = |query: &str, limit| items(&broker, &format!("/api/v1/subscriptions?{query}"), limit).0;
    assert_eq!(of("filter=a/%2B", 7).len(), 20);
    assert_eq!(of("topic=a/b", 3).len(), 22);
    assert_eq!(of("topic=c", 100).len(), 0);
    let shared = of("filter=$share/group/a/%23", 100);
    assert_eq!((shared.len(), &shared[0]["group"]), (1, &json!("group")));
    for query in ["", "?filter=a&topic=a", "?filter=a/%23/b", "?topic=a/%2B"] {
        get(&broker, &format!("/api/v1/subscriptions{query}")).problem(400);
    }
}

#[test]
fn a_trace_tells_every_packet_and_what_happens_to_the_client() {
    let broker = Broker::with_admin("", "");
    let mut trace = Stream::open(&broker, "/api/v1/clients/room%2Flamp/trace?seconds=60");
    let will = Will::new("status", "off");
    let mut client = broker.connect(Connect::v5("room/lamp").will(will).username(b"u").password(b"secret"));
    client.publish(Publish::new("a/b", "hello").qos(1));
    let connect = trace.line_with("packet", "CONNECT");
    assert_eq!((&connect["direction"], &connect["client_id"]), (&json!("in"), &json!("room/lamp")));
    assert!(!connect.to_string().contains("secret"));
    let publish = trace.line_with("packet", "PUBLISH");
    assert_eq!((&publish["topic"], &publish["payload"]), (&json!("a/b"), &json!("hello")));
    assert_eq!(trace.line_with("packet", "PUBACK")["direction"], "out");
    client.cut();
    assert_eq!(trace.line_with("event", "closed")["cause"], "closed");
    // Others are not in it.
    broker.client(5).ping();
}

#[test]
fn a_trace_ends_by_itself() {
    let broker = Broker::with_admin("", "");
    let mut trace = Stream::open(&broker, "/api/v1/clients/nobody/trace?seconds=1");
    assert_eq!(trace.line(), None::<Value>);
    for seconds in ["0", "3601", "x"] {
        get(&broker, &format!("/api/v1/clients/nobody/trace?seconds={seconds}")).problem(400);
    }
}
