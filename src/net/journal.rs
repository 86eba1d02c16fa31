//! The journal of one shard at work: its [`Log`] decides, the shard's ring carries it out.
//!
//! ```text
//! frames of the shard ──▶ Log ──Command──▶ ring ──completion──▶ Log ──durable──▶ shard
//! reads of the shard ──▶ the segment that holds them ──▶ ring ──completion──▶ shard
//! ```
//!
//! One command is under way at a time, and a few reads beside it.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::io::Errno;

use super::ring::{FileDone, Opening, Ring, SharedFile};
use super::startup::StartError;
use crate::config::{Config, Durability};
use crate::figures::Histogram;
use crate::journal::directory::{DirectoryError, DirectoryProblem};
use crate::journal::log::{Command, Completed, Existing, Failure, Log, Mode, Options};
use crate::journal::recovery::Recovered;
use crate::journal::{Extent, Position, SegmentName};
use crate::shard::Shard;
use crate::timer::Moment;

/// Segments that are kept open for reading, beside those that are written.
const READING_MAX: usize = 8;
/// The newest segment, and the one before, which is yet to be sealed.
const WRITING_MAX: usize = 2;
/// Descriptors of one journal: its segments, its folder, and those that reads open before older ones are closed.
pub(crate) const DESCRIPTORS: u64 = (READING_MAX + WRITING_MAX + 2) as u64;

/// Names the command in the ring. Reads have the numbers above.
const COMMAND: u32 = 0;

/// What the journal of a shard told, and where it goes on.
pub(crate) struct Beginning {
    pub(crate) recovered: Recovered,
    pub(crate) place: Place,
    /// What was recovered lies in other journals: it must be in this one before the listeners open.
    pub(crate) is_moving: bool,
}

/// Where the journal of a shard lies.
pub(crate) struct Place {
    /// Identity of the data directory.
    pub(crate) identity: u64,
    /// The folder of the segments.
    pub(crate) folder: PathBuf,
    /// The segments that there are.
    pub(crate) existing: Vec<Existing>,
}

/// The journal of one shard.
pub(crate) struct Journal {
    shard: usize,
    log: Log,
    folder: SharedFile,
    path: PathBuf,
    command: Option<Step>,
    writing: VecDeque<(SegmentName, SharedFile)>,
    reading: VecDeque<(SegmentName, SharedFile)>,
    reads: Vec<Option<Reading>>,
    /// Reads of what is not in a file yet.
    early: VecDeque<Read>,
    /// What the shard was last told.
    durable: u64,
    failing_since: Option<Moment>,
    counters: JournalCounters,
    /// When the command under way began.
    began: Moment,
}

/// What the journal of one shard has counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct JournalCounters {
    /// Bytes of each write to the disk: what had come together while the one before was under way.
    pub(crate) batches: Histogram<64, 22>,
    /// How long writes and syncs took, as the shard sees it, in microseconds.
    pub(crate) latencies: Histogram<32, 20>,
    /// Commands that failed.
    pub(crate) failures: u64,
    /// Segments begun.
    pub(crate) segments_begun: u64,
    /// Reads of messages that failed, and were tried again.
    pub(crate) read_failures: u64,
}

/// A copy of what the journal of one shard has counted, and how it stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct JournalFigures {
    /// What it has counted.
    pub(crate) counters: JournalCounters,
    /// Bytes that were written down and are not durable yet.
    pub(crate) backlog_bytes: usize,
    /// Bytes of all segments.
    pub(crate) disk_bytes: u64,
    /// Segments.
    pub(crate) segments: usize,
    /// The disk refuses to store.
    pub(crate) is_failing: bool,
}

/// The command under way.
enum Step {
    Creating { segment: SegmentName, file: Option<SharedFile>, stage: Creation },
    Writing { segment: SegmentName, sync: bool },
    Syncing { segment: SegmentName },
    Removing { segment: SegmentName },
}

/// How far the creation of a segment has come.
///
/// ```text
/// Opening ──▶ Preallocating ──▶ WritingHeader (and syncing it) ──▶ SyncingFolder ──▶ created
/// ```
enum Creation {
    Opening { header: Vec<u8>, preallocate: u64 },
    Preallocating { header: Vec<u8> },
    WritingHeader,
    SyncingFolder,
}

impl Creation {
    /// What fails when this stage does.
    fn what(&self) -> &'static str {
        match self {
            Self::Opening { .. } => "create",
            Self::Preallocating { .. } => "make room for",
            Self::WritingHeader => "write the header of",
            Self::SyncingFolder => "sync the folder of",
        }
    }
}

/// What the shard wants to read.
#[derive(Clone, Copy)]
struct Read {
    token: u64,
    extent: Extent,
}

/// A read under way.
struct Reading {
    read: Read,
    segment: SegmentName,
    at: u64,
}

impl Journal {
    /// The journal of `shard`, going on at `certain`, up to where it is known to have been synced; `tail` is what it holds behind that.
    ///
    /// # Errors
    /// When its folder cannot be opened.
    pub(crate) fn new(
        shard: usize,
        config: &Config,
        place: Place,
        certain: Position,
        tail: Vec<u8>,
    ) -> Result<Self, StartError> {
        let Place { identity, folder: path, existing } = place;
        let folder = File::open(&path).map_err(|error| {
            let problem = DirectoryProblem::Unreadable(error);
            StartError::DataDirectory(DirectoryError { path: path.clone(), problem })
        })?;
        let settings = &config.journal;
        let options = Options {
            shard: shard as u8,
            directory: identity,
            mode: if config.durability == Durability::Relaxed { Mode::Relaxed } else { Mode::Sync },
            segment_bytes: settings.segment_bytes as u64,
            sync_interval: settings.sync_interval,
            retry: settings.retry_interval,
        };
        let mut log = Log::new(options, certain, existing);
        if !tail.is_empty() {
            log.append(tail); // It can be read, but that does not mean that it has reached the disk.
        }
        Ok(Self {
            shard,
            durable: log.durable(),
            log,
            folder: Rc::new(folder.into()),
            path,
            command: None,
            writing: VecDeque::new(),
            reading: VecDeque::new(),
            reads: (0..settings.reads_max).map(|_| None).collect(),
            early: VecDeque::new(),
            failing_since: None,
            counters: JournalCounters::default(),
            began: Moment::ZERO,
        })
    }

    /// A copy of what it has counted, and how it stands.
    pub(crate) fn figures(&self) -> JournalFigures {
        JournalFigures {
            counters: self.counters.clone(),
            backlog_bytes: self.log.backlog(),
            disk_bytes: self.log.bytes_on_disk(),
            segments: self.log.segments(),
            is_failing: self.failing_since.is_some(),
        }
    }

    /// Takes over what the shard wrote in this turn, and begins what follows from it.
    pub(crate) fn end_turn(&mut self, now: Moment, shard: &mut Shard, ring: &mut Ring) {
        let frames = shard.records();
        if !frames.is_empty() {
            self.log.append(frames);
        }
        while let Some(spare) = self.log.take_spare() {
            shard.recycle_records(spare);
        }
        if let Some(start) = shard.take_log_start() {
            self.log.drop_before(start);
        }
        self.begin_command(now, ring);
        self.begin_reads(now, shard, ring);
    }

    /// A file operation is over.
    pub(crate) fn on_done(&mut self, now: Moment, token: u32, done: FileDone, shard: &mut Shard, ring: &mut Ring) {
        match token.checked_sub(COMMAND + 1) {
            Some(slot) => self.on_read_done(now, slot as usize, done, shard, ring),
            None => {
                self.on_command_done(now, done, ring);
                self.tell(now, shard);
                self.begin_command(now, ring);
            }
        }
    }

    /// When a turn is needed even if nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.log.next_deadline()
    }

    /// Whether all that was written down is on the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.command.is_none() && self.log.is_idle()
    }

    /// Bytes that are not on the disk yet.
    pub(crate) fn backlog(&self) -> usize {
        self.log.backlog()
    }

    /// Tells the shard what has become durable, and whether the disk refuses to take more.
    fn tell(&mut self, now: Moment, shard: &mut Shard) {
        self.tell_failure(now, shard);
        let durable = self.log.durable();
        if durable > self.durable {
            self.durable = durable;
            shard.on_durable(durable);
        }
    }

    fn tell_failure(&mut self, now: Moment, shard: &mut Shard) {
        match (self.log.failure(), self.failing_since) {
            (Some(failure), None) => {
                let advice = if failure.is_full { "free some space" } else { "see to the disk" };
                tracing::error!(
                    shard = self.shard,
                    "{}; what needs to be kept is refused until it works again: {advice}",
                    failure.what
                );
                self.failing_since = Some(now);
                shard.on_journal_failure(true);
            }
            (None, Some(since)) => {
                let lasted = now.duration_since(since);
                tracing::info!(shard = self.shard, ?lasted, "the journal can be written again");
                self.failing_since = None;
                shard.on_journal_failure(false);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    fn begin_command(&mut self, now: Moment, ring: &mut Ring) {
        let Some(command) = self.log.next_command(now) else { return };
        assert!(self.command.is_none(), "one command at a time");
        self.began = now;
        self.command = Some(match command {
            Command::Create { segment, header, preallocate } => {
                ring.open_file(COMMAND, &self.folder, name_of(segment), Opening::New);
                Step::Creating { segment, file: None, stage: Creation::Opening { header, preallocate } }
            }
            Command::Write { segment, at, bytes, sync } => {
                self.counters.batches.note(bytes.len() as u64);
                ring.write_file(COMMAND, self.written(segment), at, bytes, sync);
                Step::Writing { segment, sync }
            }
            Command::Sync { segment } => {
                ring.sync_file(COMMAND, self.written(segment));
                Step::Syncing { segment }
            }
            Command::Remove { segment } => {
                self.close(segment, ring);
                ring.remove_file(COMMAND, &self.folder, name_of(segment));
                Step::Removing { segment }
            }
        });
    }

    /// A segment that this process created.
    fn written(&self, segment: SegmentName) -> &SharedFile {
        let entry = self.writing.iter().rev().find(|(name, _)| *name == segment);
        &entry.expect("the log writes to the newest segment and the one before").1
    }

    fn on_command_done(&mut self, now: Moment, done: FileDone, ring: &mut Ring) {
        let completed = match (self.command.take().expect("a command is under way"), done) {
            (Step::Creating { segment, file, stage }, done) => {
                match self.go_on_creating(segment, file, stage, done, ring) {
                    Some(result) => Completed::Created(result),
                    None => return,
                }
            }
            (Step::Writing { segment, sync }, FileDone::Written(result, bytes)) => {
                let what = if sync { "write and sync" } else { "write" };
                Completed::Written(result.map_err(|errno| self.failure(what, segment, errno)), bytes)
            }
            (Step::Syncing { segment }, FileDone::Synced(result)) => {
                Completed::Synced(result.map_err(|errno| self.failure("sync", segment, errno)))
            }
            (Step::Removing { .. }, FileDone::Removed(Ok(()) | Err(Errno::NOENT))) => Completed::Removed(Ok(())),
            (Step::Removing { segment }, FileDone::Removed(Err(errno))) => {
                let failure = self.failure("remove", segment, errno);
                tracing::warn!(shard = self.shard, "{}; it takes space until that works", failure.what);
                Completed::Removed(Err(failure))
            }
            (_, done) => unreachable!("{done:?} does not belong to the command under way"),
        };
        self.count(now, &completed);
        self.log.on_completed(now, completed);
    }

    fn count(&mut self, now: Moment, completed: &Completed) {
        let result = match completed {
            Completed::Created(result) => {
                self.counters.segments_begun += u64::from(result.is_ok());
                result
            }
            Completed::Written(result, _) | Completed::Synced(result) => {
                self.counters.latencies.note_duration(now.duration_since(self.began));
                result
            }
            Completed::Removed(result) => result,
        };
        self.counters.failures += u64::from(result.is_err());
    }

    /// One stage of a segment's creation is over; `None` while it goes on with the next.
    fn go_on_creating(
        &mut self,
        segment: SegmentName,
        file: Option<SharedFile>,
        stage: Creation,
        done: FileDone,
        ring: &mut Ring,
    ) -> Option<Result<(), Failure>> {
        let (file, stage) = match (stage, file, done) {
            (Creation::Opening { header, preallocate }, _, FileDone::Opened(Ok(file))) => {
                let file = Rc::new(file);
                ring.preallocate_file(COMMAND, &file, preallocate);
                (file, Creation::Preallocating { header })
            }
            (Creation::Preallocating { header }, Some(file), FileDone::Preallocated(result))
                if result.is_ok() || result.is_err_and(is_unsupported) =>
            {
                ring.write_file(COMMAND, &file, 0, header, true);
                (file, Creation::WritingHeader)
            }
            (Creation::WritingHeader, Some(file), FileDone::Written(Ok(()), _)) => {
                ring.sync_directory(COMMAND, &self.folder);
                (file, Creation::SyncingFolder)
            }
            (Creation::SyncingFolder, Some(file), FileDone::Synced(Ok(()))) => {
                self.keep_writing(segment, file, ring);
                return Some(Ok(()));
            }
            (stage, file, done) => {
                file.into_iter().for_each(|file| ring.close_file(file));
                return Some(Err(self.failure(stage.what(), segment, errno_of(&done))));
            }
        };
        self.command = Some(Step::Creating { segment, file: Some(file), stage });
        None
    }

    fn failure(&self, what: &str, segment: SegmentName, errno: Errno) -> Failure {
        let path = self.path.join(segment.file());
        Failure {
            what: format!("cannot {what} {}: {}", path.display(), io::Error::from(errno)),
            is_full: matches!(errno, Errno::NOSPC | Errno::DQUOT),
        }
    }

    /// Keeps a new segment open; one that is not written to any more goes to those that are read.
    fn keep_writing(&mut self, segment: SegmentName, file: SharedFile, ring: &mut Ring) {
        self.writing.push_back((segment, file));
        if self.writing.len() > WRITING_MAX
            && let Some((segment, file)) = self.writing.pop_front()
        {
            self.keep_reading(segment, file, ring);
        }
    }

    fn keep_reading(&mut self, segment: SegmentName, file: SharedFile, ring: &mut Ring) {
        self.reading.push_back((segment, file));
        if self.reading.len() > READING_MAX
            && let Some((_, file)) = self.reading.pop_front()
        {
            ring.close_file(file);
        }
    }

    /// Closes a segment that is to be removed. Reads that are under way keep it open until they are over.
    fn close(&mut self, segment: SegmentName, ring: &mut Ring) {
        for open in [&mut self.writing, &mut self.reading] {
            while let Some(index) = open.iter().position(|(name, _)| *name == segment)
                && let Some((_, file)) = open.remove(index)
            {
                ring.close_file(file);
            }
        }
    }

    /// Begins reads while there is a place for them.
    fn begin_reads(&mut self, now: Moment, shard: &mut Shard, ring: &mut Ring) {
        for _ in 0..self.early.len() {
            if let Some(read) = self.early.pop_front() {
                self.begin_read(now, read, shard, ring);
            }
        }
        while self.early.len() < self.reads.len()
            && self.reads.iter().any(Option::is_none)
            && let Some(wanted) = shard.next_read()
        {
            let read = Read { token: wanted.token, extent: wanted.extent };
            self.begin_read(now, read, shard, ring);
        }
    }

    fn begin_read(&mut self, now: Moment, read: Read, shard: &mut Shard, ring: &mut Ring) {
        let free = self.reads.iter().position(Option::is_none);
        let Some(slot) = free.filter(|_| read.extent.end() <= self.log.written()) else {
            return self.early.push_back(read); // Not in a file yet, or no place.
        };
        let Some((segment, at)) = self.log.locate(read.extent.offset) else {
            return shard.on_read(now, read.token, None);
        };
        let token = COMMAND + 1 + slot as u32;
        let reading = Reading { read, segment, at };
        match self.open(segment) {
            Some(file) => ring.read_file(token, file, at, read.extent.length as usize),
            None => ring.open_file(token, &self.folder, name_of(segment), Opening::Existing),
        }
        self.reads[slot] = Some(reading);
    }

    fn open(&self, segment: SegmentName) -> Option<&SharedFile> {
        let open = self.writing.iter().chain(&self.reading);
        open.rev().find(|(name, _)| *name == segment).map(|(_, file)| file)
    }

    fn on_read_done(&mut self, now: Moment, slot: usize, done: FileDone, shard: &mut Shard, ring: &mut Ring) {
        let Reading { read, segment, at } = self.reads[slot].take().expect("a read is under way");
        let length = read.extent.length as usize;
        let errno = match done {
            FileDone::Opened(Ok(file)) => {
                let file = Rc::new(file);
                ring.read_file(COMMAND + 1 + slot as u32, &file, at, length);
                self.reads[slot] = Some(Reading { read, segment, at });
                let is_there = self.log.locate(read.extent.offset).is_some_and(|(name, _)| name == segment);
                if is_there && self.open(segment).is_none() {
                    self.keep_reading(segment, file, ring);
                }
                return;
            }
            FileDone::Read(Ok(bytes)) if bytes.len() == length => return shard.on_read(now, read.token, Some(&bytes)),
            FileDone::Read(Ok(_)) => Errno::IO,
            FileDone::Opened(Err(errno)) | FileDone::Read(Err(errno)) => errno,
            other => unreachable!("{other:?} is not of a read"),
        };
        let path = self.path.join(segment.file());
        let error = io::Error::from(errno);
        self.counters.read_failures += 1;
        tracing::warn!(shard = self.shard, at, length, "cannot read {}: {error}; trying again", path.display());
        shard.on_read(now, read.token, None);
    }
}

/// Why an operation failed.
fn errno_of(done: &FileDone) -> Errno {
    let result = match done {
        FileDone::Opened(Err(errno)) | FileDone::Read(Err(errno)) => Err(*errno),
        FileDone::Written(result, _)
        | FileDone::Synced(result)
        | FileDone::Preallocated(result)
        | FileDone::Removed(result) => *result,
        FileDone::Opened(Ok(_)) | FileDone::Read(Ok(_)) => Ok(()),
    };
    result.expect_err("an operation that succeeds goes on")
}

/// The name of the segment's file in its folder.
fn name_of(segment: SegmentName) -> CString {
    CString::new(segment.file()).expect("digits, a dash and a suffix")
}

/// Whether this says that the file system cannot make room in advance, rather than that there is none.
fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::super::clock::Clock;
    use super::super::ring::{Completion, Wait};
    use super::*;
    use crate::journal::segment::SEGMENT_HEADER;
    use crate::shard::ShardId;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A shard that has something to write down, with its journal in a folder that is gone when the test is.
    struct Desk {
        path: PathBuf,
        journal: Journal,
        shard: Shard,
        ring: Ring,
        clock: Clock,
    }

    impl Desk {
        fn new(test: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
            let path = std::env::temp_dir().join(format!("willowmq-journal-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            prepare(&path);
            let mut config = Config::default();
            config.journal.retry_interval = Duration::from_millis(20);
            let place = Place { identity: 7, folder: path.clone(), existing: Vec::new() };
            let journal = Journal::new(0, &config, place, Position::default(), Vec::new()).unwrap();
            let clock = Clock::start_at(Moment::ZERO);
            let recovered = Recovered::default();
            let shard = Shard::journalled(ShardId::new(0), 1, 1, Arc::new(config), clock.now(), recovered);
            Self { path, journal, shard, ring: Ring::new(8).unwrap(), clock }
        }

        fn turn_until(&mut self, is_reached: impl Fn(&Journal) -> bool) {
            let start = Instant::now();
            while !is_reached(&self.journal) {
                assert!(start.elapsed() < PATIENCE, "it does not come to that");
                let now = self.clock.now();
                while let Some(completion) = self.ring.next_completion() {
                    let Completion::File { token, done } = completion else { panic!("{completion:?}") };
                    self.journal.on_done(now, token, done, &mut self.shard, &mut self.ring);
                }
                self.shard.end_turn(now);
                self.journal.end_turn(now, &mut self.shard, &mut self.ring);
                let wait = match self.journal.next_deadline() {
                    Some(deadline) => Wait::AtMost(deadline.duration_since(now)),
                    None if is_reached(&self.journal) => Wait::No,
                    None => Wait::AtMost(PATIENCE),
                };
                self.ring.enter(wait).unwrap();
            }
        }

        fn files(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.path).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().expect("a name of ours")).collect();
            names.sort();
            names
        }
    }

    impl Drop for Desk {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    fn segment(epoch: u32) -> SegmentName {
        SegmentName { shard: 0, start: 0, epoch }
    }

    #[test]
    fn what_a_shard_writes_down_is_in_a_file_and_the_shard_is_told() {
        let mut desk = Desk::new("write", |_| ());
        desk.turn_until(|journal| journal.durable > 0 && journal.is_idle());
        assert_eq!(desk.files(), [segment(0).file()]);
        let bytes = std::fs::read(desk.path.join(segment(0).file())).unwrap();
        let end = SEGMENT_HEADER + desk.journal.durable as usize;
        assert!(bytes[SEGMENT_HEADER..end].iter().any(|byte| *byte != 0));
        assert!(bytes[end..].iter().all(|byte| *byte == 0), "nothing but room behind the end");
        let figures = desk.journal.figures();
        assert_eq!(figures.counters.batches.sum(), desk.journal.durable, "what was written, and nothing else");
        assert_eq!(figures.counters.batches.count(), figures.counters.latencies.count());
        assert_eq!((figures.segments, figures.counters.segments_begun, figures.counters.failures), (1, 1, 0));
        assert_eq!((figures.backlog_bytes, figures.is_failing), (0, false));
    }

    #[test]
    fn a_disk_that_refuses_is_tried_again_and_nothing_is_lost() {
        // Something has the name of the first segment, so it cannot be created.
        let mut desk = Desk::new("refuse", |path| std::fs::create_dir(path.join(segment(0).file())).unwrap());
        desk.turn_until(|journal| journal.failing_since.is_some());
        let figures = desk.journal.figures();
        assert!(figures.is_failing && figures.counters.failures >= 1 && figures.backlog_bytes > 0);
        assert_eq!(desk.journal.durable, 0);
        assert!(desk.journal.log.failure().is_some_and(|failure| failure.what.contains(&segment(0).file())));
        desk.turn_until(|journal| journal.durable > 0);
        assert!(desk.journal.failing_since.is_none());
        assert!(desk.files().contains(&segment(1).file()));
    }
}
