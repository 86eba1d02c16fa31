//! A broker that lives for one run: started afresh, waited for, and ended.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::arguments;
use super::interrupt::Interrupt;
use super::plan::BrokerPlan;
use super::process_group::{GRACE, POLL, ProcessGroup};
use super::ready::Door;

/// How long a broker may take until it accepts connections.
pub(super) const START: Duration = Duration::from_secs(15);
/// How long the command that tells the version may take.
const VERSION: Duration = Duration::from_secs(5);
/// Ports that brokers get. Linux takes those of outgoing connections from 32768 on, so that none of those comes between
/// the moment when we find a port free and the moment when the broker opens it.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How much of a broker's output is told when it fails.
const TAIL_LINES: usize = 10;

/// A broker that runs. It ends, with all its descendants, when this value does.
pub(super) struct Broker {
    // Fields end in this order: the processes first, then the files they use.
    group: ProcessGroup,
    door: Door,
    /// What the load generator has to say to it.
    args: Vec<String>,
    directory: Directory,
}

impl Broker {
    /// Starts what `plan` says, and waits until it accepts connections; for `patience` at most.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not accept connections. No process is left then.
    pub(super) fn start(plan: &BrokerPlan, patience: Duration, interrupt: &Interrupt) -> Result<Self> {
        let directory = Directory::create()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let files = directory.path("files");
        fs::create_dir(&files).with_context(|| files.display().to_string())?;
        let fill = |text: &str| fill(text, address, &files);
        for (name, contents) in &plan.files {
            fs::write(files.join(name), fill(contents)).with_context(|| format!("files: {name}"))?;
        }
        let words: Vec<_> = plan.command.iter().map(|word| fill(word)).collect();
        let mut command = command(&words)?;
        command.envs(plan.env.iter().map(|(name, value)| (name, fill(value))));
        let args: Vec<_> = plan.args.iter().map(|word| fill(word)).collect();
        let door = Door::new(&arguments::of_broker(&args, address)?).context("args")?;
        let group = start(&mut command, &directory.path("output"))?;
        let mut broker = Self { group, door, args, directory };
        broker.wait_until_ready(patience, interrupt)?;
        Ok(broker)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// What the load generator has to say to it.
    pub(super) fn args(&self) -> &[String] {
        &self.args
    }

    /// The process that was started, which may be the parent of the broker.
    pub(super) fn pid(&self) -> u32 {
        self.group.leader()
    }

    /// A file of the run beside those of the broker.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// How it ended and what it said last, if it is no longer there.
    pub(super) fn obituary(&mut self) -> Option<String> {
        if !self.group.has_ended() {
            return None;
        }
        let ended = self.group.stop(GRACE);
        Some(format!("the broker ended ({}){}", told(ended), self.last_words()))
    }

    fn wait_until_ready(&mut self, patience: Duration, interrupt: &Interrupt) -> Result<()> {
        let begin = Instant::now();
        loop {
            // Asked first: whoever answers once the broker has ended is somebody else.
            let answer = self.door.ask();
            if let Some(obituary) = self.obituary() {
                bail!(obituary);
            }
            ensure!(!interrupt.is_set(), "interrupted");
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if begin.elapsed() >= patience => {
                    let address = self.address();
                    bail!("not ready at {address} after {patience:?}: {error:#}{}", self.last_words())
                }
                Err(_) => sleep(POLL),
            }
        }
    }

    fn last_words(&self) -> String {
        match tail(&self.directory.path("output")) {
            tail if tail.is_empty() => "; it said nothing".into(),
            tail => format!("; it said:\n{tail}"),
        }
    }
}

/// The first line that `command` prints.
///
/// # Errors
///
/// When it cannot be started, or prints nothing within a few seconds.
pub(super) fn version(words: &[String]) -> Result<String> {
    let directory = Directory::create()?;
    let output = directory.path("output");
    let mut group = start(&mut command(words)?, &output)?;
    let begin = Instant::now();
    group.wait_until(|| begin.elapsed() > VERSION);
    group.stop(GRACE)?;
    let text = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(String::from).context("it printed nothing")
}

fn command(words: &[String]) -> Result<Command> {
    let (program, arguments) = words.split_first().context("the command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// Starts `command`; what it prints goes to the file `output`.
fn start(command: &mut Command, output: &Path) -> Result<ProcessGroup> {
    let file = File::create(output).with_context(|| output.display().to_string())?;
    command.stdout(file.try_clone()?).stderr(file);
    let program = command.get_program().to_owned();
    ProcessGroup::start(command).with_context(|| format!("cannot start {}", program.display()))
}

/// How a process ended.
pub(super) fn told(ended: io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// The last lines of the file `path`, without control characters.
pub(super) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.trim_end().lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    last.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect()
}

/// Replaces the placeholders of a plan; other braces are left as they are.
fn fill(text: &str, address: SocketAddr, directory: &Path) -> String {
    text.replace("{address}", &address.to_string())
        .replace("{host}", &address.ip().to_string())
        .replace("{port}", &address.port().to_string())
        .replace("{dir}", &directory.display().to_string())
}

/// A port of the loopback address that nobody uses, and that was not handed out lately.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(97); // Comparisons side by side begin apart.
    let candidates = (0..count).map(|_| {
        let step = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        PORTS.start + u16::try_from(step).expect("there are fewer ports than numbers for them")
    });
    let mut free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().context("no port is free")
}

/// A directory for one run, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("willowmq-loadgen-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, patience: Duration) -> (BrokerPlan, Result<Broker>) {
        let mut plan: BrokerPlan = "fake=sh -c x".parse().unwrap();
        plan.command[2] = script.into();
        let broker = Broker::start(&plan, patience, &Interrupt::default());
        (plan, broker)
    }

    fn mistake(script: &str, patience: Duration) -> String {
        format!("{:#}", start(script, patience).1.err().unwrap())
    }

    #[test]
    fn a_broker_that_ends_is_told_with_its_last_words() {
        let error = mistake("echo {host}; echo no licence >&2; exit 3", START);
        assert_eq!(error, "the broker ended (exit status: 3); it said:\n127.0.0.1\nno licence");
        assert!(mistake("exit 0", START).ends_with("it said nothing"));
    }

    #[test]
    fn a_broker_that_does_not_listen_is_given_up_and_leaves_nothing() {
        let error = mistake("echo {dir} $$; sleep 1000 & sleep 1000", Duration::from_millis(300));
        assert!(error.contains("not ready at 127.0.0.1:") && error.contains("refused"), "{error}");
        let mut words = error.lines().last().unwrap().split(' ');
        assert!(!Path::new(words.next().unwrap()).exists());
        let group = words.next().unwrap().parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        assert!(!super::super::process_group::lives(group));
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_left() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        let text = fill("{host} {port} {address} {dir}/x {other} {}", address, Path::new("/d"));
        assert_eq!(text, "127.0.0.1 1883 127.0.0.1:1883 /d/x {other} {}");
    }

    #[test]
    fn ports_are_free_and_not_the_same_twice() {
        let [one, other] = [free_port().unwrap(), free_port().unwrap()];
        assert!(one != other && PORTS.contains(&one) && PORTS.contains(&other));
    }

    #[test]
    fn the_version_is_the_first_line() {
        let words = ["sh", "-c", "echo; echo ' broker 1.2'; echo more; exit 1"].map(String::from);
        assert_eq!(version(&words).unwrap(), "broker 1.2");
        assert!(version(&["true".into()]).is_err());
    }

    #[test]
    fn environment_and_files_reach_the_broker() {
        let mut plan: BrokerPlan = r#"fake=sh -c 'cat "$CONF"; exit 1'"#.parse().unwrap();
        plan.env.insert("CONF".into(), "{dir}/a.conf".into());
        plan.files.insert("a.conf".into(), "listen {host}".into());
        let error = Broker::start(&plan, START, &Interrupt::default()).err().unwrap();
        assert!(error.to_string().ends_with("listen 127.0.0.1"), "{error:#}");
    }
}
