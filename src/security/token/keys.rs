//! The keys that tokens are verified with, and which algorithms each may be used with.

use std::str::FromStr;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

/// Shorter secrets can be guessed from a token that was overheard. (RFC 7518, §3.2)
const SECRET_BYTES_MIN: usize = 32;
/// A token without a key identifier is tried with all of them.
const KEYS_MAX: usize = 64;

/// The keys of an authenticator.
pub struct Keys {
    keys: Vec<Key>,
}

struct Key {
    id: Option<Box<str>>,
    /// Never of two families. Never empty.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Reads names of algorithms.
///
/// # Errors
/// The first that is none.
pub fn parse_algorithms(names: &[String]) -> Result<Vec<Algorithm>, String> {
    if names.is_empty() {
        return Err("no algorithm is given; \"RS256\" and \"ES256\" are usual".to_owned());
    }
    let parse = |name: &String| {
        Algorithm::from_str(name).map_err(|_| {
            format!("there is no algorithm {name:?}; known are HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA")
        })
    };
    names.iter().map(parse).collect()
}

impl Keys {
    /// Reads the content of a file called `file`: a set of keys (JWKS), public keys (PEM), or the secret of an HMAC.
    ///
    /// # Errors
    /// What is wrong with it, and with the choice of `algorithms`, which all must have a key that fits.
    pub fn parse(content: &[u8], file: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let keys = match content.trim_ascii() {
            set if set.starts_with(b"{") => of_set(set, algorithms),
            pem if pem.starts_with(b"-----BEGIN ") => of_pem(pem, algorithms),
            secret => of_secret(secret, algorithms),
        };
        let keys = keys.map_err(|error| format!("{file}: {error}"))?;
        if keys.len() > KEYS_MAX {
            return Err(format!("{file}: there are {} keys, at most {KEYS_MAX} are allowed", keys.len()));
        }
        match algorithms.iter().find(|&wanted| !keys.iter().any(|key| key.algorithms.contains(wanted))) {
            Some(orphan) => Err(format!("{file}: there is no key for the algorithm {orphan:?}")),
            None => Ok(Self { keys }),
        }
    }

    /// The keys that a token may have been signed with, which names a key and an algorithm.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        // A key without a name may be any; a key with another name is not it.
        let may_be_meant = move |key: &&Key| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
        self.keys.iter().filter(may_be_meant).filter(move |key| key.algorithms.contains(&algorithm)).map(|key| &key.key)
    }
}

/// Keys are secrets, some of them.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.id, &key.algorithms))).finish()
    }
}

fn of_secret(secret: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "this is no public key (PEM) and no key set (JWKS), and as a secret it is too short: {SECRET_BYTES_MIN} bytes are the least"
        ));
    }
    let key = DecodingKey::from_secret(secret).map_err(|error| error.to_string())?;
    Ok(vec![Key { id: None, algorithms: of_family(algorithms, AlgorithmFamily::Hmac), key }])
}

/// The algorithms among `algorithms` that work with a key of `family`.
fn of_family(algorithms: &[Algorithm], family: AlgorithmFamily) -> Vec<Algorithm> {
    algorithms.iter().copied().filter(|algorithm| algorithm.family() == family).collect()
}

/// One or more public keys, each in a block of its own.
fn of_pem(pem: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "this is not UTF-8")?;
    let mut keys = Vec::new();
    for block in text.split("-----BEGIN ").skip(1) {
        let label = block.split("-----").next().unwrap_or_default();
        if label.contains("PRIVATE KEY") {
            return Err(
                "this is a private key; give the public one, and keep the private one where tokens are made".to_owned()
            );
        }
        if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
            return Err(format!("this is a {label:?}, not a \"PUBLIC KEY\""));
        }
        keys.push(of_block(format!("-----BEGIN {block}").as_bytes(), algorithms)?);
    }
    Ok(keys)
}

fn of_block(block: &[u8], algorithms: &[Algorithm]) -> Result<Key, String> {
    let key = DecodingKey::from_ec_pem(block)
        .or_else(|_| DecodingKey::from_ed_pem(block))
        .or_else(|_| DecodingKey::from_rsa_pem(block))
        .map_err(|_| "this is no public key of RSA, P-256, P-384 or Ed25519")?;
    let mut algorithms = of_family(algorithms, key.family());
    if key.family() == AlgorithmFamily::Ec {
        // The point, uncompressed: its length tells the curve.
        let of_curve = match key.try_get_as_bytes().map_or(0, <[u8]>::len) {
            65 => Some(Algorithm::ES256),
            97 => Some(Algorithm::ES384),
            _ => None,
        };
        algorithms.retain(|&algorithm| Some(algorithm) == of_curve);
    }
    Ok(Key { id: None, algorithms, key })
}

/// A key set, or a key alone. Keys for other purposes, or of kinds that we do not know, are left out.
fn of_set(json: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    let malformed = |error: serde_json::Error| format!("this is no key set (JWKS): {error}");
    let value: Value = serde_json::from_slice(json).map_err(malformed)?;
    let keys: Vec<Jwk> = match value.get("keys") {
        Some(_) => serde_json::from_value::<JwkSet>(value).map_err(malformed)?.keys,
        None => vec![serde_json::from_value(value).map_err(malformed)?],
    };
    keys.iter().filter_map(|key| of_jwk(key, algorithms).transpose()).collect()
}

fn of_jwk(jwk: &Jwk, algorithms: &[Algorithm]) -> Result<Option<Key>, String> {
    let algorithms: Vec<_> = algorithms.iter().copied().filter(|&algorithm| fits(jwk, algorithm)).collect();
    if algorithms.is_empty() {
        return Ok(None);
    }
    let id = jwk.common.key_id.as_deref();
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("the key {id:?} is damaged: {error}"))?;
    if key.family() == AlgorithmFamily::Hmac
        && key.try_get_as_bytes().is_ok_and(|secret| secret.len() < SECRET_BYTES_MIN)
    {
        return Err(format!("the secret {id:?} is too short: {SECRET_BYTES_MIN} bytes are the least"));
    }
    Ok(Some(Key { id: id.map(Into::into), algorithms, key }))
}

/// Whether a key of a set may be used with this algorithm, by its kind, its curve, and what it says itself.
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    let is_of_kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::OctetKey(_) => algorithm.family() == AlgorithmFamily::Hmac,
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && algorithm == Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(key) => matches!(
            (&key.curve, algorithm),
            (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
        ),
        _ => false,
    };
    let is_named = jwk.common.key_algorithm.is_none_or(|named| named == algorithm.into());
    let is_for_signatures =
        !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)));
    is_of_kind && is_named && is_for_signatures
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in super::super) const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

    pub(in super::super) fn rsa_pair() -> (String, String) {
        let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    }

    pub(in super::super) fn ec_pair() -> (String, String) {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    }

    pub(in super::super) fn ed_pair() -> (String, String) {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    }

    fn parse(content: &str, algorithms: &[Algorithm]) -> Result<Keys, String> {
        Keys::parse(content.as_bytes(), "keys", algorithms)
    }

    fn error(content: &str, algorithms: &[Algorithm]) -> String {
        parse(content, algorithms).unwrap_err()
    }

    #[test]
    fn an_algorithm_must_have_a_name_and_none_is_none() {
        assert!(parse_algorithms(&["none".into()]).unwrap_err().contains("there is no algorithm"));
        assert!(parse_algorithms(&[]).is_err());
        assert_eq!(parse_algorithms(&["ES256".into(), "EdDSA".into()]), Ok(vec![Algorithm::ES256, Algorithm::EdDSA]));
    }

    #[test]
    fn an_algorithm_must_fit_the_key() {
        let (_, rsa) = rsa_pair();
        let (_, ec) = ec_pair();
        assert_eq!(error(&rsa, &[Algorithm::HS256]), "keys: there is no key for the algorithm HS256");
        assert_eq!(error(&ec, &[Algorithm::ES384]), "keys: there is no key for the algorithm ES384");
        assert_eq!(error(&ec, &[Algorithm::ES256, Algorithm::RS256]), "keys: there is no key for the algorithm RS256");
        let secret = std::str::from_utf8(SECRET).unwrap();
        assert_eq!(error(secret, &[Algorithm::RS256]), "keys: there is no key for the algorithm RS256");
        assert!(
            parse(&format!("{rsa}{ec}"), &[Algorithm::RS512, Algorithm::ES256]).is_ok(),
            "several keys in one file"
        );
    }

    #[test]
    fn what_should_not_lie_here_is_named() {
        let (private, _) = ec_pair();
        assert!(error(&private, &[Algorithm::ES256]).contains("give the public one"));
        assert!(error("short", &[Algorithm::HS256]).contains("too short"));
        assert!(error("-----BEGIN CERTIFICATE-----\n", &[Algorithm::RS256]).contains("\"CERTIFICATE\""));
        assert!(
            error("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", &[Algorithm::RS256])
                .contains("no public key")
        );
        assert!(error("{\"keys\": [}", &[Algorithm::RS256]).contains("no key set"));
        assert!(error("{\"keys\": []}", &[Algorithm::RS256]).contains("no key for the algorithm"));
    }

    #[test]
    fn a_set_gives_the_key_that_the_token_names() {
        let secret = |byte: u8| jsonwebtoken::jwk::Jwk {
            common: jsonwebtoken::jwk::CommonParameters { key_id: Some(format!("key-{byte}")), ..Default::default() },
            algorithm: AlgorithmParameters::OctetKey(jsonwebtoken::jwk::OctetKeyParameters {
                value: "A".repeat(42) + &char::from(byte).to_string(),
                ..Default::default()
            }),
        };
        let set = json!({"keys": [secret(b'A'), secret(b'E'), {"kty": "future", "kid": "x"}]}).to_string();
        let keys = parse(&set, &[Algorithm::HS256]).unwrap();
        let count = |id, algorithm| keys.candidates(id, algorithm).count();
        assert_eq!(count(Some("key-65"), Algorithm::HS256), 1);
        assert_eq!(count(Some("key-70"), Algorithm::HS256), 0);
        assert_eq!(count(None, Algorithm::HS256), 2);
        assert_eq!(count(None, Algorithm::HS384), 0);
    }

    #[test]
    fn a_key_of_a_set_keeps_to_what_it_says_about_itself() {
        let key = |alg: &str, usage: &str| {
            json!({"keys": [{"kty": "oct", "k": "A".repeat(43), "alg": alg, "use": usage}]}).to_string()
        };
        assert!(parse(&key("HS256", "sig"), &[Algorithm::HS256]).is_ok());
        assert!(parse(&key("HS512", "sig"), &[Algorithm::HS256]).is_err());
        assert!(parse(&key("HS256", "enc"), &[Algorithm::HS256]).is_err());
        let short = json!({"kty": "oct", "k": "AAAA"}).to_string();
        assert!(error(&short, &[Algorithm::HS256]).contains("too short"));
    }

    #[test]
    fn a_log_does_not_show_a_secret() {
        let keys = parse(std::str::from_utf8(SECRET).unwrap(), &[Algorithm::HS256]).unwrap();
        assert_eq!(format!("{keys:?}"), "[(None, [HS256])]");
    }
}
