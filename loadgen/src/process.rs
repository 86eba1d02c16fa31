//! What the broker's processes cost: CPU time and resident memory, read under /proc.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::engine::{Clock, Time};

/// How often [`Sampler`] looks.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// How often it looks for processes that are new.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// A long run keeps no more samples than this: every other one is dropped when they are too many.
const SAMPLES_MAX: usize = 4096;

/// The processes whose cost is measured; clones share what they have seen.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Mutex<Vec<Process>>>);

/// One of them.
#[derive(Debug)]
struct Process {
    pid: u32,
    /// When it began, by which it is told from a later one with the same number.
    began: u64,
    /// What it had used when it was last seen.
    usage: Usage,
    has_ended: bool,
}

/// What they have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time in user and system mode, of all threads that live or lived in a process that ended.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
}

impl Processes {
    /// `pids` and all that descend from them: what was started by a script is found as well.
    ///
    /// # Errors
    ///
    /// When there is no such process.
    pub fn find(pids: &[u32]) -> Result<Self> {
        let all = all_processes();
        let mut found = Vec::new();
        for &pid in pids {
            let Some(seen) = all.iter().find(|seen| seen.pid == pid) else {
                bail!("process {pid} cannot be observed; has it ended?");
            };
            found.push(Process::new(seen));
        }
        let processes = Self(Arc::new(Mutex::new(found)));
        processes.look_for_descendants();
        if processes.usage().is_none() {
            bail!("process {pids:?} cannot be observed; has it ended?");
        }
        Ok(processes)
    }

    /// Finds those that were started since the last look.
    pub fn look_for_descendants(&self) {
        let all = all_processes();
        let mut known = self.lock();
        for process in known.iter_mut() {
            process.has_ended |= !all.iter().any(|seen| (seen.pid, seen.began) == (process.pid, process.began));
        }
        let mut next = 0;
        while let Some(parent) = known.get(next) {
            next += 1;
            if parent.has_ended {
                continue;
            }
            let pid = parent.pid;
            for seen in all.iter().filter(|seen| seen.parent == pid) {
                if !known.iter().any(|it| (it.pid, it.began) == (seen.pid, seen.began)) {
                    known.push(Process::new(seen));
                }
            }
        }
    }

    /// What they have used so far; one that ended counts with what it had used when it was last seen. `None` when all of
    /// them have ended: the broker died.
    pub fn usage(&self) -> Option<Usage> {
        let mut total = Usage::default();
        let mut lives = false;
        for process in self.lock().iter_mut() {
            process.look();
            lives |= !process.has_ended;
            total.cpu += process.usage.cpu;
            total.memory_bytes += process.usage.memory_bytes;
        }
        lives.then_some(total)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    fn new(seen: &Seen) -> Self {
        Self { pid: seen.pid, began: seen.began, usage: Usage::default(), has_ended: false }
    }

    fn look(&mut self) {
        match usage(self.pid) {
            Some(usage) if !self.has_ended => self.usage = usage,
            _ => {
                self.has_ended = true;
                self.usage.memory_bytes = 0;
            }
        }
    }
}

/// A process as the kernel lists it.
struct Seen {
    pid: u32,
    parent: u32,
    began: u64,
}

fn all_processes() -> Vec<Seen> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let after_name = stat.rsplit_once(')')?.1; // The name may hold anything, parentheses included.
        let mut fields = after_name.split_whitespace().skip(1);
        Some(Seen { pid, parent: fields.next()?.parse().ok()?, began: fields.nth(17)?.parse().ok()? })
    })
    .collect()
}

/// What `pid` has used; `None` if it has ended, though nobody may have waited for it yet.
fn usage(pid: u32) -> Option<Usage> {
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let Ok(task) = task else { continue };
        // A thread may end between the two looks.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        cpu_ns += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages = statm.split_whitespace().nth(1)?.parse::<u64>().ok().filter(|pages| *pages > 0)?;
    Some(Usage { cpu: Duration::from_nanos(cpu_ns), memory_bytes: pages * rustix::param::page_size() as u64 })
}

/// CPU time that this process has used.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// [`Usage`] over time, taken by a thread of its own.
pub struct Sampler {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Time, Usage)>>,
}

impl Sampler {
    /// Begins to sample `processes`.
    pub fn start(processes: Processes, clock: Clock) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || sample(&processes, clock, &flag));
        Self { is_over, thread }
    }

    /// Ends, and hands over what was seen.
    pub fn finish(self) -> Vec<(Time, Usage)> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_default()
    }
}

fn sample(processes: &Processes, clock: Clock, is_over: &AtomicBool) -> Vec<(Time, Usage)> {
    let mut samples = Vec::new();
    let mut interval = SAMPLE_INTERVAL;
    let mut next_search = clock.now() + SEARCH_INTERVAL;
    while !is_over.load(Ordering::Relaxed) {
        if clock.now() >= next_search {
            processes.look_for_descendants();
            next_search = clock.now() + SEARCH_INTERVAL;
        }
        let Some(usage) = processes.usage() else { break };
        samples.push((clock.now(), usage));
        if samples.len() == SAMPLES_MAX {
            let mut is_kept = false;
            samples.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            interval *= 2;
        }
        std::thread::park_timeout(interval);
    }
    samples
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until it is so.
    fn comes_true(is_so: impl Fn() -> bool) -> bool {
        (0..500).any(|_| {
            is_so() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        })
    }

    #[test]
    fn this_process_is_observed_and_one_that_is_not_there_is_not() {
        let this = Processes::find(&[std::process::id()]).unwrap();
        let usage = this.usage().unwrap();
        assert!(usage.memory_bytes > 1 << 16 && usage.cpu > Duration::ZERO, "{usage:?}");
        assert!(Processes::find(&[u32::MAX - 1]).is_err());
    }

    #[test]
    fn the_broker_is_dead_when_all_of_its_processes_are() {
        let mut child = shell("read line");
        let processes = Processes::find(&[child.id()]).unwrap();
        assert!(processes.usage().is_some());
        drop(child.stdin.take()); // It reads to the end, and nobody has waited for it yet.
        assert!(comes_true(|| processes.usage().is_none()));
        child.wait().unwrap();
        assert!(processes.usage().is_none());
    }

    #[test]
    fn children_come_and_go() {
        let mut child =
            shell("read line; sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; read line'; read line");
        let processes = Processes::find(&[child.id()]).unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        let count = |is_ended: bool| processes.lock().iter().filter(|process| process.has_ended == is_ended).count();
        std::io::Write::write_all(stdin, b"go\n").unwrap();
        assert!(comes_true(|| {
            processes.look_for_descendants();
            count(false) == 2
        }));
        let spent = || processes.usage().unwrap().cpu;
        assert!(comes_true(|| spent() > Duration::from_millis(5)));
        let before = spent();
        std::io::Write::write_all(stdin, b"end\n").unwrap();
        assert!(comes_true(|| processes.usage().is_some() && count(true) == 1));
        assert!(spent() >= before, "what it had used is not forgotten");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
