//! CONNECT: who comes, with which Session, and what becomes of the will that was left.

use super::authenticate::Authentication;
use super::connection::{Arrival, Connection, KeepAlive, Opening, OutgoingAliases};
use super::event::Event;
use super::inspect::{TraceEvent, WillChange};
use super::peer::{Gate, Wait};
use super::wills::WillFate;
use super::{ConnectRefusal, Fault, Pressure, Shard, Timer};
use crate::codec::{self, Connack, Connect, Packet, PacketKind, ProtocolVersion, QoS, ReasonCode};
use crate::journal::record::Transaction;
use crate::security::Identity;
use crate::session::bounds::Bounds;
use crate::session::message::Author;
use crate::session::will::{Cause, Closing, WillState};
use crate::session::{ConnectionId, Session, SessionExpiry};
use crate::timer::{Moment, Tick};
use crate::topic::TopicName;
use std::sync::Arc;
use std::time::Duration;

/// What the existing Session of a client becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Previous {
    /// The Session that goes on, if one does.
    resumed: Option<u32>,
    /// A will was published, and must be everywhere before CONNACK leaves.
    published_will: bool,
    /// The transaction under which it was published: without it the new connection never was, either.
    under: Option<Transaction>,
}

/// What a client that is not let in is told, and how that is counted.
type Refused = (ReasonCode, ConnectRefusal);

/// Who is about to be let in.
struct Newcomer<'a> {
    id: ConnectionId,
    client_id: Arc<str>,
    connect: &'a Connect<'a>,
    arrival: &'a Arrival,
    bounds: Arc<Bounds>,
    expiry: SessionExpiry,
}

impl Shard {
    /// Applies the CONNECT of a connection that was accepted for this shard. (§3.1.4)
    ///
    /// The answer is in the connection's output: CONNACK, and for a resumed Session what it had in flight. Where the CONNECT
    /// is refused the connection is to be closed after that.
    pub fn open(&mut self, now: Moment, id: ConnectionId, connect: &Connect<'_>, arrival: Arrival) {
        let client_id: Arc<str> = match connect.client_id {
            "" => self.assign_client_id(),
            given => given.into(),
        };
        let bounds = self.bounds.of(arrival.origin.listener, arrival.identity.username.as_deref());
        let expiry = self.session_expiry(connect, &bounds);
        let newcomer = Newcomer { id, client_id, connect, arrival: &arrival, bounds, expiry };
        self.stats.packets_received[PacketKind::Connect] += 1;
        self.trace_connect(now, &newcomer.client_id, connect);
        let refused = self.check_connect(now, &newcomer).err();
        if let Some((reason, why)) = refused.or_else(|| self.check_capacity(&newcomer)) {
            self.stats.connects_refused[why] += 1;
            if why == ConnectRefusal::Draining {
                self.on_turned_away(now, &newcomer.client_id, connect.clean_start);
            }
            return self.refuse(now, &newcomer, reason);
        }
        self.admit(now, &newcomer);
        self.journal.end_step();
    }

    fn admit(&mut self, now: Moment, newcomer: &Newcomer<'_>) {
        let Newcomer { id, connect, .. } = *newcomer;
        let client_id = Arc::clone(&newcomer.client_id);
        if let Some(older) = self.connection_of(&client_id) {
            self.finish_reading(now, older);
        }
        let decides_on_will = self.session(&client_id).is_some_and(|old| !matches!(old.will, WillState::None))
            || self.connection_of(&client_id).is_some_and(|older| self.awaits_connack(older));
        let previous = self.settle_previous(now, &client_id, connect.clean_start);
        let hash = self.hasher.hash_one(&*client_id);
        let is_resumed = previous.resumed.is_some();
        let session = previous
            .resumed
            .unwrap_or_else(|| self.sessions.insert(Session::new(now, client_id, hash, Arc::clone(&newcomer.bounds))));
        self.attach(now, session, newcomer, previous.under);
        let (origin, version) = (newcomer.arrival.origin, connect.version);
        let opened = || TraceEvent::Opened { origin, version, is_resumed };
        self.trace_connection(now, id, &newcomer.client_id, opened);
        if previous.published_will && self.peers.has_peers() {
            self.withhold_connack(id);
        }
        // While the disk refuses, a client may come back to its Session all the same: nothing new is promised to it. That its old will is
        // gone would be a promise.
        let is_proven = self.sessions.get(session).is_some_and(|owner| self.journal.is_durable(owner.proven_from));
        let only_returns = is_resumed && connect.will.is_none() && !decides_on_will && is_proven;
        if self.journal.must_promise() && !(self.journal.is_failing() && only_returns) {
            self.promise(id);
            self.connections.get_mut(id).expect("it is being opened").await_connack();
        }
        self.stats.connects_accepted += 1;
        self.send_connack(newcomer, is_resumed);
        if is_resumed {
            let outgoing = &self.sessions.get(session).expect("it is resumed").outgoing;
            if self.journal.is_failing() && outgoing.in_flight().next().is_some() {
                self.promise(id); // What is sent again may not be on record yet.
            }
            self.sessions.get_mut(session).expect("it is resumed").outgoing.resume();
            self.send_queued(now, session);
            self.tell_presence(session, true);
        }
        self.tell_of_arrival(now, id, connect.clean_start); // Behind CONNACK, which need not wait for what it causes.
    }

    /// Whether a connection waits for its CONNACK: what it has caused may not be on record yet.
    pub(super) fn awaits_connack(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| !connection.is_acknowledged)
    }

    /// A Client Identifier that is at home here. [MQTT-3.1.3-6]
    fn assign_client_id(&mut self) -> Arc<str> {
        loop {
            let id = format!("willow-{:016x}{:08x}", self.random.next(), self.random.next() as u32);
            if super::home_of(&id, &self.hasher, self.peers.shards()) == self.id && self.sessions.find(&id).is_none() {
                return id.into();
            }
        }
    }

    fn check_connect(&mut self, now: Moment, newcomer: &Newcomer<'_>) -> Result<(), Refused> {
        let Newcomer { client_id, connect, arrival, .. } = newcomer;
        if connect.authentication_method.is_some() && arrival.enhanced.is_none() {
            return Err((ReasonCode::BadAuthenticationMethod, ConnectRefusal::AuthenticationMethod)); // [MQTT-4.12.0-1]
        }
        self.check_client_id(client_id, connect).map_err(|reason| (reason, ConnectRefusal::ClientId))?;
        if self.belongs_to_another(now, client_id, &arrival.identity) {
            return Err((ReasonCode::ClientIdentifierNotValid, ConnectRefusal::OtherUser));
        }
        let Some(will) = &connect.will else { return Ok(()) };
        self.check_will(newcomer, will).map_err(|reason| match reason {
            ReasonCode::NotAuthorized => (reason, ConnectRefusal::WillDenied),
            _ => (reason, ConnectRefusal::Will),
        })
    }

    /// Whether the Client Identifier names a Session of another user. Who has proven a User Name cannot be robbed of its messages, and its
    /// will cannot be made void, by somebody who merely knows its Client Identifier.
    fn belongs_to_another(&self, now: Moment, client_id: &str, identity: &Identity) -> bool {
        // One that has expired is nobody's, unless its will is still to be published: after a restart that may take longer.
        let is_over =
            |session: &Session| session.ends.is_some_and(|ends| ends <= now) && matches!(session.will, WillState::None);
        let session = self.session(client_id).filter(|session| !is_over(session));
        session.is_some_and(|session| {
            session.identity.username.is_some() && session.identity.username != identity.username
        })
    }

    fn check_client_id(&self, client_id: &str, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        let must_name_itself = match connect.version {
            ProtocolVersion::V3_1 => true,
            ProtocolVersion::V3_1_1 => !connect.clean_start, // [v3.1.1 MQTT-3.1.3-8]
            ProtocolVersion::V5 => false,
        };
        let is_unnamed = connect.client_id.is_empty();
        let is_too_long = client_id.len() > usize::from(self.config.limits.client_id_bytes_max);
        let may_be_assigned = self.config.features.assigned_client_ids && !must_name_itself;
        if is_too_long || (is_unnamed && !may_be_assigned) {
            return Err(ReasonCode::ClientIdentifierNotValid); // [MQTT-3.1.3-8]
        }
        Ok(())
    }

    fn check_will(&mut self, newcomer: &Newcomer<'_>, will: &codec::Will<'_>) -> Result<(), ReasonCode> {
        let (client_id, identity) = (&*newcomer.client_id, &newcomer.arrival.identity);
        let allow = &self.config.wills.allow;
        let topic = TopicName::parse(will.topic).map_err(|_| ReasonCode::TopicNameInvalid)?;
        if !newcomer.bounds.admit_topic(topic) {
            return Err(ReasonCode::TopicNameInvalid);
        }
        let qos = will.qos as u8;
        if qos > self.config.limits.maximum_qos || qos > allow.qos_max {
            return Err(ReasonCode::QosNotSupported); // [MQTT-3.2.2-12]
        }
        if will.retain && !(self.config.features.retain && allow.retain) {
            return Err(ReasonCode::RetainNotSupported); // [MQTT-3.2.2-13]
        }
        if allow.payload_bytes_max.is_some_and(|max| will.payload.len() > max) {
            return Err(ReasonCode::PacketTooLarge);
        }
        let claims_text = self.config.features.validate_payload_format && will.forwarded.payload_format_is_utf8();
        if claims_text && std::str::from_utf8(will.payload).is_err() {
            return Err(ReasonCode::PayloadFormatInvalid);
        }
        let is_authorised = !self.checks_will_at_connect() || self.may_leave_will(identity, client_id, topic);
        // The server's own topics are refused at once whatever `wills.acl` says, unless a rule names them.
        let is_shielded = topic.is_reserved() && !self.may_leave_will(identity, client_id, topic);
        if !is_authorised || is_shielded || !self.wills.allows_topic(topic) {
            self.stats.wills.refused += 1;
            return Err(ReasonCode::NotAuthorized);
        }
        Ok(())
    }

    fn check_capacity(&mut self, newcomer: &Newcomer<'_>) -> Option<Refused> {
        let Newcomer { client_id, connect, .. } = newcomer;
        if self.drain.is_on() {
            let reason = self.redirection(connect.version).unwrap_or(ReasonCode::ServerUnavailable);
            return Some((reason, ConnectRefusal::Draining));
        }
        if self.stop.is_asked {
            return Some((ReasonCode::ServerUnavailable, ConnectRefusal::Stopping));
        }
        let known = self.sessions.find(client_id).and_then(|index| self.sessions.get(index));
        // What waits for a client may be what fills the memory, and only the client itself can take it.
        if self.pressure >= Pressure::RefuseConnections && known.is_none() {
            return Some((ReasonCode::ServerBusy, ConnectRefusal::Memory));
        }
        let sessions_max = (self.config.sessions.sessions_max as usize).div_ceil(self.peers.shards());
        let is_full = self.sessions.len() >= sessions_max && known.is_none();
        // Without the journal nothing new can be kept, and what is kept cannot be forgotten.
        let is_kept = known.is_some_and(|session| session.number.is_some() && !session.has_ended);
        let only_returns = is_kept && !connect.clean_start && connect.will.is_none();
        let needs_journal = is_kept || connect.will.is_some() || newcomer.expiry != SessionExpiry::WITH_CONNECTION;
        let is_refused = self.journal.is_failing() && needs_journal && !only_returns;
        self.stats.refused_by_journal += u64::from(is_refused);
        match (is_full, is_refused) {
            (true, _) => Some((ReasonCode::QuotaExceeded, ConnectRefusal::SessionsMax)),
            (false, true) => Some((ReasonCode::QuotaExceeded, ConnectRefusal::Journal)),
            (false, false) => None,
        }
    }

    /// Answers a CONNECT with its refusal. Nothing is armed, and an existing Session is left alone. [MQTT-3.2.2-6]
    fn refuse(&mut self, now: Moment, newcomer: &Newcomer<'_>, reason: ReasonCode) {
        let Newcomer { id, client_id, connect, arrival, bounds, .. } = newcomer;
        let (id, origin) = (*id, arrival.origin);
        // That the disk fails, memory is short, or there is a drain, is logged elsewhere, and a fleet that returns meanwhile must not fill
        // the log.
        let is_known = (self.journal.is_failing() && reason == ReasonCode::QuotaExceeded)
            || reason == ReasonCode::ServerBusy
            || self.drain.is_on();
        if !is_known {
            let client_id = Arc::clone(client_id);
            self.events.push_back(Event::ConnectRefused { client_id, peer: origin.peer, reason });
        }
        let opening = Opening {
            id,
            session: u32::MAX,
            version: connect.version,
            origin,
            bounds: Arc::clone(bounds),
            window: 0,
            receive_maximum: connect.receive_maximum,
            packet_bytes_max: usize::MAX,
            problem_information: false,
            clean_start: connect.clean_start,
            aliases_out: None,
            expiry_was_zero: true,
        };
        self.connections.insert(Connection::new(now, opening));
        self.trace_connection(now, id, &newcomer.client_id, || TraceEvent::Refused { origin, reason });
        // A 3.x client hears nothing but the codes that its version has. [v3.1.1 MQTT-3.2.2-6]
        let has_code = connect.version.has_reason_codes() || reason.connack_return_code_3x().is_some();
        let version = connect.version;
        let reference = self.server_reference(reason);
        let bytes_max = connect.maximum_packet_size.map_or(usize::MAX, |max| max as usize);
        self.connections.close(id, |output| {
            if has_code {
                append_refusal(reason, reference.as_deref(), version, bytes_max, output);
            }
        });
        self.stats.packets_sent[PacketKind::Connack] += u64::from(has_code);
    }

    /// Ends the client's older Network Connection [MQTT-3.1.4-3], and settles its Session and will as WILLS.md, *Coming back*,
    /// has it.
    fn settle_previous(&mut self, now: Moment, client_id: &str, clean_start: bool) -> Previous {
        let mut previous = Previous { resumed: None, published_will: false, under: None };
        let Some(session) = self.sessions.find(client_id) else { return previous };
        let taken_over = self.sessions.get(session).and_then(|old| old.connection);
        let old = self.sessions.get(session).expect("found above");
        let ends_with_connection = taken_over.is_some() && old.expiry == SessionExpiry::WITH_CONNECTION;
        // Time counts, not the tick in which the wheel will tell of it.
        let has_expired = old.ends.is_some_and(|ends| ends <= now);
        let survives = !clean_start && !old.has_ended && !has_expired && !ends_with_connection; // [MQTT-3.1.4-4]
        // A Session that ended with the server: only its will was kept, and waits for the grace of a restart to pass.
        let is_graced = (old.has_ended || has_expired) && !clean_start;
        if let Some(connection) = taken_over {
            self.take_over(now, connection, survives);
        }
        self.settle_away(session);
        let old = self.sessions.get_mut(session).expect("a takeover keeps the Session");
        match old.will.take() {
            // The delay is in force and the Session goes on [MQTT-3.1.3-9]; or the server was down, and the grace is in force.
            WillState::Pending { timer, due, .. } if (survives || is_graced) && due > now => {
                self.wheel.cancel(timer);
                self.stats.wills.pending_now -= 1;
                self.stats.wills.discarded_by_return += 1;
                self.record_will_gone(session, None);
                self.trace_will(now, session, WillChange::Discarded);
            }
            other => old.will = other,
        }
        self.make_will_due(session, now);
        let has_due = self.sessions.get(session).is_some_and(|old| matches!(old.will, WillState::Due { .. }));
        if has_due && !survives {
            // The old Session ends, and its will is the last that is heard of it.
            previous.under = self.end_session(now, session);
        }
        if has_due && self.is_void_on_return(session) {
            previous.under = self.discard_on_return(now, session).or(previous.under);
        } else if has_due {
            let under = self.publish_will(now, session);
            previous.under = previous.under.or(under);
            previous.published_will = true;
        }
        let still_there = self.sessions.find(client_id) == Some(session);
        if survives && still_there {
            previous.resumed = Some(session);
            let old = self.sessions.get_mut(session).expect("still there");
            old.ends = None;
            if let Some(timer) = old.expiry_timer.take() {
                self.wheel.cancel(timer);
            }
        } else if still_there {
            previous.under = self.end_session(now, session).or(previous.under);
        }
        previous
    }

    /// Closes the older connection with 0x8E. Its armed will is discarded where a delay is in force and the Session goes on,
    /// and due at once otherwise.
    fn take_over(&mut self, now: Moment, connection: ConnectionId, survives: bool) {
        let open = self.connections.get(connection).expect("a Session's connection is open");
        let (session, last_packet) = (open.session, open.last_packet);
        self.stats.takeovers += 1;
        let fault = Fault::new(ReasonCode::SessionTakenOver, "another client connected with this Client Identifier");
        self.end_with(now, connection, Cause::TakenOver, WillFate::Publish, &fault);
        let owner = self.sessions.get_mut(session).expect("a takeover keeps the Session");
        let delay = match &owner.will {
            WillState::Armed(will) => will.delay_interval,
            _ => return,
        };
        let closing = Closing { cause: Cause::TakenOver, at: now, last_packet, is_recovered: false };
        if survives && delay > 0 {
            self.on_will_closing(now, session, closing, WillFate::Discard);
        } else {
            self.on_will_closing(now, session, closing, WillFate::Publish);
        }
    }

    /// How long the Session shall outlive its connection. (§3.1.2.11.2; for 3.x, Clean Session)
    fn session_expiry(&self, connect: &Connect<'_>, bounds: &Bounds) -> SessionExpiry {
        let asked = if connect.version.has_properties() {
            SessionExpiry::from_seconds(connect.session_expiry_interval)
        } else if connect.clean_start {
            SessionExpiry::WITH_CONNECTION
        } else {
            SessionExpiry::NEVER.at_most(self.config.sessions.expiry_3x)
        };
        asked.at_most(bounds.session_expiry_max)
    }

    fn attach(&mut self, now: Moment, session: u32, newcomer: &Newcomer<'_>, under: Option<Transaction>) {
        let Newcomer { id, connect, arrival, bounds, expiry, .. } = newcomer;
        let (id, expiry) = (*id, *expiry);
        let aliases_max = connect.topic_alias_maximum.min(self.config.limits.topic_alias_outgoing_max);
        let opening = Opening {
            id,
            session,
            version: connect.version,
            origin: arrival.origin,
            bounds: Arc::clone(bounds),
            window: connect.receive_maximum.min(bounds.inflight_max),
            receive_maximum: connect.receive_maximum,
            packet_bytes_max: connect.maximum_packet_size.map_or(usize::MAX, |max| max as usize),
            problem_information: connect.request_problem_information,
            clean_start: connect.clean_start,
            aliases_out: OutgoingAliases::new(aliases_max, &self.hasher),
            expiry_was_zero: connect.session_expiry_interval == 0,
        };
        self.connections.insert(Connection::new(now, opening));
        let keep_alive = keep_alive(connect, bounds);
        self.connects += 1;
        let owner = self.sessions.get_mut(session).expect("the Session was made for it");
        owner.connection = Some(id);
        owner.since = now;
        owner.listener = arrival.origin.listener;
        owner.bounds = Arc::clone(bounds);
        owner.expiry = expiry;
        owner.keep_alive = keep_alive;
        owner.author = Author { client: owner.author.client, connection: self.connects };
        if self.journal.is_on() {
            owner.is_kept |= expiry != SessionExpiry::WITH_CONNECTION;
            if owner.is_kept || connect.will.is_some() {
                owner.number.get_or_insert_with(|| self.journal.number_session().0);
            }
        }
        if owner.number.is_some() && owner.proven_from == 0 {
            owner.proven_from = self.journal.offset() + 1; // Until its first record is durable there may turn out to be no Session.
        }
        let (client_id, author) = (Arc::clone(&owner.client_id), owner.author);
        self.set_identity(session, arrival.identity.clone());
        self.record_session_under(session, None, under);
        if let Some(will) = &connect.will {
            let will = self.make_will(&client_id, author, will);
            self.record_will_armed(session, &will, under);
            self.sessions.get_mut(session).expect("as above").will = WillState::Armed(will);
            self.stats.wills.armed += 1;
            self.stats.wills.armed_now += 1;
            self.trace_will(now, session, WillChange::Armed);
        }
        self.arm_keep_alive(now, id, keep_alive);
        self.limit_validity(now, id, arrival.valid_until);
        if let Some(enhanced) = &arrival.enhanced {
            let connection = self.connections.get_mut(id).expect("inserted just now");
            connection.authentication = Some(Authentication::new(enhanced.method.clone()));
        }
    }

    /// Arms the Keep Alive deadline at one and a half times `keep_alive` seconds [MQTT-3.1.2-22]; zero turns it off.
    fn arm_keep_alive(&mut self, now: Moment, id: ConnectionId, keep_alive: u16) {
        if keep_alive == 0 {
            return;
        }
        let allowance = Duration::from_millis(1500 * u64::from(keep_alive));
        let timer = self.wheel.arm(now + allowance, Timer::KeepAlive(id));
        self.connections.get_mut(id).expect("inserted just now").keep_alive = Some(KeepAlive { allowance, timer });
    }

    /// Looks whether the connection was silent for its whole allowance. Packets only note their time; this moves the timer. Whose packets
    /// have come and were not read yet is not silent.
    pub(super) fn on_keep_alive(
        &mut self,
        now: Moment,
        id: ConnectionId,
        has_unread: &mut impl FnMut(ConnectionId) -> bool,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(keep_alive) = connection.keep_alive.as_mut() else { return };
        // What a paused client sends is not looked at, so it cannot be blamed for silence; nor at once when it is read again.
        let heard = if connection.pauses.any() { now } else { connection.last_packet.max(connection.resumed) };
        let mut deadline = heard + keep_alive.allowance;
        if deadline <= now && has_unread(id) {
            deadline = now + Tick::LENGTH; // By then it is read, or the next look tells.
        }
        if deadline > now {
            keep_alive.timer = self.wheel.arm(deadline, Timer::KeepAlive(id));
            return;
        }
        let fault = Fault::new(ReasonCode::KeepAliveTimeout, "no packet within one and a half times Keep Alive");
        self.disconnect_for(now, id, &fault);
    }

    /// Withholds the CONNACK that comes next until every shard has routed what was sent before it.
    fn withhold_connack(&mut self, id: ConnectionId) {
        let gate = self.peers.name_gate();
        let fence = self.peers.request_fence();
        self.peers.wait(fence, Wait::Gate(gate));
        self.peers.add_gate(gate, Gate { conditions: 1, connections: vec![id], ..Gate::default() });
        self.connections.get_mut(id).expect("it is being opened").withhold_connack(gate);
    }

    fn send_connack(&mut self, newcomer: &Newcomer<'_>, session_present: bool) {
        let Newcomer { id, client_id, connect, arrival, bounds, expiry } = newcomer;
        let config = Arc::clone(&self.config);
        let (limits, features) = (&config.limits, &config.features);
        let keep_alive = keep_alive(connect, bounds);
        let enhanced = arrival.enhanced.as_ref();
        let off = |available: bool| (!available).then_some(false);
        let connack = Connack {
            session_expiry_interval: (expiry.as_seconds() != connect.session_expiry_interval)
                .then_some(expiry.as_seconds()),
            receive_maximum: Some(bounds.receive_maximum),
            maximum_qos: QoS::new(limits.maximum_qos).filter(|qos| *qos != QoS::ExactlyOnce),
            retain_available: off(features.retain),
            maximum_packet_size: u32::try_from(bounds.packet_bytes_max).ok(),
            assigned_client_identifier: connect.client_id.is_empty().then_some(&**client_id),
            topic_alias_maximum: Some(limits.topic_alias_maximum),
            wildcard_subscription_available: off(features.wildcard_subscriptions),
            subscription_identifiers_available: off(features.subscription_identifiers),
            shared_subscription_available: off(features.shared_subscriptions),
            authentication_method: enhanced.map(|enhanced| &*enhanced.method), // [MQTT-4.12.0-5]
            authentication_data: enhanced.map(|it| &*it.data).filter(|data| !data.is_empty()),
            server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive), // [MQTT-3.2.2-21]
            ..Connack::new(session_present, ReasonCode::Success)
        };
        self.send(*id, &Packet::Connack(Box::new(connack)));
    }
}

/// The Keep Alive in force: the client's, or the server's where that is shorter and the client can be told.
fn keep_alive(connect: &Connect<'_>, bounds: &Bounds) -> u16 {
    let max = bounds.keep_alive_max;
    let exceeds = connect.keep_alive > max || (connect.keep_alive == 0 && max < u16::MAX);
    if exceeds && connect.version.has_properties() { max } else { connect.keep_alive }
}

/// A CONNACK that refuses, with the Server Reference where the client takes a packet that long. [MQTT-3.1.2-24]
fn append_refusal(
    reason: ReasonCode,
    reference: Option<&str>,
    version: ProtocolVersion,
    bytes_max: usize,
    output: &mut Vec<u8>,
) {
    let start = output.len();
    for server_reference in [reference, None] {
        output.truncate(start);
        let connack = Connack { server_reference, ..Connack::new(false, reason) };
        codec::encode(&Packet::Connack(Box::new(connack)), version, output);
        if output.len() - start <= bytes_max {
            return;
        }
    }
}
