//! Other settings for the whole process, all or nothing.
//!
//! [`prepare`] does all that may fail: it reads every file, binds what is new, and asks the system for what there is to be. Whatever
//! goes wrong, what was prepared is dropped, and nothing has changed. [`put_in_force`] cannot fail.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::slots::{Slots, assign};
use crate::admin::FreshAccess;
use crate::config::Config;
use crate::net::asking::asks;
use crate::net::authentication;
use crate::net::doors::{NewDoor, OpenDoors};
use crate::net::errand::Errand;
use crate::net::listener::Listener;
use crate::net::plan::{InForce, Plan, Slot};
use crate::net::startup::StartError;
use crate::net::transport::{Entrance, FreshFiles};
use crate::net::worker::Worker;
use crate::net::{memory, safeguards, startup};
use crate::security::Rights;

/// How often it is looked whether the process ends, while shards are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// All that is needed to put other settings into force.
pub(super) struct Prepared {
    in_force: InForce,
    opening: Vec<(usize, NewDoor)>,
    closing: Vec<usize>,
    /// Certificates of listeners that go on.
    fresh: Vec<(usize, Arc<Entrance>, FreshFiles)>,
    authenticators: authentication::Prepared,
    /// Files of the HTTP server, where there is one.
    access: Option<FreshAccess>,
    rights: Arc<Rights>,
    connections_max: usize,
    memory_limit: u64,
}

/// Prepares for `config`, in which what needs a restart is as it was.
///
/// # Errors
/// What is wrong, with the file and line where there is one.
pub(super) fn prepare(plan: &Plan, doors: &Mutex<OpenDoors>, mut config: Config) -> Result<Prepared, String> {
    let before = plan.in_force();
    let pairs: Vec<_> = before.config.listeners.iter().zip(before.slots.iter().map(|slot| slot.is_open)).collect();
    let Slots { listeners, opening, closing } = assign(&pairs, &config.listeners)
        .map_err(|_| "there have been too many listeners since the start: restart the broker".to_owned())?;
    let is_open: Vec<_> = listeners.iter().map(|&(_, is_open)| is_open).collect();
    config.listeners = listeners.into_iter().map(|(listener, _)| listener).collect();

    let shards = plan.mesh.shards();
    let open = is_open.iter().filter(|is_open| **is_open).count();
    let connections_max = startup::connections_max(config.limits.connections_max, shards, open).map_err(told)?;
    let memory_limit = memory::limit(config.memory_limit, shards).map_err(told)?;
    let rights = safeguards::rights(&config.security).map_err(told)?;
    let (slots, fresh) = slots(&before, &config, &is_open)?;
    let security = (&before.config.security, &config.security);
    let is_pool_same = |threads: fn(&crate::config::Security) -> u32| {
        threads(security.0) == threads(security.1) && security.0.checks_waiting_max == security.1.checks_waiting_max
    };
    let handshakes = match is_pool_same(|security| security.handshake_threads) {
        true => Arc::clone(&before.handshakes),
        false => Arc::new(safeguards::pool("handshake", config.security.handshake_threads, &config).map_err(told)?),
    };
    let checks = match is_pool_same(|security| security.check_threads) {
        true => None,
        false => Some(Arc::new(safeguards::pool("check", config.security.check_threads, &config).map_err(told)?)),
    };
    let authenticators = plan.authentication.prepare(&config, checks).map_err(told)?;
    let access = plan.access.as_ref().map(|access| access.prepare()).transpose();
    let access = access.map_err(|problem| told(StartError::AdminFiles { problem }))?;
    // Last, since from then on clients may wait there.
    let opening =
        open_doors(&mut doors.lock().unwrap_or_else(PoisonError::into_inner), &config, shards, opening, &closing)?;
    permit(&doors.lock().unwrap_or_else(PoisonError::into_inner), &before.config, &config)?;
    let in_force = InForce { config: Arc::new(config), slots, handshakes };
    Ok(Prepared { in_force, opening, closing, fresh, authenticators, access, rights, connections_max, memory_limit })
}

fn told(error: StartError) -> String {
    error.to_string()
}

/// What belongs to each listener, and files of those that go on.
#[expect(clippy::type_complexity, reason = "a pair of lists, of one caller")]
fn slots(
    before: &InForce,
    config: &Config,
    is_open: &[bool],
) -> Result<(Vec<Slot>, Vec<(usize, Arc<Entrance>, FreshFiles)>), String> {
    let (mut slots, mut fresh) = (Vec::new(), Vec::new());
    for (index, (listener, &is_open)) in config.listeners.iter().zip(is_open).enumerate() {
        let bytes_max = |config| safeguards::entrance_bytes_max(config, index);
        let same = before.slots.get(index).filter(|slot| {
            !is_open
                || slot.is_open
                    && before.config.listeners[index] == *listener
                    && bytes_max(&before.config) == bytes_max(config)
        });
        let entrance = match same {
            Some(slot) => Arc::clone(&slot.entrance),
            None => Arc::new(safeguards::entrance(config, index, listener).map_err(told)?),
        };
        if is_open && same.is_some() {
            let files = entrance.prepare();
            let files = files.map_err(|problem| told(StartError::Listener { listener: index, problem }))?;
            fresh.extend(files.map(|files| (index, Arc::clone(&entrance), files)));
        }
        slots.push(Slot { is_open, entrance, asks: asks(listener, config) });
    }
    Ok((slots, fresh))
}

/// Opens what is new.
fn open_doors(
    doors: &mut OpenDoors,
    config: &Config,
    shards: usize,
    opening: Vec<usize>,
    closing: &[usize],
) -> Result<Vec<(usize, NewDoor)>, String> {
    let open = |slot: usize| doors.prepare(&config.listeners[slot], shards, closing).map(|door| (slot, door));
    opening.into_iter().map(open).collect::<Result<_, _>>().map_err(told)
}

/// Gives the files of Unix sockets other permissions and owners; where that fails for one, all are as before.
fn permit(doors: &OpenDoors, before: &Config, config: &Config) -> Result<(), String> {
    let pairs = before.listeners.iter().zip(&config.listeners).enumerate();
    let changed = pairs.filter(|(_, (old, new))| (old.mode, &old.owner) != (new.mode, &new.owner));
    let mut done = Vec::new();
    for (slot, (old, new)) in changed {
        let Some(file) = doors.file(slot) else { continue };
        done.push((file, old));
        if let Err(error) = file.permit(new.mode, new.owner.as_deref()) {
            for (file, old) in done {
                let _ = file.permit(old.mode, old.owner.as_deref()); // As it was: who may not do that could not change it either.
            }
            let at = doors.place(slot).map(ToString::to_string).unwrap_or_default();
            return Err(format!("cannot give {at} the permissions or the owner that it is to have: {error}"));
        }
    }
    Ok(())
}

/// Puts settings into force; what else than settings has changed with that, by its name.
pub(super) fn put_in_force(plan: &Plan, doors: &Mutex<OpenDoors>, prepared: Prepared) -> Vec<String> {
    let Prepared { in_force, opening, closing, fresh, authenticators, access, rights, connections_max, memory_limit } =
        prepared;
    let in_force = Arc::new(in_force);
    let mut reloaded = Vec::new();
    plan.gate.set(connections_max, &in_force.config);
    plan.memory_limit.store(memory_limit, Ordering::Relaxed);
    if in_force.config.security.rights_file.is_some() {
        reloaded.push("rights".to_owned());
    }
    if plan.authentication.put_in_force(authenticators) {
        reloaded.push("authenticators".to_owned());
    }
    for (slot, entrance, files) in fresh {
        entrance.put_in_force(files);
        reloaded.push(format!("certificates of listeners.{slot}"));
    }
    if let (Some(access), Some(fresh)) = (&plan.access, access) {
        reloaded.extend(access.put_in_force(fresh).into_iter().map(str::to_owned));
    }
    plan.set_in_force(Arc::clone(&in_force));
    {
        let in_force = Arc::clone(&in_force);
        in_all_shards(plan, move |worker| {
            worker.shard.set_rights(Arc::clone(&rights));
            worker.take_over(Arc::clone(&in_force));
        });
    }
    let mut doors = doors.lock().unwrap_or_else(PoisonError::into_inner);
    closing.into_iter().for_each(|slot| doors.close(slot));
    let mut of_shards: Vec<Vec<(usize, Listener)>> = (0..plan.mesh.shards()).map(|_| Vec::new()).collect();
    for (slot, door) in opening {
        for (of_shard, listener) in of_shards.iter_mut().zip(doors.keep(slot, door, &in_force.config)) {
            of_shard.push((slot, listener));
        }
    }
    for (shard, opened) in of_shards.into_iter().enumerate().filter(|(_, opened)| !opened.is_empty()) {
        plan.mesh.deliver(shard, Errand::Task(Box::new(move |_, worker| worker.open_listeners(opened))));
    }
    reloaded
}

/// Has every shard do something in one of its turns, and waits until all have, or the process is to end.
fn in_all_shards(plan: &Plan, job: impl Fn(&mut Worker) + Clone + Send + 'static) {
    let (done, all_done) = channel::<()>();
    for shard in 0..plan.mesh.shards() {
        let (job, done) = (job.clone(), done.clone());
        let task = move |_, worker: &mut Worker| {
            job(worker);
            drop(done);
        };
        plan.mesh.deliver(shard, Errand::Task(Box::new(task)));
    }
    drop(done);
    // Nothing is ever sent: the channel ends when the last shard has dropped its half.
    while all_done.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) && !plan.mesh.is_stopping() {}
}
