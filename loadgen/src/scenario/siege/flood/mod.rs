//! A flood of strangers: a thread of its own, over epoll, so that it does not delay those whose latency is measured.

mod attack;
mod attacker;
mod toll;

pub use attack::{Attack, Mix, Random};
pub use toll::Toll;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::epoll;
use rustix::io::Errno;
use willowmq::codec::ProtocolVersion;

use crate::engine::{Clock, Route, Time, begin_to_connect};
use attacker::{Attacker, Ending, is_ours};

/// How often those who go on say more.
const SEQUEL_INTERVAL: Duration = Duration::from_secs(1);
/// How soon the end of the flood is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How many connections are begun before input is looked at again.
const BEGIN_SLICE: usize = 64;
/// Bytes that one `read` can take.
const INPUT_BYTES: usize = 16 << 10;
/// Events that one `epoll_wait` can give.
const EVENTS: usize = 256;

/// What a flood is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker, and the strangers' addresses.
    pub route: Route,
    /// Connections begun per second.
    pub rate: f64,
    /// Most connections at a time.
    pub open_max: usize,
    /// How long a stranger stays who is not sent away.
    pub hold: Duration,
    /// What they do.
    pub mix: Mix,
    /// The version of the protocol that those speak who speak it.
    pub version: ProtocolVersion,
    /// What the random bytes come from.
    pub seed: u64,
}

/// A flood that goes on until [`Flood::finish`], or until it is dropped.
pub struct Flood {
    is_over: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Toll>>>,
}

impl Flood {
    /// Lets it begin.
    pub fn start(plan: Plan, clock: Clock) -> Self {
        let (is_over, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (flag, count) = (Arc::clone(&is_over), Arc::clone(&begun));
        let thread = std::thread::spawn(move || Swarm::new(plan, clock)?.run(&flag, &count));
        Self { is_over, begun, thread: Some(thread) }
    }

    /// How many connections were begun so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Ends it, and tells what became of the strangers.
    ///
    /// # Errors
    ///
    /// When the machine could not carry on.
    pub fn finish(mut self) -> Result<Toll> {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a flood ends once")?;
        thread.join().map_err(|_| anyhow!("the flood has a mistake of its own"))?.context("the flood")
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // The run has failed for another reason, which is told.
        }
    }
}

/// A place for a connection. The generation tells an event, or a moment, of an earlier one apart.
#[derive(Default)]
struct Place {
    generation: u32,
    attacker: Option<Attacker>,
}

/// Something that is due for a connection.
type Due = (Time, usize, u32);

struct Swarm {
    plan: Plan,
    clock: Clock,
    started: Time,
    epoll: OwnedFd,
    places: Vec<Place>,
    free: Vec<usize>,
    /// When each stranger leaves, in order.
    holds: VecDeque<Due>,
    /// When each of those who go on says more, in order.
    sequels: VecDeque<Due>,
    random: Random,
    /// How many were due so far.
    scheduled: u64,
    buffer: Vec<u8>,
    toll: Toll,
}

impl Swarm {
    fn new(plan: Plan, clock: Clock) -> Result<Self> {
        Ok(Self {
            started: clock.now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?,
            places: (0..plan.open_max).map(|_| Place::default()).collect(),
            free: (0..plan.open_max).rev().collect(),
            holds: VecDeque::new(),
            sequels: VecDeque::new(),
            random: Random(plan.seed),
            scheduled: 0,
            buffer: vec![0; INPUT_BYTES],
            toll: Toll::default(),
            plan,
            clock,
        })
    }

    fn run(mut self, is_over: &AtomicBool, begun: &AtomicU64) -> Result<Toll> {
        let mut events = Vec::with_capacity(EVENTS);
        while !is_over.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let next = self.begin_due(now)?.min(self.leave_due(now)).min(self.go_on_due(now));
            begun.store(self.toll.begun(), Ordering::Relaxed);
            let timeout = (next - self.clock.now()).min(LOOK_INTERVAL);
            let timeout = rustix::time::Timespec::try_from(timeout).context("a time-out")?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => bail!("epoll: {error}"),
            }
            events.iter().for_each(|event| self.on_ready(event.data.u64(), event.flags));
        }
        for place in 0..self.places.len() {
            self.end(place, Ending::Left);
        }
        Ok(self.toll)
    }

    /// Begins the connections that are due; says when the next one is.
    fn begin_due(&mut self, now: Time) -> Result<Time> {
        for _ in 0..BEGIN_SLICE {
            let due = self.started + Duration::from_secs_f64(self.scheduled as f64 / self.plan.rate);
            if due > now {
                return Ok(due);
            }
            self.scheduled += 1;
            match self.free.pop() {
                Some(place) => self.begin(place, now)?,
                None => self.toll.skipped += 1,
            }
        }
        Ok(now)
    }

    fn begin(&mut self, place: usize, now: Time) -> Result<()> {
        let attack = self.plan.mix.draw(&mut self.random);
        let number = self.scheduled;
        // Drawn and not in turn: an address does not always do the same.
        let source = self.plan.route.sources.map(|sources| sources.of(self.random.below(sources.count() as usize)));
        let socket = match begin_to_connect(self.plan.route.target, source) {
            Ok(socket) => socket,
            Err(error) => {
                self.free.push(place);
                match is_ours(&error) {
                    true => self.toll.not_begun.add(|| format!("{source:?}: {error}")),
                    false => self.toll.refuse(attack), // The broker's machine says so at once.
                }
                return Ok(());
            }
        };
        let layers = if attack.has_layers() { self.plan.route.transport.layers()? } else { None };
        let opening = attack.opening(number, self.plan.version, &mut self.random);
        let generation = self.places[place].generation.wrapping_add(1);
        let data = epoll::EventData::new_u64(u64::from(generation) << 32 | place as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, data, flags).context("epoll")?;
        self.toll.begin(attack);
        self.places[place] = Place { generation, attacker: Some(Attacker::new(attack, socket, layers, opening)) };
        self.holds.push_back((now + self.plan.hold, place, generation));
        if attack.goes_on() {
            self.sequels.push_back((now + SEQUEL_INTERVAL, place, generation));
        }
        Ok(())
    }

    fn on_ready(&mut self, data: u64, flags: epoll::EventFlags) {
        let place = data as u32 as usize;
        let Some(attacker) = self.attacker(place, (data >> 32) as u32) else { return };
        let mut ending = None;
        if flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR) {
            ending = attacker.on_writable();
        }
        let readable =
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if ending.is_none() && flags.intersects(readable) {
            let mut buffer = std::mem::take(&mut self.buffer);
            ending = self.places[place].attacker.as_mut().and_then(|attacker| attacker.on_readable(&mut buffer));
            self.buffer = buffer;
        }
        if let Some(ending) = ending {
            self.end(place, ending);
        }
    }

    fn attacker(&mut self, place: usize, generation: u32) -> Option<&mut Attacker> {
        let place = &mut self.places[place];
        place.attacker.as_mut().filter(|_| place.generation == generation)
    }

    /// Ends the connection at `place`, if there is one.
    fn end(&mut self, place: usize, ending: Ending) {
        let Some(attacker) = self.places[place].attacker.take() else { return };
        self.toll.end(&attacker, ending);
        attacker.leave(self.random.below(2) == 0);
        self.free.push(place);
    }

    /// Lets those leave whose time is over; says when the next one's is.
    fn leave_due(&mut self, now: Time) -> Time {
        while let Some((due, place, generation)) = self.holds.front().copied() {
            if due > now {
                return due;
            }
            self.holds.pop_front();
            if self.attacker(place, generation).is_some() {
                self.end(place, Ending::Left);
            }
        }
        Time::NEVER
    }

    /// Lets those say more whose turn it is; says when the next one's is.
    fn go_on_due(&mut self, now: Time) -> Time {
        while let Some((due, place, generation)) = self.sequels.front().copied() {
            if due > now {
                return due;
            }
            self.sequels.pop_front();
            let mut random = self.random;
            if let Some(attacker) = self.attacker(place, generation) {
                attacker.go_on(&mut random);
                self.sequels.push_back((now + SEQUEL_INTERVAL, place, generation));
            }
            self.random = random;
        }
        Time::NEVER
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;
    use crate::engine::Transport;
    use crate::report::Report;

    fn told(toll: &Toll, name: &str) -> f64 {
        let mut report = Report::new("siege", String::new());
        toll.tell(&mut report);
        report.figures.iter().find(|figure| figure.name == name).unwrap().value
    }

    /// What becomes of strangers at `listener`, or where it was.
    fn flood(listener: TcpListener, is_open: bool) -> Toll {
        let target = listener.local_addr().unwrap();
        let listener = is_open.then_some(listener);
        let sources = Some("127.0.1.1-127.0.1.3".parse().unwrap());
        let plan = Plan {
            route: Route { target, sources, transport: Transport::default() },
            rate: 1000.0,
            open_max: 100,
            hold: Duration::from_secs(60),
            mix: "garbage,half-open,drip,password".parse().unwrap(),
            version: ProtocolVersion::V5,
            seed: 1,
        };
        let flood = Flood::start(plan, Clock::start());
        let begin = Instant::now();
        while flood.begun() < 20 {
            assert!(begin.elapsed() < Duration::from_secs(30), "there is no flood");
            std::thread::yield_now();
        }
        let toll = flood.finish().unwrap();
        drop(listener);
        toll
    }

    #[test]
    fn strangers_at_a_closed_port_are_refused() {
        let toll = flood(TcpListener::bind("127.0.0.1:0").unwrap(), false);
        assert!(toll.not_begun.count == 0 && toll.begun() >= 20, "{toll:?}");
        // Those of the last moment have not been told when the flood ends.
        assert_eq!(told(&toll, "attacks"), told(&toll, "attacks_refused") + told(&toll, "attacks_left"));
        assert!(told(&toll, "attacks_refused") > 0.0);
    }

    #[test]
    fn strangers_whom_nobody_sends_away_stay() {
        let toll = flood(TcpListener::bind("127.0.0.1:0").unwrap(), true);
        assert_eq!(told(&toll, "attacks"), told(&toll, "attacks_left"));
        assert_eq!(told(&toll, "attacks_answered"), 0.0);
    }
}
