//! WebSocket: an HTTP request that becomes one (RFC 6455), and then MQTT in its binary messages (§6 of MQTT).
//!
//! MQTT is a stream of bytes here as elsewhere: packets may begin and end anywhere in messages and frames. [MQTT-6.0.0-2] So no frame is
//! ever collected. What has come of one is handed on at once, and a connection in between holds no more than the beginning of a head.

mod frames;
mod origin;
mod upgrade;

use std::mem;
use std::sync::Arc;

pub(crate) use frames::WebSocketFault;
pub(crate) use upgrade::HttpFault;

use super::{Broken, CloseCode, TransportError};
use crate::config::Listener;
use frames::{Frames, Head};
use origin::Origins;
use upgrade::Upgrade;

/// What a frame may hold beside the largest packet. Frames are not collected, so it is no matter of memory: a longer one is a
/// mistake, and would keep its client from being asked anything in between.
const FRAME_BYTES_BESIDE: u64 = 16 * 1024 * 1024;

/// What a listener lets in as a WebSocket.
pub(super) struct Admittance {
    path: String,
    origins: Origins,
    frame_bytes_max: u64,
}

impl Admittance {
    pub(super) fn new(listener: &Listener, packet_bytes_max: usize) -> Result<Self, TransportError> {
        if !listener.websocket_path.starts_with('/') || listener.websocket_path.contains(['?', '#', ' ']) {
            let problem = format!("{:?} is no path such as \"/mqtt\"", listener.websocket_path);
            return Err(TransportError::setting("websocket_path", problem));
        }
        Ok(Self {
            path: listener.websocket_path.clone(),
            origins: Origins::of(listener)?,
            frame_bytes_max: packet_bytes_max as u64 + FRAME_BYTES_BESIDE,
        })
    }
}

/// A WebSocket, from the request to its close frame.
pub(super) struct WebSocket {
    stage: Stage,
    /// What is to be sent in answer: to the request, to a ping, at the end.
    outgoing: Vec<u8>,
}

enum Stage {
    /// The request has not come in full.
    Upgrade {
        upgrade: Upgrade,
        admittance: Arc<Admittance>,
    },
    Open(Frames),
    /// The close frame, or the refusal of the request, was said.
    Closed,
}

impl WebSocket {
    pub(super) fn new(admittance: Arc<Admittance>) -> Self {
        Self { stage: Stage::Upgrade { upgrade: Upgrade::default(), admittance }, outgoing: Vec::new() }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Takes bytes from the layer outside, and appends the MQTT in them to `mqtt`.
    pub(super) fn receive(&mut self, mut bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<(), Broken> {
        if let Stage::Upgrade { upgrade, admittance } = &mut self.stage {
            match upgrade.receive(bytes, admittance) {
                Ok(None) => return Ok(()),
                Ok(Some(accepted)) => {
                    self.outgoing.extend_from_slice(accepted.response.as_bytes());
                    self.stage = Stage::Open(Frames::new(admittance.frame_bytes_max));
                    bytes = &bytes[accepted.length..];
                }
                Err(fault) => {
                    self.outgoing.extend_from_slice(fault.response().as_bytes());
                    self.stage = Stage::Closed;
                    return Err(Broken::Http(fault));
                }
            }
        }
        let Stage::Open(frames) = &mut self.stage else { return Err(Broken::Closed) };
        let result = frames.receive(bytes, mqtt);
        match &result {
            Ok(()) => {}
            // The peer's code is said again (RFC 6455 §5.5.1), or what it has done.
            Err(frames::End::Closed(code)) => self.close_with(*code),
            Err(frames::End::Fault(fault)) => self.close_with(Some(fault.code())),
        }
        result.map_err(|end| match end {
            frames::End::Closed(_) => Broken::Closed,
            frames::End::Fault(fault) => Broken::WebSocket(fault),
        })
    }

    /// The head of a frame with these bytes; `None` where there is nothing to send any more.
    pub(super) fn header_for(&self, mqtt: &[u8]) -> Option<Head> {
        match self.stage {
            Stage::Open(_) if !mqtt.is_empty() => Some(Head::of_binary(mqtt.len())), // [MQTT-6.0.0-1]
            _ => None,
        }
    }

    /// Sends a close frame, unless that was done.
    pub(super) fn close(&mut self, code: CloseCode) {
        if let Stage::Open(_) = self.stage {
            self.close_with(Some(code));
        }
    }

    fn close_with(&mut self, code: Option<CloseCode>) {
        self.outgoing = self.take_outgoing(); // With the answer to a ping before it.
        frames::append_close(code, &mut self.outgoing);
        self.stage = Stage::Closed;
    }

    /// What is to be sent in answer.
    pub(super) fn take_outgoing(&mut self) -> Vec<u8> {
        if let Stage::Open(frames) = &mut self.stage {
            frames.take_pong(&mut self.outgoing);
        }
        mem::take(&mut self.outgoing)
    }
}
