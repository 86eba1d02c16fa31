//! Properties of MQTT 5.0 (§2.2.2.2): how they look on the wire, and where they may stand.

use super::parse::Reader;
use super::wire::{put_binary, put_text, put_variable};

pub(crate) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
pub(crate) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
pub(crate) const CONTENT_TYPE: u8 = 0x03;
pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
pub(crate) const CORRELATION_DATA: u8 = 0x09;
pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
pub(crate) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
pub(crate) const WILL_DELAY_INTERVAL: u8 = 0x18;
pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
pub(crate) const REASON_STRING: u8 = 0x1F;
pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(crate) const TOPIC_ALIAS: u8 = 0x23;
pub(crate) const MAXIMUM_QOS: u8 = 0x24;
pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
pub(crate) const USER_PROPERTY: u8 = 0x26;
pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
pub(crate) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;

/// The types of §1.5.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Variable(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Property {
    pub(crate) id: u8,
    pub(crate) value: Value,
}

/// A property whose value is a number; its width follows from the identifier.
pub(crate) fn number(id: u8, value: u32) -> Property {
    let value = match id {
        SUBSCRIPTION_IDENTIFIER => Value::Variable(value),
        MESSAGE_EXPIRY_INTERVAL | SESSION_EXPIRY_INTERVAL | WILL_DELAY_INTERVAL | MAXIMUM_PACKET_SIZE => {
            Value::FourBytes(value)
        }
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => {
            Value::TwoBytes(value.try_into().unwrap())
        }
        _ => Value::Byte(value.try_into().unwrap()),
    };
    Property { id, value }
}

pub(crate) fn text(id: u8, value: &str) -> Property {
    Property { id, value: Value::Text(value.to_owned()) }
}

pub(crate) fn binary(id: u8, value: &[u8]) -> Property {
    Property { id, value: Value::Binary(value.to_vec()) }
}

pub(crate) fn user(name: &str, value: &str) -> Property {
    Property { id: USER_PROPERTY, value: Value::Pair(name.to_owned(), value.to_owned()) }
}

impl Property {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.id);
        match &self.value {
            Value::Byte(value) => out.push(*value),
            Value::TwoBytes(value) => out.extend(value.to_be_bytes()),
            Value::FourBytes(value) => out.extend(value.to_be_bytes()),
            Value::Variable(value) => put_variable(*value, out),
            Value::Text(value) => put_text(value, out),
            Value::Binary(value) => put_binary(value, out),
            Value::Pair(name, value) => {
                put_text(name, out);
                put_text(value, out);
            }
        }
    }
}

/// Appends the Property Length and the properties.
pub(crate) fn put_all(properties: &[Property], out: &mut Vec<u8>) {
    let mut block = Vec::new();
    properties.iter().for_each(|property| property.put(&mut block));
    put_variable(block.len().try_into().unwrap(), out);
    out.extend(block);
}

/// Reads a property block of a packet of type `kind`, and refuses what §2.2.2.2 does not allow there.
pub(crate) fn take_all(kind: u8, reader: &mut Reader<'_>) -> Vec<Property> {
    let length = reader.variable() as usize;
    let mut block = Reader::new(reader.bytes(length));
    let mut properties: Vec<Property> = Vec::new();
    while !block.is_empty() {
        let id = block.byte();
        assert!(allowed_from_server(kind).contains(&id), "property {id:#04x} in a packet of type {kind}");
        let repeatable = id == USER_PROPERTY || (id == SUBSCRIPTION_IDENTIFIER && kind == 3);
        assert!(repeatable || properties.iter().all(|other| other.id != id), "property {id:#04x} twice");
        properties.push(Property { id, value: take_value(id, &mut block) });
    }
    properties
}

fn take_value(id: u8, block: &mut Reader<'_>) -> Value {
    match id {
        SUBSCRIPTION_IDENTIFIER => Value::Variable(block.variable()),
        MESSAGE_EXPIRY_INTERVAL | SESSION_EXPIRY_INTERVAL | MAXIMUM_PACKET_SIZE => Value::FourBytes(block.four_bytes()),
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => Value::TwoBytes(block.two_bytes()),
        CORRELATION_DATA | AUTHENTICATION_DATA => Value::Binary(block.binary().to_vec()),
        CONTENT_TYPE
        | RESPONSE_TOPIC
        | ASSIGNED_CLIENT_IDENTIFIER
        | AUTHENTICATION_METHOD
        | RESPONSE_INFORMATION
        | SERVER_REFERENCE
        | REASON_STRING => Value::Text(block.text()),
        USER_PROPERTY => Value::Pair(block.text(), block.text()),
        _ => Value::Byte(block.byte()),
    }
}

fn allowed_from_server(kind: u8) -> &'static [u8] {
    match kind {
        2 => &[
            SESSION_EXPIRY_INTERVAL,
            ASSIGNED_CLIENT_IDENTIFIER,
            SERVER_KEEP_ALIVE,
            AUTHENTICATION_METHOD,
            AUTHENTICATION_DATA,
            RESPONSE_INFORMATION,
            SERVER_REFERENCE,
            REASON_STRING,
            RECEIVE_MAXIMUM,
            TOPIC_ALIAS_MAXIMUM,
            MAXIMUM_QOS,
            RETAIN_AVAILABLE,
            USER_PROPERTY,
            MAXIMUM_PACKET_SIZE,
            WILDCARD_SUBSCRIPTION_AVAILABLE,
            SUBSCRIPTION_IDENTIFIER_AVAILABLE,
            SHARED_SUBSCRIPTION_AVAILABLE,
        ],
        3 => &[
            PAYLOAD_FORMAT_INDICATOR,
            MESSAGE_EXPIRY_INTERVAL,
            CONTENT_TYPE,
            RESPONSE_TOPIC,
            CORRELATION_DATA,
            SUBSCRIPTION_IDENTIFIER,
            TOPIC_ALIAS,
            USER_PROPERTY,
        ],
        14 => &[SERVER_REFERENCE, REASON_STRING, USER_PROPERTY],
        15 => &[AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REASON_STRING, USER_PROPERTY],
        _ => &[REASON_STRING, USER_PROPERTY],
    }
}
