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
/// It has to stay normal for so long after the last will: a hiccup later on has another cause.
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
    /// From one message of ordinary traffic to the next.
    pub(super) background_interval: Duration,
    /// What the watchers subscribed to.
    pub(super) filter: String,
    /// Whether a watcher's connection was lost.
    pub(super) is_watcher_gone: bool,
    /// When ordinary traffic was stopped.
    pub(super) traffic_ended: Time,
    pub(super) clients: usize,
}

/// Writes it into the report.
pub(super) fn tell(findings: Findings, run: &mut Run) {
    let is_strict = run.options.strict;
    let report = &mut run.report;
    tell_wills(&findings, report);
    report.warnings.extend(explanation(&findings));
    if let Some(traffic) = findings.traffic {
        let last_will = findings.wills.arrivals.iter().max().copied().unwrap_or(findings.wills.last_due());
        let watched = Watched {
            began: findings.began,
            last_will,
            until: findings.traffic_ended,
            interval: findings.background_interval,
        };
        tell_background(&findings.latencies, &traffic, &watched, report);
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

/// What may be the reason if wills are lost.
fn explanation(findings: &Findings) -> Option<String> {
    let wills = &findings.wills;
    if findings.is_watcher_gone || wills.expected() == 0 {
        return None;
    }
    if wills.delivered == 0 {
        let (topic, filter) = (wills.topics().first()?, &findings.filter);
        return Some(format!("no will came at all: may these clients publish to {topic} and subscribe to {filter}?"));
    }
    let count = wills.heard_only_first()?;
    Some(format!(
        "the first {count} wills came and the rest did not: does the broker limit the queue of a client \
         (max_queued_messages, max_mqueue_len, max-queue-size, max_online_messages)?"
    ))
}

/// How many of `times` had come at each moment.
fn curve(name: &str, title: &str, times: &[Time]) -> Series {
    let step = times.len().div_ceil(POINTS).max(1);
    let mut points: Vec<(f64, f64)> =
        times.iter().enumerate().step_by(step).map(|(count, at)| (at.as_secs_f64(), count as f64)).collect();
    points.extend(times.last().map(|last| (last.as_secs_f64(), times.len() as f64)));
    Series { name: name.into(), title: title.into(), chart: "Wills over time".into(), unit: String::new(), points }
}

fn tell_background(
    phases: &[(&'static str, Histogram<u64>)],
    traffic: &Traffic,
    watched: &Watched,
    report: &mut Report,
) {
    for (phase, histogram) in phases {
        let (name, title) = (format!("background_{phase}"), format!("ordinary traffic, {phase}"));
        report.latency(Latency::new(&name, &title, "Latency of ordinary traffic", histogram));
    }
    let before = phases.first().map_or(0, |(_, histogram)| histogram.value_at_quantile(0.99));
    let recovery = back_to_normal(traffic.latency.bins(), before, watched);
    report.lower("background_recovery_ms", "first cut to normal latency", recovery.as_secs_f64() * 1e3, "ms");
    report.figure("background_delivered", "ordinary messages delivered", traffic.delivered as f64, "");
    report.series.extend(traffic.latency.series(
        "background",
        "ordinary traffic",
        "Latency of ordinary traffic over time",
    ));
}

/// The time in which it is judged when latency is back to normal.
struct Watched {
    /// The first cut.
    began: Time,
    /// Trouble up to here, and shortly afterwards, is the storm's.
    last_will: Time,
    /// The end of ordinary traffic.
    until: Time,
    /// From one message of ordinary traffic to the next.
    interval: Duration,
}

/// How long after the first cut the 99 % of each interval came near what they were `before`, in nanoseconds, and stayed
/// there until [`NORMAL_FOR`] after the last will.
fn back_to_normal(bins: &[Bin], before: u64, watched: &Watched) -> Duration {
    let limit = (before * NORMAL_FACTOR).max(before + NORMAL_MARGIN.as_nanos() as u64);
    let mut normal_since = watched.began;
    for (from, to) in abnormal(bins, limit, watched) {
        if from < normal_since.max(watched.last_will) + NORMAL_FOR {
            normal_since = normal_since.max(to);
        }
    }
    normal_since - watched.began
}

/// When latency was above `limit`, in nanoseconds: from when to when, by their ends.
fn abnormal(bins: &[Bin], limit: u64, watched: &Watched) -> Vec<(Time, Time)> {
    let mut found = Vec::new();
    let mut seen = watched.began;
    let is_gap = |from: Time, to: Time| to.nanos_since(from) > limit + watched.interval.as_nanos() as u64;
    for bin in bins.iter().filter(|bin| bin.to > watched.began) {
        if is_gap(seen, bin.from) {
            found.push((seen, bin.from)); // Messages were due, and none came in time.
        }
        if bin.p99 > limit {
            // What came so late was under way all the while.
            found.push((bin.from.min(Time(bin.to.0.saturating_sub(bin.max))), bin.to));
        }
        seen = bin.to;
    }
    if is_gap(seen, watched.until) {
        found.push((seen, watched.until));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Intervals of 100 ms, by when they begin and their latency, both in milliseconds.
    fn bins(of: &[(u64, u64)]) -> Vec<Bin> {
        let bin = |&(from, latency): &(u64, u64)| {
            let (from, to, p99) = (Time(from * MS), Time((from + 100) * MS), latency * MS);
            Bin { from, to, count: 1, p50: 0, p99, max: p99 }
        };
        of.iter().map(bin).collect()
    }

    /// Intervals of the same latency, one after another.
    fn steady(from: u64, to: u64, latency: u64) -> Vec<(u64, u64)> {
        (from..to).step_by(100).map(|from| (from, latency)).collect()
    }

    /// When it is normal, that is at most 2 ms; all in milliseconds.
    fn normal_after(of: &[(u64, u64)], began: u64, last_will: u64) -> u128 {
        let [began, last_will, until] = [began, last_will, 4000].map(|ms| Time(ms * MS));
        let watched = Watched { began, last_will, until, interval: Duration::from_millis(1) };
        back_to_normal(&bins(of), MS, &watched).as_millis()
    }

    #[test]
    fn nothing_abnormal_is_normal_at_once() {
        assert_eq!(normal_after(&steady(0, 4000, 2), 1000, 1500), 0);
        let earlier = [steady(0, 1000, 9), steady(1000, 4000, 1)].concat();
        assert_eq!(normal_after(&earlier, 1000, 1500), 0, "what was before the storm is not counted");
    }

    #[test]
    fn trouble_late_in_a_long_storm_counts() {
        let stagger = [steady(0, 200, 9), steady(200, 2000, 1), steady(2000, 2300, 9), steady(2300, 4000, 1)].concat();
        assert_eq!(normal_after(&stagger, 0, 2500), 2300);
        assert_eq!(normal_after(&stagger, 0, 1700), 2300, "it began soon after the last will");
        assert_eq!(normal_after(&stagger, 0, 1000), 200, "what comes half a second later is another story");
    }

    #[test]
    fn trouble_that_lasts_is_followed_to_its_end() {
        let slow = [steady(0, 3000, 9), steady(3000, 4000, 1)].concat();
        assert_eq!(normal_after(&slow, 0, 100), 3000);
    }

    #[test]
    fn a_stall_is_not_normal() {
        let late = [steady(0, 500, 1), vec![(3000, 2500)], steady(3100, 4000, 1)].concat();
        assert_eq!(normal_after(&late, 500, 600), 2600, "what comes late shows it");
        let lost = [steady(0, 500, 1), steady(3000, 4000, 1)].concat();
        assert_eq!(normal_after(&lost, 500, 600), 2500, "nothing came though messages were due");
        assert_eq!(normal_after(&steady(0, 500, 1), 500, 600), 3500, "nothing ever came again");
    }

    #[test]
    fn what_came_late_shows_when_it_began() {
        let late = [steady(0, 2000, 1), vec![(2000, 9)], steady(2100, 4000, 1)].concat();
        assert_eq!(normal_after(&late, 0, 1495), 0);
        let later = [steady(0, 1900, 1), vec![(2000, 900)], steady(2100, 4000, 1)].concat();
        assert_eq!(normal_after(&later, 0, 1495), 2100);
    }

    #[test]
    fn a_curve_ends_at_the_last_and_is_short() {
        let times: Vec<Time> = (0..10_000).map(Time).collect();
        let points = curve("", "", &times).points;
        assert!(points.len() <= POINTS + 1);
        assert_eq!(points.last().unwrap().1, 10_000.0);
    }
}
