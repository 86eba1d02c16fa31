//! WILLS.md, *Closing*: what the end of the Network Connection does to the will.

use crate::wire::message::{Will, message, millis, secs};
use crate::wire::network::{Link, Simulation};
use crate::wire::story::{story, story_with};
use std::time::Duration;
use willowmq::codec::{Packet, ProtocolVersion, ReasonCode};
use willowmq::config::Config;
use willowmq::shard::WillFate;
use willowmq::timer::Tick;

/// A watcher of `status/+` and a client with a will there.
fn lamp(sim: &mut Simulation) -> (Link, Link) {
    let watcher = sim.subscriber("watcher", "status/+");
    let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(1)).accepted();
    (watcher, lamp)
}

#[test]
fn mqtt_3_14_4_3_disconnect_0x00_discards_the_will() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.disconnect(lamp, ReasonCode::Success);
        sim.advance(secs(60));
        assert!(sim.is_gone(lamp));
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn v3_1_1_mqtt_3_14_4_3_any_disconnect_discards_the_will() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1] {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            let will = Will::new("status/lamp", "off").qos(1);
            let lamp = sim.connect("lamp").version(version).clean_start(true).will(will).accepted();
            sim.disconnect(lamp, ReasonCode::Success);
            sim.advance(secs(60));
            assert_eq!(sim.received(watcher), []);
        });
    }
}

#[test]
fn a_close_right_behind_disconnect_does_not_bring_the_will_back() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.post(lamp, &Packet::Disconnect(Default::default()));
        sim.cut(lamp);
        sim.advance(secs(60));
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn mqtt_3_1_2_8_disconnect_0x04_publishes_the_will() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.disconnect(lamp, ReasonCode::DisconnectWithWillMessage);
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn disconnect_with_any_other_reason_code_publishes_the_will() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let reasons =
            [ReasonCode::UnspecifiedError, ReasonCode::ImplementationSpecificError, ReasonCode::QuotaExceeded];
        for (count, reason) in (1..).zip(reasons) {
            let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(1)).accepted();
            sim.disconnect(lamp, reason);
            assert_eq!(sim.received(watcher).len(), count, "{reason:?}");
        }
    });
}

#[test]
fn disconnect_0x04_leaves_a_delayed_will_pending() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let will = Will::new("status/lamp", "off").delay(secs(30));
        let lamp = sim.connect("lamp").session_expiry(secs(100)).will(will).accepted();
        sim.disconnect(lamp, ReasonCode::DisconnectWithWillMessage);
        sim.advance(millis(29_999));
        assert_eq!(sim.received(watcher), []);
        sim.advance(millis(1) + Tick::LENGTH);
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn a_session_expiry_interval_in_disconnect_counts() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let will = Will::new("status/lamp", "off").delay(secs(30));
        let lamp = sim.connect("lamp").session_expiry(secs(100)).will(will.clone()).accepted();
        sim.disconnect_with(lamp, ReasonCode::DisconnectWithWillMessage, Some(10));
        sim.advance(millis(9_999));
        assert_eq!(sim.received(watcher), []);
        sim.advance(millis(1) + Tick::LENGTH);
        assert_eq!(sim.texts(watcher), ["off"]);

        let lamp = sim.connect("lamp").session_expiry(secs(100)).will(will).started_anew();
        sim.disconnect_with(lamp, ReasonCode::DisconnectWithWillMessage, Some(0));
        assert_eq!(sim.texts(watcher), ["off", "off"]);
    });
}

#[test]
fn mqtt_3_1_2_10_a_malformed_disconnect_does_not_discard_the_will() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.send_bytes(lamp, &[0xe0, 2, 0x00, 9]); // Properties that are not there.
        assert_eq!(sim.farewell(lamp), Some(ReasonCode::MalformedPacket));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn disconnect_that_raises_session_expiry_from_zero_is_a_protocol_error() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.disconnect_with(lamp, ReasonCode::Success, Some(5));
        assert_eq!(sim.farewell(lamp), Some(ReasonCode::ProtocolError));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn mqtt_3_1_2_8_the_end_of_the_connection_publishes_the_will() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        for end in [Simulation::cut, Simulation::reset] {
            story(|sim| {
                let watcher = sim.subscriber("watcher", "status/+");
                let will = Will::new("status/lamp", "off").qos(2);
                let lamp = sim.connect("lamp").version(version).clean_start(true).will(will).accepted();
                end(sim, lamp);
                assert_eq!(sim.texts(watcher), ["off"]);
                sim.advance(secs(3600));
                assert_eq!(sim.texts(watcher), ["off"]);
            });
        }
    }
}

#[test]
fn mqtt_3_1_2_22_keep_alive_passes_and_the_will_is_published_in_time_and_never_early() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            let will = Will::new("status/lamp", "off").qos(1);
            let lamp =
                sim.connect("lamp").version(version).clean_start(true).keep_alive(secs(10)).will(will).accepted();
            sim.advance(millis(14_999));
            assert_eq!(sim.received(watcher), []);
            sim.ping(lamp);
            sim.advance(millis(14_999));
            assert_eq!(sim.received(watcher), []);
            assert!(sim.is_usable(lamp));
            sim.advance(millis(1) + Tick::LENGTH);
            assert_eq!(sim.texts(watcher), ["off"]);
            assert!(sim.is_gone(lamp));
            let told = version.has_server_disconnect().then_some(ReasonCode::KeepAliveTimeout);
            assert_eq!(sim.farewell(lamp), told);
        });
    }
}

#[test]
fn part_of_a_packet_does_not_keep_a_connection_alive() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let will = Will::new("status/lamp", "off");
        let lamp = sim.connect("lamp").keep_alive(secs(10)).will(will).accepted();
        for byte in [0x30, 0x20, 0x00] {
            sim.advance(secs(4));
            sim.send_bytes(lamp, &[byte]);
        }
        sim.advance(secs(3) + Tick::LENGTH);
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn keep_alive_zero_never_closes() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.advance(Duration::from_secs(40 * 24 * 3600));
        assert!(sim.is_usable(lamp));
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn mqtt_3_2_2_21_server_keep_alive_takes_the_place_of_the_clients() {
    let mut config = Config::default();
    config.limits.keep_alive_max = 10;
    story_with(&config, |sim| {
        for asked in [secs(60), secs(0)] {
            let will = Will::new("status/lamp", "off");
            let watcher = sim.connect("watcher").keep_alive(secs(10)).accepted();
            sim.subscribe(watcher, "status/+", 1);
            let lamp = sim.connect("lamp").keep_alive(asked).will(will).accepted();
            assert_eq!(sim.connack(lamp).server_keep_alive, Some(10));
            sim.advance(secs(14));
            sim.ping(watcher);
            assert_eq!(sim.received(watcher), []);
            sim.advance(secs(1) + Tick::LENGTH);
            assert_eq!(sim.texts(watcher), ["off"]);
        }
    });
}

#[test]
fn a_malformed_packet_publishes_the_will() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.send_bytes(lamp, &[0x36, 5, 0, 1, b't', 0, 1]); // PUBLISH with QoS 3.
        assert_eq!(sim.farewell(lamp), Some(ReasonCode::MalformedPacket));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_publishes_the_will() {
    story(|sim| {
        let (watcher, lamp) = lamp(sim);
        sim.send_bytes(lamp, b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x04lamp");
        assert_eq!(sim.farewell(lamp), Some(ReasonCode::ProtocolError));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn a_packet_over_the_limit_publishes_the_will() {
    let mut config = Config::default();
    config.limits.packet_bytes_max = 128;
    story_with(&config, |sim| {
        let (watcher, lamp) = lamp(sim);
        sim.send_bytes(lamp, &[0x30, 0xff, 0x7f]);
        assert_eq!(sim.farewell(lamp), Some(ReasonCode::PacketTooLarge));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn an_administrator_disconnects_and_the_will_is_published_or_discarded_as_asked() {
    for (fate, published) in [(WillFate::Publish, 1), (WillFate::Discard, 0)] {
        story(|sim| {
            let (watcher, lamp) = lamp(sim);
            let home = sim.home("lamp");
            assert!(sim.control(home, |shard, now| shard.disconnect(now, "lamp", fate)));
            sim.settle();
            assert_eq!(sim.farewell(lamp), Some(ReasonCode::AdministrativeAction));
            sim.advance(secs(60));
            assert_eq!(sim.received(watcher).len(), published);
        });
    }
}

mod shutdown {
    use super::*;
    use willowmq::config::OnShutdown;

    fn shut_down(sim: &mut Simulation) {
        for shard in 0..sim.shards().len() {
            sim.control(shard, |shard, now| shard.begin_shutdown(now));
        }
        sim.settle();
    }

    #[test]
    fn a_graceful_stop_says_0x8b_and_publishes_no_will() {
        story(|sim| {
            let (watcher, lamp) = lamp(sim);
            let old = sim.connect("old").version(ProtocolVersion::V3_1_1).clean_start(true).accepted();
            shut_down(sim);
            assert_eq!(sim.farewell(lamp), Some(ReasonCode::ServerShuttingDown));
            assert!(sim.is_gone(old));
            assert_eq!(sim.received(watcher), []);
        });
    }

    #[test]
    fn with_on_shutdown_publish_all_wills_are_published_before_the_connections_close() {
        let mut config = Config::default();
        config.wills.on_shutdown = OnShutdown::Publish;
        story_with(&config, |sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            for number in 0..10 {
                let will = Will::new(&format!("status/{number}"), &number.to_string()).delay(secs(60)).qos(1);
                let lamp = sim.connect(&format!("lamp-{number}")).session_expiry(secs(60)).will(will).accepted();
                if number >= 5 {
                    sim.cut(lamp);
                }
            }
            shut_down(sim);
            let mut texts = sim.texts(watcher);
            texts.sort();
            assert_eq!(texts, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
            assert_eq!(sim.farewell(watcher), Some(ReasonCode::ServerShuttingDown));
        });
    }
}

/// The due time is `close time + min(Will Delay Interval, remaining Session Expiry Interval)`.
#[test]
fn mqtt_3_1_3_9_a_pending_will_is_due_after_the_delay_or_the_session_whichever_is_shorter() {
    for (delay, expiry, due) in [(30, 100, 30), (100, 30, 30), (0, 100, 0), (100, 0, 0), (7, 7, 7)] {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            let will = Will::new("status/lamp", "off").delay(secs(delay));
            let lamp = sim.connect("lamp").session_expiry(secs(expiry)).will(will).accepted();
            sim.cut(lamp);
            if due > 0 {
                sim.advance(secs(due) - millis(1));
                assert_eq!(sim.received(watcher), []);
                sim.advance(millis(1) + Tick::LENGTH);
            }
            assert_eq!(sim.texts(watcher), ["off"]);
            sim.advance(secs(200));
            assert_eq!(sim.texts(watcher), ["off"]);
        });
    }
}

#[test]
fn a_session_that_never_expires_leaves_the_delay_alone() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let week = secs(7 * 24 * 3600);
        let lamp =
            sim.connect("lamp").session_never_expires().will(Will::new("status/lamp", "off").delay(week)).accepted();
        sim.cut(lamp);
        sim.advance(week - millis(1));
        assert_eq!(sim.received(watcher), []);
        sim.advance(millis(1) + Tick::LENGTH);
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn wills_of_one_shard_are_published_in_the_order_of_the_closes() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let home = sim.home("lamp-0");
        let neighbours: Vec<_> =
            (0..100).map(|number| format!("lamp-{number}")).filter(|name| sim.home(name) == home).take(8).collect();
        let lamps: Vec<_> = neighbours
            .iter()
            .map(|name| sim.connect(name).will(Will::new("status/x", name).qos(1)).accepted())
            .collect();
        for lamp in lamps {
            sim.cut(lamp);
        }
        assert_eq!(sim.texts(watcher), neighbours);
    });
}

/// Another shard is far behind, so the client is paused with its DISCONNECT unread, and its FIN follows at once.
#[test]
fn disconnect_that_arrived_behind_a_flood_discards_the_will_even_if_fin_follows_at_once() {
    let mut config = Config::default();
    config.limits.mesh_messages_max = 64;
    story_with(&config, |sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let readers: Vec<_> = (0..4).map(|n| sim.subscriber(&format!("reader-{n}"), "t")).collect();
        let lamp = sim.connect("lamp").will(Will::new("status/lamp", "off").qos(1)).accepted();
        for n in 0..500 {
            sim.post_publish(lamp, &message("t", &n.to_string()));
        }
        sim.post(lamp, &Packet::Disconnect(Default::default()));
        sim.cut(lamp);
        sim.advance(secs(1));
        assert_eq!(sim.received(watcher), []); // [MQTT-3.14.4-3]
        assert!(readers.iter().all(|reader| sim.received(*reader).len() == 500));
    });
}
