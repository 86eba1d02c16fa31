//! Reading journals when the broker starts.
//!
//! A journal is read twice. [`scan`] checks all of it, cuts off what a power cut has left incomplete, and notes where the last
//! complete checkpoint begins and what is said of transactions. When all journals have been scanned, [`resolve`] tells
//! which transactions took effect everywhere. [`replay`] then reads each journal from that checkpoint on and applies its records.
//! Scans and replays of different shards may run in different threads.
//!
//! **Invariant**: what was promised is either recovered or there is an error; nothing is left out silently.

mod distribute;
mod error;
mod load;
pub(super) mod reader;
mod recovered;
mod replay;
pub(super) mod scan;
mod state;
#[cfg(test)]
pub(super) mod tests;
mod transactions;

pub use distribute::{agree, distribute};
pub use error::{Evidence, JournalError, Problem};
pub use load::message_of;
pub use recovered::{OwnedSession, Recovered, RecoveredDelivery, RecoveredSession, RecoveredWill, StoredMessage};
pub use replay::replay;
pub use scan::{Checkpoint, Part, Scan, scan};
pub use transactions::{Resolution, resolve};

use super::segment::SegmentName;
use std::io;

/// The files of all journals, as recovery needs them. Calls block.
pub trait Files {
    /// Identity of the data directory; segments name it.
    fn identity(&self) -> u64;

    /// The segments of a shard, in any order.
    fn segments(&self, shard: u8) -> io::Result<Vec<SegmentName>>;

    /// Bytes of a segment's file.
    fn length(&self, segment: &SegmentName) -> io::Result<u64>;

    /// The `length` bytes at `at` of a segment's file; less where it ends before, none behind its end.
    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>>;

    /// How the file of a segment is called when an error is told.
    fn path(&self, segment: &SegmentName) -> String {
        segment.to_string()
    }
}

/// How far a scan or a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes of the shard's files that have been dealt with.
    pub bytes_done: u64,
    /// Bytes of all of them.
    pub bytes_total: u64,
    /// Records read so far; a scan counts none.
    pub records: u64,
}

/// How much a recovery may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of queued messages to keep in memory; the others are told by where they lie. Retained messages and wills are in memory in any case.
    pub memory_budget: u64,
}

/// Recovers the journals of shards `0..shards`, one after the other.
pub fn recover(
    files: &dyn Files,
    shards: u8,
    limits: Limits,
    progress: &mut dyn FnMut(u8, Progress),
) -> Result<Vec<Recovered>, JournalError> {
    let scans = (0..shards).map(|shard| scan(files, shard, &mut |so_far| progress(shard, so_far)));
    let scans = scans.collect::<Result<Vec<_>, _>>()?;
    let resolution = resolve(&scans.iter().collect::<Vec<_>>());
    let limits = Limits { memory_budget: limits.memory_budget / u64::from(shards.max(1)) };
    let recovered =
        scans.iter().map(|scan| replay(files, scan, &resolution, limits, &mut |so_far| progress(scan.shard, so_far)));
    let mut recovered = recovered.collect::<Result<Vec<_>, _>>()?;
    agree(&mut recovered);
    Ok(recovered)
}
