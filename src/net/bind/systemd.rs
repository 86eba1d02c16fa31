//! What systemd and we tell each other: the sockets it has opened for us, and that we are ready.
//!
//! See sd_listen_fds(3) and sd_notify(3). The sockets keep listening while the broker restarts, so clients wait instead of being refused.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};
use socket2::Socket;

use crate::config::ListenerKind;

/// The sockets that systemd has opened for this process. They are passed once, so that all of them are kept as long as the process lives:
/// a listener that is removed may come back, and a reload that fails has used none up. systemd keeps them as well, so nobody is turned away
/// any later for that.
pub(crate) struct Passed {
    sockets: ListenFd,
    /// Their names, in the same order; `None` once it was asked for.
    names: Vec<Option<String>>,
    /// Those that were asked for, by their names.
    taken: Vec<(String, Socket)>,
}

impl Passed {
    /// Receives them. They are told to a process once: later calls find none.
    pub(crate) fn receive() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self::new(ListenFd::from_env(), &names)
    }

    /// As without systemd.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self::new(ListenFd::empty(), "")
    }

    fn new(sockets: ListenFd, names: &str) -> Self {
        let given = names.split(':').map(|name| Some(name.to_owned()));
        // Without a name, it is this one, says sd_listen_fds_with_names(3).
        let names = given.chain(std::iter::repeat(Some("unknown".to_owned()))).take(sockets.len()).collect();
        Self { sockets, names, taken: Vec::new() }
    }

    /// A descriptor of the socket called `name`, for a listener of `kind`.
    ///
    /// # Errors
    /// When there is none, when it is not clear which, and when it is not one that such a listener can accept on.
    pub(super) fn take(&mut self, name: &str, kind: ListenerKind) -> io::Result<Socket> {
        let what = match kind {
            ListenerKind::Unix => "a Unix stream socket (ListenStream=/path)",
            _ => "a TCP socket (ListenStream=port)",
        };
        if let Some((_, socket)) = self.taken.iter().find(|(taken, _)| taken == name) {
            if socket.local_addr()?.is_unix() != (kind == ListenerKind::Unix) {
                let reason = format!("the socket is another one: {what} is needed");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            return socket.try_clone();
        }
        let indices: Vec<_> = (0..self.names.len()).filter(|&at| self.names[at].as_deref() == Some(name)).collect();
        let index = match indices[..] {
            [] => return Err(io::Error::new(io::ErrorKind::NotFound, self.missing())),
            [index] => index,
            _ => {
                let reason = "systemd has passed several sockets with this name: give each a unit with a \
                              FileDescriptorName= of its own";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
        };
        let taken = match kind {
            ListenerKind::Unix => self.sockets.take_unix_listener(index)?.map(OwnedFd::from),
            _ => self.sockets.take_tcp_listener(index)?.map(OwnedFd::from),
        };
        let socket = Socket::from(taken.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?);
        match socket.is_listener() {
            Ok(true) => {
                socket.set_nonblocking(false)?; // As ours: io_uring would answer instead of waiting.
                let kept = socket.try_clone()?;
                self.names[index] = None;
                self.taken.push((name.to_owned(), kept));
                Ok(socket)
            }
            _ => {
                let reason = format!("the socket does not listen: {what} with Accept=no is needed");
                Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
            }
        }
    }

    /// The names of those that nobody has asked for.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }

    fn missing(&self) -> String {
        let names: Vec<_> = self.unused().collect();
        match names[..] {
            [] => "systemd has passed no socket of this name: is the broker started by a service that belongs to a socket unit?"
                .to_owned(),
            _ => format!("systemd has passed no socket of this name; there are: {}", names.join(", ")),
        }
    }
}

/// What is told to systemd when a reload begins (Type=notify-reload); "READY=1" says that it is over.
pub(crate) fn reloading() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
    format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")
}

/// Tells systemd how we are, where it has asked for that: "READY=1", "STOPPING=1".
///
/// # Errors
/// What the system says; the broker runs without systemd knowing as well.
pub(crate) fn notify(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}
