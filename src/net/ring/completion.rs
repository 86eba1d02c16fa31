//! What comes back from the ring.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;
use rustix::io::Errno;

use super::Ring;
use super::files::FileDone;

/// What a submission was, in the top byte of its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Only failures would be reported, and nobody acts on them.
    Ignored,
    Accept,
    Receive,
    Send,
    /// Polls the eventfd.
    Watch,
    /// A MSG_RING of ours to a peer.
    Wake,
    /// A MSG_RING of a peer to us.
    Woken,
    /// Part of a file operation.
    File,
    /// The sync behind the last piece of a write.
    LinkedSync,
    /// Polls a socket that is not received from, for its end.
    Hangup,
}

/// The user data of a submission: its kind and an index.
#[derive(Clone, Copy)]
pub(super) struct Tag(pub(super) u64);

impl Tag {
    const KIND_SHIFT: u32 = 56;

    pub(super) fn new(kind: Kind, index: u32) -> Self {
        Self((kind as u64) << Self::KIND_SHIFT | u64::from(index))
    }

    fn kind(self) -> Kind {
        match self.0 >> Self::KIND_SHIFT {
            0 => Kind::Ignored,
            1 => Kind::Accept,
            2 => Kind::Receive,
            3 => Kind::Send,
            4 => Kind::Watch,
            5 => Kind::Wake,
            6 => Kind::Woken,
            7 => Kind::File,
            8 => Kind::LinkedSync,
            9 => Kind::Hangup,
            other => unreachable!("a completion of kind {other} that this ring never submitted"),
        }
    }

    fn index(self) -> u32 {
        self.0 as u32
    }
}

/// Received bytes in a provided buffer, to be given back with [`Ring::recycle`].
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(super) buffer: u16,
    pub(super) length: usize,
}

/// Why a receive delivered no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer has sent everything it will send.
    Fin,
    /// The receive was cancelled.
    Cancelled,
    /// All provided buffers are in use; to be armed again once some are back.
    NoBuffers,
    /// The connection is broken.
    Failed(Errno),
}

/// One thing that has happened. `armed` tells whether the operation goes on by itself.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A connection arrived at listener `slot`, or accepting failed.
    Accepted { slot: u32, result: Result<OwnedFd, Errno>, armed: bool },
    /// Bytes arrived, or the end of them.
    Received { slot: u32, result: Result<Chunk, Ended>, armed: bool },
    /// The kernel took a piece of a long output, and the next one is on its way.
    Progress { slot: u32 },
    /// The output is sent, or broke off; the buffer comes back either way.
    Sent { slot: u32, buffer: Vec<u8>, result: Result<(), Errno> },
    /// The peer has ended, or the watch for that is over without it: [`Errno::CANCELED`], or a failure.
    HungUp { slot: u32, result: Result<(), Errno> },
    /// Somebody made the watched eventfd readable.
    Woken { armed: bool },
    /// `peer` could not be woken through its ring.
    WakeFailed { peer: u32 },
    /// The file operation that was given this token is over.
    File { token: u32, done: FileDone },
}

impl Ring {
    /// The next thing that has happened, if any; never waits.
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring.completion().next()?;
            if let Some(completion) = self.interpret(&entry) {
                return Some(completion);
            }
        }
    }

    fn interpret(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let tag = Tag(entry.user_data());
        let armed = cqueue::more(entry.flags());
        let result = match u32::try_from(entry.result()) {
            Ok(value) => Ok(value),
            Err(_) => Err(Errno::from_io_error(&io::Error::from_raw_os_error(-entry.result())).unwrap_or(Errno::IO)),
        };
        match tag.kind() {
            Kind::Ignored | Kind::Woken => None,
            Kind::Accept => {
                // SAFETY: a non-negative result of an accept is a descriptor that the kernel has
                // just opened for us, and this completion is the only one to name it.
                let result = result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) });
                Some(Completion::Accepted { slot: tag.index(), result, armed })
            }
            Kind::Receive => Some(self.received(tag.index(), result, entry.flags(), armed)),
            Kind::Send => self.sent(tag.index(), result),
            Kind::Watch => Some(Completion::Woken { armed }),
            Kind::Hangup => Some(Completion::HungUp { slot: tag.index(), result: result.map(|_| ()) }),
            Kind::Wake => Some(Completion::WakeFailed { peer: tag.index() }),
            Kind::File => self.on_file(tag.index(), result),
            Kind::LinkedSync => self.on_linked_sync(tag.index(), result),
        }
    }

    fn received(&mut self, slot: u32, result: Result<u32, Errno>, flags: u32, armed: bool) -> Completion {
        if !armed {
            self.receiving -= 1;
        }
        let chunk = cqueue::buffer_select(flags)
            .map(|buffer| Chunk { buffer, length: *result.as_ref().unwrap_or(&0) as usize });
        let result = match (result, chunk) {
            (Ok(1..), Some(chunk)) => Ok(chunk),
            (result, chunk) => {
                // A buffer that came with no bytes goes straight back.
                if let Some(chunk) = chunk {
                    self.recycle(chunk);
                }
                Err(match result {
                    Ok(_) => Ended::Fin,
                    Err(Errno::CANCELED) => Ended::Cancelled,
                    Err(Errno::NOBUFS) => Ended::NoBuffers,
                    Err(errno) => Ended::Failed(errno),
                })
            }
        };
        Completion::Received { slot, result, armed }
    }

    fn sent(&mut self, index: u32, result: Result<u32, Errno>) -> Option<Completion> {
        let sending = self.sends.at(index);
        let slot = sending.slot;
        let result = match result {
            Ok(sent) => {
                sending.sent += sent as usize;
                if sent > 0 && sending.sent < sending.buffer.len() {
                    self.send_rest(index);
                    return Some(Completion::Progress { slot });
                }
                if sending.sent < sending.buffer.len() { Err(Errno::PIPE) } else { Ok(()) }
            }
            Err(Errno::INTR | Errno::AGAIN) => {
                self.send_rest(index);
                return None;
            }
            Err(errno) => Err(errno),
        };
        let buffer = self.sends.remove(index).buffer;
        Some(Completion::Sent { slot, buffer, result })
    }
}
