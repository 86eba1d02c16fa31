//! The kernel and its limits.

use willowmq::config::Config;
use willowmq::net::{StartError, probe};

use crate::cli::doctor::facts::{Clock, Limits, Machine};
use crate::cli::doctor::finding::Finding;

/// Connections from which on the kernel wants tuning for many of them.
const MANY: usize = 50_000;

/// Whether the kernel has what the socket ring needs.
pub(in crate::cli::doctor) fn kernel(release: &str) -> Finding {
    match probe::kernel(release) {
        Ok(()) => Finding::fine("kernel", format!("Linux {release}")),
        Err(error) => Finding::wrong(
            "kernel",
            error.to_string(),
            "install a newer kernel (Debian 12, Ubuntu 24.04 and RHEL 10 have one)",
        ),
    }
}

/// Whether a ring could be created: `problem` says why not.
pub(in crate::cli::doctor) fn ring(problem: Option<&StartError>, disabled: Option<u64>) -> Finding {
    let Some(problem) = problem else {
        return match disabled {
            Some(1) => Finding::better(
                "io_uring",
                "it works for this user; kernel.io_uring_disabled is 1, so another user may be refused",
                "make the service's user a member of the group kernel.io_uring_group, or type: sysctl -w kernel.io_uring_disabled=0",
            ),
            _ => Finding::fine("io_uring", "a ring with all that the broker uses can be created"),
        };
    };
    let advice = match (problem, disabled) {
        // The next finding is about that limit, and says where it is raised.
        (StartError::MemlockTooLow { .. }, _) => "",
        (_, Some(1 | 2)) => "echo kernel.io_uring_disabled=0 > /etc/sysctl.d/60-willowmq.conf && sysctl --system",
        _ => {
            "in a container: give it packaging/seccomp.json as its seccomp profile (docker run --security-opt seccomp=…)"
        }
    };
    Finding::wrong("io_uring", problem.to_string(), advice)
}

/// Whether enough memory may be locked.
pub(in crate::cli::doctor) fn memlock(limits: &Limits) -> Finding {
    let (subject, hard) = ("locked memory", limits.memlock.1);
    let (said, needed) = (amount(hard), probe::MEMLOCK_MIN / 1024);
    if hard >= probe::MEMLOCK_MIN {
        return Finding::fine(subject, format!("{said} may be locked{}; {needed} KiB are needed", limits.of()));
    }
    Finding::wrong(
        subject,
        format!("{said} may be locked{}, {needed} KiB are needed for the rings", limits.of()),
        "in a shell: ulimit -l 8192\nin the systemd unit: LimitMEMLOCK=64M\nin a container: --ulimit memlock=67108864",
    )
}

fn amount(bytes: u64) -> String {
    if bytes == u64::MAX { "any amount".to_owned() } else { format!("{} KiB", bytes / 1024) }
}

/// Whether so many files may be open as the connections need.
pub(in crate::cli::doctor) fn nofile(config: &Config, limits: &Limits, nr_open: Option<u64>) -> Finding {
    let subject = "open files";
    // Where the hard limit is "unlimited", the kernel's own is what counts.
    let hard = limits.nofile.1.min(nr_open.unwrap_or(u64::MAX));
    let advice = |needed: u64| {
        let ceiling = match nr_open {
            Some(nr_open) if nr_open < needed => format!("sysctl -w fs.nr_open={needed}\n"),
            _ => String::new(),
        };
        format!(
            "{ceiling}in a shell: ulimit -n {needed}\nin the systemd unit: LimitNOFILE={needed}\nin a container: --ulimit nofile={needed}"
        )
    };
    match probe::connections(config, hard) {
        Ok(room) if config.limits.connections_max.is_none() && room < 10_000 => Finding::better(
            subject,
            format!(
                "{hard} may be open{}, which leaves room for {room} connections; limits.connections_max is unset, so that is the bound",
                limits.of()
            ),
            advice(1 << 20),
        ),
        Ok(room) => Finding::fine(subject, format!("{hard} may be open{}: room for {room} connections", limits.of())),
        Err(StartError::NofileTooLow { needed, .. }) => {
            // Without a maximum, what is needed to begin with leaves room for hardly anybody.
            let better = if config.limits.connections_max.is_none() { needed.max(1 << 20) } else { needed };
            Finding::wrong(subject, format!("{hard} may be open{}, {needed} are needed", limits.of()), advice(better))
        }
        Err(error) => Finding::wrong(subject, error.to_string(), ""),
    }
}

/// Settings of the kernel that matter to a broker with so many connections.
pub(in crate::cli::doctor) fn sysctls(config: &Config, machine: &Machine, connections: usize) -> Vec<Finding> {
    let backlog = config.listeners.iter().map(|listener| u64::from(listener.backlog)).max().unwrap_or_default();
    let mut findings = vec![
        at_least(
            machine,
            "net.core.somaxconn",
            backlog,
            "it cuts the backlog of the listeners: connections that come in a burst, as after an outage, are refused above it",
        ),
        at_least(
            machine,
            "net.ipv4.tcp_max_syn_backlog",
            backlog.min(4096),
            "handshakes of TCP that are under way are bounded by it, and a burst of clients has to try again",
        ),
        overcommit(machine.sysctl("vm.overcommit_memory")),
    ];
    if connections >= MANY {
        findings.push(at_least(
            machine,
            "net.core.netdev_max_backlog",
            5000,
            "packets that come faster than they are taken are dropped above it, and sent again a while later",
        ));
    }
    if machine.sysctl("net.netfilter.nf_conntrack_max").is_some() {
        let needed = connections as u64 + connections as u64 / 4;
        let why = "the firewall follows no more connections than that, and drops new ones without a word";
        findings.push(at_least(machine, "net.netfilter.nf_conntrack_max", needed, why));
    }
    findings
}

fn at_least(machine: &Machine, name: &str, needed: u64, why: &str) -> Finding {
    match machine.sysctl(name) {
        None => Finding::fine(name, "this machine, or container, does not show it"),
        Some(value) if value >= needed => Finding::fine(name, value.to_string()),
        Some(value) => Finding::better(
            name,
            format!("{value}, better at least {needed}: {why}"),
            format!("echo {name}={needed} >> /etc/sysctl.d/60-willowmq.conf && sysctl --system"),
        ),
    }
}

fn overcommit(value: Option<u64>) -> Finding {
    let name = "vm.overcommit_memory";
    match value {
        Some(2) => Finding::better(
            name,
            "2: memory is refused by what is asked for, not by what is used, so the broker may be refused some although there is enough",
            format!("sysctl -w {name}=0"),
        ),
        Some(value) => Finding::fine(name, value.to_string()),
        None => Finding::fine(name, "this machine does not show it"),
    }
}

/// Whether every shard has a core of its own.
pub(in crate::cli::doctor) fn processors(shards: usize, machine: &Machine) -> Finding {
    let subject = "processors";
    let processors = machine.processors;
    if let Some(quota) = machine.quota
        && quota < shards as f64
    {
        return Finding::better(
            subject,
            format!(
                "{shards} shards, and the control group has processor time for {quota:.1}: the shards are stopped in the middle of their work"
            ),
            format!(
                "set shards = {} in the configuration, or raise CPUQuota=, or the CPU limit of the container",
                quota.ceil().max(1.0)
            ),
        );
    }
    if shards > processors {
        return Finding::better(
            subject,
            format!("{shards} shards share {processors} processors, and wait for each other"),
            format!("set shards = {processors} in the configuration, or leave it out"),
        );
    }
    Finding::fine(subject, format!("{shards} shards on {processors} processors"))
}

/// How the clock rate of the processors is chosen.
pub(in crate::cli::doctor) fn governor(governor: Option<&str>) -> Finding {
    let subject = "processor clock";
    match governor {
        None => Finding::fine(subject, "not governed by this kernel"),
        Some("performance" | "schedutil") => Finding::fine(subject, governor.unwrap_or_default()),
        Some(other) => Finding::better(
            subject,
            format!("governed by {other:?}: after a quiet moment the first messages take longer"),
            "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        ),
    }
}

/// Whether the memory limit leaves room, and is within what there is. `limit` is the start's own answer.
pub(in crate::cli::doctor) fn memory(limit: Result<u64, String>, available: u64) -> Finding {
    let subject = "memory";
    let mib = |bytes: u64| bytes >> 20;
    match limit {
        Err(error) => Finding::wrong(subject, error, "raise memory_limit, or lower shards"),
        Ok(limit) if limit > available / 10 * 9 => Finding::better(
            subject,
            format!(
                "memory_limit is {} MiB, and there are {} MiB: the kernel may end the broker before it protects itself",
                mib(limit),
                mib(available)
            ),
            "set memory_limit = \"75%\", which is what it is by default",
        ),
        Ok(limit) => Finding::fine(subject, format!("{} MiB of {} MiB may be used", mib(limit), mib(available))),
    }
}

/// Transparent huge pages.
pub(in crate::cli::doctor) fn huge_pages(chosen: Option<&str>) -> Finding {
    let subject = "huge pages";
    match chosen {
        Some("always") => Finding::better(
            subject,
            "transparent huge pages are always used: small pieces of memory that come and go take more of it, and now and then longer",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(chosen) => Finding::fine(subject, chosen),
        None => Finding::fine(subject, "not a matter of this kernel"),
    }
}

/// Whether the clock is kept right: certificates, tokens and message expiry depend on it.
pub(in crate::cli::doctor) fn clock(clock: Clock) -> Finding {
    let subject = "clock";
    match clock {
        Clock::Synchronised(by) => Finding::fine(subject, format!("synchronised by {by}")),
        Clock::Running(by) => Finding::better(
            subject,
            format!(
                "{by} runs, but has not synchronised the clock yet; certificates, tokens and $SYS times depend on it"
            ),
            "timedatectl timesync-status",
        ),
        Clock::Unknown => Finding::better(
            subject,
            "nothing that would synchronise it was found; certificates, tokens and $SYS times depend on it",
            "timedatectl set-ntp true   # or: apt-get install chrony. In a virtual machine the host may see to it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::cli::doctor::finding::Verdict;

    fn limits(memlock: u64, nofile: u64) -> Limits {
        Limits { memlock: (memlock, memlock), nofile: (1024, nofile), of_running: None }
    }

    fn machine(sysctls: &[(&'static str, u64)]) -> Machine {
        Machine { sysctls: sysctls.iter().copied().collect(), processors: 4, ..Machine::default() }
    }

    /// It is not fine, and says what to type.
    fn assert_found(finding: &Finding, verdict: Verdict, said: &str, advice: &str) {
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.said.contains(said), "{finding:?}");
        assert!(finding.advice.join("\n").contains(advice), "{finding:?}");
    }

    #[test]
    fn an_old_kernel_is_wrong() {
        assert_eq!(kernel("6.1.0-18-amd64").verdict, Verdict::Fine);
        assert_found(&kernel("5.15.0"), Verdict::Wrong, "5.15.0 is too old", "newer kernel");
    }

    #[test]
    fn a_ring_that_is_refused_is_explained_by_what_refuses_it() {
        assert_eq!(ring(None, Some(0)).verdict, Verdict::Fine);
        assert_found(&ring(None, Some(1)), Verdict::Better, "is 1", "io_uring_group");
        let refused = StartError::RingDisabled { sysctl: None, error: io::ErrorKind::PermissionDenied.into() };
        assert_found(&ring(Some(&refused), Some(2)), Verdict::Wrong, "not allowed", "kernel.io_uring_disabled=0");
        assert_found(&ring(Some(&refused), Some(0)), Verdict::Wrong, "not allowed", "seccomp");
        let memlock = ring(Some(&StartError::MemlockTooLow { limit: 65_536 }), Some(0));
        assert_found(&memlock, Verdict::Wrong, "locked memory", "");
        assert!(!memlock.advice.join("\n").contains("seccomp"), "{memlock:?}");
    }

    #[test]
    fn limits_are_held_against_what_is_needed() {
        assert_eq!(memlock(&limits(u64::MAX, 0)).verdict, Verdict::Fine);
        assert_found(&memlock(&limits(65_536, 0)), Verdict::Wrong, "64 KiB may be locked", "LimitMEMLOCK");
        let config = Config { shards: Some(2), ..Config::default() };
        assert_eq!(nofile(&config, &limits(0, 1 << 20), None).verdict, Verdict::Fine);
        assert_found(&nofile(&config, &limits(0, 4096), None), Verdict::Better, "leaves room for", "ulimit -n");
        assert_found(&nofile(&config, &limits(0, 100), None), Verdict::Wrong, "100 may be open", "LimitNOFILE=1048576");
        let mut many = config;
        many.limits.connections_max = Some(1_000_000);
        let found = nofile(&many, &limits(0, u64::MAX), Some(4096));
        assert_found(&found, Verdict::Wrong, "4096 may be open", "sysctl -w fs.nr_open=");
    }

    #[test]
    fn small_queues_of_the_kernel_are_named() {
        let config = Config::default();
        let of = |sysctls: &[(&'static str, u64)], connections| sysctls_of(&config, sysctls, connections);
        fn sysctls_of(config: &Config, values: &[(&'static str, u64)], connections: usize) -> Vec<Finding> {
            sysctls(config, &machine(values), connections)
        }
        let found = of(&[("net.core.somaxconn", 128), ("vm.overcommit_memory", 2)], 1000);
        assert_found(&found[0], Verdict::Better, "128, better at least 4096", "net.core.somaxconn=4096");
        assert_eq!(found[1].verdict, Verdict::Fine);
        assert_found(&found[2], Verdict::Better, "2: memory is refused", "vm.overcommit_memory=0");
        assert_eq!(found.len(), 3, "a small broker needs no more");
        let found = of(&[("net.core.netdev_max_backlog", 1000), ("net.netfilter.nf_conntrack_max", 65_536)], 100_000);
        assert_found(&found[3], Verdict::Better, "1000, better at least 5000", "netdev_max_backlog=5000");
        assert_found(&found[4], Verdict::Better, "65536, better at least 125000", "nf_conntrack_max=125000");
    }

    #[test]
    fn shards_want_a_processor_each() {
        assert_eq!(processors(4, &machine(&[])).verdict, Verdict::Fine);
        assert_found(&processors(5, &machine(&[])), Verdict::Better, "5 shards share 4", "shards = 4");
        let quota = Machine { quota: Some(1.5), ..machine(&[]) };
        assert_found(&processors(4, &quota), Verdict::Better, "processor time for 1.5", "shards = 2");
        assert_found(&governor(Some("powersave")), Verdict::Better, "powersave", "scaling_governor");
        assert_eq!(governor(None).verdict, Verdict::Fine);
    }

    #[test]
    fn memory_beyond_what_there_is_could_be_better() {
        assert_eq!(memory(Ok(75 << 20), 100 << 20).verdict, Verdict::Fine);
        assert_found(&memory(Ok(1 << 30), 1 << 30), Verdict::Better, "the kernel may end", "75%");
        assert_found(&memory(Err("too low".into()), 0), Verdict::Wrong, "too low", "memory_limit");
        assert_found(&huge_pages(Some("always")), Verdict::Better, "always", "madvise");
        assert_eq!(huge_pages(Some("madvise")).verdict, Verdict::Fine);
    }

    #[test]
    fn a_clock_that_nobody_keeps_right_could_be_better() {
        assert_eq!(clock(Clock::Synchronised("systemd-timesyncd")).verdict, Verdict::Fine);
        assert_found(&clock(Clock::Running("chrony")), Verdict::Better, "chrony runs", "timedatectl");
        assert_found(&clock(Clock::Unknown), Verdict::Better, "nothing", "set-ntp");
    }
}
