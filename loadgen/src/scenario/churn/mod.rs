//! `churn`: clients come and go all the time: what a cycle costs, and what the others feel of it.

pub mod cycles;
pub mod wills;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use willowmq::codec::QoS;

use crate::engine::{Driver, Event, Fleet, Index, Time};
use crate::options::{self, Common, Identity};
use crate::ramp::Ramp;
use crate::report::Latency;
use crate::run::Run;
use crate::stamp::Stamper;
use crate::traffic::{self, Pace, Shape, Traffic};
use cycles::Cycles;

/// How long it is watched whether anything comes that should not.
const LINGER: Duration = Duration::from_millis(500);

/// Clients connect, subscribe, receive a message, leave, and come back, over and over
#[derive(Args, Clone, Debug)]
pub struct Churn {
    /// Clients that take turns
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = options::at_least_one)]
    pub clients: usize,
    /// Cycles begun per second, on a schedule that waits for nobody as long as a client is away
    #[arg(long, value_name = "RATE", default_value = "500", value_parser = options::rate)]
    pub rate: f64,
    /// How long clients come and go
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = options::duration)]
    pub duration: Duration,
    /// How long a client stays after its message
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = options::duration)]
    pub stay: Duration,
    /// Size of a payload, wills included
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub payload: usize,
    /// Give every client a will, and have a watcher hear them
    #[arg(long)]
    pub will: bool,
    /// Share of the cycles that end with DISCONNECT; the other clients vanish
    #[arg(long, value_name = "FRACTION", default_value = "50%", value_parser = options::fraction)]
    pub clean_end: f64,
    /// Ordinary traffic beside it: messages per second in all; the broker's cost per cycle includes it
    #[arg(long, value_name = "RATE", value_parser = options::rate)]
    pub background: Option<f64>,
    /// Level of the ordinary traffic
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = options::qos)]
    pub background_qos: QoS,
    /// Pairs of publisher and subscriber that the ordinary traffic is spread over
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = options::at_least_one)]
    pub background_pairs: usize,
    /// How long ordinary traffic runs alone before
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = options::duration)]
    pub before: Duration,
}

impl Churn {
    fn cycles(&self, run: &Run) -> cycles::Plan {
        cycles::Plan {
            clients: self.clients,
            rate: self.rate,
            has_wills: self.will,
            clean_end: self.clean_end,
            stay: self.stay,
            payload_bytes: self.payload,
            patience: run.options.patience,
            topic_prefix: run.topic_prefix.clone(),
            client_prefix: run.client_prefix.clone(),
        }
    }

    fn traffic(&self, run: &Run) -> Option<traffic::Plan> {
        Some(traffic::Plan {
            shape: Shape::Pairs,
            publishers: self.background_pairs,
            subscribers: self.background_pairs,
            qos: self.background_qos,
            payload_bytes: self.payload,
            pace: Pace::Rate(self.background?),
            topic_prefix: format!("{}/background", run.topic_prefix),
            client_prefix: format!("{}background-", run.client_prefix),
        })
    }

    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        let background = self.background.map_or(0, |_| 2 * self.background_pairs);
        let mut run = Run::new("churn", common, self.clients + usize::from(self.will) + background)?;
        let mut session = Session::new(self, &run);
        session.connect(&mut run)?;
        self.wait_before(&mut run, &mut session)?;
        self.measure(&mut run, &mut session)?;
        session.settle(&mut run)?;
        self.tell(&mut run, session);
        run.finish()
    }

    /// Lets the ordinary traffic run alone, for comparison.
    fn wait_before(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        let Some(traffic) = &mut session.traffic else { return Ok(()) };
        let from = run.now();
        traffic.start(from);
        session.go_on(run, "before", self.before)?;
        let latency = session.traffic.as_mut().map(|traffic| traffic.latency.end_phase(run.now()));
        session.before = latency.map(|latency| {
            Latency::new("background_before", "ordinary traffic before", "Latency of ordinary traffic", &latency)
        });
        run.end_phase("before", from);
        Ok(())
    }

    fn measure(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        session.memory_before = run.broker_memory()?;
        let (from, cost) = (run.now(), run.cost()?);
        session.cycles.start(from);
        session.go_on(run, "churning", self.duration)?;
        let spent = run.spent_since(cost)?;
        let (completed, backlog) = (session.cycles.completed, session.cycles.backlog(run.now()));
        run.end_phase("churn", from);
        run.report.higher("cycles_per_second", "cycles", completed as f64 / spent.time.as_secs_f64(), "/s");
        run.tell_cost("cycle", completed, spent);
        let connack = session.cycles.connack.end_phase(run.now());
        run.report.latency(Latency::new("connack", "CONNACK", "Latency of the cycles", &connack));
        let title = "cycle, from when it was due to its message";
        run.report.latency(Latency::new("cycle", title, "Latency of the cycles", &session.cycles.latency));
        if let Some(traffic) = &mut session.traffic {
            let latency = traffic.latency.end_phase(run.now());
            let title = "ordinary traffic beside the churn";
            run.report.latency(Latency::new("background", title, "Latency of ordinary traffic", &latency));
        }
        if backlog as f64 > self.rate * 0.1 {
            run.report.warnings.push(format!(
                "at the end {backlog} cycles were due and had not begun: with {} clients and --stay {:?} the broker or \
                 the generator could not go through {} cycles per second",
                self.clients, self.stay, self.rate
            ));
        }
        Ok(())
    }

    fn tell(&self, run: &mut Run, session: Session) {
        let now = run.now();
        let Session { mut cycles, traffic, before, memory_before, memory_after, .. } = session;
        let report = &mut run.report;
        if let Some((after, before)) = memory_after.zip(memory_before) {
            let growth = after as f64 - before as f64;
            report.lower("broker_memory_growth_bytes", "broker memory that is not given back", growth, "B");
        }
        if self.will {
            report.latency(Latency::new(
                "will",
                "will, from when its client vanished",
                "Latency of wills",
                &cycles.wills.latency,
            ));
            report.figure("wills_heard", "wills heard", cycles.wills.heard as f64, "");
        }
        before.into_iter().for_each(|latency| report.latency(latency));
        report.figure("cycles", "cycles completed", cycles.completed as f64, "");
        report.series.extend(cycles.connack.series("connack", "CONNACK", "Latency of CONNACK over time"));
        let online = std::mem::replace(&mut cycles.online, crate::gauge::Gauge::new(now, 0.0));
        report.series.push(online.series(now, "connected", "clients that come and go", "Connected clients", ""));
        cycles.tell(report);
        if let Some(traffic) = traffic {
            let chart = "Latency of ordinary traffic over time";
            report.series.extend(traffic.latency.series("background", "ordinary traffic", chart));
            report.check(traffic.disconnected.into_check(
                "background_disconnected",
                "connections of ordinary traffic lost",
                false,
            ));
            traffic.violations.tell_as("background", self.background_qos, run.options.strict, report);
        }
    }
}

/// Those who come and go, and the ordinary traffic.
struct Session {
    cycles: Cycles,
    traffic: Option<Traffic>,
    ramp: Ramp,
    identity: Identity,
    stamper: Stamper,
    before: Option<Latency>,
    memory_before: Option<u64>,
    memory_after: Option<u64>,
}

impl Session {
    fn new(churn: &Churn, run: &Run) -> Self {
        let traffic = churn.traffic(run).map(|plan| Traffic::new(plan, 0, run.now()));
        let first = traffic.as_ref().map_or(0, |traffic| traffic.range().end);
        let (identity, stamper) = (run.identity.clone(), run.stamper.clone());
        let cycles = Cycles::new(churn.cycles(run), first, identity.clone(), stamper.clone(), run.now());
        let mut ramp = run.ramp(cycles.range().end);
        ramp.extend((0..first).chain(cycles.watcher()));
        Self { cycles, traffic, ramp, identity, stamper, before: None, memory_before: None, memory_after: None }
    }

    fn is_subscribed(&self) -> bool {
        self.cycles.is_watched() && self.traffic.as_ref().is_none_or(Traffic::is_subscribed)
    }

    /// Connects those who stay: the ordinary traffic and the watcher.
    fn connect(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        run.connect_patiently(
            self,
            |it| &it.ramp,
            Self::is_subscribed,
            |it| match &it.traffic {
                Some(traffic) if traffic.disconnected.count > 0 => &traffic.disconnected,
                _ => it.cycles.disconnected(),
            },
        )?;
        run.end_phase("connect", from);
        Ok(())
    }

    fn go_on(&mut self, run: &mut Run, phase: &str, duration: Duration) -> Result<()> {
        let begin = run.now();
        run.progress.phase(phase, duration.as_millis() as u64);
        while run.now() < begin + duration {
            let deadline = (run.now() + Duration::from_millis(200)).min(begin + duration);
            run.drive(self, deadline, |_| false)?;
            let (now, completed) = (run.now(), self.cycles.completed);
            run.progress.at(now, (now - begin).as_millis() as u64, || format!("{completed} cycles"));
        }
        Ok(())
    }

    /// Waits until everybody is gone and everything has arrived, and a little longer.
    fn settle(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.cycles.stop();
        self.traffic.iter_mut().for_each(Traffic::stop);
        let is_settled = |it: &Self| it.cycles.is_settled() && it.traffic.as_ref().is_none_or(Traffic::is_settled);
        let progress = |it: &Self| {
            it.cycles.completed + it.cycles.wills.heard + it.traffic.as_ref().map_or(0, |traffic| traffic.delivered)
        };
        run.drive_patiently(self, progress, is_settled)?;
        let deadline = run.now() + LINGER;
        run.drive(self, deadline, |_| false)?;
        self.traffic.iter_mut().for_each(|traffic| traffic.settle(&run.fleet));
        self.memory_after = run.broker_memory()?;
        run.end_phase("settle", from);
        Ok(())
    }
}

impl Driver for Session {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        match &mut self.traffic {
            Some(traffic) if traffic.range().contains(&client) => {
                traffic.on_event(fleet, client, at, &event, &self.stamper);
            }
            _ => self.cycles.on_event(fleet, client, at, event),
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        let Self { cycles, traffic, ramp, identity, stamper, .. } = self;
        while let Some(client) = ramp.next_client(now) {
            match traffic {
                Some(traffic) if traffic.range().contains(&client) => traffic.open(fleet, client, identity),
                _ => cycles.open_watcher(fleet, client),
            }
        }
        let traffic_next = traffic.as_mut().map_or(Time::NEVER, |traffic| traffic.on_time(fleet, now, stamper));
        ramp.next_time().min(traffic_next).min(cycles.on_time(fleet, now))
    }
}
