//! What operators see of the broker and do with it: the HTTP server with its API, metrics and health.
//!
//! It runs on a thread of its own, beside the shards, and asks them at the [`Desk`]: in slices, so that no request
//! keeps a shard from its clients.
//!
//! ```text
//! TCP ─▶ TLS ─▶ HTTP ─▶ guard: page? who? may they? ─▶ route ─▶ desk ─▶ shards
//!  └─ serve ────────┘                                  └─ api
//! ```
//!
//! Everything that somebody else decides the size of is bounded: connections, the time that each may take with its requests and
//! answers, bodies, pages of lists, and streams with what waits in them. Every failure is a problem document.
//!
//! **Invariant**: nothing here touches a shard but through the desk.

mod access;
mod api;
mod extract;
mod guard;
mod metrics;
mod page;
mod patience;
mod places;
mod problem;
pub(crate) mod report;
mod serve;
mod server;
mod stream;
mod sys;
mod time;
mod tokens;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub(crate) use access::{Access, FreshAccess};
pub(crate) use server::{Means, Server};
pub(crate) use sys::Sys;

use crate::net::Reloader;
use crate::net::desk::Desk;
use crate::net::drain::Drain;
use crate::net::logging::Control;

/// The target of log lines that tell who has changed what.
pub(crate) const AUDIT: &str = "willowmq::audit";

/// What all requests share.
#[derive(Clone)]
pub(crate) struct State(Arc<Shared>);

/// See [`State`].
pub(crate) struct Shared {
    /// Where shards are asked.
    desk: Desk,
    access: Arc<Access>,
    reloader: Reloader,
    drain: Drain,
    log: Control,
    /// Places for answers that go on and on.
    streams: Arc<Semaphore>,
}

impl std::ops::Deref for State {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
