//! What MQTT goes over: TCP, TLS, WebSocket, or WebSocket in TLS. The client's halves are those of others.

use super::{Broker, Client, Connect, PATIENCE, certificates, unique};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::{Error, Message, WebSocket};

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// All kinds, in the order of the listeners of a broker that has them all.
pub(crate) const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss];

impl Kind {
    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    pub(crate) fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// A listener of this kind, with these settings besides.
    pub(crate) fn listener(self, settings: &str) -> String {
        let kind = format!("{self:?}").to_lowercase();
        let files = match self.has_tls() {
            true => format!(
                "certificates = [{:?}]\nkeys = [{:?}]\n",
                certificates::folder().join("server.pem"),
                certificates::folder().join("server.key")
            ),
            false => String::new(),
        };
        format!("[[listeners]]\nkind = {kind:?}\naddress = \"127.0.0.1:0\"\n{files}{settings}\n")
    }
}

/// A broker with a listener of each kind, in the order of [`KINDS`], and those who reach it there.
impl Broker {
    /// With these settings besides, and the listener of the harness.
    pub(crate) fn of_all_kinds(settings: &str) -> Self {
        Self::start(&format!("{settings}\n{}", KINDS.map(|kind| kind.listener("")).concat()))
    }

    /// A client whose handshakes are done, and that has said nothing.
    pub(crate) fn open_over(&self, kind: Kind) -> Client {
        Client::open_over(kind, self.addresses[kind as usize], 5)
    }

    /// Connects, and fails unless the server accepts.
    pub(crate) fn connect_over(&self, kind: Kind, connect: &Connect) -> Client {
        let mut client = self.open_over(kind);
        assert_eq!(client.try_connect(connect), Some(0), "{kind:?}");
        client
    }

    pub(crate) fn client_over(&self, kind: Kind) -> Client {
        self.connect_over(kind, &Connect::v5(&unique("c")))
    }

    /// A connection without any handshake.
    pub(crate) fn socket_to(&self, kind: Kind) -> TcpStream {
        let socket = TcpStream::connect(self.addresses[kind as usize]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

/// TLS clients that trust the authority of the tests, and show a certificate of it if asked to.
pub(crate) fn tls_clients(has_certificate: bool) -> Arc<ClientConfig> {
    let read = |name: &str| fs::read(certificates::folder().join(name)).unwrap();
    let builder = trusting(CertificateDer::from_pem_slice(&read("ca.pem")).unwrap());
    Arc::new(match has_certificate {
        false => builder.with_no_client_auth(),
        true => {
            let certificate = CertificateDer::from_pem_slice(&read("client.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&read("client.key")).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    })
}

/// TLS clients that trust this authority alone.
pub(crate) fn tls_clients_of(authority: CertificateDer<'static>) -> Arc<ClientConfig> {
    Arc::new(trusting(authority).with_no_client_auth())
}

fn trusting(authority: CertificateDer<'static>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots)
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// The client's end of a Network Connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Ws(Box<Messages<TcpStream>>),
    Wss(Box<Messages<Tls>>),
}

impl Stream {
    /// Connects, with all handshakes.
    pub(crate) fn connect(kind: Kind, address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the broker accepts connections");
        Self::over(kind, socket, &tls_clients(false)).expect("the handshakes succeed")
    }

    /// Does all handshakes of this kind over `socket`.
    pub(crate) fn over(kind: Kind, socket: TcpStream, clients: &Arc<ClientConfig>) -> Result<Self, Error> {
        Ok(match kind {
            Kind::Tcp => Self::Tcp(socket),
            Kind::Tls => Self::Tls(Box::new(tls_over(socket, clients)?)),
            Kind::Ws => Self::Ws(Box::new(Messages::over(socket)?)),
            Kind::Wss => Self::Wss(Box::new(Messages::over(tls_over(socket, clients)?)?)),
        })
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(tls) => &tls.sock,
            Self::Ws(messages) => messages.socket.get_ref(),
            Self::Wss(messages) => &messages.socket.get_ref().sock,
        }
    }

    /// Ends the innermost layer in order, and leaves the connection open.
    pub(crate) fn end_layer(&mut self) {
        match self {
            Self::Tcp(_) => {}
            Self::Tls(tls) => {
                tls.conn.send_close_notify();
                tls.flush().unwrap();
            }
            Self::Ws(messages) => messages.socket.close(None).unwrap(),
            Self::Wss(messages) => messages.socket.close(None).unwrap(),
        }
    }

    /// Sends a message that is no MQTT.
    pub(crate) fn send_message(&mut self, message: Message) {
        match self {
            Self::Tcp(_) | Self::Tls(_) => panic!("there are no messages without WebSocket"),
            Self::Ws(messages) => messages.socket.send(message).unwrap(),
            Self::Wss(messages) => messages.socket.send(message).unwrap(),
        }
    }

    /// The code of the close frame that the server has sent, once the connection is at its end.
    pub(crate) fn close_code(&self) -> Option<u16> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => None,
            Self::Ws(messages) => messages.close_code,
            Self::Wss(messages) => messages.close_code,
        }
    }
}

fn tls_over(socket: TcpStream, clients: &Arc<ClientConfig>) -> Result<Tls, Error> {
    let name = socket.peer_addr().map_err(Error::Io)?.ip().into();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(clients), name).unwrap(), socket);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(into),
            // It fails where the connection ends without the end of the session, which is a fault of ours.
            Self::Tls(tls) => tls.read(into),
            Self::Ws(messages) => messages.read(into),
            Self::Wss(messages) => messages.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
            Self::Ws(messages) => messages.write(bytes),
            Self::Wss(messages) => messages.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.flush(),
            Self::Tls(tls) => tls.flush(),
            Self::Ws(_) | Self::Wss(_) => Ok(()), // A message is sent when it is written.
        }
    }
}

/// The binary messages of a WebSocket as a stream of bytes.
pub(crate) struct Messages<S> {
    socket: WebSocket<S>,
    /// What of the last message was not read yet.
    left: Vec<u8>,
    close_code: Option<u16>,
}

impl<S: Read + Write> Messages<S> {
    fn over(stream: S) -> Result<Self, Error> {
        let mut request = "ws://127.0.0.1/mqtt".into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().unwrap());
        let (socket, response) = tungstenite::client(request, stream).map_err(|error| match error {
            tungstenite::HandshakeError::Failure(error) => error,
            tungstenite::HandshakeError::Interrupted(_) => panic!("the sockets of the tests block"),
        })?;
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt"); // [MQTT-6.0.0-4]
        Ok(Self { socket, left: Vec::new(), close_code: None })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.left = bytes.into(),
                Ok(Message::Close(frame)) => self.close_code = frame.map(|frame| frame.code.into()),
                Ok(Message::Text(text)) => panic!("the server sent text: {text}"), // [MQTT-6.0.0-1]
                Ok(_) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Ok(0),
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return Ok(0),
                Err(Error::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
        let count = self.left.len().min(into.len());
        into[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.socket.send(Message::binary(bytes.to_vec())) {
            Ok(()) => Ok(bytes.len()),
            Err(Error::Io(error)) => Err(error),
            Err(error) => Err(io::Error::new(ErrorKind::BrokenPipe, error)),
        }
    }
}
