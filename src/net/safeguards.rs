//! What decides who comes in and what they may do, as far as it is read from files: it is read at the start, checked by
//! `--check-config`, and read again when it changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::admission::Gate;
use super::asking::asks;
use super::authentication::{Authentication, Means};
use super::bind;
use super::clock::Clock;
use super::errand::Errand;
use super::memory;
use super::mesh::Mesh;
use super::offload::Offload;
use super::plan::{Plan, Slot};
use super::reload::Watched;
use super::startup::{self, StartError};
use super::transport::Entrance;
use crate::admin::Access;
use crate::config::{Admin, Config, Listener, RightsFormat, Security};
use crate::security::Rights;
use crate::shard::first_packet_bytes_max;
use crate::timer::Moment;

/// Reads a rights file.
///
/// # Errors
/// What is wrong, with file and line.
pub fn read_rights(file: &Path, format: RightsFormat) -> Result<Rights, String> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let rights = match format {
        RightsFormat::Willow => Rights::parse(&text, &name),
        RightsFormat::Mosquitto => Rights::parse_mosquitto(&text, &name),
    };
    rights.map_err(|error| error.to_string())
}

/// Checks the files and places that the settings name, and the memory that they leave, without listening anywhere; says all that the
/// start would say, one thing after the other.
pub fn check(config: &Config) -> Vec<StartError> {
    let listeners = config.listeners.iter().enumerate();
    let mut errors: Vec<_> = rights(&config.security).err().into_iter().collect();
    let shards = startup::processors().map(|processors| startup::shards(config, &processors));
    errors.extend(shards.and_then(|shards| memory::limit(config.memory_limit, shards)).err());
    errors.extend(config.listeners.iter().filter_map(|listener| bind::check(listener).err()));
    errors.extend(listeners.filter_map(|(index, listener)| entrance(config, index, listener).err()));
    let nobody_waits = Arc::new(|_, _, _| ());
    let checks = pool("check", 1, config).map(Arc::new);
    let authentication = checks.and_then(|checks| {
        let (clock, gate) = (Clock::start_at(Moment::ZERO), Arc::new(Gate::new(0, config)));
        Authentication::new(config, Means { clock, checks, gate, secret: None, deliver: nobody_waits })
    });
    errors.extend(authentication.err());
    errors.extend(access(&config.admin).err());
    errors
}

/// The rights of clients. Without a file there are none to look up.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn rights(security: &Security) -> Result<Arc<Rights>, StartError> {
    let Some(file) = &security.rights_file else { return Ok(Arc::default()) };
    let rights = read_rights(file, security.rights_format);
    rights.map(Arc::new).map_err(|problem| StartError::Rights { problem })
}

/// Who may use the HTTP server; `None` where there is none.
///
/// # Errors
/// What is wrong with a certificate, a key or a token.
pub(super) fn access(admin: &Admin) -> Result<Option<Arc<Access>>, StartError> {
    let access = admin.enabled.then(|| Access::new(admin)).transpose();
    access.map(|access| access.map(Arc::new)).map_err(|problem| StartError::AdminFiles { problem })
}

/// A slot for each listener.
///
/// # Errors
/// What is wrong with a certificate, a key or a setting.
pub(super) fn slots(config: &Config) -> Result<Vec<Slot>, StartError> {
    let slot = |(index, listener): (usize, &Listener)| {
        let entrance = Arc::new(entrance(config, index, listener)?);
        Ok(Slot { is_open: true, entrance, asks: asks(listener, config) })
    };
    config.listeners.iter().enumerate().map(slot).collect()
}

/// How the connections of one listener begin.
///
/// # Errors
/// What is wrong with a certificate, a key or a setting.
pub(super) fn entrance(config: &Config, index: usize, listener: &Listener) -> Result<Entrance, StartError> {
    Entrance::new(listener, entrance_bytes_max(config, index))
        .map_err(|error| StartError::Listener { listener: index, problem: error.to_string() })
}

/// The largest packet that may come through an entrance: some users may send larger ones than others, and who somebody is turns out later.
pub(super) fn entrance_bytes_max(config: &Config, listener: usize) -> usize {
    let of_users = config.identities.iter().filter_map(|entry| entry.limits.packet_bytes_max);
    of_users.fold(first_packet_bytes_max(config, listener as u16), usize::max)
}

/// The authenticators, with threads for their checks.
///
/// # Errors
/// What is wrong with a file of theirs.
pub(super) fn authentication(
    config: &Config,
    clock: Clock,
    secret: Option<[u8; 32]>,
    gate: &Arc<Gate>,
    mesh: &Arc<Mesh>,
) -> Result<Authentication, StartError> {
    let mesh = Arc::clone(mesh);
    let deliver = move |shard, connection, step| mesh.deliver(shard, Errand::Authenticated { connection, step });
    let checks = Arc::new(pool("check", config.security.check_threads, config)?);
    Authentication::new(config, Means { clock, checks, gate: Arc::clone(gate), secret, deliver: Arc::new(deliver) })
}

/// Threads for work that takes long.
///
/// # Errors
/// Where there are not enough of them.
pub(super) fn pool(name: &str, threads: u32, config: &Config) -> Result<Offload, StartError> {
    Offload::new(name, threads as usize, config.security.checks_waiting_max as usize)
        .map_err(|error| StartError::System { what: "cannot start threads beside the shards", error })
}

/// All that is read again when it changes.
pub(super) fn watched(plan: &Plan) -> Vec<Watched> {
    let mut watched = Vec::new();
    let in_force = plan.in_force();
    watched.extend(watched_rights(&in_force.config.security, &plan.mesh));
    let authentication = plan.authentication.clone();
    watched.push(Watched {
        name: "authenticators".to_owned(),
        files: authentication.files(),
        load: Box::new(move || authentication.reload()),
    });
    for (index, slot) in in_force.slots.iter().enumerate().filter(|(_, slot)| slot.is_open) {
        let entrance = Arc::clone(&slot.entrance);
        watched.push(Watched {
            name: format!("certificates of listeners.{index}"),
            files: entrance.files(),
            load: Box::new(move || entrance.reload()),
        });
    }
    watched.extend(plan.access.iter().flat_map(Access::watched));
    watched.retain(|watched| !watched.files.is_empty());
    watched
}

fn watched_rights(security: &Security, mesh: &Arc<Mesh>) -> Option<Watched> {
    let (file, format, mesh) = (security.rights_file.clone()?, security.rights_format, Arc::clone(mesh));
    let of_load = file.clone();
    let load = move || {
        let rights = Arc::new(read_rights(&of_load, format)?);
        for shard in 0..mesh.shards() {
            mesh.deliver(shard, Errand::Rights(Arc::clone(&rights)));
        }
        Ok(true)
    };
    Some(Watched { name: "rights".to_owned(), files: vec![file], load: Box::new(load) })
}
