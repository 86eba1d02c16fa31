//! What a disk gives to one thread that makes every message durable by itself: the yardstick of those that promise more.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A file that does not outlive its measurement.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn create(directory: &Path) -> Result<Self> {
        let path = directory.join(format!("willowmq-loadgen-disk-{}.tmp", std::process::id()));
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // What could be done about it?
    }
}

/// Appends records of `bytes` to a new file in `directory` for about `time`, each followed by an fdatasync; gives how many
/// there were in a second. The file is removed.
///
/// # Errors
///
/// When the file cannot be created, written or synchronized.
pub fn appends_per_second(directory: &Path, bytes: usize, time: Duration) -> Result<f64> {
    let mut scratch = Scratch::create(directory)?;
    let record = vec![0xA5; bytes]; // Not zeroes: a file system may store those without writing them.
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        let appended = scratch.file.write_all(&record).and_then(|()| scratch.file.sync_data());
        appended.with_context(|| format!("cannot append to {}", scratch.path.display()))?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let directory = std::env::temp_dir().join(format!("loadgen-disk-test-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        assert!(appends_per_second(&directory, 100, Duration::from_millis(20)).unwrap() > 0.0);
        std::fs::remove_dir(&directory).expect("it is empty");
        let error = appends_per_second(&directory, 100, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("cannot create"), "{error:#}");
    }
}
