//! What `willowmq journal` does: `check`, `dump` and `repair`.
//!
//! All of it works on any [`Files`]; only the last step of a repair, in which files are changed, needs a directory.

mod check;
mod dump;
mod repair;
#[cfg(test)]
mod tests;

pub use check::{Verdict, check};
pub use dump::{DumpOptions, dump};
#[cfg(feature = "server")]
pub use repair::repair;
pub use repair::{Plan, plan};

use super::recovery::reader::SegmentReader;
use super::recovery::scan::read_header;
use super::recovery::{Files, JournalError};
use super::segment::{SegmentHeader, SegmentName};

/// The segments of a shard whose headers can be used, in the order in which they were begun, and what is wrong with the others.
fn readable_segments(files: &dyn Files, shard: u8) -> Result<(Vec<SegmentHeader>, Vec<BadSegment>), JournalError> {
    let names = files.segments(shard);
    let mut names = names.map_err(|error| JournalError::unreadable(SegmentName::folder(shard), 0, error))?;
    names.sort_unstable_by_key(SegmentName::order);
    let (mut headers, mut bad) = (Vec::new(), Vec::new());
    for name in names {
        let header =
            SegmentReader::open(files, name).and_then(|mut reader| read_header(&mut reader, name, files.identity()));
        match header {
            Ok(header) => headers.extend(header),
            Err(error) => bad.push(BadSegment { name, error }),
        }
    }
    Ok((headers, bad))
}

/// A segment that cannot be used as it is.
struct BadSegment {
    name: SegmentName,
    error: JournalError,
}
