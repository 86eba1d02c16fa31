//! Who is let in: what happens between CONNECT and CONNACK where credentials are checked, and enhanced authentication (§4.12).

use crate::harness::parse::{AUTH, CONNACK, PINGRESP, PUBLISH, Packet};
use crate::harness::property::{self, Property, text};
use crate::harness::transport::Kind;
use crate::harness::{Broker, Client, Connect, Publish, Will, unique, wire};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const USER: &str = "lamp";
const PASSWORD: &[u8] = b"pencil";
const METHOD: &str = "SCRAM-SHA-256";
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
const SALT: &[u8] = b"salt of the tests";

const BAD_USER_NAME_OR_PASSWORD: u8 = 0x86;
const NOT_AUTHORIZED: u8 = 0x87;
const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
const PROTOCOL_ERROR: u8 = 0x82;
const BANNED: u8 = 0x8A;

/// A password file with one user, who can send the password and authenticate by SCRAM.
fn password_file() -> PathBuf {
    let mut hash = [0; 64];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, SALT, PASSWORD, &mut hash);
    let (salt, hash) = (STANDARD.encode(SALT), STANDARD.encode(hash));
    let keys = Keys::of(PASSWORD);
    let (stored, server) = (STANDARD.encode(keys.stored()), STANDARD.encode(keys.server));
    let text = format!("{USER}:$7${ITERATIONS}${salt}${hash}\n{USER}:{METHOD}${ITERATIONS}:{salt}${stored}:{server}\n");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("passwords"));
    fs::write(&path, text).unwrap();
    path
}

/// A broker whose first listener asks for credentials.
fn guarded(settings: &str) -> Broker {
    Broker::start(&format!(
        "{settings}\n[[authenticators]]\nname = \"passwords\"\nfile = {:?}\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\nanonymous = false\nauthenticators = [\"passwords\"]\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\nanonymous = true\nauthenticators = []\n",
        password_file()
    ))
}

fn with_password(version: u8, password: &[u8]) -> Connect {
    Connect::new(version, &unique("c")).username(USER.as_bytes()).password(password)
}

impl Broker {
    /// A client at the open listener, which is the second.
    fn guest(&self) -> Client {
        let mut guest = Client::open(self.addresses[1], 5);
        assert_eq!(guest.try_connect(&Connect::v5(&unique("guest"))), Some(0));
        guest
    }
}

#[test]
fn the_right_password_opens_and_others_do_not() {
    let mut broker = guarded("[security]\nfailure_delay = \"0s\"\n");
    for version in [3, 4, 5] {
        for _ in 0..6 {
            broker.connect(with_password(version, PASSWORD)).ping();
        }
    }
    assert_eq!(broker.refuse(with_password(5, b"wrong")).reason, BAD_USER_NAME_OR_PASSWORD);
    assert_eq!(broker.refuse(with_password(4, b"wrong")).reason, 4); // [v3.1.1 MQTT-3.2.2-4]
    let nameless = broker.refuse(Connect::v5(&unique("c"))).reason;
    assert!([BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED].contains(&nameless), "{nameless:#x}");
    assert_eq!(broker.total("authentication_failures"), 2, "who says nothing has not guessed");
}

#[test]
fn what_waits_behind_connect_is_applied_once_the_client_is_in() {
    let broker = guarded("");
    let mut watcher = broker.guest();
    watcher.subscribe("said/#", 1);
    for round in 0..8 {
        let mut client = broker.open(5);
        let mut bytes = with_password(5, PASSWORD).encode();
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
    let broker = guarded("");
    let mut watcher = broker.guest();
    watcher.subscribe("will", 1);
    for round in 0..8 {
        let mut client = broker.open(5);
        let will = format!("will {round}");
        client.send(&with_password(5, PASSWORD).will(Will::new("will", &will)).encode());
        client.finish_sending();
        assert_eq!(watcher.message().text(), will);
    }
}

#[test]
fn nothing_of_a_client_that_is_refused_is_applied() {
    let broker = guarded("[security]\nfailure_delay = \"0s\"\n");
    let mut watcher = broker.guest();
    watcher.subscribe("#", 1);
    let mut client = broker.open(5);
    let mut bytes = with_password(5, b"wrong").will(Will::new("will", "of a stranger")).encode();
    bytes.extend(Publish::new("said", "by a stranger").encode(5)); // [MQTT-3.1.4-6]
    client.send(&bytes);
    assert_eq!(client.expect(CONNACK).reason, BAD_USER_NAME_OR_PASSWORD);
    client.expect_closed();
    watcher.expect_quiet();
}

#[test]
fn a_wrong_password_is_answered_later_and_a_right_one_at_once() {
    const DELAY: Duration = Duration::from_secs(1);
    let broker = guarded("");
    let start = Instant::now();
    assert_eq!(broker.refuse(with_password(5, b"wrong")).reason, BAD_USER_NAME_OR_PASSWORD);
    assert!(start.elapsed() >= DELAY, "after {:?}", start.elapsed());
    broker.connect(with_password(5, PASSWORD)).ping();
}

#[test]
fn an_address_that_guesses_is_banned_and_no_other() {
    let mut broker = guarded("[security]\nfailure_delay = \"0s\"\nfailures_max = 3\n");
    let mut inside = broker.connect(with_password(5, PASSWORD));
    let source = std::net::Ipv4Addr::new(127, 0, 0, 9);
    let mut waiting = Client::open_from(source, broker.address, 5);
    for _ in 0..3 {
        let mut client = Client::open_from(source, broker.address, 5);
        assert_eq!(client.try_connect(&with_password(5, b"guess")), Some(BAD_USER_NAME_OR_PASSWORD));
    }
    assert_eq!(Client::open_from(source, broker.address, 5).try_connect(&with_password(5, PASSWORD)), None);
    assert_eq!(
        waiting.try_connect(&with_password(5, PASSWORD)),
        Some(BANNED),
        "it came in before, and does not get on"
    );
    inside.ping();
    broker.connect(with_password(5, PASSWORD)).ping();
    assert_eq!(broker.total("bans"), 1);
}

#[test]
fn a_flood_of_clients_with_right_and_wrong_passwords_is_answered_one_by_one() {
    let broker = guarded("[security]\nfailure_delay = \"0s\"\nfailures_max = 0\ncache_time = \"0s\"\n");
    let mut clients: Vec<_> = (0..64).map(|_| broker.open(5)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let password = if number % 2 == 0 { PASSWORD } else { b"wrong" };
        client.send(&with_password(5, password).encode());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = if number % 2 == 0 { 0 } else { BAD_USER_NAME_OR_PASSWORD };
        assert_eq!(client.expect(CONNACK).reason, expected);
    }
}

#[test]
fn mqtt_4_12_0_1_an_unknown_method_is_refused() {
    let broker = guarded("[security]\nfailure_delay = \"0s\"\n");
    let connect = Connect::v5(&unique("c")).property(text(property::AUTHENTICATION_METHOD, "GS2-KRB5"));
    assert_eq!(broker.refuse(connect).reason, BAD_AUTHENTICATION_METHOD);
}

#[test]
fn mqtt_4_12_0_2_a_scram_exchange_ends_with_connack_that_proves_the_server() {
    let broker = guarded("");
    for _ in 0..8 {
        let mut client = broker.open(5);
        Scram::default().run(&mut client, PASSWORD).ping();
    }
}

#[test]
fn a_wrong_password_does_not_get_through_scram() {
    let mut broker = guarded("[security]\nfailure_delay = \"0s\"\n");
    let mut client = broker.open(5);
    let (mut scram, challenge) = Scram::default().begin(&mut client);
    client.send(&auth(0x18, METHOD, &scram.answer(&challenge, b"wrong")));
    assert!([BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED].contains(&client.expect(CONNACK).reason));
    client.expect_closed();
    assert_eq!(broker.total("authentication_failures"), 1);
}

#[test]
fn mqtt_3_1_2_30_only_auth_and_disconnect_may_come_before_connack() {
    let broker = guarded("");
    let packets = [
        wire::pingreq(),
        auth(0x18, "SCRAM-SHA-1", b"x"), // [MQTT-4.12.0-5]
        auth(0x19, METHOD, b"x"),        // [MQTT-4.12.0-3]
        auth(0x00, METHOD, b"x"),
        Publish::new("t", "early").encode(5),
    ];
    for packet in packets {
        let mut client = broker.open(5);
        Scram::default().begin(&mut client);
        client.send(&packet);
        assert_eq!(client.expect(CONNACK).reason, PROTOCOL_ERROR, "{packet:02x?}");
        client.expect_closed();
    }
    let mut client = broker.open(5);
    Scram::default().begin(&mut client);
    client.send(&wire::disconnect());
    client.expect_closed();
}

#[test]
fn whoever_does_not_answer_a_challenge_is_closed_in_time() {
    let mut broker = guarded("[limits]\nconnect_timeout = \"500ms\"\n");
    let mut client = broker.open(5);
    Scram::default().begin(&mut client);
    client.expect_closed();
    assert_eq!(broker.total("authentication_timeouts"), 1);
    assert_eq!(broker.total("connect_timeouts"), 0);
}

#[test]
fn mqtt_4_12_1_1_a_client_authenticates_again_and_goes_on_meanwhile() {
    let broker = guarded("");
    let mut client = broker.open(5);
    let mut scram = Scram::default();
    scram.run(&mut client, PASSWORD);
    client.subscribe("meanwhile", 1);
    for _ in 0..3 {
        let mut again = Scram::default();
        client.send(&auth(0x19, METHOD, &again.first()));
        let challenge = client.expect(AUTH);
        assert_eq!(challenge.reason, 0x18);
        client.publish(Publish::new("meanwhile", "still here").qos(1));
        assert_eq!(client.message().text(), "still here");
        client.send(&auth(0x18, METHOD, &again.answer(&data_of(&challenge), PASSWORD)));
        let done = client.expect(AUTH);
        assert_eq!(done.reason, 0x00);
        again.verify(&data_of(&done));
    }
    client.ping();
}

#[test]
fn mqtt_4_12_1_2_a_re_authentication_that_fails_ends_the_connection() {
    let broker = guarded("");
    let mut watcher = broker.guest();
    watcher.subscribe("will", 1);
    let mut client = broker.open(5);
    let connect = Scram::default().connect().will(Will::new("will", "gone"));
    let mut scram = Scram::default();
    let challenge = scram.challenge(&mut client, connect);
    client.send(&auth(0x18, METHOD, &scram.answer(&challenge, PASSWORD)));
    assert_eq!(client.expect(CONNACK).reason, 0);
    let mut again = Scram::default();
    client.send(&auth(0x19, METHOD, &again.first()));
    let challenge = data_of(&client.expect(AUTH));
    client.send(&auth(0x18, METHOD, &again.answer(&challenge, b"wrong")));
    client.expect_disconnect(&[NOT_AUTHORIZED, BAD_USER_NAME_OR_PASSWORD]);
    let will = watcher.expect(PUBLISH);
    assert_eq!(will.text(), "gone");
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
    let listener = Kind::Ws.listener("anonymous = false\nauthenticators = [\"passwords\"]\n");
    let authenticator = format!("[[authenticators]]\nname = \"passwords\"\nfile = {:?}\n", password_file());
    let broker = Broker::start(&format!("{authenticator}{listener}"));
    let mut client = Client::open_over(Kind::Ws, broker.address, 5);
    let connect = Scram::default().connect().property(data_property(b"no first message")).encode();
    // The pong is being sent when it is found out that the client is to be refused.
    let bytes = [head_of_frame(0x89, 0), head_of_frame(0x82, connect.len()), connect].concat();
    let start = Instant::now();
    client.stream.socket().write_all(&bytes).unwrap();
    assert_eq!(client.expect(CONNACK).reason, NOT_AUTHORIZED);
    assert!(start.elapsed() >= DELAY, "after {:?}", start.elapsed());
    client.expect_closed();
}

/// AUTH (§3.15).
fn auth(reason: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![reason];
    property::put_all(&[text(property::AUTHENTICATION_METHOD, method), data_property(data)], &mut body);
    wire::packet(0xF0, &body)
}

fn data_property(data: &[u8]) -> Property {
    property::binary(property::AUTHENTICATION_DATA, data)
}

fn data_of(packet: &Packet) -> Vec<u8> {
    packet.binary(property::AUTHENTICATION_DATA).expect("Authentication Data").to_vec()
}

/// What SCRAM makes of a password (RFC 5802).
struct Keys {
    client: Vec<u8>,
    server: Vec<u8>,
}

impl Keys {
    fn of(password: &[u8]) -> Self {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, SALT, password, &mut salted);
        Self { client: hmac_of(&salted, b"Client Key"), server: hmac_of(&salted, b"Server Key") }
    }

    fn stored(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, &self.client).as_ref().to_vec()
    }
}

fn hmac_of(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

/// A client's half of a SCRAM exchange.
#[derive(Default)]
struct Scram {
    messages: String,
    server_signature: Vec<u8>,
}

impl Scram {
    fn connect(&self) -> Connect {
        Connect::v5(&unique("c")).property(text(property::AUTHENTICATION_METHOD, METHOD))
    }

    fn first(&mut self) -> Vec<u8> {
        let bare = format!("n={USER},r={}", unique("nonce"));
        let message = format!("n,,{bare}");
        self.messages = bare;
        message.into_bytes()
    }

    /// Sends a CONNECT, and returns what the server asks.
    fn challenge(&mut self, client: &mut Client, connect: Connect) -> Vec<u8> {
        let first = self.first();
        client.send(&connect.property(data_property(&first)).encode());
        let challenge = client.expect(AUTH);
        assert_eq!(challenge.reason, 0x18);
        data_of(&challenge)
    }

    fn begin(mut self, client: &mut Client) -> (Self, Vec<u8>) {
        let connect = self.connect();
        let challenge = self.challenge(client, connect);
        (self, challenge)
    }

    fn answer(&mut self, challenge: &[u8], password: &[u8]) -> Vec<u8> {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let nonce = challenge.strip_prefix("r=").unwrap().split(',').next().unwrap();
        let without_proof = format!("c=biws,r={nonce}");
        let messages = format!("{},{challenge},{without_proof}", self.messages);
        let keys = Keys::of(password);
        let signature = hmac_of(&keys.stored(), messages.as_bytes());
        let proof: Vec<_> = keys.client.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        self.server_signature = hmac_of(&keys.server, messages.as_bytes());
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }

    fn verify(&self, last: &[u8]) {
        let expected = format!("v={}", STANDARD.encode(&self.server_signature));
        assert_eq!(std::str::from_utf8(last).unwrap(), expected);
    }

    /// All of it, up to a CONNACK that proves the server.
    fn run<'a>(&mut self, client: &'a mut Client, password: &[u8]) -> &'a mut Client {
        let connect = self.connect();
        let challenge = self.challenge(client, connect);
        client.send(&auth(0x18, METHOD, &self.answer(&challenge, password)));
        let connack = client.expect(CONNACK);
        assert_eq!(connack.reason, 0);
        self.verify(&data_of(&connack));
        client
    }
}
