//! `willowmq doctor` and `willowmq migrate` as somebody types them: what they print, and how they end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use willowmq::config::{Config, File, Sources};

/// A folder of its own for a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("willowmq-tools-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn willowmq(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
    command.env_clear().args(arguments).output().expect("it can be started")
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn verdicts<'a>(report: &'a Value, subject: &str) -> Vec<&'a str> {
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["subject"] == subject);
    findings.map(|finding| finding["verdict"].as_str().unwrap()).collect()
}

#[test]
fn doctor_finds_a_sound_machine_fine_and_leaves_nothing_behind() {
    let folder = Folder::new("sound");
    let config = folder.write("w.toml", "data_dir = 'data'\nlisteners = [{ address = '127.0.0.1:0' }]\n");
    std::fs::create_dir(folder.0.join("data")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
    let output =
        command.current_dir(&folder.0).env_clear().args(["doctor", "--json", "--config", path(&config)]).output();
    let (code, out, _) = said(&output.unwrap());
    let report: Value = serde_json::from_str(&out).unwrap();
    for subject in ["configuration", "kernel", "io_uring", "listener 0", "data directory"] {
        assert_eq!(verdicts(&report, subject), ["fine"], "{report:#}");
    }
    assert_eq!(code, Some(i32::from(report["verdict"] == "wrong")));
    assert_eq!(std::fs::read_dir(folder.0.join("data")).unwrap().count(), 0);
}

#[test]
fn doctor_says_what_is_wrong_and_looks_at_the_rest() {
    let folder = Folder::new("wrong");
    let config = folder.write("w.toml", "data_dri = 'data'\n");
    let (code, out, _) = said(&willowmq(&["doctor", "--config", path(&config)]));
    assert_eq!(code, Some(1));
    assert!(out.contains("✗ configuration") && out.contains("did you mean data_dir"), "{out}");
    assert!(out.contains("→ willowmq check --config ") && out.contains("✓ kernel"), "{out}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!("listeners = [{{ address = '{}' }}]\n", taken.local_addr().unwrap());
    let config = folder.write("taken.toml", &text);
    let (code, out, _) = said(&willowmq(&["doctor", "--json", "--config", path(&config)]));
    assert_eq!((code, verdicts(&serde_json::from_str(&out).unwrap(), "listener 0")), (Some(1), vec!["wrong"]));
}

#[test]
fn migrate_prints_a_configuration_and_says_what_is_missing() {
    let folder = Folder::new("migrate");
    let mosquitto = folder.write("mosquitto.conf", "listener 1883 127.0.0.1\nallow_anonymous true\nmount_point a/\n");
    let (code, out, err) = said(&willowmq(&["migrate", path(&mosquitto)]));
    assert_eq!(code, Some(0));
    let file = Some(File { name: "f", text: &out });
    let config = Config::load(Sources { file, ..Sources::default() }).unwrap_or_else(|error| panic!("{error}\n{out}"));
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1883");
    assert!(err.contains(&format!("{}:3: mount_point a/: ", path(&mosquitto))), "{err}");
}

#[test]
fn migrate_writes_a_new_file_and_never_over_another() {
    let folder = Folder::new("output");
    let mosquitto = folder.write("mosquitto.conf", "port 1883\nallow_anonymous true\n");
    let new = folder.0.join("willowmq.toml");
    let arguments = ["migrate", path(&mosquitto), "--output", path(&new)];
    assert_eq!(said(&willowmq(&arguments)).0, Some(0));
    assert_eq!(willowmq(&["check", "--config", path(&new)]).status.code(), Some(0));
    let (code, _, err) = said(&willowmq(&arguments));
    assert_eq!(code, Some(2));
    assert!(err.contains("is there already"), "{err}");
}

#[test]
fn migrate_names_the_line_that_is_none_of_mosquittos() {
    let folder = Folder::new("unknown");
    let mosquitto = folder.write("mosquitto.conf", "# mine\nlisten 1883\n");
    let (code, out, err) = said(&willowmq(&["migrate", path(&mosquitto)]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("mosquitto.conf:2: Mosquitto has no option \"listen\"; did you mean listener?"), "{err}");
}
