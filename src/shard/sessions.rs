//! The Sessions that are at home on one shard.

use super::peer::SessionKey;
use crate::session::Session;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    session: Option<Box<Session>>,
}

/// Sessions by index, and by Client Identifier.
#[derive(Debug)]
pub(super) struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<Arc<str>, u32, ahash::RandomState>,
}

impl Sessions {
    pub(super) fn new(hasher: ahash::RandomState) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_client: HashMap::with_hasher(hasher) }
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(super) fn insert(&mut self, session: Session) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sessions fit in memory")
        });
        let previous = self.by_client.insert(Arc::clone(&session.client_id), index);
        assert!(previous.is_none(), "a client has one Session");
        self.slots[index as usize].session = Some(Box::new(session));
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Box<Session>> {
        let slot = self.slots.get_mut(index as usize)?;
        let session = slot.session.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.by_client.remove(&session.client_id);
        self.free.push(index);
        Some(session)
    }

    pub(super) fn find(&self, client_id: &str) -> Option<u32> {
        self.by_client.get(client_id).copied()
    }

    pub(super) fn get(&self, index: u32) -> Option<&Session> {
        self.slots.get(index as usize)?.session.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.slots.get_mut(index as usize)?.session.as_deref_mut()
    }

    /// The name of a Session that exists, for those who may speak of it after it is gone.
    pub(super) fn key(&self, index: u32) -> SessionKey {
        SessionKey { index, generation: self.slots[index as usize].generation }
    }

    /// The Session that is still the one that `key` names.
    pub(super) fn resolve(&self, key: SessionKey) -> Option<u32> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation && slot.session.is_some()).then_some(key.index)
    }

    /// How many slots there are, with a Session or without.
    pub(super) fn slot_count(&self) -> u32 {
        self.slots.len() as u32 // Each has an index of 32 bits.
    }

    /// The first Session at or behind a slot.
    pub(super) fn next_from(&self, index: u32) -> Option<u32> {
        let rest = self.slots.get(index as usize..)?;
        rest.iter().position(|slot| slot.session.is_some()).map(|at| index + at as u32)
    }

    /// The Sessions in `count` slots from this one on, with their indices; whether no slot is behind those.
    pub(super) fn slots(&self, from: u32, count: usize) -> (impl Iterator<Item = (u32, &Session)>, bool) {
        let start = (from as usize).min(self.slots.len());
        let end = start.saturating_add(count).min(self.slots.len());
        let slots = self.slots[start..end].iter().zip(from..);
        let sessions = slots.filter_map(|(slot, index)| Some((index, slot.session.as_deref()?)));
        (sessions, end == self.slots.len())
    }

    /// All Sessions, in the order of their slots.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().zip(0..).filter(|(slot, _)| slot.session.is_some()).map(|(_, index)| index)
    }
}
