//! What is known of the addresses that connections come from, whichever shard they reach.
//!
//! An address has connections, takes tokens for new ones, and fails to authenticate. Its connections are counted exactly: there are no
//! more entries for that than connections. All else is a memory of bounded size: an attacker who has many addresses (and whoever has
//! one IPv6 network has many) can make it forget others, the oldest first and those that are banned last, but cannot make it grow.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::Duration;

use crate::config::Config;
use crate::timer::{Bucket, Moment};

/// The table is cut into so many parts, each with a lock of its own: shards rarely meet at one.
const PARTS: usize = 16;
/// Addresses that a part remembers: what fits into 4096 places of a hash table. All parts together are below 4 MiB.
const RECORDS_MAX: usize = 3584;
/// How many go at once when there is no room. It takes a look at all of them, so it is not done for one.
const FORGOTTEN_AT_ONCE: usize = RECORDS_MAX / 4;

/// Where a connection comes from: an IPv4 address, or the /64 network of an IPv6 address, all of which usually belongs to one customer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(
    /// The network part of the IPv6 address. An IPv4 address is below 0:ffff::/32, which is no network: the standards reserve ::/8.
    NonZeroU64,
);

impl Source {
    const IPV4: u64 = 0x0000_ffff_0000_0000;

    /// The source of connections from `address`.
    pub(crate) fn of(address: IpAddr) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => Self::IPV4 | u64::from(u32::from(address)),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
        };
        // The loopback address ::1 is in the network with the number 0.
        Self(NonZeroU64::new(network).unwrap_or(NonZeroU64::MIN))
    }
}

/// As people write it: `192.0.2.1` or `2001:db8::/64`.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get() {
            1 => write!(f, "{}", Ipv6Addr::LOCALHOST),
            network if network >> 32 == Self::IPV4 >> 32 => write!(f, "{}", Ipv4Addr::from(network as u32)),
            network => write!(f, "{}/64", Ipv6Addr::from(u128::from(network) << 64)),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objection {
    /// Its address failed to authenticate too often.
    Banned,
    /// Its address has `limits.connections_per_source_max` connections.
    TooMany,
    /// Its address opened `limits.connection_rate_per_source_max` connections within a second.
    TooFast,
}

/// Bounds on one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceLimits {
    pub(crate) connections_max: Option<u32>,
    pub(crate) connection_rate_max: Option<u32>,
    /// Zero: nobody is banned.
    pub(crate) failures_max: u32,
    pub(crate) failure_window: Duration,
    pub(crate) ban_time: Duration,
}

impl SourceLimits {
    /// What the operator has set.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            connections_max: config.limits.connections_per_source_max,
            connection_rate_max: config.limits.connection_rate_per_source_max,
            failures_max: config.security.failures_max,
            failure_window: config.security.failure_window,
            ban_time: config.security.ban_time,
        }
    }
}

/// All addresses.
pub(crate) struct Sources {
    limits: RwLock<SourceLimits>,
    parts: [Mutex<Part>; PARTS],
    hasher: ahash::RandomState,
}

#[derive(Default)]
struct Part {
    /// How many connections each address has. Empty where that is not limited.
    connections: HashMap<Source, u32, ahash::RandomState>,
    records: HashMap<Source, Record, ahash::RandomState>,
}

/// What is remembered of an address.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// For new connections.
    tokens: Bucket,
    /// Since `failing_since`.
    failures: u32,
    /// The first failure that counts. The window begins with it: it does not slide, and what it ends with is forgotten.
    failing_since: Moment,
    /// It is turned away before that.
    banned_until: Moment,
    /// The last time that it did anything.
    seen: Moment,
}

impl Sources {
    /// No address is known yet.
    pub(crate) fn new(limits: SourceLimits) -> Self {
        Self { limits: RwLock::new(limits), parts: Default::default(), hasher: ahash::RandomState::new() }
    }

    /// Other bounds hold from now on. Connections that were not counted, since their number was not limited, are not counted later either.
    pub(crate) fn set_limits(&self, limits: SourceLimits) {
        *self.limits.write().expect("a panic ends the process") = limits;
    }

    fn limits(&self) -> SourceLimits {
        *self.limits.read().expect("a panic ends the process")
    }

    /// Takes a token for a connection from `source`, and counts it in where their number is limited; says whether it is. Then it is to be
    /// counted out as well.
    ///
    /// # Errors
    /// Why it must be closed; it is not counted then.
    pub(crate) fn enter(&self, source: Source, now: Moment) -> Result<bool, Objection> {
        self.count_in(source, now, true)
    }

    /// As [`Sources::enter`], but leaves the token where it is: for a connection that will not stay.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn enter_briefly(&self, source: Source, now: Moment) -> Result<bool, Objection> {
        self.count_in(source, now, false)
    }

    fn count_in(&self, source: Source, now: Moment, takes_token: bool) -> Result<bool, Objection> {
        let limits = self.limits();
        let mut part = self.part(source);
        if part.is_banned(source, now) {
            return Err(Objection::Banned);
        }
        if let Some(max) = limits.connections_max
            && part.connections.get(&source).is_some_and(|&connections| connections >= max)
        {
            return Err(Objection::TooMany);
        }
        if let Some(rate) = limits.connection_rate_max {
            let tokens = &mut part.record(source, now, &limits).tokens;
            let has_token = if takes_token { tokens.take(rate, now) } else { tokens.has_token(rate, now) };
            if !has_token {
                return Err(Objection::TooFast);
            }
        }
        let is_counted = limits.connections_max.is_some();
        if is_counted {
            *part.connections.entry(source).or_default() += 1;
        }
        Ok(is_counted)
    }

    /// Counts a connection from `source` out that was counted in.
    pub(crate) fn leave(&self, source: Source) {
        if let Entry::Occupied(mut connections) = self.part(source).connections.entry(source) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }

    /// Notes that a client at `source` gave wrong credentials; whether this was one too often, so that the source is banned from now on.
    ///
    /// What it does right in between does not excuse it: whoever has one account could otherwise try the passwords of all others.
    pub(crate) fn note_failure(&self, source: Source, now: Moment) -> bool {
        let limits = &self.limits();
        if limits.failures_max == 0 {
            return false;
        }
        let mut part = self.part(source);
        let record = part.record(source, now, limits);
        if now < record.banned_until {
            return false; // On a connection from before. The ban is not renewed: its end is what we said.
        }
        if now.duration_since(record.failing_since) >= limits.failure_window {
            record.failures = 0;
        }
        if record.failures == 0 {
            record.failing_since = now;
        }
        record.failures += 1;
        let is_ban = record.failures >= limits.failures_max;
        if is_ban {
            record.failures = 0;
            record.banned_until = now + limits.ban_time;
        }
        is_ban
    }

    /// Whether `source` is banned.
    pub(crate) fn is_banned(&self, source: Source, now: Moment) -> bool {
        self.limits().failures_max != 0 && self.part(source).is_banned(source, now)
    }

    fn part(&self, source: Source) -> MutexGuard<'_, Part> {
        let part = self.hasher.hash_one(source) as usize % PARTS;
        self.parts[part].lock().expect("a panic ends the process")
    }
}

impl Part {
    fn is_banned(&self, source: Source, now: Moment) -> bool {
        self.records.get(&source).is_some_and(|record| now < record.banned_until)
    }

    /// What is remembered of `source`, from now on if it was nothing so far.
    fn record(&mut self, source: Source, now: Moment, limits: &SourceLimits) -> &mut Record {
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&source) {
            self.forget_some(now, limits);
        }
        let record = self.records.entry(source).or_insert_with(|| Record {
            tokens: Bucket::full(limits.connection_rate_max.unwrap_or(0), now),
            failures: 0,
            failing_since: now,
            banned_until: Moment::ZERO,
            seen: now,
        });
        record.seen = now;
        record
    }

    /// Forgets those that are as good as unknown, and if that are not enough, those that were not seen for longest.
    fn forget_some(&mut self, now: Moment, limits: &SourceLimits) {
        self.records.retain(|_, record| !record.is_blank(now, limits));
        let excess = (self.records.len() + FORGOTTEN_AT_ONCE).saturating_sub(RECORDS_MAX);
        if excess == 0 {
            return;
        }
        let worth = |(&source, record): (&Source, &Record)| (now < record.banned_until, record.seen, source.0);
        let mut by_worth: Vec<_> = self.records.iter().map(worth).collect();
        by_worth.select_nth_unstable(excess - 1);
        for &(_, _, source) in &by_worth[..excess] {
            self.records.remove(&Source(source));
        }
    }
}

impl Record {
    /// It says no more than no record.
    fn is_blank(&self, now: Moment, limits: &SourceLimits) -> bool {
        self.banned_until <= now
            && (self.failures == 0 || now.duration_since(self.failing_since) >= limits.failure_window)
            && self.tokens.is_full(limits.connection_rate_max.unwrap_or(0), now)
    }
}

#[cfg(test)]
mod tests;
