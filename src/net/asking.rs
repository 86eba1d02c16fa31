//! Who the clients are: the authenticators are asked before a client is let in, and again when it authenticates anew on an open
//! connection (§4.12.1).
//!
//! What they answer at once is carried out at once. What they have to compute, or to ask others for, comes back as an
//! [`Errand`](super::errand::Errand); the connection waits for it, and the shard does not.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::authentication::{Asker, Credentials, Grant, PeerProcess, Refused, Step};
use super::connection::Stage;
use super::entry::Peer;
use super::handshake::{Answer, Progress, Verdict, answer, challenge, connack, judge};
use super::worker::Worker;
use crate::codec::{ProtocolVersion, ReasonCode, packet_length};
use crate::config::{Config, Listener};
use crate::shard::handshake::first_packet;
use crate::shard::{Arrival, AuthenticationOutcome, AuthenticationRequest, ConnectionId, first_packet_bytes_max};
use crate::timer::Moment;

impl Worker {
    /// Asks the authenticators who the client is.
    pub(super) fn ask(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        handshake.progress = Progress::Asked;
        self.io.restart(&mut handshake.deadline, now + self.config.limits.connect_timeout, connection.id);
        let origin = handshake.origin;
        let process = process_of(&self.config.listeners[usize::from(origin.listener)], &connection.socket);
        let certificate = connection.link.as_ref().and_then(|link| link.layers()?.certificate());
        let Ok(Some((connect, _))) = first_packet(&handshake.bytes, &self.config, handshake.origin.listener) else {
            return;
        };
        let credentials = Credentials {
            listener: origin.listener,
            source: origin.peer,
            counted: connection.ticket.source(),
            version: connect.version,
            client_id: connect.client_id.into(),
            username: connect.username.map(Into::into),
            password: connect.password.map(Into::into),
            certificate,
            process,
            enhanced: connect
                .authentication_method
                .map(|method| (method.into(), connect.authentication_data.unwrap_or_default().to_vec())),
            previous: None,
        };
        let asker = Asker { shard: self.homes.here.index(), connection: connection.id };
        let step = self.authentication.begin(asker, credentials);
        self.on_step(now, asker.connection, step);
    }

    /// It is known what comes next for a client that authenticates before it is let in.
    fn on_step(&mut self, now: Moment, id: ConnectionId, step: Step) {
        let Some(connection) = self.connections.get(id) else { return };
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        match step {
            Step::Waiting => {} // An errand will follow.
            Step::Granted(grant) => self.on_granted(now, id.index, *grant),
            Step::Continue { data, exchange } => {
                let mut question = Vec::new();
                challenge(exchange.method(), &data, &mut question);
                if question.len() > handshake.takes_at_most(&self.config) {
                    return self.turn_away(now, id.index); // [MQTT-3.1.2-24]
                }
                handshake.unsent.append(&mut question);
                handshake.progress = Progress::Challenged(exchange);
                connection.send_other(now, &mut self.io);
                self.on_answer(now, id.index); // A client may know the question beforehand.
            }
            Step::Refused(refused) => self.on_refused(now, id.index, refused),
        }
    }

    fn on_granted(&mut self, now: Moment, slot: u32, grant: Grant) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &connection.stage else { return };
        let Verdict::Client(home) =
            judge(&handshake.bytes, handshake.origin.listener, false, &self.homes, &self.config)
        else {
            return;
        };
        let Grant { identity, valid_until, enhanced } = grant;
        let arrival = Arrival { origin: handshake.origin, identity, valid_until, enhanced };
        self.let_in(now, slot, home, arrival);
    }

    /// The client is not who it says. It hears so later, that guessing takes time; meanwhile it is not read.
    fn on_refused(&mut self, now: Moment, slot: u32, refused: Refused) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        let version = match first_packet(&handshake.bytes, &self.config, handshake.origin.listener) {
            Ok(Some((connect, _))) => connect.version,
            _ => ProtocolVersion::V5,
        };
        let answer = connack(version, refused.reason);
        handshake.bytes = Vec::new();
        // With the rest of what is to be sent it could go as soon as something else has.
        handshake.progress = Progress::Refused(answer);
        let peer = handshake.origin.peer;
        let delay = match refused.is_failure {
            true => self.gate.failure_delay(),
            false => Duration::ZERO,
        };
        self.counters.authentications_refused += 1;
        if delay.is_zero() {
            self.turn_away(now, slot);
        } else {
            self.io.restart(&mut handshake.deadline, now + delay, connection.id);
            connection.pause(&mut self.io.ring);
        }
        if self.complaints.is_time(now, refused.why) {
            let (shard, refused_total) = (self.homes.here.index(), self.counters.authentications_refused);
            let (reason, why) = (refused.reason, refused.why);
            tracing::warn!(shard, refused_total, peer = %Peer(peer), "a client was refused: {reason}, {why}");
        }
    }

    /// Looks whether the client has answered what it was asked.
    pub(super) fn on_answer(&mut self, now: Moment, slot: u32) {
        let connection = self.connections.at(slot);
        let Stage::Handshake(handshake) = &mut connection.stage else { return };
        let Progress::Challenged(exchange) = &handshake.progress else { return };
        let packet_bytes_max = first_packet_bytes_max(&self.config, handshake.origin.listener);
        // CONNECT is measured and not decoded again: its answer may come byte by byte.
        let Ok(Some(length)) = packet_length(&handshake.bytes, packet_bytes_max) else { return };
        match answer(&handshake.bytes[length..], packet_bytes_max, exchange.method()) {
            Answer::More => {}
            Answer::Auth(data, of_packet) => {
                handshake.bytes.drain(length..length + of_packet);
                let Progress::Challenged(exchange) = std::mem::replace(&mut handshake.progress, Progress::Asked) else {
                    return;
                };
                let id = connection.id;
                let step = self.authentication.go_on(exchange, &data);
                self.on_step(now, id, step);
                self.resume_entry(id);
            }
            Answer::Disconnect => self.end(slot),
            Answer::Wrong(reason) => {
                self.counters.bad_first_packets += 1;
                handshake.unsent.extend(connack(ProtocolVersion::V5, reason));
                self.turn_away(now, slot);
            }
        }
    }

    /// Carries out what a shard asks about an open connection.
    pub(super) fn re_authenticate(&mut self, now: Moment, id: ConnectionId, request: AuthenticationRequest) {
        let before = self.exchanges.remove(&id);
        let step = match before {
            Some(exchange) if !request.is_first => self.authentication.go_on(exchange, &request.data),
            _ => match self.credentials_of(id, request) {
                Some(credentials) => {
                    let asker = Asker { shard: self.homes.here.index(), connection: id };
                    self.authentication.begin(asker, credentials)
                }
                None => return, // It has ended.
            },
        };
        self.on_next_step(now, id, step);
    }

    fn credentials_of(&mut self, id: ConnectionId, request: AuthenticationRequest) -> Option<Credentials> {
        let connection = self.connections.get(id)?;
        let (client_id, origin, identity) = self.shard.client_of(id)?;
        Some(Credentials {
            listener: origin.listener,
            source: origin.peer,
            counted: connection.ticket.source(),
            version: ProtocolVersion::V5, // Others have no AUTH.
            client_id: client_id.into(),
            username: None,
            password: None,
            certificate: connection.link.as_ref().and_then(|link| link.layers()?.certificate()),
            process: process_of(&self.config.listeners[usize::from(origin.listener)], &connection.socket),
            enhanced: Some((request.method, request.data)),
            previous: Some(identity.clone()),
        })
    }

    /// An authenticator has answered, for a client that is on its way in or for one that re-authenticates.
    pub(super) fn on_authenticated(&mut self, now: Moment, id: ConnectionId, step: Step) {
        let stage = self.connections.get(id).map(|connection| &connection.stage);
        match stage {
            Some(Stage::Handshake(_)) => {
                self.on_step(now, id, step);
                self.resume_entry(id);
            }
            Some(Stage::Open) => self.on_next_step(now, id, step),
            _ => {} // It has ended meanwhile.
        }
    }

    /// It is known what comes next for a client that re-authenticates.
    fn on_next_step(&mut self, now: Moment, id: ConnectionId, step: Step) {
        let outcome = match step {
            Step::Waiting => return,
            Step::Continue { data, exchange } => {
                self.exchanges.insert(id, exchange);
                AuthenticationOutcome::Continue { data }
            }
            Step::Granted(grant) => AuthenticationOutcome::Done {
                identity: grant.identity,
                valid_until: grant.valid_until,
                data: grant.enhanced.map(|enhanced| enhanced.data).unwrap_or_default(),
            },
            // It is not held back: the connection ends, and the next one is.
            Step::Refused(refused) => {
                self.counters.authentications_refused += 1;
                let reason = match refused.reason {
                    ReasonCode::Banned => ReasonCode::NotAuthorized, // DISCONNECT cannot say so. (§3.14.2.1)
                    reason => reason,
                };
                AuthenticationOutcome::Refused { reason }
            }
        };
        self.shard.on_authenticated(now, id, outcome);
    }
}

/// Whether somebody is asked who the clients of a listener are. It is the same for each of them, so it is found out once.
pub(super) fn asks(listener: &Listener, config: &Config) -> bool {
    !listener.anonymous || !listener.authenticators_of(&config.authenticators).is_empty()
}

/// The process at the other end of a Unix socket. Behind a proxy it is none of the client's.
fn process_of(listener: &Listener, socket: &OwnedFd) -> Option<PeerProcess> {
    if !listener.knows_process() {
        return None;
    }
    let process = getsockopt(socket, PeerCredentials).ok()?;
    Some(PeerProcess { uid: process.uid(), gid: process.gid(), pid: process.pid() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::config::ListenerKind;

    #[test]
    fn a_proxy_at_a_unix_socket_is_not_taken_for_its_clients() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let socket = OwnedFd::from(ours);
        let process = |proxy_protocol| {
            process_of(&Listener { kind: ListenerKind::Unix, proxy_protocol, ..Listener::default() }, &socket)
        };
        assert_eq!(process(false).map(|process| process.uid), Some(rustix::process::getuid().as_raw()));
        assert_eq!(process(true), None);
    }
}
