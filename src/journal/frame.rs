//! Frames: what is written to a log, is whole or void, and is checked.
//!
//! A frame holds the records of one or more atomic steps of a shard, one after the other, behind a header of 32 bytes:
//!
//! | at | bytes | what (numbers are little-endian) |
//! | ---: | ---: | --- |
//! | 0 | 4 | length of the payload, at least 1 |
//! | 4 | 4 | CRC-32C of the payload |
//! | 8 | 8 | sequence: counts the frames of a log, across segments and restarts |
//! | 16 | 8 | durable: every byte of the log before this offset was synced when the frame was written |
//! | 24 | 1 | flags: see [`Flags`] |
//! | 25 | 3 | zero |
//! | 28 | 4 | CRC-32C of the 28 bytes before and of the log offset of the frame (8 bytes that are not stored) |
//! | 32 | | payload: records as in [`super::encoding`] |
//!
//! Files are allocated in advance, so zeros where a header should be are the end of the data. A [seal](super::segment) may
//! stand there instead. The next frame follows without a gap.
//!
//! The header's CRC covers the offset, so a frame that was written in the wrong place, or remains from an earlier use of the
//! storage, is not taken for one. It has a CRC apart from the payload's because the two are known at different times: the
//! shard writes the payload, and `durable` is known only when the log writes the frame, perhaps for the second time.
//!
//! # A bad frame
//!
//! Writes that were not synced reach the disk in any order. So after a power cut a frame may be good although one before it
//! is not, and both are void: the log ends at the first frame that is good in no segment. But if any good frame, be it behind
//! the bad one, says with `durable` that the log was synced beyond its end, then the disk has lost what it had confirmed,
//! and that is damage.

use super::record::Record;
use super::segment::{decode_seal, u32_at, u64_at};

/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 32;
/// A frame is closed at the end of the atomic step with which its payload reaches this.
pub const FRAME_TARGET: usize = 256 * 1024;
/// The longest payload: one atomic step writes less.
pub const PAYLOAD_MAX: usize = 1 << 30;

const CHECKED: usize = FRAME_HEADER - 4;

/// A point between two frames: where a log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Log offset of the next frame.
    pub offset: u64,
    /// Its sequence.
    pub sequence: u64,
}

/// Where in a log the bytes of one record lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Extent {
    /// Log offset of its first byte.
    pub offset: u64,
    /// Number of its bytes.
    pub length: u32,
}

impl Extent {
    /// The log offset behind its last byte.
    pub const fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// What kinds of records a frame holds, so that a reader can skip those that it does not look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// None of the records that have a flag.
    pub const NONE: Self = Self(0);
    /// `Begun`, `Part`, `Complete`, `Void` or `Under`.
    pub const TRANSACTIONS: Self = Self(1);
    /// `CheckpointBegin` or `CheckpointEnd`.
    pub const CHECKPOINT: Self = Self(2);
    const ALL: u8 = 3;

    /// Flags of a frame that holds this record alone.
    pub const fn of(record: &Record<'_>) -> Self {
        match record {
            Record::Begun { .. } | Record::Part { .. } | Record::Complete(_) | Record::Void(_) | Record::Under(_) => {
                Self::TRANSACTIONS
            }
            Record::CheckpointBegin | Record::CheckpointEnd => Self::CHECKPOINT,
            _ => Self::NONE,
        }
    }

    /// Whether any of `other` is among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds those of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Sequence of the frame.
    pub sequence: u64,
    /// Everything before this log offset was synced when the frame was written.
    pub durable: u64,
    /// What it holds.
    pub flags: Flags,
}

/// What stands where a frame may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Zeros: the data end here.
    End,
    /// The header of a frame; whether its payload is whole, [`FrameHeader::checks`] tells.
    Frame(FrameHeader),
    /// The segment was left in order, and the next one starts here with a frame of this sequence.
    Seal(Position),
    /// Nothing that was written here.
    Bad,
}

impl Head {
    /// What these bytes at log offset `offset` are.
    pub fn decode(bytes: &[u8; FRAME_HEADER], offset: u64) -> Self {
        if let Some(header) = FrameHeader::decode(bytes, offset) {
            return Self::Frame(header);
        }
        match decode_seal(bytes) {
            Some(end) if end.offset == offset => Self::Seal(end),
            _ if bytes.iter().all(|byte| *byte == 0) => Self::End,
            _ => Self::Bad,
        }
    }
}

impl FrameHeader {
    /// The header's bytes when the frame stands at log offset `offset`.
    pub fn encode(&self, offset: u64) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_le_bytes());
        bytes[24] = self.flags.0;
        let crc = header_crc(&bytes, offset);
        bytes[CHECKED..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header that these bytes at log offset `offset` are; `None` if they do not check.
    pub fn decode(bytes: &[u8; FRAME_HEADER], offset: u64) -> Option<Self> {
        let header = Self::read(bytes);
        let is_possible = header.length > 0 && header.length as usize <= PAYLOAD_MAX && header.flags.0 <= Flags::ALL;
        let is_sound = is_possible && bytes[25..28] == [0; 3] && u32_at(bytes, CHECKED) == header_crc(bytes, offset);
        is_sound.then_some(header)
    }

    /// Bytes of the frame with its header.
    pub const fn frame_bytes(&self) -> u64 {
        FRAME_HEADER as u64 + self.length as u64
    }

    /// Whether this is the payload, and whole.
    pub fn checks(&self, payload: &[u8]) -> bool {
        payload.len() == self.length as usize && crc32c::crc32c(payload) == self.payload_crc
    }

    fn read(bytes: &[u8; FRAME_HEADER]) -> Self {
        Self {
            length: u32_at(bytes, 0),
            payload_crc: u32_at(bytes, 4),
            sequence: u64_at(bytes, 8),
            durable: u64_at(bytes, 16),
            flags: Flags(bytes[24]),
        }
    }
}

fn header_crc(bytes: &[u8; FRAME_HEADER], offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKED]), &offset.to_le_bytes())
}

/// The headers of frames that lie back to back in memory, the first of them at log offset `offset`.
///
/// # Panics
///
/// When they are no whole frames for that place: they come from this process.
pub(super) fn headers(frames: &[u8], mut offset: u64) -> impl Iterator<Item = FrameHeader> {
    let mut rest = frames;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let header = rest.first_chunk().and_then(|bytes| FrameHeader::decode(bytes, offset));
        let header = header.expect("frames are sound as long as they are in memory");
        offset += header.frame_bytes();
        rest = &rest[header.frame_bytes() as usize..];
        Some(header)
    })
}

/// Notes in each of these frames, which are about to be written at log offset `offset`, what is durable now.
pub(super) fn stamp(frames: &mut [u8], mut offset: u64, durable: u64) {
    let mut rest = frames;
    while let Some(bytes) = rest.first_chunk_mut() {
        let header = FrameHeader { durable, ..FrameHeader::read(bytes) };
        *bytes = header.encode(offset);
        offset += header.frame_bytes();
        rest = &mut rest[header.frame_bytes() as usize..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FrameHeader =
        FrameHeader { length: 3, payload_crc: 0, sequence: 8, durable: 5, flags: Flags::TRANSACTIONS };

    fn frame(payload: &[u8], offset: u64) -> Vec<u8> {
        let header = FrameHeader { length: payload.len() as u32, payload_crc: crc32c::crc32c(payload), ..HEADER };
        [&header.encode(offset)[..], payload].concat()
    }

    /// The frame at the front of `bytes`, if it is whole.
    fn read(bytes: &[u8], offset: u64) -> Option<(FrameHeader, &[u8])> {
        let header = FrameHeader::decode(bytes.first_chunk()?, offset)?;
        let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + header.length as usize)?;
        header.checks(payload).then_some((header, payload))
    }

    #[test]
    fn every_flipped_bit_of_a_frame_shows() {
        let bytes = frame(b"willow", 1000);
        assert_eq!(read(&bytes, 1000).map(|(_, payload)| payload), Some(&b"willow"[..]));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped, 1000), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_in_another_place_is_none() {
        let bytes = frame(b"willow", 1000);
        assert_eq!(read(&bytes, 1001), None);
    }

    #[test]
    fn zeros_are_the_end_and_a_seal_counts_only_at_its_own_offset() {
        let end = Position { offset: 40, sequence: 2 };
        let seal = super::super::segment::encode_seal(end);
        assert_eq!(Head::decode(&[0; FRAME_HEADER], 40), Head::End);
        assert_eq!(Head::decode(&seal, 40), Head::Seal(end));
        assert_eq!(Head::decode(&seal, 41), Head::Bad);
        assert_eq!(Head::decode(&[1; FRAME_HEADER], 40), Head::Bad);
        assert_eq!(Head::decode(&HEADER.encode(40), 40), Head::Frame(HEADER));
    }

    #[test]
    fn a_stamp_changes_nothing_but_what_is_durable() {
        let mut bytes = [frame(b"one", 0), frame(b"three", 35)].concat();
        stamp(&mut bytes, 100, 99);
        let (first, payload) = read(&bytes, 100).expect("a frame");
        assert_eq!((first.durable, first.sequence, first.flags, payload), (99, 8, Flags::TRANSACTIONS, &b"one"[..]));
        let (second, payload) = read(&bytes[35..], 135).expect("another frame");
        assert_eq!((second.durable, payload), (99, &b"three"[..]));
        assert_eq!(headers(&bytes, 100).map(|header| header.length).collect::<Vec<_>>(), [3, 5]);
    }
}
