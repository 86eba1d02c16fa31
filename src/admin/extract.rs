//! What requests say, taken apart with errors that are problem documents.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::State;
use super::problem::Problem;

/// A body has to be there by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest body of requests that carry no message.
const BYTES_MAX: usize = 1024 * 1024;

/// The parameters in the query of a request.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<State> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

/// The Client Identifier in the path of a request.
pub(super) struct ClientId(pub(super) String);

impl FromRequestParts<State> for ClientId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(client_id)) => Ok(Self(client_id)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

/// A body of JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<State> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        // A form in a page cannot send this type, and a script only to its own host.
        if !is_json(&request) {
            let detail = "a body has to be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        // Base64 and escapes make a payload longer than it is.
        let bytes_max = BYTES_MAX + state.desk.plan().config().limits.packet_bytes_max.saturating_mul(2);
        let body = read(request.into_body(), bytes_max).await?;
        serde_json::from_slice(&body).map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Problem::refused(format!("the body: {error}")),
            _ => Problem::bad_request(format!("the body is no JSON: {error}")),
        })
    }
}

fn is_json(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.map(|value| value.split_once(';').map_or(value, |(media_type, _)| media_type).trim());
    media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

async fn read(body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut parts = body.into_data_stream();
    let whole = async {
        let mut whole = Vec::new();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
            if whole.len() + part.len() > bytes_max {
                let detail = format!("the body has more than {bytes_max} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    };
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body has not come in time");
    timeout(PATIENCE, whole).await.map_err(late)?
}
