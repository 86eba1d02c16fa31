//! Visits of the subscribers: they come, do one thing, and leave with DISCONNECT.

use willowmq::codec::SubscriptionOptions;

use super::plan::{Plan, Purpose};
use crate::engine::{Driver, End, Event, Fleet, Index, Time};
use crate::ledger::Tally;
use crate::options::Identity;
use crate::ramp::Ramp;
use crate::run::Run;

/// A visit of every subscriber.
pub(super) struct Visit {
    plan: Plan,
    identity: Identity,
    purpose: Purpose,
    pub(super) ramp: Ramp,
    left: usize,
    /// Those that did not get what they came for.
    pub(super) refused: Tally,
}

impl Visit {
    /// They subscribe, and leave a Session behind; or they end the Session that they have.
    pub(super) fn new(plan: &Plan, purpose: Purpose, run: &Run) -> Self {
        let mut ramp = run.ramp(plan.clients());
        ramp.extend(0..plan.subscribers);
        Self { plan: plan.clone(), identity: run.identity.clone(), purpose, ramp, left: 0, refused: Tally::default() }
    }

    /// Whether everybody came and left.
    pub(super) fn is_over(&self) -> bool {
        self.left == self.plan.subscribers
    }

    fn on_connected(&mut self, fleet: &mut Fleet, client: Index, session_present: bool) {
        match self.purpose {
            Purpose::Leave => self.leave(fleet, client),
            Purpose::Stay if session_present => {
                let who = self.plan.who(client);
                self.refused.add(|| format!("{who} has a Session already: choose another --client-prefix"));
            }
            Purpose::Stay => {
                let topic = self.plan.topic_of(client);
                fleet.subscribe(client, &[(topic.as_str(), SubscriptionOptions::new(self.plan.qos()))]);
            }
        }
    }

    fn leave(&mut self, fleet: &mut Fleet, client: Index) {
        fleet.close(client, End::Disconnect);
        self.left += 1;
    }
}

impl Driver for Visit {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, _: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        match event {
            Event::Connected { session_present, .. } => self.on_connected(fleet, client, session_present),
            Event::Subscribed(None) => self.leave(fleet, client),
            Event::Subscribed(Some(reason)) => self.refused.add(|| format!("SUBACK, {reason}")),
            Event::Closed { cause, .. } => {
                let who = self.plan.who(client);
                self.refused.add(|| format!("{who}: {cause}"));
            }
            _ => {}
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        while let Some(client) = self.ramp.next_client(now) {
            self.plan.open(fleet, client, &self.identity, self.purpose);
        }
        self.ramp.next_time()
    }
}
