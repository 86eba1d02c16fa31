//! Certificates of an authority that lives as long as the tests. The conformance tests use them, too.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder with `ca.pem`, `server.pem` and `server.key` for 127.0.0.1 and localhost, and `client.pem` and `client.key` for "camera".
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let name = format!("certificates-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority of the tests");
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Issuer::new(authority, key);
        let issue = |name: &str, common_name: &str, addresses: &[&str]| {
            let names: Vec<_> = addresses.iter().map(|name| (*name).to_owned()).collect();
            let mut certificate = CertificateParams::new(names).unwrap();
            certificate.distinguished_name.push(DnType::CommonName, common_name);
            let key = KeyPair::generate().unwrap();
            let signed = certificate.signed_by(&key, &authority).unwrap();
            fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        };
        issue("server", "broker", &["127.0.0.1", "localhost"]);
        issue("client", "camera", &[]);
        folder
    })
}
