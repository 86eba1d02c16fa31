//! The journal: what a shard writes down so that it outlives the process, and how it is read again.
//!
//! **Invariant**: a record that was promised to a client is durable before the promise leaves.

pub mod appender;
#[cfg(feature = "server")]
pub mod directory;
pub mod encoding;
pub mod facts;
pub mod frame;
pub mod log;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod tool;

pub use appender::Appender;
#[cfg(feature = "server")]
pub use directory::Directory;
pub use frame::{Extent, Position};
pub use log::Log;
pub use recovery::{JournalError, Recovered};
pub use segment::SegmentName;
