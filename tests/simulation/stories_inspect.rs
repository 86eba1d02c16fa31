//! What an operator asks the shards for, and has them do.

use crate::client::{ClientHandle, Will};
use crate::simulation::Simulation;
use std::collections::BTreeSet;
use std::time::Duration;
use willowmq::codec::{Forwarded, PacketKind, ProtocolVersion, QoS, ReasonCode};
use willowmq::config::Config;
use willowmq::session::will::Cause;
use willowmq::shard::inspect::{
    ClientFilter, ClientSummary, OperatorMessage, Outcome, SubscriptionFilter, SubscriptionSummary, TraceEvent, Traced,
    WillChange, WillFilter, WillPhase, WillSummary,
};
use willowmq::shard::{Hold, Shard, WillFate};
use willowmq::topic::TopicFilter;

const SEED: u64 = 0x1D5;
const SHARDS: usize = 2;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sim() -> Simulation {
    Simulation::new(SEED, SHARDS)
}

fn lamp() -> Will {
    Will::new("status/lamp", "off")
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

/// The home of a client that has connected before.
fn home(sim: &Simulation, client: ClientHandle) -> usize {
    sim.clients[client.0].home.index()
}

/// All clients of all shards that `filter` asks for, looking at three slots at a time.
fn clients(sim: &Simulation, filter: &ClientFilter) -> Vec<ClientSummary> {
    let of_shard = |shard: &Shard| {
        let (mut all, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let page = shard.clients(from, 3, filter);
            assert!(page.items.len() <= 3);
            all.extend(page.items);
            next = page.next;
        }
        all
    };
    sim.shards.iter().flat_map(of_shard).collect()
}

fn names(sim: &Simulation, filter: &ClientFilter) -> BTreeSet<String> {
    clients(sim, filter).iter().map(|client| client.client_id.to_string()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

fn wills(sim: &Simulation, filter: &WillFilter) -> Vec<WillSummary> {
    let page = |shard: &Shard| shard.wills(0, usize::MAX, filter).items;
    sim.shards.iter().flat_map(page).collect()
}

/// Has the home of a client do something, and lets follow what does.
fn act<T>(sim: &mut Simulation, client: ClientHandle, act: impl FnOnce(&mut Shard, willowmq::timer::Moment) -> T) -> T {
    let (home, now) = (home(sim, client), sim.now);
    let done = act(&mut sim.shards[home], now);
    sim.settle();
    done
}

fn is_done(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Done(_))
}

// Clients.

#[test]
fn clients_are_listed_page_by_page_and_by_what_is_asked_for() {
    let mut sim = sim();
    for number in 0..20 {
        sim.connect(&format!("lamp-{number}")).session_expiry(100).accepted();
    }
    let door = sim.connect("door").user("alice").listener(1).will(lamp()).accepted();
    sim.subscribe(door, "a/+", QoS::AtLeastOnce);
    let gone = sim.connect("gone").session_expiry(100).accepted();
    sim.cut(gone);
    assert_eq!(clients(&sim, &ClientFilter::default()).len(), 22);
    let by = |change: &dyn Fn(&mut ClientFilter)| {
        let mut filter = ClientFilter::default();
        change(&mut filter);
        names(&sim, &filter)
    };
    assert_eq!(by(&|filter| filter.client_id = Some("lamp-1*".into())).len(), 11);
    assert_eq!(by(&|filter| filter.client_id = Some("door".into())), set(["door"]));
    assert_eq!(by(&|filter| filter.username = Some("al*".into())), set(["door"]));
    assert_eq!(by(&|filter| filter.listener = Some(1)), set(["door"]));
    assert_eq!(by(&|filter| filter.has_will = Some(true)), set(["door"]));
    assert_eq!(by(&|filter| filter.is_connected = Some(false)), set(["gone"]));
    assert_eq!(by(&|filter| filter.address = Some("10.".into())), set([]), "the simulation has no addresses");
    let door = &clients(&sim, &ClientFilter { client_id: Some("door".into()), ..ClientFilter::default() })[0];
    assert_eq!((door.subscriptions, door.will, door.version), (1, Some(WillPhase::Armed), Some(ProtocolVersion::V5)));
}

#[test]
fn a_page_looks_at_no_more_than_it_may_and_has_a_next_one_even_if_it_is_empty() {
    let mut sim = Simulation::new(SEED, 1);
    for number in 0..10 {
        sim.connect(&format!("c{number}")).accepted();
    }
    let nobody = ClientFilter { client_id: Some("x".into()), ..ClientFilter::default() };
    let page = sim.shards[0].clients(0, 4, &nobody);
    assert_eq!((page.items.len(), page.next), (0, Some(4)));
    assert_eq!(sim.shards[0].clients(8, 4, &nobody).next, None);
    assert_eq!(sim.shards[0].clients(u32::MAX, usize::MAX, &nobody).next, None);
}

#[test]
fn a_client_is_told_of_in_detail() {
    let mut sim = sim();
    let client = sim.connect("lamp").session_expiry(100).keep_alive(30).receive_maximum(2).will(lamp()).accepted();
    sim.subscribe(client, "t", QoS::AtLeastOnce);
    sim.clients[client.0].withholds_acks = true;
    let publisher = sim.connect("publisher").accepted();
    sim.advance(secs(1));
    for _ in 0..5 {
        sim.publish(publisher, "t", "text", QoS::AtLeastOnce, false);
    }
    sim.advance(secs(3));
    let detail = sim.shards[home(&sim, client)].client(sim.now, "lamp").unwrap();
    let connection = detail.connection.unwrap();
    assert_eq!((connection.keep_alive, connection.receive_maximum, connection.window), (30, 2, 2));
    assert!(connection.clean_start && connection.pauses.is_empty());
    assert_eq!((detail.summary.in_flight, detail.queue.messages), (2, 3));
    assert_eq!(detail.queue.oldest, Some(secs(3)));
    assert_eq!((detail.summary.since, detail.summary.created), (willowmq::timer::Moment::ZERO, detail.summary.created));
    let traffic = connection.traffic;
    assert_eq!((traffic.packets_in, traffic.messages_in), (1, 0), "SUBSCRIBE");
    assert_eq!((traffic.packets_out, traffic.messages_out), (4, 2), "CONNACK, SUBACK and two PUBLISHes");
    assert!(traffic.bytes_in > 0 && traffic.bytes_out > 0);
    assert_eq!(&*detail.subscriptions[0].filter, "t");
    let will = detail.will.unwrap();
    assert_eq!((&*will.summary.topic, will.message.payload()), ("status/lamp", &b"off"[..]));
    assert!(sim.shards[home(&sim, client)].client(sim.now, "nobody").is_none());
}

#[test]
fn what_a_session_does_not_get_is_counted_for_it() {
    let mut config = Config::default();
    config.sessions.queue_messages_max = 2;
    let mut sim = Simulation::with_config(SEED, SHARDS, config);
    let away = sim.connect("away").session_expiry(100).accepted();
    sim.subscribe(away, "t", QoS::AtLeastOnce);
    sim.cut(away);
    let publisher = sim.connect("publisher").accepted();
    for _ in 0..5 {
        sim.publish(publisher, "t", "text", QoS::AtLeastOnce, false);
    }
    let away = clients(&sim, &ClientFilter { client_id: Some("away".into()), ..ClientFilter::default() });
    assert_eq!((away[0].queued, away[0].dropped), (2, 3));
    assert!(!away[0].is_connected() && away[0].ends.is_some());
}

// Wills.

#[test]
fn wills_are_listed_by_where_they_stand() {
    let mut sim = sim();
    sim.connect("armed").will(lamp()).accepted();
    let pending = sim.connect("pending").session_expiry(100).will(lamp().delay(50)).accepted();
    let held = sim.connect("held").will(lamp()).accepted();
    for shard in &mut sim.shards {
        assert!(shard.hold_wills(Hold::ClientIdPrefix("held".into())));
    }
    sim.cut(pending);
    sim.cut(held);
    let by = |phase| wills(&sim, &WillFilter { phase: Some(phase), ..WillFilter::default() });
    for (phase, name) in [(WillPhase::Armed, "armed"), (WillPhase::Pending, "pending"), (WillPhase::Held, "held")] {
        let found = by(phase);
        assert_eq!(found.len(), 1, "{phase:?}");
        assert_eq!((&*found[0].client_id, found[0].phase), (name, phase));
        assert_eq!(found[0].closing.is_some(), phase != WillPhase::Armed);
    }
    assert_eq!(by(WillPhase::Pending)[0].due, Some(sim.now + secs(50)));
    assert_eq!(by(WillPhase::Due), []);
    let by_name = WillFilter { client_id: Some("*e*d*".into()), ..WillFilter::default() };
    assert_eq!(wills(&sim, &by_name).len(), 3);
    assert_eq!(sim.shards[home(&sim, held)].will("held").unwrap().summary.phase, WillPhase::Held);
}

#[test]
fn a_will_is_published_now_wherever_it_stands() {
    for phase in [WillPhase::Armed, WillPhase::Pending, WillPhase::Held] {
        let mut sim = sim();
        let watcher = sim.subscriber("watcher", "status/+");
        let client = sim.connect("lamp").session_expiry(100).will(lamp().delay(30).retain()).accepted();
        if phase != WillPhase::Armed {
            sim.cut(client);
        }
        if phase == WillPhase::Held {
            sim.shards.iter_mut().for_each(|shard| assert!(shard.hold_wills(Hold::All)));
            sim.advance(secs(31));
        }
        assert_eq!(wills(&sim, &WillFilter::default())[0].phase, phase);
        assert!(is_done(act(&mut sim, client, |shard, now| shard.publish_will_now(now, "lamp"))));
        assert_eq!(sim.payloads(watcher), ["off"], "{phase:?}");
        assert_eq!(sim.is_connected(client), phase == WillPhase::Armed);
        assert_eq!(act(&mut sim, client, |shard, now| shard.publish_will_now(now, "lamp")), Outcome::NotFound);
        // It is gone, whatever its client and its hold do.
        sim.cut(client);
        for shard in &mut sim.shards {
            shard.release_wills(&Hold::All, WillFate::Publish);
        }
        sim.advance(secs(200));
        assert_eq!(sim.payloads(watcher), [""; 0]);
        let stats = sim.shards[home(&sim, client)].stats();
        assert_eq!((stats.wills.armed_now, stats.wills.pending_now), (0, 0));
        let cause = if phase == WillPhase::Armed { Cause::Administrative } else { Cause::TransportError };
        assert_eq!(stats.wills.published[cause], 1);
    }
}

#[test]
fn a_will_is_discarded_wherever_it_stands() {
    for phase in [WillPhase::Armed, WillPhase::Pending, WillPhase::Held] {
        let mut sim = sim();
        let watcher = sim.subscriber("watcher", "status/+");
        let client = sim.connect("lamp").session_expiry(100).will(lamp().delay(30)).accepted();
        if phase != WillPhase::Armed {
            sim.cut(client);
        }
        if phase == WillPhase::Held {
            sim.shards.iter_mut().for_each(|shard| assert!(shard.hold_wills(Hold::All)));
            sim.advance(secs(31));
        }
        assert!(is_done(act(&mut sim, client, |shard, now| shard.discard_will(now, "lamp"))));
        assert_eq!(act(&mut sim, client, |shard, now| shard.discard_will(now, "lamp")), Outcome::NotFound);
        assert_eq!(sim.is_connected(client), phase == WillPhase::Armed);
        sim.cut(client);
        for shard in &mut sim.shards {
            shard.release_wills(&Hold::All, WillFate::Publish);
        }
        sim.advance(secs(200));
        assert_eq!(sim.payloads(watcher), [""; 0], "{phase:?}");
        let stats = sim.shards[home(&sim, client)].stats();
        assert_eq!((stats.wills.armed_now, stats.wills.pending_now), (0, 0));
        assert_eq!(stats.wills.discarded[Cause::Administrative], 1);
    }
}

#[test]
fn a_session_is_ended_with_its_connection_and_its_will() {
    for (fate, expected) in [(WillFate::Publish, vec!["off"]), (WillFate::Discard, vec![])] {
        for is_connected in [true, false] {
            let mut sim = sim();
            let watcher = sim.subscriber("watcher", "status/+");
            let client = sim.connect("lamp").session_expiry(1000).will(lamp().delay(100)).accepted();
            sim.subscribe(client, "t", QoS::AtLeastOnce);
            if !is_connected {
                sim.cut(client);
            }
            assert!(is_done(act(&mut sim, client, |shard, now| shard.end_session_of(now, "lamp", fate))));
            assert_eq!(sim.payloads(watcher), expected);
            let reason = sim.clients[client.0].disconnected_with;
            assert_eq!(reason, is_connected.then_some(ReasonCode::AdministrativeAction));
            assert!(sim.shards[home(&sim, client)].session("lamp").is_none());
            let again = act(&mut sim, client, |shard, now| shard.end_session_of(now, "lamp", fate));
            assert_eq!(again, Outcome::NotFound);
            let (_, was_there) = sim.connect("lamp").clean_start(false).session_expiry(1000).accepted_with_session();
            assert!(!was_there);
        }
    }
}

#[test]
fn a_hold_is_one_however_often_it_is_asked_for_and_there_is_a_bound() {
    let mut sim = Simulation::new(SEED, 1);
    let shard = &mut sim.shards[0];
    assert!(shard.hold_wills(Hold::All) && shard.hold_wills(Hold::All));
    assert_eq!(shard.holds(), [Hold::All]);
    assert!(shard.release_wills(&Hold::All, WillFate::Publish));
    assert!(!shard.release_wills(&Hold::All, WillFate::Publish), "there is none any more");
    assert!((0..64).all(|listener| shard.hold_wills(Hold::Listener(listener))));
    assert!(!shard.hold_wills(Hold::All));
    assert!(shard.hold_wills(Hold::Listener(3)), "that is in force");
}

#[test]
fn storms_are_remembered_with_their_causes() {
    let mut config = Config::default();
    config.wills.storm_threshold_per_second = 5;
    let mut sim = Simulation::with_config(SEED, 1, config);
    for round in 0..40 {
        let clients: Vec<_> =
            (0..6).map(|number| sim.connect(&format!("{round}-{number}")).will(lamp()).accepted()).collect();
        for client in clients {
            sim.cut_only(client, willowmq::shard::Closed::Fin);
        }
        sim.advance(secs(3));
    }
    let storms: Vec<_> = sim.shards[0].storms().copied().collect();
    assert_eq!(storms.len(), 32, "the newest");
    assert!(storms.iter().all(|storm| storm.wills == 6 && storm.causes[Cause::Closed as usize] == 6));
    assert!(storms.is_sorted_by_key(|storm| storm.since));
}

// Subscriptions.

fn subscriptions(sim: &Simulation, filter: &SubscriptionFilter) -> Vec<SubscriptionSummary> {
    let of_shard = |shard: &Shard| {
        let (mut all, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let page = shard.subscriptions(from, 2, filter);
            assert!(page.items.len() <= 2);
            all.extend(page.items);
            next = page.next;
        }
        all
    };
    sim.shards.iter().flat_map(of_shard).collect()
}

fn told(subscriptions: &[SubscriptionSummary]) -> BTreeSet<(String, String, Option<String>)> {
    let told = |it: &SubscriptionSummary| {
        (it.client_id.to_string(), it.filter.to_string(), it.group.as_ref().map(|group| group.to_string()))
    };
    subscriptions.iter().map(told).collect()
}

#[test]
fn subscriptions_are_found_by_their_filter_and_by_a_topic_that_they_match() {
    let mut sim = sim();
    let all = ["a/b", "a/+", "#", "a/#", "+/b/#", "other", "$share/g/a/+", "$share/h/a/+"];
    let mut expected = BTreeSet::new();
    for number in 0..5 {
        let name = format!("c{number}");
        let client = sim.connect(&name).accepted();
        for text in all {
            sim.subscribe(client, text, QoS::AtLeastOnce);
            let (group, of_filter) = match text.strip_prefix("$share/") {
                Some(shared) => (Some(shared[..1].to_owned()), &shared[2..]),
                None => (None, text),
            };
            if of_filter != "other" {
                expected.insert((name.clone(), of_filter.to_owned(), group));
            }
        }
    }
    let matching = subscriptions(&sim, &SubscriptionFilter::matching("a/b").unwrap());
    assert_eq!(matching.len(), expected.len(), "each once");
    assert_eq!(told(&matching), expected);
    assert!(matching.iter().all(|it| it.is_connected && it.qos == QoS::AtLeastOnce));
    let equal = |text| subscriptions(&sim, &SubscriptionFilter::equal(text).unwrap());
    assert_eq!(equal("a/b").len(), 5);
    assert_eq!(equal("a/+").len(), 15, "five alone, and five in each of the groups");
    let of_group = equal("$share/g/a/+");
    assert_eq!(of_group.len(), 5);
    assert!(of_group.iter().all(|it| it.group.as_deref() == Some("g")));
    assert_eq!(equal("nobody/has/it"), []);
    assert!(SubscriptionFilter::equal("a/#/b").is_err() && SubscriptionFilter::matching("a/+").is_err());
}

// Retained messages, and publishing.

fn message<'a>(topic: &'a str, payload: &'a str, retain: bool) -> OperatorMessage<'a> {
    OperatorMessage {
        topic,
        payload: payload.as_bytes(),
        forwarded: Forwarded::default(),
        qos: QoS::AtLeastOnce,
        retain,
        message_expiry_interval: None,
    }
}

fn retained_topics(sim: &Simulation, text: &str) -> BTreeSet<String> {
    let filter = filter(text);
    let mut topics = BTreeSet::new();
    for shard in &sim.shards {
        let mut cursor = None;
        loop {
            let page = shard.retained_page(sim.now, &filter, cursor.as_ref(), 2);
            topics.extend(page.items.iter().map(|it| it.topic.to_string()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    topics
}

#[test]
fn retained_messages_are_set_browsed_and_removed() {
    let mut sim = sim();
    let now = sim.now;
    let watcher = sim.subscriber("watcher", "site/#");
    for number in 0..10 {
        let topic = format!("site/{number}/state");
        let published = sim.shards[number % SHARDS].publish_for_operator(now, &message(&topic, "on", true)).unwrap();
        assert!(published.matched);
        sim.settle();
    }
    assert_eq!(sim.payloads(watcher).len(), 10, "it is published, too");
    assert_eq!(retained_topics(&sim, "site/+/state").len(), 10);
    assert_eq!(retained_topics(&sim, "site/3/#"), set(["site/3/state"]));
    assert_eq!(retained_topics(&sim, "other/#"), set([]));
    let found: Vec<_> = sim.shards.iter().filter_map(|shard| shard.retained_message(sim.now, "site/3/state")).collect();
    assert_eq!(found.len(), 1, "it has one home");
    assert_eq!(found[0].payload(), b"on");
    let removed: Vec<_> = sim.shards.iter_mut().map(|shard| shard.remove_retained(now, "site/3/state")).collect();
    assert_eq!(removed.iter().filter(|outcome| is_done(**outcome)).count(), 1);
    assert_eq!(retained_topics(&sim, "site/3/#"), set([]));
    sim.settle();
    assert_eq!(sim.payloads(watcher), [""; 0], "nobody is told");
    let late = sim.subscriber("late", "site/+/state");
    assert_eq!(sim.payloads(late).len(), 9);
}

#[test]
fn an_operator_publishes_what_a_client_might_and_nothing_else() {
    let mut config = Config::default();
    config.limits.packet_bytes_max = 1000;
    config.limits.maximum_qos = 1;
    config.limits.topic_levels_max = 3;
    let mut sim = Simulation::with_config(SEED, SHARDS, config);
    let now = sim.now;
    let watcher = sim.subscriber("watcher", "#");
    let mut refusal =
        |message: OperatorMessage<'_>| sim.shards[0].publish_for_operator(now, &message).map(drop).unwrap_err().reason;
    for topic in ["", "a/+", "#", "a\0"] {
        assert_eq!(refusal(message(topic, "x", false)), ReasonCode::TopicNameInvalid, "{topic:?}");
    }
    assert_eq!(refusal(message("$SYS/broker/uptime", "x", false)), ReasonCode::NotAuthorized); // [MQTT-4.7.2-1]
    assert_eq!(refusal(message("a/b/c/d", "x", false)), ReasonCode::TopicNameInvalid);
    assert_eq!(refusal(message("a", &"x".repeat(1000), false)), ReasonCode::PacketTooLarge);
    assert_eq!(
        refusal(OperatorMessage { qos: QoS::ExactlyOnce, ..message("a", "x", false) }),
        ReasonCode::QosNotSupported
    );
    for shard in 0..SHARDS {
        assert!(sim.shards[shard].publish_for_operator(now, &message("a/b", "hello", false)).unwrap().matched);
        sim.settle();
    }
    assert_eq!(sim.payloads(watcher), ["hello", "hello"]);
    assert!(sim.received(watcher).is_empty());
}

// Taps.

#[test]
fn a_tap_tells_of_each_message_once_whoever_publishes_it() {
    let mut sim = sim();
    let now = sim.now;
    let taps: Vec<_> = sim.shards.iter_mut().map(|shard| shard.open_tap(now, filter("t/#")).unwrap()).collect();
    sim.subscriber("one", "t/#");
    sim.subscriber("other", "t/#");
    let publisher = sim.connect("publisher").session_expiry(10).will(Will::new("t/will", "gone")).accepted();
    sim.publish(publisher, "t/a", "first", QoS::ExactlyOnce, true);
    sim.publish(publisher, "x", "not asked for", QoS::AtLeastOnce, false);
    sim.cut(publisher);
    sim.shards[0].publish_for_operator(now, &message("t/operator", "hello", false)).unwrap();
    sim.settle();
    let mut told = Vec::new();
    for (shard, tap) in sim.shards.iter_mut().zip(&taps) {
        let draught = shard.fetch_tapped(now, *tap, 100).unwrap();
        assert_eq!(draught.missed, 0);
        told.extend(draught.messages.into_iter().map(|tapped| {
            let publisher = tapped.publisher.as_deref().unwrap_or("the broker").to_owned();
            (tapped.message.topic().to_owned(), publisher)
        }));
    }
    told.sort();
    let expected = [("t/a", "publisher"), ("t/operator", "the broker"), ("t/will", "publisher")];
    assert_eq!(told, expected.map(|(topic, publisher)| (topic.to_owned(), publisher.to_owned())));
    for (shard, tap) in sim.shards.iter_mut().zip(&taps) {
        shard.close_tap(*tap);
        assert!(shard.fetch_tapped(now, *tap, 1).is_none());
    }
}

#[test]
fn a_tap_is_bounded_and_tells_what_was_missed() {
    let mut sim = Simulation::new(SEED, 1);
    let now = sim.now;
    let tap = sim.shards[0].open_tap(now, filter("t")).unwrap();
    for number in 0..1030 {
        sim.shards[0].publish_for_operator(now, &message("t", &number.to_string(), false)).unwrap();
    }
    let first = sim.shards[0].fetch_tapped(now, tap, 1000).unwrap();
    assert_eq!((first.messages.len(), first.missed), (1000, 0));
    sim.shards[0].publish_for_operator(now, &message("t", "in the gap", false)).unwrap();
    let rest = sim.shards[0].fetch_tapped(now, tap, 1000).unwrap();
    assert_eq!((rest.messages.len(), rest.missed), (24, 7), "the gap is in one place");
    sim.shards[0].publish_for_operator(now, &message("t", "after it", false)).unwrap();
    let after = sim.shards[0].fetch_tapped(now, tap, 1000).unwrap();
    assert_eq!((after.messages.len(), after.missed), (1, 0));
}

#[test]
fn taps_are_bounded_in_number_and_those_that_nobody_fetches_from_are_closed() {
    let mut sim = Simulation::new(SEED, 1);
    let shard = &mut sim.shards[0];
    let taps: Vec<_> = (0..16).map(|_| shard.open_tap(sim.now, filter("#")).unwrap()).collect();
    assert!(shard.open_tap(sim.now, filter("#")).is_none());
    let later = sim.now + secs(20);
    assert!(shard.fetch_tapped(later, taps[0], 1).is_some());
    assert!(shard.open_tap(sim.now + secs(31), filter("#")).is_some());
    assert!(shard.fetch_tapped(sim.now + secs(31), taps[1], 1).is_none(), "nobody has asked for it");
    assert!(shard.fetch_tapped(sim.now + secs(31), taps[0], 1).is_some());
}

// Traces.

fn lines(traced: &[Traced]) -> Vec<String> {
    let line = |traced: &Traced| match &traced.what {
        TraceEvent::Received(facts) => format!("< {:?}", facts.kind),
        TraceEvent::Sent(facts) => format!("> {:?}", facts.kind),
        TraceEvent::Fault { reason, .. } => format!("fault {reason:?}"),
        TraceEvent::Opened { is_resumed, .. } => format!("opened, resumed: {is_resumed}"),
        TraceEvent::Refused { reason, .. } => format!("refused {reason:?}"),
        TraceEvent::Closed(cause) => format!("closed {}", cause.as_str()),
        TraceEvent::SessionEnded => "session ended".into(),
        TraceEvent::Will(change) => format!("will {}", change.as_str()),
        TraceEvent::Missed(lines) => format!("missed {lines}"),
    };
    traced.iter().map(line).collect()
}

#[test]
fn a_trace_tells_of_every_packet_of_its_client_and_of_nobody_else() {
    let mut sim = sim();
    let client = sim.connect("lamp").session_expiry(100).accepted();
    let until = sim.now + secs(60);
    let trace = act(&mut sim, client, |shard, now| shard.open_trace(now, "lamp", until)).unwrap();
    sim.subscribe(client, "t", QoS::AtLeastOnce);
    let other = sim.subscriber("other", "t");
    sim.publish(other, "t", "hello", QoS::AtLeastOnce, false);
    sim.cut(client);
    // It goes on over another connection.
    sim.connect("lamp").clean_start(false).session_expiry(100).will(lamp().delay(5)).accepted();
    sim.disconnect(client, ReasonCode::DisconnectWithWillMessage);
    sim.advance(secs(6));
    let traced = act(&mut sim, client, |shard, now| shard.fetch_traced(now, trace, 1000)).unwrap();
    assert_eq!(
        lines(&traced),
        [
            "< Subscribe",
            "> Suback",
            "> Publish",
            "< Puback",
            "closed transport-error",
            "< Connect",
            "will armed",
            "opened, resumed: true",
            "> Connack",
            "< Disconnect",
            "closed disconnect-with-will",
            "will pending",
            "will due",
            "will published",
        ]
    );
    let TraceEvent::Sent(publish) = &traced[2].what else { panic!("{:?}", traced[2]) };
    assert_eq!((publish.kind, publish.field("topic")), (PacketKind::Publish, Some("t")));
    assert_eq!(publish.field("payload"), Some("hello"));
    assert!(publish.packet_id.is_some() && publish.bytes.is_some());
    assert!(traced.is_sorted_by_key(|line| line.at));
    let TraceEvent::Will(WillChange::Pending { due }) = traced[11].what else { panic!("{:?}", traced[11]) };
    assert_eq!(due, traced[11].at + secs(5));
}

#[test]
fn a_trace_tells_of_takeovers_faults_and_refusals() {
    let mut sim = sim();
    let client = sim.connect("lamp").user("alice").session_expiry(100).will(lamp()).accepted();
    let until = sim.now + secs(60);
    let trace = act(&mut sim, client, |shard, now| shard.open_trace(now, "lamp", until)).unwrap();
    sim.connect("lamp").user("mallory").refused();
    sim.connect("lamp").user("alice").accepted();
    sim.send_bytes(client, &[0x00, 0x00]);
    sim.settle();
    let traced = act(&mut sim, client, |shard, now| shard.fetch_traced(now, trace, 1000)).unwrap();
    let told = lines(&traced);
    for expected in [
        "refused ClientIdentifierNotValid",
        "closed taken-over",
        "will due",
        "will published",
        "session ended",
        "opened, resumed: false",
        "fault MalformedPacket",
        "closed protocol-error",
        "> Disconnect",
    ] {
        assert!(told.iter().any(|line| line == expected), "{expected}: {told:?}");
    }
}

#[test]
fn a_trace_ends_by_itself_and_is_bounded() {
    let mut sim = Simulation::new(SEED, 1);
    let client = sim.connect("lamp").accepted();
    let now = sim.now;
    let trace = sim.shards[0].open_trace(now, "lamp", now + secs(10)).unwrap();
    for _ in 0..3000 {
        sim.send_bytes(client, &[0xC0, 0]);
        sim.settle();
    }
    let traced = sim.shards[0].fetch_traced(now, trace, 5000).unwrap();
    assert_eq!(traced.len(), 4097, "PINGREQ and PINGRESP, and what was missed");
    assert!(matches!(traced[4096].what, TraceEvent::Missed(1904)));
    sim.advance(secs(11));
    sim.send_bytes(client, &[0xC0, 0]);
    sim.settle();
    let now = sim.now;
    assert!(sim.shards[0].fetch_traced(now, trace, 10).is_none());
    assert!((0..16).all(|_| sim.shards[0].open_trace(now, "lamp", now + secs(1)).is_some()));
    assert!(sim.shards[0].open_trace(now, "other", now + secs(1)).is_none());
    assert!(sim.shards[0].open_trace(now + secs(2), "other", now + secs(9)).is_some(), "those are over");
}

#[test]
fn a_trace_that_nobody_fetches_from_is_closed() {
    let mut sim = Simulation::new(SEED, 1);
    let client = sim.connect("lamp").accepted();
    let now = sim.now;
    let trace = sim.shards[0].open_trace(now, "lamp", now + secs(3600)).unwrap();
    for (silence, is_there) in [(20, true), (29, true), (31, false)] {
        sim.advance(secs(silence));
        sim.send_bytes(client, &[0xC0, 0]);
        sim.settle();
        let now = sim.now;
        assert_eq!(sim.shards[0].fetch_traced(now, trace, 10).is_some(), is_there, "after {silence} s");
    }
}
