//! Wills and storms.

use super::{MICROS_PER_SECOND, Metric, counter, gauge, histogram};

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    gauge(
        "willowmq_wills",
        "Wills by where they stand: armed (client connected), pending (delay runs), due (about to be \
         published), held (due, held back by an operator).",
        |shard, out| {
            out.put_for(&["armed"], shard.stats.wills.armed_now);
            out.put_for(&["pending"], shard.stats.wills.pending_now);
            out.put_for(&["due"], shard.population.due_wills as u64);
            out.put_for(&["held"], shard.population.held_wills as u64);
        },
    )
    .by(&["state"]),
    counter("willowmq_wills_armed_total", "Wills that came with an accepted CONNECT.", |shard, out| {
        out.put(shard.stats.wills.armed)
    }),
    counter(
        "willowmq_wills_published_total",
        "Wills published, by why the Network Connection had ended.",
        |shard, out| out.put_tally(&shard.stats.wills.published),
    )
    .by(&["cause"]),
    counter(
        "willowmq_wills_discarded_total",
        "Wills discarded, by why the Network Connection had ended; \"return\": the client came back in time.",
        |shard, out| {
            out.put_tally(&shard.stats.wills.discarded);
            out.put_for(&["return"], shard.stats.wills.discarded_by_return);
        },
    )
    .by(&["cause"]),
    counter(
        "willowmq_wills_refused_total",
        "CONNECTs refused since their client may not leave that will.",
        |shard, out| out.put(shard.stats.wills.refused),
    ),
    counter(
        "willowmq_wills_denied_total",
        "Wills not published, since their client may not publish there any more.",
        |shard, out| out.put(shard.stats.wills.denied),
    ),
    counter(
        "willowmq_wills_stale_total",
        "Wills that did not replace a newer Retained Message of the same client.",
        |shard, out| out.put(shard.stats.wills.stale),
    ),
    histogram(
        "willowmq_will_lateness_seconds",
        "Time from when a will was due to when it was published.",
        |shard, out| out.put_histogram(&shard.stats.wills.lateness, MICROS_PER_SECOND),
    ),
    gauge("willowmq_will_lateness_max_seconds", "The largest lateness of a will since the start.", |shard, out| {
        out.put_f64(&[], shard.stats.wills.lateness.max() as f64 / MICROS_PER_SECOND)
    }),
    gauge(
        "willowmq_will_storm_in_progress_wills",
        "Wills published so far in the storm that is going on; 0 where there is none.",
        |shard, out| out.put(shard.population.storm.map_or(0, |storm| storm.wills)),
    ),
    counter(
        "willowmq_will_storms_total",
        "Storms of wills that have passed: more than wills.storm_threshold_per_second.",
        |shard, out| out.put(shard.stats.wills.storms),
    ),
    counter("willowmq_will_storm_wills_total", "Wills published in storms that have passed.", |shard, out| {
        out.put(shard.stats.wills.storm_wills)
    }),
    gauge("willowmq_will_last_storm_wills", "Wills of the newest storm that has passed.", |shard, out| {
        out.put(shard.stats.wills.last_storm.map_or(0, |storm| storm.wills))
    }),
    gauge(
        "willowmq_will_last_storm_duration_seconds",
        "How long the newest storm lasted, from its first due will to its last published one.",
        |shard, out| out.put_f64(&[], shard.stats.wills.last_storm.map_or(0.0, |storm| storm.lasted.as_secs_f64())),
    ),
    gauge("willowmq_will_last_storm_lateness_seconds", "The largest lateness in the newest storm.", |shard, out| {
        out.put_f64(&[], shard.stats.wills.last_storm.map_or(0.0, |storm| storm.lateness_max.as_secs_f64()))
    }),
    gauge(
        "willowmq_will_last_storm_timestamp_seconds",
        "When the newest storm began, in seconds since 1970; 0 before the first one.",
        |shard, out| {
            let since = shard.stats.wills.last_storm.map_or(0, |storm| storm.since.as_micros());
            out.put_f64(&[], since as f64 / MICROS_PER_SECOND);
        },
    ),
];
