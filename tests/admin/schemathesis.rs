//! schemathesis: requests made up from the OpenAPI document, proper ones and others, and every answer held against it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Broker, Connect, Will};
use crate::http::get;

const VERSION: &str = "4.32.5";
/// Installing takes that long where the network is slow.
const INSTALL_PATIENCE: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(300);
/// Requests made up for each operation, beside those that go through all its boundaries.
const EXAMPLES: &str = "10";
/// Streams go on for ever, which it takes for no answer; and after a drain there is nobody to ask. They have tests of their own.
const EXCLUDED: &str = "/(trace|messages|drain)$";
/// That what the document allows is accepted: it cannot say what a cursor or a Topic Filter is, nor that one of two parameters is needed.
const UNFIT: &str = "positive_data_acceptance";

/// The program, in a virtual environment that is made once.
fn program() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{VERSION}"));
    let (program, done) = (folder.join("bin/schemathesis"), folder.join("installed"));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), INSTALL_PATIENCE);
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        run(pip.arg(format!("schemathesis=={VERSION}")), INSTALL_PATIENCE);
        File::create(done).unwrap();
    }
    program
}

/// Runs a program to its end; what it says is shown where it fails.
fn run(command: &mut Command, patience: Duration) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schemathesis-{}.txt", std::process::id()));
    let said = File::create(&path).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > end => {
                child.kill().unwrap();
                break None;
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    assert!(status.is_some_and(|status| status.success()), "{command:?}: {status:?}\n{text}");
}

#[test]
fn answers_are_what_the_document_says() {
    let schemathesis = program();
    let broker = Broker::with_admin("", "");
    let _clients: Vec<_> = ["a", "0", "lamp"]
        .map(|client_id| broker.connect(Connect::v5(client_id).expiry(60).will(Will::new("gone", "off"))))
        .into();
    let mut command = Command::new(schemathesis);
    command.args(["run", &format!("http://{}/openapi.json", broker.admin()), "--no-color", "--seed", "1"]);
    command.args(["--exclude-path-regex", EXCLUDED, "--exclude-checks", UNFIT, "--max-examples", EXAMPLES]);
    command.args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--request-timeout", "20"]);
    command.current_dir(env!("CARGO_TARGET_TMPDIR")); // Where it leaves what it wants to remember.
    run(&mut command, PATIENCE);
    assert_eq!(get(&broker, "/health/ready").good()["status"], "ok");
}
