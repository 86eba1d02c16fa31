//! The drain of the whole broker: an operator orders it, all shards hand their clients away, and then the process stops in order.
//!
//! What it means for clients and wills is in `shard/drain.rs`. Here is who may come next: an order, another one with another
//! time, a cancel, or the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::desk::{Desk, Silent};
use crate::config::{Durability, OnShutdown};
use crate::shard::DrainProgress;
use crate::timer::Moment;

/// The longest time that a drain may take.
const OVER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked whether all are handed away.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Orders and follows a drain. Copies of it are about the same one.
#[derive(Clone)]
pub(crate) struct Drain {
    desk: Desk,
    stop: Stop,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Numbers the orders, and cancels, so that whoever follows one notices the next.
    number: u64,
    /// The one in force.
    order: Option<Order>,
    /// All are handed away and the stop is asked for: it is too late to cancel.
    is_stopping: bool,
}

#[derive(Debug, Clone, Copy)]
struct Order {
    over: Duration,
    until: Moment,
}

/// Asks for the end of the process, as SIGTERM does.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
        // The thread that receives signals does the rest. There is no such signal only where there is no such thread.
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGTERM);
    }

    /// Whether a SIGTERM that has come may be this one; told once.
    pub(super) fn is_asked(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// How far a drain has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Over which time it is to happen.
    pub(crate) over: Duration,
    /// When the last client is to be gone.
    pub(crate) until: Moment,
    /// Clients that were connected when it began.
    pub(crate) total: usize,
    /// Those that are left.
    pub(crate) left: usize,
    /// What the operator should know before it is over.
    pub(crate) warning: Option<&'static str>,
}

impl Drain {
    /// That of the broker whose shards are asked at `desk`; it ends with `stop`.
    pub(crate) fn new(desk: Desk, stop: Stop) -> Self {
        Self { desk, stop, state: Arc::default() }
    }

    /// Whether clients are being handed away: the broker is not ready for new ones.
    pub(crate) fn is_on(&self) -> bool {
        self.state().order.is_some()
    }

    /// Hands all clients away, evenly over this time, at most a day, or over `drain.over`, and stops the broker then. Where that is being
    /// done already, only the time changes. To be called where tokio runs tasks, on one thread.
    ///
    /// # Errors
    /// A shard does not answer. The order stands.
    pub(crate) async fn begin(&self, over: Option<Duration>) -> Result<Progress, Silent> {
        let over = over.unwrap_or(self.desk.plan().config().drain.over).min(OVER_MAX);
        let order = Order { over, until: self.desk.now() + over };
        let number = {
            let mut state = self.state();
            state.number += 1;
            state.order = Some(order);
            state.number
        };
        // It is on its way to all shards before anything else is awaited, so they see orders and cancels in one order.
        let progress = self.desk.ask_all(move |now, shard| {
            shard.begin_drain(now, over);
            shard.drain_progress()
        });
        let follower = self.clone();
        tokio::spawn(async move { follower.follow(number).await });
        let progress = self.progress_of(progress.await?, order);
        tracing::info!(clients = progress.left, ?over, "draining: clients are handed away, then the broker stops");
        if let Some(warning) = progress.warning {
            tracing::warn!("draining: {warning}");
        }
        Ok(progress)
    }

    /// Lets clients in again; whether there was a drain that had not come to its end.
    ///
    /// # Errors
    /// A shard does not answer. The cancel stands.
    pub(crate) async fn cancel(&self) -> Result<bool, Silent> {
        {
            let mut state = self.state();
            if state.is_stopping || state.order.take().is_none() {
                return Ok(false);
            }
            state.number += 1;
        }
        self.desk.ask_all(|now, shard| shard.cancel_drain(now)).await?;
        tracing::info!("the drain is cancelled: clients are let in again");
        Ok(true)
    }

    /// How far it has come; `None`: there is none.
    ///
    /// # Errors
    /// A shard does not answer.
    pub(crate) async fn progress(&self) -> Result<Option<Progress>, Silent> {
        let Some(order) = self.state().order else { return Ok(None) };
        let progress = self.desk.ask_all(|_, shard| shard.drain_progress()).await?;
        Ok(Some(self.progress_of(progress, order)))
    }

    fn progress_of(&self, shards: Vec<Option<DrainProgress>>, order: Order) -> Progress {
        let (mut total, mut left) = (0, 0);
        for progress in shards.into_iter().flatten() {
            total += progress.total;
            left += progress.left;
        }
        Progress { over: order.over, until: order.until, total, left, warning: self.warning() }
    }

    fn warning(&self) -> Option<&'static str> {
        let config = self.desk.plan().config();
        match (config.durability, config.wills.on_shutdown) {
            (Durability::Memory, OnShutdown::Hold) => Some(
                "durability is \"memory\": sessions, retained messages and wills end with the process, wills unpublished",
            ),
            (Durability::Memory, OnShutdown::Publish) => {
                Some("durability is \"memory\": sessions and retained messages end with the process")
            }
            (Durability::Sync | Durability::Relaxed, _) => None,
        }
    }

    /// Stops the broker when all are handed away, unless there is another order by then, or a cancel.
    async fn follow(self, number: u64) {
        loop {
            sleep(LOOK_EVERY).await;
            if self.state().number != number {
                return;
            }
            // A shard that is stuck is waited for: the watchdog has its say on it.
            let Ok(progress) = self.desk.ask_all(|_, shard| shard.drain_progress()).await else { continue };
            let is_over = progress.iter().all(|shard| shard.is_some_and(|progress| progress.is_over));
            if is_over && self.state().number == number {
                self.state().is_stopping = true;
                tracing::info!("drained: all clients are handed away, the broker stops");
                return self.stop.ask();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
