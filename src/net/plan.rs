//! What all shards start from, and what of it a reload of the settings exchanges.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use super::admission::Gate;
use super::authentication::Authentication;
use super::clock::Clock;
use super::mesh::Mesh;
use super::offload::Offload;
use super::transport::Entrance;
use crate::admin::Access;
use crate::config::Config;
use crate::security::Rights;

/// What all shards start from.
pub(crate) struct Plan {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    pub(crate) authentication: Authentication,
    /// What clients may do at the start, until the rights file changes.
    pub(crate) rights: Arc<Rights>,
    /// Who may use the HTTP server; `None` where there is none.
    pub(crate) access: Option<Arc<Access>>,
    /// Memory that the broker may use, in bytes.
    pub(crate) memory_limit: AtomicU64,
    in_force: RwLock<Arc<InForce>>,
}

/// The settings, and what follows from them for the shards. A reload puts another one in its place.
pub(crate) struct InForce {
    /// The listeners in it stand at their slots, those that are closed included: a connection is known by the slot of its listener for
    /// as long as it lives.
    pub(crate) config: Arc<Config>,
    /// What belongs to each of these listeners.
    pub(crate) slots: Vec<Slot>,
    /// Threads for TLS handshakes.
    pub(crate) handshakes: Arc<Offload>,
}

/// The place of a listener in a running broker. It keeps it until the end, even when it is closed: when a listener comes back, it has the
/// same slot as before, and what is new has a new one.
pub(crate) struct Slot {
    /// Whether clients are accepted.
    pub(crate) is_open: bool,
    /// How connections begin.
    pub(crate) entrance: Arc<Entrance>,
    /// Whether somebody is asked who the clients are.
    pub(crate) asks: bool,
}

/// What a plan is made of.
pub(crate) struct Parts {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    pub(crate) authentication: Authentication,
    pub(crate) rights: Arc<Rights>,
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) memory_limit: u64,
    pub(crate) in_force: InForce,
}

impl Plan {
    /// The plan for a broker that begins.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { mesh, gate, clock, seed, authentication, rights, access, memory_limit, in_force } = parts;
        Self {
            mesh,
            gate,
            clock,
            seed,
            authentication,
            rights,
            access,
            memory_limit: AtomicU64::new(memory_limit),
            in_force: RwLock::new(Arc::new(in_force)),
        }
    }

    /// The settings as they are now. Whoever asks again after a reload gets others.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.in_force().config)
    }

    /// The settings as an operator would write them: without the listeners that are closed.
    pub(crate) fn effective_config(&self) -> Config {
        let in_force = self.in_force();
        let mut config = Config::clone(&in_force.config);
        let mut slots = in_force.slots.iter();
        config.listeners.retain(|_| slots.next().is_some_and(|slot| slot.is_open));
        config
    }

    /// The settings as they are now, and what follows from them.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings into force, for those who ask from now on. The shards have to be told.
    pub(super) fn set_in_force(&self, in_force: Arc<InForce>) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
    }
}

impl InForce {
    /// The listener at a slot.
    ///
    /// # Panics
    /// Where there is no such slot; those of connections exist.
    pub(crate) fn slot(&self, listener: u16) -> &Slot {
        &self.slots[usize::from(listener)]
    }
}
