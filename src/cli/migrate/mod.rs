//! `willowmq migrate`: writes our configuration from one of Mosquitto 2.0, and names what could not be carried over.
//!
//! Mosquitto's file is read into sections ([`source`]) whose options are known ([`options`]), translated ([`globals`], [`listeners`], [`access`])
//! into a draft of our file ([`draft`]), and that is written. What comes out can always be loaded, and lets in nobody whom Mosquitto
//! would have turned away.

mod access;
mod draft;
mod globals;
mod listeners;
mod options;
mod source;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{FAILURE, Failure, Outcome, SUCCESS, print};
use draft::{Draft, Weight};
use source::Source;

/// What to migrate.
#[derive(Args)]
pub(super) struct Options {
    /// Configuration of Mosquitto 2.0; what it includes is read as well
    #[arg(value_name = "MOSQUITTO.CONF")]
    file: PathBuf,
    /// Where to write our configuration, instead of standard output; the file must not be there yet
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does it. What could not be carried over is said on standard error, and in comments of what is written.
///
/// # Errors
/// The file cannot be read or is none of Mosquitto's, or the new one cannot be written.
pub(super) fn run(options: &Options) -> Outcome {
    let source = Source::read(&options.file).map_err(|error| Failure::usage(error.to_string()))?;
    let draft = translate(&source);
    let text = draft.to_toml(&options.file.display().to_string());
    match &options.output {
        Some(path) => write(&text, path)?,
        None => drop(print(&text)?),
    }
    eprint!("{}", summary(&draft, options.output.as_deref()));
    Ok(SUCCESS)
}

fn translate(source: &Source) -> Draft {
    let mut draft = Draft::default();
    globals::translate(source, &mut draft);
    listeners::translate(source, &mut draft);
    draft
}

fn write(text: &str, path: &Path) -> Result<(), Failure> {
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already: remove it, or give another name", path.display()))
        }
        _ => Failure::new(format!("cannot write {}: {error}", path.display()), FAILURE),
    })
}

/// What is said of the result: what is missing, what differs, and what to do next.
fn summary(draft: &Draft, output: Option<&Path>) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for (weight, title) in
        [(Weight::Lost, "These could not be carried over:"), (Weight::Differs, "These are different from Mosquitto:")]
    {
        if draft.notes_of(weight).next().is_some() {
            let _ = writeln!(out, "{title}");
        }
        draft.notes_of(weight).for_each(|note| {
            let _ = writeln!(out, "  {note}");
        });
    }
    let needless = draft.notes_of(Weight::Needless).count();
    if needless > 0 {
        let _ = writeln!(out, "What needs nothing here ({needless}) is listed in the file alone.");
    }
    if let Some(path) = output {
        let _ = writeln!(out, "Next: willowmq check --config {0} && willowmq doctor --config {0}", path.display());
    }
    out
}
