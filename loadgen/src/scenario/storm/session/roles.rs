//! Which client of the fleet does what.

use std::ops::Range;

use crate::engine::Index;
use crate::scenario::storm::{How, Storm};

/// The clients of the fleet, by what they do.
pub(super) struct Roles {
    devices: usize,
    watchers: usize,
    takeovers: usize,
}

impl Roles {
    pub(super) fn new(storm: &Storm) -> Self {
        let takeovers = if storm.how == How::Takeover { storm.cut_and_back().0 } else { 0 };
        Self { devices: storm.clients, watchers: storm.watchers, takeovers }
    }

    pub(super) fn devices(&self) -> Range<Index> {
        0..self.devices
    }

    pub(super) fn watchers(&self) -> Range<Index> {
        self.devices..self.devices + self.watchers
    }

    pub(super) fn takeovers(&self) -> Range<Index> {
        let first = self.watchers().end;
        first..first + self.takeovers
    }

    /// The client that looks at what is retained afterwards.
    pub(super) fn late_watcher(&self) -> Index {
        self.takeovers().end
    }

    /// The first client of ordinary traffic.
    pub(super) fn background(&self) -> Index {
        self.late_watcher() + 1
    }

    /// The device that `client` is a connection of.
    pub(super) fn device_of(&self, client: Index) -> Option<usize> {
        if self.devices().contains(&client) {
            return Some(client);
        }
        self.takeovers().contains(&client).then(|| client - self.takeovers().start)
    }
}
