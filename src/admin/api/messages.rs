//! What is published from now on, for an operator who looks on.

use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use utoipa::{IntoParams, ToSchema};

use super::message::Carried;
use crate::admin::extract::Params;
use crate::admin::problem::Problem;
use crate::admin::stream::{self, Lines, Source};
use crate::admin::{State, time};
use crate::shard::inspect::{Draught, TapId, Tapped};
use crate::topic::TopicFilter;

/// Where no message has come, the shards are asked again so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Messages that one shard gives at a time.
const FETCHED: usize = 64;

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those whose topics match this Topic Filter.
    #[param(min_length = 1)]
    filter: String,
}

/// A message that was published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    #[schema(format = DateTime)]
    time: String,
    topic: String,
    #[schema(maximum = 2)]
    qos: u8,
    retain: bool,
    /// The client that has published it; `null`: the broker itself, or a client that is gone.
    #[schema(required)]
    publisher: Option<String>,
    #[serde(flatten)]
    carried: Carried,
}

impl From<&Tapped> for Message {
    fn from(tapped: &Tapped) -> Self {
        let message = &tapped.message;
        Self {
            time: time::text(tapped.at),
            topic: message.topic().to_owned(),
            qos: message.qos as u8,
            retain: message.retain,
            publisher: tapped.publisher.as_deref().map(str::to_owned),
            carried: Carried::new(message.forwarded(), message.payload()),
        }
    }
}

/// Messages that are not told, since they came faster than they were read.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Missed {
    missed: u64,
}

/// A line of the stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes the lines, which are written one kind at a time")]
pub(super) enum MessageLine {
    /// A message.
    Message(Box<Message>),
    /// A gap.
    Missed(Missed),
}

/// What is published from now on, a line of JSON for each message. It goes on until the connection is closed.
///
/// Messages of one topic come in their order. What is published faster than it is read is left out, and a line tells how much.
#[utoipa::path(
    get,
    path = "/api/v1/messages",
    operation_id = "watch_messages",
    tag = "messages",
    params(Which),
    responses((status = 200, description = "The messages.", body = MessageLine, content_type = "application/x-ndjson"))
)]
pub(super) async fn watch(Shared(state): Shared<State>, Params(which): Params<Which>) -> Result<Response, Problem> {
    let filter = TopicFilter::parse(&which.filter)
        .map_err(|error| Problem::bad_request(format!("filter is no Topic Filter: {error}")))?;
    let place = stream::place(&state)?;
    let mut taps = Taps { state, open: Vec::new(), next: 0 };
    let asked = taps.state.desk.ask_all(move |now, shard| shard.open_tap(now, filter.clone())).await?;
    taps.open = asked.iter().copied().enumerate().filter_map(|(shard, tap)| Some((shard, tap?))).collect();
    if taps.open.len() < asked.len() {
        return Err(Problem::unavailable("there are too many such streams already"));
    }
    Ok(stream::response(taps, place))
}

/// The taps of one stream, one at each shard.
struct Taps {
    state: State,
    open: Vec<(usize, TapId)>,
    /// Which of them is asked next.
    next: usize,
}

impl Source for Taps {
    fn next(&mut self) -> Lines<'_> {
        Box::pin(async {
            loop {
                for _ in 0..self.open.len() {
                    let (shard, tap) = self.open[self.next];
                    self.next = (self.next + 1) % self.open.len();
                    let fetch = self.state.desk.ask(shard, move |now, shard| shard.fetch_tapped(now, tap, FETCHED));
                    // A shard that does not answer, or has forgotten the tap: the reader is told by the end of the stream.
                    let draught = fetch.await.ok()??;
                    let lines = lines(&draught);
                    if !lines.is_empty() {
                        return Some(lines);
                    }
                }
                sleep(LOOK_EVERY).await;
            }
        })
    }
}

/// The reader has gone.
impl Drop for Taps {
    fn drop(&mut self) {
        for (shard, tap) in self.open.drain(..) {
            self.state.desk.tell(shard, move |_, shard| shard.close_tap(tap));
        }
    }
}

fn lines(draught: &Draught) -> Vec<u8> {
    let mut lines = Vec::new();
    draught.messages.iter().for_each(|tapped| stream::append(&mut lines, &Message::from(tapped)));
    if draught.missed > 0 {
        stream::append(&mut lines, &Missed { missed: draught.missed });
    }
    lines
}
