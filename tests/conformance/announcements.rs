//! What the broker publishes itself: its figures below `$SYS`, and who is there.

use crate::harness::broker::folder;
use crate::harness::passwords::{self, PASSWORD};
use crate::harness::{Broker, Client, Connect, Publish, Will, property, unique};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const NOT_AUTHORIZED: u8 = 0x87;

/// Figures that are told all the time, so that tests need not wait for them.
const SYS: &str = "[sys]\ninterval = \"20ms\"\n";
const NO_SYS: &str = "[sys]\ninterval = \"0s\"\n";
const PRESENCE: &str = "[sys]\ninterval = \"0s\"\n[presence]\nenabled = true\n";

/// Reads figures until `is_there` is content with all that was told; the newest values by topic.
fn await_figures(
    client: &mut Client,
    is_there: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    while !is_there(&told) {
        let message = client.message();
        assert_eq!(message.qos(), 0);
        told.insert(message.topic.strip_prefix("$SYS/broker/").expect("nothing else").to_owned(), message.text());
    }
    told
}

fn is(told: &BTreeMap<String, String>, topic: &str, value: &str) -> bool {
    told.get(topic).is_some_and(|told| told == value)
}

#[test]
fn the_brokers_figures_are_there_under_the_names_that_mosquitto_has() {
    let broker = Broker::start(SYS);
    let mut watcher = broker.client(5);
    watcher.subscribe("$SYS/#", 0);
    let mut publisher = broker.connect(Connect::v5("p").will(Will::new("status", "off")));
    publisher.subscribe("$share/group/a", 0);
    publisher.publish(Publish::new("kept", "12345").qos(1).retain());
    let told = await_figures(&mut watcher, |told| {
        is(told, "clients/connected", "2")
            && is(told, "publish/messages/received", "1")
            && is(told, "publish/bytes/received", "5")
            && is(told, "subscriptions/count", "1")
            && is(told, "shared_subscriptions/count", "1")
            && is(told, "wills/armed", "1")
            && told.contains_key("uptime")
            && told.contains_key("version")
            && told.contains_key("load/connections/15min")
            && told.get("load/messages/received/1min").is_some_and(|load| load != "0.00")
    });
    assert!(told["version"].starts_with("WillowMQ version "), "{}", told["version"]);
    assert!(told["uptime"].ends_with(" seconds"), "{}", told["uptime"]);
    assert!(told["bytes/received"].parse::<u64>().unwrap() > 0);
    assert!(told["heap/current"].parse::<u64>().unwrap() > 1_000_000);
    // Who subscribes later finds all of them retained.
    let mut late = broker.client(4);
    late.subscribe("$SYS/broker/version", 1);
    let version = late.message();
    assert!(version.retain());
    assert_eq!(version.text(), told["version"]);
    publisher.cut();
    await_figures(&mut watcher, |told| is(told, "wills/published", "1") && is(told, "wills/armed", "0"));
}

#[test]
fn mqtt_4_7_2_1_wildcards_do_not_match_the_brokers_figures() {
    let broker = Broker::start(SYS);
    let mut client = broker.client(5);
    client.subscribe("$SYS/broker/version", 0);
    client.message();
    client.subscribe("#", 0);
    client.subscribe("+/broker/#", 0);
    client.unsubscribe(&["$SYS/broker/version"]);
    assert!(client.until_own_marker().iter().all(|message| !message.topic.starts_with('$')));
}

#[test]
fn no_client_publishes_where_the_broker_does() {
    let broker = Broker::start(NO_SYS);
    let mut watcher = broker.client(5);
    watcher.subscribe("$SYS/#", 0);
    let mut liar = broker.client(5);
    for qos in [1, 2] {
        assert_eq!(liar.publish(Publish::new("$SYS/broker/uptime", "1 seconds").qos(qos).retain()), NOT_AUTHORIZED);
    }
    let mut older = broker.client(4);
    older.publish(Publish::new("$SYS/broker/uptime", "1 seconds").qos(1).retain());
    assert!(watcher.until_marker_of(&mut older).is_empty());
}

#[test]
fn an_interval_of_zero_switches_the_figures_off() {
    let broker = Broker::start(NO_SYS);
    let mut watcher = broker.client(5);
    watcher.subscribe("$SYS/#", 0);
    assert!(watcher.until_own_marker().is_empty());
}

/// The next message about who is there.
fn told(watcher: &mut Client) -> (String, Value) {
    let message = watcher.message();
    (message.topic.clone(), serde_json::from_str(&message.text()).expect("it is JSON"))
}

fn summary(told: &Value) -> (&str, Option<&str>) {
    (told["status"].as_str().unwrap(), told["cause"].as_str())
}

#[test]
fn a_client_that_comes_and_goes_is_told_of() {
    let broker = Broker::start(PRESENCE);
    let mut watcher = broker.connect(Connect::v5("watcher"));
    watcher.subscribe("$SYS/broker/presence/lamp", 1);
    let connect = || Connect::v5("lamp").keep_alive(60).will(Will::new("status", "off").delay(30)).expiry(60);
    let lamp = broker.connect(connect());
    let (topic, connected) = told(&mut watcher);
    assert_eq!((&*topic, summary(&connected)), ("$SYS/broker/presence/lamp", ("connected", None)));
    assert!(connected["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{connected}");
    assert_eq!((&connected["transport"], &connected["will"]), (&"tcp".into(), &"armed".into()));
    assert_eq!((&connected["keep_alive_seconds"], &connected["session_expiry_seconds"]), (&60.into(), &60.into()));
    // A takeover is no absence.
    let taker = broker.connect(connect().resume());
    assert_eq!(summary(&told(&mut watcher).1), ("connected", None));
    drop(lamp);
    taker.reset();
    let (_, gone) = told(&mut watcher);
    assert_eq!((summary(&gone), &gone["will"]), (("disconnected", Some("transport-error")), &"pending".into()));
    assert!(gone["at"].as_str() > connected["at"].as_str());
    broker.connect(connect().resume()).disconnect();
    assert_eq!(summary(&told(&mut watcher).1), ("connected", None));
    let (_, left) = told(&mut watcher);
    assert_eq!((summary(&left), &left["reason_code"]), (("disconnected", Some("disconnect")), &0.into()));
    assert_eq!(left["will"], "discarded");
    // Its Session is still there, and so is what is known of it.
    let mut late = broker.client(5);
    late.subscribe("$SYS/broker/presence/lamp", 1);
    let found = late.message();
    assert!(found.retain());
    assert_eq!(serde_json::from_str::<Value>(&found.text()).unwrap(), left);
    // With the Session it goes.
    broker.connect(Connect::v5("lamp")).disconnect();
    let mut later = broker.client(5);
    assert_eq!(summary(&told(&mut watcher).1).0, "connected");
    assert_eq!(summary(&told(&mut watcher).1).0, "disconnected");
    later.subscribe("$SYS/broker/presence/lamp", 1);
    assert!(later.until_own_marker().is_empty());
}

/// All bytes of the journals below a folder.
fn journals(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            bytes.append(&mut journals(&entry.path()));
        } else {
            bytes.append(&mut fs::read(entry.path()).unwrap());
        }
    }
    bytes
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_journal_knows_nothing_of_it_and_a_restart_begins_anew() {
    // Small segments: all of them are looked through.
    let settings = "[sys]\ninterval = \"20ms\"\n[presence]\nenabled = true\n[journal]\nsegment_bytes = \"1MiB\"\n";
    let mut broker = Broker::start(settings);
    let mut lamp = broker.connect(Connect::v5("lamp").expiry(600));
    lamp.subscribe("$SYS/broker/version", 0);
    lamp.message();
    let mut watcher = broker.client(5);
    watcher.subscribe("$SYS/broker/presence/lamp", 1);
    assert_eq!(summary(&told(&mut watcher).1).0, "connected", "it is stored by now");
    lamp.publish(Publish::new("of/a/client", "x").qos(1).retain());
    lamp.unsubscribe(&["$SYS/broker/version"]);
    let folder = broker.kill();
    let bytes = journals(&folder.join(crate::harness::broker::DATA));
    assert!(has(&bytes, "of/a/client") && !has(&bytes, "$SYS/broker/presence") && !has(&bytes, "$SYS/broker/uptime"));
    let broker = Broker::start_in(folder, 3, "[sys]\ninterval = \"0s\"\n[presence]\nenabled = true\n");
    let mut watcher = broker.connect(Connect::v5("watcher"));
    watcher.subscribe("$SYS/#", 0);
    watcher.subscribe("of/#", 0);
    let mut found = [watcher.message().topic, watcher.message().topic];
    found.sort();
    assert_eq!(found, ["$SYS/broker/presence/watcher", "of/a/client"], "whoever has not come back is not there");
    let lamp = broker.connect(Connect::v5("lamp").expiry(600).resume());
    assert!(lamp.session_present());
    assert_eq!(told(&mut watcher).1["client_id"], "lamp");
}

#[test]
fn it_is_for_those_who_may_read_it() {
    let folder = folder();
    let rights = folder.join("rights.toml");
    fs::write(
        &rights,
        "[[rules]]\neffect = \"allow\"\nusers = [\"alice\"]\nactions = [\"read\"]\ntopics = [\"$SYS/#\"]\n\
         [[rules]]\neffect = \"allow\"\nactions = [\"all\"]\ntopics = [\"#\"]\n",
    )
    .unwrap();
    let authenticator = passwords::authenticator(&folder, &["alice", "bob"]);
    let settings = format!("[security]\nrights_file = {rights:?}\n{PRESENCE}{authenticator}");
    let broker = Broker::start_in(folder, 2, &settings);
    let mut alice = broker.connect(passwords::connect_as(5, "alice", PASSWORD));
    let mut bob = broker.connect(passwords::connect_as(5, "bob", PASSWORD));
    assert_eq!(bob.subscribe("$SYS/broker/presence/#", 1), NOT_AUTHORIZED);
    assert_eq!(bob.subscribe("#", 1), 1);
    assert_eq!(alice.subscribe("$SYS/broker/presence/#", 1), 1);
    let mut users = [told(&mut alice).1, told(&mut alice).1].map(|told| told["username"].as_str().unwrap().to_owned());
    users.sort();
    assert_eq!(users, ["alice", "bob"]);
    for mut client in [alice, bob] {
        assert_eq!(client.publish(Publish::new("$SYS/broker/presence/x", "{}").qos(1)), NOT_AUTHORIZED);
    }
}

#[test]
fn a_client_without_a_name_of_its_own_is_told_of_by_the_one_it_got() {
    let broker = Broker::start(PRESENCE);
    let mut watcher = broker.connect(Connect::v5(&unique("watcher")));
    watcher.subscribe("$SYS/broker/presence/+", 1);
    told(&mut watcher);
    let nameless = broker.connect(Connect::v5(""));
    let assigned = nameless.connack.string(property::ASSIGNED_CLIENT_IDENTIFIER).unwrap().to_owned();
    assert_eq!(told(&mut watcher).1["client_id"], *assigned);
}
