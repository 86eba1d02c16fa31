//! What must hold before the broker starts, and what to tell the operator where it does not.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::admission::SURPLUS_MAX;
use super::bind::Endpoint;
use super::journal;
use super::ring::Ring;
use crate::config::Config;
use crate::journal::JournalError;
use crate::journal::directory::{DirectoryError, DirectoryProblem};
use crate::journal::recovery::Problem;
use crate::shard::ShardId;

/// The oldest kernel with everything the socket ring needs (DEFER_TASKRUN is the youngest part).
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Bytes that a process must be allowed to lock: what glommio's rings need.
pub const MEMLOCK_MIN: u64 = 512 * 1024;
/// Descriptors of the process apart from connections: standard streams, some air, and connections above the limit that are being
/// told so.
const DESCRIPTORS_OTHER: u64 = 32 + SURPLUS_MAX as u64;
/// Descriptors of a shard apart from connections: rings, eventfds, glommio's own, and those of its journal.
const DESCRIPTORS_PER_SHARD: u64 = 16 + journal::DESCRIPTORS;
/// With fewer connections than this it is not worth starting.
const CONNECTIONS_MIN: u64 = 16;
/// Where the limit on open files is "unlimited", the kernel's own (fs.nr_open) is usually this.
const NOFILE_CEILING: u64 = 1 << 20;

/// Why the broker cannot start.
#[derive(Debug)]
pub enum StartError {
    /// Another process listens there.
    AddressInUse {
        /// The place that was asked for.
        at: Endpoint,
    },
    /// Listening failed otherwise.
    Listen {
        /// The place that was asked for.
        at: Endpoint,
        /// What the system said.
        error: io::Error,
    },
    /// The HTTP server cannot be started.
    Admin {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// What the HTTP server needs cannot be used: a certificate, a key, the tokens.
    AdminFiles {
        /// What is wrong, with the file.
        problem: String,
    },
    /// What a listener needs cannot be used: a setting, a certificate, a key.
    Listener {
        /// Its place among the listeners.
        listener: usize,
        /// What is wrong with which setting or file.
        problem: String,
    },
    /// The rights file cannot be used.
    Rights {
        /// What is wrong, with file and line.
        problem: String,
    },
    /// The kernel is older than the socket ring needs.
    KernelTooOld {
        /// As `uname -r` says it.
        release: String,
    },
    /// io_uring is switched off by sysctl or by a filter on system calls.
    RingDisabled {
        /// The value of kernel.io_uring_disabled, where it can be read.
        sysctl: Option<String>,
        /// What the system said.
        error: io::Error,
    },
    /// io_uring failed otherwise.
    Ring {
        /// What the system said.
        error: io::Error,
    },
    /// RLIMIT_MEMLOCK is too low.
    MemlockTooLow {
        /// Bytes that may be locked.
        limit: u64,
    },
    /// RLIMIT_NOFILE is too low.
    NofileTooLow {
        /// Descriptors that may be open.
        limit: u64,
        /// Descriptors that are needed.
        needed: u64,
    },
    /// The memory limit is below what the broker needs to begin with.
    MemoryLimitTooLow {
        /// Bytes that may be used.
        limit: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The thread of a shard could not be set up.
    Executor {
        /// Its number.
        shard: usize,
        /// What glommio said.
        message: String,
    },
    /// A shard's executor ended before it began.
    ExecutorLost,
    /// The data directory cannot be used.
    DataDirectory(DirectoryError),
    /// What the journals say cannot be used.
    Journal(JournalError),
    /// An authenticator cannot do its work.
    Authenticator {
        /// Its name in the configuration.
        name: String,
        /// What is wrong, with file and line.
        reason: String,
    },
    /// Signals cannot be received, or another basic facility is missing.
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl StartError {
    /// The exit code of the process: each kind has its own, for scripts. 2 is an error in the configuration, or in a file that it names.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AddressInUse { .. } => 3,
            Self::Admin { error, .. } if error.kind() == io::ErrorKind::AddrInUse => 3,
            Self::Listen { .. } | Self::Admin { .. } => 4,
            Self::KernelTooOld { .. } => 5,
            Self::RingDisabled { .. } => 6,
            Self::MemlockTooLow { .. } => 7,
            Self::NofileTooLow { .. } => 8,
            Self::DataDirectory(error) => match error.problem {
                DirectoryProblem::InUse(_) => 9,
                DirectoryProblem::MetaMissing | DirectoryProblem::MetaDamaged(_) => 11,
                DirectoryProblem::Newer(_) => 12,
                DirectoryProblem::CannotCreate(_)
                | DirectoryProblem::NotWritable(_)
                | DirectoryProblem::Unreadable(_)
                | DirectoryProblem::NoData => 10,
            },
            Self::Journal(error) => match error.problem {
                Problem::Unreadable(_) => 10,
                Problem::Version(_) => 12,
                _ => 11,
            },
            Self::MemoryLimitTooLow { .. } => 13,
            Self::Rights { .. } | Self::Listener { .. } | Self::Authenticator { .. } | Self::AdminFiles { .. } => 2,
            Self::Ring { .. } | Self::Executor { .. } | Self::ExecutorLost | Self::System { .. } => 1,
        }
    }

    /// Tells the ways apart in which a ring is not to be had.
    pub(crate) fn from_ring(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::PERM | Errno::NOSYS | Errno::ACCESS) => {
                let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
                Self::RingDisabled { sysctl: sysctl.map(|value| value.trim().to_owned()), error }
            }
            Some(Errno::NOMEM) => Self::MemlockTooLow { limit: memlock().unwrap_or(0) },
            _ => Self::Ring { error },
        }
    }
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse { at: at @ Endpoint::Address(_) } => write!(
                f,
                "cannot listen on {at}: address in use, another process listens there. Stop it (`ss -ltnp` shows it), or give \
                 another address with --listen or [[listeners]] address"
            ),
            Self::AddressInUse { at } => write!(
                f,
                "cannot listen on {at}: another process listens there. Stop it (`ss -lxp` shows it), or give another path with \
                 [[listeners]] path"
            ),
            Self::Listen { at, error } => write!(f, "cannot listen on {at}: {error}{}", listen_advice(at, error)),
            Self::Admin { address, error } => write!(f, "cannot serve HTTP at admin.address {address}: {error}"),
            Self::Listener { listener, problem } => write!(f, "cannot use listeners.{listener}: {problem}"),
            Self::AdminFiles { problem } => write!(f, "cannot serve HTTP: {problem}"),
            Self::Rights { problem } => write!(f, "cannot use the rights file: {problem}"),
            Self::KernelTooOld { release } => {
                let (major, minor) = KERNEL_MIN;
                write!(f, "Linux {release} is too old: WillowMQ needs {major}.{minor} or newer for its io_uring")
            }
            Self::RingDisabled { sysctl: Some(value), error } if value != "0" => write!(
                f,
                "io_uring is disabled on this machine ({error}): kernel.io_uring_disabled is {value}. Enable it with `sysctl -w \
                 kernel.io_uring_disabled=0`"
            ),
            Self::RingDisabled { error, .. } => write!(
                f,
                "io_uring is not allowed to this process ({error}). In a container the usual cause is its seccomp profile: allow \
                 io_uring_setup, io_uring_enter and io_uring_register"
            ),
            Self::Ring { error } => write!(f, "cannot set up io_uring: {error}"),
            Self::MemlockTooLow { limit } => write!(
                f,
                "the limit on locked memory is too low: {limit} bytes, at least {MEMLOCK_MIN} are needed. Raise it with `ulimit -l`, \
                 LimitMEMLOCK= of systemd or --ulimit memlock= of the container"
            ),
            Self::NofileTooLow { limit, needed } => write!(
                f,
                "the limit on open files is too low: {limit}, at least {needed} are needed. Raise it with `ulimit -n`, LimitNOFILE= of \
                 systemd or --ulimit nofile= of the container, or lower limits.connections_max or shards"
            ),
            Self::MemoryLimitTooLow { limit, needed } => write!(
                f,
                "memory_limit is too low: it comes to {limit} bytes, and so many shards need at least {needed}. Raise it, or lower shards"
            ),
            Self::Executor { shard, message } => write!(f, "cannot run shard {shard}: {message}"),
            Self::ExecutorLost => f.write_str(
                "the executor of a shard could not be set up; the usual causes are the limits on open files (`ulimit -n`) and on locked \
                 memory (`ulimit -l`)",
            ),
            Self::DataDirectory(error) => write!(f, "{error}. {}", advice(&error.problem)),
            Self::Journal(error) => write!(f, "{error}. Nothing was changed"),
            Self::Authenticator { name, reason } => write!(f, "authenticator {name}: {reason}"),
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

/// What to do where an address cannot be listened on, for those reasons that have an answer.
fn listen_advice(at: &Endpoint, error: &io::Error) -> &'static str {
    match (at, error.kind()) {
        (Endpoint::Address(address), io::ErrorKind::PermissionDenied) if address.port() < 1024 => {
            ". Ports below 1024 take CAP_NET_BIND_SERVICE, which the systemd unit gives; `willowmq doctor` says how else"
        }
        (Endpoint::Address(_), io::ErrorKind::AddrNotAvailable) => {
            ". This machine does not have that address: `ip -brief address` shows those that it has"
        }
        _ => "",
    }
}

/// What to do where a data directory cannot be used.
fn advice(problem: &DirectoryProblem) -> &'static str {
    match problem {
        DirectoryProblem::InUse(_) => {
            "Each broker needs a directory of its own: stop the other one, or give another directory with --data-dir or data_dir"
        }
        DirectoryProblem::CannotCreate(error)
        | DirectoryProblem::NotWritable(error)
        | DirectoryProblem::Unreadable(error) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "Free some space, or give another directory with --data-dir or data_dir"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "The file system is read-only: give a directory on another one with --data-dir or data_dir"
            }
            _ => {
                "Let the user who runs WillowMQ write there, give another directory with --data-dir or data_dir, or keep everything in \
                 memory with --durability memory"
            }
        },
        DirectoryProblem::Newer(_) | DirectoryProblem::NoData => {
            "Or give another directory with --data-dir or data_dir"
        }
        DirectoryProblem::MetaMissing | DirectoryProblem::MetaDamaged(_) => {
            "Or begin with another directory, given with --data-dir or data_dir"
        }
    }
}

/// Checks the kernel, io_uring and the limit on locked memory.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn check_system() -> Result<(), StartError> {
    check_kernel(rustix::system::uname().release().to_string_lossy().as_ref())?;
    // Where we may, we raise it ourselves; where we may not, the check tells.
    raise(Resource::Memlock);
    match memlock() {
        Some(limit) if limit < MEMLOCK_MIN => return Err(StartError::MemlockTooLow { limit }),
        _ => {}
    }
    check_ring()
}

/// Creates a ring as the shards do, and lets it go again.
///
/// # Errors
/// Why there is none.
pub(crate) fn check_ring() -> Result<(), StartError> {
    let ring = Ring::new(2).map_err(StartError::from_ring)?;
    match ring.has_files() {
        true => Ok(()),
        false => Err(StartError::from_ring(Errno::NOSYS.into())),
    }
}

/// Raises the limit on open files as far as the process may, and says how many connections it leaves room for.
///
/// # Errors
/// [`StartError::NofileTooLow`] when it is not enough for `asked` connections, or for any that are worth mentioning.
pub(crate) fn connections_max(asked: Option<u32>, shards: usize, listeners: usize) -> Result<usize, StartError> {
    raise(Resource::Nofile);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(NOFILE_CEILING);
    room_for_connections(limit, asked, shards as u64, listeners as u64)
}

/// How many connections there is room for where `limit` descriptors may be open.
///
/// # Errors
/// As [`connections_max`].
pub(crate) fn room_for_connections(
    limit: u64,
    asked: Option<u32>,
    shards: u64,
    listeners: u64,
) -> Result<usize, StartError> {
    // Of every listener a shard has the socket and a reserve.
    let others = DESCRIPTORS_OTHER + shards * (DESCRIPTORS_PER_SHARD + 2 * listeners);
    // A sixteenth is left free, because closing takes a moment.
    let room = limit.saturating_sub(others) / 16 * 15;
    let wanted = asked.map_or(CONNECTIONS_MIN, u64::from);
    if room < wanted {
        return Err(StartError::NofileTooLow { limit, needed: (wanted / 15 + 1) * 16 + others });
    }
    Ok(asked.map_or(room, u64::from) as usize)
}

/// Whether the kernel is new enough, by what `uname -r` says.
///
/// # Errors
/// [`StartError::KernelTooOld`]
pub(crate) fn check_kernel(release: &str) -> Result<(), StartError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < KERNEL_MIN => {
            Err(StartError::KernelTooOld { release: release.to_owned() })
        }
        // A release that does not begin with numbers is somebody's own; the ring itself will tell.
        _ => Ok(()),
    }
}

fn memlock() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

fn raise(resource: Resource) {
    let limit = getrlimit(resource);
    let _ = setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The processors that this process may run on.
///
/// # Errors
/// What `sched_getaffinity(2)` reports.
pub(crate) fn processors() -> Result<Vec<usize>, StartError> {
    let allowed = rustix::thread::sched_getaffinity(None).map_err(|error| StartError::System {
        what: "cannot find out the processors of this process",
        error: error.into(),
    })?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
}

/// How many shards there are: as many as `config` says, or one for each of `processors`.
pub(crate) fn shards(config: &Config, processors: &[usize]) -> usize {
    config.shards.map_or(processors.len(), usize::from).clamp(1, ShardId::COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_from_new_ones() {
        for old in ["5.15.0-91-generic", "6.0.12", "4.19"] {
            assert!(check_kernel(old).is_err(), "{old}");
        }
        for new in ["6.1.0-18-amd64", "6.1", "6.18.44", "7.0.0-rc1", "custom"] {
            assert!(check_kernel(new).is_ok(), "{new}");
        }
    }

    #[test]
    fn connections_follow_from_the_limit_on_open_files() {
        let room = room_for_connections(20_000, None, 2, 1).unwrap();
        assert!((18_000..20_000).contains(&room), "{room}");
        assert_eq!(room_for_connections(20_000, Some(500), 2, 1).unwrap(), 500);
        let needed = match room_for_connections(1024, Some(5000), 2, 1) {
            Err(StartError::NofileTooLow { limit: 1024, needed }) => needed,
            other => panic!("{other:?}"),
        };
        assert_eq!(room_for_connections(needed, Some(5000), 2, 1).unwrap(), 5000);
    }

    #[test]
    fn every_message_says_how_to_mend_it() {
        let denied = || io::Error::from(Errno::PERM);
        let by_sysctl = StartError::RingDisabled { sysctl: Some("2".into()), error: denied() };
        assert!(by_sysctl.to_string().contains("sysctl -w"));
        let by_filter = StartError::RingDisabled { sysctl: Some("0".into()), error: denied() };
        assert!(by_filter.to_string().contains("seccomp"));
        let listen = |address: &str, kind: io::ErrorKind| {
            let at = Endpoint::Address(address.parse().unwrap());
            StartError::Listen { at, error: kind.into() }.to_string()
        };
        assert!(listen("127.0.0.1:883", io::ErrorKind::PermissionDenied).contains("CAP_NET_BIND_SERVICE"));
        assert!(!listen("127.0.0.1:1883", io::ErrorKind::PermissionDenied).contains("CAP_NET_BIND_SERVICE"));
        assert!(listen("10.0.0.1:1883", io::ErrorKind::AddrNotAvailable).contains("ip -brief address"));
        assert!(StartError::MemlockTooLow { limit: 65_536 }.to_string().contains("ulimit -l"));
        for errno in [Errno::ACCESS, Errno::ROFS, Errno::NOSPC, Errno::NOTDIR] {
            let problem = DirectoryProblem::CannotCreate(errno.into());
            let unusable = StartError::DataDirectory(DirectoryError { path: "d".into(), problem });
            assert!(unusable.to_string().contains("--data-dir"), "{unusable}");
            assert_eq!(unusable.exit_code(), 10);
        }
    }
}
