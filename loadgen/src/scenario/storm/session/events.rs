//! What happens to each client, and what is due.

use willowmq::codec::{QoS, SubscriptionOptions};

use super::Session;
use crate::engine::{Driver, Event, Fleet, Index, Time};
use crate::scenario::storm::How;

impl Session {
    fn on_watcher_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: &Event<'_>) {
        match event {
            Event::Connected { .. } => {
                fleet.subscribe(client, &[(&self.filter, SubscriptionOptions::new(self.storm.watcher_qos))]);
            }
            Event::Subscribed(None) => self.subscribed += 1,
            Event::Subscribed(Some(reason)) => self.disconnected.add(|| format!("a watcher: SUBACK, {reason}")),
            Event::Message(publish) if publish.payload.is_empty() && self.aftermath.is_removing() => {}
            Event::Message(publish) => {
                let stamp = self.stamper.read(publish.payload);
                self.wills.on_will(client - self.roles.watchers().start, at, publish, stamp);
            }
            Event::Closed { cause, .. } => {
                self.watchers_gone += 1;
                self.disconnected.add(|| format!("a watcher: {cause}"));
            }
            _ => {}
        }
    }

    fn on_late_watcher_event(&mut self, fleet: &mut Fleet, client: Index, event: &Event<'_>) {
        match event {
            Event::Connected { .. } if self.aftermath.is_removing() => {}
            Event::Connected { .. } => {
                fleet.subscribe(client, &[(&self.filter, SubscriptionOptions::new(QoS::AtLeastOnce))]);
            }
            Event::Message(publish) => self.aftermath.on_message(publish, &self.stamper, self.wills.topics()),
            Event::Acknowledged(_) => self.aftermath.on_removed(),
            Event::Refused(_) => self.is_late_watcher_gone = true,
            Event::Closed { cause, .. } => {
                self.is_late_watcher_gone = true;
                self.disconnected.add(|| format!("the late watcher: {cause}"));
            }
            _ => {}
        }
    }

    fn on_device_event(&mut self, device: usize, at: Time, event: &Event<'_>) {
        match event {
            Event::Message(publish) => self.wills.on_stray(device, publish),
            // Those that come back, and not those that took over, whose will is due all the same.
            Event::Connected { .. } if self.storm.how != How::Takeover => self.wills.came_back(device, at),
            Event::Closed { cause, is_violation } => {
                let is_expected = self.wills.fate(device).is_away() && !is_violation;
                if !is_expected && !self.is_parting {
                    self.disconnected.add(|| format!("device {device}: {cause}"));
                }
            }
            _ => {}
        }
    }
}

impl Driver for Session {
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>) {
        self.ramp.on_event(client, &event);
        if let Some(device) = self.roles.device_of(client) {
            self.on_device_event(device, at, &event);
        } else if self.roles.watchers().contains(&client) {
            self.on_watcher_event(fleet, client, at, &event);
        } else if client == self.roles.late_watcher() {
            self.on_late_watcher_event(fleet, client, &event);
        } else if let Some(traffic) = &mut self.traffic {
            traffic.on_event(fleet, client, at, &event, &self.stamper);
        }
    }

    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        self.now = now;
        let mut next = self.cut_those_due(fleet, now).min(self.bring_back(now));
        while let Some(client) = self.ramp.next_client(now) {
            self.open(fleet, client);
        }
        next = next.min(self.ramp.next_time());
        if now < self.silent_until {
            next = next.min(self.silent_until);
        }
        self.aftermath.remove(fleet, self.roles.late_watcher(), self.wills.topics());
        match &mut self.traffic {
            Some(traffic) => next.min(traffic.on_time(fleet, now, &self.stamper)),
            None => next,
        }
    }
}
