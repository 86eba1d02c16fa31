//! What happened, and when: for those who check it, and for whoever reads about a failure.

use std::collections::VecDeque;
use willowmq::codec;
use willowmq::timer::Moment;

/// What happened to a Network Connection at the broker, for those who check it.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Bytes written by the client.
    pub(crate) bytes_written: u64,
    /// Bytes that reached the shard.
    pub(crate) bytes_arrived: u64,
    /// The home has seen the CONNECT.
    pub(crate) opened: Option<At>,
    /// The home has seen the end of the connection, or has ended it.
    pub(crate) closed: Option<At>,
    pub(crate) was_closed_by_broker: bool,
    /// When the newest whole packet reached the shard.
    pub(crate) last_packet: Moment,
    /// The bytes behind it.
    partial: Vec<u8>,
    /// When the client saw each packet of its inbox.
    pub(crate) seen: Vec<At>,
}

impl History {
    pub(crate) fn on_arrival(&mut self, now: Moment, bytes: &[u8]) {
        self.bytes_arrived += bytes.len() as u64;
        self.partial.extend_from_slice(bytes);
        while let Ok(Some(length)) = codec::packet_length(&self.partial, codec::PACKET_BYTES_MAX)
            && length <= self.partial.len()
        {
            self.partial.drain(..length);
            self.last_packet = now;
        }
    }
}

/// A moment, and a place in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Turns so far.
    pub(crate) step: u64,
    /// Tells apart what happened in one turn.
    pub(crate) event: u64,
    pub(crate) moment: Moment,
}

/// The last things that happened, and a digest of all.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trace {
    pub(crate) digest: u64,
    pub(crate) recent: VecDeque<String>,
}

impl Trace {
    const RECENT_MAX: usize = 60000;

    pub(crate) fn note(&mut self, line: String) {
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.recent.len() == Self::RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }
}
