//! The core without sockets: publish → delivery, and storms of wills.
//!
//! Budgets, on one core: ≤ 60 ns per subscriber at 100 subscribers; a storm of a million wills with one watcher ≤ 1 s; rights, however many
//! rules, ≤ 30 ns per publish to a topic that was asked about before.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use willowmq::codec::{self, Packet, ProtocolVersion};
use willowmq::config::Config;
use willowmq::security::Rights;
use willowmq::shard::{Arrival, Closed, ConnectionId, Shard, ShardId};
use willowmq::timer::Moment;

const VERSION: ProtocolVersion = ProtocolVersion::V3_1_1;

/// A shard alone, with an owner that throws all output away.
struct Bench {
    shard: Shard,
    now: Moment,
    sent: u64,
}

impl Bench {
    fn new() -> Self {
        let mut config = Config::default();
        config.sessions.sessions_max = u32::MAX;
        let shard = Shard::new(ShardId::new(0), 1, 1, Arc::new(config), Moment::ZERO);
        Self { shard, now: Moment::ZERO, sent: 0 }
    }

    fn turn(&mut self) {
        self.now += Duration::from_micros(100);
        self.shard.advance(self.now, |_| false);
        self.finish();
    }

    fn finish(&mut self) {
        self.shard.end_turn(self.now);
        while self.shard.next_close().is_some() {}
        while self.shard.next_reading().is_some() {}
        while let Some(id) = self.shard.next_output() {
            if let Some(output) = self.shard.take_output(id) {
                self.sent += output.len() as u64;
                self.shard.on_sent(self.now, id, output);
            }
        }
    }

    fn connect(&mut self, index: u32, will_qos: Option<u8>) -> ConnectionId {
        let id = ConnectionId { index, generation: 0 };
        let bytes = connect_packet(&format!("client-{index}"), will_qos);
        let Ok(Packet::Connect(connect)) = codec::decode(&bytes, VERSION) else { panic!("a valid CONNECT") };
        self.shard.open(self.now, id, &connect, Arrival::default());
        id
    }

    fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: u8) {
        let mut body = vec![0, 1];
        push_string(&mut body, filter);
        body.push(qos);
        self.shard.receive(self.now, id, &packet(0x82, &body));
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn connect_packet(client_id: &str, will_qos: Option<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    push_string(&mut body, "MQTT");
    let flags = 0x02 | will_qos.map_or(0, |qos| 0x04 | qos << 3);
    body.extend_from_slice(&[4, flags, 0, 60]);
    push_string(&mut body, client_id);
    if will_qos.is_some() {
        push_string(&mut body, &format!("status/{client_id}"));
        push_string(&mut body, "offline");
    }
    packet(0x10, &body)
}

fn publish_packet(topic: &str, qos: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    push_string(&mut body, topic);
    if qos > 0 {
        body.extend_from_slice(&[0, 1]);
    }
    body.extend_from_slice(payload);
    packet(0x30 | qos << 1, &body)
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish_to_delivery_qos0_100_bytes");
    for subscribers in [1u32, 100, 10_000] {
        let mut bench = Bench::new();
        let publisher = bench.connect(0, None);
        for index in 1..=subscribers {
            let id = bench.connect(index, None);
            bench.subscribe(id, "site/hall/state", 0);
        }
        bench.turn();
        let bytes = publish_packet("site/hall/state", 0, &[b'x'; 100]);
        bench.shard.receive(bench.now, publisher, &bytes);
        bench.finish();
        assert_eq!(bench.shard.stats().sent.total().count, u64::from(subscribers), "the subscribers are served");
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(BenchmarkId::new("subscribers", subscribers), |b| {
            b.iter(|| {
                bench.shard.receive(bench.now, publisher, black_box(&bytes));
                bench.finish();
            });
        });
    }
    group.finish();
}

/// Rules that are about everybody, and of which the last one allows what is done. None: there is no rights file.
fn rules(count: usize) -> Arc<Rights> {
    if count == 0 {
        return Arc::default();
    }
    let rule = |topic: &str| format!("[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['{topic}']\n");
    let mut text: String = (1..count).map(|at| rule(&format!("site/{at}/%c/#"))).collect();
    text.push_str(&rule("site/hall/+"));
    Arc::new(Rights::parse(&text, "rights").expect("these rules are right"))
}

fn publish_under_rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish_to_one_under_rules");
    for count in [0, 1, 100, 10_000] {
        let mut bench = Bench::new();
        bench.shard.set_rights(rules(count));
        let publisher = bench.connect(0, None);
        let subscriber = bench.connect(1, None);
        bench.subscribe(subscriber, "site/hall/state", 0);
        bench.turn();
        let bytes = publish_packet("site/hall/state", 0, &[b'x'; 100]);
        bench.shard.receive(bench.now, publisher, &bytes);
        bench.finish();
        assert_eq!(bench.shard.stats().sent.total().count, 1, "what the last rule allows is done");
        group.bench_function(BenchmarkId::new("rules", count), |b| {
            b.iter(|| {
                bench.shard.receive(bench.now, publisher, black_box(&bytes));
                bench.finish();
            });
        });
    }
    group.finish();
}

fn storm(c: &mut Criterion) {
    let mut group = c.benchmark_group("storm_of_wills");
    group.sample_size(10);
    for wills in [100_000u32, 1_000_000] {
        group.throughput(Throughput::Elements(u64::from(wills)));
        group.bench_function(BenchmarkId::new("wills", wills), |b| {
            b.iter_custom(|runs| (0..runs).map(|_| one_storm(wills)).sum());
        });
    }
    group.finish();
}

/// All clients are cut at once; the watcher acknowledges nothing, so its queue takes what its window does not.
fn one_storm(wills: u32) -> Duration {
    let mut bench = Bench::new();
    let watcher = bench.connect(0, None);
    bench.subscribe(watcher, "status/+", 1);
    let clients: Vec<_> = (1..=wills).map(|index| bench.connect(index, Some(1))).collect();
    bench.turn();
    let start = Instant::now();
    for id in clients {
        bench.shard.on_closed(bench.now, id, Closed::Reset);
    }
    while bench.shard.publish_due_wills(bench.now, 64) > 0 {
        bench.finish();
    }
    bench.finish();
    let took = start.elapsed();
    assert_eq!(bench.shard.stats().wills.published_total(), u64::from(wills), "every will is published");
    took
}

criterion_group!(benches, publish, publish_under_rules, storm);
criterion_main!(benches);
