//! The log of one shard: which command to the disk is next, and what is durable.
//!
//! [`Log`] does no I/O. Its owner hands it frames, asks for the next [`Command`], carries it out, and reports what came of it;
//! one command is outstanding at a time. Whatever is appended meanwhile is the next batch, so the slower the disk, the more
//! shares one sync.
//!
//! ```text
//! Closed ─create─▶ Open ─batch does not fit, create─▶ Sealing ─seal─▶ Open
//!    ▲               │                                   │
//!    └── a failure ──┴─────────── a failure ─────────────┘   then after a while: create
//! ```
//!
//! **Invariant**: bytes stay in memory until a sync has succeeded that covers them. After a failed sync the system may show
//! bytes that the disk will never hold, so that file is left and all that was not durable is written again to a new one.
//!
//! A disk command that is carried out without error but did nothing, as on a disk that lies about its cache, is beyond this.

mod queue;
mod segments;

use super::frame::{Position, stamp};
use super::segment::{SEAL, SEGMENT_HEADER, SegmentHeader, SegmentName, encode_seal};
use crate::timer::Moment;
use queue::{Batch, Queue};
pub use segments::Existing;
use segments::Segments;
use std::collections::VecDeque;
use std::time::Duration;

/// Writes between which a waiting removal takes its turn, even if there is always something to write.
const WRITES_PER_REMOVAL: u32 = 16;
/// Buffers kept for [`Log::take_spare`]: a shard fills one while another is written.
const SPARES_MAX: usize = 2;

/// When appended frames count as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When they are synced: they outlive a power cut.
    Sync,
    /// When they are written to the file: they outlive the process. Synced after [`Options::sync_interval`].
    Relaxed,
}

/// How a log is kept, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Index of the shard.
    pub shard: u8,
    /// Identity of the data directory.
    pub directory: u64,
    /// When frames count as durable.
    pub mode: Mode,
    /// Size of a segment's file. A frame that is longer gets a longer one for itself.
    pub segment_bytes: u64,
    /// In [`Mode::Relaxed`], how long after it was written a frame is synced.
    pub sync_interval: Duration,
    /// How long after a failure the disk is tried again.
    pub retry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shard: 0,
            directory: 0,
            mode: Mode::Sync,
            segment_bytes: 64 << 20,
            sync_interval: Duration::from_millis(100),
            retry: Duration::from_secs(1),
        }
    }
}

/// What the owner is to do with the files next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Create the file, which must not exist, allocate room, write the header at its front, sync the file and its directory.
    /// A file system that cannot allocate in advance is no failure; one that has not enough room is.
    Create {
        /// The segment.
        segment: SegmentName,
        /// What stands at its front.
        header: Vec<u8>,
        /// Bytes to allocate.
        preallocate: u64,
    },
    /// Write all of `bytes`, then sync the file's data if `sync`. The bytes come back in [`Completed::Written`] either way.
    Write {
        /// The segment.
        segment: SegmentName,
        /// Where in the file.
        at: u64,
        /// What.
        bytes: Vec<u8>,
        /// Whether to sync.
        sync: bool,
    },
    /// Sync the file's data.
    Sync {
        /// The segment.
        segment: SegmentName,
    },
    /// Delete the file; if there is none, that is as good. Its directory need not be synced: should it come back, it is
    /// overruled.
    Remove {
        /// The segment.
        segment: SegmentName,
    },
}

/// What came of a [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completed {
    /// Of [`Command::Create`].
    Created(Result<(), Failure>),
    /// Of [`Command::Write`]: both the writing and the sync. The bytes are those of the command, unchanged.
    Written(Result<(), Failure>, Vec<u8>),
    /// Of [`Command::Sync`].
    Synced(Result<(), Failure>),
    /// Of [`Command::Remove`].
    Removed(Result<(), Failure>),
}

/// Why the disk has refused a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The operation, the file and the error, for whoever operates the broker.
    pub what: String,
    /// Whether there is no room left.
    pub is_full: bool,
}

/// Where writing stands; drawn above.
#[derive(Debug)]
enum Stage {
    /// No segment may be written to.
    Closed,
    /// The newest segment ends where the queue begins.
    Open,
    /// The newest segment is empty. The one before, `full`, awaits the seal that says that all of it is there.
    Sealing { full: SegmentName, end: Position },
}

/// The command that is being carried out.
#[derive(Debug)]
enum Outstanding {
    Creating(SegmentName),
    /// A batch whose bytes the owner has.
    Writing {
        start: Position,
        end: Position,
        sync: bool,
    },
    Sealing,
    Syncing,
    Removing,
}

/// A failure and when the disk is tried again.
#[derive(Debug)]
struct Refusal {
    failure: Failure,
    retry_at: Moment,
}

/// A checkpoint has made what lies before an offset unnecessary, as soon as it is synced itself.
#[derive(Debug)]
struct Unneeded {
    before: u64,
    once_synced: u64,
}

/// One shard's log, from its end to the oldest byte that is kept.
#[derive(Debug)]
pub struct Log {
    options: Options,
    segments: Segments,
    /// Goes up whenever a segment is not left in order.
    epoch: u32,
    stage: Stage,
    /// What is to be written.
    queue: Queue,
    /// What is written and not synced; only in [`Mode::Relaxed`].
    unsynced: VecDeque<Batch>,
    sync_due: Option<Moment>,
    outstanding: Option<Outstanding>,
    /// Everything before is in the files.
    written: u64,
    /// Everything before outlives a power cut.
    synced: u64,
    refusal: Option<Refusal>,
    unneeded: Option<Unneeded>,
    writes_since_removal: u32,
    spares: Vec<Vec<u8>>,
}

impl Log {
    /// Goes on from `position`, before which all is synced for certain: what the frames of the newest segment say is durable, or
    /// else its start. `existing` are the segments that there are, in the order of [`SegmentName::order`], overruled ones too.
    ///
    /// What was read behind `position` may be in the memory of the system only, or never have reached the disk in spite of what
    /// the system shows. So the owner appends those frames first, and the log writes them again.
    ///
    /// The first frame goes to a new segment: behind the end of the newest one the file may hold remains of frames that a
    /// power cut has voided, and these must not come back.
    pub fn new(options: Options, position: Position, existing: Vec<Existing>) -> Self {
        let batch_bytes_max = options.segment_bytes.saturating_sub((SEGMENT_HEADER + SEAL) as u64);
        let epoch = existing.iter().map(|segment| segment.name.epoch + 1).max().unwrap_or(0);
        let mut log = Self {
            options,
            segments: Segments::new(existing),
            epoch,
            stage: Stage::Closed,
            queue: Queue::new(position, batch_bytes_max),
            unsynced: VecDeque::new(),
            sync_due: None,
            outstanding: None,
            written: position.offset,
            synced: position.offset,
            refusal: None,
            unneeded: None,
            writes_since_removal: 0,
            spares: Vec::new(),
        };
        log.settle();
        log
    }

    /// Appends frames, back to back, as an appender gave them.
    ///
    /// # Panics
    ///
    /// When they do not follow on what was appended before: a log with a gap could not be read.
    pub fn append(&mut self, frames: Vec<u8>) {
        if let Some(spare) = self.queue.append(frames) {
            self.keep_spare(spare);
        }
    }

    /// What to do next; `None` while a command is outstanding, or if there is nothing to do before [`Log::next_deadline`] or
    /// the next frames.
    pub fn next_command(&mut self, now: Moment) -> Option<Command> {
        if self.outstanding.is_some() {
            return None;
        }
        if self.writes_since_removal >= WRITES_PER_REMOVAL {
            self.writes_since_removal = 0;
            if let Some(command) = self.remove(now) {
                return Some(command);
            }
        }
        self.next_write(now).or_else(|| self.remove(now))
    }

    /// Learns what came of the command that is outstanding.
    ///
    /// # Panics
    ///
    /// When there is none of that kind.
    pub fn on_completed(&mut self, now: Moment, completed: Completed) {
        match (self.outstanding.take(), completed) {
            (Some(Outstanding::Creating(name)), Completed::Created(result)) => self.on_created(now, name, result),
            (Some(Outstanding::Writing { start, end, sync }), Completed::Written(result, bytes)) => {
                self.on_written(now, Batch { bytes, start, end }, sync, result);
            }
            (Some(Outstanding::Sealing), Completed::Written(result, _)) => self.on_sealed(now, result),
            (Some(Outstanding::Syncing), Completed::Synced(result)) => self.on_synced(now, result),
            (Some(Outstanding::Removing), Completed::Removed(result)) => {
                self.segments.on_removed(result.map_err(|_| now + self.options.retry));
            }
            (outstanding, completed) => panic!("{completed:?} was not commanded, but {outstanding:?}"),
        }
    }

    /// Everything before this offset is durable, in the sense of the [`Mode`]. Never goes back.
    pub fn durable(&self) -> u64 {
        self.written
    }

    /// Everything before this offset can be read from where [`Log::locate`] says. Never goes back.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Everything before this offset has been synced. In [`Mode::Sync`] the same as [`Log::durable`].
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// Bytes that were appended and are not durable.
    pub fn backlog(&self) -> usize {
        (self.queue.end().offset - self.written) as usize
    }

    /// Why the disk refuses to store; `None` as long as it does not, and again once it has stored something.
    pub fn failure(&self) -> Option<&Failure> {
        self.refusal.as_ref().map(|refusal| &refusal.failure)
    }

    /// When to ask for a command again although nothing happens; `None` while one is outstanding.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.outstanding.is_some() {
            return None;
        }
        let retry = self.refusal.as_ref().map(|refusal| refusal.retry_at);
        [retry, self.sync_due, self.segments.removal_due()].into_iter().flatten().min()
    }

    /// Whether all that was appended is synced and nothing is going on.
    pub fn is_idle(&self) -> bool {
        self.outstanding.is_none() && self.queue.is_empty() && self.unsynced.is_empty()
    }

    /// The segment that holds the byte at `offset`, and where in its file; `None` if it is not written, or removed.
    pub fn locate(&self, offset: u64) -> Option<(SegmentName, u64)> {
        self.segments.locate(offset)
    }

    /// A checkpoint that began at `offset` is complete: segments wholly before are removed, once all that has been appended up
    /// to now is synced.
    pub fn drop_before(&mut self, offset: u64) {
        let before = self.unneeded.as_ref().map_or(offset, |unneeded| unneeded.before.max(offset));
        self.unneeded = Some(Unneeded { before, once_synced: self.queue.end().offset });
        self.settle();
    }

    /// Bytes of all segments that are in use; room allocated in advance is not.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.bytes()
    }

    /// How many segments there are, those that are about to be removed included.
    pub fn segments(&self) -> usize {
        self.segments.count()
    }

    /// A buffer that is not needed any more, for the appender.
    pub fn take_spare(&mut self) -> Option<Vec<u8>> {
        self.spares.pop()
    }

    fn next_write(&mut self, now: Moment) -> Option<Command> {
        if self.refusal.as_ref().is_some_and(|refusal| now < refusal.retry_at) {
            return None;
        }
        if self.sync_due.is_some_and(|due| due <= now) {
            return Some(self.sync());
        }
        let batch_bytes = self.queue.front()?.bytes.len();
        match self.stage {
            Stage::Closed => Some(self.create()),
            Stage::Sealing { full, end } => Some(self.seal(full, end)),
            Stage::Open if self.has_room_for(batch_bytes) => self.write(),
            // A segment is left only once it is synced: what follows it vouches for it.
            Stage::Open if !self.unsynced.is_empty() => Some(self.sync()),
            Stage::Open => Some(self.create()),
        }
    }

    /// Whether a batch fits in the open segment, with the seal behind it. In an empty one every batch does.
    fn has_room_for(&self, batch_bytes: usize) -> bool {
        let newest = self.segments.newest();
        let end = newest.name.file_offset(newest.end) + (batch_bytes + SEAL) as u64;
        newest.is_empty() || end <= self.options.segment_bytes
    }

    /// Begins a segment where the queue begins.
    fn create(&mut self) -> Command {
        let batch = self.queue.front().expect("a segment is begun for a batch");
        let name = SegmentName { shard: self.options.shard, start: batch.start.offset, epoch: self.epoch };
        let header = SegmentHeader { name, directory: self.options.directory, sequence: batch.start.sequence };
        let needed = (SEGMENT_HEADER + batch.bytes.len() + SEAL) as u64;
        self.outstanding = Some(Outstanding::Creating(name));
        Command::Create {
            segment: name,
            header: header.encode().to_vec(),
            preallocate: needed.max(self.options.segment_bytes),
        }
    }

    /// Writes the first batch of the queue. While the disk is failing, only a sync shows that it works again.
    fn write(&mut self) -> Option<Command> {
        let Batch { mut bytes, start, end } = self.queue.pop_front()?;
        stamp(&mut bytes, start.offset, self.synced);
        let sync = self.options.mode == Mode::Sync || self.refusal.is_some();
        let segment = self.segments.newest().name;
        self.writes_since_removal += 1;
        self.outstanding = Some(Outstanding::Writing { start, end, sync });
        Some(Command::Write { segment, at: segment.file_offset(start.offset), bytes, sync })
    }

    fn seal(&mut self, full: SegmentName, end: Position) -> Command {
        self.outstanding = Some(Outstanding::Sealing);
        Command::Write { segment: full, at: full.file_offset(end.offset), bytes: encode_seal(end).to_vec(), sync: true }
    }

    fn sync(&mut self) -> Command {
        self.outstanding = Some(Outstanding::Syncing);
        Command::Sync { segment: self.segments.newest().name }
    }

    fn remove(&mut self, now: Moment) -> Option<Command> {
        let segment = self.segments.next_removal(now)?;
        self.outstanding = Some(Outstanding::Removing);
        Some(Command::Remove { segment })
    }

    fn on_created(&mut self, now: Moment, name: SegmentName, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.segments.discard(name); // Some of the file may be there.
            return self.fail(now, failure);
        }
        self.stage = match self.stage {
            Stage::Open => Stage::Sealing { full: self.segments.newest().name, end: self.queue.start() },
            Stage::Closed | Stage::Sealing { .. } => Stage::Open,
        };
        self.segments.begin(name);
        self.settle();
    }

    fn on_written(&mut self, now: Moment, batch: Batch, sync: bool, result: Result<(), Failure>) {
        if let Err(failure) = result {
            self.queue.push_front(batch);
            return self.fail(now, failure);
        }
        self.segments.extend(batch.end.offset);
        self.written = self.written.max(batch.end.offset); // Less, if it is the second time.
        self.unsynced.push_back(batch);
        if sync {
            self.confirm();
        } else {
            self.sync_due.get_or_insert(now + self.options.sync_interval);
        }
    }

    fn on_sealed(&mut self, now: Moment, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.stage = Stage::Open,
            Err(failure) => self.fail(now, failure),
        }
    }

    fn on_synced(&mut self, now: Moment, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.confirm(),
            Err(failure) => self.fail(now, failure),
        }
    }

    /// A sync has succeeded: the open segment is on disk up to its end.
    fn confirm(&mut self) {
        self.synced = self.segments.newest().end;
        self.sync_due = None;
        self.refusal = None;
        while let Some(batch) = self.unsynced.pop_front() {
            self.keep_spare(batch.bytes);
        }
        self.settle();
    }

    /// Leaves the open segment as it is. All that is not synced is to be written again, elsewhere.
    fn fail(&mut self, now: Moment, failure: Failure) {
        while let Some(batch) = self.unsynced.pop_back() {
            self.queue.push_front(batch);
        }
        assert_eq!(self.queue.start().offset, self.synced, "what is not synced is kept");
        self.epoch += 1;
        self.stage = Stage::Closed;
        self.sync_due = None;
        self.refusal = Some(Refusal { failure, retry_at: now + self.options.retry });
    }

    /// Finds the segments that are not needed any more.
    fn settle(&mut self) {
        let unneeded = self.unneeded.take_if(|unneeded| unneeded.once_synced <= self.synced);
        self.segments.settle(self.synced, unneeded.map(|unneeded| unneeded.before));
    }

    fn keep_spare(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES_MAX {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests;
