//! Drain: clients are handed away before a planned stop.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::problem::Problem;
use crate::admin::{State, extract, time};
use crate::net::drain::Progress;

/// The longest time that a drain may take: a day.
const SECONDS_MAX: u32 = 86_400;

/// How clients are to be handed away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Over how many seconds, evenly. Without it as `drain.over` says.
    #[schema(maximum = 86400)]
    over_seconds: Option<u32>,
}

/// Whether clients are being handed away.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// They are not.
    None,
    /// They are.
    Draining,
}

/// How far a drain has come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DrainProgress {
    state: Stage,
    /// Over how many seconds it is to happen.
    #[schema(required)]
    over_seconds: Option<f64>,
    /// When the last client is to be gone; the broker ends then.
    #[schema(required, format = DateTime)]
    until: Option<String>,
    /// Clients that were connected when it began.
    #[schema(required)]
    clients: Option<usize>,
    /// Those that are left.
    #[schema(required)]
    clients_left: Option<usize>,
    /// What had better be known before it is over.
    #[schema(required)]
    warning: Option<&'static str>,
}

impl From<Option<Progress>> for DrainProgress {
    fn from(progress: Option<Progress>) -> Self {
        let progress = progress.as_ref();
        Self {
            state: if progress.is_some() { Stage::Draining } else { Stage::None },
            over_seconds: progress.map(|progress| time::seconds(progress.over)),
            until: progress.map(|progress| time::text(progress.until)),
            clients: progress.map(|progress| progress.total),
            clients_left: progress.map(|progress| progress.left),
            warning: progress.and_then(|progress| progress.warning),
        }
    }
}

/// Hands all clients away, and stops the broker then. Where that is being done already, only the time changes.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    operation_id = "begin_drain",
    tag = "operation",
    request_body = Order,
    responses((status = 202, description = "It has begun.", body = DrainProgress))
)]
pub(super) async fn begin(
    Shared(state): Shared<State>,
    extract::Json(Order { over_seconds }): extract::Json<Order>,
) -> Result<(StatusCode, Json<DrainProgress>), Problem> {
    if over_seconds.is_some_and(|seconds| seconds > SECONDS_MAX) {
        return Err(Problem::refused(format!("over_seconds has to be {SECONDS_MAX} at most")));
    }
    let progress = state.drain.begin(over_seconds.map(|seconds| Duration::from_secs(seconds.into()))).await?;
    Ok((StatusCode::ACCEPTED, Json(Some(progress).into())))
}

/// How far the drain has come.
#[utoipa::path(
    get,
    path = "/api/v1/drain",
    operation_id = "get_drain",
    tag = "operation",
    responses((status = 200, description = "Its progress, or that there is none.", body = DrainProgress))
)]
pub(super) async fn progress(Shared(state): Shared<State>) -> Result<Json<DrainProgress>, Problem> {
    Ok(Json(state.drain.progress().await?.into()))
}

/// Ends the drain: clients are let in again.
#[utoipa::path(
    delete,
    path = "/api/v1/drain",
    operation_id = "cancel_drain",
    tag = "operation",
    responses(
        (status = 204, description = "Clients are let in again."),
        (status = 404, description = "There is no drain."),
    )
)]
pub(super) async fn cancel(Shared(state): Shared<State>) -> Result<StatusCode, Problem> {
    match state.drain.cancel().await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("there is no drain")),
    }
}
