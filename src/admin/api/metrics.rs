//! `/metrics`: what Prometheus reads.

use axum::extract::State as Shared;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::admin::problem::Problem;
use crate::admin::{State, metrics};

/// All metrics, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "about",
    responses((status = 200, description = "The metrics, in the text format of Prometheus.", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(Shared(state): Shared<State>) -> Result<impl IntoResponse, Problem> {
    let text = metrics::text(&state.desk).await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text))
}
