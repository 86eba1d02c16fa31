//! `soak`: everything at once for hours, at a rate that the broker bears easily, with every promise checked throughout.

mod growth;
mod keeper;
mod session;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use willowmq::codec::QoS;

use crate::engine::Time;
use crate::gauge::Gauge;
use crate::ledger::{Tally, Violations};
use crate::options::{self, Common};
use crate::report::{Latency, Report};
use crate::run::Run;
use growth::Growth;
use session::{Kind, Session};

/// How often the broker's memory is looked at, and at most how often it is said how things stand.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

/// Everything at once for hours, with every promise checked throughout; Ctrl-C ends it early, with its report
#[derive(Args, Clone, Debug)]
pub struct Soak {
    /// How long it goes on
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = options::duration)]
    pub duration: Duration,
    /// Messages published per second, over all kinds of traffic: pairs at QoS 0, 1 and 2, fan-in, fan-out, shared
    #[arg(long, value_name = "RATE", default_value = "600", value_parser = options::rate)]
    pub rate: f64,
    /// Publishers of each kind of traffic
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = options::at_least_one)]
    pub publishers: usize,
    /// Size of a payload
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub payload: usize,
    /// Clients with wills that come and go
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::at_least_one)]
    pub churn_clients: usize,
    /// How many of them come per second
    #[arg(long, value_name = "RATE", default_value = "10", value_parser = options::rate)]
    pub churn_rate: f64,
    /// How long they stay
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = options::duration)]
    pub stay: Duration,
    /// Share of them that go with DISCONNECT; the others vanish
    #[arg(long, value_name = "FRACTION", default_value = "50%", value_parser = options::fraction)]
    pub clean_end: f64,
    /// Topics at which a message is kept
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::at_least_one)]
    pub topics: usize,
    /// Kept messages replaced per second
    #[arg(long, value_name = "RATE", default_value = "10", value_parser = options::rate)]
    pub update_rate: f64,
    /// From one look at the kept messages to the next
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = options::duration)]
    pub look_interval: Duration,
    /// From one line about the state to the next, and from one search for overdue messages to the next
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = options::duration)]
    pub interval: Duration,
    /// How long the broker's memory may settle before its growth is measured
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = options::duration)]
    pub warmup: Duration,
    /// Fail if the broker's memory grows faster than this after the warm-up, in bytes per hour
    #[arg(long, value_name = "BYTES", value_parser = options::positive, requires = "pid")]
    pub growth_max: Option<f64>,
    /// End at once when a check fails
    #[arg(long)]
    pub fail_fast: bool,
}

impl Soak {
    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        let mut run = Run::new("soak", common, session::clients(self))?;
        let mut session = Session::new(self, &run);
        session.start(&mut run)?;
        run.fleet.ignore_interrupt(); // From here on there is something to report.
        let mut record = Record::new(run.now());
        self.go_on(&mut run, &mut session, &mut record)?;
        session.settle(&mut run)?;
        self.tell(&mut run, session, record);
        run.finish()
    }

    fn go_on(&self, run: &mut Run, session: &mut Session, record: &mut Record) -> Result<()> {
        let cost = run.cost()?;
        run.progress.phase("soaking", self.duration.as_secs());
        let reason = self.watch(run, session, record)?;
        let now = run.now();
        record.time = now - record.begin;
        if let Some(reason) = reason {
            run.report.warnings.push(format!("the soak ended after {:.0?}: {reason}", record.time));
        }
        record.delivered = session.delivered();
        record.spent = run.spent_since(cost).ok();
        run.end_phase("soak", record.begin);
        Ok(())
    }

    /// Lets it go on to its end; says why, if that comes early.
    fn watch(&self, run: &mut Run, session: &mut Session, record: &mut Record) -> Result<Option<&'static str>> {
        let (end, warm) = (record.begin + self.duration, record.begin + self.warmup);
        let interval = self.interval.max(MEMORY_INTERVAL);
        let mut next_stock = record.begin + interval;
        while run.now() < end {
            let step = end.min(next_stock).min(run.now() + MEMORY_INTERVAL);
            let mut reason = session.go_on(run, step)?;
            record.see(run, warm)?;
            if run.has_broker_died() {
                reason = reason.or(Some("the broker's process ended"));
            }
            if run.now() >= next_stock {
                next_stock = next_stock + interval;
                self.take_stock(run, session, record);
                reason = reason.or_else(|| session.reason_to_end(&run.fleet));
            }
            if reason.is_some() {
                return Ok(reason);
            }
            let (now, failures) = (run.now(), session.failures());
            run.progress.at(now, (now - record.begin).as_secs(), || format!("{failures} violations"));
        }
        Ok(None)
    }

    /// Looks for what is overdue, and says how things stand where no progress bar does.
    fn take_stock(&self, run: &mut Run, session: &mut Session, record: &mut Record) {
        let now = run.now();
        let before = Time(now.0.saturating_sub(run.options.patience.as_nanos() as u64));
        session.take_stock(now, before);
        record.violations.set(now, session.failures() as f64);
        if !run.options.quiet && run.progress.is_hidden() {
            eprintln!("{}", line(now - record.begin, session, record.memory));
        }
    }

    fn tell(&self, run: &mut Run, session: Session, record: Record) {
        let now = run.now();
        let mut violations = record.violations;
        violations.set(now, session.failures() as f64);
        let Session { kinds, mut cycles, keeper, overdue, .. } = session;
        let seconds = record.time.as_secs_f64();
        run.report.higher("deliveries_per_second", "deliveries", record.delivered as f64 / seconds, "/s");
        self.tell_growth(&record.growth, run);
        if let Some(spent) = record.spent {
            run.tell_cost("delivery", record.delivered, spent);
        }
        let report = &mut run.report;
        report.figure("soaked_seconds", "time", seconds, "s");
        report.figure("cycles", "clients that came and went", cycles.completed as f64, "");
        report.figure("wills_heard", "wills heard", cycles.wills.heard as f64, "");
        report.figure("retained_updates", "kept messages replaced", keeper.updates as f64, "");
        report.figure("retained_looks", "looks at kept messages", keeper.looks as f64, "");
        report.series.push(violations.series(now, "violations", "violations", "Violations so far", ""));
        let online = std::mem::replace(&mut cycles.online, Gauge::new(now, 0.0));
        report.series.push(online.series(now, "connected", "clients that come and go", "Connected clients", ""));
        let connack = cycles.connack.end_phase(now);
        tell_kinds(kinds, run.options.strict, now, report);
        report.latency(Latency::new("connack", "CONNACK", "Latency", &connack));
        report.latency(Latency::new("will", "will, from when its client vanished", "Latency", &cycles.wills.latency));
        report.check(overdue.into_check("overdue", "messages later than the patience", false));
        cycles.tell(report);
        keeper.tell(report);
    }

    fn tell_growth(&self, growth: &Growth, run: &mut Run) {
        let Some(slope) = growth.bytes_per_hour() else {
            if run.observes_broker() {
                run.report.warnings.push("it ended before the warm-up: how memory grows is not known".into());
            }
            return;
        };
        let title = "growth of broker memory after the warm-up, in an hour";
        run.report.lower("broker_memory_growth_bytes_per_hour", title, slope, "B");
        if let Some(maximum) = self.growth_max {
            let mut tally = Tally::default();
            if slope > maximum {
                tally.add(|| format!("{slope:.0} bytes per hour"));
            }
            run.report.check(tally.into_check("memory_growth", "broker memory grows too fast", false));
        }
    }
}

/// The checks of the traffic, at QoS 0 and above it, and the latencies of each kind.
fn tell_kinds(kinds: Vec<Kind>, is_strict: bool, now: Time, report: &mut Report) {
    let mut disconnected = Tally::default();
    let (mut at_qos_0, mut above) = (Violations::default(), Violations::default());
    for Kind { name, qos, mut traffic } in kinds {
        let latency = traffic.latency.end_phase(now);
        let title = format!("delivery, {}", name.replace('_', " "));
        report.latency(Latency::new(&format!("delivery_{name}"), &title, "Latency", &latency));
        let series = traffic.latency.series(name, &name.replace('_', " "), "Latency over time, 99 %");
        report.series.extend(series.into_iter().filter(|series| series.name.ends_with("_p99")));
        disconnected.absorb(traffic.disconnected);
        if qos == QoS::AtMostOnce { &mut at_qos_0 } else { &mut above }.absorb(traffic.violations);
    }
    above.tell(QoS::AtLeastOnce, is_strict, report);
    at_qos_0.tell_as("qos0", QoS::AtMostOnce, is_strict, report);
    report.check(disconnected.into_check("disconnected", "connections of traffic lost", false));
}

/// What is noted in the course of it.
struct Record {
    begin: Time,
    growth: Growth,
    /// Memory of the broker when it was last looked at.
    memory: Option<u64>,
    violations: Gauge,
    time: Duration,
    delivered: u64,
    spent: Option<crate::run::Spent>,
}

impl Record {
    fn new(now: Time) -> Self {
        Self {
            begin: now,
            growth: Growth::default(),
            memory: None,
            violations: Gauge::new(now, 0.0),
            time: Duration::ZERO,
            delivered: 0,
            spent: None,
        }
    }

    /// Looks at the broker's memory.
    fn see(&mut self, run: &Run, warm: Time) -> Result<()> {
        self.memory = run.broker_memory()?;
        if let Some(bytes) = self.memory.filter(|_| run.now() >= warm) {
            self.growth.see(run.now().as_secs_f64(), bytes as f64);
        }
        Ok(())
    }
}

/// How things stand after `time`, in one line.
fn line(time: Duration, session: &Session, memory: Option<u64>) -> String {
    let seconds = time.as_secs();
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let memory = memory.map_or(String::new(), |bytes| format!(", broker {:.1} MiB", bytes as f64 / f64::from(1 << 20)));
    format!(
        "{clock}  {} violations, {} deliveries, {} cycles, {} wills, {} looks{memory}",
        session.failures(),
        session.delivered(),
        session.cycles.completed,
        session.cycles.wills.heard,
        session.keeper.looks
    )
}
