//! What a shard does when memory runs short, and with clients that do not read what they are sent.
//!
//! The owner watches the memory of the process and says how short it is; each level includes those before it. What the shard gives up
//! is what costs least: first newcomers, then what nobody was promised, then time. A message of QoS 1 or 2 is never given up.

use super::connection::Pause;
use super::{Fault, Shard, Timer};
use crate::codec::ReasonCode;
use crate::session::ConnectionId;
use crate::timer::Moment;
use std::time::Duration;

/// How often a client that waits for memory is looked at.
const LET_THROUGH: Duration = Duration::from_secs(1);

/// How often queues are looked through for what need not wait any more, when memory is used up, and how many Sessions and messages in one go.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEPT_SESSIONS: usize = 1024;
const SWEPT_MESSAGES: usize = 16 * 1024;

/// Bytes of an incomplete packet that are held of each client when memory is used up. Acknowledgements, which make room, are smaller.
pub(super) const PARTIAL_PACKET_MAX: usize = 16 * 1024;

/// How short memory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// CONNECTs without an existing Session are refused with 0x89 Server busy (0x03 for 3.x).
    RefuseConnections,
    /// QoS 0 messages are dropped, wills excepted.
    ShedQos0,
    /// Who publishes is not read, and wills that are due wait. The Keep Alive of whoever is not read is not held against it. Of a client that
    /// owes acknowledgements one PUBLISH passes in a second, since they may stand behind it.
    PausePublishers,
}

impl Shard {
    /// Memory is so short from now on. Where it need not be waited for any more, those who did are read again.
    pub fn set_pressure(&mut self, now: Moment, pressure: Pressure) {
        self.pressure = pressure;
        if pressure == Pressure::PausePublishers && !std::mem::replace(&mut self.is_sweeping, true) {
            self.wheel.arm(now + SWEEP_EVERY, Timer::SweepQueues { from: 0 });
        }
        if pressure < Pressure::PausePublishers {
            for id in std::mem::take(&mut self.waiting_publishers) {
                let Some(connection) = self.connections.get_mut(id) else { continue };
                connection.is_let_through = false;
                if let Some(timer) = connection.waits_for_memory.take() {
                    self.wheel.cancel(timer);
                }
                self.resume(now, id, Pause::Memory);
            }
            for id in std::mem::take(&mut self.hung_up) {
                self.read_to_its_end(now, id);
            }
        }
    }

    /// How short memory is.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Stops reading from a connection that has a PUBLISH for us; whether it can be stopped.
    pub(super) fn pause_publisher(&mut self, now: Moment, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if connection.is_let_through || !self.connections.pause(id, Pause::Memory) {
            return false;
        }
        self.stats.pauses_memory += 1;
        self.waiting_publishers.insert(id);
        self.look_at_publisher_again(now, id);
        true
    }

    fn look_at_publisher_again(&mut self, now: Moment, id: ConnectionId) {
        let timer = self.wheel.arm(now + LET_THROUGH, Timer::LetThrough(id));
        self.connections.get_mut(id).expect("it is paused").waits_for_memory = Some(timer);
    }

    /// Lets one PUBLISH pass of a client that has not acknowledged what it was sent: the acknowledgements may stand behind it, and memory
    /// is given back only when they are read. Where all clients both publish and subscribe, nothing would ever go on otherwise.
    pub(super) fn let_through(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.waits_for_memory = None;
        if !connection.pauses.has(Pause::Memory) {
            return;
        }
        let owes = self.sessions.get(connection.session).is_some_and(|owner| owner.outgoing.in_flight_len() > 0);
        if owes {
            connection.is_let_through = true;
            self.resume(now, id, Pause::Memory);
        } else {
            self.look_at_publisher_again(now, id);
        }
    }

    /// Drops what has waited too long or has expired, in the queues of some Sessions from this one on. Otherwise that happens when somebody
    /// publishes, or the Session's client reads; while publishers wait, memory would never be given back for clients that are away.
    pub(super) fn sweep_queues(&mut self, now: Moment, from: u32) {
        self.is_sweeping = self.pressure == Pressure::PausePublishers;
        if !self.is_sweeping {
            return;
        }
        let (mut next, mut messages) = (Some(from), 0);
        for _ in 0..SWEPT_SESSIONS {
            next = next.and_then(|next| self.sessions.next_from(next));
            let Some(session) = next.filter(|_| messages < SWEPT_MESSAGES) else { break };
            let outgoing = &mut self.sessions.get_mut(session).expect("it was found just now").outgoing;
            messages += outgoing.queue().len();
            outgoing.queue_mut().drop_lost(now, &mut self.queues);
            self.account_for_dropped(session);
            next = Some(session + 1);
        }
        self.wheel.arm(now + SWEEP_EVERY, Timer::SweepQueues { from: next.unwrap_or(0) });
    }

    /// Stops reading from a connection that has sent `held` bytes of a packet that is not complete, where that is much for now: a client may
    /// make us hold as much as the largest packet, and all of them together more than there is.
    pub(super) fn mind_partial_packet(&mut self, now: Moment, id: ConnectionId, held: usize) {
        if self.pressure == Pressure::PausePublishers && held > PARTIAL_PACKET_MAX {
            self.pause_publisher(now, id);
        }
    }

    /// Whether wills that are due stay so for want of memory: the armed wills bound how many these are, and what would become of them does
    /// not have a bound. A server that stops publishes them all the same.
    pub(super) fn must_wills_wait(&self) -> bool {
        self.pressure == Pressure::PausePublishers && !self.stop.is_asked
    }

    /// The output of a connection is full of answers to what it sent.
    pub(super) fn choke(&mut self, id: ConnectionId) {
        if self.connections.pause(id, Pause::Choked) {
            self.stats.pauses_choked += 1;
        }
        self.note_full_output(id);
    }

    /// The output of a connection is full. Where that ends it, it does so at the end of the turn: others are being delivered to.
    ///
    /// It is no fault of a client that it does not take at once what has waited for it, or all that is retained: we fill the output with that
    /// ourselves.
    pub(super) fn note_full_output(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let receiver = self.sessions.get(connection.session);
        let is_catching_up = receiver.is_none_or(|it| it.outgoing.has_waiting() || !it.look_ups.is_empty());
        if connection.bounds.disconnects_slow_reader
            && !is_catching_up
            && !std::mem::replace(&mut connection.is_too_slow, true)
        {
            self.slow_readers.push(id);
        }
    }

    /// Disconnects those who did not read what they were sent, and are not to be waited for.
    pub(super) fn disconnect_slow_readers(&mut self, now: Moment) {
        for id in std::mem::take(&mut self.slow_readers) {
            if self.connections.get(id).is_some() {
                self.stats.slow_readers_disconnected += 1;
                let fault = Fault::new(ReasonCode::QuotaExceeded, "the client does not read what it is sent");
                self.tell_of(id, &fault);
                // It would not read that either, and is sent again what it has not acknowledged.
                self.connections.with_output(id, |connection| connection.output.drop_unsent());
                self.disconnect_for(now, id, &fault);
                self.journal.end_step();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Connect, ProtocolVersion};
    use crate::shard::{Arrival, Closed, ShardId};
    use std::sync::Arc;

    #[test]
    fn nobody_waits_who_has_gone() {
        let now = Moment::ZERO;
        let mut shard = Shard::new(ShardId::new(0), 1, 1, Arc::default(), now);
        let id = |generation| ConnectionId { index: 0, generation };
        for generation in 0..3 {
            shard.set_pressure(now, Pressure::None);
            shard.open(now, id(generation), &Connect::new(ProtocolVersion::V5, "a"), Arrival::default());
            shard.set_pressure(now, Pressure::PausePublishers);
            shard.receive(now, id(generation), &[0x30, 4, 0, 1, b't', 0]);
            assert_eq!(shard.waiting_publishers.len(), 1);
            shard.on_closed(now, id(generation), Closed::Fin);
            assert!(shard.waiting_publishers.is_empty());
        }
    }
}
