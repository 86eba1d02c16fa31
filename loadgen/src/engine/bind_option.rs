//! IP_BIND_ADDRESS_NO_PORT, which no typed library offers: the only unsafe code of the generator.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Lets bind(2) with port 0 choose an address alone. The port is chosen by connect(2), which may use one again that
/// goes to another destination: without this, all brokers together are reached from some 28,000 ports of an address.
pub(super) fn set_bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open while `socket` is borrowed; the pointer is to `on`, which outlives the call and has
    // as many bytes as `length` says; the kernel reads it and keeps nothing.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast::<libc::c_void>(),
            length,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    #[test]
    fn bind_leaves_the_port_open() {
        for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))] {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            set_bind_address_no_port(&socket).unwrap();
            socket.bind(&address.into()).unwrap();
            assert_eq!(socket.local_addr().unwrap().as_socket().unwrap().port(), 0);
        }
    }
}
