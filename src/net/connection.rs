//! The Network Connections of one shard, and what the ring is doing for each of them.
//!
//! ```text
//! Handshake ──CONNECT, home here──▶ Open ──the shard closes──▶ Draining ──all sent──▶ Lingering
//!     │  └─CONNECT, home elsewhere─▶ Departing ─▶ (the peer's Open)     FIN or LINGER_MAX │
//!     └──not a client: Draining                                                           ▼
//! every stage but Departing ──the peer or the network ends it──▶ Dead ──nothing in flight──▶ closed
//! ```
//!
//! A slot is given to the next connection only after the last operation of the ring on it has ended, so a
//! completion never meets a stranger. What the shard or a deadline says carries a generation.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

use super::admission::Ticket;
use super::handshake::{Handover, Handshake};
use super::ring::{Ended, Ring};
use crate::shard::ConnectionId;
use crate::timer::{Moment, Wheel};

/// How long the peer's FIN is waited for after ours; without the wait, closing a socket that holds
/// unread bytes would reset it, and the peer could lose what we sent last.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(1);

/// Where a connection stands; see the drawing above.
pub(crate) enum Stage {
    Handshake(Box<Handshake>),
    Departing(Box<Handover>),
    Open,
    /// The last output is being sent.
    Draining {
        /// It is the answer to a connection that is turned away, which the shard does not know.
        is_refusal: bool,
    },
    Lingering,
    Dead,
}

/// Whether the ring accepts on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    Off,
    Armed,
    /// Not before [`Deadline::Accept`].
    Resting,
}

/// What the ring receives for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    Off,
    Armed,
    /// Cancelled, and not yet ended.
    Ending,
}

/// One Network Connection.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) socket: OwnedFd,
    pub(crate) ticket: Ticket,
    pub(crate) stage: Stage,
    pub(crate) receiving: Receiving,
    /// The shard wants no bytes for now.
    pub(crate) is_paused: bool,
    pub(crate) is_sending: bool,
    /// How the peer's half ended, once it has: nothing more is received.
    pub(crate) ended: Option<Ended>,
    /// Why nothing can be sent any more.
    pub(crate) send_failed: Option<Errno>,
    pub(crate) has_write_timer: bool,
    /// When the send in flight began or last got on.
    pub(crate) progress_at: Moment,
}

/// What a deadline of the shell is about.
#[derive(Debug)]
pub(crate) enum Deadline {
    /// `limits.connect_timeout` is over.
    Connect(ConnectionId),
    /// [`LINGER_MAX`] is over.
    Linger(ConnectionId),
    /// `limits.write_timeout` may be over.
    Write(ConnectionId),
    /// A listener has rested.
    Accept(u32),
    /// `shutdown_timeout` is over.
    Stop,
}

/// The connections of one shard, by slot.
#[derive(Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// Adds a connection that nothing is in flight for.
    pub(crate) fn insert(&mut self, now: Moment, socket: OwnedFd, ticket: Ticket, stage: Stage) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = ConnectionId { index, generation: slot.generation };
        slot.connection = Some(Connection {
            id,
            socket,
            ticket,
            stage,
            receiving: Receiving::Off,
            is_paused: false,
            is_sending: false,
            ended: None,
            send_failed: None,
            has_write_timer: false,
            progress_at: now,
        });
        id
    }

    /// The connection in a slot that an operation of the ring names.
    ///
    /// # Panics
    /// When the slot is empty: it must not be while an operation is in flight.
    pub(crate) fn at(&mut self, slot: u32) -> &mut Connection {
        self.slots[slot as usize].connection.as_mut().expect("a slot outlives the operations on it")
    }

    /// The connection with this name, if it still exists.
    pub(crate) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.index as usize)?.connection.as_mut().filter(|connection| connection.id == id)
    }

    /// Takes a connection out; nothing is in flight for it.
    pub(crate) fn remove(&mut self, slot: u32) -> Connection {
        let entry = &mut self.slots[slot as usize];
        let connection = entry.connection.take().expect("removed once");
        assert!(connection.is_idle(), "a slot is freed after the last operation on it");
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        connection
    }

    /// Receives again for the connection in `slot`, if there is one that is to be read.
    pub(crate) fn rearm(&mut self, slot: u32, ring: &mut Ring) {
        if let Some(connection) = &mut self.slots[slot as usize].connection
            && !matches!(connection.stage, Stage::Departing(_) | Stage::Dead)
        {
            connection.receive(ring);
        }
    }

    /// How many there are, in whatever stage.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The names of all.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref()).map(|connection| connection.id).collect()
    }
}

impl Connection {
    fn slot(&self) -> u32 {
        self.id.index
    }

    /// Nothing of it is in flight in the ring.
    pub(crate) fn is_idle(&self) -> bool {
        self.receiving == Receiving::Off && !self.is_sending
    }

    /// Begins to receive, unless it does, may not, or there is nothing more to come.
    pub(crate) fn receive(&mut self, ring: &mut Ring) {
        if self.receiving == Receiving::Off && !self.is_paused && self.ended.is_none() {
            ring.receive(self.socket.as_fd(), self.slot());
            self.receiving = Receiving::Armed;
        }
    }

    /// Ends the receive in flight.
    pub(crate) fn end_receive(&mut self, ring: &mut Ring) {
        if self.receiving == Receiving::Armed {
            ring.cancel_receive(self.slot());
            self.receiving = Receiving::Ending;
        }
    }

    /// Sends an output, and watches that it gets on.
    pub(crate) fn send(&mut self, now: Moment, buffer: Vec<u8>, io: &mut Io) {
        assert!(!self.is_sending, "one send at a time");
        io.ring.send(self.socket.as_fd(), self.slot(), buffer);
        self.is_sending = true;
        self.progress_at = now;
        if !self.has_write_timer {
            self.has_write_timer = true;
            io.deadlines.arm(now + io.write_timeout, Deadline::Write(self.id));
        }
    }

    /// Everything is sent: says so to the peer and waits, for a bounded time, for it to do the same.
    pub(crate) fn linger(&mut self, now: Moment, io: &mut Io) {
        // Both fail only where the connection is gone already, which the receive reports. The kernel goes on with what it has
        // not sent after we close the socket: the peer is to read the last answer, however slow it is.
        let _ = socket2::SockRef::from(&self.socket).set_linger(None);
        let _ = shutdown(&self.socket, Shutdown::Write);
        self.is_paused = false;
        if self.ended.is_some() {
            self.die(&mut io.ring);
        } else {
            self.stage = Stage::Lingering;
            self.receive(&mut io.ring);
            io.deadlines.arm(now + LINGER_MAX, Deadline::Linger(self.id));
        }
    }

    /// Ends it as soon as what is in flight has come back.
    pub(crate) fn die(&mut self, ring: &mut Ring) {
        self.stage = Stage::Dead;
        if !self.is_idle() {
            ring.cancel_all(self.socket.as_fd());
        }
    }
}

/// What connections need of the shell around them.
pub(crate) struct Io {
    pub(crate) ring: Ring,
    pub(crate) deadlines: Wheel<Deadline>,
    pub(crate) write_timeout: Duration,
}
