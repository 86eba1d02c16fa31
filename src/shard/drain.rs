//! Drain: before a planned stop, clients are handed away one after the other instead of all at once.
//!
//! ```text
//!          begin                    all are handed away
//! off ─────────────▶ handing away ──────────────────────▶ drained ──▶ the owner stops the broker
//!  ▲                  │        ▲ │ begin again: another time        │
//!  └──────cancel──────┴────────┴─┘◀────────────────cancel───────────┘
//! ```
//!
//! Meanwhile nobody is let in. A client that was handed away has done nothing wrong, and would be back if it might: its will stays
//! *armed*, without a connection, as at a clean stop. It is in the journal for the next start, which gives it the grace of a restart. After a
//! cancel that grace begins at once.
//!
//! Who is next follows from a walk over the slots of connections by a stride that visits each once: as good as random, and without a list
//! of a hundred thousand.

use super::peer::SessionKey;
use super::restore::grace;
use super::wills::WillFate;
use super::{Fault, Random, Shard, Timer};
use crate::codec::{ProtocolVersion, ReasonCode};
use crate::journal::record::{Record, SessionNumber};
use crate::session::ConnectionId;
use crate::session::will::{Cause, Closing, WillState};
use crate::timer::{Moment, Tick, TimerId};
use std::collections::VecDeque;
use std::time::Duration;

/// Clients that are handed away in one tick, at most.
const A_TICK_MAX: usize = 256;
/// Slots that are looked at in one tick, at most.
const SLOTS_A_TICK_MAX: u32 = 4096;
/// Wills that are settled in one tick after a cancel.
const SETTLED_A_TICK: usize = 256;
/// So many ticks, two seconds, a client is waited for that is owed replies which the disk or other shards hold back.
const LINGER_TICKS: u32 = 200;

/// Where the drain of a shard stands.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Clients are handed away, and nobody is let in.
    is_on: bool,
    /// `None` where it is off, and while it is being worked at.
    handing: Option<Handing>,
    timer: Option<TimerId>,
    /// Sessions without a connection whose wills stay armed.
    away: Vec<SessionKey>,
    /// When the drain was cancelled after which `away` is worked off.
    cancelled: Option<Moment>,
}

/// How far the handing away has come.
#[derive(Debug)]
struct Handing {
    walk: Walk,
    /// The walk had come so far when the order came.
    from_visited: u32,
    from: Moment,
    over: Duration,
    /// Connections when the first order came.
    total: usize,
    /// Whoever is still owed replies, and how often it was waited for them.
    lingering: VecDeque<(ConnectionId, u32)>,
}

/// A walk over slots that visits each once, in an order that tells nothing of when they were taken.
#[derive(Debug)]
struct Walk {
    slots: u32,
    stride: u32,
    at: u32,
    visited: u32,
}

/// How far a drain has come on one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainProgress {
    /// Connections when it began.
    pub total: usize,
    /// Those that are left.
    pub left: usize,
    /// Everybody is handed away.
    pub is_over: bool,
}

impl Walk {
    fn new(slots: usize, random: &mut Random) -> Self {
        let slots = u32::try_from(slots).expect("slots are numbered by u32");
        let mut stride = (random.next() % u64::from(slots.max(1))) as u32 | 1;
        // Without a common divisor every slot has its turn; one is among the next few numbers.
        while slots > 1 && common_divisor(slots, stride) != 1 {
            stride += 2;
        }
        Self { slots, stride, at: (random.next() % u64::from(slots.max(1))) as u32, visited: 0 }
    }

    fn is_over(&self) -> bool {
        self.visited == self.slots
    }

    fn next(&mut self) -> u32 {
        let at = self.at;
        self.at = ((u64::from(self.at) + u64::from(self.stride)) % u64::from(self.slots)) as u32;
        self.visited += 1;
        at
    }
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl Handing {
    /// Slots that are to have been visited by now: evenly over the time.
    fn due(&self, now: Moment) -> u32 {
        let elapsed = now.duration_since(self.from);
        if elapsed >= self.over {
            return self.walk.slots;
        }
        let rest = u128::from(self.walk.slots - self.from_visited);
        self.from_visited + (rest * elapsed.as_nanos() / self.over.as_nanos()) as u32
    }

    /// When there is something to do again, if anything is left.
    fn next(&self, now: Moment) -> Option<Moment> {
        if !self.lingering.is_empty() {
            return Some(now + Tick::LENGTH);
        }
        if self.walk.is_over() {
            return None;
        }
        let rest = u128::from(self.walk.slots - self.from_visited);
        let share = self.over.as_nanos() * u128::from(self.walk.visited + 1 - self.from_visited) / rest;
        let share = Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX));
        Some((self.from + share).max(now + Tick::LENGTH))
    }

    fn is_over(&self) -> bool {
        self.walk.is_over() && self.lingering.is_empty()
    }
}

impl Drain {
    /// Whether clients are handed away, and nobody is let in.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }
}

impl Shard {
    /// Refuses newcomers from now on, and hands the clients away, evenly `over` this time. Where that is already being done, only the time
    /// changes. Once [`Self::drain_progress`] says that it is over, the broker is to be stopped.
    pub fn begin_drain(&mut self, now: Moment, over: Duration) {
        let fresh = || Handing {
            walk: Walk::new(self.connections.slots(), &mut self.random),
            from_visited: 0,
            from: now,
            over,
            total: self.connections.len(),
            lingering: VecDeque::new(),
        };
        let mut handing = self.drain.handing.take().unwrap_or_else(fresh);
        handing.from_visited = handing.walk.visited;
        (handing.from, handing.over) = (now, over);
        self.drain.handing = Some(handing);
        self.drain.is_on = true;
        self.drain.cancelled = None; // Wills that a cancel has not settled yet stay armed: nobody can come back any more.
        self.hand_on(now);
    }

    /// Lets clients in again. Those that are gone are gone; the grace of their wills begins.
    pub fn cancel_drain(&mut self, now: Moment) {
        // A stop that has begun goes on, with the wills as they are.
        if !self.stop.is_asked && std::mem::take(&mut self.drain.is_on) {
            self.drain.handing = None;
            self.drain.cancelled = Some(now);
            self.settle_some_away(now);
        }
    }

    /// How far a drain has come; `None`: there is none.
    pub fn drain_progress(&self) -> Option<DrainProgress> {
        let handing = self.drain.handing.as_ref()?;
        let left = self.connections.len();
        Some(DrainProgress { total: handing.total, left, is_over: handing.is_over() })
    }

    /// The Reason Code that sends a client elsewhere, where `drain.server_reference` says where and its version can be told. (§4.11)
    pub(super) fn redirection(&self, version: ProtocolVersion) -> Option<ReasonCode> {
        let drain = &self.config.drain;
        let reason = if drain.permanent { ReasonCode::ServerMoved } else { ReasonCode::UseAnotherServer };
        (drain.server_reference.is_some() && version.has_reason_codes()).then_some(reason)
    }

    /// The Server Reference that belongs to a Reason Code. [MQTT-4.11]
    pub(super) fn server_reference(&self, reason: ReasonCode) -> Option<String> {
        match reason {
            ReasonCode::UseAnotherServer | ReasonCode::ServerMoved => self.config.drain.server_reference.clone(),
            _ => None,
        }
    }

    /// The timer of the drain: goes on with whoever's turn it is.
    pub(super) fn on_drain_timer(&mut self, now: Moment) {
        self.drain.timer = None;
        if self.drain.is_on {
            self.hand_on(now);
        } else {
            self.settle_some_away(now);
        }
    }

    fn arm_drain_timer(&mut self, at: Moment) {
        if let Some(timer) = self.drain.timer.replace(self.wheel.arm(at, Timer::Drain)) {
            self.wheel.cancel(timer);
        }
    }

    fn hand_on(&mut self, now: Moment) {
        if self.stop.is_asked {
            return; // All are closed at once.
        }
        let Some(mut handing) = self.drain.handing.take() else { return };
        let mut handed = 0;
        for _ in 0..handing.lingering.len() {
            let Some((id, ticks)) = handing.lingering.pop_front() else { break };
            if self.is_owed_replies(id) && ticks < LINGER_TICKS {
                handing.lingering.push_back((id, ticks + 1));
            } else {
                self.hand_away(now, id);
                handed += 1;
            }
        }
        let due = handing.due(now).min(handing.walk.visited.saturating_add(SLOTS_A_TICK_MAX));
        while handing.walk.visited < due && handed < A_TICK_MAX {
            let Some(id) = self.connections.at(handing.walk.next()) else { continue };
            handed += 1;
            if self.is_owed_replies(id) {
                handing.lingering.push_back((id, 0));
            } else {
                self.hand_away(now, id);
            }
        }
        if let Some(next) = handing.next(now) {
            self.arm_drain_timer(next);
        }
        self.drain.handing = Some(handing);
    }

    /// Whether replies to a client are held back, which would go with its connection.
    fn is_owed_replies(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.output.gates() > 0)
    }

    fn hand_away(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let key = self.sessions.key(connection.session);
        let fault = match self.redirection(connection.version) {
            Some(reason) => Fault::new(reason, "this server is about to stop"),
            None => Fault::new(ReasonCode::ServerShuttingDown, "the server is about to stop"),
        };
        self.stats.handed_away += 1;
        self.end_with(now, id, Cause::Shutdown, WillFate::Publish, &fault);
        self.note_away(key);
        self.journal.end_step();
    }

    fn note_away(&mut self, key: SessionKey) {
        let owner = self.sessions.resolve(key).and_then(|session| self.sessions.get(session));
        if owner.is_some_and(|owner| owner.connection.is_none() && matches!(owner.will, WillState::Armed(_))) {
            self.drain.away.push(key);
        }
    }

    /// A client was refused since there is a drain. It is alive, so a will of it that is pending, because its connection had broken, is armed
    /// again: it would raise a false alarm if it fell due while its client may not come back. Where its connection has not been seen to break
    /// yet, it has given that up, and is the next to be handed away: its Keep Alive would pass otherwise.
    pub(super) fn on_turned_away(&mut self, now: Moment, client_id: &str, clean_start: bool) {
        if let Some(older) = self.connection_of(client_id) {
            return self.hand_away(now, older);
        }
        let Some(session) = self.sessions.find(client_id) else { return };
        if self.journal.is_failing() || self.is_between_transactions(session) {
            return; // It could not be kept for sure that it is so; the will stays pending.
        }
        let Some(owner) = self.sessions.get_mut(session) else { return };
        match owner.will.take() {
            WillState::Pending { will, due, timer, .. } if due > now && !clean_start => {
                self.wheel.cancel(timer);
                self.stats.wills.pending_now -= 1;
                self.stats.wills.armed_now += 1;
                self.record_will_armed(session, &will, None);
                self.sessions.get_mut(session).expect("found above").will = WillState::Armed(will);
                self.record_session(session, Some(now)); // A restart counts from here.
                self.drain.away.push(self.sessions.key(session));
                self.journal.end_step();
            }
            other => owner.will = other,
        }
    }

    /// After a cancel: gives the wills of clients that were handed away their grace, a slice at a time.
    fn settle_some_away(&mut self, now: Moment) {
        if self.drain.cancelled.is_none() {
            return;
        }
        for _ in 0..SETTLED_A_TICK {
            let Some(key) = self.drain.away.pop() else { return };
            if let Some(session) = self.sessions.resolve(key) {
                self.settle_away(session);
                self.journal.end_step();
            }
        }
        self.arm_drain_timer(now + Tick::LENGTH);
    }

    /// Makes the will of a client that was handed away pending, where it is not back: as if its connection had closed when the drain was
    /// cancelled, and not due before the grace of a restart has passed since then. (WILLS.md, *Restart*)
    pub(super) fn settle_away(&mut self, session: u32) {
        let Some(at) = self.drain.cancelled else { return };
        let key = self.sessions.key(session);
        let Some(owner) = self.sessions.get_mut(session).filter(|owner| owner.connection.is_none()) else { return };
        let will = match owner.will.take() {
            WillState::Armed(will) => will,
            other => return owner.will = other,
        };
        let delay = Duration::from_secs(u64::from(will.delay_interval));
        let delay = owner.expiry.duration().map_or(delay, |expiry| delay.min(expiry));
        let grace_ends = at + grace(&self.config, owner.keep_alive);
        let due = grace_ends.max(at + delay);
        let closing = Closing { cause: Cause::Shutdown, at, last_packet: at, is_recovered: false };
        let timer = self.wheel.arm(due, Timer::WillDelay(key));
        owner.will = WillState::Pending { will, due, timer, closing };
        // The end of a Session publishes its will, so it waits for the grace, too.
        if let Some(expiry_timer) = owner.expiry_timer
            && owner.ends.is_some_and(|ends| ends < grace_ends)
        {
            self.wheel.cancel(expiry_timer);
            owner.ends = Some(grace_ends);
            owner.expiry_timer = Some(self.wheel.arm(grace_ends, Timer::SessionExpiry(key)));
        }
        let number = owner.number.map(SessionNumber);
        self.stats.wills.armed_now -= 1;
        self.stats.wills.pending_now += 1;
        if let Some(session) = number {
            self.journal.append(&Record::WillPending { session, due, closing });
        }
    }

    /// A stop publishes all wills: those of clients that were handed away as well.
    pub(super) fn close_wills_of_away(&mut self, now: Moment) {
        let closing = Closing { cause: Cause::Shutdown, at: now, last_packet: now, is_recovered: false };
        for key in std::mem::take(&mut self.drain.away) {
            let Some(session) = self.sessions.resolve(key) else { continue };
            if self.sessions.get(session).is_some_and(|owner| owner.connection.is_none()) {
                self.on_will_closing(now, session, closing, WillFate::Publish);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_walk_visits_each_slot_once_whatever_the_seed() {
        for slots in (0..70).chain([97, 128, 1000, 1024, 30_030]) {
            let mut walk = Walk::new(slots, &mut Random(slots as u64));
            let mut visited = BTreeSet::new();
            while !walk.is_over() {
                assert!(visited.insert(walk.next()), "{slots} slots");
            }
            assert_eq!(visited.len(), slots);
        }
    }
}
