//! What lies between a socket and MQTT: a PROXY header, TLS, WebSocket.
//!
//! ```text
//! socket ─▶ PROXY header ─▶ TLS ─▶ HTTP upgrade, then WebSocket frames ─▶ MQTT
//!           (once)          each of them only where the listener's kind has it
//! ```
//!
//! An [`Entrance`] is how the connections of one listener begin; it is made once and shared. [`Layers`] is the state of one
//! connection: bytes go in, bytes come out, and it does no I/O of its own. So a test can feed it byte by byte, a thread beside the
//! shards can compute a TLS handshake with it, and it moves with its connection from the shard that accepted it to the one where
//! its Session lives. A connection of plain TCP has none and pays nothing.
//!
//! **Invariant**: nothing here names a socket, a task or a thread. What a peer sends ends, at worst, in a [`Broken`].

mod certificate;
mod error;
mod proxy;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use certificate::PeerCertificate;
pub(crate) use error::{Broken, TransportError};
pub(crate) use tungstenite::protocol::frame::coding::CloseCode;

use crate::config::{Listener, ListenerKind};
pub(crate) use tls::validity;
use tls::{Acceptor, Tls};
use websocket::{Admittance, WebSocket};

/// Certificates, keys and revocations as they were read, and not in force yet.
pub(crate) struct FreshFiles(tls::Current);

/// How the connections of one listener begin.
pub(crate) struct Entrance {
    /// Whose PROXY headers are believed, where connections begin with one.
    senders: Option<proxy::Senders>,
    tls: Option<Acceptor>,
    websocket: Option<Arc<Admittance>>,
}

impl Entrance {
    /// How connections of `listener` begin. The largest packet bounds what one WebSocket frame may hold.
    ///
    /// # Errors
    /// What is wrong with a setting or a file.
    pub(crate) fn new(listener: &Listener, packet_bytes_max: usize) -> Result<Self, TransportError> {
        let has_tls = matches!(listener.kind, ListenerKind::Tls | ListenerKind::Wss);
        let has_websocket = matches!(listener.kind, ListenerKind::Ws | ListenerKind::Wss);
        let is_unix = listener.kind == ListenerKind::Unix;
        let senders = listener.proxy_protocol.then(|| match is_unix {
            true => Ok(proxy::Senders::anyone()),
            false => proxy::Senders::parse(&listener.proxy_senders),
        });
        Ok(Self {
            senders: senders.transpose()?,
            tls: has_tls.then(|| Acceptor::new(listener, has_websocket)).transpose()?,
            websocket: has_websocket.then(|| Admittance::new(listener, packet_bytes_max).map(Arc::new)).transpose()?,
        })
    }

    /// Reads the certificates, keys and revocations again, for connections that come from now on; those that are there go on. Returns
    /// whether something had changed. After a change of whom client certificates must come from, or of which are revoked, no TLS
    /// session is resumed that began before it.
    ///
    /// # Errors
    /// What is wrong with which file. What was read before stays in force.
    pub(crate) fn reload(&self) -> Result<bool, String> {
        let fresh = self.prepare()?;
        let has_changed = fresh.is_some();
        fresh.into_iter().for_each(|fresh| self.put_in_force(fresh));
        Ok(has_changed)
    }

    /// The first half of [`reload`](Self::reload): reads the files, and leaves it at that. `None`: nothing has changed.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(crate) fn prepare(&self) -> Result<Option<FreshFiles>, String> {
        let Some(tls) = &self.tls else { return Ok(None) };
        tls.prepare().map(|current| current.map(FreshFiles)).map_err(|error| error.to_string())
    }

    /// The second half.
    pub(crate) fn put_in_force(&self, fresh: FreshFiles) {
        if let Some(tls) = &self.tls {
            tls.put_in_force(fresh.0);
        }
    }

    /// The files that [`reload`](Self::reload) reads.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.tls.as_ref().map_or_else(Vec::new, Acceptor::files)
    }

    /// What TLS is accepted with now, for those who do without [`Layers`].
    pub(crate) fn tls_config(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.as_ref().map(Acceptor::config)
    }

    /// Whether a connection from `peer`, which is `None` for a Unix socket, may come in: where connections begin with a PROXY header,
    /// only known senders may say where they come from.
    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.senders.as_ref().is_none_or(|senders| senders.trust(peer))
    }

    /// The layers of a new connection; `None` where MQTT begins with the first byte.
    pub(crate) fn layers(&self) -> Option<Box<Layers>> {
        if self.senders.is_none() && self.tls.is_none() && self.websocket.is_none() {
            return None;
        }
        Some(Box::new(Layers {
            proxy: self.senders.is_some().then(Box::default),
            tls: self.tls.as_ref().map(Acceptor::accept),
            websocket: self.websocket.as_ref().map(|admittance| WebSocket::new(Arc::clone(admittance))),
            source: None,
            certificate: None,
            is_over: false,
        }))
    }
}

/// The layers of one connection, from the outermost to the innermost.
///
/// While a connection is idle they hold 200 bytes. With TLS it is some 8 KiB (measured: 7.7 KiB after a handshake of TLS 1.3), half of
/// which is the buffer that rustls reads into; buffers of our own are given back as soon as they are empty.
pub(crate) struct Layers {
    /// Gone once the header has come.
    proxy: Option<Box<proxy::Header>>,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    source: Option<SocketAddr>,
    certificate: Option<Arc<PeerCertificate>>,
    is_over: bool,
}

impl Layers {
    /// Takes what has come from the socket, and appends the MQTT bytes in it to `mqtt`.
    ///
    /// # Errors
    /// The end of the connection, orderly or not. What was appended before it counts: a client may send its DISCONNECT and the end of its TLS
    /// session in one go. What the layers have to say about the end is to be sent still: an alert, a close frame, an HTTP answer.
    pub(crate) fn receive(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<(), Broken> {
        if self.is_over {
            return Err(Broken::Closed);
        }
        let result = self.peel(bytes, mqtt);
        match &result {
            Ok(()) => {}
            // An alert is the last word of TLS; and before a PROXY header there is none.
            Err(Broken::Tls(_) | Broken::Proxy(_)) => self.is_over = true,
            Err(Broken::Closed | Broken::WebSocket(_) | Broken::Http(_)) => self.finish(),
        }
        result
    }

    fn peel(&mut self, mut bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<(), Broken> {
        if let Some(header) = &mut self.proxy {
            let Some((origin, length)) = header.receive(bytes)? else { return Ok(()) };
            self.proxy = None;
            self.source = origin.source;
            self.certificate = origin.common_name.map(|name| Arc::new(PeerCertificate::of_common_name(&name)));
            bytes = &bytes[length..];
        }
        let websocket = &mut self.websocket;
        let mut inner = |bytes: &[u8]| match websocket {
            Some(websocket) => websocket.receive(bytes, mqtt),
            None => {
                mqtt.extend_from_slice(bytes);
                Ok(())
            }
        };
        let Some(tls) = &mut self.tls else { return inner(bytes) };
        let result = tls.receive(bytes, &mut inner);
        if let Some(certificate) = tls.take_certificate() {
            self.certificate = Some(Arc::new(certificate));
        }
        result
    }

    /// Whether TLS is among them.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the next bytes may ask for costly computation, which is not to be done on a shard: a TLS handshake is under way.
    pub(crate) fn is_costly(&self) -> bool {
        !self.is_over && self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Whether all handshakes are done, so that what comes now is MQTT.
    pub(crate) fn is_complete(&self) -> bool {
        self.proxy.is_none()
            && !self.tls.as_ref().is_some_and(Tls::is_handshaking)
            && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Appends to `out` what the socket is to be sent for these MQTT bytes, after what the layers themselves have to send. After the end
    /// it is only the latter.
    pub(crate) fn wrap(&mut self, mqtt: &[u8], out: &mut Vec<u8>) {
        self.take_outgoing(out);
        if self.is_over {
            return;
        }
        match (&mut self.websocket, &mut self.tls) {
            (None, None) => out.extend_from_slice(mqtt),
            (None, Some(tls)) => tls.wrap(&[mqtt], out),
            (Some(websocket), None) => {
                if let Some(header) = websocket.header_for(mqtt) {
                    out.extend_from_slice(&header);
                    out.extend_from_slice(mqtt);
                }
            }
            (Some(websocket), Some(tls)) => {
                if let Some(header) = websocket.header_for(mqtt) {
                    tls.wrap(&[&header, mqtt], out);
                }
            }
        }
    }

    /// Appends what the layers themselves have to send: handshakes, answers to pings, alerts, close frames. Returns whether there was
    /// anything.
    ///
    /// Until it is taken it does not grow, whatever the peer sends: of many pings the newest is answered. So a peer that does not read
    /// is best left with it, while it is still being sent something.
    pub(crate) fn take_outgoing(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let of_websocket = self.websocket.as_mut().map(WebSocket::take_outgoing).unwrap_or_default();
        match &mut self.tls {
            Some(tls) => tls.wrap(&[&of_websocket], out),
            None => out.extend_from_slice(&of_websocket),
        }
        out.len() > before
    }

    /// Says goodbye: the close frame of the WebSocket and the end of the TLS session are then to be sent.
    pub(crate) fn close(&mut self, code: CloseCode) {
        if let Some(websocket) = &mut self.websocket {
            websocket.close(code);
        }
        self.finish();
    }

    /// Ends the TLS session after what the WebSocket has to say.
    fn finish(&mut self) {
        self.is_over = true;
        if let Some(tls) = &mut self.tls {
            let of_websocket = self.websocket.as_mut().map(WebSocket::take_outgoing).unwrap_or_default();
            tls.close(&of_websocket);
        }
    }

    /// Where the connection comes from by its PROXY header; `None` where there was none, or it does not say.
    pub(crate) fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// The certificate that the client has shown, to us or to the sender of the PROXY header, and that was verified.
    pub(crate) fn certificate(&self) -> Option<Arc<PeerCertificate>> {
        self.certificate.clone()
    }
}

// They move from shard to shard, and to threads beside them.
const _: () = {
    const fn is_send<T: Send>() {}
    const fn is_sync<T: Sync>() {}
    is_send::<Layers>();
    is_sync::<Entrance>();
};
