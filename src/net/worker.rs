//! One shard at work: the state machine, its ring and its connections, and the turn that moves bytes between them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::admission::Gate;
use super::authentication::{Authentication, Exchange};
use super::clock::Clock;
use super::connection::{Accepting, Connections, Io, Stage};
use super::counters::Counters;
use super::errand::Errand;
use super::handshake::{Handover, Homes};
use super::journal::{Beginning, Journal};
use super::life::Life;
use super::link::Scratch;
use super::listener::Listener;
use super::logging::{Seldom, SeldomByKind};
use super::mesh::{Letter, Mesh, Port};
use super::plan::{InForce, Plan};
use super::report::Turns;
use super::ring::{Completion, FileDone, Ring, Wait};
use super::startup::StartError;
use super::unread::Unread;
use crate::config::Config;
use crate::shard::{ConnectionId, Event, Reading, Shard, ShardId, home_hasher};
use crate::timer::{Moment, Wheel};

/// Provided buffers of a shard: 4 MiB for everything that arrives within one turn.
const BUFFERS: u16 = 1024;
/// Completions of one turn. A burst is worked off in batches, between which others have their turn.
const COMPLETIONS_MAX: usize = 1024;
/// The clock is read again after so many.
const COMPLETIONS_A_MOMENT: usize = 32;
/// The kernel is not asked for more once a turn has so many: what they ask for waits until the turn is over.
const ASKING_MAX: usize = 64;
/// Reads of 16 KiB from a connection that is about to be taken over: a client that floods it waits no longer than that.
const CATCH_UP_READS: usize = 64;
/// Letters taken from one peer in one turn.
const LETTERS_MAX: usize = 1024;
/// Work of the shard, as it counts it, after which no more letters of a peer are taken in one turn: a thousand letters that cause more than
/// that keep everybody waiting. The first one is taken in any case, so each peer goes on.
const LETTERS_WORK: u64 = 64 * 1024;
/// Errands carried out in one turn.
const ERRANDS_MAX: usize = 64;

/// Where the thread spends the time until the next turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// In the shard's ring.
    InRing(Wait),
    /// With whatever else the executor has to run.
    InExecutor,
    /// Nowhere: the clean stop is complete.
    Finished,
}

/// A shard with everything around it.
pub(crate) struct Worker {
    pub(super) shard: Shard,
    pub(super) connections: Connections,
    pub(super) io: Io,
    /// By slot; `None` where it is closed.
    pub(super) listeners: Vec<Option<Listener>>,
    pub(super) homes: Homes,
    pub(super) config: Arc<Config>,
    pub(super) gate: Arc<Gate>,
    pub(super) counters: Counters,
    /// How long turns took.
    pub(super) turns: Turns,
    /// When the newest turn ended.
    turn_ended: Moment,
    /// Connections that were sending something else when their output came.
    pub(super) late: Vec<ConnectionId>,
    /// Receives that ended by themselves and are to be armed again at the end of the turn.
    pub(super) unarmed: Vec<u32>,
    pub(super) life: Life,
    /// `None`: durability is "memory".
    pub(super) journal: Option<Journal>,
    /// Tells that all shards may open, as far as this one is concerned.
    pub(super) ready: Option<Sender<Result<(), StartError>>>,
    /// What this shard has taken over from other journals is not in its own yet.
    pub(super) is_moving: bool,
    /// The want of descriptors is logged now and then.
    pub(super) exhausted: Seldom,
    /// So is what strangers do.
    pub(super) complaints: SeldomByKind,
    /// What follows from the settings: the same as all shards have, but for a moment while they are told.
    pub(super) in_force: Arc<InForce>,
    pub(super) authentication: Authentication,
    /// Where clients stand that re-authenticate on an open connection.
    pub(super) exchanges: HashMap<ConnectionId, Box<Exchange>>,
    pub(super) port: Port,
    clock: Clock,
    /// Connections that wait for room in the lane to their home.
    pub(super) departures: Vec<VecDeque<Box<Handover>>>,
    /// Completions that were looked at out of turn, and put aside.
    aside: VecDeque<Completion>,
    /// Connections that have ended, and wait for their turn.
    pub(super) endings: VecDeque<ConnectionId>,
    /// Connections that were accepted and wait to be taken in, with their listener.
    pub(super) waiting: VecDeque<(u16, OwnedFd)>,
    /// Too many wait: nothing is accepted until they have been taken in.
    pub(super) is_door_shut: bool,
    /// Which of the listeners the ring accepts on.
    pub(super) accepting: Vec<Accepting>,
    /// Connections that were taken in since ends were last worked off.
    pub(super) accepted: usize,
    /// The last turn took as many completions as it may; there may be more.
    is_flooded: bool,
}

impl Worker {
    /// Sets up the shard `id` on the calling thread. It says on `ready` when it could begin to accept on `sockets`, and does so once
    /// the mesh is open.
    ///
    /// # Errors
    /// When the ring, a descriptor or the journal's folder is not to be had.
    pub(crate) fn new(
        id: ShardId,
        plan: &Plan,
        sockets: Vec<OwnedFd>,
        beginning: Option<Beginning>,
        ready: Sender<Result<(), StartError>>,
    ) -> Result<Self, StartError> {
        let Plan { mesh, gate, clock, seed, authentication, rights, .. } = plan;
        let in_force = plan.in_force();
        let config = &in_force.config;
        let now = clock.now();
        let shards = mesh.shards();
        let port = Port::new(Arc::clone(mesh), id.index());
        let mut ring = Ring::new(BUFFERS).map_err(StartError::from_ring)?;
        port.publish_ring(ring.as_raw_fd());
        ring.watch(port.bell());
        let listeners =
            sockets.into_iter().map(|socket| Listener::new(socket).map(Some)).collect::<std::io::Result<Vec<_>>>();
        let listeners = listeners.map_err(StartError::from_ring)?;
        let accepting = vec![Accepting::Off; listeners.len()];
        ring.enter(Wait::No).map_err(StartError::from_ring)?;
        let is_moving = beginning.as_ref().is_some_and(|beginning| beginning.is_moving);
        let (journal, mut shard) = match beginning {
            None => (None, Shard::new(id, shards, *seed, Arc::clone(config), now)),
            Some(Beginning { mut recovered, place, .. }) => {
                let tail = std::mem::take(&mut recovered.tail);
                let journal = Journal::new(id.index(), config, place, recovered.certain, tail)?;
                let shard = Shard::journalled(id, shards, *seed, Arc::clone(config), now, recovered);
                (Some(journal), shard)
            }
        };
        shard.set_rights(Arc::clone(rights));
        if is_moving {
            shard.begin_checkpoint();
        }
        let write_timeout = config.limits.write_timeout;
        Ok(Self {
            shard,
            connections: Connections::default(),
            io: Io { ring, deadlines: Wheel::new(now), write_timeout, scratch: Scratch::default() },
            listeners,
            homes: Homes { here: id, shards, hasher: home_hasher(*seed) },
            config: Arc::clone(config),
            gate: Arc::clone(gate),
            counters: Counters::default(),
            turns: Turns::default(),
            turn_ended: now,
            unarmed: Vec::new(),
            life: Life::Starting,
            journal,
            ready: Some(ready),
            is_moving,
            exhausted: Seldom::default(),
            complaints: SeldomByKind::default(),
            authentication: authentication.clone(),
            in_force,
            exchanges: HashMap::new(),
            late: Vec::new(),
            port,
            clock: *clock,
            departures: (0..shards).map(|_| VecDeque::new()).collect(),
            aside: VecDeque::new(),
            endings: VecDeque::new(),
            waiting: VecDeque::new(),
            is_door_shut: false,
            accepting,
            accepted: 0,
            is_flooded: false,
        })
    }

    /// One turn: hands over what has arrived, then carries out what follows from it.
    pub(crate) fn turn(&mut self) {
        let now = self.clock.now(); // A turn is one moment, but for what arrives: see `take_completions`.
        let began = now;
        self.take_endings(now);
        let now = self.take_completions(now);
        self.take_admissions(now);
        self.take_letters(now);
        self.take_errands(now);
        while let Some(deadline) = self.io.deadlines.pop_due(now) {
            self.on_deadline(now, deadline);
        }
        if matches!(self.life, Life::Starting | Life::Running) && self.port.mesh().is_stopping() {
            self.stop(now);
        }
        let mut unread = Unread::new(&self.connections, &mut self.io.ring, &mut self.aside);
        self.shard.advance(now, |id| unread.is_there(id));
        self.carry_out(now);
        match self.life {
            Life::Starting => self.advance_start(now),
            Life::Running => {}
            _ => self.advance_stop(now),
        }
        self.turn_ended = self.clock.now();
        self.turns.note(began, self.turn_ended);
    }

    /// Publishes a slice of the wills that are due, and sends what follows from it.
    pub(crate) fn publish_wills(&mut self) {
        let now = self.clock.now();
        self.shard.publish_due_wills(now, self.config.wills.slice as usize);
        self.carry_out(now);
        self.turns.note(now, self.clock.now());
        self.enter(Wait::No);
    }

    /// Whether wills are due that have not been published.
    pub(crate) fn has_due_wills(&self) -> bool {
        self.shard.has_due_wills()
    }

    /// Decides where the thread waits for the next turn. This is the one place that does.
    ///
    /// The ring is where it wakes up cheapest, and where sockets, files and peers report, so that is where it sleeps. The executor runs when
    /// it has work that the ring does not know of: the wills that are due, and anything else after a full batch.
    pub(crate) fn rest(&self) -> Rest {
        if self.life == Life::Finished {
            Rest::Finished
        } else if self.has_due_wills() || self.is_flooded || !self.aside.is_empty() || self.has_queued() {
            Rest::InExecutor
        } else if self.can_sleep() {
            Rest::InRing(self.time_to_sleep())
        } else {
            Rest::InRing(Wait::No)
        }
    }

    /// Whether connections wait for their turn, to be taken in or to end.
    fn has_queued(&self) -> bool {
        !self.waiting.is_empty() || !self.endings.is_empty()
    }

    /// Hands what is queued to the kernel, and waits as told.
    ///
    /// # Panics
    /// When the ring fails: a shard without it can serve nobody, and going on with the others would lose its sessions silently.
    pub(crate) fn enter(&mut self, wait: Wait) {
        let entered = self.io.ring.enter(wait);
        self.port.unpark();
        if let Err(error) = entered {
            panic!("shard {}: io_uring_enter failed: {error}", self.homes.here.index());
        }
    }

    /// What all shards share.
    pub(super) fn mesh(&self) -> &Arc<Mesh> {
        self.port.mesh()
    }

    /// Says at the door that this shard sleeps, unless there is something it can do now.
    fn can_sleep(&self) -> bool {
        if !self.port.park() {
            return false;
        }
        // Looked at after the door: a peer that makes room from here on wakes us, and what it made before is seen.
        let can_post = self.port.peers().any(|peer| self.wants(peer) && self.port.room(peer) > 0);
        if can_post {
            self.port.unpark();
        }
        !can_post
    }

    /// Whether something waits for room in the lane to `peer`.
    fn wants(&self, peer: usize) -> bool {
        !self.departures[peer].is_empty() || self.shard.has_messages(ShardId::new(peer))
    }

    /// Whether messages wait for peers, or those of peers here, which may become others.
    pub(super) fn peers_with_messages(&self) -> bool {
        self.shard.letters_aside() > 0 || self.port.peers().any(|peer| self.shard.has_messages(ShardId::new(peer)))
    }

    /// Until the next deadline, from the end of the turn.
    fn time_to_sleep(&self) -> Wait {
        let of_journal = self.journal.as_ref().and_then(Journal::next_deadline);
        let deadlines = [self.shard.next_deadline(), self.io.deadlines.next_deadline(), of_journal];
        match deadlines.into_iter().flatten().min() {
            None => Wait::Forever,
            Some(deadline) => match deadline.duration_since(self.turn_ended) {
                time if time.is_zero() => Wait::No,
                time => Wait::AtMost(time),
            },
        }
    }

    /// Takes what has arrived, up to a batch. The kernel hands over some twenty arrivals at a time, in order: in a flood of connections
    /// that end, everybody else's messages would wait behind the flood, so it is asked again while the batch is small.
    ///
    /// Returns the moment of the last of them. The clock is read again now and then, since a batch may take long: a packet that is noted as
    /// older than it is could make its client appear silent.
    fn take_completions(&mut self, mut now: Moment) -> Moment {
        let mut taken = 0;
        while taken < COMPLETIONS_MAX {
            let ended = self.endings.len();
            if taken % COMPLETIONS_A_MOMENT == COMPLETIONS_A_MOMENT - 1 {
                now = self.clock.now();
            }
            match self.aside.pop_front().or_else(|| self.io.ring.next_completion()) {
                Some(completion) => self.on_completion(now, completion),
                None if taken < ASKING_MAX && self.io.ring.has_more() => self.enter(Wait::No),
                None => break,
            }
            // An end only queues, and so does not count. An entry into the kernel does, so that this ends.
            taken += usize::from(self.endings.len() <= ended);
        }
        self.is_flooded = taken >= ASKING_MAX;
        now
    }

    /// Hands over all that a connection has sent before now, since another one is about to take its Session over, or it is about to be
    /// broken off. A DISCONNECT that the client sent before must not be overtaken: its will would be published.
    pub(super) fn catch_up(&mut self, now: Moment, older: ConnectionId) {
        let earlier = std::mem::take(&mut self.aside);
        for completion in earlier {
            self.take_if_of(now, older, completion);
        }
        while let Some(completion) = self.io.ring.next_completion() {
            self.take_if_of(now, older, completion);
        }
        if self.connections.get(older).is_some_and(|connection| connection.is_over()) {
            return self.on_end(now, older); // All that it sent was handed over before its end.
        }
        // What the ring has not received lies in the socket, and stays there until the next `enter`.
        let mut buffer = [0; 16 * 1024];
        for _ in 0..CATCH_UP_READS {
            let Some(connection) = self.connections.get(older) else { return };
            if !matches!(connection.stage, Stage::Open) {
                return;
            }
            if connection.layers_end().is_some() {
                return self.on_end(now, older);
            }
            match rustix::net::recv(&connection.socket, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
                Ok((length, _)) if length > 0 => self.receive_open(now, older.index, &buffer[..length]),
                Ok(_) | Err(_) => return, // The end, or nothing more: either is seen again in its turn.
            }
        }
    }

    fn take_if_of(&mut self, now: Moment, older: ConnectionId, completion: Completion) {
        match completion {
            Completion::Received { slot, .. } if slot == older.index => self.on_completion(now, completion),
            other => self.aside.push_back(other),
        }
    }

    fn take_letters(&mut self, now: Moment) {
        for peer in self.port.peers() {
            let mut taken = 0;
            let work_max = self.shard.work() + LETTERS_WORK;
            while taken < LETTERS_MAX
                && (taken == 0 || self.shard.work() < work_max)
                && let Some(letter) = self.port.take(peer)
            {
                taken += 1;
                match letter {
                    Letter::Message(message) => self.shard.on_peer(now, ShardId::new(peer), message),
                    Letter::Handover(handover) => self.welcome(now, *handover),
                }
            }
            if taken > 0 {
                self.port.made_room(peer);
            }
        }
    }

    fn take_errands(&mut self, now: Moment) {
        for _ in 0..ERRANDS_MAX {
            let Some(errand) = self.port.take_errand() else { return };
            self.on_errand(now, errand);
        }
    }

    fn on_errand(&mut self, now: Moment, errand: Errand) {
        match errand {
            Errand::Layers(returned) => self.on_returned(now, *returned),
            Errand::Authenticated { connection, step } => self.on_authenticated(now, connection, step),
            Errand::Rights(rights) => self.shard.set_rights(rights),
            Errand::Pressure(pressure) => self.shard.set_pressure(now, pressure),
            Errand::Task(task) => task(now, self),
        }
    }

    /// Carries out what the shard has left in its buffers. The order is a rule: records, messages, closes, reading, outputs.
    pub(super) fn carry_out(&mut self, now: Moment) {
        while let Some((id, request)) = self.shard.next_authentication() {
            self.re_authenticate(now, id, request);
        }
        self.shard.end_turn(now);
        if let Some(journal) = &mut self.journal {
            journal.end_turn(now, &mut self.shard, &mut self.io.ring);
        }
        self.post_letters();
        while let Some(id) = self.shard.next_close() {
            self.close(now, id);
        }
        while let Some((id, reading)) = self.shard.next_reading() {
            self.set_reading(id, reading);
        }
        while let Some(id) = self.shard.next_output() {
            self.send_output(now, id);
        }
        while let Some(id) = self.late.pop() {
            self.send_output(now, id);
        }
        for slot in std::mem::take(&mut self.unarmed) {
            self.connections.rearm(slot, &mut self.io.ring);
        }
        self.port.wake_peers(&mut self.io.ring);
        while let Some(event) = self.shard.next_event() {
            log_event(self.homes.here, &event);
        }
    }

    fn send_output(&mut self, now: Moment, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id)
            && matches!(connection.stage, Stage::Open)
            && !connection.is_sending()
            && connection.send_failed.is_none()
            && connection.layers_end().is_none()
            && let Some(output) = self.shard.take_output(id)
        {
            connection.send_output(now, output, &mut self.io);
        }
    }

    /// Fills the lanes: connections first, since a client is waiting for its CONNACK.
    fn post_letters(&mut self) {
        for peer in self.port.peers() {
            if !self.wants(peer) {
                continue;
            }
            let mut room = self.port.room(peer);
            while room > 0
                && let Some(handover) = self.departures[peer].pop_front()
            {
                self.port.post(peer, Letter::Handover(handover));
                room -= 1;
            }
            for message in self.shard.messages(ShardId::new(peer), room) {
                self.port.post(peer, Letter::Message(message));
            }
        }
    }

    fn set_reading(&mut self, id: ConnectionId, reading: Reading) {
        let Some(connection) = self.connections.get(id) else { return };
        if !matches!(connection.stage, Stage::Open) {
            return; // It is read until its end now.
        }
        match reading {
            Reading::Pause => {
                connection.pause(&mut self.io.ring);
                connection.watch_for_hangup(&mut self.io.ring);
            }
            Reading::Resume => connection.go_on_reading(&mut self.io.ring),
        }
    }

    /// Puts a connection on its way home.
    pub(super) fn depart(&mut self, handover: Box<Handover>) {
        self.counters.handed_over += 1;
        self.departures[handover.home.index()].push_back(handover);
    }

    /// The wake-up of another thread, or a wake-up of ours that failed.
    pub(super) fn on_woken(&mut self, armed: bool) {
        super::ring::reset(self.port.bell());
        if !armed {
            self.io.ring.watch(self.port.bell());
        }
    }

    /// A peer's ring did not take the wake-up, so its bell does.
    pub(super) fn on_wake_failed(&mut self, peer: u32) {
        self.port.ring_bell(peer as usize);
    }

    /// A file operation of the journal is over.
    pub(super) fn on_file_done(&mut self, now: Moment, token: u32, done: FileDone) {
        let journal = self.journal.as_mut().expect("only a journal has files");
        journal.on_done(now, token, done, &mut self.shard, &mut self.io.ring);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.port.publish_ring(-1); // Peers that still run ring the bell instead, and nobody answers.
    }
}

/// One line per thing that an operator can act on. Each kind has a place of its own, since the lines of one place are limited: those of clients
/// that are turned away again and again must not keep another kind from the log.
fn log_event(shard: ShardId, event: &Event) {
    let shard = shard.index();
    match event {
        Event::ConnectRefused { .. } => tracing::warn!(shard, "{event}"),
        Event::Disconnected { .. } => tracing::warn!(shard, "{event}"),
        Event::WillDelayCapped { .. } => tracing::warn!(shard, "{event}"),
        Event::WillDenied { .. } => tracing::warn!(shard, "{event}"),
        Event::MessageUnreadable { .. } => tracing::warn!(shard, "{event}"),
        Event::CheckpointAbandoned => tracing::warn!(shard, "{event}"),
        Event::Storm { .. } => tracing::info!(shard, "{event}"),
    }
}
