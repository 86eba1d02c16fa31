//! Which bounds hold for whom.
//!
//! A setting of `[limits]` or `[sessions]` holds for everybody; `[listeners.limits]` overrules it for the clients of a listener, and
//! `[identities.limits]` both for some users. What follows from that is worked out once for each listener and entry of `[[identities]]`.
//!
//! What happens at each of them, which counter shows it, and which test gets there, is in `docs/SECURITY.md`, *Limits*.

use crate::config::{ClientLimits, Config, Identities, SlowReader};
use crate::security::wildcard::fits;
use crate::session::bounds::Bounds;
use crate::session::queue::Load;
use crate::timer::{Bucket, Moment};
use std::collections::HashMap;
use std::sync::Arc;

/// All bounds of a broker, made as they are asked for.
#[derive(Debug)]
pub(super) struct BoundsBook {
    config: Arc<Config>,
    /// By listener, and by entry of `[[identities]]`.
    made: HashMap<(u16, Option<usize>), Arc<Bounds>, ahash::RandomState>,
}

impl BoundsBook {
    pub(super) fn new(config: Arc<Config>, hasher: ahash::RandomState) -> Self {
        Self { config, made: HashMap::with_hasher(hasher) }
    }

    /// Those that hold for everybody, whatever its listener and its name.
    pub(super) fn for_everybody(&self) -> Bounds {
        for_everybody(&self.config)
    }

    /// The bounds of a client with this User Name on a listener. An index that no listener has, as a journal may hold it after the
    /// settings were changed, is one without bounds of its own.
    pub(super) fn of(&mut self, listener: u16, username: Option<&str>) -> Arc<Bounds> {
        let config = &self.config;
        let entry = username.and_then(|username| identities_of(&config.identities, username));
        let make = || Arc::new(resolve(config, listener, entry));
        Arc::clone(self.made.entry((listener, entry)).or_insert_with(make))
    }
}

fn resolve(config: &Config, listener: u16, entry: Option<usize>) -> Bounds {
    let mut bounds = for_everybody(config);
    if let Some(listener) = config.listeners.get(usize::from(listener)) {
        bounds = overruled(&bounds, &listener.limits);
    }
    if let Some(entry) = entry {
        bounds = overruled(&bounds, &config.identities[entry].limits);
    }
    bounds
}

/// Those that hold for everybody.
fn for_everybody(config: &Config) -> Bounds {
    let (limits, sessions) = (&config.limits, &config.sessions);
    Bounds {
        packet_bytes_max: limits.packet_bytes_max,
        publish_rate_max: limits.publish_rate_max,
        publish_bytes_rate_max: limits.publish_bytes_rate_max,
        topic_levels_max: limits.topic_levels_max,
        topic_bytes_max: limits.topic_bytes_max,
        subscriptions_per_session_max: limits.subscriptions_per_session_max,
        receive_maximum: limits.receive_maximum,
        inflight_max: limits.inflight_max,
        keep_alive_max: limits.keep_alive_max,
        output_bytes_max: limits.output_bytes_max,
        disconnects_slow_reader: limits.slow_reader == SlowReader::Disconnect,
        queue: Load { messages: sessions.queue_messages_max as usize, bytes: sessions.queue_bytes_max },
        session_expiry_max: sessions.expiry_max,
        retained_messages_max: None,
        topic_alias_maximum: limits.topic_alias_maximum,
        maximum_qos: limits.maximum_qos,
        retain: config.features.retain,
        wildcard_subscriptions: config.features.wildcard_subscriptions,
        shared_subscriptions: config.features.shared_subscriptions,
        subscription_identifiers: config.features.subscription_identifiers,
    }
}

/// The same, but for what `over` sets.
fn overruled(bounds: &Bounds, over: &ClientLimits) -> Bounds {
    let queue_messages_max = over.queue_messages_max.map(|max| max as usize);
    Bounds {
        packet_bytes_max: over.packet_bytes_max.unwrap_or(bounds.packet_bytes_max),
        publish_rate_max: over.publish_rate_max.or(bounds.publish_rate_max),
        publish_bytes_rate_max: over.publish_bytes_rate_max.or(bounds.publish_bytes_rate_max),
        topic_levels_max: over.topic_levels_max.unwrap_or(bounds.topic_levels_max),
        topic_bytes_max: over.topic_bytes_max.unwrap_or(bounds.topic_bytes_max),
        subscriptions_per_session_max: over
            .subscriptions_per_session_max
            .unwrap_or(bounds.subscriptions_per_session_max),
        receive_maximum: over.receive_maximum.unwrap_or(bounds.receive_maximum),
        inflight_max: over.inflight_max.unwrap_or(bounds.inflight_max),
        keep_alive_max: over.keep_alive_max.unwrap_or(bounds.keep_alive_max),
        output_bytes_max: over.output_bytes_max.unwrap_or(bounds.output_bytes_max),
        disconnects_slow_reader: over
            .slow_reader
            .map_or(bounds.disconnects_slow_reader, |slow_reader| slow_reader == SlowReader::Disconnect),
        queue: Load {
            messages: queue_messages_max.unwrap_or(bounds.queue.messages),
            bytes: over.queue_bytes_max.unwrap_or(bounds.queue.bytes),
        },
        session_expiry_max: over.session_expiry_max.or(bounds.session_expiry_max),
        retained_messages_max: over.retained_messages_max.or(bounds.retained_messages_max),
        ..*bounds
    }
}

/// Largest packet on a listener before it is known who the client is.
pub fn first_packet_bytes_max(config: &Config, listener: u16) -> usize {
    let of_listener = config.listeners.get(usize::from(listener)).and_then(|it| it.limits.packet_bytes_max);
    of_listener.unwrap_or(config.limits.packet_bytes_max)
}

/// The entry of `[[identities]]` that is about a user: the first that fits. An anonymous client has no User Name, and so no entry.
pub fn identities_of(identities: &[Identities], username: &str) -> Option<usize> {
    identities.iter().position(|entry| entry.users.iter().any(|pattern| fits(pattern, username)))
}

/// How fast a client may publish on one connection: `publish_rate_max` and `publish_bytes_rate_max`.
#[derive(Debug)]
pub(super) struct PublishRate {
    packets: Option<(u64, Bucket)>,
    bytes: Option<(u64, Bucket)>,
}

impl PublishRate {
    /// Nothing where nothing is bounded.
    pub(super) fn new(bounds: &Bounds, now: Moment) -> Option<Box<Self>> {
        let full = |rate: u64| (rate, Bucket::full(rate, now));
        let packets = bounds.publish_rate_max.map(|max| full(max.into()));
        let bytes = bounds.publish_bytes_rate_max.map(|max| full(max as u64));
        (packets.is_some() || bytes.is_some()).then(|| Box::new(Self { packets, bytes }))
    }

    /// Accounts for a PUBLISH of so many bytes; until when no other one may follow, if not at once.
    pub(super) fn take(&mut self, now: Moment, bytes: usize) -> Option<Moment> {
        let both = [(&mut self.packets, 1), (&mut self.bytes, bytes as u64)];
        let until = both.into_iter().filter_map(|(bucket, tokens)| {
            let (rate, bucket) = bucket.as_mut()?;
            Some(bucket.take_late(*rate, tokens, now))
        });
        until.max().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;
    use std::time::Duration;

    #[test]
    fn the_slower_of_packets_and_bytes_counts() {
        let bounds = Bounds { publish_rate_max: Some(1000), ..for_everybody(&Config::default()) };
        assert!(PublishRate::new(&for_everybody(&Config::default()), Moment::ZERO).is_none());
        let bounds = Bounds { publish_bytes_rate_max: Some(1024), ..bounds };
        let mut rate = PublishRate::new(&bounds, Moment::ZERO).expect("both are bounded");
        assert_eq!(rate.take(Moment::ZERO, 100), None);
        let until = rate.take(Moment::ZERO, 2048).expect("two seconds' worth were taken");
        assert!(until > Moment::ZERO + Duration::from_secs(1));
    }

    #[test]
    fn the_first_entry_that_fits_overrules_the_listener_and_that_all_others() {
        let mut config = Config::default();
        config.limits.inflight_max = 10;
        config.limits.topic_levels_max = 10;
        config.limits.keep_alive_max = 10;
        let of_listener =
            ClientLimits { inflight_max: Some(20), topic_levels_max: Some(20), ..ClientLimits::default() };
        config.listeners = vec![Listener::default(), Listener { limits: of_listener, ..Listener::default() }];
        let entry = |pattern: &str, inflight_max| Identities {
            users: vec![pattern.into()],
            limits: ClientLimits { inflight_max: Some(inflight_max), ..ClientLimits::default() },
            ..Identities::default()
        };
        config.identities = vec![entry("lamp-*", 30), entry("lamp-1", 40)];
        let mut book = BoundsBook::new(Arc::new(config), ahash::RandomState::with_seed(1));
        let mut found = |listener, username| {
            let bounds = book.of(listener, username);
            (bounds.inflight_max, bounds.topic_levels_max, bounds.keep_alive_max)
        };
        assert_eq!(found(0, None), (10, 10, 10));
        assert_eq!(found(0, Some("door")), (10, 10, 10));
        assert_eq!(found(1, None), (20, 20, 10));
        assert_eq!(found(1, Some("lamp-1")), (30, 20, 10));
        assert_eq!(found(0, Some("lamp-1")), (30, 10, 10));
        assert_eq!(found(7, None), (10, 10, 10));
        assert!(Arc::ptr_eq(&book.of(1, Some("lamp-1")), &book.of(1, Some("lamp-2"))));
    }
}
