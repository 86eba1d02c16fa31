//! Messages: published, retained, watched.

use std::io::{BufReader, Write};
use std::time::Instant;

use serde_json::json;

use crate::harness::{Broker, PATIENCE, Publish};
use crate::http::{Request, Stream, connect, delete, get, items, post, read_head};

#[test]
fn a_message_is_published_as_it_was_said() {
    let broker = Broker::with_admin("", "");
    let mut client = broker.client(5);
    client.subscribe("a/#", 2);
    let message = json!({
        "topic": "a/b", "payload_base64": "/wA=", "qos": 1, "content_type": "x/y", "response_topic": "re/ply",
        "correlation_data_base64": "AQ==", "user_properties": [["n", "1"], ["n", "2"]], "message_expiry_seconds": 60,
    });
    assert_eq!(post(&broker, "/api/v1/publish", &message).good(), json!({"matched": true}));
    let received = client.message();
    assert_eq!((received.payload.as_slice(), received.qos()), (b"\xff\0".as_slice(), 1));
    assert_eq!(post(&broker, "/api/v1/publish", &json!({"topic": "b"})).good(), json!({"matched": false}));
}

#[test]
fn what_no_client_might_publish_no_operator_may() {
    let broker = Broker::with_admin("", "[limits]\npacket_bytes_max = \"1KiB\"\ntopic_levels_max = 4\nmaximum_qos = 1");
    for message in [
        json!({}),
        json!({"topic": ""}),
        json!({"topic": "a/#"}),
        json!({"topic": "$SYS/broker/uptime"}),
        json!({"topic": "a/b/c/d/e"}),
        json!({"topic": "a", "qos": 2}),
        json!({"topic": "a", "qos": 3}),
        json!({"topic": "a", "qos": -1}),
        json!({"topic": "a", "payload": "x".repeat(1024)}),
        json!({"topic": "a", "payload": 7}),
        json!({"topic": "a", "colour": "red"}),
        json!({"topic": "a", "payload": "a", "payload_base64": "YQ=="}),
        json!({"topic": "a", "user_properties": [["n"]]}),
    ] {
        post(&broker, "/api/v1/publish", &message).problem(422);
    }
}

#[test]
fn retained_messages_are_set_browsed_and_deleted() {
    let broker = Broker::with_admin("", "");
    let message = |topic: &str| format!("/api/v1/retained/message?topic={topic}");
    for number in 0..30 {
        let body = json!({"payload": format!("{number}"), "qos": 1});
        let put = Request::new("PUT", &message(&format!("shelf/{number}"))).json(&body).send(&broker);
        assert_eq!(put.status, 204);
    }
    let one = get(&broker, &message("shelf/7")).good();
    assert_eq!((&one["payload"], &one["qos"], &one["source"]), (&json!("7"), &json!(1), &json!("message")));
    for limit in [1, 7, 100] {
        assert_eq!(items(&broker, "/api/v1/retained?filter=shelf/%2B", limit).0.len(), 30);
    }
    assert_eq!(items(&broker, "/api/v1/retained?filter=shelf/7", 10).0.len(), 1);
    let mut client = broker.client(5);
    client.subscribe("shelf/7", 0);
    assert_eq!(client.payloads(1), ["7"]);
    assert_eq!(delete(&broker, &message("shelf/7")).status, 204);
    get(&broker, &message("shelf/7")).problem(404);
    delete(&broker, &message("shelf/7")).problem(404);
    let empty = Request::new("PUT", &message("shelf/1")).json(&json!({})).send(&broker);
    assert!(empty.problem(422).contains("DELETE"));
    get(&broker, &message("a/%23")).problem(422);
    get(&broker, "/api/v1/retained?filter=a%23").problem(400);
}

#[test]
fn what_cannot_be_retained_is_told() {
    let broker = Broker::with_admin("", "[limits]\nretained_messages_max = 1");
    let put = |topic: &str| {
        let body = json!({"payload": "x"});
        Request::new("PUT", &format!("/api/v1/retained/message?topic={topic}")).json(&body).send(&broker)
    };
    assert_eq!(put("a").status, 204);
    let refused = (0..8).map(|number| put(&format!("b{number}"))).filter(|answer| answer.status == 409).count();
    assert!(refused > 0, "the limit is one");
}

#[test]
fn a_restart_keeps_what_was_answered_for() {
    let mut broker = Broker::with_admin("", "");
    let put = Request::new("PUT", "/api/v1/retained/message?topic=a").json(&json!({"payload": "kept"}));
    assert_eq!(put.send(&broker).status, 204);
    let broker = Broker::with_admin_in(broker.kill(), "", "");
    assert_eq!(get(&broker, "/api/v1/retained/message?topic=a").good()["payload"], "kept");
}

#[test]
fn what_is_published_is_watched_line_by_line() {
    let broker = Broker::with_admin("", "");
    let mut stream = Stream::open(&broker, "/api/v1/messages?filter=a/%23");
    let mut client = broker.client(5);
    for number in 0..100 {
        client.publish(Publish::new("a/b", &number.to_string()).qos(1));
        client.publish(Publish::new("other", "x"));
    }
    for number in 0..100 {
        let line = stream.line().unwrap();
        assert_eq!((&line["topic"], &line["payload"]), (&json!("a/b"), &json!(number.to_string())));
    }
    get(&broker, "/api/v1/messages").problem(400);
    get(&broker, "/api/v1/messages?filter=a%23").problem(400);
}

#[test]
fn a_reader_that_is_slow_is_told_what_it_missed_and_one_that_is_gone_gives_its_place_back() {
    let broker = Broker::with_admin("connections_max = 4", "");
    let mut slow = connect(broker.admin());
    slow.write_all(&Request::new("GET", "/api/v1/messages?filter=%23").encode(broker.admin())).unwrap();
    let mut slow = BufReader::new(slow);
    assert_eq!(read_head(&mut slow).unwrap().status, 200);
    let mut client = broker.client(5);
    let payload = "x".repeat(64 * 1024);
    // More than the kernel's buffers and the tap together hold.
    for _ in 0..600 {
        client.publish(Publish::new("a", &payload));
    }
    client.ping();
    let mut text = String::new();
    let end = Instant::now() + PATIENCE;
    while !text.starts_with("{\"missed\":") {
        text.clear();
        std::io::BufRead::read_line(&mut slow, &mut text).unwrap();
        assert!(Instant::now() < end);
    }
    // Two may watch at a time, and whoever goes makes room.
    let second = Stream::open(&broker, "/api/v1/messages?filter=%23");
    assert!(get(&broker, "/api/v1/messages?filter=%23").problem(503).contains("too many streams"));
    drop((slow, second));
    let end = Instant::now() + PATIENCE;
    while get(&broker, "/api/v1/clients/x/trace?seconds=1").status == 503 {
        assert!(Instant::now() < end);
    }
}
