//! The HTTP request that becomes a WebSocket (RFC 6455 §4.2), and the answer to whatever does not.

use std::fmt;
use std::str;

use httparse::{Header, Request, Status};
use tungstenite::handshake::derive_accept_key;

use super::Admittance;

/// Longest head of a request. Browsers send well below 2 KiB, and cookies of the page may come on top.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// The only version of the protocol that is spoken.
const VERSION: &str = "13";
/// Length of a key: sixteen bytes in Base64.
const KEY_LENGTH: usize = 24;
/// Subprotocols, of which the first that the client names is taken. [MQTT-6.0.0-3] The second one is that of MQTT 3.1.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A request of which the end has not come yet.
#[derive(Default)]
pub(super) struct Upgrade {
    head: Vec<u8>,
}

/// A request that becomes a WebSocket.
pub(super) struct Accepted {
    pub(super) response: String,
    /// How many of the last bytes that came belong to the request.
    pub(super) length: usize,
}

impl Upgrade {
    /// Takes more of the request; what comes after it belongs to the first frame.
    pub(super) fn receive(&mut self, bytes: &[u8], admittance: &Admittance) -> Result<Option<Accepted>, HttpFault> {
        let before = self.head.len();
        let taken = bytes.len().min(HEAD_BYTES_MAX - before);
        self.head.extend_from_slice(&bytes[..taken]);
        if self.head.first().is_some_and(|byte| !byte.is_ascii_alphabetic() && !b"\r\n".contains(byte)) {
            return Err(HttpFault::new(400, "This is no HTTP request: here MQTT is spoken over WebSocket."));
        }
        // A line at a time, so that a request that comes byte by byte is not read from its beginning for each of them.
        if self.head[before..].contains(&b'\n') {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut request = Request::new(&mut headers);
            let parsed = request.parse(&self.head).map_err(|error| match error {
                httparse::Error::TooManyHeaders => HttpFault::new(431, "There are more than 64 headers."),
                error => HttpFault::new(400, format!("This is no HTTP request that can be read: {error}.")),
            })?;
            if let Status::Complete(length) = parsed {
                let response = judge(&request, admittance)?;
                return Ok(Some(Accepted { response, length: length - before }));
            }
        }
        match self.head.len() {
            HEAD_BYTES_MAX => Err(HttpFault::new(431, "The head of the request is longer than 8 KiB.")),
            _ => Ok(None),
        }
    }
}

/// What is answered to a request that is accepted, or why it is not.
fn judge(request: &Request<'_, '_>, admittance: &Admittance) -> Result<String, HttpFault> {
    let headers = Headers(request.headers);
    if request.method != Some("GET") {
        return Err(HttpFault::new(405, "A WebSocket begins with the method GET."));
    }
    let path = request.path.unwrap_or_default();
    if path.split('?').next() != Some(admittance.path.as_str()) {
        return Err(HttpFault::new(
            404,
            format!("There is nothing here; the WebSocket of this MQTT broker is at {}.", admittance.path),
        ));
    }
    if request.version != Some(1) {
        return Err(HttpFault::new(400, "A WebSocket begins with HTTP/1.1."));
    }
    let host = headers.only("Host")?.ok_or_else(|| HttpFault::new(400, "The header Host is missing."))?;
    if !headers.list("Upgrade")?.any(|token| token.eq_ignore_ascii_case("websocket"))
        || !headers.list("Connection")?.any(|token| token.eq_ignore_ascii_case("upgrade"))
    {
        let sentence =
            "Here MQTT is spoken over WebSocket: the request needs \"Connection: Upgrade\" and \"Upgrade: websocket\".";
        return Err(HttpFault::new(426, sentence));
    }
    if headers.only("Sec-WebSocket-Version")? != Some(VERSION) {
        return Err(HttpFault::new(426, "Only version 13 of WebSocket is spoken here (Sec-WebSocket-Version)."));
    }
    let key = headers.only("Sec-WebSocket-Key")?.filter(|key| is_key(key));
    let key = key.ok_or_else(|| HttpFault::new(400, "Sec-WebSocket-Key has to be sixteen bytes in Base64."))?;
    if let Some(origin) = headers.only("Origin")?
        && !admittance.origins.allow(origin, host)
    {
        return Err(HttpFault::new(403, "Pages of this origin may not connect (websocket_origins)."));
    }
    let subprotocol = headers
        .list("Sec-WebSocket-Protocol")?
        .find_map(|offered| SUBPROTOCOLS.into_iter().find(|ours| *ours == offered));
    let subprotocol = subprotocol.ok_or_else(|| {
        HttpFault::new(
            400,
            "The client has to offer the subprotocol \"mqtt\" or \"mqttv3.1\" (Sec-WebSocket-Protocol).",
        )
    })?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
        derive_accept_key(key.as_bytes()),
    ))
}

/// Whether it is Base64 of sixteen bytes (RFC 6455 §4.1).
fn is_key(key: &str) -> bool {
    let is_of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let significant = key.strip_suffix("==").unwrap_or_default();
    key.len() == KEY_LENGTH && significant.bytes().all(is_of_alphabet)
}

/// The headers of a request.
struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// All values of a header.
    fn all(&self, name: &str) -> Result<Vec<&'a str>, HttpFault> {
        let of_name = self.0.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let values = of_name.map(|header| str::from_utf8(header.value).map(str::trim));
        values.collect::<Result<_, _>>().map_err(|_| HttpFault::new(400, format!("The header {name} is no text.")))
    }

    /// The value of a header that may be there once.
    fn only(&self, name: &str) -> Result<Option<&'a str>, HttpFault> {
        match self.all(name)?[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(HttpFault::new(400, format!("The header {name} is there more than once."))),
        }
    }

    /// The tokens of a header that is a list, which may be in several lines.
    fn list(&self, name: &str) -> Result<impl Iterator<Item = &'a str>, HttpFault> {
        Ok(self.all(name)?.into_iter().flat_map(|value| value.split(',')).map(str::trim))
    }
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpFault {
    status: u16,
    sentence: String,
}

impl HttpFault {
    fn new(status: u16, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }

    /// The answer: a status, and a sentence for whoever looks at it.
    pub(super) fn response(&self) -> String {
        let (phrase, headers) = match self.status {
            403 => ("Forbidden", ""),
            404 => ("Not Found", ""),
            405 => ("Method Not Allowed", "Allow: GET\r\n"),
            // A 426 names what to upgrade to (RFC 9110 §15.5.22), and the versions of it (RFC 6455 §4.4).
            426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            431 => ("Request Header Fields Too Large", ""),
            _ => ("Bad Request", ""),
        };
        format!(
            "HTTP/1.1 {} {phrase}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{}\n",
            self.status,
            self.sentence.len() + 1,
            self.sentence,
        )
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered with {}: {}", self.status, self.sentence)
    }
}
