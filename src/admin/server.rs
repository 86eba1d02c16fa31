//! The thread of the HTTP server, from its start to its end.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};

use super::serve::Serving;
use super::{Access, Shared, State, api, serve};
use crate::config::Admin;
use crate::net::desk::Desk;
use crate::net::drain::Drain;
use crate::net::logging::Control;
use crate::net::{Reloader, StartError};

/// How much the thread yields to the shards. Unlike the threads that check passwords it is not an idle one: where the shards use all
/// processors an idle thread gets next to nothing, and just then somebody has to be told that the broker is well, or why it is not.
/// As nice(1) has it by default, the thread has a tenth of the weight of a shard; what it computes in one go is small.
const NICENESS: i32 = 10;
/// Of all connections, this part may be streams: they stay for long, and others want to be answered beside them.
const STREAMS_PART: u32 = 2;
/// Most streams, however many connections there may be: each is read from all shards several times a second.
const STREAMS_MAX: u32 = 32;

/// What the server needs from the rest of the broker.
pub(crate) struct Means {
    /// Where shards are asked.
    pub(crate) desk: Desk,
    /// Who may come in.
    pub(crate) access: Arc<Access>,
    /// What loads the settings again.
    pub(crate) reloader: Reloader,
    /// What hands clients away.
    pub(crate) drain: Drain,
    /// What the log obeys.
    pub(crate) log: Control,
}

/// The HTTP server. It ends when this is dropped.
pub(crate) struct Server {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it; `None` where the settings do not insist on the address and that is taken.
    ///
    /// # Errors
    /// The address cannot be had, or there is no thread for it.
    pub(crate) fn start(admin: &Admin, means: Means) -> Result<Option<Self>, StartError> {
        let address = means.access.address;
        let listener = match TcpListener::bind(address) {
            Ok(listener) => listener,
            Err(error) if admin.address.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(%address, "there is no HTTP API: the address is taken; see admin.address and admin.enabled");
                return Ok(None);
            }
            Err(error) => return Err(StartError::Admin { address, error }),
        };
        let failed = |error| StartError::Admin { address, error };
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (end, ended) = oneshot::channel();
        let streams = (admin.connections_max / STREAMS_PART).clamp(1, STREAMS_MAX);
        let state = State(Arc::new(Shared {
            desk: means.desk,
            access: Arc::clone(&means.access),
            reloader: means.reloader,
            drain: means.drain,
            log: means.log,
            streams: Arc::new(Semaphore::new(streams as usize)),
        }));
        let serving = Serving { access: means.access, routes: api::router(state) };
        let is_https = serving.access.tls().is_some();
        let work = move || {
            // Linux: of this thread alone. It cannot fail for more niceness than there was.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            runtime.block_on(serve::serve(listener, serving, ended));
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(work).map_err(failed)?;
        tracing::info!(%address, is_https, "listening for HTTP: API, metrics, health");
        Ok(Some(Self { end: Some(end), thread: Some(thread) }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic ends the process.
        }
    }
}
