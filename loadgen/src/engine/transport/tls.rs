//! TLS of a client: its settings, and the bytes that go through.

use std::io::{BufRead, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, RootCertStore, SignatureScheme,
};

use super::Broken;
use super::tickets::Tickets;

/// Where distributions keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What TLS is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsSettings<'a> {
    /// File with the authorities that the broker's certificate must come from; the system's if there is none.
    pub authorities: Option<&'a Path>,
    /// The name that is asked for (SNI) and that the certificate must have.
    pub name: &'a str,
    /// Files with the clients' certificate and its key.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// Whether any certificate will do.
    pub accepts_any: bool,
    /// Whether sessions are resumed where the broker allows it.
    pub resumes: bool,
    /// Whether the key exchange that withstands quantum computers is offered first.
    pub is_post_quantum: bool,
}

/// TLS of all connections of a run.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(settings: &TlsSettings<'_>, is_web: bool) -> Result<Self> {
        let provider = Arc::new(provider(settings.is_post_quantum));
        let verifier = verifier(settings, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS")?
            .dangerous() // That is how a verifier of one's own is set, the careful one included.
            .with_custom_certificate_verifier(verifier);
        let mut config = match settings.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate).context("--cert")?, private_key(key).context("--key")?)
                .context("--cert and --key")?,
        };
        config.alpn_protocols = vec![if is_web { b"http/1.1".to_vec() } else { b"mqtt".to_vec() }];
        // A client that comes anew pays for a whole handshake, and so does the broker; that is what is to be measured.
        config.resumption = match settings.resumes {
            true => Resumption::store(Arc::new(Tickets::default())),
            false => Resumption::disabled(),
        };
        let name =
            ServerName::try_from(settings.name.to_owned()).with_context(|| format!("--tls-name {}", settings.name))?;
        Ok(Self { config: Arc::new(config), name })
    }

    pub(super) fn connect(&self) -> Result<Box<ClientConnection>> {
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).context("TLS")?;
        connection.set_buffer_limit(None); // The engine bounds what a client may have to send.
        Ok(Box::new(connection))
    }
}

/// The usual algorithms. Without `is_post_quantum` the key exchange is one of those that devices have today.
fn provider(is_post_quantum: bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !is_post_quantum {
        provider.kx_groups.retain(|group| group.name() != NamedGroup::X25519MLKEM768);
    }
    provider
}

fn verifier(settings: &TlsSettings<'_>, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    if settings.accepts_any {
        return Ok(Arc::new(AnyCertificate(Arc::clone(provider))));
    }
    let mut roots = RootCertStore::empty();
    let (option, path) = match settings.authorities {
        Some(path) => ("--ca", path),
        None => {
            let system = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
            (
                "without --ca",
                system.context("this system names no authorities that it trusts: --ca FILE does, or --insecure")?,
            )
        }
    };
    let (added, _) = roots.add_parsable_certificates(certificates(path).context(option)?);
    ensure!(added > 0, "{option}: {} has no certificate of an authority", path.display());
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().context(option)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let of_file = || format!("{}: no certificates in PEM", path.display());
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).with_context(of_file)?.collect();
    let found = found.with_context(of_file)?;
    if found.is_empty() {
        bail!(of_file());
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("{}: no private key in PEM", path.display()))
}

/// Takes `bytes` from the socket, and hands on what they hold.
pub(super) fn receive(
    connection: &mut ClientConnection,
    mut bytes: &[u8],
    mut on_plain: impl FnMut(&[u8]) -> Result<(), Broken>,
) -> Result<(), Broken> {
    while !bytes.is_empty() {
        // It takes a part where it has much to decrypt first.
        let taken = connection.read_tls(&mut bytes).map_err(|error| Broken::violation(format!("TLS: {error}")))?;
        let processed = connection.process_new_packets();
        drain(connection, &mut on_plain)?;
        let state = processed.map_err(|error| explain(&error))?;
        if state.peer_has_closed() || taken == 0 {
            return Err(Broken::ended("closed by the broker"));
        }
    }
    Ok(())
}

/// Hands on what is decrypted.
fn drain(
    connection: &mut ClientConnection,
    on_plain: &mut impl FnMut(&[u8]) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut reader = connection.reader();
    loop {
        let count = match reader.fill_buf() {
            Ok([]) => return Ok(()), // The end, which whoever asked for the packets sees as well.
            Ok(plain) => {
                on_plain(plain)?;
                plain.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Broken::violation(format!("TLS: {error}"))),
        };
        reader.consume(count);
    }
}

/// Encrypts `plain`.
pub(super) fn send(connection: &mut ClientConnection, plain: &[u8]) {
    connection.writer().write_all(plain).expect("there is no limit, and memory does not fail");
}

/// Appends what the socket is to be given.
pub(super) fn take_records(connection: &mut ClientConnection, out: &mut Vec<u8>) {
    while connection.wants_write() {
        connection.write_tls(out).expect("a vector takes everything");
    }
}

/// What an error means to the person at the terminal.
fn explain(error: &Error) -> Broken {
    match error {
        Error::AlertReceived(alert) => Broken::ended(format!("TLS: the broker refused the connection ({alert:?})")),
        Error::InvalidCertificate(reason) => Broken::ended(format!(
            "TLS: the broker's certificate does not hold: {reason} (--ca and --tls-name say what is expected, --insecure \
             takes any)"
        )),
        Error::InvalidMessage(_) => {
            Broken::violation(format!("TLS: {error} (does the broker speak TLS at this address?)"))
        }
        _ => Broken::violation(format!("TLS: {error}")),
    }
}

/// Accepts any certificate, as `--insecure` asks for: a generator has nothing to hide from a broker under test.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
