//! Retained messages: browsed, one in full, set and deleted.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::certain::certain;
use super::message::{Carried, Retain, topic_name};
use super::publish;
use crate::admin::extract::{self, Params};
use crate::admin::page::{self, Cursor, Page, Slice};
use crate::admin::problem::Problem;
use crate::admin::{State, time};
use crate::session::message::Kind;
use crate::shard::inspect::RetainedSummary;
use crate::topic::{self, TopicFilter};

/// What published a retained message.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// A client, or an operator.
    Message,
    /// The will of a client.
    Will,
    /// The broker itself, about itself: it is gone after a restart.
    Broker,
}

impl From<Kind> for Source {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Ordinary => Self::Message,
            Kind::Will => Self::Will,
            Kind::Volatile => Self::Broker,
        }
    }
}

/// A retained message in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Retained {
    topic: String,
    #[schema(maximum = 2)]
    qos: u8,
    payload_bytes: usize,
    /// When it expires; `null`: never.
    #[schema(required, format = DateTime)]
    expires: Option<String>,
    source: Source,
}

impl From<RetainedSummary> for Retained {
    fn from(message: RetainedSummary) -> Self {
        Self {
            topic: message.topic.into(),
            qos: message.qos as u8,
            payload_bytes: message.payload_bytes,
            expires: message.expires.map(time::text),
            source: message.kind.into(),
        }
    }
}

/// A retained message in full.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetainedInFull {
    topic: String,
    #[schema(maximum = 2)]
    qos: u8,
    /// When it expires; `null`: never.
    #[schema(required, format = DateTime)]
    expires: Option<String>,
    source: Source,
    #[serde(flatten)]
    carried: Carried,
}

/// Which retained messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those whose topics match this Topic Filter. Without one, all whose topics do not begin with `$`.
    #[param(nullable = false, min_length = 1)]
    filter: Option<String>,
    /// Most items of the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(nullable = false)]
    after: Option<String>,
}

/// Which retained message.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// Its topic.
    #[param(min_length = 1)]
    topic: String,
}

/// The retained messages that there are, without their payloads.
#[utoipa::path(
    get,
    path = "/api/v1/retained",
    operation_id = "list_retained",
    tag = "messages",
    params(Which),
    responses((status = 200, description = "A page of them, of each shard in the order of their topics.", body = Page<Retained>))
)]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Params(which): Params<Which>,
) -> Result<Json<Page<Retained>>, Problem> {
    let (desk, limit) = (&state.desk, page::limit(which.limit)?);
    let from = Cursor::parse(which.after.as_deref(), desk.shards())?;
    let filter = TopicFilter::parse(which.filter.as_deref().unwrap_or("#"))
        .map_err(|error| Problem::bad_request(format!("filter is no Topic Filter: {error}")))?;
    let page = page::collect(desk, from, limit, move |now, shard, place, at_most| {
        let mut slice = Slice { items: Vec::new(), next: Some(place.to_owned()) };
        let mut left = page::EXAMINE;
        while let Some(place) = slice.next.take() {
            if left == 0 || slice.items.len() >= at_most {
                slice.next = Some(place);
                break;
            }
            // No more topics than there is room for what is found among them.
            let topics = left.min(at_most - slice.items.len());
            left -= topics;
            let cursor = (!place.is_empty()).then(|| topic::Cursor::new(&place));
            let page = shard.retained_page(now, &filter, cursor.as_ref(), topics);
            slice.items.extend(page.items.into_iter().map(Retained::from));
            slice.next = page.next.map(|cursor| cursor.as_str().to_owned());
        }
        slice
    });
    page.await.map(Json)
}

/// A retained message.
#[utoipa::path(
    get,
    path = "/api/v1/retained/message",
    operation_id = "get_retained",
    tag = "messages",
    params(Of),
    responses(
        (status = 200, description = "The message.", body = RetainedInFull),
        (status = 404, description = "The topic has none."),
        (status = 422, description = "It is no Topic Name."),
    )
)]
pub(super) async fn one(
    Shared(state): Shared<State>,
    Params(Of { topic }): Params<Of>,
) -> Result<Json<RetainedInFull>, Problem> {
    topic_name("topic", &topic)?;
    let (home, none) = (state.desk.home_of(&topic), none(&topic));
    let message = state.desk.ask(home, move |now, shard| shard.retained_message(now, &topic)).await?;
    let message = message.ok_or_else(|| Problem::not_found(none))?;
    Ok(Json(RetainedInFull {
        topic: message.topic().to_owned(),
        qos: message.qos as u8,
        expires: message.expires.map(time::text),
        source: message.kind.into(),
        carried: Carried::new(message.forwarded(), message.payload()),
    }))
}

/// Publishes a message that is retained.
#[utoipa::path(
    put,
    path = "/api/v1/retained/message",
    operation_id = "set_retained",
    tag = "messages",
    params(Of),
    request_body = Retain,
    responses(
        (status = 204, description = "It is published and retained."),
        (status = 409, description = "As many messages are retained as may be, or none may be."),
    )
)]
pub(super) async fn put(
    Shared(state): Shared<State>,
    Params(Of { topic }): Params<Of>,
    extract::Json(message): extract::Json<Retain>,
) -> Result<StatusCode, Problem> {
    let ready = message.ready()?;
    if ready.payload.is_empty() {
        return Err(Problem::refused("an empty message is not retained; DELETE removes one that is"));
    }
    publish::publish(&state, topic, ready, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a retained message. Nobody is sent anything about it; to tell those who have subscribed, publish an empty one.
#[utoipa::path(
    delete,
    path = "/api/v1/retained/message",
    operation_id = "delete_retained",
    tag = "messages",
    params(Of),
    responses(
        (status = 204, description = "It is removed."),
        (status = 404, description = "The topic has none."),
        (status = 422, description = "It is no Topic Name, or one that belongs to the broker."),
    )
)]
pub(super) async fn delete(
    Shared(state): Shared<State>,
    Params(Of { topic }): Params<Of>,
) -> Result<StatusCode, Problem> {
    if topic_name("topic", &topic)?.is_reserved() {
        return Err(Problem::refused("topics that begin with $ are the broker's own"));
    }
    let (home, none) = (state.desk.home_of(&topic), none(&topic));
    let outcome = state.desk.ask(home, move |now, shard| shard.remove_retained(now, &topic)).await?;
    certain(&state, home, outcome, &none).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn none(topic: &str) -> String {
    format!("there is no retained message of {topic:?}")
}
