//! Owns the shards as the shell does: a clock, channels between shards, Network Connections, and the order of it all.
//!
//! Nothing happens at once here. Bytes arrive in pieces, messages between two shards stay in their order but wait for as many
//! turns as chance wants, and which shard has its turn next is drawn too.

mod ending;

use crate::crash::broker::Journals;
use crate::simulation::Random;
use crate::wire::client::{Client, Manner};
use crate::wire::history::{At, History, Trace};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use willowmq::config::Config;
use willowmq::shard::{
    Arrival, Closed, ConnectionId, PeerMessage, Reading, Shard, ShardId, handshake, home_hasher, home_of,
};
use willowmq::timer::Moment;

/// A simulation that is not quiet after so many turns never will be.
const TURNS_MAX: usize = 100_000;

/// Names one simulated Network Connection, and the client at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link(pub(crate) usize);

/// Where a Network Connection is with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Accepted by a shard that has not seen a whole CONNECT.
    Accepted(usize),
    /// On its way to its home.
    HandedTo(usize),
    /// Opened at its home.
    Home(usize, ConnectionId),
    /// The broker has closed it, or knows that it is closed.
    Gone,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    client_id: String,
    place: Place,
    /// Bytes on their way to the broker.
    upstream: VecDeque<u8>,
    /// What follows the last of them.
    ending: Option<Closed>,
    /// Bytes that the accepting shard holds.
    first_bytes: Vec<u8>,
    is_paused: bool,
    /// The output that is being written, and how much of it the client has.
    downstream: Option<(Vec<u8>, usize)>,
    /// An output that is written and not yet given back.
    written: Option<Vec<u8>>,
    /// The shard has asked for the close.
    is_closing: bool,
    client_reads: bool,
    history: History,
}

/// The broker and its clients.
pub(crate) struct Simulation {
    pub(crate) random: Random,
    pub(crate) seed: u64,
    pub(crate) now: Moment,
    step: u64,
    event: u64,
    pub(crate) config: Arc<Config>,
    pub(crate) shards: Vec<Shard>,
    /// What the shards write down, where they do.
    pub(crate) journals: Option<Journals>,
    /// What is known of clients that connect from now on.
    pub(crate) arrival: Arrival,
    /// A control call was made, so the shard's next turn has something to drain.
    is_stirred: Vec<bool>,
    mesh: Vec<VecDeque<PeerMessage>>,
    connections: Vec<Connection>,
    /// Connections with anything to do.
    busy: BTreeSet<usize>,
    by_id: Vec<BTreeMap<ConnectionId, usize>>,
    generations: Vec<Vec<u32>>,
    free_slots: Vec<Vec<u32>>,
    /// The newest connection of each client.
    newest: BTreeMap<String, usize>,
    trace: Trace,
}

impl Simulation {
    pub(crate) fn new(seed: u64, shards: usize, config: Config) -> Self {
        let config = Arc::new(config);
        let now = Moment::from_micros(1_000_000);
        let shard = |index| Shard::new(ShardId::new(index), shards, seed, Arc::clone(&config), now);
        Self {
            random: Random::new(seed),
            seed,
            now,
            step: 0,
            event: 0,
            shards: (0..shards).map(shard).collect(),
            journals: None,
            arrival: Arrival::default(),
            is_stirred: vec![false; shards],
            mesh: (0..shards * shards).map(|_| VecDeque::new()).collect(),
            connections: Vec::new(),
            busy: BTreeSet::new(),
            by_id: vec![BTreeMap::new(); shards],
            generations: vec![Vec::new(); shards],
            free_slots: vec![Vec::new(); shards],
            newest: BTreeMap::new(),
            trace: Trace::default(),
            config,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    pub(crate) fn at(&mut self) -> At {
        self.event += 1;
        At { step: self.step, event: self.event, moment: self.now }
    }

    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The home of a client.
    pub(crate) fn home(&self, client_id: &str) -> usize {
        home_of(client_id, &home_hasher(self.seed), self.shards.len()).index()
    }

    /// A digest of everything that happened.
    pub(crate) fn digest(&self) -> u64 {
        self.trace.digest
    }

    /// Calls a shard outside of its turn, as an administrator does.
    pub(crate) fn control<T>(&mut self, shard: usize, call: impl FnOnce(&mut Shard, Moment) -> T) -> T {
        self.is_stirred[shard] = true;
        call(&mut self.shards[shard], self.now)
    }

    /// A new Network Connection, accepted by some shard.
    pub(crate) fn open_link(&mut self, client_id: &str, manner: Manner) -> Link {
        let accepting = self.random.below(self.shards.len());
        let index = self.connections.len();
        let memory = match self.newest.insert(client_id.to_owned(), index) {
            Some(older) if !client_id.is_empty() => self.connections[older].client.move_on(manner.clean_start),
            _ => Default::default(),
        };
        self.connections.push(Connection {
            client: Client::new(manner, memory),
            client_id: client_id.to_owned(),
            place: Place::Accepted(accepting),
            upstream: VecDeque::new(),
            ending: None,
            first_bytes: Vec::new(),
            is_paused: false,
            downstream: None,
            written: None,
            is_closing: false,
            client_reads: true,
            history: History::default(),
        });
        self.note(index, || format!("{client_id} arrives at shard {accepting}"));
        Link(index)
    }

    /// The client writes to its connection.
    pub(crate) fn write(&mut self, link: Link, bytes: &[u8]) {
        let connection = &mut self.connections[link.0];
        if connection.ending.is_none() && connection.place != Place::Gone {
            connection.upstream.extend(bytes);
            connection.history.bytes_written += bytes.len() as u64;
            self.busy.insert(link.0);
        }
    }

    /// The client ends its connection: after what it has written, or with the loss of what has not arrived.
    pub(crate) fn end_link(&mut self, link: Link, how: Closed) {
        let connection = &mut self.connections[link.0];
        if connection.ending.is_some() || connection.place == Place::Gone {
            return;
        }
        connection.ending = Some(how);
        if how != Closed::Fin {
            let kept = self.random.below(connection.upstream.len() + 1);
            connection.upstream.truncate(kept);
        }
        self.busy.insert(link.0);
        self.note(link.0, || format!("ends: {how:?}"));
    }

    pub(crate) fn client(&self, link: Link) -> &Client {
        &self.connections[link.0].client
    }

    pub(crate) fn client_mut(&mut self, link: Link) -> &mut Client {
        &mut self.connections[link.0].client
    }

    pub(crate) fn history(&self, link: Link) -> &History {
        &self.connections[link.0].history
    }

    pub(crate) fn set_reading(&mut self, link: Link, reads: bool) {
        self.connections[link.0].client_reads = reads;
        self.busy.insert(link.0);
    }

    /// Whether the client can still use its connection.
    pub(crate) fn is_usable(&self, link: Link) -> bool {
        let connection = &self.connections[link.0];
        let is_open = connection.place != Place::Gone && connection.ending.is_none() && !connection.is_closing;
        is_open && !connection.client.has_moved_on
    }

    /// Whether the broker is done with the connection.
    pub(crate) fn is_gone(&self, link: Link) -> bool {
        self.connections[link.0].place == Place::Gone
    }

    /// Lets one shard, and the clients, do something.
    pub(crate) fn step(&mut self) {
        let shard = self.random.below(self.shards.len());
        self.turn(shard);
        self.pump_clients();
        self.work_disk();
    }

    /// Goes on until something has happened, and not a turn further.
    pub(crate) fn step_until(&mut self, has_happened: impl Fn(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if has_happened(self) {
                return;
            }
            self.step();
        }
        panic!("it never happens: {}", self.why_busy());
    }

    /// Goes on until nothing is under way any more. No time passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.is_quiet() {
                return;
            }
            self.step();
        }
        panic!("the broker never comes to rest: {}", self.why_busy());
    }

    fn why_busy(&self) -> String {
        let deadlines: Vec<_> = self.shards.iter().map(Shard::next_deadline).collect();
        let mesh: Vec<_> = self.mesh.iter().map(VecDeque::len).collect();
        let disk = self.journals.as_ref().map(Journals::why_busy);
        format!(
            "now {:?}, deadlines {deadlines:?}, mesh {mesh:?}, busy connections {:?}, {disk:?}",
            self.now, self.busy
        )
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.mesh.iter().all(VecDeque::is_empty)
            && self.busy.iter().all(|index| self.is_idle(*index))
            && !self.is_stirred.contains(&true)
            && self.journals.as_ref().is_none_or(|journals| journals.are_quiet(self.now))
            && self.shards.iter().all(|shard| {
                let waits_for_disk = self.journals.as_ref().is_some_and(|journals| !journals.are_durable());
                (shard.population().due_wills == 0 || waits_for_disk)
                    && shard.next_deadline().is_none_or(|deadline| deadline > self.now)
            })
    }

    fn is_idle(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        let may_arrive = connection.ending.is_some() || !(connection.upstream.is_empty() || connection.is_paused);
        let may_leave = connection.downstream.is_some() && connection.client_reads;
        let is_moving = matches!(connection.place, Place::HandedTo(_)) || connection.written.is_some();
        connection.place == Place::Gone || !(may_arrive || may_leave || is_moving)
    }

    /// Lets time pass. Shards wake up at their deadlines; everything comes to rest in between.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            self.settle();
            match self.next_deadline().filter(|deadline| *deadline <= until) {
                Some(deadline) => self.now = deadline,
                None => break,
            }
        }
        self.now = until;
        self.settle();
    }

    /// Lets time pass while messages and bytes stay under way: every shard that has a deadline has a turn, and no more.
    pub(crate) fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline.max(self.now);
            self.turn_each();
        }
        self.now = until;
        self.turn_each();
    }

    pub(crate) fn turn_each(&mut self) {
        for shard in 0..self.shards.len() {
            self.turn(shard);
        }
        self.work_disk();
    }

    fn next_deadline(&self) -> Option<Moment> {
        let disk = self.journals.as_ref().and_then(Journals::next_deadline);
        self.shards.iter().filter_map(Shard::next_deadline).chain(disk).min()
    }

    /// One turn of a shard, as its owner carries it out.
    fn turn(&mut self, shard: usize) {
        self.step += 1;
        self.is_stirred[shard] = false;
        self.hear_of_disk(shard);
        for index in self.busy.iter().copied().collect::<Vec<_>>() {
            self.arrive(shard, index);
        }
        for peer in 0..self.shards.len() {
            let waiting = self.mesh[peer * self.shards.len() + shard].len();
            let arriving = if self.random.one_in(3) { self.random.below(waiting + 1) } else { waiting };
            for _ in 0..arriving {
                let message = self.mesh[peer * self.shards.len() + shard].pop_front().expect("counted above");
                self.shards[shard].on_peer(self.now, ShardId::new(peer), message);
            }
        }
        let at_most = self.random.below(100);
        let machine = &mut self.shards[shard];
        machine.advance(self.now, |_| false);
        machine.publish_due_wills(self.now, at_most);
        machine.end_turn(self.now);
        self.drain(shard);
    }

    /// What has arrived for a shard on one connection.
    fn arrive(&mut self, shard: usize, index: usize) {
        let connection = &mut self.connections[index];
        match connection.place {
            Place::Accepted(accepting) if accepting == shard => self.read_first_bytes(shard, index),
            Place::HandedTo(home) if home == shard => self.open_at_home(shard, index),
            Place::Home(home, id) if home == shard => {
                if let Some(buffer) = connection.written.take() {
                    self.shards[shard].on_sent(self.now, id, buffer);
                }
                self.read_at_home(shard, index, id);
            }
            Place::Accepted(_) | Place::HandedTo(_) | Place::Home(..) => {}
            Place::Gone => {
                self.busy.remove(&index);
            }
        }
    }

    fn chunk(&mut self, index: usize) -> Vec<u8> {
        let available = self.connections[index].upstream.len();
        if available == 0 {
            return Vec::new();
        }
        let count = match self.random.below(8) {
            0 => 1 + self.random.below(available.min(5)),
            1 => 1 + self.random.below(available),
            _ => available,
        };
        self.connections[index].upstream.drain(..count).collect()
    }

    fn read_first_bytes(&mut self, shard: usize, index: usize) {
        let bytes = self.chunk(index);
        self.connections[index].first_bytes.extend_from_slice(&bytes);
        let connection = &self.connections[index];
        match handshake::first_packet(&connection.first_bytes, &self.config, 0) {
            Ok(Some((connect, _))) => {
                let home = match connect.client_id {
                    "" => shard,
                    client_id => self.home(client_id),
                };
                self.connections[index].place = Place::HandedTo(home);
            }
            Ok(None) if connection.upstream.is_empty() && connection.ending.is_some() => self.finish(index),
            Ok(None) => {}
            Err(refusal) => {
                self.note(index, || format!("refused: {}", refusal.error));
                self.deliver(index, &refusal.reply);
                self.finish(index);
            }
        }
    }

    fn open_at_home(&mut self, shard: usize, index: usize) {
        let id = self.take_slot(shard);
        self.by_id[shard].insert(id, index);
        let at = self.at();
        let connection = &mut self.connections[index];
        connection.place = Place::Home(shard, id);
        connection.history.opened = Some(at);
        let bytes = std::mem::take(&mut connection.first_bytes);
        connection.history.on_arrival(self.now, &bytes);
        let first = handshake::first_packet(&bytes, &self.config, 0).expect("decoded before");
        let (connect, length) = first.expect("it was whole before");
        self.shards[shard].open(self.now, id, &connect, self.arrival.clone());
        if bytes.len() > length {
            self.shards[shard].receive(self.now, id, &bytes[length..]);
        }
        self.note(index, || format!("opened at shard {shard}"));
    }

    fn read_at_home(&mut self, shard: usize, index: usize, id: ConnectionId) {
        if self.connections[index].is_closing {
            return;
        }
        if !self.connections[index].is_paused {
            let bytes = self.chunk(index);
            if !bytes.is_empty() {
                self.connections[index].history.on_arrival(self.now, &bytes);
                self.shards[shard].receive(self.now, id, &bytes);
            }
        }
        let connection = &self.connections[index];
        if connection.is_paused && connection.ending.is_some() {
            return self.shards[shard].on_hangup(self.now, id, connection.upstream.len() as u64);
        }
        let is_over = connection.upstream.is_empty() || connection.ending != Some(Closed::Fin);
        if let Some(how) = connection.ending.filter(|_| is_over && !connection.is_paused) {
            self.note_closed(index);
            self.note(index, || format!("closed by the client: {how:?}"));
            self.shards[shard].on_closed(self.now, id, how);
            // A close that the shard asked for in this very turn must not reach its owner any more.
            self.give_slot_back(shard, id);
            self.finish(index);
        }
    }

    fn take_slot(&mut self, shard: usize) -> ConnectionId {
        let index = self.free_slots[shard].pop().unwrap_or_else(|| {
            self.generations[shard].push(0);
            self.generations[shard].len() as u32 - 1
        });
        ConnectionId { index, generation: self.generations[shard][index as usize] }
    }

    fn give_slot_back(&mut self, shard: usize, id: ConnectionId) {
        self.by_id[shard].remove(&id);
        self.generations[shard][id.index as usize] += 1;
        self.free_slots[shard].push(id.index);
    }

    fn note_closed(&mut self, index: usize) {
        let at = self.at();
        self.connections[index].history.closed.get_or_insert(at);
    }

    /// The broker is done with a connection.
    fn finish(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.place = Place::Gone;
        connection.upstream.clear();
        connection.downstream = None;
        connection.written = None;
        self.busy.remove(&index);
    }

    /// Carries out what a shard's turn has left: records, messages, closes, reading, outputs.
    fn drain(&mut self, shard: usize) {
        self.write_down(shard);
        for peer in 0..self.shards.len() {
            if self.shards[shard].has_messages(ShardId::new(peer)) {
                let messages = self.shards[shard].messages(ShardId::new(peer), usize::MAX);
                self.mesh[shard * self.by_id.len() + peer].extend(messages);
            }
        }
        while let Some(id) = self.shards[shard].next_close() {
            if let Some(index) = self.by_id[shard].get(&id).copied() {
                self.begin_close(shard, index, id);
            }
        }
        while let Some((id, reading)) = self.shards[shard].next_reading() {
            if let Some(index) = self.by_id[shard].get(&id).copied() {
                self.connections[index].is_paused = reading == Reading::Pause;
                self.busy.insert(index);
            }
        }
        while let Some(id) = self.shards[shard].next_output() {
            if let Some(index) = self.by_id[shard].get(&id).copied() {
                self.take_output(shard, index, id);
            }
        }
        while let Some(event) = self.shards[shard].next_event() {
            self.trace.note(format!("{} shard {shard}: {event}", self.now.as_micros()));
        }
    }

    fn begin_close(&mut self, shard: usize, index: usize, id: ConnectionId) {
        self.note_closed(index);
        self.connections[index].history.was_closed_by_broker = true;
        self.note(index, || "closed by the broker".to_owned());
        self.connections[index].is_closing = true;
        self.busy.insert(index);
        if let Some(buffer) = self.connections[index].written.take() {
            self.shards[shard].on_sent(self.now, id, buffer);
        }
        self.take_output(shard, index, id);
        let connection = &self.connections[index];
        // A client that does not read is not waited for.
        if connection.downstream.is_none() || !connection.client_reads {
            self.give_slot_back(shard, id);
            self.finish(index);
        }
    }

    fn take_output(&mut self, shard: usize, index: usize, id: ConnectionId) {
        let connection = &mut self.connections[index];
        if connection.downstream.is_some() || connection.written.is_some() {
            return;
        }
        if let Some(bytes) = self.shards[shard].take_output(id) {
            assert!(!bytes.is_empty(), "an output has bytes");
            connection.downstream = Some((bytes, 0));
            self.busy.insert(index);
        }
    }

    /// Moves bytes towards the clients.
    fn pump_clients(&mut self) {
        for index in self.busy.iter().copied().collect::<Vec<_>>() {
            let connection = &mut self.connections[index];
            if !connection.client_reads && !connection.is_closing {
                continue;
            }
            let Some((buffer, start)) = &mut connection.downstream else { continue };
            let left = buffer.len() - *start;
            let count = if self.random.one_in(4) { 1 + self.random.below(left) } else { left };
            let bytes = buffer[*start..*start + count].to_vec();
            *start += count;
            let is_written = *start == buffer.len();
            self.deliver(index, &bytes);
            if is_written {
                self.on_written(index);
            }
        }
    }

    /// The client reads bytes, and answers what it answers by itself.
    fn deliver(&mut self, index: usize, bytes: &[u8]) {
        let at = self.at();
        let connection = &mut self.connections[index];
        if connection.ending.is_some() {
            return; // It has left.
        }
        let mut answer = Vec::new();
        let known = connection.client.inbox.len();
        connection.client.on_bytes(bytes, &mut answer);
        connection.history.seen.resize(connection.client.inbox.len(), at);
        let lines: Vec<_> = connection.client.inbox[known..].iter().map(|inbound| format!("{inbound:?}")).collect();
        for line in lines {
            self.note(index, || line);
        }
        if !self.connections[index].client.has_moved_on {
            self.write(Link(index), &answer);
        }
    }

    fn on_written(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some((buffer, _)) = connection.downstream.take() else { return };
        let Place::Home(shard, id) = connection.place else { return };
        if !connection.is_closing {
            connection.written = Some(buffer);
            return;
        }
        self.shards[shard].on_sent(self.now, id, buffer);
        self.take_output(shard, index, id);
        if self.connections[index].downstream.is_none() {
            self.give_slot_back(shard, id);
            self.finish(index);
        }
    }

    fn note(&mut self, index: usize, what: impl FnOnce() -> String) {
        let line = format!("{} {}#{index}: {}", self.now.as_micros(), self.connections[index].client_id, what());
        self.trace.note(line);
    }

    /// What tells a failure apart: how to run it again, and what happened last.
    pub(crate) fn epitaph(&self) -> String {
        let recent: Vec<_> = self.trace.recent.iter().map(String::as_str).collect();
        format!("seed {}, {} shards; what happened last:\n  {}", self.seed, self.shards.len(), recent.join("\n  "))
    }
}
