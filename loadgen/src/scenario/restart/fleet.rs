//! Who is there, and who is to come back when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use willowmq::codec::{QoS, SubscriptionOptions, Will};

use super::status;
use crate::engine::{Fleet as Engine, Index, Time};
use crate::options::Identity;
use crate::stamp::{Stamp, Stamper};

/// How long a Session outlasts its connection, in seconds.
const SESSION_EXPIRY_S: u32 = 3600;
/// After a first failure a client waits about this long, and twice as long after each further one.
const BACKOFF: Duration = Duration::from_millis(100);
/// How often that is doubled.
const DOUBLINGS_MAX: u32 = 5;

/// Who is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) devices: usize,
    pub(super) subscribers: usize,
    pub(super) rate: f64,
    pub(super) payload_bytes: usize,
}

/// What a client is: devices come first, then subscribers, the watcher of the wills, and the inspector of what is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Device(usize),
    Subscriber(usize),
    Watcher,
    Inspector,
}

impl Plan {
    pub(super) fn clients(&self) -> usize {
        self.devices + self.subscribers + 2
    }

    pub(super) fn role(&self, client: Index) -> Role {
        match client {
            device if device < self.devices => Role::Device(device),
            other if other < self.devices + self.subscribers => Role::Subscriber(other - self.devices),
            other if other == self.inspector() => Role::Inspector,
            _ => Role::Watcher,
        }
    }

    pub(super) fn inspector(&self) -> Index {
        self.devices + self.subscribers + 1
    }

    /// Those who stay, and come back: all but the inspector.
    pub(super) fn steady(&self) -> std::ops::Range<Index> {
        0..self.inspector()
    }

    pub(super) fn qos(device: usize) -> QoS {
        if device.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce }
    }

    pub(super) fn subscriber_of(&self, device: usize) -> usize {
        device / 2 % self.subscribers
    }
}

/// The clients, between their connections.
pub(super) struct Fleet {
    pub(super) plan: Plan,
    identity: Identity,
    stamper: Stamper,
    client_prefix: String,
    topic_prefix: String,
    /// How often each was connected.
    pub(super) connections: Vec<u64>,
    /// How often each failed since.
    failures: Vec<u32>,
    returns: BinaryHeap<Reverse<(Time, Index)>>,
    payload: Vec<u8>,
}

impl Fleet {
    pub(super) fn new(plan: Plan, run: &crate::run::Run) -> Self {
        Self {
            plan,
            identity: run.identity.clone(),
            stamper: run.stamper.clone(),
            client_prefix: run.client_prefix.clone(),
            topic_prefix: run.topic_prefix.clone(),
            connections: vec![0; plan.clients()],
            failures: vec![0; plan.clients()],
            returns: BinaryHeap::new(),
            payload: Vec::new(),
        }
    }

    pub(super) fn data_topic(&self, device: usize) -> String {
        format!("{}/data/{}/{device}", self.topic_prefix, self.plan.subscriber_of(device))
    }

    pub(super) fn status_topic(&self, device: usize) -> String {
        format!("{}/status/{device}", self.topic_prefix)
    }

    /// Opens the connection of a client, with its Session and its will.
    pub(super) fn open(&mut self, engine: &mut Engine, client: Index, now: Time) {
        let id = format!("{}{client}", self.client_prefix);
        let mut connect = self.identity.connect(&id);
        let role = self.plan.role(client);
        if role != Role::Inspector {
            connect.clean_start = false;
            connect.session_expiry_interval = SESSION_EXPIRY_S;
            engine.keep_unacknowledged(client);
        }
        let topic;
        if let Role::Device(device) = role {
            let stamp = Stamp { publisher: device as u32, sequence: status::off(self.connections[client]), at: now };
            self.stamper.write(stamp, self.plan.payload_bytes, &mut self.payload);
            topic = self.status_topic(device);
            connect.will = Some(Will {
                topic: &topic,
                payload: &self.payload,
                qos: QoS::AtLeastOnce,
                retain: true,
                will_delay_interval: 0,
                message_expiry_interval: None,
                forwarded: Default::default(),
            });
        }
        engine.open(client, &connect);
    }

    /// Subscribes, where the client is one that does.
    pub(super) fn subscribe(&self, engine: &mut Engine, client: Index) {
        let (filter, qos) = match self.plan.role(client) {
            Role::Device(_) => return,
            Role::Subscriber(number) => (format!("{}/data/{number}/+", self.topic_prefix), QoS::ExactlyOnce),
            Role::Watcher | Role::Inspector => (format!("{}/status/+", self.topic_prefix), QoS::AtLeastOnce),
        };
        engine.subscribe(client, &[(&filter, SubscriptionOptions::new(qos))]);
    }

    /// A client is connected; how often it was before.
    pub(super) fn on_connected(&mut self, client: Index) -> u64 {
        self.failures[client] = 0;
        self.connections[client] += 1;
        self.connections[client] - 1
    }

    /// A client has lost its connection, or got none: it comes back in a while.
    pub(super) fn come_back(&mut self, client: Index, now: Time) {
        let doubled = BACKOFF * (1 << self.failures[client].min(DOUBLINGS_MAX));
        self.failures[client] += 1;
        // Between half of it and all, so that those who went together do not come together.
        let part = (client as u32).wrapping_mul(0x9E37_79B9);
        let wait = doubled / 2 + (doubled / 2).mul_f64(f64::from(part) / f64::from(u32::MAX));
        self.returns.push(Reverse((now + wait, client)));
    }

    /// Opens the connections of those whose time has come; when the next one's does.
    pub(super) fn open_due(&mut self, engine: &mut Engine, now: Time) -> Time {
        while let Some(Reverse((at, client))) = self.returns.peek().copied() {
            if at > now {
                return at;
            }
            self.returns.pop();
            self.open(engine, client, now);
        }
        Time::NEVER
    }
}
