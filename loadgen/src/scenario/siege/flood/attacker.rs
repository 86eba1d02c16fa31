//! One connection of a stranger.

use std::io;

use rustix::io::Errno;
use socket2::Socket;
use willowmq::codec::PacketKind;

use super::attack::{Attack, Random};
use crate::engine::{Layers, reset_on_close};

/// A CONNACK's fixed header, its flags and its Reason Code.
const CONNACK_BYTES: usize = 4;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The broker's machine did not take it.
    Refused,
    /// The broker closed it.
    Closed,
    /// The broker reset it.
    Reset,
    /// The stranger left.
    Left,
    /// A CONNACK said yes to a password that nobody has.
    LetIn,
}

/// One connection of a stranger.
pub(super) struct Attacker {
    pub(super) attack: Attack,
    socket: Socket,
    layers: Option<Box<Layers>>,
    /// What is still to be said; through the layers, if there are any.
    output: Vec<u8>,
    /// The first bytes of MQTT that came back.
    answer: Vec<u8>,
    pub(super) is_accepted: bool,
    /// Whether anything came back; of those who speak as good clients do, anything of MQTT.
    pub(super) is_answered: bool,
}

impl Attacker {
    pub(super) fn new(attack: Attack, socket: Socket, layers: Option<Box<Layers>>, output: Vec<u8>) -> Self {
        Self { attack, socket, layers, output, answer: Vec::new(), is_accepted: false, is_answered: false }
    }

    /// The kernel takes bytes, or has an error to tell.
    pub(super) fn on_writable(&mut self) -> Option<Ending> {
        if !self.is_accepted {
            match self.socket.take_error() {
                Ok(None) => self.is_accepted = true,
                Ok(Some(error)) | Err(error) => return Some(told(Errno::from_io_error(&error))),
            }
        }
        if self.attack != Attack::Drip {
            self.flush();
        }
        None
    }

    /// A second is over: says more.
    pub(super) fn go_on(&mut self, random: &mut Random) {
        match self.attack {
            _ if !self.is_accepted => {}
            Attack::Drip => self.drip(),
            attack => {
                // What nobody takes is not piled up.
                if self.output.is_empty() {
                    self.output = attack.sequel(random);
                }
                self.flush();
            }
        }
    }

    /// Says one byte: of the layers' handshake while there is one, then of MQTT.
    fn drip(&mut self) {
        match &mut self.layers {
            Some(layers) => {
                layers.wrap(&mut self.output);
                let count = write(&self.socket, &layers.unsent()[..layers.unsent().len().min(1)]);
                layers.advance(count);
            }
            None => {
                let count = write(&self.socket, &self.output[..self.output.len().min(1)]);
                self.output.drain(..count);
            }
        }
    }

    fn flush(&mut self) {
        match &mut self.layers {
            Some(layers) => {
                layers.wrap(&mut self.output);
                let count = write(&self.socket, layers.unsent());
                layers.advance(count);
            }
            None => {
                let count = write(&self.socket, &self.output);
                self.output.drain(..count);
            }
        }
    }

    /// Reads what the broker says, up to its end.
    pub(super) fn on_readable(&mut self, buffer: &mut [u8]) -> Option<Ending> {
        loop {
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Some(Ending::Closed),
                Ok(count) => {
                    self.is_accepted = true;
                    if let Some(ending) = self.on_answer(&buffer[..count]) {
                        return Some(ending);
                    }
                }
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                Err(error) => return Some(told(Some(error))),
            }
        }
    }

    fn on_answer(&mut self, bytes: &[u8]) -> Option<Ending> {
        let mut mqtt = Vec::new();
        let received = match &mut self.layers {
            None => {
                mqtt.extend_from_slice(bytes);
                Ok(())
            }
            Some(layers) => layers.receive(bytes, &mut mqtt),
        };
        self.is_answered |= !mqtt.is_empty();
        if received.is_err() {
            return Some(Ending::Closed);
        }
        if self.attack != Attack::Drip {
            self.flush();
        }
        let room = CONNACK_BYTES - self.answer.len();
        self.answer.extend_from_slice(&mqtt[..mqtt.len().min(room)]);
        let is_let_in = self.attack == Attack::Password
            && matches!(self.answer[..], [first, _, _, 0] if first == PacketKind::Connack.first_byte());
        is_let_in.then_some(Ending::LetIn)
    }

    /// Leaves, by a reset or in order.
    pub(super) fn leave(self, is_reset: bool) {
        if is_reset {
            let _ = reset_on_close(&self.socket); // Fails only where the connection is gone already.
        }
    }
}

/// What an error of a connection says about its end. The others, such as a time-out, are of connections that never were.
fn told(error: Option<Errno>) -> Ending {
    match error {
        Some(Errno::CONNRESET | Errno::PIPE) => Ending::Reset,
        _ => Ending::Refused,
    }
}

/// Writes as much of `bytes` as the kernel takes now.
fn write(socket: &Socket, bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        return 0;
    }
    // If it is an error, reading tells.
    rustix::io::retry_on_intr(|| rustix::io::write(socket, bytes)).unwrap_or_default()
}

/// Whether the machine, and not the broker, keeps a connection from being begun.
pub(super) fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::ADDRNOTAVAIL | Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN)
    )
}
