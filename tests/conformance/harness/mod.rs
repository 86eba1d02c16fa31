//! What the tests stand on: the real broker as a process, and a client that shares no code with it.

pub(crate) mod broker;
#[path = "../../clients/certificates.rs"]
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod parse;
pub(crate) mod passwords;
pub(crate) mod property;
pub(crate) mod transport;
pub(crate) mod wire;

pub(crate) use broker::Broker;
pub(crate) use client::Client;
pub(crate) use parse::Packet;
pub(crate) use wire::{Connect, Publish, Will};

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a test waits for what must come: long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test waits to see that something stays away, where no marker can prove it.
pub(crate) const A_MOMENT: Duration = Duration::from_millis(200);

/// A name that no other test of this run uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
