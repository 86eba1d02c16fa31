//! The layers of a client against servers that others wrote, in memory: whatever the pieces are that bytes come in.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};

use super::*;

/// A certificate for this name, and the file that it is in.
struct Certificate {
    key: CertifiedKey<rcgen::KeyPair>,
    file: PathBuf,
}

impl Certificate {
    fn of(name: &str, test: &str) -> Self {
        let key = generate_simple_self_signed([name.to_owned()]).unwrap();
        let file = std::env::temp_dir().join(format!("loadgen-unit-{}-{test}.pem", std::process::id()));
        std::fs::write(&file, key.cert.pem()).unwrap();
        Self { key, file }
    }

    fn config(&self) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.key.signing_key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.key.cert.der().clone()], key)
            .unwrap()
    }

    fn server(&self) -> ServerConnection {
        ServerConnection::new(Arc::new(self.config())).unwrap()
    }

    fn settings(&self) -> TlsSettings<'_> {
        TlsSettings { authorities: Some(&self.file), name: "localhost", ..TlsSettings::default() }
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn transport(kind: TransportKind, settings: &TlsSettings<'_>) -> Transport {
    Transport::new(kind, "127.0.0.1:8883".parse().unwrap(), "/mqtt", settings).unwrap()
}

fn layers(kind: TransportKind, settings: &TlsSettings<'_>) -> Box<Layers> {
    transport(kind, settings).layers().unwrap().unwrap()
}

/// What the client has to send, taken in pieces of `piece` bytes.
fn taken(layers: &mut Layers, piece: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !layers.unsent().is_empty() {
        let count = layers.unsent().len().min(piece);
        bytes.extend_from_slice(&layers.unsent()[..count]);
        layers.advance(count);
    }
    bytes
}

/// Hands `bytes` to the client in pieces of `piece` bytes.
fn give(layers: &mut Layers, bytes: &[u8], piece: usize) -> Result<Vec<u8>, Broken> {
    let mut mqtt = Vec::new();
    bytes.chunks(piece).try_for_each(|chunk| layers.receive(chunk, &mut mqtt))?;
    Ok(mqtt)
}

/// Lets both sides talk until neither has anything to say; gives what the client heard of MQTT.
fn talk(layers: &mut Layers, server: &mut ServerConnection, piece: usize) -> Result<Vec<u8>, Broken> {
    let mut heard = Vec::new();
    loop {
        let from_client = taken(layers, piece);
        for mut chunk in from_client.chunks(piece) {
            while !chunk.is_empty() {
                server.read_tls(&mut chunk).unwrap();
            }
            let _ = server.process_new_packets(); // What it objects to, it says by an alert.
        }
        let mut from_server = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut from_server).unwrap();
        }
        if from_client.is_empty() && from_server.is_empty() {
            return Ok(heard);
        }
        heard.extend(give(layers, &from_server, piece)?);
    }
}

/// What the server has deciphered.
fn deciphered(server: &mut ServerConnection) -> Vec<u8> {
    let mut plain = Vec::new();
    let _ = server.reader().read_to_end(&mut plain); // WouldBlock is the end of what there is.
    plain
}

/// A good answer to the upgrade that `request` asks for.
fn answer(request: &[u8]) -> Vec<u8> {
    let request = std::str::from_utf8(request).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    .into_bytes()
}

fn formatted(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}

fn data(payload: &[u8], kind: Data, is_final: bool) -> Vec<u8> {
    formatted(Frame::message(payload.to_vec(), OpCode::Data(kind), is_final))
}

/// The frames of a client: what each is, and its payload without the mask.
fn frames(mut bytes: &[u8]) -> Vec<(OpCode, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let mut cursor = std::io::Cursor::new(bytes);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let from = cursor.position() as usize;
        let mask = header.mask.expect("a client masks");
        let payload = bytes[from..from + length as usize].iter().zip(mask.iter().cycle());
        frames.push((header.opcode, payload.map(|(byte, mask)| byte ^ mask).collect()));
        bytes = &bytes[from + length as usize..];
    }
    frames
}

/// A WebSocket that is open, in the clear.
fn open_web_socket(piece: usize) -> Box<Layers> {
    let mut layers = layers(TransportKind::Ws, &TlsSettings::default());
    let request = taken(&mut layers, piece);
    assert!(request.starts_with(b"GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1:8883\r\n"));
    assert!(!layers.is_complete() && layers.missing().unwrap().contains("upgrade"));
    assert_eq!(give(&mut layers, &answer(&request), piece), Ok(vec![]));
    assert!(layers.is_complete() && layers.missing().is_none());
    layers
}

/// Sizes of the pieces that bytes come in.
const PIECES: [usize; 4] = [1, 3, 1000, usize::MAX];

#[test]
fn tcp_has_no_layers() {
    assert!(transport(TransportKind::Tcp, &TlsSettings::default()).layers().unwrap().is_none());
}

#[test]
fn tls_carries_mqtt_both_ways_whatever_the_pieces() {
    let certificate = Certificate::of("localhost", "tls");
    let large = vec![7; 100_000];
    for piece in PIECES {
        let (mut server, mut client) = (certificate.server(), layers(TransportKind::Tls, &certificate.settings()));
        let mut early = b"CONNECT".to_vec();
        client.wrap(&mut early);
        assert_eq!(early, b"CONNECT", "it waits for the handshake");
        assert_eq!(talk(&mut client, &mut server, piece), Ok(vec![]));
        assert!(client.is_complete());
        assert_eq!(client.is_resumed(), Some(false));
        for mqtt in [&early, &large] {
            client.wrap(&mut mqtt.clone());
            server.set_buffer_limit(None);
            server.writer().write_all(mqtt).unwrap();
            let mut received = Vec::new();
            let heard = talk_and_read(&mut client, &mut server, piece, &mut received);
            assert!(heard == *mqtt && received == *mqtt, "in pieces of {piece}");
        }
    }
}

/// As [`talk`], where the server reads meanwhile.
fn talk_and_read(client: &mut Layers, server: &mut ServerConnection, piece: usize, received: &mut Vec<u8>) -> Vec<u8> {
    let mut sent = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut sent).unwrap();
    }
    for mut chunk in taken(client, piece).chunks(piece) {
        while !chunk.is_empty() {
            server.read_tls(&mut chunk).unwrap();
            server.process_new_packets().unwrap();
            received.extend(deciphered(server));
        }
    }
    give(client, &sent, piece).unwrap()
}

#[test]
fn the_certificate_is_checked_unless_any_will_do() {
    let (good, other) = (Certificate::of("localhost", "good"), Certificate::of("example.org", "other"));
    for (server, settings) in [
        (&other, good.settings()),  // Nobody trusts it.
        (&other, other.settings()), // It is for another name.
    ] {
        let mut client = layers(TransportKind::Tls, &settings);
        let broken = talk(&mut client, &mut server.server(), usize::MAX).unwrap_err();
        assert!(broken.cause.contains("certificate does not hold") && !broken.is_violation, "{broken}");
        assert!(!client.unsent().is_empty(), "an alert says why");
    }
    let mut client =
        layers(TransportKind::Tls, &TlsSettings { accepts_any: true, name: "x", ..TlsSettings::default() });
    assert_eq!(talk(&mut client, &mut other.server(), usize::MAX), Ok(vec![]));
    assert!(client.is_complete());
}

#[test]
fn a_client_shows_its_certificate() {
    let (certificate, own) = (Certificate::of("localhost", "shown"), Certificate::of("me", "own"));
    let key = own.file.with_extension("key");
    std::fs::write(&key, own.key.signing_key.serialize_pem()).unwrap();
    let settings = TlsSettings { identity: Some((&own.file, &key)), ..certificate.settings() };

    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.key.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = || {
        let key = PrivateKeyDer::try_from(certificate.key.signing_key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.clone().build().unwrap())
            .with_single_cert(vec![certificate.key.cert.der().clone()], key)
            .unwrap()
    };
    let server = || ServerConnection::new(Arc::new(config())).unwrap();
    let (mut client, mut asking) = (layers(TransportKind::Tls, &settings), server());
    assert_eq!(talk(&mut client, &mut asking, usize::MAX), Ok(vec![]));
    assert_eq!(asking.peer_certificates().unwrap()[0], *own.key.cert.der());

    let broken = talk(&mut layers(TransportKind::Tls, &certificate.settings()), &mut server(), usize::MAX).unwrap_err();
    assert!(broken.cause.contains("refused the connection (CertificateRequired)"), "{broken}");
    std::fs::remove_file(key).unwrap();
}

#[test]
fn sessions_are_resumed_where_it_is_asked_for() {
    let certificate = Certificate::of("localhost", "resume");
    for resumes in [true, false] {
        let config = Arc::new(certificate.config());
        let transport = transport(TransportKind::Tls, &TlsSettings { resumes, ..certificate.settings() });
        let connect = || {
            let mut client = transport.layers().unwrap().unwrap();
            let mut server = ServerConnection::new(Arc::clone(&config)).unwrap();
            talk(&mut client, &mut server, usize::MAX).unwrap();
            client.is_resumed()
        };
        assert_eq!(connect(), Some(false));
        assert_eq!(connect(), Some(resumes));
        assert_eq!(connect(), Some(resumes));
    }
}

#[test]
fn the_end_of_tls_is_told_apart_from_nonsense() {
    let certificate = Certificate::of("localhost", "ends");
    let (mut server, mut client) = (certificate.server(), layers(TransportKind::Tls, &certificate.settings()));
    talk(&mut client, &mut server, usize::MAX).unwrap();
    server.send_close_notify();
    let broken = talk(&mut client, &mut server, 1).unwrap_err();
    assert_eq!(broken, Broken::ended("closed by the broker"));

    let mut client = layers(TransportKind::Tls, &certificate.settings());
    let broken = give(&mut client, b"\x20\x02\x00\x00 is a CONNACK", usize::MAX).unwrap_err();
    assert!(broken.is_violation && broken.cause.contains("does the broker speak TLS"), "{broken}");
}

#[test]
fn a_client_says_goodbye() {
    let certificate = Certificate::of("localhost", "goodbye");
    let (mut server, mut client) = (certificate.server(), layers(TransportKind::Tls, &certificate.settings()));
    talk(&mut client, &mut server, usize::MAX).unwrap();
    client.close();
    let mut bytes = &taken(&mut client, usize::MAX)[..];
    server.read_tls(&mut bytes).unwrap();
    assert!(server.process_new_packets().unwrap().peer_has_closed());

    let mut client = open_web_socket(usize::MAX);
    client.close();
    let close = (OpCode::Control(Control::Close), 1000_u16.to_be_bytes().to_vec());
    assert_eq!(frames(&taken(&mut client, usize::MAX)), [close]);
}

#[test]
fn frames_carry_mqtt_both_ways_whatever_the_pieces() {
    let large: Vec<u8> = (0..70_000).map(|number: u32| number as u8).collect();
    for piece in PIECES {
        let mut client = open_web_socket(piece);
        let incoming = [
            data(b"ab", Data::Binary, true),
            data(b"c", Data::Binary, false),
            formatted(Frame::ping(b"there?".to_vec())),
            data(b"", Data::Continue, false),
            data(b"d", Data::Continue, true),
            formatted(Frame::pong(b"".to_vec())),
            data(&large, Data::Binary, true),
        ];
        let heard = give(&mut client, &incoming.concat(), piece).unwrap();
        assert_eq!(heard, [b"abcd", &large[..]].concat(), "in pieces of {piece}");
        let pong = (OpCode::Control(Control::Pong), b"there?".to_vec());
        assert_eq!(frames(&taken(&mut client, piece)), [pong]);

        let mut mqtt = large.clone();
        client.wrap(&mut mqtt);
        assert!(mqtt.is_empty());
        let sent = frames(&taken(&mut client, piece));
        assert!(sent.len() > 1 && sent.iter().all(|(opcode, _)| *opcode == OpCode::Data(Data::Binary)));
        assert_eq!(sent.into_iter().flat_map(|(_, payload)| payload).collect::<Vec<_>>(), large);
    }
}

#[test]
fn frames_may_come_with_the_answer_to_the_upgrade() {
    let mut client = layers(TransportKind::Ws, &TlsSettings::default());
    let request = taken(&mut client, usize::MAX);
    let bytes = [answer(&request), data(b"early", Data::Binary, true)].concat();
    assert_eq!(give(&mut client, &bytes, usize::MAX).unwrap(), b"early");
}

#[test]
fn a_refused_upgrade_is_told_with_its_status() {
    for (reply, expected, is_violation) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404 Not Found to the upgrade of /mqtt", false),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "not in HTTP", true),
        ("HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: x\r\n\r\n", "Accept", true),
    ] {
        let mut client = layers(TransportKind::Ws, &TlsSettings::default());
        taken(&mut client, usize::MAX);
        let broken = give(&mut client, reply.as_bytes(), 7).unwrap_err();
        assert!(broken.cause.contains(expected) && broken.is_violation == is_violation, "{broken}");
    }
    let mut client = layers(TransportKind::Ws, &TlsSettings::default());
    let request = taken(&mut client, usize::MAX);
    let other = String::from_utf8(answer(&request)).unwrap().replace("Protocol: mqtt", "Protocol: chat");
    assert!(give(&mut client, other.as_bytes(), 7).unwrap_err().cause.contains("subprotocol"));

    let mut client = layers(TransportKind::Ws, &TlsSettings::default());
    let endless = format!("HTTP/1.1 101 x\r\nX: {}", "x".repeat(10_000));
    assert!(give(&mut client, endless.as_bytes(), 1000).unwrap_err().cause.contains("does not end"));
}

#[test]
fn what_a_broker_must_not_send_is_a_violation() {
    let masked = {
        let mut frame = Frame::message(b"x".to_vec(), OpCode::Data(Data::Binary), true);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        formatted(frame)
    };
    let extended = {
        let mut frame = Frame::message(b"x".to_vec(), OpCode::Data(Data::Binary), true);
        frame.header_mut().rsv1 = true;
        formatted(frame)
    };
    for (bytes, expected) in [
        (data(b"x", Data::Text, true), "not binary"),
        (data(b"x", Data::Continue, true), "continues nothing"),
        ([data(b"x", Data::Binary, false), data(b"y", Data::Binary, true)].concat(), "inside another"),
        (masked, "masked"),
        (extended, "extension"),
        (vec![0x89, 126, 0, 126], "control frame"),
        (vec![0x09, 0], "control frame"),
    ] {
        for piece in [1, usize::MAX] {
            let broken = give(&mut open_web_socket(usize::MAX), &bytes, piece).unwrap_err();
            assert!(broken.is_violation && broken.cause.contains(expected), "{broken}");
        }
    }
}

#[test]
fn a_close_is_answered_and_told() {
    for piece in PIECES {
        let mut client = open_web_socket(piece);
        let close = CloseFrame { code: 1008.into(), reason: "not you".into() };
        let broken = give(&mut client, &formatted(Frame::close(Some(close))), piece).unwrap_err();
        assert_eq!(broken, Broken::ended("closed by the broker (WebSocket, code 1008, not you)"));
        assert!(matches!(frames(&taken(&mut client, piece))[..], [(OpCode::Control(Control::Close), _)]));
    }
}

#[test]
fn a_web_socket_goes_through_tls() {
    let certificate = Certificate::of("localhost", "wss");
    for piece in PIECES {
        let (mut server, mut client) = (certificate.server(), layers(TransportKind::Wss, &certificate.settings()));
        talk(&mut client, &mut server, piece).unwrap();
        assert!(!client.is_complete());
        let request = deciphered(&mut server);
        assert!(String::from_utf8_lossy(&request).contains("\r\nHost: localhost:8883\r\n"));
        server.writer().write_all(&[answer(&request), data(b"ab", Data::Binary, true)].concat()).unwrap();
        assert_eq!(talk(&mut client, &mut server, piece).unwrap(), b"ab");
        let mut mqtt = b"CONNECT".to_vec();
        client.wrap(&mut mqtt);
        server.writer().write_all(&formatted(Frame::ping(b"?".to_vec()))).unwrap();
        talk(&mut client, &mut server, piece).unwrap();
        let (binary, pong) = (OpCode::Data(Data::Binary), OpCode::Control(Control::Pong));
        assert_eq!(frames(&deciphered(&mut server)), [(binary, b"CONNECT".to_vec()), (pong, b"?".to_vec())]);
        client.close();
        talk(&mut client, &mut server, piece).unwrap();
        assert!(matches!(frames(&deciphered(&mut server))[..], [(OpCode::Control(Control::Close), _)]));
    }
}

#[test]
fn files_that_do_not_serve_are_told_by_their_option() {
    let certificate = Certificate::of("localhost", "files");
    let missing = Path::new("/no/such/file");
    let mistakes = [
        (TlsSettings { authorities: Some(missing), ..certificate.settings() }, "--ca"),
        (TlsSettings { authorities: Some(Path::new("/dev/null")), ..certificate.settings() }, "--ca"),
        (TlsSettings { identity: Some((missing, missing)), ..certificate.settings() }, "--cert"),
        (TlsSettings { identity: Some((&certificate.file, missing)), ..certificate.settings() }, "--key"),
        (TlsSettings { name: "no name", ..certificate.settings() }, "--tls-name"),
    ];
    for (settings, option) in mistakes {
        let address = "127.0.0.1:8883".parse().unwrap();
        let error = Transport::new(TransportKind::Tls, address, "/mqtt", &settings).unwrap_err();
        assert!(format!("{error:#}").starts_with(option), "{error:#}");
    }
}
