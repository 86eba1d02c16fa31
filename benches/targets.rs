//! Every target of speed and memory, measured in one run and printed beside what was reached:
//! `cargo bench --bench targets`.
//!
//! Each figure is the median of several rounds. The criterion benches say more about each of them.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use willowmq::codec::{self, Connect, Delivery, Outgoing, Packet, ProtocolVersion, QoS, Will};
use willowmq::config::Config;
use willowmq::shard::{Arrival, Closed, ConnectionId, Shard, ShardId};
use willowmq::timer::{Moment, Wheel};
use willowmq::topic::{SubscriptionTrie, TopicFilter, TopicName};

const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;
const ROUNDS: usize = 7;
const CONNECTIONS: usize = 10_000;
/// Connections before those that are measured: they pay for what all share, such as the ring's buffers.
const WARM_UP: usize = 5_000;

fn main() {
    // `cargo test --benches` and the like only want to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    println!("| what | reached (median of {ROUNDS}) | target |\n| --- | --- | --- |");
    row("decode + encode a 100-byte PUBLISH", &nanos(median(codec_round)), "≤ 100 ns");
    for (shape, filter) in [("exact", "site/{}/state"), ("`+`", "site/{}/+/state"), ("`#`", "site/{}/#")] {
        let what = format!("trie match, 1 M subscriptions ({shape}), 1 match");
        row(&what, &nanos(trie_match(filter)), "≤ 300 ns");
    }
    let (arm_and_cancel, idle_tick) = wheel();
    row("wheel insert + cancel, 1 M timers", &nanos(arm_and_cancel), "≤ 60 ns");
    row("wheel, an idle tick, 1 M timers", &nanos(idle_tick), "O(1)");
    row("core publish → delivery, per subscriber at 100", &nanos(deliver()), "≤ 60 ns");
    row("1 M wills through the core, one watcher", &format!("{:.2} s", storm()), "≤ 1 s");
    let (bytes, idle) = idle_connections();
    row("memory per idle connection with a will", &format!("{bytes:.0} B"), "≤ 1536 B");
    row(&format!("idle broker with {} connections", WARM_UP + CONNECTIONS), &format!("{idle:.2} % of a core"), "< 1 %");
}

fn row(what: &str, reached: &str, target: &str) {
    println!("| {what} | {reached} | {target} |");
}

fn nanos(nanos: f64) -> String {
    format!("{nanos:.0} ns")
}

fn median(mut round: impl FnMut() -> f64) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Nanoseconds that one of `count` calls takes.
fn per_call(count: u32, mut call: impl FnMut(u32)) -> f64 {
    let start = Instant::now();
    for index in 0..count {
        call(index);
    }
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

fn publish(payload: &[u8]) -> Vec<u8> {
    let outgoing = Outgoing { topic: "site/hall/state", forwarded: &[], payload, message_expiry_interval: None };
    let delivery = Delivery {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: None,
        topic_alias: None,
        subscription_identifiers: &[],
    };
    let mut bytes = Vec::new();
    codec::encode_publish(VERSION, &outgoing, &delivery, &mut bytes);
    bytes
}

fn codec_round() -> f64 {
    let bytes = publish(&[b'x'; 100]);
    let mut out = Vec::with_capacity(256);
    per_call(1_000_000, |_| {
        let packet = codec::decode(black_box(&bytes), VERSION).expect("it is valid");
        out.clear();
        codec::encode(&packet, VERSION, &mut out);
        black_box(&out);
    })
}

fn trie_match(shape: &str) -> f64 {
    let text = |index: u32| shape.replace("{}", &index.to_string());
    let mut trie = SubscriptionTrie::default();
    for index in 0..1_000_000 {
        trie.insert(&TopicFilter::parse(&text(index)).expect("valid"), index, 0u8);
    }
    let topic = |index: u32| text(index).replace('+', "lamp").replace('#', "lamp/state");
    let topics: Vec<_> = (0..8192u32).map(|index| topic(index.wrapping_mul(2_654_435_761) % 1_000_000)).collect();
    median(|| {
        per_call(200_000, |index| {
            let mut found = 0;
            let topic = TopicName::parse(&topics[index as usize % topics.len()]).expect("valid");
            trie.for_each_match(topic, |subscribers, _| found += subscribers.len());
            assert_eq!(black_box(found), 1);
        })
    })
}

fn wheel() -> (f64, f64) {
    let mut wheel = Wheel::new(Moment::ZERO);
    for index in 0..1_000_000u64 {
        wheel.arm(Moment::from_micros(1_000_000_000 + index * 90), index);
    }
    let arm_and_cancel = median(|| {
        per_call(500_000, |index| {
            let id = wheel.arm(Moment::from_micros(1_000_000_000 + u64::from(index) * 90), 0);
            assert_eq!(wheel.cancel(black_box(id)), Some(0));
        })
    });
    let mut now = Moment::ZERO;
    let idle_tick = median(|| {
        per_call(10_000, |_| {
            now += Duration::from_millis(10);
            assert!(wheel.pop_due(black_box(now)).is_none());
        })
    });
    (arm_and_cancel, idle_tick)
}

/// A shard alone, whose output is thrown away.
struct Core {
    shard: Shard,
    now: Moment,
}

impl Core {
    fn new() -> Self {
        let shard = Shard::new(ShardId::new(0), 1, 1, Arc::new(Config::default()), Moment::ZERO);
        Self { shard, now: Moment::ZERO }
    }

    fn connect(&mut self, index: u32, has_will: bool) -> ConnectionId {
        let id = ConnectionId { index, generation: 0 };
        let name = format!("client-{index}");
        let topic = format!("status/{name}");
        let connect = connect(&name, has_will.then_some(&*topic));
        self.shard.open(self.now, id, &connect, Arrival::default());
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: u8) {
        let mut bytes = vec![0x82, (filter.len() + 5) as u8, 0, 1, 0, filter.len() as u8];
        bytes.extend_from_slice(filter.as_bytes());
        bytes.push(qos);
        self.shard.receive(self.now, id, &bytes);
    }

    fn finish_turn(&mut self) {
        self.shard.end_turn(self.now);
        while self.shard.next_close().is_some() {}
        while let Some(id) = self.shard.next_output() {
            if let Some(output) = self.shard.take_output(id) {
                self.shard.on_sent(self.now, id, output);
            }
        }
    }
}

fn connect<'a>(name: &'a str, will_topic: Option<&'a str>) -> Connect<'a> {
    let mut connect = Connect::new(VERSION, name);
    connect.keep_alive = 60;
    connect.will = will_topic.map(|topic| Will {
        topic,
        payload: b"offline",
        qos: QoS::AtLeastOnce,
        retain: false,
        will_delay_interval: 0,
        message_expiry_interval: None,
        forwarded: codec::Forwarded::default(),
    });
    connect
}

fn deliver() -> f64 {
    const SUBSCRIBERS: u32 = 100;
    let mut core = Core::new();
    let publisher = core.connect(0, false);
    for index in 1..=SUBSCRIBERS {
        let id = core.connect(index, false);
        core.subscribe(id, "site/hall/state", 0);
    }
    core.finish_turn();
    let bytes = publish(&[b'x'; 100]);
    let before = core.shard.stats().sent.total().count;
    let per_publish = median(|| {
        per_call(20_000, |_| {
            core.shard.receive(core.now, publisher, black_box(&bytes));
            core.finish_turn();
        })
    });
    let sent = core.shard.stats().sent.total().count - before;
    assert_eq!(sent, ROUNDS as u64 * 20_000 * u64::from(SUBSCRIBERS), "every subscriber was served");
    per_publish / f64::from(SUBSCRIBERS)
}

fn storm() -> f64 {
    const WILLS: u32 = 1_000_000;
    let mut rounds: Vec<f64> = (0..3)
        .map(|_| {
            let mut core = Core::new();
            let watcher = core.connect(0, false);
            core.subscribe(watcher, "status/+", 1);
            let clients: Vec<_> = (1..=WILLS).map(|index| core.connect(index, true)).collect();
            core.finish_turn();
            let start = Instant::now();
            for id in clients {
                core.shard.on_closed(core.now, id, Closed::Reset);
            }
            while core.shard.publish_due_wills(core.now, 64) > 0 {
                core.finish_turn();
            }
            let took = start.elapsed().as_secs_f64();
            assert_eq!(core.shard.stats().wills.published_total(), u64::from(WILLS));
            took
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[1]
}

/// The real broker, ended when this is dropped.
struct Broker {
    child: Child,
    address: SocketAddr,
}

impl Broker {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_willowmq"))
            .args(["--listen", "127.0.0.1:0", "--shards", "1", "--durability", "memory"])
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok())
            .expect("the broker says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the broker runs")
    }

    fn resident_bytes(&self) -> f64 {
        let pages: f64 = self.proc("statm").split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm");
        pages * rustix::param::page_size() as f64
    }

    /// Ticks of user and system time.
    fn cpu_ticks(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("stat").split(' ').collect();
        let field = |at: usize| fields[at].parse::<f64>().expect("stat");
        field(11) + field(12)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident bytes that each further connection with a will costs, and the share of a core that all cost while they are idle.
fn idle_connections() -> (f64, f64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("soft up to hard");
    let broker = Broker::start();
    let mut before = 0.0;
    let mut streams = Vec::new();
    for index in 0..WARM_UP + CONNECTIONS {
        if index == WARM_UP {
            before = broker.resident_bytes();
        }
        let mut stream = TcpStream::connect(broker.address).expect("the broker listens");
        let (name, topic) = (format!("client-{index}"), format!("status/client-{index}"));
        let mut bytes = Vec::new();
        codec::encode(&Packet::Connect(Box::new(connect(&name, Some(&topic)))), VERSION, &mut bytes);
        stream.write_all(&bytes).expect("it is connected");
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).expect("CONNACK comes");
        streams.push(stream);
    }
    let bytes = (broker.resident_bytes() - before) / CONNECTIONS as f64;
    let (ticks, seconds) = (broker.cpu_ticks(), 10.0);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let idle = (broker.cpu_ticks() - ticks) / rustix::param::clock_ticks_per_second() as f64 / seconds * 100.0;
    (bytes, idle)
}
