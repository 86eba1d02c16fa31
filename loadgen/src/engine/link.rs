//! One client's end of its connection.

use std::time::Duration;

use socket2::Socket;
use willowmq::codec::{Connack, ProtocolVersion, QoS};

use super::flow::{Incoming, Outgoing};
use super::{Layers, Message, Time};

/// What a connection is doing.
///
/// ```text
/// Closed ─open─▶ Opening ─writable─▶ AwaitConnack ─CONNACK─▶ Online ─mute─▶ Silent
///    ▲                                                                        │
///    └───────────────────── closed by either side, from anywhere ─────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is no connection.
    Closed,
    /// The kernel is connecting.
    Opening,
    /// CONNECT is on its way, or was sent.
    AwaitConnack,
    /// CONNACK said yes.
    Online,
    /// Nothing is sent any more, and what arrives is thrown away: a device that lost power.
    Silent,
}

/// One client's end of its connection.
pub(super) struct Link {
    pub(super) socket: Option<Socket>,
    /// What lies between the socket and MQTT, if anything does. `output` waits here until its handshakes are done.
    pub(super) layers: Option<Box<Layers>>,
    pub(super) stage: Stage,
    /// Counts the connections of this client, so that an event of an older one is told apart.
    pub(super) generation: u32,
    pub(super) version: ProtocolVersion,
    pub(super) keep_alive: Duration,
    pub(super) opened: Time,
    pub(super) last_sent: Time,
    /// What is to be written, from `written` on. Empty while there is nothing: idle clients own no buffer.
    pub(super) output: Vec<u8>,
    pub(super) written: usize,
    /// Whether the kernel took less than we had.
    pub(super) is_blocked: bool,
    /// Whether the link is in the list of those that have output.
    pub(super) is_dirty: bool,
    /// The beginning of a packet whose rest has not arrived.
    pub(super) partial: Vec<u8>,
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// What is unacknowledged outlasts the connection, as the Session does.
    pub(super) keeps_outgoing: bool,
    pub(super) last_subscription: u16,
    /// What the broker said it takes.
    pub(super) limits: Limits,
}

/// What a broker takes, as its CONNACK says (§3.2.2.3).
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) packet_bytes_max: usize,
    pub(super) qos_max: QoS,
    pub(super) retain_available: bool,
}

impl Limits {
    pub(super) fn of(connack: &Connack<'_>) -> Self {
        Self {
            packet_bytes_max: connack.maximum_packet_size.map_or(usize::MAX, |bytes| bytes as usize),
            qos_max: connack.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            retain_available: connack.retain_available.unwrap_or(true),
        }
    }

    /// Why a message of `bytes` as a packet must not be sent, if so. [MQTT-3.2.2-11], [MQTT-3.2.2-14], [MQTT-3.2.2-15]
    pub(super) fn objection(self, message: &Message<'_>, bytes: usize) -> Option<String> {
        if bytes > self.packet_bytes_max {
            let (max, payload) = (self.packet_bytes_max, message.payload.len());
            Some(format!(
                "the broker takes packets of at most {max} bytes (Maximum Packet Size); a payload of {payload} bytes \
                 with its topic makes {bytes}"
            ))
        } else if message.qos > self.qos_max {
            let (max, qos) = (self.qos_max.as_u8(), message.qos.as_u8());
            Some(format!(
                "the broker takes messages up to QoS {max} (Maximum QoS), and this run publishes at QoS {qos}"
            ))
        } else if message.retain && !self.retain_available {
            Some("the broker keeps no retained messages (Retain Available is 0)".into())
        } else {
            None
        }
    }
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            layers: None,
            stage: Stage::Closed,
            generation: 0,
            version: ProtocolVersion::V5,
            keep_alive: Duration::ZERO,
            opened: Time::default(),
            last_sent: Time::default(),
            output: Vec::new(),
            written: 0,
            is_blocked: false,
            is_dirty: false,
            partial: Vec::new(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            keeps_outgoing: false,
            last_subscription: 0,
            limits: Limits::of(&Connack::default()),
        }
    }

    /// Bytes that the kernel has not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.output.len() - self.written + self.layers.as_ref().map_or(0, |layers| layers.unsent().len())
    }

    /// Whether a PINGREQ is due, well before the Keep Alive is over. [MQTT-3.1.2-20]
    pub(super) fn needs_ping(&self, now: Time) -> bool {
        self.stage == Stage::Online && !self.keep_alive.is_zero() && now >= self.last_sent + self.keep_alive * 3 / 4
    }
}
