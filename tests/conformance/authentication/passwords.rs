//! Password files, and what happens between CONNECT and CONNACK while a password is checked.

use super::{guest, passwd, refusal, user, with_anna, with_anna_and, with_passwords};
use crate::harness::broker::folder;
use crate::harness::parse::{CONNACK, PINGRESP};
use crate::harness::{Broker, Connect, PATIENCE, Publish, Will, millis, unique, wire};
use std::fs;
use std::thread;
use std::time::Instant;

/// Written by `mosquitto_passwd -H sha512-pbkdf2` and `-H sha512`; the password is "correct horse".
const MOSQUITTO: &str = "roger:$7$101$iav8cs23DY7tg3jM$i381e9dHB/8iyT79dyH26YsLZBd+lK7nnjlrXrCb8vVnl12GJ0mk7cd+sfgBINb8jfP3HNmgU281mBSH4iAEKw==\n\
     older:$6$lxsjzAKF9G6Kyjd0$lGHJqkZxJv3Ac0uCqTzevXrsum47I4mCdrbUhcjks+Wsop0B6JtXG4PKABYLC+OHaHDt9zsBhBRNXKvZdEQnbw==\n";

#[test]
fn mqtt_3_1_4_2_whoever_has_the_password_is_let_in_and_nobody_else() {
    let (mut broker, _) = with_anna();
    for version in [3, 4, 5] {
        broker.connect(user(version, "anna", "pencil"));
    }
    for (username, password) in [("anna", "pen"), ("anna", ""), ("bert", "pencil"), ("", "pencil")] {
        assert_eq!(refusal(&broker, user(5, username, password)), 0x86, "{username} {password}");
        assert_eq!(refusal(&broker, user(4, username, password)), 4, "{username} {password}");
    }
    assert_eq!(broker.total("authentications_granted"), 3);
    assert_eq!(broker.total("authentications_refused"), 8);
}

#[test]
fn mqtt_3_1_4_2_who_says_nothing_is_not_authorized() {
    let (mut broker, _) = with_anna();
    assert_eq!(refusal(&broker, Connect::v5(&unique("nobody"))), 0x87);
    assert_eq!(refusal(&broker, Connect::v311(&unique("nobody"))), 5);
    assert_eq!(refusal(&broker, Connect::v5(&unique("name")).username(b"anna")), 0x86, "a claim without a proof");
    assert_eq!(broker.total("authentication_failures"), 1, "who says nothing has not guessed");
}

#[test]
fn files_of_mosquitto_are_read_as_they_are() {
    let (broker, _) = with_passwords(MOSQUITTO, "");
    for name in ["roger", "older"] {
        broker.connect(user(5, name, "correct horse"));
        assert_eq!(refusal(&broker, user(5, name, "correct")), 0x86);
    }
}

#[test]
fn a_user_who_is_removed_is_not_let_in_again() {
    let (broker, file) = with_anna();
    let before = broker.connect(user(5, "anna", "pencil"));
    assert_eq!(passwd(&["remove", "anna"], &file, ""), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# people\n");
    let reloaded = |broker: &Broker| broker.log().matches("reloaded what=\"authenticators\"").count();
    let end = Instant::now() + PATIENCE;
    while reloaded(&broker) < 2 {
        assert!(Instant::now() < end, "the file is not read again");
        thread::sleep(millis(5)); // The log comes through a pipe and a thread.
    }
    assert_eq!(refusal(&broker, user(5, "anna", "pencil")), 0x86, "not even from what is remembered");
    before.disconnect();
}

#[test]
fn a_broken_file_leaves_the_old_one_in_force_and_is_told_with_its_line() {
    let (broker, file) = with_anna();
    fs::write(&file, "# people\n\nanna:pencil\n").unwrap();
    broker.await_log("passwords:3: this is no hash that we know", PATIENCE);
    assert!(!broker.log().contains("pencil"), "what stands there may be a password");
    broker.connect(user(5, "anna", "pencil"));
}

#[test]
fn passwd_says_whether_a_password_is_right() {
    let folder = folder();
    let file = folder.join("passwords");
    fs::write(&file, MOSQUITTO).unwrap();
    assert_eq!(passwd(&["verify", "roger"], &file, "correct horse"), 0);
    assert_eq!(passwd(&["verify", "roger"], &file, "correct"), 1);
    assert_eq!(passwd(&["verify", "nobody"], &file, "correct horse"), 1);
    assert_eq!(passwd(&["remove", "nobody"], &file, ""), 2);
    assert_eq!(passwd(&["add", "a:b"], &file, "x"), 2);
    assert_eq!(passwd(&["add", "anna", "--scram"], &file, "pässword"), 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), MOSQUITTO, "nothing of that changed the file");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_waits_behind_connect_is_applied_once_the_client_is_in() {
    let (broker, _) = with_anna();
    let mut watcher = guest(&broker);
    watcher.subscribe("said/#", 1);
    for round in 0..8 {
        let mut client = broker.open(5);
        let mut bytes = user(5, "anna", "pencil").encode();
        for number in 0..50 {
            bytes.extend(Publish::new(&format!("said/{round}"), &number.to_string()).encode(5));
        }
        bytes.extend(wire::pingreq());
        client.send(&bytes);
        client.expect(CONNACK);
        client.expect(PINGRESP);
        let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(watcher.payloads(50), expected);
    }
}

#[test]
fn a_client_that_has_left_while_its_password_was_checked_is_heard_to_the_end() {
    let (broker, _) = with_anna();
    let mut watcher = guest(&broker);
    watcher.subscribe("will", 1);
    for round in 0..8 {
        let mut client = broker.open(5);
        let will = format!("will {round}");
        client.send(&user(5, "anna", "pencil").will(Will::new("will", &will)).encode());
        client.finish_sending();
        assert_eq!(watcher.message().text(), will);
    }
}

#[test]
fn nothing_of_a_client_that_is_refused_is_applied() {
    let (broker, _) = with_anna();
    let mut watcher = guest(&broker);
    watcher.subscribe("#", 1);
    let mut client = broker.open(5);
    let mut bytes = user(5, "anna", "wrong").will(Will::new("will", "of a stranger")).encode();
    bytes.extend(Publish::new("said", "by a stranger").encode(5)); // [MQTT-3.1.4-6]
    client.send(&bytes);
    assert_eq!(client.expect(CONNACK).reason, 0x86);
    client.expect_closed();
    watcher.expect_quiet();
}

#[test]
fn a_flood_of_clients_with_right_and_wrong_passwords_is_answered_one_by_one() {
    let (broker, _) = with_anna_and("cache_time = \"0s\""); // Each of them is checked.
    let mut clients: Vec<_> = (0..64).map(|_| broker.open(5)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let password = if number % 2 == 0 { "pencil" } else { "wrong" };
        client.send(&user(5, "anna", password).encode());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = if number % 2 == 0 { 0 } else { 0x86 };
        assert_eq!(client.expect(CONNACK).reason, expected);
    }
}
