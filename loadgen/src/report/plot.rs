//! Plots as SVG: values over time, and distributions of latency.
//!
//! A plot has no title and no legend of its own: the page sets them as text, which wraps and can be selected. It uses
//! few colours, each for one purpose, so that the page's style sheet can exchange them for a dark background.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use super::axis::{Axis, bounds};
use super::units;

/// The colours of lines, in order of their use; they can be told apart by most who are colour-blind.
pub(super) const PALETTE: [RGBColor; 6] = [
    RGBColor(0x25, 0x6f, 0xc4),
    RGBColor(0xd9, 0x5f, 0x1e),
    RGBColor(0x12, 0x93, 0x73),
    RGBColor(0x85, 0x52, 0xc7),
    RGBColor(0xb0, 0x83, 0x0f),
    RGBColor(0xcb, 0x3f, 0x77),
];

/// Lengths of dash and gap, in order of their use; the first line has no gaps.
pub(super) const DASHES: [(u32, u32); 5] = [(1, 0), (8, 5), (2, 4), (16, 5), (5, 9)];

/// Labels of the axes.
const INK: RGBColor = RGBColor(0x5c, 0x63, 0x6e);
/// Lines of the grid.
const GRID: RGBColor = RGBColor(0xe4, 0xe6, 0xea);
/// The band of a phase.
const BAND: RGBColor = RGBColor(0xf3, 0xf4, 0xf6);
/// The band of the phase that a scenario is about.
const MAIN_BAND: RGBColor = RGBColor(0xfb, 0xef, 0xdd);

/// Units to a pixel: the library draws at whole units, and whole pixels would make steps of a slanting line.
const FINE: u32 = 4;
/// Width and height of a plot over time.
const WIDE: (u32, u32) = (1120 * FINE, 300 * FINE);
/// Width and height of a plot of a distribution.
const HALF: (u32, u32) = (552 * FINE, 340 * FINE);
/// Room on the left, for labels such as `1,000 MiB`.
const LEFT: u32 = 78 * FINE;
/// Room on the right, for the half of a label that is below the end of the axis.
const RIGHT: u32 = 26 * FINE;
/// Room above the plot and what stands there.
const TOP: u32 = 10 * FINE;
/// Room at the bottom, for ticks and the title of the axis.
const BOTTOM: u32 = 46 * FINE;
/// Size of all text.
const TEXT: u32 = 15 * FINE;
/// Height of the text that names a phase.
const ROW: u32 = 16 * FINE;
/// The most rows for the names of phases.
const ROWS: usize = 3;
/// The most points of a line; more would not be visible.
const POINTS_MAX: usize = 1500;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pen {
    /// Counts through [`PALETTE`].
    pub colour: usize,
    /// Counts through [`DASHES`].
    pub dash: usize,
}

/// A line: pairs of what is on the horizontal axis and what is on the vertical one.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// How it looks.
    pub pen: Pen,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A phase behind the lines.
#[derive(Clone, Debug)]
pub(super) struct Band {
    /// What stands above it.
    pub name: String,
    /// Where it begins, in seconds.
    pub from_s: f64,
    /// Where it ends.
    pub to_s: f64,
    /// Whether it is the one that the scenario is about.
    pub main: bool,
}

/// What is around the lines of a plot.
struct Frame<'a> {
    x: Axis,
    y: Axis,
    x_title: &'a str,
    y_title: &'a str,
    /// Room above, with that for the names of phases.
    top: u32,
}

/// The name of a phase, at its place.
struct Name<'a> {
    text: &'a str,
    left: i32,
    /// Counted upwards from the plot.
    row: u32,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

impl Pen {
    fn style(self) -> ShapeStyle {
        PALETTE[self.colour % PALETTE.len()].stroke_width(2 * FINE)
    }
}

/// `lines` of values in `unit` over seconds, with `bands` behind them; `seconds` says what the seconds count from.
///
/// Times that span orders of magnitude get a logarithmic axis. It has no zero, which is what a moment without any
/// message has for its latency, so there the line has a gap.
pub(super) fn over_time(mut lines: Vec<Line>, bands: &[Band], unit: &str, seconds: &str) -> String {
    let wide = is_wide(values(&lines), unit);
    if wide {
        let points = lines.iter_mut().flat_map(|line| &mut line.points);
        points.filter(|point| point.1 <= 0.0).for_each(|point| point.1 = f64::NAN);
    }
    let bands = bands_around(&lines, bands);
    let moments = lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let x = Axis::seconds(moments.chain(bands.iter().flat_map(|band| [band.from_s, band.to_s])));
    let y = if wide { Axis::log(values(&lines), unit) } else { Axis::from_zero(values(&lines), unit) };
    let names = names(bands, &x);
    let rows = names.iter().map(|name| name.row + 1).max().unwrap_or(0);
    let frame = Frame { x, y, x_title: seconds, y_title: axis_title(unit), top: TOP + ROW * rows };
    svg(WIDE, |canvas| {
        let mut chart = frame.chart(canvas)?;
        draw_bands(&mut chart, bands)?;
        draw_names(canvas, &names, frame.top)?;
        frame.draw(&mut chart)?;
        draw_lines(&mut chart, &lines)
    })
}

/// The cumulative distribution of latencies, whose points are pairs of quantile and microseconds.
pub(super) fn cumulative(lines: &[Line]) -> String {
    let x = Axis::log(values(lines), "µs");
    let frame = Frame { x, y: Axis::shares(), x_title: "time", y_title: "at most so late", top: TOP };
    let turned = |line: &Line| line.points.iter().map(|point| (point.1, point.0)).collect();
    let turned: Vec<_> = lines.iter().map(|line| Line { pen: line.pen, points: turned(line) }).collect();
    svg(HALF, |canvas| {
        let mut chart = frame.chart(canvas)?;
        frame.draw(&mut chart)?;
        draw_lines(&mut chart, &turned)
    })
}

/// The tail of latencies, whose points are pairs of quantile and microseconds; the most values of any line is `count`.
///
/// It leaves out the least value, which is no part of a tail and would take up half of the axis.
pub(super) fn tail(lines: &[Line], count: u64) -> String {
    let above_least = |line: &Line| line.points.iter().copied().filter(|point| point.0 > 0.0).collect();
    let lines: Vec<_> = lines.iter().map(|line| Line { pen: line.pen, points: above_least(line) }).collect();
    let y = Axis::log(values(&lines), "µs");
    let frame = Frame { x: Axis::quantiles(count), y, x_title: "share of the values", y_title: "time", top: TOP };
    svg(HALF, |canvas| {
        let mut chart = frame.chart(canvas)?;
        frame.draw(&mut chart)?;
        draw_lines(&mut chart, &lines)
    })
}

/// What the lines have on the vertical axis.
fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| &line.points).map(|point| point.1)
}

/// What stands beside the axis of values in `unit`, where the ticks do not say it.
fn axis_title(unit: &str) -> &str {
    match unit {
        "/s" => "per second",
        "B" | "B/s" => "",
        _ if units::is_time(unit) => "",
        _ => unit,
    }
}

/// Whether `values` are times too different for a linear axis.
fn is_wide(values: impl Iterator<Item = f64>, unit: &str) -> bool {
    const RATIO: f64 = 50.0;
    let positive = bounds(values.filter(|value| *value > 0.0));
    units::is_time(unit) && positive.is_some_and(|(least, greatest)| greatest / least > RATIO)
}

/// Lets `draw` fill a canvas of `size`.
fn svg(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Drawn) -> String {
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
    draw(&canvas).and_then(|()| Ok(canvas.present()?)).expect("a string takes every shape");
    drop(canvas);
    text
}

impl Frame<'_> {
    /// A chart without anything in it.
    fn chart<'a, 'b>(&self, canvas: &'a Canvas<'b>) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
        Ok(ChartBuilder::on(canvas)
            .margin_top(self.top)
            .margin_right(RIGHT)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?)
    }

    /// Draws the grid and the axes.
    fn draw(&self, chart: &mut Chart<'_, '_>) -> Drawn {
        let text = ("sans-serif", TEXT).into_font().color(&INK);
        Ok(chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(FINE))
            .axis_style(GRID.stroke_width(FINE))
            .set_all_tick_mark_size(4 * FINE)
            .label_style(text.clone())
            .axis_desc_style(text)
            .x_desc(self.x_title)
            .y_desc(self.y_title)
            .x_label_formatter(&|tick| self.x.label(*tick))
            .y_label_formatter(&|tick| self.y.label(*tick))
            .draw()?)
    }
}

fn draw_lines(chart: &mut Chart<'_, '_>, lines: &[Line]) -> Drawn {
    for line in lines {
        // What is not a number is a gap.
        for part in line.points.split(|(x, y)| !(x.is_finite() && y.is_finite())) {
            draw_line(chart, &thinned(part), line.pen)?;
        }
    }
    Ok(())
}

/// The main phase alone where all of `lines` lies in it, so that a short storm fills its plot.
fn bands_around<'a>(lines: &[Line], bands: &'a [Band]) -> &'a [Band] {
    let Some(position) = bands.iter().position(|band| band.main) else { return bands };
    let main = &bands[position];
    let margin = (main.to_s - main.from_s) / 10.0;
    let within = main.from_s - margin..=main.to_s + margin;
    let mut moments = lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    if moments.all(|moment| within.contains(&moment)) { &bands[position..=position] } else { bands }
}

fn draw_line(chart: &mut Chart<'_, '_>, points: &[(f64, f64)], pen: Pen) -> Drawn {
    let (dash, gap) = DASHES[pen.dash % DASHES.len()];
    let points = points.iter().copied();
    match (points.len(), gap) {
        (0, _) => {}
        (1, _) => drop(chart.draw_series(points.map(|point| Circle::new(point, 3 * FINE, pen.style().filled())))?),
        (_, 0) => drop(chart.draw_series(LineSeries::new(points, pen.style()))?),
        _ => drop(chart.draw_series(DashedLineSeries::new(points, dash * FINE, gap * FINE, pen.style()))?),
    }
    Ok(())
}

/// At most about [`POINTS_MAX`] of `points`, among them the least and the greatest of each stretch that is left out.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let extremes = |stretch: &[(f64, f64)]| {
        let at = |index: usize| (index, stretch[index].1);
        let least = (0..stretch.len()).map(at).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |found| found.0);
        let greatest = (0..stretch.len()).map(at).max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |found| found.0);
        [stretch[least.min(greatest)], stretch[least.max(greatest)]]
    };
    points.chunks(points.len().div_ceil(POINTS_MAX / 2)).flat_map(extremes).collect()
}

/// Draws each phase as a band; of those that are not the main one, every other.
fn draw_bands(chart: &mut Chart<'_, '_>, bands: &[Band]) -> Drawn {
    let Range { start: bottom, end: top } = chart.y_range();
    for (index, band) in bands.iter().enumerate() {
        if !band.main && index % 2 == 1 {
            continue;
        }
        let fill = if band.main { MAIN_BAND } else { BAND };
        chart.draw_series([Rectangle::new([(band.from_s, bottom), (band.to_s, top)], fill.filled())])?;
    }
    Ok(())
}

/// Where the names of `bands` go: above where they begin, one row higher where one would run into another.
fn names<'a>(bands: &'a [Band], x: &Axis) -> Vec<Name<'a>> {
    let right = (WIDE.0 - RIGHT) as i32;
    let mut rows_end = [i32::MIN; ROWS];
    let mut names = Vec::new();
    for band in bands {
        let width = text_width(&band.name);
        let left = x.map(&band.from_s, (LEFT as i32, right)).min(WIDE.0 as i32 - width);
        // With all rows taken here, a plot without the name is better than one that nobody can read.
        if let Some(row) = rows_end.iter().position(|end| *end <= left) {
            rows_end[row] = left + width;
            names.push(Name { text: &band.name, left, row: row as u32 });
        }
    }
    names
}

fn draw_names(canvas: &Canvas<'_>, names: &[Name<'_>], top: u32) -> Drawn {
    let style = ("sans-serif", TEXT).into_font().color(&INK);
    for name in names {
        let place = (name.left + 2 * FINE as i32, (top - ROW * (name.row + 1)) as i32);
        canvas.draw(&Text::new(name.text.to_owned(), place, style.clone()))?;
    }
    Ok(())
}

/// About how wide `text` is, with some room behind it.
fn text_width(text: &str) -> i32 {
    const PER_CHARACTER: i32 = 7;
    (10 + PER_CHARACTER * text.chars().count() as i32) * FINE as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line { pen: Pen::default(), points: points.into() }
    }

    #[test]
    fn odd_data_makes_a_plot_all_the_same() {
        let odd: [&[(f64, f64)]; 6] = [
            &[],
            &[(0.0, 0.0)],
            &[(0.5, 0.0), (1.0, 0.0)],
            &[(f64::NAN, 1.0), (1.0, f64::INFINITY), (f64::NEG_INFINITY, f64::NAN)],
            &[(0.0, -5.0), (1.0, f64::NAN), (2.0, 1e300)],
            &[(0.0, 1e-300), (1.0, f64::MAX)],
        ];
        for points in odd {
            let lines = [line(points)];
            let over_time = |unit| over_time(lines.to_vec(), &[], unit, "seconds");
            for svg in [over_time("µs"), over_time("B"), cumulative(&lines), tail(&lines, 0)] {
                assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
        assert!(over_time(Vec::new(), &[], "", "").contains("</svg>"));
    }

    #[test]
    fn a_gap_divides_a_line() {
        let svg =
            over_time(vec![line(&[(0.0, 1.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)])], &[], "", "");
        assert_eq!(svg.matches("stroke=\"#256FC4\"").count(), 2);
    }

    #[test]
    fn phases_are_named_and_escaped() {
        let bands = [Band { name: "<storm>".into(), from_s: 1.0, to_s: 2.0, main: true }];
        let svg = over_time(vec![line(&[(0.0, 1.0), (3.0, 2.0)])], &bands, "/s", "seconds");
        assert!(svg.contains("&lt;storm&gt;") && svg.contains("#FBEFDD"));
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<_> = (0..100_000).map(|second| (f64::from(second), 1.0)).collect();
        points[77_777].1 = 9.0;
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX + 2 && thin.contains(&(77_777.0, 9.0)));
    }
}
