//! Who subscribes to what.
//!
//! Filters without a wildcard stand in one table by their whole text, so they cost one look-up however many they are.
//! Filters with a wildcard stand in a trie. Its nodes lie in one slab and its edges in one table keyed by (node, level), but a node
//! with a single child names it itself: long chains, which most filters are, cost no table look-up.

use super::audience::Audience;
use super::level::Level;
use super::{Elsewhere, TopicFilter, TopicName};
use hashbrown::HashTable;
use std::hash::Hash;

/// What an insertion changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inserted<V> {
    /// The options that the subscriber had before.
    pub previous: Option<V>,
    /// The filter had no subscriber before.
    pub is_first: bool,
    /// The options of one that was there already.
    pub neighbour: Option<V>,
}

/// What a removal changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed<V> {
    /// The options that the subscriber had.
    pub value: Option<V>,
    /// The filter has no subscriber any more.
    pub was_last: bool,
}

#[derive(Debug)]
struct Node<K, V> {
    level: Level,
    parent: u32,
    children: u32,
    /// One of the children, or `NONE` where the one it named is gone. Where there is one alone, this saves the look-up.
    a_child: u32,
    plus: u32,
    /// Subscribers of the filter that ends here.
    here: Audience<K, V>,
    /// Subscribers of the filter that ends here with `/#`.
    below: Audience<K, V>,
}

/// Where a filter stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the table of those without a wildcard.
    Exact,
    /// In the trie; `is_below`: it goes on with `#` there.
    Path { node: u32, is_below: bool },
}

/// No node. The root is nobody's child, so its number is free to say so.
const NONE: u32 = 0;
const ROOT: u32 = 0;

impl<K: Copy + Eq + Hash, V: Copy> Node<K, V> {
    fn new(level: &str, parent: u32) -> Self {
        let (here, below) = (Audience::Nobody, Audience::Nobody);
        Self { level: Level::new(level), parent, children: 0, a_child: NONE, plus: NONE, here, below }
    }

    fn is_dead(&self) -> bool {
        self.children == 0 && self.plus == NONE && self.here.is_empty() && self.below.is_empty()
    }
}

/// The subscriptions of a shard: `K` names a subscriber, `V` are its options.
#[derive(Debug)]
pub struct SubscriptionTrie<K, V> {
    hasher: ahash::RandomState,
    exact: HashTable<(TopicFilter, Audience<K, V>)>,
    nodes: Vec<Node<K, V>>,
    free: Vec<u32>,
    edges: HashTable<u32>,
    len: usize,
}

impl<K: Copy + Eq + Hash, V: Copy> Default for SubscriptionTrie<K, V> {
    fn default() -> Self {
        Self::new(ahash::RandomState::new())
    }
}

impl<K: Copy + Eq + Hash, V: Copy> SubscriptionTrie<K, V> {
    /// An empty one that hashes with `hasher`.
    pub fn new(hasher: ahash::RandomState) -> Self {
        let nodes = vec![Node::new("", NONE)];
        Self { hasher, exact: HashTable::new(), nodes, free: Vec::new(), edges: HashTable::new(), len: 0 }
    }

    /// Subscriptions of this shard, those of other shards not counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether this shard has no subscription.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscriber to a filter, or replaces its options.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Inserted<V> {
        let hasher = self.hasher.clone();
        let audience = self.audience_or_new(filter);
        let neighbour = audience.subscribers().first().map(|(_, value)| *value);
        let previous = audience.insert(key, value, &hasher);
        self.len += usize::from(previous.is_none());
        Inserted { previous, is_first: neighbour.is_none(), neighbour }
    }

    /// Removes a subscriber from a filter.
    pub fn remove(&mut self, filter: &TopicFilter, key: K) -> Removed<V> {
        let Some(audience) = self.audience_mut(filter) else { return Removed { value: None, was_last: false } };
        let value = audience.remove(key);
        let was_last = value.is_some() && audience.subscribers().is_empty();
        self.len -= usize::from(value.is_some());
        self.prune(filter);
        Removed { value, was_last }
    }

    /// The options of a subscriber.
    pub fn get(&self, filter: &TopicFilter, key: K) -> Option<V> {
        self.audience(filter)?.get(key)
    }

    /// The subscribers of a filter.
    pub fn subscribers(&self, filter: &TopicFilter) -> &[(K, V)] {
        self.audience(filter).map_or(&[], Audience::subscribers)
    }

    /// The filters that match and have subscribers here, each with these.
    pub fn matching(&self, topic: TopicName<'_>) -> Vec<(String, &[(K, V)])> {
        let mut exact: Option<&Audience<K, V>> = None;
        let mut paths = Vec::new();
        self.visit_matches(topic, |place, audience| match place {
            Place::Exact => exact = Some(audience),
            Place::Path { node, is_below } => paths.push((self.path(node, is_below), audience.subscribers())),
        });
        let exact = exact.map(|audience| (topic.as_str().to_owned(), audience.subscribers()));
        exact.into_iter().chain(paths).filter(|(_, subscribers)| !subscribers.is_empty()).collect()
    }

    /// The filter that ends at a node.
    fn path(&self, mut node: u32, is_below: bool) -> String {
        let mut levels = Vec::new();
        while node != ROOT {
            levels.push(String::from_utf8_lossy(self.nodes[node as usize].level.as_bytes()));
            node = self.nodes[node as usize].parent;
        }
        levels.reverse();
        if is_below {
            levels.push("#".into());
        }
        levels.join("/")
    }

    /// Notes that another shard has subscribers of a filter; `keeps`: it may have to store what they are sent.
    pub fn add_peer(&mut self, filter: &TopicFilter, peer: usize, keeps: bool) {
        let hasher = self.hasher.clone();
        self.audience_or_new(filter).add_peer(peer, keeps, &hasher);
    }

    /// Notes that another shard has none any more.
    pub fn remove_peer(&mut self, filter: &TopicFilter, peer: usize) {
        if let Some(audience) = self.audience_mut(filter) {
            audience.remove_peer(peer);
            self.prune(filter);
        }
    }

    /// Visits every filter that matches, once: its subscribers here, and the other shards that have some. How many nodes it looked at, which
    /// is what it cost.
    pub fn for_each_match(&self, topic: TopicName<'_>, mut visit: impl FnMut(&[(K, V)], Elsewhere)) -> usize {
        self.visit_matches(topic, |_, audience| visit(audience.subscribers(), audience.elsewhere()))
    }

    fn visit_matches<'a>(&'a self, topic: TopicName<'_>, mut found: impl FnMut(Place, &'a Audience<K, V>)) -> usize {
        let text = topic.as_str();
        if !self.exact.is_empty()
            && let Some((_, audience)) =
                self.exact.find(self.hasher.hash_one(text), |(filter, _)| filter.as_str() == text)
        {
            found(Place::Exact, audience);
        }
        if self.nodes[ROOT as usize].is_dead() {
            return 0;
        }
        // Filters that begin with a wildcard do not see the server's own topics. [MQTT-4.7.2-1]
        if topic.is_reserved() {
            let (level, rest) = split_level(text);
            self.child(ROOT, level).map_or(0, |child| self.walk(child, rest, &mut found))
        } else {
            self.walk(ROOT, Some(text), &mut found)
        }
    }

    /// The paths below `node` that match `rest`, and on how many nodes they were looked for. What is still to be tried stands on a stack,
    /// since topics may be deep.
    fn walk<'a>(&'a self, node: u32, rest: Option<&str>, found: &mut impl FnMut(Place, &'a Audience<K, V>)) -> usize {
        let (mut node, mut rest) = (node, rest);
        let mut pending: Vec<(u32, Option<&str>)> = Vec::new();
        let mut visited = 0;
        loop {
            visited += 1;
            let here = &self.nodes[node as usize];
            if !here.below.is_empty() {
                found(Place::Path { node, is_below: true }, &here.below);
            }
            let next = match rest {
                None => {
                    if !here.here.is_empty() {
                        found(Place::Path { node, is_below: false }, &here.here);
                    }
                    None
                }
                Some(text) => {
                    let (level, deeper) = split_level(text);
                    let child = self.child(node, level);
                    match (child, here.plus) {
                        (Some(child), NONE) => Some((child, deeper)),
                        (Some(child), plus) => {
                            pending.push((plus, deeper));
                            Some((child, deeper))
                        }
                        (None, NONE) => None,
                        (None, plus) => Some((plus, deeper)),
                    }
                }
            };
            let Some(step) = next.or_else(|| pending.pop()) else { return visited };
            (node, rest) = step;
        }
    }

    fn child(&self, node: u32, level: &str) -> Option<u32> {
        let parent = &self.nodes[node as usize];
        match (parent.children, parent.a_child) {
            (0, _) => None,
            (1, only) if only != NONE => {
                (self.nodes[only as usize].level.as_bytes() == level.as_bytes()).then_some(only)
            }
            _ => self
                .edges
                .find(self.edge_hash(node, level.as_bytes()), |child| self.is_edge(*child, node, level.as_bytes()))
                .copied(),
        }
    }

    fn is_edge(&self, child: u32, parent: u32, level: &[u8]) -> bool {
        let child = &self.nodes[child as usize];
        child.parent == parent && child.level.as_bytes() == level
    }

    fn edge_hash(&self, parent: u32, level: &[u8]) -> u64 {
        self.hasher.hash_one((parent, level))
    }

    /// The node at the end of a filter with a wildcard, and whether its `#` is meant.
    fn find_node(&self, filter: &TopicFilter) -> Option<(u32, bool)> {
        let mut node = ROOT;
        for level in filter.levels() {
            node = match level {
                "#" => return Some((node, true)),
                "+" => Some(self.nodes[node as usize].plus).filter(|plus| *plus != NONE)?,
                literal => self.child(node, literal)?,
            };
        }
        Some((node, false))
    }

    fn audience(&self, filter: &TopicFilter) -> Option<&Audience<K, V>> {
        if !filter.is_wildcard() {
            let hash = self.hasher.hash_one(filter.as_str());
            return self.exact.find(hash, |(exact, _)| exact == filter).map(|(_, audience)| audience);
        }
        let (node, is_below) = self.find_node(filter)?;
        let node = &self.nodes[node as usize];
        Some(if is_below { &node.below } else { &node.here })
    }

    fn audience_mut(&mut self, filter: &TopicFilter) -> Option<&mut Audience<K, V>> {
        if !filter.is_wildcard() {
            let hash = self.hasher.hash_one(filter.as_str());
            return self.exact.find_mut(hash, |(exact, _)| exact == filter).map(|(_, audience)| audience);
        }
        let (node, is_below) = self.find_node(filter)?;
        let node = &mut self.nodes[node as usize];
        Some(if is_below { &mut node.below } else { &mut node.here })
    }

    fn audience_or_new(&mut self, filter: &TopicFilter) -> &mut Audience<K, V> {
        if !filter.is_wildcard() {
            let hasher = self.hasher.clone();
            let hash_of = |filter: &TopicFilter| hasher.hash_one(filter.as_str());
            let place = self.exact.entry(hash_of(filter), |(exact, _)| exact == filter, |(exact, _)| hash_of(exact));
            return &mut place.or_insert_with(|| (filter.clone(), Audience::Nobody)).into_mut().1;
        }
        let mut node = ROOT;
        for level in filter.levels() {
            node = match level {
                "#" => return &mut self.nodes[node as usize].below,
                "+" => self.plus_or_new(node),
                literal => self.child(node, literal).unwrap_or_else(|| self.add_child(node, literal)),
            };
        }
        &mut self.nodes[node as usize].here
    }

    fn plus_or_new(&mut self, node: u32) -> u32 {
        let plus = self.nodes[node as usize].plus;
        if plus != NONE {
            return plus;
        }
        let plus = self.add_node("+", node);
        self.nodes[node as usize].plus = plus;
        plus
    }

    fn add_node(&mut self, level: &str, parent: u32) -> u32 {
        let node = Node::new(level, parent);
        match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes fit in memory")
            }
        }
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        let child = self.add_node(level, parent);
        let node = &mut self.nodes[parent as usize];
        node.children += 1;
        node.a_child = child;
        let hash = self.edge_hash(parent, level.as_bytes());
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.edges.insert_unique(hash, child, |child| {
            let child = &nodes[*child as usize];
            hasher.hash_one((child.parent, child.level.as_bytes()))
        });
        child
    }

    /// Frees what an emptied filter leaves behind.
    fn prune(&mut self, filter: &TopicFilter) {
        if !self.audience(filter).is_some_and(Audience::is_empty) {
            return;
        }
        if !filter.is_wildcard() {
            let hash = self.hasher.hash_one(filter.as_str());
            if let Ok(emptied) = self.exact.find_entry(hash, |(exact, _)| exact == filter) {
                emptied.remove();
            }
            return;
        }
        let Some((mut node, _)) = self.find_node(filter) else { return };
        while node != ROOT && self.nodes[node as usize].is_dead() {
            node = self.remove_leaf(node);
        }
    }

    /// Removes a node without children; its parent.
    fn remove_leaf(&mut self, leaf: u32) -> u32 {
        let parent = self.nodes[leaf as usize].parent;
        if self.nodes[parent as usize].plus == leaf {
            self.nodes[parent as usize].plus = NONE;
        } else {
            let hash = self.edge_hash(parent, self.nodes[leaf as usize].level.as_bytes());
            if let Ok(edge) = self.edges.find_entry(hash, |child| *child == leaf) {
                edge.remove();
            }
            let node = &mut self.nodes[parent as usize];
            node.children -= 1;
            if node.a_child == leaf {
                node.a_child = NONE;
            }
        }
        self.nodes[leaf as usize] = Node::new("", NONE);
        self.free.push(leaf);
        parent
    }
}

fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (text, None),
    }
}
