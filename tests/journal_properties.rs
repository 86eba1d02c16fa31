//! Properties of the journal: records survive, no bytes make a reader panic, and whatever a disk does to a log, what the
//! log called durable is there afterwards.

use proptest::{collection::vec, option, prelude::*, sample::select};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use willowmq::codec::{PacketId, QoS, RetainHandling, SubscriptionOptions};
use willowmq::journal::encoding::{decode, encode, records};
use willowmq::journal::frame::{FRAME_HEADER, FrameHeader, Head};
use willowmq::journal::log::{Command, Completed, Existing, Failure, Mode, Options};
use willowmq::journal::record::{
    Facts, MessageRecord, Place, QueuedRecord, Record, SessionNumber, SessionRecord, Transaction, WillRecord,
};
use willowmq::journal::recovery::{Files, Problem, scan};
use willowmq::journal::segment::{SEGMENT_HEADER, SegmentHeader};
use willowmq::journal::{Appender, Log, Position, SegmentName};
use willowmq::security::{Granted, Identity};
use willowmq::session::message::{Author, Kind, Publication};
use willowmq::session::will::{Cause, Closing};
use willowmq::timer::Moment;
use willowmq::topic::TopicFilter;

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

/// The values that records are made of. Records borrow, so a test draws these and then builds the record it wants.
#[derive(Clone, Debug)]
struct Parts {
    numbers: [u64; 6],
    shard: u8,
    short: [u16; 2],
    long: [u32; 2],
    flags: [bool; 4],
    qos: QoS,
    handling: RetainHandling,
    packet_id: PacketId,
    maybe_packet_id: Option<PacketId>,
    maybe_number: Option<u64>,
    maybe_long: Option<u32>,
    ids: Vec<u32>,
    texts: [String; 2],
    maybe_text: Option<String>,
    bytes: [Vec<u8>; 2],
    cause: Cause,
    wide: u128,
    identity: Option<Identity>,
}

/// Numbers of every length.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64_u32).prop_map(|(number, shift)| number >> shift)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|value| PacketId::new(value).expect("is not zero"))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z0-9/äß€😀]{0,24}", 1 => "[a-z]{120,400}"]
}

fn identity() -> impl Strategy<Value = Identity> {
    let filter = select(vec!["#", "a/+/b", "$SYS/#", "ü"]);
    let filters = move || vec(filter.clone().prop_map(|text| TopicFilter::parse(text).expect("a filter")), 0..3);
    let granted = (filters(), filters(), filters(), filters())
        .prop_map(|(publish, subscribe, receive, will)| Arc::new(Granted { publish, subscribe, receive, will }));
    let field = (text(), text()).prop_map(|(name, value)| (name.into(), value.into()));
    (vec(field, 0..3), option::of(granted)).prop_map(|(fields, granted)| Identity {
        username: None,
        fields: fields.into(),
        granted,
    })
}

fn parts() -> impl Strategy<Value = Parts> {
    let numbers = ([number(), number(), number(), number(), number(), number()], any::<u8>(), any::<u128>());
    let short = (any::<[u16; 2]>(), any::<[u32; 2]>(), any::<[bool; 4]>());
    let qos = select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let handling = select(vec![RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
    let kinds = (qos, handling, select(CAUSES.to_vec()));
    let ids = (packet_id(), option::of(packet_id()), vec(any::<u32>(), 0..4));
    let maybes = (option::of(number()), option::of(any::<u32>()), option::of(text()));
    let maybes = (maybes, option::of(identity()));
    let blobs = ([text(), text()], [vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..300)]);
    (numbers, short, kinds, ids, maybes, blobs).prop_map(|(numbers, short, kinds, ids, maybes, blobs)| Parts {
        numbers: numbers.0,
        shard: numbers.1,
        wide: numbers.2,
        short: short.0,
        long: short.1,
        flags: short.2,
        qos: kinds.0,
        handling: kinds.1,
        cause: kinds.2,
        packet_id: ids.0,
        maybe_packet_id: ids.1,
        ids: ids.2,
        maybe_number: maybes.0.0,
        maybe_long: maybes.0.1,
        maybe_text: maybes.0.2,
        identity: maybes.1,
        texts: blobs.0,
        bytes: blobs.1,
    })
}

impl Parts {
    fn session(&self) -> SessionNumber {
        SessionNumber(self.numbers[0])
    }

    fn place(&self) -> Place {
        Place(self.numbers[1])
    }

    fn publication(&self) -> Publication {
        Publication { shard: self.shard, sequence: self.numbers[2] }
    }

    fn transaction(&self) -> Transaction {
        Transaction { shard: self.shard, number: self.numbers[3] }
    }

    fn moment(&self) -> Moment {
        Moment::from_micros(self.numbers[4])
    }

    fn options(&self) -> SubscriptionOptions {
        let [no_local, retain_as_published, ..] = self.flags;
        SubscriptionOptions { qos: self.qos, no_local, retain_as_published, retain_handling: self.handling }
    }

    fn session_record(&self) -> SessionRecord<'_> {
        SessionRecord {
            session: self.session(),
            client_id: &self.texts[0],
            username: self.maybe_text.as_deref(),
            listener: self.short[0],
            connection: self.numbers[5],
            keep_alive: self.short[1],
            expiry: self.long[0],
            closed: self.maybe_number.map(Moment::from_micros),
            facts: self.identity.as_ref().map(Facts::of).unwrap_or_default(),
        }
    }

    fn message(&self) -> MessageRecord<'_> {
        MessageRecord {
            publication: self.publication(),
            author: Author { client: self.numbers[5], connection: self.numbers[3] },
            qos: self.qos,
            retain: self.flags[0],
            kind: if self.flags[1] { Kind::Will } else { Kind::Ordinary },
            expires: self.maybe_number.map(Moment::from_micros),
            topic: &self.texts[0],
            forwarded: &self.bytes[0],
            payload: &self.bytes[1],
        }
    }

    fn queued(&self) -> QueuedRecord<'_> {
        QueuedRecord {
            session: self.session(),
            place: self.place(),
            publication: self.publication(),
            qos: self.qos,
            retain: self.flags[0],
            subscription_ids: self.ids.as_slice().into(),
            shared: self.maybe_text.as_deref().map(|group| (group, self.texts[1].as_str())),
            packet_id: self.maybe_packet_id,
            is_released: self.flags[1],
            queued: self.moment(),
        }
    }

    fn will(&self) -> WillRecord<'_> {
        WillRecord {
            session: self.session(),
            message: self.message(),
            delay_interval: self.long[1],
            message_expiry_interval: self.maybe_long,
        }
    }

    fn closing(&self) -> Closing {
        Closing {
            cause: self.cause,
            at: Moment::from_micros(self.numbers[5]),
            last_packet: self.moment(),
            is_recovered: false,
        }
    }

    /// One record of each kind.
    fn records(&self) -> [Record<'_>; 27] {
        let (session, place, packet_id) = (self.session(), self.place(), self.packet_id);
        let (transaction, filter) = (self.transaction(), self.texts[0].as_str());
        [
            Record::Session(self.session_record()),
            Record::SessionReset(session),
            Record::SessionEnded(session),
            Record::Subscribed { session, filter, options: self.options(), id: self.maybe_long },
            Record::Unsubscribed { session, filter },
            Record::Message(self.message()),
            Record::Queued(self.queued()),
            Record::Sent { session, place, packet_id },
            Record::Released { session, place },
            Record::Done { session, place },
            Record::Received { session, packet_id },
            Record::Completed { session, packet_id },
            Record::Retained(self.publication()),
            Record::RetainedRemoved(&self.texts[1]),
            Record::WillArmed(self.will()),
            Record::WillPending { session, due: self.moment(), closing: self.closing() },
            Record::WillGone(session),
            Record::Under(transaction),
            Record::Unconditional,
            Record::Begun { number: self.numbers[3], parts: self.wide },
            Record::Part { transaction, from: transaction.shard, parts: self.wide },
            Record::Complete(transaction),
            Record::Void(transaction),
            Record::CheckpointBegin,
            Record::CheckpointEnd,
            Record::Stopped(self.moment()),
            Record::Clock(self.moment()),
        ]
    }
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(record, &mut out);
    out
}

/// What lies at the front of `bytes`, if it is a frame and whole.
fn whole_frame(bytes: &[u8], offset: u64) -> Option<(FrameHeader, &[u8])> {
    let Head::Frame(header) = Head::decode(bytes.first_chunk()?, offset) else { return None };
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + header.length as usize)?;
    header.checks(payload).then_some((header, payload))
}

proptest! {
    #[test]
    fn every_record_survives_and_ends_where_it_says(parts in parts(), behind in vec(any::<u8>(), 0..8)) {
        for record in parts.records() {
            let mut bytes = encoded(&record);
            let length = bytes.len();
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(decode(&bytes), Ok((record, length)));
        }
    }

    /// A will is checked against all of this after a restart.
    #[test]
    fn who_a_client_is_survives(parts in parts()) {
        let identity = Identity { username: parts.maybe_text.as_deref().map(Into::into), ..parts.identity.clone().unwrap_or_default() };
        let bytes = encoded(&Record::Session(parts.session_record()));
        let Ok((Record::Session(record), _)) = decode(&bytes) else { panic!("a Session was written") };
        prop_assert_eq!(record.identity(), identity);
    }

    /// Versions before there were facts wrote the same records, but for these; and refuse what they do not know instead of passing it over.
    #[test]
    fn a_session_without_facts_is_as_it_was_before_there_were_any(parts in parts()) {
        const KNOWN_BEFORE: u8 = 3;
        let record = SessionRecord { facts: Facts::default(), ..parts.session_record() };
        let plain = encoded(&Record::Session(record));
        prop_assert_eq!(plain[1] & !KNOWN_BEFORE, 0);
        let facts = parts.session_record().facts;
        let whole = encoded(&Record::Session(parts.session_record()));
        prop_assert_eq!(whole[1] & !KNOWN_BEFORE != 0, !facts.is_empty());
        prop_assert_eq!(&whole[2..plain.len()], &plain[2..]);
    }

    #[test]
    fn a_record_that_is_cut_off_is_none(parts in parts(), cut in any::<prop::sample::Index>()) {
        for record in parts.records() {
            let bytes = encoded(&record);
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    /// A reader that follows a length from a damaged record would read beyond, or reserve memory, or never end.
    #[test]
    fn bytes_that_decode_are_the_only_ones_for_their_record(tag in 0..32_u8, bytes in vec(any::<u8>(), 0..200)) {
        let bytes = [&[tag][..], &bytes].concat();
        if let Ok((record, length)) = decode(&bytes) {
            prop_assert_eq!(encoded(&record), &bytes[..length]);
        }
        prop_assert!(records(&bytes).count() <= bytes.len());
    }

    #[test]
    fn damage_to_a_record_never_panics(parts in parts(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for record in parts.records() {
            let mut bytes = encoded(&record);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok((record, length)) = decode(&bytes) {
                prop_assert_eq!(encoded(&record), &bytes[..length]);
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_a_frame_is_found(
        parts in parts(),
        position in (number(), number()),
        bit in any::<prop::sample::Index>(),
    ) {
        let position = Position { offset: position.0 >> 1, sequence: position.1 >> 1 };
        let mut appender = Appender::new(position);
        for record in parts.records() {
            appender.append(&record);
        }
        appender.end_turn();
        let mut frame = appender.take();
        let (header, payload) = whole_frame(&frame, position.offset).expect("a frame");
        prop_assert_eq!(header.sequence, position.sequence);
        prop_assert_eq!(records(payload).collect::<Result<Vec<_>, _>>().expect("records"), parts.records());
        let bit = bit.index(frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(whole_frame(&frame, position.offset), None);
    }
}

/// What happens to a log, one after the other.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A turn of the shard writes so many records of so many bytes.
    Append { records: u8, bytes: u16 },
    /// The disk gets to carry out the next command, and this comes of it.
    Disk(Outcome),
    /// Time passes, in milliseconds.
    Wait(u16),
    /// A checkpoint that began after this share (of 256) of the log is complete.
    Drop(u8),
    /// The process ends and another one goes on. `Some`: the power went, and this seed decides what of the unsynced is left.
    Restart(Option<u64>),
}

/// What a command comes to.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It succeeds.
    Good,
    /// It fails before anything is done, for want of room.
    Full,
    /// Half of a write is done, and no sync.
    Half,
    /// All is written, and then the sync fails; the system forgets what it had still to write.
    Unsynced,
}

fn event() -> impl Strategy<Value = Event> {
    let outcome = select(vec![Outcome::Full, Outcome::Half, Outcome::Unsynced]);
    prop_oneof![
        30 => (1..4_u8, 1..200_u16).prop_map(|(records, bytes)| Event::Append { records, bytes }),
        2 => (1..2_u8, 200..3000_u16).prop_map(|(records, bytes)| Event::Append { records, bytes }),
        60 => Just(Event::Disk(Outcome::Good)),
        5 => outcome.prop_map(Event::Disk),
        10 => (1..1500_u16).prop_map(Event::Wait),
        2 => any::<u8>().prop_map(Event::Drop),
        2 => option::of(any::<u64>()).prop_map(Event::Restart),
    ]
}

const SECTOR: usize = 64;

/// A file as the system shows it, and as the disk holds it.
#[derive(Clone, Debug, Default)]
struct File {
    shown: Vec<u8>,
    held: Vec<u8>,
    /// Bytes that a failed sync has left unheld for good, although the system takes them for held.
    forgotten: Vec<bool>,
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        let length = self.shown.len().max(end);
        self.shown.resize(length, 0);
        self.held.resize(length, 0);
        self.forgotten.resize(length, false);
        self.shown[at..end].copy_from_slice(bytes);
        self.forgotten[at..end].fill(false);
    }

    /// What stands at a log offset and behind it.
    fn from(&self, name: SegmentName, offset: u64) -> &[u8] {
        &self.shown[name.file_offset(offset) as usize..]
    }

    fn sync(&mut self) {
        for (index, held) in self.held.iter_mut().enumerate() {
            if !self.forgotten[index] {
                *held = self.shown[index];
            }
        }
    }

    /// A sync fails: of what was not held, nothing ever will be, and the next sync will not say so.
    fn forget(&mut self) {
        for (index, forgotten) in self.forgotten.iter_mut().enumerate() {
            *forgotten |= self.held[index] != self.shown[index];
        }
    }

    /// The power goes. Each sector that was not held may be there or not.
    fn lose_power(&mut self, seed: &mut u64) {
        for start in (0..self.shown.len()).step_by(SECTOR) {
            let end = (start + SECTOR).min(self.shown.len());
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if *seed >> 63 == 0 {
                for index in (start..end).filter(|index| !self.forgotten[*index]) {
                    self.held[index] = self.shown[index];
                }
            }
        }
        self.shown.clone_from(&self.held);
        self.forgotten.fill(false);
    }
}

/// The files of one shard.
#[derive(Clone, Debug, Default)]
struct Disk {
    files: BTreeMap<(u32, u64), (SegmentName, File)>,
}

impl Disk {
    fn carry_out(&mut self, command: Command, outcome: Outcome) -> Completed {
        let result = match outcome {
            Outcome::Good => Ok(()),
            Outcome::Full | Outcome::Half | Outcome::Unsynced => {
                Err(Failure { what: "disk".into(), is_full: matches!(outcome, Outcome::Full) })
            }
        };
        match command {
            Command::Create { segment, header, preallocate } => {
                assert!(!self.files.contains_key(&segment.order()), "{segment} exists");
                let mut file = File::default();
                file.write(0, &vec![0; preallocate as usize]);
                match outcome {
                    Outcome::Full => {}
                    Outcome::Half => file.write(0, &header[..SEGMENT_HEADER / 2]),
                    Outcome::Good | Outcome::Unsynced => file.write(0, &header),
                }
                self.finish(&mut file, outcome, true);
                self.files.insert(segment.order(), (segment, file));
                Completed::Created(result)
            }
            Command::Write { segment, at, bytes, sync } => {
                let mut file = self.files.remove(&segment.order()).expect("a file").1;
                let length = file.shown.len();
                match outcome {
                    Outcome::Full => {}
                    Outcome::Half => file.write(at as usize, &bytes[..bytes.len() / 2]),
                    Outcome::Good | Outcome::Unsynced => file.write(at as usize, &bytes),
                }
                assert_eq!(file.shown.len(), length, "nothing is written behind what was allocated");
                self.finish(&mut file, outcome, sync);
                self.files.insert(segment.order(), (segment, file));
                Completed::Written(result, bytes)
            }
            Command::Sync { segment } => {
                let mut file = self.files.remove(&segment.order()).expect("a file").1;
                self.finish(&mut file, outcome, true);
                self.files.insert(segment.order(), (segment, file));
                Completed::Synced(result)
            }
            Command::Remove { segment } => {
                if result.is_ok() {
                    self.files.remove(&segment.order());
                }
                Completed::Removed(result)
            }
        }
    }

    fn finish(&self, file: &mut File, outcome: Outcome, sync: bool) {
        match outcome {
            Outcome::Good if sync => file.sync(),
            Outcome::Good | Outcome::Full | Outcome::Half => {}
            Outcome::Unsynced => file.forget(),
        }
    }

    fn lose_power(&mut self, mut seed: u64) {
        self.files.values_mut().for_each(|(_, file)| file.lose_power(&mut seed));
    }

    /// Reads the log as the documentation of `segment` and `frame` says.
    fn read(&self) -> Found {
        let mut found = Found::default();
        for (name, file) in self.files.values() {
            found.read_segment(*name, file);
        }
        let starts: Vec<_> = found.existing.iter().map(|existing| existing.name.start).collect();
        assert!(found.seals.iter().all(|seal| starts.contains(&seal.offset)), "what a seal names is missing");
        let damaged = |(name, file): &&(SegmentName, File)| is_damaged(file, *name, found.end.offset);
        assert_eq!(self.files.values().find(damaged).map(|(name, _)| name), None, "damaged at {}", found.end.offset);
        self.compare(&found);
        found
    }

    /// The reader of the broker finds the same. It does not go without the beginning of a log, as there are no checkpoints here.
    fn compare(&self, found: &Found) {
        let is_beginning_there = found.existing.iter().map(|segment| segment.name.start).min().unwrap_or(0) == 0;
        match scan(self, 0, &mut |_| {}) {
            Ok(scan) => {
                assert!(is_beginning_there);
                assert_eq!((scan.position, &scan.existing), (found.end, &found.existing));
                let (certain, tail) = found.tail();
                assert_eq!((scan.certain, scan.tail.len()), (certain, tail.len()));
                let ends = scan.parts.windows(2).all(|parts| parts[0].end == parts[1].start);
                assert!(ends && scan.frames == found.frames.len() as u64);
            }
            Err(error) => {
                assert!(!is_beginning_there && matches!(error.problem, Problem::Missing { from: 0, .. }), "{error}");
            }
        }
    }
}

impl Files for Disk {
    fn identity(&self) -> u64 {
        Options::default().directory
    }

    fn segments(&self, _shard: u8) -> std::io::Result<Vec<SegmentName>> {
        Ok(self.files.values().map(|(name, _)| *name).collect())
    }

    fn length(&self, segment: &SegmentName) -> std::io::Result<u64> {
        Ok(self.files[&segment.order()].1.shown.len() as u64)
    }

    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let shown = &self.files[&segment.order()].1.shown;
        let start = shown.len().min(at as usize);
        Ok(shown[start..shown.len().min(start + length)].to_vec())
    }
}

/// What a reader has found.
#[derive(Debug, Default)]
struct Found {
    /// The frames that count by their offset: sequence, and all bytes.
    frames: BTreeMap<u64, (u64, Vec<u8>)>,
    end: Position,
    /// Everything before this offset was synced.
    durable: u64,
    seals: Vec<Position>,
    existing: Vec<Existing>,
}

impl Found {
    fn read_segment(&mut self, name: SegmentName, file: &File) {
        let header = file.shown.first_chunk().and_then(|bytes| SegmentHeader::decode(bytes).ok());
        self.existing.push(Existing { name, end: name.start });
        let Some(header) = header else {
            assert!(file.shown[SEGMENT_HEADER..].iter().all(|byte| *byte == 0), "{name} has lost its header");
            return;
        };
        let mut at = Position { offset: name.start, sequence: header.sequence };
        let is_first = self.end == Position::default();
        assert!(header.name == name && (is_first || self.has(at)), "{name} does not follow on {:?}", self.end);
        self.durable = self.durable.max(name.start);
        while let Some((header, payload)) = whole_frame(file.from(name, at.offset), at.offset) {
            assert_eq!(header.sequence, at.sequence);
            let bytes = file.from(name, at.offset)[..FRAME_HEADER + payload.len()].to_vec();
            let before = self.frames.insert(at.offset, (at.sequence, bytes));
            assert!(before.is_none_or(|(_, bytes)| bytes[FRAME_HEADER..] == *payload), "another frame at {at:?}");
            self.durable = self.durable.max(header.durable);
            at.offset += header.frame_bytes();
            at.sequence += 1;
        }
        let head = file.from(name, at.offset).first_chunk().map(|bytes| Head::decode(bytes, at.offset));
        if let Some(Head::Seal(seal)) = head {
            assert_eq!(seal, at);
            self.seals.push(seal);
        }
        self.existing.last_mut().expect("just pushed").end = at.offset;
        self.end = if self.end.offset < at.offset { at } else { self.end };
    }

    /// Whether a frame begins there, or the log ends.
    fn has(&self, at: Position) -> bool {
        self.end == at || self.frames.get(&at.offset).is_some_and(|(sequence, _)| *sequence == at.sequence)
    }

    /// Where the frames begin of which nothing says that they were synced, and those frames.
    fn tail(&self) -> (Position, Vec<u8>) {
        let mut frames = self.frames.range(self.durable..);
        let start = frames
            .clone()
            .next()
            .map_or(self.end, |(offset, (sequence, _))| Position { offset: *offset, sequence: *sequence });
        assert_eq!(start.offset, self.durable, "what is durable ends between two frames");
        let tail: Vec<u8> = frames.by_ref().flat_map(|(_, (_, bytes))| bytes.iter().copied()).collect();
        assert_eq!(start.offset + tail.len() as u64, self.end.offset, "there is no gap");
        (start, tail)
    }
}

/// Whether a good frame anywhere says that the log, which ends at `end`, was synced beyond that.
fn is_damaged(file: &File, name: SegmentName, end: u64) -> bool {
    let behind = name.start + (file.shown.len() - SEGMENT_HEADER) as u64;
    (name.start..behind).any(|offset| {
        let head = file.from(name, offset).first_chunk().map(|bytes| Head::decode(bytes, offset));
        matches!(head, Some(Head::Frame(header)) if header.durable > end)
    })
}

/// A log with the shard before it and the disk behind it.
struct World {
    options: Options,
    now: Moment,
    appender: Appender,
    log: Log,
    disk: Disk,
    /// Every frame's payload by its offset: what must be there.
    appended: BTreeMap<u64, Vec<u8>>,
    dropped: u64,
    durable: u64,
    /// What must outlive the process, and what must outlive a power cut.
    kept: u64,
    held: u64,
    number: u64,
}

impl World {
    fn new(mode: Mode) -> Self {
        let options = Options { mode, segment_bytes: 2048, ..Options::default() };
        Self {
            options,
            now: Moment::ZERO,
            appender: Appender::new(Position::default()),
            log: Log::new(options, Position::default(), Vec::new()),
            disk: Disk::default(),
            appended: BTreeMap::new(),
            dropped: 0,
            durable: 0,
            kept: 0,
            held: 0,
            number: 0,
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Append { records, bytes } => self.append(records, bytes),
            Event::Disk(outcome) => {
                self.disk(outcome);
            }
            Event::Wait(millis) => self.now += Duration::from_millis(u64::from(millis)),
            Event::Drop(share) => self.drop(share),
            Event::Restart(None) => self.restart(self.kept),
            Event::Restart(Some(seed)) => {
                self.disk.lose_power(seed);
                self.restart(self.held);
                self.held = self.kept;
            }
        }
        self.check();
    }

    /// Every frame is another one, so that none can pass for another.
    fn append(&mut self, records: u8, bytes: u16) {
        let offset = self.appender.offset();
        for _ in 0..records {
            self.number += 1;
            self.appender.append(&Record::RetainedRemoved(&format!("{:0>1$}", self.number, usize::from(bytes))));
            self.appender.end_step();
        }
        self.appender.end_turn();
        let frames = self.appender.take();
        self.appended.insert(offset, frames[FRAME_HEADER..].to_vec());
        self.log.append(frames);
    }

    /// Carries out the next command, if there is one.
    fn disk(&mut self, outcome: Outcome) -> bool {
        let Some(command) = self.log.next_command(self.now) else { return false };
        assert_eq!(self.log.next_command(self.now), None, "one command at a time");
        let completed = self.disk.carry_out(command, outcome);
        self.log.on_completed(self.now, completed);
        if let Some(spare) = self.log.take_spare() {
            self.appender.recycle(spare);
        }
        true
    }

    /// A checkpoint begins between two frames.
    fn drop(&mut self, share: u8) {
        let index = self.appended.len() * usize::from(share) / 256;
        if let Some(offset) = self.appended.keys().nth(index) {
            self.dropped = self.dropped.max(*offset);
            self.log.drop_before(*offset);
        }
    }

    /// Starts again from what is on disk, which must be all that was promised and nothing that never was.
    fn restart(&mut self, promised: u64) {
        let found = self.disk.read();
        let end = found.end;
        assert!(end.offset >= promised, "{} was promised, {} is there", promised, end.offset);
        self.dropped = self.dropped.min(end.offset);
        for (offset, payload) in self.appended.range(self.dropped..end.offset) {
            let frame = found.frames.get(offset).map(|(_, bytes)| &bytes[FRAME_HEADER..]);
            assert_eq!(frame, Some(&payload[..]), "the frame at {offset}");
        }
        let (certain, tail) = found.tail();
        self.appended.split_off(&end.offset);
        self.log = Log::new(self.options, certain, found.existing);
        self.log.append(tail);
        self.appender = Appender::new(end);
        (self.durable, self.kept) = (self.log.durable(), end.offset);
    }

    fn check(&mut self) {
        let (durable, end) = (self.log.durable(), self.appender.offset());
        assert!(durable >= self.durable, "durable goes back");
        assert_eq!(self.log.backlog() as u64, end - durable);
        assert!(self.log.synced() <= durable && durable == self.log.written());
        assert!(self.options.mode == Mode::Relaxed || self.log.synced() == durable);
        self.durable = durable;
        self.kept = self.kept.max(durable);
        self.held = self.held.max(self.log.synced());
    }

    /// Every frame that is written is where the log says.
    fn check_places(&self) {
        let written = self.log.written();
        for (offset, payload) in self.appended.range(self.dropped..) {
            let place = self.log.locate(*offset);
            assert!(place.is_some() || *offset >= written, "{offset} of {written}");
            if let Some((segment, at)) = place {
                let file = &self.disk.files[&segment.order()].1;
                let found = whole_frame(&file.shown[at as usize..], *offset).map(|(_, payload)| payload);
                assert_eq!(found, Some(&payload[..]), "the frame at {offset}");
            }
        }
    }

    /// The disk works again: all is stored in a while, without anybody's help.
    fn recover(&mut self) {
        for _ in 0..10_000 {
            if self.disk(Outcome::Good) {
                continue;
            }
            match self.log.next_deadline() {
                Some(due) => self.now = self.now.max(due),
                None => break,
            }
        }
        assert!(self.log.is_idle());
        assert_eq!(self.log.failure(), None);
        assert_eq!((self.log.backlog(), self.log.synced()), (0, self.appender.offset()));
    }
}

fn run(mode: Mode, events: &[Event]) {
    let mut world = World::new(mode);
    for event in events {
        world.apply(*event);
        world.check_places();
    }
    world.recover();
    world.check_places();
    world.disk.lose_power(1);
    world.restart(world.appender.offset());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_durable_outlives_failures_and_power_cuts(events in vec(event(), 0..200)) {
        run(Mode::Sync, &events);
    }

    #[test]
    fn what_a_relaxed_log_wrote_outlives_the_process(events in vec(event(), 0..200)) {
        run(Mode::Relaxed, &events);
    }
}

/// A promised frame lies in the first segment. The one that was to repeat it is on disk and empty when the process ends.
#[test]
fn a_segment_that_repeats_nothing_yet_voids_nothing() {
    let good = Event::Disk(Outcome::Good);
    let append = Event::Append { records: 1, bytes: 1 };
    let events = [append, good, good, Event::Restart(None), good, Event::Restart(Some(0))];
    run(Mode::Sync, &events);
    run(Mode::Relaxed, &events);
}

/// The system shows a frame whose sync has failed, so the next process reads it; the disk will never hold it.
#[test]
fn a_frame_that_is_only_shown_is_written_again_by_the_next_process() {
    let good = Event::Disk(Outcome::Good);
    let append = Event::Append { records: 1, bytes: 1 };
    let lost = [append, good, Event::Disk(Outcome::Unsynced), Event::Restart(None)];
    let events = [&lost[..], &[append, good, good, good, Event::Restart(Some(0)), append, good, good]].concat();
    run(Mode::Sync, &events);
    run(Mode::Relaxed, &events);
}
