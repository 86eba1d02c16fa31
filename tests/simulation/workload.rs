//! A workload drawn from one seed, and what the standard says must hold at its end.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::collections::BTreeMap;
use std::time::Duration;
use willowmq::codec::{ProtocolVersion, QoS, ReasonCode};
use willowmq::shard::Closed;
use willowmq::timer::Moment;

/// What must become of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Armed { delay: u32, expiry: u32 },
    Pending { due: Moment },
    Published { not_before: Moment },
    Discarded,
}

/// Knows only the standard: which wills must have been published by now, and from when on.
#[derive(Debug, Default)]
struct Model {
    wills: BTreeMap<String, Fate>,
    of_client: BTreeMap<String, String>,
    retained: BTreeMap<String, String>,
    published: BTreeMap<(String, String), Vec<(String, QoS)>>,
}

impl Model {
    fn publish(&mut self, client: &str, now: Moment) {
        if let Some(will) = self.of_client.remove(client) {
            self.wills.insert(will, Fate::Published { not_before: now });
        }
    }

    fn discard(&mut self, client: &str) {
        if let Some(will) = self.of_client.remove(client) {
            self.wills.insert(will, Fate::Discarded);
        }
    }

    fn on_lost(&mut self, client: &str, now: Moment) {
        let Some(will) = self.of_client.get(client).cloned() else { return };
        let Some(Fate::Armed { delay, expiry }) = self.wills.get(&will).copied() else { return };
        let wait = Duration::from_secs(u64::from(delay.min(expiry)));
        if wait.is_zero() {
            self.publish(client, now);
        } else {
            self.wills.insert(will, Fate::Pending { due: now + wait });
        }
    }

    fn on_time(&mut self, now: Moment) {
        let due = |fate: &Fate| matches!(fate, Fate::Pending { due } if *due <= now);
        let clients: Vec<_> = self
            .of_client
            .iter()
            .filter(|(_, will)| due(&self.wills[*will]))
            .map(|(client, _)| client.clone())
            .collect();
        for client in clients {
            let will = &self.of_client[&client];
            let Fate::Pending { due } = self.wills[will] else { continue };
            self.publish(&client, due);
        }
    }

    /// The client connects: what becomes of the will it had.
    fn on_return(&mut self, client: &str, clean_start: bool, now: Moment) {
        let Some(will) = self.of_client.get(client).cloned() else { return };
        match self.wills[&will] {
            Fate::Armed { delay, expiry } if !clean_start && delay > 0 && expiry > 0 => self.discard(client),
            Fate::Pending { .. } if !clean_start => self.discard(client),
            Fate::Armed { .. } | Fate::Pending { .. } => self.publish(client, now),
            Fate::Published { .. } | Fate::Discarded => {}
        }
    }
}

struct Run {
    sim: Simulation,
    model: Model,
    watcher: ClientHandle,
    counter: u32,
}

const DEVICES: usize = 8;
const READERS: usize = 3;

impl Run {
    fn new(seed: u64) -> Self {
        let shards = [1, 2, 5][(seed % 3) as usize];
        let mut sim = Simulation::new(seed, shards);
        let watcher = sim.connect("watcher").session_expiry(u32::MAX).accepted();
        sim.subscribe(watcher, "will/+", QoS::ExactlyOnce);
        for reader in 0..READERS {
            let reader = sim.connect(&format!("reader-{reader}")).session_expiry(u32::MAX).accepted();
            sim.subscribe(reader, "data/+", QoS::ExactlyOnce);
        }
        Self { sim, model: Model::default(), watcher, counter: 0 }
    }

    fn device(&mut self) -> String {
        format!("device-{}", self.sim.random.below(DEVICES))
    }

    fn handle(&self, name: &str) -> Option<ClientHandle> {
        self.sim.clients.iter().position(|client| client.name == name).map(ClientHandle)
    }

    fn step(&mut self) {
        match self.sim.random.below(12) {
            0..=2 => self.connect_device(),
            3 => self.lose_device(),
            4 => self.say_goodbye(),
            5..=7 => self.publish(),
            8 => self.disturb_reader(),
            9 => self.retain(),
            _ => self.pass_time(),
        }
        if self.sim.random.one_in(3) {
            self.sim.settle();
        }
    }

    fn connect_device(&mut self) {
        let name = self.device();
        self.counter += 1;
        let payload = format!("will-{}", self.counter);
        let (clean_start, delay) = (self.sim.random.one_in(2), self.sim.random.below(4) as u32);
        let is_5 = self.sim.random.one_in(2);
        let (version, expiry, delay) = match (is_5, clean_start) {
            (true, _) => (ProtocolVersion::V5, self.sim.random.below(3) as u32 * 2, delay),
            (false, true) => (ProtocolVersion::V3_1_1, 0, 0),
            (false, false) => (ProtocolVersion::V3_1_1, u32::MAX, 0),
        };
        self.model.on_return(&name, clean_start, self.sim.now);
        let will = Will::new(&format!("will/{name}"), &payload).qos(QoS::ExactlyOnce).delay(delay);
        let connecting = self.sim.connect(&name).version(version).clean_start(clean_start).session_expiry(expiry);
        connecting.will(will).accepted();
        self.model.wills.insert(payload.clone(), Fate::Armed { delay, expiry });
        self.model.of_client.insert(name, payload);
    }

    fn connected_device(&mut self) -> Option<(String, ClientHandle)> {
        let name = self.device();
        let handle = self.handle(&name).filter(|handle| self.sim.is_connected(*handle))?;
        Some((name, handle))
    }

    fn lose_device(&mut self) {
        let Some((name, handle)) = self.connected_device() else { return };
        let how = [Closed::Fin, Closed::Reset, Closed::Error][self.sim.random.below(3)];
        self.sim.cut_only(handle, how);
        self.model.on_lost(&name, self.sim.now);
    }

    fn say_goodbye(&mut self) {
        let Some((name, handle)) = self.connected_device() else { return };
        self.sim.disconnect(handle, ReasonCode::Success);
        self.model.discard(&name);
    }

    fn publish(&mut self) {
        let Some((name, handle)) = self.connected_device() else { return };
        self.counter += 1;
        let topic = format!("data/{}", self.sim.random.below(2));
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][self.sim.random.below(2)];
        let payload = format!("{:08}", self.counter);
        self.sim.publish_only(handle, &topic, &payload, qos, false, None);
        self.model.published.entry((name, topic)).or_default().push((payload, qos));
    }

    fn retain(&mut self) {
        let Some((name, handle)) = self.connected_device() else { return };
        self.counter += 1;
        let topic = format!("state/{name}");
        let payload = if self.sim.random.one_in(4) { String::new() } else { self.counter.to_string() };
        self.sim.publish_only(handle, &topic, &payload, QoS::AtLeastOnce, true, None);
        if payload.is_empty() {
            self.model.retained.remove(&topic);
        } else {
            self.model.retained.insert(topic, payload);
        }
    }

    fn disturb_reader(&mut self) {
        let name = format!("reader-{}", self.sim.random.below(READERS));
        let Some(reader) = self.handle(&name) else { return };
        match self.sim.random.below(4) {
            0 => self.sim.clients[reader.0].withholds_acks = true,
            1 => self.sim.clients[reader.0].is_stuck = true,
            2 => self.sim.cut_only(reader, Closed::Reset),
            _ => self.bring_back(&name),
        }
    }

    fn bring_back(&mut self, name: &str) {
        let reader = self.handle(name).expect("it connected at the start");
        self.sim.clients[reader.0].withholds_acks = false;
        self.sim.clients[reader.0].is_stuck = false;
        let connecting = self.sim.connect(name).clean_start(false).session_expiry(u32::MAX);
        let (_, session_present) = connecting.accepted_with_session();
        assert!(session_present, "{name} finds its Session");
    }

    fn pass_time(&mut self) {
        let by = Duration::from_millis(self.sim.random.below(2500) as u64);
        self.sim.advance(by);
        self.model.on_time(self.sim.now);
    }

    /// Lets everything come to rest, and checks it.
    fn finish(mut self) -> String {
        for reader in 0..READERS {
            self.bring_back(&format!("reader-{reader}"));
        }
        self.sim.advance(Duration::from_secs(60));
        self.model.on_time(self.sim.now);
        self.check_wills();
        self.check_data();
        self.check_retained();
        format!("{:?}", self.sim.clients)
    }

    fn check_wills(&mut self) {
        let mut arrived: BTreeMap<String, Vec<Moment>> = BTreeMap::new();
        for will in self.sim.clients[self.watcher.0].received.clone() {
            arrived.entry(will.payload).or_default().push(will.at);
        }
        for (will, fate) in &self.model.wills {
            let at = arrived.remove(will).unwrap_or_default();
            match fate {
                Fate::Published { not_before } => {
                    assert_eq!(at.len(), 1, "{will} is published once: {fate:?}");
                    assert!(at[0] >= *not_before, "{will} is not early: {:?} {fate:?}", at[0]);
                    let late = at[0].duration_since(*not_before);
                    assert!(late <= Duration::from_millis(20), "{will} is not late: {late:?}");
                }
                Fate::Armed { .. } | Fate::Pending { .. } | Fate::Discarded => {
                    assert!(at.is_empty(), "{will} must not be published: {fate:?}");
                }
            }
        }
        assert!(arrived.is_empty(), "wills that nobody left: {arrived:?}");
    }

    /// Each reader has each message, those of QoS 2 once, those of one publisher and topic in order.
    fn check_data(&mut self) {
        for reader in 0..READERS {
            let reader = self.handle(&format!("reader-{reader}")).expect("it connected at the start");
            let received = self.sim.received(reader);
            for ((publisher, topic), published) in &self.model.published {
                let of_this = |payload: &str| published.iter().any(|(known, _)| known == payload);
                let seen: Vec<_> = received
                    .iter()
                    .filter(|message| message.topic == *topic && of_this(&message.payload))
                    .map(|message| &*message.payload)
                    .collect();
                let mut first = Vec::new();
                for payload in &seen {
                    if !first.contains(payload) {
                        first.push(*payload);
                    }
                }
                let expected: Vec<_> = published.iter().map(|(payload, _)| &**payload).collect();
                assert_eq!(first, expected, "{publisher} to {topic}");
                for (payload, qos) in published {
                    let times = seen.iter().filter(|seen| *seen == payload).count();
                    assert!(*qos == QoS::AtLeastOnce || times == 1, "{payload} at {qos:?} arrived {times} times");
                }
            }
        }
    }

    fn check_retained(&mut self) {
        let late = self.sim.subscriber("late", "state/+");
        let found: BTreeMap<_, _> =
            self.sim.received(late).into_iter().map(|message| (message.topic, message.payload)).collect();
        assert_eq!(found, self.model.retained);
    }
}

fn run(seed: u64) -> String {
    let mut run = Run::new(seed);
    for _ in 0..150 {
        run.step();
    }
    run.finish()
}

/// Says which seed it was before the panic goes on.
fn run_named(seed: u64) {
    if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
        eprintln!("the failing seed is {seed}: WILLOWMQ_SEED={seed} cargo test --test simulation seeds");
        std::panic::resume_unwind(panic);
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn seeds_keep_what_the_standard_promises() {
    if let Some(seed) = from_environment("WILLOWMQ_SEED") {
        return run_named(seed);
    }
    for seed in 0..from_environment("WILLOWMQ_SEEDS").unwrap_or(300) {
        run_named(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(42), run(42));
}
