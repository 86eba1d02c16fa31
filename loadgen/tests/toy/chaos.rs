//! Several faults at once, and brokers that die: no verdict is expected, but one that is told in an orderly way.

use crate::faults::{ALL, Faults, from, once};
use crate::run::{Outcome, at_once, run_with};
use crate::storm::storm;

/// Short runs of everything.
const RUNS: [&str; 11] = [
    storm!("--background 500 --will-retain --patience 300ms"),
    storm!("--how takeover --background 500 --background-qos 2 --patience 300ms"),
    storm!("--will-delay 1s --reconnect 50% --after 300ms --watchers 2 --patience 300ms"),
    "publish --warmup 0 --duration 300ms --publishers 4 --patience 300ms --qos 2",
    "publish --warmup 0 --duration 300ms --publishers 4 --patience 300ms --shape fan-in --qos 1 --rate 2000",
    "publish --warmup 0 --duration 300ms --publishers 4 --patience 300ms --shape shared --mqtt 3.1.1",
    "churn --clients 20 --rate 200 --duration 300ms --before 50ms --background 300 --will --patience 300ms",
    "retained --topics 100 --rounds 1 --readers 4 --patience 300ms",
    "soak --duration 500ms --rate 300 --publishers 2 --churn-clients 10 --churn-rate 50 --stay 20ms --topics 10 \
     --look-interval 100ms --interval 100ms --warmup 0 --patience 300ms",
    "offline --subscribers 10 --publishers 5 --messages 300 --patience 300ms",
    "offline --subscribers 5 --publishers 10 --messages 300 --shape fan-out --qos 2 --patience 300ms",
];

/// A run that passed or failed has a report that says so; one that could not take place has a reason.
fn is_orderly(outcome: &Outcome) -> bool {
    match outcome.code {
        Some(code @ (0 | 1)) => outcome.report().passed == (code == 0),
        Some(2) => outcome.stderr.starts_with("willowmq-loadgen: ") && outcome.stdout.is_empty(),
        _ => false,
    }
}

/// Up to three faults, each of which strikes somewhere.
fn some_faults(seed: &mut u64) -> (Faults, Vec<(usize, u64)>) {
    let mut random = |below: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    };
    let mut faults = Faults::default();
    let chosen: Vec<_> = (0..=random(3)).map(|_| (random(ALL.len() as u64) as usize, 1 + random(300))).collect();
    for (index, nth) in &chosen {
        *ALL[*index](&mut faults) = if nth % 3 == 0 { from(*nth) } else { once(*nth) };
    }
    (faults, chosen)
}

#[test]
fn whatever_happens_is_told_in_an_orderly_way() {
    let mut seed = 1;
    let count = std::env::var("CHAOS").map_or(1, |count| count.parse().unwrap());
    let stories: Vec<_> = (0..count * RUNS.len()).map(|run| (RUNS[run % RUNS.len()], some_faults(&mut seed))).collect();
    at_once(&stories, |(arguments, (faults, chosen))| {
        let outcome = run_with(*faults, arguments);
        (!is_orderly(&outcome)).then(|| format!("{arguments}, {chosen:?}: {outcome:?}"))
    });
}

#[test]
fn a_broker_that_dies_fails_the_run() {
    let stories: Vec<_> = RUNS.into_iter().zip([600, 600, 400, 200, 200, 200, 300, 200, 250, 150, 150]).collect();
    at_once(&stories, |(arguments, packets)| {
        let outcome = run_with(Faults { die: once(*packets), ..Faults::default() }, arguments);
        (outcome.code != Some(1) || !is_orderly(&outcome)).then(|| format!("{arguments}: {outcome:?}"))
    });
}

#[test]
fn a_broker_that_loses_everything_fails_the_run() {
    let nothing = from(1);
    let stories = [
        (Faults { drop_will: nothing, ..Faults::default() }, RUNS[0]),
        (Faults { drop_message: nothing, ..Faults::default() }, RUNS[3]),
        (Faults { drop_message: nothing, ..Faults::default() }, RUNS[6]),
        (Faults { forget_retained: nothing, ..Faults::default() }, RUNS[7]),
        (Faults { lose_queued: nothing, ..Faults::default() }, RUNS[9]),
        (Faults { refuse_connect: nothing, ..Faults::default() }, "connect --clients 50 --idle 0"),
        (
            Faults { no_connack: nothing, ..Faults::default() },
            "connect --clients 50 --idle 0 --patience 300ms --persistent",
        ),
    ];
    at_once(&stories, |(faults, arguments)| {
        let outcome = run_with(*faults, arguments);
        (outcome.code != Some(1) || !is_orderly(&outcome)).then(|| format!("{arguments}: {outcome:?}"))
    });
}
