//! The `willowmq` binary: command line → config → run.

mod acl;
mod maintenance;
mod passwd;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use willowmq::config::{Config, File, Sources};
use willowmq::net::{self, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for an error in the configuration or on the command line, which is clap's as well.
const CONFIG_ERROR: u8 = 2;
/// Anything that has no code of its own.
const FAILURE: u8 = 1;

/// An MQTT broker that never loses a Last Will.
///
/// Settings come from the file, then from the environment (WILLOWMQ_LIMITS_PACKET_BYTES_MAX and so on), then from the flags below;
/// the later one wins. See --print-config for all of them.
#[derive(Parser)]
#[command(version, about, long_about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "WILLOWMQ_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Check the configuration and the files that it names, then exit
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force with their explanations, then exit
    #[arg(long)]
    print_config: bool,
    /// Number of shards: threads, one to a core
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Address to listen on, instead of those in the file; can be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// Directory for sessions, their messages, retained messages and wills
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
    /// When a reply may say that something is kept: sync, relaxed or memory
    #[arg(long, value_name = "MODE")]
    durability: Option<String>,
    /// Least severity that is logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// What to do instead of running the broker.
#[derive(Subcommand)]
enum Command {
    /// Look after the journals of a broker that does not run
    Journal {
        #[command(subcommand)]
        action: maintenance::Action,
    },
    /// Look after a password file
    Passwd {
        #[command(subcommand)]
        action: passwd::Action,
    },
    /// Tell what clients may do, and check rights files
    Acl {
        #[command(subcommand)]
        action: acl::Action,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load(&arguments) {
        Ok(config) => config,
        Err(error) => return fail(&error, CONFIG_ERROR),
    };
    match &arguments.command {
        None => {}
        Some(Command::Journal { action }) => {
            return match maintenance::run(action, &config.data_dir) {
                Ok(code) => ExitCode::from(code),
                Err((error, code)) => fail(&error, code),
            };
        }
        Some(Command::Passwd { action }) => {
            return match passwd::run(action) {
                Ok(code) => ExitCode::from(code),
                Err(error) => fail(&error, CONFIG_ERROR),
            };
        }
        Some(Command::Acl { action }) => {
            return match acl::run(action, &config.security) {
                Ok(code) => ExitCode::from(code),
                Err(error) => fail(&error, CONFIG_ERROR),
            };
        }
    }
    if let Err(error) = logging::level(&config.log) {
        return fail(&error, CONFIG_ERROR);
    }
    if arguments.print_config
        && let Err(error) = std::io::stdout().write_all(config.to_toml().as_bytes())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return fail(&format!("cannot print the configuration: {error}"), FAILURE); // `head` may stop early.
    }
    if arguments.check_config {
        let errors = net::check(&config);
        let codes: Vec<_> = errors.iter().map(|error| fail(&error.to_string(), error.exit_code())).collect();
        if let Some(&code) = codes.first() {
            return code;
        }
    }
    if arguments.print_config || arguments.check_config {
        return ExitCode::SUCCESS;
    }
    let _writes_the_log = match logging::begin(&config.log) {
        Ok(guard) => guard,
        Err(error) => return fail(&error, CONFIG_ERROR),
    };
    logging::abort_on_panic();
    match net::run(config, Box::new(move || load(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn load(arguments: &Arguments) -> Result<Config, String> {
    let name = arguments.config.as_ref().map(|path| path.display().to_string());
    let text = match &arguments.config {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?
        }
        None => String::new(),
    };
    let file = name.as_ref().map(|name| File { name, text: &text });
    // A variable that is not UTF-8 is none of ours: their names and values are text.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let sources = Sources { file, environment: environment.collect(), flags: flags(arguments) };
    Config::load(sources).map_err(|error| error.to_string())
}

/// The settings that flags stand for, by their keys.
fn flags(arguments: &Arguments) -> Vec<(String, String)> {
    let mut flags = Vec::new();
    let mut set = |key: &str, value: String| flags.push((key.to_owned(), value));
    if let Some(shards) = arguments.shards {
        set("shards", shards.to_string());
    }
    if let Some(directory) = &arguments.data_dir {
        set("data_dir", directory.clone());
    }
    if let Some(mode) = &arguments.durability {
        set("durability", mode.clone());
    }
    if let Some(level) = &arguments.log_level {
        set("log.level", level.clone());
    }
    if !arguments.listen.is_empty() {
        let listeners: Vec<_> =
            arguments.listen.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
        set("listeners", format!("[{}]", listeners.join(", ")));
    }
    flags
}

fn fail(error: &str, code: u8) -> ExitCode {
    eprintln!("willowmq: {error}");
    ExitCode::from(code)
}
