//! Wills: which there are and where they stand; one is published or discarded.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::certain::certain;
use super::message::Carried;
use crate::admin::extract::{ClientId, Params};
use crate::admin::page::{self, Cursor, Page};
use crate::admin::problem::Problem;
use crate::admin::{State, time};
use crate::session::will::Closing;
use crate::shard::WillFate;
use crate::shard::inspect::{WillDetail, WillFilter, WillPhase, WillSummary};

/// What is to become of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// It is published when it is due.
    Publish,
    /// Nobody is ever sent it.
    Discard,
}

impl From<Fate> for WillFate {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Publish => Self::Publish,
            Fate::Discard => Self::Discard,
        }
    }
}

/// Where a will stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Its client is connected.
    Armed,
    /// Its client is gone, and its due time lies ahead.
    Pending,
    /// Its time has come, and it stands in the line.
    Due,
    /// Its time has come, and a hold keeps it back.
    Held,
}

impl From<WillPhase> for Stage {
    fn from(phase: WillPhase) -> Self {
        match phase {
            WillPhase::Armed => Self::Armed,
            WillPhase::Pending => Self::Pending,
            WillPhase::Due => Self::Due,
            WillPhase::Held => Self::Held,
        }
    }
}

impl From<Stage> for WillPhase {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Armed => Self::Armed,
            Stage::Pending => Self::Pending,
            Stage::Due => Self::Due,
            Stage::Held => Self::Held,
        }
    }
}

/// How a connection ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ending {
    /// Why, in a word of docs/WILLS.md.
    #[schema(example = "keep-alive")]
    cause: &'static str,
    #[schema(format = DateTime)]
    at: String,
    /// When the client had last sent something.
    #[schema(format = DateTime)]
    last_packet: String,
    /// The broker went down before the will was published, and found it in its journal.
    is_recovered: bool,
}

impl From<Closing> for Ending {
    fn from(closing: Closing) -> Self {
        Self {
            cause: closing.cause.as_str(),
            at: time::text(closing.at),
            last_packet: time::text(closing.last_packet),
            is_recovered: closing.is_recovered,
        }
    }
}

/// A will.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Will {
    client_id: String,
    #[schema(required)]
    username: Option<String>,
    /// Number of the listener that its client came in by.
    listener: u16,
    state: Stage,
    topic: String,
    #[schema(maximum = 2)]
    qos: u8,
    retain: bool,
    payload_bytes: usize,
    /// Its Will Delay Interval, in seconds.
    delay_interval: u32,
    #[schema(required)]
    message_expiry_seconds: Option<u32>,
    /// When it is due, or was; `null` while it is armed.
    #[schema(required, format = DateTime)]
    due: Option<String>,
    /// How the connection of its client ended; `null` while it is armed.
    #[schema(required)]
    closing: Option<Ending>,
}

impl From<WillSummary> for Will {
    fn from(will: WillSummary) -> Self {
        Self {
            client_id: will.client_id.to_string(),
            username: will.username.map(|name| name.to_string()),
            listener: will.listener,
            state: will.phase.into(),
            topic: will.topic.into(),
            qos: will.qos as u8,
            retain: will.retain,
            payload_bytes: will.payload_bytes,
            delay_interval: will.delay_interval,
            message_expiry_seconds: will.message_expiry_interval,
            due: will.due.map(time::text),
            closing: will.closing.map(Ending::from),
        }
    }
}

/// A will, and the message that it will be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WillInFull {
    #[serde(flatten)]
    will: Will,
    message: Carried,
}

impl From<WillDetail> for WillInFull {
    fn from(detail: WillDetail) -> Self {
        let message = Carried::new(detail.message.forwarded(), detail.message.payload());
        Self { will: detail.summary.into(), message }
    }
}

/// Which wills.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those that stand there.
    #[param(inline, nullable = false)]
    state: Option<Stage>,
    /// Only those of clients with such an identifier; `*` stands for anything.
    #[param(nullable = false)]
    client_id: Option<String>,
    /// Most items of the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(nullable = false)]
    after: Option<String>,
}

/// The wills that there are.
#[utoipa::path(
    get,
    path = "/api/v1/wills",
    operation_id = "list_wills",
    tag = "wills",
    params(Which),
    responses((status = 200, description = "A page of them.", body = Page<Will>))
)]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Params(which): Params<Which>,
) -> Result<Json<Page<Will>>, Problem> {
    let (desk, limit) = (&state.desk, page::limit(which.limit)?);
    let from = Cursor::parse(which.after.as_deref(), desk.shards())?;
    let filter = WillFilter { phase: which.state.map(WillPhase::from), client_id: which.client_id.map(Into::into) };
    let page = page::collect(desk, from, limit, move |_, shard, place, at_most| {
        page::examine(place, at_most, |slot, slots| shard.wills(slot, slots, &filter)).map(Will::from)
    });
    page.await.map(Json)
}

/// One will.
#[utoipa::path(
    get,
    path = "/api/v1/wills/{client_id}",
    operation_id = "get_will",
    tag = "wills",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1)),
    responses(
        (status = 200, description = "The will of the client.", body = WillInFull),
        (status = 404, description = "The client has none."),
    )
)]
pub(super) async fn one(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
) -> Result<Json<WillInFull>, Problem> {
    let (home, none) = (state.desk.home_of(&client_id), none(&client_id));
    let will = state.desk.ask(home, move |_, shard| shard.will(&client_id)).await?;
    will.map(|will| Json(will.into())).ok_or_else(|| Problem::not_found(none))
}

/// Publishes a will at once, whatever its delay and whatever holds it back. A client that is connected has none from then on.
#[utoipa::path(
    post,
    path = "/api/v1/wills/{client_id}/publish",
    operation_id = "publish_will",
    tag = "wills",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1)),
    responses(
        (status = 204, description = "It is published."),
        (status = 404, description = "The client has none."),
    )
)]
pub(super) async fn publish(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
) -> Result<StatusCode, Problem> {
    let (home, none) = (state.desk.home_of(&client_id), none(&client_id));
    let outcome = state.desk.ask(home, move |now, shard| shard.publish_will_now(now, &client_id)).await?;
    certain(&state, home, outcome, &none).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Discards a will, wherever it stands. A client that is connected has none from then on.
#[utoipa::path(
    delete,
    path = "/api/v1/wills/{client_id}",
    operation_id = "discard_will",
    tag = "wills",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1)),
    responses(
        (status = 204, description = "It is discarded."),
        (status = 404, description = "The client has none."),
    )
)]
pub(super) async fn discard(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
) -> Result<StatusCode, Problem> {
    let (home, none) = (state.desk.home_of(&client_id), none(&client_id));
    let outcome = state.desk.ask(home, move |now, shard| shard.discard_will(now, &client_id)).await?;
    certain(&state, home, outcome, &none).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn none(client_id: &str) -> String {
    format!("there is no will of a client {client_id:?}")
}
