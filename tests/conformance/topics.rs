//! Topic Names and Topic Filters (§4.7).

use crate::harness::parse::SUBACK;
use crate::harness::{Broker, Client, Publish, unique, wire};

/// Which of `suffixes`, published under a fresh root, a subscription to `filter` under it receives.
fn matches(filter: &str, suffixes: &[&str]) -> Vec<String> {
    let broker = Broker::shared();
    let root = unique("match");
    let mut client = broker.client(5);
    client.subscribe(&format!("{root}{filter}"), 0);
    let mut publisher = broker.client(5);
    for suffix in suffixes.iter() {
        publisher.publish(Publish::new(&format!("{root}{suffix}"), "x"));
    }
    let messages = client.until_marker_of(&mut publisher);
    messages.iter().map(|message| message.topic[root.len()..].to_owned()).collect()
}

/// A Topic Filter that breaks the rules is not granted: by a Reason Code, or by the end of the connection.
fn expect_no_subscription(mut client: Client, version: u8, filter: &str) {
    client.send(&wire::subscribe(version, 1, &[(filter, 0)], &[]));
    let packets = client.until_closed_or(SUBACK);
    for packet in packets {
        assert!(packet.reason >= 0x80 || packet.reasons.iter().all(|reason| *reason >= 0x80), "{filter:?}: {packet:?}");
    }
}

#[test]
fn mqtt_4_7_1_1_number_sign_matches_the_parent_and_all_levels_below() {
    assert_eq!(matches("/#", &["", "/a", "/a/b/c", "x"]), ["", "/a", "/a/b/c"]);
}

#[test]
fn v311_mqtt_4_7_1_2_number_sign_matches_the_parent_and_all_levels_below() {
    assert_eq!(matches("/a/#", &["/a", "/a/", "/a/b", "/b/a"]), ["/a", "/a/", "/a/b"]);
}

#[test]
fn mqtt_4_7_1_1_number_sign_must_be_last_and_alone_in_its_level() {
    for filter in ["a/#/b", "a#", "#a", "a/b#", "##"] {
        expect_no_subscription(Broker::shared().client(5), 5, filter);
    }
}

#[test]
fn v311_mqtt_4_7_1_2_number_sign_must_be_last_and_alone_in_its_level() {
    for filter in ["a/#/b", "a#"] {
        expect_no_subscription(Broker::shared().client(4), 4, filter);
    }
}

#[test]
fn mqtt_4_7_1_2_plus_must_be_alone_in_its_level() {
    for filter in ["a+", "+a", "a/b+/c", "++"] {
        expect_no_subscription(Broker::shared().client(5), 5, filter);
    }
}

#[test]
fn v311_mqtt_4_7_1_3_plus_must_be_alone_in_its_level() {
    for filter in ["a+", "a/+b"] {
        expect_no_subscription(Broker::shared().client(4), 4, filter);
    }
}

#[test]
fn mqtt_4_7_1_2_plus_matches_exactly_one_level() {
    assert_eq!(matches("/+", &["", "/", "/a", "/a/b"]), ["/", "/a"]);
}

#[test]
fn mqtt_4_7_1_2_plus_stands_at_any_level() {
    assert_eq!(matches("/+/b/+", &["/a/b/c", "/x/b/", "//b/c", "/a/c/b", "/a/b"]), ["/a/b/c", "/x/b/", "//b/c"]);
}

#[test]
fn mqtt_4_7_1_plus_and_number_sign_go_together() {
    assert_eq!(matches("/+/#", &["", "/a", "/a/b/c"]), ["/a", "/a/b/c"]);
}

#[test]
fn mqtt_4_7_2_1_leading_wildcards_do_not_match_dollar_topics() {
    let broker = Broker::shared();
    let topic = format!("${}", unique("dollar"));
    let mut client = broker.client(5);
    client.subscribe_with(&[("#", 0), ("+/x", 0), ("+", 0)], &[]);
    let mut publisher = broker.client(5);
    let marker = unique("marker");
    publisher.publish(Publish::new(&topic, "x"));
    publisher.publish(Publish::new(&format!("{topic}/x"), "x"));
    publisher.publish(Publish::new(&marker, "x"));
    loop {
        let message = client.message(); // Messages of other tests come too.
        assert!(!message.topic.starts_with('$'), "{message:?}");
        if message.topic == marker {
            break;
        }
    }
}

#[test]
fn v311_mqtt_4_7_2_1_retained_dollar_topics_are_not_matched_by_leading_wildcards() {
    let broker = Broker::start("");
    let mut publisher = broker.client(4);
    publisher.publish(Publish::new("$internal/x", "hidden").qos(1).retain());
    let mut client = broker.client(4);
    client.subscribe_with(&[("#", 0), ("+/x", 0)], &[]);
    assert!(client.until_own_marker().iter().all(|message| !message.topic.starts_with('$')));
}

#[test]
fn mqtt_4_7_3_1_empty_topic_filter_is_invalid() {
    expect_no_subscription(Broker::shared().client(5), 5, "");
}

#[test]
fn mqtt_4_7_3_1_empty_topic_name_without_alias_is_a_protocol_error() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("", "x"));
    client.expect_disconnect(&[0x82, 0x90, 0x81]);
}

#[test]
fn v311_mqtt_4_7_3_1_empty_topic_name_ends_the_connection() {
    let mut client = Broker::shared().client(4);
    client.publish_only(&Publish::new("", "x"));
    client.expect_closed();
}

#[test]
fn mqtt_4_7_3_2_topic_name_must_not_hold_the_null_character() {
    let mut client = Broker::shared().client(5);
    client.publish_only(&Publish::new("a\0b", "x"));
    client.expect_disconnect(&[0x81, 0x90]);
}

#[test]
fn v311_mqtt_4_7_3_2_topic_filter_must_not_hold_the_null_character() {
    expect_no_subscription(Broker::shared().client(4), 4, "a\0b");
}

#[test]
fn mqtt_4_7_3_3_topic_of_65535_bytes_is_allowed() {
    let broker = Broker::shared();
    let root = unique("long");
    let topic = format!("{root}{}", "x".repeat(65_535 - root.len()));
    let mut client = broker.client(5);
    assert_eq!(client.subscribe(&topic, 0), 0);
    client.publish(Publish::new(&topic, "long"));
    assert_eq!(client.message().topic, topic);
}

#[test]
fn mqtt_4_7_3_4_topics_are_compared_byte_by_byte_without_normalisation() {
    // Upper case, a trailing slash, a space, and é as one code point or as two.
    assert_eq!(
        matches("/caf\u{e9}", &["/caf\u{e9}", "/cafe\u{301}", "/CAF\u{c9}", "/caf\u{e9}/", "/caf\u{e9} "]),
        ["/caf\u{e9}"]
    );
}

#[test]
fn v311_mqtt_4_7_3_4_topics_are_case_sensitive_and_leading_slashes_count() {
    let broker = Broker::shared();
    let topic = unique("case");
    let mut client = broker.client(4);
    client.subscribe(&topic, 0);
    client.publish(Publish::new(&topic.to_uppercase(), "x"));
    client.publish(Publish::new(&format!("/{topic}"), "x"));
    assert!(client.until_own_marker().is_empty());
}

#[test]
fn mqtt_1_5_4_3_byte_order_mark_is_kept() {
    assert_eq!(matches("/\u{feff}bom", &["/bom", "/\u{feff}bom"]), ["/\u{feff}bom"]);
}

#[test]
fn v311_mqtt_1_5_3_3_byte_order_mark_is_kept() {
    let broker = Broker::shared();
    let topic = format!("\u{feff}{}", unique("bom"));
    let mut client = broker.client(4);
    client.subscribe(&topic, 0);
    client.publish(Publish::new(&topic, "x"));
    assert_eq!(client.message().topic, topic);
}

#[test]
fn mqtt_4_7_empty_levels_are_levels() {
    assert_eq!(matches("//+/", &["///", "//a/", "//a", "/a/"]), ["///", "//a/"]);
}

#[test]
fn mqtt_4_7_topic_with_too_many_levels_is_refused() {
    let broker = Broker::start("[limits]\ntopic_levels_max = 4\n");
    let mut client = broker.client(5);
    client.publish(Publish::new("a/b/c/d", "x").qos(1));
    client.publish_only(&Publish::new("a/b/c/d/e", "x").qos(1).id(100));
    let answer = client.receive();
    assert_eq!(answer.reason, 0x90, "{answer:?}");
}

#[test]
fn mqtt_4_7_every_unicode_character_the_standard_allows_is_allowed() {
    let suffix = "/\u{fffd}\u{10000}\u{1f33f}€";
    assert_eq!(matches(suffix, &[suffix]), [suffix]);
}
