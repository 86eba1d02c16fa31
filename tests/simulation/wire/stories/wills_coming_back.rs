//! WILLS.md, *Coming back*: what becomes of a will when its client connects again.

use crate::wire::message::{Will, hours, message, millis, secs};
use crate::wire::network::{Link, Simulation};
use crate::wire::story::story;
use std::time::Duration;
use willowmq::codec::{ProtocolVersion, ReasonCode};
use willowmq::timer::Tick;

fn will(delay: Duration) -> Will {
    Will::new("status/lamp", "off").qos(1).retain().delay(delay)
}

/// A client with a will of this delay and a Session of an hour.
fn lamp(sim: &mut Simulation, delay: Duration) -> Link {
    sim.connect("lamp").session_expiry(hours(1)).will(will(delay)).accepted()
}

#[test]
fn mqtt_3_1_3_9_will_is_withheld_when_the_client_returns_in_time() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let lamp = lamp(sim, secs(30));
        sim.cut(lamp);
        sim.advance(secs(30) - millis(1));
        sim.connect("lamp").session_expiry(hours(1)).resumed();
        sim.advance(hours(2));
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn a_client_that_returns_too_late_has_its_will_published_once() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let first = lamp(sim, secs(30));
        sim.cut(first);
        sim.advance(secs(30) + Tick::LENGTH);
        sim.connect("lamp").session_expiry(hours(1)).resumed();
        sim.advance(hours(2));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn clean_start_publishes_a_pending_will_at_once() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let first = lamp(sim, secs(30));
        sim.cut(first);
        sim.connect("lamp").clean_start(true).session_expiry(hours(1)).started_anew();
        assert_eq!(sim.texts(watcher), ["off"]);
        sim.advance(hours(2));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn takeover_discards_an_armed_will_with_a_delay_where_the_session_survives() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let first = lamp(sim, secs(30));
        let second = sim.connect("lamp").session_expiry(hours(1)).resumed();
        assert_eq!(sim.farewell(first), Some(ReasonCode::SessionTakenOver)); // [MQTT-3.1.4-3]
        assert!(sim.is_gone(first) && sim.is_usable(second));
        sim.advance(hours(2));
        assert_eq!(sim.received(watcher), []);
    });
}

#[test]
fn takeover_publishes_an_armed_will_without_delay() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let first = lamp(sim, secs(0));
        sim.connect("lamp").session_expiry(hours(1)).resumed();
        assert_eq!(sim.farewell(first), Some(ReasonCode::SessionTakenOver));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn takeover_publishes_an_armed_will_whose_session_ends_with_its_connection() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        sim.connect("lamp").session_expiry(secs(0)).will(will(secs(30))).accepted();
        sim.connect("lamp").started_anew();
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn takeover_with_clean_start_publishes_an_armed_will_at_once() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let first = lamp(sim, secs(30));
        sim.connect("lamp").clean_start(true).session_expiry(hours(1)).started_anew();
        assert!(sim.is_gone(first));
        assert_eq!(sim.texts(watcher), ["off"]);
        sim.advance(hours(2));
        assert_eq!(sim.texts(watcher), ["off"]);
    });
}

#[test]
fn v3_1_1_takeover_publishes_the_armed_will_and_has_no_disconnect_to_send() {
    for clean_session in [false, true] {
        story(|sim| {
            let watcher = sim.subscriber("watcher", "status/+");
            let connect = |sim: &mut Simulation| {
                let connect = sim.connect("lamp").version(ProtocolVersion::V3_1_1).clean_start(clean_session);
                connect.will(will(secs(0))).accepted()
            };
            let first = connect(sim);
            let second = connect(sim);
            assert!(sim.is_gone(first) && sim.is_usable(second));
            assert_eq!(sim.connack(second).session_present, !clean_session);
            assert_eq!(sim.texts(watcher), ["off"]);
        });
    }
}

#[test]
fn each_connection_has_its_own_will() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let connect = |sim: &mut Simulation, text: &str| {
            sim.connect("lamp").session_expiry(hours(1)).will(Will::new("status/lamp", text).delay(secs(5))).accepted()
        };
        let first = connect(sim, "first");
        sim.cut(first);
        sim.advance(secs(3));
        let second = connect(sim, "second");
        sim.advance(secs(3));
        assert_eq!(sim.received(watcher), []);
        sim.cut(second);
        sim.advance(secs(4));
        assert_eq!(sim.received(watcher), []);
        sim.advance(secs(2));
        assert_eq!(sim.texts(watcher), ["second"]);
    });
}

#[test]
fn a_connection_without_a_will_leaves_none_behind() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let first = lamp(sim, secs(5));
        sim.cut(first);
        let second = sim.connect("lamp").session_expiry(hours(1)).resumed();
        sim.cut(second);
        sim.advance(hours(2));
        assert_eq!(sim.received(watcher), []);
    });
}

/// Watchers on every shard hear of the death before they hear of the birth, and the birth is what stays retained.
fn death_comes_before_birth(sim: &mut Simulation, delay: Duration, clean_start: bool, cut: bool, level: u8) {
    let watchers: Vec<_> = (0..6).map(|n| sim.subscriber(&format!("watcher-{n}"), "status/+")).collect();
    let first = sim.connect("lamp").session_expiry(hours(1)).will(will(delay)).accepted();
    if cut {
        sim.cut(first);
    }
    let second = sim.connect("lamp").clean_start(clean_start).session_expiry(hours(1)).posted();
    sim.step_until(|sim| sim.client(second).connack().is_some());
    sim.post_publish(second, &message("status/lamp", "on").qos(level).retain());
    sim.settle();
    for watcher in watchers {
        assert_eq!(sim.texts(watcher), ["off", "on"]);
    }
    assert_eq!(sim.retained("status/#"), [("status/lamp".to_owned(), "on".to_owned())]);
}

#[test]
fn death_before_birth_when_clean_start_ends_the_old_session() {
    for level in [0, 1, 2] {
        story(|sim| death_comes_before_birth(sim, secs(30), true, true, level));
    }
}

#[test]
fn death_before_birth_when_a_takeover_ends_the_old_session() {
    story(|sim| death_comes_before_birth(sim, secs(30), true, false, 1));
}

#[test]
fn death_before_birth_when_a_takeover_publishes_and_the_session_goes_on() {
    story(|sim| death_comes_before_birth(sim, secs(0), false, false, 1));
}

#[test]
fn death_before_birth_when_the_old_connection_has_just_been_cut() {
    story(|sim| {
        let watchers: Vec<_> = (0..6).map(|n| sim.subscriber(&format!("watcher-{n}"), "status/+")).collect();
        let first = sim.connect("lamp").session_expiry(hours(1)).will(will(secs(0))).accepted();
        sim.end_link(first, willowmq::shard::Closed::Reset);
        let second = sim.connect("lamp").session_expiry(hours(1)).posted();
        sim.step_until(|sim| sim.client(second).connack().is_some());
        sim.post_publish(second, &message("status/lamp", "on").retain());
        sim.settle();
        for watcher in watchers {
            assert_eq!(sim.texts(watcher), ["off", "on"]);
        }
        assert_eq!(sim.retained("status/#"), [("status/lamp".to_owned(), "on".to_owned())]);
    });
}

/// The new client does not wait for CONNACK before it publishes, which a client may do.
#[test]
fn death_before_birth_when_the_client_publishes_behind_its_connect() {
    story(|sim| {
        let watchers: Vec<_> = (0..6).map(|n| sim.subscriber(&format!("watcher-{n}"), "status/+")).collect();
        let first = lamp(sim, secs(30));
        sim.cut(first);
        let second = sim.connect("lamp").clean_start(true).posted();
        sim.post_publish(second, &message("status/lamp", "on").retain());
        sim.settle();
        for watcher in watchers {
            assert_eq!(sim.texts(watcher), ["off", "on"]);
        }
        assert_eq!(sim.retained("status/#"), [("status/lamp".to_owned(), "on".to_owned())]);
    });
}

#[test]
fn a_storm_of_due_wills_does_not_let_a_birth_overtake_its_death() {
    story(|sim| {
        let watcher = sim.subscriber("watcher", "status/+");
        let lamps: Vec<_> = (0..300)
            .map(|n| {
                let will = Will::new(&format!("status/{n}"), "off").qos(1);
                sim.connect(&format!("lamp-{n}")).session_expiry(hours(1)).will(will).accepted()
            })
            .collect();
        for lamp in &lamps {
            sim.end_link(*lamp, willowmq::shard::Closed::Reset);
        }
        let again: Vec<_> =
            (0..300).map(|n| sim.connect(&format!("lamp-{n}")).session_expiry(hours(1)).posted()).collect();
        for (n, link) in again.iter().enumerate() {
            sim.post_publish(*link, &message(&format!("status/{n}"), "on").qos(1));
        }
        sim.settle();
        let received = sim.received(watcher);
        for n in 0..300 {
            let topic = format!("status/{n}");
            let texts: Vec<_> = received.iter().filter(|seen| seen.topic == topic).map(|seen| seen.text()).collect();
            assert_eq!(texts, ["off", "on"], "{topic}");
        }
    });
}

/// Somebody else, at home anywhere, who has learnt that the lamp is back, says so: that comes after the will as well.
#[test]
fn the_will_is_routed_on_every_shard_before_connack_leaves() {
    for n in 0..5 {
        story(|sim| {
            let watchers: Vec<_> = (0..6).map(|n| sim.subscriber(&format!("watcher-{n}"), "status/+")).collect();
            let warden = sim.connect(&format!("warden-{n}")).accepted();
            let first = lamp(sim, secs(30));
            sim.cut(first);
            let second = sim.connect("lamp").clean_start(true).posted();
            sim.step_until(|sim| sim.client(second).connack().is_some());
            sim.post_publish(warden, &message("status/lamp", "on").qos(1).retain());
            sim.settle();
            for watcher in watchers {
                assert_eq!(sim.texts(watcher), ["off", "on"]);
            }
            assert_eq!(sim.retained("status/#"), [("status/lamp".to_owned(), "on".to_owned())]);
        });
    }
}
