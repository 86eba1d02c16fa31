//! Records as bytes.
//!
//! A record is a tag byte and its fields, in the order in which [`super::record`] declares them but for the flags byte that
//! some begin with. Numbers are varints: seven bits a byte, the least first, the top bit set on all bytes but the last, no
//! longer than need be. Texts and bytes follow a varint that gives their length. `Option`s, `bool`s and a QoS are bits of the
//! flags byte. What a record decodes from is thus what it encodes to, byte by byte.
//!
//! | tag | record | fields |
//! | ---: | --- | --- |
//! | 1 | Session | flags (1 username, 2 closed, 4 facts), session, client id, \[username\], listener, connection, keep alive, expiry, \[closed\], \[block of [facts](super::facts)\] |
//! | 2 | SessionReset | session |
//! | 3 | SessionEnded | session |
//! | 4 | Subscribed | options byte as in a 5.0 SUBSCRIBE (and 64: id), session, filter, \[id\] |
//! | 5 | Unsubscribed | session, filter |
//! | 6 | Message | *message*, CRC |
//! | 7 | Queued | flags (1–2 QoS, 4 retain, 8 ids, 16 shared, 32 packet id, 64 released), session, place, shard byte, sequence, \[block of ids, four bytes each\], \[ShareName, filter\], \[packet id\], queued |
//! | 8 | Sent | session, place, packet id |
//! | 9 | Released | session, place |
//! | 10 | Done | session, place |
//! | 11 | Received | session, packet id |
//! | 12 | Completed | session, packet id |
//! | 13 | Retained | shard byte, sequence |
//! | 14 | RetainedRemoved | topic |
//! | 15 | WillArmed | session, delay interval, flags (1: message expiry interval), \[message expiry interval\], *message*, CRC |
//! | 16 | WillPending | session, due, cause byte, at, last packet |
//! | 17 | WillGone | session |
//! | 18 | Under | shard byte, number |
//! | 19 | Unconditional | |
//! | 20 | Begun | number, *parts* |
//! | 21 | Part | shard byte, number, byte of the shard it came from, *parts* |
//! | 22 | Complete | shard byte, number |
//! | 23 | Void | shard byte, number |
//! | 24 | CheckpointBegin | |
//! | 25 | CheckpointEnd | |
//! | 26 | Stopped | moment |
//! | 27 | Clock | moment |
//!
//! A *message* is flags (1–2 QoS, 4 retain, 8 will, 16 expires), shard byte, sequence, client of the author (eight bytes,
//! little-endian), connection of the author, \[expires\], topic, forwarded, payload. The records that hold one end in a
//! CRC-32C (four bytes, little-endian) of the whole record before it, as they are also read back alone. *Parts* are two
//! varints, for shards 0 to 63 and from 64 on. Tag 0 is never given.

use super::facts::Facts;
use super::record::{
    Ids, MessageRecord, Place, QueuedRecord, Record, SessionNumber, SessionRecord, Transaction, WillRecord,
};
use crate::codec::{PacketId, QoS, RetainHandling, SubscriptionOptions};
use crate::session::message::{Author, Kind, Publication};
use crate::session::will::{Cause, Closing};
use crate::timer::Moment;
use std::fmt;

mod tag {
    pub(super) const SESSION: u8 = 1;
    pub(super) const SESSION_RESET: u8 = 2;
    pub(super) const SESSION_ENDED: u8 = 3;
    pub(super) const SUBSCRIBED: u8 = 4;
    pub(super) const UNSUBSCRIBED: u8 = 5;
    pub(super) const MESSAGE: u8 = 6;
    pub(super) const QUEUED: u8 = 7;
    pub(super) const SENT: u8 = 8;
    pub(super) const RELEASED: u8 = 9;
    pub(super) const DONE: u8 = 10;
    pub(super) const RECEIVED: u8 = 11;
    pub(super) const COMPLETED: u8 = 12;
    pub(super) const RETAINED: u8 = 13;
    pub(super) const RETAINED_REMOVED: u8 = 14;
    pub(super) const WILL_ARMED: u8 = 15;
    pub(super) const WILL_PENDING: u8 = 16;
    pub(super) const WILL_GONE: u8 = 17;
    pub(super) const UNDER: u8 = 18;
    pub(super) const UNCONDITIONAL: u8 = 19;
    pub(super) const BEGUN: u8 = 20;
    pub(super) const PART: u8 = 21;
    pub(super) const COMPLETE: u8 = 22;
    pub(super) const VOID: u8 = 23;
    pub(super) const CHECKPOINT_BEGIN: u8 = 24;
    pub(super) const CHECKPOINT_END: u8 = 25;
    pub(super) const STOPPED: u8 = 26;
    pub(super) const CLOCK: u8 = 27;
}

const QOS_BITS: u8 = 0b11;
const RETAIN_BIT: u8 = 4;
/// An older program, which does not know it, refuses the record as one of another version.
const FACTS_BIT: u8 = 4;

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They end within the record.
    Truncated,
    /// There is no record with this tag.
    Tag(u8),
    /// A number is too large for its field, or written longer than need be.
    Number,
    /// A text is not UTF-8.
    Text,
    /// A field has no such value.
    Value,
    /// The record's own CRC does not match.
    Checksum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the record is cut off"),
            Self::Tag(tag) => write!(f, "no record has tag {tag}"),
            Self::Number => f.write_str("a number is out of range"),
            Self::Text => f.write_str("a text is not UTF-8"),
            Self::Value => f.write_str("a field has an impossible value"),
            Self::Checksum => f.write_str("the record's checksum does not match"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Appends a record's bytes to `out`.
#[inline]
pub fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut writer = Writer(out);
    match record {
        Record::Session(session) => writer.session_record(session),
        Record::SessionReset(session) => writer.tagged(tag::SESSION_RESET, *session),
        Record::SessionEnded(session) => writer.tagged(tag::SESSION_ENDED, *session),
        Record::Subscribed { session, filter, options, id } => writer.subscribed(*session, filter, *options, *id),
        Record::Unsubscribed { session, filter } => {
            writer.tagged(tag::UNSUBSCRIBED, *session);
            writer.text(filter);
        }
        Record::Message(message) => {
            writer.byte(tag::MESSAGE);
            writer.message(message);
            writer.checksum(start);
        }
        Record::Queued(queued) => writer.queued(queued),
        Record::Sent { session, place, packet_id } => {
            writer.placed(tag::SENT, *session, *place);
            writer.packet_id(*packet_id);
        }
        Record::Released { session, place } => writer.placed(tag::RELEASED, *session, *place),
        Record::Done { session, place } => writer.placed(tag::DONE, *session, *place),
        Record::Received { session, packet_id } => {
            writer.tagged(tag::RECEIVED, *session);
            writer.packet_id(*packet_id);
        }
        Record::Completed { session, packet_id } => {
            writer.tagged(tag::COMPLETED, *session);
            writer.packet_id(*packet_id);
        }
        Record::Retained(publication) => {
            writer.byte(tag::RETAINED);
            writer.publication(*publication);
        }
        Record::RetainedRemoved(topic) => {
            writer.byte(tag::RETAINED_REMOVED);
            writer.text(topic);
        }
        Record::WillArmed(will) => {
            writer.will(will);
            writer.checksum(start);
        }
        Record::WillPending { session, due, closing } => {
            writer.tagged(tag::WILL_PENDING, *session);
            writer.moment(*due);
            writer.closing(*closing);
        }
        Record::WillGone(session) => writer.tagged(tag::WILL_GONE, *session),
        Record::Under(transaction) => writer.transaction(tag::UNDER, *transaction),
        Record::Unconditional => writer.byte(tag::UNCONDITIONAL),
        Record::Begun { number, parts } => {
            writer.byte(tag::BEGUN);
            writer.number(*number);
            writer.parts(*parts);
        }
        Record::Part { transaction, from, parts } => {
            writer.transaction(tag::PART, *transaction);
            writer.byte(*from);
            writer.parts(*parts);
        }
        Record::Complete(transaction) => writer.transaction(tag::COMPLETE, *transaction),
        Record::Void(transaction) => writer.transaction(tag::VOID, *transaction),
        Record::CheckpointBegin => writer.byte(tag::CHECKPOINT_BEGIN),
        Record::CheckpointEnd => writer.byte(tag::CHECKPOINT_END),
        Record::Stopped(moment) => {
            writer.byte(tag::STOPPED);
            writer.moment(*moment);
        }
        Record::Clock(moment) => {
            writer.byte(tag::CLOCK);
            writer.moment(*moment);
        }
    }
}

/// The record at the front of `bytes`, which it borrows from, and how many bytes it takes.
pub fn decode(bytes: &[u8]) -> Result<(Record<'_>, usize), Malformed> {
    let mut reader = Reader::new(bytes);
    let record = reader.record()?;
    Ok((record, reader.read_bytes()))
}

/// The records of a frame's payload, in order; after an error there are no more.
pub fn records(payload: &[u8]) -> impl Iterator<Item = Result<Record<'_>, Malformed>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let decoded = decode(rest);
        rest = decoded.as_ref().map_or(&[], |(_, length)| &rest[*length..]);
        Some(decoded.map(|(record, _)| record))
    })
}

pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    #[inline]
    pub(super) fn number(&mut self, value: impl Into<u64>) {
        let mut rest = value.into();
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn moment(&mut self, moment: Moment) {
        self.number(moment.as_micros());
    }

    fn packet_id(&mut self, packet_id: PacketId) {
        self.number(packet_id.get());
    }

    fn tagged(&mut self, tag: u8, session: SessionNumber) {
        self.byte(tag);
        self.number(session.0);
    }

    fn placed(&mut self, tag: u8, session: SessionNumber, place: Place) {
        self.tagged(tag, session);
        self.number(place.0);
    }

    fn publication(&mut self, publication: Publication) {
        self.byte(publication.shard);
        self.number(publication.sequence);
    }

    fn transaction(&mut self, tag: u8, transaction: Transaction) {
        self.byte(tag);
        self.byte(transaction.shard);
        self.number(transaction.number);
    }

    fn parts(&mut self, parts: u128) {
        self.number(parts as u64);
        self.number((parts >> 64) as u64);
    }

    fn closing(&mut self, closing: Closing) {
        self.byte(cause_byte(closing.cause));
        self.moment(closing.at);
        self.moment(closing.last_packet);
    }

    fn session_record(&mut self, record: &SessionRecord<'_>) {
        self.byte(tag::SESSION);
        let facts = record.facts.encoded();
        self.byte(
            bit(record.username.is_some(), 1) | bit(record.closed.is_some(), 2) | bit(!facts.is_empty(), FACTS_BIT),
        );
        self.number(record.session.0);
        self.text(record.client_id);
        if let Some(username) = record.username {
            self.text(username);
        }
        self.number(record.listener);
        self.number(record.connection);
        self.number(record.keep_alive);
        self.number(record.expiry);
        if let Some(closed) = record.closed {
            self.moment(closed);
        }
        if !facts.is_empty() {
            self.bytes(&facts);
        }
    }

    fn subscribed(&mut self, session: SessionNumber, filter: &str, options: SubscriptionOptions, id: Option<u32>) {
        self.byte(tag::SUBSCRIBED);
        self.byte(options_byte(options) | bit(id.is_some(), 64));
        self.number(session.0);
        self.text(filter);
        if let Some(id) = id {
            self.number(id);
        }
    }

    #[inline]
    fn queued(&mut self, queued: &QueuedRecord<'_>) {
        self.byte(tag::QUEUED);
        self.byte(
            queued.qos.as_u8()
                | bit(queued.retain, RETAIN_BIT)
                | bit(!queued.subscription_ids.is_empty(), 8)
                | bit(queued.shared.is_some(), 16)
                | bit(queued.packet_id.is_some(), 32)
                | bit(queued.is_released, 64),
        );
        self.number(queued.session.0);
        self.number(queued.place.0);
        self.publication(queued.publication);
        if !queued.subscription_ids.is_empty() {
            self.number(queued.subscription_ids.len() as u64 * 4);
            queued.subscription_ids.iter().for_each(|id| self.0.extend_from_slice(&id.to_le_bytes()));
        }
        if let Some((share_name, filter)) = queued.shared {
            self.text(share_name);
            self.text(filter);
        }
        if let Some(packet_id) = queued.packet_id {
            self.packet_id(packet_id);
        }
        self.moment(queued.queued);
    }

    fn will(&mut self, will: &WillRecord<'_>) {
        self.tagged(tag::WILL_ARMED, will.session);
        self.number(will.delay_interval);
        self.byte(bit(will.message_expiry_interval.is_some(), 1));
        if let Some(interval) = will.message_expiry_interval {
            self.number(interval);
        }
        self.message(&will.message);
    }

    fn message(&mut self, message: &MessageRecord<'_>) {
        self.byte(
            message.qos.as_u8()
                | bit(message.retain, RETAIN_BIT)
                | bit(message.kind == Kind::Will, 8)
                | bit(message.expires.is_some(), 16),
        );
        self.publication(message.publication);
        self.0.extend_from_slice(&message.author.client.to_le_bytes());
        self.number(message.author.connection);
        if let Some(expires) = message.expires {
            self.moment(expires);
        }
        self.text(message.topic);
        self.bytes(message.forwarded);
        self.bytes(message.payload);
    }

    /// Ends a record that began at `start`.
    fn checksum(&mut self, start: usize) {
        let crc = crc32c::crc32c(&self.0[start..]);
        self.0.extend_from_slice(&crc.to_le_bytes());
    }
}

/// What is still unread; every method takes from the front and fails where too little is left. Nothing is allocated.
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { whole: bytes, rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn read_bytes(&self) -> usize {
        self.whole.len() - self.rest.len()
    }

    fn record(&mut self) -> Result<Record<'a>, Malformed> {
        Ok(match self.byte()? {
            tag::SESSION => Record::Session(self.session_record()?),
            tag::SESSION_RESET => Record::SessionReset(self.session()?),
            tag::SESSION_ENDED => Record::SessionEnded(self.session()?),
            tag::SUBSCRIBED => self.subscribed()?,
            tag::UNSUBSCRIBED => Record::Unsubscribed { session: self.session()?, filter: self.text()? },
            tag::MESSAGE => Record::Message(self.message().and_then(|message| self.checked(message))?),
            tag::QUEUED => Record::Queued(self.queued()?),
            tag::SENT => Record::Sent { session: self.session()?, place: self.place()?, packet_id: self.packet_id()? },
            tag::RELEASED => Record::Released { session: self.session()?, place: self.place()? },
            tag::DONE => Record::Done { session: self.session()?, place: self.place()? },
            tag::RECEIVED => Record::Received { session: self.session()?, packet_id: self.packet_id()? },
            tag::COMPLETED => Record::Completed { session: self.session()?, packet_id: self.packet_id()? },
            tag::RETAINED => Record::Retained(self.publication()?),
            tag::RETAINED_REMOVED => Record::RetainedRemoved(self.text()?),
            tag::WILL_ARMED => Record::WillArmed(self.will().and_then(|will| self.checked(will))?),
            tag::WILL_PENDING => {
                Record::WillPending { session: self.session()?, due: self.moment()?, closing: self.closing()? }
            }
            tag::WILL_GONE => Record::WillGone(self.session()?),
            tag::UNDER => Record::Under(self.transaction()?),
            tag::UNCONDITIONAL => Record::Unconditional,
            tag::BEGUN => Record::Begun { number: self.number()?, parts: self.parts()? },
            tag::PART => Record::Part { transaction: self.transaction()?, from: self.byte()?, parts: self.parts()? },
            tag::COMPLETE => Record::Complete(self.transaction()?),
            tag::VOID => Record::Void(self.transaction()?),
            tag::CHECKPOINT_BEGIN => Record::CheckpointBegin,
            tag::CHECKPOINT_END => Record::CheckpointEnd,
            tag::STOPPED => Record::Stopped(self.moment()?),
            tag::CLOCK => Record::Clock(self.moment()?),
            other => return Err(Malformed::Tag(other)),
        })
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            let is_last = byte & 0x80 == 0;
            let is_too_large = shift == 63 && bits > 1;
            let is_too_long = shift > 0 && byte == 0;
            if is_too_large || is_too_long {
                return Err(Malformed::Number);
            }
            value |= bits << shift;
            if is_last {
                return Ok(value);
            }
        }
        Err(Malformed::Number)
    }

    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed::Number)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()?;
        self.slice(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// A flags byte, of which no other bits than `known` may be set.
    pub(super) fn flags(&mut self, known: u8) -> Result<u8, Malformed> {
        let flags = self.byte()?;
        if flags & !known == 0 { Ok(flags) } else { Err(Malformed::Value) }
    }

    /// Reads with `read` if a flag says that there is something.
    fn optional<T>(
        &mut self,
        is_present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        is_present.then(|| read(self)).transpose()
    }

    fn moment(&mut self) -> Result<Moment, Malformed> {
        self.number().map(Moment::from_micros)
    }

    fn session(&mut self) -> Result<SessionNumber, Malformed> {
        self.number().map(SessionNumber)
    }

    fn place(&mut self) -> Result<Place, Malformed> {
        self.number().map(Place)
    }

    fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.narrow()?).ok_or(Malformed::Value)
    }

    fn publication(&mut self) -> Result<Publication, Malformed> {
        Ok(Publication { shard: self.byte()?, sequence: self.number()? })
    }

    fn transaction(&mut self) -> Result<Transaction, Malformed> {
        Ok(Transaction { shard: self.byte()?, number: self.number()? })
    }

    fn parts(&mut self) -> Result<u128, Malformed> {
        let low = self.number()?;
        let high = self.number()?;
        Ok(u128::from(low) | u128::from(high) << 64)
    }

    fn closing(&mut self) -> Result<Closing, Malformed> {
        let cause = cause_from(self.byte()?).ok_or(Malformed::Value)?;
        Ok(Closing { cause, at: self.moment()?, last_packet: self.moment()?, is_recovered: false })
    }

    fn session_record(&mut self) -> Result<SessionRecord<'a>, Malformed> {
        let flags = self.flags(3 | FACTS_BIT)?;
        Ok(SessionRecord {
            session: self.session()?,
            client_id: self.text()?,
            username: self.optional(flags & 1 != 0, Self::text)?,
            listener: self.narrow()?,
            connection: self.number()?,
            keep_alive: self.narrow()?,
            expiry: self.narrow()?,
            closed: self.optional(flags & 2 != 0, Self::moment)?,
            facts: self.optional(flags & FACTS_BIT != 0, Self::facts)?.unwrap_or_default(),
        })
    }

    fn facts(&mut self) -> Result<Facts<'a>, Malformed> {
        Facts::from_encoded(self.bytes()?)
    }

    fn subscribed(&mut self) -> Result<Record<'a>, Malformed> {
        let flags = self.flags(0x7F)?;
        Ok(Record::Subscribed {
            options: options_from(flags & 0x3F)?,
            session: self.session()?,
            filter: self.text()?,
            id: self.optional(flags & 64 != 0, Self::narrow)?,
        })
    }

    fn ids(&mut self) -> Result<Ids<'a>, Malformed> {
        match self.bytes()?.as_chunks() {
            (ids @ [_, ..], []) => Ok(Ids::from_encoded(ids)),
            _ => Err(Malformed::Value),
        }
    }

    fn queued(&mut self) -> Result<QueuedRecord<'a>, Malformed> {
        let flags = self.flags(0x7F)?;
        Ok(QueuedRecord {
            qos: qos_from(flags)?,
            retain: flags & RETAIN_BIT != 0,
            is_released: flags & 64 != 0,
            session: self.session()?,
            place: self.place()?,
            publication: self.publication()?,
            subscription_ids: self.optional(flags & 8 != 0, Self::ids)?.unwrap_or_default(),
            shared: self.optional(flags & 16 != 0, |reader| Ok((reader.text()?, reader.text()?)))?,
            packet_id: self.optional(flags & 32 != 0, Self::packet_id)?,
            queued: self.moment()?,
        })
    }

    fn will(&mut self) -> Result<WillRecord<'a>, Malformed> {
        let session = self.session()?;
        let delay_interval = self.narrow()?;
        let flags = self.flags(1)?;
        let message_expiry_interval = self.optional(flags & 1 != 0, Self::narrow)?;
        Ok(WillRecord { session, message: self.message()?, delay_interval, message_expiry_interval })
    }

    fn message(&mut self) -> Result<MessageRecord<'a>, Malformed> {
        let flags = self.flags(0x1F)?;
        Ok(MessageRecord {
            qos: qos_from(flags)?,
            retain: flags & RETAIN_BIT != 0,
            kind: if flags & 8 == 0 { Kind::Ordinary } else { Kind::Will },
            publication: self.publication()?,
            author: Author { client: self.array().map(u64::from_le_bytes)?, connection: self.number()? },
            expires: self.optional(flags & 16 != 0, Self::moment)?,
            topic: self.text()?,
            forwarded: self.bytes()?,
            payload: self.bytes()?,
        })
    }

    /// Passes on what the record so far says if the CRC that follows agrees.
    fn checked<T>(&mut self, value: T) -> Result<T, Malformed> {
        let crc = crc32c::crc32c(&self.whole[..self.read_bytes()]);
        if self.array().map(u32::from_le_bytes)? == crc { Ok(value) } else { Err(Malformed::Checksum) }
    }
}

const fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

fn qos_from(flags: u8) -> Result<QoS, Malformed> {
    QoS::new(flags & QOS_BITS).ok_or(Malformed::Value)
}

fn options_byte(options: SubscriptionOptions) -> u8 {
    let handling = match options.retain_handling {
        RetainHandling::Send => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    options.qos.as_u8() | bit(options.no_local, 4) | bit(options.retain_as_published, 8) | handling << 4
}

fn options_from(byte: u8) -> Result<SubscriptionOptions, Malformed> {
    Ok(SubscriptionOptions {
        qos: qos_from(byte)?,
        no_local: byte & 4 != 0,
        retain_as_published: byte & 8 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Malformed::Value),
        },
    })
}

/// The causes by the bytes that stand for them; only ever appended to.
const CAUSES: [Cause; Cause::COUNT] = [
    Cause::Disconnect,
    Cause::DisconnectWithWill,
    Cause::Closed,
    Cause::TransportError,
    Cause::KeepAlive,
    Cause::ProtocolError,
    Cause::Limit,
    Cause::Administrative,
    Cause::TakenOver,
    Cause::Shutdown,
    Cause::ServerDied,
    Cause::Unauthenticated,
];

fn cause_byte(cause: Cause) -> u8 {
    CAUSES.iter().position(|listed| *listed == cause).expect("every cause is listed") as u8
}

fn cause_from(byte: u8) -> Option<Cause> {
    CAUSES.get(usize::from(byte)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::Identity;

    fn encoded(record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(record, &mut out);
        out
    }

    fn message(payload: &[u8]) -> MessageRecord<'_> {
        MessageRecord {
            publication: Publication { shard: 1, sequence: 300 },
            author: Author { client: 0x0102_0304_0506_0708, connection: 9 },
            qos: QoS::ExactlyOnce,
            retain: true,
            kind: Kind::Will,
            expires: Some(Moment::from_micros(5)),
            topic: "a/b",
            forwarded: &[1, 2],
            payload,
        }
    }

    fn queued(ids: &[u32]) -> QueuedRecord<'_> {
        QueuedRecord {
            session: SessionNumber(4),
            place: Place(300),
            publication: Publication { shard: 1, sequence: 2 },
            qos: QoS::AtLeastOnce,
            retain: true,
            subscription_ids: ids.into(),
            shared: Some(("group", "a/#")),
            packet_id: PacketId::new(7),
            is_released: true,
            queued: Moment::from_micros(1),
        }
    }

    /// The bytes are the format: a change of these breaks the journals that exist.
    #[test]
    fn records_are_written_as_the_table_says() {
        assert_eq!(encoded(&Record::SessionEnded(SessionNumber(300))), [3, 0xAC, 0x02]);
        assert_eq!(encoded(&Record::Retained(Publication { shard: 2, sequence: 5 })), [13, 2, 5]);
        assert_eq!(encoded(&Record::Begun { number: 1, parts: 1 | 1 << 64 }), [20, 1, 1, 1]);
        let session = SessionRecord {
            session: SessionNumber(4),
            client_id: "lamp",
            username: Some("u"),
            listener: 1,
            connection: 2,
            keep_alive: 3,
            expiry: 5,
            closed: Some(Moment::from_micros(6)),
            facts: Facts::default(),
        };
        let fields = [&[1, 3, 4, 4][..], b"lamp", &[1, b'u', 1, 2, 3, 5, 6]].concat();
        assert_eq!(encoded(&Record::Session(session)), fields);
        let granted = Some(std::sync::Arc::default());
        let identity = Identity { username: None, fields: vec![("f".into(), "v".into())].into(), granted };
        let bytes = encoded(&Record::Session(SessionRecord { facts: Facts::of(&identity), ..session }));
        assert_eq!(bytes[1], 7);
        assert_eq!(bytes[2..], [&fields[2..], &[10, 1, 1, 1, b'f', 1, b'v', 0, 0, 0, 0]].concat());
        let bytes = encoded(&Record::Queued(queued(&[258])));
        let fields = [&[7, 0x7D, 4, 0xAC, 2, 1, 2, 4, 2, 1, 0, 0, 5][..], b"group", &[3], b"a/#", &[7, 1]].concat();
        assert_eq!(bytes, fields);
        let bytes = encoded(&Record::Message(message(&[9])));
        let author = [8, 7, 6, 5, 4, 3, 2, 1, 9];
        let fields = [&[6, 0x1E, 1, 0xAC, 2][..], &author, &[5, 3], b"a/b", &[2, 1, 2, 1, 9]].concat();
        assert_eq!(bytes, [&fields[..], &crc32c::crc32c(&fields).to_le_bytes()].concat());
    }

    #[test]
    fn every_tag_decodes_to_what_was_encoded() {
        let session = SessionNumber(u64::MAX);
        let transaction = Transaction { shard: 127, number: 3 };
        let packet_id = PacketId::new(u16::MAX).expect("is not zero");
        let closing =
            Closing { cause: Cause::ServerDied, at: Moment::MAX, last_packet: Moment::ZERO, is_recovered: false };
        let will = WillRecord { session, message: message(b""), delay_interval: 1, message_expiry_interval: Some(2) };
        let fields = vec![("cert.cn".into(), "lamp".into())];
        let granted = Some(std::sync::Arc::default());
        let identity = Identity { username: None, fields: fields.into(), granted };
        let record = SessionRecord {
            session,
            client_id: "lamp",
            username: Some("ü"),
            listener: 1,
            connection: 2,
            keep_alive: 3,
            expiry: u32::MAX,
            closed: Some(Moment::from_micros(4)),
            facts: Facts::of(&identity),
        };
        let all = [
            Record::Session(record),
            Record::SessionReset(session),
            Record::SessionEnded(session),
            Record::Subscribed { session, filter: "a/+", options: SubscriptionOptions::default(), id: Some(1) },
            Record::Unsubscribed { session, filter: "a/+" },
            Record::Message(message(&[0; 300])),
            Record::Queued(queued(&[1, u32::MAX])),
            Record::Sent { session, place: Place(1), packet_id },
            Record::Released { session, place: Place(1) },
            Record::Done { session, place: Place(1) },
            Record::Received { session, packet_id },
            Record::Completed { session, packet_id },
            Record::Retained(Publication::default()),
            Record::RetainedRemoved("a/b"),
            Record::WillArmed(will),
            Record::WillPending { session, due: Moment::MAX, closing },
            Record::WillGone(session),
            Record::Under(transaction),
            Record::Unconditional,
            Record::Begun { number: 1, parts: u128::MAX },
            Record::Part { transaction, from: 127, parts: 0 },
            Record::Complete(transaction),
            Record::Void(transaction),
            Record::CheckpointBegin,
            Record::CheckpointEnd,
            Record::Stopped(Moment::MAX),
            Record::Clock(Moment::ZERO),
        ];
        for (record, tag) in all.iter().zip(1..) {
            let bytes = encoded(record);
            assert_eq!(bytes[0], tag);
            assert_eq!(decode(&bytes), Ok((*record, bytes.len())));
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), Err(Malformed::Truncated), "{record:?} cut at {length}");
            }
        }
        let payload: Vec<u8> = all.iter().flat_map(encoded).collect();
        assert_eq!(records(&payload).collect::<Result<Vec<_>, _>>(), Ok(all.to_vec()));
    }

    #[test]
    fn a_message_that_is_read_back_alone_shows_every_flipped_bit() {
        let record = Record::Message(message(b"payload"));
        let bytes = encoded(&record);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(decode(&flipped).map(|(record, _)| record), Ok(record), "bit {bit}");
        }
    }

    #[test]
    fn what_could_be_written_shorter_or_means_nothing_is_refused() {
        for (bytes, error) in [
            (&[0][..], Malformed::Tag(0)),
            (&[28], Malformed::Tag(28)),
            (&[3, 0x80, 0], Malformed::Number),
            (&[3, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2], Malformed::Number),
            (&[11, 1, 0], Malformed::Value),
            (&[11, 1, 0x80, 0x80, 4], Malformed::Number),
            (&[14, 1, 0xFF], Malformed::Text),
            (&[1, 8], Malformed::Value),
            (&[4, 0x30, 1, 0], Malformed::Value),
            (&[7, 8, 1, 1, 0, 0, 0, 0], Malformed::Value),
            (&[16, 1, 1, 12, 1, 1], Malformed::Value),
        ] {
            assert_eq!(decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn every_cause_has_its_byte() {
        for (byte, cause) in (0..).zip(CAUSES) {
            assert_eq!((cause_byte(cause), cause_from(byte)), (byte, Some(cause)));
        }
        assert_eq!(cause_from(Cause::COUNT as u8), None);
    }
}
