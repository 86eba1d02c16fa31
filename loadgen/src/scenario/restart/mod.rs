//! `restart`: the broker is drained and started again under load, and nobody is to notice but by a reconnect.
//!
//! Devices with wills publish at QoS 1 and 2 from Sessions that outlast their connections, to subscribers whose Sessions do as well. All come
//! back whenever they lose their connection, with a backoff. The scenario gives the order to drain, or leaves the restart to the operator,
//! goes on, and judges: no will of a client that came back, no Session lost, nothing acknowledged lost, nothing of QoS 2 twice.

mod fleet;
mod order;
mod session;
mod status;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use willowmq::codec::QoS;

use crate::options::{self, Common};
use crate::report::Latency;
use crate::run::Run;
use fleet::Plan;
use order::Order;
use session::Session;

/// The broker is drained and started again under load: no false will, nothing lost
#[derive(Args, Clone, Debug)]
pub struct Restart {
    /// Clients in all: devices with wills and retained status, and their subscribers
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = options::at_least_one)]
    pub clients: usize,
    /// How many of them are subscribers
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = options::at_least_one)]
    pub subscribers: usize,
    /// Messages published per second, half at QoS 1 and half at QoS 2; each subscriber gets an equal share, and the broker has to queue that
    /// while it is away
    #[arg(long, value_name = "RATE", default_value = "500", value_parser = options::rate)]
    pub rate: f64,
    /// Size of a payload
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub payload: usize,
    /// Load before the restart
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = options::duration)]
    pub before: Duration,
    /// Load after the restart; a false will may take the grace of the restart, one and a half times --keep-alive, to show
    #[arg(long, value_name = "DURATION", default_value = "100s", value_parser = options::duration)]
    pub after: Duration,
    /// Where to order a drain from the broker, such as `http://127.0.0.1:8080`; it has to be started again by somebody else [default:
    /// the operator restarts it when the line says so]
    #[arg(long, value_name = "URL")]
    pub drain: Option<Order>,
    /// Over how long the broker is to drain
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = options::duration)]
    pub over: Duration,
    /// File with the token that the broker wants for the order
    #[arg(long, value_name = "FILE", requires = "drain")]
    pub token_file: Option<std::path::PathBuf>,
    /// How long it may take from the order until everybody is back
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = options::duration)]
    pub outage_max: Duration,
    /// Devices that vanish in the end, and whose wills have to come
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub deaths: usize,
}

impl Restart {
    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        let Some(devices) = self.clients.checked_sub(self.subscribers).filter(|devices| *devices > self.deaths) else {
            bail!("--clients is more than --subscribers and --deaths together");
        };
        let token = self.token_file.as_deref().map(order::read_token).transpose()?;
        let plan = Plan { devices, subscribers: self.subscribers, rate: self.rate, payload_bytes: self.payload };
        let mut run = Run::new("restart", common, plan.clients())?;
        if self.after < run.options.keep_alive * 3 / 2 {
            run.report.warnings.push(format!(
                "--after {:?} is shorter than the grace of a restart, one and a half times --keep-alive: a false will may come later",
                self.after
            ));
        }
        let mut session = Session::new(plan, &run);
        session.start(&mut run)?;
        self.go_on(&mut run, &mut session, self.before, "load")?;
        self.restart(&mut run, &mut session, token.as_deref())?;
        self.go_on(&mut run, &mut session, self.after, "after")?;
        session.let_die(&mut run, self.deaths)?;
        session.settle(&mut run)?;
        session.look_at_statuses(&mut run)?;
        tell(&mut run, session);
        run.finish()
    }

    /// Load for a while.
    fn go_on(&self, run: &mut Run, session: &mut Session, time: Duration, phase: &str) -> Result<()> {
        let from = run.now();
        run.progress.phase(if phase == "load" { "load" } else { "load after the restart" }, time.as_secs());
        run.drive(session, from + time, |_| false)?;
        run.end_phase(phase, from);
        Ok(())
    }

    /// From the order until everybody is back.
    fn restart(&self, run: &mut Run, session: &mut Session, token: Option<&str>) -> Result<()> {
        let from = run.now();
        session.expect_losses(from);
        match &self.drain {
            Some(order) => order.give(self.over, token)?,
            None if !run.options.quiet => eprintln!("restart the broker now"),
            None => {}
        }
        run.progress.phase("restart", self.outage_max.as_secs());
        if !run.drive(session, from + self.outage_max, Session::are_all_back)? {
            run.report
                .warnings
                .push(format!("after {:?} (--outage-max) not everybody was gone and back", self.outage_max));
        }
        run.end_phase("restart", from);
        let outage = session.last_return - from;
        run.report.lower("restart_seconds", "from the order until the last was back", outage.as_secs_f64(), "s");
        Ok(())
    }
}

fn tell(run: &mut Run, session: Session) {
    let strict = run.options.strict;
    let report = &mut run.report;
    let Session { fleet, statuses, mut violations, record, .. } = session;
    report.figure("clients", "clients", fleet.plan.clients() as f64, "");
    report.figure("published", "messages published and acknowledged", record.acknowledged as f64, "");
    report.figure("delivered", "messages delivered", record.delivered as f64, "");
    report.figure("connections_lost", "connections lost", record.lost_connections as f64, "");
    report.figure("connects_refused", "CONNECTs refused while it drained", record.refused as f64, "");
    report.figure("connects_failed", "attempts that found no broker", record.failed as f64, "");
    report.figure("wills_heard", "wills heard", statuses.wills_heard as f64, "");
    report.latency(Latency::new(
        "reconnect",
        "CONNACK after the restart, from the beginning of its connection",
        "Latency",
        &record.reconnect,
    ));
    for (qos, name) in [(QoS::AtLeastOnce, "qos1"), (QoS::ExactlyOnce, "qos2")] {
        std::mem::take(&mut violations[usize::from(qos.as_u8()) - 1]).tell_as(name, qos, strict, report);
    }
    report.check(record.sessions_lost.into_check(
        "sessions_lost",
        "Sessions that were gone when their client came back",
        false,
    ));
    report.check(record.absent.into_check("absent", "clients that did not come back", false));
    report.check(record.stayed.into_check("stayed", "clients whose connection the restart did not end", false));
    report.check(record.refused_packets.into_check("rejected", "publishes or subscriptions refused", false));
    statuses.tell(report);
}
