//! The process, as the kernel sees it: the metrics that every Prometheus client library has.

use std::fs;

/// What /proc says of this process.
pub(super) struct Process {
    /// Processor time, user and system, of all threads.
    pub(super) cpu_seconds: f64,
    /// Memory that is present.
    pub(super) resident_bytes: u64,
    /// Address space.
    pub(super) virtual_bytes: u64,
    /// Open descriptors.
    pub(super) open_fds: u64,
    /// How many there may be; `None` where there is no limit.
    pub(super) max_fds: Option<u64>,
    /// When it began, in seconds since 1970.
    pub(super) start_time_seconds: f64,
    /// Threads.
    pub(super) threads: u64,
}

impl Process {
    /// As it is now; `None` where /proc is not to be had.
    pub(super) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let stat = Stat::parse(&stat)?;
        Some(Self {
            cpu_seconds: stat.cpu_ticks as f64 / ticks_per_second,
            resident_bytes: stat.resident_pages * rustix::param::page_size() as u64,
            virtual_bytes: stat.virtual_bytes,
            open_fds: open_fds(),
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            start_time_seconds: booted_at(&boot)? as f64 + stat.start_ticks as f64 / ticks_per_second,
            threads: stat.threads,
        })
    }
}

/// The fields of /proc/self/stat that are of interest: proc_pid_stat(5).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The name of the program, in brackets, may hold anything.
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        // The field behind the name is the third one.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine began, in seconds since 1970.
fn booted_at(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Linux 6.2 and newer say how many there are; before, they have to be counted.
fn open_fds() -> u64 {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).map(|folder| folder.len()) {
        Ok(count) if count > 0 => count,
        _ => fs::read_dir(FOLDER).map_or(0, |entries| entries.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_does_not_confuse() {
        let line = "42 (a) b (c) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 7 0 123456 1000 25 18446744073709551615 0";
        let expected =
            Stat { cpu_ticks: 200, threads: 7, start_ticks: 123_456, virtual_bytes: 1000, resident_pages: 25 };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("42 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_begun_and_uses_something() {
        let process = Process::now().unwrap();
        assert!(process.resident_bytes > 0 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds >= 3 && process.threads >= 1);
        assert!(process.start_time_seconds > 1.6e9);
    }
}
