//! `willowmq doctor`: looks at the machine and the configuration, and says what is fine, what is not, and what to type.
//!
//! What is looked at is read in one place ([`facts`]); the checks ([`checks`]) are functions of that, and each has a test. What the start
//! itself would check is asked of the same functions, by [`willowmq::net::probe`].

mod checks;
mod facts;
mod finding;
mod proc;

use std::io::IsTerminal;
use std::path::Path;
use std::time::SystemTime;

use clap::Args;
use willowmq::config::{Config, Durability};
use willowmq::net::{self, probe};

use super::{FAILURE, Failure, Outcome, SUCCESS, print};
use checks::{disk, files, listeners, system};
use facts::{Certificate, Clock, DataDirectory, Limits, Machine, NamedFile, Place};
use finding::{Finding, Look, Verdict};

/// What the kernel is looked at for where limits.connections_max is unset.
const CONNECTIONS_UNSAID: usize = 10_000;

/// How to say it.
#[derive(Args)]
pub(super) struct Options {
    /// Say it as a JSON object
    #[arg(long)]
    json: bool,
}

/// Looks at everything and says it.
///
/// Where the configuration cannot be loaded, that is said, and the machine is looked at for the defaults.
pub(super) fn run(options: &Options, config: Result<Config, Failure>, file: Option<&Path>) -> Outcome {
    let findings = findings(config, file);
    let text = match options.json {
        true => finding::json(&findings),
        false => finding::text(&findings, look()),
    };
    print(&text)?;
    Ok(if finding::worst(&findings) == Verdict::Wrong { FAILURE } else { SUCCESS })
}

/// As standard output is.
fn look() -> Look {
    let out = std::io::stdout();
    let size = rustix::termios::tcgetwinsize(&out).ok().filter(|size| size.ws_col > 0);
    Look {
        colours: out.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        columns: size.map_or(usize::MAX, |size| usize::from(size.ws_col)),
    }
}

fn findings(config: Result<Config, Failure>, file: Option<&Path>) -> Vec<Finding> {
    let (config, problems) = match config {
        Ok(config) => {
            let problems = net::check(&config).iter().map(ToString::to_string).collect();
            (config, problems)
        }
        Err(failure) => (Config::default(), vec![failure.said]),
    };
    let name = file.map(|path| path.display().to_string());
    let mut findings = files::configuration(name.as_deref(), &problems);
    let data = DataDirectory::read(&config.data_dir);
    let (machine, limits) = (Machine::read(), Limits::read(data.used_by));
    let shards = probe::shards(&config).map_or(1, |(shards, _)| shards);

    findings.push(system::kernel(&rustix::system::uname().release().to_string_lossy()));
    findings.push(system::ring(probe::ring().err().as_ref(), machine.sysctl("kernel.io_uring_disabled")));
    findings.push(system::memlock(&limits));
    let nr_open = machine.sysctl("fs.nr_open");
    findings.push(system::nofile(&config, &limits, nr_open));
    findings.push(system::processors(shards, &machine));
    findings.push(system::governor(machine.governor.as_deref()));
    let memory = probe::memory_limit(&config).map_err(|error| error.to_string());
    findings.push(system::memory(memory, probe::memory_available()));
    findings.push(system::huge_pages(machine.huge_pages.as_deref()));
    findings.push(system::clock(Clock::read()));
    // Who has not said how many there may be does not have very many.
    let connections = config.limits.connections_max.map_or(CONNECTIONS_UNSAID, |connections| connections as usize);
    findings.extend(system::sysctls(&config, &machine, connections));
    // Without a journal nothing tells whose broker it is, nor where its lock does not say.
    let is_ours = |pid| match data.used_by {
        Some(ours) => ours == pid,
        None => data.is_used || config.durability == Durability::Memory,
    };
    findings.extend(Place::read(&config).iter().map(|place| listeners::place(place, is_ours)));
    findings.extend(disk::data_directory(&config, &data, shards));
    findings.extend(Certificate::read(&config).iter().map(|one| files::certificate(one, SystemTime::now())));
    findings.extend(NamedFile::read(&config).iter().filter_map(files::permissions));
    findings
}
