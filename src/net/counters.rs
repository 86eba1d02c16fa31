//! What the shell of one shard counts; the state machine has its own [`Stats`](crate::shard::Stats).

use super::transport::Broken;

/// Counters since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Connections accepted.
    pub(crate) accepted: u64,
    /// Connections handed to another shard.
    pub(crate) handed_over: u64,
    /// Connections turned away because there were too many.
    pub(crate) turned_away: u64,
    /// Connections turned away for want of file descriptors.
    pub(crate) shed: u64,
    /// Connections whose first packet was not a CONNECT that can be understood.
    pub(crate) bad_first_packets: u64,
    /// Connections that broke the rules of what lies below MQTT.
    pub(crate) layer_faults: LayerFaults,
    /// Connections closed because too many TLS handshakes waited.
    pub(crate) handshakes_refused: u64,
    /// Connections closed because they sent much before they were let in, while memory was short.
    pub(crate) handshakes_shed: u64,
    /// Connections whose PROXY, TLS or WebSocket handshake was not over in time.
    pub(crate) handshake_timeouts: u64,
    /// Connections without a complete CONNECT in time.
    pub(crate) connect_timeouts: u64,
    /// Connections whose client was not authenticated in time.
    pub(crate) authentication_timeouts: u64,
    /// Clients that were refused by the authenticators.
    pub(crate) authentications_refused: u64,
    /// Connections whose output made no progress in time.
    pub(crate) write_timeouts: u64,
    /// Receives that found no free buffer and were armed again.
    pub(crate) buffer_shortages: u64,
    /// TLS handshakes completed.
    pub(crate) tls_handshakes: u64,
    /// Bytes received on sockets, with all that lies below MQTT.
    pub(crate) bytes_received: u64,
    /// Bytes sent on sockets, with all that lies below MQTT.
    pub(crate) bytes_sent: u64,
}

impl Counters {
    /// Adds the counters of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.handed_over += other.handed_over;
        self.turned_away += other.turned_away;
        self.shed += other.shed;
        self.bad_first_packets += other.bad_first_packets;
        self.layer_faults.add(&other.layer_faults);
        self.handshakes_refused += other.handshakes_refused;
        self.handshakes_shed += other.handshakes_shed;
        self.handshake_timeouts += other.handshake_timeouts;
        self.connect_timeouts += other.connect_timeouts;
        self.authentication_timeouts += other.authentication_timeouts;
        self.authentications_refused += other.authentications_refused;
        self.write_timeouts += other.write_timeouts;
        self.buffer_shortages += other.buffer_shortages;
        self.tls_handshakes += other.tls_handshakes;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
    }
}

/// How often each of the layers below MQTT was broken by its peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerFaults {
    pub(crate) tls: u64,
    pub(crate) websocket: u64,
    pub(crate) http: u64,
    pub(crate) proxy: u64,
}

impl LayerFaults {
    /// Counts the end of layers, unless it was an orderly one; whether it was counted.
    pub(crate) fn count(&mut self, broken: &Broken) -> bool {
        let counter = match broken {
            Broken::Closed => return false,
            Broken::Tls(_) => &mut self.tls,
            Broken::WebSocket(_) => &mut self.websocket,
            Broken::Http(_) => &mut self.http,
            Broken::Proxy(_) => &mut self.proxy,
        };
        *counter += 1;
        true
    }

    /// All together.
    pub(crate) fn total(&self) -> u64 {
        self.tls + self.websocket + self.http + self.proxy
    }

    fn add(&mut self, other: &Self) {
        self.tls += other.tls;
        self.websocket += other.websocket;
        self.http += other.http;
        self.proxy += other.proxy;
    }
}
