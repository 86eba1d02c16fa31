//! Hashes of passwords: what they look like in a file, and whether a password fits.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Bounds on what a file may ask for, so that no line of it makes a check take minutes, or the memory of the machine.
const KIB_MAX: u32 = 256 * 1024;
/// Memory times passes: about a second.
const KIB_PASSES_MAX: u64 = 1024 * 1024;
const LANES_MAX: u32 = 16;
/// About a second, too.
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES_MAX: usize = 64;
const SHA512_BYTES: usize = 64;
/// Lengths of the output of argon2id that make sense.
const OUTPUT_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, in the PHC string format.
    Argon2id {
        /// What it costs to compute.
        cost: Cost,
        /// Made by chance.
        salt: Box<[u8]>,
        /// The result.
        hash: Box<[u8]>,
    },
    /// `$6$salt$hash` of mosquitto_passwd before 2.0: SHA-512 of password and salt.
    Sha512 {
        /// Made by chance.
        salt: Box<[u8]>,
        /// The result.
        hash: Box<[u8]>,
    },
    /// `$7$iterations$salt$hash` of mosquitto_passwd: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// How often HMAC is computed.
        iterations: NonZeroU32,
        /// Made by chance.
        salt: Box<[u8]>,
        /// The result.
        hash: Box<[u8]>,
    },
}

/// What an argon2id costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Parts that could be computed side by side. We compute them one after the other.
    pub lanes: u32,
}

/// What OWASP recommends for interactive logins: 19 MiB, two passes.
impl Default for Cost {
    fn default() -> Self {
        Self { kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl Cost {
    /// Whether the cost is one that argon2id knows, and one that we bear.
    ///
    /// # Errors
    /// Why not.
    pub fn check(self) -> Result<(), String> {
        let work = u64::from(self.kib) * u64::from(self.passes);
        if self.kib > KIB_MAX || work > KIB_PASSES_MAX || self.lanes > LANES_MAX {
            return Err(format!(
                "a check would cost too much: at most m={KIB_MAX}, p={LANES_MAX}, and m times t {KIB_PASSES_MAX} are allowed"
            ));
        }
        self.params(32).map(|_| ()).map_err(|error| format!("argon2id does not work with this cost: {error}"))
    }

    fn params(self, output_bytes: usize) -> Result<Params, argon2::Error> {
        Params::new(self.kib, self.passes, self.lanes, Some(output_bytes))
    }
}

/// The memory that hashes are computed in, kept for the next one: thousands of pages taken from the system for each check take its time, and
/// given back they interrupt every other thread of the process.
#[derive(Default)]
pub struct Scratch {
    blocks: Vec<Block>,
}

impl Scratch {
    /// More than this is given back after use. The default cost stays below it.
    const KIB_KEPT_MAX: usize = 32 * 1024;

    fn blocks(&mut self, count: usize) -> Result<&mut [Block], argon2::Error> {
        if self.blocks.len() < count {
            self.blocks.clear();
            self.blocks.try_reserve_exact(count).map_err(|_| argon2::Error::OutOfMemory)?;
            self.blocks.resize(count, Block::new());
        }
        Ok(&mut self.blocks[..count])
    }

    fn give_back(&mut self) {
        if self.blocks.len() > Self::KIB_KEPT_MAX {
            self.blocks = Vec::new();
        }
    }
}

impl Hash {
    /// Hashes `password` by argon2id. The salt has 16 bytes that nobody could foresee.
    pub fn argon2id(password: &[u8], salt: &[u8], cost: Cost) -> Self {
        let mut hash = vec![0; 32];
        argon2id(password, salt, cost, &mut hash, &mut Scratch::default())
            .expect("the cost was checked, and the salt is long enough");
        Self::Argon2id { cost, salt: salt.into(), hash: hash.into() }
    }

    /// Reads a hash as it stands in a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("$argon2id$") {
            return parse_argon2id(rest);
        }
        if let Some(rest) = text.strip_prefix("$6$") {
            return parse_sha512(rest).ok_or_else(|| "this is no $6$ hash of mosquitto_passwd".to_owned());
        }
        if let Some(rest) = text.strip_prefix("$7$") {
            let hash = parse_pbkdf2(rest).ok_or("this is no $7$ hash of mosquitto_passwd")?;
            return match &hash {
                Self::Pbkdf2 { iterations, .. } if iterations.get() > ITERATIONS_MAX => {
                    Err(format!("a check would cost too much: at most {ITERATIONS_MAX} iterations are allowed"))
                }
                _ => Ok(hash),
            };
        }
        Err("this is no hash that we know ($argon2id$, $6$, $7$ or SCRAM-SHA-256$); `willowmq passwd add` makes one"
            .to_owned())
    }

    /// Whether `password` is the one that was hashed. It takes as long as the hash costs, and as long for a wrong one.
    pub fn verify(&self, password: &[u8], scratch: &mut Scratch) -> bool {
        match self {
            Self::Argon2id { cost, salt, hash } => {
                let mut computed = vec![0; hash.len()];
                // The parameters were checked when the hash was read, so only memory can be missing.
                argon2id(password, salt, *cost, &mut computed, scratch).is_ok()
                    && verify_slices_are_equal(&computed, hash).is_ok()
            }
            Self::Sha512 { salt, hash } => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(salt);
                verify_slices_are_equal(context.finish().as_ref(), hash).is_ok()
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, *iterations, salt, password, hash).is_ok()
            }
        }
    }

    /// The name of its kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Argon2id { .. } => "argon2id",
            Self::Sha512 { .. } => "sha512 (mosquitto $6$)",
            Self::Pbkdf2 { .. } => "pbkdf2-sha512 (mosquitto $7$)",
        }
    }
}

/// As it stands in a file.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argon2id { cost: Cost { kib, passes, lanes }, salt, hash } => {
                let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
                write!(f, "$argon2id$v=19$m={kib},t={passes},p={lanes}${salt}${hash}")
            }
            Self::Sha512 { salt, hash } => write!(f, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash)),
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
        }
    }
}

/// Hashes are secrets: a log shows the kind alone.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

fn argon2id(
    password: &[u8],
    salt: &[u8],
    cost: Cost,
    out: &mut [u8],
    scratch: &mut Scratch,
) -> Result<(), argon2::Error> {
    let params = cost.params(out.len())?;
    let blocks = scratch.blocks(params.block_count())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let result = argon2.hash_password_into_with_memory(password, salt, out, blocks);
    scratch.give_back();
    result
}

/// `v=19$m=…,t=…,p=…$salt$hash`
fn parse_argon2id(text: &str) -> Result<Hash, String> {
    let malformed = || "this is no argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash)".to_owned();
    let [version, costs, salt, hash] = parts(text).ok_or_else(malformed)?;
    if version != "v=19" {
        return Err("only version 19 (1.3) of argon2id is known".to_owned());
    }
    let mut costs = costs.split(',');
    let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse().ok();
    let cost = (|| Some(Cost { kib: cost("m=")?, passes: cost("t=")?, lanes: cost("p=")? }))().ok_or_else(malformed)?;
    if costs.next().is_some() {
        return Err(malformed());
    }
    let decode = |text| STANDARD_NO_PAD.decode(text).map(Vec::into_boxed_slice).map_err(|_| malformed());
    let (salt, hash) = (decode(salt)?, decode(hash)?);
    if !(argon2::MIN_SALT_LEN..=SALT_BYTES_MAX).contains(&salt.len()) || !OUTPUT_BYTES.contains(&hash.len()) {
        return Err(malformed());
    }
    cost.check()?;
    Ok(Hash::Argon2id { cost, salt, hash })
}

/// `salt$hash`
fn parse_sha512(text: &str) -> Option<Hash> {
    let [salt, hash] = parts(text)?;
    Some(Hash::Sha512 { salt: salt_of_mosquitto(salt)?, hash: hash_of_mosquitto(hash)? })
}

/// `iterations$salt$hash`
fn parse_pbkdf2(text: &str) -> Option<Hash> {
    let [iterations, salt, hash] = parts(text)?;
    Some(Hash::Pbkdf2 {
        iterations: iterations.parse().ok()?,
        salt: salt_of_mosquitto(salt)?,
        hash: hash_of_mosquitto(hash)?,
    })
}

fn parts<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split('$').collect::<Vec<_>>().try_into().ok()
}

fn salt_of_mosquitto(text: &str) -> Option<Box<[u8]>> {
    STANDARD.decode(text).ok().filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len())).map(Vec::into_boxed_slice)
}

fn hash_of_mosquitto(text: &str) -> Option<Box<[u8]>> {
    STANDARD.decode(text).ok().filter(|hash| hash.len() == SHA512_BYTES).map(Vec::into_boxed_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of the reference implementation of Argon2 (phc-winner-argon2, test.c): 256 KiB, two passes, "password", "somesalt".
    const REFERENCE: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn argon2id_is_that_of_the_reference() {
        let hash = Hash::parse(REFERENCE).unwrap();
        assert!(hash.verify(b"password", &mut Scratch::default()));
        assert!(!hash.verify(b"differentpassword", &mut Scratch::default()));
        assert_eq!(hash.to_string(), REFERENCE);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let hash = Hash::argon2id("pässword".as_bytes(), &[9; 16], Cost { kib: 16, passes: 1, lanes: 1 });
        let again = Hash::parse(&hash.to_string()).unwrap();
        assert_eq!(again, hash);
        assert!(again.verify("pässword".as_bytes(), &mut Scratch::default()));
    }

    #[test]
    fn a_hash_that_would_cost_too_much_is_refused_when_it_is_read() {
        let argon2id = |cost: &str| Hash::parse(&REFERENCE.replace("m=256,t=2,p=1", cost));
        assert!(argon2id("m=262144,t=4,p=4").is_ok());
        for cost in ["m=262145,t=1,p=1", "m=262144,t=5,p=1", "m=256,t=4294967295,p=1", "m=256,t=1,p=17"] {
            assert!(argon2id(cost).unwrap_err().contains("too much"), "{cost}");
        }
        let hash = STANDARD.encode([0; SHA512_BYTES]);
        let pbkdf2 = |iterations: &str| Hash::parse(&format!("$7${iterations}$c2FsdA==${hash}"));
        assert!(pbkdf2("1000000").is_ok());
        assert!(pbkdf2("1000001").unwrap_err().contains("too much"));
    }

    #[test]
    fn what_only_looks_like_a_hash_is_refused() {
        let hash = STANDARD.encode([0; SHA512_BYTES]);
        for text in [
            "$argon2id$".to_owned(),
            REFERENCE.replace("v=19", "v=16"),
            REFERENCE.replace("argon2id", "argon2i"),
            REFERENCE.replace("m=256", "m=1"),
            REFERENCE.replace("t=2", "t=0"),
            REFERENCE.replace("p=1", "p=1,data=AA"),
            REFERENCE.replace("c29tZXNhbHQ", "c29t"),
            format!("{REFERENCE}$"),
            format!("$6$c2FsdA==${}", &hash[..40]),
            format!("$6$$${hash}"),
            format!("$7$0$c2FsdA==${hash}"),
            format!("$7$-1$c2FsdA==${hash}"),
            format!("$7$c2FsdA==${hash}"),
            "$1$abc$def".to_owned(),
        ] {
            assert!(Hash::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_that_was_used_before_changes_nothing_and_much_of_it_is_not_kept() {
        let mut scratch = Scratch::default();
        let other = Hash::argon2id(b"other", &[9; 16], Cost { kib: 512, passes: 1, lanes: 1 });
        assert!(other.verify(b"other", &mut scratch));
        let hash = Hash::parse(REFERENCE).unwrap();
        assert!(hash.verify(b"password", &mut scratch) && !hash.verify(b"other", &mut scratch));
        assert_eq!(scratch.blocks.len(), 512);
        let large = Hash::argon2id(b"large", &[9; 16], Cost { kib: 33 * 1024, passes: 1, lanes: 1 });
        assert!(large.verify(b"large", &mut scratch));
        assert_eq!(scratch.blocks.len(), 0);
    }

    #[test]
    fn the_default_cost_is_within_the_bounds() {
        assert_eq!(Cost::default().check(), Ok(()));
    }

    #[test]
    fn a_log_does_not_show_a_hash() {
        assert_eq!(format!("{:?}", Hash::parse(REFERENCE).unwrap()), "argon2id");
    }
}
