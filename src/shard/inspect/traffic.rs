//! What has passed on one Network Connection.

/// Packets, messages and bytes of one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionTraffic {
    /// Packets received, CONNECT not counted.
    pub packets_in: u64,
    /// PUBLISH packets received.
    pub messages_in: u64,
    /// Bytes of the packets received.
    pub bytes_in: u64,
    /// Packets sent, or about to be.
    pub packets_out: u64,
    /// PUBLISH packets sent, or about to be.
    pub messages_out: u64,
    /// Bytes handed over to be sent.
    pub bytes_out: u64,
}

impl ConnectionTraffic {
    /// What a connection has counted, with the bytes that its output has.
    pub(super) fn of(passed: Passed, bytes_out: u64) -> Self {
        let Passed { packets_in, messages_in, bytes_in, packets_out, messages_out } = passed;
        Self { packets_in, messages_in, bytes_in, packets_out, messages_out, bytes_out }
    }
}

/// What a connection counts as it goes. Its output counts the bytes that leave.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::shard) struct Passed {
    packets_in: u64,
    messages_in: u64,
    bytes_in: u64,
    packets_out: u64,
    messages_out: u64,
}

impl Passed {
    /// Counts a packet that was received.
    pub(in crate::shard) fn note_received(&mut self, bytes: usize, is_publish: bool) {
        self.packets_in += 1;
        self.messages_in += u64::from(is_publish);
        self.bytes_in += bytes as u64;
    }

    /// Counts a packet that was appended.
    pub(in crate::shard) fn note_sent(&mut self, is_publish: bool) {
        self.packets_out += 1;
        self.messages_out += u64::from(is_publish);
    }
}
