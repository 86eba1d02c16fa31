//! The way in: what a connection goes through before its client has a Session, and where it ends up then.
//!
//! Three things are found out, each within its own time: what is spoken below MQTT, what the client wants (its CONNECT), and who it
//! is. What costs little is done here at once. The handshake of TLS and the check of a password are not: they go to threads beside
//! the shards, and the connection waits for an [`Errand`](super::errand::Errand).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::admission::Ticket;
use super::connection::{Deadline, Stage};
use super::errand::{Errand, Returned};
use super::handshake::{Cause, Handover, Handshake, Progress, Verdict, connack, judge};
use super::link::{Link, Passage};
use super::transport::{Broken, Layers};
use super::worker::Worker;
use crate::codec::ReasonCode;
use crate::shard::handshake::first_packet;
use crate::shard::{Arrival, ConnectionId, Origin, ShardId, first_packet_bytes_max};
use crate::timer::Moment;

/// What may wait behind a CONNECT whose client is being authenticated, beyond the largest packet. Above it the connection is not read.
const BEHIND_CONNECT_MAX: usize = 64 * 1024;

/// What a connection may make us hold on its way in while memory is short: TLS handshakes and most CONNECTs are smaller. There may be as
/// many such connections as there may be clients, and nobody knows them.
const HELD_WHEN_SHORT_MAX: usize = 16 * 1024;

impl Worker {
    /// Begins with a connection that there is room for.
    pub(super) fn begin(&mut self, now: Moment, origin: Origin, ticket: Ticket, socket: OwnedFd) {
        let entrance = &self.in_force.slot(origin.listener).entrance;
        if !entrance.trusts(origin.peer.map(|peer| peer.ip())) {
            self.counters.layer_faults.proxy += 1;
            if self.complaints.is_time(now, "proxy senders") {
                let (shard, failed) = (self.homes.here.index(), self.counters.layer_faults.total());
                tracing::info!(shard, failed, peer = %Peer(origin.peer), "turned away: it is none of proxy_senders");
            }
            return; // Dropped, and so closed.
        }
        let link = entrance.layers().map(|layers| Box::new(Link::new(layers)));
        let limits = &self.config.limits;
        let (progress, time) = match link {
            None => (Progress::Connect, limits.connect_timeout),
            Some(_) => (Progress::Layers, limits.handshake_timeout),
        };
        let (bytes, unsent, deadline) = (Vec::new(), Vec::new(), None);
        let handshake = Box::new(Handshake { progress, bytes, unsent, origin, deadline });
        let id = self.connections.insert(now, socket, ticket, link, Stage::Handshake(handshake));
        let deadline = self.io.deadlines.arm(now + time, Deadline::Handshake(id));
        let connection = self.connections.at(id.index);
        if let Stage::Handshake(handshake) = &mut connection.stage {
            handshake.deadline = Some(deadline);
        }
        connection.receive(&mut self.io.ring);
    }

    /// A part of the way in has taken too long; or a client that was refused has waited long enough to hear it.
    pub(super) fn on_handshake_deadline(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        handshake.deadline = None;
        match handshake.progress {
            Progress::Layers => self.counters.handshake_timeouts += 1,
            Progress::Connect => self.counters.connect_timeouts += 1,
            Progress::Asked | Progress::Challenged(_) => self.counters.authentication_timeouts += 1,
            Progress::Refused(_) => return self.turn_away(now, id.index),
        }
        self.end(id.index);
    }

    /// Goes on with what has arrived, as far as possible.
    pub(super) fn go_in(&mut self, now: Moment, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        if self.gate.is_short_of_memory() && connection.held_on_the_way_in() > HELD_WHEN_SHORT_MAX {
            self.counters.handshakes_shed += 1;
            return self.end(id.index);
        }
        if !self.pass_layers(now, id.index) {
            return;
        }
        let connection = self.connections.at(id.index);
        let Stage::Handshake(handshake) = &connection.stage else { return };
        match handshake.progress {
            Progress::Connect => self.on_first_bytes(now, id.index),
            Progress::Challenged(_) => self.on_answer(now, id.index),
            Progress::Layers | Progress::Asked | Progress::Refused(_) => {}
        }
        self.bound_what_waits(id);
    }

    /// Does not read a connection behind whose CONNECT too much waits already. While a client is to answer a challenge nothing can pile up:
    /// what is not an answer ends the connection.
    fn bound_what_waits(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        if let Stage::Handshake(handshake) = &connection.stage
            && handshake.is_asking()
            && handshake.bytes.len()
                > first_packet_bytes_max(&self.config, handshake.origin.listener) + BEHIND_CONNECT_MAX
        {
            connection.pause(&mut self.io.ring);
        }
    }

    /// Lets what has arrived go through the layers, where there are some. False: it goes no further for now.
    fn pass_layers(&mut self, now: Moment, slot: u32) -> bool {
        let connection = self.connections.at(slot);
        let Some(link) = &mut connection.link else { return true };
        let Stage::Handshake(handshake) = &mut connection.stage else { return false };
        match link.pass(&mut handshake.bytes) {
            Passage::Through(result) => self.on_passed(now, slot, result),
            Passage::Waiting => {
                if link.is_full() {
                    connection.end_receive(&mut self.io.ring);
                }
                false
            }
            Passage::Costly(layers, bytes) => {
                self.compute(now, slot, layers, bytes);
                false
            }
        }
    }

    /// Has a step of a TLS handshake computed beside the shard.
    fn compute(&mut self, now: Moment, slot: u32, mut layers: Box<Layers>, bytes: Vec<u8>) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &connection.stage else { return };
        // Behind a proxy all come from one address until it is known better.
        let is_proxied = self.config.listeners[usize::from(handshake.origin.listener)].proxy_protocol;
        let source = layers.source().or_else(|| handshake.origin.peer.filter(|_| !is_proxied));
        let (shard, connection) = (self.homes.here.index(), connection.id);
        let mesh = Arc::clone(self.mesh());
        let job = move || {
            let mut mqtt = Vec::new();
            let result = layers.receive(&bytes, &mut mqtt);
            mesh.deliver(shard, Errand::Layers(Box::new(Returned { connection, layers, mqtt, result })));
        };
        if self.in_force.handshakes.submit_for(source.map(|source| source.ip()), job).is_err() {
            self.counters.handshakes_refused += 1;
            if self.complaints.is_time(now, "handshakes") {
                let (shard, refused) = (self.homes.here.index(), self.counters.handshakes_refused);
                tracing::warn!(shard, refused, "too many TLS handshakes wait, closing connections");
            }
            self.end(slot);
        }
    }

    /// The layers of a connection come back. Where it has ended meanwhile they are dropped.
    pub(super) fn on_returned(&mut self, now: Moment, returned: Returned) {
        let Returned { connection: id, layers, mut mqtt, result } = returned;
        let Some(connection) = self.connections.get(id) else { return };
        let (Stage::Handshake(handshake), Some(link)) = (&mut connection.stage, &mut connection.link) else { return };
        link.come_back(layers, &result);
        handshake.bytes.append(&mut mqtt);
        self.on_passed(now, id.index, result);
        self.go_in(now, id); // With what has come meanwhile.
        self.resume_entry(id);
    }

    /// A connection that waited has got on: it is read again where that had to stop, and its end is looked at where that had to wait.
    pub(super) fn resume_entry(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.is_over() {
            self.endings.push_back(id);
        }
        match &connection.stage {
            Stage::Handshake(handshake) if !matches!(handshake.progress, Progress::Refused(_)) => {
                connection.go_on_reading(&mut self.io.ring);
                self.bound_what_waits(id);
            }
            _ => {}
        }
    }

    /// Something has gone through the layers. False: the connection does not go on.
    fn on_passed(&mut self, now: Moment, slot: u32, result: Result<(), Broken>) -> bool {
        if let Err(broken) = &result {
            self.note_broken(now, slot, broken);
        }
        let connection = self.connections.at(slot);
        connection.send_other(now, &mut self.io);
        let (Stage::Handshake(handshake), Some(link)) = (&mut connection.stage, &connection.link) else { return false };
        let has_begun = !matches!(handshake.progress, Progress::Layers);
        let is_complete = link.layers().is_some_and(Layers::is_complete);
        match result {
            Ok(()) => {}
            // What came before an orderly end counts.
            Err(Broken::Closed) if has_begun || is_complete => self.endings.push_back(connection.id),
            Err(_) => {
                self.turn_away(now, slot);
                return false;
            }
        }
        if has_begun {
            return true;
        }
        let Some(layers) = link.layers() else { return false };
        let (source, is_complete) = (layers.source(), layers.is_complete());
        // Who is not to come in is not to have a TLS handshake computed, either.
        if let Some(source) = source
            && !connection.ticket.is_recognised()
            && self.gate.recognise(&mut connection.ticket, source.ip(), now).is_err()
        {
            self.end(slot);
            return false;
        }
        if !is_complete {
            return false;
        }
        self.counters.tls_handshakes += u64::from(layers.has_tls());
        handshake.progress = Progress::Connect;
        self.io.restart(&mut handshake.deadline, now + self.config.limits.connect_timeout, connection.id);
        // A proxy that speaks for itself, to see whether we are there, says no address.
        handshake.origin.peer = source.or(handshake.origin.peer);
        true
    }

    /// Counts how layers ended, and tells about it now and then.
    pub(super) fn note_broken(&mut self, now: Moment, slot: u32, broken: &Broken) {
        if !self.counters.layer_faults.count(broken) {
            return;
        }
        if self.complaints.is_time(now, broken.kind()) {
            let peer = match &self.connections.at(slot).stage {
                Stage::Handshake(handshake) => handshake.origin.peer,
                _ => None,
            };
            let (shard, failed) = (self.homes.here.index(), self.counters.layer_faults.total());
            tracing::info!(shard, failed, peer = %Peer(peer), "a connection was ended: {broken}");
        }
    }

    /// Looks whether CONNECT is complete.
    fn on_first_bytes(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        let is_surplus = connection.ticket.is_surplus;
        match judge(&handshake.bytes, handshake.origin.listener, is_surplus, &self.homes, &self.config) {
            Verdict::More => {}
            Verdict::Client(home) if !self.in_force.slot(handshake.origin.listener).asks => {
                let arrival = Arrival { origin: handshake.origin, ..Arrival::default() };
                self.let_in(now, slot, home, arrival);
            }
            Verdict::Client(_) => self.ask(now, slot),
            Verdict::Refuse(reply, cause) => {
                if cause == Cause::FirstPacket {
                    self.counters.bad_first_packets += 1;
                }
                handshake.unsent.extend(reply);
                self.turn_away(now, slot);
            }
        }
    }

    /// Ends a connection that is not let in, once it is sent what is left to say.
    pub(super) fn turn_away(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        match std::mem::replace(&mut connection.stage, Stage::Dead) {
            Stage::Handshake(mut handshake) => {
                if let Some(deadline) = handshake.deadline.take() {
                    self.io.deadlines.cancel(deadline);
                }
                let Handshake { mut unsent, progress, .. } = *handshake;
                if let Progress::Refused(answer) = progress {
                    unsent.extend(answer);
                }
                connection.stage = Stage::Refusing(unsent);
            }
            other => connection.stage = other,
        }
        connection.go_on_reading(&mut self.io.ring);
        if !connection.is_sending() {
            self.drain(now, slot);
        }
    }

    /// A client is let in: here, or where it is at home.
    pub(super) fn let_in(&mut self, now: Moment, slot: u32, home: ShardId, arrival: Arrival) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        if let Some(deadline) = handshake.deadline.take() {
            self.io.deadlines.cancel(deadline);
        }
        let bytes = std::mem::take(&mut handshake.bytes);
        let id = connection.id;
        if home == self.homes.here {
            connection.stage = Stage::Open;
            connection.go_on_reading(&mut self.io.ring);
            self.open(now, id, &bytes, arrival);
        } else {
            let handover = Handover { socket: None, ticket: None, link: None, bytes, arrival, home };
            connection.stage = Stage::Departing(Box::new(handover));
            connection.end_receive(&mut self.io.ring);
            self.leave_if_idle(slot);
        }
    }

    /// Sends a connection home once nothing is in flight for it here.
    pub(super) fn leave_if_idle(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.is_idle() {
            return;
        }
        let connection = self.connections.remove(slot);
        if let Stage::Departing(mut handover) = connection.stage {
            handover.socket = Some(connection.socket);
            handover.ticket = Some(connection.ticket);
            handover.link = connection.link;
            self.depart(handover);
        }
    }

    /// A connection has come home.
    pub(super) fn welcome(&mut self, now: Moment, handover: Handover) {
        let Handover { socket, ticket, link, bytes, arrival, .. } = handover;
        let (socket, ticket) = socket.zip(ticket).expect("the socket travels with the connection, and its ticket");
        if !self.is_running(now) {
            return; // Dropped, and so closed.
        }
        let id = self.connections.insert(now, socket, ticket, link, Stage::Open);
        self.open(now, id, &bytes, arrival);
        let Some(connection) = self.connections.get(id) else { return };
        if connection.is_over() {
            self.endings.push_back(id); // Its layers ended on the way.
        } else if matches!(connection.stage, Stage::Open) && connection.link.is_some() {
            self.receive_open(now, id.index, &[]); // What came meanwhile waits in front of the layers.
        }
        // Not before: while much waits there, nothing is received.
        self.connections.at(id.index).receive(&mut self.io.ring);
    }

    /// Opens a connection whose CONNECT is the beginning of `bytes`.
    fn open(&mut self, now: Moment, id: ConnectionId, bytes: &[u8], arrival: Arrival) {
        match first_packet(bytes, &self.config, arrival.origin.listener) {
            Ok(Some((connect, length))) => {
                let older = self.shard.connection_of(connect.client_id);
                if let Some(older) = older {
                    self.catch_up(now, older);
                }
                if !self.enter_identity(id, older, &arrival) {
                    return self.close_unopened(now, id, connack(connect.version, ReasonCode::QuotaExceeded));
                }
                self.shard.open(now, id, &connect, arrival);
                self.connections.at(id.index).ticket.end_probation();
                if length < bytes.len() {
                    self.shard.receive(now, id, &bytes[length..]);
                }
            }
            // What it is instead is not said: there may be a password in it.
            _ => unreachable!("a connection is opened after its CONNECT was decoded"),
        }
    }

    /// Counts the connection among those of its user, where their number is limited; whether there was room.
    fn enter_identity(&mut self, id: ConnectionId, older: Option<ConnectionId>, arrival: &Arrival) -> bool {
        let Some(user) = &arrival.identity.username else { return true };
        let Some((connection, older)) = self.connections.pair(id, older) else { return true };
        self.gate.enter_identity(&mut connection.ticket, user, older.map(|older| &older.ticket))
    }

    /// Refuses a connection that the shard has not heard of yet, after all.
    fn close_unopened(&mut self, now: Moment, id: ConnectionId, answer: Vec<u8>) {
        let connection = self.connections.at(id.index);
        connection.stage = Stage::Refusing(answer);
        if !connection.is_sending() {
            self.drain(now, id.index);
        }
    }
}

/// An address for the log.
pub(super) struct Peer(pub(super) Option<SocketAddr>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}
