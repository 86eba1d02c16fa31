//! The real broker, looked after from the command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::{Said, certificates, ctl_at, program};

/// A broker with its directory, on ports that the system chooses.
struct Broker {
    process: Child,
    directory: PathBuf,
    mqtt: SocketAddr,
    url: String,
}

impl Broker {
    /// Starts one whose section `[admin]` has these lines, too.
    fn start(test: &str, admin: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("willowmq-ctl-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("willowmq.toml");
        std::fs::write(&file, settings("", admin)).unwrap();
        let mut command = program();
        command.arg("--config").arg(&file).env("WILLOWMQ_ADMIN_ENABLED", "true").current_dir(&directory);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut lines = log.lines().map(|line| line.unwrap());
        let mut said = Vec::new();
        let mut address_of = |what: &str| {
            let line = lines.by_ref().inspect(|line| said.push(line.clone())).find(|line| line.contains(what));
            let line = line.unwrap_or_else(|| panic!("the broker has ended: {said:#?}"));
            line.split_once("address=").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
        };
        let mqtt = address_of("listening for MQTT");
        let http: SocketAddr = address_of("listening for HTTP");
        let scheme = if admin.contains("certificate") { "https" } else { "http" };
        // Nobody reads the log any more, but the broker must not be kept from writing it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, directory, mqtt, url: format!("{scheme}://{http}") }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        ctl_at(&self.url, arguments)
    }

    /// What it said; it has to have worked.
    fn told(&self, arguments: &[&str]) -> String {
        let said = self.ctl(arguments);
        assert_eq!((said.code, said.error.as_str()), (0, ""), "{arguments:?}: {}", said.out);
        said.out
    }

    /// The items of a list.
    fn items(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.told(&[&["--json"], arguments].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn settings(first: &str, admin: &str) -> String {
    format!(
        "shards = 2\ndurability = \"memory\"\n{first}\n[admin]\naddress = \"127.0.0.1:0\"\n{admin}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n"
    )
}

/// A text as MQTT has it.
fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8][..], text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8][..], body].concat()
}

/// A client of MQTT 3.1.1 with a will, that has subscribed to `filter`.
fn client(broker: &Broker, id: &str, filter: &str) -> TcpStream {
    let mut stream = TcpStream::connect(broker.mqtt).unwrap();
    let body = [text("MQTT"), vec![4, 0b110, 0, 60], text(id), text("wills/lamp"), text("gone")].concat();
    stream.write_all(&packet(0x10, &body)).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream.write_all(&packet(0x82, &[vec![0, 1], text(filter), vec![0]].concat())).unwrap();
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).unwrap();
    assert_eq!(suback, [0x90, 3, 0, 1, 0]);
    stream
}

#[test]
fn a_client_is_found_served_and_sent_away() {
    let broker = Broker::start("client", "");
    let mut lamp = client(&broker, "lamp", "a/+");
    let found = broker.items(&["clients", "la*"]);
    assert_eq!((found.len(), &found[0]["client_id"], &found[0]["will"]), (1, &"lamp".into(), &"armed".into()));
    assert!(broker.told(&["clients"]).contains("lamp"));
    assert!(broker.told(&["client", "lamp"]).contains("client id"));
    assert_eq!(broker.items(&["subscriptions", "a/+"])[0]["client_id"], "lamp");
    assert_eq!(broker.items(&["subscriptions", "--topic", "a/b"])[0]["filter"], "a/+");
    assert_eq!(broker.items(&["wills", "--state", "armed"])[0]["topic"], "wills/lamp");
    assert!(broker.told(&["wills", "show", "lamp"]).contains("wills/lamp"));

    broker.told(&["publish", "a/b", "hello"]);
    let mut publish = [0; 12];
    lamp.read_exact(&mut publish).unwrap();
    assert_eq!(publish.as_slice(), packet(0x30, &[text("a/b"), b"hello".to_vec()].concat()));

    broker.told(&["kick", "lamp", "--will", "discard"]);
    assert_eq!(lamp.read(&mut [0]).unwrap(), 0, "the connection is closed");
    assert_eq!(broker.items(&["wills"]), [Value::Null; 0]);
    for arguments in [&["client", "lamp"][..], &["kick", "lamp"], &["wills", "publish", "lamp"]] {
        assert_eq!(broker.ctl(arguments).code, 5, "{arguments:?}");
    }
}

#[test]
fn retained_messages_are_set_found_and_deleted() {
    let broker = Broker::start("retained", "");
    broker.told(&["retained", "set", "a/b", "hello", "--qos", "1", "--user-property", "k=v"]);
    broker.told(&["publish", "a/c", "x", "--retain"]);
    let mut topics: Vec<_> = broker.items(&["retained", "a/#"]).iter().map(|item| item["topic"].to_string()).collect();
    topics.sort();
    assert_eq!(topics, ["\"a/b\"", "\"a/c\""]);
    assert_eq!(broker.told(&["retained", "get", "a/b"]), "hello");
    broker.told(&["retained", "delete", "a/b"]);
    assert_eq!(broker.ctl(&["retained", "get", "a/b"]).code, 5);
    assert_eq!(broker.ctl(&["publish", "a/#", "x"]).code, 2);
}

#[test]
fn messages_and_packets_are_watched() {
    let broker = Broker::start("watch", "");
    let _lamp = client(&broker, "lamp", "a/b");
    let watch = |arguments: &[&str]| {
        program().args(["ctl", "--url", &broker.url]).args(arguments).stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut watcher = watch(&["subscribe", "a/#", "--count", "1"]);
    let mut tracer = watch(&["--json", "trace", "lamp"]);
    // When they have begun to watch nobody is told, so there are messages until both have seen one.
    let mut traced = BufReader::new(tracer.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        traced.read_line(&mut line).unwrap();
        line
    });
    while watcher.try_wait().unwrap().is_none() || !reader.is_finished() {
        broker.told(&["publish", "a/b", "hello"]);
    }
    assert_eq!(Said::from(watcher.wait_with_output().unwrap()).out, "a/b hello\n");
    let packet: Value = serde_json::from_str(&reader.join().unwrap()).unwrap();
    assert_eq!((&packet["packet"], &packet["topic"]), (&"PUBLISH".into(), &"a/b".into()));
    tracer.kill().unwrap();
    tracer.wait().unwrap();
}

#[test]
fn wills_are_held_back_and_released() {
    let broker = Broker::start("holds", "");
    broker.told(&["hold", "add", "--client-prefix", "la"]);
    assert_eq!(broker.items(&["hold", "list"])[0]["client_id_prefix"], "la");
    drop(client(&broker, "lamp", "a"));
    while broker.items(&["wills", "--state", "held"]).is_empty() {} // The broker has to notice that the client has gone.
    broker.told(&["hold", "release", "--client-prefix", "la", "--wills", "discard"]);
    assert_eq!(broker.items(&["wills"]), [Value::Null; 0]);
    assert_eq!(broker.items(&["hold", "list"]), [Value::Null; 0]);
    assert_eq!(broker.items(&["storms"]), [Value::Null; 0]);
}

#[test]
fn the_broker_tells_how_it_is() {
    let broker = Broker::start("status", "");
    let _lamp = client(&broker, "lamp", "a");
    assert!(broker.told(&["health"]).contains("status            ok"));
    let status = broker.told(&["status"]);
    for line in ["connections    1", "wills          1 armed, 0 pending, 0 due, 0 held"] {
        assert!(status.lines().any(|found| found == line), "{line:?} is missing in:\n{status}");
    }
    let frame = broker.told(&["top", "--once", "--interval", "250ms"]);
    assert!(frame.starts_with(concat!("WillowMQ ", env!("CARGO_PKG_VERSION"), "  up ")), "{frame}");
    assert!(frame.contains("wills armed            1"), "{frame}");
}

#[test]
fn the_log_and_the_settings_change_while_it_runs() {
    let broker = Broker::start("reload", "");
    assert_eq!(broker.told(&["log-level"]), "info\n");
    assert_eq!(broker.told(&["log-level", "warn"]), "warn\n");
    assert_eq!(broker.ctl(&["log-level", "loud"]).code, 2);
    assert_eq!(broker.told(&["reload"]), "nothing has changed\n");
    let file = broker.directory.join("willowmq.toml");
    std::fs::write(&file, settings("shutdown_timeout = \"3s\"", "")).unwrap();
    assert!(broker.told(&["reload"]).contains("shutdown_timeout: "));
    std::fs::write(&file, settings("shutdown_timeout = \"soon\"", "")).unwrap();
    let said = broker.ctl(&["reload"]);
    assert!(said.code == 2 && said.error.contains("shutdown_timeout"), "{}", said.error);
}

#[test]
fn a_drain_ends_the_broker() {
    let mut broker = Broker::start("drain", "");
    assert_eq!(broker.told(&["drain", "--status"]), "no drain goes on\n");
    assert_eq!(broker.ctl(&["drain", "--cancel"]).code, 5);
    broker.told(&["drain", "--over", "1h"]);
    broker.told(&["drain", "--cancel"]);
    let text = broker.told(&["drain", "--over", "0", "--wait"]);
    assert!(text.ends_with("the broker has ended\n"), "{text}");
    assert!(broker.process.wait().unwrap().success());
}

#[test]
fn who_may_not_is_refused() {
    let tokens = std::env::temp_dir().join(format!("willowmq-ctl-token-file-{}", std::process::id()));
    std::fs::write(&tokens, "watch read 0123456789abcdef-read\n").unwrap();
    let broker = Broker::start("tokens", &format!("token_file = {tokens:?}\n"));
    let with_token =
        |arguments: &[&str]| broker.ctl(&[&["--token-file", tokens.to_str().unwrap()], arguments].concat());
    assert_eq!(broker.ctl(&["status"]).code, 4);
    assert_eq!(with_token(&["status"]).code, 0);
    assert_eq!(with_token(&["publish", "a"]).code, 4);
    std::fs::remove_file(tokens).unwrap();
}

#[test]
fn https_is_spoken_with_certificates_on_both_sides() {
    let folder = certificates::folder();
    let file = |name: &str| folder.join(name).display().to_string();
    let admin = [("certificate", "server.pem"), ("key", "server.key"), ("client_authorities", "ca.pem")];
    let admin = admin.map(|(key, name)| format!("{key} = {:?}\n", file(name)));
    let broker = Broker::start("https", &admin.concat());
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let ours = ["--ca", &ca, "--cert", &cert, "--key", &key];
    broker.told(&[&ours[..], &["status"]].concat());
    // The broker shows who it is, and is not believed; then it asks who we are.
    let said = broker.ctl(&["status"]);
    assert!((said.code == 3 || said.code == 2) && said.error.contains("--ca"), "{}: {}", said.code, said.error);
    assert_ne!(broker.ctl(&["--ca", &ca, "status"]).code, 0);
    assert_eq!(broker.ctl(&["--ca", &ca, "--cert", &cert, "status"]).code, 2, "a certificate needs its key");
    assert_eq!(broker.ctl(&["--ca", &key, "status"]).code, 2, "there is no authority in it");
}
