//! The provided buffers: a pool of memory from which the kernel takes a buffer when bytes arrive.
//!
//! ```text
//! ours ── provide ──▶ with the kernel ── completion names it ──▶ Chunk ── recycle ──▶ ours
//! ```

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The buffer group; a ring has one.
pub(super) const GROUP: u16 = 0;
/// Bytes of one buffer: a page, so that a small packet does not tie up much and a large one comes
/// in few pieces.
pub(super) const BUFFER_BYTES: usize = 4096;
const PAGE: usize = 4096;

/// The registered ring of buffers, and their memory.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    /// Where the next buffer is provided; wraps.
    tail: u16,
    leaked: bool,
}

impl Buffers {
    /// Registers `count` buffers with `uring`; `count` is a power of two up to 2^15.
    pub(super) fn register(uring: &IoUring, count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let entries = allocate(entries_layout(count)).cast();
        let memory = allocate(memory_layout(count));
        let mut buffers = Self { entries, memory, count, tail: 0, leaked: false };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: the memory is zeroed, aligned to a page and long enough for `count` entries, and
        // freed in Drop only, when the ring has no receive in flight (else it is leaked).
        unsafe { uring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        for buffer in 0..count {
            buffers.provide(buffer);
        }
        Ok(buffers)
    }

    /// Gives `buffer` to the kernel.
    pub(super) fn provide(&mut self, buffer: u16) {
        assert!(buffer < self.count);
        let index = self.tail & (self.count - 1);
        // SAFETY: `index` and `buffer` are below `count`, so both pointers stay within their
        // allocations. The kernel reads an entry only between its head and the tail, which we
        // advance below, so nobody else looks at this one now. The three setters leave the
        // reserved field alone, in which the kernel's tail lies for entry 0.
        unsafe {
            let entry = self.entries.add(usize::from(index)).as_mut();
            entry.set_addr(self.memory.add(usize::from(buffer) * BUFFER_BYTES).as_ptr() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies within the first entry, is aligned to two bytes, and is only ever
        // accessed atomically after registration.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `length` bytes of `buffer`, which a completion has named.
    pub(super) fn bytes(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < self.count && length <= BUFFER_BYTES);
        // SAFETY: within the allocation, as just checked; initialised (zeroed, then written by the
        // kernel). A chunk exists only between the completion that names its buffer and
        // `recycle`, which needs the ring mutably, so nobody writes while the slice lives.
        unsafe {
            let start = self.memory.add(usize::from(buffer) * BUFFER_BYTES);
            std::slice::from_raw_parts(start.as_ptr(), length)
        }
    }

    /// Gives the memory up: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: both were allocated in `register` with these layouts, and the owner (`Ring`)
        // has seen the end of every receive, so the kernel no longer writes there. The kernel
        // holds its own reference to the pages of the entries.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count));
        }
    }
}

fn entries_layout(count: u16) -> Layout {
    layout(usize::from(count) * size_of::<BufRingEntry>())
}

fn memory_layout(count: u16) -> Layout {
    layout(usize::from(count) * BUFFER_BYTES)
}

fn layout(bytes: usize) -> Layout {
    let bytes = bytes.next_multiple_of(PAGE);
    Layout::from_size_align(bytes, PAGE).expect("at most 2^15 buffers of a page each")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: the layout is not empty: it is rounded up to a page and `count` is a power of two.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
