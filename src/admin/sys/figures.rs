//! The figures of the broker as `$SYS` names them. (docs/SYS.md)

use std::time::Duration;

use crate::admin::report::Report;
use crate::net::memory_used;
use crate::shard::DropReason;

/// What the values are made from: all shards together.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) uptime: Duration,
    /// Sessions.
    pub(super) clients: u64,
    pub(super) connected: u64,
    pub(super) connected_max: u64,
    pub(super) expired: u64,
    pub(super) packets_received: u64,
    pub(super) packets_sent: u64,
    pub(super) publishes_received: u64,
    pub(super) publishes_sent: u64,
    pub(super) publishes_dropped: u64,
    pub(super) payload_bytes_received: u64,
    pub(super) payload_bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) sockets: u64,
    pub(super) connects: u64,
    pub(super) retained: u64,
    /// Retained, or in the queue of a Session.
    pub(super) stored: u64,
    pub(super) stored_bytes: u64,
    pub(super) subscriptions: u64,
    pub(super) shared_subscriptions: u64,
    pub(super) memory: u64,
    pub(super) memory_max: u64,
    pub(super) wills: Wills,
}

/// The figures of wills, which only this broker has.
#[derive(Debug, Clone, Default)]
pub(super) struct Wills {
    pub(super) armed: u64,
    pub(super) pending: u64,
    pub(super) due: u64,
    pub(super) held: u64,
    pub(super) published: u64,
    pub(super) discarded: u64,
    pub(super) lateness_max_micros: u64,
}

impl Figures {
    /// Those of a report, and of the process.
    pub(super) fn of(report: &Report) -> Self {
        let limits = [DropReason::OutputFull, DropReason::WillOutputFull, DropReason::Memory, DropReason::QueueFull];
        let clients = report.held(|held| held.sessions);
        let retained = report.held(|held| held.retained);
        // A connection that was refused is still there for a moment.
        let connected = report.held(|held| held.connections).min(clients);
        Self {
            uptime: report.uptime,
            clients,
            connected,
            connected_max: connected,
            expired: report.counted(|stats| stats.sessions_expired),
            packets_received: report.counted(|stats| stats.packets_received.total()),
            packets_sent: report.counted(|stats| stats.packets_sent.total() + stats.sent.total().count),
            publishes_received: report.counted(|stats| stats.received.total().count),
            publishes_sent: report.counted(|stats| stats.sent.total().count),
            publishes_dropped: report.counted(|stats| limits.iter().map(|limit| stats.dropped[*limit]).sum()),
            payload_bytes_received: report.counted(|stats| stats.received.total().bytes),
            payload_bytes_sent: report.counted(|stats| stats.sent.total().bytes),
            bytes_received: report.sum(|shard| shard.counters.bytes_received),
            bytes_sent: report.sum(|shard| shard.counters.bytes_sent),
            sockets: report.sum(|shard| shard.counters.accepted),
            connects: report.counted(|stats| stats.connects_accepted + stats.connects_refused.total()),
            retained,
            stored: retained + report.held(|held| held.queued.messages),
            stored_bytes: report.held(|held| held.retained_bytes + held.queued.bytes),
            subscriptions: report.held(|held| held.subscriptions.saturating_sub(held.shared_groups)),
            shared_subscriptions: report.held(|held| held.shared_members),
            memory: memory_used().unwrap_or(0),
            memory_max: report.gate.memory_peak_bytes,
            wills: Wills {
                armed: report.counted(|stats| stats.wills.armed_now),
                pending: report.counted(|stats| stats.wills.pending_now),
                due: report.held(|held| held.due_wills),
                held: report.held(|held| held.held_wills),
                published: report.counted(|stats| stats.wills.published_total()),
                discarded: report.counted(|stats| stats.wills.discarded_total()),
                lateness_max_micros: report
                    .shards
                    .iter()
                    .map(|shard| shard.stats.wills.lateness.max())
                    .max()
                    .unwrap_or(0),
            },
        }
    }

    /// Topics below `$SYS/broker/` with their values.
    pub(super) fn values(&self) -> Vec<(String, String)> {
        let disconnected = self.clients.saturating_sub(self.connected);
        let wills = &self.wills;
        let numbers = [
            ("clients/total", self.clients),
            ("clients/connected", self.connected),
            ("clients/active", self.connected),
            ("clients/disconnected", disconnected),
            ("clients/inactive", disconnected),
            ("clients/maximum", self.connected_max),
            ("clients/expired", self.expired),
            ("messages/received", self.packets_received),
            ("messages/sent", self.packets_sent),
            ("messages/stored", self.stored),
            ("store/messages/count", self.stored),
            ("store/messages/bytes", self.stored_bytes),
            ("retained messages/count", self.retained),
            ("publish/messages/received", self.publishes_received),
            ("publish/messages/sent", self.publishes_sent),
            ("publish/messages/dropped", self.publishes_dropped),
            ("publish/bytes/received", self.payload_bytes_received),
            ("publish/bytes/sent", self.payload_bytes_sent),
            ("bytes/received", self.bytes_received),
            ("bytes/sent", self.bytes_sent),
            ("subscriptions/count", self.subscriptions),
            ("shared_subscriptions/count", self.shared_subscriptions),
            ("heap/current", self.memory),
            ("heap/maximum", self.memory_max),
            ("wills/armed", wills.armed),
            ("wills/pending", wills.pending),
            ("wills/due", wills.due),
            ("wills/held", wills.held),
            ("wills/published", wills.published),
            ("wills/discarded", wills.discarded),
            ("wills/lateness/max", wills.lateness_max_micros.div_ceil(1000)),
        ];
        let texts = [
            ("version".to_owned(), format!("WillowMQ version {}", env!("CARGO_PKG_VERSION"))),
            ("uptime".to_owned(), format!("{} seconds", self.uptime.as_secs())),
        ];
        let numbers = numbers.into_iter().map(|(topic, number)| (topic.to_owned(), number.to_string()));
        texts.into_iter().chain(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_known() {
        let figures = Figures {
            uptime: Duration::from_millis(12_900),
            clients: 5,
            connected: 3,
            wills: Wills { lateness_max_micros: 1001, ..Wills::default() },
            ..Figures::default()
        };
        let values = figures.values();
        let value = |topic: &str| &*values.iter().find(|(known, _)| known == topic).expect("it is told").1;
        assert_eq!(value("uptime"), "12 seconds");
        assert_eq!((value("clients/connected"), value("clients/inactive"), value("clients/total")), ("3", "2", "5"));
        assert_eq!(value("wills/lateness/max"), "2", "milliseconds, rounded up");
    }

    #[test]
    fn the_documentation_names_every_topic() {
        let documented = include_str!("../../../docs/SYS.md");
        let loads = super::super::load::Loads::default();
        let topics = Figures::default().values().into_iter().chain(loads.values()).map(|(topic, _)| topic);
        for topic in topics {
            let family = topic.strip_prefix("load/").map(|load| load.rsplit_once('/').expect("it has a span").0);
            let written = family.map_or(topic.clone(), |family| format!("load/{family}/"));
            assert!(documented.contains(&format!("`{written}")), "{topic} is not in docs/SYS.md");
        }
    }
}
