//! A number that changes in the course of a run, as a line of a plot.

use std::time::Duration;

use crate::engine::Time;
use crate::report::Series;

/// Changes that follow each other faster than this become one point.
const STEP: Duration = Duration::from_millis(50);
/// A long run keeps no more points than this: every other one is dropped when they are too many.
const POINTS_MAX: usize = 8192;

/// A number that changes in the course of a run.
#[derive(Clone, Debug)]
pub struct Gauge {
    step: Duration,
    points: Vec<(Time, f64)>,
    latest: (Time, f64),
}

impl Gauge {
    /// A gauge that shows `value` at `now`.
    pub fn new(now: Time, value: f64) -> Self {
        Self { step: STEP, points: vec![(now, value)], latest: (now, value) }
    }

    /// What it shows.
    pub fn value(&self) -> f64 {
        self.latest.1
    }

    /// Lets it show `value` from `at` on.
    pub fn set(&mut self, at: Time, value: f64) {
        if at - self.last_point() >= self.step {
            self.mark(at); // Without this point, the plot would show a slope where there was a step.
        }
        self.latest = (at, value);
    }

    /// Adds `change` at `at`.
    pub fn add(&mut self, at: Time, change: f64) {
        self.set(at, self.value() + change);
    }

    /// Its course up to `now`.
    pub fn series(mut self, now: Time, name: &str, title: &str, chart: &str, unit: &str) -> Series {
        self.points.push(self.latest);
        self.mark(now);
        self.points.dedup();
        let points = self.points.iter().map(|(at, value)| (at.as_secs_f64(), *value)).collect();
        Series { name: name.into(), title: title.into(), chart: chart.into(), unit: unit.into(), points }
    }

    fn last_point(&self) -> Time {
        self.points.last().map_or(Time::default(), |(at, _)| *at)
    }

    /// Notes what it shows right before `at`.
    fn mark(&mut self, at: Time) {
        if self.latest.0 > self.last_point() {
            self.points.push(self.latest);
        }
        self.points.push((at, self.latest.1));
        if self.points.len() > POINTS_MAX {
            self.step *= 2;
            let mut position = 0;
            self.points.retain(|_| {
                position += 1;
                position % 2 == 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_stay_steps_and_fast_changes_become_one() {
        let ms = |value: u64| Time(value * 1_000_000);
        let mut gauge = Gauge::new(ms(0), 0.0);
        (1..=10).for_each(|value| gauge.set(ms(value), value as f64));
        gauge.add(ms(1_000), -4.0);
        let points = gauge.series(ms(2_000), "n", "n", "n", "").points;
        assert_eq!(points, [(0.0, 0.0), (0.01, 10.0), (1.0, 10.0), (1.0, 6.0), (2.0, 6.0)]);
    }

    #[test]
    fn a_long_run_keeps_a_bounded_number_of_points() {
        let mut gauge = Gauge::new(Time(0), 0.0);
        (0..10 * POINTS_MAX as u64).for_each(|step| gauge.set(Time(step * 60_000_000), step as f64));
        assert!(gauge.points.len() <= POINTS_MAX + 1);
        assert!(gauge.points.is_sorted_by_key(|(at, _)| *at));
    }
}
