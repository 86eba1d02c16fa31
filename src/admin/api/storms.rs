//! Storms: bursts of wills that have passed.

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::problem::Problem;
use crate::admin::{State, time};
use crate::figures::Kinds;
use crate::session::will::Cause;

/// A storm: more wills a second than `wills.storm_threshold_per_second`, on one shard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Storm {
    shard: usize,
    /// When the first will was due.
    #[schema(format = DateTime)]
    begin: String,
    /// From then until the last one was published, in seconds.
    duration: f64,
    /// How many were published.
    wills: u64,
    /// The longest time that one was published after it was due, in seconds.
    lateness_max: f64,
    /// Why the connections had closed.
    causes: Vec<Share>,
}

/// How many wills had a cause.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Share {
    #[schema(example = "keep-alive")]
    cause: &'static str,
    wills: u64,
}

/// Storms, of each shard the last 32.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Storms {
    items: Vec<Storm>,
}

/// The storms since the start, the latest first. One that goes on is not among them.
#[utoipa::path(
    get,
    path = "/api/v1/storms",
    operation_id = "list_storms",
    tag = "wills",
    responses((status = 200, description = "Of each shard the last 32.", body = Storms))
)]
pub(super) async fn list(Shared(state): Shared<State>) -> Result<Json<Storms>, Problem> {
    let of_shards = state.desk.ask_all(|_, shard| shard.storms().copied().collect::<Vec<_>>()).await?;
    let of_shards = of_shards.into_iter().enumerate();
    let mut all: Vec<_> =
        of_shards.flat_map(|(shard, of_shard)| of_shard.into_iter().map(move |it| (shard, it))).collect();
    all.sort_by_key(|(shard, storm)| (std::cmp::Reverse(storm.since), *shard));
    let items = all.into_iter().map(|(shard, storm)| Storm {
        shard,
        begin: time::text(storm.since),
        duration: time::seconds(storm.lasted),
        wills: storm.wills,
        lateness_max: time::seconds(storm.lateness_max),
        causes: shares(&storm.causes),
    });
    Ok(Json(Storms { items: items.collect() }))
}

fn shares(causes: &[u64; Cause::COUNT]) -> Vec<Share> {
    let all = Cause::ALL.iter().map(|cause| Share { cause: cause.as_str(), wills: causes[cause.index()] });
    all.filter(|share| share.wills > 0).collect()
}
