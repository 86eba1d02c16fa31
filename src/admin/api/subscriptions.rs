//! Subscriptions of all clients, by their filter or by a topic.

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::State;
use crate::admin::extract::Params;
use crate::admin::page::{self, Cursor, Page, Slice};
use crate::admin::problem::Problem;
use crate::shard::inspect::{SubscriptionFilter, SubscriptionSummary};

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscription {
    client_id: String,
    /// Its Topic Filter.
    filter: String,
    /// The group, where it is shared.
    #[schema(required)]
    group: Option<String>,
    #[schema(maximum = 2)]
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    /// Its Subscription Identifier.
    #[schema(required)]
    subscription_identifier: Option<u32>,
    /// Whether its client is connected.
    connected: bool,
}

impl From<SubscriptionSummary> for Subscription {
    fn from(subscription: SubscriptionSummary) -> Self {
        Self {
            client_id: subscription.client_id.to_string(),
            filter: subscription.filter.to_string(),
            group: subscription.group.map(String::from),
            qos: subscription.qos as u8,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            subscription_identifier: subscription.id,
            connected: subscription.is_connected,
        }
    }
}

/// Which subscriptions: those of a filter, or those that match a topic.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those of exactly this Topic Filter; with `$share/` and a group, of that group.
    #[param(nullable = false, min_length = 1)]
    filter: Option<String>,
    /// Those that a message of this topic goes to.
    #[param(nullable = false, min_length = 1)]
    topic: Option<String>,
    /// Most items of the page.
    #[param(nullable = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(nullable = false)]
    after: Option<String>,
}

/// The subscriptions of a filter, or those that a message of a topic goes to. One of both has to be given.
#[utoipa::path(
    get,
    path = "/api/v1/subscriptions",
    operation_id = "list_subscriptions",
    tag = "messages",
    params(Which),
    responses((status = 200, description = "A page of them.", body = Page<Subscription>))
)]
pub(super) async fn list(
    Shared(state): Shared<State>,
    Params(which): Params<Which>,
) -> Result<Json<Page<Subscription>>, Problem> {
    let (desk, limit) = (&state.desk, page::limit(which.limit)?);
    let from = Cursor::parse(which.after.as_deref(), desk.shards())?;
    let wrong = |what: &str, error| Problem::bad_request(format!("{what}: {error}"));
    let filter = match (&which.filter, &which.topic) {
        (Some(filter), None) => SubscriptionFilter::equal(filter).map_err(|error| wrong("filter", error))?,
        (None, Some(topic)) => SubscriptionFilter::matching(topic).map_err(|error| wrong("topic", error))?,
        _ => return Err(Problem::bad_request("either filter or topic has to be given")),
    };
    let page = page::collect(desk, from, limit, move |_, shard, place, at_most| {
        let page = shard.subscriptions(page::number(place), at_most.min(page::EXAMINE), &filter);
        let next = page.next.map(|place| place.to_string());
        Slice { items: page.items.into_iter().map(Subscription::from).collect(), next }
    });
    page.await.map(Json)
}
