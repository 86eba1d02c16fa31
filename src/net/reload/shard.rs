//! How one shard takes other settings over, in a turn of its own.
//!
//! First every shard knows the new settings, and then the first of them accepts on what is new: a connection may move to another shard at
//! once, which has to know the slot that it came through.

use std::sync::Arc;

use crate::net::connection::Accepting;
use crate::net::life::Life;
use crate::net::listener::Listener;
use crate::net::plan::InForce;
use crate::net::worker::Worker;

impl Worker {
    /// Goes on with these settings, and closes the listeners that are no more in them.
    pub(super) fn take_over(&mut self, in_force: Arc<InForce>) {
        let before = std::mem::replace(&mut self.config, Arc::clone(&in_force.config));
        self.in_force = in_force;
        self.io.write_timeout = self.config.limits.write_timeout;
        self.shard.set_config(Arc::clone(&self.config));
        for slot in 0..self.listeners.len() {
            if !self.in_force.slots[slot].is_open {
                self.close_listener(slot);
                continue;
            }
            let (old, new) = (&before.listeners[slot], &self.config.listeners[slot]);
            if let Some(listener) = self.listeners[slot].as_ref().filter(|_| old.backlog != new.backlog) {
                listener.set_backlog(new.backlog);
            }
            if old.connection_rate_max.is_some() != new.connection_rate_max.is_some() {
                self.io.ring.cancel_accept(slot as u32); // Once it has ended, it begins anew as the rate asks for.
            }
        }
    }

    /// Nobody is accepted there any more. Those who are in stay.
    fn close_listener(&mut self, slot: usize) {
        if let Some(listener) = self.listeners[slot].take() {
            self.io.ring.cancel_accept(slot as u32);
            // Behind all that the ring has been told of this descriptor, whose number is free for others afterwards.
            self.io.ring.close(listener.into_socket());
        }
    }

    /// Accepts on more listeners, each at its slot.
    pub(super) fn open_listeners(&mut self, opened: Vec<(usize, Listener)>) {
        if !matches!(self.life, Life::Starting | Life::Running) {
            return; // The broker stops: they close, and who waits there is told so at once.
        }
        for (slot, listener) in opened {
            if self.listeners.len() <= slot {
                self.listeners.resize_with(slot + 1, || None);
                self.accepting.resize(slot + 1, Accepting::Off);
            }
            self.listeners[slot] = Some(listener);
            // Where accepting on its forerunner has not ended yet, it begins when that has.
            self.accept(slot as u32);
        }
    }
}
