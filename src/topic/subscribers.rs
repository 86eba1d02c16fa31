//! The subscribers of one Topic Filter: one, or a hundred thousand.

use std::collections::HashMap;
use std::hash::Hash;

/// From so many on an index stands beside the list, so that a removal does not search it.
const INDEXED_FROM: usize = 32;

/// A list that is read often and whole, and in which one subscriber is found in constant time.
#[derive(Debug)]
pub(super) struct Subscribers<K, V> {
    list: Vec<(K, V)>,
    #[expect(
        clippy::box_collection,
        reason = "nearly every filter has no index, and then this is 8 bytes instead of 64"
    )]
    positions: Option<Box<HashMap<K, u32, ahash::RandomState>>>,
}

impl<K, V> Default for Subscribers<K, V> {
    fn default() -> Self {
        Self { list: Vec::new(), positions: None }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Subscribers<K, V> {
    pub(super) fn as_slice(&self) -> &[(K, V)] {
        &self.list
    }

    fn position(&self, key: K) -> Option<usize> {
        match &self.positions {
            Some(positions) => positions.get(&key).map(|position| *position as usize),
            None => self.list.iter().position(|(subscriber, _)| *subscriber == key),
        }
    }

    pub(super) fn get(&self, key: K) -> Option<V> {
        self.position(key).map(|position| self.list[position].1)
    }

    /// Adds or replaces; what was there before.
    pub(super) fn insert(&mut self, key: K, value: V, hasher: &ahash::RandomState) -> Option<V> {
        if let Some(position) = self.position(key) {
            return Some(std::mem::replace(&mut self.list[position].1, value));
        }
        self.list.push((key, value));
        if let Some(positions) = &mut self.positions {
            positions.insert(key, self.list.len() as u32 - 1);
        } else if self.list.len() > INDEXED_FROM {
            let mut positions = HashMap::with_hasher(hasher.clone());
            positions.extend(self.list.iter().map(|(key, _)| *key).zip(0..));
            self.positions = Some(Box::new(positions));
        }
        None
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let position = self.position(key)?;
        let (_, value) = self.list.swap_remove(position);
        if let Some(positions) = &mut self.positions {
            positions.remove(&key);
            if let Some((moved, _)) = self.list.get(position) {
                positions.insert(*moved, position as u32);
            }
            if self.list.len() < INDEXED_FROM / 2 {
                self.positions = None;
                self.list.shrink_to_fit();
            }
        }
        Some(value)
    }
}
