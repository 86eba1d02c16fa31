//! What was found right a short while ago, so that it need not be found out again.
//!
//! An entry is found by a keyed hash of all that it depends on. Passwords are not kept, and whoever reads this memory cannot try
//! passwords against it without the key, which lives as long as the process. Only good news is remembered: wrong passwords are
//! many, and each costs its sender the wait.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;

use super::Proof;
use crate::timer::Moment;

/// Parts with a lock each. Shards and check threads meet in one seldom, and never for long.
const PARTS: usize = 64;

/// By what an entry is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

/// Proofs by what they depend on.
pub(super) struct Cache {
    secret: hmac::Key,
    parts: Box<[Mutex<Generations>]>,
    /// Entries of the younger generation of a part; zero remembers nothing.
    generation_max: usize,
}

/// Entries are written into the younger generation. When it is full it becomes the older one, and what was older is forgotten unless it
/// was asked for meanwhile. So a bound is kept without a list of who was used when.
#[derive(Default)]
struct Generations {
    younger: Entries,
    older: Entries,
}

type Entries = HashMap<Key, Entry, BuildHasherDefault<OfKey>>;

struct Entry {
    proof: Arc<Proof>,
    until: Moment,
}

impl Cache {
    /// A cache for `entries_max` entries.
    pub(super) fn new(entries_max: usize) -> Self {
        let secret: [u8; 32] = super::random();
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            generation_max: entries_max.div_ceil(2 * PARTS),
        }
    }

    /// The key of what depends on `parts`, in this order.
    pub(super) fn key<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes()); // So that ("ab", "c") is not ("a", "bc").
            context.update(part);
        }
        Key(context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// What is remembered, and still so.
    pub(super) fn get(&self, key: &Key, now: Moment) -> Option<Arc<Proof>> {
        let mut part = self.part(key);
        if let Some(entry) = part.younger.get(key) {
            return (now < entry.until).then(|| Arc::clone(&entry.proof));
        }
        let entry = part.older.remove(key).filter(|entry| now < entry.until)?;
        let proof = Arc::clone(&entry.proof);
        let forgotten = part.insert(*key, entry, self.generation_max);
        drop(part); // What is forgotten is freed without the lock.
        drop(forgotten);
        Some(proof)
    }

    /// Remembers `proof` until `until`.
    pub(super) fn insert(&self, key: Key, proof: Arc<Proof>, until: Moment) {
        if self.generation_max == 0 {
            return;
        }
        let forgotten = self.part(&key).insert(key, Entry { proof, until }, self.generation_max);
        drop(forgotten);
    }

    fn part(&self, key: &Key) -> std::sync::MutexGuard<'_, Generations> {
        self.parts[usize::from(key.0[0]) % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    /// Adds an entry; the result is what has to be forgotten for it.
    #[must_use]
    fn insert(&mut self, key: Key, entry: Entry, generation_max: usize) -> Option<Entries> {
        let forgotten = (self.younger.len() >= generation_max).then(|| {
            let full = std::mem::take(&mut self.younger);
            std::mem::replace(&mut self.older, full)
        });
        self.younger.insert(key, entry);
        forgotten
    }
}

/// A key is a hash already: any eight bytes of it will do. The first one chose the part.
#[derive(Default)]
struct OfKey(u64);

impl Hasher for OfKey {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Moment = Moment::from_micros(100);

    fn proof(username: &str) -> Arc<Proof> {
        Arc::new(Proof { username: Some(username.into()), ..Proof::default() })
    }

    fn username(proof: Option<Arc<Proof>>) -> Option<String> {
        Some(proof?.username.as_deref()?.to_owned())
    }

    #[test]
    fn what_is_remembered_is_forgotten_in_time() {
        let cache = Cache::new(100);
        let key = cache.key([&b"anna"[..], b"secret"]);
        assert!(cache.get(&key, Moment::ZERO).is_none());
        cache.insert(key, proof("anna"), SOON);
        assert_eq!(username(cache.get(&key, Moment::ZERO)).as_deref(), Some("anna"));
        assert!(cache.get(&key, SOON).is_none());
    }

    #[test]
    fn a_key_depends_on_every_part_and_on_where_it_ends() {
        let cache = Cache::new(100);
        let key = cache.key([&b"ab"[..], b"c"]);
        assert_eq!(key, cache.key([&b"ab"[..], b"c"]));
        assert_ne!(key, cache.key([&b"a"[..], b"bc"]));
        assert_ne!(key, cache.key([&b"abc"[..]]));
        assert_ne!(key, Cache::new(100).key([&b"ab"[..], b"c"]), "every process has a key of its own");
    }

    #[test]
    fn entries_are_bounded_and_those_in_use_stay() {
        let cache = Cache::new(2 * PARTS * 4);
        let in_use = cache.key([&b"in use"[..]]);
        cache.insert(in_use, proof("in use"), SOON);
        for number in 0..100_000_u32 {
            cache.insert(cache.key([&number.to_le_bytes()[..]]), proof("other"), SOON);
            assert!(cache.get(&in_use, Moment::ZERO).is_some(), "after {number}");
        }
        let entries = |part: &Mutex<Generations>| {
            let part = part.lock().unwrap();
            part.younger.len() + part.older.len()
        };
        assert!(cache.parts.iter().map(entries).sum::<usize>() <= 2 * PARTS * 4);
    }

    #[test]
    fn a_cache_of_no_size_remembers_nothing() {
        let cache = Cache::new(0);
        let key = cache.key([&b"a"[..]]);
        cache.insert(key, proof("a"), SOON);
        assert!(cache.get(&key, Moment::ZERO).is_none());
    }
}
