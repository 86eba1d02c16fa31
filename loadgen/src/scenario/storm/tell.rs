//! What a storm has shown, written into the report.

use std::time::Duration;

use hdrhistogram::Histogram;
use willowmq::codec::QoS;

use super::fate::Wills;
use super::retained::Aftermath;
use crate::bins::Bin;
use crate::engine::Time;
use crate::ledger::Tally;
use crate::report::{Latency, Report, Series};
use crate::run::Run;
use crate::traffic::Traffic;

/// A curve has about this many points.
const POINTS: usize = 500;
/// Latency is back to normal when its 99 % stay below this multiple of what they were before …
const NORMAL_FACTOR: u64 = 2;
/// … or exceed it by no more than this.
const NORMAL_MARGIN: Duration = Duration::from_millis(1);
/// It has to stay normal for so long: a hiccup later on has another cause.
const NORMAL_FOR: Duration = Duration::from_millis(500);

/// What a storm has shown.
pub(super) struct Findings {
    pub(super) began: Time,
    pub(super) wills: Wills,
    pub(super) traffic: Option<Traffic>,
    pub(super) latencies: Vec<(&'static str, Histogram<u64>)>,
    pub(super) memory: Vec<(&'static str, u64)>,
    pub(super) aftermath: Option<Aftermath>,
    pub(super) disconnected: Tally,
    pub(super) refused: Tally,
    pub(super) background_qos: QoS,
    pub(super) clients: usize,
}

/// Writes it into the report.
pub(super) fn tell(findings: Findings, run: &mut Run) {
    let is_strict = run.options.strict;
    let report = &mut run.report;
    tell_wills(&findings, report);
    if let Some(traffic) = findings.traffic {
        tell_background(&findings.latencies, &traffic, findings.began, report);
        report.check(traffic.disconnected.clone().into_check("background_lost", "ordinary connections lost", false));
        traffic.violations.tell(findings.background_qos, is_strict, report);
    }
    for (when, bytes) in &findings.memory {
        report.figure(&format!("broker_memory_{when}_bytes"), &format!("broker memory, {when}"), *bytes as f64, "B");
    }
    if let [(_, before), (_, connected), ..] = findings.memory[..] {
        let each = connected.saturating_sub(before) as f64 / findings.clients as f64;
        report.lower("broker_memory_per_client_bytes", "broker memory per client with a will", each, "B");
    }
    if let Some(aftermath) = findings.aftermath {
        aftermath.tell(&findings.wills, report);
    }
    report.check(findings.disconnected.into_check("disconnected", "connections lost", false));
    report.check(findings.refused.into_check("refused", "connections refused", false));
    findings.wills.tell(is_strict, report);
}

fn tell_wills(findings: &Findings, report: &mut Report) {
    let wills = &findings.wills;
    let (back, late) = wills.returned();
    report.figure("wills_delivered", "wills delivered", wills.delivered as f64, "");
    report.figure("wills_expected", "wills expected", wills.expected() as f64, "");
    report.figure("clients_back", "clients that came back in time", back as f64, "");
    report.figure("clients_back_late", "clients that came back when their will was due", late as f64, "");
    let lateness = Latency::new("will_lateness", "will, after it was due", "Lateness of wills", &wills.lateness);
    report.latency(lateness);
    report.latencies.push(Latency::new("will_since_cut", "will, after its cut", "Cut to will", &wills.since_cut));
    let mut arrivals = wills.arrivals.clone();
    arrivals.sort_unstable();
    report.series.push(curve("wills_due", "wills due", &wills.due_times()));
    report.series.push(curve("wills_heard", "wills heard", &arrivals));
}

/// How many of `times` had come at each moment.
fn curve(name: &str, title: &str, times: &[Time]) -> Series {
    let step = times.len().div_ceil(POINTS).max(1);
    let mut points: Vec<(f64, f64)> =
        times.iter().enumerate().step_by(step).map(|(count, at)| (at.as_secs_f64(), count as f64)).collect();
    points.extend(times.last().map(|last| (last.as_secs_f64(), times.len() as f64)));
    Series { name: name.into(), title: title.into(), chart: "Wills over time".into(), unit: String::new(), points }
}

fn tell_background(phases: &[(&'static str, Histogram<u64>)], traffic: &Traffic, began: Time, report: &mut Report) {
    for (phase, histogram) in phases {
        let (name, title) = (format!("background_{phase}"), format!("ordinary traffic, {phase}"));
        report.latency(Latency::new(&name, &title, "Latency of ordinary traffic", histogram));
    }
    let before = phases.first().map_or(0, |(_, histogram)| histogram.value_at_quantile(0.99));
    let recovery = back_to_normal(traffic.latency.bins(), before, began);
    report.lower("background_recovery_ms", "first cut to normal latency", recovery.as_secs_f64() * 1e3, "ms");
    report.figure("background_delivered", "ordinary messages delivered", traffic.delivered as f64, "");
    report.series.extend(traffic.latency.series(
        "background",
        "ordinary traffic",
        "Latency of ordinary traffic over time",
    ));
}

/// How long after `began` the 99 % of each interval came near what they were `before`, in nanoseconds, and stayed there
/// for [`NORMAL_FOR`].
fn back_to_normal(bins: &[Bin], before: u64, began: Time) -> Duration {
    let limit = (before * NORMAL_FACTOR).max(before + NORMAL_MARGIN.as_nanos() as u64);
    let mut normal_since = began;
    for bin in bins.iter().filter(|bin| bin.from >= began) {
        if bin.from >= normal_since + NORMAL_FOR {
            break;
        }
        if bin.p99 > limit {
            normal_since = bin.to;
        }
    }
    normal_since - began
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_is_when_it_stays_so() {
        let ms = |ms: u64| Time(ms * 1_000_000);
        let bin = |from: u64, p99_ms: u64| {
            let (from, to) = (ms(from), ms(from + 100));
            Bin { from, to, count: 1, p50: 0, p99: p99_ms * 1_000_000, max: 0 }
        };
        let bins = [bin(0, 9), bin(100, 2), bin(200, 9), bin(300, 2), bin(400, 5), bin(500, 1), bin(1100, 9)];
        let normal_after = |before_ms: u64, began| back_to_normal(&bins, before_ms * 1_000_000, ms(began)).as_millis();
        assert_eq!(normal_after(1, 100), 400, "what comes half a second later is another story");
        assert_eq!(normal_after(4, 300), 0);
        assert_eq!(back_to_normal(&[], 0, Time(0)), Duration::ZERO);
    }

    #[test]
    fn a_curve_ends_at_the_last_and_is_short() {
        let times: Vec<Time> = (0..10_000).map(Time).collect();
        let points = curve("", "", &times).points;
        assert!(points.len() <= POINTS + 1);
        assert_eq!(points.last().unwrap().1, 10_000.0);
    }
}
