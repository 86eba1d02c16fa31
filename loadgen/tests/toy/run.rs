//! The real program against a broker: how it ended, and what it found.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use willowmq_loadgen::report::{Check, Report};

use crate::faults::Faults;
use crate::net::Toy;

/// No run takes longer than this; one that does hangs.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many runs go on at the same time: they wait more than they compute.
const AT_ONCE: usize = 24;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The report that came as JSON.
    pub(crate) fn report(&self) -> Report {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The names of the checks that were violated, whether permitted or not, in order.
    pub(crate) fn violated(&self) -> Vec<String> {
        let checks: Vec<Check> = self.report().checks.into_iter().filter(|check| check.count > 0).collect();
        checks.into_iter().map(|check| check.name).collect()
    }

    /// What was wrong, for the message of a failed test.
    pub(crate) fn shown(&self) -> String {
        if self.stdout.is_empty() {
            return format!("exit code {:?}, {}", self.code, self.stderr.trim());
        }
        let checks: Vec<_> = self.report().checks.into_iter().filter(|check| check.count > 0).collect();
        format!("exit code {:?}, {} {checks:?}", self.code, self.stderr)
    }
}

/// Runs the program with `arguments`, separated by spaces.
pub(crate) fn run(arguments: &str) -> Outcome {
    run_until(arguments, |_| {})
}

/// Runs the program with `arguments`, and does `meanwhile` with it.
pub(crate) fn run_until(arguments: &str, meanwhile: impl FnOnce(&Child)) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq-loadgen"))
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program of this package");
    let stdout = read_aside(child.stdout.take().expect("it is piped"));
    let stderr = read_aside(child.stderr.take().expect("it is piped"));
    meanwhile(&child);
    let stdout = stdout.recv_timeout(DEADLINE).unwrap_or_else(|_| end(&mut child, arguments));
    let stderr = stderr.recv_timeout(DEADLINE).unwrap_or_else(|_| end(&mut child, arguments));
    let status: ExitStatus = child.wait().unwrap();
    Outcome { code: status.code(), stdout, stderr }
}

fn end(child: &mut Child, arguments: &str) -> ! {
    let _ = child.kill();
    panic!("not over after {DEADLINE:?}: {arguments}");
}

/// Reads to the end, which is where the program ends.
fn read_aside(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = from.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    receiver
}

/// Runs the program against `address`, with its report on standard output.
pub(crate) fn run_against(address: SocketAddr, arguments: &str) -> Outcome {
    run(&format!("{arguments} --broker {address} --json - --quiet"))
}

/// Runs the program against a toy broker with `faults`.
pub(crate) fn run_with(faults: Faults, arguments: &str) -> Outcome {
    let toy = Toy::start(faults);
    run_against(toy.address, arguments)
}

/// A correct broker passes with all of `arguments`.
pub(crate) fn all_pass(arguments: &[&str]) {
    at_once(arguments, |arguments| {
        let outcome = run_with(Faults::default(), &with_patience(arguments, "10s"));
        let is_right = outcome.code == Some(0) && outcome.violated().is_empty();
        (!is_right).then(|| format!("{arguments}\n    {}", outcome.shown()))
    });
}

/// A broker with one fault, what it is asked to do, and the checks that find the fault.
pub(crate) struct Story<'a> {
    /// What the broker does wrong.
    pub(crate) faults: Faults,
    /// Arguments of the program.
    pub(crate) arguments: &'a str,
    /// Every check that is violated.
    pub(crate) violated: &'a [&'a str],
    /// The exit code.
    pub(crate) code: i32,
}

/// A fault that fails the run.
pub(crate) fn fault<'a>(faults: Faults, arguments: &'a str, violated: &'a [&'a str]) -> Story<'a> {
    Story { faults, arguments, violated, code: 1 }
}

/// A fault that the standard permits.
pub(crate) fn permitted<'a>(faults: Faults, arguments: &'a str, violated: &'a [&'a str]) -> Story<'a> {
    Story { faults, arguments, violated, code: 0 }
}

/// Each fault is found out, by the checks that are meant for it and no others.
pub(crate) fn all_found(stories: &[Story<'_>]) {
    at_once(stories, |story| {
        // What is lost is waited for.
        let outcome = run_with(story.faults, &with_patience(story.arguments, "700ms"));
        let is_right = outcome.code == Some(story.code) && outcome.violated() == story.violated;
        (!is_right).then(|| format!("{}\n    expected {:?}: {}", story.arguments, story.violated, outcome.shown()))
    });
}

/// Tells every one of `stories` in which `told` finds something wrong.
pub(crate) fn at_once<S: Sync>(stories: &[S], told: impl Fn(&S) -> Option<String> + Sync) {
    let next = AtomicUsize::new(0);
    let tell_some = || {
        let turns = std::iter::from_fn(|| stories.get(next.fetch_add(1, Ordering::Relaxed)));
        turns.filter_map(&told).collect::<Vec<_>>()
    };
    let wrong = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE.min(stories.len())).map(|_| scope.spawn(tell_some)).collect();
        let told = workers.into_iter().map(|worker| worker.join().expect("a run that does not hang"));
        told.collect::<Vec<_>>().concat()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `arguments`, and this patience if they name none.
pub(crate) fn with_patience(arguments: &str, patience: &str) -> String {
    if arguments.contains("--patience") { arguments.into() } else { format!("{arguments} --patience {patience}") }
}
