//! `willowmq journal`: looks after the journals of a broker that does not run.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use willowmq::journal::Directory;
use willowmq::journal::directory::Access;
use willowmq::journal::tool::{DumpOptions, Verdict, check, dump, repair};
use willowmq::net::StartError;

use super::{FAILURE, Failure, Outcome, SUCCESS};

/// Which journals, and what to do with them.
#[derive(Args)]
pub(super) struct Options {
    /// Directory with the journals, instead of the one that the configuration names
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data_dir: Option<String>,
    #[command(subcommand)]
    pub(super) action: Action,
}

/// What to do with the journals.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Read everything, and tell what is there and what is wrong; nothing is changed
    Check(Reading),
    /// Print every record, one a line
    Dump {
        #[command(flatten)]
        reading: Reading,
        /// Only this shard
        #[arg(long, value_name = "N")]
        shard: Option<u8>,
        /// Only records from this log offset on
        #[arg(long, value_name = "OFFSET", default_value_t = 0)]
        from: u64,
        /// One JSON object a line instead of text
        #[arg(long)]
        json: bool,
    },
    /// Tell what a repair would do and what it would cost; with --yes, do it
    Repair {
        /// Change files; each is copied within the data directory before
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct Reading {
    /// Look although a broker is running: what is found may be out of date, and damage may be none
    #[arg(long)]
    live: bool,
}

impl Reading {
    fn access(&self) -> Access {
        if self.live { Access::ReadUnlocked } else { Access::Read }
    }
}

/// Does it, with the journals in `data_dir`.
pub(super) fn run(action: &Action, data_dir: &Path) -> Outcome {
    let access = match action {
        Action::Check(reading) | Action::Dump { reading, .. } => reading.access(),
        Action::Repair { yes: false } => Access::Read,
        Action::Repair { yes: true } => Access::Write,
    };
    let directory = Directory::open_existing(data_dir, access).map_err(|error| {
        let error = StartError::DataDirectory(error);
        Failure::new(error.to_string(), error.exit_code())
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let verdict = carry_out(action, &directory, &mut out).and_then(|verdict| out.flush().map(|()| verdict));
    match verdict {
        Ok(verdict) => Ok(verdict.exit_status()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(SUCCESS), // `head` may stop early.
        Err(error) => Err(Failure::new(format!("journal: {error}"), FAILURE)),
    }
}

fn carry_out(action: &Action, directory: &Directory, out: &mut dyn Write) -> io::Result<Verdict> {
    let shards = directory.meta().shards;
    match action {
        Action::Check(_) => check(directory, shards, out),
        Action::Dump { shard, from, json, .. } => {
            let options = DumpOptions { shard: *shard, from: *from, json: *json };
            dump(directory, shards, options, out).map(|()| Verdict::Sound)
        }
        Action::Repair { yes } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            repair(directory, *yes, now, out)
        }
    }
}
