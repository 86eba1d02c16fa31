//! The subscription trie and the retained topics against the definition of matching (§4.7), over random operations.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use willowmq::topic::{Elsewhere, RetainedTopics, SubscriptionTrie, TopicFilter, TopicName};

/// Few levels and few names, so that filters overlap and nodes are shared and freed.
fn topic_name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "", "a!", "$x", "é"]), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a Topic Name is not empty", |topic| !topic.is_empty())
}

fn topic_filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop::sample::select(vec!["a", "b", "ab", "", "a!", "$x", "+", "+"]);
    (prop::collection::vec(level, 1..5), any::<bool>()).prop_filter_map("a valid filter", |(levels, below)| {
        let mut text = levels.join("/");
        if below {
            text.push_str("/#");
        }
        TopicFilter::parse(&text).ok()
    })
}

#[derive(Debug, Clone)]
enum Operation {
    Subscribe(TopicFilter, u16),
    Unsubscribe(TopicFilter, u16),
    AddPeer(TopicFilter, usize),
    RemovePeer(TopicFilter, usize),
    Match(String),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (topic_filter(), 0..4u16).prop_map(|(filter, key)| Operation::Subscribe(filter, key)),
        3 => (topic_filter(), 0..4u16).prop_map(|(filter, key)| Operation::Unsubscribe(filter, key)),
        2 => (topic_filter(), 0..128usize).prop_map(|(filter, peer)| Operation::AddPeer(filter, peer)),
        2 => (topic_filter(), 0..128usize).prop_map(|(filter, peer)| Operation::RemovePeer(filter, peer)),
        4 => topic_name().prop_map(Operation::Match),
    ]
}

type Model = BTreeMap<TopicFilter, (BTreeMap<u16, usize>, BTreeSet<usize>)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn trie_agrees_with_the_definition(operations in prop::collection::vec(operation(), 1..200)) {
        let mut trie = SubscriptionTrie::default();
        let mut model = Model::new();
        for (value, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Subscribe(filter, key) => {
                    let subscribers = &mut model.entry(filter.clone()).or_default().0;
                    let is_first = subscribers.is_empty();
                    let previous = subscribers.insert(key, value);
                    let inserted = trie.insert(&filter, key, value);
                    prop_assert_eq!((inserted.previous, inserted.is_first), (previous, is_first));
                }
                Operation::Unsubscribe(filter, key) => {
                    let subscribers = &mut model.entry(filter.clone()).or_default().0;
                    let value = subscribers.remove(&key);
                    let removed = trie.remove(&filter, key);
                    prop_assert_eq!((removed.value, removed.was_last), (value, value.is_some() && subscribers.is_empty()));
                }
                Operation::AddPeer(filter, peer) => {
                    model.entry(filter.clone()).or_default().1.insert(peer);
                    trie.add_peer(&filter, peer, peer % 2 == 0);
                }
                Operation::RemovePeer(filter, peer) => {
                    model.entry(filter.clone()).or_default().1.remove(&peer);
                    trie.remove_peer(&filter, peer);
                }
                Operation::Match(topic) => {
                    let topic = TopicName::parse(&topic).expect("generated valid");
                    let mut found = Vec::new();
                    let mut elsewhere = Elsewhere::default();
                    trie.for_each_match(topic, |subscribers, others| {
                        found.extend_from_slice(subscribers);
                        elsewhere = elsewhere.union(others);
                    });
                    let Elsewhere { peers, keepers } = elsewhere;
                    prop_assert!((0..128).all(|peer| keepers.contains(peer) == (peers.contains(peer) && peer % 2 == 0)));
                    found.sort_unstable();
                    let matching = || model.iter().filter(|(filter, _)| filter.matches(topic)).map(|(_, entry)| entry);
                    let mut defined: Vec<_> =
                        matching().flat_map(|(subscribers, _)| subscribers.iter().map(|(key, value)| (*key, *value))).collect();
                    defined.sort_unstable();
                    prop_assert_eq!(found, defined);
                    let defined_peers: BTreeSet<_> = matching().flat_map(|(_, peers)| peers.iter().copied()).collect();
                    prop_assert_eq!((0..128).filter(|peer| peers.contains(*peer)).collect::<BTreeSet<_>>(), defined_peers);
                }
            }
        }
        let subscriptions: usize = model.values().map(|(subscribers, _)| subscribers.len()).sum();
        prop_assert_eq!(trie.len(), subscriptions);
    }

    #[test]
    fn many_subscribers_of_one_filter_come_and_go(keys in prop::collection::vec(0..200u16, 1..600)) {
        let filter = TopicFilter::parse("a/+").expect("valid");
        let mut trie = SubscriptionTrie::default();
        let mut model = BTreeSet::new();
        for key in keys {
            if model.remove(&key) {
                prop_assert_eq!(trie.remove(&filter, key).was_last, model.is_empty());
            } else {
                model.insert(key);
                prop_assert!(trie.insert(&filter, key, key).previous.is_none());
            }
            let mut found = BTreeSet::new();
            trie.for_each_match(TopicName::parse("a/b").expect("valid"), |subscribers, _| {
                found.extend(subscribers.iter().map(|(key, _)| *key));
            });
            prop_assert_eq!(&found, &model);
        }
    }

    #[test]
    fn a_look_up_in_parts_visits_what_the_definition_says(
        topics in prop::collection::btree_set(topic_name(), 0..60),
        removed in prop::collection::vec(topic_name(), 0..10),
        filter in topic_filter(),
        budget in 1..20usize,
    ) {
        let mut retained = RetainedTopics::default();
        for topic in &topics {
            retained.insert(TopicName::parse(topic).expect("valid"), topic.len());
        }
        let mut visited = Vec::new();
        let mut cursor = None;
        let mut removed = removed.into_iter();
        let mut gone = BTreeSet::new();
        loop {
            cursor = retained.scan(&filter, cursor.as_ref(), budget, |topic, _| visited.push(topic.to_owned()));
            if cursor.is_none() {
                break;
            }
            if let Some(topic) = removed.next() {
                retained.remove(TopicName::parse(&topic).expect("valid"));
                gone.insert(topic);
            }
        }
        let distinct: BTreeSet<_> = visited.iter().cloned().collect();
        prop_assert_eq!(distinct.len(), visited.len(), "none is visited twice");
        let defined: BTreeSet<_> =
            topics.iter().filter(|topic| filter.matches(TopicName::parse(topic).expect("valid"))).cloned().collect();
        prop_assert!(distinct.is_subset(&defined));
        prop_assert!(defined.difference(&distinct).all(|missed| gone.contains(missed)));
    }
}
