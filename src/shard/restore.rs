//! A shard that goes on from what its journal told, and the grace that recovered wills have.

use super::journal::Journal;
use super::peer::SessionKey;
use super::{Shard, ShardId, Subscriber, Timer};
use crate::config::{Config, RestartGrace};
use crate::journal::appender::Appender;
use crate::journal::record::{Record, Transaction};
use crate::journal::recovery::{Recovered, RecoveredDelivery, RecoveredSession, RecoveredWill, StoredMessage};
use crate::session::message::{Author, Delivery};
use crate::session::outgoing::Sending;
use crate::session::queue::{Away, Body, Waiting};
use crate::session::will::{Cause, Closing, WillState};
use crate::session::{Session, SessionExpiry, Subscription};
use crate::timer::Moment;
use crate::topic::Subscribed;
use std::sync::Arc;
use std::time::Duration;

/// The grace where `wills.restart_grace` is "keep-alive" and the client has none.
const GRACE_WITHOUT_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Each start begins a segment; with more than these a checkpoint sweeps them up.
const SEGMENTS_MAX: usize = 8;

/// What is left to do of a restart.
#[derive(Debug, Default)]
pub(super) struct Restart {
    /// Sessions whose expiry and wills wait for the listeners to open.
    returned: Vec<SessionKey>,
    /// The fence behind all that the peers must know of the Subscriptions.
    is_known_by: Option<u64>,
    /// What must be durable before anything else is written: which transactions never were. A checkpoint of another shard could otherwise
    /// make them look complete.
    is_durable_at: u64,
    /// What was recovered lies in this shard's own journal, so that a long queue need not stay in memory.
    is_in_journal: bool,
    /// So many starts have left a segment each that a checkpoint is due, whatever they hold.
    pub(super) has_many_segments: bool,
    /// The listeners were opened.
    pub(super) is_open: bool,
}

impl Shard {
    /// The shard `id` of `shards`, going on from what its journal told. `seed` decides who is at home where, and is the one under which the
    /// journal was written.
    ///
    /// The listeners may open once [`Self::is_restored`] says so, and then [`Self::open_for_business`] is to be called.
    pub fn journalled(
        id: ShardId,
        shards: usize,
        seed: u64,
        config: Arc<Config>,
        now: Moment,
        recovered: Recovered,
    ) -> Self {
        let mut shard = Self::new(id, shards, seed, config, now);
        let backlog_max = shard.config.journal.backlog_bytes_max as u64;
        let appender = Appender::new(recovered.position);
        shard.journal = Journal::new(appender, shard.hasher.clone(), backlog_max);
        let starts = recovered.existing.iter().map(|segment| segment.name.start);
        shard.note_log_start(starts.min().unwrap_or(recovered.position.offset));
        shard.restore(now, recovered);
        shard
    }

    fn restore(&mut self, now: Moment, recovered: Recovered) {
        self.restart.is_in_journal = recovered.position.offset > 0;
        self.journal.number_sessions_from(recovered.next_session);
        self.publications = recovered.publications;
        self.peers.number_transactions_from(recovered.transactions + 1);
        for complete in &recovered.completes {
            self.journal.adopt_complete(*complete);
        }
        for void in &recovered.voids {
            self.journal.append(&Record::Void(*void));
        }
        // Whatever this shard began is complete or void by now, and what comes is numbered higher.
        self.journal.adopt_complete(Transaction { shard: self.id.index() as u8, number: recovered.transactions });
        for stored in recovered.retained {
            self.journal.adopt_message(stored.publication, stored.extent);
            if let Some(message) = stored.message {
                self.restore_retained(message);
            }
        }
        let stopped = recovered.stopped.unwrap_or(now);
        self.restart.has_many_segments = recovered.existing.len() > SEGMENTS_MAX;
        for session in recovered.sessions {
            self.restore_session(now, stopped, session);
        }
        self.journal.append(&Record::Clock(now));
        self.journal.end_step();
        if !recovered.voids.is_empty() {
            self.restart.is_durable_at = self.journal.offset();
        }
        self.restart.is_known_by = self.peers.has_peers().then(|| self.peers.request_fence());
    }

    fn restore_session(&mut self, now: Moment, stopped: Moment, recovered: RecoveredSession) {
        let header = recovered.header;
        let client_id: Arc<str> = header.client_id.into();
        let number = header.session;
        // A Session that was to end with its connection may still hold what must return to its groups: it ends once they are there.
        let must_return = recovered.deliveries.iter().any(|delivery| delivery.shared.is_some());
        let is_kept = header.expiry != 0 || must_return;
        if !is_kept && recovered.will.is_none() {
            // It ended with its connection, or with the server.
            return self.journal.append(&Record::SessionEnded(number));
        }
        if let Some(older) = self.sessions.find(&client_id) {
            // Sessions come in the order of their numbers, and a client has one: the newer overrules.
            self.end_session(now, older);
            if self.sessions.get(older).is_some() {
                self.publish_will(now, older);
            }
        }
        let closed = header.closed.unwrap_or(stopped);
        let expiry = SessionExpiry::from_seconds(header.expiry);
        let bounds = self.bounds.of(header.listener, header.identity.username.as_deref());
        let mut session = Session::new(closed, Arc::clone(&client_id), self.hasher.hash_one(&*client_id), bounds);
        session.number = Some(number.0);
        session.is_kept = is_kept;
        session.has_ended = !is_kept;
        session.listener = header.listener;
        session.keep_alive = header.keep_alive;
        session.identity = header.identity;
        session.expiry = expiry;
        session.author = Author { connection: header.connection, ..session.author };
        session.ends = expiry.duration().filter(|_| is_kept).map(|expiry| closed + expiry);
        session.received = recovered.received.into_iter().collect();
        self.connects = self.connects.max(header.connection);
        let index = self.sessions.insert(session);
        if is_kept {
            for (filter, options, id) in recovered.subscriptions {
                self.restore_subscription(index, &filter, options, id);
            }
            for delivery in recovered.deliveries {
                self.restore_delivery(index, delivery);
            }
        }
        if header.closed.is_none() {
            self.record_session(index, Some(closed)); // The next restart counts from here, too.
        }
        if let Some(will) = recovered.will {
            self.restore_will(index, closed, will);
        }
        self.restart.returned.push(self.sessions.key(index));
    }

    fn restore_subscription(
        &mut self,
        session: u32,
        text: &str,
        options: crate::codec::SubscriptionOptions,
        id: Option<u32>,
    ) {
        let Ok(subscribed) = Subscribed::parse(text) else { return };
        let subscription = Subscription { subscribed, options, id };
        let owner = self.sessions.get_mut(session).expect("it was restored just now");
        owner.subscriptions.insert(text.into(), subscription.clone());
        match &subscription.subscribed {
            Subscribed::Plain(filter) => {
                let options = self.subscriber_options(session, &subscription);
                self.add_subscriber(filter, Subscriber::Session(session), options);
            }
            Subscribed::Shared { .. } => self.rejoin(session, &subscription),
        }
    }

    /// Makes a Session a member of its group again. Nobody waits for it: after a start the listeners are closed until all shards know.
    pub(super) fn rejoin(&mut self, session: u32, subscription: &Subscription) {
        let Subscribed::Shared { group, filter } = &subscription.subscribed else { return };
        let key = Arc::new(crate::session::message::SharedKey { group: group.as_ref().into(), filter: filter.clone() });
        let gate = self.peers.name_gate();
        self.join(key, session, subscription, gate);
    }

    fn restore_delivery(&mut self, session: u32, delivery: RecoveredDelivery) {
        let RecoveredDelivery { place, message, qos, retain, subscription_ids, shared, packet_id, is_released, queued } =
            delivery;
        if let Some(stored) = &message {
            self.journal.adopt_message(stored.publication, stored.extent);
        }
        let owner = self.sessions.get_mut(session).expect("it was restored just now");
        let outgoing = &mut owner.outgoing;
        match (packet_id, message) {
            (Some(id), _) if is_released => outgoing.restore_in_flight(place, id, Sending::AwaitPubcomp),
            (Some(id), Some(StoredMessage { message: Some(message), .. })) => {
                let delivery = Delivery { message, qos, retain, subscription_ids, shared };
                let sending = match qos {
                    crate::codec::QoS::ExactlyOnce => Sending::AwaitPubrec(delivery),
                    _ => Sending::AwaitPuback(delivery),
                };
                outgoing.restore_in_flight(place, id, sending);
            }
            (_, Some(stored)) => {
                let body = match stored.message {
                    Some(message) => Body::Here(message),
                    None => Body::Away(Away {
                        publication: stored.publication,
                        expires: stored.expires,
                        size: stored.size,
                        kind: stored.kind,
                        is_asked_for: false,
                    }),
                };
                let waiting = Waiting { place, queued, body, qos, retain, subscription_ids, shared };
                let is_stored = self.restart.is_in_journal && waiting.shared.is_none();
                outgoing.restore_waiting(waiting, is_stored, &mut self.queues);
            }
            (_, None) => outgoing.skip_places(place),
        }
    }

    /// A will that was armed counts as if its connection had closed when the server stopped. (WILLS.md, *Restart*)
    fn restore_will(&mut self, session: u32, closed: Moment, recovered: RecoveredWill) {
        let RecoveredWill { will, pending } = recovered;
        let owner = self.sessions.get(session).expect("it was restored just now");
        let (due, mut closing) = pending.unwrap_or_else(|| {
            let delay = Duration::from_secs(u64::from(will.delay_interval));
            let delay = owner.expiry.duration().map_or(delay, |expiry| delay.min(expiry));
            let cause = Cause::ServerDied;
            (closed + delay, Closing { cause, at: closed, last_packet: closed, is_recovered: true })
        });
        closing.is_recovered = true;
        // It is not due before the grace has passed, and that begins when the listeners open.
        let key = self.sessions.key(session);
        let timer = self.wheel.arm(Moment::MAX, Timer::WillDelay(key));
        let owner = self.sessions.get_mut(session).expect("it was restored just now");
        owner.will = WillState::Pending { will: Box::new(will), due, timer, closing };
        self.stats.wills.pending_now += 1;
    }

    /// Whether all shards know the Subscriptions found in the journal, so that no message can miss them, and what the journal had to be
    /// told first is durable.
    pub fn is_restored(&self) -> bool {
        self.journal.is_durable(self.restart.is_durable_at)
            && self.restart.is_known_by.is_none_or(|fence| self.peers.has_heard(fence))
    }

    /// The listeners are open: the grace of recovered wills begins. A client that comes back within it raises no false alarm.
    pub fn open_for_business(&mut self, now: Moment) {
        self.restart.is_open = true;
        for key in std::mem::take(&mut self.restart.returned) {
            let Some(session) = self.sessions.resolve(key) else { continue };
            let Some(owner) = self.sessions.get_mut(session) else { continue };
            let mut ends = owner.ends;
            if let WillState::Pending { due, timer, .. } = &mut owner.will {
                let grace_ends = now + grace(&self.config, owner.keep_alive);
                *due = grace_ends.max(*due);
                // A Session that ends publishes its will, and so is there until then, even if nobody can resume it any more.
                ends = ends.map(|ends| ends.max(grace_ends));
                let old = std::mem::replace(timer, self.wheel.arm(*due, Timer::WillDelay(key)));
                self.wheel.cancel(old);
            }
            owner.expiry_timer = ends.map(|ends| self.wheel.arm(ends, Timer::SessionExpiry(key)));
        }
    }

    /// Writes down that the broker stops in order, which is when its armed wills' connections count as closed.
    pub fn record_stop(&mut self, now: Moment) {
        self.journal.append(&Record::Stopped(now));
        self.journal.end_step();
    }
}

/// How long after a restart a client may take to come back without raising a false alarm.
pub(super) fn grace(config: &Config, keep_alive: u16) -> Duration {
    match config.wills.restart_grace {
        RestartGrace::After(grace) => grace,
        RestartGrace::KeepAlive if keep_alive == 0 => GRACE_WITHOUT_KEEP_ALIVE,
        RestartGrace::KeepAlive => Duration::from_millis(1500 * u64::from(keep_alive)),
    }
}
