//! Clients, faults and time drawn from a seed; a model of the standard looks at what the clients saw.
//!
//! `WILLOWMQ_SEED=n` runs one seed again, exactly; `WILLOWMQ_SEEDS=n` runs so many.

mod model;
mod run;
mod sessions;

use run::Run;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

const SEEDS: u64 = 300;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs one seed to its end; a digest of all that happened.
fn run(seed: u64) -> u64 {
    let mut run = Run::new(seed);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run.play();
        model::check(&mut run);
    }));
    if let Err(failure) = ended {
        eprintln!("WILLOWMQ_SEED={seed} fails; {}", run.sim.epitaph());
        resume_unwind(failure);
    }
    run.sim.digest()
}

#[test]
fn drawn_workloads_keep_what_the_standard_promises() {
    if let Some(seed) = from_environment("WILLOWMQ_SEED") {
        run(seed);
        return;
    }
    for seed in 0..from_environment("WILLOWMQ_SEEDS").unwrap_or(SEEDS) {
        run(seed);
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(1), run(2));
}
