//! What a client certificate says of its owner.

use rcgen::{CertificateParams, DnType, DnValue, SanType, SerialNumber};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::material::Authority;
use super::*;

fn read(change: impl FnOnce(&mut CertificateParams)) -> PeerCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from(0x0102_u64));
    change(&mut params);
    let issued = Authority::new("authority").issue(&params);
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    PeerCertificate::read(&der).unwrap()
}

#[test]
fn names_become_fields_in_the_order_of_their_names() {
    let certificate = read(|params| {
        params.distinguished_name.push(DnType::CommonName, "Kamera Süd");
        params.subject_alt_names = vec![
            SanType::URI("spiffe://example.org/camera".try_into().unwrap()),
            SanType::DnsName("camera.example.org".try_into().unwrap()),
            SanType::DnsName("second.example.org".try_into().unwrap()),
            SanType::Rfc822Name("camera@example.org".try_into().unwrap()),
        ];
    });
    let names: Vec<_> = certificate.fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["cert.cn", "cert.dns", "cert.email", "cert.fingerprint", "cert.serial", "cert.uri"]);
    assert_eq!(certificate.field("cert.cn"), Some("Kamera Süd"));
    assert_eq!(certificate.field("cert.dns"), Some("camera.example.org"));
    assert_eq!(certificate.field("cert.email"), Some("camera@example.org"));
    assert_eq!(certificate.field("cert.uri"), Some("spiffe://example.org/camera"));
    assert_eq!(certificate.field("cert.serial"), Some("0102"));
    assert_eq!(certificate.field("cert.fingerprint").map(str::len), Some(64));
}

/// Old tools write them, and the certificate is good in all else.
#[test]
fn names_in_a_form_that_nobody_should_use_are_left_out() {
    let certificate = read(|params| {
        let name = "camera".parse().map(DnValue::Ia5String).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName("camera.example.org".try_into().unwrap())];
    });
    assert_eq!(certificate.field("cert.cn"), None);
    assert_eq!(certificate.field("cert.dns"), Some("camera.example.org"));
    let certificate = read(|params| {
        let name = "Kamera S\u{fc}d".parse().map(DnValue::BmpString).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
    });
    assert_eq!(certificate.field("cert.cn"), Some("Kamera S\u{fc}d"));
}

/// Who reads "admin\0.evil.example" may stop at the NUL.
#[test]
fn names_with_control_characters_are_no_names() {
    for name in ["admin\0.evil.example", "admin\n", "\u{7f}", ""] {
        let certificate = read(|params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = vec![
                SanType::DnsName(name.try_into().unwrap()),
                // That there is a better one is no reason to believe this certificate's DNS names.
                SanType::DnsName("camera.example.org".try_into().unwrap()),
            ];
        });
        let names: Vec<_> = certificate.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["cert.fingerprint", "cert.serial"], "{name:?}");
    }
    assert_eq!(PeerCertificate::of_common_name("admin\0").fields, []);
}

#[test]
fn what_is_no_certificate_is_not_read() {
    assert!(PeerCertificate::read(b"").is_err());
    assert!(PeerCertificate::read(b"\x30\x03\x02\x01\x01").is_err());
}
