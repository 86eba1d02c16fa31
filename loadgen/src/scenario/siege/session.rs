//! The good ones: clients with wills, a watcher of those, and ordinary traffic.

use std::time::Duration;

use anyhow::Result;
use willowmq::codec::{Publish, QoS, SubscriptionOptions, Will};

use super::{LINGER, Siege};
use crate::engine::{Driver, End, Event, Fleet, Index, Time};
use crate::ledger::Tally;
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::run::Run;
use crate::scenario::churn::wills::{Parting, Wills};
use crate::stamp::{Stamp, Stamper};
use crate::traffic::Traffic;

/// How many clients are cut before input is looked at again.
const CUT_SLICE: usize = 16;

/// The good ones. In the fleet come ordinary traffic, the watcher, and those who have wills.
pub(super) struct Session {
    siege: Siege,
    pub(super) traffic: Traffic,
    ramp: Ramp,
    identity: Identity,
    stamper: Stamper,
    client_prefix: String,
    /// What the watcher subscribes to.
    filter: String,
    is_watched: bool,
    refused: Tally,
    is_online: Vec<bool>,
    /// The next client to be looked at, once some are being cut.
    next_cut: Option<usize>,
    payload: Vec<u8>,
    /// What is known of the wills.
    pub(super) wills: Wills,
    /// Clients and the watcher, where the broker ended the connection.
    pub(super) disconnected: Tally,
    /// What came to those who subscribe to nothing.
    pub(super) strays: Tally,
}

impl Session {
    /// How many clients there are in all.
    pub(super) fn clients(siege: &Siege) -> usize {
        2 * siege.background_pairs + 1 + siege.clients
    }

    pub(super) fn new(siege: &Siege, run: &Run) -> Self {
        let topics = (0..siege.clients).map(|client| format!("{}/will/{client}", run.topic_prefix)).collect();
        Self {
            siege: siege.clone(),
            traffic: siege.traffic(run),
            ramp: run.ramp(Self::clients(siege)),
            identity: run.identity.clone(),
            stamper: run.stamper.clone(),
            client_prefix: run.client_prefix.clone(),
            filter: format!("{}/will/+", run.topic_prefix),
            is_watched: false,
            refused: Tally::default(),
            is_online: vec![false; siege.clients],
            next_cut: None,
            payload: Vec::new(),
            wills: Wills::new(topics),
            disconnected: Tally::default(),
            strays: Tally::default(),
        }
    }

    fn watcher(&self) -> Index {
        self.traffic.range().end
    }

    /// The place in the fleet of a client with a will.
    fn index(&self, client: usize) -> Index {
        self.watcher() + 1 + client
    }

    /// Connects everybody: those with wills once the watcher hears them.
    pub(super) fn connect(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        run.progress.phase("connecting", Self::clients(&self.siege) as u64);
        for clients in [0..self.index(0), self.index(0)..Self::clients(&self.siege)] {
            self.ramp.extend(clients);
            run.connect_patiently(
                self,
                |it| &it.ramp,
                |it| it.is_watched && it.traffic.is_subscribed(),
                |it| if it.refused.count > 0 { &it.refused } else { &it.traffic.disconnected },
            )?;
        }
        run.end_phase("connect", from);
        Ok(())
    }

    /// Lets everything go on for `duration`.
    pub(super) fn go_on(
        &mut self,
        run: &mut Run,
        phase: &str,
        duration: Duration,
        shown: impl Fn() -> String,
    ) -> Result<()> {
        let begin = run.now();
        run.progress.phase(phase, duration.as_millis() as u64);
        while run.now() < begin + duration {
            let deadline = (run.now() + Duration::from_millis(200)).min(begin + duration);
            run.drive(self, deadline, |_| false)?;
            run.progress.at(run.now(), (run.now() - begin).as_millis() as u64, &shown);
        }
        Ok(())
    }

    /// Has those cut who are to be.
    pub(super) fn begin_to_cut(&mut self) {
        self.next_cut = Some(0);
    }

    /// Whether all of them are.
    pub(super) fn has_cut_all(&self) -> bool {
        self.next_cut == Some(self.siege.clients)
    }

    /// Lets the ordinary traffic come to rest and those who are left say goodbye, whose wills must not be heard.
    pub(super) fn part(&mut self, run: &mut Run) -> Result<()> {
        let from = run.now();
        self.traffic.stop();
        run.drive_patiently(self, |it| it.traffic.delivered, |it| it.traffic.is_settled())?;
        self.traffic.settle(&run.fleet);
        for client in (0..self.siege.clients).filter(|client| self.is_online[*client]) {
            self.wills.part(client, run.fleet.clock().now(), Parting::Goodbye);
            run.fleet.close(self.index(client), End::Disconnect);
        }
        self.is_online.fill(false);
        self.go_on(run, "goodbye", LINGER, String::new)?;
        run.end_phase("goodbye", from);
        Ok(())
    }

    fn cut_those_due(&mut self, fleet: &mut Fleet) -> Time {
        let Some(mut next) = self.next_cut else { return Time::NEVER };
        let mut count = 0;
        while next < self.siege.clients && count < CUT_SLICE {
            if self.siege.is_cut(next) && self.is_online[next] {
                self.is_online[next] = false;
                self.wills.part(next, fleet.clock().now(), Parting::Vanished);
                fleet.close(self.index(next), End::Reset);
                count += 1;
            }
            next += 1;
        }
        self.next_cut = Some(next);
        if next < self.siege.clients { fleet.clock().now() } else { Time::NEVER }
    }

    fn open(&mut self, fleet: &mut Fleet, index: Index) {
        match index.checked_sub(self.watcher()) {
            None => self.traffic.open(fleet, index, &self.identity),
            Some(0) => {
                let id = format!("{}watcher", self.client_prefix);
                fleet.open(index, &self.identity.connect(&id));
            }
            Some(number) => self.open_with_will(fleet, number - 1),
        }
    }

    fn open_with_will(&mut self, fleet: &mut Fleet, client: usize) {
        let id = format!("{}{client}", self.client_prefix);
        let mut connect = self.identity.connect(&id);
        let stamp = Stamp { publisher: client as u32, sequence: 0, at: fleet.clock().now() };
        self.stamper.write(stamp, self.siege.payload, &mut self.payload);
        connect.will = Some(Will {
            topic: &self.wills.topics()[client],
            payload: &self.payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            will_delay_interval: 0,
            message_expiry_interval: None,
            forwarded: Default::default(),
        });
        fleet.open(self.index(client), &connect);
    }

    fn on_watcher_event(&mut self, fleet: &mut Fleet, at: Time, event: Event<'_>) {
        match event {
            Event::Connected { .. } => {
                let filters = [(self.filter.as_str(), SubscriptionOptions::new(QoS::AtLeastOnce))];
                fleet.subscribe(self.watcher(), &filters);
            }
            Event::Subscribed(None) => self.is_watched = true,
            Event::Subscribed(Some(reason)) => self.refused.add(|| format!("watcher: SUBACK, {reason}")),
            Event::Message(publish) => self.on_will(at, publish),
            Event::Closed { cause, .. } if self.is_watched => {
                self.disconnected.add(|| format!("watcher of the wills: {cause}"));
            }
            _ => {} // What keeps it from connecting, the ramp tells.
        }
    }

    fn on_will(&mut self, at: Time, publish: &Publish<'_>) {
        let stamp = self.stamper.read(publish.payload);
        self.wills.on_will(at, publish, stamp);
    }

    fn on_client_event(&mut self, client: usize, at: Time, event: Event<'_>) {
        match event {
            Event::Connected { .. } => self.is_online[client] = true,
            Event::Message(publish) => self.strays.add(|| format!("client {client}: {}", publish.topic)),
            Event::Closed { cause, .. } if self.is_online[client] => {
                self.is_online[client] = false;
                self.wills.part(client, at, Parting::Unclear);
                self.disconnected.add(|| format!("client {client}: {cause}"));
            }
            _ => {}
        }
    }
}

impl Driver for Session {
    fn on_event(&mut self, fleet: &mut Fleet, index: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(index, &event);
        match index.checked_sub(self.watcher()) {
            None => self.traffic.on_event(fleet, index, at, &event, &self.stamper),
            Some(0) => self.on_watcher_event(fleet, at, event),
            Some(number) => self.on_client_event(number - 1, at, event),
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(index) = self.ramp.next_client(now) {
            self.open(fleet, index);
        }
        let next_cut = self.cut_those_due(fleet);
        self.ramp.next_time().min(next_cut).min(self.traffic.on_time(fleet, now, &self.stamper))
    }
}
