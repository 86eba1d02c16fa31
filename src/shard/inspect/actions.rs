//! What an operator may do to a will or to a Session.
//!
//! Each of these is a step of its own in the journal. It is certain when the journal has it, which is a little later than the call: the
//! [`Receipt`] tells. Until then a crash may undo it, and it is not to be reported as done.

use super::WillChange;
use crate::codec::ReasonCode;
use crate::session::will::{Cause, Closing, WillState};
use crate::shard::{Fault, Shard, WillFate};
use crate::timer::Moment;

/// What became of an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and outlasts the process once [`Shard::is_certain`] says so of the receipt.
    Done(Receipt),
    /// There is no such will, or no such Session.
    NotFound,
    /// Not now: the disk refuses what is written, or the Session is just beginning, or ending together with other shards. Asking again
    /// helps.
    NotNow,
}

/// Names a promise: as that of an acknowledgement, it is kept when every shard that has to store something for it has done so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The gate that opens then; `None` where nothing is written down.
    gate: Option<u64>,
}

impl Shard {
    /// Publishes a will at once, whatever its delay and whatever holds it back.
    ///
    /// One that is armed is published, too: its client stays connected, and has no will from then on. It counts as closed by an
    /// administrator; one that is pending or due keeps the cause that it has.
    pub fn publish_will_now(&mut self, now: Moment, client_id: &str) -> Outcome {
        let session = match self.session_with_will(client_id) {
            Ok(session) => session,
            Err(refused) => return refused,
        };
        let owner = self.sessions.get_mut(session).expect("it was found just now");
        match owner.will.take() {
            WillState::Armed(will) => {
                let open = owner.connection.and_then(|id| self.connections.get(id));
                let last_packet = open.map_or(now, |connection| connection.last_packet);
                let closing = Closing { cause: Cause::Administrative, at: now, last_packet, is_recovered: false };
                owner.will = WillState::Due { will, due: now, closing };
                self.stats.wills.armed_now -= 1;
            }
            other => owner.will = other,
        }
        self.make_will_due(session, now);
        self.publish_will(now, session);
        self.tell_of_will_taken(now, client_id);
        Outcome::Done(self.receipt())
    }

    /// Discards a will, wherever it stands. An armed one leaves its client connected, without a will.
    pub fn discard_will(&mut self, now: Moment, client_id: &str) -> Outcome {
        let session = match self.session_with_will(client_id) {
            Ok(session) => session,
            Err(refused) => return refused,
        };
        self.discard_will_of(now, session);
        if self.sessions.get(session).is_some_and(|owner| owner.has_ended) {
            self.remove_ended(session, None);
        }
        self.tell_of_will_taken(now, client_id);
        Outcome::Done(self.receipt())
    }

    /// Ends the Session of a client, and its Network Connection with 0x98 where it has one. Its will is due at once, or discarded.
    pub fn end_session_of(&mut self, now: Moment, client_id: &str, will: WillFate) -> Outcome {
        let Some(session) = self.sessions.find(client_id) else { return Outcome::NotFound };
        if self.sessions.get(session).is_none_or(|owner| owner.has_ended) {
            return Outcome::NotFound;
        }
        if self.journal.is_failing() || self.is_between_transactions(session) {
            return Outcome::NotNow;
        }
        let key = self.sessions.key(session);
        let fault = Fault::new(ReasonCode::AdministrativeAction, "an administrator has ended the Session");
        if let Some(id) = self.sessions.get(session).and_then(|owner| owner.connection) {
            self.end_with(now, id, Cause::Administrative, will, &fault);
        }
        // One that was to end with its connection has done so.
        let still_there = self.sessions.resolve(key).and_then(|session| self.sessions.get(session));
        if still_there.is_some_and(|owner| !owner.has_ended) {
            if will == WillFate::Discard {
                self.discard_will_of(now, session);
            }
            // Of a client that was handed away before a stop it is armed still.
            let closing = Closing { cause: Cause::Administrative, at: now, last_packet: now, is_recovered: false };
            self.on_will_closing(now, session, closing, will);
            self.end_session(now, session);
        }
        Outcome::Done(self.receipt())
    }

    /// Discards the will of a Session, where it has one.
    fn discard_will_of(&mut self, now: Moment, session: u32) {
        let owner = self.sessions.get_mut(session).expect("it was found just now");
        match owner.will.take() {
            WillState::None => return,
            WillState::Armed(_) => self.stats.wills.armed_now -= 1,
            WillState::Pending { timer, .. } => {
                self.wheel.cancel(timer);
                self.stats.wills.pending_now -= 1;
            }
            WillState::Due { .. } => {}
        }
        self.stats.wills.discarded[Cause::Administrative] += 1;
        self.record_will_gone(session, None);
        self.trace_will(now, session, WillChange::Discarded);
    }

    /// The Session of a client that has a will about which something can be done now.
    fn session_with_will(&self, client_id: &str) -> Result<u32, Outcome> {
        let session = self.sessions.find(client_id).ok_or(Outcome::NotFound)?;
        let owner = self.sessions.get(session).ok_or(Outcome::NotFound)?;
        // Until CONNACK leaves it may turn out that the client was never let in, and left no will.
        let is_opening = owner.connection.is_some_and(|id| self.awaits_connack(id));
        if matches!(owner.will, WillState::None) {
            Err(Outcome::NotFound)
        } else if self.journal.is_failing() || self.is_between_transactions(session) || is_opening {
            Err(Outcome::NotNow)
        } else {
            Ok(session)
        }
    }

    /// Ends the step of something that was done on an operator's word; by the receipt it is known when that is certain.
    pub fn receipt(&mut self) -> Receipt {
        let gate = self.journal.must_promise().then(|| self.promise_to_operator());
        self.journal.end_step();
        Receipt { gate }
    }

    /// Whether what a receipt is about outlasts the process from now on. Without a journal it is so at once, as far as anything is.
    pub fn is_certain(&self, receipt: Receipt) -> bool {
        receipt.gate.is_none_or(|gate| !self.peers.has_gate(gate))
    }
}
