//! MQTT Control Packet types (§2.1.2) and the flags beside them.

use std::fmt;

use super::{MalformedPacket, ProtocolVersion};

/// The type of a Control Packet, numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// The DUP flag of a fixed header.
const DUP: u8 = 0b1000;

impl PacketKind {
    /// Its name, as the standard writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The kind with the number `value`; `None` for 0, which is reserved, and above 15.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The kind that the first byte of a packet names. Its flags are not looked at.
    pub(super) fn from_first_byte(first: u8) -> Result<Self, MalformedPacket> {
        Self::new(first >> 4).ok_or(MalformedPacket::PacketType)
    }

    /// The first byte of a packet of this kind; a PUBLISH adds its flags.
    pub const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.reserved_flags()
    }

    /// The low bits of the first byte, where the standard fixes them. [MQTT-2.1.3-1]
    const fn reserved_flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010, // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
            _ => 0,
        }
    }

    /// Checks the flags of the first byte as far as no version allows them.
    pub(super) fn check_flags_of_any_version(self, first: u8) -> Result<(), MalformedPacket> {
        let may_be_sent_again = matches!(self, Self::Pubrel | Self::Subscribe | Self::Unsubscribe);
        let ignored = if may_be_sent_again { DUP } else { 0 }; // MQTT 3.1 sets DUP in these.
        self.check_flags_except(first, ignored)
    }

    /// Checks the reserved flags of the first byte. A PUBLISH has none.
    pub(super) fn check_flags(self, first: u8, version: ProtocolVersion) -> Result<(), MalformedPacket> {
        if version.checks_reserved_bits() {
            self.check_flags_except(first, 0)
        } else {
            self.check_flags_of_any_version(first)
        }
    }

    fn check_flags_except(self, first: u8, ignored: u8) -> Result<(), MalformedPacket> {
        if self == Self::Publish || first & 0x0F & !ignored == self.reserved_flags() {
            Ok(())
        } else {
            Err(MalformedPacket::FixedHeaderFlags(self))
        }
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
