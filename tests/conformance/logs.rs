//! Where the log goes.

use crate::harness::broker::{folder, program};
use crate::harness::{Broker, PATIENCE, millis};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Instant;

/// Waits until a file says this.
fn await_in(path: &Path, words: &str) {
    let end = Instant::now() + PATIENCE;
    while !fs::read_to_string(path).unwrap_or_default().contains(words) {
        assert!(Instant::now() < end, "nothing of {words:?} in {}", path.display());
        std::thread::sleep(millis(5)); // It is written by another process.
    }
}

/// A broker whose log nobody reads but from its file.
struct Quiet(Child);

impl Quiet {
    fn start(folder: &Path, log: &Path) -> Self {
        let configuration = folder.join("willowmq.toml");
        let listener = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";
        let log = format!("[log]\ntarget = \"file\"\nfile = {log:?}\nformat = \"json\"\n");
        fs::write(&configuration, format!("shards = 1\ndata_dir = {:?}\n{log}{listener}", folder.join("data")))
            .unwrap();
        Self(program().arg("--config").arg(configuration).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_anew_by_a_hangup() {
    let folder = folder();
    let (path, moved) = (folder.join("log"), folder.join("moved"));
    let broker = Quiet::start(&folder, &path);
    await_in(&path, "listening for MQTT");
    fs::rename(&path, &moved).unwrap();
    broker.signal(Signal::HUP); // A line tells what was reloaded, and is the first of the new file.
    await_in(&path, "\"message\"");
    broker.signal(Signal::TERM);
    await_in(&path, "WillowMQ has stopped");
    assert!(!fs::read_to_string(&moved).unwrap().contains("WillowMQ has stopped"));
    drop(broker);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_log_file_that_cannot_be_had_is_replaced_by_standard_error() {
    let broker = Broker::start("[log]\ntarget = \"file\"\nfile = \"/nowhere/log\"\n");
    assert!(broker.log().contains("cannot write the log file /nowhere/log"), "{}", broker.log());
    broker.client(5);
}

#[test]
fn a_journal_that_is_not_there_is_replaced_by_standard_error() {
    if Path::new("/run/systemd/journal/socket").exists() {
        return; // Its own tests are at the module.
    }
    let broker = Broker::start("[log]\ntarget = \"journald\"\n");
    assert!(broker.log().contains("cannot reach journald"), "{}", broker.log());
    broker.client(5);
}
