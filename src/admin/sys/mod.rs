//! `$SYS/broker/…`: what the broker tells of itself to whoever subscribes, with the names that Mosquitto has for it.
//!
//! A thread of its own takes the figures of all shards every `sys.interval` and publishes those that have changed, as volatile retained
//! messages of QoS 0. One shard publishes all of them, so that each topic keeps its order, and some in each of its turns: many may subscribe.

mod figures;
mod load;

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep;

use self::figures::Figures;
use self::load::Loads;
use super::report::collect;
use crate::net::StartError;
use crate::net::desk::{Desk, Silent};
use crate::shard::Announcement;
use crate::topic::TopicName;

/// What all topics begin with.
const ROOT: &str = "$SYS/broker/";
/// The shard that publishes.
const PUBLISHER: usize = 0;
/// How many are published in one turn.
const SLICE: usize = 8;
/// How often it is looked whether `sys.interval` is still the same.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How much the thread yields to the shards, as nice(1) has it by default: nobody waits for it.
const NICENESS: i32 = 10;

/// The thread that publishes. It ends when this is dropped.
pub(crate) struct Sys {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sys {
    /// Starts it.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(desk: Desk) -> Result<Self, StartError> {
        let failed = |error| StartError::System { what: "cannot start the thread that publishes below $SYS", error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            // Linux: of this thread alone. It cannot fail for more niceness than there was.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let mut publisher = Publisher::new(desk);
            runtime.block_on(async move {
                tokio::select! {
                    _ = ended => {}
                    () = publisher.publish_for_ever() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("sys".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Sys {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic ends the process.
        }
    }
}

/// What was told, and what the next values follow from.
struct Publisher {
    desk: Desk,
    loads: Loads,
    /// By topic below [`ROOT`].
    told: BTreeMap<String, String>,
    /// Whether what was told is retained, so that it need not be told again.
    is_retained: bool,
    connected_max: u64,
    memory_max: u64,
    last: Option<Instant>,
}

impl Publisher {
    fn new(desk: Desk) -> Self {
        Self {
            desk,
            loads: Loads::default(),
            told: BTreeMap::new(),
            is_retained: false,
            connected_max: 0,
            memory_max: 0,
            last: None,
        }
    }

    async fn publish_for_ever(&mut self) {
        loop {
            // A shard that does not answer is noticed elsewhere, and its silence ends or the broker does.
            let _ = if self.interval().is_zero() { self.withdraw().await } else { self.publish().await };
            self.rest().await;
        }
    }

    fn interval(&self) -> Duration {
        self.desk.plan().config().sys.interval
    }

    /// Waits for the next time. Settings may be loaded again meanwhile, so it looks at them now and then.
    async fn rest(&self) {
        let began = Instant::now();
        loop {
            let interval = self.interval();
            let end = if interval.is_zero() { LOOK_AGAIN } else { interval };
            let left = end.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK_AGAIN)).await;
        }
    }

    /// Publishes what has changed.
    async fn publish(&mut self) -> Result<(), Silent> {
        let report = collect(&self.desk).await?;
        let mut figures = Figures::of(&report);
        self.connected_max = self.connected_max.max(figures.connected);
        self.memory_max = self.memory_max.max(figures.memory_max).max(figures.memory);
        (figures.connected_max, figures.memory_max) = (self.connected_max, self.memory_max);
        let now = Instant::now();
        let since = self.last.replace(now).map(|last| now - last);
        self.loads.note(since, &figures);
        let mut values = figures.values();
        values.extend(self.loads.values());
        if !std::mem::replace(&mut self.is_retained, self.desk.plan().config().features.retain) {
            self.told.clear(); // Nothing of it is retained.
        }
        let news = changed(&mut self.told, values);
        let outcome = self.tell(news).await;
        if outcome.is_err() {
            self.told.values_mut().for_each(String::clear); // Who knows what was told; all of it is told next time.
        }
        outcome
    }

    /// Removes what was published, where that was switched off.
    async fn withdraw(&mut self) -> Result<(), Silent> {
        let news = self.told.keys().map(|topic| (topic.clone(), String::new())).collect();
        self.last = None;
        self.tell(news).await?;
        self.told.clear();
        Ok(())
    }

    async fn tell(&self, news: Vec<(String, String)>) -> Result<(), Silent> {
        for slice in news.chunks(SLICE) {
            let slice = slice.to_vec();
            let publish = move |now, shard: &mut crate::shard::Shard| {
                for (topic, value) in &slice {
                    let topic = format!("{ROOT}{topic}");
                    let topic = TopicName::parse(&topic).expect("these topics are literal");
                    // What is volatile with QoS 0 needs no journal, so nothing refuses it.
                    let _ = shard.publish_as_broker(now, &Announcement::volatile(topic, value.as_bytes()));
                }
            };
            self.desk.ask(PUBLISHER, publish).await?;
        }
        Ok(())
    }
}

/// Those of `values` that were not told yet, or not so.
fn changed(told: &mut BTreeMap<String, String>, values: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut news = Vec::new();
    for (topic, value) in values {
        if told.get(&topic) != Some(&value) {
            told.insert(topic.clone(), value.clone());
            news.push((topic, value));
        }
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_is_told_again() {
        let mut told = BTreeMap::new();
        let values = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(topic, value)| ((*topic).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let all = [("a", "1"), ("b", "2")];
        assert_eq!(changed(&mut told, values(&all)), values(&all));
        assert_eq!(changed(&mut told, values(&all)), []);
        assert_eq!(changed(&mut told, values(&[("a", "1"), ("b", "3")])), values(&[("b", "3")]));
    }
}
