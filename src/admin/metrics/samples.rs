//! The samples of one metric while they are collected.

use prometheus::proto::{self, Bucket, Counter, Gauge, LabelPair, MetricType};

use super::table::Metric;
use crate::figures::{Histogram, Kinds, Tally};

/// Collects the samples of one metric.
pub(super) struct Samples {
    kind: MetricType,
    labels: &'static [&'static str],
    shard: Option<String>,
    metrics: Vec<proto::Metric>,
}

impl Samples {
    /// None yet.
    pub(super) fn new(metric: &Metric) -> Self {
        Self { kind: metric.kind, labels: metric.labels, shard: None, metrics: Vec::new() }
    }

    /// What comes next is of this shard.
    pub(super) fn begin_shard(&mut self, shard: usize) {
        self.shard = Some(shard.to_string());
    }

    /// The only sample of the broker, or of the shard.
    pub(super) fn put(&mut self, value: u64) {
        self.put_f64(&[], value as f64);
    }

    /// The sample with these values of the metric's labels.
    pub(super) fn put_for(&mut self, values: &[&str], value: u64) {
        self.put_f64(values, value as f64);
    }

    /// A sample for each kind.
    pub(super) fn put_tally<K: Kinds>(&mut self, tally: &Tally<K>) {
        for (kind, count) in tally.iter() {
            self.put_for(&[kind.name()], count);
        }
    }

    /// As [`Self::put_for`], for what is not a whole number.
    pub(super) fn put_f64(&mut self, values: &[&str], value: f64) {
        let mut metric = self.labelled(values);
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    /// A histogram whose values are so many of the metric's unit: a million microseconds are a second.
    pub(super) fn put_histogram<const UNIT: u64, const BUCKETS: usize>(
        &mut self,
        histogram: &Histogram<UNIT, BUCKETS>,
        per_unit: f64,
    ) {
        let bucket = |(bound, count): (u64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound as f64 / per_unit);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut copy = proto::Histogram::default();
        copy.set_bucket(histogram.cumulative().map(bucket).collect());
        copy.set_sample_count(histogram.count());
        copy.set_sample_sum(histogram.sum() as f64 / per_unit);
        let mut metric = self.labelled(&[]);
        metric.set_histogram(copy);
        self.metrics.push(metric);
    }

    /// All of them.
    pub(super) fn into_metrics(self) -> Vec<proto::Metric> {
        self.metrics
    }

    fn labelled(&self, values: &[&str]) -> proto::Metric {
        assert_eq!(values.len(), self.labels.len(), "a value for each label");
        let shard = self.shard.as_deref().map(|shard| ("shard", shard));
        let own = self.labels.iter().copied().zip(values.iter().copied());
        let pair = |(name, value): (&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let mut metric = proto::Metric::default();
        metric.set_label(shard.into_iter().chain(own).map(pair).collect());
        metric
    }
}
