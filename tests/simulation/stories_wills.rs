//! One story for each row of the table of wills: arming, closing, coming back, publishing, and what lies beyond the standard.

use crate::client::Will;
use crate::simulation::Simulation;
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{Disconnect, Packet, ProtocolVersion, QoS, ReasonCode};
use willowmq::config::{Config, OnShutdown, WillAcl};
use willowmq::security::Rights;
use willowmq::shard::{Closed, DropReason, Hold, WillFate};

const SEED: u64 = 0x5EED;
const SHARDS: usize = 2;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lamp() -> Will {
    Will::new("status/lamp", "off")
}

fn sim() -> Simulation {
    Simulation::new(SEED, SHARDS)
}

fn sim_with(change: impl FnOnce(&mut Config)) -> Simulation {
    let mut config = Config::default();
    change(&mut config);
    Simulation::with_config(SEED, SHARDS, config)
}

/// Everything is allowed but this on `status/#`.
fn deny(action: &str) -> Rights {
    let allow = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['#']\n";
    let deny = format!("[[rules]]\neffect = 'deny'\nactions = ['{action}']\ntopics = ['status/#']\n");
    Rights::parse(&format!("{allow}{deny}"), "rights").unwrap()
}

fn set_rights(sim: &mut Simulation, rights: Rights) {
    let rights = Arc::new(rights);
    for shard in &mut sim.shards {
        shard.set_rights(Arc::clone(&rights));
    }
}

// Arming.

#[test]
fn mqtt_3_1_2_8_will_of_an_accepted_connect_is_published_when_the_connection_is_cut() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    assert_eq!(sim.payloads(watcher), [""; 0]);
    sim.cut(client);
    assert_eq!(sim.payloads(watcher), ["off"]);
}

#[test]
fn will_of_a_refused_connect_is_never_armed() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "#");
    assert_eq!(sim.connect("lamp").will(Will::new("status/+", "off")).refused(), ReasonCode::TopicNameInvalid);
    sim.advance(secs(10));
    assert_eq!(sim.payloads(watcher), [""; 0]);
    assert!(sim.shards.iter().all(|shard| shard.stats().wills.armed == 0));
}

#[test]
fn will_topic_with_a_wildcard_or_empty_is_refused() {
    let mut sim = sim();
    for topic in ["status/#", "+/a", ""] {
        let reason = sim.connect("lamp").will(Will::new(topic, "off")).refused();
        assert_eq!(reason, ReasonCode::TopicNameInvalid, "{topic:?}");
    }
}

#[test]
fn mqtt_3_2_2_12_will_qos_above_the_maximum_is_refused() {
    let mut sim = sim_with(|config| config.limits.maximum_qos = 1);
    assert_eq!(sim.connect("lamp").will(lamp().qos(QoS::ExactlyOnce)).refused(), ReasonCode::QosNotSupported);
    sim.connect("lamp").will(lamp()).accepted();
}

#[test]
fn mqtt_3_2_2_13_will_retain_while_retained_messages_are_off_is_refused() {
    let mut sim = sim_with(|config| config.features.retain = false);
    assert_eq!(sim.connect("lamp").will(lamp().retain()).refused(), ReasonCode::RetainNotSupported);
}

#[test]
fn will_topic_that_the_client_may_not_publish_to_is_refused_at_connect() {
    let mut sim = sim();
    set_rights(&mut sim, deny("will"));
    assert_eq!(sim.connect("lamp").will(lamp()).refused(), ReasonCode::NotAuthorized);
    sim.connect("lamp").accepted();
}

#[test]
fn will_acl_publish_accepts_the_connect_and_drops_the_will_when_it_is_due() {
    let mut sim = sim_with(|config| config.wills.acl = WillAcl::Publish);
    set_rights(&mut sim, deny("will"));
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    sim.cut(client);
    assert_eq!(sim.payloads(watcher), [""; 0]);
    assert_eq!(sim.shards.iter().map(|shard| shard.stats().wills.denied).sum::<u64>(), 1);
}

#[test]
fn rights_that_change_after_connect_are_looked_at_again_when_the_will_is_due() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    set_rights(&mut sim, deny("publish"));
    sim.cut(client);
    assert_eq!(sim.payloads(watcher), [""; 0]);
}

#[test]
fn will_payload_over_the_limit_is_refused() {
    let mut sim = sim_with(|config| config.wills.allow.payload_bytes_max = Some(2));
    assert_eq!(sim.connect("lamp").will(lamp()).refused(), ReasonCode::PacketTooLarge);
}

#[test]
fn will_topic_of_the_server_is_refused_unless_a_rule_names_it() {
    let mut sim = sim();
    let will = || Will::new("$lamp/state", "off");
    assert_eq!(sim.connect("lamp").will(will()).refused(), ReasonCode::NotAuthorized);
    let rule = "[[rules]]\neffect = 'allow'\nactions = ['write']\ntopics = ['$lamp/#']\n";
    set_rights(&mut sim, Rights::parse(rule, "rights").unwrap());
    sim.connect("lamp").will(will()).accepted();
}

#[test]
fn wills_allow_bounds_topic_qos_and_retain() {
    let mut sim = sim_with(|config| {
        config.wills.allow.topics = vec!["status/#".into()];
        config.wills.allow.qos_max = 1;
        config.wills.allow.retain = false;
    });
    assert_eq!(sim.connect("a").will(Will::new("other", "off")).refused(), ReasonCode::NotAuthorized);
    assert_eq!(sim.connect("a").will(lamp().qos(QoS::ExactlyOnce)).refused(), ReasonCode::QosNotSupported);
    assert_eq!(sim.connect("a").will(lamp().retain()).refused(), ReasonCode::RetainNotSupported);
    sim.connect("a").will(lamp()).accepted();
}

// Closing.

#[test]
fn mqtt_3_14_4_3_normal_disconnect_discards_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let client = sim.connect("lamp").version(version).will(lamp()).accepted();
        sim.disconnect(client, ReasonCode::Success);
        sim.advance(secs(10));
        assert_eq!(sim.payloads(watcher), [""; 0]);
    }
}

#[test]
fn disconnect_with_0x04_or_any_other_reason_publishes_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    for reason in [ReasonCode::DisconnectWithWillMessage, ReasonCode::UnspecifiedError, ReasonCode::QuotaExceeded] {
        let client = sim.connect("lamp").will(lamp()).accepted();
        sim.disconnect(client, reason);
        assert_eq!(sim.payloads(watcher), ["off"], "{reason:?}");
    }
}

#[test]
fn disconnect_that_raises_the_session_expiry_from_zero_is_an_error_and_publishes_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.session_expiry_interval = Some(10);
    sim.send(client, &Packet::Disconnect(disconnect));
    sim.settle();
    assert_eq!(sim.payloads(watcher), ["off"]);
    assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::ProtocolError));
}

#[test]
fn disconnect_that_is_malformed_publishes_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    sim.send_bytes(client, &[0xE1, 0]); // A reserved flag is set.
    sim.settle();
    assert_eq!(sim.payloads(watcher), ["off"]);
    assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::MalformedPacket));
}

#[test]
fn fin_reset_and_transport_errors_publish_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    for how in [Closed::Fin, Closed::Reset, Closed::Error] {
        let client = sim.connect("lamp").will(lamp()).accepted();
        sim.cut_only(client, how);
        sim.settle();
        assert_eq!(sim.payloads(watcher), ["off"], "{how:?}");
    }
}

#[test]
fn mqtt_3_1_2_22_silence_for_one_and_a_half_keep_alives_publishes_the_will_and_no_sooner() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").keep_alive(10).will(lamp()).accepted();
    let start = sim.now;
    sim.advance(Duration::from_millis(14_990));
    assert_eq!(sim.payloads(watcher), [""; 0]);
    sim.advance(Duration::from_millis(30));
    let received = sim.received(watcher);
    assert_eq!(received.len(), 1);
    let after = received[0].at.duration_since(start);
    assert!(after >= secs(15) && after <= secs(15) + Duration::from_millis(20), "{after:?}");
    assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::KeepAliveTimeout));
}

#[test]
fn packets_within_the_keep_alive_keep_the_will_armed() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").keep_alive(10).will(lamp()).accepted();
    for _ in 0..10 {
        sim.advance(secs(14));
        sim.send(client, &Packet::Pingreq);
    }
    assert_eq!(sim.payloads(watcher), [""; 0]);
    assert!(sim.is_connected(client));
}

#[test]
fn protocol_error_after_connect_publishes_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    sim.send(client, &Packet::Pingresp);
    sim.settle();
    assert_eq!(sim.payloads(watcher), ["off"]);
    assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::ProtocolError));
}

#[test]
fn packet_that_is_too_large_publishes_the_will() {
    let mut sim = sim_with(|config| config.limits.packet_bytes_max = 256);
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    sim.publish(client, "t", &"x".repeat(300), QoS::AtMostOnce, false);
    assert_eq!(sim.payloads(watcher), ["off"]);
    assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::PacketTooLarge));
}

#[test]
fn administrative_disconnect_publishes_or_discards_as_asked() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    for (fate, expected) in [(WillFate::Publish, vec!["off"]), (WillFate::Discard, vec![])] {
        let client = sim.connect("lamp").will(lamp()).accepted();
        let home = sim.clients[client.0].home.index();
        assert!(sim.shards[home].disconnect(sim.now, "lamp", fate));
        sim.settle();
        assert_eq!(sim.payloads(watcher), expected);
        assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::AdministrativeAction));
    }
}

#[test]
fn graceful_shutdown_holds_the_wills_by_default() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    for shard in &mut sim.shards {
        shard.begin_shutdown(sim.now);
    }
    sim.settle();
    assert_eq!(sim.payloads(watcher), [""; 0]);
    assert_eq!(sim.clients[client.0].disconnected_with, Some(ReasonCode::ServerShuttingDown));
}

#[test]
fn graceful_shutdown_publishes_all_wills_where_it_is_asked_to() {
    let mut sim = sim_with(|config| config.wills.on_shutdown = OnShutdown::Publish);
    let watcher = sim.subscriber("watcher", "status/+");
    for index in 0..20 {
        sim.connect(&format!("lamp-{index}")).will(Will::new(&format!("status/{index}"), "off")).accepted();
    }
    let gone = sim.connect("gone").session_expiry(100).will(Will::new("status/gone", "off").delay(50)).accepted();
    sim.cut(gone);
    for shard in &mut sim.shards {
        shard.begin_shutdown(sim.now);
    }
    sim.settle();
    assert_eq!(sim.payloads(watcher).len(), 21);
}

#[test]
fn mqtt_3_1_3_9_pending_will_is_due_after_its_delay() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(3600).will(lamp().delay(30)).accepted();
    sim.cut(client);
    sim.advance(Duration::from_millis(29_999));
    assert_eq!(sim.payloads(watcher), [""; 0]);
    sim.advance(Duration::from_millis(21));
    assert_eq!(sim.payloads(watcher), ["off"]);
    sim.advance(secs(7200));
    assert_eq!(sim.payloads(watcher), [""; 0]);
}

#[test]
fn mqtt_3_1_3_9_the_end_of_the_session_publishes_a_pending_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(5).will(lamp().delay(30)).accepted();
    sim.cut(client);
    sim.advance(Duration::from_millis(4_990));
    assert_eq!(sim.payloads(watcher), [""; 0]);
    sim.advance(Duration::from_millis(40));
    assert_eq!(sim.payloads(watcher), ["off"]);
}

#[test]
fn session_expiry_of_the_disconnect_counts_for_the_will() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(3600).will(lamp().delay(30)).accepted();
    let mut disconnect = Disconnect::new(ReasonCode::DisconnectWithWillMessage);
    disconnect.session_expiry_interval = Some(0);
    sim.send(client, &Packet::Disconnect(disconnect));
    sim.settle();
    assert_eq!(sim.payloads(watcher), ["off"]);
}

#[test]
fn session_that_never_expires_leaves_the_delay_in_force() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(u32::MAX).will(lamp().delay(60)).accepted();
    sim.cut(client);
    sim.advance(secs(59));
    assert_eq!(sim.payloads(watcher), [""; 0]);
    sim.advance(secs(2));
    assert_eq!(sim.payloads(watcher), ["off"]);
}

#[test]
fn wills_without_delay_are_published_in_the_order_of_the_closes() {
    let mut sim = Simulation::new(SEED, 1);
    let watcher = sim.subscriber("watcher", "status/+");
    let names: Vec<_> = (0..50).map(|index| format!("lamp-{index}")).collect();
    let lamps: Vec<_> = names
        .iter()
        .map(|name| sim.connect(name).will(Will::new(&format!("status/{name}"), name)).accepted())
        .collect();
    for lamp in lamps {
        sim.cut_only(lamp, Closed::Reset);
    }
    sim.settle();
    assert_eq!(sim.payloads(watcher), names);
}

// Coming back.

#[test]
fn mqtt_3_1_3_9_will_is_withheld_when_the_client_returns_in_time() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(3600).will(lamp().delay(30)).accepted();
    sim.cut(client);
    sim.advance(secs(29));
    let (_, session_present) = sim.connect("lamp").clean_start(false).session_expiry(3600).accepted_with_session();
    assert!(session_present);
    sim.advance(secs(7200));
    assert_eq!(sim.payloads(watcher), [""; 0]);
}

#[test]
fn clean_start_publishes_a_pending_will_at_once() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(3600).will(lamp().delay(30)).accepted();
    sim.cut(client);
    sim.connect("lamp").clean_start(true).accepted();
    assert_eq!(sim.payloads(watcher), ["off"]);
    sim.advance(secs(60));
    assert_eq!(sim.payloads(watcher), [""; 0]);
}

#[test]
fn takeover_discards_an_armed_will_whose_delay_is_in_force() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    sim.connect("lamp").session_expiry(3600).will(lamp().delay(30)).accepted();
    sim.connect("lamp").clean_start(false).session_expiry(3600).accepted();
    sim.advance(secs(60));
    assert_eq!(sim.payloads(watcher), [""; 0]);
}

#[test]
fn takeover_publishes_an_armed_will_without_delay_or_whose_session_ends() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    sim.connect("a").session_expiry(3600).will(lamp()).accepted();
    sim.connect("a").clean_start(false).accepted();
    assert_eq!(sim.payloads(watcher), ["off"], "without delay");
    sim.connect("b").session_expiry(0).will(lamp().delay(30)).accepted();
    sim.connect("b").clean_start(false).accepted();
    assert_eq!(sim.payloads(watcher), ["off"], "the old Session ends with its connection");
    sim.connect("c").session_expiry(3600).will(lamp().delay(30)).accepted();
    sim.connect("c").clean_start(true).accepted();
    assert_eq!(sim.payloads(watcher), ["off"], "Clean Start");
    sim.connect("d").version(ProtocolVersion::V3_1_1).clean_start(false).will(lamp()).accepted();
    sim.connect("d").version(ProtocolVersion::V3_1_1).clean_start(false).accepted();
    assert_eq!(sim.payloads(watcher), ["off"], "3.1.1 has no delay");
}

#[test]
fn death_comes_before_birth_on_every_shard() {
    for seed in 0..200 {
        let mut sim = Simulation::new(seed, 5);
        let watchers: Vec<_> = (0..6).map(|index| sim.subscriber(&format!("watcher-{index}"), "status/+")).collect();
        let herald = sim.connect("herald").accepted();
        sim.connect("lamp").will(lamp()).accepted();
        // The moment CONNACK arrives the lamp tells somebody at home elsewhere, who publishes for it.
        let lamp = sim.connect("lamp").only();
        while sim.clients[lamp.0].connack.is_none() {
            let shard = sim.random.below(5);
            sim.turn(shard);
            sim.clients[lamp.0]
                .inbox
                .clone()
                .first()
                .inspect(|_| sim.clients[lamp.0].connack = Some((false, ReasonCode::Success)));
        }
        sim.publish_only(herald, "status/lamp", "on", QoS::AtLeastOnce, false, None);
        sim.settle();
        for watcher in watchers {
            assert_eq!(sim.payloads(watcher), ["off", "on"], "seed {seed}");
        }
    }
}

#[test]
fn will_in_the_line_is_published_before_its_client_is_accepted_again() {
    let mut sim = sim_with(|config| config.wills.slice = 1);
    let watcher = sim.subscriber("watcher", "status/#");
    let lamps: Vec<_> = (0..30)
        .map(|index| {
            sim.connect(&format!("lamp-{index}")).will(Will::new(&format!("status/{index}"), "off")).accepted()
        })
        .collect();
    for lamp in &lamps {
        sim.cut_only(*lamp, Closed::Reset);
    }
    let last = sim.connect("lamp-29").accepted();
    sim.publish(last, "status/29", "on", QoS::AtLeastOnce, false);
    let of_last: Vec<_> = sim.received(watcher).into_iter().filter(|message| message.topic == "status/29").collect();
    assert_eq!(of_last.iter().map(|message| &*message.payload).collect::<Vec<_>>(), ["off", "on"]);
}

// Publishing.

#[test]
fn will_carries_its_properties_and_no_will_delay() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    let will = lamp().delay(5).user_property("b", "2").user_property("a", "1").expiry(100);
    let client = sim.connect("lamp").session_expiry(100).will(will).accepted();
    sim.cut(client);
    sim.advance(secs(20));
    let received = sim.received(watcher);
    let pairs: Vec<_> = received[0].user_properties.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(pairs, [("b", "2"), ("a", "1")]);
    assert_eq!(received[0].expiry, Some(100), "it counts from publication");
}

#[test]
fn will_reaches_the_sessions_own_subscription_where_the_session_lives_on() {
    let mut sim = sim();
    let client = sim.connect("lamp").session_expiry(3600).will(lamp()).accepted();
    sim.subscribe(client, "status/+", QoS::AtLeastOnce);
    sim.cut(client);
    let (client, _) = sim.connect("lamp").clean_start(false).accepted_with_session();
    assert_eq!(sim.payloads(client), ["off"]);
}

#[test]
fn will_reaches_persistent_sessions_that_are_offline_and_shared_subscriptions() {
    let mut sim = sim();
    let offline = sim.connect("offline").session_expiry(3600).accepted();
    sim.subscribe(offline, "status/+", QoS::AtLeastOnce);
    sim.cut(offline);
    let sharer = sim.subscriber("sharer", "$share/group/status/+");
    let client = sim.connect("lamp").will(lamp()).accepted();
    sim.cut(client);
    assert_eq!(sim.payloads(sharer), ["off"]);
    let offline = sim.connect("offline").clean_start(false).accepted();
    assert_eq!(sim.payloads(offline), ["off"]);
}

#[test]
fn mqtt_3_1_2_15_retained_will_is_kept_and_an_empty_one_removes() {
    let mut sim = sim();
    let client = sim.connect("lamp").will(lamp().retain()).accepted();
    sim.cut(client);
    let late = sim.subscriber("late", "status/+");
    let received = sim.received(late);
    assert_eq!((&*received[0].payload, received[0].retain), ("off", true));
    let client = sim.connect("lamp").will(Will::new("status/lamp", "").retain()).accepted();
    sim.cut(client);
    assert_eq!(sim.payloads(late), [""], "an empty will is delivered");
    let later = sim.subscriber("later", "status/+");
    assert_eq!(sim.payloads(later), [""; 0], "and removes the retained message");
}

#[test]
fn storm_reaches_a_slow_watcher_completely_above_its_message_limit() {
    let mut sim = sim_with(|config| {
        config.sessions.queue_messages_max = 10;
        config.limits.inflight_max = 5;
    });
    let watcher = sim.subscriber("watcher", "status/+");
    sim.clients[watcher.0].is_stuck = true;
    let lamps: Vec<_> = (0..300)
        .map(|index| {
            sim.connect(&format!("lamp-{index}")).will(Will::new(&format!("status/{index}"), "off")).accepted()
        })
        .collect();
    for lamp in lamps {
        sim.cut_only(lamp, Closed::Reset);
    }
    sim.settle();
    sim.unstick(watcher);
    let mut topics: Vec<_> = sim.received(watcher).into_iter().map(|message| message.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), 300);
}

#[test]
fn qos_0_watcher_that_does_not_read_loses_wills_and_they_are_counted() {
    let mut sim = sim_with(|config| config.limits.output_bytes_max = 4096);
    let watcher = sim.connect("watcher").accepted();
    sim.subscribe(watcher, "status/+", QoS::AtMostOnce);
    sim.clients[watcher.0].is_stuck = true;
    for index in 0..100 {
        let will = Will::new("status/lamp", &"x".repeat(100));
        let lamp = sim.connect(&format!("lamp-{index}")).will(will).accepted();
        sim.cut(lamp);
    }
    sim.unstick(watcher);
    let lost: u64 = sim.shards.iter().map(|shard| shard.stats().dropped[DropReason::WillOutputFull]).sum();
    assert!(lost > 0);
    assert_eq!(sim.received(watcher).len() as u64 + lost, 100);
}

// Beyond the standard.

#[test]
fn stamp_tells_5_0_subscribers_of_the_closing() {
    let mut sim = sim_with(|config| config.wills.stamp = vec!["status/#".into()]);
    let watcher = sim.subscriber("watcher", "#");
    let client = sim.connect("lamp").will(lamp().user_property("own", "first")).accepted();
    sim.advance(secs(3));
    sim.cut(client);
    let received = sim.received(watcher);
    let property = |name: &str| {
        received[0].user_properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap()
    };
    assert_eq!(received[0].user_properties[0], ("own".to_owned(), "first".to_owned()));
    assert_eq!(property("willow-client-id"), "lamp");
    assert_eq!(property("willow-cause"), "transport-error");
    assert_eq!(property("willow-last-packet-seconds-ago"), "3.000");
    let plain = sim.connect("plain").will(Will::new("other", "off")).accepted();
    sim.cut(plain);
    assert_eq!(sim.received(watcher)[0].user_properties, []);
}

#[test]
fn stale_guard_keeps_what_the_client_published_on_a_newer_connection() {
    for is_guarded in [false, true] {
        let mut sim = sim_with(|config| config.wills.stale_guard = is_guarded);
        let lamp_will = lamp().retain();
        let client = sim.connect("lamp").will(lamp_will).accepted();
        let home = sim.clients[client.0].home.index();
        sim.shards[home].hold_wills(Hold::All);
        sim.cut(client);
        // A held will is older than what its client says when it is back under its name.
        sim.shards[home].release_wills(&Hold::All, WillFate::Publish);
        sim.settle();
        let client = sim.connect("lamp").accepted();
        sim.publish(client, "status/lamp", "on", QoS::AtLeastOnce, true);
        let late = sim.subscriber("late", "status/+");
        assert_eq!(sim.payloads(late), ["on"], "guarded: {is_guarded}");
    }
}

#[test]
fn max_delay_caps_the_delay() {
    let mut sim = sim_with(|config| config.wills.max_delay = Some(secs(10)));
    let watcher = sim.subscriber("watcher", "status/+");
    let client = sim.connect("lamp").session_expiry(3600).will(lamp().delay(1000)).accepted();
    sim.cut(client);
    sim.advance(Duration::from_millis(10_020));
    assert_eq!(sim.payloads(watcher), ["off"]);
}

#[test]
fn hold_keeps_wills_back_until_they_are_released_or_discarded() {
    let mut sim = Simulation::new(SEED, 1);
    let watcher = sim.subscriber("watcher", "status/+");
    let hold = Hold::ClientIdPrefix("lamp".into());
    for (fate, expected) in [(WillFate::Publish, vec!["off"]), (WillFate::Discard, vec![])] {
        sim.shards[0].hold_wills(hold.clone());
        let client = sim.connect("lamp").will(lamp()).accepted();
        let other = sim.connect("other").will(Will::new("status/other", "gone")).accepted();
        sim.cut(client);
        sim.cut(other);
        sim.advance(secs(100));
        assert_eq!(sim.payloads(watcher), ["gone"]);
        sim.shards[0].release_wills(&hold, fate);
        sim.settle();
        assert_eq!(sim.payloads(watcher), expected);
    }
}

#[test]
fn every_outcome_is_counted_and_lateness_is_measured() {
    let mut sim = Simulation::new(SEED, 1);
    let a = sim.connect("a").will(lamp()).accepted();
    let b = sim.connect("b").will(lamp()).accepted();
    sim.cut(a);
    sim.disconnect(b, ReasonCode::Success);
    let wills = &sim.shards[0].stats().wills;
    assert_eq!((wills.armed, wills.published_total(), wills.discarded_total()), (2, 1, 1));
    assert_eq!((wills.armed_now, wills.pending_now), (0, 0));
    assert_eq!(wills.lateness.count(), 1);
}

/// Found by the workload: the wheel tells of a due time up to a tick later, and a client may return in between.
#[test]
fn will_whose_time_has_come_is_published_even_if_its_client_returns_before_the_tick() {
    let mut sim = sim();
    let watcher = sim.subscriber("watcher", "status/+");
    sim.advance(Duration::from_millis(7));
    let client = sim.connect("lamp").session_expiry(3600).will(lamp().delay(2)).accepted();
    sim.cut(client);
    sim.advance(secs(2));
    sim.connect("lamp").clean_start(false).session_expiry(3600).accepted();
    sim.advance(secs(10));
    assert_eq!(sim.payloads(watcher), ["off"]);
}
