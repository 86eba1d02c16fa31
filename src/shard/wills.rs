//! Wills: armed by CONNECT, pending when the connection has closed, due when their time has come, then published or discarded.

use super::deliver::Publishing;
use super::event::Event;
use super::holds::Holds;
use super::inspect::WillChange;
use super::journal::{Entity, record_of};
use super::peer::SessionKey;
use super::storms::Storms;
use super::{DropReason, Shard, Timer};
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

/// What becomes of a will when an administrator disconnects its client, or ends a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WillFate {
    /// It is published when it is due.
    Publish,
    /// It is discarded.
    Discard,
}

/// The wills of a shard that are due, and what holds them back.
#[derive(Debug, Default)]
pub(super) struct Wills {
    pub(super) due: VecDeque<SessionKey>,
    pub(super) holds: Holds,
    pub(super) storms: Storms,
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

    /// Wills that stand in the line, or were let go of by a hold and are to be looked at.
    pub(super) fn due_len(&self) -> usize {
        self.due.len() + self.holds.released_len()
    }

    /// Wills that are due and held back.
    pub(super) fn held_len(&self) -> usize {
        self.holds.kept_len()
    }

    /// Whether `wills.allow` admits a will on `topic`.
    pub(super) fn allows_topic(&self, topic: TopicName<'_>) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|filter| filter.matches(topic))
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
        self.on_will_closing_under(now, session, closing, fate, None);
    }

    /// The same for a connection that may turn out never to have been let in: its will is gone only if it was ever armed. The Session's
    /// older one would be gone otherwise.
    pub(super) fn on_will_closing_under(
        &mut self,
        now: Moment,
        session: u32,
        closing: Closing,
        fate: WillFate,
        under: Option<Transaction>,
    ) {
        let owner = self.sessions.get_mut(session).expect("the connection had a Session");
        let will = match owner.will.take() {
            WillState::Armed(will) => will,
            other => {
                owner.will = other; // It is on its way already.
                return;
            }
        };
        self.stats.wills.armed_now -= 1;
        if fate == WillFate::Discard {
            self.stats.wills.discarded[closing.cause] += 1;
            self.trace_will(now, session, WillChange::Discarded);
            return self.record_will_gone(session, under);
        }
        // min(Will Delay Interval, Session Expiry Interval): the Session's end publishes its will. [MQTT-3.1.3-9]
        let delay = Duration::from_secs(u64::from(will.delay_interval));
        let delay = owner.expiry.duration().map_or(delay, |expiry| delay.min(expiry));
        let due = now + delay;
        let number = owner.number.map(SessionNumber);
        if delay.is_zero() {
            owner.will = WillState::Due { will, due, closing };
            self.wills.due.push_back(self.sessions.key(session));
            self.trace_will(now, session, WillChange::Due);
        } else {
            let timer = self.wheel.arm(due, Timer::WillDelay(self.sessions.key(session)));
            owner_of(&mut self.sessions, session).will = WillState::Pending { will, due, timer, closing };
            self.stats.wills.pending_now += 1;
            self.trace_will(now, session, WillChange::Pending { due });
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
        let key = self.sessions.key(session);
        self.wills.holds.forget(key);
        let Some(number) = owner_of(&mut self.sessions, session).number else { return };
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
                self.trace_will(at, session, WillChange::Due);
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
        let (mut postponed, mut put_off) = (Vec::new(), Vec::new());
        for _ in 0..at_most {
            if self.journal.is_failing() || self.must_wills_wait() {
                break; // What cannot be written down as published, or has no room where it goes, stays due.
            }
            if self.go_on_releasing(now, &mut put_off) {
                continue;
            }
            let Some(key) = self.wills.due.pop_front() else { break };
            let Some(session) = self.sessions.resolve(key) else { continue };
            if !matches!(owner_of(&mut self.sessions, session).will, WillState::Due { .. }) {
                continue; // It is gone already, on an operator's word or since its client came back.
            }
            if self.is_held(session) {
                self.wills.holds.keep(key);
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
        self.put_off_releasing(put_off);
        self.end_storm(now);
        self.wills.due_len()
    }

    /// The transaction of this turn under which a Session was changed, if there is one.
    pub(super) fn open_transaction_of(&self, session: u32) -> Option<Transaction> {
        let touched = Entity::Session(self.sessions.key(session));
        self.journal.transactions_of(&touched).into_iter().find(|transaction| self.is_of_this_turn(*transaction))
    }

    /// The newest transaction of this shard that has touched a Session and is not complete.
    pub(super) fn own_transaction_of(&self, session: u32) -> Option<Transaction> {
        let touched = Entity::Session(self.sessions.key(session));
        let is_own = |transaction: &Transaction| usize::from(transaction.shard) == self.id.index();
        self.journal.transactions_of(&touched).into_iter().filter(is_own).max()
    }

    /// Whether a Session ends under an earlier transaction that is not complete: its will must not be gone if that never was.
    pub(super) fn is_between_transactions(&self, session: u32) -> bool {
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
            self.trace_will(now, session, WillChange::Published);
        } else {
            self.stats.wills.denied += 1;
            self.trace_will(now, session, WillChange::Denied);
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
        self.stats.dropped[DropReason::Retained] += u64::from(message.retain && !is_kept);
        is_kept
    }

    fn note_published(&mut self, now: Moment, due: Moment, cause: Cause) {
        let lateness = now.duration_since(due);
        self.stats.wills.published[cause] += 1;
        self.stats.wills.lateness.note_duration(lateness);
        self.wills.storms.note(now, due, cause, lateness);
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

fn owner_of(sessions: &mut super::sessions::Sessions, session: u32) -> &mut crate::session::Session {
    sessions.get_mut(session).expect("a will belongs to a Session")
}
