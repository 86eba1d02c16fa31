//! What is known of each device by its status topic: that it is on, or its will.
//!
//! A device says "on", retained, whenever it has connected, and its will says "off" there, retained as well. The sequence number of the
//! payload tells which: twice the number of the connection, and one more for the will.

use willowmq::codec::Publish;

use crate::ledger::Tally;
use crate::report::Report;
use crate::stamp::{Stamp, Stamper};

/// The statuses of all devices.
#[derive(Default)]
pub(super) struct Statuses {
    devices: Vec<Status>,
    pub(super) wills_heard: u64,
    false_wills: Tally,
    repeated_wills: Tally,
    missing_wills: Tally,
    stale: Tally,
    altered: Tally,
}

#[derive(Clone, Copy, Default)]
struct Status {
    /// It has vanished for good.
    is_dead: bool,
    /// How often its will was heard after that.
    wills: u32,
    /// What the broker keeps on its topic: see [`Statuses::see_retained`].
    retained: Option<bool>,
}

/// The sequence number of what a device says on a connection.
pub(super) fn on(connection: u64) -> u64 {
    2 * connection
}

/// That of the will of that connection.
pub(super) fn off(connection: u64) -> u64 {
    2 * connection + 1
}

fn is_will(stamp: Stamp) -> bool {
    stamp.sequence % 2 == 1
}

impl Statuses {
    pub(super) fn new(devices: usize) -> Self {
        Self { devices: vec![Status::default(); devices], ..Self::default() }
    }

    /// A device is about to vanish for good: its will has to come.
    pub(super) fn die(&mut self, device: usize) {
        self.devices[device].is_dead = true;
    }

    pub(super) fn is_dead(&self, device: usize) -> bool {
        self.devices[device].is_dead
    }

    /// Whether the wills of all who have vanished were heard.
    pub(super) fn are_deaths_heard(&self) -> bool {
        self.devices.iter().all(|status| !status.is_dead || status.wills > 0)
    }

    /// The watcher got a message.
    pub(super) fn hear(&mut self, publish: &Publish<'_>, stamper: &Stamper) {
        let Some((device, stamp)) = self.read(publish, stamper) else { return };
        if !is_will(stamp) {
            return;
        }
        self.wills_heard += 1;
        let status = &mut self.devices[device];
        status.wills += 1;
        if !status.is_dead {
            self.false_wills.add(|| format!("of device {device}, which is there"));
        } else if status.wills > 1 {
            self.repeated_wills.add(|| format!("of device {device}"));
        }
    }

    /// Somebody who asked for the retained messages got one.
    pub(super) fn see_retained(&mut self, publish: &Publish<'_>, stamper: &Stamper) {
        if let Some((device, stamp)) = self.read(publish, stamper) {
            self.devices[device].retained = Some(is_will(stamp));
        }
    }

    /// How many retained statuses were seen.
    pub(super) fn seen(&self) -> u64 {
        self.devices.iter().filter(|status| status.retained.is_some()).count() as u64
    }

    /// Whether there is a retained message of each.
    pub(super) fn are_all_seen(&self) -> bool {
        self.devices.iter().all(|status| status.retained.is_some())
    }

    fn read(&mut self, publish: &Publish<'_>, stamper: &Stamper) -> Option<(usize, Stamp)> {
        match stamper.read(publish.payload) {
            Ok(stamp) if (stamp.publisher as usize) < self.devices.len() => Some((stamp.publisher as usize, stamp)),
            _ => {
                self.altered.add(|| format!("on {}", publish.topic));
                None
            }
        }
    }

    /// Judges, and tells.
    pub(super) fn tell(mut self, report: &mut Report) {
        for (device, status) in self.devices.iter().enumerate() {
            if status.is_dead && status.wills == 0 {
                self.missing_wills.add(|| format!("of device {device}, which vanished"));
            }
            match status.retained {
                None => self.stale.add(|| format!("device {device}: nothing is retained")),
                Some(is_will) if is_will != status.is_dead => {
                    let (says, is) = if is_will { ("off", "on") } else { ("on", "gone") };
                    self.stale.add(|| format!("device {device}: it says {says}, and the device is {is}"));
                }
                Some(_) => {}
            }
        }
        for (tally, name, title) in [
            (self.false_wills, "false_wills", "wills of clients that came back"),
            (self.repeated_wills, "wills_repeated", "wills repeated"),
            (self.missing_wills, "wills_missing", "wills of clients that vanished, not heard"),
            (self.stale, "status_wrong", "retained statuses that are wrong"),
            (self.altered, "status_altered", "statuses altered"),
        ] {
            report.check(tally.into_check(name, title, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Time;
    use crate::stamp::STAMP_BYTES;
    use willowmq::codec::{Forwarded, QoS, SubscriptionIdentifiers};

    /// Two devices, of which the second has vanished.
    struct Watch {
        statuses: Statuses,
        stamper: Stamper,
    }

    impl Watch {
        fn new() -> Self {
            let mut statuses = Statuses::new(2);
            statuses.die(1);
            Self { statuses, stamper: Stamper::with_key(1) }
        }

        fn with(mut self, device: u32, sequence: u64, see: fn(&mut Statuses, &Publish<'_>, &Stamper)) -> Self {
            let mut payload = Vec::new();
            self.stamper.write(Stamp { publisher: device, sequence, at: Time(1) }, STAMP_BYTES, &mut payload);
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: "status",
                packet_id: None,
                topic_alias: None,
                message_expiry_interval: None,
                subscription_identifiers: SubscriptionIdentifiers::default(),
                forwarded: Forwarded::default(),
                payload: &payload,
            };
            see(&mut self.statuses, &publish, &self.stamper);
            self
        }

        fn hears(self, device: u32, sequence: u64) -> Self {
            self.with(device, sequence, Statuses::hear)
        }

        fn sees(self, device: u32, sequence: u64) -> Self {
            self.with(device, sequence, Statuses::see_retained)
        }

        /// The checks that fail.
        fn found(self) -> Vec<String> {
            let mut report = Report::new("test", String::new());
            self.statuses.tell(&mut report);
            report.checks.into_iter().filter(|check| check.count > 0).map(|check| check.name).collect()
        }
    }

    #[test]
    fn what_is_right_passes() {
        let watch = Watch::new().hears(0, on(0)).hears(1, on(0)).hears(0, on(1)).hears(1, off(0));
        assert!(watch.statuses.are_deaths_heard());
        assert_eq!(watch.sees(0, on(1)).sees(1, off(0)).found(), [""; 0]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_found() {
        let right = || Watch::new().hears(1, off(0)).sees(0, on(1)).sees(1, off(0));
        assert_eq!(right().hears(0, off(0)).found(), ["false_wills"]);
        assert_eq!(right().hears(1, off(0)).found(), ["wills_repeated"]);
        assert_eq!(Watch::new().sees(0, on(1)).sees(1, off(0)).found(), ["wills_missing"]);
        assert_eq!(right().sees(0, off(0)).found(), ["status_wrong"]);
        assert_eq!(right().sees(1, on(0)).found(), ["status_wrong"]);
        assert_eq!(Watch::new().hears(1, off(0)).sees(1, off(0)).found(), ["status_wrong"], "nothing is retained");
        assert_eq!(right().hears(7, on(0)).found(), ["status_altered"], "there is no such device");
    }
}
