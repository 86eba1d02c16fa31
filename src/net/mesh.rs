//! The mesh: how shards talk to each other, and how they are woken.
//!
//! Between every ordered pair of shards lies a lane, first in, first out. It is bounded by its
//! sender, who asks for the room first ([`Port::room`]), so nothing is ever dropped. A shard that is
//! about to sleep says so at its door, looks at its lanes once more, and only then sleeps; whoever puts
//! something into a lane looks at the door afterwards. One of the two sees the other, so no message
//! waits for a sleeper, and a shard that is awake is never disturbed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};

use crossbeam::queue::SegQueue;

use super::errand::Errand;
use super::handshake::Handover;
use super::ring::{self, Ring};
use crate::shard::PeerMessage;

/// What travels from shard to shard.
pub(crate) enum Letter {
    /// From state machine to state machine.
    Message(PeerMessage),
    /// A connection comes home.
    Handover(Box<Handover>),
}

/// What all shards and the main thread share.
pub(crate) struct Mesh {
    /// `lanes[from * shards + to]`.
    lanes: Vec<Lane>,
    doors: Vec<Door>,
    /// Letters that a lane holds at most.
    capacity: usize,
    stopping: AtomicBool,
    /// The listeners may open.
    open: AtomicBool,
    /// Shards that have nothing left to do for a clean stop, summed over its rounds.
    finished: AtomicUsize,
}

#[derive(Default)]
struct Lane {
    letters: SegQueue<Letter>,
    /// The sender waits for room.
    blocked: AtomicBool,
}

struct Door {
    /// What threads without a lane have left here. Its bound is theirs: each pool has one on what it works at.
    errands: SegQueue<Errand>,
    /// The shard sleeps in its ring, or is about to.
    parked: AtomicBool,
    /// The descriptor of its ring, or -1.
    ring: AtomicI32,
    /// Wakes it from threads that have no ring, and where MSG_RING fails.
    bell: OwnedFd,
}

impl Mesh {
    /// A mesh for `shards` shards whose lanes hold `capacity` letters.
    ///
    /// # Errors
    /// Without descriptors for the eventfds.
    pub(crate) fn new(shards: usize, capacity: usize) -> std::io::Result<Arc<Self>> {
        let door = || {
            let bell = ring::eventfd()?;
            let (parked, ring) = (AtomicBool::new(false), AtomicI32::new(-1));
            Ok(Door { errands: SegQueue::new(), parked, ring, bell })
        };
        Ok(Arc::new(Self {
            lanes: (0..shards * shards).map(|_| Lane::default()).collect(),
            doors: (0..shards).map(|_| door()).collect::<std::io::Result<_>>()?,
            capacity,
            stopping: AtomicBool::new(false),
            open: AtomicBool::new(false),
            finished: AtomicUsize::new(0),
        }))
    }

    /// Number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.doors.len()
    }

    /// Asks every shard for a clean stop.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.ring_all();
    }

    /// Whether a clean stop was asked for.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Lets every shard open its listeners.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.ring_all();
    }

    /// Whether the listeners may open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    /// Notes that one more shard is done with a round of the clean stop; the last one wakes the others.
    pub(crate) fn finish(&self) {
        if (self.finished.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(self.shards()) {
            self.ring_all();
        }
    }

    /// Whether all shards are done with so many rounds. Nobody begins a round before all are done with the one before.
    pub(crate) fn all_finished(&self, rounds: usize) -> bool {
        self.finished.load(Ordering::SeqCst) >= rounds * self.shards()
    }

    /// Leaves an errand at the door of `shard`, from any thread, and wakes it where it sleeps.
    pub(crate) fn deliver(&self, shard: usize, errand: Errand) {
        let door = &self.doors[shard];
        door.errands.push(errand);
        fence(Ordering::SeqCst); // The errand is seen before the door is looked at.
        if door.parked.load(Ordering::Relaxed) && door.parked.swap(false, Ordering::SeqCst) {
            ring::signal(&door.bell);
        }
    }

    fn ring_all(&self) {
        for door in &self.doors {
            ring::signal(&door.bell);
        }
    }

    fn lane(&self, from: usize, to: usize) -> &Lane {
        &self.lanes[from * self.shards() + to]
    }
}

/// One shard's place in the mesh.
pub(crate) struct Port {
    mesh: Arc<Mesh>,
    shard: usize,
    /// Peers that got a letter since the last [`Port::wake_peers`].
    addressed: Vec<bool>,
}

impl Port {
    /// The place of `shard`.
    pub(crate) fn new(mesh: Arc<Mesh>, shard: usize) -> Self {
        let addressed = vec![false; mesh.shards()];
        Self { mesh, shard, addressed }
    }

    /// What all shards share.
    pub(crate) fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// The eventfd that others ring.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.mesh.doors[self.shard].bell.as_fd()
    }

    /// The other shards.
    pub(crate) fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.shard;
        (0..self.mesh.shards()).filter(move |&peer| peer != own)
    }

    /// Says where this shard sleeps: the descriptor of its ring, or -1 when it is gone.
    pub(crate) fn publish_ring(&self, ring: RawFd) {
        self.mesh.doors[self.shard].ring.store(ring, Ordering::SeqCst);
    }

    /// How many letters the lane to `peer` takes now. With none left, the peer will wake this
    /// shard once it has taken some.
    pub(crate) fn room(&self, peer: usize) -> usize {
        let lane = self.mesh.lane(self.shard, peer);
        let room = self.mesh.capacity.saturating_sub(lane.letters.len());
        if room > 0 {
            return room;
        }
        lane.blocked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // The peer may have emptied the lane before it could see the flag.
        self.mesh.capacity.saturating_sub(lane.letters.len())
    }

    /// Puts a letter into the lane to `peer`, which must have room.
    pub(crate) fn post(&mut self, peer: usize, letter: Letter) {
        self.mesh.lane(self.shard, peer).letters.push(letter);
        self.addressed[peer] = true;
    }

    /// Takes a letter from the lane of `peer`.
    pub(crate) fn take(&self, peer: usize) -> Option<Letter> {
        self.mesh.lane(peer, self.shard).letters.pop()
    }

    /// Takes an errand that was left at the door.
    pub(crate) fn take_errand(&self) -> Option<Errand> {
        self.mesh.doors[self.shard].errands.pop()
    }

    /// Letters of all peers that were not taken yet.
    pub(crate) fn letters_waiting(&self) -> usize {
        self.peers().map(|peer| self.mesh.lane(peer, self.shard).letters.len()).sum()
    }

    /// Errands that were not taken yet.
    pub(crate) fn errands_waiting(&self) -> usize {
        self.mesh.doors[self.shard].errands.len()
    }

    /// Called after taking letters of `peer`: wakes it where it waited for room.
    pub(crate) fn made_room(&mut self, peer: usize) {
        let lane = self.mesh.lane(peer, self.shard);
        fence(Ordering::SeqCst);
        if lane.blocked.load(Ordering::Relaxed) && lane.blocked.swap(false, Ordering::SeqCst) {
            self.addressed[peer] = true;
        }
    }

    /// Wakes those peers that sleep and got something.
    pub(crate) fn wake_peers(&mut self, ring: &mut Ring) {
        fence(Ordering::SeqCst); // What was posted is seen before the door is looked at.
        for peer in 0..self.addressed.len() {
            let door = &self.mesh.doors[peer];
            if std::mem::take(&mut self.addressed[peer])
                && door.parked.load(Ordering::Relaxed)
                && door.parked.swap(false, Ordering::SeqCst)
            {
                match door.ring.load(Ordering::SeqCst) {
                    -1 => ring::signal(&door.bell),
                    descriptor => ring.wake(descriptor, peer as u32),
                }
            }
        }
    }

    /// Wakes `peer` the slow way, where its ring could not be told.
    pub(crate) fn ring_bell(&self, peer: usize) {
        ring::signal(&self.mesh.doors[peer].bell);
    }

    /// Says that this shard is about to sleep. False: a letter or an errand has arrived meanwhile, do not.
    pub(crate) fn park(&self) -> bool {
        let Door { parked, errands, .. } = &self.mesh.doors[self.shard];
        parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let has_letter = |peer| !self.mesh.lane(peer, self.shard).letters.is_empty();
        let quiet = errands.is_empty() && !self.peers().any(has_letter);
        if !quiet {
            parked.store(false, Ordering::SeqCst);
        }
        quiet
    }

    /// Says that this shard is awake.
    pub(crate) fn unpark(&self) {
        self.mesh.doors[self.shard].parked.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use super::super::ring::{Completion, Wait};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn letter() -> Letter {
        Letter::Message(PeerMessage::ReadyToStop)
    }

    fn ports(capacity: usize) -> (Port, Port) {
        let mesh = Mesh::new(2, capacity).unwrap();
        (Port::new(Arc::clone(&mesh), 0), Port::new(mesh, 1))
    }

    #[test]
    fn a_lane_has_room_for_its_capacity_and_then_none() {
        let (mut left, right) = ports(3);
        for room in [3, 2, 1] {
            assert_eq!(left.room(1), room);
            left.post(1, letter());
        }
        assert_eq!(left.room(1), 0);
        assert!(right.take(0).is_some());
        assert_eq!(left.room(1), 1);
        assert_eq!(right.room(0), 3, "the lane back is another one");
    }

    #[test]
    fn nobody_sleeps_before_an_unread_letter() {
        let (mut left, right) = ports(3);
        assert!(right.park());
        right.unpark();
        left.post(1, letter());
        assert!(!right.park());
        assert!(right.take(0).is_some());
        assert!(right.park());
    }

    #[test]
    fn a_sleeper_is_woken_once_and_one_that_is_awake_never() {
        let (mut left, right) = ports(3);
        let mut ring = Ring::new(2).unwrap();
        let mut wakes = |left: &mut Port| {
            left.post(1, letter());
            left.wake_peers(&mut ring);
            // The sleeper has no ring in this test, so it is its bell that rings.
            rustix::io::read(right.bell(), &mut [0; 8]).is_ok()
        };
        assert!(!wakes(&mut left));
        while right.take(0).is_some() {}
        assert!(right.park());
        assert!(wakes(&mut left));
        assert!(!wakes(&mut left));
    }

    #[test]
    fn an_errand_wakes_a_sleeper_and_keeps_others_awake() {
        let mesh = Mesh::new(1, 3).unwrap();
        let port = Port::new(Arc::clone(&mesh), 0);
        let errand = || Errand::Rights(Arc::new(crate::security::Rights::default()));
        let was_rung = || rustix::io::read(port.bell(), &mut [0; 8]).is_ok();
        mesh.deliver(0, errand());
        assert!(!was_rung(), "it is awake");
        assert!(!port.park());
        assert!(port.take_errand().is_some() && port.take_errand().is_none());
        assert!(port.park());
        mesh.deliver(0, errand());
        mesh.deliver(0, errand());
        assert!(was_rung());
    }

    #[test]
    fn two_shards_that_overfill_their_lanes_lose_nothing_and_never_sleep_for_good() {
        const LETTERS: usize = 20_000;
        let (left, right) = ports(8);
        let run = |mut port: Port, peer: usize| {
            let mut ring = Ring::new(2).unwrap();
            port.publish_ring(ring.as_raw_fd());
            let (mut sent, mut received, mut waits) = (0, 0, 0);
            ring.watch(port.bell());
            while sent < LETTERS || received < LETTERS {
                while let Some(completion) = ring.next_completion() {
                    match completion {
                        Completion::Woken { .. } => ring::reset(port.bell()),
                        Completion::WakeFailed { peer } => port.ring_bell(peer as usize),
                        other => panic!("{other:?}"),
                    }
                }
                let before = received;
                while port.take(peer).is_some() {
                    received += 1;
                }
                if received > before {
                    port.made_room(peer);
                }
                for _ in 0..port.room(peer).min(LETTERS - sent) {
                    port.post(peer, letter());
                    sent += 1;
                }
                port.wake_peers(&mut ring);
                let can_sleep = port.park() && !(sent < LETTERS && port.room(peer) > 0);
                if can_sleep && (sent < LETTERS || received < LETTERS) {
                    waits += 1;
                    let start = std::time::Instant::now();
                    ring.enter(Wait::AtMost(PATIENCE)).unwrap();
                    assert!(start.elapsed() < PATIENCE, "slept for good: {sent} sent, {received} received");
                }
                port.unpark();
            }
            ring.enter(Wait::No).unwrap();
            std::thread::sleep(Duration::from_millis(100)); // The peer may still wake this ring.
            waits
        };
        let other = std::thread::spawn(move || run(right, 0));
        run(left, 1);
        other.join().unwrap();
    }
}
