//! The subscription trie and the retained topics.
//!
//! Budget, on one core: a match among a million subscriptions that finds one ≤ 300 ns, whatever their shape.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use willowmq::topic::{RetainedTopics, SubscriptionTrie, TopicFilter, TopicName};

/// The n-th filter or topic of a shape.
type Nth = fn(u32) -> String;

const SHAPES: [(&str, Nth, Nth); 3] = [
    ("exact", |i| format!("site/{i}/state"), |i| format!("site/{i}/state")),
    ("plus", |i| format!("site/{i}/+/state"), |i| format!("site/{i}/lamp/state")),
    ("hash", |i| format!("site/{i}/#"), |i| format!("site/{i}/lamp/state")),
];

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).expect("a valid filter")
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::parse(text).expect("a valid name")
}

fn matched(trie: &SubscriptionTrie<u32, u8>, topic: &str) -> usize {
    let mut count = 0;
    trie.for_each_match(name(topic), |subscribers, _| count += subscribers.len());
    count
}

/// Topics to look up, spread over all so that no cache holds them.
fn spread(count: u32, topic: fn(u32) -> String) -> Vec<String> {
    (0..4096u32).map(|i| topic(i.wrapping_mul(2_654_435_761) % count)).collect()
}

fn matches(c: &mut Criterion) {
    for (shape, subscription, topic) in SHAPES {
        let mut group = c.benchmark_group(format!("match_{shape}"));
        for count in [1_000u32, 100_000, 1_000_000] {
            let mut trie = SubscriptionTrie::default();
            for i in 0..count {
                trie.insert(&filter(&subscription(i)), i, 0);
            }
            let topics = spread(count, topic);
            assert!(topics.iter().all(|topic| matched(&trie, topic) == 1), "each finds its one");
            let mut next = topics.iter().cycle();
            group.bench_function(BenchmarkId::new("one", count), |b| {
                b.iter(|| black_box(matched(&trie, next.next().expect("a cycle"))));
            });
            assert_eq!(matched(&trie, "elsewhere/1/lamp/state"), 0);
            group.bench_function(BenchmarkId::new("none", count), |b| {
                b.iter(|| black_box(matched(&trie, black_box("elsewhere/1/lamp/state"))));
            });
            for many in [100u32, 10_000] {
                let busy = format!("busy/{many}");
                for i in 0..many {
                    trie.insert(&filter(&busy), i, 0);
                }
                assert_eq!(matched(&trie, &busy), many as usize);
                group.bench_function(BenchmarkId::new(format!("{many}_subscribers"), count), |b| {
                    b.iter(|| black_box(matched(&trie, black_box(&busy))));
                });
            }
        }
        group.finish();
    }
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe_and_unsubscribe");
    for (shape, subscription, _) in SHAPES {
        let mut trie = SubscriptionTrie::default();
        for i in 0..1_000_000 {
            trie.insert(&filter(&subscription(i)), i, 0);
        }
        let fresh = filter(&subscription(1_000_001));
        group.bench_function(shape, |b| {
            b.iter(|| {
                assert!(trie.insert(&fresh, 7, 0).is_first);
                assert!(trie.remove(&fresh, 7).was_last);
            });
        });
    }
    group.finish();
}

fn retained(c: &mut Criterion) {
    let mut topics = RetainedTopics::default();
    for i in 0..1_000_000u32 {
        topics.insert(name(&format!("site/{}/lamp/{}", i / 10, i % 10)), i);
    }
    let exact = spread(1_000_000, |i| format!("site/{}/lamp/{}", i / 10, i % 10));
    let mut group = c.benchmark_group("retained_1M_topics");
    let mut next = exact.iter().cycle();
    group.bench_function("exact", |b| b.iter(|| black_box(topics.get(name(next.next().expect("a cycle"))))));
    for (what, text, expected) in
        [("ten_of_a_million", "site/4711/#", 10), ("plus_in_the_middle", "site/4711/+/3", 1), ("none", "other/+/x", 0)]
    {
        let wanted = filter(text);
        let look_up = || {
            let mut count = 0;
            topics.scan(&wanted, None, usize::MAX, |_, _| count += 1);
            count
        };
        assert_eq!(look_up(), expected);
        group.bench_function(what, |b| b.iter(|| black_box(look_up())));
    }
    group.finish();
}

criterion_group!(benches, matches, changes, retained);
criterion_main!(benches);
