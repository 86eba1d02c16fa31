//! The files that a log is cut into, and what stands at both ends of one.
//!
//! A log is a sequence of bytes, addressed by a *log offset* that never goes back. Each shard's log is cut into *segments*,
//! one file each; a frame lies in one segment wholly. A segment begins with a header of 64 bytes, so log offset `o` lies
//! at `64 + (o - start)` of its file, whatever else the log has been through:
//!
//! | at | bytes | what (numbers are little-endian) |
//! | ---: | ---: | --- |
//! | 0 | 8 | `WILLOWMQ` |
//! | 8 | 4 | version of the format: 1 |
//! | 12 | 4 | shard |
//! | 16 | 8 | identity of the data directory |
//! | 24 | 8 | start: log offset of its first frame |
//! | 32 | 8 | sequence of its first frame |
//! | 40 | 4 | epoch |
//! | 44 | 16 | zero |
//! | 60 | 4 | CRC-32C of the 60 bytes before |
//!
//! The header is synced before anything is written behind it. So a header that does not check is a file whose creation was
//! interrupted if all behind it is zero, and damage otherwise.
//!
//! # Epochs
//!
//! A segment is *left in order* when everything in it is synced, the next segment is on disk, and then a seal is written
//! behind its last frame. The next segment has the same epoch then. At each start of the broker, and after each write or
//! sync that failed, the log goes on in a new segment of a higher epoch, which begins with the frames that the one before
//! may hold but that are not synced for certain. So segments may overlap. Where they do they hold the same frames, each as
//! far as it goes; no frame is ever replaced by another one while it can be read.
//!
//! To read the log, take the segments in the order of [`SegmentName::order`], and of each the good frames from its start up
//! to the first that is not. Each must start at or before the end of what the ones before it have told, where a frame begins
//! or ends; otherwise something is missing. For every frame the newest segment that holds it counts. The log ends where the
//! farthest of them does: a new segment may not have got as far as the one that it replaces.
//!
//! Everything before the start of any segment is synced, and everything before the `durable` of any good frame. The greatest
//! of these is where the next process begins its first segment, by writing again what follows; see [`super::log::Log::new`].
//!
//! # Seals
//!
//! A seal stands where the header of a frame would, is as long, and takes no log offsets:
//!
//! | at | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 4 | `FF FF FF FF`: no frame is that long |
//! | 4 | 8 | `SEALED` and two zeros |
//! | 12 | 8 | log offset at which it stands: a segment that starts there must exist |
//! | 20 | 8 | sequence of the first frame there |
//! | 28 | 4 | CRC-32C of the 28 bytes before |
//!
//! That segment may be of a later epoch. A seal counts only right behind the last good frame.

use super::frame::{FRAME_HEADER, Position};
use std::fmt;

/// Bytes of a segment's header.
pub const SEGMENT_HEADER: usize = 64;
/// Bytes of a seal.
pub const SEAL: usize = 32;
/// Version of the format described here; another one is not read.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"WILLOWMQ";
const SEAL_MAGIC: &[u8; 12] = b"\xFF\xFF\xFF\xFFSEALED\0\0";
const HEADER_CHECKED: usize = SEGMENT_HEADER - 4;
const SEAL_CHECKED: usize = SEAL - 4;
const FOLDER_PREFIX: &str = "shard-";
const FILE_SUFFIX: &str = ".wal";

const _: () = assert!(SEAL == FRAME_HEADER, "a reader takes either with one read");

/// Names one segment, and thereby its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentName {
    /// Index of the shard.
    pub shard: u8,
    /// Log offset of the first frame.
    pub start: u64,
    /// Which epoch it belongs to.
    pub epoch: u32,
}

impl SegmentName {
    /// Sorts the segments of one shard in the order in which they were begun.
    pub const fn order(&self) -> (u32, u64) {
        (self.epoch, self.start)
    }

    /// Where the byte with this log offset lies in the file.
    ///
    /// # Panics
    ///
    /// When `offset` lies before the segment.
    pub const fn file_offset(&self, offset: u64) -> u64 {
        assert!(offset >= self.start, "an offset lies in its segment");
        SEGMENT_HEADER as u64 + (offset - self.start)
    }

    /// The folder that holds the segments of a shard: `shard-003`.
    pub fn folder(shard: u8) -> String {
        format!("{FOLDER_PREFIX}{shard:03}")
    }

    /// Name of the file in that folder: `00000000000012345678-0000000002.wal`, start and epoch in decimal.
    pub fn file(&self) -> String {
        format!("{:020}-{:010}{FILE_SUFFIX}", self.start, self.epoch)
    }

    /// The shard whose folder has this name.
    pub fn parse_folder(folder: &str) -> Option<u8> {
        let shard = folder.strip_prefix(FOLDER_PREFIX)?.parse().ok()?;
        (Self::folder(shard) == folder).then_some(shard)
    }

    /// The segment of `shard` whose file has this name; `None` for the name of anything else.
    pub fn parse_file(shard: u8, file: &str) -> Option<Self> {
        let (start, epoch) = file.strip_suffix(FILE_SUFFIX)?.split_once('-')?;
        let name = Self { shard, start: start.parse().ok()?, epoch: epoch.parse().ok()? };
        (name.file() == file).then_some(name)
    }
}

/// The path below the data directory.
impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Self::folder(self.shard), self.file())
    }
}

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its name; a file that was renamed shows.
    pub name: SegmentName,
    /// Identity of the data directory; a file from elsewhere shows.
    pub directory: u64,
    /// Sequence of the first frame.
    pub sequence: u64,
}

/// Why the header of a segment cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHeader {
    /// It is all zero: it was never written.
    Missing,
    /// It is not that of a segment, or does not check.
    Damaged,
    /// It checks, but is of another version of the format.
    Version(u32),
}

impl SegmentHeader {
    /// The bytes at the front of the file.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.name.shard).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.directory.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.name.start.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.name.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_CHECKED]);
        bytes[HEADER_CHECKED..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What these bytes say.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, BadHeader> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(BadHeader::Missing);
        }
        if bytes[..8] != *MAGIC || u32_at(bytes, HEADER_CHECKED) != crc32c::crc32c(&bytes[..HEADER_CHECKED]) {
            return Err(BadHeader::Damaged);
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            other => return Err(BadHeader::Version(other)),
        }
        let shard = u8::try_from(u32_at(bytes, 12)).map_err(|_| BadHeader::Damaged)?;
        let name = SegmentName { shard, start: u64_at(bytes, 24), epoch: u32_at(bytes, 40) };
        Ok(Self { name, directory: u64_at(bytes, 16), sequence: u64_at(bytes, 32) })
    }
}

/// The seal of a segment that ends at `end`, where the next one starts.
pub fn encode_seal(end: Position) -> [u8; SEAL] {
    let mut bytes = [0; SEAL];
    bytes[..12].copy_from_slice(SEAL_MAGIC);
    bytes[12..20].copy_from_slice(&end.offset.to_le_bytes());
    bytes[20..28].copy_from_slice(&end.sequence.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..SEAL_CHECKED]);
    bytes[SEAL_CHECKED..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Where the next segment starts, if these bytes are a seal. It is valid only where it stands at that very offset.
pub fn decode_seal(bytes: &[u8; SEAL]) -> Option<Position> {
    let is_sound = bytes[..12] == *SEAL_MAGIC && u32_at(bytes, SEAL_CHECKED) == crc32c::crc32c(&bytes[..SEAL_CHECKED]);
    is_sound.then(|| Position { offset: u64_at(bytes, 12), sequence: u64_at(bytes, 20) })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: SegmentName = SegmentName { shard: 3, start: 12_345_678, epoch: 2 };

    #[test]
    fn a_file_name_tells_the_segment() {
        assert_eq!(NAME.to_string(), "shard-003/00000000000012345678-0000000002.wal");
        assert_eq!(SegmentName::parse_file(3, &NAME.file()), Some(NAME));
        assert_eq!(SegmentName::parse_folder("shard-003"), Some(3));
        let last = SegmentName { shard: 255, start: u64::MAX, epoch: u32::MAX };
        assert_eq!(SegmentName::parse_file(255, &last.file()), Some(last));
    }

    #[test]
    fn other_files_are_no_segments() {
        for file in ["", ".wal", "-.wal", "1-2.wal", "+0000000000012345678-0000000002.wal", "meta.toml"] {
            assert_eq!(SegmentName::parse_file(3, file), None, "{file}");
        }
        for folder in ["", "shard-", "shard-3", "shard-256", "shard-0003", "lost+found"] {
            assert_eq!(SegmentName::parse_folder(folder), None, "{folder}");
        }
    }

    #[test]
    fn a_header_survives_and_every_flipped_bit_shows() {
        let header = SegmentHeader { name: NAME, directory: 0xFEED, sequence: 77 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..SEGMENT_HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Err(BadHeader::Damaged), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&[0; SEGMENT_HEADER]), Err(BadHeader::Missing));
    }

    #[test]
    fn another_version_is_not_mistaken_for_damage() {
        let mut bytes = SegmentHeader { name: NAME, directory: 1, sequence: 0 }.encode();
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..HEADER_CHECKED]);
        bytes[HEADER_CHECKED..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Version(9)));
    }

    #[test]
    fn a_seal_survives_and_every_flipped_bit_shows() {
        let end = Position { offset: 99, sequence: 7 };
        let bytes = encode_seal(end);
        assert_eq!(decode_seal(&bytes), Some(end));
        for bit in 0..SEAL * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_seal(&flipped), None, "bit {bit}");
        }
        assert_eq!(decode_seal(&[0; SEAL]), None);
    }
}
