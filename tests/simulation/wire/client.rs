//! A simulated client: it speaks real bytes, and watches that what the server says is what the standard allows.

use crate::wire::message::{Message, Received};
use std::collections::{BTreeMap, BTreeSet};
use willowmq::codec::{
    self, Ack, Connack, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, SubscriptionIdentifiers,
};

/// What a client remembers between its Network Connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    last_packet_id: u16,
    /// Its own QoS 1 and 2 messages that are not acknowledged, in the order in which they were sent.
    pub(crate) unacknowledged: Vec<(PacketId, Sent)>,
    /// QoS 2 messages that were received and not released.
    unreleased: BTreeSet<PacketId>,
}

/// How far one of the client's own messages has come.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    AwaitAck(Message),
    AwaitPubcomp,
}

/// A packet that arrived, as far as anybody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inbound {
    Connack(Box<Accepted>),
    Publish(Received),
    Puback(PacketId, ReasonCode),
    Pubrec(PacketId, ReasonCode),
    Pubrel(PacketId),
    Pubcomp(PacketId),
    Suback(PacketId, Vec<ReasonCode>),
    Unsuback(PacketId, Vec<ReasonCode>),
    Pingresp,
    Disconnect(ReasonCode),
}

/// What CONNACK said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) session_present: bool,
    pub(crate) reason: ReasonCode,
    pub(crate) session_expiry: Option<u32>,
    pub(crate) assigned_client_id: Option<String>,
    pub(crate) server_keep_alive: Option<u16>,
}

/// What a client promised in its CONNECT, and how it behaves.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) version: ProtocolVersion,
    pub(crate) clean_start: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_bytes_max: usize,
    pub(crate) topic_alias_maximum: u16,
    /// Acknowledges by itself; otherwise nothing is acknowledged.
    pub(crate) acknowledges: bool,
    /// Its Session outlives the connection, so the client keeps its own half of it.
    pub(crate) keeps_session: bool,
}

/// The client's end of one Network Connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) manner: Manner,
    pub(crate) memory: Memory,
    /// How many of the unacknowledged messages were sent on an earlier connection.
    inherited: usize,
    /// The client has a newer connection: on this one it does nothing any more and looks at no message.
    pub(crate) has_moved_on: bool,
    /// Everything that arrived, in order.
    pub(crate) inbox: Vec<Inbound>,
    unread: Vec<u8>,
    aliases: BTreeMap<u16, String>,
    /// Deliveries that this client has not answered in full.
    in_flight: BTreeSet<PacketId>,
    /// Answers that are due and withheld.
    withheld: Vec<Vec<u8>>,
    subscribing: BTreeMap<PacketId, usize>,
}

impl Client {
    pub(crate) fn new(manner: Manner, memory: Memory) -> Self {
        Self {
            manner,
            inherited: memory.unacknowledged.len(),
            memory,
            has_moved_on: false,
            inbox: Vec::new(),
            unread: Vec::new(),
            aliases: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            withheld: Vec::new(),
            subscribing: BTreeMap::new(),
        }
    }

    /// What the client takes along to a newer connection.
    pub(crate) fn move_on(&mut self, to_clean_start: bool) -> Memory {
        self.has_moved_on = true;
        let last_packet_id = self.memory.last_packet_id;
        if to_clean_start || !self.manner.keeps_session {
            return Memory { last_packet_id, ..Memory::default() }; // [MQTT-3.1.2-4]
        }
        self.memory.clone()
    }

    /// The client's newest Packet Identifier, which it uses for nothing else. [MQTT-2.2.1-3]
    pub(crate) fn next_packet_id(&mut self) -> PacketId {
        let memory = &mut self.memory;
        loop {
            memory.last_packet_id = memory.last_packet_id.wrapping_add(1);
            let in_use = |id| memory.unacknowledged.iter().any(|(used, _)| *used == id);
            if let Some(id) = PacketId::new(memory.last_packet_id).filter(|id| !in_use(*id)) {
                return id;
            }
        }
    }

    /// The bytes of a PUBLISH, remembered where it will be acknowledged.
    pub(crate) fn publish(&mut self, message: &Message, out: &mut Vec<u8>) -> Option<PacketId> {
        let packet_id = message.qos.has_packet_id().then(|| self.next_packet_id());
        if let Some(id) = packet_id {
            self.memory.unacknowledged.push((id, Sent::AwaitAck(message.clone())));
        }
        self.encode(&publish_packet(message, packet_id, false), out);
        packet_id
    }

    pub(crate) fn encode(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        match packet {
            Packet::Subscribe(subscribe) => {
                self.subscribing.insert(subscribe.packet_id, subscribe.filters.iter().count());
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.subscribing.insert(unsubscribe.packet_id, unsubscribe.filters.iter().count());
            }
            _ => {}
        }
        codec::encode(packet, self.manner.version, out);
    }

    /// Takes what the server sent and appends what the client answers by itself.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8], answer: &mut Vec<u8>) {
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let mut read = 0;
        while let Some(length) = codec::packet_length(&unread[read..], codec::PACKET_BYTES_MAX).expect("a packet") {
            let Some(packet) = unread.get(read..read + length) else { break };
            assert!(length <= self.manner.packet_bytes_max, "[MQTT-3.1.2-24] a packet of {length} bytes");
            let packet = codec::decode(packet, self.manner.version).expect("the server sends what decodes");
            self.on_packet(&packet, answer);
            read += length;
        }
        unread.drain(..read);
        self.unread = unread;
    }

    fn on_packet(&mut self, packet: &Packet<'_>, answer: &mut Vec<u8>) {
        let is_first = self.inbox.is_empty();
        let is_connack = matches!(packet, Packet::Connack(_));
        assert_eq!(is_first, is_connack, "[MQTT-3.2.0-1] CONNACK is the first packet and the only one: {packet:?}");
        assert!(!matches!(self.inbox.last(), Some(Inbound::Disconnect(_))), "[MQTT-3.14.4-1] after DISCONNECT");
        let inbound = match packet {
            Packet::Connack(connack) => self.on_connack(connack, answer),
            Packet::Publish(publish) => Inbound::Publish(self.on_publish(publish, answer)),
            Packet::Puback(ack) => self.on_puback(ack),
            Packet::Pubrec(ack) => self.on_pubrec(ack, answer),
            Packet::Pubrel(ack) => self.on_pubrel(ack, answer),
            Packet::Pubcomp(ack) => self.on_pubcomp(ack),
            Packet::Suback(suback) => {
                self.check_reasons(suback.packet_id, suback.reasons.iter().count());
                Inbound::Suback(suback.packet_id, suback.reasons.iter().collect())
            }
            Packet::Unsuback(unsuback) => {
                let count = unsuback.reasons.iter().count();
                if self.manner.version.has_reason_codes() {
                    self.check_reasons(unsuback.packet_id, count);
                }
                Inbound::Unsuback(unsuback.packet_id, unsuback.reasons.iter().collect())
            }
            Packet::Pingresp => Inbound::Pingresp,
            Packet::Disconnect(disconnect) => {
                assert!(self.manner.version.has_server_disconnect(), "3.x has no DISCONNECT from the server");
                Inbound::Disconnect(disconnect.reason)
            }
            other => panic!("a server does not send {other:?}"),
        };
        if !(self.has_moved_on && matches!(inbound, Inbound::Publish(_))) {
            self.inbox.push(inbound);
        }
    }

    fn on_connack(&mut self, connack: &Connack<'_>, answer: &mut Vec<u8>) -> Inbound {
        let is_accepted = connack.reason == ReasonCode::Success;
        assert!(is_accepted || !connack.session_present, "[MQTT-3.2.2-6]");
        assert!(
            !(connack.session_present && self.manner.clean_start),
            "[MQTT-3.2.2-2] Session Present after Clean Start"
        );
        if is_accepted && connack.session_present {
            self.resend(answer);
        } else if is_accepted {
            self.memory.unacknowledged.drain(..self.inherited);
            self.memory.unreleased.clear(); // [MQTT-3.2.2-5]
        }
        Inbound::Connack(Box::new(Accepted {
            session_present: connack.session_present,
            reason: connack.reason,
            session_expiry: connack.session_expiry_interval,
            assigned_client_id: connack.assigned_client_identifier.map(str::to_owned),
            server_keep_alive: connack.server_keep_alive,
        }))
    }

    /// Sends again what the Session has not had acknowledged. [MQTT-4.4.0-1]
    fn resend(&mut self, answer: &mut Vec<u8>) {
        for (id, sent) in &self.memory.unacknowledged[..self.inherited] {
            let packet = match sent {
                Sent::AwaitAck(message) => publish_packet(message, Some(*id), true),
                Sent::AwaitPubcomp => Packet::Pubrel(Ack::new(*id, ReasonCode::Success)),
            };
            codec::encode(&packet, self.manner.version, answer);
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, answer: &mut Vec<u8>) -> Received {
        let topic = self.topic_of(publish);
        assert!(!topic.contains(['+', '#']) && !topic.is_empty(), "[MQTT-3.3.2-2] Topic Name {topic:?}");
        assert!(!(publish.dup && publish.qos == QoS::AtMostOnce), "[MQTT-3.3.1-2]");
        let mut is_repeated = false;
        if let Some(id) = publish.packet_id {
            assert!(self.in_flight.insert(id), "[MQTT-2.2.1-4] Packet Identifier {id:?} is in use");
            let allowed = usize::from(self.manner.receive_maximum);
            assert!(self.in_flight.len() <= allowed, "[MQTT-3.3.4-9] more than Receive Maximum in flight");
            is_repeated = publish.qos == QoS::ExactlyOnce && !self.memory.unreleased.insert(id);
            assert!(!is_repeated || publish.dup, "[MQTT-3.3.1-1] {id:?} is sent again without DUP");
            self.acknowledge(id, publish.qos, answer);
        }
        let mut forwarded = Vec::new();
        publish.forwarded.write_to(&mut forwarded);
        Received {
            topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            expiry: publish.message_expiry_interval,
            subscription_ids: publish.subscription_identifiers.iter().collect(),
            forwarded,
            is_repeated,
        }
    }

    fn topic_of(&mut self, publish: &Publish<'_>) -> String {
        let Some(alias) = publish.topic_alias else { return publish.topic.to_owned() };
        assert!(alias.get() <= self.manner.topic_alias_maximum, "[MQTT-3.1.2-26] Topic Alias {alias}");
        if !publish.topic.is_empty() {
            self.aliases.insert(alias.get(), publish.topic.to_owned());
        }
        self.aliases.get(&alias.get()).expect("a Topic Alias is defined before it is used").clone()
    }

    fn acknowledge(&mut self, id: PacketId, qos: QoS, answer: &mut Vec<u8>) {
        let ack = Ack::new(id, ReasonCode::Success);
        let packet = if qos == QoS::ExactlyOnce { Packet::Pubrec(ack) } else { Packet::Puback(ack) };
        if qos == QoS::AtLeastOnce && self.manner.acknowledges {
            self.in_flight.remove(&id);
        }
        self.answer(&packet, answer);
    }

    fn answer(&mut self, packet: &Packet<'_>, answer: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        codec::encode(packet, self.manner.version, &mut bytes);
        if self.manner.acknowledges {
            answer.extend_from_slice(&bytes);
        } else {
            self.withheld.push(bytes);
        }
    }

    /// Sends the acknowledgements that were withheld, and whatever is due from now on.
    pub(crate) fn acknowledge_all(&mut self, answer: &mut Vec<u8>) {
        self.manner.acknowledges = true;
        for bytes in std::mem::take(&mut self.withheld) {
            answer.extend_from_slice(&bytes);
            match codec::decode(&bytes, self.manner.version).expect("encoded by this client") {
                Packet::Puback(ack) | Packet::Pubcomp(ack) => self.in_flight.remove(&ack.packet_id),
                _ => false,
            };
        }
    }

    fn on_puback(&mut self, ack: &Ack<'_>) -> Inbound {
        let at = self.awaiting(ack.packet_id, QoS::AtLeastOnce);
        self.memory.unacknowledged.remove(at.expect("[MQTT-4.3.2-4] PUBACK answers a QoS 1 PUBLISH"));
        Inbound::Puback(ack.packet_id, ack.reason)
    }

    fn on_pubrec(&mut self, ack: &Ack<'_>, answer: &mut Vec<u8>) -> Inbound {
        let at = self.awaiting(ack.packet_id, QoS::ExactlyOnce);
        let at = at.expect("[MQTT-4.3.3-8] PUBREC answers a QoS 2 PUBLISH");
        if ack.reason.is_error() {
            self.memory.unacknowledged.remove(at);
        } else {
            self.memory.unacknowledged[at].1 = Sent::AwaitPubcomp;
            let pubrel = Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success));
            codec::encode(&pubrel, self.manner.version, answer);
        }
        Inbound::Pubrec(ack.packet_id, ack.reason)
    }

    fn awaiting(&self, id: PacketId, qos: QoS) -> Option<usize> {
        self.memory
            .unacknowledged
            .iter()
            .position(|(sent, how)| *sent == id && matches!(how, Sent::AwaitAck(message) if message.qos == qos))
    }

    fn on_pubrel(&mut self, ack: &Ack<'_>, answer: &mut Vec<u8>) -> Inbound {
        self.memory.unreleased.remove(&ack.packet_id);
        if self.manner.acknowledges {
            self.in_flight.remove(&ack.packet_id);
        }
        self.answer(&Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::Success)), answer);
        Inbound::Pubrel(ack.packet_id)
    }

    fn on_pubcomp(&mut self, ack: &Ack<'_>) -> Inbound {
        let is_it = |(id, sent): &(PacketId, Sent)| *id == ack.packet_id && matches!(sent, Sent::AwaitPubcomp);
        let at = self.memory.unacknowledged.iter().position(is_it);
        self.memory.unacknowledged.remove(at.expect("[MQTT-4.3.3-11] PUBCOMP answers a PUBREL"));
        Inbound::Pubcomp(ack.packet_id)
    }

    fn check_reasons(&mut self, id: PacketId, count: usize) {
        let asked = self.subscribing.remove(&id);
        assert_eq!(asked, Some(count), "[MQTT-3.8.4-6] one Reason Code for each Topic Filter of {id:?}");
    }

    /// Every PUBLISH so far.
    pub(crate) fn received(&self) -> impl Iterator<Item = &Received> {
        self.inbox.iter().filter_map(|inbound| match inbound {
            Inbound::Publish(received) => Some(received),
            _ => None,
        })
    }

    pub(crate) fn connack(&self) -> Option<&Accepted> {
        match self.inbox.first() {
            Some(Inbound::Connack(accepted)) => Some(accepted),
            _ => None,
        }
    }
}

fn publish_packet(message: &Message, packet_id: Option<PacketId>, dup: bool) -> Packet<'_> {
    Packet::Publish(Publish {
        dup,
        qos: message.qos,
        retain: message.retain,
        topic: &message.topic,
        packet_id,
        topic_alias: None,
        message_expiry_interval: message.expiry,
        subscription_identifiers: SubscriptionIdentifiers::default(),
        forwarded: message.forwarded(),
        payload: &message.payload,
    })
}
