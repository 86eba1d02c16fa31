//! Who may do what: authentication, rights, limits.

use super::{Metric, broker_counter, counter};
use crate::shard::PublishOutcome;

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    counter("willowmq_limits_reached_total", "Requests that came up against a limit of their client.", |shard, out| {
        let stats = &shard.stats;
        out.put_for(&["subscriptions"], stats.subscriptions_refused);
        out.put_for(&["filters"], stats.filters_refused);
        out.put_for(&["retained-messages"], stats.publishes_refused_retained);
    })
    .by(&["limit"]),
    counter("willowmq_rights_denied_total", "What clients were not allowed to do.", |shard, out| {
        let stats = &shard.stats;
        out.put_for(&["publish"], stats.received.with(PublishOutcome::Denied));
        out.put_for(&["subscribe"], stats.subscriptions_denied);
        out.put_for(&["receive"], stats.deliveries_denied);
        out.put_for(&["leave-will"], stats.wills.refused);
        out.put_for(&["publish-will"], stats.wills.denied);
    })
    .by(&["action"]),
    broker_counter("willowmq_authentications_total", "Clients that were looked at by authenticators.", |facts, out| {
        let totals = &facts.report.authentications;
        out.put_for(&["granted"], totals.granted);
        out.put_for(&["anonymous"], totals.anonymous);
        out.put_for(&["refused"], totals.refused);
        out.put_for(&["busy"], totals.busy);
        out.put_for(&["unavailable"], totals.unavailable);
    })
    .by(&["outcome"]),
    broker_counter(
        "willowmq_authentications_remembered_total",
        "Clients let in without a check, since their credentials had been found right before.",
        |facts, out| out.put(facts.report.authentications.remembered),
    ),
    broker_counter(
        "willowmq_authentication_failures_total",
        "Wrong credentials, as they are counted against addresses.",
        |facts, out| out.put(facts.report.gate.failures),
    ),
    broker_counter("willowmq_bans_total", "Addresses banned for failed authentications.", |facts, out| {
        out.put(facts.report.gate.bans)
    }),
    broker_counter(
        "willowmq_gate_turned_away_total",
        "Network Connections that were turned away before they could say anything, or whose user had too many.",
        |facts, out| out.put_tally(&facts.report.gate.turned_away),
    )
    .by(&["reason"]),
    broker_counter(
        "willowmq_listener_pauses_total",
        "Times that a listener paused, since it had accepted faster than it may.",
        |facts, out| out.put(facts.report.gate.listener_pauses),
    ),
    broker_counter(
        "willowmq_http_requests_refused_total",
        "HTTP requests turned away, for want of a token or since they come from a page of somebody else.",
        |facts, out| out.put(facts.report.requests_refused),
    ),
    broker_counter(
        "willowmq_http_connections_given_up_total",
        "Connections to the HTTP server that had no request to be answered, and had to make room for others.",
        |facts, out| out.put(facts.report.http_connections_given_up),
    ),
    counter(
        "willowmq_reauthentications_total",
        "Clients that authenticated again on an open Network Connection.",
        |shard, out| {
            out.put_for(&["granted"], shard.stats.re_authentications);
            out.put_for(&["refused"], shard.stats.re_authentications_refused);
        },
    )
    .by(&["outcome"]),
    counter(
        "willowmq_credentials_ended_total",
        "Clients disconnected since their credentials had ended.",
        |shard, out| out.put(shard.stats.credentials_ended),
    ),
];
