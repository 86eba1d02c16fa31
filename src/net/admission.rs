//! Who is let in: how many Network Connections there are, against how many there may be, of the broker, of a listener, of an address
//! and of a user.
//!
//! ```text
//! accepted ─▶ Gate::enter ─┬─ the address is banned, has too many, comes too fast ─▶ closed at once
//!                          ├─ the broker or the listener is full ─▶ Surplus: its CONNECT is answered "server busy"
//!                          └─ Welcome ─▶ (PROXY header: Gate::recognise) ─▶ authenticated: Gate::enter_identity ─▶ the Session's matter
//! ```
//!
//! While memory is short whoever is let in is on probation: there are few such at a time, the others are closed at once. What becomes of
//! its CONNECT is the shard's matter, which refuses new Sessions, but lets those come back whose messages fill the memory.
//!
//! A connection has a [`Ticket`] for as long as it exists, wherever it goes; when that is dropped, what it took is given back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::sources::{Objection, Source, SourceLimits, Sources};
use crate::config::{Config, Identities, Listener};
use crate::figures::{Tally, kinds};
use crate::shard::{Pressure, identities_of};
use crate::timer::{Bucket, Moment};

/// Connections above a limit that may be told so at a time. Beyond them they are closed without a word.
pub(crate) const SURPLUS_MAX: usize = 64;

/// What becomes of a connection that arrives.
#[derive(Debug)]
pub(crate) enum Admission {
    /// There is room.
    Welcome(Ticket),
    /// There is none, but it is read until its CONNECT can be answered.
    Surplus(Ticket),
    /// There is none, and enough are being told so: it is closed at once.
    None,
    /// So is this one, for what is known of its address.
    Objection,
}

impl Admission {
    /// Whether it would be another one if somebody left. What is said of its address stands.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Surplus(_) | Self::None)
    }
}

/// What a counted connection gives back when it ends, by being dropped.
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    /// Where it comes from, as far as that is known and counted.
    source: Option<Source>,
    /// It counts among the connections of that address.
    is_source_counted: bool,
    /// The user among whose connections it counts.
    user: Option<Arc<str>>,
    doorway: Arc<Doorway>,
    /// It is told that the server is busy.
    pub(crate) is_surplus: bool,
    /// It came while memory was short, and its CONNECT is not answered yet.
    is_on_probation: bool,
}

/// The count of all shards.
pub(crate) struct Gate {
    all: Count,
    /// Those that are told that the server is busy, or may be.
    surplus: Count,
    terms: RwLock<Arc<Terms>>,
    sources: Sources,
    /// Connections of the users that may have only so many.
    users: Mutex<HashMap<Arc<str>, u32>>,
    is_short_of_memory: AtomicBool,
    counters: GateCounters,
}

/// What the settings say, as long as they do.
struct Terms {
    /// By slot.
    listeners: Vec<Arc<Doorway>>,
    failure_delay: Duration,
    identities: Vec<Identities>,
}

/// A listener, as the gate sees it.
struct Doorway {
    /// Goes on when its settings change.
    count: Arc<Count>,
    /// Its connections come from a proxy, whose address says nothing.
    is_proxied: bool,
    /// New connections a second, and what is left of them.
    rate: Option<(u32, Mutex<Bucket>)>,
}

/// A number that does not exceed its maximum, unless that has been lowered meanwhile.
struct Count {
    now: AtomicUsize,
    max: AtomicUsize,
}

/// What the gate has counted since the start.
#[derive(Debug, Default)]
pub(crate) struct GateCounters {
    /// Connections closed at once because their address is banned.
    pub(crate) banned: AtomicU64,
    /// Connections closed at once because their address had too many.
    pub(crate) source_connections: AtomicU64,
    /// Connections closed at once because their address opened them too fast.
    pub(crate) source_rate: AtomicU64,
    /// Times that accepting paused because a listener had taken in connections too fast.
    pub(crate) listener_pauses: AtomicU64,
    /// Clients refused because their user had too many connections.
    pub(crate) identity_connections: AtomicU64,
    /// Failed authentications.
    pub(crate) failures: AtomicU64,
    /// Bans of addresses.
    pub(crate) bans: AtomicU64,
    /// Connections closed at once because memory is short, and as many as may be are being told so.
    pub(crate) memory: AtomicU64,
    /// The most memory that was seen in use, in bytes.
    pub(crate) memory_peak_bytes: AtomicU64,
}

kinds! {
    /// Why the gate let somebody not in.
    pub(crate) enum TurnedAway {
        /// The address is banned.
        Banned = "banned",
        /// The address had too many connections.
        SourceConnections = "source-connections",
        /// The address opened connections too fast.
        SourceRate = "source-rate",
        /// The user had too many connections.
        IdentityConnections = "identity-connections",
        /// Memory is short.
        Memory = "memory",
    }
}

/// A copy of what the gate has counted.
#[derive(Debug, Clone)]
pub(crate) struct GateFigures {
    /// Connections that are in, those of clients that are not known yet included.
    pub(crate) connections: usize,
    /// How many there may be.
    pub(crate) connections_max: usize,
    /// Connections that were turned away, by reason.
    pub(crate) turned_away: Tally<TurnedAway>,
    /// Times that accepting paused because a listener had taken in connections too fast.
    pub(crate) listener_pauses: u64,
    /// Failed authentications.
    pub(crate) failures: u64,
    /// Bans of addresses.
    pub(crate) bans: u64,
    /// The most memory that was seen in use, in bytes.
    pub(crate) memory_peak_bytes: u64,
}

impl Gate {
    /// A gate for `connections_max` connections in total, and for as many as `config` has for listeners, addresses and users.
    pub(crate) fn new(connections_max: usize, config: &Config) -> Self {
        Self {
            all: Count::new(connections_max),
            surplus: Count::new(SURPLUS_MAX),
            terms: RwLock::new(Arc::new(Terms::new(config, &[]))),
            sources: Sources::new(SourceLimits::of(config)),
            users: Mutex::default(),
            is_short_of_memory: AtomicBool::new(false),
            counters: GateCounters::default(),
        }
    }

    /// Other settings hold from now on. Those who are in stay, be they more than may come in now; and of a user whose connections had no
    /// bound, those that are there are not counted.
    pub(crate) fn set(&self, connections_max: usize, config: &Config) {
        self.all.max.store(connections_max, Ordering::Relaxed);
        self.sources.set_limits(SourceLimits::of(config));
        let mut terms = self.terms.write().expect("a panic ends the process");
        *terms = Arc::new(Terms::new(config, &terms.listeners));
    }

    fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms.read().expect("a panic ends the process"))
    }

    fn doorway(&self, listener: u32) -> Arc<Doorway> {
        Arc::clone(&self.terms.read().expect("a panic ends the process").listeners[listener as usize])
    }

    /// Counts a connection of `listener` in, unless the answer is [`Admission::None`]. It comes from `peer`, which is `None` for Unix
    /// sockets. Behind a proxy that address is not looked at: see [`Gate::recognise`].
    pub(crate) fn enter(self: &Arc<Self>, listener: u16, peer: Option<IpAddr>, now: Moment) -> Admission {
        let doorway = self.doorway(listener.into());
        let is_short_of_memory = self.is_short_of_memory();
        if is_short_of_memory && !self.surplus.enter() {
            count(&self.counters.memory);
            return Admission::None;
        }
        let has_room = self.enter_house(&doorway);
        if !has_room && !is_short_of_memory && !self.surplus.enter() {
            return Admission::None;
        }
        let is_proxied = doorway.is_proxied;
        let mut ticket = Ticket {
            gate: Arc::clone(self),
            source: None,
            is_source_counted: false,
            user: None,
            doorway,
            is_surplus: !has_room,
            is_on_probation: has_room && is_short_of_memory,
        };
        if let Some(peer) = peer.filter(|_| !is_proxied)
            && self.recognise(&mut ticket, peer, now).is_err()
        {
            return Admission::Objection;
        }
        if has_room { Admission::Welcome(ticket) } else { Admission::Surplus(ticket) }
    }

    fn enter_house(&self, doorway: &Doorway) -> bool {
        if !self.all.enter() {
            return false;
        }
        let has_room = doorway.count.enter();
        if !has_room {
            self.all.leave();
        }
        has_room
    }

    /// Notes where a connection comes from: for one that came through a proxy, as soon as it is known.
    ///
    /// # Errors
    /// The connection is to be closed at once.
    pub(crate) fn recognise(&self, ticket: &mut Ticket, peer: IpAddr, now: Moment) -> Result<(), Objection> {
        debug_assert!(ticket.source.is_none(), "a connection comes from one address");
        let source = Source::of(peer);
        // A surplus connection takes no token: it may be tried again as soon as there is room.
        let entered = match ticket.is_surplus {
            true => self.sources.enter_briefly(source, now),
            false => self.sources.enter(source, now),
        };
        match entered {
            Ok(is_counted) => (ticket.source, ticket.is_source_counted) = (Some(source), is_counted),
            Err(Objection::Banned) => count(&self.counters.banned),
            Err(Objection::TooMany) => count(&self.counters.source_connections),
            Err(Objection::TooFast) => count(&self.counters.source_rate),
        }
        entered.map(drop)
    }

    /// Counts an authenticated connection among those of its user; whether there was room. If not, it is refused: 0x97 (Quota
    /// exceeded), or 0x03 for 3.x.
    ///
    /// One that takes over the Session of `older` may be one too many until that has ended: a user at the limit can come back.
    pub(crate) fn enter_identity(&self, ticket: &mut Ticket, user: &Arc<str>, older: Option<&Ticket>) -> bool {
        let terms = self.terms();
        let entry = identities_of(&terms.identities, user).map(|entry| &terms.identities[entry]);
        let Some(connections_max) = entry.and_then(|entry| entry.connections_max) else { return true };
        debug_assert!(ticket.user.is_none(), "a connection is authenticated once; see Ticket::leave_identity");
        let is_takeover = older.is_some_and(|older| older.user.as_ref() == Some(user));
        let mut users = self.users.lock().expect("a panic ends the process");
        let connections = users.entry(Arc::clone(user)).or_default();
        if *connections >= connections_max && !is_takeover {
            count(&self.counters.identity_connections);
            return false;
        }
        *connections += 1;
        ticket.user = Some(Arc::clone(user));
        true
    }

    /// Notes that a client at `source` gave wrong credentials.
    pub(crate) fn note_failure(&self, source: Option<Source>, now: Moment) {
        count(&self.counters.failures);
        // Who guesses at a Unix socket has no address that could be banned, so the wait is all that there is against it.
        if let Some(source) = source
            && self.sources.note_failure(source, now)
        {
            count(&self.counters.bans);
            tracing::warn!(%source, "too many failed authentications: the address is turned away for security.ban_time");
        }
    }

    /// For how long the answer to wrong credentials is held back.
    pub(crate) fn failure_delay(&self) -> Duration {
        self.terms().failure_delay
    }

    /// Whether `source` is banned by now: what a client there still waits for need not be done.
    pub(crate) fn is_banned(&self, source: Option<Source>, now: Moment) -> bool {
        source.is_some_and(|source| self.sources.is_banned(source, now))
    }

    /// Takes a token of `listener` for a connection that was accepted, and says from when on the next one may be.
    pub(crate) fn next_accept(&self, listener: u32, now: Moment) -> Moment {
        let doorway = self.doorway(listener);
        let Some((rate, bucket)) = &doorway.rate else { return now };
        let next = bucket.lock().expect("a panic ends the process").take_late(*rate, 1, now);
        if next > now {
            count(&self.counters.listener_pauses);
        }
        next
    }

    /// Memory is that short from now on.
    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        self.is_short_of_memory.store(pressure >= Pressure::RefuseConnections, Ordering::Relaxed);
    }

    /// Whether memory is short: those who are not in yet are to be bounded more closely.
    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.is_short_of_memory.load(Ordering::Relaxed)
    }

    /// Whether `listener` takes in only so many connections a second. They are then accepted one by one.
    pub(crate) fn is_paced(&self, listener: u32) -> bool {
        self.doorway(listener).rate.is_some()
    }

    /// What it has counted.
    pub(crate) fn counters(&self) -> &GateCounters {
        &self.counters
    }

    /// A copy of what it has counted, and how many are in.
    pub(crate) fn figures(&self) -> GateFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let GateCounters {
            banned,
            source_connections,
            source_rate,
            listener_pauses,
            identity_connections,
            failures,
            bans,
            memory,
            memory_peak_bytes,
        } = &self.counters;
        let mut turned_away = Tally::default();
        turned_away[TurnedAway::Banned] = read(banned);
        turned_away[TurnedAway::SourceConnections] = read(source_connections);
        turned_away[TurnedAway::SourceRate] = read(source_rate);
        turned_away[TurnedAway::IdentityConnections] = read(identity_connections);
        turned_away[TurnedAway::Memory] = read(memory);
        GateFigures {
            connections: self.all.now.load(Ordering::Relaxed),
            connections_max: self.all.max.load(Ordering::Relaxed),
            turned_away,
            listener_pauses: read(listener_pauses),
            failures: read(failures),
            bans: read(bans),
            memory_peak_bytes: read(memory_peak_bytes),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Terms {
    /// What `config` says of listeners that were these before.
    fn new(config: &Config, before: &[Arc<Doorway>]) -> Self {
        let doorway = |(slot, listener): (usize, &Listener)| {
            let count = before.get(slot).map(|doorway: &Arc<Doorway>| &doorway.count);
            Arc::new(Doorway::new(listener, count))
        };
        Self {
            listeners: config.listeners.iter().enumerate().map(doorway).collect(),
            failure_delay: config.security.failure_delay,
            identities: config.identities.clone(),
        }
    }
}

impl Doorway {
    fn new(listener: &Listener, count: Option<&Arc<Count>>) -> Self {
        // The clock has long left the epoch when the first connection comes, so any bucket is full by then.
        let bucket = |rate| (rate, Mutex::new(Bucket::full(rate, Moment::ZERO)));
        let max = listener.connections_max.map_or(usize::MAX, |max| max as usize);
        let count = count.map_or_else(|| Arc::new(Count::new(max)), Arc::clone);
        count.max.store(max, Ordering::Relaxed);
        Self { count, is_proxied: listener.proxy_protocol, rate: listener.connection_rate_max.map(bucket) }
    }
}

impl Ticket {
    /// The CONNECT of the connection is answered.
    pub(crate) fn end_probation(&mut self) {
        if std::mem::take(&mut self.is_on_probation) {
            self.gate.surplus.leave();
        }
    }

    /// Where the connection comes from, as far as that is known and counted.
    pub(crate) fn source(&self) -> Option<Source> {
        self.source
    }

    /// Whether it is known where the connection comes from.
    pub(crate) fn is_recognised(&self) -> bool {
        self.source.is_some()
    }

    /// The connection does not count among those of its user any more: it is about to end.
    pub(crate) fn leave_identity(&mut self) {
        let Some(user) = self.user.take() else { return };
        let mut users = self.gate.users.lock().expect("a panic ends the process");
        if let Entry::Occupied(mut connections) = users.entry(user) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave_identity();
        self.end_probation();
        let gate = &self.gate;
        if let Some(source) = self.source.filter(|_| self.is_source_counted) {
            gate.sources.leave(source);
        }
        if self.is_surplus {
            gate.surplus.leave();
        } else {
            gate.all.leave();
            self.doorway.count.leave();
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = f.debug_struct("Ticket");
        fields.field("source", &self.source).field("user", &self.user);
        fields.field("is_surplus", &self.is_surplus).finish_non_exhaustive()
    }
}

impl Count {
    fn new(max: usize) -> Self {
        Self { now: AtomicUsize::new(0), max: AtomicUsize::new(max) }
    }

    fn enter(&self) -> bool {
        let has_room = self.now.fetch_add(1, Ordering::Relaxed) < self.max.load(Ordering::Relaxed);
        if !has_room {
            self.leave();
        }
        has_room
    }

    fn leave(&self) {
        let before = self.now.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "counted out more often than in");
    }
}

#[cfg(test)]
mod tests;
