//! What may change while the broker runs: its settings, and the files that they name.
//!
//! A thread looks every so often whether a file has changed, and loads it ([`files`]). When it is told to, by SIGHUP or by an operator, it
//! loads the settings anew with all files, all or nothing ([`settings`]): listeners that are new have a slot of their own ([`slots`]), and
//! each shard takes over what has changed in one of its turns ([`shard`]).

mod files;
mod settings;
mod shard;
mod slots;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use super::doors::OpenDoors;
use super::logging::{self, Control};
use super::plan::Plan;
use super::{bind, safeguards};
use crate::config::{Change, Config, difference};
pub(crate) use files::Watched;
use files::{Look, STILL, Set};

/// Loads the settings as the process was told to at its start: the same file, the environment, the same flags.
pub type Source = Box<dyn Fn() -> Result<Config, String> + Send>;

/// Why a broker that stops reloads nothing.
const ENDING: &str = "the broker is about to end";
/// How long the end of the broker waits for a reload that goes on: a file of it may be on a disk that does not answer.
const LAST_RELOAD: Duration = Duration::from_secs(1);

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Settings that are others now.
    pub changed: Vec<Change>,
    /// Settings that would be others, but take effect at the next start.
    pub needs_restart: Vec<Change>,
    /// Files that were read again, by what they are: "rights", "certificates of listeners.0".
    pub reloaded: Vec<String>,
}

/// The thread that watches files and reloads settings. It ends when all who know it are gone.
#[derive(Clone)]
pub struct Reloader(Sender<Order>);

/// Somebody wants a reload, and may want to know what has come of it.
struct Order(Option<Sender<Result<Outcome, String>>>);

impl Reloader {
    /// Watches the files that the settings in force name, which were first loaded after `begin`.
    ///
    /// # Errors
    /// Where the thread cannot be had.
    pub(super) fn start(
        plan: Arc<Plan>,
        source: Source,
        doors: Arc<Mutex<OpenDoors>>,
        log: Control,
        begin: SystemTime,
    ) -> io::Result<Self> {
        let (order, orders) = channel();
        let sets = sets(&plan, begin);
        let work = Work { plan, source, doors, log, sets };
        thread::Builder::new().name("reload".to_owned()).spawn(move || work.run(&orders))?;
        Ok(Self(order))
    }

    /// Reloads all settings and files, and waits until that is done: not on a shard, and not where others wait.
    ///
    /// # Errors
    /// Why nothing has changed, with the file and line where there is one.
    pub fn reload_settings(&self) -> Result<Outcome, String> {
        let (answer, outcome) = channel();
        let gone = || ENDING.to_owned();
        self.0.send(Order(Some(answer))).map_err(|_| gone())?;
        outcome.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Waits a moment until a reload that goes on is over; once the broker stops, none follows. What it has opened is known by then, and can
    /// be closed with everything else.
    pub(super) fn settle(&self) {
        let (answer, is_over) = channel();
        if self.0.send(Order(Some(answer))).is_ok() {
            let _ = is_over.recv_timeout(LAST_RELOAD);
        }
    }

    /// As [`Reloader::reload_settings`], without waiting: what comes of it is in the log.
    pub(crate) fn order(&self) {
        let _ = self.0.send(Order(None)); // The thread lives as long as this does.
    }
}

/// What the thread has.
struct Work {
    plan: Arc<Plan>,
    source: Source,
    doors: Arc<Mutex<OpenDoors>>,
    log: Control,
    sets: Vec<Set>,
}

/// What is watched, loaded after `begin`.
fn sets(plan: &Plan, begin: SystemTime) -> Vec<Set> {
    safeguards::watched(plan).into_iter().map(|watched| Set::new(watched, begin)).collect()
}

impl Work {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let interval = self.plan.config().security.reload_interval;
            let wait = match (interval.is_zero(), self.sets.iter().any(|set| set.is_restless)) {
                (true, _) => None,
                (false, true) => Some(STILL.min(interval)),
                (false, false) => Some(interval),
            };
            let order = match wait {
                Some(wait) => orders.recv_timeout(wait),
                None => orders.recv().map_err(RecvTimeoutError::from),
            };
            match order {
                Ok(order) => {
                    let answers = answers_of(order, orders);
                    let outcome = match self.plan.mesh.is_stopping() {
                        true => Err(ENDING.to_owned()),
                        false => self.reload_and_tell(),
                    };
                    for answer in answers {
                        let _ = answer.send(outcome.clone()); // Whoever asked may have gone.
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    for set in &mut self.sets {
                        if set.look() == Look::Load {
                            let _ = set.load();
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Reloads, and tells the log and systemd.
    fn reload_and_tell(&mut self) -> Result<Outcome, String> {
        tell_systemd(&bind::reloading());
        let outcome = self.reload();
        tell_systemd("READY=1");
        match &outcome {
            Ok(Outcome { changed, needs_restart, reloaded }) => {
                for Change { key, old, new, .. } in changed {
                    tracing::info!(key, old = shown(old), new = shown(new), "a setting is another one now");
                }
                for Change { key, old, new, .. } in needs_restart {
                    tracing::warn!(key, old = shown(old), new = shown(new), "a setting needs a restart to change");
                }
                let (reloaded, needs_restart) = (reloaded.join(", "), needs_restart.len());
                tracing::info!(
                    changed = changed.len(),
                    needs_restart,
                    reloaded,
                    "reloaded the settings and the files that they name"
                );
                self.change_log(changed);
            }
            Err(error) => tracing::error!("nothing was reloaded, all is as it was: {error}"),
        }
        outcome
    }

    /// Takes over what has changed about the log, and nothing else: an operator may have chosen another level for the time being. What is
    /// told of the reload is told as before.
    fn change_log(&self, changed: &[Change]) {
        let has_changed = |key: &str| changed.iter().any(|change| change.key == key);
        let config = self.plan.config();
        if has_changed("log.level")
            && let Err(error) = self.log.set_level(&config.log.level)
        {
            tracing::error!("{error}"); // It was checked before, so it is the log itself.
        }
        if has_changed("log.lines_per_second_max") {
            self.log.set_lines_per_second_max(config.log.lines_per_second_max);
        }
    }

    fn reload(&mut self) -> Result<Outcome, String> {
        let begin = SystemTime::now();
        let before = self.plan.effective_config();
        let mut config = (self.source)()?;
        logging::level(&config.log)?;
        let (needs_restart, changed) =
            difference(&before, &config).into_iter().partition(|change| change.needs_restart);
        config.keep_until_restart(&before);
        let prepared = settings::prepare(&self.plan, &self.doors, config)?;
        let reloaded = settings::put_in_force(&self.plan, &self.doors, prepared);
        self.sets = sets(&self.plan, begin);
        Ok(Outcome { changed, needs_restart, reloaded })
    }
}

/// Who waits for an answer to this order and to those behind it. One reload that begins now does what all of them ask for: whoever sends
/// signals in a loop does not keep the thread busy long after the last one.
fn answers_of(first: Order, behind: &Receiver<Order>) -> Vec<Sender<Result<Outcome, String>>> {
    std::iter::once(first).chain(behind.try_iter()).filter_map(|Order(answer)| answer).collect()
}

fn shown(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("unset")
}

fn tell_systemd(state: &str) {
    if let Err(error) = bind::notify(state) {
        tracing::warn!("cannot tell systemd of the reload: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reload_answers_all_who_have_asked_for_one_by_then() {
        let (order, orders) = channel();
        let (answer, answers) = channel();
        for _ in 0..1_000 {
            order.send(Order(None)).unwrap();
        }
        order.send(Order(Some(answer.clone()))).unwrap();
        for answer in answers_of(Order(Some(answer)), &orders) {
            answer.send(Ok(Outcome::default())).unwrap();
        }
        assert_eq!(answers.iter().count(), 2, "nobody holds a sender of it any more");
        assert!(orders.try_recv().is_err(), "no order is left");
    }
}
