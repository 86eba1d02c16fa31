//! What a shard does when the broker runs out of memory.
//!
//! The owner watches the memory of the process and says how pressing it is; each level includes those before it. What the shard gives up
//! is what costs least: first newcomers, then what nobody was promised, then time. A message of QoS 1 or 2 is never given up.

use super::Shard;
use crate::timer::Moment;

/// How short memory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// CONNECTs are refused with 0x89 Server busy (0x03 for 3.x).
    RefuseConnections,
    /// QoS 0 messages are dropped, wills excepted.
    ShedQos0,
    /// Who publishes is not read, and wills that are due wait. The Keep Alive of whoever is not read is not held against it.
    PausePublishers,
}

impl Shard {
    /// Memory is that short from now on.
    pub fn set_pressure(&mut self, _now: Moment, pressure: Pressure) {
        self.pressure = pressure;
    }

    /// How short memory is.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }
}
