#![doc = include_str!("../docs/ARCHITECTURE.md")]

pub mod codec;
pub mod config;
pub mod figures;
pub mod journal;
pub mod security;
pub mod session;
pub mod shard;
pub mod timer;
pub mod topic;

#[cfg(feature = "server")]
pub(crate) mod admin;
#[cfg(feature = "server")]
pub mod net;
