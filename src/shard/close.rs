//! The end of Network Connections and of Sessions.

use super::inspect::TraceEvent;
use super::journal::Entity;
use super::peer::PeerMessage;
use super::wills::WillFate;
use super::{DropReason, Fault, Shard, Timer};
use crate::codec::{self, Disconnect, Packet, PacketKind, ReasonCode};
use crate::config::OnShutdown;
use crate::journal::record::{Facts, Record, SessionNumber, SessionRecord, Transaction};
use crate::session::outgoing::{InFlight, Sending};
use crate::session::queue::Waiting;
use crate::session::will::{Cause, Closing, WillState};
use crate::session::{ConnectionId, Session, SessionExpiry};
use crate::timer::Moment;

/// How the peer or the network ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed in order, without DISCONNECT.
    Fin,
    /// The connection was reset.
    Reset,
    /// Reading or writing failed otherwise, or made no progress.
    Error,
}

impl Shard {
    /// A connection has ended. Told once for every connection that was opened, unless the shard asked for the close.
    pub fn on_closed(&mut self, now: Moment, id: ConnectionId, how: Closed) {
        self.finish_reading(now, id);
        if self.connections.get(id).is_some() {
            let cause = match how {
                Closed::Fin => Cause::Closed,
                Closed::Reset | Closed::Error => Cause::TransportError,
            };
            self.end_connection(now, id, cause, WillFate::Publish, None);
        }
        self.connections.remove(id);
        self.journal.end_step();
    }

    /// Applies a DISCONNECT. (§3.14)
    pub(super) fn on_disconnect(
        &mut self,
        now: Moment,
        id: ConnectionId,
        packet: &Disconnect<'_>,
    ) -> Result<(), Fault> {
        let connection = self.connections.get(id).expect("the packet came on it");
        let (session, was_zero) = (connection.session, connection.expiry_was_zero);
        if let Some(interval) = packet.session_expiry_interval {
            if was_zero && interval > 0 {
                return Err(Fault::new(ReasonCode::ProtocolError, "Session Expiry Interval raised from zero"));
            }
            let max = connection.bounds.session_expiry_max;
            self.sessions.get_mut(session).expect("a connection has a Session").expiry =
                SessionExpiry::from_seconds(interval).at_most(max);
        }
        let (cause, fate) = match packet.reason {
            ReasonCode::Success => (Cause::Disconnect, WillFate::Discard), // [MQTT-3.14.4-3]
            _ => (Cause::DisconnectWithWill, WillFate::Publish),
        };
        self.end_connection(now, id, cause, fate, Some(packet.reason));
        self.connections.close(id, |_| {});
        Ok(())
    }

    /// Disconnects a client that broke the protocol or a limit.
    pub(super) fn disconnect_for(&mut self, now: Moment, id: ConnectionId, fault: &Fault) {
        let cause = match fault.reason {
            ReasonCode::KeepAliveTimeout => Cause::KeepAlive,
            ReasonCode::ReceiveMaximumExceeded | ReasonCode::PacketTooLarge | ReasonCode::QuotaExceeded => Cause::Limit,
            _ => Cause::ProtocolError,
        };
        self.end_with(now, id, cause, WillFate::Publish, fault);
    }

    /// Says goodbye and closes.
    pub(super) fn end_with(&mut self, now: Moment, id: ConnectionId, cause: Cause, fate: WillFate, fault: &Fault) {
        self.finish_reading(now, id);
        let Some(connection) = self.connections.get(id) else { return };
        let (version, bytes_max) = (connection.version, connection.packet_bytes_max);
        self.end_connection(now, id, cause, fate, Some(fault.reason));
        let reference = self.server_reference(fault.reason);
        self.connections.close(id, |output| {
            if version.has_reason_codes() {
                append_disconnect(fault, reference.as_deref(), bytes_max, output);
            }
        });
        self.stats.packets_sent[PacketKind::Disconnect] += u64::from(version.has_reason_codes());
    }

    /// Takes the connection from its Session and applies what follows for will and expiry. The connection itself stays open
    /// to be closed or removed by the caller. `reason` is that of the DISCONNECT, whoever sends one.
    pub(super) fn end_connection(
        &mut self,
        now: Moment,
        id: ConnectionId,
        cause: Cause,
        fate: WillFate,
        reason: Option<ReasonCode>,
    ) {
        let connection = self.connections.get(id).expect("only an open connection ends");
        let session = connection.session;
        let closing = Closing { cause, at: now, last_packet: connection.last_packet, is_recovered: false };
        if let Some(keep_alive) = connection.keep_alive {
            self.wheel.cancel(keep_alive.timer);
        }
        for timer in [connection.credentials_end, connection.waits_for_memory].into_iter().flatten() {
            self.wheel.cancel(timer);
        }
        self.waiting_publishers.remove(&id);
        self.hung_up.remove(&id);
        self.stats.closed[cause] += 1;
        let owner = self.sessions.get_mut(session).expect("a connection has a Session");
        owner.connection = None;
        owner.since = now;
        self.trace_session(now, session, || TraceEvent::Closed(cause));
        let had_will = self.sessions.get(session).is_some_and(|owner| matches!(owner.will, WillState::Armed(_)));
        if cause == Cause::TakenOver {
            return; // What happens to Session and will depends on the new CONNECT.
        }
        // Whoever is handed away before a stop keeps its will in any case: the stop itself publishes it where that is asked for.
        let is_held =
            cause == Cause::Shutdown && (self.config.wills.on_shutdown == OnShutdown::Hold || self.drain.is_on());
        let under = if self.awaits_connack(id) { self.own_transaction_of(session) } else { None };
        if !is_held {
            self.on_will_closing_under(now, session, closing, fate, under);
        }
        self.tell_presence(session, false);
        self.tell_of_departure(now, id, cause, reason, had_will);
        self.go_on_looking_up(session);
        let owner = self.sessions.get(session).expect("a connection has a Session");
        // One that ends now says so itself, and perhaps under a transaction.
        if is_held || (owner.is_kept && owner.expiry != SessionExpiry::WITH_CONNECTION) {
            self.record_session(session, Some(now));
        }
        let owner = self.sessions.get_mut(session).expect("a connection has a Session");
        match owner.expiry.duration() {
            Some(expiry) if expiry.is_zero() => {
                self.end_session_under(now, session, under);
            }
            Some(expiry) => {
                owner.ends = Some(now + expiry);
                let timer = Timer::SessionExpiry(self.sessions.key(session));
                let timer = self.wheel.arm(now + expiry, timer);
                self.sessions.get_mut(session).expect("looked up above").expiry_timer = Some(timer);
            }
            None => {}
        }
    }

    /// Ends a Session: its subscriptions go, what it held of Shared Subscriptions returns, and its will is due now. The transaction under
    /// which it ends, if it needs one.
    pub(super) fn end_session(&mut self, now: Moment, session: u32) -> Option<Transaction> {
        self.end_session_under(now, session, None)
    }

    /// The same for one that ends only if `outer` is complete.
    fn end_session_under(&mut self, now: Moment, session: u32, outer: Option<Transaction>) -> Option<Transaction> {
        self.withdraw_presence(now, session);
        self.trace_session(now, session, || TraceEvent::SessionEnded);
        let owner = self.sessions.get_mut(session).expect("a Session ends once");
        let subscriptions = std::mem::take(&mut owner.subscriptions);
        let look_ups = std::mem::take(&mut owner.look_ups);
        let (in_flight, waiting) = owner.take_deliveries(&mut self.queues);
        owner.received.clear();
        if let Some(timer) = owner.expiry_timer.take() {
            self.wheel.cancel(timer);
        }
        for subscription in subscriptions.values() {
            self.drop_subscription(session, &subscription.subscribed);
        }
        self.drop_look_ups(&look_ups);
        let under = self.return_deliveries(now, session, in_flight, waiting).or(outer);
        self.make_will_due(session, now);
        let owner = self.sessions.get_mut(session).expect("a Session ends once");
        owner.has_ended = true;
        owner.is_kept = false;
        owner.expiry = SessionExpiry::WITH_CONNECTION;
        if matches!(owner.will, WillState::None) {
            self.remove_ended(session, under);
        } else {
            self.record_session_under(session, Some(now), under); // From here on only its will is kept.
        }
        under
    }

    /// Gives what a Session that ends held of Shared Subscriptions back to their groups, and lets go of the rest.
    ///
    /// A QoS 2 delivery in flight is never sent to another client. [MQTT-4.8.2-5]
    fn return_deliveries(
        &mut self,
        now: Moment,
        session: u32,
        in_flight: Vec<InFlight>,
        waiting: Vec<Waiting>,
    ) -> Option<Transaction> {
        let is_kept = self.kept_number(session).is_some();
        let is_shared = in_flight.iter().filter_map(|it| it.sending.delivery()).any(|it| it.shared.is_some())
            || waiting.iter().any(|waiting| waiting.shared.is_some());
        // The Session may be gone only if what it held has arrived where it goes.
        let under = (is_shared && is_kept && self.peers.has_peers()).then(|| self.transaction());
        for in_flight in in_flight {
            if is_kept && let Some(delivery) = in_flight.sending.delivery() {
                self.journal.release(delivery.message.publication);
            }
            if let Sending::AwaitPuback(delivery) = in_flight.sending
                && delivery.shared.is_some()
            {
                self.return_delivery(now, delivery, None, under);
            }
        }
        for waiting in waiting {
            let publication = waiting.body.publication();
            if waiting.shared.is_some() {
                match waiting.into_delivery() {
                    Some(delivery) => self.return_delivery(now, delivery, None, under),
                    None => self.stats.dropped[DropReason::NoMember] += 1, // Found in the journal beyond the memory there is for queues.
                }
            }
            if is_kept {
                self.journal.release(publication);
            }
        }
        under
    }

    /// Forgets a Session that has ended and has no will left.
    pub(super) fn remove_ended(&mut self, session: u32, under: Option<Transaction>) {
        if let Some(number) = self.sessions.get(session).and_then(|session| session.number) {
            self.journal.append_under(under, &Record::SessionEnded(SessionNumber(number)));
        }
        self.sessions.remove(session);
    }

    /// Writes down how a Session is, apart from what it holds.
    pub(super) fn record_session(&mut self, session: u32, closed: Option<Moment>) {
        self.record_session_under(session, closed, None);
    }

    /// The same as part of a transaction, where there is one.
    pub(super) fn record_session_under(&mut self, session: u32, closed: Option<Moment>, under: Option<Transaction>) {
        let key = self.sessions.key(session);
        self.journal.note_unsettled(under, || Entity::Session(key));
        let Some(session) = self.sessions.get(session) else { return };
        if let Some(record) = session_record(session, closed) {
            self.journal.append_under(under, &Record::Session(record));
        }
    }

    /// The interval of a Session without a connection has passed. [MQTT-3.1.2-23]
    pub(super) fn on_session_expiry(&mut self, now: Moment, session: u32) {
        self.sessions.get_mut(session).expect("the timer names a Session").expiry_timer = None;
        self.stats.sessions_expired += 1;
        self.end_session(now, session);
    }

    /// Disconnects a client on an administrator's word; whether there was one.
    pub fn disconnect(&mut self, now: Moment, client_id: &str, will: WillFate) -> bool {
        let connection = self.sessions.find(client_id).and_then(|index| self.sessions.get(index)?.connection);
        if let Some(id) = connection {
            let fault = Fault::new(ReasonCode::AdministrativeAction, "disconnected by an administrator");
            self.end_with(now, id, Cause::Administrative, will, &fault);
        }
        connection.is_some()
    }

    /// Begins a clean stop. With `wills.on_shutdown = "publish"` all wills are published first; once every shard has done that,
    /// the connections are closed, those of 5.0 clients with 0x8B.
    pub fn begin_shutdown(&mut self, now: Moment) {
        if std::mem::replace(&mut self.stop.is_asked, true) {
            return;
        }
        for id in self.connections.ids() {
            self.finish_reading(now, id);
        }
        if self.config.wills.on_shutdown == OnShutdown::Publish {
            for id in self.connections.ids() {
                let connection = self.connections.get(id).expect("listed just now");
                let closing = Closing {
                    cause: Cause::Shutdown,
                    at: now,
                    last_packet: connection.last_packet,
                    is_recovered: false,
                };
                self.on_will_closing(now, connection.session, closing, WillFate::Publish);
            }
            self.close_wills_of_away(now);
            self.publish_all_wills(now);
        }
        for peer in self.peers.others() {
            self.peers.send(peer, PeerMessage::ReadyToStop);
        }
        self.close_all_when_ready(now);
    }

    /// Another shard has published what it had to.
    pub(super) fn on_ready_to_stop(&mut self, now: Moment) {
        self.stop.peers_ready += 1;
        self.close_all_when_ready(now);
    }

    /// Closes all connections once every shard has published what it had to, and what this one has to deliver of it may be shown: what is
    /// withheld goes with its connection.
    pub(super) fn close_all_when_ready(&mut self, now: Moment) {
        let is_ready = self.stop.is_asked && self.stop.peers_ready >= self.peers.others().count();
        if !is_ready || self.stop.is_done || !self.journal.is_settled() {
            return;
        }
        self.stop.is_done = true;
        let fault = Fault::new(ReasonCode::ServerShuttingDown, "the server is shutting down");
        for id in self.connections.ids() {
            self.end_with(now, id, Cause::Shutdown, WillFate::Publish, &fault);
        }
    }
}

/// How far a clean stop has come.
#[derive(Debug, Default)]
pub(super) struct Stop {
    pub(super) is_asked: bool,
    peers_ready: usize,
    is_done: bool,
}

/// A Session as the journal has it, where it has it.
pub(super) fn session_record(session: &Session, closed: Option<Moment>) -> Option<SessionRecord<'_>> {
    Some(SessionRecord {
        session: SessionNumber(session.number?),
        client_id: &session.client_id,
        username: session.identity.username.as_deref(),
        listener: session.listener,
        connection: session.author.connection,
        keep_alive: session.keep_alive,
        expiry: if session.is_kept { session.expiry.as_seconds() } else { 0 },
        closed,
        facts: Facts::of(&session.identity),
    })
}

/// A DISCONNECT with as much of Server Reference and Reason String as fits what the client takes. [MQTT-3.14.2-3]
fn append_disconnect(fault: &Fault, reference: Option<&str>, bytes_max: usize, output: &mut Vec<u8>) {
    let start = output.len();
    // Where to go counts for more than why.
    for (server_reference, reason_string) in [(reference, Some(&*fault.detail)), (reference, None), (None, None)] {
        output.truncate(start);
        let disconnect = Disconnect { server_reference, reason_string, ..Disconnect::new(fault.reason) };
        codec::encode(&Packet::Disconnect(disconnect), codec::ProtocolVersion::V5, output);
        if output.len() - start <= bytes_max {
            return;
        }
    }
}
