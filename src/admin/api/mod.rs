//! The routes, a file for each subject, and the document that describes them.
//!
//! A route and its description are one item, so the document has every route there is, and none that is not.

mod certain;
mod clients;
mod config;
mod document;
mod drain;
mod health;
mod holds;
mod log;
mod message;
mod messages;
mod metrics;
mod overview;
mod publish;
mod reload;
mod retained;
mod storms;
mod subscriptions;
mod trace;
mod version;
mod wills;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::guard::guard;
use super::problem::Problem;

/// All routes.
pub(super) fn router(state: State) -> Router {
    let (routes, document) = documented().split_for_parts();
    let document = document::complete(document, &state.access);
    // Nothing in it can fail to be written.
    let document = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let guard = from_fn_with_state(state.clone(), guard);
    routes
        .layer(axum::Extension(Document(document)))
        .fallback(nothing_there)
        .method_not_allowed_fallback(not_like_that)
        .layer(guard)
        .with_state(state)
}

fn documented() -> OpenApiRouter<State> {
    OpenApiRouter::with_openapi(document::beginning())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(openapi))
        .routes(routes!(metrics::text))
        .routes(routes!(version::version))
        .routes(routes!(config::config))
        .routes(routes!(overview::overview))
        .routes(routes!(reload::reload))
        .routes(routes!(drain::progress, drain::begin, drain::cancel))
        .routes(routes!(log::level, log::set_level))
        .routes(routes!(clients::list))
        .routes(routes!(clients::one))
        .routes(routes!(clients::disconnect))
        .routes(routes!(clients::end_session))
        .routes(routes!(wills::list))
        .routes(routes!(wills::one, wills::discard))
        .routes(routes!(wills::publish))
        .routes(routes!(holds::list, holds::add))
        .routes(routes!(holds::release))
        .routes(routes!(storms::list))
        .routes(routes!(subscriptions::list))
        .routes(routes!(retained::list))
        .routes(routes!(retained::one, retained::put, retained::delete))
        .routes(routes!(publish::post))
        .routes(routes!(messages::watch))
        .routes(routes!(trace::trace))
}

/// The OpenAPI document, as it is sent.
#[derive(Clone)]
struct Document(Bytes);

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "get_document",
    tag = "about",
    responses((status = 200, description = "The document (OpenAPI 3.1).", body = serde_json::Value))
)]
async fn openapi(axum::Extension(Document(document)): axum::Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document)
}

async fn nothing_there(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}; see /openapi.json", request.uri().path()))
}

async fn not_like_that(request: Request) -> Problem {
    let detail = format!("{} is not for {}; see /openapi.json", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
