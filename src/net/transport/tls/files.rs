//! The files of a TLS listener, and what can be wrong with them.

use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use crate::config::{ClientCertificates, Listener};
use crate::net::transport::TransportError;

/// Where the certificates, keys and revocations of a listener are.
pub(super) struct Files {
    pairs: Vec<Pair>,
    authorities: Option<PathBuf>,
    revocations: Vec<PathBuf>,
}

/// A certificate chain and its key.
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What the files held when they were read, in their order.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) client_trust: ClientTrust,
}

/// What decides which client certificates are accepted.
#[derive(PartialEq, Eq)]
pub(super) struct ClientTrust {
    pub(super) authorities: Vec<u8>,
    pub(super) revocations: Vec<Vec<u8>>,
}

impl Files {
    pub(super) fn of(listener: &Listener) -> Result<Self, TransportError> {
        let (certificates, keys) = (listener.certificates.len(), listener.keys.len());
        if certificates == 0 {
            return Err(TransportError::setting("certificates", "a listener with TLS needs a certificate"));
        }
        if certificates != keys {
            let problem = format!("{keys} keys for {certificates} certificates; each needs one, in the same order");
            return Err(TransportError::setting("keys", problem));
        }
        let asks = listener.client_certificates != ClientCertificates::None;
        if asks && listener.client_authorities.is_none() {
            let problem = "it must be given where client certificates are asked for";
            return Err(TransportError::setting("client_authorities", problem));
        }
        let pairs = listener.certificates.iter().zip(&listener.keys);
        Ok(Self {
            pairs: pairs.map(|(certificate, key)| Pair { certificate: certificate.into(), key: key.into() }).collect(),
            authorities: listener.client_authorities.clone().filter(|_| asks),
            revocations: listener.client_revocations.iter().filter(|_| asks).map(PathBuf::from).collect(),
        })
    }

    pub(super) fn read(&self) -> Result<Contents, TransportError> {
        let pairs = self.pairs().map(|pair| Ok((read(&pair.certificate)?, read(&pair.key)?)));
        let client_trust = ClientTrust {
            authorities: self.authorities().map(read).transpose()?.unwrap_or_default(),
            revocations: self.revocations().map(read).collect::<Result<_, _>>()?,
        };
        Ok(Contents { pairs: pairs.collect::<Result<_, _>>()?, client_trust })
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter()
    }

    pub(super) fn authorities(&self) -> Option<&Path> {
        self.authorities.as_deref()
    }

    pub(super) fn revocations(&self) -> impl Iterator<Item = &Path> {
        self.revocations.iter().map(PathBuf::as_path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let of_pairs = self.pairs.iter().flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()]);
        of_pairs.chain(self.authorities()).chain(self.revocations())
    }
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, TransportError> {
    let path = path.as_ref();
    std::fs::read(path).map_err(|error| TransportError::file(path, format!("cannot be read: {error}")))
}

/// All certificates in a file, of which there has to be one.
pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| TransportError::file(path, format!("is no PEM: {error}")))?;
    match certificates.is_empty() {
        true => Err(TransportError::file(path, "there is no certificate in it (\"-----BEGIN CERTIFICATE-----\")")),
        false => Ok(certificates),
    }
}

/// All lists of revoked certificates in a file, of which there has to be one.
pub(super) fn revocations(
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TransportError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|error| TransportError::file(path, format!("is no PEM: {error}")))?;
    match lists.is_empty() {
        true => Err(TransportError::file(
            path,
            "there is no list of revoked certificates in it (\"-----BEGIN X509 CRL-----\")",
        )),
        false => Ok(lists),
    }
}

/// A certificate chain with its private key.
pub(super) fn certified_key(
    certificate: &Path,
    chain: &[u8],
    key: &Path,
    private: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TransportError> {
    let chain = certificates(certificate, chain)?;
    let private = private_key(key, private)?;
    let private = provider
        .key_provider
        .load_private_key(private)
        .map_err(|error| TransportError::file(key, format!("the key cannot be used: {error}")))?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err(TransportError::file(key, format!("the key does not fit the certificate in {}", certificate.display())))
        }
        Err(error) => Err(TransportError::file(certificate, format!("the certificate cannot be used: {error}"))),
    }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TransportError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let holds = |text: &str| pem.windows(text.len()).any(|window| window == text.as_bytes());
        let problem = match error {
            _ if holds("ENCRYPTED") => {
                "the key is encrypted; we have no one to ask for its password, so decrypt it and protect the file"
                    .into()
            }
            rustls::pki_types::pem::Error::NoItemsFound => "there is no private key in it".into(),
            error => format!("is no PEM: {error}"),
        };
        TransportError::file(path, problem)
    })
}
