//! Frames of a WebSocket (RFC 6455 §5): those of the client are unmasked as they come, and ours get their heads.

use std::fmt;
use std::io::Cursor;
use std::mem;
use std::ops::Deref;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// Longest head of a frame: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;
/// Most bytes in a control frame (§5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// The frames that come from a client.
pub(super) struct Frames {
    /// The beginning of a head, while the rest of it is missing.
    head: [u8; HEAD_BYTES_MAX],
    head_length: u8,
    /// What is being received.
    part: Part,
    /// Bytes of it that are still to come.
    remaining: u64,
    mask: [u8; 4],
    /// Whether a message is in the middle, so that a continuation has to follow.
    is_fragmented: bool,
    frame_bytes_max: u64,
    /// What a control frame holds, while one is being received.
    control: Vec<u8>,
    /// The answer to the newest ping that has none yet. That is enough (§5.5.3), so a flood of pings piles nothing up.
    pong: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Data,
    Control(Control),
}

/// Why no more frames are received.
pub(super) enum End {
    /// The peer sent a close frame, with this code or none.
    Closed(Option<CloseCode>),
    Fault(WebSocketFault),
}

impl From<WebSocketFault> for End {
    fn from(fault: WebSocketFault) -> Self {
        Self::Fault(fault)
    }
}

impl Frames {
    pub(super) fn new(frame_bytes_max: u64) -> Self {
        Self {
            head: [0; HEAD_BYTES_MAX],
            head_length: 0,
            part: Part::Head,
            remaining: 0,
            mask: [0; 4],
            is_fragmented: false,
            frame_bytes_max,
            control: Vec::new(),
            pong: None,
        }
    }

    /// Takes bytes, and appends the data in them to `data`.
    pub(super) fn receive(&mut self, mut bytes: &[u8], data: &mut Vec<u8>) -> Result<(), End> {
        while !bytes.is_empty() {
            bytes = match self.part {
                Part::Head => self.receive_head(bytes)?,
                Part::Data => self.receive_payload(bytes, data),
                Part::Control(_) => {
                    let mut control = mem::take(&mut self.control);
                    let rest = self.receive_payload(bytes, &mut control);
                    self.control = control;
                    rest
                }
            };
            if self.remaining == 0 {
                self.on_complete()?;
            }
        }
        Ok(())
    }

    fn receive_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], WebSocketFault> {
        let before = usize::from(self.head_length);
        let taken = bytes.len().min(HEAD_BYTES_MAX - before);
        self.head[before..before + taken].copy_from_slice(&bytes[..taken]);
        let filled = before + taken;
        let mut cursor = Cursor::new(&self.head[..filled]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((head, length))) => {
                let end = cursor.position() as usize;
                self.begin(&head, length)?;
                self.head_length = 0;
                Ok(&bytes[end - before..])
            }
            // Without a mask it would have been complete, so this is only a matter of waiting.
            Ok(None) => {
                self.head_length = filled as u8;
                Ok(&bytes[taken..])
            }
            Err(_) => Err(WebSocketFault::UnknownOpcode),
        }
    }

    fn begin(&mut self, head: &FrameHeader, length: u64) -> Result<(), WebSocketFault> {
        if head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(WebSocketFault::ReservedBits); // Nobody has agreed on an extension.
        }
        let mask = head.mask.ok_or(WebSocketFault::Unmasked)?; // RFC 6455 §5.1
        self.part = match head.opcode {
            OpCode::Data(Data::Text) => return Err(WebSocketFault::Text), // [MQTT-6.0.0-1]
            OpCode::Data(Data::Binary) if self.is_fragmented => return Err(WebSocketFault::Continuation),
            OpCode::Data(Data::Continue) if !self.is_fragmented => return Err(WebSocketFault::Continuation),
            OpCode::Data(_) if length > self.frame_bytes_max => return Err(WebSocketFault::TooBig),
            OpCode::Data(_) => {
                self.is_fragmented = !head.is_final;
                Part::Data
            }
            OpCode::Control(_) if !head.is_final || length > CONTROL_BYTES_MAX => return Err(WebSocketFault::Control),
            OpCode::Control(control) => Part::Control(control),
        };
        self.mask = mask;
        self.remaining = length;
        Ok(())
    }

    /// Unmasks what belongs to this frame, and returns what does not.
    fn receive_payload<'a>(&mut self, bytes: &'a [u8], into: &mut Vec<u8>) -> &'a [u8] {
        let taken = usize::try_from(self.remaining).map_or(bytes.len(), |remaining| remaining.min(bytes.len()));
        let (payload, rest) = bytes.split_at(taken);
        let start = into.len();
        into.extend_from_slice(payload);
        unmask(&mut into[start..], self.mask);
        self.mask.rotate_left(taken % 4);
        self.remaining -= taken as u64;
        rest
    }

    /// The frame is complete, if one is under way.
    fn on_complete(&mut self) -> Result<(), End> {
        if let Part::Control(control) = mem::replace(&mut self.part, Part::Head) {
            let payload = mem::take(&mut self.control);
            match control {
                Control::Close => return Err(close_of(&payload)),
                Control::Ping => self.pong = Some(payload),
                // Nobody has asked for a pong, but one may come (§5.5.3). Others were refused with their heads.
                Control::Pong | Control::Reserved(_) => {}
            }
        }
        Ok(())
    }

    /// Appends the answer to a ping, if there is one to give.
    pub(super) fn take_pong(&mut self, out: &mut Vec<u8>) {
        if let Some(payload) = self.pong.take() {
            append_control(Control::Pong, &payload, out);
        }
    }
}

/// Takes the mask off, four bytes at a time where there are so many.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    let word_mask = u32::from_ne_bytes(mask);
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ word_mask).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// What a close frame says (§5.5.1).
fn close_of(payload: &[u8]) -> End {
    match payload {
        [] => End::Closed(None),
        [high, low, reason @ ..] => {
            let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
            match code.is_allowed() {
                true if std::str::from_utf8(reason).is_ok() => End::Closed(Some(code)),
                true => End::Fault(WebSocketFault::CloseReason),
                false => End::Fault(WebSocketFault::Close),
            }
        }
        [_] => End::Fault(WebSocketFault::Close),
    }
}

/// Appends a close frame.
pub(super) fn append_close(code: Option<CloseCode>, out: &mut Vec<u8>) {
    let code = code.map(|code| u16::from(code).to_be_bytes());
    append_control(Control::Close, code.as_ref().map_or(&[][..], |code| code), out);
}

fn append_control(control: Control, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&Head::new(OpCode::Control(control), payload.len()));
    out.extend_from_slice(payload);
}

/// The head of a frame of ours. A server sets no mask (§5.1).
pub(in crate::net::transport) struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    length: usize,
}

impl Head {
    /// The head of a binary message of so many bytes, in one frame.
    pub(super) fn of_binary(length: usize) -> Self {
        Self::new(OpCode::Data(Data::Binary), length)
    }

    fn new(opcode: OpCode, payload_length: usize) -> Self {
        let mut bytes = [0; HEAD_BYTES_MAX];
        let mut room = &mut bytes[..];
        FrameHeader { opcode, ..FrameHeader::default() }
            .format(payload_length as u64, &mut room)
            .expect("a head has fourteen bytes at most");
        let length = HEAD_BYTES_MAX - room.len();
        Self { bytes, length }
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What is wrong with a client's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebSocketFault {
    /// A text message. [MQTT-6.0.0-1]
    Text,
    /// A frame without a mask.
    Unmasked,
    /// A bit of an extension that nobody has agreed on.
    ReservedBits,
    /// A kind of frame that there is not.
    UnknownOpcode,
    /// A continuation of nothing, or a message inside another one.
    Continuation,
    /// A control frame in pieces, or with too much in it.
    Control,
    /// A close frame with a code that may not be sent, or half of one.
    Close,
    /// A close frame with a reason that is no UTF-8.
    CloseReason,
    /// A frame longer than we take.
    TooBig,
}

impl WebSocketFault {
    /// What the peer is told (§7.4.1).
    pub(super) fn code(self) -> CloseCode {
        match self {
            Self::Text => CloseCode::Unsupported,
            Self::TooBig => CloseCode::Size,
            Self::CloseReason => CloseCode::Invalid,
            Self::Unmasked
            | Self::ReservedBits
            | Self::UnknownOpcode
            | Self::Continuation
            | Self::Control
            | Self::Close => CloseCode::Protocol,
        }
    }
}

impl fmt::Display for WebSocketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "a text message; MQTT is binary",
            Self::Unmasked => "a frame of a client without a mask",
            Self::ReservedBits => "a reserved bit, though no extension was agreed on",
            Self::UnknownOpcode => "a frame of an unknown kind",
            Self::Continuation => "a continuation of nothing, or a message inside another",
            Self::Control => "a control frame in pieces or over 125 bytes",
            Self::Close => "a close frame with a code that must not be sent",
            Self::CloseReason => "a close frame with a reason that is no UTF-8",
            Self::TooBig => "a frame that is too long",
        })
    }
}
