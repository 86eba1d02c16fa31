//! Draws what happens, and writes down what the clients did.

use crate::wire::history::At;
use crate::wire::message::{Message, Will, message, millis};
use crate::wire::network::{Link, Simulation};
use crate::wire::story::options;
use std::time::Duration;
use willowmq::codec::{PacketId, ProtocolVersion, QoS, ReasonCode};
use willowmq::config::Config;
use willowmq::shard::Closed;

pub(super) const DEVICES: usize = 6;
pub(super) const WORKERS: usize = 2;
const ACTIONS: usize = 120;
pub(super) const NEVER: u32 = u32::MAX;

pub(super) const FILTERS: [&str; 8] = ["#", "t/#", "t/+/a", "t/+/w", "t/0/+", "t/1/b", "c/x", "+/x"];

/// The QoS that a device asks for with a filter: always the same, so that subscribing again changes nothing.
pub(super) fn asked_qos(device: usize, filter: usize) -> QoS {
    QoS::new(((device + filter) % 3) as u8).expect("below three")
}

/// One CONNECT of a device.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) device: usize,
    pub(super) link: Link,
    pub(super) version: ProtocolVersion,
    pub(super) clean_start: bool,
    /// Session Expiry Interval in seconds, and what it amounts to for 3.x.
    pub(super) expiry: u32,
    /// In seconds.
    pub(super) keep_alive: u64,
    /// Its will, among the messages, and its delay in seconds.
    pub(super) will: Option<(usize, u32)>,
    pub(super) goodbye: Option<Goodbye>,
}

/// A DISCONNECT that was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goodbye {
    /// Where it ends in the stream of its connection.
    pub(super) end: u64,
    pub(super) reason: ReasonCode,
    pub(super) expiry: Option<u32>,
}

/// A message that a device published, or left as its will.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) device: usize,
    pub(super) message: Message,
    pub(super) is_will: bool,
    /// The attempt it was first sent on, and where it ends in that stream.
    pub(super) attempt: usize,
    pub(super) end: u64,
    pub(super) packet_id: Option<PacketId>,
    pub(super) sent: At,
}

/// A SUBSCRIBE or UNSUBSCRIBE with one filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) attempt: usize,
    pub(super) filter: usize,
    pub(super) packet_id: PacketId,
    pub(super) sent: At,
    pub(super) subscribes: bool,
}

/// A run, and all that the model needs to judge it.
pub(super) struct Run {
    pub(super) sim: Simulation,
    pub(super) attempts: Vec<Attempt>,
    pub(super) messages: Vec<Published>,
    pub(super) wishes: Vec<Wish>,
    /// When everything had come to rest.
    pub(super) rests: Vec<At>,
    /// Sees everything, always reads, and is never cut.
    pub(super) watcher: Link,
    /// Connections of each worker: the members of a Shared Subscription whose Sessions stay.
    pub(super) workers: Vec<Vec<Link>>,
    /// Connections whose clients read and acknowledged at the end until nothing more came.
    pub(super) drained: Vec<Link>,
    pub(super) drained_at: Option<At>,
    versions: Vec<ProtocolVersion>,
}

impl Run {
    pub(super) fn new(seed: u64) -> Self {
        let shards = [1, 2, 5][(seed % 3) as usize];
        let mut sim = Simulation::new(seed, shards, Config::default());
        let watcher = sim.connect("watcher").accepted();
        sim.subscribe(watcher, "#", 2);
        let versions = [ProtocolVersion::V5, ProtocolVersion::V5, ProtocolVersion::V3_1_1, ProtocolVersion::V3_1];
        let versions = (0..DEVICES).map(|_| sim.random.below(versions.len())).map(|at| versions[at]).collect();
        let mut run = Self {
            sim,
            attempts: Vec::new(),
            messages: Vec::new(),
            wishes: Vec::new(),
            rests: Vec::new(),
            watcher,
            workers: vec![Vec::new(); WORKERS],
            drained: Vec::new(),
            drained_at: None,
            versions,
        };
        for worker in 0..WORKERS {
            let link = run.connect_worker(worker, true);
            run.sim.settle();
            run.sim.subscribe(link, "$share/workers/t/#", 2);
        }
        run
    }

    /// Everything that happens, up to the point where all has come to rest and nothing is pending.
    pub(super) fn play(&mut self) {
        for _ in 0..ACTIONS {
            self.act();
            for _ in 0..self.sim.random.below(8) {
                self.sim.step();
            }
        }
        self.rest();
        if self.sim.random.one_in(2) {
            self.sim.advance(Duration::from_secs(20)); // Everybody hears of the wills that are pending.
            self.rest();
        }
        for device in 0..DEVICES {
            self.bring_back(device);
        }
        for worker in 0..WORKERS {
            self.bring_worker_back(worker);
        }
        self.rest();
        let links = self.attempts.iter().map(|attempt| attempt.link);
        self.drained = links.filter(|link| self.sim.is_usable(*link)).collect();
        self.drained_at = self.rests.last().copied();
        self.sim.advance(Duration::from_secs(20));
        self.rest();
    }

    fn rest(&mut self) {
        self.sim.settle();
        let at = self.sim.at();
        self.rests.push(at);
    }

    fn act(&mut self) {
        let device = self.sim.random.below(DEVICES);
        let usable = self.newest(device).map(|at| self.attempts[at].link).filter(|link| self.sim.is_usable(*link));
        match self.sim.random.below(40) {
            0..=5 => self.connect(device),
            6 | 7 => self.end(usable, Closed::Fin),
            8 | 9 => self.end(usable, Closed::Reset),
            10 | 11 => self.say_goodbye(device, usable),
            12..=23 => self.publish(device, usable),
            24..=27 => self.subscribe(device, usable),
            28 => self.unsubscribe(device, usable),
            29 => self.withhold(usable, true),
            30 => self.withhold(usable, false),
            31 => self.set_reading(usable),
            32 => self.disturb_worker(),
            33..=36 => self.pass_time(),
            37 => self.ping(usable),
            _ => self.rest(),
        }
    }

    fn newest(&self, device: usize) -> Option<usize> {
        self.attempts.iter().rposition(|attempt| attempt.device == device)
    }

    /// Connects, unless the device's newest connection has not reached its home: which of the two came first would be
    /// anybody's guess.
    fn connect(&mut self, device: usize) {
        let newest = self.newest(device).map(|at| self.attempts[at].link);
        if newest.is_some_and(|link| self.sim.history(link).opened.is_none() && !self.sim.is_gone(link)) {
            return;
        }
        let version = self.versions[device];
        let clean_start = version == ProtocolVersion::V3_1 || self.sim.random.one_in(4);
        let expiry = match version {
            ProtocolVersion::V5 => [0, 2, 5, NEVER, NEVER][self.sim.random.below(5)],
            _ if clean_start => 0,
            _ => NEVER,
        };
        let delay = if version == ProtocolVersion::V5 { [0, 0, 1, 3, 6][self.sim.random.below(5)] } else { 0 };
        let keep_alive = [0, 0, 1, 4][self.sim.random.below(4)];
        let has_will = !self.sim.random.one_in(4);
        let will_message = self.draw_message(device, true);
        let connecting = self.sim.connect(&format!("device-{device}")).version(version).clean_start(clean_start);
        let connecting = connecting.keep_alive(Duration::from_secs(keep_alive)).receive_maximum(20);
        let connecting = if version == ProtocolVersion::V5 {
            connecting.session_expiry(Duration::from_secs(expiry.into()))
        } else {
            connecting
        };
        let will = Will { message: will_message.clone(), delay };
        let link = if has_will { connecting.will(will).posted() } else { connecting.posted() };
        let attempt = self.attempts.len();
        let will = has_will.then(|| {
            let end = self.sim.history(link).bytes_written;
            let sent = self.sim.at();
            let message = will_message;
            self.messages.push(Published { device, message, is_will: true, attempt, end, packet_id: None, sent });
            (self.messages.len() - 1, delay)
        });
        self.attempts.push(Attempt { device, link, version, clean_start, expiry, keep_alive, will, goodbye: None });
    }

    /// A message whose payload is its number, and which only its device sends to its topic.
    fn draw_message(&mut self, device: usize, is_will: bool) -> Message {
        let number = self.messages.len();
        let level = self.sim.random.below(3) as u8;
        let topic = match self.sim.random.below(3) {
            _ if is_will => format!("t/{device}/w"),
            0 => format!("t/{device}/a"),
            1 => format!("t/{device}/{}", if self.sim.random.one_in(2) { "b" } else { "w" }),
            _ => "c/x".to_owned(),
        };
        let is_retained = topic != "c/x" && self.sim.random.one_in(2);
        let removes = is_retained && !is_will && self.sim.random.one_in(6);
        let payload = if removes { String::new() } else { number.to_string() };
        let drawn = message(&topic, &payload).qos(level);
        if is_retained { drawn.retain() } else { drawn }
    }

    fn end(&mut self, usable: Option<Link>, how: Closed) {
        if let Some(link) = usable {
            self.sim.end_link(link, how);
        }
    }

    fn say_goodbye(&mut self, device: usize, usable: Option<Link>) {
        let (Some(link), Some(newest)) = (usable, self.newest(device)) else { return };
        let attempt = &self.attempts[newest];
        let is_5 = attempt.version == ProtocolVersion::V5;
        let reason =
            if is_5 && self.sim.random.one_in(2) { ReasonCode::DisconnectWithWillMessage } else { ReasonCode::Success };
        let changes = is_5 && attempt.expiry > 0 && self.sim.random.one_in(3);
        let expiry = changes.then(|| [0, 2, NEVER][self.sim.random.below(3)]);
        self.sim.post_disconnect(link, reason, expiry);
        let end = self.sim.history(link).bytes_written;
        self.attempts[newest].goodbye = Some(Goodbye { end, reason, expiry });
        self.sim.end_link(link, Closed::Fin);
    }

    fn publish(&mut self, device: usize, usable: Option<Link>) {
        let (Some(link), Some(attempt)) = (usable, self.newest(device)) else { return };
        for _ in 0..1 + self.sim.random.below(4) {
            let message = self.draw_message(device, false);
            let sent = self.sim.at();
            let packet_id = self.sim.post_publish(link, &message);
            let end = self.sim.history(link).bytes_written;
            self.messages.push(Published { device, message, is_will: false, attempt, end, packet_id, sent });
        }
    }

    fn subscribe(&mut self, device: usize, usable: Option<Link>) {
        let (Some(link), Some(attempt)) = (usable, self.newest(device)) else { return };
        let filter = self.sim.random.below(FILTERS.len());
        let sent = self.sim.at();
        let level = asked_qos(device, filter).as_u8();
        let packet_id = self.sim.post_subscribe(link, FILTERS[filter], options(level));
        self.wishes.push(Wish { attempt, filter, packet_id, sent, subscribes: true });
    }

    fn unsubscribe(&mut self, device: usize, usable: Option<Link>) {
        let (Some(link), Some(attempt)) = (usable, self.newest(device)) else { return };
        let filter = self.sim.random.below(FILTERS.len());
        let sent = self.sim.at();
        let packet_id = self.sim.post_unsubscribe(link, FILTERS[filter]);
        self.wishes.push(Wish { attempt, filter, packet_id, sent, subscribes: false });
    }

    fn withhold(&mut self, usable: Option<Link>, withholds: bool) {
        let Some(link) = usable else { return };
        if withholds {
            self.sim.client_mut(link).manner.acknowledges = false;
        } else {
            self.sim.post_acknowledgements(link);
        }
    }

    fn set_reading(&mut self, usable: Option<Link>) {
        let Some(link) = usable else { return };
        let reads = self.sim.random.one_in(2);
        self.sim.set_reading(link, reads);
    }

    fn ping(&mut self, usable: Option<Link>) {
        if let Some(link) = usable {
            self.sim.post(link, &willowmq::codec::Packet::Pingreq);
        }
    }

    fn pass_time(&mut self) {
        let by = millis(self.sim.random.below(1500) as u64);
        if self.sim.random.one_in(2) {
            self.sim.pass(by);
        } else {
            self.sim.advance(by);
            self.rest();
        }
    }

    fn connect_worker(&mut self, worker: usize, clean_start: bool) -> Link {
        let name = format!("worker-{worker}");
        let link = self.sim.connect(&name).clean_start(clean_start).session_never_expires().receive_maximum(4).posted();
        self.workers[worker].push(link);
        link
    }

    fn disturb_worker(&mut self) {
        let worker = self.sim.random.below(WORKERS);
        let link = *self.workers[worker].last().expect("a worker connects first of all");
        let opened = self.sim.history(link).opened.is_some() || self.sim.is_gone(link);
        match self.sim.random.below(5) {
            0 => self.sim.end_link(link, Closed::Reset),
            1 => self.sim.end_link(link, Closed::Fin),
            2 if self.sim.is_usable(link) => self.withhold(Some(link), true),
            3 if self.sim.is_usable(link) => self.withhold(Some(link), false),
            _ if opened => {
                self.connect_worker(worker, false);
            }
            _ => {}
        }
    }

    /// The device reads and acknowledges again, on a connection that it has or on a new one.
    fn bring_back(&mut self, device: usize) {
        self.sim.settle();
        let Some(newest) = self.newest(device) else { return };
        let link = self.attempts[newest].link;
        if self.sim.is_usable(link) {
            self.sim.set_reading(link, true);
            self.sim.post_acknowledgements(link);
            return;
        }
        let version = self.versions[device];
        let clean_start = version == ProtocolVersion::V3_1;
        let connecting = self.sim.connect(&format!("device-{device}")).version(version).clean_start(clean_start);
        let connecting = if version == ProtocolVersion::V5 { connecting.session_never_expires() } else { connecting };
        let link = connecting.receive_maximum(20).posted();
        let expiry = if clean_start { 0 } else { NEVER };
        let (keep_alive, will, goodbye) = (0, None, None);
        self.attempts.push(Attempt { device, link, version, clean_start, expiry, keep_alive, will, goodbye });
    }

    fn bring_worker_back(&mut self, worker: usize) {
        self.sim.settle();
        let link = *self.workers[worker].last().expect("a worker connects first of all");
        if self.sim.is_usable(link) {
            self.sim.post_acknowledgements(link);
        } else {
            self.connect_worker(worker, false);
        }
    }
}
