//! What the clients of a fleet say and hear, packet by packet.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::anyhow;
use willowmq::codec::{
    Ack, Connack, PACKET_BYTES_MAX, Packet, PacketId, PacketKind, Publish, QoS, ReasonCode, Suback, Subscribe,
    SubscriptionFilters, SubscriptionIdentifiers, SubscriptionOptions, UserProperties, decode, encode, packet_length,
};

use super::flow::Unfinished;
use super::link::Limits;
use super::{Driver, Fleet, Index, OUTPUT_BYTES_MAX, Stage, Time};

/// How many publishes a 3.x broker takes unacknowledged: it has no way to say.
const RECEIVE_MAXIMUM_3X: u16 = u16::MAX;

/// What happened to a client.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// CONNACK said yes, this long after the connection was begun.
    Connected {
        /// From the beginning of the TCP connection to the CONNACK.
        took: Duration,
        /// Whether the broker had a session for the client.
        session_present: bool,
    },
    /// CONNACK said no; the connection is closed.
    Refused(ReasonCode),
    /// SUBACK came; `None` if every filter was granted.
    Subscribed(Option<ReasonCode>),
    /// A message was delivered.
    Message(&'a Publish<'a>),
    /// The message published with this tag has its PUBACK or PUBCOMP.
    Acknowledged(u64),
    /// The broker refused the message published with this tag.
    Rejected(u64, ReasonCode),
    /// The connection ended, and not because the driver closed it.
    Closed {
        /// Why, for people.
        cause: &'a str,
        /// Whether the broker broke the protocol.
        is_violation: bool,
    },
}

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its Topic Name.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its level.
    pub qos: QoS,
    /// Whether the broker keeps it.
    pub retain: bool,
}

impl Fleet {
    /// Publishes `message` as `client`, or says `false`: not connected, or it has to wait for the broker.
    ///
    /// A message beyond what the broker said it takes ends [`Fleet::run`] with an error.
    ///
    /// [`Event::Acknowledged`] answers with `tag`, at QoS 1 and 2.
    pub fn publish(&mut self, client: Index, message: &Message<'_>, tag: u64) -> bool {
        if !self.can_publish(client, message.qos) {
            return false;
        }
        let packet_id = match message.qos {
            QoS::AtMostOnce => None,
            qos => match self.links[client].outgoing.begin(tag, qos == QoS::ExactlyOnce) {
                Some(id) => Some(id),
                None => return false,
            },
        };
        let link = self.output(client);
        let publish = publish_of(message, packet_id);
        let begin = link.output.len();
        publish.encode(link.version, &mut link.output);
        if let Some(objection) = link.limits.objection(message, link.output.len() - begin) {
            link.output.truncate(begin);
            self.fault = Some(anyhow!(objection));
            return false;
        }
        true
    }

    /// Keeps what `client` has published and is not acknowledged for its next connection, which has to send it again.
    pub fn keep_unacknowledged(&mut self, client: Index) {
        self.links[client].keeps_outgoing = true;
    }

    /// What an earlier connection of `client` left unacknowledged, in its order.
    pub fn unfinished(&self, client: Index) -> Vec<(PacketId, Unfinished)> {
        self.links[client].outgoing.unfinished()
    }

    /// Publishes as `client` once more what is [unfinished](Self::unfinished), marked DUP. [MQTT-3.3.1-1]
    pub fn publish_again(&mut self, client: Index, id: PacketId, message: &Message<'_>) {
        let link = self.output(client);
        let publish = Publish { dup: true, ..publish_of(message, Some(id)) };
        publish.encode(link.version, &mut link.output);
    }

    /// Releases as `client` once more what is [unfinished](Self::unfinished).
    pub fn release_again(&mut self, client: Index, id: PacketId) {
        self.acknowledge(client, PacketKind::Pubrel, id);
    }

    /// Whether `client` can publish at `qos` right now.
    pub fn can_publish(&self, client: Index, qos: QoS) -> bool {
        let link = &self.links[client];
        link.stage == Stage::Online
            && link.pending() < OUTPUT_BYTES_MAX
            && (qos == QoS::AtMostOnce || link.outgoing.room() > 0)
    }

    /// How many publishes of `client` are not acknowledged.
    pub fn unacknowledged(&self, client: Index) -> usize {
        self.links[client].outgoing.count()
    }

    /// Asks for `filters` as `client`; [`Event::Subscribed`] answers.
    pub fn subscribe(&mut self, client: Index, filters: &[(&str, SubscriptionOptions)]) {
        let link = self.output(client);
        link.last_subscription = link.last_subscription.checked_add(1).unwrap_or(1);
        let subscribe = Subscribe {
            packet_id: PacketId::new(link.last_subscription).expect("it starts at 1 and skips 0"),
            subscription_identifier: None,
            filters: SubscriptionFilters::from_slice(filters),
            user_properties: UserProperties::default(),
        };
        encode(&Packet::Subscribe(subscribe), link.version, &mut link.output);
    }

    /// Cuts `bytes` into packets, after what was left of earlier ones.
    pub(super) fn on_bytes<D: Driver>(&mut self, client: Index, at: Time, bytes: &[u8], driver: &mut D) {
        if self.links[client].stage == Stage::Silent {
            return;
        }
        if self.links[client].partial.is_empty() {
            let used = self.on_packets(client, at, bytes, driver);
            self.links[client].partial.extend_from_slice(&bytes[used..]);
            return;
        }
        let mut partial = std::mem::take(&mut self.links[client].partial);
        partial.extend_from_slice(bytes);
        let used = self.on_packets(client, at, &partial, driver);
        partial.drain(..used);
        self.links[client].partial = partial;
    }

    /// Handles the complete packets in `bytes`; says how many bytes are done with.
    fn on_packets<D: Driver>(&mut self, client: Index, at: Time, bytes: &[u8], driver: &mut D) -> usize {
        let generation = self.links[client].generation;
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let length = match packet_length(rest, PACKET_BYTES_MAX) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => return used,
                Err(error) => {
                    self.on_violation(client, at, &error.to_string(), driver);
                    return bytes.len();
                }
            };
            match decode(&rest[..length], self.links[client].version) {
                Ok(packet) => self.on_packet(client, at, &packet, driver),
                Err(error) => self.on_violation(client, at, &error.to_string(), driver),
            }
            used += length;
            if self.links[client].generation != generation || self.links[client].socket.is_none() {
                return bytes.len(); // The rest belongs to a connection that is gone.
            }
        }
    }

    fn on_packet<D: Driver>(&mut self, client: Index, at: Time, packet: &Packet<'_>, driver: &mut D) {
        match (self.links[client].stage, packet) {
            (Stage::AwaitConnack, Packet::Connack(_)) | (Stage::Online, _) => {}
            (_, other) => {
                let what = format!("{} instead of a CONNACK", other.kind()); // [MQTT-3.2.0-1]
                return self.on_violation(client, at, &what, driver);
            }
        }
        match packet {
            Packet::Connack(_) if self.links[client].stage == Stage::Online => {
                self.on_violation(client, at, "a second CONNACK", driver); // [MQTT-3.2.0-2]
            }
            Packet::Connack(connack) => self.on_connack(client, at, connack, driver),
            Packet::Publish(publish) => self.on_publish(client, at, publish, driver),
            Packet::Puback(ack) => match self.links[client].outgoing.on_puback(ack.packet_id) {
                Some(tag) => self.on_done(client, at, tag, ack.reason, driver),
                None => self.on_violation(client, at, "a PUBACK for nothing", driver),
            },
            Packet::Pubrec(ack) => self.on_pubrec(client, at, ack, driver),
            Packet::Pubrel(ack) => {
                self.links[client].incoming.release(ack.packet_id);
                self.acknowledge(client, PacketKind::Pubcomp, ack.packet_id);
            }
            Packet::Pubcomp(ack) => match self.links[client].outgoing.on_pubcomp(ack.packet_id) {
                Some(tag) => self.on_done(client, at, tag, ReasonCode::Success, driver),
                None => self.on_violation(client, at, "a PUBCOMP for nothing", driver),
            },
            Packet::Suback(suback) => self.on_suback(client, at, suback, driver),
            Packet::Unsuback(_) | Packet::Pingresp => {}
            Packet::Disconnect(disconnect) => {
                let cause = format!("DISCONNECT, {}", disconnect.reason);
                self.drop_socket(client);
                driver.on_event(self, client, at, Event::Closed { cause: &cause, is_violation: false });
            }
            other => self.on_violation(client, at, &format!("{} from a broker", other.kind()), driver),
        }
    }

    fn on_connack<D: Driver>(&mut self, client: Index, at: Time, connack: &Connack<'_>, driver: &mut D) {
        if connack.reason.is_error() {
            self.drop_socket(client);
            driver.on_event(self, client, at, Event::Refused(connack.reason));
            return;
        }
        let link = &mut self.links[client];
        link.stage = Stage::Online;
        link.limits = Limits::of(connack);
        let receive_maximum = connack.receive_maximum.unwrap_or(RECEIVE_MAXIMUM_3X);
        if link.keeps_outgoing && connack.session_present {
            link.outgoing.resume(receive_maximum);
        } else {
            link.outgoing.reset(receive_maximum);
        }
        if let Some(seconds) = connack.server_keep_alive {
            link.keep_alive = Duration::from_secs(seconds.into()); // [MQTT-3.1.2-21]
        }
        if !connack.session_present {
            link.incoming.reset();
        }
        let event = Event::Connected { took: at - link.opened, session_present: connack.session_present };
        driver.on_event(self, client, at, event);
    }

    fn on_publish<D: Driver>(&mut self, client: Index, at: Time, publish: &Publish<'_>, driver: &mut D) {
        let is_new = match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => {
                self.acknowledge(client, PacketKind::Puback, id);
                true
            }
            (QoS::ExactlyOnce, Some(id)) => {
                self.acknowledge(client, PacketKind::Pubrec, id);
                self.links[client].incoming.receive(id)
            }
            _ => true,
        };
        if is_new {
            driver.on_event(self, client, at, Event::Message(publish));
        }
    }

    fn on_pubrec<D: Driver>(&mut self, client: Index, at: Time, ack: &Ack<'_>, driver: &mut D) {
        match self.links[client].outgoing.on_pubrec(ack.packet_id, ack.reason.is_error()) {
            Some(Ok(())) => self.acknowledge(client, PacketKind::Pubrel, ack.packet_id),
            Some(Err(tag)) => self.on_done(client, at, tag, ack.reason, driver),
            None => self.on_violation(client, at, "a PUBREC for nothing", driver),
        }
    }

    fn on_done<D: Driver>(&mut self, client: Index, at: Time, tag: u64, reason: ReasonCode, driver: &mut D) {
        let event = if reason.is_error() { Event::Rejected(tag, reason) } else { Event::Acknowledged(tag) };
        driver.on_event(self, client, at, event);
    }

    fn on_suback<D: Driver>(&mut self, client: Index, at: Time, suback: &Suback<'_>, driver: &mut D) {
        let refused = suback.reasons.iter().find(|reason| reason.is_error());
        driver.on_event(self, client, at, Event::Subscribed(refused));
    }

    fn on_violation<D: Driver>(&mut self, client: Index, at: Time, what: &str, driver: &mut D) {
        self.drop_socket(client);
        driver.on_event(self, client, at, Event::Closed { cause: what, is_violation: true });
    }

    /// Answers with PUBACK, PUBREC, PUBREL or PUBCOMP and success, which are four bytes in every version.
    fn acknowledge(&mut self, client: Index, kind: PacketKind, id: PacketId) {
        let [high, low] = id.get().to_be_bytes();
        self.output(client).output.extend_from_slice(&[kind.first_byte(), 2, high, low]);
    }
}

fn publish_of<'a>(message: &Message<'a>, packet_id: Option<PacketId>) -> Publish<'a> {
    Publish {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        topic: message.topic,
        packet_id,
        topic_alias: None::<NonZeroU16>,
        message_expiry_interval: None,
        subscription_identifiers: SubscriptionIdentifiers::default(),
        forwarded: Default::default(),
        payload: message.payload,
    }
}
