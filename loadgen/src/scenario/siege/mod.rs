//! `siege`: strangers flood a broker with garbage, half-open connections and bad passwords, while good clients have wills
//! and go about their business. What do they feel of it, and is every will heard?

pub mod flood;
mod session;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use willowmq::codec::QoS;

use crate::engine::{Route, Sources, allow_descriptors};
use crate::ledger::Tally;
use crate::options::{self, Common};
use crate::report::Latency;
use crate::run::{Cost, Run};
use crate::traffic::{self, Pace, Shape, Traffic};
use flood::{Flood, Mix, Toll};
use session::Session;

/// How long it is watched whether a will comes that should not.
const LINGER: Duration = Duration::from_millis(500);

/// Strangers flood the broker while clients with wills and ordinary traffic go on; then some of those vanish
#[derive(Args, Clone, Debug)]
pub struct Siege {
    /// Good clients, each with a will
    #[arg(long, value_name = "N", default_value_t = 12_000, value_parser = options::at_least_one)]
    pub clients: usize,
    /// How many of them are cut at the end, by a reset: their wills are due
    #[arg(long, value_name = "FRACTION", default_value = "10%", value_parser = options::fraction)]
    pub fraction: f64,
    /// Size of a payload, wills included
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub payload: usize,
    /// Ordinary traffic: messages per second in all, on a schedule that waits for nobody
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = options::rate)]
    pub background: f64,
    /// Level of the ordinary traffic
    #[arg(long, value_name = "QOS", default_value = "1", value_parser = options::qos)]
    pub background_qos: QoS,
    /// Pairs of publisher and subscriber that the ordinary traffic is spread over
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = options::at_least_one)]
    pub background_pairs: usize,
    /// How long it is quiet before, for comparison
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = options::duration)]
    pub before: Duration,
    /// How long the flood lasts until clients are cut; it goes on until their wills are heard
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = options::duration)]
    pub duration: Duration,
    /// Addresses that the flood comes from
    #[arg(long, value_name = "FIRST-LAST", default_value = "127.0.1.1-127.0.1.200")]
    pub strangers: Sources,
    /// Connections that strangers begin, per second
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = options::rate)]
    pub flood_rate: f64,
    /// Most connections that strangers have at a time
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = options::at_least_one)]
    pub flood_open: usize,
    /// How long a stranger stays whom the broker does not send away
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = options::duration)]
    pub flood_hold: Duration,
    /// What strangers do, and how often each: random bytes, nothing at all, a byte a second, garbage as TLS, bad HTTP, bad passwords, and a CONNECT that does not end
    #[arg(
        long,
        value_name = "NAME=N,…",
        default_value = "garbage=2,half-open=2,drip=1,tls=1,http=1,password=2,endless=1"
    )]
    pub mix: Mix,
    /// Fail if 99 % of the ordinary traffic take longer than this during the flood
    #[arg(long, value_name = "DURATION", value_parser = options::duration)]
    pub p99_max: Option<Duration>,
}

impl Siege {
    /// How many clients are cut.
    fn cut(&self) -> usize {
        (self.clients as f64 * self.fraction).round() as usize
    }

    /// Whether `client` is one of those that are cut: they are spread evenly.
    fn is_cut(&self, client: usize) -> bool {
        let (cut, clients) = (self.cut(), self.clients);
        (client + 1) * cut / clients > client * cut / clients
    }

    fn traffic(&self, run: &Run) -> Traffic {
        let plan = traffic::Plan {
            shape: Shape::Pairs,
            publishers: self.background_pairs,
            subscribers: self.background_pairs,
            qos: self.background_qos,
            payload_bytes: self.payload,
            pace: Pace::Rate(self.background),
            topic_prefix: format!("{}/background", run.topic_prefix),
            client_prefix: format!("{}background-", run.client_prefix),
        };
        Traffic::new(plan, 0, run.now())
    }

    fn flood(&self, run: &Run) -> Result<flood::Plan> {
        let route = Route { sources: Some(self.strangers), ..run.options.route()? };
        ensure!(
            self.strangers.goes_with(route.target.ip()),
            "--strangers and the broker's address {} are not of one family, IPv4 or IPv6",
            route.target
        );
        Ok(flood::Plan {
            route,
            rate: self.flood_rate,
            open_max: self.flood_open,
            hold: self.flood_hold,
            mix: self.mix.clone(),
            version: run.options.mqtt.into(),
            seed: run.stamper.key(),
        })
    }

    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        if self.before.is_zero() || self.duration.is_zero() {
            bail!("--before and --duration are more than 0: what they have in common is compared");
        }
        ensure!(
            self.cut() > 0,
            "--fraction {} of {} clients is none: no will would be due",
            self.fraction,
            self.clients
        );
        let clients = Session::clients(self);
        allow_descriptors(clients + self.flood_open)?;
        let mut run = Run::new("siege", common, clients)?;
        let flood = self.flood(&run)?;
        let mut session = Session::new(self, &run);
        session.connect(&mut run)?;
        self.be_quiet(&mut run, &mut session)?;
        let (cost, flood) = (run.cost()?, Flood::start(flood, run.fleet.clock()));
        self.be_flooded(&mut run, &mut session, &flood, cost)?;
        self.cut_some(&mut run, &mut session, &flood)?;
        let toll = flood.finish()?;
        session.part(&mut run)?;
        self.tell(&mut run, session, toll);
        run.finish()
    }

    /// Ordinary traffic alone, for comparison.
    fn be_quiet(&self, run: &mut Run, session: &mut Session) -> Result<()> {
        let (from, cost) = (run.now(), run.cost()?);
        session.traffic.start(from);
        session.go_on(run, "quiet", self.before, String::new)?;
        run.end_phase("quiet", from);
        self.tell_phase(run, session, "before", "before the flood", cost)
    }

    fn be_flooded(&self, run: &mut Run, session: &mut Session, flood: &Flood, cost: Cost) -> Result<()> {
        let from = run.now();
        let shown = || format!("{} strangers", flood.begun());
        session.go_on(run, "flood", self.duration, shown)?;
        run.end_phase("flood", from);
        self.tell_phase(run, session, "during", "during the flood", cost)
    }

    /// Cuts some of the good clients, and waits for their wills; the flood goes on.
    fn cut_some(&self, run: &mut Run, session: &mut Session, flood: &Flood) -> Result<()> {
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("cut", self.cut() as u64);
        session.begin_to_cut();
        run.drive_patiently(session, |it| it.wills.heard, |it| it.has_cut_all() && it.wills.owed() == 0)?;
        let (to, begun) = (run.now(), flood.begun());
        session.go_on(run, "linger", LINGER, || format!("{begun} strangers"))?;
        run.end_phase_at("cut", from, to);
        self.tell_phase(run, session, "cut", "while clients are cut in the flood", cost)
    }

    /// What a phase was like for the ordinary traffic, and what the broker took for it.
    fn tell_phase(&self, run: &mut Run, session: &mut Session, name: &str, title: &str, cost: Cost) -> Result<()> {
        let spent = run.spent_since(cost)?;
        let histogram = session.traffic.latency.end_phase(run.now());
        let (name, title) = (format!("background_{name}"), format!("ordinary traffic {title}"));
        let latency = Latency::new(&name, &title, "Latency of ordinary traffic", &histogram);
        let (p99, p999) = (latency.p99_us, latency.p999_us);
        run.report.latency(latency);
        run.report.lower(&format!("{name}_p999_us"), &format!("{title}, 99.9 %"), p999, "µs");
        if let Some(broker) = spent.broker {
            let share = broker.as_secs_f64() / spent.time.as_secs_f64() * 100.0;
            run.report.lower(
                &format!("{name}_broker_cpu_percent"),
                &format!("{title}: broker CPU, of one core"),
                share,
                "%",
            );
        }
        if let Some(max) = self.p99_max.filter(|_| name == "background_during") {
            let mut slow = Tally::default();
            let is_slow = histogram.is_empty() || p99 > max.as_secs_f64() * 1e6;
            slow.add_many(u64::from(is_slow), || format!("99 % within {p99:.0} µs, and --p99-max is {max:?}"));
            run.report.check(slow.into_check("background_slow", "ordinary traffic slower than permitted", false));
        }
        Ok(())
    }

    fn tell(&self, run: &mut Run, session: Session, toll: Toll) {
        let is_known = run.options.username.is_some();
        let Session { mut traffic, wills, disconnected, strays, .. } = session;
        let report = &mut run.report;
        report.latency(Latency::new("will", "will, from when its client was cut", "Latency of wills", &wills.latency));
        report.figure("clients", "good clients with a will", self.clients as f64, "");
        report.figure("wills_heard", "wills heard", wills.heard as f64, "");
        toll.tell(report);
        report.check(disconnected.into_check("disconnected", "connections of good clients lost", false));
        wills.tell(report);
        report.check(strays.into_check("strays", "messages to clients that subscribe to nothing", false));
        let lost = std::mem::take(&mut traffic.disconnected);
        report.check(lost.into_check("background_disconnected", "connections of ordinary traffic lost", false));
        // Where good clients need no password either, a wrong one opens nothing.
        report.check(toll.let_in.into_check("strangers_let_in", "strangers let in with a bad password", !is_known));
        let chart = "Latency of ordinary traffic over time";
        report.series.extend(traffic.latency.series("background", "ordinary traffic", chart));
        traffic.violations.tell_as("background", self.background_qos, run.options.strict, &mut run.report);
        self.warn(run, &toll.not_begun, toll.skipped, traffic.not_sent);
    }

    /// What makes the flood, or the traffic, less than was asked for.
    fn warn(&self, run: &mut Run, not_begun: &Tally, skipped: u64, not_sent: u64) {
        let warnings = &mut run.report.warnings;
        if not_begun.count > 0 {
            let (count, examples) = (not_begun.count, not_begun.examples.join("; "));
            warnings.push(format!("{count} connections of strangers could not be begun on this machine: {examples}"));
        }
        if skipped > 0 {
            warnings.push(format!(
                "{skipped} connections of strangers were due when {} were open (--flood-open), and were left out",
                self.flood_open
            ));
        }
        if not_sent as f64 > self.background * 0.1 {
            warnings.push(format!("at the end {not_sent} messages of ordinary traffic were due and not sent"));
        }
    }
}
