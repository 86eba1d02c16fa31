//! How tests are told: connect, publish, cut, let time pass, and look at what arrived.
//!
//! Every call lets the broker come to rest, unless its name says that something is only `posted`.

use crate::wire::client::{Accepted, Inbound, Manner};
use crate::wire::message::{Message, Received, Will, qos};
use crate::wire::network::{Link, Simulation};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use willowmq::codec::{
    self, Connect, Disconnect, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscriptionFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters, UserProperties,
};
use willowmq::config::Config;
use willowmq::shard::Closed;

/// How many orders of events each story is told in, for each number of shards.
const ORDERS: u64 = 4;

/// Tells a story on one, two and five shards, in several orders of events.
pub(crate) fn story(tell: impl Fn(&mut Simulation)) {
    story_with(&Config::default(), tell);
}

/// Tells a story to a broker with a configuration of its own.
pub(crate) fn story_with(config: &Config, tell: impl Fn(&mut Simulation)) {
    for shards in [1, 2, 5] {
        for seed in 0..ORDERS {
            let mut sim = Simulation::new(seed, shards, config.clone());
            let told = catch_unwind(AssertUnwindSafe(|| {
                tell(&mut sim);
                sim.settle();
            }));
            if let Err(failure) = told {
                eprintln!("{}", sim.epitaph());
                resume_unwind(failure);
            }
        }
    }
}

/// What a client asks for in its CONNECT.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    client_id: String,
    keep_alive: u16,
    session_expiry: u32,
    maximum_packet_size: Option<u32>,
    will: Option<Will>,
    manner: Manner,
}

/// A CONNECT that is being put together: a 5.0 client with Clean Start 0 whose Session ends with its connection.
pub(crate) struct Connecting<'s> {
    sim: &'s mut Simulation,
    ask: Ask,
}

impl<'s> Connecting<'s> {
    pub(crate) fn version(mut self, version: ProtocolVersion) -> Self {
        self.ask.manner.version = version;
        self
    }

    pub(crate) fn clean_start(mut self, clean_start: bool) -> Self {
        self.ask.manner.clean_start = clean_start;
        self
    }

    pub(crate) fn session_expiry(mut self, expiry: Duration) -> Self {
        self.ask.session_expiry = u32::try_from(expiry.as_secs()).expect("an interval fits into four bytes");
        self
    }

    pub(crate) fn session_never_expires(mut self) -> Self {
        self.ask.session_expiry = u32::MAX;
        self
    }

    pub(crate) fn keep_alive(mut self, keep_alive: Duration) -> Self {
        self.ask.keep_alive = u16::try_from(keep_alive.as_secs()).expect("Keep Alive fits into two bytes");
        self
    }

    pub(crate) fn receive_maximum(mut self, count: u16) -> Self {
        self.ask.manner.receive_maximum = count;
        self
    }

    pub(crate) fn maximum_packet_size(mut self, bytes: u32) -> Self {
        self.ask.maximum_packet_size = Some(bytes);
        self.ask.manner.packet_bytes_max = bytes as usize;
        self
    }

    pub(crate) fn topic_alias_maximum(mut self, count: u16) -> Self {
        self.ask.manner.topic_alias_maximum = count;
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.ask.will = Some(will);
        self
    }

    /// The client receives and does not acknowledge.
    pub(crate) fn withholding_acknowledgements(mut self) -> Self {
        self.ask.manner.acknowledges = false;
        self
    }

    /// Sends the CONNECT and waits for nothing.
    pub(crate) fn posted(mut self) -> Link {
        if !self.ask.manner.version.has_properties() {
            self.ask.manner.receive_maximum = u16::MAX; // 3.x cannot say it.
        }
        self.ask.manner.keeps_session = match self.ask.manner.version {
            ProtocolVersion::V5 => self.ask.session_expiry > 0,
            _ => !self.ask.manner.clean_start,
        };
        let link = self.sim.open_link(&self.ask.client_id, self.ask.manner.clone());
        let bytes = connect_bytes(&self.ask);
        self.sim.write(link, &bytes);
        link
    }

    /// The server accepts.
    pub(crate) fn accepted(self) -> Link {
        let (sim, link) = self.answered();
        let accepted = sim.connack(link);
        assert_eq!(accepted.reason, ReasonCode::Success);
        link
    }

    /// The server accepts and goes on with an existing Session.
    pub(crate) fn resumed(self) -> Link {
        let (sim, link) = self.answered();
        assert_eq!((sim.connack(link).reason, sim.connack(link).session_present), (ReasonCode::Success, true));
        link
    }

    /// The server accepts and has no Session to go on with.
    pub(crate) fn started_anew(self) -> Link {
        let (sim, link) = self.answered();
        assert_eq!((sim.connack(link).reason, sim.connack(link).session_present), (ReasonCode::Success, false));
        link
    }

    /// The server refuses and closes; the Reason Code of its CONNACK.
    pub(crate) fn refused(self) -> ReasonCode {
        let (sim, link) = self.answered();
        assert!(sim.is_gone(link), "a refused connection is closed");
        let reason = sim.connack(link).reason;
        assert!(reason.is_error(), "it was accepted");
        reason
    }

    fn answered(self) -> (&'s mut Simulation, Link) {
        let Self { sim, ask } = self;
        let link = Connecting { sim: &mut *sim, ask }.posted();
        sim.settle();
        (sim, link)
    }
}

fn connect_bytes(ask: &Ask) -> Vec<u8> {
    let will = ask.will.as_ref().map(|will| codec::Will {
        topic: &will.message.topic,
        payload: &will.message.payload,
        qos: will.message.qos,
        retain: will.message.retain,
        will_delay_interval: will.delay,
        message_expiry_interval: will.message.expiry,
        forwarded: will.message.forwarded(),
    });
    let connect = Connect {
        clean_start: ask.manner.clean_start,
        keep_alive: ask.keep_alive,
        session_expiry_interval: ask.session_expiry,
        receive_maximum: ask.manner.receive_maximum,
        maximum_packet_size: ask.maximum_packet_size,
        topic_alias_maximum: ask.manner.topic_alias_maximum,
        will,
        ..Connect::new(ask.manner.version, &ask.client_id)
    };
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    bytes
}

impl Simulation {
    /// Begins a CONNECT.
    pub(crate) fn connect(&mut self, client_id: &str) -> Connecting<'_> {
        let manner = Manner {
            version: ProtocolVersion::V5,
            clean_start: false,
            receive_maximum: u16::MAX,
            packet_bytes_max: codec::PACKET_BYTES_MAX,
            topic_alias_maximum: 0,
            acknowledges: true,
            keeps_session: true,
        };
        let client_id = client_id.to_owned();
        let ask = Ask { client_id, keep_alive: 0, session_expiry: 0, maximum_packet_size: None, will: None, manner };
        Connecting { sim: self, ask }
    }

    /// A connection whose first bytes are these.
    pub(crate) fn connect_with_bytes(&mut self, version: ProtocolVersion, bytes: &[u8]) -> Link {
        let manner = Manner { version, ..self.connect("").ask.manner };
        let link = self.open_link("", manner);
        self.write(link, bytes);
        self.settle();
        link
    }

    /// A 5.0 client with one subscription of QoS 2.
    pub(crate) fn subscriber(&mut self, client_id: &str, filter: &str) -> Link {
        let link = self.connect(client_id).accepted();
        self.subscribe(link, filter, 2);
        link
    }

    /// Sends a packet and waits for nothing.
    pub(crate) fn post(&mut self, link: Link, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        self.client_mut(link).encode(packet, &mut bytes);
        self.write(link, &bytes);
    }

    pub(crate) fn send(&mut self, link: Link, packet: &Packet<'_>) {
        self.post(link, packet);
        self.settle();
    }

    pub(crate) fn send_bytes(&mut self, link: Link, bytes: &[u8]) {
        self.write(link, bytes);
        self.settle();
    }

    pub(crate) fn post_publish(&mut self, link: Link, message: &Message) -> Option<PacketId> {
        let mut bytes = Vec::new();
        let packet_id = self.client_mut(link).publish(message, &mut bytes);
        self.write(link, &bytes);
        packet_id
    }

    /// Publishes; the Reason Code of the acknowledgement, where there is one.
    pub(crate) fn publish(&mut self, link: Link, message: &Message) -> Option<ReasonCode> {
        let known = self.client(link).inbox.len();
        self.post_publish(link, message);
        self.settle();
        self.client(link).inbox[known..].iter().find_map(|inbound| match inbound {
            Inbound::Puback(_, reason) | Inbound::Pubrec(_, reason) => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn post_subscribe(&mut self, link: Link, filter: &str, options: SubscriptionOptions) -> PacketId {
        self.post_subscribe_as(link, filter, options, None)
    }

    pub(crate) fn post_subscribe_as(
        &mut self,
        link: Link,
        filter: &str,
        options: SubscriptionOptions,
        subscription_identifier: Option<u32>,
    ) -> PacketId {
        let packet_id = self.client_mut(link).next_packet_id();
        let filters = [(filter, options)];
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier,
            filters: SubscriptionFilters::from_slice(&filters),
            user_properties: UserProperties::default(),
        };
        self.post(link, &Packet::Subscribe(subscribe));
        packet_id
    }

    /// Subscribes with the options that 3.x implies; the Reason Code.
    pub(crate) fn subscribe(&mut self, link: Link, filter: &str, level: u8) -> ReasonCode {
        self.subscribe_with(link, filter, SubscriptionOptions::new(qos(level)))
    }

    pub(crate) fn subscribe_with(&mut self, link: Link, filter: &str, options: SubscriptionOptions) -> ReasonCode {
        self.post_subscribe(link, filter, options);
        self.settle();
        self.suback(link)
    }

    /// The first Reason Code of the newest SUBACK or UNSUBACK.
    pub(crate) fn suback(&self, link: Link) -> ReasonCode {
        let newest = self.client(link).inbox.iter().rev().find_map(|inbound| match inbound {
            Inbound::Suback(_, reasons) | Inbound::Unsuback(_, reasons) => reasons.first(),
            _ => None,
        });
        *newest.expect("a subscription is answered")
    }

    pub(crate) fn post_unsubscribe(&mut self, link: Link, filter: &str) -> PacketId {
        let packet_id = self.client_mut(link).next_packet_id();
        let filters = UnsubscribeFilters::from_slice(std::slice::from_ref(&filter));
        let unsubscribe = Unsubscribe { packet_id, filters, user_properties: UserProperties::default() };
        self.post(link, &Packet::Unsubscribe(unsubscribe));
        packet_id
    }

    pub(crate) fn unsubscribe(&mut self, link: Link, filter: &str) {
        self.post_unsubscribe(link, filter);
        self.settle();
    }

    pub(crate) fn ping(&mut self, link: Link) {
        self.send(link, &Packet::Pingreq);
    }

    /// Sends DISCONNECT and closes.
    pub(crate) fn disconnect(&mut self, link: Link, reason: ReasonCode) {
        self.disconnect_with(link, reason, None);
    }

    pub(crate) fn disconnect_with(&mut self, link: Link, reason: ReasonCode, session_expiry_interval: Option<u32>) {
        self.post_disconnect(link, reason, session_expiry_interval);
        self.settle();
    }

    pub(crate) fn post_disconnect(&mut self, link: Link, reason: ReasonCode, session_expiry_interval: Option<u32>) {
        let disconnect = Disconnect { session_expiry_interval, ..Disconnect::new(reason) };
        self.post(link, &Packet::Disconnect(disconnect));
    }

    /// The client's end of the connection closes, without DISCONNECT.
    pub(crate) fn cut(&mut self, link: Link) {
        self.end_link(link, Closed::Fin);
        self.settle();
    }

    /// The connection is reset.
    pub(crate) fn reset(&mut self, link: Link) {
        self.end_link(link, Closed::Reset);
        self.settle();
    }

    pub(crate) fn stop_reading(&mut self, link: Link) {
        self.set_reading(link, false);
    }

    pub(crate) fn read_again(&mut self, link: Link) {
        self.set_reading(link, true);
        self.settle();
    }

    /// Sends what a client has withheld, and ends its withholding.
    pub(crate) fn acknowledge_all(&mut self, link: Link) {
        self.post_acknowledgements(link);
        self.settle();
    }

    pub(crate) fn post_acknowledgements(&mut self, link: Link) {
        let mut bytes = Vec::new();
        self.client_mut(link).acknowledge_all(&mut bytes);
        self.write(link, &bytes);
    }

    pub(crate) fn connack(&self, link: Link) -> &Accepted {
        self.client(link).connack().expect("a CONNECT is answered with CONNACK")
    }

    /// Every PUBLISH that a client got on this connection.
    pub(crate) fn received(&self, link: Link) -> Vec<Received> {
        self.client(link).received().cloned().collect()
    }

    /// The payloads of every PUBLISH that a client got on this connection.
    pub(crate) fn texts(&self, link: Link) -> Vec<String> {
        self.client(link).received().map(Received::text).collect()
    }

    /// The one PUBLISH that a client got on this connection.
    pub(crate) fn only_received(&self, link: Link) -> Received {
        let [received] = &self.received(link)[..] else { panic!("not one message: {:?}", self.texts(link)) };
        received.clone()
    }

    /// The payloads that a client used: a QoS 2 message that was repeated counts once.
    pub(crate) fn used_texts(&self, link: Link) -> Vec<String> {
        self.client(link).received().filter(|received| !received.is_repeated).map(Received::text).collect()
    }

    /// The Reason Code of the server's DISCONNECT.
    pub(crate) fn farewell(&self, link: Link) -> Option<ReasonCode> {
        match self.client(link).inbox.last() {
            Some(Inbound::Disconnect(reason)) => Some(*reason),
            _ => None,
        }
    }

    /// The retained messages that match, as a new client sees them, by topic.
    pub(crate) fn retained(&mut self, filter: &str) -> Vec<(String, String)> {
        let link = self.connect("").clean_start(true).accepted();
        self.subscribe(link, filter, 2);
        let received = self.received(link);
        assert!(received.iter().all(|received| received.retain), "[MQTT-3.3.1-8]");
        self.disconnect(link, ReasonCode::Success);
        let mut found: Vec<_> = received.into_iter().map(|found| (found.topic.clone(), found.text())).collect();
        found.sort();
        found
    }

    /// Wills published so far, by all shards.
    pub(crate) fn wills_published(&self) -> u64 {
        self.shards().iter().map(|shard| shard.stats().wills.published_total()).sum()
    }
}

/// Options of a subscription other than those that 3.x implies.
pub(crate) fn options(level: u8) -> SubscriptionOptions {
    SubscriptionOptions::new(qos(level))
}

pub(crate) const SEND_IF_NEW: RetainHandling = RetainHandling::SendIfNew;
pub(crate) const DO_NOT_SEND: RetainHandling = RetainHandling::DoNotSend;

/// All QoS levels.
pub(crate) const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
