//! The timer wheel with a million live deadlines.
//!
//! Workload: deadlines spread over 90 s, as Keep Alives of a million clients are. Budget: 60 ns for arm and cancel
//! together; a tick in which nothing is due costs nothing that grows with the number of deadlines.
//!
//! `cargo test --benches` runs each once with few deadlines.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use willowmq::timer::{Moment, Tick, Wheel};

const SPREAD: Duration = Duration::from_secs(90);
/// Far enough away that no bench reaches it.
const CENTURIES: Moment = Moment::from_micros(1 << 60);

/// A million when benchmarking, few when tested.
fn live() -> u64 {
    if std::env::args().any(|argument| argument == "--bench") { 1_000_000 } else { 1_000 }
}

/// Deadlines within [`SPREAD`] of `now`, scattered by a fixed multiplicative sequence.
struct Deadlines(u64);

impl Deadlines {
    fn next(&mut self, now: Moment) -> Moment {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        now + Duration::from_micros((self.0 >> 33) % SPREAD.as_micros() as u64)
    }
}

fn filled(now: Moment, deadlines: &mut Deadlines) -> Wheel<u64> {
    let mut wheel = Wheel::new(now);
    for item in 0..live() {
        wheel.arm(deadlines.next(now), item);
    }
    assert_eq!(wheel.len() as u64, live());
    wheel
}

fn arm_and_cancel(criterion: &mut Criterion) {
    let now = Moment::from_micros(1_000_000);
    let mut deadlines = Deadlines(1);
    let mut wheel = filled(now, &mut deadlines);
    criterion.bench_function("arm_and_cancel/1M live", |bencher| {
        bencher.iter(|| {
            let id = wheel.arm(deadlines.next(now), 7);
            assert_eq!(wheel.cancel(black_box(id)), Some(7));
        });
    });

    // The harder order: each cancelled entry is one of the million, seldom in the cache.
    let mut wheel = Wheel::new(now);
    let mut ids: Vec<_> = (0..live()).map(|item| wheel.arm(deadlines.next(now), item)).collect();
    let mut at = 0;
    criterion.bench_function("cancel_and_arm_another/1M live", |bencher| {
        bencher.iter(|| {
            at = (at + 611_953) % ids.len(); // A prime stride: every id in turn, none near the last.
            assert!(wheel.cancel(ids[at]).is_some());
            ids[at] = wheel.arm(deadlines.next(now), 7);
        });
    });
}

fn advance(criterion: &mut Criterion) {
    // Every item is armed again a spread later, so that a million stay live: the whole life of a deadline.
    let mut now = Moment::from_micros(1_000_000);
    let mut deadlines = Deadlines(1);
    let mut wheel = filled(now, &mut deadlines);
    let mut group = criterion.benchmark_group("advance/1M live");
    group.throughput(Throughput::Elements(1));
    group.bench_function("pop_and_rearm", |bencher| {
        bencher.iter(|| {
            let item = loop {
                match wheel.pop_due(now) {
                    Some(item) => break item,
                    None => now += Tick::LENGTH,
                }
            };
            wheel.arm(now + SPREAD, item)
        });
    });
    group.finish();
    assert_eq!(wheel.len() as u64, live());

    // A storm: the drain of a million deadlines that are due at once.
    criterion.bench_function("drain/1M due", |bencher| {
        bencher.iter_batched(
            || filled(now, &mut deadlines),
            |mut wheel| {
                let mut drained = 0;
                while wheel.pop_due(now + SPREAD).is_some() {
                    drained += 1;
                }
                assert_eq!(drained, live());
                wheel
            },
            BatchSize::PerIteration,
        );
    });
}

fn idle_tick(criterion: &mut Criterion) {
    let mut now = Moment::from_micros(1_000_000);
    let mut wheel = Wheel::new(now);
    let mut deadlines = Deadlines(1);
    for item in 0..live() {
        wheel.arm(deadlines.next(CENTURIES), item);
    }
    criterion.bench_function("idle_tick/1M live", |bencher| {
        bencher.iter(|| {
            now += Tick::LENGTH;
            assert_eq!(wheel.pop_due(black_box(now)), None);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = arm_and_cancel, advance, idle_tick
}
criterion_main!(benches);
