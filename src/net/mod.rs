//! The shell: sockets, threads, clocks and signals around the state machines of `shard`.
//!
//! Every shard is one thread. On it, a worker moves bytes between the socket ring, which does all socket I/O, and the state machine,
//! in turns. Shards talk through the mesh. [`run`] sets all that up and waits for its end.
//!
//! **Invariant**: nothing here knows what a packet means, except that the first one is a CONNECT with a Client Identifier.

#[allow(dead_code, reason = "the shell does not authenticate yet")]
mod admission;
mod arrivals;
#[allow(dead_code, reason = "the shell does not ask yet")]
mod authentication;
mod bucket;
mod clock;
mod connection;
mod counters;
mod data;
mod endings;
mod errand;
mod executor;
mod handshake;
mod journal;
mod listener;
pub mod logging;
mod memory;
mod mesh;
#[allow(dead_code, reason = "the shell does not ask yet")]
mod offload;
mod ring;
mod signals;
#[allow(dead_code, reason = "the shell does not authenticate yet")]
mod sources;
mod startup;
#[allow(dead_code, reason = "the worker drives it from its next change on")]
mod transport;
mod worker;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

pub use startup::StartError;

use crate::config::{Config, Durability};
use crate::shard::ShardId;
use crate::timer::Moment;
use admission::Gate;
use clock::Clock;
use data::Data;
use executor::Report;
use mesh::Mesh;
use signals::Signals;
use worker::Plan;

/// How often it is looked whether a signal has come while the shards begin.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the broker until a signal ends it.
///
/// # Errors
/// Why it could not start.
pub fn run(config: Config) -> Result<(), StartError> {
    let mut signals = Signals::register()?;
    startup::check_system()?;
    let processors = startup::processors()?;
    let shards = config.shards.map_or(processors.len(), usize::from).clamp(1, ShardId::COUNT_MAX);
    let connections_max = startup::connections_max(config.limits.connections_max, shards, config.listeners.len())?;
    let memory_limit = memory::limit(config.memory_limit, shards)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), shards, connections_max, memory_limit, "WillowMQ starts");
    let mut sockets: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        let mut bound = listener::bind_patiently(listener.address, shards)?;
        for (of_shard, socket) in sockets.iter_mut().zip(std::mem::take(&mut bound.sockets)) {
            of_shard.push(socket);
        }
        listeners.push((bound, listener.backlog as i32));
    }
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
    let plan = Arc::new(Plan {
        gate: Arc::new(Gate::new(connections_max, &config)),
        mesh: Arc::clone(&mesh),
        clock: Clock::start_at(data.as_ref().map_or(Moment::ZERO, Data::not_before)),
        seed: data.as_ref().map_or_else(data::random, Data::seed),
        config: Arc::new(config),
    });

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
    for (bound, backlog) in listeners {
        let address = bound.listen(backlog)?;
        tracing::info!(%address, "listening for MQTT over TCP");
    }
    let (memory_watch, stop) = mpsc::channel();
    let watcher = memory::watch(memory_limit, Arc::clone(&plan.gate), Arc::clone(&mesh), stop)?;
    mesh.open();

    let reports = signals.serve(&mesh, plan.config.shutdown_timeout, threads)?;
    drop(memory_watch);
    watcher.join().expect("a panic ends the process");
    log_totals(&reports, &plan.gate);
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

/// The last line of the log.
fn log_totals(reports: &[Report], gate: &Gate) {
    let mut counters = counters::Counters::default();
    reports.iter().for_each(|(of_shard, _)| counters.add(of_shard));
    let at_gate = gate.counters();
    let sum = |of: fn(&crate::shard::Stats) -> u64| reports.iter().map(|(_, stats)| of(stats)).sum::<u64>();
    tracing::info!(
        accepted = counters.accepted,
        turned_away = counters.turned_away + counters.shed,
        bad_first_packets = counters.bad_first_packets,
        connect_timeouts = counters.connect_timeouts,
        write_timeouts = counters.write_timeouts,
        turned_away_banned = at_gate.banned.load(Ordering::Relaxed),
        turned_away_source_connections = at_gate.source_connections.load(Ordering::Relaxed),
        turned_away_source_rate = at_gate.source_rate.load(Ordering::Relaxed),
        turned_away_identity_connections = at_gate.identity_connections.load(Ordering::Relaxed),
        turned_away_memory = at_gate.memory.load(Ordering::Relaxed),
        memory_peak_bytes = at_gate.memory_peak_bytes.load(Ordering::Relaxed),
        listener_pauses = at_gate.listener_pauses.load(Ordering::Relaxed),
        authentication_failures = at_gate.failures.load(Ordering::Relaxed),
        bans = at_gate.bans.load(Ordering::Relaxed),
        handed_over = counters.handed_over,
        connects = sum(|stats| stats.connects_accepted),
        connects_refused = sum(|stats| stats.connects_refused),
        publishes_received = sum(|stats| stats.publishes_received),
        publishes_sent = sum(|stats| stats.publishes_sent),
        protocol_errors = sum(|stats| stats.protocol_errors),
        dropped = sum(|stats| stats.dropped_output_full + stats.dropped_queue_full),
        wills_armed = sum(|stats| stats.wills.armed),
        wills_published = sum(|stats| stats.wills.published_total()),
        wills_discarded = sum(|stats| stats.wills.discarded_total()),
        "WillowMQ has stopped"
    );
}
