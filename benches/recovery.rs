//! Recovery of a journal of a million records in memory.
//!
//! Workload: ten thousand Sessions, and messages of 100 bytes that are queued for one of them, sent and acknowledged, but for
//! one in eight that stays. Budget: 2 µs a record for scan and replay together, so a million records in two seconds.
//!
//! `cargo test --benches` runs each once with few records.

use std::collections::BTreeMap;
use std::io;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use willowmq::codec::{PacketId, QoS};
use willowmq::journal::appender::Appender;
use willowmq::journal::frame::Position;
use willowmq::journal::record::{Facts, Ids, MessageRecord, Place, QueuedRecord, Record, SessionNumber, SessionRecord};
use willowmq::journal::recovery::{Files, Limits, recover};
use willowmq::journal::segment::{SegmentHeader, SegmentName};
use willowmq::session::message::{Author, Kind, Publication};
use willowmq::timer::Moment;

const SESSIONS: u64 = 10_000;
const RECORDS_PER_TURN: u64 = 64;
const SEGMENT_BYTES: usize = 64 << 20;

/// A million when benchmarking, few when tested.
fn records() -> u64 {
    if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 50_000 }
}

/// The segments of one journal.
struct Journal(BTreeMap<u64, Vec<u8>>);

impl Files for Journal {
    fn identity(&self) -> u64 {
        0
    }

    fn segments(&self, shard: u8) -> io::Result<Vec<SegmentName>> {
        Ok(self.0.keys().map(|start| SegmentName { shard, start: *start, epoch: 0 }).collect())
    }

    fn length(&self, segment: &SegmentName) -> io::Result<u64> {
        Ok(self.0[&segment.start].len() as u64)
    }

    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = &self.0[&segment.start];
        let start = bytes.len().min(at as usize);
        Ok(bytes[start..bytes.len().min(start + length)].to_vec())
    }
}

/// A shard that publishes, delivers and is acknowledged, in the records that it would write.
struct Workload {
    appender: Appender,
    journal: Journal,
    position: Position,
    written: u64,
}

impl Workload {
    fn run(total: u64) -> Journal {
        let mut workload = Self {
            appender: Appender::new(Position::default()),
            journal: Journal(BTreeMap::new()),
            position: Position::default(),
            written: 0,
        };
        workload.begin_segment();
        (0..SESSIONS).for_each(|number| workload.session(number));
        for sequence in 0.. {
            if workload.written >= total {
                break;
            }
            workload.publish(sequence);
        }
        workload.end_turn();
        workload.journal
    }

    fn session(&mut self, number: u64) {
        let client_id = format!("sensor-{number}");
        self.append(&Record::Session(SessionRecord {
            session: SessionNumber(number),
            client_id: &client_id,
            username: None,
            facts: Facts::default(),
            listener: 0,
            connection: number,
            keep_alive: 60,
            expiry: 3600,
            closed: None,
        }));
    }

    /// One message, on its way and, mostly, to its end.
    fn publish(&mut self, sequence: u64) {
        let session = SessionNumber(sequence.wrapping_mul(7919) % SESSIONS);
        let (place, packet_id) = (Place(sequence), PacketId::new(1).expect("not zero"));
        let publication = Publication { shard: 0, sequence };
        let topic = format!("site/7/sensor/{}/state", session.0);
        self.append(&Record::Message(MessageRecord {
            publication,
            author: Author::default(),
            qos: QoS::AtLeastOnce,
            retain: false,
            kind: Kind::Ordinary,
            expires: None,
            topic: &topic,
            forwarded: &[],
            payload: &[7; 100],
        }));
        self.append(&Record::Queued(QueuedRecord {
            session,
            place,
            publication,
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: Ids::default(),
            shared: None,
            packet_id: None,
            is_released: false,
            queued: Moment::from_micros(sequence),
        }));
        if !sequence.is_multiple_of(8) {
            self.append(&Record::Sent { session, place, packet_id });
            self.append(&Record::Done { session, place });
        }
    }

    fn append(&mut self, record: &Record<'_>) {
        self.appender.append(record);
        self.written += 1;
        if self.written.is_multiple_of(RECORDS_PER_TURN) {
            self.end_turn();
        }
    }

    fn end_turn(&mut self) {
        self.position.offset = self.appender.end_turn();
        let frames = self.appender.take();
        self.position.sequence += u64::from(!frames.is_empty());
        let mut segment = self.journal.0.last_entry().expect("a segment was begun");
        segment.get_mut().extend_from_slice(&frames);
        if segment.get().len() >= SEGMENT_BYTES {
            self.begin_segment();
        }
    }

    fn begin_segment(&mut self) {
        let name = SegmentName { shard: 0, start: self.position.offset, epoch: 0 };
        let header = SegmentHeader { name, directory: 0, sequence: self.position.sequence };
        self.journal.0.insert(name.start, header.encode().to_vec());
    }
}

fn recovery(criterion: &mut Criterion) {
    let total = records();
    let journal = Workload::run(total);
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Elements(total)).sample_size(10);
    group.bench_function("1M records", |bencher| {
        bencher.iter(|| {
            let limits = Limits { memory_budget: u64::MAX };
            let recovered = recover(&journal, 1, limits, &mut |_, _| {}).expect("a sound journal");
            assert_eq!(recovered[0].sessions.len() as u64, SESSIONS);
            assert!(recovered[0].records >= total && recovered[0].torn_bytes == 0);
            recovered
        });
    });
    group.finish();
}

criterion_group!(benches, recovery);
criterion_main!(benches);
