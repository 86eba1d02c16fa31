//! The desk: where threads beside the shards ask a shard for something, and wait for the answer.
//!
//! What is asked is a function that the shard runs in one of its turns. It sees everything and must not take long: who wants much asks
//! for a slice, and then for the next one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::errand::Errand;
use super::plan::Plan;
use super::worker::Worker;
use crate::shard::{Shard, home_hasher, home_of};
use crate::timer::Moment;

/// A shard that has not answered by then is stuck, or the process is about to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks shards, from any thread with a tokio runtime.
#[derive(Clone)]
pub(crate) struct Desk {
    plan: Arc<Plan>,
    hasher: ahash::RandomState,
}

/// A shard does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silent {
    /// Which one.
    pub(crate) shard: usize,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} does not answer: it is stuck, or the broker is about to end", self.shard)
    }
}

impl Desk {
    /// The desk of the broker that runs as `plan` says.
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let hasher = home_hasher(plan.seed);
        Self { plan, hasher }
    }

    /// What all shards started from, and the settings in force.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The time, as the shards count it.
    pub(crate) fn now(&self) -> Moment {
        self.plan.clock.now()
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.plan.mesh.shards()
    }

    /// The shard that has the Session of a client.
    pub(crate) fn home_of(&self, client_id: &str) -> usize {
        home_of(client_id, &self.hasher, self.shards()).index()
    }

    /// Has a shard run `job` on its state machine.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        job: impl FnOnce(Moment, &mut Shard) -> T + Send + 'static,
    ) -> Result<T, Silent> {
        self.ask_worker(shard, move |now, worker| job(now, &mut worker.shard)).await
    }

    /// Has a shard run `job` on its state machine, whatever comes of it.
    pub(crate) fn tell(&self, shard: usize, job: impl FnOnce(Moment, &mut Shard) + Send + 'static) {
        drop(self.send(shard, move |now, worker| job(now, &mut worker.shard)));
    }

    /// Has all shards run `job`; their answers in the order of the shards.
    ///
    /// # Errors
    /// One does not answer.
    pub(crate) async fn ask_all<T: Send + 'static>(
        &self,
        job: impl Fn(Moment, &mut Shard) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Silent> {
        self.ask_all_workers(move |now, worker| job(now, &mut worker.shard)).await
    }

    /// As [`Self::ask`], with all that is around the state machine.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn ask_worker<T: Send + 'static>(
        &self,
        shard: usize,
        job: impl FnOnce(Moment, &mut Worker) -> T + Send + 'static,
    ) -> Result<T, Silent> {
        self.await_answer(shard, self.send(shard, job)).await
    }

    /// As [`Self::ask_all`], with all that is around the state machines.
    ///
    /// # Errors
    /// One does not answer.
    pub(crate) async fn ask_all_workers<T: Send + 'static>(
        &self,
        job: impl Fn(Moment, &mut Worker) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Silent> {
        let asked: Vec<_> = (0..self.shards()).map(|shard| self.send(shard, job.clone())).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (shard, answer) in asked.into_iter().enumerate() {
            answers.push(self.await_answer(shard, answer).await?);
        }
        Ok(answers)
    }

    fn send<T: Send + 'static>(
        &self,
        shard: usize,
        job: impl FnOnce(Moment, &mut Worker) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, receiver) = oneshot::channel();
        let task = move |now: Moment, worker: &mut Worker| {
            let _ = answer.send(job(now, worker)); // Whoever asked may have gone.
        };
        self.plan.mesh.deliver(shard, Errand::Task(Box::new(task)));
        receiver
    }

    async fn await_answer<T>(&self, shard: usize, answer: oneshot::Receiver<T>) -> Result<T, Silent> {
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Silent { shard }),
        }
    }
}
