//! Connections that have [`Layers`](super::Layers) between their socket and MQTT.

use super::{Driver, Event, Fleet, Index, Stage, Time, write};

impl Fleet {
    /// Takes `bytes` from the socket of `client`, through its layers if it has any.
    pub(super) fn on_input<D: Driver>(&mut self, client: Index, at: Time, bytes: &[u8], driver: &mut D) {
        let link = &mut self.links[client];
        let Some(layers) = &mut link.layers else { return self.on_bytes(client, at, bytes, driver) };
        if link.stage == Stage::Silent {
            return;
        }
        let generation = link.generation;
        let mut mqtt = std::mem::take(&mut self.unwrapped);
        mqtt.clear();
        let was_secure = layers.is_resumed().is_some();
        let received = layers.receive(bytes, &mut mqtt);
        match layers.is_resumed().filter(|_| !was_secure) {
            Some(true) => self.handshakes.resumed += 1,
            Some(false) => self.handshakes.full += 1,
            None => {}
        }
        self.mark_dirty(client); // The layers may have something to say, and what waited for them may go.
        self.on_bytes(client, at, &mqtt, driver);
        self.unwrapped = mqtt;
        let Err(broken) = received else { return };
        if self.links[client].generation == generation && self.links[client].socket.is_some() {
            self.flush_one(client); // An alert, or the answer to a close frame.
            self.drop_socket(client);
            let event = Event::Closed { cause: &broken.cause, is_violation: broken.is_violation };
            driver.on_event(self, client, at, event);
        }
    }

    /// Writes what the layers of `client` have to say, and what MQTT has as soon as it can.
    pub(super) fn flush_layers(&mut self, client: Index) {
        let link = &mut self.links[client];
        let (Some(socket), Some(layers), false) = (&link.socket, &mut link.layers, link.is_blocked) else { return };
        if !link.output.is_empty() && layers.is_complete() {
            link.last_sent = self.clock.now();
            layers.wrap(&mut link.output);
        }
        if !layers.unsent().is_empty() {
            let count = write(socket, layers.unsent());
            layers.advance(count);
            link.is_blocked = !layers.unsent().is_empty();
        }
        if link.output.is_empty() {
            let output = std::mem::take(&mut link.output);
            self.recycle(output);
        }
    }
}
