//! The tokens that requests bring, and the file that they are in.

use std::fs;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

/// A shorter token could be guessed.
const LENGTH_MIN: usize = 16;
/// Longest name of a token.
const NAME_LENGTH_MAX: usize = 64;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

/// The tokens of a file, by their hashes: a copy of our memory does not tell them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens(Vec<Token>);

#[derive(Debug, PartialEq, Eq)]
struct Token {
    name: Box<str>,
    scope: Scope,
    hash: [u8; 32],
}

impl Tokens {
    /// Reads a file with tokens.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let text = fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
        Self::parse(&text, &name.to_string())
    }

    /// Parses lines of `name read|write token`. Empty ones count for nothing, and so do those that begin with `#`.
    fn parse(text: &str, file: &str) -> Result<Self, String> {
        let mut tokens = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                tokens.add(line).map_err(|problem| format!("{file}:{number}: {problem}"))?;
            }
        }
        match tokens.0.is_empty() {
            true => Err(format!("{file}: there is no token in it, so nobody could send a request")),
            false => Ok(tokens),
        }
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(scope), Some(token), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("a line is a name, \"read\" or \"write\", and a token".to_owned());
        };
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        if name.len() > NAME_LENGTH_MAX || !name.bytes().all(is_of_name) {
            return Err(format!(
                "a name is up to {NAME_LENGTH_MAX} letters, digits, '-', '_', '.' and '@': the log tells by it who did something"
            ));
        }
        if self.0.iter().any(|other| *other.name == *name) {
            return Err(format!("there is a token with the name {name} already"));
        }
        let scope = match scope {
            "read" => Scope::Read,
            "write" => Scope::Write,
            _ => return Err(format!("the scope of {name} is neither \"read\" nor \"write\"")),
        };
        // What may follow "Bearer" in a request (RFC 6750, section 2.1). The messages do not show it: they go into a log.
        let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !token.bytes().all(is_of_token) {
            return Err(format!("the token of {name} is not of letters, digits, '-', '.', '_', '~', '+', '/' and '='"));
        }
        if token.len() < LENGTH_MIN {
            return Err(format!("the token of {name} is shorter than {LENGTH_MIN} characters"));
        }
        let hash = hash(token);
        if self.0.iter().any(|other| other.hash == hash) {
            return Err(format!("the token of {name} is somebody else's, too"));
        }
        self.0.push(Token { name: name.into(), scope, hash });
        Ok(())
    }

    /// Whose token this is, and what it is good for. How long that takes tells nothing of the tokens that there are.
    pub(super) fn find(&self, token: &str) -> Option<(&str, Scope)> {
        let hash = hash(token);
        let mut found = None;
        for candidate in &self.0 {
            if verify_slices_are_equal(&candidate.hash, &hash).is_ok() {
                found = Some((&*candidate.name, candidate.scope));
            }
        }
        found
    }
}

fn hash(token: &str) -> [u8; 32] {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_with_its_name_and_scope() {
        let text = "# who may\n\nprometheus read 0123456789abcdef\n  ops\twrite  AAAA+/-._~bbbbbbbb== \n";
        let tokens = Tokens::parse(text, "f").unwrap();
        assert_eq!(tokens.find("0123456789abcdef"), Some(("prometheus", Scope::Read)));
        assert_eq!(tokens.find("AAAA+/-._~bbbbbbbb=="), Some(("ops", Scope::Write)));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0", "ops"] {
            assert_eq!(tokens.find(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_token() {
        let good = "a read 0123456789abcdef\n";
        for (line, problem) in [
            ("b read", "a line is a name"),
            ("b read 0123456789abcdeX and", "a line is a name"),
            ("b/c read 0123456789abcdeX", "a name is up to 64 letters"),
            ("a read 0123456789abcdeX", "there is a token with the name a already"),
            ("b admin 0123456789abcdeX", "the scope of b is neither"),
            ("b read 0123456789abcde", "the token of b is shorter than 16 characters"),
            ("b read 0123456789abcdeé", "the token of b is not of letters"),
            ("b read 0123456789abcdef", "the token of b is somebody else's, too"),
        ] {
            let error = Tokens::parse(&format!("{good}{line}\n"), "tokens").unwrap_err();
            assert!(error.starts_with(&format!("tokens:2: {problem}")), "{error}");
            assert!(!error.contains("0123456789abcde"), "{error}");
        }
        assert!(Tokens::parse("# nobody\n", "tokens").unwrap_err().starts_with("tokens: there is no token"));
    }
}
