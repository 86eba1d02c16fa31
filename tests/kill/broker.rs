//! The broker as a process that is killed and started again on the same directory and port.

use crate::checker::Grace;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) durability: &'static str,
    pub(crate) grace: Grace,
}

pub(crate) struct Broker {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    log: Arc<Mutex<String>>,
    listens: Arc<AtomicBool>,
}

impl Broker {
    /// Prepares a directory and a port; nothing runs yet.
    pub(crate) fn new(settings: Settings) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kill-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("a folder for the data");
        let address = free_address();
        fs::write(folder.join("willowmq.toml"), configuration(settings, &folder, address)).expect("a writable folder");
        Self { child: None, address, folder, log: Arc::default(), listens: Arc::default() }
    }

    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.await_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WILLOWMQ_")) {
            command.env_remove(name);
        }
        command.arg("--config").arg(self.folder.join("willowmq.toml")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the broker can be started");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        self.child = Some(child);
        let listens = Arc::new(AtomicBool::new(false));
        self.listens = Arc::clone(&listens);
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = log.lock().expect("nobody panics with the log");
                *log += &format!("{line}\n");
                listens.fetch_or(line.contains("address="), Ordering::Relaxed);
            }
        });
    }

    /// A killed process holds its sockets until the kernel has taken down its rings, a moment after it is gone. Until then its clients do
    /// not see their connections end, and new ones are taken for it.
    fn await_port(&self) {
        let end = Instant::now() + PATIENCE;
        while TcpListener::bind(self.address).is_err() {
            assert!(Instant::now() < end, "{} stays in use", self.address);
            thread::yield_now();
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the log says that it listens.
    pub(crate) fn listens(&mut self) -> bool {
        self.expect_alive();
        self.listens.load(Ordering::Relaxed)
    }

    fn expect_alive(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("its state can be asked"));
        if let Some(status) = ended {
            self.child = None;
            panic!("the broker ended by itself: {status}");
        }
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        self.expect_alive();
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("end of the broker's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port below those that the system gives to clients, one of which could take it while the broker is down.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 500 * 20;
    let mut addresses = (0..200).map(|_| {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16))
    });
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// Everything in the journal and the queues happens often: new files, checkpoints, messages that are read back.
fn configuration(settings: Settings, folder: &Path, address: SocketAddr) -> String {
    let data = folder.join("data");
    let grace = match settings.grace {
        Grace::Of(grace) => format!("{}ms", grace.as_millis()),
        Grace::KeepAlive => "keep-alive".to_owned(),
    };
    format!(
        "shards = 2\ndata_dir = {data:?}\ndurability = {:?}\n\
         [journal]\nsegment_bytes = \"1MiB\"\ncheckpoint_floor_bytes = \"64KiB\"\ncheckpoint_slice_bytes = \"4KiB\"\n\
         [wills]\nrestart_grace = {grace:?}\n\
         [sessions]\nqueue_messages_max = 1_000_000\nqueue_memory_bytes_max = \"16KiB\"\n\
         [[listeners]]\naddress = \"{address}\"\n",
        settings.durability
    )
}

/// The soft limit of open files becomes the hard one, which must allow `wanted`.
pub(crate) fn raise_the_limit_of_open_files(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("soft up to hard");
    let is_enough = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    assert!(is_enough, "this test opens {wanted} files, and the hard limit is {:?}", limit.maximum);
}

/// A number from the environment, for longer or repeated runs.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

/// How long anything may take that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
