//! Answers that go on and on: lines of JSON, one object each (NDJSON).
//!
//! The connection asks for lines when it has room for them, and only then are they fetched. So a reader that is slow, or gone, has nothing
//! that waits for it here; what the shards keep meanwhile is bounded there.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::State;
use super::problem::Problem;

/// The media type of lines of JSON.
pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";

/// The next lines, once there are some.
pub(super) type Lines<'a> = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + 'a>>;

/// What lines come from. It is dropped when the reader has gone.
pub(super) trait Source: Send + 'static {
    /// Waits for more lines; `None` at the end.
    fn next(&mut self) -> Lines<'_>;
}

/// A place among the streams that may be open at a time.
///
/// # Errors
/// There is none.
pub(super) fn place(state: &State) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&state.streams)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable("there are too many streams already"))
}

/// The answer with all lines of `source`, which keeps its `place` until then.
pub(super) fn response(source: impl Source, place: OwnedSemaphorePermit) -> Response {
    let lines = unfold((source, place), |(mut source, place)| async {
        let lines = source.next().await?;
        Some((Ok::<_, Infallible>(lines), (source, place)))
    });
    let fields = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
    let mut response = (fields, Body::from_stream(lines)).into_response();
    response.extensions_mut().insert(GoesOn);
    response
}

/// Marks an answer that goes on and on.
#[derive(Clone)]
struct GoesOn;

/// Whether an answer goes on and on.
pub(super) fn goes_on(response: &Response) -> bool {
    response.extensions().get::<GoesOn>().is_some()
}

/// Appends an object as a line.
pub(super) fn append(lines: &mut Vec<u8>, object: &impl Serialize) {
    // Our own types have nothing that JSON has not.
    if serde_json::to_writer(&mut *lines, object).is_ok() {
        lines.push(b'\n');
    }
}
