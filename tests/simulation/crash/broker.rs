//! Journals over a simulated disk, and the end and the beginning of a broker.
//!
//! One command to the disk is under way for each shard, for as many steps as chance wants. The broker may die at any of them, which leaves
//! the command half done.

use crate::crash::disk::{Crash, Disk, Faults};
use crate::crash::reference;
use crate::simulation::Random;
use crate::wire::network::Simulation;
use std::sync::Arc;
use std::time::Duration;
use willowmq::config::Config;
use willowmq::journal::log::{Command, Completed, Log, Mode, Options};
use willowmq::journal::recovery::{self, Limits, Recovered};
use willowmq::journal::segment::SEGMENT_HEADER;
use willowmq::shard::{Read, Shard, ShardId, home_hasher, home_of};
use willowmq::timer::Moment;

/// Steps until the shards of a started broker know each other's Subscriptions, at the most.
const STEPS_TO_START: usize = 10_000;

/// Bytes of queued messages that are in memory after a start; the others are read back.
const MEMORY_BUDGET: u64 = 1000;

/// A mistake that the owner of the shards could make, to see that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// A batch counts as durable once it is written.
    SyncForgotten,
    /// The records of a turn are appended after its outputs have left.
    OutputsFirst,
    /// A batch counts as durable when its write begins.
    OneBatchEarly,
    /// What a failed sync should have kept is taken to be there.
    FailedSyncBelieved,
}

/// How the journals of a simulation are kept.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    pub(crate) mode: Mode,
    pub(crate) segment_bytes: u64,
    /// Steps that a command takes, at the most.
    pub(crate) slowness: usize,
    pub(crate) flaw: Flaw,
}

impl Default for Manner {
    fn default() -> Self {
        Self { mode: Mode::Sync, segment_bytes: 4096, slowness: 3, flaw: Flaw::None }
    }
}

/// The broker dies at this command, when so many pieces of it are done. All of them: when it is carried out and nobody knows yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fuse {
    pub(crate) command: usize,
    pub(crate) pieces: usize,
    pub(crate) how: Crash,
}

/// One shard's log, and what goes on between the two.
struct Desk {
    log: Log,
    /// The command under way, and the steps that it still takes.
    outstanding: Option<(Command, usize)>,
    reads: Vec<(Read, usize)>,
    told_durable: u64,
    told_failing: bool,
    /// The log has nothing to do before its deadline.
    is_resting: bool,
}

impl Desk {
    fn new(log: Log) -> Self {
        let told_durable = log.durable();
        let (outstanding, reads) = Default::default();
        Self { log, outstanding, reads, told_durable, told_failing: false, is_resting: false }
    }

    /// Where everything ends that was appended.
    fn end(&self) -> u64 {
        self.log.durable() + self.log.backlog() as u64
    }

    fn durable(&self, flaw: Flaw) -> u64 {
        let under_way = match &self.outstanding {
            // A seal has no offset of its own.
            Some((Command::Write { segment, at, bytes, .. }, _)) if bytes[..4] != [0xFF; 4] => {
                segment.start + at - SEGMENT_HEADER as u64 + bytes.len() as u64
            }
            _ => 0,
        };
        if flaw == Flaw::OneBatchEarly { self.log.durable().max(under_way) } else { self.log.durable() }
    }

    fn is_quiet(&self, now: Moment, flaw: Flaw) -> bool {
        let can_read = self.reads.iter().any(|(read, _)| read.extent.end() <= self.log.written());
        self.outstanding.is_none()
            && self.is_resting
            && !can_read
            && self.told_durable >= self.durable(flaw)
            && self.told_failing == self.log.failure().is_some()
            && self.log.next_deadline().is_none_or(|deadline| deadline > now)
    }
}

/// The journals of all shards.
pub(crate) struct Journals {
    pub(crate) disk: Disk,
    pub(crate) manner: Manner,
    desks: Vec<Desk>,
    /// Commands begun so far, and where it ends.
    pub(crate) commands: Vec<usize>,
    pub(crate) fuse: Option<Fuse>,
    /// A shard whose disk stands still.
    pub(crate) stalled: Option<usize>,
    /// When the listeners opened, each time.
    pub(crate) openings: Vec<Moment>,
    /// When the broker died or stopped, each time.
    pub(crate) ends: Vec<Moment>,
}

impl Journals {
    pub(crate) fn are_quiet(&self, now: Moment) -> bool {
        self.desks.iter().enumerate().all(|(at, desk)| Some(at) == self.stalled || desk.is_quiet(now, self.manner.flaw))
    }

    pub(crate) fn why_busy(&self) -> String {
        let desks = self.desks.iter().map(|desk| {
            let (told, durable, reads) = (desk.told_durable, desk.log.durable(), desk.reads.len());
            format!(
                "told {told} of {durable}, resting {}, {:?}, reads {reads}",
                desk.is_resting,
                desk.log.next_deadline()
            )
        });
        desks.collect::<Vec<_>>().join("; ")
    }

    /// Whether everything that was ever appended is durable.
    pub(crate) fn are_durable(&self) -> bool {
        self.desks.iter().all(|desk| desk.log.backlog() == 0 && desk.log.failure().is_none())
    }

    pub(crate) fn are_failing(&self) -> bool {
        self.disk.faults != Faults::default() || self.desks.iter().any(|desk| desk.log.failure().is_some())
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.desks.iter().filter_map(|desk| desk.log.next_deadline()).min()
    }

    /// Goes on with every command by a step; whether the broker dies of it.
    fn work(&mut self, now: Moment, random: &mut Random) -> Option<Crash> {
        for shard in 0..self.desks.len() {
            if Some(shard) == self.stalled {
                continue;
            }
            let desk = &mut self.desks[shard];
            match desk.outstanding.take() {
                Some((command, steps)) if steps > 0 => desk.outstanding = Some((command, steps - 1)),
                Some((command, _)) => self.complete(shard, now, command, random),
                None => {
                    let command = desk.log.next_command(now);
                    desk.is_resting = command.is_none();
                    if let Some(command) = command {
                        desk.outstanding = Some((command, random.below(self.manner.slowness + 1)));
                        if let Some(how) = self.burn(shard, random) {
                            return Some(how);
                        }
                    }
                }
            }
        }
        None
    }

    fn burn(&mut self, shard: usize, random: &mut Random) -> Option<Crash> {
        let (command, _) = self.desks[shard].outstanding.as_ref()?;
        let pieces = Disk::pieces(command);
        self.commands.push(pieces);
        let fuse = self.fuse.take_if(|fuse| fuse.command + 1 == self.commands.len())?;
        let (command, _) = self.desks[shard].outstanding.take()?;
        if fuse.pieces > pieces {
            self.disk.carry_out(command, random);
        } else {
            self.disk.cut_off(&command, fuse.pieces);
        }
        Some(fuse.how)
    }

    fn complete(&mut self, shard: usize, now: Moment, command: Command, random: &mut Random) {
        let is_believed = self.manner.flaw == Flaw::FailedSyncBelieved && !self.disk.faults.is_full;
        self.disk.lies = self.manner.flaw == Flaw::SyncForgotten && matches!(command, Command::Write { .. });
        let mut completed = self.disk.carry_out(command, random);
        if is_believed
            && let Completed::Written(result @ Err(_), _) | Completed::Synced(result @ Err(_)) = &mut completed
        {
            *result = Ok(());
        }
        let desk = &mut self.desks[shard];
        desk.log.on_completed(now, completed);
        desk.is_resting = false;
    }

    /// Whoever dies leaves each command anywhere.
    fn crash(&mut self, how: Crash, random: &mut Random) {
        for (command, _) in self.desks.drain(..).filter_map(|desk| desk.outstanding) {
            let pieces = Disk::pieces(&command);
            match random.below(4) {
                0 => drop(self.disk.carry_out(command, random)),
                1 => self.disk.cut_off(&command, pieces),
                _ => self.disk.cut_off(&command, random.below(pieces + 1)),
            }
        }
        self.disk.crash(how, random);
    }
}

impl Simulation {
    /// A broker that keeps journals, on an empty disk.
    pub(crate) fn journalled(seed: u64, shards: usize, config: Config, manner: Manner) -> Self {
        let mut sim = Self::new(seed, shards, config);
        let (desks, commands, openings, ends) = Default::default();
        let mut disk = Disk::default();
        disk.identity = seed;
        sim.journals = Some(Journals { disk, manner, desks, commands, fuse: None, stalled: None, openings, ends });
        sim.start(shards);
        sim
    }

    pub(crate) fn disk(&mut self) -> &mut Disk {
        &mut self.journals_mut().disk
    }

    pub(crate) fn journals(&self) -> &Journals {
        self.journals.as_ref().expect("this broker keeps journals")
    }

    pub(crate) fn journals_mut(&mut self) -> &mut Journals {
        self.journals.as_mut().expect("this broker keeps journals")
    }

    /// The broker dies, and stays away for so long.
    pub(crate) fn crash(&mut self, how: Crash, away: Duration) {
        self.note_line(&format!("{how:?}"));
        self.break_connections();
        let now = self.now;
        let mut random = Random::new(self.random.next());
        let journals = self.journals_mut();
        journals.stalled = None;
        journals.crash(how, &mut random);
        journals.disk.faults = Faults::default(); // Nobody starts again what cannot.
        journals.ends.push(now);
        self.now += away;
    }

    /// The broker dies and starts again.
    pub(crate) fn crash_and_start(&mut self, how: Crash, away: Duration) {
        let shards = self.shards.len();
        self.crash(how, away);
        self.start(shards);
    }

    /// The broker stops in order, and stays away for so long.
    pub(crate) fn stop(&mut self, away: Duration) {
        for shard in 0..self.shards.len() {
            self.control(shard, |shard, now| shard.begin_shutdown(now));
        }
        self.settle();
        for shard in 0..self.shards.len() {
            assert_eq!(self.shards[shard].population().connections, 0, "a stop closes all connections");
            self.control(shard, |shard, now| shard.record_stop(now));
        }
        // What is not synced at once is by now.
        let until_synced = Duration::from_millis(100);
        self.advance(until_synced);
        assert!(self.journals().desks.iter().all(|desk| desk.log.is_idle()), "a stop leaves nothing unwritten");
        self.crash(Crash::PowerCut, away.saturating_sub(until_synced));
    }

    /// A broker starts on what is on the disk. With another number of shards it begins new journals, which count once they hold all.
    pub(crate) fn start(&mut self, shards: usize) {
        let (now, before) = (self.now, self.shards.len());
        let recovered = self.recover(before, shards);
        let machines = recovered.into_iter().enumerate();
        let machines = machines.map(|(index, recovered)| self.start_shard(index, shards, now, recovered));
        let machines: Vec<_> = machines.collect();
        self.replace_shards(machines);
        if shards != before {
            for shard in 0..shards {
                self.control(shard, |shard, _| shard.begin_checkpoint());
            }
        }
        for _ in 0..STEPS_TO_START {
            if self.can_open() {
                break;
            }
            self.turn_each();
        }
        assert!(self.can_open(), "the broker never comes up");
        for shard in 0..shards {
            self.control(shard, |shard, now| shard.open_for_business(now));
        }
        self.note_line("the listeners open");
        let now = self.now;
        self.journals_mut().openings.push(now);
    }

    fn recover(&mut self, before: usize, shards: usize) -> Vec<Recovered> {
        let seed = self.seed;
        let disk = &mut self.journals_mut().disk;
        if std::env::var_os("WILLOWMQ_CRASH_DUMP").is_some() {
            reference::dump(disk, before);
        }
        let memory_budget = if shards == before { MEMORY_BUDGET } else { u64::MAX };
        let recovered = recovery::recover(disk, before as u8, Limits { memory_budget }, &mut |_, _| {});
        let recovered = recovered.unwrap_or_else(|error| panic!("the journals cannot be read: {error}"));
        reference::check(disk, &recovered);
        if shards == before {
            return recovered;
        }
        *disk = Disk::default();
        disk.identity = seed;
        let hasher = home_hasher(seed);
        let home = |text: &str| home_of(text, &hasher, shards).index();
        recovery::distribute(recovered, shards, home, home)
    }

    /// Whether the shards know each other's Subscriptions, and the disk has what they found on it: what is in the page cache alone
    /// must be promised to nobody.
    fn can_open(&self) -> bool {
        let is_ready = |shard: &Shard| shard.is_restored() && !shard.is_writing_checkpoint();
        self.shards.iter().all(is_ready) && self.journals().are_durable()
    }

    fn start_shard(&mut self, index: usize, shards: usize, now: Moment, recovered: Recovered) -> Shard {
        let (seed, config) = (self.seed, Arc::clone(&self.config));
        let journals = self.journals.as_mut().expect("this broker keeps journals");
        let (mode, segment_bytes) = (journals.manner.mode, journals.manner.segment_bytes);
        let options = Options { shard: index as u8, directory: seed, mode, segment_bytes, ..Options::default() };
        let mut log = Log::new(options, recovered.certain, recovered.existing.clone());
        if !recovered.tail.is_empty() {
            log.append(recovered.tail.clone()); // It may be in the page cache only.
        }
        journals.desks.push(Desk::new(log));
        Shard::journalled(ShardId::new(index), shards, seed, config, now, recovered)
    }

    /// Lets the disk work; it may be the end of the broker.
    pub(crate) fn work_disk(&mut self) {
        let (now, random) = (self.now, &mut self.random);
        let died = self.journals.as_mut().and_then(|journals| journals.work(now, random));
        if let Some(how) = died {
            self.crash_and_start(how, Duration::from_millis(10));
        }
    }

    /// A shard learns what has come of its records and reads.
    pub(crate) fn hear_of_disk(&mut self, shard: usize) {
        let Self { now, shards, journals: Some(journals), .. } = self else { return };
        let (now, machine, desk) = (*now, &mut shards[shard], &mut journals.desks[shard]);
        let (durable, is_failing) = (desk.durable(journals.manner.flaw), desk.log.failure().is_some());
        if durable > desk.told_durable {
            desk.told_durable = durable;
            machine.on_durable(durable);
        }
        if is_failing != desk.told_failing {
            desk.told_failing = is_failing;
            machine.on_journal_failure(is_failing);
        }
        if let Some(start) = machine.take_log_start() {
            desk.log.drop_before(start);
            desk.is_resting = false;
        }
        for (read, steps) in std::mem::take(&mut desk.reads) {
            let is_there = read.extent.end() <= desk.log.written();
            if !is_there || steps > 0 {
                desk.reads.push((read, steps.saturating_sub(1)));
                continue;
            }
            // A checkpoint may have written it again meanwhile, and what held it is gone: the shard asks anew.
            let place = desk.log.locate(read.extent.offset);
            let length = read.extent.length as usize;
            let bytes = place.and_then(|(segment, at)| journals.disk.read_at(segment, at, length).ok());
            machine.on_read(now, read.token, bytes.as_deref());
        }
    }

    /// Takes the records of a turn, before anything else of it is carried out, and what is to be read.
    pub(crate) fn write_down(&mut self, shard: usize) {
        let Self { random, shards, journals: Some(journals), .. } = self else { return };
        let (machine, desk) = (&mut shards[shard], &mut journals.desks[shard]);
        while let Some(read) = machine.next_read() {
            desk.reads.push((read, random.below(journals.manner.slowness + 1)));
        }
        let records = machine.records();
        if records.is_empty() {
            return;
        }
        let end = desk.end() + records.len() as u64;
        desk.log.append(records);
        desk.is_resting = false;
        if journals.manner.flaw == Flaw::OutputsFirst {
            machine.on_durable(end);
        }
    }
}
