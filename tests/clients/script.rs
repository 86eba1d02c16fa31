//! Runs programs in other languages: to install a client, and to play a story.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A folder for one client, kept from run to run so that it is installed once.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder for one client whose `node_modules` hold these packages; installed when they are first needed.
pub(crate) fn node_modules(name: &str, packages: &[&str]) -> PathBuf {
    let folder = folder(&format!("{name}-{}", packages.join("-").replace('@', "-")));
    let done = folder.join("installed");
    if !done.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(&folder);
        run(npm.args(packages), Duration::from_secs(180))
            .unwrap_or_else(|error| panic!("{packages:?} cannot be installed: {error}"));
        File::create(done).unwrap();
    }
    folder
}

/// The first of these programs that is there; the package is installed where none is, on Debian and as root.
pub(crate) fn program(names: &[&str], package: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            |name: &&str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
        names.iter().find_map(found)
    };
    find().unwrap_or_else(|| {
        let patience = Duration::from_secs(300);
        let _ = run(Command::new("apt-get").arg("update"), patience);
        let install =
            run(Command::new("apt-get").args(["install", "-y", "--no-install-recommends", package]), patience);
        find().unwrap_or_else(|| panic!("none of {names:?} is here; install {package}: {install:?}"))
    })
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
