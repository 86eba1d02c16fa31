//! What outlives the broker, and what it says about a data directory that it cannot use.

use crate::harness::broker::{DATA, program, run};
use crate::harness::{Broker, Connect, Publish, Will, millis, property, secs};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// A folder that is gone when the test is.
struct Folder(PathBuf);

impl Folder {
    fn data(&self) -> PathBuf {
        self.0.join(DATA)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Starts a broker on `data`, which it must refuse.
fn start_on(data: &Path) -> Output {
    run(&format!("shards = 2\ndata_dir = {data:?}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n"), &[], &[])
}

fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in: {stderr}");
    }
}

/// A client whose session outlives its connection.
fn lasting(client_id: &str) -> Connect {
    Connect::v5(client_id).resume().property(property::number(property::SESSION_EXPIRY_INTERVAL, 3600))
}

/// The files of all journals below `data`.
fn segments(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false if entry.path().extension().is_some_and(|extension| extension == "wal") => {
                    found.push(entry.path())
                }
                false => {}
            }
        }
    }
    found
}

/// A data directory with something in every journal, whose broker was killed.
fn left_behind(settings: &str) -> Folder {
    let mut broker = Broker::start(settings);
    let mut publisher = broker.client(5);
    for index in 0..50 {
        publisher.publish(Publish::new(&format!("topic/{index}"), "a payload").retain().qos(1));
    }
    Folder(broker.kill())
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let broker = Broker::start("");
    let output = start_on(&broker.data());
    assert_refused(&output, 9, &[broker.data().to_str().unwrap(), "in use", "--data-dir"]);
    broker.client(5).ping();
}

#[test]
fn a_directory_that_cannot_be_created_is_refused_with_its_name() {
    let below_a_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").join("data");
    assert_refused(&start_on(&below_a_file), 10, &[below_a_file.to_str().unwrap(), "--data-dir"]);
    assert_refused(&start_on(Path::new("/sys/kernel/willowmq")), 10, &["/sys/kernel/willowmq", "--data-dir"]);
}

#[test]
fn a_flipped_bit_is_damage_that_names_the_file() {
    let folder = left_behind("");
    let path = segments(&folder.data()).pop().expect("a journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[64 + 32 + 5] ^= 0x10; // In the first frame: those after it say that it was on disk.
    fs::write(&path, bytes).unwrap();
    assert_refused(&start_on(&folder.data()), 11, &[path.to_str().unwrap(), "damaged", "willowmq journal check"]);
}

#[test]
fn a_journal_of_a_newer_version_is_refused() {
    let folder = left_behind("");
    let path = segments(&folder.data()).pop().expect("a journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert_refused(&start_on(&folder.data()), 12, &["99", "version"]);
}

fn journal(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = program().arg("journal").args(arguments).arg("--data-dir").arg(data).stdout(Stdio::piped()).output();
    let output = output.expect("the program can be started");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_sound_journal_is_checked_and_dumped() {
    let folder = left_behind("");
    let (code, text) = journal(&folder.data(), &["check"]);
    assert!(code == Some(0) && text.contains("retained messages") && text.contains("sound"), "{text}");
    let (code, text) = journal(&folder.data(), &["dump"]);
    assert!(code == Some(0) && text.contains("topic/49") && text.lines().count() > 50, "{text}");
    let (code, text) = journal(&folder.data(), &["repair"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_damaged_journal_is_told_and_can_be_repaired() {
    let folder = left_behind("");
    let path = segments(&folder.data()).pop().expect("a journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[64 + 32 + 5] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let (code, text) = journal(&folder.data(), &["check"]);
    assert!(code == Some(1) && text.contains("damaged"), "{text}");
    let (_, text) = journal(&folder.data(), &["repair"]);
    assert_refused(&start_on(&folder.data()), 11, &["damaged"]); // Without --yes nothing was changed.
    let (code, repaired) = journal(&folder.data(), &["repair", "--yes"]);
    assert_eq!(code, Some(0), "{text}\n{repaired}");
    let (code, text) = journal(&folder.data(), &["check"]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_journal_in_use_is_left_alone_unless_it_is_only_looked_at() {
    let broker = Broker::start("");
    for action in ["check", "dump", "repair"] {
        let (code, text) = journal(&broker.data(), &[action]);
        assert!(code == Some(9) && text.contains("in use"), "{text}");
    }
    assert_eq!(journal(&broker.data(), &["dump", "--live"]).0, Some(0));
    assert_eq!(journal(&broker.data().join("nothing"), &["check"]).0, Some(10));
}

#[test]
fn durability_memory_writes_nothing() {
    let broker = Broker::start("durability = \"memory\"\n");
    broker.client(5).publish(Publish::new("a", "b").retain().qos(1));
    assert!(!broker.data().exists());
    assert!(broker.log().contains("end with this process"));
}

/// Stores one of each thing that must outlive the broker.
fn fill(broker: &Broker) {
    let mut absent = broker.connect(lasting("absent"));
    absent.subscribe("queue/#", 2);
    absent.cut();
    let mut publisher = broker.client(5);
    publisher.publish(Publish::new("retained/a", "kept").retain().qos(1));
    publisher.publish(Publish::new("retained/b", "also kept").retain().qos(2));
    for index in 0..20 {
        publisher.publish(Publish::new("queue/a", &index.to_string()).qos(1 + index % 2));
    }
}

/// Finds what [`fill`] stored.
fn find(broker: &Broker) {
    let mut watcher = broker.client(5);
    watcher.subscribe("retained/+", 1);
    let mut retained: Vec<_> = watcher.payloads(2);
    retained.sort();
    assert_eq!(retained, ["also kept", "kept"]);
    let mut absent = broker.connect(lasting("absent"));
    assert!(absent.session_present());
    let expected: Vec<String> = (0..20).map(|index: i32| index.to_string()).collect();
    assert_eq!(absent.payloads(20), expected);
    // Its Subscription is there as well.
    broker.client(5).publish(Publish::new("queue/b", "live").qos(1));
    assert_eq!(absent.message().text(), "live");
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    for settings in ["", "durability = \"relaxed\"\n"] {
        let broker = Broker::start(settings);
        fill(&broker);
        find(&broker.killed_and_started(2, settings));
    }
}

#[test]
fn what_was_acknowledged_outlives_a_stop_and_a_kill_after_it() {
    let broker = Broker::start("");
    fill(&broker);
    let broker = broker.stopped_and_started(2, "");
    find(&broker.killed_and_started(2, "").killed_and_started(2, ""));
}

#[test]
fn another_number_of_shards_finds_everything_again() {
    let mut broker = Broker::with_shards(2, "");
    fill(&broker);
    for shards in [5, 1, 3] {
        broker = broker.killed_and_started(shards, "");
        assert!(broker.log().contains("the number of shards has changed"), "{}", broker.log());
    }
    find(&broker.killed_and_started(3, ""));
}

#[test]
fn a_change_of_the_number_of_shards_that_is_cut_short_begins_anew() {
    let settings = "[journal]\nsegment_bytes = \"1MiB\"\n";
    let mut broker = Broker::start(settings);
    fill(&broker);
    let mut folder = Folder(broker.kill());
    for attempt in 0..16 {
        let shards = ["3", "2", "4", "1"][attempt % 4];
        let mut command = program();
        command.args(["--listen", "127.0.0.1:0", "--shards", shards, "--data-dir"]).arg(folder.data());
        let mut child =
            command.env("WILLOWMQ_JOURNAL_SEGMENT_BYTES", "1MiB").spawn().expect("the broker can be started");
        std::thread::sleep(millis(20 + 6 * attempt as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let broker = Broker::start_in(std::mem::take(&mut folder.0), 2, settings);
    find(&broker);
    let generations = fs::read_dir(broker.data()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert!(generations.count() <= 2, "older generations are removed");
}

#[test]
fn a_queue_that_is_longer_than_memory_is_read_back_from_the_journal() {
    let settings = "[sessions]\nqueue_memory_bytes_max = \"0B\"\n";
    let broker = Broker::start(settings);
    fill(&broker);
    let mut absent = broker.connect(lasting("absent"));
    let expected: Vec<String> = (0..20).map(|index: i32| index.to_string()).collect();
    assert_eq!(absent.payloads(20), expected);
    absent.cut();
    fill(&broker);
    find(&broker.killed_and_started(2, settings));
}

#[test]
fn a_will_that_was_armed_is_published_after_the_grace_unless_its_client_comes_back() {
    let settings = "[wills]\nrestart_grace = \"1s\"\n";
    let broker = Broker::start(settings);
    let will = |name: &str| Will::new(&format!("w/{name}"), "gone").qos(1);
    let _lost = broker.connect(lasting("lost").will(will("lost")));
    let _found = broker.connect(lasting("found").will(will("found").delay(60)));
    let broker = broker.killed_and_started(2, settings);
    let mut watcher = broker.client(5);
    watcher.subscribe("w/+", 1);
    let found = broker.connect(lasting("found"));
    assert!(found.session_present());
    assert_eq!(watcher.message().topic, "w/lost");
    watcher.expect_silence(secs(2));
}

#[test]
fn a_journal_of_small_segments_is_cut_by_checkpoints_and_loses_nothing() {
    let settings = "[journal]\nsegment_bytes = \"1MiB\"\ncheckpoint_floor_bytes = \"64KiB\"\n";
    let broker = Broker::start(settings);
    fill(&broker);
    let payload = "x".repeat(10_000);
    let mut publisher = broker.client(5);
    for _ in 0..1_000 {
        publisher.publish(Publish::new("retained/a", &payload).retain().qos(1));
    }
    publisher.publish(Publish::new("retained/a", "kept").retain().qos(1));
    let bytes: u64 = segments(&broker.data()).iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum();
    assert!(bytes < 8 << 20, "{bytes} bytes of files for a few messages");
    find(&broker.killed_and_started(2, settings));
}
