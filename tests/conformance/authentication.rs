//! Who a client is: password files, tokens, SCRAM, and a service that is asked.

use crate::harness::broker::{folder, program};
use crate::harness::parse::{AUTH, CONNACK};
use crate::harness::property::{self, Property, Value};
use crate::harness::wire;
use crate::harness::{Broker, Client, Connect, PATIENCE, Packet, Publish, Will, unique};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

const METHOD: &str = "SCRAM-SHA-256";
const SECRET: &str = "a secret of more than thirty-two bytes";

/// Written by `mosquitto_passwd -H sha512-pbkdf2` and `-H sha512`; the password is "correct horse".
const MOSQUITTO: &str = "roger:$7$101$iav8cs23DY7tg3jM$i381e9dHB/8iyT79dyH26YsLZBd+lK7nnjlrXrCb8vVnl12GJ0mk7cd+sfgBINb8jfP3HNmgU281mBSH4iAEKw==\n\
     older:$6$lxsjzAKF9G6Kyjd0$lGHJqkZxJv3Ac0uCqTzevXrsum47I4mCdrbUhcjks+Wsop0B6JtXG4PKABYLC+OHaHDt9zsBhBRNXKvZdEQnbw==\n";

/// Runs `willowmq passwd` with a password on its standard input; its exit code.
fn passwd(arguments: &[&str], file: &Path, password: &str) -> i32 {
    let mut command = program();
    command.arg("passwd").args(arguments).arg("--file").arg(file);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program can be started");
    // It may end without reading, where it needs no password.
    let _ = child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes());
    child.wait().unwrap().code().unwrap()
}

/// A broker whose first authenticator is the one that these settings are of.
fn start(folder: PathBuf, authenticator: &str) -> Broker {
    let security = "[security]\nfailure_delay = \"0s\"\nreload_interval = \"10ms\"\n";
    Broker::start_in(folder, 2, &format!("{security}[[authenticators]]\nname = \"first\"\n{authenticator}\n"))
}

/// A broker with a password file, and the file.
fn with_passwords(content: &str) -> (Broker, PathBuf) {
    let folder = folder();
    let file = folder.join("passwords");
    fs::write(&file, content).unwrap();
    (start(folder, &format!("kind = \"password\"\nfile = {file:?}")), file)
}

/// A broker that knows anna, by password and by SCRAM.
fn with_anna() -> (Broker, PathBuf) {
    let (broker, file) = with_passwords("# people\n");
    assert_eq!(passwd(&["add", "anna", "--scram", "--memory", "64", "--passes", "1"], &file, "pencil"), 0);
    broker.await_log("reloaded what=\"authenticators\"", PATIENCE);
    (broker, file)
}

fn user(version: u8, username: &str, password: &str) -> Connect {
    Connect::new(version, &unique("user")).username(username.as_bytes()).password(password.as_bytes())
}

fn refusal(broker: &Broker, connect: Connect) -> u8 {
    broker.refuse(connect).reason
}

mod passwords {
    use super::*;

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
        let (broker, _) = with_anna();
        assert_eq!(refusal(&broker, Connect::v5(&unique("nobody"))), 0x87);
        assert_eq!(refusal(&broker, Connect::v311(&unique("nobody"))), 5);
        assert_eq!(refusal(&broker, Connect::v5(&unique("name")).username(b"anna")), 0x86, "a claim without a proof");
    }

    #[test]
    fn files_of_mosquitto_are_read_as_they_are() {
        let (broker, _) = with_passwords(MOSQUITTO);
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
        let end = std::time::Instant::now() + PATIENCE;
        while reloaded(&broker) < 2 {
            assert!(std::time::Instant::now() < end, "the file is not read again");
            std::thread::sleep(std::time::Duration::from_millis(5)); // The log comes through a pipe and a thread.
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
}

mod tokens {
    use super::*;
    use serde_json::{Value, json};

    fn with_tokens() -> Broker {
        let folder = folder();
        let file = folder.join("key");
        fs::write(&file, SECRET).unwrap();
        start(folder, &format!("kind = \"jwt\"\nfile = {file:?}\nalgorithms = [\"HS256\"]"))
    }

    fn token(claims: &Value) -> String {
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    fn bearer(client_id: &str, claims: &Value) -> Connect {
        Connect::v5(client_id).password(token(claims).as_bytes())
    }

    #[test]
    fn a_token_lets_its_bearer_in_and_says_what_it_may_do() {
        let broker = with_tokens();
        let claims =
            json!({"sub": "lamp", "exp": now() + 600, "client_id": "lamp-*", "mqtt": {"publish": ["lamps/#"]}});
        let mut client = broker.connect(bearer("lamp-1", &claims));
        assert!(client.publish(Publish::new("lamps/1", "on").qos(1)) < 0x80);
        assert_eq!(client.publish(Publish::new("doors/1", "open").qos(1)), 0x87);
        assert_eq!(client.subscribe("lamps/#", 0), 0x87, "a token with rights gives these alone");
        assert_eq!(refusal(&broker, bearer("door-1", &claims)), 0x85);
    }

    #[test]
    fn a_token_that_is_not_in_order_lets_nobody_in() {
        let broker = with_tokens();
        let id = unique("bearer");
        assert_eq!(refusal(&broker, bearer(&id, &json!({"sub": "lamp", "exp": now() - 1}))), 0x86);
        assert_eq!(refusal(&broker, bearer(&id, &json!({"sub": "lamp"}))), 0x86, "it must end some time");
        assert_eq!(
            refusal(&broker, bearer(&id, &json!({"sub": "lamp", "exp": now() + 600, "nbf": now() + 300}))),
            0x86
        );
        let forged = token(&json!({"sub": "root", "exp": now() + 600})) + "A";
        assert_eq!(refusal(&broker, Connect::v5(&id).password(forged.as_bytes())), 0x86);
        assert_eq!(refusal(&broker, Connect::v5(&id).password(b"no token")), 0x86);
    }

    #[test]
    fn a_connection_ends_with_its_token_and_its_will_is_published() {
        let broker = with_tokens();
        let mut watcher = broker.connect(bearer(&unique("watcher"), &json!({"sub": "watcher", "exp": now() + 600})));
        watcher.subscribe("wills/lamp", 0);
        let connect = bearer(&unique("lamp"), &json!({"sub": "lamp", "exp": now() + 2}));
        let mut client = broker.connect(connect.will(Will::new("wills/lamp", "token")));
        client.expect_disconnect(&[0x87, 0xA0]);
        assert_eq!(watcher.payloads(1), ["token"]);
    }
}

mod scram {
    use super::*;

    fn with_method(connect: Connect, data: &str) -> Connect {
        connect
            .property(property::text(property::AUTHENTICATION_METHOD, METHOD))
            .property(property::binary(property::AUTHENTICATION_DATA, data.as_bytes()))
    }

    fn auth(reason: u8, data: &str) -> Vec<u8> {
        let properties: [Property; 2] = [
            property::text(property::AUTHENTICATION_METHOD, METHOD),
            property::binary(property::AUTHENTICATION_DATA, data.as_bytes()),
        ];
        let mut body = vec![reason];
        property::put_all(&properties, &mut body);
        wire::packet(0xF0, &body)
    }

    fn data(packet: &Packet) -> String {
        let is_data = |property: &&Property| property.id == property::AUTHENTICATION_DATA;
        match packet.properties.iter().find(is_data).map(|property| &property.value) {
            Some(Value::Binary(data)) => String::from_utf8(data.clone()).unwrap(),
            other => panic!("Authentication Data is {other:?}"),
        }
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
        let mut client = broker.open(5);
        client.send(&with_method(Connect::v5(&unique("scram")), &first(username)).encode());
        let question = client.expect(AUTH);
        assert_eq!(question.reason, 0x18); // [MQTT-4.12.0-2]
        assert_eq!(question.string(property::AUTHENTICATION_METHOD), Some(METHOD)); // [MQTT-4.12.0-5]
        let question = data(&question);
        (client, question)
    }

    fn connected(broker: &Broker) -> Client {
        let (mut client, question) = challenged(broker, "anna");
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
    fn mqtt_4_12_0_4_a_wrong_proof_and_an_unknown_user_are_refused_alike() {
        let (broker, _) = with_anna();
        for username in ["anna", "bert"] {
            let (mut client, question) = challenged(&broker, username);
            client.send(&auth(0x18, &last(username, "pen", &question).0));
            assert_eq!(client.expect(CONNACK).reason, 0x86);
            client.expect_closed();
        }
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
    fn mqtt_4_12_1_2_a_client_re_authenticates_as_who_it_is() {
        let (broker, _) = with_anna();
        let mut client = connected(&broker);
        client.send(&auth(0x19, &first("anna")));
        let question = client.expect(AUTH);
        assert_eq!(question.reason, 0x18);
        let (answer, expected) = last("anna", "pencil", &data(&question));
        client.send(&auth(0x18, &answer));
        let success = client.expect(AUTH);
        assert_eq!((success.reason, data(&success)), (0x00, expected));
        client.ping();
    }

    #[test]
    fn mqtt_4_12_1_2_who_fails_to_re_authenticate_is_disconnected() {
        let (broker, _) = with_anna();
        let mut client = connected(&broker);
        client.send(&auth(0x19, &first("anna")));
        let question = data(&client.expect(AUTH));
        client.send(&auth(0x18, &last("anna", "pen", &question).0));
        client.expect_disconnect(&[0x86, 0x87]);
    }
}

mod service {
    use super::*;

    /// A service that gives the same answer to everybody until the test is over, and where it is.
    fn answering(status: &'static str, body: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut question = [0; 4096];
                let mut length = 0;
                // The question is one JSON object, and its last byte the end of it.
                while !question[..length].ends_with(b"}") {
                    match connection.read(&mut question[length..]) {
                        Ok(more @ 1..) => length += more,
                        _ => break,
                    }
                }
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = connection.write_all((head + body).as_bytes());
            }
        });
        address
    }

    fn with_service(address: SocketAddr) -> Broker {
        start(folder(), &format!("kind = \"http\"\nurl = \"http://{address}/\"\nfailures_max = 2\npause = \"1h\""))
    }

    #[test]
    fn a_service_lets_clients_in() {
        let body = r#"{"result": "allow", "rights": {"publish": ["a"]}}"#;
        let broker = with_service(answering("200 OK", body));
        let mut client = broker.connect(user(5, "anna", "pencil"));
        assert!(client.publish(Publish::new("a", "x").qos(1)) < 0x80);
        assert_eq!(client.publish(Publish::new("b", "x").qos(1)), 0x87);
    }

    #[test]
    fn a_service_turns_clients_away() {
        let broker = with_service(answering("403 Forbidden", ""));
        assert_eq!(refusal(&broker, user(5, "anna", "pencil")), 0x86);
        assert_eq!(refusal(&broker, user(4, "anna", "pencil")), 4);
    }

    #[test]
    fn a_service_that_is_down_lets_nobody_in() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut broker = with_service(address);
        for _ in 0..3 {
            assert_eq!(refusal(&broker, user(5, "anna", "pencil")), 0x88);
            assert_eq!(refusal(&broker, user(4, "anna", "pencil")), 3);
        }
        broker.await_log("is left alone for a while", PATIENCE);
        assert_eq!(broker.total("authentications_unavailable"), 6);
    }
}
