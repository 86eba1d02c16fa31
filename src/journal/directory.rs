//! The data directory: where the journals of all shards lie, and who may use them.
//!
//! ```text
//! willowmq-data/
//!   LOCK                      held by the process that uses the directory; holds its id
//!   meta.toml                 what the directory is: format, identity, shards, seed, generation
//!   generation-3/
//!     shard-000/…wal          the segments of shard 0
//!     shard-001/…wal
//!   repair-1764072000/        what a repair has changed, as it was before
//! ```
//!
//! A *generation* is one set of journals. Another number of shards needs another set: it is written beside the old one, and
//! `meta.toml`, which is replaced as a whole, then names it. So either set is complete whenever the power fails.
//!
//! `LOCK` is a lock of the system, not a mere file, so it is free as soon as its process is gone.

use super::recovery::Files;
use super::segment::{FORMAT_VERSION, SegmentName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "LOCK";
/// What a data directory is; where this file is, there are journals.
pub const META_FILE: &str = "meta.toml";
const META_TEMPORARY: &str = "meta.toml.new";
const META_BYTES_MAX: u64 = 64 * 1024;
const GENERATION_PREFIX: &str = "generation-";
/// The data are the clients', so they are their owner's alone.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What the directory is to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing, alone.
    Write,
    /// Reading, alone: nothing changes meanwhile, so what is found is so.
    Read,
    /// Reading while a broker may be writing. Segments may go and ends may be torn while they are looked at, so what is
    /// found may be out of date, and damage may be none. Never to be used before a change.
    ReadUnlocked,
}

/// What the directory says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Tells this directory from all others; segments name it.
    pub identity: u64,
    /// Number of shards, and so of journals.
    pub shards: u8,
    /// Seed of the hash by which Sessions and topics find their home.
    pub hash_seed: u64,
    /// Which set of journals counts.
    pub generation: u32,
}

/// An open data directory; the lock goes with it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    meta: Meta,
    access: Access,
    /// Held, not used.
    _lock: Option<File>,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub struct DirectoryError {
    /// The directory, or the file in it.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: DirectoryProblem,
}

/// What is wrong with a data directory.
#[derive(Debug)]
pub enum DirectoryProblem {
    /// There is none, and it cannot be made.
    CannotCreate(io::Error),
    /// It cannot be written to.
    NotWritable(io::Error),
    /// Something in it cannot be read.
    Unreadable(io::Error),
    /// There is none, or nothing in it, and it is only to be read.
    NoData,
    /// Another process uses it; its id, if it is told.
    InUse(Option<u32>),
    /// It is of a newer version of the format.
    Newer(u32),
    /// There are journals, but nothing says what they are.
    MetaMissing,
    /// What should say what the journals are cannot be understood.
    MetaDamaged(String),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            DirectoryProblem::CannotCreate(error) => write!(f, "cannot create data directory {path}: {error}"),
            DirectoryProblem::NotWritable(error) => write!(f, "data directory: cannot write {path}: {error}"),
            DirectoryProblem::Unreadable(error) => write!(f, "data directory: cannot read {path}: {error}"),
            DirectoryProblem::NoData => write!(f, "{path} holds no data of willowmq"),
            DirectoryProblem::InUse(Some(pid)) => write!(f, "data directory {path} is in use by process {pid}"),
            DirectoryProblem::InUse(None) => write!(f, "data directory {path} is in use by another process"),
            DirectoryProblem::Newer(version) => write!(
                f,
                "{path} has format version {version}, this program reads up to {FORMAT_VERSION}: start a newer willowmq"
            ),
            DirectoryProblem::MetaMissing => write!(
                f,
                "{path} is missing although there are journals beside it: without it they cannot be told from those of \
                 another broker. Put it back from a copy; the data are not touched"
            ),
            DirectoryProblem::MetaDamaged(what) => {
                write!(f, "{path} is damaged: {what}. Put it back from a copy; the data are not touched")
            }
        }
    }
}

impl std::error::Error for DirectoryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            DirectoryProblem::CannotCreate(error)
            | DirectoryProblem::NotWritable(error)
            | DirectoryProblem::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

impl DirectoryProblem {
    fn at(self, path: impl Into<PathBuf>) -> DirectoryError {
        DirectoryError { path: path.into(), problem: self }
    }
}

impl Directory {
    /// Opens a data directory for a broker and makes what is missing; a new one is for `shards` shards.
    ///
    /// Where it is for another number of shards, [`Directory::meta`] says so, and the owner moves to a new generation.
    pub fn open(path: &Path, shards: u8) -> Result<Self, DirectoryError> {
        let mut folders = DirBuilder::new();
        folders.recursive(true).mode(FOLDER_MODE);
        folders.create(path).map_err(|error| DirectoryProblem::CannotCreate(error).at(path))?;
        let lock = lock(path, Access::Write)?;
        let meta = match read_meta(path)? {
            Some(meta) => meta,
            None => {
                require_no_segments(path)?;
                let [identity, hash_seed] = random().map_err(|error| DirectoryProblem::Unreadable(error).at(path))?;
                let meta = Meta { identity, hash_seed, shards, generation: 0 };
                write_meta(path, &meta)?;
                meta
            }
        };
        let directory = Self { path: path.to_owned(), meta, access: Access::Write, _lock: lock };
        directory.remove_other_generations();
        directory.make_folders(meta.generation, meta.shards)?;
        Ok(directory)
    }

    /// Opens a data directory that exists, for a tool.
    pub fn open_existing(path: &Path, access: Access) -> Result<Self, DirectoryError> {
        if !path.is_dir() {
            return Err(DirectoryProblem::NoData.at(path));
        }
        let lock = lock(path, access)?;
        let Some(meta) = read_meta(path)? else {
            require_no_segments(path)?;
            return Err(DirectoryProblem::NoData.at(path));
        };
        Ok(Self { path: path.to_owned(), meta, access, _lock: lock })
    }

    /// What the directory says of itself.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The folder with the journals of a generation: the paths that [`SegmentName`] gives are below it.
    pub fn generation_path(&self, generation: u32) -> PathBuf {
        self.path.join(format!("{GENERATION_PREFIX}{generation}"))
    }

    /// The file of a segment of this generation.
    pub fn segment_path(&self, segment: &SegmentName) -> PathBuf {
        self.generation_path(self.meta.generation).join(segment.to_string())
    }

    /// Makes folders for the journals of another number of shards, beside those there are, and answers their generation.
    pub fn begin_generation(&self, shards: u8) -> Result<u32, DirectoryError> {
        let taken = self.generations().into_iter().max().unwrap_or(0);
        let generation = taken.max(self.meta.generation) + 1;
        self.make_folders(generation, shards)?;
        Ok(generation)
    }

    /// From now on, `generation`, whose journals are complete and synced, is the one that counts.
    ///
    /// The old one stays until [`Directory::remove_other_generations`].
    pub fn switch(&mut self, generation: u32, shards: u8) -> Result<(), DirectoryError> {
        let meta = Meta { generation, shards, ..self.meta };
        write_meta(&self.path, &meta)?;
        self.meta = meta;
        Ok(())
    }

    /// Deletes the journals of generations other than this one: older ones, and those of a move that was cut short. Where that fails it is tried again at the next start.
    pub fn remove_other_generations(&self) {
        for generation in self.generations().into_iter().filter(|generation| *generation != self.meta.generation) {
            let _ = fs::remove_dir_all(self.generation_path(generation));
        }
    }

    fn generations(&self) -> Vec<u32> {
        generations(&self.path)
    }

    fn make_folders(&self, generation: u32, shards: u8) -> Result<(), DirectoryError> {
        let folder = self.generation_path(generation);
        for shard in 0..shards {
            make_folder(&folder.join(SegmentName::folder(shard)))?;
        }
        sync_folder(&folder)?;
        sync_folder(&self.path)
    }
}

impl Files for Directory {
    fn identity(&self) -> u64 {
        self.meta.identity
    }

    fn segments(&self, shard: u8) -> io::Result<Vec<SegmentName>> {
        let folder = self.generation_path(self.meta.generation).join(SegmentName::folder(shard));
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut segments = Vec::new();
        for entry in entries {
            let file = entry?.file_name();
            segments.extend(file.to_str().and_then(|file| SegmentName::parse_file(shard, file)));
        }
        Ok(segments)
    }

    fn length(&self, segment: &SegmentName) -> io::Result<u64> {
        fs::metadata(self.segment_path(segment)).map(|metadata| metadata.len())
    }

    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.segment_path(segment))?;
        let left = file.metadata()?.len().saturating_sub(at);
        let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], at + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn path(&self, segment: &SegmentName) -> String {
        self.segment_path(segment).display().to_string()
    }
}

/// Takes the lock, unless it is not needed.
fn lock(folder: &Path, access: Access) -> Result<Option<File>, DirectoryError> {
    let path = folder.join(LOCK);
    let opened = match access {
        Access::ReadUnlocked => return Ok(None),
        Access::Write => options().read(true).write(true).create(true).open(&path),
        Access::Read => File::open(&path),
    };
    let mut file = match opened {
        Ok(file) => file,
        // Nobody writes what only a broker makes, and a copy on read-only storage is nobody's.
        Err(error) if access == Access::Read && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if access == Access::Read => return Err(DirectoryProblem::Unreadable(error).at(path)),
        Err(error) => return Err(DirectoryProblem::NotWritable(error).at(path)),
    };
    match file.try_lock() {
        Ok(()) if access == Access::Write => {
            sign(&mut file).map_err(|error| DirectoryProblem::NotWritable(error).at(path))?;
            Ok(Some(file))
        }
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(DirectoryProblem::InUse(signature(&mut file)).at(folder)),
        Err(TryLockError::Error(error)) => Err(DirectoryProblem::NotWritable(error).at(path)),
    }
}

/// Writes into the lock's file who holds it.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn signature(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The file; numbers of 64 bits are texts, as TOML has none without a sign.
#[derive(Serialize, Deserialize)]
struct MetaFile {
    version: u32,
    identity: String,
    shards: u8,
    hash_seed: String,
    generation: u32,
    checksum: String,
}

/// Only the version; what else there is depends on it.
#[derive(Deserialize)]
struct MetaVersion {
    version: u32,
}

impl From<&Meta> for MetaFile {
    fn from(meta: &Meta) -> Self {
        let Meta { identity, shards, hash_seed, generation } = *meta;
        let text = format!("{FORMAT_VERSION} {identity:016x} {shards} {hash_seed:016x} {generation}");
        Self {
            version: FORMAT_VERSION,
            identity: format!("{identity:016x}"),
            shards,
            hash_seed: format!("{hash_seed:016x}"),
            generation,
            checksum: format!("{:08x}", crc32c::crc32c(text.as_bytes())),
        }
    }
}

impl MetaFile {
    /// What it says, if it is as it was written.
    fn meta(&self) -> Option<Meta> {
        let identity = u64::from_str_radix(&self.identity, 16).ok()?;
        let hash_seed = u64::from_str_radix(&self.hash_seed, 16).ok()?;
        let meta = Meta { identity, hash_seed, shards: self.shards, generation: self.generation };
        let written = Self::from(&meta);
        (written.version == self.version && written.checksum == self.checksum).then_some(meta)
    }
}

/// What the directory says of itself; `None` if it says nothing.
fn read_meta(folder: &Path) -> Result<Option<Meta>, DirectoryError> {
    let path = folder.join(META_FILE);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(META_BYTES_MAX).read_to_string(&mut text));
    let damaged = |what: String| DirectoryProblem::MetaDamaged(what).at(&path);
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged("it is not text".to_owned())),
        Err(error) => return Err(DirectoryProblem::Unreadable(error).at(path)),
    }
    let MetaVersion { version } = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    if version > FORMAT_VERSION {
        return Err(DirectoryProblem::Newer(version).at(path));
    }
    let file: MetaFile = toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    file.meta().map(Some).ok_or_else(|| damaged("its checksum does not match".to_owned()))
}

/// Replaces what the directory says of itself: the old or the new is there whenever the power fails.
fn write_meta(folder: &Path, meta: &Meta) -> Result<(), DirectoryError> {
    let temporary = folder.join(META_TEMPORARY);
    let text = toml::to_string(&MetaFile::from(meta)).expect("numbers and texts can be written");
    let write = || {
        let mut file = options().write(true).create(true).truncate(true).open(&temporary)?;
        file.write_all(b"# Written by willowmq, and not to be edited.\n")?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(META_FILE))
    };
    write().map_err(|error| DirectoryProblem::NotWritable(error).at(&temporary))?;
    sync_folder(folder)
}

/// A directory that does not say what it is must be empty.
fn require_no_segments(folder: &Path) -> Result<(), DirectoryError> {
    let has_segments = |generation: u32| {
        let shards = subfolders(&folder.join(format!("{GENERATION_PREFIX}{generation}")));
        shards.iter().any(|shard| fs::read_dir(shard).is_ok_and(|mut entries| entries.next().is_some()))
    };
    if generations(folder).into_iter().any(has_segments) {
        return Err(DirectoryProblem::MetaMissing.at(folder.join(META_FILE)));
    }
    Ok(())
}

fn generations(folder: &Path) -> Vec<u32> {
    let numbers = subfolders(folder).into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(GENERATION_PREFIX)?.parse().ok()
    });
    numbers.collect()
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn make_folder(path: &Path) -> Result<(), DirectoryError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(|error| DirectoryProblem::NotWritable(error).at(path))
}

fn sync_folder(path: &Path) -> Result<(), DirectoryError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| DirectoryProblem::NotWritable(error).at(path))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Numbers that no other directory has.
fn random() -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let number = u128::from_le_bytes(bytes);
    Ok([number as u64, (number >> 64) as u64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A folder of its own for each test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("willowmq-directory-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).expect("a scratch folder");
            Self(path)
        }

        fn data(&self) -> PathBuf {
            self.0.join("data")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn segment(shard: u8) -> SegmentName {
        SegmentName { shard, start: 0, epoch: 0 }
    }

    fn message(result: Result<Directory, DirectoryError>) -> String {
        result.expect_err("not to be opened").to_string()
    }

    #[test]
    fn a_new_directory_says_the_same_when_it_is_opened_again() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new();
        let meta = Directory::open(&scratch.data(), 3).expect("a new directory").meta();
        assert_eq!((meta.shards, meta.generation), (3, 0));
        let mode = fs::metadata(scratch.data()).expect("the folder").permissions().mode();
        assert_eq!(mode & 0o777, FOLDER_MODE);
        let again = Directory::open(&scratch.data(), 8).expect("the directory again");
        assert_eq!(again.meta(), meta);
        assert_ne!(Directory::open(&scratch.0.join("other"), 3).expect("another").meta().identity, meta.identity);
    }

    #[test]
    fn a_directory_in_use_names_the_process() {
        let scratch = Scratch::new();
        let first = Directory::open(&scratch.data(), 1).expect("a new directory");
        let expected = format!("is in use by process {}", std::process::id());
        assert!(message(Directory::open(&scratch.data(), 1)).contains(&expected));
        assert!(message(Directory::open_existing(&scratch.data(), Access::Read)).contains(&expected));
        assert!(Directory::open_existing(&scratch.data(), Access::ReadUnlocked).is_ok());
        drop(first);
        assert!(Directory::open(&scratch.data(), 1).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_is_told() {
        let scratch = Scratch::new();
        fs::write(scratch.data(), b"a file").expect("a file");
        assert!(message(Directory::open(&scratch.data(), 1)).contains("cannot create data directory"));
        assert!(message(Directory::open(Path::new("/proc/willowmq"), 1)).contains("cannot create data directory"));
        let absent = scratch.0.join("absent");
        assert!(message(Directory::open_existing(&absent, Access::Read)).contains("holds no data"));
        assert!(!absent.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.data().join(LOCK)).expect("a folder where the lock should be");
        assert!(message(Directory::open(&scratch.data(), 1)).contains("cannot write"));
    }

    #[test]
    fn every_flipped_bit_of_the_numbers_in_the_meta_file_shows() {
        let scratch = Scratch::new();
        drop(Directory::open(&scratch.data(), 1).expect("a new directory"));
        let path = scratch.data().join(META_FILE);
        let sound = fs::read(&path).expect("the meta file");
        let comment = sound.iter().position(|byte| *byte == b'\n').expect("a comment") + 1;
        for index in comment..sound.len() - 1 {
            let mut damaged = sound.clone();
            damaged[index] ^= 1;
            fs::write(&path, &damaged).expect("a damaged meta file");
            let what = message(Directory::open(&scratch.data(), 1));
            assert!(what.contains("is damaged") || what.contains("format version"), "byte {index}: {what}");
        }
        fs::write(&path, b"").expect("an empty meta file");
        assert!(message(Directory::open(&scratch.data(), 1)).contains("is damaged"));
    }

    #[test]
    fn a_newer_directory_is_not_taken_for_damage() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.data()).expect("the folder");
        fs::write(scratch.data().join(META_FILE), b"version = 7\nwhatever = true\n").expect("a meta file");
        assert!(message(Directory::open(&scratch.data(), 1)).contains("format version 7"));
    }

    #[test]
    fn journals_without_a_meta_file_are_left_alone() {
        let scratch = Scratch::new();
        let directory = Directory::open(&scratch.data(), 1).expect("a new directory");
        fs::write(directory.segment_path(&segment(0)), b"something").expect("a segment");
        drop(directory);
        fs::remove_file(scratch.data().join(META_FILE)).expect("the meta file goes");
        assert!(message(Directory::open(&scratch.data(), 1)).contains("missing although there are journals"));
        assert!(message(Directory::open_existing(&scratch.data(), Access::Read)).contains("missing although"));
    }

    #[test]
    fn segments_are_found_and_read_and_other_files_are_not() {
        let scratch = Scratch::new();
        let directory = Directory::open(&scratch.data(), 2).expect("a new directory");
        let path = directory.segment_path(&segment(1));
        fs::write(&path, b"0123456789").expect("a segment");
        fs::write(path.with_file_name("notes.txt"), b"x").expect("another file");
        assert_eq!(directory.segments(0).expect("shard 0"), []);
        assert_eq!(directory.segments(1).expect("shard 1"), [segment(1)]);
        assert_eq!(directory.length(&segment(1)).expect("its length"), 10);
        assert_eq!(directory.read(&segment(1), 7, 100).expect("its end"), b"789");
        assert_eq!(directory.read(&segment(1), 70, 1).expect("nothing"), b"");
    }

    #[test]
    fn a_new_generation_counts_from_the_switch_on_and_the_old_one_goes_then() {
        let scratch = Scratch::new();
        let mut directory = Directory::open(&scratch.data(), 1).expect("a new directory");
        let old = directory.segment_path(&segment(0));
        fs::write(&old, b"old").expect("a segment");
        let generation = directory.begin_generation(4).expect("a new generation");
        assert_eq!(directory.segments(0).expect("the old journal"), [segment(0)]);
        directory.switch(generation, 4).expect("the switch");
        assert!(old.exists());
        assert_eq!(directory.segments(0).expect("the new journal"), []);
        drop(directory);
        let again = Directory::open(&scratch.data(), 4).expect("the directory again");
        assert_eq!((again.meta().generation, again.meta().shards), (generation, 4));
        assert!(!old.exists());
    }

    #[test]
    fn a_generation_that_was_never_switched_to_does_not_count() {
        let scratch = Scratch::new();
        let directory = Directory::open(&scratch.data(), 1).expect("a new directory");
        let first = directory.begin_generation(2).expect("a new generation");
        drop(directory);
        let directory = Directory::open(&scratch.data(), 1).expect("the directory again");
        assert_eq!(directory.meta().generation, 0);
        assert!(directory.begin_generation(2).is_ok(), "what is left of the first is in nobody's way: {first}");
    }
}
