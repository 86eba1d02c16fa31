//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's half: a client proves that it knows a password without sending it.
//!
//! ```text
//! client-first  n,,n=user,r=<client's nonce>             ─▶
//!               ◀─  server-first  r=<both nonces>,s=<salt>,i=<iterations>
//! client-final  c=biws,r=<both nonces>,p=<proof>          ─▶
//!               ◀─  server-final  v=<our proof that we know the verifier>
//! ```
//!
//! Channel binding is not offered: a client that insists on it (`p=…`) is refused. User Names and passwords are compared as they are. The
//! preparation that the RFC asks of clients (SASLprep) does nothing to printable ASCII, and so a verifier is made of such passwords
//! only; `willowmq passwd add --scram` sees to that.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The name of the method, in MQTT and elsewhere.
pub const METHOD: &str = "SCRAM-SHA-256";
/// What RFC 7677 recommends to begin with.
pub const ITERATIONS: u32 = 15_000;
/// A client computes them, too, but a file must not make checks of plain passwords take minutes.
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=64;
/// Nobody needs longer messages; a nonce and a name are in them.
const MESSAGE_BYTES_MAX: usize = 2048;
const PREFIX: &str = "SCRAM-SHA-256$";

type Key = [u8; 32];

/// What a server keeps of a password: enough to recognise who knows it, not enough to be him.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// The verifier of a password, with a salt that nobody could foresee, of 8 to 64 bytes.
    ///
    /// # Panics
    /// Without iterations.
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = NonZeroU32::new(iterations).expect("at least one iteration");
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let stored_key = sha256(&hmac_sha256(&salted, b"Client Key"));
        Self { iterations, salt: salt.into(), stored_key, server_key: hmac_sha256(&salted, b"Server Key") }
    }

    /// Whether a line of a password file means to be a verifier.
    pub(super) fn is_one(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, as PostgreSQL writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = "this is no SCRAM verifier (SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>)";
        let parsed = (|| {
            let (front, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
            let (iterations, salt) = front.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            let salt = STANDARD.decode(salt).ok()?;
            Some(Self {
                iterations: iterations.parse().ok()?,
                salt: SALT_BYTES.contains(&salt.len()).then_some(salt)?.into(),
                stored_key: STANDARD.decode(stored_key).ok()?.try_into().ok()?,
                server_key: STANDARD.decode(server_key).ok()?.try_into().ok()?,
            })
        })();
        match parsed {
            Some(verifier) if verifier.iterations.get() > ITERATIONS_MAX => {
                Err(format!("a check would cost too much: at most {ITERATIONS_MAX} iterations are allowed"))
            }
            Some(verifier) => Ok(verifier),
            None => Err(malformed.to_owned()),
        }
    }

    /// Whether `password` is the one that the verifier was made of.
    pub fn verify(&self, password: &[u8]) -> bool {
        let computed = Self::new(password, &self.salt, self.iterations.get());
        verify_slices_are_equal(&computed.stored_key, &self.stored_key).is_ok()
    }
}

/// As it stands in a file.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|key| STANDARD.encode(key));
        write!(f, "{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

/// A verifier is a secret.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(METHOD)
    }
}

/// Verifiers for users that do not exist, so that the salt of an answer does not tell who does.
///
/// They are made with a secret that no user knows, and of nothing that changes with a password.
#[derive(Debug, Clone)]
pub struct Nonexistent {
    iterations: NonZeroU32,
    salt_bytes: usize,
}

impl Default for Nonexistent {
    fn default() -> Self {
        Self { iterations: NonZeroU32::new(ITERATIONS).expect("not zero"), salt_bytes: 16 }
    }
}

impl Nonexistent {
    /// Users that look like most of those whose verifiers these are; where there are none, like new ones.
    pub fn among<'a>(verifiers: impl Iterator<Item = &'a Verifier>) -> Self {
        let mut kinds = BTreeMap::<_, usize>::new();
        verifiers.for_each(|of| *kinds.entry((of.iterations, of.salt.len())).or_default() += 1);
        let commonest = kinds.into_iter().max_by_key(|&(_, users)| users);
        commonest.map_or_else(Self::default, |((iterations, salt_bytes), _)| Self { iterations, salt_bytes })
    }

    /// What the user with this name would have, at a broker with this `secret`.
    pub fn verifier(&self, username: &str, secret: &[u8; 32]) -> Verifier {
        let mut salt = hmac_sha256(secret, username.as_bytes()).to_vec();
        salt.extend(hmac_sha256(secret, &salt));
        salt.truncate(self.salt_bytes);
        // No password has these keys: whoever found one would have inverted SHA-256.
        Verifier { iterations: self.iterations, salt: salt.into(), stored_key: [0; 32], server_key: [0; 32] }
    }
}

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramError {
    /// A message is not what the RFC says.
    Malformed,
    /// The client insists on channel binding, or on an extension, that we do not have.
    Unsupported,
    /// The client wants to act as somebody else than it proves to be.
    OtherIdentity,
    /// The nonce or the channel binding of the last message are not those of the first ones.
    Mismatch,
    /// The client does not know the password.
    WrongProof,
}

/// The client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFirst {
    /// Who it says it is.
    pub username: Box<str>,
    /// The part in front, which the last message repeats: `n,,`.
    header: Box<str>,
    bare: Box<str>,
    nonce: Box<str>,
}

impl ClientFirst {
    /// Reads it.
    ///
    /// # Errors
    /// [`ScramError::Malformed`], [`ScramError::Unsupported`] or [`ScramError::OtherIdentity`].
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let mut part = || parts.next().ok_or(ScramError::Malformed);
        let (binding, authorization, bare) = (part()?, part()?, part()?);
        match binding {
            // A client that has no channel binding, or one that believes that we have none, which is so.
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ScramError::Unsupported),
            _ => return Err(ScramError::Malformed),
        }
        let mut attributes = bare.split(',');
        let mut attribute =
            |name| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(ScramError::Malformed);
        if bare.starts_with("m=") {
            return Err(ScramError::Unsupported); // An extension that must not be ignored.
        }
        let username = unescape(attribute("n=")?)?;
        let nonce = attribute("r=")?;
        if !is_nonce(nonce) {
            return Err(ScramError::Malformed);
        }
        if !authorization.is_empty() {
            let other = unescape(authorization.strip_prefix("a=").ok_or(ScramError::Malformed)?)?;
            if other != username {
                return Err(ScramError::OtherIdentity);
            }
        }
        Ok(Self {
            username: username.into(),
            header: format!("{binding},{authorization},").into(),
            bare: bare.into(),
            nonce: nonce.into(),
        })
    }
}

/// An exchange in which the server has sent its first message.
#[derive(Debug)]
pub struct Exchange {
    header: Box<str>,
    nonce: Box<str>,
    /// The first two messages, as the proofs cover them.
    so_far: String,
    verifier: Verifier,
    username: Box<str>,
}

impl Exchange {
    /// Answers the first message, with a `nonce` that nobody could foresee, of printable characters but commas. The second result is
    /// what to send.
    pub fn begin(first: ClientFirst, verifier: Verifier, nonce: &str) -> (Self, String) {
        let nonce = format!("{}{nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let so_far = format!("{},{server_first}", first.bare);
        let exchange = Self { header: first.header, nonce: nonce.into(), so_far, verifier, username: first.username };
        (exchange, server_first)
    }

    /// Who the client says it is.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Judges the last message of the client; where it is right, the result is what to send with the good news.
    ///
    /// # Errors
    /// Why it is not. An exchange is over either way, and so a message that was overheard is of no use: the nonce of the next one
    /// is another one.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let proof: Key = decode(proof)?.try_into().map_err(|_| ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let mut attribute =
            |name| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(ScramError::Malformed);
        let (binding, nonce) = (decode(attribute("c=")?)?, attribute("r=")?);
        if binding != self.header.as_bytes() || nonce != &*self.nonce {
            return Err(ScramError::Mismatch);
        }
        let covered = format!("{},{without_proof}", self.so_far);
        let signature = hmac_sha256(&self.verifier.stored_key, covered.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, of_signature)| *byte ^= of_signature);
        if verify_slices_are_equal(&sha256(&client_key), &self.verifier.stored_key).is_err() {
            return Err(ScramError::WrongProof);
        }
        let ours = hmac_sha256(&self.verifier.server_key, covered.as_bytes());
        Ok(format!("v={}", STANDARD.encode(ours)))
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX || message.contains(&0) {
        return Err(ScramError::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed)
}

fn decode(base64: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(base64).map_err(|_| ScramError::Malformed)
}

/// Printable ASCII; commas do not get here.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Undoes `=2C` for a comma and `=3D` for an equals sign. Any other `=` is wrong.
fn unescape(name: &str) -> Result<String, ScramError> {
    let mut pieces = name.split('=');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (character, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Malformed),
        };
        plain.push(character);
        plain.push_str(rest);
    }
    if plain.is_empty() { Err(ScramError::Malformed) } else { Ok(plain) }
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn sha256(data: &[u8]) -> Key {
    digest::digest(&digest::SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The example of RFC 7677, section 3.
    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &[u8] =
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    const SECRET: [u8; 32] = [7; 32];

    fn verifier() -> Verifier {
        Verifier::new(b"pencil", &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4096)
    }

    fn begun() -> Exchange {
        Exchange::begin(ClientFirst::parse(CLIENT_FIRST).unwrap(), verifier(), NONCE).0
    }

    #[test]
    fn the_example_of_rfc_7677_is_understood() {
        let first = ClientFirst::parse(CLIENT_FIRST).unwrap();
        assert_eq!(&*first.username, "user");
        let (exchange, server_first) = Exchange::begin(first, verifier(), NONCE);
        assert_eq!(server_first, SERVER_FIRST);
        assert_eq!(exchange.finish(CLIENT_FINAL), Ok(SERVER_FINAL.to_owned()));
    }

    #[test]
    fn a_wrong_password_and_a_user_who_does_not_exist_fail_alike() {
        let other = Verifier::new(b"pencils", &verifier().salt, 4096);
        let nobody = Nonexistent::among([&verifier()].into_iter()).verifier("user", &SECRET);
        for verifier in [other, nobody] {
            let (exchange, _) = Exchange::begin(ClientFirst::parse(CLIENT_FIRST).unwrap(), verifier, NONCE);
            assert_eq!(exchange.finish(CLIENT_FINAL), Err(ScramError::WrongProof));
        }
    }

    #[test]
    fn a_user_who_does_not_exist_looks_like_one_who_does() {
        let with = |password: &[u8], salt: &[u8], iterations| Verifier::new(password, salt, iterations);
        let users = [with(b"a", &[1; 16], 4096), with(b"b", &[2; 24], 15_000), with(b"c", &[3; 24], 15_000)];
        let nobodies = Nonexistent::among(users.iter());
        let (one, two) = (nobodies.verifier("one", &SECRET), nobodies.verifier("two", &SECRET));
        assert_ne!(one.salt, two.salt);
        assert_eq!((one.salt.len(), one.iterations.get()), (24, 15_000), "as most of them have it");
        let new = Nonexistent::among([].into_iter()).verifier("one", &SECRET);
        assert_eq!((new.salt.len(), new.iterations.get()), (16, ITERATIONS));
    }

    /// What a user knows of itself must not tell it who else there is.
    #[test]
    fn made_up_salts_depend_on_the_secret_and_on_no_password() {
        let salt = |password: &[u8], secret| {
            Nonexistent::among([&Verifier::new(password, &[1; 16], 4096)].into_iter()).verifier("one", secret).salt
        };
        assert_eq!(salt(b"old", &SECRET), salt(b"new", &SECRET));
        assert_ne!(salt(b"old", &SECRET), salt(b"old", &[8; 32]));
    }

    #[test]
    fn an_overheard_message_is_of_no_use_in_another_exchange() {
        let (exchange, _) = Exchange::begin(ClientFirst::parse(CLIENT_FIRST).unwrap(), verifier(), "another-nonce");
        assert_eq!(exchange.finish(CLIENT_FINAL), Err(ScramError::Mismatch));
    }

    #[test]
    fn a_header_that_was_changed_on_the_way_is_noticed() {
        let first = ClientFirst::parse(b"y,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let (exchange, _) = Exchange::begin(first, verifier(), NONCE);
        assert_eq!(exchange.finish(CLIENT_FINAL), Err(ScramError::Mismatch));
    }

    #[test]
    fn first_messages_that_we_do_not_take() {
        use ScramError::{Malformed, OtherIdentity, Unsupported};
        let cases: [(&[u8], ScramError); 14] = [
            (b"", Malformed),
            (b"n,,", Malformed),
            (b"n,,n=user", Malformed),
            (b"n,,r=abc,n=user", Malformed),
            (b"n,,n=,r=abc", Malformed),
            (b"n,,n=user,r=", Malformed),
            (b"n,,n=a=b,r=abc", Malformed),
            (b"x,,n=user,r=abc", Malformed),
            (b"n,b=c,n=user,r=abc", Malformed),
            (b"n,,n=us\0er,r=abc", Malformed),
            (b"n,,n=\xFF,r=abc", Malformed),
            (b"p=tls-exporter,,n=user,r=abc", Unsupported),
            (b"n,,m=x,n=user,r=abc", Unsupported),
            (b"n,a=root,n=user,r=abc", OtherIdentity),
        ];
        for (message, error) in cases {
            assert_eq!(ClientFirst::parse(message), Err(error), "{}", String::from_utf8_lossy(message));
        }
        assert_eq!(ClientFirst::parse(&[b'n'; MESSAGE_BYTES_MAX + 1]), Err(Malformed));
    }

    #[test]
    fn first_messages_that_are_unusual_but_right() {
        for (message, username) in [
            (&b"y,,n=user,r=abc"[..], "user"),
            (b"n,a=user,n=user,r=abc", "user"),
            (b"n,,n=a=2Cb=3Dc,r=abc,x=later", "a,b=c"),
        ] {
            assert_eq!(&*ClientFirst::parse(message).unwrap().username, username);
        }
    }

    #[test]
    fn last_messages_that_we_do_not_take() {
        for message in
            ["", "c=biws", "c=biws,r=x", "r=x,c=biws,p=AAAA", "c=biws,r=x,p=AAAA", "c=biws,r=x,p=!", "e=other"]
        {
            assert_eq!(begun().finish(message.as_bytes()), Err(ScramError::Malformed), "{message}");
        }
    }

    #[test]
    fn a_verifier_is_read_as_postgresql_writes_it() {
        let text = verifier().to_string();
        assert_eq!(
            text,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert_eq!(Verifier::parse(&text), Ok(verifier()));
        assert!(verifier().verify(b"pencil") && !verifier().verify(b"Pencil"));
    }

    #[test]
    fn verifiers_that_are_none_or_cost_too_much_are_refused() {
        let text = verifier().to_string();
        assert!(Verifier::parse(&text.replace("4096", "1000001")).unwrap_err().contains("too much"));
        for wrong in [
            text.replace("4096", "0"),
            text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "AAAA"),
            text.replace(':', "$"),
            text[..90].to_owned(),
        ] {
            assert!(Verifier::parse(&wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = ClientFirst::parse(&message);
            prop_assert!(begun().finish(&message).is_err());
        }

        #[test]
        fn nothing_like_a_message_makes_it_panic(first in "[nyp],(a=[a-z]*)?,(n=|r=|m=)[a-z=2C3D,]{0,20}", last in "c=biws,r=[a-zO%$]{0,9},p=[A-Za-z+/=]{0,50}") {
            let _ = ClientFirst::parse(first.as_bytes());
            prop_assert!(begun().finish(last.as_bytes()).is_err());
        }

        #[test]
        fn names_survive_escaping(name in "[ -~ä]{1,20}") {
            let escaped = name.replace('=', "=3D").replace(',', "=2C");
            prop_assert_eq!(unescape(&escaped), Ok(name));
        }
    }
}
