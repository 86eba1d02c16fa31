//! The protocol versions and what differs between them, asked by name.

use std::fmt;

/// The version of MQTT that a Network Connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// Whether acknowledgements and DISCONNECT carry a Reason Code.
    #[must_use]
    pub const fn has_reason_codes(self) -> bool {
        matches!(self, Self::V5)
    }

    /// Whether packets carry properties (§2.2.2).
    #[must_use]
    pub const fn has_properties(self) -> bool {
        matches!(self, Self::V5)
    }

    /// Whether CONNACK has a Session Present flag; 3.1 reserves its bit.
    #[must_use]
    pub const fn has_session_present(self) -> bool {
        !matches!(self, Self::V3_1)
    }

    /// Whether the server may send a DISCONNECT.
    #[must_use]
    pub const fn has_server_disconnect(self) -> bool {
        matches!(self, Self::V5)
    }

    /// Whether Subscription Options go beyond the QoS: No Local, Retain As Published, Retain Handling.
    #[must_use]
    pub const fn has_subscription_options(self) -> bool {
        matches!(self, Self::V5)
    }

    /// Whether a CONNECT may carry a Password and no User Name. Forbidden by [v3.1.1 MQTT-3.1.2-22].
    #[must_use]
    pub const fn allows_password_without_username(self) -> bool {
        matches!(self, Self::V5)
    }

    /// Whether bits without a meaning must be zero. 3.1 calls them unused, and its clients set some of them: DUP in a
    /// SUBSCRIBE that is sent again, for one.
    #[must_use]
    pub const fn checks_reserved_bits(self) -> bool {
        !matches!(self, Self::V3_1)
    }

    /// The name at the front of a CONNECT. [MQTT-3.1.2-1]
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5 => "MQTT",
        }
    }

    /// The number of the standard, as people say it.
    #[must_use]
    pub const fn number(self) -> &'static str {
        match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5 => "5.0",
        }
    }

    /// The level that follows the name in a CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}
