//! Builds what a client sends, byte by byte, so that it can also be built wrong.

use super::property::{self, Property};

pub(crate) fn put_variable(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_binary(value: &[u8], out: &mut Vec<u8>) {
    out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    out.extend(value);
}

pub(crate) fn put_text(value: &str, out: &mut Vec<u8>) {
    put_binary(value.as_bytes(), out);
}

/// A packet from its first byte and everything that follows the Remaining Length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_variable(body.len().try_into().unwrap(), &mut out);
    out.extend(body);
    out
}

/// The bytes of a string with its length before it.
pub(crate) fn string(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_binary(value, &mut out);
    out
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in the form that all versions share.
pub(crate) fn acknowledgement(kind: u8, packet_id: u16) -> Vec<u8> {
    let flags = if kind == super::parse::PUBREL { 2 } else { 0 };
    packet(kind << 4 | flags, &packet_id.to_be_bytes())
}

/// The same with a Reason Code, for 5.0.
pub(crate) fn acknowledgement_with_reason(kind: u8, packet_id: u16, reason: u8) -> Vec<u8> {
    let flags = if kind == super::parse::PUBREL { 2 } else { 0 };
    let [high, low] = packet_id.to_be_bytes();
    packet(kind << 4 | flags, &[high, low, reason])
}

pub(crate) fn pingreq() -> Vec<u8> {
    packet(0xC0, &[])
}

/// DISCONNECT as 3.x sends it, which in 5.0 means Reason Code 0x00.
pub(crate) fn disconnect() -> Vec<u8> {
    packet(0xE0, &[])
}

pub(crate) fn disconnect_with(reason: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![reason];
    property::put_all(properties, &mut body);
    packet(0xE0, &body)
}

#[derive(Clone)]
pub(crate) struct Will {
    topic: Vec<u8>,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    properties: Vec<Property>,
}

impl Will {
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self::raw(topic.as_bytes(), payload.as_bytes())
    }

    pub(crate) fn raw(topic: &[u8], payload: &[u8]) -> Self {
        Self { topic: topic.to_vec(), payload: payload.to_vec(), qos: 0, retain: false, properties: Vec::new() }
    }

    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Will Delay Interval in seconds.
    pub(crate) fn delay(self, seconds: u32) -> Self {
        self.property(property::number(property::WILL_DELAY_INTERVAL, seconds))
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// CONNECT. A fresh one asks for Clean Start and no Keep Alive.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) version: u8,
    protocol_name: Vec<u8>,
    protocol_level: u8,
    client_id: Vec<u8>,
    clean_start: bool,
    keep_alive: u16,
    properties: Vec<Property>,
    will: Option<Will>,
    username: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    flags: Option<u8>,
}

impl Connect {
    pub(crate) fn new(version: u8, client_id: &str) -> Self {
        let protocol_name = if version == 3 { b"MQIsdp".to_vec() } else { b"MQTT".to_vec() };
        Self {
            version,
            protocol_name,
            protocol_level: version,
            client_id: client_id.into(),
            clean_start: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
            username: None,
            password: None,
            flags: None,
        }
    }

    pub(crate) fn v5(client_id: &str) -> Self {
        Self::new(5, client_id)
    }

    pub(crate) fn v311(client_id: &str) -> Self {
        Self::new(4, client_id)
    }

    pub(crate) fn v31(client_id: &str) -> Self {
        Self::new(3, client_id)
    }

    pub(crate) fn protocol(mut self, name: &str, level: u8) -> Self {
        self.protocol_name = name.into();
        self.protocol_level = level;
        self
    }

    pub(crate) fn client_id_bytes(mut self, client_id: &[u8]) -> Self {
        self.client_id = client_id.to_vec();
        self
    }

    /// Clean Start 0, or Clean Session 0 of 3.x.
    pub(crate) fn resume(mut self) -> Self {
        self.clean_start = false;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// Session Expiry Interval in seconds.
    pub(crate) fn expiry(self, seconds: u32) -> Self {
        self.property(property::number(property::SESSION_EXPIRY_INTERVAL, seconds))
    }

    /// A session that outlives its connection, as this version asks for it.
    pub(crate) fn persistent(self) -> Self {
        if self.version == 5 { self.expiry(3600) } else { self.resume() }
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn username(mut self, username: &[u8]) -> Self {
        self.username = Some(username.to_vec());
        self
    }

    pub(crate) fn password(mut self, password: &[u8]) -> Self {
        self.password = Some(password.to_vec());
        self
    }

    /// Connect Flags other than those that would tell the truth.
    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.flags = Some(flags);
        self
    }

    fn true_flags(&self) -> u8 {
        let mut flags = u8::from(self.clean_start) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        flags | u8::from(self.password.is_some()) << 6 | u8::from(self.username.is_some()) << 7
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = string(&self.protocol_name);
        body.push(self.protocol_level);
        body.push(self.flags.unwrap_or_else(|| self.true_flags()));
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == 5 {
            property::put_all(&self.properties, &mut body);
        }
        put_binary(&self.client_id, &mut body);
        if let Some(will) = &self.will {
            if self.version == 5 {
                property::put_all(&will.properties, &mut body);
            }
            put_binary(&will.topic, &mut body);
            put_binary(&will.payload, &mut body);
        }
        for field in self.username.iter().chain(&self.password) {
            put_binary(field, &mut body);
        }
        packet(0x10, &body)
    }
}

#[derive(Clone)]
pub(crate) struct Publish {
    topic: Vec<u8>,
    payload: Vec<u8>,
    pub(crate) qos: u8,
    retain: bool,
    dup: bool,
    pub(crate) packet_id: u16,
    properties: Vec<Property>,
}

impl Publish {
    pub(crate) fn new(topic: &str, payload: &str) -> Self {
        Self::raw(topic.as_bytes(), payload.as_bytes())
    }

    pub(crate) fn raw(topic: &[u8], payload: &[u8]) -> Self {
        let (topic, payload) = (topic.to_vec(), payload.to_vec());
        Self { topic, payload, qos: 0, retain: false, dup: false, packet_id: 0, properties: Vec::new() }
    }

    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn id(mut self, packet_id: u16) -> Self {
        self.packet_id = packet_id;
        self
    }

    pub(crate) fn property(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        let mut body = string(&self.topic);
        if self.qos > 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        if version == 5 {
            property::put_all(&self.properties, &mut body);
        }
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// Subscription Options of 5.0 (§3.8.3.1) beside the QoS.
pub(crate) const NO_LOCAL: u8 = 0x04;
pub(crate) const RETAIN_AS_PUBLISHED: u8 = 0x08;
pub(crate) const RETAIN_IF_NEW: u8 = 0x10;
pub(crate) const RETAIN_NEVER: u8 = 0x20;

/// SUBSCRIBE with its Topic Filters and their Subscription Options.
pub(crate) fn subscribe(version: u8, packet_id: u16, filters: &[(&str, u8)], properties: &[Property]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == 5 {
        property::put_all(properties, &mut body);
    }
    for (filter, options) in filters {
        put_text(filter, &mut body);
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(crate) fn unsubscribe(version: u8, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == 5 {
        property::put_all(&[], &mut body);
    }
    filters.iter().for_each(|filter| put_text(filter, &mut body));
    packet(0xA2, &body)
}
