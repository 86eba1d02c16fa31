//! `compare` as it is called, with brokers that are none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

fn compare(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_willowmq-loadgen");
    Command::new(program).arg("compare").args(arguments).output().expect("the program of this package")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file that does not outlive the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, contents: &str) -> Self {
        let path = std::env::temp_dir().join(format!("compare-test-{}-{name}", std::process::id()));
        std::fs::write(&path, contents).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn brokers_that_end_at_once_are_missing_and_told() {
    let [json, plan] = [("json", ""), ("toml", "[[scenario]]\nname = 's'\nargs = ['publish', '--warmup', '0']\n")]
        .map(|(name, contents)| Scratch::new(name, contents));
    let brokers = ["--broker-command", "a=sh -c 'echo no licence; exit 3'", "--broker-command", "b=false"];
    let rest = ["--rounds", "2", "--plan", plan.path(), "--json", json.path(), "--duration", "10ms"];
    let output = compare(&[&brokers[..], &rest].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("4 of 4 runs could not take place; the first: s, a: the broker ended"),
        "{output:?}"
    );
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("| s        | —"), "{table}");
    assert!(table.contains("- s, a, round 1: could not run: the broker ended (exit status: 3); it said:"), "{table}");
    assert!(!table.contains("round 2"), "a broker that does not start is told once: {table}");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(&json.0).unwrap()).unwrap();
    assert_eq!(document["schema"], "willowmq-loadgen-compare/1");
    assert_eq!(document["scenarios"][0]["runs"].as_array().unwrap().len(), 4);
    assert_eq!(document["scenarios"][0]["arguments"][3], "--duration=10ms");
}

#[test]
fn an_interrupt_leaves_no_broker_behind() {
    let pid_file = Scratch::new("pid", "");
    let broker = format!("a=sh -c 'echo $$ > {}; sleep 1000'", pid_file.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq-loadgen"))
        .args(["compare", "--quiet", "--only", "pairs, QoS 0"])
        .args(["--broker-command", &broker])
        .spawn()
        .unwrap();
    let broker = loop {
        match std::fs::read_to_string(&pid_file.0).unwrap().trim().parse::<u32>() {
            Ok(pid) => break pid,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    assert!(Path::new(&format!("/proc/{broker}")).exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(!Path::new(&format!("/proc/{broker}")).exists());
}

#[test]
fn mistakes_are_told_before_anything_is_started() {
    for (arguments, expected) in [
        (&[][..], "there is no broker"),
        (&["--broker-command", "a=no-such-broker"], "broker a: command: no-such-broker is not a program"),
        (&["--broker-command", "a=sh", "--broker-command", "a=sh"], "two brokers are called a"),
        (&["--broker-command", "a=sh", "--only", "nothing of the kind"], "no scenario is called that"),
        (&["--broker-command", "a=sh", "--only", "pairs, QoS 0", "--baseline", "b"], "no broker is called that"),
        (&["--broker-command", "a=sh", "--pid", "1"], "--pid is an option of single runs"),
        (&["--plan", "/no/such/plan.toml"], "--plan /no/such/plan.toml"),
    ] {
        let output = compare(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn the_long_help_shows_a_plan() {
    let output = compare(&["--help"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("[[broker]]"), "{output:?}");
}

#[test]
fn the_plan_for_those_who_are_away_is_accepted() {
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compare/offline.toml");
    let output = compare(&["--broker-command", "a=false", "--rounds", "1", "--plan", plan]);
    assert!(stderr(&output).contains("4 of 4 runs could not take place"), "{output:?}");
}

#[test]
fn the_standard_suite_is_accepted() {
    let output = compare(&["--broker-command", "a=false", "--rounds", "1"]);
    assert!(stderr(&output).contains("10 of 10 runs could not take place"), "{output:?}");
}
