//! Enhanced authentication on a connection that is open (§4.12), and the end of credentials.
//!
//! The exchange before CONNACK is the shell's. From there on the shard has the packets: it asks its owner what they amount to, which may
//! take any number of turns, and the connection goes on as before meanwhile.
//!
//! ```text
//! Idle ─AUTH 0x19─▶ Deciding ─Continue─▶ Asking ─AUTH 0x18─▶ Deciding
//!                      ├─ Done ──▶ AUTH 0x00, Idle
//!                      └─ Refused ──▶ DISCONNECT
//! ```

use super::connection::Origin;
use super::wills::WillFate;
use super::{Fault, Shard, Timer};
use crate::codec::{self, Auth, Packet, PacketKind, ReasonCode};
use crate::security::Identity;
use crate::session::ConnectionId;
use crate::session::will::Cause;
use crate::timer::Moment;

/// A step of a re-authentication that the shard's owner is to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticationRequest {
    /// The Authentication Method, which is that of the CONNECT.
    pub method: Box<str>,
    /// The Authentication Data; empty where the client sent none.
    pub data: Vec<u8>,
    /// It begins a new exchange, so what is left of an older one is void.
    pub is_first: bool,
}

/// What a step of a re-authentication amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticationOutcome {
    /// The client is asked for more.
    Continue {
        /// Authentication Data for the client.
        data: Vec<u8>,
    },
    /// The client has proven who it is.
    Done {
        /// Who that is.
        identity: Identity,
        /// When its credentials end.
        valid_until: Option<Moment>,
        /// Authentication Data for the client.
        data: Vec<u8>,
    },
    /// It has not, and its connection ends.
    Refused {
        /// Why.
        reason: ReasonCode,
    },
}

/// Where the re-authentication of a connection stands; see the drawing above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    Idle,
    Deciding,
    Asking,
}

/// The enhanced authentication of one connection.
#[derive(Debug)]
pub(super) struct Authentication {
    method: Box<str>,
    exchange: Exchange,
}

impl Authentication {
    /// One that has succeeded before CONNACK.
    pub(super) fn new(method: Box<str>) -> Box<Self> {
        Box::new(Self { method, exchange: Exchange::Idle })
    }

    /// Its Authentication Method.
    pub(super) fn method(&self) -> &str {
        &self.method
    }
}

impl Shard {
    /// Applies an AUTH. (§3.15.4)
    pub(super) fn on_auth(&mut self, id: ConnectionId, packet: &Auth<'_>) -> Result<(), Fault> {
        let broken = |detail| Err(Fault::new(ReasonCode::ProtocolError, detail));
        let connection = self.connections.get_mut(id).expect("the packet came on it");
        let Some(authentication) = connection.authentication.as_deref_mut() else {
            return broken("AUTH without an Authentication Method in CONNECT"); // [MQTT-4.12.0-7]
        };
        if packet.authentication_method != Some(&*authentication.method) {
            return broken("the Authentication Method is not that of CONNECT"); // [MQTT-4.12.0-5], [MQTT-4.12.1-1]
        }
        let is_first = match (packet.reason, authentication.exchange) {
            (ReasonCode::ReAuthenticate, Exchange::Idle) => true,
            (ReasonCode::ContinueAuthentication, Exchange::Asking) => false, // [MQTT-4.12.0-3]
            (ReasonCode::ReAuthenticate, _) => return broken("a re-authentication is going on already"),
            (ReasonCode::ContinueAuthentication, _) => return broken("AUTH that was not asked for"),
            _ => return broken("a Reason Code that only a server sends"),
        };
        authentication.exchange = Exchange::Deciding;
        let method = authentication.method.clone();
        let data = packet.authentication_data.unwrap_or_default().to_vec();
        self.authentications.push_back((id, AuthenticationRequest { method, data, is_first }));
        Ok(())
    }

    /// The next step of a re-authentication to judge; [`Self::on_authenticated`] takes the answer. There is one at a time for each
    /// connection, and none for one that is gone.
    pub fn next_authentication(&mut self) -> Option<(ConnectionId, AuthenticationRequest)> {
        while let Some((id, request)) = self.authentications.pop_front() {
            if self.connections.get(id).is_some() {
                return Some((id, request));
            }
        }
        None
    }

    /// The client of an open connection: its Client Identifier, where it comes from, and who it was found to be.
    pub fn client_of(&self, id: ConnectionId) -> Option<(&str, Origin, &Identity)> {
        let connection = self.connections.get(id)?;
        let session = self.sessions.get(connection.session)?;
        Some((&session.client_id, connection.origin, &session.identity))
    }

    /// What [`Self::next_authentication`] asked for is known. Nothing happens where the connection has ended meanwhile.
    pub fn on_authenticated(&mut self, now: Moment, id: ConnectionId, outcome: AuthenticationOutcome) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let session = connection.session;
        let user = self.sessions.get(session).and_then(|owner| owner.identity.username.as_deref());
        let Some(authentication) = connection.authentication.as_deref_mut() else { return };
        if authentication.exchange != Exchange::Deciding {
            return;
        }
        match outcome {
            AuthenticationOutcome::Continue { data } => {
                authentication.exchange = Exchange::Asking;
                self.send_auth(now, id, ReasonCode::ContinueAuthentication, &data); // [MQTT-4.12.0-2]
            }
            // A Session belongs to one user, and so do the bounds of a connection.
            AuthenticationOutcome::Done { identity, .. } if identity.username.as_deref() != user => {
                self.fail_authentication(
                    now,
                    id,
                    ReasonCode::NotAuthorized,
                    "the User Name is another one than before",
                );
            }
            AuthenticationOutcome::Done { identity, valid_until, data } => {
                authentication.exchange = Exchange::Idle;
                self.stats.re_authentications += 1;
                self.set_identity(session, identity);
                self.record_session(session, None);
                self.limit_validity(now, id, valid_until);
                self.send_auth(now, id, ReasonCode::Success, &data);
            }
            AuthenticationOutcome::Refused { reason } => {
                self.fail_authentication(now, id, reason, "the re-authentication failed");
            }
        }
        self.journal.end_step();
    }

    /// Ends a connection whose re-authentication did not succeed. [MQTT-4.12.1-2]
    fn fail_authentication(&mut self, now: Moment, id: ConnectionId, reason: ReasonCode, detail: &'static str) {
        self.stats.re_authentications_refused += 1;
        // What only a CONNACK may say is said in other words.
        let reason = if reason.is_valid_in(PacketKind::Disconnect) { reason } else { ReasonCode::NotAuthorized };
        self.end_unauthenticated(now, id, &Fault::new(reason, detail));
    }

    fn send_auth(&mut self, now: Moment, id: ConnectionId, reason: ReasonCode, data: &[u8]) {
        let mut is_too_large = false;
        self.connections.with_output(id, |connection| {
            let Some(authentication) = connection.authentication.as_deref() else { return };
            let packet = Auth {
                reason,
                authentication_method: Some(&authentication.method), // [MQTT-4.12.0-5]
                authentication_data: (!data.is_empty()).then_some(data),
                ..Auth::default()
            };
            let version = connection.version;
            let output = connection.output.bytes();
            let start = output.len();
            codec::encode(&Packet::Auth(packet), version, output);
            is_too_large = output.len() - start > connection.packet_bytes_max;
            self.stats.packets_sent[PacketKind::Auth] += u64::from(!is_too_large);
            if is_too_large {
                connection.output.bytes().truncate(start);
            }
        });
        if is_too_large {
            // [MQTT-3.1.2-24]
            self.fail_authentication(
                now,
                id,
                ReasonCode::PacketTooLarge,
                "AUTH is larger than the Maximum Packet Size",
            );
        }
    }

    /// Arms the end of a connection's credentials, in place of an earlier one.
    pub(super) fn limit_validity(&mut self, now: Moment, id: ConnectionId, valid_until: Option<Moment>) {
        let timer = valid_until.map(|until| self.wheel.arm(until.max(now), Timer::CredentialsEnd(id)));
        let connection = self.connections.get_mut(id).expect("it is open");
        let old = std::mem::replace(&mut connection.credentials_end, timer);
        if let Some(old) = old {
            self.wheel.cancel(old);
        }
    }

    /// The credentials of a connection have ended, and were not renewed.
    pub(super) fn on_credentials_end(&mut self, now: Moment, id: ConnectionId) {
        self.finish_reading(now, id); // It was sent while they were valid.
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.credentials_end = None;
        self.stats.credentials_ended += 1;
        let fault = Fault::new(ReasonCode::MaximumConnectTime, "the credentials have ended");
        self.end_unauthenticated(now, id, &fault);
    }

    fn end_unauthenticated(&mut self, now: Moment, id: ConnectionId, fault: &Fault) {
        self.tell_of(id, fault);
        self.end_with(now, id, Cause::Unauthenticated, WillFate::Publish, fault);
    }
}
