//! What lies between a socket and MQTT: nothing, TLS, WebSocket, or WebSocket in TLS.
//!
//! A [`Transport`] says which, once for all clients. Each connection gets [`Layers`] of its own: bytes from the socket go
//! in and MQTT comes out, and the other way round. They know no socket, so that a test can hand them one byte at a time.
//! What the generator counts stays MQTT: handshakes, frames and alerts are not seen above this module.

mod tickets;
mod tls;
mod web_socket;

#[cfg(test)]
mod tests;

pub use tls::TlsSettings;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;

use tls::Tls;
use web_socket::{Upgrade, WebSocket};

/// Buffers up to this size stay with an idle connection, larger ones are given back.
const IDLE_BYTES_MAX: usize = 1 << 10;

/// What MQTT travels on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TransportKind {
    /// TCP alone
    #[default]
    Tcp,
    /// TLS
    Tls,
    /// WebSocket
    Ws,
    /// WebSocket in TLS
    Wss,
}

impl TransportKind {
    /// Whether there is TLS.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether there are WebSocket frames.
    pub fn has_web_socket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// What MQTT travels on, for all connections of a run.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    tls: Option<Tls>,
    upgrade: Option<Arc<Upgrade>>,
}

impl Transport {
    /// A transport of this kind to `target`; `path` is that of the WebSocket, and `settings` are for TLS.
    ///
    /// # Errors
    ///
    /// When a certificate or key cannot be read, or does not serve its purpose.
    pub fn new(kind: TransportKind, target: SocketAddr, path: &str, settings: &TlsSettings<'_>) -> Result<Self> {
        let tls = if kind.has_tls() { Some(Tls::new(settings, kind.has_web_socket())?) } else { None };
        let host = match &tls {
            Some(_) => format!("{}:{}", settings.name, target.port()),
            None => target.to_string(),
        };
        let upgrade = kind.has_web_socket().then(|| Arc::new(Upgrade { host, path: path.into() }));
        Ok(Self { tls, upgrade })
    }

    /// Whether there is TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The layers of a new connection; `None` if MQTT goes straight to the socket.
    ///
    /// # Errors
    ///
    /// When TLS cannot begin, which is the fault of its settings.
    pub fn layers(&self) -> Result<Option<Box<Layers>>> {
        if self.tls.is_none() && self.upgrade.is_none() {
            return Ok(None);
        }
        let tls = self.tls.as_ref().map(Tls::connect).transpose()?;
        let web_socket = self.upgrade.clone().map(WebSocket::new);
        let mut layers = Layers { tls, web_socket, frames: Vec::new(), outgoing: Vec::new(), sent: 0 };
        layers.go_on();
        Ok(Some(Box::new(layers)))
    }
}

/// Why layers carry nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// For people.
    pub cause: String,
    /// Whether the broker broke the rules of a layer, and did not just end the connection or refuse it.
    pub is_violation: bool,
}

impl Broken {
    fn ended(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), is_violation: false }
    }

    fn violation(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), is_violation: true }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

/// The layers of one connection.
pub struct Layers {
    tls: Option<Box<rustls::ClientConnection>>,
    web_socket: Option<WebSocket>,
    /// Frames on their way into TLS; empty between calls.
    frames: Vec<u8>,
    /// What the socket is to be given, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
}

impl Layers {
    /// Takes `bytes` from the socket, and appends what they hold of MQTT.
    ///
    /// # Errors
    ///
    /// When the connection is over; what came before is in `mqtt` all the same, and what is still to be sent is in
    /// [`Layers::unsent`].
    pub fn receive(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<(), Broken> {
        let Self { tls, web_socket, frames, outgoing, .. } = self;
        let result = match (tls, web_socket) {
            (Some(tls), Some(socket)) => tls::receive(tls, bytes, |plain| socket.receive(plain, mqtt, frames)),
            (Some(tls), None) => tls::receive(tls, bytes, |plain| {
                mqtt.extend_from_slice(plain);
                Ok(())
            }),
            (None, Some(socket)) => socket.receive(bytes, mqtt, outgoing),
            (None, None) => {
                mqtt.extend_from_slice(bytes);
                Ok(())
            }
        };
        self.go_on();
        result
    }

    /// Whether all handshakes are done, so that MQTT can go out.
    pub fn is_complete(&self) -> bool {
        self.is_secure() && self.web_socket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// What is not done yet, for people.
    pub fn missing(&self) -> Option<&'static str> {
        match () {
            () if !self.is_secure() => Some("during the TLS handshake"),
            () if !self.is_complete() => Some("before it answered the WebSocket's upgrade"),
            () => None,
        }
    }

    /// Whether an earlier TLS session was resumed; `None` without TLS, or while its handshake goes on.
    pub fn is_resumed(&self) -> Option<bool> {
        let kind = self.tls.as_ref()?.handshake_kind()?;
        Some(kind == rustls::HandshakeKind::Resumed)
    }

    /// Takes `mqtt` to be sent, if the handshakes are done; else leaves it.
    pub fn wrap(&mut self, mqtt: &mut Vec<u8>) {
        if mqtt.is_empty() || !self.is_complete() {
            return;
        }
        let Self { tls, web_socket, frames, outgoing, .. } = self;
        match (tls, web_socket) {
            (Some(_), Some(socket)) => socket.frame(mqtt, frames),
            (Some(tls), None) => tls::send(tls, mqtt),
            (None, Some(socket)) => socket.frame(mqtt, outgoing),
            (None, None) => outgoing.extend_from_slice(mqtt),
        }
        mqtt.clear();
        self.go_on();
    }

    /// Says goodbye: a close frame and close_notify, if the handshakes are done.
    pub fn close(&mut self) {
        if !self.is_complete() {
            return;
        }
        if let Some(socket) = &mut self.web_socket {
            socket.close(if self.tls.is_some() { &mut self.frames } else { &mut self.outgoing });
        }
        self.go_on();
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls::take_records(tls, &mut self.outgoing);
        }
    }

    /// What the socket is still to be given.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// Notes that the socket took so many bytes.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.outgoing.len() {
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(IDLE_BYTES_MAX);
        }
    }

    fn is_secure(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Moves on what one layer has for the next.
    fn go_on(&mut self) {
        let is_secure = self.is_secure();
        if let Some(socket) = self.web_socket.as_mut().filter(|_| is_secure) {
            socket.begin(if self.tls.is_some() { &mut self.frames } else { &mut self.outgoing });
        }
        let Some(tls) = &mut self.tls else { return };
        if is_secure && !self.frames.is_empty() {
            tls::send(tls, &self.frames);
            self.frames = Vec::new();
        }
        tls::take_records(tls, &mut self.outgoing);
    }
}
