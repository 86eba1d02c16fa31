//! Round after round: the broker is started, clients work, the broker is killed; in the end all that is owed must arrive.

use crate::broker::{Broker, PATIENCE, Settings};
use crate::checker::{Complaint, Counts};
use crate::history::{Event, Moment, Who};
use crate::load::{Client, Recorder, Turn, fleet};
use crate::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Everything owed must have arrived after so many rounds, so that a long run tells early what is lost.
const DRAIN_EVERY: u64 = 10;
/// How long what is owed may take once nothing else happens: the longest Will Delay Interval, the grace, and time for a busy machine.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// The same where much is known to be lost.
const DRAIN_LOST_MAX: Duration = Duration::from_secs(4);
/// How often somebody looks at the retained messages.
const LOOK_EVERY: Duration = Duration::from_millis(700);
const POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

pub(crate) struct Rounds {
    settings: Settings,
    random: Random,
    log: Recorder,
    broker: Broker,
    clients: Vec<Client>,
    next_who: Who,
    next_look: Moment,
    kills: u64,
    interrupted: BTreeMap<&'static str, u64>,
    recoveries: Vec<Duration>,
}

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) complaints: Vec<Complaint>,
    /// The first complaint with the events that led to it.
    pub(crate) story: String,
    kills: u64,
    duration: Duration,
    interrupted: BTreeMap<&'static str, u64>,
    pub(crate) counts: Counts,
    recoveries: Vec<Duration>,
}

impl Rounds {
    pub(crate) fn new(settings: Settings, seed: u64) -> Self {
        Self::with(settings, seed, fleet(settings))
    }

    pub(crate) fn with(settings: Settings, seed: u64, clients: Vec<Client>) -> Self {
        Self {
            settings,
            random: Random::new(seed),
            log: Recorder::new(settings.grace),
            broker: Broker::new(settings),
            next_who: clients.len() as Who,
            clients,
            next_look: Moment::ZERO,
            kills: 0,
            interrupted: BTreeMap::new(),
            recoveries: Vec::new(),
        }
    }

    /// More clients come.
    pub(crate) fn join(&mut self, clients: Vec<Client>) {
        self.next_who += clients.len() as Who;
        self.clients.extend(clients);
    }

    /// Kills the broker so often. A durability that keeps its promises is asked for them early.
    pub(crate) fn run(mut self, rounds: u64) -> Outcome {
        let keeps = self.settings.durability != "memory";
        let goes_on = |rounds: &Self| !keeps || rounds.log.checker.complaints().is_empty();
        for round in 1..=rounds {
            if !goes_on(&self) {
                break;
            }
            self.round();
            if round % DRAIN_EVERY == 0 && !self.drain(DRAIN_MAX) {
                return self.outcome();
            }
        }
        if goes_on(&self) && (self.drain(if keeps { DRAIN_MAX } else { DRAIN_LOST_MAX }) || !keeps) {
            self.look_when_settled();
        }
        self.outcome()
    }

    /// Lets the clients work for a while without a kill.
    pub(crate) fn work(mut self, duration: Duration) -> Outcome {
        self.start();
        self.listen(false);
        self.live(duration);
        if self.drain(DRAIN_MAX) {
            self.look_when_settled();
        }
        self.outcome()
    }

    fn live(&mut self, duration: Duration) {
        let end = self.log.now() + duration;
        while self.log.now() < end {
            self.turn(false);
        }
    }

    /// One life of the broker.
    fn round(&mut self) {
        let is_new = !self.broker.runs();
        if is_new {
            self.start();
        }
        let life = match self.random.between(0, 9) {
            0 | 1 => self.random.millis(0, 80), // Perhaps before it listens.
            2 | 3 => self.random.millis(100, 250),
            4..=7 => self.random.millis(250, 1500),
            _ => self.random.millis(1500, 3500),
        };
        if is_new && life > Duration::from_millis(80) {
            self.listen(false);
        }
        self.live(life);
        self.kill();
    }

    fn start(&mut self) {
        self.log.note(Event::Started);
        self.broker.start();
    }

    /// Waits until the broker listens; clients are at it meanwhile.
    fn listen(&mut self, calm: bool) {
        let began = self.log.now();
        while !self.broker.listens() {
            assert!(self.log.now() < began + PATIENCE, "the broker does not listen");
            self.turn(calm);
        }
        self.log.note(Event::Listening);
        self.recoveries.push(self.log.now() - began);
    }

    pub(crate) fn kill(&mut self) {
        let words: BTreeSet<_> = self.clients.iter().flat_map(Client::interrupted).collect();
        words.into_iter().for_each(|word| *self.interrupted.entry(word).or_default() += 1);
        self.kills += 1;
        self.log.note(Event::Killed);
        self.broker.kill();
    }

    /// Everybody does what is to be done now; then all wait for something to happen.
    fn turn(&mut self, calm: bool) {
        let now = self.log.now();
        if !calm && now >= self.next_look {
            self.inspect(false);
            self.next_look = now + LOOK_EVERY;
        }
        for client in &mut self.clients {
            let now = self.log.now();
            client.turn(&mut Turn { now, random: &mut self.random, log: &mut self.log, calm }, self.broker.address);
        }
        self.clients.retain(|client| !client.is_done());
        let of_interest = |client: &Client| match client.wants_to_write() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let streams = self.clients.iter().filter_map(|client| Some((client.stream()?, of_interest(client))));
        let mut polled: Vec<_> = streams.map(|(stream, flags)| PollFd::new(stream, flags)).collect();
        let _ = poll(&mut polled, Some(&POLL)); // Interrupted is as good as nothing.
    }

    fn inspect(&mut self, settled: bool) {
        self.clients.push(Client::inspector(self.next_who, settled));
        self.next_who += 1;
    }

    /// Starts the broker and lets everything arrive; whether all that is owed has.
    pub(crate) fn drain(&mut self, patience: Duration) -> bool {
        if !self.broker.runs() {
            self.start();
            self.listen(true);
        }
        let end = self.log.now() + patience;
        while self.log.now() < end {
            let next = self.log.now() + Duration::from_millis(300);
            while self.log.now() < next {
                self.turn(true);
            }
            if self.clients.iter().all(Client::is_quiet) && self.log.checker.outstanding() == 0 {
                return true;
            }
        }
        false
    }

    pub(crate) fn look_when_settled(&mut self) {
        self.inspect(true);
        let end = self.log.now() + DRAIN_MAX;
        while self.clients.iter().any(Client::is_inspector) {
            assert!(self.log.now() < end, "the inspector is not served");
            self.turn(true);
        }
    }

    pub(crate) fn outcome(self) -> Outcome {
        let duration = self.log.now();
        let mut log = self.log;
        let counts = log.checker.counts();
        let checker = std::mem::replace(&mut log.checker, crate::checker::Checker::new(self.settings.grace));
        // A run that ended early has not waited for what is owed.
        let has_waited = checker.complaints().is_empty() || self.settings.durability == "memory";
        let complaints = if has_waited { checker.finish(duration) } else { checker.complaints().to_vec() };
        let story = complaints.first().map(|complaint| {
            let lines = log.story(complaint).into_iter().map(|(at, event)| format!("  {at:.3?} {event:?}\n"));
            format!("{complaint:?}\n{}", lines.collect::<String>())
        });
        let names = self.clients.iter().take(64).map(|client| format!(" {}", client.name));
        let story = story.map(|story| format!("{story}clients:{}\n", names.collect::<String>())).unwrap_or_default();
        let (kills, interrupted, recoveries) = (self.kills, self.interrupted, self.recoveries);
        Outcome { complaints, story, kills, duration, interrupted, counts, recoveries }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(out, "  kills        {} in {:.1?}, while there was", self.kills, self.duration)?;
        for (word, kills) in &self.interrupted {
            writeln!(out, "  {kills:>14} × {word}")?;
        }
        writeln!(out, "  messages     {} acknowledged, {} received", counts.acknowledged, counts.received)?;
        writeln!(out, "  redelivered  {}", counts.redelivered)?;
        writeln!(out, "  sessions     {} resumed", counts.sessions_resumed)?;
        write!(out, "  wills        {} armed, {} published", counts.wills_armed, counts.wills_published)?;
        writeln!(out, ", {} discarded, {} either was right", counts.wills_discarded, counts.wills_open)?;
        writeln!(out, "  retained     {} checked", counts.retained_checked)?;
        let mut recoveries = self.recoveries.clone();
        recoveries.sort();
        if let (Some(median), Some(longest)) = (recoveries.get(recoveries.len() / 2), recoveries.last()) {
            writeln!(out, "  start        {median:.0?} until it listens, {longest:.0?} at most")?;
        }
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        for complaint in &self.complaints {
            let text = format!("{:?}", complaint.fault);
            *kinds.entry(text.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        write!(out, "  complaints   {} {kinds:?}", self.complaints.len())?;
        for complaint in self.complaints.iter().take(10) {
            write!(out, "\n    {complaint:?}")?;
        }
        Ok(())
    }
}
