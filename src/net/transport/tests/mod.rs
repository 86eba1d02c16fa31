//! Clients in memory against the layers of a connection.

mod identity;
mod material;
mod pieces;
mod reload;
mod tls;
mod websocket;

use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::*;
use material::Folder;

/// A CONNECT of MQTT 3.1.1, an empty Client Identifier, and a PINGREQ: what the clients here have to say.
const MQTT: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0\xc0\0";

/// How the bytes of a client are cut on their way to us.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Nowhere,
    /// Before the byte with this number.
    At(usize),
    Everywhere,
}

/// A connection, seen from its client.
struct Line {
    layers: Box<Layers>,
    cut: Cut,
    /// The byte with this number arrives with other bits.
    flip: Option<(usize, u8)>,
    /// Bytes sent so far.
    sent: usize,
    /// What the layers made of them.
    mqtt: Vec<u8>,
    /// What came back.
    received: Vec<u8>,
}

impl Line {
    fn to(entrance: &Arc<Entrance>) -> Self {
        let layers = entrance.layers().expect("layers");
        Self { layers, cut: Cut::Nowhere, flip: None, sent: 0, mqtt: Vec::new(), received: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.layers.take_outgoing(&mut self.received);
        if bytes.is_empty() {
            return Ok(());
        }
        let mut bytes = bytes.to_vec();
        if let Some((at, bits)) = self.flip
            && let Some(byte) = at.checked_sub(self.sent).and_then(|at| bytes.get_mut(at))
        {
            *byte ^= bits;
        }
        let pieces: Vec<&[u8]> = match self.cut {
            Cut::Nowhere => vec![&bytes],
            Cut::At(at) => match at.checked_sub(self.sent).filter(|&at| at < bytes.len()) {
                Some(at) => vec![&bytes[..at], &bytes[at..]],
                None => vec![&bytes],
            },
            Cut::Everywhere => bytes.chunks(1).collect(),
        };
        self.sent += bytes.len();
        for piece in pieces {
            let result = self.layers.receive(piece, &mut self.mqtt);
            self.layers.take_outgoing(&mut self.received);
            result?;
        }
        Ok(())
    }

    fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }
}

/// How a TLS client fares.
#[derive(Debug)]
enum Ended {
    /// We ended the connection.
    Here(Broken),
    /// The client did.
    There(rustls::Error),
}

/// A TLS client.
struct TlsClient {
    tls: ClientConnection,
    /// What came to it, out of TLS.
    received: Vec<u8>,
}

impl TlsClient {
    fn new(config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = String::from(name).try_into().unwrap();
        Self { tls: ClientConnection::new(Arc::clone(config), name).unwrap(), received: Vec::new() }
    }

    fn say(&mut self, bytes: &[u8]) {
        std::io::Write::write_all(&mut self.tls.writer(), bytes).unwrap();
    }

    /// Exchanges bytes until neither side has any.
    fn talk(&mut self, line: &mut Line) -> Result<(), Ended> {
        loop {
            let mut bytes = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut bytes).unwrap();
            }
            let result = line.send(&bytes);
            let answer = line.take_received();
            let mut rest = &answer[..];
            while !rest.is_empty() {
                if self.tls.read_tls(&mut rest).unwrap() == 0 {
                    break; // After the end of the session.
                }
                self.tls.process_new_packets().map_err(Ended::There)?;
                let _ = std::io::Read::read_to_end(&mut self.tls.reader(), &mut self.received);
            }
            result.map_err(Ended::Here)?;
            if !self.tls.wants_write() && answer.is_empty() {
                return Ok(());
            }
        }
    }

    /// A client that connects and says what it has to say; what that became is in the line.
    fn connect(config: &Arc<ClientConfig>, entrance: &Arc<Entrance>) -> Result<(Self, Line), Ended> {
        let mut line = Line::to(entrance);
        let mut client = Self::new(config, "broker.example.org");
        client.say(MQTT);
        client.talk(&mut line)?;
        assert!(line.layers.is_complete());
        assert_eq!(line.mqtt, MQTT);
        Ok((client, line))
    }

    /// Whether we have ended the session in order.
    fn sees_the_end(&mut self) -> bool {
        self.tls.process_new_packets().unwrap().peer_has_closed()
    }

    fn kind(&self) -> Option<HandshakeKind> {
        self.tls.handshake_kind()
    }
}

fn entrance(listener: &Listener) -> Arc<Entrance> {
    Arc::new(Entrance::new(listener, 1024 * 1024).unwrap())
}

#[test]
fn plain_bytes_have_no_layers() {
    for kind in [ListenerKind::Tcp, ListenerKind::Unix] {
        assert!(entrance(&Listener { kind, ..Listener::default() }).layers().is_none());
    }
}

#[test]
fn proxy_before_tls_is_handled_where_tls_is() {
    let folder = Folder::new();
    let mut listener = folder.listener(ListenerKind::Tls);
    listener.proxy_protocol = true;
    let mut line = Line::to(&entrance(&listener));
    assert!(line.layers.is_costly());
    assert!(!line.layers.is_complete());
    line.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 8883\r\n").unwrap();
    assert_eq!(line.layers.source(), Some("192.0.2.7:40000".parse().unwrap()));
    assert!(line.layers.is_costly());
    let mut client = TlsClient::new(&folder.client(), "broker.example.org");
    client.say(MQTT);
    client.talk(&mut line).unwrap();
    assert!(line.layers.is_complete() && !line.layers.is_costly());
    assert_eq!(line.mqtt, MQTT);
}

#[test]
fn proxy_alone_costs_nothing_and_gives_a_common_name() {
    let listener = Listener { proxy_protocol: true, ..Listener::default() };
    let mut line = Line::to(&entrance(&listener));
    assert!(!line.layers.is_costly() && !line.layers.is_complete());
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x1d".to_vec();
    header.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x9C, 0x40, 0x22, 0xB3]);
    header.extend(b"\x20\0\x0e\x03\0\0\0\0\x22\0\x06camera");
    line.send(&[&header, MQTT].concat()).unwrap();
    assert!(line.layers.is_complete());
    assert_eq!(line.mqtt, MQTT);
    assert_eq!(line.layers.certificate().unwrap().field("cert.cn"), Some("camera"));
    let mut out = Vec::new();
    line.layers.wrap(b"\x20\x02\0\0", &mut out);
    assert_eq!(out, b"\x20\x02\0\0");
}

#[test]
fn without_a_header_there_is_no_connection() {
    let listener = Listener { proxy_protocol: true, ..Listener::default() };
    let mut line = Line::to(&entrance(&listener));
    assert!(matches!(line.send(MQTT), Err(Broken::Proxy(_))));
    assert!(line.mqtt.is_empty());
    assert!(matches!(line.send(MQTT), Err(Broken::Closed)), "it does not go on");
}
