//! Enhanced authentication (§4.12): SCRAM-SHA-256, before CONNACK and again on an open connection.

use super::{guest, passwd, refusal, user, with_anna, with_anna_and};
use crate::harness::broker::folder;
use crate::harness::parse::{AUTH, CONNACK};
use crate::harness::property;
use crate::harness::transport::Kind;
use crate::harness::{Broker, Client, Connect, Packet, Publish, Will, unique, wire};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;
use std::time::{Duration, Instant};

const METHOD: &str = "SCRAM-SHA-256";

fn with_method(connect: Connect, data: &str) -> Connect {
    connect
        .property(property::text(property::AUTHENTICATION_METHOD, METHOD))
        .property(property::binary(property::AUTHENTICATION_DATA, data.as_bytes()))
}

fn auth(reason: u8, data: &str) -> Vec<u8> {
    auth_of(reason, METHOD, data)
}

/// AUTH (§3.15).
fn auth_of(reason: u8, method: &str, data: &str) -> Vec<u8> {
    let properties = [
        property::text(property::AUTHENTICATION_METHOD, method),
        property::binary(property::AUTHENTICATION_DATA, data.as_bytes()),
    ];
    let mut body = vec![reason];
    property::put_all(&properties, &mut body);
    wire::packet(0xF0, &body)
}

fn data(packet: &Packet) -> String {
    let data = packet.binary(property::AUTHENTICATION_DATA).expect("Authentication Data");
    String::from_utf8(data.to_vec()).unwrap()
}

fn first(username: &str) -> String {
    format!("n,,n={username},r=abc")
}

/// The last message of a client that believes in this password, and what the server must answer where it is right.
fn last(username: &str, password: &str, server_first: &str) -> (String, String) {
    let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let attribute = |name| server_first.split(',').find_map(|text| text.strip_prefix(name)).unwrap();
    let salt = STANDARD.decode(attribute("s=")).unwrap();
    let mut salted = [0; 32];
    let iterations = attribute("i=").parse().unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let without_proof = format!("c=biws,r={}", attribute("r="));
    let covered = format!("n={username},r=abc,{server_first},{without_proof}");
    let signature = sign(stored_key.as_ref(), covered.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let ours = sign(sign(&salted, b"Server Key").as_ref(), covered.as_bytes());
    (format!("{without_proof},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(ours)))
}

/// A client that was asked for its proof, and what it was asked.
fn challenged(broker: &Broker, username: &str) -> (Client, String) {
    challenged_with(broker, username, Connect::v5(&unique("scram")))
}

fn challenged_with(broker: &Broker, username: &str, connect: Connect) -> (Client, String) {
    let mut client = broker.open(5);
    client.send(&with_method(connect, &first(username)).encode());
    let question = client.expect(AUTH);
    assert_eq!(question.reason, 0x18); // [MQTT-4.12.0-2]
    assert_eq!(question.string(property::AUTHENTICATION_METHOD), Some(METHOD)); // [MQTT-4.12.0-5]
    let question = data(&question);
    (client, question)
}

fn connected(broker: &Broker) -> Client {
    connected_with(broker, Connect::v5(&unique("scram")))
}

fn connected_with(broker: &Broker, connect: Connect) -> Client {
    let (mut client, question) = challenged_with(broker, "anna", connect);
    let (answer, expected) = last("anna", "pencil", &question);
    client.send(&auth(0x18, &answer)); // [MQTT-4.12.0-3]
    let connack = client.expect(CONNACK);
    assert_eq!(connack.reason, 0, "{connack:?}");
    assert_eq!(connack.string(property::AUTHENTICATION_METHOD), Some(METHOD)); // [MQTT-4.12.0-5]
    assert_eq!(data(&connack), expected, "the server knows the verifier");
    client
}

#[test]
fn mqtt_4_12_0_2_a_client_proves_its_password_without_sending_it() {
    let (broker, _) = with_anna();
    connected(&broker).ping();
}

#[test]
fn mqtt_4_12_0_1_a_method_that_is_not_known_is_refused() {
    let (broker, _) = with_anna();
    let connect = Connect::v5(&unique("other")).property(property::text(property::AUTHENTICATION_METHOD, "PLAIN"));
    assert_eq!(refusal(&broker, connect), 0x8C);
}

#[test]
fn mqtt_4_12_0_3_an_answer_of_another_method_or_with_garbage_is_refused() {
    let (broker, _) = with_anna();
    assert_eq!(refusal(&broker, with_method(Connect::v5(&unique("scram")), "garbage")), 0x87);
    let (mut client, _) = challenged(&broker, "anna");
    client.send(&auth(0x18, "garbage"));
    assert_eq!(client.expect(CONNACK).reason, 0x87);
    client.expect_closed();
}

#[test]
fn mqtt_4_12_0_4_a_wrong_proof_and_an_unknown_user_are_refused_alike() {
    let (mut broker, _) = with_anna();
    for username in ["anna", "bert"] {
        let (mut client, question) = challenged(&broker, username);
        client.send(&auth(0x18, &last(username, "pen", &question).0));
        assert_eq!(client.expect(CONNACK).reason, 0x86);
        client.expect_closed();
    }
    assert_eq!(broker.total("authentication_failures"), 2);
}

#[test]
fn mqtt_3_1_2_30_only_auth_and_disconnect_may_come_before_connack() {
    let (broker, _) = with_anna();
    let packets = [
        wire::pingreq(),
        auth_of(0x18, "SCRAM-SHA-1", "x"), // [MQTT-4.12.0-5]
        auth(0x19, "x"),                   // [MQTT-4.12.0-3]
        auth(0x00, "x"),
        Publish::new("t", "early").encode(5),
    ];
    for packet in packets {
        let (mut client, _) = challenged(&broker, "anna");
        client.send(&packet);
        assert_eq!(client.expect(CONNACK).reason, 0x82, "{packet:02x?}");
        client.expect_closed();
    }
    let (mut client, _) = challenged(&broker, "anna");
    client.send(&wire::disconnect());
    client.expect_closed();
}

#[test]
fn whoever_does_not_answer_a_challenge_is_closed_in_time() {
    let (mut broker, _) = with_anna_and("[limits]\nconnect_timeout = \"500ms\"\n");
    let (mut client, _) = challenged(&broker, "anna");
    client.expect_closed();
    assert_eq!(broker.total("authentication_timeouts"), 1);
    assert_eq!(broker.total("connect_timeouts"), 0);
}

#[test]
fn mqtt_4_12_1_1_a_client_re_authenticates_as_who_it_is_and_goes_on_meanwhile() {
    let (mut broker, _) = with_anna();
    let mut client = connected(&broker);
    let topic = unique("meanwhile");
    client.subscribe(&topic, 1);
    for _ in 0..3 {
        client.send(&auth(0x19, &first("anna")));
        let question = client.expect(AUTH);
        assert_eq!(question.reason, 0x18);
        client.publish(Publish::new(&topic, "still here").qos(1));
        assert_eq!(client.message().text(), "still here");
        let (answer, expected) = last("anna", "pencil", &data(&question));
        client.send(&auth(0x18, &answer));
        let success = client.expect(AUTH);
        assert_eq!((success.reason, data(&success)), (0x00, expected));
    }
    client.ping();
    assert_eq!(broker.total("re_authentications"), 3);
}

#[test]
fn mqtt_4_12_1_2_a_re_authentication_that_fails_ends_the_connection_and_its_will_is_published() {
    let (broker, _) = with_anna();
    let mut watcher = guest(&broker);
    watcher.subscribe("will", 1);
    let mut client = connected_with(&broker, Connect::v5(&unique("scram")).will(Will::new("will", "gone")));
    client.send(&auth(0x19, &first("anna")));
    let question = data(&client.expect(AUTH));
    client.send(&auth(0x18, &last("anna", "pen", &question).0));
    client.expect_disconnect(&[0x86, 0x87]);
    assert_eq!(watcher.message().text(), "gone");
}

#[test]
fn a_client_at_a_banned_address_does_not_re_authenticate() {
    let folder = folder();
    let file = folder.join("passwords");
    assert_eq!(passwd(&["add", "anna", "--scram", "--memory", "64", "--passes", "1"], &file, "pencil"), 0);
    let settings = format!(
        "[security]\nfailures_max = 1\nfailure_delay = \"0s\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         [[authenticators]]\nname = \"first\"\nkind = \"password\"\nfile = {file:?}\n"
    );
    let broker = Broker::start_in(folder, 2, &settings);
    let mut client = connected(&broker);
    assert_eq!(refusal(&broker, user(5, "anna", "wrong")), 0x86);
    client.ping(); // It is in, and stays so.
    client.send(&auth(0x19, &first("anna")));
    client.expect_disconnect(&[0x87]); // 0x8A is for CONNACK alone. (§3.14.2.1)
}

/// The first bytes of a frame of WebSocket whose mask changes nothing.
fn head_of_frame(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match u8::try_from(length) {
        Ok(length @ ..126) => head.push(0x80 | length),
        _ => head.extend([0x80 | 126, (length >> 8) as u8, length as u8]),
    }
    head.extend([0; 4]);
    head
}

#[test]
fn a_refusal_that_is_held_back_is_not_let_out_by_what_else_is_sent() {
    const DELAY: Duration = Duration::from_secs(1);
    let folder = folder();
    let file = folder.join("passwords");
    assert_eq!(passwd(&["add", "anna", "--scram", "--memory", "64", "--passes", "1"], &file, "pencil"), 0);
    let authenticator = format!("[[authenticators]]\nname = \"passwords\"\nfile = {file:?}\n");
    let broker = Broker::start_in(folder, 2, &format!("{authenticator}{}", Kind::Ws.listener("")));
    let mut client = Client::open_over(Kind::Ws, broker.address, 5);
    let connect = with_method(Connect::v5(&unique("scram")), "no first message").encode();
    // The pong is being sent when it is found out that the client is to be refused.
    let bytes = [head_of_frame(0x89, 0), head_of_frame(0x82, connect.len()), connect].concat();
    let start = Instant::now();
    client.stream.socket().write_all(&bytes).unwrap();
    assert_eq!(client.expect(CONNACK).reason, 0x87);
    assert!(start.elapsed() >= DELAY, "after {:?}", start.elapsed());
    client.expect_closed();
}
