//! `offline`: what a broker does for clients that are away.
//!
//! Subscribers leave a Session behind, publishers fill it as fast as the broker acknowledges, and the subscribers come
//! back for what was acknowledged. Between the last two the operator may do what a broker has to survive: then they are
//! two runs, and a file tells the second what the first was promised.

mod plan;
mod publishing;
mod returning;
mod state;
mod visit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use clap::{Args, ValueEnum};
use willowmq::codec::QoS;

use crate::disk::appends_per_second;
use crate::engine::Time;
use crate::ledger::Violations;
use crate::options::{self, Common};
use crate::report::Latency;
use crate::run::{Cost, Run, Spent};
use plan::{Plan, Purpose};
use publishing::Publishing;
use returning::Returning;
use state::State;
use visit::Visit;

pub use plan::Shape;

/// Messages for each subscriber unless others are asked for: what most brokers queue for a Session by default.
const QUEUE: usize = 1000;
/// How long the disk is measured.
const DISK: Duration = Duration::from_secs(1);
/// From the last DISCONNECT to the first publish: nothing tells when a broker has seen a DISCONNECT.
const PARTING: Duration = Duration::from_millis(200);
/// How often it is looked how far publishing is.
const STEP: Duration = Duration::from_millis(100);
/// How long ending the Sessions may take after an interrupt.
const CLEARING: Duration = Duration::from_secs(10);
/// How long it is watched whether anything comes that should not.
const LINGER: Duration = Duration::from_millis(300);

/// Subscribers are away, messages are acknowledged meanwhile, and all of these are there when they come back
#[derive(Args, Clone, Debug)]
pub struct Offline {
    /// What to do: everything, or one half of it, so that the broker can be ended in between
    #[arg(long, value_enum, default_value_t = Phase::All)]
    pub phase: Phase,
    /// File that `--phase publish` writes and `--phase collect` reads: what was acknowledged
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// To whom messages are published [default: pairs]
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// Subscribers, whose Sessions outlive their connections [default: 100]
    #[arg(long, value_name = "N", value_parser = options::at_least_one)]
    pub subscribers: Option<usize>,
    /// Publishers [default: 100]
    #[arg(long, value_name = "N", value_parser = options::at_least_one)]
    pub publishers: Option<usize>,
    /// Level of publishes and subscriptions, 1 or 2 [default: 1]
    #[arg(long, value_name = "QOS", value_parser = options::qos)]
    pub qos: Option<QoS>,
    /// Size of a payload [default: 100]
    #[arg(long, value_name = "BYTES", value_parser = options::payload_bytes)]
    pub payload: Option<usize>,
    /// Messages of one publisher that are on their way at once [default: 10]
    #[arg(long, value_name = "N", value_parser = options::at_least_one)]
    pub window: Option<usize>,
    /// Messages published in all [default: 1000 for each subscriber, which most brokers queue by default]
    #[arg(long, value_name = "N", value_parser = options::at_least_one)]
    pub messages: Option<usize>,
    /// Publish for this long at most [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    pub duration: Option<Duration>,
    /// Measure before the run how often in a second one thread can append a message to a file here and fdatasync it
    #[arg(long, value_name = "DIR")]
    pub disk: Option<PathBuf>,
}

/// Which part of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Subscribe, leave, publish, and write down what was acknowledged.
    Publish,
    /// Come back for what was acknowledged.
    Collect,
    /// Both.
    All,
}

impl Offline {
    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        match (self.phase, &self.state) {
            (Phase::All, None) => self.run_all(common),
            (Phase::All, Some(_)) => bail!("--state is of --phase publish and --phase collect"),
            (Phase::Publish, Some(path)) => self.run_publish(common, path),
            (Phase::Collect, Some(path)) => self.run_collect(common, path),
            (Phase::Publish | Phase::Collect, None) => bail!("--phase publish and --phase collect need a --state"),
        }
    }

    fn run_all(&self, common: &Common) -> Result<bool> {
        let (mut run, plan) = self.prepare(common)?;
        let mut publishing = self.publish(&mut run, &plan).or_else(|error| give_up(error, &mut run, &plan))?;
        let state = state(&run, plan, &mut publishing);
        run.report.check(publishing.refused.into_check("refused", "publishes refused", false));
        let is_anybody_left = publishing.disconnected.count < state.plan.publishers as u64;
        let mut disconnected = publishing.disconnected;
        if is_anybody_left {
            let qos = state.plan.qos();
            let mut returning = collect(&mut run, state)?;
            disconnected.absorb(std::mem::take(&mut returning.disconnected));
            returning.violations.absorb(publishing.violations);
            returning.violations.tell(qos, common.strict, &mut run.report);
        } else {
            run.report.warnings.push("no publisher was left: nobody came back, and the Sessions remain".into());
        }
        run.report.check(disconnected.into_check("disconnected", "connections lost", false));
        run.finish()
    }

    fn run_publish(&self, common: &Common, path: &Path) -> Result<bool> {
        options::check_writable(path).with_context(|| format!("--state {}", path.display()))?;
        let (mut run, plan) = self.prepare(common)?;
        let mut publishing = self.publish(&mut run, &plan).or_else(|error| give_up(error, &mut run, &plan))?;
        state(&run, plan, &mut publishing).write(path)?;
        let Publishing { refused, disconnected, violations, .. } = publishing;
        let Violations { misdirected, unacknowledged, .. } = violations;
        for (tally, name, title) in [
            (refused, "refused", "publishes refused"),
            (misdirected, "misdirected", "messages at another topic or level"),
            (unacknowledged, "unacknowledged", "messages without an acknowledgement"),
            (disconnected, "disconnected", "connections lost"),
        ] {
            run.report.check(tally.into_check(name, title, false));
        }
        run.finish()
    }

    fn run_collect(&self, common: &Common, path: &Path) -> Result<bool> {
        if let Some(option) = self.given().into_iter().chain(prefixes(common)).next() {
            bail!("{option} is none of --phase collect: the file of --state says what was published");
        }
        let state = State::read(path)?;
        if state.plan.mqtt != common.mqtt {
            let mqtt = state.plan.mqtt.to_possible_value().expect("no version is hidden");
            bail!("--state {}: it is of --mqtt {}", path.display(), mqtt.get_name());
        }
        let mut common = common.clone();
        common.client_prefix = Some(state.plan.client_prefix.clone());
        common.topic_prefix = Some(state.plan.topic_prefix.clone());
        let mut run = Run::new("offline", &common, state.plan.subscribers)?;
        run.stamper = state.stamper()?;
        let qos = state.plan.qos();
        let mut returning = collect(&mut run, state)?;
        let disconnected = std::mem::take(&mut returning.disconnected);
        returning.violations.tell(qos, common.strict, &mut run.report);
        run.report.check(disconnected.into_check("disconnected", "connections lost", false));
        run.finish()
    }

    /// The options about publishing that are given.
    fn given(&self) -> Vec<&'static str> {
        let options = [
            ("--shape", self.shape.is_some()),
            ("--subscribers", self.subscribers.is_some()),
            ("--publishers", self.publishers.is_some()),
            ("--qos", self.qos.is_some()),
            ("--payload", self.payload.is_some()),
            ("--window", self.window.is_some()),
            ("--messages", self.messages.is_some()),
            ("--duration", self.duration.is_some()),
            ("--disk", self.disk.is_some()),
        ];
        options.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }

    /// A run that publishes, and what it publishes.
    fn prepare(&self, common: &Common) -> Result<(Run, Plan)> {
        if self.qos == Some(QoS::AtMostOnce) {
            bail!("--qos is 1 or 2 here: nothing is promised at QoS 0");
        }
        if self.duration.is_some_and(|duration| duration.is_zero()) {
            bail!("--duration is more than 0");
        }
        let [publishers, subscribers] = [self.publishers, self.subscribers].map(|count| count.unwrap_or(100));
        let run = Run::new("offline", common, publishers + subscribers)?;
        let plan = Plan {
            shape: self.shape.unwrap_or(Shape::Pairs),
            publishers,
            subscribers,
            qos: self.qos.unwrap_or(QoS::AtLeastOnce).as_u8(),
            payload_bytes: self.payload.unwrap_or(100),
            mqtt: common.mqtt,
            client_prefix: run.client_prefix.clone(),
            topic_prefix: run.topic_prefix.clone(),
        };
        Ok((run, plan))
    }

    /// What the acknowledgements are compared with, per second.
    fn measure_disk(&self, run: &mut Run, plan: &Plan) -> Result<Option<f64>> {
        let Some(directory) = &self.disk else { return Ok(None) };
        let from = run.now();
        let bytes = plan.topic_of(0).len() + plan.payload_bytes;
        let rate = appends_per_second(directory, bytes, DISK).context("--disk")?;
        run.end_phase("disk", from);
        Ok(Some(rate))
    }

    /// How many messages there are in all.
    fn messages(&self, plan: &Plan) -> u64 {
        let queues = if plan.shape == Shape::Pairs { plan.subscribers } else { 1 };
        self.messages.unwrap_or(QUEUE * queues) as u64
    }

    /// Lets the subscribers leave, and publishes to them.
    fn publish(&self, run: &mut Run, plan: &Plan) -> Result<Publishing> {
        let disk = self.measure_disk(run, plan)?;
        let from = run.now();
        run.progress.phase("leaving", plan.subscribers as u64);
        let mut visit = Visit::new(plan, Purpose::Stay, run);
        run.connect_patiently(&mut visit, |it| &it.ramp, Visit::is_over, |it| &it.refused)?;
        let mut publishing = Publishing::new(plan, self.messages(plan), self.window.unwrap_or(10), run);
        run.connect_patiently(&mut publishing, |it| &it.ramp, |_| true, |it| &it.disconnected)?;
        let deadline = run.now() + PARTING;
        run.drive(&mut publishing, deadline, |_| false)?;
        run.end_phase("leave", from);
        let spent = self.measure(run, &mut publishing)?;
        self.tell(run, &publishing, spent, disk);
        Ok(publishing)
    }

    fn measure(&self, run: &mut Run, publishing: &mut Publishing) -> Result<Spent> {
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("publishing", publishing.wanted);
        let end = from + self.duration.unwrap_or(Duration::from_secs(30));
        publishing.start(&mut run.fleet);
        while run.now() < end && run.now() - publishing.last.max(from) < run.options.patience {
            let deadline = end.min(run.now() + STEP);
            if run.drive(publishing, deadline, Publishing::is_done)? {
                break;
            }
            run.progress.at(run.now(), publishing.acknowledged, String::new);
        }
        publishing.stop();
        run.drive_patiently(publishing, |it| it.acknowledged, Publishing::is_done)?;
        let spent = spent_until(publishing.last, run, cost);
        run.end_phase_at("publish", from, from + spent.time);
        Ok(spent)
    }

    fn tell(&self, run: &mut Run, publishing: &Publishing, spent: Spent, disk: Option<f64>) {
        let count = publishing.acknowledged;
        let rate = per_second(count, spent.time);
        run.report.higher("acknowledged_per_second", "messages acknowledged", rate, "/s");
        if let Some(disk) = disk {
            let title = "messages acknowledged, times the rate of one append and fdatasync per message";
            run.report.higher("acknowledged_times_disk", title, rate / disk, "");
            let title = "appends of one message with fdatasync, by one thread";
            run.report.figure("disk_appends_per_second", title, disk, "/s");
        }
        run.tell_cost("message acknowledged", count, spent);
        let name = if publishing.is_qos_2() { "PUBCOMP" } else { "PUBACK" };
        let latency = &publishing.latency;
        run.report.latency(Latency::new("acknowledgement", name, "Latency of acknowledgements", latency));
        run.report.figure("published", "messages published", publishing.published as f64, "");
        run.report.figure("acknowledged", "of these acknowledged", count as f64, "");
        let (published, wanted) = (publishing.published, publishing.wanted);
        if published < wanted && self.messages.is_some() {
            run.report.warnings.push(format!("{published} of {wanted} messages were published in the time there was"));
        }
        warn_if_busy(run, spent);
    }
}

/// Ends the Sessions when publishing is interrupted, and says so; fails with `error` otherwise.
fn give_up<T>(error: Error, run: &mut Run, plan: &Plan) -> Result<T> {
    if !run.fleet.is_interrupted() {
        return Err(error);
    }
    run.fleet.ignore_interrupt();
    let mut visit = Visit::new(plan, Purpose::Leave, run);
    let deadline = run.now() + CLEARING;
    match run.drive(&mut visit, deadline, |it| it.ramp.is_done()) {
        Ok(true) if visit.is_over() => bail!("{error}; the Sessions of this run are ended"),
        _ => bail!("{error}; Sessions may be left behind for {}0 and those after it", plan.client_prefix),
    }
}

/// What was published, and what of it is owed to the subscribers.
fn state(run: &Run, plan: Plan, publishing: &mut Publishing) -> State {
    let streams = publishing.finish();
    State::new(plan, &run.stamper, run.options.topic_prefix.is_none(), streams)
}

/// Lets the subscribers come back for what `state` says, and ends their Sessions.
fn collect(run: &mut Run, state: State) -> Result<Returning> {
    let plan = state.plan.clone();
    let (from, cost) = (run.now(), run.cost()?);
    run.progress.phase("returning", state.acknowledged());
    let mut returning = Returning::new(state, run);
    run.connect_patiently(&mut returning, |it| &it.ramp, |_| true, |it| &it.ramp.failed)?;
    run.drive_patiently(&mut returning, |it| it.delivered, |it| it.owed() == 0)?;
    let spent = spent_until(returning.last, run, cost);
    run.end_phase_at("return", from, from + spent.time);
    let deadline = run.now() + LINGER;
    run.drive(&mut returning, deadline, |_| false)?;
    returning.finish();

    let (count, in_doubt) = (returning.delivered, returning.delivered_in_doubt);
    run.report.higher("deliveries_per_second", "deliveries on return", per_second(count, spent.time), "/s");
    run.tell_broker_cost("delivery", count, spent);
    run.report.figure("delivered", "messages delivered on return", count as f64, "");
    run.report.figure("delivered_in_doubt", "of these without an acknowledgement", in_doubt as f64, "");
    warn_if_busy(run, spent);
    let absent = std::mem::take(&mut returning.absent);
    run.report.check(absent.into_check("sessions_absent", "sessions not present", false));
    end_sessions(run, &plan)?;
    Ok(returning)
}

/// Lets the broker forget the subscribers.
fn end_sessions(run: &mut Run, plan: &Plan) -> Result<()> {
    let from = run.now();
    run.progress.phase("removing", plan.subscribers as u64);
    run.fleet.part();
    let mut visit = Visit::new(plan, Purpose::Leave, run);
    let is_done = |it: &Visit| it.ramp.is_done();
    if !run.drive_patiently(&mut visit, |it| it.ramp.accepted as u64, is_done)? {
        visit.ramp.give_up();
    }
    let failed = std::mem::take(&mut visit.ramp.failed);
    run.report.check(failed.into_check("not_removed", "sessions that could not be removed", false));
    run.end_phase("remove", from);
    Ok(())
}

/// What was spent since `from`, the time up to `last` only, so that waiting for what never came is none; all of it if
/// nothing came at all.
fn spent_until(last: Time, run: &Run, from: Cost) -> Spent {
    let spent = run.quick_cost().since(from);
    if last > from.at() { Spent { time: last - from.at(), ..spent } } else { spent }
}

/// Warns if the generator was busy for long enough to tell: a return can be over in milliseconds, and looking after the
/// broker's processes takes one or two, too.
fn warn_if_busy(run: &mut Run, spent: Spent) {
    const BRIEF: Duration = Duration::from_millis(100);
    if spent.time >= BRIEF {
        run.warn_if_busy(spent);
    }
}

/// The options about names that are given.
fn prefixes(common: &Common) -> impl Iterator<Item = &'static str> {
    let client = common.client_prefix.is_some().then_some("--client-prefix");
    let topic = common.topic_prefix.is_some().then_some("--topic-prefix");
    client.into_iter().chain(topic)
}

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}
