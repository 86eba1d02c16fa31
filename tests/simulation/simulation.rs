//! The simulated owner of a set of shards.

use crate::client::{Client, ClientHandle, Received, Told, Will};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{
    self, Ack, Connect, Disconnect, Forwarded, ForwardedBuilder, Packet, PacketId, ProtocolVersion, Publish, QoS,
    ReasonCode, RetainHandling, Subscribe, SubscriptionFilters, SubscriptionIdentifiers, SubscriptionOptions,
    Unsubscribe, UnsubscribeFilters, UserProperties,
};
use willowmq::config::Config;
use willowmq::security::Identity;
use willowmq::shard::{
    self, Arrival, Closed, ConnectionId, Enhanced, Event, PeerMessage, Pressure, Reading, Shard, ShardId, Stats,
};
use willowmq::timer::Moment;

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Shards, the channels between them, and the clients.
pub(crate) struct Simulation {
    pub(crate) shards: Vec<Shard>,
    pub(crate) now: Moment,
    pub(crate) random: Random,
    pub(crate) clients: Vec<Client>,
    /// What the shards had for the log.
    pub(crate) events: Vec<Event>,
    /// How many messages a channel between two shards holds.
    pub(crate) channel_max: usize,
    channels: Vec<VecDeque<PeerMessage>>,
    owners: Vec<Vec<Option<ClientHandle>>>,
    generation: u32,
    hasher: ahash::RandomState,
}

impl Simulation {
    pub(crate) fn new(seed: u64, shards: usize) -> Self {
        Self::with_config(seed, shards, Config::default())
    }

    pub(crate) fn with_config(seed: u64, shards: usize, config: Config) -> Self {
        let config = Arc::new(config);
        let new = |index| Shard::new(ShardId::new(index), shards, seed, Arc::clone(&config), Moment::ZERO);
        Self {
            shards: (0..shards).map(new).collect(),
            now: Moment::ZERO,
            random: Random::new(seed),
            clients: Vec::new(),
            events: Vec::new(),
            channel_max: usize::MAX,
            channels: (0..shards * shards).map(|_| VecDeque::new()).collect(),
            owners: vec![Vec::new(); shards],
            generation: 0,
            hasher: shard::home_hasher(seed),
        }
    }

    // What stories say.

    /// Starts the CONNECT of a client; the same name is the same client.
    pub(crate) fn connect(&mut self, name: &str) -> Connecting<'_> {
        Connecting {
            simulation: self,
            name: name.into(),
            version: ProtocolVersion::V5,
            clean_start: true,
            session_expiry: 0,
            keep_alive: 0,
            receive_maximum: u16::MAX,
            packet_bytes_max: None,
            alias_maximum: 0,
            will: None,
            arrival: Arrival::default(),
        }
    }

    /// A connected client that has subscribed with QoS 1.
    pub(crate) fn subscriber(&mut self, name: &str, filter: &str) -> ClientHandle {
        let client = self.connect(name).accepted();
        self.subscribe(client, filter, QoS::AtLeastOnce);
        client
    }

    pub(crate) fn subscribe(&mut self, client: ClientHandle, filter: &str, qos: QoS) {
        self.subscribe_with(client, filter, SubscriptionOptions::new(qos), None);
    }

    pub(crate) fn subscribe_with(
        &mut self,
        client: ClientHandle,
        filter: &str,
        options: SubscriptionOptions,
        subscription_identifier: Option<u32>,
    ) {
        let packet_id = self.clients[client.0].next_id();
        let filters = [(filter, options)];
        let filters = SubscriptionFilters::from_slice(&filters);
        let user_properties = UserProperties::default();
        self.send(
            client,
            &Packet::Subscribe(Subscribe { packet_id, subscription_identifier, filters, user_properties }),
        );
        self.settle();
        let reason = self.clients[client.0].suback.pop();
        assert!(reason.is_some_and(|reason| !reason.is_error()), "SUBACK of {filter}: {reason:?}");
    }

    pub(crate) fn unsubscribe(&mut self, client: ClientHandle, filter: &str) {
        let packet_id = self.clients[client.0].next_id();
        let filters = [filter];
        let filters = UnsubscribeFilters::from_slice(&filters);
        self.send(
            client,
            &Packet::Unsubscribe(Unsubscribe { packet_id, filters, user_properties: UserProperties::default() }),
        );
        self.settle();
    }

    pub(crate) fn publish(&mut self, client: ClientHandle, topic: &str, payload: &str, qos: QoS, retain: bool) {
        self.publish_only(client, topic, payload, qos, retain, None);
        self.settle();
    }

    /// Publishes, and lets nothing happen yet.
    pub(crate) fn publish_only(
        &mut self,
        client: ClientHandle,
        topic: &str,
        payload: &str,
        qos: QoS,
        retain: bool,
        message_expiry_interval: Option<u32>,
    ) -> Option<PacketId> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.clients[client.0].next_id());
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval,
            subscription_identifiers: SubscriptionIdentifiers::default(),
            forwarded: Forwarded::default(),
            payload: payload.as_bytes(),
        };
        self.send(client, &Packet::Publish(publish));
        packet_id
    }

    /// Sends a packet, its bytes cut anywhere.
    pub(crate) fn send(&mut self, client: ClientHandle, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(packet, self.clients[client.0].version, &mut bytes);
        self.send_bytes(client, &bytes);
    }

    pub(crate) fn send_bytes(&mut self, client: ClientHandle, mut bytes: &[u8]) {
        let Client { home, connection, .. } = self.clients[client.0];
        let Some(id) = connection else { return };
        while !bytes.is_empty() {
            let cut = if self.random.one_in(2) { bytes.len() } else { 1 + self.random.below(bytes.len()) };
            self.shards[home.index()].receive(self.now, id, &bytes[..cut]);
            bytes = &bytes[cut..];
        }
    }

    pub(crate) fn disconnect(&mut self, client: ClientHandle, reason: ReasonCode) {
        self.send(client, &Packet::Disconnect(Disconnect::new(reason)));
        self.settle();
    }

    /// The Network Connection ends without a DISCONNECT.
    pub(crate) fn cut(&mut self, client: ClientHandle) {
        self.cut_only(client, Closed::Reset);
        self.settle();
    }

    /// The peer has ended, and `rest` bytes of it have not been read; its connection is paused.
    pub(crate) fn hang_up(&mut self, client: ClientHandle, rest: u64) {
        let home = self.clients[client.0].home;
        if let Some(id) = self.clients[client.0].connection {
            self.shards[home.index()].on_hangup(self.now, id, rest);
        }
        self.settle();
    }

    pub(crate) fn cut_only(&mut self, client: ClientHandle, how: Closed) {
        let home = self.clients[client.0].home;
        if let Some(id) = self.forget_connection(client) {
            self.shards[home.index()].on_closed(self.now, id, how);
        }
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.settle();
            let next = self.shards.iter().filter_map(Shard::next_deadline).min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }

    /// What a client has received since this was last asked.
    pub(crate) fn received(&mut self, client: ClientHandle) -> Vec<Received> {
        std::mem::take(&mut self.clients[client.0].received)
    }

    /// The payloads a client has received since this was last asked.
    pub(crate) fn payloads(&mut self, client: ClientHandle) -> Vec<String> {
        self.received(client).into_iter().map(|received| received.payload).collect()
    }

    pub(crate) fn is_connected(&self, client: ClientHandle) -> bool {
        self.clients[client.0].connection.is_some()
    }

    /// A counter, over all shards.
    pub(crate) fn count(&self, counter: impl Fn(&Stats) -> u64) -> u64 {
        self.shards.iter().map(|shard| counter(shard.stats())).sum()
    }

    /// Memory is so short from now on.
    pub(crate) fn set_pressure(&mut self, pressure: Pressure) {
        for shard in &mut self.shards {
            shard.set_pressure(self.now, pressure);
        }
        self.settle();
    }

    /// Other settings are in force from now on.
    pub(crate) fn set_config(&mut self, config: Config) {
        self.set_config_only(config);
        self.settle();
    }

    /// The same, while all goes on as before.
    pub(crate) fn set_config_only(&mut self, config: Config) {
        let config = Arc::new(config);
        self.shards.iter_mut().for_each(|shard| shard.set_config(Arc::clone(&config)));
    }

    // How it runs.

    /// Turns shards in any order until nothing is under way.
    pub(crate) fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let mut order: Vec<usize> = (0..self.shards.len()).collect();
            for at in (1..order.len()).rev() {
                order.swap(at, self.random.below(at + 1));
            }
            let mut is_active = false;
            for shard in order {
                is_active |= self.turn(shard);
            }
            for client in 0..self.clients.len() {
                is_active |= self.read_inbox(ClientHandle(client));
            }
            quiet = if is_active { 0 } else { quiet + 1 };
        }
    }

    /// One turn of one shard; whether anything happened.
    pub(crate) fn turn(&mut self, at: usize) -> bool {
        let mut is_active = false;
        let (now, count) = (self.now, self.shards.len());
        for from in 0..count {
            // Any number of what is under way arrives, in order; now and then nothing.
            let waiting = self.channels[from * count + at].len();
            let arriving = if waiting > 0 { self.random.below(waiting + 1) } else { 0 };
            is_active |= waiting > 0;
            for _ in 0..arriving {
                let message = self.channels[from * count + at].pop_front().expect("counted");
                self.shards[at].on_peer(now, ShardId::new(from), message);
            }
        }
        self.shards[at].advance(now, |_| false);
        self.shards[at].publish_due_wills(now, 3);
        is_active |= self.shards[at].has_due_wills();
        self.shards[at].end_turn(now);
        is_active |= self.shards[at].next_deadline().is_some_and(|deadline| deadline <= now);
        for to in 0..count {
            let room = self.channel_max - self.channels[at * count + to].len();
            is_active |= self.shards[at].has_messages(ShardId::new(to));
            let sent: Vec<_> = self.shards[at].messages(ShardId::new(to), room).collect();
            self.channels[at * count + to].extend(sent);
        }
        while let Some(id) = self.shards[at].next_close() {
            is_active = true;
            self.deliver_output(at, id);
            if let Some(client) = self.owner(at, id) {
                self.read_inbox(client);
                self.forget_connection(client);
            }
        }
        while let Some((_, Reading::Pause | Reading::Resume)) = self.shards[at].next_reading() {}
        while let Some(id) = self.shards[at].next_output() {
            is_active |= self.deliver_output(at, id);
        }
        self.events.extend(std::iter::from_fn(|| self.shards[at].next_event()));
        is_active
    }

    fn deliver_output(&mut self, at: usize, id: ConnectionId) -> bool {
        let Some(client) = self.owner(at, id) else { return false };
        if self.clients[client.0].is_stuck {
            return false;
        }
        let Some(output) = self.shards[at].take_output(id) else { return false };
        self.clients[client.0].inbox.extend_from_slice(&output);
        self.shards[at].on_sent(self.now, id, output);
        true
    }

    /// A client that was stuck takes what waits for it.
    pub(crate) fn unstick(&mut self, client: ClientHandle) {
        let Client { home, connection, .. } = self.clients[client.0];
        self.clients[client.0].is_stuck = false;
        if let Some(id) = connection {
            self.deliver_output(home.index(), id);
        }
        self.settle();
    }

    fn owner(&self, at: usize, id: ConnectionId) -> Option<ClientHandle> {
        let client = self.owners[at].get(id.index as usize).copied().flatten()?;
        (self.clients[client.0].connection == Some(id)).then_some(client)
    }

    fn forget_connection(&mut self, client: ClientHandle) -> Option<ConnectionId> {
        let home = self.clients[client.0].home.index();
        let id = self.clients[client.0].connection.take()?;
        self.clients[client.0].inbox.clear();
        self.owners[home][id.index as usize] = None;
        Some(id)
    }

    fn read_inbox(&mut self, client: ClientHandle) -> bool {
        let version = self.clients[client.0].version;
        let inbox = std::mem::take(&mut self.clients[client.0].inbox);
        let mut read = 0;
        let mut replies = Vec::new();
        while let Ok(Some(length)) = codec::packet_length(&inbox[read..], usize::MAX) {
            if read + length > inbox.len() {
                break;
            }
            let packet = codec::decode(&inbox[read..read + length], version).expect("a server sends valid packets");
            self.on_packet(client, &packet, &mut replies);
            read += length;
        }
        self.clients[client.0].inbox = inbox[read..].to_vec();
        self.send_bytes(client, &replies);
        read > 0
    }

    fn on_packet(&mut self, handle: ClientHandle, packet: &Packet<'_>, replies: &mut Vec<u8>) {
        let now = self.now;
        let client = &mut self.clients[handle.0];
        let reply = |packet: Packet<'_>, replies: &mut Vec<u8>| codec::encode(&packet, client.version, replies);
        match packet {
            Packet::Connack(connack) => {
                client.connack = Some((connack.session_present, connack.reason));
                client.told = Told::of(connack);
                client.server_reference = connack.server_reference.map(str::to_owned);
            }
            Packet::Auth(auth) => {
                let method = auth.authentication_method.unwrap_or_default().to_owned();
                client.auths.push((auth.reason, method, auth.authentication_data.unwrap_or_default().to_vec()));
            }
            Packet::Suback(suback) => client.suback.extend(suback.reasons.iter()),
            Packet::Publish(publish) => {
                let is_news = match (publish.qos, publish.packet_id) {
                    (QoS::ExactlyOnce, Some(id)) => {
                        let is_news = !client.unreleased.contains(&id);
                        if is_news {
                            client.unreleased.push(id);
                        }
                        is_news
                    }
                    _ => true,
                };
                if let Some(id) = publish.packet_id
                    && !client.withholds_acks
                {
                    let ack = Ack::new(id, ReasonCode::Success);
                    match publish.qos {
                        QoS::ExactlyOnce => reply(Packet::Pubrec(ack), replies),
                        _ => reply(Packet::Puback(ack), replies),
                    }
                }
                if is_news {
                    client.received.push(received(now, publish));
                }
            }
            Packet::Pubrel(ack) => {
                client.unreleased.retain(|id| *id != ack.packet_id);
                reply(Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::Success)), replies);
            }
            Packet::Pubrec(ack) => {
                client.acknowledged.push((ack.packet_id, ack.reason));
                if !ack.reason.is_error() {
                    reply(Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::Success)), replies);
                }
            }
            Packet::Puback(ack) => client.acknowledged.push((ack.packet_id, ack.reason)),
            Packet::Disconnect(disconnect) => {
                client.disconnected_with = Some(disconnect.reason);
                client.server_reference = disconnect.server_reference.map(str::to_owned);
            }
            _ => {}
        }
    }

    fn open(&mut self, name: &str, version: ProtocolVersion, bytes: &[u8], arrival: Arrival) -> ClientHandle {
        let home = shard::home_of(name, &self.hasher, self.shards.len());
        let known = self.clients.iter().position(|client| client.name == name);
        let handle = ClientHandle(known.unwrap_or(self.clients.len()));
        if known.is_none() {
            self.clients.push(Client::new(name, version, home));
        }
        // A client that connects while it is connected has given its older connection up, without closing it.
        if let Some(older) = self.clients[handle.0].connection.take() {
            self.owners[home.index()][older.index as usize] = None;
        }
        let slots = &mut self.owners[home.index()];
        let index = slots.len();
        slots.push(Some(handle));
        self.generation += 1;
        let id = ConnectionId { index: index as u32, generation: self.generation };
        let client = &mut self.clients[handle.0];
        (client.version, client.connection) = (version, Some(id));
        (client.connack, client.disconnected_with) = (None, None);
        client.inbox.clear();
        client.acknowledged.clear();
        let Ok(Packet::Connect(connect)) = codec::decode(bytes, version) else { panic!("the builder made a CONNECT") };
        self.shards[home.index()].open(self.now, id, &connect, arrival);
        handle
    }
}

fn received(now: Moment, publish: &Publish<'_>) -> Received {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Received {
        at: now,
        topic: publish.topic.into(),
        payload: String::from_utf8_lossy(publish.payload).into_owned(),
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        expiry: publish.message_expiry_interval,
        subscription_ids: publish.subscription_identifiers.iter().collect(),
        user_properties: publish.forwarded.user_properties().iter().map(owned).collect(),
    }
}

/// A CONNECT that is being put together.
pub(crate) struct Connecting<'a> {
    simulation: &'a mut Simulation,
    name: String,
    version: ProtocolVersion,
    clean_start: bool,
    session_expiry: u32,
    keep_alive: u16,
    receive_maximum: u16,
    packet_bytes_max: Option<u32>,
    alias_maximum: u16,
    will: Option<Will>,
    arrival: Arrival,
}

impl Connecting<'_> {
    pub(crate) fn version(mut self, version: ProtocolVersion) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn clean_start(mut self, clean_start: bool) -> Self {
        self.clean_start = clean_start;
        self
    }

    pub(crate) fn session_expiry(mut self, seconds: u32) -> Self {
        self.session_expiry = seconds;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub(crate) fn receive_maximum(mut self, messages: u16) -> Self {
        self.receive_maximum = messages;
        self
    }

    pub(crate) fn packet_bytes_max(mut self, bytes: u32) -> Self {
        self.packet_bytes_max = Some(bytes);
        self
    }

    pub(crate) fn alias_maximum(mut self, aliases: u16) -> Self {
        self.alias_maximum = aliases;
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// The client has proven this User Name.
    pub(crate) fn user(self, name: &str) -> Self {
        self.identity(Identity::of_user(name))
    }

    /// This is known of the client.
    pub(crate) fn identity(mut self, identity: Identity) -> Self {
        self.arrival.identity = identity;
        self
    }

    /// It comes in by this listener.
    pub(crate) fn listener(mut self, listener: u16) -> Self {
        self.arrival.origin.listener = listener;
        self
    }

    /// Its credentials end at this time.
    pub(crate) fn valid_until(mut self, until: Moment) -> Self {
        self.arrival.valid_until = Some(until);
        self
    }

    /// It has gone through an enhanced authentication, which gives it this at last.
    pub(crate) fn enhanced(mut self, method: &str, data: &[u8]) -> Self {
        self.arrival.enhanced = Some(Enhanced { method: method.into(), data: data.to_vec() });
        self
    }

    /// Sends the CONNECT, and lets nothing happen yet.
    pub(crate) fn only(&mut self) -> ClientHandle {
        let mut connect = Connect::new(self.version, &self.name);
        connect.clean_start = self.clean_start;
        connect.keep_alive = self.keep_alive;
        connect.receive_maximum = self.receive_maximum;
        connect.topic_alias_maximum = self.alias_maximum;
        connect.maximum_packet_size = self.packet_bytes_max;
        connect.session_expiry_interval = self.session_expiry;
        connect.authentication_method = self.arrival.enhanced.as_ref().map(|enhanced| &*enhanced.method);
        let properties = self.will.as_ref().map(|will| {
            let add =
                |properties: ForwardedBuilder, (name, value): &(String, String)| properties.user_property(name, value);
            will.user_properties.iter().fold(ForwardedBuilder::new(), add)
        });
        connect.will = self.will.as_ref().map(|will| codec::Will {
            topic: &will.topic,
            payload: will.payload.as_bytes(),
            qos: will.qos,
            retain: will.retain,
            will_delay_interval: will.delay,
            message_expiry_interval: will.expiry,
            forwarded: properties.as_ref().map_or(Forwarded::default(), |properties| properties.forwarded()),
        });
        let mut bytes = Vec::new();
        codec::encode(&Packet::Connect(Box::new(connect)), self.version, &mut bytes);
        self.simulation.open(&self.name, self.version, &bytes, self.arrival.clone())
    }

    /// The CONNECT is accepted.
    pub(crate) fn accepted(self) -> ClientHandle {
        self.accepted_with_session().0
    }

    /// The CONNECT is accepted; whether a Session was there.
    pub(crate) fn accepted_with_session(mut self) -> (ClientHandle, bool) {
        let (handle, connack) = self.answered();
        match connack {
            Some((session_present, ReasonCode::Success)) => (handle, session_present),
            other => panic!("CONNACK of {}: {other:?}", self.name),
        }
    }

    /// The CONNECT is refused with this Reason Code.
    pub(crate) fn refused(mut self) -> ReasonCode {
        match self.answered().1 {
            Some((_, reason)) if reason.is_error() => reason,
            other => panic!("CONNACK of {}: {other:?}", self.name),
        }
    }

    fn answered(&mut self) -> (ClientHandle, Option<(bool, ReasonCode)>) {
        let handle = self.only();
        self.simulation.settle();
        (handle, self.simulation.clients[handle.0].connack)
    }
}

/// The options of a subscription that wants retained messages only where it is new.
pub(crate) fn options(qos: QoS, retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..SubscriptionOptions::new(qos) }
}
