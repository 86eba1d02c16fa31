//! What the shell of one shard counts; the state machine has its own [`Stats`](crate::shard::Stats).

/// Counters since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Connections handed to another shard.
    pub(crate) handed_over: u64,
    /// Connections turned away because there were too many.
    pub(crate) turned_away: u64,
    /// Connections turned away for want of file descriptors.
    pub(crate) shed: u64,
    /// Connections whose first packet was not a CONNECT that can be understood.
    pub(crate) bad_first_packets: u64,
    /// Connections without a complete CONNECT in time.
    pub(crate) connect_timeouts: u64,
    /// Connections whose output made no progress in time.
    pub(crate) write_timeouts: u64,
    /// Receives that found no free buffer and were armed again.
    pub(crate) buffer_shortages: u64,
}

impl Counters {
    /// Adds the counters of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.handed_over += other.handed_over;
        self.turned_away += other.turned_away;
        self.shed += other.shed;
        self.bad_first_packets += other.bad_first_packets;
        self.connect_timeouts += other.connect_timeouts;
        self.write_timeouts += other.write_timeouts;
        self.buffer_shortages += other.buffer_shortages;
    }
}
