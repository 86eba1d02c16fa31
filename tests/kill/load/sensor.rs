//! A device of a crowd: it connects with a will and stays; after a kill it returns, or it does not.

use super::FOREVER;
use crate::history::{Connecting, Who, Will};
use std::time::Duration;

pub(crate) struct Sensor {
    returns: bool,
    /// Of its CONNECTs.
    number: u64,
}

impl Sensor {
    pub(crate) fn new(returns: bool) -> Self {
        Self { returns, number: 0 }
    }

    pub(crate) fn may_come(&self) -> bool {
        self.number == 0 || self.returns
    }

    /// Every third will is retained.
    pub(crate) fn connecting(&mut self, who: Who) -> Connecting {
        self.number += 1;
        let (topic, retain, delay) = (format!("state/device/{who}"), who.is_multiple_of(3), Duration::ZERO);
        let will = Will { number: self.number, topic, qos: 1 + (who % 2) as u8, retain, delay };
        Connecting { clean_start: false, expiry: FOREVER, keep_alive: Duration::ZERO, will: Some(will) }
    }
}
