//! The routes of the HTTP server.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{State, metrics};

/// All routes.
pub(super) fn router(state: State) -> Router {
    Router::new().route("/health/live", get(live)).route("/metrics", get(metrics)).with_state(state)
}

/// Whether all shards answer.
async fn live(axum::extract::State(state): axum::extract::State<State>) -> StatusCode {
    match state.desk.ask_all(|_, _| ()).await {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What Prometheus reads.
async fn metrics(axum::extract::State(state): axum::extract::State<State>) -> Response {
    match metrics::text(&state.desk).await {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(silent) => (StatusCode::SERVICE_UNAVAILABLE, silent.to_string()).into_response(),
    }
}
