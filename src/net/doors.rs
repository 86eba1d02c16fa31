//! All listeners of the broker, from their binding to the log line that says who may come in; and those that open and close later.

use std::io;
use std::os::fd::OwnedFd;

use super::bind::{Bound, Endpoint, Others, Passed, SocketFile, bind_patiently};
use super::listener;
use super::startup::StartError;
use crate::config::{Config, Listener, ListenerKind, ListenerPlace};

/// The listeners, bound and not open yet.
pub(super) struct Doors {
    passed: Passed,
    bound: Vec<Bound>,
}

/// The listeners that are open, by slot, as far as the process has to remember them: the shards have the sockets.
pub(super) struct OpenDoors {
    /// What systemd has passed.
    passed: Passed,
    doors: Vec<Option<Door>>,
    /// The broker has ended: nothing opens any more.
    is_over: bool,
}

/// An open listener.
struct Door {
    at: Endpoint,
    /// That of a Unix socket. It goes with the door.
    file: Option<SocketFile>,
}

/// A listener on which clients wait, and which nobody accepts on yet. Dropped, it closes, and turns them away.
pub(super) struct NewDoor {
    door: Door,
    /// For each shard.
    pub(super) listeners: Vec<listener::Listener>,
}

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
            let mut bound = bind_patiently(listener, shards, &mut passed, Others::None)?;
            for (of_shard, socket) in sockets.iter_mut().zip(std::mem::take(&mut bound.sockets)) {
                of_shard.push(socket);
            }
            doors.push(bound);
        }
        for name in passed.unused() {
            tracing::warn!(name, "systemd has passed a socket that no listener asks for: nobody accepts on it");
        }
        Ok((Self { passed, bound: doors }, sockets))
    }

    /// Opens them all.
    ///
    /// # Errors
    /// Where another process was faster.
    pub(super) fn open(self, config: &Config) -> Result<OpenDoors, StartError> {
        let mut doors = Vec::new();
        for (bound, listener) in self.bound.into_iter().zip(&config.listeners) {
            let (at, file) = bound.listen(listener.backlog as i32)?;
            log(&at, listener, config);
            doors.push(Some(Door { at, file }));
        }
        Ok(OpenDoors { passed: self.passed, doors, is_over: false })
    }
}

impl OpenDoors {
    /// Opens one more listener, next to `closing` ones that are about to close.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) fn prepare(
        &mut self,
        listener: &Listener,
        shards: usize,
        closing: &[usize],
    ) -> Result<NewDoor, StartError> {
        if self.is_over {
            let error = io::Error::other("the broker is about to end");
            return Err(StartError::System { what: "cannot open a listener", error });
        }
        let others = if self.is_port_of(closing, listener.place()) { Others::Ours } else { Others::None };
        let mut bound = bind_patiently(listener, shards, &mut self.passed, others)?;
        let sockets = std::mem::take(&mut bound.sockets).into_iter();
        let listeners =
            sockets.map(listener::Listener::new).collect::<Result<_, _>>().map_err(StartError::from_ring)?;
        let (at, file) = bound.listen(listener.backlog as i32)?;
        Ok(NewDoor { door: Door { at, file }, listeners })
    }

    fn is_port_of(&self, closing: &[usize], place: ListenerPlace<'_>) -> bool {
        let ListenerPlace::Address(address) = place else { return false };
        closing.iter().filter_map(|&slot| self.doors.get(slot)?.as_ref()).any(|door| match &door.at {
            Endpoint::Address(at) => at.port() == address.port() && at.is_ipv4() == address.is_ipv4(),
            Endpoint::Path(_) | Endpoint::Systemd { .. } => false,
        })
    }

    /// Keeps what is new, at its slot, and tells of it; the listeners of it for each shard. Where the broker has ended meanwhile, the file of a
    /// Unix socket goes at once.
    pub(super) fn keep(&mut self, slot: usize, new: NewDoor, config: &Config) -> Vec<listener::Listener> {
        let NewDoor { door, listeners } = new;
        if self.is_over {
            return listeners;
        }
        log(&door.at, &config.listeners[slot], config);
        if self.doors.len() <= slot {
            self.doors.resize_with(slot + 1, || None);
        }
        self.doors[slot] = Some(door);
        listeners
    }

    /// Forgets one that the shards close. Where all are forgotten already, there is nothing to do.
    pub(super) fn close(&mut self, slot: usize) {
        if let Some(Door { at, .. }) = self.doors.get_mut(slot).and_then(Option::take) {
            tracing::info!(%at, "no longer listening; connections that came this way stay");
        }
    }

    /// The file of the Unix socket at a slot.
    pub(super) fn file(&self, slot: usize) -> Option<&SocketFile> {
        self.doors.get(slot)?.as_ref()?.file.as_ref()
    }

    /// Where the listener at a slot is.
    pub(super) fn place(&self, slot: usize) -> Option<&Endpoint> {
        Some(&self.doors.get(slot)?.as_ref()?.at)
    }

    /// Forgets all: the broker ends, and the files of its sockets with it. A reload may still be going on beside it.
    pub(super) fn close_all(&mut self) {
        self.doors.clear();
        self.is_over = true;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at_path(name: &str) -> Listener {
        let path = std::env::temp_dir().join(format!("willowmq-{name}-{}.sock", std::process::id()));
        Listener { kind: ListenerKind::Unix, path: Some(path), ..Listener::default() }
    }

    #[test]
    fn a_reload_that_goes_on_while_the_broker_ends_opens_and_closes_nothing() {
        let config = Config { listeners: vec![at_path("doors-first"), at_path("doors-second")], ..Config::default() };
        let of_first = Config { listeners: config.listeners[..1].to_vec(), ..Config::default() };
        let path = |listener: usize| config.listeners[listener].path.as_deref().expect("it has one");
        let (doors, _sockets) = Doors::bind(&of_first, 1).unwrap();
        let mut doors = doors.open(&of_first).unwrap();
        let prepared = doors.prepare(&config.listeners[1], 1, &[0]).unwrap();
        assert!(path(0).exists() && path(1).exists());
        doors.close_all();
        doors.close(0);
        drop(doors.keep(1, prepared, &config));
        assert!(!path(0).exists() && !path(1).exists(), "files go with the broker");
        let Err(error) = doors.prepare(&config.listeners[1], 1, &[0]) else { panic!("it is over") };
        assert!(error.to_string().contains("about to end"), "{error}");
    }
}
