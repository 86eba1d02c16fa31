//! `retained`: what it costs to keep messages and to find them again, one by one and all at once.

mod session;
pub mod shelf;

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use clap::Args;
use willowmq::codec::QoS;

use crate::options::{self, Common};
use crate::report::Latency;
use crate::run::Run;
use session::{Session, Work};

/// How long it is watched whether anything comes that should not.
const LINGER: Duration = Duration::from_millis(300);

/// How long removing what is stored may take after an interrupt.
const CLEARING: Duration = Duration::from_secs(10);

/// The plot of latencies.
const CHART: &str = "Latency of storing and looking up";

/// Messages are kept, found one by one and all at once, replaced, and removed
#[derive(Args, Clone, Debug)]
pub struct Retained {
    /// Topics at which a message is kept
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = options::at_least_one)]
    pub topics: usize,
    /// Level of the readers' subscriptions; messages are published at QoS 1, or at QoS 2 if this is 2
    #[arg(long, value_name = "QOS", default_value = "1", value_parser = options::qos)]
    pub qos: QoS,
    /// Size of a payload
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub payload: usize,
    /// Publishers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = options::at_least_one)]
    pub publishers: usize,
    /// Messages of one publisher that are on their way at once
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = options::at_least_one)]
    pub window: usize,
    /// Readers that look at topics at the same time, each at one after another
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = options::at_least_one)]
    pub readers: usize,
    /// What a reader subscribes to for all topics; {prefix} becomes the topic prefix, and topics are {prefix}/NUMBER/state
    #[arg(long, value_name = "FILTER", default_value = "{prefix}/#")]
    pub filter: String,
    /// How often all topics are looked at with one subscription
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = options::at_least_one)]
    pub rounds: usize,
}

/// A step of the run.
type Step = fn(&Retained, &mut Run, &mut Session) -> Result<()>;

/// The steps in their order. A lost connection ends them: what follows would blame the messages.
const STEPS: [Step; 6] = [
    Retained::store,
    Retained::look_up,
    Retained::look_at_all,
    Retained::replace,
    Retained::remove,
    Retained::look_at_nothing,
];

impl Retained {
    fn clients(&self) -> usize {
        self.publishers + self.readers
    }

    /// The level of publishes: an acknowledgement tells that a message is kept, so it is not 0.
    fn publish_qos(&self) -> QoS {
        self.qos.max(QoS::AtLeastOnce)
    }

    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        let mut run = Run::new("retained", common, self.clients())?;
        if !self.filter.contains("{prefix}") {
            run.stamper = run.stamper.among_others(); // The readers hear other publishers as well.
        }
        let mut session = Session::new(self.clone(), &run);
        session.connect(&mut run)?;
        for step in STEPS {
            if let Err(error) = step(self, &mut run, &mut session) {
                return Err(give_up(error, &mut run, &mut session));
            }
            if session.disconnected.count > 0 {
                break;
            }
        }
        session.shelf.tell(&mut run.report);
        run.report.check(session.refused.into_check("refused", "publishes and subscriptions refused", false));
        run.report.check(session.disconnected.into_check("disconnected", "connections lost", false));
        run.finish()
    }

    fn store(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        let memory_before = run.broker_memory()?;
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("storing", self.topics as u64);
        let count = self.publish(run, session, Work::Store(0))?;
        let spent = run.spent_since(cost)?;
        run.end_phase("store", from);
        run.report.higher("stored_per_second", "messages stored", per_second(count, spent.time), "/s");
        run.tell_broker_cost("message stored", count, spent);
        run.report.latency(Latency::new("store", "storing, up to the acknowledgement", CHART, &session.latency));
        if let Some((after, before)) = run.broker_memory()?.zip(memory_before) {
            let each = (after as f64 - before as f64) / count.max(1) as f64;
            run.report.lower("broker_memory_bytes_per_retained", "broker memory per message stored", each, "B");
        }
        run.warn_if_busy(spent);
        Ok(())
    }

    /// Publishes something to every topic; gives how many were acknowledged.
    fn publish(&self, run: &mut Run, session: &mut Session, work: Work) -> Result<u64> {
        let wanted = self.topics as u64;
        let done = session.work(run, work, wanted)?;
        if done < wanted && session.disconnected.count == 0 {
            session.refused.add_many(wanted - done, || format!("no acknowledgement for {:?}", run.options.patience));
        }
        Ok(done)
    }

    fn look_up(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        session.renew_readers(run, self.readers)?;
        session.shelf.begin_look();
        let (from, cost) = (run.now(), run.cost()?);
        let wanted = session.shelf.kept();
        run.progress.phase("looking up", wanted);
        session.work(run, Work::LookUp, wanted)?;
        if !session.came_to_all() {
            run.report.warnings.push("looking at single topics was given up: every reader was left waiting".into());
        }
        let spent = run.spent_since(cost)?;
        let found = session.shelf.found();
        run.end_phase("lookup", from);
        run.report.higher("lookups_per_second", "look-ups of one topic", per_second(found, spent.time), "/s");
        run.tell_broker_cost("lookup", found, spent);
        let title = "look-up of one topic, from SUBSCRIBE to the message";
        run.report.latency(Latency::new("lookup", title, CHART, &session.latency));
        run.warn_if_busy(spent);
        session.linger(run, LINGER)?;
        session.miss_subacks(session.asked);
        session.end_look();
        Ok(())
    }

    /// Looks at all topics at once, as often as asked.
    fn look_at_all(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        run.progress.phase("all at once", self.rounds as u64);
        let (from, mut rounds) = (run.now(), Vec::new());
        for round in 0..self.rounds {
            rounds.push(self.look_at_all_once(run, session)?);
            run.progress.at(run.now(), round as u64 + 1, String::new);
        }
        run.end_phase("wildcard", from);
        let time: Duration = rounds.iter().map(|round| round.last).sum();
        let found = rounds.iter().map(|round| round.found).sum::<u64>();
        let rate = per_second(found, time);
        run.report.higher("wildcard_messages_per_second", "messages of a look at all", rate, "/s");
        if let Some(cpu) = rounds.iter().map(|round| round.cpu).sum::<Option<Duration>>() {
            let each = cpu.as_secs_f64() * 1e6 / found.max(1) as f64;
            run.report.lower(
                "broker_cpu_us_per_wildcard_message",
                "broker CPU per message of a look at all",
                each,
                "µs",
            );
        }
        let mut tell = |name: &str, title: &str, part: fn(&Look) -> Duration| {
            let median = median(rounds.iter().map(part).collect());
            run.report.lower(name, title, median.as_secs_f64() * 1e6, "µs");
        };
        tell("wildcard_first_us", "look at all, up to the first message", |round| round.first);
        tell("wildcard_last_us", "look at all, up to the last message", |round| round.last);
        Ok(())
    }

    /// Looks at all topics with a new reader.
    fn look_at_all_once(&self, run: &mut Run, session: &mut Session) -> Result<Look> {
        session.renew_readers(run, 1)?;
        let wanted = session.shelf.kept();
        let cost = run.cost()?;
        let from = session.ask_for_all(run);
        session.work(run, Work::LookAtAll, wanted)?;
        let cpu = run.spent_since(cost)?.broker;
        let (first, last) = session.arrivals.unwrap_or((run.now(), run.now()));
        let found = session.shelf.found();
        session.linger(run, LINGER)?;
        session.miss_subacks(1);
        session.end_look();
        Ok(Look { found, first: first - from, last: last - from, cpu })
    }

    /// Replaces every message by a newer one, which is found from then on.
    fn replace(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("replacing", self.topics as u64);
        session.renew_readers(run, 0)?;
        let count = self.publish(run, session, Work::Store(1))?;
        let spent = run.spent_since(cost)?;
        run.end_phase("replace", from);
        run.report.higher("replaced_per_second", "messages replaced", per_second(count, spent.time), "/s");
        run.tell_broker_cost("message replaced", count, spent);
        self.look_at_all_once(run, session)?;
        Ok(())
    }

    /// Removes every message.
    fn remove(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("removing", self.topics as u64);
        session.renew_readers(run, 0)?;
        let count = self.publish(run, session, Work::Remove)?;
        let spent = run.spent_since(cost)?;
        run.end_phase("remove", from);
        run.report.higher("removed_per_second", "messages removed", per_second(count, spent.time), "/s");
        run.tell_broker_cost("message removed", count, spent);
        Ok(())
    }

    /// Sees that nothing is left.
    fn look_at_nothing(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        session.renew_readers(run, 1)?;
        session.ask_for_all(run);
        session.work(run, Work::LookAtAll, 0)?;
        let deadline = run.now() + run.options.patience;
        if !run.drive(session, deadline, |it| it.subscribed() > 0)? {
            session.refused.add(|| format!("no SUBACK for {:?}", run.options.patience));
        }
        session.linger(run, LINGER)?;
        session.end_look();
        Ok(())
    }
}

/// Removes what is stored when the run is interrupted, and says so; gives `error` otherwise.
fn give_up(error: Error, run: &mut Run, session: &mut Session) -> Error {
    if !run.fleet.is_interrupted() {
        return error;
    }
    run.fleet.ignore_interrupt();
    match session.clear(run, CLEARING) {
        Ok(true) => anyhow!("{error}; the retained messages of this run are removed"),
        _ => anyhow!("{error}; retained messages may be left behind at {}/#", run.topic_prefix),
    }
}

/// One look at all topics.
#[derive(Clone, Copy, Debug)]
struct Look {
    found: u64,
    /// From SUBSCRIBE to the first message.
    first: Duration,
    /// From SUBSCRIBE to the last message.
    last: Duration,
    /// What it cost the broker.
    cpu: Option<Duration>,
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
