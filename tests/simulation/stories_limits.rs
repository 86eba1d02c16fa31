//! What a client may make the broker hold or do: each bound is reached, for a listener or for a user, and shows in a counter.

use crate::client::{ClientHandle, Told, Will};
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{
    Disconnect, Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscriptionFilters, SubscriptionOptions,
    Unsubscribe, UnsubscribeFilters, UserProperties,
};
use willowmq::config::{ClientLimits, Config, Identities, Listener, OnShutdown, SlowReader};
use willowmq::shard::handshake::first_packet;
use willowmq::shard::{ConnectRefusal, DropReason, Event, WillFate};

const SEED: u64 = 0x11417;

/// Bounds for the user "tame", and for nobody else.
fn tame(limits: ClientLimits) -> Config {
    let identities = vec![Identities { users: vec!["tame".into()], limits, ..Identities::default() }];
    Config { identities, ..Config::default() }
}

/// Bounds on the second of two listeners.
fn second_listener(limits: ClientLimits) -> Config {
    let listeners = vec![Listener::default(), Listener { limits, ..Listener::default() }];
    Config { listeners, ..Config::default() }
}

fn none() -> ClientLimits {
    ClientLimits::default()
}

/// The Reason Code of the newest SUBACK or acknowledgement.
fn last_ack(sim: &Simulation, client: ClientHandle) -> ReasonCode {
    sim.clients[client.0].acknowledged.last().expect("an acknowledgement").1
}

fn subscribe_for(sim: &mut Simulation, client: ClientHandle, filters: &[&str]) -> Vec<ReasonCode> {
    let packet_id = sim.clients[client.0].next_id();
    let filters: Vec<_> = filters.iter().map(|filter| (*filter, SubscriptionOptions::new(QoS::AtMostOnce))).collect();
    let filters = SubscriptionFilters::from_slice(&filters);
    let user_properties = UserProperties::default();
    let subscribe = Subscribe { packet_id, subscription_identifier: None, filters, user_properties };
    sim.send(client, &Packet::Subscribe(subscribe));
    sim.settle();
    std::mem::take(&mut sim.clients[client.0].suback)
}

fn disconnected_with(sim: &Simulation, client: ClientHandle) -> Option<ReasonCode> {
    sim.clients[client.0].disconnected_with
}

#[test]
fn a_client_is_told_the_bounds_of_its_listener_and_user() {
    let mut config = second_listener(ClientLimits {
        receive_maximum: Some(7),
        packet_bytes_max: Some(2000),
        keep_alive_max: Some(30),
        session_expiry_max: Some(Duration::from_secs(60)),
        ..none()
    });
    config.identities = tame(ClientLimits { receive_maximum: Some(3), ..none() }).identities;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let told = |sim: &Simulation, client: ClientHandle| sim.clients[client.0].told.clone();
    let a = sim.connect("a").keep_alive(100).session_expiry(100).listener(1).user("tame").accepted();
    let expected = Told {
        receive_maximum: Some(3),
        maximum_packet_size: Some(2000),
        server_keep_alive: Some(30),
        session_expiry_interval: Some(60),
        authentication: None,
    };
    assert_eq!(told(&sim, a), expected);
    let b = sim.connect("b").keep_alive(100).session_expiry(100).user("tame").accepted();
    assert_eq!(told(&sim, b).receive_maximum, Some(3));
    assert_eq!((told(&sim, b).server_keep_alive, told(&sim, b).session_expiry_interval), (None, None));
    let c = sim.connect("c").listener(1).user("wild").accepted();
    assert_eq!(told(&sim, c).receive_maximum, Some(7));
    let d = sim.connect("d").accepted();
    assert_eq!(told(&sim, d).receive_maximum, Some(1024));
}

#[test]
fn mqtt_3_2_2_15_a_packet_above_the_bound_of_the_listener_ends_the_connection() {
    let mut sim =
        Simulation::with_config(SEED, 1, second_listener(ClientLimits { packet_bytes_max: Some(128), ..none() }));
    let (a, b) = (sim.connect("a").listener(0).accepted(), sim.connect("b").listener(1).accepted());
    for client in [a, b] {
        sim.publish(client, "t", &"x".repeat(200), QoS::AtMostOnce, false);
    }
    assert!(sim.is_connected(a));
    assert_eq!(disconnected_with(&sim, b), Some(ReasonCode::PacketTooLarge));
    assert_eq!(sim.count(|stats| stats.protocol_errors), 1);
}

#[test]
fn the_first_packet_is_held_to_the_bound_of_its_listener() {
    let config = second_listener(ClientLimits { packet_bytes_max: Some(128), ..none() });
    let client_id = "x".repeat(200);
    let mut bytes = Vec::new();
    let connect = willowmq::codec::Connect::new(ProtocolVersion::V5, &client_id);
    willowmq::codec::encode(&Packet::Connect(Box::new(connect)), ProtocolVersion::V5, &mut bytes);
    assert!(first_packet(&bytes, &config, 0).is_ok());
    assert!(first_packet(&bytes, &config, 1).is_err());
    assert!(first_packet(&bytes[..10], &config, 1).is_err(), "its length tells, before it is there");
}

#[test]
fn topics_are_bounded_in_depth_and_length() {
    let limits = ClientLimits { topic_levels_max: Some(3), topic_bytes_max: Some(10), ..none() };
    let mut sim = Simulation::with_config(SEED, 1, tame(limits));
    let wild = sim.connect("wild").accepted();
    let a = sim.connect("a").user("tame").accepted();
    for (filter, expected) in [
        ("a/b/c", ReasonCode::Success),
        ("a/b/c/d", ReasonCode::TopicFilterInvalid),
        ("0123456789a", ReasonCode::TopicFilterInvalid),
    ] {
        assert_eq!(subscribe_for(&mut sim, a, &[filter]), [expected], "{filter}");
        assert_eq!(subscribe_for(&mut sim, wild, &[filter]), [ReasonCode::Success], "{filter}");
    }
    assert_eq!(sim.count(|stats| stats.filters_refused), 2);
    for topic in ["a/b/c/d", "0123456789a"] {
        let a = sim.connect("a").user("tame").accepted();
        sim.publish(a, topic, "x", QoS::AtMostOnce, false);
        assert_eq!(disconnected_with(&sim, a), Some(ReasonCode::TopicNameInvalid));
        let refused = sim.connect("b").user("tame").will(Will::new(topic, "x")).refused();
        assert_eq!(refused, ReasonCode::TopicNameInvalid);
    }
}

#[test]
fn a_session_has_so_many_subscriptions_and_may_replace_them() {
    let limits = ClientLimits { subscriptions_per_session_max: Some(2), ..none() };
    let mut sim = Simulation::with_config(SEED, 2, tame(limits));
    let a = sim.connect("a").user("tame").accepted();
    let (granted, refused) = (ReasonCode::Success, ReasonCode::QuotaExceeded);
    assert_eq!(subscribe_for(&mut sim, a, &["1", "2", "3", "1"]), [granted, granted, refused, granted]);
    sim.unsubscribe(a, "2");
    assert_eq!(subscribe_for(&mut sim, a, &["3", "4"]), [granted, refused]);
    assert_eq!(sim.count(|stats| stats.subscriptions_refused), 2);
}

#[test]
fn one_packet_holds_so_many_topic_filters() {
    let mut config = Config::default();
    config.limits.filters_per_subscribe_max = 2;
    let mut sim = Simulation::with_config(SEED, 2, config);
    let a = sim.connect("a").accepted();
    let (granted, refused) = (ReasonCode::Success, ReasonCode::QuotaExceeded);
    assert_eq!(subscribe_for(&mut sim, a, &["1", "2", "3", "4"]), [granted, granted, refused, refused]);
    assert_eq!(sim.count(|stats| stats.filters_refused), 2);
    let unsubscribe = |sim: &mut Simulation, filters: &[&str]| {
        let packet_id = sim.clients[a.0].next_id();
        let filters = UnsubscribeFilters::from_slice(filters);
        sim.send(
            a,
            &Packet::Unsubscribe(Unsubscribe { packet_id, filters, user_properties: UserProperties::default() }),
        );
        sim.settle();
    };
    unsubscribe(&mut sim, &["1", "2"]);
    assert!(sim.is_connected(a));
    unsubscribe(&mut sim, &["1", "2", "3"]);
    assert_eq!(disconnected_with(&sim, a), Some(ReasonCode::QuotaExceeded));
    assert_eq!(sim.count(|stats| stats.filters_refused), 3);
}

#[test]
fn mqtt_3_3_4_7_the_receive_maximum_is_that_of_the_user() {
    let mut sim = Simulation::with_config(SEED, 1, tame(ClientLimits { receive_maximum: Some(2), ..none() }));
    for (user, expected) in [("wild", None), ("tame", Some(ReasonCode::ReceiveMaximumExceeded))] {
        let a = sim.connect(user).user(user).accepted();
        for id in 1..=3 {
            sim.send_bytes(a, &[0x34, 7, 0, 1, b't', 0, id, 0, b'x']);
        }
        sim.settle();
        assert_eq!(disconnected_with(&sim, a), expected, "{user}");
    }
}

#[test]
fn so_many_messages_are_in_flight_towards_a_user() {
    let mut sim = Simulation::with_config(SEED, 2, tame(ClientLimits { inflight_max: Some(2), ..none() }));
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").user("tame").accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.clients[a.0].withholds_acks = true;
    for index in 0..5 {
        sim.publish(publisher, "t", &index.to_string(), QoS::AtLeastOnce, false);
    }
    assert_eq!(sim.payloads(a), ["0", "1"]);
}

#[test]
fn a_queue_holds_as_much_as_that_of_its_user_may() {
    for (limits, expected) in [
        (ClientLimits { queue_messages_max: Some(2), ..none() }, 2),
        (ClientLimits { queue_bytes_max: Some(1500), ..none() }, 1),
    ] {
        let mut sim = Simulation::with_config(SEED, 2, tame(limits));
        let publisher = sim.connect("p").accepted();
        let clients = ["tame", "wild"].map(|user| sim.connect(user).user(user).session_expiry(100).accepted());
        for client in clients {
            sim.subscribe(client, "t", QoS::AtLeastOnce);
            sim.cut(client);
        }
        for _ in 0..4 {
            sim.publish(publisher, "t", &"x".repeat(1000), QoS::AtLeastOnce, false);
        }
        assert_eq!(sim.count(|stats| stats.dropped[DropReason::QueueFull]), 4 - expected);
        for (user, expected) in [("tame", expected), ("wild", 4)] {
            let client = sim.connect(user).user(user).clean_start(false).session_expiry(100).accepted();
            assert_eq!(sim.received(client).len() as u64, expected, "{user}");
        }
    }
}

#[test]
fn all_queues_hold_as_much_as_those_of_the_broker_may() {
    let mut config = Config::default();
    config.sessions.queues_messages_max = 3;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let publisher = sim.connect("p").accepted();
    for name in ["a", "b"] {
        let client = sim.connect(name).session_expiry(100).accepted();
        sim.subscribe(client, "t", QoS::AtLeastOnce);
        sim.cut(client);
    }
    for _ in 0..2 {
        sim.publish(publisher, "t", "x", QoS::AtLeastOnce, false);
    }
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::QueueFull]), 1);
}

#[test]
fn a_message_that_waits_too_long_is_dropped() {
    let mut config = Config::default();
    config.sessions.queue_age_max = Some(Duration::from_secs(10));
    let mut sim = Simulation::with_config(SEED, 2, config);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.cut(a);
    sim.publish(publisher, "t", "old", QoS::AtLeastOnce, false);
    sim.advance(Duration::from_secs(9));
    sim.publish(publisher, "t", "new", QoS::AtLeastOnce, false);
    sim.advance(Duration::from_secs(2));
    let a = sim.connect("a").clean_start(false).session_expiry(100).accepted();
    assert_eq!(sim.payloads(a), ["new"]);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::TooOld]), 1);
}

#[test]
fn mqtt_3_2_2_11_a_publish_above_the_maximum_qos_ends_the_connection() {
    let mut config = Config::default();
    config.limits.maximum_qos = 1;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let a = sim.connect("a").accepted();
    sim.publish(a, "t", "x", QoS::AtLeastOnce, false);
    assert!(sim.is_connected(a));
    sim.publish(a, "t", "x", QoS::ExactlyOnce, false);
    assert_eq!(disconnected_with(&sim, a), Some(ReasonCode::QosNotSupported));
    assert_eq!(sim.count(|stats| stats.protocol_errors), 1);
}

#[test]
fn a_session_keeps_so_many_topics_retained() {
    let mut sim = Simulation::with_config(SEED, 3, tame(ClientLimits { retained_messages_max: Some(2), ..none() }));
    let watcher = sim.subscriber("w", "#");
    let a = sim.connect("a").user("tame").session_expiry(100).accepted();
    let publish = |sim: &mut Simulation, topic: &str, payload: &str| {
        sim.publish(a, topic, payload, QoS::AtLeastOnce, true);
        last_ack(sim, a)
    };
    assert_eq!(publish(&mut sim, "1", "a"), ReasonCode::Success);
    assert_eq!(publish(&mut sim, "2", "b"), ReasonCode::Success);
    assert_eq!(publish(&mut sim, "3", "c"), ReasonCode::QuotaExceeded);
    assert_eq!(publish(&mut sim, "1", "d"), ReasonCode::Success, "it replaces its own");
    assert_eq!(publish(&mut sim, "2", ""), ReasonCode::Success, "it makes room");
    assert_eq!(publish(&mut sim, "3", "e"), ReasonCode::Success);
    // The account is the Session's, not the connection's.
    sim.cut(a);
    sim.connect("a").user("tame").clean_start(false).session_expiry(100).accepted();
    assert_eq!(publish(&mut sim, "4", "f"), ReasonCode::QuotaExceeded);
    sim.publish(a, "4", "g", QoS::AtMostOnce, true);
    assert_eq!(sim.payloads(watcher), ["a", "b", "d", "", "e"]);
    assert_eq!(sim.count(|stats| stats.publishes_refused_retained), 3);
    assert!(sim.is_connected(a));
}

#[test]
fn a_will_above_the_bound_on_retained_topics_is_delivered_and_not_kept() {
    let mut sim = Simulation::with_config(SEED, 3, tame(ClientLimits { retained_messages_max: Some(1), ..none() }));
    let watcher = sim.subscriber("w", "#");
    for (topic, payload) in [("1", "kept"), ("2", "not kept"), ("1", "kept instead")] {
        let will = Will::new(topic, payload).retain();
        let a = sim.connect("a").user("tame").clean_start(false).session_expiry(100).will(will).accepted();
        sim.cut(a);
    }
    assert_eq!(sim.payloads(watcher), ["kept", "not kept", "kept instead"]);
    let late = sim.subscriber("late", "#");
    assert_eq!(sim.payloads(late), ["kept instead"]);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::Retained]), 1);
}

#[test]
fn a_client_of_3_1_1_with_too_many_topics_retained_is_acknowledged_and_stays() {
    let mut sim = Simulation::with_config(SEED, 1, tame(ClientLimits { retained_messages_max: Some(0), ..none() }));
    let watcher = sim.subscriber("w", "#");
    let a = sim.connect("a").user("tame").version(ProtocolVersion::V3_1_1).accepted();
    sim.publish(a, "1", "a", QoS::AtLeastOnce, true);
    assert_eq!(last_ack(&sim, a), ReasonCode::Success);
    assert!(sim.is_connected(a));
    assert!(sim.payloads(watcher).is_empty());
    assert_eq!(sim.count(|stats| stats.publishes_refused_retained), 1);
}

#[test]
fn who_publishes_too_fast_is_not_read_for_a_moment_and_loses_nothing() {
    let mut sim = Simulation::with_config(SEED, 2, tame(ClientLimits { publish_rate_max: Some(10), ..none() }));
    let watcher = sim.subscriber("w", "t");
    let a = sim.connect("a").user("tame").keep_alive(1).accepted();
    for index in 0..40 {
        sim.publish_only(a, "t", &index.to_string(), QoS::AtLeastOnce, false, None);
    }
    sim.settle();
    assert_eq!(sim.received(watcher).len(), 10);
    sim.advance(Duration::from_millis(99));
    assert_eq!(sim.received(watcher).len(), 0);
    sim.advance(Duration::from_millis(1001));
    assert_eq!(sim.received(watcher).len(), 11);
    // A Keep Alive of a second is not held against it meanwhile.
    sim.advance(Duration::from_millis(1900));
    assert_eq!(sim.received(watcher).len(), 19);
    assert!(sim.is_connected(a));
    assert_eq!(sim.clients[a.0].acknowledged.len(), 40);
    assert_eq!(sim.count(|stats| stats.pauses_rate), 31);
    sim.advance(Duration::from_millis(1700));
    assert!(!sim.is_connected(a), "from then on its silence counts");
}

/// It has published too fast, and its DISCONNECT waits behind that.
#[test]
fn who_has_said_goodbye_while_it_was_not_read_has_not_died() {
    type End = fn(&mut Simulation);
    let ends: [End; 3] = [
        |sim| sim.advance(Duration::from_secs(5)),
        |sim| {
            let now = sim.now;
            for shard in &mut sim.shards {
                shard.disconnect(now, "a", WillFate::Publish);
            }
            sim.settle();
        },
        |sim| {
            let now = sim.now;
            sim.shards.iter_mut().for_each(|shard| shard.begin_shutdown(now));
            sim.settle();
        },
    ];
    for end in ends {
        let mut config = tame(ClientLimits { publish_rate_max: Some(1), ..none() });
        config.wills.on_shutdown = OnShutdown::Publish;
        let mut sim = Simulation::with_config(SEED, 2, config);
        let watcher = sim.subscriber("w", "t");
        let until = sim.now + Duration::from_secs(4);
        let a = sim.connect("a").user("tame").valid_until(until).will(Will::new("t", "false alarm")).accepted();
        for index in 0..9 {
            sim.publish_only(a, "t", &index.to_string(), QoS::AtMostOnce, false, None);
        }
        sim.send(a, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        end(&mut sim);
        assert_eq!(sim.payloads(watcher), ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
    }
}

/// The peer of a client that has published too fast ends, and part of what it sent lies in the kernel.
#[test]
fn who_goes_while_it_is_not_read_is_read_to_its_end_at_once() {
    for says_goodbye in [false, true] {
        let mut sim = Simulation::with_config(SEED, 2, tame(ClientLimits { publish_rate_max: Some(1), ..none() }));
        let watcher = sim.subscriber("w", "t");
        let a = sim.connect("a").user("tame").keep_alive(1).will(Will::new("t", "gone")).accepted();
        for payload in ["0", "1", "2"] {
            sim.publish_only(a, "t", payload, QoS::AtLeastOnce, false, None);
        }
        sim.settle();
        assert_eq!(sim.payloads(watcher), ["0"]);
        sim.hang_up(a, 100);
        assert_eq!(sim.payloads(watcher), ["1", "2"]);
        sim.publish_only(a, "t", "3", QoS::AtLeastOnce, false, None);
        sim.publish_only(a, "t", "4", QoS::AtLeastOnce, false, None);
        sim.settle();
        assert_eq!(sim.payloads(watcher), ["3", "4"], "it is not paused again");
        assert_eq!(sim.clients[a.0].acknowledged.len(), 5, "it may have ended only its own half");
        if says_goodbye {
            sim.send(a, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
            sim.settle();
        } else {
            sim.cut(a);
        }
        let will: &[&str] = if says_goodbye { &[] } else { &["gone"] };
        assert_eq!(sim.payloads(watcher), will);
    }
}

#[test]
fn bytes_of_publishes_are_bounded_likewise() {
    let mut sim = Simulation::with_config(SEED, 1, tame(ClientLimits { publish_bytes_rate_max: Some(1024), ..none() }));
    let watcher = sim.subscriber("w", "t");
    let a = sim.connect("a").user("tame").accepted();
    for _ in 0..3 {
        sim.publish_only(a, "t", &"x".repeat(2000), QoS::AtMostOnce, false, None);
    }
    sim.send(a, &Packet::Pingreq);
    sim.settle();
    assert_eq!(sim.received(watcher).len(), 1, "the first is more than a second's worth, and is owed");
    sim.advance(Duration::from_secs(1));
    assert_eq!(sim.received(watcher).len(), 1);
    sim.advance(Duration::from_secs(2));
    assert_eq!(sim.received(watcher).len(), 1);
    assert!(sim.is_connected(a));
}

#[test]
fn will_is_published_when_a_client_that_was_too_fast_goes() {
    let mut sim = Simulation::with_config(SEED, 1, tame(ClientLimits { publish_rate_max: Some(1), ..none() }));
    let watcher = sim.subscriber("w", "t");
    let a = sim.connect("a").user("tame").will(Will::new("t", "gone")).accepted();
    for index in 0..3 {
        sim.publish_only(a, "t", &index.to_string(), QoS::AtLeastOnce, false, None);
    }
    sim.cut(a);
    assert_eq!(sim.payloads(watcher), ["0", "1", "2", "gone"], "what it had sent counts");
    sim.advance(Duration::from_secs(10));
    assert!(sim.payloads(watcher).is_empty());
}

/// A user that does not read, and what others publish for it.
fn slow_reader(qos: QoS, slow_reader: SlowReader) -> (Simulation, ClientHandle, ClientHandle) {
    let limits = ClientLimits { output_bytes_max: Some(4096), slow_reader: Some(slow_reader), ..none() };
    let mut sim = Simulation::with_config(SEED, 2, tame(limits));
    let watcher = sim.subscriber("w", "will");
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").user("tame").will(Will::new("will", "too slow")).accepted();
    sim.subscribe(a, "t", qos);
    sim.clients[a.0].is_stuck = true;
    for _ in 0..20 {
        sim.publish(publisher, "t", &"x".repeat(500), qos, false);
    }
    (sim, a, watcher)
}

#[test]
fn will_of_a_slow_reader_is_published_when_it_is_disconnected_with_0x97() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut sim, a, watcher) = slow_reader(qos, SlowReader::Disconnect);
        assert!(!sim.is_connected(a));
        assert_eq!(sim.count(|stats| stats.slow_readers_disconnected), 1);
        assert_eq!(sim.payloads(watcher), ["too slow"]);
    }
}

#[test]
fn a_slow_reader_is_only_given_less_where_that_is_so() {
    let (mut sim, a, watcher) = slow_reader(QoS::AtMostOnce, SlowReader::Drop);
    sim.unstick(a);
    assert!(sim.is_connected(a));
    let received = sim.received(a).len() as u64;
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::OutputFull]), 20 - received);
    assert!((1..20).contains(&received));
    assert!(sim.payloads(watcher).is_empty());
    assert_eq!(sim.count(|stats| stats.slow_readers_disconnected), 0);
}

#[test]
fn a_client_that_does_not_read_its_acknowledgements_is_a_slow_reader_too() {
    for (slow_reader, is_connected) in [(SlowReader::Drop, true), (SlowReader::Disconnect, false)] {
        let limits = ClientLimits { output_bytes_max: Some(4096), slow_reader: Some(slow_reader), ..none() };
        let mut sim = Simulation::with_config(SEED, 1, tame(limits));
        let a = sim.connect("a").user("tame").accepted();
        sim.clients[a.0].is_stuck = true;
        for _ in 0..5000 {
            sim.send(a, &Packet::Pingreq);
        }
        sim.settle();
        assert_eq!(sim.is_connected(a), is_connected);
        assert_eq!(sim.count(|stats| stats.pauses_choked), 1);
        assert_eq!(sim.count(|stats| stats.slow_readers_disconnected), u64::from(!is_connected));
    }
}

#[test]
fn a_client_that_comes_back_to_a_long_queue_is_no_slow_reader() {
    let limits = ClientLimits { output_bytes_max: Some(4096), slow_reader: Some(SlowReader::Disconnect), ..none() };
    let mut sim = Simulation::with_config(SEED, 2, tame(limits));
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").user("tame").session_expiry(100).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    sim.cut(a);
    for _ in 0..100 {
        sim.publish(publisher, "t", &"x".repeat(500), QoS::AtLeastOnce, false);
    }
    let mut connect = sim.connect("a").user("tame").clean_start(false).session_expiry(100);
    connect.only();
    sim.clients[a.0].is_stuck = true;
    sim.settle();
    for _ in 0..10 {
        sim.publish(publisher, "t", &"x".repeat(500), QoS::AtLeastOnce, false);
    }
    sim.unstick(a);
    assert!(sim.is_connected(a));
    assert_eq!(sim.received(a).len(), 110);
}

#[test]
fn sessions_are_bounded_and_those_that_are_there_can_come_back() {
    let mut config = Config::default();
    config.sessions.sessions_max = 2;
    let mut sim = Simulation::with_config(SEED, 1, config);
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.connect("b").accepted();
    assert_eq!(sim.connect("c").refused(), ReasonCode::QuotaExceeded);
    sim.cut(a);
    sim.connect("a").clean_start(false).session_expiry(100).accepted();
    assert_eq!(sim.connect("c").version(ProtocolVersion::V3_1_1).refused(), ReasonCode::ServerUnavailable);
    assert_eq!(sim.count(|stats| stats.connects_refused[ConnectRefusal::SessionsMax]), 2);
}

#[test]
fn wills_above_the_threshold_are_told_of_as_a_storm() {
    for (wills, is_storm) in [(10, false), (11, true)] {
        let mut config = Config::default();
        config.wills.storm_threshold_per_second = 10;
        let mut sim = Simulation::with_config(SEED, 1, config);
        let watcher = sim.subscriber("w", "will");
        let name = |index| format!("c{index}");
        let clients: Vec<_> =
            (0..wills).map(|index| sim.connect(&name(index)).will(Will::new("will", "x")).accepted()).collect();
        for client in clients {
            sim.cut_only(client, willowmq::shard::Closed::Reset);
        }
        sim.advance(Duration::from_secs(2));
        assert_eq!(sim.received(watcher).len(), wills as usize);
        assert_eq!(sim.count(|stats| stats.wills.storms), u64::from(is_storm));
        let told = sim.events.iter().any(|event| matches!(event, Event::Storm { wills: 11, .. }));
        assert_eq!(told, is_storm);
    }
}

#[test]
fn a_session_is_not_taken_over_by_another_user() {
    let mut sim = Simulation::new(SEED, 2);
    let publisher = sim.connect("p").accepted();
    let a = sim.connect("a").user("alice").session_expiry(100).will(Will::new("t", "gone")).accepted();
    sim.subscribe(a, "t", QoS::AtLeastOnce);
    assert_eq!(sim.connect("a").user("mallory").refused(), ReasonCode::ClientIdentifierNotValid);
    sim.cut(a); // The simulated client forgets its connection when it dials anew; so it is over now.
    let a = sim.connect("a").user("alice").clean_start(false).session_expiry(100).accepted();
    sim.received(a);
    sim.cut(a);
    sim.publish(publisher, "t", "for alice", QoS::AtLeastOnce, false);
    assert_eq!(sim.connect("a").user("mallory").clean_start(false).refused(), ReasonCode::ClientIdentifierNotValid);
    assert_eq!(sim.connect("a").clean_start(false).refused(), ReasonCode::ClientIdentifierNotValid);
    let old = sim.connect("a").version(ProtocolVersion::V3_1_1).refused();
    assert_eq!(old, ReasonCode::ClientIdentifierNotValid, "0x02");
    assert_eq!(sim.count(|stats| stats.connects_refused[ConnectRefusal::OtherUser]), 4);
    let (a, is_resumed) = sim.connect("a").user("alice").clean_start(false).session_expiry(100).accepted_with_session();
    assert!(is_resumed);
    assert_eq!(sim.payloads(a), ["for alice"]);
    // Once the Session is over, the Client Identifier is anybody's.
    sim.cut(a);
    sim.advance(Duration::from_secs(100));
    sim.connect("a").user("mallory").accepted();
}

#[test]
fn a_session_without_a_user_is_anybodys_who_knows_its_client_identifier() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.connect("a").session_expiry(100).accepted();
    sim.cut(a);
    let (_, is_resumed) = sim.connect("a").user("alice").clean_start(false).session_expiry(100).accepted_with_session();
    assert!(is_resumed);
    assert_eq!(sim.connect("a").clean_start(false).refused(), ReasonCode::ClientIdentifierNotValid, "now it is hers");
}
