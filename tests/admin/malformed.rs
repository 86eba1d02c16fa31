//! What is no proper request is answered for what it is, and keeps nobody from being answered.

use std::io::{BufReader, Read, Write};
use std::thread;

use serde_json::json;

use crate::harness::Broker;
use crate::http::{Request, connect, delete, get, post, read};

#[test]
fn every_failure_is_a_problem_document() {
    let broker = Broker::with_admin("", "");
    get(&broker, "/").problem(404);
    get(&broker, "/api/v1/clients/").problem(404);
    get(&broker, "/api/v2/clients").problem(404);
    assert!(delete(&broker, "/api/v1/clients").problem(405).contains("DELETE is not for /api/v1/clients"));
    assert_eq!(delete(&broker, "/api/v1/version").field("allow"), Some("GET,HEAD"));
    Request::new("TRACE", "/api/v1/version").send(&broker).problem(405);
    let publish = |fields: &[(&str, &str)], body: &[u8]| {
        let request = Request::new("POST", "/api/v1/publish");
        fields.iter().fold(request, |request, (name, value)| request.field(name, value)).body(body).send(&broker)
    };
    let json = [("content-type", "application/json")];
    publish(&[], b"{\"topic\": \"a\"}").problem(415);
    publish(&[("content-type", "text/plain")], b"{\"topic\": \"a\"}").problem(415);
    for body in [b"".as_slice(), b"{", b"nothing", b"{\"topic\": \"\xff\"}", b"{\"topic\": \"a\"} and more"] {
        publish(&json, body).problem(400);
    }
    assert!(publish(&json, b"{\"topic\": 7}").problem(422).contains("line 1"));
    assert_eq!(publish(&[("content-type", "Application/JSON; charset=utf-8")], b"{\"topic\": \"a\"}").status, 200);
    assert!(post(&broker, "/api/v1/publish", &json!({"topic": "a", "payload": "x".repeat(4 << 20)})).status == 413);
}

#[test]
fn a_deep_body_is_no_trouble() {
    let broker = Broker::with_admin("", "");
    let body = "[".repeat(100_000);
    let deep = Request::new("POST", "/api/v1/publish").field("content-type", "application/json").body(body.as_bytes());
    assert!(matches!(deep.send(&broker).status, 400 | 422));
}

#[test]
fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let broker = Broker::with_admin("", "");
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(128 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(1000));
    for bytes in [
        b"\0\0\0\0\r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /api/v1/publish HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"POST /api/v1/publish HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let mut stream = connect(broker.admin());
        let _ = stream.write_all(bytes); // It may be refused before the end.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        if let Some(answer) = read(&mut BufReader::new(&mut stream)) {
            assert!((400..500).contains(&answer.status), "{answer:?}");
        }
        assert_eq!(get(&broker, "/health/live").status, 200);
    }
}

#[test]
fn whoever_asks_and_does_not_read_keeps_nobody_else_waiting() {
    let broker = Broker::with_admin("connections_max = 64", "");
    let mut idle: Vec<_> = (0..32).map(|_| connect(broker.admin())).collect();
    for stream in &mut idle {
        stream.write_all(&Request::new("GET", "/openapi.json").encode(broker.admin())).unwrap();
    }
    for stream in &mut idle[..16] {
        let _ = stream.write_all(b"GET /api/v1/ver");
    }
    assert_eq!(get(&broker, "/health/ready").good()["status"], "ok");
}

#[test]
fn those_who_say_nothing_make_room_for_those_who_ask() {
    let broker = Broker::with_admin("connections_max = 4", "");
    let mut silent: Vec<_> = (0..16).map(|_| connect(broker.admin())).collect();
    for stream in &mut silent[8..] {
        let _ = stream.write_all(b"GET /health/li"); // Some are gone already.
    }
    assert_eq!(get(&broker, "/health/live").good()["status"], "ok");
    let mut open = connect(broker.admin());
    let watch = b"GET /api/v1/messages?filter=%23 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    open.write_all(watch).unwrap();
    let mut open = BufReader::new(open);
    assert_eq!(crate::http::read_head(&mut open).unwrap().status, 200);
    // Neither do those who ask for nothing but the health, one request after the other; a stream goes on.
    let busy: Vec<_> = (0..16).map(|_| connect(broker.admin())).collect();
    for mut stream in &busy {
        let _ = stream.write_all("GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100).as_bytes());
    }
    post(&broker, "/api/v1/publish", &json!({"topic": "still/there"})).good();
    let mut told = String::new();
    while !told.contains("still/there") {
        assert!(std::io::BufRead::read_line(&mut open, &mut told).unwrap() > 0, "the stream has ended");
    }
    let metrics = get(&broker, "/metrics").body;
    let metrics = String::from_utf8(metrics).unwrap();
    let given_up = metrics.lines().find_map(|line| line.strip_prefix("willowmq_http_connections_given_up_total "));
    assert!(given_up.unwrap().parse::<f64>().unwrap() >= 12.0, "{given_up:?}");
}

#[test]
fn connections_above_the_limit_wait_for_their_turn() {
    let broker = Broker::with_admin("connections_max = 1", "");
    let mut first = connect(broker.admin());
    first.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(read(&mut BufReader::new(&mut first)).unwrap().status, 200);
    let mut second = connect(broker.admin());
    second.write_all(&Request::new("GET", "/health/live").encode(broker.admin())).unwrap();
    drop(first);
    assert_eq!(read(&mut BufReader::new(&mut second)).unwrap().status, 200);
}

#[test]
fn many_requests_at_a_time_are_all_answered() {
    let broker = Broker::with_admin("", "");
    thread::scope(|scope| {
        for number in 0..16 {
            let broker = &broker;
            scope.spawn(move || {
                for round in 0..20 {
                    let topic = format!("t/{number}/{round}");
                    post(broker, "/api/v1/publish", &json!({"topic": topic, "payload": "x", "retain": true})).good();
                    get(broker, "/api/v1/overview").good();
                    get(broker, "/api/v1/retained?filter=t/%23").good();
                }
            });
        }
    });
    assert!(get(&broker, "/api/v1/overview").good()["totals"]["retained"].as_u64() >= Some(320));
}

#[test]
fn requests_on_one_connection_are_answered_in_their_order() {
    let broker = Broker::with_admin("", "");
    let mut stream = connect(broker.admin());
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let both = [request("/nothing"), request("/api/v1/version")].concat();
    stream.write_all(both.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(read(&mut stream).unwrap().status, 404);
    assert_eq!(read(&mut stream).unwrap().status, 200);
    stream
        .get_mut()
        .write_all(b"HEAD /api/v1/version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}
