//! How a client reaches the broker: over TCP as it is, in TLS, in WebSocket frames, or in both.

use super::PATIENCE;
use super::certificates::{self, Owner};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// What lies between the socket and MQTT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    pub(crate) has_tls: bool,
    /// The certificate that the client shows, where it is asked for one.
    pub(crate) owner: Option<Owner>,
    pub(crate) has_websocket: bool,
}

pub(crate) const TCP: Way = Way { has_tls: false, owner: None, has_websocket: false };
pub(crate) const TLS: Way = Way { has_tls: true, ..TCP };
pub(crate) const WS: Way = Way { has_websocket: true, ..TCP };
pub(crate) const WSS: Way = Way { has_tls: true, ..WS };

pub(crate) struct Stream {
    pipe: Pipe,
    frames: Option<Frames>,
}

enum Pipe {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// WebSocket frames as a client sees them (RFC 6455).
#[derive(Default)]
struct Frames {
    /// From the server, not taken apart yet.
    raw: Vec<u8>,
    /// Payloads that nobody has read.
    payload: Vec<u8>,
    /// The code of the server's close frame, once there was one.
    closed: Option<u16>,
    /// Payloads of its pongs.
    pongs: Vec<Vec<u8>>,
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Self { pipe: Pipe::Tcp(tcp), frames: None }
    }

    /// Shakes hands as far as it takes, and fails where the server does not.
    pub(crate) fn dial(address: SocketAddr, way: Way) -> Self {
        let tcp = TcpStream::connect(address).expect("the broker accepts connections");
        Self::over(tcp, way).expect("the server shakes hands")
    }

    /// The same over a connection that is there already.
    pub(crate) fn over(tcp: TcpStream, way: Way) -> io::Result<Self> {
        tcp.set_read_timeout(Some(PATIENCE))?;
        let mut pipe = match way.has_tls {
            false => Pipe::Tcp(tcp),
            true => {
                let name = ServerName::try_from("localhost").unwrap();
                let session = ClientConnection::new(certificates::client(way.owner), name).unwrap();
                let mut tls = Box::new(StreamOwned::new(session, tcp));
                while tls.conn.is_handshaking() {
                    tls.conn.complete_io(&mut tls.sock)?;
                }
                Pipe::Tls(tls)
            }
        };
        let mut frames = None;
        if way.has_websocket {
            frames = Some(Frames { raw: upgrade(&mut pipe)?, ..Frames::default() });
        }
        Ok(Self { pipe, frames })
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.pipe {
            Pipe::Tcp(tcp) => tcp,
            Pipe::Tls(tls) => &tls.sock,
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.tcp().set_read_timeout(timeout)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.tcp().shutdown(how)
    }

    /// Ends the TLS session, but not the connection.
    pub(crate) fn close_notify(&mut self) {
        let Pipe::Tls(tls) = &mut self.pipe else { panic!("this is no TLS") };
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    }

    /// Sends one frame.
    pub(crate) fn frame(&mut self, opcode: u8, payload: &[u8]) {
        self.pipe.write_all(&encode(0x80 | opcode, payload)).unwrap();
        self.pipe.flush().unwrap();
    }

    /// The code of the server's close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.frames.as_ref()?.closed
    }

    /// What the server has answered to pings.
    pub(crate) fn pongs(&self) -> &[Vec<u8>] {
        self.frames.as_ref().map_or(&[], |frames| &frames.pongs)
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(frames) = &mut self.frames else { return self.pipe.read(buffer) };
        while frames.payload.is_empty() {
            if frames.take_one() {
                continue;
            }
            let mut chunk = [0; 16 * 1024];
            match self.pipe.read(&mut chunk)? {
                0 => return Ok(0),
                count => frames.raw.extend_from_slice(&chunk[..count]),
            }
        }
        let count = buffer.len().min(frames.payload.len());
        buffer[..count].copy_from_slice(&frames.payload[..count]);
        frames.payload.drain(..count);
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.frames {
            None => self.pipe.write(bytes),
            Some(_) => {
                self.pipe.write_all(&encode(0x82, bytes))?;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

impl Frames {
    /// Takes one frame apart, if there is a whole one.
    fn take_one(&mut self) -> bool {
        let raw = &self.raw;
        if raw.len() < 2 {
            return false;
        }
        assert_eq!(raw[1] & 0x80, 0, "a server does not mask");
        let (length, header) = match raw[1] {
            126 if raw.len() >= 4 => (usize::from(u16::from_be_bytes([raw[2], raw[3]])), 4),
            127 if raw.len() >= 10 => (u64::from_be_bytes(raw[2..10].try_into().unwrap()) as usize, 10),
            126 | 127 => return false,
            short => (usize::from(short), 2),
        };
        if raw.len() < header + length {
            return false;
        }
        let first = raw[0];
        let payload = raw[header..header + length].to_vec();
        self.raw.drain(..header + length);
        match first & 0x0F {
            0 | 2 => self.payload.extend(payload),
            8 => self.closed = Some(payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))),
            10 => self.pongs.push(payload),
            opcode => panic!("unexpected frame {opcode}"),
        }
        true
    }
}

/// A frame of a client, which is masked.
fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        middle @ ..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Asks for a WebSocket; what came behind the answer.
fn upgrade(pipe: &mut Pipe) -> io::Result<Vec<u8>> {
    pipe.write_all(
        b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
    )?;
    pipe.flush()?;
    let mut answer = Vec::new();
    loop {
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).into_owned();
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
            return Ok(answer.split_off(end + 4));
        }
        let mut chunk = [0; 1024];
        match pipe.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&chunk[..count]),
        }
    }
}
