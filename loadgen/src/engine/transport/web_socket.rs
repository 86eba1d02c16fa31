//! The client's end of a WebSocket (RFC 6455) that carries MQTT (§6): the upgrade, frames out, frames in.
//!
//! Payload is handed on as it comes, so nothing is collected but headers and control frames. Frames and MQTT Control
//! Packets have nothing to do with each other. [MQTT-6.0.0-2]

use std::io::Cursor;
use std::sync::Arc;

use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::Broken;

/// What is sent at once goes out in frames of at most so many bytes, which no broker takes for too large.
const FRAME_BYTES_MAX: usize = 16 << 10;
/// The answer to an upgrade is shorter.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// A control frame has at most so many bytes of payload (RFC 6455, section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
/// A header has at most so many bytes: two, the length, and the mask.
const HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// What an upgrade asks for.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// For the header `Host`.
    pub(super) host: String,
    /// Path of the WebSocket.
    pub(super) path: String,
}

/// One WebSocket.
///
/// ```text
/// Idle ─begin─▶ AwaitAnswer ─101─▶ Open
/// ```
pub(super) struct WebSocket {
    upgrade: Arc<Upgrade>,
    state: State,
    /// State of the generator of masks. They keep proxies from taking payload for HTTP, and hide nothing.
    mask: u32,
}

enum State {
    Idle,
    AwaitAnswer {
        /// What the answer must hold, to prove that it is one to us.
        accept: String,
        received: Vec<u8>,
    },
    Open(Incoming),
}

impl WebSocket {
    pub(super) fn new(upgrade: Arc<Upgrade>) -> Self {
        Self { upgrade, state: State::Idle, mask: 0 }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Asks for the upgrade, the first time that it is called.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        let State::Idle = self.state else { return };
        let key = generate_key();
        let Upgrade { host, path } = &*self.upgrade;
        out.extend_from_slice(
            format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
            )
            .as_bytes(),
        );
        self.mask = key.bytes().fold(1, |mask: u32, byte| mask.wrapping_mul(31).wrapping_add(byte.into())) | 1;
        self.state = State::AwaitAnswer { accept: derive_accept_key(key.as_bytes()), received: Vec::new() };
    }

    /// Takes `bytes`, appends what they hold of MQTT, and answers pings and closes to `out`.
    pub(super) fn receive(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Broken> {
        if let State::AwaitAnswer { accept, received } = &mut self.state {
            received.extend_from_slice(bytes);
            let Some(length) = read_answer(received, accept, &self.upgrade.path)? else { return Ok(()) };
            let rest = received.split_off(length);
            self.state = State::Open(Incoming::default());
            return self.receive(&rest, mqtt, out);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let State::Open(incoming) = &mut self.state else {
                return Err(Broken::violation("WebSocket: the broker spoke before it was asked"));
            };
            match incoming.take(&mut rest, mqtt)? {
                None => {}
                Some((Control::Ping, payload)) => self.put(OpCode::Control(Control::Pong), &payload, out),
                Some((Control::Close, payload)) => {
                    self.put(OpCode::Control(Control::Close), &payload, out);
                    return Err(told_close(&payload));
                }
                Some(_) => {} // A pong for which nobody asked is permitted.
            }
        }
        Ok(())
    }

    /// Appends `mqtt` in binary frames. [MQTT-6.0.0-1]
    pub(super) fn frame(&mut self, mqtt: &[u8], out: &mut Vec<u8>) {
        mqtt.chunks(FRAME_BYTES_MAX).for_each(|chunk| self.put(OpCode::Data(Data::Binary), chunk, out));
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        const NORMAL: u16 = 1000;
        self.put(OpCode::Control(Control::Close), &NORMAL.to_be_bytes(), out);
    }

    /// Appends a frame; those of a client are masked.
    fn put(&mut self, opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
        let mask = self.next_mask();
        let header = FrameHeader { is_final: true, opcode, mask: Some(mask), ..FrameHeader::default() };
        header.format(payload.len() as u64, out).expect("a vector takes everything");
        let from = out.len();
        out.extend_from_slice(payload);
        let (fours, last) = out[from..].as_chunks_mut::<4>();
        for four in fours {
            *four = (u32::from_ne_bytes(*four) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
        }
        last.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }

    /// The next number of an xorshift generator.
    fn next_mask(&mut self) -> [u8; 4] {
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask.to_ne_bytes()
    }
}

/// Reads the answer to the upgrade; `None` while it is not complete, else its length.
fn read_answer(received: &[u8], accept: &str, path: &str) -> Result<Option<usize>, Broken> {
    let parsed = Response::try_parse(received)
        .map_err(|_| Broken::violation("WebSocket: the broker answers the upgrade, and not in HTTP"))?;
    let Some((length, answer)) = parsed else {
        return match received.len() > ANSWER_BYTES_MAX {
            true => Err(Broken::violation("WebSocket: the answer to the upgrade does not end")),
            false => Ok(None),
        };
    };
    if answer.status().as_u16() != 101 {
        return Err(Broken::ended(format!("WebSocket: HTTP {} to the upgrade of {path} (--ws-path)", answer.status())));
    }
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if header("sec-websocket-accept") != Some(accept) {
        return Err(Broken::violation("WebSocket: the answer is none to this upgrade (Sec-WebSocket-Accept)"));
    }
    match header("sec-websocket-protocol") {
        Some("mqtt") => Ok(Some(length)), // [MQTT-6.0.0-4]
        other => {
            Err(Broken::violation(format!("WebSocket: the broker chose the subprotocol {other:?} instead of mqtt")))
        }
    }
}

fn told_close(payload: &[u8]) -> Broken {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => {
            let (code, reason) = (u16::from_be_bytes(*code), String::from_utf8_lossy(reason));
            let reason = if reason.is_empty() { String::new() } else { format!(", {reason}") };
            Broken::ended(format!("closed by the broker (WebSocket, code {code}{reason})"))
        }
        None => Broken::ended("closed by the broker (WebSocket)"),
    }
}

/// Frames that come in.
#[derive(Default)]
struct Incoming {
    /// The beginning of a header whose rest has not come.
    header: Vec<u8>,
    /// The frame that is being received, if it is none of data: its kind and what came of it.
    control: Option<(Control, Vec<u8>)>,
    /// How many bytes the frame still has to come.
    remaining: u64,
    is_inside_frame: bool,
    /// Whether a message is not finished: its next frame continues it.
    is_inside_message: bool,
}

impl Incoming {
    /// Takes a header, or payload, off the front of `bytes`; gives a control frame that is complete.
    fn take(&mut self, bytes: &mut &[u8], mqtt: &mut Vec<u8>) -> Result<Option<(Control, Vec<u8>)>, Broken> {
        if !self.is_inside_frame {
            self.take_header(bytes)?;
        }
        if !self.is_inside_frame {
            return Ok(None);
        }
        let count = bytes.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let (payload, rest) = bytes.split_at(count);
        *bytes = rest;
        self.remaining -= count as u64;
        self.is_inside_frame = self.remaining > 0;
        match &mut self.control {
            None => mqtt.extend_from_slice(payload),
            Some((_, received)) => received.extend_from_slice(payload),
        }
        Ok(if self.is_inside_frame { None } else { self.control.take() })
    }

    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), Broken> {
        let before = self.header.len();
        self.header.extend_from_slice(&bytes[..bytes.len().min(HEADER_BYTES_MAX)]);
        let mut cursor = Cursor::new(&self.header);
        let parsed =
            FrameHeader::parse(&mut cursor).map_err(|error| Broken::violation(format!("WebSocket: {error}")))?;
        let used = cursor.position() as usize;
        let Some((header, length)) = parsed else {
            *bytes = &[]; // All of it is in `self.header`, which is shorter than a header can be.
            return Ok(());
        };
        *bytes = &bytes[used - before..];
        self.header.clear();
        self.begin_frame(&header, length)
    }

    fn begin_frame(&mut self, header: &FrameHeader, length: u64) -> Result<(), Broken> {
        let violation = |what: &str| Err(Broken::violation(format!("WebSocket: {what}")));
        if header.mask.is_some() {
            return violation("a masked frame from the broker");
        }
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return violation("a frame of an extension that nobody asked for");
        }
        match (header.opcode, self.is_inside_message) {
            (OpCode::Data(Data::Binary), false) | (OpCode::Data(Data::Continue), true) => {
                self.is_inside_message = !header.is_final;
            }
            (OpCode::Data(Data::Continue), false) => return violation("a frame that continues nothing"),
            (OpCode::Data(Data::Binary), true) => return violation("a message inside another one"),
            (OpCode::Data(_), _) => return violation("a frame that is not binary"), // [MQTT-6.0.0-1]
            (OpCode::Control(_), _) if !header.is_final || length > CONTROL_BYTES_MAX => {
                return violation("a control frame that is too long or in pieces");
            }
            (OpCode::Control(Control::Reserved(_)), _) => return violation("a control frame of no known kind"),
            (OpCode::Control(control), _) => self.control = Some((control, Vec::new())),
        }
        self.remaining = length;
        self.is_inside_frame = true;
        Ok(())
    }
}
