//! What the text looks like, from reports that are made up.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::codec::PacketKind;
use crate::figures::Tally;
use crate::net::{GateFigures, ShardReport, Totals, TurnedAway};
use crate::session::will::Cause;
use crate::shard::DropReason;

fn report(shards: Vec<ShardReport>) -> Report {
    let mut turned_away = Tally::default();
    turned_away[TurnedAway::Banned] = 3;
    let gate = GateFigures {
        connections: 5,
        connections_max: 1000,
        turned_away,
        listener_pauses: 0,
        failures: 0,
        bans: 1,
        memory_peak_bytes: 1 << 20,
    };
    let authentications = Totals { granted: 7, ..Totals::default() };
    Report {
        shards,
        gate,
        authentications,
        requests_refused: 0,
        http_connections_given_up: 0,
        memory_limit: 1 << 30,
        uptime: Duration::from_millis(1500),
    }
}

fn shard(number: usize) -> ShardReport {
    ShardReport { shard: number, ..ShardReport::default() }
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

#[test]
fn a_number_of_a_shard_has_its_label_and_one_of_the_broker_none() {
    let mut one = shard(1);
    one.stats.dropped[DropReason::QueueFull] = 4;
    one.stats.packets_received[PacketKind::Pingreq] = 9;
    one.stats.wills.published[Cause::KeepAlive] = 2;
    let text = encode(&report(vec![shard(0), one]));
    for line in [
        "willowmq_shards 2",
        "willowmq_uptime_seconds 1.5",
        "willowmq_bans_total 1",
        "willowmq_gate_turned_away_total{reason=\"banned\"} 3",
        "willowmq_authentications_total{outcome=\"granted\"} 7",
        "willowmq_messages_dropped_total{shard=\"0\",reason=\"queue-full\"} 0",
        "willowmq_messages_dropped_total{shard=\"1\",reason=\"queue-full\"} 4",
        "willowmq_packets_received_total{shard=\"1\",type=\"PINGREQ\"} 9",
        "willowmq_wills_published_total{shard=\"1\",cause=\"keep-alive\"} 2",
    ] {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_histogram_is_in_seconds_and_cumulative() {
    let mut one = shard(0);
    for micros in [900, 1500, 200_000_000] {
        one.stats.wills.lateness.note(micros);
    }
    let text = encode(&report(vec![one]));
    for line in [
        "willowmq_will_lateness_seconds_bucket{shard=\"0\",le=\"0.001\"} 1",
        "willowmq_will_lateness_seconds_bucket{shard=\"0\",le=\"0.002\"} 2",
        "willowmq_will_lateness_seconds_bucket{shard=\"0\",le=\"65.536\"} 2",
        "willowmq_will_lateness_seconds_bucket{shard=\"0\",le=\"+Inf\"} 3",
        "willowmq_will_lateness_seconds_count{shard=\"0\"} 3",
        "willowmq_will_lateness_seconds_sum{shard=\"0\"} 200.0024",
        "willowmq_will_lateness_max_seconds{shard=\"0\"} 200",
    ] {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
}

#[test]
fn without_a_journal_there_are_no_metrics_of_one() {
    let with = ShardReport { journal: Some(crate::net::JournalFigures::default()), ..shard(0) };
    assert!(encode(&report(vec![with])).contains("willowmq_journal_failing"));
    assert!(!encode(&report(vec![shard(0)])).contains("willowmq_journal_failing"));
}

#[test]
fn names_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for metric in metrics() {
        let Metric { name, help, labels, .. } = *metric;
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("willowmq_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == prometheus::proto::MetricType::COUNTER, "{name}");
        assert!(help.ends_with('.'), "{name}: its help is a sentence");
        assert!(!help.contains(['|', '\n']), "{name}: its help stands in a table");
        assert!(!labels.contains(&"shard") && !labels.contains(&"le"), "{name}");
    }
}
