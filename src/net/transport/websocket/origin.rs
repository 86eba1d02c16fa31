//! Which pages a browser may open a WebSocket from (RFC 6454, RFC 6455 §10.2).
//!
//! A browser lets any page connect anywhere, with the user's certificate; but it says which page it was. So it is up to us.

use std::net::IpAddr;

use crate::config::{Listener, ListenerKind};
use crate::net::transport::TransportError;

/// The origins that are let in.
pub(super) enum Origins {
    Any,
    /// Pages of the host and port that the client connects to.
    Same {
        has_tls: bool,
        /// The host must be an address, or the machine's own name: another name may be made to mean this machine after its page was
        /// loaded (DNS rebinding), and there is nothing else that keeps such a page out.
        is_nameless: bool,
    },
    These(Vec<Origin>),
}

/// Scheme, host and port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origins {
    pub(super) fn of(listener: &Listener) -> Result<Self, TransportError> {
        let texts = &listener.websocket_origins;
        if texts.iter().any(|text| text == "*") {
            return Ok(Self::Any);
        }
        if texts.is_empty() {
            return Ok(Self::Same {
                has_tls: listener.kind == ListenerKind::Wss,
                is_nameless: listener.anonymous && listener.is_for_this_machine(),
            });
        }
        let origins = texts.iter().map(|text| {
            let problem = || format!("{text:?} is no origin such as \"https://example.org\"");
            Origin::parse(text).ok_or_else(|| TransportError::setting("websocket_origins", problem()))
        });
        Ok(Self::These(origins.collect::<Result<_, _>>()?))
    }

    /// Whether a page of this origin may connect to this host. What cannot be read, such as the origin "null" of a page that has none,
    /// is let in with "*" only.
    pub(super) fn allow(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(these) => Origin::parse(origin).is_some_and(|origin| these.contains(&origin)),
            Self::Same { has_tls, is_nameless } => Origin::parse(origin).is_some_and(|origin| {
                // Before a listener without TLS there may be a proxy with it, so the origin's own scheme says what the port is when
                // Host does not. With TLS there is only one.
                (!has_tls || origin.scheme == "https")
                    && (!is_nameless || is_nameless_host(&origin.host))
                    && host_and_port(host, &origin.scheme)
                        .is_some_and(|(host, port)| (host, port) == (origin.host, origin.port))
            }),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = host_and_port(rest, &scheme)?;
        Some(Self { scheme, host, port })
    }
}

/// Whether a host is an address, or the machine's own name.
fn is_nameless_host(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok()
}

/// Host in lower case, and port, which the scheme says where it is not there. `None` for what is neither.
fn host_and_port(text: &str, scheme: &str) -> Option<(String, u16)> {
    // The colons in the address of `[2001:db8::1]:8083` are none of a port.
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port = match (port, scheme) {
        (Some(port), _) => port.parse().ok()?,
        (None, "https" | "wss") => 443,
        (None, "http" | "ws") => 80,
        // Apps have schemes of their own, without ports.
        (None, _) => 0,
    };
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
    is_host.then(|| (host.to_ascii_lowercase(), port))
}
