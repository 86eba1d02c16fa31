//! The reference model: it knows what clients did and saw, and what the standard makes of that.

use super::run::{Attempt, DEVICES, FILTERS, Published, Run, asked_qos};
use super::sessions::{Continued, Fate};
use crate::wire::client::Inbound;
use crate::wire::history::At;
use crate::wire::message::Received;
use crate::wire::network::Link;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use willowmq::codec::{PacketId, QoS};
use willowmq::timer::Tick;

/// A PUBLISH as a client saw it.
#[derive(Debug, Clone)]
struct Sight {
    at: At,
    received: Received,
}

/// A Session, by the connections that it had.
#[derive(Debug, Default)]
struct Session {
    attempts: Vec<usize>,
    /// When it ended, if it did.
    ended: Option<At>,
    /// Whether it began anew or went on cannot be told.
    is_murky: bool,
}

/// A subscription of one Session.
#[derive(Debug)]
struct Subscription {
    filter: usize,
    sent: At,
    acknowledged: Option<At>,
    unsubscribe_sent: Option<At>,
    unsubscribed: Option<At>,
}

/// Checks a run that has come to its end.
pub(super) fn check(run: &mut Run) {
    let model = Model::new(run);
    model.check_closes();
    model.check_sessions();
    model.check_acknowledged();
    model.check_watcher();
    model.check_wills();
    for session in &model.sessions {
        model.check_deliveries(session);
        model.check_order(session);
        model.check_retained_deliveries(session);
    }
    model.check_workers();
    let retained = model.retained();
    check_retained(run, &retained);
    check_conservation(run);
}

struct Model<'r> {
    run: &'r Run,
    /// What the watcher saw, in order.
    watched: Vec<Sight>,
    /// By message: when the watcher saw it.
    seen: BTreeMap<usize, Vec<At>>,
    sessions: Vec<Session>,
}

impl<'r> Model<'r> {
    fn new(run: &'r Run) -> Self {
        let watched = sights(run, run.watcher);
        let mut seen: BTreeMap<usize, Vec<At>> = BTreeMap::new();
        for sight in watched.iter().filter(|sight| !sight.received.is_repeated) {
            if let Some(number) = number(&sight.received) {
                seen.entry(number).or_default().push(sight.at);
            }
        }
        let mut model = Self { run, watched, seen, sessions: Vec::new() };
        model.sessions = (0..DEVICES).flat_map(|device| model.sessions_of(device)).collect();
        model
    }

    fn attempt(&self, at: usize) -> &'r Attempt {
        &self.run.attempts[at]
    }

    /// The connections of a device that reached its home, in order.
    fn opened(&self, device: usize) -> Vec<usize> {
        let attempts = self.run.attempts.iter().enumerate();
        let of_device = attempts.filter(|(_, attempt)| attempt.device == device && attempt.opened(self.run).is_some());
        of_device.map(|(at, _)| at).collect()
    }

    fn sessions_of(&self, device: usize) -> Vec<Session> {
        let mut sessions: Vec<Session> = Vec::new();
        let mut previous: Option<usize> = None;
        for at in self.opened(device) {
            let attempt = self.attempt(at);
            let continued = previous.map_or(Continued::No, |old| self.attempt(old).continued_by(self.run, attempt));
            let told = self.session_present(at);
            let goes_on = match continued {
                Continued::Yes => true,
                Continued::No => false,
                Continued::Perhaps => told == Some(true),
            };
            if goes_on {
                sessions.last_mut().expect("there was a connection before").attempts.push(at);
            } else {
                if let Some(old) = sessions.last_mut() {
                    old.ended = attempt.opened(self.run);
                }
                let is_murky = continued == Continued::Perhaps && told.is_none();
                sessions.push(Session { attempts: vec![at], ended: None, is_murky });
            }
            previous = Some(at);
        }
        sessions
    }

    fn session_present(&self, at: usize) -> Option<bool> {
        self.run.sim.client(self.attempt(at).link).connack().map(|connack| connack.session_present)
    }

    /// The first moment of rest at or after `at`.
    fn rest_after(&self, at: At) -> At {
        *self.run.rests.iter().find(|rest| rest.event >= at.event).expect("a run ends at rest")
    }

    /// The broker closes a connection only for a reason that the standard knows.
    fn check_closes(&self) {
        for device in 0..DEVICES {
            let opened = self.opened(device);
            for (position, at) in opened.iter().enumerate() {
                let attempt = self.attempt(*at);
                let history = self.run.sim.history(attempt.link);
                let (Some(closed), true) = (history.closed, history.was_closed_by_broker) else { continue };
                let next = opened.get(position + 1).and_then(|next| self.attempt(*next).opened(self.run));
                let is_taken_over = next.is_some_and(|next| next.step == closed.step);
                if is_taken_over || attempt.said_goodbye(self.run) {
                    continue;
                }
                assert!(attempt.keep_alive > 0, "{attempt:?} was closed for no reason");
                let deadline = history.last_packet + Duration::from_millis(1500 * attempt.keep_alive);
                assert!(closed.moment >= deadline, "[MQTT-3.1.2-22] too early: {attempt:?} {closed:?} {deadline:?}");
                let late = closed.moment.duration_since(deadline);
                assert!(late <= Tick::LENGTH, "{attempt:?} was closed {late:?} late");
            }
        }
    }

    /// Session Present tells the truth. [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    fn check_sessions(&self) {
        for device in 0..DEVICES {
            for pair in self.opened(device).windows(2) {
                let (old, new) = (self.attempt(pair[0]), self.attempt(pair[1]));
                let expected = match old.continued_by(self.run, new) {
                    Continued::Perhaps => continue,
                    continued => continued == Continued::Yes,
                };
                if let Some(told) = self.session_present(pair[1]) {
                    assert_eq!(told, expected, "Session Present of {new:?} after {old:?}");
                }
            }
        }
    }

    /// What was acknowledged was published; what arrived was.
    fn check_acknowledged(&self) {
        for (number, published) in self.run.messages.iter().enumerate().filter(|(_, message)| !message.is_will) {
            if published.message.payload.is_empty() {
                continue;
            }
            let attempt = self.attempt(published.attempt);
            let arrived = self.run.sim.history(attempt.link).bytes_arrived >= published.end;
            let acknowledged = published.packet_id.is_some_and(|id| self.is_acknowledged(published.device, id));
            if arrived || acknowledged {
                assert!(self.seen.contains_key(&number), "{number} was accepted and is lost: {published:?}");
            }
        }
    }

    fn is_acknowledged(&self, device: usize, id: PacketId) -> bool {
        let links = self.run.attempts.iter().filter(|attempt| attempt.device == device).map(|attempt| attempt.link);
        links.flat_map(|link| &self.run.sim.client(link).inbox).any(|inbound| match inbound {
            Inbound::Puback(acknowledged, reason) | Inbound::Pubrec(acknowledged, reason) => {
                *acknowledged == id && !reason.is_error()
            }
            _ => false,
        })
    }

    /// How often the publisher may have missed that its Session was gone: then it sends again what the server has forgotten.
    fn unnoticed_losses(&self, published: &Published) -> usize {
        let of_device = self.sessions.iter().filter(|session| self.device(session) == published.device);
        let began = of_device.map(|session| session.attempts[0]);
        began.filter(|at| *at > published.attempt && !self.attempt(*at).clean_start).count()
    }

    /// The watcher gets each publication once: QoS 0 at most once, QoS 2 exactly once, QoS 1 as often as it was sent.
    fn check_watcher(&self) {
        for (number, times) in &self.seen {
            let published = &self.run.messages[*number];
            let connections = self.opened(published.device).len();
            let most = match published.message.qos {
                _ if published.is_will => 1,
                QoS::AtMostOnce => 1,
                QoS::AtLeastOnce => connections,
                QoS::ExactlyOnce => 1 + self.unnoticed_losses(published),
            };
            assert!(times.len() <= most, "{number} was published {} times: {published:?}", times.len());
            assert!(times[0].event > published.sent.event);
        }
        for sight in &self.watched {
            if let Some(number) = number(&sight.received) {
                let message = &self.run.messages[number].message;
                assert_eq!((&sight.received.topic, sight.received.qos), (&message.topic, message.qos));
            }
        }
    }

    /// Each will exactly once or never, never early, and no later than the first rest after its tick.
    fn check_wills(&self) {
        let now = self.run.sim.now();
        for device in 0..DEVICES {
            let opened = self.opened(device);
            for (position, at) in opened.iter().enumerate() {
                let attempt = self.attempt(*at);
                let Some((will, delay)) = attempt.will else { continue };
                let next = opened.get(position + 1).map(|next| self.attempt(*next));
                let fate = attempt.will_fate(self.run, delay, next, now);
                let sights = self.seen.get(&will).map_or(&[][..], Vec::as_slice);
                match (fate, sights) {
                    (Fate::Unpublished, []) => {}
                    (Fate::Published(due), [sight]) => {
                        assert!(sight.moment >= due, "will {will} is early: {sight:?}, due {due:?}, {attempt:?}");
                        let latest = self.run.rests.iter().find(|rest| rest.moment >= due + Tick::LENGTH);
                        let is_late = latest.is_some_and(|latest| latest.event < sight.event);
                        assert!(!is_late, "will {will} is late: {sight:?}, due {due:?}, {attempt:?}");
                        self.check_death_before_birth(will, *sight, next);
                    }
                    _ => panic!("will {will}: {fate:?} but seen {sights:?}; {attempt:?}, then {next:?}"),
                }
            }
        }
        let unopened = self.run.attempts.iter().filter(|attempt| attempt.opened(self.run).is_none());
        for (will, _) in unopened.filter_map(|attempt| attempt.will) {
            assert!(!self.seen.contains_key(&will), "will {will} of a CONNECT that never came");
        }
    }

    /// Nothing that the client says on its next connection arrives before the will of the one before.
    fn check_death_before_birth(&self, will: usize, sight: At, next: Option<&Attempt>) {
        let Some(next) = next else { return };
        let later = self
            .run
            .messages
            .iter()
            .enumerate()
            .filter(|(_, message)| !message.is_will && self.attempt(message.attempt).link == next.link);
        for (number, _) in later {
            for birth in self.seen.get(&number).into_iter().flatten() {
                assert!(birth.event >= sight.event, "{number} arrived before the will {will}");
            }
        }
    }

    fn subscriptions(&self, session: &Session) -> Vec<Subscription> {
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for wish in self.run.wishes.iter().filter(|wish| session.attempts.contains(&wish.attempt)) {
            let answered = self.answered(self.attempt(wish.attempt).link, wish.packet_id);
            if wish.subscribes {
                let (filter, sent) = (wish.filter, wish.sent);
                let (unsubscribe_sent, unsubscribed) = (None, None);
                subscriptions.push(Subscription {
                    filter,
                    sent,
                    acknowledged: answered,
                    unsubscribe_sent,
                    unsubscribed,
                });
                continue;
            }
            for subscription in subscriptions.iter_mut().filter(|subscription| subscription.filter == wish.filter) {
                subscription.unsubscribe_sent.get_or_insert(wish.sent);
                subscription.unsubscribed = subscription.unsubscribed.or(answered);
            }
        }
        subscriptions
    }

    fn answered(&self, link: Link, id: PacketId) -> Option<At> {
        let inbox = &self.run.sim.client(link).inbox;
        let position = inbox.iter().position(
            |inbound| matches!(inbound, Inbound::Suback(answered, _) | Inbound::Unsuback(answered, _) if *answered == id),
        )?;
        Some(self.run.sim.history(link).seen[position])
    }

    fn sights_of(&self, session: &Session) -> Vec<Sight> {
        session.attempts.iter().flat_map(|at| sights(self.run, self.attempt(*at).link)).collect()
    }

    fn device(&self, session: &Session) -> usize {
        self.attempt(session.attempts[0]).device
    }

    /// A Session gets what its subscriptions entitle it to, and nothing else.
    fn check_deliveries(&self, session: &Session) {
        if session.is_murky {
            return;
        }
        let device = self.device(session);
        let subscriptions = self.subscriptions(session);
        let mut live: BTreeMap<usize, Vec<Sight>> = BTreeMap::new();
        for sight in self.sights_of(session) {
            let is_matched = subscriptions.iter().any(|it| matches(FILTERS[it.filter], &sight.received.topic));
            assert!(is_matched, "device {device} never subscribed to {sight:?}");
            if let (Some(number), false) = (number(&sight.received), sight.received.retain) {
                live.entry(number).or_default().push(sight);
            }
        }
        for (number, times) in &self.seen {
            let sights = live.remove(number).unwrap_or_default();
            self.check_delivery(session, device, &subscriptions, *number, times, &sights);
        }
        assert!(live.is_empty(), "device {device} got what the watcher did not: {live:?}");
    }

    fn check_delivery(
        &self,
        session: &Session,
        device: usize,
        subscriptions: &[Subscription],
        number: usize,
        times: &[At],
        sights: &[Sight],
    ) {
        let published = &self.run.messages[number];
        let (first, last) = (published.sent, self.rest_after(*times.last().expect("it was seen")));
        let matching = || subscriptions.iter().filter(|it| matches(FILTERS[it.filter], &published.message.topic));
        let granted = |it: &Subscription| asked_qos(device, it.filter).min(published.message.qos);
        let possible = matching().filter(|it| {
            let ended = it.unsubscribed.into_iter().chain(session.ended).min();
            it.sent.event <= last.event && ended.is_none_or(|ended| ended.event >= first.event)
        });
        let certain = matching().filter(|it| {
            it.acknowledged.is_some_and(|at| at.event < first.event)
                && it.unsubscribe_sent.is_none_or(|at| at.event > last.event)
        });
        let most = possible.map(granted).max();
        let least = certain.map(granted).max();
        let what = || format!("message {number} at device {device}: {published:?}, seen {sights:?}");
        for sight in sights {
            assert!(
                most.is_some_and(|most| sight.received.qos <= most),
                "not subscribed, or with less QoS: {}",
                what()
            );
        }
        let used = sights.iter().filter(|sight| !sight.received.is_repeated);
        let unrepeated = used.clone().filter(|sight| !sight.received.dup).count();
        assert!(unrepeated <= times.len(), "delivered more often than published: {}", what());
        if sights.iter().any(|sight| sight.received.qos == QoS::ExactlyOnce) {
            assert!((1..=times.len()).contains(&used.count()), "[MQTT-4.3.3] not exactly once: {}", what());
        }
        let is_over = self.run.drained_at.is_some_and(|drained| last.event <= drained.event);
        let is_owed = session.ended.is_none()
            && is_over
            && self.is_alive(session)
            && least.is_some_and(|qos| qos != QoS::AtMostOnce);
        assert!(!is_owed || !sights.is_empty(), "owed and not delivered: {}", what());
    }

    /// Whether its client read and acknowledged at the end until nothing more came.
    fn is_alive(&self, session: &Session) -> bool {
        let newest = self.attempt(*session.attempts.last().expect("a Session has a connection"));
        self.run.drained.contains(&newest.link)
    }

    /// Messages of one publisher, topic and QoS arrive for the first time in the order of their publication.
    /// [MQTT-4.6.0-6]
    fn check_order(&self, session: &Session) {
        // A message that its publisher repeated has two places in the order.
        let is_ranked = |number: &usize| self.seen.get(number).is_some_and(|times| times.len() == 1);
        let position: BTreeMap<usize, usize> = {
            let numbers = self.watched.iter().filter_map(|sight| number(&sight.received));
            let mut position = BTreeMap::new();
            for (at, number) in numbers.enumerate() {
                position.entry(number).or_insert(at);
            }
            position
        };
        let mut newest: BTreeMap<(usize, String, QoS), usize> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for sight in self.sights_of(session).into_iter().filter(|sight| !sight.received.retain) {
            let Some(number) = number(&sight.received).filter(is_ranked) else { continue };
            if !known.insert(number) {
                continue;
            }
            let published = &self.run.messages[number];
            let stream = (published.device, sight.received.topic.clone(), sight.received.qos);
            let at = position[&number];
            let before = newest.insert(stream, at);
            assert!(before.is_none_or(|before| before < at), "out of order at {}: {sight:?}", self.device(session));
        }
    }

    /// What is marked retained was retained on its topic, and is not older than what came live since the SUBSCRIBE.
    fn check_retained_deliveries(&self, session: &Session) {
        let subscriptions = self.subscriptions(session);
        let mut live: BTreeMap<(String, QoS), (usize, At)> = BTreeMap::new();
        for sight in self.sights_of(session).into_iter().filter(|sight| !sight.received.dup) {
            let Some(number) = number(&sight.received) else {
                assert!(!sight.received.retain, "[MQTT-3.3.1-6] an empty retained message is not kept");
                continue;
            };
            let message = &self.run.messages[number].message;
            let key = (sight.received.topic.clone(), sight.received.qos);
            if !sight.received.retain {
                if message.retain {
                    live.insert(key, (number, sight.at));
                }
                continue;
            }
            assert!(message.retain && message.topic == sight.received.topic, "never retained: {sight:?}");
            let matching = subscriptions.iter().filter(|it| matches(FILTERS[it.filter], &message.topic));
            let Some(since) = matching.map(|it| it.sent.event).min() else { panic!("not subscribed: {sight:?}") };
            if let Some((newer, at)) = live.get(&key).filter(|(_, at)| at.event > since) {
                let order = |number: &usize| self.seen.get(number).map(|times| times[0].event);
                assert!(order(&number) >= order(newer), "{number} is older than {newer}, live at {at:?}: {sight:?}");
            }
        }
    }

    /// Every message for the Shared Subscription goes to one of its members.
    fn check_workers(&self) {
        let links = self.run.workers.iter().flatten();
        let mut got: BTreeMap<usize, Vec<Sight>> = BTreeMap::new();
        for sight in links.flat_map(|link| sights(self.run, *link)) {
            assert!(!sight.received.retain, "a Shared Subscription gets no retained messages");
            if let Some(number) = number(&sight.received) {
                got.entry(number).or_default().push(sight);
            }
        }
        for (number, times) in &self.seen {
            let published = &self.run.messages[*number];
            let sights = got.remove(number).unwrap_or_default();
            let used = sights.iter().filter(|sight| !sight.received.is_repeated).count();
            let fresh = sights.iter().filter(|sight| !sight.received.dup).count();
            let what = || format!("{number} at the workers: {published:?}, seen {sights:?}");
            assert!(fresh <= times.len(), "more than one member got {}", what());
            let is_matched = matches("t/#", &published.message.topic);
            assert!(is_matched || sights.is_empty(), "not subscribed: {}", what());
            match published.message.qos {
                QoS::AtLeastOnce if is_matched => assert!(used >= 1, "lost: {}", what()),
                QoS::ExactlyOnce if is_matched => assert_eq!(used, times.len(), "not exactly once: {}", what()),
                _ => {}
            }
        }
    }

    /// The last retained message of each topic, in the order that the watcher saw.
    fn retained(&self) -> Vec<(String, String)> {
        let mut retained: BTreeMap<String, String> = BTreeMap::new();
        for sight in &self.watched {
            let topic = sight.received.topic.clone();
            match number(&sight.received) {
                Some(number) if self.run.messages[number].message.retain => {
                    retained.insert(topic, number.to_string());
                }
                Some(_) => {}
                None => {
                    retained.remove(&topic);
                }
            }
        }
        retained.into_iter().collect()
    }
}

/// A new subscriber gets the last retained message of each topic. [MQTT-3.3.1-5], [MQTT-3.3.1-6]
fn check_retained(run: &mut Run, expected: &[(String, String)]) {
    assert_eq!(run.sim.retained("#"), expected);
    for (topic, text) in expected {
        assert_eq!(run.sim.retained(topic), [(topic.clone(), text.clone())]);
    }
}

/// Every will that was armed is accounted for, in one place.
fn check_conservation(run: &Run) {
    for shard in run.sim.shards() {
        let wills = &shard.stats().wills;
        let accounted =
            wills.published_total() + wills.discarded_total() + wills.denied + wills.armed_now + wills.pending_now;
        assert_eq!(wills.armed, accounted, "{wills:?}");
        assert!(wills.lateness.max() <= Tick::LENGTH.as_micros() as u64, "{wills:?}");
    }
}

/// The number of a message, which is its payload.
fn number(received: &Received) -> Option<usize> {
    (!received.payload.is_empty()).then(|| received.text().parse().expect("payloads are numbers"))
}

fn sights(run: &Run, link: Link) -> Vec<Sight> {
    let seen = &run.sim.history(link).seen;
    let inbox = run.sim.client(link).inbox.iter().zip(seen);
    let sight = |(inbound, at): (&Inbound, &At)| match inbound {
        Inbound::Publish(received) => Some(Sight { at: *at, received: received.clone() }),
        _ => None,
    };
    inbox.filter_map(sight).collect()
}

/// The definition of matching. (§4.7.1)
fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([left, filter @ ..], [right, topic @ ..]) => left == right && levels(filter, topic),
            ([], _) | (_, []) => false,
        }
    }
    let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    levels(&filter, &topic)
}
