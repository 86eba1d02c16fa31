//! Runs programs in other languages: to install a client, and to play a story.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A folder for one client, kept from run to run so that it is installed once.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A file beside this one.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs `command` to its end; its output when it fails or takes longer than `patience`.
pub(crate) fn run(command: &mut Command, patience: Duration) -> Result<(), String> {
    let log = tempfile(&format!("{command:?}"));
    let file = File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let end = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        sleep(Duration::from_millis(10));
    };
    let output = std::fs::read_to_string(&log).unwrap();
    let _ = std::fs::remove_file(log);
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{command:?}: {status}\n{output}")),
        None => Err(format!("{command:?} does not end within {patience:?}\n{output}")),
    }
}

fn tempfile(command: &str) -> PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (command, std::thread::current().id()).hash(&mut hasher);
    folder("output").join(format!("{}-{:x}", std::process::id(), hasher.finish()))
}
