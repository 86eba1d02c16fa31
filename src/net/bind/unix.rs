//! Unix sockets: a file that one broker listens at, and that only those may connect to who are meant to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use socket2::{Domain, SockAddr, Socket, Type};

use super::owner::{self, Owner};

/// The file of a socket that this process has bound. It goes with it, unless another socket has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path); // What stays is replaced by the next start.
        }
    }
}

impl SocketFile {
    /// Listens, unless another broker has taken the path since it was bound: as long as nobody listens, a socket cannot be told
    /// from one that a crash has left behind.
    pub(super) fn listen(&self, socket: &Socket, backlog: i32) -> io::Result<()> {
        let _lock = lock_folder(&self.path)?;
        match self.is_in_place() {
            true => socket.listen(backlog),
            false => Err(io::ErrorKind::AddrInUse.into()),
        }
    }

    /// Gives the file other permissions and another owner.
    ///
    /// # Errors
    /// There is no such owner, the system does not let us, or somebody else's file is in its place.
    pub(crate) fn permit(&self, mode: u32, owner: Option<&str>) -> io::Result<()> {
        if !self.is_in_place() {
            let reason = "the socket is gone from its path, and what may be there instead is left alone";
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        let (user, group) = owner.map_or(Ok((None, None)), owner::resolve)?;
        chown(&self.path, user, group)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
    }

    fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }
}

/// Binds a socket at `path`, in place of one at which nobody listens.
///
/// Nobody can connect to a socket that does not listen, so there is time to set its permissions.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when somebody listens there, otherwise what the system says.
pub(super) fn bind(path: &Path, mode: u32, owner: Option<&str>) -> io::Result<(Socket, SocketFile)> {
    let ((user, group), address) = check(path, owner)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let _lock = lock_folder(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        done => done?,
    }
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    chown(path, user, group)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok((socket, file))
}

/// Whose a socket at `path` would be, and its address, if there can be one.
///
/// # Errors
/// There is no such owner, the path is too long, its folder is missing, or something else is there.
pub(super) fn check(path: &Path, owner: Option<&str>) -> io::Result<(Owner, SockAddr)> {
    let owner = owner.map_or(Ok((None, None)), owner::resolve)?;
    let address = SockAddr::unix(path)?;
    let folder = folder_of(path);
    if !folder.is_dir() {
        let reason = format!("there is no folder {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
        let reason = "there is something else than a socket at this path, which is left alone";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, reason));
    }
    Ok((owner, address))
}

/// Removes a socket at which nobody listens.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::ErrorKind::AddrInUse.into()); // It was not there a moment ago.
    }
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    caller.set_nonblocking(true)?; // A broker whose backlog is full is alive.
    match caller.connect(address).map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) => fs::remove_file(path),
        Err(io::ErrorKind::PermissionDenied) => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Holds off other brokers that look at sockets in the same folder, so that none is replaced just when it begins to listen.
/// `None`: the folder cannot be opened for that.
///
/// # Errors
/// [`io::ErrorKind::AddrInUse`] when another one is about it.
fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let Ok(folder) = File::open(folder_of(path)) else { return Ok(None) };
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::AddrInUse.into()),
        _ => Ok(Some(folder)),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
