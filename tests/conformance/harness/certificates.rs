//! Certificates of an authority that lives as long as the tests.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A client with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Camera,
    /// Of another authority.
    Stranger,
}

/// A folder with `ca.pem`, `server.pem`, `server.key`, and a certificate and a key for each owner.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("certificates-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (authority, pem) = authority("authority of the tests");
        let (other, _) = self::authority("authority of others");
        fs::write(folder.join("ca.pem"), pem).unwrap();
        issue(&folder, &authority, "server", &["127.0.0.1", "localhost"]);
        issue(&folder, &authority, "camera", &[]);
        issue(&folder, &other, "stranger", &[]);
        folder
    })
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&key).unwrap().pem();
    (Issuer::new(authority, key), pem)
}

fn issue(folder: &Path, authority: &Issuer<'_, KeyPair>, name: &str, addresses: &[&str]) {
    let addresses: Vec<_> = addresses.iter().map(|address| (*address).to_owned()).collect();
    let mut certificate = CertificateParams::new(addresses).unwrap();
    certificate.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let signed = certificate.signed_by(&key, authority).unwrap();
    fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// Settings of a listener of this kind, on a port that the system chooses, with the server's certificate.
pub(crate) fn listener(kind: &str, settings: &str) -> String {
    let folder = folder().display();
    format!(
        "[[listeners]]\nkind = \"{kind}\"\naddress = \"127.0.0.1:0\"\ncertificates = [\"{folder}/server.pem\"]\n\
         keys = [\"{folder}/server.key\"]\n{settings}\n"
    )
}

/// What a client needs for TLS.
pub(crate) fn client(owner: Option<Owner>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder().join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let name = match owner {
        None => return Arc::new(config.with_no_client_auth()),
        Some(Owner::Camera) => "camera",
        Some(Owner::Stranger) => "stranger",
    };
    let chain = vec![CertificateDer::from_pem_file(folder().join(format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder().join(format!("{name}.key"))).unwrap();
    Arc::new(config.with_client_auth_cert(chain, key).unwrap())
}
