//! One client: a connection that comes and goes, and the role that it plays on it.

use super::device::Device;
use super::inspector::Inspector;
use super::line::Line;
use super::publisher::Publisher;
use super::sensor::Sensor;
use super::subscriber::Subscriber;
use super::{Turn, connect, persistent};
use crate::history::{Connecting, Did, Event, Moment, Who};
use crate::mqtt::parse::{CONNACK, DISCONNECT, Packet};
use crate::mqtt::wire;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How soon a refused client tries again.
const RETRY: Duration = Duration::from_millis(10);
/// The same for one of a crowd.
const RETRY_OF_MANY: Duration = Duration::from_millis(200);
/// How often a client with a Keep Alive sends PINGREQ.
const PING: Duration = Duration::from_millis(500);

pub(crate) enum Role {
    Publisher(Publisher),
    Subscriber(Subscriber),
    Device(Device),
    Sensor(Sensor),
    Inspector(Inspector),
}

/// ```text
/// Away ─CONNECT─▶ Asking ─CONNACK─▶ Connected ─DISCONNECT─▶ Leaving ─closed─▶ Away
///   ▲────────────────┴──── closed, cut ─┘
/// ```
enum State {
    Away { until: Moment },
    Asking,
    Connected,
    Leaving,
}

/// How a client leaves of its own accord.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Farewell {
    Disconnect,
    /// Reason Code 0x04, which 5.0 alone has.
    DisconnectWithWill,
    Cut,
}

pub(crate) struct Client {
    pub(crate) name: String,
    line: Line,
    state: State,
    role: Role,
    leave: Option<(Moment, Farewell)>,
    keep_alive: Duration,
    next_ping: Moment,
}

impl Client {
    pub(crate) fn new(who: Who, name: String, version: u8, role: Role) -> Self {
        let (line, state) = (Line::new(who, version), State::Away { until: Moment::ZERO });
        let (leave, keep_alive, next_ping) = (None, Duration::ZERO, Moment::ZERO);
        Self { name, line, state, role, leave, keep_alive, next_ping }
    }

    pub(crate) fn inspector(who: Who, settled: bool) -> Self {
        let version = 4 + (who % 2) as u8;
        Self::new(who, format!("inspector-{who}"), version, Role::Inspector(Inspector::new(settled)))
    }

    pub(crate) fn stream(&self) -> Option<&TcpStream> {
        self.line.stream()
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        !self.line.has_sent_all()
    }

    /// Whether nothing that it began is unfinished.
    pub(crate) fn is_quiet(&self) -> bool {
        match &self.role {
            Role::Publisher(publisher) => publisher.in_flight() == 0,
            Role::Subscriber(subscriber) => subscriber.is_settled() && matches!(self.state, State::Connected),
            Role::Device(_) => !matches!(self.state, State::Asking | State::Leaving),
            Role::Sensor(sensor) => matches!(self.state, State::Connected) || !sensor.may_come(),
            Role::Inspector(inspector) => inspector.is_done(),
        }
    }

    pub(crate) fn is_inspector(&self) -> bool {
        matches!(self.role, Role::Inspector(_))
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(&self.role, Role::Inspector(inspector) if inspector.is_done())
    }

    /// What a kill would interrupt now.
    pub(crate) fn interrupted(&self) -> Vec<&'static str> {
        let mut words = match self.state {
            State::Asking => vec!["CONNECT without CONNACK"],
            State::Leaving => vec!["DISCONNECT on its way"],
            _ => vec![],
        };
        match &self.role {
            Role::Publisher(publisher) => words.extend(publisher.interrupted()),
            Role::Subscriber(subscriber) => words.extend(subscriber.interrupted()),
            Role::Device(_) if matches!(self.state, State::Away { .. }) => words.push("a device away"),
            Role::Device(_) if matches!(self.state, State::Connected) => words.push("a will armed"),
            Role::Device(_) | Role::Sensor(_) => {}
            Role::Inspector(_) => words.push("retained messages on their way"),
        }
        words
    }

    /// Receives, then does what is due, then sends.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>, address: SocketAddr) {
        self.receive(turn);
        match self.state {
            State::Away { until } if turn.now >= until && self.may_come(turn.calm) => self.come(turn, address),
            State::Connected => self.act(turn),
            _ => {}
        }
        self.line.flush();
    }

    fn may_come(&self, calm: bool) -> bool {
        match &self.role {
            Role::Device(_) => !calm,
            Role::Sensor(sensor) => sensor.may_come(),
            _ => true,
        }
    }

    fn come(&mut self, turn: &mut Turn<'_>, address: SocketAddr) {
        if !self.line.open(address) {
            turn.log.note(Event::Refused);
            let rest = if matches!(self.role, Role::Sensor(_)) { RETRY_OF_MANY } else { RETRY };
            self.state = State::Away { until: turn.now + rest };
            return;
        }
        let connecting = self.connecting(turn);
        self.keep_alive = connecting.keep_alive;
        let packet = connect(self.line.version, &self.name, &connecting, self.line.who, 20);
        self.line.note(turn, Did::Connect(connecting));
        self.line.send(&packet);
        self.state = State::Asking;
    }

    fn connecting(&mut self, turn: &mut Turn<'_>) -> Connecting {
        match &mut self.role {
            Role::Publisher(_) | Role::Subscriber(_) => persistent(false),
            Role::Device(device) => device.connecting(self.line.who, self.line.version, turn.random),
            Role::Sensor(sensor) => sensor.connecting(self.line.who),
            Role::Inspector(_) => Connecting { clean_start: true, expiry: Duration::ZERO, ..persistent(true) },
        }
    }

    fn receive(&mut self, turn: &mut Turn<'_>) {
        let (packets, closed) = self.line.receive();
        for packet in &packets {
            self.on_packet(turn, packet);
        }
        if closed {
            self.line.note(turn, Did::Closed);
            self.go_away(turn);
        }
    }

    fn on_packet(&mut self, turn: &mut Turn<'_>, packet: &Packet) {
        match (&mut self.role, packet.kind) {
            (_, CONNACK) if packet.reason != 0 => self.line.note(turn, Did::Refusal { reason: packet.reason }),
            (_, CONNACK) => self.connected(turn, packet.session_present),
            (_, DISCONNECT) => {} // The end follows.
            (Role::Publisher(publisher), _) => publisher.on_packet(&mut self.line, turn, packet),
            (Role::Subscriber(subscriber), _) => subscriber.on_packet(&mut self.line, turn, packet),
            (Role::Inspector(inspector), _) => inspector.on_packet(&mut self.line, turn, packet),
            (Role::Device(_) | Role::Sensor(_), _) => {}
        }
    }

    fn connected(&mut self, turn: &mut Turn<'_>, session_present: bool) {
        self.line.note(turn, Did::Connack { session_present });
        self.state = State::Connected;
        self.next_ping = turn.now + PING;
        self.leave = match &mut self.role {
            Role::Publisher(publisher) => publisher.connected(&mut self.line, turn, session_present),
            Role::Subscriber(subscriber) => subscriber.connected(&mut self.line, turn, session_present),
            Role::Device(_) => Device::leave(self.line.version, turn),
            Role::Sensor(_) => None,
            Role::Inspector(inspector) => inspector.connected(&mut self.line, turn),
        };
    }

    fn act(&mut self, turn: &mut Turn<'_>) {
        match &mut self.role {
            Role::Publisher(publisher) => publisher.act(&mut self.line, turn),
            Role::Subscriber(subscriber) => subscriber.act(&mut self.line, turn),
            Role::Inspector(inspector) if inspector.has_seen_enough(turn.now) => {
                inspector.look_is_over(&mut self.line, turn);
                self.leave = Some((turn.now, Farewell::Disconnect));
            }
            Role::Inspector(_) | Role::Device(_) | Role::Sensor(_) => {}
        }
        if !self.keep_alive.is_zero() && turn.now >= self.next_ping {
            self.line.send(&wire::pingreq());
            self.next_ping = turn.now + PING;
        }
        match self.leave {
            Some((at, farewell)) if turn.now >= at && self.line.has_sent_all() => self.bid(turn, farewell),
            _ => {}
        }
    }

    fn bid(&mut self, turn: &mut Turn<'_>, farewell: Farewell) {
        self.leave = None;
        if turn.calm && matches!(self.role, Role::Publisher(_) | Role::Subscriber(_)) {
            return;
        }
        match farewell {
            Farewell::Cut => {
                self.line.note(turn, Did::Cut);
                self.go_away(turn);
            }
            Farewell::Disconnect | Farewell::DisconnectWithWill => {
                let with_will = farewell == Farewell::DisconnectWithWill;
                self.line.note(turn, Did::Disconnect { with_will });
                self.line.send(&if with_will { wire::disconnect_with(4, &[]) } else { wire::disconnect() });
                self.state = State::Leaving;
            }
        }
    }

    fn go_away(&mut self, turn: &mut Turn<'_>) {
        self.line.hang_up();
        self.leave = None;
        let absence = match &mut self.role {
            Role::Publisher(_) | Role::Sensor(_) => turn.random.millis(0, 60),
            Role::Subscriber(subscriber) => subscriber.absence(turn),
            Role::Device(_) => Device::absence(turn.random),
            Role::Inspector(inspector) => inspector.ended(),
        };
        self.state = State::Away { until: turn.now + absence };
    }
}
