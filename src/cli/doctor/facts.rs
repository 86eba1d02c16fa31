//! What the checks look at, and where it is read.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use willowmq::config::{AuthenticatorKind, Config, Listener, ListenerKind};
use willowmq::journal::Directory;
use willowmq::journal::directory::{Access, DirectoryProblem};
use willowmq::net::{StartError, probe};

use super::proc;

/// Settings of the kernel that the checks look at.
const SYSCTLS: [&str; 7] = [
    "kernel.io_uring_disabled",
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_max_syn_backlog",
    "net.netfilter.nf_conntrack_max",
    "fs.nr_open",
    "vm.overcommit_memory",
];
/// Syncs that are measured, unless the time is over before.
const SYNCS: usize = 50;
const SYNC_TIME_MAX: Duration = Duration::from_secs(3);
const SYNC_BYTES: usize = 4096;

/// The machine, as far as it is no matter of the configuration.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) sysctls: BTreeMap<&'static str, u64>,
    /// Those that this process may run on.
    pub(super) processors: usize,
    /// How many of them its control group has the time of, where that is bounded.
    pub(super) quota: Option<f64>,
    pub(super) governor: Option<String>,
    pub(super) huge_pages: Option<String>,
}

impl Machine {
    pub(super) fn sysctl(&self, name: &str) -> Option<u64> {
        self.sysctls.get(name).copied()
    }

    pub(super) fn read() -> Self {
        let sysctls = SYSCTLS.iter().filter_map(|&name| {
            let text = read(format!("/proc/sys/{}", name.replace('.', "/")))?;
            Some((name, text.trim().parse().ok()?))
        });
        let groups = read("/proc/self/cgroup").unwrap_or_default();
        let quota = proc::control_group(&groups).and_then(|group| {
            proc::processors_of_quota(&read(format!("/sys/fs/cgroup{}/cpu.max", group.trim_end_matches('/')))?)
        });
        let huge_pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            sysctls: sysctls.collect(),
            processors: probe::shards(&Config::default()).map_or(1, |(_, processors)| processors),
            quota,
            governor: governor.map(|text| text.trim().to_owned()),
            huge_pages: huge_pages.and_then(|text| proc::chosen(&text).map(str::to_owned)),
        }
    }
}

/// Limits of a process, soft and hard; `u64::MAX` is none.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) memlock: (u64, u64),
    pub(super) nofile: (u64, u64),
    /// The broker that has them. Without one they are those of this process, and a service may have others.
    pub(super) of_running: Option<u32>,
}

impl Limits {
    /// Of whom they are, to be said behind them.
    pub(super) fn of(&self) -> String {
        self.of_running.map_or(String::new(), |pid| format!(" by the running broker (process {pid})"))
    }

    /// Those of the running broker where they can be read, or else those of this process.
    pub(super) fn read(running: Option<u32>) -> Self {
        let of_running = running.and_then(|pid| Some((pid, read(format!("/proc/{pid}/limits"))?)));
        let (of_running, text) = match of_running {
            Some((pid, text)) => (Some(pid), text),
            None => (None, read("/proc/self/limits").unwrap_or_default()),
        };
        let of = |name| proc::limit(&text, name).unwrap_or((u64::MAX, u64::MAX));
        Self { memlock: of("Max locked memory"), nofile: of("Max open files"), of_running }
    }
}

/// What keeps the clock right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    Synchronised(&'static str),
    Running(&'static str),
    Unknown,
}

impl Clock {
    pub(super) fn read() -> Self {
        let exists = |path: &str| Path::new(path).exists();
        match () {
            () if exists("/run/systemd/timesync/synchronized") => Self::Synchronised("systemd-timesyncd"),
            () if exists("/run/chrony/chronyd.pid") || exists("/run/chrony.pid") => Self::Synchronised("chrony"),
            () if exists("/run/ntpd.pid") || exists("/run/ntpsec/ntpd.pid") => Self::Synchronised("ntpd"),
            () if exists("/run/systemd/timesync") => Self::Running("systemd-timesyncd"),
            () => Self::Unknown,
        }
    }
}

/// A place to listen at, and whether it is free.
#[derive(Debug)]
pub(super) struct Place {
    /// Which listener it is of.
    pub(super) subject: String,
    pub(super) at: String,
    pub(super) result: Result<(), StartError>,
    /// Who has it, if somebody has and may be seen.
    pub(super) occupant: Option<Occupant>,
}

/// A process that listens.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Occupant {
    pub(super) name: String,
    pub(super) pid: u32,
}

impl Place {
    /// Those of all listeners, and that of the HTTP server.
    pub(super) fn read(config: &Config) -> Vec<Self> {
        let numbered = config.listeners.iter().enumerate();
        let mut places: Vec<_> =
            numbered.map(|(index, listener)| Self::of(format!("listener {index}"), listener)).collect();
        // Where no address is said, the HTTP server goes without one that is taken.
        if let (true, Some(address)) = (config.admin.enabled, config.admin.address) {
            places.push(Self::of("HTTP".to_owned(), &Listener { address, ..Listener::default() }));
        }
        places
    }

    fn of(subject: String, listener: &Listener) -> Self {
        let at = match (&listener.systemd, &listener.path) {
            (Some(name), _) => format!("the socket {name:?} of systemd"),
            (None, Some(path)) if listener.kind == ListenerKind::Unix => path.display().to_string(),
            _ => listener.address.to_string(),
        };
        let result = probe::place(listener);
        let is_taken = matches!(result, Err(StartError::AddressInUse { .. }));
        let occupant = is_taken.then(|| occupant(listener.address)).flatten();
        Self { subject, at, result, occupant }
    }
}

/// Who listens there. Processes of other users are seen by the superuser alone.
fn occupant(address: SocketAddr) -> Option<Occupant> {
    let table = read(if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" })?;
    let socket = format!("socket:[{}]", proc::listening(&table, address)?);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == socket.as_str())
    })?;
    Some(Occupant { name: read(format!("/proc/{pid}/comm"))?.trim().to_owned(), pid })
}

/// The data directory, and the disk below it.
#[derive(Debug)]
pub(super) struct DataDirectory {
    /// Where all this was read: the directory itself, or the one above it that is there.
    pub(super) at: PathBuf,
    pub(super) exists: bool,
    /// Why it cannot be used.
    pub(super) problem: Option<String>,
    /// Whether a broker uses it, and which, if that is told.
    pub(super) is_used: bool,
    pub(super) used_by: Option<u32>,
    /// The number of the file system, as statfs(2) has it.
    pub(super) file_system: Option<i64>,
    pub(super) free_bytes: Option<u64>,
    /// Unless it could not be measured, as where there is no permission.
    pub(super) latency: Option<Result<Latency, String>>,
}

/// How long a sync takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) median: Duration,
    pub(super) p99: Duration,
    pub(super) count: usize,
}

impl DataDirectory {
    pub(super) fn read(path: &Path) -> Self {
        let above = path.ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
        let at = above.into_iter().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
        let exists = path.is_dir();
        let (mut problem, mut is_used, mut used_by) = (None, false, None);
        if exists {
            match Directory::open_existing(path, Access::Read).map_err(|error| (error.to_string(), error.problem)) {
                Ok(_) | Err((_, DirectoryProblem::NoData)) => {}
                Err((_, DirectoryProblem::InUse(pid))) => (is_used, used_by) = (true, pid),
                Err((said, _)) => problem = Some(said),
            }
        } else if path.exists() {
            problem = Some(format!("{} is no directory", path.display()));
        }
        let measured = if problem.is_none() { Some(measure(&at)) } else { None };
        if let Some(Err(error)) = &measured
            && matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        {
            problem = Some(format!("cannot write to {}: {error}", at.display()));
        }
        let file_system = rustix::fs::statfs(&at).ok();
        let free = rustix::fs::statvfs(&at).ok();
        Self {
            exists,
            problem,
            is_used,
            used_by,
            file_system: file_system.map(|found| found.f_type),
            free_bytes: free.map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
            latency: measured
                .map(|result| result.map_err(|error| format!("cannot sync a file in {}: {error}", at.display()))),
            at,
        }
    }
}

/// A file that is gone when this is.
struct Temporary(File, PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.1); // There is nobody left to be told.
    }
}

/// Writes and syncs a block again and again.
fn measure(folder: &Path) -> io::Result<Latency> {
    let path = folder.join(format!(".willowmq-doctor-{}", std::process::id()));
    let Temporary(file, _) = &Temporary(OpenOptions::new().write(true).create_new(true).open(&path)?, path);
    let (begin, block) = (Instant::now(), [0x57; SYNC_BYTES]);
    let mut times = Vec::new();
    while times.len() < SYNCS && begin.elapsed() < SYNC_TIME_MAX {
        let before = Instant::now();
        file.write_all_at(&block, (times.len() * SYNC_BYTES) as u64)?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    (&*file).flush()?;
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    Ok(Latency { median: at(50), p99: at(99), count: times.len() })
}

/// A certificate that is shown to clients.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) path: PathBuf,
    pub(super) validity: Result<(SystemTime, SystemTime), String>,
}

impl Certificate {
    pub(super) fn read(config: &Config) -> Vec<Self> {
        let of_listeners = config.listeners.iter().flat_map(|listener| &listener.certificates).map(PathBuf::from);
        let all = of_listeners.chain(config.admin.certificate.clone());
        all.map(|path| Self { validity: probe::validity(&path), path }).collect()
    }
}

/// A file that decides who may do what.
#[derive(Debug)]
pub(super) struct NamedFile {
    pub(super) path: PathBuf,
    pub(super) what: &'static str,
    /// Its permissions; none where it cannot be read.
    pub(super) mode: Option<u32>,
    /// Whether nobody but the broker should read it.
    pub(super) is_secret: bool,
}

impl NamedFile {
    pub(super) fn read(config: &Config) -> Vec<Self> {
        let keys = config.listeners.iter().flat_map(|listener| &listener.keys);
        let mut files: Vec<(PathBuf, _, _)> = keys.map(|key| (key.into(), "a private key", true)).collect();
        files.extend(config.admin.key.clone().map(|path| (path, "a private key", true)));
        files.extend(config.admin.token_file.clone().map(|path| (path, "tokens of the HTTP API", true)));
        files.extend(config.security.rights_file.clone().map(|path| (path, "rights", false)));
        files.extend(config.authenticators.iter().filter_map(|authenticator| {
            let what = match authenticator.kind {
                AuthenticatorKind::Password => ("passwords", true),
                // It may hold a public key, or a secret that tokens could be made with.
                _ => ("keys of tokens", authenticator.algorithms.iter().any(|name| name.starts_with("HS"))),
            };
            Some((authenticator.file.clone()?, what.0, what.1))
        }));
        let mode = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o777);
        files.into_iter().map(|(path, what, is_secret)| Self { mode: mode(&path), path, what, is_secret }).collect()
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_measured_and_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("willowmq-doctor-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let found = DataDirectory::read(&folder.join("not/there"));
        assert_eq!((found.at.as_path(), found.exists, &found.problem), (folder.as_path(), false, &None));
        assert!(found.latency.unwrap().unwrap().count > 0);
        assert!(found.file_system.is_some() && found.free_bytes.is_some());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn who_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let place = Place::of("listener 0".into(), &Listener { address, ..Listener::default() });
        assert!(matches!(place.result, Err(StartError::AddressInUse { .. })), "{place:?}");
        assert_eq!(place.occupant.map(|occupant| occupant.pid), Some(std::process::id()));
    }

    #[test]
    fn this_process_has_limits_and_this_machine_settings() {
        let limits = Limits::read(None);
        assert!(limits.nofile.0 <= limits.nofile.1 && limits.of().is_empty());
        assert!(Limits::read(Some(std::process::id())).of().contains("running broker"));
        assert!(Machine::read().processors > 0);
    }
}
