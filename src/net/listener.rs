//! Listening sockets as a shard accepts on them: one per listener and shard, [bound](super::bind) before there are any shards.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long accepting rests when the machine is out of descriptors or memory.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Connections that are turned away per rest; the others stay in the backlog.
const SHED_MAX: usize = 64;

/// A listener as one shard sees it.
///
/// ```text
/// Armed ──out of descriptors──▶ Resting ──ACCEPT_REST──▶ Armed
/// ```
pub(crate) struct Listener {
    socket: OwnedFd,
    /// Kept for the moment when there is no other descriptor: with it, a connection can be taken
    /// out of the backlog and closed instead of being left to wonder.
    reserve: Option<OwnedFd>,
}

impl Listener {
    /// A listener on a bound socket.
    ///
    /// # Errors
    /// When not even the reserve descriptor is to be had.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let reserve = Some(socket.try_clone()?);
        Ok(Self { socket, reserve })
    }

    /// The socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// So many connections may wait in the kernel from now on.
    pub(crate) fn set_backlog(&self, backlog: u32) {
        // It listens already, so that there is nothing that could go wrong.
        let _ = rustix::net::listen(&self.socket, backlog as i32);
    }

    /// Ends it: its socket, which accepting may still know.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Turns waiting connections away, because there are no descriptors for them; says how many.
    pub(crate) fn shed(&mut self) -> u64 {
        self.reserve = None;
        let mut shed = 0;
        for _ in 0..SHED_MAX {
            // The socket blocks, so it is asked first. Another shard may accept in between where they share it, and then it blocks
            // for no longer than `bind` has told it to.
            let mut waiting = [PollFd::new(&self.socket, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if !matches!(poll(&mut waiting, Some(&now)), Ok(1..)) {
                break;
            }
            match rustix::net::accept(&self.socket) {
                Ok(connection) => drop(connection),
                Err(_) => break,
            }
            shed += 1;
        }
        self.reserve = self.socket.try_clone().ok();
        shed
    }
}

/// What an error of accept asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AcceptFailure {
    /// That connection is gone; the next one may be fine.
    Connection,
    /// No descriptors or memory: turn away and rest.
    Exhausted,
    /// We stopped it.
    Cancelled,
    /// Something else; rest and try again.
    Other,
}

impl From<Errno> for AcceptFailure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Self::Exhausted,
            Errno::CANCELED => Self::Cancelled,
            // accept(2): errors of the connection itself, to be treated like "try again".
            Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::INTR
            | Errno::AGAIN
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT => Self::Connection,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn shedding_empties_the_backlog_and_ends() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut listener = Listener::new(socket.into()).unwrap();
        let clients: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(listener.shed(), clients.len() as u64);
        assert_eq!(listener.shed(), 0);
    }

    #[test]
    fn shards_that_share_a_socket_shed_each_connection_once() {
        let path = std::env::temp_dir().join(format!("willowmq-shed-{}", std::process::id()));
        let socket = UnixListener::bind(&path).unwrap();
        socket2::SockRef::from(&socket).set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut one = Listener::new(socket.try_clone().unwrap().into()).unwrap();
        let mut other = Listener::new(socket.into()).unwrap();
        let clients: Vec<_> = (0..50).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let beside = std::thread::spawn(move || other.shed());
        let mut shed = one.shed() + beside.join().unwrap();
        shed += one.shed(); // One that lost a race has stopped.
        assert_eq!(shed, clients.len() as u64);
        std::fs::remove_file(path).unwrap();
    }
}
