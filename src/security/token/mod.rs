//! JSON Web Tokens (RFC 7519) as credentials.
//!
//! Which algorithms count is configured, and each must fit the kind of key: what a token says about itself chooses among them and
//! nothing else, so `none` is no choice, and neither is a public key as the secret of an HMAC. A token must say when it ends.

mod keys;

use jsonwebtoken::{Algorithm, TokenData, Validation};
use serde_json::{Map, Value};
use std::time::Duration;

pub use keys::{Keys, parse_algorithms};

use super::{Granted, is_username};
use crate::timer::Moment;

/// What is asked of a token beside its signature, and where in it we find what.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Who must have issued it.
    pub issuer: Option<String>,
    /// Whom it must be meant for.
    pub audience: Option<String>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim with the User Name.
    pub username_claim: String,
    /// The claim with the pattern of the Client Identifier.
    pub client_id_claim: String,
    /// The claim with rights.
    pub rights_claim: String,
}

/// What a token says about its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The User Name.
    pub username: String,
    /// What the Client Identifier must fit, as [`super::wildcard`] has it.
    pub client_id: Option<String>,
    /// All the client may do.
    pub granted: Option<Granted>,
    /// The claims that are text, as `claim.<name>`.
    pub fields: Vec<(Box<str>, Box<str>)>,
    /// When the token ends, and with it the connection.
    pub valid_until: Moment,
}

/// What becomes of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is no token, or none of ours: none of our keys has signed it, or it is from another issuer or for another audience.
    NotMine,
    /// It is ours, and not in order.
    Refused(&'static str),
    /// It is in order.
    Valid(Box<Claims>),
}

/// Whether a password looks like a token: three parts of base64url with points between. This costs next to nothing.
pub fn is_one(password: &[u8]) -> bool {
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // A brace in base64, with a quotation mark or a blank behind it, or with the end of a line: the header is a JSON object.
    (password.starts_with(b"ey") || password.starts_with(b"ew"))
        && password.iter().all(is_of_token)
        && password.iter().filter(|&&byte| byte == b'.').count() == 2
}

/// Judges `token` as of `now`.
pub fn judge(token: &[u8], keys: &Keys, rules: &Rules, now: Moment) -> Verdict {
    if !is_one(token) {
        return Verdict::NotMine;
    }
    let Some(claims) = signed_claims(token, keys) else {
        return Verdict::NotMine;
    };
    let is_of_issuer = rules.issuer.as_ref().is_none_or(|issuer| names(claims.get("iss"), issuer));
    let is_for_us = rules.audience.as_ref().is_none_or(|audience| names(claims.get("aud"), audience));
    if !is_of_issuer || !is_for_us {
        return Verdict::NotMine;
    }
    match read(&claims, rules, now) {
        Ok(claims) => Verdict::Valid(Box::new(claims)),
        Err(why) => Verdict::Refused(why),
    }
}

/// The claims, if one of the keys has signed them by an algorithm that it may be used with.
fn signed_claims(token: &[u8], keys: &Keys) -> Option<Map<String, Value>> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    keys.candidates(header.kid.as_deref(), header.alg).find_map(|key| {
        let verified: TokenData<Map<String, Value>> =
            jsonwebtoken::decode(token, key, &signature_alone(header.alg)).ok()?;
        Some(verified.claims)
    })
}

/// The library checks the signature. Times it would compare with a clock of its own, so these are our matter.
fn signature_alone(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// Whether a claim is this text, or a list that holds it.
fn names(claim: Option<&Value>, wanted: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(list)) => list.iter().any(|entry| entry.as_str() == Some(wanted)),
        _ => false,
    }
}

fn read(claims: &Map<String, Value>, rules: &Rules, now: Moment) -> Result<Claims, &'static str> {
    let ends = claims.get("exp").ok_or("the token does not say when it ends")?;
    let valid_until = moment(ends).ok_or("the end of the token is no time")? + rules.leeway;
    if valid_until <= now {
        return Err("the token has ended");
    }
    if let Some(begins) = claims.get("nbf")
        && moment(begins).ok_or("the begin of the token is no time")? > now + rules.leeway
    {
        return Err("the token has not begun");
    }
    let username = match claims.get(&rules.username_claim) {
        Some(Value::String(name)) if is_username(name) => name.clone(),
        Some(Value::String(name)) if !name.is_empty() => {
            return Err("the User Name in the token holds control characters");
        }
        _ => return Err("the token names no user"),
    };
    let client_id = match claims.get(&rules.client_id_claim) {
        None => None,
        Some(Value::String(pattern)) => Some(pattern.clone()),
        Some(_) => return Err("the Client Identifier in the token is no text"),
    };
    let granted = claims.get(&rules.rights_claim).map(Granted::from_json).transpose()?;
    let fields =
        claims.iter().filter_map(|(name, value)| Some((format!("claim.{name}").into(), value.as_str()?.into())));
    Ok(Claims { username, client_id, granted, fields: fields.collect(), valid_until })
}

/// Seconds since 1970, which may have a fraction.
fn moment(value: &Value) -> Option<Moment> {
    if let Some(seconds) = value.as_u64() {
        return Some(Moment::from_micros(seconds.saturating_mul(1_000_000)));
    }
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    Some(Moment::from_micros((seconds * 1e6) as u64)) // Saturates, half a million years on.
}

#[cfg(test)]
mod tests {
    use super::keys::tests::{SECRET, ec_pair, ed_pair, rsa_pair};
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header};
    use proptest::prelude::*;
    use serde_json::json;

    const NOW: Moment = Moment::from_micros(1_000_000 * 1_000_000);

    fn rules() -> Rules {
        Rules {
            username_claim: "sub".into(),
            client_id_claim: "client_id".into(),
            rights_claim: "mqtt".into(),
            ..Rules::default()
        }
    }

    fn keys(content: &[u8], algorithms: &[&str]) -> Keys {
        let algorithms: Vec<_> = algorithms.iter().map(ToString::to_string).collect();
        Keys::parse(content, "key", &parse_algorithms(&algorithms).unwrap()).unwrap()
    }

    fn hs256() -> Keys {
        keys(SECRET, &["HS256"])
    }

    fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
    }

    fn token(claims: &Value) -> String {
        sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET).unwrap(), claims)
    }

    fn judge_claims(claims: &Value, rules: &Rules) -> Verdict {
        judge(token(claims).as_bytes(), &hs256(), rules, NOW)
    }

    fn valid(claims: &Value) -> Claims {
        match judge_claims(claims, &rules()) {
            Verdict::Valid(claims) => *claims,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_tells_who_its_bearer_is() {
        let claims = valid(&json!({
            "sub": "anna", "exp": 1_000_060, "client_id": "phone-*", "site": "north", "level": 3,
            "mqtt": {"publish": ["anna/#"]},
        }));
        assert_eq!(claims.username, "anna");
        assert_eq!(claims.client_id.as_deref(), Some("phone-*"));
        assert_eq!(claims.granted.unwrap().publish.len(), 1);
        assert_eq!(claims.valid_until, NOW + Duration::from_secs(60));
        assert!(claims.fields.contains(&("claim.site".into(), "north".into())));
        assert!(!claims.fields.iter().any(|(name, _)| &**name == "claim.level"), "fields are text");
    }

    #[test]
    fn times_are_kept_with_the_leeway() {
        let judge =
            |claims: Value, leeway| judge_claims(&claims, &Rules { leeway: Duration::from_secs(leeway), ..rules() });
        let refused = Verdict::Refused;
        assert_eq!(judge(json!({"sub": "a", "exp": 1_000_000}), 0), refused("the token has ended"));
        assert!(matches!(judge(json!({"sub": "a", "exp": 1_000_000}), 1), Verdict::Valid(_)));
        assert!(matches!(judge(json!({"sub": "a", "exp": 1_000_000.5}), 0), Verdict::Valid(_)));
        let begins = json!({"sub": "a", "exp": 2_000_000, "nbf": 1_000_005});
        assert_eq!(judge(begins.clone(), 4), refused("the token has not begun"));
        assert!(matches!(judge(begins, 5), Verdict::Valid(_)));
        assert_eq!(judge(json!({"sub": "a"}), 0), refused("the token does not say when it ends"));
        for wrong in [json!("soon"), json!(-5), json!(null), json!([1_000_060])] {
            let verdict = judge(json!({"sub": "a", "exp": wrong}), 0);
            assert!(matches!(verdict, Verdict::Refused(_) | Verdict::NotMine), "{verdict:?}");
        }
        assert!(matches!(judge(json!({"sub": "a", "exp": 1e300}), 0), Verdict::Valid(_)), "the end of time");
    }

    #[test]
    fn a_token_of_another_issuer_or_for_another_audience_is_none_of_ours() {
        let strict = Rules { issuer: Some("us".into()), audience: Some("mqtt".into()), ..rules() };
        let judge = |iss: Value, aud: Value| {
            judge_claims(&json!({"sub": "a", "exp": 2_000_000, "iss": iss, "aud": aud}), &strict)
        };
        assert!(matches!(judge(json!("us"), json!("mqtt")), Verdict::Valid(_)));
        assert!(matches!(judge(json!("us"), json!(["web", "mqtt"])), Verdict::Valid(_)));
        for (iss, aud) in [("them", json!("mqtt")), ("us", json!("web")), ("us", json!(null)), ("us", json!(["web"]))] {
            assert_eq!(judge(json!(iss), aud), Verdict::NotMine);
        }
    }

    #[test]
    fn what_is_signed_but_not_understood_is_refused() {
        for (claims, why) in [
            (json!({"exp": 2_000_000}), "the token names no user"),
            (json!({"exp": 2_000_000, "sub": ""}), "the token names no user"),
            (json!({"exp": 2_000_000, "sub": 7}), "the token names no user"),
            // [MQTT-1.5.4-2]
            (json!({"exp": 2_000_000, "sub": "root\u{0}"}), "the User Name in the token holds control characters"),
            (json!({"exp": 2_000_000, "sub": "a\nb"}), "the User Name in the token holds control characters"),
            (
                json!({"exp": 2_000_000, "sub": "a", "client_id": ["a"]}),
                "the Client Identifier in the token is no text",
            ),
            (
                json!({"exp": 2_000_000, "sub": "a", "mqtt": {"publish": ["a#"]}}),
                "the rights hold something that is no Topic Filter",
            ),
            (json!({"exp": 2_000_000, "sub": "a", "nbf": "x"}), "the begin of the token is no time"),
        ] {
            assert_eq!(judge_claims(&claims, &rules()), Verdict::Refused(why));
        }
    }

    #[test]
    fn every_kind_of_key_verifies_what_its_other_half_signed() {
        let claims = json!({"sub": "a", "exp": 2_000_000});
        let (rsa_private, rsa_public) = rsa_pair();
        let (ec_private, ec_public) = ec_pair();
        let (ed_private, ed_public) = ed_pair();
        let rsa = EncodingKey::from_rsa_pem(rsa_private.as_bytes()).unwrap();
        let cases = [
            (Algorithm::RS256, rsa.clone(), rsa_public.as_str(), "RS256"),
            (Algorithm::PS384, rsa, rsa_public.as_str(), "PS384"),
            (Algorithm::ES256, EncodingKey::from_ec_pem(ec_private.as_bytes()).unwrap(), ec_public.as_str(), "ES256"),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(ed_private.as_bytes()).unwrap(), ed_public.as_str(), "EdDSA"),
        ];
        for (algorithm, key, public, name) in cases {
            let token = sign(algorithm, &key, &claims);
            let judge = |token: &str| judge(token.as_bytes(), &keys(public.as_bytes(), &[name]), &rules(), NOW);
            assert!(matches!(judge(&token), Verdict::Valid(_)), "{name}");
            let mut forged = token.into_bytes();
            let at = forged.len() / 2;
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(judge(std::str::from_utf8(&forged).unwrap()), Verdict::NotMine, "{name}");
        }
    }

    #[test]
    fn the_token_does_not_choose_its_algorithm() {
        let claims = json!({"sub": "root", "exp": 2_000_000});
        let (_, rsa_public) = rsa_pair();
        let judge = |token: &str, keys: &Keys| judge(token.as_bytes(), keys, &rules(), NOW);
        // The public key as the secret of an HMAC: everybody has it.
        let confused = sign(Algorithm::HS256, &EncodingKey::from_secret(rsa_public.as_bytes()).unwrap(), &claims);
        assert_eq!(judge(&confused, &keys(rsa_public.as_bytes(), &["RS256"])), Verdict::NotMine);
        // An algorithm of the same family that is not configured.
        let other = sign(Algorithm::HS512, &EncodingKey::from_secret(SECRET).unwrap(), &claims);
        assert_eq!(judge(&other, &hs256()), Verdict::NotMine);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for algorithm in ["none", "None", "HS256", ""] {
            let unsigned = format!("{}.{}.", part(&json!({"alg": algorithm})), part(&claims));
            assert_eq!(judge(&unsigned, &hs256()), Verdict::NotMine, "{algorithm}");
        }
    }

    #[test]
    fn a_header_that_asks_for_what_we_do_not_know_is_refused() {
        let mut header = Header::new(Algorithm::HS256);
        header.crit = Some(vec!["exp".into()]);
        let key = EncodingKey::from_secret(SECRET).unwrap();
        let token = jsonwebtoken::encode(&header, &json!({"sub": "a", "exp": 2_000_000}), &key).unwrap();
        assert_eq!(judge(token.as_bytes(), &hs256(), &rules(), NOW), Verdict::NotMine);
    }

    #[test]
    fn a_password_is_no_token() {
        for password in [&b""[..], b"secret", b"a.b.c", b"ey.a", b"ey.a.b.c", b"ey .a.b", b"ey\xFF.a.b"] {
            assert!(!is_one(password));
        }
        assert!(is_one(token(&json!({})).as_bytes()));
        for header in ["{\"alg\":1}", "{ }", "{\n}", "{\r\n}", "{\t}"] {
            assert!(is_one(format!("{}.a.b", URL_SAFE_NO_PAD.encode(header)).as_bytes()), "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_like_a_token_makes_it_panic(header in "[ -~]{0,40}", claims in "[ -~]{0,40}", signature in "[a-zA-Z0-9_-]{0,50}") {
            let part = |text: String| URL_SAFE_NO_PAD.encode(text);
            let token = format!("{}.{}.{signature}", part(header), part(claims));
            prop_assert_eq!(judge(token.as_bytes(), &hs256(), &rules(), NOW), Verdict::NotMine);
            let signed_header = part(json!({"alg": "HS256"}).to_string());
            prop_assert_eq!(judge(format!("{signed_header}.{signature}.{signature}").as_bytes(), &hs256(), &rules(), NOW), Verdict::NotMine);
        }

        #[test]
        fn no_claims_make_it_panic(exp in any::<f64>(), nbf in any::<i64>(), sub in ".{0,4}") {
            let _ = judge_claims(&json!({"exp": exp, "nbf": nbf, "sub": sub}), &rules());
        }
    }
}
