//! mosquitto_pub and mosquitto_sub, over TLS with client certificates.

use crate::broker::{Broker, Transport};
use crate::{certificates, script};
use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The program; installed where it is missing and may be.
fn program(name: &'static str) -> PathBuf {
    static FOUND: OnceLock<()> = OnceLock::new();
    FOUND.get_or_init(|| drop(script::program(&["mosquitto_pub"], "mosquitto-clients")));
    script::program(&[name], "mosquitto-clients")
}

fn client(name: &'static str, broker: &Broker, transport: Transport) -> Command {
    let mut command = Command::new(program(name));
    command.args(["-h", "127.0.0.1", "-V", "5", "-q", "1", "-p", &broker.port(transport).to_string()]);
    if matches!(transport, Transport::Tls) {
        let files = certificates::folder();
        command.arg("--cafile").arg(files.join("ca.pem"));
        command.arg("--cert").arg(files.join("client.pem")).arg("--key").arg(files.join("client.key"));
    }
    command
}

/// A mosquitto_sub that runs until it is dropped.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    /// Subscribed once the first retained message has come, which the caller has published.
    fn start(broker: &Broker, topic: &str, more: &[&str]) -> Self {
        let mut command = client("mosquitto_sub", broker, Transport::Tls);
        command.args(["-W", "30", "-t", topic]).args(more).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("a message before mosquitto_sub ends").unwrap()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn publish(broker: &Broker, transport: Transport, arguments: &[&str]) -> Result<(), String> {
    let mut command = client("mosquitto_pub", broker, transport);
    script::run(command.args(arguments), Duration::from_secs(20))
}

#[test]
fn messages_over_tls_with_client_certificates() {
    let broker = Broker::start();
    publish(&broker, Transport::Tls, &["-t", "lamp", "-m", "on", "-r"]).unwrap();
    let mut subscriber = Subscriber::start(&broker, "lamp", &[]);
    assert_eq!(subscriber.next(), "on");
    publish(&broker, Transport::Tcp, &["-t", "lamp", "-m", "off"]).unwrap();
    assert_eq!(subscriber.next(), "off");
}

#[test]
fn a_client_without_certificate_is_turned_away() {
    let broker = Broker::start();
    let mut command = Command::new(program("mosquitto_pub"));
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &broker.port(Transport::Tls).to_string(),
        "-t",
        "lamp",
        "-m",
        "on",
        "-q",
        "1",
    ]);
    command.arg("--cafile").arg(certificates::folder().join("ca.pem"));
    assert!(script::run(&mut command, Duration::from_secs(20)).is_err());
}

#[test]
fn will_of_a_killed_process_over_tls() {
    let broker = Broker::start();
    publish(&broker, Transport::Tls, &["-t", "status/camera", "-m", "online", "-r"]).unwrap();
    let mut watcher = Subscriber::start(&broker, "status/camera", &[]);
    assert_eq!(watcher.next(), "online");
    let will = ["--will-topic", "status/camera", "--will-payload", "offline", "--will-qos", "1", "--will-retain"];
    let mut camera = Subscriber::start(&broker, "status/camera", &will);
    assert_eq!(camera.next(), "online");
    drop(camera); // SIGKILL: neither DISCONNECT nor close_notify.
    assert_eq!(watcher.next(), "offline");
}
