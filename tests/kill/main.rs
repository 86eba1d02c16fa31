//! `kill -9` at any moment: nothing that was acknowledged is lost, and no will is lost or published twice.
//!
//! The real broker runs under load, is killed at a moment that chance chooses, and is started on the same directory, again and again. The
//! clients write down what they do and see ([`history`]), and a checker that knows the standard alone says what is wrong ([`checker`]).
//!
//! ```text
//! WILLOWMQ_KILL_ROUNDS=200 cargo test --test kill -- --nocapture      # the long run
//! WILLOWMQ_KILL_SEED=7 cargo test --test kill sync -- --nocapture     # other moments
//! WILLOWMQ_KILL_CLIENTS=10000 cargo test --test kill outage -- --nocapture
//! ```

mod broker;
mod checker;
mod history;
mod load;
#[expect(dead_code, reason = "the conformance tests say more")]
mod mqtt;
mod outage;
mod random;
mod rounds;

use broker::{Settings, number};
use checker::{Fault, Grace};
use rounds::{Outcome, Rounds};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One run at a time: they measure time, and each of them has many clients.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(settings: Settings, rounds: u64) -> Outcome {
    let _alone = alone();
    let seed = number("WILLOWMQ_KILL_SEED").unwrap_or(1);
    let outcome = Rounds::new(settings, seed).run(rounds);
    println!("{settings:?}, seed {seed}\n{outcome}");
    outcome
}

fn expect_no_complaint(settings: Settings, rounds: u64) {
    let outcome = run(settings, number("WILLOWMQ_KILL_ROUNDS").unwrap_or(rounds));
    assert!(outcome.complaints.is_empty(), "{} complaints; the first:\n{}", outcome.complaints.len(), outcome.story);
}

#[test]
fn sync_loses_nothing_that_was_acknowledged_at_any_kill() {
    expect_no_complaint(Settings { durability: "sync", grace: Grace::Of(Duration::from_secs(1)) }, 12);
}

#[test]
fn relaxed_loses_nothing_that_was_acknowledged_at_any_kill() {
    expect_no_complaint(Settings { durability: "relaxed", grace: Grace::KeepAlive }, 6);
}

/// What the clients do by themselves is right, and the checker finds nothing wrong with it.
#[test]
fn a_broker_that_is_not_killed_has_no_complaint() {
    let _alone = alone();
    let settings = Settings { durability: "sync", grace: Grace::KeepAlive };
    let outcome = Rounds::new(settings, 1).work(Duration::from_secs(6));
    println!("{outcome}");
    assert!(outcome.complaints.is_empty(), "{}", outcome.story);
}

/// The loop is worth something: it sees what a broker without a journal loses.
#[test]
fn memory_loses_everything_and_the_checker_sees_it() {
    let outcome = run(Settings { durability: "memory", grace: Grace::Of(Duration::from_secs(1)) }, 4);
    let seen = |is_it: fn(&Fault) -> bool| outcome.complaints.iter().any(|complaint| is_it(&complaint.fault));
    assert!(seen(|fault| matches!(fault, Fault::Lost { .. })));
    assert!(seen(|fault| matches!(fault, Fault::SessionPresent { said: false, .. })));
    assert!(seen(|fault| matches!(fault, Fault::RetainedLost { .. })));
    assert!(seen(|fault| matches!(fault, Fault::WillLost { .. })));
}
