//! Every metric, once: its name, its type, what it tells, its labels, and where its value comes from.
//!
//! Names follow the conventions of Prometheus: base units, and `_total` for what only grows. What is of a shard has the label `shard`; the
//! broker's own is the sum over it.

mod broker;
mod connections;
mod journal;
mod security;
mod shards;
mod traffic;
mod wills;

use prometheus::proto::MetricType;

use super::Facts;
use super::samples::Samples;
use crate::net::ShardReport;

/// What the getters give where the unit is a second.
const MICROS_PER_SECOND: f64 = 1e6;

/// Metrics of one subject.
pub(super) struct Subject {
    /// Its title in the reference.
    #[cfg_attr(not(test), expect(dead_code, reason = "the reference is written by a test"))]
    pub(super) title: &'static str,
    /// In the order in which they are told.
    pub(super) metrics: &'static [Metric],
}

/// All metrics.
pub(super) const SUBJECTS: &[Subject] = &[
    Subject { title: "The broker and its process", metrics: broker::METRICS },
    Subject { title: "Network Connections and Sessions", metrics: connections::METRICS },
    Subject { title: "Traffic", metrics: traffic::METRICS },
    Subject { title: "Security and limits", metrics: security::METRICS },
    Subject { title: "Wills", metrics: wills::METRICS },
    Subject { title: "The journal", metrics: journal::METRICS },
    Subject { title: "Shards and memory", metrics: shards::METRICS },
];

/// One metric.
pub(super) struct Metric {
    /// Its name.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) kind: MetricType,
    /// What it tells.
    pub(super) help: &'static str,
    /// Its labels beside `shard`.
    pub(super) labels: &'static [&'static str],
    /// Where its samples come from.
    pub(super) of: Of,
}

/// Whose figures a metric shows.
#[derive(Clone, Copy)]
pub(super) enum Of {
    /// The broker's, or the process's.
    Broker(fn(&Facts<'_>, &mut Samples)),
    /// Those of each shard.
    Shard(fn(&ShardReport, &mut Samples)),
}

impl Metric {
    const fn new(name: &'static str, kind: MetricType, help: &'static str, of: Of) -> Self {
        Self { name, kind, help, labels: &[], of }
    }

    /// The same with labels.
    const fn by(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }
}

/// What each shard counts.
const fn counter(name: &'static str, help: &'static str, read: fn(&ShardReport, &mut Samples)) -> Metric {
    Metric::new(name, MetricType::COUNTER, help, Of::Shard(read))
}

/// What each shard has now.
const fn gauge(name: &'static str, help: &'static str, read: fn(&ShardReport, &mut Samples)) -> Metric {
    Metric::new(name, MetricType::GAUGE, help, Of::Shard(read))
}

/// What each shard measures.
const fn histogram(name: &'static str, help: &'static str, read: fn(&ShardReport, &mut Samples)) -> Metric {
    Metric::new(name, MetricType::HISTOGRAM, help, Of::Shard(read))
}

/// What is counted for all shards together.
const fn broker_counter(name: &'static str, help: &'static str, read: fn(&Facts<'_>, &mut Samples)) -> Metric {
    Metric::new(name, MetricType::COUNTER, help, Of::Broker(read))
}

/// What there is for all shards together.
const fn broker_gauge(name: &'static str, help: &'static str, read: fn(&Facts<'_>, &mut Samples)) -> Metric {
    Metric::new(name, MetricType::GAUGE, help, Of::Broker(read))
}
