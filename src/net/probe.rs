//! What the start checks, to be asked one by one and ahead of it: for `willowmq doctor`.
//!
//! Nothing here changes anything but the limits of the process that asks.

use std::path::Path;
use std::time::SystemTime;

use super::bind;
use super::memory;
use super::startup::{self, StartError};
use super::transport;
use crate::config::{Config, Listener, MemoryLimit};

pub use super::startup::MEMLOCK_MIN;

/// Whether a kernel of this release, as `uname -r` says it, is new enough.
///
/// # Errors
/// [`StartError::KernelTooOld`]
pub fn kernel(release: &str) -> Result<(), StartError> {
    startup::check_kernel(release)
}

/// Creates a ring as the broker does, and lets it go again.
///
/// # Errors
/// Why there is none, as the start would say it.
pub fn ring() -> Result<(), StartError> {
    startup::check_ring()
}

/// How many connections there is room for where `nofile` descriptors may be open.
///
/// # Errors
/// [`StartError::NofileTooLow`], which says how many descriptors are needed.
pub fn connections(config: &Config, nofile: u64) -> Result<usize, StartError> {
    let (shards, listeners) = (shards(config)?.0, config.listeners.len());
    startup::room_for_connections(nofile, config.limits.connections_max, shards as u64, listeners as u64)
}

/// How many shards there would be, and on how many processors.
///
/// # Errors
/// [`StartError::System`]
pub fn shards(config: &Config) -> Result<(usize, usize), StartError> {
    let processors = startup::processors()?;
    Ok((startup::shards(config, &processors), processors.len()))
}

/// The memory that the settings allow, in bytes.
///
/// # Errors
/// [`StartError::MemoryLimitTooLow`]
pub fn memory_limit(config: &Config) -> Result<u64, StartError> {
    memory::limit(config.memory_limit, shards(config)?.0)
}

/// The memory that the machine has, or less where a control group of the process has less, in bytes.
pub fn memory_available() -> u64 {
    memory::limit(MemoryLimit::Percent(100), 0).unwrap_or(0)
}

/// Whether the place of `listener` can be listened at: it is taken for a moment, or, where it is a path, looked at.
///
/// # Errors
/// [`StartError::AddressInUse`] or [`StartError::Listen`]
pub fn place(listener: &Listener) -> Result<(), StartError> {
    bind::try_place(listener)
}

/// From when until when the first certificate in a file (PEM) is valid.
///
/// # Errors
/// What is wrong with the file.
pub fn validity(certificate: &Path) -> Result<(SystemTime, SystemTime), String> {
    transport::validity(certificate).map_err(|error| error.to_string())
}
