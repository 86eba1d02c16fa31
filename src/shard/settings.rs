//! Other settings, while clients are there.
//!
//! Most settings are looked at when they are needed, so it is enough to have the new ones. What was worked out from the old ones is worked
//! out again: at once where it is one thing, and for the Sessions and connections, of which there may be millions, some in each turn.
//!
//! What a client was told in CONNACK stays as it was told for as long as its connection lives ([`Bounds::renewed`]): it cannot be told again.

use std::collections::HashMap;
use std::sync::Arc;

use super::limits::{BoundsBook, PublishRate};
use super::{Shard, queue_limits};
use crate::config::Config;
use crate::session::bounds::Bounds;
use crate::timer::Moment;

/// Sessions whose bounds are worked out in one turn.
const RENEWED_A_TURN: u32 = 256;

/// How far the Sessions have new bounds.
#[derive(Debug)]
pub(super) struct Renewal {
    /// The first slot that was not looked at.
    next: u32,
    /// Bounds of connections by what they were and what they would be for a new connection: most clients share both.
    made: HashMap<(*const Bounds, *const Bounds), Made, ahash::RandomState>,
}

/// Bounds made from two others, which are kept so that nothing else takes their addresses.
#[derive(Debug)]
struct Made {
    bounds: Arc<Bounds>,
    _from: [Arc<Bounds>; 2],
}

impl Shard {
    /// Takes other settings over. Those about what is laid out at the start must be as they were
    /// ([`Config::keep_until_restart`]), and so must the slots of listeners that clients came through.
    pub fn set_config(&mut self, config: Arc<Config>) {
        self.wills.set_filters(&config.wills);
        self.queues.limits = queue_limits(&config, self.peers.shards());
        self.bounds = BoundsBook::new(Arc::clone(&config), self.hasher.clone());
        self.config = config;
        self.renewal = Some(Renewal { next: 0, made: HashMap::with_hasher(self.hasher.clone()) });
    }

    /// Whether Sessions are still to get the bounds of the newest settings.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewal.is_some()
    }

    /// Gives some more Sessions and their connections the bounds of the newest settings.
    pub(super) fn renew_some(&mut self, now: Moment) {
        let Some(mut renewal) = self.renewal.take() else { return };
        let end = self.sessions.slot_count().min(renewal.next.saturating_add(RENEWED_A_TURN));
        for index in renewal.next..end {
            self.renew(now, index, &mut renewal);
        }
        renewal.next = end;
        // A Session that comes meanwhile has the newest bounds, wherever its slot is.
        self.renewal = (end < self.sessions.slot_count()).then_some(renewal);
    }

    fn renew(&mut self, now: Moment, index: u32, renewal: &mut Renewal) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let fresh = self.bounds.of(session.listener, session.identity.username.as_deref());
        let connection = session.connection.and_then(|id| self.connections.get_mut(id));
        let Some(connection) = connection else {
            session.bounds = fresh;
            return;
        };
        let bounds = renewal.of_connection(&connection.bounds, fresh);
        if !bounds.has_rate_of(&connection.bounds) {
            connection.rate = PublishRate::new(&bounds, now);
        }
        connection.bounds = Arc::clone(&bounds);
        session.bounds = bounds;
    }
}

impl Renewal {
    /// The bounds of a connection that had `old`, where a new one would get `fresh`.
    fn of_connection(&mut self, old: &Arc<Bounds>, fresh: Arc<Bounds>) -> Arc<Bounds> {
        let make = || Made {
            bounds: match fresh.renewed(old) {
                bounds if bounds == *fresh => Arc::clone(&fresh),
                bounds => Arc::new(bounds),
            },
            _from: [Arc::clone(old), Arc::clone(&fresh)],
        };
        let key = (Arc::as_ptr(old), Arc::as_ptr(&fresh));
        Arc::clone(&self.made.entry(key).or_insert_with(make).bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Connect, ProtocolVersion};
    use crate::session::ConnectionId;
    use crate::shard::{Arrival, ShardId};

    const NOW: Moment = Moment::ZERO;

    fn shard_with(clients: u32, config: Config) -> Shard {
        let mut shard = Shard::new(ShardId::new(0), 1, 1, Arc::new(config), NOW);
        for index in 0..clients {
            let id = ConnectionId { index, generation: 0 };
            shard.open(NOW, id, &Connect::new(ProtocolVersion::V5, &format!("c{index}")), Arrival::default());
        }
        shard
    }

    fn turn(shard: &mut Shard) {
        shard.advance(NOW, |_| false);
        shard.end_turn(NOW);
    }

    fn with(change: impl FnOnce(&mut Config)) -> Arc<Config> {
        let mut config = Config::default();
        change(&mut config);
        Arc::new(config)
    }

    #[test]
    fn many_sessions_are_renewed_over_several_turns_and_the_shard_asks_for_them() {
        let clients = RENEWED_A_TURN * 2 + 1;
        let mut shard = shard_with(clients, Config::default());
        turn(&mut shard);
        shard.set_config(with(|config| config.limits.output_bytes_max = 5000));
        let renewed = |shard: &Shard| {
            let bounds =
                shard.sessions.indices().map(|index| shard.sessions.get(index).unwrap().bounds.output_bytes_max);
            bounds.filter(|&max| max == 5000).count() as u32
        };
        for done in [RENEWED_A_TURN, RENEWED_A_TURN * 2, clients] {
            assert_eq!(shard.next_deadline(), Some(Moment::ZERO), "it does not sleep over it");
            turn(&mut shard);
            assert_eq!(renewed(&shard), done);
        }
        assert!(!shard.is_renewing());
        let first = shard.sessions.get(0).unwrap();
        let last = shard.sessions.get(clients - 1).unwrap();
        assert!(Arc::ptr_eq(&first.bounds, &last.bounds), "they share what is the same for all");
    }

    #[test]
    fn what_a_client_was_told_stays_and_all_else_changes() {
        let mut shard = shard_with(1, Config::default());
        let config = with(|config| {
            config.limits.receive_maximum = 5;
            config.limits.packet_bytes_max = 512;
            config.limits.maximum_qos = 0;
            config.limits.topic_alias_maximum = 1;
            config.features.retain = false;
            config.features.shared_subscriptions = false;
            config.limits.publish_rate_max = Some(7);
            config.limits.topic_levels_max = 3;
        });
        shard.set_config(Arc::clone(&config));
        turn(&mut shard);
        let id = ConnectionId { index: 0, generation: 0 };
        let connection = shard.connections.get(id).unwrap();
        let told = &connection.bounds;
        assert_eq!((told.receive_maximum, told.packet_bytes_max, told.maximum_qos), (1024, 1 << 20, 2));
        assert_eq!((told.topic_alias_maximum, told.retain, told.shared_subscriptions), (64, true, true));
        assert_eq!((told.publish_rate_max, told.topic_levels_max), (Some(7), 3));
        assert!(connection.rate.is_some());
        let next = ConnectionId { index: 1, generation: 0 };
        shard.open(NOW, next, &Connect::new(ProtocolVersion::V5, "next"), Arrival::default());
        let fresh = &shard.connections.get(next).unwrap().bounds;
        assert_eq!(
            (fresh.receive_maximum, fresh.packet_bytes_max, fresh.maximum_qos, fresh.retain),
            (5, 512, 0, false)
        );
        // A second change in a row has the same to go by.
        shard.set_config(Arc::default());
        turn(&mut shard);
        assert_eq!(shard.connections.get(next).unwrap().bounds.receive_maximum, 5);
        assert!(shard.connections.get(id).unwrap().rate.is_none());
    }
}
