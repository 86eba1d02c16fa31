//! Has one subscription in a session that stays, and acknowledges what comes.

use super::Turn;
use super::client::Farewell;
use super::line::Line;
use crate::history::{Did, Moment, Payload, Receiving};
use crate::mqtt::parse::{PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Packet, SUBACK, UNSUBACK};
use crate::mqtt::wire;
use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Presence {
    Always,
    /// Mostly away, so that messages queue.
    Seldom,
    /// Always there, but takes its time for every acknowledgement.
    Slow,
    /// Always there; unsubscribes and subscribes again.
    Restless,
}

/// What it wants of the broker, and whether it was told that it has it.
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    Subscribed { granted: bool },
    Unsubscribed { granted: bool },
}

pub(crate) struct Subscriber {
    filter: &'static str,
    qos: u8,
    presence: Presence,
    wish: Wish,
    /// Acknowledgements and when they are due.
    acknowledgements: VecDeque<(Moment, Vec<u8>)>,
    next_change: Moment,
}

impl Subscriber {
    pub(crate) fn new(filter: &'static str, qos: u8, presence: Presence) -> Self {
        let (wish, acknowledgements) = (Wish::Subscribed { granted: false }, VecDeque::new());
        Self { filter, qos, presence, wish, acknowledgements, next_change: Moment::ZERO }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.acknowledgements.is_empty()
            && matches!(self.wish, Wish::Subscribed { granted: true } | Wish::Unsubscribed { granted: true })
    }

    pub(crate) fn interrupted(&self) -> Vec<&'static str> {
        let wish = match self.wish {
            Wish::Subscribed { granted: false } => Some("SUBSCRIBE without SUBACK"),
            Wish::Unsubscribed { granted: false } => Some("UNSUBSCRIBE without UNSUBACK"),
            _ => None,
        };
        let owes = (!self.acknowledgements.is_empty()).then_some("acknowledgement owed to the broker");
        wish.into_iter().chain(owes).collect()
    }

    pub(crate) fn connected(
        &mut self,
        line: &mut Line,
        turn: &mut Turn<'_>,
        session_present: bool,
    ) -> Option<(Moment, Farewell)> {
        self.acknowledgements.clear();
        match self.wish {
            Wish::Subscribed { granted } if !granted || !session_present => self.subscribe(line, turn),
            Wish::Unsubscribed { granted: false } => self.unsubscribe(line, turn),
            _ => {}
        }
        self.next_change = turn.now + turn.random.millis(200, 800);
        let farewell = if turn.random.percent(50) { Farewell::Cut } else { Farewell::Disconnect };
        (self.presence == Presence::Seldom).then(|| (turn.now + turn.random.millis(100, 500), farewell))
    }

    fn subscribe(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        self.wish = Wish::Subscribed { granted: false };
        let filter = self.filter.to_owned();
        line.note(turn, Did::Subscribe { filter, qos: self.qos });
        let packet_id = line.next_id(|_| false);
        line.send(&wire::subscribe(line.version, packet_id, &[(self.filter, self.qos)], &[]));
    }

    fn unsubscribe(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        self.wish = Wish::Unsubscribed { granted: false };
        line.note(turn, Did::Unsubscribe { filter: self.filter.to_owned() });
        let packet_id = line.next_id(|_| false);
        line.send(&wire::unsubscribe(line.version, packet_id, &[self.filter]));
    }

    pub(crate) fn act(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        while let Some((due, bytes)) = self.acknowledgements.front()
            && turn.now >= *due
        {
            line.send(bytes);
            self.acknowledgements.pop_front();
        }
        if self.presence != Presence::Restless || turn.calm || turn.now < self.next_change {
            return;
        }
        self.next_change = turn.now + turn.random.millis(200, 800);
        match self.wish {
            Wish::Subscribed { granted: true } => self.unsubscribe(line, turn),
            Wish::Unsubscribed { granted: true } => self.subscribe(line, turn),
            _ => {}
        }
    }

    pub(crate) fn on_packet(&mut self, line: &mut Line, turn: &mut Turn<'_>, packet: &Packet) {
        let filter = self.filter.to_owned();
        match packet.kind {
            PUBLISH => {
                note_message(line, turn, packet);
                match packet.qos() {
                    0 => {}
                    1 => self.acknowledge(turn, PUBACK, packet.packet_id),
                    _ => self.acknowledge(turn, PUBREC, packet.packet_id),
                }
            }
            PUBREL => {
                line.note(turn, Did::Release { packet_id: packet.packet_id });
                self.acknowledge(turn, PUBCOMP, packet.packet_id);
            }
            SUBACK => {
                self.wish = Wish::Subscribed { granted: true };
                line.note(turn, Did::Suback { filter, reason: packet.reasons[0] });
            }
            UNSUBACK => {
                self.wish = Wish::Unsubscribed { granted: true };
                line.note(turn, Did::Unsuback { filter });
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, turn: &mut Turn<'_>, kind: u8, packet_id: u16) {
        let lag = match self.presence {
            Presence::Slow => turn.random.millis(0, 60),
            _ => Duration::ZERO,
        };
        let last = self.acknowledgements.back().map_or(Moment::ZERO, |(due, _)| *due); // They keep their order.
        self.acknowledgements.push_back((last.max(turn.now + lag), wire::acknowledgement(kind, packet_id)));
    }

    pub(crate) fn absence(&self, turn: &mut Turn<'_>) -> Duration {
        match self.presence {
            Presence::Seldom if !turn.calm => turn.random.millis(500, 3000),
            _ => turn.random.millis(0, 80),
        }
    }
}

/// Writes down a PUBLISH that has come.
pub(super) fn note_message(line: &Line, turn: &mut Turn<'_>, packet: &Packet) {
    let receiving = Receiving {
        packet_id: packet.packet_id,
        qos: packet.qos(),
        dup: packet.dup(),
        retain: packet.retain(),
        topic: packet.topic.clone(),
        payload: Payload::read(&packet.payload),
    };
    line.note(turn, Did::Receive(receiving));
}
