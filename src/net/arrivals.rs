//! What comes out of the ring, and what follows from it for one connection.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::admission::Admission;
use super::connection::{Accepting, Deadline, Receiving, Sending, Stage};
use super::journal::Journal;
use super::life::Life;
use super::listener::{ACCEPT_REST, AcceptFailure, Listener};
use super::ring::{Chunk, Completion, Ended};
use super::transport::{Broken, CloseCode};
use super::worker::Worker;
use crate::shard::{ConnectionId, Origin};
use crate::timer::Moment;

/// Connections that wait to be taken in before accepting pauses.
const WAITING_MAX: usize = 1024;
/// Connections that are taken in in one turn.
const ADMISSIONS_MAX: usize = 64;

impl Worker {
    pub(super) fn on_completion(&mut self, now: Moment, completion: Completion) {
        match completion {
            Completion::Accepted { slot, result, armed } => self.on_accepted(now, slot, result, armed),
            Completion::Received { slot, result, armed } => self.on_received(now, slot, result, armed),
            Completion::Progress { slot } => self.on_progress(now, slot),
            Completion::Sent { slot, buffer, result } => self.on_sent(now, slot, buffer, result),
            Completion::HungUp { slot, result } => self.on_hung_up(now, slot, result),
            Completion::Woken { armed } => self.on_woken(armed),
            Completion::WakeFailed { peer } => self.on_wake_failed(peer),
            Completion::File { token, done } => self.on_file_done(now, token, done),
        }
    }

    /// A deadline of the shell has come; those of the shard are its own matter.
    pub(super) fn on_deadline(&mut self, now: Moment, deadline: Deadline) {
        match deadline {
            Deadline::Handshake(id) => self.on_handshake_deadline(now, id),
            Deadline::Linger(id) => {
                if matches!(self.connections.get(id).map(|it| &it.stage), Some(Stage::Lingering)) {
                    self.end(id.index);
                }
            }
            Deadline::Write(id) => self.on_write_deadline(now, id),
            Deadline::Accept(slot) => {
                self.accepting[slot as usize] = Accepting::Off;
                self.accept(slot);
            }
            Deadline::Stop => {
                if self.life != Life::Finished {
                    let connections = self.connections.len();
                    let unwritten_bytes = self.journal.as_ref().map_or(0, Journal::backlog);
                    tracing::warn!(
                        shard = self.homes.here.index(),
                        connections,
                        unwritten_bytes,
                        "shutdown_timeout is over, cutting what is left"
                    );
                }
                self.life = Life::Finished;
            }
        }
    }

    fn on_accepted(&mut self, now: Moment, slot: u32, result: Result<OwnedFd, Errno>, armed: bool) {
        self.accepting[slot as usize] = if armed { Accepting::Armed } else { Accepting::Off };
        if self.life != Life::Running {
            return; // A connection that came too late is dropped, and so closed.
        }
        if self.listeners[slot as usize].is_none() && result.is_err() {
            return; // It was closed, and that is what ended accepting.
        }
        match result.map_err(|errno| (errno, AcceptFailure::from(errno))) {
            Ok(socket) => {
                self.waiting.push_back((slot as u16, socket));
                let next = self.gate.next_accept(slot, now);
                // Where it was accepted along with others, before the rate was bounded, they are taken in as they are.
                if next > now && !armed {
                    self.rest_until(slot, next);
                }
            }
            Err((_, AcceptFailure::Connection | AcceptFailure::Cancelled)) => {}
            Err((errno, AcceptFailure::Exhausted | AcceptFailure::Other)) => {
                self.counters.shed += self.listeners[slot as usize].as_mut().map_or(0, Listener::shed);
                self.rest_until(slot, now + ACCEPT_REST);
                self.log_exhaustion(now, errno);
            }
        }
        if self.waiting.len() >= WAITING_MAX {
            self.shut_door();
        }
        self.accept(slot);
    }

    /// Accepts on a listener, unless that is so already, or nobody is to come in for now.
    pub(super) fn accept(&mut self, slot: u32) {
        if self.life == Life::Running
            && !self.is_door_shut
            && self.accepting[slot as usize] == Accepting::Off
            && let Some(listener) = &self.listeners[slot as usize]
        {
            let socket = listener.socket();
            match self.gate.is_paced(slot) {
                // One by one: of those that wait the kernel would hand over all, before any of them can be counted.
                true => self.io.ring.accept_one(socket, slot),
                false => self.io.ring.accept(socket, slot),
            }
            self.accepting[slot as usize] = Accepting::Armed;
        }
    }

    /// Leaves those who come to a listener to the kernel's backlog until then.
    fn rest_until(&mut self, slot: u32, then: Moment) {
        self.accepting[slot as usize] = Accepting::Resting;
        self.io.deadlines.arm(then, Deadline::Accept(slot));
    }

    /// Leaves newcomers to the kernel's backlog, which has a bound: those that wait here hold a descriptor each.
    fn shut_door(&mut self) {
        if !std::mem::replace(&mut self.is_door_shut, true) {
            (0..self.listeners.len() as u32).for_each(|slot| self.io.ring.cancel_accept(slot));
        }
    }

    fn open_door(&mut self) {
        if std::mem::take(&mut self.is_door_shut) {
            (0..self.listeners.len() as u32).for_each(|slot| self.accept(slot));
        }
    }

    fn log_exhaustion(&mut self, now: Moment, errno: Errno) {
        if self.exhausted.is_time(now) {
            let (shard, shed) = (self.homes.here.index(), self.counters.shed);
            tracing::warn!(shard, shed, "cannot accept connections: {errno}; turning them away until it gets better");
        }
    }

    /// Takes in some of the connections that wait at the door. Before the next ones, those that have ended leave: clients that
    /// come and go quickly do not fill the house with connections that are over.
    pub(super) fn take_admissions(&mut self, now: Moment) {
        for taken in 0..ADMISSIONS_MAX {
            let Some((listener, socket)) = self.waiting.front() else { return self.open_door() };
            let origin = Origin { listener: *listener, peer: address_of(socket) };
            let admission = self.enter_gate(now, &origin);
            if admission.is_for_want_of_room() && taken > 0 {
                return; // Those taken in just now may be gone already, which is seen once they are received from.
            }
            if let Some((_, socket)) = self.waiting.pop_front() {
                self.admit(now, origin, admission, socket);
            }
        }
    }

    /// Asks for room; whoever has ended makes room first.
    fn enter_gate(&mut self, now: Moment, origin: &Origin) -> Admission {
        loop {
            let admission = self.gate.enter(origin.listener, origin.peer.map(|peer| peer.ip()), now);
            if !admission.is_for_want_of_room() || !self.take_ending(now) {
                return admission;
            }
        }
    }

    /// Takes a new connection in, as far as there is room for it.
    fn admit(&mut self, now: Moment, origin: Origin, admission: Admission, socket: OwnedFd) {
        self.counters.turned_away += u64::from(admission.is_for_want_of_room());
        let (Admission::Welcome(ticket) | Admission::Surplus(ticket)) = admission else { return };
        self.counters.accepted += 1;
        self.accepted += 1;
        self.begin(now, origin, ticket, socket);
    }

    fn on_received(&mut self, now: Moment, slot: u32, result: Result<Chunk, Ended>, armed: bool) {
        match result {
            Ok(chunk) => {
                self.on_bytes(now, slot, &chunk);
                self.io.ring.recycle(chunk);
            }
            Err(Ended::Cancelled) => {}
            Err(Ended::NoBuffers) => self.counters.buffer_shortages += 1,
            Err(ended @ (Ended::Fin | Ended::Failed(_))) => self.note_end(slot, ended),
        }
        if !armed {
            // Not before: until here the slot cannot be given away.
            self.connections.at(slot).receiving = Receiving::Off;
            self.on_receive_ended(slot);
        }
    }

    fn on_bytes(&mut self, now: Moment, slot: u32, chunk: &Chunk) {
        let bytes = self.io.ring.bytes(chunk);
        self.counters.bytes_received += bytes.len() as u64;
        let connection = self.connections.at(slot);
        match (&mut connection.stage, &mut connection.link) {
            (Stage::Open, None) => self.shard.receive(now, connection.id, bytes),
            (Stage::Open, Some(link)) => {
                let result = link.receive(now, connection.id, bytes, &mut self.shard, &mut self.io.scratch);
                self.on_received_through_layers(now, slot, result);
            }
            (Stage::Handshake(handshake), None) => {
                handshake.bytes.extend_from_slice(bytes);
                let id = connection.id;
                self.go_in(now, id);
            }
            (Stage::Handshake(_), Some(link)) => {
                link.keep(bytes);
                let id = connection.id;
                self.go_in(now, id);
            }
            (Stage::Departing(handover), None) => handover.bytes.extend_from_slice(bytes),
            (Stage::Departing(_), Some(link)) => link.keep(bytes),
            (Stage::Draining { .. } | Stage::Refusing(_) | Stage::Lingering | Stage::Dead, _) => {}
        }
    }

    /// Hands bytes that are not in the ring to the shard.
    pub(super) fn receive_open(&mut self, now: Moment, slot: u32, bytes: &[u8]) {
        let connection = self.connections.at(slot);
        match &mut connection.link {
            None => self.shard.receive(now, connection.id, bytes),
            Some(link) => {
                let result = link.receive(now, connection.id, bytes, &mut self.shard, &mut self.io.scratch);
                self.on_received_through_layers(now, slot, result);
            }
        }
    }

    /// The layers have taken bytes: they may have something to say to that, or have ended.
    fn on_received_through_layers(&mut self, now: Moment, slot: u32, result: Result<(), Broken>) {
        if let Err(broken) = result {
            self.note_broken(now, slot, &broken);
            self.endings.push_back(self.connections.at(slot).id);
        }
        self.connections.at(slot).send_other(now, &mut self.io);
    }

    /// Nothing is being received any more: the connection leaves, goes on in the next turn, or is closed.
    fn on_receive_ended(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match &connection.stage {
            Stage::Departing(_) => self.leave_if_idle(slot),
            Stage::Dead => self.release_if_idle(slot),
            _ => self.unarmed.push(slot),
        }
    }

    fn on_progress(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        connection.progress_at = now;
        if matches!(connection.stage, Stage::Dead) {
            // The cancellation met a send that had got somewhere, so the ring went on with the rest of it.
            connection.die(&mut self.io.ring);
        }
    }

    fn on_sent(&mut self, now: Moment, slot: u32, buffer: Vec<u8>, result: Result<(), Errno>) {
        self.counters.bytes_sent += result.map_or(0, |()| buffer.len() as u64);
        let connection = self.connections.at(slot);
        let sending = std::mem::replace(&mut connection.sending, Sending::Nothing);
        let id = connection.id;
        match (&connection.stage, result) {
            (Stage::Dead, _) => return self.release_if_idle(slot),
            (Stage::Open, Err(errno)) => return self.note_failed_send(slot, errno),
            (_, Err(errno)) => {
                self.on_broken(now, slot, errno);
                return self.release_if_idle(slot);
            }
            (_, Ok(())) if sending == Sending::Output => self.shard.on_sent(now, id, buffer),
            (Stage::Open, Ok(())) => self.late.push(id),
            (_, Ok(())) => {}
        }
        let connection = self.connections.at(slot);
        match connection.stage {
            Stage::Open if connection.link.is_none() => {}
            Stage::Open | Stage::Handshake(_) => connection.send_other(now, &mut self.io),
            Stage::Departing(_) => self.leave_if_idle(slot),
            Stage::Draining { .. } | Stage::Refusing(_) => self.drain(now, slot),
            Stage::Lingering | Stage::Dead => unreachable!("nothing is sent after the end"),
        }
    }

    /// The shard asks for the close of a connection, once what it still has to send is sent.
    pub(super) fn close(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        if !matches!(connection.stage, Stage::Open) {
            return; // The peer was faster.
        }
        // Where the layers have ended nothing can be sent any more, and the shard is to forget what it has.
        let layers_end = connection.layers_end();
        if let Some(how) = layers_end {
            self.shard.on_closed(now, id, how);
        }
        connection.stage = Stage::Draining { is_known: layers_end.is_none() };
        connection.ticket.leave_identity(); // Its client may be back before it has read the last of this.
        connection.go_on_reading(&mut self.io.ring);
        if !connection.is_sending() {
            self.drain(now, id.index);
        }
    }

    /// Sends what is left of a connection that is closing, ends its layers, and then lingers.
    pub(super) fn drain(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        if let Stage::Draining { is_known: true } = connection.stage
            && let Some(output) = self.shard.take_output(connection.id)
        {
            return connection.send_output(now, output, &mut self.io);
        }
        connection.send_other(now, &mut self.io);
        let code = match (&connection.stage, self.life) {
            (Stage::Refusing(_), _) => CloseCode::Policy,
            (_, Life::Starting | Life::Running) => CloseCode::Normal,
            _ => CloseCode::Away,
        };
        if connection.is_sending() || connection.say_goodbye(now, code, &mut self.io) {
            return;
        }
        connection.linger(now, &mut self.io);
        let id = connection.id;
        self.release_if_dead(id);
    }

    fn on_write_deadline(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        connection.has_write_timer = false;
        if !connection.is_sending() || matches!(connection.stage, Stage::Dead) {
            return; // The next send arms it again.
        }
        let due = connection.progress_at + self.io.write_timeout;
        if now < due {
            connection.has_write_timer = true;
            self.io.deadlines.arm(due, Deadline::Write(id));
            return;
        }
        self.counters.write_timeouts += 1;
        self.break_off(now, id, Errno::TIMEDOUT);
    }

    /// For a clean stop: ends a connection that the shard does not know.
    pub(super) fn end_unless_open(&mut self, id: ConnectionId) {
        let stage = self.connections.get(id).map(|connection| &connection.stage);
        if matches!(stage, Some(Stage::Handshake(_) | Stage::Departing(_))) {
            self.end(id.index);
        }
    }

    /// Ends a connection that the shard does not know, or no longer.
    pub(super) fn end(&mut self, slot: u32) {
        self.die(slot);
        self.release_if_idle(slot);
    }

    /// Ends what is in flight for a connection. Whoever notes the end of the last operation releases its slot.
    pub(super) fn die(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if let Stage::Handshake(handshake) = &mut connection.stage
            && let Some(deadline) = handshake.deadline.take()
        {
            self.io.deadlines.cancel(deadline);
        }
        connection.die(&mut self.io.ring);
    }

    /// Closes the socket of a connection that is dead, unless it is gone already or something is in flight.
    pub(super) fn release_if_dead(&mut self, id: ConnectionId) {
        if matches!(self.connections.get(id).map(|connection| &connection.stage), Some(Stage::Dead)) {
            self.release_if_idle(id.index);
        }
    }

    /// Closes the socket of a dead connection, unless something is in flight: then its end comes back here.
    fn release_if_idle(&mut self, slot: u32) {
        if self.connections.at(slot).is_idle() {
            let connection = self.connections.remove(slot);
            self.exchanges.remove(&connection.id);
            self.io.ring.close(connection.socket);
        }
    }
}

/// Where a connection comes from, as the kernel has it; `None` for a Unix socket, or where the connection is gone already.
fn address_of(socket: &OwnedFd) -> Option<std::net::SocketAddr> {
    socket2::SockRef::from(socket).peer_addr().ok()?.as_socket()
}
