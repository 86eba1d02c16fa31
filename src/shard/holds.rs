//! Holds: wills that fall due during planned work wait until it is over.
//!
//! A hold is in memory alone. After a restart there is none, and what it kept back is published when the grace of the restart has passed:
//! whoever stops the broker during planned work and does not want that holds again before it has.
//!
//! **A client that comes back** while its will is held has raised no alarm: the will is discarded, as one that is pending is where a delay is in
//! force, and whether its Session goes on or another one begins. It could not be published first, since it is held, nor when the hold ends:
//! that would tell of a death after the birth. The same goes for one that a hold has let go of to be discarded, and that is not looked at yet.

use super::Shard;
use super::inspect::WillChange;
use super::peer::SessionKey;
use super::wills::WillFate;
use crate::journal::record::Transaction;
use crate::session::Session;
use crate::session::will::WillState;
use crate::timer::Moment;
use std::collections::{BTreeMap, VecDeque};

/// Holds in force at a time; every will that falls due is compared with all of them.
const HOLDS_MAX: usize = 64;

/// Which wills are held back during planned work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hold {
    /// All of them.
    All,
    /// Those of the clients that connected to this listener.
    Listener(u16),
    /// Those of clients whose identifier begins so.
    ClientIdPrefix(Box<str>),
}

impl Hold {
    fn covers(&self, session: &Session) -> bool {
        match self {
            Self::All => true,
            Self::Listener(listener) => session.listener == *listener,
            Self::ClientIdPrefix(prefix) => session.client_id.starts_with(&**prefix),
        }
    }
}

/// The holds in force, what they keep back, and what those that have ended kept back.
#[derive(Debug, Default)]
pub(super) struct Holds {
    in_force: Vec<Hold>,
    kept: Line,
    /// With what is to become of those that no other hold covers. They may be many, so they are looked at in the wills' own slices.
    released: VecDeque<(Line, WillFate)>,
}

/// Sessions in the order in which their wills fell due. Any of them may leave the line.
#[derive(Debug, Default)]
struct Line {
    order: BTreeMap<u64, SessionKey>,
    places: BTreeMap<SessionKey, u64>,
    next: u64,
}

impl Line {
    fn push(&mut self, key: SessionKey) {
        if let Some(older) = self.places.insert(key, self.next) {
            self.order.remove(&older);
        }
        self.order.insert(self.next, key);
        self.next += 1;
    }

    fn pop(&mut self) -> Option<SessionKey> {
        let (_, key) = self.order.pop_first()?;
        self.places.remove(&key);
        Some(key)
    }

    fn remove(&mut self, key: SessionKey) {
        if let Some(place) = self.places.remove(&key) {
            self.order.remove(&place);
        }
    }

    fn contains(&self, key: SessionKey) -> bool {
        self.places.contains_key(&key)
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Holds {
    /// Keeps a will back that is due.
    pub(super) fn keep(&mut self, key: SessionKey) {
        self.kept.push(key);
    }

    /// The will of a Session is gone, and there is nothing to keep back.
    pub(super) fn forget(&mut self, key: SessionKey) {
        self.kept.remove(key);
        self.released.iter_mut().for_each(|(line, _)| line.remove(key));
    }

    /// Wills that are kept back.
    pub(super) fn kept_len(&self) -> usize {
        self.kept.len()
    }

    /// Wills that were let go of and are still to be looked at.
    pub(super) fn released_len(&self) -> usize {
        self.released.iter().map(|(line, _)| line.len()).sum()
    }

    fn next_released(&mut self) -> Option<(SessionKey, WillFate)> {
        loop {
            let (line, fate) = self.released.front_mut()?;
            if let Some(key) = line.pop() {
                return Some((key, *fate));
            }
            self.released.pop_front();
        }
    }

    /// Whether a will is to be discarded that is not looked at yet.
    fn is_to_be_discarded(&self, key: SessionKey) -> bool {
        self.released.iter().any(|(line, fate)| *fate == WillFate::Discard && line.contains(key))
    }
}

impl Shard {
    /// Holds wills back: they fall due and wait. The same hold twice is one. Whether it is in force: there may be 64 of them.
    pub fn hold_wills(&mut self, hold: Hold) -> bool {
        let in_force = &mut self.wills.holds.in_force;
        if in_force.contains(&hold) {
            return true;
        }
        let has_room = in_force.len() < HOLDS_MAX;
        if has_room {
            in_force.push(hold);
        }
        has_room
    }

    /// Ends a hold; whether there was one. What it kept back, and no other hold covers, is published after all, or discarded: by
    /// [`Self::publish_due_wills`], as wills that fall due are.
    pub fn release_wills(&mut self, hold: &Hold, fate: WillFate) -> bool {
        let holds = &mut self.wills.holds;
        let before = holds.in_force.len();
        holds.in_force.retain(|held| held != hold);
        let was_there = holds.in_force.len() < before;
        if was_there && !holds.kept.is_empty() {
            holds.released.push_back((std::mem::take(&mut holds.kept), fate));
        }
        was_there
    }

    /// The holds in force.
    pub fn holds(&self) -> &[Hold] {
        &self.wills.holds.in_force
    }

    /// Whether a hold keeps the will of a Session back.
    pub(super) fn is_held(&self, session: u32) -> bool {
        let Some(owner) = self.sessions.get(session) else { return false };
        self.wills.holds.in_force.iter().any(|hold| hold.covers(owner))
    }

    /// Whether a will that is due is void once its client is back: it is held, or was to be discarded.
    pub(super) fn is_void_on_return(&self, session: u32) -> bool {
        self.is_held(session) || self.wills.holds.is_to_be_discarded(self.sessions.key(session))
    }

    /// Discards a will that is due, since its client is back and a hold has kept it until then; under which transaction, where the
    /// Session ends under one. A Session that has ended goes with it.
    pub(super) fn discard_on_return(&mut self, now: Moment, session: u32) -> Option<Transaction> {
        let under = self.open_transaction_of(session);
        let owner = self.sessions.get_mut(session).expect("it was found just now");
        owner.will = WillState::None;
        let has_ended = owner.has_ended;
        self.stats.wills.discarded_by_return += 1;
        self.record_will_gone(session, under);
        self.trace_will(now, session, WillChange::Discarded);
        if has_ended {
            self.remove_ended(session, under);
        }
        under
    }

    /// Looks at one will that a hold has let go of; whether there was one. What cannot be discarded yet is put off.
    pub(super) fn go_on_releasing(&mut self, now: Moment, put_off: &mut Vec<SessionKey>) -> bool {
        let Some((key, fate)) = self.wills.holds.next_released() else { return false };
        let Some(session) = self.sessions.resolve(key) else { return true };
        if self.is_held(session) {
            self.wills.holds.keep(key);
        } else if fate == WillFate::Publish {
            self.wills.due.push_back(key);
        } else if self.is_between_transactions(session) {
            put_off.push(key);
        } else {
            self.discard_due(now, session);
            self.journal.end_step();
        }
        true
    }

    /// Goes on later with what was put off.
    pub(super) fn put_off_releasing(&mut self, put_off: Vec<SessionKey>) {
        if !put_off.is_empty() {
            let mut line = Line::default();
            put_off.into_iter().for_each(|key| line.push(key));
            self.wills.holds.released.push_front((line, WillFate::Discard));
        }
    }

    /// Discards a will that is due. One that the client has armed since it came back is another will.
    fn discard_due(&mut self, now: Moment, session: u32) {
        let owner = self.sessions.get_mut(session).expect("it was resolved just now");
        match owner.will.take() {
            WillState::Due { closing, .. } => {
                self.stats.wills.discarded[closing.cause] += 1;
                self.record_will_gone(session, None);
                self.trace_will(now, session, WillChange::Discarded);
            }
            other => owner.will = other,
        }
        if self.sessions.get(session).is_some_and(|owner| owner.has_ended) {
            self.remove_ended(session, None);
        }
    }
}
