//! What decides who comes in and what they may do, as far as it is read from files: it is read at the start, checked by
//! `--check-config`, and read again when it changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::errand::Errand;
use super::mesh::Mesh;
use super::reload::Watched;
use super::startup::StartError;
use crate::config::{Config, RightsFormat, Security};
use crate::security::Rights;

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

/// Checks the files that the settings name, without listening anywhere.
///
/// # Errors
/// What the start would say about the first that cannot be used.
pub fn check(config: &Config) -> Result<(), StartError> {
    rights(&config.security)?;
    Ok(())
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

/// All that is read again when it changes.
pub(super) fn watched(config: &Config, mesh: &Arc<Mesh>) -> Vec<Watched> {
    let mut watched = Vec::new();
    watched.extend(watched_rights(&config.security, mesh));
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
