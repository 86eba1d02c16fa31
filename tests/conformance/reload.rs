//! Files that change while the broker runs, and SIGHUP.

use crate::harness::broker::{folder, run};
use crate::harness::{Broker, PATIENCE, Publish};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// Everybody may publish to this topic, and do nothing else.
fn rights(topic: &str) -> String {
    format!("[[rules]]\neffect = \"allow\"\nactions = [\"publish\"]\ntopics = [{topic:?}]\n")
}

/// Puts a file in its place as a whole.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

/// A broker with a rights file, at which it looks so often.
fn with_rights(interval: &str) -> (Broker, PathBuf) {
    let folder = folder();
    let path = folder.join("rights.toml");
    replace(&path, &rights("old"));
    let security = format!("[security]\nrights_file = {path:?}\nreload_interval = \"{interval}\"\n");
    (Broker::start_in(folder, 2, &security), path)
}

/// Whether a new client may publish there.
fn may_publish(broker: &Broker, topic: &str) -> bool {
    broker.client(5).publish(Publish::new(topic, "x").qos(1)) < 0x80
}

#[test]
fn rights_file_is_read_again_when_it_changes() {
    let (broker, path) = with_rights("10ms");
    assert!(may_publish(&broker, "old") && !may_publish(&broker, "new"));
    replace(&path, &rights("new"));
    broker.await_log("reloaded what=\"rights\"", PATIENCE);
    assert!(may_publish(&broker, "new") && !may_publish(&broker, "old"));
}

#[test]
fn broken_rights_file_leaves_the_old_rights_in_force_and_is_told_with_its_line() {
    let (broker, path) = with_rights("10ms");
    replace(&path, "[[rules]]\neffekt = \"deny\"\n");
    broker.await_log("rights.toml:2", PATIENCE);
    assert!(may_publish(&broker, "old"));
    replace(&path, &rights("new"));
    broker.await_log("reloaded what=\"rights\"", PATIENCE);
    assert!(may_publish(&broker, "new"));
}

#[test]
fn hangup_reads_files_again_and_says_so() {
    let (broker, path) = with_rights("0s");
    let mut client = broker.client(5);
    replace(&path, &rights("new"));
    assert!(!may_publish(&broker, "new"), "nobody looks");
    broker.signal(Signal::HUP);
    broker.await_log("loaded=\"rights\" failed=\"\"", PATIENCE);
    assert!(may_publish(&broker, "new"));
    client.ping();
    replace(&path, "broken");
    broker.signal(Signal::HUP);
    broker.await_log("loaded=\"\" failed=\"rights\"", PATIENCE);
    assert!(may_publish(&broker, "new"));
    client.ping();
}

#[test]
fn hangup_does_not_end_a_broker_without_files() {
    let broker = Broker::start("");
    broker.signal(Signal::HUP);
    broker.await_log("a hangup", PATIENCE);
    broker.client(5).ping();
}

#[test]
fn broken_rights_file_stops_the_start_and_the_check() {
    let folder = folder();
    let path = folder.join("rights.toml");
    let settings = format!("shards = 1\n[security]\nrights_file = {path:?}\n");
    for (text, words) in [(Some("[[rules]]\neffekt = \"deny\"\n"), "rights.toml:2"), (None, "cannot read")] {
        match text {
            Some(text) => replace(&path, text),
            None => fs::remove_file(&path).unwrap(),
        }
        for arguments in [&[][..], &["--check-config"]] {
            let output = run(&settings, arguments, &[]);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(2) && told.contains(words), "{output:?}");
        }
    }
    replace(&path, &rights("a"));
    assert!(run(&settings, &["--check-config"], &[]).status.success());
    fs::remove_dir_all(folder).unwrap();
}
