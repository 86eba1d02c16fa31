//! The broker on one screen.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use super::health::{Status, examine};
use crate::admin::problem::Problem;
use crate::admin::report::{Report, collect};
use crate::admin::{State, time};
use crate::figures::Histogram;
use crate::net::ShardReport;

/// The broker at a moment. What counts, counts since the start: a rate is the difference of two overviews by that of their uptimes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    #[schema(example = "0.1.0")]
    version: &'static str,
    state: Status,
    /// How long the broker has been running, in seconds.
    #[schema(minimum = 0)]
    uptime: f64,
    totals: Figures,
    /// Each by itself. They are of turns of their own, so their sums may differ by what was on its way.
    shards: Vec<Shard>,
}

/// What is there, and what has been counted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Figures {
    connections: u64,
    sessions: u64,
    /// All members of a Shared Subscription are one.
    subscriptions: u64,
    retained: u64,
    retained_bytes: u64,
    queued_messages: u64,
    queued_bytes: u64,
    connects_accepted: u64,
    connects_refused: u64,
    messages_received: u64,
    messages_sent: u64,
    messages_dropped: u64,
    bytes_received: u64,
    bytes_sent: u64,
    /// Requests to this API that were turned away, since nobody knows who sent them or they may not.
    http_requests_refused: u64,
    wills: Wills,
}

/// Where wills stand, and what has become of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Wills {
    armed: u64,
    pending: u64,
    due: u64,
    held: u64,
    published: u64,
    discarded: u64,
    denied: u64,
    storms: u64,
    /// 99 of 100 wills were published no later than so many seconds after they were due.
    lateness_p99: f64,
    /// The longest time that one was published after it was due, in seconds.
    lateness_max: f64,
}

/// One shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shard {
    shard: usize,
    connections: u64,
    sessions: u64,
    messages_received: u64,
    messages_sent: u64,
    /// 99 of 100 turns took no longer, in seconds.
    turn_p99: f64,
    /// Seconds that it has spent in turns.
    busy: f64,
    /// Turns that took longer than 100 ms.
    stalls: u64,
    /// Letters of other shards that wait.
    mesh_waiting: u64,
    /// Bytes that wait for the disk.
    journal_backlog_bytes: u64,
    /// Whether its journal cannot be written.
    is_journal_failing: bool,
}

/// What there is, and what has been counted.
#[utoipa::path(
    get,
    path = "/api/v1/overview",
    operation_id = "get_overview",
    tag = "about",
    responses((status = 200, description = "The broker at this moment.", body = Overview))
)]
pub(super) async fn overview(Shared(state): Shared<State>) -> Result<Json<Overview>, Problem> {
    let report = collect(&state.desk).await?;
    let status = examine(&state).await.status;
    Ok(Json(Overview {
        version: env!("CARGO_PKG_VERSION"),
        state: status,
        uptime: time::seconds(report.uptime),
        totals: totals(&report, state.access.refused()),
        shards: report.shards.iter().map(shard).collect(),
    }))
}

fn totals(report: &Report, http_requests_refused: u64) -> Figures {
    let mut lateness = Histogram::default();
    report.shards.iter().for_each(|shard| lateness.add(&shard.stats.wills.lateness));
    Figures {
        connections: report.held(|population| population.connections),
        sessions: report.held(|population| population.sessions),
        subscriptions: report.held(|population| population.subscriptions),
        retained: report.held(|population| population.retained),
        retained_bytes: report.held(|population| population.retained_bytes),
        queued_messages: report.held(|population| population.queued.messages),
        queued_bytes: report.held(|population| population.queued.bytes),
        connects_accepted: report.counted(|stats| stats.connects_accepted),
        connects_refused: report.counted(|stats| stats.connects_refused.total()),
        messages_received: report.counted(|stats| stats.received.total().count),
        messages_sent: report.counted(|stats| stats.sent.total().count),
        messages_dropped: report.counted(|stats| stats.dropped.total()),
        bytes_received: report.sum(|shard| shard.counters.bytes_received),
        bytes_sent: report.sum(|shard| shard.counters.bytes_sent),
        http_requests_refused,
        wills: Wills {
            armed: report.counted(|stats| stats.wills.armed_now),
            pending: report.counted(|stats| stats.wills.pending_now),
            due: report.held(|population| population.due_wills),
            held: report.held(|population| population.held_wills),
            published: report.counted(|stats| stats.wills.published_total()),
            discarded: report.counted(|stats| stats.wills.discarded_total()),
            denied: report.counted(|stats| stats.wills.denied),
            storms: report.counted(|stats| stats.wills.storms),
            lateness_p99: seconds(percentile(&lateness)),
            lateness_max: seconds(lateness.max()),
        },
    }
}

fn shard(report: &ShardReport) -> Shard {
    let journal = report.journal.as_ref();
    Shard {
        shard: report.shard,
        connections: report.population.connections as u64,
        sessions: report.population.sessions as u64,
        messages_received: report.stats.received.total().count,
        messages_sent: report.stats.sent.total().count,
        turn_p99: seconds(percentile(&report.turns.durations)),
        busy: seconds(report.turns.durations.sum()),
        stalls: report.turns.stalls,
        mesh_waiting: report.letters_waiting as u64,
        journal_backlog_bytes: journal.map_or(0, |journal| journal.backlog_bytes as u64),
        is_journal_failing: journal.is_some_and(|journal| journal.is_failing),
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// A bound that 99 of 100 values are not above, as fine as the buckets are.
fn percentile<const UNIT: u64, const BUCKETS: usize>(histogram: &Histogram<UNIT, BUCKETS>) -> u64 {
    let enough = histogram.count() - histogram.count() / 100;
    let bucket = histogram.cumulative().find(|(_, count)| *count >= enough);
    bucket.map_or(histogram.max(), |(bound, _)| bound.min(histogram.max()))
}
