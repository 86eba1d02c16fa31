//! The journal. With `durability = "memory"` there is none, and so there are no samples.

use super::{MICROS_PER_SECOND, Metric, counter, gauge, histogram};
use crate::net::{JournalFigures, ShardReport};

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    counter("willowmq_journal_written_bytes_total", "Bytes written to the journal.", |shard, out| {
        of_journal(shard, |journal| out.put(journal.counters.batches.sum()))
    }),
    histogram(
        "willowmq_journal_batch_bytes",
        "Bytes of each write to the journal: what has come together while the one before was under way.",
        |shard, out| of_journal(shard, |journal| out.put_histogram(&journal.counters.batches, 1.0)),
    ),
    histogram(
        "willowmq_journal_write_seconds",
        "How long writing a batch took, with its sync, as the shard sees it; it looks between turns.",
        |shard, out| of_journal(shard, |journal| out.put_histogram(&journal.counters.latencies, MICROS_PER_SECOND)),
    ),
    gauge("willowmq_journal_failing", "1 while the disk refuses to store.", |shard, out| {
        of_journal(shard, |journal| out.put(u64::from(journal.is_failing)))
    }),
    counter("willowmq_journal_failures_total", "File operations of the journal that failed.", |shard, out| {
        of_journal(shard, |journal| out.put(journal.counters.failures))
    }),
    counter(
        "willowmq_journal_read_failures_total",
        "Reads of messages that failed and were tried again.",
        |shard, out| of_journal(shard, |journal| out.put(journal.counters.read_failures)),
    ),
    counter(
        "willowmq_journal_refusals_total",
        "CONNECTs and PUBLISHes refused since the journal could not be written.",
        |shard, out| out.put(shard.stats.refused_by_journal),
    ),
    gauge("willowmq_journal_backlog_bytes", "Bytes that wait to become durable.", |shard, out| {
        of_journal(shard, |journal| out.put(journal.backlog_bytes as u64))
    }),
    gauge(
        "willowmq_journal_disk_bytes",
        "Bytes in the segments of the journal; room allocated in advance is not counted.",
        |shard, out| of_journal(shard, |journal| out.put(journal.disk_bytes)),
    ),
    gauge(
        "willowmq_journal_live_bytes",
        "Bytes that are alive in the journal, about; the rest goes with the next checkpoint.",
        |shard, out| of_journal(shard, |_| out.put(shard.population.live_bytes)),
    ),
    gauge("willowmq_journal_live_ratio", "The part of the journal that is alive, about, from 0 to 1.", |shard, out| {
        of_journal(shard, |journal| {
            let (live, all) = (shard.population.live_bytes as f64, journal.disk_bytes.max(1) as f64);
            out.put_f64(&[], (live / all).min(1.0));
        })
    }),
    gauge("willowmq_journal_segments", "Files of the journal.", |shard, out| {
        of_journal(shard, |journal| out.put(journal.segments as u64))
    }),
    counter("willowmq_journal_segments_begun_total", "Files of the journal that were begun.", |shard, out| {
        of_journal(shard, |journal| out.put(journal.counters.segments_begun))
    }),
    counter("willowmq_journal_checkpoints_total", "Checkpoints completed.", |shard, out| {
        of_journal(shard, |_| out.put(shard.stats.checkpoints))
    }),
    gauge("willowmq_journal_checkpoint_in_progress", "1 while a checkpoint is under way.", |shard, out| {
        of_journal(shard, |_| out.put(u64::from(shard.population.is_writing_checkpoint)))
    }),
];

/// With `durability = "memory"` there is no journal, and so there are no samples of one.
fn of_journal(shard: &ShardReport, read: impl FnOnce(&JournalFigures)) {
    if let Some(journal) = &shard.journal {
        read(journal);
    }
}
