//! Users who prove who they are by a password, which costs nothing to check.

use super::{Connect, unique};
use std::fs;
use std::path::Path;

/// The password of every user.
pub(crate) const PASSWORD: &[u8] = b"password";
/// Its hash, with 256 KiB and two passes.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

/// An authenticator that knows these users, by a file in `folder`.
pub(crate) fn authenticator(folder: &Path, users: &[&str]) -> String {
    let file = folder.join("passwords");
    let lines: String = users.iter().map(|user| format!("{user}:{HASH}\n")).collect();
    fs::write(&file, lines).unwrap();
    format!("[[authenticators]]\nname = \"users\"\nfile = {file:?}\n")
}

/// A CONNECT with this User Name and Password.
pub(crate) fn connect_as(version: u8, user: &str, password: &[u8]) -> Connect {
    Connect::new(version, &unique("user")).username(user.as_bytes()).password(password)
}
