//! What clients may do, seen from outside: what is refused, what is not delivered, and what a change of rights does to those who are there.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{
    Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscriptionFilters, SubscriptionOptions, UserProperties,
};
use willowmq::config::{Config, WillAcl};
use willowmq::security::{Action, Granted, Identity, Rights, Who};
use willowmq::shard::{DropReason, PublishOutcome, Stats};
use willowmq::topic::{TopicFilter, TopicName};

const SEED: u64 = 0x51_67_85;
const SHARDS: usize = 3;

/// Everybody may publish and subscribe to everything, and receive what is not secret; `chief` may receive all.
const SECRETS: &str = r##"
[[rules]]
effect = "allow"
actions = ["write", "subscribe"]
topics = ["#"]
[[rules]]
effect = "allow"
users = ["chief"]
actions = ["receive"]
topics = ["#"]
[[rules]]
effect = "allow"
actions = ["receive"]
topics = ["open/#"]
"##;

const ALL: &str = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['#']\n";

fn sim(rules: &str) -> Simulation {
    sim_with(rules, |_| {})
}

fn sim_with(rules: &str, change: impl FnOnce(&mut Config)) -> Simulation {
    let mut config = Config::default();
    change(&mut config);
    let mut sim = Simulation::with_config(SEED, SHARDS, config);
    set_rights(&mut sim, rules);
    sim
}

fn set_rights(sim: &mut Simulation, rules: &str) {
    let rights = Arc::new(Rights::parse(rules, "rights.toml").unwrap());
    for shard in &mut sim.shards {
        shard.set_rights(Arc::clone(&rights));
    }
}

fn count(sim: &Simulation, counter: impl Fn(&Stats) -> u64) -> u64 {
    sim.shards.iter().map(|shard| counter(shard.stats())).sum()
}

/// The answer to one Topic Filter.
fn subscribe(sim: &mut Simulation, client: ClientHandle, filter: &str) -> Option<ReasonCode> {
    let packet_id = sim.clients[client.0].next_id();
    let filters = [(filter, SubscriptionOptions::new(QoS::AtLeastOnce))];
    let filters = SubscriptionFilters::from_slice(&filters);
    let user_properties = UserProperties::default();
    sim.send(
        client,
        &Packet::Subscribe(Subscribe { packet_id, subscription_identifier: None, filters, user_properties }),
    );
    sim.settle();
    sim.clients[client.0].suback.pop()
}

/// The answer to a PUBLISH.
fn publish(sim: &mut Simulation, client: ClientHandle, topic: &str, qos: QoS) -> Option<ReasonCode> {
    let packet_id = sim.publish_only(client, topic, "x", qos, false, None);
    sim.settle();
    let answers = &sim.clients[client.0].acknowledged;
    answers.iter().find(|(id, _)| Some(*id) == packet_id).map(|(_, reason)| *reason)
}

fn topics(sim: &mut Simulation, client: ClientHandle) -> Vec<String> {
    sim.received(client).into_iter().map(|received| received.topic).collect()
}

// Publishing.

#[test]
fn a_publish_that_no_rule_allows_is_refused_dropped_and_counted() {
    let rules = format!("{ALL}[[rules]]\neffect = 'deny'\nactions = ['publish']\ntopics = ['secret/#']\n");
    let mut sim = sim(&rules);
    let watcher = sim.subscriber("watcher", "#");
    let client = sim.connect("client").accepted();
    for _ in 0..2 {
        assert_eq!(publish(&mut sim, client, "secret/a", QoS::AtLeastOnce), Some(ReasonCode::NotAuthorized));
        assert_eq!(publish(&mut sim, client, "secret/a", QoS::AtMostOnce), None);
        assert_eq!(publish(&mut sim, client, "open/a", QoS::AtLeastOnce), Some(ReasonCode::Success));
    }
    assert_eq!(publish(&mut sim, client, "secret/a", QoS::ExactlyOnce), Some(ReasonCode::NotAuthorized));
    assert_eq!(topics(&mut sim, watcher), ["open/a", "open/a"]);
    assert_eq!(count(&sim, |stats| stats.received.with(PublishOutcome::Denied)), 5);
    assert!(sim.is_connected(client));
}

#[test]
fn a_publish_of_an_older_client_that_is_not_allowed_is_acknowledged_and_dropped() {
    let mut sim = sim("");
    let client = sim.connect("client").version(ProtocolVersion::V3_1_1).accepted();
    assert_eq!(publish(&mut sim, client, "a", QoS::AtLeastOnce), Some(ReasonCode::Success));
    assert_eq!(count(&sim, |stats| stats.received.with(PublishOutcome::Denied)), 1);
    assert!(sim.is_connected(client));
}

#[test]
fn mqtt_4_7_2_1_without_a_rights_file_only_the_topics_of_the_server_are_closed() {
    let mut sim = Simulation::new(SEED, SHARDS);
    let client = sim.connect("client").accepted();
    assert_eq!(publish(&mut sim, client, "$SYS/x", QoS::AtLeastOnce), Some(ReasonCode::NotAuthorized));
    assert_eq!(publish(&mut sim, client, "a", QoS::AtLeastOnce), Some(ReasonCode::NoMatchingSubscribers));
    assert_eq!(subscribe(&mut sim, client, "$SYS/#"), Some(ReasonCode::GrantedQos1));
}

#[test]
fn a_change_of_rights_counts_for_the_next_publish_of_a_connected_client() {
    let mut sim = sim(ALL);
    let client = sim.connect("client").user("alice").accepted();
    assert_eq!(publish(&mut sim, client, "a", QoS::AtLeastOnce), Some(ReasonCode::NoMatchingSubscribers));
    set_rights(&mut sim, "");
    assert_eq!(publish(&mut sim, client, "a", QoS::AtLeastOnce), Some(ReasonCode::NotAuthorized));
    set_rights(&mut sim, ALL);
    assert_eq!(publish(&mut sim, client, "a", QoS::AtLeastOnce), Some(ReasonCode::NoMatchingSubscribers));
}

// Subscribing.

#[test]
fn a_filter_that_is_not_covered_is_refused_and_counted() {
    let mut sim = sim("[[rules]]\neffect = 'allow'\nactions = ['read']\ntopics = ['home/%u/#', 'news/+']\n");
    let alice = sim.connect("alice").user("alice").accepted();
    for filter in ["home/alice/#", "home/alice", "home/alice/+/x", "news/+", "$share/g/news/today"] {
        assert_eq!(subscribe(&mut sim, alice, filter), Some(ReasonCode::GrantedQos1), "{filter}");
    }
    for filter in ["home/bob/#", "home/+/#", "#", "news/#", "$share/g/home/bob"] {
        assert_eq!(subscribe(&mut sim, alice, filter), Some(ReasonCode::NotAuthorized), "{filter}");
    }
    assert_eq!(count(&sim, |stats| stats.subscriptions_denied), 5);
}

#[test]
fn v311_mqtt_3_9_3_2_an_older_client_is_told_of_a_failure() {
    let mut sim = sim("");
    let client = sim.connect("client").version(ProtocolVersion::V3_1_1).accepted();
    assert!(subscribe(&mut sim, client, "a").is_some_and(ReasonCode::is_error));
}

// Receiving.

#[test]
fn a_subscription_delivers_only_what_its_client_may_receive() {
    let mut sim = sim(SECRETS);
    let publisher = sim.connect("publisher").accepted();
    let readers: Vec<_> = (0..6).map(|at| sim.connect(&format!("reader-{at}")).accepted()).collect();
    for (reader, qos) in readers.iter().zip([QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].repeat(2)) {
        sim.subscribe(*reader, "#", qos);
    }
    let chief = sim.connect("chief").user("chief").accepted();
    sim.subscribe(chief, "#", QoS::AtLeastOnce);
    for topic in ["open/a", "secret/a", "open/b", "secret/a"] {
        sim.publish(publisher, topic, "x", QoS::ExactlyOnce, false);
    }
    for reader in readers {
        assert_eq!(topics(&mut sim, reader), ["open/a", "open/b"]);
    }
    assert_eq!(topics(&mut sim, chief), ["open/a", "secret/a", "open/b", "secret/a"]);
    assert_eq!(count(&sim, |stats| stats.deliveries_denied), 12);
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_deliver_what_one_of_them_is_wholly_allowed_for() {
    let mut sim = sim(SECRETS);
    let reader = sim.subscriber("reader", "#");
    sim.subscribe(reader, "open/+", QoS::AtMostOnce);
    let publisher = sim.connect("publisher").accepted();
    for topic in ["open/a", "secret/a"] {
        sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
    }
    let received = sim.received(reader);
    assert_eq!(received.len(), 1, "{received:?}");
    assert_eq!((received[0].topic.as_str(), received[0].qos), ("open/a", QoS::AtLeastOnce));
}

#[test]
fn retained_messages_are_filtered_too() {
    let mut sim = sim(SECRETS);
    let publisher = sim.connect("publisher").accepted();
    for topic in ["open/a", "secret/a", "secret/b", "open/b"] {
        sim.publish(publisher, topic, "x", QoS::AtLeastOnce, true);
    }
    let reader = sim.subscriber("reader", "+/+");
    let mut received = topics(&mut sim, reader);
    received.sort();
    assert_eq!(received, ["open/a", "open/b"]);
}

#[test]
fn a_look_up_that_is_under_way_when_rights_change_finds_only_what_is_allowed_now() {
    let mut sim = sim(ALL);
    let publisher = sim.connect("publisher").accepted();
    for at in 0..20 {
        sim.publish(publisher, &format!("secret/{at}"), "x", QoS::AtLeastOnce, true);
    }
    let reader = sim.connect("reader").accepted();
    let packet_id = sim.clients[reader.0].next_id();
    let filters = [("#", SubscriptionOptions::new(QoS::AtLeastOnce))];
    let filters = SubscriptionFilters::from_slice(&filters);
    let user_properties = UserProperties::default();
    sim.send(
        reader,
        &Packet::Subscribe(Subscribe { packet_id, subscription_identifier: None, filters, user_properties }),
    );
    set_rights(&mut sim, SECRETS);
    sim.settle();
    assert_eq!(topics(&mut sim, reader), [""; 0]);
}

/// A client that has subscribed to everything and is away, while one of three messages is secret.
fn leave_messages_for_a_reader(sim: &mut Simulation) -> ClientHandle {
    let reader = sim.connect("reader").session_expiry(3600).accepted();
    sim.subscribe(reader, "#", QoS::AtLeastOnce);
    sim.cut(reader);
    let publisher = sim.connect("publisher").accepted();
    for topic in ["open/a", "secret/a", "open/b"] {
        sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
    }
    reader
}

#[test]
fn what_waits_for_a_client_that_is_away_was_filtered_when_it_was_queued() {
    let mut sim = sim(SECRETS);
    let reader = leave_messages_for_a_reader(&mut sim);
    sim.connect("reader").session_expiry(3600).clean_start(false).accepted();
    assert_eq!(topics(&mut sim, reader), ["open/a", "open/b"]);
}

#[test]
fn what_waits_when_rights_change_is_looked_at_again_when_it_is_sent() {
    let mut sim = sim(ALL);
    let reader = leave_messages_for_a_reader(&mut sim);
    set_rights(&mut sim, SECRETS);
    sim.connect("reader").session_expiry(3600).clean_start(false).accepted();
    assert_eq!(topics(&mut sim, reader), ["open/a", "open/b"]);
    assert_eq!(count(&sim, |stats| stats.deliveries_denied), 1);
}

#[test]
fn what_is_in_flight_when_rights_change_is_not_sent_again() {
    let mut sim = sim(ALL);
    let reader = sim.connect("reader").session_expiry(3600).accepted();
    sim.subscribe(reader, "#", QoS::AtLeastOnce);
    sim.clients[reader.0].withholds_acks = true;
    let publisher = sim.connect("publisher").accepted();
    for topic in ["open/a", "secret/a"] {
        sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
    }
    assert_eq!(topics(&mut sim, reader), ["open/a", "secret/a"]);
    sim.cut(reader);
    set_rights(&mut sim, SECRETS);
    sim.clients[reader.0].withholds_acks = false;
    sim.connect("reader").session_expiry(3600).clean_start(false).accepted();
    assert_eq!(topics(&mut sim, reader), ["open/a"]);
    sim.publish(publisher, "open/b", "x", QoS::AtLeastOnce, false);
    assert_eq!(topics(&mut sim, reader), ["open/b"], "the window is free again");
}

#[test]
fn rights_that_change_back_and_forth_count_for_a_subscription_that_stays() {
    let mut sim = sim(ALL);
    let reader = sim.subscriber("reader", "+/#");
    let publisher = sim.connect("publisher").accepted();
    for (rules, expected) in [(ALL, 2), (SECRETS, 1), ("", 0), (SECRETS, 1), (ALL, 2)] {
        set_rights(&mut sim, ALL);
        set_rights(&mut sim, rules);
        if rules.is_empty() {
            assert_eq!(publish(&mut sim, publisher, "open/a", QoS::AtLeastOnce), Some(ReasonCode::NotAuthorized));
        } else {
            for topic in ["open/a", "secret/a"] {
                sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
            }
        }
        assert_eq!(topics(&mut sim, reader).len(), expected);
    }
}

#[test]
fn a_client_that_comes_back_with_another_token_receives_what_that_grants() {
    let filters = |texts: &[&str]| texts.iter().map(|text| TopicFilter::parse(text).unwrap()).collect::<Vec<_>>();
    let grants = |receive: &[&str]| Identity {
        granted: Some(Arc::new(Granted {
            subscribe: filters(&["#"]),
            receive: filters(receive),
            ..Granted::default()
        })),
        ..Identity::of_user("reader")
    };
    let mut sim = Simulation::new(SEED, SHARDS);
    let publisher = sim.connect("publisher").accepted();
    let reader = sim.connect("reader").identity(grants(&["#"])).session_expiry(3600).accepted();
    sim.subscribe(reader, "#", QoS::AtLeastOnce);
    assert_eq!(publish(&mut sim, reader, "a", QoS::AtLeastOnce), Some(ReasonCode::NotAuthorized));
    sim.cut(reader);
    sim.publish(publisher, "secret/a", "x", QoS::AtLeastOnce, false);
    sim.connect("reader").identity(grants(&["open/#"])).session_expiry(3600).clean_start(false).accepted();
    for topic in ["open/a", "secret/b"] {
        sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
    }
    assert_eq!(topics(&mut sim, reader), ["open/a"]);
}

// Shared Subscriptions.

#[test]
fn a_group_chooses_among_its_members_that_may_receive_the_message() {
    let mut sim = sim(SECRETS);
    let plain: Vec<_> = (0..4).map(|at| sim.subscriber(&format!("worker-{at}"), "$share/g/#")).collect();
    let chief = sim.connect("chief").user("chief").accepted();
    sim.subscribe(chief, "$share/g/#", QoS::AtLeastOnce);
    let publisher = sim.connect("publisher").accepted();
    for _ in 0..10 {
        sim.publish(publisher, "secret/a", "x", QoS::AtLeastOnce, false);
    }
    assert_eq!(topics(&mut sim, chief).len(), 10);
    for _ in 0..10 {
        sim.publish(publisher, "open/a", "x", QoS::AtLeastOnce, false);
    }
    let mut all = 0;
    for worker in plain {
        let received = topics(&mut sim, worker);
        assert!(!received.is_empty() && received.iter().all(|topic| topic == "open/a"));
        all += received.len();
    }
    assert_eq!(all + topics(&mut sim, chief).len(), 10);
    assert_eq!(count(&sim, |stats| stats.dropped[DropReason::NoMember]), 0);
}

#[test]
fn a_message_that_no_member_may_receive_is_dropped_and_counted() {
    let mut sim = sim(SECRETS);
    let worker = sim.subscriber("worker", "$share/g/#");
    let publisher = sim.connect("publisher").accepted();
    sim.publish(publisher, "secret/a", "x", QoS::AtLeastOnce, false);
    assert_eq!(topics(&mut sim, worker), [""; 0]);
    assert_eq!(count(&sim, |stats| stats.dropped[DropReason::NoMember]), 1);
}

#[test]
fn a_group_hears_of_a_change_of_rights_and_of_who_its_members_are() {
    let mut sim = sim(ALL);
    let worker = sim.connect("worker").user("worker").session_expiry(3600).accepted();
    sim.subscribe(worker, "$share/g/#", QoS::AtLeastOnce);
    let publisher = sim.connect("publisher").accepted();
    sim.publish(publisher, "secret/a", "x", QoS::AtLeastOnce, false);
    set_rights(&mut sim, SECRETS);
    sim.publish(publisher, "secret/b", "x", QoS::AtLeastOnce, false);
    assert_eq!(topics(&mut sim, worker), ["secret/a"]);
    let identity = Identity { fields: [("cert.cn".into(), "w".into())].into(), ..Identity::of_user("worker") };
    sim.cut(worker);
    sim.connect("worker").identity(identity).session_expiry(3600).clean_start(false).accepted();
    let rule =
        "[[rules]]\neffect = 'allow'\nfields = { 'cert.cn' = 'w' }\nactions = ['receive']\ntopics = ['secret/#']\n";
    set_rights(&mut sim, &format!("{SECRETS}{rule}"));
    sim.publish(publisher, "secret/c", "x", QoS::AtLeastOnce, false);
    assert_eq!(topics(&mut sim, worker), ["secret/c"]);
}

/// The shards do not change their rights in the same instant. A group that lives where the old ones are still in force may choose a member
/// whose own shard knows better.
#[test]
fn a_member_whose_shard_knows_the_new_rights_first_is_not_sent_what_they_forbid() {
    let mut sim = sim(ALL);
    let workers: Vec<_> = (0..6).map(|at| sim.subscriber(&format!("worker-{at}"), "$share/g/#")).collect();
    let publisher = sim.connect("publisher").accepted();
    let knows = sim.clients[workers[0].0].home.index();
    sim.shards[knows].set_rights(Arc::new(Rights::parse(SECRETS, "rights.toml").unwrap()));
    for _ in 0..12 {
        sim.publish(publisher, "secret/a", "x", QoS::AtLeastOnce, false);
    }
    for worker in workers.into_iter().filter(|worker| sim.clients[worker.0].home.index() == knows).collect::<Vec<_>>() {
        assert_eq!(topics(&mut sim, worker), [""; 0]);
    }
}

// Everything at once.

/// Readers that come and go, workers that share, and rights that change: what arrives is what the rights in force at that moment allow.
#[test]
fn what_arrives_is_what_the_rights_in_force_allow() {
    let deny =
        |topics: &str| format!("{ALL}[[rules]]\neffect = 'deny'\nactions = ['receive']\ntopics = ['{topics}']\n");
    let own = "[[rules]]\neffect = 'allow'\nactions = ['read']\ntopics = ['own/%c']\n[[rules]]\neffect = 'allow'\n\
               actions = ['write', 'subscribe']\ntopics = ['#']\n";
    let files = [ALL.to_owned(), SECRETS.to_owned(), deny("secret/#"), deny("own/%c"), own.to_owned()];
    let filters = ["#", "+/a", "open/#", "secret/+", "own/reader-0", "own/+"];
    let names = ["open/a", "open/b", "secret/a", "own/reader-0", "own/reader-1", "own/worker-0"];
    for seed in 0..30 {
        let mut sim = Simulation::new(seed, SHARDS);
        set_rights(&mut sim, ALL);
        let mut rights = Rights::parse(ALL, "rights.toml").unwrap();
        let publisher = sim.connect("publisher").accepted();
        let mut readers: Vec<(ClientHandle, String, Vec<&str>, Vec<&str>)> = Vec::new();
        for at in 0..3 {
            let name = format!("reader-{at}");
            readers.push((sim.connect(&name).session_expiry(3600).accepted(), name, Vec::new(), Vec::new()));
        }
        let workers: Vec<_> = (0..3).map(|at| sim.subscriber(&format!("worker-{at}"), "$share/g/#")).collect();
        let anonymous = Identity::default();
        for step in 0..80 {
            let at = sim.random.below(readers.len());
            match sim.random.below(8) {
                0 => {
                    let file = &files[sim.random.below(files.len())];
                    set_rights(&mut sim, file);
                    rights = Rights::parse(file, "rights.toml").unwrap();
                }
                1 if sim.is_connected(readers[at].0) => sim.cut(readers[at].0),
                1 => {
                    let (reader, name, _, queued) = &mut readers[at];
                    sim.connect(name).session_expiry(3600).clean_start(false).accepted();
                    let who = Who { identity: &anonymous, client_id: name };
                    let may = |topic: &&str| rights.may(who, Action::Receive, TopicName::parse(topic).unwrap());
                    let expected: Vec<_> = std::mem::take(queued).into_iter().filter(may).collect();
                    assert_eq!(topics(&mut sim, *reader), expected, "seed {seed}, step {step}");
                }
                2 if sim.is_connected(readers[at].0) => {
                    let filter = filters[sim.random.below(filters.len())];
                    let answer = subscribe(&mut sim, readers[at].0, filter);
                    if answer == Some(ReasonCode::GrantedQos1) {
                        readers[at].2.push(filter);
                    }
                }
                _ => {
                    let topic = names[sim.random.below(names.len())];
                    sim.publish(publisher, topic, "x", QoS::AtLeastOnce, false);
                    let name = TopicName::parse(topic).unwrap();
                    for (reader, client_id, subscribed, queued) in &mut readers {
                        let matches = subscribed.iter().any(|text| TopicFilter::parse(text).unwrap().matches(name));
                        let who = Who { identity: &anonymous, client_id };
                        let is_expected = matches && rights.may(who, Action::Receive, name);
                        if sim.is_connected(*reader) {
                            let arrived = topics(&mut sim, *reader);
                            assert_eq!(arrived.len(), usize::from(is_expected), "seed {seed}, step {step}: {topic}");
                        } else if is_expected {
                            queued.push(topic);
                        }
                    }
                    let may = |at: &usize| {
                        let client_id = &format!("worker-{at}");
                        rights.may(Who { identity: &anonymous, client_id }, Action::Receive, name)
                    };
                    let counts: Vec<_> = workers.iter().map(|worker| topics(&mut sim, *worker).len()).collect();
                    let expected = usize::from((0..workers.len()).any(|at| may(&at)));
                    assert_eq!(counts.iter().sum::<usize>(), expected, "seed {seed}, step {step}: {topic}");
                    assert!(
                        (0..workers.len()).filter(|at| counts[*at] > 0).all(|at| may(&at)),
                        "seed {seed}, step {step}"
                    );
                }
            }
        }
    }
}

// Wills.

#[test]
fn a_will_takes_the_right_to_leave_it_and_the_right_to_publish() {
    for denied in ["will", "publish"] {
        let rules = format!("{ALL}[[rules]]\neffect = 'deny'\nactions = ['{denied}']\ntopics = ['status/#']\n");
        let mut sim = sim(&rules);
        assert_eq!(sim.connect("lamp").will(Will::new("status/lamp", "off")).refused(), ReasonCode::NotAuthorized);
        sim.connect("lamp").will(Will::new("other/lamp", "off")).accepted();
        assert_eq!(count(&sim, |stats| stats.wills.refused), 1);
    }
}

#[test]
fn a_will_is_judged_by_who_its_client_was_proven_to_be() {
    let rules = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['home/%u/#']\n";
    let mut sim = sim_with(rules, |config| config.wills.acl = WillAcl::Publish);
    let watcher = sim.connect("watcher").user("alice").accepted();
    sim.subscribe(watcher, "home/alice/#", QoS::AtLeastOnce);
    let lamp = sim.connect("lamp").user("alice").will(Will::new("home/alice/lamp", "off").delay(10)).session_expiry(60);
    let lamp = lamp.accepted();
    let door = sim.connect("door").user("bob").will(Will::new("home/alice/door", "off")).accepted();
    sim.cut(lamp);
    sim.cut(door);
    sim.advance(Duration::from_secs(11));
    assert_eq!(topics(&mut sim, watcher), ["home/alice/lamp"]);
    assert_eq!(count(&sim, |stats| stats.wills.denied), 1);
}

#[test]
fn a_will_whose_watcher_may_not_receive_it_is_not_delivered() {
    let mut sim = sim(SECRETS);
    let watcher = sim.subscriber("watcher", "#");
    for topic in ["secret/lamp", "open/lamp"] {
        let lamp = sim.connect(topic).will(Will::new(topic, "off")).accepted();
        sim.cut(lamp);
    }
    assert_eq!(topics(&mut sim, watcher), ["open/lamp"]);
}
