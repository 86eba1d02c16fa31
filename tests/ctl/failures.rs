//! How failures are told, and the exit codes that tell them apart.

use std::net::TcpListener;

use serde_json::json;

use crate::fake::{Fake, Reply};
use crate::{Said, ctl, ctl_at, program, told};

fn refusing(status: u16) -> Fake {
    let problem =
        json!({"type": "about:blank", "title": "Title", "status": status, "detail": "there is no \"x\u{1b}\""});
    Fake::new(move |_| Reply(status, problem.to_string()))
}

#[test]
fn exit_codes_tell_failures_apart() {
    for (status, code) in [(400, 2), (401, 4), (403, 4), (404, 5), (409, 1), (422, 2), (500, 1), (503, 1)] {
        let said = ctl(&refusing(status), &["client", "x"]);
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{status}");
        assert_eq!(said.error, "willowmq: there is no \"x\\u{1b}\"\n", "{status}");
    }
}

#[test]
fn failures_of_streams_are_told_like_others() {
    assert_eq!(ctl(&refusing(404), &["trace", "x"]).code, 5);
    assert_eq!(ctl(&refusing(401), &["subscribe", "#"]).code, 4);
}

#[test]
fn a_broker_that_is_not_there_is_told_with_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = ctl_at(&format!("http://{free}"), &["status"]);
    assert_eq!(said.code, 3);
    assert!(said.error.starts_with(&format!("willowmq: cannot reach http://{free}: ")), "{}", said.error);
}

#[test]
fn what_is_no_answer_of_ours_is_a_failure() {
    for answer in ["<html>\u{1b}", "[1]", "7", "null"] {
        let said = ctl(&Fake::saying(answer), &["clients"]);
        assert_eq!(said.code, 1, "{answer}: {}", said.error);
        assert!(said.error.contains("is not understood") && !said.error.contains('\u{1b}'), "{}", said.error);
    }
}

#[test]
fn a_list_that_never_ends_is_a_failure() {
    let said = ctl(&Fake::saying(r#"{"items": [], "next": "again"}"#), &["clients"]);
    assert_eq!(said.code, 1, "{}", said.error);
    assert!(said.error.contains("its list never ends"), "{}", said.error);
}

#[test]
fn a_wrong_command_line_is_told_before_anything_is_asked() {
    let fake = Fake::saying("");
    let cases: [&[&str]; 12] = [
        &[],
        &["frobnicate"],
        &["kick"],
        &["kick", "a", "--will", "keep"],
        &["publish", "a", "b", "--stdin"],
        &["publish", "a", "--qos", "3"],
        &["hold", "add"],
        &["hold", "add", "--all", "--listener", "1"],
        &["subscriptions"],
        &["retained", "a/#", "delete", "b"],
        &["wills", "--state", "due", "discard", "b"],
        &["drain", "--cancel", "--wait"],
    ];
    for arguments in cases {
        let said = ctl(&fake, arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.error);
    }
    assert!(fake.asked().is_empty(), "{:?}", fake.asked());
    assert_eq!(ctl_at("127.0.0.1:8080", &["status"]).code, 2);
}

#[test]
fn the_token_is_sent_as_it_stands_in_the_file() {
    let path = std::env::temp_dir().join(format!("willowmq-ctl-token-{}", std::process::id()));
    std::fs::write(&path, "watch read r-token\nops write w-token\n").unwrap();
    let fake = Fake::saying("{}");
    told(&fake, &["--token-file", path.to_str().unwrap(), "health"]);
    let url = format!("http://{}", fake.address);
    let output = program().args(["ctl", "health"]).env("WILLOWMQ_URL", url).env("WILLOWMQ_TOKEN_FILE", &path).output();
    assert_eq!(Said::from(output.unwrap()).code, 0);
    std::fs::remove_file(&path).unwrap();
    let sent: Vec<_> = fake.asked().into_iter().map(|asked| asked.authorization).collect();
    assert_eq!(sent, [Some("Bearer w-token".to_owned()), Some("Bearer w-token".to_owned())]);
    let said = ctl(&fake, &["--token-file", path.to_str().unwrap(), "health"]);
    assert!(said.code == 2 && said.error.contains("cannot read"), "{}", said.error);
}

#[test]
fn the_configuration_tells_where_the_broker_is() {
    let fake = Fake::saying("{}");
    let path = std::env::temp_dir().join(format!("willowmq-ctl-config-{}", std::process::id()));
    std::fs::write(&path, format!("[admin]\naddress = \"{}\"\n", fake.address)).unwrap();
    let said = Said::from(program().args(["ctl", "health", "--config"]).arg(&path).output().unwrap());
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    std::fs::write(&path, "[admin]\nadress = 7\n").unwrap();
    let said = Said::from(program().args(["--config"]).arg(&path).args(["ctl", "health"]).output().unwrap());
    assert_eq!(said.code, 2, "{}", said.error);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_reader_that_stops_early_is_no_failure() {
    use std::process::Stdio;
    let fake = Fake::saying(&json!({"items": vec![json!({"client_id": "a"}); 1000], "next": "on and on"}).to_string());
    let url = format!("http://{}", fake.address);
    let mut command = program();
    let mut child = command.args(["ctl", "--url", &url, "clients"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
