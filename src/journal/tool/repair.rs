//! `willowmq journal repair`: makes a damaged journal one that the broker starts with, and says what that costs.
//!
//! Log offsets and sequences are left as they are: what cannot be read is overwritten with as many frames as stood there, which
//! say nothing. So all the rest stays where it is and checks as before. A repair
//!
//! - cuts a torn end off: it costs nothing that was promised;
//! - fills a damaged part of a segment up to the next frame that checks, or cuts the last segment there if none does;
//! - puts an empty segment in the place of a missing one, or goes without the log before it if it would be very large;
//! - forgets a last segment that is missing;
//! - begins a log whose first segment is missing with an empty checkpoint;
//! - writes the header of a segment again from its first frame, and takes the segment away where that is bad, too;
//! - takes away files that belong elsewhere.
//!
//! # What a repair loses
//!
//! What the lost frames said never happened, in both directions. Sessions, Subscriptions, queued and retained messages and wills that
//! began in them are gone, and so is what was recorded later about a Session of which nobody knows. What *ended* in them
//! is there again: acknowledged messages are sent a second time, a Session that was ended is back, a Subscription that was given up
//! holds, an older retained message shows, and **a will that was published or discarded may be published (again)**.
//! Where a part of a transaction is lost, none of it counts on any shard. If a frame of the last checkpoint is lost, so is
//! what it told, though it may be older. A journal is always left consistent, so each of these is what a client may see
//! after a server without persistence.
//!
//! Not repaired: a newer format, files that cannot be read, and segments that contradict each other.

use super::readable_segments;
use crate::journal::encoding::{encode, records};
use crate::journal::frame::{FRAME_HEADER, Flags, FrameHeader, PAYLOAD_MAX, Position};
use crate::journal::record::Record;
use crate::journal::recovery::reader::{Found, SegmentReader, would_fit};
use crate::journal::recovery::scan::behind;
use crate::journal::recovery::{Evidence, Files, JournalError, Limits, Problem, recover, scan};
use crate::journal::segment::{SEGMENT_HEADER, SegmentHeader, SegmentName};
use ahash::AHashMap;
use std::io;

/// A gap that is larger is not filled.
const GAP_MAX: u64 = 1 << 30;

/// What a repair would do: a view of the files as they would be, and what it costs.
pub struct Plan<'a> {
    files: &'a dyn Files,
    changes: AHashMap<SegmentName, Change>,
    costs: Vec<String>,
}

/// What becomes of one file.
#[derive(Debug, Default)]
struct Change {
    is_removed: bool,
    /// Cut here first.
    length: Option<u64>,
    /// Then these bytes are written at these places; the file grows as needed.
    patches: Vec<(u64, Vec<u8>)>,
}

/// Finds out how to repair the journals of shards `0..shards`. An error is what cannot be repaired.
pub fn plan(files: &dyn Files, shards: u8) -> Result<Plan<'_>, JournalError> {
    let mut plan = Plan { files, changes: AHashMap::new(), costs: Vec::new() };
    for shard in 0..shards {
        plan.headers(shard)?;
        if scan(&plan, shard, &mut |_| {}).is_ok_and(|scan| scan.torn_bytes == 0) && !plan.has_bad_records(shard)? {
            continue;
        }
        while let Some(hole) = plan.find_hole(shard)? {
            plan.close(&hole)?;
        }
        plan.front(shard)?;
    }
    recover(&plan, shards, Limits { memory_budget: 0 }, &mut |_, _| {})?;
    Ok(plan)
}

/// A place where the frames of a segment end before they should.
struct Hole {
    name: SegmentName,
    at: Position,
    /// The next frame of the same segment that can be used.
    resume: Option<Position>,
    next: Option<SegmentHeader>,
    /// The segment ends here in order, so what is missing is another one.
    is_sealed: bool,
    /// Bytes that stand here and are no frames.
    bytes: u64,
    /// Some of these bytes had been confirmed to be on disk.
    is_damage: bool,
}

/// Where the good frames of a segment end.
struct End {
    name: SegmentName,
    at: Position,
    is_sealed: bool,
}

impl Plan<'_> {
    /// What is done and what it costs, a sentence each; empty if nothing is to be done.
    pub fn costs(&self) -> &[String] {
        &self.costs
    }

    /// Makes segments usable whose headers are not, or takes them away.
    fn headers(&mut self, shard: u8) -> Result<(), JournalError> {
        let (_, bad) = readable_segments(self, shard)?;
        for segment in bad {
            match segment.error.problem {
                Problem::ForeignDirectory { .. } | Problem::Misplaced { .. } => {
                    self.remove(segment.name, "it belongs elsewhere");
                }
                Problem::Damaged { evidence: Evidence::Header, .. } => self.header(segment.name)?,
                _ => return Err(segment.error),
            }
        }
        Ok(())
    }

    fn header(&mut self, name: SegmentName) -> Result<(), JournalError> {
        let mut reader = SegmentReader::open(self, name)?;
        let head = reader.bytes(SEGMENT_HEADER as u64, FRAME_HEADER)?.and_then(<[u8]>::first_chunk);
        let first = head.and_then(|head| FrameHeader::decode(head, name.start));
        drop(reader);
        match first {
            Some(first) => {
                let header = SegmentHeader { name, directory: self.identity(), sequence: first.sequence };
                self.patch(name, 0, header.encode().to_vec());
                self.costs.push(format!("{name}: the header is written again; nothing is lost"));
            }
            None => self.remove(name, "neither its header nor its first frame can be read, so all in it is lost"),
        }
        Ok(())
    }

    /// The first place where the log of a shard does not go on as it should.
    fn find_hole(&self, shard: u8) -> Result<Option<Hole>, JournalError> {
        let (segments, _) = readable_segments(self, shard)?;
        let mut farthest: Option<End> = None;
        for (index, header) in segments.iter().enumerate() {
            let end = match self.end_of(header)? {
                Ok(end) => end,
                Err(hole) => return Ok(Some(hole)),
            };
            let is_farther = farthest.as_ref().is_none_or(|farthest| end.at.offset >= farthest.at.offset);
            let farthest = if is_farther { farthest.insert(end) } else { farthest.as_mut().expect("one was read") };
            let next = segments.get(index + 1);
            if next.is_some_and(|next| next.name.start <= farthest.at.offset) {
                continue;
            }
            let is_followed = segments.iter().any(|other| other.name.start == farthest.at.offset);
            if let Some(hole) = self.hole_behind(farthest, next.copied(), is_followed)? {
                return Ok(Some(hole));
            }
        }
        Ok(None)
    }

    /// Where the good frames of a segment end. A frame that does not hold records is a hole of its own.
    fn end_of(&self, header: &SegmentHeader) -> Result<Result<End, Hole>, JournalError> {
        let name = header.name;
        let mut reader = SegmentReader::open(self, name)?;
        let mut at = Position { offset: name.start, sequence: header.sequence };
        loop {
            match reader.frame(at)? {
                Found::Frame(frame, payload) if records(payload).any(|record| record.is_err()) => {
                    let (resume, bytes) = (Some(behind(at, &frame)), frame.frame_bytes());
                    let hole = Hole { name, at, resume, next: None, is_sealed: false, bytes, is_damage: true };
                    return Ok(Err(hole));
                }
                Found::Frame(frame, _) => at = behind(at, &frame),
                Found::Seal => return Ok(Ok(End { name, at, is_sealed: true })),
                Found::Nothing => return Ok(Ok(End { name, at, is_sealed: false })),
            }
        }
    }

    /// What is wrong where the frames end, if the `next` segment starts later or there is none.
    fn hole_behind(
        &self,
        end: &End,
        next: Option<SegmentHeader>,
        is_followed: bool,
    ) -> Result<Option<Hole>, JournalError> {
        let End { name, at, is_sealed } = *end;
        let hole = Hole { name, at, resume: None, next, is_sealed, bytes: 0, is_damage: true };
        if is_sealed {
            return Ok((next.is_some() || !is_followed).then_some(hole));
        }
        let cut = next.map(|next| next.name.start);
        let mut reader = SegmentReader::open(self, name)?;
        let remains = reader.remains(at.offset, cut, at.offset)?;
        let is_damage = next.is_some() || remains.witness.is_some();
        if !is_damage && remains.bytes == 0 {
            return Ok(None);
        }
        let resume = if is_damage { reader.next_frame(at, cut)? } else { None };
        Ok(Some(Hole { resume, bytes: remains.bytes, is_damage, ..hole }))
    }

    /// Makes the log go on behind a hole.
    fn close(&mut self, hole: &Hole) -> Result<(), JournalError> {
        match (hole.resume, hole.next) {
            (Some(resume), _) => {
                self.fill(hole.name, hole.at, resume, "damaged");
                Ok(())
            }
            (None, Some(next)) => self.join(hole, &next),
            (None, None) => {
                self.cut(hole);
                Ok(())
            }
        }
    }

    /// The log goes on with another segment.
    fn join(&mut self, hole: &Hole, next: &SegmentHeader) -> Result<(), JournalError> {
        let to = Position { offset: next.name.start, sequence: next.sequence };
        if !would_fit(hole.at, to) {
            let problem =
                Problem::Damaged { offset: hole.at.offset, evidence: Evidence::LaterSegment(next.name.start) };
            let at = hole.name.file_offset(hole.at.offset);
            return Err(JournalError { file: self.path(&hole.name), at, problem });
        }
        if to.offset - hole.at.offset > GAP_MAX {
            return self.go_without(next);
        }
        let is_gap = (hole.is_sealed || hole.bytes == 0) && hole.at.offset > hole.name.start;
        if !is_gap {
            self.fill(hole.name, hole.at, to, "damaged");
            return Ok(());
        }
        let name = SegmentName { start: hole.at.offset, ..hole.name };
        self.begin(name, hole.at.sequence);
        self.fill(name, hole.at, to, "missing");
        Ok(())
    }

    /// Leaves out all of the log before a segment.
    fn go_without(&mut self, next: &SegmentHeader) -> Result<(), JournalError> {
        let (segments, _) = readable_segments(self, next.name.shard)?;
        for header in segments.iter().take_while(|header| header.name != next.name) {
            self.remove(header.name, "a large part of the log behind it is missing, so all in it is lost");
        }
        Ok(())
    }

    /// The last segment ends here.
    fn cut(&mut self, hole: &Hole) {
        let (name, offset) = (hole.name, hole.at.offset);
        self.change(name).length = Some(name.file_offset(offset));
        self.change(name).patches.retain(|(at, _)| *at < name.file_offset(offset));
        let cost = match (hole.is_sealed, hole.is_damage) {
            (true, _) => {
                format!("{name}: the segment that follows at log offset {offset} is missing; all in it is lost")
            }
            (false, true) => format!(
                "{name}: cut at log offset {offset}, from frame {} on: {} bytes are lost, and none behind them can be used",
                hole.at.sequence, hole.bytes
            ),
            (false, false) => {
                format!(
                    "{name}: {} torn bytes are cut off at log offset {offset}; nothing in them was promised",
                    hole.bytes
                )
            }
        };
        self.costs.push(cost);
    }

    /// Writes frames that say nothing.
    fn fill(&mut self, name: SegmentName, from: Position, to: Position, what: &str) {
        self.patch(name, name.file_offset(from.offset), fillers(from, to));
        self.costs.push(format!(
            "{name}: {} bytes from log offset {} to {} are {what}; what frames {} to {} said is lost",
            to.offset - from.offset,
            from.offset,
            to.offset,
            from.sequence,
            to.sequence - 1
        ));
    }

    /// Lets a log whose first segment is missing begin with a checkpoint that tells nothing.
    fn front(&mut self, shard: u8) -> Result<(), JournalError> {
        let error = match scan(self, shard, &mut |_| {}) {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.problem, Problem::Missing { from: 0, to: Some(_) }) => error,
            Err(error) => return Err(error),
        };
        let (segments, _) = readable_segments(self, shard)?;
        let Some(first) = segments.first() else { return Err(error) };
        let end = Position { offset: first.name.start, sequence: first.sequence };
        let (bytes, flags) = empty_checkpoint();
        let frame_bytes = (FRAME_HEADER + bytes.len()) as u64;
        let (Some(offset), Some(sequence)) = (end.offset.checked_sub(frame_bytes), end.sequence.checked_sub(1)) else {
            return Err(error);
        };
        let name = SegmentName { start: offset, ..first.name };
        self.begin(name, sequence);
        let frame = frame(Position { offset, sequence }, &bytes, flags);
        self.patch(name, name.file_offset(offset), frame);
        self.costs
            .push(format!("shard {shard}: the log before log offset {} is missing; all in it is lost", end.offset));
        Ok(())
    }

    fn has_bad_records(&self, shard: u8) -> Result<bool, JournalError> {
        Ok(self.find_hole(shard)?.is_some_and(|hole| hole.resume.is_some()))
    }

    fn begin(&mut self, name: SegmentName, sequence: u64) {
        let header = SegmentHeader { name, directory: self.identity(), sequence };
        *self.change(name) = Change { length: Some(0), ..Change::default() };
        self.patch(name, 0, header.encode().to_vec());
    }

    fn remove(&mut self, name: SegmentName, why: &str) {
        self.change(name).is_removed = true;
        self.costs.push(format!("{name}: taken away: {why}"));
    }

    fn patch(&mut self, name: SegmentName, at: u64, bytes: Vec<u8>) {
        self.change(name).patches.push((at, bytes));
    }

    fn change(&mut self, name: SegmentName) -> &mut Change {
        self.changes.entry(name).or_default()
    }

    /// Bytes of a file before it is patched.
    fn base_length(&self, segment: &SegmentName, change: &Change) -> io::Result<u64> {
        match change.length {
            Some(0) => Ok(0),
            Some(cut) => Ok(cut.min(self.files.length(segment)?)),
            None => self.files.length(segment),
        }
    }
}

/// The files as they would be.
impl Files for Plan<'_> {
    fn identity(&self) -> u64 {
        self.files.identity()
    }

    fn segments(&self, shard: u8) -> io::Result<Vec<SegmentName>> {
        let mut names = self.files.segments(shard)?;
        let new = self.changes.keys().filter(|name| name.shard == shard && !names.contains(name));
        let new: Vec<_> = new.copied().collect();
        names.extend(new);
        names.retain(|name| self.changes.get(name).is_none_or(|change| !change.is_removed));
        Ok(names)
    }

    fn length(&self, segment: &SegmentName) -> io::Result<u64> {
        let Some(change) = self.changes.get(segment) else { return self.files.length(segment) };
        let ends = change.patches.iter().map(|(at, bytes)| at + bytes.len() as u64);
        Ok(ends.fold(self.base_length(segment, change)?, u64::max))
    }

    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let Some(change) = self.changes.get(segment) else { return self.files.read(segment, at, length) };
        let end = self.length(segment)?.min(at.saturating_add(length as u64)).max(at);
        let base_end = self.base_length(segment, change)?.min(end).max(at);
        let mut bytes = match base_end - at {
            0 => Vec::new(),
            wanted => self.files.read(segment, at, wanted as usize)?,
        };
        bytes.resize((end - at) as usize, 0);
        for (patch_at, patch) in &change.patches {
            let (from, to) = ((*patch_at).max(at), (patch_at + patch.len() as u64).min(end));
            if from < to {
                let source = &patch[(from - patch_at) as usize..(to - patch_at) as usize];
                bytes[(from - at) as usize..(to - at) as usize].copy_from_slice(source);
            }
        }
        Ok(bytes)
    }

    fn path(&self, segment: &SegmentName) -> String {
        self.files.path(segment)
    }
}

/// As many frames as belong between two positions, which say nothing.
fn fillers(from: Position, to: Position) -> Vec<u8> {
    let mut nothing = Vec::new();
    encode(&Record::Unconditional, &mut nothing);
    let smallest = (FRAME_HEADER + nothing.len()) as u64;
    let mut bytes = Vec::new();
    let mut at = from;
    while at.sequence < to.sequence {
        let others = (to.sequence - at.sequence - 1) * smallest;
        let room = to.offset - at.offset - others - FRAME_HEADER as u64;
        let payload = nothing.repeat(room.min(PAYLOAD_MAX as u64) as usize / nothing.len());
        bytes.extend(frame(at, &payload, Flags::NONE));
        at = Position { offset: at.offset + (FRAME_HEADER + payload.len()) as u64, sequence: at.sequence + 1 };
    }
    bytes
}

/// The records of a checkpoint of nothing.
fn empty_checkpoint() -> (Vec<u8>, Flags) {
    let mut bytes = Vec::new();
    encode(&Record::CheckpointBegin, &mut bytes);
    encode(&Record::CheckpointEnd, &mut bytes);
    (bytes, Flags::CHECKPOINT)
}

fn frame(at: Position, payload: &[u8], flags: Flags) -> Vec<u8> {
    let header = FrameHeader {
        length: payload.len() as u32,
        payload_crc: crc32c::crc32c(payload),
        sequence: at.sequence,
        durable: at.offset,
        flags,
    };
    [&header.encode(at.offset)[..], payload].concat()
}

#[cfg(feature = "server")]
pub use carry_out::repair;

#[cfg(feature = "server")]
mod carry_out {
    //! The repair of a directory.

    use super::{Plan, plan};
    use crate::journal::directory::{Access, Directory};
    use crate::journal::segment::SegmentName;
    use crate::journal::tool::{Verdict, check};
    use std::fs::{self, DirBuilder, File, OpenOptions};
    use std::io::{self, Write};
    use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
    use std::path::Path;

    /// Repairs the journals of a directory, or tells what that would cost: see the module.
    ///
    /// With `is_confirmed` files are changed, each after it has been copied to `repair-<now>` in the directory; `now` is in
    /// seconds since 1970. Without, nothing is.
    ///
    /// # Panics
    ///
    /// When files are to be changed and the directory was not opened for that.
    pub fn repair(directory: &Directory, is_confirmed: bool, now: u64, out: &mut dyn Write) -> io::Result<Verdict> {
        let shards = directory.meta().shards;
        let plan = match plan(directory, shards) {
            Ok(plan) => plan,
            Err(error) => {
                writeln!(out, "{error}")?;
                writeln!(out, "this cannot be repaired here; nothing was changed")?;
                return Ok(Verdict::Damaged);
            }
        };
        plan.costs().iter().try_for_each(|cost| writeln!(out, "{cost}"))?;
        match (plan.costs(), is_confirmed) {
            ([], _) => writeln!(out, "there is nothing to repair")?,
            (_, false) => {
                writeln!(out, "nothing was changed: run again with --yes to do this")?;
                return Ok(Verdict::Damaged);
            }
            (_, true) => {
                assert_eq!(directory.access(), Access::Write, "a repair needs the directory for itself");
                let copies = directory.path().join(format!("repair-{now}"));
                carry_out(&plan, directory, &copies)?;
                writeln!(out, "the files that were changed are in {} as they were", copies.display())?;
            }
        }
        check(directory, shards, out)
    }

    fn carry_out(plan: &Plan<'_>, directory: &Directory, copies: &Path) -> io::Result<()> {
        make_folder(copies)?;
        for name in plan.changes.keys() {
            copy(&directory.segment_path(name), copies, name)?;
        }
        sync_folder(copies)?;
        sync_folder(directory.path())?;
        for (name, change) in &plan.changes {
            let path = directory.segment_path(name);
            let folder = path.parent().expect("a segment lies in a folder");
            if change.is_removed {
                fs::remove_file(&path)?;
            } else {
                let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
                if let Some(length) = change.length {
                    file.set_len(length)?;
                }
                change.patches.iter().try_for_each(|(at, bytes)| file.write_all_at(bytes, *at))?;
                file.sync_all()?;
            }
            sync_folder(folder)?;
        }
        Ok(())
    }

    fn copy(path: &Path, copies: &Path, name: &SegmentName) -> io::Result<()> {
        if !path.exists() {
            return Ok(()); // It will be a new one.
        }
        let folder = copies.join(SegmentName::folder(name.shard));
        make_folder(&folder)?;
        let copy = folder.join(name.file());
        fs::copy(path, &copy)?;
        File::open(&copy)?.sync_all()?;
        sync_folder(&folder)
    }

    fn make_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn sync_folder(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
