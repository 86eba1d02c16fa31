//! What becomes of clients when memory is short, and that nothing that was promised is lost.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{Ack, Packet, PacketId, ProtocolVersion, QoS, ReasonCode};
use willowmq::config::{ClientLimits, Config, Identities, OnShutdown};
use willowmq::shard::{Closed, ConnectRefusal, DropReason, Pressure};

const SEED: u64 = 0x3E3;

/// Two clients, each of which leaves its name on `t`.
fn mourned(sim: &mut Simulation) -> (ClientHandle, ClientHandle) {
    let mut connect = |name: &str| sim.connect(name).will(Will::new("t", name)).accepted();
    (connect("a"), connect("b"))
}

#[test]
fn newcomers_are_refused_as_soon_as_memory_is_short() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.connect("a").accepted();
    for pressure in [Pressure::RefuseConnections, Pressure::ShedQos0, Pressure::PausePublishers] {
        sim.set_pressure(pressure);
        assert_eq!(sim.connect("b").refused(), ReasonCode::ServerBusy);
        assert_eq!(sim.connect("c").version(ProtocolVersion::V3_1_1).refused(), ReasonCode::ServerUnavailable, "0x03");
    }
    assert_eq!(sim.count(|stats| stats.connects_refused[ConnectRefusal::Memory]), 6);
    assert!(sim.is_connected(a));
    sim.set_pressure(Pressure::None);
    sim.connect("b").accepted();
}

#[test]
fn qos_0_is_dropped_and_counted_and_nothing_else_is() {
    let mut sim = Simulation::new(SEED, 3);
    let (low, high) = (sim.connect("low").accepted(), sim.connect("high").accepted());
    sim.subscribe(low, "#", QoS::AtMostOnce);
    sim.subscribe(high, "#", QoS::ExactlyOnce);
    let a = sim.connect("a").will(Will::new("t", "will")).accepted();
    sim.set_pressure(Pressure::RefuseConnections);
    sim.publish(a, "t", "1", QoS::AtMostOnce, false);
    sim.set_pressure(Pressure::ShedQos0);
    for (payload, qos) in [("2", QoS::AtMostOnce), ("3", QoS::AtLeastOnce), ("4", QoS::ExactlyOnce)] {
        sim.publish(a, "t", payload, qos, false);
    }
    sim.cut(a);
    assert_eq!(sim.payloads(low), ["1", "will"]);
    assert_eq!(sim.payloads(high), ["1", "3", "4", "will"]);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::Memory]), 4, "one for high, and three for low");
}

#[test]
fn who_publishes_waits_and_all_of_it_comes_when_there_is_memory_again() {
    let mut sim = Simulation::new(SEED, 3);
    let watcher = sim.subscriber("w", "#");
    let a = sim.connect("a").keep_alive(10).accepted();
    let quiet = sim.connect("quiet").accepted();
    sim.set_pressure(Pressure::PausePublishers);
    for index in 0..10 {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][index % 3];
        sim.publish_only(a, "t", &index.to_string(), qos, false, None);
    }
    sim.send(a, &Packet::Pingreq);
    // Its Keep Alive is not held against it, however long that takes.
    sim.advance(Duration::from_secs(100));
    assert!(sim.is_connected(a));
    assert!(sim.payloads(watcher).is_empty());
    assert_eq!(sim.count(|stats| stats.pauses_memory), 1);
    // Who does not publish goes on.
    sim.subscribe(quiet, "t", QoS::AtLeastOnce);
    sim.set_pressure(Pressure::RefuseConnections);
    let all: Vec<_> = (0..10).map(|index| index.to_string()).collect();
    assert_eq!(sim.payloads(watcher), all);
    assert_eq!(sim.payloads(quiet), all);
    assert_eq!(sim.clients[a.0].acknowledged.len(), 6);
    sim.advance(Duration::from_secs(14));
    assert!(sim.is_connected(a));
    sim.advance(Duration::from_secs(2));
    assert_eq!(sim.clients[a.0].disconnected_with, Some(ReasonCode::KeepAliveTimeout));
}

#[test]
fn who_goes_with_much_to_say_is_read_to_its_end_when_there_is_memory_again() {
    for (rest, waits) in [(10, false), (1 << 20, true)] {
        let limits = ClientLimits { publish_rate_max: Some(1), ..ClientLimits::default() };
        let identities = vec![Identities { users: vec!["tame".into()], limits, ..Identities::default() }];
        let mut sim = Simulation::with_config(SEED, 1, Config { identities, ..Config::default() });
        let watcher = sim.subscriber("w", "t");
        let a = sim.connect("a").user("tame").accepted();
        for payload in ["0", "1", "2"] {
            sim.publish_only(a, "t", payload, QoS::AtLeastOnce, false, None);
        }
        sim.settle();
        assert_eq!(sim.payloads(watcher), ["0"]);
        sim.set_pressure(Pressure::PausePublishers);
        sim.hang_up(a, rest);
        let (at_once, later): (&[&str], &[&str]) = if waits { (&[], &["1", "2"]) } else { (&["1", "2"], &[]) };
        assert_eq!(sim.payloads(watcher), at_once);
        sim.set_pressure(Pressure::None);
        assert_eq!(sim.payloads(watcher), later, "its own rate does not matter any more");
        // When memory is used up again before its end has been reached, it waits like everybody.
        sim.set_pressure(Pressure::PausePublishers);
        sim.publish_only(a, "t", "3", QoS::AtLeastOnce, false, None);
        sim.settle();
        let read: &[&str] = if waits { &[] } else { &["3"] };
        assert_eq!(sim.payloads(watcher), read, "the last few bytes are read all the same");
        sim.set_pressure(Pressure::None);
        assert_eq!(sim.payloads(watcher).len(), 1 - read.len());
    }
}

#[test]
fn acknowledgements_that_stand_behind_a_publish_are_read_in_the_end() {
    let mut sim = Simulation::new(SEED, 2);
    let a = sim.subscriber("a", "t");
    let silent = sim.connect("silent").accepted();
    let watcher = sim.subscriber("w", "other");
    let publisher = sim.connect("p").accepted();
    sim.clients[a.0].withholds_acks = true;
    sim.publish(publisher, "t", "1", QoS::AtLeastOnce, false);
    sim.set_pressure(Pressure::PausePublishers);
    for client in [a, silent] {
        sim.publish_only(client, "other", "x", QoS::AtLeastOnce, false, None);
        sim.send_bytes(client, &[0x32, 11, 0, 5, b'o', b't', b'h']);
    }
    let in_flight = |sim: &Simulation| {
        let home = sim.clients[a.0].home.index();
        sim.shards[home].session("a").expect("it is connected").outgoing.in_flight_len()
    };
    sim.advance(Duration::from_millis(900));
    assert!(sim.payloads(watcher).is_empty());
    sim.advance(Duration::from_millis(200));
    assert_eq!(sim.payloads(watcher), ["x"], "of the one that owes an acknowledgement");
    // One that is not whole when its time comes passes once it is.
    sim.advance(Duration::from_secs(3));
    for client in [a, silent] {
        sim.send_bytes(client, &[b'e', b'r', 0, 77, 0, b'y']);
    }
    sim.settle();
    assert_eq!(sim.payloads(watcher), ["y"]);
    sim.publish_only(a, "other", "z", QoS::AtLeastOnce, false, None);
    sim.send(a, &Packet::Puback(Ack::new(PacketId::new(1).unwrap(), ReasonCode::Success)));
    assert_eq!(in_flight(&sim), 1);
    sim.advance(Duration::from_secs(1));
    assert_eq!(sim.payloads(watcher), ["z"]);
    assert_eq!(in_flight(&sim), 0);
    sim.advance(Duration::from_secs(10));
    assert!(sim.payloads(watcher).is_empty());
    sim.set_pressure(Pressure::None);
    assert_eq!(sim.payloads(watcher), ["x", "y"]);
}

/// Nobody publishes and nobody reads, so nothing else would look at the queue.
#[test]
fn what_expires_in_a_queue_gives_its_memory_back() {
    let mut sim = Simulation::new(SEED, 2);
    let away = sim.connect("away").session_expiry(1000).accepted();
    sim.subscribe(away, "t", QoS::AtLeastOnce);
    sim.cut(away);
    let a = sim.connect("a").accepted();
    for (payload, expiry) in [("1", Some(10)), ("2", None), ("3", Some(10))] {
        sim.publish_only(a, "t", payload, QoS::AtLeastOnce, false, expiry);
    }
    sim.settle();
    let waiting = |sim: &Simulation| {
        let home = sim.clients[away.0].home.index();
        sim.shards[home].session("away").expect("it is kept").outgoing.queue().len()
    };
    sim.set_pressure(Pressure::PausePublishers);
    sim.advance(Duration::from_secs(9));
    assert_eq!(waiting(&sim), 3);
    sim.advance(Duration::from_secs(2));
    assert_eq!(waiting(&sim), 1);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::Expired]), 2);
    sim.set_pressure(Pressure::None);
    let away = sim.connect("away").clean_start(false).session_expiry(1000).accepted();
    assert_eq!(sim.payloads(away), ["2"]);
}

#[test]
fn a_message_that_is_not_whole_yet_waits_as_well() {
    let mut sim = Simulation::new(SEED, 1);
    let watcher = sim.subscriber("w", "t");
    let a = sim.connect("a").accepted();
    let publish = [0x30, 5, 0, 1, b't', 0, b'x'];
    sim.send_bytes(a, &publish[..3]);
    sim.set_pressure(Pressure::PausePublishers);
    sim.send_bytes(a, &publish[3..]);
    sim.settle();
    assert!(sim.payloads(watcher).is_empty());
    sim.set_pressure(Pressure::None);
    assert_eq!(sim.payloads(watcher), ["x"]);
}

#[test]
fn what_a_publisher_had_sent_counts_when_it_ends_while_it_waits() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("w", "t");
    let a = sim.connect("a").will(Will::new("t", "false alarm")).accepted();
    sim.set_pressure(Pressure::PausePublishers);
    sim.publish_only(a, "t", "last words", QoS::AtLeastOnce, false, None);
    sim.send(a, &Packet::Disconnect(willowmq::codec::Disconnect::new(ReasonCode::Success)));
    sim.cut_only(a, Closed::Fin);
    sim.settle();
    sim.set_pressure(Pressure::None);
    assert_eq!(sim.payloads(watcher), ["last words"]);
}

#[test]
fn will_that_is_due_waits_for_memory_and_is_published_once() {
    let mut sim = Simulation::new(SEED, 2);
    let watcher = sim.subscriber("w", "t");
    let (a, b) = mourned(&mut sim);
    sim.set_pressure(Pressure::PausePublishers);
    sim.cut(a);
    sim.cut(b);
    sim.advance(Duration::from_secs(100));
    assert!(sim.payloads(watcher).is_empty());
    assert_eq!(sim.shards.iter().map(|shard| shard.population().due_wills).sum::<usize>(), 2);
    sim.set_pressure(Pressure::ShedQos0);
    let mut wills = sim.payloads(watcher);
    wills.sort_unstable();
    assert_eq!(wills, ["a", "b"]);
    sim.advance(Duration::from_secs(100));
    assert!(sim.payloads(watcher).is_empty());
}

#[test]
fn will_that_waits_for_memory_is_published_by_a_server_that_stops() {
    let mut config = Config::default();
    config.wills.on_shutdown = OnShutdown::Publish;
    let mut sim = Simulation::with_config(SEED, 2, config);
    let watcher = sim.subscriber("w", "t");
    let (a, _) = mourned(&mut sim);
    sim.set_pressure(Pressure::PausePublishers);
    sim.cut(a);
    for shard in &mut sim.shards {
        shard.begin_shutdown(sim.now);
    }
    sim.settle();
    let mut wills = sim.payloads(watcher);
    wills.sort_unstable();
    assert_eq!(wills, ["a", "b"]);
}

/// Whatever becomes of memory meanwhile, and however fast they may publish: each message of QoS 1 and 2 arrives, in its order.
#[test]
fn nothing_that_is_promised_is_lost_over_any_course_of_pressure() {
    const PUBLISHERS: usize = 6;
    let (mut waited_for_memory, mut waited_for_rate) = (0, 0);
    for seed in 0..60_u64 {
        let mut limits = ClientLimits::default();
        if seed.is_multiple_of(2) {
            limits.publish_rate_max = Some(5);
            limits.output_bytes_max = Some(4096);
        }
        let identities = vec![Identities { users: vec!["tame".into()], limits, ..Identities::default() }];
        let mut config = Config { identities, ..Config::default() };
        config.limits.mesh_messages_max = 64;
        let mut sim = Simulation::with_config(seed, [1, 2, 5][seed as usize % 3], config);
        let watcher = sim.connect("w").session_expiry(1000).accepted();
        sim.subscribe(watcher, "t/#", QoS::ExactlyOnce);
        let connect = |index| sim.connect(&format!("p{index}")).user("tame").keep_alive(30).accepted();
        let publishers: Vec<_> = (0..PUBLISHERS).map(connect).collect();
        let mut sent = [0; PUBLISHERS];
        for _ in 0..200 {
            let at = sim.random.below(PUBLISHERS);
            match sim.random.below(8) {
                0 => {
                    let levels =
                        [Pressure::None, Pressure::RefuseConnections, Pressure::ShedQos0, Pressure::PausePublishers];
                    let shard = sim.random.below(sim.shards.len());
                    let pressure = levels[sim.random.below(levels.len())];
                    let now = sim.now;
                    sim.shards[shard].set_pressure(now, pressure);
                }
                1 => {
                    let millis = sim.random.below(2000) as u64;
                    sim.advance(Duration::from_millis(millis));
                }
                2 => {
                    let shard = sim.random.below(sim.shards.len());
                    sim.turn(shard);
                }
                _ => {
                    let qos = if at.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                    sim.publish_only(publishers[at], &format!("t/{at}"), &sent[at].to_string(), qos, false, None);
                    sent[at] += 1;
                }
            }
        }
        sim.set_pressure(Pressure::None);
        sim.advance(Duration::from_secs(20));
        waited_for_memory += sim.count(|stats| stats.pauses_memory);
        waited_for_rate += sim.count(|stats| stats.pauses_rate);
        let received = sim.received(watcher);
        for (at, sent) in sent.into_iter().enumerate() {
            let topic = format!("t/{at}");
            let of_topic = received.iter().filter(|message| message.topic == topic);
            let payloads: Vec<_> = of_topic.map(|message| message.payload.clone()).collect();
            let all: Vec<_> = (0..sent).map(|index: i32| index.to_string()).collect();
            assert_eq!(payloads, all, "seed {seed}, {topic}");
            assert_eq!(sim.clients[publishers[at].0].acknowledged.len(), all.len(), "seed {seed}, {topic}");
        }
    }
    assert!(waited_for_memory > 100 && waited_for_rate > 100, "{waited_for_memory} {waited_for_rate}");
}
