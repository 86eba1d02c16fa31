//! The data directory at the start: what the journals told, and where they go on.
//!
//! A directory is as a number of shards left it. Another number is a *move*: what was read goes to journals of a new generation, which
//! each shard writes in full before the listeners open; then, in one step, the new generation takes the place of the old. Whatever ends the
//! process before that step leaves the old generation as it was, and the next start begins the move anew; after it only the old one's
//! files may be left, which the next start removes.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::journal::{Beginning, Place};
use super::signals::Signals;
use super::startup::StartError;
use crate::config::Config;
use crate::journal::log::Existing;
use crate::journal::recovery::{Limits, Progress, agree, distribute, replay, resolve, scan};
use crate::journal::segment::SEAL;
use crate::journal::{Directory, JournalError, Recovered, SegmentName};
use crate::shard::{home_hasher, home_of};
use crate::timer::Moment;

/// How often it is told how far the reading has come.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether the reading is over, or a signal has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes of queued messages that all shards together read into memory; the others are read when their clients come.
const QUEUED_BYTES_MAX: u64 = 64 << 20;

/// With fewer records the time says nothing about how long many take.
const RECORDS_WORTH_A_RATE: u64 = 10_000;

/// The data directory, and what each shard begins with.
pub(super) struct Data {
    directory: Directory,
    /// The generation that is to count once all shards have written their journals, and for how many shards it is.
    moving_to: Option<(u32, u8)>,
    pub(super) beginnings: Vec<Beginning>,
}

impl Data {
    /// Opens the data directory and reads the journals in it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn open(config: &Config, shards: usize, signals: &mut Signals) -> Result<Self, StartError> {
        let directory = Directory::open(&config.data_dir, shards as u8).map_err(StartError::DataDirectory)?;
        let meta = directory.meta();
        let is_moving = usize::from(meta.shards) != shards;
        let recovered = recover(&directory, meta.shards, is_moving, signals).map_err(StartError::Journal)?;
        if !is_moving {
            directory.remove_other_generations(); // Left over where a move was cut short at its end.
            let beginnings = recovered.into_iter().map(|one| beginning(&directory, meta.generation, one, false));
            return Ok(Self { beginnings: beginnings.collect(), directory, moving_to: None });
        }
        tracing::info!(from = meta.shards, to = shards, "the number of shards has changed: writing all journals anew");
        let generation = directory.begin_generation(shards as u8).map_err(StartError::DataDirectory)?;
        let hasher = home_hasher(meta.hash_seed);
        let home_of_client = |client_id: &str| home_of(client_id, &hasher, shards).index();
        let home_of_topic = |topic: &str| home_of(topic, &hasher, shards).index();
        let distributed = distribute(recovered, shards, home_of_client, home_of_topic);
        let beginnings = distributed.into_iter().map(|one| beginning(&directory, generation, one, true)).collect();
        Ok(Self { directory, moving_to: Some((generation, shards as u8)), beginnings })
    }

    /// Decides who is at home where.
    pub(super) fn seed(&self) -> u64 {
        self.directory.meta().hash_seed
    }

    /// What no client knows, and another broker does not either; the same after a restart. The operator can read what it is made of.
    pub(super) fn secret(&self) -> [u8; 32] {
        let meta = self.directory.meta();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&meta.hash_seed.to_le_bytes());
        key[8..].copy_from_slice(&meta.identity.to_le_bytes());
        let secret = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"what users do not know");
        secret.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// The clock may not show less.
    pub(super) fn not_before(&self) -> Moment {
        self.beginnings.iter().map(|beginning| beginning.recovered.clock).max().unwrap_or(Moment::ZERO)
    }

    /// All shards have their journals: the new generation takes the place of the old, if there is one.
    ///
    /// # Errors
    /// When that could not be written.
    pub(super) fn settle(&mut self) -> Result<(), StartError> {
        if let Some((generation, shards)) = self.moving_to.take() {
            self.directory.switch(generation, shards).map_err(StartError::DataDirectory)?;
            self.directory.remove_other_generations();
        }
        Ok(())
    }
}

/// What differs from one process to the next.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn beginning(directory: &Directory, generation: u32, recovered: Recovered, is_moving: bool) -> Beginning {
    let place = Place {
        identity: directory.meta().identity,
        folder: directory.generation_path(generation).join(SegmentName::folder(recovered.shard)),
        existing: recovered.existing.clone(),
    };
    if !is_moving {
        place.existing.iter().for_each(|segment| give_back(directory, segment));
    }
    Beginning { recovered, place, is_moving }
}

/// Gives back what was allocated for a segment and not used: each start begins a new one, and nobody writes to this one again.
fn give_back(directory: &Directory, segment: &Existing) {
    let used = segment.name.file_offset(segment.end) + SEAL as u64;
    let file = File::options().write(true).open(directory.segment_path(&segment.name));
    // It is only room: where this fails, the next checkpoint removes the file.
    let _ = file.and_then(|file| if file.metadata()?.len() > used { file.set_len(used) } else { Ok(()) });
}

/// Reads all journals at the same time, each on a thread of its own.
fn recover(
    directory: &Directory,
    shards: u8,
    is_moving: bool,
    signals: &mut Signals,
) -> Result<Vec<Recovered>, JournalError> {
    let start = Instant::now();
    let of_shard = QUEUED_BYTES_MAX / u64::from(shards);
    // What moves to another journal has to be there to be written.
    let limits = Limits { memory_budget: if is_moving { u64::MAX } else { of_shard } };
    let scans = in_parallel("checking the journals", shards, signals, |shard, tell| scan(directory, shard, tell))?;
    let resolution = resolve(&scans.iter().collect::<Vec<_>>());
    let mut recovered = in_parallel("reading the journals", shards, signals, |shard, tell| {
        replay(directory, &scans[usize::from(shard)], &resolution, limits, tell)
    })?;
    agree(&mut recovered);
    if recovered.iter().any(|one| one.records > 0) {
        tell_recovered(&recovered, resolution.voids().len(), start.elapsed());
    }
    Ok(recovered)
}

/// Runs `work` for every shard, and tells how far all of it has come.
fn in_parallel<T: Send>(
    what: &str,
    shards: u8,
    signals: &mut Signals,
    work: impl Fn(u8, &mut dyn FnMut(Progress)) -> Result<T, JournalError> + Sync,
) -> Result<Vec<T>, JournalError> {
    let progress: Vec<_> = (0..shards).map(|_| Mutex::new(Progress::default())).collect();
    thread::scope(|scope| {
        let (work, progress) = (&work, &progress);
        let spawn = |shard: u8| {
            scope.spawn(move || {
                let mut tell = |so_far| *progress[usize::from(shard)].lock().expect("nobody panics with it") = so_far;
                work(shard, &mut tell)
            })
        };
        let threads: Vec<ScopedJoinHandle<'_, _>> = (0..shards).map(spawn).collect();
        let mut told = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(LOOK_EVERY);
            signals.end_if_asked();
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tell_progress(what, progress);
            }
        }
        threads.into_iter().map(|thread| thread.join().expect("a panic ends the process")).collect()
    })
}

fn tell_progress(what: &str, progress: &[Mutex<Progress>]) {
    let mut all = Progress::default();
    for of_shard in progress {
        let of_shard = *of_shard.lock().expect("nobody panics with it");
        all.bytes_done += of_shard.bytes_done;
        all.bytes_total += of_shard.bytes_total;
        all.records += of_shard.records;
    }
    let percent = (all.bytes_done * 100).checked_div(all.bytes_total).unwrap_or(0);
    tracing::info!(percent, records = all.records, bytes = all.bytes_total, "{what}");
}

/// One line for each shard, and one in all.
fn tell_recovered(recovered: &[Recovered], void_transactions: usize, took: Duration) {
    let wills = |one: &Recovered| one.sessions.iter().filter(|session| session.will.is_some()).count();
    for one in recovered {
        tracing::info!(
            shard = one.shard,
            records = one.records,
            sessions = one.sessions.len(),
            retained = one.retained.len(),
            wills = wills(one),
            "journal read"
        );
        if one.torn_bytes > 0 {
            tracing::warn!(
                shard = one.shard,
                bytes = one.torn_bytes,
                "what stood at the end of the journal was incomplete and was cut off: after a crash it was never promised to anybody"
            );
        }
    }
    let sum = |of: &dyn Fn(&Recovered) -> u64| recovered.iter().map(of).sum::<u64>();
    let records = sum(&|one| one.records);
    let seconds = took.as_secs_f64();
    let per_million = (records >= RECORDS_WORTH_A_RATE).then(|| format!("{:.2}", seconds * 1e6 / records as f64));
    tracing::info!(
        records,
        seconds = format_args!("{seconds:.2}"),
        seconds_per_million_records = per_million,
        sessions = sum(&|one| one.sessions.len() as u64),
        retained = sum(&|one| one.retained.len() as u64),
        wills = sum(&|one| wills(one) as u64),
        torn_bytes = sum(&|one| one.torn_bytes),
        void_transactions,
        "all journals read"
    );
    let orphans = sum(&|one| one.orphans);
    if orphans > 0 {
        tracing::warn!(orphans, "records refer to messages that are gone, as after a repair");
    }
}
