//! The toy broker's end of TLS and WebSocket, by the libraries that others wrote, over buffers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response, ServerHandshake};
use tungstenite::{Message, WebSocket};

/// How clients come to the toy broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entrance {
    /// A certificate for `localhost`, if there is TLS.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) has_web_socket: bool,
    /// Most bytes that are written at once.
    pub(crate) piece: Option<usize>,
    /// What it does wrong.
    pub(crate) fault: Option<Wrong>,
}

/// What an entrance does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The upgrade is refused.
    Forbids,
    /// The upgrade is granted, without the subprotocol.
    NoSubprotocol,
    /// MQTT comes in frames of text.
    Text,
    /// The WebSocket or the TLS session is closed in order, after the first packet from the broker.
    Closes,
}

/// A certificate, with the file that clients know it by.
#[derive(Debug)]
pub(crate) struct Certificate {
    config: Arc<ServerConfig>,
    pub(crate) file: PathBuf,
}

impl Certificate {
    /// A certificate for `localhost` in a file of its own.
    pub(crate) fn new(test: &str) -> Arc<Self> {
        let key = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = std::env::temp_dir().join(format!("loadgen-test-{}-{test}.pem", std::process::id()));
        std::fs::write(&file, key.cert.pem()).unwrap();
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"mqtt".to_vec(), b"http/1.1".to_vec()];
        Arc::new(Self { config: Arc::new(config), file })
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Entrance {
    /// What one connection goes through.
    pub(crate) fn enter(&self) -> Layers {
        let tls = self.certificate.as_ref().map(|it| {
            let mut tls = ServerConnection::new(Arc::clone(&it.config)).unwrap();
            tls.set_buffer_limit(None);
            tls
        });
        let pipe = Pipe::default();
        let web_socket = self.has_web_socket.then(|| accept(pipe.clone(), self.fault));
        Layers { tls, web_socket, pipe, fault: self.fault, outgoing: Vec::new() }
    }
}

/// What one connection goes through.
pub(crate) struct Layers {
    tls: Option<ServerConnection>,
    web_socket: Option<Socket>,
    pipe: Pipe,
    fault: Option<Wrong>,
    outgoing: Vec<u8>,
}

enum Socket {
    Shaking(Box<MidHandshake<ServerHandshake<Pipe, Judge>>>),
    Open(Box<WebSocket<Pipe>>),
    Refused,
}

fn accept(pipe: Pipe, fault: Option<Wrong>) -> Socket {
    shaken(tungstenite::accept_hdr(pipe, Judge(fault)))
}

fn shaken(result: Result<WebSocket<Pipe>, HandshakeError<ServerHandshake<Pipe, Judge>>>) -> Socket {
    match result {
        Ok(socket) => Socket::Open(Box::new(socket)),
        Err(HandshakeError::Interrupted(shaking)) => Socket::Shaking(Box::new(shaking)),
        Err(HandshakeError::Failure(_)) => Socket::Refused,
    }
}

impl Layers {
    /// Takes `bytes` from the socket, and appends what they hold of MQTT; says whether the connection goes on.
    pub(crate) fn receive(&mut self, mut bytes: &[u8], mqtt: &mut Vec<u8>) -> bool {
        if self.tls.is_none() {
            return self.receive_plain(bytes, mqtt);
        }
        while let Some(tls) = self.tls.as_mut().filter(|_| !bytes.is_empty()) {
            tls.read_tls(&mut bytes).unwrap();
            let mut plain = Vec::new();
            let is_well = tls.process_new_packets().is_ok_and(|state| !state.peer_has_closed());
            let _ = tls.reader().read_to_end(&mut plain);
            if !self.receive_plain(&plain, mqtt) || !is_well {
                return false;
            }
        }
        true
    }

    fn receive_plain(&mut self, plain: &[u8], mqtt: &mut Vec<u8>) -> bool {
        if self.web_socket.is_none() {
            mqtt.extend_from_slice(plain);
            return true;
        }
        self.pipe.0.borrow_mut().input.extend(plain);
        if let Some(Socket::Shaking(_)) = &self.web_socket
            && let Some(Socket::Shaking(shaking)) = self.web_socket.take()
        {
            self.web_socket = Some(shaken(shaking.handshake()));
        }
        match &mut self.web_socket {
            Some(Socket::Open(socket)) => loop {
                match socket.read() {
                    Ok(Message::Binary(bytes)) => mqtt.extend_from_slice(&bytes),
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return true,
                    _ => return false,
                }
            },
            Some(Socket::Shaking(_)) => true,
            _ => false,
        }
    }

    /// Takes `mqtt` to be sent; says whether the connection goes on.
    pub(crate) fn send(&mut self, mqtt: &[u8]) -> bool {
        match (&mut self.web_socket, &mut self.tls) {
            (Some(Socket::Open(socket)), _) if self.fault == Some(Wrong::Text) => {
                let _ = socket.send(Message::Text("MQTT".into()));
            }
            (Some(Socket::Open(socket)), _) => {
                // Something between the packets, and none of them whole.
                let _ = socket.send(Message::Ping(b"there?".to_vec().into()));
                for piece in mqtt.chunks(3.max(mqtt.len() / 2)) {
                    let _ = socket.send(Message::Binary(piece.to_vec().into()));
                }
            }
            (None, Some(tls)) => tls.writer().write_all(mqtt).unwrap(),
            _ => self.outgoing.extend_from_slice(mqtt),
        }
        if self.fault != Some(Wrong::Closes) {
            return true;
        }
        match (&mut self.web_socket, &mut self.tls) {
            (Some(Socket::Open(socket)), _) => drop(socket.close(None)),
            (_, Some(tls)) => tls.send_close_notify(),
            _ => {}
        }
        false
    }

    /// What the socket is to be given.
    pub(crate) fn take_outgoing(&mut self) -> Vec<u8> {
        let plain = std::mem::take(&mut self.pipe.0.borrow_mut().output);
        let Some(tls) = &mut self.tls else {
            self.outgoing.extend(plain);
            return std::mem::take(&mut self.outgoing);
        };
        tls.writer().write_all(&plain).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut self.outgoing).unwrap();
        }
        std::mem::take(&mut self.outgoing)
    }
}

/// Decides on an upgrade.
struct Judge(Option<Wrong>);

impl Callback for Judge {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let asks_for_mqtt = request.headers().get("sec-websocket-protocol").is_some_and(|value| value == "mqtt");
        if self.0 == Some(Wrong::Forbids) || request.uri().path() != "/mqtt" || !asks_for_mqtt {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = 403.try_into().unwrap();
            return Err(refusal);
        }
        if self.0 != Some(Wrong::NoSubprotocol) {
            response.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
        }
        Ok(response)
    }
}

/// A stream in memory.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Buffers>>);

#[derive(Default)]
struct Buffers {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.borrow_mut().input.read(into)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
