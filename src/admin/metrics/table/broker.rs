//! The broker as a whole, and its process.

use super::{Metric, broker_counter, broker_gauge};

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    broker_gauge("willowmq_build_info", "Always 1; the label has the version.", |_, out| {
        out.put_for(&[env!("CARGO_PKG_VERSION")], 1)
    })
    .by(&["version"]),
    broker_gauge("willowmq_shards", "Shards, each with a thread of its own.", |facts, out| {
        out.put(facts.report.shards.len() as u64)
    }),
    broker_gauge("willowmq_uptime_seconds", "Time since the start.", |facts, out| {
        out.put_f64(&[], facts.report.uptime.as_secs_f64())
    }),
    broker_counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", |facts, out| {
        facts.process.iter().for_each(|process| out.put_f64(&[], process.cpu_seconds))
    }),
    broker_gauge("process_resident_memory_bytes", "Resident memory size in bytes.", |facts, out| {
        facts.process.iter().for_each(|process| out.put(process.resident_bytes))
    }),
    broker_gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", |facts, out| {
        facts.process.iter().for_each(|process| out.put(process.virtual_bytes))
    }),
    broker_gauge("process_open_fds", "Number of open file descriptors.", |facts, out| {
        facts.process.iter().for_each(|process| out.put(process.open_fds))
    }),
    broker_gauge("process_max_fds", "Maximum number of open file descriptors.", |facts, out| {
        facts.process.iter().filter_map(|process| process.max_fds).for_each(|max| out.put(max))
    }),
    broker_gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        |facts, out| facts.process.iter().for_each(|process| out.put_f64(&[], process.start_time_seconds)),
    ),
    broker_gauge("process_threads", "Number of OS threads in the process.", |facts, out| {
        facts.process.iter().for_each(|process| out.put(process.threads))
    }),
];
