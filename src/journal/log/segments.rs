//! Which segments there are, and which of them are not needed any more.

use crate::journal::segment::{SEGMENT_HEADER, SegmentName};
use crate::timer::Moment;
use std::collections::VecDeque;

/// A segment that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// Its name.
    pub name: SegmentName,
    /// Log offset behind its last good frame, even if a later segment holds that too; where it starts, if there is none.
    pub end: u64,
}

impl Existing {
    /// Whether it holds no frame.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.name.start
    }

    const fn bytes(&self) -> u64 {
        SEGMENT_HEADER as u64 + self.end.saturating_sub(self.name.start)
    }
}

/// The segments of a log.
#[derive(Debug)]
pub(super) struct Segments {
    /// In the order in which they were begun. After a failure some overlap until what they hold has been written again.
    kept: VecDeque<Existing>,
    /// Whether some may overlap.
    is_settled: bool,
    /// Everything before this is not needed.
    dropped: u64,
    /// To be removed, in this order: if the power fails halfway, no gap is left.
    doomed: VecDeque<Existing>,
    /// When the first of them is to be tried again.
    removal_due: Option<Moment>,
    bytes: u64,
}

impl Segments {
    pub(super) fn new(existing: Vec<Existing>) -> Self {
        Self {
            bytes: existing.iter().map(Existing::bytes).sum(),
            kept: existing.into(),
            is_settled: false,
            dropped: 0,
            doomed: VecDeque::new(),
            removal_due: None,
        }
    }

    /// The one that was begun last.
    pub(super) fn newest(&self) -> Existing {
        *self.kept.back().expect("a segment was begun")
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many files there are.
    pub(super) fn count(&self) -> usize {
        self.kept.len() + self.doomed.len()
    }

    /// A segment has been created.
    pub(super) fn begin(&mut self, name: SegmentName) {
        self.is_settled = false;
        self.kept.push_back(Existing { name, end: name.start });
        self.bytes += SEGMENT_HEADER as u64;
    }

    /// The newest segment has been written up to `end`.
    pub(super) fn extend(&mut self, end: u64) {
        let newest = self.kept.back_mut().expect("a segment was begun");
        self.bytes += end - newest.end;
        newest.end = end;
    }

    /// A segment has not been created, but may be there.
    pub(super) fn discard(&mut self, name: SegmentName) {
        let unborn = Existing { name, end: name.start };
        self.bytes += unborn.bytes();
        self.doomed.push_back(unborn);
    }

    /// The newest segment that holds the byte at `offset`.
    pub(super) fn locate(&self, offset: u64) -> Option<(SegmentName, u64)> {
        let holds = |segment: &&Existing| segment.name.start <= offset && offset < segment.end;
        let segment = self.kept.iter().rev().find(holds)?;
        Some((segment.name, segment.name.file_offset(offset)))
    }

    /// Finds the segments of which nothing is needed, given that everything before `synced` is on disk.
    pub(super) fn settle(&mut self, synced: u64, dropped: Option<u64>) {
        self.dropped = self.dropped.max(dropped.unwrap_or(0));
        if !self.is_settled {
            self.is_settled = self.overrule(synced);
        }
        while self.kept.len() > 1 && self.kept[0].end <= self.dropped {
            self.doomed.extend(self.kept.pop_front());
        }
    }

    /// Cuts each segment where a later one starts, if that one and those after it hold all that is cut off. Answers whether
    /// none is left that overlaps.
    fn overrule(&mut self, synced: u64) -> bool {
        let mut later_start = u64::MAX;
        let mut is_settled = true;
        for index in (0..self.kept.len()).rev() {
            let segment = &mut self.kept[index];
            let start = segment.name.start;
            let is_needed = segment.end > synced;
            is_settled &= !is_needed || segment.end <= later_start;
            if !is_needed && later_start <= start {
                self.doomed.extend(self.kept.remove(index));
            } else if !is_needed && later_start < segment.end {
                self.bytes -= segment.end - later_start;
                segment.end = later_start;
            }
            later_start = later_start.min(start);
        }
        is_settled
    }

    /// The next segment to be removed; [`Segments::on_removed`] must follow.
    pub(super) fn next_removal(&self, now: Moment) -> Option<SegmentName> {
        let is_due = self.removal_due.is_none_or(|due| due <= now);
        self.doomed.front().filter(|_| is_due).map(|segment| segment.name)
    }

    /// When a removal is to be tried again.
    pub(super) fn removal_due(&self) -> Option<Moment> {
        self.removal_due
    }

    /// It is removed, or to be tried again at that time.
    pub(super) fn on_removed(&mut self, result: Result<(), Moment>) {
        match result {
            Ok(()) => {
                let removed = self.doomed.pop_front().expect("a removal was commanded");
                self.bytes -= removed.bytes();
                self.removal_due = None;
            }
            Err(due) => self.removal_due = Some(due),
        }
    }
}
