//! Who is there: the messages about clients that come and go, seen from outside.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{ProtocolVersion, QoS, ReasonCode};
use willowmq::config::Config;
use willowmq::security::Rights;
use willowmq::shard::inspect::Outcome;
use willowmq::shard::{Closed, Pressure, WillFate};

const SHARDS: usize = 3;

fn sim_with(change: impl FnOnce(&mut Config)) -> Simulation {
    let mut config = Config::default();
    config.presence.enabled = true;
    config.presence.root = "presence".into();
    change(&mut config);
    Simulation::with_config(11, SHARDS, config)
}

fn sim() -> Simulation {
    sim_with(|_| {})
}

/// What a watcher has received since this was last asked: topics and contents.
fn news(sim: &mut Simulation, watcher: ClientHandle) -> Vec<(String, Value)> {
    let parsed = |payload: &str| serde_json::from_str(payload).expect("it is JSON");
    sim.received(watcher).into_iter().map(|it| (it.topic, parsed(&it.payload))).collect()
}

/// The same for one client: what became of it.
fn of(sim: &mut Simulation, watcher: ClientHandle, client: &str) -> Vec<String> {
    let of_client = news(sim, watcher).into_iter().filter(|(_, told)| told["client_id"] == client);
    of_client.map(|(_, told)| summary(&told)).collect()
}

fn summary(told: &Value) -> String {
    let status = told["status"].as_str().expect("a text");
    told["cause"].as_str().map_or(status.to_owned(), |cause| format!("{status}: {cause}"))
}

/// What somebody who subscribes now is told of a client.
fn retained(sim: &mut Simulation, client: &str) -> Vec<String> {
    let late = sim.connect("late").accepted();
    sim.received(late); // By its older connection.
    sim.subscribe(late, &format!("presence/{client}"), QoS::AtMostOnce);
    of(sim, late, client)
}

#[test]
fn a_client_that_comes_and_goes_is_told_of_with_all_that_is_known() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/lamp");
    sim.advance(Duration::from_millis(86_400_123));
    let lamp = sim.connect("lamp").user("lucy").keep_alive(30).session_expiry(60).accepted();
    let mut expected = json!({
        "client_id": "lamp", "status": "connected", "at": "1970-01-02T00:00:00.123Z", "address": null, "listener": 0,
        "transport": "tcp", "protocol": "5.0", "username": "lucy", "clean_start": true, "session_expiry_seconds": 60,
        "keep_alive_seconds": 30, "will": null,
    });
    assert_eq!(news(&mut sim, watcher), [("presence/lamp".to_owned(), expected.clone())]);
    sim.advance(Duration::from_secs(1));
    sim.disconnect(lamp, ReasonCode::Success);
    let told = expected.as_object_mut().unwrap();
    told.remove("clean_start");
    told.insert("status".into(), "disconnected".into());
    told.insert("at".into(), "1970-01-02T00:00:01.123Z".into());
    told.insert("cause".into(), "disconnect".into());
    told.insert("reason_code".into(), 0.into());
    assert_eq!(news(&mut sim, watcher), [("presence/lamp".to_owned(), expected)]);
}

#[test]
fn older_clients_are_told_of_in_their_own_terms() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/+");
    sim.connect("old").version(ProtocolVersion::V3_1_1).clean_start(false).accepted();
    let (_, told) = news(&mut sim, watcher).pop().unwrap();
    assert_eq!(
        (&told["protocol"], &told["session_expiry_seconds"]),
        (&json!("3.1.1"), &json!(null)),
        "it never expires"
    );
}

#[test]
fn every_end_has_its_cause() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/+");
    for (cause, reason, end) in [
        (
            "disconnect-with-will",
            json!(4),
            (|sim, it| sim.disconnect(it, ReasonCode::DisconnectWithWillMessage)) as fn(&mut Simulation, ClientHandle),
        ),
        ("closed", json!(null), |sim, it| sim.cut_only(it, Closed::Fin)),
        ("transport-error", json!(null), |sim, it| sim.cut_only(it, Closed::Reset)),
        ("keep-alive", json!(0x8D), |sim, _| sim.advance(Duration::from_secs(16))),
        ("protocol-error", json!(0x81), |sim, it| sim.send_bytes(it, &[0])),
        ("limit", json!(0x95), |sim, it| sim.send_bytes(it, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F])),
        ("administrative", json!(0x98), |sim, it| {
            let (home, now) = (sim.clients[it.0].home.index(), sim.now);
            assert!(sim.shards[home].disconnect(now, "lamp", WillFate::Publish));
        }),
    ] {
        let lamp = sim.connect("lamp").keep_alive(10).accepted();
        end(&mut sim, lamp);
        sim.settle();
        let told: Vec<_> =
            news(&mut sim, watcher).into_iter().map(|(_, told)| told).filter(|it| it["client_id"] == "lamp").collect();
        assert_eq!(told.len(), 2, "{cause}: {told:?}");
        assert_eq!((&told[0]["status"], &told[1]["status"]), (&json!("connected"), &json!("disconnected")));
        assert_eq!((&told[1]["cause"], &told[1]["reason_code"]), (&json!(cause), &reason));
    }
}

#[test]
fn credentials_that_end_are_a_cause_as_well() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/lamp");
    let until = sim.now + Duration::from_secs(5);
    sim.connect("lamp").valid_until(until).accepted();
    sim.advance(Duration::from_secs(6));
    assert_eq!(of(&mut sim, watcher, "lamp"), ["connected", "disconnected: unauthenticated"]);
}

#[test]
fn a_takeover_is_one_more_connected_and_nothing_else() {
    for clean_start in [false, true] {
        for expiry in [0, 60] {
            let mut sim = sim();
            let watcher = sim.subscriber("watcher", "presence/lamp");
            sim.connect("lamp").session_expiry(expiry).accepted();
            sim.connect("lamp").session_expiry(expiry).clean_start(clean_start).keep_alive(7).accepted();
            let told = news(&mut sim, watcher);
            let statuses: Vec<_> = told.iter().map(|(_, told)| summary(told)).collect();
            assert_eq!(statuses, ["connected", "connected"], "{clean_start} {expiry}");
            assert_eq!(told[1].1["keep_alive_seconds"], 7, "it tells of the new connection");
            assert_eq!(retained(&mut sim, "lamp"), ["connected"], "{clean_start} {expiry}");
        }
    }
}

#[test]
fn what_is_retained_lives_as_long_as_the_session() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/lamp");
    let lamp = sim.connect("lamp").session_expiry(60).accepted();
    assert_eq!(retained(&mut sim, "lamp"), ["connected"]);
    sim.cut(lamp);
    assert_eq!(retained(&mut sim, "lamp"), ["disconnected: transport-error"]);
    sim.advance(Duration::from_secs(59));
    assert_eq!(retained(&mut sim, "lamp"), ["disconnected: transport-error"]);
    sim.advance(Duration::from_secs(2));
    assert_eq!(retained(&mut sim, "lamp"), [""; 0], "the Session has ended");
    assert_eq!(of(&mut sim, watcher, "lamp"), ["connected", "disconnected: transport-error"], "and nobody was told");
    assert_eq!(sim.count(|stats| stats.sessions_expired), 1);
}

#[test]
fn a_session_that_ends_with_its_connection_leaves_nothing_behind() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/lamp");
    let lamp = sim.connect("lamp").accepted();
    sim.cut(lamp);
    assert_eq!(of(&mut sim, watcher, "lamp"), ["connected", "disconnected: transport-error"]);
    assert_eq!(retained(&mut sim, "lamp"), [""; 0]);
    // It may also say so when it goes.
    let lamp = sim.connect("lamp").session_expiry(60).accepted();
    assert_eq!(retained(&mut sim, "lamp"), ["connected"]);
    sim.disconnect(lamp, ReasonCode::Success);
    assert_eq!(retained(&mut sim, "lamp"), ["disconnected: disconnect"]);
}

#[test]
fn where_nothing_is_to_be_retained_it_is_told_once() {
    let mut sim = sim_with(|config| config.presence.retain = false);
    let watcher = sim.subscriber("watcher", "presence/lamp");
    sim.connect("lamp").session_expiry(60).accepted();
    assert_eq!(of(&mut sim, watcher, "lamp"), ["connected"]);
    assert_eq!(retained(&mut sim, "lamp"), [""; 0]);
}

#[test]
fn where_it_is_off_nothing_is_told() {
    let mut sim = Simulation::new(11, SHARDS);
    let watcher = sim.subscriber("watcher", "#");
    sim.subscribe(watcher, "$SYS/#", QoS::AtMostOnce);
    let lamp = sim.connect("lamp").session_expiry(60).accepted();
    sim.cut(lamp);
    assert_eq!((sim.received(watcher).len(), sim.count(|stats| stats.presence_told)), (0, 0));
    assert_eq!(sim.shards.iter().map(|shard| shard.population().retained).sum::<usize>(), 0);
}

#[test]
fn what_becomes_of_a_will_is_told_and_before_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/lamp");
    sim.subscribe(watcher, "status", QoS::AtLeastOnce);
    for (delay, is_clean, expected) in [(0, false, "due"), (30, false, "pending"), (30, true, "discarded")] {
        let will = Will { delay, ..Will::new("status", "\"off\"") };
        let lamp = sim.connect("lamp").session_expiry(60).will(will).accepted();
        if is_clean {
            sim.disconnect(lamp, ReasonCode::Success)
        } else {
            sim.cut(lamp)
        }
        sim.advance(Duration::from_secs(31));
        let told = news(&mut sim, watcher);
        assert_eq!((&told[0].1["will"], &told[1].1["will"]), (&json!("armed"), &json!(expected)));
        let wills: Vec<_> = told[2..].iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(wills, if is_clean { &[][..] } else { &["status"] });
    }
}

/// What is retained of a client that is there tells whether it has a will.
#[test]
fn that_an_operator_has_taken_a_will_is_told() {
    for is_published in [true, false] {
        let mut sim = sim();
        let watcher = sim.subscriber("watcher", "presence/lamp");
        let lamp =
            sim.connect("lamp").clean_start(false).session_expiry(60).will(Will::new("status", "off")).accepted();
        let mut expected = news(&mut sim, watcher);
        assert_eq!(expected[0].1["will"], json!("armed"));
        sim.advance(Duration::from_secs(1));
        let (now, home) = (sim.now, sim.clients[lamp.0].home.index());
        let outcome = match is_published {
            true => sim.shards[home].publish_will_now(now, "lamp"),
            false => sim.shards[home].discard_will(now, "lamp"),
        };
        assert!(matches!(outcome, Outcome::Done(_)));
        sim.settle();
        expected[0].1["will"] = Value::Null;
        assert_eq!(news(&mut sim, watcher), expected, "all else is as it was");
        let late = sim.subscriber("late", "presence/lamp");
        assert_eq!(news(&mut sim, late), expected);
        // Of a client that is away, nothing is told anew.
        sim.cut(lamp);
        assert_eq!(news(&mut sim, watcher)[0].1["will"], Value::Null);
        let will = Will::new("status", "off").delay(30);
        let lamp = sim.connect("lamp").clean_start(false).session_expiry(60).will(will).accepted();
        sim.cut(lamp);
        assert_eq!(news(&mut sim, watcher).len(), 2);
        let now = sim.now;
        sim.shards[home].publish_will_now(now, "lamp");
        sim.settle();
        assert_eq!(news(&mut sim, watcher), []);
    }
}

/// Many clients come, go and take each other over, on all shards and while letters of peers are under way: each one's messages come in
/// order, and what is retained is the last of them.
#[test]
fn the_messages_about_a_client_keep_their_order() {
    const CLIENTS: usize = 24;
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/#");
    sim.received(watcher);
    let mut open: Vec<Option<ClientHandle>> = vec![None; CLIENTS];
    let mut expected = vec![Vec::new(); CLIENTS];
    for round in 0..600 {
        let at = sim.random.below(CLIENTS);
        match open[at].take() {
            Some(client) if !sim.random.one_in(3) => {
                sim.cut_only(client, Closed::Reset);
                expected[at].push("disconnected: transport-error");
            }
            _ => {
                open[at] = Some(sim.connect(&format!("c{at}")).session_expiry(600).clean_start(round % 2 == 0).only());
                expected[at].push("connected");
            }
        }
        if sim.random.one_in(4) {
            let shard = sim.random.below(SHARDS);
            sim.turn(shard);
        }
    }
    sim.settle();
    let mut told = vec![Vec::new(); CLIENTS];
    for (_, it) in news(&mut sim, watcher) {
        let at: usize = it["client_id"].as_str().unwrap()[1..].parse().unwrap();
        told[at].push(summary(&it));
    }
    assert_eq!(told, expected);
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(retained(&mut sim, &format!("c{at}")), expected.last().into_iter().copied().collect::<Vec<_>>());
    }
}

/// Somebody who subscribes while others come and go ends up knowing what is so.
#[test]
fn who_subscribes_meanwhile_is_not_left_with_what_is_past() {
    for seed in 0..40 {
        let mut config = Config::default();
        config.presence.enabled = true;
        config.presence.root = "presence".into();
        let mut sim = Simulation::with_config(seed, SHARDS, config);
        let lamps: Vec<_> =
            (0..8).map(|n| sim.connect(&format!("lamp{n}")).session_expiry((n % 2) * 60).accepted()).collect();
        let late = sim.connect("late").accepted();
        let mut bytes = Vec::new();
        let filters = [("presence/+", willowmq::codec::SubscriptionOptions::new(QoS::AtLeastOnce))];
        let subscribe = willowmq::codec::Subscribe {
            packet_id: sim.clients[late.0].next_id(),
            subscription_identifier: None,
            filters: willowmq::codec::SubscriptionFilters::from_slice(&filters),
            user_properties: willowmq::codec::UserProperties::default(),
        };
        willowmq::codec::encode(&willowmq::codec::Packet::Subscribe(subscribe), ProtocolVersion::V5, &mut bytes);
        sim.send_bytes(late, &bytes);
        for lamp in lamps {
            let shard = sim.random.below(SHARDS);
            sim.turn(shard);
            sim.cut_only(lamp, Closed::Reset);
        }
        sim.settle();
        let mut last = std::collections::BTreeMap::new();
        for (topic, told) in news(&mut sim, late) {
            last.insert(topic, summary(&told));
        }
        last.remove("presence/late");
        for (topic, told) in last {
            assert_eq!(told, "disconnected: transport-error", "seed {seed}: {topic}");
        }
    }
}

#[test]
fn what_has_a_meaning_in_topics_is_encoded() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/+");
    sim.received(watcher);
    sim.connect("site/1+\"#%").accepted();
    let (topic, told) = news(&mut sim, watcher).pop().unwrap();
    assert_eq!((&*topic, &told["client_id"]), ("presence/site%2F1%2B\"%23%25", &json!("site/1+\"#%")));
}

#[test]
fn a_client_whose_topic_would_be_too_long_is_not_told_of() {
    let mut sim = sim_with(|config| config.limits.client_id_bytes_max = u16::MAX);
    let watcher = sim.subscriber("watcher", "presence/+");
    sim.received(watcher);
    let long = sim.connect(&"/".repeat(30_000)).accepted();
    sim.cut(long);
    assert_eq!((sim.received(watcher).len(), sim.count(|stats| stats.presence_untold)), (0, 2));
}

#[test]
fn it_is_for_those_who_may_read_it() {
    let rules = "
        [[rules]]
        effect = 'allow'
        users = ['operator']
        actions = ['read']
        topics = ['presence/#']
        [[rules]]
        effect = 'allow'
        actions = ['subscribe']
        topics = ['presence/#']
        [[rules]]
        effect = 'allow'
        actions = ['receive']
        topics = ['presence/%c']";
    let mut sim = sim();
    let rights = Arc::new(Rights::parse(rules, "rights.toml").unwrap());
    for shard in &mut sim.shards {
        shard.set_rights(Arc::clone(&rights));
    }
    let operator = sim.connect("op").user("operator").accepted();
    sim.subscribe(operator, "presence/#", QoS::AtLeastOnce);
    let other = sim.subscriber("other", "presence/#");
    sim.connect("lamp").accepted();
    let clients = |news: Vec<(String, Value)>| news.into_iter().map(|(topic, _)| topic).collect::<Vec<_>>();
    let known = clients(news(&mut sim, operator));
    assert_eq!(known, ["presence/op", "presence/other", "presence/lamp"]);
    assert_eq!(clients(news(&mut sim, other)), ["presence/other"], "itself, and nobody else");
    // And no client can tell lies.
    let liar = sim.connect("liar").accepted();
    sim.received(operator);
    sim.publish(liar, "presence/lamp", "{}", QoS::AtLeastOnce, true);
    assert_eq!(sim.received(operator), []);
}

#[test]
fn a_stop_is_no_news_of_clients() {
    let mut sim = sim();
    for n in 0..8 {
        sim.connect(&format!("c{n}")).accepted();
    }
    let before = sim.count(|stats| stats.presence_told);
    for shard in &mut sim.shards {
        shard.begin_shutdown(sim.now);
    }
    sim.settle();
    assert!(sim.shards.iter().all(|shard| shard.population().connections == 0));
    assert_eq!((before, sim.count(|stats| stats.presence_told)), (8, 8));
}

#[test]
fn who_is_handed_away_by_a_drain_is_told_of() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "presence/+");
    sim.received(watcher);
    let will = Will { delay: 30, ..Will::new("status", "off") };
    sim.connect("lamp").session_expiry(60).will(will).accepted();
    // The watcher is handed away as well, so what there is to know is looked at on the shards.
    let before = sim.count(|stats| stats.presence_told);
    for shard in &mut sim.shards {
        shard.begin_drain(sim.now, Duration::ZERO);
    }
    sim.advance(Duration::from_secs(1));
    assert!(sim.shards.iter().all(|shard| shard.population().connections == 0));
    assert_eq!(sim.count(|stats| stats.presence_told) - before, 2);
    let retained: usize = sim.shards.iter().map(|shard| shard.population().retained).sum();
    assert_eq!(retained, 1, "the Session of the lamp is kept");
}

#[test]
fn when_memory_is_used_up_nothing_is_queued_for_it() {
    let mut sim = sim();
    let keeper = sim.connect("keeper").session_expiry(600).accepted();
    sim.subscribe(keeper, "presence/lamp", QoS::AtLeastOnce);
    sim.disconnect(keeper, ReasonCode::Success);
    let lamp = sim.connect("lamp").session_expiry(60).accepted();
    sim.set_pressure(Pressure::PausePublishers);
    sim.cut(lamp);
    sim.set_pressure(Pressure::None);
    let keeper = sim.connect("keeper").clean_start(false).session_expiry(600).accepted();
    assert_eq!(of(&mut sim, keeper, "lamp"), ["connected"]);
    assert_eq!(retained(&mut sim, "lamp"), ["disconnected: transport-error"], "but it is so");
}
