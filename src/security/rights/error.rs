//! What is wrong with a rights file, and where.

use std::fmt;

/// Why a rights file was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightsError {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong, in words.
    pub message: String,
}

impl fmt::Display for RightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for RightsError {}

/// The same before it is known which file it is.
#[derive(Debug)]
pub(super) struct Wrong {
    line: usize,
    message: String,
}

impl Wrong {
    pub(super) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }

    pub(super) fn of_file(self, file: &str) -> RightsError {
        RightsError { file: file.to_owned(), line: self.line, message: self.message }
    }
}
