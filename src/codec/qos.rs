//! Quality of Service levels (§4.3).

/// How hard a message's delivery is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: sent until a PUBACK arrives.
    AtLeastOnce = 1,
    /// QoS 2: PUBLISH, PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level that `value` stands for; `None` above 2. [MQTT-3.3.1-4]
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The level as on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether a PUBLISH of this level carries a Packet Identifier. [MQTT-2.2.1-2]
    #[must_use]
    pub const fn has_packet_id(self) -> bool {
        !matches!(self, Self::AtMostOnce)
    }
}
