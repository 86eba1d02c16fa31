//! What operators see of the broker and do with it: the HTTP server with its API, metrics and health.
//!
//! It runs on a thread of its own, beside the shards, and asks them at the [`Desk`]: in slices, so that no request
//! keeps a shard from its clients.
//!
//! **Invariant**: nothing here touches a shard but through the desk.

mod api;
pub(crate) mod report;
mod server;

pub(crate) use server::Server;

use crate::net::desk::Desk;

/// What all requests share.
#[derive(Clone)]
pub(crate) struct State {
    desk: Desk,
}
