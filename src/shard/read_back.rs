//! Messages of long queues, which lie in the journal until their client comes back for them.

use super::event::Event;
use super::peer::SessionKey;
use super::{DropReason, Shard, Timer};
use crate::journal::encoding;
use crate::journal::frame::Extent;
use crate::journal::record::Record;
use crate::journal::recovery::message_of;
use crate::session::message::Message;
use crate::session::queue::Place;
use crate::timer::Moment;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Messages of one Session that are read ahead.
const AHEAD_MESSAGES: usize = 64;
/// Bytes of one Session's messages that are read ahead, unless a single message is larger.
const AHEAD_BYTES: usize = 256 * 1024;
/// A message that could not be read is asked for again after this.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(1);

/// A piece of the journal that the owner shall read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Names it in the answer.
    pub token: u64,
    /// What to read.
    pub extent: Extent,
}

/// What a read is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// A delivery that waits in a queue.
    Delivery(SessionKey, Place),
    /// The checkpoint that is under way: it copies the message.
    Checkpoint,
}

/// The reads of a shard.
#[derive(Debug, Default)]
pub(super) struct Reads {
    last_token: u64,
    wanted: VecDeque<Read>,
    under_way: BTreeMap<u64, Purpose>,
}

impl Reads {
    fn ask(&mut self, extent: Extent, purpose: Purpose) {
        self.last_token += 1;
        self.under_way.insert(self.last_token, purpose);
        self.wanted.push_back(Read { token: self.last_token, extent });
    }

    /// Asks for a message that a checkpoint has to copy.
    pub(super) fn ask_for_checkpoint(&mut self, extent: Extent) {
        self.ask(extent, Purpose::Checkpoint);
    }
}

/// A message as it was before it was written down; `None` where the bytes are something else.
pub(super) fn message_from(bytes: &[u8]) -> Option<Message> {
    match encoding::decode(bytes) {
        Ok((Record::Message(record), _)) => Some(message_of(&record)),
        Ok(_) | Err(_) => None,
    }
}

impl Shard {
    /// Asks for the messages at the front of a Session's queue.
    pub(super) fn read_back(&mut self, session: u32) {
        let key = self.sessions.key(session);
        let Some(reader) = self.sessions.get_mut(session) else { return };
        let (journal, reads) = (&self.journal, &mut self.reads);
        let mut lost = Vec::new();
        reader.outgoing.queue_mut().ask_for_away(AHEAD_MESSAGES, AHEAD_BYTES, |place, publication| {
            match journal.extent(publication) {
                Some(extent) => reads.ask(extent, Purpose::Delivery(key, place)),
                None => lost.push(place),
            }
        });
        for place in lost {
            self.give_up(session, place);
        }
    }

    /// The next piece of the journal to read.
    pub fn next_read(&mut self) -> Option<Read> {
        self.reads.wanted.pop_front()
    }

    /// The owner has read what [`Self::next_read`] asked for; `None`: the disk failed to give it.
    pub fn on_read(&mut self, now: Moment, token: u64, bytes: Option<&[u8]>) {
        match self.reads.under_way.remove(&token) {
            Some(Purpose::Delivery(key, place)) => self.on_delivery_read(now, key, place, bytes),
            Some(Purpose::Checkpoint) => self.on_checkpoint_read(now, bytes),
            None => {}
        }
        self.journal.end_step();
    }

    fn on_delivery_read(&mut self, now: Moment, key: SessionKey, place: Place, bytes: Option<&[u8]>) {
        let Some(session) = self.sessions.resolve(key) else { return };
        let Some(reader) = self.sessions.get_mut(session) else { return };
        match bytes.map(message_from) {
            Some(Some(message)) => {
                self.stats.read_back += 1;
                reader.outgoing.queue_mut().come_back(place, Arc::new(message));
                self.send_queued(now, session);
            }
            Some(None) => self.give_up(session, place),
            None => {
                reader.outgoing.queue_mut().stay_away(place);
                self.wheel.arm(now + READ_AGAIN, Timer::ReadAgain(key));
            }
        }
    }

    /// A message is damaged on the disk: the one loss that waiting does not mend.
    fn give_up(&mut self, session: u32, place: Place) {
        let Some(reader) = self.sessions.get_mut(session) else { return };
        let client_id = Arc::clone(&reader.client_id);
        if let Some(waiting) = reader.outgoing.queue_mut().remove(place, &mut self.queues) {
            self.stats.dropped[DropReason::Unreadable] += 1;
            self.events.push_back(Event::MessageUnreadable { client_id });
            self.record_done(session, place, Some(waiting.body.publication()));
        }
    }
}
