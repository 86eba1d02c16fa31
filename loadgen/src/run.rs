//! What every run has: the fleet, the names, the measurements, and the report they end in.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::engine::{Clock, Driver, Fleet, Time};
use crate::kernel::Drops;
use crate::ledger::Tally;
use crate::options::{Common, Identity};
use crate::process::{Processes, Sampler, Usage, own_cpu};
use crate::progress::Progress;
use crate::ramp::Ramp;
use crate::report::{Group, Phase, Report, Series, print_summary, write_page};
use crate::stamp::Stamper;

/// Above this share of a core, the generator may be what limits the result.
const BUSY: f64 = 0.95;

/// What every run has.
pub struct Run {
    /// The command line.
    pub options: Common,
    /// Who the clients say they are.
    pub identity: Identity,
    /// The clients.
    pub fleet: Fleet,
    /// Payloads.
    pub stamper: Stamper,
    /// Beginning of every Client Identifier.
    pub client_prefix: String,
    /// First levels of every topic.
    pub topic_prefix: String,
    /// What is shown meanwhile.
    pub progress: Progress,
    /// What is found.
    pub report: Report,
    processes: Option<Processes>,
    drops: Drops,
    sampler: Option<Sampler>,
}

/// The cost of everything up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    at: Time,
    broker: Option<Usage>,
    generator: Duration,
}

/// What lies between two [`Cost`]s.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// How long it took.
    pub time: Duration,
    /// CPU time of the broker, if it is observed.
    pub broker: Option<Duration>,
    /// CPU time of this process.
    pub generator: Duration,
}

impl Cost {
    /// When it had been spent.
    pub fn at(&self) -> Time {
        self.at
    }

    /// What was spent since `from`.
    pub fn since(&self, from: Self) -> Spent {
        Spent {
            time: self.at - from.at,
            broker: self.broker.zip(from.broker).map(|(to, from)| to.cpu.saturating_sub(from.cpu)),
            generator: self.generator.saturating_sub(from.generator),
        }
    }
}

impl Run {
    /// Prepares a run of `scenario` with `clients`.
    ///
    /// # Errors
    ///
    /// When an option makes no sense, or the machine does not allow that many clients.
    pub fn new(scenario: &str, options: &Common, clients: usize) -> Result<Self> {
        pin_to(&options.cpu)?;
        let clock = Clock::start();
        let stamper = Stamper::random();
        // Nobody else knows topics with a random name.
        let stamper = if options.topic_prefix.is_none() { stamper.alone() } else { stamper };
        options.check()?;
        let processes =
            if options.pid.is_empty() { None } else { Some(Processes::find(&options.pid).context("--pid")?) };
        let sampler = processes.clone().map(|processes| Sampler::start(processes, clock));
        let name = stamper.key() & 0xFF_FFFF;
        Ok(Self {
            identity: options.identity()?,
            fleet: Fleet::new(clients, options.route()?, clock)?,
            client_prefix: options.client_prefix.clone().unwrap_or_else(|| format!("loadgen-{name:06x}-")),
            topic_prefix: options.topic_prefix.clone().unwrap_or_else(|| format!("loadgen/{name:06x}")),
            progress: Progress::new(options.quiet),
            report: Report::new(scenario, options.label.clone().unwrap_or_else(|| options.broker.clone())),
            options: options.clone(),
            stamper,
            processes,
            drops: Drops::read(),
            sampler,
        })
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.fleet.clock().now()
    }

    /// Whether the broker's processes are observed.
    pub fn observes_broker(&self) -> bool {
        self.processes.is_some()
    }

    /// A ramp as the command line wants it.
    pub fn ramp(&self, clients: usize) -> Ramp {
        Ramp::new(clients, self.options.connect_concurrency, self.options.connect_rate)
    }

    /// Runs the fleet until `done`; at most up to `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Fleet::run`].
    pub fn drive<D: Driver>(&mut self, driver: &mut D, deadline: Time, done: impl Fn(&D) -> bool) -> Result<bool> {
        let ended = self.fleet.run(driver, deadline, done);
        if ended.is_err() && self.fleet.is_interrupted() {
            self.fleet.part(); // Nobody's will is to tell of an interrupt.
        }
        ended
    }

    /// Runs the fleet until `done`, or until `progress` has not changed for as long as the patience lasts.
    ///
    /// # Errors
    ///
    /// As [`Fleet::run`].
    pub fn drive_patiently<D: Driver>(
        &mut self,
        driver: &mut D,
        progress: impl Fn(&D) -> u64,
        done: impl Fn(&D) -> bool,
    ) -> Result<bool> {
        loop {
            let before = progress(driver);
            let deadline = self.now() + self.options.patience;
            if self.drive(driver, deadline, &done)? {
                return Ok(true);
            }
            if progress(driver) == before {
                return Ok(false);
            }
        }
    }

    /// Opens the connections of a ramp, and waits until everybody `is_subscribed`.
    ///
    /// # Errors
    ///
    /// When a connection or subscription is refused, as the ramp or `refused` tells, or not answered in time.
    pub fn connect_patiently<D: Driver>(
        &mut self,
        driver: &mut D,
        ramp: impl Fn(&D) -> &Ramp,
        is_subscribed: impl Fn(&D) -> bool,
        refused: impl Fn(&D) -> &Tally,
    ) -> Result<()> {
        // One refusal is enough to know that the run cannot take place; the others are waited for as examples.
        let has_failed = |it: &D| ramp(it).failed.count > 0 || refused(it).count > 0;
        let is_done = |it: &D| ramp(it).is_done() && (is_subscribed(it) || has_failed(it));
        let is_answered = self.drive_patiently(driver, |it| ramp(it).accepted as u64, is_done)?;
        for tally in [&ramp(driver).failed, refused(driver)] {
            if tally.count > 0 {
                bail!("{} could not connect and subscribe: {}", clients(tally.count), tally.examples.join("; "));
            }
        }
        if is_answered { Ok(()) } else { bail!(self.no_answer()) }
    }

    /// Says that the patience is over.
    pub fn no_answer(&self) -> String {
        format!("the broker did not answer every CONNECT and SUBSCRIBE for {:?} (--patience)", self.options.patience)
    }

    /// What has been spent so far; without the broker if its process has ended.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn cost(&self) -> Result<Cost> {
        self.processes.iter().for_each(Processes::look_for_descendants);
        Ok(self.quick_cost())
    }

    /// What has been spent so far by processes that are known: for looks that must not take long.
    pub fn quick_cost(&self) -> Cost {
        Cost { at: self.now(), broker: self.processes.as_ref().and_then(Processes::usage), generator: own_cpu() }
    }

    /// Whether the broker's process, which is observed, has ended.
    pub fn has_broker_died(&self) -> bool {
        self.processes.as_ref().is_some_and(|processes| processes.usage().is_none())
    }

    /// What was spent since `from`.
    ///
    /// # Errors
    ///
    /// As [`Run::cost`].
    pub fn spent_since(&self, from: Cost) -> Result<Spent> {
        Ok(self.cost()?.since(from))
    }

    /// Resident memory of the broker now, in bytes, if it is observed and lives.
    ///
    /// # Errors
    ///
    /// As [`Run::cost`].
    pub fn broker_memory(&self) -> Result<Option<u64>> {
        Ok(self.cost()?.broker.map(|usage| usage.memory_bytes))
    }

    /// Notes that the phase `name` lasted from `from` until now.
    pub fn end_phase(&mut self, name: &str, from: Time) {
        self.end_phase_at(name, from, self.now());
    }

    /// Notes that the phase `name` lasted from `from` until `to`.
    pub fn end_phase_at(&mut self, name: &str, from: Time, to: Time) {
        self.report.phases.push(Phase { name: name.into(), from_s: from.as_secs_f64(), to_s: to.as_secs_f64() });
    }

    /// Adds what `count` units of work cost in `spent`, each called `unit`, to the report.
    pub fn tell_cost(&mut self, unit: &str, count: u64, spent: Spent) {
        self.tell_broker_cost(unit, count, spent);
        if let Some(broker) = spent.broker {
            let share = broker.as_secs_f64() / spent.time.as_secs_f64() * 100.0;
            self.report.figure("broker_cpu_percent", "broker CPU, of one core", share, "%");
        }
        let each = spent.generator.as_secs_f64() * 1e6 / count.max(1) as f64;
        let (name, title) = (unit.replace(' ', "_"), format!("generator CPU per {unit}"));
        self.report.figure(&format!("generator_cpu_us_per_{name}"), &title, each, "µs");
        let busy = spent.generator.as_secs_f64() / spent.time.as_secs_f64();
        self.report.figure("generator_cpu_percent", "generator CPU, of its one core", busy * 100.0, "%");
    }

    /// Adds what `count` units of work cost the broker alone: for the second and later kinds of work of one run.
    pub fn tell_broker_cost(&mut self, unit: &str, count: u64, spent: Spent) {
        let Some(broker) = spent.broker else { return };
        let each = broker.as_secs_f64() * 1e6 / count.max(1) as f64;
        let (name, title) = (unit.replace(' ', "_"), format!("broker CPU per {unit}"));
        self.report.lower(&format!("broker_cpu_us_per_{name}"), &title, each, "µs");
    }

    /// Warns if the generator had no time to spare in `spent` while the broker did.
    pub fn warn_if_busy(&mut self, spent: Spent) {
        let share = |cpu: Duration| cpu.as_secs_f64() / spent.time.as_secs_f64();
        let broker_has_time = spent.broker.is_none_or(|broker| share(broker) < BUSY);
        if share(spent.generator) >= BUSY && broker_has_time {
            self.report.warnings.push(format!(
                "the generator used {:.0} % of its core: it limited this result, and the broker could do more. Run \
                 several generators, each with its own --client-prefix and --topic-prefix",
                share(spent.generator) * 100.0
            ));
        }
    }

    /// Writes the results to where the command line wants them; says whether the run passed.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn finish(mut self) -> Result<bool> {
        self.progress.finish();
        self.report.duration_s = self.now().as_secs_f64();
        if self.processes.is_some() {
            let mut died = Tally::default();
            died.add_many(u64::from(self.has_broker_died()), || format!("--pid {:?}", self.options.pid));
            self.report.check(died.into_check("broker_died", "the broker's process ended", false));
        }
        self.add_samples();
        if let Some(handshakes) = self.fleet.handshakes() {
            let count = handshakes.full + handshakes.resumed;
            self.report.figure("tls_handshakes", "TLS handshakes", count as f64, "");
            self.report.figure("tls_handshakes_resumed", "those that resumed a session", handshakes.resumed as f64, "");
        }
        if self.fleet.is_local() {
            self.report.warnings.extend(Drops::read().warnings_since(self.drops));
        }
        if let Some(path) = &self.options.json {
            write_json(path, &self.report)?;
        }
        if let Some(path) = &self.options.report {
            let title = format!("{} · {}", self.report.scenario, self.report.label);
            let group = Group { title: String::new(), reports: vec![&self.report] };
            write_page(path, &title, &[group]).with_context(|| format!("--report {}", path.display()))?;
        }
        if !self.options.quiet {
            let is_json_on_stdout = self.options.json.as_deref() == Some(Path::new("-"));
            if is_json_on_stdout {
                print_summary(&mut std::io::stderr().lock(), &self.report)?;
            } else {
                print_summary(&mut std::io::stdout().lock(), &self.report)?;
            }
        }
        Ok(self.report.passed)
    }

    /// The broker's CPU and memory over time.
    fn add_samples(&mut self) {
        let Some(sampler) = self.sampler.take() else { return };
        let samples = sampler.finish();
        let cpu = samples.windows(2).map(|pair| {
            let [(from, before), (to, after)] = [pair[0], pair[1]];
            let share = after.cpu.saturating_sub(before.cpu).as_secs_f64() / (to - from).as_secs_f64().max(1e-9);
            (to.as_secs_f64(), share * 100.0)
        });
        let memory =
            samples.iter().map(|(at, usage)| (at.as_secs_f64(), usage.memory_bytes as f64 / f64::from(1 << 20)));
        self.report.series.push(Series {
            name: "broker_cpu".into(),
            title: "broker CPU".into(),
            chart: "Broker CPU, of one core".into(),
            unit: "%".into(),
            points: cpu.collect(),
        });
        self.report.series.push(Series {
            name: "broker_memory".into(),
            title: "broker memory".into(),
            chart: "Broker memory".into(),
            unit: "MiB".into(),
            points: memory.collect(),
        });
        let peak = samples.iter().map(|(_, usage)| usage.memory_bytes).max().unwrap_or(0);
        self.report.lower("broker_memory_peak_bytes", "broker memory, peak", peak as f64, "B");
    }
}

/// Lets this thread, and those that it starts, run on `cpus` only; on any where there are none.
fn pin_to(cpus: &[u16]) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(usize::from(*cpu)));
    sched_setaffinity(None, &set).with_context(|| format!("--cpu {cpus:?}: this process may not run there"))
}

/// `count` clients, for people.
pub fn clients(count: u64) -> String {
    if count == 1 { "a client".into() } else { format!("{count} clients") }
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    if path == Path::new("-") {
        std::io::stdout().lock().write_all(text.as_bytes()).context("standard output")
    } else {
        std::fs::write(path, text).with_context(|| format!("--json {}", path.display()))
    }
}
