//! The data directory and the disk below it.

use std::path::Path;
use std::time::Duration;

use willowmq::config::{Config, Durability};

use crate::cli::doctor::facts::{DataDirectory, Latency};
use crate::cli::doctor::finding::Finding;

/// Up to here a sync costs clients nothing that they would notice.
const SYNC_FINE: Duration = Duration::from_millis(10);
/// From here on a broker that is asked to sync is asked too much.
const SYNC_WRONG: Duration = Duration::from_millis(500);
/// Free space below which it is time to do something.
const FREE_MIN: u64 = 1 << 30;

/// Numbers of file systems, as statfs(2) lists them, where a sync is not what it is on a disk of our own.
const FILE_SYSTEMS: [(i64, &str, &str); 10] = [
    (0x0102_1994, "tmpfs", "it is in memory, and gone when the machine restarts"),
    (0x8584_58f6, "ramfs", "it is in memory, and gone when the machine restarts"),
    (0x794c_7630, "overlayfs", "it is a layer of a container, and gone with it: mount a volume there"),
    (0x6969, "NFS", "it is on another machine: every sync waits for the network, and locks are as good as its server"),
    (
        0xff53_4d42,
        "CIFS",
        "it is on another machine: every sync waits for the network, and locks are as good as its server",
    ),
    (
        0xfe53_4d42,
        "SMB",
        "it is on another machine: every sync waits for the network, and locks are as good as its server",
    ),
    (0x6573_5546, "FUSE", "a program stands between us and the disk, and has its own idea of a sync"),
    (0x0102_1997, "9p", "it is on another machine, or on the host of a virtual one, with its own idea of a sync"),
    (
        0x9123_683e,
        "btrfs",
        "it copies what is written over: switch that off for the folder (chattr +C) while it is empty",
    ),
    (0x2fc1_2fc1, "ZFS", "it copies what is written over; a log device (SLOG) makes syncs faster"),
];

/// All that is said about it.
pub(in crate::cli::doctor) fn data_directory(config: &Config, found: &DataDirectory, shards: usize) -> Vec<Finding> {
    if config.durability == Durability::Memory {
        let said = "durability is \"memory\": sessions, retained messages and wills end with the process";
        return vec![Finding::better(
            "data directory",
            said,
            "set durability = \"sync\" in the configuration, unless that is meant",
        )];
    }
    let mut findings = vec![usable(&config.data_dir, found)];
    if found.problem.is_none() {
        findings.push(file_system(found));
        findings.push(space(config, found, shards));
        findings.push(latency(config, found.latency.as_ref()));
    }
    findings
}

fn usable(path: &Path, found: &DataDirectory) -> Finding {
    let (subject, shown) = ("data directory", path.display());
    match &found.problem {
        Some(problem) => Finding::wrong(
            subject,
            problem.as_str(),
            format!(
                "install -d -o willowmq -g willowmq -m 0750 {shown}   # and run doctor as that user: sudo -u willowmq willowmq doctor"
            ),
        ),
        None if found.is_used => {
            let process = found.used_by.map_or(String::new(), |pid| format!(" (process {pid})"));
            Finding::fine(subject, format!("{shown} is in use by WillowMQ{process}"))
        }
        None if found.exists => Finding::fine(subject, format!("{shown} can be written to")),
        None => Finding::fine(subject, format!("{shown} is not there yet, and can be made")),
    }
}

fn file_system(found: &DataDirectory) -> Finding {
    let subject = "file system";
    match FILE_SYSTEMS.iter().find(|(number, ..)| Some(*number) == found.file_system) {
        Some((_, name, meaning)) => Finding::better(
            subject,
            format!("{name}: {meaning}"),
            "let data_dir be on ext4 or XFS, on a disk of this machine",
        ),
        None => Finding::fine(subject, "one that keeps what is synced"),
    }
}

/// Each shard has a file of a segment's size or two, and a checkpoint takes what is live once more.
fn space(config: &Config, found: &DataDirectory, shards: usize) -> Finding {
    let subject = "free space";
    let Some(free) = found.free_bytes else { return Finding::fine(subject, "the file system does not tell") };
    let needed = 2 * shards as u64 * config.journal.segment_bytes as u64;
    let said = format!("{} MiB", free >> 20);
    let advice = format!(
        "df -h {}   # give it more, or another data_dir; journal.segment_bytes can be smaller",
        found.at.display()
    );
    if free < needed / 2 {
        Finding::wrong(subject, format!("{said}, and the shards alone begin with {} MiB", needed >> 20), advice)
    } else if free < needed.max(FREE_MIN) {
        let meaning =
            "when nothing is left, messages that have to be kept are refused (0x97) until there is space again";
        Finding::better(subject, format!("{said}: {meaning}"), advice)
    } else {
        Finding::fine(subject, said)
    }
}

fn latency(config: &Config, measured: Option<&Result<Latency, String>>) -> Finding {
    let subject = "disk sync";
    let latency = match measured {
        None => return Finding::fine(subject, "not measured"),
        Some(Err(problem)) => {
            return Finding::wrong(
                subject,
                problem.as_str(),
                "df -h; dmesg | tail   # whether the disk is full, or fails",
            );
        }
        Some(Ok(latency)) => latency,
    };
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let Latency { median, p99, count } = latency;
    let said = format!("{count} syncs of 4 KiB: median {}, 99 % within {}", shown(*median), shown(*p99));
    if config.durability == Durability::Relaxed || *p99 <= SYNC_FINE {
        return Finding::fine(subject, said);
    }
    let meaning = "with durability \"sync\" every acknowledgement waits for one of these; many wait for the same one, so it is the time that \
                   suffers, not the number of messages";
    let advice = "put data_dir on a faster disk, best one with power-loss protection\nor set durability = \"relaxed\": then the end of the power \
                  loses at most the last 100 ms";
    match *median >= SYNC_WRONG {
        true => Finding::wrong(subject, format!("{said}: {meaning}"), advice),
        false => Finding::better(subject, format!("{said}: {meaning}"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Verdict;

    fn healthy() -> DataDirectory {
        let latency = Latency { median: Duration::from_micros(300), p99: Duration::from_millis(2), count: 50 };
        DataDirectory {
            at: "/data".into(),
            exists: true,
            problem: None,
            is_used: false,
            used_by: None,
            file_system: Some(0xef53),
            free_bytes: Some(100 << 30),
            latency: Some(Ok(latency)),
        }
    }

    fn verdicts(config: &Config, found: &DataDirectory) -> Vec<Verdict> {
        data_directory(config, found, 4).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn a_good_disk_is_fine() {
        assert_eq!(verdicts(&Config::default(), &healthy()), [Verdict::Fine; 4]);
    }

    #[test]
    fn what_cannot_be_used_is_wrong_and_says_what_to_type() {
        let found = DataDirectory { problem: Some("cannot write /data: Permission denied".into()), ..healthy() };
        let findings = data_directory(&Config::default(), &found, 4);
        assert_eq!(findings.len(), 1, "nothing else can be known");
        assert!(
            findings[0].verdict == Verdict::Wrong && findings[0].advice[0].starts_with("install -d"),
            "{findings:?}"
        );
    }

    #[test]
    fn file_systems_that_do_not_keep_are_named() {
        for (number, name, _) in FILE_SYSTEMS {
            let found = DataDirectory { file_system: Some(number), ..healthy() };
            let finding = file_system(&found);
            assert!(finding.verdict == Verdict::Better && finding.said.starts_with(name), "{finding:?}");
        }
    }

    #[test]
    fn space_is_held_against_what_the_shards_need() {
        let of = |free_bytes| space(&Config::default(), &DataDirectory { free_bytes, ..healthy() }, 4).verdict;
        assert_eq!(of(Some(100 << 20)), Verdict::Wrong);
        assert_eq!(of(Some(900 << 20)), Verdict::Better);
        assert_eq!([of(Some(2 << 30)), of(None)], [Verdict::Fine; 2]);
    }

    #[test]
    fn slow_syncs_matter_where_they_are_waited_for() {
        let slow = |median, p99| {
            let latency = Latency { median: Duration::from_millis(median), p99: Duration::from_millis(p99), count: 50 };
            DataDirectory { latency: Some(Ok(latency)), ..healthy() }
        };
        let sync = Config::default();
        let of = |config: &Config, found: &DataDirectory| latency(config, found.latency.as_ref()).verdict;
        assert_eq!(of(&sync, &slow(2, 30)), Verdict::Better);
        assert_eq!(of(&sync, &slow(600, 900)), Verdict::Wrong);
        let relaxed = Config { durability: Durability::Relaxed, ..Config::default() };
        assert_eq!(of(&relaxed, &slow(600, 900)), Verdict::Fine);
        let broken = DataDirectory { latency: Some(Err("cannot sync: I/O error".into())), ..healthy() };
        assert_eq!(of(&relaxed, &broken), Verdict::Wrong);
        let memory = Config { durability: Durability::Memory, ..Config::default() };
        assert_eq!(verdicts(&memory, &healthy()), [Verdict::Better]);
    }
}
