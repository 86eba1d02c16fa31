//! Taps: what is published from now on, for an operator who looks on.
//!
//! A tap is opened on every shard. Each message is seen by the shard that it is published on, and so once: what clients send, wills, and
//! what the broker publishes itself. The shard keeps a bounded number of messages for whoever fetches them and counts what he misses; the
//! messages are those that are delivered, not copies. While no tap is open, a publication pays one look at that.

use crate::session::message::Message;
use crate::shard::Shard;
use crate::shard::deliver::Publishing;
use crate::timer::Moment;
use crate::topic::TopicFilter;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Taps of a shard that may be open at a time: each message is compared with all of them.
const TAPS_MAX: usize = 16;
/// Messages that wait to be fetched.
const WAITING_MAX: usize = 1024;
/// Bytes of the messages that wait to be fetched. One may wait whatever its size.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A tap that nobody has fetched from for so long is closed: whoever opened it is gone.
const ABANDONED: Duration = Duration::from_secs(30);

/// Names a tap of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TapId(u64);

/// A message that was published.
#[derive(Debug, Clone)]
pub struct Tapped {
    /// When.
    pub at: Moment,
    /// The Client Identifier of whoever published it; `None`: the broker itself, or a Session that had ended, by its will.
    pub publisher: Option<Arc<str>>,
    /// The message, which others are delivered, too.
    pub message: Arc<Message>,
}

/// What a tap has for whoever fetches it.
#[derive(Debug, Clone, Default)]
pub struct Draught {
    /// Messages, in their order.
    pub messages: Vec<Tapped>,
    /// So many were published after these and before the next ones, and there was no room for them.
    pub missed: u64,
}

#[derive(Debug)]
struct Tap {
    id: TapId,
    filter: TopicFilter,
    fetched: Moment,
    waiting: VecDeque<Tapped>,
    bytes: usize,
    missed: u64,
}

impl Tap {
    fn is_abandoned(&self, now: Moment) -> bool {
        self.fetched + ABANDONED <= now
    }

    /// Whether another message has room. After the first one that had not the others miss out, too, so that the gap is in one place.
    fn has_room(&self, size: usize) -> bool {
        let is_full = self.waiting.len() >= WAITING_MAX || self.bytes + size > WAITING_BYTES_MAX;
        self.missed == 0 && (!is_full || self.waiting.is_empty())
    }

    fn fetch(&mut self, at_most: usize) -> Draught {
        let count = at_most.min(self.waiting.len());
        let messages: Vec<_> = self.waiting.drain(..count).collect();
        self.bytes -= messages.iter().map(|tapped| tapped.message.size()).sum::<usize>();
        let missed = if self.waiting.is_empty() { std::mem::take(&mut self.missed) } else { 0 };
        Draught { messages, missed }
    }
}

/// The taps of a shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Taps {
    next: u64,
    open: Vec<Tap>,
}

impl Taps {
    /// Whether there is any.
    pub(in crate::shard) fn is_any_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl Shard {
    /// Begins to keep what is published at this shard to topics that `filter` matches; `None`: there are as many taps as may be. It is to
    /// be fetched every now and then, or is closed.
    pub fn open_tap(&mut self, now: Moment, filter: TopicFilter) -> Option<TapId> {
        self.taps.open.retain(|tap| !tap.is_abandoned(now));
        if self.taps.open.len() >= TAPS_MAX {
            return None;
        }
        self.taps.next += 1;
        let id = TapId(self.taps.next);
        let waiting = VecDeque::new();
        self.taps.open.push(Tap { id, filter, fetched: now, waiting, bytes: 0, missed: 0 });
        Some(id)
    }

    /// Ends a tap, and forgets what waits in it.
    pub fn close_tap(&mut self, id: TapId) {
        self.taps.open.retain(|tap| tap.id != id);
    }

    /// Takes what a tap has, no more than `at_most` messages; `None`: it is closed.
    pub fn fetch_tapped(&mut self, now: Moment, id: TapId, at_most: usize) -> Option<Draught> {
        let tap = self.taps.open.iter_mut().find(|tap| tap.id == id)?;
        tap.fetched = now;
        Some(tap.fetch(at_most))
    }

    /// Keeps a publication for the taps that it is for.
    pub(in crate::shard) fn note_tapped(
        &mut self,
        now: Moment,
        publishing: &mut Publishing<'_>,
        publisher: Option<u32>,
    ) {
        self.taps.open.retain(|tap| !tap.is_abandoned(now));
        for tap in &mut self.taps.open {
            if !tap.filter.matches(publishing.topic) {
                continue;
            }
            let message = publishing.share();
            if !tap.has_room(message.size()) {
                tap.missed += 1;
                continue;
            }
            let publisher = publisher.and_then(|session| self.sessions.get(session));
            let publisher = publisher.map(|session| Arc::clone(&session.client_id));
            tap.bytes += message.size();
            tap.waiting.push_back(Tapped { at: now, publisher, message });
        }
    }
}
