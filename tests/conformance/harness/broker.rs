//! The broker under test: a process of its own, on a port that the system chose.

use super::client::Client;
use super::parse::{CONNACK, Packet};
use super::wire::Connect;
use super::{PATIENCE, unique};
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// The data directory within the folder of a broker.
pub(crate) const DATA: &str = "data";

/// In the line that tells where the HTTP server is.
const LISTENS_FOR_HTTP: &str = "listening for HTTP";
/// In the last line of the log.
const LAST_LINE: &str = "WillowMQ has stopped";

pub(crate) struct Broker {
    child: Child,
    /// Where its first listener is.
    pub(crate) address: SocketAddr,
    /// Where all its listeners are, in their order.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where its HTTP server is, if it has one.
    admin: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
    folder: PathBuf,
}

impl Broker {
    /// The broker with default settings and two shards that tests share while any of them runs.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        thread_local! {
            /// Keeps the broker until the test, which has a thread of its own, is over.
            static HELD: RefCell<Option<Arc<Broker>>> = const { RefCell::new(None) };
        }
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let broker = shared.upgrade().unwrap_or_else(|| Arc::new(Self::start("")));
        *shared = Arc::downgrade(&broker);
        HELD.replace(Some(Arc::clone(&broker)));
        broker
    }

    /// Two shards, one listener, and `settings` (TOML: top-level keys first, then tables).
    pub(crate) fn start(settings: &str) -> Self {
        Self::with_shards(2, settings)
    }

    pub(crate) fn with_shards(shards: u16, settings: &str) -> Self {
        Self::start_in(folder(), shards, settings)
    }

    /// Kills the broker without a warning, and starts another one on its data directory.
    pub(crate) fn killed_and_started(mut self, shards: u16, settings: &str) -> Self {
        Self::start_in(self.kill(), shards, settings)
    }

    /// Stops the broker in order, and starts another one on its data directory.
    pub(crate) fn stopped_and_started(mut self, shards: u16, settings: &str) -> Self {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.wait(PATIENCE).code(), Some(0));
        Self::start_in(self.kill(), shards, settings)
    }

    /// Kills the broker without a warning; what it leaves behind is the caller's.
    pub(crate) fn kill(&mut self) -> PathBuf {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::take(&mut self.folder)
    }

    /// Where the broker keeps its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// Two shards, and an HTTP server on a free port with these settings of `[admin]`; then `settings` (TOML).
    #[allow(dead_code, reason = "not every target that has this module asks by HTTP")]
    pub(crate) fn with_admin(admin: &str, settings: &str) -> Self {
        Self::with_admin_in(folder(), admin, settings)
    }

    /// The same with its files in a folder.
    #[allow(dead_code, reason = "not every target that has this module asks by HTTP")]
    pub(crate) fn with_admin_in(folder: PathBuf, admin: &str, settings: &str) -> Self {
        let admin = match admin.contains("address") {
            true => admin.to_owned(),
            false => format!("address = \"127.0.0.1:0\"\n{admin}"),
        };
        let mut broker = Self::start_by(folder, 2, &format!("{settings}\n[admin]\n{admin}\n"), |configuration| {
            let mut command = command(configuration);
            command.env_remove("WILLOWMQ_ADMIN_ENABLED");
            command
        });
        broker.await_log(LISTENS_FOR_HTTP, PATIENCE);
        broker.admin = broker.log().lines().filter(|line| line.contains(LISTENS_FOR_HTTP)).find_map(address_in);
        broker
    }

    /// Where its HTTP server is.
    #[allow(dead_code, reason = "not every target that has this module asks by HTTP")]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("it was started with an HTTP server")
    }

    /// Number of its process.
    #[allow(dead_code, reason = "not every target that has this module asks by HTTP")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A broker whose configuration and data are in `folder`.
    pub(crate) fn start_in(folder: PathBuf, shards: u16, settings: &str) -> Self {
        Self::start_by(folder, shards, settings, command)
    }

    /// A broker that is to be started by what `command` makes of the path of its configuration.
    pub(crate) fn start_by(
        folder: PathBuf,
        shards: u16,
        settings: &str,
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let text = text_of(&folder, shards, settings);
        let mut child = command(&configuration(&folder, &text)).spawn().expect("the broker can be started");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = follow(child.stderr.take().unwrap(), Arc::clone(&log));
        let Some(addresses) = listening(&lines, text.matches("[[listeners]]").count()) else {
            let _ = child.kill();
            panic!("the broker does not listen; its log:\n{}", log.lock().unwrap());
        };
        let address = *addresses.first().expect("the last listener has an address");
        Self { child, address, addresses, admin: None, log, folder }
    }

    /// Writes other settings into the configuration of a running broker, which does not look at it by itself. See [`Broker::start_in`].
    pub(crate) fn write_settings(&self, shards: u16, settings: &str) {
        configuration(&self.folder, &text_of(&self.folder, shards, settings));
    }

    /// A connection on which nothing has been sent.
    pub(crate) fn open(&self, version: u8) -> Client {
        Client::open(self.address, version)
    }

    /// Connects, and fails unless the server accepts.
    pub(crate) fn connect(&self, connect: Connect) -> Client {
        let mut client = self.open(connect.version);
        client.send(&connect.encode());
        client.connack = client.expect(CONNACK);
        assert_eq!(client.connack.reason, 0, "CONNECT refused: {:?}", client.connack);
        client
    }

    /// Sends a CONNECT that the server must refuse; the CONNACK, after which the server has closed.
    pub(crate) fn refuse(&self, connect: Connect) -> Packet {
        let mut client = self.open(connect.version);
        client.send(&connect.encode());
        let connack = client.expect(CONNACK);
        assert!(connack.reason != 0, "CONNECT accepted");
        assert!(!connack.session_present); // [MQTT-3.2.2-6]
        client.expect_closed(); // [MQTT-3.2.2-7]
        connack
    }

    /// Sends a CONNECT of 3.x that the server must refuse for a reason that has no return code: it closes without CONNACK.
    /// [v3.1.1 MQTT-3.2.2-6]
    pub(crate) fn shut_out(&self, connect: Connect) {
        let mut client = self.open(connect.version);
        client.send(&connect.encode());
        client.expect_closed();
    }

    pub(crate) fn client(&self, version: u8) -> Client {
        self.connect(Connect::new(version, &unique("c")))
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Memory that the process holds for itself, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("the broker lives");
        let pages: Vec<u64> = statm.split(' ').map_while(|number| number.parse().ok()).collect();
        (pages[1] - pages[2]) * rustix::param::page_size() as u64 // Resident, without what is mapped from files.
    }

    /// Descriptors that the process has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the broker lives").count()
    }

    /// Waits until the log has a line with these words.
    pub(crate) fn await_log(&self, words: &str, patience: Duration) {
        let end = Instant::now() + patience;
        while !self.log().contains(words) {
            assert!(Instant::now() < end, "nothing of {words:?} in the log");
            thread::sleep(Duration::from_millis(5)); // It comes through a pipe and a thread.
        }
    }

    /// Where the listener of the harness is, beside those that the settings of the test have.
    pub(crate) fn last_address(&self) -> SocketAddr {
        *self.addresses.last().expect("it is the last one")
    }

    /// A number in the last lines of its log, once it has stopped in order.
    pub(crate) fn total(&mut self, counter: &str) -> u64 {
        if !self.log().contains(LAST_LINE) {
            self.signal(rustix::process::Signal::TERM);
            assert_eq!(self.wait(PATIENCE).code(), Some(0));
        }
        let end = Instant::now() + PATIENCE;
        let log = loop {
            let log = self.log();
            if log.contains(LAST_LINE) {
                break log;
            }
            assert!(Instant::now() < end, "no last line in the log:\n{log}");
            thread::sleep(Duration::from_millis(5)); // It comes through a pipe and a thread.
        };
        let mut words = log.lines().rev().flat_map(|line| line.split(' '));
        let value = words.find_map(|word| word.strip_prefix(counter)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {counter} in the log:\n{log}")).parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(&mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the broker still runs");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.folder.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
        if thread::panicking() {
            eprintln!("log of the broker:\n{}", self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }
}

/// A folder under `target/` for one process.
pub(crate) fn folder() -> PathBuf {
    let name = format!("{}-{}", unique("conformance"), std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The configuration of a broker in `folder`.
fn text_of(folder: &Path, shards: u16, settings: &str) -> String {
    let data = folder.join(DATA);
    let listener = "[[listeners]]\nkind = \"tcp\"\naddress = \"127.0.0.1:0\"\n";
    format!("shards = {shards}\ndata_dir = {data:?}\n{settings}\n{listener}")
}

fn configuration(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("willowmq.toml");
    fs::write(&path, text).unwrap();
    path
}

/// The program without arguments, and without settings from the environment of whoever runs the tests.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_willowmq"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WILLOWMQ_")) {
        command.env_remove(name);
    }
    command.env("WILLOWMQ_ADMIN_ENABLED", "false"); // Brokers of many tests run at a time.
    command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn command(configuration: &Path) -> Command {
    let mut command = program();
    command.arg("--config").arg(configuration);
    command
}

/// Runs the program to its end with `text` as its configuration.
pub(crate) fn run(text: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = folder();
    let mut command = command(&configuration(&folder, text));
    command.current_dir(&folder); // Where its data directory is, unless it is told otherwise.
    command.args(arguments).envs(environment.iter().copied()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the broker can be started");
    let end = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("the program does not end; {:?}", child.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let _ = fs::remove_dir_all(folder);
    output
}

/// Collects the log, and passes each line on to whoever waits for one.
fn follow(stderr: ChildStderr, log: Arc<Mutex<String>>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            let _ = sender.send(line); // Nobody waits any more once the address is known.
        }
    });
    receiver
}

/// Waits until so many listeners are open; the addresses of those that have one.
fn listening(lines: &Receiver<String>, count: usize) -> Option<Vec<SocketAddr>> {
    let end = Instant::now() + PATIENCE;
    let mut addresses = Vec::new();
    let mut open = 0;
    while open < count {
        let line = lines.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
        if line.contains("listening for MQTT") {
            addresses.extend(address_in(&line));
            open += 1;
        }
    }
    Some(addresses)
}

/// The address of a listener, where the line is about one.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("address=")?;
    let address = rest.split([' ', ',']).next()?.trim_matches('"');
    Some(address.parse().expect("the address of the listener"))
}
