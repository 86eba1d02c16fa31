//! The limits of the machine, asked before a run instead of met in the middle of it.

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Sources;

/// Descriptors that are not connections: epoll, the files of a report, standard streams, what is read under /proc.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Raises the limit of open files as far as it goes, and fails when that is not enough for `clients`.
pub fn allow_descriptors(clients: usize) -> Result<()> {
    let needed = clients as u64 + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let current = limit.current.unwrap_or(u64::MAX);
    if needed > hard {
        bail!(
            "{clients} clients need {needed} open files, and this process may have {hard}: raise the hard limit \
             (ulimit -Hn, or LimitNOFILE= of systemd), or run several generators"
        );
    }
    if needed > current {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(())
}

/// Raises the limit of open files as far as it goes, for the processes that this one starts.
pub fn raise_descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Fails when `clients` need more ports than `sources` have.
pub fn check_ports(clients: usize, sources: Option<&Sources>) -> Result<()> {
    let Some(ports) = local_ports() else { return Ok(()) };
    let addresses = sources.map_or(1, |sources| sources.count() as usize);
    if clients > ports * addresses {
        bail!(
            "{clients} clients need as many local ports, and {addresses} source address(es) have {ports} each \
             (net.ipv4.ip_local_port_range): spread them, for example with --source 127.0.0.1-127.0.0.{}",
            clients.div_ceil(ports) + 1
        );
    }
    Ok(())
}

fn local_ports() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_whitespace().filter_map(|end| end.parse::<usize>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_clients_than_the_machine_carries_are_refused_with_a_way_out() {
        let error = allow_descriptors(usize::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("LimitNOFILE"), "{error}");
        let error = check_ports(10_000_000, None).unwrap_err().to_string();
        assert!(error.contains("--source"), "{error}");
        assert!(check_ports(10, None).is_ok());
    }
}
