//! Who receives what one Topic Filter matches. Most filters have a single subscriber here and none elsewhere, and that one lies in the
//! trie's node itself: a match costs no further access to memory.

use super::PeerSet;
use super::subscribers::Subscribers;
use std::hash::Hash;

/// The subscribers of one filter, and the other shards that have some.
#[derive(Debug)]
pub(super) enum Audience<K, V> {
    Nobody,
    One((K, V)),
    Many(Box<Crowd<K, V>>),
}

#[derive(Debug)]
pub(super) struct Crowd<K, V> {
    subscribers: Subscribers<K, V>,
    elsewhere: Elsewhere,
}

/// The other shards that have subscribers of a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Those that have any.
    pub peers: PeerSet,
    /// Those among them that may have to store what is published.
    pub keepers: PeerSet,
}

impl Elsewhere {
    /// All shards that are in either.
    pub fn union(self, other: Self) -> Self {
        Self { peers: self.peers.union(other.peers), keepers: self.keepers.union(other.keepers) }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Audience<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    pub(super) fn subscribers(&self) -> &[(K, V)] {
        match self {
            Self::Nobody => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(crowd) => crowd.subscribers.as_slice(),
        }
    }

    pub(super) fn elsewhere(&self) -> Elsewhere {
        match self {
            Self::Nobody | Self::One(_) => Elsewhere::default(),
            Self::Many(crowd) => crowd.elsewhere,
        }
    }

    pub(super) fn get(&self, key: K) -> Option<V> {
        match self {
            Self::Nobody => None,
            Self::One((one, value)) => (*one == key).then_some(*value),
            Self::Many(crowd) => crowd.subscribers.get(key),
        }
    }

    /// Adds or replaces a subscriber; what was there before.
    pub(super) fn insert(&mut self, key: K, value: V, hasher: &ahash::RandomState) -> Option<V> {
        match self {
            Self::Nobody => {
                *self = Self::One((key, value));
                None
            }
            Self::One((one, known)) if *one == key => Some(std::mem::replace(known, value)),
            Self::One(_) | Self::Many(_) => self.crowd(hasher).subscribers.insert(key, value, hasher),
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let value = match self {
            Self::Nobody => None,
            Self::One((one, value)) if *one == key => {
                let value = *value;
                *self = Self::Nobody;
                Some(value)
            }
            Self::One(_) => None,
            Self::Many(crowd) => crowd.subscribers.remove(key),
        };
        self.shrink();
        value
    }

    pub(super) fn add_peer(&mut self, peer: usize, keeps: bool, hasher: &ahash::RandomState) {
        let elsewhere = &mut self.crowd(hasher).elsewhere;
        elsewhere.peers.insert(peer);
        if keeps {
            elsewhere.keepers.insert(peer);
        }
    }

    pub(super) fn remove_peer(&mut self, peer: usize) {
        if let Self::Many(crowd) = self {
            crowd.elsewhere.peers.remove(peer);
            crowd.elsewhere.keepers.remove(peer);
        }
        self.shrink();
    }

    fn crowd(&mut self, hasher: &ahash::RandomState) -> &mut Crowd<K, V> {
        if !matches!(self, Self::Many(_)) {
            let mut crowd = Box::new(Crowd { subscribers: Subscribers::default(), elsewhere: Elsewhere::default() });
            if let Self::One((key, value)) = *self {
                crowd.subscribers.insert(key, value, hasher);
            }
            *self = Self::Many(crowd);
        }
        match self {
            Self::Many(crowd) => crowd,
            Self::Nobody | Self::One(_) => unreachable!("it was made a crowd above"),
        }
    }

    /// A crowd that has become one or nobody is no crowd.
    fn shrink(&mut self) {
        if let Self::Many(crowd) = self
            && crowd.elsewhere.peers.is_empty()
        {
            match crowd.subscribers.as_slice() {
                [] => *self = Self::Nobody,
                [one] => *self = Self::One(*one),
                _ => {}
            }
        }
    }
}
