//! Which certificate is shown to a client, by the name that it asks for (SNI, RFC 6066 §3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of a listener.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    /// Places in `all` by DNS name, in lower case; several where there is a certificate for each kind of key.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Adds a certificate for these DNS names. The first one is also for clients that ask for none of them.
    pub(super) fn add(&mut self, names: Vec<String>, certificate: Arc<CertifiedKey>) {
        for name in names {
            self.by_name.entry(name).or_default().push(self.all.len());
        }
        self.all.push(certificate);
    }

    /// Places of the certificates for `name`, or else of those for all names beside it.
    fn places(&self, name: &str) -> Option<&[usize]> {
        let name = name.to_ascii_lowercase();
        let exact = self.by_name.get(&name);
        let places = exact.or_else(|| self.by_name.get(&format!("*.{}", name.split_once('.')?.1)))?;
        Some(places)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let places = hello.server_name().and_then(|name| self.places(name)).unwrap_or_default();
        let of_name = || places.iter().filter_map(|&place| self.all.get(place));
        let can_verify = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        of_name().find(can_verify).or_else(|| of_name().next()).or_else(|| self.all.first()).cloned()
    }
}
