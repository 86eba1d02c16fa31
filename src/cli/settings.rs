//! Where the settings of a subcommand come from: the file, the environment, and flags.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use willowmq::config::{self, Config, Sources};

use super::Failure;

/// The configuration file, which any subcommand can be told.
#[derive(Args, Clone)]
pub(super) struct File {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "WILLOWMQ_CONFIG", global = true, display_order = 901)]
    pub(super) config: Option<PathBuf>,
}

/// Flags that stand for settings. They can be given before the subcommand and after it; what comes after it counts.
#[derive(Args, Clone, Default)]
pub(super) struct Overrides {
    /// Number of shards: threads, one to a core
    #[arg(long, value_name = "N")]
    pub(super) shards: Option<u16>,
    /// Address to listen on, instead of those in the file; can be repeated
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Vec<SocketAddr>,
    /// Directory for sessions, their messages, retained messages and wills
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<String>,
    /// When a reply may say that something is kept: sync, relaxed or memory
    #[arg(long, value_name = "MODE")]
    pub(super) durability: Option<String>,
    /// Least severity that is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
}

impl Overrides {
    /// These, and where one is not given, that of `outer`.
    pub(super) fn or(self, outer: Self) -> Self {
        Self {
            shards: self.shards.or(outer.shards),
            listen: if self.listen.is_empty() { outer.listen } else { self.listen },
            data_dir: self.data_dir.or(outer.data_dir),
            durability: self.durability.or(outer.durability),
            log_level: self.log_level.or(outer.log_level),
        }
    }

    /// The settings that these stand for, by their keys.
    fn settings(&self) -> Vec<(String, String)> {
        let listeners: Vec<_> = self.listen.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        let listeners = (!listeners.is_empty()).then(|| format!("[{}]", listeners.join(", ")));
        let settings = [
            ("shards", self.shards.map(|shards| shards.to_string())),
            ("data_dir", self.data_dir.clone()),
            ("durability", self.durability.clone()),
            ("log.level", self.log_level.clone()),
            ("listeners", listeners),
        ];
        settings.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

/// A configuration is some kilobytes. Something else that has come into its place, a log or a device, must not cost a running broker its memory.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The settings in force.
///
/// # Errors
/// The file cannot be read, or what is wrong with a setting.
pub(super) fn load(file: &File, overrides: Overrides) -> Result<Config, Failure> {
    from_text(file, &text_of(file)?, overrides)
}

/// What stands in the file; nothing where there is none.
///
/// # Errors
/// It cannot be read.
pub(super) fn text_of(file: &File) -> Result<String, Failure> {
    let Some(path) = &file.config else { return Ok(String::new()) };
    read(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

/// The settings in force when this stands in the file.
///
/// # Errors
/// What is wrong with a setting.
pub(super) fn from_text(file: &File, text: &str, overrides: Overrides) -> Result<Config, Failure> {
    let name = file.config.as_ref().map(|path| path.display().to_string());
    let file = name.as_ref().map(|name| config::File { name, text });
    // A variable that is not UTF-8 is none of ours: their names and values are text.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let sources = Sources { file, environment: environment.collect(), flags: overrides.settings() };
    Config::load(sources).map_err(|error| Failure::usage(error.to_string()))
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is longer than 4 MiB, which no configuration is"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}
