//! Whether something of a connection waits to be read.
//!
//! A client is silent if it has sent nothing, not if we have not looked. After the process stood still (a machine that was paused, a
//! processor that was not to be had), or in a flood, packets that came in time lie in the ring or in the socket when Keep Alive is judged:
//! to end the connection then would be a false alarm.

use std::collections::{HashSet, VecDeque};

use rustix::net::{RecvFlags, recv};

use super::connection::Connections;
use super::ring::{Completion, Ring};
use crate::shard::ConnectionId;

/// What waits to be read in one turn, looked at when it is first asked for.
pub(super) struct Unread<'a> {
    connections: &'a Connections,
    ring: &'a mut Ring,
    aside: &'a mut VecDeque<Completion>,
    /// Slots of which something lies in the ring.
    arrived: Option<HashSet<u32>>,
}

impl<'a> Unread<'a> {
    pub(super) fn new(connections: &'a Connections, ring: &'a mut Ring, aside: &'a mut VecDeque<Completion>) -> Self {
        Self { connections, ring, aside, arrived: None }
    }

    /// Whether bytes of this connection, or its end, have come and were not handed over.
    pub(super) fn is_there(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.look_at(id) else { return false };
        if connection.is_over() || self.has_arrived(id.index) {
            return true;
        }
        // What the ring has not received lies in the socket. Its end, or an error, counts: either is about to be told.
        let nothing = Err(rustix::io::Errno::AGAIN);
        recv(&connection.socket, &mut [0; 1][..], RecvFlags::DONTWAIT | RecvFlags::PEEK).map(drop) != nothing
    }

    /// Completions are put aside for that, in their order; the next turn takes them from there.
    fn has_arrived(&mut self, slot: u32) -> bool {
        let (ring, aside) = (&mut *self.ring, &mut *self.aside);
        let arrived = self.arrived.get_or_insert_with(|| {
            aside.extend(std::iter::from_fn(|| ring.next_completion()));
            let slot_of = |completion: &Completion| match completion {
                Completion::Received { slot, .. } => Some(*slot),
                _ => None,
            };
            aside.iter().filter_map(slot_of).collect()
        });
        arrived.contains(&slot)
    }
}
