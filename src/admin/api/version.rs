//! Which broker this is.

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::{State, time};

/// Which broker this is.
#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    /// Always `WillowMQ`.
    #[schema(example = "WillowMQ")]
    name: &'static str,
    /// Its version.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Number of shards.
    #[schema(minimum = 1)]
    shards: usize,
    /// What time it is there.
    #[schema(format = DateTime)]
    time: String,
    /// How long it has been running, in seconds.
    #[schema(minimum = 0)]
    uptime: f64,
}

/// The version of the broker, and how long it has been running.
#[utoipa::path(
    get,
    path = "/api/v1/version",
    operation_id = "get_version",
    tag = "about",
    responses((status = 200, description = "The version.", body = Version))
)]
pub(super) async fn version(Shared(state): Shared<State>) -> Json<Version> {
    Json(Version {
        name: "WillowMQ",
        version: env!("CARGO_PKG_VERSION"),
        shards: state.desk.shards(),
        time: time::text(state.desk.now()),
        uptime: time::seconds(state.desk.plan().clock.since_start()),
    })
}
