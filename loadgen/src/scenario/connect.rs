//! `connect`: many clients connect, stay, and leave: what a connection costs to open and to keep.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use willowmq::codec::{QoS, Will};

use crate::engine::{Driver, End, Event, Fleet, Index, Stage, Time};
use crate::gauge::Gauge;
use crate::ledger::Tally;
use crate::options::{self, Common, Identity};
use crate::ramp::Ramp;
use crate::report::Latency;
use crate::run::{Run, Spent};
use crate::stamp::{Stamp, Stamper};

/// How long a session of `--persistent` may outlive its connection, in seconds: the run removes it long before.
const SESSION_EXPIRY_S: u32 = 3600;

/// Many clients connect, stay idle and leave: what a connection costs to open and to keep
#[derive(Args, Clone, Debug)]
pub struct Connect {
    /// Clients that connect
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = options::at_least_one)]
    pub clients: usize,
    /// Give every client a will
    #[arg(long)]
    pub will: bool,
    /// Size of a will's payload
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = options::payload_bytes)]
    pub will_payload: usize,
    /// Give every client a session that outlives its connection; they are removed afterwards
    #[arg(long)]
    pub persistent: bool,
    /// How long all of them stay and do nothing
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = options::duration)]
    pub idle: Duration,
}

impl Connect {
    /// Runs it; says whether every check passed.
    ///
    /// # Errors
    ///
    /// When the run could not take place.
    pub fn run(&self, common: &Common) -> Result<bool> {
        let mut run = Run::new("connect", common, self.clients)?;
        let mut crowd = Crowd::new(self.clone(), &run);
        let memory_before = run.broker_memory()?;
        self.connect(&mut run, &mut crowd)?;
        self.stay_idle(&mut run, &mut crowd)?;
        let memory = run.broker_memory()?.zip(memory_before).map(|(after, before)| after as f64 - before as f64);
        if let Some(memory) = memory {
            let each = memory / crowd.ramp.accepted.max(1) as f64;
            run.report.lower("broker_memory_bytes_per_connection", "broker memory per connection", each, "B");
        }
        let latency = Latency::new("connack", "CONNACK", "Latency of CONNACK", &crowd.ramp.latency);
        run.report.latency(latency);
        self.part(&mut run, &mut crowd)?;
        crowd.tell(&mut run);
        run.finish()
    }

    fn connect(&self, run: &mut Run, crowd: &mut Crowd) -> Result<()> {
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("connecting", self.clients as u64);
        crowd.open_all(run)?;
        let spent = run.spent_since(cost)?;
        run.end_phase("connect", from);
        let accepted = crowd.ramp.accepted;
        let rate = accepted as f64 / spent.time.as_secs_f64();
        run.report.higher("connections_per_second", "connections", rate, "/s");
        run.tell_cost("connection", accepted as u64, spent);
        if run.options.connect_rate.is_none() {
            run.warn_if_busy(spent);
        }
        Ok(())
    }

    fn stay_idle(&self, run: &mut Run, crowd: &mut Crowd) -> Result<()> {
        if self.idle.is_zero() {
            return Ok(());
        }
        let (from, cost) = (run.now(), run.cost()?);
        run.progress.phase("idle", self.idle.as_millis() as u64);
        while run.now() < from + self.idle {
            let step = (run.now() + Duration::from_secs(1)).min(from + self.idle);
            run.drive(crowd, step, |_| false)?;
            let clients = crowd.connected.value();
            run.progress.at(run.now(), (run.now() - from).as_millis() as u64, || format!("{clients} clients"));
        }
        let Spent { time, broker, .. } = run.spent_since(cost)?;
        run.end_phase("idle", from);
        if let Some(broker) = broker {
            let share = broker.as_secs_f64() / time.as_secs_f64() * 100.0;
            run.report.lower("broker_idle_cpu_percent", "broker CPU while all are idle, of one core", share, "%");
        }
        Ok(())
    }

    /// Ends every connection with DISCONNECT, and every session.
    fn part(&self, run: &mut Run, crowd: &mut Crowd) -> Result<()> {
        let from = run.now();
        (0..self.clients).for_each(|client| crowd.leave(&mut run.fleet, client, from));
        if self.persistent {
            let ramp = run.ramp(self.clients);
            crowd.connecting = Some(std::mem::replace(&mut crowd.ramp, ramp));
            crowd.host.is_removing = true;
            run.progress.phase("removing", self.clients as u64);
            crowd.open_all(run)?;
        }
        run.end_phase("disconnect", from);
        Ok(())
    }
}

/// Who the clients are.
struct Host {
    options: Connect,
    identity: Identity,
    stamper: Stamper,
    client_prefix: String,
    topic_prefix: String,
    /// Whether they only come to end their sessions.
    is_removing: bool,
}

impl Host {
    fn open(&self, fleet: &mut Fleet, client: Index) {
        let id = format!("{}{client}", self.client_prefix);
        let mut connect = self.identity.connect(&id);
        if self.options.persistent && !self.is_removing {
            connect.clean_start = false;
            connect.session_expiry_interval = SESSION_EXPIRY_S;
        }
        let topic = format!("{}/{client}/status", self.topic_prefix);
        let mut payload = Vec::new();
        if self.options.will && !self.is_removing {
            let stamp = Stamp { publisher: client as u32, sequence: 0, at: fleet.clock().now() };
            self.stamper.write(stamp, self.options.will_payload, &mut payload);
            connect.will = Some(will(&topic, &payload));
        }
        fleet.open(client, &connect);
    }
}

/// The clients.
struct Crowd {
    host: Host,
    /// Opens the connections of the present phase.
    ramp: Ramp,
    /// The ramp that was measured, once there is another.
    connecting: Option<Ramp>,
    is_online: Vec<bool>,
    connected: Gauge,
    disconnected: Tally,
    unanswered: Tally,
}

impl Crowd {
    fn new(options: Connect, run: &Run) -> Self {
        Self {
            ramp: run.ramp(options.clients),
            connecting: None,
            is_online: vec![false; options.clients],
            connected: Gauge::new(run.now(), 0.0),
            disconnected: Tally::default(),
            unanswered: Tally::default(),
            host: Host {
                options,
                identity: run.identity.clone(),
                stamper: run.stamper.clone(),
                client_prefix: run.client_prefix.clone(),
                topic_prefix: run.topic_prefix.clone(),
                is_removing: false,
            },
        }
    }

    /// Connects everybody, and notes who got no answer.
    fn open_all(&mut self, run: &mut Run) -> Result<()> {
        let clients = self.is_online.len();
        self.ramp.extend(0..clients);
        if !run.drive_patiently(self, |it| it.ramp.accepted as u64, |it| it.ramp.is_done())? {
            let is_waiting = |client: &Index| matches!(run.fleet.stage(*client), Stage::Opening | Stage::AwaitConnack);
            for client in (0..clients).filter(is_waiting) {
                self.unanswered.add(|| format!("client {client}"));
            }
        }
        Ok(())
    }

    fn leave(&mut self, fleet: &mut Fleet, client: Index, at: Time) {
        fleet.close(client, End::Disconnect);
        self.set_online(client, at, false);
    }

    fn set_online(&mut self, client: Index, at: Time, is_online: bool) {
        if self.is_online[client] != is_online {
            self.is_online[client] = is_online;
            self.connected.add(at, if is_online { 1.0 } else { -1.0 });
        }
    }

    fn tell(self, run: &mut Run) {
        let now = run.now();
        let report = &mut run.report;
        let (connecting, removing) = match self.connecting {
            Some(connecting) => (connecting, Some(self.ramp)),
            None => (self.ramp, None),
        };
        report.figure("connected", "clients connected", connecting.accepted as f64, "");
        report.check(connecting.failed.into_check("refused", "connections refused", false));
        report.check(self.unanswered.into_check("unanswered", "connections without an answer", false));
        report.check(self.disconnected.into_check("disconnected", "connections lost", false));
        if let Some(removing) = removing {
            report.check(removing.failed.into_check("not_removed", "sessions that could not be removed", false));
        }
        report.series.push(self.connected.series(now, "connected", "connected", "Connected clients", ""));
    }
}

/// A will at QoS 1 without delay.
fn will<'a>(topic: &'a str, payload: &'a [u8]) -> Will<'a> {
    Will {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        will_delay_interval: 0,
        message_expiry_interval: None,
        forwarded: Default::default(),
    }
}

impl Driver for Crowd {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        match event {
            Event::Connected { .. } if self.host.is_removing => self.leave(fleet, client, at),
            Event::Connected { .. } => self.set_online(client, at, true),
            Event::Closed { cause, .. } if self.is_online[client] => {
                self.set_online(client, at, false);
                self.disconnected.add(|| format!("client {client}: {cause}"));
            }
            _ => {}
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.host.open(fleet, client);
        }
        self.ramp.next_time()
    }
}
