//! How much work one turn may be, whatever clients send: nobody waits long for the next one, and nothing is lost or reordered by that.

use crate::client::ClientHandle;
use crate::simulation::Simulation;
use std::time::Duration;
use willowmq::codec::{self, Disconnect, Packet, QoS, ReasonCode};
use willowmq::config::Config;
use willowmq::shard::{Closed, DropReason, Shard};

const SEED: u64 = 0x7042;
const LEVELS: usize = 40;
/// More than that is never done in a turn for those who wait, apart from the last message.
const LINE: u64 = 64 * 1024;

/// A topic on which one message is looked up on thirty thousand nodes.
fn dear_topic() -> String {
    ["a"; LEVELS].join("/")
}

/// Somebody subscribes to all filters of `+` and `a` on ten levels, with many more below them; and a watcher to what is published.
fn with_dear_topic(shards: usize) -> (Simulation, ClientHandle) {
    let mut sim = Simulation::new(SEED, shards);
    let watcher = sim.connect("watcher").accepted();
    sim.subscribe(watcher, "#", QoS::AtMostOnce);
    let subscriber = sim.connect("subscriber").accepted();
    for bits in 0..1 << 10 {
        let level = |at| if at < 10 && bits >> at & 1 == 1 { "+" } else { "a" };
        let filter: Vec<_> = (0..LEVELS).map(level).chain(["never"]).collect();
        sim.subscribe(subscriber, &filter.join("/"), QoS::AtMostOnce);
    }
    (sim, watcher)
}

/// PUBLISH packets of QoS 0 to one topic, with the numbers from 0 as their payloads.
fn publishes(topic: &str, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let payload = format!("{number}");
        let body = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes(), &[0], payload.as_bytes()].concat();
        bytes.extend_from_slice(&[0x30, body.len() as u8]);
        bytes.extend_from_slice(&body);
    }
    bytes
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn receive(sim: &mut Simulation, client: ClientHandle, bytes: &[u8]) {
    let (home, id) = (sim.clients[client.0].home.index(), sim.clients[client.0].connection.unwrap());
    sim.shards[home].receive(sim.now, id, bytes);
}

#[test]
fn what_a_client_that_has_gone_had_sent_waits_for_its_turn_and_is_not_let_go_of() {
    let (mut sim, watcher) = with_dear_topic(1);
    let publisher = sim.connect("publisher").accepted();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 100));
    let before = sim.shards[0].work();
    let id = sim.clients[publisher.0].connection.unwrap();
    for _ in 0..3 {
        sim.shards[0].on_hangup(sim.now, id, 100);
    }
    assert!(sim.shards[0].work() - before < 4 * LINE, "not all of it is done in this turn");
    sim.settle();
    assert_eq!(sim.payloads(watcher), numbers(100));
}

#[test]
fn a_turn_is_bounded_by_what_messages_cost_and_all_of_them_arrive_in_order() {
    let (mut sim, watcher) = with_dear_topic(1);
    let publisher = sim.connect("publisher").accepted();
    let before = sim.shards[0].work();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 1));
    let one = sim.shards[0].work() - before;
    assert!(one > 30_000, "{one}");
    sim.settle();
    sim.received(watcher);
    let mut begin = sim.shards[0].work();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 100));
    let mut turns = 0;
    while turns == 0 || sim.shards[0].next_deadline().is_some() {
        sim.turn(0);
        let work = sim.shards[0].work() - begin;
        assert!(work < 2 * (LINE + one), "{work} in turn {turns}");
        begin += work;
        turns += 1;
    }
    assert!(turns > 20, "{turns}");
    assert!(sim.count(|stats| stats.yields) > 20);
    sim.settle();
    assert_eq!(sim.payloads(watcher), numbers(100));
}

#[test]
fn others_are_answered_while_one_waits_for_its_turn() {
    let (mut sim, watcher) = with_dear_topic(1);
    let publisher = sim.connect("publisher").accepted();
    let other = sim.connect("other").accepted();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 100));
    receive(&mut sim, other, &publishes("cheap", 3));
    sim.turn(0);
    let home = sim.clients[watcher.0].home;
    assert_eq!(home.index(), 0);
    // What has left the shard is in the watcher's inbox: the other's messages, with most of the publisher's still to come.
    let inbox = std::mem::take(&mut sim.clients[watcher.0].inbox);
    let topics = topics_of(&inbox);
    assert_eq!(topics.iter().filter(|topic| *topic == "cheap").count(), 3);
    assert!(topics.len() < 10, "{}", topics.len());
}

fn topics_of(mut bytes: &[u8]) -> Vec<String> {
    let mut topics = Vec::new();
    while let Ok(Some(length)) = codec::packet_length(bytes, usize::MAX) {
        let packet = codec::decode(&bytes[..length], codec::ProtocolVersion::V5).expect("a server sends valid packets");
        if let Packet::Publish(publish) = packet {
            topics.push(publish.topic.to_owned());
        }
        bytes = &bytes[length..];
    }
    topics
}

#[test]
fn those_who_wait_go_on_by_turns() {
    let (mut sim, watcher) = with_dear_topic(1);
    let publishers: Vec<_> = (0..5).map(|index| sim.connect(&format!("p{index}")).accepted()).collect();
    for publisher in &publishers {
        receive(&mut sim, *publisher, &publishes(&dear_topic(), 20));
    }
    sim.settle();
    let payloads = sim.payloads(watcher);
    assert_eq!(payloads.len(), 100);
    for (at, payload) in payloads.iter().enumerate() {
        let number: usize = payload.parse().expect("a number");
        assert!(number.abs_diff(at / publishers.len()) <= 2, "message {number} came as {at}");
    }
}

#[test]
fn whoever_waits_for_its_turn_is_alive_and_what_it_had_sent_counts_when_it_ends() {
    let (mut sim, watcher) = with_dear_topic(1);
    let publisher =
        sim.connect("publisher").keep_alive(10).will(crate::client::Will::new("t", "false alarm")).accepted();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 30));
    // The shard has no turn for so long; the first one it has is not the end of whoever waited for it.
    sim.now += Duration::from_secs(60);
    sim.turn(0);
    assert!(sim.is_connected(publisher));
    sim.send(publisher, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    sim.cut_only(publisher, Closed::Fin);
    sim.settle();
    assert_eq!(sim.payloads(watcher), numbers(30));
}

/// Each message goes to so many groups, which live on all shards, and from there to the one Session that is their member.
const GROUPS: usize = 100;

#[test]
fn messages_between_shards_are_bounded_however_many_groups_one_session_joins() {
    const CHANNEL_MAX: usize = 32;
    const PUBLISHES: usize = 400;
    let mut config = Config::default();
    config.limits.mesh_messages_max = CHANNEL_MAX as u32;
    let mut sim = Simulation::with_config(SEED, 3, config);
    sim.channel_max = CHANNEL_MAX;
    let member = sim.connect("member").accepted();
    for group in 0..GROUPS {
        sim.subscribe(member, &format!("$share/g{group}/g"), QoS::AtMostOnce);
    }
    let publishers: Vec<_> = (0..9).map(|index| sim.connect(&format!("p{index}")).accepted()).collect();
    assert!((0..3).all(|shard| publishers.iter().any(|it| sim.clients[it.0].home.index() == shard)));
    for publisher in &publishers {
        receive(&mut sim, *publisher, &publishes("g", PUBLISHES));
    }
    let mut most = 0;
    for turn in 0.. {
        sim.turn(turn % 3);
        most = sim.shards.iter().map(|shard| shard.population().letters).max().unwrap_or(0).max(most);
        let is_busy = |shard: &Shard| shard.population().letters > 0 || shard.next_deadline().is_some();
        if turn > 100 && !sim.shards.iter().any(is_busy) {
            break;
        }
    }
    sim.settle();
    // What a publisher had begun is carried out, and a peer that is told to wait hears of it when its channel is full.
    assert!(most < 3 * GROUPS + 8 * CHANNEL_MAX, "{most}");
    assert!(sim.count(|stats| stats.letters_put_aside) > 0);
    assert_eq!(sim.count(|stats| stats.dropped[DropReason::NoMember]), 0);
    let delivered = sim.count(|stats| stats.sent.total().count + stats.dropped[DropReason::OutputFull]);
    assert_eq!(delivered, (GROUPS * PUBLISHES * publishers.len()) as u64, "nothing waits for ever");
}

/// Groups, publishers and their members on all shards, and channels that are always full: whatever waits goes on in the end.
#[test]
fn shards_that_wait_for_each_other_never_do_so_in_a_circle() {
    let mut put_aside = 0;
    for seed in 0..40_u64 {
        let mut config = Config::default();
        config.limits.mesh_messages_max = 1 + seed as u32 % 8;
        let mut sim = Simulation::with_config(seed, 2 + seed as usize % 4, config);
        let clients: Vec<_> =
            (0..8).map(|index| sim.connect(&format!("c{index}")).session_expiry(100).accepted()).collect();
        for (index, client) in clients.iter().enumerate() {
            for group in 0..10 {
                sim.subscribe(*client, &format!("$share/g{index}-{group}/t/#"), QoS::AtLeastOnce);
            }
        }
        let watcher = sim.subscriber("watcher", "t/#");
        sim.channel_max = 1 + seed as usize % 5;
        for number in 0..15 {
            for (index, client) in clients.iter().enumerate() {
                let qos = if index % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                sim.publish_only(*client, &format!("t/{index}"), &number.to_string(), qos, false, None);
            }
            let shard = sim.random.below(sim.shards.len());
            sim.turn(shard);
        }
        sim.settle();
        put_aside += sim.count(|stats| stats.letters_put_aside);
        let received = sim.received(watcher);
        for (index, client) in clients.iter().enumerate() {
            let topic = format!("t/{index}");
            let of_topic = received.iter().filter(|message| message.topic == topic);
            let payloads: Vec<_> = of_topic.map(|message| message.payload.clone()).collect();
            assert_eq!(payloads, numbers(15), "seed {seed}, {topic}");
            assert_eq!(sim.received(*client).len(), 10 * 15 * clients.len(), "seed {seed}, its groups");
            assert_eq!(sim.clients[client.0].acknowledged.len(), 15, "seed {seed}, {topic}");
        }
    }
    assert!(put_aside > 1000, "{put_aside}");
}

#[test]
fn whoever_is_taken_over_is_caught_up_with_as_far_as_that_is_bounded_and_its_goodbye_counts() {
    let (mut sim, watcher) = with_dear_topic(1);
    let will = crate::client::Will::new("t", "false alarm");
    let publisher = sim.connect("publisher").will(will).accepted();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 200));
    sim.send(publisher, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    let before = sim.shards[0].work();
    sim.connect("publisher").only();
    let work = sim.shards[0].work() - before;
    assert!(work < 18 * LINE, "{work}");
    sim.settle();
    let payloads = sim.payloads(watcher);
    let abandoned = sim.count(|stats| stats.publishes_abandoned) as usize;
    assert!(abandoned > 100 && payloads.len() > 20, "{abandoned}");
    assert_eq!(payloads, numbers(200 - abandoned));
}

#[test]
fn whoever_has_hung_up_goes_on_by_turns_and_loses_nothing() {
    let (mut sim, watcher) = with_dear_topic(1);
    let will = crate::client::Will::new("t", "gone");
    let publisher = sim.connect("publisher").will(will).accepted();
    receive(&mut sim, publisher, &publishes(&dear_topic(), 100));
    let id = sim.clients[publisher.0].connection.unwrap();
    let before = sim.shards[0].work();
    sim.shards[0].on_hangup(sim.now, id, 0);
    receive(&mut sim, publisher, &[0xC0, 0]);
    assert!(sim.shards[0].waits_for_turn(id));
    assert!(sim.shards[0].work() - before < 2 * LINE, "it is no reason for haste");
    sim.settle();
    assert!(!sim.shards[0].waits_for_turn(id));
    sim.cut(publisher);
    let mut all = numbers(100);
    all.push("gone".to_owned());
    assert_eq!(sim.payloads(watcher), all);
    assert_eq!(sim.count(|stats| stats.publishes_abandoned), 0);
}
