//! Reads what a server sends, strictly: whatever the standard does not allow fails the test.

use super::property::{self, Property, Value};

pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const UNSUBACK: u8 = 11;
pub(crate) const PINGRESP: u8 = 13;
pub(crate) const DISCONNECT: u8 = 14;
pub(crate) const AUTH: u8 = 15;

/// A packet from the server. Fields that its type does not have are zero or empty.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Packet {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) session_present: bool,
    pub(crate) packet_id: u16,
    pub(crate) reason: u8,
    /// One for each Topic Filter of a SUBSCRIBE or UNSUBSCRIBE.
    pub(crate) reasons: Vec<u8>,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) properties: Vec<Property>,
    /// Bytes of the whole packet.
    pub(crate) length: usize,
}

impl Packet {
    pub(crate) fn dup(&self) -> bool {
        self.flags & 8 != 0
    }

    pub(crate) fn qos(&self) -> u8 {
        (self.flags >> 1) & 3
    }

    pub(crate) fn retain(&self) -> bool {
        self.flags & 1 != 0
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The value of a property that is a number.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        match self.property(id)? {
            Value::Byte(value) => Some(u32::from(*value)),
            Value::TwoBytes(value) => Some(u32::from(*value)),
            Value::FourBytes(value) | Value::Variable(value) => Some(*value),
            other => panic!("property {id:#04x} is {other:?}"),
        }
    }

    /// The value of a property that is a string.
    pub(crate) fn string(&self, id: u8) -> Option<&str> {
        match self.property(id)? {
            Value::Text(value) => Some(value),
            other => panic!("property {id:#04x} is {other:?}"),
        }
    }

    /// The value of a property that is bytes.
    pub(crate) fn binary(&self, id: u8) -> Option<&[u8]> {
        match self.property(id)? {
            Value::Binary(value) => Some(value),
            other => panic!("property {id:#04x} is {other:?}"),
        }
    }

    fn property(&self, id: u8) -> Option<&Value> {
        self.properties.iter().find(|property| property.id == id).map(|property| &property.value)
    }

    pub(crate) fn user_properties(&self) -> Vec<(&str, &str)> {
        self.properties.iter().filter_map(|property| pair(&property.value)).collect()
    }

    pub(crate) fn subscription_identifiers(&self) -> Vec<u32> {
        let of_interest = |property: &&Property| property.id == property::SUBSCRIPTION_IDENTIFIER;
        let mut identifiers: Vec<u32> =
            self.properties.iter().filter(of_interest).filter_map(|property| variable(&property.value)).collect();
        identifiers.sort_unstable();
        identifiers
    }
}

fn pair(value: &Value) -> Option<(&str, &str)> {
    if let Value::Pair(name, value) = value { Some((name, value)) } else { None }
}

fn variable(value: &Value) -> Option<u32> {
    if let Value::Variable(value) = value { Some(*value) } else { None }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "packet type {} flags {:#x} id {}", self.kind, self.flags, self.packet_id)?;
        write!(formatter, " reason {:#04x} {:02x?}", self.reason, self.reasons)?;
        write!(formatter, " topic {:?} payload {:?} {:?}", self.topic, self.text(), self.properties)
    }
}

/// Cuts the first packet off `buffer`; `None` while it is incomplete.
pub(crate) fn cut(buffer: &mut Vec<u8>, version: u8) -> Option<Packet> {
    let mut length = 0_usize;
    let mut header = 1;
    loop {
        let byte = *buffer.get(header)?;
        length |= usize::from(byte & 0x7F) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            assert!(byte != 0 || header == 2, "Remaining Length in more bytes than it needs");
            break;
        }
        assert!(header <= 4, "Remaining Length of more than four bytes");
    }
    if buffer.len() < header + length {
        return None;
    }
    let bytes: Vec<u8> = buffer.drain(..header + length).collect();
    Some(parse(&bytes, header, version))
}

fn parse(bytes: &[u8], header: usize, version: u8) -> Packet {
    let (kind, flags) = (bytes[0] >> 4, bytes[0] & 0x0F);
    let expected = if kind == PUBREL { 2 } else { 0 };
    assert!(kind == PUBLISH || flags == expected, "reserved flags {flags:#x} in type {kind}");
    let mut packet = Packet { kind, flags, length: bytes.len(), ..Packet::default() };
    let mut body = Reader::new(&bytes[header..]);
    match kind {
        CONNACK => connack(&mut packet, &mut body, version),
        PUBLISH => publish(&mut packet, &mut body, version),
        PUBACK | PUBREC | PUBREL | PUBCOMP => {
            packet.packet_id = packet_id(&mut body);
            reason_and_properties(&mut packet, &mut body, version);
        }
        SUBACK | UNSUBACK => {
            packet.packet_id = packet_id(&mut body);
            packet.properties = properties(kind, &mut body, version);
            packet.reasons = body.rest().to_vec();
        }
        PINGRESP => {}
        DISCONNECT | AUTH => {
            assert_eq!(version, 5, "packet type {kind} from a server to a 3.x client");
            reason_and_properties(&mut packet, &mut body, version);
        }
        _ => panic!("a server must not send packet type {kind}"),
    }
    assert!(body.is_empty(), "bytes left over in {packet:?}");
    packet
}

fn connack(packet: &mut Packet, body: &mut Reader<'_>, version: u8) {
    let flags = body.byte();
    assert!(flags <= 1, "reserved Connect Acknowledge Flags {flags:#x}"); // [MQTT-3.2.2-1]
    packet.session_present = flags == 1;
    packet.reason = body.byte();
    packet.properties = properties(CONNACK, body, version);
}

fn publish(packet: &mut Packet, body: &mut Reader<'_>, version: u8) {
    assert!(packet.qos() < 3, "QoS 3"); // [MQTT-3.3.1-4]
    assert!(!packet.dup() || packet.qos() > 0, "DUP with QoS 0"); // [MQTT-3.3.1-2]
    packet.topic = body.text();
    if packet.qos() > 0 {
        packet.packet_id = packet_id(body);
    }
    packet.properties = properties(PUBLISH, body, version);
    packet.payload = body.rest().to_vec();
}

fn packet_id(body: &mut Reader<'_>) -> u16 {
    let packet_id = body.two_bytes();
    assert!(packet_id != 0, "Packet Identifier 0"); // [MQTT-2.2.1-4]
    packet_id
}

fn properties(kind: u8, body: &mut Reader<'_>, version: u8) -> Vec<Property> {
    if version == 5 { property::take_all(kind, body) } else { Vec::new() }
}

/// The tail that 5.0 lets a sender leave out when it says nothing.
fn reason_and_properties(packet: &mut Packet, body: &mut Reader<'_>, version: u8) {
    if version == 5 && !body.is_empty() {
        packet.reason = body.byte();
        if !body.is_empty() {
            packet.properties = property::take_all(packet.kind, body);
        }
    }
}

pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.bytes.split_at_checked(count).expect("the packet ends too early");
        self.bytes = tail;
        head
    }

    fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.bytes.len())
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub(crate) fn two_bytes(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    pub(crate) fn four_bytes(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    pub(crate) fn variable(&mut self) -> u32 {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                assert!(byte != 0 || shift == 0, "Variable Byte Integer in more bytes than it needs"); // [MQTT-1.5.5-1]
                return value;
            }
        }
        panic!("Variable Byte Integer of more than four bytes")
    }

    pub(crate) fn binary(&mut self) -> &'a [u8] {
        let length = self.two_bytes();
        self.bytes(usize::from(length))
    }

    pub(crate) fn text(&mut self) -> String {
        let text = std::str::from_utf8(self.binary()).expect("a string that is not UTF-8");
        assert!(!text.contains('\0'), "a string with U+0000"); // [MQTT-1.5.4-2]
        text.to_owned()
    }
}
