//! What has passed on one Network Connection.

/// Counts packets, messages and bytes of one connection. The bytes that were sent are counted by its output.
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
    /// Counts a packet that was received.
    pub(in crate::shard) fn note_received(&mut self, bytes: usize, is_publish: bool) {
        self.packets_in += 1;
        self.messages_in += u64::from(is_publish);
        self.bytes_in += bytes as u64;
    }

    /// Counts a PUBLISH that was appended.
    pub(in crate::shard) fn note_sent_message(&mut self) {
        self.packets_out += 1;
        self.messages_out += 1;
    }
}
