//! Packets in words, for traces. Passwords and what authentication methods exchange are never told, only how long they are.

use crate::codec::{
    Ack, Auth, Connack, Connect, Disconnect, Forwarded, Packet, PacketId, PacketKind, Publish, ReasonCode, Suback,
    Subscribe, Unsuback, Unsubscribe, UserProperties, Will,
};

/// Bytes of a payload that are told.
const PAYLOAD_BYTES: usize = 64;
/// Bytes of any other text that are told.
const TEXT_BYTES: usize = 1024;
/// Topic Filters, Reason Codes and User Properties of a packet that are told.
const LISTED: usize = 32;

/// A packet, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketFacts {
    /// Its type.
    pub kind: PacketKind,
    /// Its length; `None` for a CONNECT, which reaches the shard decoded.
    pub bytes: Option<usize>,
    /// Its Packet Identifier.
    pub packet_id: Option<PacketId>,
    /// Its Reason Code, or the first of those that SUBACK and UNSUBACK have.
    pub reasons: Vec<ReasonCode>,
    /// Everything else, by the names of the API and in the order of the packet. A name may come several times.
    pub fields: Vec<(&'static str, String)>,
}

impl PacketFacts {
    fn new(kind: PacketKind) -> Self {
        Self { kind, bytes: None, packet_id: None, reasons: Vec::new(), fields: Vec::new() }
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| &**value)
    }

    fn add(&mut self, name: &'static str, value: impl ToString) {
        let mut value = value.to_string();
        if value.len() > TEXT_BYTES {
            let end = (0..=TEXT_BYTES).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
            value.truncate(end);
            value.push('…');
        }
        self.fields.push((name, value));
    }

    fn add_some(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    fn add_user_properties(&mut self, properties: &UserProperties<'_>) {
        for (name, value) in properties.iter().take(LISTED) {
            self.add("user_property", format!("{name}={value}"));
        }
    }

    fn add_payload(&mut self, payload: &[u8]) {
        self.add("payload_bytes", payload.len());
        self.add("payload", payload[..payload.len().min(PAYLOAD_BYTES)].escape_ascii());
    }

    fn add_forwarded(&mut self, forwarded: &Forwarded<'_>) {
        if forwarded.payload_format_is_utf8() {
            self.add("payload_format", "utf-8");
        }
        self.add_some("content_type", forwarded.content_type());
        self.add_some("response_topic", forwarded.response_topic());
        let data = forwarded.correlation_data();
        self.add_some("correlation_data", data.map(|data| data[..data.len().min(PAYLOAD_BYTES)].escape_ascii()));
        self.add_user_properties(&forwarded.user_properties());
    }

    fn add_authentication(&mut self, method: Option<&str>, data: Option<&[u8]>) {
        self.add_some("authentication_method", method);
        self.add_some("authentication_data_bytes", data.map(<[u8]>::len));
    }
}

/// A packet of so many bytes.
pub(super) fn of_packet(packet: &Packet<'_>, bytes: usize) -> PacketFacts {
    let mut facts = match packet {
        Packet::Connect(connect) => of_connect(connect),
        Packet::Connack(connack) => of_connack(connack),
        Packet::Publish(publish) => of_publish(publish),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            of_ack(packet.kind(), ack)
        }
        Packet::Subscribe(subscribe) => of_subscribe(subscribe),
        Packet::Suback(suback) => of_suback(suback),
        Packet::Unsubscribe(unsubscribe) => of_unsubscribe(unsubscribe),
        Packet::Unsuback(unsuback) => of_unsuback(unsuback),
        Packet::Pingreq | Packet::Pingresp => PacketFacts::new(packet.kind()),
        Packet::Disconnect(disconnect) => of_disconnect(disconnect),
        Packet::Auth(auth) => of_auth(auth),
    };
    facts.bytes = Some(bytes);
    facts
}

/// A CONNECT, without its Password.
pub(super) fn of_connect(connect: &Connect<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Connect);
    facts.add("version", connect.version);
    facts.add("client_id", connect.client_id);
    facts.add("clean_start", connect.clean_start);
    facts.add("keep_alive", connect.keep_alive);
    if connect.version.has_properties() {
        facts.add("session_expiry_interval", connect.session_expiry_interval);
        facts.add("receive_maximum", connect.receive_maximum);
        facts.add_some("maximum_packet_size", connect.maximum_packet_size);
        facts.add("topic_alias_maximum", connect.topic_alias_maximum);
        facts.add_authentication(connect.authentication_method, connect.authentication_data);
        facts.add_user_properties(&connect.user_properties);
    }
    if let Some(will) = &connect.will {
        add_will(&mut facts, will);
    }
    facts.add_some("username", connect.username);
    facts.add("has_password", connect.password.is_some());
    facts
}

fn add_will(facts: &mut PacketFacts, will: &Will<'_>) {
    facts.add("will_topic", will.topic);
    facts.add("will_qos", will.qos.as_u8());
    facts.add("will_retain", will.retain);
    facts.add("will_delay_interval", will.will_delay_interval);
    facts.add_some("will_message_expiry_interval", will.message_expiry_interval);
    facts.add("will_payload_bytes", will.payload.len());
    facts.add("will_payload", will.payload[..will.payload.len().min(PAYLOAD_BYTES)].escape_ascii());
}

fn of_connack(connack: &Connack<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Connack);
    facts.reasons = vec![connack.reason];
    facts.add("session_present", connack.session_present);
    facts.add_some("session_expiry_interval", connack.session_expiry_interval);
    facts.add_some("receive_maximum", connack.receive_maximum);
    facts.add_some("maximum_qos", connack.maximum_qos.map(|qos| qos.as_u8()));
    facts.add_some("retain_available", connack.retain_available);
    facts.add_some("maximum_packet_size", connack.maximum_packet_size);
    facts.add_some("assigned_client_identifier", connack.assigned_client_identifier);
    facts.add_some("topic_alias_maximum", connack.topic_alias_maximum);
    facts.add_some("reason_string", connack.reason_string);
    facts.add_some("wildcard_subscription_available", connack.wildcard_subscription_available);
    facts.add_some("subscription_identifiers_available", connack.subscription_identifiers_available);
    facts.add_some("shared_subscription_available", connack.shared_subscription_available);
    facts.add_some("server_keep_alive", connack.server_keep_alive);
    facts.add_some("response_information", connack.response_information);
    facts.add_some("server_reference", connack.server_reference);
    facts.add_authentication(connack.authentication_method, connack.authentication_data);
    facts.add_user_properties(&connack.user_properties);
    facts
}

fn of_publish(publish: &Publish<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Publish);
    facts.packet_id = publish.packet_id;
    facts.add("topic", publish.topic);
    facts.add("qos", publish.qos.as_u8());
    facts.add("retain", publish.retain);
    facts.add("dup", publish.dup);
    facts.add_some("topic_alias", publish.topic_alias);
    facts.add_some("message_expiry_interval", publish.message_expiry_interval);
    for id in publish.subscription_identifiers.iter().take(LISTED) {
        facts.add("subscription_identifier", id);
    }
    facts.add_forwarded(&publish.forwarded);
    facts.add_payload(publish.payload);
    facts
}

fn of_ack(kind: PacketKind, ack: &Ack<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(kind);
    facts.packet_id = Some(ack.packet_id);
    facts.reasons = vec![ack.reason];
    facts.add_some("reason_string", ack.reason_string);
    facts.add_user_properties(&ack.user_properties);
    facts
}

fn of_subscribe(subscribe: &Subscribe<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Subscribe);
    facts.packet_id = Some(subscribe.packet_id);
    facts.add_some("subscription_identifier", subscribe.subscription_identifier);
    for (filter, options) in subscribe.filters.iter().take(LISTED) {
        facts.add("filter", filter);
        facts.add("qos", options.qos.as_u8());
        facts.add("no_local", options.no_local);
        facts.add("retain_as_published", options.retain_as_published);
        facts.add("retain_handling", options.retain_handling as u8);
    }
    facts.add("filters", subscribe.filters.iter().count());
    facts.add_user_properties(&subscribe.user_properties);
    facts
}

fn of_suback(suback: &Suback<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Suback);
    facts.packet_id = Some(suback.packet_id);
    facts.reasons = suback.reasons.iter().take(LISTED).collect();
    facts.add_some("reason_string", suback.reason_string);
    facts.add_user_properties(&suback.user_properties);
    facts
}

fn of_unsubscribe(unsubscribe: &Unsubscribe<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Unsubscribe);
    facts.packet_id = Some(unsubscribe.packet_id);
    for filter in unsubscribe.filters.iter().take(LISTED) {
        facts.add("filter", filter);
    }
    facts.add("filters", unsubscribe.filters.iter().count());
    facts.add_user_properties(&unsubscribe.user_properties);
    facts
}

fn of_unsuback(unsuback: &Unsuback<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Unsuback);
    facts.packet_id = Some(unsuback.packet_id);
    facts.reasons = unsuback.reasons.iter().take(LISTED).collect();
    facts.add_some("reason_string", unsuback.reason_string);
    facts.add_user_properties(&unsuback.user_properties);
    facts
}

fn of_disconnect(disconnect: &Disconnect<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Disconnect);
    facts.reasons = vec![disconnect.reason];
    facts.add_some("session_expiry_interval", disconnect.session_expiry_interval);
    facts.add_some("reason_string", disconnect.reason_string);
    facts.add_some("server_reference", disconnect.server_reference);
    facts.add_user_properties(&disconnect.user_properties);
    facts
}

fn of_auth(auth: &Auth<'_>) -> PacketFacts {
    let mut facts = PacketFacts::new(PacketKind::Auth);
    facts.reasons = vec![auth.reason];
    facts.add_authentication(auth.authentication_method, auth.authentication_data);
    facts.add_some("reason_string", auth.reason_string);
    facts.add_user_properties(&auth.user_properties);
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ProtocolVersion;

    #[test]
    fn secrets_are_not_told() {
        let mut connect = Connect::new(ProtocolVersion::V5, "lamp");
        connect.username = Some("user");
        connect.password = Some(b"hunter2");
        connect.authentication_method = Some("SCRAM-SHA-256");
        connect.authentication_data = Some(b"proof");
        let facts = of_connect(&connect);
        assert_eq!(facts.field("username"), Some("user"));
        assert_eq!(facts.field("has_password"), Some("true"));
        assert_eq!(facts.field("authentication_data_bytes"), Some("5"));
        let told = format!("{facts:?}");
        assert!(!told.contains("hunter2") && !told.contains("proof"), "{told}");
    }

    #[test]
    fn long_texts_and_payloads_are_cut() {
        let mut facts = PacketFacts::new(PacketKind::Publish);
        facts.add("topic", "ä".repeat(1000));
        facts.add_payload(&[0xFF; 1000]);
        assert_eq!(facts.field("topic").map(|topic| topic.chars().count()), Some(513));
        assert_eq!(facts.field("payload_bytes"), Some("1000"));
        assert_eq!(facts.field("payload").map(str::len), Some(4 * PAYLOAD_BYTES));
    }
}
