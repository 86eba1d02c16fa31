//! The routes, a file for each subject, and the document that describes them.
//!
//! A route and its description are one item, so the document has every route there is, and none that is not.

mod certain;
mod clients;
mod document;
mod health;
mod message;
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
        .routes(routes!(version::version))
        .routes(routes!(clients::list))
        .routes(routes!(clients::one))
        .routes(routes!(clients::disconnect))
        .routes(routes!(clients::end_session))
        .routes(routes!(wills::list))
        .routes(routes!(wills::one, wills::discard))
        .routes(routes!(wills::publish))
}

/// The OpenAPI document, as it is sent.
#[derive(Clone)]
struct Document(Bytes);

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
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
