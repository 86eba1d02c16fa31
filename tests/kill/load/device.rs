//! Has a will, and leaves in every way there is.

use super::client::Farewell;
use super::{FOREVER, Turn};
use crate::history::{Connecting, Moment, Who, Will};
use crate::random::Random;
use std::time::Duration;

pub(crate) struct Device {
    keep_alive: Duration,
    /// Of its CONNECTs.
    number: u64,
}

impl Device {
    pub(crate) fn new(keep_alive: Duration) -> Self {
        Self { keep_alive, number: 0 }
    }

    /// The same QoS, Will Retain and topic for all CONNECTs, everything else by chance.
    pub(crate) fn connecting(&mut self, who: Who, version: u8, random: &mut Random) -> Connecting {
        self.number += 1;
        let clean_start = random.percent(25);
        let persistent = if version == 5 { random.percent(80) } else { !clean_start };
        let delay = Duration::from_secs(if version == 5 { *random.pick(&[0, 0, 1, 2]) } else { 0 });
        let topic = format!("state/device/{who}");
        let will = Will { number: self.number, topic, qos: (who % 3) as u8, retain: who % 4 < 2, delay };
        let expiry = if persistent { FOREVER } else { Duration::ZERO };
        Connecting { clean_start, expiry, keep_alive: self.keep_alive, will: Some(will) }
    }

    /// When and how it leaves; half of them stay until the broker dies.
    pub(crate) fn leave(version: u8, turn: &mut Turn<'_>) -> Option<(Moment, Farewell)> {
        let farewell = match turn.random.between(0, 9) {
            0..=4 => return None,
            5 | 6 => Farewell::Disconnect,
            7 if version == 5 => Farewell::DisconnectWithWill,
            _ => Farewell::Cut,
        };
        Some((turn.now + turn.random.millis(50, 1500), farewell))
    }

    /// Back at once, around the end of the grace, or after a long time.
    pub(crate) fn absence(random: &mut Random) -> Duration {
        match random.between(0, 9) {
            0..=4 => random.millis(30, 400),
            5..=7 => random.millis(500, 3500),
            _ => random.millis(4000, 10_000),
        }
    }
}
