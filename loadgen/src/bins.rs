//! Latency over time: a distribution for each short interval, and their sum for each phase.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::Time;
use crate::report::{Series, histogram};

/// One interval of a latency plot.
const BIN: Duration = Duration::from_millis(25);
/// A long run keeps no more intervals than this: neighbours are merged when they are too many.
const BINS_MAX: usize = 4096;

/// One interval.
#[derive(Clone, Copy, Debug)]
pub struct Bin {
    /// When it began.
    pub from: Time,
    /// When it ended.
    pub to: Time,
    /// How many values it has.
    pub count: u64,
    /// Their median, in nanoseconds.
    pub p50: u64,
    /// 99 % of them were at most this.
    pub p99: u64,
    /// The greatest one.
    pub max: u64,
}

/// Collects latencies of the present phase, interval by interval.
pub struct Bins {
    length: Duration,
    end: Time,
    current: Histogram<u64>,
    /// Of the present phase, up to the last mark.
    marked: Histogram<u64>,
    /// Of the present phase, since the last mark.
    unmarked: Histogram<u64>,
    bins: Vec<Bin>,
}

impl Bins {
    /// Begins at `now`.
    pub fn new(now: Time) -> Self {
        let [current, marked, unmarked] = std::array::from_fn(|_| histogram());
        Self { length: BIN, end: now + BIN, current, marked, unmarked, bins: Vec::new() }
    }

    /// Notes a latency in nanoseconds that became known at `at`.
    pub fn record(&mut self, at: Time, nanos: u64) {
        if at >= self.end {
            self.next(at);
        }
        self.current.saturating_record(nanos);
    }

    /// Ends the phase; gives all its latencies.
    pub fn end_phase(&mut self, now: Time) -> Histogram<u64> {
        self.mark(now);
        self.end_phase_at_mark()
    }

    /// Notes that the phase may turn out to have ended at `now`.
    pub fn mark(&mut self, now: Time) {
        self.next(now);
        self.marked.add(&self.unmarked).expect("both have the same bounds");
        self.unmarked.reset();
    }

    /// Ends the phase where the last mark is; what came since then belongs to the next one.
    pub fn end_phase_at_mark(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.marked, histogram())
    }

    /// The intervals that have any values.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    fn next(&mut self, now: Time) {
        if !self.current.is_empty() {
            self.bins.push(Bin {
                from: Time(self.end.0.saturating_sub(self.length.as_nanos() as u64)),
                to: self.end.min(now),
                count: self.current.len(),
                p50: self.current.value_at_quantile(0.5),
                p99: self.current.value_at_quantile(0.99),
                max: self.current.max(),
            });
            self.unmarked.add(&self.current).expect("both have the same bounds");
            self.current.reset();
        }
        if self.bins.len() >= BINS_MAX {
            self.merge();
        }
        self.end = now + self.length;
    }

    /// Makes one of every two neighbours; their quantiles become the worse of the two.
    fn merge(&mut self) {
        self.length *= 2;
        let merged = self.bins.chunks(2).map(|pair| {
            let last = pair[pair.len() - 1];
            Bin {
                from: pair[0].from,
                to: last.to,
                count: pair.iter().map(|bin| bin.count).sum(),
                p50: pair[0].p50.max(last.p50),
                p99: pair[0].p99.max(last.p99),
                max: pair[0].max.max(last.max),
            }
        });
        self.bins = merged.collect();
    }

    /// The intervals as series of one chart.
    pub fn series(&self, name: &str, title: &str, chart: &str) -> Vec<Series> {
        let series = |part: &str, label: &str, value: fn(&Bin) -> u64| Series {
            name: format!("{name}_{part}"),
            title: format!("{title}, {label}"),
            chart: chart.into(),
            unit: "ms".into(),
            points: self.bins.iter().map(|bin| (bin.from.as_secs_f64(), value(bin) as f64 / 1e6)).collect(),
        };
        vec![
            series("p50", "median", |bin| bin.p50),
            series("p99", "99 %", |bin| bin.p99),
            series("max", "maximum", |bin| bin.max),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_their_interval_and_phase() {
        let ms = |value: u64| Time(value * 1_000_000);
        let mut bins = Bins::new(ms(0));
        bins.record(ms(10), 1_000);
        bins.record(ms(24), 3_000);
        bins.record(ms(35), 9_000);
        let before = bins.end_phase(ms(36));
        bins.record(ms(37), 5_000);
        let after = bins.end_phase(ms(40));
        assert_eq!((before.len(), after.len()), (3, 1));
        assert_eq!(bins.bins().iter().map(|bin| bin.count).collect::<Vec<_>>(), [2, 1, 1]);
        assert!(bins.bins()[1].max >= 9_000);
    }

    #[test]
    fn a_phase_may_end_at_an_earlier_mark() {
        let mut bins = Bins::new(Time(0));
        bins.record(Time(1), 1_000);
        bins.mark(Time(2));
        bins.record(Time(3), 1_000);
        bins.mark(Time(4));
        bins.record(Time(5), 1_000);
        assert_eq!(bins.end_phase_at_mark().len(), 2);
        assert_eq!(bins.end_phase(Time(6)).len(), 1);
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_intervals() {
        let mut bins = Bins::new(Time(0));
        for interval in 0..3 * BINS_MAX as u64 {
            bins.record(Time(interval * 100_000_000), 5_000);
        }
        assert!(bins.bins().len() <= BINS_MAX);
        assert_eq!(bins.end_phase(Time(u64::MAX / 2)).len(), 3 * BINS_MAX as u64);
    }
}
