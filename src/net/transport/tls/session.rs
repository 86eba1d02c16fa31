//! TLS on one connection.

use std::fmt;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::{ServerConfig, ServerConnection};
use rustls::{Error, HandshakeKind, InvalidMessage};

use crate::net::transport::Broken;
use crate::net::transport::certificate::{PeerCertificate, ServerNames};

/// TLS on one connection, from the handshake to the end.
///
/// What rustls has to send lies in it until the next call takes it out.
pub(in crate::net::transport) struct Tls {
    connection: Box<ServerConnection>,
    /// How the connection begins, for a clear word to whoever does not speak TLS at all.
    first_byte: Option<u8>,
    /// What the client has shown, until it is asked for.
    certificate: Option<PeerCertificate>,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        // It fails for a max_fragment_size out of range, which we never set, and without random numbers, which the system has had
        // since the listener's keys for tickets were made.
        let mut connection = ServerConnection::new(config).expect("a configuration that was checked when it was made");
        // What waits to be sent is bounded by limits.output_bytes_max before it comes here; what rustls would not take would be lost.
        connection.set_buffer_limit(None);
        Self { connection: Box::new(connection), first_byte: None, certificate: None }
    }

    pub(in crate::net::transport) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes bytes from the socket, and hands on what was in them.
    pub(in crate::net::transport) fn receive(
        &mut self,
        mut bytes: &[u8],
        inner: &mut dyn FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.first_byte = self.first_byte.or_else(|| bytes.first().copied());
        let mut was_handshaking = self.is_handshaking();
        while !bytes.is_empty() {
            // It takes a few KiB at a time, and no more than it has room for.
            match self.connection.read_tls(&mut bytes) {
                Ok(0) => return Err(Broken::Closed), // It takes nothing after the end of the session.
                Ok(_) => {}
                Err(error) => return Err(self.broken(Error::General(error.to_string()))),
            }
            let state = self.connection.process_new_packets().map_err(|error| self.broken(error));
            if was_handshaking && !self.is_handshaking() {
                was_handshaking = false;
                // Before anything of it is handed on: the client may be turned away for its certificate.
                self.certificate = self.read_certificate()?;
            }
            // What came before an error was said all the same.
            let given = self.give(inner);
            let state = state?;
            given?;
            if state.peer_has_closed() {
                return Err(Broken::Closed);
            }
        }
        Ok(())
    }

    fn give(&mut self, inner: &mut dyn FnMut(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        let mut reader = self.connection.reader();
        // Where there is nothing, or the session is over, it says so with an error or with nothing: neither has bytes.
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            let length = chunk.len();
            let result = inner(chunk);
            reader.consume(length);
            result?;
        }
        Ok(())
    }

    fn broken(&self, error: Error) -> Broken {
        let is_beginning = self.connection.is_handshaking() && matches!(error, Error::InvalidMessage(_));
        Broken::Tls(match (is_beginning, self.first_byte) {
            (true, Some(PLAIN_CONNECT)) => TlsFault::PlainMqtt,
            (true, Some(byte)) if byte.is_ascii_uppercase() => TlsFault::PlainHttp,
            _ => TlsFault::Rustls(error),
        })
    }

    /// The certificate that the client has shown in its handshake, or in the one whose session it resumes. It is there once.
    pub(in crate::net::transport) fn take_certificate(&mut self) -> Option<PeerCertificate> {
        self.certificate.take()
    }

    fn read_certificate(&self) -> Result<Option<PeerCertificate>, Broken> {
        let Some(leaf) = self.connection.peer_certificates().and_then(<[_]>::first) else { return Ok(None) };
        let unreadable = |_| Broken::Tls(TlsFault::UnreadableCertificate);
        // The chain is not verified again when a session is resumed, and meanwhile time has passed.
        if self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Some(problem) = ServerNames::read(leaf).map_err(unreadable)?.out_of_date(SystemTime::now())
        {
            return Err(Broken::Tls(TlsFault::ResumedTooLate(problem)));
        }
        PeerCertificate::read(leaf).map(Some).map_err(unreadable)
    }

    /// Appends to `out` what rustls has to send, and then these bytes in records.
    pub(in crate::net::transport) fn wrap(&mut self, pieces: &[&[u8]], out: &mut Vec<u8>) {
        self.seal(pieces);
        while self.connection.wants_write() {
            self.connection.write_tls(out).expect("a Vec takes everything");
        }
    }

    fn seal(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            // Without a limit on its buffer rustls takes everything, until the peer breaks the session: from then on it fails, and what the
            // layer inside has to say to what came before that is not heard any more.
            let _ = self.connection.writer().write_all(piece);
        }
    }

    /// Sends these bytes, and then the end of the session.
    pub(in crate::net::transport) fn close(&mut self, last: &[u8]) {
        self.seal(&[last]);
        self.connection.send_close_notify();
    }
}

/// First byte of a CONNECT that is not in TLS.
const PLAIN_CONNECT: u8 = 0x10;

/// What is wrong with a client's TLS.
#[derive(Debug)]
pub(crate) enum TlsFault {
    /// It begins with a CONNECT in the clear.
    PlainMqtt,
    /// It begins with an HTTP request in the clear.
    PlainHttp,
    /// A certificate that was verified, but breaks the rules of its format.
    UnreadableCertificate,
    /// The certificate is not valid any more, though it was when the session began that is resumed.
    ResumedTooLate(&'static str),
    /// What rustls says.
    Rustls(Error),
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainMqtt => f.write_str("the client speaks MQTT without TLS"),
            Self::PlainHttp => f.write_str("the client speaks HTTP without TLS"),
            Self::UnreadableCertificate => f.write_str("the client certificate breaks the rules of X.509"),
            Self::ResumedTooLate(problem) => write!(f, "in a session that is resumed: {problem}"),
            Self::Rustls(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => f.write_str("this is no TLS"),
            Self::Rustls(error) => write!(f, "{error}"),
        }
    }
}
