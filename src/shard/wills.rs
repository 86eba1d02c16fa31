//! Wills: armed by CONNECT, pending when the connection has closed, due when their time has come, then published or discarded.

use super::deliver::Publishing;
use super::event::Event;
use super::journal::{Entity, record_of};
use super::peer::SessionKey;
use super::{Shard, Timer};
use crate::codec::{self, Forwarded, ForwardedBuilder};
use crate::config::{WillAcl, Wills as WillsConfig};
use crate::journal::record::{Record, SessionNumber, Transaction, WillRecord};
use crate::security::{Identity, Who};
use crate::session::message::{self, Author, Kind, Message, Parts};
use crate::session::will::{Cause, Closing, Will, WillState};
use crate::timer::Moment;
use crate::topic::{TopicFilter, TopicName};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A storm is over when no will has been published for this long.
const STORM_GAP: Duration = Duration::from_secs(1);

/// Which wills are held back during planned work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// All of them.
    All,
    /// Those of the clients that connected to this listener.
    Listener(u16),
    /// Those of clients whose identifier begins so.
    ClientIdPrefix(Box<str>),
}

/// What becomes of a will when an administrator disconnects its client, or ends a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillFate {
    /// It is published when it is due.
    Publish,
    /// It is discarded.
    Discard,
}

#[derive(Debug, Clone, Copy)]
struct StormWatch {
    since: Moment,
    last: Moment,
    wills: u64,
    lateness_max: Duration,
}

/// The wills of a shard that are due, and what holds them back.
#[derive(Debug, Default)]
pub(super) struct Wills {
    due: VecDeque<SessionKey>,
    held: VecDeque<SessionKey>,
    holds: Vec<Hold>,
    storm: Option<StormWatch>,
    /// Filters of the topics whose wills are stamped, parsed once.
    stamped: Vec<TopicFilter>,
    allowed: Vec<TopicFilter>,
}

impl Wills {
    pub(super) fn new(config: &WillsConfig) -> Self {
        let mut wills = Self::default();
        wills.set_filters(config);
        wills
    }

    /// Takes over which wills are stamped and which are allowed.
    pub(super) fn set_filters(&mut self, config: &WillsConfig) {
        let parse = |filters: &[String]| filters.iter().filter_map(|filter| TopicFilter::parse(filter).ok()).collect();
        self.stamped = parse(&config.stamp);
        self.allowed = parse(&config.allow.topics);
    }

    /// Wills that stand in the line.
    pub(super) fn due_len(&self) -> usize {
        self.due.len()
    }

    /// Whether `wills.allow` admits a will on `topic`.
    pub(super) fn allows_topic(&self, topic: TopicName<'_>) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|filter| filter.matches(topic))
    }

    /// When the storm that is going on will count as over; `None` while wills are due, be it that the disk does not let them go.
    pub(super) fn storm_ends(&self) -> Option<Moment> {
        self.storm.filter(|_| self.due.is_empty()).map(|storm| storm.last + STORM_GAP)
    }
}

impl Shard {
    /// The will of a CONNECT, made ready to be published.
    pub(super) fn make_will(&mut self, client_id: &Arc<str>, author: Author, will: &codec::Will<'_>) -> Box<Will> {
        let parts = Parts { topic: will.topic, forwarded: will.forwarded, payload: will.payload };
        let mut message = Message::new(parts, will.qos, will.retain, Kind::Will);
        message.author = author;
        let max = self.config.wills.max_delay.map_or(u32::MAX, |max| u32::try_from(max.as_secs()).unwrap_or(u32::MAX));
        let given = will.will_delay_interval.min(max);
        if given < will.will_delay_interval {
            let client_id = Arc::clone(client_id);
            self.events.push_back(Event::WillDelayCapped { client_id, asked: will.will_delay_interval, given });
        }
        Box::new(Will {
            message: Arc::new(message),
            delay_interval: given,
            message_expiry_interval: will.message_expiry_interval,
        })
    }

    /// Whether a client may leave a will, or have it published, on a topic.
    pub(super) fn may_leave_will(&self, identity: &Identity, client_id: &str, topic: TopicName<'_>) -> bool {
        self.rights.may_leave_will(Who { identity, client_id }, topic)
    }

    /// Whether the rights of a will are checked when it arrives.
    pub(super) fn checks_will_at_connect(&self) -> bool {
        self.config.wills.acl == WillAcl::Connect
    }

    /// Applies the end of a Network Connection to the will of its Session.
    pub(super) fn on_will_closing(&mut self, now: Moment, session: u32, closing: Closing, fate: WillFate) {
        let owner = self.sessions.get_mut(session).expect("the connection had a Session");
        let WillState::Armed(will) = owner.will.take() else { return };
        self.stats.wills.armed_now -= 1;
        if fate == WillFate::Discard {
            self.stats.wills.discarded[closing.cause as usize] += 1;
            return self.record_will_gone(session, None);
        }
        // min(Will Delay Interval, Session Expiry Interval): the Session's end publishes its will. [MQTT-3.1.3-9]
        let delay = Duration::from_secs(u64::from(will.delay_interval));
        let delay = owner.expiry.duration().map_or(delay, |expiry| delay.min(expiry));
        let due = now + delay;
        let number = owner.number.map(SessionNumber);
        if delay.is_zero() {
            owner.will = WillState::Due { will, due, closing };
            self.wills.due.push_back(self.sessions.key(session));
        } else {
            let timer = self.wheel.arm(due, Timer::WillDelay(self.sessions.key(session)));
            owner_of(&mut self.sessions, session).will = WillState::Pending { will, due, timer, closing };
            self.stats.wills.pending_now += 1;
        }
        if let Some(session) = number {
            self.journal.append(&Record::WillPending { session, due, closing });
        }
    }

    /// Writes down that a will is armed.
    pub(super) fn record_will_armed(&mut self, session: u32, will: &Will, under: Option<Transaction>) {
        let Some(number) = owner_of(&mut self.sessions, session).number else { return };
        self.journal.append_under(under, &Record::WillArmed(will_record(number, will)));
    }

    /// Writes down that a Session has no will any more.
    pub(super) fn record_will_gone(&mut self, session: u32, under: Option<Transaction>) {
        let Some(number) = owner_of(&mut self.sessions, session).number else { return };
        let key = self.sessions.key(session);
        self.journal.note_unsettled(under, || Entity::Session(key));
        self.journal.append_under(under, &Record::WillGone(SessionNumber(number)));
        owner_of(&mut self.sessions, session).proven_from = self.journal.offset();
    }

    /// Puts a will in the line, since its delay has passed or its Session ends.
    pub(super) fn make_will_due(&mut self, session: u32, at: Moment) {
        let owner = owner_of(&mut self.sessions, session);
        match owner.will.take() {
            WillState::Pending { will, due, timer, closing } => {
                owner.will = WillState::Due { will, due: due.min(at), closing };
                self.wheel.cancel(timer);
                self.wills.due.push_back(self.sessions.key(session));
                self.stats.wills.pending_now -= 1;
            }
            other => owner.will = other,
        }
    }

    /// Whether wills are due that can be published now.
    pub fn has_due_wills(&self) -> bool {
        self.wills.due_len() > 0 && !self.journal.is_failing() && !self.must_wills_wait()
    }

    /// Publishes wills that are due, in the order in which they fell due, at most `at_most` of them; how many are left.
    ///
    /// The owner calls this in slices from a task queue of its own, so that a storm costs ordinary traffic a bounded share.
    pub fn publish_due_wills(&mut self, now: Moment, at_most: usize) -> usize {
        let mut postponed = Vec::new();
        for _ in 0..at_most {
            if self.journal.is_failing() || self.must_wills_wait() {
                break; // What cannot be written down as published, or has no room where it goes, stays due.
            }
            let Some(key) = self.wills.due.pop_front() else { break };
            let Some(session) = self.sessions.resolve(key) else { continue };
            if self.is_held(session) {
                self.wills.held.push_back(key);
            } else if self.is_between_transactions(session) {
                postponed.push(key);
            } else {
                self.publish_will(now, session);
                self.journal.end_step();
            }
        }
        for key in postponed.into_iter().rev() {
            self.wills.due.push_front(key);
        }
        self.end_storm(now);
        self.wills.due.len()
    }

    /// The transaction of this turn under which a Session was changed, if there is one.
    fn open_transaction_of(&self, session: u32) -> Option<Transaction> {
        let touched = Entity::Session(self.sessions.key(session));
        self.journal.transactions_of(&touched).into_iter().find(|transaction| self.is_of_this_turn(*transaction))
    }

    /// Whether a Session ends under an earlier transaction that is not complete: its will must not be gone if that never was.
    fn is_between_transactions(&self, session: u32) -> bool {
        let has_ended = self.sessions.get(session).is_some_and(|owner| owner.has_ended);
        has_ended && {
            let touched = Entity::Session(self.sessions.key(session));
            self.journal.transactions_of(&touched).into_iter().any(|transaction| !self.is_of_this_turn(transaction))
        }
    }

    /// Publishes the will of a Session that is due; under which transaction, where other shards have a part in it. A Session that has
    /// ended goes with it.
    pub(super) fn publish_will(&mut self, now: Moment, session: u32) -> Option<Transaction> {
        let owner = owner_of(&mut self.sessions, session);
        let (will, due, closing) = match owner.will.take() {
            WillState::Due { will, due, closing } => (will, due, closing),
            other => {
                owner.will = other;
                return None;
            }
        };
        let (client_id, identity) = (Arc::clone(&owner.client_id), owner.identity.clone());
        let has_ended = owner.has_ended;
        let mut under = self.open_transaction_of(session);
        let publisher = (!has_ended).then_some(session);
        let mut message = will.message;
        let topic_is_allowed =
            TopicName::parse(message.topic()).is_ok_and(|topic| self.may_leave_will(&identity, &client_id, topic));
        if topic_is_allowed {
            self.stamp(now, &mut message, &client_id, closing);
            let is_kept = self.keeps_will(session, &message);
            let publication = self.next_publication();
            let published = Arc::make_mut(&mut message);
            published.retain = is_kept;
            published.publication = publication;
            published.expires = message::expiry(now, will.message_expiry_interval);
            // Where the Session ends under a transaction of this turn, its will goes with it.
            let mut publishing = Publishing { is_atomic: true, under, ..Publishing::of(&message, now) };
            under = self.route(now, &mut publishing, publisher).under;
            self.note_published(now, due, closing.cause);
        } else {
            self.stats.wills.denied += 1;
            self.events.push_back(Event::WillDenied { client_id, topic: message.topic().into() });
        }
        self.record_will_gone(session, under);
        if has_ended {
            self.remove_ended(session, under);
        }
        under
    }

    /// Whether a will is retained. Above what its Session may have stored it is delivered, and not kept.
    fn keeps_will(&mut self, session: u32, message: &Message) -> bool {
        let topic = TopicName::parse(message.topic()).expect("a Message has a valid Topic Name");
        let is_kept = message.retain && self.admits_retained(session, topic, message.payload().is_empty());
        self.stats.dropped_retained += u64::from(message.retain && !is_kept);
        is_kept
    }

    fn note_published(&mut self, now: Moment, due: Moment, cause: Cause) {
        let lateness = now.duration_since(due);
        self.stats.wills.published[cause as usize] += 1;
        self.stats.wills.note_lateness(u64::try_from(lateness.as_micros()).unwrap_or(u64::MAX));
        let fresh = StormWatch { since: due, last: now, wills: 0, lateness_max: Duration::ZERO };
        let storm = self.wills.storm.get_or_insert(fresh);
        storm.last = now;
        storm.wills += 1;
        storm.lateness_max = storm.lateness_max.max(lateness);
    }

    /// Reports a burst of wills that has ended, where it was a storm: more than `wills.storm_threshold_per_second`.
    pub(super) fn end_storm(&mut self, now: Moment) {
        if !self.wills.due.is_empty() || self.wills.storm_ends().is_none_or(|ends| ends > now) {
            return;
        }
        if let Some(storm) = self.wills.storm.take() {
            let lasted = storm.last.duration_since(storm.since);
            let seconds = lasted.as_secs().max(1);
            if storm.wills / seconds > u64::from(self.config.wills.storm_threshold_per_second) {
                self.stats.wills.storms += 1;
                self.events.push_back(storm_event(&storm, lasted));
            }
        }
    }

    /// Adds User Properties that tell of the closing, where `wills.stamp` names the topic.
    fn stamp(&self, now: Moment, message: &mut Arc<Message>, client_id: &str, closing: Closing) {
        let topic = TopicName::parse(message.topic()).expect("a Message has a valid Topic Name");
        if !self.wills.stamped.iter().any(|filter| filter.matches(topic)) {
            return;
        }
        let ago = |moment: Moment| format!("{:.3}", now.duration_since(moment).as_secs_f64());
        let mut forwarded = message.forwarded().to_vec();
        let properties = [
            ("willow-client-id", client_id),
            ("willow-cause", closing.cause.as_str()),
            ("willow-closed-seconds-ago", &ago(closing.at)),
            ("willow-last-packet-seconds-ago", &ago(closing.last_packet)),
            ("willow-recovered", if closing.is_recovered { "true" } else { "false" }),
        ];
        let stamp = ForwardedBuilder::new();
        let stamp = properties.iter().fold(stamp, |stamp, (name, value)| stamp.user_property(name, value));
        forwarded.extend_from_slice(&stamp.into_bytes());
        let forwarded = Forwarded::from_encoded(&forwarded);
        let parts = Parts { topic: message.topic(), forwarded, payload: message.payload() };
        let mut stamped = Message::new(parts, message.qos, message.retain, Kind::Will);
        stamped.author = message.author;
        *message = Arc::new(stamped);
    }

    fn is_held(&self, session: u32) -> bool {
        let Some(owner) = self.sessions.get(session) else { return false };
        self.wills.holds.iter().any(|hold| match hold {
            Hold::All => true,
            Hold::Listener(listener) => owner.listener == *listener,
            Hold::ClientIdPrefix(prefix) => owner.client_id.starts_with(&**prefix),
        })
    }

    /// Holds wills back: they fall due and wait.
    pub fn hold_wills(&mut self, hold: Hold) {
        self.wills.holds.push(hold);
    }

    /// Ends a hold. What it held back is published after all, or discarded.
    pub fn release_wills(&mut self, hold: &Hold, fate: WillFate) {
        self.wills.holds.retain(|held| held != hold);
        for key in std::mem::take(&mut self.wills.held) {
            let Some(session) = self.sessions.resolve(key) else { continue };
            if self.is_held(session) {
                self.wills.held.push_back(key);
            } else if fate == WillFate::Publish {
                self.wills.due.push_back(key);
            } else {
                self.discard_due(session);
            }
        }
    }

    /// Discards a will that is due. One that the client has armed since it came back is another will.
    fn discard_due(&mut self, session: u32) {
        let owner = owner_of(&mut self.sessions, session);
        match owner.will.take() {
            WillState::Due { closing, .. } => {
                self.stats.wills.discarded[closing.cause as usize] += 1;
                self.record_will_gone(session, None);
            }
            other => owner.will = other,
        }
        if owner_of(&mut self.sessions, session).has_ended {
            self.remove_ended(session, None);
        }
    }

    /// Makes every will due that is armed or pending, for a server that stops with `wills.on_shutdown = "publish"`.
    pub(super) fn publish_all_wills(&mut self, now: Moment) {
        for session in self.sessions.indices().collect::<Vec<_>>() {
            self.make_will_due(session, now);
        }
        self.publish_due_wills(now, usize::MAX);
    }
}

/// A will as the journal has it.
pub(super) fn will_record(number: u64, will: &Will) -> WillRecord<'_> {
    WillRecord {
        session: SessionNumber(number),
        message: record_of(&will.message),
        delay_interval: will.delay_interval,
        message_expiry_interval: will.message_expiry_interval,
    }
}

fn storm_event(storm: &StormWatch, lasted: Duration) -> Event {
    Event::Storm { wills: storm.wills, lasted, lateness_max: storm.lateness_max }
}

fn owner_of(sessions: &mut super::sessions::Sessions, session: u32) -> &mut crate::session::Session {
    sessions.get_mut(session).expect("a will belongs to a Session")
}
