//! What arrives on a connection: it is cut into packets, and waits where it must not be applied yet.
//!
//! A connection may be paused for several reasons at a time; it is read again when the last one is gone. What it had sent by then comes first.

use super::connection::{Pause, Pauses};
use super::pressure::PARTIAL_PACKET_MAX;
use super::{Fault, Pressure, Shard, Timer};
use crate::codec::{self, PacketKind};
use crate::session::ConnectionId;
use crate::timer::Moment;

impl Shard {
    /// Bytes that arrived on a connection, in any split of the stream. Incomplete packets are kept.
    pub fn receive(&mut self, now: Moment, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.unread.is_empty() && !connection.pauses.any() {
            let share = self.turn.share(connection.is_finishing);
            let read = self.read_packets(now, id, bytes, share);
            self.keep_unread(id, &bytes[read..]);
            return;
        }
        connection.unread.extend_from_slice(bytes);
        if !connection.pauses.any() {
            let (unread, share) = (std::mem::take(&mut connection.unread), self.turn.share(connection.is_finishing));
            self.read_again(now, id, unread, share);
        }
    }

    fn read_again(&mut self, now: Moment, id: ConnectionId, mut unread: Vec<u8>, share: u64) {
        let read = self.read_packets(now, id, &unread, share);
        if let Some(connection) = self.connections.get_mut(id)
            && read < unread.len()
        {
            unread.drain(..read);
            connection.unread = unread;
        }
    }

    fn keep_unread(&mut self, id: ConnectionId, rest: &[u8]) {
        if let Some(connection) = self.connections.get_mut(id)
            && !rest.is_empty()
        {
            connection.unread.extend_from_slice(rest);
        }
    }

    /// Applies the whole packets at the start of `bytes`, until what they cause is so much work; how many bytes they were.
    fn read_packets(&mut self, now: Moment, id: ConnectionId, bytes: &[u8], share: u64) -> usize {
        let begin = self.work();
        let read = self.read_within(now, id, bytes, begin.saturating_add(share));
        self.turn.note_read(self.work() - begin);
        read
    }

    fn read_within(&mut self, now: Moment, id: ConnectionId, bytes: &[u8], work_max: u64) -> usize {
        let mut read = 0;
        while let Some(first) = bytes.get(read) {
            let rest = &bytes[read..];
            let is_publish = first >> 4 == PacketKind::Publish as u8;
            if is_publish && self.pressure == Pressure::PausePublishers && self.pause_publisher(now, id) {
                break;
            }
            // What costs nothing is never held up: PINGREQ is answered however busy others keep the shard.
            let is_too_much = is_publish && self.work() >= work_max;
            if is_too_much && self.wait_for_turn(id) {
                break;
            }
            let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.pauses.any()) else {
                break;
            };
            let length = match codec::packet_length(rest, connection.bounds.packet_bytes_max) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => {
                    self.mind_partial_packet(now, id, rest.len());
                    break;
                }
                Err(error) => {
                    self.on_fault(now, id, &error.into());
                    break;
                }
            };
            if is_too_much && connection.is_finishing {
                self.stats.publishes_abandoned += 1;
                read += length;
                continue;
            }
            connection.last_packet = now;
            connection.traffic.note_received(length, is_publish);
            let version = connection.version;
            if connection.is_traced {
                self.trace_received(now, id, version, &rest[..length]);
            }
            let outcome = codec::decode(&rest[..length], version).map_err(Fault::from).and_then(|packet| {
                self.stats.packets_received[packet.kind()] += 1;
                self.on_packet(now, id, &packet)
            });
            read += length;
            match outcome {
                Ok(()) => self.look_after(now, id, length, is_publish),
                Err(fault) => self.on_fault(now, id, &fault),
            }
            self.journal.end_step();
        }
        read
    }

    /// Applies what a paused connection had sent, since it ends now: what was accepted is not thrown away, and a DISCONNECT among it
    /// counts: a client that said goodbye has not died. Messages that are too much work for that are let go of, with QoS 1 and 2 without an
    /// acknowledgement: everybody else would wait for them.
    pub(super) fn finish_reading(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.pauses.any()) else {
            return;
        };
        connection.is_finishing = true;
        self.end_pauses(now, id, self.turn.share(true));
    }

    /// Applies what a connection had sent while it was paused, for whatever reasons that was.
    fn end_pauses(&mut self, now: Moment, id: ConnectionId, share: u64) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.pauses = Pauses::default();
        if let Some(timer) = connection.waits_for_memory.take() {
            self.wheel.cancel(timer);
        }
        self.waiting_publishers.remove(&id);
        let unread = std::mem::take(&mut connection.unread);
        self.read_again(now, id, unread, share);
    }

    /// The peer of a paused connection has ended, with `rest` bytes that the owner has not read. They are read now, whatever it was paused for,
    /// since it cannot send more than these: its end, or the DISCONNECT among them, decides on its will, which is not to wait for the pause.
    ///
    /// Under [`Pressure::PausePublishers`] that has to wait where the rest is much: what lies in the kernel is bounded, and what lies there for
    /// all could be more than there is. No will is late by that, since wills that are due wait, too.
    pub fn on_hangup(&mut self, now: Moment, id: ConnectionId, rest: u64) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.pauses.any()) else {
            return; // It is read, and its end will be seen.
        };
        if connection.has_hung_up && connection.pauses.has(Pause::Turn) {
            return; // That is known, and its turn will come.
        }
        let is_short = self.pressure == Pressure::PausePublishers;
        connection.is_finishing |= is_short && rest <= PARTIAL_PACKET_MAX as u64;
        if !is_short || connection.is_finishing {
            self.read_to_its_end(now, id);
        } else {
            self.hung_up.insert(id);
        }
    }

    /// Reads a connection whose peer has ended, without another pause unless it is for memory.
    ///
    /// What it has sent is applied as it comes, not with its end: a peer that ended only its own half is still to read what it is answered.
    pub(super) fn read_to_its_end(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.has_hung_up = true;
        let is_finishing = connection.is_finishing;
        self.end_pauses(now, id, self.turn.share(is_finishing));
        self.connections.go_on(now, id);
    }

    /// Stops reading from a connection, after a packet of `bytes`, that does not read its own answers or publishes too fast.
    fn look_after(&mut self, now: Moment, id: ConnectionId, bytes: usize, is_publish: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_let_through &= !is_publish;
        if connection.output.pending() > connection.bounds.output_bytes_max {
            self.choke(id);
        } else if is_publish
            && let Some(until) = connection.rate.as_mut().and_then(|rate| rate.take(now, bytes))
            && self.connections.pause(id, Pause::Rate)
        {
            self.stats.pauses_rate += 1;
            self.wheel.arm(until, Timer::MayPublish(id));
        }
    }

    /// Another shard, or the disk, cannot keep up.
    pub(super) fn pause(&mut self, id: ConnectionId) {
        if self.connections.pause(id, Pause::Congestion) {
            self.stats.pauses += 1;
            self.paused.push(id);
        }
    }

    /// Goes on reading from a connection, unless there is another reason not to.
    pub(super) fn resume(&mut self, now: Moment, id: ConnectionId, why: Pause) {
        let share = self.turn.share(false);
        self.resume_with(now, id, why, share);
    }

    pub(super) fn resume_with(&mut self, now: Moment, id: ConnectionId, why: Pause, share: u64) {
        if let Some(unread) = self.connections.resume(now, id, why) {
            self.read_again(now, id, unread, share);
        }
    }

    /// Whether connections wait for peers or the journal, and need not any more.
    pub(super) fn may_resume(&self) -> bool {
        !self.paused.is_empty() && self.peers.is_relieved() && self.journal.is_relieved()
    }
}
