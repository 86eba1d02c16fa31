//! Load averages: how many a minute, lately.
//!
//! An average over a minute, say, gives each moment a weight that halves with some 42 seconds of age: after a time `t` what was known
//! counts exp(−t / 1 min), and what has happened meanwhile the rest.

use std::time::Duration;

use super::figures::Figures;

/// The times over which is averaged, with their names.
const SPANS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// A figure, with its averages.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    count: u64,
    averages: [f64; SPANS.len()],
}

impl Load {
    /// Notes how often it has happened so far. `since`: the time since the last note; `None`: this is the first.
    fn note(&mut self, since: Option<Duration>, count: u64) {
        let news = count.saturating_sub(std::mem::replace(&mut self.count, count));
        let Some(seconds) = since.map(|since| since.as_secs_f64()).filter(|seconds| *seconds > 0.0) else { return };
        let per_minute = news as f64 * 60.0 / seconds;
        for (average, (_, span)) in self.averages.iter_mut().zip(SPANS) {
            *average = per_minute + (-seconds / span).exp() * (*average - per_minute);
        }
    }
}

/// All figures of which there are averages.
#[derive(Debug, Default)]
pub(super) struct Loads([Load; NAMES.len()]);

const NAMES: [&str; 9] = [
    "messages/received",
    "messages/sent",
    "publish/received",
    "publish/sent",
    "publish/dropped",
    "bytes/received",
    "bytes/sent",
    "sockets",
    "connections",
];

impl Loads {
    /// Takes the figures of the moment. `since`: the time since the last ones.
    pub(super) fn note(&mut self, since: Option<Duration>, figures: &Figures) {
        let counts = [
            figures.packets_received,
            figures.packets_sent,
            figures.publishes_received,
            figures.publishes_sent,
            figures.publishes_dropped,
            figures.bytes_received,
            figures.bytes_sent,
            figures.sockets,
            figures.connects,
        ];
        for (load, count) in self.0.iter_mut().zip(counts) {
            load.note(since, count);
        }
    }

    /// Topics below `$SYS/broker/` with their values.
    pub(super) fn values(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let of_one = |(load, name): (&Load, &'static str)| {
            let averages = load.averages;
            let value = move |(average, (span, _)): (f64, _)| (format!("load/{name}/{span}"), format!("{average:.2}"));
            averages.into_iter().zip(SPANS).map(value)
        };
        self.0.iter().zip(NAMES).flat_map(of_one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} instead of {expected}");
    }

    #[test]
    fn the_first_figures_are_no_load() {
        let mut load = Load::default();
        load.note(None, 1_000_000);
        assert_eq!(load.averages, [0.0; 3]);
        load.note(Some(INTERVAL), 1_000_000);
        assert_eq!(load.averages, [0.0; 3]);
    }

    #[test]
    fn an_average_moves_by_its_share_of_the_time() {
        let mut load = Load::default();
        load.note(None, 0);
        load.note(Some(INTERVAL), 100); // 600 a minute.
        for (average, (_, span)) in load.averages.into_iter().zip(SPANS) {
            assert_near(average, 600.0 * (1.0 - (-10.0 / span).exp()));
        }
        let before = load.averages;
        load.note(Some(2 * INTERVAL), 100);
        assert_near(load.averages[0], before[0] * (-20.0_f64 / 60.0).exp());
    }

    #[test]
    fn a_steady_load_is_its_own_average_however_often_it_is_looked_at() {
        for seconds in [1, 7, 60, 3600] {
            let mut load = Load::default();
            load.note(None, 0);
            for round in 1..=20_000 / seconds + 20 {
                load.note(Some(Duration::from_secs(seconds)), round * seconds * 5);
            }
            for average in load.averages {
                assert!((average - 300.0).abs() < 0.01, "every {seconds} s: {average}");
            }
        }
    }

    #[test]
    fn what_happens_between_two_looks_in_no_time_is_not_divided_by_it() {
        let mut load = Load::default();
        load.note(None, 0);
        load.note(Some(Duration::ZERO), 5);
        assert_eq!(load.averages, [0.0; 3]);
    }

    #[test]
    fn there_are_three_averages_of_each_figure() {
        let mut loads = Loads::default();
        loads.note(None, &Figures::default());
        let figures = Figures { packets_received: 10, connects: 20, ..Figures::default() };
        loads.note(Some(Duration::from_secs(60)), &figures);
        let values: Vec<_> = loads.values().collect();
        assert_eq!(values.len(), 27);
        assert_eq!(values[0], ("load/messages/received/1min".to_owned(), "6.32".to_owned()));
        assert_eq!(values[26], ("load/connections/15min".to_owned(), "1.29".to_owned()));
        assert_eq!(values[3].1, "0.00");
    }
}
