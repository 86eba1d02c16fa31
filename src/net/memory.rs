//! How much memory the process uses, against how much it may.
//!
//! A thread of its own looks at it, more often the less is left, and tells the gate and the shards how short it is. What counts is what
//! the kernel says this process holds, with all that the allocator keeps for later: that, and not what we believe to need, is what the
//! machine runs out of.

use std::cmp;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::errand::Errand;
use super::plan::Plan;
use super::startup::StartError;
use crate::config::MemoryLimit;
use crate::shard::Pressure;

/// Where each pressure begins, in thousandths of the limit.
const THRESHOLDS: [(Pressure, u64); 3] =
    [(Pressure::RefuseConnections, 900), (Pressure::ShedQos0, 950), (Pressure::PausePublishers, 980)];
/// A pressure ends when the use is so far below where it begins: memory that comes and goes by a little changes nothing.
const SLACK: u64 = 20;
/// It does not end sooner than that, either: under a flood it would come and go with each look.
const HOLD: Duration = Duration::from_millis(500);
/// The last one lasts longer, so that clients which are to come back later do, and the log has a few lines about a long flood.
const HOLD_LAST: Duration = Duration::from_secs(5);
/// No broker grows faster, in bytes a second: memory bandwidth is not much more. The room that is left says when to look again.
const GROWTH_MAX: u64 = 2 << 30;
/// How often it is looked at least, and at most.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// What the allocator has no smaller pieces beside, but gives back at once.
const LARGE_PIECE: usize = 32 << 20;
/// What a broker without clients uses, and what is to be left for them.
const NEEDED: u64 = 32 << 20;
/// What each shard adds to it: 8 MiB as it begins, and 4 MiB of its ring's buffers once they were all in use.
const NEEDED_PER_SHARD: u64 = 14 << 20;

/// Says how short memory is, from how much is used.
#[derive(Debug)]
struct Gauge {
    limit: u64,
    pressure: Pressure,
    /// When the use last was as the pressure says, or more.
    held_at: Duration,
    /// What was used at the last look.
    used: u64,
}

impl Gauge {
    fn new(limit: u64) -> Self {
        Self { limit, pressure: Pressure::None, held_at: Duration::ZERO, used: 0 }
    }

    /// Notes what is used at `now`, a time since the first look; the pressure, if it has changed. It rises at once, and falls step by step.
    fn observe(&mut self, now: Duration, used: u64) -> Option<Pressure> {
        // If it goes on like that, so much will be used when we look again: a flood is not stopped at the moment when we see it.
        let growth = if self.used == 0 { 0 } else { used.saturating_sub(self.used) };
        self.used = used;
        let indicated = self.indicated_by(used + growth);
        if indicated >= self.pressure {
            self.held_at = now;
        }
        let (easier, hold) = match self.pressure {
            Pressure::PausePublishers => (Pressure::ShedQos0, HOLD),
            Pressure::ShedQos0 => (Pressure::RefuseConnections, HOLD),
            Pressure::RefuseConnections | Pressure::None => (Pressure::None, HOLD_LAST),
        };
        let next = match indicated.cmp(&self.pressure) {
            cmp::Ordering::Greater => indicated,
            cmp::Ordering::Less if now.saturating_sub(self.held_at) >= hold => easier,
            cmp::Ordering::Less | cmp::Ordering::Equal => return None,
        };
        (self.pressure, self.held_at) = (next, now);
        Some(next)
    }

    fn indicated_by(&self, used: u64) -> Pressure {
        let is_under = |&&(pressure, begin): &&(Pressure, u64)| {
            let slack = if pressure <= self.pressure { SLACK } else { 0 };
            used >= part(self.limit, begin - slack)
        };
        THRESHOLDS.iter().rev().find(is_under).map_or(Pressure::None, |&(pressure, _)| pressure)
    }

    /// When to look again: before the next pressure could have been passed.
    fn look_again_in(&self, used: u64) -> Duration {
        let next = THRESHOLDS.iter().map(|&(_, begin)| part(self.limit, begin)).find(|&begin| begin > used);
        let room = next.map_or(0, |next| next - used);
        let (least, most) = LOOK_EVERY;
        Duration::from_micros(room.saturating_mul(1_000_000) / GROWTH_MAX).clamp(least, most)
    }
}

fn part(limit: u64, thousandths: u64) -> u64 {
    limit / 1000 * thousandths
}

/// The memory that `limit` allows, in bytes.
///
/// # Errors
/// [`StartError::MemoryLimitTooLow`] where so many shards could not even begin with it.
pub(crate) fn limit(limit: MemoryLimit, shards: usize) -> Result<u64, StartError> {
    let bytes = match limit {
        MemoryLimit::Bytes(bytes) => bytes,
        MemoryLimit::Percent(percent) => available(&read) / 100 * u64::from(percent),
    };
    let needed = NEEDED + NEEDED_PER_SHARD * shards as u64;
    if bytes < needed { Err(StartError::MemoryLimitTooLow { limit: bytes, needed }) } else { Ok(bytes) }
}

/// Watches the memory until `stop` is dropped.
///
/// # Errors
/// [`StartError::System`] when there is no thread for it, or /proc cannot be read.
pub(crate) fn watch(plan: Arc<Plan>, stop: Receiver<()>) -> Result<JoinHandle<()>, StartError> {
    let failed = |what| move |error| StartError::System { what, error };
    used()
        .ok_or_else(|| std::io::Error::other("it says something else than expected"))
        .map_err(failed("cannot read /proc/self/statm"))?;
    let thread = std::thread::Builder::new().name("memory".into());
    thread.spawn(move || look_on(&plan, &stop)).map_err(failed("cannot start a thread"))
}

fn look_on(plan: &Plan, stop: &Receiver<()>) {
    let Plan { gate, mesh, memory_limit, .. } = plan;
    let (start, mut gauge) = (Instant::now(), Gauge::new(memory_limit.load(Ordering::Relaxed)));
    let mut wait = Duration::ZERO;
    while stop.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        // What could be read at the start can be read later, unless descriptors are short for a moment.
        let Some(used) = used() else {
            wait = LOOK_EVERY.0;
            continue;
        };
        let limit = memory_limit.load(Ordering::Relaxed); // A reload may change it.
        gauge.limit = limit;
        gate.counters().memory_peak_bytes.fetch_max(used, Ordering::Relaxed);
        if let Some(pressure) = gauge.observe(start.elapsed(), used) {
            gate.set_pressure(pressure);
            (0..mesh.shards()).for_each(|shard| mesh.deliver(shard, Errand::Pressure(pressure)));
            log(pressure, used, limit);
        }
        if gauge.pressure > Pressure::None {
            remind_allocator();
        }
        wait = gauge.look_again_in(used);
    }
}

/// Has the allocator give back to the kernel what is free. It does so a second after it became free, but only looks whether that is over
/// when somebody gives back a large piece; in a broker whose clients have taken all that waited for them, nobody may for hours.
fn remind_allocator() {
    // Nothing is written to it, so it takes addresses and no memory.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_PIECE)));
}

fn log(pressure: Pressure, used: u64, limit: u64) {
    match pressure {
        Pressure::None => tracing::info!(used, limit, "there is enough memory again"),
        Pressure::RefuseConnections => tracing::warn!(used, limit, "memory is short: new Sessions are refused"),
        Pressure::ShedQos0 => tracing::warn!(used, limit, "memory is shorter: QoS 0 messages are dropped as well"),
        Pressure::PausePublishers => tracing::warn!(used, limit, "memory is used up: publishers are not read as well"),
    }
}

/// Bytes that this process holds for itself, without files that it has mapped: those the kernel can take back.
pub(crate) fn used() -> Option<u64> {
    let statm = read("/proc/self/statm")?;
    let mut pages = statm.split(' ').skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What the machine has, or less where a control group of this process allows no more. `read` reads a file.
fn available(read: &impl Fn(&str) -> Option<String>) -> u64 {
    let machine = read("/proc/meminfo").as_deref().and_then(memory_total).unwrap_or(u64::MAX);
    of_groups(read).fold(machine, u64::min)
}

/// The line `MemTotal:       16384 kB`.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The limits of the control groups that the process is in, and of those above them: each one holds.
fn of_groups(read: &impl Fn(&str) -> Option<String>) -> impl Iterator<Item = u64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    // Lines like `0::/a/b` (version 2) or `4:memory:/a/b` (version 1).
    let files = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", group) => Some(("/sys/fs/cgroup", group, "memory.max")),
            (controllers, group) if controllers.split(',').any(|controller| controller == "memory") => {
                Some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    // A group without a limit says "max", or a number beyond all memory; one of another namespace is not there at all.
    let limits = files.flat_map(|(root, group, file)| {
        ancestors(group).filter_map(move |group| read(&format!("{root}{group}/{file}"))?.trim().parse().ok())
    });
    limits.collect::<Vec<_>>().into_iter()
}

/// `/a/b`, `/a` and the root, which is empty.
fn ancestors(group: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(group.trim_end_matches('/')), |group| Some(&group[..group.rfind('/')?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn pressure_rises_with_the_use_and_falls_a_little_later() {
        let mut gauge = Gauge::new(1000);
        for (second, (used, expected)) in [
            (899, None),
            (900, Some(Pressure::RefuseConnections)),
            (949, None),
            (950, Some(Pressure::ShedQos0)),
            (931, None),
            (929, Some(Pressure::RefuseConnections)),
            (881, None),
            (879, Some(Pressure::None)),
            (899, None),
            (1200, Some(Pressure::PausePublishers)),
            (960, None),
            (959, Some(Pressure::ShedQos0)),
            (0, Some(Pressure::RefuseConnections)),
            (0, Some(Pressure::None)),
        ]
        .into_iter()
        .enumerate()
        {
            gauge.used = used; // It has stood there for a while.
            assert_eq!(gauge.observe(secs(10 * second), used), expected, "{used}");
        }
    }

    #[test]
    fn use_that_swings_around_a_threshold_changes_nothing_more() {
        let mut gauge = Gauge::new(1000);
        let changes = (0..100).filter_map(|swing| gauge.observe(secs(swing), if swing % 2 == 0 { 902 } else { 895 }));
        assert_eq!(changes.count(), 1);
    }

    #[test]
    fn a_flood_is_met_before_it_is_there_and_its_end_is_waited_for() {
        let mut gauge = Gauge::new(1000);
        let millis = Duration::from_millis;
        assert_eq!(gauge.observe(millis(0), 800), None);
        assert_eq!(gauge.observe(millis(10), 890), Some(Pressure::PausePublishers));
        assert_eq!(gauge.observe(millis(20), 890), None, "it may go on");
        assert_eq!(gauge.observe(millis(509), 890), None);
        assert_eq!(gauge.observe(millis(510), 890), Some(Pressure::ShedQos0));
        assert_eq!(gauge.observe(millis(600), 890), None, "that is not over at once, either");
        assert_eq!(gauge.observe(millis(1010), 100), Some(Pressure::RefuseConnections));
        assert_eq!(gauge.observe(millis(6009), 100), None);
        assert_eq!(gauge.observe(millis(6010), 100), Some(Pressure::None));
    }

    fn secs(seconds: usize) -> Duration {
        Duration::from_secs(seconds as u64)
    }

    #[test]
    fn the_less_is_left_the_sooner_it_is_looked_again() {
        let gauge = Gauge::new(1024 * MIB);
        let waits = [0, 800 * MIB, 920 * MIB, 2000 * MIB].map(|used| gauge.look_again_in(used));
        assert!(waits.is_sorted_by(|sooner, later| sooner >= later), "{waits:?}");
        assert_eq!((waits[0], waits[3]), (Duration::from_micros(449_999), LOOK_EVERY.0), "{waits:?}");
        assert_eq!(Gauge::new(1 << 40).look_again_in(0), LOOK_EVERY.1);
    }

    /// Files of a made-up machine with 16 GiB.
    fn machine(groups: &'static str, limits: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |path| match path {
            "/proc/meminfo" => Some("MemTotal:       16777216 kB\nMemFree:        1 kB\n".into()),
            "/proc/self/cgroup" => Some(groups.into()),
            _ => limits.iter().find(|(file, _)| *file == path).map(|(_, limit)| format!("{limit}\n")),
        }
    }

    #[test]
    fn the_smallest_limit_of_machine_and_control_groups_holds() {
        const V2: &str = "/sys/fs/cgroup/a/b/memory.max";
        const V2_ABOVE: &str = "/sys/fs/cgroup/a/memory.max";
        const V2_ROOT: &str = "/sys/fs/cgroup/memory.max";
        const V1: &str = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        const V1_ROOT: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        for (groups, limits, expected) in [
            ("", &[][..], 16 << 30),
            ("0::/a/b", &[(V2, "max"), (V2_ABOVE, "max")], 16 << 30),
            ("0::/a/b", &[(V2, "1000"), (V2_ABOVE, "max")], 1000),
            ("0::/a/b", &[(V2, "2000"), (V2_ABOVE, "1000")], 1000),
            ("0::/", &[(V2_ROOT, "3000")], 3000),
            ("4:cpu,memory:/a", &[(V1, "4000"), (V1_ROOT, "9223372036854771712")], 4000),
            // In a container without a namespace of its own the path is the host's.
            ("4:memory:/docker/c0ffee\n0::/", &[(V1_ROOT, "5000")], 5000),
            ("4:memory_other:/a", &[(V1, "4000")], 16 << 30),
        ] {
            assert_eq!(available(&machine(groups, limits)), expected, "{groups} {limits:?}");
        }
    }

    #[test]
    fn a_limit_below_what_the_shards_need_is_an_error_that_says_how_much_that_is() {
        let enough = NEEDED + 2 * NEEDED_PER_SHARD;
        assert_eq!(limit(MemoryLimit::Bytes(enough), 2).ok(), Some(enough));
        let error = limit(MemoryLimit::Bytes(enough - 1), 2).unwrap_err();
        assert!(error.to_string().contains("memory_limit"), "{error}");
    }

    #[test]
    fn this_process_uses_memory() {
        let before = used().unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = used().unwrap();
        assert!(before > 0 && after > before + 32 * MIB, "{before} {after}");
        drop(block);
    }
}
