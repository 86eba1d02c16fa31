//! How layers end, and what keeps an entrance from being opened.

use std::fmt;
use std::path::PathBuf;

use super::proxy::ProxyFault;
use super::tls::TlsFault;
use super::websocket::{HttpFault, WebSocketFault};

/// Why a connection ends in one of its layers.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The peer ended it in good order: the end of its TLS session, or a close frame.
    Closed,
    /// The peer broke the rules of TLS, or has no certificate that we accept.
    Tls(TlsFault),
    /// The peer broke the rules of WebSocket, or sent text.
    WebSocket(WebSocketFault),
    /// There is no PROXY header, or it is wrong.
    Proxy(ProxyFault),
    /// An HTTP request that does not become a WebSocket.
    Http(HttpFault),
}

impl Broken {
    /// A word for its kind, whatever the details.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Tls(_) => "tls",
            Self::WebSocket(_) => "websocket",
            Self::Proxy(_) => "proxy",
            Self::Http(_) => "http",
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the peer"),
            Self::Tls(fault) => write!(f, "TLS: {fault}"),
            Self::WebSocket(fault) => write!(f, "WebSocket: {fault}"),
            Self::Proxy(fault) => write!(f, "PROXY protocol: {fault}"),
            Self::Http(fault) => write!(f, "HTTP: {fault}"),
        }
    }
}

/// What keeps an entrance from being opened: a setting or a file of its listener.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// A setting of the listener cannot be used as it is.
    Setting {
        /// Its key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be used.
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl TransportError {
    pub(super) fn setting(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { key, problem: problem.into() }
    }

    pub(super) fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into() }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { key, problem } => write!(f, "{key}: {problem}"),
            Self::File { path, problem } => write!(f, "{}: {problem}", path.display()),
        }
    }
}

impl std::error::Error for TransportError {}
