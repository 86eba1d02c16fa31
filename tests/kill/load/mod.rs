//! The clients: they publish, subscribe, come and go, and follow the protocol over every end of a connection.

mod client;
mod device;
mod inspector;
mod line;
mod publisher;
mod sensor;
mod subscriber;

pub(crate) use client::Client;

use crate::broker::Settings;
use crate::checker::{Checker, Complaint, Fault, Grace};
use crate::history::{Connecting, Did, Event, Moment, Stamp, Who};
use crate::mqtt::property::{SESSION_EXPIRY_INTERVAL, WILL_DELAY_INTERVAL, number};
use crate::mqtt::wire::{Connect, Will};
use crate::random::Random;
use device::Device;
use publisher::Publisher;
use sensor::Sensor;
use std::time::{Duration, Instant};
use subscriber::{Presence, Subscriber};

/// Writes everything down and shows it to the checker at once.
pub(crate) struct Recorder {
    began: Instant,
    pub(crate) events: Vec<(Moment, Event)>,
    pub(crate) checker: Checker,
}

impl Recorder {
    pub(crate) fn new(grace: Grace) -> Self {
        Self { began: Instant::now(), events: Vec::new(), checker: Checker::new(grace) }
    }

    pub(crate) fn now(&self) -> Moment {
        self.began.elapsed()
    }

    pub(crate) fn note(&mut self, event: Event) {
        let at = self.now();
        self.checker.observe(at, &event);
        if event != Event::Refused {
            self.events.push((at, event));
        }
    }

    /// The events that have to do with a complaint.
    pub(crate) fn story(&self, complaint: &Complaint) -> Vec<&(Moment, Event)> {
        let text = format!("{:?}", complaint.fault);
        let stamp = match &complaint.fault {
            Fault::Lost { stamp, .. } | Fault::Doubled { stamp, .. } | Fault::OutOfOrder { stamp, .. } => Some(*stamp),
            Fault::WillLost { stamp, .. } | Fault::WillDoubled { stamp, .. } => Some(*stamp),
            Fault::WillEarly { stamp, .. } | Fault::WillAfterAll { stamp } => Some(*stamp),
            Fault::PacketIdInUse { stamp, .. } | Fault::Uninvited { stamp, .. } => Some(*stamp),
            _ => None,
        };
        let named = |who: Who| {
            let names = [format!("client: {who},"), format!("client: {who} "), format!("Client({who})")];
            names.iter().any(|name| text.contains(name))
        };
        let is_part = |event: &Event| match event {
            Event::Client(who, did) => is_part_of(*who, did, stamp, named(*who), &text),
            _ => true,
        };
        let recent = self.events.iter().filter(|(at, event)| *at <= complaint.at && is_part(event)).collect::<Vec<_>>();
        recent[recent.len().saturating_sub(60)..].to_vec()
    }
}

fn is_part_of(who: Who, did: &Did, stamp: Option<Stamp>, named: bool, text: &str) -> bool {
    let by_author = |number: u64| stamp == Some(Stamp::message(who, number));
    match did {
        Did::Publish(publishing) => by_author(publishing.number) || text.contains(&format!("{:?}", publishing.topic)),
        Did::Acknowledged { number, .. } => by_author(*number),
        Did::Receive(receiving) => {
            stamp.is_some_and(|stamp| receiving.payload == crate::history::Payload::Stamp(stamp))
        }
        Did::Release { .. } => false,
        _ => named || stamp.is_some_and(|stamp| stamp.author == who),
    }
}

/// What a client may look at when it has its turn.
pub(crate) struct Turn<'a> {
    pub(crate) now: Moment,
    pub(crate) random: &'a mut Random,
    pub(crate) log: &'a mut Recorder,
    /// Nothing new is begun: what is underway shall arrive.
    pub(crate) calm: bool,
}

/// CONNECT as the history tells it.
fn connect(version: u8, name: &str, connecting: &Connecting, who: Who, padding: usize) -> Vec<u8> {
    let mut connect = Connect::new(version, name).keep_alive(connecting.keep_alive.as_secs() as u16);
    if !connecting.clean_start {
        connect = connect.resume();
    }
    if version == 5 && !connecting.expiry.is_zero() {
        let seconds = u32::try_from(connecting.expiry.as_secs()).unwrap_or(u32::MAX);
        connect = connect.property(number(SESSION_EXPIRY_INTERVAL, seconds));
    }
    if let Some(told) = &connecting.will {
        let mut will = Will::new(&told.topic, &Stamp::will(who, told.number).payload(padding)).qos(told.qos);
        will = if told.retain { will.retain() } else { will };
        if version == 5 && !told.delay.is_zero() {
            will = will.property(number(WILL_DELAY_INTERVAL, told.delay.as_secs() as u32));
        }
        connect = connect.will(will);
    }
    connect.encode()
}

/// The session of a 3.1.1 client with Clean Session 0 has no end.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

fn persistent(clean_start: bool) -> Connecting {
    Connecting { clean_start, expiry: FOREVER, keep_alive: Duration::ZERO, will: None }
}

/// All clients but the inspectors, who come one after the other.
pub(crate) fn fleet(settings: Settings) -> Vec<Client> {
    let mut fleet: Vec<Client> = Vec::new();
    let mut add = |kind: &str, version: u8, role: client::Role| {
        let who = fleet.len() as Who;
        fleet.push(Client::new(who, format!("{kind}-{who}"), version, role));
    };
    for who in 0..8 {
        let (qos, version) = (1 + (who % 2) as u8, 4 + (who / 2 % 2) as u8);
        let topics = (0..3).map(|topic| format!("load/{}/{who}/{topic}", who / 4)).collect();
        add("publisher", version, client::Role::Publisher(Publisher::new(topics, qos, false)));
    }
    for (who, qos, version) in [(8, 1, 5), (9, 2, 4)] {
        let topics = (0..5).map(|topic| format!("state/{who}/{topic}")).collect();
        add("keeper", version, client::Role::Publisher(Publisher::new(topics, qos, true)));
    }
    let subscribers = [
        ("load/#", 1, 4, Presence::Always),
        ("load/#", 2, 5, Presence::Always),
        ("load/0/#", 2, 4, Presence::Seldom),
        ("load/+/+/0", 1, 5, Presence::Seldom),
        ("load/1/#", 2, 5, Presence::Slow),
        ("load/+/+/1", 2, 4, Presence::Restless),
        ("$share/crew/load/#", 2, 5, Presence::Always),
        ("$share/crew/load/#", 2, 4, Presence::Always),
        ("$share/crew/load/#", 2, 5, Presence::Seldom),
        ("state/#", 2, 5, Presence::Always), // The watcher of all wills,
        ("state/#", 1, 4, Presence::Seldom), // and one who is seldom there.
    ];
    for (filter, qos, version, presence) in subscribers {
        add("subscriber", version, client::Role::Subscriber(Subscriber::new(filter, qos, presence)));
    }
    let keep_alive = match settings.grace {
        Grace::Of(_) => Duration::ZERO,
        Grace::KeepAlive => Duration::from_secs(2),
    };
    for who in 0..24 {
        add("device", 4 + (who % 3).min(1), client::Role::Device(Device::new(keep_alive)));
    }
    fleet
}

/// Somebody who watches all wills.
pub(crate) fn watcher() -> Client {
    let watcher = Subscriber::new("state/#", 2, Presence::Always);
    Client::new(0, "watcher".to_owned(), 5, client::Role::Subscriber(watcher))
}

/// Devices that connect once; some of them return after a kill.
pub(crate) fn crowd(devices: Who, returns: impl Fn(Who) -> bool) -> Vec<Client> {
    let device = |who| {
        let role = client::Role::Sensor(Sensor::new(returns(who)));
        Client::new(who, format!("sensor-{who}"), 4 + (who % 2) as u8, role)
    };
    (1..=devices).map(device).collect()
}
