//! (placeholder)
use super::frame::{Extent, Position};
use super::record::{Place, SessionNumber, Transaction};
use crate::codec::{PacketId, QoS, SubscriptionOptions};
use crate::session::message::{Kind, Message, Publication, SharedKey, SubscriptionIds};
use crate::session::will::{Closing, Will};
use crate::timer::Moment;
use std::sync::Arc;
/// Of one shard.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Recovered {
    pub position: Position,
    pub sessions: Vec<RecoveredSession>,
    pub retained: Vec<StoredMessage>,
    pub next_session: u64,
    pub publications: u64,
    pub transactions: u64,
    pub voids: Vec<Transaction>,
    pub completes: Vec<Transaction>,
    pub stopped: Option<Moment>,
    pub clock: Moment,
    pub records: u64,
    pub torn_bytes: u64,
}
#[derive(Debug)]
#[allow(missing_docs)]
pub struct OwnedSession {
    pub session: SessionNumber,
    pub client_id: Box<str>,
    pub username: Option<Box<str>>,
    pub listener: u16,
    pub connection: u64,
    pub keep_alive: u16,
    pub expiry: u32,
    pub closed: Option<Moment>,
}
#[derive(Debug)]
#[allow(missing_docs)]
pub struct RecoveredSession {
    pub header: OwnedSession,
    pub subscriptions: Vec<(Box<str>, SubscriptionOptions, Option<u32>)>,
    pub deliveries: Vec<RecoveredDelivery>,
    pub received: Vec<PacketId>,
    pub will: Option<RecoveredWill>,
}
#[derive(Debug)]
#[allow(missing_docs)]
pub struct RecoveredDelivery {
    pub place: Place,
    pub message: Option<StoredMessage>,
    pub qos: QoS,
    pub retain: bool,
    pub subscription_ids: SubscriptionIds,
    pub shared: Option<Arc<SharedKey>>,
    pub packet_id: Option<PacketId>,
    pub is_released: bool,
    pub queued: Moment,
}
#[derive(Debug)]
#[allow(missing_docs)]
pub struct RecoveredWill {
    pub will: Will,
    pub pending: Option<(Moment, Closing)>,
}
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct StoredMessage {
    pub publication: Publication,
    pub extent: Extent,
    pub size: u32,
    pub kind: Kind,
    pub expires: Option<Moment>,
    pub message: Option<Arc<Message>>,
}
