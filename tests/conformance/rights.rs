//! What clients may do, as they hear of it: who they are comes from a password file, and what they may from a rights file.

use crate::harness::broker::folder;
use crate::harness::passwords::{self, PASSWORD};
use crate::harness::{Broker, Client, Connect, Publish, Will};
use std::fs;

const NOT_AUTHORIZED: u8 = 0x87;
/// What a SUBACK and a CONNACK of MQTT 3.1.1 say instead.
const FAILURE_3X: u8 = 0x80;
const NOT_AUTHORIZED_3X: u8 = 5;

/// Everybody has a home, and may hear all there is but secrets.
const RIGHTS: &str = r##"
[[rules]]
effect = "allow"
actions = ["write"]
topics = ["home/%u/#"]

[[rules]]
effect = "allow"
actions = ["read"]
topics = ["home/#"]

[[rules]]
effect = "deny"
actions = ["receive"]
topics = ["home/+/secret/#"]
"##;

fn broker() -> Broker {
    let folder = folder();
    let rights = folder.join("rights.toml");
    fs::write(&rights, RIGHTS).unwrap();
    let authenticator = passwords::authenticator(&folder, &["alice", "bob"]);
    Broker::start_in(folder, 2, &format!("[security]\nrights_file = {rights:?}\n{authenticator}"))
}

fn of_user(version: u8, user: &str) -> Connect {
    passwords::connect_as(version, user, PASSWORD)
}

#[test]
fn a_client_publishes_where_it_may_and_is_told_where_it_may_not() {
    let mut broker = broker();
    let mut alice = broker.connect(of_user(5, "alice"));
    for qos in [1, 2] {
        assert!(alice.publish(Publish::new("home/alice/door", "open").qos(qos)) < 0x80);
        assert_eq!(alice.publish(Publish::new("home/bob/door", "open").qos(qos)), NOT_AUTHORIZED);
    }
    alice.publish(Publish::new("home/bob/door", "open"));
    alice.ping(); // It is still there.
    let mut older = broker.connect(of_user(4, "alice"));
    assert_eq!(older.publish(Publish::new("home/bob/door", "open").qos(1)), 0, "3.1.1 has no word for it");
    older.ping();
    assert_eq!(broker.total("publishes_denied"), 4);
}

#[test]
fn v311_mqtt_3_9_3_2_a_filter_beyond_what_a_client_may_read_is_refused() {
    let mut broker = broker();
    for (version, refused) in [(5, NOT_AUTHORIZED), (4, FAILURE_3X)] {
        let mut alice = broker.connect(of_user(version, "alice"));
        let suback = alice.subscribe_with(&[("home/#", 1), ("#", 1), ("$share/g/+/x", 1), ("home/bob/+", 0)], &[]);
        assert_eq!(suback.reasons, [1, refused, refused, 0]);
    }
    assert_eq!(broker.total("subscriptions_denied"), 4);
}

#[test]
fn a_subscription_that_matches_more_than_its_client_may_receive_delivers_what_it_may() {
    let mut broker = broker();
    let mut alice = broker.connect(of_user(5, "alice"));
    alice.publish(Publish::new("home/alice/secret/a", "retained secret").qos(1).retain());
    alice.publish(Publish::new("home/alice/door", "retained").qos(1).retain());
    let mut bob = broker.connect(of_user(5, "bob"));
    assert_eq!(bob.subscribe("home/alice/#", 1), 1);
    assert_eq!(bob.payloads(1), ["retained"]);
    alice.publish(Publish::new("home/alice/secret/b", "secret").qos(1));
    alice.publish(Publish::new("home/alice/door", "live").qos(1));
    assert_eq!(bob.payloads(1), ["live"]);
    assert_eq!(broker.total("deliveries_denied"), 2);
}

#[test]
fn will_topic_that_its_user_may_not_publish_to_is_refused_at_connect() {
    let mut broker = broker();
    let with_will = |version, topic| of_user(version, "alice").will(Will::new(topic, "gone"));
    for (version, reason) in [(5, NOT_AUTHORIZED), (4, NOT_AUTHORIZED_3X)] {
        let mut client = Client::open(broker.address, version);
        assert_eq!(client.try_connect(&with_will(version, "home/bob/state")), Some(reason));
        broker.connect(with_will(version, "home/alice/state"));
    }
    assert_eq!(broker.total("wills_refused"), 2);
}
