//! WebSocket: requests, frames and close codes.

use super::*;

pub(super) const FIN: u8 = 0x80;
pub(super) const CONTINUE: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// A request for a WebSocket, with more headers: whole lines with their ends.
pub(super) fn request(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: broker.example.org:8083\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n{headers}\r\n"
    )
    .into()
}

/// A frame of a client.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn listener() -> Listener {
    Listener { kind: ListenerKind::Ws, ..Listener::default() }
}

/// A WebSocket that is open.
fn open() -> Line {
    let mut line = Line::to(&entrance(&listener()));
    line.send(&request("/mqtt", "")).unwrap();
    assert!(line.layers.is_complete());
    line.received.clear();
    line
}

/// The answer to a request.
fn answer(listener: &Listener, request: &[u8]) -> String {
    let mut line = Line::to(&entrance(listener));
    let result = line.send(request);
    let answer = String::from_utf8(line.received).unwrap();
    assert_eq!(result.is_ok(), answer.starts_with("HTTP/1.1 101 "), "{result:?} and {answer}");
    assert_eq!(line.layers.is_complete(), result.is_ok());
    assert!(line.mqtt.is_empty());
    answer
}

/// The status of the answer to a request, and the sentence in it.
fn refusal(listener: &Listener, request: &[u8]) -> (String, String) {
    let answer = answer(listener, request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    assert!(head.contains("\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    assert!(head.ends_with("\r\nConnection: close"));
    (head["HTTP/1.1 ".len()..head.find('\r').unwrap()].to_owned(), body.trim_end().to_owned())
}

fn status(listener: &Listener, request: &[u8]) -> String {
    refusal(listener, request).0
}

/// The request without the lines that begin with `name`, and with this one.
fn replaced(name: &str, line: &str) -> Vec<u8> {
    let text = String::from_utf8(request("/mqtt", "")).unwrap();
    let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with(name));
    let (first, rest) = lines.collect::<Vec<_>>().split_first().map(|(first, rest)| (*first, rest.concat())).unwrap();
    format!("{first}{line}{rest}").into()
}

/// The key and the answer are those of RFC 6455 §1.3.
#[test]
fn mqtt_6_0_0_4_the_answer_to_a_request_names_the_subprotocol() {
    assert_eq!(
        answer(&listener(), &request("/mqtt", "")),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    assert!(answer(&listener(), &request("/mqtt?token=1", "")).starts_with("HTTP/1.1 101 "));
}

#[test]
fn mqtt_6_0_0_3_the_client_has_to_offer_a_subprotocol_of_mqtt() {
    let chosen = |lines: &str| {
        let answer = answer(&listener(), &replaced("Sec-WebSocket-Protocol", lines));
        answer.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ").map(str::to_owned))
    };
    let protocol = |value: &str| chosen(&format!("Sec-WebSocket-Protocol: {value}\r\n"));
    assert_eq!(protocol("mqttv3.1, mqtt").as_deref(), Some("mqttv3.1"), "the client's order counts");
    assert_eq!(protocol("chat,mqtt,mqttv3.1").as_deref(), Some("mqtt"));
    let in_two_lines = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt\r\n";
    assert_eq!(chosen(in_two_lines).as_deref(), Some("mqtt"));
    for lines in ["", "Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Protocol: MQTT\r\n"] {
        let (status, sentence) = refusal(&listener(), &replaced("Sec-WebSocket-Protocol", lines));
        assert_eq!(status, "400 Bad Request");
        assert!(sentence.starts_with("The client has to offer the subprotocol \"mqtt\""), "{sentence}");
    }
}

#[test]
fn whatever_is_no_request_for_a_websocket_gets_a_clear_answer() {
    let of = |request: &str| refusal(&listener(), request.as_bytes());
    let (found, sentence) = of("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(found, "404 Not Found");
    assert_eq!(sentence, "There is nothing here; the WebSocket of this MQTT broker is at /mqtt.");
    assert_eq!(of("GET /mqtt/more HTTP/1.1\r\nHost: a\r\n\r\n").0, "404 Not Found");
    assert_eq!(of("POST /mqtt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na").0, "405 Method Not Allowed");
    assert_eq!(of("GET /mqtt HTTP/1.0\r\nHost: a\r\n\r\n").0, "400 Bad Request");
    assert_eq!(of("GET /mqtt HTTP/1.1\r\n\r\n").1, "The header Host is missing.");
    assert_eq!(of("GET /mqtt HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").0, "400 Bad Request");
    assert_eq!(of("GET /mqtt HTTP/1.1\r\nHost: a\r\n\r\n").0, "426 Upgrade Required");
    assert_eq!(of("GET /mqtt HTTP/1.1\r\n: a\r\n\r\n").0, "400 Bad Request");
    assert_eq!(of("GET\r\n\r\n").0, "400 Bad Request");
    for (name, line, expected) in [
        ("Upgrade", "", "426 Upgrade Required"),
        ("Connection", "Connection: close\r\n", "426 Upgrade Required"),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8\r\n", "426 Upgrade Required"),
        ("Sec-WebSocket-Key", "", "400 Bad Request"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n", "400 Bad Request"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n", "400 Bad Request"),
        ("Host", "Host: \u{fffd}\r\n", "101"),
    ] {
        let answer = answer(&listener(), &replaced(name, line));
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{line:?}: {answer}");
        if expected.starts_with("426") {
            assert!(answer.contains("\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"));
        }
    }
    let not_text =
        replaced("Origin", "Origin: \u{e9}\r\n").into_iter().filter(|byte| *byte != 0xC3).collect::<Vec<_>>();
    assert_eq!(refusal(&listener(), &not_text).1, "The header Origin is no text.");
}

/// What is no HTTP at all may never come to the end of a line, so it is told by its first byte.
#[test]
fn mqtt_and_tls_without_a_websocket_are_told_at_once() {
    for bytes in [MQTT, b"\x16"] {
        let (status, sentence) = refusal(&listener(), bytes);
        assert_eq!(status, "400 Bad Request");
        assert_eq!(sentence, "This is no HTTP request: here MQTT is spoken over WebSocket.");
    }
}

#[test]
fn the_head_of_a_request_is_bounded() {
    let long = format!("Cookie: {}\r\n", "a".repeat(7800));
    assert!(answer(&listener(), &request("/mqtt", &long)).starts_with("HTTP/1.1 101 "));
    let longer = format!("Cookie: {}\r\n", "a".repeat(8200));
    assert_eq!(status(&listener(), &request("/mqtt", &longer)), "431 Request Header Fields Too Large");
    let endless = format!("GET /{}", "a".repeat(9000));
    assert_eq!(status(&listener(), endless.as_bytes()), "431 Request Header Fields Too Large");
    assert_eq!(status(&listener(), &request("/mqtt", &"A: b\r\n".repeat(60))), "431 Request Header Fields Too Large");
}

#[test]
fn pages_of_other_origins_are_refused() {
    let from = |listener: &Listener, origin: &str| {
        answer(listener, &request("/mqtt", &format!("Origin: {origin}\r\n")))[9..12].to_owned()
    };
    let same = Listener { anonymous: false, ..listener() };
    assert_eq!(from(&same, "http://broker.example.org:8083"), "101");
    assert_eq!(from(&same, "https://Broker.example.org:8083"), "101", "behind a proxy with TLS");
    for origin in
        ["http://broker.example.org", "http://evil.example:8083", "null", "", "http://broker.example.org:8083.evil"]
    {
        assert_eq!(from(&same, origin), "403", "{origin}");
    }
    let any = Listener { websocket_origins: vec!["*".into()], ..listener() };
    assert_eq!(from(&any, "null"), "101");
    // Its name may have been made to mean this machine, where nothing but the origin keeps it out.
    assert_eq!(from(&listener(), "http://broker.example.org:8083"), "403");
    for host in ["localhost:8083", "127.0.0.1:8083", "[::1]:8083"] {
        let request = request("/mqtt", &format!("Origin: http://{host}\r\n"));
        let request = String::from_utf8(request).unwrap().replace("broker.example.org:8083", host);
        assert!(answer(&listener(), request.as_bytes()).starts_with("HTTP/1.1 101 "), "{host}");
    }
    let some = ["https://example.org", "http://[2001:db8::1]:8080"].map(String::from).to_vec();
    let some = Listener { websocket_origins: some, ..listener() };
    for origin in ["https://example.org", "https://EXAMPLE.org:443", "http://[2001:db8::1]:8080"] {
        assert_eq!(from(&some, origin), "101", "{origin}");
    }
    for origin in
        ["http://example.org", "https://example.org:8443", "https://sub.example.org", "http://broker.example.org:8083"]
    {
        assert_eq!(from(&some, origin), "403", "{origin}");
    }
    assert!(answer(&some, &request("/mqtt", "")).starts_with("HTTP/1.1 101 "), "who is no browser has none");
    let twice = "Origin: https://example.org\r\nOrigin: https://example.org\r\n";
    assert_eq!(status(&some, &request("/mqtt", twice)), "400 Bad Request");
}

#[test]
fn settings_that_cannot_be_are_named() {
    let error = |listener: Listener| Entrance::new(&listener, 1024).err().unwrap().to_string();
    assert_eq!(
        error(Listener { websocket_path: "mqtt".into(), ..listener() }),
        "websocket_path: \"mqtt\" is no path such as \"/mqtt\""
    );
    assert_eq!(
        error(Listener { websocket_origins: vec!["example.org".into()], ..listener() }),
        "websocket_origins: \"example.org\" is no origin such as \"https://example.org\""
    );
}

/// The examples of RFC 6455 §5.7, with binary instead of text messages.
#[test]
fn the_examples_of_the_rfc_are_understood() {
    let mut line = open();
    line.send(b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58").unwrap();
    assert_eq!(line.mqtt, b"Hello");
    line.send(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58").unwrap();
    assert_eq!(line.take_received(), b"\x8a\x05Hello");
    let payload = vec![0xAB; 65_536];
    line.layers.wrap(b"Hello", &mut line.received);
    assert_eq!(line.take_received(), b"\x82\x05Hello");
    line.layers.wrap(&payload[..256], &mut line.received);
    assert_eq!(line.take_received()[..4], *b"\x82\x7e\x01\x00");
    line.layers.wrap(&payload, &mut line.received);
    assert_eq!(line.take_received()[..10], *b"\x82\x7f\0\0\0\0\0\x01\0\0");
    line.layers.wrap(b"", &mut line.received);
    assert_eq!(line.take_received(), b"");
    line.mqtt.clear();
    line.send(&frame(FIN | BINARY, &payload)).unwrap();
    assert!(line.mqtt == payload);
    line.mqtt.clear();
    line.send(&[frame(BINARY, b"Hel"), frame(FIN | CONTINUE, b"lo")].concat()).unwrap();
    assert_eq!(line.mqtt, b"Hello");
}

#[test]
fn mqtt_6_0_0_2_packets_come_in_pieces_and_several_at_once() {
    let mut line = open();
    let mut bytes = frame(BINARY, &MQTT[..3]);
    bytes.extend(frame(FIN | PING, b"1"));
    bytes.extend(frame(CONTINUE, b""));
    bytes.extend(frame(CONTINUE, &MQTT[3..9]));
    bytes.extend(frame(FIN | PONG, b"unasked"));
    bytes.extend(frame(FIN | CONTINUE, &[&MQTT[9..], MQTT].concat()));
    bytes.extend(frame(FIN | BINARY, MQTT));
    line.send(&bytes).unwrap();
    assert_eq!(line.mqtt, MQTT.repeat(3));
    assert_eq!(line.received, b"\x8a\x011");
}

/// How the connection ends after these frames: what is said, and the code of the close frame that we send.
fn end(bytes: &[u8]) -> (String, Option<u16>) {
    let mut line = open();
    let error = line.send(bytes).expect_err("the end").to_string();
    let code = match line.received[..] {
        [0x88, 2, high, low] => Some(u16::from_be_bytes([high, low])),
        [0x88, 0] => None,
        _ => panic!("no close frame, but {:?}", line.received),
    };
    line.layers.close(CloseCode::Normal);
    let mut nothing = Vec::new();
    line.layers.wrap(b"\xd0\0", &mut nothing);
    assert_eq!(nothing, b"", "after the close frame nothing is sent, a second one neither");
    (error, code)
}

#[test]
fn mqtt_6_0_0_1_text_is_refused() {
    let text = ("WebSocket: a text message; MQTT is binary".to_owned(), Some(1003));
    assert_eq!(end(&frame(FIN | TEXT, b"hello")), text);
    assert_eq!(end(&frame(TEXT, b"hello")), text);
}

#[test]
fn who_breaks_the_rules_is_told_how() {
    for (bytes, expected) in [
        (b"\x82\x05Hello".to_vec(), "a frame of a client without a mask"),
        (frame(FIN | 0x40 | BINARY, b""), "a reserved bit, though no extension was agreed on"),
        (frame(FIN | 3, b""), "a frame of an unknown kind"),
        (frame(FIN | 11, b""), "a frame of an unknown kind"),
        (frame(FIN | CONTINUE, b""), "a continuation of nothing, or a message inside another"),
        ([frame(BINARY, b""), frame(BINARY, b"")].concat(), "a continuation of nothing, or a message inside another"),
        (frame(PING, b""), "a control frame in pieces or over 125 bytes"),
        (frame(FIN | PING, &[0; 126]), "a control frame in pieces or over 125 bytes"),
        (frame(FIN | CLOSE, &[3]), "a close frame with a code that must not be sent"),
        (frame(FIN | CLOSE, &1005_u16.to_be_bytes()), "a close frame with a code that must not be sent"),
        (frame(FIN | CLOSE, &999_u16.to_be_bytes()), "a close frame with a code that must not be sent"),
    ] {
        assert_eq!(end(&bytes), (format!("WebSocket: {expected}"), Some(1002)));
    }
    let no_utf8 = frame(FIN | CLOSE, b"\x03\xe8\xff");
    assert_eq!(end(&no_utf8), ("WebSocket: a close frame with a reason that is no UTF-8".into(), Some(1007)));
}

#[test]
fn a_frame_that_is_too_long_is_refused_by_its_head() {
    let head = |length: u64| [&[FIN | BINARY, 0x80 | 127], &length.to_be_bytes()[..], &[0; 4]].concat();
    let longest = 1024 * 1024 + 16 * 1024 * 1024;
    assert_eq!(end(&head(longest + 1)), ("WebSocket: a frame that is too long".into(), Some(1009)));
    assert_eq!(end(&head(u64::MAX)).1, Some(1009));
    assert!(open().send(&head(longest)).is_ok());
}

#[test]
fn a_close_frame_is_answered_with_its_code_after_what_came_before() {
    let mut line = open();
    let bytes = [frame(FIN | BINARY, b"\xe0\0"), frame(FIN | CLOSE, b"\x03\xe9going"), frame(FIN | BINARY, MQTT)];
    assert!(matches!(line.send(&bytes.concat()), Err(Broken::Closed)));
    assert_eq!(line.mqtt, b"\xe0\0");
    assert_eq!(line.received, b"\x88\x02\x03\xe9");
    assert_eq!(end(&frame(FIN | CLOSE, b"")), ("closed by the peer".into(), None));
    assert_eq!(end(&frame(FIN | CLOSE, &4000_u16.to_be_bytes())).1, Some(4000));
}

#[test]
fn we_close_with_a_code() {
    for (code, number) in [(CloseCode::Normal, 1000_u16), (CloseCode::Away, 1001), (CloseCode::Policy, 1008)] {
        let mut line = open();
        line.layers.close(code);
        line.layers.close(CloseCode::Protocol);
        assert!(line.layers.take_outgoing(&mut line.received));
        assert_eq!(line.received, [&[0x88, 2], &number.to_be_bytes()[..]].concat());
        assert!(!line.layers.take_outgoing(&mut line.received));
        assert!(line.send(MQTT).is_err());
    }
}

#[test]
fn of_a_flood_of_pings_the_newest_is_answered() {
    let mut line = open();
    let flood: Vec<u8> = (0..10_000_u32).flat_map(|number| frame(FIN | PING, &number.to_be_bytes())).collect();
    line.layers.receive(&flood, &mut line.mqtt).unwrap();
    line.layers.wrap(b"\xd0\0", &mut line.received);
    assert_eq!(line.received, [b"\x8a\x04\0\0\x27\x0f", &b"\x82\x02\xd0\0"[..]].concat());
}

#[test]
fn what_we_say_over_tls_is_a_frame_in_a_record() {
    let folder = Folder::new();
    let mut line = Line::to(&entrance(&folder.listener(ListenerKind::Wss)));
    let mut client = TlsClient::new(&folder.client(), "broker.example.org");
    client.say(&request("/mqtt", ""));
    client.talk(&mut line).unwrap();
    assert!(client.received.starts_with(b"HTTP/1.1 101 "));
    assert!(line.layers.is_complete());
    client.received.clear();
    line.layers.wrap(b"\xd0\0", &mut line.received);
    line.layers.close(CloseCode::Away);
    client.talk(&mut line).unwrap();
    assert_eq!(client.received, b"\x82\x02\xd0\0\x88\x02\x03\xe9");
    assert!(client.sees_the_end());
}

/// A client tells an end from an attack by the end of the TLS session.
#[test]
fn the_end_of_a_websocket_ends_its_tls_session() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Wss));
    for (bytes, code) in [(frame(FIN | TEXT, b"hello"), 1003_u16), (frame(FIN | CLOSE, b"\x03\xe8"), 1000)] {
        let mut line = Line::to(&entrance);
        let mut client = TlsClient::new(&folder.client(), "broker.example.org");
        client.say(&request("/mqtt", ""));
        client.talk(&mut line).unwrap();
        client.received.clear();
        client.say(&bytes);
        client.talk(&mut line).unwrap_err();
        assert_eq!(client.received, [&[0x88, 2], &code.to_be_bytes()[..]].concat());
        assert!(client.sees_the_end());
    }
}

#[test]
fn a_refusal_over_tls_arrives() {
    let folder = Folder::new();
    let mut line = Line::to(&entrance(&folder.listener(ListenerKind::Wss)));
    let mut client = TlsClient::new(&folder.client(), "broker.example.org");
    client.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(client.talk(&mut line), Err(Ended::Here(Broken::Http(_)))));
    assert!(client.received.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
    assert!(client.sees_the_end());
}

/// A session that breaks while something inside it waits to be answered takes the answer with it, and not the broker.
#[test]
fn what_waits_to_be_said_in_a_session_that_breaks_is_forgotten() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Wss));
    let no_record = [23, 3, 3, 0, 20].into_iter().chain([0; 20]);
    for last_words in
        [request("/mqtt", ""), request("/elsewhere", ""), [request("/mqtt", ""), frame(FIN | PING, b"1")].concat()]
    {
        let mut line = Line::to(&entrance);
        let mut client = TlsClient::new(&folder.client(), "broker.example.org");
        client.talk(&mut line).unwrap();
        client.say(&last_words);
        let mut bytes = Vec::new();
        client.tls.write_tls(&mut bytes).unwrap();
        bytes.extend(no_record.clone());
        assert!(matches!(line.layers.receive(&bytes, &mut line.mqtt), Err(Broken::Tls(_))));
        let mut out = Vec::new();
        line.layers.take_outgoing(&mut out);
        line.layers.wrap(b"\x20\x02\0\0", &mut out);
        line.layers.close(CloseCode::Normal);
        line.layers.take_outgoing(&mut out);
        assert!(!out.is_empty(), "the alert");
    }
}

/// Whichever byte of what comes at once is another one, the answer to the rest is made without harm.
#[test]
fn records_of_which_one_is_broken_may_come_in_one_piece() {
    let folder = Folder::new();
    let entrance = entrance(&folder.listener(ListenerKind::Wss));
    for at in (0..).step_by(7) {
        let mut line = Line::to(&entrance);
        let mut client = TlsClient::new(&folder.client(), "broker.example.org");
        client.talk(&mut line).unwrap();
        for record in
            [&request("/mqtt", "")[..], &frame(FIN | PING, b"1"), &frame(FIN | BINARY, MQTT), &frame(FIN | CLOSE, b"")]
        {
            client.say(record);
        }
        let mut bytes = Vec::new();
        while client.tls.wants_write() {
            client.tls.write_tls(&mut bytes).unwrap();
        }
        let Some(byte) = bytes.get_mut(at) else { break };
        *byte ^= 0x10;
        assert!(matches!(line.layers.receive(&bytes, &mut line.mqtt), Err(Broken::Tls(_))) || at < 5);
        let mut out = Vec::new();
        line.layers.wrap(b"\x20\x02\0\0", &mut out);
        line.layers.close(CloseCode::Normal);
        line.layers.take_outgoing(&mut out);
    }
}
