//! How connections end: in a queue, worked off beside everything else.
//!
//! Thousands may end at once, and what others have sent meanwhile comes first. An end waits at least until the next turn,
//! so whatever followed from the last bytes of the connection, an answer or a close, has been carried out before.

use rustix::io::Errno;

use super::connection::Stage;
use super::ring::Ended;
use super::worker::Worker;
use crate::shard::{Closed, ConnectionId};
use crate::timer::Moment;

/// Connections that have ended and are worked off in one turn, beside as many as were accepted: a close costs the kernel
/// microseconds, which everybody else waits for.
const ENDINGS_MAX: usize = 64;

impl Worker {
    /// Notes that the peer's half of a connection has ended.
    pub(super) fn note_end(&mut self, slot: u32, ended: Ended) {
        let connection = self.connections.at(slot);
        connection.ended = Some(ended);
        self.endings.push_back(connection.id);
    }

    /// Notes that nothing can be sent any more. What the peer had sent before may still be on its way here.
    pub(super) fn note_failed_send(&mut self, slot: u32, errno: Errno) {
        let connection = self.connections.at(slot);
        connection.send_failed = Some(errno);
        self.endings.push_back(connection.id);
    }

    /// The peer of a connection that is not received from has ended, or the watch for that is over. How it ended shows when the rest of
    /// what it sent has been read, if that may be.
    pub(super) fn on_hung_up(&mut self, now: Moment, slot: u32, result: Result<(), Errno>) {
        let connection = self.connections.at(slot);
        connection.is_watched = false;
        match connection.stage {
            Stage::Dead => {
                let id = connection.id;
                self.release_if_dead(id);
            }
            Stage::Open if connection.is_paused => match result {
                // A socket always tells; if one did not, it is taken for full, which costs its client time at worst.
                Ok(()) => {
                    let rest = rustix::io::ioctl_fionread(&connection.socket).unwrap_or(u64::MAX);
                    self.shard.on_hangup(now, connection.id, rest);
                }
                // It went on for a moment, and was paused anew before the cancelled watch came back.
                Err(Errno::CANCELED) => connection.watch_for_hangup(&mut self.io.ring),
                Err(_) => {} // The kernel is short of memory. The end is seen when the pause is over.
            },
            // It is received from, and so its end is seen there.
            _ => {}
        }
    }

    /// Works off connections that ended in earlier turns: no fewer than were accepted since, so that the queue cannot grow
    /// while clients come and go.
    pub(super) fn take_endings(&mut self, now: Moment) {
        for _ in 0..ENDINGS_MAX + std::mem::take(&mut self.accepted) {
            if !self.take_ending(now) {
                return;
            }
        }
    }

    /// Works off one connection that has ended; whether there was one. Where the shard is not through with what it sent, that is applied
    /// first, by turns like that of those who stay.
    pub(super) fn take_ending(&mut self, now: Moment) -> bool {
        for _ in 0..self.endings.len() {
            let Some(id) = self.endings.pop_front() else { return false };
            if !self.shard.waits_for_turn(id) {
                self.on_end(now, id);
                return true;
            }
            self.endings.push_back(id);
        }
        false
    }

    /// A connection has ended, unless it is gone already.
    pub(super) fn on_end(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let layers_end = connection.layers_end();
        match (connection.ended, connection.send_failed) {
            (Some(Ended::Failed(errno)), _) => self.on_broken(now, id.index, errno),
            (_, None) if layers_end.is_some() && connection.is_open_or_on_its_way_in() => self.on_layers_end(now, id),
            (Some(_), _) => self.on_fin(now, id.index),
            // All that it sent has come through its layers, as far as they let it: there is nothing to catch up with.
            (None, Some(errno)) if layers_end.is_some() => self.on_broken(now, id.index, errno),
            (None, Some(errno)) => self.break_off(now, id, errno),
            (None, None) => {}
        }
        self.release_if_dead(id);
    }

    /// Ends a connection that cannot be written to any more, after all that has arrived on it: a DISCONNECT that is there
    /// discards the will, whatever became of our output.
    pub(super) fn break_off(&mut self, now: Moment, id: ConnectionId, errno: Errno) {
        self.catch_up(now, id);
        if let Some(connection) = self.connections.get(id)
            && !matches!(connection.stage, Stage::Dead)
        {
            self.on_broken(now, id.index, errno);
        }
        self.release_if_dead(id);
    }

    /// The layers of a connection have ended, in order or not: it ends, once what they have to say to that is sent.
    fn on_layers_end(&mut self, now: Moment, id: ConnectionId) {
        let connection = self.connections.at(id.index);
        match (&connection.stage, connection.layers_end()) {
            (Stage::Open, Some(how)) => {
                self.shard.on_closed(now, id, how);
                connection.stage = Stage::Draining { is_known: false };
                connection.ticket.leave_identity(); // As in `close`.
                if !connection.is_sending() {
                    self.drain(now, id.index);
                }
            }
            (Stage::Handshake(handshake), Some(_)) if !handshake.is_asking() => self.turn_away(now, id.index),
            _ => {}
        }
    }

    fn on_fin(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        match connection.stage {
            Stage::Open => {
                self.shard.on_closed(now, connection.id, Closed::Fin);
                connection.die(&mut self.io.ring);
            }
            // It is looked at again when what has arrived before has been: a client need not wait for CONNACK, nor stay.
            Stage::Handshake(ref handshake) if handshake.is_asking() || connection.is_waiting_for_layers() => {}
            Stage::Handshake(_) | Stage::Lingering => self.die(slot),
            // What is being sent goes on; the peer may have closed its half only. A connection on its way meets its
            // end again where it is at home.
            Stage::Draining { .. } | Stage::Refusing(_) | Stage::Departing(_) | Stage::Dead => {}
        }
    }

    /// The connection is reset, or failed in another way: nothing more can be sent.
    pub(super) fn on_broken(&mut self, now: Moment, slot: u32, errno: Errno) {
        let closed = if errno == Errno::CONNRESET { Closed::Reset } else { Closed::Error };
        let connection = self.connections.at(slot);
        // A draining connection is told, too: the shard then forgets the output that it still has.
        if matches!(connection.stage, Stage::Open | Stage::Draining { is_known: true }) {
            self.shard.on_closed(now, connection.id, closed);
        }
        self.die(slot);
    }
}
