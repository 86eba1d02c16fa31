//! What a simulated client remembers, and how it is told to connect.

use willowmq::codec::{Connack, PacketId, ProtocolVersion, QoS, ReasonCode};
use willowmq::shard::{ConnectionId, ShardId};
use willowmq::timer::Moment;

/// A handle to a simulated client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientHandle(pub(crate) usize);

/// A PUBLISH that reached a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) at: Moment,
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) expiry: Option<u32>,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) user_properties: Vec<(String, String)>,
}

/// Properties of a CONNACK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) server_keep_alive: Option<u16>,
    pub(crate) session_expiry_interval: Option<u32>,
    pub(crate) authentication: Option<(String, Vec<u8>)>,
}

impl Told {
    pub(crate) fn of(connack: &Connack<'_>) -> Self {
        let data = connack.authentication_data.unwrap_or_default();
        Self {
            receive_maximum: connack.receive_maximum,
            maximum_packet_size: connack.maximum_packet_size,
            server_keep_alive: connack.server_keep_alive,
            session_expiry_interval: connack.session_expiry_interval,
            authentication: connack.authentication_method.map(|method| (method.to_owned(), data.to_vec())),
        }
    }
}

/// One simulated client, over all its connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) version: ProtocolVersion,
    pub(crate) home: ShardId,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) inbox: Vec<u8>,
    /// It neither reads nor acknowledges.
    pub(crate) is_stuck: bool,
    /// It reads, and acknowledges nothing.
    pub(crate) withholds_acks: bool,
    pub(crate) connack: Option<(bool, ReasonCode)>,
    /// Where it was told to go instead.
    pub(crate) server_reference: Option<String>,
    /// What CONNACK told beside its Reason Code.
    pub(crate) told: Told,
    /// The AUTH packets received: Reason Code, Authentication Method and Data.
    pub(crate) auths: Vec<(ReasonCode, String, Vec<u8>)>,
    pub(crate) disconnected_with: Option<ReasonCode>,
    pub(crate) received: Vec<Received>,
    pub(crate) suback: Vec<ReasonCode>,
    pub(crate) acknowledged: Vec<(PacketId, ReasonCode)>,
    /// QoS 2 messages received and not yet released.
    pub(crate) unreleased: Vec<PacketId>,
    pub(crate) next_id: u16,
}

impl Client {
    pub(crate) fn new(name: &str, version: ProtocolVersion, home: ShardId) -> Self {
        Self {
            name: name.into(),
            version,
            home,
            connection: None,
            inbox: Vec::new(),
            is_stuck: false,
            withholds_acks: false,
            connack: None,
            server_reference: None,
            told: Told::default(),
            auths: Vec::new(),
            disconnected_with: None,
            received: Vec::new(),
            suback: Vec::new(),
            acknowledged: Vec::new(),
            unreleased: Vec::new(),
            next_id: 0,
        }
    }

    pub(crate) fn next_id(&mut self) -> PacketId {
        self.next_id = self.next_id % u16::MAX + 1;
        PacketId::new(self.next_id).expect("it counts from 1")
    }
}

/// A will as a story tells it.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) delay: u32,
    pub(crate) expiry: Option<u32>,
    pub(crate) user_properties: Vec<(String, String)>,
}

impl Will {
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        let (topic, payload) = (topic.into(), payload.into());
        Self {
            topic,
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            delay: 0,
            expiry: None,
            user_properties: Vec::new(),
        }
    }

    pub(crate) fn qos(self, qos: QoS) -> Self {
        Self { qos, ..self }
    }

    pub(crate) fn retain(self) -> Self {
        Self { retain: true, ..self }
    }

    pub(crate) fn delay(self, seconds: u32) -> Self {
        Self { delay: seconds, ..self }
    }

    pub(crate) fn expiry(self, seconds: u32) -> Self {
        Self { expiry: Some(seconds), ..self }
    }

    pub(crate) fn user_property(mut self, name: &str, value: &str) -> Self {
        self.user_properties.push((name.into(), value.into()));
        self
    }
}
