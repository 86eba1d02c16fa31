//! The first reading of a journal: is it whole, where does it end, where must the second begin.

use super::reader::{Found, SegmentReader, is_blank};
use super::transactions::Testimony;
use super::{Evidence, Files, JournalError, Problem, Progress};
use crate::journal::encoding::decode;
use crate::journal::frame::{FRAME_HEADER, Flags, FrameHeader, Position};
use crate::journal::log::Existing;
use crate::journal::record::Record;
use crate::journal::segment::{BadHeader, SEGMENT_HEADER, SegmentHeader, SegmentName};
use ahash::AHashSet;

/// What the first reading of a journal has found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Index of the shard.
    pub shard: u8,
    /// The parts of the log, in its order and without a gap.
    pub parts: Vec<Part>,
    /// All segments that there are, in the order in which they were begun, each as far as its own frames go.
    pub existing: Vec<Existing>,
    /// Where the log ends.
    pub position: Position,
    /// All before this is known to have been synced.
    pub certain: Position,
    /// The frames from there to the end. They are there to be read, but may never have reached the disk: the log writes them again.
    pub tail: Vec<u8>,
    /// Bytes that were cut off at the end.
    pub torn_bytes: u64,
    /// Frames that count.
    pub frames: u64,
    /// The last checkpoint that is complete.
    pub checkpoint: Option<Checkpoint>,
    /// Bytes of all files.
    pub file_bytes: u64,
    pub(super) testimony: Testimony,
}

/// The part of a log that one segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The segment.
    pub name: SegmentName,
    /// Its first frame.
    pub start: Position,
    /// Behind the last of its frames that count.
    pub end: Position,
}

/// A checkpoint that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The frame in which it begins.
    pub begin: Position,
    /// The frame in which it ends.
    pub end: Position,
}

/// Reads the journal of a shard and checks all of it.
///
/// Each segment is read as far as its frames check. Where segments overlap they hold the same frames, and the log goes as far as the
/// farthest; what is behind was never promised, unless a frame or a seal somewhere says that it had been on disk; see
/// [`crate::journal::segment`]. Segments that a gap separates from a later, complete checkpoint
/// are not needed and do not count: they may come back when the power fails after they were removed.
///
/// Not to be noticed: segments are missing at the end that were begun after a restart or a failure of the disk, as no seal
/// names them, and a journal that is missing altogether.
pub fn scan(files: &dyn Files, shard: u8, progress: &mut dyn FnMut(Progress)) -> Result<Scan, JournalError> {
    let names = files.segments(shard);
    let mut names = names.map_err(|error| JournalError::unreadable(SegmentName::folder(shard), 0, error))?;
    names.sort_unstable_by_key(SegmentName::order);
    let mut headers = Vec::new();
    let mut scan = Scan { shard, ..Scan::default() };
    for name in names {
        let mut reader = SegmentReader::open(files, name)?;
        headers.extend(read_header(&mut reader, name, files.identity())?);
        scan.file_bytes += reader.length();
        scan.existing.push(Existing { name, end: name.start });
    }
    let scanner = Scanner {
        files,
        scan,
        open_checkpoint: None,
        gap: None,
        ends: Vec::new(),
        sound: headers.iter().map(|header| header.name.start).collect(),
        synced: 0,
        bytes_done: 0,
        progress,
    };
    scanner.run(&headers)
}

/// What the header of a segment says; `None` if its creation was interrupted, so that there is nothing in it.
pub(in crate::journal) fn read_header(
    reader: &mut SegmentReader<'_>,
    name: SegmentName,
    identity: u64,
) -> Result<Option<SegmentHeader>, JournalError> {
    let decoded = match reader.bytes(0, SEGMENT_HEADER)?.and_then(<[u8]>::first_chunk) {
        Some(bytes) => SegmentHeader::decode(bytes),
        None => Err(BadHeader::Missing),
    };
    let problem = match decoded {
        Ok(header) if header.directory != identity => {
            Problem::ForeignDirectory { found: header.directory, expected: identity }
        }
        Ok(header) if header.name != name => Problem::Misplaced { belongs: header.name.to_string() },
        Ok(header) => return Ok(Some(header)),
        Err(BadHeader::Version(version)) => Problem::Version(version),
        Err(BadHeader::Missing | BadHeader::Damaged) if is_blank(reader)? => return Ok(None),
        Err(BadHeader::Missing | BadHeader::Damaged) => {
            Problem::Damaged { offset: name.start, evidence: Evidence::Header }
        }
    };
    Err(JournalError { file: reader.path(), at: 0, problem })
}

struct Scanner<'a> {
    files: &'a dyn Files,
    scan: Scan,
    open_checkpoint: Option<Position>,
    /// The last gap: an error unless a checkpoint follows it.
    gap: Option<JournalError>,
    /// The segments behind it: where their frames end, and whether they were left in order.
    ends: Vec<(SegmentName, Position, bool)>,
    /// Where segments start whose headers check.
    sound: AHashSet<u64>,
    /// All before this is known to have been synced.
    synced: u64,
    bytes_done: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Scanner<'_> {
    fn run(mut self, headers: &[SegmentHeader]) -> Result<Scan, JournalError> {
        for header in headers {
            self.segment(header)?;
        }
        self.require_the_end()?;
        self.require_a_beginning()?;
        self.take_tail()?;
        Ok(self.scan)
    }

    /// Reads one segment as far as its frames check.
    fn segment(&mut self, header: &SegmentHeader) -> Result<(), JournalError> {
        let start = Position { offset: header.name.start, sequence: header.sequence };
        self.join(start, header.name)?;
        let mut reader = SegmentReader::open(self.files, header.name)?;
        let mut at = start;
        let is_sealed = loop {
            match reader.frame(at)? {
                Found::Frame(frame, payload) => {
                    // What stood in an older segment, too, was noted then.
                    if at.offset >= self.scan.position.offset {
                        self.frame(header.name, at, &frame, payload)?;
                    }
                    self.synced = self.synced.max(frame.durable);
                    at = behind(at, &frame);
                }
                Found::Seal => break true,
                Found::Nothing => break false,
            }
            if self.scan.position.offset < at.offset {
                self.scan.position = at;
            }
        };
        let same = self.scan.existing.iter_mut().find(|segment| segment.name == header.name);
        same.expect("all segments were listed").end = at.offset;
        self.synced = self.synced.max(start.offset);
        self.ends.push((header.name, at, is_sealed));
        if at.offset < self.scan.position.offset && !self.begins_a_frame(at)? {
            let problem = Problem::Damaged { offset: at.offset, evidence: Evidence::Overlap };
            return Err(JournalError { file: reader.path(), at: header.name.file_offset(at.offset), problem });
        }
        lay_over(&mut self.scan.parts, Part { name: header.name, start, end: at });
        Ok(())
    }

    /// Takes note of a frame.
    fn frame(
        &mut self,
        name: SegmentName,
        at: Position,
        frame: &FrameHeader,
        payload: &[u8],
    ) -> Result<(), JournalError> {
        if frame.flags.has(Flags::TRANSACTIONS) || frame.flags.has(Flags::CHECKPOINT) {
            self.records(name, at, payload)?;
        }
        self.scan.frames += 1;
        self.bytes_done += frame.frame_bytes();
        (self.progress)(Progress { bytes_done: self.bytes_done, bytes_total: self.scan.file_bytes, records: 0 });
        Ok(())
    }

    fn records(&mut self, name: SegmentName, at: Position, payload: &[u8]) -> Result<(), JournalError> {
        let mut done = 0;
        while done < payload.len() {
            let offset = at.offset + (FRAME_HEADER + done) as u64;
            let (record, length) = decode(&payload[done..]).map_err(|malformed| JournalError {
                file: self.files.path(&name),
                at: name.file_offset(offset),
                problem: Problem::Record { offset, malformed },
            })?;
            match record {
                Record::CheckpointBegin => self.open_checkpoint = Some(at),
                Record::CheckpointEnd => {
                    let complete = self.open_checkpoint.take().map(|begin| Checkpoint { begin, end: at });
                    self.scan.checkpoint = complete.or(self.scan.checkpoint);
                }
                record => self.scan.testimony.note(self.scan.shard, at.offset, &record),
            }
            done += length;
        }
        Ok(())
    }

    /// A segment starts at `start`, which must be where a frame of the log does, or where the log ends so far.
    fn join(&mut self, start: Position, name: SegmentName) -> Result<(), JournalError> {
        let Some(&(last, end, is_sealed)) = self.ends.iter().max_by_key(|(_, end, _)| end.offset) else {
            self.scan.position = start;
            return Ok(());
        };
        let to = start.offset;
        if start == end || (to < end.offset && self.begins_a_frame(start)?) {
            return Ok(());
        }
        let mut reader = SegmentReader::open(self.files, last)?;
        let is_gap = end.offset < to && (is_sealed || reader.remains(end.offset, Some(to), to)?.bytes == 0);
        let problem = if is_gap {
            Problem::Missing { from: end.offset, to: Some(to) }
        } else {
            Problem::Damaged { offset: end.offset.min(to), evidence: Evidence::LaterSegment(to) }
        };
        let (path, at) = if to < last.start {
            (self.files.path(&name), 0)
        } else {
            (reader.path(), last.file_offset(end.offset.min(to)))
        };
        // Either way it matters only if no checkpoint follows: a removed segment that comes back when the power fails may be one whose end
        // stood in another that does not.
        self.gap = Some(JournalError { file: path, at, problem });
        self.open_checkpoint = None;
        self.ends.clear();
        self.synced = 0;
        self.scan.checkpoint = None;
        self.scan.parts.clear();
        self.scan.position = start;
        Ok(())
    }

    /// Whether a frame of the log begins there.
    fn begins_a_frame(&self, start: Position) -> Result<bool, JournalError> {
        let Some(part) = self.scan.parts.iter().find(|part| part.end.offset > start.offset) else { return Ok(false) };
        let mut reader = SegmentReader::open(self.files, part.name)?;
        let mut at = part.start;
        while at.offset < start.offset
            && let Found::Frame(frame, _) = reader.frame(at)?
        {
            at = behind(at, &frame);
        }
        Ok(at == start)
    }

    /// Nothing may say that there was more than there is: whatever follows was never promised then.
    fn require_the_end(&mut self) -> Result<(), JournalError> {
        let end = self.scan.position.offset;
        for (name, own_end, is_sealed) in std::mem::take(&mut self.ends) {
            let mut reader = SegmentReader::open(self.files, name)?;
            let error = |problem| JournalError { file: reader.path(), at: name.file_offset(own_end.offset), problem };
            let missing = error(Problem::Missing { from: own_end.offset, to: None });
            if is_sealed {
                // The seal was written once the next segment was on disk.
                if self.sound.contains(&own_end.offset) {
                    continue;
                }
                return Err(missing);
            }
            let remains = reader.remains(own_end.offset, None, end)?;
            if let Some(witness) = remains.witness {
                let problem = Problem::Damaged { offset: own_end.offset, evidence: Evidence::LaterFrame(witness) };
                return Err(JournalError { problem, ..missing });
            }
            self.scan.torn_bytes = if own_end.offset == end { remains.bytes } else { 0 };
        }
        Ok(())
    }

    /// Takes the frames of which nothing says that they were synced.
    fn take_tail(&mut self) -> Result<(), JournalError> {
        self.scan.certain = self.scan.position;
        for part in self.scan.parts.iter().filter(|part| part.end.offset > self.synced) {
            let mut reader = SegmentReader::open(self.files, part.name)?;
            let mut at = part.start;
            while at.offset < part.end.offset
                && let Found::Frame(frame, payload) = reader.frame(at)?
            {
                if at.offset >= self.synced {
                    if self.scan.tail.is_empty() {
                        self.scan.certain = at;
                    }
                    self.scan.tail.extend_from_slice(&frame.encode(at.offset));
                    self.scan.tail.extend_from_slice(payload);
                }
                at = behind(at, &frame);
            }
        }
        Ok(())
    }

    /// A log is whole if it goes back to a complete checkpoint, or to offset 0.
    fn require_a_beginning(&mut self) -> Result<(), JournalError> {
        if self.scan.checkpoint.is_some() {
            return Ok(());
        }
        if let Some(gap) = self.gap.take() {
            return Err(gap);
        }
        // What has no frames has no part: then the log begins where it ends.
        let first = self.scan.parts.first().map_or(self.scan.position, |first| first.start);
        match self.scan.existing.iter().find(|segment| segment.name.start == first.offset) {
            Some(segment) if first.offset > 0 => Err(JournalError {
                file: self.files.path(&segment.name),
                at: 0,
                problem: Problem::Missing { from: 0, to: Some(first.offset) },
            }),
            _ => Ok(()),
        }
    }
}

/// Puts a part over those that are there: where they overlap, the newest counts.
fn lay_over(parts: &mut Vec<Part>, new: Part) {
    if new.start == new.end {
        return;
    }
    let before = |old: &Part| Part { end: if old.end.offset < new.start.offset { old.end } else { new.start }, ..*old };
    let after =
        |old: &Part| Part { start: if old.start.offset > new.end.offset { old.start } else { new.end }, ..*old };
    let mut all: Vec<Part> = parts.iter().flat_map(|old| [before(old), after(old)]).collect();
    all.push(new);
    all.retain(|part| part.start.offset < part.end.offset);
    all.sort_unstable_by_key(|part| part.start.offset);
    *parts = all;
}

/// Where the next frame stands.
pub(in crate::journal) fn behind(at: Position, frame: &FrameHeader) -> Position {
    Position { offset: at.offset + frame.frame_bytes(), sequence: at.sequence.wrapping_add(1) }
}
