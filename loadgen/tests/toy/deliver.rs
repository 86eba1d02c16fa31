//! How the toy broker hands over a message: where most faults sit.

use willowmq::codec::{Publish, QoS};

use crate::broker::{Broker, ConnectionId, Message};

impl Broker {
    /// Hands over a live message.
    pub(crate) fn deliver(&mut self, connection: ConnectionId, message: &Message, qos: QoS) {
        let faults = &mut self.faults;
        if faults.drop_message.strikes() {
            return;
        }
        let mut message = message.clone();
        if faults.flip_first_byte.strikes() {
            message.payload[0] ^= 1;
        }
        if faults.flip_last_byte.strikes() {
            *message.payload.last_mut().expect("payloads have a stamp") ^= 1;
        }
        if faults.wrong_topic.strikes() {
            message.topic.push_str("/elsewhere");
        }
        let qos = match (faults.wrong_qos.strikes(), qos) {
            (false, qos) => qos,
            (true, QoS::AtMostOnce) => QoS::AtLeastOnce,
            (true, _) => QoS::AtMostOnce,
        };
        message.retain = faults.retain_flag_on_live.strikes();
        let copies =
            [(true, false), (faults.repeat_message.strikes(), false), (faults.repeat_with_dup.strikes(), true)];
        for (_, dup) in copies.into_iter().filter(|(is_sent, _)| *is_sent) {
            self.hand_over(connection, &message, qos, dup);
        }
    }

    /// Hands over a retained message.
    pub(crate) fn deliver_retained(&mut self, connection: ConnectionId, message: &Message, qos: QoS) {
        let mut message = message.clone();
        message.retain = !self.faults.no_retain_flag.strikes();
        if self.faults.flip_retained.strikes() {
            message.payload[0] ^= 1;
        }
        if self.faults.retained_at_wrong_topic.strikes() {
            message.topic.push_str("/elsewhere");
        }
        self.hand_over(connection, &message, qos, false);
        if self.faults.repeat_retained.strikes() {
            self.hand_over(connection, &message, qos, false);
        }
    }

    /// Hands over what came while the client was away.
    pub(crate) fn deliver_queue(&mut self, connection: ConnectionId, client_id: &str) {
        for (message, qos) in self.take_queue(client_id) {
            self.hand_over(connection, &message, qos, false);
            if self.faults.repeat_queued.strikes() {
                self.hand_over(connection, &message, qos, false);
            }
            if self.faults.repeat_queued_with_dup.strikes() {
                self.hand_over(connection, &message, qos, true);
            }
        }
    }

    fn hand_over(&mut self, connection: ConnectionId, message: &Message, qos: QoS, dup: bool) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        let publish = Publish {
            dup,
            qos,
            retain: message.retain,
            topic: &message.topic,
            packet_id: qos.has_packet_id().then(|| client.next_packet_id()),
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: Default::default(),
            forwarded: Default::default(),
            payload: &message.payload,
        };
        let out = self.out.entry(connection).or_default();
        if self.faults.malformed_packet.strikes() {
            out.extend_from_slice(&[0b0011_0110, 0]); // A PUBLISH at QoS 3. [MQTT-3.3.1-4]
        }
        if self.faults.swap_messages.strikes() {
            publish.encode(client.version, &mut client.held);
            return;
        }
        publish.encode(client.version, out);
        out.append(&mut client.held);
    }
}
