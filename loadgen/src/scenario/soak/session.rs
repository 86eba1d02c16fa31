//! All the clients of a soak: several kinds of traffic, clients that come and go, and a keeper of retained messages.

use std::time::Duration;

use anyhow::Result;
use willowmq::codec::QoS;

use super::Soak;
use super::keeper::{self, Keeper};
use crate::engine::{Driver, Event, Fleet, Index, Time};
use crate::ledger::Tally;
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::run::Run;
use crate::scenario::churn::cycles::{self, Cycles};
use crate::stamp::Stamper;
use crate::traffic::{Pace, Plan, Shape, Traffic};

/// Members of the shared subscription, and subscribers of fan-out.
const SUBSCRIBERS: usize = 4;

/// One kind of traffic.
pub(super) struct Kind {
    /// Its name in topics and figures.
    pub(super) name: &'static str,
    /// Its level.
    pub(super) qos: QoS,
    pub(super) traffic: Traffic,
}

/// All the clients.
pub(super) struct Session {
    pub(super) kinds: Vec<Kind>,
    pub(super) cycles: Cycles,
    pub(super) keeper: Keeper,
    /// What was not delivered in time, delivered later or not.
    pub(super) overdue: Tally,
    wills_overdue: u64,
    is_failing_fast: bool,
    is_strict: bool,
    ramp: Ramp,
    identity: Identity,
    stamper: Stamper,
}

/// The kinds of traffic.
fn kinds() -> [(&'static str, Shape, QoS); 6] {
    [
        ("pairs_qos0", Shape::Pairs, QoS::AtMostOnce),
        ("pairs_qos1", Shape::Pairs, QoS::AtLeastOnce),
        ("pairs_qos2", Shape::Pairs, QoS::ExactlyOnce),
        ("fan_in", Shape::FanIn, QoS::AtLeastOnce),
        ("fan_out", Shape::FanOut, QoS::AtLeastOnce),
        ("shared", Shape::Shared, QoS::AtLeastOnce),
    ]
}

fn subscribers(shape: Shape, publishers: usize) -> usize {
    match shape {
        Shape::Pairs => publishers,
        Shape::FanIn => 1,
        Shape::FanOut | Shape::Shared => SUBSCRIBERS,
    }
}

/// How many clients a soak takes.
pub(super) fn clients(soak: &Soak) -> usize {
    let traffic = kinds().into_iter().map(|(_, shape, _)| soak.publishers + subscribers(shape, soak.publishers));
    traffic.sum::<usize>() + soak.churn_clients + 1 + Keeper::CLIENTS
}

fn traffic_plan(soak: &Soak, run: &Run, name: &str, shape: Shape, qos: QoS) -> Plan {
    Plan {
        shape,
        publishers: soak.publishers,
        subscribers: subscribers(shape, soak.publishers),
        qos,
        payload_bytes: soak.payload,
        pace: Pace::Rate(soak.rate / kinds().len() as f64),
        topic_prefix: format!("{}/{name}", run.topic_prefix),
        client_prefix: format!("{}{name}-", run.client_prefix),
    }
}

fn cycles_plan(soak: &Soak, run: &Run) -> cycles::Plan {
    cycles::Plan {
        clients: soak.churn_clients,
        rate: soak.churn_rate,
        has_wills: true,
        clean_end: soak.clean_end,
        stay: soak.stay,
        payload_bytes: soak.payload,
        patience: run.options.patience,
        topic_prefix: format!("{}/churn", run.topic_prefix),
        client_prefix: format!("{}churn-", run.client_prefix),
    }
}

fn keeper_plan(soak: &Soak, run: &Run) -> keeper::Plan {
    keeper::Plan {
        topics: soak.topics,
        rate: soak.update_rate,
        payload_bytes: soak.payload,
        look_interval: soak.look_interval,
        patience: run.options.patience,
        topic_prefix: format!("{}/kept", run.topic_prefix),
        client_prefix: format!("{}kept-", run.client_prefix),
    }
}

impl Session {
    pub(super) fn new(soak: &Soak, run: &Run) -> Self {
        let (identity, stamper, now) = (run.identity.clone(), run.stamper.clone(), run.now());
        let mut first = 0;
        let kinds = kinds().map(|(name, shape, qos)| {
            let traffic = Traffic::new(traffic_plan(soak, run, name, shape, qos), first, now);
            first = traffic.range().end;
            Kind { name, qos, traffic }
        });
        let cycles = Cycles::new(cycles_plan(soak, run), first, identity.clone(), stamper.clone(), now);
        let keeper = Keeper::new(keeper_plan(soak, run), cycles.range().end, identity.clone(), stamper.clone());
        let mut ramp = run.ramp(clients(soak));
        ramp.extend((0..first).chain(cycles.watcher()).chain([keeper.publisher()]));
        Self {
            kinds: kinds.into(),
            cycles,
            keeper,
            overdue: Tally::default(),
            wills_overdue: 0,
            is_failing_fast: soak.fail_fast,
            is_strict: run.options.strict,
            ramp,
            identity,
            stamper,
        }
    }

    /// Connects those who stay, and begins.
    pub(super) fn start(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        run.connect_patiently(
            self,
            |it| &it.ramp,
            Self::is_subscribed,
            |it| {
                let traffic = it.kinds.iter().map(|kind| &kind.traffic.disconnected);
                let mut all = traffic.chain([&it.keeper.disconnected, it.cycles.disconnected()]);
                all.find(|tally| tally.count > 0).unwrap_or(&it.keeper.disconnected)
            },
        )?;
        run.end_phase("connect", from);
        let now = run.now();
        self.kinds.iter_mut().for_each(|kind| kind.traffic.start(now));
        self.cycles.start(now);
        self.keeper.start(now);
        Ok(())
    }

    fn is_subscribed(&self) -> bool {
        self.cycles.is_watched() && self.kinds.iter().all(|kind| kind.traffic.is_subscribed())
    }

    /// Why the soak has to end before its time, if it has to.
    pub(super) fn reason_to_end(&self, fleet: &Fleet) -> Option<&'static str> {
        let is_lost = |kind: &Kind| kind.traffic.disconnected.count > 0;
        if fleet.is_interrupted() {
            Some("it was interrupted")
        } else if self.kinds.iter().any(is_lost) || self.keeper.disconnected.count > 0 || !self.cycles.is_watched() {
            Some("a connection that was to stay ended")
        } else if self.is_failing_fast && self.failures() > 0 {
            Some("a check failed, and --fail-fast asks for an end")
        } else {
            None
        }
    }

    /// How often something was wrong so far.
    pub(super) fn failures(&self) -> u64 {
        let traffic =
            self.kinds.iter().map(|kind| kind.traffic.violations.failures() + kind.traffic.disconnected.count);
        let rest = self.cycles.failures() + self.keeper.failures() + self.overdue.count + self.wills_overdue;
        traffic.sum::<u64>() + rest
    }

    /// How many messages of the traffic were delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.traffic.delivered).sum()
    }

    /// Notes what should have arrived before `before`, and forgets what is on its way, which would pile up where QoS 0
    /// loses a message. That it arrives, and once, is still checked.
    pub(super) fn take_stock(&mut self, now: Time, before: Time) {
        for Kind { name, qos, traffic } in &mut self.kinds {
            let is_due = *qos != QoS::AtMostOnce || self.is_strict;
            let count = if is_due { traffic.overdue(before) } else { 0 };
            self.overdue.add_many(count, || format!("{name}: {count} messages at {:.0} s", now.as_secs_f64()));
            traffic.write_off();
        }
        self.wills_overdue = self.cycles.wills.owed_before(before);
    }

    /// Ends everything, waits for what is on its way, and counts what does not come.
    pub(super) fn settle(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.kinds.iter_mut().for_each(|kind| kind.traffic.stop());
        self.cycles.stop();
        self.keeper.stop();
        let progress = |it: &Self| it.delivered() + it.cycles.completed + it.cycles.wills.heard + it.keeper.looks;
        run.drive_patiently(self, progress, Self::is_settled)?;
        self.kinds.iter_mut().for_each(|kind| kind.traffic.settle(&run.fleet));
        run.end_phase("settle", from);
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let is_settled = self.kinds.iter().all(|kind| kind.traffic.is_settled());
        is_settled && self.cycles.is_settled() && self.keeper.is_settled()
    }

    /// Runs until `until`, or until the soak has to end; says whether it has to.
    pub(super) fn go_on(&mut self, run: &mut Run, until: Time) -> Result<Option<&'static str>> {
        /// How soon Ctrl-C and violations are heeded.
        const STEP: Duration = Duration::from_millis(200);
        while run.now() < until {
            let deadline = until.min(run.now() + STEP);
            run.drive(self, deadline, |_| false)?;
            if let Some(reason) = self.reason_to_end(&run.fleet) {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }
}

impl Driver for Session {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.traffic.range().contains(&client)) {
            kind.traffic.on_event(fleet, client, at, &event, &self.stamper);
        } else if self.cycles.range().contains(&client) {
            self.cycles.on_event(fleet, client, at, event);
        } else {
            self.keeper.on_event(fleet, client, at, event);
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        let Self { kinds, cycles, keeper, ramp, identity, stamper, .. } = self;
        while let Some(client) = ramp.next_client(now) {
            match kinds.iter().find(|kind| kind.traffic.range().contains(&client)) {
                Some(kind) => kind.traffic.open(fleet, client, identity),
                None if cycles.range().contains(&client) => cycles.open_watcher(fleet, client),
                None => keeper.open(fleet, client),
            }
        }
        let next = ramp.next_time().min(cycles.on_time(fleet, now)).min(keeper.on_time(fleet, now));
        kinds.iter_mut().fold(next, |next, kind| next.min(kind.traffic.on_time(fleet, now, stamper)))
    }
}
