//! A shard's thread: a glommio executor with two task queues, one for the network and one for wills.

use std::cell::RefCell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Poll, Waker};

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares, executor, spawn_local_into};

use super::journal::Beginning;
use super::plan::Plan;
use super::report::ShardReport;
use super::startup::StartError;
use super::worker::{Rest, Worker};
use crate::shard::ShardId;

/// The shares of the network; `wills.share` counts against it.
const NETWORK_SHARES: usize = 1000;
/// Memory that glommio registers for file I/O, of which there is none: the journal's goes through the shard's own ring.
const IO_MEMORY: usize = 64 * 1024;

/// Starts the shard `id` on `cpu`; it says on `ready` when it could accept connections, or why it cannot.
///
/// # Errors
/// [`StartError::Executor`] when the thread or its executor cannot be set up.
pub(crate) fn start(
    id: ShardId,
    cpu: usize,
    plan: Arc<Plan>,
    sockets: Vec<OwnedFd>,
    beginning: Option<Beginning>,
    ready: Sender<Result<(), StartError>>,
) -> Result<ExecutorJoinHandle<Option<ShardReport>>, StartError> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(&format!("shard-{}", id.index()))
        .io_memory(IO_MEMORY)
        .spawn(move || async move {
            let worker = match Worker::new(id, &plan, sockets, beginning, ready.clone()) {
                Ok(worker) => Rc::new(RefCell::new(worker)),
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return None;
                }
            };
            drop(ready); // Whoever waits for the shards hears when one is gone without a word.
            let bell = Rc::new(Bell::default());
            let wills_share = plan.config().wills.share as usize;
            let network_queue = queue(NETWORK_SHARES, "network");
            let wills_queue = queue(wills_share, "wills");
            spawn_local_into(publish_wills(Rc::clone(&worker), Rc::clone(&bell)), wills_queue)
                .expect("the queue was created above")
                .detach();
            spawn_local_into(drive(Rc::clone(&worker), bell), network_queue)
                .expect("the queue was created above")
                .await;
            let report = ShardReport::of(&worker.borrow());
            Some(report)
        })
        .map_err(|error| StartError::Executor { shard: id.index(), message: error.to_string() })
}

fn queue(shares: usize, name: &str) -> glommio::TaskQueueHandle {
    // No latency goal for either: one would make glommio's preemption timer fire more often, and both yield by themselves.
    executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name)
}

/// The network task: turn after turn, and the sleep between them.
async fn drive(worker: Rc<RefCell<Worker>>, bell: Rc<Bell>) {
    loop {
        let rest = {
            let mut worker = worker.borrow_mut();
            worker.turn();
            worker.rest()
        };
        match rest {
            Rest::InRing(wait) => worker.borrow_mut().enter(wait),
            Rest::InExecutor => {
                worker.borrow_mut().enter(super::ring::Wait::No);
                bell.ring();
                executor().yield_task_queue_now().await;
            }
            Rest::Finished => {
                // What the last turn queued, such as the last closes, still goes to the kernel.
                worker.borrow_mut().enter(super::ring::Wait::No);
                return;
            }
        }
    }
}

/// The wills task: slice after slice while any are due. Its queue's share decides how often it has its turn.
async fn publish_wills(worker: Rc<RefCell<Worker>>, bell: Rc<Bell>) {
    loop {
        poll_fn(|context| match worker.borrow().has_due_wills() {
            true => Poll::Ready(()),
            false => {
                *bell.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        worker.borrow_mut().publish_wills();
        executor().yield_task_queue_now().await;
    }
}

/// Wakes the wills task.
#[derive(Default)]
struct Bell {
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    fn ring(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
