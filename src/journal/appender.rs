//! Collects the records of a shard into frames.

use super::encoding::encode;
use super::frame::{Extent, FRAME_HEADER, FRAME_TARGET, Flags, FrameHeader, PAYLOAD_MAX, Position};
use super::record::Record;

/// A buffer with more room than this is not kept for later: it was for a burst.
const SPARE_BYTES_MAX: usize = 4 * FRAME_TARGET;

/// The end of a log where a shard appends.
///
/// It holds sealed frames, back to back, and behind them perhaps the open one. Nothing leaves before it is sealed.
#[derive(Debug)]
pub struct Appender {
    is_enabled: bool,
    /// Log offset of the buffer's first byte.
    base: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are sealed; what follows is the open frame, beginning with room for its header.
    sealed: usize,
    /// Of the next frame to be sealed.
    sequence: u64,
    flags: Flags,
    /// An empty buffer, so that the next turn need not grow one.
    spare: Vec<u8>,
}

impl Appender {
    /// For a shard without a journal: what is appended goes nowhere.
    pub fn disabled() -> Self {
        Self { is_enabled: false, ..Self::new(Position::default()) }
    }

    /// Goes on from `position`, where a log ends.
    pub fn new(position: Position) -> Self {
        Self {
            is_enabled: true,
            base: position.offset,
            buffer: Vec::new(),
            sealed: 0,
            sequence: position.sequence,
            flags: Flags::NONE,
            spare: Vec::new(),
        }
    }

    /// Whether there is a journal.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Appends a record to the current step, and tells where in the log it lies.
    #[inline]
    pub fn append(&mut self, record: &Record<'_>) -> Extent {
        if !self.is_enabled {
            return Extent::default();
        }
        if !self.is_open() {
            self.buffer.resize(self.sealed + FRAME_HEADER, 0);
        }
        let start = self.buffer.len();
        encode(record, &mut self.buffer);
        self.flags.insert(Flags::of(record));
        Extent { offset: self.base + start as u64, length: (self.buffer.len() - start) as u32 }
    }

    /// An atomic step is over: the next one may go to another frame.
    #[inline]
    pub fn end_step(&mut self) {
        if self.buffer.len() - self.sealed >= FRAME_HEADER + FRAME_TARGET {
            self.seal();
        }
    }

    /// A turn is over. Answers the log offset behind all that was appended: what was promised holds once that is durable.
    pub fn end_turn(&mut self) -> u64 {
        if self.is_open() {
            self.seal();
        }
        self.offset()
    }

    /// The log offset behind all that was appended, the open frame included.
    pub fn offset(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// Whether [`Appender::take`] has something to give.
    pub fn has_sealed(&self) -> bool {
        self.sealed > 0
    }

    /// Takes the sealed frames, back to back, for the log; empty if there are none.
    pub fn take(&mut self) -> Vec<u8> {
        if self.sealed == 0 {
            return Vec::new();
        }
        let mut next = std::mem::take(&mut self.spare);
        next.extend_from_slice(&self.buffer[self.sealed..]);
        self.buffer.truncate(self.sealed);
        self.base += self.sealed as u64;
        self.sealed = 0;
        std::mem::replace(&mut self.buffer, next)
    }

    /// Takes a buffer back that the log does not need any more.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.capacity() < buffer.capacity() && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare = buffer;
        }
    }

    fn is_open(&self) -> bool {
        self.buffer.len() > self.sealed
    }

    /// Completes the open frame.
    ///
    /// # Panics
    ///
    /// When one step has written more than [`PAYLOAD_MAX`].
    fn seal(&mut self) {
        let (header, payload) = self.buffer[self.sealed..].split_at_mut(FRAME_HEADER);
        assert!(payload.len() <= PAYLOAD_MAX, "a step writes at most {PAYLOAD_MAX} bytes");
        let frame = FrameHeader {
            length: payload.len() as u32,
            payload_crc: crc32c::crc32c(payload),
            sequence: self.sequence,
            durable: 0, // The log fills this in when it writes the frame.
            flags: self.flags,
        };
        header.copy_from_slice(&frame.encode(self.base + self.sealed as u64));
        self.sealed = self.buffer.len();
        self.sequence += 1;
        self.flags = Flags::NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::decode;
    use super::super::frame::{Head, headers};
    use super::super::record::{SessionNumber, Transaction};
    use super::*;

    const START: Position = Position { offset: 1000, sequence: 7 };

    fn ended(number: u64) -> Record<'static> {
        Record::SessionEnded(SessionNumber(number))
    }

    fn long_topic() -> String {
        "t".repeat(FRAME_TARGET)
    }

    #[test]
    fn a_turn_is_one_frame_and_its_records_lie_where_the_extents_say() {
        let mut appender = Appender::new(START);
        let extents = [1, 300, 70_000].map(|number| {
            let extent = appender.append(&ended(number));
            appender.end_step();
            (number, extent)
        });
        assert!(!appender.has_sealed());
        assert!(appender.take().is_empty());
        let end = appender.end_turn();
        let frames = appender.take();
        assert_eq!(end, START.offset + frames.len() as u64);
        let Head::Frame(header) = Head::decode(frames.first_chunk().expect("a header"), START.offset) else {
            panic!("a frame")
        };
        assert_eq!(header.sequence, START.sequence);
        assert!(header.checks(&frames[FRAME_HEADER..]));
        for (number, extent) in extents {
            let bytes = &frames[(extent.offset - START.offset) as usize..][..extent.length as usize];
            assert_eq!(decode(bytes), Ok((ended(number), bytes.len())));
        }
    }

    #[test]
    fn a_turn_without_records_writes_nothing() {
        let mut appender = Appender::new(START);
        assert_eq!(appender.end_turn(), START.offset);
        assert!(!appender.has_sealed());
        assert!(appender.take().is_empty());
    }

    #[test]
    fn a_long_turn_is_cut_between_steps_only() {
        let mut appender = Appender::new(START);
        let topic = long_topic();
        appender.append(&Record::RetainedRemoved(&topic));
        appender.append(&ended(1));
        appender.end_step();
        appender.append(&ended(2));
        appender.end_step();
        assert!(appender.has_sealed());
        let first = appender.take();
        assert_eq!(headers(&first, START.offset).count(), 1);
        let extent = appender.append(&ended(3));
        let end = appender.end_turn();
        let second = appender.take();
        assert_eq!(
            headers(&second, START.offset + first.len() as u64).map(|header| header.sequence).collect::<Vec<_>>(),
            [START.sequence + 1]
        );
        assert_eq!(end, START.offset + (first.len() + second.len()) as u64);
        assert_eq!(extent.end(), end);
    }

    #[test]
    fn flags_tell_what_one_frame_holds_and_not_the_next() {
        let mut appender = Appender::new(START);
        appender.append(&Record::Complete(Transaction { shard: 0, number: 1 }));
        appender.append(&ended(1));
        appender.end_turn();
        appender.append(&Record::CheckpointBegin);
        appender.end_turn();
        appender.append(&ended(2));
        appender.end_turn();
        let flags: Vec<_> = headers(&appender.take(), START.offset).map(|header| header.flags).collect();
        assert_eq!(flags, [Flags::TRANSACTIONS, Flags::CHECKPOINT, Flags::NONE]);
    }

    #[test]
    fn a_disabled_appender_does_nothing() {
        let mut appender = Appender::disabled();
        assert_eq!(appender.append(&ended(1)), Extent::default());
        appender.end_step();
        assert_eq!((appender.end_turn(), appender.offset()), (0, 0));
        assert!(!appender.is_enabled() && !appender.has_sealed());
    }

    #[test]
    fn a_recycled_buffer_is_used_for_the_next_turn_but_one() {
        let mut appender = Appender::new(START);
        appender.append(&ended(1));
        appender.end_turn();
        let buffer = appender.take();
        let address = buffer.as_ptr();
        appender.recycle(buffer);
        appender.append(&ended(2));
        appender.end_turn();
        appender.take();
        appender.append(&ended(3));
        appender.end_turn();
        let again = appender.take();
        assert_eq!(again.as_ptr(), address);
    }
}
