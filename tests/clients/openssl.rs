//! `openssl s_client`: which protocols and ciphers the broker speaks, and which not.

use crate::broker::{Broker, Transport};
use crate::{certificates, script};
use std::process::{Command, Stdio};

/// What openssl calls the ciphers with forward secrecy and authenticated encryption (RFC 9325, §4.2) that fit an ECDSA key.
const CIPHERS_1_2: [&str; 3] =
    ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"];
const CIPHERS_1_3: [&str; 3] = ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];

/// What openssl says, and whether it is content.
fn openssl(arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(script::program(&["openssl"], "openssl"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

/// The protocol and the cipher of a handshake with these options, where there was one.
fn handshake(broker: &Broker, options: &[&str]) -> Option<(String, String)> {
    let address = format!("127.0.0.1:{}", broker.port(Transport::Tls));
    let files = ["ca.pem", "client.pem", "client.key"].map(|name| certificates::folder().join(name));
    let [authority, certificate, key] = files.each_ref().map(|file| file.to_str().unwrap());
    let mut arguments = vec!["s_client", "-connect", &address, "-CAfile", authority, "-verify_return_error"];
    arguments.extend(["-cert", certificate, "-key", key]);
    arguments.extend(options);
    let (said, has_succeeded) = openssl(&arguments);
    // "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384", or "New, (NONE), Cipher is (NONE)".
    let line = said.lines().find(|line| line.contains("Cipher is"))?;
    let (protocol, cipher) = line.strip_prefix("New, ")?.split_once(", Cipher is ")?;
    (has_succeeded && protocol != "(NONE)").then(|| (protocol.to_owned(), cipher.to_owned()))
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let broker = Broker::start();
    for (option, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (protocol, _) = handshake(&broker, &[option]).unwrap_or_else(|| panic!("{name} is not spoken"));
        assert_eq!(protocol, name);
    }
    for old in ["-tls1", "-tls1_1"] {
        assert_eq!(handshake(&broker, &[old, "-cipher", "ALL:@SECLEVEL=0"]), None, "{old}");
    }
}

#[test]
fn no_cipher_without_forward_secrecy_and_authenticated_encryption_is_spoken() {
    let broker = Broker::start();
    let (all, _) = openssl(&["ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]);
    let older: Vec<_> = all.trim().split(':').filter(|name| !name.starts_with("TLS_")).collect();
    assert!(older.len() > 50, "openssl knows many more than we speak: {all}");
    let speaks = |cipher: &&str| {
        let only = format!("{cipher}:@SECLEVEL=0");
        handshake(&broker, &["-tls1_2", "-cipher", &only]).is_some()
    };
    let mut spoken: Vec<_> = older.into_iter().filter(speaks).collect();
    spoken.sort_unstable();
    let mut expected = CIPHERS_1_2;
    expected.sort_unstable();
    assert_eq!(spoken, expected);
    for cipher in CIPHERS_1_3 {
        assert_eq!(
            handshake(&broker, &["-tls1_3", "-ciphersuites", cipher]).map(|(_, it)| it).as_deref(),
            Some(cipher)
        );
    }
}

#[test]
fn alpn_is_mqtt() {
    let broker = Broker::start();
    assert!(handshake(&broker, &["-alpn", "mqtt"]).is_some());
    assert!(handshake(&broker, &[]).is_some(), "a client need not say what it speaks");
    assert_eq!(handshake(&broker, &["-alpn", "h2"]), None);
}
