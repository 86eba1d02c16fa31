//! Network Connections as the shard sees them: protocol state of one connection, and the bytes that wait to be sent on it.

use super::authenticate::Authentication;
use super::inspect::Passed;
use super::limits::PublishRate;
use crate::codec::ProtocolVersion;
use crate::security::Identity;
use crate::security::rights::Decisions;
use crate::session::ConnectionId;
use crate::session::bounds::Bounds;
use crate::timer::{Moment, TimerId};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// Why a connection is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Another shard, or the disk, cannot keep up with what it publishes.
    Congestion = 1,
    /// It does not read what it is sent.
    Choked = 2,
    /// It publishes faster than it may.
    Rate = 4,
    /// Memory is short, and it publishes.
    Memory = 8,
    /// What it sent was enough work for one turn: it goes on in the next.
    Turn = 16,
}

impl Pause {
    const ALL: [Self; 5] = [Self::Congestion, Self::Choked, Self::Rate, Self::Memory, Self::Turn];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Congestion => "congestion",
            Self::Choked => "choked",
            Self::Rate => "rate",
            Self::Memory => "memory",
            Self::Turn => "turn",
        }
    }
}

/// The reasons for which a connection is not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pauses(u8);

impl Pauses {
    /// Whether there are any.
    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether this is one of them.
    pub(super) fn has(self, why: Pause) -> bool {
        self.0 & why as u8 != 0
    }

    /// Which they are.
    pub(super) fn iter(self) -> impl Iterator<Item = Pause> {
        Pause::ALL.into_iter().filter(move |why| self.has(*why))
    }

    fn add(&mut self, why: Pause) -> bool {
        let is_new = !self.has(why);
        self.0 |= why as u8;
        is_new
    }

    fn remove(&mut self, why: Pause) -> bool {
        let was_there = self.has(why);
        self.0 &= !(why as u8);
        was_there
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// Index of the listener that accepted it.
    pub listener: u16,
    /// The peer's address, where the transport has one.
    pub peer: Option<SocketAddr>,
}

/// What is known about a client when it arrives at its home, beside its CONNECT.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// Where it comes from.
    pub origin: Origin,
    /// Who it is.
    pub identity: Identity,
    /// When its credentials end, and with them the connection.
    pub valid_until: Option<Moment>,
    /// The enhanced authentication it went through. (§4.12)
    pub enhanced: Option<Enhanced>,
}

/// An enhanced authentication that has succeeded. (§4.12)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enhanced {
    /// Its Authentication Method, which stays that of the connection. [MQTT-4.12.0-5]
    pub method: Box<str>,
    /// Authentication Data for CONNACK.
    pub data: Vec<u8>,
}

/// What the owner shall do about reading from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Stop reading: what it sends cannot be passed on yet.
    Pause,
    /// Read again.
    Resume,
}

/// Bytes for one connection, some of them withheld until a gate opens.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    in_flight: usize,
    /// How many bytes have left so far: where `bytes` begins in the stream.
    taken: u64,
    /// Gates that withhold something, in the order of their names and of their places in the stream.
    gates: VecDeque<Withheld>,
}

/// Nothing behind this place in the stream may leave until the gate is open.
#[derive(Debug)]
struct Withheld {
    gate: u64,
    at: u64,
    is_open: bool,
}

impl Output {
    /// Where packets are appended to.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that were handed over to be sent so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that have not reached the peer's transport.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() + self.in_flight
    }

    /// Withholds everything appended from now on until `gate` opens.
    pub(super) fn withhold(&mut self, gate: u64) {
        let at = self.taken + self.bytes.len() as u64;
        self.gates.push_back(Withheld { gate, at, is_open: false });
    }

    fn open(&mut self, gate: u64) {
        if let Ok(place) = self.gates.binary_search_by_key(&gate, |withheld| withheld.gate) {
            self.gates[place].is_open = true;
        }
        while self.gates.pop_front_if(|first| first.is_open).is_some() {}
    }

    /// The gate that withholds the newest bytes, where one does.
    pub(super) fn last_gate(&self) -> Option<u64> {
        self.gates.back().map(|withheld| withheld.gate)
    }

    /// How many replies wait for their gates.
    pub(super) fn gates(&self) -> usize {
        self.gates.len()
    }

    fn sendable(&self) -> usize {
        self.gates.front().map_or(self.bytes.len(), |first| (first.at - self.taken) as usize)
    }

    fn take(&mut self, pool: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
        let length = self.sendable();
        if length == 0 || self.in_flight > 0 {
            return None;
        }
        self.in_flight = length;
        self.taken += length as u64;
        if length == self.bytes.len() {
            return Some(std::mem::take(&mut self.bytes));
        }
        let mut withheld = pool.pop().unwrap_or_default();
        withheld.extend_from_slice(&self.bytes[length..]);
        self.bytes.truncate(length);
        Some(std::mem::replace(&mut self.bytes, withheld))
    }

    /// Drops what has not left yet, unless that is all there ever was: CONNACK leaves in any case.
    pub(super) fn drop_unsent(&mut self) {
        if self.taken > 0 {
            self.bytes.clear();
            self.gates.clear();
        }
    }

    /// Drops what is withheld: its promise will not be kept.
    fn drop_withheld(&mut self) {
        let length = self.sendable();
        self.bytes.truncate(length);
        self.gates.clear();
    }
}

/// Topic Aliases that the server gave on one connection. (§3.3.2.3.4)
#[derive(Debug)]
pub(super) struct OutgoingAliases {
    max: u16,
    given: HashMap<Box<str>, NonZeroU16, ahash::RandomState>,
}

impl OutgoingAliases {
    pub(super) fn new(max: u16, hasher: &ahash::RandomState) -> Option<Box<Self>> {
        (max > 0).then(|| Box::new(Self { max, given: HashMap::with_hasher(hasher.clone()) }))
    }

    /// The alias of `topic`, and whether the Topic Name must be sent with it. First come, first served.
    pub(super) fn alias(&mut self, topic: &str) -> Option<(NonZeroU16, bool)> {
        if let Some(alias) = self.given.get(topic) {
            return Some((*alias, false));
        }
        let next = u16::try_from(self.given.len() + 1).ok().filter(|next| *next <= self.max)?;
        let alias = NonZeroU16::new(next)?;
        self.given.insert(topic.into(), alias);
        Some((alias, true))
    }
}

/// The Keep Alive of one connection. (§3.1.2.10)
#[derive(Debug, Clone, Copy)]
pub(super) struct KeepAlive {
    /// One and a half times the Keep Alive in force. [MQTT-3.1.2-22]
    pub(super) allowance: Duration,
    pub(super) timer: TimerId,
}

/// One Network Connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) session: u32,
    pub(super) version: ProtocolVersion,
    pub(super) origin: Origin,
    pub(super) bounds: Arc<Bounds>,
    pub(super) output: Output,
    /// An incomplete packet, or whatever arrived while the connection was paused.
    pub(super) unread: Vec<u8>,
    pub(super) keep_alive: Option<KeepAlive>,
    /// The timer that ends it with its credentials.
    pub(super) credentials_end: Option<TimerId>,
    /// The enhanced authentication it went through, if it did.
    pub(super) authentication: Option<Box<Authentication>>,
    pub(super) last_packet: Moment,
    pub(super) traffic: Passed,
    /// What passes on it is written down for an operator.
    pub(super) is_traced: bool,
    /// How many deliveries of QoS 1 and 2 may be in flight. [MQTT-3.3.4-9]
    pub(super) window: u16,
    /// The Receive Maximum of its client, which may be above that.
    pub(super) receive_maximum: u16,
    /// The largest packet the client takes. [MQTT-3.1.2-24]
    pub(super) packet_bytes_max: usize,
    pub(super) problem_information: bool,
    /// Its CONNECT asked for a new Session.
    pub(super) clean_start: bool,
    /// Which topics its client may publish to, as far as it was asked.
    pub(super) may_publish: Option<Box<Decisions>>,
    /// Topic Aliases that its client gave.
    #[expect(clippy::box_collection, reason = "nearly no connection has any, and then this is 8 bytes instead of 24")]
    pub(super) aliases_in: Option<Box<Vec<Option<Arc<str>>>>>,
    pub(super) aliases_out: Option<Box<OutgoingAliases>>,
    pub(super) pauses: Pauses,
    /// When it was last read again after a pause.
    pub(super) resumed: Moment,
    /// How fast it may publish, where that is bounded.
    pub(super) rate: Option<Box<PublishRate>>,
    /// It waits for memory; the timer looks whether it must be let through.
    pub(super) waits_for_memory: Option<TimerId>,
    /// One PUBLISH of it may pass although memory is short.
    pub(super) is_let_through: bool,
    /// It is to be disconnected, since it does not read what it is sent.
    pub(super) is_too_slow: bool,
    /// It ends: what it has sent is applied without another pause.
    pub(super) is_finishing: bool,
    /// Its peer has ended: it is read to its end, and paused only where memory is short.
    pub(super) has_hung_up: bool,
    pub(super) is_closing: bool,
    /// The session expiry of its CONNECT was zero, so DISCONNECT may not raise it. (§3.14.2.2.2)
    pub(super) expiry_was_zero: bool,
    is_dirty: bool,
    /// What the owner was last told about reading it.
    is_told_to_pause: bool,
    pub(super) is_acknowledged: bool,
}

/// What a new connection starts with.
pub(super) struct Opening {
    pub(super) id: ConnectionId,
    pub(super) session: u32,
    pub(super) version: ProtocolVersion,
    pub(super) origin: Origin,
    pub(super) bounds: Arc<Bounds>,
    pub(super) window: u16,
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: usize,
    pub(super) problem_information: bool,
    pub(super) clean_start: bool,
    pub(super) aliases_out: Option<Box<OutgoingAliases>>,
    pub(super) expiry_was_zero: bool,
}

impl Connection {
    pub(super) fn new(now: Moment, opening: Opening) -> Self {
        let Opening { id, session, version, origin, bounds, window, packet_bytes_max, problem_information, .. } =
            opening;
        Self {
            id,
            session,
            version,
            origin,
            rate: PublishRate::new(&bounds, now),
            bounds,
            output: Output::default(),
            unread: Vec::new(),
            keep_alive: None,
            credentials_end: None,
            authentication: None,
            last_packet: now,
            traffic: Passed::default(),
            is_traced: false,
            window,
            receive_maximum: opening.receive_maximum,
            packet_bytes_max,
            problem_information,
            clean_start: opening.clean_start,
            may_publish: None,
            aliases_in: None,
            aliases_out: opening.aliases_out,
            pauses: Pauses::default(),
            resumed: Moment::ZERO,
            waits_for_memory: None,
            is_let_through: false,
            is_too_slow: false,
            is_finishing: false,
            has_hung_up: false,
            is_closing: false,
            expiry_was_zero: opening.expiry_was_zero,
            is_dirty: false,
            is_told_to_pause: false,
            is_acknowledged: true,
        }
    }

    /// Withholds the CONNACK that is about to be appended, and all that follows it.
    pub(super) fn withhold_connack(&mut self, gate: u64) {
        self.output.withhold(gate);
        self.await_connack();
    }

    /// Notes that CONNACK is withheld.
    pub(super) fn await_connack(&mut self) {
        self.is_acknowledged = false;
    }
}

/// Buffers above this size are freed instead of pooled, so that one large message does not stay for ever.
const POOLED_BYTES_MAX: usize = 64 * 1024;
/// Enough for every connection that is written to within one turn.
const POOL_MAX: usize = 1024;

/// The connections of a shard, and which of them have something to send.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    open: usize,
    dirty: VecDeque<ConnectionId>,
    closes: VecDeque<ConnectionId>,
    /// Connections whose reading has paused or gone on since the owner last asked.
    reading: VecDeque<ConnectionId>,
    pool: Vec<Vec<u8>>,
}

impl Connections {
    /// Adds a connection; a dead one that was never collected from the same slot goes.
    pub(super) fn insert(&mut self, connection: Connection) {
        let index = connection.id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.open += 1;
        self.slots[index] = Some(Box::new(connection));
    }

    /// Connections that are not closing.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// The connection, unless it is closing or gone.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slot_mut(id).filter(|connection| !connection.is_closing)
    }

    /// The connection, unless it is closing or gone.
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.slots.get(id.index as usize)?.as_deref()?;
        Some(slot).filter(|connection| connection.id == id && !connection.is_closing)
    }

    fn slot_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.index as usize)?.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// Slots so far, taken or not.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The open connection in a slot.
    pub(super) fn at(&self, slot: u32) -> Option<ConnectionId> {
        let connection = self.slots.get(slot as usize)?.as_deref()?;
        (!connection.is_closing).then_some(connection.id)
    }

    /// All open connections.
    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().flatten().filter(|connection| !connection.is_closing).map(|open| open.id).collect()
    }

    /// An open connection for somebody who appends to its output, which is marked as having something to send.
    pub(super) fn with_output(&mut self, id: ConnectionId, write: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.slots.get_mut(id.index as usize).and_then(Option::as_deref_mut)
            && connection.id == id
            && !connection.is_closing
        {
            Self::writable(connection, &mut self.dirty, &mut self.pool);
            write(connection);
        }
    }

    fn writable<'a>(
        connection: &'a mut Connection,
        dirty: &mut VecDeque<ConnectionId>,
        pool: &mut Vec<Vec<u8>>,
    ) -> &'a mut Vec<u8> {
        if !connection.is_dirty {
            connection.is_dirty = true;
            dirty.push_back(connection.id);
        }
        if connection.output.bytes.capacity() == 0
            && let Some(buffer) = pool.pop()
        {
            connection.output.bytes = buffer;
        }
        &mut connection.output.bytes
    }

    /// Lets go what `gate` withheld.
    pub(super) fn open_gate(&mut self, id: ConnectionId, gate: u64) {
        self.with_output(id, |connection| {
            connection.output.open(gate);
            connection.is_acknowledged |= connection.output.gates.is_empty();
        });
    }

    /// Asks the owner to close a connection once its output is sent; `farewell` appends the last packet.
    ///
    /// What a gate withholds is dropped, and where that includes CONNACK there is no farewell. [MQTT-3.2.0-1]
    pub(super) fn close(&mut self, id: ConnectionId, farewell: impl FnOnce(&mut Vec<u8>)) {
        self.with_output(id, |connection| {
            connection.output.drop_withheld();
            if connection.is_acknowledged {
                farewell(&mut connection.output.bytes);
            }
            connection.is_closing = true;
            connection.unread = Vec::new();
        });
        self.open -= 1;
        self.closes.push_back(id);
    }

    /// Forgets a connection that the peer or the network ended.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(connection) = self.slot_mut(id) {
            let was_open = !connection.is_closing;
            self.slots[id.index as usize] = None;
            self.open -= usize::from(was_open);
        }
    }

    /// Stops reading from a connection; whether it was read until now, as far as this `why` is concerned. One that ends is not paused,
    /// and one that still has to be read to its end is so only for want of memory or of its turn.
    pub(super) fn pause(&mut self, id: ConnectionId, why: Pause) -> bool {
        let connection = self.get_mut(id).filter(|connection| !connection.is_finishing);
        let Some(connection) = connection.filter(|it| !it.has_hung_up || matches!(why, Pause::Memory | Pause::Turn))
        else {
            return false;
        };
        let was_read = !connection.pauses.any();
        let is_new = connection.pauses.add(why);
        if was_read {
            self.reading.push_back(id);
        }
        is_new
    }

    /// Ends a pause. Where it was the last one the connection is read again, beginning with what it sent meanwhile.
    pub(super) fn resume(&mut self, now: Moment, id: ConnectionId, why: Pause) -> Option<Vec<u8>> {
        let connection = self.get_mut(id)?;
        if !connection.pauses.remove(why) || connection.pauses.any() {
            return None;
        }
        connection.resumed = now;
        let unread = std::mem::take(&mut connection.unread);
        self.reading.push_back(id);
        Some(unread)
    }

    /// Has a connection read again whose peer has ended, unless it is closing or paused anew.
    pub(super) fn go_on(&mut self, now: Moment, id: ConnectionId) {
        if let Some(connection) = self.get_mut(id).filter(|connection| !connection.pauses.any()) {
            connection.resumed = now;
            self.reading.push_back(id);
        }
    }

    pub(super) fn next_close(&mut self) -> Option<ConnectionId> {
        self.closes.pop_front()
    }

    /// What has changed for the owner: one that was paused and went on within a turn is none of its business.
    pub(super) fn next_reading(&mut self) -> Option<(ConnectionId, Reading)> {
        while let Some(id) = self.reading.pop_front() {
            let Some(connection) = self.get_mut(id) else { continue };
            let is_paused = connection.pauses.any();
            if std::mem::replace(&mut connection.is_told_to_pause, is_paused) != is_paused {
                return Some((id, if is_paused { Reading::Pause } else { Reading::Resume }));
            }
        }
        None
    }

    pub(super) fn next_output(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.dirty.pop_front() {
            if let Some(connection) = self.slot_mut(id) {
                connection.is_dirty = false;
                if connection.output.in_flight == 0 && connection.output.sendable() > 0 {
                    return Some(id);
                }
            }
        }
        None
    }

    pub(super) fn take_output(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let connection = self.slots.get_mut(id.index as usize)?.as_deref_mut()?;
        if connection.id != id {
            return None;
        }
        let output = connection.output.take(&mut self.pool);
        self.forget_if_finished(id);
        output
    }

    /// Frees the slot of a closing connection whose last byte has left.
    fn forget_if_finished(&mut self, id: ConnectionId) {
        if self.slot_mut(id).is_some_and(|connection| connection.is_closing && connection.output.pending() == 0) {
            self.slots[id.index as usize] = None;
        }
    }

    /// The protocol version of a connection that is traced, be it closing.
    pub(super) fn traced(&mut self, id: ConnectionId) -> Option<ProtocolVersion> {
        self.slot_mut(id).filter(|connection| connection.is_traced).map(|connection| connection.version)
    }

    /// The trace of a connection is over.
    pub(super) fn unmark_traced(&mut self, id: ConnectionId) {
        if let Some(connection) = self.slot_mut(id) {
            connection.is_traced = false;
        }
    }

    /// Takes back a buffer; whether the connection is still open.
    pub(super) fn on_sent(&mut self, id: ConnectionId, mut buffer: Vec<u8>) -> bool {
        if buffer.capacity() <= POOLED_BYTES_MAX && self.pool.len() < POOL_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
        let Some(connection) = self.slots.get_mut(id.index as usize).and_then(Option::as_deref_mut) else {
            return false;
        };
        if connection.id != id {
            return false;
        }
        connection.output.in_flight = 0;
        if connection.output.sendable() > 0 && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push_back(id);
        }
        let is_open = !connection.is_closing;
        self.forget_if_finished(id);
        is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The allocator hands out 320 bytes, and then 384: a million idle connections would be 64 MB more.
    #[test]
    fn a_connection_stays_within_its_size_class() {
        assert!(size_of::<Connection>() <= 320, "{}", size_of::<Connection>());
    }
}
