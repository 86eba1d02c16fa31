//! The shards themselves: how busy they are, and what waits for them.

use super::{MICROS_PER_SECOND, Metric, broker_gauge, counter, gauge, histogram};

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    histogram(
        "willowmq_turn_duration_seconds",
        "How long turns of the shard took; a slice of due wills is a turn of its own.",
        |shard, out| out.put_histogram(&shard.turns.durations, MICROS_PER_SECOND),
    ),
    counter("willowmq_turns_slow_total", "Turns that took longer than 10 ms.", |shard, out| out.put(shard.turns.slow)),
    counter("willowmq_turns_stalled_total", "Turns that took longer than 100 ms.", |shard, out| {
        out.put(shard.turns.stalls)
    }),
    gauge(
        "willowmq_timers",
        "Deadlines in the timer wheels: of Sessions and messages, and of sockets.",
        |shard, out| {
            out.put_for(&["sessions"], shard.population.timers as u64);
            out.put_for(&["sockets"], shard.deadlines as u64);
        },
    )
    .by(&["of"]),
    gauge(
        "willowmq_letters_waiting",
        "Messages between shards: outgoing ones that wait for room, or were put aside, and incoming ones not \
         taken yet.",
        |shard, out| {
            out.put_for(&["outgoing"], shard.population.letters as u64);
            out.put_for(&["incoming"], shard.letters_waiting as u64);
        },
    )
    .by(&["direction"]),
    counter(
        "willowmq_letters_put_aside_total",
        "Messages of other shards put aside, since what follows would go to shards that cannot keep up.",
        |shard, out| out.put(shard.stats.letters_put_aside),
    ),
    gauge(
        "willowmq_errands_waiting",
        "What threads beside the shards have left for them: authentications, TLS handshakes, requests of the \
         API.",
        |shard, out| out.put(shard.errands_waiting as u64),
    ),
    counter(
        "willowmq_buffer_shortages_total",
        "Times that the ring had no free buffer for what arrived.",
        |shard, out| out.put(shard.counters.buffer_shortages),
    ),
    gauge(
        "willowmq_memory_pressure",
        "How short memory is: 0 enough, 1 new Sessions are refused, 2 QoS 0 is dropped, 3 publishers are not \
         read.",
        |shard, out| out.put(shard.population.pressure as u64),
    ),
    broker_gauge("willowmq_memory_limit_bytes", "Memory that the broker may use (memory_limit).", |facts, out| {
        out.put(facts.report.memory_limit)
    }),
    broker_gauge("willowmq_memory_peak_bytes", "The most memory that was seen in use.", |facts, out| {
        out.put(facts.report.gate.memory_peak_bytes)
    }),
];
