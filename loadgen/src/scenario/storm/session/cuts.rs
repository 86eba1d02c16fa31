//! Who is cut when, and who comes back.

use super::{SILENCE, Session};
use crate::engine::{End, Fleet, Time};
use crate::scenario::storm::How;

/// How many clients are cut before input is looked at again.
const CUT_SLICE: usize = 16;

impl Session {
    pub(super) fn cut_those_due(&mut self, fleet: &mut Fleet, now: Time) -> Time {
        let Some(began) = self.storm_began else { return Time::NEVER };
        for _ in 0..CUT_SLICE {
            if self.next_cut == self.cuts_end {
                return Time::NEVER;
            }
            let due = match self.storm.how {
                How::Stagger(over) => began + over.mul_f64(self.next_cut as f64 / self.cuts_end as f64),
                _ => began,
            };
            if due > now {
                return due;
            }
            self.cut(fleet, self.next_cut);
            self.next_cut += 1;
        }
        now
    }

    fn cut(&mut self, fleet: &mut Fleet, device: usize) {
        let now = fleet.clock().now(); // Before it is cut, so that no will can seem early.
        let gone = match self.storm.how {
            How::Silent => {
                fleet.mute(device);
                fleet.last_sent(device) + fleet.keep_alive(device) * 3 / 2 // [MQTT-3.1.2-22]
            }
            How::Reset => {
                fleet.close(device, End::Reset);
                now
            }
            How::Close | How::Stagger(_) | How::Takeover => {
                fleet.close(device, End::Close);
                now
            }
        };
        let due = gone + self.storm.delay();
        self.wills.cut(device, now, due);
        if self.comes_back(device) {
            self.returns.push_back((now + self.storm.after, device));
            self.silent_until = self.silent_until.max(due + SILENCE);
        }
    }

    /// Spreads those who come back evenly over those who are cut.
    fn comes_back(&self, device: usize) -> bool {
        let (cut, back) = self.storm.cut_and_back();
        (device + 1) * back / cut > device * back / cut
    }

    pub(super) fn bring_back(&mut self, now: Time) -> Time {
        while let Some((at, device)) = self.returns.front().copied() {
            if at > now {
                return at;
            }
            self.returns.pop_front();
            self.ramp.extend([device]);
        }
        Time::NEVER
    }
}
