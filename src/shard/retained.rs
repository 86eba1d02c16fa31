//! Retained messages: the part that this shard stores, and the look-ups of its own Sessions.
//!
//! A look-up starts when every shard knows of the new Subscription, and a store answers it when it has heard all that other
//! shards stored before. So each retained message is either in an answer or comes live, and where it does both, or where
//! a newer one came live first, what the store said is dropped.

use super::deliver::Publishing;
use super::journal::Entity;
use super::peer::{Found, PeerMessage, SessionKey, Wait};
use super::{DropReason, Shard, ShardId, SubscriberOptions, Timer};
use crate::journal::record::{Record, Transaction};
use crate::session::message::{Kind, Message, Publication};
use crate::session::queue::Load;
use crate::timer::{Moment, TimerId};
use crate::topic::{Cursor, RetainedTopics, TopicFilter, TopicName};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Topics looked at for one answer: a bounded slice of a turn.
const ANSWER_TOPICS: usize = 256;
/// Topics looked at between two looks at the bytes.
const ANSWER_STEP: usize = 16;
/// An answer with so many bytes of messages is long enough.
const ANSWER_BYTES: usize = 64 * 1024;
/// Answers worked out in one turn.
const ANSWERS_PER_TURN: usize = 8;
/// Volatile messages of a shard beside those about Sessions.
const VOLATILE_SPARE: usize = 1024;

#[derive(Debug)]
struct Stored {
    message: Arc<Message>,
    expiry: Option<TimerId>,
}

/// A look-up that another shard, or this one, asked for.
#[derive(Debug)]
pub(super) struct Job {
    asker: ShardId,
    look_up: u64,
    filter: TopicFilter,
    cursor: Option<Cursor>,
}

/// The retained messages whose topics are at home here. Those that are volatile have an account of their own.
#[derive(Debug)]
pub(super) struct RetainedStore {
    topics: RetainedTopics<Stored>,
    kept: Load,
    volatile: Load,
    seen: Vec<u64>,
    jobs: VecDeque<Job>,
}

impl RetainedStore {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            topics: RetainedTopics::default(),
            kept: Load::default(),
            volatile: Load::default(),
            seen: vec![0; shards],
            jobs: VecDeque::new(),
        }
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Retained messages stored here.
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> usize {
        self.kept.bytes + self.volatile.bytes
    }

    /// A part of an answer, bounded in what is looked at and, up to one step, in bytes.
    fn answer(&self, now: Moment, job: &Job) -> (Vec<Arc<Message>>, Option<Cursor>) {
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut cursor = job.cursor.clone();
        for _ in 0..ANSWER_TOPICS / ANSWER_STEP {
            cursor = self.topics.scan(&job.filter, cursor.as_ref(), ANSWER_STEP, |_, stored| {
                if !stored.message.is_expired(now) {
                    bytes += stored.message.size();
                    messages.push(Arc::clone(&stored.message));
                }
            });
            if cursor.is_none() || bytes >= ANSWER_BYTES {
                break;
            }
        }
        (messages, cursor)
    }

    /// Visits those that `filter` matches among `budget` topics from `cursor` on; where to go on.
    pub(super) fn scan(
        &self,
        now: Moment,
        filter: &TopicFilter,
        cursor: Option<&Cursor>,
        budget: usize,
        mut visit: impl FnMut(&Message),
    ) -> Option<Cursor> {
        self.topics.scan(filter, cursor, budget, |_, stored| {
            if !stored.message.is_expired(now) {
                visit(&stored.message);
            }
        })
    }

    /// The first retained messages behind `topic`, or of all. Some may be volatile.
    pub(super) fn after(&self, topic: Option<&str>, at_most: usize) -> Vec<Arc<Message>> {
        self.topics.after(topic).take(at_most).map(|stored| Arc::clone(&stored.message)).collect()
    }

    /// The retained message of a topic.
    pub(super) fn get(&self, topic: &str) -> Option<Arc<Message>> {
        let topic = TopicName::parse(topic).ok()?;
        self.topics.get(topic).map(|stored| Arc::clone(&stored.message))
    }

    fn account(&mut self, message: &Message) -> &mut Load {
        if message.kind == Kind::Volatile { &mut self.volatile } else { &mut self.kept }
    }

    fn insert(&mut self, topic: TopicName<'_>, stored: Stored) {
        let account = self.account(&stored.message);
        account.messages += 1;
        account.bytes += stored.message.size();
        self.topics.insert(topic, stored);
    }

    fn remove(&mut self, topic: TopicName<'_>) -> Option<Stored> {
        let removed = self.topics.remove(topic)?;
        let account = self.account(&removed.message);
        account.messages -= 1;
        account.bytes -= removed.message.size();
        Some(removed)
    }
}

/// A look-up of one Session of this shard.
#[derive(Debug)]
struct LookUp {
    session: SessionKey,
    filter: TopicFilter,
    options: SubscriberOptions,
    /// Stores that have not reached their end.
    outstanding: usize,
    /// Retained publications that reached the Session live meanwhile: by topic, the newest of each shard.
    live: BTreeMap<Box<str>, Vec<Publication>>,
    /// Stores that have more, to be asked when the connection has room again.
    stalled: Vec<(ShardId, Option<Cursor>)>,
}

/// The look-ups of this shard's Sessions.
#[derive(Debug, Default)]
pub(super) struct LookUps {
    next: u64,
    by_name: BTreeMap<u64, LookUp>,
}

impl LookUps {
    /// The rights of whoever looks up have changed: what these find from now on is looked at message by message.
    pub(super) fn look_at_each(&mut self, names: &[u64]) {
        for name in names {
            if let Some(look_up) = self.by_name.get_mut(name) {
                look_up.options.is_filtered = true;
            }
        }
    }
}

impl Shard {
    /// The shard that stores the retained message of `topic`.
    pub(super) fn retained_home(&self, topic: &str) -> ShardId {
        ShardId::new((self.hasher.hash_one(topic) % self.peers.shards() as u64) as usize)
    }

    /// Puts back what a journal says is retained.
    pub(super) fn restore_retained(&mut self, message: Arc<Message>) {
        let Ok(topic) = TopicName::parse(message.topic()) else { return };
        let timer = Timer::RetainedExpiry(Arc::downgrade(&message));
        let expiry = message.expires.map(|expires| self.wheel.arm(expires, timer));
        self.retained.insert(topic, Stored { message: Arc::clone(&message), expiry });
    }

    /// Stores, replaces or removes a retained message. [MQTT-3.3.1-5], [MQTT-3.3.1-6]
    pub(super) fn store_retained(&mut self, now: Moment, message: Arc<Message>, under: Option<Transaction>) {
        let topic = TopicName::parse(message.topic()).expect("a Message has a valid Topic Name");
        let seen = &mut self.retained.seen[usize::from(message.publication.shard)];
        *seen = message.publication.sequence.max(*seen);
        if self.is_stale(topic, &message) {
            self.stats.wills.stale += 1;
            return;
        }
        let previous = self.retained.remove(topic);
        if let Some(expiry) = previous.as_ref().and_then(|previous| previous.expiry) {
            self.wheel.cancel(expiry);
        }
        let is_removal = message.payload().is_empty() || message.is_expired(now);
        let has_room = is_removal || self.has_room_for(&message);
        self.stats.dropped[DropReason::Retained] += u64::from(!has_room);
        self.record_retained(&message, !is_removal && has_room, previous.map(|previous| previous.message), under);
        if is_removal || !has_room {
            return;
        }
        let expiry =
            message.expires.map(|expires| self.wheel.arm(expires, Timer::RetainedExpiry(Arc::downgrade(&message))));
        self.retained.insert(topic, Stored { message: Arc::clone(&message), expiry });
    }

    /// Writes down what is retained on a topic now, as far as it is not volatile.
    fn record_retained(
        &mut self,
        message: &Message,
        is_stored: bool,
        previous: Option<Arc<Message>>,
        under: Option<Transaction>,
    ) {
        let is_stored = is_stored && message.kind != Kind::Volatile;
        let previous = previous.filter(|previous| previous.kind != Kind::Volatile);
        if !self.journal.is_on() || !(is_stored || previous.is_some()) {
            return;
        }
        self.journal.note_unsettled(under, || Entity::Topic(message.topic().into()));
        if is_stored {
            self.journal.refer_to(message);
            self.journal.append_under(under, &Record::Retained(message.publication));
        } else {
            self.journal.append_under(under, &Record::RetainedRemoved(message.topic()));
        }
        if let Some(previous) = previous {
            self.journal.release(previous.publication);
        }
    }

    /// The limits are the broker's; every shard has its share of them.
    ///
    /// What is volatile takes no room from clients, nor they from it. Of that the broker has a few messages about itself and one for each
    /// Session, whose topics need not be spread as evenly as the Sessions are.
    fn has_room_for(&self, message: &Message) -> bool {
        let shards = self.peers.shards();
        let bytes_max = self.config.limits.retained_bytes_max.div_ceil(shards);
        let (load, messages_max) = if message.kind == Kind::Volatile {
            let sessions_max = (self.config.sessions.sessions_max as usize).div_ceil(shards);
            (self.retained.volatile, 2 * sessions_max + VOLATILE_SPARE)
        } else {
            (self.retained.kept, (self.config.limits.retained_messages_max as usize).div_ceil(shards))
        };
        load.messages < messages_max && load.bytes + message.size() <= bytes_max
    }

    /// Whether a will would overwrite what the same client published on a newer Network Connection. (`wills.stale_guard`)
    fn is_stale(&self, topic: TopicName<'_>, message: &Message) -> bool {
        self.config.wills.stale_guard
            && message.kind == Kind::Will
            && self.retained.topics.get(topic).is_some_and(|stored| {
                let stored = stored.message.author;
                stored.client == message.author.client && stored.connection > message.author.connection
            })
    }

    /// Removes a retained message whose expiry has come. (§3.3.2.3.3)
    pub(super) fn on_retained_expiry(&mut self, message: &Message) {
        let topic = TopicName::parse(message.topic()).expect("a Message has a valid Topic Name");
        let is_same = |stored: &Stored| stored.message.publication == message.publication;
        if self.retained.topics.get(topic).is_some_and(is_same) {
            self.retained.remove(topic);
            if message.kind != Kind::Volatile {
                self.journal.append(&Record::RetainedRemoved(message.topic()));
                self.journal.release(message.publication);
            }
        }
    }

    /// Notes a look-up; it starts with [`Self::start_look_up`].
    pub(super) fn add_look_up(&mut self, session: u32, filter: TopicFilter, options: SubscriberOptions) -> u64 {
        self.look_ups.next += 1;
        let name = self.look_ups.next;
        let key = self.sessions.key(session);
        let look_up =
            LookUp { session: key, filter, options, outstanding: 0, live: BTreeMap::new(), stalled: Vec::new() };
        self.look_ups.by_name.insert(name, look_up);
        self.sessions.get_mut(session).expect("the Session subscribes").look_ups.push(name);
        name
    }

    /// Asks the stores: one where the filter names a topic, all where it has a wildcard.
    pub(super) fn start_look_up(&mut self, name: u64) {
        let Some(look_up) = self.look_ups.by_name.get_mut(&name) else { return };
        let (filter, key) = (look_up.filter.clone(), look_up.session);
        let Some(session) = self.sessions.resolve(key) else { return };
        let stores: Vec<ShardId> = if filter.is_wildcard() {
            (0..self.peers.shards()).map(ShardId::new).collect()
        } else {
            vec![self.retained_home(filter.as_str())]
        };
        let look_up = self.look_ups.by_name.get_mut(&name).expect("looked up above");
        look_up.outstanding = stores.len();
        look_up.stalled.extend(stores.into_iter().map(|store| (store, None)));
        self.go_on_looking_up(session);
    }

    fn ask_store(&mut self, store: ShardId, look_up: u64, filter: TopicFilter, cursor: Option<Cursor>) {
        if store == self.id {
            self.on_look_up(self.id, look_up, filter, cursor);
        } else {
            self.peers.send(store, PeerMessage::LookUp { look_up, filter, cursor });
        }
    }

    /// Takes a look-up on; the first part of its answer waits for the other shards.
    pub(super) fn on_look_up(&mut self, asker: ShardId, look_up: u64, filter: TopicFilter, cursor: Option<Cursor>) {
        let is_first = cursor.is_none();
        let job = Job { asker, look_up, filter, cursor };
        if is_first && self.peers.has_peers() {
            let fence = self.peers.request_fence();
            self.peers.wait(fence, Wait::LookUp(job));
        } else {
            self.retained.jobs.push_back(job);
        }
    }

    /// Puts a look-up whose fence is answered in the line.
    pub(super) fn admit_look_up(&mut self, job: Job) {
        self.retained.jobs.push_back(job);
    }

    /// Works out a bounded number of answers.
    pub(super) fn answer_look_ups(&mut self, now: Moment) {
        for _ in 0..ANSWERS_PER_TURN {
            let Some(job) = self.retained.jobs.pop_front() else { return };
            let (messages, cursor) = self.retained.answer(now, &job);
            let seen = self.retained.seen.clone();
            let found = Found { look_up: job.look_up, messages, seen, cursor };
            if job.asker == self.id {
                self.on_found(now, self.id, found);
            } else {
                self.peers.send(job.asker, PeerMessage::Found(found));
            }
        }
    }

    /// Delivers part of an answer, and asks for the next where the connection has room for it.
    pub(super) fn on_found(&mut self, now: Moment, store: ShardId, found: Found) {
        let Some(look_up) = self.look_ups.by_name.get(&found.look_up) else { return };
        let (options, filter) = (look_up.options, look_up.filter.clone());
        let Some(session) = self.sessions.resolve(look_up.session) else {
            self.look_ups.by_name.remove(&found.look_up);
            return;
        };
        let wanted: Vec<_> =
            found.messages.iter().filter(|message| !is_superseded(look_up, message, &found.seen)).collect();
        for message in wanted {
            self.deliver_retained(now, session, message, options);
        }
        let look_up = self.look_ups.by_name.get_mut(&found.look_up).expect("delivering ends no look-up");
        match found.cursor {
            Some(cursor) if has_room(&self.sessions, &self.connections, session) => {
                self.ask_store(store, found.look_up, filter, Some(cursor));
            }
            Some(cursor) => look_up.stalled.push((store, Some(cursor))),
            None => {
                look_up.outstanding -= 1;
                if look_up.outstanding == 0 {
                    self.look_ups.by_name.remove(&found.look_up);
                    let subscriber = self.sessions.get_mut(session).expect("it was resolved above");
                    subscriber.look_ups.retain(|name| *name != found.look_up);
                    self.go_on_looking_up(session);
                }
            }
        }
    }

    /// Asks for the next parts of what a Session looks up, once its connection has room again.
    pub(super) fn go_on_looking_up(&mut self, session: u32) {
        let Some(subscriber) = self.sessions.get(session) else { return };
        if subscriber.look_ups.is_empty() || !has_room(&self.sessions, &self.connections, session) {
            return;
        }
        for name in subscriber.look_ups.clone() {
            let Some(look_up) = self.look_ups.by_name.get_mut(&name) else { continue };
            let filter = look_up.filter.clone();
            for (store, cursor) in std::mem::take(&mut look_up.stalled) {
                self.ask_store(store, name, filter.clone(), cursor);
            }
            if self.is_busy_looking_up(session) {
                return; // One look-up of a Session at a time, or a thousand of them would all find room at once.
            }
        }
    }

    fn is_busy_looking_up(&self, session: u32) -> bool {
        let Some(subscriber) = self.sessions.get(session) else { return false };
        let is_under_way = |name: &u64| {
            self.look_ups.by_name.get(name).is_some_and(|look_up| look_up.outstanding > look_up.stalled.len())
        };
        subscriber.look_ups.first().is_some_and(is_under_way)
    }

    /// Forgets the look-ups of a Session that ends.
    pub(super) fn drop_look_ups(&mut self, names: &[u64]) {
        for name in names {
            self.look_ups.by_name.remove(name);
        }
    }

    /// Remembers that a retained publication reached a Session live while its look-ups are on their way.
    pub(super) fn note_live_retained(&mut self, session: u32, publishing: &Publishing<'_>) {
        let Some(subscriber) = self.sessions.get(session) else { return };
        for name in &subscriber.look_ups {
            if let Some(look_up) = self.look_ups.by_name.get_mut(name)
                && look_up.filter.matches(publishing.topic)
            {
                let live = look_up.live.entry(publishing.topic.as_str().into()).or_default();
                live.retain(|older| older.shard != publishing.publication.shard);
                live.push(publishing.publication);
            }
        }
    }
}

/// Whether what a store found is no news: it came live already, or something newer did.
///
/// A live publication is newer than the stored one exactly where the store had not seen it when it answered.
fn is_superseded(look_up: &LookUp, message: &Message, seen: &[u64]) -> bool {
    let live = look_up.live.get(message.topic());
    live.into_iter().flatten().any(|live| *live == message.publication || live.sequence > seen[usize::from(live.shard)])
}

/// Whether a Session can take another part of an answer; one without a connection takes all into its queue.
fn has_room(sessions: &super::sessions::Sessions, connections: &super::connection::Connections, session: u32) -> bool {
    let Some(subscriber) = sessions.get(session) else { return false };
    let Some(connection) = subscriber.connection.and_then(|id| connections.get(id)) else { return true };
    connection.output.pending() <= connection.bounds.output_bytes_max / 2
        && subscriber.outgoing.queue().len() <= subscriber.bounds.queue.messages / 2
}
