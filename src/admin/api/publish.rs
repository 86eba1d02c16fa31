//! Publishing on an operator's word.

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::certain::wait;
use super::message::{Publish, Ready, topic_to_publish};
use crate::admin::State;
use crate::admin::extract;
use crate::admin::guard::Subject;
use crate::admin::problem::Problem;
use crate::codec::Forwarded;
use crate::shard::Announcement;
use crate::topic::TopicName;

/// Bytes of a PUBLISH beside topic, properties and payload, at most.
const HEADER_BYTES: usize = 16;

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
    let config = state.desk.plan().config();
    let name = topic_to_publish(&topic)?;
    check_limits(&config.limits, name, &ready)?;
    if retain && !config.features.retain {
        return Err(Problem::conflict("messages cannot be retained: features.retain is false"));
    }
    // The shard that keeps what is retained of the topic publishes the message, so that everybody sees those of one topic in one order.
    let home = state.desk.home_of(&topic);
    let (published, receipt) = state
        .desk
        .ask(home, move |now, shard| {
            let topic = TopicName::parse(&topic).expect("it was checked above");
            let announcement = Announcement {
                topic,
                payload: &ready.payload,
                forwarded: Forwarded::from_encoded(&ready.forwarded),
                qos: ready.qos,
                retain,
                message_expiry_interval: ready.message_expiry_interval,
                is_volatile: false,
            };
            let matched = shard.publish_as_broker(now, &announcement);
            let receipt = shard.receipt();
            let expires_at_once = ready.message_expiry_interval == Some(0);
            let is_kept =
                ready.payload.is_empty() || expires_at_once || shard.retained_message(now, topic.as_str()).is_some();
            (matched.map(|matched| (matched, is_kept)), receipt)
        })
        .await?;
    let (matched, is_kept) =
        published.map_err(|_| Problem::unavailable("the journal cannot be written, and the message has to be kept"))?;
    wait(state, home, receipt).await?;
    match retain && !is_kept {
        true => Err(Problem::conflict(
            "it is published, and not retained: see limits.retained_messages_max and limits.retained_bytes_max",
        )),
        false => Ok(Published { matched }),
    }
}

/// What holds for clients holds for operators.
fn check_limits(limits: &crate::config::Limits, topic: TopicName<'_>, ready: &Ready) -> Result<(), Problem> {
    let (text, levels) = (topic.as_str(), topic.as_str().split('/').count());
    if levels > usize::from(limits.topic_levels_max) {
        return Err(Problem::refused(format!(
            "the topic has more levels than limits.topic_levels_max ({})",
            limits.topic_levels_max
        )));
    }
    if text.len() > usize::from(limits.topic_bytes_max) {
        return Err(Problem::refused(format!(
            "the topic is longer than limits.topic_bytes_max ({})",
            limits.topic_bytes_max
        )));
    }
    if HEADER_BYTES + text.len() + ready.forwarded.len() + ready.payload.len() > limits.packet_bytes_max {
        return Err(Problem::refused(format!(
            "the message is larger than limits.packet_bytes_max ({})",
            limits.packet_bytes_max
        )));
    }
    if ready.qos as u8 > limits.maximum_qos {
        return Err(Problem::refused(format!("the QoS is higher than limits.maximum_qos ({})", limits.maximum_qos)));
    }
    Ok(())
}
