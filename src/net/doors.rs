//! All listeners of the broker, from their binding to the log line that says who may come in.

use std::os::fd::OwnedFd;

use super::bind::{Bound, Endpoint, Passed, SocketFile, bind_patiently};
use super::startup::StartError;
use crate::config::{Config, Listener, ListenerKind};

/// The listeners, bound and not open yet.
pub(super) struct Doors(Vec<Bound>);

impl Doors {
    /// Binds all listeners; the second value has the sockets of each shard, in the order of the listeners.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(super) fn bind(config: &Config, shards: usize) -> Result<(Self, Vec<Vec<OwnedFd>>), StartError> {
        let mut passed = Passed::receive();
        let mut sockets: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
        let mut doors = Vec::new();
        for listener in &config.listeners {
            let mut bound = bind_patiently(listener, shards, &mut passed)?;
            for (of_shard, socket) in sockets.iter_mut().zip(std::mem::take(&mut bound.sockets)) {
                of_shard.push(socket);
            }
            doors.push(bound);
        }
        for name in passed.unused() {
            tracing::warn!(name, "systemd has passed a socket that no listener asks for: nobody accepts on it");
        }
        Ok((Self(doors), sockets))
    }

    /// Opens them all. The files of Unix sockets are to be kept until they are closed again.
    ///
    /// # Errors
    /// Where another process was faster.
    pub(super) fn open(self, config: &Config) -> Result<Vec<SocketFile>, StartError> {
        let mut files = Vec::new();
        for (bound, listener) in self.0.into_iter().zip(&config.listeners) {
            let (at, file) = bound.listen(listener.backlog as i32)?;
            log(&at, listener, config);
            files.extend(file);
        }
        Ok(files)
    }
}

/// One line for each listener: what it speaks, where, and who may come in.
fn log(at: &Endpoint, listener: &Listener, config: &Config) {
    let message = format!("listening for MQTT over {}", spoken(listener.kind));
    let asked = listener.authenticators_of(&config.authenticators);
    let authenticators = asked.iter().map(|authenticator| authenticator.name.as_str()).collect::<Vec<_>>().join(",");
    let Listener { anonymous, proxy_protocol, .. } = *listener;
    match at {
        Endpoint::Address(address) => {
            tracing::info!(%address, anonymous, authenticators, proxy_protocol, "{message}");
        }
        Endpoint::Path(path) => {
            tracing::info!(path = %path.display(), anonymous, authenticators, proxy_protocol, "{message}");
        }
        Endpoint::Systemd { name, local } => {
            tracing::info!(systemd = name, local, anonymous, authenticators, proxy_protocol, "{message}");
        }
    }
    if anonymous && at.is_reachable_from_outside() {
        tracing::warn!(at = %at, "everybody who can reach this listener may connect without credentials, since it says anonymous = true");
    }
}

fn spoken(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Tcp => "TCP",
        ListenerKind::Tls => "TLS",
        ListenerKind::Ws => "WebSocket",
        ListenerKind::Wss => "WebSocket in TLS",
        ListenerKind::Unix => "a Unix socket",
    }
}
