//! The shell: sockets, threads, clocks and signals around the state machines of `shard`.
//!
//! Every shard is one thread. On it, a worker moves bytes between the socket ring, which does all socket I/O, and the state machine,
//! in turns. Shards talk through the mesh. [`run`] sets all that up and waits for its end.
//!
//! **Invariant**: nothing here knows what a packet means, except for those that come before there is a Session: CONNECT, with the Client
//! Identifier and credentials in it, and the AUTH packets with which a client proves who it is.

mod admission;
mod arrivals;
mod asking;
mod authentication;
mod bind;
mod clock;
mod connection;
mod counters;
mod data;
pub(crate) mod desk;
mod doors;
pub(crate) mod drain;
mod endings;
mod entry;
mod errand;
mod executor;
mod handshake;
mod journal;
mod life;
mod link;
mod listener;
pub mod logging;
mod memory;
mod mesh;
mod offload;
mod plan;
pub mod probe;
pub(crate) mod reload;
pub(crate) mod report;
mod ring;
mod safeguards;
mod signals;
mod sources;
mod startup;
mod totals;
pub(crate) mod transport;
mod unread;
mod watchdog;
mod worker;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub(crate) use admission::GateFigures;
#[cfg(test)]
pub(crate) use admission::TurnedAway;
pub(crate) use authentication::Totals;
pub use bind::Endpoint;
pub(crate) use journal::JournalFigures;
pub(crate) use memory::used as memory_used;
pub use reload::{Outcome, Reloader, Source};
pub(crate) use report::ShardReport;
pub use safeguards::{check, read_rights};
pub use startup::StartError;

use crate::admin::{Means, Server, Sys};
use crate::config::{Config, Durability};
use crate::shard::ShardId;
use crate::timer::Moment;
use admission::Gate;
use clock::Clock;
use data::Data;
use desk::Desk;
use doors::Doors;
use drain::{Drain, Stop};
use mesh::Mesh;
use plan::{InForce, Parts, Plan};
use signals::Signals;

/// How often it is looked whether a signal has come while the shards begin.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the broker until a signal ends it; `log` is the control of its log. With SIGHUP it takes over what `source` says by then.
///
/// # Errors
/// Why it could not start.
pub fn run(config: Config, source: Source, log: logging::Control) -> Result<(), StartError> {
    let begin = SystemTime::now();
    let mut signals = Signals::register()?;
    startup::check_system()?;
    let processors = startup::processors()?;
    let shards = startup::shards(&config, &processors);
    let connections_max = startup::connections_max(config.limits.connections_max, shards, config.listeners.len())?;
    let memory_limit = memory::limit(config.memory_limit, shards)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), shards, connections_max, memory_limit, "WillowMQ starts");
    let rights = safeguards::rights(&config.security)?;
    let slots = safeguards::slots(&config)?;
    let access = safeguards::access(&config.admin)?;
    let (doors, sockets) = Doors::bind(&config, shards)?;
    let mut data = match config.durability {
        Durability::Memory => {
            tracing::warn!("durability is \"memory\": sessions, retained messages and wills end with this process");
            if config.data_dir.join(crate::journal::directory::META_FILE).exists() {
                tracing::warn!(
                    data_dir = %config.data_dir.display(),
                    "there is a journal, which is left as it is: what it holds will be there again with another durability, wills included"
                );
            }
            None
        }
        Durability::Sync | Durability::Relaxed => Some(Data::open(&config, shards, &mut signals)?),
    };
    let mesh = Mesh::new(shards, config.limits.mesh_messages_max as usize)
        .map_err(|error| StartError::System { what: "cannot create the eventfds of the shards", error })?;
    let clock = Clock::start_at(data.as_ref().map_or(Moment::ZERO, Data::not_before));
    let gate = Arc::new(Gate::new(connections_max, &config));
    let plan = Arc::new(Plan::new(Parts {
        authentication: safeguards::authentication(&config, clock, data.as_ref().map(Data::secret), &gate, &mesh)?,
        gate,
        mesh: Arc::clone(&mesh),
        clock,
        seed: data.as_ref().map_or_else(data::random, Data::seed),
        rights,
        access,
        memory_limit,
        in_force: InForce {
            slots,
            handshakes: Arc::new(safeguards::pool("handshake", config.security.handshake_threads, &config)?),
            config: Arc::new(config),
        },
    }));
    let config = plan.config();

    let (ready, readiness) = mpsc::channel();
    let mut threads = Vec::new();
    let mut beginnings = data.as_mut().map_or_else(Vec::new, |data| std::mem::take(&mut data.beginnings)).into_iter();
    for (index, sockets) in sockets.into_iter().enumerate() {
        let cpu = processors[index % processors.len()];
        let plan = Arc::clone(&plan);
        threads.push(executor::start(ShardId::new(index), cpu, plan, sockets, beginnings.next(), ready.clone())?);
    }
    drop(ready);
    for _ in 0..shards {
        await_one(&readiness, &mut signals)?;
    }
    if let Some(data) = &mut data {
        data.settle()?;
    }
    let doors = Arc::new(Mutex::new(doors.open(&config)?));
    let (memory_watch, stop) = mpsc::channel();
    let watcher = memory::watch(Arc::clone(&plan), stop)?;
    let reloader = Reloader::start(Arc::clone(&plan), source, Arc::clone(&doors), log.clone(), begin)
        .map_err(|error| StartError::System { what: "cannot start the thread that reads files again", error })?;
    let desk = Desk::new(Arc::clone(&plan));
    let own_stop = Stop::default();
    let drain = Drain::new(desk.clone(), own_stop.clone());
    let admin = match &plan.access {
        Some(access) => {
            let (access, reloader) = (Arc::clone(access), reloader.clone());
            Server::start(&config.admin, Means { desk, access, reloader, drain, log: log.clone() })?
        }
        None => None,
    };
    mesh.open();
    let sys = Sys::start(Desk::new(Arc::clone(&plan)))?;
    if let Err(error) = bind::notify("READY=1") {
        tracing::warn!("cannot tell systemd that the broker is ready: {error}");
    }
    let (watchdog_stop, stop) = mpsc::channel();
    let watchdog = watchdog::start(Arc::clone(&mesh), stop)
        .map_err(|error| StartError::System { what: "cannot start the thread of the watchdog", error })?;

    let reports = signals.serve(&plan, &reloader, &log, &own_stop, threads)?;
    drop((admin, sys));
    reloader.settle();
    doors.lock().unwrap_or_else(PoisonError::into_inner).close_all();
    drop((memory_watch, watchdog_stop));
    for thread in watchdog.into_iter().chain([watcher]) {
        thread.join().expect("a panic ends the process");
    }
    totals::log(&reports, &plan);
    Ok(())
}

/// Waits until one more shard could accept connections.
fn await_one(readiness: &Receiver<Result<(), StartError>>, signals: &mut Signals) -> Result<(), StartError> {
    loop {
        match readiness.recv_timeout(LOOK_EVERY) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => signals.end_if_asked(),
            // A shard says nothing only where glommio could not set up its executor.
            Err(RecvTimeoutError::Disconnected) => return Err(StartError::ExecutorLost),
        }
    }
}
