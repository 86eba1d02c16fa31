//! `restart` with the real broker: it is drained and started again under load, and nobody notices but by a reconnect.
//!
//! The broker's program is taken from beside that of the load generator, where `cargo test --workspace` puts both. Where only the load generator
//! was built, it is built first.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn broker_program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_willowmq-loadgen")).with_file_name("willowmq");
    if !beside.exists() {
        build(&beside);
    }
    beside
}

/// Has cargo build the broker to there: `…/debug/willowmq`, or another profile.
fn build(program: &Path) {
    let folder = program.parent().expect("it is in the folder of a profile");
    let profile = match folder.file_name().and_then(|name| name.to_str()).expect("a profile has a name") {
        "debug" => "dev",
        other => other,
    };
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--locked", "--package", "willowmq", "--bin", "willowmq", "--profile", profile]);
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command.arg("--target-dir").arg(folder.parent().expect("profiles are in the target folder"));
    let status = command.status().expect("cargo can be started");
    assert!(status.success() && program.exists(), "the broker cannot be built: {status}");
}

/// A process that does not outlive the test.
struct Process(Child);

impl Process {
    /// The exit code, once it has ended by itself.
    fn code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(10)); // Processes cannot be waited for with a limit.
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a process writes to its standard error, which are shown, too.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stderr = child.stderr.take().expect("it is piped");
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("broker: {line}");
            let _ = sender.send(line); // Nobody may want more of them.
        }
    });
    receiver
}

/// A broker that serves MQTT at `mqtt`; where it serves HTTP.
fn start(program: &Path, folder: &Path, mqtt: SocketAddr) -> (Process, SocketAddr) {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WILLOWMQ_")) {
        command.env_remove(name);
    }
    command.args(["--shards", "2", "--listen", &mqtt.to_string(), "--data-dir"]).arg(folder);
    command.env("WILLOWMQ_ADMIN_ADDRESS", "127.0.0.1:0").env("NO_COLOR", "1").stderr(Stdio::piped());
    let mut process = Process(command.spawn().expect("the broker can be started"));
    let lines = lines(&mut process.0);
    let line =
        std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok()).find(|line| line.contains("listening for HTTP"));
    let line = line.expect("it serves HTTP");
    let address = line.split("address=").nth(1).and_then(|rest| rest.split([' ', ',']).next());
    (process, address.and_then(|address| address.parse().ok()).expect("the line has an address"))
}

#[test]
fn a_drain_and_restart_under_load_raises_no_false_will_and_loses_nothing() {
    let program = broker_program();
    let folder = std::env::temp_dir().join(format!("willowmq-restart-{}", std::process::id()));
    let mqtt = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut broker, http) = start(&program, &folder, mqtt);
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq-loadgen"));
    // The grace of the restart is three seconds with this Keep Alive: a false will would come while the load goes on.
    command.args(["restart", "--broker", &mqtt.to_string(), "--keep-alive", "2s", "--patience", "20s"]);
    command.args(["--clients", "300", "--subscribers", "10", "--rate", "200", "--deaths", "5"]);
    command.args(["--before", "1s", "--after", "5s", "--over", "2s", "--drain", &format!("http://{http}")]);
    let mut load = Process(command.spawn().expect("the load generator can be started"));
    assert_eq!(broker.code(), Some(0), "a drained broker ends in order");
    let (_broker, _) = start(&program, &folder, mqtt);
    assert_eq!(load.code(), Some(0), "a check has failed: see above");
    let _ = std::fs::remove_dir_all(folder);
}
