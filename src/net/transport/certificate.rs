//! What a client certificate says of its owner, as fields of an identity.

use std::time::{Duration, SystemTime};

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A verified client certificate: the facts in it that authenticators and rights refer to.
///
/// The certificate itself is not kept, since a broker may have a million of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PeerCertificate {
    /// Facts by name, in the order of their names: `cert.cn`, `cert.dns`, `cert.email`, `cert.fingerprint` (SHA-256, lower-case
    /// hexadecimal), `cert.serial` (likewise) and `cert.uri`. Of several names of one kind it is the first. A name with control
    /// characters is none: what reads it may take the part before a NUL for the whole.
    pub(crate) fields: Vec<(Box<str>, Box<str>)>,
}

impl PeerCertificate {
    /// A certificate of which only its Common Name is known.
    pub(super) fn of_common_name(name: &str) -> Self {
        let mut certificate = Self::default();
        certificate.note("cert.cn", name);
        certificate
    }

    /// Reads a certificate in DER.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let parsed = Certificate::from_der(der).map_err(|_| Unreadable)?;
        let subject = parsed.tbs_certificate();
        let mut certificate = Self::default();
        // Names in a form that nobody should use are left out: the certificate was verified, and such a name gives no rights.
        if let Ok(Some(name)) = subject.subject().common_name() {
            certificate.note("cert.cn", &name.value());
        }
        if let Ok(Some((_, SubjectAltName(names)))) = subject.get_extension() {
            for name in &names {
                match name {
                    GeneralName::DnsName(name) => certificate.note_first("cert.dns", name.as_str()),
                    GeneralName::Rfc822Name(name) => certificate.note_first("cert.email", name.as_str()),
                    GeneralName::UniformResourceIdentifier(name) => certificate.note_first("cert.uri", name.as_str()),
                    _ => {}
                }
            }
        }
        certificate.fields.retain(|(_, value)| is_clean(value));
        certificate.note("cert.serial", &hexadecimal(subject.serial_number().as_bytes()));
        let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        certificate.note("cert.fingerprint", &hexadecimal(fingerprint.as_ref()));
        certificate.fields.sort();
        Ok(certificate)
    }

    /// The fact with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(of_field, _)| **of_field == *name).map(|(_, value)| &**value)
    }

    /// Notes a name unless there was one of its kind before, even one that will not do: the second is no better for that.
    fn note_first(&mut self, field: &str, value: &str) {
        if self.field(field).is_none() {
            self.fields.push((field.into(), value.into()));
        }
    }

    fn note(&mut self, field: &str, value: &str) {
        if is_clean(value) {
            self.fields.push((field.into(), value.into()));
        }
    }
}

/// Whether a name can be a field.
fn is_clean(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control)
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// A certificate that breaks the rules of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// What a server certificate says: for which names it is, and until when.
pub(super) struct ServerNames {
    /// DNS names in lower case, `*.example.org` for all of one level.
    pub(super) dns: Vec<String>,
    validity: (Duration, Duration),
}

impl ServerNames {
    /// Reads a certificate in DER.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let parsed = Certificate::from_der(der).map_err(|_| Unreadable)?;
        let subject = parsed.tbs_certificate();
        let validity = subject.validity();
        let names = subject.get_extension::<SubjectAltName>().map_err(|_| Unreadable)?;
        let dns = names.iter().flat_map(|(_, names)| &names.0).filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            dns: dns.collect(),
            validity: (validity.not_before.to_unix_duration(), validity.not_after.to_unix_duration()),
        })
    }

    /// From when until when it is valid.
    pub(super) fn validity(&self) -> (SystemTime, SystemTime) {
        let (from, until) = self.validity;
        (SystemTime::UNIX_EPOCH + from, SystemTime::UNIX_EPOCH + until)
    }

    /// Why clients will not accept it at this time, if so.
    pub(super) fn out_of_date(&self, now: SystemTime) -> Option<&'static str> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match self.validity {
            (from, _) if now < from => Some("the certificate is not valid yet"),
            (_, until) if now > until => Some("the certificate has expired"),
            _ => None,
        }
    }
}
