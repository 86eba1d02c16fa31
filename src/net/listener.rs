//! Listening sockets: one per listener and shard, on the same port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::startup::StartError;

/// How long accepting rests when the machine is out of descriptors or memory.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Connections that are turned away per rest; the others stay in the backlog.
const SHED_MAX: usize = 64;

/// The sockets of one listener, one for each shard.
pub(crate) struct Bound {
    pub(crate) sockets: Vec<OwnedFd>,
    /// The same sockets once more, for [`Bound::listen`].
    listening: Vec<Socket>,
    /// Where they listen: with the port that was chosen where 0 was asked for.
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Lets clients come. Until then they are refused, and can try again, instead of waiting for a broker that reads its journal.
    ///
    /// # Errors
    /// As [`bind`]: another process may have been faster.
    pub(crate) fn listen(self, backlog: i32) -> Result<SocketAddr, StartError> {
        let failed = |error| failed(self.address, error);
        open(self.address, false).map_err(failed)?; // Fails where somebody else listens; our own sockets do not yet.
        self.listening.iter().try_for_each(|socket| socket.listen(backlog)).map_err(failed)?;
        Ok(self.address)
    }
}

fn failed(address: SocketAddr, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        _ => StartError::Listen { address, error },
    }
}

/// How long a port may stay taken before it is an error. A process that was killed holds its sockets until the kernel has taken down its
/// rings, a moment after it is gone: whoever starts the next one at once must not fail for that.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether the port is free.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// As [`bind`], but waits a moment for a port that an earlier process has not let go of yet.
///
/// # Errors
/// As [`bind`].
pub(crate) fn bind_patiently(address: SocketAddr, shards: usize) -> Result<Bound, StartError> {
    let start = Instant::now();
    loop {
        match bind(address, shards) {
            Err(StartError::AddressInUse { .. }) if start.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
            done => return done,
        }
    }
}

/// Binds `address` once for each of `shards` shards. Nobody can connect before [`Bound::listen`].
///
/// SO_REUSEPORT lets the shards share the port, but it would let a second broker of the same user
/// share it as well, and each would get half the clients. So the port is bound without it first.
///
/// # Errors
/// [`StartError::AddressInUse`] when another process listens there, [`StartError::Listen`] otherwise.
pub(crate) fn bind(address: SocketAddr, shards: usize) -> Result<Bound, StartError> {
    let failed = |error| failed(address, error);
    if address.port() != 0 {
        open(address, false).map_err(failed)?;
    }
    let first = open(address, true).map_err(failed)?;
    let chosen = first.local_addr().map_err(failed)?.as_socket().unwrap_or(address);
    let mut listening = vec![first];
    for _ in 1..shards {
        listening.push(open(chosen, true).map_err(failed)?);
    }
    let sockets = listening.iter().map(|socket| socket.try_clone().map(OwnedFd::from)).collect::<io::Result<_>>();
    Ok(Bound { sockets: sockets.map_err(failed)?, listening, address: chosen })
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // Connections of an earlier run in TIME_WAIT do not matter.
    socket.set_reuse_port(reuse_port)?;
    socket.set_tcp_nodelay(true)?; // Accepted sockets inherit it.
    // Inherited as well. A socket that is closed while its connection stands is reset: its client is gone or turned away, and
    // a reset costs half of what an orderly end does, which counts when thousands vanish at once. Whoever is to read a last
    // answer gets an orderly end: see `Connection::linger`.
    socket.set_linger(Some(Duration::ZERO))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // 0.0.0.0 and [::] are two listeners.
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

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

    /// Turns waiting connections away, because there are no descriptors for them; says how many.
    pub(crate) fn shed(&mut self) -> u64 {
        self.reserve = None;
        let mut shed = 0;
        for _ in 0..SHED_MAX {
            // The socket blocks, so it is asked first. Nobody else accepts from it.
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
    use std::net::{IpAddr, Ipv4Addr, TcpListener};

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn is_taken(address: SocketAddr) -> bool {
        matches!(bind(address, 1), Err(StartError::AddressInUse { .. }))
    }

    #[test]
    fn shards_share_a_port_that_the_system_chose() {
        let bound = bind(ANY_PORT, 4).unwrap();
        assert_eq!(bound.sockets.len(), 4);
        for socket in bound.sockets {
            assert_eq!(TcpListener::from(socket).local_addr().unwrap(), bound.address);
        }
    }

    #[test]
    fn a_second_broker_is_told_that_the_port_is_taken() {
        let mut bound = bind(ANY_PORT, 2).unwrap();
        let sockets = std::mem::take(&mut bound.sockets);
        let address = bound.listen(16).unwrap();
        assert!(is_taken(address));
        drop(sockets);
        assert!(!is_taken(address));
    }

    #[test]
    fn a_port_that_is_let_go_of_in_time_is_waited_for() {
        let mut bound = bind(ANY_PORT, 2).unwrap();
        let sockets = std::mem::take(&mut bound.sockets);
        let address = bound.listen(16).unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let next = std::thread::spawn(move || {
            begun.send(()).unwrap();
            bind_patiently(address, 2).map(drop)
        });
        begins.recv().unwrap();
        assert!(is_taken(address));
        drop(sockets);
        assert!(next.join().unwrap().is_ok());
    }

    #[test]
    fn clients_are_refused_until_the_listener_listens() {
        let mut bound = bind(ANY_PORT, 1).unwrap();
        let _sockets = std::mem::take(&mut bound.sockets);
        let refused = std::net::TcpStream::connect(bound.address).expect_err("nobody listens yet");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let address = bound.listen(16).unwrap();
        assert!(std::net::TcpStream::connect(address).is_ok());
    }

    #[test]
    fn shedding_empties_the_backlog_and_ends() {
        let mut bound = bind(ANY_PORT, 1).unwrap();
        let mut listener = Listener::new(bound.sockets.remove(0)).unwrap();
        let address = bound.listen(16).unwrap();
        let clients: Vec<_> = (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert_eq!(listener.shed(), clients.len() as u64);
        assert_eq!(listener.shed(), 0);
    }
}
