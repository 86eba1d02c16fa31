//! The routes of the HTTP server.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use super::State;

/// All routes.
pub(super) fn router(state: State) -> Router {
    Router::new().route("/health/live", get(live)).with_state(state)
}

/// Whether all shards answer.
async fn live(axum::extract::State(state): axum::extract::State<State>) -> StatusCode {
    match state.desk.ask_all(|_, _| ()).await {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
