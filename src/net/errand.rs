//! What other threads have for a shard: results that it waits for, and changes that concern every shard.
//!
//! An errand names the connection it is about. That one may be gone when the errand arrives: then the errand is dropped,
//! with whatever it brings.

use std::sync::Arc;

use super::authentication::Step;
use super::transport::{Broken, Layers};
use super::worker::Worker;
use crate::security::Rights;
use crate::shard::{ConnectionId, Pressure};
use crate::timer::Moment;

/// Something that a thread without a shard has for one. See [`Mesh::deliver`](super::mesh::Mesh::deliver).
pub(crate) enum Errand {
    /// The layers of a connection come back, one step further.
    Layers(Box<Returned>),
    /// It is known what becomes of a client that authenticates.
    Authenticated {
        /// Its connection.
        connection: ConnectionId,
        /// What comes next for it.
        step: Step,
    },
    /// The rights that are in force from now on.
    Rights(Arc<Rights>),
    /// How short memory is from now on.
    Pressure(Pressure),
    /// Something that an operator asks for. See [`Desk`](super::desk::Desk).
    Task(Task),
}

/// What a shard does for somebody at the desk, in one turn: it must not take long.
pub(crate) type Task = Box<dyn FnOnce(Moment, &mut Worker) + Send>;

/// Layers that were away for a costly step of their handshake.
pub(crate) struct Returned {
    /// Whose they are.
    pub(crate) connection: ConnectionId,
    pub(crate) layers: Box<Layers>,
    /// MQTT bytes that came behind the handshake.
    pub(crate) mqtt: Vec<u8>,
    pub(crate) result: Result<(), Broken>,
}
