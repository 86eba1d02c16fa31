//! Every packet of one client, for a while.

use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::sleep;
use utoipa::{IntoParams, ToSchema};

use crate::admin::extract::{ClientId, Params};
use crate::admin::problem::Problem;
use crate::admin::stream::{self, Lines, Source};
use crate::admin::{State, time};
use crate::figures::Kinds;
use crate::shard::inspect::{PacketFacts, TraceEvent, TraceId, Traced, WillChange};

/// Where nothing has come, the shard is asked again so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines that are fetched at a time.
const FETCHED: usize = 128;
/// How long a client is traced unless the request says otherwise.
const SECONDS_DEFAULT: u32 = 60;
/// How long it may be traced.
const SECONDS_MAX: u32 = 3600;

/// For how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HowLong {
    /// The stream ends after so many seconds.
    #[param(nullable = false, minimum = 1, maximum = 3600, default = 60)]
    seconds: Option<u32>,
}

/// A line of the stream: a packet, or what happened to the client.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TraceLine {
    #[schema(format = DateTime)]
    time: String,
    /// Of a packet: `in` from the client, `out` to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    direction: Option<&'static str>,
    /// The type of the packet, such as `PUBLISH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    packet: Option<&'static str>,
    /// What happened otherwise: `opened`, `refused`, `fault`, `closed`, `session_ended` or `will`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    event: Option<&'static str>,
    /// Lines that are left out, since they came faster than they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    missed: Option<u64>,
    /// What is in the packet, or known of what happened. Passwords are never told, and long values are cut.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl From<Traced> for TraceLine {
    fn from(traced: Traced) -> Self {
        let time = time::text(traced.at);
        let mut line = Self { time, direction: None, packet: None, event: None, missed: None, rest: Map::new() };
        match traced.what {
            TraceEvent::Received(packet) => line.tell_packet("in", packet),
            TraceEvent::Sent(packet) => line.tell_packet("out", packet),
            TraceEvent::Fault { reason, detail } => {
                let reason = format!("{:#04x}", reason.as_u8());
                line.tell("fault", [("reason_code", reason.into()), ("detail", detail.as_ref().into())]);
            }
            TraceEvent::Opened { origin, version, is_resumed } => line.tell(
                "opened",
                [
                    ("address", origin.peer.map(|peer| peer.to_string()).into()),
                    ("listener", origin.listener.into()),
                    ("protocol", version.to_string().into()),
                    ("is_resumed", is_resumed.into()),
                ],
            ),
            TraceEvent::Refused { origin, reason } => line.tell(
                "refused",
                [
                    ("address", origin.peer.map(|peer| peer.to_string()).into()),
                    ("listener", origin.listener.into()),
                    ("reason_code", format!("{:#04x}", reason.as_u8()).into()),
                ],
            ),
            TraceEvent::Closed(cause) => line.tell("closed", [("cause", cause.as_str().into())]),
            TraceEvent::SessionEnded => line.tell("session_ended", []),
            TraceEvent::Will(change) => {
                let due = match change {
                    WillChange::Pending { due } => Value::from(time::text(due)),
                    _ => Value::Null,
                };
                line.tell("will", [("state", change.as_str().into()), ("due", due)]);
            }
            TraceEvent::Missed(missed) => line.missed = Some(missed),
        }
        line
    }
}

impl TraceLine {
    fn tell(&mut self, event: &'static str, facts: impl IntoIterator<Item = (&'static str, Value)>) {
        self.event = Some(event);
        facts.into_iter().filter(|(_, value)| !value.is_null()).for_each(|(name, value)| self.add(name, value));
    }

    fn tell_packet(&mut self, direction: &'static str, packet: PacketFacts) {
        (self.direction, self.packet) = (Some(direction), Some(packet.kind.name()));
        if let Some(bytes) = packet.bytes {
            self.add("bytes", bytes.into());
        }
        if let Some(id) = packet.packet_id {
            self.add("packet_id", id.get().into());
        }
        if !packet.reasons.is_empty() {
            let codes = packet.reasons.iter().map(|reason| Value::from(format!("{:#04x}", reason.as_u8())));
            self.add("reason_codes", codes.collect());
        }
        packet.fields.into_iter().for_each(|(name, value)| self.add(name, value.into()));
    }

    /// Adds a fact. Of those that come several times the values are a list.
    fn add(&mut self, name: &str, value: Value) {
        match self.rest.get_mut(name) {
            None => drop(self.rest.insert(name.to_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
}

/// Every packet from a client and to it, and what happens to its connections and its will, a line of JSON for each.
///
/// It begins now, whether the client is connected or not, and goes on when it comes back. Other clients notice nothing.
#[utoipa::path(
    get,
    path = "/api/v1/clients/{client_id}/trace",
    operation_id = "trace_client",
    tag = "clients",
    params(("client_id" = String, Path, description = "The Client Identifier, percent-encoded.", min_length = 1), HowLong),
    responses((status = 200, description = "The trace.", body = TraceLine, content_type = "application/x-ndjson"))
)]
pub(super) async fn trace(
    Shared(state): Shared<State>,
    ClientId(client_id): ClientId,
    Params(HowLong { seconds }): Params<HowLong>,
) -> Result<Response, Problem> {
    let seconds = seconds.unwrap_or(SECONDS_DEFAULT);
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(Problem::bad_request(format!("seconds has to be from 1 to {SECONDS_MAX}")));
    }
    let place = stream::place(&state)?;
    let home = state.desk.home_of(&client_id);
    let until = state.desk.now() + Duration::from_secs(seconds.into());
    let opened = state.desk.ask(home, move |now, shard| shard.open_trace(now, &client_id, until)).await?;
    let trace = opened.ok_or_else(|| Problem::unavailable("there are too many traces already"))?;
    Ok(stream::response(Trace { state, home, trace }, place))
}

/// A trace at the home of its client.
struct Trace {
    state: State,
    home: usize,
    trace: TraceId,
}

impl Source for Trace {
    fn next(&mut self) -> Lines<'_> {
        Box::pin(async {
            let trace = self.trace;
            loop {
                let fetch = self.state.desk.ask(self.home, move |now, shard| shard.fetch_traced(now, trace, FETCHED));
                // It is over, or the broker is.
                let traced = fetch.await.ok()??;
                if !traced.is_empty() {
                    let mut lines = Vec::new();
                    traced.into_iter().for_each(|traced| stream::append(&mut lines, &TraceLine::from(traced)));
                    return Some(lines);
                }
                sleep(LOOK_EVERY).await;
            }
        })
    }
}

/// The reader has gone, or has all.
impl Drop for Trace {
    fn drop(&mut self) {
        let trace = self.trace;
        self.state.desk.tell(self.home, move |_, shard| shard.close_trace(trace));
    }
}
