//! A distribution of latency, as it is written down.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many steps the curve has for each halving of the distance to 100 %.
const STEPS_PER_HALF_DISTANCE: u32 = 20;

/// A distribution of latency; times are in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// A stable name: `delivery`, `delivery_during`, `will_lateness`, …
    pub name: String,
    /// What was timed, for people.
    pub title: String,
    /// The title of the plot it belongs to; latencies with the same chart share one.
    pub chart: String,
    /// How many values there are.
    pub count: u64,
    /// The least one.
    pub min_us: f64,
    /// The arithmetic mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// 90 % were at most this.
    pub p90_us: f64,
    /// 99 % were at most this.
    pub p99_us: f64,
    /// 99.9 % were at most this.
    pub p999_us: f64,
    /// The greatest one.
    pub max_us: f64,
    /// The whole distribution: pairs of quantile (0 to 1) and time, finer towards 1.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    /// Writes down `histogram`, whose values are in nanoseconds.
    pub fn new(name: &str, title: &str, chart: &str, histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            name: name.into(),
            title: title.into(),
            chart: chart.into(),
            count: histogram.len(),
            min_us: if histogram.is_empty() { 0.0 } else { histogram.min() as f64 / 1e3 },
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
            curve: histogram
                .iter_quantiles(STEPS_PER_HALF_DISTANCE)
                .map(|step| (step.quantile_iterated_to(), step.value_iterated_to() as f64 / 1e3))
                .collect(),
        }
    }
}

/// An empty histogram of nanoseconds with three significant digits, up to an hour.
pub fn histogram() -> Histogram<u64> {
    const HOUR: u64 = 3_600_000_000_000;
    Histogram::new_with_bounds(1, HOUR, 3).expect("the bounds are constants within what the type can do")
}
