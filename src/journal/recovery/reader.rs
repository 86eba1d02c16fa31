//! Reads segments: forward in large pieces, frame by frame.

use super::{Files, JournalError};
use crate::journal::frame::{FRAME_HEADER, FrameHeader, Head, Position};
use crate::journal::segment::{SEGMENT_HEADER, SegmentName};

/// What is read at a time; a frame that is longer is read as a whole.
const PIECE: usize = 1 << 20;
/// A piece of what was allocated and never written. Comparing is faster than looking at each byte.
static ZEROS: [u8; PIECE] = [0; PIECE];
/// Bytes of a header before those that are zero in every frame.
const BEFORE_ZEROS: usize = 25;

/// One segment's file, and the piece of it that is in memory.
pub(in crate::journal) struct SegmentReader<'a> {
    files: &'a dyn Files,
    name: SegmentName,
    length: u64,
    piece: Vec<u8>,
    piece_at: u64,
}

/// What stands at a place of the log.
pub(in crate::journal) enum Found<'a> {
    /// A whole frame that belongs there.
    Frame(FrameHeader, &'a [u8]),
    /// The segment was left in order.
    Seal,
    /// Neither: the data end here, or are damaged.
    Nothing,
}

/// What there is behind the last frame that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::journal) struct Remains {
    /// How many bytes, up to the last that is not zero.
    pub(in crate::journal) bytes: u64,
    /// Log offset of a header that says that all before itself, or a part beyond the beginning of the remains, was synced.
    pub(in crate::journal) witness: Option<u64>,
}

impl<'a> SegmentReader<'a> {
    pub(in crate::journal) fn open(files: &'a dyn Files, name: SegmentName) -> Result<Self, JournalError> {
        let length = files.length(&name).map_err(|error| JournalError::unreadable(files.path(&name), 0, error))?;
        Ok(Self { files, name, length, piece: Vec::new(), piece_at: 0 })
    }

    pub(in crate::journal) fn path(&self) -> String {
        self.files.path(&self.name)
    }

    /// Bytes of the file.
    pub(in crate::journal) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes at `at` of the file; `None` if it ends before `length` of them.
    pub(in crate::journal) fn bytes(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, JournalError> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        if at < self.piece_at || at + length as u64 > self.piece_at + self.piece.len() as u64 {
            let read = self.files.read(&self.name, at, length.max(PIECE));
            self.piece = read.map_err(|error| JournalError::unreadable(self.path(), at, error))?;
            self.piece_at = at;
        }
        let start = (at - self.piece_at) as usize;
        Ok(self.piece.get(start..start + length))
    }

    /// What stands at `at`, where a frame with this sequence is expected.
    pub(in crate::journal) fn frame(&mut self, at: Position) -> Result<Found<'_>, JournalError> {
        let file_at = self.name.file_offset(at.offset);
        let Some(head) = self.bytes(file_at, FRAME_HEADER)?.and_then(<[u8]>::first_chunk) else {
            return Ok(Found::Nothing);
        };
        let header = match Head::decode(head, at.offset) {
            Head::Frame(header) if header.sequence == at.sequence => header,
            Head::Seal(end) if end == at => return Ok(Found::Seal),
            _ => return Ok(Found::Nothing),
        };
        if at.offset.checked_add(header.frame_bytes()).is_none() {
            return Ok(Found::Nothing);
        }
        let payload = self.bytes(file_at + FRAME_HEADER as u64, header.length as usize)?;
        Ok(match payload.filter(|payload| header.checks(payload)) {
            Some(payload) => Found::Frame(header, payload),
            None => Found::Nothing,
        })
    }

    /// The first whole frame behind `from`, where no frame was found, and before log offset `to` or the end of the file. So many
    /// frames are missing as would fit in between.
    pub(in crate::journal) fn next_frame(
        &mut self,
        from: Position,
        to: Option<u64>,
    ) -> Result<Option<Position>, JournalError> {
        let start = self.name.file_offset(from.offset);
        let end = to.map_or(self.length, |to| self.name.file_offset(to).min(self.length));
        let mut at = start + 1;
        while at < end {
            let length = (end - at).min(PIECE as u64) as usize;
            let log_at = from.offset.wrapping_add(at - start);
            let Some(piece) = self.bytes(at, length)? else { break };
            let mut found = None;
            find_header(piece, log_at, |log_at, header| {
                let position = Position { offset: log_at, sequence: header.sequence };
                found = would_fit(from, position).then_some(position);
                found.is_some()
            });
            match found {
                Some(position) if matches!(self.frame(position)?, Found::Frame(..)) => return Ok(found),
                Some(position) => at = start + (position.offset - from.offset) + 1,
                None if length > FRAME_HEADER => at += (length - FRAME_HEADER) as u64,
                None => break,
            }
        }
        Ok(None)
    }

    /// What there is from log offset `from` on, where no frame was found, up to log offset `to` or the end of the file.
    ///
    /// A witness is a header that says that more than `end_of_log` was synced. The search looks at every byte: a header's checksum covers
    /// its place, so nothing is taken for one by chance.
    pub(in crate::journal) fn remains(
        &mut self,
        from: u64,
        to: Option<u64>,
        end_of_log: u64,
    ) -> Result<Remains, JournalError> {
        let start = self.name.file_offset(from);
        let end = to.map_or(self.length, |to| self.name.file_offset(to.max(from)).min(self.length));
        let mut remains = Remains::default();
        let mut at = start;
        while at < end {
            // The last bytes of a piece are looked at again with the next, as a header may span both.
            let length = (end - at).min(PIECE as u64) as usize;
            let log_at = from.wrapping_add(at - start);
            let Some(piece) = self.bytes(at, length)? else { break };
            if *piece != ZEROS[..length]
                && let Some(last) = piece.iter().rposition(|byte| *byte != 0)
            {
                remains.bytes = (at - start) + last as u64 + 1;
                let is_witness = |_, header: &FrameHeader| header.durable > end_of_log;
                remains.witness = remains.witness.or_else(|| find_header(piece, log_at, is_witness));
            }
            at += if length > FRAME_HEADER { (length - FRAME_HEADER) as u64 } else { length as u64 };
        }
        Ok(remains)
    }
}

/// Whether frames from one position up to another can be as many as their sequences say: at least one, none without records.
pub(in crate::journal) fn would_fit(from: Position, to: Position) -> bool {
    let frames = to.sequence.checked_sub(from.sequence).filter(|frames| *frames > 0);
    let bytes = to.offset.saturating_sub(from.offset);
    frames.is_some_and(|frames| frames <= bytes / (FRAME_HEADER as u64 + 1))
}

/// Log offset of the first header that will do in `piece`, which lies at log offset `at`.
fn find_header(piece: &[u8], at: u64, mut will_do: impl FnMut(u64, &FrameHeader) -> bool) -> Option<u64> {
    let last = piece.len().checked_sub(FRAME_HEADER)?;
    let mut index = 0;
    while index <= last {
        let head: &[u8; FRAME_HEADER] = piece[index..].first_chunk().expect("a whole header is left");
        if *head == [0; FRAME_HEADER] {
            index += FRAME_HEADER - 3; // The length is not zero, so one of the first four bytes is not.
            continue;
        }
        let log_at = at.wrapping_add(index as u64);
        if head[BEFORE_ZEROS..BEFORE_ZEROS + 3] == [0; 3]
            && FrameHeader::decode(head, log_at).is_some_and(|header| will_do(log_at, &header))
        {
            return Some(log_at);
        }
        index += 1;
    }
    None
}

/// Whether all of a file behind the header of the segment is zero.
pub(in crate::journal) fn is_blank(reader: &mut SegmentReader<'_>) -> Result<bool, JournalError> {
    let mut at = SEGMENT_HEADER as u64;
    while at < reader.length() {
        let length = (reader.length() - at).min(PIECE as u64) as usize;
        match reader.bytes(at, length)? {
            Some(piece) if *piece != ZEROS[..length] => return Ok(false),
            Some(_) => at += length as u64,
            None => break,
        }
    }
    Ok(true)
}
