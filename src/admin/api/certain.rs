//! What was done is answered for once it outlasts the process.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::admin::State;
use crate::admin::problem::Problem;
use crate::shard::inspect::{Outcome, Receipt};

/// A disk that is well has written by then.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks. A sync takes a few milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits until what a shard has done is certain. `what` is what was not found otherwise.
///
/// # Errors
/// It was not done, or is not certain yet.
pub(super) async fn certain(state: &State, shard: usize, outcome: Outcome, what: &str) -> Result<(), Problem> {
    match outcome {
        Outcome::Done(receipt) => wait(state, shard, receipt).await,
        Outcome::NotFound => Err(Problem::not_found(what)),
        Outcome::NotNow => Err(Problem::unavailable(
            "the disk refuses what has to be written, or the session is just ending: ask again",
        )),
    }
}

/// Waits until what has this receipt is certain.
///
/// # Errors
/// It is not certain yet.
pub(super) async fn wait(state: &State, shard: usize, receipt: Receipt) -> Result<(), Problem> {
    let end = Instant::now() + PATIENCE;
    while !state.desk.ask(shard, move |_, shard| shard.is_certain(receipt)).await? {
        if Instant::now() >= end {
            return Err(Problem::unavailable("it is done, and not written to the disk yet: a crash may undo it"));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}
