//! The command line: its definition, from which help, completions and manual pages come, and what each subcommand does.
//!
//! Without a subcommand the broker runs. A subcommand has a file or folder of its own here; this one only says what there is, and hands
//! over. What a subcommand answers is its exit code, or what is to be said on standard error together with one.

mod acl;
mod check;
mod config;
mod ctl;
mod doctor;
mod journal;
mod migrate;
mod passwd;
mod run;
mod settings;
mod shell;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use settings::{File, Overrides};

/// Exit code for an error in the configuration or on the command line, which is clap's as well.
const CONFIG_ERROR: u8 = 2;
/// Anything that has no code of its own.
const FAILURE: u8 = 1;
const SUCCESS: u8 = 0;

/// What a subcommand ends with: its exit code, or what is to be said and the exit code that goes with it.
type Outcome = Result<u8, Failure>;

/// Why a subcommand could not do what it was asked for.
#[derive(Debug)]
struct Failure {
    said: String,
    code: u8,
}

impl Failure {
    fn new(said: impl Into<String>, code: u8) -> Self {
        Self { said: said.into(), code }
    }

    /// Something is wrong with the configuration, or with what was asked.
    fn usage(said: impl Into<String>) -> Self {
        Self::new(said, CONFIG_ERROR)
    }
}

/// An MQTT broker that never loses a Last Will.
///
/// Without a subcommand the broker runs.
///
/// Settings come from the file, then from the environment (WILLOWMQ_LIMITS_PACKET_BYTES_MAX and so on), then from the flags below;
/// the later one wins. See `willowmq config` for all of them.
#[derive(Parser)]
#[command(name = "willowmq", version, about, long_about, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    overrides: Overrides,
    /// Check the configuration and the files that it names, then exit; like `willowmq check`, but silent where nothing is wrong
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force with their explanations, then exit; the same as `willowmq config`
    #[arg(long)]
    print_config: bool,
}

/// What to do. Without a subcommand the broker runs.
#[derive(Subcommand)]
enum Command {
    /// Run the broker; the same as no subcommand at all
    Run(run::Options),
    /// Say what is wrong with the configuration and the files that it names
    ///
    /// Nothing is listened on and nothing is changed. Exits with 0 where nothing is wrong, with 2 where a setting is, and otherwise
    /// with the code that the start would have ended with.
    Check(check::Options),
    /// Print the settings: those in force, all that there are, or a file to begin with
    ///
    /// Without a flag: the settings in force, each with its meaning, as a file that can be used again.
    Config(config::Options),
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
    /// Look after the journals of a broker that does not run
    Journal(journal::Options),
    /// Look after a broker that runs, by its HTTP API
    ///
    /// Exits with 0 where it could be done, with 1 where not, with 2 where the command line or the configuration is wrong, with 3 where
    /// the broker cannot be reached, with 4 where it refuses, and with 5 where what was asked for is not there.
    Ctl(ctl::Options),
    /// Look at this machine and the configuration: what is fine, what is not, and what to type
    ///
    /// Nothing is changed: a port is taken for a moment, and a file in the data directory written and removed. Best run as the user that
    /// the broker runs as. Exits with 1 where something is wrong.
    Doctor(doctor::Options),
    /// Write our configuration from one of Mosquitto, and name what could not be carried over
    Migrate(migrate::Options),
    /// Print what a shell needs to complete the command line
    Completions(shell::Completions),
    /// Print the manual page, or write those of all subcommands
    Man(shell::Manual),
}

impl Default for Command {
    fn default() -> Self {
        Self::Run(run::Options::default())
    }
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&failure.said);
            ExitCode::from(failure.code)
        }
    }
}

fn carry_out(arguments: Arguments) -> Outcome {
    let Arguments { command, file, overrides, check_config, print_config } = arguments;
    let load = |inner: Overrides| settings::load(&file, inner.or(overrides.clone()));
    match command.unwrap_or_default() {
        Command::Run(options) if check_config || print_config => {
            let config = load(options.overrides)?;
            if print_config {
                config::print_effective(&config)?;
            }
            if check_config { check::run(&config) } else { Ok(SUCCESS) }
        }
        Command::Run(options) => run::run(file.clone(), options.overrides.or(overrides.clone())),
        Command::Check(options) => check::run_and_say(&load(options.overrides)?),
        Command::Config(options) => options.run(load),
        Command::Passwd { action } => passwd::run(&action).map_err(Failure::usage),
        Command::Acl { action } => acl::run(&action, &load(Overrides::default())?.security).map_err(Failure::usage),
        Command::Journal(options) => {
            let overrides = Overrides { data_dir: options.data_dir, ..Overrides::default() };
            journal::run(&options.action, &load(overrides)?.data_dir)
        }
        Command::Ctl(options) => ctl::run(options, &file),
        Command::Doctor(options) => doctor::run(&options, load(Overrides::default()), file.config.as_deref()),
        Command::Migrate(options) => migrate::run(&options),
        Command::Completions(options) => options.run(Arguments::command()),
        Command::Man(options) => options.run(Arguments::command()),
    }
}

/// Prints an answer on standard output. Whoever reads it may stop early, as `head` does.
fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}"), FAILURE))
        }
        _ => Ok(SUCCESS),
    }
}

/// Says on standard error what an operator has to know.
fn say(said: &str) {
    // Where nobody listens there is nobody to tell.
    let _ = writeln!(io::stderr(), "willowmq: {said}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    fn parsed(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn flags_of_run_are_taken_with_and_without_it() {
        let flags = "--config c.toml --shards 3 --listen [::1]:1 --data-dir d --durability relaxed --log-level debug";
        for line in [format!("willowmq {flags}"), format!("willowmq run {flags}"), format!("willowmq {flags} run")] {
            let Arguments { command, file, overrides, .. } = parsed(&line);
            let Command::Run(options) = command.unwrap_or_default() else { panic!("{line} does not run") };
            let found = options.overrides.or(overrides);
            assert_eq!(file.config.as_deref(), Some("c.toml".as_ref()), "{line}");
            assert_eq!((found.shards, found.listen.len()), (Some(3), 1), "{line}");
            assert_eq!(found.data_dir.as_deref(), Some("d"), "{line}");
            assert_eq!(found.durability.as_deref(), Some("relaxed"), "{line}");
            assert_eq!(found.log_level.as_deref(), Some("debug"), "{line}");
        }
    }

    #[test]
    fn what_comes_after_the_subcommand_counts() {
        let Arguments { command, overrides, .. } = parsed("willowmq --shards 2 --data-dir d check --shards 5");
        let Some(Command::Check(options)) = command else { panic!("no check") };
        let found = options.overrides.or(overrides);
        assert_eq!((found.shards, found.data_dir.as_deref()), (Some(5), Some("d")));
    }

    #[test]
    fn journals_are_told_their_directory_before_and_after_what_to_do() {
        for line in ["willowmq journal --data-dir d check", "willowmq journal check --data-dir d"] {
            let Some(Command::Journal(options)) = parsed(line).command else { panic!("no journal") };
            assert_eq!(options.data_dir.as_deref(), Some("d"), "{line}");
        }
        assert_eq!(parsed("willowmq --data-dir d journal check").overrides.data_dir.as_deref(), Some("d"));
    }
}
