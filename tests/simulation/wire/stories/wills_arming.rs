//! WILLS.md, *Arming*: which CONNECT leaves a will.

use crate::wire::message::{Will, secs};
use crate::wire::network::Simulation;
use crate::wire::story::{story, story_with};
use willowmq::codec::{ProtocolVersion, ReasonCode};
use willowmq::config::{Config, WillAcl};

/// Connects with a will that is refused: nothing is armed by that, and nothing published.
fn refusal(sim: &mut Simulation, will: Will) -> ReasonCode {
    let watcher = sim.subscriber("watcher", "#");
    let reason = sim.connect("lamp").session_expiry(secs(5)).will(will).refused();
    sim.advance(secs(20));
    assert_eq!(sim.received(watcher), []);
    reason
}

#[test]
fn an_accepted_will_belongs_to_the_session_with_all_its_properties() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let will = Will::new("status/lamp", "off").qos(1).properties(|properties| {
            properties
                .payload_format_is_utf8(true)
                .content_type("text/plain")
                .response_topic("answers")
                .correlation_data(b"7")
                .user_property("b", "2")
                .user_property("a", "1")
                .user_property("b", "3")
        });
        let lamp = sim.connect("lamp").will(will.clone()).accepted();
        sim.cut(lamp);
        let received = sim.only_received(watcher);
        assert_eq!(received.properties(), will.message.forwarded());
        let user: Vec<_> =
            received.properties().user_properties().iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let expected = [("b", "2"), ("a", "1"), ("b", "3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(user, expected); // [MQTT-3.3.2-18]
    });
}

#[test]
fn a_refused_connect_arms_nothing() {
    let mut config = Config::default();
    config.limits.client_id_bytes_max = 23;
    story_with(&config, |sim| {
        let watcher = sim.subscriber("watcher", "#");
        let will = Will::new("status/lamp", "off");
        let reason = sim.connect("a-client-identifier-that-is-too-long").will(will).refused();
        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
        sim.advance(secs(10));
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn a_refused_connect_leaves_an_existing_session_and_its_will_alone() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let will = Will::new("status/lamp", "off").delay(secs(10));
        let lamp = sim.connect("lamp").session_expiry(secs(100)).will(will).accepted();
        sim.connect("lamp").will(Will::new("status/+", "bad")).refused();
        assert!(!sim.is_gone(lamp));
        sim.cut(lamp);
        sim.connect("lamp").will(Will::new("status/+", "bad")).refused();
        sim.advance(secs(11));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn a_will_topic_that_is_no_topic_name_is_refused() {
    story(|sim| {
        for topic in ["", "status/+", "#"] {
            let reason = refusal(sim, Will::new(topic, "off"));
            assert!(
                [ReasonCode::MalformedPacket, ReasonCode::TopicNameInvalid].contains(&reason),
                "{topic:?}: {reason:?}"
            );
        }
    });
}

/// A CONNECT of 5.0 with a will whose topic and flags are given.
fn connect_with_will(flags: u8, will: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05".to_vec();
    body.push(flags);
    body.extend_from_slice(&[0, 0, 0]); // Keep Alive, no properties
    body.extend_from_slice(b"\x00\x04lamp");
    body.extend_from_slice(will);
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend_from_slice(&body);
    packet
}

#[test]
fn a_malformed_will_is_refused() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "#");
        let malformed = [
            connect_with_will(0x06, b"\x00\x00\x02\xff\xfe\x00\x00"), // Will Topic is not UTF-8.
            connect_with_will(0x06, b"\x00\x00\x01\x00\x00\x00"),     // It has U+0000. [MQTT-1.5.4-2]
            connect_with_will(0x1e, b"\x00\x00\x01t\x00\x00"),        // Will QoS 3. [MQTT-3.1.2-12]
            connect_with_will(0x0a, b""),                             // Will QoS without Will Flag. [MQTT-3.1.2-11]
            connect_with_will(0x22, b""),                             // Will Retain without it. [MQTT-3.1.2-13]
        ];
        for connect in malformed {
            let link = sim.connect_with_bytes(ProtocolVersion::V5, &connect);
            assert_eq!(sim.connack(link).reason, ReasonCode::MalformedPacket, "{connect:x?}");
            assert!(sim.is_gone(link));
        }
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn mqtt_3_2_2_12_will_qos_above_the_maximum_is_refused() {
    let mut config = Config::default();
    config.limits.maximum_qos = 1;
    story_with(&config, |sim| {
        assert_eq!(refusal(sim, Will::new("status/lamp", "off").qos(2)), ReasonCode::QosNotSupported);
    });
}

#[test]
fn mqtt_3_2_2_13_will_retain_is_refused_while_retained_messages_are_off() {
    let mut config = Config::default();
    config.features.retain = false;
    story_with(&config, |sim| {
        assert_eq!(refusal(sim, Will::new("status/lamp", "off").retain()), ReasonCode::RetainNotSupported);
    });
}

#[test]
fn a_will_payload_over_the_limit_is_refused() {
    let mut config = Config::default();
    config.wills.allow.payload_bytes_max = Some(8);
    story_with(&config, |sim| {
        assert_eq!(refusal(sim, Will::new("status/lamp", "nine long")), ReasonCode::PacketTooLarge);
        sim.connect("lamp").will(Will::new("status/lamp", "eight ok")).accepted();
    });
}

#[test]
fn a_will_on_a_topic_of_the_server_is_refused() {
    for acl in [WillAcl::Connect, WillAcl::Publish] {
        let mut config = Config::default();
        config.wills.acl = acl;
        story_with(&config, |sim| {
            assert_eq!(refusal(sim, Will::new("$SYS/lamp", "off")), ReasonCode::NotAuthorized);
        });
    }
}

mod rights {
    use super::*;
    use std::sync::Arc;
    use willowmq::security::Rights;

    const ALLOW_ALL: &str = "[[rules]]\neffect = 'allow'\nactions = ['all']\ntopics = ['#']\n";

    fn deny_publishing(sim: &mut Simulation, filter: &str) {
        let deny = format!("[[rules]]\neffect = 'deny'\nactions = ['publish']\ntopics = ['{filter}']\n");
        set_rights(sim, &format!("{ALLOW_ALL}{deny}"));
    }

    fn set_rights(sim: &mut Simulation, rules: &str) {
        let rights = Arc::new(Rights::parse(rules, "rights").unwrap());
        for shard in 0..sim.shards().len() {
            sim.control(shard, |shard, _| shard.set_rights(Arc::clone(&rights)));
        }
    }

    #[test]
    fn a_will_that_its_client_may_not_publish_is_refused_at_connect() {
        story(|sim| {
            deny_publishing(sim, "status/#");
            assert_eq!(refusal(sim, Will::new("status/lamp", "off")), ReasonCode::NotAuthorized);
        });
    }

    #[test]
    fn with_acl_publish_such_a_will_is_dropped_and_counted_when_it_is_due() {
        let mut config = Config::default();
        config.wills.acl = WillAcl::Publish;
        story_with(&config, |sim| {
            deny_publishing(sim, "status/#");
            let watcher = sim.subscriber("watcher", "#");
            let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").retain()).accepted();
            sim.cut(lamp);
            assert_eq!(sim.received(watcher), []);
            assert_eq!(sim.retained("status/lamp"), []);
            assert_eq!(sim.shards().iter().map(|shard| shard.stats().wills.denied).sum::<u64>(), 1);
        });
    }

    #[test]
    fn rights_that_have_changed_count_when_the_will_is_published() {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "#");
            let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off")).accepted();
            deny_publishing(sim, "status/#");
            sim.cut(lamp);
            assert_eq!(sim.received(watcher), []);
        });
    }

    #[test]
    fn a_rule_may_allow_a_will_on_a_topic_of_the_server() {
        story(|sim| {
            let write =
                "[[rules]]\neffect = 'allow'\nclients = ['lamp']\nactions = ['write']\ntopics = ['$SYS/lamps/#']\n";
            let read = "[[rules]]\neffect = 'allow'\nactions = ['read']\ntopics = ['$SYS/#']\n";
            set_rights(sim, &format!("{write}{read}"));
            let watcher = sim.subscriber("watcher", "$SYS/lamps/+");
            let lamp = sim.connect("lamp").will(Will::new("$SYS/lamps/1", "off")).accepted();
            sim.cut(lamp);
            assert_eq!(sim.texts(watcher), ["off"]);
        });
    }
}
