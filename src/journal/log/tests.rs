//! One story each; `tests/journal_properties.rs` draws them at random.

use super::*;
use crate::journal::Appender;
use crate::journal::frame::{FRAME_HEADER, FrameHeader};
use crate::journal::record::Record;
use crate::journal::segment::decode_seal;

/// A frame made by [`Story::append`].
const FRAME: u64 = 132;
/// A segment with room for four of them and a seal, but not for five.
const SEGMENT: u64 = (SEGMENT_HEADER + SEAL) as u64 + 4 * FRAME + FRAME / 2;

const RETRY: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(100);

/// A log with a shard that appends to it and a clock.
struct Story {
    log: Log,
    appender: Appender,
    now: Moment,
}

impl Story {
    fn new(mode: Mode) -> Self {
        Self::restarted(mode, Position::default(), Vec::new())
    }

    fn restarted(mode: Mode, position: Position, existing: Vec<Existing>) -> Self {
        let options =
            Options { mode, segment_bytes: SEGMENT, sync_interval: INTERVAL, retry: RETRY, ..Options::default() };
        Self { log: Log::new(options, position, existing), appender: Appender::new(position), now: Moment::ZERO }
    }

    /// Appends a frame of [`FRAME`] bytes.
    fn append(&mut self) {
        self.append_bytes(FRAME as usize);
    }

    fn append_bytes(&mut self, frame_bytes: usize) {
        let overhead = if frame_bytes < FRAME_HEADER + 130 { 2 } else { 3 };
        let topic = "t".repeat(frame_bytes - FRAME_HEADER - overhead);
        self.appender.append(&Record::RetainedRemoved(&topic));
        self.appender.end_turn();
        let frames = self.appender.take();
        assert_eq!(frames.len(), frame_bytes);
        self.log.append(frames);
    }

    fn next(&mut self) -> Option<Command> {
        self.log.next_command(self.now)
    }

    fn created(&mut self) -> SegmentName {
        let Some(Command::Create { segment, header, .. }) = self.next() else { panic!("creates") };
        let header = SegmentHeader::decode(header.as_slice().try_into().expect("a header")).expect("checks");
        assert_eq!(header.name, segment);
        self.log.on_completed(self.now, Completed::Created(Ok(())));
        segment
    }

    /// The command that is next has to write; it succeeds, and we are told where it wrote what.
    fn written(&mut self) -> (SegmentName, u64, Vec<u8>, bool) {
        let Some(Command::Write { segment, at, bytes, sync }) = self.next() else { panic!("writes") };
        self.log.on_completed(self.now, Completed::Written(Ok(()), bytes.clone()));
        (segment, at, bytes, sync)
    }

    fn write_fails(&mut self) {
        let Some(Command::Write { bytes, .. }) = self.next() else { panic!("writes") };
        self.log.on_completed(self.now, Completed::Written(Err(full()), bytes));
    }

    fn synced(&mut self, result: Result<(), Failure>) {
        let Some(Command::Sync { .. }) = self.next() else { panic!("syncs") };
        self.log.on_completed(self.now, Completed::Synced(result));
    }

    fn removed(&mut self) -> SegmentName {
        let Some(Command::Remove { segment }) = self.next() else { panic!("removes") };
        self.log.on_completed(self.now, Completed::Removed(Ok(())));
        segment
    }

    /// Appends so many frames, each of them written by itself.
    fn fill(&mut self, frames: usize) {
        for _ in 0..frames {
            self.append();
            while let Some(command) = self.next() {
                self.log.on_completed(self.now, succeeded(command));
            }
        }
    }
}

fn succeeded(command: Command) -> Completed {
    match command {
        Command::Create { .. } => Completed::Created(Ok(())),
        Command::Write { bytes, .. } => Completed::Written(Ok(()), bytes),
        Command::Sync { .. } => Completed::Synced(Ok(())),
        Command::Remove { .. } => Completed::Removed(Ok(())),
    }
}

fn full() -> Failure {
    Failure { what: "write: no space left on device".into(), is_full: true }
}

fn name(start: u64, epoch: u32) -> SegmentName {
    SegmentName { shard: 0, start, epoch }
}

/// What the first frame of a batch that lies at `offset` says is durable.
fn stamped(bytes: &[u8], offset: u64) -> u64 {
    let header = bytes.first_chunk().expect("a header");
    FrameHeader::decode(header, offset).expect("checks").durable
}

#[test]
fn what_is_appended_during_a_write_is_the_next_batch() {
    let mut story = Story::new(Mode::Sync);
    assert_eq!(story.next(), None);
    story.append();
    assert_eq!(story.created(), name(0, 0));
    let Some(Command::Write { bytes, at, sync: true, .. }) = story.next() else { panic!("writes") };
    assert_eq!((bytes.len() as u64, at), (FRAME, 64));
    story.append();
    story.append();
    assert_eq!(story.next(), None);
    assert_eq!((story.log.durable(), story.log.backlog() as u64), (0, 3 * FRAME));
    story.log.on_completed(story.now, Completed::Written(Ok(()), bytes));
    assert_eq!((story.log.durable(), story.log.backlog() as u64), (FRAME, 2 * FRAME));
    let (segment, at, bytes, sync) = story.written();
    assert_eq!((segment, at, bytes.len() as u64, sync), (name(0, 0), 64 + FRAME, 2 * FRAME, true));
    assert_eq!(stamped(&bytes, FRAME), FRAME);
    assert!(story.log.is_idle());
    assert_eq!((story.log.durable(), story.log.backlog()), (3 * FRAME, 0));
    assert_eq!(story.log.bytes_on_disk(), 64 + 3 * FRAME);
}

#[test]
fn a_full_segment_is_sealed_once_the_next_one_is_there() {
    let mut story = Story::new(Mode::Sync);
    story.fill(4);
    story.append();
    assert_eq!(story.created(), name(4 * FRAME, 0));
    let (segment, at, bytes, sync) = story.written();
    assert_eq!((segment, at, sync), (name(0, 0), 64 + 4 * FRAME, true));
    assert_eq!(
        decode_seal(bytes.as_slice().try_into().expect("a seal")),
        Some(Position { offset: 4 * FRAME, sequence: 4 })
    );
    assert!(at + SEAL as u64 <= SEGMENT);
    let (segment, at, ..) = story.written();
    assert_eq!((segment, at), (name(4 * FRAME, 0), 64));
    assert_eq!(story.log.locate(4 * FRAME - 1), Some((name(0, 0), 63 + 4 * FRAME)));
    assert_eq!(story.log.locate(4 * FRAME), Some((name(4 * FRAME, 0), 64)));
    assert_eq!(story.log.locate(5 * FRAME), None);
}

#[test]
fn a_frame_longer_than_a_segment_has_one_for_itself() {
    let mut story = Story::new(Mode::Sync);
    story.append();
    story.append_bytes(2000);
    story.append();
    story.created();
    story.written();
    let Some(Command::Create { segment, preallocate, .. }) = story.next() else { panic!("creates") };
    assert_eq!((segment, preallocate), (name(FRAME, 0), 64 + 2000 + SEAL as u64));
    story.log.on_completed(story.now, Completed::Created(Ok(())));
    story.written();
    assert_eq!(story.written().2.len(), 2000);
    assert_eq!(story.created(), name(FRAME + 2000, 0));
}

#[test]
fn frames_that_come_together_are_cut_where_segments_are() {
    let mut story = Story::new(Mode::Sync);
    for _ in 0..9 {
        story.appender.append(&Record::RetainedRemoved(&"t".repeat(FRAME as usize - FRAME_HEADER - 2)));
        story.appender.end_turn();
    }
    story.log.append(story.appender.take());
    assert_eq!(story.log.backlog() as u64, 9 * FRAME);
    story.created();
    assert_eq!(story.written().2.len() as u64, 4 * FRAME);
    story.created();
    story.written();
    assert_eq!(story.written().2.len() as u64, 4 * FRAME);
    story.created();
    story.written();
    assert_eq!(story.written().2.len() as u64, FRAME);
    assert!(story.log.is_idle());
}

#[test]
fn after_a_failed_write_all_that_is_not_durable_goes_to_a_new_segment() {
    let mut story = Story::new(Mode::Sync);
    story.fill(1);
    story.append();
    story.write_fails();
    story.append();
    assert_eq!(story.log.failure(), Some(&full()));
    assert_eq!((story.log.durable(), story.log.backlog() as u64), (FRAME, 2 * FRAME));
    assert_eq!((story.next(), story.log.next_deadline()), (None, Some(story.now + RETRY)));
    assert!(!story.log.is_idle());
    story.now += RETRY;
    assert_eq!(story.created(), name(FRAME, 1));
    assert!(story.log.failure().is_some(), "nothing has been stored yet");
    let (segment, at, bytes, _) = story.written();
    assert_eq!((segment, at, bytes.len() as u64), (name(FRAME, 1), 64, 2 * FRAME));
    assert_eq!(story.log.failure(), None);
    assert_eq!(story.log.locate(FRAME), Some((name(FRAME, 1), 64)));
    assert_eq!(story.next(), None, "the first segment holds the first frame");
}

#[test]
fn a_disk_that_stays_full_collects_no_files() {
    let mut story = Story::new(Mode::Sync);
    story.fill(1);
    story.append();
    story.write_fails();
    let mut files = vec![name(0, 0)];
    for _ in 0..20 {
        story.now += RETRY;
        while let Some(command) = story.next() {
            let completed = match command {
                Command::Create { segment, .. } => {
                    files.push(segment);
                    let is_refused = segment.epoch % 3 == 0;
                    Completed::Created(if is_refused { Err(full()) } else { Ok(()) })
                }
                Command::Write { bytes, .. } => Completed::Written(Err(full()), bytes),
                Command::Remove { segment } => {
                    files.retain(|file| *file != segment);
                    Completed::Removed(Ok(()))
                }
                Command::Sync { .. } => panic!("there is nothing to sync"),
            };
            story.log.on_completed(story.now, completed);
        }
        assert!(files.len() <= 2, "{files:?}");
    }
    story.now += RETRY;
    while let Some(command) = story.next() {
        story.log.on_completed(story.now, succeeded(command));
    }
    assert_eq!((story.log.failure(), story.log.durable(), story.log.is_idle()), (None, 2 * FRAME, true));
    assert_eq!(story.log.bytes_on_disk(), 2 * (64 + FRAME));
}

#[test]
fn a_failed_seal_is_a_failure_like_any_other() {
    let mut story = Story::new(Mode::Sync);
    story.fill(4);
    story.append();
    story.created();
    story.write_fails();
    story.now += RETRY;
    assert_eq!(story.created(), name(4 * FRAME, 1));
    story.written();
    assert_eq!(story.log.durable(), 5 * FRAME);
    assert_eq!(story.removed(), name(4 * FRAME, 0));
    assert_eq!(story.next(), None);
}

#[test]
fn relaxed_frames_are_durable_when_written_and_synced_by_the_clock() {
    let mut story = Story::new(Mode::Relaxed);
    story.append();
    story.created();
    assert!(!story.written().3, "without a sync");
    assert_eq!((story.log.durable(), story.log.synced(), story.log.backlog()), (FRAME, 0, 0));
    assert!(!story.log.is_idle());
    story.now += INTERVAL / 2;
    story.append();
    assert_eq!(stamped(&story.written().2, FRAME), 0);
    assert_eq!(story.log.next_deadline(), Some(Moment::ZERO + INTERVAL));
    assert_eq!(story.next(), None);
    story.now = Moment::ZERO + INTERVAL;
    story.append();
    story.synced(Ok(()));
    assert_eq!(story.log.synced(), 2 * FRAME);
    assert_eq!(stamped(&story.written().2, 2 * FRAME), 2 * FRAME);
}

#[test]
fn a_relaxed_segment_is_synced_before_the_next_one_is_begun() {
    let mut story = Story::new(Mode::Relaxed);
    story.fill(4);
    story.append();
    story.synced(Ok(()));
    assert_eq!(story.created(), name(4 * FRAME, 0));
    assert!(story.written().3, "the seal is synced");
    assert!(!story.written().3);
}

#[test]
fn after_a_failed_sync_the_new_segment_holds_every_frame_that_was_not_synced() {
    let mut story = Story::new(Mode::Relaxed);
    story.fill(1);
    story.now += INTERVAL;
    story.synced(Ok(()));
    story.fill(2);
    story.now += INTERVAL;
    story.synced(Err(full()));
    assert_eq!((story.log.durable(), story.log.backlog()), (3 * FRAME, 0));
    assert_eq!(story.log.locate(2 * FRAME), Some((name(0, 0), 64 + 2 * FRAME)), "still the best place to look");
    story.append();
    story.now += RETRY;
    assert_eq!(story.created(), name(FRAME, 1));
    let (.., bytes, sync) = story.written();
    assert_eq!((bytes.len() as u64, sync), (FRAME, true));
    assert_eq!((story.log.failure(), story.log.durable(), story.log.synced()), (None, 3 * FRAME, 2 * FRAME));
    assert_eq!(story.log.locate(FRAME), Some((name(FRAME, 1), 64)));
    assert_eq!(story.log.locate(2 * FRAME), Some((name(0, 0), 64 + 2 * FRAME)));
    story.written();
    story.now += INTERVAL;
    story.synced(Ok(()));
    assert_eq!(story.log.locate(2 * FRAME), Some((name(FRAME, 1), 64 + FRAME)));
    assert_eq!(story.log.bytes_on_disk(), 2 * 64 + 4 * FRAME);
}

#[test]
fn a_checkpoint_removes_only_segments_wholly_before_it() {
    let mut story = Story::new(Mode::Sync);
    story.fill(11);
    story.log.drop_before(8 * FRAME - 1);
    assert_eq!(story.removed(), name(0, 0));
    assert_eq!(story.next(), None);
    assert_eq!(story.log.locate(0), None);
    story.log.drop_before(8 * FRAME);
    assert_eq!(story.removed(), name(4 * FRAME, 0));
    story.log.drop_before(20 * FRAME);
    assert_eq!(story.next(), None, "the newest segment stays");
    assert_eq!(story.log.bytes_on_disk(), 64 + 3 * FRAME);
}

#[test]
fn a_checkpoint_that_is_not_synced_removes_nothing_yet() {
    let mut story = Story::new(Mode::Relaxed);
    story.fill(5);
    story.log.drop_before(4 * FRAME);
    assert_eq!(story.next(), None);
    story.now += INTERVAL;
    story.synced(Ok(()));
    assert_eq!(story.removed(), name(0, 0));
}

#[test]
fn a_failed_removal_is_tried_again_and_is_no_failure_of_the_log() {
    let mut story = Story::new(Mode::Sync);
    story.fill(5);
    story.log.drop_before(4 * FRAME);
    assert!(matches!(story.next(), Some(Command::Remove { .. })));
    story.log.on_completed(story.now, Completed::Removed(Err(full())));
    assert_eq!(story.log.failure(), None);
    assert_eq!(story.next(), None);
    assert_eq!(story.log.next_deadline(), Some(story.now + RETRY));
    story.now += RETRY;
    assert_eq!(story.removed(), name(0, 0));
    assert_eq!(story.log.next_deadline(), None);
}

#[test]
fn removals_take_their_turn_although_there_is_always_something_to_write() {
    let mut story = Story::new(Mode::Sync);
    story.fill(5);
    story.log.drop_before(4 * FRAME);
    let mut commands = 0;
    loop {
        story.append();
        let command = story.next().expect("there is something to write");
        if matches!(command, Command::Remove { .. }) {
            break;
        }
        story.log.on_completed(story.now, succeeded(command));
        commands += 1;
        assert!(commands < 3 * WRITES_PER_REMOVAL);
    }
}

#[test]
fn a_restart_begins_a_segment_and_never_touches_an_old_one() {
    let end = Position { offset: 3 * FRAME, sequence: 3 };
    let existing = vec![Existing { name: name(0, 4), end: end.offset }];
    let mut story = Story::restarted(Mode::Sync, end, existing);
    assert_eq!((story.log.durable(), story.log.is_idle(), story.next()), (end.offset, true, None));
    assert_eq!(story.log.locate(FRAME), Some((name(0, 4), 64 + FRAME)));
    story.append();
    assert_eq!(story.created(), name(end.offset, 5));
    assert_eq!(stamped(&story.written().2, end.offset), end.offset);
}

#[test]
fn a_restart_removes_what_is_overruled_but_keeps_what_a_seal_names() {
    let end = Position { offset: 4 * FRAME, sequence: 4 };
    let empty = |start, epoch| Existing { name: name(start, epoch), end: start };
    let first = Existing { name: name(0, 1), end: end.offset };
    let existing = vec![empty(0, 0), first, empty(end.offset, 1)];
    let mut story = Story::restarted(Mode::Sync, end, existing);
    assert_eq!(story.removed(), name(0, 0));
    assert_eq!(story.next(), None, "the empty one is named by the seal of the first");
    story.append();
    story.created();
    story.written();
    assert_eq!(story.removed(), name(end.offset, 1));
}

#[test]
fn buffers_come_back_to_be_used_again() {
    let mut story = Story::new(Mode::Sync);
    assert_eq!(story.log.take_spare(), None);
    story.fill(1);
    assert!(story.log.take_spare().is_some_and(|spare| spare.is_empty() && spare.capacity() > 0));
}

#[test]
#[should_panic(expected = "frames are sound")]
fn frames_that_leave_a_gap_are_not_accepted() {
    let mut story = Story::new(Mode::Sync);
    story.appender = Appender::new(Position { offset: 1, sequence: 0 });
    story.append();
}
