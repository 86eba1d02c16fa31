//! One storm from the first connection to the last check.

mod cuts;
mod events;
mod interrupt;
mod roles;

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use willowmq::codec::Will;
use willowmq::topic::{TopicFilter, TopicName};

use super::fate::Wills;
use super::retained::Aftermath;
use super::{How, Storm, fill, tell};
use crate::engine::{End, Fleet, Index, Time};
use crate::ledger::Tally;
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::run::{Cost, Run, Spent, clients};
use crate::stamp::{Stamp, Stamper};
use crate::traffic::{Pace, Plan, Shape, Traffic};
use roles::Roles;

/// How long it is watched whether anything is heard that must not be.
const SILENCE: Duration = Duration::from_secs(1);

/// One storm from the first connection to the last check.
pub(super) struct Session {
    storm: Storm,
    roles: Roles,
    identity: Identity,
    stamper: Stamper,
    client_prefix: String,
    filter: String,
    ramp: Ramp,
    traffic: Option<Traffic>,
    wills: Wills,
    aftermath: Aftermath,
    subscribed: usize,
    /// The next device to be cut, while it storms.
    next_cut: usize,
    cuts_end: usize,
    storm_began: Option<Time>,
    returns: VecDeque<(Time, usize)>,
    /// Until when the wills of those who are back could still be heard.
    silent_until: Time,
    now: Time,
    is_parting: bool,
    disconnected: Tally,
    payload: Vec<u8>,
    latencies: Vec<(&'static str, hdrhistogram::Histogram<u64>)>,
    baseline: Option<Spent>,
    memory: Vec<(&'static str, u64)>,
    traffic_ended: Time,
    /// How many wills had come when they were last looked at, and what everything had cost by then.
    noted: Option<(u64, Cost)>,
    watchers_gone: usize,
    is_late_watcher_gone: bool,
}

impl Session {
    /// How many clients `storm` takes.
    pub(super) fn clients(storm: &Storm) -> usize {
        Roles::new(storm).background() + storm.background.map_or(0, |_| 2 * storm.background_pairs)
    }

    pub(super) fn new(storm: &Storm, run: &Run) -> Self {
        let roles = Roles::new(storm);
        let topic = |device: usize| {
            let (client, number) = (format!("{}{device}", run.client_prefix), device.to_string());
            fill(&storm.will_topic, &[("{prefix}", &run.topic_prefix), ("{client}", &client), ("{i}", &number)])
        };
        let topics: Vec<String> = roles.devices().map(topic).collect();
        let traffic = storm.background.map(|rate| {
            let plan = Plan {
                shape: Shape::Pairs,
                publishers: storm.background_pairs,
                subscribers: storm.background_pairs,
                qos: storm.background_qos,
                payload_bytes: 100,
                pace: Pace::Rate(rate),
                topic_prefix: format!("{}/background", run.topic_prefix),
                client_prefix: format!("{}background-", run.client_prefix),
            };
            Traffic::new(plan, roles.background(), run.now())
        });
        Self {
            ramp: run.ramp(Self::clients(storm)),
            aftermath: Aftermath::new(topics.len()),
            wills: Wills::new(topics, storm.will_qos.min(storm.watcher_qos), storm.watchers),
            filter: fill(&storm.filter, &[("{prefix}", &run.topic_prefix)]),
            identity: run.identity.clone(),
            stamper: run.stamper.clone(),
            client_prefix: run.client_prefix.clone(),
            traffic,
            roles,
            subscribed: 0,
            next_cut: 0,
            cuts_end: 0,
            storm_began: None,
            returns: VecDeque::new(),
            silent_until: Time::default(),
            now: run.now(),
            is_parting: false,
            disconnected: Tally::default(),
            payload: Vec::new(),
            latencies: Vec::new(),
            baseline: None,
            memory: Vec::new(),
            traffic_ended: Time::default(),
            noted: None,
            watchers_gone: 0,
            is_late_watcher_gone: false,
            storm: storm.clone(),
        }
    }

    /// Finds out before the run whether the watchers could hear the wills at all.
    pub(super) fn check_topics(&self) -> Result<()> {
        let Some(topic) = self.wills.topics().first() else { return Ok(()) };
        let name = TopicName::parse(topic).map_err(|error| anyhow!("--will-topic: {topic}: {error}"))?;
        let filter = TopicFilter::parse(&self.filter).map_err(|error| anyhow!("--filter {}: {error}", self.filter))?;
        if !filter.matches(name) {
            bail!("--filter {} does not match the topics of --will-topic, such as {topic}", self.filter);
        }
        Ok(())
    }

    /// Runs it from the first connection to the last.
    pub(super) fn run(&mut self, run: &mut Run) -> Result<()> {
        self.connect(run)?;
        self.wait_before(run)?;
        self.storm(run)?;
        self.wait_after(run)?;
        self.part(run)
    }

    /// Connects the watchers, the ordinary traffic, and then the devices.
    fn connect(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        let background = self.traffic.as_ref().map_or(0..0, Traffic::range);
        self.ramp.extend(self.roles.watchers().chain(background));
        run.progress.phase("connecting", self.storm.clients as u64);
        run.connect_patiently(
            self,
            |it| &it.ramp,
            Self::is_subscribed,
            |it| match &it.traffic {
                Some(traffic) if traffic.disconnected.count > 0 => &traffic.disconnected,
                _ => &it.disconnected,
            },
        )?;
        self.note_memory(run, "before")?;
        self.connect_devices(run)?;
        run.end_phase("connect", from);
        self.note_memory(run, "connected")
    }

    fn is_subscribed(&self) -> bool {
        self.subscribed == self.storm.watchers && self.traffic.as_ref().is_none_or(Traffic::is_subscribed)
    }

    fn connect_devices(&mut self, run: &mut Run) -> Result<()> {
        self.ramp.extend(self.roles.devices());
        let is_over = |it: &Self| it.ramp.is_done() || it.ramp.failed.count > 0;
        if !self.drive_shown(run, |it| it.ramp.accepted as u64, is_over)? {
            bail!(run.no_answer());
        }
        let Tally { count, examples } = &self.ramp.failed;
        if *count > 0 {
            bail!("{} could not connect: {}", clients(*count), examples.join("; "));
        }
        Ok(())
    }

    /// Runs until it `is_over`, or until nothing has happened for as long as the patience lasts, and shows how far it is.
    fn drive_shown(&mut self, run: &mut Run, shown: fn(&Self) -> u64, is_over: fn(&Self) -> bool) -> Result<bool> {
        let mut progress = self.progress();
        let mut deadline = self.give_up_at(run);
        while run.now() < deadline {
            let slice = deadline.min(run.now() + Duration::from_millis(100));
            run.drive(self, slice, |it| is_over(it) || it.are_all_in() || it.is_unheard())?;
            self.note_wills(run);
            if is_over(self) || self.is_unheard() {
                return Ok(is_over(self));
            }
            run.progress.at(run.now(), shown(self), String::new);
            if self.progress() != progress {
                progress = self.progress();
                deadline = self.give_up_at(run);
            }
        }
        Ok(false)
    }

    /// Whether the last wills have come, which has not been noted.
    fn are_all_in(&self) -> bool {
        self.has_unnoted() && self.next_cut == self.cuts_end && self.wills.delivered >= self.wills.expected()
    }

    /// Whether nobody is left to hear a will.
    fn is_unheard(&self) -> bool {
        self.storm_began.is_some() && self.watchers_gone == self.storm.watchers
    }

    fn has_unnoted(&self) -> bool {
        self.wills.delivered > self.noted.map_or(0, |(delivered, _)| delivered)
    }

    /// Notes what everything has cost if more wills have come: the storm may be over with them.
    fn note_wills(&mut self, run: &Run) {
        if self.has_unnoted() {
            self.noted = Some((self.wills.delivered, run.quick_cost()));
            self.traffic.iter_mut().for_each(|traffic| traffic.latency.mark(run.now()));
        }
    }

    /// Changes as long as anything happens.
    fn progress(&self) -> u64 {
        self.wills.delivered + self.next_cut as u64 + self.ramp.accepted as u64 + self.ramp.failed.count
    }

    fn note_memory(&mut self, run: &Run, when: &'static str) -> Result<()> {
        self.memory.extend(run.broker_memory()?.map(|bytes| (when, bytes)));
        Ok(())
    }

    /// Lets ordinary traffic run alone, as a measure of what normal is.
    fn wait_before(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        if let Some(traffic) = &mut self.traffic {
            traffic.start(from);
        }
        let cost = run.cost()?;
        self.watch(run, "before", self.storm.before)?;
        self.baseline = Some(run.spent_since(cost)?);
        run.end_phase("before", from);
        self.end_latency(run, "before");
        Ok(())
    }

    fn watch(&mut self, run: &mut Run, name: &str, duration: Duration) -> Result<()> {
        let from = run.now();
        run.progress.phase(name, duration.as_millis() as u64);
        while run.now() < from + duration {
            let deadline = (from + duration).min(run.now() + Duration::from_millis(200));
            run.drive(self, deadline, |_| false)?;
            run.progress.at(run.now(), (run.now() - from).as_millis() as u64, String::new);
        }
        Ok(())
    }

    fn end_latency(&mut self, run: &Run, phase: &'static str) {
        if let Some(traffic) = &mut self.traffic {
            self.latencies.push((phase, traffic.latency.end_phase(run.now())));
        }
    }

    /// Cuts the clients, and waits for the last will or until no more come.
    fn storm(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        let cost = run.cost()?;
        self.begin_storm(from);
        run.progress.phase("storm", self.cuts_end as u64 * self.storm.watchers as u64);
        if !self.drive_shown(run, |it| it.wills.delivered, Self::is_over)? {
            self.ramp.give_up();
        }
        self.end_storm(run, from, cost)?;
        self.note_memory(run, "storm")
    }

    /// Ends the storm where its last will came: what was waited for afterwards is not its cost.
    fn end_storm(&mut self, run: &mut Run, from: Time, before: Cost) -> Result<()> {
        let end = match self.noted {
            Some((_, cost)) => cost,
            None => run.cost()?,
        };
        self.tell_cost(run, end.since(before));
        run.end_phase_at("storm", from, end.at());
        run.end_phase("waiting", end.at());
        if self.noted.is_none() {
            self.end_latency(run, "during");
        } else if let Some(traffic) = &mut self.traffic {
            self.latencies.push(("during", traffic.latency.end_phase_at_mark()));
        }
        Ok(())
    }

    fn begin_storm(&mut self, now: Time) {
        self.storm_began = Some(now);
        self.cuts_end = self.storm.cut_and_back().0;
        if self.storm.how == How::Takeover {
            self.next_cut = self.cuts_end;
            self.ramp.extend(self.roles.takeovers());
        }
    }

    /// When the patience ends if nothing happens from now on, other than what is planned.
    fn give_up_at(&self, run: &Run) -> Time {
        let next_cut = match (self.storm.how, self.storm_began) {
            (How::Stagger(over), Some(began)) => began + over,
            _ => Time::default(),
        };
        let last_return = self.returns.back().map_or(Time::default(), |(at, _)| *at);
        self.wills.last_due().max(next_cut).max(last_return).max(run.now()) + run.options.patience
    }

    fn are_cuts_done(&self) -> bool {
        self.next_cut == self.cuts_end && self.returns.is_empty() && self.ramp.is_done()
    }

    fn is_over(&self) -> bool {
        self.are_cuts_done() && self.wills.delivered >= self.wills.expected() && self.now >= self.silent_until
    }

    fn tell_cost(&self, run: &mut Run, spent: Spent) {
        let last = self.wills.arrivals.iter().max().copied();
        let (Some(began), Some(last)) = (self.storm_began, last) else { return };
        let mut arrivals = self.wills.arrivals.clone();
        arrivals.sort_unstable();
        let at = |share: f64| arrivals[((arrivals.len() - 1) as f64 * share) as usize].nanos_since(began) as f64 / 1e6;
        run.report.lower("storm_to_last_will_ms", "first cut to last will", last.nanos_since(began) as f64 / 1e6, "ms");
        if let Some(broker) = spent.broker {
            let alone = self.baseline.and_then(|before| Some(before.broker?.as_secs_f64() / before.time.as_secs_f64()));
            let beside = alone.unwrap_or(0.0) * spent.time.as_secs_f64();
            let cpu = (broker.as_secs_f64() - beside).max(0.0) * 1e6 / self.wills.delivered as f64;
            run.report.lower(
                "broker_cpu_us_per_will",
                "broker CPU per will, ordinary traffic's share taken off",
                cpu,
                "µs",
            );
        }
        run.report.lower("storm_to_first_will_ms", "first cut to first will", at(0.0), "ms");
        run.report.lower("storm_to_median_will_ms", "first cut to median will", at(0.5), "ms");
        run.report.lower("storm_to_p99_will_ms", "first cut to 99 % of the wills", at(0.99), "ms");
        let generator = spent.generator.as_secs_f64() * 1e6 / self.wills.delivered as f64;
        run.report.figure("generator_cpu_us_per_will", "generator CPU per will", generator, "µs");
        run.warn_if_busy(spent);
    }

    /// Watches how ordinary traffic is after the storm, and looks at what is retained.
    fn wait_after(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.watch(run, "after", self.storm.afterwards)?;
        run.end_phase("after", from);
        self.end_latency(run, "after");
        self.note_memory(run, "after")?;
        self.traffic_ended = run.now();
        if let Some(traffic) = &mut self.traffic {
            traffic.stop();
            run.drive_patiently(
                self,
                |it| it.traffic.as_ref().map_or(0, |traffic| traffic.delivered),
                |it| it.traffic.as_ref().is_none_or(|traffic| traffic.is_settled() || traffic.is_gone()),
            )?;
        }
        self.traffic.iter_mut().for_each(|traffic| traffic.settle(&run.fleet));
        if self.storm.will_retain { self.look_at_retained(run) } else { Ok(()) }
    }

    /// Subscribes once more: every retained will is to be there; then removes them.
    fn look_at_retained(&mut self, run: &mut Run) -> Result<()> {
        self.ramp.extend([self.roles.late_watcher()]);
        let expected = self.wills.expected() / self.storm.watchers as u64;
        run.drive_patiently(
            self,
            |it| it.aftermath.seen(),
            |it| it.aftermath.seen() >= expected || it.is_late_watcher_gone,
        )?;
        run.drive(self, run.now() + SILENCE / 4, |_| false)?; // For what must not come.
        self.aftermath.begin_removal();
        run.drive_patiently(
            self,
            |it| it.aftermath.removed(),
            |it| it.aftermath.is_removed() || it.is_late_watcher_gone,
        )?;
        Ok(())
    }

    /// Says goodbye as everybody who is left: none of their wills may be heard.
    fn part(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.is_parting = true;
        for client in self.roles.devices().chain(self.roles.takeovers()) {
            run.fleet.close(client, End::Disconnect);
        }
        run.drive(self, run.now() + SILENCE, |_| false)?;
        for client in (self.roles.watchers().start..Self::clients(&self.storm)).rev() {
            run.fleet.close(client, End::Disconnect);
        }
        run.end_phase("parting", from);
        Ok(())
    }

    /// Adds everything that was found to the report.
    pub(super) fn tell(self, run: &mut Run) {
        tell::tell(self.into_findings(), run);
    }

    fn into_findings(self) -> tell::Findings {
        tell::Findings {
            began: self.storm_began.unwrap_or_default(),
            wills: self.wills,
            traffic: self.traffic,
            latencies: self.latencies,
            memory: self.memory,
            aftermath: self.storm.will_retain.then_some(self.aftermath),
            disconnected: self.disconnected,
            refused: self.ramp.failed,
            background_qos: self.storm.background_qos,
            background_interval: Duration::from_secs_f64(self.storm.background.map_or(0.0, |rate| 1.0 / rate)),
            filter: self.filter,
            is_watcher_gone: self.watchers_gone > 0,
            traffic_ended: self.traffic_ended,
            clients: self.storm.clients,
        }
    }

    fn open(&mut self, fleet: &mut Fleet, client: Index) {
        let Some(device) = self.roles.device_of(client) else {
            return match &self.traffic {
                Some(traffic) if traffic.range().contains(&client) => traffic.open(fleet, client, &self.identity),
                _ => fleet.open(client, &self.identity.connect(&format!("{}watcher-{client}", self.client_prefix))),
            };
        };
        let is_again = !self.wills.fate(device).is_alive() || self.roles.takeovers().contains(&client);
        if self.roles.takeovers().contains(&client) {
            self.wills.cut(device, self.now, self.now); // Its will is due as soon as the broker hears of this.
        }
        let stamp = Stamp { publisher: device as u32, sequence: u64::from(is_again), at: self.now };
        self.stamper.write(stamp, self.storm.will_payload, &mut self.payload);
        let id = format!("{}{device}", self.client_prefix);
        let mut connect = self.identity.connect(&id);
        connect.session_expiry_interval = self.storm.expiry().as_secs() as u32;
        connect.clean_start = connect.session_expiry_interval == 0;
        connect.will = Some(Will {
            topic: &self.wills.topics()[device],
            payload: &self.payload,
            qos: self.storm.will_qos,
            retain: self.storm.will_retain,
            will_delay_interval: self.storm.will_delay.as_secs() as u32,
            message_expiry_interval: None,
            forwarded: Default::default(),
        });
        fleet.open(client, &connect);
    }
}
