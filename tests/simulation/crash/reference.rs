//! A second reader of the journals, slow and obvious: it reads every frame into memory and applies every record to plain maps.

use crate::crash::disk::Disk;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use willowmq::codec::{Forwarded, PacketId};
use willowmq::journal::encoding;
use willowmq::journal::frame::{Extent, FRAME_HEADER, Head, Position};
use willowmq::journal::log::Existing;
use willowmq::journal::record::{Facts, MessageRecord, Place, QueuedRecord, Record, SessionRecord, Transaction};
use willowmq::journal::recovery::{
    OwnedSession, Recovered, RecoveredDelivery, RecoveredSession, RecoveredWill, StoredMessage,
};
use willowmq::journal::segment::{SEGMENT_HEADER, SegmentHeader, SegmentName};
use willowmq::session::message::{Message, Parts, Publication, SharedKey};
use willowmq::session::will::Will;
use willowmq::topic::TopicFilter;

/// One frame that counts.
struct Frame {
    offset: u64,
    payload: Vec<u8>,
}

/// The frames of one shard's log, and what the log needs to go on.
struct Journal {
    frames: Vec<Frame>,
    end: Position,
    existing: Vec<Existing>,
}

/// Tells what is in all journals, for whoever looks into a failure.
pub(crate) fn dump(disk: &Disk, shards: usize) {
    let journals: Vec<_> = (0..shards).map(|shard| read(disk, shard)).collect();
    let transactions = Transactions::of(&journals);
    journals.iter().for_each(|journal| journal.dump(&transactions));
}

/// Checks that this reader finds in the journals what the broker's own has found.
pub(crate) fn check(disk: &Disk, recovered: &[Recovered]) {
    let journals: Vec<_> = (0..recovered.len()).map(|shard| read(disk, shard)).collect();
    let transactions = Transactions::of(&journals);
    for (shard, recovered) in recovered.iter().enumerate() {
        let expected = replay(shard, &journals, &transactions);
        assert_eq!(tell(recovered), tell(&expected), "what shard {shard} recovers, and what its journal says");
    }
}

/// What matters of a recovery, as text.
fn tell(recovered: &Recovered) -> Vec<String> {
    let mut told = vec![format!("position {:?}, stopped {:?}", recovered.position, recovered.stopped)];
    for session in &recovered.sessions {
        told.push(format!("{:?}", session.header));
        let mut subscriptions: Vec<_> = session.subscriptions.iter().map(|(filter, ..)| filter).collect();
        subscriptions.sort();
        let mut received = session.received.clone();
        received.sort();
        told.push(format!("  {subscriptions:?}, received {received:?}"));
        for delivery in &session.deliveries {
            let publication = delivery.message.as_ref().map(|message| message.publication);
            let RecoveredDelivery { place, packet_id, qos, is_released, .. } = delivery;
            told.push(format!("  {place:?} {packet_id:?} {qos:?} released {is_released}: {publication:?}"));
        }
        if let Some(will) = &session.will {
            told.push(format!("  will {:?} pending {:?}", will.will.message.topic(), will.pending));
        }
    }
    let retained = recovered.retained.iter().map(|stored| stored.publication);
    told.extend(retained.map(|publication| format!("retained {publication:?}")));
    told
}

/// Reads the segments of a shard.
fn read(disk: &Disk, shard: usize) -> Journal {
    let mut chain: Vec<(SegmentName, SegmentHeader)> = Vec::new();
    let mut names = disk.segments_of(shard);
    names.sort_by_key(SegmentName::order);
    let mut existing: Vec<Existing> = Vec::new();
    for name in names {
        existing.push(Existing { name, end: name.start });
        let bytes = disk.read_at(name, 0, SEGMENT_HEADER).expect("the disk can be read at the start");
        // One that does not check was being made when everything ended.
        let Some(header) = bytes.try_into().ok().and_then(|bytes| SegmentHeader::decode(&bytes).ok()) else { continue };
        chain.retain(|(earlier, _)| earlier.start < name.start);
        chain.push((name, header));
    }
    let mut journal = Journal { frames: Vec::new(), end: Position::default(), existing };
    let mut gap = None;
    for (index, (name, header)) in chain.iter().enumerate() {
        let limit = chain.get(index + 1).map_or(u64::MAX, |(next, _)| next.start);
        if index > 0 && journal.end.offset != name.start {
            // What comes before the last checkpoint need not be whole: of the files removed some may have come back.
            journal.frames.clear();
            gap = Some(name);
        }
        journal.end = Position { offset: name.start, sequence: header.sequence };
        while let Some(frame) = read_frame(disk, *name, journal.end, limit) {
            journal.frames.push(Frame { offset: journal.end.offset, payload: frame[FRAME_HEADER..].to_vec() });
            journal.end =
                Position { offset: journal.end.offset + frame.len() as u64, sequence: journal.end.sequence + 1 };
        }
        let found = journal.existing.iter_mut().find(|existing| existing.name == *name);
        found.expect("it is one of them").end = journal.end.offset;
    }
    if let Some(name) = gap {
        assert!(last_checkpoint(&journal).1 > 0, "something before {name} is missing");
    }
    journal
}

/// The frame there, with its header.
fn read_frame(disk: &Disk, name: SegmentName, at: Position, limit: u64) -> Option<Vec<u8>> {
    if at.offset >= limit {
        return None;
    }
    let file_offset = name.file_offset(at.offset);
    let header = disk.read_at(name, file_offset, FRAME_HEADER).ok()?;
    let Head::Frame(header) = Head::decode(header.as_slice().try_into().ok()?, at.offset) else { return None };
    let frame = disk.read_at(name, file_offset, header.frame_bytes() as usize).ok()?;
    let is_good = frame.len() as u64 == header.frame_bytes() && header.checks(&frame[FRAME_HEADER..]);
    (is_good && header.sequence == at.sequence).then_some(frame)
}

/// Every transaction that any journal knows of.
#[derive(Default)]
struct Transactions {
    known: BTreeSet<Transaction>,
    complete: BTreeMap<u8, u64>,
    voids: BTreeSet<Transaction>,
    begun: BTreeMap<Transaction, u128>,
    /// Who has got all of a transaction from whom.
    parts: BTreeSet<(usize, usize, Transaction)>,
    /// Who has passed parts of it on to whom.
    passed_on: BTreeMap<(usize, Transaction), u128>,
}

impl Transactions {
    fn of(journals: &[Journal]) -> Self {
        let mut all = Self::default();
        for (shard, journal) in journals.iter().enumerate() {
            for (record, _) in journal.frames.iter().flat_map(records_of) {
                all.note(shard, &record);
            }
        }
        all
    }

    fn note(&mut self, shard: usize, record: &Record<'_>) {
        match *record {
            Record::Complete(up_to) => {
                let complete = self.complete.entry(up_to.shard).or_default();
                *complete = up_to.number.max(*complete);
                self.known.insert(up_to);
            }
            Record::Void(void) => {
                self.voids.insert(void);
            }
            Record::Begun { number, parts } => {
                let transaction = Transaction { shard: shard as u8, number };
                self.begun.insert(transaction, parts);
                self.known.insert(transaction);
            }
            Record::Part { transaction, from, parts } => {
                self.parts.insert((shard, usize::from(from), transaction));
                *self.passed_on.entry((shard, transaction)).or_default() |= parts;
                self.known.insert(transaction);
            }
            Record::Under(transaction) => {
                self.known.insert(transaction);
            }
            _ => {}
        }
    }

    fn is_complete(&self, transaction: Transaction) -> bool {
        if self.voids.contains(&transaction) {
            return false;
        }
        if self.complete.get(&transaction.shard).is_some_and(|complete| *complete >= transaction.number) {
            return true;
        }
        let Some(parts) = self.begun.get(&transaction) else { return false };
        let origin = usize::from(transaction.shard);
        // Whatever went from one shard to another must be on record there as having come from that one.
        let has_arrived = |from: usize, to: usize| self.parts.contains(&(to, from, transaction));
        let passed_on = |from: usize| match self.passed_on.get(&(from, transaction)) {
            Some(passed_on) if from == origin => passed_on | (*parts & !(1 << origin)),
            None if from == origin => *parts & !(1 << origin),
            passed_on => passed_on.copied().unwrap_or(0),
        };
        (0..128).all(|from| (0..128).all(|to| passed_on(from) >> to & 1 == 0 || has_arrived(from, to)))
    }
}

impl Journal {
    /// Tells what is in a journal, for whoever looks into a failure.
    fn dump(&self, transactions: &Transactions) {
        eprintln!("  {:?}, checkpoint {:?}", self.existing, last_checkpoint(self));
        for (record, extent) in self.frames.iter().flat_map(records_of) {
            match record {
                Record::Under(under) => {
                    eprintln!("    {} {record:?} complete {}", extent.offset, transactions.is_complete(under));
                }
                record => eprintln!("    {} {record:?}", extent.offset),
            }
        }
    }
}

fn records_of(frame: &Frame) -> Vec<(Record<'_>, Extent)> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < frame.payload.len() {
        let (record, length) = encoding::decode(&frame.payload[at..]).expect("a frame that checks decodes");
        let offset = frame.offset + (FRAME_HEADER + at) as u64;
        records.push((record, Extent { offset, length: length as u32 }));
        at += length;
    }
    records
}

#[derive(Default)]
struct Replay {
    headers: BTreeMap<u64, OwnedSession>,
    contents: BTreeMap<u64, RecoveredSession>,
    messages: BTreeMap<Publication, StoredMessage>,
    retained: BTreeMap<String, Publication>,
    next_session: u64,
    stopped: Option<willowmq::timer::Moment>,
    clock: willowmq::timer::Moment,
}

/// What one shard's journal tells; `publications` and `transactions` are the highest numbers in any of them.
fn replay(shard: usize, journals: &[Journal], transactions: &Transactions) -> Recovered {
    let journal = &journals[shard];
    let mut replay = Replay::default();
    let (begin, end) = last_checkpoint(journal);
    for frame in &journal.frames {
        let mut under = None;
        for (record, extent) in records_of(frame).into_iter().filter(|(_, extent)| extent.offset >= begin) {
            match record {
                Record::Under(transaction) => under = Some(transaction),
                Record::Unconditional => under = None,
                _ if under.is_some_and(|under| !transactions.is_complete(under)) => {}
                // A checkpoint that was not completed says nothing new, and not all: it voids nothing.
                Record::SessionReset(_) if extent.offset > end => {}
                // That a connection has closed makes no Session.
                Record::Session(header)
                    if header.closed.is_some()
                        && extent.offset > end
                        && !replay.headers.contains_key(&header.session.0) => {}
                record => replay.apply(&record, extent),
            }
        }
    }
    let mut recovered = replay.finish();
    recovered.shard = shard as u8;
    recovered.position = journal.end;
    recovered.existing.clone_from(&journal.existing);
    recovered.publications = publications(shard, journals);
    let own = transactions.known.iter().filter(|known| usize::from(known.shard) == shard);
    recovered.transactions = own.map(|known| known.number).max().unwrap_or(0);
    recovered.voids = transactions.known.iter().copied().filter(|known| !transactions.is_complete(*known)).collect();
    // What was found complete is so for ever, and what is not is among the voids.
    let newest = |shard: u8| transactions.known.iter().copied().filter(|known| known.shard == shard).max();
    recovered.completes = (0..journals.len()).filter_map(|shard| newest(shard as u8)).collect();
    recovered
}

/// Where the last complete checkpoint begins and ends. What lies before it need not be whole.
fn last_checkpoint(journal: &Journal) -> (u64, u64) {
    let (mut begun, mut complete) = (None, (0, 0));
    for (record, extent) in journal.frames.iter().flat_map(records_of) {
        match record {
            Record::CheckpointBegin => begun = Some(extent.offset),
            Record::CheckpointEnd => complete = begun.take().map_or(complete, |begin| (begin, extent.offset)),
            _ => {}
        }
    }
    complete
}

fn publications(shard: usize, journals: &[Journal]) -> u64 {
    let records = journals.iter().flat_map(|journal| journal.frames.iter().flat_map(records_of));
    let numbers = records.filter_map(|(record, _)| match record {
        Record::Message(message) => Some(message.publication),
        Record::Queued(queued) => Some(queued.publication),
        Record::Retained(publication) => Some(publication),
        _ => None,
    });
    let own = numbers.filter(|publication| usize::from(publication.shard) == shard);
    own.map(|publication| publication.sequence).max().unwrap_or(0)
}

impl Replay {
    fn session(&mut self, number: u64) -> &mut RecoveredSession {
        self.next_session = self.next_session.max(number + 1);
        self.contents.entry(number).or_insert_with(|| RecoveredSession {
            header: owned(&SessionRecord {
                session: willowmq::journal::record::SessionNumber(number),
                client_id: "",
                username: None,
                facts: Facts::default(),
                listener: 0,
                connection: 0,
                keep_alive: 0,
                expiry: 0,
                closed: None,
            }),
            subscriptions: Vec::new(),
            deliveries: Vec::new(),
            received: Vec::new(),
            will: None,
        })
    }

    fn delivery(&mut self, number: u64, place: Place, change: impl FnOnce(&mut RecoveredDelivery)) {
        let found = self.session(number).deliveries.iter_mut().find(|delivery| delivery.place == place);
        if let Some(delivery) = found {
            change(delivery);
        }
    }

    fn apply(&mut self, record: &Record<'_>, extent: Extent) {
        self.stopped = None;
        match *record {
            Record::Session(session) => {
                self.session(session.session.0);
                self.headers.insert(session.session.0, owned(&session));
            }
            Record::SessionReset(session) | Record::SessionEnded(session) => {
                self.session(session.0);
                self.headers.remove(&session.0);
                self.contents.remove(&session.0);
            }
            Record::Subscribed { session, filter, options, id } => {
                let subscriptions = &mut self.session(session.0).subscriptions;
                subscriptions.retain(|(known, ..)| **known != *filter);
                subscriptions.push((filter.into(), options, id));
            }
            Record::Unsubscribed { session, filter } => {
                self.session(session.0).subscriptions.retain(|(known, ..)| **known != *filter);
            }
            Record::Message(message) => {
                self.messages.insert(message.publication, stored(&message, extent));
            }
            Record::Queued(queued) => self.queue(&queued),
            Record::Sent { session, place, packet_id } => {
                self.delivery(session.0, place, |delivery| delivery.packet_id = Some(packet_id));
            }
            Record::Released { session, place } => self.delivery(session.0, place, |delivery| {
                delivery.is_released = true;
                delivery.message = None;
            }),
            Record::Done { session, place } => {
                self.session(session.0).deliveries.retain(|delivery| delivery.place != place);
            }
            Record::Received { session, packet_id } => {
                forget(&mut self.session(session.0).received, packet_id);
                self.session(session.0).received.push(packet_id);
            }
            Record::Completed { session, packet_id } => forget(&mut self.session(session.0).received, packet_id),
            Record::Retained(publication) => {
                let topic = self.messages[&publication].message.as_ref().map(|message| message.topic().to_owned());
                self.retained.insert(topic.expect("all is in memory while it is read"), publication);
            }
            Record::RetainedRemoved(topic) => drop(self.retained.remove(topic)),
            Record::WillArmed(will) => {
                let message = Arc::new(message_of(&will.message));
                let (delay_interval, message_expiry_interval) = (will.delay_interval, will.message_expiry_interval);
                let armed = Will { message, delay_interval, message_expiry_interval };
                self.session(will.session.0).will = Some(RecoveredWill { will: armed, pending: None });
            }
            Record::WillPending { session, due, closing } => {
                if let Some(will) = &mut self.session(session.0).will {
                    will.pending = Some((due, closing));
                }
            }
            Record::WillGone(session) => self.session(session.0).will = None,
            Record::Stopped(moment) => self.stopped = Some(moment),
            Record::Clock(moment) => self.clock = self.clock.max(moment),
            _ => {}
        }
    }

    fn queue(&mut self, queued: &QueuedRecord<'_>) {
        let message = self.messages.get(&queued.publication).cloned();
        let shared = queued.shared.map(|(group, filter)| {
            let filter = TopicFilter::parse(filter).expect("it was parsed before it was written");
            Arc::new(SharedKey { group: group.into(), filter })
        });
        let ids: Vec<u32> = queued.subscription_ids.iter().collect();
        let delivery = RecoveredDelivery {
            place: queued.place,
            message: message.filter(|_| !queued.is_released),
            qos: queued.qos,
            retain: queued.retain,
            subscription_ids: ids.as_slice().into(),
            shared,
            packet_id: queued.packet_id,
            is_released: queued.is_released,
            queued: queued.queued,
        };
        let deliveries = &mut self.session(queued.session.0).deliveries;
        deliveries.retain(|known| known.place != queued.place);
        deliveries.push(delivery);
        deliveries.sort_by_key(|delivery| delivery.place);
    }

    fn finish(mut self) -> Recovered {
        let mut sessions = Vec::new();
        for (number, mut content) in self.contents {
            let Some(header) = self.headers.remove(&number) else { continue };
            content.header = header;
            sessions.push(content);
        }
        let retained = self.retained.values().map(|publication| self.messages[publication].clone()).collect();
        let (next_session, stopped, clock) = (self.next_session, self.stopped, self.clock);
        Recovered { sessions, retained, next_session, stopped, clock, ..Recovered::default() }
    }
}

fn forget(received: &mut Vec<PacketId>, packet_id: PacketId) {
    received.retain(|known| *known != packet_id);
}

fn owned(record: &SessionRecord<'_>) -> OwnedSession {
    OwnedSession {
        session: record.session,
        client_id: record.client_id.into(),
        identity: record.identity(),
        listener: record.listener,
        connection: record.connection,
        keep_alive: record.keep_alive,
        expiry: record.expiry,
        closed: record.closed,
    }
}

fn stored(record: &MessageRecord<'_>, extent: Extent) -> StoredMessage {
    let message = Arc::new(message_of(record));
    StoredMessage {
        publication: record.publication,
        journal: record.publication.shard, // Of no consequence where the number of shards stays.
        extent,
        size: message.size() as u32,
        kind: record.kind,
        expires: record.expires,
        message: Some(message),
    }
}

fn message_of(record: &MessageRecord<'_>) -> Message {
    let forwarded = Forwarded::from_encoded(record.forwarded);
    let parts = Parts { topic: record.topic, forwarded, payload: record.payload };
    let mut message = Message::new(parts, record.qos, record.retain, record.kind);
    (message.publication, message.author, message.expires) = (record.publication, record.author, record.expires);
    message
}
