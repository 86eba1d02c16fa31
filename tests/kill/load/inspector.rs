//! A new subscriber that looks at the retained messages once.

use super::Turn;
use super::client::Farewell;
use super::line::Line;
use super::subscriber::note_message;
use crate::history::{Did, Moment};
use crate::mqtt::parse::{PUBLISH, Packet, SUBACK};
use crate::mqtt::wire;
use std::time::Duration;

const FILTER: &str = "state/#";
/// How long after SUBACK stored messages may take; nothing says that all have come.
const LOOK: Duration = Duration::from_millis(800);
const LOOK_WHEN_SETTLED: Duration = Duration::from_millis(1500);

pub(crate) struct Inspector {
    settled: bool,
    granted: Option<Moment>,
    done: bool,
}

impl Inspector {
    pub(crate) fn new(settled: bool) -> Self {
        Self { settled, granted: None, done: false }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn connected(&mut self, line: &mut Line, turn: &mut Turn<'_>) -> Option<(Moment, Farewell)> {
        line.note(turn, Did::Subscribe { filter: FILTER.to_owned(), qos: 0 });
        let packet_id = line.next_id(|_| false);
        line.send(&wire::subscribe(line.version, packet_id, &[(FILTER, 0)], &[]));
        None
    }

    pub(crate) fn on_packet(&mut self, line: &mut Line, turn: &mut Turn<'_>, packet: &Packet) {
        match packet.kind {
            PUBLISH => note_message(line, turn, packet),
            SUBACK => {
                self.granted = Some(turn.now);
                line.note(turn, Did::Suback { filter: FILTER.to_owned(), reason: packet.reasons[0] });
            }
            _ => {}
        }
    }

    pub(crate) fn has_seen_enough(&self, now: Moment) -> bool {
        let look = if self.settled { LOOK_WHEN_SETTLED } else { LOOK };
        !self.done && self.granted.is_some_and(|granted| now >= granted + look)
    }

    pub(crate) fn look_is_over(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        self.granted = None;
        line.note(turn, Did::Looked { settled: self.settled });
    }

    /// Its connection has ended, whether it has seen anything or not.
    pub(crate) fn ended(&mut self) -> Duration {
        self.done = true;
        Duration::ZERO
    }
}
