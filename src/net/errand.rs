//! What other threads have for a shard: results that it waits for, and changes that concern every shard.
//!
//! An errand names the connection it is about. That one may be gone when the errand arrives: then the errand is dropped,
//! with whatever it brings.

use std::sync::Arc;

use crate::security::Rights;
use crate::shard::Pressure;

/// Something that a thread without a shard has for one. See [`Mesh::deliver`](super::mesh::Mesh::deliver).
pub(crate) enum Errand {
    /// The rights that are in force from now on.
    Rights(Arc<Rights>),
    /// How short memory is from now on.
    Pressure(Pressure),
}
