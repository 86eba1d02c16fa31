//! A set of shards.

/// A set of shards, by number, below 128.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerSet(u128);

impl PeerSet {
    /// Adds a shard.
    pub fn insert(&mut self, peer: usize) {
        self.0 |= 1 << peer;
    }

    /// Removes a shard.
    pub fn remove(&mut self, peer: usize) {
        self.0 &= !(1 << peer);
    }

    /// Whether a shard is in it.
    pub fn contains(self, peer: usize) -> bool {
        self.0 >> peer & 1 == 1
    }

    /// All shards that are in either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// One bit for each shard, by number.
    pub fn bits(self) -> u128 {
        self.0
    }

    /// Whether no shard is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
