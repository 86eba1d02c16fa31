//! TCP connections that never block.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::bind_option::set_bind_address_no_port;

/// Begins to connect to `target`; the socket is writable once it is done, or has an error to tell.
pub(crate) fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen by connect(2), which may use a port again for another destination; bind(2) may not.
        set_bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        other => other.map(|()| socket),
    }
}

/// Makes the close of `socket` a reset instead of an orderly end.
pub(crate) fn reset_on_close(socket: &Socket) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// What an error of a connection means to the person at the terminal.
pub(super) fn explain(error: &io::Error, target: SocketAddr, has_sources: bool) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) if has_sources => format!(
            "the source address is not on this machine (--source), or has no local port left to reach {target} \
             (net.ipv4.ip_local_port_range)"
        ),
        Some(Errno::ADDRNOTAVAIL) => format!(
            "no local port is left to reach {target} (net.ipv4.ip_local_port_range): spread the clients with --source, \
             such as --source 127.0.0.1-127.0.0.8"
        ),
        Some(Errno::MFILE) => "the limit of open files of this process is reached (ulimit -n)".into(),
        Some(Errno::NFILE) => "the limit of open files of this machine is reached (fs.file-max)".into(),
        Some(Errno::CONNRESET | Errno::PIPE) => "reset by the broker".into(),
        Some(Errno::NOBUFS | Errno::NOMEM) => format!("the kernel has no memory for more sockets: {error}"),
        _ => format!("cannot connect to {target}: {error}"),
    }
}
