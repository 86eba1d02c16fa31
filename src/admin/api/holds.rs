//! Holds: wills that are kept back during planned work.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::wills::Fate;
use crate::admin::State;
use crate::admin::extract;
use crate::admin::problem::Problem;
use crate::shard::Hold;

/// Longest Client Identifier that there can be (§1.5.4).
const CLIENT_ID_BYTES_MAX: usize = 65_535;

/// Whose wills are held back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "scope", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Scope {
    /// Those of all clients.
    All {},
    /// Those of the clients of a listener.
    Listener {
        /// Its number, from 0.
        listener: u16,
    },
    /// Those of the clients whose identifiers begin so.
    ClientIdPrefix {
        #[schema(min_length = 1, max_length = 65535)]
        client_id_prefix: String,
    },
}

/// Whose wills are let go, and what becomes of them.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(tag = "scope", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Release {
    /// The hold of all clients.
    All {
        /// What becomes of what it has kept back.
        wills: Fate,
    },
    /// The hold of a listener.
    Listener {
        /// Its number, from 0.
        listener: u16,
        /// What becomes of what it has kept back.
        wills: Fate,
    },
    /// The hold of clients whose identifiers begin so.
    ClientIdPrefix {
        #[schema(min_length = 1, max_length = 65535)]
        client_id_prefix: String,
        /// What becomes of what it has kept back.
        wills: Fate,
    },
}

impl From<&Hold> for Scope {
    fn from(hold: &Hold) -> Self {
        match hold {
            Hold::All => Self::All {},
            Hold::Listener(listener) => Self::Listener { listener: *listener },
            Hold::ClientIdPrefix(prefix) => Self::ClientIdPrefix { client_id_prefix: prefix.to_string() },
        }
    }
}

/// The holds in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Holds {
    items: Vec<Scope>,
}

/// The holds in force. They end with the process.
#[utoipa::path(
    get,
    path = "/api/v1/holds",
    operation_id = "list_holds",
    tag = "wills",
    responses((status = 200, description = "All of them.", body = Holds))
)]
pub(super) async fn list(Shared(state): Shared<State>) -> Result<Json<Holds>, Problem> {
    // Every shard has all of them.
    let items = state.desk.ask(0, |_, shard| shard.holds().iter().map(Scope::from).collect()).await?;
    Ok(Json(Holds { items }))
}

/// Holds wills back: they fall due and wait. The same hold twice is one.
#[utoipa::path(
    post,
    path = "/api/v1/holds",
    operation_id = "add_hold",
    tag = "wills",
    request_body = Scope,
    responses(
        (status = 204, description = "They are held back."),
        (status = 409, description = "There are as many holds as there can be."),
    )
)]
pub(super) async fn add(
    Shared(state): Shared<State>,
    extract::Json(scope): extract::Json<Scope>,
) -> Result<StatusCode, Problem> {
    let hold = match scope {
        Scope::All {} => Hold::All,
        Scope::Listener { listener } => of_listener(&state, listener)?,
        Scope::ClientIdPrefix { client_id_prefix } => of_prefix(client_id_prefix)?,
    };
    let are_held = state.desk.ask_all(move |_, shard| shard.hold_wills(hold.clone())).await?;
    // All shards have the same ones, so either all have room or none.
    match are_held.iter().all(|is_held| *is_held) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::conflict("there are as many holds as there can be: release one first")),
    }
}

/// Ends a hold. What it has kept back, and no other one does, is published after all, or discarded.
#[utoipa::path(
    post,
    path = "/api/v1/holds/release",
    operation_id = "release_hold",
    tag = "wills",
    request_body = Release,
    responses(
        (status = 204, description = "It is released. The wills go one after the other, as those that fall due."),
        (status = 404, description = "There is no such hold."),
    )
)]
pub(super) async fn release(
    Shared(state): Shared<State>,
    extract::Json(release): extract::Json<Release>,
) -> Result<StatusCode, Problem> {
    let (hold, fate) = match release {
        Release::All { wills } => (Hold::All, wills),
        // The listener may have gone since.
        Release::Listener { listener, wills } => (Hold::Listener(listener), wills),
        Release::ClientIdPrefix { client_id_prefix, wills } => (of_prefix(client_id_prefix)?, wills),
    };
    let were_there = state.desk.ask_all(move |_, shard| shard.release_wills(&hold, fate.into())).await?;
    match were_there.contains(&true) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("there is no such hold")),
    }
}

fn of_listener(state: &State, listener: u16) -> Result<Hold, Problem> {
    match usize::from(listener) < state.desk.plan().config().listeners.len() {
        true => Ok(Hold::Listener(listener)),
        false => Err(Problem::refused(format!("there is no listener {listener}"))),
    }
}

fn of_prefix(prefix: String) -> Result<Hold, Problem> {
    match prefix.len() {
        0 => Err(Problem::refused("client_id_prefix is empty: the scope of all clients is \"all\"")),
        1..=CLIENT_ID_BYTES_MAX => Ok(Hold::ClientIdPrefix(prefix.into())),
        _ => Err(Problem::refused("client_id_prefix is longer than any Client Identifier")),
    }
}
