//! `willowmq journal dump`: every record, one a line, for people and for programs.

use super::readable_segments;
use crate::journal::encoding::decode;
use crate::journal::frame::{FRAME_HEADER, Position};
use crate::journal::record::{Facts, MessageRecord, QueuedRecord, Record, SessionNumber, Transaction};
use crate::journal::recovery::Files;
use crate::journal::recovery::reader::{Found, SegmentReader};
use crate::journal::recovery::scan::behind;
use crate::journal::segment::SegmentHeader;
use crate::session::message::{Kind, Publication};
use crate::timer::Moment;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Bytes of a payload that are shown.
const PAYLOAD_SHOWN: usize = 40;

/// What to dump, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// Only this shard.
    pub shard: Option<u8>,
    /// Only records from this log offset on.
    pub from: u64,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// Writes the records of shards `0..shards`, or of one. Where a journal is damaged its frames end, and the next segment
/// follows; a line that begins with `#`, or an object with `problem`, says so.
pub fn dump(files: &dyn Files, shards: u8, options: DumpOptions, out: &mut dyn Write) -> io::Result<()> {
    let wanted = (0..shards).filter(|shard| options.shard.is_none_or(|only| only == *shard));
    wanted.into_iter().try_for_each(|shard| Dumper { files, shard, options, out }.shard())
}

struct Dumper<'a> {
    files: &'a dyn Files,
    shard: u8,
    options: DumpOptions,
    out: &'a mut dyn Write,
}

impl Dumper<'_> {
    fn shard(&mut self) -> io::Result<()> {
        let (segments, bad) = match readable_segments(self.files, self.shard) {
            Ok(read) => read,
            Err(error) => return self.problem(&error.to_string()),
        };
        for segment in bad {
            self.problem(&segment.error.to_string())?;
        }
        let mut end = None;
        for header in &segments {
            self.segment(header, &mut end)?;
        }
        Ok(())
    }

    /// Dumps what a segment tells beyond log offset `end`, up to which others have told.
    fn segment(&mut self, header: &SegmentHeader, end: &mut Option<u64>) -> io::Result<()> {
        let mut reader = match SegmentReader::open(self.files, header.name) {
            Ok(reader) => reader,
            Err(error) => return self.problem(&error.to_string()),
        };
        let mut at = Position { offset: header.name.start, sequence: header.sequence };
        let told = end.unwrap_or(at.offset);
        if told < at.offset {
            self.problem(&format!("nothing can be read between log offsets {told} and {}", at.offset))?;
        }
        loop {
            match reader.frame(at) {
                Ok(Found::Frame(frame, payload)) => {
                    if at.offset >= told {
                        self.frame(at, payload)?;
                    }
                    at = behind(at, &frame);
                }
                Ok(Found::Seal | Found::Nothing) => break,
                Err(error) => return self.problem(&error.to_string()),
            }
        }
        *end = Some(told.max(at.offset));
        Ok(())
    }

    fn frame(&mut self, at: Position, payload: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < payload.len() {
            let offset = at.offset + (FRAME_HEADER + done) as u64;
            let (record, length) = match decode(&payload[done..]) {
                Ok(decoded) => decoded,
                Err(malformed) => return self.problem(&format!("log offset {offset}: {malformed}")),
            };
            if offset >= self.options.from {
                self.line(offset, at.sequence, &record)?;
            }
            done += length;
        }
        Ok(())
    }

    fn line(&mut self, offset: u64, sequence: u64, record: &Record<'_>) -> io::Result<()> {
        let line = if self.options.json { json(self.shard, offset, sequence, record) } else { text(offset, record) };
        if self.options.json { writeln!(self.out, "{line}") } else { writeln!(self.out, "{} {line}", self.shard) }
    }

    fn problem(&mut self, what: &str) -> io::Result<()> {
        if self.options.json {
            writeln!(self.out, "{{\"shard\":{},\"problem\":{}}}", self.shard, quoted(what))
        } else {
            writeln!(self.out, "# shard {}: {what}", self.shard)
        }
    }
}

fn text(offset: u64, record: &Record<'_>) -> String {
    let described = Described::of(record);
    let mut line = format!("{offset} {}", described.name);
    for (name, value) in &described.fields {
        let written = match value {
            Value::Number(number) => write!(line, " {name}={number}"),
            Value::Text(text) => write!(line, " {name}={text:?}"),
            Value::Yes => write!(line, " {name}"),
        };
        written.expect("a String takes everything");
    }
    line
}

fn json(shard: u8, offset: u64, sequence: u64, record: &Record<'_>) -> String {
    let described = Described::of(record);
    let name = described.name;
    let mut line = format!("{{\"shard\":{shard},\"offset\":{offset},\"frame\":{sequence},\"record\":\"{name}\"");
    for (name, value) in &described.fields {
        let written = match value {
            Value::Number(number) => write!(line, ",\"{name}\":{number}"),
            Value::Text(text) => write!(line, ",\"{name}\":{}", quoted(text)),
            Value::Yes => write!(line, ",\"{name}\":true"),
        };
        written.expect("a String takes everything");
    }
    line + "}"
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                write!(quoted, "\\u{:04x}", control as u32).expect("a String takes everything");
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// A record as its name and its fields.
struct Described {
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Number(u128),
    Text(String),
    /// A flag that is set; others are not told.
    Yes,
}

impl Described {
    fn of(record: &Record<'_>) -> Self {
        match record {
            Record::Session(header) => Self::new("Session")
                .session(header.session)
                .text("client_id", header.client_id)
                .optional(header.username, |this, name| this.text("username", name))
                .facts(header.facts)
                .number("listener", header.listener)
                .number("connection", header.connection)
                .number("keep_alive", header.keep_alive)
                .number("expiry", header.expiry)
                .optional(header.closed, |this, at| this.moment("closed", at)),
            Record::SessionReset(session) => Self::new("SessionReset").session(*session),
            Record::SessionEnded(session) => Self::new("SessionEnded").session(*session),
            Record::Subscribed { session, filter, options, id } => Self::new("Subscribed")
                .session(*session)
                .text("filter", filter)
                .number("qos", options.qos.as_u8())
                .flag("no_local", options.no_local)
                .flag("retain_as_published", options.retain_as_published)
                .number("retain_handling", options.retain_handling as u8)
                .optional(*id, |this, id| this.number("id", id)),
            Record::Unsubscribed { session, filter } => {
                Self::new("Unsubscribed").session(*session).text("filter", filter)
            }
            Record::Message(message) => Self::new("Message").message(message),
            Record::Queued(queued) => Self::new("Queued").queued(queued),
            Record::Sent { session, place, packet_id } => {
                Self::new("Sent").session(*session).number("place", place.0).number("packet_id", packet_id.get())
            }
            Record::Released { session, place } => Self::new("Released").session(*session).number("place", place.0),
            Record::Done { session, place } => Self::new("Done").session(*session).number("place", place.0),
            Record::Received { session, packet_id } => {
                Self::new("Received").session(*session).number("packet_id", packet_id.get())
            }
            Record::Completed { session, packet_id } => {
                Self::new("Completed").session(*session).number("packet_id", packet_id.get())
            }
            Record::Retained(publication) => Self::new("Retained").publication(*publication),
            Record::RetainedRemoved(topic) => Self::new("RetainedRemoved").text("topic", topic),
            Record::WillArmed(will) => Self::new("WillArmed")
                .session(will.session)
                .number("delay_interval", will.delay_interval)
                .optional(will.message_expiry_interval, |this, seconds| this.number("message_expiry_interval", seconds))
                .message(&will.message),
            Record::WillPending { session, due, closing } => Self::new("WillPending")
                .session(*session)
                .moment("due", *due)
                .text("cause", closing.cause.as_str())
                .moment("closed", closing.at)
                .moment("last_packet", closing.last_packet),
            Record::WillGone(session) => Self::new("WillGone").session(*session),
            Record::Under(transaction) => Self::new("Under").transaction(*transaction),
            Record::Unconditional => Self::new("Unconditional"),
            Record::Begun { number, parts } => Self::new("Begun").number("number", *number).parts(*parts),
            Record::Part { transaction, from, parts } => {
                Self::new("Part").transaction(*transaction).number("from", u64::from(*from)).parts(*parts)
            }
            Record::Complete(transaction) => Self::new("Complete").transaction(*transaction),
            Record::Void(transaction) => Self::new("Void").transaction(*transaction),
            Record::CheckpointBegin => Self::new("CheckpointBegin"),
            Record::CheckpointEnd => Self::new("CheckpointEnd"),
            Record::Stopped(at) => Self::new("Stopped").moment("at", *at),
            Record::Clock(at) => Self::new("Clock").moment("at", *at),
        }
    }

    fn new(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: Value) -> Self {
        self.fields.push((name, value));
        self
    }

    fn number(self, name: &'static str, number: impl Into<u128>) -> Self {
        self.with(name, Value::Number(number.into()))
    }

    fn text(self, name: &'static str, text: &str) -> Self {
        self.with(name, Value::Text(text.to_owned()))
    }

    fn flag(self, name: &'static str, is_set: bool) -> Self {
        if is_set { self.with(name, Value::Yes) } else { self }
    }

    fn optional<T>(self, value: Option<T>, add: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => add(self, value),
            None => self,
        }
    }

    /// Microseconds of the broker's clock.
    fn moment(self, name: &'static str, moment: Moment) -> Self {
        self.number(name, moment.as_micros())
    }

    fn session(self, session: SessionNumber) -> Self {
        self.number("session", session.0)
    }

    fn publication(self, publication: Publication) -> Self {
        self.text("publication", &format!("{}.{}", publication.shard, publication.sequence))
    }

    fn transaction(self, transaction: Transaction) -> Self {
        self.text("transaction", &format!("{}.{}", transaction.shard, transaction.number))
    }

    fn parts(self, parts: u128) -> Self {
        let shards: Vec<_> = (0..128).filter(|shard| parts >> shard & 1 == 1).map(|shard| shard.to_string()).collect();
        self.text("parts", &shards.join(","))
    }

    fn message(self, message: &MessageRecord<'_>) -> Self {
        let shown = &message.payload[..message.payload.len().min(PAYLOAD_SHOWN)];
        self.publication(message.publication)
            .flag("will", message.kind == Kind::Will)
            .number("qos", message.qos.as_u8())
            .flag("retain", message.retain)
            .optional(message.expires, |this, at| this.moment("expires", at))
            .number("author_connection", message.author.connection)
            .text("topic", message.topic)
            .number("properties_bytes", message.forwarded.len() as u64)
            .number("payload_bytes", message.payload.len() as u64)
            .text("payload", &shown.escape_ascii().to_string())
    }

    fn facts(self, facts: Facts<'_>) -> Self {
        let identity = facts.identity(None);
        let fields: Vec<_> = identity.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.optional((!fields.is_empty()).then(|| fields.join(",")), |this, fields| this.text("fields", &fields))
            .flag("granted", identity.granted.is_some())
    }

    fn queued(self, queued: &QueuedRecord<'_>) -> Self {
        let ids: Vec<_> = queued.subscription_ids.iter().map(|id| id.to_string()).collect();
        self.session(queued.session)
            .number("place", queued.place.0)
            .publication(queued.publication)
            .number("qos", queued.qos.as_u8())
            .flag("retain", queued.retain)
            .optional((!ids.is_empty()).then(|| ids.join(",")), |this, ids| this.text("subscription_ids", &ids))
            .optional(queued.shared, |this, (group, filter)| this.text("share", group).text("filter", filter))
            .optional(queued.packet_id, |this, id| this.number("packet_id", id.get()))
            .flag("released", queued.is_released)
            .moment("queued", queued.queued)
    }
}
