//! Whether the broker is well, for those who restart it and those who send clients to it.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::admin::State;

/// A shard that is well answers within milliseconds, even under full load.
const PATIENCE: Duration = Duration::from_secs(1);

/// How the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// Well.
    Ok,
    /// It takes no new clients, since it is about to end.
    Draining,
    /// What has to be kept cannot be written to the disk, and is refused.
    JournalFailing,
    /// A shard does not answer.
    Stuck,
}

/// How the broker is, and where it is not well, why.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    pub(super) status: Status,
    /// Shards that do not answer.
    silent_shards: Vec<usize>,
    /// Shards whose journal cannot be written.
    failing_journals: Vec<usize>,
}

/// What one shard says of itself.
struct Answer {
    is_journal_failing: bool,
}

/// Whether all shards answer. Where they do not, only a restart helps.
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "get_live",
    tag = "health",
    responses(
        (status = 200, description = "All shards answer.", body = Health),
        (status = 503, description = "One does not.", body = Health),
    )
)]
pub(super) async fn live(Shared(state): Shared<State>) -> (StatusCode, Json<Health>) {
    let health = Health { failing_journals: Vec::new(), ..examine(&state).await };
    let status = if health.silent_shards.is_empty() { Status::Ok } else { Status::Stuck };
    tell(Health { status, ..health })
}

/// Whether clients can be sent here.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "get_ready",
    tag = "health",
    responses(
        (status = 200, description = "Clients are welcome.", body = Health),
        (status = 503, description = "Clients had better go elsewhere; the status says why.", body = Health),
    )
)]
pub(super) async fn ready(Shared(state): Shared<State>) -> (StatusCode, Json<Health>) {
    tell(examine(&state).await)
}

fn tell(health: Health) -> (StatusCode, Json<Health>) {
    let status = if health.status == Status::Ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

pub(super) async fn examine(state: &State) -> Health {
    let ask = |shard| {
        let answer = state.desk.ask(shard, |_, shard| Answer { is_journal_failing: shard.is_journal_failing() });
        timeout(PATIENCE, answer)
    };
    let answers = join_all((0..state.desk.shards()).map(ask)).await;
    let (mut silent_shards, mut failing_journals) = (Vec::new(), Vec::new());
    for (shard, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(Ok(answer)) if answer.is_journal_failing => failing_journals.push(shard),
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => silent_shards.push(shard),
        }
    }
    let status = match (silent_shards.is_empty(), state.drain.is_on(), failing_journals.is_empty()) {
        (false, _, _) => Status::Stuck,
        (true, true, _) => Status::Draining,
        (true, false, false) => Status::JournalFailing,
        (true, false, true) => Status::Ok,
    };
    Health { status, silent_shards, failing_journals }
}
