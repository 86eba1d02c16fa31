//! Traces: every packet of one client, in both directions, and what becomes of its connections and its will.
//!
//! A trace is for a Client Identifier, so it goes on when the client comes back. Connections of the client carry a mark; all others pay one
//! look at theirs. A trace ends by itself, and keeps a bounded number of lines for whoever fetches them.

use super::packets::{PacketFacts, of_connect, of_packet};
use crate::codec::{self, Connect, ProtocolVersion, ReasonCode};
use crate::session::ConnectionId;
use crate::session::will::Cause;
use crate::shard::{Fault, Origin, Shard};
use crate::timer::Moment;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Traces of a shard at a time.
const TRACES_MAX: usize = 16;
/// Lines that wait to be fetched.
const LINES_MAX: usize = 4096;
/// Connections of a client that still may have something to send: the newest, and those it has taken over.
const CONNECTIONS_MAX: usize = 4;

/// A trace that nobody has fetched from for so long is closed: whoever opened it is gone.
const ABANDONED: Duration = Duration::from_secs(30);

/// Names a trace of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(u64);

/// One line of a trace.
#[derive(Debug, Clone)]
pub struct Traced {
    /// When.
    pub at: Moment,
    /// What.
    pub what: TraceEvent,
}

/// What happened to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceEvent {
    /// A packet came from it.
    Received(PacketFacts),
    /// A packet went to it.
    Sent(PacketFacts),
    /// It sent something that is no packet, or that it must not send; its connection ends with this Reason Code.
    Fault {
        /// The Reason Code.
        reason: ReasonCode,
        /// In a sentence.
        detail: Box<str>,
    },
    /// It has a new Network Connection.
    Opened {
        /// Where from.
        origin: Origin,
        /// The protocol version.
        version: ProtocolVersion,
        /// It goes on with an older Session.
        is_resumed: bool,
    },
    /// Its CONNECT was refused.
    Refused {
        /// Where from.
        origin: Origin,
        /// Why.
        reason: ReasonCode,
    },
    /// Its Network Connection has ended; [`Cause::TakenOver`]: a newer one has taken its place.
    Closed(Cause),
    /// Its Session has ended.
    SessionEnded,
    /// Its will has changed its state.
    Will(WillChange),
    /// So many lines had no room.
    Missed(u64),
}

/// What became of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillChange {
    /// A CONNECT has brought it.
    Armed,
    /// Its connection has closed, and it will be due then.
    Pending {
        /// When it will be due.
        due: Moment,
    },
    /// Its time has come.
    Due,
    /// It was published.
    Published,
    /// It will not be published.
    Discarded,
    /// It was to be published, and its client may not publish to its topic any more.
    Denied,
}

impl WillChange {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Pending { .. } => "pending",
            Self::Due => "due",
            Self::Published => "published",
            Self::Discarded => "discarded",
            Self::Denied => "denied",
        }
    }
}

#[derive(Debug)]
struct Trace {
    id: TraceId,
    client_id: Arc<str>,
    until: Moment,
    fetched: Moment,
    connections: VecDeque<ConnectionId>,
    lines: VecDeque<Traced>,
    missed: u64,
}

impl Trace {
    fn note(&mut self, at: Moment, what: TraceEvent) {
        if at >= self.until {
            return;
        }
        // What is sent has the time of the turn before, where it goes out first thing in a turn.
        let at = self.lines.back().map_or(at, |last| at.max(last.at));
        // After the first line that had no room the others miss out, too, so that the gap is in one place.
        if self.missed > 0 || self.lines.len() >= LINES_MAX {
            self.missed += 1;
        } else {
            self.lines.push_back(Traced { at, what });
        }
    }

    fn follow(&mut self, id: ConnectionId) {
        if self.connections.len() == CONNECTIONS_MAX {
            self.connections.pop_front();
        }
        self.connections.push_back(id);
    }
}

/// The traces of a shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Traces {
    next: u64,
    open: Vec<Trace>,
    /// When the turn began that goes on: what is sent is fetched without a time.
    now: Moment,
}

impl Traces {
    /// Whether there is any.
    pub(in crate::shard) fn is_any_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn of_client(&mut self, client_id: &str) -> impl Iterator<Item = &mut Trace> {
        self.open.iter_mut().filter(move |trace| *trace.client_id == *client_id)
    }

    fn of_connection(&mut self, id: ConnectionId) -> impl Iterator<Item = &mut Trace> {
        self.open.iter_mut().filter(move |trace| trace.connections.contains(&id))
    }

    /// Notes the time of a turn, and forgets traces that are over and fetched, or that nobody fetches any more.
    pub(in crate::shard) fn note_time(&mut self, now: Moment) {
        self.now = now;
        let has_more = |trace: &Trace| now < trace.until || !trace.lines.is_empty();
        self.open.retain(|trace| has_more(trace) && now < trace.fetched + ABANDONED);
    }
}

impl Shard {
    /// Begins to trace a client that is at home here, whether it is connected or not, until then at the latest; `None`: there are as many
    /// traces as may be.
    pub fn open_trace(&mut self, now: Moment, client_id: &str, until: Moment) -> Option<TraceId> {
        self.traces.note_time(now);
        if self.traces.open.len() >= TRACES_MAX {
            return None;
        }
        self.traces.next += 1;
        let id = TraceId(self.traces.next);
        let mut trace = Trace {
            id,
            client_id: client_id.into(),
            until,
            fetched: now,
            connections: VecDeque::new(),
            lines: VecDeque::new(),
            missed: 0,
        };
        if let Some(connection) = self.connection_of(client_id) {
            trace.follow(connection);
            if let Some(open) = self.connections.get_mut(connection) {
                open.is_traced = true;
            }
        }
        self.traces.open.push(trace);
        Some(id)
    }

    /// Ends a trace, and forgets what waits in it.
    pub fn close_trace(&mut self, id: TraceId) {
        self.traces.open.retain(|trace| trace.id != id);
    }

    /// Takes the lines of a trace, no more than `at_most`; `None`: it is over, and all was fetched.
    pub fn fetch_traced(&mut self, now: Moment, id: TraceId, at_most: usize) -> Option<Vec<Traced>> {
        let at = self.traces.open.iter().position(|trace| trace.id == id)?;
        let trace = &mut self.traces.open[at];
        trace.fetched = now;
        let count = at_most.min(trace.lines.len());
        let mut lines: Vec<_> = trace.lines.drain(..count).collect();
        if trace.lines.is_empty() && trace.missed > 0 {
            let what = TraceEvent::Missed(std::mem::take(&mut trace.missed));
            lines.push(Traced { at: now, what });
        }
        if now >= trace.until && trace.lines.is_empty() {
            self.traces.open.remove(at);
            return (!lines.is_empty()).then_some(lines);
        }
        Some(lines)
    }

    /// Notes something about a client, where it is traced.
    pub(in crate::shard) fn trace(&mut self, now: Moment, client_id: &str, what: impl FnOnce() -> TraceEvent) {
        if !self.traces.is_any_open() {
            return;
        }
        let mut traces = self.traces.of_client(client_id).peekable();
        if traces.peek().is_some() {
            let what = what();
            traces.for_each(|trace| trace.note(now, what.clone()));
        }
    }

    /// Notes something about the client of a Session, where it is traced.
    pub(in crate::shard) fn trace_session(&mut self, now: Moment, session: u32, what: impl FnOnce() -> TraceEvent) {
        if self.traces.is_any_open()
            && let Some(session) = self.sessions.get(session)
        {
            let client_id = Arc::clone(&session.client_id);
            self.trace(now, &client_id, what);
        }
    }

    /// Notes a change of a Session's will, where its client is traced.
    pub(in crate::shard) fn trace_will(&mut self, now: Moment, session: u32, change: WillChange) {
        self.trace_session(now, session, || TraceEvent::Will(change));
    }

    /// Notes a CONNECT, where its client is traced.
    pub(in crate::shard) fn trace_connect(&mut self, now: Moment, client_id: &str, connect: &Connect<'_>) {
        self.trace(now, client_id, || TraceEvent::Received(of_connect(connect)));
    }

    /// Marks a new connection of a client that is traced, and notes what that was told.
    pub(in crate::shard) fn trace_connection(
        &mut self,
        now: Moment,
        id: ConnectionId,
        client_id: &str,
        what: impl FnOnce() -> TraceEvent,
    ) {
        if !self.traces.is_any_open() || self.traces.of_client(client_id).next().is_none() {
            return;
        }
        self.trace(now, client_id, what);
        self.traces.of_client(client_id).for_each(|trace| trace.follow(id));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.is_traced = true;
        }
    }

    /// Whether a marked connection is still traced. Once it is not, it has no mark any more: its packets are looked at no closer than those
    /// of others.
    fn is_still_traced(&mut self, id: ConnectionId) -> bool {
        let is_traced = self.traces.of_connection(id).next().is_some();
        if !is_traced {
            self.connections.unmark_traced(id);
        }
        is_traced
    }

    /// Notes a packet that came on a marked connection.
    pub(in crate::shard) fn trace_received(
        &mut self,
        now: Moment,
        id: ConnectionId,
        version: ProtocolVersion,
        bytes: &[u8],
    ) {
        if !self.is_still_traced(id) {
            return;
        }
        let Ok(packet) = codec::decode(bytes, version) else { return }; // The fault is told of as such.
        let what = TraceEvent::Received(of_packet(&packet, bytes.len()));
        self.traces.of_connection(id).for_each(|trace| trace.note(now, what.clone()));
    }

    /// Notes that a client has broken the protocol or a limit, where it is traced.
    pub(in crate::shard) fn trace_fault(&mut self, now: Moment, id: ConnectionId, fault: &Fault) {
        if let Some(session) = self.connections.get(id).map(|connection| connection.session) {
            let detail = || fault.detail.as_ref().into();
            self.trace_session(now, session, || TraceEvent::Fault { reason: fault.reason, detail: detail() });
        }
    }

    /// Notes what leaves on a marked connection. It is cut between packets, since gates stand there.
    pub(in crate::shard) fn trace_sent(&mut self, id: ConnectionId, version: ProtocolVersion, mut bytes: &[u8]) {
        if !self.is_still_traced(id) {
            return;
        }
        let now = self.traces.now;
        while let Ok(Some(length)) = codec::packet_length(bytes, usize::MAX) {
            let Some((packet, rest)) = bytes.split_at_checked(length) else { return };
            if let Ok(packet) = codec::decode(packet, version) {
                let what = TraceEvent::Sent(of_packet(&packet, length));
                self.traces.of_connection(id).for_each(|trace| trace.note(now, what.clone()));
            }
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{Arrival, ShardId};
    use std::time::Duration;

    /// Else each packet of the connection would be decoded twice for as long as it is open.
    #[test]
    fn a_connection_has_no_mark_once_its_trace_is_over() {
        let now = Moment::ZERO;
        let mut shard = Shard::new(ShardId::new(0), 1, 1, Arc::default(), now);
        let id = ConnectionId { index: 0, generation: 0 };
        shard.open(now, id, &Connect::new(ProtocolVersion::V5, "lamp"), Arrival::default());
        let trace = shard.open_trace(now, "lamp", now + Duration::from_secs(9)).unwrap();
        shard.receive(now, id, &[0xC0, 0]);
        assert_eq!(shard.fetch_traced(now, trace, 9).unwrap().len(), 1);
        assert!(shard.connections.get(id).unwrap().is_traced);
        shard.close_trace(trace);
        shard.receive(now, id, &[0xC0, 0]);
        assert!(!shard.connections.get(id).unwrap().is_traced);
    }
}
