//! What this shard writes down, and what waits until it is durable.
//!
//! Everything that one packet, one letter of a peer or one deadline causes is a *step*: it is in the journal as a whole or not at all.
//! A *promise* is a reply that says that something is kept. The promises of a turn are withheld until the records of that turn are durable
//! and every shard that had to store something for them has done so.
//!
//! Where something must happen on several shards or on none, it is a *transaction*: a will that is published and may not be armed any
//! more, a QoS 2 message that is passed on and may not be received again. Each shard writes its part under the name of the transaction, and
//! shows it to nobody before the shard that began it has heard that all parts are durable. What a crash leaves incomplete never happened.

use super::peer::{FenceKind, Gate, PeerMessage, SessionKey, Wait};
use super::{Shard, ShardId};
use crate::journal::appender::Appender;
use crate::journal::frame::Extent;
use crate::journal::record::{MessageRecord, Record, SessionNumber, Transaction};
use crate::session::ConnectionId;
use crate::session::message::{Message, Publication};
use crate::topic::PeerSet;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// What is withheld until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Until the promises of this turn can be given.
    Turn,
    /// Until a transaction of another shard is complete.
    Transaction(Transaction),
}

/// A message in the journal that something refers to.
#[derive(Debug, Clone, Copy)]
struct Stored {
    extent: Extent,
    references: u32,
    /// The checkpoint that wrote it, or that was under way or over when it was written.
    checkpoint: u32,
}

/// Part of a transaction that came from another shard: of that one, or of this one, to which it came back.
#[derive(Debug, Default)]
struct Foreign {
    gates: Vec<u64>,
    passed_to: PeerSet,
    /// From whom all that they had of it is there.
    whole_from: PeerSet,
}

/// Something whose newest state belongs to a transaction that is not complete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entity {
    Session(SessionKey),
    Topic(Box<str>),
}

/// The records of a shard, and what depends on them.
#[derive(Debug)]
pub(super) struct Journal {
    appender: Appender,
    messages: HashMap<Publication, Stored, ahash::RandomState>,
    message_bytes: u64,
    next_session: u64,
    /// The transaction under which the step's next record would stand.
    scope: Option<Transaction>,
    /// Where the step began.
    step_start: u64,
    durable: u64,
    is_failing: bool,
    backlog_max: u64,
    /// The gates of this turn's promises.
    gates: Vec<u64>,
    /// Offsets that must be durable first, ascending.
    waits: VecDeque<(u64, Wait)>,
    /// Something of this turn is under its transaction.
    has_transaction: bool,
    /// Shards that have a part in it.
    parts: PeerSet,
    /// What is dealt with came from a peer, so what goes on from here is passed on.
    pub(super) is_passing_on: bool,
    /// Other shards may have to store what this step sent them.
    is_stored_elsewhere: bool,
    /// Where the journal ended when a delivery that had come back was last given to another member.
    returned_at: u64,
    /// Transactions of others, parts of which were passed on in this turn.
    passed_on: Vec<Transaction>,
    foreign: BTreeMap<Transaction, Foreign>,
    /// Own transactions that are not complete, with their parts.
    begun: BTreeMap<u64, u128>,
    /// Up to where each shard's transactions are complete.
    complete: BTreeMap<u8, u64>,
    unsettled: BTreeMap<Transaction, BTreeSet<Entity>>,
    /// Counts the checkpoints begun.
    pub(super) checkpoint: u32,
}

impl Journal {
    /// A journal that nothing is written to.
    pub(super) fn off(hasher: ahash::RandomState) -> Self {
        Self::new(Appender::disabled(), hasher, u64::MAX)
    }

    pub(super) fn new(appender: Appender, hasher: ahash::RandomState, backlog_max: u64) -> Self {
        Self {
            durable: appender.offset(),
            step_start: appender.offset(),
            appender,
            messages: HashMap::with_hasher(hasher),
            message_bytes: 0,
            next_session: 1,
            scope: None,
            is_failing: false,
            backlog_max,
            gates: Vec::new(),
            waits: VecDeque::new(),
            has_transaction: false,
            parts: PeerSet::default(),
            is_passing_on: false,
            is_stored_elsewhere: false,
            returned_at: 0,
            passed_on: Vec::new(),
            foreign: BTreeMap::new(),
            begun: BTreeMap::new(),
            complete: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            checkpoint: 0,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.appender.is_enabled()
    }

    /// Whether the disk refuses what is written.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Whether anything was written in this step.
    fn has_step_records(&self) -> bool {
        self.appender.offset() > self.step_start
    }

    /// Whether a reply to what this step does is a promise: something was written here, or may have to be elsewhere.
    pub(super) fn must_promise(&self) -> bool {
        self.is_on() && (self.has_step_records() || self.is_stored_elsewhere)
    }

    /// The end of what was written so far.
    pub(super) fn offset(&self) -> u64 {
        self.appender.offset()
    }

    pub(super) fn is_durable(&self, offset: u64) -> bool {
        offset <= self.durable
    }

    /// Notes that a delivery came back and was given to another member.
    pub(super) fn note_returned(&mut self) {
        self.returned_at = self.appender.offset();
    }

    /// Whether nothing that was done waits to be shown.
    pub(super) fn is_settled(&self) -> bool {
        self.gates.is_empty() && self.waits.is_empty() && self.begun.is_empty() && self.foreign.is_empty()
    }

    /// Whether so much waits to become durable that those who add to it must pause.
    pub(super) fn is_congested(&self) -> bool {
        self.is_on() && self.appender.offset() - self.durable > self.backlog_max
    }

    /// Whether they may go on.
    pub(super) fn is_relieved(&self) -> bool {
        !self.is_on() || self.appender.offset() - self.durable <= self.backlog_max / 2
    }

    pub(super) fn number_session(&mut self) -> SessionNumber {
        self.next_session += 1;
        SessionNumber(self.next_session)
    }

    pub(super) fn number_sessions_from(&mut self, next: u64) {
        self.next_session = self.next_session.max(next);
    }

    /// Writes a record that counts in any case.
    pub(super) fn append(&mut self, record: &Record<'_>) {
        self.append_under(None, record);
    }

    /// Writes a record that counts if the transaction is complete.
    pub(super) fn append_under(&mut self, under: Option<Transaction>, record: &Record<'_>) {
        if !self.is_on() {
            return;
        }
        if self.scope != under {
            self.scope = under;
            let scope = under.map_or(Record::Unconditional, Record::Under);
            self.appender.append(&scope);
        }
        self.appender.append(record);
    }

    /// Ends a step: what it wrote is in the journal as a whole or not at all.
    pub(super) fn end_step(&mut self) {
        self.is_stored_elsewhere = false;
        if self.is_on() && self.has_step_records() {
            if self.scope.take().is_some() {
                self.appender.append(&Record::Unconditional);
            }
            self.appender.end_step();
            self.step_start = self.appender.offset();
        }
    }

    /// Notes that `entity` is as a transaction left it, which is not complete.
    pub(super) fn note_unsettled(&mut self, under: Option<Transaction>, entity: impl FnOnce() -> Entity) {
        if let Some(transaction) = under {
            self.unsettled.entry(transaction).or_default().insert(entity());
        }
    }

    /// Transactions that are not complete and have touched `entity`.
    pub(super) fn transactions_of(&self, entity: &Entity) -> Vec<Transaction> {
        let touched = self.unsettled.iter().filter(|(_, entities)| entities.contains(entity));
        touched.map(|(transaction, _)| *transaction).collect()
    }

    /// Whether the newest state of `entity` may turn out never to have been.
    pub(super) fn is_unsettled(&self, entity: &Entity) -> bool {
        self.unsettled.values().any(|entities| entities.contains(entity))
    }

    /// Refers to a message once more. It is written where the journal, or the checkpoint under way, does not have it yet.
    pub(super) fn refer_to(&mut self, message: &Message) {
        self.write_message(message);
        if let Some(stored) = self.messages.get_mut(&message.publication) {
            stored.references += 1;
        }
    }

    /// Writes a message where the journal, or the checkpoint under way, does not have it yet.
    pub(super) fn write_message(&mut self, message: &Message) {
        if !self.is_on() || self.has_in_checkpoint(message.publication) {
            return;
        }
        // It counts in any case: what refers to it decides.
        if self.scope.take().is_some() {
            self.appender.append(&Record::Unconditional);
        }
        let extent = self.appender.append(&Record::Message(record_of(message)));
        let references = self.messages.get(&message.publication).map_or(0, |stored| stored.references);
        let stored = Stored { extent, references, checkpoint: self.checkpoint };
        if self.messages.insert(message.publication, stored).is_none() {
            self.message_bytes += u64::from(extent.length);
        }
    }

    /// Writes a message again that was read from where no checkpoint will keep it.
    pub(super) fn write_again(&mut self, message: &Message) {
        if self.messages.contains_key(&message.publication) {
            self.write_message(message);
        }
    }

    /// Whether these transactions are over: own ones up to a number, and some of others.
    pub(super) fn are_over(&self, own: u64, foreign: &[Transaction]) -> bool {
        self.begun.keys().next().is_none_or(|oldest| *oldest > own)
            && foreign.iter().all(|transaction| !self.foreign.contains_key(transaction))
    }

    /// The transactions that are not over: own ones up to a number, and those of others.
    pub(super) fn open_transactions(&self, newest_own: u64) -> (u64, Vec<Transaction>) {
        (newest_own, self.foreign.keys().copied().collect())
    }

    /// Whether the newest checkpoint, or what came after its beginning, has the message.
    pub(super) fn has_in_checkpoint(&self, publication: Publication) -> bool {
        self.messages.get(&publication).is_some_and(|stored| stored.checkpoint == self.checkpoint)
    }

    /// Notes a message that was found in the journal, with a reference to it.
    pub(super) fn adopt_message(&mut self, publication: Publication, extent: Extent) {
        let checkpoint = self.checkpoint;
        let stored = self.messages.entry(publication).or_insert_with(|| {
            self.message_bytes += u64::from(extent.length);
            Stored { extent, references: 0, checkpoint }
        });
        stored.references += 1;
    }

    /// Takes a reference back.
    pub(super) fn release(&mut self, publication: Publication) {
        let Some(stored) = self.messages.get_mut(&publication) else { return };
        stored.references = stored.references.saturating_sub(1);
        if stored.references == 0 {
            self.message_bytes -= u64::from(stored.extent.length);
            self.messages.remove(&publication);
            if self.messages.is_empty() {
                self.messages.shrink_to(64);
            }
        }
    }

    /// Where a message lies.
    pub(super) fn extent(&self, publication: Publication) -> Option<Extent> {
        self.messages.get(&publication).map(|stored| stored.extent)
    }

    /// Bytes of the messages that something refers to, and how many they are.
    pub(super) fn message_load(&self) -> (u64, usize) {
        (self.message_bytes, self.messages.len())
    }

    /// Takes back a buffer that was written.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        self.appender.recycle(buffer);
    }

    /// What is to be written to the file now.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.appender.take()
    }

    /// Writes what a checkpoint must say of transactions.
    pub(super) fn write_transactions(&mut self) {
        let mut records: Vec<Record<'static>> = Vec::new();
        let complete = |(shard, number): (&u8, &u64)| Record::Complete(Transaction { shard: *shard, number: *number });
        records.extend(self.complete.iter().map(complete));
        records.extend(self.begun.iter().map(|(number, parts)| Record::Begun { number: *number, parts: *parts }));
        for (transaction, foreign) in &self.foreign {
            let (transaction, parts) = (*transaction, foreign.passed_to.bits());
            let whole_from = (0..128).filter(|from| foreign.whole_from.contains(usize::from(*from)));
            records.extend(whole_from.map(|from| Record::Part { transaction, from, parts }));
        }
        records.iter().for_each(|record| self.append(record));
    }

    fn note_complete(&mut self, up_to: Transaction) {
        self.append(&Record::Complete(up_to));
        self.adopt_complete(up_to);
        self.unsettled.retain(|transaction, _| transaction.shard != up_to.shard || transaction.number > up_to.number);
    }

    /// Takes over what a journal says of complete transactions.
    pub(super) fn adopt_complete(&mut self, up_to: Transaction) {
        let known = self.complete.entry(up_to.shard).or_default();
        *known = up_to.number.max(*known);
    }
}

/// A message as the journal has it.
pub(super) fn record_of(message: &Message) -> MessageRecord<'_> {
    MessageRecord {
        publication: message.publication,
        author: message.author,
        qos: message.qos,
        retain: message.retain,
        kind: message.kind,
        expires: message.expires,
        topic: message.topic(),
        forwarded: message.forwarded(),
        payload: message.payload(),
    }
}

impl Shard {
    /// Withholds what is appended to a connection's output from now on.
    pub(super) fn hold(&mut self, id: ConnectionId, hold: Hold) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let last = connection.output.last_gate();
        let gates = match hold {
            Hold::Turn => &mut self.journal.gates,
            Hold::Transaction(transaction) => match self.journal.foreign.get_mut(&transaction) {
                Some(foreign) => &mut foreign.gates,
                None => return, // It is complete.
            },
        };
        let gate = match (gates.last().copied(), last) {
            (Some(gate), Some(last)) if gate == last => return,
            (Some(gate), None) => gate,
            (Some(gate), Some(last)) if gate > last => gate,
            // The gates of a connection stand in the order of their names.
            _ => {
                let gate = self.peers.name_gate();
                self.peers.add_gate(gate, Gate { conditions: 1, ..Gate::default() });
                gates.push(gate);
                gate
            }
        };
        connection.output.withhold(gate);
        if let Some(gate) = self.peers.gate_mut(gate) {
            gate.connections.push(id);
        }
    }

    /// Withholds the reply that is appended next until what it promises is so.
    pub(super) fn promise(&mut self, id: ConnectionId) {
        if self.journal.is_on() {
            self.hold(id, Hold::Turn);
        }
    }

    /// A gate that opens when what this turn promises is so, with nothing behind it: whoever has asked looks.
    pub(super) fn promise_to_operator(&mut self) -> u64 {
        if let Some(gate) = self.journal.gates.last() {
            return *gate;
        }
        let gate = self.peers.name_gate();
        self.peers.add_gate(gate, Gate { conditions: 1, ..Gate::default() });
        self.journal.gates.push(gate);
        gate
    }

    /// Asks the peers to store what this step sends them.
    pub(super) fn store_elsewhere(&mut self) {
        if self.journal.is_on() {
            self.journal.is_stored_elsewhere = true;
            self.peers.request_stored();
        }
    }

    /// The transaction of this turn.
    pub(super) fn transaction(&mut self) -> Transaction {
        self.journal.has_transaction = true;
        Transaction { shard: self.id.index() as u8, number: self.peers.request_stored() }
    }

    /// Notes that something goes to `peer` that may have to be stored there, as part of a transaction or not.
    pub(super) fn note_part(&mut self, under: Option<Transaction>, peer: ShardId) {
        if !self.journal.is_on() {
            return;
        }
        match under {
            Some(own) if self.is_of_this_turn(own) => {
                self.journal.parts.insert(peer.index());
                self.store_elsewhere();
            }
            None if !self.journal.is_passing_on => self.store_elsewhere(),
            None => {
                self.peers.request_passed_on();
            }
            Some(earlier) => self.pass_on(earlier, peer),
        }
    }

    pub(super) fn is_of_this_turn(&self, transaction: Transaction) -> bool {
        usize::from(transaction.shard) == self.id.index() && transaction.number == self.peers.newest_stored()
    }

    fn pass_on(&mut self, transaction: Transaction, peer: ShardId) {
        self.peers.request_passed_on();
        if let Some(foreign) = self.journal.foreign.get_mut(&transaction) {
            foreign.passed_to.insert(peer.index());
        }
    }

    /// Takes part in a transaction of which a peer has sent something; `None` where it is complete already.
    pub(super) fn join_transaction(&mut self, under: Option<Transaction>) -> Option<Transaction> {
        let complete = |open: &Transaction| self.journal.complete.get(&open.shard).copied().unwrap_or(0);
        let under = under.filter(|open| open.number > complete(open))?;
        self.journal.foreign.entry(under).or_default();
        Some(under)
    }

    /// Answers a peer's fence, unless something came back meanwhile of what was passed on, and went on to somebody else.
    pub(super) fn acknowledge_fence(&mut self, peer: ShardId, kind: FenceKind, number: u64) {
        let wait = Wait::Acknowledge { peer, kind, number };
        let is_due = kind != FenceKind::Stored || self.put_off_for_returned(wait).is_some();
        if is_due {
            self.peers.send(peer, PeerMessage::FenceAck { kind, number });
        }
    }

    /// Gives `wait` back, unless a delivery has come back and gone to another member, which is not stored yet: it waits for that then.
    pub(super) fn put_off_for_returned(&mut self, wait: Wait) -> Option<Wait> {
        let returned_at = self.journal.returned_at;
        if !self.journal.is_durable(returned_at) {
            self.journal.waits.push_back((returned_at, wait));
            return None;
        }
        match self.peers.returned_outstanding() {
            Some(fence) => {
                self.peers.wait_passed_on(fence, wait);
                None
            }
            None => Some(wait),
        }
    }

    /// What holds back the deliveries of a publication that happens on all shards or on none.
    pub(super) fn hold_for(&self, under: Option<Transaction>) -> Hold {
        match under {
            Some(transaction) if usize::from(transaction.shard) != self.id.index() => Hold::Transaction(transaction),
            Some(_) | None => Hold::Turn,
        }
    }

    /// A peer asks for what came before to be dealt with.
    pub(super) fn on_fence(&mut self, peer: ShardId, kind: FenceKind, number: u64, parts: &[Transaction]) {
        for transaction in parts {
            let Some(foreign) = self.journal.foreign.get_mut(transaction) else { continue };
            foreign.whole_from.insert(peer.index());
            let passed_to = foreign.passed_to;
            let from = peer.index() as u8;
            self.journal.append(&Record::Part { transaction: *transaction, from, parts: passed_to.bits() });
            if !passed_to.is_empty() && !self.journal.passed_on.contains(transaction) {
                // Those to whom this shard has passed something on have now got all of it, and hear so at the end of the turn.
                self.peers.request_passed_on();
                self.journal.passed_on.push(*transaction);
            }
        }
        match kind {
            FenceKind::Heard => self.peers.on_fence(peer, number),
            FenceKind::Stored | FenceKind::PassedOn => {
                let offset = self.journal.offset();
                let wait = Wait::Acknowledge { peer, kind, number };
                self.journal.waits.push_back((offset, wait));
            }
        }
    }

    /// All transactions of `peer` up to `number` are complete.
    pub(super) fn on_settled(&mut self, peer: ShardId, number: u64) {
        let up_to = Transaction { shard: peer.index() as u8, number };
        let first = Transaction { number: 0, ..up_to };
        let settled: Vec<Transaction> = self.journal.foreign.range(first..=up_to).map(|(key, _)| *key).collect();
        if settled.is_empty() {
            return;
        }
        self.journal.note_complete(up_to);
        for transaction in settled {
            let foreign = self.journal.foreign.remove(&transaction).unwrap_or_default();
            for gate in foreign.gates {
                self.meet(gate);
            }
        }
    }

    /// A transaction of this shard is complete: all its parts are durable.
    pub(super) fn complete_transaction(&mut self, number: u64) {
        self.journal.begun.remove(&number);
        let shard = self.id.index() as u8;
        self.journal.foreign.retain(|own, _| own.shard != shard || own.number > number); // What had come back.
        let transaction = Transaction { shard: self.id.index() as u8, number };
        self.journal.note_complete(transaction);
        for peer in self.peers.others() {
            self.peers.send(peer, PeerMessage::Settled(number));
        }
    }

    /// The journal is durable up to `offset`.
    pub fn on_durable(&mut self, offset: u64) {
        self.journal.durable = offset.max(self.journal.durable);
        self.meet_durable();
        self.on_checkpoint_durable();
    }

    /// Goes on with what waited for the journal.
    fn meet_durable(&mut self) {
        let durable = self.journal.durable;
        while let Some((_, wait)) = self.journal.waits.pop_front_if(|(offset, _)| *offset <= durable) {
            match wait {
                Wait::Acknowledge { peer, kind: FenceKind::Stored, number } => {
                    let wait = Wait::Acknowledge { peer, kind: FenceKind::Stored, number };
                    match self.peers.passed_on_outstanding() {
                        Some(fence) => self.peers.wait_passed_on(fence, wait),
                        None => self.on_ready(wait),
                    }
                }
                other => self.on_ready(other),
            }
        }
    }

    /// Ends the journal's turn: names what the promises of this turn wait for, and begins its transaction.
    pub(super) fn end_journal_turn(&mut self) {
        if !self.journal.is_on() {
            self.meet_durable(); // Peers may ask what costs nothing to answer.
            return self.peers.end_turn(false, &[]);
        }
        let parts = std::mem::take(&mut self.journal.parts);
        let transaction = std::mem::take(&mut self.journal.has_transaction).then(|| self.peers.request_stored());
        if let Some(number) = transaction {
            self.journal.append(&Record::Begun { number, parts: parts.bits() });
            self.journal.begun.insert(number, parts.bits());
        }
        self.journal.end_step();
        let offset = self.journal.appender.end_turn();
        self.journal.step_start = offset;
        let mut gates = std::mem::take(&mut self.journal.gates);
        if let Some(number) = transaction {
            let gate = self.peers.name_gate();
            self.peers.add_gate(gate, Gate { conditions: 1, completes: Some(number), ..Gate::default() });
            gates.push(gate);
        }
        let fence = self.peers.stored_outstanding();
        for gate in gates {
            if let Some(fence) = fence
                && let Some(waiting) = self.peers.gate_mut(gate)
            {
                waiting.conditions += 1;
                self.peers.wait_stored(fence, Wait::Promise(gate));
            }
            self.journal.waits.push_back((offset, Wait::Gate(gate)));
        }
        self.meet_durable();
        let passed_on = std::mem::take(&mut self.journal.passed_on);
        self.peers.end_turn(transaction.is_some(), &passed_on);
    }

    /// The disk refuses to take what is written, or takes it again. Meanwhile whatever needs it is refused.
    pub fn on_journal_failure(&mut self, is_failing: bool) {
        self.journal.is_failing = is_failing;
    }

    /// The records of this turn: whole frames, to be written before anything else of the turn is carried out.
    pub fn records(&mut self) -> Vec<u8> {
        self.journal.take()
    }

    /// Takes back a buffer of [`Self::records`] that is not needed any more.
    pub fn recycle_records(&mut self, buffer: Vec<u8>) {
        self.journal.recycle(buffer);
    }
}
