//! Clients: which there are, what is known of one, and its end.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::certain::certain;
use super::wills::{Fate, Stage, WillInFull};
use crate::admin::extract::{self, ClientId, Params};
use crate::admin::page::{self, Cursor, Page};
use crate::admin::problem::Problem;
use crate::admin::{State, time};
use crate::codec::{ProtocolVersion, RetainHandling};
use crate::shard::Pause;
use crate::shard::inspect::{
    ClientDetail, ClientFilter, ClientSummary, ConnectionFacts, ConnectionTraffic, SubscriptionFacts,
};

/// A client: its session, and its connection where it has one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Client {
    client_id: String,
    #[schema(required)]
    username: Option<String>,
    connected: bool,
    /// Where it is connected from; `null` while it is not, and by a Unix socket.
    #[schema(required, example = "192.0.2.1:50123")]
    address: Option<String>,
    /// Number of the listener of its newest connection.
    listener: u16,
    /// Version of MQTT that it speaks; `null` while it is not connected.
    #[schema(required, example = "5.0")]
    protocol: Option<&'static str>,
    /// When its session began; where that was found in the journal, when its connection had closed.
    #[schema(format = DateTime)]
    created: String,
    /// Since when it is connected, or is not.
    #[schema(format = DateTime)]
    since: String,
    /// How long its session outlives its connection; `null`: for ever.
    #[schema(required)]
    session_expiry_seconds: Option<u64>,
    /// When its session ends, where it is not connected and does end.
    #[schema(required, format = DateTime)]
    ends: Option<String>,
    subscriptions: usize,
    /// Messages that wait for it.
    queued: usize,
    /// Messages that it has been sent and has not acknowledged.
    in_flight: usize,
    /// Messages to it that were dropped since its session began or the broker started.
    dropped: u32,
    /// Where its will stands; `null`: it has none.
    #[schema(required)]
    will: Option<Stage>,
}

impl From<ClientSummary> for Client {
    fn from(client: ClientSummary) -> Self {
        Self {
            connected: client.is_connected(),
            client_id: client.client_id.to_string(),
            username: client.username.map(|name| name.to_string()),
            address: client.origin.peer.map(|peer| peer.to_string()),
            listener: client.origin.listener,
            protocol: client.version.map(|version| match version {
                ProtocolVersion::V3_1 => "3.1",
                ProtocolVersion::V3_1_1 => "3.1.1",
                ProtocolVersion::V5 => "5.0",
            }),
            created: time::text(client.created),
            since: time::text(client.since),
            session_expiry_seconds: client.expiry.duration().map(|expiry| expiry.as_secs()),
            ends: client.ends.map(time::text),
            subscriptions: client.subscriptions,
            queued: client.queued,
            in_flight: client.in_flight,
            dropped: client.dropped,
            will: client.will.map(Stage::from),
        }
    }
}

/// What has passed on a connection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Passed {
    packets_in: u64,
    /// Of them, messages that it has published.
    messages_in: u64,
    bytes_in: u64,
    packets_out: u64,
    /// Of them, messages.
    messages_out: u64,
    bytes_out: u64,
}

impl From<ConnectionTraffic> for Passed {
    fn from(traffic: ConnectionTraffic) -> Self {
        let ConnectionTraffic { packets_in, messages_in, bytes_in, packets_out, messages_out, bytes_out } = traffic;
        Self { packets_in, messages_in, bytes_in, packets_out, messages_out, bytes_out }
    }
}

/// An open connection.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connection {
    /// It asked for a new session.
    clean_start: bool,
    /// Zero: there is none.
    keep_alive_seconds: u16,
    #[schema(format = DateTime)]
    last_packet: String,
    /// The Receive Maximum that the client gave.
    receive_maximum: u16,
    /// How many messages may be in flight to it: that, or what the limits say.
    in_flight_max: u16,
    /// The largest packet that it takes; `null`: any.
    #[schema(required)]
    packet_bytes_max: Option<usize>,
    /// The Authentication Method, where it has proven who it is in several steps.
    #[schema(required)]
    authentication_method: Option<String>,
    /// Bytes that wait to be sent.
    output_bytes: usize,
    /// Bytes that have arrived and wait to be read, or for the rest of their packet.
    unread_bytes: usize,
    /// Why nothing is read from it, where that is so.
    pauses: Vec<&'static str>,
    traffic: Passed,
}

impl From<ConnectionFacts> for Connection {
    fn from(connection: ConnectionFacts) -> Self {
        Self {
            clean_start: connection.clean_start,
            keep_alive_seconds: connection.keep_alive,
            last_packet: time::text(connection.last_packet),
            receive_maximum: connection.receive_maximum,
            in_flight_max: connection.window,
            packet_bytes_max: connection.packet_bytes_max,
            authentication_method: connection.authentication_method.map(String::from),
            output_bytes: connection.output_bytes,
            unread_bytes: connection.unread_bytes,
            pauses: connection.pauses.into_iter().map(Pause::as_str).collect(),
            traffic: connection.traffic.into(),
        }
    }
}

/// A subscription of a client.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnSubscription {
    /// As the client wrote it, with `$share/` and the group where it is shared.
    filter: String,
    #[schema(maximum = 2)]
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    /// 0: retained messages are sent; 1: for a new subscription; 2: they are not.
    #[schema(maximum = 2)]
    retain_handling: u8,
    /// Its Subscription Identifier.
    #[schema(required)]
    id: Option<u32>,
}

impl From<SubscriptionFacts> for OwnSubscription {
    fn from(subscription: SubscriptionFacts) -> Self {
        Self {
            filter: subscription.filter.into(),
            qos: subscription.options.qos as u8,
            no_local: subscription.options.no_local,
            retain_as_published: subscription.options.retain_as_published,
            retain_handling: match subscription.options.retain_handling {
                RetainHandling::Send => 0,
                RetainHandling::SendIfNew => 1,
                RetainHandling::DoNotSend => 2,
            },
            id: subscription.id,
        }
    }
}

/// What waits for a client.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    messages: usize,
    /// Bytes of the messages that count towards its bounds, which wills do not.
    bytes: usize,
    /// Bytes of the messages that are in memory; the journal has the others.
    memory_bytes: usize,
    /// How long the first of them has waited; `null`: none waits.
    #[schema(required)]
    oldest_seconds: Option<f64>,
    messages_max: usize,
    bytes_max: usize,
}

/// A fact about a client, such as a name in its certificate.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Field {
    #[schema(example = "cert.cn")]
    name: String,
    value: String,
}

/// A client in detail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientInFull {
    #[serde(flatten)]
    client: Client,
    /// Its open connection.
    #[schema(required)]
    connection: Option<Connection>,
    /// Whether its session outlives the broker's process.
    is_kept: bool,
    /// The first of its subscriptions, in the order of their filters: a thousand, or as many as have 256 KiB together.
    subscription_list: Vec<OwnSubscription>,
    queue: Queue,
    /// QoS 2 messages that it has published and not released.
    unreleased: usize,
    /// For so many of its subscriptions retained messages are on their way.
    retained_look_ups: usize,
    /// Its will.
    #[schema(required)]
    will_in_full: Option<WillInFull>,
    /// What is known of it beside its name.
    fields: Vec<Field>,
}

impl From<ClientDetail> for ClientInFull {
    fn from(detail: ClientDetail) -> Self {
        let fields = detail.fields.iter();
        Self {
            client: detail.summary.into(),
            connection: detail.connection.map(Connection::from),
            is_kept: detail.is_kept,
            subscription_list: detail.subscriptions.into_iter().map(OwnSubscription::from).collect(),
            queue: Queue {
                messages: detail.queue.messages,
                bytes: detail.queue.bytes,
                memory_bytes: detail.queue.memory_bytes,
                oldest_seconds: detail.queue.oldest.map(time::seconds),
                messages_max: detail.bounds.queue.messages,
                bytes_max: detail.bounds.queue.bytes,
            },
            unreleased: detail.unreleased,
            retained_look_ups: detail.look_ups,
            will_in_full: detail.will.map(WillInFull::from),
            fields: fields.map(|(name, value)| Field { name: name.to_string(), value: value.to_string() }).collect(),
        }
    }
}

/// Which clients.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those with such an identifier; `*` stands for anything.
    #[param(nullable = false)]
    client_id: Option<String>,
    /// Only those with such a user name; `*` stands for anything.
    #[param(nullable = false)]
    username: Option<String>,
    /// Only those that are connected from an address that begins so.
    #[param(nullable = false, example = "192.0.2.")]
    address: Option<String>,
    /// Only those whose newest connection came by the listener with this number.
    #[param(nullable = false)]
    listener: Option<u16>,
    /// Only those that are connected, or are not.
    #[param(nullable = false)]
    connected: Option<bool>,
    /// Only those that have a will, or have none.
    #[param(nullable = false)]
    has_will: Option<bool>,
    /// Most items of the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(nullable = false)]
    after: Option<String>,
}

/// The clients that there are, connected or with a session that is kept.
#[utoipa::path(
    get,
    path = "/api/v1/clients",
    operation_id = "list_clients",
    tag = "clients",
    params(Which),
    responses((status = 200, description = "A page of them.", body = Page<Client>))
)]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Params(which): Params<Which>,
) -> Result<Json<Page<Client>>, Problem> {
    let (desk, limit) = (&state.desk, page::limit(which.limit)?);
    let from = Cursor::parse(which.after.as_deref(), desk.shards())?;
    let filter = ClientFilter {
        client_id: which.client_id.map(Into::into),
        username: which.username.map(Into::into),
        address: which.address.map(Into::into),
        listener: which.listener,
        is_connected: which.connected,
        has_will: which.has_will,
    };
    let page = page::collect(desk, from, limit, move |_, shard, place, at_most| {
        page::examine(place, at_most, |slot, slots| shard.clients(slot, slots, &filter)).map(Client::from)
    });
    page.await.map(Json)
}

/// One client.
#[utoipa::path(
    get,
    path = "/api/v1/clients/{client_id}",
    operation_id = "get_client",
    tag = "clients",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1)),
    responses(
        (status = 200, description = "All that is known of it.", body = ClientInFull),
        (status = 404, description = "There is no such client."),
    )
)]
pub(super) async fn one(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
) -> Result<Json<ClientInFull>, Problem> {
    let (home, none) = (state.desk.home_of(&client_id), none(&client_id));
    let detail = state.desk.ask(home, move |now, shard| shard.client(now, &client_id)).await?;
    detail.map(|detail| Json(detail.into())).ok_or_else(|| Problem::not_found(none))
}

/// How a client is to be disconnected.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Disconnect {
    /// What becomes of its will.
    will: Fate,
}

/// Disconnects a client. Its session is kept as long as it would be kept otherwise, and it may come back at once.
#[utoipa::path(
    post,
    path = "/api/v1/clients/{client_id}/disconnect",
    operation_id = "disconnect_client",
    tag = "clients",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1)),
    request_body = Disconnect,
    responses(
        (status = 204, description = "It is disconnected."),
        (status = 404, description = "It is not connected."),
    )
)]
pub(super) async fn disconnect(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
    extract::Json(Disconnect { will }): extract::Json<Disconnect>,
) -> Result<StatusCode, Problem> {
    let home = state.desk.home_of(&client_id);
    let none = format!("there is no connection of a client {client_id:?}");
    let was_there = state.desk.ask(home, move |now, shard| shard.disconnect(now, &client_id, will.into())).await?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found(none)) }
}

/// What becomes of the will of a session that is ended.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct End {
    /// Whether the will of the client is published, or nobody is ever sent it.
    #[param(inline)]
    will: Fate,
}

/// Ends the session of a client: its subscriptions, and the messages that wait for it, are gone. It is disconnected, too.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{client_id}",
    operation_id = "end_session",
    tag = "clients",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1), End),
    responses(
        (status = 204, description = "It has no session any more."),
        (status = 404, description = "It has none."),
    )
)]
pub(super) async fn end_session(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
    Params(End { will }): Params<End>,
) -> Result<StatusCode, Problem> {
    let (home, none) = (state.desk.home_of(&client_id), none(&client_id));
    let outcome = state.desk.ask(home, move |now, shard| shard.end_session_of(now, &client_id, will.into())).await?;
    certain(&state, home, outcome, &none).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn none(client_id: &str) -> String {
    format!("there is no client {client_id:?}")
}
