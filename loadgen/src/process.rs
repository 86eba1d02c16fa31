//! What the broker's processes cost: CPU time and resident memory, read under /proc.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::engine::{Clock, Time};

/// How often [`Sampler`] looks.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// A long run keeps no more samples than this: every other one is dropped when they are too many.
const SAMPLES_MAX: usize = 4096;

/// The processes whose cost is measured.
#[derive(Clone, Debug)]
pub struct Processes {
    pids: Vec<u32>,
}

/// What they have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all threads that live, in user and system mode.
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
        let parents = parents();
        let mut found = BTreeSet::new();
        let mut wanted = pids.to_vec();
        while let Some(pid) = wanted.pop() {
            if found.insert(pid) {
                wanted.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
            }
        }
        let processes = Self { pids: found.into_iter().collect() };
        processes.usage()?;
        Ok(processes)
    }

    /// What they have used so far.
    ///
    /// # Errors
    ///
    /// When one of them has ended: the broker died.
    pub fn usage(&self) -> Result<Usage> {
        let mut total = Usage::default();
        for &pid in &self.pids {
            let usage = usage(pid).with_context(|| format!("process {pid} cannot be observed; has it ended?"))?;
            total.cpu += usage.cpu;
            total.memory_bytes += usage.memory_bytes;
        }
        Ok(total)
    }
}

/// Pairs of process and parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let after_name = stat.rsplit_once(')')?.1; // The name may hold anything, parentheses included.
        Some((pid, after_name.split_whitespace().nth(1)?.parse().ok()?))
    })
    .collect()
}

fn usage(pid: u32) -> Result<Usage> {
    let mut cpu_ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between the two looks.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        cpu_ns += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let Some(pages) = pages else { bail!("/proc/{pid}/statm is not as expected") };
    Ok(Usage { cpu: Duration::from_nanos(cpu_ns), memory_bytes: pages * rustix::param::page_size() as u64 })
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
    while !is_over.load(Ordering::Relaxed) {
        let Ok(usage) = processes.usage() else { break };
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
    use super::*;

    #[test]
    fn this_process_is_observed_and_one_that_is_not_there_is_not() {
        let this = Processes::find(&[std::process::id()]).unwrap();
        let usage = this.usage().unwrap();
        assert!(usage.memory_bytes > 1 << 16 && usage.cpu > Duration::ZERO, "{usage:?}");
        assert!(Processes::find(&[u32::MAX - 1]).is_err());
    }
}
