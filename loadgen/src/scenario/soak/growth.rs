//! Whether the broker's memory grows: the slope of what was seen after the warm-up.

/// Memory over time, from the end of a warm-up on.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    count: f64,
    mean_time: f64,
    mean_bytes: f64,
    /// Sum of the squared distances from the mean time.
    spread: f64,
    /// Sum of the products of the distances from both means.
    common: f64,
}

impl Growth {
    /// Notes that the broker had `bytes` at `seconds`.
    pub(super) fn see(&mut self, seconds: f64, bytes: f64) {
        self.count += 1.0;
        let distance = seconds - self.mean_time;
        self.mean_time += distance / self.count;
        self.mean_bytes += (bytes - self.mean_bytes) / self.count;
        self.spread += distance * (seconds - self.mean_time);
        self.common += distance * (bytes - self.mean_bytes);
    }

    /// Slope of the line that fits best, in bytes per hour; `None` with fewer than three values.
    pub(super) fn bytes_per_hour(&self) -> Option<f64> {
        (self.count >= 3.0 && self.spread > 0.0).then(|| self.common / self.spread * 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slope(bytes: impl Fn(f64) -> f64) -> Option<f64> {
        let mut growth = Growth::default();
        (1000..1100).map(f64::from).for_each(|second| growth.see(second, bytes(second)));
        growth.bytes_per_hour()
    }

    #[test]
    fn the_slope_is_that_of_the_line_that_fits_best() {
        let is_near = |slope: Option<f64>, expected: f64| (slope.unwrap() - expected).abs() < 1.0;
        assert!(is_near(slope(|_| 5e9), 0.0));
        assert!(is_near(slope(|second| 5e9 + 10.0 * second), 36_000.0));
        assert!(is_near(slope(|second| 5e9 - 10.0 * second), -36_000.0));
        let noisy = slope(|second| 1e6 + 10.0 * second + if (second as u64).is_multiple_of(2) { 50.0 } else { -50.0 });
        assert!((noisy.unwrap() - 36_000.0).abs() < 500.0, "{noisy:?}");
    }

    #[test]
    fn a_few_values_have_no_slope() {
        let mut growth = Growth::default();
        growth.see(1.0, 5.0);
        growth.see(2.0, 50.0);
        assert_eq!(growth.bytes_per_hour(), None);
    }
}
