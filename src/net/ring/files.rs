//! Files: opened, written, synced, read and removed by the same ring that carries the sockets.
//!
//! An operation owns all it needs until it is over: its buffer or its name, and a share of the descriptor. So a file stays open while anything is
//! in flight on it, and whoever gives up the last share has it closed.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{Probe, opcode, squeue};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Ring;
use super::completion::{Completion, Kind, Tag};

/// An open file or directory, shared by whoever keeps it and the operations in flight.
pub(crate) type SharedFile = Rc<OwnedFd>;

/// A longer write is made in pieces: the kernel copies a piece while the shard waits.
const WRITE_BYTES_MAX: usize = 1024 * 1024;
/// Whoever runs the broker may read its files; nobody else.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// For reading; it must exist.
    Existing,
    /// For reading and writing; it must not exist.
    New,
}

/// What became of a file operation.
#[derive(Debug)]
pub(crate) enum FileDone {
    Opened(Result<OwnedFd, Errno>),
    /// All of the buffer is written, and synced where that was asked for; or the error of the first that failed.
    Written(Result<(), Errno>, Vec<u8>),
    /// As many bytes as were asked for, or fewer at the end of the file.
    Read(Result<Vec<u8>, Errno>),
    Synced(Result<(), Errno>),
    Preallocated(Result<(), Errno>),
    Removed(Result<(), Errno>),
}

/// An operation in flight.
pub(super) struct Operation {
    token: u32,
    what: What,
}

enum What {
    Open {
        directory: SharedFile,
        #[expect(dead_code, reason = "the kernel reads it")]
        name: CString,
    },
    Write {
        file: SharedFile,
        at: u64,
        buffer: Vec<u8>,
        written: usize,
        sync: Sync,
    },
    Read {
        file: SharedFile,
        at: u64,
        buffer: Vec<u8>,
        read: usize,
    },
    Sync {
        file: SharedFile,
    },
    Preallocate {
        file: SharedFile,
    },
    Remove {
        directory: SharedFile,
        #[expect(dead_code, reason = "the kernel reads it")]
        name: CString,
    },
}

/// What follows a write.
///
/// ```text
/// Wanted ──the last piece──▶ Linked ──the kernel syncs by itself──▶ over
///    ▲ │                        └──the piece was short: cancelled──┐
///    │ └──all was written otherwise──▶ Last ──▶ over               │
///    └─────────────────────────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    No,
    Wanted,
    /// The sync stands in the queue behind the piece. Both have a result in any case; they may come in either order.
    Linked {
        of_piece: Option<Result<u32, Errno>>,
        of_sync: Option<Result<u32, Errno>>,
    },
    /// All is written; the sync is under way by itself.
    Last,
}

impl Ring {
    /// Whether the kernel offers all that is needed for files.
    pub(crate) fn has_files(&self) -> bool {
        let mut probe = Probe::new();
        let needed = [
            opcode::OpenAt::CODE,
            opcode::Fallocate::CODE,
            opcode::Write::CODE,
            opcode::Fsync::CODE,
            opcode::Read::CODE,
            opcode::UnlinkAt::CODE,
            opcode::Close::CODE,
        ];
        self.uring.submitter().register_probe(&mut probe).is_ok() && needed.iter().all(|&code| probe.is_supported(code))
    }

    /// Opens `name` in `directory`.
    pub(crate) fn open_file(&mut self, token: u32, directory: &SharedFile, name: CString, opening: Opening) {
        let flags = match opening {
            Opening::Existing => OFlags::RDONLY,
            Opening::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let flags = (flags | OFlags::CLOEXEC).bits() as i32;
        let entry = opcode::OpenAt::new(Fd(directory.as_raw_fd()), name.as_ptr()).flags(flags).mode(MODE.bits());
        self.begin(token, What::Open { directory: Rc::clone(directory), name }, entry.build());
    }

    /// Makes sure of space for the first `bytes` of a file, which read as zeros where nothing was written.
    pub(crate) fn preallocate_file(&mut self, token: u32, file: &SharedFile, bytes: u64) {
        let entry = opcode::Fallocate::new(Fd(file.as_raw_fd()), bytes).build();
        self.begin(token, What::Preallocate { file: Rc::clone(file) }, entry);
    }

    /// Writes all of `buffer` at the offset `at`, and then syncs the file's data if `sync`.
    pub(crate) fn write_file(&mut self, token: u32, file: &SharedFile, at: u64, buffer: Vec<u8>, sync: bool) {
        let sync = if sync { Sync::Wanted } else { Sync::No };
        let what = What::Write { file: Rc::clone(file), at, buffer, written: 0, sync };
        let index = self.files.insert(Operation { token, what });
        self.write_rest(index);
    }

    /// Syncs the data of a file, and of the rest what reading the data needs.
    pub(crate) fn sync_file(&mut self, token: u32, file: &SharedFile) {
        let entry = data_sync(file);
        self.begin(token, What::Sync { file: Rc::clone(file) }, entry);
    }

    /// Syncs a directory: files that were created in it are there after a loss of power.
    pub(crate) fn sync_directory(&mut self, token: u32, directory: &SharedFile) {
        let entry = opcode::Fsync::new(Fd(directory.as_raw_fd())).build();
        self.begin(token, What::Sync { file: Rc::clone(directory) }, entry);
    }

    /// Reads `length` bytes at the offset `at`.
    pub(crate) fn read_file(&mut self, token: u32, file: &SharedFile, at: u64, length: usize) {
        let what = What::Read { file: Rc::clone(file), at, buffer: vec![0; length], read: 0 };
        let index = self.files.insert(Operation { token, what });
        self.read_rest(index);
    }

    /// Removes `name` from `directory`.
    pub(crate) fn remove_file(&mut self, token: u32, directory: &SharedFile, name: CString) {
        let entry = opcode::UnlinkAt::new(Fd(directory.as_raw_fd()), name.as_ptr()).build();
        self.begin(token, What::Remove { directory: Rc::clone(directory), name }, entry);
    }

    /// Gives up a share of a file. The last one closes it, on a thread of the kernel's: where the file was removed, that frees
    /// its space, which takes a while.
    pub(crate) fn close_file(&mut self, file: SharedFile) {
        if let Some(descriptor) = Rc::into_inner(file) {
            let entry = opcode::Close::new(Fd(descriptor.into_raw_fd())).build();
            self.push_silent(entry.flags(squeue::Flags::ASYNC));
        }
    }

    fn begin(&mut self, token: u32, what: What, entry: squeue::Entry) {
        let index = self.files.insert(Operation { token, what });
        self.push(entry.user_data(Tag::new(Kind::File, index).0));
    }

    fn write_rest(&mut self, index: u32) {
        let can_link = self.has_room_for(2);
        let What::Write { file, at, buffer, written, sync } = &mut self.files.at(index).what else {
            unreachable!("only a write is gone on with as one")
        };
        let rest = &buffer[*written..];
        let length = rest.len().min(WRITE_BYTES_MAX);
        let piece = opcode::Write::new(Fd(file.as_raw_fd()), rest.as_ptr(), length as u32)
            .offset(*at + *written as u64)
            .build();
        let piece = piece.user_data(Tag::new(Kind::File, index).0);
        if *sync != Sync::Wanted || length < rest.len() || !can_link {
            return self.push(piece);
        }
        *sync = Sync::Linked { of_piece: None, of_sync: None };
        // The kernel begins the sync when the write is over, and cancels it when that has not written all.
        let linked = data_sync(file).user_data(Tag::new(Kind::LinkedSync, index).0);
        self.push(piece.flags(squeue::Flags::IO_LINK));
        self.push(linked);
    }

    fn read_rest(&mut self, index: u32) {
        let What::Read { file, at, buffer, read } = &mut self.files.at(index).what else {
            unreachable!("only a read is gone on with as one")
        };
        let rest = &mut buffer[*read..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Read::new(Fd(file.as_raw_fd()), rest.as_mut_ptr(), length).offset(*at + *read as u64);
        self.push(entry.build().user_data(Tag::new(Kind::File, index).0));
    }

    /// Part of an operation is over; `None` while it goes on.
    pub(super) fn on_file(&mut self, index: u32, result: Result<u32, Errno>) -> Option<Completion> {
        match &mut self.files.at(index).what {
            What::Write { sync: Sync::Linked { of_piece, .. }, .. } => {
                *of_piece = Some(result);
                self.on_linked(index)
            }
            What::Write { sync: Sync::Last, .. } => Some(self.end(index, result)),
            What::Write { .. } => self.on_piece(index, result),
            What::Read { .. } => self.on_read(index, result),
            _ => Some(self.end(index, result)),
        }
    }

    /// A sync that was linked to a write is over, or was cancelled together with it.
    pub(super) fn on_linked_sync(&mut self, index: u32, result: Result<u32, Errno>) -> Option<Completion> {
        let What::Write { sync: Sync::Linked { of_sync, .. }, .. } = &mut self.files.at(index).what else {
            unreachable!("a write waits for the sync that is linked to it")
        };
        *of_sync = Some(result);
        self.on_linked(index)
    }

    /// Goes on with a write once both the piece and the sync behind it have a result.
    fn on_linked(&mut self, index: u32) -> Option<Completion> {
        let What::Write { buffer, written, sync, .. } = &mut self.files.at(index).what else {
            unreachable!("only a write has a sync linked to it")
        };
        let Sync::Linked { of_piece: Some(of_piece), of_sync: Some(of_sync) } = *sync else { return None };
        *sync = Sync::Wanted;
        match of_piece {
            Ok(length) if *written + length as usize == buffer.len() => Some(self.end(index, of_sync)),
            short_or_failed => self.on_piece(index, short_or_failed),
        }
    }

    /// A piece is written that no sync was linked to, or failed.
    fn on_piece(&mut self, index: u32, result: Result<u32, Errno>) -> Option<Completion> {
        let What::Write { file, buffer, written, sync, .. } = &mut self.files.at(index).what else {
            unreachable!("only a write has pieces")
        };
        match result {
            Ok(0) if *written < buffer.len() => return Some(self.end(index, Err(Errno::IO))),
            Ok(length) => *written += length as usize,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Some(self.end(index, Err(errno))),
        }
        if *written < buffer.len() {
            self.write_rest(index);
        } else if *sync == Sync::Wanted {
            *sync = Sync::Last;
            let entry = data_sync(file).user_data(Tag::new(Kind::File, index).0);
            self.push(entry);
        } else {
            return Some(self.end(index, Ok(0)));
        }
        None
    }

    fn on_read(&mut self, index: u32, result: Result<u32, Errno>) -> Option<Completion> {
        let What::Read { buffer, read, .. } = &mut self.files.at(index).what else {
            unreachable!("only a read is read")
        };
        match result {
            Ok(0) => buffer.truncate(*read), // The end of the file.
            Ok(length) => *read += length as usize,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Some(self.end(index, Err(errno))),
        }
        if *read < buffer.len() {
            self.read_rest(index);
            return None;
        }
        Some(self.end(index, Ok(0)))
    }

    /// The last completion of an operation is here.
    fn end(&mut self, index: u32, result: Result<u32, Errno>) -> Completion {
        let Operation { token, what } = self.files.remove(index);
        let (file, done) = match what {
            What::Open { directory, .. } => {
                // SAFETY: a non-negative result of an openat is a descriptor that the kernel has just opened for us, and this
                // completion is the only one to name it.
                let opened = result.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor as i32) });
                (directory, FileDone::Opened(opened))
            }
            What::Write { file, buffer, .. } => (file, FileDone::Written(result.map(drop), buffer)),
            What::Read { file, buffer, .. } => (file, FileDone::Read(result.map(|_| buffer))),
            What::Sync { file } => (file, FileDone::Synced(result.map(drop))),
            What::Preallocate { file } => (file, FileDone::Preallocated(result.map(drop))),
            What::Remove { directory, .. } => (directory, FileDone::Removed(result.map(drop))),
        };
        self.close_file(file);
        Completion::File { token, done }
    }
}

fn data_sync(file: &SharedFile) -> squeue::Entry {
    opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build()
}
