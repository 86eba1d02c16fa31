//! JSON Web Tokens as Passwords: what one must say, what it allows, and when it ends.

use super::{refusal, start};
use crate::harness::broker::folder;
use crate::harness::{Broker, Connect, Publish, Will, unique};
use serde_json::{Value, json};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "a secret of more than thirty-two bytes";

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
    let claims = json!({"sub": "lamp", "exp": now() + 600, "client_id": "lamp-*", "mqtt": {"publish": ["lamps/#"]}});
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
    assert_eq!(refusal(&broker, bearer(&id, &json!({"sub": "lamp", "exp": now() + 600, "nbf": now() + 300}))), 0x86);
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
