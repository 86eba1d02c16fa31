//! A log file that is rotated by its size.
//!
//! The file may become unwritable at any time: the disk is full, somebody took the folder away. That must stop neither the broker nor the
//! log, so lines go to standard error meanwhile, which is said once, and the file is tried again now and then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::Log;

/// How often a file is tried again that could not be written.
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// Logs tell who connects from where: not everybody's business.
const MODE: u32 = 0o640;

/// Asks for a log file to be opened anew.
#[derive(Clone, Default)]
pub(super) struct Reopening(Arc<AtomicBool>);

impl Reopening {
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// A log file with the older ones beside it: `willowmq.log`, `willowmq.log.1` and so on. Each write is taken for whole lines.
pub(super) struct LogFile<F = io::Stderr> {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    reopening: Reopening,
    state: State,
    /// Takes the lines that the file does not.
    fallback: F,
}

enum State {
    Open {
        file: File,
        bytes: u64,
    },
    /// It could not be opened, written or rotated then; where `is_torn`, it ends within a line.
    Failed {
        since: Instant,
        is_torn: bool,
    },
}

impl<F: Write> LogFile<F> {
    /// Opens the file that `log` names. Where that is not to be had, it is said on `fallback`.
    pub(super) fn open(log: &Log, reopening: Reopening, mut fallback: F) -> Self {
        let state = match open(&log.file) {
            Ok((file, bytes)) => State::Open { file, bytes },
            Err(error) => failed(&log.file, &error, false, &mut fallback),
        };
        let bytes_max = log.file_bytes_max as u64;
        Self { path: log.file.clone(), bytes_max, files_max: log.files_max, reopening, state, fallback }
    }

    fn write_lines(&mut self, lines: &[u8]) {
        let is_asked = self.reopening.take();
        match &self.state {
            State::Open { .. } if is_asked => self.try_open(false),
            State::Failed { since, is_torn } if is_asked || since.elapsed() >= RETRY_EVERY => self.try_open(*is_torn),
            State::Open { bytes, .. } if *bytes > 0 && bytes.saturating_add(lines.len() as u64) > self.bytes_max => {
                self.rotate();
            }
            State::Open { .. } | State::Failed { .. } => {}
        }
        if let State::Open { file, bytes } = &mut self.state {
            match file.write_all(lines) {
                Ok(()) => return *bytes += lines.len() as u64,
                Err(error) => self.state = failed(&self.path, &error, true, &mut self.fallback),
            }
        }
        let _ = self.fallback.write_all(lines); // Where even that fails, there is nobody to tell.
    }

    /// Opens the file anew. One that could not be written before is told from one that was moved away: then it is said that it is back.
    fn try_open(&mut self, is_torn: bool) {
        let had_failed = matches!(self.state, State::Failed { .. });
        let opened = open(&self.path).and_then(|(mut file, bytes)| {
            if is_torn {
                file.write_all(b"\n")?;
            }
            Ok((file, bytes))
        });
        self.state = match opened {
            Ok((file, bytes)) => {
                if had_failed {
                    let _ = writeln!(self.fallback, "willowmq: the log file {} is written again", self.path.display());
                }
                State::Open { file, bytes }
            }
            // It was said when it failed first.
            Err(_) if had_failed => State::Failed { since: Instant::now(), is_torn },
            Err(error) => failed(&self.path, &error, is_torn, &mut self.fallback),
        };
    }

    /// Renames the file and those before it, lets the oldest go, and begins a new one.
    fn rotate(&mut self) {
        let rotated = self.shift().and_then(|()| open(&self.path));
        self.state = match rotated {
            Ok((file, bytes)) => State::Open { file, bytes },
            Err(error) => failed(&self.path, &error, false, &mut self.fallback),
        };
    }

    fn shift(&self) -> io::Result<()> {
        if !self.path.exists() {
            return Ok(()); // Somebody has taken it away: the next one begins in its place, and those before it stay.
        }
        if self.files_max == 0 {
            return fs::remove_file(&self.path);
        }
        // Up to the first gap: what stands behind it was put there by somebody else, or before files_max was lowered.
        let older = (1..self.files_max).take_while(|number| self.older(*number).exists()).count() as u32;
        for number in (1..=older).rev() {
            fs::rename(self.older(number), self.older(number + 1))?;
        }
        fs::rename(&self.path, self.older(1))
    }

    fn older(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Opens a log file to append to it; how long it is already.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn failed(path: &Path, error: &io::Error, is_torn: bool, fallback: &mut impl Write) -> State {
    let path = path.display();
    let _ = writeln!(
        fallback,
        "willowmq: cannot write the log file {path}: {error}; until it can be written, its lines go here"
    );
    State::Failed { since: Instant::now(), is_torn }
}

impl<F: Write> Write for LogFile<F> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_lines(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.fallback.flush() // The file itself has no buffer.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("willowmq-log-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn log(&self, bytes_max: usize, files_max: u32) -> Log {
            Log { file: self.0.join("log"), file_bytes_max: bytes_max, files_max, ..Log::default() }
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn opened(log: &Log) -> (LogFile<Vec<u8>>, Reopening) {
        let reopening = Reopening::default();
        (LogFile::open(log, reopening.clone(), Vec::new()), reopening)
    }

    fn told(file: &LogFile<Vec<u8>>) -> String {
        String::from_utf8(file.fallback.clone()).unwrap()
    }

    #[test]
    fn a_full_file_becomes_the_first_of_the_older_ones_and_the_oldest_goes() {
        let folder = Folder::new("rotation");
        let (mut file, _) = opened(&folder.log(12, 2));
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        let texts = ["log", "log.1", "log.2"].map(|name| folder.text(name));
        assert_eq!(texts, ["fourth\n", "third\n", "second\n"]);
        assert_eq!((folder.files(), told(&file)), (3, String::new()));
    }

    #[test]
    fn a_line_longer_than_a_file_may_be_is_written_as_a_whole() {
        let folder = Folder::new("long");
        let (mut file, _) = opened(&folder.log(4, 1));
        file.write_all(b"longer than that\n").unwrap();
        file.write_all(b"next\n").unwrap();
        assert_eq!([folder.text("log"), folder.text("log.1")], ["next\n", "longer than that\n"]);
    }

    #[test]
    fn without_older_files_a_full_one_is_begun_anew() {
        let folder = Folder::new("none");
        let (mut file, _) = opened(&folder.log(8, 0));
        file.write_all(b"first\n").unwrap();
        file.write_all(b"second\n").unwrap();
        assert_eq!((folder.text("log").as_str(), folder.files()), ("second\n", 1));
    }

    #[test]
    fn a_file_goes_on_after_a_start_and_its_size_counts() {
        let folder = Folder::new("goes-on");
        fs::write(folder.0.join("log"), "earlier\n").unwrap();
        let (mut file, _) = opened(&folder.log(16, 1));
        file.write_all(b"first\n").unwrap();
        file.write_all(b"second\n").unwrap();
        assert_eq!([folder.text("log"), folder.text("log.1")], ["second\n", "earlier\nfirst\n"]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_when_asked() {
        let folder = Folder::new("moved");
        let (mut file, reopening) = opened(&folder.log(1000, 1));
        file.write_all(b"first\n").unwrap();
        fs::rename(folder.0.join("log"), folder.0.join("taken")).unwrap();
        file.write_all(b"second\n").unwrap();
        reopening.ask();
        file.write_all(b"third\n").unwrap();
        assert_eq!([folder.text("taken"), folder.text("log")], ["first\nsecond\n", "third\n"]);
        assert_eq!(told(&file), "");
    }

    #[test]
    fn a_full_file_that_was_taken_away_is_begun_anew_and_no_older_one_goes() {
        for files_max in [0, 1] {
            let folder = Folder::new("taken");
            fs::write(folder.0.join("log.1"), "older\n").unwrap();
            let (mut file, _) = opened(&folder.log(8, files_max));
            file.write_all(b"first\n").unwrap();
            fs::remove_file(folder.0.join("log")).unwrap();
            file.write_all(b"second\n").unwrap();
            assert_eq!([folder.text("log"), folder.text("log.1")], ["second\n", "older\n"]);
            assert_eq!(told(&file), "");
        }
    }

    #[test]
    fn lines_go_to_the_fallback_while_the_file_cannot_be_had_and_that_is_said_once() {
        let folder = Folder::new("missing");
        let log = Log { file: folder.0.join("nowhere/log"), ..folder.log(1000, 1) };
        let (mut file, reopening) = opened(&log);
        file.write_all(b"first\n").unwrap();
        reopening.ask();
        file.write_all(b"second\n").unwrap();
        assert!(told(&file).ends_with("its lines go here\nfirst\nsecond\n"), "{}", told(&file));
        assert_eq!(told(&file).matches("cannot write the log file").count(), 1);
        fs::create_dir(folder.0.join("nowhere")).unwrap();
        reopening.ask();
        file.write_all(b"third\n").unwrap();
        assert!(told(&file).ends_with("is written again\n"), "{}", told(&file));
        assert_eq!(folder.text("nowhere/log"), "third\n");
    }

    #[test]
    fn a_disk_without_room_leaves_no_line_out() {
        let folder = Folder::new("full");
        let log = Log { file: "/dev/full".into(), ..folder.log(1000, 1) };
        let (mut file, _) = opened(&log);
        file.write_all(b"first\n").unwrap();
        file.write_all(b"second\n").unwrap();
        assert!(told(&file).contains("No space left on device"), "{}", told(&file));
        assert!(told(&file).ends_with("its lines go here\nfirst\nsecond\n"), "{}", told(&file));
    }
}
