//! What `ctl top` shows, from one overview of the API and the next.

use std::collections::VecDeque;

use crate::cli::ctl::overview::{Figures, Overview, Shard};

/// How much a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) messages_in: f64,
    pub(super) messages_out: f64,
    pub(super) dropped: f64,
    pub(super) bytes_in: f64,
    pub(super) bytes_out: f64,
    pub(super) connects: f64,
    pub(super) wills: f64,
    pub(super) shards: Vec<ShardRates>,
}

/// How much a second, of one shard.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ShardRates {
    pub(super) messages_in: f64,
    pub(super) messages_out: f64,
    /// The share of its time that it was busy, from 0 to 1.
    pub(super) busy: f64,
}

impl Rates {
    /// What has passed between two moments; nothing where the broker has started anew between them, or where no time has passed.
    fn between(before: &Overview, after: &Overview) -> Option<Self> {
        let seconds = Some(after.uptime - before.uptime).filter(|seconds| *seconds > 0.0)?;
        let (old, new) = (&before.totals, &after.totals);
        let a_second = |of: fn(&Figures) -> u64| of(new).saturating_sub(of(old)) as f64 / seconds;
        let shards = after.shards.iter().map(|new| {
            let start = Shard::default();
            let old = before.shards.iter().find(|old| old.shard == new.shard).unwrap_or(&start);
            let a_second = |of: fn(&Shard) -> u64| of(new).saturating_sub(of(old)) as f64 / seconds;
            ShardRates {
                messages_in: a_second(|shard| shard.messages_received),
                messages_out: a_second(|shard| shard.messages_sent),
                busy: ((new.busy - old.busy) / seconds).clamp(0.0, 1.0),
            }
        });
        Some(Self {
            messages_in: a_second(|figures| figures.messages_received),
            messages_out: a_second(|figures| figures.messages_sent),
            dropped: a_second(|figures| figures.messages_dropped),
            bytes_in: a_second(|figures| figures.bytes_received),
            bytes_out: a_second(|figures| figures.bytes_sent),
            connects: a_second(|figures| figures.connects_accepted),
            wills: a_second(|figures| figures.wills.published),
            shards: shards.collect(),
        })
    }
}

/// Samples that are remembered: more than the widest terminal shows.
const REMEMBERED: usize = 512;

/// By what the shards are sorted; all but the first put the largest on top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Shard,
    Connections,
    MessagesIn,
    MessagesOut,
    Busy,
    TurnP99,
    Stalls,
    Mesh,
    Journal,
}

impl Order {
    /// All, in the order of the columns.
    pub(super) const ALL: [Self; 9] = [
        Self::Shard,
        Self::Connections,
        Self::MessagesIn,
        Self::MessagesOut,
        Self::Busy,
        Self::TurnP99,
        Self::Stalls,
        Self::Mesh,
        Self::Journal,
    ];

    /// The next one, and after the last the first.
    pub(super) fn next(self) -> Self {
        let index = Self::ALL.iter().position(|order| *order == self).unwrap_or(0);
        Self::ALL[(index + 1) % Self::ALL.len()]
    }

    fn weight(self, shard: &Shard, rates: &ShardRates) -> f64 {
        match self {
            Self::Shard => -(shard.shard as f64),
            Self::Connections => shard.connections as f64,
            Self::MessagesIn => rates.messages_in,
            Self::MessagesOut => rates.messages_out,
            Self::Busy => rates.busy,
            Self::TurnP99 => shard.turn_p99,
            Self::Stalls => shard.stalls as f64,
            Self::Mesh => shard.mesh_waiting as f64,
            Self::Journal => shard.journal_backlog_bytes as f64,
        }
    }
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) now: Overview,
    pub(super) rates: Rates,
    /// Messages received and sent a second, the newest first.
    pub(super) messages: VecDeque<u64>,
    /// Wills published a second, the newest first.
    pub(super) wills: VecDeque<u64>,
}

impl Seen {
    /// Takes in the next overview.
    pub(super) fn add(&mut self, overview: Overview) {
        if let Some(rates) = Rates::between(&self.now, &overview).filter(|_| self.now != Overview::default()) {
            remember(&mut self.messages, rates.messages_in + rates.messages_out);
            remember(&mut self.wills, rates.wills);
            self.rates = rates;
        } else {
            self.rates = Rates { shards: vec![ShardRates::default(); overview.shards.len()], ..Rates::default() };
        }
        self.now = overview;
    }

    /// The shards with their rates, sorted.
    pub(super) fn shards(&self, order: Order) -> Vec<(&Shard, &ShardRates)> {
        let mut shards: Vec<_> = self.now.shards.iter().zip(&self.rates.shards).collect();
        shards.sort_by(|a, b| order.weight(b.0, b.1).total_cmp(&order.weight(a.0, a.1)));
        shards
    }
}

fn remember(samples: &mut VecDeque<u64>, sample: f64) {
    samples.truncate(REMEMBERED - 1);
    samples.push_front(sample.round() as u64);
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A broker with two shards that has received so many messages within so many seconds.
    pub(in crate::cli::ctl::top) fn overview(uptime: f64, messages: u64) -> Overview {
        let shard = |shard: u64, share: f64| {
            json!({"shard": shard, "connections": 10 * (2 - shard), "messages_received": (messages as f64 * share) as u64,
                   "messages_sent": messages * 2, "turn_p99": 0.00025, "busy": uptime * share, "stalls": shard,
                   "mesh_waiting": 3, "journal_backlog_bytes": 2048})
        };
        let answer = json!({
            "version": "0.1.0", "state": "ready", "uptime": uptime,
            "totals": {
                "connections": 30, "sessions": 42, "subscriptions": 77, "retained": 5, "queued_messages": 1234,
                "queued_bytes": 99_000, "connects_accepted": 30, "messages_received": messages,
                "messages_sent": messages * 4, "messages_dropped": 0, "bytes_received": messages * 100,
                "bytes_sent": messages * 400,
                "wills": {"armed": 25, "pending": 3, "due": 2, "held": 1, "published": messages / 10,
                          "discarded": 4, "storms": 6, "lateness_p99": 0.002},
            },
            "shards": [shard(0, 0.25), shard(1, 0.75)],
            "something_new": true,
        });
        Overview::parse(&answer).unwrap()
    }

    pub(in crate::cli::ctl::top) fn seen() -> Seen {
        let mut seen = Seen::default();
        for (uptime, messages) in [(100.0, 1000), (102.0, 3000), (104.0, 9000)] {
            seen.add(overview(uptime, messages));
        }
        seen
    }

    #[test]
    fn rates_are_what_was_counted_between_two_overviews() {
        let Seen { rates, messages, wills, .. } = seen();
        assert_eq!((rates.messages_in, rates.messages_out, rates.bytes_in), (3000.0, 12_000.0, 300_000.0));
        assert_eq!((rates.wills, rates.shards[1].messages_in, rates.shards[1].busy), (300.0, 2250.0, 0.75));
        assert_eq!((Vec::from(messages), Vec::from(wills)), (vec![15_000, 5000], vec![300, 100]));
    }

    #[test]
    fn a_broker_that_has_started_anew_has_no_rates_yet() {
        let mut seen = seen();
        seen.add(overview(1.0, 10));
        assert_eq!((seen.rates.messages_in, seen.rates.shards.len(), seen.messages.len()), (0.0, 2, 2));
    }

    #[test]
    fn shards_are_sorted_by_any_column() {
        let seen = seen();
        let first = |order| seen.shards(order)[0].0.shard;
        assert_eq!([Order::Shard, Order::Connections].map(first), [0, 0]);
        assert_eq!([Order::MessagesIn, Order::Busy, Order::Stalls].map(first), [1, 1, 1]);
        let mut order = Order::default();
        Order::ALL.iter().for_each(|_| order = order.next());
        assert_eq!(order, Order::default());
    }
}
