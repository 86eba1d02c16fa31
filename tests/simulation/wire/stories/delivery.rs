//! QoS flows, order, flow control, and the limits of a delivery.

use crate::wire::client::Inbound;
use crate::wire::message::{hours, message, millis, secs};
use crate::wire::story::{LEVELS, options, story, story_with};
use willowmq::codec::{ProtocolVersion, QoS, ReasonCode, SubscriptionOptions};
use willowmq::config::Config;
use willowmq::shard::Closed;

#[test]
fn mqtt_3_8_4_8_the_delivery_has_the_lower_of_both_qos() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        for granted in 0..3 {
            let reader = sim.connect(&format!("reader-{granted}")).accepted();
            sim.subscribe(reader, "t", granted);
            for (level, published) in (0..).zip(LEVELS) {
                sim.publish(writer, &message("t", "x").qos(level));
                let newest = sim.received(reader).pop().unwrap();
                assert_eq!(newest.qos.as_u8(), granted.min(published.as_u8()));
            }
        }
    });
}

#[test]
fn mqtt_4_4_0_1_what_was_not_acknowledged_is_sent_again_with_dup_in_its_order() {
    for level in [1, 2] {
        story(|sim| {
            let reader = sim.connect("reader").session_expiry(hours(1)).withholding_acknowledgements().accepted();
            sim.subscribe(reader, "t/+", level);
            let writer = sim.connect("writer").accepted();
            for n in 0..10 {
                sim.publish(writer, &message("t/x", &n.to_string()).qos(level));
            }
            let expected: Vec<_> = (0..10).map(|n| n.to_string()).collect();
            assert_eq!(sim.texts(reader), expected);
            assert!(sim.received(reader).iter().all(|received| !received.dup));
            let ids: Vec<_> = sim.received(reader).iter().map(|received| received.packet_id).collect();
            sim.reset(reader);
            let reader = sim.connect("reader").session_expiry(hours(1)).resumed();
            assert_eq!(sim.texts(reader), expected); // [MQTT-4.6.0-1]
            assert!(sim.received(reader).iter().all(|received| received.dup)); // [MQTT-3.3.1-1]
            let again: Vec<_> = sim.received(reader).iter().map(|received| received.packet_id).collect();
            assert_eq!(again, ids);
        });
    }
}

#[test]
fn mqtt_4_3_3_6_after_pubrec_only_pubrel_is_sent_again() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
        sim.subscribe(reader, "t", 2);
        let writer = sim.connect("writer").accepted();
        sim.post_publish(writer, &message("t", "x").qos(2));
        // Cut as soon as the message is there: PUBREC has been written, PUBREL may be under way or not.
        sim.step_until(|sim| !sim.received(reader).is_empty());
        sim.cut(reader);
        let again = sim.connect("reader").session_expiry(hours(1)).resumed();
        assert_eq!(sim.received(again), []);
        let releases = sim.client(again).inbox.iter().filter(|seen| matches!(seen, Inbound::Pubrel(_))).count();
        assert_eq!(releases, 1);
        sim.publish(writer, &message("t", "y").qos(2));
        assert_eq!(sim.used_texts(again), ["y"]);
    });
}

#[test]
fn mqtt_4_3_3_a_qos_2_message_is_used_once_wherever_the_connection_breaks() {
    for steps in 0..40 {
        story(|sim| {
            let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
            sim.subscribe(reader, "t", 2);
            let writer = sim.connect("writer").session_expiry(hours(1)).accepted();
            sim.post_publish(writer, &message("t", "x").qos(2));
            for _ in 0..steps {
                sim.step();
            }
            sim.end_link(reader, Closed::Reset);
            sim.end_link(writer, Closed::Reset);
            let writer = sim.connect("writer").session_expiry(hours(1)).resumed();
            let again = sim.connect("reader").session_expiry(hours(1)).resumed();
            sim.settle();
            let used = [sim.used_texts(reader), sim.used_texts(again)].concat();
            assert_eq!(used, ["x"]);
            assert!(sim.client(writer).memory.unacknowledged.is_empty());
        });
    }
}

#[test]
fn mqtt_4_3_2_a_qos_1_message_arrives_at_least_once_wherever_the_connection_breaks() {
    for steps in 0..30 {
        story(|sim| {
            let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
            sim.subscribe(reader, "t", 1);
            let writer = sim.connect("writer").session_expiry(hours(1)).accepted();
            sim.post_publish(writer, &message("t", "x").qos(1));
            for _ in 0..steps {
                sim.step();
            }
            sim.end_link(writer, Closed::Reset);
            sim.end_link(reader, Closed::Fin);
            sim.connect("writer").session_expiry(hours(1)).resumed();
            let again = sim.connect("reader").session_expiry(hours(1)).resumed();
            let texts = [sim.texts(reader), sim.texts(again)].concat();
            assert!(!texts.is_empty() && texts.iter().all(|text| text == "x"), "{texts:?}");
        });
    }
}

#[test]
fn mqtt_4_6_0_6_messages_of_one_publisher_and_topic_stay_in_order_across_shards() {
    for level in [0, 1, 2] {
        story(|sim| {
            let readers: Vec<_> = (0..6)
                .map(|n| {
                    let reader = sim.connect(&format!("reader-{n}")).receive_maximum(3).accepted();
                    sim.subscribe(reader, "t/+", level);
                    reader
                })
                .collect();
            let writers: Vec<_> = (0..3).map(|n| sim.connect(&format!("writer-{n}")).accepted()).collect();
            for n in 0..30 {
                for (writer, link) in writers.iter().enumerate() {
                    sim.post_publish(*link, &message(&format!("t/{writer}"), &n.to_string()).qos(level));
                }
                sim.step();
            }
            sim.settle();
            let expected: Vec<_> = (0..30).map(|n| n.to_string()).collect();
            for reader in readers {
                for writer in 0..3 {
                    let topic = format!("t/{writer}");
                    let received = sim.received(reader).into_iter().filter(|received| received.topic == topic);
                    assert_eq!(received.map(|received| received.text()).collect::<Vec<_>>(), expected);
                }
            }
        });
    }
}

#[test]
fn mqtt_3_3_4_9_receive_maximum_bounds_what_is_in_flight() {
    for level in [1, 2] {
        story(|sim| {
            let reader = sim.connect("reader").receive_maximum(2).withholding_acknowledgements().accepted();
            sim.subscribe(reader, "t", level);
            let writer = sim.connect("writer").accepted();
            for n in 0..10 {
                sim.publish(writer, &message("t", &n.to_string()).qos(level));
            }
            assert_eq!(sim.texts(reader), ["0", "1"]);
            sim.publish(writer, &message("t", "qos 0 passes"));
            assert_eq!(sim.texts(reader).last().unwrap(), "qos 0 passes"); // [MQTT-3.3.4-10]
            sim.acknowledge_all(reader); // The client itself watches that there are never more than two.
            assert_eq!(sim.received(reader).len(), 11);
        });
    }
}

#[test]
fn mqtt_3_1_2_24_a_packet_larger_than_the_client_takes_is_dropped_as_if_sent() {
    story(|sim| {
        let small = sim.connect("small").maximum_packet_size(64).session_expiry(hours(1)).accepted();
        sim.subscribe(small, "t", 1);
        let other = sim.subscriber("other", "t");
        let writer = sim.connect("writer").accepted();
        let long = "x".repeat(100);
        for level in [0, 1] {
            sim.publish(writer, &message("t", &long).qos(level));
        }
        sim.publish(writer, &message("t", "short").qos(1));
        assert_eq!(sim.texts(small), ["short"]);
        assert_eq!(sim.received(other).len(), 3);
        sim.cut(small);
        sim.publish(writer, &message("t", &long).qos(1));
        let small = sim.connect("small").maximum_packet_size(64).resumed();
        assert_eq!(sim.received(small), []);
    });
}

#[test]
fn mqtt_3_3_2_5_and_6_expiry_counts_down_in_the_queue_and_drops() {
    story(|sim| {
        let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
        sim.subscribe(reader, "t", 1);
        sim.cut(reader);
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "short").qos(1).expires_in(secs(5)));
        sim.publish(writer, &message("t", "long").qos(1).expires_in(secs(60)));
        sim.publish(writer, &message("t", "for ever").qos(1));
        sim.advance(secs(20));
        let reader = sim.connect("reader").session_expiry(hours(1)).resumed();
        assert_eq!(sim.texts(reader), ["long", "for ever"]);
        let expiry: Vec<_> = sim.received(reader).iter().map(|received| received.expiry).collect();
        assert_eq!(expiry, [Some(40), None]);
    });
}

#[test]
fn a_message_in_flight_may_be_sent_again_after_its_expiry_but_one_in_the_queue_is_not_sent() {
    story(|sim| {
        let reader =
            sim.connect("reader").receive_maximum(1).session_expiry(hours(1)).withholding_acknowledgements().accepted();
        sim.subscribe(reader, "t", 1);
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "first").qos(1).expires_in(secs(5)));
        sim.publish(writer, &message("t", "second").qos(1).expires_in(secs(5)));
        sim.advance(secs(5));
        sim.acknowledge_all(reader);
        assert_eq!(sim.texts(reader), ["first"]);
    });
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_give_the_highest_qos_and_all_identifiers() {
    story(|sim| {
        let reader = sim.connect("reader").accepted();
        for (filter, level, id) in [("t/+", 0, 7), ("t/#", 2, 9), ("#", 1, 8)] {
            sim.post_subscribe_as(reader, filter, options(level), Some(id));
        }
        sim.settle();
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t/x", "x").qos(2));
        let mut received = sim.only_received(reader);
        received.subscription_ids.sort();
        assert_eq!((received.qos, received.subscription_ids), (QoS::ExactlyOnce, vec![7, 8, 9]));
    });
}

#[test]
fn mqtt_3_8_3_3_no_local_holds_on_the_publishers_own_connection() {
    story(|sim| {
        let both = sim.connect("both").accepted();
        sim.subscribe_with(both, "t", SubscriptionOptions { no_local: true, ..options(1) });
        let other = sim.subscriber("other", "t");
        sim.publish(both, &message("t", "x").qos(1));
        assert_eq!(sim.received(both), []);
        sim.publish(other, &message("t", "y").qos(1));
        assert_eq!(sim.texts(both), ["y"]);
        assert_eq!(sim.texts(other), ["x", "y"]);
    });
}

/// A publish that begins after SUBACK is never missed, whichever shards they are on.
#[test]
fn no_publish_that_starts_after_suback_is_missed() {
    story(|sim| {
        let writers: Vec<_> = (0..5).map(|n| sim.connect(&format!("writer-{n}")).accepted()).collect();
        for round in 0..10 {
            let reader = sim.connect(&format!("reader-{round}")).accepted();
            let known = sim.client(reader).inbox.len();
            sim.post_subscribe(reader, &format!("t/{round}"), options(1));
            sim.step_until(|sim| sim.client(reader).inbox.len() > known);
            for writer in &writers {
                sim.post_publish(*writer, &message(&format!("t/{round}"), "x").qos(0));
            }
            sim.settle();
            assert_eq!(sim.received(reader).len(), 5);
        }
    });
}

#[test]
fn the_last_unsubscribe_and_a_new_subscribe_of_one_filter_race_and_the_subscriber_hears_all() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        let first = sim.subscriber("first", "t");
        let second = sim.connect("second").accepted();
        for n in 0..10 {
            let (leaving, coming) = if n % 2 == 0 { (first, second) } else { (second, first) };
            sim.post_unsubscribe(leaving, "t");
            sim.post_subscribe(coming, "t", options(1));
            sim.settle();
            let known = sim.received(coming).len();
            assert_eq!(sim.publish(writer, &message("t", "x").qos(1)), Some(ReasonCode::Success));
            assert_eq!(sim.received(coming).len(), known + 1);
        }
    });
}

#[test]
fn mqtt_3_10_4_2_nothing_new_is_delivered_after_unsuback() {
    story(|sim| {
        let reader = sim.subscriber("reader", "t/#");
        let writer = sim.connect("writer").accepted();
        sim.unsubscribe(reader, "t/#");
        assert_eq!(sim.suback(reader), ReasonCode::Success);
        assert_eq!(sim.publish(writer, &message("t/x", "x").qos(1)), Some(ReasonCode::NoMatchingSubscribers));
        assert_eq!(sim.received(reader), []);
        sim.unsubscribe(reader, "t/#");
        assert_eq!(sim.suback(reader), ReasonCode::NoSubscriptionExisted);
    });
}

#[test]
fn a_client_that_does_not_read_slows_nobody_and_loses_no_qos_1_message() {
    let mut config = Config::default();
    config.limits.output_bytes_max = 4096;
    story_with(&config, |sim| {
        let slow = sim.connect("slow").receive_maximum(5).accepted();
        sim.subscribe(slow, "t", 1);
        let quick = sim.subscriber("quick", "t");
        sim.stop_reading(slow);
        let writer = sim.connect("writer").accepted();
        let long = "x".repeat(200);
        for n in 0..100 {
            sim.publish(writer, &message("t", &format!("{n}{long}")).qos(u8::from(n % 2 == 0)));
        }
        assert_eq!(sim.received(quick).len(), 100);
        assert!(sim.received(slow).len() < 10);
        sim.read_again(slow);
        let of_qos_1 = sim.received(slow).into_iter().filter(|received| received.qos == QoS::AtLeastOnce).count();
        assert_eq!(of_qos_1, 50);
    });
}

#[test]
fn topic_aliases_towards_the_client_stay_below_its_maximum() {
    story(|sim| {
        let reader = sim.connect("reader").topic_alias_maximum(3).accepted();
        sim.subscribe(reader, "t/+", 1);
        let writer = sim.connect("writer").accepted();
        for n in 0..30 {
            sim.publish(writer, &message(&format!("t/{}", n % 6), &n.to_string()).qos(n % 2));
        }
        let topics: Vec<_> = sim.received(reader).into_iter().map(|received| received.topic).collect();
        assert_eq!(topics, (0..30).map(|n| format!("t/{}", n % 6)).collect::<Vec<_>>());
    });
}

#[test]
fn topic_aliases_do_not_outlive_a_connection_but_queued_messages_do() {
    story(|sim| {
        let connect = |sim: &mut crate::wire::network::Simulation| {
            sim.connect("reader").topic_alias_maximum(3).session_expiry(hours(1)).accepted()
        };
        let reader = connect(sim);
        sim.subscribe(reader, "t", 1);
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "1").qos(1));
        sim.cut(reader);
        sim.publish(writer, &message("t", "2").qos(1));
        let reader = connect(sim); // It would fail on an alias that this connection never defined.
        assert_eq!(sim.texts(reader), ["2"]);
    });
}

#[test]
fn a_peer_that_is_far_behind_pauses_the_publisher_and_nothing_is_lost() {
    let mut config = Config::default();
    config.limits.mesh_messages_max = 64;
    story_with(&config, |sim| {
        let reader = sim.connect("reader").accepted();
        sim.subscribe(reader, "t", 1);
        let writers: Vec<_> = (0..5).map(|n| sim.connect(&format!("writer-{n}")).accepted()).collect();
        for n in 0..100 {
            for writer in &writers {
                sim.post_publish(*writer, &message("t", &n.to_string()).qos(1));
            }
        }
        sim.settle();
        assert_eq!(sim.received(reader).len(), 500);
        sim.advance(millis(10));
        assert!(writers.iter().all(|writer| sim.client(*writer).memory.unacknowledged.is_empty()));
    });
}

#[test]
fn versions_speak_to_each_other() {
    let versions = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];
    story(|sim| {
        let name = |version: ProtocolVersion| format!("{}-{}", version.protocol_name(), version.level());
        let links: Vec<_> = versions
            .iter()
            .map(|version| {
                let link = sim.connect(&name(*version)).version(*version).clean_start(true).accepted();
                sim.subscribe(link, "t", 2);
                link
            })
            .collect();
        for link in &links {
            for level in 0..3 {
                sim.publish(*link, &message("t", "x").qos(level));
            }
        }
        for link in links {
            assert_eq!(sim.received(link).len(), 9);
        }
    });
}
