//! A disk that keeps what it was told to sync, and of everything else whatever chance wants.
//!
//! Each file is there twice: as the page cache shows it, and as the platter has it. A killed process leaves the page cache as it is,
//! with all that was never synced still unsynced. A power cut leaves the platter, and of each sector that was written since the last
//! sync the old bytes, the new ones, or a torn mixture.

use crate::simulation::Random;
use std::io;
use willowmq::journal::SegmentName;
use willowmq::journal::log::{Command, Completed, Failure};
use willowmq::journal::recovery::Files;

/// What a disk writes as a whole, or tears.
const SECTOR: usize = 512;

/// How everything ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is gone; the machine goes on.
    Kill,
    /// The machine is gone as well.
    PowerCut,
}

/// What the disk does wrong at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// No room is left.
    pub(crate) is_full: bool,
    /// Files can be neither made nor written to.
    pub(crate) is_read_only: bool,
    /// Writes fail, and leave a part of what they should have written.
    pub(crate) fails_writes: bool,
    /// A sync fails once, what it should have kept is lost, and the next one says that all is well.
    pub(crate) fails_syncs: bool,
    /// Nothing can be read.
    pub(crate) fails_reads: bool,
}

/// One write that was not synced, piece by piece.
#[derive(Debug, Clone)]
struct Dirty {
    at: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
struct File {
    name: SegmentName,
    /// As a process sees it.
    cached: Vec<u8>,
    /// As it is after a power cut, if nothing of `dirty` has reached it.
    platter: Vec<u8>,
    dirty: Vec<Dirty>,
    /// Whether a process finds it, and whether it is found after a power cut.
    is_listed: bool,
    is_listed_on_platter: bool,
}

impl File {
    fn new(name: SegmentName) -> Self {
        let (cached, platter, dirty) = Default::default();
        Self { name, cached, platter, dirty, is_listed: true, is_listed_on_platter: false }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[at..end].copy_from_slice(bytes);
        self.dirty.push(Dirty { at, bytes: bytes.to_vec() });
    }

    /// What an earlier sync has lost stays lost: only what is dirty is written.
    fn sync(&mut self) {
        self.platter.resize(self.cached.len(), 0);
        for Dirty { at, bytes } in std::mem::take(&mut self.dirty) {
            self.platter[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// Chance decides what of each sector has reached the platter; the rest never will.
    fn lose_dirty(&mut self, random: &mut Random) {
        if self.platter.len() < self.cached.len() && random.one_in(2) {
            self.platter.resize(self.cached.len(), 0);
        }
        let ends = self.dirty.iter().map(|dirty| dirty.at + dirty.bytes.len());
        let Some(end) = ends.max() else { return };
        // Chance favours a side, or a long batch would hardly ever survive as a whole.
        let bias = random.below(5);
        for sector in 0..end.div_ceil(SECTOR) {
            let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.cached.len()));
            let reaches =
                self.dirty.iter().filter(|dirty| dirty.at < to && dirty.at + dirty.bytes.len() > from).count();
            if reaches == 0 || random.below(4) >= bias {
                continue;
            }
            let writes = 1 + random.below(reaches);
            let cut = if random.one_in(4) { from + random.below(to - from + 1) } else { to };
            self.store_sector(from, cut, to, writes);
        }
        self.dirty.clear();
    }

    /// The first so many writes to a sector reach the platter, up to `cut`.
    fn store_sector(&mut self, from: usize, cut: usize, to: usize, writes: usize) {
        if self.platter.len() < to {
            self.platter.resize(to, 0);
        }
        let touching = self.dirty.iter().filter(|dirty| dirty.at < to && dirty.at + dirty.bytes.len() > from);
        for dirty in touching.take(writes) {
            let (start, end) = (dirty.at.max(from), (dirty.at + dirty.bytes.len()).min(cut));
            if start < end {
                self.platter[start..end].copy_from_slice(&dirty.bytes[start - dirty.at..end - dirty.at]);
            }
        }
    }
}

/// The files of all shards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    /// Names the data directory.
    pub(crate) identity: u64,
    pub(crate) faults: Faults,
    /// The flaw of a disk that says "synced" as soon as something is written.
    pub(crate) lies: bool,
}

impl Disk {
    /// Carries a command out, or fails at it.
    pub(crate) fn carry_out(&mut self, command: Command, random: &mut Random) -> Completed {
        match command {
            Command::Create { segment, header, preallocate } => {
                Completed::Created(self.create(segment, &header, preallocate, random))
            }
            Command::Write { segment, at, bytes, sync } => {
                let result = self.write(segment, at, &bytes, random);
                let result = result.and_then(|()| if sync { self.sync(segment, random) } else { Ok(()) });
                Completed::Written(result, bytes)
            }
            Command::Sync { segment } => Completed::Synced(self.sync(segment, random)),
            Command::Remove { segment } => Completed::Removed(self.remove(segment)),
        }
    }

    /// In how many pieces a command may be cut off.
    pub(crate) fn pieces(command: &Command) -> usize {
        match command {
            Command::Create { header, .. } => header.len() + 4,
            Command::Write { bytes, .. } => bytes.len() + 1,
            Command::Sync { .. } => 1,
            Command::Remove { .. } => 2,
        }
    }

    /// The process, or the machine, dies when a command has come so far.
    pub(crate) fn cut_off(&mut self, command: &Command, pieces: usize) {
        match command {
            _ if pieces == 0 => {}
            Command::Create { segment, header, preallocate } => {
                self.files.push(File::new(*segment));
                let file = self.file(*segment).expect("made just now");
                if pieces > 1 {
                    file.cached.resize(*preallocate as usize, 0);
                    file.write(0, &header[..(pieces - 2).min(header.len())]);
                }
                if pieces > header.len() + 2 {
                    file.sync();
                }
            }
            Command::Write { segment, at, bytes, .. } => {
                if let Some(file) = self.file(*segment) {
                    file.write(*at as usize, &bytes[..pieces.min(bytes.len())]);
                }
            }
            Command::Sync { .. } => {}
            Command::Remove { segment } => {
                let _ = self.remove(*segment);
            }
        }
    }

    /// What is left for whoever starts next.
    pub(crate) fn crash(&mut self, how: Crash, random: &mut Random) {
        if how == Crash::PowerCut {
            for file in &mut self.files {
                file.lose_dirty(random);
                // A directory that was not synced shows what it showed before, or not.
                if file.is_listed != file.is_listed_on_platter && random.one_in(2) {
                    file.is_listed_on_platter = file.is_listed;
                }
                file.is_listed = file.is_listed_on_platter;
                file.cached.clone_from(&file.platter);
            }
        }
        self.files.retain(|file| file.is_listed || file.is_listed_on_platter);
    }

    fn create(&mut self, name: SegmentName, header: &[u8], room: u64, random: &mut Random) -> Result<(), Failure> {
        self.refuse_changes("create", name)?;
        if self.file(name).is_some() {
            return Err(failure("create, since it exists,", name, false));
        }
        if self.faults.is_full {
            if random.one_in(2) {
                self.files.push(File::new(name));
            }
            return Err(failure("allocate", name, true));
        }
        self.files.push(File::new(name));
        self.file(name).expect("made just now").cached.resize(room as usize, 0);
        self.write(name, 0, header, random)?;
        self.sync(name, random)?;
        for file in self.files.iter_mut().filter(|file| file.name.shard == name.shard) {
            file.is_listed_on_platter = file.is_listed;
        }
        self.files.retain(|file| file.is_listed);
        Ok(())
    }

    fn write(&mut self, name: SegmentName, at: u64, bytes: &[u8], random: &mut Random) -> Result<(), Failure> {
        self.refuse_changes("write", name)?;
        let (is_full, fails) = (self.faults.is_full, self.faults.fails_writes);
        let written = if fails || (is_full && random.one_in(2)) { random.below(bytes.len() + 1) } else { bytes.len() };
        self.file(name).expect("only what was created is written to").write(at as usize, &bytes[..written]);
        if fails || written < bytes.len() { Err(failure("write", name, is_full)) } else { Ok(()) }
    }

    fn sync(&mut self, name: SegmentName, random: &mut Random) -> Result<(), Failure> {
        let (fails, lies) = (self.faults.fails_syncs, self.lies);
        let file = self.file(name).expect("only what was created is synced");
        if fails {
            file.lose_dirty(random);
            return Err(failure("sync", name, false));
        }
        if !lies {
            file.sync();
        }
        Ok(())
    }

    fn remove(&mut self, name: SegmentName) -> Result<(), Failure> {
        self.refuse_changes("remove", name)?;
        if let Some(file) = self.file(name) {
            file.is_listed = false;
        }
        Ok(())
    }

    fn refuse_changes(&self, what: &str, name: SegmentName) -> Result<(), Failure> {
        if self.faults.is_read_only { Err(failure(what, name, false)) } else { Ok(()) }
    }

    fn file(&mut self, name: SegmentName) -> Option<&mut File> {
        self.files.iter_mut().find(|file| file.name == name && file.is_listed)
    }

    fn listed(&self, name: SegmentName) -> io::Result<&File> {
        let found = self.files.iter().find(|file| file.name == name && file.is_listed);
        found.filter(|_| !self.faults.fails_reads).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The bytes of a file, as the page cache shows them; fewer where it ends.
    pub(crate) fn read_at(&self, name: SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let cached = &self.listed(name)?.cached;
        let start = (at as usize).min(cached.len());
        Ok(cached[start..(start + length).min(cached.len())].to_vec())
    }

    /// The segments of a shard, in no order.
    pub(crate) fn segments_of(&self, shard: usize) -> Vec<SegmentName> {
        let of_shard = self.files.iter().filter(|file| file.is_listed && usize::from(file.name.shard) == shard);
        of_shard.map(|file| file.name).collect()
    }
}

impl Files for Disk {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn segments(&self, shard: u8) -> io::Result<Vec<SegmentName>> {
        Ok(self.segments_of(shard.into()))
    }

    fn length(&self, segment: &SegmentName) -> io::Result<u64> {
        Ok(self.listed(*segment)?.cached.len() as u64)
    }

    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>> {
        self.read_at(*segment, at, length)
    }
}

fn failure(what: &str, name: SegmentName, is_full: bool) -> Failure {
    Failure { what: format!("{what} {name}"), is_full }
}
