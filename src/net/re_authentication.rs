//! Authentication on connections that are open (§4.12.1): the shard asks, the authenticators answer.

use super::authentication::{Asker, Credentials, Refused, Step};
use super::connection::Stage;
use super::entry::process_of;
use super::worker::Worker;
use crate::codec::ProtocolVersion;
use crate::shard::{AuthenticationOutcome, AuthenticationRequest, ConnectionId};
use crate::timer::Moment;

impl Worker {
    /// Carries out what a shard asks about an open connection.
    pub(super) fn re_authenticate(&mut self, now: Moment, id: ConnectionId, request: AuthenticationRequest) {
        let asker = Asker { shard: self.homes.here.index(), connection: id };
        let before = self.exchanges.remove(&id);
        let step = match before {
            Some(exchange) if !request.is_first => self.authentication.go_on(asker, exchange, &request.data),
            _ => match self.credentials_of(id, request) {
                Some(credentials) => self.authentication.begin(asker, credentials),
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
            version: ProtocolVersion::V5, // Others have no AUTH.
            client_id: client_id.into(),
            username: None,
            password: None,
            certificate: connection.link.as_ref().and_then(|link| link.layers()?.certificate()),
            process: process_of(&self.config, origin.listener, &connection.socket),
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
            Step::Refused(Refused { reason, is_failure, .. }) => {
                self.counters.authentications_refused += 1;
                if is_failure && let Some(connection) = self.connections.get(id) {
                    // It is not held back: the connection ends, and the next one is.
                    let _ = self.gate.note_failure(&connection.ticket, now);
                }
                AuthenticationOutcome::Refused { reason }
            }
        };
        self.shard.on_authenticated(now, id, outcome);
    }
}
