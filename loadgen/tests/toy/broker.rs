//! A broker as simple as can be, in memory: packets in, packets out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use willowmq::codec::{
    Ack, Connack, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Reasons, Suback,
    Subscribe, Will, encode,
};
use willowmq::topic::{Subscribed, TopicName};

use crate::faults::{Faults, Limits};

/// Which connection.
pub(crate) type ConnectionId = u64;

/// An Application Message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

struct OwnedWill {
    message: Message,
    delay: Duration,
}

/// Someone who is connected.
pub(crate) struct Client {
    id: String,
    pub(crate) version: ProtocolVersion,
    keep_alive: Duration,
    last_heard: Instant,
    last_packet_id: u16,
    received: HashSet<PacketId>,
    /// A delivery that waits for the next, which it is to be swapped with.
    pub(crate) held: Vec<u8>,
    will: Option<OwnedWill>,
    expiry: Duration,
}

/// What outlives a connection.
#[derive(Default)]
struct Session {
    connection: Option<ConnectionId>,
    subscriptions: Vec<(Subscribed, QoS)>,
    /// Messages that came while the client was away.
    queue: VecDeque<(Message, QoS)>,
    pending_will: Option<(Instant, Message)>,
}

/// The broker.
#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) faults: Faults,
    pub(crate) clients: BTreeMap<ConnectionId, Client>,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Message>,
    /// How many messages each shared subscription has had, by its Topic Filter.
    turns: HashMap<String, usize>,
    /// What is to be sent.
    pub(crate) out: BTreeMap<ConnectionId, Vec<u8>>,
    /// Connections that are to be closed, and whether by a reset.
    pub(crate) closes: Vec<(ConnectionId, bool)>,
    /// Nothing is read any more.
    pub(crate) is_stalled: bool,
    /// It ends, and its connections with it.
    pub(crate) is_dead: bool,
}

impl Broker {
    /// A broker with these faults.
    pub(crate) fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// The version that `connection` speaks.
    pub(crate) fn version(&self, connection: ConnectionId) -> ProtocolVersion {
        self.clients.get(&connection).map_or(ProtocolVersion::V5, |client| client.version)
    }

    /// Whether `connection` has been accepted.
    pub(crate) fn knows(&self, connection: ConnectionId) -> bool {
        self.clients.contains_key(&connection)
    }

    /// Does what a packet asks for.
    pub(crate) fn on_packet(&mut self, connection: ConnectionId, packet: &Packet<'_>, now: Instant) {
        if self.faults.stall.strikes() {
            self.is_stalled = true;
        }
        self.is_dead |= self.faults.die.strikes();
        if let Some(client) = self.clients.get_mut(&connection) {
            client.last_heard = now;
        }
        match packet {
            Packet::Connect(connect) => self.on_connect(connection, connect, now),
            Packet::Publish(publish) => self.on_publish(connection, publish),
            Packet::Pubrec(ack) => self.send(connection, &Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success))),
            Packet::Pubrel(ack) => self.on_pubrel(connection, ack.packet_id),
            Packet::Subscribe(subscribe) => self.on_subscribe(connection, subscribe),
            Packet::Pingreq => self.send(connection, &Packet::Pingresp),
            Packet::Disconnect(_) => self.on_disconnect(connection),
            _ => {}
        }
        if self.faults.close_connection.strikes() {
            self.closes.push((connection, false));
        }
        if self.faults.reset_connection.strikes() {
            self.closes.push((connection, true));
        }
    }

    /// Appends `packet` to what `connection` is sent.
    pub(crate) fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) {
        encode(packet, self.version(connection), self.out.entry(connection).or_default());
    }

    fn on_connect(&mut self, connection: ConnectionId, connect: &Connect<'_>, now: Instant) {
        let version = connect.version;
        let is_stranger = self.faults.has_passwords && connect.username != Some("good");
        if self.faults.refuse_connect.strikes() || is_stranger {
            let connack = Connack::new(false, ReasonCode::NotAuthorized);
            encode(&Packet::Connack(Box::new(connack)), version, self.out.entry(connection).or_default());
            self.closes.push((connection, false));
            return;
        }
        self.take_over(connect.client_id, now);
        let session_present = self.resume(connection, connect);
        self.clients.insert(connection, Client::new(connect, now));
        self.accept(connection, session_present);
        self.deliver_queue(connection, connect.client_id);
        self.publish_wills_of_connected(connect);
    }

    fn accept(&mut self, connection: ConnectionId, session_present: bool) {
        let mut connack = Connack::new(session_present, ReasonCode::Success);
        match self.faults.low_limits {
            Some(Limits::PacketBytes(bytes)) => connack.maximum_packet_size = Some(bytes),
            Some(Limits::QoS0) => connack.maximum_qos = Some(QoS::AtMostOnce),
            Some(Limits::NoRetain) => connack.retain_available = Some(false),
            None => {}
        }
        let connack = Packet::Connack(Box::new(connack));
        if self.faults.connack_twice.strikes() {
            self.send(connection, &connack);
        }
        if !self.faults.no_connack.strikes() {
            self.send(connection, &connack);
        }
    }

    fn publish_wills_of_connected(&mut self, connect: &Connect<'_>) {
        let Some(will) = &connect.will else { return };
        if self.faults.will_of_connected.strikes() {
            self.publish(&Message::of_will(will));
        }
        if self.faults.retain_will_of_connected.strikes() {
            self.retained.insert(will.topic.into(), Message::of_will(will));
        }
    }

    /// Closes an older connection of the same client. [MQTT-3.1.4-3]
    fn take_over(&mut self, client_id: &str, now: Instant) {
        let Some(older) = self.sessions.get(client_id).and_then(|session| session.connection) else { return };
        if self.version(older).has_reason_codes() {
            self.send(older, &Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)));
        }
        self.on_closed(older, now);
        self.closes.push((older, false));
    }

    /// Finds or makes the session; says whether there was one.
    fn resume(&mut self, connection: ConnectionId, connect: &Connect<'_>) -> bool {
        let pending = self.sessions.get_mut(connect.client_id).and_then(|session| session.pending_will.take());
        if let Some((due, message)) = pending {
            if self.faults.will_of_returned.strikes() {
                let ghost = Session { pending_will: Some((due, message)), ..Session::default() };
                self.sessions.insert(format!("ghost of {}", connect.client_id), ghost);
            } else if connect.clean_start {
                self.publish_will(&message); // The session ends, and its will is due. [MQTT-3.1.3-9]
            }
        }
        let is_found = self.sessions.contains_key(connect.client_id);
        if connect.clean_start || is_found && self.faults.forget_session.strikes() {
            self.sessions.remove(connect.client_id);
        }
        let session_present = self.sessions.contains_key(connect.client_id);
        self.sessions.entry(connect.client_id.into()).or_default().connection = Some(connection);
        session_present
    }

    fn on_disconnect(&mut self, connection: ConnectionId) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        let will = client.will.take(); // [MQTT-3.1.2-10]
        if let Some(will) = will
            && self.faults.will_after_disconnect.strikes()
        {
            self.publish_will(&will.message);
        }
        self.closes.push((connection, false));
    }

    /// Ends a connection: its will is due, now or later.
    pub(crate) fn on_closed(&mut self, connection: ConnectionId, now: Instant) {
        let Some(client) = self.clients.remove(&connection) else { return };
        let Some(session) = self.sessions.get_mut(&client.id) else { return };
        session.connection = None;
        let delay = client.will.as_ref().map_or(Duration::ZERO, |will| will.delay.min(client.expiry));
        if let Some(will) = client.will {
            if delay.is_zero() || self.faults.early_will.strikes() {
                self.publish_will(&will.message);
            } else {
                session.pending_will = Some((now + delay, will.message));
            }
        }
        if client.expiry.is_zero() {
            self.sessions.remove(&client.id);
        }
    }

    /// Publishes the wills that are due, and closes the connections whose Keep Alive is over.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let is_due = |session: &mut Session| session.pending_will.take_if(|(due, _)| *due <= now);
        let due: Vec<_> = self.sessions.values_mut().filter_map(is_due).collect();
        due.iter().for_each(|(_, message)| self.publish_will(message));
        let is_silent = |client: &Client| {
            !client.keep_alive.is_zero() && now - client.last_heard > client.keep_alive * 3 / 2 // [MQTT-3.1.2-22]
        };
        let silent: Vec<_> = self.clients.iter().filter(|(_, client)| is_silent(client)).map(|(id, _)| *id).collect();
        for connection in silent {
            self.on_closed(connection, now);
            self.closes.push((connection, false));
        }
    }

    fn publish_will(&mut self, message: &Message) {
        if self.faults.drop_will.strikes() {
            return;
        }
        self.publish(message);
        if self.faults.repeat_will.strikes() {
            self.publish(message);
        }
    }

    fn on_publish(&mut self, connection: ConnectionId, publish: &Publish<'_>) {
        if let Some(id) = publish.packet_id {
            let reason =
                if self.faults.refuse_publish.strikes() { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
            self.acknowledge(connection, publish.qos, Ack::new(id, reason));
            let Some(client) = self.clients.get_mut(&connection) else { return };
            let is_again = publish.qos == QoS::ExactlyOnce && !client.received.insert(id); // [MQTT-4.3.3-10]
            if is_again || reason.is_error() {
                return;
            }
        }
        self.publish(&Message::of_publish(publish));
    }

    fn acknowledge(&mut self, connection: ConnectionId, qos: QoS, ack: Ack<'_>) {
        let packet = if qos == QoS::ExactlyOnce { Packet::Pubrec(ack) } else { Packet::Puback(ack) };
        if self.faults.ack_twice.strikes() {
            self.send(connection, &packet);
        }
        if !self.faults.no_ack.strikes() {
            self.send(connection, &packet);
        }
    }

    fn on_pubrel(&mut self, connection: ConnectionId, id: PacketId) {
        let Some(client) = self.clients.get_mut(&connection) else { return };
        client.received.remove(&id);
        self.send(connection, &Packet::Pubcomp(Ack::new(id, ReasonCode::Success)));
    }

    /// Gives `message` to everyone who subscribes to it.
    fn publish(&mut self, message: &Message) {
        if message.retain {
            self.retain(message);
        }
        for (connection, qos) in self.audience(&message.topic) {
            self.deliver(connection, message, qos.min(message.qos));
        }
        self.queue_for_absent(message);
        if self.faults.deliver_to_stranger.strikes()
            && let Some(last) = self.clients.keys().next_back().copied()
        {
            self.deliver(last, message, message.qos);
        }
    }

    fn retain(&mut self, message: &Message) {
        if message.payload.is_empty() {
            if !self.faults.forget_removal.strikes() {
                self.retained.remove(&message.topic); // [MQTT-3.3.1-6]
            }
        } else if !self.faults.forget_retained.strikes() {
            self.retained.insert(message.topic.clone(), message.clone());
        }
    }

    /// Keeps `message` for those who are away and subscribe to it. [MQTT-3.1.2-5]
    fn queue_for_absent(&mut self, message: &Message) {
        let Ok(topic) = TopicName::parse(&message.topic) else { return };
        for session in self.sessions.values_mut().filter(|session| session.connection.is_none()) {
            let is_match =
                |subscribed: &Subscribed| matches!(subscribed, Subscribed::Plain(filter) if filter.matches(topic));
            let granted =
                session.subscriptions.iter().filter(|(subscribed, _)| is_match(subscribed)).map(|(_, qos)| *qos);
            let qos = granted.max().unwrap_or(QoS::AtMostOnce).min(message.qos);
            if qos == QoS::AtMostOnce || self.faults.lose_queued.strikes() {
                continue;
            }
            let end = session.queue.len();
            let place = if self.faults.swap_queued.strikes() { end.saturating_sub(1) } else { end };
            session.queue.insert(place, (Message { retain: false, ..message.clone() }, qos));
        }
    }

    /// Takes what came while the client was away.
    pub(crate) fn take_queue(&mut self, client_id: &str) -> VecDeque<(Message, QoS)> {
        self.sessions.get_mut(client_id).map(|session| std::mem::take(&mut session.queue)).unwrap_or_default()
    }

    /// Who is to have a message on `topic`, and at which level at most.
    fn audience(&mut self, topic: &str) -> Vec<(ConnectionId, QoS)> {
        let Ok(topic) = TopicName::parse(topic) else { return Vec::new() };
        let mut plain = BTreeMap::new();
        let mut shared: BTreeMap<String, Vec<(ConnectionId, QoS)>> = BTreeMap::new();
        for session in self.sessions.values() {
            let Some(connection) = session.connection else { continue };
            for (subscribed, qos) in &session.subscriptions {
                match subscribed {
                    _ if !subscribed.filter().matches(topic) => {}
                    Subscribed::Plain(_) => _ = plain.insert(connection, *qos),
                    Subscribed::Shared { group, filter } => {
                        shared.entry(format!("{group}/{}", filter.as_str())).or_default().push((connection, *qos));
                    }
                }
            }
        }
        let mut audience: Vec<_> = plain.into_iter().collect();
        for (group, members) in shared {
            let turn = self.turns.entry(group).or_default();
            audience.push(members[*turn % members.len()]);
            *turn += 1;
        }
        audience
    }

    fn on_subscribe(&mut self, connection: ConnectionId, subscribe: &Subscribe<'_>) {
        let Some(client_id) = self.clients.get(&connection).map(|client| client.id.clone()) else { return };
        let is_refused = self.faults.refuse_subscribe.strikes();
        let mut reasons = Vec::new();
        let mut granted = Vec::new();
        for (filter, options) in subscribe.filters.iter() {
            match Subscribed::parse(filter) {
                Ok(subscribed) if !is_refused => {
                    reasons.push(ReasonCode::from_u8(options.qos.as_u8()).expect("0 to 2 grant a QoS"));
                    granted.push((subscribed, options.qos));
                }
                _ => reasons.push(ReasonCode::NotAuthorized),
            }
        }
        let suback = Suback {
            packet_id: subscribe.packet_id,
            reasons: Reasons::from_slice(&reasons),
            reason_string: None,
            user_properties: Default::default(),
        };
        if !self.faults.no_suback.strikes() {
            self.send(connection, &Packet::Suback(suback));
        }
        granted.iter().for_each(|(subscribed, qos)| self.send_retained(connection, subscribed, *qos));
        self.sessions.entry(client_id).or_default().subscriptions.extend(granted);
    }

    fn send_retained(&mut self, connection: ConnectionId, subscribed: &Subscribed, qos: QoS) {
        let Subscribed::Plain(filter) = subscribed else { return };
        let is_match = |topic: &str| TopicName::parse(topic).is_ok_and(|topic| filter.matches(topic));
        let found: Vec<_> = self.retained.values().filter(|message| is_match(&message.topic)).cloned().collect();
        found.iter().for_each(|message| self.deliver_retained(connection, message, qos.min(message.qos)));
    }
}

impl Client {
    fn new(connect: &Connect<'_>, now: Instant) -> Self {
        let owned = |will: &Will<'_>| OwnedWill {
            message: Message::of_will(will),
            delay: Duration::from_secs(will.will_delay_interval.into()),
        };
        // 3.x has no expiry: a Session without Clean Session stays. [v3.1.1 MQTT-3.1.2-5]
        let expiry = match connect.clean_start || connect.version.has_properties() {
            true => Duration::from_secs(connect.session_expiry_interval.into()),
            false => Duration::MAX,
        };
        Self {
            id: connect.client_id.into(),
            version: connect.version,
            keep_alive: Duration::from_secs(connect.keep_alive.into()),
            last_heard: now,
            last_packet_id: 0,
            received: HashSet::new(),
            held: Vec::new(),
            will: connect.will.as_ref().map(owned),
            expiry,
        }
    }

    /// A Packet Identifier for the next delivery; the toy has too few under way for one to meet itself.
    pub(crate) fn next_packet_id(&mut self) -> PacketId {
        self.last_packet_id = self.last_packet_id.checked_add(1).unwrap_or(1);
        PacketId::new(self.last_packet_id).expect("it skips 0")
    }
}

impl Message {
    fn of_will(will: &Will<'_>) -> Self {
        Self { topic: will.topic.into(), payload: will.payload.into(), qos: will.qos, retain: will.retain }
    }

    fn of_publish(publish: &Publish<'_>) -> Self {
        let (topic, payload) = (publish.topic.into(), publish.payload.into());
        Self { topic, payload, qos: publish.qos, retain: publish.retain }
    }
}
