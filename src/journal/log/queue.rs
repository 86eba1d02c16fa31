//! What is to be written, cut into batches.

use crate::journal::frame::{Position, headers};
use std::collections::VecDeque;

/// Bytes that one write holds at most, unless a single frame is longer. Large enough for any disk to run at full speed, small
/// enough that what is left empty at the end of a segment does not matter.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// Frames that are written together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The frames, back to back.
    pub(super) bytes: Vec<u8>,
    /// Where the first of them begins.
    pub(super) start: Position,
    /// Where the next batch begins.
    pub(super) end: Position,
}

/// Batches in their order; none longer than the limit, except if it is a single frame.
#[derive(Debug)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    batch_bytes_max: usize,
    end: Position,
}

impl Queue {
    pub(super) fn new(position: Position, batch_bytes_max: u64) -> Self {
        let batch_bytes_max = batch_bytes_max.min(BATCH_BYTES_MAX) as usize;
        Self { batches: VecDeque::new(), batch_bytes_max, end: position }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Where the first batch begins.
    pub(super) fn start(&self) -> Position {
        self.front().map_or(self.end, |batch| batch.start)
    }

    /// The end of all that was ever appended.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    pub(super) fn front(&self) -> Option<&Batch> {
        self.batches.front()
    }

    pub(super) fn pop_front(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    /// Puts back what was taken.
    pub(super) fn push_front(&mut self, batch: Batch) {
        debug_assert_eq!(batch.end, self.start());
        self.batches.push_front(batch);
    }

    /// Appends frames, and gives their buffer back where it was copied from. They are copied only if there is a batch that has
    /// room for them, or if they are too many for one.
    pub(super) fn append(&mut self, frames: Vec<u8>) -> Option<Vec<u8>> {
        let start = self.end;
        let is_single = self.follow(&frames) <= 1;
        if frames.is_empty() {
            None
        } else if frames.len() > self.batch_bytes_max && !is_single {
            self.copy_each(&frames, start);
            Some(frames)
        } else if self.has_room_for(frames.len()) {
            self.copy(&frames, self.end);
            Some(frames)
        } else {
            self.batches.push_back(Batch { bytes: frames, start, end: self.end });
            None
        }
    }

    /// Moves the end behind `frames`, and counts them.
    fn follow(&mut self, frames: &[u8]) -> usize {
        let mut count = 0;
        for header in headers(frames, self.end.offset) {
            assert_eq!(header.sequence, self.end.sequence, "frames are appended in their order");
            self.end.offset += header.frame_bytes();
            self.end.sequence += 1;
            count += 1;
        }
        count
    }

    fn copy_each(&mut self, frames: &[u8], mut start: Position) {
        let mut rest = frames;
        for header in headers(frames, start.offset) {
            let (frame, behind) = rest.split_at(header.frame_bytes() as usize);
            let end = Position { offset: start.offset + header.frame_bytes(), sequence: start.sequence + 1 };
            if !self.has_room_for(frame.len()) {
                let bytes = Vec::with_capacity(frame.len().max(rest.len().min(self.batch_bytes_max)));
                self.batches.push_back(Batch { bytes, start, end: start });
            }
            self.copy(frame, end);
            (start, rest) = (end, behind);
        }
    }

    fn has_room_for(&self, frames_bytes: usize) -> bool {
        self.batches.back().is_some_and(|batch| batch.bytes.len() + frames_bytes <= self.batch_bytes_max)
    }

    fn copy(&mut self, frames: &[u8], end: Position) {
        let batch = self.batches.back_mut().expect("a batch that has room");
        batch.bytes.extend_from_slice(frames);
        batch.end = end;
    }
}
