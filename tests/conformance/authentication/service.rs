//! A service that is asked by HTTP who a client is.

use super::{refusal, start, user};
use crate::harness::broker::folder;
use crate::harness::{Broker, PATIENCE, Publish};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

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
