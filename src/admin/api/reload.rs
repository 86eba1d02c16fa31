//! Settings and files, read again while the broker runs.

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::config::json;
use crate::admin::State;
use crate::admin::problem::Problem;
use crate::config;

/// A setting that is another one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Change {
    /// Its key; of an item of a list that came or went, that of the item.
    #[schema(example = "limits.packet_bytes_max")]
    key: String,
    /// What it was, `null` for unset.
    #[schema(required)]
    old: Option<Value>,
    /// What it is.
    #[schema(required)]
    new: Option<Value>,
}

impl From<config::Change> for Change {
    fn from(change: config::Change) -> Self {
        let [old, new] = [change.old, change.new].map(|value| value.as_deref().map(json));
        Self { key: change.key, old, new }
    }
}

/// What a reload has done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reloaded {
    /// Settings that are others now.
    changed: Vec<Change>,
    /// Settings that will be others from the next start on.
    needs_restart: Vec<Change>,
    /// Files that were read again, by what they are.
    #[schema(example = json!(["rights"]))]
    reloaded: Vec<String>,
}

/// Reads the settings and all files again, as a hangup does: all of them or, where something is wrong, none.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    operation_id = "reload",
    tag = "operation",
    responses(
        (status = 200, description = "What has changed.", body = Reloaded),
        (status = 422, description = "Something is wrong with them, and everything is as it was."),
    )
)]
pub(super) async fn reload(Shared(state): Shared<State>) -> Result<Json<Reloaded>, Problem> {
    let reloader = state.reloader.clone();
    // It waits for files, and for shards that take new settings over, so it must not keep others who ask.
    let outcome = tokio::task::spawn_blocking(move || reloader.reload_settings()).await;
    let outcome = outcome.map_err(|_| Problem::unavailable("the broker is about to end"))?;
    let outcome = outcome.map_err(Problem::refused)?;
    Ok(Json(Reloaded {
        changed: outcome.changed.into_iter().map(Change::from).collect(),
        needs_restart: outcome.needs_restart.into_iter().map(Change::from).collect(),
        reloaded: outcome.reloaded,
    }))
}
