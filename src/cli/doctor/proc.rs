//! Texts of /proc and /sys, read into numbers. Nothing here reads a file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The soft and the hard limit called `name` in /proc/PID/limits; `u64::MAX` is none.
pub(super) fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = rest.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

/// The choice in brackets, as in `always [madvise] never`.
pub(super) fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(chosen, _)| chosen)
}

/// The inode of the socket that listens where `address` would, in /proc/net/tcp or tcp6.
pub(super) fn listening(table: &str, address: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let local = socket_address(local)?;
        let is_there = local.port() == address.port()
            && local.is_ipv4() == address.is_ipv4()
            && (local.ip() == address.ip() || local.ip().is_unspecified() || address.ip().is_unspecified());
        (*state == "0A" && is_there).then(|| inode.parse().ok()).flatten()
    })
}

/// An address as the kernel prints it: words of four bytes in the order of this machine, hexadecimal.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u8>> = (0..address.len() / 8)
        .map(|index| u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let ip = match words?.as_slice() {
        four if four.len() == 4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(four).ok()?)),
        sixteen => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(sixteen).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

/// The processors that cpu.max of a control group comes to, where it has a limit.
pub(super) fn processors_of_quota(cpu_max: &str) -> Option<f64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

/// The path of the group of this process in version 2 of control groups, from /proc/self/cgroup.
pub(super) fn control_group(cgroup: &str) -> Option<&str> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_none() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(limit(limits, "Max open files"), Some((1024, 524_288)));
        assert_eq!(limit(limits, "Max locked memory"), Some((u64::MAX, u64::MAX)));
        assert_eq!(limit(limits, "Max stack size"), None);
    }

    #[test]
    fn the_socket_that_is_in_the_way_is_found() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |local: &str, state: &str| {
            format!(
                "{head}   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000 0 4711 1 0 100 0 0 10 0\n"
            )
        };
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let loopback = format!("{}:075B", word([127, 0, 0, 1]));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(listening(&row(&loopback, "0A"), at("127.0.0.1:1883")), Some(4711));
        assert_eq!(listening(&row(&loopback, "0A"), at("0.0.0.0:1883")), Some(4711));
        assert_eq!(listening(&row(&loopback, "01"), at("127.0.0.1:1883")), None, "it does not listen");
        assert_eq!(listening(&row(&loopback, "0A"), at("127.0.0.2:1883")), None);
        assert_eq!(listening(&row(&loopback, "0A"), at("[::]:1883")), None);
        let six = format!("{}{}{}{}:075B", word([0; 4]), word([0; 4]), word([0; 4]), word([0, 0, 0, 1]));
        assert_eq!(listening(&row(&six, "0A"), at("[::1]:1883")), Some(4711));
        assert_eq!(listening("nonsense\nmore of it\n", at("[::1]:1883")), None);
    }

    #[test]
    fn choices_and_quotas_are_read() {
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("none"), None);
        assert_eq!(processors_of_quota("150000 100000\n"), Some(1.5));
        assert_eq!(processors_of_quota("max 100000\n"), None);
        assert_eq!(control_group("1:name=systemd:/a\n0::/system.slice/a\n"), Some("/system.slice/a"));
    }
}
