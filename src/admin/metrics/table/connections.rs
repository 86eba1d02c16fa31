//! Network Connections, from the socket to CONNACK and to their end; and Sessions.

use super::{Metric, broker_gauge, counter, gauge};
use crate::admin::metrics::samples::Samples;
use crate::net::ShardReport;

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    broker_gauge("willowmq_connections_max", "Network Connections that there may be.", |facts, out| {
        out.put(facts.report.gate.connections_max as u64)
    }),
    broker_gauge(
        "willowmq_gate_connections",
        "Network Connections that count against willowmq_connections_max.",
        |facts, out| out.put(facts.report.gate.connections as u64),
    ),
    gauge("willowmq_connections", "Network Connections of clients.", |shard, out| {
        out.put(shard.population.connections as u64)
    }),
    gauge(
        "willowmq_sockets",
        "Network Connections, those of clients on their way in or out included.",
        |shard, out| out.put(shard.sockets as u64),
    ),
    counter("willowmq_connections_accepted_total", "Network Connections accepted.", |shard, out| {
        out.put(shard.counters.accepted)
    }),
    counter(
        "willowmq_connections_handed_over_total",
        "Network Connections handed to the shard that has the Session.",
        |shard, out| out.put(shard.counters.handed_over),
    ),
    counter(
        "willowmq_connections_failed_total",
        "Network Connections that ended before their CONNECT was looked at, or whose client is not the one \
         it claims to be.",
        put_failed,
    )
    .by(&["reason"]),
    counter("willowmq_connections_closed_total", "Network Connections of clients that ended.", |shard, out| {
        out.put_tally(&shard.stats.closed)
    })
    .by(&["cause"]),
    counter("willowmq_tls_handshakes_total", "TLS handshakes completed.", |shard, out| {
        out.put(shard.counters.tls_handshakes)
    }),
    counter("willowmq_connects_accepted_total", "CONNECTs accepted.", |shard, out| {
        out.put(shard.stats.connects_accepted)
    }),
    counter("willowmq_connects_refused_total", "CONNECTs of known clients that were refused.", |shard, out| {
        out.put_tally(&shard.stats.connects_refused)
    })
    .by(&["reason"]),
    counter(
        "willowmq_protocol_errors_total",
        "Malformed packets and protocol errors; each ended its connection.",
        |shard, out| out.put(shard.stats.protocol_errors),
    ),
    gauge("willowmq_draining", "1 while clients are handed away before a stop.", |shard, out| {
        out.put(u64::from(shard.population.is_draining))
    }),
    counter("willowmq_clients_handed_away_total", "Clients disconnected by a drain, before a stop.", |shard, out| {
        out.put(shard.stats.handed_away)
    }),
    counter(
        "willowmq_slow_readers_disconnected_total",
        "Clients disconnected since they did not read what they were sent.",
        |shard, out| out.put(shard.stats.slow_readers_disconnected),
    ),
    counter(
        "willowmq_write_timeouts_total",
        "Network Connections closed since what they were sent made no progress.",
        |shard, out| out.put(shard.counters.write_timeouts),
    ),
    gauge("willowmq_sessions", "Sessions, with or without a Network Connection.", |shard, out| {
        out.put(shard.population.sessions as u64)
    }),
    counter("willowmq_session_takeovers_total", "Sessions taken over by another Network Connection.", |shard, out| {
        out.put(shard.stats.takeovers)
    }),
    counter(
        "willowmq_presence_announcements_total",
        "Clients that came or went while presence is enabled: told of, or not, since the topic would be too long.",
        |shard, out| {
            out.put_for(&["told"], shard.stats.presence_told);
            out.put_for(&["untold"], shard.stats.presence_untold);
        },
    )
    .by(&["outcome"]),
    gauge(
        "willowmq_subscriptions",
        "Subscriptions; a Shared Subscription counts once, whatever its members.",
        |shard, out| out.put(shard.population.subscriptions as u64),
    ),
    gauge("willowmq_queued_messages", "Messages that wait for their clients.", |shard, out| {
        out.put(shard.population.queued.messages as u64)
    }),
    gauge(
        "willowmq_queued_bytes",
        "Bytes of the messages that wait for their clients, be they in memory or in the journal.",
        |shard, out| out.put(shard.population.queued.bytes as u64),
    ),
];

fn put_failed(shard: &ShardReport, out: &mut Samples) {
    let counters = &shard.counters;
    let reasons = [
        ("full", counters.turned_away),
        ("no-descriptors", counters.shed),
        ("tls", counters.layer_faults.tls),
        ("websocket", counters.layer_faults.websocket),
        ("http", counters.layer_faults.http),
        ("proxy", counters.layer_faults.proxy),
        ("handshakes-busy", counters.handshakes_refused),
        ("memory", counters.handshakes_shed),
        ("handshake-timeout", counters.handshake_timeouts),
        ("connect-timeout", counters.connect_timeouts),
        ("first-packet", counters.bad_first_packets),
        ("authentication-timeout", counters.authentication_timeouts),
        ("authentication", counters.authentications_refused),
    ];
    reasons.iter().for_each(|(reason, count)| out.put_for(&[reason], *count));
}
