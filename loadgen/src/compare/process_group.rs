//! Processes that end when we are done with them, whatever happens.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How long a process may take to end once it is asked to.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How often we look whether something has happened.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// A child that leads a process group of its own. The group ends with this value at the latest.
///
/// The leader is waited for last of all: until then its number, which is also the group's, is given to nobody else, so
/// a signal never reaches anyone but those we started.
pub(super) struct ProcessGroup {
    leader: Child,
    status: Option<ExitStatus>,
}

impl ProcessGroup {
    /// Starts `command`, which reads nothing.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { leader: command.process_group(0).stdin(Stdio::null()).spawn()?, status: None })
    }

    /// The process that was started.
    pub(super) fn leader(&self) -> u32 {
        self.leader.id()
    }

    /// Whether the process that was started has ended; its descendants may live on.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.status.is_some() || waitid(WaitId::Pid(self.pid()), options).is_ok_and(|status| status.is_some())
    }

    /// Waits until the process that was started has ended, or `until` says that it is enough.
    pub(super) fn wait_until(&self, until: impl Fn() -> bool) {
        while !self.has_ended() && !until() {
            sleep(POLL);
        }
    }

    /// Asks the whole group to end, kills what is left of it after `grace`, and says how the leader ended.
    pub(super) fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        for (signal, patience) in [(Signal::TERM, grace), (Signal::KILL, GRACE)] {
            if !lives(self.pid()) {
                break;
            }
            // An error means that nobody is left.
            let _ = kill_process_group(self.pid(), signal);
            wait_for_end(self.pid(), patience);
        }
        let status = self.leader.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.leader)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let _ = self.stop(GRACE);
    }
}

fn wait_for_end(group: Pid, patience: Duration) {
    let begin = Instant::now();
    while lives(group) && begin.elapsed() < patience {
        sleep(POLL);
    }
}

/// Whether anyone in `group` is still running; those that only wait to be waited for are not.
pub(super) fn lives(group: Pid) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        is_process && std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| is_running_in(&stat, group))
    })
}

/// Whether `stat`, as of /proc/PID/stat, is that of a running process in `group`.
fn is_running_in(stat: &str, group: Pid) -> bool {
    let Some((_, after_name)) = stat.rsplit_once(')') else { return false }; // The name may hold anything.
    let mut fields = after_name.split_whitespace();
    let (state, _parent, own_group) = (fields.next(), fields.next(), fields.next());
    own_group.and_then(|own| own.parse().ok()) == Some(group.as_raw_nonzero().get())
        && !matches!(state, Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProcessGroup {
        ProcessGroup::start(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_group_ends_with_its_guard() {
        let group = shell("sleep 1000 & sleep 1000");
        let pid = group.pid();
        assert!(lives(pid) && !group.has_ended());
        drop(group);
        assert!(!lives(pid));
    }

    #[test]
    fn descendants_that_outlive_the_leader_end_too() {
        let mut group = shell("sleep 1000 & exit 7");
        group.wait_until(|| false);
        assert!(lives(group.pid()));
        assert_eq!(group.stop(GRACE).unwrap().code(), Some(7));
        assert!(!lives(group.pid()));
    }

    #[test]
    fn who_does_not_listen_is_killed() {
        let mut group = shell("trap '' TERM; echo; while :; do sleep 0.01; done");
        sleep(Duration::from_millis(200)); // The trap has to be set.
        assert!(!group.stop(Duration::from_millis(100)).unwrap().success());
        assert!(!lives(group.pid()));
    }

    #[test]
    fn the_group_is_the_third_field_after_the_name() {
        let group = Pid::from_raw(42).unwrap();
        assert!(is_running_in("7 (a ) b) S 1 42 9 0", group));
        assert!(!is_running_in("7 (a ) b) Z 1 42 9 0", group));
        assert!(!is_running_in("42 (a) S 1 7 42 0", group));
    }
}
