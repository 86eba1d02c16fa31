//! Who may come in: HTTPS, client certificates and tokens, from the files of `[admin]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;

use super::places::Places;
use super::tokens::{Scope, Tokens};
use crate::config::{Admin, ClientCertificates, Listener, ListenerKind};
use crate::net::logging::Seldom;
use crate::net::reload::Watched;
use crate::net::transport::{Entrance, FreshFiles, PeerCertificate};
use crate::timer::Moment;

/// Where it listens unless the settings say so, if nobody else does.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Who sends a request, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// For the log.
    pub(super) name: String,
    pub(super) scope: Scope,
}

/// Where a connection comes from, and who is at its other end as far as TLS knows.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Of the client certificate, which is verified.
    pub(super) certificate: Option<Arc<PeerCertificate>>,
}

/// How requests can tell who sends them.
pub(super) struct Schemes {
    pub(super) has_tokens: bool,
    pub(super) has_certificates: bool,
}

/// What the log and a reload call the files of [`Access`].
const OF_TLS: &str = "certificate of the HTTP server";
const OF_TOKENS: &str = "tokens of the HTTP server";

/// The files of [`Access`] as they were read, and not in force yet.
pub(crate) struct FreshAccess {
    tls: Option<FreshFiles>,
    tokens: Option<Tokens>,
}

/// What decides who may come in. The files may change while it is used.
pub(crate) struct Access {
    /// Where it listens.
    pub(super) address: SocketAddr,
    tls: Option<Entrance>,
    token_file: Option<PathBuf>,
    tokens: RwLock<Tokens>,
    asks_for_certificates: bool,
    /// Requests that were turned away because nobody knows who sent them, or because they may not.
    refused: AtomicU64,
    /// The connections of those who come in, and of those who do not.
    pub(super) places: Places,
    complaints: Mutex<Seldom>,
}

impl Access {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub(crate) fn new(admin: &Admin) -> Result<Self, String> {
        let tls = admin.certificate.is_some().then(|| entrance(admin)).transpose()?;
        let tokens = admin.token_file.as_deref().map(Tokens::read).transpose()?;
        Ok(Self {
            address: admin.address.unwrap_or(ADDRESS),
            tls,
            token_file: admin.token_file.clone(),
            tokens: RwLock::new(tokens.unwrap_or_default()),
            asks_for_certificates: admin.client_authorities.is_some(),
            refused: AtomicU64::new(0),
            places: Places::new(admin.connections_max as usize),
            complaints: Mutex::default(),
        })
    }

    /// What HTTPS is spoken with; `None` where it is HTTP.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.as_ref().and_then(Entrance::tls_config)
    }

    /// How requests can tell who sends them.
    pub(super) fn schemes(&self) -> Schemes {
        Schemes { has_tokens: self.token_file.is_some(), has_certificates: self.asks_for_certificates }
    }

    /// Whether whoever reaches the address may do everything.
    pub(super) fn is_open(&self) -> bool {
        self.token_file.is_none() && !self.asks_for_certificates
    }

    /// Who sends a request with this token, from the other end of this connection; `None`: nobody knows.
    pub(super) fn caller(&self, peer: &Peer, token: Option<&str>) -> Option<Caller> {
        if let Some(token) = token.filter(|_| self.token_file.is_some()) {
            // A token that is wrong is not made good by a certificate: whoever sends it means to be somebody.
            let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
            let (name, scope) = tokens.find(token)?;
            return Some(Caller { name: name.to_owned(), scope });
        }
        if let Some(certificate) = &peer.certificate {
            let name = certificate.field("cert.cn").unwrap_or("without a name");
            return Some(Caller { name: format!("certificate {name:?}"), scope: Scope::Write });
        }
        self.is_open().then(|| Caller { name: "anyone".to_owned(), scope: Scope::Write })
    }

    /// Notes that a request was turned away, in the log now and then.
    pub(super) fn note_refused(&self, now: Moment, peer: &Peer, problem: &str) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.is_time(now) {
            tracing::warn!(peer = %peer.address, refused, "an HTTP request is turned away: {problem}");
        }
    }

    /// Requests that were turned away.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections that had to make room for others.
    pub(crate) fn given_up(&self) -> u64 {
        self.places.given_up()
    }

    /// The files, to be read again when they change.
    pub(crate) fn watched(self: &Arc<Self>) -> Vec<Watched> {
        let (of_tls, of_tokens) = (Arc::clone(self), Arc::clone(self));
        vec![
            Watched {
                name: OF_TLS.to_owned(),
                files: self.tls.as_ref().map_or_else(Vec::new, Entrance::files),
                load: Box::new(move || of_tls.tls.as_ref().map_or(Ok(false), Entrance::reload)),
            },
            Watched {
                name: OF_TOKENS.to_owned(),
                files: self.token_file.iter().cloned().collect(),
                load: Box::new(move || of_tokens.reload_tokens()),
            },
        ]
    }

    /// Reads all files and leaves it at that, for [`Self::put_in_force`].
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub(crate) fn prepare(&self) -> Result<FreshAccess, String> {
        let tls = self.tls.as_ref().map(Entrance::prepare).transpose()?.flatten();
        let tokens = self.token_file.as_deref().map(Tokens::read).transpose()?;
        Ok(FreshAccess { tls, tokens })
    }

    /// Takes files over as they were read; the names of those that have changed, as in [`Self::watched`].
    pub(crate) fn put_in_force(&self, fresh: FreshAccess) -> Vec<&'static str> {
        let mut changed = Vec::new();
        if let (Some(entrance), Some(files)) = (&self.tls, fresh.tls) {
            entrance.put_in_force(files);
            changed.push(OF_TLS);
        }
        if fresh.tokens.is_some_and(|tokens| self.set_tokens(tokens)) {
            changed.push(OF_TOKENS);
        }
        changed
    }

    fn reload_tokens(&self) -> Result<bool, String> {
        let Some(file) = &self.token_file else { return Ok(false) };
        Ok(self.set_tokens(Tokens::read(file)?))
    }

    /// Whether they are others than before.
    fn set_tokens(&self, tokens: Tokens) -> bool {
        let mut current = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = *current != tokens;
        *current = tokens;
        has_changed
    }
}

/// HTTPS is the TLS of a listener, whose files are read and checked in one place. A certificate is asked for and not demanded: whether a
/// request needs to tell who sends it depends on the request.
fn entrance(admin: &Admin) -> Result<Entrance, String> {
    let text = |path: &Option<PathBuf>| path.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let listener = Listener {
        kind: ListenerKind::Wss, // HTTP inside TLS.
        certificates: text(&admin.certificate),
        keys: text(&admin.key),
        client_authorities: admin.client_authorities.clone(),
        client_certificates: match admin.client_authorities {
            Some(_) => ClientCertificates::Optional,
            None => ClientCertificates::None,
        },
        ..Listener::default()
    };
    Entrance::new(&listener, 0).map_err(|error| error.to_string())
}
