//! Threads for work that takes long: checks of passwords, TLS handshakes, requests to other services.
//!
//! A shard must not wait, so it leaves such work here and hears of the result by an errand. The threads run with less right
//! to the processor than the shards, and the shard that submits takes no lock that one of them could hold: it puts the job into
//! a queue without locks, and a token into an eventfd from which the threads read.
//!
//! The work of each source stands in a line of its own, and the lines take turns, so somebody who floods us with work waits
//! for himself and hardly anybody else. What waits is bounded, all together and for each source.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::queue::SegQueue;
use rustix::event::{EventfdFlags, eventfd};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use super::sources::Source;

/// How much the threads yield to the shards where they may not be idle ones: as nice(1) does by default.
const NICENESS: i32 = 10;
/// One source may have this part of all that waits.
const SHARE_OF_A_SOURCE: usize = 8;
/// Sources are counted in so many counters, by their hash; two that meet in one share its bound.
const COUNTERS: usize = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads with a bounded queue.
pub(crate) struct Offload {
    shared: Arc<Shared>,
}

/// There is more work already than may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

struct Shared {
    arrived: SegQueue<(Line, Job)>,
    /// One token for each job that nobody has taken.
    tokens: OwnedFd,
    lines: Mutex<Lines>,
    waiting: AtomicUsize,
    waiting_max: usize,
    waiting_of_source: Box<[AtomicUsize]>,
    hasher: ahash::RandomState,
    is_closed: AtomicBool,
}

/// In which line a job stands: that of its source, or that of all work which comes from nowhere in particular.
type Line = Option<Source>;

impl Offload {
    /// A pool of `threads` threads called `name`, in front of which `waiting_max` jobs may wait.
    ///
    /// # Errors
    /// What the system says where there are not enough descriptors or threads.
    pub(crate) fn new(name: &str, threads: usize, waiting_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            arrived: SegQueue::new(),
            tokens: eventfd(0, EventfdFlags::SEMAPHORE | EventfdFlags::CLOEXEC)?,
            lines: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waiting_max,
            waiting_of_source: (0..COUNTERS).map(|_| AtomicUsize::new(0)).collect(),
            hasher: ahash::RandomState::new(),
            is_closed: AtomicBool::new(false),
        });
        let pool = Self { shared };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("{name}-{number}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Has `job` done by one of the threads. It waits for other work from the same address, and takes turns with that of all others. A
    /// panic in it ends the process, like everywhere.
    ///
    /// # Errors
    /// [`Busy`] when as much waits as may, of this source or of all.
    pub(crate) fn submit_for(&self, address: Option<IpAddr>, job: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        let shared = &*self.shared;
        let line = address.map(Source::of);
        let of_source = shared.counter(line);
        let of_source_max = match line {
            Some(_) => (shared.waiting_max / SHARE_OF_A_SOURCE).max(1),
            None => shared.waiting_max,
        };
        take_place(&shared.waiting, shared.waiting_max)?;
        if let Err(busy) = take_place(of_source, of_source_max) {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(busy);
        }
        shared.arrived.push((line, Box::new(job)));
        shared.add_tokens(1);
        Ok(())
    }
}

/// Lets the threads end; what waits is dropped. It does not wait for them: the last one to know the pool may be one of them.
impl Drop for Offload {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.shared.add_tokens(u64::from(u32::MAX)); // More than there are threads.
    }
}

/// Gives the calling thread the policy SCHED_IDLE: a shard that wakes up takes the processor from it at once. Being nice is not enough for
/// that, since the kernel lets a nice thread finish its slice of some milliseconds. What is left to it where shards use all processors is
/// a few thousandths.
fn yield_to_shards() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_err() {
        // Without the right to do so either, it competes with the shards like any other thread.
        let _ = rustix::process::setpriority_process(None, NICENESS); // Linux: of this thread alone.
    }
}

/// One more, unless there are `max`.
fn take_place(counter: &AtomicUsize, max: usize) -> Result<(), Busy> {
    let one_more = |count: usize| (count < max).then_some(count + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map(|_| ()).map_err(|_| Busy)
}

impl Shared {
    fn counter(&self, line: Line) -> &AtomicUsize {
        match line {
            None => &self.waiting_of_source[0],
            // The first counter is that of no source.
            Some(source) => &self.waiting_of_source[1 + self.hasher.hash_one(source) as usize % (COUNTERS - 1)],
        }
    }

    fn add_tokens(&self, count: u64) {
        // It fails only where the counter would overflow, and then there are tokens enough.
        let _ = rustix::io::write(&self.tokens, &count.to_ne_bytes());
    }

    /// What each thread does for all its life.
    fn work(&self) {
        yield_to_shards();
        loop {
            match rustix::io::read(&self.tokens, &mut [0; 8]) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => panic!("cannot read an eventfd: {error}"),
            }
            if self.is_closed.load(Ordering::SeqCst) {
                return;
            }
            if let Some((line, job)) = self.next() {
                self.counter(line).fetch_sub(1, Ordering::Relaxed);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                job();
            }
        }
    }

    fn next(&self) -> Option<(Line, Job)> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((line, job)) = self.arrived.pop() {
            lines.push(line, job);
        }
        lines.pop()
    }
}

/// The jobs that wait, line by line.
#[derive(Default)]
struct Lines {
    jobs: HashMap<Line, VecDeque<Job>>,
    /// Lines with jobs, in the order of their turns.
    turns: VecDeque<Line>,
}

impl Lines {
    fn push(&mut self, line: Line, job: Job) {
        let jobs = self.jobs.entry(line).or_default();
        if jobs.is_empty() {
            self.turns.push_back(line);
        }
        jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<(Line, Job)> {
        let line = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&line).expect("a line with a turn is there");
        let job = jobs.pop_front().expect("a line with a turn is not empty");
        if jobs.is_empty() {
            self.jobs.remove(&line);
        } else {
            self.turns.push_back(line);
        }
        Some((line, job))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, last]))
    }

    /// A pool with one thread, which is held up until something is sent.
    fn held_up(waiting_max: usize) -> (Offload, Sender<()>) {
        let pool = Offload::new("test", 1, waiting_max).unwrap();
        let ((begun, has_begun), (go_on, may_go_on)) = (channel(), channel::<()>());
        let hold = move || {
            begun.send(()).unwrap();
            let _ = may_go_on.recv();
        };
        pool.submit_for(None, hold).unwrap();
        has_begun.recv_timeout(PATIENCE).unwrap();
        (pool, go_on)
    }

    fn collect(done: &Receiver<u32>, count: usize) -> Vec<u32> {
        (0..count).map(|_| done.recv_timeout(PATIENCE).unwrap()).collect()
    }

    #[test]
    fn what_is_submitted_is_done() {
        let pool = Offload::new("test", 3, 100).unwrap();
        let (sender, done) = channel();
        for number in 0..100 {
            let sender = sender.clone();
            pool.submit_for(None, move || sender.send(number).unwrap()).unwrap();
        }
        let mut numbers = collect(&done, 100);
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert_eq!(pool.shared.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn above_the_bound_it_is_busy_and_afterwards_no_more() {
        let (pool, go_on) = held_up(2);
        let (sender, done) = channel();
        let job = || {
            let sender = sender.clone();
            move || sender.send(1).unwrap()
        };
        assert_eq!(pool.submit_for(None, job()), Ok(()));
        assert_eq!(pool.submit_for(None, job()), Ok(()));
        assert_eq!(pool.submit_for(None, job()), Err(Busy));
        go_on.send(()).unwrap();
        collect(&done, 2);
        assert_eq!(pool.submit_for(None, job()), Ok(()));
        collect(&done, 1);
    }

    #[test]
    fn a_source_that_floods_leaves_room_and_waits_for_itself() {
        let (pool, go_on) = held_up(64);
        let (sender, done) = channel();
        let submit = |source, number| {
            let sender = sender.clone();
            pool.submit_for(source, move || sender.send(number).unwrap())
        };
        for number in 0..8 {
            assert_eq!(submit(address(1), number), Ok(()));
        }
        assert_eq!(submit(address(1), 8), Err(Busy), "an eighth of 64");
        assert_eq!(submit(address(2), 100), Ok(()));
        assert_eq!(submit(address(3), 200), Ok(()));
        assert_eq!(submit(address(2), 101), Ok(()));
        go_on.send(()).unwrap();
        assert_eq!(collect(&done, 11), [0, 100, 200, 1, 101, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn the_threads_run_when_nobody_else_does_and_end_with_the_pool() {
        let pool = Offload::new("test", 1, 1).unwrap();
        let (sender, receiver) = channel();
        let policy = move || sender.send(thread_priority::thread_schedule_policy().unwrap()).unwrap();
        pool.submit_for(None, policy).unwrap();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), idle);
        let shared = Arc::downgrade(&pool.shared);
        drop(pool);
        while shared.upgrade().is_some() {
            std::thread::yield_now();
        }
    }
}
