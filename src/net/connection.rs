//! The Network Connections of one shard, and what the ring is doing for each of them.
//!
//! ```text
//! Handshake ──let in, home here──▶ Open ──the shard closes──▶ Draining ──all sent──▶ Lingering
//!     │  └─let in, home elsewhere─▶ Departing ─▶ (the peer's Open)     FIN or LINGER_MAX │
//!     └──not let in──▶ Refusing ──all sent──▶ Lingering                                   ▼
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
use super::link::{Link, Scratch};
use super::ring::{Ended, Ring};
use super::transport::CloseCode;
use crate::shard::{Closed, ConnectionId};
use crate::timer::{Moment, TimerId, Wheel};

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
        /// The shard still has some of it.
        is_known: bool,
    },
    /// Its client is not let in, and is told so with this.
    Refusing(Vec<u8>),
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

/// What is being sent on a connection: one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    Nothing,
    /// Output of the shard, which has its buffer back afterwards.
    Output,
    /// What the shard does not know of: from before it was open, or what its layers have to say.
    Other,
}

/// One Network Connection.
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) socket: OwnedFd,
    pub(crate) ticket: Ticket,
    pub(crate) stage: Stage,
    /// What lies between the socket and MQTT; None for plain TCP.
    pub(crate) link: Option<Box<Link>>,
    pub(crate) receiving: Receiving,
    /// No bytes are wanted for now.
    pub(crate) is_paused: bool,
    /// The ring tells when its peer ends, since it is not received from.
    pub(crate) is_watched: bool,
    pub(crate) sending: Sending,
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
    /// The time that a part of the way in may take is over.
    Handshake(ConnectionId),
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
    pub(crate) fn insert(
        &mut self,
        now: Moment,
        socket: OwnedFd,
        ticket: Ticket,
        link: Option<Box<Link>>,
        stage: Stage,
    ) -> ConnectionId {
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
            link,
            receiving: Receiving::Off,
            is_paused: false,
            is_watched: false,
            sending: Sending::Nothing,
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

    /// A connection, and another one where that still exists.
    pub(crate) fn pair(
        &mut self,
        id: ConnectionId,
        other: Option<ConnectionId>,
    ) -> Option<(&mut Connection, Option<&Connection>)> {
        let Some(other) = other.filter(|other| self.get(*other).is_some()) else {
            return self.get(id).map(|connection| (connection, None));
        };
        let indexes = [id.index as usize, other.index as usize];
        let [one, two] = self.slots.get_disjoint_mut(indexes).ok()?;
        let connection = one.connection.as_mut().filter(|connection| connection.id == id)?;
        Some((connection, two.connection.as_ref()))
    }

    /// As [`get`](Self::get), to look at only.
    pub(crate) fn look_at(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots.get(id.index as usize)?.connection.as_ref().filter(|connection| connection.id == id)
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
        self.receiving == Receiving::Off && !self.is_watched && !self.is_sending()
    }

    /// Whether something is being sent, so that what comes next has to wait.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending != Sending::Nothing
    }

    /// Whether there is, or will be, nothing more to read: its peer or its layers have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some() || self.layers_end().is_some()
    }

    /// Whether it has not begun to end.
    pub(crate) fn is_open_or_on_its_way_in(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Handshake(_))
    }

    /// Whether its layers are away.
    pub(crate) fn is_waiting_for_layers(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_waiting())
    }

    /// How its layers ended, once they have.
    pub(crate) fn layers_end(&self) -> Option<Closed> {
        self.link.as_ref()?.end()
    }

    /// Begins to receive, unless it does, may not, or there is nothing more to come.
    pub(crate) fn receive(&mut self, ring: &mut Ring) {
        let may_receive = !self.is_paused && !self.link.as_ref().is_some_and(|link| link.is_full());
        if self.receiving == Receiving::Off && may_receive && self.ended.is_none() {
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

    /// Reads nothing more until it is told to [`go on`](Self::go_on_reading).
    pub(crate) fn pause(&mut self, ring: &mut Ring) {
        self.is_paused = true;
        self.end_receive(ring);
    }

    /// Sees the peer's end although nothing is received: a will is not to wait until the pause is over.
    ///
    /// The watch tells once. What it tells of stays so, and so it is armed again only for another pause.
    pub(crate) fn watch_for_hangup(&mut self, ring: &mut Ring) {
        if !self.is_watched && self.ended.is_none() {
            ring.watch_for_hangup(self.socket.as_fd(), self.slot());
            self.is_watched = true;
        }
    }

    /// Reads again.
    pub(crate) fn go_on_reading(&mut self, ring: &mut Ring) {
        self.is_paused = false;
        if self.is_watched {
            ring.cancel_watch_for_hangup(self.slot());
        }
        self.receive(ring);
    }

    /// Sends an output of the shard, through the layers where it has some.
    pub(crate) fn send_output(&mut self, now: Moment, output: Vec<u8>, io: &mut Io) {
        let buffer = match &mut self.link {
            None => output,
            Some(link) => link.wrap(output, &mut io.scratch),
        };
        self.send(now, Sending::Output, buffer, io);
    }

    /// Sends what the shard does not know of, if there is something and nothing else is being sent: what is left to say from before the
    /// connection was open, and what its layers have to say.
    pub(crate) fn send_other(&mut self, now: Moment, io: &mut Io) {
        if self.is_sending() {
            return; // It is looked again when that is done.
        }
        let unsent = match &mut self.stage {
            Stage::Handshake(handshake) => std::mem::take(&mut handshake.unsent),
            Stage::Refusing(answer) => std::mem::take(answer),
            _ => Vec::new(),
        };
        let buffer = match &mut self.link {
            Some(link) if unsent.is_empty() => link.take_outgoing().unwrap_or_default(),
            Some(link) => link.wrap(unsent, &mut io.scratch),
            None => unsent,
        };
        if !buffer.is_empty() {
            self.send(now, Sending::Other, buffer, io);
        }
    }

    /// Sends the end of its layers, if that was not done; whether there was something to send.
    pub(crate) fn say_goodbye(&mut self, now: Moment, code: CloseCode, io: &mut Io) -> bool {
        let goodbye = self.link.as_mut().and_then(|link| link.take_goodbye(code));
        if let Some(goodbye) = goodbye {
            self.send(now, Sending::Other, goodbye, io);
        }
        self.is_sending()
    }

    /// Sends a buffer, and watches that it gets on.
    fn send(&mut self, now: Moment, sending: Sending, buffer: Vec<u8>, io: &mut Io) {
        assert!(!self.is_sending(), "one send at a time");
        io.ring.send(self.socket.as_fd(), self.slot(), buffer);
        self.sending = sending;
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

    /// Bytes of a client that is not let in yet.
    pub(crate) fn held_on_the_way_in(&self) -> usize {
        let Stage::Handshake(handshake) = &self.stage else { return 0 };
        handshake.bytes.len() + self.link.as_ref().map_or(0, |link| link.waiting_bytes())
    }

    /// Ends it as soon as what is in flight has come back.
    pub(crate) fn die(&mut self, ring: &mut Ring) {
        self.stage = Stage::Dead;
        self.ticket.leave_identity();
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
    pub(crate) scratch: Scratch,
}

impl Io {
    /// Gives a part of the way in its own time, in place of the part before it.
    pub(crate) fn restart(&mut self, deadline: &mut Option<TimerId>, when: Moment, id: ConnectionId) {
        let next = self.deadlines.arm(when, Deadline::Handshake(id));
        if let Some(before) = deadline.replace(next) {
            self.deadlines.cancel(before);
        }
    }
}
