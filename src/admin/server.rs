//! The thread of the HTTP server, from its start to its end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{State, api};
use crate::config::Admin;
use crate::net::StartError;
use crate::net::desk::Desk;
use crate::net::drain::Drain;

/// Where it listens unless the settings say so, if nobody else does.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The HTTP server. It ends when this is dropped.
pub(crate) struct Server {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it; `None` where the settings want none, or do not insist on the address and that is taken.
    ///
    /// # Errors
    /// The address cannot be had, or there is no thread for it.
    pub(crate) fn start(admin: &Admin, desk: Desk, drain: Drain) -> Result<Option<Self>, StartError> {
        if !admin.enabled {
            return Ok(None);
        }
        let address = admin.address.unwrap_or(ADDRESS);
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
        let routes = api::router(State { desk, drain });
        let serve = move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime is there");
                let serve = axum::serve(listener, routes).with_graceful_shutdown(async { drop(ended.await) });
                if let Err(error) = serve.await {
                    tracing::error!("the HTTP API has ended: {error}");
                }
            });
        };
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(serve).map_err(failed)?;
        tracing::info!(%address, "listening for HTTP: API, metrics, health");
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
