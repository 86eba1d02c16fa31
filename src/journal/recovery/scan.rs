//! The first reading of a journal: is it whole, where does it end, where must the second begin.

use super::reader::{Found, SegmentReader, is_blank};
use super::transactions::Testimony;
use super::{Evidence, Files, JournalError, Problem, Progress};
use crate::journal::encoding::decode;
use crate::journal::frame::{FRAME_HEADER, Flags, FrameHeader, Position};
use crate::journal::log::Existing;
use crate::journal::record::Record;
use crate::journal::segment::{BadHeader, SEGMENT_HEADER, SegmentHeader, SegmentName};

/// What the first reading of a journal has found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Index of the shard.
    pub shard: u8,
    /// The parts of the log, in its order and without a gap.
    pub parts: Vec<Part>,
    /// All segments that there are, in the order in which they were begun; those that do not count are empty.
    pub existing: Vec<Existing>,
    /// Where the log ends.
    pub position: Position,
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
/// A frame that does not check is cut off with all that follows it if it is in the last segment and no frame behind it
/// says that it had been on disk; see [`crate::journal::frame`]. Segments that a gap separates from a later, complete checkpoint
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
    Scanner { files, scan, open_checkpoint: None, gap: None, bytes_done: 0, progress }.run(&chain(headers))
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

/// The segments of which something counts, given all in the order in which they were begun: each overrules from its start on
/// what was begun before it.
pub(in crate::journal) fn chain(headers: Vec<SegmentHeader>) -> Vec<SegmentHeader> {
    let mut chain: Vec<SegmentHeader> = Vec::new();
    for header in headers {
        while chain.last().is_some_and(|last| last.name.start >= header.name.start) {
            chain.pop();
        }
        chain.push(header);
    }
    chain
}

struct Scanner<'a> {
    files: &'a dyn Files,
    scan: Scan,
    open_checkpoint: Option<Position>,
    /// The last gap: an error unless a checkpoint follows it.
    gap: Option<JournalError>,
    bytes_done: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Scanner<'_> {
    fn run(mut self, chain: &[SegmentHeader]) -> Result<Scan, JournalError> {
        for (index, header) in chain.iter().enumerate() {
            self.segment(header, chain.get(index + 1))?;
        }
        self.require_a_beginning()?;
        let Scan { parts, existing, .. } = &mut self.scan;
        for part in parts {
            let same = existing.iter_mut().find(|segment| segment.name == part.name);
            same.expect("a part is of a segment").end = part.end.offset;
        }
        Ok(self.scan)
    }

    /// Reads one segment up to where the next one starts.
    fn segment(&mut self, header: &SegmentHeader, next: Option<&SegmentHeader>) -> Result<(), JournalError> {
        let start = Position { offset: header.name.start, sequence: header.sequence };
        let cut = next.map(|next| next.name.start);
        let mut reader = SegmentReader::open(self.files, header.name)?;
        let mut at = start;
        while cut != Some(at.offset) {
            match reader.frame(at)? {
                Found::Frame(frame, _) if cut.is_some_and(|cut| at.offset + frame.frame_bytes() > cut) => break,
                Found::Frame(frame, payload) => {
                    self.frame(header.name, at, &frame, payload)?;
                    at = behind(at, &frame);
                }
                Found::Seal | Found::Nothing => break,
            }
        }
        self.scan.parts.push(Part { name: header.name, start, end: at });
        self.scan.position = at;
        match next {
            Some(next) => self.join(&mut reader, at, next),
            None => self.cut_off(&mut reader, at),
        }
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

    /// The frames of a segment end at `at`, and there is a `next` one, so all up to its start had been on disk.
    fn join(&mut self, reader: &mut SegmentReader<'_>, at: Position, next: &SegmentHeader) -> Result<(), JournalError> {
        let (name, to) = (self.scan.parts.last().expect("a part was read").name, next.name.start);
        if at == (Position { offset: to, sequence: next.sequence }) {
            return Ok(());
        }
        let is_sealed = matches!(reader.frame(at)?, Found::Seal);
        let is_gap = at.offset < to && (is_sealed || reader.remains(at.offset, Some(to))?.bytes == 0);
        let problem = if is_gap {
            Problem::Missing { from: at.offset, to: Some(to) }
        } else {
            Problem::Damaged { offset: at.offset, evidence: Evidence::LaterSegment(to) }
        };
        // Either way it matters only if no checkpoint follows: a removed segment that comes back when the power fails may be one
        // whose end had been overruled by another that does not.
        self.gap = Some(JournalError { file: reader.path(), at: name.file_offset(at.offset), problem });
        self.open_checkpoint = None;
        self.scan.checkpoint = None;
        self.scan.parts.clear();
        Ok(())
    }

    /// The frames of the last segment end at `at`: whatever follows was never promised, or the disk has lost it.
    fn cut_off(&mut self, reader: &mut SegmentReader<'_>, at: Position) -> Result<(), JournalError> {
        let name = self.scan.parts.last().expect("a part was read").name;
        let error = |problem| JournalError { file: reader.path(), at: name.file_offset(at.offset), problem };
        let missing = error(Problem::Missing { from: at.offset, to: None });
        if matches!(reader.frame(at)?, Found::Seal) {
            return Err(missing);
        }
        let remains = reader.remains(at.offset, None)?;
        if let Some(witness) = remains.witness {
            let problem = Problem::Damaged { offset: at.offset, evidence: Evidence::LaterFrame(witness) };
            return Err(JournalError { problem, ..missing });
        }
        self.scan.torn_bytes = remains.bytes;
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
        match self.scan.parts.first() {
            Some(first) if first.start.offset > 0 => Err(JournalError {
                file: self.files.path(&first.name),
                at: 0,
                problem: Problem::Missing { from: 0, to: Some(first.start.offset) },
            }),
            _ => Ok(()),
        }
    }
}

/// Where the next frame stands.
pub(in crate::journal) fn behind(at: Position, frame: &FrameHeader) -> Position {
    Position { offset: at.offset + frame.frame_bytes(), sequence: at.sequence.wrapping_add(1) }
}
