//! Retained messages: each topic lives on one shard, subscribers on any.

use crate::wire::message::{hours, message, millis, secs};
use crate::wire::story::{DO_NOT_SEND, SEND_IF_NEW, options, story, story_with};
use willowmq::codec::SubscriptionOptions;
use willowmq::config::Config;
use willowmq::timer::Tick;

fn pair(topic: &str, text: &str) -> (String, String) {
    (topic.to_owned(), text.to_owned())
}

#[test]
fn mqtt_3_3_1_5_the_last_message_of_each_topic_is_kept() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        let mut expected = Vec::new();
        for n in 0..20 {
            for text in ["old", "new"] {
                sim.post_publish(writer, &message(&format!("t/{n:02}"), text).qos(1).retain());
            }
            expected.push(pair(&format!("t/{n:02}"), "new"));
        }
        sim.settle();
        assert_eq!(sim.retained("t/+"), expected);
        assert_eq!(sim.retained("#"), expected);
        assert_eq!(sim.retained("t/07"), [pair("t/07", "new")]);
        assert_eq!(sim.retained("+"), []);
    });
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_removes_and_is_not_kept() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "x").retain());
        let reader = sim.connect("reader").accepted();
        sim.subscribe(reader, "t", 1);
        sim.publish(writer, &message("t", "").qos(1).retain());
        assert_eq!(sim.texts(reader), ["x", ""]);
        assert_eq!(sim.retained("t"), []);
    });
}

#[test]
fn mqtt_3_3_1_8_a_message_without_retain_leaves_the_retained_one() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "kept").qos(1).retain());
        sim.publish(writer, &message("t", "passing").qos(1));
        assert_eq!(sim.retained("t"), [pair("t", "kept")]);
    });
}

#[test]
fn mqtt_3_3_1_9_10_11_retain_handling() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "x").qos(1).retain());
        let reader = sim.connect("reader").accepted();
        sim.subscribe_with(reader, "t", SubscriptionOptions { retain_handling: DO_NOT_SEND, ..options(1) });
        assert_eq!(sim.received(reader).len(), 0);
        sim.subscribe_with(reader, "t", SubscriptionOptions { retain_handling: SEND_IF_NEW, ..options(1) });
        assert_eq!(sim.received(reader).len(), 0);
        sim.unsubscribe(reader, "t");
        sim.subscribe_with(reader, "t", SubscriptionOptions { retain_handling: SEND_IF_NEW, ..options(1) });
        assert_eq!(sim.received(reader).len(), 1);
        sim.subscribe(reader, "t", 1);
        assert_eq!(sim.received(reader).len(), 2);
    });
}

#[test]
fn a_retained_message_expires_and_says_what_remains() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "x").qos(1).retain().expires_in(secs(10)));
        sim.advance(secs(4));
        let reader = sim.subscriber("reader", "t");
        assert_eq!(sim.only_received(reader).expiry, Some(6));
        sim.advance(secs(6) - millis(1));
        assert_eq!(sim.retained("t").len(), 1);
        sim.advance(millis(1) + Tick::LENGTH);
        assert_eq!(sim.retained("t"), []);
    });
}

#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        sim.publish(writer, &message("t", "x").qos(1).retain());
        let reader = sim.subscriber("reader", "$share/g/t");
        assert_eq!(sim.received(reader), []); // §4.8.2
    });
}

/// Whatever the order of subscribe and publish: the subscriber ends with the newest value, and never sees an older one
/// after a newer one.
#[test]
fn subscribing_races_publishing_and_the_newest_value_comes_last() {
    for steps in [0, 1, 2, 4, 7, 11, 16, 25] {
        story(|sim| {
            let writer = sim.connect("writer").accepted();
            sim.publish(writer, &message("t/x", "0").qos(1).retain());
            let readers: Vec<_> = (0..4).map(|n| sim.connect(&format!("reader-{n}")).accepted()).collect();
            for (n, reader) in readers.iter().enumerate() {
                sim.post_subscribe(*reader, if n % 2 == 0 { "t/x" } else { "t/#" }, options(1));
            }
            for _ in 0..steps {
                sim.step();
            }
            for n in 1..6 {
                sim.post_publish(writer, &message("t/x", &n.to_string()).qos(1).retain());
                sim.step();
            }
            sim.settle();
            for reader in readers {
                let texts = sim.texts(reader);
                assert_eq!(texts.last().map(String::as_str), Some("5"));
                assert!(texts.is_sorted(), "{texts:?}");
                let mut once = texts.clone();
                once.dedup();
                assert_eq!(texts, once, "live and retained copies of one message");
            }
        });
    }
}

#[test]
fn a_removal_races_a_subscribe_and_the_removed_value_does_not_come_after_it() {
    for steps in [0, 1, 2, 4, 7, 11, 16, 25] {
        story(|sim| {
            let writer = sim.connect("writer").accepted();
            sim.publish(writer, &message("t", "x").qos(1).retain());
            let reader = sim.connect("reader").accepted();
            sim.post_subscribe(reader, "t", options(1));
            for _ in 0..steps {
                sim.step();
            }
            sim.post_publish(writer, &message("t", "").qos(1).retain());
            sim.settle();
            let texts = sim.texts(reader);
            assert!(
                [vec!["x", ""], vec![""], vec![]].contains(&texts.iter().map(String::as_str).collect()),
                "{texts:?}"
            );
        });
    }
}

#[test]
fn many_retained_messages_reach_a_slow_subscriber_completely() {
    let mut config = Config::default();
    config.limits.output_bytes_max = 4096;
    config.sessions.queue_messages_max = 20;
    for level in [0, 1] {
        story_with(&config, |sim| {
            let writer = sim.connect("writer").accepted();
            for n in 0..1000 {
                sim.post_publish(writer, &message(&format!("t/{n:04}"), "x").qos(level).retain());
            }
            sim.settle();
            let reader = sim.connect("reader").receive_maximum(3).accepted();
            sim.stop_reading(reader);
            sim.post_subscribe(reader, "t/#", options(1));
            sim.settle();
            sim.read_again(reader);
            let mut topics: Vec<_> = sim.received(reader).into_iter().map(|received| received.topic).collect();
            topics.sort();
            topics.dedup();
            assert_eq!(topics.len(), 1000);
        });
    }
}

#[test]
fn a_look_up_ends_with_its_session_and_goes_on_in_the_queue_of_one_that_stays() {
    story(|sim| {
        let writer = sim.connect("writer").accepted();
        for n in 0..50 {
            sim.post_publish(writer, &message(&format!("t/{n:02}"), "x").qos(1).retain());
        }
        sim.settle();
        let reader = sim.connect("reader").session_expiry(hours(1)).accepted();
        sim.post_subscribe(reader, "t/#", options(1));
        for _ in 0..5 {
            sim.step();
        }
        sim.reset(reader);
        let short = sim.connect("short").accepted();
        sim.post_subscribe(short, "t/#", options(1));
        for _ in 0..5 {
            sim.step();
        }
        sim.reset(short);
        let again = sim.connect("reader").session_expiry(hours(1)).resumed();
        let mut topics: Vec<_> =
            [sim.received(reader), sim.received(again)].concat().into_iter().map(|r| r.topic).collect();
        topics.sort();
        topics.dedup();
        assert!(topics.is_empty() || topics.len() == 50, "all or, where SUBSCRIBE was lost, none: {}", topics.len());
    });
}
