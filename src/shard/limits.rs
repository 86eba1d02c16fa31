//! Which bounds hold for whom.
//!
//! A setting of `[limits]` or `[sessions]` holds for everybody; `[listeners.limits]` overrules it for the clients of a listener, and
//! `[identities.limits]` both for some users. What follows from that is worked out once for each listener and entry of `[[identities]]`.

use crate::config::{Config, Identities};
use crate::security::wildcard::fits;
use crate::session::bounds::Bounds;
use crate::timer::Moment;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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
    let mut bounds = Bounds::new(config);
    if let Some(listener) = config.listeners.get(usize::from(listener)) {
        bounds = bounds.with(&listener.limits);
    }
    if let Some(entry) = entry {
        bounds = bounds.with(&config.identities[entry].limits);
    }
    bounds
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

/// How fast one client may publish: `publish_rate_max` and `publish_bytes_rate_max`.
#[derive(Debug)]
pub(super) struct PublishRate {
    packets: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl PublishRate {
    /// Nothing where nothing is bounded.
    pub(super) fn new(bounds: &Bounds, now: Moment) -> Option<Box<Self>> {
        let packets = bounds.publish_rate_max.map(|max| Bucket::new(u64::from(max), now));
        let bytes = bounds.publish_bytes_rate_max.map(|max| Bucket::new(max as u64, now));
        (packets.is_some() || bytes.is_some()).then(|| Box::new(Self { packets, bytes }))
    }

    /// Accounts for a PUBLISH of so many bytes; until when no other one may follow, if not at once.
    pub(super) fn take(&mut self, now: Moment, bytes: usize) -> Option<Moment> {
        let packets = self.packets.as_mut().and_then(|bucket| bucket.take(now, 1));
        packets.max(self.bytes.as_mut().and_then(|bucket| bucket.take(now, bytes as u64)))
    }
}

/// So many tokens come in a second, and as many as come in a second are kept. What was taken too much is owed.
#[derive(Debug)]
struct Bucket {
    rate: i64,
    /// In millionths of a token, so that what comes in within a microsecond is `rate`.
    level: i64,
    filled: Moment,
}

impl Bucket {
    const TOKEN: i64 = 1_000_000;

    fn new(rate: u64, now: Moment) -> Self {
        // A tebibyte a second, which is the most that can be set, is far from where this saturates.
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        Self { rate, level: rate.saturating_mul(Self::TOKEN), filled: now }
    }

    /// Takes tokens, be they there or not; when the next one will be there, if it is not.
    fn take(&mut self, now: Moment, tokens: u64) -> Option<Moment> {
        let passed = i64::try_from(now.duration_since(self.filled).as_micros()).unwrap_or(i64::MAX);
        let full = self.rate.saturating_mul(Self::TOKEN);
        self.filled = now;
        self.level = self.level.saturating_add(passed.saturating_mul(self.rate)).min(full);
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.level = self.level.saturating_sub(tokens.saturating_mul(Self::TOKEN));
        let wanted = Self::TOKEN - self.level;
        (wanted > 0).then(|| now + Duration::from_micros(wanted.cast_unsigned().div_ceil(self.rate.cast_unsigned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientLimits, Listener};

    #[test]
    fn a_bucket_gives_a_second_worth_at_once_and_its_rate_from_then_on() {
        let at = |millis| Moment::ZERO + Duration::from_millis(millis);
        let mut bucket = Bucket::new(10, at(0));
        for _ in 0..9 {
            assert_eq!(bucket.take(at(0), 1), None);
        }
        assert_eq!(bucket.take(at(0), 1), Some(at(100)));
        assert_eq!(bucket.take(at(100), 1), Some(at(200)));
        assert_eq!(bucket.take(at(350), 1), None); // Two and a half had come in.
        // However long it rests, it holds no more than a second's worth; and what is taken too much takes its time.
        assert_eq!(bucket.take(at(60_000), 30), Some(at(62_100)));
        assert_eq!(bucket.take(at(62_100), 1), Some(at(62_200)));
    }

    #[test]
    fn the_slower_of_packets_and_bytes_counts() {
        let bounds = Bounds { publish_rate_max: Some(1000), ..Bounds::new(&Config::default()) };
        assert!(PublishRate::new(&Bounds::new(&Config::default()), Moment::ZERO).is_none());
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
