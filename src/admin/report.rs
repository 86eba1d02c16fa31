//! The broker at a moment: a report of each shard, and what belongs to none of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::net::desk::{Desk, Silent};
use crate::net::{GateFigures, ShardReport, Totals};
use crate::shard::{Population, Stats};

/// What the broker has counted, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// By shard. Each is of a turn of its own, so numbers of several shards may differ by what was on its way.
    pub(crate) shards: Vec<ShardReport>,
    /// Who was let in and who was not, before any shard had to do with it.
    pub(crate) gate: GateFigures,
    /// What the authenticators of all listeners have said.
    pub(crate) authentications: Totals,
    /// HTTP requests turned away, for want of a token or since they come from a page of somebody else.
    pub(crate) requests_refused: u64,
    /// Connections to the HTTP server that had to make room for others.
    pub(crate) http_connections_given_up: u64,
    /// `memory_limit` in bytes.
    pub(crate) memory_limit: u64,
    /// Since the start.
    pub(crate) uptime: Duration,
}

impl Report {
    /// The sum of something over all shards.
    pub(crate) fn sum(&self, of: impl Fn(&ShardReport) -> u64) -> u64 {
        self.shards.iter().map(of).sum()
    }

    /// The sum of something that the state machines count.
    pub(crate) fn counted(&self, of: impl Fn(&Stats) -> u64) -> u64 {
        self.sum(|shard| of(&shard.stats))
    }

    /// The sum of something that the shards hold.
    pub(crate) fn held(&self, of: impl Fn(&Population) -> usize) -> u64 {
        self.sum(|shard| of(&shard.population) as u64)
    }
}

/// Asks all shards, each for a copy of its figures: that takes a moment of one of its turns, however much it holds.
///
/// # Errors
/// A shard does not answer.
pub(crate) async fn collect(desk: &Desk) -> Result<Report, Silent> {
    let shards = desk.ask_all_workers(|_, worker| ShardReport::of(worker)).await?;
    let plan = desk.plan();
    Ok(Report {
        shards,
        gate: plan.gate.figures(),
        authentications: plan.authentication.totals(),
        requests_refused: plan.access.as_ref().map_or(0, |access| access.refused()),
        http_connections_given_up: plan.access.as_ref().map_or(0, |access| access.given_up()),
        memory_limit: plan.memory_limit.load(Ordering::Relaxed),
        uptime: plan.clock.since_start(),
    })
}
