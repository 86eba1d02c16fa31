//! The second reading of a journal: its records, one after the other, from the last complete checkpoint on.

use super::reader::{Found, SegmentReader};
use super::scan::{Part, behind};
use super::state::State;
use super::{Files, JournalError, Limits, Problem, Progress, Recovered, Resolution, Scan, load};
use crate::journal::encoding::decode;
use crate::journal::frame::{Extent, FRAME_HEADER, Position};
use crate::journal::record::Record;

/// Reads the records of a scanned journal and answers what they add up to.
pub fn replay(
    files: &dyn Files,
    scan: &Scan,
    resolution: &Resolution,
    limits: Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<Recovered, JournalError> {
    let mut replayer = Replayer { scan, resolution, state: State::default(), is_describing: false, records: 0 };
    let begin = scan.checkpoint.map_or_else(Position::default, |checkpoint| checkpoint.begin);
    each_frame(files, &scan.parts, begin, &mut |place, payload| {
        replayer.frame(place.at, payload).map_err(|(offset, malformed)| JournalError {
            file: place.path(),
            at: place.part.name.file_offset(offset),
            problem: Problem::Record { offset, malformed },
        })?;
        let bytes_total = scan.position.offset - begin.offset;
        let bytes_done = place.at.offset + (FRAME_HEADER + payload.len()) as u64 - begin.offset;
        progress(Progress { bytes_done, bytes_total, records: replayer.records });
        Ok(())
    })?;
    let Replayer { state, records, .. } = replayer;
    let recovered = load::load(files, scan, state, limits)?;
    Ok(Recovered {
        records,
        transactions: resolution.highest_of(scan.shard),
        voids: resolution.voids().to_vec(),
        completes: resolution.highest().collect(),
        ..recovered
    })
}

/// Where a frame lies.
pub(super) struct Place<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) part: &'a Part,
    pub(super) at: Position,
}

impl Place<'_> {
    pub(super) fn path(&self) -> String {
        self.files.path(&self.part.name)
    }
}

/// What is done with each frame.
pub(super) type Handle<'a> = dyn FnMut(Place<'_>, &[u8]) -> Result<(), JournalError> + 'a;

/// Hands over the frames of a scanned log from `begin` on.
pub(super) fn each_frame(
    files: &dyn Files,
    parts: &[Part],
    begin: Position,
    handle: &mut Handle<'_>,
) -> Result<(), JournalError> {
    for part in parts.iter().filter(|part| part.end.offset > begin.offset) {
        let mut reader = SegmentReader::open(files, part.name)?;
        let mut at = if part.start.offset < begin.offset { begin } else { part.start };
        while at.offset < part.end.offset {
            let Found::Frame(frame, payload) = reader.frame(at)? else {
                let changed = std::io::Error::other("the file is not what it was a moment ago");
                return Err(JournalError::unreadable(
                    files.path(&part.name),
                    part.name.file_offset(at.offset),
                    changed,
                ));
            };
            let next = behind(at, &frame);
            handle(Place { files, part, at }, payload)?;
            at = next;
        }
    }
    Ok(())
}

struct Replayer<'a> {
    scan: &'a Scan,
    resolution: &'a Resolution,
    state: State,
    /// Between the beginning and the end of the checkpoint from which the reading begins.
    is_describing: bool,
    records: u64,
}

/// A record that is none, and its log offset.
type BadRecord = (u64, crate::journal::encoding::Malformed);

impl Replayer<'_> {
    /// Applies the records of a frame.
    fn frame(&mut self, at: Position, payload: &[u8]) -> Result<(), BadRecord> {
        let mut counts = true;
        let mut done = 0;
        while done < payload.len() {
            let offset = at.offset + (FRAME_HEADER + done) as u64;
            let (record, length) = decode(&payload[done..]).map_err(|malformed| (offset, malformed))?;
            let extent = Extent { offset, length: length as u32 };
            done += length;
            self.records += 1;
            match record {
                Record::Under(transaction) => counts = !self.resolution.is_void(transaction),
                Record::Unconditional => counts = true,
                Record::CheckpointBegin => self.begin_checkpoint(at),
                Record::CheckpointEnd => self.is_describing = false,
                // A checkpoint that was never completed does not tell again all that this would void.
                Record::SessionReset(_) if !self.is_describing => self.state.see(&record),
                Record::Session(header) if counts && header.closed.is_some() && !self.is_describing => {
                    self.state.close(&header);
                }
                record if counts => self.state.apply(&record, extent).map_err(|malformed| (offset, malformed))?,
                record => self.state.see(&record),
            }
        }
        // What a checkpoint has told so far may refer again to a message that nothing refers to now.
        if !self.is_describing {
            self.state.end_frame();
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self, at: Position) {
        if self.scan.checkpoint.is_some_and(|checkpoint| checkpoint.begin == at) {
            self.state.forget(); // What stands before it in the same frame.
            self.is_describing = true;
        }
    }
}
