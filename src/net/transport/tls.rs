//! TLS: what a listener accepts connections with, and how that is read again while it runs.

mod files;
mod names;
mod session;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ProducesTickets, ServerConfig, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
};

pub(super) use session::Tls;
pub(crate) use session::TlsFault;

use super::TransportError;
use super::certificate::ServerNames;
use crate::config::{ClientCertificates, Listener, TlsVersion};
use files::{Files, Pair};
use names::Certificates;

/// From when until when the certificate of a server in a file (PEM) is valid: the first in it.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn validity(path: &Path) -> Result<(SystemTime, SystemTime), TransportError> {
    let pem = std::fs::read(path).map_err(|error| TransportError::file(path, format!("cannot be read: {error}")))?;
    let chain = files::certificates(path, &pem)?;
    let leaf = chain.first().map(|leaf| ServerNames::read(leaf));
    match leaf {
        Some(Ok(names)) => Ok(names.validity()),
        _ => Err(TransportError::file(path, "the certificate in it cannot be read")),
    }
}

/// Sessions of TLS 1.2 clients without tickets that can be resumed. All others keep their sessions themselves, in tickets.
const SESSIONS_MAX: usize = 4096;

/// Accepts TLS connections with the certificates that are in force.
pub(super) struct Acceptor {
    files: Files,
    terms: Terms,
    provider: Arc<CryptoProvider>,
    /// Taken for a moment by each new connection, and for a moment by a reload.
    current: Mutex<Current>,
}

/// What does not change while a listener is open.
struct Terms {
    version_min: TlsVersion,
    client_certificates: ClientCertificates,
    /// What is spoken inside (RFC 7301).
    protocol: &'static [u8],
}

/// What is in force, or is about to be.
pub(super) struct Current {
    config: Arc<ServerConfig>,
    resumption: Resumption,
    /// What the files held, to see whether they have changed.
    contents: files::Contents,
}

/// The memory of earlier sessions, so that a client that comes back needs no signature and shows no certificate again.
#[derive(Clone)]
struct Resumption {
    sessions: Arc<dyn StoresServerSessions>,
    /// Keys for tickets, which it changes every six hours.
    tickets: Arc<dyn ProducesTickets>,
}

impl Acceptor {
    /// Reads all files of `listener`. Inside its TLS there is WebSocket, or MQTT.
    pub(super) fn new(listener: &Listener, has_websocket: bool) -> Result<Self, TransportError> {
        let files = Files::of(listener)?;
        let terms = Terms {
            version_min: listener.tls_version_min,
            client_certificates: listener.client_certificates,
            protocol: if has_websocket { b"http/1.1" } else { b"mqtt" },
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let contents = files.read()?;
        let resumption = Resumption::new()?;
        let config = server_config(&files, &contents, &terms, &provider, &resumption)?;
        let current = Mutex::new(Current { config, resumption, contents });
        Ok(Self { files, terms, provider, current })
    }

    /// Begins TLS on a new connection.
    pub(super) fn accept(&self) -> Tls {
        Tls::new(self.config())
    }

    /// What new connections are accepted with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Reads the files, for [`Acceptor::put_in_force`]; `None` where they have not changed.
    pub(super) fn prepare(&self) -> Result<Option<Current>, TransportError> {
        let contents = self.files.read()?;
        let mut resumption = {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if contents == current.contents {
                return Ok(None);
            }
            // Who resumes a session does not show its certificate again. So nobody may resume one whose certificate might be
            // refused today.
            (contents.client_trust == current.contents.client_trust).then(|| current.resumption.clone())
        };
        let resumption = match resumption.take() {
            Some(resumption) => resumption,
            None => Resumption::new()?,
        };
        let config = server_config(&self.files, &contents, &self.terms, &self.provider, &resumption)?;
        Ok(Some(Current { config, resumption, contents }))
    }

    /// Takes files over as they were read, for connections that come from now on.
    pub(super) fn put_in_force(&self, current: Current) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.paths().map(Path::to_path_buf).collect()
    }
}

impl Resumption {
    fn new() -> Result<Self, TransportError> {
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new()
            .map_err(|error| TransportError::setting("kind", format!("no random numbers for TLS: {error}")))?;
        Ok(Self { sessions: ServerSessionMemoryCache::new(SESSIONS_MAX), tickets })
    }
}

fn server_config(
    files: &Files,
    contents: &files::Contents,
    terms: &Terms,
    provider: &Arc<CryptoProvider>,
    resumption: &Resumption,
) -> Result<Arc<ServerConfig>, TransportError> {
    let versions: &[&rustls::SupportedProtocolVersion] = match terms.version_min {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| TransportError::setting("tls_version_min", error.to_string()))?;
    let builder = match terms.client_certificates {
        ClientCertificates::None => builder.with_no_client_auth(),
        asked => builder.with_client_cert_verifier(client_verifier(files, contents, asked, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates(files, contents, provider)?));
    config.alpn_protocols = vec![terms.protocol.to_vec()];
    config.session_storage = Arc::clone(&resumption.sessions);
    config.ticketer = Arc::clone(&resumption.tickets);
    // No early data: it can be replayed, and a PUBLISH that is replayed is a lie. (It is the default, and has to stay so.)
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Who decides whether a client certificate is accepted.
fn client_verifier(
    files: &Files,
    contents: &files::Contents,
    asked: ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TransportError> {
    let path = files.authorities().ok_or_else(|| {
        TransportError::setting("client_authorities", "it must be given where client certificates are asked for")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(path, &contents.client_trust.authorities)? {
        roots.add(certificate).map_err(|error| TransportError::file(path, format!("no authority: {error}")))?;
    }
    let roots = Arc::new(roots);
    let lists = files.revocations().zip(&contents.client_trust.revocations);
    let mut revocations = Vec::new();
    for (path, bytes) in lists {
        let of_file = files::revocations(path, bytes)?;
        // Each file by itself, so that it is known which one is wrong.
        verifier_with(&roots, of_file.clone(), asked, provider)
            .map_err(|problem| TransportError::file(path, problem))?;
        revocations.extend(of_file);
    }
    verifier_with(&roots, revocations, asked, provider).map_err(|problem| TransportError::file(path, problem))
}

fn verifier_with(
    roots: &Arc<RootCertStore>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
    asked: ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    // With lists, each certificate of a chain has to be one that a list speaks for.
    let builder = builder.with_crls(revocations);
    let builder = match asked {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::None | ClientCertificates::Required => builder,
    };
    builder.build().map_err(|error| format!("it cannot be used to check client certificates: {error}"))
}

/// The certificates that we show, each with its key.
fn certificates(
    files: &Files,
    contents: &files::Contents,
    provider: &CryptoProvider,
) -> Result<Certificates, TransportError> {
    let mut certificates = Certificates::default();
    for (Pair { certificate, key }, (chain, private)) in files.pairs().zip(&contents.pairs) {
        let certified = files::certified_key(certificate, chain, key, private, provider)?;
        let names = certified.end_entity_cert().ok().and_then(|certificate| ServerNames::read(certificate).ok());
        let names =
            names.ok_or_else(|| TransportError::file(certificate, "the certificate breaks the rules of X.509"))?;
        if let Some(problem) = names.out_of_date(SystemTime::now()) {
            tracing::warn!(file = %certificate.display(), "{problem}; clients that check it will not connect");
        }
        certificates.add(names.dns, Arc::new(certified));
    }
    Ok(certificates)
}
