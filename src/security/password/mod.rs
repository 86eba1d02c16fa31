//! The password file: who has which password, as hashes.
//!
//! One credential a line, as `user name:hash`. A user may have two lines: one with the hash of the password, and one with a SCRAM
//! verifier, for clients that authenticate by SCRAM-SHA-256 instead of sending the password. Blank lines and lines that begin with `#`
//! are left alone. A User Name holds no colon and does not begin with `#`.
//!
//! ```text
//! # What `willowmq passwd add --scram` writes:
//! lamp:$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
//! lamp:SCRAM-SHA-256$15000:<salt>$<StoredKey>:<ServerKey>
//! # What mosquitto_passwd writes, read as it is:
//! old:$6$<salt>$<hash>
//! less-old:$7$<iterations>$<salt>$<hash>
//! ```
//!
//! A user who has a SCRAM verifier alone can send the password, too: the verifier tells whether it is right.

mod edit;
mod hash;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::BuildHasher;

pub use edit::{with_user, without_user};
pub use hash::{Cost, Hash, Scratch};

use super::scram::{Nonexistent, Verifier};

/// The users of a password file.
#[derive(Debug, Default)]
pub struct PasswordFile {
    users: HashMap<Box<str>, User>,
    /// The names once more, to choose one from.
    names: Vec<Box<str>>,
    nonexistent: Nonexistent,
}

/// What a file has about a user. It has at least one of the two.
#[derive(Debug, Default)]
pub struct User {
    /// The hash of the password.
    pub hash: Option<Hash>,
    /// What SCRAM needs instead.
    pub scram: Option<Verifier>,
}

/// What is wrong with a password file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordFileError {
    /// The file's name.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong. It never holds what the line says.
    pub reason: String,
}

impl std::error::Error for PasswordFileError {}

impl fmt::Display for PasswordFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

impl PasswordFile {
    /// Reads the content of a file called `file`.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(content: &[u8], file: &str) -> Result<Self, PasswordFileError> {
        let mut users: HashMap<Box<str>, User> = HashMap::new();
        for (line, number) in content.split(|&byte| byte == b'\n').zip(1..) {
            let fail = |reason: String| PasswordFileError { file: file.to_owned(), line: number, reason };
            let line = std::str::from_utf8(line).map_err(|_| fail("this is not UTF-8".to_owned()))?;
            if let Some((name, credential)) = split(line).map_err(|reason| fail(reason.to_owned()))? {
                let user = match users.entry(name.into()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(User::default()),
                };
                user.add(credential).map_err(fail)?;
            }
        }
        let names: Vec<_> = users.keys().cloned().collect();
        let nonexistent = Nonexistent::among(users.values().filter_map(|user| user.scram.as_ref()));
        Ok(Self { users, names, nonexistent })
    }

    /// Whether `password` is that of `username`; `None` where the file does not know the user.
    ///
    /// Both take the same time: for a user who is not known the password is hashed as for one who is. Which one that is depends on
    /// the unknown name alone, so a name that is not there behaves like one that is, in a file with several kinds of hashes, too.
    pub fn verify(&self, username: &str, password: &[u8], scratch: &mut Scratch) -> Option<bool> {
        if let Some(user) = self.users.get(username) {
            return Some(user.verify(password, scratch));
        }
        if let Some(stand_in) = self.stand_in(username) {
            std::hint::black_box(stand_in.verify(password, scratch));
        }
        None
    }

    fn stand_in(&self, username: &str) -> Option<&User> {
        let hash = self.users.hasher().hash_one(username) as usize; // By a key that nobody knows.
        let name = self.names.get(hash.checked_rem(self.names.len())?)?;
        self.users.get(name)
    }

    /// Whether the file has the user, with whatever credentials.
    pub fn knows(&self, username: &str) -> bool {
        self.users.contains_key(username)
    }

    /// Whether the file has anybody who can authenticate by SCRAM.
    pub fn has_scram(&self) -> bool {
        self.users.values().any(|user| user.scram.is_some())
    }

    /// What SCRAM needs about a user, if the file has it.
    pub fn scram(&self, username: &str) -> Option<&Verifier> {
        self.users.get(username)?.scram.as_ref()
    }

    /// A verifier for a user who has none. It looks like those of most others, and the same each time for the same `secret`.
    pub fn scram_of_nobody(&self, username: &str, secret: &[u8; 32]) -> Verifier {
        self.nonexistent.verifier(username, secret)
    }

    /// All users, in no order.
    pub fn users(&self) -> impl Iterator<Item = (&str, &User)> {
        self.users.iter().map(|(name, user)| (&**name, user))
    }
}

impl User {
    fn add(&mut self, credential: &str) -> Result<(), String> {
        if Verifier::is_one(credential) {
            let verifier = Verifier::parse(credential)?;
            return match self.scram.replace(verifier) {
                None => Ok(()),
                Some(_) => Err("the user has a SCRAM verifier on a line above".to_owned()),
            };
        }
        let hash = Hash::parse(credential)?;
        match self.hash.replace(hash) {
            None => Ok(()),
            Some(_) => Err("the user has a password on a line above".to_owned()),
        }
    }

    fn verify(&self, password: &[u8], scratch: &mut Scratch) -> bool {
        match (&self.hash, &self.scram) {
            (Some(hash), _) => hash.verify(password, scratch),
            (None, Some(verifier)) => verifier.verify(password),
            (None, None) => false,
        }
    }
}

/// User name and credential of a line; `None` where it holds none.
fn split(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    match line.split_once(':') {
        Some(("", _)) => Err("there is no user name before the colon"),
        Some((_, "")) => Err("there is no hash behind the colon"),
        Some(both) => Ok(Some(both)),
        None => Err("there is no colon: a line is \"user name:hash\""),
    }
}

/// Whether a password file can have a user with this name.
///
/// # Errors
/// Why not.
pub fn check_username(username: &str) -> Result<(), &'static str> {
    if username.is_empty() {
        return Err("a user name cannot be empty");
    }
    if username.contains(':') {
        return Err("a user name cannot hold a colon");
    }
    if username.starts_with('#') {
        return Err("a user name cannot begin with #, as a comment does");
    }
    if username.contains(char::is_control) || username.trim_end() != username {
        return Err("a user name cannot hold control characters or end with a blank");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by mosquitto_passwd 2.0: `-H sha512` for anna, and `-H sha512-pbkdf2` for bert.
    const MOSQUITTO: &str = "anna:$6$lxsjzAKF9G6Kyjd0$lGHJqkZxJv3Ac0uCqTzevXrsum47I4mCdrbUhcjks+Wsop0B6JtXG4PKABYLC+OHaHDt9zsBhBRNXKvZdEQnbw==\n\
        bert:$7$101$iav8cs23DY7tg3jM$i381e9dHB/8iyT79dyH26YsLZBd+lK7nnjlrXrCb8vVnl12GJ0mk7cd+sfgBINb8jfP3HNmgU281mBSH4iAEKw==\n";
    const PASSWORD: &[u8] = b"correct horse";

    fn parse(text: &str) -> Result<PasswordFile, PasswordFileError> {
        PasswordFile::parse(text.as_bytes(), "users")
    }

    fn verify(file: &PasswordFile, username: &str, password: &[u8]) -> Option<bool> {
        file.verify(username, password, &mut Scratch::default())
    }

    fn argon2id(password: &str) -> String {
        Hash::argon2id(password.as_bytes(), &[7; 16], Cost { kib: 8, passes: 1, lanes: 1 }).to_string()
    }

    #[test]
    fn files_of_mosquitto_are_read_as_they_are() {
        let file = parse(MOSQUITTO).unwrap();
        for name in ["anna", "bert"] {
            assert_eq!(verify(&file, name, PASSWORD), Some(true), "{name}");
            assert_eq!(verify(&file, name, b"correct horsE"), Some(false), "{name}");
            assert_eq!(verify(&file, name, b""), Some(false), "{name}");
        }
    }

    #[test]
    fn an_unknown_user_is_told_from_a_wrong_password() {
        let file = parse(MOSQUITTO).unwrap();
        assert_eq!(verify(&file, "carl", PASSWORD), None);
        assert_eq!(verify(&parse("").unwrap(), "carl", PASSWORD), None);
    }

    #[test]
    fn an_unknown_user_costs_what_a_known_one_does_and_the_same_each_time() {
        let file = parse(MOSQUITTO).unwrap();
        let stand_in = |name: &str| std::ptr::from_ref(file.stand_in(name).unwrap());
        let chosen: std::collections::BTreeSet<_> = (0..64).map(|number| stand_in(&format!("u{number}"))).collect();
        assert_eq!(chosen.len(), 2, "unknown names are spread over the users");
        assert_eq!(stand_in("carl"), stand_in("carl"));
    }

    #[test]
    fn a_user_has_a_hash_and_a_verifier_for_scram() {
        let verifier = Verifier::new(b"pencil", &[1; 16], 4096);
        let file = parse(&format!("lamp:{}\nlamp:{verifier}\nscram:{verifier}\n", argon2id("pencil"))).unwrap();
        assert_eq!(verify(&file, "lamp", b"pencil"), Some(true));
        assert_eq!(file.scram("lamp"), Some(&verifier));
        assert_eq!(verify(&file, "scram", b"pencil"), Some(true), "the verifier alone tells it, too");
        assert_eq!(verify(&file, "scram", b"pen"), Some(false));
        assert!(file.has_scram() && !parse(MOSQUITTO).unwrap().has_scram());
    }

    #[test]
    fn comments_blank_lines_and_line_ends_of_windows_are_no_matter() {
        let file = parse(&format!("# people\r\n\r\nlamp:{}\r\n   \n", argon2id("x"))).unwrap();
        assert_eq!(verify(&file, "lamp", b"x"), Some(true));
        assert_eq!(file.users().count(), 1);
    }

    #[test]
    fn what_is_wrong_names_file_and_line_and_no_secret() {
        let twice = format!("lamp:{0}\nlamp:{0}", argon2id("x"));
        let cases = [
            ("# all\nlamp", "users:2: there is no colon: a line is \"user name:hash\""),
            (":x", "users:1: there is no user name before the colon"),
            ("lamp:", "users:1: there is no hash behind the colon"),
            (
                "lamp:secret",
                "users:1: this is no hash that we know ($argon2id$, $6$, $7$ or SCRAM-SHA-256$); `willowmq passwd add` makes one",
            ),
            (&twice, "users:2: the user has a password on a line above"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
        let error = PasswordFile::parse(b"ok:x\n\xFF", "users").unwrap_err();
        assert_eq!(error.line, 1, "the first wrong line is told");
        assert_eq!(PasswordFile::parse(b"\n\xFF:x", "users").unwrap_err().to_string(), "users:2: this is not UTF-8");
    }

    #[test]
    fn names_that_no_line_can_hold_are_refused() {
        for name in ["", "a:b", "#a", "a\nb", "a "] {
            assert!(check_username(name).is_err(), "{name:?}");
        }
        for name in ["a", "Ä b", "a@b.c", "a#"] {
            assert_eq!(check_username(name), Ok(()), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_content_makes_the_parser_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PasswordFile::parse(&content, "users");
        }

        #[test]
        fn nothing_like_a_hash_makes_the_parser_panic(
            kind in proptest::sample::select(vec!["$argon2id$v=19$", "$6$", "$7$", "SCRAM-SHA-256$", "$argon2id$"]),
            rest in "[$:,=mtp0-9A-Za-z+/]{0,80}",
        ) {
            let _ = PasswordFile::parse(format!("lamp:{kind}{rest}").as_bytes(), "users");
        }
    }
}
