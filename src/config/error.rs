//! What is wrong with a setting, and where it stands.

use std::fmt;

/// Why the settings were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the setting stands.
    pub origin: Origin,
    /// The setting as its source names it, such as `limits.packet_bytes_max` or `WILLOWMQ_SHARDS`; empty where the
    /// error is about the document as a whole.
    pub key: String,
    /// What is wrong with it.
    pub fault: Box<Fault>,
}

/// The source of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    File {
        /// The file's path.
        name: String,
        /// The line on which the setting begins.
        line: usize,
    },
    /// The environment.
    Environment,
    /// The command line.
    Flag,
    /// No source: the default is what does not fit.
    Default,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The text is not TOML.
    Syntax(String),
    /// There is no such key or section.
    Unknown {
        /// The known name that is nearest, if one is near.
        nearest: Option<String>,
    },
    /// Another setting asks for the key, and it is not set.
    Missing {
        /// What asks for it, or what is to be done.
        reason: String,
    },
    /// The value is not allowed.
    Value {
        /// The value as the source gives it.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// The allowed values in words.
        allowed: String,
    },
}

impl ConfigError {
    pub(super) fn new(origin: Origin, key: impl Into<String>, fault: Fault) -> Self {
        Self { origin, key: key.into(), fault: Box::new(fault) }
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { name, line } => write!(f, "{name}:{line}: ")?,
            Origin::Environment => f.write_str("environment: ")?,
            Origin::Flag => f.write_str("command line: ")?,
            Origin::Default => {}
        }
        let key = &self.key;
        match self.fault.as_ref() {
            Fault::Syntax(message) if key.is_empty() => f.write_str(message),
            Fault::Syntax(message) => write!(f, "{key}: {message}"),
            Fault::Unknown { nearest: None } => write!(f, "there is no setting {key}"),
            Fault::Unknown { nearest: Some(nearest) } => {
                write!(f, "there is no setting {key}; did you mean {nearest}?")
            }
            Fault::Missing { reason } => write!(f, "{key} is not set: {reason}"),
            Fault::Value { value, reason, allowed } => write!(f, "{key} = {value}: {reason}; allowed: {allowed}"),
        }
    }
}
