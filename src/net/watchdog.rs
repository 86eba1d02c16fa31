//! The watchdog under systemd (`WatchdogSec=`): systemd hears from us as long as every shard takes turns, and starts us anew where one does not.
//!
//! A thread beside the shards leaves each one an errand, which it carries out in a turn of its own, asleep or not. Only when all have done so
//! since the last time does the thread tell systemd. A shard that is stuck, be it in a loop or in a call that does not return, therefore
//! ends the process: its clients would wait for ever, and the others' for what it owes them. See sd_watchdog_enabled(3).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::bind::notify;
use super::errand::Errand;
use super::mesh::Mesh;
use crate::shard::Shard;

/// Rounds in the time that systemd allows: one that is late does not matter, and a shard is suspicious before it is too late.
const ROUNDS: u32 = 4;

/// Starts the thread where systemd asks for it. It ends when the sender of `stop` is dropped.
///
/// # Errors
/// Where the thread cannot be had.
pub(super) fn start(mesh: Arc<Mesh>, stop: Receiver<()>) -> io::Result<Option<JoinHandle<()>>> {
    let environment = |name: &str| std::env::var(name).ok();
    let Some(allowed) = allowed(environment, std::process::id()) else { return Ok(None) };
    let watch = move || {
        let mut watch = Watch::new(mesh.shards(), allowed);
        while stop.recv_timeout(allowed / ROUNDS) == Err(RecvTimeoutError::Timeout) {
            let ask = |shard, beat: Beat| {
                mesh.deliver(shard, Errand::Task(Box::new(move |_, worker| beat.give(&worker.shard))))
            };
            let told = watch.round(Instant::now(), ask).map_or(Ok(()), |state| notify(&state));
            if let Err(error) = told {
                tracing::warn!("cannot tell systemd that the broker is well: {error}");
            }
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(Some)
}

/// The time within which systemd wants to hear from this process, where it does.
fn allowed(environment: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let allowed = environment("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    // It may be meant for our parent.
    let is_ours = environment("WATCHDOG_PID").is_none_or(|meant| meant == pid.to_string());
    is_ours.then(|| Duration::from_micros(allowed))
}

/// What a shard shows of itself in its turn.
#[derive(Default)]
struct Sign {
    /// The newest beat that it has given.
    beat: AtomicU64,
    clients: AtomicU64,
    wills: AtomicU64,
}

/// What a shard is asked for.
struct Beat {
    number: u64,
    sign: Arc<Sign>,
}

impl Beat {
    fn give(self, shard: &Shard) {
        let wills = &shard.stats().wills;
        self.show(shard.population().connections as u64, wills.armed_now + wills.pending_now);
    }

    fn show(self, clients: u64, wills: u64) {
        self.sign.clients.store(clients, Ordering::Relaxed);
        self.sign.wills.store(wills, Ordering::Relaxed);
        self.sign.beat.store(self.number, Ordering::Release);
    }
}

/// What the watchdog knows of one shard.
struct Watched {
    sign: Arc<Sign>,
    /// The beat that it was asked for last, and when.
    asked: Option<(u64, Instant)>,
    /// It has given a beat since systemd was told.
    has_taken_part: bool,
    /// It was said that it is stuck.
    is_suspect: bool,
}

/// What the watchdog knows of all shards.
struct Watch {
    shards: Vec<Watched>,
    allowed: Duration,
}

impl Watch {
    fn new(shards: usize, allowed: Duration) -> Self {
        let watched = || Watched { sign: Arc::default(), asked: None, has_taken_part: false, is_suspect: false };
        Self { shards: (0..shards).map(|_| watched()).collect(), allowed }
    }

    /// Looks which shards have given their beats, and asks for the next ones; what systemd is to be told, if all have since the last time.
    fn round(&mut self, now: Instant, mut ask: impl FnMut(usize, Beat)) -> Option<String> {
        for (index, watched) in self.shards.iter_mut().enumerate() {
            watched.look(index, now, self.allowed);
        }
        let state = self.shards.iter().all(|watched| watched.has_taken_part).then(|| self.state());
        for (index, watched) in self.shards.iter_mut().enumerate() {
            watched.has_taken_part &= state.is_none();
            if let Some(beat) = watched.next_beat(now) {
                ask(index, beat);
            }
        }
        state
    }

    /// What `systemctl status` shows, with the sign of life.
    fn state(&self) -> String {
        let sum = |of: fn(&Sign) -> &AtomicU64| {
            self.shards.iter().map(|watched| of(&watched.sign).load(Ordering::Relaxed)).sum::<u64>()
        };
        let (clients, wills) = (sum(|sign| &sign.clients), sum(|sign| &sign.wills));
        format!("WATCHDOG=1\nSTATUS={clients} clients, {wills} wills\n")
    }
}

impl Watched {
    fn look(&mut self, shard: usize, now: Instant, allowed: Duration) {
        let Some((number, asked)) = self.asked else { return };
        let since = now.saturating_duration_since(asked);
        if self.sign.beat.load(Ordering::Acquire) == number {
            self.asked = None;
            self.has_taken_part = true;
            if std::mem::take(&mut self.is_suspect) {
                tracing::warn!(shard, ?since, "the shard takes turns again");
            }
        } else if since >= allowed / 2 && !std::mem::replace(&mut self.is_suspect, true) {
            tracing::error!(
                shard,
                ?since,
                ?allowed,
                "the shard is stuck: it takes no turns, and systemd will end the broker"
            );
        }
    }

    /// The next beat to ask for, unless one is owed.
    fn next_beat(&mut self, now: Instant) -> Option<Beat> {
        if self.asked.is_some() {
            return None;
        }
        let number = self.sign.beat.load(Ordering::Relaxed) + 1;
        self.asked = Some((number, now));
        Some(Beat { number, sign: Arc::clone(&self.sign) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const ALLOWED: Duration = Duration::from_secs(20);

    /// Shards that give their beats when they are told to, as a mesh would bring them.
    struct Shards {
        watch: Watch,
        begin: Instant,
        owed: HashMap<usize, Beat>,
    }

    impl Shards {
        fn new(shards: usize) -> Self {
            Self { watch: Watch::new(shards, ALLOWED), begin: Instant::now(), owed: HashMap::new() }
        }

        /// Whether systemd is told in the round after so many seconds.
        fn is_told(&mut self, seconds: u64) -> bool {
            let Self { watch, begin, owed } = self;
            let ask = |shard, beat| assert!(owed.insert(shard, beat).is_none(), "a shard owes one beat at most");
            watch.round(*begin + Duration::from_secs(seconds), ask).is_some()
        }

        fn take_turn(&mut self, shard: usize) {
            if let Some(beat) = self.owed.remove(&shard) {
                beat.show(10, 1);
            }
        }
    }

    #[test]
    fn systemd_is_told_only_when_every_shard_has_taken_part_since() {
        let mut shards = Shards::new(2);
        assert!(!shards.is_told(0), "nobody was asked yet");
        (0..2).for_each(|shard| shards.take_turn(shard));
        assert!(shards.is_told(5));
        shards.take_turn(0);
        assert!(!shards.is_told(10), "one is missing");
        shards.take_turn(0);
        assert!(!shards.is_told(15), "one is missing still, however often the other one beats");
        shards.take_turn(1);
        assert!(shards.is_told(20));
        assert!(!shards.is_told(25), "what was told counts once");
    }

    #[test]
    fn a_stuck_shard_is_named_once_and_so_is_its_return() {
        let mut shards = Shards::new(2);
        shards.is_told(0);
        for second in (5..60).step_by(5) {
            shards.take_turn(0);
            assert!(!shards.is_told(second));
            assert_eq!(shards.watch.shards[1].is_suspect, second >= 10, "after half of the time");
            assert!(!shards.watch.shards[0].is_suspect);
        }
        shards.take_turn(0);
        shards.take_turn(1);
        assert!(shards.is_told(60));
        assert!(!shards.watch.shards[1].is_suspect);
    }

    #[test]
    fn what_systemd_shows_are_the_sums_of_all_shards() {
        let mut shards = Shards::new(3);
        shards.is_told(0);
        (0..3).for_each(|shard| shards.take_turn(shard));
        let state = shards.watch.round(shards.begin, |_, _| {}).unwrap();
        assert_eq!(state, "WATCHDOG=1\nSTATUS=30 clients, 3 wills\n");
    }

    #[test]
    fn the_environment_tells_whether_and_how_often() {
        let of = |usec: Option<&str>, pid: Option<&str>| {
            let environment = |name: &str| if name == "WATCHDOG_USEC" { usec } else { pid }.map(str::to_owned);
            allowed(environment, 7)
        };
        assert_eq!(of(Some("30000000"), None), Some(Duration::from_secs(30)));
        assert_eq!(of(Some("30000000"), Some("7")), Some(Duration::from_secs(30)));
        for (usec, pid) in [(None, Some("7")), (Some("0"), None), (Some("soon"), None), (Some("1"), Some("8"))] {
            assert_eq!(of(usec, pid), None, "{usec:?} {pid:?}");
        }
    }
}
