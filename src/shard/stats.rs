//! What a shard counts.

use crate::session::will::Cause;

/// Counters of one shard, since it started; gauges where said so.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// CONNECTs accepted.
    pub connects_accepted: u64,
    /// CONNECTs refused by the shard.
    pub connects_refused: u64,
    /// Of these, those refused since the Client Identifier names a Session of another user.
    pub connects_refused_other_user: u64,
    /// Of these, those refused since there are `sessions.sessions_max`.
    pub connects_refused_sessions_max: u64,
    /// Of these, those refused since memory is short.
    pub connects_refused_memory: u64,
    /// Sessions taken over by another CONNECT.
    pub takeovers: u64,
    /// Connections that ended, by cause.
    pub closed: [u64; Cause::COUNT],
    /// PUBLISH packets received.
    pub publishes_received: u64,
    /// PUBLISH packets sent, retransmissions included.
    pub publishes_sent: u64,
    /// PUBLISH packets refused for want of rights.
    pub publishes_denied: u64,
    /// Topic Filters refused for want of rights.
    pub subscriptions_denied: u64,
    /// Deliveries dropped since their client may not receive messages of that topic.
    pub deliveries_denied: u64,
    /// Malformed packets and protocol errors.
    pub protocol_errors: u64,
    /// QoS 0 deliveries dropped since the connection's output was full.
    pub dropped_output_full: u64,
    /// QoS 0 deliveries of wills dropped since the connection's output was full.
    pub dropped_wills_output_full: u64,
    /// QoS 0 deliveries dropped since memory is short.
    pub dropped_memory: u64,
    /// Deliveries dropped since the Session's queue was full.
    pub dropped_queue_full: u64,
    /// Deliveries dropped since they had expired.
    pub dropped_expired: u64,
    /// Deliveries dropped since they had waited for `sessions.queue_age_max`.
    pub dropped_too_old: u64,
    /// Deliveries dropped since their message could not be read back from the journal.
    pub dropped_unreadable: u64,
    /// CONNECTs and PUBLISHes refused since the journal could not be written.
    pub refused_by_journal: u64,
    /// Messages read back from the journal for their delivery.
    pub read_back: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Deliveries dropped since they exceed the client's Maximum Packet Size.
    pub dropped_too_large: u64,
    /// Deliveries of a Shared Subscription dropped since no member could or might take them.
    pub dropped_no_member: u64,
    /// Retained messages dropped since a limit was reached.
    pub dropped_retained: u64,
    /// Times a connection was paused since another shard, or the disk, could not keep up.
    pub pauses: u64,
    /// Messages of other shards that were put aside, since what follows from them would go to shards that cannot keep up.
    pub letters_put_aside: u64,
    /// Times a connection went on in the next turn, since what it sent was work enough for one.
    pub yields: u64,
    /// PUBLISHes of connections that ended, let go of since they were too much work to be caught up with at once.
    pub publishes_abandoned: u64,
    /// Times a connection was paused since it published faster than it may.
    pub pauses_rate: u64,
    /// Times a connection was paused since it published while memory was short.
    pub pauses_memory: u64,
    /// Times a connection was paused since it did not read the answers to what it sent.
    pub pauses_choked: u64,
    /// Connections closed since they did not read what they were sent. (`slow_reader = "disconnect"`)
    pub slow_readers_disconnected: u64,
    /// PUBLISHes refused since the Session has stored as many Retained Messages as it may.
    pub publishes_refused_retained: u64,
    /// Topic Filters refused since a Session has as many Subscriptions as it may.
    pub subscriptions_refused: u64,
    /// Topic Filters refused since there were too many in one packet, or since they are too long or too deep.
    pub filters_refused: u64,
    /// Re-authentications that succeeded.
    pub re_authentications: u64,
    /// Re-authentications that failed.
    pub re_authentications_refused: u64,
    /// Connections closed since their credentials had ended.
    pub credentials_ended: u64,
    /// Messages about clients that came or went. (`presence.enabled`)
    pub presence_told: u64,
    /// Clients not told of, since the topic would be too long.
    pub presence_untold: u64,
    /// Wills.
    pub wills: WillStats,
}

/// Counters of wills.
#[derive(Debug, Clone, Default)]
pub struct WillStats {
    /// Wills that came with an accepted CONNECT.
    pub armed: u64,
    /// Wills refused with their CONNECT, for want of rights or by `wills.allow.topics`.
    pub refused: u64,
    /// Wills published, by cause of closing.
    pub published: [u64; Cause::COUNT],
    /// Wills discarded, by cause: a clean DISCONNECT, an administrator, or a takeover within the delay.
    pub discarded: [u64; Cause::COUNT],
    /// Wills discarded since their client came back in time.
    pub discarded_by_return: u64,
    /// Wills refused when they were to be published: rights had changed.
    pub denied: u64,
    /// Wills that did not overwrite a newer retained message. (`wills.stale_guard`)
    pub stale: u64,
    /// Storms: bursts above `wills.storm_threshold_per_second`.
    pub storms: u64,
    /// Gauge: wills whose connection is open.
    pub armed_now: u64,
    /// Gauge: wills that wait for their due time.
    pub pending_now: u64,
    /// Lateness (published − due): counts by power of two of milliseconds, the last one open.
    pub lateness: [u64; WillStats::LATENESS_BUCKETS],
    /// The largest lateness, in microseconds.
    pub lateness_max: u64,
}

impl WillStats {
    /// Bucket `n` counts lateness below 2ⁿ ms.
    pub const LATENESS_BUCKETS: usize = 18;

    pub(super) fn note_lateness(&mut self, micros: u64) {
        let bucket = (64 - (micros / 1000).leading_zeros()) as usize;
        self.lateness[bucket.min(Self::LATENESS_BUCKETS - 1)] += 1;
        self.lateness_max = self.lateness_max.max(micros);
    }

    /// All wills published.
    pub fn published_total(&self) -> u64 {
        self.published.iter().sum()
    }

    /// All wills discarded.
    pub fn discarded_total(&self) -> u64 {
        self.discarded.iter().sum::<u64>() + self.discarded_by_return
    }
}
