//! Clients that outlive the broker: what they do, and what they saw.

use crate::crash::broker::Manner;
use crate::crash::disk::{Crash, Faults};
use crate::crash::operating::Operations;
use crate::wire::client::Inbound;
use crate::wire::history::At;
use crate::wire::message::{Message, Received, Will, message, millis};
use crate::wire::network::{Link, Simulation};
use crate::wire::story::options;
use std::collections::BTreeMap;
use std::time::Duration;
use willowmq::codec::{PacketId, ProtocolVersion, ReasonCode};
use willowmq::config::{Config, RestartGrace};
use willowmq::shard::Closed;
use willowmq::timer::Moment;

pub(crate) const NEVER: u32 = u32::MAX;

/// What a client is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Receives what is published to `t/#` and all wills.
    Watcher,
    /// Takes turns with the other members at `s/#`.
    Member,
    /// Publishes, and leaves wills.
    Device,
}

/// One client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    pub(crate) part: Part,
    pub(crate) version: ProtocolVersion,
    pub(crate) is_persistent: bool,
    /// The QoS it subscribes with.
    pub(crate) level: u8,
}

const fn actor(name: &'static str, part: Part, version: ProtocolVersion, is_persistent: bool, level: u8) -> Actor {
    Actor { name, part, version, is_persistent, level }
}

/// Everybody. The first watcher judges the wills.
pub(crate) const ACTORS: [Actor; 10] = [
    actor("watcher", Part::Watcher, ProtocolVersion::V5, true, 2),
    actor("watcher-3", Part::Watcher, ProtocolVersion::V3_1_1, true, 2),
    actor("watcher-q1", Part::Watcher, ProtocolVersion::V5, true, 1),
    actor("watcher-clean", Part::Watcher, ProtocolVersion::V5, false, 2),
    actor("member-0", Part::Member, ProtocolVersion::V5, true, 2),
    actor("member-1", Part::Member, ProtocolVersion::V5, true, 2),
    actor("device-0", Part::Device, ProtocolVersion::V5, true, 0),
    actor("device-1", Part::Device, ProtocolVersion::V3_1_1, true, 0),
    actor("device-2", Part::Device, ProtocolVersion::V5, false, 0),
    actor("device-3", Part::Device, ProtocolVersion::V5, true, 0),
];

/// One Network Connection.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) actor: usize,
    pub(crate) link: Link,
    /// Which life of the broker it belongs to.
    pub(crate) life: usize,
    pub(crate) clean_start: bool,
    pub(crate) expiry: u32,
    pub(crate) keep_alive: u16,
    /// The number of its will, and its delay.
    pub(crate) will: Option<(usize, u32)>,
    /// The client's bytes up to its DISCONNECT.
    pub(crate) goodbye: Option<u64>,
    /// When CONNACK arrived, and what it said.
    pub(crate) answered: Option<(At, ReasonCode, bool)>,
    pub(crate) is_subscribed: bool,
    /// Packets of its inbox that were looked at.
    seen: usize,
}

/// One message or will.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) actor: usize,
    pub(crate) message: Message,
    pub(crate) is_will: bool,
    pub(crate) sent: At,
    pub(crate) acknowledged: Option<At>,
}

/// One PUBLISH that a client got.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) actor: usize,
    pub(crate) attempt: usize,
    pub(crate) number: usize,
    pub(crate) at: At,
    pub(crate) received: Received,
}

/// A retained message as a new client saw it, and what it may have been.
#[derive(Debug)]
pub(crate) struct Glimpse {
    pub(crate) topic: String,
    pub(crate) number: Option<usize>,
    pub(crate) asked: At,
    pub(crate) seen: At,
}

/// What happened.
pub(crate) struct Run {
    pub(crate) sim: Simulation,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) posted: Vec<Posted>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) glimpses: Vec<Glimpse>,
    /// When each client's Subscriptions were first acknowledged.
    pub(crate) subscribed: BTreeMap<usize, At>,
    /// The newest moment of each life at which nothing was under way and all was durable.
    pub(crate) marks: BTreeMap<usize, At>,
    /// Events at which the disk was failing: what a client sent then may have been refused without its hearing of it.
    pub(crate) trouble: Vec<u64>,
    /// Who is there at the end at any rate.
    pub(crate) cast: Vec<usize>,
    pub(crate) operations: Operations,
    unanswered: BTreeMap<(usize, PacketId), usize>,
}

/// A broker with journals so small that everything happens all the time.
pub(crate) fn tiny_config() -> Config {
    let mut config = Config::default();
    config.journal.checkpoint_floor_bytes = 3000;
    config.journal.checkpoint_slice_bytes = 700;
    config.sessions.queue_memory_bytes_max = 30;
    config.wills.restart_grace = RestartGrace::KeepAlive;
    config
}

impl Run {
    pub(crate) fn new(seed: u64, shards: usize, config: Config, manner: Manner) -> Self {
        let sim = Simulation::journalled(seed, shards, config, manner);
        let (attempts, posted, receipts, glimpses) = Default::default();
        let (subscribed, marks, trouble, unanswered) = Default::default();
        let cast = (0..ACTORS.len()).collect();
        let operations = Operations::default();
        Self { sim, attempts, posted, receipts, glimpses, subscribed, marks, trouble, cast, operations, unanswered }
    }

    pub(crate) fn life(&self) -> usize {
        self.sim.journals().ends.len()
    }

    /// The newest connection of a client.
    pub(crate) fn newest(&self, actor: usize) -> Option<usize> {
        self.attempts.iter().rposition(|attempt| attempt.actor == actor)
    }

    /// The connection that a client can use: the broker has accepted it.
    pub(crate) fn usable(&self, actor: usize) -> Option<usize> {
        let newest = self.newest(actor)?;
        let attempt = &self.attempts[newest];
        let is_accepted = matches!(attempt.answered, Some((_, ReasonCode::Success, _)));
        (is_accepted && self.sim.is_usable(attempt.link) && attempt.goodbye.is_none()).then_some(newest)
    }

    /// Connects as the client usually does.
    pub(crate) fn connect(&mut self, actor: usize) {
        let clean_start = !ACTORS[actor].is_persistent;
        self.connect_with(actor, clean_start, 0, None);
    }

    pub(crate) fn connect_with(&mut self, actor: usize, clean_start: bool, keep_alive: u16, will: Option<Will>) {
        let Actor { name, version, is_persistent, .. } = ACTORS[actor];
        let expiry = match version {
            ProtocolVersion::V5 if is_persistent => NEVER,
            ProtocolVersion::V5 => 0,
            _ if clean_start => 0,
            _ => NEVER,
        };
        let connecting = self.sim.connect(name).version(version).clean_start(clean_start);
        let connecting = connecting.keep_alive(Duration::from_secs(keep_alive.into())).receive_maximum(5);
        let connecting = if version == ProtocolVersion::V5 {
            connecting.session_expiry(Duration::from_secs(expiry.into()))
        } else {
            connecting
        };
        let link = match &will {
            Some(will) => connecting.will(will.clone()).posted(),
            None => connecting.posted(),
        };
        let will = will.map(|will| {
            let delay = will.delay;
            (self.post(actor, will.message, true), delay)
        });
        let life = self.life();
        let (goodbye, answered) = (None, None);
        let attempt = Attempt {
            actor,
            link,
            life,
            clean_start,
            expiry,
            keep_alive,
            will,
            goodbye,
            answered,
            is_subscribed: false,
            seen: 0,
        };
        self.attempts.push(attempt);
    }

    fn post(&mut self, actor: usize, message: Message, is_will: bool) -> usize {
        let sent = self.sim.at();
        self.posted.push(Posted { actor, message, is_will, sent, acknowledged: None });
        self.posted.len() - 1
    }

    /// A message whose payload is its number.
    pub(crate) fn numbered(&self, topic: &str, level: u8) -> Message {
        message(topic, &self.posted.len().to_string()).qos(level)
    }

    pub(crate) fn publish(&mut self, actor: usize, message: Message) {
        let Some(attempt) = self.usable(actor) else { return };
        let link = self.attempts[attempt].link;
        let number = self.post(actor, message.clone(), false);
        if let Some(id) = self.sim.post_publish(link, &message) {
            self.unanswered.insert((actor, id), number);
        }
    }

    pub(crate) fn say_goodbye(&mut self, actor: usize) {
        let Some(attempt) = self.usable(actor) else { return };
        let link = self.attempts[attempt].link;
        self.sim.post_disconnect(link, ReasonCode::Success, None);
        self.attempts[attempt].goodbye = Some(self.sim.history(link).bytes_written);
        self.sim.end_link(link, Closed::Fin);
    }

    pub(crate) fn cut(&mut self, actor: usize, how: Closed) {
        if let Some(attempt) = self.newest(actor) {
            self.sim.end_link(self.attempts[attempt].link, how);
        }
    }

    /// The connection of a client is there, or on its way.
    pub(crate) fn is_connected(&self, actor: usize) -> bool {
        self.newest(actor).is_some_and(|newest| {
            let attempt = &self.attempts[newest];
            self.sim.is_usable(attempt.link) && attempt.goodbye.is_none()
        })
    }

    /// Looks at what has arrived, and does what a client does by itself: it subscribes until it knows that it has.
    pub(crate) fn observe(&mut self) {
        self.await_decisions();
        if self.sim.journals().are_failing() {
            self.trouble.push(self.sim.at().event);
        }
        for index in 0..self.attempts.len() {
            let (link, seen) = (self.attempts[index].link, self.attempts[index].seen);
            let inbox = self.sim.client(link).inbox[seen..].to_vec();
            for (offset, inbound) in inbox.into_iter().enumerate() {
                let at = self.sim.history(link).seen[seen + offset];
                self.attempts[index].seen += 1;
                self.on_inbound(index, at, inbound);
            }
        }
        if self.sim.journals().are_durable() && self.sim.is_quiet() {
            let mark = self.sim.at();
            self.marks.insert(self.life(), mark);
        }
    }

    fn on_inbound(&mut self, index: usize, at: At, inbound: Inbound) {
        let actor = self.attempts[index].actor;
        match inbound {
            Inbound::Connack(accepted) => {
                self.attempts[index].answered = Some((at, accepted.reason, accepted.session_present));
                if accepted.reason == ReasonCode::Success && !accepted.session_present {
                    self.unanswered.retain(|(owner, _), _| *owner != actor);
                }
                if accepted.reason == ReasonCode::Success && self.must_subscribe(actor) {
                    self.subscribe(index);
                }
            }
            Inbound::Suback(_, reasons) if reasons.iter().all(|reason| !reason.is_error()) => {
                self.attempts[index].is_subscribed = true;
                self.subscribed.entry(actor).or_insert(at);
            }
            Inbound::Puback(id, reason) | Inbound::Pubrec(id, reason) => {
                // PUBREC may come again.
                if let Some(number) = self.unanswered.remove(&(actor, id))
                    && !reason.is_error()
                {
                    self.posted[number].acknowledged = Some(at);
                }
            }
            Inbound::Publish(received) => {
                let number = received.text().parse().ok();
                let known = number.and_then(|number: usize| Some((number, self.posted.get(number)?)));
                match known {
                    Some((_, posted)) if posted.message.topic != received.topic => {
                        panic!("{received:?} is not {posted:?}")
                    }
                    Some((number, _)) => {
                        self.receipts.push(Receipt { actor, attempt: index, number, at, received });
                    }
                    None => assert!(received.payload.is_empty(), "nobody sent {received:?}"),
                }
            }
            _ => {}
        }
    }

    fn must_subscribe(&self, actor: usize) -> bool {
        let is_known = ACTORS[actor].is_persistent && self.subscribed.contains_key(&actor);
        !is_known && ACTORS[actor].part != Part::Device
    }

    fn subscribe(&mut self, index: usize) {
        let Attempt { actor, link, .. } = self.attempts[index];
        if !self.sim.is_usable(link) {
            return;
        }
        let filters: &[&str] = match ACTORS[actor].part {
            Part::Watcher => &["+/#"],
            Part::Member => &["$share/group/s/#"],
            Part::Device => &[],
        };
        for filter in filters {
            self.sim.post_subscribe(link, filter, options(ACTORS[actor].level));
        }
    }

    /// Lets a few things happen.
    pub(crate) fn step(&mut self, steps: usize) {
        for _ in 0..steps {
            self.sim.step();
        }
        self.observe();
    }

    pub(crate) fn settle(&mut self) {
        self.sim.settle();
        self.observe(); // It may have subscribed.
        self.sim.settle();
        self.observe();
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.observe();
        self.sim.advance(by);
        self.observe();
    }

    /// A new client looks at the retained messages of `topics`.
    pub(crate) fn look_at_retained(&mut self, topics: &[String]) {
        let asked = self.sim.at();
        let life = self.life();
        let link = self.sim.connect("").clean_start(true).receive_maximum(100).posted();
        self.sim.settle();
        if !self.sim.is_usable(link) {
            return;
        }
        self.sim.post_subscribe(link, "r/#", options(1));
        self.sim.settle();
        let seen = self.sim.at();
        if self.life() != life || !self.sim.is_usable(link) {
            return;
        }
        let received = self.sim.received(link);
        for topic in topics {
            let found = received.iter().find(|received| received.topic == *topic && received.retain);
            let number = found.map(|found| found.text().parse().expect("a retained message has a number"));
            self.glimpses.push(Glimpse { topic: topic.clone(), number, asked, seen });
        }
        self.sim.end_link(link, Closed::Fin);
        self.settle();
    }

    /// The broker dies and starts again with so many shards.
    pub(crate) fn crash(&mut self, how: Crash, away: Duration, shards: usize) {
        self.observe();
        self.sim.crash(how, away);
        self.sim.start(shards);
        self.observe();
    }

    /// The broker stops in order and starts again with so many shards.
    pub(crate) fn stop(&mut self, away: Duration, shards: usize) {
        self.sim.disk().faults = Faults::default();
        self.advance(millis(1500));
        self.sim.stop(away);
        self.sim.start(shards);
        self.observe();
    }

    /// All goes well from here on: those who shall come back do, and everything that is due happens.
    pub(crate) fn come_to_an_end(&mut self, returns: impl Fn(usize) -> bool) {
        self.sim.disk().faults = Faults::default();
        self.end_of_work();
        self.advance(millis(1500));
        self.settle();
        for actor in self.cast.clone() {
            let is_there = self.is_connected(actor);
            if !is_there && (ACTORS[actor].part != Part::Device || returns(actor)) {
                self.connect(actor);
            }
            self.settle();
            if let Some(attempt) = self.usable(actor) {
                let link = self.attempts[attempt].link;
                self.sim.set_reading(link, true);
                self.sim.post_acknowledgements(link);
            }
        }
        self.settle();
        self.advance(Duration::from_secs(100));
        self.settle();
    }

    pub(crate) fn now(&self) -> Moment {
        self.sim.now()
    }
}
