//! Sessions: takeover, resumption, expiry.

use crate::wire::message::{hours, message, millis, secs};
use crate::wire::network::Simulation;
use crate::wire::story::story;
use willowmq::codec::{ProtocolVersion, ReasonCode};
use willowmq::timer::Tick;

#[test]
fn mqtt_3_1_4_3_the_older_connection_is_told_and_closed() {
    story(|sim| {
        let first = sim.connect("lamp").session_expiry(hours(1)).started_anew();
        let second = sim.connect("lamp").session_expiry(hours(1)).resumed();
        assert_eq!(sim.farewell(first), Some(ReasonCode::SessionTakenOver));
        assert!(sim.is_gone(first));
        assert_eq!(sim.publish(second, &message("t", "x").qos(1)), Some(ReasonCode::NoMatchingSubscribers));
    });
}

#[test]
fn of_many_connections_that_race_one_remains() {
    story(|sim| {
        let links: Vec<_> = (0..10).map(|_| sim.connect("lamp").session_expiry(hours(1)).posted()).collect();
        sim.settle();
        let open: Vec<_> = links.iter().filter(|link| !sim.is_gone(**link)).collect();
        assert_eq!(open.len(), 1);
        assert!(links.iter().all(|link| sim.connack(*link).reason == ReasonCode::Success));
        let present = links.iter().filter(|link| sim.connack(**link).session_present).count();
        assert_eq!(present, 9); // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
    });
}

#[test]
fn mqtt_3_1_2_5_a_resumed_session_keeps_its_subscriptions_and_queue() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
        sim.subscribe(reader, "t/#", 1);
        sim.cut(reader);
        let writer = sim.connect("writer").accepted();
        for n in 0..20 {
            assert_eq!(sim.publish(writer, &message("t/x", &n.to_string()).qos(2)), Some(ReasonCode::Success));
        }
        let reader = sim.connect("reader").session_expiry(hours(1)).resumed();
        assert_eq!(sim.texts(reader), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
        sim.publish(writer, &message("t/x", "live"));
        assert_eq!(sim.texts(reader).last().unwrap(), "live");
    });
}

#[test]
fn mqtt_3_1_2_4_clean_start_forgets_everything() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
        sim.subscribe(reader, "t/#", 1);
        sim.cut(reader);
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t/x", "1").qos(1));
        let reader = sim.connect("reader").clean_start(true).session_expiry(hours(1)).started_anew();
        sim.publish(writer, &message("t/x", "2").qos(1));
        assert_eq!(sim.received(reader), []);
    });
}

#[test]
fn mqtt_3_1_2_23_a_session_ends_when_its_expiry_has_passed_and_not_before() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(secs(10)).accepted();
        sim.cut(reader);
        sim.advance(secs(10) - millis(1));
        let reader = sim.connect("reader").session_expiry(secs(10)).resumed();
        sim.cut(reader);
        sim.advance(secs(10) + Tick::LENGTH);
        sim.connect("reader").started_anew();
    });
}

#[test]
fn time_with_a_connection_does_not_count_towards_expiry() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(secs(10)).accepted();
        sim.advance(hours(1));
        sim.cut(reader);
        sim.advance(secs(9));
        sim.connect("reader").resumed();
    });
}

#[test]
fn a_session_ends_with_its_connection_where_nothing_else_was_asked() {
    story(|sim| {
        let reader = sim.connect("reader").accepted();
        sim.subscribe(reader, "t/#", 1);
        sim.cut(reader);
        sim.connect("reader").started_anew();
    });
}

#[test]
fn v3_1_1_mqtt_3_1_2_4_clean_session_0_stays_for_ever() {
    story(|sim| {
        let connect = |sim: &mut Simulation| sim.connect("reader").version(ProtocolVersion::V3_1_1).accepted();
        let reader = connect(sim);
        sim.subscribe(reader, "t/#", 1);
        sim.disconnect(reader, ReasonCode::Success);
        sim.advance(hours(24 * 400));
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t/x", "1").qos(1));
        let reader = connect(sim);
        assert!(sim.connack(reader).session_present);
        assert_eq!(sim.texts(reader), ["1"]);
    });
}

#[test]
fn v3_1_1_mqtt_3_1_2_6_clean_session_1_lasts_as_long_as_its_connection() {
    story(|sim| {
        let first = sim.connect("reader").version(ProtocolVersion::V3_1_1).clean_start(true).accepted();
        sim.subscribe(first, "t/#", 1);
        sim.cut(first);
        let second = sim.connect("reader").version(ProtocolVersion::V3_1_1).started_anew();
        sim.publish(second, &message("t/x", "1").qos(1));
        assert_eq!(sim.received(second), []);
    });
}

#[test]
fn a_client_without_an_identifier_is_given_one() {
    story(|sim| {
        let links: Vec<_> = (0..5).map(|_| sim.connect("").clean_start(true).accepted()).collect();
        let mut ids: Vec<_> =
            links.iter().map(|link| sim.connack(*link).assigned_client_id.clone().expect("[MQTT-3.2.2-16]")).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
        assert!(links.iter().all(|link| sim.is_usable(*link)));
    });
}

#[test]
fn a_session_may_change_its_version() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
        sim.subscribe(reader, "t/#", 1);
        sim.cut(reader);
        let writer = sim.connect("writer").accepted();
        let with_properties = message("t/x", "1").qos(1).properties(|it| it.user_property("a", "b"));
        sim.publish(writer, &with_properties);
        let reader = sim.connect("reader").version(ProtocolVersion::V3_1_1).resumed();
        assert_eq!(sim.texts(reader), ["1"]);
    });
}
