//! What can be wrong with a journal, told to whoever operates the broker.

use crate::journal::encoding::Malformed;
use crate::journal::segment::FORMAT_VERSION;
use std::fmt;
use std::io;

/// Why a journal cannot be used as it is.
#[derive(Debug)]
pub struct JournalError {
    /// The file; where one is missing, the one beside the gap.
    pub file: String,
    /// Where in the file.
    pub at: u64,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug)]
pub enum Problem {
    /// The system does not let us read.
    Unreadable(io::Error),
    /// Bytes are not what was written, although they had been confirmed to be on disk.
    Damaged {
        /// Log offset of the first byte that is in doubt.
        offset: u64,
        /// What shows it.
        evidence: Evidence,
    },
    /// A part of the log is not there.
    Missing {
        /// Log offset at which it begins.
        from: u64,
        /// Log offset at which the log goes on, where it does.
        to: Option<u64>,
    },
    /// The segment is of a version of the format that this program does not know.
    Version(u32),
    /// The segment belongs to another data directory.
    ForeignDirectory {
        /// The identity that it names.
        found: u64,
        /// That of this data directory.
        expected: u64,
    },
    /// The segment belongs to another shard, or somewhere else in the log: its file was renamed or moved.
    Misplaced {
        /// Where it belongs, as a path below the data directory.
        belongs: String,
    },
    /// A frame is as it was written, but does not hold records that this program knows.
    Record {
        /// Log offset of the record.
        offset: u64,
        /// What is wrong with it.
        malformed: Malformed,
    },
}

/// What shows damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The header of the segment does not check, although there is something behind it.
    Header,
    /// A frame at this later log offset says that all before it had been synced.
    LaterFrame(u64),
    /// A later segment starts at this log offset: all before it had been synced.
    LaterSegment(u64),
    /// Two segments overlap and do not hold the same frames.
    Overlap,
}

impl JournalError {
    pub(in crate::journal) fn unreadable(file: String, at: u64, error: io::Error) -> Self {
        Self { file, at, problem: Problem::Unreadable(error) }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, problem } = self;
        write!(f, "{file}, byte {at}: {problem}")
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            Problem::Record { malformed, .. } => Some(malformed),
            _ => None,
        }
    }
}

/// What is wrong, and what can be done about it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => {
                write!(f, "cannot be read: {error}; check the rights of the file and the health of the disk")
            }
            Self::Damaged { offset, evidence } => write!(
                f,
                "the journal is damaged at log offset {offset}: {evidence}. `willowmq journal check` shows the extent, \
                 `willowmq journal repair` what can be kept"
            ),
            Self::Missing { from, to: Some(to) } => write!(
                f,
                "the journal has a gap: a segment with log offsets {from} to {to} is missing. Put the file back, or see \
                 what `willowmq journal repair` can keep"
            ),
            Self::Missing { from, to: None } => write!(
                f,
                "the segment that starts at log offset {from} is missing, and whatever came after it. Put the file back, \
                 or see what `willowmq journal repair` can keep"
            ),
            Self::Version(version) => write!(
                f,
                "the journal has format version {version}; this program reads version {FORMAT_VERSION}. Start the \
                 version of willowmq that wrote it"
            ),
            Self::ForeignDirectory { found, expected } => write!(
                f,
                "the file belongs to another data directory ({found:016x}, this one is {expected:016x}). Move it away; \
                 `willowmq journal check` then tells whether anything is missing"
            ),
            Self::Misplaced { belongs } => {
                write!(f, "the file was renamed or moved: it belongs at {belongs}. Put it there, or move it away")
            }
            Self::Record { offset, malformed } => write!(
                f,
                "the frame checks, but at log offset {offset} {malformed}: it was written by another version of \
                 willowmq. Start that one, or see what `willowmq journal repair` can keep"
            ),
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header of the segment does not check"),
            Self::LaterFrame(at) => write!(f, "the frame at {at} says that everything before it was on disk"),
            Self::LaterSegment(at) => write!(f, "the next segment starts at {at}, so everything before was on disk"),
            Self::Overlap => f.write_str("an older segment does not hold the same frames there"),
        }
    }
}
