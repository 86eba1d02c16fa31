//! How much is logged.

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::problem::Problem;
use crate::admin::{State, extract};

/// How much is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Level {
    /// As log.level: a severity, or directives for modules.
    #[schema(example = "info,willowmq::net=debug", min_length = 1, max_length = 1000)]
    level: String,
}

/// Longest directives.
const BYTES_MAX: usize = 1000;

/// How much is logged now.
#[utoipa::path(
    get,
    path = "/api/v1/log",
    operation_id = "get_log_level",
    tag = "operation",
    responses((status = 200, description = "The level in force.", body = Level))
)]
pub(super) async fn level(Shared(state): Shared<State>) -> Json<Level> {
    Json(Level { level: state.log.level() })
}

/// Logs more or less, until the next start.
#[utoipa::path(
    put,
    path = "/api/v1/log",
    operation_id = "set_log_level",
    tag = "operation",
    request_body = Level,
    responses((status = 200, description = "The level in force from now on.", body = Level))
)]
pub(super) async fn set_level(
    Shared(state): Shared<State>,
    extract::Json(Level { level }): extract::Json<Level>,
) -> Result<Json<Level>, Problem> {
    if level.len() > BYTES_MAX {
        return Err(Problem::refused(format!("level has more than {BYTES_MAX} bytes")));
    }
    state.log.set_level(&level).map_err(Problem::refused)?;
    Ok(Json(Level { level: state.log.level() }))
}
