//! Axes of a plot: which part of the numbers is shown, and which of them carry a label.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use super::units;

/// No axis reaches beyond this; nothing that is measured does either.
const GREATEST: f64 = 1e18;
/// No logarithmic axis reaches below this.
const LEAST: f64 = 1e-9;

/// How a value becomes a place on the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// As it is.
    Linear,
    /// By its decimal logarithm.
    Log,
    /// A quantile, by the logarithm of how rare it is to be above it: 90 %, 99 % and 99.9 % are equally far apart.
    Quantile,
}

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    /// The places at both ends.
    places: Range<f64>,
    /// The values that carry a label, and the labels.
    ticks: Vec<(f64, String)>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (self.place(*value) - self.places.start) / (self.places.end - self.places.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lines of the grid between those with a label would only be in the way.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|tick| tick.0).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.value(self.places.start)..self.value(self.places.end)
    }
}

impl Axis {
    /// A linear axis over `values` and zero.
    pub(super) fn from_zero(values: impl Iterator<Item = f64>, unit: &str) -> Self {
        let (least, greatest) = span(values.chain([0.0]));
        let step = nice_step((greatest - least) / 5.0, unit);
        // Whole steps at both ends, so that every line of the grid has its label and no curve touches the frame.
        Self::linear((least / step).floor() * step..(greatest / step).ceil() * step, step, unit)
    }

    /// A linear axis over exactly the range of `values`, which are seconds.
    pub(super) fn seconds(values: impl Iterator<Item = f64>) -> Self {
        let (least, greatest) = span(values);
        Self::linear(least..greatest, nice_step((greatest - least) / 10.0, ""), "")
    }

    /// The shares from 0 to 100 %.
    pub(super) fn shares() -> Self {
        let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (share, format!("{} %", share * 100.0)));
        Self { scale: Scale::Linear, places: 0.0..1.0, ticks: ticks.into() }
    }

    /// A logarithmic axis of time over those of `values` that have a logarithm; they are in `unit`.
    pub(super) fn log(values: impl Iterator<Item = f64>, unit: &str) -> Self {
        let (least, greatest) = bounds(values.filter(|value| *value >= LEAST)).unwrap_or((1.0, 10.0));
        let (from, to) = (mark_below(least), mark_above(greatest));
        let to = if to > from { to } else { mark_above(from * 1.01) };
        let wide = to / from > 1e3;
        let labelled = marks(from).take_while(|mark| *mark <= to * 1.001);
        let labelled = labelled.filter(|mark| !wide || (mark.log10() - mark.log10().round()).abs() < 1e-6);
        let ticks = labelled.map(|mark| (mark, units::quantity(mark, unit))).collect();
        Self { scale: Scale::Log, places: from.log10()..to.log10(), ticks }
    }

    /// The quantiles that can be told apart among `count` values.
    pub(super) fn quantiles(count: u64) -> Self {
        let nines = (count.max(10) as f64).log10().min(7.0);
        let whole = (1..=nines as i32).map(|nines| (1.0 - 10_f64.powi(-nines), percentage(nines)));
        let ticks = [(0.5, "50 %".into())].into_iter().chain(whole).collect();
        Self { scale: Scale::Quantile, places: 0.0..nines, ticks }
    }

    fn linear(places: Range<f64>, step: f64, unit: &str) -> Self {
        let first = (places.start / step - 1e-9).ceil() as i64;
        let last = (places.end / step + 1e-9).floor() as i64;
        let label = |value| match unit {
            "B" | "B/s" => units::quantity(value, unit),
            _ if units::is_time(unit) => units::quantity(value, unit),
            _ => units::compact(value),
        };
        let ticks = (first..=last).map(|index| index as f64 * step).map(|value| (value, label(value))).collect();
        Self { scale: Scale::Linear, places, ticks }
    }

    /// The place of `value`, which is on the axis even where the value is not.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Quantile => -(1.0 - value).max(f64::MIN_POSITIVE).log10(),
        };
        place.clamp(self.places.start, self.places.end)
    }

    /// The value at `place`.
    fn value(&self, place: f64) -> f64 {
        match self.scale {
            Scale::Linear => place,
            Scale::Log => 10_f64.powf(place),
            Scale::Quantile => 1.0 - 10_f64.powf(-place),
        }
    }

    /// The label of `tick`.
    pub(super) fn label(&self, tick: f64) -> String {
        self.ticks.iter().find(|(value, _)| *value == tick).map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

/// The bounds of `values`, moved apart where they are so close that there would be nothing to divide into steps.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, greatest) = bounds(values).unwrap_or((0.0, 1.0));
    let magnitude = least.abs().max(greatest.abs()).max(1.0);
    if greatest - least > magnitude * 1e-9 { (least, greatest) } else { (least, least + magnitude) }
}

/// The least and the greatest of the numbers among `values`.
pub(super) fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite()).map(|value| value.clamp(-GREATEST, GREATEST));
    finite.fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((least, greatest)) => Some((value.min(least), value.max(greatest))),
    })
}

/// A step that is at least `raw` and easy to count by.
fn nice_step(raw: f64, unit: &str) -> f64 {
    // Sizes are counted in powers of 1024, so steps of 100 would give labels such as 97.7 KiB.
    let base = if unit.starts_with('B') { 1024_f64.powf((raw.max(1.0).ln() / 1024_f64.ln()).floor()) } else { 1.0 };
    let decade = 10_f64.powf((raw / base).log10().floor());
    let mut steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade * base).into_iter();
    steps.find(|step| *step >= raw * 0.999).unwrap_or(10.0 * decade * base)
}

/// The numbers 1, 2 and 5 times powers of ten, from `first`, which is one of them.
fn marks(first: f64) -> impl Iterator<Item = f64> {
    let decade = (first.log10() + 1e-9).floor() as i32;
    (decade..decade + 30)
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(decade)))
        .skip_while(move |mark| *mark < first * 0.999)
}

/// The greatest mark that is at most `value`.
fn mark_below(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    [5.0, 2.0].map(|factor| factor * decade).into_iter().find(|mark| *mark <= value).unwrap_or(decade)
}

/// The least mark that is at least `value`.
fn mark_above(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].map(|factor| factor * decade).into_iter().find(|mark| *mark >= value).unwrap_or(decade * 10.0)
}

/// The share below the quantile with so many nines: 90 %, 99 %, 99.9 %.
fn percentage(nines: i32) -> String {
    let decimals = (nines - 2).max(0) as usize;
    format!("{:.decimals$} %", 100.0 - 100.0 * 10_f64.powi(-nines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_whole_steps_from_zero() {
        let axis = Axis::from_zero([3.0, 9200.0].into_iter(), "/s");
        assert_eq!(labels(&axis), ["0", "2,000", "4,000", "6,000", "8,000", "10 k"]);
        assert_eq!(axis.places, 0.0..10_000.0);
    }

    #[test]
    fn sizes_step_by_powers_of_1024() {
        let axis = Axis::from_zero([0.0, 900.0 * 1_048_576.0].into_iter(), "B");
        assert_eq!(labels(&axis), ["0 B", "200 MiB", "400 MiB", "600 MiB", "800 MiB", "1,000 MiB"]);
    }

    #[test]
    fn a_wide_logarithmic_axis_labels_decades_and_a_narrow_one_more() {
        let wide = Axis::log([40.0, 3e6].into_iter(), "µs");
        assert_eq!(labels(&wide), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let narrow = Axis::log([120.0, 450.0].into_iter(), "µs");
        assert_eq!(labels(&narrow), ["100 µs", "200 µs", "500 µs"]);
    }

    #[test]
    fn quantiles_end_where_the_values_do() {
        let axis = Axis::quantiles(5000);
        assert_eq!(labels(&axis), ["50 %", "90 %", "99 %", "99.9 %"]);
        assert_eq!(axis.place(1.0), 5000_f64.log10());
        assert!((axis.place(0.99) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn every_axis_survives_what_is_not_a_number() {
        let odd: [&[f64]; 5] = [&[], &[0.0], &[0.0, 0.0], &[f64::NAN, f64::INFINITY], &[f64::MIN_POSITIVE, f64::MAX]];
        for values in odd {
            let values = || values.iter().copied();
            for axis in [Axis::from_zero(values(), "B"), Axis::seconds(values()), Axis::log(values(), "µs")] {
                assert!(axis.places.start < axis.places.end, "{axis:?}");
                assert!(axis.ticks.len() < 100, "{axis:?}");
            }
        }
    }
}
