//! Publishes in bursts, and sends again what was not acknowledged when the connection ended (§4.4).

use super::Turn;
use super::client::Farewell;
use super::line::Line;
use crate::history::{Did, Moment, Publishing, Stamp};
use crate::mqtt::parse::{PUBACK, PUBCOMP, PUBREC, PUBREL, Packet};
use crate::mqtt::wire::{Publish, acknowledgement};
use std::collections::VecDeque;

const WINDOW: usize = 32;

struct InFlight {
    packet_id: u16,
    number: u64,
    topic: String,
    /// `None` once PUBREC has come: PUBREL is sent, PUBCOMP awaited.
    publish: Option<Publish>,
}

pub(crate) struct Publisher {
    topics: Vec<String>,
    qos: u8,
    /// Versions of retained messages: the next one of a topic waits for the one before.
    retain: bool,
    number: u64,
    next_burst: Moment,
    in_flight: VecDeque<InFlight>,
}

impl Publisher {
    pub(crate) fn new(topics: Vec<String>, qos: u8, retain: bool) -> Self {
        Self { topics, qos, retain, number: 0, next_burst: Moment::ZERO, in_flight: VecDeque::new() }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn interrupted(&self) -> Vec<&'static str> {
        let word = |in_flight: &InFlight| match (self.qos, &in_flight.publish) {
            (1, _) => "PUBLISH without PUBACK",
            (_, Some(_)) => "PUBLISH without PUBREC",
            (_, None) => "PUBREL without PUBCOMP",
        };
        self.in_flight.iter().map(word).collect()
    }

    pub(crate) fn connected(
        &mut self,
        line: &mut Line,
        turn: &mut Turn<'_>,
        session_present: bool,
    ) -> Option<(Moment, Farewell)> {
        if !session_present {
            self.in_flight.clear(); // Its half of the session ends as well. [MQTT-3.2.2-5]
        }
        for in_flight in &self.in_flight {
            line.send(&match &in_flight.publish {
                Some(publish) => publish.clone().dup().encode(line.version),
                None => acknowledgement(PUBREL, in_flight.packet_id),
            });
        }
        turn.random.percent(20).then(|| (turn.now + turn.random.millis(100, 2000), Farewell::Cut))
    }

    pub(crate) fn act(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        if turn.calm || turn.now < self.next_burst {
            return;
        }
        self.next_burst = turn.now + turn.random.millis(20, 250);
        for _ in 0..turn.random.between(1, 10) {
            if self.in_flight.len() < WINDOW {
                self.publish(line, turn);
            }
        }
    }

    fn publish(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let topic = turn.random.pick(&self.topics).clone();
        if self.retain && self.in_flight.iter().any(|in_flight| in_flight.topic == topic) {
            return;
        }
        self.number += 1;
        let (number, qos, retain) = (self.number, self.qos, self.retain);
        let empty = retain && turn.random.percent(15);
        let length = if turn.random.percent(1) { 50_000 } else { turn.random.between(0, 300) as usize };
        let payload = if empty { String::new() } else { Stamp::message(line.who, number).payload(length) };
        let packet_id = line.next_id(|id| self.in_flight.iter().any(|in_flight| in_flight.packet_id == id));
        let mut publish = Publish::new(&topic, &payload).qos(qos).id(packet_id);
        publish = if retain { publish.retain() } else { publish };
        line.note(turn, Did::Publish(Publishing { number, topic: topic.clone(), qos, retain, empty }));
        line.send(&publish.encode(line.version));
        self.in_flight.push_back(InFlight { packet_id, number, topic, publish: Some(publish) });
    }

    pub(crate) fn on_packet(&mut self, line: &mut Line, turn: &mut Turn<'_>, packet: &Packet) {
        let at = self.in_flight.iter().position(|in_flight| in_flight.packet_id == packet.packet_id);
        let Some(at) = at else { return };
        match packet.kind {
            PUBACK | PUBREC if self.in_flight[at].publish.take().is_some() => {
                let (number, reason) = (self.in_flight[at].number, packet.reason);
                line.note(turn, Did::Acknowledged { number, reason });
                if packet.kind == PUBACK || reason >= 0x80 {
                    self.in_flight.remove(at);
                } else {
                    line.send(&acknowledgement(PUBREL, packet.packet_id));
                }
            }
            PUBREC => line.send(&acknowledgement(PUBREL, packet.packet_id)),
            PUBCOMP if self.in_flight[at].publish.is_none() => drop(self.in_flight.remove(at)),
            _ => {}
        }
    }
}
