//! What each subcommand asks the broker for, and how it shows the answer.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply};
use crate::{ctl, ctl_with_input, told};

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn clients_are_listed_page_by_page() {
    let fake = Fake::new(|line| {
        let client = |id: &str| {
            json!({"client_id": id, "username": null, "address": "192.0.2.1:7", "protocol": "5.0", "connected": true,
                   "since": "2026-01-01T00:00:00.000Z", "subscriptions": 2, "queued": 0, "in_flight": 1, "will": "armed"})
        };
        let page = match line.contains("after=") {
            false => json!({"items": [client("lamp"), client("evil\u{1b}[2J\u{9b}")], "next": "A+/="}),
            true => json!({"items": [client("last")], "next": null}),
        };
        Reply(200, page.to_string())
    });
    let text = told(&fake, &["clients", "l*", "--user", "anna", "--connected", "--without-will"]);
    let asked: Vec<_> = fake.asked().into_iter().map(|asked| asked.line).collect();
    let query = "client_id=l%2A&username=anna&connected=true&has_will=false&limit=1000";
    let expected = ["", "&after=A%2B%2F%3D"].map(|after| format!("GET /api/v1/clients?{query}{after}"));
    assert_eq!(asked, expected);
    let words = words(&text);
    assert_eq!(words[0][..3], ["CLIENT", "USER", "ADDRESS"]);
    assert_eq!(words[1], ["lamp", "-", "192.0.2.1:7", "5.0", "2026-01-01T00:00:00.000Z", "2", "0", "1", "armed"]);
    assert_eq!((words[2][0], words[3][0], words.len()), ("evil\\u{1b}[2J\\u{9b}", "last", 4));
}

#[test]
fn json_is_one_object_a_line_and_harms_no_terminal() {
    let page = json!({"items": [{"client_id": "a\u{9b}b"}, {"client_id": "c"}], "next": null});
    let fake = Fake::saying(&page.to_string());
    let text = told(&fake, &["--json", "clients"]);
    assert_eq!(text, "{\"client_id\":\"a\\u009bb\"}\n{\"client_id\":\"c\"}\n");
}

#[test]
fn a_limit_ends_a_list_early() {
    let fake = Fake::saying(&json!({"items": [{"client_id": "a"}, {"client_id": "b"}], "next": "x"}).to_string());
    let text = told(&fake, &["clients", "--json", "--limit", "3"]);
    assert_eq!(text.lines().count(), 3);
    let lines: Vec<_> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /api/v1/clients?limit=3", "GET /api/v1/clients?limit=3&after=x"]);
}

#[test]
fn a_client_is_described() {
    let fake =
        Fake::saying(r#"{"client_id": "a/b", "will": {"topic": "x\u0007"}, "subscriptions": [{"filter": "x"}]}"#);
    let text = told(&fake, &["client", "a/b"]);
    assert_eq!(fake.asked_once().line, "GET /api/v1/clients/a%2Fb");
    assert_eq!(text, "client id  a/b\nsubscriptions:\n  filter=x\nwill:\n  topic  x\\u{7}\n");
}

/// A subcommand, what it has to ask for, with which body, and what it has to say.
type Case<'a> = (&'a [&'a str], &'a str, Value, &'a str);

#[test]
fn what_changes_something_asks_for_it_and_says_so() {
    let cases: &[Case<'_>] = &[
        (&["kick", "a b"], "POST /api/v1/clients/a%20b/disconnect", json!({"will": "publish"}), "a b: disconnected\n"),
        (
            &["kick", "a", "--will", "discard"],
            "POST /api/v1/clients/a/disconnect",
            json!({"will": "discard"}),
            "a: disconnected\n",
        ),
        (&["sessions", "delete", "a"], "DELETE /api/v1/sessions/a?will=publish", Value::Null, "a: deleted\n"),
        (
            &["publish", "a/b", "hello", "--qos", "1", "--retain", "--user-property", "k=v"],
            "POST /api/v1/publish",
            json!({"topic": "a/b", "payload": "hello", "qos": 1, "retain": true, "user_properties": [["k", "v"]]}),
            "a/b: published\n",
        ),
        (
            &["publish", "a"],
            "POST /api/v1/publish",
            json!({"topic": "a", "payload": "", "qos": 0, "retain": false}),
            "a: published\n",
        ),
        (
            &["retained", "set", "a/b", "-1", "--expiry", "60"],
            "PUT /api/v1/retained/message?topic=a%2Fb",
            json!({"payload": "-1", "qos": 0, "message_expiry_seconds": 60}),
            "a/b: retained\n",
        ),
        (&["retained", "delete", "a/b"], "DELETE /api/v1/retained/message?topic=a%2Fb", Value::Null, "a/b: deleted\n"),
        (&["wills", "publish", "a"], "POST /api/v1/wills/a/publish", Value::Null, "a: its will is published\n"),
        (&["wills", "discard", "a"], "DELETE /api/v1/wills/a", Value::Null, "a: its will is discarded\n"),
        (
            &["hold", "add", "--listener", "1"],
            "POST /api/v1/holds",
            json!({"scope": "listener", "listener": 1}),
            "wills are held back from now on\n",
        ),
        (
            &["hold", "add", "--client-prefix", "x"],
            "POST /api/v1/holds",
            json!({"scope": "client_id_prefix", "client_id_prefix": "x"}),
            "wills are held back from now on\n",
        ),
        (
            &["hold", "release", "--all", "--wills", "discard"],
            "POST /api/v1/holds/release",
            json!({"scope": "all", "wills": "discard"}),
            "the hold is released\n",
        ),
        (&["log-level", "debug"], "PUT /api/v1/log", json!({"level": "debug"}), "debug\n"),
        (&["reload"], "POST /api/v1/reload", Value::Null, "nothing has changed\n"),
        (
            &["drain", "--over", "5m"],
            "POST /api/v1/drain",
            json!({"over_seconds": 300}),
            "the drain has begun: - of - clients left, until -\n",
        ),
        (&["drain", "--cancel"], "DELETE /api/v1/drain", Value::Null, "the drain is cancelled\n"),
    ];
    for (arguments, line, body, expected) in cases {
        let fake = Fake::saying("");
        let text = told(&fake, arguments);
        let asked = fake.asked_once();
        assert_eq!((asked.line.as_str(), &asked.body), (*line, body), "{arguments:?}");
        assert_eq!(text, *expected, "{arguments:?}");
    }
}

#[test]
fn payloads_come_from_files_and_from_standard_input() {
    let path = std::env::temp_dir().join(format!("willowmq-ctl-payload-{}", std::process::id()));
    std::fs::write(&path, [0xff, 0x00]).unwrap();
    let fake = Fake::saying("");
    told(&fake, &["publish", "a", "--file", path.to_str().unwrap()]);
    std::fs::remove_file(path).unwrap();
    let said = ctl_with_input(&fake, &["publish", "a", "--stdin"], "ünï\n".as_bytes());
    assert_eq!(said.code, 0, "{}", said.error);
    let bodies: Vec<_> = fake.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!((&bodies[0]["payload_base64"], &bodies[1]["payload"]), (&json!("/wA="), &json!("ünï\n")));
}

#[test]
fn lists_are_tables() {
    let item = json!({
        "client_id": "lamp", "state": "pending", "due": "2026-01-01T00:00:00.000Z", "topic": "a/b", "qos": 1, "retain": true,
        "delay_interval": 90, "filter": "a/+", "no_local": true, "payload_bytes": 7, "shard": 3,
        "begin": "2026-01-01T00:00:01.000Z", "duration": 1.5, "wills": 5000, "lateness_max": 0.25, "scope": "listener",
        "listener": 2,
    });
    let cases: [(&[&str], &str, &[&str]); 7] = [
        (
            &["wills", "--state", "pending", "--client", "l*"],
            "GET /api/v1/wills?state=pending&client_id=l%2A&limit=1000",
            &["lamp", "pending", "2026-01-01T00:00:00.000Z", "a/b", "1", "yes", "1m", "30s"],
        ),
        (
            &["subscriptions", "a/+"],
            "GET /api/v1/subscriptions?filter=a%2F%2B&limit=1000",
            &["lamp", "a/+", "1", "no", "local"],
        ),
        (
            &["subscriptions", "--topic", "a/b"],
            "GET /api/v1/subscriptions?topic=a%2Fb&limit=1000",
            &["lamp", "a/+", "1", "no", "local"],
        ),
        (&["retained", "a/#"], "GET /api/v1/retained?filter=a%2F%23&limit=1000", &["a/b", "1", "7", "-"]),
        (&["retained"], "GET /api/v1/retained?filter=%23&limit=1000", &["a/b", "1", "7", "-"]),
        (&["storms"], "GET /api/v1/storms", &["3", "2026-01-01T00:00:01.000Z", "1.5s", "5000", "250ms"]),
        (&["hold", "list"], "GET /api/v1/holds", &["listener", "2"]),
    ];
    for (arguments, line, expected) in cases {
        let fake = Fake::saying(&json!({"items": [item], "next": null}).to_string());
        let text = told(&fake, arguments);
        assert_eq!(fake.asked_once().line, line);
        assert_eq!(words(&text)[1], expected, "{arguments:?}\n{text}");
    }
}

#[test]
fn a_retained_payload_is_printed_byte_for_byte_where_no_terminal_reads_it() {
    let fake = Fake::saying(r#"{"topic": "a", "payload": "x\u001by", "qos": 1}"#);
    assert_eq!(told(&fake, &["retained", "get", "a"]), "x\u{1b}y");
    assert_eq!(fake.asked_once().line, "GET /api/v1/retained/message?topic=a");
    let binary = Fake::saying(r#"{"topic": "a", "payload_base64": "QUIK"}"#);
    assert_eq!(told(&binary, &["retained", "get", "a"]), "AB\n");
}

#[test]
fn messages_are_printed_as_they_come() {
    let lines = "{\"topic\":\"a/b\",\"payload\":\"1\\n\\u001b\"}\n{\"missed\":3}\n\n{\"topic\":\"c\",\"payload_base64\":\"/wA=\"}\n{\"topic\":\"d\"}\n";
    let fake = Fake::saying(lines);
    let text = told(&fake, &["subscribe", "a/#", "--count", "2"]);
    let expected =
        "a/b 1\\n\\u{1b}\n… 3 messages left out: they came faster than they were read\nc (2 B in base64) /wA=\n";
    assert_eq!(text, expected);
    assert_eq!(fake.asked_once().line, "GET /api/v1/messages?filter=a%2F%23");
    let json = told(&fake, &["subscribe", "a/#", "--json", "--count", "1"]);
    assert_eq!(json, "{\"payload\":\"1\\n\\u001b\",\"topic\":\"a/b\"}\n");
}

#[test]
fn a_trace_has_a_line_for_every_packet() {
    let fake = Fake::saying(
        "{\"time\":\"t\",\"direction\":\"in\",\"packet\":\"PUBLISH\",\"topic\":\"a\\u0000\",\"qos\":1,\"x\":null}\n",
    );
    let text = told(&fake, &["trace", "lamp", "--for", "2m"]);
    assert_eq!(text, "t in PUBLISH qos=1 topic=a\\u{0}\n");
    assert_eq!(fake.asked_once().line, "GET /api/v1/clients/lamp/trace?seconds=120");
}

#[test]
fn reload_prints_what_changed() {
    let answer = json!({"changed": [{"key": "limits.maximum_qos", "old": "2", "new": "1"}], "needs_restart": [], "reloaded": []});
    let fake = Fake::saying(&answer.to_string());
    assert_eq!(told(&fake, &["reload"]), "limits.maximum_qos: 2 → 1\n");
}

#[test]
fn health_exits_as_it_says() {
    let well = Fake::saying(r#"{"status": "ok"}"#);
    assert_eq!(told(&well, &["health"]), "status  ok\n");
    let ill = Fake::new(|_| Reply(503, r#"{"status": "draining"}"#.to_owned()));
    let said = ctl(&ill, &["health"]);
    assert_eq!((said.code, said.out.as_str()), (1, "status  draining\n"));
}

/// A broker that has been running for so long, and has received so many messages.
fn overview(uptime: f64, messages: u64) -> String {
    json!({
        "version": "0.1.0", "state": "ok", "uptime": uptime,
        "totals": {"connections": 12, "messages_received": messages, "wills": {"armed": 3, "lateness_p99": 0.002}},
        "shards": [{"shard": 0, "connections": 12, "turn_p99": 0.0005, "stalls": 0, "journal_backlog_bytes": 2048}],
    })
    .to_string()
}

#[test]
fn status_tells_what_there_is() {
    let text = told(&Fake::saying(&overview(3700.0, 5)), &["status"]);
    for line in [
        "version        0.1.0",
        "up for         1h 1m",
        "connections    12",
        "wills          3 armed, 0 pending, 0 due, 0 held",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is missing in:\n{text}");
    }
    assert_eq!(words(&text).last().unwrap(), &["0", "12", "-", "500µs", "0", "2.0", "KiB"]);
}

#[test]
fn top_prints_a_frame_where_one_is_enough() {
    let looks = std::sync::atomic::AtomicU64::new(0);
    let fake = Fake::new(move |_| {
        let look = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply(200, overview(100.0 + look as f64, 1000 + look * 500))
    });
    let text = told(&fake, &["top", "--once", "--interval", "250ms"]);
    assert!(text.contains("WillowMQ 0.1.0  up 1m 41s  ok"), "{text}");
    assert!(text.contains("messages in        500/s"), "{text}");
    assert!(fake.asked().iter().all(|asked| asked.line == "GET /api/v1/overview"));
}

#[test]
fn top_without_a_terminal_says_what_to_do() {
    let said = ctl(&Fake::saying(&overview(1.0, 1)), &["top"]);
    assert_eq!(said.code, 2);
    assert!(said.error.contains("top needs a terminal") && said.error.contains("--once"), "{}", said.error);
}

#[test]
fn a_wait_for_a_drain_ends_when_somebody_cancels_it() {
    let fake = Fake::new(|line| match line.starts_with("POST") {
        true => Reply(202, r#"{"state": "draining", "clients": 3, "clients_left": 2, "until": "t"}"#.to_owned()),
        false => Reply(200, r#"{"state": "none"}"#.to_owned()),
    });
    let said = ctl(&fake, &["drain", "--wait"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (1, "the drain has begun: 2 of 3 clients left, until t\nno drain goes on\n")
    );
    assert!(said.error.contains("cancelled"), "{}", said.error);
}
