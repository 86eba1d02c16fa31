//! How long it takes to write a record down, and to read it.
//!
//! Budgets, for one delivery: 50 ns to append, its share of the frame's checksum included; 50 ns to decode. A message with
//! 100 bytes of payload may take twice that, as it carries a checksum of its own.

use criterion::{Criterion, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use willowmq::codec::QoS;
use willowmq::journal::encoding::{decode, encode, records};
use willowmq::journal::frame::FRAME_HEADER;
use willowmq::journal::log::{Command, Completed, Options};
use willowmq::journal::record::{MessageRecord, Place, QueuedRecord, Record, SessionNumber};
use willowmq::journal::{Appender, Log, Position};
use willowmq::session::message::{Author, Kind, Publication};
use willowmq::timer::Moment;

/// Records of one turn of a busy shard.
const TURN: u64 = 1000;

fn queued(place: u64) -> Record<'static> {
    Record::Queued(QueuedRecord {
        session: SessionNumber(70_000),
        place: Place(place),
        publication: Publication { shard: 1, sequence: 5_000_000 },
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Default::default(),
        shared: None,
        packet_id: None,
        is_released: false,
        queued: Moment::from_micros(1_700_000_000_000_000),
    })
}

fn message(payload: &[u8]) -> Record<'_> {
    Record::Message(MessageRecord {
        publication: Publication { shard: 1, sequence: 5_000_000 },
        author: Author { client: 0x0123_4567_89AB_CDEF, connection: 3 },
        qos: QoS::AtLeastOnce,
        retain: false,
        kind: Kind::Ordinary,
        expires: None,
        topic: "site/42/line/7/temperature",
        forwarded: &[],
        payload,
    })
}

fn encoding(criterion: &mut Criterion) {
    for (name, record) in [("queued", queued(1000)), ("message", message(&[7; 100]))] {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        assert_eq!(decode(&bytes), Ok((record, bytes.len())));
        let mut out = Vec::with_capacity(bytes.len());
        criterion.bench_function(&format!("journal/encode/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode(black_box(&record), &mut out);
                out.len()
            });
        });
        criterion.bench_function(&format!("journal/decode/{name}"), |bencher| {
            bencher.iter(|| decode(black_box(&bytes)).is_ok());
        });
    }
}

/// A turn that queues a thousand deliveries, each a step of its own, and its way through a log whose disk takes no time.
fn append(criterion: &mut Criterion) {
    let mut appender = Appender::new(Position::default());
    let mut log = Log::new(Options::default(), Position::default(), Vec::new());
    let mut turn = || {
        for place in 0..TURN {
            appender.append(black_box(&queued(place)));
            appender.end_step();
        }
        let end = appender.end_turn();
        log.append(appender.take());
        while let Some(command) = log.next_command(Moment::ZERO) {
            log.on_completed(Moment::ZERO, succeeded(command));
        }
        log.take_spare().into_iter().for_each(|spare| appender.recycle(spare));
        assert_eq!(log.durable(), end);
        end
    };
    turn();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(criterion::Throughput::Elements(TURN));
    group.bench_function("turn", |bencher| bencher.iter(&mut turn));
    group.finish();
}

fn succeeded(command: Command) -> Completed {
    match command {
        Command::Create { .. } => Completed::Created(Ok(())),
        Command::Write { bytes, .. } => Completed::Written(Ok(()), bytes),
        Command::Sync { .. } => Completed::Synced(Ok(())),
        Command::Remove { .. } => Completed::Removed(Ok(())),
    }
}

/// The records of a frame, as recovery reads them.
fn payload(criterion: &mut Criterion) {
    let mut appender = Appender::new(Position::default());
    for place in 0..TURN {
        appender.append(&queued(place));
    }
    appender.end_turn();
    let frame = appender.take();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(criterion::Throughput::Elements(TURN));
    group.bench_function("records", |bencher| {
        bencher.iter(|| {
            let count = records(black_box(&frame[FRAME_HEADER..])).filter(Result::is_ok).count();
            assert_eq!(count as u64, TURN);
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = encoding, append, payload
}
criterion_main!(benches);
