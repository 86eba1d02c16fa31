//! Publishing on an operator's word.

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::certain::wait;
use super::message::{Publish, Ready, topic_name};
use crate::admin::State;
use crate::admin::extract;
use crate::admin::guard::Subject;
use crate::admin::problem::Problem;
use crate::codec::{Forwarded, ReasonCode};
use crate::shard::Shard;
use crate::shard::inspect::{OperatorMessage, PublishRefusal};
use crate::timer::Moment;

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Published {
    /// Whether anybody subscribes to its topic.
    pub(super) matched: bool,
}

/// Publishes a message. It obeys the limits that clients have, and no rights.
#[utoipa::path(
    post,
    path = "/api/v1/publish",
    operation_id = "publish",
    tag = "messages",
    request_body = Publish,
    responses(
        (status = 200, description = "It is published, and what is to be kept of it is kept.", body = Published),
        (status = 409, description = "It was to be retained, and as many messages are retained as may be, or none may be."),
    )
)]
pub(super) async fn post(
    Shared(state): Shared<State>,
    extract::Json(message): extract::Json<Publish>,
) -> Result<Response, Problem> {
    let (topic, retain) = (message.topic.clone(), message.retain);
    let ready = message.ready()?;
    let published = publish(&state, topic.clone(), ready, retain).await?;
    let mut response = axum::Json(published).into_response();
    response.extensions_mut().insert(Subject(topic));
    Ok(response)
}

/// Publishes a message, and waits until what is to be kept of it is kept.
///
/// # Errors
/// A limit, or the disk.
pub(super) async fn publish(state: &State, topic: String, ready: Ready, retain: bool) -> Result<Published, Problem> {
    topic_name("topic", &topic)?;
    // The shard that keeps what is retained of the topic publishes the message, so that everybody sees those of one topic in one order.
    let home = state.desk.home_of(&topic);
    let job = move |now: Moment, shard: &mut Shard| {
        let message = OperatorMessage {
            topic: &topic,
            payload: &ready.payload,
            forwarded: Forwarded::from_encoded(&ready.forwarded),
            qos: ready.qos,
            retain,
            message_expiry_interval: ready.message_expiry_interval,
        };
        let published = shard.publish_for_operator(now, &message)?;
        let leaves_nothing = ready.payload.is_empty() || ready.message_expiry_interval == Some(0);
        let is_kept = leaves_nothing || shard.retained_message(now, &topic).is_some();
        Ok::<_, PublishRefusal>((published, is_kept))
    };
    let (published, is_kept) = state.desk.ask(home, job).await?.map_err(problem)?;
    wait(state, home, published.receipt).await?;
    match retain && !is_kept {
        true => Err(Problem::conflict(
            "it is published, and not retained: see limits.retained_messages_max and limits.retained_bytes_max",
        )),
        false => Ok(Published { matched: published.matched }),
    }
}

fn problem(refusal: PublishRefusal) -> Problem {
    match refusal.reason {
        ReasonCode::QuotaExceeded => Problem::unavailable(refusal.to_string()),
        ReasonCode::RetainNotSupported => Problem::conflict(refusal.to_string()),
        _ => Problem::refused(refusal.to_string()),
    }
}
