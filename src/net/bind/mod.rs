//! Sockets that listeners are going to listen on: TCP, Unix sockets, and what systemd has opened for us.
//!
//! A socket is bound early, so that a taken port or path stops the start before any journal is read, and listens late, when all shards
//! are ready.

mod owner;
mod systemd;
mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use systemd::{Passed, notify, reloading};
pub(crate) use unix::SocketFile;

use super::startup::StartError;
use crate::config::{Listener, ListenerKind, ListenerPlace};

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// At an IP address and port.
    Address(SocketAddr),
    /// At the path of a Unix socket.
    Path(PathBuf),
    /// On a socket that systemd has opened.
    Systemd {
        /// Its name.
        name: String,
        /// Where it is, once it has been taken; empty until then.
        local: String,
    },
}

impl Endpoint {
    fn of(listener: &Listener) -> Self {
        match listener.place() {
            ListenerPlace::Systemd(name) => Self::Systemd { name: name.to_owned(), local: String::new() },
            ListenerPlace::Path(path) => Self::Path(path.to_owned()),
            ListenerPlace::Address(address) => Self::Address(address),
        }
    }

    /// Whether others than the machine itself may reach it.
    pub(crate) fn is_reachable_from_outside(&self) -> bool {
        match self {
            Self::Address(address) => !address.ip().is_loopback(),
            Self::Path(_) => false,
            Self::Systemd { local, .. } => local.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback()),
        }
    }

    fn failed(&self, error: io::Error) -> StartError {
        let at = self.clone();
        match error.kind() {
            io::ErrorKind::AddrInUse => StartError::AddressInUse { at },
            _ => StartError::Listen { at, error },
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Systemd { name, .. } => write!(f, "the socket {name:?} of systemd"),
        }
    }
}

/// The sockets of one listener, one for each shard.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) sockets: Vec<OwnedFd>,
    /// The same sockets once more, for [`Bound::listen`].
    listening: Listening,
    /// Where they listen: with the port that was chosen where 0 was asked for.
    pub(crate) at: Endpoint,
}

/// Who else may listen at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nobody.
    None,
    /// Listeners of this process, which are about to close: from 127.0.0.1 to every address, say, without a moment in which nobody listens.
    Ours,
}

/// How sockets come to listen.
#[derive(Debug)]
enum Listening {
    /// One TCP socket for each shard, all on this port, which is to be that of nobody else.
    Port(SocketAddr, Vec<Socket>, Others),
    /// One socket for all shards.
    File(Socket, SocketFile),
    /// systemd has seen to it.
    Already,
}

impl Bound {
    /// Lets clients come. Until then they are refused, and can try again, instead of waiting for a broker that reads its journal.
    /// The file of a Unix socket is to be kept until nobody listens any more.
    ///
    /// # Errors
    /// As [`bind`]: another process may have been faster.
    pub(crate) fn listen(self, backlog: i32) -> Result<(Endpoint, Option<SocketFile>), StartError> {
        let Self { listening, at, .. } = self;
        let failed = |error| at.failed(error);
        let file = match listening {
            Listening::Port(address, sockets, others) => {
                if others == Others::None {
                    open(address, false).map_err(failed)?; // Fails where somebody else listens; our own sockets do not yet.
                }
                sockets.iter().try_for_each(|socket| socket.listen(backlog)).map_err(failed)?;
                None
            }
            Listening::File(socket, file) => {
                file.listen(&socket, backlog).map_err(failed)?;
                Some(file)
            }
            Listening::Already => None,
        };
        Ok((at, file))
    }
}

/// How long a place may stay taken before it is an error. A process that was killed holds its sockets until the kernel has taken down its
/// rings, a moment after it is gone: whoever starts the next one at once must not fail for that.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether the place is free.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// As [`bind`], but waits a moment for a place that an earlier process has not let go of yet.
///
/// # Errors
/// As [`bind`].
pub(crate) fn bind_patiently(
    listener: &Listener,
    shards: usize,
    passed: &mut Passed,
    others: Others,
) -> Result<Bound, StartError> {
    let start = Instant::now();
    loop {
        match bind(listener, shards, passed, others) {
            Err(StartError::AddressInUse { .. }) if start.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
            done => return done,
        }
    }
}

/// Binds the sockets of `listener`, or takes what was `passed`, for each of `shards` shards. Nobody can connect before
/// [`Bound::listen`], unless systemd has let them.
///
/// # Errors
/// [`StartError::AddressInUse`] when another process listens there, [`StartError::Listen`] otherwise.
pub(crate) fn bind(
    listener: &Listener,
    shards: usize,
    passed: &mut Passed,
    others: Others,
) -> Result<Bound, StartError> {
    let at = Endpoint::of(listener);
    let bound = match &at {
        Endpoint::Address(address) => bind_port(*address, shards, others),
        Endpoint::Path(path) => {
            unix::bind(path, listener.mode, listener.owner.as_deref()).and_then(|(socket, file)| {
                let sockets = share(&socket, shards)?;
                Ok(Bound { sockets, listening: Listening::File(socket, file), at: at.clone() })
            })
        }
        Endpoint::Systemd { name, .. } => passed.take(name, listener.kind).and_then(|socket| {
            if listener.kind != ListenerKind::Unix {
                set_tcp_options(&socket)?;
            }
            let address = socket.local_addr()?;
            let of_path = || address.as_pathname().map(|path| path.display().to_string());
            let local = address.as_socket().map(|address| address.to_string()).or_else(of_path).unwrap_or_default();
            let sockets = share(&socket, shards)?;
            Ok(Bound { sockets, listening: Listening::Already, at: Endpoint::Systemd { name: name.clone(), local } })
        }),
    };
    bound.map_err(|error| at.failed(error))
}

/// Checks what can be known of the place of `listener` without taking it: where there is to be a Unix socket, and whose.
///
/// # Errors
/// [`StartError::Listen`], as [`bind`] would fail.
pub(crate) fn check(listener: &Listener) -> Result<(), StartError> {
    let at = Endpoint::of(listener);
    match &at {
        Endpoint::Path(path) => {
            unix::check(path, listener.owner.as_deref()).map(drop).map_err(|error| at.failed(error))
        }
        Endpoint::Address(_) | Endpoint::Systemd { .. } => Ok(()),
    }
}

/// As [`check`], and takes the port for a moment where there is one: whether it is free, and ours to take.
///
/// # Errors
/// As [`bind`] would fail.
pub(crate) fn try_place(listener: &Listener) -> Result<(), StartError> {
    check(listener)?;
    let at = Endpoint::of(listener);
    match &at {
        Endpoint::Address(address) => open(*address, false).map(drop).map_err(|error| at.failed(error)),
        Endpoint::Path(_) | Endpoint::Systemd { .. } => Ok(()),
    }
}

/// One TCP socket for each shard, all bound to `address`.
///
/// SO_REUSEPORT lets the shards share the port, but it would let a second broker of the same user
/// share it as well, and each would get half the clients. So the port is bound without it first.
fn bind_port(address: SocketAddr, shards: usize, others: Others) -> io::Result<Bound> {
    if address.port() != 0 && others == Others::None {
        open(address, false)?;
    }
    let first = open(address, true)?;
    let chosen = first.local_addr()?.as_socket().unwrap_or(address);
    let mut listening = vec![first];
    for _ in 1..shards {
        listening.push(open(chosen, true)?);
    }
    let sockets = listening.iter().map(|socket| socket.try_clone().map(OwnedFd::from)).collect::<io::Result<_>>()?;
    Ok(Bound { sockets, listening: Listening::Port(chosen, listening, others), at: Endpoint::Address(chosen) })
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // Connections of an earlier run in TIME_WAIT do not matter.
    socket.set_reuse_port(reuse_port)?;
    set_tcp_options(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // 0.0.0.0 and [::] are two listeners.
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets what accepted sockets inherit.
fn set_tcp_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // A socket that is closed while its connection stands is reset: its client is gone or turned away, and
    // a reset costs half of what an orderly end does, which counts when thousands vanish at once. Whoever is to read a last
    // answer gets an orderly end: see `Connection::linger`.
    socket.set_linger(Some(Duration::ZERO))
}

/// How long accept(2) waits on a socket that shards share: not at all, were it not that zero means forever. It bounds only
/// [`Listener::shed`](super::listener::Listener::shed), whose connection another shard may have taken.
const ACCEPT_PATIENCE: Duration = Duration::from_millis(1);

/// Descriptors of one socket for all shards. For each connection the kernel wakes one of those that accept on it, which may well be the
/// same one each time, and whoever finds it taken goes on waiting. Connections move to their homes anyway.
fn share(socket: &Socket, shards: usize) -> io::Result<Vec<OwnedFd>> {
    socket.set_read_timeout(Some(ACCEPT_PATIENCE))?;
    (0..shards).map(|_| socket.try_clone().map(OwnedFd::from)).collect()
}

#[cfg(test)]
mod tests;
