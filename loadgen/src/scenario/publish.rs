//! `publish`: ordinary traffic at full speed or on a schedule.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use willowmq::codec::QoS;

use crate::engine::{Driver, Event, Fleet, Index, Time};
use crate::ledger::Tally;
use crate::options::{self, Common, Identity};
use crate::ramp::Ramp;
use crate::report::{Check, Latency};
use crate::run::Run;
use crate::stamp::Stamper;
use crate::traffic::{Pace, Plan, Shape, Traffic};

/// A closed loop in which nothing has arrived for this long has lost what was on its way.
const STALL: Duration = Duration::from_secs(2);

/// Ordinary traffic at full speed (closed loop) or on a schedule (open loop)
#[derive(Args, Clone, Debug)]
pub struct Publish {
    /// Who receives what
    #[arg(long, value_enum, default_value_t = Shape::Pairs)]
    pub shape: Shape,
    /// Publishers [default: 50 for pairs, fan-in and shared, 1 for fan-out]
    #[arg(long, value_name = "N", value_parser = options::at_least_one)]
    pub publishers: Option<usize>,
    /// Subscribers [default: as many as publishers for pairs, 1 for fan-in, 500 for fan-out, 4 for shared]
    #[arg(long, value_name = "N", value_parser = options::at_least_one)]
    pub subscribers: Option<usize>,
    /// Level of publishes and subscriptions
    #[arg(long, value_name = "QOS", default_value = "0", value_parser = options::qos)]
    pub qos: QoS,
    /// Size of a payload
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub payload: usize,
    /// Open loop: messages per second in all, on a schedule that waits for nobody
    #[arg(long, value_name = "RATE", value_parser = options::rate, conflicts_with = "window")]
    pub rate: Option<f64>,
    /// Closed loop: messages of one publisher that are on their way at once
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::at_least_one)]
    pub window: usize,
    /// How long traffic runs before it is measured
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = options::duration)]
    pub warmup: Duration,
    /// How long it is measured
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = options::duration)]
    pub duration: Duration,
}

impl Publish {
    /// How many publishers and subscribers there are.
    fn counts(&self) -> Result<(usize, usize)> {
        let publishers = self.publishers.unwrap_or(if self.shape == Shape::FanOut { 1 } else { 50 });
        let subscribers = self.subscribers.unwrap_or(match self.shape {
            Shape::Pairs => publishers,
            Shape::FanIn => 1,
            Shape::FanOut => 500,
            Shape::Shared => 4,
        });
        if self.shape == Shape::Pairs && publishers != subscribers {
            bail!("--publishers and --subscribers: pairs have as many of the one as of the other");
        }
        Ok((publishers, subscribers))
    }

    fn plan(&self, publishers: usize, subscribers: usize, run: &Run) -> Plan {
        Plan {
            shape: self.shape,
            publishers,
            subscribers,
            qos: self.qos,
            payload_bytes: self.payload,
            pace: self.rate.map_or(Pace::Window(self.window), Pace::Rate),
            topic_prefix: run.topic_prefix.clone(),
            client_prefix: run.client_prefix.clone(),
        }
    }

    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        if self.duration.is_zero() {
            bail!("--duration is more than 0");
        }
        let (publishers, subscribers) = self.counts()?;
        let mut run = Run::new("publish", common, publishers + subscribers)?;
        let plan = self.plan(publishers, subscribers, &run);
        let mut driver = Session::new(&run, plan);
        driver.connect(&mut run)?;
        self.measure(&mut run, &mut driver)?;
        driver.settle(&mut run)?;
        driver.traffic.violations.tell(self.qos, common.strict, &mut run.report);
        run.finish()
    }

    fn measure(&self, run: &mut Run, driver: &mut Session) -> Result<()> {
        let from = run.now();
        driver.traffic.start(from);
        run.progress.phase("warm-up", self.warmup.as_millis() as u64);
        driver.go_on(run, self.warmup)?;
        driver.traffic.latency.end_phase(run.now());
        run.end_phase("warm-up", from);

        let from = run.now();
        let cost = run.cost()?;
        let delivered = driver.traffic.delivered;
        run.progress.phase("measuring", self.duration.as_millis() as u64);
        driver.go_on(run, self.duration)?;
        let spent = run.spent_since(cost)?;
        let count = driver.traffic.delivered - delivered;
        let latency = driver.traffic.latency.end_phase(run.now());
        let backlog = driver.traffic.backlog();
        run.end_phase("measured", from);

        let rate = count as f64 / spent.time.as_secs_f64();
        run.report.higher("deliveries_per_second", "deliveries", rate, "/s");
        run.tell_cost("delivery", count, spent);
        let title = if self.rate.is_some() { "delivery, from when it was due" } else { "delivery" };
        run.report.latency(Latency::new("delivery", title, "Latency of delivery", &latency));
        match self.rate {
            Some(rate) if backlog as f64 > rate * 0.1 => run.report.warnings.push(format!(
                "at the end {backlog} messages were due and not sent: the broker did not take them at {rate} /s, or the \
                 generator could not send them"
            )),
            Some(_) => {}
            None if count > 0 => run.warn_if_busy(spent),
            None => {} // The generator has not been what stopped it.
        }
        Ok(())
    }
}

/// The traffic, and the connections it takes.
struct Session {
    traffic: Traffic,
    ramp: Ramp,
    identity: Identity,
    stamper: Stamper,
}

impl Session {
    fn new(run: &Run, plan: Plan) -> Self {
        let traffic = Traffic::new(plan, 0, run.now());
        let mut ramp = run.ramp(traffic.range().len());
        ramp.extend(traffic.range());
        Self { traffic, ramp, identity: run.identity.clone(), stamper: run.stamper.clone() }
    }

    fn connect(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        run.progress.phase("connecting", self.traffic.range().len() as u64);
        run.connect_patiently(self, |it| &it.ramp, |it| it.traffic.is_subscribed(), |it| &it.traffic.disconnected)?;
        run.end_phase("connect", from);
        Ok(())
    }

    /// Lets the traffic run for `duration`, or until a connection is lost; a closed loop that stands still goes on without what is lost.
    fn go_on(&mut self, run: &mut Run, duration: Duration) -> Result<()> {
        let begin = run.now();
        let end = begin + duration;
        let mut delivered = self.traffic.delivered;
        while run.now() < end {
            let deadline = end.min(run.now() + STALL);
            run.drive(self, deadline, |it| it.traffic.disconnected.count > 0)?;
            if self.traffic.disconnected.count > 0 {
                return Ok(()); // What follows would not be the traffic that was asked for; a check tells.
            }
            if self.traffic.delivered == delivered && deadline < end {
                let count = self.traffic.write_off();
                if count > 0 {
                    run.report.warnings.push(format!("nothing arrived for {STALL:?}: {count} messages written off"));
                }
            }
            delivered = self.traffic.delivered;
            run.progress.at(run.now(), (run.now() - begin).as_millis() as u64, || format!("{delivered} deliveries"));
        }
        Ok(())
    }

    /// Waits for what is on its way, and counts what does not come.
    fn settle(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.traffic.stop();
        run.drive_patiently(self, |it| it.traffic.delivered, |it| it.traffic.is_settled())?;
        self.traffic.settle(&run.fleet);
        run.end_phase("settle", from);
        run.report.figure("published", "messages published", self.traffic.published as f64, "");
        if self.traffic.not_sent > 0 {
            run.report.figure("not_sent", "messages due and not sent", self.traffic.not_sent as f64, "");
        }
        run.report.figure("delivered", "messages delivered", self.traffic.delivered as f64, "");
        run.report.series.extend(self.traffic.latency.series("delivery", "delivery", "Latency of delivery over time"));
        let disconnected: Tally = std::mem::take(&mut self.traffic.disconnected);
        let check: Check = disconnected.into_check("disconnected", "connections lost", false);
        run.report.check(check);
        Ok(())
    }
}

impl Driver for Session {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        self.traffic.on_event(fleet, client, at, &event, &self.stamper);
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.traffic.open(fleet, client, &self.identity);
        }
        self.ramp.next_time().min(self.traffic.on_time(fleet, now, &self.stamper))
    }
}
