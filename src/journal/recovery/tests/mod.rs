//! Journals built in memory, damaged on purpose, and read again.

use super::*;
use crate::codec::{PacketId, QoS, SubscriptionOptions};
use crate::journal::appender::Appender;
use crate::journal::frame::{FRAME_HEADER, Position, headers, stamp};
use crate::journal::record::{
    Facts, Ids, MessageRecord, Place, QueuedRecord, Record, SessionNumber, SessionRecord, Transaction, WillRecord,
};
use crate::journal::segment::{SEGMENT_HEADER, SegmentHeader, encode_seal};
use crate::session::message::{Author, Kind, Publication};
use crate::session::will::{Cause, Closing};
use crate::timer::Moment;
use std::collections::BTreeMap;

mod model;

const IDENTITY: u64 = 0xFEED;
const ALL: Limits = Limits { memory_budget: u64::MAX };
const PACKET: fn(u16) -> PacketId = |id| PacketId::new(id).expect("not zero");

/// Files in memory.
#[derive(Debug, Clone, Default)]
pub(in crate::journal) struct MemoryFiles {
    pub(in crate::journal) files: BTreeMap<(u8, u64, u32), Vec<u8>>,
}

pub(in crate::journal) fn file_key(segment: &SegmentName) -> (u8, u64, u32) {
    (segment.shard, segment.start, segment.epoch)
}

impl Files for MemoryFiles {
    fn identity(&self) -> u64 {
        IDENTITY
    }

    fn segments(&self, shard: u8) -> io::Result<Vec<SegmentName>> {
        let all =
            self.files.keys().map(|(shard, start, epoch)| SegmentName { shard: *shard, start: *start, epoch: *epoch });
        Ok(all.filter(|name| name.shard == shard).collect())
    }

    fn length(&self, segment: &SegmentName) -> io::Result<u64> {
        Ok(self.files[&file_key(segment)].len() as u64)
    }

    fn read(&self, segment: &SegmentName, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = &self.files[&file_key(segment)];
        let start = bytes.len().min(at as usize);
        Ok(bytes[start..bytes.len().min(start.saturating_add(length))].to_vec())
    }
}

/// Writes journals as a shard and its log do.
pub(in crate::journal) struct Writer {
    pub(in crate::journal) files: MemoryFiles,
    appender: Appender,
    name: SegmentName,
    pub(in crate::journal) at: Position,
}

impl Writer {
    pub(in crate::journal) fn new(shard: u8) -> Self {
        let name = SegmentName { shard, start: 0, epoch: 0 };
        let mut writer = Self {
            files: MemoryFiles::default(),
            appender: Appender::new(Position::default()),
            name,
            at: Position::default(),
        };
        writer.begin();
        writer
    }

    fn begin(&mut self) {
        let header = SegmentHeader { name: self.name, directory: IDENTITY, sequence: self.at.sequence };
        self.files.files.insert(file_key(&self.name), header.encode().to_vec());
    }

    pub(in crate::journal) fn file(&mut self) -> &mut Vec<u8> {
        self.files.files.get_mut(&file_key(&self.name)).expect("it was begun")
    }

    /// Writes these records as one frame, all before it being synced.
    pub(in crate::journal) fn frame(&mut self, records: &[Record<'_>]) -> Position {
        let durable = self.at.offset;
        self.frame_unsynced(records, durable)
    }

    /// Writes these records as one frame, when only what lies before `durable` is synced.
    pub(in crate::journal) fn frame_unsynced(&mut self, records: &[Record<'_>], durable: u64) -> Position {
        let start = self.at;
        for record in records {
            self.appender.append(record);
        }
        self.appender.end_turn();
        let mut frames = self.appender.take();
        stamp(&mut frames, self.at.offset, durable);
        self.at.sequence += headers(&frames, self.at.offset).count() as u64;
        self.at.offset += frames.len() as u64;
        self.file().extend_from_slice(&frames);
        start
    }

    /// Leaves the segment in order.
    pub(in crate::journal) fn next_segment(&mut self) {
        let seal = encode_seal(self.at);
        self.file().extend_from_slice(&seal);
        self.name.start = self.at.offset;
        self.begin();
    }

    /// Goes on in a segment of the next epoch from `at`, as after a failure.
    pub(in crate::journal) fn fail_back_to(&mut self, at: Position) {
        self.name = SegmentName { start: at.offset, epoch: self.name.epoch + 1, ..self.name };
        self.at = at;
        self.appender = Appender::new(at);
        self.begin();
    }

    pub(in crate::journal) fn scan(&self) -> Result<Scan, JournalError> {
        scan(&self.files, self.name.shard, &mut |_| {})
    }

    pub(in crate::journal) fn recover(&self) -> Recovered {
        recover_with(&self.files, ALL).expect("a sound journal")
    }
}

pub(in crate::journal) fn recover_with(files: &MemoryFiles, limits: Limits) -> Result<Recovered, JournalError> {
    Ok(recover(files, 1, limits, &mut |_, _| {})?.pop().expect("one shard"))
}

pub(in crate::journal) fn session(number: u64) -> Record<'static> {
    Record::Session(SessionRecord {
        session: SessionNumber(number),
        client_id: ["willow", "oak", "elm", "ash"][number as usize % 4],
        username: None,
        facts: Facts::default(),
        listener: 0,
        connection: 1,
        keep_alive: 60,
        expiry: 3600,
        closed: None,
    })
}

fn publication(sequence: u64) -> Publication {
    Publication { shard: 0, sequence }
}

fn message_record(sequence: u64, topic: &'static str, payload: &'static [u8]) -> MessageRecord<'static> {
    MessageRecord {
        publication: publication(sequence),
        author: Author::default(),
        qos: QoS::AtLeastOnce,
        retain: true,
        kind: Kind::Ordinary,
        expires: None,
        topic,
        forwarded: &[],
        payload,
    }
}

pub(in crate::journal) fn message(sequence: u64, topic: &'static str) -> Record<'static> {
    Record::Message(message_record(sequence, topic, b"payload"))
}

pub(in crate::journal) fn queued(number: u64, place: u64, sequence: u64) -> Record<'static> {
    Record::Queued(QueuedRecord {
        session: SessionNumber(number),
        place: Place(place),
        publication: publication(sequence),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Ids::from(&[7, 9][..]),
        shared: Some(("group", "a/+")),
        packet_id: None,
        is_released: false,
        queued: Moment::from_micros(place),
    })
}

pub(in crate::journal) fn will(number: u64) -> Record<'static> {
    Record::WillArmed(WillRecord {
        session: SessionNumber(number),
        message: MessageRecord { kind: Kind::Will, ..message_record(0, "status", b"offline") },
        delay_interval: 30,
        message_expiry_interval: Some(60),
    })
}

fn pending(number: u64) -> Record<'static> {
    let at = Moment::from_micros(40);
    let closing = Closing { cause: Cause::KeepAlive, at, last_packet: at, is_recovered: false };
    Record::WillPending { session: SessionNumber(number), due: Moment::from_micros(70), closing }
}

fn retained_topics(recovered: &Recovered) -> Vec<(String, u64)> {
    let retained = recovered.retained.iter();
    let told = retained.map(|stored| {
        let topic = stored.message.as_ref().expect("retained messages are in memory").topic().to_owned();
        (topic, stored.publication.sequence)
    });
    told.collect()
}

#[test]
fn an_absent_journal_is_an_empty_one() {
    let recovered = recover_with(&MemoryFiles::default(), ALL).expect("nothing");
    assert_eq!(recovered.position, Position::default());
    assert!(recovered.sessions.is_empty() && recovered.existing.is_empty());
}

#[test]
fn what_a_session_holds_is_told_again() {
    let mut writer = Writer::new(0);
    let options = SubscriptionOptions::new(QoS::ExactlyOnce);
    let number = SessionNumber(3);
    let place = |place| Place(place);
    writer.frame(&[session(3), Record::Subscribed { session: number, filter: "a/+", options, id: Some(7) }]);
    writer.frame(&[message(1, "a/1"), queued(3, 1, 1), message(2, "a/2"), queued(3, 2, 2), queued(3, 3, 2)]);
    writer.frame(&[Record::Sent { session: number, place: place(1), packet_id: PACKET(9) }, will(3), pending(3)]);
    writer.frame(&[
        Record::Released { session: number, place: place(1) },
        Record::Done { session: number, place: place(2) },
    ]);
    writer.frame(&[Record::Received { session: number, packet_id: PACKET(5) }]);
    let recovered = writer.recover();
    let [told] = &recovered.sessions[..] else { panic!("one session") };
    assert_eq!(
        told.header.as_record(),
        match session(3) {
            Record::Session(header) => header,
            _ => unreachable!(),
        }
    );
    assert_eq!(told.subscriptions, [("a/+".into(), options, Some(7))]);
    assert_eq!(told.received, [PACKET(5)]);
    let [first, second] = &told.deliveries[..] else { panic!("two deliveries") };
    assert_eq!((first.place, first.packet_id, first.is_released), (Place(1), Some(PACKET(9)), true));
    assert!(first.message.is_none());
    let stored = second.message.as_ref().expect("a message");
    let held = stored.message.as_ref().expect("it fits in memory");
    assert_eq!((held.topic(), held.payload(), stored.size as usize), ("a/2", &b"payload"[..], held.size()));
    assert_eq!(second.subscription_ids.as_slice(), [7, 9]);
    assert_eq!(&*second.shared.as_ref().expect("a group").group, "group");
    let will = told.will.as_ref().expect("a will");
    assert_eq!((will.will.message.topic(), will.will.delay_interval), ("status", 30));
    assert_eq!(will.pending.map(|(due, closing)| (due.as_micros(), closing.cause)), Some((70, Cause::KeepAlive)));
    assert_eq!((recovered.next_session, recovered.publications, recovered.orphans), (4, 2, 0));
    assert_eq!((recovered.clock, recovered.records), (Moment::from_micros(40), 13));
}

#[test]
fn a_message_is_one_for_all_that_wait_for_it() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1), session(2), message(1, "a"), queued(1, 1, 1), queued(2, 1, 1)]);
    let recovered = writer.recover();
    let messages: Vec<_> = recovered
        .sessions
        .iter()
        .map(|session| session.deliveries[0].message.as_ref().and_then(|stored| stored.message.clone()).expect("it"))
        .collect();
    assert!(std::sync::Arc::ptr_eq(&messages[0], &messages[1]));
}

#[test]
fn queued_messages_beyond_the_budget_are_told_by_where_they_lie() {
    let mut writer = Writer::new(0);
    let plain = |place, sequence| match queued(1, place, sequence) {
        Record::Queued(queued) => Record::Queued(QueuedRecord { shared: None, ..queued }),
        other => other,
    };
    writer.frame(&[session(1), message(1, "a"), plain(1, 1), message(2, "b"), plain(2, 2), will(1)]);
    writer.frame(&[message(3, "c"), Record::Retained(publication(3))]);
    let recovered = recover_with(
        &writer.files,
        Limits { memory_budget: size_of::<crate::session::message::Message>() as u64 + 10 },
    )
    .expect("a sound journal");
    let in_memory: Vec<_> = recovered.sessions[0]
        .deliveries
        .iter()
        .map(|delivery| delivery.message.as_ref().expect("a message").message.is_some())
        .collect();
    assert_eq!(in_memory, [true, false]);
    assert_eq!(retained_topics(&recovered), [("c".to_owned(), 3)]);
    assert!(recovered.sessions[0].will.is_some());
    let stored = recovered.sessions[0].deliveries[1].message.as_ref().expect("a message");
    let bytes = &writer.file()[SEGMENT_HEADER + stored.extent.offset as usize..][..stored.extent.length as usize];
    let Ok((Record::Message(again), _)) = crate::journal::encoding::decode(bytes) else { panic!("a message") };
    assert_eq!(message_of(&again).topic(), "b");
}

#[test]
fn a_tail_that_is_torn_at_any_byte_is_cut_off() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    writer.frame(&[session(2)]);
    let before = writer.at;
    let sound = writer.file().len();
    writer.frame(&[session(3), will(3)]);
    let whole = writer.file().clone();
    for length in sound..whole.len() {
        for preallocated in [0, 100] {
            let mut torn = whole[..length].to_vec();
            torn.resize(length + preallocated, 0);
            *writer.file() = torn;
            let recovered = writer.recover();
            assert_eq!((recovered.position, recovered.sessions.len()), (before, 2), "{length} bytes");
            assert!(recovered.torn_bytes <= (length - sound) as u64);
        }
    }
}

#[test]
fn every_flipped_byte_of_the_last_frame_cuts_it_off() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let before = writer.at;
    let sound = writer.file().len();
    writer.frame(&[session(2)]);
    let whole = writer.file().clone();
    for index in sound..whole.len() {
        writer.file()[index] ^= 0x40;
        let scan = writer.scan().expect("a torn tail");
        assert_eq!((scan.position, scan.torn_bytes), (before, (whole.len() - sound) as u64), "byte {index}");
        writer.file()[index] ^= 0x40;
    }
}

#[test]
fn every_flipped_byte_in_the_middle_is_an_error_that_names_the_place() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let start = writer.file().len();
    writer.frame(&[session(2)]);
    let end = writer.file().len();
    writer.frame(&[session(3)]);
    for index in start..end {
        writer.file()[index] ^= 0x40;
        let error = writer.scan().expect_err("damage");
        assert!(matches!(error.problem, Problem::Damaged { evidence: Evidence::LaterFrame(_), .. }), "byte {index}");
        let expected = format!("shard-000/{}, byte {start}: ", writer.name.file());
        assert!(error.to_string().starts_with(&expected), "{error}");
        writer.file()[index] ^= 0x40;
    }
}

#[test]
fn a_batch_that_reached_the_disk_in_part_is_torn_although_a_later_frame_of_it_is_whole() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let (before, sound) = (writer.at, writer.file().len());
    let synced = writer.at.offset;
    writer.frame_unsynced(&[session(2)], synced);
    let bad = sound..writer.file().len();
    writer.frame_unsynced(&[session(3)], synced);
    writer.file()[bad].fill(0);
    let scan = writer.scan().expect("a torn tail");
    assert_eq!(scan.position, before);
    assert!(scan.torn_bytes > 0);
}

#[test]
fn a_page_of_zeros_in_the_middle_is_not_the_end() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let start = writer.file().len();
    writer.frame(&[session(2)]);
    let end = writer.file().len();
    writer.frame(&[session(3)]);
    writer.file()[start..end].fill(0);
    assert!(matches!(writer.scan().expect_err("damage").problem, Problem::Damaged { .. }));
}

/// A journal of four segments without a checkpoint, and their names.
pub(in crate::journal) fn four_segments() -> (Writer, Vec<SegmentName>) {
    let mut writer = Writer::new(0);
    let mut names = vec![writer.name];
    for number in 1..4 {
        writer.frame(&[session(number)]);
        writer.next_segment();
        names.push(writer.name);
    }
    writer.frame(&[session(4)]);
    (writer, names)
}

#[test]
fn segments_follow_one_another() {
    let (writer, names) = four_segments();
    let recovered = writer.recover();
    assert_eq!(recovered.sessions.len(), 4);
    assert_eq!(recovered.existing.iter().map(|segment| segment.name).collect::<Vec<_>>(), names);
    assert_eq!(recovered.existing.last().expect("the last").end, recovered.position.offset);
}

#[test]
fn a_missing_segment_is_an_error_that_names_the_gap() {
    for missing in 0..4 {
        let (mut writer, names) = four_segments();
        writer.files.files.remove(&file_key(&names[missing]));
        let Problem::Missing { from, to } = writer.scan().expect_err("a gap").problem else { panic!("a gap") };
        assert_eq!(from, names[missing].start);
        assert_eq!(to, names.get(missing + 1).map(|next| next.start));
    }
}

#[test]
fn damage_in_a_segment_that_is_not_the_last_is_no_torn_tail() {
    let (mut writer, names) = four_segments();
    let file = writer.files.files.get_mut(&file_key(&names[1])).expect("the second");
    file[SEGMENT_HEADER + FRAME_HEADER] ^= 1;
    let error = writer.scan().expect_err("damage");
    assert!(matches!(error.problem, Problem::Damaged { evidence: Evidence::LaterSegment(_), .. }), "{error}");
}

#[test]
fn a_segment_after_a_failure_repeats_what_was_not_synced_and_takes_nothing_away() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let synced = writer.at;
    writer.frame(&[session(2)]);
    let end = writer.at;
    writer.fail_back_to(synced);
    // The broker dies before it has repeated anything: what the older segment holds still counts, and is to be written again.
    let recovered = writer.recover();
    assert_eq!((recovered.sessions.len(), recovered.position, recovered.certain), (2, end, synced));
    assert_eq!(recovered.tail.len() as u64, end.offset - synced.offset);
    writer.frame(&[session(2)]);
    writer.frame(&[session(3)]);
    let recovered = writer.recover();
    let numbers: Vec<_> = recovered.sessions.iter().map(|session| session.header.session.0).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(recovered.existing.len(), 2);
}

#[test]
fn an_older_segment_counts_beyond_the_end_of_the_one_that_repeats_it() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let synced = writer.at;
    writer.frame_unsynced(&[session(2)], synced.offset);
    let middle = writer.at;
    writer.frame_unsynced(&[session(3)], synced.offset);
    let end = writer.at;
    writer.fail_back_to(synced);
    writer.frame(&[session(2)]);
    let recovered = writer.recover();
    let numbers: Vec<_> = recovered.sessions.iter().map(|session| session.header.session.0).collect();
    assert_eq!((numbers, recovered.position, recovered.records), (vec![1, 2, 3], end, 3));
    assert_eq!(recovered.existing.iter().map(|segment| segment.end).collect::<Vec<_>>(), [end.offset, middle.offset]);
    writer.frame(&[session(3)]);
    writer.frame(&[session(0)]);
    assert_eq!(writer.recover().sessions.len(), 4);
}

#[test]
fn segments_that_overlap_hold_the_same_frames() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let synced = writer.at;
    writer.frame_unsynced(&[session(2), session(3)], synced.offset);
    writer.fail_back_to(synced);
    writer.frame(&[session(2)]);
    let error = writer.scan().expect_err("another frame");
    assert!(matches!(error.problem, Problem::Damaged { evidence: Evidence::Overlap, .. }), "{error}");
}

#[test]
fn an_empty_segment_alone_is_not_the_beginning_of_a_log() {
    let mut writer = Writer::new(0);
    let first = writer.name;
    writer.frame(&[session(1)]);
    writer.next_segment();
    writer.files.files.remove(&file_key(&first));
    let error = writer.scan().expect_err("the beginning is missing");
    assert!(matches!(error.problem, Problem::Missing { from: 0, to: Some(_) }), "{error}");
}

#[test]
fn a_segment_whose_creation_was_interrupted_does_not_count() {
    let (mut writer, _) = four_segments();
    for (epoch, bytes) in [(7, vec![]), (8, vec![0; 4096]), (9, b"WILLOW".to_vec())] {
        let name = SegmentName { start: 40, epoch, ..writer.name };
        writer.files.files.insert(file_key(&name), bytes);
    }
    let recovered = writer.recover();
    assert_eq!((recovered.sessions.len(), recovered.existing.len()), (4, 7));
}

fn problem_of_header(change: impl FnOnce(&mut SegmentHeader)) -> Problem {
    let mut writer = Writer::new(0);
    let mut header = SegmentHeader { name: writer.name, directory: IDENTITY, sequence: 0 };
    change(&mut header);
    *writer.file() = header.encode().to_vec();
    writer.scan().expect_err("a foreign file").problem
}

#[test]
fn files_from_elsewhere_are_told_apart() {
    assert!(matches!(
        problem_of_header(|header| header.directory = 1),
        Problem::ForeignDirectory { found: 1, expected: IDENTITY }
    ));
    let Problem::Misplaced { belongs } = problem_of_header(|header| header.name.shard = 5) else { panic!("misplaced") };
    assert!(belongs.starts_with("shard-005/"));
    assert!(matches!(problem_of_header(|header| header.name.start = 9), Problem::Misplaced { .. }));
}

#[test]
fn a_newer_version_is_not_taken_for_damage() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    let file = writer.file();
    file[8] = 2;
    let crc = crc32c::crc32c(&file[..60]);
    file[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = writer.scan().expect_err("another version");
    assert!(matches!(error.problem, Problem::Version(2)));
    assert!(error.to_string().contains("format version 2"));
}

#[test]
fn a_damaged_header_is_an_error_if_there_is_something_behind_it() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    writer.file()[20] ^= 1;
    let error = writer.scan().expect_err("damage");
    assert!(matches!(error.problem, Problem::Damaged { evidence: Evidence::Header, .. }));
}

#[test]
fn reading_begins_at_the_last_complete_checkpoint() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1), message(1, "a"), Record::Retained(publication(1))]);
    writer.frame(&[session(9), Record::CheckpointBegin]);
    writer.frame(&[Record::SessionReset(SessionNumber(2)), session(2)]);
    writer.frame(&[Record::CheckpointEnd]);
    writer.frame(&[session(3)]);
    let recovered = writer.recover();
    let numbers: Vec<_> = recovered.sessions.iter().map(|session| session.header.session.0).collect();
    assert_eq!(numbers, [2, 3]);
    assert!(recovered.retained.is_empty());
}

#[test]
fn an_unfinished_checkpoint_takes_nothing_from_a_session() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1), message(1, "a"), queued(1, 1, 1), message(2, "b"), queued(1, 2, 2)]);
    writer.frame(&[Record::CheckpointBegin, Record::SessionReset(SessionNumber(1)), session(1)]);
    writer.frame(&[message(1, "a"), queued(1, 1, 1)]);
    let recovered = writer.recover();
    assert_eq!(recovered.sessions[0].deliveries.len(), 2);
}

#[test]
fn segments_before_a_complete_checkpoint_are_not_needed() {
    let mut writer = Writer::new(0);
    writer.frame(&[session(1)]);
    writer.next_segment();
    let second = writer.name;
    writer.frame(&[session(2)]);
    writer.next_segment();
    writer.frame(&[Record::CheckpointBegin, session(2)]);
    writer.frame(&[Record::CheckpointEnd]);
    let whole = writer.files.clone();
    // The second is gone and the first has come back, as when the power fails after both were removed.
    writer.files.files.remove(&file_key(&second));
    let recovered = writer.recover();
    assert_eq!(recovered.sessions.len(), 1);
    writer.files = whole;
    let first = SegmentName { start: 0, ..second };
    writer.files.files.remove(&file_key(&first));
    writer.files.files.remove(&file_key(&second));
    assert_eq!(writer.recover().sessions.len(), 1);
}

const T: Transaction = Transaction { shard: 0, number: 5 };

/// Journals of several shards; the first began [`T`], under which it retained a message.
fn journals(parts: u128, others: &[&[Record<'_>]]) -> Result<Vec<Recovered>, JournalError> {
    let mut first = Writer::new(0);
    first.frame(&[message(1, "a"), Record::Retained(publication(1))]);
    let begun = Record::Begun { number: T.number, parts };
    first.frame(&[
        begun,
        Record::Under(T),
        message(2, "a"),
        Record::Retained(publication(2)),
        Record::Unconditional,
        session(1),
    ]);
    let mut files = first.files;
    for (shard, records) in (1..).zip(others) {
        let mut writer = Writer::new(shard);
        if !records.is_empty() {
            writer.frame(records);
        }
        files.files.append(&mut writer.files.files);
    }
    recover(&files, others.len() as u8 + 1, ALL, &mut |_, _| {})
}

fn is_complete(parts: u128, others: &[&[Record<'_>]]) -> bool {
    let recovered = journals(parts, others).expect("sound journals");
    assert_eq!(recovered[0].sessions.len(), 1, "what is unconditional counts");
    assert_eq!(recovered[0].publications, 2);
    let is_complete = recovered[0].voids.is_empty();
    assert!(recovered.iter().all(|one| one.voids == recovered[0].voids && one.completes == [T]));
    assert_eq!(retained_topics(&recovered[0]), [("a".to_owned(), if is_complete { 2 } else { 1 })]);
    is_complete
}

#[test]
fn a_transaction_counts_when_all_its_parts_are_there_and_otherwise_nothing_of_it_does() {
    let part = |parts| Record::Part { transaction: T, from: T.shard, parts };
    assert!(is_complete(0b000, &[]));
    assert!(is_complete(0b001, &[]));
    assert!(!is_complete(0b010, &[&[]]));
    assert!(is_complete(0b010, &[&[part(0)]]));
    assert!(!is_complete(0b110, &[&[part(0)], &[]]));
    assert!(is_complete(0b110, &[&[part(0)], &[part(0)]]));
}

#[test]
fn a_part_that_leads_to_another_shard_needs_that_one_too() {
    let part = |from, parts| Record::Part { transaction: T, from, parts };
    assert!(!is_complete(0b010, &[&[part(0, 0b100)], &[]]));
    assert!(is_complete(0b010, &[&[part(0, 0b100)], &[part(1, 0)]]));
    assert!(is_complete(0b010, &[&[part(0, 0b100), part(2, 0b100)], &[part(1, 0b010)]]));
    assert!(!is_complete(1 << 100, &[&[part(0, 0)]]));
}

#[test]
fn a_part_from_one_shard_is_not_taken_for_that_from_another() {
    let part = |from, parts| Record::Part { transaction: T, from, parts };
    // The third shard got something from the first, and something else through the second.
    assert!(!is_complete(0b110, &[&[part(0, 0b100)], &[part(0, 0)]]));
    assert!(!is_complete(0b110, &[&[part(0, 0b100)], &[part(1, 0)]]));
    assert!(is_complete(0b110, &[&[part(0, 0b100)], &[part(0, 0), part(1, 0)]]));
}

#[test]
fn a_shard_that_knows_of_the_completion_is_enough_but_not_against_a_void() {
    let complete = Record::Complete(Transaction { number: 7, ..T });
    let mut writer = Writer::new(1);
    writer.frame(&[complete]);
    let recovered = journals(0b110, &[&[complete], &[]]).expect("sound journals");
    assert_eq!(retained_topics(&recovered[0]), [("a".to_owned(), 2)]);
    assert_eq!(recovered[0].transactions, 7);
    let recovered = journals(0b110, &[&[Record::Void(T), complete], &[]]).expect("sound journals");
    assert_eq!(retained_topics(&recovered[0]), [("a".to_owned(), 1)]);
    assert_eq!(recovered[2].voids, [T]);
}

#[test]
fn a_stop_counts_only_as_the_last_word() {
    let stopped = Record::Stopped(Moment::from_micros(99));
    let mut writer = Writer::new(0);
    writer.frame(&[session(1), stopped]);
    assert_eq!(writer.recover().stopped, Some(Moment::from_micros(99)));
    writer.frame(&[session(2)]);
    assert_eq!(writer.recover().stopped, None);
    assert_eq!(writer.recover().clock, Moment::from_micros(99));
}

#[test]
fn records_about_what_is_gone_are_ignored_and_lost_messages_are_counted() {
    let mut writer = Writer::new(0);
    let number = SessionNumber(1);
    writer.frame(&[queued(1, 1, 1), will(1), pending(1), Record::Done { session: number, place: Place(3) }]);
    writer.frame(&[session(1), queued(1, 1, 4), Record::Retained(publication(4)), Record::RetainedRemoved("b")]);
    let recovered = writer.recover();
    assert!(recovered.sessions[0].deliveries.is_empty());
    assert_eq!(recovered.orphans, 2);
}

#[test]
fn another_number_of_shards_gets_everything() {
    let mut files = MemoryFiles::default();
    for shard in 0..3 {
        let mut writer = Writer::new(shard);
        for number in 0..4 {
            writer.frame(&[session(number), will(number), message(number, "a"), queued(number, 1, number)]);
        }
        writer.frame(&[message(9, ["x", "y", "z"][usize::from(shard)]), Record::Retained(publication(9))]);
        files.files.append(&mut writer.files.files);
    }
    let old = recover(&files, 3, Limits { memory_budget: 0 }, &mut |_, _| {}).expect("sound journals");
    for shards in [1, 2, 5] {
        let old = recover(&files, 3, Limits { memory_budget: 0 }, &mut |_, _| {}).expect("sound journals");
        let new =
            distribute(old, shards, |client| client.len() % shards, |topic| topic.as_bytes()[0] as usize % shards);
        assert_eq!(new.len(), shards);
        assert_eq!(new.iter().map(|one| one.sessions.len()).sum::<usize>(), 12);
        assert_eq!(new.iter().map(|one| one.retained.len()).sum::<usize>(), 3);
        for (index, one) in new.iter().enumerate() {
            assert_eq!((one.position, usize::from(one.shard)), (Position::default(), index));
            for (number, session) in (0..).zip(&one.sessions) {
                assert_eq!(session.header.session, SessionNumber(number));
                assert_eq!(session.header.client_id.len() % shards, index);
                assert!(session.will.is_some());
                assert!(session.deliveries[0].message.as_ref().is_some_and(|stored| stored.journal < 3));
            }
        }
        assert_eq!(new[0].publications, 9);
    }
    assert_eq!(old[1].publications, 0);
}
