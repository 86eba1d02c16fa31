//! The ring: an io_uring of its own for every shard, for its sockets and its [files].
//!
//! Safe methods queue what is to be done (accept, receive, send, close, wake another ring, write to a file) and
//! [`Ring::enter`] hands the queue to the kernel, once per turn, and waits if it is told to. What
//! comes back is taken with [`Ring::next_completion`]. Two rules make that safe:
//!
//! * whatever memory the kernel reads or writes belongs to the ring while it does: a buffer that is
//!   sent or written is moved in and comes back with its completion, and received bytes lie in the ring's own
//!   [provided buffers](buffers), so that an idle connection owns none;
//! * a ring is dropped only after everything in flight has ended; what has not ended is leaked.
//!
//! This folder is the only place of the crate with `unsafe`.
#![allow(unsafe_code)]

mod buffers;
mod completion;
mod files;
mod slab;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};
use rustix::io::Errno;

use buffers::Buffers;
pub(crate) use completion::{Chunk, Completion, Ended};
use completion::{Kind, Tag};
pub(crate) use files::{FileDone, Opening, SharedFile};
use slab::Slab;

/// Entries of the submission queue; when it is full it is submitted early.
const SUBMISSIONS: u32 = 2048;
/// Entries of the completion queue. Room for a burst; beyond it the kernel keeps a list, slower.
const COMPLETIONS: u32 = 16_384;
/// A longer output is sent in pieces of this size, so that a slow peer is seen to make progress.
const SEND_BYTES_MAX: usize = 256 * 1024;

/// `MSG_NOSIGNAL`: a peer that is gone is an error, not a SIGPIPE. `MSG_WAITALL`: the kernel
/// itself goes on after a short write, so one completion stands for the whole piece.
const SEND_FLAGS: i32 = (rustix::net::SendFlags::NOSIGNAL.bits() | MSG_WAITALL) as i32;
const MSG_WAITALL: u32 = rustix::net::RecvFlags::WAITALL.bits();
/// Accepted sockets stay blocking: io_uring would answer EAGAIN on a non-blocking one, not wait.
const ACCEPT_FLAGS: i32 = rustix::net::SocketFlags::CLOEXEC.bits() as i32;
/// `POLLIN`.
const POLL_IN: u32 = 0x1;
/// `POLLERR`, `POLLHUP` and `POLLRDHUP`: the peer has sent everything it will send, or the connection is broken.
const POLL_HANGUP: u32 = 0x8 | 0x10 | 0x2000;

/// Whether [`Ring::enter`] waits for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Submit, take what is there, come back.
    No,
    /// Sleep until something completes.
    Forever,
    /// Sleep until something completes or the time is over.
    AtMost(Duration),
}

/// An io_uring with its provided buffers, and the outputs that are being sent.
pub(crate) struct Ring {
    uring: IoUring,
    buffers: Buffers,
    /// Outputs the kernel is reading; the index is the send's tag.
    sends: Slab<Sending>,
    /// File operations in flight, with what the kernel reads and writes for them; the index is their tag's.
    files: Slab<files::Operation>,
    /// Multishot receives in flight: the kernel may write into `buffers` while there are any.
    receiving: usize,
    /// What found the submission queue full while the kernel took no more.
    overflow: VecDeque<squeue::Entry>,
    enter_flags: EnterFlags,
}

/// One output on its way.
struct Sending {
    slot: u32,
    socket: RawFd,
    buffer: Vec<u8>,
    /// So many bytes of `buffer` are with the kernel's socket already.
    sent: usize,
}

impl Ring {
    /// Sets up a ring for the calling thread, with `buffers` provided buffers (a power of two).
    ///
    /// # Errors
    /// What `io_uring_setup(2)` or the registration of the buffers reports: `ENOSYS` and `EPERM`
    /// where io_uring is not to be had, `EINVAL` on a kernel older than 6.1.
    pub(crate) fn new(buffers: u16) -> io::Result<Self> {
        // NO_SQARRAY (6.6) saves an indirection per submission; older kernels refuse it.
        let uring = match Self::setup(true) {
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Self::setup(false)?,
            other => other?,
        };
        let buffers = Buffers::register(&uring, buffers)?;
        let enter_flags = if uring.params().is_feature_no_iowait() {
            EnterFlags::NO_IOWAIT // A parked shard is idle, not waiting for a disk.
        } else {
            EnterFlags::empty()
        };
        let ring = Self {
            uring,
            buffers,
            sends: Slab::new(),
            files: Slab::new(),
            receiving: 0,
            overflow: VecDeque::new(),
            enter_flags,
        };
        // Saves a file look-up per call; its absence costs nothing else.
        let _ = ring.uring.submitter().register_ring_fd();
        Ok(ring)
    }

    fn setup(no_sqarray: bool) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .dontfork();
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(SUBMISSIONS)
    }

    /// Accepts on `listener` until the completion says that it is no longer armed.
    pub(crate) fn accept(&mut self, listener: BorrowedFd<'_>, slot: u32) {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(ACCEPT_FLAGS).build();
        self.push(entry.user_data(Tag::new(Kind::Accept, slot).0));
    }

    /// Accepts one connection on `listener`.
    pub(crate) fn accept_one(&mut self, listener: BorrowedFd<'_>, slot: u32) {
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut());
        self.push(entry.flags(ACCEPT_FLAGS).build().user_data(Tag::new(Kind::Accept, slot).0));
    }

    /// Receives from `socket` until a completion says that it is no longer armed.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, slot: u32) {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), buffers::GROUP).build();
        self.receiving += 1;
        self.push(entry.user_data(Tag::new(Kind::Receive, slot).0));
    }

    /// Ends the receive of `slot`; its last completion is then [`Ended::Cancelled`] unless
    /// something else ended it first. Bytes that arrived before are delivered before.
    pub(crate) fn cancel_receive(&mut self, slot: u32) {
        let receive = Tag::new(Kind::Receive, slot);
        let entry = opcode::AsyncCancel::new(receive.0).build();
        self.push_silent(entry);
    }

    /// Reports [`Completion::HungUp`] once the peer of `socket` has ended its half, or the connection is broken. Nothing is read for that,
    /// and no memory of ours is lent.
    pub(crate) fn watch_for_hangup(&mut self, socket: BorrowedFd<'_>, slot: u32) {
        let entry = opcode::PollAdd::new(Fd(socket.as_raw_fd()), POLL_HANGUP).build();
        self.push(entry.user_data(Tag::new(Kind::Hangup, slot).0));
    }

    /// Ends the watch of `slot`, which is reported, unless it has ended by itself.
    pub(crate) fn cancel_watch_for_hangup(&mut self, slot: u32) {
        self.push_silent(opcode::AsyncCancel::new(Tag::new(Kind::Hangup, slot).0).build());
    }

    /// Stops accepting for listener `slot`.
    pub(crate) fn cancel_accept(&mut self, slot: u32) {
        let entry = opcode::AsyncCancel::new(Tag::new(Kind::Accept, slot).0).build();
        self.push_silent(entry);
    }

    /// Ends everything in flight on `socket`.
    pub(crate) fn cancel_all(&mut self, socket: BorrowedFd<'_>) {
        let what = CancelBuilder::fd(Fd(socket.as_raw_fd())).all();
        self.push_silent(opcode::AsyncCancel2::new(what).build());
    }

    /// Sends `buffer` to `socket`; it comes back with [`Completion::Sent`].
    ///
    /// The socket must stay open until then, and have no other send in flight.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, slot: u32, buffer: Vec<u8>) {
        let sending = Sending { slot, socket: socket.as_raw_fd(), buffer, sent: 0 };
        let index = self.sends.insert(sending);
        self.send_rest(index);
    }

    fn send_rest(&mut self, index: u32) {
        let sending = self.sends.at(index);
        let rest = &sending.buffer[sending.sent..];
        let length = rest.len().min(SEND_BYTES_MAX) as u32;
        let entry = opcode::Send::new(Fd(sending.socket), rest.as_ptr(), length).flags(SEND_FLAGS);
        self.push(entry.build().user_data(Tag::new(Kind::Send, index).0));
    }

    /// Closes `socket` after everything queued before.
    pub(crate) fn close(&mut self, socket: OwnedFd) {
        self.push_silent(opcode::Close::new(Fd(socket.into_raw_fd())).build());
    }

    /// Reports [`Completion::Woken`] whenever `eventfd` becomes readable.
    pub(crate) fn watch(&mut self, eventfd: BorrowedFd<'_>) {
        let entry = opcode::PollAdd::new(Fd(eventfd.as_raw_fd()), POLL_IN).multi(true).build();
        self.push(entry.user_data(Tag::new(Kind::Watch, 0).0));
    }

    /// Wakes the shard `peer`, whose ring has the descriptor `ring`, out of [`Ring::enter`].
    ///
    /// Only a failure comes back, as [`Completion::WakeFailed`].
    pub(crate) fn wake(&mut self, ring: RawFd, peer: u32) {
        let woken = Tag::new(Kind::Woken, 0);
        let entry = opcode::MsgRingData::new(Fd(ring), 0, woken.0, None).build();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Tag::new(Kind::Wake, peer).0));
    }

    /// Hands a chunk's buffer back to the kernel.
    pub(crate) fn recycle(&mut self, chunk: Chunk) {
        self.buffers.provide(chunk.buffer);
    }

    /// The bytes of a chunk.
    pub(crate) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        self.buffers.bytes(chunk.buffer, chunk.length)
    }

    /// Submits what is queued and, if told so, waits for a completion.
    ///
    /// # Errors
    /// Those that no retry mends. A signal, a timeout and a full completion queue are not errors.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        while self.refill() {
            match self.uring.submit() {
                Ok(_) => {}
                Err(error) if is_transient(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let submitter = self.uring.submitter();
        let done = match wait {
            Wait::No => submitter.submit(),
            Wait::Forever => submitter.submit_with_args_and_flags(1, &SubmitArgs::new(), self.enter_flags),
            Wait::AtMost(time) => {
                let time = Timespec::from(time);
                let args = SubmitArgs::new().timespec(&time);
                submitter.submit_with_args_and_flags(1, &args, self.enter_flags)
            }
        };
        match done {
            Err(error) if !is_transient(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the kernel has more to hand over: it turns only so many arrivals into completions each time it is entered.
    pub(crate) fn has_more(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    /// Moves what had to wait into the submission queue; true while some is left.
    fn refill(&mut self) -> bool {
        let mut queue = self.uring.submission();
        while let Some(entry) = self.overflow.front() {
            // SAFETY: see `push`.
            if unsafe { queue.push(entry) }.is_err() {
                return true;
            }
            self.overflow.pop_front();
        }
        false
    }

    /// Queues an operation whose success is not reported.
    fn push_silent(&mut self, entry: squeue::Entry) {
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Tag::new(Kind::Ignored, 0).0));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if self.uring.submission().is_full() {
            // A failure leaves the queue full, and then the entry waits in `overflow`; an error
            // that lasts is reported by the next `enter`.
            let _ = self.uring.submit();
        }
        // SAFETY: the only memory that an entry built in this folder refers to is the buffer of a
        // send, and the buffer or name of a file operation. Both are on the heap, in what `sends` and
        // `files` own, and stay there unchanged until the last completion is taken; Drop waits for it or
        // leaks them. Received bytes go to registered buffers, which live as long.
        let pushed = self.overflow.is_empty() && unsafe { self.uring.submission().push(&entry) }.is_ok();
        if !pushed {
            self.overflow.push_back(entry);
        }
    }

    /// Makes room in the submission queue for `entries` that are to reach the kernel together.
    fn has_room_for(&mut self, entries: usize) -> bool {
        let has_room = |uring: &mut IoUring| {
            let queue = uring.submission();
            queue.capacity() - queue.len() >= entries
        };
        if !has_room(&mut self.uring) {
            let _ = self.uring.submit(); // As in `push`.
        }
        self.overflow.is_empty() && has_room(&mut self.uring)
    }

    fn in_flight(&self) -> bool {
        self.receiving > 0 || !self.sends.is_empty() || !self.files.is_empty()
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still use our memory, so everything ends first. A second is far more than
        // cancelling takes; should it not be enough, the memory is leaked rather than freed.
        for _ in 0..100 {
            // Again each time: a long output that is cut off goes on with its next piece.
            let _ = self.enter(Wait::No);
            let _ = self.uring.submitter().register_sync_cancel(None, CancelBuilder::any().all());
            while self.next_completion().is_some() {}
            if !self.in_flight() {
                return;
            }
            let _ = self.enter(Wait::AtMost(Duration::from_millis(10)));
        }
        self.buffers.leak();
        self.sends.leak();
        self.files.leak();
    }
}

/// Conditions under which entering again, later, is all there is to do.
fn is_transient(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return false };
    // ETIME: the wait is over. EINTR: a signal. EBUSY, EAGAIN: completions have to be taken first,
    // or the kernel is short of memory for requests; what is queued stays queued.
    [Errno::TIME, Errno::INTR, Errno::BUSY, Errno::AGAIN].iter().any(|e| e.raw_os_error() == code)
}

/// An eventfd, with which threads that have no ring wake one that has.
///
/// # Errors
/// What `eventfd(2)` reports, such as a full descriptor table.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Makes `eventfd` readable.
pub(crate) fn signal(eventfd: impl AsFd) {
    // EAGAIN means that the counter is at its maximum: then it is readable already.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

/// Makes `eventfd` unreadable again.
pub(crate) fn reset(eventfd: impl AsFd) {
    let _ = rustix::io::read(eventfd, &mut [0u8; 8]);
}

#[cfg(test)]
mod tests;
