//! Packets, messages, and what is kept of them.

use super::{Metric, counter, gauge};
use crate::admin::metrics::samples::Samples;
use crate::codec::{PacketKind, QoS};
use crate::figures::Kinds;
use crate::net::ShardReport;
use crate::shard::{PublishOutcome, Stats};

const QOS: [(QoS, &str); 3] = [(QoS::AtMostOnce, "0"), (QoS::AtLeastOnce, "1"), (QoS::ExactlyOnce, "2")];

/// The metrics.
pub(super) const METRICS: &[Metric] = &[
    counter(
        "willowmq_socket_received_bytes_total",
        "Bytes received on sockets, with all that lies below MQTT.",
        |shard, out| out.put(shard.counters.bytes_received),
    ),
    counter(
        "willowmq_socket_sent_bytes_total",
        "Bytes sent on sockets, with all that lies below MQTT.",
        |shard, out| out.put(shard.counters.bytes_sent),
    ),
    counter("willowmq_packets_received_total", "MQTT Control Packets received.", |shard, out| {
        out.put_tally(&shard.stats.packets_received)
    })
    .by(&["type"]),
    counter("willowmq_packets_sent_total", "MQTT Control Packets sent.", put_packets_sent).by(&["type"]),
    counter(
        "willowmq_messages_received_total",
        "PUBLISH packets received, by QoS and by what became of them.",
        |shard, out| put_received(&shard.stats, out, false),
    )
    .by(&["qos", "outcome"]),
    counter(
        "willowmq_messages_received_bytes_total",
        "Bytes of the payloads of PUBLISH packets received.",
        |shard, out| put_received(&shard.stats, out, true),
    )
    .by(&["qos", "outcome"]),
    counter("willowmq_messages_sent_total", "PUBLISH packets sent, those sent again included.", |shard, out| {
        QOS.iter().for_each(|(qos, name)| out.put_for(&[name], shard.stats.sent.of(*qos).count))
    })
    .by(&["qos"]),
    counter("willowmq_messages_sent_bytes_total", "Bytes of the payloads of PUBLISH packets sent.", |shard, out| {
        QOS.iter().for_each(|(qos, name)| out.put_for(&[name], shard.stats.sent.of(*qos).bytes))
    })
    .by(&["qos"]),
    counter(
        "willowmq_messages_resent_total",
        "PUBLISH packets sent again, since their client had not acknowledged them before it came back.",
        |shard, out| out.put(shard.stats.sent.again),
    ),
    counter(
        "willowmq_messages_dropped_total",
        "Deliveries that were dropped, and messages that were not retained.",
        |shard, out| out.put_tally(&shard.stats.dropped),
    )
    .by(&["reason"]),
    counter(
        "willowmq_messages_abandoned_total",
        "PUBLISH packets of clients that had gone, let go of since they were too much work.",
        |shard, out| out.put(shard.stats.publishes_abandoned),
    ),
    counter(
        "willowmq_messages_read_back_total",
        "Messages read back from the journal for their delivery.",
        |shard, out| out.put(shard.stats.read_back),
    ),
    gauge("willowmq_retained_messages", "Retained Messages.", |shard, out| out.put(shard.population.retained as u64)),
    gauge("willowmq_retained_bytes", "Bytes of the Retained Messages.", |shard, out| {
        out.put(shard.population.retained_bytes as u64)
    }),
    counter("willowmq_reading_paused_total", "Times that a client was not read for a while.", |shard, out| {
        let stats = &shard.stats;
        out.put_for(&["congestion"], stats.pauses);
        out.put_for(&["rate"], stats.pauses_rate);
        out.put_for(&["memory"], stats.pauses_memory);
        out.put_for(&["does-not-read"], stats.pauses_choked);
        out.put_for(&["turn"], stats.yields);
    })
    .by(&["reason"]),
];

fn put_packets_sent(shard: &ShardReport, out: &mut Samples) {
    for (kind, count) in shard.stats.packets_sent.iter() {
        let count = if kind == PacketKind::Publish { shard.stats.sent.total().count } else { count };
        out.put_for(&[kind.name()], count);
    }
}

fn put_received(stats: &Stats, out: &mut Samples, is_in_bytes: bool) {
    for (qos, name) in QOS {
        for outcome in PublishOutcome::ALL {
            let traffic = stats.received.of(qos, *outcome);
            out.put_for(&[name, outcome.name()], if is_in_bytes { traffic.bytes } else { traffic.count });
        }
    }
}
