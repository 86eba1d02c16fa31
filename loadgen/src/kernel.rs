//! What the kernel of this machine dropped: on loopback a storm can exceed its queues, and then TCP's retransmissions
//! are what is measured.

use std::fs;

/// Counters of the kernel, for the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Packets that found the queue of received packets full.
    backlog: u64,
    /// Connections that found the listener's queue full.
    listen: u64,
}

impl Drops {
    /// The counters now; zeroes where the kernel does not tell.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            backlog: backlog_drops(&text("/proc/net/softnet_stat")),
            listen: listen_drops(&text("/proc/net/netstat")),
        }
    }

    /// What was dropped since `before` that makes a result doubtful.
    pub fn warnings_since(self, before: Self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (backlog, listen) =
            (self.backlog.saturating_sub(before.backlog), self.listen.saturating_sub(before.listen));
        if backlog > 0 {
            warnings.push(format!(
                "the kernel of this machine dropped {backlog} packets because its queue was full: latencies of 200 ms \
                 are TCP's retransmissions, not the broker's. Raise it: sysctl -w net.core.netdev_max_backlog=10000"
            ));
        }
        if listen > 0 {
            warnings.push(format!(
                "{listen} connections found the queue of a listener on this machine full, and were tried again a \
                 second later: raise the broker's backlog and net.core.somaxconn, or lower --connect-concurrency"
            ));
        }
        warnings
    }
}

/// The second column, in hexadecimal, one line for each CPU.
fn backlog_drops(text: &str) -> u64 {
    let column = text.lines().filter_map(|line| line.split_whitespace().nth(1));
    column.filter_map(|drops| u64::from_str_radix(drops, 16).ok()).sum()
}

/// `ListenOverflows` of `TcpExt`: a line of names, and a line of values.
fn listen_drops(text: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "ListenOverflows").and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_and_told() {
        assert_eq!(backlog_drops("01f71b33 0000000a 8\n01a36832 00000010 5\n"), 26);
        assert_eq!(listen_drops("TcpExt: A ListenOverflows B\nTcpExt: 1 7 3\nIpExt: X\nIpExt: 5\n"), 7);
        assert_eq!((backlog_drops(""), listen_drops("TcpExt: A\n")), (0, 0));
        let before = Drops { backlog: 5, listen: 1 };
        assert!(before.warnings_since(before).is_empty());
        let after = Drops { backlog: 8, listen: 3 };
        let warnings = after.warnings_since(before).join("\n");
        assert!(warnings.contains("3 packets") && warnings.contains("2 connections"), "{warnings}");
    }
}
