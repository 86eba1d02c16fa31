//! What the standard says became of Sessions and wills, given when connections opened and closed.

use super::run::{Attempt, NEVER, Run};
use crate::wire::history::At;
use std::time::Duration;
use willowmq::codec::ReasonCode;
use willowmq::timer::{Moment, Tick};

/// How a Session went on when its client connected again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continued {
    Yes,
    No,
    /// Its expiry had passed less than a tick ago.
    Perhaps,
}

/// What must have become of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Published once, at this moment.
    Published(Moment),
    /// Never published.
    Unpublished,
}

impl Attempt {
    /// Whether the broker has read the DISCONNECT.
    pub(super) fn said_goodbye(&self, run: &Run) -> bool {
        self.goodbye.is_some_and(|goodbye| goodbye.end <= run.sim.history(self.link).bytes_arrived)
    }

    pub(super) fn opened(&self, run: &Run) -> Option<At> {
        run.sim.history(self.link).opened
    }

    /// The end of the connection, unless the next CONNECT of the device was what ended it.
    fn closed_before(&self, run: &Run, next: Option<&Attempt>) -> Option<At> {
        let closed = run.sim.history(self.link).closed?;
        let next = next.and_then(|next| next.opened(run));
        let was_before = next.is_none_or(|next| closed.event < next.event);
        (was_before || self.said_goodbye(run)).then_some(closed)
    }

    /// The Session Expiry Interval in force at the end of the connection.
    fn expiry_at_end(&self, run: &Run) -> u32 {
        let changed = self.goodbye.filter(|_| self.said_goodbye(run)).and_then(|goodbye| goodbye.expiry);
        changed.unwrap_or(self.expiry)
    }

    /// Whether the Session of this connection went on with the next one.
    pub(super) fn continued_by(&self, run: &Run, next: &Attempt) -> Continued {
        let expiry = self.expiry_at_end(run);
        if next.clean_start || expiry == 0 {
            return Continued::No;
        }
        let Some(closed) = self.closed_before(run, Some(next)) else { return Continued::Yes };
        if expiry == NEVER {
            return Continued::Yes;
        }
        let ends = closed.moment + Duration::from_secs(expiry.into());
        let returned = next.opened(run).expect("only connections that were opened are compared").moment;
        if returned < ends {
            Continued::Yes
        } else if returned > ends + Tick::LENGTH {
            Continued::No
        } else {
            Continued::Perhaps
        }
    }

    /// What became of the will of this connection.
    pub(super) fn will_fate(&self, run: &Run, delay: u32, next: Option<&Attempt>, now: Moment) -> Fate {
        let is_discarded = self.goodbye.is_some_and(|goodbye| goodbye.reason == ReasonCode::Success);
        if is_discarded && self.said_goodbye(run) {
            return Fate::Unpublished; // [MQTT-3.14.4-3]
        }
        let expiry = self.expiry_at_end(run);
        let returned = next.and_then(|next| next.opened(run)).map(|at| at.moment);
        let goes_on = next.is_some_and(|next| !next.clean_start) && expiry > 0;
        match (self.closed_before(run, next), returned) {
            (None, None) => Fate::Unpublished,
            // A takeover.
            (None, Some(_)) if goes_on && delay > 0 => Fate::Unpublished,
            (None, Some(returned)) => Fate::Published(returned),
            (Some(closed), returned) => {
                let due = closed.moment + Duration::from_secs(delay.min(expiry).into());
                match returned {
                    Some(returned) if returned < due && goes_on => Fate::Unpublished,
                    Some(returned) => Fate::Published(due.min(returned)),
                    None if due <= now => Fate::Published(due),
                    None => Fate::Unpublished,
                }
            }
        }
    }
}
