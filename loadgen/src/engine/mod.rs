//! The engine: many MQTT clients in one thread, over epoll.
//!
//! A [`Fleet`] owns the sockets and speaks the protocol: handshakes, acknowledgements, Keep Alive. A [`Driver`] decides
//! what the clients do and hears of everything that happens. Time is read once for each piece of input.
//!
//! It is epoll and not io_uring because a generator has to run where the operator is: containers forbid io_uring more
//! often than not. The cost is one `read` and one `write` for each batch of packets on a connection, and nothing else.

mod bind_option;
mod flow;
mod layered;
mod limits;
mod link;
mod packets;
mod socket;
mod sources;
mod time;
mod transport;

pub use flow::Unfinished;
pub use limits::{allow_descriptors, check_ports, raise_descriptors};
pub use link::Stage;
pub use packets::{Event, Message};
pub(crate) use socket::{connect as begin_to_connect, reset_on_close};
pub use sources::Sources;
pub use time::{Clock, Time};
pub use transport::{Broken, Layers, TlsSettings, Transport, TransportKind};

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::epoll;
use rustix::io::Errno;
use willowmq::codec::{Connect, Packet, ReasonCode, encode};

use link::Link;

/// Bytes that one `read` can take.
const INPUT_BYTES: usize = 256 << 10;
/// Events that one `epoll_wait` can give.
const EVENTS: usize = 1024;
/// A client with more output than this waits for the broker to take it.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Output buffers above this size are given back to the allocator instead of the pool.
const POOLED_BYTES_MAX: usize = 64 << 10;
/// How often it is looked whose Keep Alive needs a PINGREQ.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// Which client of the [`Fleet`].
pub type Index = usize;

/// Decides what the clients of a [`Fleet`] do.
pub trait Driver {
    /// Hears what happened to `client`, `at` that moment.
    fn on_event(&mut self, fleet: &mut Fleet, client: Index, at: Time, event: Event<'_>);

    /// Does what is due, and says when to be asked again at the latest.
    fn on_time(&mut self, fleet: &mut Fleet, now: Time) -> Time;
}

/// How a connection is ended by its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// DISCONNECT, then close: the will is discarded. [MQTT-3.1.2-10]
    Disconnect,
    /// An orderly close of TCP without DISCONNECT.
    Close,
    /// A reset of TCP.
    Reset,
}

/// Where the clients connect to, and from where.
#[derive(Clone, Debug)]
pub struct Route {
    /// The broker.
    pub target: SocketAddr,
    /// The addresses that the clients take turns with; the kernel chooses where there are none.
    pub sources: Option<Sources>,
    /// What lies between TCP and MQTT.
    pub transport: Transport,
}

/// How many TLS handshakes came to their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// From nothing: with a key exchange and a signature.
    pub full: u64,
    /// By a session of before.
    pub resumed: u64,
}

/// Many clients of one broker.
pub struct Fleet {
    route: Route,
    clock: Clock,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    links: Vec<Link>,
    dirty: Vec<Index>,
    input: Box<[u8]>,
    /// What came out of a connection's layers, while it is handed over.
    unwrapped: Vec<u8>,
    /// How many TLS handshakes came to their end.
    handshakes: Handshakes,
    pool: Vec<Vec<u8>>,
    next_keep_alive: Time,
    is_interrupted: Arc<AtomicBool>,
    /// Whether Ctrl-C ends [`Fleet::run`].
    heeds_interrupt: bool,
    /// Why the run cannot go on: the machine opens no connection, or the broker does not take what is to be sent.
    /// Everything else ends as an event of one client.
    fault: Option<anyhow::Error>,
}

impl Fleet {
    /// A fleet of `clients` without connections.
    ///
    /// # Errors
    ///
    /// When the machine's limits do not allow that many.
    pub fn new(clients: usize, route: Route, clock: Clock) -> Result<Self> {
        allow_descriptors(clients)?;
        check_ports(clients, route.sources.as_ref())?;
        if let Some(sources) = route.sources
            && !sources.goes_with(route.target.ip())
        {
            bail!("--source and the broker's address {} are not of one family, IPv4 or IPv6", route.target);
        }
        // Wakes at the nanosecond that was asked for: the default is 50 µs late, which would count as latency.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1));
        let is_interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second one ends the process.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&is_interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&is_interrupted))?;
        }
        Ok(Self {
            route,
            clock,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?,
            events: Vec::with_capacity(EVENTS),
            links: (0..clients).map(|_| Link::new()).collect(),
            dirty: Vec::new(),
            input: vec![0; INPUT_BYTES].into(),
            unwrapped: Vec::new(),
            handshakes: Handshakes::default(),
            pool: Vec::new(),
            next_keep_alive: clock.now() + KEEP_ALIVE_INTERVAL,
            is_interrupted,
            heeds_interrupt: true,
            fault: None,
        })
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// How many TLS handshakes came to their end so far; `None` without TLS.
    pub fn handshakes(&self) -> Option<Handshakes> {
        self.route.transport.has_tls().then_some(self.handshakes)
    }

    /// Whether the broker is reached by loopback.
    pub fn is_local(&self) -> bool {
        self.route.target.ip().is_loopback()
    }

    /// What `client` is doing.
    pub fn stage(&self, client: Index) -> Stage {
        self.links[client].stage
    }

    /// Whether Ctrl-C was pressed, or SIGTERM came; a second one ends the process.
    pub fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::Relaxed)
    }

    /// Leaves Ctrl-C to the driver, which asks for it with [`Fleet::is_interrupted`].
    pub fn ignore_interrupt(&mut self) {
        self.heeds_interrupt = false;
    }

    /// Begins to connect `client`, which has no connection.
    pub fn open(&mut self, client: Index, connect: &Connect<'_>) {
        let now = self.clock.now();
        let source = self.route.sources.map(|sources| sources.of(client));
        match self.route.transport.layers() {
            Ok(layers) => self.links[client].layers = layers,
            Err(error) => {
                self.fault = Some(error);
                return;
            }
        }
        match socket::connect(self.route.target, source) {
            Ok(socket) => self.on_opening(client, socket, connect, now),
            Err(error) => self.fault = Some(anyhow!(self.explain(&error))),
        }
    }

    fn on_opening(&mut self, client: Index, socket: socket2::Socket, connect: &Connect<'_>, now: Time) {
        let link = &mut self.links[client];
        debug_assert_eq!(link.stage, Stage::Closed, "one connection at a time");
        link.generation = link.generation.wrapping_add(1);
        let data = epoll::EventData::new_u64(u64::from(link.generation) << 32 | client as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(&self.epoll, &socket, data, flags) {
            self.fault = Some(anyhow!("epoll: {error}"));
            return;
        }
        link.socket = Some(socket);
        link.stage = Stage::Opening;
        link.version = connect.version;
        link.keep_alive = Duration::from_secs(connect.keep_alive.into());
        link.opened = now;
        link.last_sent = now;
        link.is_blocked = true; // Until the kernel says that it is connected.
        link.output = self.pool.pop().unwrap_or_default();
        connect.encode(&mut link.output);
        if connect.clean_start {
            link.incoming.reset();
        }
        self.mark_dirty(client);
    }

    /// Ends the connection of `client`, if it has one.
    pub fn close(&mut self, client: Index, end: End) {
        // A client may send before its CONNACK has come. (§3.1.4)
        let stage = self.links[client].stage;
        if end == End::Disconnect && matches!(stage, Stage::AwaitConnack | Stage::Online | Stage::Silent) {
            let link = &mut self.links[client];
            let disconnect = willowmq::codec::Disconnect::new(ReasonCode::Success);
            encode(&Packet::Disconnect(disconnect), link.version, &mut link.output);
            if let Some(layers) = &mut link.layers {
                layers.wrap(&mut link.output);
                layers.close();
            }
            self.flush_one(client);
        }
        if let (End::Reset, Some(socket)) = (end, &self.links[client].socket) {
            let _ = socket::reset_on_close(socket); // Fails only where the connection is gone already.
        }
        self.drop_socket(client);
    }

    /// Ends every connection with DISCONNECT, so that no will is published.
    pub fn part(&mut self) {
        (0..self.links.len()).for_each(|client| self.close(client, End::Disconnect));
    }

    /// Lets `client` fall silent without closing.
    pub fn mute(&mut self, client: Index) {
        let link = &mut self.links[client];
        if link.stage == Stage::Online {
            link.stage = Stage::Silent;
        }
    }

    /// The Keep Alive in force for `client`.
    pub fn keep_alive(&self, client: Index) -> Duration {
        self.links[client].keep_alive
    }

    /// When `client` last sent anything.
    pub fn last_sent(&self, client: Index) -> Time {
        self.links[client].last_sent
    }

    /// Runs until `done` says so, or `deadline`; tells whether it was done.
    ///
    /// # Errors
    ///
    /// When the machine could not carry on, or the person at the terminal did not want to.
    pub fn run<D: Driver>(&mut self, driver: &mut D, deadline: Time, done: impl Fn(&D) -> bool) -> Result<bool> {
        loop {
            let now = self.clock.now();
            let next = driver.on_time(self, now);
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if done(driver) {
                self.flush();
                return Ok(true);
            }
            if now >= deadline {
                self.flush();
                return Ok(false);
            }
            if self.heeds_interrupt && self.is_interrupted() {
                bail!("interrupted");
            }
            self.turn(next.min(deadline), driver)?;
        }
    }

    /// Waits for input until `until`, and hands over what came.
    fn turn<D: Driver>(&mut self, until: Time, driver: &mut D) -> Result<()> {
        self.flush();
        let timeout = until.min(self.next_keep_alive) - self.clock.now();
        let timeout = rustix::time::Timespec::try_from(timeout).context("a time-out")?;
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => bail!("epoll: {error}"),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            self.on_ready(event.data.u64(), event.flags, driver);
        }
        self.events = events;
        self.send_pings();
        Ok(())
    }

    fn on_ready<D: Driver>(&mut self, data: u64, flags: epoll::EventFlags, driver: &mut D) {
        let client = data as u32 as Index;
        if self.links[client].generation != (data >> 32) as u32 || self.links[client].socket.is_none() {
            return; // The connection ended earlier in this turn.
        }
        if flags.contains(epoll::EventFlags::OUT) && self.links[client].is_blocked {
            self.on_writable(client);
        }
        let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if flags.intersects(epoll::EventFlags::IN | ended) {
            self.read(client, flags.intersects(ended), driver);
        }
    }

    fn on_writable(&mut self, client: Index) {
        let link = &mut self.links[client];
        if link.stage == Stage::Opening {
            link.stage = Stage::AwaitConnack; // If it failed, reading tells.
        }
        link.is_blocked = false;
        self.mark_dirty(client);
    }

    /// Reads all there is; up to the end, if the connection `is_ended`.
    fn read<D: Driver>(&mut self, client: Index, is_ended: bool, driver: &mut D) {
        let generation = self.links[client].generation;
        let mut input = std::mem::take(&mut self.input);
        while self.links[client].generation == generation
            && let Some(socket) = &self.links[client].socket
        {
            match rustix::io::read(socket, &mut input[..]) {
                Ok(0) => self.on_ended(client, None, driver),
                Ok(count) => {
                    self.on_input(client, self.clock.now(), &input[..count], driver);
                    if count < INPUT_BYTES && !is_ended {
                        break; // Drained: what comes from now on is another edge.
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => self.on_ended(client, Some(error.into()), driver),
            }
        }
        self.input = input;
    }

    fn on_ended<D: Driver>(&mut self, client: Index, error: Option<io::Error>, driver: &mut D) {
        let missing = self.links[client].layers.as_ref().and_then(|layers| layers.missing());
        self.drop_socket(client);
        let mut cause = error.map_or_else(|| "closed by the broker".into(), |error| self.explain(&error));
        if let Some(missing) = missing {
            cause = format!("{cause} {missing}");
        }
        driver.on_event(self, client, self.clock.now(), Event::Closed { cause: &cause, is_violation: false });
    }

    fn explain(&self, error: &io::Error) -> String {
        socket::explain(error, self.route.target, self.route.sources.is_some())
    }

    fn drop_socket(&mut self, client: Index) {
        let link = &mut self.links[client];
        link.socket = None;
        link.stage = Stage::Closed;
        link.written = 0;
        link.is_blocked = false;
        link.partial = Vec::new();
        link.layers = None;
        let output = std::mem::take(&mut link.output);
        self.recycle(output);
    }

    /// Has `client` looked after at the end of the turn.
    fn mark_dirty(&mut self, client: Index) {
        let link = &mut self.links[client];
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(client);
        }
    }

    /// The buffer that `client` writes to, and its version.
    fn output(&mut self, client: Index) -> &mut Link {
        if self.links[client].output.capacity() == 0 {
            self.links[client].output = self.pool.pop().unwrap_or_default();
        }
        self.mark_dirty(client);
        &mut self.links[client]
    }

    /// Writes what the clients have to say, with one call each.
    fn flush(&mut self) {
        for position in 0..self.dirty.len() {
            let client = self.dirty[position];
            self.links[client].is_dirty = false;
            self.flush_one(client);
        }
        self.dirty.clear();
    }

    fn flush_one(&mut self, client: Index) {
        if self.links[client].layers.is_some() {
            return self.flush_layers(client);
        }
        let link = &mut self.links[client];
        let (Some(socket), false) = (&link.socket, link.is_blocked) else { return };
        if link.pending() == 0 {
            return;
        }
        link.last_sent = self.clock.now();
        link.written += write(socket, &link.output[link.written..]);
        link.is_blocked = link.pending() > 0; // The kernel took a part: it says when it wants more.
        if !link.is_blocked {
            link.written = 0;
            let output = std::mem::take(&mut link.output);
            self.recycle(output);
        }
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if (1..=POOLED_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    fn send_pings(&mut self) {
        let now = self.clock.now();
        if now < self.next_keep_alive {
            return;
        }
        self.next_keep_alive = now + KEEP_ALIVE_INTERVAL;
        for client in 0..self.links.len() {
            if self.links[client].needs_ping(now) {
                let link = self.output(client);
                encode(&Packet::Pingreq, link.version, &mut link.output);
            }
        }
    }
}

/// Writes as much of `bytes` as the kernel takes; all of it, so to speak, if the connection has ended.
fn write(socket: &socket2::Socket, bytes: &[u8]) -> usize {
    loop {
        match rustix::io::write(socket, bytes) {
            Ok(count) => return count,
            Err(Errno::AGAIN) => return 0,
            Err(Errno::INTR) => {}
            Err(_) => return bytes.len(), // Reading tells what happened.
        }
    }
}
