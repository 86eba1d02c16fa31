//! topic stub
#![allow(missing_docs)]
use std::collections::BTreeMap;
use std::sync::Arc;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicName<'a>(&'a str);
#[derive(Debug)]
pub struct TopicError;
impl<'a> TopicName<'a> {
    pub fn parse(s: &'a str) -> Result<Self, TopicError> {
        if s.is_empty() || s.contains(['+', '#', '\0']) { Err(TopicError) } else { Ok(Self(s)) }
    }
    pub fn as_str(self) -> &'a str {
        self.0
    }
    pub fn levels(self) -> impl Iterator<Item = &'a str> {
        self.0.split('/')
    }
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }
}
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);
impl TopicFilter {
    pub fn parse(s: &str) -> Result<Self, TopicError> {
        if s.is_empty() || s.contains('\0') {
            return Err(TopicError);
        }
        let n = s.split('/').count();
        for (i, l) in s.split('/').enumerate() {
            if (l.contains('+') && l != "+") || (l.contains('#') && (l != "#" || i + 1 != n)) {
                return Err(TopicError);
            }
        }
        Ok(Self(s.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn is_wildcard(&self) -> bool {
        self.0.contains(['+', '#'])
    }
    pub fn level_count(&self) -> usize {
        self.0.split('/').count()
    }
    pub fn matches(&self, t: TopicName<'_>) -> bool {
        if t.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut tl = t.levels();
        for l in self.0.split('/') {
            if l == "#" {
                return true;
            }
            match tl.next() {
                Some(x) if l == "+" || l == x => {}
                _ => return false,
            }
        }
        tl.next().is_none()
    }
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscribed {
    Plain(TopicFilter),
    Shared { group: Arc<str>, filter: TopicFilter },
}
impl Subscribed {
    pub fn parse(s: &str) -> Result<Self, TopicError> {
        if let Some(rest) = s.strip_prefix("$share/") {
            let (g, f) = rest.split_once('/').ok_or(TopicError)?;
            if g.is_empty() || g.contains(['+', '#']) {
                return Err(TopicError);
            }
            return Ok(Self::Shared { group: g.into(), filter: TopicFilter::parse(f)? });
        }
        Ok(Self::Plain(TopicFilter::parse(s)?))
    }
}
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerSet(u128);
impl PeerSet {
    pub fn insert(&mut self, p: usize) {
        self.0 |= 1 << p;
    }
    pub fn remove(&mut self, p: usize) {
        self.0 &= !(1 << p);
    }
    pub fn contains(self, p: usize) -> bool {
        self.0 >> p & 1 == 1
    }
    pub fn union(self, o: Self) -> Self {
        Self(self.0 | o.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
pub struct Inserted<V> {
    pub previous: Option<V>,
    pub is_first: bool,
}
pub struct Removed<V> {
    pub value: Option<V>,
    pub was_last: bool,
}
#[derive(Debug)]
pub struct SubscriptionTrie<K, V>(BTreeMap<TopicFilter, (Vec<(K, V)>, PeerSet)>);
impl<K, V> Default for SubscriptionTrie<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
impl<K: Copy + Eq, V: Copy> SubscriptionTrie<K, V> {
    pub fn insert(&mut self, f: &TopicFilter, k: K, v: V) -> Inserted<V> {
        let e = self.0.entry(f.clone()).or_default();
        let is_first = e.0.is_empty();
        if let Some(x) = e.0.iter_mut().find(|x| x.0 == k) {
            let p = x.1;
            x.1 = v;
            return Inserted { previous: Some(p), is_first: false };
        }
        e.0.push((k, v));
        Inserted { previous: None, is_first }
    }
    pub fn remove(&mut self, f: &TopicFilter, k: K) -> Removed<V> {
        let Some(e) = self.0.get_mut(f) else { return Removed { value: None, was_last: false } };
        let Some(i) = e.0.iter().position(|x| x.0 == k) else { return Removed { value: None, was_last: false } };
        let v = e.0.swap_remove(i).1;
        Removed { value: Some(v), was_last: e.0.is_empty() }
    }
    pub fn add_peer(&mut self, f: &TopicFilter, p: usize) {
        self.0.entry(f.clone()).or_default().1.insert(p);
    }
    pub fn remove_peer(&mut self, f: &TopicFilter, p: usize) {
        if let Some(e) = self.0.get_mut(f) {
            e.1.remove(p);
        }
    }
    pub fn for_each_match(&self, t: TopicName<'_>, mut visit: impl FnMut(&[(K, V)], PeerSet)) {
        for (f, e) in &self.0 {
            if f.matches(t) {
                visit(&e.0, e.1);
            }
        }
    }
}
#[derive(Debug, Clone)]
pub struct Cursor(Box<str>);
#[derive(Debug)]
pub struct RetainedTrie<V>(BTreeMap<Box<str>, V>);
impl<V> Default for RetainedTrie<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
impl<V> RetainedTrie<V> {
    pub fn insert(&mut self, t: TopicName<'_>, v: V) -> Option<V> {
        self.0.insert(t.0.into(), v)
    }
    pub fn remove(&mut self, t: TopicName<'_>) -> Option<V> {
        self.0.remove(t.0)
    }
    pub fn get(&self, t: TopicName<'_>) -> Option<&V> {
        self.0.get(t.0)
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn scan(
        &self,
        f: &TopicFilter,
        c: Option<&Cursor>,
        budget: usize,
        mut visit: impl FnMut(&str, &V),
    ) -> Option<Cursor> {
        let mut n = 0;
        for (t, v) in &self.0 {
            if c.is_some_and(|c| **t <= *c.0) {
                continue;
            }
            if f.matches(TopicName(t)) {
                visit(t, v);
            }
            n += 1;
            if n >= budget {
                return Some(Cursor(t.clone()));
            }
        }
        None
    }
}
