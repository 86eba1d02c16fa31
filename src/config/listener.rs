//! What follows from the settings of a listener.

use std::net::SocketAddr;
use std::path::Path;

use super::{Authenticator, AuthenticatorKind, ClientCertificates, Listener, ListenerKind};

/// Where a listener listens. Whatever else changes about it, one at the same place is the same listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenerPlace<'a> {
    /// At an IP address and port.
    Address(SocketAddr),
    /// At the path of a Unix socket.
    Path(&'a Path),
    /// On the socket of this name that systemd has opened.
    Systemd(&'a str),
}

impl ListenerKind {
    /// Whether clients speak TLS here.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether MQTT comes in WebSocket frames here.
    pub fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

impl Listener {
    /// Whether it has an IP address, and only the machine itself can reach it: a proxy lets others in. Of a socket that systemd has
    /// opened, the settings do not say where it is.
    pub fn is_for_this_machine(&self) -> bool {
        self.has_address() && self.address.ip().is_loopback() && !self.proxy_protocol
    }

    /// Whether it listens at [`Listener::address`].
    pub fn has_address(&self) -> bool {
        self.kind != ListenerKind::Unix && self.systemd.is_none()
    }

    /// Where it listens.
    pub fn place(&self) -> ListenerPlace<'_> {
        match (&self.systemd, &self.path) {
            (Some(name), _) => ListenerPlace::Systemd(name),
            (None, Some(path)) if self.kind == ListenerKind::Unix => ListenerPlace::Path(path),
            _ => ListenerPlace::Address(self.address),
        }
    }

    /// The authenticators that are asked about its clients, in this order. Where it names none, it is all that can tell anything
    /// about clients of its kind.
    pub fn authenticators_of<'a>(&self, all: &'a [Authenticator]) -> Vec<&'a Authenticator> {
        match &self.authenticators {
            None => all.iter().filter(|authenticator| self.can_ask(authenticator.kind)).collect(),
            Some(names) => {
                names.iter().filter_map(|name| all.iter().find(|authenticator| authenticator.name == *name)).collect()
            }
        }
    }

    /// Whether its clients are to be asked who they are, even where nobody could tell: a listener is not open to everybody because of
    /// an authenticator that does not fit it.
    pub(super) fn wants_authentication(&self, all: &[Authenticator]) -> bool {
        self.authenticators.as_ref().map_or(!all.is_empty(), |names| !names.is_empty())
    }

    /// Whether its clients can have what this kind of authenticator looks at.
    pub(super) fn can_ask(&self, kind: AuthenticatorKind) -> bool {
        match kind {
            AuthenticatorKind::Password | AuthenticatorKind::Jwt | AuthenticatorKind::Http => true,
            // A proxy that ended TLS passes the name of the certificate on.
            AuthenticatorKind::Certificate => {
                self.proxy_protocol || self.kind.has_tls() && self.client_certificates != ClientCertificates::None
            }
            AuthenticatorKind::Peer => self.knows_process(),
        }
    }

    /// Whether the kernel tells whose process a client is. Behind a proxy it tells of that one, whoever comes through it.
    pub(crate) fn knows_process(&self) -> bool {
        self.kind == ListenerKind::Unix && !self.proxy_protocol
    }
}
