//! WILLS.md, *Publishing*: a will is an ordinary PUBLISH by its Session, exactly once.

use crate::wire::message::{Will, hours, message, millis, secs};
use crate::wire::story::{options, story, story_with};
use willowmq::codec::{ProtocolVersion, QoS, SubscriptionOptions};
use willowmq::config::Config;
use willowmq::shard::Closed;
use willowmq::timer::Tick;

#[test]
fn mqtt_3_1_2_14_and_15_will_qos_and_retain_are_those_of_a_publish() {
    for level in [0, 1, 2] {
        story(|sim| {
            let at_most_1 = sim.connect("at-most-1").accepted();
            let as_published = SubscriptionOptions { retain_as_published: true, ..options(1) };
            sim.subscribe_with(at_most_1, "status/+", as_published);
            let watcher = sim.subscriber("watcher", "status/+");
            let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(level).retain()).accepted();
            sim.cut(lamp);
            assert_eq!(sim.only_received(watcher).qos.as_u8(), level);
            assert!(!sim.only_received(watcher).retain); // [MQTT-3.3.1-12]
            assert_eq!(sim.only_received(at_most_1).qos.as_u8(), level.min(1));
            assert!(sim.only_received(at_most_1).retain); // [MQTT-3.3.1-13]
            assert_eq!(sim.retained("status/lamp"), [("status/lamp".to_owned(), "off".to_owned())]);
        });
    }
}

#[test]
fn mqtt_3_1_2_14_a_will_that_is_not_retained_leaves_a_retained_message_alone() {
    story(|sim| {
        let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off")).accepted();
        sim.publish(lamp, &message("status/lamp", "on").qos(1).retain());
        sim.cut(lamp);
        assert_eq!(sim.retained("status/+"), [("status/lamp".to_owned(), "on".to_owned())]);
    });
}

#[test]
fn a_retained_will_without_payload_removes_and_is_delivered() {
    story(|sim| {
        let watcher = sim.connect("watcher").accepted();
        let lamp = sim.connect("lamp").will(Will::new("status/lamp", "").qos(1).retain()).accepted();
        sim.publish(lamp, &message("status/lamp", "on").qos(1).retain());
        sim.subscribe(watcher, "status/+", 1);
        sim.cut(lamp);
        assert_eq!(sim.texts(watcher), ["on", ""]);
        assert_eq!(sim.retained("status/+"), []);
    });
}

#[test]
fn message_expiry_counts_from_publication() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let will = Will::new("status/lamp", "off").qos(1).retain().delay(secs(60)).expires_in(secs(10));
        let lamp = sim.connect("lamp").session_expiry(hours(1)).will(will).accepted();
        sim.advance(hours(1));
        sim.cut(lamp);
        sim.advance(secs(60) + Tick::LENGTH);
        assert_eq!(sim.only_received(watcher).expiry, Some(10));
        assert_eq!(sim.retained("status/+").len(), 1);
        sim.advance(secs(10));
        assert_eq!(sim.retained("status/+"), []);
    });
}

#[test]
fn will_delay_is_not_passed_on_and_old_clients_get_the_bare_message() {
    story(|sim| {
        let old = sim.connect("old").version(ProtocolVersion::V3_1_1).clean_start(true).accepted();
        sim.subscribe(old, "status/+", 1);
        let will = Will::new("status/lamp", "off").delay(secs(1)).properties(|it| it.user_property("a", "b"));
        let lamp = sim.connect("lamp").session_expiry(hours(1)).will(will).accepted();
        sim.cut(lamp);
        sim.advance(secs(2));
        assert_eq!(sim.texts(old), ["off"]);
    });
}

#[test]
fn a_will_reaches_the_sessions_own_subscriptions_where_the_session_lives_on() {
    story(|sim| {
        let will = Will::new("status/lamp", "off").qos(1);
        let lamp = sim.connect("lamp").session_expiry(hours(1)).will(will.clone()).accepted();
        sim.subscribe(lamp, "status/+", 1);
        sim.cut(lamp);
        let lamp = sim.connect("lamp").session_expiry(hours(1)).resumed();
        assert_eq!(sim.texts(lamp), ["off"]);

        sim.subscribe_with(lamp, "status/+", SubscriptionOptions { no_local: true, ..options(1) });
        sim.cut(lamp);
        let lamp = sim.connect("lamp").session_expiry(hours(1)).will(will).resumed();
        sim.cut(lamp);
        let lamp = sim.connect("lamp").session_expiry(hours(1)).resumed();
        assert_eq!(sim.received(lamp), []); // [MQTT-3.8.3-3]
    });
}

#[test]
fn a_will_reaches_persistent_sessions_that_are_offline() {
    story(|sim| {
        let watcher = sim.connect("watcher").session_expiry(hours(9)).accepted();
        sim.subscribe(watcher, "status/+", 2);
        sim.cut(watcher);
        let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(2)).accepted();
        sim.cut(lamp);
        sim.advance(hours(8));
        let watcher = sim.connect("watcher").session_expiry(hours(9)).resumed();
        assert_eq!(sim.only_received(watcher).qos, QoS::ExactlyOnce);
    });
}

#[test]
fn a_will_goes_to_one_member_of_a_shared_subscription() {
    story(|sim| {
        let members: Vec<_> = (0..4).map(|n| sim.subscriber(&format!("member-{n}"), "$share/watch/status/+")).collect();
        for n in 0..10 {
            let lamp = sim.connect("lamp").will(Will::new("status/lamp", &n.to_string()).qos(1)).accepted();
            sim.cut(lamp);
        }
        let mut texts: Vec<_> = members.iter().flat_map(|member| sim.texts(*member)).collect();
        texts.sort();
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    });
}

#[test]
fn a_storm_loses_nothing_at_a_watcher_slower_than_it() {
    let mut config = Config::default();
    config.sessions.queue_messages_max = 10;
    config.limits.inflight_max = 4;
    story_with(&config, |sim| {
        let watcher = sim.connect("watcher").session_expiry(hours(1)).withholding_acknowledgements().accepted();
        sim.subscribe(watcher, "status/+", 1);
        let lamps: Vec<_> = (0..400)
            .map(|n| {
                let will = Will::new(&format!("status/{n}"), &n.to_string()).qos(1);
                sim.connect(&format!("lamp-{n}")).will(will).posted()
            })
            .collect();
        sim.settle();
        for lamp in lamps {
            sim.end_link(lamp, Closed::Reset);
        }
        sim.settle();
        assert_eq!(sim.received(watcher).len(), 4);
        sim.acknowledge_all(watcher);
        let mut numbers: Vec<usize> = sim.texts(watcher).iter().map(|text| text.parse().unwrap()).collect();
        numbers.sort();
        assert_eq!(numbers, (0..400).collect::<Vec<_>>());
        assert_eq!(sim.wills_published(), 400);
    });
}

#[test]
fn wills_of_a_storm_of_keep_alives_are_published_once_and_on_time() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        for n in 0..300 {
            let will = Will::new("status/x", &n.to_string()).qos(1);
            sim.connect(&format!("lamp-{n}")).keep_alive(secs(2)).will(will).posted();
        }
        sim.settle();
        sim.advance(secs(3) - millis(1));
        assert_eq!(sim.received(watcher), []);
        sim.advance(millis(1) + Tick::LENGTH);
        assert_eq!(sim.received(watcher).len(), 300);
        sim.advance(hours(1));
        assert_eq!(sim.received(watcher).len(), 300);
    });
}

#[test]
fn subscribers_of_a_will_on_every_shard_get_it_once() {
    story(|sim| {
        let watchers: Vec<_> = (0..8).map(|n| sim.subscriber(&format!("watcher-{n}"), "status/#")).collect();
        let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(2)).accepted();
        sim.reset(lamp);
        for watcher in watchers {
            assert_eq!(sim.texts(watcher), ["off"]);
        }
    });
}
