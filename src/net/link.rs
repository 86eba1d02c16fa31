//! The layers between the socket of a connection and MQTT, and where they are.
//!
//! A connection of plain TCP has no link: its bytes are MQTT as they come. All others have one as long as they live, and take it
//! along when they move to their home. While a handshake is computed beside the shard the layers are away, and what arrives
//! meanwhile waits here.

use super::transport::{Broken, CloseCode, Layers};
use crate::shard::{Closed, ConnectionId, Shard};
use crate::timer::Moment;

/// Bytes that may wait for the layers; above it the connection is not read. No handshake is longer.
const ARRIVED_MAX: usize = 64 * 1024;
/// Buffers above this size are given back, so that one large message does not stay for ever.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The layers of one connection.
pub(crate) struct Link {
    /// None: they are away.
    layers: Option<Box<Layers>>,
    /// What has come from the socket, and not been through the layers yet.
    arrived: Vec<u8>,
    /// How they ended, once they have: they take nothing any more, and say nothing but what is waiting.
    end: Option<Closed>,
}

/// What became of bytes that have arrived.
pub(crate) enum Passage {
    /// They wait for the layers.
    Waiting,
    /// They went through.
    Through(Result<(), Broken>),
    /// They are to go through beside the shard: it costs much.
    Costly(Box<Layers>, Vec<u8>),
}

/// Buffers that links of one shard use in turn.
#[derive(Default)]
pub(crate) struct Scratch {
    mqtt: Vec<u8>,
    wrapped: Vec<u8>,
}

impl Link {
    /// The link of a connection that begins with these layers.
    pub(crate) fn new(layers: Box<Layers>) -> Self {
        Self { layers: Some(layers), arrived: Vec::new(), end: None }
    }

    /// The layers, unless they are away.
    pub(crate) fn layers(&self) -> Option<&Layers> {
        self.layers.as_deref()
    }

    /// Whether they are away.
    pub(crate) fn is_waiting(&self) -> bool {
        self.layers.is_none()
    }

    /// How they ended, once they have.
    pub(crate) fn end(&self) -> Option<Closed> {
        self.end
    }

    /// Whether so much waits that the connection is not to be read.
    pub(crate) fn is_full(&self) -> bool {
        self.arrived.len() > ARRIVED_MAX
    }

    /// Bytes that wait for the layers.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.arrived.len()
    }

    /// Takes bytes that are to go through the layers with the next [`pass`](Self::pass).
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// Lets what has arrived go through, as far as it may; MQTT is appended to `mqtt`.
    pub(crate) fn pass(&mut self, mqtt: &mut Vec<u8>) -> Passage {
        let Some(mut layers) = self.layers.take() else { return Passage::Waiting };
        if self.arrived.is_empty() || self.end.is_some() {
            self.layers = Some(layers);
            return Passage::Through(Ok(()));
        }
        let arrived = std::mem::take(&mut self.arrived);
        if layers.is_costly() {
            return Passage::Costly(layers, arrived);
        }
        let result = layers.receive(&arrived, mqtt);
        self.come_back(layers, &result);
        Passage::Through(result)
    }

    /// The layers are back.
    pub(crate) fn come_back(&mut self, layers: Box<Layers>, result: &Result<(), Broken>) {
        self.layers = Some(layers);
        self.end = end_of(result);
    }

    /// Hands bytes from the socket of an open connection to its shard.
    ///
    /// # Errors
    /// Why no more will come. It is said once.
    pub(crate) fn receive(
        &mut self,
        now: Moment,
        id: ConnectionId,
        bytes: &[u8],
        shard: &mut Shard,
        scratch: &mut Scratch,
    ) -> Result<(), Broken> {
        let Some(layers) = self.layers.as_mut().filter(|_| self.end.is_none()) else { return Ok(()) };
        let mqtt = &mut scratch.mqtt;
        mqtt.clear();
        let mut result = Ok(());
        if !self.arrived.is_empty() {
            result = layers.receive(&std::mem::take(&mut self.arrived), mqtt); // From before it was open.
        }
        let result = result.and_then(|()| layers.receive(bytes, mqtt));
        if !mqtt.is_empty() {
            shard.receive(now, id, mqtt); // What came before the end counts.
        }
        if mqtt.capacity() > KEPT_BYTES_MAX {
            *mqtt = Vec::new();
        }
        self.end = end_of(&result);
        result
    }

    /// MQTT as it goes to the socket, behind what the layers have to say. `output` is used up.
    pub(crate) fn wrap(&mut self, mut output: Vec<u8>, scratch: &mut Scratch) -> Vec<u8> {
        let mut wrapped = std::mem::take(&mut scratch.wrapped);
        if let Some(layers) = &mut self.layers {
            layers.wrap(&output, &mut wrapped);
        }
        if output.capacity() <= KEPT_BYTES_MAX {
            output.clear();
            scratch.wrapped = output;
        }
        wrapped
    }

    /// What the layers themselves have to say, if anything. Until it is asked for it stays with them, and they see to it that it does not
    /// grow: of many pings only the last is answered (RFC 6455 §5.5.3).
    pub(crate) fn take_outgoing(&mut self) -> Option<Vec<u8>> {
        let mut outgoing = Vec::new();
        self.layers.as_mut()?.take_outgoing(&mut outgoing).then_some(outgoing)
    }

    /// Ends the layers in order, unless they have ended, and returns what is to be sent for that.
    pub(crate) fn take_goodbye(&mut self, code: CloseCode) -> Option<Vec<u8>> {
        if self.end.replace(Closed::Fin).is_none()
            && let Some(layers) = &mut self.layers
        {
            layers.close(code);
        }
        self.take_outgoing()
    }
}

/// The end of layers, as the shard is told of it.
fn end_of(result: &Result<(), Broken>) -> Option<Closed> {
    result.as_ref().err().map(|broken| match broken {
        Broken::Closed => Closed::Fin,
        _ => Closed::Error,
    })
}
