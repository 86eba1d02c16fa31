//! The same shards behind a wire: bytes arrive in pieces and stay under way, connections are handed from the shard that accepts
//! them to their home, clients are slow to read, and every client watches that what it is told is what the standard allows.
//!
//! Stories are told on one, two and five shards, in several orders of events.

pub(crate) mod client;
pub(crate) mod history;
pub(crate) mod message;
pub(crate) mod network;
mod stories;
pub(crate) mod story;
mod workload;
